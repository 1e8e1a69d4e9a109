//! An interpreter for the unit tests of this module.

use super::ffi;
use pyo3::prelude::*;
use std::ffi::CString;
use std::path::Path;
use std::sync::OnceLock;

/// Runs `test` attached to the Python that this program was built for.
pub(super) fn with_python<R>(test: impl FnOnce(Python<'_>) -> R) -> R {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        // Not as a worker starts it: `faulthandler` would take signals whose handlers other tests look at.
        let python = Path::new(env!("MINICORN_PYTHON_PREFIX")).join("bin/python3");
        let executable = python.to_str().and_then(|path| CString::new(path).ok());
        ffi::start(&ffi::Start { executable, argv: Vec::new() }).expect("Python starts");
    });
    Python::attach(test)
}
