//! A response: values → bytes. [`ResponseHead`] checks what the application said, [`ResponseEncoder`] frames its body.

use super::date::DateLines;
use super::request_line::Version;
use super::syntax;
use std::fmt;
use std::io::Write;

/// A status line and fields that have been checked, kept as the bytes they will be on the wire.
#[derive(Debug, Default)]
pub struct ResponseHead {
    status: u16,
    /// The status line, then the fields but Content-Length, each line with its CRLF.
    bytes: Vec<u8>,
    line_bytes: usize,
    /// Where the line of the last field starts, if it is one that means nothing to the framing.
    last_at: Option<usize>,
    content_length: Option<u64>,
    has_date: bool,
    has_server: bool,
}

/// The line of a field that has been checked and means nothing to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedField(Box<[u8]>);

/// Why a status or field of the application cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not three digits from 100 on, with an optional space and reason.
    Status,
    /// Not a token (RFC 9110 §5.1).
    Name,
    /// A control character: CR or LF here would begin a field, or a response, of the attacker's making.
    Value,
    /// Connection, Transfer-Encoding and their like belong to the server (PEP 3333, Other HTTP Features).
    HopByHop,
    /// A Content-Length that is no number.
    ContentLength,
    /// A second Content-Length.
    ContentLengthRepeated,
}

impl fmt::Display for HeadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Status => "not three digits, a space and a reason without control characters",
            Self::Name => "the name is not a token",
            Self::Value => "the value holds a control character",
            Self::HopByHop => "hop-by-hop headers belong to the server",
            Self::ContentLength => "the value is not a number",
            Self::ContentLengthRepeated => "given more than once",
        })
    }
}

impl std::error::Error for HeadError {}

impl ResponseHead {
    /// Forgets everything but the allocation.
    pub fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = Self { bytes, ..Self::default() };
    }

    /// Starts anew with `status`, for example `200 OK`; the allocation is kept from response to response.
    ///
    /// # Errors
    /// The status is malformed.
    pub fn start(&mut self, status: &[u8]) -> Result<(), HeadError> {
        self.clear();
        self.status = parse_status(status)?;
        self.bytes.extend_from_slice(b"HTTP/1.1 ");
        self.bytes.extend_from_slice(status);
        // RFC 9112 §4: the space stands even where the reason is empty.
        if status.len() == 3 {
            self.bytes.push(b' ');
        }
        self.bytes.extend_from_slice(b"\r\n");
        self.line_bytes = self.bytes.len();
        Ok(())
    }

    /// Adds a field.
    ///
    /// # Errors
    /// The field must not be sent.
    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        if !syntax::is_token(name) {
            return Err(HeadError::Name);
        }
        if !syntax::is_field_value(value) {
            return Err(HeadError::Value);
        }
        self.last_at = None;
        // The length picks the candidates, so that most names cost one comparison of numbers.
        match name.len() {
            4 => self.has_date |= name.eq_ignore_ascii_case(b"date"),
            6 => self.has_server |= name.eq_ignore_ascii_case(b"server"),
            14 if name.eq_ignore_ascii_case(b"content-length") => return self.set_content_length(value),
            2 | 7 | 8 | 10 | 17 | 18 | 19 if is_hop_by_hop(name) => return Err(HeadError::HopByHop),
            _ => self.last_at = Some(self.bytes.len()),
        }
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(syntax::trim(value));
        self.bytes.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Adds a field that was checked before.
    #[inline]
    pub fn checked_field(&mut self, field: &CheckedField) {
        self.bytes.extend_from_slice(&field.0);
    }

    /// Adds the whole line of such a field.
    #[inline]
    pub fn checked_line(&mut self, line: &[u8]) {
        debug_assert!(line.is_empty() || line.ends_with(b"\r\n"));
        self.bytes.extend_from_slice(line);
    }

    /// The field that was added last, to be added again to other heads; `None` for those with a meaning of their own
    /// and for lines longer than `bytes_max`.
    pub fn last_field(&self, bytes_max: usize) -> Option<CheckedField> {
        let line = &self.bytes[self.last_at?..];
        (line.len() <= bytes_max).then(|| CheckedField(line.into()))
    }

    fn set_content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let length = syntax::decimal(syntax::trim(value)).ok_or(HeadError::ContentLength)?;
        if self.content_length.replace(length).is_some() {
            return Err(HeadError::ContentLengthRepeated);
        }
        Ok(())
    }

    /// The status code, from 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// `200 OK`, for those who look at it afterwards; empty if there was none.
    pub fn status_line(&self) -> &[u8] {
        self.bytes[..self.line_bytes].strip_prefix(b"HTTP/1.1 ").unwrap_or_default().trim_ascii_end()
    }

    /// What its Content-Length says, if it has one.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The fields other than Content-Length, in their order, for those who log them.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.bytes[self.line_bytes..].split(|&byte| byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], &line[colon + 2..]))
        })
    }

    /// Appends it as an interim response (RFC 9110 §15.2), which has neither body nor Date.
    pub fn push_interim(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
        out.extend_from_slice(b"\r\n");
    }

    /// RFC 9110 §6.4.1: informational, 204 and 304 have no content, whatever the application yields.
    fn forbids_body(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 304)
    }
}

