//! A record into a line: what each atom says, and the JSON object. Every byte that a peer or an application chose
//! passes `escape`.

use std::time::Duration;

use super::super::digits::{push_decimal, push_padded};
use super::super::escape::{Style, push_escaped};
use super::super::stamp::Stamp;
use super::super::{Identity, identity, pid};
use super::Record;
use super::decode::{basic_user, percent_decode, split_target, trace_id};
use super::format::{Atom, Format, Segment};

/// A line that is being written, and what it is written from.
pub(super) struct Line<'a> {
    pub out: &'a mut Vec<u8>,
    pub scratch: &'a mut Vec<u8>,
    pub style: Style,
    /// Values longer than this are cut.
    pub value_bytes_max: usize,
    pub stamp: &'a Stamp,
    /// The time since the stamp's second began.
    pub nanoseconds: u32,
    pub record: &'a Record<'a>,
}

impl Line<'_> {
    /// Writes the whole line but its end.
    pub fn push(&mut self, format: &Format) {
        match format {
            Format::Template(template) => template.segments.iter().for_each(|segment| self.push_segment(segment)),
            Format::Json => self.push_json(),
        }
    }

    pub(super) fn push_segment(&mut self, segment: &Segment) {
        let record = self.record;
        match segment {
            Segment::Literal(text) => self.out.extend_from_slice(text.as_bytes()),
            Segment::Atom(atom) => self.push_atom(*atom),
            // As with gunicorn: of two, the first may be the client's, and the other one that of the proxy in front.
            Segment::RequestField(name) => self.push_or_dash(record.fields.last(name.as_bytes())),
            Segment::ResponseField(name) => self.push_or_dash(response_field(record, name)),
            Segment::Environ(index) => self.push_or_dash(record.environ.get(*index).and_then(Option::as_deref)),
        }
    }

    fn push_atom(&mut self, atom: Atom) {
        let record = self.record;
        let duration = record.duration;
        match atom {
            Atom::RemoteAddr => self.push_or_dash(Some(record.remote_addr.as_bytes())),
            Atom::Dash => self.out.push(b'-'),
            Atom::User => self.push_user(),
            Atom::Time => self.out.extend_from_slice(&self.stamp.common),
            Atom::RequestLine => self.push_request_line(),
            Atom::Method => self.push_or_dash(Some(record.method)),
            Atom::Path => self.push_path(),
            Atom::Query => self.push_value(split_target(record.target).1),
            Atom::Protocol => self.push_protocol(),
            Atom::Status => push_decimal(self.out, u64::from(record.status)),
            Atom::BodyBytes => push_decimal(self.out, record.body_bytes),
            Atom::Referer => self.push_or_dash(record.fields.get(b"referer")),
            Atom::UserAgent => self.push_or_dash(record.fields.get(b"user-agent")),
            Atom::WholeSeconds => push_decimal(self.out, duration.as_secs()),
            Atom::Milliseconds => push_decimal(self.out, duration.as_millis() as u64),
            Atom::Microseconds => push_decimal(self.out, duration.as_micros() as u64),
            Atom::Seconds => push_fixed::<6>(self.out, duration.as_micros() as u64),
            Atom::Pid => {
                self.out.push(b'<');
                push_decimal(self.out, u64::from(pid()));
                self.out.push(b'>');
            }
            Atom::RequestId => self.push_or_dash(Some(record.request_id)),
            Atom::QueueTime => match record.queue_time {
                Some(time) => push_fixed::<3>(self.out, time.as_micros() as u64),
                None => self.out.push(b'-'),
            },
            Atom::TimeOfDay => self.out.extend_from_slice(&self.stamp.time_of_day),
            Atom::PreciseMilliseconds => push_fixed::<2>(self.out, rounded(duration, Duration::from_micros(10))),
        }
    }

    /// The object of the `json` format. What a record does not have is null.
    fn push_json(&mut self) {
        let record = self.record;
        self.push_json_time();
        self.push_json_text(b",\"remote_addr\":", non_empty(record.remote_addr.as_bytes()));
        self.push_json_text(b",\"host\":", record.fields.get(b"host"));
        self.push_json_text(b",\"method\":", non_empty(record.method));
        self.push_json_text(b",\"target\":", non_empty(record.target));
        self.push_json_path_and_query();
        self.out.extend_from_slice(b",\"protocol\":\"");
        self.push_protocol();
        self.out.push(b'"');
        self.push_json_number(b",\"status\":", u64::from(record.status));
        self.push_json_number(b",\"response_bytes\":", record.body_bytes);
        self.out.extend_from_slice(b",\"duration_ms\":");
        push_fixed::<3>(self.out, record.duration.as_micros() as u64);
        self.push_json_queue_time();
        self.push_json_text(b",\"referer\":", record.fields.get(b"referer"));
        self.push_json_text(b",\"user_agent\":", record.fields.get(b"user-agent"));
        self.push_json_text(b",\"request_id\":", non_empty(record.request_id));
        self.push_json_text(b",\"trace_id\":", record.fields.get(b"traceparent").and_then(trace_id));
        self.push_json_number(b",\"pid\":", u64::from(pid()));
        match identity() {
            Identity::Worker(number) => self.push_json_number(b",\"worker\":", u64::from(number)),
            Identity::Master | Identity::Template => self.out.extend_from_slice(b",\"worker\":null"),
        }
        self.out.push(b'}');
    }

    /// Opens the object with its time, as RFC 3339 wants it: `{"time":"2026-11-21T05:14:49.123+00:00"`.
    fn push_json_time(&mut self) {
        self.out.extend_from_slice(b"{\"time\":\"");
        self.out.extend_from_slice(&self.stamp.date_time);
        self.out.push(b'.');
        push_padded::<3>(self.out, self.nanoseconds / 1_000_000);
        self.out.extend_from_slice(&self.stamp.utc_offset);
        self.out.push(b'"');
    }

    fn push_json_path_and_query(&mut self) {
        if self.record.target.is_empty() {
            return self.out.extend_from_slice(b",\"path\":null,\"query\":null");
        }
        self.out.extend_from_slice(b",\"path\":\"");
        self.push_path();
        self.out.push(b'"');
        self.push_json_text(b",\"query\":", Some(split_target(self.record.target).1));
    }

    fn push_json_queue_time(&mut self) {
        self.out.extend_from_slice(b",\"queue_ms\":");
        match self.record.queue_time {
            Some(time) => push_fixed::<3>(self.out, time.as_micros() as u64),
            None => self.out.extend_from_slice(b"null"),
        }
    }

    fn push_json_number(&mut self, key: &[u8], value: u64) {
        self.out.extend_from_slice(key);
        push_decimal(self.out, value);
    }

    fn push_json_text(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.out.extend_from_slice(key);
        match value {
            Some(value) => {
                self.out.push(b'"');
                self.push_value(value);
                self.out.push(b'"');
            }
            None => self.out.extend_from_slice(b"null"),
        }
    }

    pub(super) fn push_value(&mut self, value: &[u8]) {
        push_cut(self.out, value, self.style, self.value_bytes_max);
    }

    fn push_or_dash(&mut self, value: Option<&[u8]>) {
        match value.and_then(non_empty) {
            Some(value) => self.push_value(value),
            None => self.out.push(b'-'),
        }
    }

    /// `GET /path?query HTTP/1.1`, or a dash if the request line could not be read.
    fn push_request_line(&mut self) {
        let record = self.record;
        if record.method.is_empty() {
            return self.out.push(b'-');
        }
        self.push_value(record.method);
        self.out.push(b' ');
        self.push_value(record.target);
        self.out.push(b' ');
        self.push_protocol();
    }

    fn push_protocol(&mut self) {
        self.out.extend_from_slice(b"HTTP/1.");
        push_decimal(self.out, u64::from(self.record.version_minor));
    }

    /// The target's path, percent-decoded as in PATH_INFO.
    fn push_path(&mut self) {
        let (path, _) = split_target(self.record.target);
        if path.contains(&b'%') {
            percent_decode(path, self.scratch);
            push_cut(self.out, self.scratch, self.style, self.value_bytes_max);
        } else {
            self.push_value(path);
        }
    }

    fn push_user(&mut self) {
        let authorization = self.record.fields.get(b"authorization");
        match authorization.and_then(|value| basic_user(value, self.scratch)) {
            Some(user) => push_cut(self.out, user, self.style, self.value_bytes_max),
            None => self.out.push(b'-'),
        }
    }
}

