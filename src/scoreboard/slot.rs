//! [`Slot`]: what one worker tells, and how far it is.

use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, fence};

use super::Scoreboard;
use super::statistics::{LINES, Statistics};
use crate::sys::process::Pid;
use crate::sys::shared::Line;

/// What one worker tells. Cheap to copy and to keep.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    pub(super) index: u32,
    /// In its upper half the ticket: which use of the slot this is. In the lower one the process, or why there is none.
    pub(super) pid: &'a AtomicU64,
    sequence: &'a AtomicU64,
    requests: &'a AtomicU64,
    spent: &'a AtomicU64,
    state: &'a AtomicU64,
    availability: &'a AtomicU64,
    queued: &'a AtomicU64,
    connections: &'a AtomicU64,
    /// Connections ever put into this slot's inbox, and ever taken out of it. They outlive its workers, as the inbox
    /// does.
    sent_to: &'a AtomicU64,
    taken_from: &'a AtomicU64,
    board: &'a Scoreboard,
}

impl<'a> Slot<'a> {
    pub(super) fn new(board: &'a Scoreboard, index: u32, line: &'a Line) -> Self {
        // The first of the two cache lines has what only the master reads, so that it stays with the worker.
        let [pid, sequence, requests, spent, _, _, _, _, rest @ ..] = &line.0;
        let [state, availability, queued, connections, sent_to, taken_from, ..] = rest;
        Self {
            index,
            pid,
            sequence,
            requests,
            spent,
            state,
            availability,
            queued,
            connections,
            sent_to,
            taken_from,
            board,
        }
    }

    /// Where its workers count what they do; `None` if nobody wants to know.
    pub fn statistics(self) -> Option<Statistics<'a>> {
        let lines = self.board.statistics.as_ref()?;
        Some(Statistics::new(&lines[self.index as usize * LINES..][..LINES]))
    }
}

/// How far a worker is. It only ever moves down this list, or from starting to template.
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
    /// One of its requests has taken longer than it may and cannot be ended: it finishes the others and leaves.
    Condemned,
    /// Not a worker: it has imported the application and forks workers.
    Template,
}

// Whether a worker could take a request at once: values of `availability`.
const BUSY: u64 = 0;
const IDLE: u64 = 1;
/// Idle, and a sibling is about to send it something.
const RESERVED: u64 = 2;

/// In the word of the process: the rest of its lower half is an errno. No process has so high a number.
const NOT_FORKED: u32 = 1 << 31;
const TICKET_SHIFT: u32 = 32;

/// For everybody.
impl Slot<'_> {
    /// How far the worker is.
    pub fn state(self) -> State {
        match self.state.load(Acquire) {
            1 => State::Starting,
            2 => State::Ready,
            3 => State::Draining,
            4 => State::Condemned,
            5 => State::Template,
            _ => State::Empty,
        }
    }

    /// The process id of the worker; 0 before its first.
    pub fn pid(self) -> u32 {
        Some(self.pid.load(Acquire) as u32).filter(|word| word & NOT_FORKED == 0).unwrap_or(0)
    }

    /// The heartbeat: odd while a call of the application is in progress. The same odd number for long means that the
    /// worker does not even look after its own calls any more.
    pub fn sequence(self) -> u64 {
        self.sequence.load(Relaxed)
    }

    /// Requests answered since the worker was forked.
    pub fn requests(self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Whether it has answered as many requests as one worker should, and wants to be replaced. It serves until then.
    pub fn is_spent(self) -> bool {
        self.spent.load(Relaxed) != 0
    }

    /// Why the template could not fork the worker for this slot: an errno.
    pub fn fork_error(self) -> Option<i32> {
        let word = self.pid.load(Acquire) as u32;
        (word & NOT_FORKED != 0).then_some((word & !NOT_FORKED).cast_signed())
    }

    /// Connections open now.
    pub fn connections(self) -> u32 {
        self.connections.load(Relaxed) as u32
    }

    /// Requests that are complete and wait for a thread of the application.
    pub fn queued(self) -> u32 {
        self.queued.load(Relaxed) as u32
    }

    /// The connections of this worker, with those on their way to it. An estimate: the words are read one after
    /// another, and a process that is killed between sending and counting is off by one ever after.
    pub fn load(self) -> u64 {
        let under_way = self.sent_to.load(Relaxed).saturating_sub(self.taken_from.load(Relaxed));
        self.connections.load(Relaxed) + under_way
    }

    /// Connections ever sent to its workers by others, and ever taken in by them.
    pub fn passes(self) -> (u64, u64) {
        (self.sent_to.load(Relaxed), self.taken_from.load(Relaxed))
    }

    /// Whether it could take a request at once and nobody has reserved it.
    pub fn is_idle(self) -> bool {
        self.availability.load(Relaxed) == IDLE
    }
}

