//! `--spew`: each line of Python that runs is written to standard output. The work is done by `spew.py`.

use super::embedded::Embedded;
use pyo3::prelude::*;

static CODE: Embedded = Embedded::new("spew", include_str!("spew.py"));

/// Begins with it in this thread, and in those that Python starts from now on.
pub fn begin(py: Python<'_>) {
    let begun = CODE.module(py).and_then(|code| code.getattr("begin")?.call0());
    if let Err(error) = begun {
        log::warn!("--spew: lines cannot be traced: {error}");
    }
}
