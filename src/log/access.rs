//! The access log: one line for each response, collected in memory and written many at a time.
//!
//! ```text
//! [12:44:12] 127.0.0.1 "GET / HTTP/1.1" 200 42 0.75ms
//! ```
//!
//! The worker's loop says what was served ([`Record`]) and when it has nothing else to do ([`AccessLog::flush`]).

mod decode;
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

use self::format::Format;
pub use self::format::FormatError;
use self::render::Line;
use self::sink::Sink;
use super::output::{Output, Owner};
use super::stamp::Stamp;
use crate::exit::Exit;
use crate::settings::LogTarget;
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
}

/// An open access log.
///
/// A push costs 80 ns with `mini`, 155 ns with `combined` and a browser's fields, 230 ns with `json`, the writing to a
/// file included: one million of them in a loop, release build, best of seven.
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    sink: Sink,
    stamp: Stamp,
    /// Room for a value that must be decoded before it is written, kept to save the allocation.
    scratch: Vec<u8>,
}

impl AccessLog {
    /// Compiles `format` and opens `target`; `None` if the operator wants no access log.
    ///
    /// # Errors
    /// The format is wrong, which is found even if no log is wanted; or the target cannot be opened.
    pub fn open(target: &LogTarget, format: &str) -> Result<Option<AccessLog>, OpenError> {
        let format = format::compile(format).map_err(OpenError::Format)?;
        let output = Output::open(target).map_err(|error| OpenError::Target(target.clone(), error))?;
        Ok(output.map(|output| AccessLog::new(output, format)))
    }

    fn new(output: Output, format: Format) -> AccessLog {
        let stamp = Stamp::new(coarse_now().seconds);
        AccessLog { format, sink: Sink::new(output), stamp, scratch: Vec::new() }
    }

    /// Whether [`Record::response_fields`] will be looked at.
    pub fn wants_response_fields(&self) -> bool {
        self.format.wants_response_fields()
    }

    /// The environ variables that [`Record::environ`] must hold, as the operator spelled them. Nearly always empty.
    pub fn environ_names(&self) -> &[String] {
        self.format.environ_names()
    }

    /// Adds a line. It is written when many have come together, or by [`AccessLog::flush`].
    pub fn push(&mut self, record: &Record<'_>) {
        self.push_at(coarse_now(), record);
    }

    fn push_at(&mut self, now: UnixTime, record: &Record<'_>) {
        self.stamp.advance(now.seconds);
        for value_bytes_max in VALUE_CUTS {
            let mut line = Line {
                out: self.sink.begin_line(),
                scratch: &mut self.scratch,
                style: self.format.style(),
                value_bytes_max,
                stamp: &self.stamp,
                nanoseconds: now.nanoseconds,
                record,
            };
            line.push(&self.format);
            if self.sink.is_line_atomic() {
                break;
            }
        }
        self.sink.end_line();
    }

    /// Whether there is nothing to flush.
    pub fn is_empty(&self) -> bool {
        self.sink.is_empty()
    }

    /// Writes the lines collected so far. What cannot be written is dropped, counted and reported in the error log.
    pub fn flush(&mut self) {
        self.sink.flush();
    }

    /// Flushes, and opens the log's file anew at its path, after somebody has moved the old one away. Standard streams
    /// stay as they are.
    ///
    /// # Errors
    /// A sentence with the path. The log goes on in the old file.
    pub fn reopen(&mut self) -> Result<(), String> {
        let reopened = self.sink.reopen();
        self.tell(reopened)
    }

    /// Gives the log's file to `owner`, now and whenever it is opened anew.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn give_to(&mut self, owner: Owner) -> Result<(), String> {
        let given = self.sink.give_to(owner);
        self.tell(given)
    }

    /// Only files can be reopened or given away.
    fn tell(&self, done: io::Result<()>) -> Result<(), String> {
        let path = self.sink.path().unwrap_or(Path::new("-"));
        done.map_err(|error| format!("access log {}: {error}", path.display()))
    }
}

/// How many bytes of a value a line may show, tried in this order until the line is one that the output takes whole.
///
/// Only a line of more than PIPE_BUF bytes for a pipe is ever cut. Left long it could be broken up by a sibling's line,
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
