//! [`Handler`]: one request → the application → a response in the [`Exchange`]. What PEP 3333 asks of a server's
//! main loop is here.

use super::around::{self, Sent};
use super::body::Body;
use super::environ::{self, EnvironFactory, PeerNames, ServerNames};
use super::errors::Errors;
use super::exchange::{Output, PushError};
use super::ffi;
use super::file_wrapper::{self, FileRange};
use super::header_fields::{HeaderNames, Unmade};
use super::header_rules::HeaderRules;
use super::hooks::Hooks;
use super::request_id::RequestId;
use super::shared::Shared;
use super::start_response::{Callables, SharedExchange};
use super::traceback;
use crate::http::forwarded::Forwarded;
use crate::http::response::BodyEnd;
use crate::http::{Request, RequestError};
use crate::log as logs;
use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyString, PyTuple};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls one application, from one thread.
pub struct Handler {
    application: Py<PyAny>,
    environs: Vec<EnvironFactory>,
    names: HeaderNames,
    exchange: SharedExchange,
    callables: Callables,
    errors: Py<Errors>,
    /// Keys whose values an access log wants.
    logged_keys: Vec<String>,
    /// What is called around each request, if anything is.
    hooks: Option<Arc<Hooks>>,
    /// Keys that hold what the request is called; none if requests have no names.
    name_keys: Vec<Py<PyString>>,
}

/// Pieces that follow each other faster than this are collected and sent together (100 pieces of 1 KiB: 450 µs of CPU
/// apart, 55 µs together). An event stream, whose pieces are further apart, sends each at once.
const BURST: Duration = Duration::from_micros(100);

/// So many bytes of a burst are collected.
const BURST_BYTES: u64 = 16 * 1024;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status that was sent.
    pub status: u16,
    /// Body bytes produced, without framing.
    pub body_bytes: u64,
    /// What must happen to the connection.
    pub then: Then,
    /// The value of each logged key that the environ has at the end, as text.
    pub logged_values: Vec<Option<Vec<u8>>>,
}

/// What must happen to a connection when its response has been queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request may be read.
    Persist,
    /// It closes when the response has been sent.
    Close,
    /// The response is not what its head promised, or nobody reads it: the connection closes at once, so that the
    /// client can tell.
    Cut,
}

/// Why walking the iterable ended early.
enum Stop {
    /// The application raised, or did something that PEP 3333 forbids.
    Raised(PyErr),
    /// The request is not for the application.
    Refused(RequestError),
    ClientGone,
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<PushError> for Stop {
    fn from(error: PushError) -> Self {
        match error {
            // A response that is over while the application makes it was cut off for taking too long.
            PushError::ClientGone | PushError::Over => Self::ClientGone,
            PushError::NotStarted => Self::Raised(PyAssertionError::new_err(
                "the application returned its response without calling start_response()",
            )),
        }
    }
}

impl Handler {
    /// `servers` are the listeners, whose index each request names. Responses are framed into `exchange`. `headers` says
    /// which fields the application gets to see.
    ///
    /// # Errors
    /// Python is out of memory.
    pub fn new<O: Output + 'static>(
        py: Python<'_>,
        application: Py<PyAny>,
        servers: &[ServerNames],
        headers: HeaderRules,
        logged_keys: Vec<String>,
        exchange: Arc<Shared<O>>,
    ) -> PyResult<Self> {
        let exchange: SharedExchange = exchange;
        let errors = Py::new(py, Errors::new(Arc::clone(&exchange)))?;
        let callables = Callables::new(py, &exchange)?;
        let environs = servers.iter().map(|server| EnvironFactory::new(py, server, &errors, &callables.in_environ));
        let environs = environs.collect::<PyResult<Vec<_>>>()?;
        let name_keys = exchange.lock().request_id.as_ref().map_or_else(Vec::new, RequestId::environ_keys);
        let name_keys: Vec<_> = name_keys.iter().map(|key| PyString::intern(py, key).unbind()).collect();
        for environ in &environs {
            name_keys.iter().try_for_each(|key| environ.reserve(py, key))?;
        }
        Ok(Self {
            application,
            environs,
            names: HeaderNames::new(headers),
            callables,
            exchange,
            errors,
            logged_keys,
            hooks: None,
            name_keys,
        })
    }

    /// Has pre_request and post_request called around each request, if they are set.
    pub fn set_hooks(&mut self, hooks: &Arc<Hooks>) {
        self.hooks = Some(Arc::clone(hooks)).filter(|hooks| hooks.wants_requests());
    }

