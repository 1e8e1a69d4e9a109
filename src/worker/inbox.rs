//! [`Siblings`]: the other workers, as one of them sees them, and the connections that move between them.
//!
//! Where a connection is, is always clear: with its sender until [`send`](Siblings::send) says that it is under way,
//! then in an inbox, then with whoever took it out. A worker reads its own inbox while it lives. For what it leaves
//! there, or is still sent after it has gone, somebody else looks with [`adopt_orphans`](Siblings::adopt_orphans):
//!
//! 1. a worker that starts, once it has said that it is ready;
//! 2. a worker that is told so ([`Message::Orphans`]): the master sends that after it has emptied a slot;
//! 3. a sender that finds the receiver's slot empty behind its own message ([`Passed::Orphaned`]).
//!
//! Nothing can be left over: if a message was put in before the slot became empty, the look that 2 asks for comes after
//! it. If later, its sender sees the empty slot, by the fences that the [scoreboard](crate::scoreboard) tells of, or
//! sees that the slot has been given to the next worker, which will read it or be followed by 2 again. If nobody is
//! ready when a slot becomes empty, the first one that will be does 1, and the master tells it 2 as soon as it knows of
//! it. What two of them look for at once, each message, is received by one.

use crate::http::proxy_protocol::ProxyHeader;
use crate::inboxes::{self, CONNECTION_BYTES_MAX, Description, Inboxes, Sent};
use crate::scoreboard::{Scoreboard, State};
use crate::sys::socket::{Peer, Stream};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Cheap to copy and to keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Siblings<'w> {
    inboxes: &'w Inboxes,
    scoreboard: &'w Scoreboard,
    /// The slot of this worker.
    own: u32,
}

/// What comes through an inbox.
#[derive(Debug)]
pub(super) enum Message {
    /// A sibling has become idle and would take a request that waits here.
    Poke,
    /// A worker is gone: [`Siblings::adopt_orphans`] is asked for.
    Orphans,
    /// A connection moves here.
    Connection(Box<Moved>),
}

/// A connection that has moved here.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) stream: Stream,
    /// The number of the listener that accepted it.
    pub(super) listener: usize,
    pub(super) peer: Peer,
    pub(super) introduction: Introduction,
    /// Requests answered so far.
    pub(super) requests: u64,
    /// A complete request that waits for its response.
    pub(super) request: Option<MovedRequest>,
    /// What was received and not parsed: pipelined requests, or the beginning of one.
    pub(super) leftover: Vec<u8>,
    /// Whether the peer sends nothing more.
    pub(super) input_ended: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MovedRequest {
    /// As received, with its empty line.
    pub(super) head: Vec<u8>,
    /// Decoded.
    pub(super) body: Vec<u8>,
}

/// A connection that is to move: the same as [`Moved`], borrowed, so that the sender keeps all of it if it does not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'c> {
    /// No longer watched by epoll: the registration would outlive the sender's descriptor.
    pub(super) stream: &'c Stream,
    pub(super) listener: usize,
    pub(super) peer: Peer,
    pub(super) introduction: Introduction,
    pub(super) requests: u64,
    /// The head of a complete request, or nothing.
    pub(super) head: &'c [u8],
    /// Its body, decoded.
    pub(super) body: &'c [u8],
    pub(super) leftover: &'c [u8],
    pub(super) input_ended: bool,
}

/// What a proxy has said of its client with a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Introduction {
    /// Nothing, and it will not.
    None,
    /// Nothing yet: no request has begun.
    Awaited,
    Made(ProxyHeader),
}

/// How an attempt to send a connection came out.
#[derive(Debug)]
pub(super) enum Passed {
    /// It is under way: the sender forgets it and closes its own descriptor.
    Done,
    /// The same, but its receiver is gone. The sender forgets it and then asks for the
    /// [orphans](Siblings::adopt_orphans), among which it may find it again.
    Orphaned,
    /// The sender keeps it: it is too large, or the inbox takes no more now.
    Full,
    /// The sender keeps it.
    Failed(io::Error),
}

