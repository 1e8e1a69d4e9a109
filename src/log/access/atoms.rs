//! What gunicorn's access logger has in `record.args`: all atoms by their names, whatever the format of the line.
//!
//! Only for a process whose lines go through Python's logging.

use super::format::{Atom, Format, Segment};
use super::render::Line;
use super::{Record, Stamp};
use crate::log::escape::Style;

/// Those that every record has.
const ATOMS: [(&str, Atom); 21] = [
    ("h", Atom::RemoteAddr),
    ("l", Atom::Dash),
    ("u", Atom::User),
    ("t", Atom::Time),
    ("r", Atom::RequestLine),
    ("s", Atom::Status),
    ("m", Atom::Method),
    ("U", Atom::Path),
    ("q", Atom::Query),
    ("H", Atom::Protocol),
    ("b", Atom::BodyBytes),
    ("B", Atom::BodyBytes),
    ("f", Atom::Referer),
    ("a", Atom::UserAgent),
    ("T", Atom::WholeSeconds),
    ("D", Atom::Microseconds),
    ("M", Atom::Milliseconds),
    ("L", Atom::Seconds),
    ("p", Atom::Pid),
    ("I", Atom::RequestId),
    ("Q", Atom::QueueTime),
];

/// Appends name, NUL, value and line feed of each: the atoms, the fields of both heads, and the environ variables that
/// the format names.
pub(super) fn push(out: &mut Vec<u8>, scratch: &mut Vec<u8>, stamp: &Stamp, format: &Format, record: &Record<'_>) {
    // No atom shows a part of a second that the record does not hold.
    let (style, value_bytes_max, nanoseconds) = (Style::Text, usize::MAX, 0);
    let mut line = Line { out, scratch, style, value_bytes_max, stamp, nanoseconds, record };
    for (name, atom) in ATOMS {
        line.push_pair(name.as_bytes(), |line| line.push_segment(&Segment::Atom(atom)));
    }
    record.fields.each(&mut |name, value| line.push_field(name, b'i', value));
    for (name, value) in record.response_fields {
        line.push_field(name, b'o', value);
    }
    for (name, value) in format.environ_names().iter().zip(record.environ) {
        line.push_field(name.as_bytes(), b'e', value.as_deref().unwrap_or(b"-"));
    }
}

impl Line<'_> {
    fn push_pair(&mut self, name: &[u8], push_value: impl FnOnce(&mut Self)) {
        self.out.extend_from_slice(name);
        self.out.push(0);
        push_value(self);
        self.out.push(b'\n');
    }

    /// `{name}i` and its like. gunicorn's names are in lower case.
    fn push_field(&mut self, name: &[u8], kind: u8, value: &[u8]) {
        let name = [&b"{"[..], &name.to_ascii_lowercase(), b"}", &[kind]].concat();
        self.push_pair(&name, |line| line.push_value(value));
    }
}
