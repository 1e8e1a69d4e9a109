//! The books of the workers: who is starting, ready, late, stopping. Events and the time in, actions out.
//!
//! It makes no system call, reads no clock and logs nothing, so that every story of a crash can be told in a test. The
//! loop in `master` finds the events and carries the actions out. Here are the books and the order of things; what is
//! decided is in [`renewal`] (reload and recycling), [`filling`] (empty seats), [`templates`], [`watch`] (who is late) and
//! [`stopping`].
//!
//! A worker has a *number*, 1 to N, which it takes over from the one it replaces, and a *slot* of the scoreboard, which
//! it shares with nobody, not even with a predecessor that is still on its way out.

mod filling;
mod renewal;
mod seat;
mod stopping;
mod templates;
mod watch;

use std::time::{Duration, Instant};

use self::renewal::Renewal;
use self::seat::{BootFailure, Holder, Seat};
use self::stopping::Delay;
use self::templates::{Generation, Source, Unwanted};
use super::child::{Child, Phase};
use super::plan::Plan;
use super::report::{Asker, Name, Next, Report};
use super::tally::Tally;
use super::view::{ServerStage, View, Wish};
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
    Seen {
        slot: u32,
        told: Told,
    },
    /// So much memory has the worker in this slot in RAM.
    Measured {
        slot: u32,
        bytes: u64,
    },
    /// What was wanted in this slot was forked.
    Spawned {
        slot: u32,
        pid: Pid,
    },
    /// It could not be forked.
    SpawnFailed {
        slot: u32,
        reason: String,
    },
    /// A child was reaped.
    Ended {
        pid: Pid,
        how: HowEnded,
    },
    /// [`Action::Adopt`] failed.
    NotAdopted,
    /// The operator wants the server to end.
    StopAsked(Signal),
    /// The configuration has been read again.
    Reload {
        generation: u32,
        plan: Plan,
        why: &'static str,
    },
    /// The operator wants one worker more, or one less, or none for now.
    More(Signal),
    Fewer(Signal),
    None(Signal),
    /// The same and more, at the control socket. What is not for the books is not among it.
    Wished(Wish),
}

/// What a slot says of its worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) state: State,
    pub(super) sequence: u64,
    pub(super) is_spent: bool,
}

/// What to do about it, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Fork a worker, or with number 0 a template. Answered by [`Event::Spawned`] or [`Event::SpawnFailed`] before any
    /// other event.
    Spawn { number: u32, slot: u32, generation: u32 },
    /// Have the template fork a worker. Answered by the same events, at some time.
    Order { number: u32, slot: u32, template: Pid },
    /// The template is to leave.
    Dismiss { template: Pid },
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
    /// A child that is not ours, which somebody else may know.
    Stranger { pid: Pid, how: HowEnded },
    /// The first worker is ready: the server has started.
    Started,
    /// A worker is ready of a generation that nobody was ready of, and those of the generations before it will leave.
    Proven { generation: u32 },
    /// The workers are about to be told that the server ends.
    Stopping,
    /// No more workers will come of this generation, and none is left.
    Retire { generation: u32 },
    /// Nothing is left to supervise.
    Exit(Exit),
}

