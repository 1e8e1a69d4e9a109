//! The process around the server: in the background, with a file that names it, as another user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};

use crate::harness::program::Finished;
use crate::harness::server::app_path;
use crate::harness::{
    Address, Client, Program, ROOT, Response, Scratch, Server, each, process, serve, virtual_environment, wait_for,
    wait_until,
};

// In the background.

/// A server that has left the process which started it. Dropped, it is killed.
struct Daemon {
    scratch: Scratch,
    master: Pid,
}

impl Daemon {
    /// Starts it with the app, and checks that the command succeeds.
    #[track_caller]
    fn start(app: &str, options: &[&str]) -> (Daemon, Finished) {
        let scratch = Scratch::new();
        let (bind, pid) = (format!("unix:{}", scratch.text("socket")), scratch.text("pid"));
        let app = app_path(app);
        let arguments = [&["--daemon", "--bind", &bind, "--pid", &pid], options, &[&app]].concat();
        // The harness gives no standard input, which would not show whether the server lets go of it.
        let finished = Program::under(&["sh", "-c", "exec \"$@\" </dev/zero", "sh"], &arguments).run();
        let master = read_pid(&scratch.path("pid")).unwrap_or_else(|| panic!("no pid file: {}", finished.stderr));
        (Daemon { scratch, master }, finished.expect_status(0))
    }

    fn get(&self, target: &str) -> Response {
        Client::connect(&Address::Unix(self.scratch.path("socket"))).get(target)
    }

    fn stop(&self) {
        process::signal(self.master, Signal::SIGTERM);
        wait_until("the end of the server", || !process::is_running(self.master));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if process::is_running(self.master) {
            process::signal(self.master, Signal::SIGKILL);
        }
    }
}

fn read_pid(path: &Path) -> Option<Pid> {
    fs::read_to_string(path).ok()?.trim().parse().ok().map(Pid::from_raw)
}

/// That the command ends, and all its output with it, shows that the server has let go of the terminal.
#[test]
fn the_command_returns_when_the_server_serves() {
    let (daemon, finished) = Daemon::start("crash", &["--workers", "2"]);
    assert_eq!(daemon.get("/").status, 200);
    assert!(finished.stderr.contains("the error log will go nowhere"), "{}", finished.stderr);
    assert!(finished.stderr.contains("listening on unix:"), "{}", finished.stderr);
    daemon.stop();
    assert!(!daemon.scratch.path("pid").exists() && !daemon.scratch.path("socket").exists());
}

/// The template has been there before the server has served.
#[test]
fn the_command_returns_when_a_server_with_a_template_serves() {
    let (daemon, _) = Daemon::start("crash", &["--preload", "--workers", "2"]);
    assert_eq!(daemon.get("/").status, 200);
    daemon.stop();
}

/// To have no workers is not to stop: the new master may have been no good, and another one is wanted.
#[test]
fn a_server_without_workers_is_upgraded() {
    let (daemon, _) = Daemon::start("crash", &[]);
    process::signal(daemon.master, Signal::SIGWINCH);
    wait_until("the workers to leave", || process::children(daemon.master).is_empty());
    process::signal(daemon.master, Signal::SIGUSR2);
    let master = wait_for("a new master", || read_pid(&daemon.scratch.path("pid.2")));
    let new = Daemon { scratch: Scratch::new(), master };
    assert_eq!(daemon.get("/").status, 200);
    daemon.stop();
    wait_until("its pid file", || read_pid(&daemon.scratch.path("pid")) == Some(new.master));
    new.stop();
}

#[test]
fn a_server_in_the_background_has_no_terminal_and_its_folder() {
    let (daemon, _) = Daemon::start("crash", &["--workers", "2"]);
    let session = getsid(Some(daemon.master)).expect("it runs");
    assert_ne!(session, getsid(None).expect("ours"));
    assert_ne!(session, daemon.master, "the leader of a session can get a terminal");
    let workers = wait_for("the workers", || Some(process::children(daemon.master)).filter(|found| found.len() == 2));
    for pid in workers.into_iter().chain([daemon.master]) {
        for stream in 0..3 {
            let target = || fs::read_link(format!("/proc/{pid}/fd/{stream}")).expect("it is ours");
            // Each worker lets go when it is ready.
            wait_until("the stream to be let go of", || target() == Path::new("/dev/null"));
        }
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("it is ours"), Path::new(ROOT));
    }
}

