//! Real sockets through real inboxes; the other workers are threads.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::sys::socket::{Attempt, Then};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Scoreboard and inboxes of so many workers, all of them ready.
struct Family {
    inboxes: Inboxes,
    scoreboard: Scoreboard,
}

impl Family {
    fn new(slots: u32) -> Self {
        let family = Self { inboxes: Inboxes::new(slots).unwrap(), scoreboard: Scoreboard::new(slots).unwrap() };
        (0..slots).for_each(|slot| family.start(slot));
        family
    }

    fn start(&self, slot: u32) {
        self.scoreboard.slot(slot).prepare();
        self.scoreboard.slot(slot).set_state(State::Ready);
    }

    fn worker(&self, own: u32) -> Siblings<'_> {
        Siblings::new(&self.inboxes, &self.scoreboard, own)
    }

    fn load(&self, slot: u32) -> u64 {
        self.scoreboard.slot(slot).load()
    }
}

/// A connection and its client.
fn connection() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (Stream::from(OwnedFd::from(ours)), theirs)
}

fn idle(stream: &Stream) -> Outgoing<'_> {
    Outgoing {
        stream,
        listener: 0,
        peer: Peer::Unix,
        introduction: Introduction::None,
        requests: 0,
        head: b"",
        body: b"",
        leftover: b"",
        input_ended: false,
    }
}

#[track_caller]
fn received(worker: &Siblings<'_>) -> Moved {
    match worker.receive() {
        Ok(Some(Message::Connection(moved))) => *moved,
        other => panic!("no connection: {other:?}"),
    }
}

#[track_caller]
fn assert_sent(passed: &Passed) {
    assert!(matches!(passed, Passed::Done), "{passed:?}");
}

#[track_caller]
fn assert_closed(mut client: UnixStream) {
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "not closed");
}

#[test]
fn a_connection_moves_with_all_that_is_known_of_it() {
    let family = Family::new(2);
    let (sender, receiver) = (family.worker(0), family.worker(1));
    let (stream, mut client) = connection();
    let peer = Peer::Tcp("192.0.2.1:4242".parse().unwrap());
    let outgoing = Outgoing {
        stream: &stream,
        listener: 7,
        peer,
        introduction: Introduction::Awaited,
        requests: u64::from(u32::MAX) + 1,
        head: b"POST / HTTP/1.1\r\n\r\n",
        body: b"body",
        leftover: b"GET /",
        input_ended: true,
    };
    assert_sent(&sender.send(1, &outgoing));
    drop(stream);
    assert_eq!((family.load(0), family.load(1)), (0, 1));

    let mut moved = received(&receiver);
    assert_eq!((moved.listener, moved.peer, moved.requests), (7, peer, u64::from(u32::MAX) + 1));
    assert_eq!(moved.introduction, Introduction::Awaited);
    let request = MovedRequest { head: b"POST / HTTP/1.1\r\n\r\n".to_vec(), body: b"body".to_vec() };
    assert_eq!(
        (moved.request.take(), moved.leftover.as_slice(), moved.input_ended),
        (Some(request), &b"GET /"[..], true)
    );
    assert_eq!(family.load(1), 0);
    assert!(matches!(receiver.receive(), Ok(None)));

    client.write_all(b"more").unwrap();
    let mut room = [0; 8];
    assert_eq!(moved.stream.receive(&mut room), Attempt::Bytes(4));
    assert_eq!(moved.stream.receive(&mut room), Attempt::NotNow, "it is not non-blocking any more");
    assert_eq!(moved.stream.send(b"answer", Then::Unknown), Attempt::Bytes(6));
    drop(moved);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer", "and then the end: the sender's descriptor is closed");
}

#[test]
fn an_idle_connection_moves() {
    let family = Family::new(2);
    let (stream, _client) = connection();
    assert_sent(&family.worker(1).send(0, &idle(&stream)));
    let moved = received(&family.worker(0));
    assert_eq!((moved.request, moved.leftover.len(), moved.input_ended), (None, 0, false));
}

#[test]
fn words_arrive_in_order_between_connections() {
    let family = Family::new(2);
    let (stream, _client) = connection();
    family.worker(0).poke(1);
    assert_sent(&family.worker(0).send(1, &idle(&stream)));
    assert!(matches!(family.inboxes.send_orphans(1), Sent::Done));
    let receiver = family.worker(1);
    assert!(matches!(receiver.receive(), Ok(Some(Message::Poke))));
    received(&receiver);
    assert!(matches!(receiver.receive(), Ok(Some(Message::Orphans))));
    assert!(matches!(receiver.receive(), Ok(None)));
}

