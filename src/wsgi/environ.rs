//! A request → the environ (PEP 3333, environ Variables; RFC 3875).
//!
//! The cost of a request outside the kernel is mostly here, so what can be kept between requests is: a template with
//! the keys that never change, and what `header_fields` keeps.

use super::body::Body;
use super::errors::Errors;
use super::ffi::latin1;
use super::file_wrapper::FileWrapper;
use super::header_fields::HeaderNames;
use super::input::Input;
use crate::http::framing::BodyFraming;
use crate::http::{Request, Version};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

/// What an environ says about the server, the same for every request of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNames {
    /// SERVER_NAME, or `None` to take it from Host, as on a unix socket.
    pub name: Option<String>,
    /// SERVER_PORT.
    pub port: String,
    /// `wsgi.multithread`.
    pub is_multithread: bool,
    /// `wsgi.multiprocess`.
    pub is_multiprocess: bool,
}

/// REMOTE_ADDR and REMOTE_PORT of one connection, made at its first request and kept for the others.
#[derive(Debug)]
pub struct PeerNames {
    text: String,
    address: Py<PyString>,
    port: Option<Py<PyString>>,
}

impl PeerNames {
    /// A unix socket's peer has the empty address and no port, as with gunicorn.
    pub fn new(py: Python<'_>, address: String, port: Option<u16>) -> Self {
        let port = port.map(|port| PyString::new(py, &port.to_string()).unbind());
        Self { address: PyString::new(py, &address).unbind(), port, text: address }
    }

    /// REMOTE_ADDR.
    pub fn address(&self) -> &str {
        &self.text
    }
}

/// Makes environs for the requests of one listener.
pub(super) struct EnvironFactory {
    /// What every environ has.
    template: Py<PyDict>,
    takes_name_from_host: bool,
}

/// Of `REQUEST_METHOD`; others are made when they come.
const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl EnvironFactory {
    pub(super) fn new(
        py: Python<'_>,
        server: &ServerNames,
        errors: &Py<Errors>,
        callables: &[(&'static str, Py<PyAny>)],
    ) -> PyResult<Self> {
        let template = PyDict::new(py);
        let set = |key: &str, value: Bound<'_, PyAny>| template.set_item(PyString::intern(py, key), value);
        let text = |value: &str| PyString::intern(py, value).into_any();
        let boolean = |value: bool| pyo3::types::PyBool::new(py, value).to_owned().into_any();
        set("REQUEST_METHOD", text("GET"))?;
        set("SCRIPT_NAME", text(""))?;
        set("PATH_INFO", text("/"))?;
        set("RAW_URI", text("/"))?;
        set("QUERY_STRING", text(""))?;
        set("SERVER_PROTOCOL", text("HTTP/1.1"))?;
        set("SERVER_NAME", text(server.name.as_deref().unwrap_or("localhost")))?;
        set("SERVER_PORT", text(&server.port))?;
        set("SERVER_SOFTWARE", text(concat!("minicorn/", env!("CARGO_PKG_VERSION"))))?;
        set("REMOTE_ADDR", text(""))?;
        if server.name.is_some() {
            set("REMOTE_PORT", text(""))?;
        }
        set("wsgi.version", (1, 0).into_pyobject(py)?.into_any())?;
        set("wsgi.url_scheme", text("http"))?;
        set("wsgi.input", Bound::new(py, Input::new(Body::default()))?.into_any())?;
        set("wsgi.input_terminated", boolean(true))?;
        set("wsgi.errors", errors.bind(py).clone().into_any())?;
        set("wsgi.multithread", boolean(server.is_multithread))?;
        set("wsgi.multiprocess", boolean(server.is_multiprocess))?;
        set("wsgi.run_once", boolean(false))?;
        set("wsgi.file_wrapper", py.get_type::<FileWrapper>().into_any())?;
        callables.iter().try_for_each(|(key, method)| set(key, method.bind(py).clone()))?;
        // A copy keeps the size of the template's table: room for the headers now saves growing each copy later.
        let spare: Vec<String> = (0..4).map(|index| format!("minicorn.spare.{index}")).collect();
        spare.iter().try_for_each(|key| template.set_item(key, py.None()))?;
        spare.iter().try_for_each(|key| template.del_item(key))?;
        Ok(Self { template: template.unbind(), takes_name_from_host: server.name.is_none() })
    }

    /// Gives the environs of the requests to come new callables.
    pub(super) fn set_callables(&self, py: Python<'_>, callables: &[(&'static str, Py<PyAny>)]) {
        for (key, method) in callables {
            // Its key is there, so that nothing is allocated that could fail.
            let set = self.template.bind(py).set_item(PyString::intern(py, key), method);
            debug_assert!(set.is_ok());
        }
    }

    /// The environ of one request.
    pub(super) fn environ<'py>(
        &self,
        py: Python<'py>,
        names: &mut HeaderNames,
        request: &Request<'_>,
        peer: &PeerNames,
        body: Body,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.template.bind(py).copy()?;
        names.put(py, &environ, request)?;
        put_request_line(&environ, request)?;
        environ.set_item(intern!(py, "REMOTE_ADDR"), &peer.address)?;
        if let Some(port) = &peer.port {
            environ.set_item(intern!(py, "REMOTE_PORT"), port)?;
        }
        // The length of what `wsgi.input` gives, for applications that read no body without one. While chunks are still
        // arriving nobody knows it.
        if let (BodyFraming::Chunked, Some(length)) = (request.body(), body.length()) {
            environ.set_item(intern!(py, "CONTENT_LENGTH"), length.to_string())?;
        }
        if let (true, Some(host)) = (request.is_absolute(), request.host()) {
            environ.set_item(intern!(py, "HTTP_HOST"), latin1(py, host))?;
        }
        if self.takes_name_from_host {
            put_server_name(&environ, request.host())?;
        }
        if !body.is_empty() {
            environ.set_item(intern!(py, "wsgi.input"), Bound::new(py, Input::new(body))?)?;
        }
        Ok(environ)
    }
}

