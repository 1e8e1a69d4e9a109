//! [`Connection`]: the requests of one peer, one after another. The only place where their states change.
//!
//! ```text
//!  bytes → space()/filled() → next_event() → Head → Payload* → End → respond(persists) ─┐
//!                                  ▲                                                     │
//!                                  └────────────── pipelined bytes wait ─────────────────┘
//! ```
//!
//! The head stays in the buffer until the request has been answered, since the environ, the application and the access
//! log read it there; the body passes through behind it. `start <= parsed <= filled <= storage.len()`.

use super::body::{BodyDecoder, Decoded};
use super::error::RequestError;
use super::proxy_protocol::{Beginning, ProxyHeader, ProxyVersions};
use super::request::{Limits, Request, RequestHead};
use super::scanner::{HeadScanner, Scan};
use super::syntax;
use std::borrow::Cow;
use std::ops::Range;

/// How large a lent buffer is: a head and a common body in one `recv`. Larger reads gained nothing on loopback.
pub const STORAGE_BYTES: usize = 32 * 1024;

/// More received bytes than this are not moved out of a lent buffer.
const PARKED_BYTES_MAX: usize = 4096;

/// The receiving half of one connection.
#[derive(Debug)]
pub struct Connection {
    storage: Vec<u8>,
    /// Where the current request starts; moves only between requests.
    start: usize,
    /// Everything before has been turned into events.
    parsed: usize,
    /// Everything before was received.
    filled: usize,
    reading: Reading,
    head: RequestHead,
    /// Bytes from `start` to the end of the current head; 0 before it is complete.
    head_bytes: usize,
    input_ended: bool,
}

/// What the next bytes are.
#[derive(Debug)]
enum Reading {
    /// The beginning of the connection, where a proxy may say who its client is.
    Beginning(ProxyVersions),
    /// Part of a head, or nothing yet.
    Head { scanner: HeadScanner, empty_line_skipped: bool },
    /// Part of the current request's body.
    Body(BodyDecoder),
    /// Not looked at before the current request is answered.
    Paused,
    /// Not looked at ever again.
    Closed,
}

impl Reading {
    fn next_head() -> Self {
        Self::Head { scanner: HeadScanner::default(), empty_line_skipped: false }
    }
}

/// What a connection is busy with, for those who set deadlines and draw up statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between two requests: no byte of the next one is there.
    Idle,
    /// A head has begun.
    Head,
    /// A head is complete and its body is not.
    Body,
    /// A request is complete and waits for its response.
    Responding,
    /// No further request will be read.
    Closed,
}

/// What happened, in the order of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A proxy said who its client is, before the first request. Said once at most.
    Proxied(ProxyHeader),
    /// Nothing more can be said before more bytes come.
    NeedInput,
    /// A head is complete, sound, and within the limits.
    Head {
        /// The peer waits for `100 Continue` before it sends the body, and none of the body has come.
        wants_continue: bool,
    },
    /// A run of the body's payload, to be read with [`Connection::payload`] before the next event.
    Payload(Range<usize>),
    /// The request is complete; it waits for [`Connection::respond`].
    End,
    /// The peer ended the connection, and no request is incomplete.
    Closed,
}

/// All that another process needs to go on where this connection stands: see [`Connection::export`].
#[derive(Debug, PartialEq, Eq)]
pub struct Exported<'c> {
    /// The head of a complete request that waits for its response, with its empty line; empty if there is none.
    pub head: &'c [u8],
    /// What was received behind it: requests not looked at yet, or the beginning of one. Owned only in the rare case
    /// that an empty line which was skipped before a request has to be put there again.
    pub leftover: Cow<'c, [u8]>,
    /// Whether the peer sends nothing more.
    pub input_ended: bool,
}

/// A request that outlives its connection's buffer.
#[derive(Debug)]
pub struct OwnedRequest {
    bytes: Vec<u8>,
    head: RequestHead,
}

