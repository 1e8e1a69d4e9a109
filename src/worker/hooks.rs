//! The hooks of the configuration file that concern a worker, in the order of its life: run the file if nobody has,
//! post_fork, [the application], post_worker_init, [requests], worker_int or worker_abort, worker_exit.

use super::delivery::Delivery;
use super::{BootError, Kit, Plan};
use crate::log as logs;
use crate::net::{Listener, LocalAddress};
use crate::settings::{HookName, Settings};
use crate::sys::process;
use crate::sys::signal;
use crate::wsgi::Hooks;
use crate::wsgi::hooks::{ListenerFacts, Raised};
use crate::wsgi::interpreter;
use crate::wsgi::logging;
use pyo3::Python;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// The hooks of this worker, or of those that this template will fork; `None` if there are none for them. Runs the
/// configuration file unless the process that forked this one has.
pub(super) fn load(plan: Plan<'_>) -> Result<Option<Arc<Hooks>>, BootError> {
    if !run_the_file(plan.settings) {
        return Ok(None);
    }
    if let Some(inherited) = plan.hooks {
        return Ok(Some(Arc::clone(inherited)));
    }
    let master = process::parent_pid().as_raw();
    let hooks = Hooks::load(plan.settings, plan.folder, master).map_err(BootError::Other)?;
    // --env has the last word, also after what the file has set.
    Python::attach(|py| {
        let mut variables = plan.settings.env.iter();
        variables.try_for_each(|(name, value)| interpreter::set_variable(py, name, Some(value)))
    })
    .map_err(BootError::other)?;
    Ok(Some(Arc::new(hooks)))
}

/// Whether workers run the configuration file themselves.
pub(super) fn run_the_file(settings: &Settings) -> bool {
    settings.hooks.iter().any(|hook| !hook.is_masters()) || logging::is_in_file(settings)
}

/// What ends after a worker has served, or has failed to: worker_exit, and then the way of its logs through Python.
#[derive(Debug, Default)]
pub(super) struct Outlasting {
    hooks: Option<Arc<Hooks>>,
    delivery: Option<Delivery>,
}

impl Outlasting {
    /// This process has become the worker.
    pub(super) fn begin(
        &mut self,
        hooks: Option<Arc<Hooks>>,
        plan: Plan<'_>,
        kit: &Kit,
    ) -> Result<Option<&Arc<Hooks>>, BootError> {
        self.delivery = Delivery::of_worker(plan.settings)?;
        self.hooks = hooks;
        let Some(hooks) = &self.hooks else { return Ok(None) };
        let listeners: Vec<_> = plan.listeners.open.iter().map(|own| facts(own)).collect();
        let began = hooks
            .become_worker(kit.slot, kit.age, &listeners)
            .and_then(|()| hooks.catch_abort(logs::error_file().as_deref()))
            .and_then(|()| hooks.post_fork());
        began.map(|()| Some(hooks)).map_err(BootError::other)
    }

    /// It ends, however far it has come. The caller is detached from Python.
    pub(super) fn end(self, plan: Plan<'_>, slot: u32) {
        if let Some(hooks) = &self.hooks {
            note(hooks.worker_exit(plan.scoreboard.slot(slot).requests()));
        }
        drop(self.delivery);
    }
}

/// A listener as hooks see it.
pub fn facts(listener: &Listener) -> ListenerFacts {
    let (address, path) = match &listener.local {
        LocalAddress::Tcp(address) => (Some(*address), None),
        LocalAddress::Unix(path) => (None, Some(path.display().to_string())),
        LocalAddress::Abstract(name) => (None, Some(format!("@{name}"))),
    };
    ListenerFacts { text: listener.to_string(), descriptor: listener.as_fd().as_raw_fd(), address, path }
}

fn note(called: Result<(), Raised>) {
    if let Err(raised) = called {
        log::error!("{raised}");
    }
}

/// How long a worker that is condemned waits for its hooks: the thread that is stuck may have the GIL for good.
const ABORT_MAX: Duration = Duration::from_secs(2);

/// The hooks that are called while the application may be stuck, or at the desk, where nobody waits for Python: each in a
/// thread of its own.
#[derive(Debug, Default)]
pub(super) struct LastCalls {
    hooks: Option<Arc<Hooks>>,
    interrupt: Option<JoinHandle<()>>,
    abort: Option<Bounded>,
    exit: Option<Bounded>,
}

/// A call that is not waited for without end.
#[derive(Debug)]
struct Bounded {
    until: Instant,
    is_over: Arc<AtomicBool>,
}

impl Bounded {
    fn spawn(call: impl FnOnce() + Send + 'static) -> Option<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&is_over);
        let run = move || {
            call();
            own.store(true, Ordering::Release);
        };
        spawn(run).map(|_| Self { until: Instant::now() + ABORT_MAX, is_over })
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn is_waited_for(&self) -> bool {
        !self.is_over() && Instant::now() < self.until
    }
}

impl LastCalls {
    pub(super) fn new(hooks: &Arc<Hooks>) -> Self {
        Self { hooks: Some(Arc::clone(hooks)), ..Self::default() }
    }

    /// The server has been interrupted, after so many requests.
    pub(super) fn interrupt(&mut self, count: u64) {
        if self.interrupt.is_none()
            && let Some(hooks) = self.hooks_with(HookName::WorkerInt)
        {
            self.interrupt = spawn(move || note(hooks.worker_int(count)));
        }
    }

    /// The worker has been condemned.
    pub(super) fn abort(&mut self, count: u64) {
        if let Some(hooks) = self.hooks_with(HookName::WorkerAbort) {
            self.abort = Bounded::spawn(move || note(hooks.worker_abort(count)));
        }
    }

    /// A worker that is condemned has served all that it could: calls worker_exit, since the main thread does not come to
    /// its end in order. Returns whether nothing is to be waited for any more; to be asked again and again until then.
    pub(super) fn end(&mut self, count: u64) -> bool {
        if self.abort.as_ref().is_some_and(Bounded::is_waited_for) {
            return false;
        }
        // If one hook does not get Python, the other would not either.
        let is_stuck = self.abort.as_ref().is_some_and(|abort| !abort.is_over());
        if let (None, false, Some(hooks)) = (&self.exit, is_stuck, self.hooks_with(HookName::WorkerExit)) {
            self.exit = Bounded::spawn(move || note(hooks.worker_exit(count)));
        }
        !self.exit.as_ref().is_some_and(Bounded::is_waited_for)
    }

    /// Waits for the end of worker_int, detached from Python.
    pub(super) fn wait(self) {
        if let Some(thread) = self.interrupt {
            _ = thread.join();
        }
    }

    fn hooks_with(&self, hook: HookName) -> Option<Arc<Hooks>> {
        self.hooks.as_ref().filter(|hooks| hooks.has(hook)).cloned()
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let builder = Builder::new().name("minicorn-hooks".to_owned());
    let spawned = signal::blocked(|| builder.spawn(run)).and_then(|spawned| spawned);
    spawned.inspect_err(|error| log::error!("hooks are not called: no thread for them: {error}")).ok()
}