#[test]
fn a_server_in_the_background_logs_to_its_files() {
    let logs = Scratch::new();
    let options = ["--error-logfile", &logs.text("error"), "--access-logfile", &logs.text("access")];
    let (daemon, finished) = Daemon::start("crash", &options);
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", ""));
    daemon.get("/of-the-background");
    daemon.stop();
    let error_log = fs::read_to_string(logs.path("error")).expect("the error log");
    assert!(error_log.contains(&format!("master pid={} minicorn", daemon.master)), "{error_log}");
    assert!(fs::read_to_string(logs.path("access")).expect("the access log").contains("/of-the-background"));
}

/// The command fails as the server would in front, and says why.
#[test]
fn the_command_fails_as_the_server_does() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its number").to_string();
    let free = "127.0.0.1:0";
    let cases = [
        ("hello", taken.as_str(), 1, "in use"),
        ("kills_master", free, 1, ""),
        ("crash_at_import", free, 3, "exited with status 9"),
        ("missing_import", free, 4, "ModuleNotFoundError"),
        ("hello:nothing", free, 4, "nothing"),
    ];
    each(
        &cases,
        |(app, ..)| (*app).to_owned(),
        |&(app, bind, status, text)| {
            let finished = Program::new(&["--daemon", "--bind", bind, &app_path(app)]).run();
            finished.expect_status(status).expect_stderr(&[text]);
        },
    );
    Program::new(&["--daemon", "--user", "no-such-user", "app"]).run().expect_status(2);
}

/// Asked to stop before it serves, it stops in order; but who has started it waits for a server.
#[test]
fn a_server_that_never_serves_is_a_failure() {
    let scratch = Scratch::new();
    let (pid, app) = (scratch.text("pid"), app_path("hangs_at_import"));
    let running = Program::new(&["--daemon", "--bind", "127.0.0.1:0", "--pid", &pid, &app]).spawn();
    let master = wait_for("the server", || read_pid(&scratch.path("pid")));
    let _daemon = Daemon { scratch, master };
    wait_until("a worker", || !process::children(master).is_empty());
    // Again and again: the second one ends the wait for the worker, unless it comes so early that it counts as an echo.
    wait_until("the end of the server", || {
        let _ = kill(master, Signal::SIGTERM);
        !process::is_running(master)
    });
    running.wait().expect_status(1);
}

// The file with the process id.

#[test]
fn the_pid_file_is_there_while_the_server_is() {
    let scratch = Scratch::new();
    let pid = scratch.text("pid");
    let server = serve("reads_pid_file", &["--pid", &pid, "--env", &format!("PID_FILE={pid}")]);
    // At the import of the first worker already.
    server.get("/").expect(200, &format!("{0}\n{0}\n", server.master));
    let metadata = fs::metadata(scratch.path("pid")).expect("the file");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o644);
    server.stop().expect_status(0);
    assert!(!scratch.path("pid").exists());
}

#[test]
fn a_pid_file_of_a_running_process_is_respected() {
    let scratch = Scratch::new();
    let server = serve("hello", &["--pid", &scratch.text("pid")]);
    let second = Program::new(&["--bind", "127.0.0.1:0", "--pid", &scratch.text("pid"), &app_path("hello")]).run();
    let sentence =
        format!("--pid {}: minicorn or another process with pid {} is running", scratch.text("pid"), server.master);
    second.expect_status(1).expect_stderr(&[&sentence]);
    assert_eq!(read_pid(&scratch.path("pid")), Some(server.master), "the second server has taken the file");
    server.stop().expect_status(0);
}

