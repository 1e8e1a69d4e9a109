//! Which CPython runs the application, and starting it.
//!
//! CPython by itself ignores `VIRTUAL_ENV`, and nothing in it checks that an environment fits the library that is
//! loaded; both happen here.

use super::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A Python that was chosen and fits this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The unresolved path that becomes `sys.executable`; `None` where CPython finds its own.
    executable: Option<PathBuf>,
    is_virtual: bool,
}

/// Why no interpreter can be started.
#[derive(Debug, PartialEq, Eq)]
pub enum InterpreterError {
    /// `--python` names nothing that can be run.
    NotFound(PathBuf),
    /// The virtual environment belongs to another version of CPython.
    Version {
        /// The environment's folder.
        environment: PathBuf,
        /// Its version, `major.minor`.
        found: String,
    },
    /// `--python` names another one than the one that runs.
    Running {
        /// What it names.
        asked: PathBuf,
        /// The one that runs.
        running: PathBuf,
    },
    /// CPython refuses.
    Start(String),
}

impl fmt::Display for InterpreterError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(path) => write!(out, "--python {}: not an executable file", path.display()),
            Self::Version { environment, found } => write!(
                out,
                "the virtual environment {} has Python {found}, but this minicorn was built for Python {}: choose \
                 another environment with --python or VIRTUAL_ENV, or build minicorn for Python {found}",
                environment.display(),
                major_minor(),
            ),
            Self::Running { asked, running } => write!(
                out,
                "--python {}: this minicorn runs in {} already; start the minicorn that is installed in the other one",
                asked.display(),
                running.display(),
            ),
            Self::Start(message) => write!(out, "Python does not start: {message}"),
        }
    }
}

impl std::error::Error for InterpreterError {}

/// `3.11.7`: the version of the libpython that is loaded.
pub fn version() -> &'static str {
    ffi::version().split(' ').next().unwrap_or("unknown")
}

fn major_minor() -> &'static str {
    let version = version();
    let end = version.match_indices('.').nth(1).map_or(version.len(), |(dot, _)| dot);
    &version[..end]
}

