//! One response on its way: what `start_response` said, what has been framed, and where it goes.
//!
//! The application thread, `start_response` and `write` meet here with the threads that send, under a lock that is never
//! held while Python runs.

use super::ffi::HeldBytes;
use super::field_memo::FieldMemo;
use super::file_wrapper::FileRange;
use super::request_id::RequestId;
use crate::http::date::DateLines;
use crate::http::response::{BodyEnd, HeadError, ResponseEncoder, ResponseHead, ResponseTo, push_plain_with};
use crate::http::{Request, RequestError, Version};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::time::{Duration, Instant};

/// Where a response goes; the worker implements it over a client's socket.
pub trait Output: Send {
    /// The bytes behind everything queued so far; what is appended here will be sent.
    fn buffer(&mut self) -> &mut Vec<u8>;

    /// Queues bytes to be sent from where they lie. They are not empty.
    fn hold(&mut self, bytes: HeldBytes);

    /// Queues part of a file.
    fn hold_file(&mut self, range: FileRange);

    /// Bytes that have been queued and not sent.
    fn waiting(&self) -> u64;

    /// Sends what the client takes now.
    ///
    /// # Errors
    /// The client takes nothing any more.
    fn flush(&mut self) -> Result<Flushed, ClientGone>;

    /// Moves what waits to where there is more room than in memory. May wait for a disk.
    ///
    /// # Errors
    /// The client takes nothing any more.
    fn relieve(&mut self) -> Result<Relieved, ClientGone>;

    /// Whether the client has closed its connection, or its half of it.
    fn is_client_gone(&self) -> bool;
}

/// What waits after a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// No more than may wait in memory.
    Enough,
    /// More: [`Output::relieve`] is to be called, detached from Python.
    TooMuch,
}

/// What waits after an attempt to relieve the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relieved {
    /// There is room for more.
    Room,
    /// There is none before the client has taken some.
    Full,
}

/// The client has closed its connection or stopped reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientGone;

/// Pieces up to this size are copied behind the head, so that both leave in one `send`; longer ones are sent from
/// where they lie.
const COPY_BYTES_MAX: usize = 32 * 1024;

/// The response of the request that is in the application, if one is.
pub struct Exchange<O: ?Sized = dyn Output> {
    state: State,
    /// What `start_response` said last.
    head: ResponseHead,
    memo: FieldMemo,
    to: ResponseTo,
    /// The Date of this second; the worker sets it.
    pub date: DateLines,
    /// When the request went into the application; later by the time that it has waited for its client.
    opened: Instant,
    /// Since when it waits for its client.
    client_wait: Option<Instant>,
    /// Its method and target, one behind the other, for the log.
    line: Vec<u8>,
    method_bytes: usize,
    /// The client's address, for the log.
    remote: String,
    /// What it is called, if requests have names.
    pub request_id: Option<RequestId>,
    /// Its response was ended without the application, since it took too long.
    is_cut_off: bool,
    /// Bytes that the application produced past its Content-Length.
    excess_bytes: u64,
    pub(super) is_client_gone: bool,
    /// The status that answers a failure of the client's, if the application leaves it at that.
    pub(super) failure: Option<u16>,
    /// Which pair of Python callables belongs to this exchange; an older pair that an application kept does not.
    pub(super) generation: u64,
    /// The `write` of that pair, which `start_response` returns.
    pub(super) write: Option<Py<PyAny>>,
    /// The socket side, set up by the worker around each request.
    pub output: O,
}

/// A request that is in the application, for those who watch over it.
#[derive(Clone, Copy, Debug)]
pub struct InApplication<'e> {
    /// When it went in; its name for those who look twice.
    pub since: Instant,
    /// What the application has taken for it, without the time in which it waited for the client.
    pub time: Duration,
    /// As the client wrote it, like the target.
    pub method: &'e [u8],
    /// See above.
    pub target: &'e [u8],
    /// The client's address.
    pub remote: &'e str,
    /// What the client speaks.
    pub version: Version,
    /// Empty if requests have no names.
    pub request_id: &'e [u8],
}

