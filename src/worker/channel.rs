//! [`Channel`]: an accepted socket and what waits to be sent on it. [`Outlet`] is where a response meets it.

use super::spool::ResponseSpool;
use crate::sys::socket::{Attempt, PIECES_MAX, Stream, Then};
use crate::wsgi::{ClientGone, FileRange, Flushed, HeldBytes, Output, Relieved};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

/// A socket with its out queue.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) stream: Arc<Stream>,
    queue: OutQueue,
}

/// Bytes in the order in which they are sent: the pieces, then the tail, to which small writes are appended.
#[derive(Debug, Default)]
struct OutQueue {
    pieces: VecDeque<Piece>,
    tail: Vec<u8>,
    /// Bytes of the first piece, or of the tail if there is none, that have been sent. Less than its length.
    sent: u64,
    /// Where the [`Piece::Spooled`] of this queue are.
    spool: Option<ResponseSpool>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// Bytes of the application, sent from where they lie.
    Held(HeldBytes),
    /// Part of a file of the application.
    File(FileRange),
    /// What had to make room, in the queue's spool.
    Spooled(Range<u64>),
}

/// How an attempt to send all that waits came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing waits any more.
    All,
    /// Some of it went, and the client takes no more now, or others have their turn.
    Some,
    /// The client takes nothing now.
    Nothing,
    /// The connection is broken.
    Broken,
}

impl Channel {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream: Arc::new(stream), queue: OutQueue::default() }
    }

    /// The bytes behind all that waits; what is appended will be sent.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.queue.tail
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.pieces.is_empty() && self.queue.tail.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.queue.waiting(|_| true)
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

    /// Sends until nothing waits or the client takes no more, or has taken its turn's part of a file.
    #[inline]
    pub(super) fn send(&mut self, then: Then) -> Sent {
        let mut progress = Sent::Nothing;
        let mut file_bytes = 0;
        while !self.is_empty() {
            if file_bytes >= FILE_BYTES_MAX {
                return Sent::Some;
            }
            let is_file = self.queue.pieces.front().is_some_and(|piece| !piece.is_in_memory());
            let attempt = if self.queue.pieces.is_empty() {
                self.stream.send(&self.queue.tail[self.queue.sent as usize..], then)
            } else {
                self.send_pieces(then)
            };
            match attempt {
                Attempt::Bytes(count) => {
                    self.queue.advance(count as u64);
                    file_bytes += if is_file { count as u64 } else { 0 };
                    progress = Sent::Some;
                }
                Attempt::NotNow => return progress,
                Attempt::Broken => return Sent::Broken,
            }
        }
        Sent::All
    }

    /// Sends what the queue begins with: part of a file, or pieces from memory up to the next file.
    fn send_pieces(&self, then: Then) -> Attempt {
        match self.queue.pieces.front() {
            Some(Piece::File(range)) => self.send_file(&range.file, range.offset, range.length),
            Some(Piece::Spooled(range)) => match &self.queue.spool {
                Some(spool) => self.send_file(spool.file(), range.start, range.end - range.start),
                None => Attempt::Broken,
            },
            Some(Piece::Bytes(_) | Piece::Held(_)) | None => self.send_memory(then),
        }
    }

    fn send_memory(&self, then: Then) -> Attempt {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0;
        let pieces = self.queue.pieces.iter().map_while(Piece::in_memory);
        // The tail is next only if all pieces before it are in memory.
        let tail = self.queue.pieces.iter().all(Piece::is_in_memory).then_some(self.queue.tail.as_slice());
        let all = pieces.chain(tail).filter(|bytes| !bytes.is_empty());
        for (slot, bytes) in slices.iter_mut().zip(all) {
            let skipped = if count == 0 { self.queue.sent as usize } else { 0 };
            *slot = IoSlice::new(&bytes[skipped..]);
            count += 1;
        }
        self.stream.send_pieces(&slices[..count], then)
    }

    fn send_file(&self, file: &impl AsFd, offset: u64, length: u64) -> Attempt {
        let (offset, length) = (offset + self.queue.sent, length - self.queue.sent);
        match self.stream.send_file(file.as_fd(), offset, length.min(FILE_BYTES_MAX) as usize) {
            // Somebody has truncated the file: the promised bytes do not exist.
            Attempt::Bytes(0) => Attempt::Broken,
            attempt => attempt,
        }
    }
}