fn parse_status(status: &[u8]) -> Result<u16, HeadError> {
    let (digits, rest) = status.split_at_checked(3).ok_or(HeadError::Status)?;
    let code = syntax::decimal(digits).filter(|code| *code >= 100).ok_or(HeadError::Status)?;
    match rest {
        [] => {}
        [b' ', reason @ ..] if syntax::is_field_value(reason) => {}
        _ => return Err(HeadError::Status),
    }
    Ok(code as u16)
}

fn is_hop_by_hop(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 9] = [
        b"te",
        b"trailer",
        b"upgrade",
        b"trailers",
        b"connection",
        b"keep-alive",
        b"transfer-encoding",
        b"proxy-authenticate",
        b"proxy-authorization",
    ];
    NAMES.iter().any(|hop| name.eq_ignore_ascii_case(hop))
}

/// What the request says about its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseTo {
    /// `HEAD`: the same head as for GET, and no body.
    pub is_head: bool,
    /// Chunks are for 1.1 only.
    pub version: Version,
    /// Whether the connection may be used again; [`ResponseEncoder::persists`] tells what became of it.
    pub persists: bool,
}

/// Frames one response (RFC 9112 §6). Pieces of the body are admitted, opened, written by the caller and closed.
#[derive(Debug)]
pub struct ResponseEncoder {
    status: u16,
    framing: Framing,
    persists: bool,
    /// Body bytes admitted so far, without framing.
    body_bytes: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// The response has no body by definition.
    None,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
    /// To a 1.0 client: the body ends with the connection.
    UntilClose,
}

/// How a body came out against what its head promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// As promised.
    Complete,
    /// So many bytes of the Content-Length were never produced: the connection must be cut, so that the client knows.
    Short(u64),
}

