//! A request head: bytes → [`RequestHead`], with the limits on line, fields and count.
//!
//! httparse reads the field lines, with SIMD. What it lets pass and RFC 9112 does not is closed around it: bare LF by
//! the scanner, which also enforces the limits before a line is complete; the request line by [`RequestLine`]; Host,
//! framing and persistence while the fields are walked once.

use super::error::RequestError;
use super::framing::{self, BodyFraming, ConnectionOptions, FramingFields};
use super::leniency::Leniency;
use super::request_line::{RequestLine, Span, Version};
use super::syntax;

/// What one request may ask of this server; the fate of what goes beyond stands beside each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The request line without its CRLF: 414.
    pub line_bytes_max: usize,
    /// One field line, or one chunk-size line, without its CRLF: 431, or 400 for the chunk.
    pub field_bytes_max: usize,
    /// Field lines in a head, and again in a trailer section: 431.
    pub fields_max: usize,
    /// The body after decoding: 413.
    pub body_bytes_max: u64,
    /// What is not refused although it is wrong.
    pub leniency: Leniency,
}

impl Default for Limits {
    /// gunicorn's defaults; the body is unlimited there, and here 1 GiB as with waitress.
    fn default() -> Self {
        Self {
            line_bytes_max: 4094,
            field_bytes_max: 8190,
            fields_max: 100,
            body_bytes_max: 1 << 30,
            leniency: Leniency::default(),
        }
    }
}

/// A parsed head; its parts are ranges into the connection's buffer until Python needs an object.
#[derive(Clone, Debug)]
pub(super) struct RequestHead {
    line: RequestLine,
    fields: Vec<FieldSpans>,
    host: Option<Span>,
    pub(super) body: BodyFraming,
    pub(super) persists: bool,
    pub(super) expects_continue: bool,
}

#[derive(Clone, Copy, Debug)]
struct FieldSpans {
    name: Span,
    value: Span,
}

impl RequestHead {
    pub(super) fn new() -> Self {
        Self {
            line: RequestLine::default(),
            fields: Vec::new(),
            host: None,
            body: BodyFraming::Length(0),
            persists: false,
            expects_continue: false,
        }
    }

    /// Reads the request line, which has passed the scanner. `line` is without its CRLF and begins `head`.
    pub(super) fn read_line(&mut self, line: &[u8], leniency: Leniency) -> Result<(), RequestError> {
        self.line = RequestLine::parse(line, leniency)?;
        Ok(())
    }

    /// Reads the field lines of a complete head. `fields_at` is where they start, `count` how many there are.
    pub(super) fn read_fields(&mut self, head: &[u8], fields_at: usize, count: usize) -> Result<(), RequestError> {
        // Small heads, which are nearly all, find their room on the stack.
        match count {
            0..=16 => self.walk(head, fields_at, &mut [httparse::EMPTY_HEADER; 16]),
            17..=64 => self.walk(head, fields_at, &mut [httparse::EMPTY_HEADER; 64]),
            _ => self.walk(head, fields_at, &mut vec![httparse::EMPTY_HEADER; count]),
        }
    }

    fn walk<'h>(
        &mut self,
        head: &'h [u8],
        fields_at: usize,
        room: &mut [httparse::Header<'h>],
    ) -> Result<(), RequestError> {
        // The scanner has found the empty line, so anything but Complete is an error; an LF inside the fields would
        // have been one too.
        let parsed = match httparse::parse_headers(&head[fields_at..], room) {
            Ok(httparse::Status::Complete((_, parsed))) => parsed,
            Ok(httparse::Status::Partial) | Err(_) => return Err(RequestError::Field),
        };
        self.fields.clear();
        let mut seen = Seen::default();
        for header in parsed {
            let (name, value) = (header.name.as_bytes(), syntax::trim(header.value));
            seen.field(name, value)?;
            self.fields.push(FieldSpans { name: Span::of(name, head), value: Span::of(value, head) });
        }
        let line = &self.line;
        let authority = line.authority.map(|span| span.slice(head));
        let host = seen.check_host(line.version, authority)?;
        self.host = host.map(|host| Span::of(host, head));
        self.body = framing::request_body(&seen.framing, line.version, line.method.slice(head))?;
        self.persists = seen.connection.persists(line.version);
        // RFC 9110 §10.1.1: a 100-continue in a 1.0 request is ignored.
        self.expects_continue = seen.expects_continue && line.version == Version::Http11;
        Ok(())
    }
}

/// What the fields that mean something to a server have said so far.
#[derive(Default)]
struct Seen<'h> {
    host: Option<&'h [u8]>,
    content_type: bool,
    expects_continue: bool,
    framing: FramingFields<'h>,
    connection: ConnectionOptions,
}

impl<'h> Seen<'h> {
    fn field(&mut self, name: &[u8], value: &'h [u8]) -> Result<(), RequestError> {
        // The length picks the candidate, so that most names cost one comparison of numbers.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => return self.set_host(value),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(RequestError::Expectation);
                }
                self.expects_continue = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection.add(value),
            12 if name.eq_ignore_ascii_case(b"content-type") => return self.set_content_type(),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.framing.add_content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.framing.add_transfer_encoding(value),
            _ => {}
        }
        Ok(())
    }

    fn set_host(&mut self, value: &'h [u8]) -> Result<(), RequestError> {
        match self.host.replace(value) {
            None => Ok(()),
            Some(_) => Err(RequestError::HostRepeated),
        }
    }

    fn set_content_type(&mut self) -> Result<(), RequestError> {
        if std::mem::replace(&mut self.content_type, true) { Err(RequestError::ContentTypeRepeated) } else { Ok(()) }
    }

    /// RFC 9112 §3.2: exactly one valid Host in 1.1, at most one in 1.0; an authority in the target replaces it.
    fn check_host(&self, version: Version, authority: Option<&'h [u8]>) -> Result<Option<&'h [u8]>, RequestError> {
        match self.host {
            None if version == Version::Http11 => Err(RequestError::HostMissing),
            Some(host) if !syntax::is_host(host) => Err(RequestError::HostInvalid),
            host => Ok(authority.or(host)),
        }
    }
}

