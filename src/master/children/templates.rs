//! Generations, and the templates that fork their workers when the application is preloaded.

use std::time::{Duration, Instant};

use super::seat::{BootFailure, Holder, Seat};
use super::{Action, Children, Stage};
use crate::master::child::{Child, TIME_TO_DROP};
use crate::master::plan::Plan;
use crate::master::report::{Life, Next};
use crate::sys::process::Pid;

/// One reading of the configuration, and the workers made from it.
#[derive(Debug)]
pub(super) struct Generation {
    /// Counted from 1.
    pub(super) number: u32,
    /// What it asks for, by now.
    pub(super) plan: Plan,
    /// Where its workers come from; `None`: from the master.
    pub(super) template: Option<Seat>,
}

impl Generation {
    pub(super) fn new(number: u32, plan: &Plan, now: Instant) -> Self {
        Self { number, plan: *plan, template: plan.preload.then(|| Seat::vacant(now)) }
    }
}

/// What was ordered of a template, and is not wanted any more.
#[derive(Debug)]
pub(super) struct Unwanted {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// Who forks the workers of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The master.
    Fork,
    /// This template.
    Template(Pid),
    /// A template that is not ready, or not there.
    Wait,
}

/// How long a template may take to fork. It does nothing else.
pub(super) const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// For the exit functions of the application, which run in the template too.
const TIME_TO_LEAVE: Duration = Duration::from_secs(2);

impl Children {
    pub(super) fn source(&self, generation: u32) -> Source {
        let Some(own) = self.generations.iter().find(|own| own.number == generation) else { return Source::Wait };
        let Some(template) = &own.template else { return Source::Fork };
        let ready = template.holder.pid().filter(|&pid| self.child(pid).is_some_and(Child::is_ready));
        ready.map_or(Source::Wait, Source::Template)
    }

    /// When a template is due.
    pub(super) fn next_template(&self) -> Option<Instant> {
        let needed = self.generations.iter().filter(|own| self.is_needed(own.number));
        needed.filter_map(|own| own.template.as_ref()?.holder.spawn_at()).min()
    }

    /// Whether workers may be made of this generation.
    fn is_needed(&self, generation: u32) -> bool {
        let is_awaited = self.renewal.as_ref().is_some_and(|renewal| renewal.generation == generation);
        generation == self.current || generation == self.proven || is_awaited
    }

    pub(super) fn fill_templates(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_stopping() {
            return;
        }
        for index in 0..self.generations.len() {
            let Generation { number: generation, template: Some(seat), .. } = &self.generations[index] else {
                continue;
            };
            let generation = *generation;
            let is_due = seat.holder.spawn_at().is_some_and(|at| at <= now);
            if !is_due || !self.is_needed(generation) {
                continue;
            }
            let Some(slot) = self.free_slot() else { return };
            if let Some(template) = &mut self.generations[index].template {
                template.holder = Holder::Spawning { slot, since: now };
            }
            actions.push(Action::Spawn { number: 0, slot, generation });
        }
    }

    fn template(&mut self, generation: u32) -> Option<&mut Seat> {
        self.generations.iter_mut().find(|own| own.number == generation)?.template.as_mut()
    }

