//! [`BodyDecoder`]: framed bytes of a request body → payload (RFC 9112 §6 and §7.1).

use super::error::RequestError;
use super::framing::BodyFraming;
use super::request::Limits;
use super::syntax;
use std::ops::Range;

/// Decodes one body, however it is split over reads.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Payload bytes announced so far: of all chunks up to the current one, or the Content-Length.
    announced: u64,
}

#[derive(Debug)]
enum State {
    /// Content-Length: this many bytes are to come.
    Length(u64),
    /// A chunk-size line is to come.
    Size,
    /// Inside a chunk: this many of its bytes are to come; more than 0.
    Data(u64),
    /// The CRLF that ends a chunk's data.
    DataEnd,
    /// The trailer section, of which this many lines have passed.
    Trailer { lines: usize },
    /// All of the body has passed.
    Done,
}

/// What [`BodyDecoder::decode`] made of the bytes it was shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A run of payload. What stands before it is framing; everything up to its end is used up.
    Payload(Range<usize>),
    /// So many bytes are used up, and more are needed.
    Partial(usize),
    /// So many bytes are used up, and the body is complete.
    End(usize),
}

/// Names that must not come after the body, where a proxy has already decided without them (RFC 9110 §6.5.1).
const FORBIDDEN_TRAILERS: [&[u8]; 6] =
    [b"authorization", b"content-length", b"host", b"te", b"trailer", b"transfer-encoding"];

impl BodyDecoder {
    /// # Errors
    /// A Content-Length beyond the limit, before a byte of the body has been read.
    pub fn new(framing: BodyFraming, limits: &Limits) -> Result<Self, RequestError> {
        let (state, announced) = match framing {
            BodyFraming::Length(length) if length > limits.body_bytes_max => return Err(RequestError::BodyTooLarge),
            BodyFraming::Length(0) => (State::Done, 0),
            BodyFraming::Length(length) => (State::Length(length), length),
            BodyFraming::Chunked => (State::Size, 0),
        };
        Ok(Self { state, announced })
    }

    /// Whether all of the body has passed.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Looks at `input`, which starts where the last call stopped. The same bytes give the same payload in any split.
    ///
    /// # Errors
    /// The grammar is broken or a limit passed; the decoder must not be used again.
    pub fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<Decoded, RequestError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match &mut self.state {
                State::Done => return Ok(Decoded::End(used)),
                State::Length(left) | State::Data(left) => {
                    if rest.is_empty() {
                        return Ok(Decoded::Partial(used));
                    }
                    let run = (*left).min(rest.len() as u64);
                    *left -= run;
                    if *left == 0 {
                        self.state = if matches!(self.state, State::Data(_)) { State::DataEnd } else { State::Done };
                    }
                    return Ok(Decoded::Payload(used..used + run as usize));
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::Partial(used)),
                    _ => return Err(RequestError::Chunk),
                },
                State::Size => {
                    let Some(line) = complete_line(rest, limits.field_bytes_max, RequestError::Chunk)? else {
                        return Ok(Decoded::Partial(used));
                    };
                    used += line.len() + 2;
                    let size = parse_chunk_size(line)?;
                    self.announced = self.announced.checked_add(size).ok_or(RequestError::BodyTooLarge)?;
                    if self.announced > limits.body_bytes_max {
                        return Err(RequestError::BodyTooLarge);
                    }
                    self.state = if size == 0 { State::Trailer { lines: 0 } } else { State::Data(size) };
                }
                State::Trailer { lines } => {
                    let Some(line) = complete_line(rest, limits.field_bytes_max, RequestError::TrailerTooLarge)? else {
                        return Ok(Decoded::Partial(used));
                    };
                    used += line.len() + 2;
                    if line.is_empty() {
                        self.state = State::Done;
                    } else {
                        check_trailer(line)?;
                        *lines += 1;
                        if *lines > limits.fields_max {
                            return Err(RequestError::TrailerTooLarge);
                        }
                    }
                }
            }
        }
    }
}

/// The line that `input` starts with, without its CRLF, or `None` while it is incomplete.
fn complete_line(input: &[u8], bytes_max: usize, too_long: RequestError) -> Result<Option<&[u8]>, RequestError> {
    let Some(lf) = memchr::memchr(b'\n', input) else {
        // One more than the limit may still be the CR of a line that just fits.
        return if input.len() > bytes_max + 1 { Err(too_long) } else { Ok(None) };
    };
    let line = &input[..lf];
    let content = line.strip_suffix(b"\r").unwrap_or(line);
    if content.len() > bytes_max {
        return Err(too_long);
    }
    if content.len() == line.len() {
        return Err(RequestError::BareLf);
    }
    Ok(Some(content))
}

