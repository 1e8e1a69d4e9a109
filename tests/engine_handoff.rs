//! While the application works on one request, the worker goes on with all that does not need it (DESIGN §3).
//!
//! Each client has had a response before the long call begins: a worker whose threads are all busy accepts nobody.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Client, Gate, Held, Scratch, Server, each, pattern, process, serve, wait_until};

const PID: &str = "GET /pid HTTP/1.1\r\nHost: a\r\n\r\n";
const TURN: &str = "GET /turn HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /echo HTTP/1.1\r\nHost: a\r\n";

/// A client that the worker knows already.
#[track_caller]
fn known(server: &Server) -> Client {
    let mut client = server.connect();
    client.get("/pid").expect_status(200);
    client
}

/// What the worker's threads use of the CPUs in a second.
fn cpu_time_in_a_second(server: &Server) -> Duration {
    let worker = server.workers()[0];
    let before = process::cpu_time(worker);
    std::thread::sleep(Duration::from_secs(1));
    process::cpu_time(worker) - before
}

#[test]
fn refusals_do_not_wait_for_the_application() {
    let server = serve("busy", &["--limit-request-body", "1000", "--limit-request-line", "400"]);
    let chunked = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    let cases = [
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n bad: field\r\n\r\n".to_owned(), 400),
        (format!("{chunked}x\r\n"), 400),
        (format!("{POST}Content-Length: 1001\r\n\r\n"), 413),
        // Only what has been read can be found to be too large.
        (format!("{chunked}320\r\n{}\r\n320\r\n{}\r\n", "x".repeat(800), "y".repeat(800)), 413),
        (format!("GET /{} HTTP/1.1\r\n", "t".repeat(500)), 414),
    ];
    let mut clients: Vec<Client> = cases.iter().map(|_| known(&server)).collect();
    let held = Held::on(known(&server), "/wait");
    for ((request, status), client) in cases.iter().zip(&mut clients) {
        let start = Instant::now();
        client.send(request);
        assert_eq!(client.receive().status, *status, "{request:?}");
        assert!(start.elapsed() < Duration::from_secs(1), "{request:?} after {:?}", start.elapsed());
    }
    held.finish();
}

/// The body fills the file of the request, which has lost its name, while the only thread is in another call.
#[test]
fn a_body_is_asked_for_and_received() {
    const LENGTH: usize = 3_000_000;
    let scratch = Scratch::new();
    let folder = scratch.path("bodies");
    std::fs::create_dir(&folder).expect("a directory");
    let server = serve("busy", &["--body-memory-max", "1000", "--tmp-upload-dir", &scratch.text("bodies")]);
    let mut client = known(&server);
    let held = Held::on(known(&server), "/wait");
    client.send(format!("{POST}Expect: 100-continue\r\nContent-Length: {LENGTH}\r\n\r\n"));
    client.receive_continue();
    client.send(pattern(LENGTH));
    let worker = server.workers()[0];
    wait_until("the whole body", || process::unlinked_files(worker, &folder) == [LENGTH as u64]);
    held.finish();
    assert!(client.receive().expect_status(200).body == pattern(LENGTH), "the body came back changed");
}

/// The response is in the worker's memory, or a file that sendfile sends, when the long call begins.
#[test]
fn a_response_drains_to_a_slow_reader() {
    const LENGTH: usize = 50_000_000;
    let scratch = Scratch::new();
    std::fs::write(scratch.path("file"), pattern(LENGTH)).expect("a file");
    // Without the validator, which would hide the file from the server.
    let server = serve("busy:bare", &[]);
    for target in [format!("/big?bytes={LENGTH}"), format!("/file?path={}", scratch.text("file"))] {
        let waiting = known(&server);
        let mut client = Client::connect_with_little_room(&server.addresses[0]);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = client.receive_head("GET").expect_status(200);
        let held = Held::on(waiting, "/wait");
        assert!(client.receive_rest(head).body == pattern(LENGTH), "{target} arrived changed");
        held.finish();
    }
}

