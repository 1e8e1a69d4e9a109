//! A child process: reset what was inherited, start Python, serve, leave.
#![forbid(unsafe_code)]

mod channel;
mod client;
mod deadlines;
mod io;
mod postman;
mod serve;
mod timeouts;

use self::channel::Outlet;
use self::io::Io;
use self::postman::Postman;
use self::serve::Server;
use self::timeouts::Timeouts;
use crate::exit::Exit;
use crate::http::Limits;
use crate::log::access::AccessLog;
use crate::net::{Listener, LocalAddress};
use crate::scoreboard::{Scoreboard, Slot, State};
use crate::settings::Settings;
use crate::sys::environment;
use crate::sys::signal::{self, SelfPipe, Signal};
use crate::wsgi::environ::ServerNames;
use crate::wsgi::interpreter::{self, Interpreter};
use crate::wsgi::{Exchange, Handler, app};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

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
    let slot = plan.scoreboard.slot(index);
    let exit = match boot_and_serve(plan, slot, access_log) {
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

fn boot_and_serve(plan: Plan<'_>, slot: Slot<'_>, access_log: Option<AccessLog>) -> Result<Exit, BootError> {
    let signals = reset_inherited().map_err(BootError::other)?;
    start_python(plan.settings, plan.interpreter)?;
    Python::attach(|py| {
        let application = load(py, plan.settings)?;
        interpreter::freeze_garbage_collector(py).map_err(BootError::other)?;
        let mut server = server(py, plan, slot, &signals, application, access_log)?;
        slot.set_state(State::Ready);
        log::debug!("ready");
        // From here on the worker has booted: what fails is a failure of the running server.
        Ok(server.run(py).map_or_else(
            |error| {
                log::error!("cannot go on: {error}");
                Exit::Failed
            },
            |()| Exit::Stopped,
        ))
    })
}

/// All that a child drops or sets anew. The master's handlers, self-pipe and mask go with the fork itself; Python
/// brings the rest of its state with it, since it starts after the fork.
fn reset_inherited() -> std::io::Result<SelfPipe> {
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

fn server<'w>(
    py: Python<'_>,
    plan: Plan<'w>,
    slot: Slot<'w>,
    signals: &'w SelfPipe,
    application: Py<PyAny>,
    access_log: Option<AccessLog>,
) -> Result<Server<'w>, BootError> {
    use std::os::fd::AsFd;
    let settings = plan.settings;
    let timeouts = Timeouts::new(settings);
    let send_timeout = (!settings.send_timeout.is_zero()).then_some(settings.send_timeout);
    let exchange = Arc::new(Mutex::new(Exchange::new(Outlet::new(send_timeout))));
    let names: Vec<ServerNames> =
        plan.listeners.iter().map(|listener| server_names(listener, settings.workers > 1)).collect();
    let logged_keys = access_log.as_ref().map_or_else(Vec::new, |log| log.environ_names().to_vec());
    let handler =
        Handler::new(py, application, &names, logged_keys, Arc::clone(&exchange)).map_err(BootError::other)?;
    let postman = Postman::start(Arc::clone(&exchange))
        .map_err(|error| BootError::Other(format!("cannot start a thread: {error}")))?;
    let io = Io::new(plan.listeners, signals.as_fd(), settings.worker_connections, timeouts)
        .map_err(|error| BootError::Other(format!("cannot poll: {error}")))?;
    Ok(Server {
        io,
        handler,
        exchange,
        access_log,
        signals,
        slot,
        limits: limits(settings),
        is_keep_alive: !settings.keep_alive.is_zero(),
        postman,
        letters: Vec::new(),
        is_draining: false,
    })
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        line_bytes_max: settings.limit_request_line,
        field_bytes_max: settings.limit_request_field_size,
        fields_max: settings.limit_request_fields,
        body_bytes_max: settings.limit_request_body,
    }
}

fn server_names(listener: &Listener, is_multiprocess: bool) -> ServerNames {
    let (name, port) = match &listener.local {
        LocalAddress::Tcp(address) => (Some(address.ip().to_string()), address.port().to_string()),
        LocalAddress::Unix(_) => (None, "80".to_owned()),
    };
    ServerNames { name, port, is_multithread: false, is_multiprocess }
}
