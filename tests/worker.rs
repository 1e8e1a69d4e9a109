//! One worker: its deadlines, its limits, and what it survives.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Client, Program, Scratch, Server, each, process, serve, wait_for, wait_until};

// Deadlines.

/// Checks that the server answers with `status`, or none, and ends the connection after about a second.
fn expect_end_after_a_second(options: &[&str], sent: &str, status: Option<u16>) {
    let server = serve("echo", options);
    let mut client = server.connect();
    let start = Instant::now();
    client.send(sent);
    assert_eq!(client.status_or_end(), status, "{options:?} {sent:?}");
    let elapsed = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&elapsed), "{options:?}: {elapsed:?}");
}

#[test]
fn a_head_that_does_not_come() {
    expect_end_after_a_second(&["--header-timeout", "1"], "GET / HTTP/1.1\r\nHost: a\r\n", Some(408));
}

/// The deadline runs from the first byte: one byte now and then does not move it.
#[test]
fn a_head_that_dribbles() {
    let server = serve("echo", &["--header-timeout", "1"]);
    let mut client = server.connect();
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nX: ");
    wait_until("the server to lose its patience", || {
        std::thread::sleep(Duration::from_millis(50));
        client.try_send("x").is_err() || start.elapsed() > Duration::from_secs(3)
    });
    assert_eq!(client.status_or_end().unwrap_or(408), 408);
}

#[test]
fn a_body_that_does_not_come() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\n";
    expect_end_after_a_second(&["--body-timeout", "1"], &format!("{head}Content-Length: 10\r\n\r\nhello"), Some(408));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhel");
    expect_end_after_a_second(&["--body-timeout", "1"], &chunked, Some(408));
}

/// The body's deadline is between two reads: who sends slowly but steadily may go on.
#[test]
fn a_body_that_comes_slowly() {
    let server = serve("echo", &["--body-timeout", "1"]);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
    let start = Instant::now();
    for piece in 1..=8 {
        wait_until("the time for the next byte", || start.elapsed() > piece * Duration::from_millis(250));
        client.send("x");
    }
    client.receive().expect(200, "xxxxxxxx");
}

