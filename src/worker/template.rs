//! The template: a child of the master that imports the application once, and forks a worker from itself for each
//! order.
//!
//! The workers share with it the memory that nobody has written to since. They are children of the master, which reaps
//! them: the process between template and worker ends at once (see [`process::fork_orphan`]).

use super::{
    BootError, Kit, Outlasting, Plan, WORKER_SIGNALS, WorkerTitle, configure_logging, effects, hooks, load_or_explain,
    open_signals, reset_inherited, serve, start_python, tell_stacks,
};
use crate::exit::Exit;
use crate::log::access::AccessLog;
use crate::log::{self as logs, Identity};
use crate::orders::{Order, Receiver};
use crate::scoreboard::{Scoreboard, State};
use crate::statsd::Statsd;
use crate::sys::memory;
use crate::sys::process::{self, OrphanFork, Pid};
use crate::sys::signal::{SelfPipe, Signal};
use crate::sys::title::Title;
use crate::wsgi::interpreter;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::io;

/// What a template does not share with the workers that it forks.
#[derive(Debug)]
pub struct Post {
    /// Its own slot of the scoreboard.
    pub slot: u32,
    /// The master: its parent, and that of the workers.
    pub master: Pid,
    /// What it is to do.
    pub orders: Receiver,
}

/// Lives the life of a template, in the process that was just forked for it; and that of each worker, in the processes
/// that it forks.
pub fn run(plan: Plan<'_>, post: Post, access_log: Option<AccessLog>, statsd: Option<Statsd>, title: Title) -> Exit {
    let exit =
        boot_and_fork(plan, post, access_log, statsd, title).unwrap_or_else(|error| error.report(plan.scoreboard));
    interpreter::finalize();
    logs::finish();
    exit
}

fn boot_and_fork(
    plan: Plan<'_>,
    post: Post,
    mut access_log: Option<AccessLog>,
    statsd: Option<Statsd>,
    title: Title,
) -> Result<Exit, BootError> {
    // The master ends it by way of the orders: a template that a signal ended would be missing.
    let signals = reset_inherited(&[Signal::Usr1]).map_err(BootError::other)?;
    start_python(plan.settings, plan.interpreter, effects(plan.settings))?;
    tell_stacks(plan);
    let hooks = hooks::load(plan)?;
    configure_logging(plan, hooks.as_ref())?;
    Python::attach(|py| {
        let application = load_or_explain(py, plan, None)?;
        save_memory();
        plan.scoreboard.slot(post.slot).set_state(State::Template);
        log::debug!("ready to fork workers");
        match fork_workers(py, plan, post, signals, &mut access_log)? {
            Place::Template => Ok(Exit::Stopped),
            Place::Worker(order, signals) => {
                follow_logs(&mut access_log);
                let title = WorkerTitle::new(title, order.number, &plan.settings.proc_name);
                let kit = Kit { slot: order.slot, age: order.age, access_log, statsd, title };
                let mut outlasting = Outlasting::default();
                let served = outlasting
                    .begin(hooks, plan, &kit)
                    .and_then(|hooks| serve(py, plan, kit, &signals, application, hooks));
                let exit = served.unwrap_or_else(|error| error.report(plan.scoreboard));
                py.detach(|| outlasting.end(plan, order.slot));
                Ok(exit)
            }
        }
    })
}

/// Before the first fork, since it is what the workers do not write to that they share.
fn save_memory() {
    memory::trim();
    if let Err(error) = memory::forget_files() {
        log::debug!("the files of the import stay mapped: {error}");
    }
}

/// The template has kept those files open that were the logs when it was forked; others may be by now.
fn follow_logs(access_log: &mut Option<AccessLog>) {
    for error in logs::reopen_all(access_log) {
        log::debug!("a log goes on in the file that the template has: {error}");
    }
}

/// Which process this is.
enum Place {
    /// The template still, and there will be no more orders.
    Template,
    /// The worker that was ordered.
    Worker(Order, SelfPipe),
}

