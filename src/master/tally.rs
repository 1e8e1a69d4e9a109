//! [`Tally`]: how often the master has had to do what, counted from what it tells the operator.

use super::report::{Life, Report, Wear};
use crate::sys::process::HowEnded;

/// Since the server has started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Workers forked; templates are not workers.
    pub spawned: u64,
    /// Workers, and templates, that could not be forked.
    pub spawns_failed: u64,
    /// Workers that have ended with status 0.
    pub ended: u64,
    /// Workers that have ended in another way, and nobody has ended them.
    pub crashed: u64,
    /// Workers that were killed (SIGKILL), by the kernel, the operator or the master.
    pub killed: u64,
    /// Workers that were given up before, for not responding or for a request that took too long, and have ended.
    pub given_up: u64,
    /// Workers that were to be replaced since they had answered `--max-requests`.
    pub worn_by_requests: u64,
    /// The same, for `--max-worker-lifetime`.
    pub worn_by_age: u64,
    /// The same, for `--max-worker-rss`.
    pub worn_by_memory: u64,
    /// Reloads after which all workers are of the new generation.
    pub reloaded: u64,
    /// Reloads that did not come to it: a configuration that cannot be used, or a worker that cannot boot.
    pub reloads_failed: u64,
    /// Workers condemned for a request that took too long.
    pub condemned: u64,
    /// Workers that did not respond.
    pub unresponsive: u64,
    /// Workers that were not ready in time.
    pub boots_late: u64,
}

impl Tally {
    pub(super) fn note(&mut self, report: &Report) {
        let count = match report {
            Report::Forked(name) if name.is_template() => return,
            Report::Forked(_) => &mut self.spawned,
            Report::NotForked { .. } => &mut self.spawns_failed,
            Report::Ended { worker, .. } if worker.is_template() => return,
            Report::Ended { how, during, .. } => self.end(*how, *during),
            Report::Worn { wear: Wear::Requests, .. } => &mut self.worn_by_requests,
            Report::Worn { wear: Wear::Age(_), .. } => &mut self.worn_by_age,
            Report::Worn { wear: Wear::Memory { .. }, .. } => &mut self.worn_by_memory,
            Report::Reloaded { .. } => &mut self.reloaded,
            Report::NotReloaded { .. } | Report::GivenUp { .. } => &mut self.reloads_failed,
            Report::RequestTooLong { .. } => &mut self.condemned,
            Report::DoesNotRespond { .. } => &mut self.unresponsive,
            Report::BootTooLong { .. } => &mut self.boots_late,
            _ => return,
        };
        *count += 1;
    }

    fn end(&mut self, how: HowEnded, during: Life) -> &mut u64 {
        match how {
            _ if during == Life::Condemned => &mut self.given_up,
            HowEnded::Exited(0) => &mut self.ended,
            _ if how.is_killed() => &mut self.killed,
            HowEnded::Exited(_) | HowEnded::Signaled(..) => &mut self.crashed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::report::{Name, Next};
    use crate::sys::process::{Core, Pid, SignalNumber};

    #[test]
    fn ends_are_told_apart_and_templates_are_not_workers() {
        let worker = |number| Name { number, pid: Pid::from_raw(7) };
        let ended = |number, how, during| Report::Ended { worker: worker(number), how, during, next: Next::Nobody };
        let signal = |number| HowEnded::Signaled(SignalNumber(number), Core::NotDumped);
        let mut tally = Tally::default();
        for report in [
            Report::Forked(worker(0)),
            Report::Forked(worker(1)),
            Report::Ready(worker(1)),
            ended(0, signal(9), Life::Serving),
            ended(1, HowEnded::Exited(0), Life::Leaving),
            ended(1, HowEnded::Exited(3), Life::Starting),
            ended(1, signal(11), Life::Serving),
            ended(1, signal(9), Life::Serving),
            ended(1, signal(9), Life::Condemned),
            Report::NotReloaded { why: "SIGHUP", reason: "no".into() },
            Report::GivenUp { generation: 2, instead: 1 },
            Report::Reloaded { generation: 3, workers: 1 },
            Report::Worn { worker: worker(1), wear: Wear::Requests },
        ] {
            tally.note(&report);
        }
        let expected = Tally {
            spawned: 1,
            ended: 1,
            crashed: 2,
            killed: 1,
            given_up: 1,
            reloads_failed: 2,
            reloaded: 1,
            worn_by_requests: 1,
            ..Tally::default()
        };
        assert_eq!(tally, expected);
    }
}
