//! [`Engine`]: what is done about events without Python: accept, receive, parse, refuse, send, close. It is the work at
//! the desk of `turn`, the same whether an application thread polls or the standby.
//!
//! A request that is complete goes back to the caller, who either calls the application or has it [queued](Engine::queue).

mod events;

use super::channel::{Outlet, Sent};
use super::client::{Client, Deadline, Token};
use super::condemn::Patience;
use super::counting::ShownCall;
use super::hooks::LastCalls;
use super::io::Io;
use super::leaving::Departure;
use super::passing::Passing;
use super::proxied::ProxyRules;
use super::records::NEXT_LOOK;
use super::spool::SpoolSettings;
use super::title::WorkerTitle;
use super::turn::{Desk, Turn};
use crate::http::date::DateLines;
use crate::http::{Limits, RequestError};
use crate::log::access::AccessLog;
use crate::scoreboard::{Slot, Statistics};
use crate::statsd::Statsd;
use crate::sys::clock;
use crate::sys::poll::Ready;
use crate::sys::shared::Doorbell;
use crate::sys::signal::SelfPipe;
use crate::wsgi::Shared;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Engine<'w> {
    pub(super) io: Io<'w>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) statsd: Option<Statsd>,
    /// A request that takes as long is told of in the error log.
    pub(super) slow_request: Duration,
    pub(super) slot: Slot<'w>,
    /// Where to count what is done; `None` if nobody wants to know.
    pub(super) statistics: Option<Statistics<'w>>,
    pub(super) shown_call: Option<ShownCall>,
    /// For whoever looks with `ps`.
    pub(super) title: WorkerTitle,
    pub(super) rules: Arc<Rules>,
    /// The responses that are being made, one for each application thread.
    pub(super) exchanges: Vec<Arc<Shared<Outlet>>>,
    pub(super) patience: Patience,
    /// A call has taken too long; see `condemn`.
    pub(super) is_condemned: bool,
    /// The clients whose requests are in the application, by thread.
    pub(super) callers: Vec<Option<Token>>,
    pub(super) signals: &'w SelfPipe,
    /// Ends the sleep of the poller.
    bell: Doorbell,
    /// The Date of the answers that are the server's own.
    pub(super) date: DateLines,
    seconds: u64,
    /// The other workers, if connections may move.
    pub(super) passing: Option<Passing<'w>>,
    /// Addresses that connections may come from, as far as this worker knows.
    pub(super) places: usize,
    /// Whether nobody who polls calls the application: a call takes long.
    pub(super) is_stuck: bool,
    /// What a call takes, nanoseconds: a mean in which old calls count less and less.
    pub(super) call_nanoseconds: u64,
    /// Whether the inboxes of workers that are gone are to be read.
    pub(super) adopts_orphans: bool,
    /// Clients whose complete request waits for an application thread, in the order of arrival.
    pub(super) queue: VecDeque<Token>,
    /// Since when the queue has not been empty.
    pub(super) queued_since: Option<Instant>,
    /// Connections that have just come. Nobody has looked at them, and epoll does not know them: whoever polls deals with
    /// them first.
    pub(super) arrivals: VecDeque<Token>,
    /// Clients whose responses leave together.
    finished: Vec<Token>,
    /// A list that was `finished`, for its allocation.
    leaving: Vec<Token>,
    /// Until when the poller sleeps, if an application thread that polls does; `None` in it is without end.
    sleeps_until: Option<Option<Instant>>,
    pub(super) departure: Departure<'w>,
    /// Hooks that are told of the worker's end before it comes.
    pub(super) last_calls: LastCalls,
    /// So many requests answered make a worker ask for its successor.
    pub(super) requests_max: u64,
    /// It has been said that logs cannot be opened anew.
    pub(super) has_told_of_logs: bool,
}

/// What the settings say about requests.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) limits: Limits,
    pub(super) proxies: ProxyRules,
    pub(super) spool: SpoolSettings,
    pub(super) is_keep_alive: bool,
    /// Whether the application gets a request when its body is complete.
    pub(super) is_buffering: bool,
    /// Longest pause of a client in a body that the application reads as it comes; `None` is without end.
    pub(super) body_timeout: Option<Duration>,
}

/// How an attempt to accept came out.
pub(super) struct Accepted {
    pub(super) count: usize,
    /// Whether no more wait.
    pub(super) is_all: bool,
}

/// A client that has been taken out of its place, with a request for the application.
pub(super) type WithRequest = (Token, Box<Client>);

/// What an event has brought.
pub(super) enum Brought {
    Nothing,
    Request(WithRequest),
    /// New connections, to be taken with [`Engine::next_arrival`].
    Arrivals,
}

