//! How a worker leaves: its connections move to siblings and nobody notices, or, when the whole server stops, everybody
//! who has come is answered and no connection is reset.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::engine_deadlines::connections_of;
use crate::engine_passing::serve_with;
use crate::harness::{Client, Held, Scratch, Server, SetAtEnd, each, pattern, process, serve, wait_for, wait_until};

const PID: &str = "GET /pid HTTP/1.1\r\nHost: a\r\n\r\n";

fn pid_of(client: &mut Client) -> Pid {
    pid_in(client.ask(PID).expect_status(200).text())
}

fn ask_all(clients: &mut [Client]) -> Vec<Pid> {
    clients.iter_mut().map(pid_of).collect()
}

fn pid_in(text: &str) -> Pid {
    Pid::from_raw(text.parse().expect("a process id"))
}

#[track_caller]
fn wait_for_end_of(worker: Pid) {
    wait_until("the end of the worker", || !process::is_running(worker));
}

#[track_caller]
fn expect_nothing_unusual_in(server: &Server) {
    let log = server.log().text();
    assert!(!log.contains("ERROR") && !log.contains("WARN") && !log.contains("panicked"), "{log}");
}

// Handing over.

/// They live in another worker afterwards, about as many in each; the client keeps its socket and sees nothing.
#[test]
fn idle_connections_survive_every_worker() {
    each(
        &["1", "4"],
        |threads| format!("{threads} threads"),
        |threads| {
            let server = serve_with(4, &["--threads", threads]);
            let mut clients: Vec<Client> = (0..48).map(|_| server.connect()).collect();
            let mut fresh: Vec<Client> = (0..4).map(|_| server.connect()).collect();
            ask_all(&mut clients);
            for worker in server.workers() {
                process::signal(worker, Signal::SIGTERM);
                wait_for_end_of(worker);
                let pids = ask_all(&mut clients);
                assert!(!pids.contains(&worker));
                wait_until("the successor", || server.workers().len() == 4);
            }
            // One that never sent anything is no worse off.
            ask_all(&mut fresh);
            expect_nothing_unusual_in(&server);
        },
    );
}

#[test]
fn connections_are_spread_evenly() {
    let server = serve_with(4, &[]);
    let workers = server.workers();
    let mut clients: Vec<Client> = (0..40).map(|_| server.connect()).collect();
    ask_all(&mut clients);
    process::signal(workers[0], Signal::SIGTERM);
    wait_for_end_of(workers[0]);
    let pids = ask_all(&mut clients);
    for worker in &workers[1..] {
        let count = pids.iter().filter(|&pid| pid == worker).count();
        // Ten of the forty have moved, three or four to each, or some of them to the successor.
        assert!((8..=17).contains(&count), "{count} of 40 in one of the workers that stay");
    }
}

/// What clients have seen of a server whose workers leave one after the other.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answered: AtomicUsize,
}

impl Seen {
    /// Checks responses until told to stop; any other end of a connection is a panic.
    fn ask_in_a_loop(&self, mut ask: impl FnMut(usize) -> usize) {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let count = ask(number);
            self.answered.fetch_add(count, Ordering::Relaxed);
        }
    }
}

