//! What can be wrong with a request, and the status that answers each.

use std::fmt;

/// A request that is answered by the server itself, after which the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not `method SP target SP version`, or an empty line where a request was expected.
    RequestLine,
    /// Not a token of 3 to 20 upper-case characters.
    Method,
    /// `CONNECT`: this server is no tunnel.
    Connect,
    /// A byte that no target may hold, or a form that does not fit the method.
    Target,
    /// Not `HTTP/` digit `.` digit.
    Version,
    /// A version of HTTP other than 1.0 and 1.1.
    VersionUnsupported,
    /// The request line is longer than the limit.
    LineTooLong,
    /// A line of the head that ends in a bare LF (RFC 9112 §2.2 lets a server accept it; proxies differ).
    BareLf,
    /// A field line that is not `token ":" value`: space before the colon, folding, control characters.
    Field,
    /// A field line is longer than the limit.
    FieldTooLong,
    /// More field lines than the limit.
    TooManyFields,
    /// HTTP/1.1 without Host.
    HostMissing,
    /// More than one Host.
    HostRepeated,
    /// A Host, or an authority in the target, that is not `uri-host [":" port]`.
    HostInvalid,
    /// More than one Content-Type: which one a proxy saw cannot be known.
    ContentTypeRepeated,
    /// An expectation other than `100-continue`.
    Expectation,
    /// A Content-Length that is not `1*DIGIT` or that does not fit 64 bits.
    ContentLength,
    /// More than one Content-Length, equal or not.
    ContentLengthRepeated,
    /// A Transfer-Encoding and a Content-Length.
    LengthAndEncoding,
    /// A Transfer-Encoding in HTTP/1.0.
    EncodingInHttp10,
    /// A Transfer-Encoding other than chunked.
    EncodingUnsupported,
    /// `chunked` more than once.
    EncodingRepeated,
    /// A 1.0 request whose method has a body, without a Content-Length (RFC 1945 §8.3).
    LengthRequired,
    /// A body longer than the limit.
    BodyTooLarge,
    /// A chunk that breaks the grammar of RFC 9112 §7.1.
    Chunk,
    /// A trailer line that breaks the grammar, or a name that is not allowed there (RFC 9110 §6.5.1).
    Trailer,
    /// A trailer section beyond the limits on fields.
    TrailerTooLarge,
    /// The peer ended the connection in the middle of a request.
    Incomplete,
    /// A PROXY header that is malformed.
    ProxyHeader,
    /// A PROXY header of a peer that may not send one.
    ProxyForbidden,
    /// What a trusted proxy says of its client cannot be read, or is said in two ways; the sentence names the header.
    Forwarding(&'static str),
    /// A field whose name has an underscore, where such are refused.
    Underscore,
    /// The path does not begin with SCRIPT_NAME.
    Mount,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body stopped arriving.
    BodyTimeout,
}

impl RequestError {
    /// The status code that answers this error. [`Incomplete`](Self::Incomplete) is answered too: the peer may have
    /// closed its sending half only.
    pub const fn status(self) -> u16 {
        match self {
            Self::RequestLine | Self::Method | Self::Target | Self::Version => 400,
            Self::BareLf | Self::Field => 400,
            Self::HostMissing | Self::HostRepeated | Self::HostInvalid | Self::ContentTypeRepeated => 400,
            Self::ContentLength | Self::ContentLengthRepeated => 400,
            Self::LengthAndEncoding | Self::EncodingInHttp10 | Self::EncodingRepeated => 400,
            Self::Chunk | Self::Trailer | Self::Incomplete => 400,
            Self::ProxyHeader | Self::Forwarding(_) | Self::Underscore => 400,
            Self::ProxyForbidden => 403,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::LengthRequired => 411,
            Self::BodyTooLarge => 413,
            Self::LineTooLong => 414,
            Self::Expectation => 417,
            Self::FieldTooLong | Self::TooManyFields | Self::TrailerTooLarge => 431,
            // As with gunicorn: proxy and server are configured for different paths.
            Self::Mount => 500,
            Self::Connect | Self::EncodingUnsupported => 501,
            Self::VersionUnsupported => 505,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::RequestLine => "malformed request line",
            Self::Method => "malformed method",
            Self::Connect => "CONNECT is not supported",
            Self::Target => "malformed request target",
            Self::Version => "malformed HTTP version",
            Self::VersionUnsupported => "unsupported HTTP version",
            Self::LineTooLong => "request line too long",
            Self::BareLf => "bare line feed",
            Self::Field => "malformed header field",
            Self::FieldTooLong => "header field too long",
            Self::TooManyFields => "too many header fields",
            Self::HostMissing => "no Host",
            Self::HostRepeated => "more than one Host",
            Self::HostInvalid => "malformed Host",
            Self::ContentTypeRepeated => "more than one Content-Type",
            Self::Expectation => "unknown expectation",
            Self::ContentLength => "malformed Content-Length",
            Self::ContentLengthRepeated => "more than one Content-Length",
            Self::LengthAndEncoding => "both Transfer-Encoding and Content-Length",
            Self::EncodingInHttp10 => "Transfer-Encoding in HTTP/1.0",
            Self::EncodingUnsupported => "unsupported Transfer-Encoding",
            Self::EncodingRepeated => "chunked more than once",
            Self::LengthRequired => "Content-Length required",
            Self::BodyTooLarge => "body too large",
            Self::Chunk => "malformed chunk",
            Self::Trailer => "malformed trailer field",
            Self::TrailerTooLarge => "trailer section too large",
            Self::Incomplete => "incomplete request",
            Self::ProxyHeader => "malformed PROXY header",
            Self::ProxyForbidden => "PROXY header not allowed",
            Self::Forwarding(reason) => reason,
            Self::Underscore => "underscore in a header name",
            Self::Mount => "the path does not begin with SCRIPT_NAME",
            Self::HeadTimeout => "the request head did not arrive in time",
            Self::BodyTimeout => "the request body did not arrive in time",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.reason())
    }
}

impl std::error::Error for RequestError {}
