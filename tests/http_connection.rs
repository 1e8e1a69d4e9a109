//! Many requests on one connection: persistence, pipelining, `100 Continue`, and how a connection ends.

use crate::harness::{Framing, Scratch, each, portable, serve, shape};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn persists_in_http_1_1() {
    let server = portable("hello");
    let mut client = server.connect();
    for _ in 0..3 {
        let response = client.get("/").expect(200, "Hello, world!\n");
        assert!(!response.announces_close());
    }
}

/// RFC 9112 §9.3. `Connection` is a list, in any case, and may be repeated.
#[test]
fn closes_when_asked() {
    let server = portable("hello");
    let cases = [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close , x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n",
    ];
    each(
        &cases,
        |case| (*case).to_owned(),
        |case| {
            let mut client = server.connect();
            // The second request comes too late: the first one was the last.
            let response = client.ask(format!("{case}{GET}")).expect(200, "Hello, world!\n");
            assert!(response.announces_close(), "{response:?}");
            client.expect_end();
        },
    );
}

#[test]
fn persists_when_http_1_0_asks() {
    let server = portable("hello");
    for value in ["keep-alive", "Keep-Alive", "x, keep-alive"] {
        let mut client = server.connect();
        let response = client.ask(format!("GET / HTTP/1.0\r\nConnection: {value}\r\n\r\n"));
        assert_eq!(response.value("Connection").map(str::to_lowercase).as_deref(), Some("keep-alive"));
        client.get("/").expect(200, "Hello, world!\n");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = portable("echo");
    let mut client = server.connect();
    let requests: String = (0..50)
        .map(|number| match number % 3 {
            0 => format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{number:02}"),
            1 => {
                format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{number:02}\r\n0\r\n\r\n")
            }
            _ => format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{number:02}"),
        })
        .collect();
    client.send(requests);
    for number in 0..50 {
        client.receive().expect(200, &format!("{number:02}"));
    }
}

#[test]
fn a_broken_request_in_a_pipeline_does_not_harm_those_before_it() {
    let server = portable("hello");
    let mut client = server.connect();
    client.send(format!("{GET}{GET}GET / HTTP/1.1\r\nHost : a\r\n\r\n{GET}"));
    client.receive().expect(200, "Hello, world!\n");
    client.receive().expect(200, "Hello, world!\n");
    assert_eq!(client.receive().status, 400);
    client.expect_end();
}

#[test]
fn any_split_of_the_bytes() {
    let server = portable("echo");
    let mut client = server.connect();
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for byte in request.as_bytes() {
        client.send([*byte]);
    }
    client.receive().expect(200, "hello");
    for place in 0..request.len() {
        client.send(&request[..place]).send(&request[place..]);
        client.receive().expect(200, "hello");
    }
}

#[test]
fn a_body_that_the_app_ignores_is_not_taken_for_a_request() {
    let server = portable("ignores_body");
    let mut client = server.connect();
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..3 {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()));
        client.receive().expect(200, "ignored");
    }
    client.get("/").expect(200, "ignored");
}

#[test]
fn a_client_that_has_ended_sending_gets_its_answers() {
    let server = portable("hello");
    let mut client = server.connect();
    client.send(format!("{GET}{GET}")).end_sending();
    client.receive().expect(200, "Hello, world!\n");
    client.receive().expect(200, "Hello, world!\n");
    client.expect_end();
}

#[test]
fn a_connection_that_ends_before_its_request_is_whole() {
    let server = portable("hello");
    let half = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (start, is_begun) in [("", false), ("\r\n", false), ("GET / HT", true), (half, true)] {
        let mut client = server.connect();
        client.send(start).end_sending();
        let status = client.status_or_end();
        // Whether half a request is worth a 400 is left open; who has said nothing is owed no answer.
        assert!(status.is_none() || (is_begun && status == Some(400)), "{start:?}: {status:?}");
    }
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let server = portable("hello");
    let mut client = server.connect();
    let response = client.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((response.status, response.value("Content-Length")), (200, Some("14")));
    client.get("/").expect(200, "Hello, world!\n");
}

