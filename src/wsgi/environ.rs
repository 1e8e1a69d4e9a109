//! A request → the environ (PEP 3333, environ Variables; RFC 3875).
//!
//! The cost of a request outside the kernel is mostly here, so what can be kept between requests is: a template with
//! the keys that never change, and what `header_fields` keeps.

use super::body::Body;
use super::errors::Errors;
use super::ffi::latin1;
use super::file_wrapper::FileWrapper;
use super::header_fields::{HeaderNames, SCHEMES_DISAGREE, Said, Unmade, environ_key};
use super::input::Input;
use crate::http::forwarded::Forwarded;
use crate::http::framing::BodyFraming;
use crate::http::{Request, RequestError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyString};

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

/// Who is at the other end of one connection, made at its first request and kept for the others.
#[derive(Debug)]
pub struct PeerNames {
    text: String,
    /// REMOTE_ADDR.
    address: Py<PyString>,
    /// REMOTE_PORT.
    port: Option<Py<PyString>>,
    /// What was said in a PROXY header: key and value.
    proxied: Vec<(&'static str, Py<PyString>)>,
    /// Whether its forwarding headers are believed.
    is_trusted: bool,
}

impl PeerNames {
    /// A unix socket's peer has the empty address and no port, as with gunicorn.
    pub fn new(py: Python<'_>, address: String, port: Option<u16>) -> Self {
        let port = port.map(|port| PyString::new(py, &port.to_string()).unbind());
        let text = PyString::new(py, &address).unbind();
        Self { address: text, port, text: address, proxied: Vec::new(), is_trusted: false }
    }

    /// Believes its forwarding headers, or not.
    pub fn with_trust(mut self, is_trusted: bool) -> Self {
        self.is_trusted = is_trusted;
        self
    }

    /// Puts `value` into each environ under `key`: what a PROXY header said besides.
    pub fn with_proxied(mut self, py: Python<'_>, key: &'static str, value: &str) -> Self {
        self.proxied.push((key, PyString::new(py, value).unbind()));
        self
    }

    /// Whether its forwarding headers are believed.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
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

    /// Makes room for an item that each environ will get.
    pub(super) fn reserve(&self, py: Python<'_>, key: &Py<PyString>) -> PyResult<()> {
        self.template.bind(py).set_item(key, intern!(py, ""))
    }

    /// The environ of one request.
    pub(super) fn environ<'py>(
        &self,
        py: Python<'py>,
        names: &mut HeaderNames,
        request: &Request<'_>,
        peer: &PeerNames,
        forwarded: Option<&Forwarded>,
        body: Body,
    ) -> Result<Bound<'py, PyDict>, Unmade> {
        let environ = self.template.bind(py).copy()?;
        let mut said = names.put(py, &environ, request, peer.is_trusted)?;
        put_request_line(&environ, request, said.mount.unwrap_or(names.mount()))?;
        environ.set_item(intern!(py, "REMOTE_ADDR"), &peer.address)?;
        if let Some(port) = &peer.port {
            environ.set_item(intern!(py, "REMOTE_PORT"), port)?;
        }
        for (key, value) in &peer.proxied {
            environ.set_item(PyString::intern(py, key), value)?;
        }
        // The length of what `wsgi.input` gives, for applications that read no body without one. While chunks are still
        // arriving nobody knows it.
        if let (BodyFraming::Chunked, Some(length)) = (request.body(), body.length()) {
            environ.set_item(intern!(py, "CONTENT_LENGTH"), length.to_string())?;
        }
        if let (true, Some(host)) = (request.is_absolute(), request.host()) {
            environ.set_item(intern!(py, "HTTP_HOST"), latin1(py, host))?;
        }
        if let Some(forwarded) = forwarded {
            agree(&mut said, forwarded)?;
        }
        let is_https = said.is_https == Some(true);
        if is_https {
            environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
        }
        if self.takes_name_from_host {
            put_server_name(&environ, request.host(), is_https)?;
        }
        if let Some(forwarded) = forwarded {
            put_forwarded(&environ, forwarded, is_https)?;
        }
        if !body.is_empty() {
            environ.set_item(intern!(py, "wsgi.input"), Bound::new(py, Input::new(body))?)?;
        }
        Ok(environ)
    }
}

fn put_request_line(environ: &Bound<'_, PyDict>, request: &Request<'_>, mount: &[u8]) -> Result<(), Unmade> {
    let py = environ.py();
    let method = request.method();
    if method != b"GET" {
        let known = METHODS.iter().find(|known| known.as_bytes() == method);
        let object = known.map_or_else(|| latin1(py, method), |known| PyString::intern(py, known));
        environ.set_item(intern!(py, "REQUEST_METHOD"), object)?;
    }
    match request.protocol() {
        b"HTTP/1.1" => {}
        b"HTTP/1.0" => environ.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/1.0"))?,
        other => environ.set_item(intern!(py, "SERVER_PROTOCOL"), latin1(py, other))?,
    }
    if !mount.is_empty() {
        return put_mounted(environ, request, mount);
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
    Ok(put_query(environ, request)?)
}

fn put_query(environ: &Bound<'_, PyDict>, request: &Request<'_>) -> PyResult<()> {
    let py = environ.py();
    let query = request.query();
    if !query.is_empty() {
        environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, query))?;
    }
    Ok(())
}