/// All workers, from the first fork to the last one reaped.
#[derive(Debug)]
pub(super) struct Children {
    /// Of the newest generation that was not given up.
    plan: Plan,
    /// How many slots there are. With no more than workers, a replacement waits until its predecessor is gone.
    slots: u32,
    stage: Stage,
    /// By number, 1 at index 0.
    seats: Vec<Seat>,
    /// Forked and not reaped yet.
    living: Vec<Child>,
    /// Those that have workers, or may get some.
    generations: Vec<Generation>,
    /// The one that all workers are to be of.
    current: u32,
    /// The newest one that a worker has been ready of; 0 before that. Lower than `current`: it is not known yet whether
    /// the new one can boot.
    proven: u32,
    /// Ordered, and not wanted any more: the slots are theirs until the templates have answered.
    unwanted: Vec<Unwanted>,
    /// The worker that is being replaced before it leaves. Never more than one.
    renewal: Option<Renewal>,
    /// The newest generation that has been reported to serve everywhere.
    reported: u32,
    /// SIGTERM has come, and `--shutdown-delay` is not over.
    delay: Option<Delay>,
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

/// Before a worker is told once more to look after orphans: its inbox was full.
const ADOPT_PAUSE: Duration = Duration::from_secs(1);

/// The generation that the server starts with.
const FIRST: u32 = 1;

impl Children {
    /// None yet; the first [`Event::Tick`] spawns them all.
    pub(super) fn new(plan: &Plan, slots: u32, now: Instant) -> Self {
        Self {
            plan: *plan,
            slots,
            stage: Stage::Booting,
            seats: (0..plan.workers).map(|_| Seat::vacant(now)).collect(),
            living: Vec::new(),
            generations: vec![Generation::new(FIRST, plan, now)],
            current: FIRST,
            proven: 0,
            unwanted: Vec::new(),
            renewal: None,
            reported: FIRST,
            delay: None,
            orphans: None,
        }
    }

    /// The slots that are worth a look.
    pub(super) fn occupied_slots(&self) -> Vec<u32> {
        self.living.iter().map(|child| child.slot).collect()
    }

    /// The processes that write logs.
    pub(super) fn pids(&self) -> Vec<Pid> {
        self.living.iter().map(|child| child.name.pid).collect()
    }

    /// For those who look at the server from outside; the tally is theirs.
    pub(super) fn view(&self, tally: Tally) -> View {
        let stage = match self.stage {
            Stage::Booting => ServerStage::Starting,
            Stage::Serving if self.is_ending() => ServerStage::Stopping,
            Stage::Serving => ServerStage::Serving,
            Stage::Stopping { .. } => ServerStage::Stopping,
        };
        View {
            stage,
            wanted: self.wanted(),
            ready: self.ready(),
            generation: self.current,
            is_reloading: self.is_reloading(),
            workers_max: self.room(),
            reloads: 0,
            last_reload: None,
            tally,
            children: self.living.iter().map(Child::view).collect(),
        }
    }

    /// How many workers serve.
    pub(super) fn ready(&self) -> u32 {
        self.living.iter().filter(|child| child.is_ready() && !child.is_template()).count() as u32
    }

    /// How many should.
    pub(super) fn wanted(&self) -> u32 {
        self.seats.len() as u32
    }

    /// Of the newest generation that was not given up.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn is_booting(&self) -> bool {
        self.stage == Stage::Booting
    }

    /// The generation of a template, or of any other child; that of all workers to come if it is not known.
    pub(super) fn generation_of(&self, pid: Pid) -> u32 {
        self.child(pid).map_or(self.current, |child| child.generation)
    }

