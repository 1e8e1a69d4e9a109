//! `wsgi.file_wrapper` (PEP 3333, Optional Platform-Specific File Handling): a file-like object as an iterable, and
//! which of them are files that the kernel can send.

use super::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

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

/// The rest of a regular file, from where the application's file object stands.
#[derive(Debug)]
pub struct FileRange {
    /// A descriptor of our own, which stays open when the application closes its file. Its cursor is the application's.
    pub file: File,
    /// Where to begin.
    pub offset: u64,
    /// Bytes from there to the end, as the file is now.
    pub length: u64,
}

/// What is left to read of the file in `iterable`, if that is a [`FileWrapper`] and the bytes that reading would give
/// are for certain those of a regular file.
///
/// Only the file types of `io` themselves are trusted: any other object with a `fileno()` may give other bytes than its
/// descriptor, as `gzip.GzipFile` does. What is closed, or odd in another way, is left to reading, which has the right
/// error for it.
pub(super) fn regular_file(iterable: &Bound<'_, PyAny>) -> Option<FileRange> {
    let wrapper = iterable.cast_exact::<FileWrapper>().ok()?.borrow();
    let filelike = wrapper.filelike.bind(iterable.py());
    // An error is dropped with its result, and was never set in the interpreter.
    range(filelike).ok().flatten()
}

fn range(filelike: &Bound<'_, PyAny>) -> PyResult<Option<FileRange>> {
    let py = filelike.py();
    let Some(stream) = stream(filelike)? else { return Ok(None) };
    if !stream.call_method0(intern!(py, "readable"))?.is_truthy()? {
        return Ok(None);
    }
    // What has been written to it and is not in the file yet lies before this.
    let offset: u64 = stream.call_method0(intern!(py, "tell"))?.extract()?;
    let descriptor = stream.call_method0(intern!(py, "fileno"))?.extract()?;
    let Some(file) = ffi::duplicate_descriptor(descriptor).map(File::from) else { return Ok(None) };
    let metadata = file.metadata()?;
    // Files for which no block is stored may be made up while they are read, as those of /proc and /sys are, whatever
    // size they tell.
    if !metadata.is_file() || metadata.blocks() == 0 {
        return Ok(None);
    }
    Ok(Some(FileRange { file, offset, length: metadata.len().saturating_sub(offset) }))
}

/// The file object of `io` that `filelike` is, or that it has inside if `tempfile.NamedTemporaryFile` made it: its
/// `read` is that of its `file`.
fn stream<'py>(filelike: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = filelike.py();
    if is_io_file(filelike)? {
        return Ok(Some(filelike.clone()));
    }
    let kind = filelike.get_type();
    // The module is not imported for applications that do not use it.
    if !kind.getattr(intern!(py, "__module__"))?.eq(intern!(py, "tempfile"))?
        || !kind.is(TEMPORARY.import(py, "tempfile", "_TemporaryFileWrapper")?)
    {
        return Ok(None);
    }
    let inner = filelike.getattr(intern!(py, "file"))?;
    Ok(if is_io_file(&inner)? { Some(inner) } else { None })
}

/// Whether this is an `io.FileIO`, or reads right from one.
fn is_io_file(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    let kind = object.get_type();
    if kind.is(FILE_IO.import(py, "io", "FileIO")?) {
        return Ok(true);
    }
    let is_buffered = kind.is(BUFFERED_READER.import(py, "io", "BufferedReader")?)
        || kind.is(BUFFERED_RANDOM.import(py, "io", "BufferedRandom")?);
    Ok(is_buffered && object.getattr(intern!(py, "raw"))?.get_type().is(FILE_IO.import(py, "io", "FileIO")?))
}