/// The target of a request to an application that is mounted somewhere: the rest of the path is its own. As with
/// gunicorn the two are compared as they were sent, and one that is elsewhere is no request to this application.
fn put_mounted(environ: &Bound<'_, PyDict>, request: &Request<'_>, mount: &[u8]) -> Result<(), Unmade> {
    let py = environ.py();
    let path = if request.path().is_empty() { b"/" } else { request.path() };
    let rest = path.strip_prefix(mount).ok_or(RequestError::Mount)?;
    environ.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, mount))?;
    environ.set_item(intern!(py, "PATH_INFO"), latin1(py, &percent_decode(rest)))?;
    environ.set_item(intern!(py, "RAW_URI"), latin1(py, request.target()))?;
    Ok(put_query(environ, request)?)
}

/// Adds the scheme that a trusted proxy has forwarded to what its other headers say.
fn agree(said: &mut Said<'_>, forwarded: &Forwarded) -> Result<(), RequestError> {
    match (said.is_https, forwarded.is_https) {
        (Some(one), Some(other)) if one != other => Err(SCHEMES_DISAGREE),
        (one, other) => {
            said.is_https = other.or(one);
            Ok(())
        }
    }
}

/// What a trusted proxy has said of its client takes the place of what is known of the proxy. The order in which host,
/// scheme and port complete each other is waitress'.
fn put_forwarded(environ: &Bound<'_, PyDict>, forwarded: &Forwarded, is_https: bool) -> PyResult<()> {
    let py = environ.py();
    for (name, value) in &forwarded.cut {
        environ.set_item(environ_key(name.as_bytes()), latin1(py, value))?;
    }
    if let Some(address) = &forwarded.address {
        environ.set_item("REMOTE_ADDR", address)?;
        environ.set_item("REMOTE_HOST", address)?;
        // The proxy's own port says nothing about the client.
        match &forwarded.port {
            Some(port) => environ.set_item("REMOTE_PORT", port)?,
            None if environ.contains("REMOTE_PORT")? => environ.del_item("REMOTE_PORT")?,
            None => {}
        }
    }
    let of_scheme = forwarded.is_https.map(|is_https| if is_https { "443" } else { "80" });
    let mut server_port = forwarded.server_port.as_deref().or(of_scheme);
    if let Some(host) = &forwarded.host {
        let (name, port) = split_port(host.as_bytes());
        environ.set_item("SERVER_NAME", latin1(py, name))?;
        let usual = if is_https { "443" } else { "80" };
        match (std::str::from_utf8(port), server_port) {
            (Ok(port), _) if !port.is_empty() => {
                server_port = Some(port);
                environ.set_item("HTTP_HOST", host)?;
            }
            (_, Some(port)) if port != usual => environ.set_item("HTTP_HOST", format!("{host}:{port}"))?,
            _ => environ.set_item("HTTP_HOST", host)?,
        }
    }
    server_port.map_or(Ok(()), |port| environ.set_item("SERVER_PORT", port))
}

/// A unix socket has no name of its own, and PEP 3333 wants one: the client's, else the template's.
fn put_server_name(environ: &Bound<'_, PyDict>, host: Option<&[u8]>, is_https: bool) -> PyResult<()> {
    let py = environ.py();
    let Some(host) = host.filter(|host| !host.is_empty()) else { return Ok(()) };
    let (name, port) = split_port(host);
    environ.set_item(intern!(py, "SERVER_NAME"), latin1(py, name))?;
    if !port.is_empty() {
        environ.set_item(intern!(py, "SERVER_PORT"), latin1(py, port))?;
    } else if is_https {
        environ.set_item(intern!(py, "SERVER_PORT"), intern!(py, "443"))?;
    }
    Ok(())
}

/// `a:80` → `a` and `80`; without a port, an empty one.
fn split_port(host: &[u8]) -> (&[u8], &[u8]) {
    // The colon of a port stands behind the bracket of an IPv6 address.
    let colon = memchr::memrchr(b':', host).filter(|&colon| !host[colon..].contains(&b']'));
    colon.map_or((host, &b""[..]), |colon| (&host[..colon], &host[colon + 1..]))
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

/// The values of `names` in an environ, for an access log that asks for them: those that are text, bytes or numbers. As
/// with gunicorn, a name is found in upper and in lower case, too.
pub(super) fn values(environ: &Bound<'_, PyDict>, names: &[String]) -> Vec<Option<Vec<u8>>> {
    let find = |name: &str| environ.get_item(name).ok().flatten();
    let value = |name: &String| {
        let found = find(name).or_else(|| find(&name.to_uppercase()));
        let value = found.or_else(|| find(&name.to_lowercase()))?;
        if value.cast::<PyInt>().is_ok() || value.cast_exact::<PyFloat>().is_ok() {
            return value.str().ok().map(|text| text.to_string_lossy().into_owned().into_bytes());
        }
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