/// Forks a worker for each order. Returns once in the template, and once in each worker.
fn fork_workers(
    py: Python<'_>,
    plan: Plan<'_>,
    mut post: Post,
    mut signals: SelfPipe,
    access_log: &mut Option<AccessLog>,
) -> Result<Place, BootError> {
    let scoreboard = plan.scoreboard;
    let mut has_warned = false;
    // Detached, so that the threads can run which the application may have started.
    while let Some(order) =
        py.detach(|| next_order(&mut post.orders, &signals, access_log)).map_err(BootError::other)?
    {
        has_warned = has_warned || warn_of_threads(py);
        let forked = interpreter::fork(py, || match fork_worker(order, scoreboard) {
            OrphanFork::Caller => Ok(false),
            OrphanFork::Orphan { between } => {
                become_worker(order, scoreboard, post.master, between, &mut signals).map(|()| true)
            }
        });
        if forked.map_err(BootError::other)? {
            return Ok(Place::Worker(order, signals));
        }
        // The first worker has the terminal still, to say there why it does not start.
        if plan.settings.daemon {
            logs::leave_terminal();
        }
    }
    Ok(Place::Template)
}

/// Waits for an order. Meanwhile the logs are opened anew when the master says so (SIGUSR1): the old ones would be kept
/// from being deleted.
fn next_order(
    orders: &mut Receiver,
    signals: &SelfPipe,
    access_log: &mut Option<AccessLog>,
) -> io::Result<Option<Order>> {
    loop {
        if !signals.drain().is_empty() {
            follow_logs(access_log);
        }
        if signals.wait(orders, None)? {
            return orders.receive();
        }
    }
}

fn fork_worker(order: Order, scoreboard: &Scoreboard) -> OrphanFork {
    let slot = scoreboard.slot(order.slot);
    let announce = |forked: io::Result<Pid>| match forked {
        // If nobody awaits it, it finds out itself.
        Ok(pid) => _ = slot.announce(order.ticket, pid),
        Err(error) => slot.announce_fork_error(order.ticket, &error),
    };
    process::fork_orphan(announce).unwrap_or_else(|error| {
        slot.announce_fork_error(order.ticket, &error);
        OrphanFork::Caller
    })
}

/// What [`reset_inherited`] is for a worker that comes from the master. The template has done the rest of it before the
/// import, and the application may have changed it since.
fn become_worker(
    order: Order,
    scoreboard: &Scoreboard,
    master: Pid,
    between: Pid,
    signals: &mut SelfPipe,
) -> io::Result<()> {
    logs::set_identity(Identity::Worker(order.number));
    process::become_child_of(master, between)?;
    let slot = scoreboard.slot(order.slot);
    // The process in between may have been killed before it could say so. While it lived, this one could not be sure.
    if !slot.announce(order.ticket, process::own_pid()) {
        log::debug!("ends before it starts: its template is gone, and another worker comes in its place");
        process::exit_now(Exit::Stopped.status());
    }
    // Not later: what the application does at a fork, such as starting a program, inherits the mask.
    *signals = open_signals(&WORKER_SIGNALS)?;
    Ok(())
}

/// Tells the operator which threads the workers lack, whatever they were for. Says whether there are any.
fn warn_of_threads(py: Python<'_>) -> bool {
    match other_threads(py) {
        Ok(names) if names.is_empty() => false,
        Ok(names) => {
            let names = Vec::from_iter(names.iter().map(|(name, &count)| counted(name, count))).join(", ");
            log::warn!(
                "--preload: the workers will not have the threads that the application has started at its import: {names}"
            );
            true
        }
        Err(error) => {
            log::debug!("the threads of the application cannot be listed: {error}");
            false
        }
    }
}

/// All but this one, by name. Libraries start some that Python does not know.
fn other_threads(py: Python<'_>) -> io::Result<BTreeMap<String, usize>> {
    let known = BTreeMap::from_iter(interpreter::other_threads(py).map_err(io::Error::other)?);
    let mut names = BTreeMap::new();
    for (number, native_name) in process::other_threads()? {
        let name = known.get(&number).map_or_else(|| format!("'{native_name}' (native)"), |name| format!("'{name}'"));
        *names.entry(name).or_default() += 1;
    }
    Ok(names)
}

fn counted(name: &str, count: usize) -> String {
    if count == 1 { name.to_owned() } else { format!("{count} × {name}") }
}
