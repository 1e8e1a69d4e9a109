//! What is told of a request that has been answered: a line of the access log, metrics for statsd, a warning if it was slow.

use super::client::Client;
use super::engine::Engine;
use crate::http::Request;
use crate::log::access::{AccessLog, Record, RequestFields};
use crate::log::{self as logs, Printable};
use crate::wsgi::{Exchange, Outcome, Output};
use std::time::{Duration, Instant};

/// How soon what syslog had no room for is tried again.
pub(super) const NEXT_LOOK: Duration = Duration::from_millis(50);

/// The calling of the application for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// When it began.
    pub(super) started: Instant,
    pub(super) duration: Duration,
}

impl Engine<'_> {
    /// Whether anything is told of requests.
    #[inline]
    pub(super) fn is_recording(&self) -> bool {
        self.access_log.is_some() || self.statsd.is_some() || self.slow_request != Duration::MAX
    }

    /// Tells it of the request that the client has made and the application has answered.
    pub(super) fn record(&mut self, client: &Client, exchange: &Exchange<impl Output>, outcome: &Outcome, call: Call) {
        let request = client.connection.request();
        let queue_time = client.complete_at.map(|complete_at| call.started.saturating_duration_since(complete_at));
        let mut response_fields = Vec::new();
        if self.access_log.as_ref().is_some_and(|log| log.wants_response_fields()) {
            response_fields.extend(exchange.head().fields().map(|(name, value)| (name.to_vec(), value.to_vec())));
        }
        self.tell(&Record {
            remote_addr: client.address(),
            method: request.method(),
            target: request.target(),
            version_minor: request.version().minor(),
            fields: &LoggedRequest(request),
            status: outcome.status,
            body_bytes: outcome.body_bytes,
            duration: call.duration,
            queue_time,
            request_id: exchange.request_name(),
            response_fields: &response_fields,
            environ: &outcome.logged_values,
        });
    }

    /// Tells everybody.
    pub(super) fn tell(&mut self, record: &Record<'_>) {
        if let Some(log) = &mut self.access_log {
            log.push(record);
        }
        if let Some(statsd) = &mut self.statsd {
            statsd.request(record.status, record.duration);
        }
        if record.duration >= self.slow_request {
            tell_of_slow(record);
        }
    }

    /// Sends what was told on its way. Returns whether some of it should be tried again soon.
    pub(super) fn flush_records(&mut self) -> bool {
        let mut is_worth_a_look = logs::flush();
        if let Some(log) = &mut self.access_log {
            is_worth_a_look |= log.flush();
        }
        if let Some(statsd) = &mut self.statsd {
            statsd.logged(logs::take_counts());
            statsd.flush();
        }
        is_worth_a_look
    }

    /// The same, before the worker ends.
    pub(super) fn finish_records(&mut self) {
        self.flush_records();
        self.access_log.iter_mut().for_each(AccessLog::finish);
    }
}

#[cold]
fn tell_of_slow(record: &Record<'_>) {
    let Record { method, target, status, duration, queue_time, request_id, .. } = record;
    let (method, target) = (Printable(method), Printable(target));
    let duration = milliseconds(*duration);
    let queue_time = queue_time.map(|time| format!(" queue_ms={}", milliseconds(time))).unwrap_or_default();
    let name = if request_id.is_empty() { String::new() } else { format!(" request_id={}", Printable(request_id)) };
    log::warn!("slow request: {method} {target} status={status} duration_ms={duration}{queue_time}{name}");
}

fn milliseconds(duration: Duration) -> String {
    let microseconds = duration.as_micros();
    format!("{}.{:03}", microseconds / 1000, microseconds % 1000)
}

struct LoggedRequest<'c>(Request<'c>);

impl RequestFields for LoggedRequest<'_> {
    fn get(&self, lowercase_name: &[u8]) -> Option<&[u8]> {
        self.0.field(lowercase_name)
    }

    fn each(&self, show: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.fields().for_each(|(name, value)| show(name, value));
    }

    fn last(&self, lowercase_name: &[u8]) -> Option<&[u8]> {
        self.0.fields().filter(|(name, _)| name.eq_ignore_ascii_case(lowercase_name)).last().map(|(_, value)| value)
    }
}
