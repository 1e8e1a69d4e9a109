//! [`Io`]: the poller, its clients and their deadlines, the listeners. Whoever holds it polls.
//!
//! It moves bytes and closes connections; it knows neither the application nor what a request means.

use super::channel::{Channel, Sent};
use super::client::{Client, Clients, Deadline, Stage, Token};
use super::deadlines::Deadlines;
use super::timeouts::Timeouts;
use crate::http::connection::{Phase, STORAGE_BYTES};
use crate::net::Listener;
use crate::sys::poll::{Interest, Poll, Ready, Waited};
use crate::sys::socket::{self, AcceptError, Attempt, Then};
use pyo3::prelude::*;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 256;

/// Connections accepted per event, so that those already open are not kept waiting by a flood of new ones.
const ACCEPTS_MAX: usize = 16;

/// Allocations for out queues kept for the next response; as many as leave together at the most in common loads.
const TAILS_MAX: usize = 256;

/// An out queue whose allocation grew past this is not kept.
const TAIL_BYTES_MAX: usize = 64 * 1024;

/// How long accepting rests when the process is out of descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// At most one line about being out of descriptors in this time.
const EXHAUSTED_SILENCE: Duration = Duration::from_secs(60);

pub(super) struct Io<'w> {
    poll: Poll,
    pub(super) clients: Clients,
    listeners: &'w [Listener],
    accepting: Accepting,
    exhausted_said: Option<Instant>,
    connections_max: usize,
    deadlines: Deadlines,
    timeouts: Timeouts,
    /// Whether a connection that has had its response closes instead of waiting for another request.
    pub(super) closes_idle: bool,
    /// The buffer that is lent to the connection being read.
    storage: Option<Vec<u8>>,
    tails: Vec<Vec<u8>>,
    /// The last reading of the clock.
    pub(super) now: Instant,
}

/// Whether the listeners are polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Yes,
    /// As many clients as allowed are there.
    Full,
    /// Out of descriptors until this time, or until a client leaves.
    Exhausted(Instant),
    /// Never again.
    Stopped,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Client(Token),
    /// The listener of that index.
    Listener(usize),
    Signals,
}

/// Behind all tokens of clients.
const LISTENER_BIT: u64 = 1 << 63;
const SIGNALS: u64 = u64::MAX;

/// What a try to receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Bytes, or the peer's end: the connection has something to say.
    Something,
    Nothing,
    Broken,
}

impl<'w> Io<'w> {
    pub(super) fn new(
        listeners: &'w [Listener],
        signals: BorrowedFd<'_>,
        connections_max: usize,
        timeouts: Timeouts,
    ) -> io::Result<Self> {
        let io = Self {
            poll: Poll::new(EVENTS_MAX)?,
            clients: Clients::default(),
            listeners,
            accepting: Accepting::Stopped,
            exhausted_said: None,
            connections_max,
            deadlines: Deadlines::default(),
            timeouts,
            closes_idle: false,
            storage: None,
            tails: Vec::new(),
            now: Instant::now(),
        };
        io.poll.add(signals, SIGNALS, Interest::Read)?;
        Ok(io)
    }

    /// Waits for events, at most `time`; without it until something has to be done.
    pub(super) fn wait(&mut self, time: Option<Duration>) -> io::Result<Waited> {
        let time = time.or_else(|| self.next_wake().map(|at| at.saturating_duration_since(Instant::now())));
        self.poll.wait(time)
    }

    fn next_wake(&self) -> Option<Instant> {
        let resume = match self.accepting {
            Accepting::Exhausted(until) => Some(until),
            Accepting::Yes | Accepting::Full | Accepting::Stopped => None,
        };
        [self.deadlines.next(), resume].into_iter().flatten().min()
    }

    pub(super) fn event(&self, index: usize) -> (Source, Ready) {
        let ready = self.poll.ready(index);
        let source = match ready.token {
            SIGNALS => Source::Signals,
            bits if bits & LISTENER_BIT != 0 => Source::Listener((bits & !LISTENER_BIT) as usize),
            bits => Source::Client(Token::from_bits(bits)),
        };
        (source, ready)
    }

    // Accepting.

    pub(super) fn start_accepting(&mut self) -> io::Result<()> {
        for (index, listener) in self.listeners.iter().enumerate() {
            self.poll.add(listener.as_fd(), LISTENER_BIT | index as u64, Interest::Accept)?;
        }
        self.accepting = Accepting::Yes;
        Ok(())
    }

