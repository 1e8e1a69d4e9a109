//! What the master tells the operator: each event as a value, its level, and its one line of text.

use std::fmt;
use std::time::Duration;

use log::Level;

use crate::exit::Exit;
use crate::sys::process::{HowEnded, Pid};
use crate::sys::signal::Signal;

/// How a child is called in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// 0 for a template.
    pub(super) number: u32,
    pub(super) pid: Pid,
}

impl Name {
    pub(super) fn is_template(self) -> bool {
        self.number == 0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Forked(Name),
    NotForked {
        number: u32,
        reason: String,
        next: Next,
    },
    Ready(Name),
    BootTooLong {
        worker: Name,
        limit: Duration,
    },
    /// Not even the part of a worker that looks after its requests.
    DoesNotRespond {
        worker: Name,
        limit: Duration,
    },
    /// The worker has told so itself.
    RequestTooLong {
        worker: Name,
        next: Next,
    },
    /// The application or the operator made the worker leave.
    LeavesByItself(Name, Next),
    /// It is replaced, and serves until its successor is ready.
    Worn {
        worker: Name,
        wear: Wear,
    },
    Reloading {
        generation: u32,
        why: &'static str,
    },
    Reloaded {
        generation: u32,
        workers: u32,
    },
    /// A configuration that cannot be used.
    NotReloaded {
        why: &'static str,
        reason: String,
    },
    /// None of its workers became ready.
    GivenUp {
        generation: u32,
        instead: u32,
    },
    Resized {
        who: Asker,
        workers: u32,
    },
    /// There is no room for another worker.
    NoMore {
        who: Asker,
        workers: u32,
    },
    /// The configuration asks for more workers than there is room for.
    NoRoom {
        wanted: u32,
        workers: u32,
    },
    NoFewer {
        who: Asker,
    },
    Ended {
        worker: Name,
        how: HowEnded,
        during: Life,
        next: Next,
    },
    NoneBooted(Exit),
    StopDelayed {
        who: Asker,
        delay: Duration,
    },
    StopAsked {
        who: Asker,
        workers: usize,
    },
    /// Killed in spite of requests in flight.
    Cut {
        workers: Vec<Name>,
        why: Impatience,
    },
    Stopped,
}

/// By what means the operator has asked for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Signal(Signal),
    /// At the control socket.
    Control,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => signal.fmt(f),
            Self::Control => f.write_str(CONTROL),
        }
    }
}

/// How an order from the control socket is called.
pub(super) const CONTROL: &str = "minicorn ctl";

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
    /// One that is starting already.
    UnderWay,
    /// Another one if any of the first set becomes ready, which this one did not.
    Undecided,
    /// Nobody: the place is taken, or the server is stopping.
    Nobody,
}

impl Next {
    pub(super) const AT_ONCE: Self = Self::Another(Duration::ZERO);
}

/// Why a worker is to be replaced that serves well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wear {
    /// It has answered as many as one worker should.
    Requests,
    /// The operator wants another one.
    Asked,
    /// It has served for so long.
    Age(Duration),
    /// It has so many bytes in RAM, and one worker should not have more than `limit`.
    Memory { bytes: u64, limit: u64 },
}

/// Why nobody waits for the requests in flight any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Impatience {
    /// The graceful timeout has passed.
    Timeout(Duration),
    /// The operator asked a second time.
    Asked(Asker),
    /// The operator asked for it.
    AtOnce(Asker),
}

