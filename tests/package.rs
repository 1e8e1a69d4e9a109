//! The Python package: a wheel is built, installed into an environment of its own, and used from outside the source tree.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::{
    Program, ROOT, Scratch, Server, process, program::Finished, virtual_environment, wait_for, wait_until,
};
use crate::upgrade::{stop, upgrade};

/// The variable that names another Python to build the wheel for; see tests/wheels.sh.
const OTHER_PYTHON: &str = "MINICORN_WHEEL_PYTHON";

/// The environment that the wheel is installed in.
fn environment() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| install(&build_for()))
}

fn build_for() -> PathBuf {
    std::env::var_os(OTHER_PYTHON).map_or_else(|| virtual_environment().join("bin/python"), PathBuf::from)
}

/// The builds share a folder, where cargo finds again what has not changed. The program's own is locked by whoever runs
/// this test.
fn install(python: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
    let (wheels, environment) = (folder.join("wheels"), folder.join("venv"));
    _ = std::fs::remove_dir_all(&wheels);
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&environment));
    // Python's installation may lack a pip of its own.
    let pip = |arguments: &[&str]| {
        let mut pip = Command::new(environment.join("bin/python"));
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(arguments).arg(&wheels);
        pip
    };
    let mut wheel = pip(&["wheel", "--no-deps", ROOT, "--wheel-dir"]);
    wheel.env("MATURIN_PEP517_ARGS", "--profile wheel-test").env("CARGO_TARGET_DIR", folder.join("target"));
    run(wheel.env_remove("PYO3_PYTHON").env_remove("VIRTUAL_ENV"));
    run(&mut pip(&["install", "--no-index", "minicorn", "--find-links"]));
    environment
}

