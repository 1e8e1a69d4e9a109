//! Between workers: a request does not wait for a busy worker while another one is idle (DESIGN §4).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::{
    Address, Client, Held, Scratch, Server, SetAtEnd, each, pattern, process, serve, wait_for, wait_until,
};

const PID: &str = "GET /pid HTTP/1.1\r\nHost: a\r\n\r\n";

fn pid_of(client: &mut Client) -> String {
    client.ask(PID).expect_status(200).text().to_owned()
}

/// Starts so many workers and waits until each of them has answered.
#[track_caller]
pub fn serve_with(workers: usize, options: &[&str]) -> Server {
    let count = workers.to_string();
    let server = serve("busy", &[&["--workers", &count, "--access-logfile", "none"], options].concat());
    wait_for_answers_from(&server, workers);
    server
}

#[track_caller]
fn wait_for_answers_from(server: &Server, workers: usize) {
    let mut open = Vec::new();
    let mut seen = HashSet::new();
    wait_until("an answer of each worker", || {
        let mut client = server.connect();
        seen.insert(pid_of(&mut client));
        // Kept open, so that the workers with fewer connections get the next ones.
        open.push(client);
        seen.len() == workers
    });
}

/// Waits until no worker has more descriptors than another: a survivor as many as one that has never seen a client.
#[track_caller]
fn wait_until_clients_are_gone(workers: &[Pid]) {
    wait_until("the workers' descriptors to go", || {
        let counts: Vec<usize> = workers.iter().map(|&worker| process::descriptors(worker)).collect();
        counts.windows(2).all(|pair| pair[0] == pair[1])
    });
}

/// A call in one worker, and other connections that live in the same one.
struct Busy {
    pid: String,
    held: Held,
    others: Vec<Client>,
}

impl Busy {
    #[track_caller]
    fn on(address: &Address, others: usize) -> Busy {
        let mut first = Client::connect(address);
        let pid = pid_of(&mut first);
        let mut elsewhere = Vec::new();
        let mut found = Vec::new();
        wait_until("connections to one worker", || {
            let mut client = Client::connect(address);
            if pid_of(&mut client) == pid {
                found.push(client)
            } else {
                elsewhere.push(client)
            }
            found.len() == others
        });
        Busy { pid, held: Held::on(first, "/wait"), others: found }
    }

    /// Lets the call end, which must be in the worker that it began in.
    #[track_caller]
    fn finish(mut self) {
        self.held.gate.open();
        self.held.client.receive().expect(200, &self.pid);
    }
}

#[test]
fn an_idle_worker_takes_the_request_of_a_busy_one() {
    for workers in [2, 4] {
        let server = serve_with(workers, &[]);
        let mut busy = Busy::on(&server.addresses[0], 6);
        for round in 0..3 {
            for client in &mut busy.others {
                let start = Instant::now();
                assert_ne!(pid_of(client), busy.pid, "round {round}");
                assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
            }
        }
        busy.finish();
    }
}

#[test]
fn over_a_unix_socket() {
    let scratch = Scratch::new();
    let server = serve_with(2, &["--bind", &format!("unix:{}", scratch.text("socket"))]);
    let mut busy = Busy::on(&server.addresses[0], 3);
    for client in &mut busy.others {
        assert_ne!(pid_of(client), busy.pid);
        let answer = client.get("/peer").expect_status(200);
        assert_ne!(answer.text().lines().last(), Some(&*busy.pid));
    }
    busy.finish();
}

/// What the client has sent travels with its connection: the body, and what is behind it.
#[test]
fn a_body_and_what_is_behind_it_travel() {
    let server = serve_with(2, &[]);
    let mut busy = Busy::on(&server.addresses[0], 3);
    for (length, client) in [0, 1000, 30_000].into_iter().zip(&mut busy.others) {
        let body = pattern(length);
        let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        client.send([head.as_bytes(), &body, PID.repeat(20).as_bytes(), &PID.as_bytes()[..10]].concat());
        assert!(client.receive().expect_status(200).body == body, "{length} bytes came back changed");
        for _ in 0..20 {
            assert_ne!(client.receive().expect_status(200).text(), busy.pid);
        }
        client.send(&PID.as_bytes()[10..]);
        assert_ne!(client.receive().expect_status(200).text(), busy.pid);
    }
    busy.finish();
}

/// Half a head is read by a busy worker, the other half comes later: it is one request all the same.
#[test]
fn a_head_in_two_halves() {
    let server = serve_with(2, &[]);
    let mut busy = Busy::on(&server.addresses[0], 1);
    let client = &mut busy.others[0];
    client.send(&PID[..20]);
    wait_until("the first half to be read", || client.has_been_read());
    client.send(&PID[20..]);
    assert_ne!(client.receive().expect_status(200).text(), busy.pid);
    busy.finish();
}

/// What is too large to travel waits for its worker, and is right all the same.
#[test]
fn a_body_that_is_too_large_to_travel() {
    let server = serve_with(2, &[]);
    let mut busy = Busy::on(&server.addresses[0], 1);
    let body = pattern(1_000_000);
    let mut client = busy.others.remove(0);
    client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).send(&body);
    busy.finish();
    assert!(client.receive().expect_status(200).body == body, "it came back changed");
}

