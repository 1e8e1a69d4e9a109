//! The master: starting, stopping, and never leaving a process behind.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Client, Program, Scratch, Server, process, serve, shape, wait_for, wait_until};

#[track_caller]
fn wait_for_workers(server: &Server, count: usize) -> Vec<Pid> {
    wait_for("the workers", || Some(server.workers()).filter(|workers| workers.len() == count))
}

/// A request that is inside the app when this returns; it ends when the file exists.
fn request_in_flight(server: &Server, scratch: &Scratch, name: &str) -> Client {
    let mut client = server.connect();
    let (entered, release) = (scratch.text(&format!("{name}-entered")), scratch.text("release"));
    client.send(format!("GET /before?entered={entered}&release={release} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_until("the request to enter the app", || scratch.path(&format!("{name}-entered")).exists());
    client
}

#[test]
fn the_start_line_says_what_runs() {
    let server = serve("hello", &["--workers", "2"]);
    let log = server.log().text();
    let line = log.lines().find(|line| line.contains("listening on")).expect("the start line");
    for text in [&format!("http://{}", server.addresses[0]), "2 workers", "CPython 3.", "tests.apps.hello:app"] {
        assert!(line.contains(text), "{text:?} is not in {line:?}");
    }
    assert!(!line.contains('\u{1b}'), "colours in a log: {line:?}");
    assert_eq!(server.log().count("listening on"), 1);
}

#[test]
fn on_a_terminal_the_start_is_told_to_a_person() {
    let server = format!("{} --bind 127.0.0.1:0 tests.apps.hello:app", env!("CARGO_BIN_EXE_minicorn"));
    // The session of its own that `script` makes is out of reach of what ends the other servers of these tests.
    let command = format!("echo pid=$$; exec timeout --foreground 60 {server}");
    let mut running = Program::prepare("script", &["-qefc", &command, "/dev/null"]).spawn();
    running.stdout.wait_for("Ctrl-C");
    let text = running.stdout.text();
    let pid = text.split_once("pid=").and_then(|(_, rest)| rest.lines().next()).expect("a pid");
    kill(Pid::from_raw(pid.trim().parse().expect("a number")), Signal::SIGTERM).expect("a process to stop");
    wait_until("the end of the server", || running.has_ended());
    assert!(text.contains("listening on http://127.0.0.1:") && !text.contains("[INFO]"), "{text}");
}

/// `[2026-11-21 05:14:49 +0000] … [INFO] … pid=4242 …`: supervisors and people look for these.
#[test]
fn every_line_of_the_error_log_has_its_time_and_level() {
    let finished = serve("hello", &["--workers", "2"]).stop().expect_status(0);
    assert!(!finished.stderr.is_empty());
    for line in finished.stderr.lines() {
        assert!(shape(line).starts_with("[0000-00-00 00:00:00 +0000]"), "{line}");
        assert!(line.contains("[INFO]"), "{line}");
    }
}

#[test]
fn asked_to_stop_it_ends_well() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let server = serve("hello", &["--workers", "2"]);
        let workers = wait_for_workers(&server, 2);
        // Connections that nobody uses do not hold it up.
        let mut idle = server.connect();
        let mut used = server.connect();
        used.get("/").expect(200, "Hello, world!\n");
        server.signal(signal);
        server.wait().expect_status(0);
        idle.expect_end();
        used.expect_end();
        assert!(!workers.into_iter().any(process::is_running), "{signal}: a worker is left");
    }
}

#[test]
fn requests_in_flight_are_finished() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let scratch = Scratch::new();
        let server = serve("gate", &["--workers", "2"]);
        let mut client = request_in_flight(&server, &scratch, "one");
        server.signal(signal);
        server.log().wait_for("stopping");
        scratch.write("release", "");
        assert_eq!(client.receive().status, 200);
        client.expect_end();
        server.wait().expect_status(0);
    }
}

