//! [`AppThread`]: a thread that calls the application. When it is its turn, it polls too: a request then costs one
//! `recv` and one `send` and no hop between threads. See `turn` for when that is.

use super::arriving::Arriving;
use super::channel::{Outlet, Sent};
use super::client::{Client, Stage};
use super::engine::{Brought, Engine, WithRequest};
use super::proxied;
use super::records::Call;
use super::turn::{Desk, Poller, Turn};
use crate::http::connection::OwnedRequest;
use crate::http::response::ResponseTo;
use crate::sys::poll::{Events, Poll, Waited};
use crate::wsgi::environ::PeerNames;
use crate::wsgi::handler::{Outcome, Then};
use crate::wsgi::{Body, Handler, Shared};
use pyo3::prelude::*;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

/// In a batch of events that takes longer than this, finished responses leave in between, and the requests that the
/// rest of it brings are queued, where idle workers can have them. Shorter times cost what the batch gains (Flask, 64
/// connections, CPU per request: 0.5 and 1 ms 46 µs, 2 and 4 ms 40 µs).
const DEFER_MAX: Duration = Duration::from_micros(2000);

/// Responses to pipelined requests are sent together up to this size.
const PIPELINE_BYTES_MAX: u64 = 64 * 1024;

/// After so many looks for events that found none, the next wait is one that lets go of the GIL at once, until several
/// events come together again: with one connection a look costs a system call for nothing.
const LOOKS_IN_VAIN_MAX: u32 = 4;

/// Events taken from the kernel at a time.
pub(super) const EVENTS_MAX: usize = 256;

pub(super) struct AppThread<'t, 'w> {
    /// Which of the worker's application threads it is; the first one is Python's main thread.
    seat: usize,
    turn: &'t Turn<Engine<'w>>,
    poll: Arc<Poll>,
    events: Events,
    handler: Handler,
    /// Where it makes responses.
    exchange: Arc<Shared<Outlet>>,
    /// How often in a row there was nothing to do yet after a batch.
    looks_in_vain: u32,
}

type AtDesk<'t, 'w> = MutexGuard<'t, Desk<Engine<'w>>>;

impl<'t, 'w> AppThread<'t, 'w> {
    pub(super) fn new(
        seat: usize,
        turn: &'t Turn<Engine<'w>>,
        poll: Arc<Poll>,
        handler: Handler,
        exchange: Arc<Shared<Outlet>>,
    ) -> Self {
        Self { seat, turn, poll, events: Events::new(EVENTS_MAX), handler, exchange, looks_in_vain: 0 }
    }

    /// Serves until the worker ends.
    pub(super) fn run(&mut self, py: Python<'_>) {
        let mut desk = self.turn.lock();
        while !desk.is_over() {
            if desk.work.has_queued() {
                desk = self.work_off(py, desk);
            }
            if self.turn.take(&mut desk, self.seat) {
                desk = self.poll(py, desk);
            } else if !desk.work.has_queued() && !desk.is_over() {
                desk = self.rest(py, desk);
            }
        }
    }

    /// Serves what has been queued, for as long as nobody who waits for events has to wait too long.
    fn work_off(&mut self, py: Python<'_>, mut desk: AtDesk<'t, 'w>) -> AtDesk<'t, 'w> {
        desk.work.begin_batch();
        let start = desk.work.io.now;
        while let Some(request) = desk.work.next_queued() {
            desk = self.serve(py, desk, request);
            if desk.work.io.now - start > DEFER_MAX {
                break;
            }
        }
        self.finish_batch(&mut desk);
        desk
    }

    /// Parks until there is something to do.
    fn rest(&mut self, py: Python<'_>, mut desk: AtDesk<'t, 'w>) -> AtDesk<'t, 'w> {
        desk.park(self.seat);
        drop(desk);
        let (turn, seat) = (self.turn, self.seat);
        py.detach(|| {
            turn.sleep(seat);
            // It may have been made the poller: to the standby it is not back before it has the GIL.
            turn.go_away(seat);
        });
        turn.come_back(seat);
        check_signals(py, seat);
        let mut desk = self.turn.lock();
        desk.unpark(seat);
        desk
    }

