//! Deadlines: of the application, whatever it is stuck in, and of clients, whatever the application does meanwhile.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::harness::{Client, Held, Server, each, process, serve, wait_for, wait_until};

/// A worker's connections, found by asking where each lives; the app answers that at /pid.
#[track_caller]
pub fn connections_of(server: &Server, worker: Pid, count: usize) -> Vec<Client> {
    let mut found = Vec::new();
    let mut others = Vec::new();
    wait_until("connections to that worker", || {
        let mut client = server.connect();
        let lives_there = client.get("/pid").text() == worker.to_string();
        if lives_there {
            found.push(client)
        } else {
            others.push(client)
        }
        found.len() == count
    });
    found
}

fn wait_for_workers(server: &Server, count: usize) -> Vec<Pid> {
    wait_for("the workers", || {
        let workers = server.workers();
        (workers.len() == count).then_some(workers)
    })
}

/// What an operator needs to find the cause: which request, how old, and where it is stuck.
#[track_caller]
fn expect_stuck_request_in_log(server: &Server, path: &str) {
    wait_until("the request in the log", || {
        let log = server.log().text();
        // `… GET /sleep … 1.002 s …`: the age behind the request.
        let is_age = |word: &str| word.trim_end_matches('s').parse().is_ok_and(|age: f64| (1.0..10.0).contains(&age));
        let mut requests = log.lines().filter_map(|line| line.split_once("GET ")?.1.split_once(path));
        requests.any(|(_, rest)| rest.split([' ', ',', ':', '(', ')']).any(is_age))
    });
    server.log().wait_for("stuck.py");
}

/// In a wait without the GIL, in Python that never ends, in C that keeps the GIL: the client is answered all the same.
#[test]
fn a_call_that_does_not_come_back() {
    each(
        &["/sleep", "/loop", "/gil"],
        |path| (*path).to_owned(),
        |path| {
            let server = serve("stuck", &["--timeout", "1", "--graceful-timeout", "1"]);
            let before = server.workers();
            let start = Instant::now();
            let mut client = server.connect();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = client.receive().expect_status(504);
            let elapsed = start.elapsed();
            assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&elapsed), "{elapsed:?}");
            assert!(response.announces_close());
            client.expect_end();
            expect_stuck_request_in_log(&server, path);
            let pid = server.get("/pid").expect_status(200).text().to_owned();
            assert_ne!(pid, before[0].to_string());
            wait_until("the end of the stuck worker", || !process::is_running(before[0]));
            assert_eq!(wait_for_workers(&server, 1)[0].to_string(), pid);
        },
    );
}

