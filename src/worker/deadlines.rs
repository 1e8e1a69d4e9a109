//! The queue of deadlines: who has to be looked at next, and when.
//!
//! A client's deadline moves with every request, and a move must cost no more than writing it down. So the queue is
//! lazy: each client has an entry at or before its deadline, and when that comes up, it is looked at and entered anew.

use super::client::{Client, Deadline, Token};
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
    pub(super) fn set(&mut self, token: Token, client: &mut Client, deadline: Option<(Deadline, Instant)>) {
        client.deadline = deadline;
        if let Some((_, at)) = deadline
            && client.armed.is_none_or(|armed| at < armed)
        {
            client.armed = Some(at);
            self.entries.push(Reverse((at, token)));
        }
    }

    /// When somebody has to be looked at.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the next entry that has come up. Its client, if it is still there, is to be passed to
    /// [`is_due`](Self::is_due).
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, Token)> {
        let Reverse((at, _)) = self.entries.peek()?;
        if *at > now {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| entry)
    }

    /// Whether the deadline of the client whose entry `at` was popped has passed; if not, it is entered anew.
    pub(super) fn is_due(&mut self, at: Instant, token: Token, client: &mut Client, now: Instant) -> bool {
        if client.armed != Some(at) {
            return false;
        }
        client.armed = None;
        match client.deadline {
            Some((_, deadline)) if deadline <= now => true,
            deadline => {
                self.set(token, client, deadline);
                false
            }
        }
    }
}