    /// A template is gone; what was ordered from it will not come.
    pub(super) fn template_ended(
        &mut self,
        child: &Child,
        failure: BootFailure,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Next {
        let generation = child.generation;
        for slot in self.ordered_slots_of(generation) {
            actions.extend(self.spawn_failed(slot, "its template is gone".to_owned(), now));
        }
        let held = Holder::Held(child.name.pid);
        match self.template(generation) {
            Some(seat) if seat.holder == held => {
                // One that was told to leave is not the reason for anything.
                let failure = if child.life() == Life::Leaving { BootFailure::NotForked } else { failure };
                if child.has_settled(now) {
                    seat.backoff.reset();
                }
                self.template_failed(generation, failure, now, actions)
            }
            Some(_) | None => Next::Nobody,
        }
    }

    pub(super) fn template_failed(
        &mut self,
        generation: u32,
        failure: BootFailure,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Next {
        let (stage, is_unproven) = (self.stage, generation > self.proven);
        let Some(seat) = self.template(generation) else { return Next::Nobody };
        match stage {
            Stage::Booting => {
                seat.holder = Holder::Failed(failure);
                Next::Undecided
            }
            Stage::Serving if is_unproven => {
                // A worker of it may be on its way, and prove it, after a newer generation has come.
                seat.vacate(false, now);
                self.give_up(generation, now, actions);
                Next::Nobody
            }
            Stage::Serving => Next::Another(seat.vacate(false, now)),
            Stage::Stopping { .. } => {
                seat.holder = Holder::Vacant { spawn_at: now };
                Next::Nobody
            }
        }
    }

    /// The slots that templates have been told to fork workers for, and have not.
    pub(in crate::master) fn ordered_slots(&self) -> Vec<u32> {
        let unwanted = self.unwanted.iter().map(|order| order.slot);
        self.holders().filter_map(Holder::spawning).chain(unwanted).collect()
    }

    fn ordered_slots_of(&self, generation: u32) -> Vec<u32> {
        let is_of = |slot: &u32| match self.expected_in(*slot) {
            Some((number, own)) => number > 0 && own == generation,
            None => self.unwanted.iter().any(|order| order.slot == *slot && order.generation == generation),
        };
        self.ordered_slots().into_iter().filter(is_of).collect()
    }

    /// The slots that this process, if it is a template, has been told to fork workers for, and has not.
    pub(in crate::master) fn slots_ordered_from(&self, pid: Pid) -> Vec<u32> {
        let template = self.child(pid).filter(|child| child.is_template());
        template.map(|child| self.ordered_slots_of(child.generation)).unwrap_or_default()
    }

    /// Which generation it is of what has come for this slot, or has failed to, and is not wanted any more.
    pub(super) fn answered(&mut self, slot: u32) -> Option<u32> {
        let index = self.unwanted.iter().position(|order| order.slot == slot)?;
        Some(self.unwanted.swap_remove(index).generation)
    }

    /// When an order is overdue.
    pub(super) fn late_order(&self) -> Option<Instant> {
        self.orders().map(|(since, _)| since + ORDER_TIMEOUT).min()
    }

    /// The templates that do not do what they were told to.
    pub(super) fn late_templates(&self, now: Instant) -> Vec<Pid> {
        self.orders().filter(|(since, _)| *since + ORDER_TIMEOUT <= now).map(|(_, template)| template).collect()
    }

    /// What has been ordered and is not there, since when, and from whom.
    fn orders(&self) -> impl Iterator<Item = (Instant, Pid)> {
        self.holders().filter_map(|holder| match *holder {
            Holder::Spawning { slot, since } => match self.source(self.expected_in(slot)?.1) {
                Source::Template(pid) => Some((since, pid)),
                Source::Fork | Source::Wait => None,
            },
            Holder::Vacant { .. } | Holder::Held(_) | Holder::Failed(_) => None,
        })
    }

    /// Lets go of templates that nobody needs any more, and forgets generations that nothing is left of.
    pub(super) fn retire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_ending = self.is_stopping() || (self.is_booting() && self.seats_failure().is_some());
        let numbers: Vec<u32> = self.generations.iter().map(|own| own.number).collect();
        for generation in numbers {
            let is_needed = self.is_needed(generation);
            if (is_ending || !is_needed)
                && let Some(template) = self.template(generation).and_then(|seat| seat.holder.pid())
            {
                self.dismiss_template(template, now, actions);
            }
            let has_children = self.living.iter().any(|child| child.generation == generation)
                || self.unwanted.iter().any(|order| order.generation == generation);
            if !is_needed && !has_children {
                self.generations.retain(|own| own.number != generation);
                actions.push(Action::Retire { generation });
            }
        }
    }

    /// It does what has been ordered, then it leaves.
    fn dismiss_template(&mut self, template: Pid, now: Instant, actions: &mut Vec<Action>) {
        let Some(child) = self.child_mut(template) else { return };
        let time = if child.is_ready() { TIME_TO_LEAVE } else { TIME_TO_DROP };
        if child.drop_within(time, now) {
            actions.push(Action::Dismiss { template });
        }
    }
}
