//! [`Io`]: the poller, its clients and their deadlines, the listeners. Whoever holds it polls.
//!
//! It moves bytes and closes connections; it knows neither the application nor what a request means.

mod accepting;

use self::accepting::{Accepting, EXHAUSTED_PAUSE};
use super::census::Census;
use super::channel::{Channel, Sent};
use super::client::{Client, Clients, Deadline, Stage, Token, Watch};
use super::deadlines::Deadlines;
use super::timeouts::Timeouts;
use crate::http::connection::{Phase, STORAGE_BYTES};
use crate::http::proxy_protocol::ProxyVersions;
use crate::net::Listener;
use crate::scoreboard::Waiting;
use crate::sys::poll::{Interest, Poll, Ready};
use crate::sys::socket::{Attempt, Then};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

/// Allocations for out queues kept for the next response; as many as leave together at the most in common loads.
const TAILS_MAX: usize = 256;

/// An out queue whose allocation grew past this is not kept.
const TAIL_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Io<'w> {
    /// Shared with whoever waits on it, which happens without `Io`.
    poll: Arc<Poll>,
    pub(super) clients: Clients,
    listeners: &'w [Arc<Listener>],
    inbox: Option<BorrowedFd<'w>>,
    /// Out of descriptors for what comes through the inbox.
    inbox_rests_until: Option<Instant>,
    accepting: Accepting,
    /// Nobody is free to take a request: the connections that arrive now are for other workers.
    is_busy: bool,
    exhausted_said: Option<Instant>,
    connections_max: usize,
    /// Which PROXY headers new connections may begin with.
    pub(super) proxy_versions: Option<ProxyVersions>,
    deadlines: Deadlines,
    timeouts: Timeouts,
    /// Whether a connection that has had its response closes soon if it does not send another request.
    closes_idle: bool,
    /// When whoever polls has to look around although nothing has happened: the worker leaves.
    pub(super) look_again_at: Option<Instant>,
    /// Buffers for the connections being read: one, and one more for each that is in the application meanwhile.
    storages: Vec<Vec<u8>>,
    tails: Vec<Vec<u8>>,
    pub(super) census: Census,
    /// The last reading of the clock.
    pub(super) now: Instant,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Client(Token),
    /// The listener of that index.
    Listener(usize),
    Signals,
    /// What other workers pass.
    Inbox,
    /// Somebody wants whoever polls to look at the time again.
    Bell,
}

/// Behind all tokens of clients.
const LISTENER_BIT: u64 = 1 << 63;
const SIGNALS: u64 = u64::MAX;
const INBOX: u64 = u64::MAX - 1;
const BELL: u64 = u64::MAX - 2;

