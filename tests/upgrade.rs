//! SIGUSR2: another master from the program file of today takes over the listeners.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::server::app_path;
use crate::harness::{
    Address, Client, Held, Program, ROOT, Scratch, Server, SetAtEnd, process, serve, wait_for, wait_until,
};

/// Sends SIGUSR2 to a master, and returns the new one when that serves.
#[track_caller]
pub fn upgrade(server: &Server, old: Pid) -> Pid {
    let serving = server.log().count("listening on");
    process::signal(old, Signal::SIGUSR2);
    let new = wait_for("a new master", || children_started_by_upgrade(server, old).pop());
    wait_until("the new master to serve", || server.log().count("listening on") > serving);
    new
}

/// The running new masters that this master has told of.
fn children_started_by_upgrade(server: &Server, old: Pid) -> Vec<Pid> {
    let log = server.log().text();
    let pids = log.split("upgrade: a new master, pid ").skip(1).filter_map(|rest| rest.split(',').next()?.parse().ok());
    let children = process::children(old);
    pids.map(Pid::from_raw).filter(|pid| children.contains(pid)).collect()
}

#[track_caller]
pub fn stop(server: &mut Server, master: Pid) {
    process::signal(master, Signal::SIGTERM);
    wait_until("the end of a master", || {
        // Waited for here, if it is our child.
        server.running.has_ended();
        !process::is_running(master)
    });
}

/// The worker that answers, of an app that tells its pid.
#[track_caller]
fn answering(address: &Address) -> Pid {
    let response = Client::connect(address).get("/").expect_status(200);
    Pid::from_raw(response.text().parse().expect("a pid"))
}

/// With one worker each: while the one is busy with a request, the other one answers.
#[track_caller]
fn expect_both_to_serve(server: &Server, masters: [Pid; 2]) {
    let mut held = Held::at(server, "/before");
    let free = answering(&server.addresses[0]);
    held.gate.open();
    let busy = Pid::from_raw(held.client.receive().expect_status(200).text().parse().expect("a pid"));
    for master in masters {
        let workers = process::children(master);
        assert!(workers.contains(&free) != workers.contains(&busy), "{free} and {busy}, not one of {workers:?}");
    }
}

#[test]
fn both_masters_serve_until_the_old_one_is_told_to_stop() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", scratch.text("app.sock"));
    let mut server = serve("gate", &["--bind", "127.0.0.1:0", "--bind", &bind]);
    let old = server.master;
    let new = upgrade(&server, old);
    assert!(process::children(old).contains(&new));
    expect_both_to_serve(&server, [old, new]);
    stop(&mut server, old);
    server.log().wait_for(&format!("the old master, pid {old}, is gone"));
    assert!(scratch.path("app.sock").exists());
    for address in &server.addresses {
        assert!(process::children(new).contains(&answering(address)), "{address}");
    }
    // It can be upgraded itself; the last one removes the socket file.
    let newest = upgrade(&server, new);
    expect_both_to_serve(&server, [new, newest]);
    stop(&mut server, new);
    server.log().wait_for(&format!("the old master, pid {new}, is gone"));
    for address in &server.addresses {
        assert!(process::children(newest).contains(&answering(address)), "{address}");
    }
    stop(&mut server, newest);
    assert!(!scratch.path("app.sock").exists());
    server.wait().expect_status(0);
}