    /// Takes note of an event, and decides.
    pub(super) fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = match event {
            Event::Tick => Vec::new(),
            Event::Seen { slot, told } => self.seen(slot, told, now),
            Event::Measured { slot, bytes } => self.measured(slot, bytes),
            Event::Spawned { slot, pid } => self.spawned(slot, pid, now),
            Event::SpawnFailed { slot, reason } => self.spawn_failed(slot, reason, now),
            Event::Ended { pid, how } => self.ended(pid, how, now),
            Event::NotAdopted => self.not_adopted(now),
            Event::StopAsked(signal) => self.stop_asked(Asker::Signal(signal), now),
            Event::Reload { generation, plan, why } => self.reload(generation, plan, why, now),
            Event::More(signal) => self.more(Asker::Signal(signal), now),
            Event::Fewer(signal) => self.fewer(Asker::Signal(signal), now),
            Event::None(signal) => self.none(Asker::Signal(signal), now),
            Event::Wished(wish) => self.wished(wish, now),
        };
        self.stop_when_due(now, &mut actions);
        self.stop_the_late(now, &mut actions);
        self.renew(now, &mut actions);
        self.fill_templates(now, &mut actions);
        self.fill_seats(now, &mut actions);
        self.tell_of_orphans(now, &mut actions);
        self.tell_of_reload(&mut actions);
        self.retire(now, &mut actions);
        self.end(&mut actions);
        actions
    }

    /// When [`Event::Tick`] is due if nothing happens before; `None`: never.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let interval = self.watch_interval();
        let deadlines = self.living.iter().filter_map(|child| child.deadline(interval));
        // Without a worker to tell, the first that becomes ready comes before, and is an event.
        let adoption = self.adopter().and(self.orphans);
        let others = [self.next_spawn(), self.next_renewal(), self.late_order(), self.stop_due(), adoption];
        deadlines.chain(others.into_iter().flatten()).min()
    }

    /// Without a free slot the end of some worker comes first, and without a template its readiness: both are events.
    fn next_spawn(&self) -> Option<Instant> {
        if self.is_stopping() || self.free_slot().is_none() {
            return None;
        }
        let seats = self.seats.iter().filter_map(|seat| seat.holder.spawn_at());
        let seats = seats.filter(|_| self.source(self.filling_generation()) != Source::Wait);
        let renewal = self.renewal.iter().filter(|renewal| self.source(renewal.generation) != Source::Wait);
        let renewal = renewal.filter_map(|renewal| renewal.successor.spawn_at());
        seats.chain(renewal).chain(self.next_template()).min()
    }

    fn free_slot(&self) -> Option<u32> {
        let is_lived_in = |slot| self.living.iter().any(|child| child.slot == slot);
        let ordered = self.ordered_slots();
        let is_reserved = |slot| ordered.contains(&slot);
        (0..self.slots).find(|&slot| !is_lived_in(slot) && !is_reserved(slot))
    }

    /// Everything that a child may be forked for.
    fn holders(&self) -> impl Iterator<Item = &Holder> {
        let templates = self.generations.iter().filter_map(|generation| generation.template.as_ref());
        let seats = self.seats.iter().chain(templates).map(|seat| &seat.holder);
        seats.chain(self.renewal.iter().map(|renewal| &renewal.successor))
    }

    fn holders_mut(&mut self) -> impl Iterator<Item = &mut Holder> {
        let templates = self.generations.iter_mut().filter_map(|generation| generation.template.as_mut());
        let seats = self.seats.iter_mut().chain(templates).map(|seat| &mut seat.holder);
        seats.chain(self.renewal.iter_mut().map(|renewal| &mut renewal.successor))
    }

    /// `None` if there are fewer workers by now.
    fn seat(&mut self, number: u32) -> Option<&mut Seat> {
        self.seats.get_mut((number as usize).checked_sub(1)?)
    }

    fn child(&self, pid: Pid) -> Option<&Child> {
        self.living.iter().find(|child| child.name.pid == pid)
    }

    fn child_mut(&mut self, pid: Pid) -> Option<&mut Child> {
        self.living.iter_mut().find(|child| child.name.pid == pid)
    }
}

/// What events change.
impl Children {
    fn wished(&mut self, wish: Wish, now: Instant) -> Vec<Action> {
        match wish {
            Wish::Workers(count) => self.exactly(Asker::Control, count, now),
            Wish::Stop => self.stop_asked(Asker::Control, now),
            Wish::StopAtOnce => self.stop_at_once(Asker::Control, now),
            Wish::Recycle(pid) => self.recycle(pid),
            Wish::Reload | Wish::ReopenLogs => Vec::new(),
        }
    }

    fn seen(&mut self, slot: u32, told: Told, now: Instant) -> Vec<Action> {
        let Some(index) = self.living.iter().position(|child| child.slot == slot) else { return Vec::new() };
        let mut actions = Vec::new();
        // Ready comes before these two, even if a look has missed it.
        let is_past_ready = matches!(told.state, State::Draining | State::Condemned);
        let is_ready = is_past_ready || matches!(told.state, State::Ready | State::Template);
        if is_ready && self.living[index].settle(now) {
            self.became_ready(index, now, &mut actions);
        }
        if is_ready {
            self.living[index].undrop(now + self.plan.graceful_timeout);
        }
        self.follow(index, told, now);
        if is_past_ready {
            self.leaves(index, told.state, now, &mut actions);
        }
        if self.stage == Stage::Booting && is_ready && !self.living[index].is_template() {
            // Also one that is not wanted any more by now has shown that it can be done.
            self.prove(self.living[index].generation, &mut actions);
            self.start_serving(now);
            actions.push(Action::Started);
        }
        actions
    }