impl Source {
    /// What an event is about.
    pub(super) fn of(ready: &Ready) -> Self {
        match ready.token {
            SIGNALS => Self::Signals,
            INBOX => Self::Inbox,
            BELL => Self::Bell,
            bits if bits & LISTENER_BIT != 0 => Self::Listener((bits & !LISTENER_BIT) as usize),
            bits => Self::Client(Token::from_bits(bits)),
        }
    }
}

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
        listeners: &'w [Arc<Listener>],
        connections_max: usize,
        timeouts: Timeouts,
        poll: Arc<Poll>,
    ) -> Self {
        Self {
            poll,
            clients: Clients::default(),
            listeners,
            inbox: None,
            inbox_rests_until: None,
            accepting: Accepting::Stopped,
            is_busy: false,
            exhausted_said: None,
            connections_max,
            proxy_versions: None,
            deadlines: Deadlines::default(),
            timeouts,
            closes_idle: false,
            look_again_at: None,
            storages: Vec::new(),
            tails: Vec::new(),
            census: Census::default(),
            now: Instant::now(),
        }
    }

    /// Watches what tells of signals.
    pub(super) fn watch_signals(&self, signals: BorrowedFd<'_>) -> io::Result<()> {
        self.poll.add(signals, SIGNALS, Interest::Read)
    }

    /// Watches what other workers write to.
    pub(super) fn watch_inbox(&mut self, inbox: BorrowedFd<'w>) -> io::Result<()> {
        self.inbox = Some(inbox);
        self.poll.add(inbox, INBOX, Interest::Read)
    }

    /// Leaves what is in the inbox there for a while: there is no descriptor for it.
    pub(super) fn rest_inbox(&mut self) {
        let Some(inbox) = self.inbox else { return };
        if self.poll.delete(inbox).is_ok() {
            self.inbox_rests_until = Some(self.now + EXHAUSTED_PAUSE);
        }
    }

    fn resume_inbox(&mut self) {
        if let (Some(inbox), Some(until)) = (self.inbox, self.inbox_rests_until)
            && self.now >= until
            && self.poll.add(inbox, INBOX, Interest::Read).is_ok()
        {
            self.inbox_rests_until = None;
        }
    }

    /// Watches what ends a wait whose time was chosen too long.
    pub(super) fn watch_bell(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        self.poll.add(bell, BELL, Interest::Read)
    }

    /// When something has to be done although no event comes.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let resume = match self.accepting {
            Accepting::Exhausted(until) if !self.is_busy => Some(until),
            Accepting::Exhausted(_) | Accepting::Yes | Accepting::Full | Accepting::Stopped => None,
        };
        [self.deadlines.next(), resume, self.inbox_rests_until, self.look_again_at].into_iter().flatten().min()
    }

    // Clients.

    /// Receives once. Level-triggered polling brings what is left.
    #[inline]
    pub(super) fn receive(&mut self, client: &mut Client) -> Received {
        let Some(channel) = &client.channel else { return Received::Nothing };
        if client.connection.wants_storage() {
            client.connection.lend(self.storages.pop().unwrap_or_else(|| vec![0; STORAGE_BYTES]));
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
        let mut storage = self.storages.pop().unwrap_or_else(|| vec![0; STORAGE_BYTES]);
        let has_ended = matches!(channel.stream.receive(&mut storage), Attempt::Bytes(0) | Attempt::Broken);
        self.storages.push(storage);
        has_ended
    }

    /// Sends what waits.
    #[inline]
    pub(super) fn send(&mut self, token: Token, client: &mut Client) -> Sent {
        let then = match client.stage {
            Stage::Serving | Stage::Lingering => Then::Unknown,
            // `settle` ends it. The end in a segment of its own costs 2 µs.
            Stage::Closing | Stage::ClosingLate => Then::End,
        };
        let sent = client.channel.as_mut().map_or(Sent::All, |channel| channel.send(then));
        if matches!(sent, Sent::All | Sent::Some) {
            self.forget_deadline(token);
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

    /// Puts a client back whose response leaves at the end of the batch.
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
        if client.is_queued {
            return self.hold(token, client);
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
                    Phase::Idle if self.closes_idle && client.requests > 0 => Deadline::Parting,
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

    /// The time for the next step counts from now.
    #[inline]
    pub(super) fn forget_deadline(&mut self, token: Token) {
        if let Some(watch) = self.clients.watch(token) {
            watch.deadline = None;
        }
    }

    fn watch(&mut self, token: Token, client: Box<Client>, interest: Interest, kind: Deadline) {
        self.clients.put_back(token, client);
        self.expect(token, interest, Some(kind));
    }

    /// Waits for `interest`, and within the time that `kind` has. A connection that cannot be watched is closed.
    fn expect(&mut self, token: Token, interest: Interest, kind: Option<Deadline>) {
        let Some(watch) = self.clients.watch(token) else { return };
        if watch.interest != Some(interest)
            && let Err(error) = ask(&self.poll, watch, token, interest)
        {
            log::error!("cannot poll a connection: {error}");
            return self.close(token);
        }
        watch.interest = Some(interest);
        if watch.caller.is_none() {
            self.census.note(watch, kind.map_or(Waiting::Nothing, Waiting::from));
        }
        let deadline = kind.and_then(|kind| deadline(&self.timeouts, watch, kind, self.now));
        self.deadlines.set(token, watch, deadline);
    }

    /// Has nothing told about a connection whose client can make no use of it: its request waits, or is in the
    /// application. epoll would say it again and again.
    pub(super) fn pause(&mut self, token: Token, ready: &Ready) {
        let Some(watch) = self.clients.watch(token) else { return };
        watch.interest = match (watch.interest, &watch.stream) {
            // Errors and ends are told whatever is asked.
            (Some(_), Some(stream)) if ready.ended => {
                if let Err(error) = self.poll.delete(stream.as_fd()) {
                    log::debug!("cannot cease to poll a connection: {error}");
                }
                None
            }
            (Some(Interest::Read), Some(_)) => {
                ask(&self.poll, watch, token, Interest::None).map_or(watch.interest, |()| Some(Interest::None))
            }
            // Room that nothing waits for: all was sent before the request came to wait.
            (Some(Interest::Write), Some(_)) if !ready.readable => {
                ask(&self.poll, watch, token, Interest::None).map_or(watch.interest, |()| Some(Interest::None))
            }
            (interest, _) => interest,
        };
    }

    /// Ceases to watch a connection that goes to another worker: a descriptor in flight keeps epoll's registration alive
    /// after it has been closed here.
    pub(super) fn unwatch(&mut self, token: Token) {
        if let Some(watch) = self.clients.watch(token)
            && watch.interest.take().is_some()
            && let Some(stream) = &watch.stream
            && let Err(error) = self.poll.delete(stream.as_fd())
        {
            log::debug!("cannot cease to poll a connection: {error}");
        }
    }

    /// Waits for a client whose request is in the application to take more of its response.
    pub(super) fn await_room(&mut self, token: Token) {
        self.expect(token, Interest::Write, Some(Deadline::Send));
    }

    /// Such a client has taken all there is, or some.
    pub(super) fn note_progress(&mut self, token: Token, has_more: bool) {
        self.forget_deadline(token);
        if has_more {
            self.await_room(token);
        } else {
            self.expect(token, Interest::None, None);
        }
    }

    /// Puts a client back whose request waits for a thread of the application.
    pub(super) fn hold(&mut self, token: Token, mut client: Box<Client>) {
        self.park(&mut client);
        self.clients.put_back(token, client);
        if let Some(watch) = self.clients.watch(token) {
            self.census.note(watch, Waiting::Thread);
            self.deadlines.set(token, watch, None);
        }
    }

    /// The next place whose deadline has passed, and what it was waited for.
    pub(super) fn expired(&mut self) -> Option<(Token, Deadline)> {
        while let Some((at, token)) = self.deadlines.pop(self.now) {
            let Some(watch) = self.clients.watch(token) else { continue };
            if let Some(kind) = self.deadlines.due(at, token, watch, self.now) {
                return Some((token, kind));
            }
        }
        None
    }

    /// Forgets a client, which closes its descriptor.
    pub(super) fn close(&mut self, token: Token) {
        // A process that the application has forked has the socket too, and would keep epoll's registration alive: it
        // could not be deleted any more, and would tell of a client that is gone without end.
        self.unwatch(token);
        if let Some(watch) = self.clients.watch(token) {
            self.census.note(watch, Waiting::Nothing);
        }
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
        if let Some(storage) = client.connection.park()
            && self.storages.len() < STORAGES_MAX
        {
            self.storages.push(storage);
        }
    }
}

/// Buffers kept for reading; more are in use at a time only while several threads are in the application.
const STORAGES_MAX: usize = 4;

fn ask(poll: &Poll, watch: &Watch, token: Token, interest: Interest) -> io::Result<()> {
    let Some(stream) = &watch.stream else { return Ok(()) };
    match watch.interest {
        None => poll.add(stream.as_fd(), token.to_bits(), interest),
        Some(_) => poll.modify(stream.as_fd(), token.to_bits(), interest),
    }
}

/// The deadline of a wait that begins or goes on now. Head, send, parting and linger count from their beginning, the
/// others from the last progress. None of them is later than what the time has become since.
fn deadline(timeouts: &Timeouts, watch: &Watch, kind: Deadline, now: Instant) -> Option<(Deadline, Instant)> {
    let counts_on = match kind {
        Deadline::Head | Deadline::Linger | Deadline::Send | Deadline::Parting => true,
        Deadline::Idle | Deadline::Body => false,
    };
    let from_now = timeouts.of(kind).map(|time| now + time);
    match watch.deadline {
        Some((same, at)) if same == kind && counts_on => Some((kind, from_now.map_or(at, |limit| at.min(limit)))),
        _ => from_now.map(|limit| (kind, limit)),
    }
}
