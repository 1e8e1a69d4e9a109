//! Workers that are replaced while they serve: after a reload, and when one is worn. Replacement first, one at a time: the
//! old worker is told to leave when the new one is ready, and hands its connections over.
//!
//! A new generation is tried on one worker. If that one cannot boot, the generation is given up, and the one before goes
//! on; if it can, the generation is proven, and a later failure is one like any other.

use std::time::{Duration, Instant};

use super::seat::{Holder, Seat};
use super::templates::{Generation, Unwanted};
use super::{Action, Children, Stage};
use crate::master::child::Child;
use crate::master::plan::{Plan, TEMPLATES};
use crate::master::report::{Asker, Next, Report, Wear};
use crate::master::view::LastReload;
use crate::sys::process::Pid;

/// A worker that is being replaced.
#[derive(Debug)]
pub(super) struct Renewal {
    /// Whose seat it is.
    pub(super) number: u32,
    /// Which generation the successor is of.
    pub(super) generation: u32,
    /// Becomes the seat's holder when it is ready.
    pub(super) successor: Holder,
}

impl Renewal {
    /// Whether somebody is on the way already.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.successor, Holder::Spawning { .. } | Holder::Held(_))
    }
}

/// What the operator asks for.
impl Children {
    /// The configuration has been read again: all workers are to be replaced by some of the new generation.
    pub(super) fn reload(&mut self, generation: u32, plan: Plan, why: &'static str, now: Instant) -> Vec<Action> {
        self.plan = plan;
        self.current = generation;
        self.generations.push(Generation::new(generation, &plan, now));
        // What has failed up to now, may work now.
        for seat in &mut self.seats {
            seat.backoff.reset();
            if seat.holder.spawn_at().is_some() {
                seat.holder = Holder::Vacant { spawn_at: now };
            }
        }
        // One that waits after a failure is chosen anew; one that is on its way is newer than what it replaces.
        self.renewal.take_if(|renewal| !renewal.is_under_way());
        let mut actions = vec![Action::Report(Report::Reloading { generation, why })];
        self.resize(plan.workers, now, &mut actions);
        if self.wanted() < plan.workers {
            actions.push(Action::Report(Report::NoRoom { wanted: plan.workers, workers: self.wanted() }));
        }
        actions
    }

    pub(super) fn more(&mut self, who: Asker, now: Instant) -> Vec<Action> {
        let wanted = self.wanted() + 1;
        if self.is_stopping() {
            return Vec::new();
        }
        if wanted > self.room() {
            return vec![Action::Report(Report::NoMore { who, workers: self.wanted() })];
        }
        self.change(who, wanted, now)
    }

    pub(super) fn fewer(&mut self, who: Asker, now: Instant) -> Vec<Action> {
        match self.wanted() {
            0 | 1 => vec![Action::Report(Report::NoFewer { who })],
            wanted => self.change(who, wanted - 1, now),
        }
    }

    /// No worker until the next reload, or [`more`](Self::more).
    pub(super) fn none(&mut self, who: Asker, now: Instant) -> Vec<Action> {
        self.change(who, 0, now)
    }

    /// So many, at least one, and no more than there is room for.
    pub(super) fn exactly(&mut self, who: Asker, wanted: u32, now: Instant) -> Vec<Action> {
        self.change(who, wanted.clamp(1, self.room()), now)
    }

    /// The operator wants another worker in the place of this one.
    pub(super) fn recycle(&mut self, pid: Pid) -> Vec<Action> {
        if let Some(child) = self.child_mut(pid) {
            child.wear.get_or_insert(Wear::Asked);
        }
        Vec::new()
    }

    fn change(&mut self, who: Asker, wanted: u32, now: Instant) -> Vec<Action> {
        if self.is_stopping() || wanted == self.wanted() {
            return Vec::new();
        }
        let mut actions = vec![Action::Report(Report::Resized { who, workers: wanted })];
        if wanted > 0 {
            self.plan.workers = wanted;
            let current = self.current;
            self.generations.iter_mut().filter(|own| own.number == current).for_each(|own| own.plan.workers = wanted);
        }
        self.resize(wanted, now, &mut actions);
        actions
    }

    fn resize(&mut self, wanted: u32, now: Instant, actions: &mut Vec<Action>) {
        let wanted = wanted.min(self.room());
        while self.wanted() > wanted {
            let number = self.wanted();
            let renewal = self.renewal.take_if(|renewal| renewal.number == number);
            let successor = renewal.map(|renewal| (renewal.successor, renewal.generation));
            let holder = self.seats.pop().map(|seat| (seat.holder, seat.generation));
            for (holder, generation) in [holder, successor].into_iter().flatten() {
                self.forgo(holder, generation, now, actions);
            }
        }
        while self.wanted() < wanted {
            self.seats.push(Seat::vacant(now));
        }
    }

