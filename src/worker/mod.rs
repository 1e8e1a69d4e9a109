//! A child process: reset what was inherited, start Python, serve, leave. With `--preload`, [`template`] does the first
//! two for all of them.
#![forbid(unsafe_code)]

mod app_thread;
mod arriving;
mod callers;
mod census;
mod channel;
mod client;
mod condemn;
mod counting;
mod deadlines;
mod delivery;
mod engine;
mod hooks;
mod inbox;
mod io;
mod leaving;
mod passing;
mod proxied;
mod queue;
mod records;
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

use self::delivery::Delivery;
use self::hooks::Outlasting;
pub use self::hooks::facts as listener_facts;
use self::threads::Crew;
pub use self::title::WorkerTitle;
use self::watching::Watching;
use crate::exit::Exit;
use crate::inboxes::Inboxes;
use crate::log::{self as logs, access::AccessLog};
use crate::net::Listeners;
use crate::scoreboard::{Scoreboard, State};
use crate::settings::{Effects, Settings};
use crate::statsd::Statsd;
use crate::sys::signal::{self, SelfPipe, Signal};
use crate::sys::{asked, environment, memory};
use crate::wsgi::Hooks;
use crate::wsgi::app::{self, LoadError};
use crate::wsgi::error_page;
use crate::wsgi::interpreter::{self, Interpreter};
use crate::wsgi::logging;
use crate::wsgi::sources::Imports;
use crate::wsgi::spew;
use pyo3::prelude::*;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a worker needs from the process that forks it.
#[derive(Clone, Copy)]
pub struct Plan<'w> {
    /// All settings.
    pub settings: &'w Settings,
    /// Where to accept; shared with the other workers.
    pub listeners: &'w Listeners,
    /// Which Python runs the application.
    pub interpreter: &'w Interpreter,
    /// Where to tell how far it is.
    pub scoreboard: &'w Scoreboard,
    /// Through which connections move to and from the other workers; `None` if they stay where they were accepted.
    pub inboxes: Option<&'w Inboxes>,
    /// Which reading of the configuration the worker belongs to.
    pub generation: u32,
    /// The hooks of its configuration file, if the master has run that.
    pub hooks: Option<&'w Arc<Hooks>>,
    /// Where the server was started.
    pub folder: &'w Path,
    /// Where it writes its stacks when the master asks for them; `None`: it is not asked.
    pub stacks: Option<&'w File>,
    /// The application, if it is an object of the process that forks the worker; `None`: it is to be imported.
    pub application: Option<&'w Py<PyAny>>,
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
    /// How many workers the master has asked for so far, with this one.
    pub age: u32,
    /// Opened before the fork, where a path that is wrong can still be told as a usage error.
    pub access_log: Option<AccessLog>,
    /// Where metrics go.
    pub statsd: Option<Statsd>,
    /// Of its process.
    pub title: WorkerTitle,
}

/// Lives the life of a worker, in the process that was just forked for it.
pub fn run(plan: Plan<'_>, kit: Kit) -> Exit {
    let slot = kit.slot;
    let mut outlasting = Outlasting::default();
    let exit = boot_and_serve(plan, kit, &mut outlasting).unwrap_or_else(|error| error.report(plan.scoreboard));
    outlasting.end(plan, slot);
    interpreter::finalize();
    logs::finish();
    exit
}

