//! How a worker leaves that was asked to (SIGTERM), or that is condemned. There are two ways.
//!
//! While the server goes on, it *hands over*: it accepts no more, and each connection moves to a sibling as soon as it
//! can, between two requests or with one that waits. No client notices. When the whole server stops, or connections do
//! not move (`--no-passing`), it *closes*: what is in flight and what has been sent is answered, and the answers say
//! that the connection ends. If the server stops, that goes for what waits in the backlog too, where nobody new
//! arrives then (`Listener::refuse_newcomers`).
//!
//! The server may stop when a worker is already handing over: then it closes instead.

use super::client::{Client, Token};
use super::engine::{Accepted, Engine, readable};
use crate::http::Connection;
use crate::scoreboard::{Scoreboard, State};
use std::time::{Duration, Instant};

/// How long a client that closes may take for its first request, or its end.
pub(super) const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How long a worker that leaves still looks for what is on its way to it: the last packet of a handshake, a connection
/// that a sibling has sent before it knew, and the master's word that not only this worker leaves but all of them.
const QUIET: Duration = Duration::from_millis(100);

/// How often a worker that leaves looks around without being woken.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What the engine has to know to leave.
#[derive(Debug)]
pub(super) struct Departure<'w> {
    scoreboard: &'w Scoreboard,
    /// The slot of this worker.
    own: u32,
    generation: u32,
    /// SIGTERM has come, or the worker is condemned.
    pub(super) is_asked: bool,
    /// All workers leave. The master says so, at any time.
    is_stopping: bool,
    way: Way,
    /// Nothing new has come to this worker since then.
    quiet_since: Instant,
    /// The inboxes of the siblings are full until then.
    rests_until: Option<Instant>,
    /// So many connections may still be accepted. As many as a backlog holds, twice: if newcomers cannot be refused,
    /// there must be an end.
    accepts_left: usize,
    /// Nothing more is on its way to this worker.
    is_quiet: bool,
    is_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Not at all.
    Staying,
    /// The siblings get all connections.
    HandingOver,
    /// Nobody gets them.
    Closing { since: Instant },
}

/// What a look at the listeners has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Backlog {
    /// Nothing waits there.
    Empty,
    /// There is no room for what may wait there.
    Unseen,
    /// As much as is taken at a time, and there may be more.
    GoesOn,
}

impl Accepted {
    fn backlog(&self) -> Backlog {
        match self {
            Self { is_all: true, .. } => Backlog::Empty,
            Self { count: 0, .. } => Backlog::Unseen,
            Self { .. } => Backlog::GoesOn,
        }
    }
}

impl<'w> Departure<'w> {
    /// Not yet.
    pub(super) fn new(scoreboard: &'w Scoreboard, own: u32, generation: u32, backlog: u32) -> Self {
        Self {
            scoreboard,
            own,
            generation,
            is_asked: false,
            is_stopping: false,
            way: Way::Staying,
            quiet_since: Instant::now(),
            rests_until: None,
            accepts_left: (backlog as usize).saturating_mul(2),
            is_quiet: false,
            is_over: false,
        }
    }

    /// Whether a condemned worker with no connections may end: no other has come, if it is one to look for them.
    pub(super) fn may_end(&self) -> bool {
        self.is_quiet || !self.is_stopping
    }

    /// Whether the server was interrupted, or the worker has seen that its code has changed.
    pub(super) fn is_interrupted(&self) -> bool {
        self.scoreboard.is_interrupted() || self.scoreboard.reload_asked_by() >= self.generation
    }

    pub(super) fn has_ready_sibling(&self) -> bool {
        self.scoreboard.best_sibling(self.own).is_some()
    }
}

// For others to ask.
impl Engine<'_> {
    /// Whether all is done that a worker does before it leaves in order. A condemned one does not: see
    /// [`leave`](Self::leave).
    pub(super) fn is_drained(&self) -> bool {
        self.departure.is_over
    }

    /// Whether this worker leaves, in whatever way.
    pub(super) fn is_leaving(&self) -> bool {
        self.departure.way != Way::Staying
    }

    /// Whether all connections are for other workers.
    pub(super) fn is_handing_over(&self) -> bool {
        self.departure.way == Way::HandingOver
    }

    /// Whether connections end here and go to nobody.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.departure.way, Way::Closing { .. })
    }

    /// Whether a connection stays open behind the response that begins now.
    #[inline]
    pub(super) fn keeps_open(&self, connection: &Connection) -> bool {
        match self.departure.way {
            Way::Staying | Way::HandingOver => true,
            // The requests that a client has sent ahead are answered, but not those of one that never ceases to: when the
            // time is over, which may have gone by in calls, those that have been received.
            Way::Closing { since } => {
                let has_time = self.io.now - since < LAST_CHANCE;
                connection.is_complete()
                    && if has_time { connection.has_leftover() } else { connection.has_next_head() }
            }
        }
    }

    /// Whether the siblings have been found to have no room for more, just now.
    pub(super) fn has_nobody_room(&self) -> bool {
        self.departure.rests_until.is_some_and(|until| self.io.now < until)
    }

    /// An inbox was full: the next attempt is the one of the next look.
    pub(super) fn note_no_room(&mut self) {
        self.departure.rests_until = Some(self.io.now + LOOK_INTERVAL);
    }
}

