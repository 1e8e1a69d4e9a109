//! Requests that RFC 9112 allows, and requests that are refused: each known way to smuggle, and the status it gets.

use crate::harness::{Server, each, portable};

/// Follows every refused request on its connection: whoever answers it has been smuggled.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

type Cases<'a> = &'a [(&'a [u8], u16)];

/// Puts each case where `request` wants it, and checks that it is refused with its status.
fn refused(cases: Cases, request: impl Fn(&[u8]) -> Vec<u8>) {
    let server = portable("echo");
    each(cases, |(case, _)| case.escape_ascii().to_string(), |(case, status)| refuse(&server, &request(case), *status));
    server.get("/").expect(200, "");
}

fn refuse(server: &Server, request: &[u8], status: u16) {
    let mut client = server.connect();
    let response = client.send([request, SMUGGLED].concat()).receive();
    assert_eq!(response.status, status, "{}", response.text());
    assert!(response.announces_close(), "{response:?}");
    assert!(response.value("Content-Type").is_some_and(|value| value.starts_with("text/plain")), "{response:?}");
    assert!((1..200).contains(&response.body.len()), "a short body says what is wrong: {response:?}");
    client.expect_end();
}

/// Checks that each request is answered with 200 and this body, and that the connection goes on with the next request.
fn accepted(cases: &[(&[u8], &str)], request: impl Fn(&[u8]) -> Vec<u8>) {
    let server = portable("echo");
    each(
        cases,
        |(case, _)| case.escape_ascii().to_string(),
        |(case, body)| {
            let mut client = server.connect();
            client.ask(request(case)).expect(200, body);
            client.get("/").expect(200, "");
        },
    );
}

fn with_line(line: &[u8]) -> Vec<u8> {
    [line, b"\r\nHost: a\r\n\r\n"].concat()
}

fn with_fields(fields: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n\r\n"].concat()
}

fn with_host_fields(fields: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\n", fields, b"\r\n"].concat()
}

fn with_chunks(chunks: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", chunks].concat()
}

fn as_it_stands(request: &[u8]) -> Vec<u8> {
    request.to_vec()
}

/// RFC 9112 §3; methods as gunicorn restricts them, since no real one is longer, shorter or in lower case.
#[test]
fn request_lines_refused() {
    let cases: Cases = &[
        (b"", 400),
        (b"GET", 400),
        (b"GET /", 400),
        (b"GET  HTTP/1.1", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET\t/\tHTTP/1.1", 400),
        (b"GET / b HTTP/1.1", 400),
        (b"GET / HTTP/1.1 HTTP/1.1", 400),
        (b"get / HTTP/1.1", 400),
        (b"Get / HTTP/1.1", 400),
        (b"GE / HTTP/1.1", 400),
        (b"ABCDEFGHIJKLMNOPQRSTU / HTTP/1.1", 400),
        (b"GE(T / HTTP/1.1", 400),
        (b"G#T / HTTP/1.1", 400),
        (b"G\xc9T / HTTP/1.1", 400),
        (b"G\0T / HTTP/1.1", 400),
        (b"GET /\0 HTTP/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /\xc3\xa9 HTTP/1.1", 400),
        (b"GET /\r HTTP/1.1", 400),
        (b"GET /a\rb HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r", 400),
        (b"GET /\x0b HTTP/1.1", 400),
        (b"GET /#fragment HTTP/1.1", 400),
        (b"GET /a HTTP/1.1 b HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET path HTTP/1.1", 400),
        (b"GET ?query HTTP/1.1", 400),
        (b"GET http:// HTTP/1.1", 400),
        (b"GET http:///path HTTP/1.1", 400),
        (b"GET http://[::1/ HTTP/1.1", 400),
        (b"GET http://user@a/ HTTP/1.1", 400),
        (b"GET a:80 HTTP/1.1", 400),
        (b"CONNECT a:443 HTTP/1.1", 501),
        (b"GET / HTTP/0.9", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/3.0", 505),
        (b"GET / HTTP/1", 400),
        (b"GET / HTTP/1.", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/11", 400),
        (b"GET / HTTP/+1.1", 400),
        (b"GET / HTTP/x.y", 400),
        (b"GET / HTTP 1.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTPS/1.1", 400),
        (b"GET / ICY/1.1", 400),
    ];
    refused(cases, with_line);
}

#[test]
fn request_lines_accepted() {
    let cases: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.1", ""),
        (b"\r\nGET / HTTP/1.1", ""),
        (b"GET //double HTTP/1.1", ""),
        (b"GET /%zz?a=b?c&d/HTTP/1.1 HTTP/1.1", ""),
        (b"GET /!$&'()*+,;=:@~-._|{}\"<>\\^`[] HTTP/1.1", ""),
        (b"GET http://a HTTP/1.1", ""),
        (b"GET http://a:80/path?query HTTP/1.1", ""),
        (b"GET https://[::1]:443/ HTTP/1.1", ""),
        (b"PUT / HTTP/1.1", ""),
        (b"M-SEARCH / HTTP/1.1", ""),
        (b"ABCDEFGHIJKLMNOPQRST / HTTP/1.1", ""),
    ];
    accepted(cases, with_line);
}

/// RFC 9112 §2.2: only CRLF ends a line. What takes LF or CR alone sees another message than we do.
#[test]
fn line_ends_refused() {
    let cases: Cases = &[
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\nContent-Length: 5\r\n\r\nhello", 400),
        (b"GET / HTTP/1.1\rHost: a\r\r", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rA: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\rContent-Length: 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\rA: b\r\n\r\n", 400),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\0GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ];
    refused(cases, as_it_stands);
}

/// RFC 9112 §5, RFC 9110 §5.5.
#[test]
fn fields_refused() {
    let cases: Cases = &[
        (b"no colon", 400),
        (b": no name", 400),
        (b"A : space before the colon", 400),
        (b"A\t: tab before the colon", 400),
        (b"A B: space in the name", 400),
        (b" A: space before the name", 400),
        (b"A\0: NUL in the name", 400),
        (b"\xc3\xa9: 8-bit in the name", 400),
        (b"A(B): delimiters in the name", 400),
        (b"A: NUL\0in the value", 400),
        (b"A: \x01", 400),
        (b"A: \x0b", 400),
        (b"A: \x1b[31m", 400),
        (b"A: \x7f", 400),
        (b"A: folded\r\n here", 400),
        (b"A: folded\r\n\there", 400),
        (b"A: folded\r\n ", 400),
        (b"Content-Type: a/b\r\nContent-Type: a/b", 400),
        (b"Expect: 200-ok", 417),
        (b"Expect: 100-continue, x", 417),
    ];
    refused(cases, with_fields);
    // The same as the first field of all, where a line that begins with a space continues the request line.
    refused(&[(b" Host: a\r\n", 400), (b"\tHost: a\r\n", 400), (b" \r\nHost: a\r\n", 400)], with_host_fields);
}

#[test]
fn fields_accepted() {
    let cases: &[(&[u8], &str)] = &[
        (b"A:", ""),
        (b"A:no space", ""),
        (b"A: \t padded \t ", ""),
        (b"A: in\tner", ""),
        (b"A: \x80\xff", ""),
        (b"!#$%&'*+-.^_`|~09azAZ: every token character", ""),
        (b"Content_Length: 100", ""),
        (b"Transfer_Encoding: chunked", ""),
        (b"EXPECT: 100-CONTINUE", ""),
    ];
    accepted(cases, with_fields);
}

/// RFC 9112 §3.2: 400 for a request of HTTP/1.1 without Host, with two, or with an invalid one.
#[test]
fn hosts_refused() {
    let cases: Cases = &[
        (b"", 400),
        (b"Host: a\r\nHost: a\r\n", 400),
        (b"Host: a\r\nHOST: b\r\n", 400),
        (b"Host: a, b\r\n", 400),
        (b"Host: a b\r\n", 400),
        (b"Host: a/b\r\n", 400),
        (b"Host: a?b\r\n", 400),
        (b"Host: a#b\r\n", 400),
        (b"Host: a\\b\r\n", 400),
        (b"Host: user@a\r\n", 400),
        (b"Host: http://a\r\n", 400),
        (b"Host: a:port\r\n", 400),
        (b"Host: a:-1\r\n", 400),
        (b"Host: a:1:2\r\n", 400),
        (b"Host: ::1\r\n", 400),
        (b"Host: [::1\r\n", 400),
        (b"Host: [::1]a\r\n", 400),
        (b"Host: [a b]\r\n", 400),
        (b"Host: \xc3\xa9\r\n", 400),
    ];
    refused(cases, with_host_fields);
    refused(&[(b"Host: a\r\nHost: a\r\n", 400)], |fields| [b"GET / HTTP/1.0\r\n", fields, b"\r\n"].concat());
    refused(&[(b"", 400)], |fields| [b"GET http://a/ HTTP/1.1\r\n", fields, b"\r\n"].concat());
}

#[test]
fn hosts_accepted() {
    let cases: &[(&[u8], &str)] = &[
        (b"Host:\r\n", ""),
        (b"Host: a:\r\n", ""),
        (b"Host: a:8000\r\n", ""),
        (b"Host: A-b.c_d.example.\r\n", ""),
        (b"Host: 127.0.0.1:8000\r\n", ""),
        (b"Host: [::1]\r\n", ""),
        (b"Host: [2001:db8::1]:8000\r\n", ""),
    ];
    accepted(cases, with_host_fields);
    portable("echo").ask("GET / HTTP/1.0\r\n\r\n").expect(200, "");
}

/// RFC 9112 §6: how long the body is must never be a guess.
#[test]
fn framing_refused() {
    let cases: Cases = &[
        (b"Content-Length: 5\r\nContent-Length: 5", 400),
        (b"Content-Length: 5\r\ncontent-length: 6", 400),
        (b"Content-Length: 5, 5", 400),
        (b"Content-Length: 5,6", 400),
        (b"Content-Length: +5", 400),
        (b"Content-Length: -5", 400),
        (b"Content-Length: ", 400),
        (b"Content-Length: 5 5", 400),
        (b"Content-Length: 0x5", 400),
        (b"Content-Length: 5_0", 400),
        (b"Content-Length: 5.0", 400),
        (b"Content-Length: 5e0", 400),
        (b"Content-Length: five", 400),
        (b"Content-Length: \xd9\xa5", 400),
        (b"Content-Length: \"5\"", 400),
        (b"Content-Length: 18446744073709551616", 400),
        (b"Content-Length: 99999999999999999999999999", 400),
        (b"Content-Length : 5", 400),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 0", 400),
        (b"Transfer-Encoding: chunked, chunked", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding : chunked", 400),
        (b"Transfer-Encoding: chunked\r\n , identity", 400),
        (b"Transfer-Encoding:\x0bchunked", 400),
        (b"Transfer-Encoding: \0chunked", 400),
        (b"Transfer-Encoding: ", 501),
        (b"Transfer-Encoding: chunked,", 501),
        (b"Transfer-Encoding: identity", 501),
        (b"Transfer-Encoding: gzip", 501),
        (b"Transfer-Encoding: gzip, chunked", 501),
        (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
        (b"Transfer-Encoding: chunked, identity", 501),
        (b"Transfer-Encoding: xchunked", 501),
        (b"Transfer-Encoding: chunkedx", 501),
        (b"Transfer-Encoding: chunked;q=1", 501),
        (b"Transfer-Encoding: \"chunked\"", 501),
        (b"Transfer-Encoding: ch\xc5\xabnked", 501),
    ];
    refused(cases, with_fields);
    // RFC 9112 §6.1: HTTP/1.0 has no Transfer-Encoding; its framing is faulty. A body without a length would end with
    // the connection there, so that "no body" would take it for the next request (RFC 1945 §8.3: 411).
    let cases: Cases = &[
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 411),
    ];
    refused(cases, as_it_stands);
}

#[test]
fn framing_accepted() {
    let cases: &[(&[u8], &str)] = &[
        (b"Content-Length: 5\r\n\r\nhello", "hello"),
        (b"Content-Length:5 \t\r\n\r\nhello", "hello"),
        (b"Content-Length: 0005\r\n\r\nhello", "hello"),
        (b"Content-Length: 0\r\n\r\n", ""),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
        (b"transfer-encoding:CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
        // Underscores spell other names (RFC 9110 §5.1), however alike the environ keys are.
        (b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        (b"Content_Length: 3\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        // A POST without a length has no body (RFC 9112 §6.3, rung 7).
        (b"\r\n", ""),
    ];
    accepted(cases, |fields| [b"POST / HTTP/1.1\r\nHost: a\r\n", fields].concat());
}

/// RFC 9112 §7.1.
#[test]
fn chunks_refused() {
    let cases: Cases = &[
        (b"\r\n", 400),
        (b"g\r\n", 400),
        (b"+5\r\nhello\r\n0\r\n\r\n", 400),
        (b"-5\r\nhello\r\n0\r\n\r\n", 400),
        (b"0x5\r\nhello\r\n0\r\n\r\n", 400),
        (b"5_\r\nhello\r\n0\r\n\r\n", 400),
        (b" 5\r\nhello\r\n0\r\n\r\n", 400),
        (b"5 \r\nhello\r\n0\r\n\r\n", 400),
        (b"\t5\r\nhello\r\n0\r\n\r\n", 400),
        (b"5\nhello\r\n0\r\n\r\n", 400),
        (b"5\rhello\r\n0\r\n\r\n", 400),
        (b"5\r\nhello\n0\r\n\r\n", 400),
        (b"5\r\nhello0\r\n\r\n", 400),
        (b"5\r\nhello!\r\n0\r\n\r\n", 400),
        (b"5\r\nhelloXX0\r\n\r\n", 400),
        (b"5\r\nhello\r\r0\r\n\r\n", 400),
        (b"4\r\nhello\r\n0\r\n\r\n", 400),
        (b"6\r\nhello\r\n0\r\n\r\n", 400),
        (b"10000000000000000\r\nhello", 400),
        (b"fffffffffffffffff\r\nhello", 400),
        (b"5;\nhello\r\n0\r\n\r\n", 400),
        (b"5;a\rb\r\nhello\r\n0\r\n\r\n", 400),
        (b"5;a\nb\r\nhello\r\n0\r\n\r\n", 400),
        (b"5;a=\0\r\nhello\r\n0\r\n\r\n", 400),
        (b"5 a\r\nhello\r\n0\r\n\r\n", 400),
        (b"0\r\n\n", 400),
        (b"0\n\n", 400),
        (b"0\r\nno colon\r\n\r\n", 400),
        (b"0\r\nA : b\r\n\r\n", 400),
        (b"0\r\nA: b\n\r\n", 400),
        (b"0\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"0\r\nA: \0\r\n\r\n", 400),
        (b"0\r\nContent-Length: 5\r\n\r\n", 400),
        (b"0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"0\r\nHost: b\r\n\r\n", 400),
        (b"0\r\nTrailer: A\r\n\r\n", 400),
        (b"0\r\nAuthorization: x\r\n\r\n", 400),
        (b"0\r\nTE: trailers\r\n\r\n", 400),
    ];
    refused(cases, with_chunks);
}

#[test]
fn chunks_accepted() {
    let cases: &[(&[u8], &str)] = &[
        (b"0\r\n\r\n", ""),
        (b"5\r\nhello\r\n0\r\n\r\n", "hello"),
        (b"00005\r\nhello\r\n000\r\n\r\n", "hello"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        (b"5;a\r\nhello\r\n0\r\n\r\n", "hello"),
        (b"5;a=b;c=\"d;\\\"e\"\r\nhello\r\n0;last\r\n\r\n", "hello"),
        (b"5 ; a = b\r\nhello\r\n0\r\n\r\n", "hello"),
        (b"5\r\nhello\r\n0\r\nX-Checksum: 42\r\nX-Other: \t x \r\n\r\n", "hello"),
    ];
    accepted(cases, with_chunks);
}

/// A body that ends before its promised end never reaches the app as if it were whole.
#[test]
fn bodies_cut_by_the_client() {
    let server = portable("echo");
    let requests = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ];
    for request in requests {
        let mut client = server.connect();
        client.send(request).end_sending();
        assert_ne!(client.status_or_end(), Some(200), "{request:?} was taken for complete");
    }
}