/// So much of a file is sent at a time, for the sake of the other connections: a client that takes it as fast as it is
/// read would otherwise have the worker to itself.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Held(bytes) => bytes.as_slice().len() as u64,
            Self::File(range) => range.length,
            Self::Spooled(range) => range.end - range.start,
        }
    }

    fn in_memory(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Held(bytes) => Some(bytes.as_slice()),
            Self::File(_) | Self::Spooled(_) => None,
        }
    }

    fn is_in_memory(&self) -> bool {
        self.in_memory().is_some()
    }
}

impl OutQueue {
    fn push(&mut self, piece: Piece) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.pieces.push_back(Piece::Bytes(tail));
        }
        self.pieces.push_back(piece);
    }

    /// Bytes that wait in the pieces of this kind; the tail is of the kind of pieces in memory.
    fn waiting(&self, is_counted: impl Fn(&Piece) -> bool) -> u64 {
        let first_counts = self.pieces.front().is_none_or(&is_counted);
        let pieces: u64 = self.pieces.iter().filter(|piece| is_counted(piece)).map(Piece::len).sum();
        let tail = if is_counted(&Piece::Bytes(Vec::new())) { self.tail.len() as u64 } else { 0 };
        pieces + tail - if first_counts { self.sent.min(pieces + tail) } else { 0 }
    }

    /// Notes that `count` bytes have been sent.
    fn advance(&mut self, count: u64) {
        self.sent += count;
        while let Some(first) = self.pieces.front() {
            let length = first.len();
            if self.sent < length {
                return self.give_back();
            }
            self.sent -= length;
            self.pieces.pop_front();
            if !self.pieces.iter().any(|piece| matches!(piece, Piece::Spooled(_))) {
                self.spool = None;
            }
        }
        if self.sent == self.tail.len() as u64 {
            self.tail.clear();
            self.sent = 0;
        }
    }

    /// Returns the disk space of what has been sent, so that a stream without end needs no disk without end. Whole steps
    /// only: in a page that is given back in part the kernel writes zeros, and the bytes before may still be on their way
    /// in that very page.
    fn give_back(&mut self) {
        if let (Some(Piece::Spooled(range)), Some(spool)) = (self.pieces.front_mut(), &mut self.spool)
            && self.sent >= GIVE_BACK_BYTES
        {
            let whole = |position: u64| position / GIVE_BACK_BYTES * GIVE_BACK_BYTES;
            let end = range.start + self.sent;
            spool.punch(whole(range.start)..whole(end));
            range.start = end;
            self.sent = 0;
        }
    }

    /// Appends all that waits in memory to the spool. There is at most one [`Piece::Spooled`], and nothing but memory
    /// behind it: what waits behind it grows it.
    fn spill(&mut self, folder: &std::path::Path) -> io::Result<()> {
        let mut spool = match self.spool.take() {
            Some(spool) => spool,
            None => ResponseSpool::new(folder)?,
        };
        let start = self.pieces.iter().rposition(|piece| !piece.is_in_memory()).map_or(0, |last| last + 1);
        let written = {
            let memory = self.pieces.iter().skip(start).filter_map(Piece::in_memory);
            let mut slices: Vec<&[u8]> = memory.chain([self.tail.as_slice()]).collect();
            if start == 0 {
                slices[0] = &slices[0][self.sent as usize..];
            }
            let slices: Vec<IoSlice<'_>> = slices.into_iter().map(IoSlice::new).collect();
            spool.append(&slices)
        };
        self.spool = Some(spool);
        let written = written?;
        if start == 0 {
            self.sent = 0;
        }
        self.pieces.truncate(start);
        self.tail.clear();
        match self.pieces.back_mut() {
            Some(Piece::Spooled(range)) if range.end == written.start => range.end = written.end,
            _ => self.pieces.push_back(Piece::Spooled(written)),
        }
        Ok(())
    }
}