#[test]
fn every_response_has_one_date_and_one_server() {
    let server = serve("hello", &[]);
    let response = server.get("/");
    assert_eq!(response.value("Server"), Some("minicorn"));
    // RFC 9110 §5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
    let date = response.value("Date").expect("a Date field").to_owned();
    let shape = shape(&date);
    assert!(date.len() == 29 && &shape[3..8] == ", 00 " && shape.ends_with(" 0000 00:00:00 GMT"), "{date}");
    assert_eq!(server.ask("BAD\r\n\r\n").values("Date").len(), 1);
}

#[test]
fn the_date_is_now() {
    let server = portable("hello");
    let response = server.get("/");
    let date = httpdate::parse_http_date(response.value("Date").expect("a Date field")).expect("an HTTP date");
    let age = std::time::SystemTime::now().duration_since(date).unwrap_or_default();
    assert!(age.as_secs() < 20, "the Date is {age:?} old");
}

/// RFC 9110 §10.1.1.
#[test]
fn continue_is_sent_when_the_body_is_wanted() {
    let server = portable("echo");
    for framing in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let mut client = server.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\nExpect: 100-continue\r\n\r\n"));
        client.receive_continue();
        client.send(if framing.contains("chunked") { "5\r\nhello\r\n0\r\n\r\n" } else { "hello" });
        let response = client.receive().expect(200, "hello");
        assert!(response.interim.is_empty(), "a second 100");
        client.get("/").expect(200, "");
    }
}

#[test]
fn continue_is_not_sent_for_what_is_refused() {
    let server = serve("echo", &["--limit-request-body", "10"]);
    let cases = [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nExpect: 100-continue\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continued\r\n\r\n", 417),
    ];
    each(
        &cases,
        |(request, _)| (*request).to_owned(),
        |(request, status)| {
            let response = server.ask(request);
            assert_eq!((response.status, response.interim.as_slice()), (*status, [].as_slice()));
        },
    );
}

#[test]
fn continue_is_not_sent_without_need() {
    let server = portable("echo");
    let cases = [
        ("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello", "hello"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", ""),
    ];
    for (request, body) in cases {
        assert!(server.ask(request).expect(200, body).interim.is_empty(), "{request:?}");
    }
}

#[test]
fn http_1_0_gets_no_chunks() {
    let server = portable("reply");
    for connection in ["close", "keep-alive"] {
        let mut client = server.connect();
        let request = format!("GET /?item=one&item=two HTTP/1.0\r\nConnection: {connection}\r\n\r\n");
        let response = client.ask(request).expect(200, "onetwo");
        assert_eq!(response.framing, Framing::UntilClose);
        assert!(response.announces_close(), "only the end of the connection ends this body: {response:?}");
    }
}

/// The promise that no client holds Python, as far as reading goes: one worker, one thread.
#[test]
fn slow_clients_hold_nobody_up() {
    let server = serve("echo", &["--workers", "1"]);
    let starts = [
        "",
        "POST / HT",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Le",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ];
    let mut slow: Vec<_> = starts.iter().map(|_| server.connect()).collect();
    for (client, start) in slow.iter_mut().zip(starts) {
        client.send(start);
    }
    server.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nquick").expect(200, "quick");
    slow[3].send("world").receive().expect(200, "helloworld");
    slow[4].send("lo\r\n0\r\n\r\n").receive().expect(200, "hello");
}

/// The same for writing: 20 MB that nobody reads wait outside of Python.
#[test]
fn slow_readers_hold_nobody_up() {
    let server = serve("big", &["--workers", "1"]);
    let mut slow = server.connect();
    slow.send("GET /?bytes=20000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = slow.receive_head("GET");
    assert_eq!(head.framing, Framing::Length(20_000_000));
    assert_eq!(server.get("/?bytes=4").body, [0, 0, 0, 0]);
}

#[test]
fn unix_sockets() {
    let scratch = Scratch::new();
    let server = serve("hello", &["--bind", &format!("unix:{}", scratch.text("app.sock"))]);
    let mut client = server.connect();
    client.get("/").expect(200, "Hello, world!\n");
    client.get("/").expect(200, "Hello, world!\n");
}
