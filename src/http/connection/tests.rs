//! What a peer's bytes lead to, and how a connection is lent a buffer, parked, exported and adopted.

use super::*;
use crate::http::Leniency;
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

/// What a PROXY header leads to, shown whole, byte by byte and with a request behind it.
fn check_behind_proxy(wire: &str, expected: &[Outcome]) {
    let limits = Limits::default();
    for step in [wire.len().max(1), 1, 7] {
        let outcomes = invariant::outcomes_behind_proxy(wire.as_bytes(), step, &limits);
        assert_eq!(outcomes, expected, "{wire:?} in steps of {step}");
    }
}

#[test]
fn a_proxy_header_stands_before_the_first_request_only() {
    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const HEADER: &str = "PROXY UNKNOWN\r\n";
    let get = || request("GET", "/", "");
    let proxied = || Outcome::Proxied(ProxyHeader::Unknown);
    check_behind_proxy(&format!("{HEADER}{GET}{GET}"), &[proxied(), get(), get(), Outcome::Closed]);
    check_behind_proxy(GET, &[get(), Outcome::Closed]);
    check_behind_proxy(&format!("\r\n{GET}"), &[get(), Outcome::Closed]);
    check_behind_proxy(&format!("{HEADER}\r\n{GET}"), &[proxied(), get(), Outcome::Closed]);
    check_behind_proxy(HEADER, &[proxied(), Outcome::Closed]);
    check_behind_proxy("", &[Outcome::Closed]);
    check_behind_proxy("PROXY UNK", &[Outcome::Refused(RequestError::Incomplete)]);
    check_behind_proxy(&format!("PROXY TCP4 a b\r\n{GET}"), &[Outcome::Refused(RequestError::ProxyHeader)]);
    let twice = format!("{HEADER}{HEADER}{GET}");
    check_behind_proxy(&twice, &[proxied(), Outcome::Refused(RequestError::RequestLine)]);
    let behind = format!("{GET}{HEADER}{GET}");
    check_behind_proxy(&behind, &[get(), Outcome::Refused(RequestError::RequestLine)]);
    check(HEADER, &[Outcome::Refused(RequestError::RequestLine)]);
}

/// The outcomes with this leniency, however the bytes come.
fn lenient(leniency: Leniency, wire: &str) -> Vec<Outcome> {
    let limits = Limits { leniency, ..Limits::default() };
    let whole = invariant::outcomes(wire.as_bytes(), wire.len(), &limits);
    assert_eq!(invariant::outcomes(wire.as_bytes(), 1, &limits), whole, "{wire:?}");
    whole
}

#[test]
fn what_is_accepted_when_it_is_asked_for() {
    let none = Leniency::default();
    let any_method = Leniency { unconventional_method: true, ..none };
    let upper = Leniency { casefold_method: true, ..any_method };
    let any_version = Leniency { unconventional_version: true, ..none };
    let folding = Leniency { obsolete_folding: true, ..none };
    let spaces = Leniency { header_spaces: true, ..none };
    for (leniency, line, fields, method) in [
        (any_method, "get / HTTP/1.1", "", "get"),
        (any_method, "G# / HTTP/1.1", "", "G#"),
        (any_method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1", "", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        (upper, "Get / HTTP/1.1", "", "GET"),
        (upper, "options * HTTP/1.1", "", "OPTIONS"),
        (any_version, "GET / HTTP/2.0", "", "GET"),
        (any_version, "GET / HTTP/1.7", "", "GET"),
        (folding, "GET / HTTP/1.1", "X: a\r\n b\r\n", "GET"),
        (spaces, "GET / HTTP/1.1", "X : a\r\n", "GET"),
    ] {
        let wire = format!("{line}\r\nHost: a\r\n{fields}\r\n");
        let outcomes = lenient(leniency, &wire);
        assert!(
            matches!(&outcomes[0], Outcome::Request { method: found, .. } if found == method),
            "{wire:?}: {outcomes:?}"
        );
        assert!(matches!(lenient(none, &wire)[0], Outcome::Refused(_)), "{wire:?} is accepted anyway");
    }
}

/// Also when it is asked for.
#[test]
fn what_is_never_accepted() {
    let all = Leniency {
        obsolete_folding: true,
        header_spaces: true,
        unconventional_method: true,
        unconventional_version: true,
        casefold_method: true,
    };
    let folding = Leniency { obsolete_folding: true, ..Leniency::default() };
    for (leniency, head) in [
        (all, "G(T / HTTP/1.1\r\nHost: a\r\n"),
        (all, "GET / HTTP/11\r\nHost: a\r\n"),
        (all, "GET / http/1.1\r\nHost: a\r\n"),
        (all, "connect a:443 HTTP/1.1\r\nHost: a\r\n"),
        (all, "GET / HTTP/1.1\r\n Host: a\r\n"),
        (all, "GET / HTTP/1.1\r\nHost : a\r\n"),
        (all, "GET / HTTP/1.1\r\nHost:\r\n a\r\n"),
        (all, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\0\r\n"),
        (all, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n"),
        (all, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n"),
        (all, "POST / HTTP/0.9\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"),
        // One alone does not bring the other.
        (Leniency { casefold_method: true, ..Leniency::default() }, "get / HTTP/1.1\r\nHost: a\r\n"),
        (folding, "GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n"),
    ] {
        let outcomes = lenient(leniency, &format!("{head}\r\n"));
        assert!(matches!(outcomes[..], [Outcome::Refused(_)]), "{head:?}: {outcomes:?}");
    }
}

/// A folded field counts as one, in bytes and in number.
#[test]
fn limits_hold_for_folded_fields() {
    let leniency = Leniency { obsolete_folding: true, ..Leniency::default() };
    let limits = Limits { fields_max: 2, field_bytes_max: 20, leniency, ..Limits::default() };
    let folds = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n{}\r\n", " b\r\n".repeat(count));
    for (wire, expected) in
        [(folds(4), None), (folds(5), Some(RequestError::FieldTooLong)), (folds(500), Some(RequestError::FieldTooLong))]
    {
        for step in [1, wire.len()] {
            let outcomes = invariant::outcomes(wire.as_bytes(), step, &limits);
            let refused = outcomes.iter().find_map(|outcome| match outcome {
                Outcome::Refused(error) => Some(*error),
                _ => None,
            });
            assert_eq!(refused, expected, "{wire:?} in steps of {step}");
        }
    }
}

/// `limit_request_line` may be without an end.
#[test]
fn a_line_without_limit() {
    let limits = Limits { line_bytes_max: usize::MAX, ..Limits::default() };
    let target = format!("/{}", "x".repeat(200_000));
    let wire = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for step in [1000, wire.len()] {
        let outcomes = invariant::outcomes(wire.as_bytes(), step, &limits);
        assert_eq!(outcomes, [request("GET", &target, ""), Outcome::Closed]);
    }
}
