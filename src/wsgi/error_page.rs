//! The application that is served, for development, in place of one that cannot be loaded: it says why.

use super::app::LoadError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction, PyList, PyTuple};

/// A callable of PEP 3333 that answers every request with a 500 that shows `error`.
///
/// # Errors
/// Python is out of memory.
pub fn error_page(py: Python<'_>, error: &LoadError) -> PyResult<Py<PyAny>> {
    let body = PyBytes::new(py, page(error).as_bytes()).unbind();
    let app = PyCFunction::new_closure(py, Some(c"error_page"), None, move |arguments: &Bound<'_, PyTuple>, _| {
        answer(arguments, &body)
    })?;
    Ok(app.into_any().unbind())
}

fn answer(arguments: &Bound<'_, PyTuple>, body: &Py<PyBytes>) -> PyResult<Py<PyList>> {
    let py = arguments.py();
    let length = body.bind(py).as_bytes().len().to_string();
    let fields = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", length.as_str()),
        // A browser is to ask again when the mistake is mended.
        ("Cache-Control", "no-store"),
    ];
    arguments.get_item(1)?.call1(("500 Internal Server Error", PyList::new(py, fields)?))?;
    Ok(PyList::new(py, [body.bind(py)])?.unbind())
}

fn page(error: &LoadError) -> String {
    let traceback = error.traceback().map_or_else(String::new, |text| format!("<pre>{}</pre>\n", escape(text)));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{TITLE}</title>\n<style>{STYLE}</style>\n\
         <h1>{TITLE}</h1>\n<p>{}</p>\n{traceback}<p>It is loaded anew when a file changes.</p>\n</html>\n",
        escape(error.sentence()),
    )
}

const TITLE: &str = "The application cannot be loaded";
const STYLE: &str =
    "body { font-family: sans-serif; margin: 2em } pre { overflow-x: auto; padding: 1em; background: #eee }";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_error_is_markup() {
        assert_eq!(escape("<b title=\"a\">&amp;"), "&lt;b title=&quot;a&quot;&gt;&amp;amp;");
    }
}
