//! The access log: one line for each response, collected in memory and written many at a time.
//!
//! ```text
//! [12:44:12] 127.0.0.1 "GET / HTTP/1.1" 200 42 0.75ms
//! ```
//!
//! The worker's loop says what was served ([`Record`]) and when it has nothing else to do ([`AccessLog::flush`]).

mod atoms;
mod decode;
mod filter;
mod format;
mod render;
mod sink;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use log::warn;

use self::filter::Filter;
use self::format::Format;
pub use self::format::FormatError;
use self::render::Line;
use self::sink::Sink;
use super::output::{Output, Owner};
use super::route::{self, Told};
use super::stamp::Stamp;
use super::syslog::Syslog;
use crate::exit::Exit;
use crate::settings::{LogTarget, Logging};
use crate::sys::clock::{UnixTime, coarse_now};

/// A request and the response it got, as far as a log may tell.
pub struct Record<'a> {
    /// The client's address, without port; empty on a Unix socket.
    pub remote_addr: &'a str,
    /// The request's method, empty if the request line could not be read.
    pub method: &'a [u8],
    /// The request target exactly as sent, empty if the request line could not be read.
    pub target: &'a [u8],
    /// The x of HTTP/1.x.
    pub version_minor: u8,
    /// The request's fields.
    pub fields: &'a dyn RequestFields,
    /// The status sent.
    pub status: u16,
    /// Bytes of the response's body, without its framing.
    pub body_bytes: u64,
    /// From the call of the application until its last byte was taken for sending.
    pub duration: Duration,
    /// From the moment the request was complete until then; `None` if nobody knows.
    pub queue_time: Option<Duration>,
    /// What the request is called, visible ASCII; empty if requests have no names.
    pub request_id: &'a [u8],
    /// The fields that the application set; may be empty unless [`AccessLog::wants_response_fields`].
    pub response_fields: &'a [(Vec<u8>, Vec<u8>)],
    /// For each of [`AccessLog::environ_names`], in that order, the variable's value in the request's environ; `None`
    /// if it has none. Values that are missing at the end count as `None`.
    pub environ: &'a [Option<Vec<u8>>],
}

/// The fields of a request's head, looked up by name.
pub trait RequestFields {
    /// The value of the first field of that name.
    fn get(&self, lowercase_name: &[u8]) -> Option<&[u8]>;

    /// Shows all of them: name as it was sent, value.
    fn each(&self, show: &mut dyn FnMut(&[u8], &[u8]));
    /// The value of the last one.
    fn last(&self, lowercase_name: &[u8]) -> Option<&[u8]>;
}

/// An open access log.
///
/// A push costs 80 ns with `mini`, 155 ns with `combined` and a browser's fields, the writing to a file included: one
/// million of them in a loop, release build, best of seven. `json` costs the most.
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    filter: Filter,
    /// `None`: only syslog gets the lines.
    sink: Option<Sink>,
    syslog: Option<Syslog>,
    /// For those who take requests in place of the sink: what they have not been given yet.
    told: Vec<Told>,
    /// A line for syslog, if it is another one than the sink's.
    line: Vec<u8>,
    stamp: Stamp,
    /// Room for a value that must be decoded before it is written, kept to save the allocation.
    scratch: Vec<u8>,
}

impl AccessLog {
    /// Compiles `format` and opens `target`; `None` if the operator wants no access log, there or in `syslog`.
    ///
    /// # Errors
    /// The format is wrong, which is found even if no log is wanted; or the target cannot be opened.
    pub fn open(
        target: &LogTarget,
        format: &str,
        logging: &Logging,
        syslog: Option<Syslog>,
    ) -> Result<Option<AccessLog>, OpenError> {
        let format = format::compile(format).map_err(OpenError::Format)?;
        let output = Output::open(target).map_err(|error| OpenError::Target(target.clone(), error))?;
        let is_wanted = output.is_some() || syslog.is_some();
        Ok(is_wanted.then(|| AccessLog::new(output, format, Filter::new(logging), syslog)))
    }

    fn new(output: Option<Output>, format: Format, filter: Filter, syslog: Option<Syslog>) -> AccessLog {
        let stamp = Stamp::new(coarse_now().seconds);
        let (sink, line, scratch) = (output.map(Sink::new), Vec::new(), Vec::new());
        AccessLog { format, filter, sink, syslog, told: Vec::new(), line, stamp, scratch }
    }

    /// Whether [`Record::response_fields`] will be looked at.
    pub fn wants_response_fields(&self) -> bool {
        self.format.wants_response_fields() || route::takes_requests()
    }

    /// The environ variables that [`Record::environ`] must hold, as the operator spelled them. Nearly always empty.
    pub fn environ_names(&self) -> &[String] {
        self.format.environ_names()
    }

    /// Adds a line, unless the operator wants none of this record. It is written when many have come together, or by
    /// [`AccessLog::flush`].
    pub fn push(&mut self, record: &Record<'_>) {
        self.push_at(coarse_now(), record);
    }

    fn push_at(&mut self, now: UnixTime, record: &Record<'_>) {
        if self.filter.is_on() && !self.filter.admits(record) {
            return;
        }
        self.stamp.advance(now.seconds);
        if self.sink.is_some() {
            if route::takes_requests() { self.push_to_route(now, record) } else { self.push_to_sink(now, record) }
        }
        if self.syslog.is_some() {
            self.push_to_syslog(now, record);
        }
    }

