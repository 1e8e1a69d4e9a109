//! A child process: reset what was inherited, start Python, serve, leave. With `--preload`, [`template`] does the first
//! two for all of them.
#![forbid(unsafe_code)]

mod app_thread;
mod arriving;
mod callers;
mod channel;
mod client;
mod condemn;
mod deadlines;
mod engine;
mod inbox;
mod io;
mod leaving;
mod passing;
mod queue;
mod refusal;
mod signals;
mod spent;
mod spool;
mod stacks;
mod standby;
mod sync;
pub mod template;
mod threads;
mod timeouts;
mod title;
mod turn;
mod watched;
mod watching;

use self::threads::Crew;
pub use self::title::WorkerTitle;
use self::watching::Watching;
use crate::exit::Exit;
use crate::inboxes::Inboxes;
use crate::log::{self as logs, access::AccessLog};
use crate::net::Listener;
use crate::scoreboard::{Scoreboard, State};
use crate::settings::Settings;
use crate::sys::signal::{self, SelfPipe, Signal};
use crate::sys::{environment, memory};
use crate::wsgi::app::{self, LoadError};
use crate::wsgi::error_page;
use crate::wsgi::interpreter::{self, Interpreter};
use crate::wsgi::sources::Imports;
use pyo3::prelude::*;
use std::path::PathBuf;

/// What a worker needs from the process that forks it.
#[derive(Clone, Copy)]
pub struct Plan<'w> {
    /// All settings.
    pub settings: &'w Settings,
    /// Where to accept; shared with the other workers.
    pub listeners: &'w [Listener],
    /// Which Python runs the application.
    pub interpreter: &'w Interpreter,
    /// Where to tell how far it is.
    pub scoreboard: &'w Scoreboard,
    /// Through which connections move to and from the other workers; `None` if they stay where they were accepted.
    pub inboxes: Option<&'w Inboxes>,
    /// Which reading of the configuration the worker belongs to.
    pub generation: u32,
}

/// Why a worker did not get as far as serving.
enum BootError {
    /// The application cannot be loaded.
    App(String),
    /// Anything before it.
    Other(String),
}

impl BootError {
    fn other(error: impl std::fmt::Display) -> Self {
        Self::Other(error.to_string())
    }

    /// The sentence, and the status that goes with it.
    fn into_parts(self) -> (String, Exit) {
        match self {
            Self::App(message) => (message, Exit::AppCannotLoad),
            Self::Other(message) => (message, Exit::WorkersCannotBoot),
        }
    }

    /// Tells the operator, unless somebody has.
    fn report(self, scoreboard: &Scoreboard) -> Exit {
        let (message, exit) = self.into_parts();
        // All workers fail for the same reason; one of them tells it.
        if scoreboard.claim_boot_report() {
            log::error!("{message}");
        }
        exit
    }
}

/// What one worker has for itself.
pub struct Kit {
    /// Of the scoreboard.
    pub slot: u32,
    /// Opened before the fork, where a path that is wrong can still be told as a usage error.
    pub access_log: Option<AccessLog>,
    /// Of its process.
    pub title: WorkerTitle,
}

/// Lives the life of a worker, in the process that was just forked for it.
pub fn run(plan: Plan<'_>, kit: Kit) -> Exit {
    let exit = boot_and_serve(plan, kit).unwrap_or_else(|error| error.report(plan.scoreboard));
    interpreter::finalize();
    exit
}

/// Loads the application in this process, as a worker would, and lets go of it.
///
/// # Errors
/// The reason, and the status that goes with it.
pub fn check(settings: &Settings, interpreter: &Interpreter) -> Result<(), (String, Exit)> {
    let loaded = start_python(settings, interpreter).and_then(|()| {
        Python::attach(|py| load(py, settings)).map(drop).map_err(|error| BootError::App(error.to_string()))
    });
    interpreter::finalize();
    loaded.map_err(BootError::into_parts)
}

/// Makes a temporary file where bodies would be kept, and lets go of it.
///
/// # Errors
/// The folder of the settings is not there, or takes no files.
pub fn check_folder(settings: &Settings) -> std::io::Result<()> {
    spool::temporary_file(&settings.temporary_folder()).map(drop)
}