impl Interpreter {
    /// Chooses by `--python`, else `VIRTUAL_ENV`, `CONDA_PREFIX`, `./.venv`, else the installation that this
    /// program was built for, by way of `PATH` if it is there.
    ///
    /// # Errors
    /// The choice cannot be run, or is an environment of another version.
    pub fn choose(
        python: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, InterpreterError> {
        let folder = |name| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let candidate = if let Some(python) = python {
            Some(given(python, environment("PATH"))?)
        } else {
            [folder("VIRTUAL_ENV"), folder("CONDA_PREFIX"), Some(PathBuf::from(".venv"))]
                .into_iter()
                .flatten()
                .map(|environment| environment.join("bin/python"))
                .find(|python| is_executable(python))
        };
        if let Some(python) = candidate {
            let python = std::path::absolute(&python).unwrap_or(python);
            let is_virtual = check_version(&python)?;
            return Ok(Self { executable: Some(python), is_virtual });
        }
        let executable = installation(environment("PATH"));
        Ok(Self { executable, is_virtual: false })
    }

    /// The one that runs already, if [`is_guest`] says so; `python`, as for [`choose`](Self::choose), may name no other.
    ///
    /// # Errors
    /// It does.
    pub fn running(
        py: Python<'_>,
        python: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, InterpreterError> {
        let running = py.import("sys").and_then(|sys| sys.getattr("executable")?.extract::<PathBuf>());
        let running = running.map_err(|error| Self::refused(&error))?;
        if let Some(asked) = python {
            let found = given(asked, environment("PATH"))?;
            // By the folder: there are several names for it, and those of all environments are links to one file.
            let folder = |python: &Path| python.parent().and_then(|folder| folder.canonicalize().ok());
            if folder(&found) != folder(&running) {
                return Err(InterpreterError::Running { asked: asked.to_owned(), running });
            }
        }
        Ok(Self { executable: Some(running), is_virtual: false })
    }

    /// Starts CPython in this thread. `argv` becomes `sys.argv`; `path` goes to the front of `sys.path`, in its order. The
    /// stacks of a crash go to `crashes`, whose descriptor must stay open, or to standard error.
    ///
    /// # Errors
    /// CPython says why not.
    pub fn start(&self, argv: &[OsString], path: &[PathBuf], crashes: Option<&File>) -> Result<(), InterpreterError> {
        let c_string = |text: &OsStr| CString::new(text.as_bytes()).map_err(|error| Self::refused(&error));
        let executable = self.executable.as_ref().map(|python| c_string(python.as_os_str())).transpose()?;
        let argv = argv.iter().map(|argument| c_string(argument)).collect::<Result<_, _>>()?;
        ffi::start(&ffi::Start { executable, argv }).map_err(InterpreterError::Start)?;
        Python::attach(|py| prepare(py, path, crashes)).map_err(|error| Self::refused(&error))
    }

    fn refused(error: &dyn fmt::Display) -> InterpreterError {
        InterpreterError::Start(error.to_string())
    }

    /// Whether a virtual environment was chosen: `PYTHONHOME`, which would override it, must go then.
    pub fn is_virtual(&self) -> bool {
        self.is_virtual
    }
}

/// Whether CPython runs in this process: it was started here, or in the process that this one was forked from.
pub fn is_running() -> bool {
    ffi::is_running()
}

/// Whether CPython runs in this process and is not ours: `minicorn.run()` was called in it, or the command that is a
/// script of Python's.
pub fn is_guest() -> bool {
    ffi::is_guest()
}

/// What [`Interpreter::start`] sets, in an interpreter that runs already. A guest leaves `sys.argv` as it is.
///
/// # Errors
/// What Python raises.
pub fn take_over(py: Python<'_>, argv: &[OsString], path: &[PathBuf], crashes: Option<&File>) -> PyResult<()> {
    if is_guest() {
        forget_exit_functions(py)?;
    } else {
        let argv: Vec<&OsStr> = argv.iter().map(OsString::as_os_str).collect();
        py.import("sys")?.setattr("argv", argv)?;
    }
    prepare(py, path, crashes)
}

/// Sets variables of the environment for Python and for all that asks the system, in place of those that were set this
/// way before; and takes some away.
///
/// # Errors
/// What Python raises.
pub fn set_environment(py: Python<'_>, variables: &[(String, String)], removed: &[&str]) -> PyResult<()> {
    let environ = py.import("os")?.getattr("environ")?;
    let before = BEFORE.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    for (name, value) in before.iter() {
        if value.is_none() {
            environ.call_method1("pop", (name, py.None()))?;
        } else {
            environ.set_item(name, value)?;
        }
    }
    before.clear();
    for name in removed {
        environ.call_method1("pop", (name, py.None()))?;
    }
    for (name, value) in variables {
        before.set_item(name, environ.call_method1("get", (name,))?)?;
        environ.set_item(name, value)?;
    }
    Ok(())
}

/// Sets an environment variable, or removes it, as the application would: what runs already has a copy of them all.
///
/// # Errors
/// What Python raises.
pub fn set_variable(py: Python<'_>, name: &str, value: Option<&str>) -> PyResult<()> {
    let environment = py.import("os")?.getattr("environ")?;
    match value {
        Some(value) => environment.set_item(name, value),
        None => environment.call_method1("pop", (name, py.None())).map(drop),
    }
}

/// Folders to the front of `sys.path`, in their order.
///
/// # Errors
/// What Python raises.
pub fn extend_path(py: Python<'_>, path: &[PathBuf]) -> PyResult<()> {
    let sys_path = py.import("sys")?.getattr("path")?.cast_into::<PyList>()?;
    for (index, folder) in path.iter().enumerate() {
        let folder = folder.as_os_str();
        // There already if the interpreter was started for somebody else.
        if sys_path.contains(folder)? {
            sys_path.call_method1("remove", (folder,))?;
        }
        sys_path.insert(index, folder)?;
    }
    Ok(())
}

/// Folders to the end of `sys.path`, where they are not in it.
///
/// # Errors
/// What Python raises.
pub fn append_path(py: Python<'_>, path: &[PathBuf]) -> PyResult<()> {
    let sys_path = py.import("sys")?.getattr("path")?.cast_into::<PyList>()?;
    for folder in path.iter().map(PathBuf::as_path) {
        if !sys_path.contains(folder.as_os_str())? {
            sys_path.append(folder.as_os_str())?;
        }
    }
    Ok(())
}

/// What the variables were before they were set.
static BEFORE: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
/// What the program around us wants done when it ends is not for a child to do, such as to delete its temporary folder.
/// Those of `logging` flush what the child itself has written.
fn forget_exit_functions(py: Python<'_>) -> PyResult<()> {
    let atexit = py.import("atexit")?;
    atexit.call_method0("_clear")?;
    if let Some(logging) = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.get_item("logging")? {
        atexit.call_method1("register", (logging.getattr("shutdown")?,))?;
    }
    Ok(())
}

/// Collects the garbage of the import and takes what is left out of all later collections: the modules and functions of
/// an application live as long as its worker, and looking through them again and again costs time.
pub fn freeze_garbage_collector(py: Python<'_>) -> PyResult<()> {
    let gc = py.import("gc")?;
    gc.call_method0("collect")?;
    gc.call_method0("freeze")?;
    Ok(())
}

/// Calls `fork`, which forks this process or fails to, between the calls that Python wants before and after it on
/// either side; returns what it returns. Without them two children draw the same random numbers, and may wait for
/// locks of threads that they do not have.
pub fn fork<T>(py: Python<'_>, fork: impl FnOnce() -> T) -> T {
    // What waits to be printed would be printed by the child, too.
    flush_streams(py);
    ffi::fork(py, fork)
}

fn flush_streams(py: Python<'_>) {
    for name in ["stdout", "stderr"] {
        let flushed = py.import("sys").and_then(|sys| sys.getattr(name)).and_then(|file| file.call_method0("flush"));
        if let Err(error) = flushed {
            log::debug!("sys.{name} cannot be flushed: {error}");
        }
    }
}

/// The threads that Python knows other than this one: the name, and the number that the kernel knows it by.
///
/// # Errors
/// What Python raises.
pub fn other_threads(py: Python<'_>) -> PyResult<Vec<(i32, String)>> {
    let threading = py.import("threading")?;
    let own = threading.call_method0("current_thread")?;
    let mut found = Vec::new();
    for thread in threading.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        // A thread that has not begun to run has no number yet.
        if let (false, Some(number)) = (thread.is(&own), thread.getattr("native_id")?.extract()?) {
            found.push((number, thread.getattr("name")?.extract()?));
        }
    }
    Ok(found)
}

/// Has faulthandler write the stacks of all threads to `file` upon the signal of this number. The handler runs without
/// the GIL in whatever thread the signal finds, as `faulthandler.dump_traceback_later` does.
///
/// # Errors
/// What Python raises.
pub fn write_stacks_upon(py: Python<'_>, number: i32, file: &File) -> PyResult<()> {
    let options = PyDict::new(py);
    options.set_item("file", file.as_raw_fd())?;
    options.set_item("all_threads", true)?;
    options.set_item("chain", false)?;
    py.import("faulthandler")?.call_method("register", (number,), Some(&options))?;
    Ok(())
}

/// Ends Python's part of a child: threads are waited for, `atexit` functions run. No Python object may be touched
/// afterwards. An interpreter that [`Interpreter::start`] has started is ended; that of a program around us is not, whose
/// objects are not the child's to destroy, as `os.fork()` and `os._exit()` have it.
pub fn finalize() {
    if is_guest() {
        Python::attach(leave);
    }
    ffi::finalize();
}

/// What CPython does before it destroys anything.
fn leave(py: Python<'_>) {
    let call = |module: &str, function: &str| py.import(module)?.call_method0(function);
    let ended = call("threading", "_shutdown").and_then(|_| call("atexit", "_run_exitfuncs"));
    if let Err(error) = ended {
        error.write_unraisable(py, None);
    }
    flush_streams(py);
}

fn prepare(py: Python<'_>, path: &[PathBuf], crashes: Option<&File>) -> PyResult<()> {
    extend_path(py, path)?;
    // A crash in C code then leaves the Python stacks. Without a usable stderr or file that is not to be had.
    if let Err(error) = write_stacks_of_crashes(py, crashes) {
        log::debug!("no stacks will be printed on a crash: {error}");
    }
    Ok(())
}

/// The descriptor goes by its number, so that nothing is written to a Python file object, which could be closed.
fn write_stacks_of_crashes(py: Python<'_>, crashes: Option<&File>) -> PyResult<()> {
    let options = PyDict::new(py);
    if let Some(file) = crashes {
        options.set_item("file", file.as_raw_fd())?;
    }
    py.import("faulthandler")?.call_method("enable", (), Some(&options))?;
    Ok(())
}

/// `--python` may be a path, a name on PATH, or the folder of an environment.
fn given(python: &Path, path: Option<OsString>) -> Result<PathBuf, InterpreterError> {
    if python.is_dir() {
        let inside = python.join("bin/python");
        return if is_executable(&inside) { Ok(inside) } else { Err(InterpreterError::NotFound(python.to_owned())) };
    }
    if python.components().count() > 1 {
        return if is_executable(python) {
            Ok(python.to_owned())
        } else {
            Err(InterpreterError::NotFound(python.to_owned()))
        };
    }
    let found = search(path, python).into_iter().next();
    found.ok_or_else(|| InterpreterError::NotFound(python.to_owned()))
}

fn search(path: Option<OsString>, name: impl AsRef<Path>) -> Vec<PathBuf> {
    let Some(path) = path else { return Vec::new() };
    std::env::split_paths(&path).map(|folder| folder.join(name.as_ref())).filter(|file| is_executable(file)).collect()
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Compares `pyvenv.cfg` with the libpython that is loaded. Says whether there is one.
fn check_version(python: &Path) -> Result<bool, InterpreterError> {
    // As CPython: beside the executable, or one folder up.
    let folders = python.ancestors().skip(1).take(2);
    for folder in folders {
        let Ok(text) = std::fs::read_to_string(folder.join("pyvenv.cfg")) else { continue };
        return match environment_version(&text) {
            Some(found) if found != major_minor() => {
                Err(InterpreterError::Version { environment: folder.to_owned(), found })
            }
            _ => Ok(true),
        };
    }
    Ok(false)
}

/// `major.minor` out of pyvenv.cfg: `version = 3.11.7` of venv, `version_info = 3.11.7.final.0` of virtualenv and uv.
fn environment_version(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        matches!(key.trim(), "version" | "version_info").then(|| value.trim())
    })?;
    let mut parts = value.split('.');
    Some(format!("{}.{}", parts.next()?, parts.next()?))
}

