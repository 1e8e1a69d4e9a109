//! A worker without sockets and Python: its threads, as `app_thread.rs` and `standby.rs` have them, around the real
//! `Turn`. Every request is to be served exactly once, and there is one poller in an epoch.

use super::sync::{Mutex, MutexGuard};
use super::turn::{Desk, Poller, Turn, is_away};
use crate::kernel::{Gil, Progress, Source};
use crate::scenario::{Call, Rule, Scenario, Start};
use loom::thread;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The standby does nothing for so long only if nobody else can do anything.
const IDLE_LOOKS_MAX: u32 = 60;

struct World {
    scenario: Scenario,
    turn: Turn<Work>,
    source: Source,
    progress: Progress,
    gil: Mutex<()>,
}

/// What is at the desk.
#[derive(Debug)]
struct Work {
    /// Requests that wait for an application thread.
    queue: VecDeque<usize>,
    /// How often each request has been served.
    served: Vec<u32>,
    /// Who has polled in each epoch.
    pollers: Vec<Option<Poller>>,
    /// The sequence number with which each application thread has begun to wait for events; it goes away afterwards.
    waits: Vec<Option<u64>>,
}

/// As in `standby.rs`.
enum Ticked {
    Idle,
    Busy,
    Turn,
}

type AtDesk<'t> = MutexGuard<'t, Desk<Work>>;

/// The model: ends when all threads have, or fails.
pub fn every_request_is_served_once(scenario: &Scenario) {
    let world = Arc::new(World::new(scenario.clone()));
    // The main thread has had the GIL since Python was started.
    let gil = world.gil();
    let spawn = |run: fn(&World, usize), seat| {
        let world = Arc::clone(&world);
        thread::spawn(move || run(&world, seat))
    };
    let run = |world: &World, seat: usize| world.serve_requests(seat, world.gil());
    let mut threads: Vec<_> = (1..scenario.threads).map(|seat| spawn(run, seat)).collect();
    threads.push(spawn(|world, _| world.stand_by(), 0));
    if matches!(scenario.start, Start::LastLater | Start::LastLaterWithoutGil) {
        threads.push(spawn(|world, _| world.bring_last(), 0));
    }
    world.serve_requests(0, gil);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert!(world.turn.lock().work.served.iter().all(|&times| times == 1), "a request was lost");
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let requests = scenario.calls.len();
        let is_behind = |request| scenario.calls.contains(&Call::With(request));
        let mut ready: Vec<usize> = (0..requests).filter(|&request| !is_behind(request)).collect();
        let mut queue = VecDeque::new();
        match scenario.start {
            Start::Arrived => {}
            Start::LastLater | Start::LastLaterWithoutGil => ready.truncate(ready.len() - 1),
            Start::FirstQueued => queue.push_back(ready.remove(0)),
        }
        let work = Work { queue, served: vec![0; requests], pollers: Vec::new(), waits: vec![None; scenario.threads] };
        let turn = Turn::new(work, scenario.threads).expect("a turn");
        turn.set_hands_on(scenario.hands_on);
        let (source, progress) = (Source::new(ready), Progress::new(requests));
        Self { scenario, turn, source, progress, gil: Mutex::new(()) }
    }

    fn bring_last(&self) {
        let last = self.scenario.calls.len() - 1;
        match self.scenario.start {
            Start::Arrived | Start::FirstQueued => {}
            Start::LastLater => self.source.bring(last),
            Start::LastLaterWithoutGil => {
                let _gil = self.gil();
                self.source.bring(last);
                self.progress.wait_until_received(last);
            }
        }
    }
}