fn echo(body: &[u8]) -> Vec<u8> {
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn get(server: &Server, seen: &Seen) {
    let mut client = server.connect();
    seen.ask_in_a_loop(|_| {
        assert!(!client.ask(PID).expect_status(200).announces_close());
        1
    });
}

fn get_now_and_then(server: &Server, seen: &Seen) {
    let mut client = server.connect();
    seen.ask_in_a_loop(|number| {
        std::thread::sleep(Duration::from_millis(7 * (number as u64 % 10)));
        pid_of(&mut client);
        1
    });
}

/// The largest bodies do not fit into a message to a sibling; all are sent in two halves.
fn post(server: &Server, seen: &Seen) {
    let mut client = server.connect();
    seen.ask_in_a_loop(|number| {
        let body = pattern(number * 7919 % 100_000);
        let request = echo(&body);
        let (first, second) = request.split_at(request.len() / 2);
        client.send(first);
        std::thread::sleep(Duration::from_millis(number as u64 % 3));
        assert!(client.send(second).receive().expect_status(200).body == body, "the body came back changed");
        1
    });
}

fn pipeline(server: &Server, seen: &Seen) {
    let mut client = server.connect();
    seen.ask_in_a_loop(|number| {
        let body = pattern(number % 1000);
        client.send([&echo(&body), PID.as_bytes(), &echo(&body)].concat());
        assert!(client.receive().expect_status(200).body == body);
        pid_in(client.receive().expect_status(200).text());
        assert!(client.receive().expect_status(200).body == body);
        3
    });
}

fn connect_each_time(server: &Server, seen: &Seen) {
    seen.ask_in_a_loop(|_| {
        pid_of(&mut server.connect());
        1
    });
}

/// No request is lost and no connection ends, whatever clients do at the moment.
#[test]
fn workers_leave_under_load() {
    let kinds: [fn(&Server, &Seen); 5] = [get, get_now_and_then, post, pipeline, connect_each_time];
    for options in [&["--threads", "1"], &["--threads", "4"]] {
        let server = serve_with(4, options);
        let seen = Seen::default();
        std::thread::scope(|scope| {
            let _stop = SetAtEnd(&seen.stop);
            let clients: Vec<_> = kinds
                .iter()
                .flat_map(|&kind| [kind; 3])
                .map(|kind| {
                    let (server, seen) = (&server, &seen);
                    scope.spawn(move || kind(server, seen))
                })
                .collect();
            for round in 0..20 {
                let answered = seen.answered.load(Ordering::Relaxed);
                let is_going_on = || seen.answered.load(Ordering::Relaxed) > answered + 100;
                wait_until("some answers", || is_going_on() || clients.iter().any(|client| client.is_finished()));
                let worker = wait_for("a worker", || server.workers().get(round % 4).copied());
                // It may just have left.
                _ = kill(worker, Signal::SIGTERM);
            }
        });
        expect_nothing_unusual_in(&server);
    }
}

/// The half of a head moves with its connection, the half of a body stays with its worker until it is answered.
#[test]
fn half_sent_requests_complete() {
    let server = serve_with(2, &[]);
    let worker = server.workers()[0];
    let mut clients = connections_of(&server, worker, 3);
    let body = pattern(1000);
    let post = echo(&body);
    let [head, body_client, pipelined] = &mut clients[..] else { panic!("three clients") };
    head.send(&PID[..20]);
    body_client.send(&post[..post.len() - 100]);
    pipelined.send(PID).send(&PID[..25]);
    for client in [&*head, &*body_client, &*pipelined] {
        wait_until("it to be read", || client.has_been_read());
    }
    pid_in(pipelined.receive().expect_status(200).text());
    let before = process::descriptors(worker);
    process::signal(worker, Signal::SIGTERM);
    wait_until("two of its connections to move", || process::descriptors(worker) == before - 2);
    head.send(&PID[20..]);
    assert_ne!(pid_in(head.receive().expect_status(200).text()), worker);
    pipelined.send(&PID[25..]);
    assert_ne!(pid_in(pipelined.receive().expect_status(200).text()), worker);
    assert!(process::is_running(worker), "it has left a request behind");
    body_client.send(&post[post.len() - 100..]);
    let response = body_client.receive().expect_status(200);
    assert!(response.body == body && !response.announces_close());
    assert_ne!(pid_of(body_client), worker);
    wait_for_end_of(worker);
}

/// Its other connections move at once, and that one when it has its response.
#[test]
fn a_worker_in_a_long_call_passes_its_other_connections() {
    each(
        &["1", "2"],
        |threads| format!("{threads} threads"),
        |threads| {
            let server = serve_with(2, &["--threads", threads]);
            let worker = server.workers()[0];
            let mut clients = connections_of(&server, worker, 5);
            let mut held = Held::on(clients.remove(0), "/wait");
            process::signal(worker, Signal::SIGTERM);
            // Those that are asked before it has seen the signal may be answered there, if it has a thread for it.
            wait_until("a connection in another worker", || pid_of(&mut clients[0]) != worker);
            for client in &mut clients {
                assert_ne!(pid_of(client), worker);
            }
            held.gate.open();
            let response = held.client.receive().expect_status(200);
            assert!(!response.announces_close());
            assert_eq!(pid_in(response.text()), worker);
            assert_ne!(pid_of(&mut held.client), worker);
            wait_for_end_of(worker);
        },
    );
}

/// Without a sibling that is ready, it goes on serving until there is one.
#[test]
fn the_only_worker_waits_for_its_successor() {
    let scratch = Scratch::new();
    let server = serve("slow_start", &["--env", &format!("START={}", scratch.text(""))]);
    let worker = server.workers()[0];
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(pid_of(client), worker));
    process::signal(worker, Signal::SIGTERM);
    wait_until("a successor on its way", || server.workers().len() == 2);
    for _ in 0..20 {
        clients.iter_mut().for_each(|client| assert_eq!(pid_of(client), worker));
    }
    let used = process::cpu_time(worker);
    clients[0].expect_silence(Duration::from_millis(500));
    let used = process::cpu_time(worker) - used;
    assert!(used < Duration::from_millis(100), "{used:?} of CPU in half a second of waiting");
    scratch.write("release", "");
    wait_for_end_of(worker);
    clients.iter_mut().for_each(|client| assert_ne!(pid_of(client), worker));
}