fn boot_and_serve(plan: Plan<'_>, kit: Kit) -> Result<Exit, BootError> {
    let signals = reset_inherited(&WORKER_SIGNALS).map_err(BootError::other)?;
    start_python(plan.settings, plan.interpreter)?;
    let serve = |imports: Option<&Imports>| {
        Python::attach(|py| serve(py, plan, kit, &signals, load_or_explain(py, plan, imports)?))
    };
    if !plan.settings.reload {
        return serve(None);
    }
    // It begins before the application is loaded, whose import may take long, and may have to be mended.
    let watching = Python::attach(|py| Watching::new(py, plan)).map_err(BootError::other)?;
    watching.during(|| serve(Some(watching.imports())))
}

fn serve(
    py: Python<'_>,
    plan: Plan<'_>,
    kit: Kit,
    signals: &SelfPipe,
    application: Py<PyAny>,
) -> Result<Exit, BootError> {
    let Kit { slot, access_log, title } = kit;
    let crew = Crew::new(py, plan, slot, signals, &application, access_log).map_err(BootError::Other)?;
    drop(application);
    crew.show(title);
    let ran = crew.run(py, || {
        if plan.settings.daemon {
            logs::leave_terminal();
        }
        plan.scoreboard.slot(slot).set_state(State::Ready);
        log::debug!("ready");
    });
    ran.map_err(BootError::Other)?;
    Ok(Exit::Stopped)
}

/// What a worker is told by a signal.
const WORKER_SIGNALS: [Signal; 2] = [Signal::Term, Signal::Usr1];

/// All that a child drops or sets anew. The master's handlers, self-pipe and mask go with the fork itself; Python
/// brings the rest of its state with it, since it starts after the fork.
fn reset_inherited(caught: &[Signal]) -> std::io::Result<SelfPipe> {
    memory::limit_retention();
    signal::reset_others()?;
    signal::ignore_broken_pipes()?;
    open_signals(caught)
}

/// The master decides when a child stops: ctrl-C reaches the whole process group, and `pkill -HUP minicorn` all of its
/// processes. So of the master's own signals it disregards those that are not `caught`.
fn open_signals(caught: &[Signal]) -> std::io::Result<SelfPipe> {
    let is_disregarded = |signal: &Signal| *signal != Signal::Chld && !caught.contains(signal);
    let disregarded: Vec<Signal> = Signal::ALL.into_iter().filter(is_disregarded).collect();
    SelfPipe::open(caught, &disregarded)
}

fn start_python(settings: &Settings, chosen: &Interpreter) -> Result<(), BootError> {
    for name in MASTERS_OWN {
        environment::remove(name).map_err(BootError::other)?;
    }
    for (name, value) in &settings.env {
        environment::set(name, value).map_err(BootError::other)?;
    }
    if chosen.is_virtual() {
        environment::remove("PYTHONHOME").map_err(BootError::other)?;
    }
    let folder = std::env::current_dir().map_err(|error| BootError::Other(format!("no working directory: {error}")))?;
    let path: Vec<PathBuf> = settings.pythonpath.iter().cloned().chain([folder]).collect();
    chosen.start(&settings.arguments, &path, logs::error_file().as_deref()).map_err(BootError::other)
}

/// Variables with which a supervisor speaks to the master. An application that found them would speak for it.
const MASTERS_OWN: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

fn load(py: Python<'_>, settings: &Settings) -> Result<Py<PyAny>, LoadError> {
    app::load(py, &settings.app)
}

/// The application; for a worker that reloads, what to serve until it can be loaded.
fn load_or_explain(py: Python<'_>, plan: Plan<'_>, imports: Option<&Imports>) -> Result<Py<PyAny>, BootError> {
    let application = match (load(py, plan.settings), imports) {
        (Ok(application), _) => application,
        (Err(error), Some(imports)) => explain(py, plan, &error, imports)?,
        (Err(error), None) => return Err(BootError::App(error.to_string())),
    };
    // All that it has imported is out of reach of the garbage collector.
    interpreter::freeze_garbage_collector(py).map_err(BootError::other)?;
    Ok(application)
}

/// What a worker serves that reloads, and whose application cannot be loaded: the reason, until it is mended.
fn explain(py: Python<'_>, plan: Plan<'_>, error: &LoadError, imports: &Imports) -> Result<Py<PyAny>, BootError> {
    error.files().iter().for_each(|file| imports.add(file.clone()));
    if plan.scoreboard.claim_failure_report(plan.generation) {
        log::error!("{error}");
        log::info!("until a file changes, every request is answered with this error");
    }
    error_page(py, error).map_err(BootError::other)
}