    /// Answers one request, for which the exchange was opened. When it returns, the response is queued in the
    /// exchange's output, and sent as far as PEP 3333 asks; the iterable is closed, and nothing of the request is
    /// referred to. `forwarded` is what the peer has said of its client, if it is to be believed.
    pub fn handle(
        &mut self,
        py: Python<'_>,
        request: &Request<'_>,
        listener: usize,
        peer: &PeerNames,
        forwarded: Option<&Forwarded>,
        body: Body,
    ) -> Outcome {
        let mut environ = self.environs[listener].environ(py, &mut self.names, request, peer, forwarded, body);
        if !self.name_keys.is_empty() {
            environ = environ.and_then(|environ| Ok(self.put_request_name(environ)?));
        }
        if let (Ok(environ), Some(hooks)) = (&environ, self.hooks.clone()) {
            return self.handle_between(&hooks, environ, request, peer);
        }
        let stopped = match &environ {
            Ok(environ) => self.call(py, environ).err(),
            Err(Unmade::Refused(error)) => Some(Stop::Refused(*error)),
            Err(Unmade::Raised(error)) => Some(Stop::Raised(error.clone_ref(py))),
        };
        let logged_values = match &environ {
            Ok(environ) if !self.logged_keys.is_empty() => environ::values(environ, &self.logged_keys),
            _ => Vec::new(),
        };
        // It refers to the callables, which are asked below whether anybody still does.
        drop(environ);
        self.end(py, request, peer, stopped);
        self.conclude(py, request, logged_values, 0)
    }

    fn end(&self, py: Python<'_>, request: &Request<'_>, peer: &PeerNames, stopped: Option<Stop>) {
        match stopped {
            None => {}
            // Nobody is there to be told.
            Some(Stop::ClientGone) => self.exchange.lock().abandon(),
            Some(Stop::Raised(error)) => self.fail(py, request, &error),
            Some(Stop::Refused(error)) => self.refuse(request, peer, error),
        }
    }

    /// The same between two hooks. The second one is called whatever happens, and has no response to look at if the
    /// application was not called.
    #[cold]
    fn handle_between(
        &mut self,
        hooks: &Hooks,
        environ: &Bound<'_, PyDict>,
        request: &Request<'_>,
        peer: &PeerNames,
    ) -> Outcome {
        let py = environ.py();
        let asked = around::request(environ, request).and_then(|head| hooks.request(py, &head));
        let permitted =
            asked.as_ref().map_err(|error| error.clone_ref(py)).and_then(|req| hooks.pre_request(req, environ));
        let is_called = permitted.is_ok();
        let stopped = match permitted {
            Ok(()) => self.call(py, environ).err(),
            Err(error) => Some(Stop::Raised(error)),
        };
        let logged_values = environ::values(environ, &self.logged_keys);
        self.end(py, request, peer, stopped);
        let outcome = self.conclude(py, request, logged_values, 1);
        if let Ok(req) = &asked {
            let sent = if is_called { Sent::new(self.exchange.lock().head(), &outcome) } else { None };
            let response = sent.and_then(|sent| sent.to_tuple(py).ok());
            let environ = if is_called { environ.clone() } else { PyDict::new(py) };
            hooks.post_request(req, environ, response);
        }
        outcome
    }