/// The Python of the installation that this program was built for.
fn installation(path: Option<OsString>) -> Option<PathBuf> {
    let prefix = Path::new(env!("MINICORN_PYTHON_PREFIX"));
    let on_path = search(path, "python3").into_iter().find(|python| is_installed_in(python, prefix));
    on_path.or_else(|| Some(prefix.join("bin/python3")).filter(|python| python.is_absolute() && is_executable(python)))
}

/// A libpython of one installation with the standard library of another, even of the same version, is a mixture that
/// nobody has tested: `/usr/bin/python3` has no business with a libpython that was built elsewhere.
fn is_installed_in(python: &Path, prefix: &Path) -> bool {
    let same = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    python.ancestors().nth(2).is_some_and(|found| same(found, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_environments() {
        assert_eq!(environment_version("home = /usr/bin\nversion = 3.11.7\n"), Some("3.11".to_owned()));
        assert_eq!(environment_version("version_info=3.12.1.final.0\n"), Some("3.12".to_owned()));
        assert_eq!(environment_version("home = /usr/bin\n"), None);
    }

    #[test]
    fn an_environment_of_another_version_is_refused() {
        let folder = std::env::temp_dir().join(format!("minicorn-venv-{}", std::process::id()));
        let python = folder.join("bin/python");
        std::fs::create_dir_all(folder.join("bin")).expect("a folder");
        std::os::unix::fs::symlink("/bin/sh", &python).expect("a link");
        std::fs::write(folder.join("pyvenv.cfg"), "version = 2.7.18\n").expect("a file");
        let none = |_: &str| None;
        let virtual_env = |name: &str| (name == "VIRTUAL_ENV").then(|| folder.clone().into_os_string());
        let expected = InterpreterError::Version { environment: folder.clone(), found: "2.7".to_owned() };
        assert_eq!(Interpreter::choose(Some(&python), &none), Err(expected));
        assert!(Interpreter::choose(None, &virtual_env).is_err());
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn without_an_environment_it_is_the_installation_of_the_build() {
        let path = std::env::join_paths(["/usr/bin", "/bin"]).expect("no colon");
        let prefix = Path::new(env!("MINICORN_PYTHON_PREFIX"));
        let executable = installation(Some(path)).expect("the build's Python is still there");
        assert!(is_installed_in(&executable, prefix), "{executable:?} is not in {prefix:?}");
    }

    #[test]
    fn a_python_that_is_not_there_is_named() {
        let error = Interpreter::choose(Some(Path::new("no/such/python")), &|_| None).expect_err("refused");
        assert_eq!(error.to_string(), "--python no/such/python: not an executable file");
    }
}