#[derive(Debug)]
enum State {
    /// No request is in the application: whoever calls `start_response` or `write` is late.
    Idle,
    /// The application has not called `start_response`.
    Fresh,
    /// It has; nothing of the head has been framed, so it may still be replaced.
    Started,
    /// The head has been framed.
    Begun(ResponseEncoder),
    /// The body has been framed to its end, too.
    Ended(ResponseEncoder, BodyEnd),
}

/// What became of a response.
pub(super) struct Closed {
    /// 0 if there was none.
    pub(super) status: u16,
    pub(super) body_bytes: u64,
    /// `None` while the body is not framed to its end.
    pub(super) end: Option<BodyEnd>,
    /// Whether the head told the peer that the connection persists.
    pub(super) persists: bool,
}

impl Closed {
    fn new(encoder: &ResponseEncoder, end: Option<BodyEnd>) -> Self {
        Self { status: encoder.status(), body_bytes: encoder.body_bytes(), end, persists: encoder.persists() }
    }
}

/// Why something could not be added to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushError {
    /// A piece of body came before `start_response`.
    NotStarted,
    /// The request that this response belonged to is over.
    Over,
    /// The client went away.
    ClientGone,
}

impl<O: Output> Exchange<O> {
    pub(super) fn new(output: O) -> Self {
        let to = ResponseTo { is_head: false, version: Version::Http11, persists: false };
        Self {
            state: State::Idle,
            head: ResponseHead::default(),
            memo: FieldMemo::default(),
            to,
            date: DateLines::default(),
            opened: Instant::now(),
            client_wait: None,
            line: Vec::new(),
            method_bytes: 0,
            remote: String::new(),
            request_id: None,
            is_cut_off: false,
            excess_bytes: 0,
            is_client_gone: false,
            failure: None,
            generation: 0,
            write: None,
            output,
        }
    }
}

impl<O: Output + ?Sized> Exchange<O> {
    /// A request goes into the application. Say so before [`Handler::handle`](super::Handler::handle).
    pub fn open(&mut self, to: ResponseTo, request: &Request<'_>, remote: &str, now: Instant) {
        self.opened = now;
        self.client_wait = None;
        self.line.clear();
        self.line.extend_from_slice(request.method());
        self.method_bytes = self.line.len();
        self.line.extend_from_slice(request.target());
        self.remote.clear();
        self.remote.push_str(remote);
        if let Some(id) = &mut self.request_id {
            id.name(request);
        }
        self.is_cut_off = false;
        self.state = State::Fresh;
        self.head.clear();
        self.to = to;
        self.excess_bytes = 0;
        self.is_client_gone = false;
        self.failure = None;
    }

