//! The callables of a request: `start_response(status, headers, exc_info=None)` and the `write` that it returns
//! (PEP 3333), `wsgi.early_hints` and `minicorn.client_disconnected`.

use super::exchange::{Output, PushError};
use super::ffi::reference_count;
use super::field_memo::FieldMemo;
use super::shared::Shared;
use crate::http::response::{HeadError, ResponseHead};
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::borrow::Cow;
use std::sync::Arc;

/// An exchange that Python's callables and the handler share.
pub(super) type SharedExchange = Arc<Shared<dyn Output>>;

/// The object behind the callables. One serves request after request (100 ns each), as long as no application keeps
/// a reference.
#[pyclass(frozen, module = "minicorn")]
pub(super) struct StartResponse {
    exchange: SharedExchange,
    generation: u64,
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
        let mut exchange = this.get().exchange.lock();
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
            drop(exchange);
            return Err(wrong_type("the response status must be a str", status));
        };
        let Ok(headers) = headers.cast::<PyList>() else {
            drop(exchange);
            return Err(wrong_type("the response headers must be a list", headers));
        };
        let text = status.to_str()?;
        let status =
            latin1(text).ok_or_else(|| PyValueError::new_err(format!("response status {text:?}: not latin-1")))?;
        let started = exchange.start(&status, |head, memo| add_fields(head, memo, headers), Refused::Status);
        let write = exchange.write.as_ref().map(|write| write.clone_ref(py));
        drop(exchange);
        // Put into words only now: that calls `repr`, and code of the application must not run under the lock.
        started.map_err(|refused| refused.into_error(text, headers))?;
        write.map_or_else(|| Ok(this.getattr("write")?.unbind()), Ok)
    }

    /// Sends `data` before it returns, or as much of it as the client takes without a long wait.
    #[pyo3(signature = (data, /))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(data) = data.cast::<PyBytes>() else {
            return Err(wrong_type("write() takes bytes", data));
        };
        let mut exchange = self.exchange.lock();
        if !exchange.is_open_for(self.generation) {
            return Err(PyRuntimeError::new_err("write() called after the request was over"));
        }
        let pushed = exchange.push(data, false);
        drop(exchange);
        pushed.and_then(|()| self.exchange.flush(py)).map_err(|error| match error {
            PushError::NotStarted => PyAssertionError::new_err("write() called before start_response()"),
            PushError::Over => PyRuntimeError::new_err("write() called after the request was over"),
            PushError::ClientGone => PyBrokenPipeError::new_err("the client has closed the connection"),
        })
    }

    /// Sends a `103 Early Hints` with these headers (RFC 8297), if the client may get one and the response has not
    /// begun. May be called several times.
    #[pyo3(signature = (headers, /))]
    fn early_hints(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(headers) = headers.cast::<PyList>() else {
            return Err(wrong_type("early hints must be a list", headers));
        };
        let mut hints = ResponseHead::default();
        let status = "103 Early Hints";
        hints
            .start(status.as_bytes())
            .map_err(Refused::Status)
            .and_then(|()| add_fields(&mut hints, &mut FieldMemo::default(), headers))
            .map_err(|refused| refused.into_error(status, headers))?;
        let mut exchange = self.exchange.lock();
        if !exchange.is_open_for(self.generation) {
            return Err(PyRuntimeError::new_err("early_hints() called after the request was over"));
        }
        exchange.hint(&hints);
        drop(exchange);
        // A client that has gone is found by what follows.
        _ = self.exchange.flush(py);
        Ok(())
    }

    /// Whether nobody waits for the response any more. Costs one system call.
    fn client_disconnected(&self) -> bool {
        let exchange = self.exchange.lock();
        !exchange.is_open_for(self.generation) || exchange.output.is_client_gone()
    }
}