/// An application thread. Each function is that of the same name in `app_thread.rs`, and `serve_requests` is `run`.
impl World {
    fn serve_requests<'t>(&'t self, seat: usize, mut gil: Gil<'t>) {
        let mut desk = self.turn.lock();
        while !desk.is_over() {
            // Not all of the queue at once: `work_off` stops when it has taken long.
            if let Some(request) = desk.work.queue.pop_front() {
                (desk, gil) = self.serve(desk, gil, seat, request);
            }
            if self.turn.take(&mut desk, seat) {
                (desk, gil) = self.poll(desk, gil, seat);
            } else if (desk.work.queue.is_empty() || self.lacks(Rule::QueueBeforePark)) && !desk.is_over() {
                (desk, gil) = self.rest(desk, gil, seat);
            }
        }
    }

    fn rest<'t>(&'t self, mut desk: AtDesk<'t>, gil: Gil<'t>, seat: usize) -> (AtDesk<'t>, Gil<'t>) {
        desk.park(seat);
        drop(desk);
        drop(gil);
        self.turn.sleep(seat);
        let (mut desk, gil) = self.get_gil(seat, Rule::AwayForGilAfterRest);
        desk.unpark(seat);
        (desk, gil)
    }

    fn poll<'t>(&'t self, mut desk: AtDesk<'t>, gil: Gil<'t>, seat: usize) -> (AtDesk<'t>, Gil<'t>) {
        if !desk.work.queue.is_empty() && !self.lacks(Rule::QueueBeforePoll) {
            return (desk, gil);
        }
        self.note_poller(&mut desk, Poller::App(seat));
        desk.work.waits[seat] = Some(self.turn.sequence(seat));
        let epoch = desk.epoch();
        drop(desk);
        drop(gil);
        let batch = self.source.wait();
        let (desk, gil) = self.get_gil(seat, Rule::AwayForGil);
        if !self.is_poller(&desk, seat, epoch) && !self.lacks_either(Rule::EpochAfterWait, Rule::EpochAndReceive) {
            return (desk, gil);
        }
        self.batch(desk, gil, seat, batch)
    }

    fn batch<'t>(
        &'t self,
        mut desk: AtDesk<'t>,
        mut gil: Gil<'t>,
        seat: usize,
        batch: Vec<usize>,
    ) -> (AtDesk<'t>, Gil<'t>) {
        let epoch = desk.epoch();
        for request in batch {
            if !self.receive(&mut desk, Poller::App(seat), epoch, request) {
                continue;
            }
            (desk, gil) = self.serve(desk, gil, seat, request);
            if !self.is_poller(&desk, seat, epoch) && !self.lacks_either(Rule::EpochAfterCall, Rule::EpochAndReceive) {
                return (desk, gil);
            }
        }
        (desk, gil)
    }

    fn is_poller(&self, desk: &AtDesk<'_>, seat: usize, epoch: u64) -> bool {
        desk.epoch() == epoch && desk.poller() == Poller::App(seat)
    }

    fn serve<'t>(&'t self, mut desk: AtDesk<'t>, gil: Gil<'t>, seat: usize, request: usize) -> (AtDesk<'t>, Gil<'t>) {
        self.turn.hand_on(&mut desk, seat);
        drop(desk);
        self.turn.go_away(seat);
        let gil = self.call(gil, request);
        self.turn.come_back(seat);
        let mut desk = self.turn.lock();
        desk.work.served[request] += 1;
        assert_eq!(desk.work.served[request], 1, "a request was served twice");
        if let Call::With(next) = self.scenario.calls[request] {
            desk.work.queue.push_back(next);
        }
        self.progress.note_served(request);
        self.end_if_done(&mut desk);
        (desk, gil)
    }

    /// What the application does.
    fn call<'t>(&'t self, gil: Gil<'t>, request: usize) -> Gil<'t> {
        match self.scenario.calls[request] {
            Call::Short => return gil,
            Call::With(_) => drop(gil),
            Call::ComputesUntilReceived(other) => {
                self.progress.wait_until_received(other);
                return gil;
            }
            Call::UntilReceived(other) => {
                drop(gil);
                self.progress.wait_until_received(other);
            }
            Call::UntilServed(other) | Call::ComputesUntilServed(other) => {
                drop(gil);
                self.progress.wait_until_served(other);
            }
        }
        self.gil()
    }

    /// The end of a wait: the GIL, then the desk.
    fn get_gil(&self, seat: usize, rule: Rule) -> (AtDesk<'_>, Gil<'_>) {
        if self.lacks(Rule::GilBeforeDesk) {
            let desk = self.turn.lock();
            return (desk, self.gil());
        }
        if self.lacks(rule) {
            let gil = self.gil();
            return (self.turn.lock(), gil);
        }
        self.turn.go_away(seat);
        let gil = self.gil();
        self.turn.come_back(seat);
        (self.turn.lock(), gil)
    }
}

/// The standby. Each function is that of the same name in `standby.rs`, and `stand_by` is `run`.
impl World {
    fn stand_by(&self) {
        let mut seen = vec![0; self.scenario.threads];
        let mut looks = 0;
        loop {
            let desk = self.turn.lock();
            if desk.is_over() {
                return;
            }
            looks += 1;
            assert!(looks < IDLE_LOOKS_MAX, "nothing happens any more");
            if desk.poller() == Poller::Standby {
                drop(self.poll_for_others(desk));
                continue;
            }
            match self.tick(desk, &mut seen) {
                Ticked::Turn => {}
                Ticked::Busy => self.turn.standby_sleep(Duration::ZERO),
                // The worker's ticks a while before it sleeps, which makes no difference to who sees whom.
                Ticked::Idle => self.turn.standby_sleep_until_needed(&seen),
            }
        }
    }