    /// The request has left the application: what became of its response.
    pub(super) fn close(&mut self) -> Closed {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle | State::Fresh | State::Started => {
                Closed { status: 0, body_bytes: 0, end: None, persists: false }
            }
            State::Begun(encoder) => Closed::new(&encoder, None),
            State::Ended(encoder, end) => Closed::new(&encoder, Some(end)),
        }
    }

    /// The client went away: whatever was framed has no end.
    pub(super) fn abandon(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Begun(encoder) | State::Ended(encoder, _) => State::Begun(encoder),
            State::Fresh | State::Started => State::Started,
            // It was cut off, and is not to be late once more.
            State::Idle => State::Idle,
        };
    }

    /// The application begins to wait for its client, which is none of its own time.
    pub fn begin_client_wait(&mut self) {
        self.client_wait = Some(Instant::now());
    }

    /// It has got what it waited for.
    pub fn end_client_wait(&mut self) {
        if let Some(since) = self.client_wait.take() {
            self.opened += since.elapsed();
        }
    }

    /// The request that is in the application, if one is.
    pub fn request(&self) -> Option<InApplication<'_>> {
        let (method, target) = self.line.split_at(self.method_bytes);
        let version = self.to.version;
        let time = self.client_wait.unwrap_or_else(Instant::now).saturating_duration_since(self.opened);
        (!matches!(self.state, State::Idle)).then(|| InApplication {
            since: self.opened,
            time,
            method,
            target,
            remote: &self.remote,
            version,
            request_id: self.request_name(),
        })
    }

    /// What the request is called that was opened last; empty if requests have no names.
    pub fn request_name(&self) -> &[u8] {
        self.request_id.as_ref().map_or(b"", RequestId::value)
    }

    /// The status of a response that has begun.
    pub fn status(&self) -> Option<u16> {
        match &self.state {
            State::Begun(encoder) | State::Ended(encoder, _) => Some(encoder.status()),
            State::Idle | State::Fresh | State::Started => None,
        }
    }

    /// Reading the request's body has failed: unless the application deals with that, this is the status to answer.
    pub fn expect_failure(&mut self, status: u16) {
        self.failure = Some(status);
        self.announce_close();
    }

    /// The connection will close behind the response, which its head says if it has not been framed yet.
    pub fn announce_close(&mut self) {
        self.to.persists = false;
    }

    /// Ends the response of a request that has been in the application for too long, if one is: a 504 if nothing of it
    /// has been framed, and otherwise nothing. What the application still produces is dropped. Returns the status that
    /// was framed, or `None` if the connection must be cut.
    pub fn cut_off(&mut self) -> Option<u16> {
        self.is_cut_off = true;
        let is_begun = self.is_begun();
        if !is_begun {
            self.to.persists = false;
            self.replace(504);
        }
        self.state = State::Idle;
        (!is_begun).then_some(504)
    }

    /// Whether [`cut_off`](Self::cut_off) has ended the response of this request.
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// Frames an interim response with these fields, for 1.1 clients that have not had the final one (RFC 8297).
    pub(super) fn hint(&mut self, hints: &ResponseHead) {
        if !self.is_begun() && self.to.version == Version::Http11 {
            hints.push_interim(self.output.buffer());
        }
    }

    /// Whether a request is in the application, and was given the callables of this generation.
    pub(super) fn is_open_for(&self, generation: u64) -> bool {
        !matches!(self.state, State::Idle) && generation == self.generation
    }

    /// Whether `start_response` has been called.
    pub(super) fn is_started(&self) -> bool {
        !matches!(self.state, State::Idle | State::Fresh)
    }

    /// Whether part of the response has been framed, so that it can be neither replaced nor taken back.
    pub(super) fn is_begun(&self) -> bool {
        matches!(self.state, State::Begun(_) | State::Ended(..))
    }

    /// Whether nothing that the application may still yield belongs on the wire.
    pub(super) fn is_full(&self) -> bool {
        match &self.state {
            State::Begun(encoder) => encoder.is_full(),
            State::Ended(..) => true,
            State::Idle | State::Fresh | State::Started => false,
        }
    }

    /// Whether the response has begun and, by its status or for a HEAD, will have no body whatever is yielded.
    pub(super) fn is_bodiless(&self) -> bool {
        matches!(&self.state, State::Begun(encoder) if encoder.is_bodiless())
    }

    pub(super) fn excess_bytes(&self) -> u64 {
        self.excess_bytes
    }

    /// The head as `start_response` gives it; a head that is found unsound leaves the response as if never started.
    pub(super) fn start<E>(
        &mut self,
        status: &[u8],
        fields: impl FnOnce(&mut ResponseHead, &mut FieldMemo) -> Result<(), E>,
        wrap: impl FnOnce(HeadError) -> E,
    ) -> Result<(), E> {
        self.state = State::Fresh;
        self.head.start(status).map_err(wrap)?;
        fields(&mut self.head, &mut self.memo)?;
        if let Some(id) = &self.request_id
            && !self.head.fields().any(|(name, _)| id.is_header(name))
        {
            self.head.checked_line(id.header_line());
        }
        self.state = State::Started;
        Ok(())
    }

    /// Frames a piece of the body, and the head before it if it is the first. `only` says that no other piece comes.
    #[inline]
    pub(super) fn push(&mut self, piece: &Bound<'_, PyBytes>, only: bool) -> Result<(), PushError> {
        let bytes = piece.as_bytes();
        if bytes.is_empty() {
            return Ok(());
        }
        let known_length = only.then_some(bytes.len() as u64);
        let encoder = begin(&mut self.state, &self.head, self.to, known_length, &self.date, self.output.buffer())?;
        let admitted = encoder.admit(bytes.len());
        if !encoder.is_bodiless() {
            self.excess_bytes += (bytes.len() - admitted) as u64;
        }
        if admitted == 0 {
            return Ok(());
        }
        encoder.open(admitted, self.output.buffer());
        // Only what is exactly a bytes object: to let go of another one may run code of the application, and that
        // happens at the desk.
        if admitted <= COPY_BYTES_MAX || !piece.is_exact_instance_of::<PyBytes>() {
            self.output.buffer().extend_from_slice(&bytes[..admitted]);
        } else {
            self.output.hold(HeldBytes::new(piece, admitted));
        }
        encoder.close(self.output.buffer());
        Ok(())
    }

    /// Frames a body that is part of a file, and its head.
    pub(super) fn push_file(&mut self, mut range: FileRange) -> Result<(), PushError> {
        let known_length = Some(range.length);
        let encoder = begin(&mut self.state, &self.head, self.to, known_length, &self.date, self.output.buffer())?;
        let admitted = encoder.admit_long(range.length);
        if !encoder.is_bodiless() {
            self.excess_bytes += range.length - admitted;
        }
        if admitted > 0 {
            range.length = admitted;
            self.output.hold_file(range);
        }
        Ok(())
    }

    /// Frames the end of the body, and an empty one if there was no piece.
    pub(super) fn end(&mut self) -> Result<(), PushError> {
        begin(&mut self.state, &self.head, self.to, Some(0), &self.date, self.output.buffer())?;
        if let State::Begun(encoder) = std::mem::replace(&mut self.state, State::Idle) {
            let end = encoder.end(self.output.buffer());
            self.state = State::Ended(encoder, end);
        }
        Ok(())
    }

    /// Frames a whole response of the server's own in place of the application's, of which nothing has been framed.
    pub(super) fn replace(&mut self, status: u16) {
        self.replace_with(status, "");
    }

    /// The same for a request that is refused, after which the connection closes.
    pub(super) fn refuse(&mut self, error: RequestError) {
        self.announce_close();
        self.replace_with(error.status(), &error.to_string());
    }

    fn replace_with(&mut self, status: u16, detail: &str) {
        debug_assert!(!self.is_begun());
        self.head.clear();
        let line = self.request_id.as_ref().map_or(&b""[..], RequestId::header_line);
        let encoder = push_plain_with(line, status, detail, self.to, &self.date, self.output.buffer());
        self.state = State::Ended(encoder, BodyEnd::Complete);
    }

    /// Framed bytes that have not been sent.
    pub(super) fn waiting(&self) -> u64 {
        self.output.waiting()
    }

    /// Sends what has been framed, as far as the client takes it now.
    pub(super) fn flush(&mut self) -> Result<Flushed, PushError> {
        self.output.flush().map_err(|ClientGone| {
            self.is_client_gone = true;
            PushError::ClientGone
        })
    }

    /// Whether a flush found that the client had gone.
    pub fn is_client_gone(&self) -> bool {
        self.is_client_gone
    }

    /// The fields that the application gave, for the access log; valid until the next request.
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }
}

/// The encoder of a response that has begun or begins now. Takes the fields apart, for the borrow checker.
#[inline]
fn begin<'s>(
    state: &'s mut State,
    head: &ResponseHead,
    to: ResponseTo,
    known_length: Option<u64>,
    date: &DateLines,
    out: &mut Vec<u8>,
) -> Result<&'s mut ResponseEncoder, PushError> {
    match state {
        State::Idle => return Err(PushError::Over),
        State::Fresh => return Err(PushError::NotStarted),
        State::Started => *state = State::Begun(ResponseEncoder::begin(head, to, known_length, date, out)),
        State::Begun(_) => {}
        // What comes behind the end would be read as the next response.
        State::Ended(..) => return Err(PushError::Over),
    }
    match state {
        State::Begun(encoder) => Ok(encoder),
        State::Idle | State::Fresh | State::Started | State::Ended(..) => Err(PushError::NotStarted),
    }
}