/// The callables of one generation, with the references that are ours.
pub(super) struct Callables {
    object: Py<StartResponse>,
    pub(super) start_response: Py<PyAny>,
    /// What every environ has of them: keys and bound methods.
    pub(super) in_environ: [(&'static str, Py<PyAny>); 2],
}

impl Callables {
    /// Makes them for `exchange`, where older ones become void.
    pub(super) fn new(py: Python<'_>, exchange: &SharedExchange) -> PyResult<Self> {
        let mut locked = exchange.lock();
        locked.generation += 1;
        let generation = locked.generation;
        drop(locked);
        let object = Bound::new(py, StartResponse { exchange: Arc::clone(exchange), generation })?;
        let method = |name: &str| Ok::<_, PyErr>(object.getattr(name)?.unbind());
        let (write, start_response) = (method("write")?, method("start_response")?);
        let in_environ = [
            ("wsgi.early_hints", method("early_hints")?),
            ("minicorn.client_disconnected", method("client_disconnected")?),
        ];
        let replaced = exchange.lock().write.replace(write);
        drop(replaced);
        Ok(Self { object: object.unbind(), start_response, in_environ })
    }

    /// Whether the application has kept none of them, so that they can serve another request. `holders` environs
    /// that it does not have hold those that go there.
    pub(super) fn are_free(&self, py: Python<'_>, write: Option<&Py<PyAny>>, holders: isize) -> bool {
        // The object is held by this struct and by its four bound methods.
        reference_count(&self.start_response, py) == 1
            && write.is_none_or(|write| reference_count(write, py) == 1)
            && self.in_environ.iter().all(|(_, method)| reference_count(method, py) == 1 + holders)
            && reference_count(&self.object, py) == 5
    }
}

/// Why the arguments of `start_response` cannot be sent. Headers are named by their index.
enum Refused {
    Status(HeadError),
    NotAPair(usize),
    Name(usize),
    Value(usize),
    NotLatin1(usize),
    Field(usize, HeadError),
}

impl Refused {
    fn into_error(self, status: &str, headers: &Bound<'_, PyList>) -> PyErr {
        self.sentence(status, headers).unwrap_or_else(|error| error)
    }

    fn sentence(self, status: &str, headers: &Bound<'_, PyList>) -> PyResult<PyErr> {
        let name = |index: usize| headers.get_item(index)?.get_item(0);
        let refused = |index: usize, why: &dyn std::fmt::Display| -> PyResult<PyErr> {
            let name = name(index)?;
            let name = name.cast::<PyString>()?.to_string_lossy().into_owned();
            Ok(PyValueError::new_err(format!("response header {name:?}: {why}")))
        };
        match self {
            Self::Status(error) => Ok(PyValueError::new_err(format!("response status {status:?}: {error}"))),
            Self::NotAPair(index) => {
                let item = headers.get_item(index)?;
                Ok(wrong_type(&format!("response header {item:?} must be a (name, value) tuple"), &item))
            }
            Self::Name(index) => {
                let name = name(index)?;
                Ok(wrong_type(&format!("response header {name:?}: the name must be a str"), &name))
            }
            Self::Value(index) => {
                let value = headers.get_item(index)?.get_item(1)?;
                let name = name(index)?;
                let name = name.cast::<PyString>()?.to_string_lossy().into_owned();
                Ok(wrong_type(&format!("response header {name:?}: the value must be a str"), &value))
            }
            Self::NotLatin1(index) => refused(index, &"the value is not latin-1"),
            Self::Field(index, error) => refused(index, &error),
        }
    }
}

fn add_fields(head: &mut ResponseHead, memo: &mut FieldMemo, headers: &Bound<'_, PyList>) -> Result<(), Refused> {
    for (index, item) in headers.iter().enumerate() {
        let pair = item.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2).ok_or(Refused::NotAPair(index))?;
        let item = |place| pair.get_borrowed_item(place).map_err(|_| Refused::NotAPair(index));
        let (name, value) = (item(0)?, item(1)?);
        let name = name.cast::<PyString>().map_err(|_| Refused::Name(index))?;
        let value = value.cast::<PyString>().map_err(|_| Refused::Value(index))?;
        if !memo.recall(&name, &value, head) {
            let bytes = latin1(value.to_str().map_err(|_| Refused::NotLatin1(index))?);
            // A name with a surrogate is no token.
            let name_text = name.to_str().map_err(|_| Refused::Field(index, HeadError::Name))?;
            add_field(head, index, name_text, bytes)?;
            memo.keep(&name, &value, head);
        }
    }
    Ok(())
}

fn add_field(head: &mut ResponseHead, index: usize, name: &str, value: Option<Cow<'_, [u8]>>) -> Result<(), Refused> {
    let value = value.ok_or(Refused::NotLatin1(index))?;
    head.field(name.as_bytes(), &value).map_err(|error| Refused::Field(index, error))
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