    fn became_ready(&mut self, index: usize, now: Instant, actions: &mut Vec<Action>) {
        let Child { name, generation, .. } = self.living[index];
        actions.push(Action::Report(Report::Ready(name)));
        if !name.is_template() {
            self.prove(generation, actions);
            self.hand_over(name.pid, now, actions);
        }
    }

    /// It has been shown that this generation can boot.
    fn prove(&mut self, generation: u32, actions: &mut Vec<Action>) {
        if generation > self.proven {
            self.proven = generation;
            actions.extend((generation > FIRST).then_some(Action::Proven { generation }));
        }
    }

    /// A worker says that it leaves, and was not asked to.
    fn leaves(&mut self, index: usize, state: State, now: Instant, actions: &mut Vec<Action>) {
        let pid = self.living[index].name.pid;
        let kill_at = now + self.plan.graceful_timeout;
        let number = self.living[index].name.number;
        let is_seated = self.seat(number).is_some_and(|seat| seat.holder == Holder::Held(pid));
        let next = if is_seated && !self.is_stopping() { Next::AT_ONCE } else { Next::Nobody };
        if let Some(report) = self.living[index].leave(state, kill_at, next) {
            actions.push(Action::Report(report));
            if is_seated {
                self.succeed_at_once(number, now);
            }
        }
    }

    /// The worker of a seat does not count any more: its successor, if it has one already, or another takes the seat.
    fn succeed_at_once(&mut self, number: u32, now: Instant) {
        let renewal = self.renewal.take_if(|renewal| renewal.number == number);
        let Some(seat) = self.seat(number) else { return };
        seat.holder = Holder::Vacant { spawn_at: now };
        if let Some(renewal) = renewal.filter(Renewal::is_under_way) {
            seat.holder = renewal.successor;
            seat.generation = renewal.generation;
        }
    }

    fn start_serving(&mut self, now: Instant) {
        self.stage = Stage::Serving;
        let templates = self.generations.iter_mut().filter_map(|generation| generation.template.as_mut());
        for seat in self.seats.iter_mut().chain(templates).filter(|seat| seat.holder.failure().is_some()) {
            seat.vacate(false, now);
        }
    }

    fn spawned(&mut self, slot: u32, pid: Pid, now: Instant) -> Vec<Action> {
        let Some((number, generation)) = self.expected_in(slot) else {
            // There are fewer workers by now, or the template took too long and was given up.
            return self.unexpected(slot, pid, now);
        };
        let name = Name { number, pid };
        self.living.push(Child::new(name, slot, generation, now, self.plan.boot_timeout));
        let mut actions = vec![Action::Report(Report::Forked(name))];
        if let Some(holder) = self.holders_mut().find(|holder| holder.spawning() == Some(slot)) {
            *holder = Holder::Held(pid);
        }
        if self.is_stopping() {
            // Ordered before the stop, of which it was not told.
            self.let_go(pid, now, &mut actions);
        }
        actions
    }

    /// Number and generation of what is being forked for this slot.
    fn expected_in(&self, slot: u32) -> Option<(u32, u32)> {
        let is_this = |holder: &Holder| holder.spawning() == Some(slot);
        if let Some(renewal) = self.renewal.as_ref().filter(|renewal| is_this(&renewal.successor)) {
            return Some((renewal.number, renewal.generation));
        }
        let templates = self.generations.iter().filter_map(|own| Some((0, own.number, &own.template.as_ref()?.holder)));
        let seats = self.seats.iter().zip(1..).map(|(seat, number)| (number, seat.generation, &seat.holder));
        let found = seats.chain(templates).find(|(_, _, holder)| is_this(holder));
        found.map(|(number, generation, _)| (number, generation))
    }