/// Connections of which there are more than an inbox takes at once.
#[test]
fn more_connections_than_an_inbox_holds() {
    const COUNT: usize = 900;
    let server = serve_with(2, &[]);
    let worker = server.workers()[0];
    let mut clients: Vec<Client> = (0..COUNT).map(|_| server.connect()).collect();
    ask_all(&mut clients);
    // The sibling takes nothing in until it goes on.
    process::signal(server.workers()[1], Signal::SIGSTOP);
    process::signal(worker, Signal::SIGTERM);
    wait_until("a successor", || server.workers().len() == 3);
    process::signal(server.workers()[1], Signal::SIGCONT);
    wait_for_end_of(worker);
    clients.iter_mut().for_each(|client| assert_ne!(pid_of(client), worker));
}

/// They cannot move: they close, idle ones and those that have their response.
#[test]
fn without_passing_connections_close() {
    let server = serve_with(2, &["--no-passing"]);
    let worker = server.workers()[0];
    let mut clients = connections_of(&server, worker, 2);
    let mut held = Held::on(clients.remove(0), "/wait");
    process::signal(worker, Signal::SIGTERM);
    clients[0].expect_end();
    held.gate.open();
    assert!(held.client.receive().expect_status(200).announces_close());
    held.client.expect_end();
    wait_for_end_of(worker);
}

// Stopping.

/// Connections with a request each, in the backlog of workers whose threads are all in a call.
#[test]
fn the_backlog_is_answered() {
    const COUNT: usize = 500;
    let scratch = Scratch::new();
    let socket = format!("unix:{}", scratch.text("socket"));
    let cases: [(&str, usize, &[&str]); 5] = [
        ("127.0.0.1:0", 1, &[]),
        ("[::1]:0", 1, &["--threads", "2"]),
        (&socket, 1, &[]),
        ("127.0.0.1:0", 4, &[]),
        ("127.0.0.1:0", 1, &["--worker-connections", "20"]),
    ];
    each(
        &cases,
        |(address, workers, options)| format!("{address}, {workers} workers, {options:?}"),
        |(address, workers, options)| {
            let server = serve_with(*workers, &[&["--bind", address], *options].concat());
            let calls = if options.contains(&"--threads") { 2 } else { *workers };
            let held: Vec<Held> = (0..calls).map(|_| Held::at(&server, "/wait")).collect();
            let mut clients: Vec<Client> = (0..COUNT).map(|_| server.connect()).collect();
            clients.iter_mut().for_each(|client| _ = client.send(PID));
            server.signal(Signal::SIGTERM);
            server.log().wait_for("stopping");
            held.into_iter().for_each(|held| drop(held.finish()));
            clients.iter_mut().for_each(|client| _ = client.receive().expect_status(200));
            clients.iter_mut().for_each(Client::expect_end);
            let finished = server.wait().expect_status(0);
            assert_eq!(finished.count("ERROR") + finished.count("WARN"), 0, "{}", finished.stderr);
        },
    );
}

