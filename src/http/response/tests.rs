//! Heads that may and may not be sent; every framing, as it stands on the wire.

use super::*;

const GET: ResponseTo = ResponseTo { is_head: false, version: Version::Http11, persists: true };
const HEAD: ResponseTo = ResponseTo { is_head: true, ..GET };
const GET_10: ResponseTo = ResponseTo { version: Version::Http10, ..GET };

/// A head, the request, a known length and pieces; the wire form, how the body ended, and persistence.
type Case<'a> = (&'a ResponseHead, ResponseTo, Option<u64>, &'a [&'a str], &'a str, BodyEnd, bool);

fn head(status: &str, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::default();
    head.start(status.as_bytes()).expect("a sound status");
    for (name, value) in fields {
        head.field(name.as_bytes(), value.as_bytes()).expect("a sound field");
    }
    head
}

/// The wire form of a response whose body comes in `pieces`, without Server and Date, and how it ended.
fn encode(head: &ResponseHead, to: ResponseTo, known: Option<u64>, pieces: &[&str]) -> (String, BodyEnd, bool) {
    let mut out = Vec::new();
    let date = DateLines::default();
    let mut encoder = ResponseEncoder::begin(head, to, known, &date, &mut out);
    for piece in pieces {
        let admitted = encoder.admit(piece.len());
        if admitted > 0 {
            encoder.open(admitted, &mut out);
            out.extend_from_slice(&piece.as_bytes()[..admitted]);
            encoder.close(&mut out);
        }
    }
    let end = encoder.end(&mut out);
    let wire = String::from_utf8(out).expect("ASCII");
    let both = std::str::from_utf8(date.both()).expect("ASCII");
    (wire.replace(both, "").replace("\r\n", "|"), end, encoder.persists())
}

#[test]
fn framings() {
    let ok = head("200 OK", &[("X", "y")]);
    let sized = head("200 OK", &[("Content-Length", "5")]);
    let close_10 = "HTTP/1.1 200 OK|X: y|Connection: close||hello";
    let short = BodyEnd::Short(3);
    let cases: [Case<'_>; 9] = [
        (&ok, GET, Some(5), &["hello"], "HTTP/1.1 200 OK|X: y|Content-Length: 5||hello", BodyEnd::Complete, true),
        (
            &ok,
            GET,
            None,
            &["hello", "0123456789abcdef"],
            "HTTP/1.1 200 OK|X: y|Transfer-Encoding: chunked||5|hello|10|0123456789abcdef|0||",
            BodyEnd::Complete,
            true,
        ),
        (&ok, GET_10, None, &["hel", "lo"], close_10, BodyEnd::Complete, false),
        (
            &ok,
            GET_10,
            Some(2),
            &["hi"],
            "HTTP/1.1 200 OK|X: y|Content-Length: 2|Connection: keep-alive||hi",
            BodyEnd::Complete,
            true,
        ),
        (&sized, GET, None, &["hel", "lo there"], "HTTP/1.1 200 OK|Content-Length: 5||hello", BodyEnd::Complete, true),
        (&sized, GET, None, &["he"], "HTTP/1.1 200 OK|Content-Length: 5||he", short, true),
        (&sized, HEAD, None, &["hello"], "HTTP/1.1 200 OK|Content-Length: 5||", BodyEnd::Complete, true),
        (&ok, HEAD, None, &["hello"], "HTTP/1.1 200 OK|X: y||", BodyEnd::Complete, true),
        (&ok, GET, Some(0), &[], "HTTP/1.1 200 OK|X: y|Content-Length: 0||", BodyEnd::Complete, true),
    ];
    for (head, to, known, pieces, wire, end, persists) in cases {
        assert_eq!(encode(head, to, known, pieces), (wire.to_owned(), end, persists));
    }
}

#[test]
fn statuses_without_a_body() {
    let sized = |status| head(status, &[("Content-Length", "5")]);
    let wire = |status| encode(&sized(status), GET, None, &["hello"]).0;
    assert_eq!(wire("204 No Content"), "HTTP/1.1 204 No Content||");
    assert_eq!(wire("304 Not Modified"), "HTTP/1.1 304 Not Modified|Content-Length: 5||");
    assert_eq!(wire("101 Switching"), "HTTP/1.1 101 Switching|Connection: close||");
}

