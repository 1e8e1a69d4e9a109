//! The hooks of a configuration file: functions that are called when something happens in the master or in a worker, with
//! gunicorn's objects. What those are, and what is called with which of them, is in `hooks.py`.

mod values;

use super::config_file;
use super::embedded::Embedded;
use super::traceback;
use crate::settings::{HookName, Settings};
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;

static CODE: Embedded = Embedded::new("hooks", include_str!("hooks/hooks.py"));

/// The hooks of one generation, in an interpreter that has run its file: here, or in the process that this one was forked
/// from.
#[derive(Debug)]
pub struct Hooks {
    /// A `Generation`.
    python: Py<PyAny>,
    set: Vec<HookName>,
    namespace: Option<Py<PyDict>>,
}

/// A socket of the server's, as hooks see it.
#[derive(Clone, Debug)]
pub struct ListenerFacts {
    /// As a URL.
    pub text: String,
    /// Its number.
    pub descriptor: i32,
    /// Where it listens, if that is no path.
    pub address: Option<SocketAddr>,
    /// If it is one.
    pub path: Option<String>,
}

/// What a hook raised.
#[derive(Debug)]
pub struct Raised {
    hook: HookName,
    traceback: String,
}

impl std::fmt::Display for Raised {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the hook {} raised\n{}", self.hook, self.traceback)
    }
}

impl Raised {
    /// Without it, for where there is room for a sentence only; the rest goes to the log.
    pub fn log_and_summarize(&self) -> String {
        log::error!("{self}");
        format!("the hook {} raised", self.hook)
    }
}

type Called = Result<(), Raised>;

impl Hooks {
    /// Runs the file of `settings` in `folder`, where the server was started. `master` is the process id of the master.
    ///
    /// # Errors
    /// What the file raises, with its traceback.
    pub fn load(settings: &Settings, folder: &Path, master: i32) -> Result<Self, String> {
        Python::attach(|py| {
            let loaded = Self::run(py, settings, folder, master);
            loaded.map_err(|error| format!("the configuration file raised\n{}", traceback::render(py, &error)))
        })
    }

    fn run(py: Python<'_>, settings: &Settings, folder: &Path, master: i32) -> PyResult<Self> {
        let namespace = settings.python_file.as_ref().map(|file| config_file::run(py, file, folder)).transpose()?;
        let functions = PyDict::new(py);
        let mut set = Vec::new();
        for hook in HookName::ALL {
            let value = namespace.as_ref().map(|namespace| namespace.get_item(hook.as_str())).transpose()?.flatten();
            if let Some(value) = value.filter(|value| !value.is_none()) {
                functions.set_item(hook.as_str(), config_file::hook(&value, hook)?)?;
                set.push(hook);
            }
        }
        let module = CODE.module(py)?;
        module.setattr("write_log", writer(py)?)?;
        let values = values::gunicorn_settings(settings).to_string();
        let python = module.getattr("Generation")?.call1((values, &namespace, functions, master))?;
        Ok(Self { python: python.unbind(), set, namespace: namespace.map(Bound::unbind) })
    }

    /// Whether the file has it.
    pub fn has(&self, hook: HookName) -> bool {
        self.set.contains(&hook)
    }

    /// What the file has under this name.
    pub fn value(&self, py: Python<'_>, name: &str) -> Option<Py<PyAny>> {
        self.namespace.as_ref()?.bind(py).get_item(name).ok().flatten().map(Bound::unbind)
    }

    /// Calls the method of the same name, which calls the hook.
    fn call<A>(&self, hook: HookName, arguments: A) -> Called
    where
        A: for<'py> pyo3::call::PyCallArgs<'py>,
    {
        if !self.has(hook) && !ALWAYS.contains(&hook) {
            return Ok(());
        }
        self.enter(hook, |generation| generation.call_method1(hook.as_str(), arguments).map(drop))
    }

    fn enter(&self, hook: HookName, call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>) -> Called {
        Python::attach(|py| {
            call(self.python.bind(py)).map_err(|error| {
                let is_exit = error.is_instance_of::<PySystemExit>(py);
                let traceback = if is_exit { error.to_string() } else { traceback::render(py, &error) };
                Raised { hook, traceback }
            })
        })
    }
}

