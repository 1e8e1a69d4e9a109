//! The hooks that run in the master: whether Python is needed there, and starting it.

use super::folder::Folder;
use super::listening::Listening;
use crate::log::{self as logs, Route, Told};
use crate::settings::Settings;
use crate::sys::process;
use crate::worker;
use crate::wsgi::Hooks;
use crate::wsgi::hooks::Raised;
use crate::wsgi::interpreter::Interpreter;
use crate::wsgi::logging::{self, Loggers};
use pyo3::Python;
use std::sync::Arc;

/// The hooks of a configuration, its file run in this process; `None` if it has none for the master, which then does
/// without Python.
///
/// Not before the server has gone to the background: Python would not survive the forks.
///
/// # Errors
/// What the file raises here, though it did not when its settings were read.
pub(super) fn start(
    settings: &Settings,
    interpreter: &Interpreter,
    folder: &Folder,
) -> Result<Option<Arc<Hooks>>, String> {
    if !settings.hooks.iter().any(|hook| hook.is_masters()) {
        return Ok(None);
    }
    worker::start_python_of_master(settings, interpreter)?;
    let hooks = Hooks::load(settings, folder.path(), process::own_pid().as_raw())?;
    configure_logging(settings, Some(&hooks))?;
    Ok(Some(Arc::new(hooks)))
}

fn configure_logging(settings: &Settings, hooks: Option<&Hooks>) -> Result<(), String> {
    if hooks.is_some() && logging::is_configured(settings) {
        logging::configure(settings, hooks)?;
        logs::take_route(Box::new(ToLoggers));
    }
    Ok(())
}

/// Has the log of the master go its usual way if these settings say so.
pub(super) fn follow(settings: &Settings, hooks: Option<&Hooks>) {
    if hooks.is_none() || !logging::is_configured(settings) {
        logs::leave_route();
    }
}

/// Has Python in the master as this generation had it, after another one that came to nothing.
pub(super) fn resume(settings: &Settings, hooks: Option<&Hooks>, listening: &Listening) {
    note(hooks.map(|hooks| hooks.resume(&listening.facts())));
    if let Err(error) = configure_logging(settings, hooks) {
        log::error!("{error}");
    }
    follow(settings, hooks);
}

/// The master's one thread waits for Python as it does for hooks.
struct ToLoggers;

impl Route for ToLoggers {
    fn error(&self, level: log::Level, message: &str) -> bool {
        Python::attach(|py| match Loggers::new(py) {
            Ok(loggers) if loggers.takes_errors() => {
                loggers.error(py, level, message);
                true
            }
            Ok(_) | Err(_) => false,
        })
    }

    /// Workers log requests.
    fn takes_requests(&self) -> bool {
        false
    }

    fn access(&self, requests: Vec<Told>) -> Vec<Told> {
        requests
    }

    fn reopen(&self) {
        Python::attach(|py| Loggers::new(py).map(|loggers| loggers.reopen(py)).unwrap_or_default());
    }
}

/// The server goes on, whatever a hook does.
pub(super) fn note(called: Option<Result<(), Raised>>) {
    if let Some(Err(raised)) = called {
        log::error!("{raised}");
    }
}
