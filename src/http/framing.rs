//! How long is this body, does the connection persist: the questions whose wrong answer is a smuggled request.

use super::error::RequestError;
use super::request_line::Version;
use super::syntax;

/// Where the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// After this many bytes; 0 when there is no body.
    Length(u64),
    /// After the last chunk and its trailer section.
    Chunked,
}

/// What the framing fields of one head said, each as it stood on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FramingFields<'a> {
    pub(super) content_length: Option<&'a [u8]>,
    pub(super) content_length_repeated: bool,
    /// Number of elements of Transfer-Encoding over all its lines, and how many of them are `chunked`.
    pub(super) codings: usize,
    pub(super) chunked: usize,
}

impl<'a> FramingFields<'a> {
    pub(super) fn add_content_length(&mut self, value: &'a [u8]) {
        self.content_length_repeated |= self.content_length.is_some();
        self.content_length = Some(value);
    }

    pub(super) fn add_transfer_encoding(&mut self, value: &[u8]) {
        for coding in syntax::list(value) {
            self.codings += 1;
            self.chunked += usize::from(coding.eq_ignore_ascii_case(b"chunked"));
        }
    }
}

/// The ladder of RFC 9112 §6.3 for requests, in its order; where it lets a server choose between refusing and
/// guessing, this one refuses.
pub(super) fn request_body(
    fields: &FramingFields<'_>,
    version: Version,
    method: &[u8],
) -> Result<BodyFraming, RequestError> {
    // Rungs 1 and 2 are about responses.
    if fields.codings > 0 {
        // §6.1: a server that gets Transfer-Encoding in 1.0 must treat the framing as faulty.
        if version == Version::Http10 {
            return Err(RequestError::EncodingInHttp10);
        }
        // Rung 3: both fields are an attack or a broken sender, and may be refused.
        if fields.content_length.is_some() {
            return Err(RequestError::LengthAndEncoding);
        }
        // Rung 4: a coding that is not understood (§6.1: 501), then chunked anywhere but last, or twice (§7.1).
        // Since chunked is the only coding here, "last" and "once" are the same.
        if fields.chunked < fields.codings {
            return Err(RequestError::EncodingUnsupported);
        }
        if fields.chunked > 1 {
            return Err(RequestError::EncodingRepeated);
        }
        return Ok(BodyFraming::Chunked);
    }
    // Rung 5: a recipient may fold equal repeats into one; a proxy that takes the other one may be in front.
    if fields.content_length_repeated {
        return Err(RequestError::ContentLengthRepeated);
    }
    // Rung 6.
    if let Some(value) = fields.content_length {
        return syntax::decimal(value).map(BodyFraming::Length).ok_or(RequestError::ContentLength);
    }
    // Before rung 7: in 1.0 such a body ended with the connection, so "no body" would read it as the next request.
    if version == Version::Http10 && matches!(method, b"POST" | b"PUT" | b"PATCH") {
        return Err(RequestError::LengthRequired);
    }
    // Rung 7.
    Ok(BodyFraming::Length(0))
}

/// The options of the Connection fields that this server acts on (RFC 9112 §9.3).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
}

impl ConnectionOptions {
    pub(super) fn add(&mut self, value: &[u8]) {
        for option in syntax::list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Whether the peer wants the connection to outlive this request.
    pub(super) fn persists(self, version: Version) -> bool {
        match version {
            _ if self.close => false,
            Version::Http11 => true,
            Version::Http10 => self.keep_alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content-Length fields, Transfer-Encoding fields, and what they come to.
    type Case<'a> = (&'a [&'a str], &'a [&'a str], Version, Result<BodyFraming, RequestError>);

    fn ladder(lengths: &[&str], encodings: &[&str], version: Version) -> Result<BodyFraming, RequestError> {
        let mut fields = FramingFields::default();
        lengths.iter().for_each(|value| fields.add_content_length(value.as_bytes()));
        encodings.iter().for_each(|value| fields.add_transfer_encoding(value.as_bytes()));
        request_body(&fields, version, b"POST")
    }

    #[test]
    fn the_ladder() {
        use super::Version::{Http10, Http11};
        use RequestError::{
            ContentLength, ContentLengthRepeated, EncodingInHttp10, EncodingRepeated, EncodingUnsupported,
            LengthAndEncoding, LengthRequired,
        };
        let cases: [Case<'_>; 20] = [
            (&[], &[], Http11, Ok(BodyFraming::Length(0))),
            (&[], &[], Http10, Err(LengthRequired)),
            (&["5"], &[], Http10, Ok(BodyFraming::Length(5))),
            (&["0005"], &[], Http11, Ok(BodyFraming::Length(5))),
            (&["5", "5"], &[], Http11, Err(ContentLengthRepeated)),
            (&["5, 5"], &[], Http11, Err(ContentLength)),
            (&["+5"], &[], Http11, Err(ContentLength)),
            (&[""], &[], Http11, Err(ContentLength)),
            (&["99999999999999999999"], &[], Http11, Err(ContentLength)),
            (&[], &["chunked"], Http11, Ok(BodyFraming::Chunked)),
            (&[], &["Chunked"], Http11, Ok(BodyFraming::Chunked)),
            (&[], &["chunked"], Http10, Err(EncodingInHttp10)),
            (&["5"], &["chunked"], Http11, Err(LengthAndEncoding)),
            (&[], &["chunked", "chunked"], Http11, Err(EncodingRepeated)),
            (&[], &["chunked, chunked"], Http11, Err(EncodingRepeated)),
            (&[], &["gzip, chunked"], Http11, Err(EncodingUnsupported)),
            (&[], &["chunked, identity"], Http11, Err(EncodingUnsupported)),
            (&[], &["chunked;q=1"], Http11, Err(EncodingUnsupported)),
            (&[], &["chunked,"], Http11, Err(EncodingUnsupported)),
            (&[], &["\x0bchunked"], Http11, Err(EncodingUnsupported)),
        ];
        for (lengths, encodings, version, expected) in cases {
            assert_eq!(ladder(lengths, encodings, version), expected, "{lengths:?} {encodings:?} {version:?}");
        }
    }

    #[test]
    fn persistence() {
        let persists = |values: &[&str], version| {
            let mut options = ConnectionOptions::default();
            values.iter().for_each(|value| options.add(value.as_bytes()));
            options.persists(version)
        };
        assert!(persists(&[], Version::Http11));
        assert!(!persists(&[], Version::Http10));
        assert!(persists(&["Keep-Alive"], Version::Http10));
        assert!(!persists(&["x, CLOSE"], Version::Http11));
        assert!(!persists(&["keep-alive", "close"], Version::Http10));
        assert!(persists(&["closed, x-close"], Version::Http11));
    }
}