#[test]
fn addresses_are_right_after_a_move() {
    let server = serve_with(2, &["--bind", "127.0.0.1:0", "--bind", "127.0.0.1:0"]);
    for address in &server.addresses {
        let Address::Tcp(listening) = address else { panic!("{address} is not TCP") };
        let mut busy = Busy::on(address, 3);
        for client in &mut busy.others {
            let answer = client.get("/peer").expect_status(200);
            let lines: Vec<&str> = answer.text().lines().collect();
            let expected = ["127.0.0.1", &client.local_port().to_string(), &listening.port().to_string()];
            assert_eq!(lines[..3], expected);
            assert_ne!(lines[3], busy.pid);
        }
        busy.finish();
    }
}

/// Fresh connections go to whom has the fewest, so that nobody has many more than the others.
#[test]
fn fresh_connections_are_spread() {
    let server = serve_with(4, &[]);
    let workers = server.workers();
    wait_until_clients_are_gone(&workers);
    let mut clients: Vec<Client> = (0..64).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(PID);
    }
    clients.iter_mut().for_each(|client| drop(client.receive().expect_status(200)));
    let mut counts: HashMap<String, usize> = workers.iter().map(|worker| (worker.to_string(), 0)).collect();
    for client in &mut clients {
        // With all of them idle, it is answered where the connection lives.
        *counts.entry(pid_of(client)).or_default() += 1;
    }
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert!(counts.values().all(|count| (12..=20).contains(count)), "{counts:?}");
}

#[test]
fn without_passing_the_request_waits() {
    let server = serve_with(2, &["--no-passing"]);
    let mut busy = Busy::on(&server.addresses[0], 1);
    let mut client = busy.others.remove(0);
    client.send(PID);
    client.expect_silence(Duration::from_millis(300));
    let pid = busy.pid.clone();
    busy.finish();
    client.receive().expect(200, &pid);
}

/// What the clients of a server whose workers are killed have seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answered: AtomicUsize,
    ended: AtomicUsize,
}

/// Asks until told to stop; every response must be this request's own, and a connection may end only before one.
fn ask_in_a_loop(server: &Server, seen: &Seen, name: usize) {
    let mut client = server.connect();
    let mut number = 0;
    while !seen.stop.load(Ordering::Relaxed) {
        number += 1;
        let (tag, body) = (format!("{name}.{number};"), "b".repeat(number % 500));
        let pause = if number % 5 == 0 { "0.02" } else { "0" };
        let target = format!("/?tag={tag}&items=3&pause={pause}&whole=1");
        let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        match client.ask_or_end(head + &body) {
            Some(response) => {
                response.expect(200, &(body + &tag.repeat(3)));
                seen.answered.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                seen.ended.fetch_add(1, Ordering::Relaxed);
                client = server.connect();
            }
        }
    }
}

/// Connections are on their way to and from workers when these are killed: none hangs or is answered wrongly.
#[test]
fn workers_that_are_killed_under_load() {
    // Without the validator, whose iterator hides the length: so each response is one segment, there or not there.
    let server = serve("tagged:bare", &["--workers", "4", "--access-logfile", "none"]);
    let workers = || Some(server.workers()).filter(|workers| workers.len() == 4);
    wait_for("four workers", workers);
    let before = process::descriptors(server.master);
    let seen = Seen::default();
    std::thread::scope(|scope| {
        let _stop = SetAtEnd(&seen.stop);
        let clients: Vec<_> = (0..16)
            .map(|name| {
                scope.spawn({
                    let (server, seen) = (&server, &seen);
                    move || ask_in_a_loop(server, seen, name)
                })
            })
            .collect();
        for round in 0..6 {
            let answered = seen.answered.load(Ordering::Relaxed);
            let is_going_on = || seen.answered.load(Ordering::Relaxed) > answered + 300;
            wait_until("some answers", || is_going_on() || clients.iter().any(|client| client.is_finished()));
            let workers = server.workers();
            process::signal(workers[round % workers.len()], Signal::SIGKILL);
        }
    });
    let (answered, ended) = (seen.answered.into_inner(), seen.ended.into_inner());
    assert!(ended <= 6 * 16, "{ended} connections ended beside {answered} answers");
    let after: Vec<Pid> = wait_for("four workers", workers);
    wait_until("the master's descriptors to go", || process::descriptors(server.master) <= before);
    wait_until_clients_are_gone(&after);
    assert!(!server.log().text().contains("panicked"), "{}", server.log().text());
}

/// A worker that is killed with a call in it takes that call with it, and no other.
#[test]
fn the_worker_that_has_taken_a_request_is_killed() {
    each(
        &[1, 8],
        |others| format!("{others} other connections"),
        |&others| {
            let server = serve_with(2, &[]);
            let mut busy = Busy::on(&server.addresses[0], others);
            let first = &mut busy.others[0];
            let taker = pid_of(first);
            assert_ne!(taker, busy.pid);
            process::signal(Pid::from_raw(taker.parse().expect("a process id")), Signal::SIGKILL);
            // That connection was the taker's; the others still belong to the busy worker, whose sibling comes back.
            assert_eq!(first.read_to_end(), b"");
            for client in &mut busy.others[1..] {
                assert_ne!(pid_of(client), busy.pid);
            }
            busy.finish();
        },
    );
}
