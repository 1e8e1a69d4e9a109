//! `--no-request-buffering`: the application is called with the head, and reads the body while it arrives.

use std::time::{Duration, Instant};

use crate::harness::{Client, Gate, Scratch, Server, process, serve, wait_until};

const LINES: [&str; 3] = ["first\n", "second\n", "third\n"];

fn serve_unbuffered(options: &[&str]) -> Server {
    serve("arriving", &[&["--no-request-buffering"], options].concat())
}

fn post(target: &str, fields: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

#[test]
fn each_line_is_answered_before_the_next_is_sent() {
    let server = serve_unbuffered(&[]);
    let mut client = server.connect();
    let length = LINES.concat().len();
    for _ in 0..2 {
        client.send(post("/echo", &format!("Content-Length: {length}")));
        for line in LINES {
            client.send(line);
            if line == LINES[0] {
                client.receive_head("GET").expect_status(200);
            }
            assert_eq!(client.receive_chunk(), line.as_bytes());
        }
        assert_eq!(client.receive_chunk(), b"");
        client.send(post("/echo", "Transfer-Encoding: chunked"));
        for line in LINES {
            client.send(format!("{:x}\r\n{line}\r\n", line.len()));
            if line == LINES[0] {
                client.receive_head("GET").expect_status(200);
            }
            assert_eq!(client.receive_chunk(), line.as_bytes());
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.receive_chunk(), b"");
    }
}

/// RFC 9110 §10.1.1: asking for the body is asking for it, so it waits until somebody wants it.
#[test]
fn the_body_is_asked_for_when_it_is_read() {
    let server = serve_unbuffered(&[]);
    let gate = Gate::new();
    let mut client = server.connect();
    client.send(post(&gate.target("/late"), "Content-Length: 5\r\nExpect: 100-continue"));
    gate.wait_until_reached();
    client.expect_silence(Duration::from_millis(100));
    gate.open();
    client.receive_continue();
    client.send("hello").receive().expect(200, "hello");
    client.get("/ignore").expect(200, "ignored");
}

#[test]
fn the_body_is_not_asked_for_when_nobody_reads_it() {
    let server = serve_unbuffered(&[]);
    let response = server.ask(post("/ignore", "Content-Length: 5\r\nExpect: 100-continue")).expect(200, "ignored");
    assert!(response.interim.is_empty());
}

#[test]
fn a_body_that_is_there_already() {
    let server = serve_unbuffered(&[]);
    let mut client = server.connect();
    let body = "x".repeat(300_000);
    let get = "GET /ignore HTTP/1.1\r\nHost: a\r\n\r\n";
    let sender = client.send_behind(
        [post("/late?release=/", "Content-Length: 300000"), body.clone(), get.to_owned(), get.to_owned()]
            .concat()
            .into_bytes(),
    );
    assert!(client.receive().expect_status(200).body == body.as_bytes());
    client.receive().expect(200, "ignored");
    client.receive().expect(200, "ignored");
    sender.join().expect("no panic").expect("all was sent");
    assert!(client.get("/late?release=/").expect(200, "").interim.is_empty());
}

/// The body's deadline is between two reads, and the application learns of it.
#[test]
fn a_client_that_is_stuck() {
    let server = serve_unbuffered(&["--body-timeout", "1"]);
    let mut client = server.connect();
    let start = Instant::now();
    client.send(post("/catch", "Content-Length: 10")).send("hello");
    client.receive().expect(200, "TimeoutError TimeoutError");
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&start.elapsed()), "{:?}", start.elapsed());
    // Where the next request would begin is not known.
    client.expect_end();
}

#[test]
fn a_client_that_leaves() {
    let server = serve_unbuffered(&[]);
    for leave in [drop::<Client>, Client::reset] {
        let scratch = Scratch::new();
        for fields in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhel"] {
            let mut client = server.connect();
            let raised = scratch.text("raised");
            client.send(format!("POST /catch?raised={raised} HTTP/1.1\r\nHost: a\r\n{fields}"));
            leave(client);
            wait_until("the application to be told", || scratch.path("raised").exists());
            let told = std::fs::read_to_string(&raised).expect("it exists");
            assert_eq!(told, "ConnectionError ConnectionError", "{fields:?}");
            std::fs::remove_file(&raised).expect("it was there");
        }
    }
    server.get("/ignore").expect(200, "ignored");
}