/// This process has no room for a descriptor; what is in the inbox stays there. The inbox stays readable, so it should
/// not be polled before a connection has been closed or some time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl<'w> Siblings<'w> {
    pub(super) fn new(inboxes: &'w Inboxes, scoreboard: &'w Scoreboard, own: u32) -> Self {
        Self { inboxes, scoreboard, own }
    }

    /// Readable while something is in the inbox of this worker.
    pub(super) fn reader(&self) -> BorrowedFd<'w> {
        self.inboxes.reader(self.own)
    }

    /// Takes the next message out of the inbox of this worker; `None` when there is no more.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(super) fn receive(&self) -> Result<Option<Message>, Exhausted> {
        self.receive_from(self.own)
    }

    /// Sends a connection to another worker, which the caller has chosen or reserved.
    pub(super) fn send(&self, slot: u32, connection: &Outgoing<'_>) -> Passed {
        if !connection.fits() {
            return Passed::Full;
        }
        let Outgoing { head, body, leftover, .. } = connection;
        let preamble = connection.preamble();
        let pieces = [&preamble, *head, *body, *leftover];
        match self.inboxes.send_connection(slot, pieces, connection.stream.as_fd()) {
            Sent::Done => {
                let slot = self.scoreboard.slot(slot);
                slot.note_sent();
                if slot.state() == State::Empty { Passed::Orphaned } else { Passed::Done }
            }
            Sent::Full => Passed::Full,
            Sent::Failed(error) => Passed::Failed(error),
        }
    }

    /// Tells a worker that reports a queue that this one has become idle. It may say so in vain: then that inbox is
    /// full, and its owner has more to read than it wants.
    pub(super) fn poke(&self, slot: u32) {
        if let Sent::Failed(error) = self.inboxes.send_poke(slot) {
            log::error!("inbox {slot} cannot be written: {error}");
        }
    }

    /// Takes all connections out of the inboxes that have no owner.
    ///
    /// # Errors
    /// [`Exhausted`]; what has been taken is in `adopted`, and the caller should come again.
    pub(super) fn adopt_orphans(&self, adopted: &mut Vec<Moved>) -> Result<(), Exhausted> {
        for slot in self.scoreboard.empty_slots() {
            while let Some(message) = self.receive_from(slot)? {
                match message {
                    Message::Connection(moved) => adopted.push(*moved),
                    // The one who was to be poked is gone. As for orphans, the master tells somebody again, since it
                    // has emptied the slot of the one whom it told.
                    Message::Poke | Message::Orphans => {}
                }
            }
        }
        Ok(())
    }

    fn receive_from(&self, slot: u32) -> Result<Option<Message>, Exhausted> {
        loop {
            match self.inboxes.receive(slot) {
                inboxes::Received::Poke => return Ok(Some(Message::Poke)),
                inboxes::Received::Orphans => return Ok(Some(Message::Orphans)),
                inboxes::Received::Nothing => return Ok(None),
                inboxes::Received::Exhausted => return Err(Exhausted),
                inboxes::Received::Connection { description, socket } => {
                    self.scoreboard.slot(slot).note_taken();
                    match decode(&description, socket) {
                        Some(moved) => return Ok(Some(Message::Connection(Box::new(moved)))),
                        None => log::error!("a connection in inbox {slot} was dropped: its description is malformed"),
                    }
                }
            }
        }
    }
}

// The description of a connection, integers in little-endian order:
//
//     flags (1), listener (4), requests (8), peer (1 + 0, 6 or 26), introduction (1 + 0 or two peers),
//     lengths of head, body and leftover (4 each), head, body, leftover

/// The peer sends nothing more.
const INPUT_ENDED: u8 = 1;

// The kinds of peers.
const UNIX: u8 = 0;
const TCP_V4: u8 = 4;
const TCP_V6: u8 = 6;

/// All but the three at its end.
const PREAMBLE_BYTES_MAX: usize = 1 + 4 + 8 + 3 * (1 + 26) + 1 + 3 * 4;

// The kinds of introductions.
const NONE: u8 = 0;
const AWAITED: u8 = 1;
const MADE_LOCAL: u8 = 2;
const MADE_UNKNOWN: u8 = 3;
const MADE_UNIX: u8 = 4;
const MADE_TCP: u8 = 5;

impl Outgoing<'_> {
    /// Whether it can be described in one message.
    pub(super) fn fits(&self) -> bool {
        PREAMBLE_BYTES_MAX + self.head.len() + self.body.len() + self.leftover.len() <= CONNECTION_BYTES_MAX
    }

    fn preamble(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PREAMBLE_BYTES_MAX);
        bytes.push(if self.input_ended { INPUT_ENDED } else { 0 });
        bytes.extend((self.listener as u32).to_le_bytes());
        bytes.extend(self.requests.to_le_bytes());
        encode_peer(self.peer, &mut bytes);
        encode_introduction(self.introduction, &mut bytes);
        for part in [self.head, self.body, self.leftover] {
            bytes.extend((part.len() as u32).to_le_bytes());
        }
        bytes
    }
}

