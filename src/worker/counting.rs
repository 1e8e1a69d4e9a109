//! What a worker tells of its work in numbers, if anybody wants to know (`--admin-bind`).

use super::client::Client;
use super::engine::Engine;
use crate::scoreboard::Statistics;
use crate::wsgi::handler::Outcome;
use std::time::{Duration, Instant};

/// The call that is shown as the one that takes longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShownCall {
    caller: usize,
    since: Instant,
}

impl Engine<'_> {
    /// A call is over.
    pub(super) fn count_call(
        &self,
        statistics: Statistics<'_>,
        client: &Client,
        outcome: &Outcome,
        started: Instant,
        duration: Duration,
    ) {
        let method = client.connection.request().method();
        statistics.count_call(method, outcome.status, outcome.body_bytes, duration);
        if let Some(complete_at) = client.complete_at {
            statistics.count_queue_time(started.saturating_duration_since(complete_at));
        }
    }

    /// A call was given up, and this is what its client got.
    pub(super) fn count_late_call(&self, method: &[u8], status: u16, age: Duration) {
        if let Some(statistics) = self.statistics {
            statistics.count_call(method, status, 0, age);
            statistics.count_timeout();
        }
    }

    /// A request was answered without the application.
    pub(super) fn count_refusal(&self, status: u16) {
        if let Some(statistics) = self.statistics {
            statistics.count_refusal(status);
        }
    }

    /// A client has gone before it had its response.
    #[cold]
    pub(super) fn count_disconnect(&self) {
        if let Some(statistics) = self.statistics {
            statistics.count_disconnect();
        }
    }

    /// Says what the connections wait for.
    pub(super) fn note_waiting(&self) {
        if let Some(statistics) = self.statistics {
            statistics.set_waiting(self.io.census.counts());
        }
    }

    /// Shows the call of an application thread, which takes long, unless one is shown that has taken longer. It costs the
    /// call nothing: whoever looks after long calls does it.
    pub(super) fn show_call(&mut self, caller: usize) {
        let Some(statistics) = self.statistics else { return };
        let Some(exchange) = self.exchanges[caller].try_lock().filter(|_| self.callers[caller].is_some()) else {
            return;
        };
        let Some(request) = exchange.request() else { return };
        let this = ShownCall { caller, since: request.since };
        let is_longest = self.shown_call.is_none_or(|shown| shown.caller == caller || this.since < shown.since);
        if is_longest && self.shown_call != Some(this) {
            statistics.show_request(request.method, path(request.target), this.since.elapsed());
            self.shown_call = Some(this);
        }
    }

    /// A call is over; it may have been the one that is shown.
    #[cold]
    pub(super) fn hide_call(&mut self, caller: usize) {
        if let Some(statistics) = self.statistics
            && self.shown_call.take_if(|shown| shown.caller == caller).is_some()
        {
            statistics.hide_request();
        }
    }
}

/// A target without its query.
fn path(target: &[u8]) -> &[u8] {
    target.split(|&byte| byte == b'?').next().unwrap_or(target)
}
