//! `wsgi.input`: a request body, read like a file (PEP 3333, Input and Error Streams).
//!
//! It reads as an `io.BufferedReader` over exactly the body does. Wherever it may block, it is detached from Python.

use super::body::{Body, BodyError, BodyStream, FETCH_BYTES, ReadError};
use super::ffi::BytesBuilder;
use pyo3::exceptions::{PyConnectionResetError, PyOSError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// An empty body has no state, so that all requests without a body share one (95 ns a request). Two threads that read
/// one at the same time get a `RuntimeError`, from the borrow that pyo3 checks.
#[pyclass(module = "minicorn")]
pub(super) struct Input {
    body: BodyStream,
}

impl Input {
    pub(super) fn new(body: Body) -> Self {
        Self { body: BodyStream::new(body) }
    }

    /// So much that the bytes are better read into their object than through the buffer. Nothing is reserved for
    /// what a client has only announced.
    fn read_long<'py>(&mut self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        let capacity = if self.body.left().is_some() { count } else { FETCH_BYTES };
        let mut builder = BytesBuilder::new(py, capacity)?;
        loop {
            let room = builder.room();
            let body = &mut self.body;
            // Detached until the room is full, since coming back may mean a wait for the GIL.
            py.detach(|| room.fill(|part| body.read(part))).map_err(raised)?;
            if !builder.is_full() || builder.capacity() >= count {
                return builder.finish();
            }
            let capacity = builder.capacity().saturating_mul(2).min(count);
            builder = builder.grow(capacity)?;
        }
    }
}

impl Drop for Input {
    /// Closing the file of a large body takes long (8 ms for 200 MB), and a reader may have locks to take.
    fn drop(&mut self) {
        if !self.body.is_fetched() {
            let body = std::mem::replace(&mut self.body, BodyStream::new(Body::default()));
            // An interpreter that is ending cannot be attached to; then it is dropped as it is.
            Python::try_attach(|py| py.detach(|| drop(body)));
        }
    }
}

/// What is missing, `None` or negative means all, as for Python's files.
fn limit(size: Option<isize>) -> usize {
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX)
}