/// A server that was killed leaves it behind.
#[test]
fn a_stale_pid_file_is_replaced() {
    let scratch = Scratch::new();
    let killed = serve("hello", &["--pid", &scratch.text("pid")]);
    killed.signal(Signal::SIGKILL);
    killed.wait();
    assert!(scratch.path("pid").exists());
    let server = serve("hello", &["--pid", &scratch.text("pid")]);
    assert_eq!(read_pid(&scratch.path("pid")), Some(server.master));
    server.stop().expect_status(0).expect_stderr(&["of a server that is gone is replaced"]);
}

#[test]
fn a_pid_file_that_another_has_written_stays() {
    let scratch = Scratch::new();
    let server = serve("hello", &["--pid", &scratch.text("pid")]);
    scratch.write("pid", "1\n");
    server.stop().expect_status(0);
    assert_eq!(read_pid(&scratch.path("pid")), Some(Pid::from_raw(1)));
}

#[test]
fn a_pid_file_lies_in_the_folder_of_chdir() {
    let scratch = Scratch::new();
    let folder = scratch.path("");
    let options = ["--chdir", folder.to_str().expect("UTF-8"), "--pythonpath", ROOT, "--pid", "pid"];
    let server = serve("hello", &options);
    assert_eq!(read_pid(&scratch.path("pid")), Some(server.master));
    server.stop().expect_status(0);
    assert!(!scratch.path("pid").exists());
}

#[test]
fn a_pid_file_that_cannot_be_written() {
    let arguments = ["--bind", "127.0.0.1:0", "--pid", "/no/such/folder/pid", "tests.apps.hello:app"];
    let finished = Program::new(&arguments).run().expect_status(1);
    finished.expect_stderr(&["minicorn: error: --pid /no/such/folder/pid: No such file or directory"]);
}

// As another user.

/// What runs a program where everybody can read what it takes to run it: Python may be installed in a home that is
/// closed to others, and is shown there then in a namespace of mounts of its own.
fn open_to_all(scratch: &Scratch) -> Vec<String> {
    let python = fs::canonicalize(virtual_environment().join("bin/python")).expect("a Python");
    let binary = Path::new(env!("CARGO_BIN_EXE_minicorn"));
    let needed: Vec<PathBuf> =
        [&python, binary].iter().filter_map(|path| path.ancestors().nth(2)).map(Path::to_owned).collect();
    let needed: Vec<PathBuf> = needed.into_iter().chain([virtual_environment(), ROOT.into()]).collect();
    let is_closed = |path: &Path| fs::metadata(path).is_ok_and(|found| found.mode() & 0o001 == 0);
    let closed = |path: &PathBuf| path.ancestors().filter(|above| is_closed(above)).last().map(Path::to_owned);
    let mut all_closed: Vec<PathBuf> = needed.iter().filter_map(closed).collect();
    all_closed.dedup();
    let Some(top) = all_closed.pop() else { return vec!["env".to_owned()] };
    assert!(all_closed.is_empty(), "{all_closed:?} and {top:?} are closed to others");
    let shown: Vec<String> =
        needed.iter().filter(|path| path.starts_with(&top)).map(|path| path.display().to_string()).collect();
    fs::create_dir(scratch.path("hold")).expect("a directory");
    let words = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        SHOW,
        "show",
        &scratch.text("hold"),
        &top.display().to_string(),
        &shown.join(":"),
    ];
    words.map(str::to_owned).to_vec()
}

/// Holds the directories `$3`, covers `$2`, and puts them back on top of that.
const SHOW: &str = r#"
hold=$1 top=$2 shown=$3; shift 3
mount -t tmpfs none "$hold"
IFS=:
number=0; for path in $shown; do number=$((number + 1)); mkdir "$hold/$number"; mount --bind "$path" "$hold/$number"; done
mount -t tmpfs -o mode=755 none "$top"
number=0; for path in $shown; do number=$((number + 1)); mkdir -p "$path"; mount --bind "$hold/$number" "$path"; done
cd "$PWD"
exec "$@"
"#;