/// Those with which the objects change whether the file has them or not.
const ALWAYS: [HookName; 4] =
    [HookName::OnStarting, HookName::NworkersChanged, HookName::PreFork, HookName::PostWorkerInit];

/// In the master.
impl Hooks {
    /// Before the sockets are there.
    ///
    /// # Errors
    /// What the hook raises, here and everywhere.
    pub fn on_starting(&self) -> Called {
        self.call(HookName::OnStarting, ())
    }

    /// When they are.
    ///
    /// # Errors
    /// See above.
    pub fn when_ready(&self, listeners: &[ListenerFacts]) -> Called {
        self.enter(HookName::WhenReady, |generation| {
            generation.call_method1("when_ready", (tuples(generation.py(), listeners)?,)).map(drop)
        })
    }

    /// This configuration is the one that counts from now on.
    ///
    /// # Errors
    /// See above.
    pub fn on_reload(&self, listeners: &[ListenerFacts]) -> Called {
        self.enter(HookName::OnReload, |generation| {
            generation.call_method1("on_reload", (tuples(generation.py(), listeners)?,)).map(drop)
        })
    }

    /// This configuration counts again: the one after it was given up. No hook is called.
    ///
    /// # Errors
    /// Out of memory.
    pub fn resume(&self, listeners: &[ListenerFacts]) -> Called {
        self.enter(HookName::OnReload, |generation| {
            generation.call_method1("resume", (tuples(generation.py(), listeners)?,)).map(drop)
        })
    }

    /// So many workers are wanted.
    ///
    /// # Errors
    /// See above.
    pub fn nworkers_changed(&self, count: u32) -> Called {
        self.call(HookName::NworkersChanged, (count,))
    }

    /// A worker is about to be forked for this slot, the `age`th of this server.
    ///
    /// # Errors
    /// See above.
    pub fn pre_fork(&self, slot: u32, age: u32) -> Called {
        self.call(HookName::PreFork, (slot, age))
    }

    /// It has been.
    ///
    /// # Errors
    /// Out of memory.
    pub fn spawned(slot: u32, pid: i32) -> Called {
        Self::tell(HookName::PreFork, "spawned", |function| function.call1((slot, pid)).map(drop))
    }

    /// A worker has been reaped.
    ///
    /// # Errors
    /// See above.
    pub fn child_exit(pid: i32) -> Called {
        Self::tell(HookName::ChildExit, "child_exit", |function| function.call1((pid,)).map(drop))
    }

    /// Frees a configuration file that nobody has any more: its functions and their module have each other, and the master
    /// makes too few objects for Python to look after that by itself.
    ///
    /// # Errors
    /// Out of memory.
    pub fn collect() -> Called {
        Python::attach(|py| {
            let collected = py.import("gc").and_then(|gc| gc.call_method0("collect"));
            let hook = HookName::OnReload;
            collected.map(drop).map_err(|error| Raised { hook, traceback: traceback::render(py, &error) })
        })
    }

    /// The server ends.
    ///
    /// # Errors
    /// See above.
    pub fn on_exit(&self) -> Called {
        self.call(HookName::OnExit, ())
    }

    /// This process, a child of the master, is about to become another master.
    ///
    /// # Errors
    /// See above.
    pub fn pre_exec(&self) -> Called {
        self.call(HookName::PreExec, ())
    }

    fn tell(hook: HookName, name: &str, call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>) -> Called {
        Python::attach(|py| {
            CODE.module(py)
                .and_then(|module| call(&module.getattr(name)?))
                .map_err(|error| Raised { hook, traceback: traceback::render(py, &error) })
        })
    }
}

/// In a worker.
impl Hooks {
    /// This process is the worker of this slot.
    ///
    /// # Errors
    /// Out of memory.
    pub fn become_worker(&self, slot: u32, age: u32, listeners: &[ListenerFacts]) -> Called {
        self.enter(HookName::PostFork, |generation| {
            let listeners = tuples(generation.py(), listeners)?;
            generation.call_method1("become_worker", (slot, age, listeners)).map(drop)
        })
    }

    /// Before the application is loaded.
    ///
    /// # Errors
    /// What the hook raises, here and everywhere.
    pub fn post_fork(&self) -> Called {
        self.call(HookName::PostFork, ())
    }

