//! [`Seat`]: a place for a worker, or for a template, and who has it.

use std::time::{Duration, Instant};

use super::super::backoff::Backoff;
use crate::exit::Exit;
use crate::sys::process::{HowEnded, Pid};

/// One of the workers that the plan asks for, or the template of a generation.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) holder: Holder,
    pub(super) backoff: Backoff,
    /// Which generation its holder is of, while it is being forked.
    pub(super) generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// Nobody until then.
    Vacant { spawn_at: Instant },
    /// A child for this slot is being forked.
    Spawning { slot: u32, since: Instant },
    /// This child, until it ends, leaves or is late.
    Held(Pid),
    /// A child of the first set that did not become ready.
    Failed(BootFailure),
}

/// The greatest of several decides how the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BootFailure {
    NotForked,
    Ended,
    AppCannotLoad,
}

impl Seat {
    pub(super) fn vacant(spawn_at: Instant) -> Self {
        Self { holder: Holder::Vacant { spawn_at }, backoff: Backoff::default(), generation: 0 }
    }

    /// Its child has failed, which may have served before: the next one follows after the pause that is returned.
    pub(super) fn vacate(&mut self, has_served: bool, now: Instant) -> Duration {
        let pause = self.backoff.next_pause(has_served);
        self.holder = Holder::Vacant { spawn_at: now + pause };
        pause
    }
}

impl Holder {
    pub(super) fn spawn_at(&self) -> Option<Instant> {
        match *self {
            Self::Vacant { spawn_at } => Some(spawn_at),
            Self::Spawning { .. } | Self::Held(_) | Self::Failed(_) => None,
        }
    }

    /// The slot that a child is being forked for.
    pub(super) fn spawning(&self) -> Option<u32> {
        match *self {
            Self::Spawning { slot, .. } => Some(slot),
            Self::Vacant { .. } | Self::Held(_) | Self::Failed(_) => None,
        }
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        match *self {
            Self::Held(pid) => Some(pid),
            Self::Vacant { .. } | Self::Spawning { .. } | Self::Failed(_) => None,
        }
    }

    pub(super) fn failure(&self) -> Option<BootFailure> {
        match *self {
            Self::Failed(failure) => Some(failure),
            Self::Vacant { .. } | Self::Spawning { .. } | Self::Held(_) => None,
        }
    }
}

impl BootFailure {
    pub(super) fn of(how: HowEnded) -> Self {
        match how {
            HowEnded::Exited(status) if status == i32::from(Exit::AppCannotLoad.status()) => Self::AppCannotLoad,
            HowEnded::Exited(_) | HowEnded::Signaled(..) => Self::Ended,
        }
    }

    pub(super) fn exit(self) -> Exit {
        match self {
            Self::NotForked => Exit::Failed,
            Self::Ended => Exit::WorkersCannotBoot,
            Self::AppCannotLoad => Exit::AppCannotLoad,
        }
    }
}
