//! What a peer's bytes lead to, and how a connection is lent a buffer, parked, exported and adopted.

use super::*;
use crate::http::invariant::{self, Outcome};

/// What a peer's bytes lead to, shown whole, byte by byte and with trailing bytes.
fn check(wire: &str, expected: &[Outcome]) {
    let limits = Limits::default();
    for step in [wire.len().max(1), 1, 7] {
        assert_eq!(invariant::outcomes(wire.as_bytes(), step, &limits), expected, "{wire:?} in steps of {step}");
    }
}

fn request(method: &str, target: &str, body: &str) -> Outcome {
    Outcome::Request { method: method.into(), target: target.into(), body: body.into() }
}

#[test]
fn requests_one_after_another() {
    check("", &[Outcome::Closed]);
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[request("GET", "/", ""), Outcome::Closed]);
    check(
        "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        &[request("POST", "/a", "abc"), request("GET", "/b", ""), Outcome::Closed],
    );
    check(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n\
         GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        &[request("POST", "/", "abcde"), request("GET", "/b", ""), Outcome::Closed],
    );
}

#[test]
fn a_connection_ends_with_the_request_that_says_so() {
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        &[request("GET", "/", ""), Outcome::Closed],
    );
    check("GET / HTTP/1.0\r\n\r\nGET", &[request("GET", "/", ""), Outcome::Closed]);
}

#[test]
fn refusals_end_the_connection() {
    let refused = |wire: &str, error| check(wire, &[Outcome::Refused(error)]);
    refused("\r\n\r\nGET / HTTP/1.1\r\n", RequestError::RequestLine);
    refused("\x16\x03\x01", RequestError::RequestLine);
    refused("\n", RequestError::RequestLine);
    refused("GET /", RequestError::Incomplete);
    refused("GET / HTTP/1.1\r\nHost: a\r\n", RequestError::Incomplete);
    refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab", RequestError::Incomplete);
    refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741825\r\n\r\n", RequestError::BodyTooLarge);
}

#[test]
fn continue_is_wanted_only_while_the_body_has_not_begun() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n";
    for (wire, expected) in [(head.to_owned(), true), (format!("{head}a"), false)] {
        let mut connection = Connection::default();
        connection.lend(vec![0; STORAGE_BYTES]);
        connection.space()[..wire.len()].copy_from_slice(wire.as_bytes());
        connection.filled(wire.len());
        let event = connection.next_event(&Limits::default());
        assert_eq!(event, Ok(Event::Head { wants_continue: expected }));
    }
}

#[test]
fn a_parked_connection_owns_only_what_it_received() {
    let mut connection = Connection::default();
    connection.lend(vec![0; STORAGE_BYTES]);
    connection.space()[..5].copy_from_slice(b"GET /");
    connection.filled(5);
    assert_eq!(connection.next_event(&Limits::default()), Ok(Event::NeedInput));
    assert_eq!(connection.phase(), Phase::Head);
    let storage = connection.park().expect("five bytes are parked");
    assert_eq!((storage.len(), connection.storage.capacity()), (STORAGE_BYTES, 5));
    connection.lend(storage);
    assert_eq!(&connection.storage[..5], b"GET /");
}

/// A connection that was sent `wire` and has come to its first `End`, or to where it needs more.
fn connection_sent(wire: &str) -> Connection {
    let mut connection = Connection::default();
    connection.lend(vec![0; STORAGE_BYTES]);
    connection.space()[..wire.len()].copy_from_slice(wire.as_bytes());
    connection.filled(wire.len());
    while !matches!(connection.next_event(&Limits::default()), Ok(Event::NeedInput | Event::End) | Err(_)) {}
    connection
}

fn exported(connection: &Connection) -> Option<(&str, &str)> {
    let exported = connection.export()?;
    let Cow::Borrowed(leftover) = exported.leftover else { return Some(("", "copied")) };
    Some((str::from_utf8(exported.head).ok()?, str::from_utf8(leftover).ok()?))
}

#[test]
fn what_is_exported_in_each_phase() {
    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let cases = [
        (String::new(), Phase::Idle, Some(("", ""))),
        (GET[..9].to_owned(), Phase::Head, Some(("", &GET[..9]))),
        (format!("\r\n{}", &GET[..9]), Phase::Head, Some(("", "copied"))),
        (format!("{GET}GET"), Phase::Responding, Some((GET, "GET"))),
        (format!("{POST}abcGET"), Phase::Responding, Some((POST, "GET"))),
        (format!("\r\n{POST}abcGET"), Phase::Responding, Some((POST, "GET"))),
        (format!("{POST}ab"), Phase::Body, None),
        ("\n".to_owned(), Phase::Closed, None),
    ];
    for (wire, phase, expected) in cases {
        let connection = connection_sent(&wire);
        assert_eq!((connection.phase(), exported(&connection)), (phase, expected), "{wire:?}");
    }
    let mut connection = connection_sent(&format!("{POST}abcGET"));
    connection.respond(true);
    assert_eq!(exported(&connection), Some(("", "GET")));
    connection.park();
    assert_eq!(exported(&connection), Some(("", "GET")), "when parked");
}

#[test]
fn an_adopted_request_waits_for_its_response_with_its_framing_told() {
    let head = "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let limits = Limits::default();
    let mut connection =
        Connection::adopt(head.as_bytes(), b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n", true, &limits).expect("sound");
    assert_eq!((connection.phase(), connection.next_event(&limits)), (Phase::Responding, Ok(Event::NeedInput)));
    let request = connection.request();
    assert_eq!((request.target(), request.host(), request.persists()), (&b"/a"[..], Some(&b"h"[..]), true));
    assert_eq!(request.body(), crate::http::framing::BodyFraming::Chunked);
    assert!(connection.has_leftover());
    connection.respond(true);
    assert_eq!(connection.next_event(&limits), Ok(Event::Head { wants_continue: false }));
    assert_eq!(connection.request().target(), b"/b");
    assert_eq!(connection.next_event(&limits), Ok(Event::End));
    connection.respond(true);
    assert_eq!(connection.next_event(&limits), Ok(Event::Closed), "the input had ended");
}

#[test]
fn more_than_a_lent_buffer_holds_can_be_adopted() {
    let leftover = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2 * STORAGE_BYTES / 28);
    let mut connection = Connection::adopt(b"", leftover.as_bytes(), false, &Limits::default()).expect("no head");
    assert!(!connection.wants_storage());
    let mut requests = 0;
    while connection.next_event(&Limits::default()) != Ok(Event::NeedInput) {
        if connection.phase() == Phase::Responding {
            requests += 1;
            connection.respond(true);
        }
        connection.space();
    }
    assert_eq!(requests, 2 * STORAGE_BYTES / 28);
}

#[test]
fn a_head_that_is_not_exactly_one_is_not_adopted() {
    let adopt = |head: &str| Connection::adopt(head.as_bytes(), b"", false, &Limits::default()).err();
    assert_eq!(adopt("GET / HTTP/1.1\r\nHost: a\r\n"), Some(RequestError::Incomplete));
    assert_eq!(adopt("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET"), Some(RequestError::Incomplete));
    assert_eq!(adopt("GET / HTTP/1.1\r\n\r\n"), Some(RequestError::HostMissing));
}
