//! epoll(7), level-triggered, in our words.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// What to be told about a descriptor. Errors and hang-ups are always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Only errors and hang-ups.
    None,
    /// Bytes to read, or the peer's end.
    Read,
    /// Room to write.
    Write,
    /// A listener that other processes poll too: a connection wakes as few of them as possible. Cannot be modified.
    Accept,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::None => EpollFlags::empty(),
            Self::Read => EpollFlags::EPOLLIN,
            Self::Write => EpollFlags::EPOLLOUT,
            Self::Accept => EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE,
        }
    }
}

/// One thing that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What was given when the descriptor was added.
    pub token: u64,
    /// Reading will not block; also at the peer's end and on errors.
    pub readable: bool,
    /// Writing will not block; also on errors.
    pub writable: bool,
    /// The connection is broken, or both of its directions are closed: epoll goes on saying so, whatever it was asked.
    pub ended: bool,
}

/// An epoll instance. Several threads may change it, and wait on it, at the same time.
#[derive(Debug)]
pub struct Poll(Epoll);

/// Room for the events of one wait, and what the last one brought.
#[derive(Debug)]
pub struct Events {
    room: Vec<EpollEvent>,
    count: usize,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// So many events are there, perhaps none.
    Events(usize),
    /// A signal came first.
    Interrupted,
}

impl Poll {
    /// Close-on-exec.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Starts to watch a descriptor.
    ///
    /// # Errors
    /// It is watched already, or out of memory.
    pub fn add(&self, descriptor: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.0.add(descriptor, EpollEvent::new(interest.flags(), token))?)
    }

    /// Watches for something else.
    ///
    /// # Errors
    /// It is not watched.
    pub fn modify(&self, descriptor: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.0.modify(descriptor, &mut EpollEvent::new(interest.flags(), token))?)
    }

    /// Ceases to watch. Closing the last descriptor of a socket does the same.
    ///
    /// # Errors
    /// It is not watched.
    pub fn delete(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.0.delete(descriptor)?)
    }

    /// Waits for at least one event: not at all for `Some(ZERO)`, without end for `None`. A time is rounded up to whole
    /// milliseconds, so that a deadline has passed when its wait is over.
    ///
    /// # Errors
    /// None that a caller could provoke.
    pub fn wait(&self, events: &mut Events, time: Option<Duration>) -> io::Result<Waited> {
        let timeout = time.map_or(EpollTimeout::NONE, |time| {
            let milliseconds = time.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128);
            EpollTimeout::try_from(milliseconds as i32).unwrap_or(EpollTimeout::ZERO)
        });
        events.count = 0;
        match self.0.wait(&mut events.room, timeout) {
            Ok(count) => {
                events.count = count;
                Ok(Waited::Events(count))
            }
            Err(Errno::EINTR) => Ok(Waited::Interrupted),
            Err(error) => Err(error.into()),
        }
    }
}

/// Readable when there are events.
impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl Events {
    /// Room for so many at a time.
    pub fn new(events_max: usize) -> Self {
        Self { room: vec![EpollEvent::empty(); events_max], count: 0 }
    }

    /// The event of that index, less than the number that the last wait gave.
    pub fn ready(&self, index: usize) -> Ready {
        let event = &self.room[..self.count][index];
        let flags = event.events();
        let ended = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        Ready {
            token: event.data(),
            readable: ended || flags.contains(EpollFlags::EPOLLIN),
            writable: ended || flags.contains(EpollFlags::EPOLLOUT),
            ended,
        }
    }
}
