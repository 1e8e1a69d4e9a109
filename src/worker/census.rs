//! [`Census`]: how many connections wait for what, counted as they change, so that nobody has to look at all of them.

use super::client::{Deadline, Watch};
use crate::scoreboard::Waiting;

/// Its last word is of those that wait for nothing that is counted, and means nothing: connections begin and end
/// without it.
#[derive(Debug, Default)]
pub(super) struct Census([u32; Waiting::Nothing as usize + 1]);

impl Census {
    /// A connection waits for this now.
    #[inline]
    pub(super) fn note(&mut self, watch: &mut Watch, waiting: Waiting) {
        if watch.waiting != waiting {
            let before = std::mem::replace(&mut watch.waiting, waiting);
            self.0[before as usize] = self.0[before as usize].wrapping_sub(1);
            self.0[waiting as usize] = self.0[waiting as usize].wrapping_add(1);
        }
    }

    /// By [`Waiting`], as the scoreboard shows them.
    pub(super) fn counts(&self) -> &[u32; Waiting::Nothing as usize] {
        let [counts @ .., _] = &self.0;
        counts
    }
}

impl From<Deadline> for Waiting {
    fn from(deadline: Deadline) -> Self {
        match deadline {
            Deadline::Idle | Deadline::Parting => Self::Nothing,
            Deadline::Head => Self::Head,
            Deadline::Body => Self::Body,
            Deadline::Send => Self::Room,
            Deadline::Linger => Self::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_once_wherever_it_goes() {
        let mut census = Census::default();
        let mut watches: [Watch; 3] = Default::default();
        for watch in &mut watches {
            census.note(watch, Waiting::Body);
        }
        census.note(&mut watches[0], Waiting::Room);
        census.note(&mut watches[0], Waiting::Room);
        census.note(&mut watches[1], Waiting::Nothing);
        assert_eq!(census.counts(), &[0, 1, 0, 1, 0]);
        watches.iter_mut().for_each(|watch| census.note(watch, Waiting::Nothing));
        assert_eq!(census.counts(), &[0; 5]);
    }
}
