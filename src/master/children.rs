//! The books of the workers: who is starting, ready, late, stopping. Events and the time in, actions out.
//!
//! It makes no system call, reads no clock and logs nothing, so that every story of a crash can be told in a test. The
//! loop in `master` finds the events and carries the actions out.
//!
//! A worker has a *number*, 1 to N, which it takes over from the one it replaces, and a *slot* of the scoreboard, which
//! it shares with nobody, not even with a predecessor that is still on its way out.

use std::time::{Duration, Instant};

use super::Plan;
use super::backoff::Backoff;
use super::child::{Child, Phase};
use super::report::{Impatience, Next, Report, WorkerName};
use crate::exit::Exit;
use crate::scoreboard::State;
use crate::sys::process::{HowEnded, Pid};
use crate::sys::signal::Signal;

/// What has happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Time has passed.
    Tick,
    /// This is what an occupied slot says.
    Seen { slot: u32, state: State, sequence: u64 },
    /// [`Action::Spawn`] was carried out.
    Spawned { number: u32, slot: u32, pid: Pid },
    /// [`Action::Spawn`] failed.
    SpawnFailed { number: u32, reason: String },
    /// A child was reaped.
    Ended { pid: Pid, how: HowEnded },
    /// [`Action::Adopt`] failed.
    NotAdopted,
    /// The operator wants the server to end.
    StopAsked(Signal),
}

/// What to do about it, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Fork a worker. Answered by [`Event::Spawned`] or [`Event::SpawnFailed`] before any other event.
    Spawn { number: u32, slot: u32 },
    /// SIGTERM: finish what you have.
    Terminate(Pid),
    /// SIGABRT: show where you are.
    Abort(Pid),
    /// SIGKILL.
    Kill(Pid),
    /// The slot's worker is gone.
    Vacate { slot: u32 },
    /// Tell the worker in this slot to look after the connections that were sent to one that is gone. A failure is
    /// answered by [`Event::NotAdopted`].
    Adopt { slot: u32 },
    /// Tell the operator.
    Report(Report),
    /// The first worker is ready: the server has started.
    Started,
    /// Nothing is left to supervise.
    Exit(Exit),
}

/// All workers, from the first fork to the last one reaped.
#[derive(Debug)]
pub(super) struct Children {
    plan: Plan,
    /// How many slots there are. With no more than workers, a replacement waits until its predecessor is gone.
    slots: u32,
    stage: Stage,
    /// By number, 1 at index 0.
    seats: Vec<Seat>,
    /// Forked and not reaped yet.
    living: Vec<Child>,
    /// A slot has become empty and nobody has been told to look into its inbox; from this time on somebody is.
    orphans: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No worker has ever been ready. One that ends is not replaced: the next would end the same way.
    Booting,
    /// Some worker has been ready. From here on the server ends only when asked to.
    Serving,
    /// Asked to stop, at that time.
    Stopping { since: Instant },
}

/// One of the workers that the plan asks for.
#[derive(Debug)]
struct Seat {
    holder: Holder,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Nobody until then.
    Vacant { spawn_at: Instant },
    /// A worker for this slot is being forked.
    Spawning { slot: u32 },
    /// This worker, until it ends, leaves or is late.
    Held(Pid),
    /// A worker of the first set that did not become ready.
    Failed(BootFailure),
}

/// The greatest of several decides how the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum BootFailure {
    NotForked,
    Ended,
    AppCannotLoad,
}

/// Between SIGABRT and SIGKILL: time to write down the stacks of all threads.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Before a worker is told once more to look after orphans: its inbox was full.
const ADOPT_PAUSE: Duration = Duration::from_secs(1);

/// A second stop signal within this time is the first one again: timeout(1) signals its child and then its process
/// group, and Ctrl-C reaches the master from the terminal and from a wrapper that passes it on. People are slower.
const ECHO: Duration = Duration::from_millis(100);

/// How often the heartbeats of the workers are looked at: four times during the timeout, within these bounds. A worker
/// does not say when a call begins: that would cost every request a system call, and this costs an idle server one
/// wake-up a second.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(1);

