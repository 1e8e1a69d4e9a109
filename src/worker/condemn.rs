//! A request that has been in the application for longer than it may (`--timeout`).
//!
//! Python offers no way to end a call, so the worker is given up: the client is answered by the standby, the stacks are
//! logged, and the worker is *condemned*, which has the master start another one at once. What else it has moves there;
//! its other threads finish what they do, for at most the graceful timeout.

use super::client::{Client, Stage, Token};
use super::engine::Engine;
use super::stacks::Stacks;
use crate::exit::Exit;
use crate::log as logs;
use crate::log::access::{Record, RequestFields};
use crate::scoreboard::State;
use crate::sys::process;
use crate::sys::socket::Peer;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the engine has to know about late calls.
#[derive(Debug)]
pub(super) struct Patience {
    /// How long a call may take; zero is without end.
    pub(super) timeout: Duration,
    /// Where the stacks of all threads are to be had.
    pub(super) stacks: Stacks,
}

/// A call that takes too long.
struct Late {
    since: Instant,
    age: Duration,
    method: Vec<u8>,
    target: Vec<u8>,
    remote: String,
    version_minor: u8,
    request_id: Vec<u8>,
}

impl Engine<'_> {
    /// Answers the client of an application thread whose call takes too long, and condemns the worker.
    pub(super) fn end_late_call(&mut self, caller: usize) {
        let Some(late) = self.late_call(caller) else { return };
        let age = late.age;
        let mut line = format!("{} {}", late.method.escape_ascii(), late.target.escape_ascii());
        if !late.request_id.is_empty() {
            line += &format!(" request_id={}", late.request_id.escape_ascii());
        }
        let stacks = if self.is_condemned { String::new() } else { format!("\n{}", self.patience.stacks.dump()) };
        log::error!(target: logs::CRITICAL, "{line}: no response from the application after {:.1} s{stacks}", age.as_secs_f64());
        let Some(token) = self.callers[caller] else { return };
        let status = self.answer_late(caller, token, late.since);
        if let Some(status) = status {
            self.count_late_call(&late.method, status, age);
            self.tell(&Record {
                remote_addr: &late.remote,
                method: &late.method,
                target: &late.target,
                version_minor: late.version_minor,
                fields: &NoFields,
                status,
                body_bytes: 0,
                duration: age,
                queue_time: None,
                request_id: &late.request_id,
                response_fields: &[],
                environ: &[],
            });
        }
        self.condemn();
    }

    fn late_call(&self, caller: usize) -> Option<Late> {
        if self.patience.timeout.is_zero() {
            return None;
        }
        let exchange = self.exchanges[caller].try_lock()?;
        let request = exchange.request()?;
        (request.time >= self.patience.timeout).then(|| Late {
            since: request.since,
            age: request.time,
            method: request.method.to_vec(),
            target: request.target.to_vec(),
            remote: request.remote.to_owned(),
            version_minor: request.version.minor(),
            request_id: request.request_id.to_vec(),
        })
    }

    /// Takes the response out of the application's hands: a 504, or an end that is seen to be early. Returns the status
    /// for the access log, or `None` if the application has returned just now.
    fn answer_late(&mut self, caller: usize, token: Token, since: Instant) -> Option<u16> {
        let shared = Arc::clone(&self.exchanges[caller]);
        let mut exchange = shared.lock();
        exchange.request().filter(|request| request.since == since)?;
        let begun = exchange.status();
        let answered = exchange.cut_off();
        let channel = exchange.output.detach();
        drop(exchange);
        shared.tell_drained();
        self.end_call(token, caller, since.elapsed());
        match (answered, channel) {
            (Some(_), Some(channel)) => {
                let mut client = Client::new(channel, Peer::Unix, 0);
                client.stage = Stage::ClosingLate;
                self.send_or_close(token, Box::new(client));
            }
            _ => self.io.close(token),
        }
        answered.or(begun)
    }

    fn condemn(&mut self) {
        if std::mem::replace(&mut self.is_condemned, true) {
            return;
        }
        self.slot.set_state(State::Condemned);
        self.departure.is_asked = true;
        self.last_calls.abort(self.slot.requests());
        self.go_on_leaving();
    }

    /// To be called again and again once the worker is condemned: ends the process when nothing is left. All that can
    /// be moved is moved at the end of each batch.
    pub(super) fn leave(&mut self, threads_away: usize) {
        let is_anybody_left = threads_away < self.exchanges.len();
        if !is_anybody_left {
            self.refuse_queued();
        }
        let has_nothing_left = self.io.clients.len() == 0 && self.departure.may_end();
        if has_nothing_left && self.last_calls.end(self.slot.requests()) {
            self.finish_records();
            logs::finish_route();
            // The thread whose call takes too long would never come to an orderly end.
            process::exit_now(Exit::Failed.status());
        }
    }

    /// Nobody will ever serve these: they cannot move, because no connection does or they are too large.
    fn refuse_queued(&mut self) {
        let (kept, refused) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition::<VecDeque<_>, _>(|&token| self.is_handing_over() && self.can_be_passed(token));
        self.queue = kept;
        self.note_queue();
        for token in refused {
            let Some(mut client) = self.io.clients.take(token) else { continue };
            client.is_queued = false;
            self.refuse_unserved(&mut client);
            self.send_or_close(token, client);
        }
    }
}

struct NoFields;

impl RequestFields for NoFields {
    fn get(&self, _lowercase_name: &[u8]) -> Option<&[u8]> {
        None
    }

    fn each(&self, _show: &mut dyn FnMut(&[u8], &[u8])) {}

    fn last(&self, _lowercase_name: &[u8]) -> Option<&[u8]> {
        None
    }
}
