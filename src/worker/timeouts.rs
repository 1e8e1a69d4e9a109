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
}

/// For the end of what a refused client sends, from the moment of the refusal. nginx waits 5 s at a time and 30 in all.
const LINGER: Duration = Duration::from_secs(5);

impl Timeouts {
    pub(super) fn new(settings: &Settings) -> Self {
        // Without keep-alive, the first request has the time of a head.
        let idle = if settings.keep_alive.is_zero() { settings.header_timeout } else { settings.keep_alive };
        Self { idle, head: settings.header_timeout, body: settings.body_timeout, send: settings.send_timeout }
    }

    pub(super) fn of(&self, deadline: Deadline) -> Option<Duration> {
        let time = match deadline {
            Deadline::Idle => self.idle,
            Deadline::Head => self.head,
            Deadline::Body => self.body,
            Deadline::Send => self.send,
            Deadline::Linger => LINGER,
        };
        (!time.is_zero()).then_some(time)
    }
}