fn raised(error: ReadError) -> PyErr {
    match error {
        ReadError::Body(error @ BodyError::Incomplete) => PyConnectionResetError::new_err(error.to_string()),
        ReadError::Body(error @ BodyError::Timeout) => PyTimeoutError::new_err(error.to_string()),
        ReadError::Body(error @ BodyError::TooLarge) => PyOSError::new_err(error.to_string()),
        ReadError::Body(error @ BodyError::Over) => PyValueError::new_err(error.to_string()),
        // Python chooses the subclass by the errno.
        ReadError::File(error) => match error.raw_os_error() {
            Some(errno) => PyOSError::new_err((errno, "the file of the request body cannot be read")),
            None => PyOSError::new_err(error.to_string()),
        },
    }
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let left = self.body.left().map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let count = limit(size).min(left);
        if count > self.body.buffered().len() {
            if count >= FETCH_BYTES {
                return self.read_long(py, count);
            }
            let body = &mut self.body;
            py.detach(|| body.fetch_until(count)).map_err(raised)?;
        }
        Ok(PyBytes::new(py, self.body.take(count)))
    }

    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let max = limit(size);
        let length = match self.body.buffered_line(max, 0) {
            Some(length) => length,
            None => {
                let body = &mut self.body;
                py.detach(|| body.fetch_line(max)).map_err(raised)?
            }
        };
        Ok(PyBytes::new(py, self.body.take(length)))
    }

    /// Lines until more than `hint` bytes have been read; a hint of 0 or less means all.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&mut self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let lines = PyList::empty(py);
        let hint = limit(hint.filter(|&hint| hint > 0));
        let mut total = 0;
        while total <= hint {
            let Some(line) = self.__next__(py)? else { break };
            total += line.as_bytes().len();
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.readline(py, None)?;
        Ok(if line.as_bytes().is_empty() { None } else { Some(line) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wsgi::body::BodyReader;
    use crate::wsgi::body::tests::{arriving, in_file};
    use crate::wsgi::testing::with_python;
    use proptest::prelude::*;
    use std::fs::OpenOptions;
    use std::sync::{Arc, Mutex, mpsc};
    use std::time::Duration;

    type Call = (&'static str, Option<isize>);

    fn calls() -> impl Strategy<Value = Vec<Call>> {
        let name = prop::sample::select(vec!["read", "readline", "readlines", "__next__"]);
        let sizes =
            vec![None, Some(-1), Some(0), Some(1), Some(9), Some(1000), Some(65_535), Some(65_536), Some(100_000)];
        prop::collection::vec((name, prop::sample::select(sizes)), 1..12)
    }

    /// Text with lines of many lengths, some longer than what is fetched at once.
    fn content(length: usize, line_bytes: usize) -> Vec<u8> {
        let byte = |index: usize| {
            if (index * index) % line_bytes == line_bytes - 1 { b'\n' } else { b'a' + (index % 26) as u8 }
        };
        (0..length).map(byte).collect()
    }

    fn call<'py>(file: &Bound<'py, PyAny>, (name, size): Call) -> Result<Bound<'py, PyAny>, String> {
        let answer = if name == "__next__" { file.call_method0(name) } else { file.call_method1(name, (size,)) };
        answer.map_err(|error| error.get_type(file.py()).to_string())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_reads_as_a_buffered_reader(
            length in prop::sample::select(vec![0, 1, 100, 65_535, 65_536, 65_537, 200_000]),
            line_bytes in prop::sample::select(vec![2, 12, 5000, 70_001]),
            piece_bytes in prop::sample::select(vec![7, 1448, 65_536, 100_000]),
            calls in calls(),
        ) {
            let content = content(length, line_bytes);
            let pieces: Vec<_> = content.chunks(piece_bytes).map(Ok).collect();
            for body in [Body::Memory(content.clone()), in_file(&content), arriving(&pieces)] {
                let kind = format!("{body:?}");
                with_python(|py| {
                    let io = py.import("io").unwrap();
                    let raw = io.call_method1("BytesIO", (PyBytes::new(py, &content),)).unwrap();
                    let reader = io.call_method1("BufferedReader", (raw,)).unwrap();
                    let input = Bound::new(py, Input::new(body)).unwrap().into_any();
                    for &made in calls.iter().chain(&[("read", None), ("read", Some(1)), ("readline", None)]) {
                        match (call(&reader, made), call(&input, made)) {
                            (Ok(expected), Ok(answer)) => assert!(expected.eq(&answer).unwrap(), "{kind} {made:?}"),
                            (expected, answer) => assert_eq!(expected.err(), answer.err(), "{kind} {made:?}"),
                        }
                    }
                });
            }
        }
    }

    fn raised_by(input: &Bound<'_, Input>, size: Option<isize>) -> String {
        input.call_method1("read", (size,)).expect_err("an error").to_string()
    }

    #[test]
    fn an_error_is_raised_again_at_each_read() {
        let cases = [
            (BodyError::Incomplete, "ConnectionResetError: the client ended the request body early"),
            (BodyError::Timeout, "TimeoutError: the client paused too long in the request body"),
            (BodyError::TooLarge, "OSError: the request body is larger than the limit"),
            (BodyError::Over, "ValueError: the request is over"),
        ];
        with_python(|py| {
            for (error, expected) in cases {
                for size in [None, Some(20), Some(1_000_000)] {
                    let input = Bound::new(py, Input::new(arriving(&[Ok(b"0123456789"), Err(error)]))).unwrap();
                    assert_eq!(input.call_method1("read", (3,)).unwrap().extract::<&[u8]>().unwrap(), b"012");
                    assert_eq!(raised_by(&input, size), expected);
                    assert_eq!(raised_by(&input, Some(1)), expected);
                    assert_eq!(raised_by(&input, None), expected);
                    let line = input.call_method0("readline").expect_err("an error").to_string();
                    assert_eq!(line, expected);
                }
            }
        });
    }

    #[test]
    fn a_file_that_cannot_be_read_raises_with_its_errno() {
        let folder = tempfile::tempdir().unwrap();
        let file = OpenOptions::new().write(true).create_new(true).open(folder.path().join("unreadable")).unwrap();
        with_python(|py| {
            let input = Bound::new(py, Input::new(Body::File { file, length: 100_000 })).unwrap();
            for size in [None, Some(1)] {
                let error = input.call_method1("read", (size,)).expect_err("an error");
                let errno: i32 = error.value(py).getattr("errno").unwrap().extract().unwrap();
                assert_eq!(errno, nix::libc::EBADF);
            }
        });
    }

    /// Says when it is asked, and answers when it is told to.
    struct Held {
        asked: mpsc::Sender<()>,
        answers: mpsc::Receiver<&'static [u8]>,
    }

    impl BodyReader for Held {
        fn read(&mut self, room: &mut [u8]) -> Result<usize, BodyError> {
            self.asked.send(()).expect("the test listens");
            let answer = self.answers.recv().expect("the test answers");
            room[..answer.len()].copy_from_slice(answer);
            Ok(answer.len())
        }
    }

    #[test]
    fn while_one_thread_waits_others_run_and_may_not_read() {
        let (asked, is_asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let reader: Arc<Mutex<dyn BodyReader>> = Arc::new(Mutex::new(Held { asked, answers }));
        let body = Body::Arriving(Arc::clone(&reader));
        let input = with_python(|py| Py::new(py, Input::new(body)).unwrap());
        let other = with_python(|py| input.clone_ref(py));
        let waiting = std::thread::spawn(move || {
            Python::attach(|py| other.call_method0(py, "read").unwrap().extract::<Vec<u8>>(py).unwrap())
        });
        is_asked.recv().unwrap();
        // If the other thread waited attached to Python, this would wait for ever.
        with_python(|py| {
            let error = input.call_method1(py, "read", (1,)).expect_err("an error");
            assert!(error.is_instance_of::<pyo3::exceptions::PyRuntimeError>(py), "{error}");
        });
        answer.send(b"all").unwrap();
        is_asked.recv().unwrap();
        answer.send(b"").unwrap();
        assert_eq!(waiting.join().unwrap(), b"all");
        // The reader is let go of at the end of the body.
        assert_eq!(Arc::strong_count(&reader), 1);
    }

    /// Notes whether another thread gets to run Python while it is dropped.
    struct Dropped(mpsc::Sender<bool>);

    impl BodyReader for Dropped {
        fn read(&mut self, _: &mut [u8]) -> Result<usize, BodyError> {
            Err(BodyError::Over)
        }
    }

    impl Drop for Dropped {
        fn drop(&mut self) {
            let (sender, receiver) = mpsc::channel();
            std::thread::spawn(move || Python::attach(|_| sender.send(())));
            let has_run = receiver.recv_timeout(Duration::from_secs(10)).is_ok();
            self.0.send(has_run).expect("the test listens");
        }
    }

    #[test]
    fn an_unread_body_is_dropped_detached() {
        let (sender, receiver) = mpsc::channel();
        let body = Body::Arriving(Arc::new(Mutex::new(Dropped(sender))));
        with_python(|py| drop(Py::new(py, Input::new(body)).unwrap()));
        assert_eq!(receiver.try_recv(), Ok(true));
    }
}