/// New connections all the time: none is refused, none is closed without its response. They stay where they are accepted,
/// since what happens to one that is on its way between two workers that leave is not asked here.
#[test]
fn no_request_is_lost_on_the_way() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", scratch.text("app.sock"));
    let mut server = serve("hello", &["--bind", "127.0.0.1:0", "--bind", &bind, "--workers", "2"]);
    let (is_over, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    let addresses = server.addresses.clone();
    std::thread::scope(|scope| {
        let _at_end = SetAtEnd(&is_over);
        for client in 0..4 {
            let (address, is_over, answered) = (&addresses[client % 2], &is_over, &answered);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    Client::connect(address).get("/").expect(200, "Hello, world!\n");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut master = server.master;
        for _ in 0..3 {
            let new = upgrade(&server, master);
            stop(&mut server, master);
            let before = answered.load(Ordering::Relaxed);
            wait_until("answers of the new master", || answered.load(Ordering::Relaxed) > before + 100);
            master = new;
        }
    });
}

#[test]
fn a_second_upgrade_waits_for_the_end_of_the_first() {
    let mut server = serve("hello", &[]);
    let old = server.master;
    let new = upgrade(&server, old);
    process::signal(old, Signal::SIGUSR2);
    server.log().wait_for(&format!("SIGUSR2 ignored: the new master, pid {new}, runs already"));
    process::signal(new, Signal::SIGUSR2);
    server.log().wait_for(&format!("SIGUSR2 ignored: the old master, pid {old}, still runs"));
    stop(&mut server, old);
    server.log().wait_for("is gone");
    upgrade(&server, new);
}

#[test]
fn a_server_that_stops_is_not_upgraded() {
    let server = serve("gate", &[]);
    let held = Held::at(&server, "/before");
    server.signal(Signal::SIGTERM);
    server.log().wait_for("stopping");
    server.signal(Signal::SIGUSR2);
    server.log().wait_for("SIGUSR2 ignored: the server is stopping");
    held.finish();
    server.wait().expect_status(0);
}

/// The operator does not like the new one.
#[test]
fn the_old_master_serves_on_when_the_new_one_is_stopped() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", scratch.text("app.sock"));
    let mut server = serve("gate", &["--bind", &bind]);
    let old = server.master;
    for _ in 0..2 {
        let new = upgrade(&server, old);
        stop(&mut server, new);
        server.log().wait_for(&format!("the new master, pid {new}, was stopped; this one goes on"));
        assert!(process::children(old).contains(&answering(&server.addresses[0])));
    }
    server.stop().expect_status(0);
    assert!(!scratch.path("app.sock").exists());
}

/// A new release that does not start: the old one goes on, and the next attempt takes the corrected one.
#[test]
fn a_broken_app_does_not_end_the_old_master() {
    const APP: &str = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'RELEASE']\n";
    let scratch = Scratch::new();
    let write = |release: &str| scratch.write("deployed.py", &APP.replace("RELEASE", release));
    write("first");
    let chdir = scratch.text("");
    let mut server = Server::start(Program::new(&["--bind", "127.0.0.1:0", "--chdir", &chdir, "deployed:app"]));
    server.get("/").expect(200, "first");
    let old = server.master;
    scratch.write("deployed.py", "raise LookupError('not configured')\n");
    server.signal(Signal::SIGUSR2);
    server.log().wait_for("exited with status 4; this one goes on");
    server.get("/").expect(200, "first");
    write("second");
    upgrade(&server, old);
    stop(&mut server, old);
    server.get("/").expect(200, "second");
}

/// A program file that is gone, or is none any more, is told, too.
#[test]
fn a_program_that_cannot_be_run_does_not_end_the_old_master() {
    let scratch = Scratch::new();
    std::fs::copy(env!("CARGO_BIN_EXE_minicorn"), scratch.path("minicorn")).expect("a copy of the program");
    let arguments = ["--bind", "127.0.0.1:0", &app_path("hello")];
    let server = Server::start(Program::prepare(&scratch.text("minicorn"), &arguments));
    std::fs::remove_file(scratch.path("minicorn")).expect("the program is removed");
    server.signal(Signal::SIGUSR2);
    server.log().wait_for(&format!("{} cannot be run in", scratch.text("minicorn")));
    server.log().wait_for("exited with status 1; this one goes on");
    // Put there again, as an installation does, it is the one that is started.
    std::fs::copy(env!("CARGO_BIN_EXE_minicorn"), scratch.path("minicorn")).expect("a copy of the program");
    let new = upgrade(&server, server.master);
    let program = std::fs::read_link(format!("/proc/{new}/exe")).expect("its program");
    assert_eq!(program, scratch.path("minicorn").canonicalize().expect("a path"));
}