impl OwnedRequest {
    /// To be looked at as any other.
    pub fn as_request(&self) -> Request<'_> {
        Request::new(&self.bytes, &self.head)
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            storage: Vec::new(),
            start: 0,
            parsed: 0,
            filled: 0,
            reading: Reading::next_head(),
            head: RequestHead::new(),
            head_bytes: 0,
            input_ended: false,
        }
    }
}

impl Connection {
    /// Has a PROXY header looked for before the first request; it may be missing. To be said before any event is asked
    /// for, of a connection whose first bytes these are.
    pub fn expect_proxy_header(&mut self, versions: ProxyVersions) {
        self.reading = Reading::Beginning(versions);
    }

    /// Whether a PROXY header is still looked for.
    pub fn expects_proxy_header(&self) -> bool {
        matches!(self.reading, Reading::Beginning(_))
    }

    /// Whether a buffer is to be lent before bytes can be received.
    pub fn wants_storage(&self) -> bool {
        self.storage.len() < STORAGE_BYTES
    }

    /// Lends the buffer that the next bytes go to, [`STORAGE_BYTES`] long; received bytes that were parked move into
    /// it. So a connection that waits owns little more memory than it has received bytes.
    pub fn lend(&mut self, mut storage: Vec<u8>) {
        debug_assert!(self.wants_storage() && storage.len() == STORAGE_BYTES);
        storage[..self.filled].copy_from_slice(&self.storage[..self.filled]);
        self.storage = storage;
    }

    /// Takes the lent buffer back for the next connection, and keeps the unread bytes in an allocation of their size.
    /// A connection in the middle of something longer keeps its buffer: a peer that sends byte by byte must not make
    /// us copy kilobytes for each.
    pub fn park(&mut self) -> Option<Vec<u8>> {
        if self.storage.len() != STORAGE_BYTES {
            return None;
        }
        self.compact();
        if self.filled > PARKED_BYTES_MAX {
            return None;
        }
        let kept = self.storage[..self.filled].to_vec();
        Some(std::mem::replace(&mut self.storage, kept))
    }

