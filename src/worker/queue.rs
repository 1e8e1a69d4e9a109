//! The queue: clients with a complete request that waits for an application thread, in the order of arrival.

use super::engine::{Engine, WithRequest};
use std::time::Duration;

/// A request moves if it would wait for so long; to move costs the two workers 20 to 40 µs together.
const WAIT_MIN: Duration = Duration::from_micros(500);

impl Engine<'_> {
    /// Has a request wait for an application thread.
    pub(super) fn queue(&mut self, (token, mut client): WithRequest) {
        client.is_queued = true;
        // The responses to earlier requests on its connection do not wait for this one.
        if client.has_output() {
            self.send_or_close(token, client);
        } else {
            self.io.hold(token, client);
        }
        self.queue.push_back(token);
        self.queued_since.get_or_insert(self.io.now);
        // First said, then looked: a sibling that becomes idle does it the other way round.
        self.note_queue();
        self.pass_queued();
    }

    /// Says on the scoreboard how many requests wait that another worker would be quicker with.
    pub(super) fn note_queue(&mut self) {
        if self.queue.is_empty() {
            self.queued_since = None;
        }
        if self.passing.is_some() {
            self.slot.set_queued(if self.is_help_wanted() { self.queue.len() as u32 } else { 0 });
        }
    }

    /// Whether the requests in the queue would wait for longer than it takes to pass them.
    pub(super) fn is_help_wanted(&self) -> bool {
        let queue_time = Duration::from_nanos(self.call_nanoseconds.saturating_mul(self.queue.len() as u64));
        self.is_stuck || self.is_handing_over() || queue_time >= WAIT_MIN
    }

    /// The request that has waited longest.
    pub(super) fn next_queued(&mut self) -> Option<WithRequest> {
        while let Some(token) = self.queue.pop_front() {
            self.note_queue();
            if let Some(mut client) = self.io.clients.take(token) {
                client.is_queued = false;
                return Some((token, client));
            }
        }
        None
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether somebody has been in the queue for `time`, or the queue has not been empty since then.
    pub(super) fn has_queued_for(&self, time: Duration) -> bool {
        self.queued_since.is_some_and(|since| self.io.now - since >= time)
    }
}
