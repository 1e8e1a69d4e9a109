//! What the environ offers beyond PEP 3333: early hints, and whether the client is still there.

use crate::harness::{Client, Gate, Scratch, serve, wait_until};

const LINK: &str = "</a.css>; rel=preload";

/// RFC 8297. They are there before the application has decided what the response is.
#[test]
fn hints_come_before_the_response() {
    let server = serve("hints", &[]);
    let mut client = server.connect();
    let gate = Gate::new();
    client.send(gate.request("/"));
    assert_eq!(client.receive_interim(103).value("Link"), Some(LINK));
    gate.wait_until_reached();
    gate.open();
    let response = client.receive().expect(200, "hinted");
    assert!(response.interim.is_empty() && response.value("Link").is_none(), "{response:?}");
    let gate = Gate::new();
    client.send(gate.request("/two"));
    let first = client.receive_interim(103);
    assert_eq!((first.value("Link"), first.value("X-Other")), (Some(LINK), Some("1")));
    assert_eq!(client.receive_interim(103).value("Link"), Some("</b.css>; rel=preload"));
    gate.open();
    client.receive().expect(200, "hinted");
}

/// RFC 9110 §15.2: a client of HTTP/1.0 would take it for the response.
#[test]
fn no_hints_to_http_1_0() {
    let server = serve("hints", &[]);
    let mut client = server.connect();
    let gate = Gate::new();
    client.send(format!("GET {} HTTP/1.0\r\n\r\n", gate.target("/")));
    gate.wait_until_reached();
    gate.open();
    assert!(client.receive().expect(200, "hinted").interim.is_empty());
}

#[test]
fn hints_that_would_break_the_head() {
    let server = serve("hints", &[]);
    let response = server.get("/bad").expect(200, "ValueError ValueError ValueError ValueError");
    assert!(response.interim.is_empty());
}

/// When the head has been sent, there is no place for them any more.
#[test]
fn hints_that_come_too_late() {
    let server = serve("hints", &[]);
    let mut client = server.connect();
    assert!(client.get("/late").expect(200, "firstsecond").interim.is_empty());
    client.get("/after").expect(200, "kept");
    for _ in 0..2 {
        // Those of a request that is over must not get into the response of another one.
        let response = client.get("/after");
        assert!(response.status == 200 && response.interim.is_empty(), "{response:?}");
    }
}

#[test]
fn the_client_is_there() {
    let server = serve("disconnected", &["--threads", "2"]);
    let mut client = server.connect();
    for _ in 0..3 {
        client.get("/").expect(200, "False");
    }
}

#[test]
fn the_client_has_left() {
    for threads in ["1", "2"] {
        let server = serve("disconnected", &["--threads", threads]);
        for behind in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            for leave in [drop::<Client>, Client::reset] {
                let scratch = Scratch::new();
                let mut client = server.connect();
                let (entered, left) = (scratch.text("entered"), scratch.text("left"));
                client.send(format!("GET /watch?entered={entered}&left={left} HTTP/1.1\r\nHost: a\r\n\r\n{behind}"));
                wait_until("the call", || scratch.path("entered").exists());
                assert!(!scratch.path("left").exists(), "it said so of a client that was there");
                leave(client);
                wait_until("the application to notice", || scratch.path("left").exists());
            }
        }
        server.get("/").expect(200, "False");
    }
}

/// What it says of a request that is over is no matter, as long as it does not ask a client that is not its own.
#[test]
fn asked_when_the_request_is_over() {
    let server = serve("disconnected", &[]);
    let mut client = server.connect();
    client.get("/keep").expect(200, "False");
    for _ in 0..3 {
        let answer = client.get("/kept").expect_status(200);
        assert!(["True", "'raised'"].contains(&answer.text()), "{}", answer.text());
        assert_eq!(server.get("/kept").text(), answer.text());
    }
}
