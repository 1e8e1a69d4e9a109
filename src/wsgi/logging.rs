//! Python's logging: gunicorn's loggers, whose handlers write to our error log, and `--log-config`, with which our logs
//! go through those loggers. The work is done by `logging.py`, which is compiled when somebody imports `logging`.

use super::embedded::Embedded;
use super::hooks::{self, Hooks};
use super::traceback;
use crate::log::{Told, UNROUTED};
use crate::settings::{LogTarget, Settings};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyList, PyTuple};

static CODE: Embedded = Embedded::new("logging", include_str!("logging.py"));

/// Has `logging.getLogger("gunicorn.error")` write to our error log, from now on or from when `logging` is imported: most
/// applications do that, and the others are not to pay for it.
///
/// # Errors
/// What Python raises.
pub fn bridge(py: Python<'_>, level: log::LevelFilter) -> PyResult<()> {
    let sys = py.import("sys")?;
    let after = installer(py, level)?;
    let modules = sys.getattr("modules")?;
    if let Ok(logging) = modules.get_item("logging") {
        return after.call1((logging,)).map(drop);
    }
    let finders = sys.getattr("meta_path")?.cast_into::<PyList>()?;
    let is_there = |finder: Bound<'_, PyAny>| finder.is_instance_of::<Finder>();
    if finders.iter().any(is_there) { Ok(()) } else { finders.insert(0, Finder { after: after.into_any().unbind() }) }
}

/// What is to be done with `logging` once it is there.
fn installer(py: Python<'_>, level: log::LevelFilter) -> PyResult<Bound<'_, PyCFunction>> {
    let number = match level {
        log::LevelFilter::Off | log::LevelFilter::Error => 40,
        log::LevelFilter::Warn => 30,
        log::LevelFilter::Info => 20,
        log::LevelFilter::Debug | log::LevelFilter::Trace => 10,
    };
    PyCFunction::new_closure(py, Some(c"install"), None, move |arguments: &Bound<'_, PyTuple>, _| -> PyResult<()> {
        let py = arguments.py();
        let logging = arguments.get_item(0)?;
        CODE.module(py)?.getattr("install")?.call1((logging, writer(py)?, number)).map(drop)
    })
}

/// `write(level, text)`, never by way of these loggers.
fn writer(py: Python<'_>) -> PyResult<Bound<'_, PyCFunction>> {
    PyCFunction::new_closure(py, Some(c"write_log"), None, |arguments: &Bound<'_, PyTuple>, _| -> PyResult<()> {
        let (number, text): (i64, String) = arguments.extract()?;
        log::log!(target: UNROUTED, hooks::level(number), "{text}");
        Ok(())
    })
}

/// Waits in `sys.meta_path` for the import of `logging`.
#[pyclass(module = "minicorn")]
struct Finder {
    after: Py<PyAny>,
}

#[pymethods]
impl Finder {
    #[pyo3(signature = (name, _path=None, _target=None))]
    fn find_spec<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        _path: Option<Bound<'py, PyAny>>,
        _target: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if name != "logging" {
            return Ok(None);
        }
        let py = slf.py();
        let after = slf.borrow().after.clone_ref(py);
        CODE.module(py)?.getattr("spec")?.call1((slf, after)).map(Some)
    }
}

/// Whether the logs go through Python.
pub fn is_configured(settings: &Settings) -> bool {
    let logging = &settings.logging;
    logging.log_config.is_some() || logging.log_config_json.is_some() || logging.log_config_dict.is_some()
}

/// Whether the configuration of logging stands in the configuration file as a dict.
pub fn is_in_file(settings: &Settings) -> bool {
    settings.logging.log_config_dict.as_deref() == Some("")
}