impl Children {
    /// None yet; the first [`Event::Tick`] spawns them all.
    pub(super) fn new(plan: &Plan, slots: u32, now: Instant) -> Self {
        let seat = |_| Seat { holder: Holder::Vacant { spawn_at: now }, backoff: Backoff::default() };
        let seats = (0..plan.workers).map(seat).collect();
        Self { plan: *plan, slots, stage: Stage::Booting, seats, living: Vec::new(), orphans: None }
    }

    /// The slots that are worth a look.
    pub(super) fn occupied_slots(&self) -> Vec<u32> {
        self.living.iter().map(|child| child.slot).collect()
    }

    /// Takes note of an event, and decides.
    pub(super) fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = match event {
            Event::Tick => Vec::new(),
            Event::Seen { slot, state, sequence } => self.seen(slot, state, sequence, now),
            Event::Spawned { number, slot, pid } => self.spawned(number, slot, pid, now),
            Event::SpawnFailed { number, reason } => self.spawn_failed(number, reason, now),
            Event::Ended { pid, how } => self.ended(pid, how, now),
            Event::NotAdopted => self.not_adopted(now),
            Event::StopAsked(signal) => self.stop_asked(signal, now),
        };
        self.stop_the_late(now, &mut actions);
        self.fill_seats(now, &mut actions);
        self.tell_of_orphans(now, &mut actions);
        self.end(&mut actions);
        actions
    }

    /// When [`Event::Tick`] is due if nothing happens before; `None`: never.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let interval = self.watch_interval();
        let deadlines = self.living.iter().filter_map(|child| child.deadline(interval));
        // Without a worker to tell, the first that becomes ready comes before, and is an event.
        let adoption = self.adopter().and(self.orphans);
        deadlines.chain(self.next_spawn()).chain(adoption).min()
    }

    fn next_spawn(&self) -> Option<Instant> {
        // Without a free slot the end of some worker comes first, and is an event.
        if self.is_stopping() || self.free_slot().is_none() {
            return None;
        }
        self.seats.iter().filter_map(Seat::spawn_at).min()
    }

    /// `None`: nobody looks, since nothing is ever too late.
    fn watch_interval(&self) -> Option<Duration> {
        let timeout = self.plan.timeout;
        (!timeout.is_zero()).then(|| (timeout / 4).clamp(WATCH_INTERVAL_MIN, WATCH_INTERVAL))
    }

    fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Stopping { .. })
    }

    fn free_slot(&self) -> Option<u32> {
        let is_lived_in = |slot| self.living.iter().any(|child| child.slot == slot);
        let is_reserved = |slot| self.seats.iter().any(|seat| seat.holder == Holder::Spawning { slot });
        (0..self.slots).find(|&slot| !is_lived_in(slot) && !is_reserved(slot))
    }

    fn seat(&mut self, number: u32) -> &mut Seat {
        &mut self.seats[index_of(number)]
    }
}

/// What events change.
impl Children {
    fn seen(&mut self, slot: u32, state: State, sequence: u64, now: Instant) -> Vec<Action> {
        let interval = self.watch_interval();
        let graceful_timeout = self.plan.graceful_timeout;
        let Some(child) = self.living.iter_mut().find(|child| child.slot == slot) else { return Vec::new() };
        let (name, is_wanted) = (child.name, child.is_wanted());
        let mut actions = Vec::new();
        // Ready comes before these two, even if a look has missed it.
        let is_past_ready = matches!(state, State::Draining | State::Condemned);
        if matches!(child.phase, Phase::Starting { .. }) && (state == State::Ready || is_past_ready) {
            child.phase = Phase::Ready { since: now, standstill: None };
            actions.push(Action::Report(Report::Ready(name)));
        }
        if let Some(interval) = interval {
            child.look_at_heartbeat(sequence, interval, now);
        }
        if is_past_ready && let Some(report) = child.leave(state, now + graceful_timeout) {
            actions.push(Action::Report(report));
            if is_wanted {
                self.seat(name.number).holder = Holder::Vacant { spawn_at: now };
            }
        }
        if self.stage == Stage::Booting && !actions.is_empty() {
            self.start_serving(now);
            actions.push(Action::Started);
        }
        actions
    }

    fn start_serving(&mut self, now: Instant) {
        self.stage = Stage::Serving;
        for seat in self.seats.iter_mut().filter(|seat| seat.failure().is_some()) {
            seat.vacate(now);
        }
    }