    /// Looks for events with the GIL; only a wait that probably waits lets go of it.
    fn poll(&mut self, py: Python<'_>, mut desk: AtDesk<'t, 'w>) -> AtDesk<'t, 'w> {
        desk.work.be_free();
        // Those of a thread that was the poller before, and is in a call now.
        desk.work.send_finished();
        let epoch = desk.epoch();
        if desk.work.has_arrivals() {
            desk.work.begin_batch();
            desk = self.welcome(py, desk, epoch);
            self.finish_batch(&mut desk);
            return desk;
        }
        if self.looks_in_vain < LOOKS_IN_VAIN_MAX || desk.work.has_queued() {
            match self.poll.wait(&mut self.events, Some(Duration::ZERO)) {
                Ok(Waited::Events(count @ 1..)) => return self.batch(py, desk, count),
                Ok(_) if desk.work.has_queued() => return desk,
                Ok(_) => self.looks_in_vain += 1,
                Err(error) => {
                    fail_to_poll(&error);
                    return desk;
                }
            }
        }
        let until = desk.work.fall_asleep();
        drop(desk);
        let waited = self.wait(py, until);
        if matches!(waited, Ok(Waited::Interrupted)) {
            check_signals(py, self.seat);
        }
        let mut desk = self.turn.lock();
        // Somebody else has polled while this thread waited for the GIL.
        if !self.is_poller(&desk, epoch) {
            return desk;
        }
        desk.work.wake_up();
        match waited {
            Ok(Waited::Events(0)) => {
                desk.work.begin_batch();
                self.finish_batch(&mut desk);
                desk
            }
            Ok(Waited::Events(count)) => {
                if count > 1 {
                    self.looks_in_vain = 0;
                }
                self.batch(py, desk, count)
            }
            Ok(Waited::Interrupted) => desk,
            Err(error) => {
                fail_to_poll(&error);
                desk
            }
        }
    }

    /// Waits for events without the desk and without the GIL. To get the GIL back may take long.
    fn wait(&mut self, py: Python<'_>, until: Option<Instant>) -> std::io::Result<Waited> {
        let (turn, seat, poll, events) = (self.turn, self.seat, &self.poll, &mut self.events);
        let waited = py.detach(|| {
            let waited = poll.wait(events, until.map(|until| until.saturating_duration_since(Instant::now())));
            turn.go_away(seat);
            waited
        });
        turn.come_back(seat);
        waited
    }

    /// Deals with the events of one wait.
    fn batch(&mut self, py: Python<'_>, mut desk: AtDesk<'t, 'w>, count: usize) -> AtDesk<'t, 'w> {
        desk.work.begin_batch();
        let (start, epoch) = (desk.work.io.now, desk.epoch());
        let mut is_late = desk.work.has_queued();
        debug_assert!(!desk.work.has_arrivals());
        for index in 0..count {
            let ready = self.events.ready(index);
            if is_late {
                desk.work.on_event_and_queue(&ready);
                continue;
            }
            match desk.work.on_event(&ready) {
                Brought::Nothing => {}
                Brought::Request(request) => desk = self.serve(py, desk, request),
                Brought::Arrivals => desk = self.welcome(py, desk, epoch),
            }
            // Those who have polled meanwhile have dealt with the rest, or will be told of it again.
            if !self.is_poller(&desk, epoch) {
                return desk;
            }
            if desk.work.io.now - start > DEFER_MAX {
                desk.work.send_finished();
                is_late = true;
            }
        }
        self.finish_batch(&mut desk);
        desk
    }

    /// Serves the connections that have just come, as long as this thread is the poller.
    fn welcome(&mut self, py: Python<'_>, mut desk: AtDesk<'t, 'w>, epoch: u64) -> AtDesk<'t, 'w> {
        while self.is_poller(&desk, epoch)
            && let Some(arrival) = desk.work.next_arrival()
        {
            if let Some(request) = arrival {
                desk = self.serve(py, desk, request);
            }
        }
        desk
    }

    fn finish_batch(&self, desk: &mut AtDesk<'t, 'w>) {
        desk.work.end_batch();
        if desk.work.is_drained() {
            Engine::end(self.turn, desk);
        }
    }

    fn is_poller(&self, desk: &AtDesk<'t, 'w>, epoch: u64) -> bool {
        desk.epoch() == epoch && desk.poller() == Poller::App(self.seat)
    }

    /// Answers a request, and those that have come behind it on the same connection.
    fn serve(&mut self, py: Python<'_>, mut desk: AtDesk<'t, 'w>, request: WithRequest) -> AtDesk<'t, 'w> {
        let (token, mut client) = request;
        let start = desk.work.io.now;
        loop {
            let is_ours;
            (desk, is_ours) = self.respond(py, desk, token, &mut client);
            if !is_ours {
                break;
            }
            let waiting = client.channel.as_ref().map_or(0, |channel| channel.waiting());
            if waiting > PIPELINE_BYTES_MAX {
                match desk.work.io.send(token, &mut client) {
                    Sent::All if client.stage == Stage::Serving => {}
                    Sent::All | Sent::Some | Sent::Nothing => {
                        desk.work.io.settle(token, client);
                        break;
                    }
                    Sent::Broken => {
                        desk.work.lose(token);
                        break;
                    }
                }
            }
            match desk.work.go_on(token, client) {
                Some(next) if desk.work.io.now - start > DEFER_MAX => {
                    desk.work.queue(next);
                    break;
                }
                Some((_, next)) => client = next,
                None => break,
            }
        }
        // Whoever polls does not know of these, and sleeps perhaps.
        if desk.poller() != Poller::App(self.seat) {
            self.finish_batch(&mut desk);
            desk.work.mind_sleeper();
        }
        desk
    }