/// minicorn, to be run where the user of the workers can read Python.
fn program_for_all(scratch: &Scratch, wrapper: &[&str], options: &[&str], app: &str) -> Program {
    let own = open_to_all(scratch);
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let app = app_path(app);
    let arguments = [options, &[&app]].concat();
    Program::under(&[&own, wrapper].concat(), &arguments)
}

#[track_caller]
pub fn serve_as(scratch: &Scratch, options: &[&str], app: &str) -> Server {
    Server::start(program_for_all(scratch, &[], &[&["--bind", "127.0.0.1:0"], options].concat(), app))
}

fn effective_uid(pid: Pid) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("a line of the kernel");
    line.split_ascii_whitespace().nth(1).expect("the second number").parse().expect("a number")
}

/// Also before the import, which is the application's code already.
#[test]
fn workers_run_as_the_user() {
    let scratch = Scratch::new();
    let server = serve_as(&scratch, &["--user", "nobody", "--workers", "2"], "whoami");
    let found = server.get("/").text().to_owned();
    for line in
        ["users=(65534, 65534, 65534)", "groups=(65534, 65534, 65534)", "others=[65534]", "is_same_since_import=True"]
    {
        assert!(found.lines().any(|found| found == line), "{line:?} is not in:\n{found}");
    }
    assert_eq!(effective_uid(server.master), 0);
    // What the kernel takes away from a process that has changed its user, and applications look into.
    let own_files = fs::metadata(format!("/proc/{}/fd", server.workers()[0])).expect("it runs");
    assert_eq!(own_files.uid(), 65534, "the worker may not look at its own descriptors");
    server.stop().expect_status(0);
}

/// `--check-config` runs the application's code, too.
#[test]
fn the_application_is_checked_as_the_user() {
    let scratch = Scratch::new();
    let finished = program_for_all(&scratch, &[], &["--check-config", "--user", "nobody"], "imported_by").run();
    finished.expect_status(0).expect_stderr(&["imported by users (65534, 65534, 65534)"]);
}

#[test]
fn users_and_groups_by_number() {
    let cases: [(&[&str], &str); 5] = [
        (&["--user", "4242", "--group", "4343"], "users=(4242, 4242, 4242)\ngroups=(4343, 4343, 4343)\nothers=[4343]"),
        (&["--user", "nobody", "--group", "daemon"], "users=(65534, 65534, 65534)\ngroups=(1, 1, 1)\nothers=[1]"),
        (&["--initgroups"], "users=(0, 0, 0)\ngroups=(0, 0, 0)\nothers=[0]"),
        (&["--group", "4343"], "users=(0, 0, 0)\ngroups=(4343, 4343, 4343)\nothers=[4343]"),
        (
            &["--user", "nobody", "--initgroups"],
            "users=(65534, 65534, 65534)\ngroups=(65534, 65534, 65534)\nothers=[65534]",
        ),
    ];
    each(
        &cases,
        |(options, _)| options.join(" "),
        |&(options, expected)| {
            let scratch = Scratch::new();
            let found = serve_as(&scratch, options, "whoami").get("/").text().to_owned();
            assert!(found.starts_with(expected), "{found}");
        },
    );
}

/// The kernel forgets that it is to kill a child with its parent when the child becomes another user.
#[test]
fn workers_of_another_user_do_not_outlive_the_master() {
    let scratch = Scratch::new();
    let server = serve_as(&scratch, &["--user", "nobody", "--workers", "2"], "whoami");
    let workers = wait_for("the workers", || Some(server.workers()).filter(|workers| workers.len() == 2));
    wait_until("them to be nobody", || workers.iter().all(|&worker| effective_uid(worker) == 65534));
    assert_eq!(server.get("/").status, 200);
    server.signal(Signal::SIGKILL);
    wait_until("the workers to end", || !workers.iter().any(|&worker| process::is_running(worker)));
}