    fn spawned(&mut self, number: u32, slot: u32, pid: Pid, now: Instant) -> Vec<Action> {
        let name = WorkerName { number, pid };
        self.living.push(Child::new(name, slot, now, self.plan.boot_timeout));
        self.seat(number).holder = Holder::Held(pid);
        vec![Action::Report(Report::Forked(name))]
    }

    fn spawn_failed(&mut self, number: u32, reason: String, now: Instant) -> Vec<Action> {
        // The slot was about to be used; who has sent something to it meanwhile counts on a reader.
        self.orphans = Some(now);
        let next = self.succeed(number, BootFailure::NotForked, now);
        vec![Action::Report(Report::NotForked { number, reason, next })]
    }

    fn ended(&mut self, pid: Pid, how: HowEnded, now: Instant) -> Vec<Action> {
        let Some(index) = self.living.iter().position(|child| child.name.pid == pid) else {
            return vec![Action::Report(Report::StrangerEnded { pid, how })];
        };
        let child = self.living.remove(index);
        self.orphans = Some(now);
        let Child { name, slot, .. } = child;
        let seat = self.seat(name.number);
        let next = if seat.holder == Holder::Held(pid) {
            if child.has_settled(now) {
                seat.backoff.reset();
            }
            self.succeed(name.number, BootFailure::of(how), now)
        } else {
            Next::Nobody
        };
        let report = Report::Ended { worker: name, how, during: child.life(), next };
        vec![Action::Vacate { slot }, Action::Report(report)]
    }

    /// Decides what becomes of a seat whose worker is gone.
    fn succeed(&mut self, number: u32, failure: BootFailure, now: Instant) -> Next {
        let stage = self.stage;
        let seat = self.seat(number);
        match stage {
            Stage::Booting => {
                seat.holder = Holder::Failed(failure);
                Next::Undecided
            }
            Stage::Serving => Next::Another(seat.vacate(now)),
            Stage::Stopping { .. } => Next::Nobody,
        }
    }

    fn not_adopted(&mut self, now: Instant) -> Vec<Action> {
        self.orphans = Some(now + ADOPT_PAUSE);
        Vec::new()
    }

    fn stop_asked(&mut self, signal: Signal, now: Instant) -> Vec<Action> {
        if let Stage::Stopping { since } = self.stage {
            let is_echo = now.duration_since(since) < ECHO;
            return if is_echo { Vec::new() } else { self.kill_all(signal) };
        }
        self.stage = Stage::Stopping { since: now };
        let mut actions = vec![Action::Report(Report::StopAsked { signal, workers: self.living.len() })];
        for child in self.living.iter_mut().filter(|child| child.is_wanted()) {
            child.phase = Phase::Leaving { kill_at: now + self.plan.graceful_timeout };
            actions.push(Action::Terminate(child.name.pid));
        }
        actions
    }

    fn kill_all(&mut self, signal: Signal) -> Vec<Action> {
        let mut killed = Vec::new();
        for child in self.living.iter_mut().filter(|child| child.phase != Phase::Killed) {
            child.phase = Phase::Killed;
            killed.push(child.name);
        }
        cut(killed, Impatience::Signal(signal))
    }
}

/// What follows from the time and the books, whatever the event was.
impl Children {
    fn stop_the_late(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Plan { timeout, graceful_timeout, boot_timeout, .. } = self.plan;
        let mut cut_off = Vec::new();
        for child in &mut self.living {
            let worker = child.name;
            match child.phase {
                Phase::Starting { abort_at } if abort_at <= now => {
                    actions.push(Action::Report(Report::BootTooLong { worker, limit: boot_timeout }));
                    actions.push(abort(child, now));
                }
                Phase::Ready { .. } if !timeout.is_zero() && child.is_stuck_for(timeout) => {
                    actions.push(Action::Report(Report::DoesNotRespond { worker, limit: timeout }));
                    actions.push(abort(child, now));
                    self.seats[index_of(worker.number)].holder = Holder::Vacant { spawn_at: now };
                }
                Phase::Leaving { kill_at } | Phase::Condemned { kill_at } if kill_at <= now => {
                    child.phase = Phase::Killed;
                    cut_off.push(worker);
                }
                Phase::Aborted { kill_at } if kill_at <= now => {
                    child.phase = Phase::Killed;
                    actions.push(Action::Kill(worker.pid));
                }
                Phase::Starting { .. }
                | Phase::Ready { .. }
                | Phase::Leaving { .. }
                | Phase::Condemned { .. }
                | Phase::Aborted { .. }
                | Phase::Killed => {}
            }
        }
        actions.extend(cut(cut_off, Impatience::Timeout(graceful_timeout)));
    }

