//! A request head: bytes → [`RequestHead`], with the limits on line, fields and count.
//!
//! httparse reads the field lines, with SIMD. What it lets pass and RFC 9112 does not is closed around it: bare LF by
//! [`HeadScanner`], which also enforces the limits before a line is complete; the request line by [`RequestLine`];
//! Host, framing and persistence while the fields are walked once.

use super::error::RequestError;
use super::framing::{self, BodyFraming, ConnectionOptions, FramingFields};
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
}

impl Default for Limits {
    /// gunicorn's defaults; the body is unlimited there, and here 1 GiB as with waitress.
    fn default() -> Self {
        Self { line_bytes_max: 4094, field_bytes_max: 8190, fields_max: 100, body_bytes_max: 1 << 30 }
    }
}

/// The versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    /// As it stands in a request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }

    /// The digit after `HTTP/1.`.
    pub const fn minor(self) -> u8 {
        match self {
            Self::Http10 => 0,
            Self::Http11 => 1,
        }
    }
}

/// A part of the head, counted from the head's first byte. `start <= end <= head length`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(part: &[u8], whole: &[u8]) -> Self {
        // An empty part may be anybody's empty slice: httparse returns a static one for an empty value.
        if part.is_empty() {
            return Self::default();
        }
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(start + part.len() <= whole.len());
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    fn slice(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}

/// A parsed head; its parts are ranges into the connection's buffer until Python needs an object.
#[derive(Debug)]
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
    pub(super) fn read_line(&mut self, line: &[u8]) -> Result<(), RequestError> {
        self.line = RequestLine::parse(line)?;
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
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.replace(value).is_some() {
                    return Err(RequestError::HostRepeated);
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(RequestError::Expectation);
                }
                self.expects_continue = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection.add(value),
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                if std::mem::replace(&mut self.content_type, true) {
                    return Err(RequestError::ContentTypeRepeated);
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.framing.add_content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.framing.add_transfer_encoding(value),
            _ => {}
        }
        Ok(())
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

/// `method SP request-target SP HTTP-version`, taken apart and checked (RFC 9112 §3).
#[derive(Clone, Copy, Debug)]
struct RequestLine {
    method: Span,
    target: Span,
    path: Span,
    query: Span,
    authority: Option<Span>,
    version: Version,
}

impl Default for RequestLine {
    fn default() -> Self {
        let nowhere = Span::default();
        Self {
            method: nowhere,
            target: nowhere,
            path: nowhere,
            query: nowhere,
            authority: None,
            version: Version::Http11,
        }
    }
}

impl RequestLine {
    fn parse(line: &[u8]) -> Result<Self, RequestError> {
        let method_end = memchr::memchr(b' ', line).ok_or(RequestError::RequestLine)?;
        let target_end = memchr::memrchr(b' ', line).ok_or(RequestError::RequestLine)?;
        if target_end == method_end {
            return Err(RequestError::RequestLine);
        }
        let method = parse_method(&line[..method_end])?;
        let target = &line[method_end + 1..target_end];
        let version = parse_version(&line[target_end + 1..])?;
        let parts = TargetParts::parse(method, target)?;
        let span = |part| Span::of(part, line);
        Ok(Self {
            method: span(method),
            target: span(target),
            path: span(parts.path),
            query: span(parts.query),
            authority: parts.authority.map(span),
            version,
        })
    }
}

/// gunicorn's rule for methods: 3 to 20 characters of a token, none of them lower case or `#`.
fn parse_method(method: &[u8]) -> Result<&[u8], RequestError> {
    let is_method_byte = |&byte: &u8| syntax::is_token_byte(byte) && !byte.is_ascii_lowercase() && byte != b'#';
    if !(3..=20).contains(&method.len()) || !method.iter().all(is_method_byte) {
        return Err(RequestError::Method);
    }
    Ok(method)
}

fn parse_version(version: &[u8]) -> Result<Version, RequestError> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(RequestError::VersionUnsupported)
        }
        _ => Err(RequestError::Version),
    }
}

/// The request-target in its four forms (RFC 9112 §3.2).
struct TargetParts<'t> {
    path: &'t [u8],
    query: &'t [u8],
    authority: Option<&'t [u8]>,
}

impl<'t> TargetParts<'t> {
    fn parse(method: &[u8], target: &'t [u8]) -> Result<Self, RequestError> {
        if method == b"CONNECT" {
            return Err(RequestError::Connect);
        }
        // A fragment is no part of a target; what lies outside VCHAR would have to be percent-encoded.
        let is_target_byte = |byte: u8| matches!(byte, 0x21..=0x7e) & (byte != b'#');
        if !target.iter().fold(true, |sound, &byte| sound & is_target_byte(byte)) {
            return Err(RequestError::Target);
        }
        match target {
            [b'/', ..] => Ok(Self::split_query(target, None)),
            b"*" if method == b"OPTIONS" => Ok(Self { path: target, query: &[], authority: None }),
            _ => Self::parse_absolute(target),
        }
    }

