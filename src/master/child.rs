//! One child's entry in the books, a worker's or a template's: how far it is, and until when it may stay so.

use std::time::{Duration, Instant};

use super::report::{Life, Name, Next, Report, Wear};
use super::view::ChildView;
use crate::scoreboard::State;

#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: Name,
    /// Its slot of the scoreboard, its own until it is reaped.
    pub(super) slot: u32,
    /// The reading of the configuration that it was made from.
    pub(super) generation: u32,
    pub(super) phase: Phase,
    /// Why it should be replaced, if it should.
    pub(super) wear: Option<Wear>,
    pub(super) forked_at: Instant,
    /// When its slot was last looked at.
    looked_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Forked, to be aborted if it is not ready by then; `None`: it has all the time.
    Starting { abort_at: Option<Instant> },
    /// Serving. Its heart may stand still, inside a call of the application.
    Ready { since: Instant, standstill: Option<Standstill> },
    /// Asked to leave, or leaving without having been asked.
    Leaving { kill_at: Instant },
    /// Leaving because one of its requests cannot be ended otherwise, as it has told.
    Condemned { kill_at: Instant },
    /// Not wanted any more before it was ready: nothing is lost if it is killed.
    Dropped { kill_at: Instant },
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

/// For one that is still starting when it is not wanted any more: it may have become ready meanwhile, and have a request.
pub(super) const TIME_TO_DROP: Duration = Duration::from_millis(500);

impl Child {
    /// `boot_timeout` zero: none.
    pub(super) fn new(name: Name, slot: u32, generation: u32, now: Instant, boot_timeout: Duration) -> Self {
        let abort_at = (!boot_timeout.is_zero()).then(|| now + boot_timeout);
        Self { name, slot, generation, phase: Phase::Starting { abort_at }, wear: None, forked_at: now, looked_at: now }
    }

    /// For those who look at the server from outside.
    pub(super) fn view(&self) -> ChildView {
        let phase = match self.phase {
            Phase::Starting { .. } => "starting",
            Phase::Ready { .. } => "ready",
            Phase::Leaving { .. } => "leaving",
            Phase::Condemned { .. } => "condemned",
            Phase::Dropped { .. } => "dropped",
            Phase::Aborted { .. } => "aborted",
            Phase::Killed => "killed",
        };
        let Name { number, pid } = self.name;
        ChildView { slot: self.slot, number, pid, generation: self.generation, phase, forked_at: self.forked_at }
    }

    /// It has become ready. Returns whether that is news.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let is_news = matches!(self.phase, Phase::Starting { .. });
        if is_news {
            self.phase = Phase::Ready { since: now, standstill: None };
        }
        is_news
    }

    /// It turns out to serve, although it was not wanted any more: it has the time of those who do.
    pub(super) fn undrop(&mut self, kill_at: Instant) {
        if matches!(self.phase, Phase::Dropped { .. }) && !self.is_template() {
            self.phase = Phase::Leaving { kill_at };
        }
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
    pub(super) fn leave(&mut self, state: State, kill_at: Instant, next: Next) -> Option<Report> {
        let worker = self.name;
        let (phase, report) = match (self.phase, state) {
            (Phase::Ready { .. }, State::Draining) => {
                (Phase::Leaving { kill_at }, Report::LeavesByItself(worker, next))
            }
            (Phase::Ready { .. }, State::Condemned) => {
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

    /// It is to leave, at once or within `graceful_timeout`. Returns whether it has to be told.
    pub(super) fn dismiss(&mut self, now: Instant, graceful_timeout: Duration) -> bool {
        self.phase = match self.phase {
            Phase::Ready { .. } => Phase::Leaving { kill_at: now + graceful_timeout },
            Phase::Starting { .. } => Phase::Dropped { kill_at: now + TIME_TO_DROP.min(graceful_timeout) },
            Phase::Leaving { .. }
            | Phase::Condemned { .. }
            | Phase::Dropped { .. }
            | Phase::Aborted { .. }
            | Phase::Killed => return false,
        };
        true
    }

    /// Nobody needs it any more, and nothing is lost with it. Returns whether that is news.
    pub(super) fn drop_within(&mut self, time: Duration, now: Instant) -> bool {
        let is_news = matches!(self.phase, Phase::Starting { .. } | Phase::Ready { .. });
        if is_news {
            self.phase = Phase::Dropped { kill_at: now + time };
        }
        is_news
    }

    /// When something has to be done about it, unless the worker moves on before; `interval` as in
    /// [`Self::look_at_heartbeat`], `None` if nobody looks.
    pub(super) fn deadline(&self, interval: Option<Duration>) -> Option<Instant> {
        match self.phase {
            Phase::Starting { abort_at } => abort_at,
            Phase::Ready { .. } if self.is_template() => None,
            Phase::Ready { .. } => interval.map(|interval| self.looked_at + interval),
            Phase::Leaving { kill_at }
            | Phase::Condemned { kill_at }
            | Phase::Dropped { kill_at }
            | Phase::Aborted { kill_at } => Some(kill_at),
            Phase::Killed => None,
        }
    }

    pub(super) fn is_template(&self) -> bool {
        self.name.is_template()
    }

    /// Whether it serves, or as a template forks.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// Since when it serves.
    pub(super) fn ready_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ready { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Whether its heart has stood still for `limit`, inside a call of the application.
    pub(super) fn is_stuck_for(&self, limit: Duration) -> bool {
        matches!(self.phase, Phase::Ready { standstill: Some(standstill), .. } if standstill.age >= limit)
    }

    pub(super) fn has_settled(&self, now: Instant) -> bool {
        self.ready_since().is_some_and(|since| now.duration_since(since) >= SETTLED_AFTER)
    }

    pub(super) fn life(&self) -> Life {
        match self.phase {
            Phase::Starting { .. } => Life::Starting,
            Phase::Ready { .. } => Life::Serving,
            Phase::Leaving { .. } | Phase::Dropped { .. } => Life::Leaving,
            Phase::Condemned { .. } | Phase::Aborted { .. } | Phase::Killed => Life::Condemned,
        }
    }
}
