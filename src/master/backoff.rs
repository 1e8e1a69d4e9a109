//! How long to wait before a worker that keeps failing is started again.

use std::time::Duration;

/// The pauses of one worker number: none after the first failure in a row, then 0.1 s, doubling up to half a minute. One
/// that has served between its failures is worth another try after a second: others may have killed it, or one request
/// in many does, and while it is gone nobody may be there to serve.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
const PAUSE_MAX_SERVED: Duration = Duration::from_secs(1);

impl Backoff {
    /// One more failure: the pause before the next attempt.
    pub(super) fn next_pause(&mut self, has_served: bool) -> Duration {
        let pause_max = if has_served { PAUSE_MAX_SERVED } else { PAUSE_MAX };
        let doublings = self.failures.checked_sub(1);
        self.failures = self.failures.saturating_add(1);
        match doublings {
            None => Duration::ZERO,
            Some(doublings) => FIRST_PAUSE.saturating_mul(2u32.saturating_pow(doublings)).min(pause_max),
        }
    }

    /// It worked: what fails next is a first failure again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..12).map(|_| backoff.next_pause(false).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        backoff.reset();
        assert_eq!(backoff.next_pause(false), Duration::ZERO);
    }

    #[test]
    fn who_has_served_is_not_missed_for_longer_than_a_second() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..7).map(|_| backoff.next_pause(true).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.next_pause(false), PAUSE_MAX);
        assert_eq!(backoff.next_pause(false), PAUSE_MAX);
    }
}
