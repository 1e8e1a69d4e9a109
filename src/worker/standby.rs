//! [`Standby`]: the thread that calls nothing. It looks every [`TICK`] whether the thread whose turn it is has been in
//! the same call for long, and sees to it then that somebody polls: another application thread if the call waits for
//! something, else the standby itself. It never takes the GIL.

use super::app_thread::EVENTS_MAX;
use super::engine::Engine;
use super::turn::{Poller, Turn, is_away};
use crate::sys::poll::{Events, Poll, Waited};
use crate::sys::process::ThreadStatus;
use std::sync::{Arc, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

/// How often it looks.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// A call is long if it goes on for this time after it was seen.
const LONG: Duration = Duration::from_millis(1);

/// After so many ticks without a call the standby sleeps until there is one.
const IDLE_TICKS: u32 = 50;

/// While a call computes, a second thread would only fight with it for the GIL. But a request that has waited for so
/// long gets one.
const UNFAIR: Duration = Duration::from_millis(25);

/// For so many ticks after a call was found waiting, calls are expected to wait: a tick for each would be too slow.
const HANDS_ON_TICKS: u32 = 20;

/// Calls that wait are looked at in every so many ticks.
const WAITING_TICKS: u32 = 8;

/// How long the standby stays away from the desk for a thread that wants to be there.
const GIVE_WAY: Duration = Duration::from_micros(50);

pub(super) struct Standby<'t, 'w> {
    turn: &'t Turn<Engine<'w>>,
    poll: Arc<Poll>,
    events: Events,
    /// Of the application threads, as soon as they run.
    statuses: &'t [OnceLock<ThreadStatus>],
    /// Sequence numbers at the last tick.
    seen: Vec<u64>,
    /// How many ticks ago a call was found waiting.
    ticks_since_wait: u32,
    ticked_at: Instant,
    ticks: u32,
}

/// What a tick has found.
enum Ticked {
    /// No call since the last one.
    Idle,
    Busy,
    /// It is the standby's turn to poll.
    Turn,
}

type AtDesk<'t, 'w> = MutexGuard<'t, super::turn::Desk<Engine<'w>>>;

impl<'t, 'w> Standby<'t, 'w> {
    /// With the status of each application thread.
    pub(super) fn new(turn: &'t Turn<Engine<'w>>, poll: Arc<Poll>, statuses: &'t [OnceLock<ThreadStatus>]) -> Self {
        Self {
            turn,
            poll,
            events: Events::new(EVENTS_MAX),
            statuses,
            seen: vec![0; statuses.len()],
            ticks_since_wait: HANDS_ON_TICKS,
            ticked_at: Instant::now(),
            ticks: 0,
        }
    }

    /// Stands by until the worker ends.
    pub(super) fn run(&mut self) {
        let mut idle_ticks = 0;
        loop {
            let desk = self.turn.lock();
            if desk.is_over() {
                return;
            }
            if desk.poller() == Poller::Standby {
                drop(self.poll_for_others(desk));
                continue;
            }
            match self.tick(desk) {
                Ticked::Turn => continue,
                Ticked::Busy => idle_ticks = 0,
                Ticked::Idle => idle_ticks += 1,
            }
            if idle_ticks > IDLE_TICKS {
                self.turn.standby_sleep_until_needed(&self.seen);
                idle_ticks = 0;
            } else {
                self.turn.standby_sleep(TICK);
            }
        }
    }

    fn tick(&mut self, mut desk: AtDesk<'t, 'w>) -> Ticked {
        // The end of a condemned worker is for the standby to see, whether there are calls or not.
        let is_idle = self.look_at_calls(&mut desk) && !desk.work.is_condemned;
        let Poller::App(seat) = desk.poller() else { return Ticked::Turn };
        let sequence = self.turn.sequence(seat);
        if !is_away(sequence) {
            return if is_idle { Ticked::Idle } else { Ticked::Busy };
        }
        drop(desk);
        self.turn.standby_sleep(LONG);
        let mut desk = self.turn.lock();
        if desk.poller() == Poller::Standby {
            return Ticked::Turn;
        }
        if desk.is_over() || desk.poller() != Poller::App(seat) || self.turn.sequence(seat) != sequence {
            return Ticked::Busy;
        }
        // One that waits for the GIL and not in a call: another thread would only wait with it.
        let is_in_call = desk.work.callers[seat].is_some();
        let is_waiting = is_in_call && desk.has_parked() && !self.is_any_runnable();
        self.note_wait(is_waiting);
        if !(is_waiting && self.turn.wake_poller(&mut desk)) && self.turn.take_over(&mut desk, seat, sequence) {
            return Ticked::Turn;
        }
        Ticked::Busy
    }

    /// Looks after the calls that have gone on since the last tick. Returns whether there was no call at all.
    fn look_at_calls(&mut self, desk: &mut AtDesk<'t, 'w>) -> bool {
        let mut is_idle = true;
        for seat in 0..self.seen.len() {
            let sequence = self.turn.sequence(seat);
            let is_same = std::mem::replace(&mut self.seen[seat], sequence) == sequence;
            is_idle &= is_same && !is_away(sequence);
            if is_same && is_away(sequence) {
                desk.work.look_at_caller(seat);
                desk.work.show_call(seat);
                desk.work.end_late_call(seat);
            }
        }
        if desk.work.is_condemned {
            desk.work.leave(self.seen.iter().filter(|&&sequence| is_away(sequence)).count());
        }
        // A thread that polls may sleep past the deadlines that this look has set.
        desk.work.mind_sleeper();
        if is_idle {
            desk.work.slot.beat_idle()
        } else {
            desk.work.slot.beat_busy()
        }
        // What is known to wait is looked at less often: that takes 3 µs for each thread, at the desk.
        self.ticks += 1;
        let is_time = self.ticks_since_wait > 0 || self.ticks.is_multiple_of(WAITING_TICKS);
        if self.seen.len() > 1 && !is_idle && is_time {
            let is_waiting = self.seen.iter().any(|&sequence| is_away(sequence)) && !self.is_any_runnable();
            self.note_wait(is_waiting);
        }
        is_idle
    }

    fn note_wait(&mut self, is_waiting: bool) {
        self.ticks_since_wait = if is_waiting { 0 } else { self.ticks_since_wait.saturating_add(1) };
        self.turn.set_hands_on(self.ticks_since_wait < HANDS_ON_TICKS);
    }

    /// Whether one of the threads that are away computes, with the GIL or without, or would if it had a processor. One
    /// that has come back while it was looked at has, too.
    fn is_any_runnable(&self) -> bool {
        self.statuses.iter().enumerate().any(|(seat, status)| {
            let sequence = self.turn.sequence(seat);
            is_away(sequence)
                && (status.get().is_some_and(ThreadStatus::is_runnable) || self.turn.sequence(seat) != sequence)
        })
    }

    /// Polls until an application thread does.
    fn poll_for_others(&mut self, mut desk: AtDesk<'t, 'w>) -> AtDesk<'t, 'w> {
        let epoch = desk.epoch();
        desk.work.begin_batch();
        desk.work.be_busy();
        desk.work.queue_arrivals();
        // What was queued for a thread that would soon be back has to wait for it now.
        desk.work.note_queue();
        desk.work.pass_queued();
        self.note_absences();
        self.look_after_others(&mut desk);
        while desk.epoch() == epoch && !desk.is_over() {
            let wake = desk.work.io.next_wake();
            drop(desk);
            if self.has_anybody_come_back() {
                // The lock is not fair: who has it last gets it again.
                self.turn.standby_sleep(GIVE_WAY);
            }
            let time = wake.map_or(TICK, |wake| wake.saturating_duration_since(Instant::now()).min(TICK));
            let waited = self.poll.wait(&mut self.events, Some(time));
            desk = self.turn.lock();
            if desk.epoch() != epoch || desk.is_over() {
                break;
            }
            desk.work.begin_batch();
            if let Ok(Waited::Events(count)) = waited {
                self.batch(&mut desk, count);
            }
            desk.work.end_batch();
            if desk.work.is_drained() {
                Engine::end(self.turn, &mut desk);
            }
            if desk.work.io.now - self.ticked_at >= TICK {
                self.look_after_others(&mut desk);
            }
        }
        desk
    }

    /// Deals with events until an application thread is back, which waits for the desk.
    fn batch(&mut self, desk: &mut AtDesk<'t, 'w>, count: usize) {
        for index in 0..count {
            desk.work.on_event_and_queue(&self.events.ready(index));
            if self.has_anybody_come_back() {
                return;
            }
        }
    }

    fn note_absences(&mut self) {
        for (seat, seen) in self.seen.iter_mut().enumerate() {
            *seen = self.turn.sequence(seat);
        }
    }

    fn has_anybody_come_back(&self) -> bool {
        self.seen.iter().enumerate().any(|(seat, &seen)| is_away(seen) && self.turn.sequence(seat) != seen)
    }

    /// The tick of a standby that polls.
    fn look_after_others(&mut self, desk: &mut AtDesk<'t, 'w>) {
        self.ticked_at = desk.work.io.now;
        self.look_at_calls(desk);
        desk.work.send_finished();
        desk.work.flush_records();
        if !desk.has_parked() {
            return;
        }
        if !self.is_any_runnable() {
            self.turn.wake_poller(desk);
        } else if desk.work.has_queued_for(UNFAIR) {
            self.turn.wake_helper(desk);
        }
    }
}
