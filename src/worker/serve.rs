//! [`Server`]: the loop of a worker. Poll, read, call the application, send.
//!
//! The thread that polls also calls the application, so that a request costs one `recv` and one `send` and no thread
//! hop. Finished responses wait with the [`Postman`] for the end of the batch of events, and leave together.

use super::channel::{Outlet, Sent};
use super::client::{Client, Deadline, Stage, Token};
use super::io::{Io, Received, Source};
use super::postman::{Letter, Postman};
use crate::http::connection::Phase;
use crate::http::response::{ResponseTo, push_plain};
use crate::http::{Event, Limits, Request, RequestError, Version};
use crate::log::access::{AccessLog, Record, RequestFields};
use crate::scoreboard::Slot;
use crate::sys::clock;
use crate::sys::poll::{Ready, Waited};
use crate::sys::signal::{SelfPipe, Signal};
use crate::sys::socket::Peer;
use crate::wsgi::environ::PeerNames;
use crate::wsgi::handler::{Outcome, Then};
use crate::wsgi::{Exchange, Handler};
use pyo3::prelude::*;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// In a batch that takes longer than this, finished responses leave in between. Shorter times cost what the batch gains
/// (Flask, 64 connections, CPU per request: 0.5 and 1 ms 46 µs, 2 and 4 ms 40 µs).
const DEFER_MAX: Duration = Duration::from_micros(2000);

/// Responses to pipelined requests are sent together up to this size.
const PIPELINE_BYTES_MAX: usize = 64 * 1024;

/// While stopping, how long a connection that has not sent a request yet may take for its first one.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// While stopping, how often each listener is asked for connections that wait; enough for a full default backlog.
const LAST_ACCEPTS_MAX: usize = 128;

pub(super) struct Server<'w> {
    pub(super) io: Io<'w>,
    pub(super) handler: Handler,
    pub(super) exchange: Arc<Mutex<Exchange<Outlet>>>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) signals: &'w SelfPipe,
    pub(super) slot: Slot<'w>,
    pub(super) limits: Limits,
    pub(super) is_keep_alive: bool,
    /// Finished responses that have not been sent.
    pub(super) postman: Postman,
    pub(super) letters: Vec<Letter>,
    pub(super) is_draining: bool,
}

/// Why [`Server::advance`] stopped.
enum Pause {
    /// All received bytes are used up, or no further request will be read.
    NeedInput,
    /// What waits must be sent before more is read.
    Output,
}