fn encode_peer(peer: Peer, bytes: &mut Vec<u8>) {
    match peer {
        Peer::Unix => bytes.push(UNIX),
        Peer::Tcp(SocketAddr::V4(address)) => {
            bytes.push(TCP_V4);
            bytes.extend(address.ip().octets());
            bytes.extend(address.port().to_le_bytes());
        }
        Peer::Tcp(SocketAddr::V6(address)) => {
            bytes.push(TCP_V6);
            bytes.extend(address.ip().octets());
            bytes.extend(address.port().to_le_bytes());
            bytes.extend(address.flowinfo().to_le_bytes());
            bytes.extend(address.scope_id().to_le_bytes());
        }
    }
}

fn encode_introduction(introduction: Introduction, bytes: &mut Vec<u8>) {
    match introduction {
        Introduction::None => bytes.push(NONE),
        Introduction::Awaited => bytes.push(AWAITED),
        Introduction::Made(ProxyHeader::Local) => bytes.push(MADE_LOCAL),
        Introduction::Made(ProxyHeader::Unknown) => bytes.push(MADE_UNKNOWN),
        Introduction::Made(ProxyHeader::Unix) => bytes.push(MADE_UNIX),
        Introduction::Made(ProxyHeader::Tcp { source, destination }) => {
            bytes.push(MADE_TCP);
            encode_peer(Peer::Tcp(source), bytes);
            encode_peer(Peer::Tcp(destination), bytes);
        }
    }
}

/// `None` for whatever [`Siblings::send`] has not written, down to a byte too many.
fn decode(description: &Description, socket: OwnedFd) -> Option<Moved> {
    let mut rest = Rest(description.bytes());
    let [flags] = rest.array()?;
    let listener = u32::from_le_bytes(rest.array()?) as usize;
    let requests = u64::from_le_bytes(rest.array()?);
    let peer = decode_peer(&mut rest)?;
    let introduction = decode_introduction(&mut rest)?;
    let [head, body, leftover] = [rest.length()?, rest.length()?, rest.length()?];
    let head = rest.take(head)?.to_vec();
    let body = rest.take(body)?.to_vec();
    let leftover = rest.take(leftover)?.to_vec();
    let is_known = flags & !INPUT_ENDED == 0;
    let has_stray_body = head.is_empty() && !body.is_empty();
    if !is_known || has_stray_body || !rest.0.is_empty() {
        return None;
    }
    let request = (!head.is_empty()).then_some(MovedRequest { head, body });
    let input_ended = flags & INPUT_ENDED != 0;
    Some(Moved { stream: Stream::from(socket), listener, peer, introduction, requests, request, leftover, input_ended })
}

fn decode_peer(rest: &mut Rest<'_>) -> Option<Peer> {
    let [kind] = rest.array()?;
    let address = match kind {
        UNIX => return Some(Peer::Unix),
        TCP_V4 => {
            let ip = Ipv4Addr::from(rest.array::<4>()?);
            SocketAddr::V4(SocketAddrV4::new(ip, u16::from_le_bytes(rest.array()?)))
        }
        TCP_V6 => {
            let ip = Ipv6Addr::from(rest.array::<16>()?);
            let port = u16::from_le_bytes(rest.array()?);
            let flowinfo = u32::from_le_bytes(rest.array()?);
            SocketAddr::V6(SocketAddrV6::new(ip, port, flowinfo, u32::from_le_bytes(rest.array()?)))
        }
        _ => return None,
    };
    Some(Peer::Tcp(address))
}

fn decode_introduction(rest: &mut Rest<'_>) -> Option<Introduction> {
    let [kind] = rest.array()?;
    let header = match kind {
        NONE => return Some(Introduction::None),
        AWAITED => return Some(Introduction::Awaited),
        MADE_LOCAL => ProxyHeader::Local,
        MADE_UNKNOWN => ProxyHeader::Unknown,
        MADE_UNIX => ProxyHeader::Unix,
        MADE_TCP => {
            let (Peer::Tcp(source), Peer::Tcp(destination)) = (decode_peer(rest)?, decode_peer(rest)?) else {
                return None;
            };
            ProxyHeader::Tcp { source, destination }
        }
        _ => return None,
    };
    Some(Introduction::Made(header))
}

/// The bytes that have not been decoded yet.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.array()?) as usize)
    }
}

#[cfg(test)]
mod tests;