    /// How many workers there may be: a slot has to be left for replacements, and those of the templates.
    pub(super) fn room(&self) -> u32 {
        let has_templates = self.generations.iter().any(|own| own.template.is_some());
        let templates = if has_templates { TEMPLATES } else { 0 };
        self.slots.saturating_sub(1 + templates)
    }

    /// Who has a seat that is given up, or was to get it, is not wanted any more.
    fn forgo(&mut self, holder: Holder, generation: u32, now: Instant, actions: &mut Vec<Action>) {
        match holder {
            Holder::Held(pid) => self.let_go(pid, now, actions),
            Holder::Spawning { slot, .. } => self.unwanted.push(Unwanted { slot, generation }),
            Holder::Vacant { .. } | Holder::Failed(_) => {}
        }
    }

    /// Who has this seat or is to get it, if that is one of a generation that nobody has been ready of; and of which.
    fn unproven_holder(&mut self, number: u32) -> Option<(Holder, u32)> {
        let Seat { holder, generation: expected, .. } = *self.seat(number)?;
        let generation = match holder {
            Holder::Held(pid) => self.child(pid)?.generation,
            Holder::Spawning { .. } => expected,
            Holder::Vacant { .. } | Holder::Failed(_) => return None,
        };
        (generation > self.proven).then_some((holder, generation))
    }

    /// Tells a worker to leave.
    pub(super) fn let_go(&mut self, pid: Pid, now: Instant, actions: &mut Vec<Action>) {
        let graceful_timeout = self.plan.graceful_timeout;
        if let Some(child) = self.child_mut(pid)
            && child.dismiss(now, graceful_timeout)
        {
            actions.push(Action::Terminate(pid));
        }
    }
}

/// One worker after the other.
impl Children {
    /// Whether a newer generation is to take over and has not everywhere. Where no worker is wanted, there is nothing to
    /// take over.
    pub(in crate::master) fn is_reloading(&self) -> bool {
        self.stage == Stage::Serving && self.reported < self.current && !self.seats.is_empty()
    }

    /// What has become of a generation that has been tried.
    pub(in crate::master) fn outcome(&self, generation: u32) -> LastReload {
        if generation > self.current {
            LastReload::GivenUp { generation }
        } else if generation == self.current && self.is_reloading() {
            LastReload::UnderWay { generation }
        } else {
            LastReload::Serves { generation }
        }
    }

    pub(in crate::master) fn current(&self) -> u32 {
        self.current
    }

    fn is_proven(&self) -> bool {
        self.proven >= self.current
    }

    /// Whether a seat's own worker, which has come in the place of one that ended, will show if the generation can boot.
    fn is_being_tried(&self) -> bool {
        let is_ordered = |seat: &Seat| seat.holder.spawning().is_some() && seat.generation == self.current;
        let is_forked = |child: &Child| !child.is_template() && child.generation == self.current;
        !self.is_proven() && (self.living.iter().any(is_forked) || self.seats.iter().any(is_ordered))
    }

    /// Which generation an empty seat gets a worker of: none that might not boot, as long as there are others to try it on.
    pub(super) fn filling_generation(&self) -> u32 {
        let serves = self.seated().any(Child::is_ready);
        if self.is_proven() || !serves { self.current } else { self.proven.max(super::FIRST) }
    }

    /// Begins the next replacement, and has it forked when it is due.
    pub(super) fn renew(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.stage != Stage::Serving {
            return;
        }
        if self.renewal.is_none()
            && !self.is_being_tried()
            && let Some(number) = self.next_to_renew(now, actions)
        {
            let successor = Holder::Vacant { spawn_at: now };
            self.renewal = Some(Renewal { number, generation: self.current, successor });
        }
        let Some(Renewal { number, generation, successor: Holder::Vacant { spawn_at } }) = self.renewal else { return };
        if spawn_at <= now
            && let Some((slot, action)) = self.fork(number, generation)
        {
            let successor = Holder::Spawning { slot, since: now };
            self.renewal = Some(Renewal { number, generation, successor });
            actions.push(action);
        }
    }

    /// The seat whose worker is to be replaced next: an old generation before a worn worker.
    fn next_to_renew(&mut self, now: Instant, actions: &mut Vec<Action>) -> Option<u32> {
        // Those before others that a reload has already been at: another one may have come in its middle.
        let oldest = self.outdated().filter(|child| child.is_ready()).min_by_key(|child| child.generation);
        if let Some(child) = oldest {
            return Some(child.name.number);
        }
        let lifetime = self.plan.max_worker_lifetime;
        let worn = self.seated().find_map(|child| Some((child.name, wear(child, lifetime, now)?)));
        let (worker, wear) = worn?;
        actions.push(Action::Report(Report::Worn { worker, wear }));
        Some(worker.number)
    }