    fn unexpected(&mut self, slot: u32, pid: Pid, now: Instant) -> Vec<Action> {
        let generation = self.answered(slot).unwrap_or(self.current);
        let mut child = Child::new(Name { number: self.wanted() + 1, pid }, slot, generation, now, Duration::ZERO);
        child.phase = Phase::Killed;
        self.living.push(child);
        vec![Action::Kill(pid)]
    }

    fn spawn_failed(&mut self, slot: u32, reason: String, now: Instant) -> Vec<Action> {
        // The slot was about to be used; who has sent something to it meanwhile counts on a reader.
        self.orphans = Some(now);
        let Some((number, generation)) = self.expected_in(slot) else {
            self.answered(slot);
            return vec![Action::Vacate { slot }];
        };
        let mut actions = Vec::new();
        let next = if number == 0 {
            self.template_failed(generation, BootFailure::NotForked, now, &mut actions)
        } else if self.renewal.as_ref().is_some_and(|renewal| renewal.successor.spawning() == Some(slot)) {
            self.successor_failed(now, &mut actions)
        } else {
            self.succeed(number, BootFailure::NotForked, false, now)
        };
        actions.insert(0, Action::Vacate { slot });
        actions.insert(1, Action::Report(Report::NotForked { number, reason, next }));
        actions
    }

    fn ended(&mut self, pid: Pid, how: HowEnded, now: Instant) -> Vec<Action> {
        let Some(index) = self.living.iter().position(|child| child.name.pid == pid) else {
            return vec![Action::Stranger { pid, how }];
        };
        let child = self.living.remove(index);
        self.orphans = Some(now);
        let mut actions = Vec::new();
        let next = self.gone(&child, BootFailure::of(how), now, &mut actions);
        let report = Report::Ended { worker: child.name, how, during: child.life(), next };
        actions.insert(0, Action::Vacate { slot: child.slot });
        actions.insert(1, Action::Report(report));
        actions
    }

    /// Decides what comes after a child that has ended.
    fn gone(&mut self, child: &Child, failure: BootFailure, now: Instant, actions: &mut Vec<Action>) -> Next {
        let Child { name, generation, .. } = *child;
        let held = Holder::Held(name.pid);
        if name.is_template() {
            return self.template_ended(child, failure, now, actions);
        }
        if self.renewal.as_ref().is_some_and(|renewal| renewal.successor == held) {
            return self.successor_failed(now, actions);
        }
        match self.seat(name.number) {
            Some(seat) if seat.holder == held => {
                if child.has_settled(now) {
                    seat.backoff.reset();
                }
            }
            Some(_) | None => return Next::Nobody,
        }
        if self.renewal.as_ref().is_some_and(|renewal| renewal.number == name.number && renewal.is_under_way()) {
            self.succeed_at_once(name.number, now);
            return Next::UnderWay;
        }
        self.renewal.take_if(|renewal| renewal.number == name.number);
        if self.stage == Stage::Serving && generation > self.proven {
            self.give_up(generation, now, actions);
        }
        self.succeed(name.number, failure, child.is_ready(), now)
    }

    /// Decides what becomes of a seat whose worker is gone, or never came.
    fn succeed(&mut self, number: u32, failure: BootFailure, has_served: bool, now: Instant) -> Next {
        let stage = self.stage;
        let Some(seat) = self.seat(number) else { return Next::Nobody };
        match stage {
            Stage::Booting => {
                seat.holder = Holder::Failed(failure);
                Next::Undecided
            }
            Stage::Serving => Next::Another(seat.vacate(has_served, now)),
            Stage::Stopping { .. } => {
                seat.holder = Holder::Vacant { spawn_at: now };
                Next::Nobody
            }
        }
    }

    fn not_adopted(&mut self, now: Instant) -> Vec<Action> {
        self.orphans = Some(now + ADOPT_PAUSE);
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