    fn tick<'t>(&'t self, desk: AtDesk<'t>, seen: &mut [u64]) -> Ticked {
        let mut is_idle = true;
        for (seat, seen) in seen.iter_mut().enumerate() {
            let sequence = self.turn.sequence(seat);
            is_idle &= std::mem::replace(seen, sequence) == sequence && !is_away(sequence);
        }
        let Poller::App(seat) = desk.poller() else { return Ticked::Turn };
        let sequence = self.turn.sequence(seat);
        if !is_away(sequence) {
            return if is_idle { Ticked::Idle } else { Ticked::Busy };
        }
        drop(desk);
        self.turn.standby_sleep(Duration::ZERO);
        let mut desk = self.turn.lock();
        if desk.poller() == Poller::Standby {
            return Ticked::Turn;
        }
        if desk.is_over() || desk.poller() != Poller::App(seat) || self.turn.sequence(seat) != sequence {
            return Ticked::Busy;
        }
        if !(self.are_calls_waiting() && self.turn.wake_poller(&mut desk))
            && self.turn.take_over(&mut desk, seat, sequence)
        {
            return Ticked::Turn;
        }
        Ticked::Busy
    }

    fn poll_for_others<'t>(&'t self, mut desk: AtDesk<'t>) -> AtDesk<'t> {
        let mut epoch = desk.epoch();
        let mut looks = 0;
        self.look_after_others(&mut desk);
        while desk.epoch() == epoch && !desk.is_over() {
            self.note_poller(&mut desk, Poller::Standby);
            drop(desk);
            let batch = self.source.look();
            looks += 1;
            assert!(looks < IDLE_LOOKS_MAX, "nothing happens any more");
            desk = self.turn.lock();
            if self.lacks_either(Rule::EpochOfStandby, Rule::EpochAndReceive) {
                epoch = desk.epoch();
            }
            if desk.epoch() != epoch || desk.is_over() {
                break;
            }
            for request in batch {
                if self.receive(&mut desk, Poller::Standby, epoch, request) {
                    desk.work.queue.push_back(request);
                }
            }
            self.look_after_others(&mut desk);
        }
        desk
    }

    fn look_after_others(&self, desk: &mut AtDesk<'_>) {
        if !desk.has_parked() {
            return;
        }
        if self.are_calls_waiting() {
            self.turn.wake_poller(desk);
        } else if !desk.work.queue.is_empty() {
            self.turn.wake_helper(desk);
        }
    }

    /// What the worker finds out from the states of its threads.
    fn are_calls_waiting(&self) -> bool {
        let computes = |call: &Call| matches!(call, Call::ComputesUntilReceived(_) | Call::ComputesUntilServed(_));
        !self.scenario.calls.iter().any(computes)
    }
}

/// For both.
impl World {
    fn gil(&self) -> Gil<'_> {
        self.gil.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lacks(&self, rule: Rule) -> bool {
        self.scenario.without == Some(rule)
    }

    fn lacks_either(&self, one: Rule, other: Rule) -> bool {
        self.lacks(one) || self.lacks(other)
    }

    /// Deals with an event. Returns whether it has brought its request.
    fn receive(&self, desk: &mut AtDesk<'_>, poller: Poller, epoch: u64, request: usize) -> bool {
        let has_received = self.source.receive(request) || self.lacks_either(Rule::Receive, Rule::EpochAndReceive);
        if has_received {
            if !self.lacks(Rule::EpochAndReceive) {
                assert!(desk.poller() == poller && desk.epoch() == epoch, "somebody deals with events out of turn");
            }
            self.progress.note_received(request);
        }
        has_received
    }

    /// `finish_batch` of `app_thread.rs`.
    fn end_if_done(&self, desk: &mut AtDesk<'_>) {
        if desk.work.served.iter().all(|&times| times > 0) {
            self.turn.end(desk);
            if !self.lacks(Rule::EndWakesPoller) {
                self.source.ring();
            }
        }
    }

    /// Somebody begins to wait for events.
    fn note_poller(&self, desk: &mut AtDesk<'_>, poller: Poller) {
        if self.lacks(Rule::EpochAndReceive) {
            return;
        }
        let epoch = desk.epoch() as usize;
        let work = &mut desk.work;
        if work.pollers.len() <= epoch {
            work.pollers.resize(epoch + 1, None);
        }
        assert!(work.pollers[epoch].is_none_or(|other| other == poller), "two pollers in one epoch");
        work.pollers[epoch] = Some(poller);
        for (seat, wait) in work.waits.iter().enumerate() {
            let is_waiting = poller != Poller::App(seat) && *wait == Some(self.turn.sequence(seat));
            assert!(!is_waiting, "somebody waits for events already");
        }
    }
}
