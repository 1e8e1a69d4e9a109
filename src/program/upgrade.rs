//! [`Upgrade`]: another master from the program file of today, beside this one and with its listeners (SIGUSR2). Whoever
//! has looked at it ends the one that is not wanted with SIGTERM.
//!
//! ```text
//! old ── SIGUSR2 ─→ fork, exec ─→ new: takes the sockets, starts workers; both serve
//! old ── SIGTERM ─→ leaves its socket files          new: is promoted when the old one is gone
//!                                    new ── SIGTERM: leaves them too; old: serves on, another SIGUSR2 works
//! ```
//!
//! What makes the sockets go from one to the other is in [`sockets`](super::sockets).

use super::folder::Folder;
use super::{Caller, forking, sockets};
use crate::exit::Exit;
use crate::net::{HandedOver, Listener};
use crate::settings::Settings;
use crate::sys::process::{self, Fork, HowEnded, Pid};
use crate::sys::{exec, file};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// How this process was started, to do it again: read before anything is changed.
#[derive(Debug)]
pub(super) struct Beginning {
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

impl Beginning {
    /// Of this process.
    ///
    /// # Errors
    /// There is no `/proc`, or the caller does not know.
    pub(super) fn read(settings: &Settings, caller: Option<&Caller>, folder: &Folder) -> io::Result<Self> {
        let (program, arguments) = match caller {
            None => (program_file(folder.path())?, settings.arguments.clone()),
            Some(caller) => (program_of(caller)?, caller.command.clone()),
        };
        Ok(Self {
            program,
            arguments,
            folder: folder.path().to_owned(),
            environment: std::env::vars_os()
                .filter(|(name, _)| !sockets::VARIABLES.iter().any(|own| name == own))
                .collect(),
        })
    }

    /// Returns the process in which it is done.
    fn start_again(&self, listeners: &[Arc<Listener>], before: impl FnOnce()) -> io::Result<Pid> {
        let old = process::own_pid();
        match forking::fork()? {
            Fork::Parent(new) => Ok(new),
            Fork::Child => {
                before();
                let kept: Vec<_> = listeners.iter().map(|listener| listener.as_fd()).collect();
                let error = exec::replace(&mut self.command(listeners, old), &kept);
                let Self { program, folder, .. } = self;
                ::log::error!("upgrade: {} cannot be run in {}: {error}", program.display(), folder.display());
                process::exit_now(Exit::Failed.status())
            }
        }
    }

    /// The command to become a new master that replaces the process `old`. Runs in its child.
    fn command(&self, listeners: &[Arc<Listener>], old: Pid) -> Command {
        let mut command = Command::new(&self.program);
        if let Some((name, rest)) = self.arguments.split_first() {
            command.arg0(name).args(rest);
        }
        command.current_dir(&self.folder).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(sockets::HANDED_OVER, HandedOver::render(listeners)).env(sockets::OLD_MASTER, old.to_string());
        // systemd has written here whose heartbeat it wants, and it will be that of the new one.
        let is_watched = |(name, value): &(OsString, OsString)| name == WATCHDOG && *value == *old.to_string();
        if self.environment.iter().any(is_watched) {
            command.env(WATCHDOG, process::own_pid().to_string());
        }
        command
    }
}

/// See sd_watchdog_enabled(3).
const WATCHDOG: &str = "WATCHDOG_PID";

/// The path that was given to execve(2), if it still leads to the program that runs: another one may be there when it
/// is started again.
fn program_file(folder: &Path) -> io::Result<PathBuf> {
    let given = exec::path_as_given().map(|path| folder.join(path));
    match given.filter(|given| file::is_same(given, Path::new("/proc/self/exe"))) {
        Some(given) => Ok(given),
        None => std::env::current_exe(),
    }
}

/// Python, by the name that leads to its environment.
fn program_of(caller: &Caller) -> io::Result<PathBuf> {
    let python = caller.command.first().filter(|python| !python.is_empty());
    python.map(PathBuf::from).ok_or_else(|| io::Error::other("sys.executable is empty"))
}

/// The masters that share the listeners of this one.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// Needed for nothing but an upgrade, so that without it the server starts all the same.
    beginning: io::Result<Beginning>,
    /// The master that this one is to replace, until it is known to be gone.
    old: Option<Pid>,
    /// The one that is to replace this one, until it is reaped.
    new: Option<Pid>,
}

impl Upgrade {
    /// Of a process that was started by `old`, if by a master.
    pub(super) fn new(beginning: io::Result<Beginning>, old: Option<Pid>) -> Self {
        if old.is_some()
            && let Err(error) = process::watch_parent()
        {
            ::log::warn!("the end of the old master will not be noticed: {error}");
        }
        Self { beginning, old, new: None }
    }

    /// Starts the new master, unless there are two already. `before` is called in its process before it is one.
    pub(super) fn start(&mut self, listeners: &[Arc<Listener>], before: impl FnOnce()) {
        match self.check() {
            Err(reason) => ::log::warn!("SIGUSR2 ignored: {reason}"),
            Ok(beginning) => match beginning.start_again(listeners, before) {
                Ok(pid) => {
                    ::log::info!("upgrade: a new master, pid {pid}, starts from {}", beginning.program.display());
                    self.new = Some(pid);
                }
                Err(error) => ::log::error!("upgrade: no new master can be started: {error}"),
            },
        }
    }

    /// What the new master is started from, or why there cannot be one.
    fn check(&self) -> Result<&Beginning, String> {
        if process::own_pid().as_raw() == 1 {
            return Err("process 1 cannot be replaced; use SIGHUP, or start a new container".to_owned());
        }
        if let Some(new) = self.new {
            return Err(format!("the new master, pid {new}, runs already"));
        }
        if let Some(old) = self.old.filter(|_| self.is_old_alive()) {
            return Err(format!("the old master, pid {old}, still runs"));
        }
        self.beginning.as_ref().map_err(|error| format!("it is not known how this master was started: {error}"))
    }

    /// A child has ended. Returns whether it was the new master.
    pub(super) fn note_end(&mut self, pid: Pid, how: HowEnded) -> bool {
        if self.new != Some(pid) {
            return false;
        }
        self.new = None;
        match how {
            HowEnded::Exited(0) => ::log::info!("upgrade: the new master, pid {pid}, was stopped; this one goes on"),
            _ => ::log::error!("upgrade: the new master, pid {pid}, {how}; this one goes on"),
        }
        true
    }

    /// Takes the place of the old master if it is gone, and returns who that was.
    pub(super) fn succeed(&mut self) -> Option<Pid> {
        if self.is_old_alive() { None } else { self.old.take() }
    }

    /// Whether nobody accepts from this listener once this master's workers do not: nobody is to connect any more when
    /// it stops, and its file is in the way of the next server.
    pub(super) fn may_close_door(&self, listener: &Listener) -> bool {
        listener.is_ours() && self.is_alone()
    }

    /// Whether this master was started by one that is not known to be gone.
    pub(super) fn has_old(&self) -> bool {
        self.old.is_some()
    }

    /// Whether no other master accepts from the same sockets. When this one and another end at the same time, both may
    /// find that they are not alone: then a socket file stays, which the next start removes.
    pub(super) fn is_alone(&self) -> bool {
        self.successor().is_none() && !self.is_old_alive()
    }

    /// The new master, while it runs: the main process from the moment when this one stops.
    pub(super) fn successor(&self) -> Option<Pid> {
        self.new
    }

    /// By its child, so that another process with its number is not taken for it.
    fn is_old_alive(&self) -> bool {
        self.old.is_some_and(|old| process::parent_pid() == old)
    }
}