impl<'w> Engine<'w> {
    /// Without other workers, an access log, and an end.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn new(
        io: Io<'w>,
        slot: Slot<'w>,
        signals: &'w SelfPipe,
        rules: Rules,
        exchanges: Vec<Arc<Shared<Outlet>>>,
        patience: Patience,
        departure: Departure<'w>,
    ) -> std::io::Result<Self> {
        let bell = Doorbell::new()?;
        io.watch_signals(signals.as_fd())?;
        io.watch_bell(bell.as_fd())?;
        Ok(Self {
            io,
            access_log: None,
            statsd: None,
            slow_request: Duration::MAX,
            slot,
            statistics: slot.statistics(),
            shown_call: None,
            title: WorkerTitle::default(),
            rules: Arc::new(rules),
            patience,
            is_condemned: false,
            callers: vec![None; exchanges.len()],
            exchanges,
            signals,
            bell,
            date: DateLines::default(),
            seconds: 0,
            passing: None,
            places: 0,
            is_stuck: false,
            call_nanoseconds: 0,
            adopts_orphans: false,
            queue: VecDeque::new(),
            queued_since: None,
            arrivals: VecDeque::new(),
            finished: Vec::new(),
            leaving: Vec::new(),
            sleeps_until: None,
            departure,
            last_calls: LastCalls::default(),
            requests_max: u64::MAX,
            has_told_of_logs: false,
        })
    }

    // The frame around a batch of events.

    /// Reads the clocks.
    pub(super) fn begin_batch(&mut self) {
        self.io.now = Instant::now();
        self.seconds = clock::coarse_now().seconds as u64;
        self.date.set(self.seconds);
    }

    /// An application thread polls: new connections are welcome.
    pub(super) fn be_free(&mut self) {
        self.wake_up();
        self.is_stuck = false;
        self.io.be_free();
    }

    /// No thread is free to call the application, or none that should: new connections are for other workers.
    pub(super) fn be_busy(&mut self) {
        self.wake_up();
        self.is_stuck = true;
        self.io.be_busy();
        // It would stay here otherwise, while a worker of another master may be free for it.
        if self.departure.has_ready_sibling() {
            self.accept_stranded();
        }
    }

    /// Accepts what waits although nobody may know of it: a connection wakes one of those who poll its listener, and that
    /// one has ceased to poll, or has been killed, before it could accept. It would wait for the next one.
    pub(super) fn accept_stranded(&mut self) {
        if self.passing.is_some() && !self.is_leaving() {
            for listener in 0..self.io.listeners() {
                self.accept(listener);
            }
        }
    }

    /// Does what has become due meanwhile.
    pub(super) fn end_batch(&mut self) {
        self.send_finished();
        self.expire();
        self.adopt_orphans();
        self.queue_arrivals();
        self.io.resume_accepting();
        self.note_connections();
        self.note_waiting();
        if self.slot.requests() >= self.requests_max {
            self.ask_for_successor();
        }
        if self.departure.is_asked {
            self.go_on_leaving();
        }
    }

    /// The poller is about to sleep, as an application thread: the time until which it may.
    pub(super) fn fall_asleep(&mut self) -> Option<Instant> {
        let is_worth_a_look = self.flush_records();
        self.title.be_idle();
        if let Some(passing) = &self.passing {
            self.slot.set_idle();
            passing.offer_help();
        }
        let mut until = self.io.next_wake();
        if is_worth_a_look {
            let look = Instant::now() + NEXT_LOOK;
            until = Some(until.map_or(look, |until| until.min(look)));
        }
        self.sleeps_until = Some(until);
        until
    }

    /// It sleeps no more.
    pub(super) fn wake_up(&mut self) {
        if self.sleeps_until.take().is_none() {
            return;
        }
        self.title.be_busy();
        if self.passing.is_some() {
            self.slot.set_busy();
        }
    }

    /// Ends the worker: wakes all threads, wherever they sleep, for the last time.
    pub(super) fn end(turn: &Turn<Self>, desk: &mut Desk<Self>) {
        turn.end(desk);
        desk.work.bell.ring();
    }

    /// Wakes the poller if it would oversleep.
    pub(super) fn mind_sleeper(&self) {
        let Some(until) = self.sleeps_until else { return };
        let oversleeps = self.io.next_wake().is_some_and(|wake| until.is_none_or(|until| wake < until));
        if oversleeps || self.has_queued() {
            self.bell.ring();
        }
    }

    /// Seconds since the epoch, for the Date of responses.
    pub(super) fn seconds(&self) -> u64 {
        self.seconds
    }

    // Output.

    /// Sends the responses that are finished.
    pub(super) fn send_finished(&mut self) {
        if self.finished.is_empty() {
            return;
        }
        let mut leaving = std::mem::take(&mut self.leaving);
        std::mem::swap(&mut leaving, &mut self.finished);
        for token in leaving.drain(..) {
            if let Some(client) = self.io.clients.take(token) {
                self.send_or_close(token, client);
            }
        }
        self.leaving = leaving;
    }

    // Deadlines.

    /// Acts on the deadlines that have passed.
    fn expire(&mut self) {
        while let Some((token, kind)) = self.io.expired() {
            let late = match kind {
                Deadline::Head => RequestError::HeadTimeout,
                Deadline::Body => RequestError::BodyTimeout,
                Deadline::Idle | Deadline::Send | Deadline::Linger => {
                    self.end_late(token);
                    continue;
                }
                Deadline::Parting => {
                    self.part(token);
                    continue;
                }
            };
            let Some(mut client) = self.io.clients.take(token) else { continue };
            self.refuse(&mut client, late);
            self.send_or_close(token, client);
        }
    }

    /// Sends what a client is to get, as far as it takes it now.
    pub(super) fn send_or_close(&mut self, token: Token, mut client: Box<Client>) {
        match self.io.send(token, &mut client) {
            Sent::All | Sent::Some | Sent::Nothing => self.io.settle(token, client),
            Sent::Broken => self.lose(token),
        }
    }

    /// The client has gone with output waiting.
    pub(super) fn lose(&mut self, token: Token) {
        self.count_disconnect();
        self.io.close(token);
    }

    fn end_late(&mut self, token: Token) {
        let is_in_call = self.io.clients.watch(token).is_some_and(|watch| watch.caller.is_some());
        if is_in_call {
            self.give_up_caller(token);
        } else {
            self.io.close(token);
        }
    }
}

pub(super) fn readable(token: Token) -> Ready {
    Ready { token: token.to_bits(), readable: true, writable: false, ended: false }
}

/// RFC 9110 §15.2.1.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
