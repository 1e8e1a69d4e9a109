//! The extension module `minicorn._minicorn`: the server as a guest in a Python that runs already. Its face is the package
//! in python/minicorn; here are the few calls that it makes.
//!
//! The interpreter of the caller is the one that serves: the master is detached from it, and its workers, forked as
//! `os.fork()` would, take it over.

use crate::ctl;
use crate::exit::Exit;
use crate::program::{self, Caller};
use crate::settings::{self, Settings, SettingsError, Value};
use crate::sys::daemon;
use crate::sys::signal;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// The extension module.
#[pymodule]
pub mod _minicorn {
    use crate::settings::HookName;
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{command, keyword_arguments, keywords, serve};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("HOOKS", HookName::ALL.map(HookName::as_str))?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// The command `minicorn`: does what the arguments say and returns the exit status; tells on standard error what is wrong
/// with them. `again` starts this process another time.
#[pyfunction]
pub fn command(py: Python<'_>, arguments: Vec<OsString>, again: Vec<OsString>) -> PyResult<u8> {
    if ctl::is_meant(&arguments) {
        return Ok(py.detach(|| ctl::run(arguments)).status());
    }
    let caller = Caller { command: again, application: None };
    let exit = as_guest(py, || match settings::read(arguments, program::SURROUNDINGS) {
        Ok(settings) => program::run(settings, Some(&caller)),
        Err(answer) => answer.report(),
    })?;
    Ok(exit.status())
}

/// The same for a program that is to go on after it: wrong arguments raise. `application` is served in place of the one
/// that the arguments name.
#[pyfunction]
#[pyo3(signature = (arguments, again, application=None))]
pub fn serve(
    py: Python<'_>,
    arguments: Vec<OsString>,
    again: Vec<OsString>,
    application: Option<Py<PyAny>>,
) -> PyResult<u8> {
    let caller = Caller { command: again, application };
    let run = || match settings::read(arguments, program::SURROUNDINGS) {
        Ok(settings) if settings.reload && caller.application.is_some() => Err(RELOAD_OF_AN_OBJECT.to_owned()),
        Ok(settings) => Ok(program::run(settings, Some(&caller))),
        Err(error) => Err(reason(&error)),
    };
    let exit: Exit = as_guest(py, run)?.map_err(PyValueError::new_err)?;
    Ok(exit.status())
}

const RELOAD_OF_AN_OBJECT: &str =
    "reload: an application that is an object cannot be imported again; name it, as in \"module:name\"";

/// The names that [`keyword_arguments`] knows.
#[pyfunction]
pub fn keywords() -> Vec<String> {
    Settings::keywords()
}

/// A setting by its name, and its value, as the command line would take it.
#[pyfunction]
pub fn keyword_arguments(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<OsString>> {
    Settings::keyword_arguments(name, &to_value(name, value)?).map_err(PyValueError::new_err)
}

/// Whether a server runs in this process, or in one that this one was forked from.
static IS_SERVING: AtomicBool = AtomicBool::new(false);

/// Runs `serve` detached from Python, and gives the process back as it was.
fn as_guest<T: Send>(py: Python<'_>, serve: impl FnOnce() -> T + Send) -> PyResult<T> {
    // Workers that serve what they import would fork workers, without an end.
    if IS_SERVING.swap(true, Ordering::Relaxed) {
        return Err(PyRuntimeError::new_err(
            "a worker is about to start a server: guard the call with `if __name__ == \"__main__\":`",
        ));
    }
    let result = py.detach(|| {
        let _loan = Loan::take()?;
        io::Result::Ok(serve())
    });
    IS_SERVING.store(false, Ordering::Relaxed);
    result.map_err(|error| PyOSError::new_err(error.to_string()))
}

/// What the server changes of the process that it is a guest of.
struct Loan {
    folder: Option<PathBuf>,
    umask: u32,
    _signals: signal::Borrowed,
}

impl Loan {
    fn take() -> io::Result<Self> {
        // There is no other way to ask for it.
        let umask = daemon::set_umask(0o077);
        daemon::set_umask(umask);
        Ok(Self { folder: std::env::current_dir().ok(), umask, _signals: signal::Borrowed::take()? })
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        daemon::set_umask(self.umask);
        if let Some(folder) = &self.folder
            && let Err(error) = std::env::set_current_dir(folder)
        {
            log::debug!("the working directory of before is gone: {}: {error}", folder.display());
        }
    }
}

/// What is wrong, without the advice for those who sit in front of a command line.
fn reason(error: &SettingsError) -> String {
    let text = error.text();
    let end = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|advice| text.find(advice)).min();
    let text = text[..end.unwrap_or(text.len())].trim_end();
    text.strip_prefix("error: ").unwrap_or(text).to_owned()
}

fn to_value(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Value::Flag(flag.is_true()));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let pairs = dict.iter().map(|(key, item)| Ok((text(name, &key)?, text(name, &item)?)));
        return Ok(Value::Map(pairs.collect::<PyResult<_>>()?));
    }
    let is_list = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
    if is_list || value.is_instance_of::<PySet>() || value.is_instance_of::<PyFrozenSet>() {
        let items = value.try_iter()?.map(|item| text(name, &item?));
        return Ok(Value::List(items.collect::<PyResult<_>>()?));
    }
    text(name, value).map(Value::Text)
}

/// A text, a number or a path.
fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let value = if value.hasattr("__fspath__")? { value.call_method0("__fspath__")? } else { value.clone() };
    let has_text = value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>();
    if let Ok(text) = value.cast::<PyString>() {
        return text.extract();
    }
    if has_text {
        // By its value, which is not what an enum prints.
        let is_whole = value.is_instance_of::<PyInt>();
        return if is_whole { value.call_method0("__int__")?.str()? } else { value.str()? }.extract();
    }
    Err(PyTypeError::new_err(format!("{name}: {} is no value of a setting", value.get_type().name()?)))
}
