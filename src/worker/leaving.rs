//! The end of a worker that was asked to stop: it takes what waits in the listeners' queues, then no more, and finishes
//! what it has.

use super::client::Client;
use super::engine::{Engine, readable};
use crate::scoreboard::State;
use std::time::Duration;

/// How long a connection that has not sent a request yet may take for its first one.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How often each listener is asked for connections that wait; enough for a full default backlog.
const LAST_ACCEPTS_MAX: usize = 128;

impl Engine<'_> {
    /// Begins to stop: takes what waits in the listeners' queues, then no more; idle connections close, requests in
    /// flight and in the queue finish.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        self.io.closes_idle = true;
        if !self.is_condemned {
            self.slot.set_state(State::Draining);
        }
        for exchange in &self.exchanges {
            exchange.lock().announce_close();
        }
        for listener in 0..self.io.listeners() {
            // Bounded, since under load new ones keep coming.
            for _ in 0..LAST_ACCEPTS_MAX {
                if self.accept(listener) == 0 {
                    break;
                }
                self.queue_arrivals();
            }
        }
        self.io.stop_accepting();
        for token in self.io.clients.tokens() {
            if let Some(request) = self.on_client(token, &readable(token)) {
                self.queue(request);
            }
            // One that has had a response and is idle has been closed with this look at it.
            if self.io.clients.peek(token).is_some_and(Client::is_idle) {
                self.io.hasten(token, LAST_CHANCE);
            }
        }
        self.send_finished();
    }

    /// Whether all is done that a worker does before it leaves in order. A condemned one does not: see
    /// [`leave`](Self::leave).
    pub(super) fn is_drained(&self) -> bool {
        self.is_draining && !self.is_condemned && self.io.clients.len() == 0
    }

    /// Whether connections close behind the responses that begin now.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_draining || self.is_condemned
    }
}