/// The responses before the long call do not wait for it, those behind it keep their order.
#[test]
fn pipelined_requests_stay_in_order() {
    let server = serve("busy", &[]);
    let gate = Gate::new();
    let mut client = known(&server);
    client.send([TURN, TURN, &gate.request("/wait"), TURN, TURN].concat());
    client.receive().expect(200, "1");
    client.receive().expect(200, "2");
    gate.wait_until_reached();
    client.expect_silence(Duration::from_millis(100));
    gate.open();
    client.receive().expect_status(200);
    client.receive().expect(200, "3");
    client.receive().expect(200, "4");
}

#[test]
fn requests_that_waited_are_served_in_order_of_arrival() {
    let server = serve("busy", &[]);
    let mut clients: Vec<Client> = (0..8).map(|_| known(&server)).collect();
    let held = Held::on(known(&server), "/wait");
    // In another order than they connected in.
    clients.rotate_left(3);
    clients.swap(1, 6);
    for client in &mut clients {
        client.send(TURN);
        wait_until("the request to be read", || client.has_been_read());
    }
    held.finish();
    for (turn, client) in (1..).zip(&mut clients) {
        client.receive().expect(200, &format!("{turn}"));
    }
}

/// A level-triggered poll tells of a hang-up again and again, as long as somebody asks.
#[test]
fn a_client_that_leaves_during_its_call_costs_nothing() {
    type Leave = fn(Client);
    let ways: [(&str, Leave); 2] = [("FIN", drop::<Client>), ("RST", Client::reset)];
    each(
        &ways,
        |(name, _)| (*name).to_owned(),
        |(name, leave)| {
            let server = serve("busy", &[]);
            let mut other = known(&server);
            let worker = server.workers();
            let Held { client, gate } = Held::on(known(&server), "/wait");
            leave(client);
            let used = cpu_time_in_a_second(&server);
            assert!(used < Duration::from_millis(200), "{used:?} of CPU in a second after {name}");
            gate.open();
            other.get("/turn").expect(200, "1");
            assert_eq!(server.workers(), worker, "the worker died");
            assert!(!server.log().text().contains("Traceback"), "{}", server.log().text());
        },
    );
}

/// A client may say that it sends no more and still wait for its response (RFC 9112 §9.6).
#[test]
fn a_client_that_ends_sending_during_its_call_gets_its_response() {
    let server = serve("busy", &[]);
    let mut held = Held::on(known(&server), "/wait");
    held.client.send(TURN).end_sending();
    let used = cpu_time_in_a_second(&server);
    assert!(used < Duration::from_millis(200), "{used:?} of CPU in a second");
    let mut client = held.finish();
    client.receive().expect(200, "1");
    client.expect_end();
}

/// Bytes that nobody wants yet neither spin the poller nor get lost.
#[test]
fn a_megabyte_behind_a_long_call() {
    const COUNT: usize = 1000;
    let server = serve("busy", &["--access-logfile", "none"]);
    let held = Held::on(known(&server), "/wait");
    let request = format!("GET /turn HTTP/1.1\r\nHost: a\r\nX-Filling: {}\r\n\r\n", "f".repeat(1000));
    let sender = held.client.send_behind(request.repeat(COUNT).into_bytes());
    let used = cpu_time_in_a_second(&server);
    assert!(used < Duration::from_millis(200), "{used:?} of CPU in a second");
    let mut client = held.finish();
    for turn in 1..=COUNT {
        client.receive().expect(200, &turn.to_string());
    }
    sender.join().expect("no panic").expect("all was sent");
}