#[test]
fn what_does_not_fit_stays_with_its_sender() {
    let family = Family::new(2);
    let (sender, receiver) = (family.worker(0), family.worker(1));
    let (stream, mut client) = connection();
    let body = vec![b'x'; CONNECTION_BYTES_MAX];
    let largest = CONNECTION_BYTES_MAX - PREAMBLE_BYTES_MAX - 1;
    let fitting = Outgoing { head: b"h", body: &body[..largest], ..idle(&stream) };
    let too_large = Outgoing { body: &body[..largest + 1], ..fitting };
    assert!(fitting.fits() && !too_large.fits());
    assert!(matches!(sender.send(1, &too_large), Passed::Full));
    assert_eq!(family.load(1), 0);

    let sent = (0..1000).take_while(|_| matches!(sender.send(1, &fitting), Passed::Done)).count();
    assert!((2..1000).contains(&sent), "room for {sent} large connections");
    assert!(matches!(sender.send(1, &fitting), Passed::Full));
    assert_eq!(family.load(1), sent as u64);
    assert_eq!(received(&receiver).request.map(|request| request.body.len()), Some(largest));
    assert_eq!(stream.send(b"still here", Then::Unknown), Attempt::Bytes(10));
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 10);
}

#[test]
fn peers_arrive_as_they_are() {
    let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 443, 0x12345, 7);
    for peer in
        [Peer::Unix, Peer::Tcp("127.0.0.1:65535".parse().unwrap()), Peer::Tcp("[2001:db8::1]:80".parse().unwrap())]
            .into_iter()
            .chain([Peer::Tcp(SocketAddr::V6(scoped))])
    {
        let mut bytes = Vec::new();
        encode_peer(peer, &mut bytes);
        let mut rest = Rest(&bytes);
        assert_eq!((decode_peer(&mut rest), rest.0.len()), (Some(peer), 0));
    }
}

#[test]
fn introductions_arrive_as_they_are() {
    let tcp = |source: &str, destination: &str| ProxyHeader::Tcp {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    };
    let made = [
        ProxyHeader::Local,
        ProxyHeader::Unknown,
        ProxyHeader::Unix,
        tcp("192.0.2.1:4242", "203.0.113.9:443"),
        tcp("[2001:db8::1]:65535", "[::1]:0"),
    ];
    for introduction in [Introduction::None, Introduction::Awaited].into_iter().chain(made.map(Introduction::Made)) {
        let mut bytes = Vec::new();
        encode_introduction(introduction, &mut bytes);
        let mut rest = Rest(&bytes);
        assert_eq!((decode_introduction(&mut rest), rest.0.len()), (Some(introduction), 0));
    }
    let mut bytes = vec![MADE_TCP];
    encode_peer(Peer::Unix, &mut bytes);
    encode_peer(Peer::Unix, &mut bytes);
    assert_eq!(decode_introduction(&mut Rest(&bytes)), None);
}

/// Sends these bytes as the description of a connection, and tells whether one came out.
fn is_understood(family: &Family, description: &[u8]) -> bool {
    let (stream, client) = connection();
    assert!(matches!(family.inboxes.send_connection(0, [description], stream.as_fd()), Sent::Done));
    drop(stream);
    let message = family.worker(0).receive().unwrap();
    let is_understood = message.is_some();
    drop(message);
    assert_closed(client);
    is_understood
}

#[test]
fn a_description_that_is_not_exactly_right_is_dropped_with_its_socket() {
    let family = Family::new(1);
    let (stream, _client) = connection();
    let outgoing = Outgoing { head: b"head", body: b"body", leftover: b"left", ..idle(&stream) };
    let right = [&outgoing.preamble()[..], b"headbodyleft"].concat();
    assert!(is_understood(&family, &right));
    for length in 0..right.len() {
        assert!(!is_understood(&family, &right[..length]), "only {length} bytes");
    }
    assert!(!is_understood(&family, &[&right[..], b"!"].concat()));
    let with = |place: usize, byte: u8| {
        let mut bytes = right.clone();
        bytes[place] = byte;
        bytes
    };
    assert!(!is_understood(&family, &with(0, 2)), "an unknown flag");
    assert!(!is_understood(&family, &with(13, 5)), "an unknown kind of peer");
    assert!(!is_understood(&family, &with(14, 6)), "an unknown kind of introduction");
    assert!(!is_understood(&family, &with(17, 0xff)), "a length beyond the end");
    let headless = Outgoing { head: b"", ..outgoing };
    assert!(!is_understood(&family, &[&headless.preamble()[..], b"bodyleft"].concat()));
}

