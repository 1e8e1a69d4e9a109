//! `wsgi.errors`: text of the application → the error log, line by line.

use super::start_response::SharedExchange;
use crate::log as logs;
use pyo3::prelude::*;

/// Collects text until a line is complete, so that `print(…, file=environ["wsgi.errors"])`, which writes the text and
/// its line end apart, makes one record.
#[pyclass(module = "minicorn")]
pub(super) struct Errors {
    partial: String,
    /// Knows which request is in the application.
    exchange: SharedExchange,
}

/// A line that never ends is logged in pieces of this size.
const PARTIAL_BYTES_MAX: usize = 64 * 1024;

#[pymethods]
impl Errors {
    fn write(&mut self, text: &str) -> usize {
        self.partial.push_str(text);
        if self.partial.ends_with('\n') || self.partial.len() > PARTIAL_BYTES_MAX {
            self.flush();
        }
        text.chars().count()
    }

    fn writelines(&mut self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(line?.extract()?);
        }
        Ok(())
    }

    /// Also called at the end of each request, so that a line without an end is not lost.
    pub(super) fn flush(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.partial);
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return;
        }
        match self.request_name() {
            None => log::error!(target: logs::WSGI_ERRORS, "{text}"),
            Some(name) => log::error!(target: logs::WSGI_ERRORS, "request_id={name} {text}"),
        }
    }
}

impl Errors {
    pub(super) fn new(exchange: SharedExchange) -> Self {
        Self { partial: String::new(), exchange }
    }

    /// If requests have names and one is in the application. What it writes from another thread later counts as the next
    /// request's.
    fn request_name(&self) -> Option<String> {
        let exchange = self.exchange.lock();
        let name = exchange.request()?.request_id;
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }
}
