//! The accepting part of [`Io`]: whether the listeners are polled, and what comes from them.

use super::super::channel::Channel;
use super::super::client::{Client, Token};
use super::{Io, LISTENER_BIT};
use crate::sys::poll::Interest;
use crate::sys::socket::{self, AcceptError};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Connections accepted per event, so that those already open are not kept waiting by a flood of new ones.
const ACCEPTS_MAX: usize = 16;

/// How long accepting rests when the process is out of descriptors.
pub(super) const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// At most one line about being out of descriptors in this time.
const EXHAUSTED_SILENCE: Duration = Duration::from_secs(60);

/// Whether the listeners are polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    Yes,
    /// As many clients as allowed are there, or nobody is free for more.
    Full,
    /// Out of descriptors until this time, or until a client leaves.
    Exhausted(Instant),
    /// Never again.
    Stopped,
}

impl Io<'_> {
    pub(in crate::worker) fn start_accepting(&mut self) -> io::Result<()> {
        for (index, listener) in self.listeners.iter().enumerate() {
            if let Err(error) = self.poll.add(listener.as_fd(), LISTENER_BIT | index as u64, Interest::Accept) {
                self.forget_listeners();
                return Err(error);
            }
        }
        self.accepting = Accepting::Yes;
        Ok(())
    }

    fn pause_accepting(&mut self, accepting: Accepting) {
        if self.accepting == Accepting::Yes {
            self.forget_listeners();
        }
        if self.accepting != Accepting::Stopped {
            self.accepting = accepting;
        }
    }

    fn forget_listeners(&self) {
        for listener in self.listeners {
            if let Err(error) = self.poll.delete(listener.as_fd()) {
                log::debug!("{listener}: {error}");
            }
        }
    }

    /// Number of listeners.
    pub(in crate::worker) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Whether a listener is this server's alone.
    pub(in crate::worker) fn is_ours(&self, listener: usize) -> bool {
        self.listeners[listener].is_ours()
    }

    /// Whether nobody new connects to a listener any more, which goes with a configuration.
    pub(in crate::worker) fn is_closed(&self, listener: usize) -> bool {
        self.listeners[listener].is_closed()
    }

    /// Ceases to poll the listeners, for good.
    pub(in crate::worker) fn stop_accepting(&mut self) {
        self.pause_accepting(Accepting::Stopped);
    }

    /// Connections end soon from now on: with their responses, or when they stay idle. `time` is what a new client has
    /// for its request, and one that gets its last response for its own end.
    pub(in crate::worker) fn begin_closing(&mut self, time: Duration) {
        self.closes_idle = true;
        self.timeouts.hurry(time);
    }

    /// Leaves the listeners to other workers until [`be_free`](Self::be_free).
    pub(in crate::worker) fn be_busy(&mut self) {
        self.is_busy = true;
        if self.accepting == Accepting::Yes {
            self.pause_accepting(Accepting::Full);
        }
    }

    /// Somebody can take a request again.
    pub(in crate::worker) fn be_free(&mut self) {
        if std::mem::take(&mut self.is_busy) {
            self.resume_accepting();
        }
    }

    /// Polls the listeners again if what spoke against it is over.
    pub(in crate::worker) fn resume_accepting(&mut self) {
        self.resume_inbox();
        let may_resume = match self.accepting {
            _ if self.is_busy => false,
            Accepting::Yes | Accepting::Stopped => false,
            Accepting::Full => self.clients.len() < self.connections_max,
            Accepting::Exhausted(until) => self.now >= until,
        };
        if may_resume && let Err(error) = self.start_accepting() {
            log::error!("cannot poll the listeners: {error}");
            self.accepting = Accepting::Exhausted(self.now + EXHAUSTED_PAUSE);
        }
    }

    /// Accepts what waits at a listener, up to a bound, and returns the new clients, and whether no more wait; epoll
    /// watches none of them yet.
    pub(in crate::worker) fn accept(&mut self, listener: usize) -> (Vec<Token>, bool) {
        let mut accepted = Vec::new();
        let mut is_all = false;
        while accepted.len() < ACCEPTS_MAX {
            if self.clients.len() >= self.connections_max {
                self.pause_accepting(Accepting::Full);
                break;
            }
            match socket::accept(self.listeners[listener].as_fd()) {
                Ok((stream, peer)) => {
                    let mut client = Client::new(Channel::new(stream), peer, self.listeners[listener].number);
                    if let Some(versions) = self.proxy_versions {
                        client.connection.expect_proxy_header(versions);
                    }
                    accepted.push(self.clients.insert(Box::new(client)));
                }
                Err(AcceptError::NotNow) => {
                    is_all = true;
                    break;
                }
                Err(AcceptError::Aborted) => {}
                Err(AcceptError::Exhausted(error)) => {
                    self.exhausted(&error);
                    break;
                }
                Err(AcceptError::Other(error)) => {
                    log::error!("{}: cannot accept: {error}", self.listeners[listener]);
                    self.pause_accepting(Accepting::Exhausted(self.now + EXHAUSTED_PAUSE));
                    is_all = true;
                    break;
                }
            }
        }
        (accepted, is_all)
    }

    /// The connections that cannot be accepted wait in the kernel's queue; nobody is dropped.
    fn exhausted(&mut self, error: &io::Error) {
        self.pause_accepting(Accepting::Exhausted(self.now + EXHAUSTED_PAUSE));
        let is_news = self.exhausted_said.is_none_or(|said| self.now - said > EXHAUSTED_SILENCE);
        if is_news {
            self.exhausted_said = Some(self.now);
            log::error!(
                "cannot accept: {error}; {} connections are open, new ones wait until one of them closes",
                self.clients.len()
            );
        }
    }
}
