//! `--threads`: several requests are in the application at once, and everything else stays as it is with one.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Client, Held, Server, each, process, serve, wait_until};

/// Sends the same target on each connection, so that the calls can meet, and reads all the answers.
#[track_caller]
fn ask_all(clients: &mut [Client], target: &str, status: u16) -> Vec<String> {
    for client in &mut *clients {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    clients.iter_mut().map(|client| client.receive().expect_status(status).text().to_owned()).collect()
}

fn connect(server: &Server, count: usize) -> Vec<Client> {
    (0..count).map(|_| server.connect()).collect()
}

#[test]
fn the_environ_tells_whether_calls_can_overlap() {
    for (threads, is_multithread) in [("1", "False"), ("2", "True"), ("16", "True")] {
        let server = serve("environ", &["--threads", threads]);
        let line = format!("wsgi.multithread={is_multithread}\n");
        assert!(server.get("/").text().contains(&line), "{threads} threads");
    }
}

/// Each of the four waits in the application for the other three.
#[test]
fn as_many_calls_as_threads_at_once() {
    let server = serve("threads", &["--threads", "4"]);
    let mut clients = connect(&server, 4);
    for _ in 0..20 {
        let names = ask_all(&mut clients, "/name?parties=4", 200);
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 4, "{names:?}");
        // One of them is the thread in which Python was started.
        let is_named = |name: &String| name.starts_with("minicorn") || name == "MainThread";
        assert!(names.iter().all(is_named), "{names:?}");
        assert!(names.iter().filter(|name| name.starts_with("minicorn")).count() >= 3, "{names:?}");
    }
}

#[test]
fn one_more_waits_for_a_thread() {
    let server = serve("gate", &["--threads", "4"]);
    let mut fifth = server.connect();
    fifth.get("/").expect_status(200);
    let mut held: Vec<Held> = (0..4).map(|_| Held::at(&server, "/before")).collect();
    fifth.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    fifth.expect_silence(Duration::from_millis(100));
    held.swap_remove(2).finish();
    fifth.receive().expect_status(200);
    held.into_iter().for_each(|held| drop(held.finish()));
}

#[test]
fn threads_do_not_multiply() {
    let server = serve("threads", &["--threads", "4"]);
    let worker = server.workers()[0];
    let mut clients = connect(&server, 4);
    ask_all(&mut clients, "/count?parties=4", 200);
    let known = || server.get("/count").expect_status(200).text().to_owned();
    let before = (known(), process::threads(worker).len());
    for _ in 0..50 {
        ask_all(&mut clients, "/count?parties=4", 200);
    }
    assert_eq!((known(), process::threads(worker).len()), before);
}

/// Python's own limit must be reached before the end of a thread's stack, in every thread.
#[test]
fn recursion_without_end() {
    for threads in [1, 4] {
        let server = serve("threads", &["--threads", &threads.to_string()]);
        let worker = server.workers();
        for path in ["/recurse", "/recurse-in-c", "/recurse"] {
            ask_all(&mut connect(&server, threads), &format!("{path}?parties={threads}"), 500);
        }
        wait_until("the tracebacks", || server.log().count("RecursionError") >= 3 * threads);
        assert_eq!(server.workers(), worker, "the worker died");
    }
}

/// One connection's part of the mixed load: each response is made of this request's own bytes.
fn ask_mixed(mut client: Client, connection: usize, requests: usize) {
    for number in 0..requests {
        let (tag, items) = (format!("<{connection}.{number}>"), number % 7);
        let pause = if number % 3 == 0 { "0.002" } else { "0" };
        let whole = if number % 2 == 0 { "&whole=1" } else { "" };
        let body = tag.repeat(number * 50);
        let target = format!("/?tag={tag}&items={items}&pause={pause}{whole}");
        let response = client.ask(match number % 4 {
            0 => format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!(
                "POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
            _ => format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        });
        let sent = if number % 4 == 0 { "" } else { &body };
        response.expect(200, &format!("{sent}{}", tag.repeat(items)));
    }
}

#[test]
fn mixed_requests_on_16_connections() {
    each(
        &["1", "4", "16"],
        |threads| format!("{threads} threads"),
        |threads| {
            let server = serve("tagged", &["--threads", threads, "--access-logfile", "none"]);
            std::thread::scope(|scope| {
                for (connection, client) in connect(&server, 16).into_iter().enumerate() {
                    scope.spawn(move || ask_mixed(client, connection, 13));
                }
            });
            assert!(!server.log().text().contains("Traceback"), "{}", server.log().text());
        },
    );
}

/// Calls that sleep overlap: all 32 take less than half of what they take one after another.
#[test]
fn calls_that_sleep_overlap() {
    let server = serve("tagged", &["--threads", "4"]);
    let mut clients = connect(&server, 4);
    let start = Instant::now();
    for _ in 0..8 {
        ask_all(&mut clients, "/?tag=x&items=1&pause=0.1", 200);
    }
    assert!(start.elapsed() < Duration::from_millis(1600), "{:?}", start.elapsed());
}

/// The threads end before the interpreter does, and the requests in them before the threads.
#[test]
fn threads_are_joined_at_the_end() {
    let server = serve("at_exit", &["--threads", "4", "--access-logfile", "none"]);
    let mut clients = connect(&server, 4);
    ask_all(&mut clients, "/", 200);
    let finished = server.stop().expect_status(0);
    // Threads that print at once may put the line ends of all behind the texts of all.
    assert_eq!(finished.stdout.matches("printed and not flushed").count(), 4, "{}", finished.stdout);
    assert_eq!(finished.count("the interpreter ends"), 1, "{}", finished.stderr);
}

#[test]
fn requests_in_all_threads_are_finished_at_the_end() {
    let server = serve("gate", &["--threads", "4"]);
    let mut held: Vec<Held> = (0..4).map(|_| Held::at(&server, "/before")).collect();
    let worker = server.workers()[0];
    server.signal(Signal::SIGTERM);
    server.log().wait_for("stopping");
    for held in held.drain(..) {
        assert!(process::is_running(worker));
        held.finish();
    }
    server.wait().expect_status(0);
}

/// The thread that polls sleeps when the last call returns on another one.
#[test]
fn the_end_wakes_the_thread_that_polls() {
    let server = serve("busy", &["--threads", "2"]);
    let held = Held::at(&server, "/wait");
    // Served by the thread that polls meanwhile.
    server.get("/pid").expect_status(200);
    server.signal(Signal::SIGTERM);
    server.log().wait_for("stopping");
    held.finish();
    let start = Instant::now();
    server.wait().expect_status(0);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// The threads that are woken to poll cannot, since they need the GIL: somebody polls all the same.
#[test]
fn a_call_that_keeps_the_gil_while_it_waits() {
    let server = serve("stuck", &["--threads", "4", "--timeout", "5", "--graceful-timeout", "1"]);
    let mut stuck = server.connect();
    let mut others = connect(&server, 30);
    others.iter_mut().for_each(|other| drop(other.get("/pid").expect_status(200)));
    stuck.send("GET /gil HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the request to be read", || stuck.has_been_read());
    for (number, other) in others.iter_mut().enumerate() {
        let start = Instant::now();
        other.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").receive().expect_status(400);
        assert!(start.elapsed() < Duration::from_secs(1), "number {number} after {:?}", start.elapsed());
        // A thread is woken every few milliseconds, until none is left.
        std::thread::sleep(Duration::from_millis(10));
    }
}
