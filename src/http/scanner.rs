//! [`HeadScanner`]: where a head ends, and that it keeps the limits.

use super::error::RequestError;
use super::leniency;
use super::request::Limits;

/// Finds the end of a head line by line, each byte looked at once however the head is split over reads.
///
/// It enforces what can be said before a line is complete: limits, and no bare LF.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    /// Everything before has been scanned. `line_start <= scanned`.
    scanned: usize,
    line_start: usize,
    /// Where the last field starts, which folding may have given several lines. `field_start <= line_start`.
    field_start: usize,
    /// Where the line after the request line starts; 0 before.
    fields_at: usize,
    /// Complete lines so far, the request line included; a folded field counts as one.
    lines: usize,
}

/// Where a head ends whatever the limits are, so that 32 bits can tell places in it.
const HEAD_BYTES_MAX: usize = 1 << 30;

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
        let partial = head.len() - self.counted_from(head, limits);
        if partial > self.line_bytes_max(limits).saturating_add(1) || head.len() > HEAD_BYTES_MAX {
            return Err(self.too_long());
        }
        Ok(Scan::Partial)
    }

    /// The line from `line_start` ends with the LF at `lf`.
    fn line_end(&mut self, head: &[u8], lf: usize, limits: &Limits) -> Result<Option<Scan>, RequestError> {
        let has_cr = lf > self.line_start && head[lf - 1] == b'\r';
        let start = self.counted_from(head, limits);
        let length = lf - start - usize::from(has_cr);
        if length > self.line_bytes_max(limits) || lf >= HEAD_BYTES_MAX {
            return Err(self.too_long());
        }
        if !has_cr {
            return Err(RequestError::BareLf);
        }
        let goes_on = start < self.line_start;
        self.line_start = lf + 1;
        if goes_on {
            return Ok(None);
        }
        self.field_start = start;
        if self.lines == 0 {
            self.lines = 1;
            self.fields_at = self.line_start;
            return Ok(Some(Scan::Line(length)));
        }
        if length == 0 {
            return Ok(Some(Scan::Head { length: lf + 1, fields_at: self.fields_at, fields: self.lines - 1 }));
        }
        if self.lines > limits.fields_max {
            return Err(RequestError::TooManyFields);
        }
        self.lines += 1;
        Ok(None)
    }

    /// Where the bytes begin that count for the limit of the current line.
    fn counted_from(&self, head: &[u8], limits: &Limits) -> usize {
        let may_go_on = limits.leniency.obsolete_folding && self.lines > 1;
        if may_go_on && leniency::is_continuation(&head[self.line_start..]) {
            self.field_start
        } else {
            self.line_start
        }
    }

    fn line_bytes_max(&self, limits: &Limits) -> usize {
        if self.lines == 0 { limits.line_bytes_max } else { limits.field_bytes_max }
    }

    fn too_long(&self) -> RequestError {
        if self.lines == 0 { RequestError::LineTooLong } else { RequestError::FieldTooLong }
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
        let limits = Limits { line_bytes_max: 14, field_bytes_max: 7, fields_max: 1, ..Limits::default() };
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
}
