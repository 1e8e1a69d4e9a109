//! An exception as the text that Python itself would print.

use super::embedded::OWN;
use pyo3::prelude::*;

/// The traceback of `error`, with the exceptions that led to it, without a line end at its end.
pub(super) fn render(py: Python<'_>, error: &PyErr) -> String {
    let formatted = py.import("traceback").and_then(|module| {
        let lines =
            module.call_method1("format_exception", (error.get_type(py), error.value(py), without_own(py, error)?))?;
        lines.extract::<Vec<String>>()
    });
    match formatted {
        Ok(lines) => lines.concat().trim_end().to_owned(),
        // An exception whose __str__ raises, or no memory left: its type is better than nothing.
        Err(_) => error.to_string(),
    }
}

/// From the first function on that is not the server's own.
fn without_own<'py>(py: Python<'py>, error: &PyErr) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut trace = error.traceback(py).map(Bound::into_any);
    while let Some(current) = &trace {
        let file: String = current.getattr("tb_frame")?.getattr("f_code")?.getattr("co_filename")?.extract()?;
        if !file.starts_with(OWN) {
            break;
        }
        trace = Some(current.getattr("tb_next")?).filter(|next| !next.is_none());
    }
    Ok(trace)
}
