//! wsgi.input (PEP 3333, Input and Error Streams): a file that ends where the body ends.

use crate::harness::{Server, each, portable};

pub const BODY: &str = "line one\nline two\nrest";

pub const CALLS: &[(&str, &str)] = &[
    ("i.read()", r"b'line one\nline two\nrest'"),
    ("i.read(-1)", r"b'line one\nline two\nrest'"),
    ("i.read(None)", r"b'line one\nline two\nrest'"),
    ("i.read(4)", "b'line'"),
    ("i.read(0)", "b''"),
    ("i.read(1000)", r"b'line one\nline two\nrest'"),
    ("i.read(10**12)", r"b'line one\nline two\nrest'"),
    ("[i.read(18), i.read(18), i.read(18), i.read()]", r"[b'line one\nline two\n', b'rest', b'', b'']"),
    ("i.readline()", r"b'line one\n'"),
    ("i.readline(4)", "b'line'"),
    ("i.readline(9)", r"b'line one\n'"),
    ("i.readline(100)", r"b'line one\n'"),
    ("i.readline(0)", "b''"),
    ("i.readline(-1)", r"b'line one\n'"),
    ("i.readline(None)", r"b'line one\n'"),
    ("[i.readline() for _ in range(4)]", r"[b'line one\n', b'line two\n', b'rest', b'']"),
    ("i.readlines()", r"[b'line one\n', b'line two\n', b'rest']"),
    ("i.readlines(None)", r"[b'line one\n', b'line two\n', b'rest']"),
    ("i.readlines(0)", r"[b'line one\n', b'line two\n', b'rest']"),
    ("i.readlines(5)", r"[b'line one\n']"),
    // As `open(…, "rb").readlines(9)`: until the hint is exceeded.
    ("i.readlines(8)", r"[b'line one\n']"),
    ("i.readlines(9)", r"[b'line one\n', b'line two\n']"),
    ("i.readlines(10)", r"[b'line one\n', b'line two\n']"),
    ("i.readlines(1000)", r"[b'line one\n', b'line two\n', b'rest']"),
    ("list(i)", r"[b'line one\n', b'line two\n', b'rest']"),
    ("[line for line in i] + [i.read()]", r"[b'line one\n', b'line two\n', b'rest', b'']"),
    ("[next(i), i.read(4), i.readline(), i.readlines()]", r"[b'line one\n', b'line', b' two\n', [b'rest']]"),
    ("type(i.read(3)).__name__", "'bytes'"),
];

const CALLS_WITHOUT_BODY: &[(&str, &str)] = &[
    ("i.read()", "b''"),
    ("i.read(10)", "b''"),
    ("i.readline()", "b''"),
    ("i.readlines()", "[]"),
    ("list(i)", "[]"),
    ("[i.read(), i.readline(), i.read(1)]", "[b'', b'', b'']"),
];

pub fn check(server: &Server, cases: &[(&str, &str)], head: &str, body: &str) {
    // What follows on the connection must never be seen by the app.
    let next = "GET / HTTP/1.1\r\nHost: a\r\nX-Call: 'next'\r\n\r\n";
    each(
        cases,
        |(call, _)| (*call).to_owned(),
        |(call, answer)| {
            let mut client = server.connect();
            client.send(format!("{head}\r\nHost: a\r\nX-Call: {call}\r\n\r\n{body}{next}"));
            client.receive().expect(200, answer);
            client.receive().expect(200, "'next'");
        },
    );
}

#[test]
fn body_of_known_length() {
    let head = format!("POST / HTTP/1.1\r\nContent-Length: {}", BODY.len());
    check(&portable("input_calls"), CALLS, &head, BODY);
}

#[test]
fn body_in_chunks() {
    let (one, two) = BODY.split_at(11);
    let chunks = format!("{:x}\r\n{one}\r\n{:X};ext\r\n{two}\r\n0\r\nX-Trailer: t\r\n\r\n", one.len(), two.len());
    check(&portable("input_calls"), CALLS, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked", &chunks);
}

#[test]
fn no_body() {
    let server = portable("input_calls");
    check(&server, CALLS_WITHOUT_BODY, "GET / HTTP/1.1", "");
    check(&server, CALLS_WITHOUT_BODY, "POST / HTTP/1.1\r\nContent-Length: 0", "");
    check(&server, CALLS_WITHOUT_BODY, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked", "0\r\n\r\n");
}

/// Every byte value arrives, in any size that crosses a buffer somewhere.
#[test]
fn large_bodies() {
    let server = portable("echo");
    let mut client = server.connect();
    for length in [1, 4095, 4096, 65_535, 65_537, 1_048_576, 5_000_000] {
        let body: Vec<u8> = (0..length).map(|number: usize| (number % 251) as u8).collect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).send(&body);
        assert!(client.receive().body == body, "{length} bytes came back changed");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(10_007) {
            client.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        client.send("0\r\n\r\n");
        assert!(client.receive().body == body, "{length} bytes in chunks came back changed");
    }
}