proptest! {
    #[test]
    fn no_description_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        is_understood(&Family::new(1), &bytes);
    }

    #[test]
    fn what_is_sent_is_what_is_received(
        listener in any::<u32>(),
        requests in any::<u64>(),
        head in prop::collection::vec(any::<u8>(), 1..300),
        body in prop::collection::vec(any::<u8>(), 0..300),
        leftover in prop::collection::vec(any::<u8>(), 0..300),
        input_ended in any::<bool>(),
    ) {
        let family = Family::new(1);
        let (stream, _client) = connection();
        let (head, body, leftover) = (&head[..], &body[..], &leftover[..]);
        let (listener, peer) = (listener as usize, Peer::Unix);
        let outgoing =
            Outgoing { listener, peer, requests, head, body, leftover, input_ended, ..idle(&stream) };
        assert_sent(&family.worker(0).send(0, &outgoing));
        let moved = received(&family.worker(0));
        prop_assert_eq!((moved.listener, moved.requests, moved.input_ended), (listener, requests, input_ended));
        let request = moved.request.expect("there was a head");
        prop_assert_eq!((&request.head[..], &request.body[..], &moved.leftover[..]), (head, body, leftover));
    }
}

// Workers that come and go.

#[test]
fn only_the_inboxes_of_empty_slots_are_emptied_by_others() {
    let family = Family::new(3);
    let (stream, mut client) = connection();
    assert_sent(&family.worker(0).send(1, &idle(&stream)));
    drop(stream);
    family.worker(0).poke(1);
    let mut adopted = Vec::new();
    family.worker(2).adopt_orphans(&mut adopted).unwrap();
    assert!(adopted.is_empty(), "taken from a worker that lives");
    family.scoreboard.slot(1).vacate();
    family.worker(2).adopt_orphans(&mut adopted).unwrap();
    assert_eq!((adopted.len(), family.load(1)), (1, 0));
    adopted[0].stream.send(b"alive", Then::Unknown);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 5);
    family.start(1);
    assert!(matches!(family.worker(1).receive(), Ok(None)), "the successor finds what was meant for another");
}

#[test]
fn a_successor_finds_what_was_sent_to_its_predecessor() {
    let family = Family::new(2);
    let (stream, _client) = connection();
    assert_sent(&family.worker(0).send(1, &idle(&stream)));
    family.scoreboard.slot(1).vacate();
    family.start(1);
    assert_eq!(family.load(1), 1);
    received(&family.worker(1));
}

#[test]
fn a_sender_sees_that_its_receiver_is_gone_and_finds_the_connection_again() {
    let family = Family::new(2);
    let (stream, mut client) = connection();
    family.scoreboard.slot(1).vacate();
    let sender = family.worker(0);
    assert!(matches!(sender.send(1, &idle(&stream)), Passed::Orphaned));
    drop(stream);
    let mut adopted = Vec::new();
    sender.adopt_orphans(&mut adopted).unwrap();
    assert_eq!((adopted.len(), family.load(1)), (1, 0));
    adopted[0].stream.send(b"alive", Then::Unknown);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 5);
}

/// Worker 0 sends to worker 1 while that dies for good, at any moment; worker 2 is told of orphans. Every connection is
/// found by one of them, once.
#[test]
fn nothing_is_lost_when_a_worker_dies_while_it_is_sent_to() {
    let adopt = |worker: &Siblings<'_>| {
        let mut adopted = Vec::new();
        worker.adopt_orphans(&mut adopted).unwrap();
        adopted.len()
    };
    for round in 0..400 {
        let family = Family::new(3);
        let has_begun = AtomicBool::new(false);
        let send_until_orphaned = || {
            let worker = family.worker(0);
            let (stream, _client) = connection();
            for sent in 1.. {
                match worker.send(1, &idle(&stream)) {
                    Passed::Done => has_begun.store(true, Ordering::Relaxed),
                    Passed::Orphaned => return (sent, adopt(&worker)),
                    Passed::Full => return (sent - 1, 0),
                    Passed::Failed(error) => panic!("{error}"),
                }
            }
            unreachable!("an inbox has no end")
        };
        let (sent, found) = thread::scope(|scope| {
            let sender = scope.spawn(send_until_orphaned);
            while !has_begun.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            (0..round).for_each(|_| std::hint::spin_loop());
            family.scoreboard.slot(1).vacate();
            assert!(matches!(family.inboxes.send_orphans(2), Sent::Done));
            let teller = family.worker(2);
            assert!(matches!(teller.receive(), Ok(Some(Message::Orphans))));
            let found = adopt(&teller);
            let (sent, found_by_sender) = sender.join().unwrap();
            (sent, found + found_by_sender)
        });
        assert_eq!((found, family.load(1)), (sent, 0), "round {round}");
    }
}
