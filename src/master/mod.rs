//! The parent process: wait, decide, act. One thread, no Python; it never parses HTTP and never calls the application.
//!
//! [`children`] decides, [`report`] says it to the operator, and this file waits and acts. What a worker does is a
//! closure given by `main`.
#![forbid(unsafe_code)]

mod backoff;
mod child;
mod children;
mod report;

use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};
use std::{io, process as std_process, thread};

use log::{debug, error, info, log};

use self::children::{Action, Children, Event};
use crate::exit::Exit;
use crate::inboxes::{Inboxes, Sent};
use crate::scoreboard::Scoreboard;
use crate::sys::process::{self, Fork, Pid};
use crate::sys::signal::{SelfPipe, Signal};

/// How many workers there shall be, and how long the master waits for them.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// At least one.
    pub workers: u32,
    /// From SIGTERM until a worker that has not finished is killed.
    pub graceful_timeout: Duration,
    /// The longest call of the application; zero: unlimited.
    pub timeout: Duration,
    /// From the fork until a worker is ready.
    pub boot_timeout: Duration,
}

impl Plan {
    /// How many slots the scoreboard should have: each worker may have a predecessor that is still on its way out. With
    /// fewer, a replacement waits until one is gone.
    pub const fn slots(&self) -> u32 {
        self.workers.saturating_mul(2)
    }
}

/// What the master has in common with its workers, made before the first of them.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// With [`Plan::slots`] slots.
    pub scoreboard: &'a Scoreboard,
    /// One for each slot; `None` if connections stay where they were accepted.
    pub inboxes: Option<&'a Inboxes>,
}

/// Who a forked worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerIdentity {
    /// Its slot of the scoreboard.
    pub slot: u32,
    /// Its number in the log, 1 to N; a replacement has the number of the one it replaces.
    pub number: u32,
    /// The master.
    pub parent: Pid,
}

/// Runs N workers until asked to stop. `started` is called once, when the first of them is ready.
///
/// `child` is what a worker does. It runs in the forked process, which ends with its return value as status and returns
/// neither from here nor to the caller. It finds every signal blocked until it opens its own [`SelfPipe`]; the handlers
/// and descriptors of the master are gone, what is `shared` stays, and the kernel kills it when the master dies.
pub fn run(
    plan: &Plan,
    shared: Shared<'_>,
    child: &mut dyn FnMut(WorkerIdentity) -> Exit,
    started: &mut dyn FnMut(),
) -> Exit {
    match supervise(plan, shared, started) {
        Outcome::Ended(exit) => exit,
        Outcome::InChild(identity) => become_worker(identity, child),
    }
}

/// How the supervision ends, in the process that it ends in.
enum Outcome {
    /// In the master.
    Ended(Exit),
    /// In a new worker. Since the loop was left, all that the master owned has been dropped.
    InChild(WorkerIdentity),
}

fn become_worker(identity: WorkerIdentity, child: &mut dyn FnMut(WorkerIdentity) -> Exit) -> ! {
    if let Err(error) = process::die_with_parent(identity.parent) {
        error!("worker {} ends before it starts: {error}", identity.number);
        process::exit_now(Exit::Failed.status());
    }
    // A panic must not unwind into code that belongs to the master.
    match panic::catch_unwind(AssertUnwindSafe(|| child(identity))) {
        Ok(exit) => process::exit_now(exit.status()),
        Err(_) => std_process::abort(),
    }
}

fn supervise(plan: &Plan, shared: Shared<'_>, started: &mut dyn FnMut()) -> Outcome {
    let signals = match SelfPipe::open(&Signal::ALL, &[]) {
        Ok(signals) => signals,
        Err(error) => {
            error!("signals cannot be caught: {error}");
            return Outcome::Ended(Exit::Failed);
        }
    };
    let Shared { scoreboard, inboxes } = shared;
    let children = Children::new(plan, scoreboard.slots(), Instant::now());
    let mut master = Master { pid: process::own_pid(), signals, scoreboard, inboxes, children, started };
    loop {
        if let ControlFlow::Break(outcome) = master.turn() {
            return outcome;
        }
    }
}

struct Master<'a> {
    pid: Pid,
    signals: SelfPipe,
    scoreboard: &'a Scoreboard,
    inboxes: Option<&'a Inboxes>,
    children: Children,
    started: &'a mut dyn FnMut(),
}

