//! The queue of deadlines: who has to be looked at next, and when.
//!
//! A client's deadline moves with every request, and a move must cost no more than writing it down. So the queue is
//! lazy: each client has an entry at or before its deadline, and when that comes up, it is looked at and entered anew.
//! What is idle costs nothing until then, however many there are.

use super::client::{Deadline, Token, Watch};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Earliest first. An entry of a client that is gone, or that has an earlier one, is stale.
    entries: BinaryHeap<Reverse<(Instant, Token)>>,
}

impl Deadlines {
    /// Sets what a client is waited for. A deadline that moves away costs a comparison.
    #[inline]
    pub(super) fn set(&mut self, token: Token, watch: &mut Watch, deadline: Option<(Deadline, Instant)>) {
        watch.deadline = deadline;
        if let Some((_, at)) = deadline
            && watch.armed.is_none_or(|armed| at < armed)
        {
            watch.armed = Some(at);
            self.entries.push(Reverse((at, token)));
        }
    }

    /// When somebody has to be looked at.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the next entry that has come up. The watch of its place, if there still is one, is to be passed to
    /// [`due`](Self::due).
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, Token)> {
        let Reverse((at, _)) = self.entries.peek()?;
        if *at > now {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| entry)
    }

    /// What the place whose entry `at` was popped was waited for, if that time has passed; if not, it is entered anew.
    pub(super) fn due(&mut self, at: Instant, token: Token, watch: &mut Watch, now: Instant) -> Option<Deadline> {
        if watch.armed != Some(at) {
            return None;
        }
        watch.armed = None;
        match watch.deadline {
            Some((kind, deadline)) if deadline <= now => Some(kind),
            deadline => {
                self.set(token, watch, deadline);
                None
            }
        }
    }
}
