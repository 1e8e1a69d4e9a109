//! The models, and for each rule the model that fails without it.

use crate::scenario::{Call, Rule, Scenario, Start};
use crate::*;
use Call::{ComputesUntilReceived, ComputesUntilServed, Short, UntilReceived, UntilServed, With};
use loom::model::Builder;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a model with at most so many switches from a thread that could go on. Nearly all races need no more than two.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Checks that a model fails, and how.
#[track_caller]
fn fails(how: &str, model: impl Fn() + Sync + Send + 'static) {
    let failure = catch_unwind(AssertUnwindSafe(|| check(2, model))).expect_err("the model passes without the rule");
    let text = failure.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| failure.downcast_ref::<&str>().copied()).unwrap_or_default();
    assert!(text.contains(how), "it fails with {text:?} instead of {how:?}");
}

/// All threads wait.
const STUCK: &str = "deadlock";
/// All but the standby do.
const IDLE: &str = "nothing happens any more";
const TWICE: &str = "a request was served twice";
const TWO_POLLERS: &str = "two pollers in one epoch";
const TWO_WAITERS: &str = "somebody waits for events already";
const OUT_OF_TURN: &str = "somebody deals with events out of turn";

fn scenario(threads: usize, calls: &[Call], start: Start) -> Scenario {
    Scenario { threads, calls: calls.to_vec(), hands_on: false, start, without: None }
}

fn handing_on(scenario: Scenario) -> Scenario {
    Scenario { hands_on: true, ..scenario }
}

/// A call lasts until somebody has polled.
fn long_call() -> Scenario {
    scenario(1, &[UntilReceived(1), Short], Start::LastLater)
}

/// And two requests wait when it ends.
fn long_call_before_two() -> Scenario {
    scenario(1, &[UntilReceived(1), Short, Short], Start::LastLater)
}

/// A call lasts until the other thread has served a request.
fn call_that_waits() -> Scenario {
    scenario(2, &[UntilServed(1), Short], Start::Arrived)
}

/// The same, but it computes meanwhile.
fn call_that_computes() -> Scenario {
    scenario(2, &[ComputesUntilServed(1), Short], Start::Arrived)
}

/// A call has the GIL until somebody has polled.
fn call_with_gil() -> Scenario {
    handing_on(scenario(2, &[ComputesUntilReceived(1), Short], Start::Arrived))
}

fn short_calls() -> Scenario {
    handing_on(scenario(2, &[Short, Short], Start::Arrived))
}

/// A thread of the application has the GIL when a request arrives.
fn gil_is_taken() -> Scenario {
    scenario(1, &[Short], Start::LastLaterWithoutGil)
}

/// The thread that serves what is queued finds another request behind it, while the other thread polls.
fn pipelined_in_queue() -> Scenario {
    scenario(2, &[With(1), Short], Start::FirstQueued)
}

/// Nobody has anything to do for the second thread.
fn idle_thread() -> Scenario {
    scenario(2, &[Short], Start::Arrived)
}

#[test]
fn no_wake_up_of_the_standby_is_lost() {
    check(3, || sleep::everybody_who_goes_away_is_seen(1));
    check(3, || sleep::everybody_who_goes_away_is_seen(2));
    check(3, sleep::nobody_is_woken_who_is_awake);
}

fn passes(preemptions: usize, scenario: Scenario) {
    check(preemptions, move || world::every_request_is_served_once(&scenario));
}

#[test]
fn one_thread_and_the_standby() {
    passes(2, long_call());
    passes(2, scenario(1, &[ComputesUntilReceived(1), Short], Start::LastLater));
    passes(2, scenario(1, &[Short, Short], Start::LastLater));
    passes(2, long_call_before_two());
    passes(2, gil_is_taken());
}

#[test]
fn two_threads_whose_calls_wait() {
    passes(2, call_that_waits());
    passes(2, handing_on(call_that_waits()));
    passes(2, scenario(2, &[UntilServed(2), With(2), Short], Start::Arrived));
}

#[test]
fn two_threads_whose_calls_compute() {
    passes(2, call_that_computes());
    passes(2, handing_on(call_that_computes()));
    passes(2, call_with_gil());
}

