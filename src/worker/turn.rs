//! [`Turn`]: whose turn it is to poll. It knows nothing of HTTP, sockets or Python: `W` is the work that is shared.
//!
//! One desk, under one mutex, has all connections. One thread at a time is the *poller*: it waits for events, without
//! the desk, and deals with them at the desk. An application thread that polls also calls the application, for which it
//! leaves the desk, and stays the poller meanwhile: if the call is short, it comes back to a desk that nobody has
//! touched. If it is long, somebody else becomes the poller.
//!
//! What keeps this sound:
//!
//! - All that is shared is at the desk or has a lock of its own. Sequence numbers are hints: to take over from a thread
//!   that has just come back costs it its batch of events, and nothing else.
//! - The lock of the desk comes after Python's: whoever is at the desk never waits for the GIL.
//! - The epoch counts the pollers. A thread that finds another epoch than that of its batch drops the rest of the batch:
//!   somebody else may have dealt with it, and epoll tells what is left once more.
//! - The standby counts itself asleep and then looks at the sequence numbers; a thread that goes into a call counts and
//!   then looks whether the standby is asleep. With a fence on both sides one of them sees the other.
//! - A bell that rings before anybody waits for it ends the next wait, so that no wake-up is lost.

use super::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use super::sync::{Bell, Mutex, MutexGuard};

/// The desk, and the threads that meet there.
#[derive(Debug)]
pub(super) struct Turn<W> {
    desk: Mutex<Desk<W>>,
    seats: Box<[Seat]>,
    standby: Bell,
    is_standby_asleep: AtomicBool,
    /// Calls of the application have been found waiting for something: whoever goes into one hands the turn on at once.
    hands_on: AtomicBool,
}

/// An application thread.
#[derive(Debug)]
#[repr(align(128))]
struct Seat {
    /// Odd while it is away: in a call of the application, or waiting for the GIL.
    sequence: AtomicU64,
    bell: Bell,
}

/// What the threads share.
#[derive(Debug)]
pub(super) struct Desk<W> {
    pub(super) work: W,
    poller: Poller,
    epoch: u64,
    /// Threads that have nothing to do, the last one on top: its caches are the warmest.
    parked: Vec<usize>,
    is_over: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Poller {
    /// An application thread, perhaps in a call.
    App(usize),
    /// The thread that calls nothing.
    Standby,
}

impl<W> Turn<W> {
    /// For so many application threads, of which the first one polls.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub(super) fn new(work: W, threads: usize) -> std::io::Result<Self> {
        let seat = |_| Ok::<_, std::io::Error>(Seat { sequence: AtomicU64::new(0), bell: Bell::new()? });
        Ok(Self {
            desk: Mutex::new(Desk { work, poller: Poller::App(0), epoch: 0, parked: Vec::new(), is_over: false }),
            seats: (0..threads).map(seat).collect::<Result<_, _>>()?,
            standby: Bell::new()?,
            is_standby_asleep: AtomicBool::new(false),
            hands_on: AtomicBool::new(false),
        })
    }

