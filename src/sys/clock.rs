//! Wall-clock time for the logs: a cheap reading of it, and its form in the local time zone.
//!
//! Deadlines do not belong here: they are `std::time::Instant`s, which nobody sets back.

use std::mem::MaybeUninit;
use std::sync::Once;
use std::time::Duration;

/// A moment of wall-clock time, as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixTime {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub seconds: i64,
    /// `0 <= nanoseconds < 1_000_000_000`.
    pub nanoseconds: u32,
}

/// A second of wall-clock time in the local time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// The year as people write it: 2026.
    pub year: i32,
    /// 1 (January) to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 60: some zones count leap seconds.
    pub second: u32,
    /// Seconds to add to UTC to get this time, positive east of Greenwich.
    pub utc_offset_seconds: i32,
}

/// The time now, as of the kernel's last tick (1 to 10 ms ago). It costs 3 ns where the exact time costs 21.
pub fn coarse_now() -> UnixTime {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for writing one timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, now.as_mut_ptr()) };
    assert_eq!(result, 0, "Linux has had CLOCK_REALTIME_COARSE since 2.6.32");
    // SAFETY: the call returned 0, so it has filled the timespec in.
    let now = unsafe { now.assume_init() };
    UnixTime { seconds: now.tv_sec, nanoseconds: now.tv_nsec as u32 }
}

/// The time since the system has started, which nobody sets: CLOCK_MONOTONIC, for those outside that compare it.
pub fn monotonic_now() -> Duration {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for writing one timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr()) };
    assert_eq!(result, 0, "Linux has always had CLOCK_MONOTONIC");
    // SAFETY: the call returned 0, so it has filled the timespec in.
    let now = unsafe { now.assume_init() };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The local time at `seconds` after the epoch, in the zone of `TZ` or, without it, of `/etc/localtime`.
///
/// The zone is read at the first call, which the error log's first line makes before there is a second thread; an
/// application that calls `time.tzset()` changes it for the logs of its worker too, as it does with Python's own
/// logging.
pub fn local_time(seconds: i64) -> LocalTime {
    read_zone_once();
    let mut broken_down = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call, and localtime_r keeps neither.
    let result = unsafe { libc::localtime_r(&seconds, broken_down.as_mut_ptr()) };
    assert!(!result.is_null(), "the clock stands at a year that does not fit 32 bits");
    // SAFETY: every field of tm is an integer or a pointer, for which all-zero is a value, and localtime_r has set
    // them.
    let tm = unsafe { broken_down.assume_init() };
    LocalTime {
        year: tm.tm_year + 1900,
        month: tm.tm_mon as u32 + 1,
        day: tm.tm_mday as u32,
        hour: tm.tm_hour as u32,
        minute: tm.tm_min as u32,
        second: tm.tm_sec as u32,
        utc_offset_seconds: tm.tm_gmtoff as i32,
    }
}

/// POSIX does not oblige localtime_r to read `TZ` by itself. Once is enough, and more would be wrong: tzset reads the
/// environment, which the application's threads may be changing.
fn read_zone_once() {
    unsafe extern "C" {
        // The libc crate does not declare it for Linux.
        fn tzset();
    }
    static ZONE: Once = Once::new();
    // SAFETY: tzset takes no argument and locks its own state; the environment it reads is not written at this time,
    // see `local_time`.
    ZONE.call_once(|| unsafe { tzset() });
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// `date` is the reference; it reads the same zone as this process.
    fn date(seconds: i64) -> String {
        let output = Command::new("date").args(["-d", &format!("@{seconds}"), "+%Y-%-m-%-d %-H:%-M:%-S %z"]).output();
        String::from_utf8(output.expect("coreutils are there").stdout).expect("date prints ASCII").trim_end().to_owned()
    }

    fn rendered(seconds: i64) -> String {
        let LocalTime { year, month, day, hour, minute, second, utc_offset_seconds } = local_time(seconds);
        let sign = if utc_offset_seconds < 0 { '-' } else { '+' };
        let offset = utc_offset_seconds.abs() / 60;
        format!("{year}-{month}-{day} {hour}:{minute}:{second} {sign}{:02}{:02}", offset / 60, offset % 60)
    }

    #[test]
    fn agrees_with_date() {
        for seconds in [-86_401, 0, 951_782_399, 1_709_164_799, 1_782_907_200, 1_795_238_089, 4_102_444_799] {
            assert_eq!(rendered(seconds), date(seconds), "at {seconds}");
        }
    }

    /// Runs the test above again in processes that live elsewhere: a zone is a matter of the whole process.
    #[test]
    fn agrees_with_date_in_other_zones() {
        let itself = std::env::current_exe().expect("a test knows its own program");
        for zone in ["IST-5:30", "EST5EDT,M3.2.0,M11.1.0", "UTC0", "NPT-5:45", "HST10"] {
            let mut test = Command::new(&itself);
            test.args(["--exact", "sys::clock::tests::agrees_with_date"]).env("TZ", zone);
            let output = test.output().expect("the test program can be started again");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "in zone {zone}: {text}");
        }
    }

    #[test]
    fn the_coarse_clock_is_the_clock() {
        let now = coarse_now();
        let coarse = SystemTime::UNIX_EPOCH + Duration::new(now.seconds as u64, now.nanoseconds);
        let distance = SystemTime::now().duration_since(coarse).unwrap_or_else(|error| error.duration());
        assert!(distance < Duration::from_secs(5), "{distance:?}");
    }
}