/// Writes `value`, or its beginning with three dots behind it.
fn push_cut(out: &mut Vec<u8>, value: &[u8], style: Style, bytes_max: usize) {
    if value.len() <= bytes_max {
        return push_escaped(out, value, style);
    }
    let is_boundary = |end: &usize| value[*end] & 0b1100_0000 != 0b1000_0000;
    let end = (bytes_max - 3..=bytes_max).rev().find(is_boundary).unwrap_or(bytes_max);
    push_escaped(out, &value[..end], style);
    out.extend_from_slice(b"...");
}

fn non_empty(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

/// The last response field of that name.
fn response_field<'a>(record: &Record<'a>, name: &str) -> Option<&'a [u8]> {
    let mut fields = record.response_fields.iter();
    let (_, value) = fields.rfind(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))?;
    Some(value)
}

/// How many `unit`s fit, the nearest whole number.
fn rounded(duration: Duration, unit: Duration) -> u64 {
    ((duration.as_nanos() + unit.as_nanos() / 2) / unit.as_nanos()) as u64
}

/// Writes `value` with its last `N` digits behind a point.
fn push_fixed<const N: usize>(out: &mut Vec<u8>, value: u64) {
    let scale = 10_u64.pow(N as u32);
    push_decimal(out, value / scale);
    out.push(b'.');
    push_padded::<N>(out, (value % scale) as u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_between_characters() {
        let cut = |value: &[u8], bytes_max| {
            let mut out = Vec::new();
            push_cut(&mut out, value, Style::Text, bytes_max);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(cut(b"abcdefgh", 8), "abcdefgh");
        assert_eq!(cut(b"abcdefghi", 8), "abcdefgh...");
        assert_eq!(cut("abcdef🦄".as_bytes(), 8), "abcdef...");
        assert_eq!(cut("abcdéée".as_bytes(), 7), "abcdé...");
        assert_eq!(cut(&[0x80; 9], 8), r"\x80".repeat(8) + "...");
    }

    #[test]
    fn durations_are_fixed_point() {
        let milliseconds = |nanoseconds| {
            let mut out = Vec::new();
            push_fixed::<2>(&mut out, rounded(Duration::from_nanos(nanoseconds), Duration::from_micros(10)));
            String::from_utf8(out).expect("digits")
        };
        assert_eq!(milliseconds(0), "0.00");
        assert_eq!(milliseconds(4_999), "0.00");
        assert_eq!(milliseconds(5_000), "0.01");
        assert_eq!(milliseconds(750_000), "0.75");
        assert_eq!(milliseconds(999_996_000), "1000.00");
        assert_eq!(milliseconds(61_234_567_000), "61234.57");
    }
}