/// A body in wrong chunks, and one that is too large, are the application's to find out.
#[test]
fn a_body_that_is_wrong() {
    let server = serve_unbuffered(&["--limit-request-body", "10"]);
    let chunked = |chunks: &str| [&post("/catch", "Transfer-Encoding: chunked"), chunks].concat();
    for request in [chunked("5\r\nhello\r\nzz\r\n"), chunked("8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n")] {
        let mut client = server.connect();
        let response = client.ask(&request);
        let is_told = response.status == 200 && !response.text().contains("bytes");
        assert!(is_told || matches!(response.status, 400 | 413), "{request:?} {response:?}");
        client.expect_end();
    }
    // What is known from the head is refused as ever.
    server.ask(post("/catch", "Content-Length: 11")).expect_status(413);
}

/// What the application leaves unread is not taken for the next request: it is skipped, or the connection ends.
#[test]
fn a_body_that_nobody_reads() {
    let server = serve_unbuffered(&[]);
    for length in [1, 10, 10_000, 1_000_000] {
        let decoy = "GET /decoy HTTP/1.1\r\nHost: a\r\n\r\n".repeat(length / 30 + 1);
        let body = &decoy[..length];
        for request in [
            format!("{}{body}", post("/ignore", &format!("Content-Length: {length}"))),
            format!("{}{length:x}\r\n{body}\r\n0\r\n\r\n", post("/ignore", "Transfer-Encoding: chunked")),
        ] {
            let mut client = server.connect();
            let sender = client.send_behind(request.into_bytes());
            let response = client.receive().expect(200, "ignored");
            let sent = sender.join().expect("no panic");
            if response.announces_close() {
                // No reset: it could overtake the response.
                client.end_sending().expect_end();
            } else {
                sent.expect("all was sent");
                client.get("/ignore").expect(200, "ignored");
            }
        }
    }
    assert!(!server.access_log().text().contains("/decoy"), "a body was taken for a request");
}

/// Only the thread that reads a slow body waits for it.
#[test]
fn others_are_served_during_the_wait() {
    let server = serve_unbuffered(&["--threads", "2"]);
    let mut slow = server.connect();
    slow.send(post("/echo", "Content-Length: 10")).send("slow\n");
    slow.receive_head("GET").expect_status(200);
    assert_eq!(slow.receive_chunk(), b"slow\n");
    for _ in 0..20 {
        server.get("/ignore").expect(200, "ignored");
    }
    slow.send("end.\n");
    assert_eq!(slow.receive_chunk(), b"end.\n");
    assert_eq!(slow.receive_chunk(), b"");
}

/// The time in which the application waits for its client is not its own.
#[test]
fn a_slow_sender_does_not_use_up_the_time_of_the_application() {
    let server = serve_unbuffered(&["--timeout", "1"]);
    let mut client = server.connect();
    client.send(post("/echo", &format!("Content-Length: {}", LINES.concat().len())));
    let start = Instant::now();
    for (line, until) in LINES.iter().zip([700, 1400, 2100]) {
        client.send(line);
        if *line == LINES[0] {
            client.receive_head("GET").expect_status(200);
        }
        assert_eq!(client.receive_chunk(), line.as_bytes());
        wait_until("the next line", || start.elapsed() > Duration::from_millis(until));
    }
    assert_eq!(client.receive_chunk(), b"");
    assert!(!server.log().text().contains("no response"), "{}", server.log().text());
}

/// A body that the application keeps is over with its request, and its connection ends as any other.
#[test]
fn a_body_that_is_kept_keeps_no_connection() {
    let server = serve_unbuffered(&[]);
    let worker = server.workers()[0];
    let mut client = server.connect();
    client.get("/ignore").expect(200, "ignored");
    drop(client);
    wait_until("the first connection to be closed", || server.get("/ignore").status == 200);
    let before = process::descriptors(worker);
    for _ in 0..5 {
        let mut client = server.connect();
        client.send(post("/keep", "Content-Length: 5")).receive().expect(200, "kept");
        client.send("hello").get("/ignore").expect(200, "ignored");
    }
    wait_until("the connections to be closed", || process::descriptors(worker) <= before);
    let used = process::cpu_time(worker);
    std::thread::sleep(Duration::from_secs(1));
    let used = process::cpu_time(worker) - used;
    assert!(used < Duration::from_millis(200), "{used:?} of CPU in a second");
}