/// The way out of the loop.
type Flow = ControlFlow<Outcome>;

impl Master<'_> {
    /// One round: act on what is due, wait, and take in what has happened.
    fn turn(&mut self) -> Flow {
        self.handle(Event::Tick)?;
        self.wait();
        for signal in self.signals.drain() {
            self.on_signal(signal)?;
        }
        // Slots before the dead: a worker that was ready, however briefly, is to be known as one.
        self.look_at_slots()?;
        self.reap()
    }

    fn wait(&self) {
        let limit = self.children.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if let Err(error) = self.signals.wait(self.scoreboard.doorbell(), limit) {
            error!("waiting for the workers failed: {error}");
            thread::sleep(PAUSE_AFTER_FAILED_WAIT);
        }
    }

    fn on_signal(&mut self, signal: Signal) -> Flow {
        match signal {
            Signal::Int | Signal::Quit | Signal::Term => self.handle(Event::StopAsked(signal)),
            Signal::Hup | Signal::Usr1 | Signal::Usr2 | Signal::Ttin | Signal::Ttou => {
                info!("{signal} ignored");
                Flow::Continue(())
            }
            // Sent by a terminal each time its window changes.
            Signal::Winch => Flow::Continue(()),
            // It has woken the loop, which reaps in every round.
            Signal::Chld => Flow::Continue(()),
        }
    }

    fn look_at_slots(&mut self) -> Flow {
        // Answered before looking: a change that comes after the look rings again.
        self.scoreboard.doorbell().answer();
        for slot in self.children.occupied_slots() {
            let told = self.scoreboard.slot(slot);
            self.handle(Event::Seen { slot, state: told.state(), sequence: told.sequence() })?;
        }
        Flow::Continue(())
    }

    fn reap(&mut self) -> Flow {
        for (pid, how) in process::reap() {
            self.handle(Event::Ended { pid, how })?;
        }
        Flow::Continue(())
    }

    fn handle(&mut self, event: Event) -> Flow {
        for action in self.children.handle(event, Instant::now()) {
            self.carry_out(action)?;
        }
        Flow::Continue(())
    }

    fn carry_out(&mut self, action: Action) -> Flow {
        match action {
            Action::Spawn { number, slot } => return self.spawn(number, slot),
            Action::Terminate(pid) => note_failure(pid, process::terminate(pid)),
            Action::Abort(pid) => note_failure(pid, process::abort(pid)),
            Action::Kill(pid) => note_failure(pid, process::kill(pid)),
            Action::Vacate { slot } => self.scoreboard.slot(slot).vacate(),
            Action::Adopt { slot } => return self.tell_of_orphans(slot),
            Action::Report(report) => log!(report.level(), "{report}"),
            Action::Started => (self.started)(),
            Action::Exit(exit) => return Flow::Break(Outcome::Ended(exit)),
        }
        Flow::Continue(())
    }

    fn tell_of_orphans(&mut self, slot: u32) -> Flow {
        match self.inboxes.map(|inboxes| inboxes.send_orphans(slot)) {
            None | Some(Sent::Done) => Flow::Continue(()),
            Some(Sent::Full) => self.handle(Event::NotAdopted),
            Some(Sent::Failed(error)) => {
                error!("inbox {slot} cannot be written: {error}");
                self.handle(Event::NotAdopted)
            }
        }
    }

    fn spawn(&mut self, number: u32, slot: u32) -> Flow {
        let told = self.scoreboard.slot(slot);
        told.prepare();
        let event = match process::fork() {
            Ok(Fork::Child) => {
                return Flow::Break(Outcome::InChild(WorkerIdentity { slot, number, parent: self.pid }));
            }
            Ok(Fork::Parent(pid)) => {
                told.assign(pid);
                Event::Spawned { number, slot, pid }
            }
            Err(error) => {
                told.vacate();
                Event::SpawnFailed { number, reason: error.to_string() }
            }
        };
        self.handle(event)
    }
}

/// Long enough not to spin when the kernel has no memory to wait with.
const PAUSE_AFTER_FAILED_WAIT: Duration = Duration::from_millis(100);

/// A child that was not reaped yet can always be signalled, unless it runs as somebody else.
fn note_failure(pid: Pid, sent: io::Result<()>) {
    if let Err(error) = sent {
        debug!("process {pid} could not be signalled: {error}");
    }
}
