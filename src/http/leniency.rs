//! [`Leniency`]: what is accepted although RFC 9112 or this server refuses it, and how such a head is mended.
//!
//! A head is rewritten in place into one of the same length that the strict parser takes. So nothing behind this file
//! knows of leniency, and a connection that moves to another process takes a head along that is sound.

use super::error::RequestError;
use super::syntax;

/// Each is off by default; the names are gunicorn's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leniency {
    /// A value goes on in further lines that begin with a space or tab (RFC 9112 §5.2); they are joined with a space.
    pub obsolete_folding: bool,
    /// Spaces and tabs between a field's name and its colon (RFC 9112 §5.1 wants a 400).
    pub header_spaces: bool,
    /// Any token is a method.
    pub unconventional_method: bool,
    /// Any `HTTP/` digit `.` digit is a version.
    pub unconventional_version: bool,
    /// Methods become upper case. gunicorn refuses those in lower case before it gets there, unless
    /// `unconventional_method` is on too.
    pub casefold_method: bool,
}

impl Leniency {
    /// Whether there are fields to be mended, perhaps.
    #[inline]
    pub(super) fn mends_fields(self) -> bool {
        self.obsolete_folding || self.header_spaces
    }

    /// Rewrites the method of a request line, if it is one.
    pub(super) fn mend_line(self, line: &mut [u8]) {
        if self.casefold_method
            && self.unconventional_method
            && let Some(end) = memchr::memchr(b' ', line)
        {
            line[..end].make_ascii_uppercase();
        }
    }

    /// Rewrites the field lines of a complete head, each of which ends with CRLF, up to the empty line. What cannot be
    /// mended stays as it is and is refused by the parser.
    ///
    /// # Errors
    /// [`RequestError::Field`] for one that would have to be mended and says where the message ends or whom it is for.
    pub(super) fn mend_fields(self, fields: &mut [u8]) -> Result<(), RequestError> {
        let mut start = 0;
        while let Some(mut end) = line_end(fields, start)
            && end > start
        {
            let colon = memchr::memchr(b':', &fields[start..end]).map(|colon| start + colon);
            if let (true, Some(colon)) = (self.header_spaces, colon) {
                move_colon(&mut fields[start..=colon])?;
            }
            if let (true, Some(_)) = (self.obsolete_folding, colon) {
                end = unfold(fields, start, end)?;
            }
            start = end + 2;
        }
        Ok(())
    }
}

/// Whether a line goes on with the field of the line before.
pub(super) fn is_continuation(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// `Name :` → `Name: `.
fn move_colon(name_and_colon: &mut [u8]) -> Result<(), RequestError> {
    let spaced = &name_and_colon[..name_and_colon.len() - 1];
    let Some(last) = spaced.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')) else { return Ok(()) };
    let length = last + 1;
    if length < spaced.len() {
        refuse_decisive(&spaced[..length])?;
        name_and_colon[length..].fill(b' ');
        name_and_colon[length] = b':';
    }
    Ok(())
}

/// Joins the line from `start` to `end` with those that go on with it. What it becomes shorter by stands behind its
/// value as spaces, which mean nothing. Returns the new end.
fn unfold(fields: &mut [u8], start: usize, end: usize) -> Result<usize, RequestError> {
    let mut end = end;
    let mut filled = None;
    while let Some(next_end) = line_end(fields, end + 2)
        && is_continuation(&fields[end + 2..next_end])
    {
        let at = match filled {
            Some(at) => at,
            None => {
                let name = memchr::memchr(b':', &fields[start..end]).map_or(start, |colon| start + colon);
                refuse_decisive(&fields[start..name])?;
                start + trimmed_end(&fields[start..end])
            }
        };
        let part = trimmed(fields, end + 2, next_end);
        // A CRLF and a space at least were between them, so the part moves to the front.
        debug_assert!(at < part.start);
        fields[at] = b' ';
        let length = part.len();
        fields.copy_within(part, at + 1);
        filled = Some(at + 1 + length);
        end = next_end;
    }
    if let Some(at) = filled {
        fields[at..end].fill(b' ');
    }
    Ok(end)
}

/// A proxy in front that does not mend may have taken such a line for another field, or for none: then it and this
/// server would disagree about where the request ends, or which site it is for. No old client needs these mended.
fn refuse_decisive(name: &[u8]) -> Result<(), RequestError> {
    let decisive: [&[u8]; 5] = [b"content-length", b"transfer-encoding", b"host", b"connection", b"expect"];
    if decisive.iter().any(|decisive| name.eq_ignore_ascii_case(decisive)) {
        return Err(RequestError::Field);
    }
    Ok(())
}

/// Where the CRLF of the line from `start` is.
fn line_end(fields: &[u8], start: usize) -> Option<usize> {
    memchr::memmem::find(fields.get(start..)?, b"\r\n").map(|length| start + length)
}

fn trimmed_end(line: &[u8]) -> usize {
    line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1)
}

