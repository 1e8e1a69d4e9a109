//! Sizes and counts that a request may have, and the status of what goes beyond (RFC 9110 §15.5, RFC 6585 §5).

use crate::harness::{Server, each, serve};

#[track_caller]
fn refuse(server: &Server, request: impl AsRef<[u8]>, status: u16) {
    let mut client = server.connect();
    // The rest may be more than the server still reads.
    let _ = client.try_send(request);
    let response = client.receive();
    assert_eq!(response.status, status);
    assert!(response.announces_close());
    client.expect_end();
}

fn target_of(length: usize) -> String {
    format!("/{}", "t".repeat(length - 1))
}

#[test]
fn request_line() {
    let server = serve("hello", &[]);
    server.get(&target_of(4000)).expect(200, "Hello, world!\n");
    refuse(&server, format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", target_of(4200)), 414);
    // Refused while it is still being sent: its end may never come.
    refuse(&server, format!("GET {}", target_of(10_000)), 414);
}

#[test]
fn request_line_as_configured() {
    let server = serve("hello", &["--limit-request-line", "100"]);
    server.get(&target_of(80)).expect(200, "Hello, world!\n");
    refuse(&server, format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", target_of(120)), 414);
    // What is above the cap is the cap, and zero is no limit, as with gunicorn.
    let server = serve("hello", &["--limit-request-line", "100000"]);
    server.get(&target_of(8000)).expect(200, "Hello, world!\n");
    refuse(&server, format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", target_of(8300)), 414);
    let server = serve("hello", &["--limit-request-line", "0"]);
    server.get(&target_of(1_000_000)).expect(200, "Hello, world!\n");
}

#[test]
fn field_count() {
    let request = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    let server = serve("hello", &[]);
    server.ask(request(100)).expect(200, "Hello, world!\n");
    refuse(&server, request(101), 431);
    let server = serve("hello", &["--limit-request-fields", "3"]);
    server.ask(request(3)).expect(200, "Hello, world!\n");
    refuse(&server, request(4), 431);
}

#[test]
fn field_size() {
    let request = |size: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(size - 3));
    let server = serve("hello", &[]);
    server.ask(request(8000)).expect(200, "Hello, world!\n");
    refuse(&server, request(8300), 431);
    refuse(&server, format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", "b".repeat(20_000)), 431);
    refuse(&server, format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "b".repeat(20_000)), 431);
    // gunicorn spells this option with an underscore.
    for option in ["--limit-request-field-size", "--limit-request-field_size"] {
        let server = serve("hello", &[option, "50"]);
        server.ask(request(40)).expect(200, "Hello, world!\n");
        refuse(&server, request(60), 431);
    }
}

#[test]
fn many_large_fields_at_once() {
    let field = format!("A: {}\r\n", "b".repeat(8000));
    let server = serve("hello", &[]);
    server.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field.repeat(50))).expect(200, "Hello, world!\n");
    refuse(&server, format!("GET / HTTP/1.1\r\nHost: a\r\n{}", field.repeat(150)), 431);
}

#[test]
fn trailers() {
    let request = |trailers: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n{trailers}\r\n")
    };
    let server = serve("echo", &[]);
    server.ask(request(&"A: b\r\n".repeat(50))).expect(200, "x");
    refuse(&server, request(&"A: b\r\n".repeat(200)), 431);
    refuse(&server, request(&format!("A: {}\r\n", "b".repeat(20_000))), 431);
}

#[test]
fn chunk_size_line() {
    let server = serve("echo", &[]);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    refuse(&server, format!("{head}1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(100_000)), 400);
    refuse(&server, format!("{head}{}1\r\nx\r\n0\r\n\r\n", "0".repeat(100_000)), 400);
}

#[test]
fn body_of_known_length() {
    let server = serve("echo", &["--limit-request-body", "10"]);
    server.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789").expect(200, "0123456789");
    // Said at once, before the body is sent.
    refuse(&server, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", 413);
    refuse(&server, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999\r\n\r\n", 413);
}

#[test]
fn body_in_chunks() {
    let server = serve("echo", &["--limit-request-body", "10"]);
    let request = |chunks: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    server.ask(request("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n")).expect(200, "0123456789");
    refuse(&server, request("5\r\n01234\r\n6\r\n56789X\r\n0\r\n\r\n"), 413);
    refuse(&server, request("ffffffff\r\n"), 413);
}

#[test]
fn body_limit_units() {
    let cases = [("1K", 1024), ("1M", 1024 * 1024)];
    each(
        &cases,
        |(limit, _)| (*limit).to_owned(),
        |&(limit, bytes)| {
            let server = serve("ignores_body", &["--limit-request-body", limit]);
            let head = |length: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            server.ask([head(bytes).into_bytes(), vec![b'x'; bytes]].concat()).expect(200, "ignored");
            refuse(&server, head(bytes + 1), 413);
        },
    );
}

/// RFC 9112 §9.6: who still sends when it is refused must be able to read why, not find a reset.
#[test]
fn the_refusal_can_be_read_by_who_still_sends() {
    let server = serve("echo", &["--limit-request-body", "1000"]);
    for _ in 0..5 {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
        for _ in 0..16 {
            client.send(vec![b'x'; 62_500]);
        }
        assert_eq!(client.receive().status, 413);
        client.end_sending().expect_end();
    }
}
