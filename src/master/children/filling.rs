//! What follows from the time and the books, whatever the event was: empty seats are filled, orphans are looked after, the
//! end is noticed.

use std::time::Instant;

use super::seat::{BootFailure, Holder};
use super::templates::Source;
use super::{Action, Children, Stage};
use crate::exit::Exit;
use crate::master::child::{Child, Phase};
use crate::master::report::Report;

impl Children {
    pub(super) fn fill_seats(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_stopping() {
            return;
        }
        for number in 1..=self.wanted() {
            let generation = self.filling_generation();
            let is_due = self.seat(number).and_then(|seat| seat.holder.spawn_at()).is_some_and(|at| at <= now);
            if is_due && let Some((slot, action)) = self.fork(number, generation) {
                if let Some(seat) = self.seat(number) {
                    seat.holder = Holder::Spawning { slot, since: now };
                    seat.generation = generation;
                }
                actions.push(action);
            }
        }
    }

    /// How to get a worker, and its slot; `None` if there is no slot, or no template yet.
    pub(super) fn fork(&self, number: u32, generation: u32) -> Option<(u32, Action)> {
        let slot = self.free_slot()?;
        match self.source(generation) {
            Source::Wait => None,
            Source::Fork => Some((slot, Action::Spawn { number, slot, generation })),
            Source::Template(template) => Some((slot, Action::Order { number, slot, template })),
        }
    }

    pub(super) fn tell_of_orphans(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.orphans.is_some_and(|at| at <= now)
            && let Some(slot) = self.adopter()
        {
            self.orphans = None;
            actions.push(Action::Adopt { slot });
        }
    }

    /// Who is to look after the connections of others: a ready worker, or while none is ready one that is leaving.
    pub(super) fn adopter(&self) -> Option<u32> {
        let is_leaving = |child: &&Child| matches!(child.phase, Phase::Leaving { .. });
        let mut workers = self.living.iter().filter(|child| !child.is_template());
        let ready = workers.clone().find(|child| child.is_ready());
        ready.or_else(|| workers.find(is_leaving)).map(|child| child.slot)
    }

    pub(super) fn end(&self, actions: &mut Vec<Action>) {
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

    /// How the server ends if every one of the first set has failed, or the template that was to fork them.
    pub(super) fn boot_failure(&self) -> Option<Exit> {
        let template = self.generations.iter().find_map(|own| own.template.as_ref()?.holder.failure());
        template.max(self.seats_failure()).map(BootFailure::exit)
    }

    /// Why none of the first set has become ready, if there is nobody left of it.
    pub(super) fn seats_failure(&self) -> Option<BootFailure> {
        let failures = self.seats.iter().map(|seat| seat.holder.failure()).collect::<Option<Vec<_>>>();
        failures?.into_iter().max()
    }
}