#[test]
fn who_is_not_known() {
    let cases: [(&[&str], &str); 5] = [
        (&["--user", "no-such-user"], "--user no-such-user: there is no such user"),
        (&["--group", "no-such-group"], "--group no-such-group: there is no such group"),
        (&["--user", "4242"], "--user 4242: no user has this number"),
        (&["--user", "4242", "--group", "1", "--initgroups"], "--initgroups: the user has no name"),
        (&["--user", "4294967295"], "there is no such user"),
    ];
    each(
        &cases,
        |(options, _)| options.join(" "),
        |&(options, sentence)| {
            let finished = Program::new(&[options, &[&app_path("hello")]].concat()).run();
            finished.expect_status(2).expect_stderr(&["minicorn: error: ", sentence]);
        },
    );
}

const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

#[test]
fn who_may_not_become_another() {
    let scratch = Scratch::new();
    let finished = program_for_all(&scratch, &NOBODY, &["--bind", "127.0.0.1:0", "--user", "root"], "hello").run();
    finished.expect_status(1).expect_stderr(&["minicorn: error: the workers cannot run as the user", "not permitted"]);
}

/// As systemd's User= and the image of a container often say it a second time.
#[test]
fn who_is_that_user_already() {
    let scratch = Scratch::new();
    let options = ["--bind", "127.0.0.1:0", "--user", "nobody", "--group", "nogroup", "--initgroups"];
    let server = Server::start(program_for_all(&scratch, &NOBODY, &options, "whoami"));
    assert!(server.get("/").text().starts_with("users=(65534, 65534, 65534)"));
    server.stop().expect_status(0);
}

/// What the workers cannot write to is told at the start, although the master could.
#[test]
fn the_folder_of_uploads_is_looked_at_as_the_user() {
    let scratch = Scratch::new();
    for (name, mode) in [("closed", 0o700), ("open", 0o777)] {
        fs::create_dir(scratch.path(name)).expect("a directory");
        fs::set_permissions(scratch.path(name), fs::Permissions::from_mode(mode)).expect("it is ours");
    }
    let run = |name: &str, hold: &Scratch| {
        let folder = scratch.text(name);
        program_for_all(hold, &[], &["--bind", "127.0.0.1:0", "--user", "nobody", "--tmp-upload-dir", &folder], "hello")
    };
    let refused = run("closed", &Scratch::new()).run();
    refused.expect_status(2).expect_stderr(&["--tmp-upload-dir", "closed", "Permission denied"]);
    let hold = Scratch::new();
    Server::start(run("open", &hold)).stop().expect_status(0);
}

#[test]
fn the_socket_belongs_to_the_user() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", scratch.text("socket"));
    let options = ["--bind", &bind, "--user", "nobody", "--group", "daemon"];
    let server = Server::start(program_for_all(&scratch, &[], &options, "hello"));
    let found = fs::symlink_metadata(scratch.path("socket")).expect("the socket");
    assert_eq!((found.uid(), found.gid()), (65534, 1));
    server.stop().expect_status(0);
}

// What new files may be.

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).expect("the file").permissions().mode() & 0o777
}

/// As with gunicorn, the application gets the mask of the option, and 0 without it, whatever the operator's is. The files
/// of the server get no more than either of the two lets them.
#[test]
fn umask() {
    for (option, of_app, of_server) in [(None, 0o666, 0o644), (Some("027"), 0o640, 0o640), (Some("0"), 0o666, 0o644)] {
        let scratch = Scratch::new();
        let log = scratch.text("log");
        let mut options = vec!["--bind", "127.0.0.1:0", "--access-logfile", &log];
        options.extend(option.iter().flat_map(|mask| ["--umask", mask]));
        let arguments = [&options[..], &["tests.apps.whoami:app"]].concat();
        let server = Server::start(Program::under(&["sh", "-c", "umask 022; exec \"$@\"", "umask"], &arguments));
        let made = server.get(&format!("/make?path={}", scratch.text("made"))).text().to_owned();
        assert!(made.contains("is_same_since_import=True"), "{made}");
        assert_eq!(mode_of(&scratch.path("made")), of_app, "--umask {option:?}");
        assert_eq!(mode_of(&scratch.path("log")), of_server, "--umask {option:?}");
        server.stop().expect_status(0);
    }
}
