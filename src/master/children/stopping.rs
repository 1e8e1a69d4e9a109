//! The end of the server: at once or after a delay, and without patience when it is asked for again.

use std::time::{Duration, Instant};

use super::watch::cut;
use super::{Action, Children, Stage};
use crate::master::child::Phase;
use crate::master::report::{Asker, Impatience, Report};
use crate::sys::signal::Signal;

/// SIGTERM has come, and the server goes on serving for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay {
    who: Asker,
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

    pub(super) fn stop_asked(&mut self, who: Asker, now: Instant) -> Vec<Action> {
        let since = match (self.stage, self.delay) {
            (Stage::Stopping { since }, _) | (_, Some(Delay { since, .. })) => Some(since),
            (_, None) => None,
        };
        if since.is_some_and(|since| now.duration_since(since) < ECHO) {
            return Vec::new();
        }
        if self.is_stopping() {
            return self.kill_all(Impatience::Asked(who));
        }
        let delay = self.plan.shutdown_delay;
        let is_delayed = matches!(who, Asker::Signal(Signal::Term) | Asker::Control)
            && self.stage == Stage::Serving
            && !delay.is_zero();
        if is_delayed && self.delay.is_none() {
            self.delay = Some(Delay { who, since: now, until: now + delay });
            return vec![Action::Report(Report::StopDelayed { who, delay })];
        }
        self.stop(who, now)
    }

    /// The operator does not want to wait for anything.
    pub(super) fn stop_at_once(&mut self, who: Asker, now: Instant) -> Vec<Action> {
        let mut actions = if self.is_stopping() { Vec::new() } else { self.stop(who, now) };
        actions.extend(self.kill_all(Impatience::AtOnce(who)));
        actions
    }

    pub(super) fn stop_due(&self) -> Option<Instant> {
        self.delay.filter(|_| !self.is_stopping()).map(|delay| delay.until)
    }

    pub(super) fn stop_when_due(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some(Delay { who, until, .. }) = self.delay
            && until <= now
            && !self.is_stopping()
        {
            actions.extend(self.stop(who, now));
        }
    }

    fn stop(&mut self, who: Asker, now: Instant) -> Vec<Action> {
        self.stage = Stage::Stopping { since: now };
        self.renewal.take_if(|renewal| !renewal.is_under_way());
        let workers = self.living.iter().filter(|child| !child.is_template()).count();
        let mut actions = vec![Action::Report(Report::StopAsked { who, workers }), Action::Stopping];
        let graceful_timeout = self.plan.graceful_timeout;
        for child in self.living.iter_mut().filter(|child| !child.is_template()) {
            if child.dismiss(now, graceful_timeout) {
                actions.push(Action::Terminate(child.name.pid));
            }
        }
        actions
    }

    fn kill_all(&mut self, why: Impatience) -> Vec<Action> {
        let mut killed = Vec::new();
        for child in self.living.iter_mut().filter(|child| !child.is_template() && child.phase != Phase::Killed) {
            child.phase = Phase::Killed;
            killed.push(child.name);
        }
        cut(killed, why)
    }
}
