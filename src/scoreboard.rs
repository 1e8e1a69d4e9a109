//! The scoreboard: what the workers let the master and each other know, in memory that all of them share.
//!
//! One slot per worker; no locks, no files, no messages. What follows from a value is decided by whoever reads it. Most
//! words of a slot have one writer, its worker, and are loaded and stored instead of added to, which on the hot path
//! saves a locked instruction per request.
//!
//! Orderings: the state is stored with Release and loaded with Acquire, so that whoever sees a worker ready sees what
//! it wrote before. Everything else is a number that stands for itself, and Relaxed. Three pairs of a store and a load
//! must not miss each other (each side stores one word and then loads the other's, as in Dekker's algorithm), and have
//! a sequentially consistent fence between the two, on both sides. Of two such fences one comes first; whoever has the
//! other one sees what was stored before the first:
//!
//! - A worker that queues a request stores that, *fence* ([`Slot::set_queued`]), and looks for an idle sibling. One
//!   that becomes idle stores that, *fence* ([`Slot::set_idle`]), and looks for queues ([`Scoreboard::has_queues`]); so
//!   does one that gives back a reservation. So no request waits beside an idle worker without either knowing.
//! - A worker that sends a connection puts it into an inbox, *fence* ([`Slot::note_sent`]), and looks whether the
//!   receiver's slot has become empty. The master stores that it is empty, *fence* ([`Slot::vacate`]), and has a
//!   worker look into the inboxes of empty slots. So no connection stays where nobody looks.
//! - A worker that starts stores that it is ready, *fence* ([`Slot::set_state`]), and looks into the inboxes of empty
//!   slots; the master, after its fence, looks for a ready worker. So one of the two takes care of what is there.

mod current;
mod slot;
mod statistics;

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

pub use self::current::CurrentRequest;
pub use self::slot::{Slot, State};
pub use self::statistics::{BOUNDS, Gauges, Histogram, METHODS, Statistics, Totals, Waiting};
use crate::sys::shared::{Doorbell, SharedLines, WORDS};

/// Shared by the master and all workers that it forks after making it.
#[derive(Debug)]
pub struct Scoreboard {
    /// The first line belongs to all of them together. Then come lines with a bit for each slot that reports a queue,
    /// and behind them a line for each slot.
    lines: SharedLines,
    /// For each slot what its workers have counted, if anybody wants to know.
    statistics: Option<SharedLines>,
    slots: u32,
    doorbell: Doorbell,
}

/// Slots that one line of bits stands for.
const SLOTS_PER_LINE: u32 = WORDS as u32 * u64::BITS;

impl Scoreboard {
    /// All slots empty.
    ///
    /// # Errors
    ///
    /// When there are no memory or no descriptors left.
    pub fn new(slots: u32) -> io::Result<Self> {
        let lines = 1 + slots.div_ceil(SLOTS_PER_LINE) as usize + slots as usize;
        Ok(Self { lines: SharedLines::new(lines)?, statistics: None, slots, doorbell: Doorbell::new()? })
    }

    /// The same, where the workers count what they do.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn with_statistics(slots: u32) -> io::Result<Self> {
        let statistics = SharedLines::new(slots as usize * statistics::LINES)?;
        Ok(Self { statistics: Some(statistics), ..Self::new(slots)? })
    }

    /// What all workers have counted since the server has started; `None` if nobody wanted them to.
    pub fn totals(&self) -> Option<Box<Totals>> {
        self.statistics.as_ref()?;
        let mut totals = Box::<Totals>::default();
        (0..self.slots).filter_map(|slot| self.slot(slot).statistics()).for_each(|own| totals.add(own));
        Some(totals)
    }

    /// Connections that have moved from one worker to another since the server has started: sent, and taken in.
    pub fn passes(&self) -> (u64, u64) {
        let slots = (0..self.slots).map(|slot| self.slot(slot).passes());
        slots.fold((0, 0), |(sent, taken), own| (sent + own.0, taken + own.1))
    }

    /// How many slots there are.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The slot number `index`, counted from 0.
    ///
    /// # Panics
    ///
    /// When there is no such slot.
    pub fn slot(&self, index: u32) -> Slot<'_> {
        let first = self.lines.len() - self.slots as usize;
        Slot::new(self, index, &self.lines[first + index as usize])
    }

    /// Rings when a worker has changed its state.
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Whether the caller, a worker that cannot boot, is the first to say so since one could, or since a new generation
    /// began: the reason is mostly the same for all, and is told once.
    pub fn claim_boot_report(&self) -> bool {
        self.boot_report().compare_exchange(0, 1, AcqRel, Acquire).is_ok()
    }

    /// The next worker that cannot boot says so.
    pub fn release_boot_report(&self) {
        self.boot_report().store(0, Release);
    }

    /// Whether workers that leave have nobody to pass their connections to: the server ends. Set by the master before it
    /// tells the workers.
    pub fn set_stopping(&self, is_stopping: bool) {
        self.stopping().store(is_stopping.into(), Release);
    }

    /// See [`set_stopping`](Self::set_stopping).
    pub fn is_stopping(&self) -> bool {
        self.stopping().load(Acquire) != 0
    }

    /// The server ends by SIGINT or SIGQUIT. Set by the master before it tells the workers.
    pub fn set_interrupted(&self) {
        self.interrupted().store(1, Release);
    }

    /// See [`set_interrupted`](Self::set_interrupted).
    pub fn is_interrupted(&self) -> bool {
        self.interrupted().load(Acquire) != 0
    }

    /// Nobody new can connect to the listeners that the server has made, and nobody else accepts from them: what waits
    /// there is for those who stop.
    pub fn set_closed(&self) {
        self.closed().store(1, Release);
    }

    /// See [`set_closed`](Self::set_closed).
    pub fn is_closed(&self) -> bool {
        self.closed().load(Acquire) != 0
    }

    /// A worker of this generation has seen that the code it runs has changed. Returns whether it is the first to say so:
    /// mostly all of them see it at the same time.
    pub fn ask_for_reload(&self, generation: u32) -> bool {
        let before = self.reload_asked().fetch_max(generation.into(), AcqRel);
        self.doorbell.ring();
        before < generation.into()
    }

    /// The latest generation that has asked for a reload; 0: none.
    pub fn reload_asked_by(&self) -> u32 {
        self.reload_asked().load(Acquire) as u32
    }

    /// Those who have asked for a reload did not get one: they may ask again.
    pub fn forget_reload_request(&self) {
        self.reload_asked().store(0, Release);
    }

    /// Whether the caller, a worker that serves without its application, is the first of its generation: they are ready,
    /// so that [`claim_boot_report`](Self::claim_boot_report) would be granted to each of them.
    pub fn claim_failure_report(&self, generation: u32) -> bool {
        self.failure_report().fetch_max(generation.into(), AcqRel) < generation.into()
    }

    fn boot_report(&self) -> &AtomicU64 {
        &self.lines[0].0[0]
    }

    fn stopping(&self) -> &AtomicU64 {
        &self.lines[0].0[1]
    }

    fn reload_asked(&self) -> &AtomicU64 {
        &self.lines[0].0[2]
    }

    fn closed(&self) -> &AtomicU64 {
        &self.lines[0].0[4]
    }

    fn interrupted(&self) -> &AtomicU64 {
        &self.lines[0].0[5]
    }

    fn failure_report(&self) -> &AtomicU64 {
        &self.lines[0].0[3]
    }
}