static FILE_IO: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_READER: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_RANDOM: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static TEMPORARY: PyOnceLock<Py<PyType>> = PyOnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wsgi::testing::with_python;
    use pyo3::types::PyDict;
    use std::ffi::CString;
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    /// Evaluates Python with `path`, a file of 100,000 bytes, and wraps the outcome.
    fn check<R>(code: &str, test: impl FnOnce(&Bound<'_, PyAny>, Option<FileRange>) -> R) -> R {
        let named = tempfile::NamedTempFile::new().expect("a temporary file");
        named.as_file().write_all_at(&content(), 0).expect("written");
        with_python(|py| {
            let names = PyDict::new(py);
            names.set_item("path", named.path()).expect("set");
            names.set_item("FileWrapper", py.get_type::<FileWrapper>()).expect("set");
            let code = CString::new(format!("import gzip, io, os, tempfile\n{code}")).expect("no NUL");
            py.run(&code, Some(&names), None).unwrap_or_else(|error| panic!("{code:?}: {error}"));
            let file = names.get_item("f").expect("looked up").expect("the code sets f");
            let wrapper = Bound::new(py, FileWrapper::new(file.clone().unbind(), 8192)).expect("a wrapper");
            let range = regular_file(wrapper.as_any());
            assert!(PyErr::take(py).is_none(), "{code:?} leaves an error behind");
            test(&file, range)
        })
    }

    fn content() -> Vec<u8> {
        (0..100_000).map(|number: u32| (number % 251) as u8).collect()
    }

    #[test]
    fn the_files_of_io_are_sent_from_where_they_stand() {
        let cases = [
            ("f = open(path, 'rb')", 0),
            ("f = open(path, 'rb', 0)", 0),
            ("f = io.FileIO(path)", 0),
            ("f = io.BufferedReader(io.FileIO(path), 10)", 0),
            ("f = open(path, 'r+b')", 0),
            ("f = open(path, 'rb'); f.seek(1000)", 1000),
            ("f = open(path, 'rb'); f.read(10)", 10),
            ("f = open(path, 'rb'); f.readline(); f.seek(-3, 2)", 99_997),
            ("f = open(path, 'rb', 0); f.read(7)", 7),
            ("f = open(path, 'r+b'); f.write(b'new')", 3),
            ("f = open(path, 'rb'); f.seek(100000)", 100_000),
            ("f = open(path, 'rb'); f.seek(200000)", 200_000),
            ("f = tempfile.NamedTemporaryFile(); f.write(open(path, 'rb').read()); f.seek(5)", 5),
            ("f = tempfile.TemporaryFile(); f.write(open(path, 'rb').read()); f.seek(5)", 5),
        ];
        for (code, offset) in cases {
            check(code, |file, range| {
                let range = range.unwrap_or_else(|| panic!("{code}: not sent"));
                assert_eq!(range.offset, offset, "{code}");
                assert_eq!(range.length, 100_000_u64.saturating_sub(offset), "{code}");
                let mut sent = vec![0; range.length as usize];
                range.file.read_exact_at(&mut sent, range.offset).expect("readable");
                let read: Vec<u8> = file.call_method0("read").expect("read").extract().expect("bytes");
                assert!(sent == read, "{code}: what would be sent is not what reading gives");
            });
        }
    }

    #[test]
    fn everything_else_is_read() {
        let cases = [
            "f = open(path)",
            "f = open(path, 'wb')",
            "f = open(path, 'ab', 0)",
            "f = gzip.GzipFile(path, 'wb'); f.write(b'x'); f.close(); f = gzip.open(path)",
            "f = io.BytesIO(b'abc')",
            "f = io.BufferedReader(io.BytesIO(b'abc'))",
            "f = open(path, 'rb'); f.close()",
            "f = io.FileIO(path); f.close()",
            "f = open(path, 'rb'); f.detach()",
            "f = io.BufferedReader.__new__(io.BufferedReader)",
            "f = tempfile.NamedTemporaryFile('w+')",
            "f = tempfile.NamedTemporaryFile(); f.write(b'x' * 5000); f.close()",
            "f = tempfile.SpooledTemporaryFile(); f.write(b'abc')",
            "class File(io.FileIO):\n  def read(self, size=-1): return b''\nf = File(path)",
            "class File(io.FileIO):\n  def readinto(self, room): return 0\nf = io.BufferedReader(File(path))",
            "class File:\n  def fileno(self): return os.open(path, 0)\nf = File()",
            "class File:\n  __module__ = 'tempfile'\n  file = open(path, 'rb')\nf = File()",
            "f = open('/proc/self/status', 'rb')",
            "f = open('/sys/kernel/profiling' if os.path.exists('/sys/kernel/profiling') else '/proc/version', 'rb')",
            "r, w = os.pipe(); f = open(r, 'rb')",
            "f = open('/dev/zero', 'rb')",
            "f = None",
        ];
        for code in cases {
            check(code, |_, range| assert!(range.is_none(), "{code}: {range:?}"));
        }
        // Nor is a file that comes without the wrapper, or in something like it.
        with_python(|py| assert!(regular_file(py.None().bind(py)).is_none()));
    }

    #[test]
    fn a_file_outlives_that_of_the_application() {
        check("f = open(path, 'rb')", |file, range| {
            file.call_method0("close").expect("closed");
            let mut range = range.expect("a regular file");
            let mut sent = Vec::new();
            range.file.read_to_end(&mut sent).expect("readable");
            assert!(sent == content());
        });
    }
}
