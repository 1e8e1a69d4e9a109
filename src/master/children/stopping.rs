//! The end of the server: at once or after a delay, and without patience when it is asked for again.

use std::time::{Duration, Instant};

use super::watch::cut;
use super::{Action, Children, Stage};
use crate::master::child::Phase;
use crate::master::report::{Impatience, Report};
use crate::sys::signal::Signal;

/// SIGTERM has come, and the server goes on serving for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay {
    signal: Signal,
    since: Instant,
    until: Instant,
}

/// A second stop signal within this time is the first one again: timeout(1) signals its child and then its process
/// group, and Ctrl-C reaches the master from the terminal and from a wrapper that passes it on. People are slower.
const ECHO: Duration = Duration::from_millis(100);

impl Children {
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Stopping { .. })
    }

    /// Whether the server will end, now or soon.
    pub(in crate::master) fn is_ending(&self) -> bool {
        self.is_stopping() || self.delay.is_some()
    }

    pub(super) fn stop_asked(&mut self, signal: Signal, now: Instant) -> Vec<Action> {
        let since = match (self.stage, self.delay) {
            (Stage::Stopping { since }, _) | (_, Some(Delay { since, .. })) => Some(since),
            (_, None) => None,
        };
        if since.is_some_and(|since| now.duration_since(since) < ECHO) {
            return Vec::new();
        }
        if self.is_stopping() {
            return self.kill_all(signal);
        }
        let delay = self.plan.shutdown_delay;
        let is_delayed = signal == Signal::Term && self.stage == Stage::Serving && !delay.is_zero();
        if is_delayed && self.delay.is_none() {
            self.delay = Some(Delay { signal, since: now, until: now + delay });
            return vec![Action::Report(Report::StopDelayed { signal, delay })];
        }
        self.stop(signal, now)
    }

    pub(super) fn stop_due(&self) -> Option<Instant> {
        self.delay.filter(|_| !self.is_stopping()).map(|delay| delay.until)
    }

    pub(super) fn stop_when_due(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some(Delay { signal, until, .. }) = self.delay
            && until <= now
            && !self.is_stopping()
        {
            actions.extend(self.stop(signal, now));
        }
    }

    fn stop(&mut self, signal: Signal, now: Instant) -> Vec<Action> {
        self.stage = Stage::Stopping { since: now };
        self.renewal.take_if(|renewal| !renewal.is_under_way());
        let workers = self.living.iter().filter(|child| !child.is_template()).count();
        let mut actions = vec![Action::Report(Report::StopAsked { signal, workers }), Action::Stopping];
        let graceful_timeout = self.plan.graceful_timeout;
        for child in self.living.iter_mut().filter(|child| !child.is_template()) {
            if child.dismiss(now, graceful_timeout) {
                actions.push(Action::Terminate(child.name.pid));
            }
        }
        actions
    }

    fn kill_all(&mut self, signal: Signal) -> Vec<Action> {
        let mut killed = Vec::new();
        for child in self.living.iter_mut().filter(|child| !child.is_template() && child.phase != Phase::Killed) {
            child.phase = Phase::Killed;
            killed.push(child.name);
        }
        cut(killed, Impatience::Signal(signal))
    }
}
