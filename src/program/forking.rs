//! Forking the master, whether Python runs in it or not.

use crate::sys::process::{self, Fork};
use crate::wsgi::interpreter;
use pyo3::Python;
use std::io;

/// Forks this process, with Python ready for it if it runs here: then it may have threads, which the child lacks.
///
/// # Errors
/// The system refuses another process; or there are threads without Python.
pub(super) fn fork() -> io::Result<Fork> {
    if interpreter::is_running() {
        Python::attach(|py| interpreter::fork(py, process::fork_with_threads))
    } else {
        process::fork()
    }
}
