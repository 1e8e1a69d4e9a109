//! What is told is read as it was told; nobody is missed, whoever comes first.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::sys::process::Pid;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

fn board_of_ready(slots: u32) -> Scoreboard {
    let board = Scoreboard::new(slots).unwrap();
    for index in 0..slots {
        board.slot(index).prepare();
        board.slot(index).set_state(State::Ready);
    }
    board
}

#[test]
fn a_slot_tells_what_its_worker_told() {
    let board = Scoreboard::new(2).unwrap();
    let slot = board.slot(1);
    slot.prepare();
    slot.assign(Pid::from_raw(4242));
    for state in [State::Starting, State::Ready, State::Draining, State::Condemned, State::Empty] {
        slot.set_state(state);
        assert_eq!(slot.state(), state);
    }
    slot.beat_busy();
    slot.beat_busy();
    slot.count_request();
    slot.set_connections(3);
    slot.set_queued(5);
    assert_eq!((slot.pid(), slot.sequence(), slot.requests(), slot.connections()), (4242, 3, 1, 3));
    assert_eq!(slot.queued(), 5);
}

#[test]
fn only_who_is_awaited_is_announced() {
    let board = Scoreboard::new(1).unwrap();
    let (slot, [one, other]) = (board.slot(0), [4242, 4243].map(Pid::from_raw));
    let first = slot.prepare();
    slot.revoke();
    assert!(!slot.announce(first, one), "its template is gone");
    slot.announce_fork_error(first, &io::ErrorKind::OutOfMemory.into());
    assert_eq!((slot.pid(), slot.fork_error()), (0, None));
    let second = slot.prepare();
    assert!(!slot.announce(first, one), "somebody else is to have the slot");
    assert!(slot.announce(second, other) && slot.announce(second, other));
    slot.revoke();
    assert_eq!((slot.pid(), slot.fork_error()), (4243, None), "who is there stays");
    let third = slot.prepare();
    slot.announce_fork_error(third, &io::Error::from_raw_os_error(11));
    assert_eq!((slot.pid(), slot.fork_error()), (0, Some(11)));
}

#[test]
fn slots_are_apart() {
    let board = Scoreboard::new(2).unwrap();
    let (one, other) = (board.slot(0), board.slot(1));
    one.beat_busy();
    one.set_state(State::Ready);
    one.set_idle();
    one.set_queued(1);
    one.set_connections(1);
    one.note_sent();
    assert_eq!(board.slots(), 2);
    assert_eq!((other.sequence(), other.state(), other.is_idle()), (0, State::Empty, false));
    assert_eq!((other.queued(), other.load()), (0, 0));
}

