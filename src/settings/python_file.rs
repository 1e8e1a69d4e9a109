//! A configuration file that is Python: what it says, once somebody has run it. Who runs it is not known here.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where the Python of a configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PythonFile {
    /// A file, its path absolute.
    Path(PathBuf),
    /// A module, to be imported.
    Module(String),
}

impl fmt::Display for PythonFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Module(name) => f.write_str(name),
        }
    }
}

/// What a configuration file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluated {
    /// The names that may be settings, and their values. `None` is not among them: it says nothing.
    pub values: Vec<(String, Value)>,
    /// The hooks it sets.
    pub hooks: Vec<HookName>,
    /// Names that it sets, that are no settings as far as who has run it knows, and that nothing in it uses.
    pub unused: Vec<String>,
    /// What it has changed of the process that it ran in.
    pub effects: Effects,
}

/// What a configuration file has changed of its process, for those who are to find it changed: the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Variables of the environment that it has set: name and value.
    pub variables: Vec<(String, String)>,
    /// Those that it has removed.
    pub removed: Vec<String>,
    /// Folders that it has put in front of the usual ones of `sys.path`.
    pub path_before: Vec<PathBuf>,
    /// Folders that it has put behind some of them.
    pub path_behind: Vec<PathBuf>,
}

/// A value in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text, or a number as it is written.
    Text(String),
    /// True or false.
    Flag(bool),
    /// Texts and numbers.
    List(Vec<String>),
    /// Texts and numbers by name.
    Map(Vec<(String, String)>),
    /// Something that has no text, such as a class or a dict of dicts: the name of its type. It is there for those who run
    /// the file again.
    Object(String),
}

/// Runs a configuration file in a process of its own, with the Python that `--python` names if it was given.
///
/// The error is what went wrong, with its traceback.
pub type Evaluate = fn(&PythonFile, Option<&Path>) -> Result<Evaluated, String>;

/// A function of a configuration file that is called when something happens. gunicorn's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookName {
    /// In the master, before the sockets are there: `on_starting(server)`.
    OnStarting,
    /// In the master, when they are: `when_ready(server)`.
    WhenReady,
    /// In the master, at SIGHUP: `on_reload(server)`.
    OnReload,
    /// In the master: `nworkers_changed(server, new, old)`.
    NworkersChanged,
    /// In the master: `pre_fork(server, worker)`.
    PreFork,
    /// In the master, when a worker has ended: `child_exit(server, worker)`.
    ChildExit,
    /// In the master, before it ends: `on_exit(server)`.
    OnExit,
    /// Before another master is executed: `pre_exec(server)`.
    PreExec,
    /// In the worker, before the application is loaded: `post_fork(server, worker)`.
    PostFork,
    /// In the worker, when it is: `post_worker_init(worker)`.
    PostWorkerInit,
    /// In the worker, when the server is interrupted: `worker_int(worker)`.
    WorkerInt,
    /// In the worker, when a request has taken too long: `worker_abort(worker)`.
    WorkerAbort,
    /// In the worker, before it ends: `worker_exit(server, worker)`.
    WorkerExit,
    /// In the worker: `pre_request(worker, req)`.
    PreRequest,
    /// In the worker: `post_request(worker, req, environ, resp)`.
    PostRequest,
}

impl HookName {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::OnStarting,
        Self::WhenReady,
        Self::OnReload,
        Self::NworkersChanged,
        Self::PreFork,
        Self::ChildExit,
        Self::OnExit,
        Self::PreExec,
        Self::PostFork,
        Self::PostWorkerInit,
        Self::WorkerInt,
        Self::WorkerAbort,
        Self::WorkerExit,
        Self::PreRequest,
        Self::PostRequest,
    ];

    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnStarting => "on_starting",
            Self::WhenReady => "when_ready",
            Self::OnReload => "on_reload",
            Self::NworkersChanged => "nworkers_changed",
            Self::PreFork => "pre_fork",
            Self::ChildExit => "child_exit",
            Self::OnExit => "on_exit",
            Self::PreExec => "pre_exec",
            Self::PostFork => "post_fork",
            Self::PostWorkerInit => "post_worker_init",
            Self::WorkerInt => "worker_int",
            Self::WorkerAbort => "worker_abort",
            Self::WorkerExit => "worker_exit",
            Self::PreRequest => "pre_request",
            Self::PostRequest => "post_request",
        }
    }

    /// Whether the master calls it, and needs Python for that.
    pub fn is_masters(self) -> bool {
        matches!(
            self,
            Self::OnStarting
                | Self::WhenReady
                | Self::OnReload
                | Self::NworkersChanged
                | Self::PreFork
                | Self::ChildExit
                | Self::OnExit
                | Self::PreExec
        )
    }
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
