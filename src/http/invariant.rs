//! What must hold for every byte string a peer may send, as functions that tests, properties and the fuzzer share.

use super::connection::{Connection, Event, STORAGE_BYTES};
use super::error::RequestError;
use super::leniency::Leniency;
use super::proxy_protocol::{ProxyHeader, ProxyVersions};
use super::request::Limits;

/// What one peer's bytes lead to, in a form that can be compared.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A proxy said who its client is.
    Proxied(ProxyHeader),
    /// A complete request.
    Request {
        /// The method.
        method: String,
        /// The request-target.
        target: String,
        /// The decoded body.
        body: Vec<u8>,
    },
    /// The connection was refused.
    Refused(RequestError),
    /// The peer closed, or a request ended the connection.
    Closed,
}

/// Feeds `wire` to one connection in reads of at most `step` bytes, parking the buffer between them, and answers each
/// request at once.
pub fn outcomes(wire: &[u8], step: usize, limits: &Limits) -> Vec<Outcome> {
    run(Connection::default(), wire, step, limits, |connection| connection)
}

/// The same for a connection that may begin with a PROXY header.
pub fn outcomes_behind_proxy(wire: &[u8], step: usize, limits: &Limits) -> Vec<Outcome> {
    run(behind_proxy(), wire, step, limits, |connection| connection)
}

const VERSIONS: ProxyVersions = ProxyVersions { v1: true, v2: true };

fn behind_proxy() -> Connection {
    let mut connection = Connection::default();
    connection.expect_proxy_header(VERSIONS);
    connection
}

/// The same with a connection that moves from process to process, whenever it may.
fn outcomes_moving(connection: Connection, wire: &[u8], step: usize, limits: &Limits) -> Vec<Outcome> {
    run(connection, wire, step, limits, |connection| {
        let Some(exported) = connection.export() else { return connection };
        let mut adopted = Connection::adopt(exported.head, &exported.leftover, exported.input_ended, limits)
            .expect("what was accepted once is accepted again");
        if connection.expects_proxy_header() {
            adopted.expect_proxy_header(VERSIONS);
        }
        adopted
    })
}

/// `replace` is applied before and after each answer, and whenever more bytes are waited for.
fn run(
    mut connection: Connection,
    wire: &[u8],
    step: usize,
    limits: &Limits,
    replace: impl Fn(Connection) -> Connection,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut body = Vec::new();
    let mut unread = wire;
    let mut spare = None;
    loop {
        match connection.next_event(limits) {
            Ok(Event::NeedInput) => {
                connection = replace(connection);
                if connection.wants_storage() {
                    connection.lend(spare.take().unwrap_or_else(|| vec![0; STORAGE_BYTES]));
                }
                receive(&mut connection, &mut unread, step);
                spare = spare.or(connection.park());
            }
            Ok(Event::Proxied(header)) => outcomes.push(Outcome::Proxied(header)),
            Ok(Event::Head { .. }) => body.clear(),
            Ok(Event::Payload(run)) => body.extend_from_slice(connection.payload(run)),
            Ok(Event::End) => {
                connection = replace(connection);
                let request = connection.request();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                outcomes.push(Outcome::Request {
                    method: text(request.method()),
                    target: text(request.target()),
                    body: body.clone(),
                });
                let persists = request.persists();
                connection.respond(persists);
                connection = replace(connection);
            }
            Ok(Event::Closed) => {
                outcomes.push(Outcome::Closed);
                return outcomes;
            }
            Err(error) => {
                outcomes.push(Outcome::Refused(error));
                return outcomes;
            }
        }
    }
}

fn receive(connection: &mut Connection, unread: &mut &[u8], step: usize) {
    let space = connection.space();
    let count = unread.len().min(step.max(1)).min(space.len());
    let (now, later) = unread.split_at(count);
    space[..count].copy_from_slice(now);
    *unread = later;
    if count == 0 {
        connection.end_input();
    } else {
        connection.filled(count);
    }
}

/// Any split of the input gives the same outcomes, and so does a connection that moves; each refusal has a status;
/// nothing panics.
///
/// # Panics
/// If that does not hold for `wire`: this is the fuzz target.
pub fn holds_for(wire: &[u8]) {
    let strict =
        Limits { line_bytes_max: 200, field_bytes_max: 200, fields_max: 8, body_bytes_max: 4096, ..Limits::default() };
    let lenient = Limits { leniency: ALL, ..strict };
    for limits in [strict, lenient] {
        holds_for_each(wire, &limits, Connection::default);
        holds_for_each(wire, &limits, behind_proxy);
    }
}

/// All that can be accepted at all.
const ALL: Leniency = Leniency {
    obsolete_folding: true,
    header_spaces: true,
    unconventional_method: true,
    unconventional_version: true,
    casefold_method: true,
};

fn holds_for_each(wire: &[u8], limits: &Limits, connection: impl Fn() -> Connection) {
    let outcomes = |step| run(connection(), wire, step, limits, |connection| connection);
    let whole = outcomes(wire.len());
    for step in [1, 2, 3, 17] {
        assert_eq!(outcomes(step), whole, "in steps of {step}");
    }
    for step in [1, 17, wire.len()] {
        assert_eq!(outcomes_moving(connection(), wire, step, limits), whole, "moving, in steps of {step}");
    }
    for outcome in &whole {
        if let Outcome::Refused(error) = outcome {
            assert!((400..600).contains(&error.status()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pieces of requests, right and wrong, in any order: most of them parse to somewhere.
    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "GET / HTTP/1.1\r\n",
            "POST /a?b HTTP/1.1\r\n",
            "POST /a HTTP/1.0\r\n",
            "GET http://h/p HTTP/1.1\r\n",
            "Host: a\r\n",
            "Content-Length: 5\r\n",
            "Content-Length: 0\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive\r\n",
            "Expect: 100-continue\r\n",
            "X: \r\n",
            "X: a\r\n b\r\n",
            "X\t : a\r\n\tb\r\n \r\n",
            " folded\r\n",
            "Content-Length : 5\r\n",
            "Content-Length: 5\r\n 5\r\n",
            "get / HTTP/1.1\r\n",
            "m / HTTP/0.9\r\n",
            "POST / HTTP/2.0\r\n",
            "PROXY TCP4 192.0.2.1 203.0.113.9 4242 443\r\n",
            "PROXY UNKNOWN\r\n",
            "PROXY ",
            "\r\n\r\n\0\r\nQUIT\n",
            "\x20\0\0\0",
            "\x21\x11\0\x0c192.0.2.1 x1",
            "\r\n",
            "hello",
            "5\r\nhello\r\n",
            "0\r\n\r\n",
            "a;b=\"c\"\r\n0123456789\r\n",
            "\n",
            "\r",
            "\0",
            " ",
        ])
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_outcomes(pieces in prop::collection::vec(piece(), 0..24)) {
            holds_for(pieces.concat().as_bytes());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            holds_for(&bytes);
        }

        #[test]
        fn a_body_comes_back_however_it_is_chunked(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..80), 0..12),
            step in 1usize..64,
        ) {
            let mut wire = b"PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let expected = Outcome::Request { method: "PUT".into(), target: "/x".into(), body: chunks.concat() };
            let outcomes = outcomes(&wire, step, &Limits::default());
            prop_assert_eq!(outcomes, vec![expected, Outcome::Closed]);
        }
    }
}
