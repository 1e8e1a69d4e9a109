//! What the hooks around a request are told of it, in the order in which `hooks.py` takes it.

use super::ffi::latin1;
use super::handler::Outcome;
use crate::http::Request;
use crate::http::response::{ResponseHead, reason};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// For `Request`.
pub(super) fn request<'py>(environ: &Bound<'py, PyDict>, request: &Request<'_>) -> PyResult<Bound<'py, PyTuple>> {
    let py = environ.py();
    let upper = |name: &[u8]| latin1(py, &name.to_ascii_uppercase());
    let headers = PyList::new(py, request.fields().map(|(name, value)| (upper(name), latin1(py, value))))?;
    let peer = peer(environ)?;
    let target = request.target();
    // As it was sent: `PATH_INFO` is decoded.
    let path = if request.path().is_empty() { b"/" } else { request.path() };
    let items = [
        latin1(py, request.method()).into_any(),
        latin1(py, target).into_any(),
        latin1(py, path).into_any(),
        latin1(py, request.query()).into_any(),
        (1, request.version().minor()).into_pyobject(py)?.into_any(),
        headers.into_any(),
        peer.clone(),
        peer,
        environ.as_any().get_item("wsgi.url_scheme")?,
    ];
    PyTuple::new(py, items)
}

/// Its address and port, as `getpeername` gives them.
fn peer<'py>(environ: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    let py = environ.py();
    let address = environ.get_item("REMOTE_ADDR")?;
    let port: Option<u16> =
        environ.get_item("REMOTE_PORT")?.and_then(|port| port.extract::<String>().ok()?.parse().ok());
    Ok(match port {
        Some(port) => (address, port).into_pyobject(py)?.into_any(),
        // A unix socket's.
        None => "".into_pyobject(py)?.into_any(),
    })
}

/// What was sent, apart from the exchange: Python is not called with that locked, since its garbage collector may run
/// anything, such as a `__del__` that writes to `wsgi.errors`.
pub(super) struct Sent {
    status: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body_bytes: u64,
    length: Option<u64>,
}

impl Sent {
    /// `None` if there was no response.
    pub(super) fn new(head: &ResponseHead, outcome: &Outcome) -> Option<Self> {
        if outcome.status == 0 {
            return None;
        }
        let is_own = head.status() == outcome.status && !head.status_line().is_empty();
        let status = if is_own {
            head.status_line().to_vec()
        } else {
            format!("{} {}", outcome.status, reason(outcome.status)).into_bytes()
        };
        let length = head.content_length().filter(|_| is_own);
        let fields = head.fields().filter(|_| is_own).map(|(name, value)| (name.to_vec(), value.to_vec()));
        // The head keeps it apart from the others.
        let length_field = length.map(|length| (b"Content-Length".to_vec(), length.to_string().into_bytes()));
        Some(Self { status, fields: fields.chain(length_field).collect(), body_bytes: outcome.body_bytes, length })
    }

    /// For `Response`.
    pub(super) fn to_tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let headers = self.fields.iter().map(|(name, value)| (latin1(py, name), latin1(py, value)));
        let headers = PyList::new(py, headers)?;
        (latin1(py, &self.status), headers, self.body_bytes, self.length).into_pyobject(py)
    }
}