impl Report {
    pub(super) fn level(&self) -> Level {
        match self {
            Self::Forked(_) | Self::Ready(_) => Level::Debug,
            Self::LeavesByItself(..)
            | Self::Worn { .. }
            | Self::Reloading { .. }
            | Self::Reloaded { .. }
            | Self::Resized { .. }
            | Self::NoFewer { .. }
            | Self::StopDelayed { .. }
            | Self::StopAsked { .. }
            | Self::Stopped => Level::Info,
            Self::Cut { .. } | Self::NoMore { .. } | Self::NoRoom { .. } => Level::Warn,
            Self::NotForked { .. }
            | Self::BootTooLong { .. }
            | Self::DoesNotRespond { .. }
            | Self::RequestTooLong { .. }
            | Self::NotReloaded { .. }
            | Self::GivenUp { .. }
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
            Self::NotForked { number: 0, reason, next } => write!(f, "a template could not be forked: {reason}{next}"),
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
            Self::LeavesByItself(worker, next) => write!(f, "{worker} is leaving{next}"),
            Self::Worn { worker, wear } => write!(f, "{worker} {wear}: starting its successor"),
            Self::Reloading { generation, why } => write!(f, "{why}: reloading, generation {generation} is starting"),
            Self::Reloaded { generation, workers } => {
                write!(f, "reloaded: generation {generation} serves with {}", Count(*workers as usize))
            }
            Self::NotReloaded { why, reason } => write!(f, "{why}: not reloaded, all goes on as before: {reason}"),
            Self::GivenUp { generation, instead } => write!(
                f,
                "generation {generation} is given up, its first worker did not start: generation {instead} goes on serving"
            ),
            Self::Resized { who, workers } => write!(f, "{who}: {} from now on", Count(*workers as usize)),
            Self::NoMore { who, workers } => {
                write!(f, "{who}: it stays at {}, there is no room for more until a restart", Count(*workers as usize))
            }
            Self::NoRoom { wanted, workers } => {
                write!(f, "--workers {wanted}: there is room for {} until a restart", Count(*workers as usize))
            }
            Self::NoFewer { who } => write!(f, "{who}: the last worker stays"),
            Self::StopDelayed { who, delay } => write!(f, "{who}: serving for {} more", Seconds(*delay)),
            Self::Ended { worker, how, during, next } => {
                let remark = if how.is_killed() && *during != Life::Condemned { " (out of memory?)" } else { "" };
                let when = if *during == Life::Starting { " while starting" } else { "" };
                write!(f, "{worker} {how}{remark}{when}{next}")
            }
            Self::NoneBooted(Exit::AppCannotLoad) => f.write_str("no worker can load the application, giving up"),
            Self::NoneBooted(_) => f.write_str("no worker could start, giving up"),
            Self::StopAsked { who, workers } => {
                write!(f, "{who}: stopping {}", Count(*workers))
            }
            Self::Cut { workers, why } => write_cut(f, workers, *why),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

fn write_cut(f: &mut fmt::Formatter<'_>, workers: &[Name], why: Impatience) -> fmt::Result {
    match why {
        Impatience::Timeout(limit) => write!(f, "not finished after {}", Seconds(limit))?,
        Impatience::Asked(who) => write!(f, "{who} again")?,
        Impatience::AtOnce(who) => write!(f, "{who}: at once")?,
    }
    write!(f, ": killing {}, cutting the requests in flight:", Count(workers.len()))?;
    for (index, worker) in workers.iter().enumerate() {
        write!(f, "{} {worker}", if index == 0 { "" } else { "," })?;
    }
    Ok(())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_template() {
            return write!(f, "template (pid {})", self.pid);
        }
        write!(f, "worker {} (pid {})", self.number, self.pid)
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Another(Duration::ZERO) => f.write_str(", starting another"),
            Self::Another(pause) => write!(f, ", starting another in {}", Seconds(*pause)),
            Self::UnderWay => f.write_str(", its successor is starting"),
            Self::Undecided | Self::Nobody => Ok(()),
        }
    }
}

impl fmt::Display for Wear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = 1024.0 * 1024.0;
        match *self {
            Self::Requests => f.write_str("has answered --max-requests"),
            Self::Asked => f.write_str("is to be replaced, as minicorn ctl has asked"),
            Self::Age(age) => write!(f, "has served for {} s", age.as_secs()),
            Self::Memory { bytes, limit } => {
                write!(f, "has {:.1} MiB in RAM, of {:.1}", bytes as f64 / MIB, limit as f64 / MIB)
            }
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
    const AT_ONCE: Next = Next::AT_ONCE;

    fn worker(number: u32) -> Name {
        Name { number, pid: Pid::from_raw(70 + number as i32) }
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
            (Report::LeavesByItself(worker(2), AT_ONCE), Level::Info, "worker 2 (pid 72) is leaving, starting another"),
            (
                Report::Worn { worker: worker(2), wear: Wear::Requests },
                Level::Info,
                "worker 2 (pid 72) has answered --max-requests: starting its successor",
            ),
            (
                Report::Worn { worker: worker(2), wear: Wear::Age(seconds(3600)) },
                Level::Info,
                "worker 2 (pid 72) has served for 3600 s: starting its successor",
            ),
            (
                Report::Worn { worker: worker(2), wear: Wear::Memory { bytes: 3 << 19, limit: 1 << 20 } },
                Level::Info,
                "worker 2 (pid 72) has 1.5 MiB in RAM, of 1.0: starting its successor",
            ),
            (
                Report::Reloading { generation: 2, why: "SIGHUP" },
                Level::Info,
                "SIGHUP: reloading, generation 2 is starting",
            ),
            (
                Report::Reloaded { generation: 2, workers: 4 },
                Level::Info,
                "reloaded: generation 2 serves with 4 workers",
            ),
            (
                Report::NotReloaded { why: "SIGHUP", reason: "no such file".into() },
                Level::Error,
                "SIGHUP: not reloaded, all goes on as before: no such file",
            ),
            (
                Report::GivenUp { generation: 2, instead: 1 },
                Level::Error,
                "generation 2 is given up, its first worker did not start: generation 1 goes on serving",
            ),
            (
                Report::Resized { who: Asker::Signal(Signal::Ttin), workers: 3 },
                Level::Info,
                "SIGTTIN: 3 workers from now on",
            ),
            (
                Report::NoMore { who: Asker::Signal(Signal::Ttin), workers: 15 },
                Level::Warn,
                "SIGTTIN: it stays at 15 workers, there is no room for more until a restart",
            ),
            (Report::NoFewer { who: Asker::Signal(Signal::Ttou) }, Level::Info, "SIGTTOU: the last worker stays"),
            (
                Report::StopDelayed { who: Asker::Signal(Signal::Term), delay: seconds(5) },
                Level::Info,
                "SIGTERM: serving for 5 s more",
            ),
            (
                ended(SEGV, Life::Serving, Next::UnderWay),
                Level::Error,
                "worker 2 (pid 72) killed by SIGSEGV (core dumped), its successor is starting",
            ),
            (
                Report::NotForked { number: 0, reason: "EAGAIN".into(), next: Next::Nobody },
                Level::Error,
                "a template could not be forked: EAGAIN",
            ),
            (Report::Ready(worker(0)), Level::Debug, "template (pid 70) ready"),
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
            (Report::NoneBooted(Exit::AppCannotLoad), Level::Error, "no worker can load the application, giving up"),
            (Report::NoneBooted(Exit::WorkersCannotBoot), Level::Error, "no worker could start, giving up"),
            (
                Report::StopAsked { who: Asker::Signal(Signal::Term), workers: 1 },
                Level::Info,
                "SIGTERM: stopping 1 worker",
            ),
            (
                Report::Cut { workers: vec![worker(1), worker(2)], why: Impatience::Timeout(seconds(30)) },
                Level::Warn,
                "not finished after 30 s: killing 2 workers, cutting the requests in flight: \
                 worker 1 (pid 71), worker 2 (pid 72)",
            ),
            (
                Report::Cut { workers: vec![worker(1)], why: Impatience::Asked(Asker::Signal(Signal::Int)) },
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
