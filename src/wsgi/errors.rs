//! `wsgi.errors`: text of the application → the error log, line by line.

use pyo3::prelude::*;

/// Collects text until a line is complete, so that `print(…, file=environ["wsgi.errors"])`, which writes the text and
/// its line end apart, makes one record.
#[pyclass(module = "minicorn")]
#[derive(Default)]
pub(super) struct Errors {
    partial: String,
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
        if !text.is_empty() {
            log::error!("{text}");
        }
    }
}