impl ResponseEncoder {
    /// Appends the head to `out`. `known_length` is that of a body whose only piece is at hand, and serves where the
    /// application gave no Content-Length.
    pub fn begin(
        head: &ResponseHead,
        to: ResponseTo,
        known_length: Option<u64>,
        date: &DateLines,
        out: &mut Vec<u8>,
    ) -> Self {
        let length = head.content_length.or(known_length);
        let framing = match length {
            _ if to.is_head || head.forbids_body() => Framing::None,
            Some(length) => Framing::Length(length),
            None if to.version == Version::Http11 => Framing::Chunked,
            None => Framing::UntilClose,
        };
        // After a final 1xx the client still waits for the real response, which never comes.
        let persists = to.persists && framing != Framing::UntilClose && head.status >= 200;

        let (line, fields) = head.bytes.split_at(head.line_bytes);
        out.extend_from_slice(line);
        match (head.has_server, head.has_date) {
            (false, false) => out.extend_from_slice(date.both()),
            (false, true) => out.extend_from_slice(date.server()),
            (true, false) => out.extend_from_slice(date.date()),
            (true, true) => {}
        }
        out.extend_from_slice(fields);
        match framing {
            Framing::Length(length) => push_content_length(length, out),
            Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            // RFC 9110 §8.6: a HEAD or 304 response may say how long the body would have been, 1xx and 204 must not.
            Framing::None if head.status >= 200 && head.status != 204 => {
                if let Some(length) = length {
                    push_content_length(length, out);
                }
            }
            Framing::None | Framing::UntilClose => {}
        }
        match (persists, to.version) {
            (false, _) => out.extend_from_slice(b"Connection: close\r\n\r\n"),
            (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n\r\n"),
            (true, Version::Http11) => out.extend_from_slice(b"\r\n"),
        }
        Self { status: head.status, framing, persists, body_bytes: 0 }
    }

    /// How many of the next `length` bytes belong on the wire: all, or those within the Content-Length, or none.
    #[inline]
    pub fn admit(&mut self, length: usize) -> usize {
        self.admit_long(length as u64) as usize
    }

    /// The same for what does not lie in memory.
    #[inline]
    pub fn admit_long(&mut self, length: u64) -> u64 {
        let admitted = match &mut self.framing {
            Framing::None => 0,
            Framing::Chunked | Framing::UntilClose => length,
            Framing::Length(left) => {
                let admitted = (*left).min(length);
                *left -= admitted;
                admitted
            }
        };
        self.body_bytes += admitted;
        admitted
    }

    /// Appends what stands before a piece of `length` admitted bytes, which is more than 0.
    #[inline]
    pub fn open(&self, length: usize, out: &mut Vec<u8>) {
        if self.framing == Framing::Chunked {
            // Writing to a Vec does not fail.
            let _ = write!(out, "{length:x}\r\n");
        }
    }

    /// Appends what stands behind a piece.
    #[inline]
    pub fn close(&self, out: &mut Vec<u8>) {
        if self.framing == Framing::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends what ends the body, and compares it with the promise.
    pub fn end(&self, out: &mut Vec<u8>) -> BodyEnd {
        match self.framing {
            Framing::None | Framing::UntilClose | Framing::Length(0) => BodyEnd::Complete,
            Framing::Length(left) => BodyEnd::Short(left),
            Framing::Chunked => {
                out.extend_from_slice(b"0\r\n\r\n");
                BodyEnd::Complete
            }
        }
    }

    /// Whether nothing that the application may still yield belongs on the wire.
    pub fn is_full(&self) -> bool {
        matches!(self.framing, Framing::None | Framing::Length(0))
    }

    /// Whether the response has no body by its status, or since it answers a HEAD.
    pub fn is_bodiless(&self) -> bool {
        self.framing == Framing::None
    }

    /// Whether the head has told the peer that it may send another request.
    pub fn persists(&self) -> bool {
        self.persists
    }

    /// The status code of the head.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Body bytes admitted so far, without framing.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}

fn push_content_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a response of the server's own: its status, and the same with `detail` as a text/plain body.
pub fn push_plain(status: u16, detail: &str, to: ResponseTo, date: &DateLines, out: &mut Vec<u8>) -> ResponseEncoder {
    push_plain_with(b"", status, detail, to, date, out)
}

/// The same with the line of a further field, or none.
pub fn push_plain_with(
    line_of_field: &[u8],
    status: u16,
    detail: &str,
    to: ResponseTo,
    date: &DateLines,
    out: &mut Vec<u8>,
) -> ResponseEncoder {
    let line = format!("{status} {}", reason(status));
    let body = if detail.is_empty() { format!("{line}\n") } else { format!("{line}: {detail}\n") };
    let mut head = ResponseHead::default();
    let checked = head.start(line.as_bytes()).and_then(|()| head.field(b"Content-Type", b"text/plain; charset=utf-8"));
    debug_assert_eq!(checked, Ok(()));
    head.checked_line(line_of_field);
    let mut encoder = ResponseEncoder::begin(&head, to, Some(body.len() as u64), date, out);
    let admitted = encoder.admit(body.len());
    out.extend_from_slice(&body.as_bytes()[..admitted]);
    encoder
}

/// The reason phrases of the statuses that the server sends by itself (RFC 9110 §15, RFC 6585).
pub fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests;