    fn pause_accepting(&mut self, accepting: Accepting) {
        if self.accepting == Accepting::Yes {
            for listener in self.listeners {
                if let Err(error) = self.poll.delete(listener.as_fd()) {
                    log::debug!("{listener}: {error}");
                }
            }
        }
        if self.accepting != Accepting::Stopped {
            self.accepting = accepting;
        }
    }

    /// Number of listeners.
    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    pub(super) fn stop_accepting(&mut self) {
        self.pause_accepting(Accepting::Stopped);
    }

    /// Polls the listeners again if what spoke against it is over.
    pub(super) fn resume_accepting(&mut self) {
        let may_resume = match self.accepting {
            Accepting::Yes | Accepting::Stopped => false,
            Accepting::Full => self.clients.len() < self.connections_max,
            Accepting::Exhausted(until) => self.now >= until,
        };
        if may_resume && let Err(error) = self.start_accepting() {
            log::error!("cannot poll the listeners: {error}");
            self.accepting = Accepting::Exhausted(self.now + EXHAUSTED_PAUSE);
        }
    }

    /// Accepts what waits at a listener, up to a bound, and returns the new clients; epoll watches none of them yet.
    pub(super) fn accept(&mut self, listener: usize) -> Vec<Token> {
        let mut accepted = Vec::new();
        while accepted.len() < ACCEPTS_MAX {
            if self.clients.len() >= self.connections_max {
                self.pause_accepting(Accepting::Full);
                break;
            }
            match socket::accept(self.listeners[listener].as_fd()) {
                Ok((stream, peer)) => {
                    let client = Client::new(Channel::new(stream), peer, listener);
                    accepted.push(self.clients.insert(Box::new(client)));
                }
                Err(AcceptError::NotNow) => break,
                Err(AcceptError::Aborted) => {}
                Err(AcceptError::Exhausted(error)) => {
                    self.exhausted(&error);
                    break;
                }
                Err(AcceptError::Other(error)) => {
                    log::error!("{}: cannot accept: {error}", self.listeners[listener]);
                    self.pause_accepting(Accepting::Exhausted(self.now + EXHAUSTED_PAUSE));
                    break;
                }
            }
        }
        accepted
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

    // Clients.

    /// Receives once. Level-triggered polling brings what is left.
    #[inline]
    pub(super) fn receive(&mut self, client: &mut Client) -> Received {
        let Some(channel) = &client.channel else { return Received::Nothing };
        if client.connection.wants_storage() {
            client.connection.lend(self.storage.take().unwrap_or_else(|| vec![0; STORAGE_BYTES]));
        }
        match channel.stream.receive(client.connection.space()) {
            Attempt::Bytes(0) => {
                client.connection.end_input();
                Received::Something
            }
            Attempt::Bytes(count) => {
                client.connection.filled(count);
                Received::Something
            }
            Attempt::NotNow => Received::Nothing,
            Attempt::Broken => Received::Broken,
        }
    }

    /// Reads what a refused client still sends. Returns whether it has ended.
    pub(super) fn discard(&mut self, client: &mut Client) -> bool {
        let Some(channel) = &client.channel else { return true };
        let storage = self.storage.get_or_insert_with(|| vec![0; STORAGE_BYTES]);
        matches!(channel.stream.receive(storage), Attempt::Bytes(0) | Attempt::Broken)
    }

    /// Sends what waits.
    #[inline]
    pub(super) fn send(&mut self, py: Python<'_>, client: &mut Client) -> Sent {
        let then = match client.stage {
            Stage::Serving | Stage::Lingering => Then::Unknown,
            // `settle` ends it. The end in a segment of its own costs 2 µs.
            Stage::Closing | Stage::ClosingLate => Then::End,
        };
        let sent = client.channel.as_mut().map_or(Sent::All, |channel| channel.send(py, then));
        if matches!(sent, Sent::All | Sent::Some) {
            // Progress: the time for the next step counts from now.
            client.deadline = None;
        }
        sent
    }

    /// Gives a channel an allocation for what is to be appended.
    #[inline]
    pub(super) fn lend_tail(&mut self, channel: &mut Channel) {
        if channel.wants_tail()
            && let Some(tail) = self.tails.pop()
        {
            channel.lend_tail(tail);
        }
    }

    /// Puts a client back whose channel the postman has.
    #[inline]
    pub(super) fn defer(&mut self, token: Token, mut client: Box<Client>) {
        self.park(&mut client);
        self.clients.put_back(token, client);
    }

    /// Puts a client back whose output has been tried to be sent: waits for what has to come next, or closes it.
    #[inline]
    pub(super) fn settle(&mut self, token: Token, mut client: Box<Client>) {
        self.park(&mut client);
        if client.has_output() {
            return self.watch(token, client, Interest::Write, Deadline::Send);
        }
        if let Some(channel) = &mut client.channel
            && let Some(tail) = channel.take_tail()
            && tail.capacity() <= TAIL_BYTES_MAX
            && self.tails.len() < TAILS_MAX
        {
            self.tails.push(tail);
        }
        match client.stage {
            Stage::Serving => {
                let deadline = match client.connection.phase() {
                    Phase::Idle if self.closes_idle && client.requests > 0 => return self.close(token),
                    Phase::Idle | Phase::Responding | Phase::Closed => Deadline::Idle,
                    Phase::Head => Deadline::Head,
                    Phase::Body => Deadline::Body,
                };
                self.watch(token, client, Interest::Read, deadline);
            }
            Stage::Closing => self.close(token),
            Stage::ClosingLate => {
                if let Some(channel) = &client.channel {
                    channel.stream.end_sending();
                }
                client.stage = Stage::Lingering;
                self.watch(token, client, Interest::Read, Deadline::Linger);
            }
            Stage::Lingering => self.watch(token, client, Interest::Read, Deadline::Linger),
        }
    }

    fn watch(&mut self, token: Token, mut client: Box<Client>, interest: Interest, kind: Deadline) {
        if client.interest != Some(interest)
            && let Err(error) = self.ask(token, &client, interest)
        {
            log::error!("cannot poll a connection: {error}");
            drop(client);
            return self.close(token);
        }
        client.interest = Some(interest);
        let deadline = self.deadline(&client, kind);
        self.deadlines.set(token, &mut client, deadline);
        self.clients.put_back(token, client);
    }

    fn ask(&self, token: Token, client: &Client, interest: Interest) -> io::Result<()> {
        let Some(channel) = &client.channel else { return Ok(()) };
        match client.interest {
            None => self.poll.add(channel.stream.as_fd(), token.to_bits(), interest),
            Some(_) => self.poll.modify(channel.stream.as_fd(), token.to_bits(), interest),
        }
    }

    /// The deadline of a wait that begins or goes on now. Head and linger count from their beginning, the others from
    /// the last progress.
    fn deadline(&self, client: &Client, kind: Deadline) -> Option<(Deadline, Instant)> {
        let counts_on = match kind {
            Deadline::Head | Deadline::Linger | Deadline::Send => true,
            Deadline::Idle | Deadline::Body => false,
        };
        match client.deadline {
            Some((same, at)) if same == kind && counts_on => Some((kind, at)),
            _ => self.timeouts.of(kind).map(|time| (kind, self.now + time)),
        }
    }

    /// Gives a client `time` for its next request, if it has longer.
    pub(super) fn hasten(&mut self, token: Token, client: &mut Client, time: Duration) {
        self.deadlines.set(token, client, Some((Deadline::Idle, self.now + time)));
    }

    /// The next client whose deadline has passed, taken out.
    pub(super) fn expired(&mut self) -> Option<(Token, Box<Client>)> {
        while let Some((at, token)) = self.deadlines.pop(self.now) {
            let Some(mut client) = self.clients.take(token) else { continue };
            if self.deadlines.is_due(at, token, &mut client, self.now) {
                return Some((token, client));
            }
            self.clients.put_back(token, client);
        }
        None
    }

    /// Forgets a client, which closes its descriptor and with it epoll's registration.
    pub(super) fn close(&mut self, token: Token) {
        self.clients.remove(token);
        if !matches!(self.accepting, Accepting::Yes | Accepting::Stopped) {
            // There is a descriptor again.
            if let Accepting::Exhausted(_) = self.accepting {
                self.accepting = Accepting::Exhausted(self.now);
            }
            self.resume_accepting();
        }
    }

    fn park(&mut self, client: &mut Client) {
        if let Some(storage) = client.connection.park() {
            self.storage = Some(storage);
        }
    }
}