fn put_request_line(environ: &Bound<'_, PyDict>, request: &Request<'_>) -> PyResult<()> {
    let py = environ.py();
    let method = request.method();
    if method != b"GET" {
        let known = METHODS.iter().find(|known| known.as_bytes() == method);
        let object = known.map_or_else(|| latin1(py, method), |known| PyString::intern(py, known));
        environ.set_item(intern!(py, "REQUEST_METHOD"), object)?;
    }
    if request.version() == Version::Http10 {
        environ.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/1.0"))?;
    }
    let (target, path) = (request.target(), request.path());
    if target == b"/" {
        return Ok(());
    }
    let raw = latin1(py, target);
    if path.len() == target.len() && !path.contains(&b'%') {
        environ.set_item(intern!(py, "PATH_INFO"), &raw)?;
    } else if !path.is_empty() {
        // The path of `http://host` is `/`, as in the template (RFC 9110 §4.2.3).
        environ.set_item(intern!(py, "PATH_INFO"), latin1(py, &percent_decode(path)))?;
    }
    environ.set_item(intern!(py, "RAW_URI"), raw)?;
    let query = request.query();
    if !query.is_empty() {
        environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, query))?;
    }
    Ok(())
}

/// A unix socket has no name of its own, and PEP 3333 wants one: the client's, else the template's.
fn put_server_name(environ: &Bound<'_, PyDict>, host: Option<&[u8]>) -> PyResult<()> {
    let py = environ.py();
    let Some(host) = host.filter(|host| !host.is_empty()) else { return Ok(()) };
    // The colon of a port stands behind the bracket of an IPv6 address.
    let colon = memchr::memrchr(b':', host).filter(|&colon| !host[colon..].contains(&b']'));
    let (name, port) = colon.map_or((host, &b""[..]), |colon| (&host[..colon], &host[colon + 1..]));
    environ.set_item(intern!(py, "SERVER_NAME"), latin1(py, name))?;
    if !port.is_empty() {
        environ.set_item(intern!(py, "SERVER_PORT"), latin1(py, port))?;
    }
    Ok(())
}

/// `%41` → `A`. What is no escape stays as it is, like in Python's `unquote_to_bytes`.
fn percent_decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => hex_digit(*high).zip(hex_digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        decoded.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    decoded
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// The values of `names` in an environ, for an access log that asks for them: those that are `str` or `bytes`.
pub(super) fn values(environ: &Bound<'_, PyDict>, names: &[String]) -> Vec<Option<Vec<u8>>> {
    let value = |name: &String| {
        let value = environ.get_item(name).ok()??;
        if let Ok(text) = value.cast::<PyString>() {
            return Some(text.to_string_lossy().into_owned().into_bytes());
        }
        value.cast::<PyBytes>().ok().map(|bytes| bytes.as_bytes().to_vec())
    };
    names.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding() {
        let cases: [(&str, &[u8]); 7] = [
            ("/plain", b"/plain"),
            ("/%41%62", b"/Ab"),
            ("/caf%C3%a9", b"/caf\xc3\xa9"),
            ("/%", b"/%"),
            ("/%4", b"/%4"),
            ("/%zz%2F", b"/%zz/"),
            ("/%+1%00", b"/%+1\0"),
        ];
        for (path, decoded) in cases {
            assert_eq!(percent_decode(path.as_bytes()), decoded, "{path}");
        }
    }
}