    fn fill_seats(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_stopping() {
            return;
        }
        for number in 1..=self.plan.workers {
            if self.seat(number).spawn_at().is_some_and(|spawn_at| spawn_at <= now) {
                let Some(slot) = self.free_slot() else { return };
                self.seat(number).holder = Holder::Spawning { slot };
                actions.push(Action::Spawn { number, slot });
            }
        }
    }

    fn tell_of_orphans(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.orphans.is_some_and(|at| at <= now)
            && let Some(slot) = self.adopter()
        {
            self.orphans = None;
            actions.push(Action::Adopt { slot });
        }
    }

    /// Who is to look after the connections of others: a ready worker, or while none is ready one that is leaving.
    fn adopter(&self) -> Option<u32> {
        let is_ready = |child: &&Child| matches!(child.phase, Phase::Ready { .. });
        let is_leaving = |child: &&Child| matches!(child.phase, Phase::Leaving { .. });
        let adopter = self.living.iter().find(is_ready).or_else(|| self.living.iter().find(is_leaving));
        adopter.map(|child| child.slot)
    }

    fn end(&self, actions: &mut Vec<Action>) {
        if !self.living.is_empty() {
            return;
        }
        match self.stage {
            Stage::Booting => {
                if let Some(exit) = self.boot_failure() {
                    actions.extend([Action::Report(Report::NoneBooted(exit)), Action::Exit(exit)]);
                }
            }
            Stage::Serving => {}
            Stage::Stopping { .. } => actions.extend([Action::Report(Report::Stopped), Action::Exit(Exit::Stopped)]),
        }
    }

    /// How the server ends if every one of the first set has failed.
    fn boot_failure(&self) -> Option<Exit> {
        let failures: Option<Vec<BootFailure>> = self.seats.iter().map(Seat::failure).collect();
        failures?.into_iter().max().map(BootFailure::exit)
    }
}

impl Seat {
    fn spawn_at(&self) -> Option<Instant> {
        match self.holder {
            Holder::Vacant { spawn_at } => Some(spawn_at),
            Holder::Spawning { .. } | Holder::Held(_) | Holder::Failed(_) => None,
        }
    }

    fn failure(&self) -> Option<BootFailure> {
        match self.holder {
            Holder::Failed(failure) => Some(failure),
            Holder::Vacant { .. } | Holder::Spawning { .. } | Holder::Held(_) => None,
        }
    }

    /// Its worker has failed: the next one follows after the pause that is returned.
    fn vacate(&mut self, now: Instant) -> Duration {
        let pause = self.backoff.next_pause();
        self.holder = Holder::Vacant { spawn_at: now + pause };
        pause
    }
}

impl BootFailure {
    fn of(how: HowEnded) -> Self {
        match how {
            HowEnded::Exited(status) if status == i32::from(Exit::AppCannotLoad.status()) => Self::AppCannotLoad,
            HowEnded::Exited(_) | HowEnded::Signaled(..) => Self::Ended,
        }
    }

    fn exit(self) -> Exit {
        match self {
            Self::NotForked => Exit::Failed,
            Self::Ended => Exit::WorkersCannotBoot,
            Self::AppCannotLoad => Exit::AppCannotLoad,
        }
    }
}

fn index_of(number: u32) -> usize {
    number as usize - 1
}

fn abort(child: &mut Child, now: Instant) -> Action {
    child.phase = Phase::Aborted { kill_at: now + LAST_WORDS };
    Action::Abort(child.name.pid)
}

/// Kills workers that may have requests in flight, which the operator should know.
fn cut(workers: Vec<WorkerName>, why: Impatience) -> Vec<Action> {
    if workers.is_empty() {
        return Vec::new();
    }
    let kills: Vec<Action> = workers.iter().map(|worker| Action::Kill(worker.pid)).collect();
    std::iter::once(Action::Report(Report::Cut { workers, why })).chain(kills).collect()
}

#[cfg(test)]
mod tests;
