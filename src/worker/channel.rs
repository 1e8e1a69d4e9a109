//! [`Channel`]: an accepted socket and what waits to be sent on it. [`Outlet`] is where a response meets it.

use crate::sys::socket::{Attempt, PIECES_MAX, Stream, Then};
use crate::wsgi::{ClientGone, Output};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

/// A socket with its out queue.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) stream: Stream,
    queue: OutQueue,
}

/// Bytes in the order in which they are sent: the pieces, then the tail, to which small writes are appended.
#[derive(Debug, Default)]
struct OutQueue {
    pieces: VecDeque<Piece>,
    tail: Vec<u8>,
    /// Bytes of the first piece, or of the tail if there is none, that have been sent. Less than its length.
    sent: usize,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// The first bytes of an object of the application, sent from where they lie.
    Object {
        object: Py<PyBytes>,
        length: usize,
    },
}

/// How an attempt to send all that waits came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing waits any more.
    All,
    /// Some of it went, and the client takes no more now.
    Some,
    /// The client takes nothing now.
    Nothing,
    /// The connection is broken.
    Broken,
}

impl Channel {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, queue: OutQueue::default() }
    }

    /// The bytes behind all that waits; what is appended will be sent.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.queue.tail
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.pieces.is_empty() && self.queue.tail.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        let tail = self.queue.tail.len();
        let pieces: usize = self.queue.pieces.iter().map(Piece::len).sum();
        pieces + tail - self.queue.sent
    }

    /// Whether appending would have to allocate.
    pub(super) fn wants_tail(&self) -> bool {
        self.queue.tail.capacity() == 0
    }

    /// Gives a queue that [wants](Self::wants_tail) it a used allocation to append to.
    pub(super) fn lend_tail(&mut self, storage: Vec<u8>) {
        debug_assert!(self.wants_tail() && storage.is_empty());
        self.queue.tail = storage;
    }

    /// Takes the allocation of an empty queue, so that a connection that waits owns none.
    pub(super) fn take_tail(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.queue.tail.capacity() > 0).then(|| std::mem::take(&mut self.queue.tail))
    }

    fn hold(&mut self, object: &Bound<'_, PyBytes>, length: usize) {
        if !self.queue.tail.is_empty() {
            let tail = std::mem::take(&mut self.queue.tail);
            self.queue.pieces.push_back(Piece::Bytes(tail));
        }
        self.queue.pieces.push_back(Piece::Object { object: object.clone().unbind(), length });
    }

    /// Sends until nothing waits or the client takes no more.
    #[inline]
    pub(super) fn send(&mut self, py: Python<'_>, then: Then) -> Sent {
        let mut progress = Sent::Nothing;
        while !self.is_empty() {
            let attempt = if self.queue.pieces.is_empty() {
                self.stream.send(&self.queue.tail[self.queue.sent..], then)
            } else {
                self.send_pieces(py, then)
            };
            match attempt {
                Attempt::Bytes(count) => {
                    self.queue.advance(count);
                    progress = Sent::Some;
                }
                Attempt::NotNow => return progress,
                Attempt::Broken => return Sent::Broken,
            }
        }
        Sent::All
    }

    /// Sends what can be sent without Python: nothing once an object waits in the queue. What does not go now, or
    /// breaks, is left to [`send`](Self::send).
    pub(super) fn send_bytes(&mut self) {
        while self.queue.pieces.is_empty() && !self.queue.tail.is_empty() {
            match self.stream.send(&self.queue.tail[self.queue.sent..], Then::Unknown) {
                Attempt::Bytes(count) => self.queue.advance(count),
                Attempt::NotNow | Attempt::Broken => return,
            }
        }
    }

    fn send_pieces(&self, py: Python<'_>, then: Then) -> Attempt {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0;
        let pieces = self.queue.pieces.iter().map(|piece| piece.bytes(py));
        let all = pieces.chain(std::iter::once(self.queue.tail.as_slice())).filter(|bytes| !bytes.is_empty());
        for (slot, bytes) in slices.iter_mut().zip(all) {
            let skipped = if count == 0 { self.queue.sent } else { 0 };
            *slot = IoSlice::new(&bytes[skipped..]);
            count += 1;
        }
        self.stream.send_pieces(&slices[..count], then)
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Object { length, .. } => *length,
        }
    }

    fn bytes<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Object { object, length } => &object.as_bytes(py)[..*length],
        }
    }
}

impl OutQueue {
    /// Notes that `count` bytes have been sent.
    fn advance(&mut self, count: usize) {
        self.sent += count;
        while let Some(first) = self.pieces.front() {
            let length = first.len();
            if self.sent < length {
                return;
            }
            self.sent -= length;
            self.pieces.pop_front();
        }
        if self.sent == self.tail.len() {
            self.tail.clear();
            self.sent = 0;
        }
    }
}

/// The channel of the client whose request is in the application.
#[derive(Debug)]
pub(super) struct Outlet {
    channel: Option<Channel>,
    /// Stands in while no client is attached; what is written there is dropped.
    nowhere: Vec<u8>,
    /// How long a client may take nothing while the application waits for it; `None` is without end.
    send_timeout: Option<Duration>,
}

/// So many bytes may wait for a client while the application goes on producing.
const RESPONSE_MEMORY_MAX: usize = 1024 * 1024;

impl Outlet {
    pub(super) fn new(send_timeout: Option<Duration>) -> Self {
        Self { channel: None, nowhere: Vec::new(), send_timeout }
    }

    pub(super) fn attach(&mut self, channel: Option<Channel>) {
        self.channel = channel;
    }

    /// Sends what can be sent without Python; see [`Channel::send_bytes`].
    pub(super) fn send_bytes(&mut self) {
        self.channel.iter_mut().for_each(Channel::send_bytes);
    }

    pub(super) fn detach(&mut self) -> Option<Channel> {
        self.channel.take()
    }
}

impl Output for Outlet {
    #[inline]
    fn buffer(&mut self) -> &mut Vec<u8> {
        match &mut self.channel {
            Some(channel) => channel.tail(),
            None => {
                self.nowhere.clear();
                &mut self.nowhere
            }
        }
    }

    fn hold(&mut self, object: &Bound<'_, PyBytes>, length: usize) {
        if let Some(channel) = &mut self.channel {
            channel.hold(object, length);
        }
    }

    fn waiting(&self) -> usize {
        self.channel.as_ref().map_or(0, Channel::waiting)
    }

    fn flush(&mut self, py: Python<'_>) -> Result<(), ClientGone> {
        let Some(channel) = &mut self.channel else { return Err(ClientGone) };
        loop {
            if channel.send(py, Then::Unknown) == Sent::Broken {
                return Err(ClientGone);
            }
            if channel.waiting() <= RESPONSE_MEMORY_MAX {
                return Ok(());
            }
            let (stream, time) = (&channel.stream, self.send_timeout);
            if !py.detach(|| stream.wait_writable(time)) {
                return Err(ClientGone);
            }
        }
    }
}