/// What workers find out about each other.
impl Scoreboard {
    /// Whether any worker has requests that wait: one load per 64 slots, of a cache line that changes seldom. To be
    /// asked after [`Slot::set_idle`].
    pub fn has_queues(&self) -> bool {
        self.queue_words().any(|word| word.load(Relaxed) != 0)
    }

    /// A worker that has requests waiting, the next one behind `except` in a circle, so that those who ask do not all
    /// turn to the same.
    pub fn first_with_queue(&self, except: u32) -> Option<u32> {
        if !self.has_queues() {
            return None;
        }
        self.others(except).find(|&slot| {
            let (word, bit) = self.queue_bit(slot);
            word.load(Relaxed) & bit != 0
        })
    }

    /// The ready worker other than `except` with the fewest connections, an idle one before a busy one; of equals the
    /// next one behind `except`.
    pub fn best_sibling(&self, except: u32) -> Option<u32> {
        self.ready_slots(except).min_by_key(|slot| (slot.load(), !slot.is_idle())).map(|slot| slot.index)
    }

    /// Reserves an idle worker other than `except`, the one with the fewest connections, of equals the next one behind it
    /// in a circle, so that those who search at the same time begin apart. The reservation ends when that worker becomes busy or idle again, or with
    /// [`Slot::release`].
    pub fn idle_sibling(&self, except: u32) -> Option<u32> {
        loop {
            let idle = self.ready_slots(except).filter(|slot| slot.is_idle()).min_by_key(|slot| slot.load())?;
            // Somebody else may have been quicker; then it is not idle any more.
            if idle.try_reserve() {
                return Some(idle.index);
            }
        }
    }

    /// The slots that no worker has now. What is in their inboxes is for whoever finds it.
    pub fn empty_slots(&self) -> impl Iterator<Item = u32> {
        (0..self.slots).filter(|&slot| self.slot(slot).state() == State::Empty)
    }

    /// Whether another worker than `except` serves, or finishes what it has, or will.
    pub fn has_sound_sibling(&self, except: u32) -> bool {
        let is_sound = |state| matches!(state, State::Starting | State::Ready | State::Draining);
        self.others(except).any(|slot| is_sound(self.slot(slot).state()))
    }

    fn ready_slots(&self, except: u32) -> impl Iterator<Item = Slot<'_>> {
        self.others(except).map(|slot| self.slot(slot)).filter(|slot| slot.state() == State::Ready)
    }

    /// All slots but one, beginning behind it.
    fn others(&self, except: u32) -> impl Iterator<Item = u32> + use<> {
        (except + 1..self.slots).chain(0..except.min(self.slots))
    }

    fn queue_words(&self) -> impl Iterator<Item = &AtomicU64> {
        let words = self.slots.div_ceil(u64::BITS) as usize;
        self.lines[1..].iter().flat_map(|line| &line.0).take(words)
    }

    fn queue_bit(&self, slot: u32) -> (&AtomicU64, u64) {
        let line = &self.lines[1 + (slot / SLOTS_PER_LINE) as usize];
        (&line.0[(slot % SLOTS_PER_LINE / u64::BITS) as usize], 1 << (slot % u64::BITS))
    }
}

#[cfg(test)]
mod tests;