fn trimmed(fields: &[u8], start: usize, end: usize) -> std::ops::Range<usize> {
    let part = syntax::trim(&fields[start..end]);
    if part.is_empty() {
        return end..end;
    }
    let lead = fields[start..end].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    start + lead..start + lead + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FOLDING: Leniency = Leniency { obsolete_folding: true, ..NONE };
    const SPACES: Leniency = Leniency { header_spaces: true, ..NONE };
    const NONE: Leniency = Leniency {
        obsolete_folding: false,
        header_spaces: false,
        unconventional_method: false,
        unconventional_version: false,
        casefold_method: false,
    };

    fn mended(leniency: Leniency, fields: &str) -> Result<String, RequestError> {
        let mut bytes = format!("{fields}\r\n").into_bytes();
        leniency.mend_fields(&mut bytes)?;
        assert_eq!(bytes.len(), fields.len() + 2);
        let text = String::from_utf8(bytes).expect("UTF-8 stays what it is");
        Ok(text.trim_end_matches("\r\n").replace("\r\n", "|"))
    }

    #[test]
    fn folded_values() {
        let cases = [
            ("X: a\r\n b\r\nY: c\r\n", "X: a b  |Y: c"),
            ("X: a  \r\n \t b \r\n\tc\r\n", "X: a b c         "),
            ("X:\r\n b\r\n", "X: b  "),
            ("X: a\r\n \r\n", "X: a   "),
            ("X: a\r\nY: b\r\n", "X: a|Y: b"),
            // No field to go on with, and no field at all: the parser refuses both.
            (" X: a\r\n b\r\n", " X: a b  "),
            ("X\r\n b\r\n", "X| b"),
        ];
        for (fields, expected) in cases {
            assert_eq!(mended(FOLDING, fields).as_deref(), Ok(expected), "{fields:?}");
            assert_eq!(mended(NONE, fields), Ok(fields.trim_end_matches("\r\n").replace("\r\n", "|")));
        }
    }

    #[test]
    fn spaces_before_the_colon() {
        let cases = [
            ("X : a\r\n", "X:  a"),
            ("X \t: a\r\nY\t:b\r\n", "X:   a|Y: b"),
            ("X Y: a\r\n", "X Y: a"),
            (" : a\r\n", " : a"),
            ("X: a : b\r\n", "X: a : b"),
        ];
        for (fields, expected) in cases {
            assert_eq!(mended(SPACES, fields).as_deref(), Ok(expected), "{fields:?}");
        }
    }

    #[test]
    fn what_decides_is_not_mended() {
        for name in ["Content-Length", "TRANSFER-ENCODING", "host", "Connection", "Expect"] {
            assert_eq!(mended(FOLDING, &format!("{name}: 1\r\n 2\r\n")), Err(RequestError::Field), "{name}");
            assert_eq!(mended(FOLDING, &format!("{name}:\r\n 2\r\n")), Err(RequestError::Field), "{name}");
            assert_eq!(mended(SPACES, &format!("{name} : 1\r\n")), Err(RequestError::Field), "{name}");
            let both = Leniency { header_spaces: true, ..FOLDING };
            assert_eq!(mended(both, &format!("{name}\t: 1\r\n\t2\r\n")), Err(RequestError::Field), "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_mended_stays_so(lines in prop::collection::vec("[ \tA:x]{1,8}", 0..8)) {
            let both = Leniency { header_spaces: true, ..FOLDING };
            let fields: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let mut once = format!("{fields}\r\n").into_bytes();
            prop_assert_eq!(both.mend_fields(&mut once), Ok(()));
            let mut twice = once.clone();
            prop_assert_eq!(both.mend_fields(&mut twice), Ok(()));
            prop_assert_eq!(once, twice);
        }
    }
}
