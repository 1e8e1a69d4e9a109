//! A child process: reset what was inherited, start Python, serve, leave.
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
mod spool;
mod stacks;
mod standby;
mod sync;
mod threads;
mod timeouts;
mod turn;

use self::threads::Crew;
use crate::exit::Exit;
use crate::inboxes::Inboxes;
use crate::log::access::AccessLog;
use crate::net::Listener;
use crate::scoreboard::{Scoreboard, State};
use crate::settings::Settings;
use crate::sys::signal::{self, SelfPipe, Signal};
use crate::sys::{environment, memory};
use crate::wsgi::app;
use crate::wsgi::interpreter::{self, Interpreter};
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
}

/// Lives the life of worker `index`, in the process that was just forked for it. The access log is opened before the
/// fork, where a path that is wrong can still be told as a usage error.
pub fn run(plan: Plan<'_>, index: u32, access_log: Option<AccessLog>) -> Exit {
    let exit = match boot_and_serve(plan, index, access_log) {
        Ok(exit) => exit,
        Err(error) => {
            let (message, exit) = match error {
                BootError::App(message) => (message, Exit::AppCannotLoad),
                BootError::Other(message) => (message, Exit::WorkersCannotBoot),
            };
            // All workers fail for the same reason; one of them tells it.
            if plan.scoreboard.claim_boot_report() {
                log::error!("{message}");
            }
            exit
        }
    };
    interpreter::finalize();
    exit
}

/// Loads the application in this process, as a worker would, and lets go of it.
///
/// # Errors
/// The reason, and the status that goes with it.
pub fn check(settings: &Settings, interpreter: &Interpreter) -> Result<(), (String, Exit)> {
    let loaded = start_python(settings, interpreter).and_then(|()| Python::attach(|py| load(py, settings)).map(drop));
    interpreter::finalize();
    loaded.map_err(|error| match error {
        BootError::App(message) => (message, Exit::AppCannotLoad),
        BootError::Other(message) => (message, Exit::WorkersCannotBoot),
    })
}

/// Makes a temporary file where bodies would be kept, and lets go of it.
///
/// # Errors
/// The folder of the settings is not there, or takes no files.
pub fn check_folder(settings: &Settings) -> std::io::Result<()> {
    spool::temporary_file(&settings.temporary_folder()).map(drop)
}

fn boot_and_serve(plan: Plan<'_>, index: u32, access_log: Option<AccessLog>) -> Result<Exit, BootError> {
    let signals = reset_inherited().map_err(BootError::other)?;
    start_python(plan.settings, plan.interpreter)?;
    Python::attach(|py| {
        let application = load(py, plan.settings)?;
        interpreter::freeze_garbage_collector(py).map_err(BootError::other)?;
        let crew = Crew::new(py, plan, index, &signals, &application, access_log).map_err(BootError::Other)?;
        drop(application);
        let ran = crew.run(py, || {
            plan.scoreboard.slot(index).set_state(State::Ready);
            log::debug!("ready");
        });
        ran.map_err(BootError::Other)?;
        Ok(Exit::Stopped)
    })
}

/// All that a child drops or sets anew. The master's handlers, self-pipe and mask go with the fork itself; Python
/// brings the rest of its state with it, since it starts after the fork.
fn reset_inherited() -> std::io::Result<SelfPipe> {
    memory::limit_retention();
    signal::reset_others()?;
    signal::ignore_broken_pipes()?;
    // The master decides when a worker stops: ctrl-C reaches the whole process group, and `pkill -HUP minicorn` all
    // of its processes.
    let disregarded =
        [Signal::Int, Signal::Quit, Signal::Hup, Signal::Usr1, Signal::Usr2, Signal::Winch, Signal::Ttin, Signal::Ttou];
    SelfPipe::open(&[Signal::Term], &disregarded)
}

fn start_python(settings: &Settings, chosen: &Interpreter) -> Result<(), BootError> {
    for (name, value) in &settings.env {
        environment::set(name, value).map_err(BootError::other)?;
    }
    if chosen.is_virtual() {
        environment::remove("PYTHONHOME").map_err(BootError::other)?;
    }
    let folder = std::env::current_dir().map_err(|error| BootError::Other(format!("no working directory: {error}")))?;
    let path: Vec<PathBuf> = settings.pythonpath.iter().cloned().chain([folder]).collect();
    chosen.start(&settings.arguments, &path).map_err(BootError::other)
}

fn load(py: Python<'_>, settings: &Settings) -> Result<Py<PyAny>, BootError> {
    app::load(py, &settings.app).map_err(|error| BootError::App(error.to_string()))
}