fn run(command: &mut Command) {
    // Cargo tells its children of itself in many variables, and a build inside of a test is none of them.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).output().expect("a program to run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A project with `served.py`, which answers `text`, and something that is installed to run in it.
fn in_project(scratch: &Scratch, installed: &str, arguments: &[&str]) -> Program {
    write_app(scratch, "one");
    let program = environment().join("bin").join(installed);
    let program = Program::prepare(program.to_str().expect("UTF-8"), arguments);
    program.directory(scratch.path("")).without_env("VIRTUAL_ENV").without_env("LD_LIBRARY_PATH")
}

fn write_app(scratch: &Scratch, text: &str) {
    // Of another length each time, or Python would take compiled code of the same second for it.
    let app = "def app(environ, start_response):\n    start_response('200 OK', [])\n";
    scratch.write("served.py", &format!("{app}    return [b'{text}']\n"));
}

fn script(name: &str) -> String {
    format!("{ROOT}/tests/package/{name}.py")
}

fn host(scratch: &Scratch, arguments: &[&str]) -> Program {
    in_project(scratch, "python", &[&[script("host").as_str()], arguments].concat())
}

#[track_caller]
fn wait_for_workers(server: &Server, count: usize) -> Vec<Pid> {
    wait_for("the workers", || Some(server.workers()).filter(|workers| workers.len() == count))
}

#[track_caller]
fn reload(server: &Server) {
    server.signal(Signal::SIGHUP);
    server.log().wait_for("reloaded: generation 2 serves");
}

fn command_line(pid: Pid) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

#[test]
fn the_command_reloads_is_upgraded_and_stops() {
    for (installed, front) in [("minicorn", &[][..]), ("python", &["-m", "minicorn"])] {
        let scratch = Scratch::new();
        let options = ["--bind", "127.0.0.1:0", "--workers", "2", "--access-logfile", "none", "served:app"];
        let mut server = Server::start(in_project(&scratch, installed, &[front, &options].concat()));
        assert_eq!(server.get("/").expect_status(200).text(), "one");
        wait_until("the title", || command_line(server.master).contains("minicorn: master [served:app]"));
        write_app(&scratch, "new code");
        reload(&server);
        assert_eq!(server.get("/").text(), "new code");
        let old = server.master;
        let new = upgrade(&server, old);
        stop(&mut server, old);
        assert_eq!(server.get("/").text(), "new code");
        assert!(command_line(new).contains("minicorn: master [served:app]"), "{}", command_line(new));
        stop(&mut server, new);
        server.wait().expect_status(0);
    }
}

#[test]
fn the_template_of_a_command_forks_workers_that_take_over() {
    let scratch = Scratch::new();
    let options = ["-b", "127.0.0.1:0", "-w2", "--preload", "--env", "GIVEN=x", "served:app"];
    let program = in_project(&scratch, "minicorn", &options);
    scratch.write(
        "served.py",
        "import atexit, os, sys\nproof = os.getpid()\natexit.register(lambda: print('exit of', os.getpid()))\n\
         def app(environ, start_response):\n    start_response('200 OK', [])\n    \
         return [f\"{proof == os.getpid()} {os.environ['GIVEN']} {sys.argv[-1]}\".encode()]\n",
    );
    let server = Server::start(program);
    server.get("/").expect(200, "False x served:app");
    let ended = server.stop().expect_status(0);
    // Those of the application run, in the template and in each worker.
    assert_eq!(ended.stdout.matches("exit of").count(), 3, "{}", ended.stdout);
}

#[test]
fn the_command_has_the_statuses_of_the_program() {
    let scratch = Scratch::new();
    let run = |arguments: &[&str]| -> Finished { in_project(&scratch, "minicorn", arguments).run() };
    let version = run(&["--version"]).expect_status(0).stdout;
    assert_eq!(version, concat!("minicorn ", env!("CARGO_PKG_VERSION"), "\n"));
    run(&["ctl", "-s", "nobody.sock", "status"]).expect_status(1).expect_stderr(&["there is no such socket"]);
    run(&["--check-config", "served:app"]).expect_status(0);
    run(&["--workers", "0", "served:app"]).expect_status(2).expect_stderr(&["--workers"]);
    run(&["-b", "127.0.0.1:0", "served:nothing"]).expect_status(4).expect_stderr(&["has no 'nothing'"]);
    let other = ["--python", "/usr/bin/python3", "served:app"];
    run(&other).expect_status(2).expect_stderr(&["--python /usr/bin/python3", "runs in"]);
}

#[test]
fn a_program_serves_what_it_names() {
    let scratch = Scratch::new();
    let server = Server::start(host(&scratch, &["name"]));
    assert_eq!(server.get("/").expect_status(200).text(), "one");
    let workers = wait_for_workers(&server, 2);
    process::signal(workers[0], Signal::SIGKILL);
    wait_until("another worker", || {
        let now = server.workers();
        now.len() == 2 && !now.contains(&workers[0])
    });
    write_app(&scratch, "new code");
    reload(&server);
    assert_eq!(server.get("/").text(), "new code");
    expect_host_as_before(server.stop());
}

/// It has gone on behind the call, alone, and with all that was its own.
#[track_caller]
fn expect_host_as_before(ended: Finished) {
    let said: Vec<&str> = ended.stdout.lines().collect();
    let words: Vec<&str> = said.iter().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
    assert_eq!(words, ["run() has returned None", "own handler", "as before", "exit function"], "{said:?}");
    ended.expect_status(0);
}

#[test]
fn a_program_serves_an_object_of_its_own() {
    let scratch = Scratch::new();
    let server = Server::start(host(&scratch, &["object"]));
    let answer = server.get("/").expect_status(200);
    assert!(answer.text().ends_with(" ['object'] a=b ['MainThread']"), "{}", answer.text());
    reload(&server);
    server.get("/").expect_status(200);
    for text in ["an object of this process: its code stays", "app __main__:app"] {
        assert!(server.log().count(text) == 1, "{text:?} is not in:\n{}", server.log().text());
    }
    server.signal(Signal::SIGINT);
    expect_host_as_before(server.wait());
}

#[test]
fn a_program_serves_twice() {
    let scratch = Scratch::new();
    let server = Server::start(host(&scratch, &["object", "twice"]));
    server.signal(Signal::SIGINT);
    wait_until("the second start", || server.log().count("listening on") == 2);
    server.signal(Signal::SIGTERM);
    let ended = server.wait().expect_status(0);
    assert_eq!(ended.stdout.matches("run() has returned None").count(), 2, "{}", ended.stdout);
}

#[test]
fn a_program_is_upgraded() {
    let scratch = Scratch::new();
    let mut server = Server::start(host(&scratch, &["object", "threadless"]));
    let old = server.master;
    let new = upgrade(&server, old);
    stop(&mut server, old);
    let answer = server.get("/").expect_status(200);
    assert!(answer.text().contains("['object', 'threadless']"), "{}", answer.text());
    wait_until("the title", || command_line(new).contains("minicorn: master"));
    stop(&mut server, new);
    let ended = server.wait().expect_status(0);
    // Their titles are gone again.
    assert_eq!(ended.stdout.matches("as before").count(), 2, "{}", ended.stdout);
}

#[test]
fn a_program_goes_to_the_background_and_goes_on_there() {
    let scratch = Scratch::new();
    let front = host(&scratch, &["object", "daemon", "threadless"]).spawn();
    let front_pid = front.pid;
    // Standard output stays open for the one in the background: it is closed when the server stops.
    wait_until("the server to serve", || {
        std::fs::read_to_string(scratch.path("log")).is_ok_and(|log| log.contains("listening on"))
    });
    let master: i32 = std::fs::read_to_string(scratch.path("pid")).expect("a pid file").trim().parse().expect("a pid");
    wait_until("the process in front to end", || !process::is_running(front_pid));
    process::signal(Pid::from_raw(master), Signal::SIGTERM);
    wait_until("the server to stop", || !process::is_running(Pid::from_raw(master)));
    let ended = front.wait().expect_status(0);
    assert!(!ended.stdout.contains(&front_pid.to_string()), "in front it went on: {}", ended.stdout);
}

#[test]
fn a_program_with_threads_does_not_go_to_the_background() {
    let scratch = Scratch::new();
    let mut running = host(&scratch, &["object", "daemon"]).spawn();
    running.stderr.wait_for("--daemon: the process has 2 threads instead of one");
    assert!(!running.has_ended(), "its thread keeps it");
}

#[test]
fn what_cannot_be_is_raised() {
    let scratch = Scratch::new();
    let script = script("refused");
    let ended = in_project(&scratch, "python", &[script.as_str()]).run().expect_status(0);
    let expected = [
        "TypeError: run() got an unexpected keyword argument 'wokers'; did you mean 'workers'?",
        "TypeError: pre_fork: a hook has to be in a configuration file",
        "TypeError: run() got an unexpected keyword argument 'check_config'",
        "ValueError: invalid value '0' for '--workers ",
        "ValueError: invalid value 'loud' for '--log-level <LEVEL>' [possible values: ",
        "ValueError: certfile: it is not offered: minicorn speaks no TLS",
        "TypeError: keep_alive: object is no value of a setting",
        "ValueError: reload: an application that is an object",
        "TypeError: app: neither a name nor callable",
        "SystemExit: 4",
        "SystemExit: 2",
        "SystemExit: 1",
        "RuntimeError: minicorn.run() has to be called from the main thread",
    ];
    let said: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said:?} is not {expected:?}");
    }
}

#[test]
fn a_worker_starts_no_server() {
    let scratch = Scratch::new();
    let script = script("unguarded");
    let folder = format!("{ROOT}/tests/package");
    let program = in_project(&scratch, "python", &[script.as_str()]).directory(folder);
    program.run().expect_status(4).expect_stderr(&["RuntimeError: a worker is about to start a server"]);
}