/// One request as its reader sees it: the head's bytes and where its parts are.
#[derive(Clone, Copy, Debug)]
pub struct Request<'c> {
    bytes: &'c [u8],
    head: &'c RequestHead,
}

impl<'c> Request<'c> {
    pub(super) fn new(bytes: &'c [u8], head: &'c RequestHead) -> Self {
        Self { bytes, head }
    }

    /// A token; of 3 to 20 characters without lower case, unless any is accepted.
    pub fn method(&self) -> &'c [u8] {
        self.head.line.method.slice(self.bytes)
    }

    /// The request-target as it was sent; no byte outside 0x21 to 0x7e.
    pub fn target(&self) -> &'c [u8] {
        self.head.line.target.slice(self.bytes)
    }

    /// The path of the target, still percent-encoded; `*` for `OPTIONS *`, empty for `http://host`.
    pub fn path(&self) -> &'c [u8] {
        self.head.line.path.slice(self.bytes)
    }

    /// What follows the first `?`, or nothing.
    pub fn query(&self) -> &'c [u8] {
        self.head.line.query.slice(self.bytes)
    }

    /// The version of the request line as it was sent, which is another than [`version`](Self::version) only where
    /// any is accepted.
    pub fn protocol(&self) -> &'c [u8] {
        self.head.line.protocol.slice(self.bytes)
    }

    /// The version whose rules apply to the request.
    pub fn version(&self) -> Version {
        self.head.line.version
    }

    /// The target's authority if it has one, else Host (RFC 9112 §3.3). `None` only in HTTP/1.0.
    pub fn host(&self) -> Option<&'c [u8]> {
        self.head.host.map(|span| span.slice(self.bytes))
    }

    /// Whether the target is in absolute-form, so that its authority replaces Host.
    pub fn is_absolute(&self) -> bool {
        self.head.line.authority.is_some()
    }

    /// The field lines in their order, values trimmed. No value holds a control character other than HTAB.
    pub fn fields(&self) -> impl Iterator<Item = (&'c [u8], &'c [u8])> {
        let bytes = self.bytes;
        self.head.fields.iter().map(move |field| (field.name.slice(bytes), field.value.slice(bytes)))
    }

    /// The value of the first field of that name.
    pub fn field(&self, lowercase_name: &[u8]) -> Option<&'c [u8]> {
        self.fields().find(|(name, _)| name.eq_ignore_ascii_case(lowercase_name)).map(|(_, value)| value)
    }

    /// Where the body ends.
    pub fn body(&self) -> BodyFraming {
        self.head.body
    }

    /// Whether there is one that is not empty by its framing.
    pub fn has_body(&self) -> bool {
        self.body() != BodyFraming::Length(0)
    }

    /// Whether the peer wants the connection to outlive this request.
    pub fn persists(&self) -> bool {
        self.head.persists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_of(head: &str) -> Result<RequestHead, RequestError> {
        let mut parsed = RequestHead::new();
        let line = head.find("\r\n").expect("a line");
        parsed.read_line(&head.as_bytes()[..line], Leniency::default())?;
        let count = head.matches("\r\n").count() - 2;
        parsed.read_fields(head.as_bytes(), line + 2, count)?;
        Ok(parsed)
    }

    #[test]
    fn fields_that_httparse_or_the_rules_refuse() {
        use RequestError::*;
        let cases = [
            ("Host: a\r\nX : y\r\n", Field),
            ("Host: a\r\n x\r\n", Field),
            ("Host: a\r\nX: a\r\n\tfolded\r\n", Field),
            ("Host: a\r\nX: a\0b\r\n", Field),
            ("Host: a\r\nX: a\rb\r\n", Field),
            ("Host: a\r\nX: a\x7fb\r\n", Field),
            ("Host: a\r\nX: a\x1bb\r\n", Field),
            ("Host: a\r\n: v\r\n", Field),
            ("Host: a\r\nnocolon\r\n", Field),
            ("Host: a\r\nX\u{e9}: v\r\n", Field),
            ("Host: a\r\nX[]: v\r\n", Field),
            ("X: y\r\n", HostMissing),
            ("Host: a\r\nhost: a\r\n", HostRepeated),
            ("Host: a b\r\n", HostInvalid),
            ("Host: a\r\nContent-Type: x\r\nContent-type: x\r\n", ContentTypeRepeated),
            ("Host: a\r\nExpect: magic\r\n", Expectation),
            ("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", LengthAndEncoding),
        ];
        for (fields, expected) in cases {
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(fields_of(&head).err(), Some(expected), "{fields:?}");
        }
    }

    #[test]
    fn many_fields_find_room() {
        for count in [15, 16, 17, 64, 65, 300] {
            let fields: String = (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect();
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let parsed = fields_of(&head).expect("sound");
            let request = Request::new(head.as_bytes(), &parsed);
            assert_eq!(request.fields().count(), count + 1);
            assert_eq!(request.field(b"x-14"), Some(&b"14"[..]));
        }
    }

    #[test]
    fn the_authority_of_the_target_replaces_host() {
        let head = "GET http://right/ HTTP/1.1\r\nHost: wrong\r\n\r\n";
        let parsed = fields_of(head).expect("sound");
        assert_eq!(Request::new(head.as_bytes(), &parsed).host(), Some(&b"right"[..]));
    }
}
