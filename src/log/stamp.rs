//! The time of an event as the logs write it, local time with its offset from UTC, and a cache of it: a second is
//! rendered once.

use super::digits::{push_decimal, push_padded};
use crate::sys::clock::{LocalTime, local_time};

/// One second, in every form that a line of the access log may want.
#[derive(Debug)]
pub(super) struct Stamp {
    seconds: i64,
    /// `12:44:12`
    pub time_of_day: Vec<u8>,
    /// `[21/Nov/2026:02:58:27 +0000]`, the time of the Common Log Format.
    pub common: Vec<u8>,
    /// `2026-11-21T02:58:27`, to be followed by a fraction and by `utc_offset` (RFC 3339).
    pub date_time: Vec<u8>,
    /// `+00:00`
    pub utc_offset: Vec<u8>,
}

impl Stamp {
    pub fn new(seconds: i64) -> Stamp {
        let time = local_time(seconds);
        let rendered = |push: fn(&mut Vec<u8>, &LocalTime)| {
            let mut out = Vec::new();
            push(&mut out, &time);
            out
        };
        Stamp {
            seconds,
            time_of_day: rendered(push_time_of_day),
            common: rendered(push_common),
            date_time: rendered(|out, time| push_date_time(out, time, b'T')),
            utc_offset: rendered(|out, time| push_utc_offset(out, time, b":")),
        }
    }

    /// Becomes the stamp of `seconds`.
    pub fn advance(&mut self, seconds: i64) {
        if self.seconds != seconds {
            *self = Stamp::new(seconds);
        }
    }
}

/// `[2026-11-21 05:14:49 +0000]`, as at the head of the error log's lines.
pub(super) fn push_bracketed(out: &mut Vec<u8>, time: &LocalTime) {
    out.push(b'[');
    push_date_time(out, time, b' ');
    out.push(b' ');
    push_utc_offset(out, time, b"");
    out.push(b']');
}

fn push_common(out: &mut Vec<u8>, time: &LocalTime) {
    // The English names, whatever the locale: log readers look for them.
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = 3 * (time.month as usize - 1);
    out.push(b'[');
    push_padded::<2>(out, time.day);
    out.push(b'/');
    out.extend_from_slice(&MONTHS[month..month + 3]);
    out.push(b'/');
    push_year(out, time.year);
    out.push(b':');
    push_time_of_day(out, time);
    out.push(b' ');
    push_utc_offset(out, time, b"");
    out.push(b']');
}

fn push_date_time(out: &mut Vec<u8>, time: &LocalTime, separator: u8) {
    push_year(out, time.year);
    out.push(b'-');
    push_padded::<2>(out, time.month);
    out.push(b'-');
    push_padded::<2>(out, time.day);
    out.push(separator);
    push_time_of_day(out, time);
}

fn push_time_of_day(out: &mut Vec<u8>, time: &LocalTime) {
    push_padded::<2>(out, time.hour);
    out.push(b':');
    push_padded::<2>(out, time.minute);
    out.push(b':');
    push_padded::<2>(out, time.second);
}

/// Four digits, more for those who set their clock beyond 9999.
fn push_year(out: &mut Vec<u8>, year: i32) {
    match u32::try_from(year) {
        Ok(year @ 0..=9999) => push_padded::<4>(out, year),
        Ok(year) => push_decimal(out, u64::from(year)),
        Err(_) => out.extend_from_slice(b"0000"),
    }
}

fn push_utc_offset(out: &mut Vec<u8>, time: &LocalTime, separator: &[u8]) {
    let minutes = time.utc_offset_seconds.unsigned_abs() / 60;
    out.push(if time.utc_offset_seconds < 0 { b'-' } else { b'+' });
    push_padded::<2>(out, minutes / 60);
    out.extend_from_slice(separator);
    push_padded::<2>(out, minutes % 60);
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENING: LocalTime = LocalTime {
        year: 2026,
        month: 3,
        day: 1,
        hour: 23,
        minute: 5,
        second: 9,
        utc_offset_seconds: -(3 * 3600 + 30 * 60),
    };

    fn rendered(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn forms() {
        assert_eq!(rendered(|out| push_bracketed(out, &EVENING)), "[2026-03-01 23:05:09 -0330]");
        assert_eq!(rendered(|out| push_common(out, &EVENING)), "[01/Mar/2026:23:05:09 -0330]");
        assert_eq!(rendered(|out| push_date_time(out, &EVENING, b'T')), "2026-03-01T23:05:09");
        assert_eq!(rendered(|out| push_utc_offset(out, &EVENING, b":")), "-03:30");
        let december = LocalTime { month: 12, utc_offset_seconds: 45_900, ..EVENING };
        assert_eq!(rendered(|out| push_common(out, &december)), "[01/Dec/2026:23:05:09 +1245]");
    }

    #[test]
    fn years_off_the_calendar() {
        for (year, expected) in [(-1, "0000"), (0, "0000"), (33, "0033"), (9999, "9999"), (10_000, "10000")] {
            assert_eq!(rendered(|out| push_year(out, year)), expected);
        }
    }

    #[test]
    fn a_stamp_follows_the_clock() {
        let mut stamp = Stamp::new(1_795_238_089);
        let before = stamp.time_of_day.clone();
        stamp.advance(1_795_238_089);
        assert_eq!(stamp.time_of_day, before);
        stamp.advance(1_795_238_090);
        assert_ne!(stamp.time_of_day, before);
        assert_eq!(stamp.time_of_day, Stamp::new(1_795_238_090).time_of_day);
    }
}