    /// Where the next bytes go; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        let room = self.storage.len() - self.filled;
        if self.parsed == self.filled || room < STORAGE_BYTES / 4 {
            self.compact();
        }
        // Growth has an end: the scanner refuses a head beyond its limits, and payload is used up at once.
        if self.filled == self.storage.len() {
            self.storage.resize((self.storage.len() * 2).max(STORAGE_BYTES), 0);
        }
        &mut self.storage[self.filled..]
    }

    /// Notes that `count` bytes have been written to the front of [`space`](Self::space).
    pub fn filled(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.storage.len());
    }

    /// Notes that the peer sends nothing more.
    pub fn end_input(&mut self) {
        self.input_ended = true;
    }

    /// Turns received bytes into the next event.
    ///
    /// # Errors
    /// The request is refused. No further event will come; its status should be answered and the connection closed.
    pub fn next_event(&mut self, limits: &Limits) -> Result<Event, RequestError> {
        let event = self.advance(limits);
        if event.is_err() {
            self.reading = Reading::Closed;
        }
        event
    }

    fn advance(&mut self, limits: &Limits) -> Result<Event, RequestError> {
        match self.reading {
            Reading::Beginning(versions) => self.advance_beginning(versions, limits),
            Reading::Head { .. } => self.advance_head(limits),
            Reading::Body(_) => self.advance_body(limits),
            Reading::Paused => Ok(Event::NeedInput),
            Reading::Closed => Ok(Event::Closed),
        }
    }

    #[cold]
    fn advance_beginning(&mut self, versions: ProxyVersions, limits: &Limits) -> Result<Event, RequestError> {
        match versions.look_at(&self.storage[self.start..self.filled])? {
            Beginning::Partial => self.end_or_wait(),
            Beginning::Request => {
                self.reading = Reading::next_head();
                self.advance_head(limits)
            }
            Beginning::Header(header, length) => {
                self.start += length;
                self.parsed = self.start;
                self.reading = Reading::next_head();
                Ok(Event::Proxied(header))
            }
        }
    }

    #[inline]
    fn advance_head(&mut self, limits: &Limits) -> Result<Event, RequestError> {
        if !self.is_at_request_line()? {
            return self.end_or_wait();
        }
        loop {
            let Reading::Head { scanner, .. } = &mut self.reading else { return Ok(Event::NeedInput) };
            let head = &mut self.storage[self.start..self.filled];
            match scanner.scan(head, limits)? {
                Scan::Partial => return self.end_or_wait(),
                Scan::Line(length) => {
                    limits.leniency.mend_line(&mut head[..length]);
                    self.head.read_line(&head[..length], limits.leniency)?;
                }
                Scan::Head { length, fields_at, fields } => {
                    if limits.leniency.mends_fields() {
                        limits.leniency.mend_fields(&mut head[fields_at..length])?;
                    }
                    self.head.read_fields(&head[..length], fields_at, fields)?;
                    return self.end_head(length, limits);
                }
            }
        }
    }

    /// Whether the first byte of a request line is there, behind the one empty line that is ignored before it
    /// (RFC 9112 §2.2; gunicorn ignores one too).
    ///
    /// # Errors
    /// What is there cannot begin a method: a TLS hello, a second empty line.
    fn is_at_request_line(&mut self) -> Result<bool, RequestError> {
        let Reading::Head { empty_line_skipped, .. } = &mut self.reading else { return Ok(false) };
        if !*empty_line_skipped && self.storage[self.start..self.filled].starts_with(b"\r\n") {
            *empty_line_skipped = true;
            self.start += 2;
            self.parsed = self.start;
        }
        match &self.storage[self.start..self.filled] {
            [] => Ok(false),
            [b'\r'] if !*empty_line_skipped => Ok(false),
            [first, ..] if syntax::is_token_byte(*first) => Ok(true),
            _ => Err(RequestError::RequestLine),
        }
    }

    fn end_head(&mut self, length: usize, limits: &Limits) -> Result<Event, RequestError> {
        let decoder = BodyDecoder::new(self.head.body, limits)?;
        self.head_bytes = length;
        self.parsed = self.start + length;
        let wants_continue = self.head.expects_continue && !decoder.is_done() && self.parsed == self.filled;
        self.reading = Reading::Body(decoder);
        Ok(Event::Head { wants_continue })
    }

    fn advance_body(&mut self, limits: &Limits) -> Result<Event, RequestError> {
        let Reading::Body(decoder) = &mut self.reading else { return Ok(Event::NeedInput) };
        match decoder.decode(&self.storage[self.parsed..self.filled], limits)? {
            Decoded::Payload(run) => {
                let payload = self.parsed + run.start..self.parsed + run.end;
                self.parsed = payload.end;
                Ok(Event::Payload(payload))
            }
            Decoded::Partial(used) => {
                self.parsed += used;
                if self.input_ended { Err(RequestError::Incomplete) } else { Ok(Event::NeedInput) }
            }
            Decoded::End(used) => {
                self.parsed += used;
                self.reading = Reading::Paused;
                Ok(Event::End)
            }
        }
    }

    /// No complete head is there: wait for more, or, if no more comes, say how the connection ended.
    fn end_or_wait(&mut self) -> Result<Event, RequestError> {
        if !self.input_ended {
            return Ok(Event::NeedInput);
        }
        self.reading = Reading::Closed;
        if self.start == self.filled { Ok(Event::Closed) } else { Err(RequestError::Incomplete) }
    }

    /// The bytes of an [`Event::Payload`].
    pub fn payload(&self, range: Range<usize>) -> &[u8] {
        &self.storage[range]
    }

    /// The current request; its head is complete from [`Event::Head`] to [`respond`](Self::respond).
    pub fn request(&self) -> Request<'_> {
        Request::new(&self.storage[self.start..self.start + self.head_bytes], &self.head)
    }

    /// The current request, with bytes of its own.
    pub fn owned_request(&self) -> OwnedRequest {
        let bytes = self.storage[self.start..self.start + self.head_bytes].to_vec();
        OwnedRequest { bytes, head: self.head.clone() }
    }

    /// Whether the current request is complete and waits for [`respond`](Self::respond).
    pub fn is_complete(&self) -> bool {
        matches!(self.reading, Reading::Paused)
    }

    /// Notes that the current request has been answered. If the connection persists, the next request is read from
    /// the bytes that were left over.
    pub fn respond(&mut self, persists: bool) {
        let is_complete = self.is_complete();
        self.head_bytes = 0;
        self.start = self.parsed;
        self.reading = if persists && is_complete { Reading::next_head() } else { Reading::Closed };
    }

    /// What the connection is busy with.
    pub fn phase(&self) -> Phase {
        match self.reading {
            Reading::Beginning(_) | Reading::Head { .. } if self.start == self.filled => Phase::Idle,
            Reading::Beginning(_) | Reading::Head { .. } => Phase::Head,
            Reading::Body(_) => Phase::Body,
            Reading::Paused => Phase::Responding,
            Reading::Closed => Phase::Closed,
        }
    }

    /// Whether received bytes wait behind the current request.
    pub fn has_leftover(&self) -> bool {
        self.parsed < self.filled
    }

    /// Whether a whole head is among the bytes that wait behind the current request.
    pub fn has_next_head(&self) -> bool {
        self.storage[self.parsed..self.filled].windows(4).any(|bytes| bytes == b"\r\n\r\n")
    }

    /// What has to be told for the connection to be [adopted](Self::adopt) elsewhere; the body of a complete request is
    /// with the caller. `None` in the middle of a body, and once no further request will be read.
    pub fn export(&self) -> Option<Exported<'_>> {
        let leftover = Cow::from(&self.storage[self.parsed..self.filled]);
        let leftover = match self.reading {
            Reading::Beginning(_) | Reading::Paused => leftover,
            // The second empty line is an error, there as here.
            Reading::Head { empty_line_skipped: true, .. } => Cow::from([b"\r\n", &*leftover].concat()),
            Reading::Head { empty_line_skipped: false, .. } => leftover,
            Reading::Body(_) | Reading::Closed => return None,
        };
        let head = &self.storage[self.start..self.start + self.head_bytes];
        Some(Exported { head, leftover, input_ended: self.input_ended })
    }

    /// A connection as another one was when it was [exported](Self::export): with a head, its request is complete and
    /// waits for [`respond`](Self::respond); without, the next event is looked for in `leftover`. One that
    /// [expects a PROXY header](Self::expects_proxy_header) has to be told so anew.
    ///
    /// # Errors
    /// `head` is not exactly one sound head within the limits.
    pub fn adopt(head: &[u8], leftover: &[u8], input_ended: bool, limits: &Limits) -> Result<Self, RequestError> {
        let mut connection = Self { storage: [head, leftover].concat(), filled: head.len(), ..Self::default() };
        if !head.is_empty() {
            connection.next_event(limits)?;
            if connection.head_bytes != head.len() {
                return Err(RequestError::Incomplete);
            }
            connection.reading = Reading::Paused;
        }
        connection.filled += leftover.len();
        connection.input_ended = input_ended;
        Ok(connection)
    }

    /// Moves what is still needed to the front: the head of the current request and the bytes not parsed yet.
    fn compact(&mut self) {
        let head_end = self.start + self.head_bytes;
        debug_assert!(head_end <= self.parsed && self.parsed <= self.filled);
        if self.start > 0 {
            self.storage.copy_within(self.start..head_end, 0);
        }
        if self.parsed > self.head_bytes {
            self.storage.copy_within(self.parsed..self.filled, self.head_bytes);
        }
        self.filled -= self.parsed - self.head_bytes;
        self.parsed = self.head_bytes;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests;
