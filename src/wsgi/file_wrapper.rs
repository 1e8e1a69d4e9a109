//! `wsgi.file_wrapper` (PEP 3333, Optional Platform-Specific File Handling): a file-like object as an iterable.

use pyo3::prelude::*;

#[pyclass(module = "minicorn")]
pub(super) struct FileWrapper {
    filelike: Py<PyAny>,
    block_bytes: usize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=8192))]
    fn new(filelike: Py<PyAny>, blksize: usize) -> Self {
        Self { filelike, block_bytes: blksize }
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.filelike.bind(py).call_method1("read", (self.block_bytes,))?;
        Ok(if block.is_truthy()? { Some(block) } else { None })
    }

    /// Closes the file if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.filelike.bind(py).getattr_opt("close")? {
            close.call0()?;
        }
        Ok(())
    }
}
