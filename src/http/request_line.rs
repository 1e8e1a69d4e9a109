//! A request line: bytes → [`RequestLine`], with the target in its four forms.

use super::error::RequestError;
use super::leniency::Leniency;
use super::syntax;

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
    pub(super) fn of(part: &[u8], whole: &[u8]) -> Self {
        // An empty part may be anybody's empty slice: httparse returns a static one for an empty value.
        if part.is_empty() {
            return Self::default();
        }
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(start + part.len() <= whole.len());
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    pub(super) fn slice(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}

/// `method SP request-target SP HTTP-version`, taken apart and checked (RFC 9112 §3).
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLine {
    pub(super) method: Span,
    pub(super) target: Span,
    /// Still percent-encoded.
    pub(super) path: Span,
    pub(super) query: Span,
    /// Of a target in absolute-form.
    pub(super) authority: Option<Span>,
    pub(super) protocol: Span,
    pub(super) version: Version,
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
            protocol: nowhere,
            version: Version::Http11,
        }
    }
}

impl RequestLine {
    /// `line` is without its CRLF.
    pub(super) fn parse(line: &[u8], leniency: Leniency) -> Result<Self, RequestError> {
        let method_end = memchr::memchr(b' ', line).ok_or(RequestError::RequestLine)?;
        let target_end = memchr::memrchr(b' ', line).ok_or(RequestError::RequestLine)?;
        if target_end == method_end {
            return Err(RequestError::RequestLine);
        }
        let method = parse_method(&line[..method_end], leniency)?;
        let target = &line[method_end + 1..target_end];
        let protocol = &line[target_end + 1..];
        let version = parse_version(protocol, leniency)?;
        let parts = TargetParts::parse(method, target)?;
        let span = |part| Span::of(part, line);
        Ok(Self {
            method: span(method),
            target: span(target),
            path: span(parts.path),
            query: span(parts.query),
            authority: parts.authority.map(span),
            protocol: span(protocol),
            version,
        })
    }
}

/// gunicorn's rule for methods: 3 to 20 characters of a token, none of them lower case or `#`.
fn parse_method(method: &[u8], leniency: Leniency) -> Result<&[u8], RequestError> {
    if leniency.unconventional_method && syntax::is_token(method) {
        return Ok(method);
    }
    let is_method_byte = |&byte: &u8| syntax::is_token_byte(byte) && !byte.is_ascii_lowercase() && byte != b'#';
    if !(3..=20).contains(&method.len()) || !method.iter().all(is_method_byte) {
        return Err(RequestError::Method);
    }
    Ok(method)
}

fn parse_version(version: &[u8], leniency: Leniency) -> Result<Version, RequestError> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            if !leniency.unconventional_version {
                return Err(RequestError::VersionUnsupported);
            }
            // As gunicorn takes them: an older version as 1.0, a newer one as 1.1.
            Ok(if *major == b'0' { Version::Http10 } else { Version::Http11 })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, query and authority.
    type Parts<'t> = (&'t str, &'t str, Option<&'t str>);

    #[test]
    fn request_lines() {
        let cases: [(&str, Result<Parts<'_>, RequestError>); 29] = [
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
            let parsed = RequestLine::parse(bytes, Leniency::default());
            let parts = parsed.map(|line| (text(line.path), text(line.query), line.authority.map(text)));
            assert_eq!(parts, expected, "{line:?}");
        }
    }
}