/// Configures Python's logging as `--log-config` and its like say; a dict of a configuration file is taken from `hooks`.
///
/// # Errors
/// A sentence, and below it the traceback.
pub fn configure(settings: &Settings, hooks: Option<&Hooks>) -> Result<(), String> {
    Python::attach(|py| {
        let logging = &settings.logging;
        let code = CODE.module(py);
        let configured = code.and_then(|code| {
            let dictionary = match logging.log_config_dict.as_deref() {
                None => None,
                // It stands in the configuration file.
                Some("") => hooks.and_then(|hooks| hooks.value(py, "logconfig_dict")),
                Some(text) => Some(code.getattr("parsed")?.call1((text,))?.unbind()),
            };
            code.getattr("configure")?.call1((dictionary, &logging.log_config_json, &logging.log_config)).map(drop)
        });
        configured.map_err(|error| format!("{}: {}", option(settings), traceback::render(py, &error)))
    })
}

fn option(settings: &Settings) -> String {
    let logging = &settings.logging;
    match (&logging.log_config_dict, &logging.log_config_json, &logging.log_config) {
        (Some(_), ..) => "--log-config-dict".to_owned(),
        (None, Some(path), _) => format!("--log-config-json {}", path.display()),
        (None, None, Some(path)) => format!("--log-config {}", path.display()),
        (None, None, None) => "--log-config".to_owned(),
    }
}

/// gunicorn's two loggers, as configured.
#[derive(Debug)]
pub struct Loggers {
    /// `None`: the configuration has nothing to say about it, and lines go where they go without one.
    error: Option<Py<PyAny>>,
    access: Option<Py<PyAny>>,
}

impl Loggers {
    /// # Errors
    /// What Python raises.
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        let find = CODE.module(py)?.getattr("configured")?;
        let logger = |name: &str| -> PyResult<Option<Py<PyAny>>> {
            let found = find.call1((name,))?;
            Ok((!found.is_none()).then(|| found.unbind()))
        };
        Ok(Self { error: logger("gunicorn.error")?, access: logger("gunicorn.access")? })
    }

    /// For requests alone, if somebody has put a filter or a handler on gunicorn.access; `None` if nobody has, or there is
    /// no access log. What the filters leave goes to `target`.
    ///
    /// # Errors
    /// What Python raises.
    pub fn for_filtered_requests(py: Python<'_>, target: &LogTarget) -> PyResult<Option<Self>> {
        let path = match target {
            LogTarget::None | LogTarget::Stderr => return Ok(None),
            LogTarget::Stdout => None,
            LogTarget::File(path) => Some(path),
        };
        if !py.import("sys")?.getattr("modules")?.contains("logging")? {
            return Ok(None);
        }
        let is_adopted: bool = CODE.module(py)?.getattr("adopt")?.call1((path,))?.extract()?;
        if is_adopted { Self::new(py).map(|own| Some(Self { error: None, ..own })) } else { Ok(None) }
    }

    /// Whether events are for a logger.
    pub fn takes_errors(&self) -> bool {
        self.error.is_some()
    }

    /// Whether requests are.
    pub fn takes_requests(&self) -> bool {
        self.access.is_some()
    }

    /// A line of the error log.
    pub fn error(&self, py: Python<'_>, level: log::Level, text: &str) {
        let number = match level {
            log::Level::Error => 40,
            log::Level::Warn => 30,
            log::Level::Info => 20,
            log::Level::Debug | log::Level::Trace => 10,
        };
        if let Some(logger) = &self.error {
            note(py, logger.bind(py).call_method1("log", (number, text)));
        }
    }

    /// A request of the access log.
    pub fn access(&self, py: Python<'_>, told: &Told) {
        if let Some(logger) = &self.access {
            let (line, atoms) = (String::from_utf8_lossy(&told.line), String::from_utf8_lossy(&told.atoms));
            let tell = CODE.module(py).and_then(|code| code.getattr("tell"));
            note(py, tell.and_then(|tell| tell.call1((logger, line, atoms))));
        }
    }

    /// Opens the files of all handlers anew.
    pub fn reopen(&self, py: Python<'_>) {
        note(py, CODE.module(py).and_then(|code| code.getattr("reopen")?.call0()));
    }
}

/// Handlers deal with their errors themselves; a filter may raise.
fn note(py: Python<'_>, called: PyResult<Bound<'_, PyAny>>) {
    if let Err(error) = called {
        log::error!(target: UNROUTED, "Python's logging raised\n{}", traceback::render(py, &error));
    }
}
