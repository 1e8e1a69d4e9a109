//! The inboxes: one for each slot of the scoreboard, made by the master and inherited by all workers.
//!
//! Everybody can send to every inbox and read from it, so that what was sent to a worker that died is read by another.
//! Which messages there are is told here, since the master sends one of them; what is written about a connection is
//! for `worker::inbox` to know.

use crate::sys::fd_passing::{self, Pair};
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};

pub use crate::sys::fd_passing::Sent;

/// The largest message, with the two bytes that say what it is.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The largest description of a connection.
pub const CONNECTION_BYTES_MAX: usize = MESSAGE_BYTES_MAX - HEADER_BYTES;

/// Asked of the kernel for each inbox: a few of the largest messages, or some hundreds of the common ones. The kernel
/// grants 208 KiB without being configured, and counts its own bookkeeping in twice of that.
const ROOM_BYTES: usize = 256 * 1024;

/// The first byte of each message. A program of another version could only guess at the rest.
const VERSION: u8 = 1;

/// Version and kind.
const HEADER_BYTES: usize = 2;

// The second byte.
const POKE: u8 = 1;
const ORPHANS: u8 = 2;
const CONNECTION: u8 = 3;

/// Shared by the master and all workers that it forks after making them.
#[derive(Debug)]
pub struct Inboxes {
    pairs: Vec<Pair>,
}

/// What was in an inbox.
#[derive(Debug)]
pub enum Received {
    /// The sender has become idle and saw that the owner of this inbox reports a queue: it would take a request.
    Poke,
    /// A worker is gone: what is in the inboxes of empty slots waits for somebody to read it.
    Orphans,
    /// A connection moves here.
    Connection {
        /// What the sender wrote about it.
        description: Description,
        /// Its socket.
        socket: OwnedFd,
    },
    /// There is nothing.
    Nothing,
    /// This process has no room for a descriptor. Messages may be there and stay.
    Exhausted,
}

/// The bytes that came with a connection.
#[derive(Debug)]
pub struct Description(Vec<u8>);

impl Description {
    /// As the sender wrote them.
    pub fn bytes(&self) -> &[u8] {
        &self.0[HEADER_BYTES..]
    }
}

impl Inboxes {
    /// One inbox for each of so many slots, all empty. Each takes two descriptors in every process.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new(slots: u32) -> io::Result<Self> {
        Ok(Self { pairs: (0..slots).map(|_| Pair::new(ROOM_BYTES)).collect::<io::Result<_>>()? })
    }

    /// Readable while something is in the inbox of this slot.
    ///
    /// # Panics
    /// When there is no such slot, here and below.
    pub fn reader(&self, slot: u32) -> BorrowedFd<'_> {
        self.pair(slot).exit()
    }

    /// See [`Received::Poke`].
    pub fn send_poke(&self, slot: u32) -> Sent {
        self.pair(slot).send(&[IoSlice::new(&[VERSION, POKE])], None)
    }

    /// See [`Received::Orphans`].
    pub fn send_orphans(&self, slot: u32) -> Sent {
        self.pair(slot).send(&[IoSlice::new(&[VERSION, ORPHANS])], None)
    }

    /// Sends a connection with its description in pieces, together [`CONNECTION_BYTES_MAX`] at most. No epoll instance
    /// may watch the socket any more: the descriptor under way would keep the registration alive after the sender's
    /// own is closed.
    pub fn send_connection<const N: usize>(&self, slot: u32, description: [&[u8]; N], socket: BorrowedFd<'_>) -> Sent {
        if description.iter().map(|piece| piece.len()).sum::<usize>() > CONNECTION_BYTES_MAX {
            return Sent::Full;
        }
        let header: &[u8] = &[VERSION, CONNECTION];
        let pieces: Vec<IoSlice<'_>> = std::iter::once(header).chain(description).map(IoSlice::new).collect();
        self.pair(slot).send(&pieces, Some(socket))
    }

    /// Takes one message out of the inbox of a slot, whoever's it is.
    pub fn receive(&self, slot: u32) -> Received {
        loop {
            match self.pair(slot).receive(MESSAGE_BYTES_MAX) {
                fd_passing::Received::Message(message) => match parse(message) {
                    Ok(received) => return received,
                    Err(reason) => log::error!("a message in inbox {slot} was dropped: {reason}"),
                },
                fd_passing::Received::Nothing => return Received::Nothing,
                fd_passing::Received::Exhausted => return Received::Exhausted,
                fd_passing::Received::Failed(error) => {
                    log::error!("inbox {slot} cannot be read: {error}");
                    return Received::Nothing;
                }
            }
        }
    }

    fn pair(&self, slot: u32) -> &Pair {
        &self.pairs[slot as usize]
    }
}

