//! [`Plan`]: how many workers there shall be, and how long the master waits for them.

use std::time::Duration;

/// What the master has to know of a reading of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// At least one.
    pub workers: u32,
    /// Whether a template forks the workers, after it has imported the application.
    pub preload: bool,
    /// From SIGTERM until a worker that has not finished is killed.
    pub graceful_timeout: Duration,
    /// The longest call of the application; zero: unlimited.
    pub timeout: Duration,
    /// From the fork until a worker is ready; zero: unlimited.
    pub boot_timeout: Duration,
    /// Whether SIGWINCH may come from a terminal, and means nothing.
    pub has_terminal: bool,
    /// From SIGTERM until the workers are told.
    pub shutdown_delay: Duration,
    /// After which a worker is replaced; zero: never.
    pub max_worker_lifetime: Duration,
    /// Bytes in RAM above which a worker is replaced; zero: never.
    pub max_worker_rss: u64,
}

/// Slots for this many workers are there at least, for SIGTTIN: they cost little, and cannot be made later.
const WORKERS_MIN: u32 = 8;

/// The templates of two generations.
pub(super) const TEMPLATES: u32 = 2;

impl Plan {
    /// How many slots the scoreboard should have: each worker may have a predecessor that is still on its way out. With
    /// fewer, a replacement waits until one is gone.
    pub const fn slots(&self) -> u32 {
        let workers = if self.workers < WORKERS_MIN { WORKERS_MIN } else { self.workers };
        let templates = if self.preload { TEMPLATES } else { 0 };
        workers.saturating_mul(2).saturating_add(templates)
    }
}
