//! How long each thing may take.

use super::client::Deadline;
use crate::settings::Settings;
use std::time::Duration;

/// Zero means without end, as in the settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    idle: Duration,
    head: Duration,
    body: Duration,
    send: Duration,
    linger: Duration,
}

/// For the next request of a client that does not know that its worker leaves: one that is busy with its connection
/// has sent it by then, and is told with the response.
const PARTING: Duration = Duration::from_millis(100);

/// For the end of what a refused client sends, from the moment of the refusal. nginx waits 5 s at a time and 30 in all.
const LINGER: Duration = Duration::from_secs(5);

impl Timeouts {
    pub(super) fn new(settings: &Settings) -> Self {
        // Without keep-alive, the first request has the time of a head.
        let idle = if settings.keep_alive.is_zero() { settings.header_timeout } else { settings.keep_alive };
        let Settings { header_timeout: head, body_timeout: body, send_timeout: send, .. } = *settings;
        Self { idle, head, body, send, linger: LINGER }
    }

    /// What waits for nothing but a client's goodwill has `time` at most from now on.
    pub(super) fn hurry(&mut self, time: Duration) {
        self.idle = if self.idle.is_zero() { time } else { self.idle.min(time) };
        self.linger = self.linger.min(time);
    }

    pub(super) fn of(&self, deadline: Deadline) -> Option<Duration> {
        let time = match deadline {
            Deadline::Idle => self.idle,
            Deadline::Head => self.head,
            Deadline::Body => self.body,
            Deadline::Send => self.send,
            Deadline::Parting => PARTING,
            Deadline::Linger => self.linger,
        };
        (!time.is_zero()).then_some(time)
    }
}