/// In the log file, since the standard error that a new master inherits may lead nowhere.
#[test]
fn why_a_new_master_does_not_start_is_in_the_error_log() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("logs")).expect("a directory");
    let (bind, log) = (format!("unix:{}", scratch.text("app.sock")), scratch.text("error"));
    let access_log = scratch.text("logs/access");
    let app = app_path("hello");
    let arguments = ["--bind", &bind, "--error-logfile", &log, "--access-logfile", &access_log, &app];
    let server = Server::start_at(Program::new(&arguments), Address::Unix(scratch.path("app.sock")));
    std::fs::remove_dir_all(scratch.path("logs")).expect("it is ours");
    let error_log = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("the start", || error_log().contains("listening on"));
    server.signal(Signal::SIGUSR2);
    wait_until("the end of the new master", || error_log().contains("exited with status 1; this one goes on"));
    assert!(error_log().contains(&format!("cannot open the access log {access_log}: ")), "{}", error_log());
}

/// The folder that a relative path was meant in is not that of the new master.
#[test]
fn a_socket_with_a_relative_path_is_found_from_another_folder() {
    let scratch = Scratch::new();
    for folder in ["first", "second"] {
        std::fs::create_dir(scratch.path(folder)).expect("a directory");
    }
    let current = scratch.path("current");
    std::os::unix::fs::symlink("first", &current).expect("a link");
    let chdir = scratch.text("current");
    let mut server = serve("hello", &["--bind", "unix:app.sock", "--chdir", &chdir, "--pythonpath", ROOT]);
    std::fs::remove_file(&current).expect("the link");
    std::os::unix::fs::symlink("second", &current).expect("a link");
    let old = server.master;
    let new = upgrade(&server, old);
    assert_eq!(server.log().count(&format!("listening on unix:{}", scratch.text("first/app.sock"))), 2);
    stop(&mut server, old);
    server.log().wait_for("is gone");
    stop(&mut server, new);
    assert!(!scratch.path("first/app.sock").exists(), "the last one has not removed it");
}

/// Same arguments, same environment, same folder, though the old master has changed its own; nothing of the hand-over is
/// left for the application to see.
#[test]
fn the_new_master_starts_as_the_old_one_did() {
    let scratch = Scratch::new();
    let folder = |name: &str| {
        std::fs::create_dir_all(scratch.path(name).join("app")).expect("folders");
        scratch.path(name)
    };
    folder("first");
    std::os::unix::fs::symlink("first", scratch.path("current")).expect("a link");
    std::os::unix::fs::symlink(crate::harness::ROOT, scratch.path("root")).expect("a link");
    let root = scratch.text("root");
    let arguments =
        ["--bind", "127.0.0.1:0", "--chdir", "app", "--pythonpath", &root, "-e", "A=b", &app_path("interpreter")];
    let program = Program::new(&arguments).directory(scratch.path("current")).env("PWD", scratch.text("current"));
    let mut server = Server::start(program.env("KEPT", "a value"));
    let seen = |server: &Server| -> serde_json::Value {
        serde_json::from_slice(&server.get("/").expect_status(200).body).expect("JSON")
    };
    let before = seen(&server);
    assert_eq!(before["cwd"], scratch.text("first/app"));
    // The next release.
    folder("second");
    std::fs::remove_file(scratch.path("current")).expect("the old link");
    std::os::unix::fs::symlink("second", scratch.path("current")).expect("a link");
    upgrade(&server, server.master);
    let old = server.master;
    stop(&mut server, old);
    let after = seen(&server);
    assert_eq!(after["cwd"], scratch.text("second/app"));
    assert_eq!((&after["argv"], &after["env"]), (&before["argv"], &before["env"]));
    assert_eq!((&after["env"]["KEPT"], &after["env"]["A"]), (&"a value".into(), &"b".into()));
    assert_eq!(after["env"].get("MINICORN_FD").or(after["env"].get("MINICORN_PID")), None);
}

/// The handlers, the mask and the descriptors of the old master are not for the new one.
#[test]
fn the_new_master_inherits_the_listeners_and_nothing_else() {
    let server = serve("hello", &[]);
    let fresh = (signal_masks(server.master), process::descriptors(server.master));
    let new = upgrade(&server, server.master);
    assert_eq!(signal_masks(new), fresh.0);
    // It may be reading a file at this moment.
    wait_until("no more descriptors than the old one", || process::descriptors(new) == fresh.1);
}