/// Space is given back in steps of this size.
const GIVE_BACK_BYTES: u64 = 16 * 1024 * 1024;

/// The channel of the client whose request is in the application.
#[derive(Debug)]
pub(super) struct Outlet {
    channel: Option<Channel>,
    /// Stands in while no client is attached; what is written there is dropped.
    nowhere: Vec<u8>,
    room: Arc<ResponseRoom>,
    /// The disk has been full during this response.
    is_disk_full: bool,
}

/// How far a response may run ahead of its client.
#[derive(Debug)]
pub(super) struct ResponseRoom {
    /// Bytes in memory; more go to a file.
    pub(super) memory_max: u64,
    /// Bytes in the file; with more, the application waits.
    pub(super) file_max: u64,
    /// Where the files are made.
    pub(super) folder: PathBuf,
}

impl Outlet {
    pub(super) fn new(room: Arc<ResponseRoom>) -> Self {
        Self { channel: None, nowhere: Vec::new(), room, is_disk_full: false }
    }

    pub(super) fn attach(&mut self, channel: Option<Channel>) {
        self.channel = channel;
        self.is_disk_full = false;
    }

    pub(super) fn detach(&mut self) -> Option<Channel> {
        self.channel.take()
    }

    /// Whether bytes wait to be sent.
    pub(super) fn has_output(&self) -> bool {
        self.channel.as_ref().is_some_and(|channel| !channel.is_empty())
    }

    /// Sends what the client takes now.
    pub(super) fn send(&mut self) -> Sent {
        self.channel.as_mut().map_or(Sent::All, |channel| channel.send(Then::Unknown))
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

    fn hold(&mut self, bytes: HeldBytes) {
        if let Some(channel) = &mut self.channel {
            channel.queue.push(Piece::Held(bytes));
        }
    }

    fn hold_file(&mut self, range: FileRange) {
        if let Some(channel) = &mut self.channel {
            channel.queue.push(Piece::File(range));
        }
    }

    fn waiting(&self) -> u64 {
        self.channel.as_ref().map_or(0, Channel::waiting)
    }

    fn flush(&mut self) -> Result<Flushed, ClientGone> {
        let Some(channel) = &mut self.channel else { return Err(ClientGone) };
        if channel.send(Then::Unknown) == Sent::Broken {
            return Err(ClientGone);
        }
        let in_memory = channel.queue.waiting(Piece::is_in_memory);
        Ok(if in_memory > self.room.memory_max { Flushed::TooMuch } else { Flushed::Enough })
    }

    fn relieve(&mut self) -> Result<Relieved, ClientGone> {
        if self.flush()? == Flushed::Enough {
            return Ok(Relieved::Room);
        }
        let Some(channel) = &mut self.channel else { return Err(ClientGone) };
        let spooled = channel.queue.waiting(|piece| matches!(piece, Piece::Spooled(_)));
        let in_memory = channel.queue.waiting(Piece::is_in_memory);
        if self.is_disk_full || spooled + in_memory > self.room.file_max {
            return Ok(Relieved::Full);
        }
        match channel.queue.spill(&self.room.folder) {
            Ok(()) => Ok(Relieved::Room),
            Err(error) => {
                log::error!(
                    "no room for responses in {}: {error}; applications wait for slow clients instead",
                    self.room.folder.display()
                );
                self.is_disk_full = true;
                Ok(Relieved::Full)
            }
        }
    }

    fn is_client_gone(&self) -> bool {
        self.channel.as_ref().is_none_or(|channel| channel.stream.is_ended_by_peer())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