/// `chunk-size [ chunk-ext ]` (RFC 9112 §7.1). Extensions are checked and ignored.
fn parse_chunk_size(line: &[u8]) -> Result<u64, RequestError> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let size = syntax::hexadecimal(&line[..digits]).ok_or(RequestError::Chunk)?;
    if !is_chunk_ext(&line[digits..]) {
        return Err(RequestError::Chunk);
    }
    Ok(size)
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`.
///
/// Lenient readers of extensions have let requests through in a quoted line end: hence the whole grammar.
fn is_chunk_ext(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(after) = skip_space(rest).strip_prefix(b";") else { return false };
        let Some(after) = skip_token(skip_space(after)) else { return false };
        rest = after;
        if let Some(value) = skip_space(after).strip_prefix(b"=") {
            let value = skip_space(value);
            let Some(after) = skip_quoted(value).or_else(|| skip_token(value)) else { return false };
            rest = after;
        }
    }
    true
}

/// Behind the bad white space that RFC 9110 §5.6.3 wants removed.
fn skip_space(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len());
    &bytes[start..]
}

fn skip_token(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| !syntax::is_token_byte(byte)).unwrap_or(bytes.len());
    (end > 0).then(|| &bytes[end..])
}

/// `quoted-string` of RFC 9110 §5.6.4.
fn skip_quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', escaped, after @ ..] if syntax::is_field_value(&[*escaped]) => after,
            [byte, after @ ..] if *byte != b'\\' && syntax::is_field_value(&[*byte]) => after,
            _ => return None,
        };
    }
}

/// A trailer line is checked like a field line and dropped: WSGI has no place for it.
fn check_trailer(line: &[u8]) -> Result<(), RequestError> {
    let colon = memchr::memchr(b':', line).ok_or(RequestError::Trailer)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_forbidden = FORBIDDEN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden));
    if !syntax::is_token(name) || !syntax::is_field_value(value) || is_forbidden {
        return Err(RequestError::Trailer);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Payload and length of a whole body that is shown in pieces of `step` bytes.
    fn decode(framing: BodyFraming, wire: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, RequestError> {
        let limits = Limits { body_bytes_max: 1000, field_bytes_max: 40, fields_max: 2, ..Limits::default() };
        let mut decoder = BodyDecoder::new(framing, &limits)?;
        let (mut payload, mut start, mut shown) = (Vec::new(), 0, 0);
        loop {
            match decoder.decode(&wire[start..shown], &limits)? {
                Decoded::Payload(run) => {
                    payload.extend_from_slice(&wire[start..shown][run.clone()]);
                    start += run.end;
                }
                Decoded::End(used) => return Ok(Some((payload, start + used))),
                Decoded::Partial(used) => {
                    start += used;
                    if shown == wire.len() {
                        return Ok(None);
                    }
                    shown = (shown + step).min(wire.len());
                }
            }
        }
    }

    /// Shows a case whole, byte by byte and with trailing bytes.
    fn check(framing: BodyFraming, wire: &str, expected: Result<Option<&str>, RequestError>) {
        let expected = expected.map(|body| body.map(|body| (body.as_bytes().to_vec(), wire.len())));
        for step in [wire.len().max(1), 1, 3] {
            assert_eq!(decode(framing, wire.as_bytes(), step), expected, "{wire:?} in steps of {step}");
        }
        if matches!(expected, Ok(Some(_))) {
            let trailing = format!("{wire}GET / HTTP/1.1\r\n");
            assert_eq!(decode(framing, trailing.as_bytes(), trailing.len()), expected, "{wire:?} with trailing bytes");
        }
    }

    #[test]
    fn lengths() {
        check(BodyFraming::Length(0), "", Ok(Some("")));
        check(BodyFraming::Length(5), "hello", Ok(Some("hello")));
        check(BodyFraming::Length(6), "hello", Ok(None));
        check(BodyFraming::Length(1001), "", Err(RequestError::BodyTooLarge));
    }

    #[test]
    fn chunks() {
        let good = [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("005\r\nhello\r\n1\r\n!\r\n000\r\n\r\n", "hello!"),
            ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
            ("1;a\r\nx\r\n0\r\n\r\n", "x"),
            ("1 ; a = b ;c=\"d;\\\"e\"\r\nx\r\n0;z\r\n\r\n", "x"),
            ("1\r\nx\r\n0\r\nX-A: b\r\nY:\r\n\r\n", "x"),
        ];
        for (wire, body) in good {
            check(BodyFraming::Chunked, wire, Ok(Some(body)));
        }
        for partial in ["", "5", "5\r", "5\r\nhel", "5\r\nhello", "5\r\nhello\r", "0\r\n", "0\r\nX: y\r\n"] {
            check(BodyFraming::Chunked, partial, Ok(None));
        }
    }

    #[test]
    fn chunks_that_break_the_grammar() {
        use RequestError::{BareLf, BodyTooLarge, Chunk, Trailer, TrailerTooLarge};
        let long = "0".repeat(42);
        let cases = [
            ("+5\r\nhello\r\n0\r\n\r\n", Chunk),
            ("0x5\r\nhello\r\n0\r\n\r\n", Chunk),
            ("5_\r\nhello\r\n0\r\n\r\n", Chunk),
            ("\r\n", Chunk),
            (" 5\r\n", Chunk),
            ("5 \r\nhello\r\n", Chunk),
            ("-1\r\n", Chunk),
            ("g\r\n", Chunk),
            ("5;\r\n", Chunk),
            ("5;a=\r\n", Chunk),
            ("5;a=\"b\r\n", Chunk),
            ("5;a\rb\r\n", Chunk),
            ("5\rX\r\n", Chunk),
            ("5\nhello", BareLf),
            ("5\r\nhelloX\r\n", Chunk),
            ("5\r\nhello\n0\r\n\r\n", Chunk),
            ("3e9\r\n", BodyTooLarge),
            ("fffffffffffffffff\r\n", Chunk),
            ("1\r\nx\r\nffffffffffffffff\r\n", BodyTooLarge),
            (&long, Chunk),
            ("0\r\nX y\r\n\r\n", Trailer),
            ("0\r\nX : y\r\n\r\n", Trailer),
            ("0\r\nContent-Length: 5\r\n\r\n", Trailer),
            ("0\r\ntransfer-encoding: chunked\r\n\r\n", Trailer),
            ("0\r\nX: a\x07\r\n\r\n", Trailer),
            ("0\r\nX: y\n\r\n", BareLf),
            ("0\r\na:b\r\nc:d\r\ne:f\r\n\r\n", TrailerTooLarge),
        ];
        for (wire, error) in cases {
            check(BodyFraming::Chunked, wire, Err(error));
        }
    }
}