    /// Goes to the desk. Those who are there do not stay for long.
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Desk<W>> {
        self.desk.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// For an application thread.
impl<W> Turn<W> {
    /// It goes into a call, or to wait for the GIL; not with the desk.
    #[inline]
    pub(super) fn go_away(&self, seat: usize) {
        self.count(seat);
        fence(Ordering::SeqCst);
        if self.is_standby_asleep.load(Ordering::Relaxed) {
            self.wake_standby();
        }
    }

    /// It is back.
    #[inline]
    pub(super) fn come_back(&self, seat: usize) {
        self.count(seat);
    }

    /// There is one writer, so that a load and a store do instead of a locked instruction.
    #[inline]
    fn count(&self, seat: usize) {
        let sequence = &self.seats[seat].sequence;
        sequence.store(sequence.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    #[cold]
    fn wake_standby(&self) {
        self.is_standby_asleep.store(false, Ordering::Relaxed);
        self.standby.ring();
    }

    /// Makes `seat` the poller, unless another thread is that can poll now. Returns whether it is.
    pub(super) fn take(&self, desk: &mut Desk<W>, seat: usize) -> bool {
        match desk.poller {
            Poller::App(poller) if poller == seat => return true,
            Poller::App(poller) if !is_away(self.sequence(poller)) => return false,
            Poller::App(_) | Poller::Standby => {}
        }
        desk.pass_to(Poller::App(seat));
        true
    }

    /// `seat` goes into a call that will probably wait: the turn goes to a thread that is free, else to the standby.
    #[inline]
    pub(super) fn hand_on(&self, desk: &mut Desk<W>, seat: usize) {
        if self.hands_on.load(Ordering::Relaxed) && desk.poller == Poller::App(seat) && !self.wake_poller(desk) {
            desk.pass_to(Poller::Standby);
            self.standby.ring();
        }
    }

    /// Sleeps, not at the desk, until the bell rings or a signal comes. The thread is parked before, and must look for
    /// itself afterwards.
    pub(super) fn sleep(&self, seat: usize) {
        self.seats[seat].bell.wait();
    }
}

/// For the standby.
impl<W> Turn<W> {
    /// Odd while the thread is away. The same odd number twice is the same absence.
    pub(super) fn sequence(&self, seat: usize) -> u64 {
        self.seats[seat].sequence.load(Ordering::Relaxed)
    }

    /// Sleeps until `time` has passed or it is needed.
    pub(super) fn standby_sleep(&self, time: std::time::Duration) {
        self.standby.wait_for(time);
    }

    /// Sleeps until somebody goes away, unless somebody has since the sequence numbers were `seen`.
    pub(super) fn standby_sleep_until_needed(&self, seen: &[u64]) {
        self.is_standby_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let has_changed = || seen.iter().enumerate().any(|(seat, &seen)| self.sequence(seat) != seen);
        if !has_changed() {
            self.standby.wait();
        }
        self.is_standby_asleep.store(false, Ordering::Relaxed);
    }

    /// Makes the standby the poller, if `seat` still is and has not come back since its sequence number was `seen`.
    pub(super) fn take_over(&self, desk: &mut Desk<W>, seat: usize, seen: u64) -> bool {
        let is_stuck = desk.poller == Poller::App(seat) && is_away(seen) && self.sequence(seat) == seen;
        if is_stuck {
            desk.pass_to(Poller::Standby);
        }
        is_stuck
    }

    /// Makes a parked thread the poller and wakes it. Returns whether there was one.
    pub(super) fn wake_poller(&self, desk: &mut Desk<W>) -> bool {
        let Some(seat) = desk.parked.pop() else { return false };
        desk.pass_to(Poller::App(seat));
        self.seats[seat].bell.ring();
        true
    }

    /// Wakes a parked thread to do what waits at the desk. Returns whether there was one.
    pub(super) fn wake_helper(&self, desk: &mut Desk<W>) -> bool {
        let Some(seat) = desk.parked.pop() else { return false };
        self.seats[seat].bell.ring();
        true
    }

    /// Whether threads that go into a call hand the turn on at once.
    pub(super) fn set_hands_on(&self, hands_on: bool) {
        self.hands_on.store(hands_on, Ordering::Relaxed);
    }

    /// Ends it for all.
    pub(super) fn end(&self, desk: &mut Desk<W>) {
        desk.is_over = true;
        self.seats.iter().for_each(|seat| seat.bell.ring());
        self.standby.ring();
    }
}

/// Whether a thread with this sequence number is away.
pub(super) fn is_away(sequence: u64) -> bool {
    sequence % 2 == 1
}

impl<W> Desk<W> {
    /// Whose turn it is.
    pub(super) fn poller(&self) -> Poller {
        self.poller
    }

    /// Changes with the poller.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether all is to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Notes that a thread has nothing to do. It goes to [sleep](Turn::sleep) then.
    pub(super) fn park(&mut self, seat: usize) {
        if !self.parked.contains(&seat) {
            self.parked.push(seat);
        }
    }

    /// A thread that woke by itself is not parked any more.
    pub(super) fn unpark(&mut self, seat: usize) {
        self.parked.retain(|&parked| parked != seat);
    }

    /// Whether a thread is parked.
    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    fn pass_to(&mut self, poller: Poller) {
        self.poller = poller;
        self.epoch += 1;
    }
}
