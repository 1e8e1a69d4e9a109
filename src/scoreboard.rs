//! The scoreboard: what the workers let the master know, in memory that all of them share.
//!
//! One slot per worker, written by that worker and read by the master; no locks, no files, no messages. What follows
//! from a value is decided by whoever reads it.
//!
//! Orderings: the state is stored with Release and loaded with Acquire, so that whoever sees a worker ready sees what
//! it wrote before. Everything else is a number that stands for itself, and Relaxed.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::sys::process::Pid;
use crate::sys::shared::{Doorbell, Line, SharedLines};

/// Shared by the master and all workers that it forks after making it.
#[derive(Debug)]
pub struct Scoreboard {
    /// The first line belongs to all of them together, each other one to a slot.
    lines: SharedLines,
    doorbell: Doorbell,
}

impl Scoreboard {
    /// All slots empty.
    ///
    /// # Errors
    ///
    /// When there are no memory or no descriptors left.
    pub fn new(slots: u32) -> io::Result<Self> {
        Ok(Self { lines: SharedLines::new(slots as usize + 1)?, doorbell: Doorbell::new()? })
    }

    /// How many slots there are.
    pub fn slots(&self) -> u32 {
        (self.lines.len() - 1) as u32
    }

    /// The slot number `index`, counted from 0.
    ///
    /// # Panics
    ///
    /// When there is no such slot.
    pub fn slot(&self, index: u32) -> Slot<'_> {
        let Line([state, pid, sequence, requests, connections, ..]) = &self.lines[index as usize + 1];
        Slot { state, pid, sequence, requests, connections, board: self }
    }

    /// Rings when a worker has changed its state.
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Whether the caller, a worker that cannot boot, is the first to say so since one could: the reason is mostly the
    /// same for all, and is told once.
    pub fn claim_boot_report(&self) -> bool {
        self.boot_report().compare_exchange(0, 1, AcqRel, Acquire).is_ok()
    }

    fn boot_report(&self) -> &AtomicU64 {
        &self.lines[0].0[0]
    }
}

/// What one worker tells. Cheap to copy and to keep.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    state: &'a AtomicU64,
    pid: &'a AtomicU64,
    sequence: &'a AtomicU64,
    requests: &'a AtomicU64,
    connections: &'a AtomicU64,
    board: &'a Scoreboard,
}

/// How far a worker is. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum State {
    /// There is none.
    Empty,
    /// Forked, its application not imported yet.
    Starting,
    /// Accepting connections.
    Ready,
    /// Was ready, accepts no more, finishes what it has.
    Draining,
}

/// For the master.
impl Slot<'_> {
    /// Clears what the last worker left behind, for one that is about to be forked.
    pub fn prepare(self) {
        for word in [self.pid, self.sequence, self.requests, self.connections] {
            word.store(0, Relaxed);
        }
        self.state.store(State::Starting as u64, Release);
    }

    /// Notes who the worker is.
    pub fn assign(self, pid: Pid) {
        self.pid.store(pid.as_raw().unsigned_abs().into(), Relaxed);
    }

    /// The worker is gone. Its numbers stay to be read until the slot is used again.
    pub fn vacate(self) {
        self.state.store(State::Empty as u64, Release);
    }

    /// How far the worker is.
    pub fn state(self) -> State {
        match self.state.load(Acquire) {
            1 => State::Starting,
            2 => State::Ready,
            3 => State::Draining,
            _ => State::Empty,
        }
    }

    /// The process id of the worker; 0 before its first.
    pub fn pid(self) -> u32 {
        self.pid.load(Relaxed) as u32
    }

    /// Odd while the worker is inside a call of its application. The same odd number twice is the same call.
    pub fn sequence(self) -> u64 {
        self.sequence.load(Relaxed)
    }

    /// Requests answered since the worker was forked.
    pub fn requests(self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Connections open now.
    pub fn connections(self) -> u32 {
        self.connections.load(Relaxed) as u32
    }
}

/// For the worker that the slot belongs to, and for nobody else: the numbers are loaded and stored instead of added to,
/// which on this path saves a locked instruction per request and is right with a single writer.
impl Slot<'_> {
    /// Tells the master how far this worker is, and wakes it.
    pub fn set_state(self, state: State) {
        if state == State::Ready {
            self.board.boot_report().store(0, Release);
        }
        self.state.store(state as u64, Release);
        self.board.doorbell.ring();
    }

    /// The application is about to be called.
    pub fn enter_call(self) {
        increment(self.sequence);
    }

    /// The application has returned, its iterable is closed.
    pub fn leave_call(self) {
        increment(self.sequence);
    }

    /// One more request answered.
    pub fn count_request(self) {
        increment(self.requests);
    }

    /// So many connections are open.
    pub fn set_connections(self, count: u32) {
        self.connections.store(count.into(), Relaxed);
    }
}

fn increment(number: &AtomicU64) {
    number.store(number.load(Relaxed) + 1, Relaxed);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_tells_what_its_worker_told() {
        let board = Scoreboard::new(2).unwrap();
        let slot = board.slot(1);
        slot.prepare();
        slot.assign(Pid::from_raw(4242));
        for state in [State::Starting, State::Ready, State::Draining, State::Empty] {
            slot.set_state(state);
            assert_eq!(slot.state(), state);
        }
        slot.enter_call();
        slot.leave_call();
        slot.enter_call();
        slot.count_request();
        slot.set_connections(3);
        assert_eq!((slot.pid(), slot.sequence(), slot.requests(), slot.connections()), (4242, 3, 1, 3));
    }

    #[test]
    fn slots_are_apart() {
        let board = Scoreboard::new(2).unwrap();
        board.slot(0).enter_call();
        board.slot(0).set_state(State::Ready);
        assert_eq!(board.slots(), 2);
        assert_eq!((board.slot(1).sequence(), board.slot(1).state()), (0, State::Empty));
    }

    #[test]
    fn a_prepared_slot_remembers_nothing() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        slot.assign(Pid::from_raw(1));
        slot.enter_call();
        slot.count_request();
        slot.set_connections(9);
        slot.vacate();
        slot.prepare();
        assert_eq!(slot.state(), State::Starting);
        assert_eq!((slot.pid(), slot.sequence(), slot.requests(), slot.connections()), (0, 0, 0, 0));
    }

    #[test]
    fn a_boot_failure_is_told_once_until_a_worker_is_ready() {
        let board = Scoreboard::new(2).unwrap();
        assert!(board.claim_boot_report());
        assert!(!board.claim_boot_report());
        board.slot(0).set_state(State::Draining);
        assert!(!board.claim_boot_report());
        board.slot(0).set_state(State::Ready);
        assert!(board.claim_boot_report());
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn there_is_no_slot_past_the_last() {
        Scoreboard::new(1).unwrap().slot(1);
    }
}
