//! One worker's entry in the books: how far it is, and until when it may stay so.

use std::time::{Duration, Instant};

use super::report::{Life, Next, Report, WorkerName};
use crate::scoreboard::State;

#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: WorkerName,
    /// Its slot of the scoreboard, its own until it is reaped.
    pub(super) slot: u32,
    pub(super) phase: Phase,
    /// When its slot was last looked at.
    looked_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Forked, to be aborted if it is not ready by then.
    Starting { abort_at: Instant },
    /// Serving. Its heart may stand still, inside a call of the application.
    Ready { since: Instant, standstill: Option<Standstill> },
    /// Asked to leave, or leaving without having been asked.
    Leaving { kill_at: Instant },
    /// Leaving because one of its requests cannot be ended otherwise, as it has told.
    Condemned { kill_at: Instant },
    /// Did not respond, and was sent SIGABRT.
    Aborted { kill_at: Instant },
    /// Sent SIGKILL.
    Killed,
}

/// A heartbeat that has not changed. A worker whose call takes long goes on beating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standstill {
    sequence: u64,
    /// For how long it has been seen.
    age: Duration,
}

/// A worker that was ready for this long has shown that it can work: its end is not one of a series.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

impl Child {
    pub(super) fn new(name: WorkerName, slot: u32, now: Instant, boot_timeout: Duration) -> Self {
        Self { name, slot, phase: Phase::Starting { abort_at: now + boot_timeout }, looked_at: now }
    }

    /// Follows the heartbeat of a ready worker, which is looked at every `interval` or more often. An even number may
    /// stand still: that worker has nothing to do.
    pub(super) fn look_at_heartbeat(&mut self, sequence: u64, interval: Duration, now: Instant) {
        let Phase::Ready { since, standstill } = self.phase else { return };
        // Time in which nobody looked does not count. Otherwise Ctrl-Z and `fg`, which stop the master and its workers
        // alike, would make every request late.
        let elapsed = now.duration_since(self.looked_at).min(2 * interval);
        self.looked_at = now;
        let standstill = match standstill {
            Some(before) if before.sequence == sequence => Some(Standstill { age: before.age + elapsed, ..before }),
            _ if sequence % 2 == 1 => Some(Standstill { sequence, age: Duration::ZERO }),
            _ => None,
        };
        self.phase = Phase::Ready { since, standstill };
    }

    /// Takes note that the worker has told that it leaves, and until when it may; the report of it, if it is news. One
    /// that leaves already gets no more time.
    pub(super) fn leave(&mut self, state: State, kill_at: Instant) -> Option<Report> {
        let worker = self.name;
        let (phase, report) = match (self.phase, state) {
            (Phase::Ready { .. }, State::Draining) => (Phase::Leaving { kill_at }, Report::LeavesByItself(worker)),
            (Phase::Ready { .. }, State::Condemned) => {
                let next = Next::Another(Duration::ZERO);
                (Phase::Condemned { kill_at }, Report::RequestTooLong { worker, next })
            }
            (Phase::Leaving { kill_at }, State::Condemned) => {
                (Phase::Condemned { kill_at }, Report::RequestTooLong { worker, next: Next::Nobody })
            }
            _ => return None,
        };
        self.phase = phase;
        Some(report)
    }

    /// When something has to be done about it, unless the worker moves on before; `interval` as in
    /// [`Self::look_at_heartbeat`], `None` if nobody looks.
    pub(super) fn deadline(&self, interval: Option<Duration>) -> Option<Instant> {
        match self.phase {
            Phase::Starting { abort_at } => Some(abort_at),
            Phase::Ready { .. } => interval.map(|interval| self.looked_at + interval),
            Phase::Leaving { kill_at } | Phase::Condemned { kill_at } | Phase::Aborted { kill_at } => Some(kill_at),
            Phase::Killed => None,
        }
    }

    /// Whether it is, or is still to be, one that serves.
    pub(super) fn is_wanted(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Ready { .. })
    }

    /// Whether its heart has stood still for `limit`, inside a call of the application.
    pub(super) fn is_stuck_for(&self, limit: Duration) -> bool {
        matches!(self.phase, Phase::Ready { standstill: Some(standstill), .. } if standstill.age >= limit)
    }

    pub(super) fn has_settled(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Ready { since, .. } if now.duration_since(since) >= SETTLED_AFTER)
    }

    pub(super) fn life(&self) -> Life {
        match self.phase {
            Phase::Starting { .. } => Life::Starting,
            Phase::Ready { .. } => Life::Serving,
            Phase::Leaving { .. } => Life::Leaving,
            Phase::Condemned { .. } | Phase::Aborted { .. } | Phase::Killed => Life::Condemned,
        }
    }
}