/// Whatever is not exactly as it should be is refused, and its descriptors are closed with it.
fn parse(message: fd_passing::Message) -> Result<Received, String> {
    let fd_passing::Message { bytes, mut descriptors, is_cut } = message;
    if is_cut {
        return Err("it did not arrive whole".to_owned());
    }
    match (bytes.as_slice(), descriptors.len()) {
        ([VERSION, POKE], 0) => Ok(Received::Poke),
        ([VERSION, ORPHANS], 0) => Ok(Received::Orphans),
        ([VERSION, CONNECTION, ..], 1) => {
            let socket = descriptors.pop().ok_or("no descriptor")?;
            Ok(Received::Connection { description: Description(bytes), socket })
        }
        ([version, ..], _) if *version != VERSION => Err(format!("it is of version {version}, not {VERSION}")),
        (bytes, count) => Err(format!("{} bytes with {count} descriptors make no sense", bytes.len())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::io::{PipeReader, Read, pipe};
    use std::os::fd::AsFd;

    fn raw(inboxes: &Inboxes, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) {
        assert!(matches!(inboxes.pair(0).send(&[IoSlice::new(bytes)], descriptor), Sent::Done));
    }

    /// A process that another test is starting holds all descriptors for a moment, hence the wait.
    #[track_caller]
    fn assert_closed(mut reader: PipeReader) {
        let mut watched = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut watched, PollTimeout::from(5000_u16)), Ok(1), "somebody still holds the other end");
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn messages_come_out_as_they_went_in_and_inboxes_are_apart() {
        let inboxes = Inboxes::new(2).unwrap();
        let (reader, writer) = pipe().unwrap();
        assert!(matches!(inboxes.send_poke(1), Sent::Done));
        assert!(matches!(inboxes.send_connection(1, [b"so", b"", b" far"], writer.as_fd()), Sent::Done));
        assert!(matches!(inboxes.send_orphans(1), Sent::Done));
        drop(writer);
        assert!(matches!(inboxes.receive(0), Received::Nothing));
        assert!(matches!(inboxes.receive(1), Received::Poke));
        let Received::Connection { description, socket } = inboxes.receive(1) else { panic!("no connection") };
        assert_eq!(description.bytes(), b"so far");
        drop(socket);
        assert!(matches!(inboxes.receive(1), Received::Orphans));
        assert!(matches!(inboxes.receive(1), Received::Nothing));
        assert_closed(reader);
    }

    #[test]
    fn the_largest_message_fits_and_a_larger_one_is_refused() {
        let inboxes = Inboxes::new(1).unwrap();
        let (_reader, writer) = pipe().unwrap();
        let largest = vec![b'x'; CONNECTION_BYTES_MAX];
        assert!(matches!(inboxes.send_connection(0, [&largest, b"x"], writer.as_fd()), Sent::Full));
        assert!(matches!(inboxes.receive(0), Received::Nothing));
        assert!(matches!(inboxes.send_connection(0, [&largest], writer.as_fd()), Sent::Done));
        let Received::Connection { description, .. } = inboxes.receive(0) else { panic!("no connection") };
        assert_eq!(description.bytes(), largest);
    }

    #[test]
    fn hundreds_of_small_messages_can_wait() {
        let inboxes = Inboxes::new(1).unwrap();
        for count in 0..200 {
            assert!(matches!(inboxes.send_poke(0), Sent::Done), "full after {count}");
        }
    }

    #[test]
    fn what_is_not_understood_is_dropped_with_its_descriptors() {
        let inboxes = Inboxes::new(1).unwrap();
        let (reader, writer) = pipe().unwrap();
        raw(&inboxes, &[VERSION + 1, CONNECTION, 0], Some(writer.as_fd()));
        raw(&inboxes, &[VERSION], Some(writer.as_fd()));
        raw(&inboxes, &[VERSION, 77], None);
        raw(&inboxes, &[VERSION, POKE], Some(writer.as_fd()));
        raw(&inboxes, &[VERSION, POKE, 0], None);
        raw(&inboxes, &[VERSION, CONNECTION], None);
        raw(&inboxes, &vec![VERSION; MESSAGE_BYTES_MAX + 1], Some(writer.as_fd()));
        raw(&inboxes, &[VERSION, ORPHANS], None);
        drop(writer);
        assert!(matches!(inboxes.receive(0), Received::Orphans), "the one that is understood is not reached");
        assert!(matches!(inboxes.receive(0), Received::Nothing));
        assert_closed(reader);
    }
}
