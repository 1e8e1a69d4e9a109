//! An exception as the text that Python itself would print.

use pyo3::prelude::*;

/// The traceback of `error`, with the exceptions that led to it, without a line end at its end.
pub(super) fn render(py: Python<'_>, error: &PyErr) -> String {
    let formatted = py.import("traceback").and_then(|module| {
        let lines =
            module.call_method1("format_exception", (error.get_type(py), error.value(py), error.traceback(py)))?;
        lines.extract::<Vec<String>>()
    });
    match formatted {
        Ok(lines) => lines.concat().trim_end().to_owned(),
        // An exception whose __str__ raises, or no memory left: its type is better than nothing.
        Err(_) => error.to_string(),
    }
}