/// Blocked, ignored and caught signals.
fn signal_masks(pid: Pid) -> Vec<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let is_mask = |line: &&str| ["SigBlk", "SigIgn", "SigCgt"].iter().any(|name| line.starts_with(name));
    status.lines().filter(is_mask).map(str::to_owned).collect()
}

/// Who is the first process of a container cannot go, so another one could never take its place.
#[test]
fn process_1_is_not_upgraded() {
    let own_user: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let wrapper = [&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"], own_user].concat();
    let mut server = Server::start(Program::under(&wrapper, &["--bind", "127.0.0.1:0", &app_path("hello")]));
    server.master = process::children(server.running.pid)[0];
    server.signal(Signal::SIGUSR2);
    server.log().wait_for("SIGUSR2 ignored: process 1 cannot be replaced");
    server.get("/").expect(200, "Hello, world!\n");
    assert_eq!(server.workers().len(), 1);
    server.stop().expect_status(0);
}

/// The kernel tells the new one, whatever way the old one went.
#[test]
fn a_killed_old_master_is_succeeded() {
    let scratch = Scratch::new();
    let path = scratch.text("app.sock");
    let mut server = serve("gate", &["--bind", &format!("unix:{path}"), "--pid", &scratch.text("pid")]);
    let (old, workers) = (server.master, server.workers());
    let new = upgrade(&server, old);
    process::signal(old, Signal::SIGKILL);
    server.log().wait_for("this one has taken its place");
    // Before anybody has reaped the old one, whose number is still that of a process.
    let pid_file = || std::fs::read_to_string(scratch.path("pid")).unwrap_or_default();
    wait_until("the pid file", || pid_file() == format!("{new}\n"));
    assert!(!scratch.path("pid.2").exists());
    wait_until("the end of the old master", || server.running.has_ended());
    // They die of it, each in the middle of whatever it does.
    wait_until("the end of its workers", || !workers.iter().any(|&worker| process::is_running(worker)));
    assert!(process::children(new).contains(&answering(&server.addresses[0])));
    stop(&mut server, new);
    assert!(!Path::new(&path).exists());
}

/// What the old master has, the new one gets when that is gone; also if it has other sockets of its own by then.
#[test]
fn the_masters_own_sockets_are_taken_over() {
    let scratch = Scratch::new();
    let (control, admin) = (scratch.text("ctl"), scratch.text("admin"));
    let settings = |admin: &str| format!("control_socket = '{control}'\nadmin_bind = 'unix:{admin}'\n");
    let file = scratch.write("conf.py", &settings(&admin));
    let mut server = Server::start(Program::new(&["-c", &file, "--bind", "127.0.0.1:0", &app_path("hello")]));
    let old = server.master;
    let new = upgrade(&server, old);
    let asked = || Program::new(&["ctl", "-s", &control, "status"]).run();
    assert!(asked().expect_status(0).stdout.contains(&format!("(pid {old})")));
    let other = format!("{admin}.other");
    scratch.write("conf.py", &settings(&other));
    process::signal(new, Signal::SIGHUP);
    server.log().wait_for("generation 2 serves");
    Client::connect(&Address::Unix(other.into())).get("/healthz").expect_status(200);
    stop(&mut server, old);
    server.log().wait_for(&format!("the old master, pid {old}, is gone"));
    wait_until("the control socket", || Path::new(&control).exists());
    assert!(asked().expect_status(0).stdout.contains(&format!("(pid {new})")));
    assert!(!Path::new(&admin).exists());
    stop(&mut server, new);
    assert!(!Path::new(&control).exists());
}

#[test]
fn half_a_hand_over_is_refused() {
    let arguments = ["--bind", "127.0.0.1:0", &app_path("hello")];
    for (given, told) in [("3", "MINICORN_FD=3"), ("three", "MINICORN_FD=three")] {
        Program::new(&arguments).env("MINICORN_FD", given).run().expect_status(1).expect_stderr(&[told]);
    }
    let program = Program::new(&arguments).env("MINICORN_FD", "99").env("MINICORN_PID", "1");
    program.run().expect_status(1).expect_stderr(&["cannot listen on fd://99: the program was not started with"]);
}