#[test]
fn an_idle_connection_is_closed() {
    expect_end_after_a_second(&["--keep-alive", "1"], "", None);
    let server = serve("echo", &["--keep-alive", "1"]);
    let mut client = server.connect();
    client.get("/").expect(200, "");
    let start = Instant::now();
    client.expect_end();
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn no_keep_alive_at_all() {
    let server = serve("echo", &["--keep-alive", "0"]);
    let mut client = server.connect();
    assert!(client.get("/").expect(200, "").announces_close());
    client.expect_end();
}

#[test]
fn a_response_that_nobody_reads_is_given_up() {
    let server = serve("big", &["--send-timeout", "1", "--worker-connections", "1"]);
    let mut client = server.connect();
    client.send("GET /?bytes=50000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    // There is room for one connection: the second is served when the first has been given up.
    assert_eq!(server.get("/?bytes=4").body.len(), 4);
    client.receive_cut();
}

/// A worker whose own watchdog is stuck, here since all of it is stopped, is replaced by the master.
#[test]
fn a_worker_that_does_not_respond() {
    let server = serve("gate", &["--timeout", "1"]);
    let before = server.workers();
    let mut client = server.connect();
    client.send("GET /before?release=/no/such/file HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the call", || client.has_been_read());
    let start = Instant::now();
    wait_until("the watchdog to see it", || start.elapsed() > Duration::from_millis(200));
    process::signal(before[0], Signal::SIGSTOP);
    server.log().wait_for("does not respond for 1 s");
    assert_eq!(client.status_or_end(), None);
    let after = wait_for("another worker", || Some(server.workers()).filter(|now| now.len() == 1 && *now != before));
    server.get("/").expect(200, &after[0].to_string());
}

/// Without a limit a request may take its time; the check waits for two times the limit of the case above.
#[test]
fn no_request_deadline() {
    let scratch = Scratch::new();
    let server = serve("gate", &["--timeout", "0"]);
    let mut client = server.connect();
    client.send(format!("GET /before?release={} HTTP/1.1\r\nHost: a\r\n\r\n", scratch.text("release")));
    let start = Instant::now();
    wait_until("two seconds", || start.elapsed() > Duration::from_secs(2));
    scratch.write("release", "");
    assert_eq!(client.receive().status, 200);
}

// Limits.

/// A connection more than may be open waits in the backlog until there is room.
#[test]
fn worker_connections() {
    let server = serve("count", &["--worker-connections", "3", "--keep-alive", "60"]);
    let mut open: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for (number, client) in (1..).zip(&mut open) {
        client.get("/").expect(200, &number.to_string());
    }
    let mut waiting = server.connect();
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for number in 4..50 {
        // Had the waiting request been taken, the count would skip a number.
        open[0].get("/").expect(200, &number.to_string());
    }
    drop(open);
    waiting.receive().expect(200, "50");
}

/// Out of descriptors: said once, nobody dropped, and it goes on when there are some again.
#[test]
fn out_of_file_descriptors() {
    let arguments = ["--bind", "127.0.0.1:0", "tests.apps.hello:app"];
    let server = Server::start(Program::under(&["prlimit", "--nofile=70:70"], &arguments));
    let mut clients: Vec<Client> = (0..90).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    server.log().wait_for("cannot accept");
    for mut client in clients {
        // Each closes after its answer, and so makes room for one that waits.
        client.receive().expect(200, "Hello, world!\n");
    }
    server.get("/").expect(200, "Hello, world!\n");
    assert_eq!(server.log().count("cannot accept"), 1, "{}", server.log().text());
}

// Clients that leave.

#[test]
fn clients_that_leave_at_any_moment() {
    let server = serve("big", &[]);
    let worker = server.workers();
    let whole = "GET /?bytes=1000000 HTTP/1.1\r\nHost: a\r\n\r\n";
    for sent in ["", "GET /", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe", whole, &whole.repeat(20)] {
        for leave in [drop::<Client>, Client::reset] {
            let mut client = server.connect();
            client.send(sent);
            leave(client);
        }
    }
    assert_eq!(server.get("/?bytes=4").body.len(), 4);
    assert_eq!(server.workers(), worker, "the worker died");
    assert!(!server.log().text().contains("Traceback"), "{}", server.log().text());
}

// What the app finds around it.

/// Descriptors are close-on-exec, and no signal stays blocked: a program that the app starts inherits neither.
#[test]
fn programs_started_by_the_app_inherit_nothing() {
    let server = serve("child_process", &["--workers", "2"]);
    let run = |command: &str| {
        let response = server.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Command: {command}\r\n\r\n"));
        response.expect_status(200).text().to_owned()
    };
    // What whoever runs the tests left open is inherited here too.
    let here = Command::new("ls").arg("/proc/self/fd").output().expect("ls").stdout;
    assert_eq!(run("ls /proc/self/fd"), String::from_utf8_lossy(&here));
    assert_eq!(run("grep SigBlk /proc/self/status"), "SigBlk:\t0000000000000000\n");
}

/// The worker waits for events without the GIL.
#[test]
fn threads_of_the_app_run_while_the_worker_is_idle() {
    let scratch = Scratch::new();
    let server = serve("background", &["--env", &format!("TICKED={}", scratch.text("ticked"))]);
    server.get("/").expect(200, "ticking");
    for _ in 0..3 {
        wait_until("a tick", || scratch.path("ticked").exists());
        std::fs::remove_file(scratch.path("ticked")).expect("it was there");
    }
}

/// A worker does not just vanish: what Python has in its buffers is written, what is registered is called.
#[test]
fn the_interpreter_is_finalized() {
    let server = serve("at_exit", &["--access-logfile", "none"]);
    server.get("/").expect(200, "printed");
    let finished = server.stop().expect_status(0);
    assert_eq!(finished.stdout, "printed and not flushed\n");
    assert_eq!(finished.count("the interpreter ends"), 1, "{}", finished.stderr);
}

// Workers that die.

#[test]
fn a_worker_that_dies_is_replaced_and_its_end_logged() {
    let server = serve("crash", &[]);
    let cases = [("/exit", "exited with status 7"), ("/segfault", "SIGSEGV"), ("/abort", "SIGABRT")];
    for (path, logged) in cases {
        let before: u32 = server.get("/").text().parse().expect("a process id");
        let mut client = server.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.status_or_end(), None, "{path}");
        server.log().wait_for(logged);
        let line = server.log().text().lines().find(|line| line.contains(logged)).map(str::to_owned);
        assert!(line.is_some_and(|line| line.contains(&before.to_string())), "no pid with {logged:?}");
        // The next one answers; what is sent meanwhile waits in the backlog.
        assert_ne!(server.get("/").text(), before.to_string());
    }
}

#[test]
fn a_worker_that_is_killed() {
    let server = serve("crash", &["--workers", "2"]);
    let victims = wait_for("two workers", || Some(server.workers()).filter(|workers| workers.len() == 2));
    process::signal(victims[0], Signal::SIGKILL);
    server.log().wait_for("SIGKILL (out of memory?)");
    let both = || Some(server.workers()).filter(|workers| workers.len() == 2 && !workers.contains(&victims[0]));
    let after = wait_for("a new worker", both);
    assert!(after.contains(&victims[1]), "the other worker was replaced too");
    assert!(process::zombies(server.master).is_empty());
    server.get("/");
}

/// Asked by hand, one worker leaves as gracefully as all do, and another one comes.
#[test]
fn a_worker_that_is_asked_to_leave() {
    let scratch = Scratch::new();
    let server = serve("gate", &[]);
    let worker = server.workers()[0];
    let mut client = server.connect();
    let (entered, release) = (scratch.text("entered"), scratch.text("release"));
    client.send(format!("GET /before?entered={entered}&release={release} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_until("the request to enter the app", || scratch.path("entered").exists());
    process::signal(worker, Signal::SIGTERM);
    scratch.write("release", "");
    client.receive().expect(200, &worker.to_string());
    wait_until("the end of the worker", || !process::is_running(worker));
    let next = wait_for("another worker", || server.workers().first().copied());
    server.get(&format!("/before?release={release}")).expect(200, &next.to_string());
}

/// A signal that a terminal or an operator sends to the whole group must not kill a worker by its default action.
#[test]
fn signals_that_a_worker_does_not_mind() {
    let server = serve("crash", &[]);
    let worker = server.workers()[0];
    each(
        &[Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH, Signal::SIGTTIN, Signal::SIGPIPE],
        |signal| signal.to_string(),
        |&signal| {
            process::signal(worker, signal);
            server.get("/").expect(200, &worker.to_string());
        },
    );
}

/// Finished responses wait for the end of their batch, but not for a slow call in it. While the worker is held up, both
/// requests arrive, so that they are of one batch.
#[test]
fn a_finished_response_does_not_wait_for_a_slow_neighbour() {
    let server = serve("gate", &[]);
    let scratch = Scratch::new();
    let [mut holder, mut quick, mut slow] = std::array::from_fn(|_| server.connect());
    for client in [&mut holder, &mut quick, &mut slow] {
        assert_eq!(client.get("/").status, 200);
    }
    let gated = |name: &str| {
        let (entered, release) = (scratch.text(&format!("{name}-entered")), scratch.text(&format!("{name}-release")));
        format!("GET /before?entered={entered}&release={release} HTTP/1.1\r\nHost: a\r\n\r\n")
    };
    holder.send(gated("holder"));
    wait_until("the first call", || scratch.path("holder-entered").exists());
    quick.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    slow.send(gated("slow"));
    scratch.write("holder-release", "");
    wait_until("the slow call", || scratch.path("slow-entered").exists());
    assert_eq!(quick.receive().status, 200);
    scratch.write("slow-release", "");
    assert_eq!(slow.receive().status, 200);
    assert_eq!(holder.receive().status, 200);
}