impl Server<'_> {
    /// Serves until asked to stop and until all requests in flight are answered.
    pub(super) fn run(&mut self, py: Python<'_>) -> io::Result<()> {
        self.io.start_accepting()?;
        while !(self.is_draining && self.io.clients.len() == 0) {
            let count = self.wait(py)?;
            self.io.now = Instant::now();
            let batch = self.io.now;
            self.lock().date.set(clock::coarse_now().seconds as u64);
            let mut is_asked_to_stop = false;
            for index in 0..count {
                match self.io.event(index) {
                    (Source::Client(token), ready) => self.on_client(py, token, ready),
                    (Source::Listener(listener), _) => _ = self.on_listener(py, listener),
                    (Source::Signals, _) => is_asked_to_stop |= self.signals.drain().contains(&Signal::Term),
                }
                if self.io.now - batch > DEFER_MAX && self.postman.has_letters() {
                    self.send_finished(py);
                }
            }
            self.send_finished(py);
            self.expire(py);
            self.io.resume_accepting();
            self.slot.set_connections(self.io.clients.len() as u32);
            if is_asked_to_stop && !self.is_draining {
                self.drain(py);
            }
        }
        self.flush_log();
        Ok(())
    }

    /// Looks for events with the GIL; only a wait that really waits lets go of it, and sends the log on its way.
    fn wait(&mut self, py: Python<'_>) -> io::Result<usize> {
        if let Waited::Events(count @ 1..) = self.io.wait(Some(Duration::ZERO))? {
            return Ok(count);
        }
        self.flush_log();
        let io = &mut self.io;
        match py.detach(|| io.wait(None))? {
            Waited::Events(count) => Ok(count),
            Waited::Interrupted => {
                // A signal for which the application has a handler of its own.
                if let Err(error) = py.check_signals() {
                    log::error!("a signal handler of the application raised: {error}");
                }
                Ok(0)
            }
        }
    }

    fn flush_log(&mut self) {
        if let Some(log) = &mut self.access_log {
            log.flush();
        }
    }

    /// Returns how many connections were accepted.
    fn on_listener(&mut self, py: Python<'_>, listener: usize) -> usize {
        let accepted = self.io.accept(listener);
        for &token in &accepted {
            // The request often comes with the connection; then epoll is asked only if the connection persists.
            self.on_client(py, token, Ready { token: token.to_bits(), readable: true, writable: false });
        }
        accepted.len()
    }

    #[inline]
    fn on_client(&mut self, py: Python<'_>, token: Token, ready: Ready) {
        let Some(mut client) = self.io.clients.take(token) else { return };
        if client.stage == Stage::Lingering {
            return if self.io.discard(&mut client) { self.io.close(token) } else { self.io.settle(token, client) };
        }
        if client.has_output() && ready.writable {
            return self.resume(py, token, client);
        }
        if !ready.readable || client.stage != Stage::Serving {
            return self.io.settle(token, client);
        }
        match self.io.receive(&mut client) {
            Received::Something => self.serve(py, token, client),
            Received::Nothing => self.io.settle(token, client),
            Received::Broken => self.io.close(token),
        }
    }

    /// The client has taken some of what waits: goes on with the requests behind it when it has taken all.
    fn resume(&mut self, py: Python<'_>, token: Token, mut client: Box<Client>) {
        match self.io.send(py, &mut client) {
            Sent::All if client.stage == Stage::Serving => self.serve(py, token, client),
            Sent::All | Sent::Some | Sent::Nothing => self.io.settle(token, client),
            Sent::Broken => self.io.close(token),
        }
    }

    /// Answers the requests that have been received completely.
    fn serve(&mut self, py: Python<'_>, token: Token, mut client: Box<Client>) {
        while let Pause::Output = self.advance(py, &mut client) {
            match self.io.send(py, &mut client) {
                Sent::All if client.stage == Stage::Serving => {}
                Sent::All | Sent::Some | Sent::Nothing => return self.io.settle(token, client),
                Sent::Broken => return self.io.close(token),
            }
        }
        if client.has_output()
            && let Some(channel) = client.channel.take()
        {
            self.postman.give(token, channel);
            self.io.defer(token, client);
        } else {
            self.io.settle(token, client);
        }
    }

    fn send_finished(&mut self, py: Python<'_>) {
        let mut letters = std::mem::take(&mut self.letters);
        self.postman.collect(&mut letters);
        for Letter { token, channel } in letters.drain(..) {
            let Some(mut client) = self.io.clients.take(token) else { continue };
            client.channel = Some(channel);
            match self.io.send(py, &mut client) {
                Sent::All | Sent::Some | Sent::Nothing => self.io.settle(token, client),
                Sent::Broken => self.io.close(token),
            }
        }
        self.letters = letters;
    }

    /// Turns received bytes into responses.
    fn advance(&mut self, py: Python<'_>, client: &mut Client) -> Pause {
        while client.stage == Stage::Serving {
            match client.connection.next_event(&self.limits) {
                Ok(Event::NeedInput) => break,
                Ok(Event::Head { wants_continue: true }) => {
                    client.channel.iter_mut().for_each(|channel| channel.tail().extend_from_slice(CONTINUE));
                    return Pause::Output;
                }
                Ok(Event::Head { wants_continue: false }) => {}
                Ok(Event::Payload(run)) => client.body.extend_from_slice(client.connection.payload(run)),
                Ok(Event::End) => {
                    self.respond(py, client);
                    let waiting = client.channel.as_ref().map_or(0, |channel| channel.waiting());
                    if waiting > PIPELINE_BYTES_MAX {
                        return Pause::Output;
                    }
                }
                Ok(Event::Closed) => client.stage = Stage::Closing,
                Err(error) => self.refuse(client, error),
            }
        }
        Pause::NeedInput
    }

    /// Gives a complete request to the application; its response is in the client's queue afterwards.
    fn respond(&mut self, py: Python<'_>, client: &mut Client) {
        let started = self.io.now;
        let mut channel = client.channel.take();
        channel.iter_mut().for_each(|channel| self.io.lend_tail(channel));
        let request = client.connection.request();
        let persists = request.persists() && self.is_keep_alive && !self.is_draining;
        let to = ResponseTo { is_head: request.method() == b"HEAD", version: request.version(), persists };
        {
            let mut exchange = self.lock();
            exchange.output.attach(channel);
            exchange.open(to);
        }
        let peer = client.peer_names.get_or_insert_with(|| peer_names(py, client.peer));
        let body = std::mem::take(&mut client.body);

        self.slot.enter_call();
        self.postman.enter_call();
        let outcome = self.handler.handle(py, &request, client.listener, peer, body);
        self.postman.leave_call();
        self.slot.leave_call();
        self.slot.count_request();

        client.channel = self.lock().output.detach();
        self.io.now = Instant::now();
        let duration = self.io.now - started;
        self.log(client, &outcome, duration);
        client.requests += 1;
        // The next head has a time of its own.
        client.deadline = None;
        client.connection.respond(outcome.then == Then::Persist);
        client.stage = match outcome.then {
            Then::Persist => Stage::Serving,
            Then::Close if client.connection.has_leftover() => Stage::ClosingLate,
            Then::Close | Then::Cut => Stage::Closing,
        };
    }

    /// Answers a request that is malformed or too large, and ends the connection.
    fn refuse(&mut self, client: &mut Client, error: RequestError) {
        log::debug!("refused a request from {}: {error}", PeerText(client.peer));
        // What the request said about itself is not to be trusted: no keep-alive, and a body whatever the method.
        let to = ResponseTo { is_head: false, version: Version::Http11, persists: false };
        if let Some(channel) = &mut client.channel {
            let exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
            push_plain(error.status(), &error.to_string(), to, &exchange.date, channel.tail());
        }
        client.stage = Stage::ClosingLate;
    }

    fn log(&mut self, client: &Client, outcome: &Outcome, duration: Duration) {
        let Some(log) = &mut self.access_log else { return };
        let request = client.connection.request();
        let mut response_fields = Vec::new();
        if log.wants_response_fields() {
            let exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
            response_fields.extend(exchange.head().fields().map(|(name, value)| (name.to_vec(), value.to_vec())));
        }
        log.push(&Record {
            remote_addr: client.peer_names.as_ref().map_or("", PeerNames::address),
            method: request.method(),
            target: request.target(),
            version_minor: request.version().minor(),
            fields: &LoggedRequest(request),
            status: outcome.status,
            body_bytes: outcome.body_bytes,
            duration,
            response_fields: &response_fields,
            environ: &outcome.logged_values,
        });
    }

    /// Acts on the deadlines that have passed.
    fn expire(&mut self, py: Python<'_>) {
        while let Some((token, mut client)) = self.io.expired() {
            let late = match client.deadline {
                Some((Deadline::Head, _)) => RequestError::HeadTimeout,
                Some((Deadline::Body, _)) => RequestError::BodyTimeout,
                Some((Deadline::Idle | Deadline::Send | Deadline::Linger, _)) | None => {
                    drop(client);
                    self.io.close(token);
                    continue;
                }
            };
            self.refuse(&mut client, late);
            match self.io.send(py, &mut client) {
                Sent::Broken => self.io.close(token),
                Sent::All | Sent::Some | Sent::Nothing => self.io.settle(token, client),
            }
        }
    }

    /// Begins to stop: takes what waits in the listeners' queues, then no more; idle connections close, requests in
    /// flight finish.
    fn drain(&mut self, py: Python<'_>) {
        self.is_draining = true;
        self.io.closes_idle = true;
        self.slot.set_state(crate::scoreboard::State::Draining);
        for listener in 0..self.io.listeners() {
            // Bounded, since under load new ones keep coming.
            (0..LAST_ACCEPTS_MAX).take_while(|_| self.on_listener(py, listener) > 0).for_each(drop);
        }
        self.io.stop_accepting();
        for token in self.io.clients.tokens() {
            self.on_client(py, token, Ready { token: token.to_bits(), readable: true, writable: false });
            let Some(mut client) = self.io.clients.take(token) else { continue };
            // One that has had a response and is idle has been closed with this look at it.
            let is_idle = client.stage == Stage::Serving && client.connection.phase() == Phase::Idle;
            if is_idle && !client.has_output() && client.channel.is_some() {
                self.io.hasten(token, &mut client, LAST_CHANCE);
            }
            self.io.clients.put_back(token, client);
        }
        self.send_finished(py);
    }

    fn lock(&self) -> MutexGuard<'_, Exchange<Outlet>> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 9110 §15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn peer_names(py: Python<'_>, peer: Peer) -> PeerNames {
    match peer {
        Peer::Tcp(address) => PeerNames::new(py, address.ip().to_string(), Some(address.port())),
        Peer::Unix => PeerNames::new(py, String::new(), None),
    }
}

/// A peer in a log line.
struct PeerText(Peer);

impl std::fmt::Display for PeerText {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Peer::Tcp(address) => address.fmt(out),
            Peer::Unix => out.write_str("a unix socket"),
        }
    }
}

struct LoggedRequest<'c>(Request<'c>);

impl RequestFields for LoggedRequest<'_> {
    fn get(&self, lowercase_name: &[u8]) -> Option<&[u8]> {
        self.0.field(lowercase_name)
    }
}
