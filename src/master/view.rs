//! [`View`]: what the master knows of its workers, for those who look at the server from outside; and [`Wish`], what they
//! want of it.

use std::time::Instant;

use super::tally::Tally;
use crate::sys::process::Pid;

/// What the master knows of its workers.
#[derive(Clone, Debug)]
pub struct View {
    /// How far the server is.
    pub stage: ServerStage,
    /// Workers asked for.
    pub wanted: u32,
    /// Workers that serve.
    pub ready: u32,
    /// The reading of the configuration that all workers are to be of.
    pub generation: u32,
    /// Whether workers of another one still serve.
    pub is_reloading: bool,
    /// The most workers that there is room for, until a restart.
    pub workers_max: u32,
    /// How often the configuration has been read again, or was to be.
    pub reloads: u32,
    /// What has become of it the last time.
    pub last_reload: Option<LastReload>,
    /// What has happened since the start.
    pub tally: Tally,
    /// All children, in the order of their forks.
    pub children: Vec<ChildView>,
}

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStage {
    /// No worker has been ready.
    Starting,
    /// It serves.
    Serving,
    /// It has been asked to stop; it may serve still, for `--shutdown-delay`.
    Stopping,
}

/// What has become of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastReload {
    /// The configuration cannot be used, for that reason; nothing has changed.
    Refused(String),
    /// It is on its way.
    UnderWay {
        /// The new one.
        generation: u32,
    },
    /// It serves in all places.
    Serves {
        /// The new one.
        generation: u32,
    },
    /// None of its workers became ready.
    GivenUp {
        /// The new one.
        generation: u32,
    },
}

/// A worker or a template.
#[derive(Clone, Copy, Debug)]
pub struct ChildView {
    /// Of the scoreboard.
    pub slot: u32,
    /// 1 to N; 0: a template.
    pub number: u32,
    /// Its process.
    pub pid: Pid,
    /// The reading of the configuration that it was made from.
    pub generation: u32,
    /// In one word.
    pub phase: &'static str,
    /// When it was forked.
    pub forked_at: Instant,
}

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// As SIGHUP.
    Reload,
    /// So many workers, between one and [`View::workers_max`].
    Workers(u32),
    /// As SIGTERM.
    Stop,
    /// All workers are killed.
    StopAtOnce,
    /// Another worker in the place of this one, which serves until that is ready.
    Recycle(Pid),
    /// As SIGUSR1.
    ReopenLogs,
}