#[test]
fn two_threads_whose_calls_are_short() {
    passes(2, short_calls());
    passes(2, idle_thread());
    passes(2, pipelined_in_queue());
}

/// Both threads are in calls, and only the standby can bring what ends them.
#[test]
fn two_threads_that_are_both_in_calls() {
    // With two switches it takes a minute.
    passes(1, handing_on(scenario(2, &[UntilReceived(2), UntilReceived(2), Short], Start::Arrived)));
}

/// Each of these has one rule of `turn.rs` less, or turned around: see `build.rs`.
macro_rules! mutants_fail {
    ($($mutant:ident: $how:ident, $model:ident($argument:expr);)*) => {
        mod without {
            use super::*;
            $(#[test] fn $mutant() { mutants_fail!(@ $mutant, $how, $model, $argument); })*
        }
    };
    (@ $mutant:ident, $how:ident, sleep, $threads:expr) => {
        fails($how, || crate::$mutant::sleep::everybody_who_goes_away_is_seen($threads))
    };
    (@ $mutant:ident, $how:ident, world, $scenario:expr) => {{
        let scenario = $scenario;
        fails($how, move || crate::$mutant::world::every_request_is_served_once(&scenario))
    }};
}

mutants_fail! {
    no_fence_in_go_away: STUCK, sleep(1);
    no_fence_in_sleep: STUCK, sleep(1);
    sleeps_without_a_look: STUCK, sleep(1);
    looks_before_it_says_so: STUCK, sleep(1);
    wakes_nobody: STUCK, sleep(1);
    rings_before_it_says_so: STUCK, sleep(2);
    forgetful_bell: STUCK, sleep(1);
    same_epoch: TWO_POLLERS, world(long_call());
    take_without_turn: TWO_POLLERS, world(long_call());
    take_from_anybody: TWO_WAITERS, world(short_calls());
    never_takes_over: IDLE, world(long_call());
    parks_unnoted: IDLE, world(call_that_waits());
    wakes_poller_without_bell: IDLE, world(call_that_waits());
    wakes_helper_without_bell: IDLE, world(call_that_computes());
    ends_without_bells: STUCK, world(idle_thread());
}

#[test]
fn without_stays_parked() {
    fails("a thread was woken that is in a call", stays_parked::sleep::nobody_is_woken_who_is_awake);
}

/// The model with one rule of its callers less.
#[track_caller]
fn fails_without(rule: Rule, how: &str, scenario: Scenario) {
    let scenario = Scenario { without: Some(rule), ..scenario };
    fails(how, move || world::every_request_is_served_once(&scenario));
}

#[test]
fn without_a_look_at_the_epoch() {
    fails_without(Rule::EpochAfterCall, OUT_OF_TURN, short_calls());
    fails_without(Rule::EpochAfterWait, OUT_OF_TURN, long_call());
    fails_without(Rule::EpochOfStandby, OUT_OF_TURN, long_call());
}

/// The epoch sees to it that one thread at a time deals with events, and what is received at the desk that each request
/// is served once. Either of them alone would do for the latter; but an event is a hint in any case, since its
/// connection may have been closed by an earlier event of the same batch.
#[test]
fn served_once_by_epoch_or_by_receiving() {
    passes(2, Scenario { without: Some(Rule::Receive), ..call_that_waits() });
    passes(2, Scenario { without: Some(Rule::Receive), ..long_call_before_two() });
    fails_without(Rule::EpochAndReceive, TWICE, call_that_waits());
    fails_without(Rule::EpochAndReceive, TWICE, long_call_before_two());
}

#[test]
fn without_a_look_at_the_queue() {
    fails_without(Rule::QueueBeforePoll, STUCK, long_call_before_two());
    fails_without(Rule::QueueBeforePark, STUCK, pipelined_in_queue());
}

#[test]
fn waiting_for_the_gil_unseen() {
    fails_without(Rule::AwayForGil, STUCK, gil_is_taken());
    fails_without(Rule::AwayForGilAfterRest, IDLE, call_with_gil());
}

#[test]
fn waiting_for_the_gil_at_the_desk() {
    fails_without(Rule::GilBeforeDesk, STUCK, call_that_waits());
}

#[test]
fn an_end_that_does_not_wake_the_poller() {
    fails_without(Rule::EndWakesPoller, STUCK, call_that_waits());
}