// What is done.
impl Engine<'_> {
    /// Begins to leave, or goes on with it; at the end of each batch since it was asked for.
    #[cold]
    pub(super) fn go_on_leaving(&mut self) {
        if !self.departure.is_stopping && self.departure.scoreboard.is_stopping() {
            self.departure.is_stopping = true;
            // Handshakes may be under way that nobody was there to wait for.
            self.departure.quiet_since = self.io.now;
        }
        match self.departure.way {
            Way::Staying => self.begin_leaving(),
            Way::HandingOver if self.departure.is_stopping => self.begin_closing(),
            Way::HandingOver | Way::Closing { .. } => {}
        }
        // Not while the others have no room.
        if self.is_handing_over() && !self.has_nobody_room() {
            self.pass_all();
        }
        let backlog = if self.departure.is_stopping || self.has_closed_listener() {
            self.take_from_backlog()
        } else {
            Backlog::Empty
        };
        if self.io.clients.len() == 0 {
            self.on_inbox();
            self.queue_arrivals();
        }
        self.note_connections();
        self.departure.is_quiet = backlog == Backlog::Empty && self.io.now - self.departure.quiet_since >= QUIET;
        self.departure.is_over = self.departure.is_quiet && self.io.clients.len() == 0 && !self.is_condemned;
        // The listeners are looked at and not polled: epoll would tell of a Unix socket that was shut down without end.
        let pause = if backlog == Backlog::GoesOn { Duration::ZERO } else { LOOK_INTERVAL };
        self.io.look_again_at = Some(self.io.now + pause);
    }

    fn begin_leaving(&mut self) {
        self.title.be_draining();
        self.departure.quiet_since = self.io.now;
        if !self.is_condemned {
            self.slot.set_state(State::Draining);
        }
        self.io.stop_accepting();
        if self.passing.is_some() && !self.departure.is_stopping {
            self.departure.way = Way::HandingOver;
        } else {
            self.begin_closing();
        }
        self.accept_for_others();
    }

    /// A connection that comes wakes one of those who poll its listener. If that was this worker, the others do not
    /// know of it before the next one comes. Who polls the listener later looks by himself.
    fn accept_for_others(&mut self) {
        let has_siblings = !self.departure.is_stopping && self.departure.has_ready_sibling();
        for listener in 0..self.io.listeners() {
            while has_siblings || !self.io.is_ours(listener) {
                let accepted = self.accept_last(listener);
                if accepted.is_all || accepted.count == 0 {
                    break;
                }
            }
        }
    }

    /// Looks at every client once more; from now on those who have had a response have little time for another request.
    fn begin_closing(&mut self) {
        self.departure.way = Way::Closing { since: self.io.now };
        self.io.begin_closing(LAST_CHANCE);
        for exchange in &self.exchanges {
            exchange.lock().announce_close();
        }
        for token in self.io.clients.tokens() {
            if let Some(request) = self.on_client(token, &readable(token)) {
                self.queue(request);
            }
        }
        self.send_finished();
    }

    /// Accepts some of what waits in the backlog, if there is somebody to serve it: else a sibling may be free for it.
    /// The last worker, if it is condemned, [refuses](Self::leave) what it cannot serve.
    fn take_from_backlog(&mut self) -> Backlog {
        if self.is_condemned && self.departure.scoreboard.has_sound_sibling(self.departure.own) {
            return Backlog::Empty;
        }
        if (self.is_stuck && !self.is_condemned) || self.has_queued() {
            return Backlog::Unseen;
        }
        let mut backlog = Backlog::Empty;
        for listener in 0..self.io.listeners() {
            let is_closed = self.departure.is_stopping && self.departure.scoreboard.is_closed();
            if self.io.is_closed(listener) || is_closed && self.io.is_ours(listener) {
                backlog = backlog.max(self.accept_last(listener).backlog());
            }
        }
        self.queue_arrivals();
        backlog
    }

    /// Whether a listener is given up that only workers of this one's configuration have.
    fn has_closed_listener(&self) -> bool {
        (0..self.io.listeners()).any(|listener| self.io.is_closed(listener))
    }

    fn accept_last(&mut self, listener: usize) -> Accepted {
        if self.departure.accepts_left == 0 {
            return Accepted { count: 0, is_all: true };
        }
        let accepted = self.accept(listener);
        if accepted.count > 0 {
            self.departure.accepts_left = self.departure.accepts_left.saturating_sub(accepted.count);
            self.departure.quiet_since = self.io.now;
        }
        accepted
    }

    /// Closes a connection that is idle although it may have another request, unless one has just come: to close it
    /// with that unread would reset it.
    pub(super) fn part(&mut self, token: Token) {
        if let Some(request) = self.on_client(token, &readable(token)) {
            return self.queue(request);
        }
        if self.io.clients.peek(token).is_some_and(Client::is_idle) {
            self.io.close(token);
        }
    }
}