/// Who connects when the server is on its way out is refused, and not let in and then reset.
#[test]
fn newcomers_are_refused() {
    let scratch = Scratch::new();
    for address in ["127.0.0.1:0", &format!("unix:{}", scratch.text("socket"))] {
        let server = serve_with(1, &["--bind", address]);
        let mut witness = server.connect();
        pid_of(&mut witness);
        let held = Held::at(&server, "/wait");
        server.signal(Signal::SIGTERM);
        // The log tells of the stop before the door is closed; the worker knows after it.
        witness.expect_end();
        let address = server.addresses[0].clone();
        let newcomer = std::thread::spawn(move || Client::try_connect(&address).map(drop));
        held.finish();
        server.wait().expect_status(0);
        let error = newcomer.join().expect("no panic").expect_err("nobody is there any more");
        // The socket file may have gone before.
        assert!(matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound), "{error}");
    }
}

/// A call in progress, a request that waits for a thread, and a client that has connected and not asked yet.
#[test]
fn answers_announce_the_end() {
    for threads in [1, 2] {
        let server = serve_with(1, &["--threads", &threads.to_string()]);
        let [mut waiting, mut fresh] = [server.connect(), server.connect()];
        pid_of(&mut waiting);
        let mut witness = server.connect();
        pid_of(&mut witness);
        let mut held: Vec<Held> = (0..threads).map(|_| Held::at(&server, "/wait")).collect();
        waiting.send(PID);
        server.signal(Signal::SIGTERM);
        // An idle connection tells when the worker knows.
        witness.expect_end();
        fresh.send(PID);
        // Nobody reads it any more: the answer before must reach its client all the same.
        held.iter_mut().for_each(|held| _ = held.client.send(PID));
        held.iter().for_each(|held| held.gate.open());
        for client in held.iter_mut().map(|held| &mut held.client).chain([&mut waiting, &mut fresh]) {
            assert!(client.receive().expect_status(200).announces_close());
            client.expect_end();
        }
        server.wait().expect_status(0);
    }
}

