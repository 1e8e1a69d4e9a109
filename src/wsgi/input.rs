//! `wsgi.input`: a complete request body, read like a file (PEP 3333, Input and Error Streams).

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// A body in memory. Reading never goes past its end, and an empty one has no state, so that all requests without a
/// body share one (95 ns a request).
#[pyclass(module = "minicorn")]
pub(super) struct Input {
    body: Vec<u8>,
    /// `position <= body.len()`.
    position: usize,
}

impl Input {
    pub(super) fn new(body: Vec<u8>) -> Self {
        Self { body, position: 0 }
    }

    /// At most `size` bytes; what is missing, `None` or negative means all, as for Python's files.
    fn take(&mut self, size: Option<isize>) -> &[u8] {
        let start = self.position;
        let left = self.body.len() - start;
        self.position += limit(size).map_or(left, |size| size.min(left));
        &self.body[start..self.position]
    }

    fn take_line(&mut self, size: Option<isize>) -> &[u8] {
        let rest = &self.body[self.position..];
        let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
        let line = limit(size).map_or(line, |size| size.min(line));
        self.take(Some(line as isize))
    }
}

fn limit(size: Option<isize>) -> Option<usize> {
    size.and_then(|size| usize::try_from(size).ok())
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.take(size))
    }

    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.take_line(size))
    }

    /// Lines until `hint` bytes have been read; a hint of 0 or less means all.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&mut self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let lines = PyList::empty(py);
        let hint = limit(hint).filter(|&hint| hint > 0).unwrap_or(usize::MAX);
        let start = self.position;
        while self.position < self.body.len() && self.position - start < hint {
            lines.append(self.readline(py, None))?;
        }
        Ok(lines)
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        (self.position < self.body.len()).then(|| self.readline(py, None))
    }
}

#[cfg(test)]
mod tests {
    use super::Input;

    #[test]
    fn reads_stay_within_the_body() {
        let mut input = Input::new(b"one\ntwo\nend".to_vec());
        assert_eq!(input.take(Some(2)), b"on");
        assert_eq!(input.take_line(None), b"e\n");
        assert_eq!(input.take_line(Some(2)), b"tw");
        assert_eq!(input.take_line(Some(9)), b"o\n");
        assert_eq!(input.take(Some(0)), b"");
        assert_eq!(input.take(Some(-1)), b"end");
        assert_eq!(input.take(None), b"");
        assert_eq!(input.take_line(Some(-5)), b"");
    }
}