    fn put_request_name<'py>(&self, environ: Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let name = ffi::latin1(environ.py(), self.exchange.lock().request_name());
        self.name_keys.iter().try_for_each(|key| environ.set_item(key, &name))?;
        Ok(environ)
    }

    #[inline]
    fn call(&self, py: Python<'_>, environ: &Bound<'_, PyDict>) -> Result<(), Stop> {
        let iterable = self.application.bind(py).call1((environ, &self.callables.start_response))?;
        // The two kinds that need no close and whose pieces are all there already.
        if let Ok(list) = iterable.cast_exact::<PyList>() {
            return self.walk_items(list.len(), |index| list.get_item(index));
        }
        if let Ok(tuple) = iterable.cast_exact::<PyTuple>() {
            return self.walk_items(tuple.len(), |index| tuple.get_item(index));
        }
        let walked = match file_wrapper::regular_file(&iterable) {
            Some(range) => self.send_file(range),
            None => self.walk(py, &iterable),
        };
        let closed = close(&iterable);
        walked?;
        Ok(closed?)
    }

    /// All pieces are at hand, so they leave together.
    fn walk_items<'py>(&self, length: usize, item: impl Fn(usize) -> PyResult<Bound<'py, PyAny>>) -> Result<(), Stop> {
        // Before a byte is framed, so that a wrong piece behind a right one is still answered with a 500, and before
        // the lock, since the error asks the object for its name.
        for index in 0..length {
            as_bytes(&item(index)?)?;
        }
        let mut exchange = self.exchange.lock();
        for index in 0..length {
            exchange.push(as_bytes(&item(index)?)?, length == 1)?;
        }
        Ok(exchange.end()?)
    }

    /// The kernel sends it, when the file object of the application may long be closed.
    fn send_file(&self, range: FileRange) -> Result<(), Stop> {
        let mut exchange = self.exchange.lock();
        exchange.push_file(range)?;
        Ok(exchange.end()?)
    }

    /// Each piece is sent before the next one is asked for, with two exceptions, for which the worker sees to it that
    /// nothing waits long: PEP 3333 wants a server to "guarantee that they will continue transmission even while the
    /// application is producing its next block".
    fn walk(&self, py: Python<'_>, iterable: &Bound<'_, PyAny>) -> Result<(), Stop> {
        let iterator = PyIterator::from_object(iterable)?;
        let is_generator = ffi::is_generator(&iterator);
        let mut last_piece: Option<Instant> = None;
        for item in iterator {
            let item = item?;
            let now = Instant::now();
            let is_burst = last_piece.replace(now).is_some_and(|last| now - last < BURST);
            let piece = as_bytes(&item)?;
            let mut exchange = self.exchange.lock();
            exchange.push(piece, false)?;
            // With its Content-Length reached, the response is finished but for the end of the iterable, and leaves
            // with others. Only a generator is known to have code behind its last piece.
            let may_wait =
                if exchange.is_full() { !is_generator } else { is_burst && exchange.waiting() < BURST_BYTES };
            // Past its Content-Length, or where no body is wanted, an iterable may go on for ever.
            let is_over = exchange.excess_bytes() > 0 || exchange.is_bodiless();
            drop(exchange);
            if !may_wait {
                self.exchange.flush(py)?;
            }
            if is_over {
                break;
            }
        }
        Ok(self.exchange.lock().end()?)
    }

    /// The application raised: a 500 if nothing has been framed yet, else the client must be able to tell.
    fn fail(&self, py: Python<'_>, request: &Request<'_>, error: &PyErr) {
        if self.exchange.lock().is_client_gone() {
            log::debug!("{}: the client went away while the application wrote", self.line(request));
            return self.exchange.lock().abandon();
        }
        let failure = self.exchange.lock().failure;
        if let Some(status) = failure {
            log::debug!("{}: {}", self.line(request), error);
            let mut exchange = self.exchange.lock();
            if !exchange.is_begun() {
                exchange.replace(status);
            }
            return;
        }
        let traceback = traceback::render(py, error);
        log::error!(target: logs::EXCEPTION, "{}: the application raised\n{traceback}", self.line(request));
        let mut exchange = self.exchange.lock();
        if !exchange.is_begun() {
            exchange.replace(500);
        }
    }

    /// The application does not get to see the request.
    fn refuse(&self, request: &Request<'_>, peer: &PeerNames, error: RequestError) {
        log::debug!("{}: refused from {}: {error}", self.line(request), peer.address());
        self.exchange.lock().refuse(error);
    }

    /// The application is done: whether it kept the promise of its Content-Length, and what that means for the
    /// connection. A response that is not framed to its end is cut. `environs` are still held here, for a hook.
    #[inline]
    fn conclude(
        &mut self,
        py: Python<'_>,
        request: &Request<'_>,
        logged_values: Vec<Option<Vec<u8>>>,
        environs: isize,
    ) -> Outcome {
        if let Ok(mut errors) = self.errors.try_borrow_mut(py) {
            errors.flush();
        }
        let mut exchange = self.exchange.lock();
        let excess_bytes = exchange.excess_bytes();
        let closed = exchange.close();
        let holders = self.environs.len() as isize + environs;
        let are_free = self.callables.are_free(py, exchange.write.as_ref(), holders);
        drop(exchange);
        if !are_free {
            self.renew_callables(py);
        }
        if excess_bytes > 0 {
            log::warn!(
                "{}: the application yielded more than its Content-Length; the rest was cut",
                self.line(request)
            );
        }
        let then = match closed.end {
            Some(BodyEnd::Complete) if closed.persists => Then::Persist,
            Some(BodyEnd::Complete) => Then::Close,
            Some(BodyEnd::Short(missing)) => {
                log::error!(
                    "{}: the application yielded {missing} bytes less than its Content-Length; connection cut",
                    self.line(request)
                );
                Then::Cut
            }
            None => Then::Cut,
        };
        Outcome { status: closed.status, body_bytes: closed.body_bytes, then, logged_values }
    }

    /// The request in a log line.
    fn line(&self, request: &Request<'_>) -> String {
        let line = format!("{} {}", request.method().escape_ascii(), request.target().escape_ascii());
        match self.exchange.lock().request_name() {
            [] => line,
            name => format!("{line} request_id={}", name.escape_ascii()),
        }
    }

    /// The application has kept a callable; it becomes void, and the next request gets new ones.
    fn renew_callables(&mut self, py: Python<'_>) {
        match Callables::new(py, &self.exchange) {
            Ok(callables) => {
                self.callables = callables;
                for environs in &self.environs {
                    environs.set_callables(py, &self.callables.in_environ);
                }
            }
            Err(error) => log::error!("no new start_response: {error}"),
        }
    }
}

fn as_bytes<'a, 'py>(item: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyBytes>> {
    item.cast::<PyBytes>().map_err(|_| {
        let kind = item.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!("the application yielded {kind}, where bytes are wanted"))
    })
}

/// Calls `close` if the iterable has it. Called once per iterable, whatever happened to its pieces.
fn close(iterable: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(close) = iterable.getattr_opt(pyo3::intern!(iterable.py(), "close"))? {
        close.call0()?;
    }
    Ok(())
}