#[test]
fn a_prepared_slot_remembers_nothing_but_its_inbox() {
    let board = Scoreboard::new(1).unwrap();
    let slot = board.slot(0);
    slot.assign(Pid::from_raw(1));
    slot.beat_busy();
    slot.count_request();
    slot.set_connections(9);
    slot.set_queued(2);
    slot.set_idle();
    slot.note_sent();
    slot.vacate();
    slot.prepare();
    assert_eq!(slot.state(), State::Starting);
    assert_eq!((slot.pid(), slot.sequence(), slot.requests(), slot.connections()), (0, 0, 0, 0));
    assert_eq!((slot.queued(), slot.is_idle()), (0, false));
    assert_eq!(slot.load(), 1, "what was sent is still in the inbox");
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

#[test]
fn heartbeats_are_odd_in_a_call_and_never_the_same_twice() {
    let board = Scoreboard::new(1).unwrap();
    let slot = board.slot(0);
    let mut beats = Vec::new();
    for beat in [Slot::beat_busy, Slot::beat_busy, Slot::beat_idle, Slot::beat_idle, Slot::beat_busy, Slot::beat_idle] {
        beat(slot);
        beats.push(slot.sequence());
    }
    assert_eq!(beats, [1, 3, 4, 6, 7, 8]);
}

// Who could take a request.

#[test]
fn only_an_idle_worker_can_be_reserved_and_only_once() {
    let board = board_of_ready(1);
    let slot = board.slot(0);
    assert!(!slot.try_reserve(), "a worker that has not said that it is idle");
    slot.set_idle();
    assert!(slot.try_reserve());
    assert!(!slot.try_reserve());
    assert!(!slot.is_idle());
    slot.release();
    assert!(slot.try_reserve());
    slot.set_busy();
    slot.release();
    assert!(!slot.try_reserve(), "a reservation that was given back too late freed a busy worker");
}

#[test]
fn an_idle_sibling_is_ready_is_another_and_is_searched_for_behind_oneself() {
    let board = board_of_ready(4);
    assert_eq!(board.idle_sibling(1), None);
    for index in 0..4 {
        board.slot(index).set_idle();
    }
    board.slot(3).set_state(State::Draining);
    assert_eq!(board.idle_sibling(1), Some(2));
    assert_eq!(board.idle_sibling(1), Some(0));
    assert_eq!(board.idle_sibling(1), None, "one is draining, one asks, two are reserved");
    assert_eq!(board.idle_sibling(2), Some(1));
}

#[test]
fn the_best_sibling_has_the_fewest_connections_and_an_idle_one_comes_first() {
    let board = board_of_ready(4);
    for (index, connections) in [(0, 5), (1, 2), (2, 2), (3, 0)] {
        board.slot(index).set_connections(connections);
    }
    assert_eq!(board.best_sibling(0), Some(3));
    board.slot(3).set_state(State::Condemned);
    assert_eq!(board.best_sibling(0), Some(1));
    assert_eq!(board.best_sibling(1), Some(2), "oneself is no sibling");
    board.slot(2).set_idle();
    assert_eq!(board.best_sibling(0), Some(2));
    board.slot(2).note_sent();
    assert_eq!(board.best_sibling(0), Some(1), "what is under way counts");
    board.slot(2).note_taken();
    assert_eq!(board.best_sibling(0), Some(2));
    assert_eq!(board_of_ready(1).best_sibling(0), None);
}

#[test]
fn a_load_is_never_below_what_is_open() {
    let board = board_of_ready(1);
    let slot = board.slot(0);
    slot.set_connections(3);
    slot.note_taken();
    assert_eq!(slot.load(), 3, "one was taken whose sender died before it was counted");
    slot.note_sent();
    slot.note_sent();
    assert_eq!(slot.load(), 4);
}

#[test]
fn empty_slots_are_those_without_a_worker() {
    let board = board_of_ready(3);
    board.slot(1).vacate();
    assert_eq!(board.empty_slots().collect::<Vec<_>>(), [1]);
    board.slot(1).prepare();
    assert_eq!(board.empty_slots().count(), 0);
}

// Queues.

/// Slots on both sides of the borders between words and between lines.
#[test]
fn a_queue_is_found_whatever_its_slot() {
    const SLOTS: u32 = 2 * SLOTS_PER_LINE + 1;
    let board = Scoreboard::new(SLOTS).unwrap();
    for index in [0, 1, 63, 64, SLOTS_PER_LINE - 1, SLOTS_PER_LINE, SLOTS - 1] {
        assert!(!board.has_queues());
        board.slot(index).set_queued(2);
        board.slot(index).set_queued(1);
        assert!(board.has_queues(), "slot {index}");
        assert_eq!(board.first_with_queue(5), Some(index));
        assert_eq!(board.first_with_queue(index), None);
        board.slot(index).set_queued(0);
    }
    let last_line = &board.lines[1 + (SLOTS / SLOTS_PER_LINE) as usize];
    assert!(std::ptr::eq(board.queue_bit(SLOTS - 1).0, &raw const last_line.0[0]));
    assert!(!std::ptr::eq(board.slot(0).pid, &raw const last_line.0[0]));
}

#[test]
fn queues_are_searched_in_a_circle() {
    let board = board_of_ready(5);
    for index in [0, 1, 3] {
        board.slot(index).set_queued(1);
    }
    let found = (0..5).map(|except| board.first_with_queue(except).unwrap()).collect::<Vec<_>>();
    assert_eq!(found, [1, 3, 3, 0, 0]);
}

#[test]
fn nobody_waits_for_the_queue_of_a_worker_that_is_gone() {
    let board = board_of_ready(2);
    board.slot(0).set_queued(3);
    board.slot(0).vacate();
    assert!(!board.has_queues());
    board.slot(0).prepare();
    board.slot(0).set_queued(1);
    assert!(board.has_queues(), "the successor's queue is not reported");
}

/// Both sides at once, again and again: a worker that queues and one that becomes idle must not miss each other.
/// Without the fence of the second this fails in a few of the rounds on x86, which lets a load pass an earlier store;
/// that of the first is there for other processors.
#[test]
fn of_a_worker_that_queues_and_one_that_idles_one_sees_the_other() {
    const ROUNDS: usize = 60_000;
    let board = board_of_ready(2);
    let seen_queue: Vec<AtomicU64> = (0..ROUNDS).map(|_| AtomicU64::new(0)).collect();
    let round = AtomicU64::new(0);
    // A barrier of the standard library sleeps, and its two threads wake up far apart; hence the spinning on a count.
    let meet = |number: usize| {
        round.fetch_add(1, SeqCst);
        for spins in 0_u32.. {
            if round.load(SeqCst) >= 2 * (number as u64 + 1) {
                return;
            }
            if spins < 1000 { std::hint::spin_loop() } else { thread::yield_now() }
        }
    };
    let missed = thread::scope(|scope| {
        let idler = scope.spawn(|| {
            for (number, seen) in seen_queue.iter().enumerate() {
                board.slot(1).set_busy();
                meet(2 * number);
                board.slot(1).set_idle();
                seen.store(board.has_queues().into(), Relaxed);
                meet(2 * number + 1);
            }
        });
        let mut found_idle = Vec::new();
        for number in 0..ROUNDS {
            board.slot(0).set_queued(0);
            meet(2 * number);
            board.slot(0).set_queued(1);
            found_idle.push(board.idle_sibling(0).is_some());
            meet(2 * number + 1);
        }
        idler.join().unwrap();
        let both = found_idle.iter().zip(&seen_queue);
        both.filter(|(found, seen)| !**found && seen.load(Relaxed) == 0).count()
    });
    assert_eq!(missed, 0, "in {ROUNDS} rounds");
}

#[test]
fn each_generation_asks_for_one_reload() {
    let board = Scoreboard::new(1).unwrap();
    assert_eq!(board.reload_asked_by(), 0);
    assert!(board.ask_for_reload(1));
    assert!(!board.ask_for_reload(1));
    assert!(board.ask_for_reload(2));
    // A worker that is late.
    assert!(!board.ask_for_reload(1));
    assert_eq!(board.reload_asked_by(), 2);
}

#[test]
fn each_generation_tells_once_why_its_application_is_not_there() {
    let board = board_of_ready(2);
    assert!(board.claim_failure_report(1));
    board.slot(0).set_state(State::Ready);
    assert!(!board.claim_failure_report(1));
    assert!(board.claim_failure_report(2));
}