/// For the master.
impl Slot<'_> {
    /// Clears what the last worker left behind, for one that is about to be forked. Returns its ticket.
    pub fn prepare(self) -> u32 {
        let ticket = self.ticket().wrapping_add(1);
        self.pid.store(u64::from(ticket) << TICKET_SHIFT, Relaxed);
        for word in [self.sequence, self.requests, self.spent, self.connections, self.queued] {
            word.store(0, Relaxed);
        }
        self.availability.store(BUSY, Relaxed);
        if let Some(statistics) = self.statistics() {
            statistics.prepare();
        }
        self.state.store(State::Starting as u64, Release);
        ticket
    }

    fn ticket(self) -> u32 {
        (self.pid.load(Relaxed) >> TICKET_SHIFT) as u32
    }

    /// The worker that was ordered for this slot is not to come any more, unless it is [announced](Self::announce)
    /// already: its template is gone, and what that one has begun may go on without it.
    pub fn revoke(self) {
        let ticket = self.ticket();
        let revoked = u64::from(ticket.wrapping_add(1)) << TICKET_SHIFT;
        _ = self.pid.compare_exchange(u64::from(ticket) << TICKET_SHIFT, revoked, AcqRel, Acquire);
    }

    /// Notes who the worker is.
    pub fn assign(self, pid: Pid) {
        self.pid.store(u64::from(self.ticket()) << TICKET_SHIFT | u64::from(pid.as_raw().unsigned_abs()), Release);
    }

    /// The worker is gone. Its numbers stay to be read until the slot is used again, but nobody is to wait for its
    /// queue any more. What is in its inbox has to be looked for after this.
    pub fn vacate(self) {
        self.report_queue(false);
        self.state.store(State::Empty as u64, Release);
        fence(SeqCst);
    }
}

/// For the template, which forks the worker that the slot belongs to.
impl Slot<'_> {
    /// Tells the master who the worker is that was ordered with this ticket. Returns whether it is awaited: if not, the
    /// slot is somebody else's by now, or nobody's.
    pub fn announce(self, ticket: u32, pid: Pid) -> bool {
        self.answer(ticket, pid.as_raw().unsigned_abs())
    }

    /// Tells the master why there is none.
    pub fn announce_fork_error(self, ticket: u32, error: &io::Error) {
        let errno = error.raw_os_error().filter(|&errno| errno > 0).unwrap_or(i32::MAX);
        self.answer(ticket, NOT_FORKED | errno.unsigned_abs());
    }

    /// The first answer counts; the same one may be given twice.
    fn answer(self, ticket: u32, answer: u32) -> bool {
        let awaited = u64::from(ticket) << TICKET_SHIFT;
        let answer = awaited | u64::from(answer);
        let before = self.pid.compare_exchange(awaited, answer, AcqRel, Acquire);
        self.board.doorbell.ring();
        before.is_ok() || before == Err(answer)
    }
}

/// For siblings of the worker that the slot belongs to.
impl Slot<'_> {
    /// Takes an idle worker for oneself, to send it something; others see it as taken.
    pub fn try_reserve(self) -> bool {
        // Looked at first, so that the cache line of a busy worker stays with it.
        self.is_idle() && self.availability.compare_exchange(IDLE, RESERVED, Relaxed, Relaxed).is_ok()
    }

    /// Gives a reservation back without having sent anything. If the worker has moved on, nothing happens; if it has
    /// moved on and been reserved by somebody else, their reservation ends early, and it may be sent two requests.
    ///
    /// After this the caller asks [`Scoreboard::has_queues`], as one that becomes idle does: whoever has queued a
    /// request meanwhile has not seen the reserved worker, and that one does not know that it is free again.
    pub fn release(self) {
        _ = self.availability.compare_exchange(RESERVED, IDLE, Relaxed, Relaxed);
        fence(SeqCst);
    }

    /// A connection was put into this slot's inbox. If its state is [`State::Empty`] after this, the sender has to see
    /// that somebody reads it.
    pub fn note_sent(self) {
        self.sent_to.fetch_add(1, Relaxed);
        fence(SeqCst);
    }

    /// A connection was taken out of this slot's inbox, by its worker or, if there is none, by anybody.
    pub fn note_taken(self) {
        self.taken_from.fetch_add(1, Relaxed);
    }
}

/// For the worker that the slot belongs to, and for one of its threads at a time.
impl Slot<'_> {
    /// Tells the master how far this worker is, and wakes it.
    pub fn set_state(self, state: State) {
        if state == State::Ready {
            self.board.boot_report().store(0, Release);
        }
        self.state.store(state as u64, Release);
        fence(SeqCst);
        self.board.doorbell.ring();
    }

    /// Asks the master for a successor.
    pub fn set_spent(self) {
        self.spent.store(1, Relaxed);
        self.board.doorbell.ring();
    }

    /// No thread is free for another request.
    pub fn set_busy(self) {
        self.availability.store(BUSY, Relaxed);
    }

    /// A thread is free. After this the worker asks [`Scoreboard::has_queues`]. It also ends a reservation whose maker
    /// died before it could send anything, so it should be said again whenever an idle worker has been awake.
    pub fn set_idle(self) {
        self.availability.store(IDLE, Relaxed);
        fence(SeqCst);
    }

    /// So many complete requests wait for a thread. If there are any, the worker asks for an
    /// [idle sibling](Scoreboard::idle_sibling) after this.
    pub fn set_queued(self, count: u32) {
        let before = self.queued.load(Relaxed);
        self.queued.store(count.into(), Relaxed);
        if (before == 0) != (count == 0) {
            self.report_queue(count > 0);
        }
        if count > 0 {
            fence(SeqCst);
        }
    }

    /// A bit and not a count: a worker that is killed cannot take back what it has added, and whoever clears the bit
    /// for it need not know whether it was set.
    fn report_queue(self, has_queue: bool) {
        let (word, bit) = self.board.queue_bit(self.index);
        if has_queue {
            word.fetch_or(bit, Relaxed)
        } else {
            word.fetch_and(!bit, Relaxed)
        };
    }

    /// The worker lives, and a call of the application is in progress.
    pub fn beat_busy(self) {
        self.sequence.store((self.sequence.load(Relaxed) + 1) | 1, Relaxed);
    }

    /// The worker lives, and no call of the application is in progress.
    pub fn beat_idle(self) {
        self.sequence.store((self.sequence.load(Relaxed) + 2) & !1, Relaxed);
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