    fn push_to_sink(&mut self, now: UnixTime, record: &Record<'_>) {
        let AccessLog { format, sink: Some(sink), stamp, scratch, .. } = self else { return };
        for value_bytes_max in VALUE_CUTS {
            render(format, sink.begin_line(), scratch, stamp, now, value_bytes_max, record);
            if sink.is_line_atomic() {
                break;
            }
        }
        sink.end_line();
    }

    #[cold]
    fn push_to_route(&mut self, now: UnixTime, record: &Record<'_>) {
        let AccessLog { format, told, stamp, scratch, .. } = self;
        let (mut line, mut atoms) = (Vec::new(), Vec::new());
        render(format, &mut line, scratch, stamp, now, usize::MAX, record);
        atoms::push(&mut atoms, scratch, stamp, format, record);
        told.push(Told { line, atoms });
        if self.told.len() >= TOLD_MAX {
            self.tell_route();
        }
    }

    /// What nobody takes goes where it goes without a route.
    fn tell_route(&mut self) {
        if self.told.is_empty() {
            return;
        }
        let left = route::tell(std::mem::take(&mut self.told));
        let Some(sink) = &mut self.sink else { return };
        for told in left {
            sink.begin_line().extend_from_slice(&told.line);
            sink.end_line();
        }
    }

    /// Rendered once more, though it may be the same line: a record of syslog has a bound of its own.
    fn push_to_syslog(&mut self, now: UnixTime, record: &Record<'_>) {
        let AccessLog { format, syslog: Some(syslog), line, stamp, scratch, .. } = self else { return };
        for value_bytes_max in VALUE_CUTS {
            line.clear();
            render(format, line, scratch, stamp, now, value_bytes_max, record);
            if line.len() <= syslog.line_bytes_max() {
                break;
            }
        }
        if let Some(complaint) = syslog.send_line(line) {
            warn!("{complaint}");
        }
    }

    /// Whether there is nothing to flush.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty() && self.sink.as_ref().is_none_or(Sink::is_empty)
    }

    /// Writes the lines collected so far. What cannot be written is dropped, counted and reported in the error log. Returns
    /// whether syslog may take soon what it has not taken yet.
    pub fn flush(&mut self) -> bool {
        self.tell_route();
        self.sink.iter_mut().for_each(Sink::flush);
        self.syslog.iter_mut().for_each(Syslog::flush);
        self.syslog.as_ref().is_some_and(Syslog::is_worth_a_look)
    }

    /// The same, before the process ends.
    pub fn finish(&mut self) {
        self.flush();
        self.syslog.iter_mut().for_each(Syslog::finish);
    }

    /// Flushes, and opens the log's file anew at its path, after somebody has moved the old one away. Standard streams
    /// stay as they are.
    ///
    /// # Errors
    /// A sentence with the path. The log goes on in the old file.
    pub fn reopen(&mut self) -> Result<(), String> {
        self.syslog.iter_mut().for_each(Syslog::reopen);
        let reopened = self.sink.as_mut().map_or(Ok(()), Sink::reopen);
        self.tell(reopened)
    }

    /// Gives the log's file to `owner`, now and whenever it is opened anew.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn give_to(&mut self, owner: Owner) -> Result<(), String> {
        let given = self.sink.as_mut().map_or(Ok(()), |sink| sink.give_to(owner));
        self.tell(given)
    }

    /// Only files can be reopened or given away.
    fn tell(&self, done: io::Result<()>) -> Result<(), String> {
        let path = self.sink.as_ref().and_then(Sink::path).unwrap_or(Path::new("-"));
        done.map_err(|error| format!("access log {}: {error}", path.display()))
    }
}

/// So many requests are given to those who take them at a time.
const TOLD_MAX: usize = 256;

/// Appends a line without its end.
#[inline]
fn render(
    format: &Format,
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    stamp: &Stamp,
    now: UnixTime,
    value_bytes_max: usize,
    record: &Record<'_>,
) {
    let nanoseconds = now.nanoseconds;
    Line { out, scratch, style: format.style(), value_bytes_max, stamp, nanoseconds, record }.push(format);
}

/// How many bytes of a value a line may show, tried in this order until the line is one that the output takes whole.
///
/// Only a line of more than PIPE_BUF bytes for a pipe is ever cut, and what is too long for syslog. Left long it could be broken up by a sibling's line,
/// and its second half would begin a line, with text of the client's choice: a forged record.
const VALUE_CUTS: [usize; 4] = [usize::MAX, 1024, 256, 64];

/// Why there is no access log although one was asked for.
#[derive(Debug)]
pub enum OpenError {
    /// The format is wrong.
    Format(FormatError),
    /// The target cannot be opened.
    Target(LogTarget, io::Error),
}

impl OpenError {
    /// How a program ends that cannot go on without its access log.
    pub fn exit(&self) -> Exit {
        match self {
            OpenError::Format(_) => Exit::Usage,
            OpenError::Target(..) => Exit::Failed,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Format(error) => error.fmt(formatter),
            OpenError::Target(LogTarget::File(path), error) => {
                write!(formatter, "cannot open the access log {}: {error}", path.display())
            }
            OpenError::Target(LogTarget::Stderr, error) => {
                write!(formatter, "cannot write the access log to standard error: {error}")
            }
            OpenError::Target(_, error) => write!(formatter, "cannot write the access log to standard output: {error}"),
        }
    }
}

impl Error for OpenError {}