    /// When it is.
    ///
    /// # Errors
    /// See above.
    pub fn post_worker_init(&self, application: &Py<PyAny>) -> Called {
        self.call(HookName::PostWorkerInit, (application,))
    }

    /// The server is interrupted. `count` requests have been answered, here and below.
    ///
    /// # Errors
    /// See above.
    pub fn worker_int(&self, count: u64) -> Called {
        self.answered(HookName::WorkerInt, count)
    }

    /// A request has taken too long.
    ///
    /// # Errors
    /// See above.
    pub fn worker_abort(&self, count: u64) -> Called {
        self.answered(HookName::WorkerAbort, count)
    }

    /// The worker ends.
    ///
    /// # Errors
    /// See above.
    pub fn worker_exit(&self, count: u64) -> Called {
        self.answered(HookName::WorkerExit, count)
    }

    fn answered(&self, hook: HookName, count: u64) -> Called {
        if !self.has(hook) {
            return Ok(());
        }
        self.enter(hook, |generation| {
            generation.call_method1("answered", (count,))?;
            generation.call_method0(hook.as_str()).map(drop)
        })
    }

    /// Has worker_abort called upon SIGABRT as well, with which the master ends a worker that does not become ready. The
    /// stacks go to `crashes`, whose descriptor must stay open, or to standard error. To be called in Python's main thread.
    ///
    /// # Errors
    /// See above.
    pub fn catch_abort(&self, crashes: Option<&File>) -> Called {
        if !self.has(HookName::WorkerAbort) {
            return Ok(());
        }
        self.enter(HookName::WorkerAbort, |generation| {
            let py = generation.py();
            let number = py.import("signal")?.getattr("SIGABRT")?;
            generation.call_method1("abort_upon", (number, crashes.map(AsRawFd::as_raw_fd))).map(drop)
        })
    }

    /// Whether something is to be called around each request.
    pub fn wants_requests(&self) -> bool {
        self.has(HookName::PreRequest) || self.has(HookName::PostRequest)
    }

    /// The `req` of a request, from what its class takes.
    pub(super) fn request<'py>(&self, py: Python<'py>, head: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.python.bind(py).call_method1("request", head.clone())
    }

    /// Before the application is called, which it is not if this raises. Header fields that the hook changes are changed
    /// in the environ.
    pub(super) fn pre_request(&self, request: &Bound<'_, PyAny>, environ: &Bound<'_, PyDict>) -> PyResult<()> {
        self.python.bind(request.py()).call_method1("pre_request", (request, environ)).map(drop)
    }

    /// After it. The response is what its class takes, or None.
    pub(super) fn post_request(
        &self,
        request: &Bound<'_, PyAny>,
        environ: Bound<'_, PyDict>,
        response: Option<Bound<'_, PyTuple>>,
    ) {
        let py = request.py();
        let called = self.python.bind(py).call_method1("post_request", (request, environ, response));
        if let Err(error) = called {
            log::error!("the hook post_request raised\n{}", traceback::render(py, &error));
        }
    }
}

fn tuples<'py>(py: Python<'py>, listeners: &[ListenerFacts]) -> PyResult<Vec<Bound<'py, PyTuple>>> {
    let tuple = |listener: &ListenerFacts| {
        let ListenerFacts { text, descriptor, address, path } = listener;
        let name = match (address, path) {
            (Some(address), _) => (address.ip().to_string(), address.port()).into_pyobject(py)?.into_any(),
            (None, path) => path.clone().unwrap_or_default().into_pyobject(py)?.into_any(),
        };
        (text, descriptor, name).into_pyobject(py)
    };
    listeners.iter().map(tuple).collect()
}

/// `write(level, text)`: a line in the error log, by the numbers of Python's logging.
pub(super) fn writer(py: Python<'_>) -> PyResult<Bound<'_, PyCFunction>> {
    PyCFunction::new_closure(py, Some(c"write_log"), None, |arguments: &Bound<'_, PyTuple>, _| -> PyResult<()> {
        let (number, text): (i64, String) = arguments.extract()?;
        log::log!(level(number), "{text}");
        Ok(())
    })
}

/// Of Python's numbers.
pub(super) fn level(number: i64) -> log::Level {
    match number {
        40.. => log::Level::Error,
        30..40 => log::Level::Warn,
        20..30 => log::Level::Info,
        _ => log::Level::Debug,
    }
}
