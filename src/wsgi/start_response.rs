//! `start_response(status, headers, exc_info=None)` and the `write` that it returns (PEP 3333).

use super::exchange::{Exchange, Output, PushError};
use super::ffi::reference_count;
use super::field_memo::FieldMemo;
use crate::http::response::{HeadError, ResponseHead};
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// An exchange that Python's callables and the handler share.
pub(super) type SharedExchange = Arc<Mutex<Exchange<dyn Output>>>;

/// The object behind both callables. One serves request after request (100 ns each), as long as no application keeps
/// a reference.
#[pyclass(frozen, module = "minicorn")]
pub(super) struct StartResponse {
    exchange: SharedExchange,
    generation: u64,
}

impl StartResponse {
    fn lock(&self) -> PyResult<MutexGuard<'_, Exchange<dyn Output>>> {
        // Waiting here would hold the GIL, which the thread that sends may need before it unlocks.
        match self.exchange.try_lock() {
            Ok(exchange) => Ok(exchange),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(PyRuntimeError::new_err("the response is in use by another thread")),
        }
    }
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info=None, /))]
    fn start_response(
        this: &Bound<'_, Self>,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = this.py();
        let mut exchange = this.get().lock()?;
        if !exchange.is_open_for(this.get().generation) {
            return Err(PyRuntimeError::new_err("start_response() called after the request was over"));
        }
        if exchange.is_started() {
            let Some(exc_info) = exc_info else {
                return Err(PyAssertionError::new_err("start_response() called again without exc_info"));
            };
            if exchange.is_begun() {
                // The head is on its way: the application's own exception ends the response.
                drop(exchange);
                return Err(raised_by(exc_info)?);
            }
        }
        let Ok(status) = status.cast::<PyString>() else {
            return Err(wrong_type("the response status must be a str", status));
        };
        let Ok(headers) = headers.cast::<PyList>() else {
            return Err(wrong_type("the response headers must be a list", headers));
        };
        let text = status.to_str()?;
        let status =
            latin1(text).ok_or_else(|| PyValueError::new_err(format!("response status {text:?}: not latin-1")))?;
        exchange.start(
            &status,
            |head, memo| add_fields(head, memo, headers),
            |error| PyValueError::new_err(format!("response status {text:?}: {error}")),
        )?;
        match &exchange.write {
            Some(write) => Ok(write.clone_ref(py)),
            None => Ok(this.getattr("write")?.unbind()),
        }
    }

    /// Sends `data` before it returns, or as much of it as the client takes without a long wait.
    #[pyo3(signature = (data, /))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(data) = data.cast::<PyBytes>() else {
            return Err(wrong_type("write() takes bytes", data));
        };
        let mut exchange = self.lock()?;
        if !exchange.is_open_for(self.generation) {
            return Err(PyRuntimeError::new_err("write() called after the request was over"));
        }
        let pushed = exchange.push(data, false).and_then(|()| exchange.flush(py));
        pushed.map_err(|error| match error {
            PushError::NotStarted => PyAssertionError::new_err("write() called before start_response()"),
            PushError::Over => PyRuntimeError::new_err("write() called after the request was over"),
            PushError::ClientGone => PyBrokenPipeError::new_err("the client has closed the connection"),
        })
    }
}

/// The pair of callables of one generation, with the references that are ours.
pub(super) struct Callables {
    object: Py<StartResponse>,
    pub(super) start_response: Py<PyAny>,
}

impl Callables {
    /// Makes a pair for `exchange`, where an older one becomes void.
    pub(super) fn new(py: Python<'_>, exchange: &SharedExchange) -> PyResult<Self> {
        let mut locked = exchange.lock().unwrap_or_else(PoisonError::into_inner);
        locked.generation += 1;
        let generation = locked.generation;
        let object = Bound::new(py, StartResponse { exchange: Arc::clone(exchange), generation })?;
        locked.write = Some(object.getattr("write")?.unbind());
        let start_response = object.getattr("start_response")?.unbind();
        Ok(Self { object: object.unbind(), start_response })
    }

    /// Whether the application has kept neither of them, so that they can serve another request.
    pub(super) fn are_free(&self, py: Python<'_>, write: Option<&Py<PyAny>>) -> bool {
        // The object is held by this struct and by its two bound methods.
        reference_count(&self.start_response, py) == 1
            && write.is_none_or(|write| reference_count(write, py) == 1)
            && reference_count(&self.object, py) == 3
    }
}

fn add_fields(head: &mut ResponseHead, memo: &mut FieldMemo, headers: &Bound<'_, PyList>) -> PyResult<()> {
    for item in headers.iter() {
        let pair = item.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2);
        let Some(pair) = pair else {
            return Err(wrong_type(&format!("response header {item:?} must be a (name, value) tuple"), &item));
        };
        let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
        let Ok(name) = name.cast::<PyString>() else {
            return Err(wrong_type(&format!("response header {name:?}: the name must be a str"), &name));
        };
        let Ok(value) = value.cast::<PyString>() else {
            let name = name.to_string_lossy();
            return Err(wrong_type(&format!("response header {name:?}: the value must be a str"), &value));
        };
        if !memo.recall(&name, &value, head) {
            add_field(head, name.to_str()?, value.to_str()?)?;
            memo.keep(&name, &value, head);
        }
    }
    Ok(())
}

fn add_field(head: &mut ResponseHead, name: &str, value: &str) -> PyResult<()> {
    let refused = |why: &dyn std::fmt::Display| PyValueError::new_err(format!("response header {name:?}: {why}"));
    let value = latin1(value).ok_or_else(|| refused(&"the value is not latin-1"))?;
    head.field(name.as_bytes(), &value).map_err(|error: HeadError| refused(&error))
}

/// The bytes that PEP 3333's native strings stand for; `None` if a character is beyond them.
fn latin1(text: &str) -> Option<Cow<'_, [u8]>> {
    if text.is_ascii() {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let bytes: Option<Vec<u8>> = text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect();
    bytes.map(Cow::Owned)
}

fn wrong_type(sentence: &str, found: &Bound<'_, PyAny>) -> PyErr {
    let kind = found.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{sentence}, not {kind}"))
}

/// The exception in `(type, value, traceback)`, ready to be raised again with its traceback.
fn raised_by(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let value = exc_info.get_item(1)?;
    let value = value.call_method1("with_traceback", (exc_info.get_item(2)?,))?;
    Ok(PyErr::from_value(value))
}
