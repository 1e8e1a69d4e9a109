//! epoll(7), level-triggered, in our words.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::BorrowedFd;
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
}

/// An epoll instance with room for the events of one wait.
#[derive(Debug)]
pub struct Poll {
    epoll: Epoll,
    events: Vec<EpollEvent>,
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
    /// An instance that reports up to `events_max` events at a time. Close-on-exec.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new(events_max: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); events_max], count: 0 })
    }

    /// Starts to watch a descriptor.
    ///
    /// # Errors
    /// It is watched already, or out of memory.
    pub fn add(&self, descriptor: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.add(descriptor, EpollEvent::new(interest.flags(), token))?)
    }

    /// Watches for something else.
    ///
    /// # Errors
    /// It is not watched.
    pub fn modify(&self, descriptor: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.modify(descriptor, &mut EpollEvent::new(interest.flags(), token))?)
    }

    /// Ceases to watch. Closing the last descriptor of a socket does the same.
    ///
    /// # Errors
    /// It is not watched.
    pub fn delete(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.epoll.delete(descriptor)?)
    }

    /// Waits for at least one event: not at all for `Some(ZERO)`, without end for `None`. A time is rounded up to whole
    /// milliseconds, so that a deadline has passed when its wait is over.
    ///
    /// # Errors
    /// None that a caller could provoke.
    pub fn wait(&mut self, time: Option<Duration>) -> io::Result<Waited> {
        let timeout = time.map_or(EpollTimeout::NONE, |time| {
            let milliseconds = time.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128);
            EpollTimeout::try_from(milliseconds as i32).unwrap_or(EpollTimeout::ZERO)
        });
        self.count = 0;
        match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => {
                self.count = count;
                Ok(Waited::Events(count))
            }
            Err(Errno::EINTR) => Ok(Waited::Interrupted),
            Err(error) => Err(error.into()),
        }
    }

    /// The event of that index, less than the number that the last wait gave.
    pub fn ready(&self, index: usize) -> Ready {
        let event = &self.events[..self.count][index];
        let flags = event.events();
        let ended = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        Ready {
            token: event.data(),
            readable: flags.intersects(EpollFlags::EPOLLIN | ended),
            writable: flags.intersects(EpollFlags::EPOLLOUT | ended),
        }
    }
}