#[test]
fn the_application_may_send_its_own_date_and_server() {
    let own = head("200", &[("date", "then"), ("SERVER", "mine")]);
    assert_eq!(encode(&own, GET, Some(0), &[]).0, "HTTP/1.1 200 |date: then|SERVER: mine|Content-Length: 0||");
}

#[test]
fn what_must_not_be_sent() {
    let mut head = ResponseHead::default();
    for status in ["", "20", "2000", "099 Low", "2x0 OK", "200OK", "200 O\nK", "200 OK\r", "+20 OK"] {
        assert_eq!(head.start(status.as_bytes()), Err(HeadError::Status), "{status:?}");
    }
    head.start(b"200 OK").expect("sound");
    let cases = [
        ("X Y", "v", HeadError::Name),
        ("", "v", HeadError::Name),
        ("X:", "v", HeadError::Name),
        ("X", "a\r\nSet-Cookie: b", HeadError::Value),
        ("X", "a\nb", HeadError::Value),
        ("X", "a\0b", HeadError::Value),
        ("Connection", "close", HeadError::HopByHop),
        ("transfer-encoding", "chunked", HeadError::HopByHop),
        ("TE", "x", HeadError::HopByHop),
        ("Proxy-Authorization", "x", HeadError::HopByHop),
        ("Content-Length", "+5", HeadError::ContentLength),
        ("Content-Length", "", HeadError::ContentLength),
    ];
    for (name, value, error) in cases {
        assert_eq!(head.field(name.as_bytes(), value.as_bytes()), Err(error), "{name:?}: {value:?}");
    }
    assert_eq!(head.field(b"Content-Length", b"5"), Ok(()));
    assert_eq!(head.field(b"content-length", b"5"), Err(HeadError::ContentLengthRepeated));
}

#[test]
fn a_checked_field_is_added_as_it_was() {
    let mut first = head("200 OK", &[("Content-Type", "text/plain")]);
    let field = first.last_field(100).expect("nothing special");
    assert_eq!(first.last_field(10), None);
    for (name, value) in [("Date", "then"), ("Server", "mine"), ("Content-Length", "5")] {
        first.field(name.as_bytes(), value.as_bytes()).expect("sound");
        assert_eq!(first.last_field(100), None, "{name} means something");
    }
    let mut second = head("200 OK", &[]);
    second.checked_field(&field);
    assert_eq!(second.fields().collect::<Vec<_>>(), [(&b"Content-Type"[..], &b"text/plain"[..])]);
}

#[test]
fn fields_can_be_read_back() {
    let head = head("200 OK", &[("A", "b: c"), ("Content-Length", "5"), ("D", "")]);
    let fields: Vec<(&[u8], &[u8])> = head.fields().collect();
    assert_eq!(fields, [(&b"A"[..], &b"b: c"[..]), (b"D", b"")]);
}

#[test]
fn own_responses_are_framed_and_close() {
    let mut out = Vec::new();
    let to = ResponseTo { persists: false, ..GET };
    let encoder = push_plain(431, "too many header fields", to, &DateLines::default(), &mut out);
    assert!(!encoder.persists());
    assert!(out.starts_with(b"HTTP/1.1 431 Request Header Fields Too Large\r\n"));
    assert!(out.ends_with(b"\r\n\r\n431 Request Header Fields Too Large: too many header fields\n"));
}

proptest::proptest! {
    #[test]
    fn lengths_promised_are_lengths_sent(pieces in proptest::collection::vec("[a-z]{0,40}", 0..8), extra in 0u64..50) {
        let total: usize = pieces.iter().map(String::len).sum();
        let promised = (total as u64).saturating_sub(25) + extra;
        let head = head("200 OK", &[("Content-Length", &promised.to_string())]);
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let (wire, end, _) = encode(&head, GET, None, &pieces);
        let body = wire.split_once("||").expect("a head").1;
        let missing = promised.saturating_sub(total as u64);
        proptest::prop_assert_eq!(body.len() as u64 + missing, promised);
        proptest::prop_assert_eq!(end == BodyEnd::Complete, missing == 0);
    }
}
