//! How many requests a worker answers before it asks for its successor (`--max-requests`). It serves on until the master,
//! with the successor ready, tells it to leave.

use super::engine::Engine;
use crate::settings::Settings;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

impl Engine<'_> {
    /// Asks the master once.
    #[cold]
    pub(super) fn ask_for_successor(&mut self) {
        self.requests_max = u64::MAX;
        self.slot.set_spent();
    }
}

/// This worker's own number, so that not all of them are spent at the same time.
pub(super) fn requests_max(settings: &Settings) -> u64 {
    // Workers are forked: the keys of their `RandomState` may be the same, their numbers are not.
    draw(settings.max_requests, settings.max_requests_jitter, RandomState::new().hash_one(std::process::id()))
}

/// From `max` to `max + jitter`, both included; without end for 0.
fn draw(max: u32, jitter: u32, random: u64) -> u64 {
    if max == 0 { u64::MAX } else { u64::from(max) + random % (u64::from(jitter) + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn zero_is_never() {
        assert_eq!(draw(0, 0, 7), u64::MAX);
        assert_eq!(draw(0, 1000, 7), u64::MAX);
    }

    #[test]
    fn without_jitter_it_is_exact() {
        for random in [0, 1, u64::MAX] {
            assert_eq!(draw(500, 0, random), 500);
        }
        assert_eq!(draw(u32::MAX, u32::MAX, u64::from(u32::MAX)), 2 * u64::from(u32::MAX));
    }

    /// The hash of a process id is as random as its key, which is one for all workers of a master.
    #[test]
    fn workers_draw_from_the_whole_range() {
        let keys = RandomState::new();
        let drawn: HashSet<u64> = (4000_u32..5000).map(|pid| draw(100, 9, keys.hash_one(pid))).collect();
        assert_eq!(drawn, (100..110).collect());
    }
}