    /// Gives a request to the application; its response is in the client's queue afterwards. Returns whether the client
    /// is still ours: one that has waited too long has got its answer from somebody else.
    fn respond(
        &mut self,
        py: Python<'_>,
        mut desk: AtDesk<'t, 'w>,
        token: super::client::Token,
        client: &mut Client,
    ) -> (AtDesk<'t, 'w>, bool) {
        if client.peer_names.is_none() {
            client.peer_names = Some(proxied::peer_names(py, client, &desk.work.rules.proxies));
        }
        if let Err(error) = desk.work.read_forwarding(client) {
            desk.work.refuse(client, error);
            return (desk, true);
        }
        let body = match client.body.take() {
            Ok(body) => body,
            Err(error) => {
                desk.work.refuse_storage(client, &error);
                return (desk, true);
            }
        };
        let started = desk.work.io.now;
        let arriving = client.channel.as_ref().filter(|_| !client.connection.is_complete());
        let arriving = arriving.map(|channel| Arc::clone(&channel.stream));
        self.open_exchange(&mut desk, client);
        let arriving = arriving
            .map(|stream| Arriving::begin(client, &stream, Arc::clone(&self.exchange), Arc::clone(&desk.work.rules)));
        desk.work.begin_call(token, self.seat);
        self.turn.hand_on(&mut desk, self.seat);
        drop(desk);

        let outcome = match arriving {
            None => self.handle(py, client, None, body),
            Some(arriving) => {
                let body = Body::Arriving(Arc::clone(&arriving.body) as _);
                let outcome = self.handle(py, client, Some(&arriving.request), body);
                // A thread that the application has left behind may be reading, and have the body until it is done.
                py.detach(|| arriving.end(client));
                outcome
            }
        };

        let mut desk = self.turn.lock();
        let work = &mut desk.work;
        work.io.now = Instant::now();
        work.slot.count_request();
        let duration = work.io.now - started;
        let is_client_gone;
        {
            let mut exchange = self.exchange.lock();
            // The call was ended then, and what its place has in it now is not ours.
            if exchange.is_cut_off() {
                return (desk, false);
            }
            client.channel = exchange.output.detach();
            is_client_gone = exchange.is_client_gone();
        }
        work.end_call(token, self.seat, duration);
        if work.is_recording() {
            work.record(client, &self.exchange.lock(), &outcome, Call { started, duration });
        }
        if let Some(statistics) = work.statistics {
            work.count_call(statistics, client, &outcome, started, duration);
        }
        if is_client_gone {
            work.count_disconnect();
        }
        conclude(client, outcome.then, work.is_closing());
        (desk, true)
    }

    /// Calls the application, away from the desk. The request is the client's unless its connection is needed elsewhere.
    fn handle(&mut self, py: Python<'_>, client: &mut Client, request: Option<&OwnedRequest>, body: Body) -> Outcome {
        let request = request.map_or_else(|| client.connection.request(), OwnedRequest::as_request);
        // It was made before; whoever is not known is not believed.
        let peer = client.peer_names.get_or_insert_with(|| PeerNames::new(py, String::new(), None));
        self.turn.go_away(self.seat);
        let outcome = self.handler.handle(py, &request, client.listener, peer, client.forwarded.as_deref(), body);
        self.turn.come_back(self.seat);
        outcome
    }

    fn open_exchange(&self, desk: &mut AtDesk<'t, 'w>, client: &mut Client) {
        let work = &mut desk.work;
        let mut channel = client.channel.take();
        channel.iter_mut().for_each(|channel| work.io.lend_tail(channel));
        let request = client.connection.request();
        let persists = request.persists() && work.rules.is_keep_alive && work.keeps_open(&client.connection);
        let to = ResponseTo { is_head: request.method() == b"HEAD", version: request.version(), persists };
        let mut exchange = self.exchange.lock();
        exchange.date.set(work.seconds());
        exchange.output.attach(channel);
        exchange.open(to, &request, client.address(), work.io.now);
    }
}

/// What follows a response on its connection. While the worker `is_closing`, clients learn from a response that it is
/// the last one, and may have sent more before they did.
fn conclude(client: &mut Client, then: Then, is_closing: bool) {
    client.requests += 1;
    let is_complete = client.connection.is_complete();
    let connection = &client.connection;
    let may_send_more = then == Then::Close
        && (!is_complete || connection.has_leftover() || (is_closing && connection.request().persists()));
    let persists = then == Then::Persist && !client.is_body_lost;
    client.discards_body = persists && !is_complete;
    if !client.discards_body {
        client.connection.respond(persists);
    }
    client.stage = match then {
        Then::Persist if persists => Stage::Serving,
        Then::Persist => Stage::ClosingLate,
        Then::Close if may_send_more => Stage::ClosingLate,
        Then::Close | Then::Cut => Stage::Closing,
    };
}

/// Has Python call the signal handlers that the application may have set. It does so in its main thread only.
fn check_signals(py: Python<'_>, seat: usize) {
    if seat == 0
        && let Err(error) = py.check_signals()
    {
        log::error!("a signal handler of the application raised: {error}");
    }
}

fn fail_to_poll(error: &std::io::Error) {
    // The kernel lacks the memory to wait. To go on would make no difference, to wait a little might.
    log::error!("cannot poll: {error}");
    std::thread::sleep(Duration::from_millis(100));
}
