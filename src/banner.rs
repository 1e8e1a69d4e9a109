//! What the operator reads when the server is up: a few lines on a terminal, one line in a log.

use crate::net::Listener;
use crate::settings::{LogTarget, Settings};
use crate::wsgi::interpreter;
use std::io::IsTerminal;
use std::sync::Arc;

/// Says where the server listens, with how many workers, on which Python, and what it serves.
pub fn say(settings: &Settings, listeners: &[Arc<Listener>]) {
    let addresses = listeners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let workers = match settings.workers {
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    };
    let (python, app, version) = (interpreter::version(), &settings.app, env!("CARGO_PKG_VERSION"));
    let is_read_by_a_person =
        !settings.daemon && settings.error_log == LogTarget::Stderr && std::io::stderr().is_terminal();
    if !is_read_by_a_person {
        let hooks = hooks_of_master(settings);
        log::info!("minicorn {version} listening on {addresses}, {workers}, CPython {python}, app {app}{hooks}");
    } else if log::log_enabled!(log::Level::Info) {
        eprintln!(
            "\n  minicorn {version}, listening on {addresses}\n  {workers}, CPython {python}, app {app}\n  Ctrl-C stops it\n"
        );
    }
}

/// The master is bigger with Python in it, and can be held up by what runs there.
fn hooks_of_master(settings: &Settings) -> String {
    let hooks: Vec<_> = settings.hooks.iter().filter(|hook| hook.is_masters()).map(ToString::to_string).collect();
    if hooks.is_empty() { String::new() } else { format!(", Python in the master for {}", hooks.join(", ")) }
}