    /// absolute-form, as sent to proxies, which a server must accept all the same (§3.2.2).
    fn parse_absolute(target: &'t [u8]) -> Result<Self, RequestError> {
        let scheme_end = memchr::memmem::find(target, b"://").ok_or(RequestError::Target)?;
        let scheme = &target[..scheme_end];
        if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
            return Err(RequestError::Target);
        }
        let rest = &target[scheme_end + 3..];
        let authority_end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(authority_end);
        // `is_host` refuses userinfo, which is how phishers spell host names (RFC 9110 §4.2.4).
        if authority.is_empty() || !syntax::is_host(authority) {
            return Err(RequestError::HostInvalid);
        }
        Ok(Self::split_query(path_and_query, Some(authority)))
    }

    fn split_query(path_and_query: &'t [u8], authority: Option<&'t [u8]>) -> Self {
        match memchr::memchr(b'?', path_and_query) {
            None => Self { path: path_and_query, query: &path_and_query[path_and_query.len()..], authority },
            Some(mark) => Self { path: &path_and_query[..mark], query: &path_and_query[mark + 1..], authority },
        }
    }
}

/// Finds the end of a head line by line, each byte looked at once however the head is split over reads.
///
/// It enforces what can be said before a line is complete: limits, and no bare LF.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    /// Everything before has been scanned. `line_start <= scanned`.
    scanned: usize,
    line_start: usize,
    /// Where the line after the request line starts; 0 before.
    fields_at: usize,
    /// Complete lines so far, the request line included.
    lines: usize,
}

/// What a scan came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// More bytes are needed.
    Partial,
    /// The request line is complete; it is this long, without its CRLF. Said once.
    Line(usize),
    /// The empty line is there: the head with it is this long, and this many field lines start at `fields_at`.
    Head { length: usize, fields_at: usize, fields: usize },
}

impl HeadScanner {
    /// `head` starts at the request line and may go on past the head's end.
    pub(super) fn scan(&mut self, head: &[u8], limits: &Limits) -> Result<Scan, RequestError> {
        for offset in memchr::memchr_iter(b'\n', &head[self.scanned..]) {
            let lf = self.scanned + offset;
            if let Some(found) = self.line_end(head, lf, limits)? {
                self.scanned = lf + 1;
                return Ok(found);
            }
        }
        self.scanned = head.len();
        // One more than the limit may still be the CR of a line that just fits.
        let partial = head.len() - self.line_start;
        if partial > self.line_bytes_max(limits) + 1 {
            return Err(self.too_long());
        }
        Ok(Scan::Partial)
    }

    /// The line from `line_start` ends with the LF at `lf`.
    fn line_end(&mut self, head: &[u8], lf: usize, limits: &Limits) -> Result<Option<Scan>, RequestError> {
        let has_cr = lf > self.line_start && head[lf - 1] == b'\r';
        let length = lf - self.line_start - usize::from(has_cr);
        if length > self.line_bytes_max(limits) {
            return Err(self.too_long());
        }
        if !has_cr {
            return Err(RequestError::BareLf);
        }
        self.line_start = lf + 1;
        if self.lines == 0 {
            self.lines = 1;
            self.fields_at = self.line_start;
            return Ok(Some(Scan::Line(length)));
        }
        if length == 0 {
            return Ok(Some(Scan::Head {
                length: lf + 1,
                fields_at: self.fields_at,
                fields: self.lines - 1,
            }));
        }
        if self.lines > limits.fields_max {
            return Err(RequestError::TooManyFields);
        }
        self.lines += 1;
        Ok(None)
    }

    fn line_bytes_max(&self, limits: &Limits) -> usize {
        if self.lines == 0 { limits.line_bytes_max } else { limits.field_bytes_max }
    }

