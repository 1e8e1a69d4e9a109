//! Sleep: whoever goes away while the standby lies down wakes it, and nobody is woken who is awake.

use super::turn::{Turn, is_away};
use loom::thread;
use std::sync::Arc;

/// So many application threads go away, each once, and the standby sleeps until it has seen all of them go. In the
/// worker it lies down only when nobody is away; here it does while somebody is still there, which asks for more: the
/// wake-up of one thread may be late, and must not take away that of the next.
pub fn everybody_who_goes_away_is_seen(threads: usize) {
    let turn = Arc::new(Turn::new((), threads).expect("a turn"));
    let going: Vec<_> = (0..threads)
        .map(|seat| {
            let turn = Arc::clone(&turn);
            thread::spawn(move || turn.go_away(seat))
        })
        .collect();
    loop {
        let seen: Vec<u64> = (0..threads).map(|seat| turn.sequence(seat)).collect();
        if seen.iter().all(|&seen| is_away(seen)) {
            break;
        }
        turn.standby_sleep_until_needed(&seen);
    }
    going.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// A thread whose rest a signal has ended, and that has gone into a call: to make it the poller would be to have none.
pub fn nobody_is_woken_who_is_awake() {
    let turn = Turn::new((), 2).expect("a turn");
    let mut desk = turn.lock();
    desk.park(1);
    desk.unpark(1);
    assert!(!turn.wake_poller(&mut desk), "a thread was woken that is in a call");
}
