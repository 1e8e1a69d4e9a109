//! What the master tells the operator: each event as a value, its level, and its one line of text.

use std::fmt;
use std::time::Duration;

use log::Level;

use crate::exit::Exit;
use crate::sys::process::{HowEnded, Pid};
use crate::sys::signal::Signal;

/// How a worker is called in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkerName {
    pub(super) number: u32,
    pub(super) pid: Pid,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Forked(WorkerName),
    NotForked {
        number: u32,
        reason: String,
        next: Next,
    },
    Ready(WorkerName),
    BootTooLong {
        worker: WorkerName,
        limit: Duration,
    },
    /// Not even the part of a worker that looks after its requests.
    DoesNotRespond {
        worker: WorkerName,
        limit: Duration,
    },
    /// The worker has told so itself.
    RequestTooLong {
        worker: WorkerName,
        next: Next,
    },
    /// The application or the operator made the worker leave.
    LeavesByItself(WorkerName),
    Ended {
        worker: WorkerName,
        how: HowEnded,
        during: Life,
        next: Next,
    },
    /// Not a worker: process 1 inherits the children of others.
    StrangerEnded {
        pid: Pid,
        how: HowEnded,
    },
    NoneBooted(Exit),
    StopAsked {
        signal: Signal,
        workers: usize,
    },
    /// Killed in spite of requests in flight.
    Cut {
        workers: Vec<WorkerName>,
        why: Impatience,
    },
    Stopped,
}

/// Which part of its life a worker ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Starting,
    Serving,
    /// After SIGTERM.
    Leaving,
    /// After a request that took too long, or after our SIGABRT or SIGKILL: each was reported when it happened.
    Condemned,
}

/// Who takes the place of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another one, after a pause.
    Another(Duration),
    /// Another one if any of the first set becomes ready, which this one did not.
    Undecided,
    /// Nobody: the place is taken, or the server is stopping.
    Nobody,
}

/// Why nobody waits for the requests in flight any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Impatience {
    /// The graceful timeout has passed.
    Timeout(Duration),
    /// The operator asked a second time.
    Signal(Signal),
}

impl Report {
    pub(super) fn level(&self) -> Level {
        match self {
            Self::Forked(_) | Self::Ready(_) | Self::StrangerEnded { .. } => Level::Debug,
            Self::LeavesByItself(_) | Self::StopAsked { .. } | Self::Stopped => Level::Info,
            Self::Cut { .. } => Level::Warn,
            Self::NotForked { .. }
            | Self::BootTooLong { .. }
            | Self::DoesNotRespond { .. }
            | Self::RequestTooLong { .. }
            | Self::NoneBooted(_) => Level::Error,
            Self::Ended { how, during, next, .. } => level_of_end(*how, *during, *next),
        }
    }
}

fn level_of_end(how: HowEnded, during: Life, next: Next) -> Level {
    match during {
        // One of them has told the reason for all.
        Life::Starting if next == Next::Undecided && tells_its_reason(how) => Level::Debug,
        Life::Starting | Life::Serving => Level::Error,
        Life::Leaving if how == HowEnded::Exited(Exit::Stopped.status().into()) => Level::Debug,
        Life::Leaving => Level::Warn,
        Life::Condemned => Level::Info,
    }
}

/// Whether a worker that ended like this while starting has logged why.
fn tells_its_reason(how: HowEnded) -> bool {
    [Exit::WorkersCannotBoot, Exit::AppCannotLoad].iter().any(|exit| how == HowEnded::Exited(exit.status().into()))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked(worker) => write!(f, "{worker} forked"),
            Self::NotForked { number, reason, next } => {
                write!(f, "worker {number} could not be forked: {reason}{next}")
            }
            Self::Ready(worker) => write!(f, "{worker} ready"),
            Self::BootTooLong { worker, limit } => {
                write!(f, "{worker}: not ready after {}, stopping the worker", Seconds(*limit))
            }
            Self::DoesNotRespond { worker, limit } => {
                write!(f, "{worker}: does not respond for {}, stopping the worker", Seconds(*limit))
            }
            Self::RequestTooLong { worker, next } => {
                write!(f, "{worker}: a request took longer than its timeout{next}")
            }
            Self::LeavesByItself(worker) => write!(f, "{worker} is leaving, starting another"),
            Self::Ended { worker, how, during, next } => {
                let remark = if how.is_killed() && *during != Life::Condemned { " (out of memory?)" } else { "" };
                let when = if *during == Life::Starting { " while starting" } else { "" };
                write!(f, "{worker} {how}{remark}{when}{next}")
            }
            Self::StrangerEnded { pid, how } => write!(f, "process {pid}, not a worker, {how}"),
            Self::NoneBooted(Exit::AppCannotLoad) => f.write_str("no worker can load the application, giving up"),
            Self::NoneBooted(_) => f.write_str("no worker could start, giving up"),
            Self::StopAsked { signal, workers } => {
                write!(f, "{signal}: stopping {}", Count(*workers))
            }
            Self::Cut { workers, why } => write_cut(f, workers, *why),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

fn write_cut(f: &mut fmt::Formatter<'_>, workers: &[WorkerName], why: Impatience) -> fmt::Result {
    match why {
        Impatience::Timeout(limit) => write!(f, "not finished after {}", Seconds(limit))?,
        Impatience::Signal(signal) => write!(f, "{signal} again")?,
    }
    write!(f, ": killing {}, cutting the requests in flight:", Count(workers.len()))?;
    for (index, worker) in workers.iter().enumerate() {
        write!(f, "{} {worker}", if index == 0 { "" } else { "," })?;
    }
    Ok(())
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} (pid {})", self.number, self.pid)
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Another(Duration::ZERO) => f.write_str(", starting another"),
            Self::Another(pause) => write!(f, ", starting another in {}", Seconds(*pause)),
            Self::Undecided | Self::Nobody => Ok(()),
        }
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