/// A client that asks all the time is told of the end by a response: the worker waits a moment for its next request.
#[test]
fn busy_clients_are_told() {
    const COUNT: usize = 12;
    let server = serve_with(2, &[]);
    let told = AtomicUsize::new(0);
    let (asked, server_ref) = (AtomicUsize::new(0), &server);
    std::thread::scope(|scope| {
        for _ in 0..COUNT {
            scope.spawn(|| {
                let mut client = server_ref.connect();
                while let Some(response) = client.ask_or_end(PID) {
                    std::thread::sleep(Duration::from_millis(10));
                    asked.fetch_add(1, Ordering::Relaxed);
                    if response.expect_status(200).announces_close() {
                        client.expect_end();
                        told.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
            });
        }
        wait_until("some answers", || asked.load(Ordering::Relaxed) > 10 * COUNT);
        server.signal(Signal::SIGTERM);
    });
    server.wait().expect_status(0);
    // A loaded machine may hold up one of them for longer than that moment.
    assert!(told.into_inner() > COUNT / 2, "most connections ended without a word");
}

/// What was sent behind is answered if it was there in time; in any case no reset takes away what was answered.
#[test]
fn a_pipelining_client_gets_its_responses_whole() {
    const COUNT: usize = 20;
    let server = serve_with(1, &[]);
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    ask_all(&mut clients);
    let [held, mut queued, mut pouring, mut witness] = <[Client; 4]>::try_from(clients).ok().expect("four clients");
    let held = Held::on(held, "/wait");
    queued.send(PID.repeat(COUNT));
    wait_until("the requests to be read", || queued.has_been_read());
    // More than the worker reads ahead: the rest is unread when the connection ends.
    let filling = format!("GET /big?bytes=5000000 HTTP/1.1\r\nHost: a\r\nX-Filling: {}\r\n\r\n", "f".repeat(1000));
    let sender = pouring.send_behind(filling.repeat(1000).into_bytes());
    server.signal(Signal::SIGTERM);
    witness.expect_end();
    held.finish().expect_end();
    for number in 1..=COUNT {
        let response = queued.receive().expect_status(200);
        assert_eq!(response.announces_close(), number == COUNT, "response {number}");
    }
    queued.expect_end();
    loop {
        let response = pouring.receive().expect_status(200);
        assert!(response.body == pattern(5_000_000));
        if response.announces_close() {
            break;
        }
    }
    pouring.expect_end();
    drop((queued, pouring));
    // It may have been left with requests that nobody reads.
    _ = sender.join().expect("no panic");
    server.wait().expect_status(0);
}

/// It was there before the stop, and waits for a call that takes longer than a client has for another request.
#[test]
fn what_was_sent_ahead_is_answered_however_late() {
    const COUNT: usize = 20;
    let server = serve_with(1, &[]);
    let (held, mut ahead) = (server.connect(), server.connect());
    pid_of(&mut ahead);
    let held = Held::on(held, "/wait");
    ahead.send(PID.repeat(COUNT));
    wait_until("the requests to be read", || ahead.has_been_read());
    server.signal(Signal::SIGTERM);
    server.log().wait_for("stopping");
    let start = Instant::now();
    wait_until("the end of that time", || start.elapsed() > Duration::from_millis(1500));
    held.finish().expect_end();
    for number in 1..=COUNT {
        let response = ahead.receive().expect_status(200);
        assert_eq!(response.announces_close(), number == COUNT, "response {number}");
    }
    ahead.expect_end();
    server.wait().expect_status(0);
}

/// One that was refused before, and does not end its half of the connection, gets no more time than others.
#[test]
fn a_refused_client_does_not_hold_up_the_end() {
    // Less than what it would have had.
    let server = serve_with(1, &["--graceful-timeout", "3"]);
    let mut refused = server.connect();
    refused.ask("GARBAGE\r\n\r\n").expect_status(400);
    refused.expect_end();
    server.signal(Signal::SIGTERM);
    let finished = server.wait().expect_status(0);
    assert_eq!(finished.count("ERROR") + finished.count("WARN"), 0, "{}", finished.stderr);
}

/// Its only thread does not come back, and nobody will come after it: those in the backlog are told so, and not reset.
#[test]
fn the_backlog_of_a_stuck_worker_is_refused() {
    const COUNT: usize = 40;
    let server = serve("stuck", &["--timeout", "3", "--access-logfile", "none"]);
    let mut stuck = server.connect();
    stuck.send("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the call", || stuck.has_been_read());
    let mut clients: Vec<Client> = (0..COUNT).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| _ = client.send(PID));
    server.signal(Signal::SIGTERM);
    stuck.receive().expect_status(504);
    for client in &mut clients {
        client.receive().expect_status(503);
        client.expect_end();
    }
    drop((stuck, clients));
    server.wait().expect_status(0);
}

/// A worker that waits for its successor when the server stops waits no longer.
#[test]
fn the_server_stops_while_a_worker_hands_over() {
    let scratch = Scratch::new();
    let server = serve("slow_start", &["--env", &format!("START={}", scratch.text(""))]);
    let worker = server.workers()[0];
    let mut clients: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(pid_of(client), worker));
    process::signal(worker, Signal::SIGTERM);
    wait_until("a successor on its way", || server.workers().len() == 2);
    let mut waiting = server.connect();
    waiting.send(PID);
    server.signal(Signal::SIGTERM);
    // It was in the backlog, for nobody to accept.
    let response = waiting.receive().expect_status(200);
    assert!(response.announces_close());
    assert_eq!(pid_in(response.text()), worker);
    clients.iter_mut().for_each(Client::expect_end);
    wait_for_end_of(worker);
    scratch.write("release", "");
    server.wait().expect_status(0);
}

/// A supervisor may signal all processes at once: a worker that has not heard of the end of the server yet waits for it.
#[test]
fn master_and_workers_are_told_at_once() {
    for _ in 0..5 {
        let server = serve_with(2, &[]);
        let mut clients: Vec<Client> = Vec::new();
        for worker in server.workers() {
            process::signal(worker, Signal::SIGTERM);
        }
        clients.extend((0..20).map(|_| server.connect()));
        clients.iter_mut().for_each(|client| _ = client.send(PID));
        server.signal(Signal::SIGTERM);
        clients.iter_mut().for_each(|client| drop(client.receive().expect_status(200)));
        server.wait().expect_status(0);
    }
}

/// Nothing is left to do: a stop takes no longer than the worker listens for what is on its way.
#[test]
fn a_stop_without_clients_is_quick() {
    let server = serve_with(2, &[]);
    let start = Instant::now();
    server.stop().expect_status(0);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
