//! Python code of the program's own, which is compiled when it is needed for the first time.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use std::ffi::CString;

/// What the names of its files begin with.
pub(super) const OWN: &str = "<minicorn>/";

/// A module that is not in `sys.modules` for others to find by chance: its name there is `_minicorn_NAME`.
pub(super) struct Embedded {
    name: &'static str,
    source: &'static str,
    module: PyOnceLock<Py<PyModule>>,
}

impl Embedded {
    pub(super) const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, module: PyOnceLock::new() }
    }

    /// The module, run now if it has not been.
    ///
    /// # Errors
    /// Python is out of memory.
    pub(super) fn module<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyModule>> {
        let module = self.module.get_or_try_init(py, || {
            let source = CString::new(self.source)?;
            let file = CString::new(format!("{OWN}{}.py", self.name))?;
            let name = CString::new(format!("_minicorn_{}", self.name))?;
            PyModule::from_code(py, &source, &file, &name).map(Bound::unbind)
        })?;
        Ok(module.bind(py).clone())
    }
}