/// A status has been sent already, so that only the missing end can tell that something went wrong.
#[test]
fn a_response_that_does_not_go_on() {
    each(
        &["/sleep", "/loop", "/gil"],
        |path| (*path).to_owned(),
        |path| {
            let server = serve("stuck", &["--timeout", "1", "--graceful-timeout", "1"]);
            let mut client = server.connect();
            client.send(format!("GET {path}?started=1 HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.receive_cut().body, b"first");
            expect_stuck_request_in_log(&server, path);
            server.get("/pid").expect_status(200);
        },
    );
}

/// Those who share the worker are not to blame: they get the graceful timeout.
#[test]
fn the_neighbour_in_another_thread_finishes() {
    let server = serve("stuck", &["--timeout", "2", "--threads", "2", "--graceful-timeout", "10"]);
    let worker = server.workers()[0];
    let mut stuck = server.connect();
    let start = Instant::now();
    stuck.send("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n");
    // So much younger that its own deadline does not come first.
    wait_until("the neighbour's time", || start.elapsed() > Duration::from_millis(1000));
    let mut neighbour = Held::at(&server, "/wait");
    stuck.receive().expect_status(504);
    neighbour.gate.open();
    neighbour.client.receive().expect(200, &worker.to_string());
    // The other worker is there long before the old one has been given up.
    let pid = server.get("/pid").expect_status(200).text().to_owned();
    assert_ne!(pid, worker.to_string());
}

/// They were idle when it happened, and are none the wiser: they live in another worker now.
#[test]
fn the_connections_of_a_stuck_worker_go_on() {
    let server = serve("stuck", &["--workers", "2", "--timeout", "1", "--graceful-timeout", "1"]);
    wait_for_workers(&server, 2);
    let mut stuck = server.connect();
    let worker = Pid::from_raw(stuck.get("/pid").text().parse().expect("a process id"));
    let mut others = connections_of(&server, worker, 4);
    stuck.send("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n");
    stuck.receive().expect_status(504);
    for client in &mut others {
        let pid = client.get("/pid").expect_status(200).text().to_owned();
        assert_ne!(pid, worker.to_string());
    }
    wait_until("the end of the stuck worker", || !process::is_running(worker));
    for client in &mut others {
        client.get("/pid").expect_status(200);
    }
}

#[test]
fn without_passing_the_connections_of_a_stuck_worker_end() {
    let options = ["--workers", "2", "--timeout", "1", "--graceful-timeout", "1", "--no-passing"];
    let server = serve("stuck", &options);
    wait_for_workers(&server, 2);
    let mut stuck = server.connect();
    let worker = Pid::from_raw(stuck.get("/pid").text().parse().expect("a process id"));
    let others = connections_of(&server, worker, 4);
    stuck.send("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n");
    stuck.receive().expect_status(504);
    for mut client in others {
        assert_eq!(client.read_to_end(), b"");
    }
}

// Deadlines of clients: the same ones, with the only thread idle and in a long call.

/// What a client sends and does not end, the option that limits it, and the status that tells.
const LATE: [(&str, &str, Option<u16>); 4] = [
    ("--header-timeout", "GET /pid HTTP/1.1\r\nHost: a\r\n", Some(408)),
    ("--body-timeout", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello", Some(408)),
    ("--body-timeout", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", Some(408)),
    ("--keep-alive", "", None),
];

#[test]
fn clients_that_are_late_during_a_long_call() {
    each(
        &LATE,
        |(option, sent, _)| format!("{option} {sent:?}"),
        |(option, sent, status)| {
            let server = serve("busy", &[option, "1"]);
            let mut client = server.connect();
            client.get("/pid").expect_status(200);
            let held = Held::at(&server, "/wait");
            let start = Instant::now();
            client.send(sent);
            assert_eq!(client.status_or_end(), *status);
            let elapsed = start.elapsed();
            // An idle connection has been waiting since its response, before the long call.
            let at_least = Duration::from_millis(if sent.is_empty() { 0 } else { 900 });
            assert!((at_least..Duration::from_secs(5)).contains(&elapsed), "{elapsed:?}");
            held.finish();
        },
    );
}

#[test]
fn a_reader_that_is_late_during_a_long_call() {
    let server = serve("busy", &["--send-timeout", "1"]);
    let mut waiting = server.connect();
    waiting.get("/pid").expect_status(200);
    let mut client = Client::connect_with_little_room(&server.addresses[0]);
    client.send("GET /big?bytes=50000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    client.receive_head("GET").expect_status(200);
    let held = Held::on(waiting, "/wait");
    let worker = server.workers()[0];
    let before = process::descriptors(worker);
    wait_until("the connection to be given up", || process::descriptors(worker) < before);
    assert!(client.read_to_end().len() < 50_000_000);
    held.finish();
}

/// It has nothing left but the call that does not come back, and leaves before its time is up.
#[test]
fn a_stuck_worker_leaves_when_nothing_is_left() {
    let cases: [&[&str]; 4] =
        [&["--workers", "2"], &["--workers", "2", "--no-passing"], &["--threads", "2", "--no-passing"], &[]];
    each(
        &cases,
        |options| options.join(" "),
        |options| {
            let server = serve("stuck", &[&["--timeout", "1", "--graceful-timeout", "60"], *options].concat());
            let mut client = server.connect();
            let worker = Pid::from_raw(client.get("/pid").text().parse().expect("a process id"));
            client.get("/sleep").expect_status(504);
            client.expect_end();
            drop(client);
            wait_until("the end of the stuck worker", || !process::is_running(worker));
        },
    );
}

/// A call that comes back late leaves the client alone that has had its answer and does not close: that one is given a
/// few seconds, and then the worker leaves.
#[test]
fn a_stuck_call_that_comes_back() {
    let server = serve("stuck", &["--timeout", "1", "--graceful-timeout", "60"]);
    let worker = server.workers()[0];
    let mut held = Held::at(&server, "/wait");
    held.client.receive().expect_status(504);
    held.gate.open();
    wait_until("the end of the stuck worker", || !process::is_running(worker));
}

/// A request that is too large to move to another worker is refused at once, and not cut with the worker's end.
#[test]
fn a_large_request_behind_a_stuck_call() {
    for workers in ["1", "2"] {
        let server = serve("stuck", &["--timeout", "1", "--graceful-timeout", "60", "--workers", workers]);
        let mut client = server.connect();
        let worker = Pid::from_raw(client.get("/pid").text().parse().expect("a process id"));
        let mut stuck = connections_of(&server, worker, 1).remove(0);
        stuck.send("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n");
        wait_until("the request to be read", || stuck.has_been_read());
        let body = "x".repeat(1_000_000);
        client.send(format!("POST /pid HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        client.receive().expect_status(503);
        stuck.receive().expect_status(504);
    }
}
