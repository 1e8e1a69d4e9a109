//! [`Host`]: what the program around the master does for it.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::view::{View, Wish};
use crate::exit::Exit;
use crate::orders;
#[cfg(doc)]
use crate::sys::process;
use crate::sys::process::{Fork, HowEnded, Pid};
use std::io;

/// What the program around the master does for it.
pub trait Host {
    /// A worker is about to be forked, by the master or by a template. Not called for templates.
    ///
    /// # Errors
    /// It is not to be, for this reason.
    fn will_spawn(&mut self, coming: WorkerIdentity) -> Result<(), String>;

    /// It has been, and is this process.
    fn has_spawned(&mut self, slot: u32, pid: Pid);

    /// A child has been reaped, whether a worker or not.
    fn has_ended(&mut self, pid: Pid);

    /// So many workers are wanted from now on, or still.
    fn wants_workers(&mut self, count: u32);

    /// Forks the master: into [`work`](Self::work) or [`work_as_template`](Self::work_as_template).
    ///
    /// # Errors
    /// Those of [`process::fork`].
    fn fork(&mut self) -> io::Result<Fork>;

    /// What a worker does. Runs in the forked process, which ends with the value as its status.
    ///
    /// It finds every signal blocked until it opens its own [`SelfPipe`](crate::sys::signal::SelfPipe); the handlers and descriptors of the master are
    /// gone, what is [`Shared`](super::Shared) stays, and the kernel kills it when the master dies.
    fn work(&mut self, identity: WorkerIdentity) -> Exit;

    /// What a template does: it imports the application and forks workers when ordered to. Runs in the forked process, as
    /// [`work`](Self::work) does.
    fn work_as_template(&mut self, identity: WorkerIdentity, orders: orders::Receiver) -> Exit;

    /// The first worker is ready.
    fn started(&mut self);

    /// The configuration is to be read again: the plan of the new generation, or why there is none.
    ///
    /// # Errors
    /// One sentence for the operator. All stays as it was.
    fn reload(&mut self, generation: u32) -> Result<Plan, String>;

    /// The first worker of this generation is ready, so that those of the generations before it will leave, and have not
    /// been told to.
    fn proven(&mut self, generation: u32);

    /// No worker of this generation is left, and none will come.
    fn retire(&mut self, generation: u32);

    /// The log files are to be opened anew (SIGUSR1). The workers are told after it.
    fn reopen_logs(&mut self);

    /// Another master is to take over the listeners (SIGUSR2).
    fn upgrade(&mut self);

    /// A child that is not a worker has ended. Returns whether it was known.
    fn other_ended(&mut self, pid: Pid, how: HowEnded) -> bool;

    /// A child may have ended, or the parent: both send SIGCHLD.
    fn look_at_family(&mut self);

    /// The workers are about to be told to stop: nobody is to connect any more, and who has connected is answered. Returns
    /// whether that is so; not if another server accepts from the same listeners.
    fn stop_listening(&mut self) -> bool;

    /// For whoever supervises the server.
    fn announce(&mut self, news: News);

    /// How often [`News::Alive`] is wanted; `None`: never.
    fn alive_interval(&self) -> Option<Duration>;

    /// Readable when [`serve`](Self::serve) has something to do.
    fn door(&self) -> Option<BorrowedFd<'_>>;

    /// When it has, at the latest.
    fn door_deadline(&self) -> Option<Instant>;

    /// Attends to those who ask the server about itself, without waiting for them. Returns what they want done.
    fn serve(&mut self, view: &View) -> Vec<Wish>;
}

/// What has become of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The first worker is ready.
    Ready,
    /// So many workers serve now of those that should.
    Serving {
        /// Ready.
        ready: u32,
        /// Asked for.
        wanted: u32,
    },
    /// A new generation is on its way.
    Reloading,
    /// It serves, or has been given up.
    Reloaded,
    /// The workers are being told to stop.
    Stopping,
    /// The master's loop turns.
    Alive,
}

/// Who a forked worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerIdentity {
    /// Its slot of the scoreboard.
    pub slot: u32,
    /// Its number in the log, 1 to N; a replacement has the number of the one it replaces. 0 for a template.
    pub number: u32,
    /// Which reading of the configuration it belongs to, counted from 1.
    pub generation: u32,
    /// The master.
    pub parent: Pid,
    /// How many workers the master has asked for so far, with this one; 0 for a template.
    pub age: u32,
}
