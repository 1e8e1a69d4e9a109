//! Clients whose requests are in the application. An application thread has the client itself, but its response is there
//! to be sent, and its socket to be watched.

use super::channel::Sent;
use super::client::Token;
use super::engine::Engine;
use crate::scoreboard::Waiting;
use crate::sys::poll::Ready;
use std::sync::Arc;
use std::time::Duration;

impl Engine<'_> {
    /// The client of `token` goes into the application with that thread.
    #[inline]
    pub(super) fn begin_call(&mut self, token: Token, caller: usize) {
        self.callers[caller] = Some(token);
        if let Some(watch) = self.io.clients.watch(token) {
            watch.caller = Some(caller);
            watch.deadline = None;
            self.io.census.note(watch, Waiting::Nothing);
        }
        if let Some(statistics) = self.statistics {
            statistics.begin_call();
        }
    }

    /// It is back, after a call of this length. The next head has a time of its own.
    #[inline]
    pub(super) fn end_call(&mut self, token: Token, caller: usize, duration: Duration) {
        // One call that was interrupted, or the first one of all, says little about those to come.
        let counted = (duration.as_nanos() as u64).min(4 * self.call_nanoseconds + 100_000);
        self.call_nanoseconds = (7 * self.call_nanoseconds + counted) / 8;
        self.callers[caller] = None;
        if let Some(watch) = self.io.clients.watch(token) {
            watch.caller = None;
            watch.deadline = None;
        }
        if let Some(statistics) = self.statistics {
            statistics.end_call();
            if self.shown_call.is_some() {
                self.hide_call(caller);
            }
        }
    }

    /// An event of a client whose request is in the application. That has the client; here its output can be sent, and
    /// its reading is paused.
    pub(super) fn on_caller(&mut self, token: Token, ready: &Ready) {
        let Some(caller) = self.io.clients.watch(token).and_then(|watch| watch.caller) else { return };
        if ready.writable {
            self.send_of_caller(token, caller);
        }
        if ready.readable {
            self.io.pause(token, ready);
        }
    }

    /// Sends what the response has so far that an application thread is making, for when its call takes long.
    pub(super) fn look_at_caller(&mut self, caller: usize) {
        let has_output = self.exchanges[caller].try_lock().is_some_and(|exchange| exchange.output.has_output());
        if let Some(token) = self.callers[caller]
            && has_output
        {
            self.send_of_caller(token, caller);
        }
    }

    /// Sends what the response of an application thread has so far.
    pub(super) fn send_of_caller(&mut self, token: Token, caller: usize) {
        let shared = Arc::clone(&self.exchanges[caller]);
        // Who has it is framing, or moving output to a file: the next tick comes back to it.
        let Some(mut exchange) = shared.try_lock() else { return self.io.note_progress(token, false) };
        if !exchange.output.has_output() {
            return self.io.note_progress(token, false);
        }
        let sent = exchange.output.send();
        drop(exchange);
        match sent {
            Sent::All => self.io.note_progress(token, false),
            Sent::Some => self.io.note_progress(token, true),
            Sent::Nothing => self.io.await_room(token),
            // The application finds it by its next piece.
            Sent::Broken => self.give_up_caller(token),
        }
        shared.tell_drained();
    }

    /// The client of a response that is being made takes nothing any more.
    pub(super) fn give_up_caller(&mut self, token: Token) {
        let Some(watch) = self.io.clients.watch(token) else { return };
        if let Some(stream) = &watch.stream {
            stream.end();
        }
        if let Some(caller) = watch.caller {
            self.exchanges[caller].tell_drained();
        }
        self.io.unwatch(token);
    }
}