/// Loads the application in this process, as a worker would, and lets go of it.
///
/// # Errors
/// The reason, and the status that goes with it.
pub fn check(settings: &Settings, interpreter: &Interpreter) -> Result<(), (String, Exit)> {
    // Nobody runs the configuration file here.
    let loaded = start_python(settings, interpreter, &settings.effects).and_then(|()| {
        Python::attach(|py| app::load(py, &settings.app)).map(drop).map_err(|error| BootError::App(error.to_string()))
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

fn boot_and_serve(plan: Plan<'_>, kit: Kit, outlasting: &mut Outlasting) -> Result<Exit, BootError> {
    let signals = reset_inherited(&WORKER_SIGNALS).map_err(BootError::other)?;
    start_python(plan.settings, plan.interpreter, effects(plan.settings))?;
    tell_stacks(plan);
    let hooks = hooks::load(plan)?;
    configure_logging(plan, hooks.as_ref())?;
    let hooks = outlasting.begin(hooks, plan, &kit)?;
    let serve = |imports: Option<&Imports>| {
        Python::attach(|py| serve(py, plan, kit, &signals, load_or_explain(py, plan, imports)?, hooks))
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
    hooks: Option<&Arc<Hooks>>,
) -> Result<Exit, BootError> {
    let Kit { slot, access_log, statsd, title, .. } = kit;
    let mut crew = Crew::new(py, plan, slot, signals, &application, (access_log, statsd)).map_err(BootError::Other)?;
    if let Some(hooks) = hooks {
        hooks.post_worker_init(&application).map_err(BootError::other)?;
        crew.set_hooks(hooks);
    }
    drop(application);
    let delivery = Delivery::of_filtered_requests(py, plan.settings);
    crew.show(title);
    let ran = crew.run(py, || {
        if plan.settings.daemon {
            logs::leave_terminal();
        }
        plan.scoreboard.slot(slot).set_state(State::Ready);
        log::debug!("ready");
    });
    py.detach(|| drop(delivery));
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

/// As `--log-config` says, unless the master has done it.
fn configure_logging(plan: Plan<'_>, hooks: Option<&Arc<Hooks>>) -> Result<(), BootError> {
    if !logging::is_configured(plan.settings) || plan.hooks.is_some() {
        return Ok(());
    }
    logging::configure(plan.settings, hooks.map(Arc::as_ref)).map_err(BootError::Other)
}

/// What a worker is to take over from the configuration file: what it does not do by running the file.
fn effects(settings: &Settings) -> &Effects {
    if hooks::run_the_file(settings) { &NO_EFFECTS } else { &settings.effects }
}

static NO_EFFECTS: Effects =
    Effects { variables: Vec::new(), removed: Vec::new(), path_before: Vec::new(), path_behind: Vec::new() };

fn start_python(settings: &Settings, chosen: &Interpreter, effects: &Effects) -> Result<(), BootError> {
    if settings.logging.capture_output {
        logs::capture_output().map_err(|error| BootError::Other(format!("--capture-output: {error}")))?;
    }
    run_python(settings, chosen, effects)?;
    Python::attach(|py| {
        if settings.spew {
            spew::begin(py);
        }
        logging::bridge(py, settings.log_level).map_err(BootError::other)
    })
}

fn run_python(settings: &Settings, chosen: &Interpreter, effects: &Effects) -> Result<(), BootError> {
    let folder = std::env::current_dir().map_err(|error| BootError::Other(format!("no working directory: {error}")))?;
    let before = settings.pythonpath.iter().chain(&effects.path_before).cloned();
    // As with gunicorn, what is where the server was started can be imported too.
    let path: Vec<PathBuf> = before.chain([folder]).chain(settings.start_folder.clone()).collect();
    // --env has the last word.
    let is_free = |(name, _): &&(String, String)| !settings.env.iter().any(|(own, _)| own == name);
    let variables: Vec<_> = effects.variables.iter().filter(is_free).chain(&settings.env).cloned().collect();
    let removed: Vec<&str> = MASTERS_OWN.into_iter().chain(effects.removed.iter().map(String::as_str)).collect();
    let crashes = logs::error_file();
    if interpreter::is_running() {
        let taken_over = Python::attach(|py| {
            interpreter::set_environment(py, &variables, &removed)?;
            interpreter::take_over(py, &settings.arguments, &path, crashes.as_deref())?;
            interpreter::append_path(py, &effects.path_behind)
        });
        return taken_over.map_err(BootError::other);
    }
    for name in removed {
        environment::remove(name).map_err(BootError::other)?;
    }
    for (name, value) in &variables {
        environment::set(name, value).map_err(BootError::other)?;
    }
    if chosen.is_virtual() {
        environment::remove("PYTHONHOME").map_err(BootError::other)?;
    }
    chosen.start(&settings.arguments, &path, crashes.as_deref()).map_err(BootError::other)?;
    Python::attach(|py| interpreter::append_path(py, &effects.path_behind)).map_err(BootError::other)
}

/// Starts Python in the master, which runs hooks.
///
/// # Errors
/// A sentence that says why it does not start.
pub fn start_python_of_master(settings: &Settings, chosen: &Interpreter) -> Result<(), String> {
    // The variables of --env are set with it running, so that the next configuration can take them back.
    let mut without = settings.clone();
    without.env.clear();
    // It runs the configuration file.
    let started = if interpreter::is_running() { Ok(()) } else { run_python(&without, chosen, &NO_EFFECTS) };
    started.and_then(|()| start_python(settings, chosen, &NO_EFFECTS)).map_err(|error| error.into_parts().0)
}

/// Has this process, and those that it forks, write down where its threads are when the master asks. Before the
/// application is imported, which may hang.
fn tell_stacks(plan: Plan<'_>) {
    let Some(file) = plan.stacks else { return };
    if let Err(error) = Python::attach(|py| interpreter::write_stacks_upon(py, asked::number(), file)) {
        log::debug!("no stacks will be told: {error}");
    }
}

/// Variables with which a supervisor speaks to the master. An application that found them would speak for it.
const MASTERS_OWN: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

fn load(py: Python<'_>, plan: Plan<'_>) -> Result<Py<PyAny>, LoadError> {
    plan.application.map_or_else(|| app::load(py, &plan.settings.app), |application| Ok(application.clone_ref(py)))
}

/// The application; for a worker that reloads, what to serve until it can be loaded.
fn load_or_explain(py: Python<'_>, plan: Plan<'_>, imports: Option<&Imports>) -> Result<Py<PyAny>, BootError> {
    let application = match (load(py, plan), imports) {
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
