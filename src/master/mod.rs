//! The parent process: wait, decide, act. One thread, no Python; it never parses HTTP and never calls the application.
//!
//! [`children`] decides, [`report`] says it to the operator, and [`supervisor`] waits and acts. What a worker does, and
//! whatever else is not supervision, is the [`Host`]'s.
#![forbid(unsafe_code)]

mod backoff;
mod child;
mod children;
mod host;
mod plan;
mod report;
mod supervisor;
mod tally;
mod view;

use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::process as std_process;

use log::error;

pub use self::host::{Host, News, WorkerIdentity};
pub use self::plan::Plan;
use self::supervisor::Supervisor;
pub use self::tally::Tally;
pub use self::view::{ChildView, LastReload, ServerStage, View, Wish};
use crate::exit::Exit;
use crate::inboxes::Inboxes;
use crate::orders;
use crate::scoreboard::Scoreboard;
use crate::sys::process;
use crate::sys::signal::{SelfPipe, Signal};

/// What the master has in common with its workers, made before the first of them.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// With [`Plan::slots`] slots.
    pub scoreboard: &'a Scoreboard,
    /// One for each slot; `None` if connections stay where they were accepted.
    pub inboxes: Option<&'a Inboxes>,
}

/// Runs workers until asked to stop.
pub fn run(plan: &Plan, shared: Shared<'_>, host: &mut dyn Host) -> Exit {
    match supervise(plan, shared, host) {
        Outcome::Ended(exit) => exit,
        Outcome::InChild(identity, orders) => become_child(identity, orders, host),
    }
}

/// How the supervision ends, in the process that it ends in.
enum Outcome {
    /// In the master.
    Ended(Exit),
    /// In a new worker, or with orders in a new template. Since the loop was left, all that the master owned has been
    /// dropped.
    InChild(WorkerIdentity, Option<orders::Receiver>),
}

fn become_child(identity: WorkerIdentity, orders: Option<orders::Receiver>, host: &mut dyn Host) -> ! {
    if let Err(error) = process::die_with_parent(identity.parent) {
        error!("worker {} ends before it starts: {error}", identity.number);
        process::exit_now(Exit::Failed.status());
    }
    let child = || match orders {
        None => host.work(identity),
        Some(orders) => host.work_as_template(identity, orders),
    };
    // A panic must not unwind into code that belongs to the master.
    match panic::catch_unwind(AssertUnwindSafe(child)) {
        Ok(exit) => process::exit_now(exit.status()),
        Err(_) => std_process::abort(),
    }
}

fn supervise(plan: &Plan, shared: Shared<'_>, host: &mut dyn Host) -> Outcome {
    let signals = match SelfPipe::open(&Signal::ALL, &[]) {
        Ok(signals) => signals,
        Err(error) => {
            error!("signals cannot be caught: {error}");
            return Outcome::Ended(Exit::Failed);
        }
    };
    let mut supervisor = Supervisor::new(plan, shared, signals, host);
    loop {
        if let ControlFlow::Break(outcome) = supervisor.turn() {
            return outcome;
        }
    }
}