/// A worker that has nothing to do does nothing: no tick, no timer, no thread that looks.
#[test]
fn an_idle_worker_uses_no_cpu() {
    each(
        &["1", "4"],
        |threads| format!("{threads} threads"),
        |threads| {
            let server = serve("busy", &["--threads", threads]);
            let worker = server.workers()[0];
            // Each thread has had something to do, and a connection stays open.
            let held: Vec<Held> = (0..threads.parse().expect("a count")).map(|_| Held::at(&server, "/wait")).collect();
            held.iter().for_each(|held| held.gate.open());
            let open: Vec<Client> = held.into_iter().map(Held::finish).collect();
            std::thread::sleep(Duration::from_secs(1));
            let before = (process::cpu_time(worker), process::waits(worker));
            std::thread::sleep(Duration::from_secs(2));
            assert_eq!((process::cpu_time(worker), process::waits(worker)), before, "CPU time and waits of 2 seconds");
            open.into_iter().for_each(|mut client| drop(client.ask(PID).expect_status(200)));
        },
    );
}

/// A client whose response is being sent, and whose next request comes with the stop, is served once.
#[test]
fn a_stop_while_a_response_waits_for_its_reader() {
    const LENGTH: usize = 20_000_000;
    let server = serve("busy", &[]);
    let mut big = Client::connect_with_little_room(&server.addresses[0]);
    big.get("/pid").expect_status(200);
    let held = Held::on(known(&server), "/wait");
    big.send(format!("GET /big?bytes={LENGTH} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_until("it to be in the queue", || big.has_been_read());
    server.signal(Signal::SIGTERM);
    server.log().wait_for("stopping");
    held.finish();
    let head = big.receive_head("GET").expect_status(200);
    assert!(big.receive_rest(head).body == pattern(LENGTH));
    big.expect_end();
    let finished = server.wait().expect_status(0);
    assert_eq!(finished.stdout.matches("/big").count(), 1, "{}", finished.stdout);
}

/// A reader that was slow has taken all, and its next request waits: that there is room again is no news.
#[test]
fn a_request_behind_a_response_that_was_read_slowly_waits_quietly() {
    const LENGTH: usize = 5_000_000;
    let server = serve("busy", &[]);
    let waiting = known(&server);
    let mut client = Client::connect_with_little_room(&server.addresses[0]);
    client.send(format!("GET /big?bytes={LENGTH} HTTP/1.1\r\nHost: a\r\n\r\n{TURN}"));
    let head = client.receive_head("GET").expect_status(200);
    let held = Held::on(waiting, "/wait");
    assert!(client.receive_rest(head).body == pattern(LENGTH), "it arrived changed");
    let used = cpu_time_in_a_second(&server);
    assert!(used < Duration::from_millis(200), "{used:?} of CPU in a second");
    held.finish();
    client.receive().expect(200, "1");
}

/// A request that has to wait does not hold up the response to the one before it on its connection.
#[test]
fn a_response_does_not_wait_for_the_request_behind_it() {
    let server = serve("busy", &["--keep-alive", "1"]);
    let (mut client, mut other) = (known(&server), known(&server));
    let (first, second) = (Gate::new(), Gate::new());
    client.send([&first.request("/wait"), TURN].concat());
    first.wait_until_reached();
    other.send(second.request("/wait"));
    wait_until("the request to be read", || other.has_been_read());
    first.open();
    client.receive().expect_status(200);
    second.wait_until_reached();
    // Longer than an idle connection may stay, which this one is not.
    client.expect_silence(Duration::from_millis(1500));
    second.open();
    client.receive().expect(200, "1");
    other.receive().expect_status(200);
}

/// A process that the application forks has all connections of its worker, and keeps them open.
#[test]
fn a_forked_process_does_not_bring_connections_back() {
    let server = serve("forks", &[]);
    let worker = server.workers()[0];
    let (mut first, mut second) = (server.connect(), server.connect());
    second.get("/").expect_status(200);
    let gate = Gate::new();
    first.get(&gate.target("/fork")).expect_status(200);
    gate.wait_until_reached();
    drop((first, second));
    let used = cpu_time_in_a_second(&server);
    gate.open();
    assert!(used < Duration::from_millis(200), "{used:?} of CPU in a second");
    assert_eq!(server.workers()[0], worker);
}
