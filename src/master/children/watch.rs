//! Who is late: workers that do not become ready, do not respond or do not leave, and templates that do not fork.

use std::time::{Duration, Instant};

use super::templates::ORDER_TIMEOUT;
use super::{Action, Children, Told};
use crate::master::child::{Child, Phase};
use crate::master::plan::Plan;
use crate::master::report::{Impatience, Name, Report, Wear};

/// Between SIGABRT and SIGKILL: time to write down the stacks of all threads.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often the heartbeats of the workers are looked at: four times during the timeout, within these bounds. A worker
/// does not say when a call begins: that would cost every request a system call, and this costs an idle server one
/// wake-up a second.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(1);

impl Children {
    /// `None`: nobody looks, since nothing is ever too late.
    pub(super) fn watch_interval(&self) -> Option<Duration> {
        let timeout = self.plan.timeout;
        (!timeout.is_zero()).then(|| (timeout / 4).clamp(WATCH_INTERVAL_MIN, WATCH_INTERVAL))
    }

    /// Takes note of what a slot says besides the state of its worker.
    pub(super) fn follow(&mut self, index: usize, told: Told, now: Instant) {
        let interval = self.watch_interval();
        let child = &mut self.living[index];
        if let Some(interval) = interval {
            child.look_at_heartbeat(told.sequence, interval, now);
        }
        if told.is_spent {
            child.wear.get_or_insert(Wear::Requests);
        }
    }

    pub(super) fn stop_the_late(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.abort_late_templates(now, actions);
        let Plan { timeout, graceful_timeout, boot_timeout, .. } = self.plan;
        let (mut cut_off, mut replaced) = (Vec::new(), Vec::new());
        for child in &mut self.living {
            let worker = child.name;
            match child.phase {
                Phase::Starting { abort_at: Some(abort_at) } if abort_at <= now => {
                    actions.push(Action::Report(Report::BootTooLong { worker, limit: boot_timeout }));
                    actions.push(abort(child, now));
                }
                Phase::Ready { .. } if !timeout.is_zero() && child.is_stuck_for(timeout) => {
                    actions.push(Action::Report(Report::DoesNotRespond { worker, limit: timeout }));
                    actions.push(abort(child, now));
                    replaced.push(worker);
                }
                Phase::Leaving { kill_at } | Phase::Condemned { kill_at } if kill_at <= now => {
                    child.phase = Phase::Killed;
                    cut_off.push(worker);
                }
                Phase::Aborted { kill_at } | Phase::Dropped { kill_at } if kill_at <= now => {
                    child.phase = Phase::Killed;
                    actions.push(Action::Kill(worker.pid));
                }
                Phase::Starting { .. }
                | Phase::Ready { .. }
                | Phase::Leaving { .. }
                | Phase::Condemned { .. }
                | Phase::Dropped { .. }
                | Phase::Aborted { .. }
                | Phase::Killed => {}
            }
        }
        replaced.into_iter().for_each(|worker| self.replace_stuck(worker, now));
        actions.extend(cut(cut_off, Impatience::Timeout(graceful_timeout)));
    }

    fn replace_stuck(&mut self, worker: Name, now: Instant) {
        if self.seat(worker.number).is_some_and(|seat| seat.holder.pid() == Some(worker.pid)) {
            self.succeed_at_once(worker.number, now);
        }
    }

    fn abort_late_templates(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for pid in self.late_templates(now) {
            if let Some(child) = self.child_mut(pid).filter(|child| child.is_ready()) {
                let report = Report::DoesNotRespond { worker: child.name, limit: ORDER_TIMEOUT };
                actions.extend([Action::Report(report), abort(child, now)]);
            }
        }
    }
}

fn abort(child: &mut Child, now: Instant) -> Action {
    child.phase = Phase::Aborted { kill_at: now + LAST_WORDS };
    Action::Abort(child.name.pid)
}

/// Kills workers that may have requests in flight, which the operator should know.
pub(super) fn cut(workers: Vec<Name>, why: Impatience) -> Vec<Action> {
    if workers.is_empty() {
        return Vec::new();
    }
    let kills: Vec<Action> = workers.iter().map(|worker| Action::Kill(worker.pid)).collect();
    std::iter::once(Action::Report(Report::Cut { workers, why })).chain(kills).collect()
}