    fn too_long(&self) -> RequestError {
        if self.lines == 0 { RequestError::LineTooLong } else { RequestError::FieldTooLong }
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

    /// A token of 3 to 20 characters without lower case.
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

    /// The version of the request line.
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

    /// Whether the peer wants the connection to outlive this request.
    pub fn persists(&self) -> bool {
        self.head.persists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan_all(head: &[u8], limits: &Limits) -> Result<Vec<Scan>, RequestError> {
        let mut scanner = HeadScanner::default();
        let mut found = Vec::new();
        loop {
            match scanner.scan(head, limits)? {
                Scan::Partial => return Ok(found),
                end @ Scan::Head { .. } => {
                    found.push(end);
                    return Ok(found);
                }
                line @ Scan::Line(_) => found.push(line),
            }
        }
    }

    #[test]
    fn the_scanner_finds_line_and_head() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nrest";
        let found = scan_all(head, &Limits::default()).expect("sound");
        assert_eq!(found, [Scan::Line(14), Scan::Head { length: head.len() - 4, fields_at: 16, fields: 2 }]);
    }

    #[test]
    fn limits_are_exact() {
        let limits = Limits { line_bytes_max: 14, field_bytes_max: 7, fields_max: 1, body_bytes_max: 0 };
        assert!(scan_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &limits).is_ok());
        let cases: [(&[u8], RequestError); 6] = [
            (b"GET /x HTTP/1.1\r\n", RequestError::LineTooLong),
            (b"GET /xxx HTTP/1.", RequestError::LineTooLong),
            (b"GET / HTTP/1.1\r\nHost: ab\r\n", RequestError::FieldTooLong),
            (b"GET / HTTP/1.1\r\nHost: abc", RequestError::FieldTooLong),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n", RequestError::TooManyFields),
            (b"GET / HTTP/1.1\nHost: a\r\n", RequestError::BareLf),
        ];
        for (head, expected) in cases {
            assert_eq!(scan_all(head, &limits), Err(expected), "{}", head.escape_ascii());
        }
    }

    #[test]
    fn request_lines() {
        let cases: [(&str, Result<(&str, &str, Option<&str>), RequestError>); 29] = [
            ("GET / HTTP/1.1", Ok(("/", "", None))),
            ("GET /a?b=c?d HTTP/1.0", Ok(("/a", "b=c?d", None))),
            ("GET //a/../b HTTP/1.1", Ok(("//a/../b", "", None))),
            ("OPTIONS * HTTP/1.1", Ok(("*", "", None))),
            ("GET http://h:8/p?q HTTP/1.1", Ok(("/p", "q", Some("h:8")))),
            ("GET HTTPS://h?q HTTP/1.1", Ok(("", "q", Some("h")))),
            ("GET http://[::1]/ HTTP/1.1", Ok(("/", "", Some("[::1]")))),
            ("GET * HTTP/1.1", Err(RequestError::Target)),
            ("GET a HTTP/1.1", Err(RequestError::Target)),
            ("GET ftp://h/ HTTP/1.1", Err(RequestError::Target)),
            ("GET http:/// HTTP/1.1", Err(RequestError::HostInvalid)),
            ("GET http://u@h/ HTTP/1.1", Err(RequestError::HostInvalid)),
            ("GET /#f HTTP/1.1", Err(RequestError::Target)),
            ("GET /\u{e9} HTTP/1.1", Err(RequestError::Target)),
            ("GET /a\tb HTTP/1.1", Err(RequestError::Target)),
            ("GET  HTTP/1.1", Err(RequestError::Target)),
            ("GET / / HTTP/1.1", Err(RequestError::Target)),
            ("GET /  HTTP/1.1", Err(RequestError::Target)),
            ("GET /", Err(RequestError::RequestLine)),
            ("", Err(RequestError::RequestLine)),
            (" GET / HTTP/1.1", Err(RequestError::Method)),
            ("get / HTTP/1.1", Err(RequestError::Method)),
            ("GO / HTTP/1.1", Err(RequestError::Method)),
            ("G(T / HTTP/1.1", Err(RequestError::Method)),
            ("CONNECT h:443 HTTP/1.1", Err(RequestError::Connect)),
            ("GET / HTTP/2.0", Err(RequestError::VersionUnsupported)),
            ("GET / HTTP/1.2", Err(RequestError::VersionUnsupported)),
            ("GET / http/1.1", Err(RequestError::Version)),
            ("GET / HTTP/1.1 ", Err(RequestError::Version)),
        ];
        for (line, expected) in cases {
            let bytes = line.as_bytes();
            let text = |span: Span| std::str::from_utf8(span.slice(bytes)).expect("ASCII");
            let parsed = RequestLine::parse(bytes);
            let parsed = parsed.as_ref().map(|line| (text(line.path), text(line.query), line.authority.map(text)));
            assert_eq!(parsed, expected.as_ref().map(|&found| found).map_err(|error| error), "{line:?}");
        }
    }

    fn fields_of(head: &str) -> Result<RequestHead, RequestError> {
        let mut parsed = RequestHead::new();
        let line = head.find("\r\n").expect("a line");
        parsed.read_line(&head.as_bytes()[..line])?;
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