#[test]
fn a_response_that_is_being_read_is_finished() {
    let server = serve("big", &[]);
    let mut client = server.connect();
    client.send("GET /?bytes=20000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    server.access_log().wait_for("bytes=20000000");
    server.signal(Signal::SIGTERM);
    assert_eq!(client.receive().body.len(), 20_000_000);
    server.wait().expect_status(0);
}

/// Signals that come right behind the first one are its echo, as from a terminal through `make`: hence again and again.
#[test]
fn the_second_int_does_not_wait() {
    let scratch = Scratch::new();
    let mut server = serve("gate", &[]);
    let mut client = request_in_flight(&server, &scratch, "one");
    server.signal(Signal::SIGINT);
    server.log().wait_for("stopping");
    wait_until("an end that does not wait for the request", || {
        server.signal(Signal::SIGINT);
        server.running.has_ended()
    });
    server.wait().expect_status(0);
    assert_eq!(client.status_or_end(), None);
}

#[test]
fn the_graceful_timeout_ends_the_wait() {
    let scratch = Scratch::new();
    let server = serve("gate", &["--graceful-timeout", "1"]);
    let mut client = request_in_flight(&server, &scratch, "one");
    server.signal(Signal::SIGTERM);
    let finished = server.wait().expect_status(0);
    assert_eq!(client.status_or_end(), None);
    assert!(
        finished.stderr.contains("cutting the requests in flight"),
        "nothing about the requests that were cut:\n{}",
        finished.stderr
    );
}

/// A master that is killed -9 can tell its workers nothing: they must see it for themselves.
#[test]
fn no_worker_outlives_its_master() {
    let scratch = Scratch::new();
    let server = serve("gate", &["--workers", "2"]);
    let workers = wait_for_workers(&server, 2);
    let mut busy = request_in_flight(&server, &scratch, "one");
    server.signal(Signal::SIGKILL);
    wait_until("the workers to end", || !workers.iter().any(|&worker| process::is_running(worker)));
    assert_eq!(busy.status_or_end(), None);
}

#[test]
fn no_zombies() {
    let server = serve("crash", &["--workers", "3"]);
    for _ in 0..5 {
        let workers = wait_for_workers(&server, 3);
        workers.iter().for_each(|&worker| process::signal(worker, Signal::SIGKILL));
        let all_new =
            || Some(server.workers()).filter(|now| now.iter().filter(|pid| !workers.contains(pid)).count() == 3);
        wait_for("three new workers", all_new);
        wait_until("no zombies", || process::zombies(server.master).is_empty());
    }
    server.get("/");
}

/// A worker that dies at once, again and again, is not started in a tight loop.
#[test]
fn crash_loops_back_off() {
    let server = serve("crash", &[]);
    let deaths = || server.log().count("exited with status 7");
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_secs(3) {
        let Ok(mut client) = Client::try_connect(&server.addresses[0]) else { break };
        client.send("GET /exit HTTP/1.1\r\nHost: a\r\n\r\n");
        client.status_or_end();
    }
    // 0 + 0.1 + 0.2 + 0.4 + 0.8 + 1 + 1 seconds of waiting: a request of the third second may be the eighth death. Without
    // waiting there are dozens.
    assert!((1..=8).contains(&deaths()), "{} deaths in 3 s", deaths());
    server.get("/");
}

/// Starts it as the first process of a namespace, as a container does: without default actions for signals, and the
/// parent of all orphans.
pub(crate) fn serve_as_process_1(app: &str, options: &[&str]) -> Server {
    let own_user: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let wrapper = [&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"], own_user].concat();
    let arguments = [&["--bind", "127.0.0.1:0"], options, &[app]].concat();
    let mut server = Server::start(Program::under(&wrapper, &arguments));
    server.master = process::children(server.running.pid)[0];
    server
}

#[test]
fn as_process_1() {
    let server = serve_as_process_1("tests.apps.crash:app", &["--workers", "2"]);
    let workers = wait_for_workers(&server, 2);
    process::signal(workers[0], Signal::SIGKILL);
    server.log().wait_for("SIGKILL");
    wait_until("another worker", || server.workers().len() == 2 && !server.workers().contains(&workers[0]));
    server.get("/").expect_status(200);
    server.stop().expect_status(0);
}

/// What the app leaves behind becomes a child of process 1, and must not become a zombie there.
#[test]
fn orphans_of_the_app_are_reaped_by_process_1() {
    let server = serve_as_process_1("tests.apps.orphans:app", &[]);
    let worker = server.workers();
    for _ in 0..5 {
        server.get("/").expect(200, "orphaned");
    }
    wait_until("the orphans to be reaped", || server.workers() == worker && process::zombies(server.master).is_empty());
}

/// A terminal sends its Ctrl-C to the whole group: the workers must leave it to the master.
#[test]
fn an_interrupt_of_the_whole_group() {
    let scratch = Scratch::new();
    let server = serve("gate", &["--workers", "2"]);
    let mut client = request_in_flight(&server, &scratch, "one");
    nix::sys::signal::killpg(server.master, Signal::SIGINT).expect("the group of this server");
    server.log().wait_for("stopping");
    scratch.write("release", "");
    assert_eq!(client.receive().status, 200);
    server.wait().expect_status(0);
}

/// The master is small, runs no Python, and has one thread.
#[test]
fn the_master_has_one_thread_and_no_python() {
    let server = serve("hello", &[]);
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.master)).expect("the master runs").count();
    assert_eq!(threads, 1);
    assert!(process::resident_bytes(server.master) < 3 * 1024 * 1024, "{}", process::resident_bytes(server.master));
}
