//! What is done about events: new connections, bytes that have come, clients that have taken what waited for them.

use super::{Accepted, Brought, CONTINUE, Engine, WithRequest, readable};
use crate::http::Event;
use crate::http::connection::Phase;
use crate::sys::poll::Ready;
use crate::worker::channel::Sent;
use crate::worker::client::{Client, Stage, Token};
use crate::worker::io::{Received, Source};

/// Why [`Engine::advance`] stopped.
enum Step {
    /// All received bytes are used up, or no further request will be read.
    NeedInput,
    /// What waits must be sent before more is read.
    Output,
    /// A request is to be given to the application.
    Request,
}

impl Engine<'_> {
    /// Deals with an event.
    #[inline]
    pub(in crate::worker) fn on_event(&mut self, ready: &Ready) -> Brought {
        match Source::of(ready) {
            Source::Client(token) => self.on_client(token, ready).map_or(Brought::Nothing, Brought::Request),
            Source::Listener(listener) => {
                self.accept(listener);
                Brought::Arrivals
            }
            Source::Signals => {
                self.on_signals();
                Brought::Nothing
            }
            Source::Bell => {
                self.bell.answer();
                Brought::Nothing
            }
            Source::Inbox => {
                self.on_inbox();
                Brought::Arrivals
            }
        }
    }

    /// Accepts what waits at a listener, up to a bound.
    pub(in crate::worker) fn accept(&mut self, listener: usize) -> Accepted {
        let (accepted, is_all) = self.io.accept(listener);
        let count = accepted.len();
        if let Some(statistics) = self.statistics {
            statistics.count_accepted(count as u64);
        }
        // Others who have new connections look at it at this moment.
        self.note_connections();
        for token in accepted {
            if self.spread(token) {
                self.arrivals.push_back(token);
            }
        }
        Accepted { count, is_all }
    }

    pub(in crate::worker) fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// Says on the scoreboard how many connections there are.
    pub(in crate::worker) fn note_connections(&self) {
        self.slot.set_connections(self.io.clients.len() as u32);
    }

    /// The request of the next connection that has just come, if it brings one: it often does, and then epoll is asked
    /// only if the connection persists. `None` when all have been looked at.
    #[inline]
    pub(in crate::worker) fn next_arrival(&mut self) -> Option<Option<WithRequest>> {
        self.arrivals.pop_front().map(|token| self.look_at(token))
    }

    #[inline]
    fn look_at(&mut self, token: Token) -> Option<WithRequest> {
        let client = self.io.clients.peek(token)?;
        // One that has moved here may bring a request, or part of one.
        if client.connection.phase() == Phase::Responding && client.stage == Stage::Serving {
            let mut client = self.io.clients.take(token)?;
            client.complete_at = Some(self.io.now);
            return Some((token, client));
        }
        if client.connection.has_leftover() || client.stage != Stage::Serving {
            let client = self.io.clients.take(token)?;
            return self.go_on(token, client);
        }
        self.on_client(token, &readable(token))
    }

    #[inline]
    pub(in crate::worker) fn on_client(&mut self, token: Token, ready: &Ready) -> Option<WithRequest> {
        let Some(mut client) = self.io.clients.take(token) else {
            self.on_caller(token, ready);
            return None;
        };
        if client.stage == Stage::Lingering {
            if self.io.discard(&mut client) {
                self.io.close(token)
            } else {
                self.io.settle(token, client)
            }
            return None;
        }
        if client.has_output() && ready.writable {
            return self.resume(token, client);
        }
        if client.is_queued {
            self.io.clients.put_back(token, client);
            self.io.pause(token, ready);
            return None;
        }
        // Nothing is read before what is there has been sent.
        if !ready.readable || client.stage != Stage::Serving || client.has_output() {
            self.io.settle(token, client);
            return None;
        }
        match self.io.receive(&mut client) {
            Received::Something => self.go_on(token, client),
            Received::Nothing => {
                self.io.settle(token, client);
                None
            }
            Received::Broken => {
                self.io.close(token);
                None
            }
        }
    }

    /// The client has taken some of what waits: goes on with the requests behind it when it has taken all.
    fn resume(&mut self, token: Token, mut client: Box<Client>) -> Option<WithRequest> {
        match self.io.send(token, &mut client) {
            Sent::All if client.stage == Stage::Serving && !client.is_queued => return self.go_on(token, client),
            Sent::All | Sent::Some | Sent::Nothing => self.io.settle(token, client),
            Sent::Broken => self.lose(token),
        }
        None
    }

    /// Makes requests of the bytes that have been received, until one is complete.
    pub(in crate::worker) fn go_on(&mut self, token: Token, mut client: Box<Client>) -> Option<WithRequest> {
        loop {
            match self.advance(&mut client) {
                Step::Request => {
                    client.complete_at = Some(self.io.now);
                    return Some((token, client));
                }
                Step::NeedInput => break,
                Step::Output => match self.io.send(token, &mut client) {
                    Sent::All if client.stage == Stage::Serving => {}
                    Sent::All | Sent::Some | Sent::Nothing => {
                        self.io.settle(token, client);
                        return None;
                    }
                    Sent::Broken => {
                        self.io.close(token);
                        return None;
                    }
                },
            }
        }
        self.finish(token, client);
        None
    }

    /// Puts a client back that needs nothing but its output sent.
    #[inline]
    fn finish(&mut self, token: Token, client: Box<Client>) {
        if client.has_output() {
            self.finished.push(token);
            self.io.defer(token, client);
        } else {
            self.io.settle(token, client);
        }
    }

    fn advance(&mut self, client: &mut Client) -> Step {
        while client.stage == Stage::Serving {
            match client.connection.next_event(&self.rules.limits) {
                Ok(Event::NeedInput) => break,
                Ok(Event::Proxied(header)) => self.introduce(client, header),
                Ok(Event::Head { wants_continue }) if self.gets_body_as_it_comes(client) => {
                    client.wants_continue = wants_continue;
                    return Step::Request;
                }
                Ok(Event::Head { wants_continue: true }) => {
                    client.channel.iter_mut().for_each(|channel| channel.tail().extend_from_slice(CONTINUE));
                    return Step::Output;
                }
                Ok(Event::Head { wants_continue: false }) => {}
                Ok(Event::Payload(_)) if client.discards_body => {}
                Ok(Event::Payload(run)) => {
                    let stored = client.body.push(client.connection.payload(run), &self.rules.spool);
                    if let Err(error) = stored {
                        self.refuse_storage(client, &error);
                    }
                }
                Ok(Event::End) if client.discards_body => {
                    client.discards_body = false;
                    client.connection.respond(true);
                }
                Ok(Event::End) => return Step::Request,
                Ok(Event::Closed) => client.stage = Stage::Closing,
                Err(error) => self.refuse(client, self.judge(client, error)),
            }
        }
        Step::NeedInput
    }

    /// Whether the body of the request whose head has just come is for the application to wait for.
    fn gets_body_as_it_comes(&self, client: &Client) -> bool {
        !self.rules.is_buffering && client.connection.request().has_body()
    }

    /// Deals with an event for a poller that calls nothing.
    pub(in crate::worker) fn on_event_and_queue(&mut self, ready: &Ready) {
        match self.on_event(ready) {
            Brought::Nothing => {}
            Brought::Request(request) => self.queue(request),
            Brought::Arrivals => self.queue_arrivals(),
        }
    }

    /// Looks at all connections that have just come, and has their requests wait.
    pub(in crate::worker) fn queue_arrivals(&mut self) {
        while let Some(request) = self.next_arrival() {
            request.into_iter().for_each(|request| self.queue(request));
        }
    }
}