struct Count(usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} worker{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Core, SignalNumber};

    const SEGV: HowEnded = HowEnded::Signaled(SignalNumber(11), Core::Dumped);
    const KILL: HowEnded = HowEnded::Signaled(SignalNumber(9), Core::NotDumped);
    const AT_ONCE: Next = Next::Another(Duration::ZERO);

    fn worker(number: u32) -> WorkerName {
        WorkerName { number, pid: Pid::from_raw(70 + number as i32) }
    }

    fn ended(how: HowEnded, during: Life, next: Next) -> Report {
        Report::Ended { worker: worker(2), how, during, next }
    }

    #[test]
    fn every_report_reads_as_one_line_at_its_level() {
        use HowEnded::Exited;
        let seconds = Duration::from_secs;
        let table = [
            (Report::Forked(worker(2)), Level::Debug, "worker 2 (pid 72) forked"),
            (
                Report::NotForked { number: 2, reason: "EAGAIN".into(), next: Next::Another(seconds(30)) },
                Level::Error,
                "worker 2 could not be forked: EAGAIN, starting another in 30 s",
            ),
            (Report::Ready(worker(2)), Level::Debug, "worker 2 (pid 72) ready"),
            (
                Report::BootTooLong { worker: worker(2), limit: seconds(60) },
                Level::Error,
                "worker 2 (pid 72): not ready after 60 s, stopping the worker",
            ),
            (
                Report::DoesNotRespond { worker: worker(2), limit: Duration::from_millis(1500) },
                Level::Error,
                "worker 2 (pid 72): does not respond for 1.5 s, stopping the worker",
            ),
            (
                Report::RequestTooLong { worker: worker(2), next: AT_ONCE },
                Level::Error,
                "worker 2 (pid 72): a request took longer than its timeout, starting another",
            ),
            (
                Report::RequestTooLong { worker: worker(2), next: Next::Nobody },
                Level::Error,
                "worker 2 (pid 72): a request took longer than its timeout",
            ),
            (Report::LeavesByItself(worker(2)), Level::Info, "worker 2 (pid 72) is leaving, starting another"),
            (
                ended(Exited(7), Life::Serving, AT_ONCE),
                Level::Error,
                "worker 2 (pid 72) exited with status 7, starting another",
            ),
            (
                ended(SEGV, Life::Serving, Next::Another(Duration::from_millis(400))),
                Level::Error,
                "worker 2 (pid 72) killed by SIGSEGV (core dumped), starting another in 0.4 s",
            ),
            (
                ended(KILL, Life::Serving, AT_ONCE),
                Level::Error,
                "worker 2 (pid 72) killed by SIGKILL (out of memory?), starting another",
            ),
            (
                ended(Exited(4), Life::Starting, AT_ONCE),
                Level::Error,
                "worker 2 (pid 72) exited with status 4 while starting, starting another",
            ),
            (
                ended(Exited(4), Life::Starting, Next::Undecided),
                Level::Debug,
                "worker 2 (pid 72) exited with status 4 while starting",
            ),
            (
                ended(SEGV, Life::Starting, Next::Undecided),
                Level::Error,
                "worker 2 (pid 72) killed by SIGSEGV (core dumped) while starting",
            ),
            (ended(Exited(0), Life::Leaving, Next::Nobody), Level::Debug, "worker 2 (pid 72) exited with status 0"),
            (ended(Exited(1), Life::Leaving, Next::Nobody), Level::Warn, "worker 2 (pid 72) exited with status 1"),
            (ended(KILL, Life::Condemned, Next::Nobody), Level::Info, "worker 2 (pid 72) killed by SIGKILL"),
            (
                Report::StrangerEnded { pid: Pid::from_raw(9), how: Exited(0) },
                Level::Debug,
                "process 9, not a worker, exited with status 0",
            ),
            (Report::NoneBooted(Exit::AppCannotLoad), Level::Error, "no worker can load the application, giving up"),
            (Report::NoneBooted(Exit::WorkersCannotBoot), Level::Error, "no worker could start, giving up"),
            (Report::StopAsked { signal: Signal::Term, workers: 1 }, Level::Info, "SIGTERM: stopping 1 worker"),
            (
                Report::Cut { workers: vec![worker(1), worker(2)], why: Impatience::Timeout(seconds(30)) },
                Level::Warn,
                "not finished after 30 s: killing 2 workers, cutting the requests in flight: \
                 worker 1 (pid 71), worker 2 (pid 72)",
            ),
            (
                Report::Cut { workers: vec![worker(1)], why: Impatience::Signal(Signal::Int) },
                Level::Warn,
                "SIGINT again: killing 1 worker, cutting the requests in flight: worker 1 (pid 71)",
            ),
            (Report::Stopped, Level::Info, "stopped"),
        ];
        for (report, level, text) in table {
            assert_eq!((report.level(), report.to_string().as_str()), (level, text));
        }
    }
}