    /// The workers that have a seat.
    fn seated(&self) -> impl Iterator<Item = &Child> {
        self.seats.iter().filter_map(|seat| self.child(seat.holder.pid()?))
    }

    fn outdated(&self) -> impl Iterator<Item = &Child> {
        self.seated().filter(|child| child.generation < self.current)
    }

    /// When the next worker is too old, or the successor of one is due.
    pub(super) fn next_renewal(&self) -> Option<Instant> {
        let lifetime = self.plan.max_worker_lifetime;
        if self.renewal.is_some() || lifetime.is_zero() || self.stage != Stage::Serving || self.is_being_tried() {
            return None;
        }
        self.seated().filter_map(|child| Some(child.ready_since()? + lifetime)).min()
    }

    /// A successor is ready: the one before leaves.
    pub(super) fn hand_over(&mut self, pid: Pid, now: Instant, actions: &mut Vec<Action>) {
        let is_this = |renewal: &mut Renewal| renewal.successor == Holder::Held(pid);
        let Some(Renewal { number, .. }) = self.renewal.take_if(is_this) else { return };
        let Some(seat) = self.seat(number) else { return };
        let before = std::mem::replace(&mut seat.holder, Holder::Held(pid));
        if let Some(before) = before.pid() {
            self.let_go(before, now, actions);
        }
    }

    /// Says when the workers of a new generation serve in all places.
    pub(super) fn tell_of_reload(&mut self, actions: &mut Vec<Action>) {
        let is_new = |seat: &Seat| {
            let holder = seat.holder.pid().and_then(|pid| self.child(pid));
            holder.is_some_and(|child| child.is_ready() && child.generation == self.current)
        };
        if self.reported < self.current && self.is_proven() && self.seats.iter().all(is_new) {
            self.reported = self.current;
            actions.push(Action::Report(Report::Reloaded { generation: self.current, workers: self.wanted() }));
        }
    }

    /// A successor did not become ready.
    pub(super) fn successor_failed(&mut self, now: Instant, actions: &mut Vec<Action>) -> Next {
        let Some(Renewal { number, generation, .. }) = self.renewal.take() else { return Next::Nobody };
        if self.stage != Stage::Serving {
            return Next::Nobody;
        }
        if generation > self.proven {
            self.give_up(generation, now, actions);
            return Next::Nobody;
        }
        let Some(seat) = self.seat(number) else { return Next::Nobody };
        let pause = seat.backoff.next_pause(false);
        let successor = Holder::Vacant { spawn_at: now + pause };
        self.renewal = Some(Renewal { number, generation: self.current, successor });
        Next::Another(pause)
    }

    /// A generation that nobody has been ready of cannot boot: the one before goes on.
    pub(super) fn give_up(&mut self, generation: u32, now: Instant, actions: &mut Vec<Action>) {
        if generation != self.current || self.proven == 0 {
            return;
        }
        self.current = self.proven;
        actions.push(Action::Report(Report::GivenUp { generation, instead: self.proven }));
        if let Some(renewal) = self.renewal.take() {
            self.forgo(renewal.successor, renewal.generation, now, actions);
        }
        // Others may be starting that are as new, where nobody served: they go, too, or two generations would serve.
        for number in 1..=self.wanted() {
            let Some((holder, generation)) = self.unproven_holder(number) else { continue };
            self.forgo(holder, generation, now, actions);
            if let Some(seat) = self.seat(number) {
                seat.holder = Holder::Vacant { spawn_at: now };
            }
        }
        if let Some(proven) = self.generations.iter().find(|own| own.number == self.proven) {
            self.plan = proven.plan;
            if self.wanted() > 0 {
                self.resize(self.plan.workers, now, actions);
            }
        }
    }
}

/// What wears a worker out.
impl Children {
    pub(super) fn measured(&mut self, slot: u32, bytes: u64) -> Vec<Action> {
        let limit = self.plan.max_worker_rss;
        if let Some(child) = self.living.iter_mut().find(|child| child.slot == slot)
            && limit > 0
            && bytes > limit
        {
            child.wear = Some(Wear::Memory { bytes, limit });
        }
        Vec::new()
    }
}

fn wear(child: &Child, lifetime: Duration, now: Instant) -> Option<Wear> {
    let age = now.duration_since(child.ready_since()?);
    let is_old = !lifetime.is_zero() && age >= lifetime;
    child.wear.or_else(|| is_old.then_some(Wear::Age(age)))
}
