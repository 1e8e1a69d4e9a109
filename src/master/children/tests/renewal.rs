//! Stories of workers that are replaced while they serve.

use super::*;
use crate::master::view::Wish;

/// A server of two workers that was asked to reload at 10 s.
fn reloading() -> Story {
    let mut story = Story::serving(PLAN);
    assert_eq!(
        story.reload(10_000, PLAN),
        ["SIGHUP: reloading, generation 2 is starting", "spawn 1 in 2 of 2"],
        "one at a time"
    );
    story
}

#[test]
fn a_reload_replaces_one_worker_after_the_other_when_its_successor_is_ready() {
    let mut story = reloading();
    assert_eq!(story.at(10_400, Event::Tick), NOTHING, "the old one serves until then");
    assert_eq!(story.says(10_500, 2, State::Ready, 0), ["term 101", "spawn 2 in 3 of 2"]);
    assert_eq!(story.ends(10_600, 101, OK), ["vacate 0", "adopt in 1"]);
    assert_eq!(story.says(10_700, 3, State::Ready, 0), ["term 102", "reloaded: generation 2 serves with 2 workers"]);
    assert_eq!(story.ends(10_800, 102, OK), ["vacate 1", "adopt in 2", "retire 1"]);
    assert!(!story.children.is_reloading());
}

/// Addresses that are given up are closed to newcomers while a worker is there that accepts who has come.
#[test]
fn a_generation_is_proven_before_anybody_leaves_for_it() {
    let mut story = reloading();
    let seen = Event::Seen { slot: 2, told: told(State::Ready, 0) };
    let actions = story.children.handle(seen.clone(), story.began + Duration::from_secs(11));
    let place = |wanted: &Action| actions.iter().position(|action| action == wanted);
    let proven = place(&Action::Proven { generation: 2 }).expect("it is proven");
    let leaves = place(&Action::Terminate(Pid::from_raw(101))).expect("the old one is told to leave");
    assert!(proven < leaves, "{actions:?}");
    let again = story.children.handle(seen, story.began + Duration::from_secs(12));
    assert!(!again.iter().any(|action| matches!(action, Action::Proven { .. })), "{again:?}");
}

/// Whoever watches the server would wait for it until the next reload.
#[test]
fn a_reload_ends_when_no_worker_is_wanted() {
    let mut story = reloading();
    assert!(story.children.is_reloading());
    story.at(10_400, Event::None(Signal::Winch));
    assert!(!story.children.is_reloading());
}

#[test]
fn a_worker_that_the_operator_wants_replaced_serves_until_its_successor_does() {
    let mut story = Story::serving(PLAN);
    assert_eq!(
        story.at(1000, Event::Wished(Wish::Recycle(Pid::from_raw(102)))),
        ["worker 2 (pid 102) is to be replaced, as minicorn ctl has asked: starting its successor", "spawn 2 in 2"]
    );
    assert_eq!(story.says(1500, 2, State::Ready, 0), ["term 102"]);
    assert_eq!(story.ends(1600, 102, OK), ["vacate 1", "adopt in 0"]);
}

#[test]
fn the_operator_says_how_many_workers() {
    let mut story = Story::serving(PLAN);
    assert_eq!(
        story.at(1000, Event::Wished(Wish::Workers(3)))[..2],
        ["minicorn ctl: 3 workers from now on", "spawn 3 in 2"]
    );
    assert_eq!(story.at(1100, Event::Wished(Wish::Workers(1)))[0], "minicorn ctl: 1 worker from now on");
    assert_eq!(story.at(1200, Event::Wished(Wish::Workers(1))), NOTHING);
}

#[test]
fn the_operator_waits_for_nobody() {
    let mut story = Story::serving(PLAN);
    let told = story.at(1000, Event::Wished(Wish::StopAtOnce));
    assert_eq!(told[..2], ["minicorn ctl: stopping 2 workers", "stopping"]);
    assert_eq!(told[told.len() - 2..], ["kill 101", "kill 102"]);
    assert!(told.iter().any(|action| action.starts_with("minicorn ctl: at once: killing 2 workers")), "{told:?}");
}

#[test]
fn an_old_worker_that_does_not_finish_holds_up_nobody() {
    let mut story = reloading();
    story.says(10_500, 2, State::Ready, 0);
    story.says(10_700, 3, State::Ready, 0);
    assert_eq!(
        story.at(15_500, Event::Tick),
        ["not finished after 5 s: killing 1 worker, cutting the requests in flight: worker 1 (pid 101)", "kill 101"]
    );
}

#[test]
fn a_generation_whose_first_worker_does_not_start_is_given_up() {
    let mut story = reloading();
    assert_eq!(
        story.ends(10_500, 103, CANNOT_LOAD),
        [
            "vacate 2",
            "worker 1 (pid 103) exited with status 4 while starting",
            "generation 2 is given up, its first worker did not start: generation 1 goes on serving",
            "adopt in 0",
            "retire 2"
        ]
    );
    assert_eq!(story.at(60_000, Event::Tick), NOTHING, "nobody tries again");
    // A worker that ends now is replaced by one of the old configuration, and the next reload is the third.
    assert_eq!(story.ends(61_000, 101, SEGV)[2..], ["spawn 1 in 0", "adopt in 1"]);
    story.says(61_500, 0, State::Ready, 0);
    assert_eq!(story.reload(62_000, PLAN)[1..], ["spawn 1 in 2 of 3"]);
}

#[test]
fn a_first_worker_that_hangs_ends_its_generation_too() {
    let mut story = reloading();
    assert_eq!(
        story.at(70_000, Event::Tick),
        ["worker 1 (pid 103): not ready after 60 s, stopping the worker", "abort 103"]
    );
    let told = story.ends(70_100, 103, SEGV);
    assert!(told.iter().any(|action| action.starts_with("generation 2 is given up")), "{told:?}");
}

#[test]
fn a_generation_that_has_started_once_is_not_given_up() {
    let mut story = reloading();
    story.says(10_500, 2, State::Ready, 0);
    assert_eq!(
        story.ends(10_900, 104, CANNOT_LOAD)[1],
        "worker 2 (pid 104) exited with status 4 while starting, starting another"
    );
    assert_eq!(
        story.ends(11_000, story.last_pid, CANNOT_LOAD)[1],
        "worker 2 (pid 105) exited with status 4 while starting, starting another in 0.1 s"
    );
    assert_eq!(story.at(11_100, Event::Tick), ["spawn 2 in 3 of 2"]);
    assert_eq!(story.says(11_200, 3, State::Ready, 0)[0], "term 102");
}

#[test]
fn a_worker_that_ends_during_a_reload_is_replaced_by_its_successor_that_is_starting() {
    let mut story = reloading();
    assert_eq!(
        story.ends(10_300, 101, SEGV),
        ["vacate 0", "worker 1 (pid 101) killed by SIGSEGV, its successor is starting", "adopt in 1"]
    );
    assert_eq!(story.says(10_500, 2, State::Ready, 0), ["spawn 2 in 0 of 2"]);
}

#[test]
fn another_worker_that_ends_during_a_reload_gets_a_successor_that_is_known_to_start() {
    let mut story = reloading();
    assert_eq!(story.ends(10_300, 102, SEGV)[2..], ["spawn 2 in 1", "adopt in 0"]);
    story.says(10_400, 2, State::Ready, 0);
    assert_eq!(story.says(10_500, 1, State::Ready, 0), ["spawn 2 in 3 of 2"], "and is replaced in its turn");
}

#[test]
fn when_nobody_serves_the_new_generation_is_tried_at_once() {
    let mut story = Story::serving(Plan { workers: 1, ..PLAN });
    for pid in 101..106 {
        story.ends(20_000, pid, CANNOT_LOAD);
        story.at(30_000, Event::Tick);
    }
    story.ends(40_000, 106, CANNOT_LOAD);
    assert_eq!(story.deadline(), Some(41_600));
    assert_eq!(story.reload(40_500, Plan { workers: 1, ..PLAN })[1..], ["spawn 1 in 0 of 2"], "without the pause");
    assert_eq!(
        story.says(40_900, 0, State::Ready, 0),
        ["adopt in 0", "reloaded: generation 2 serves with 1 worker", "retire 1"]
    );
}

#[test]
fn a_reload_in_the_middle_of_another_goes_on_from_where_that_was() {
    let mut story = reloading();
    // What is starting is newer than what it replaces, and becomes old only then.
    assert_eq!(story.reload(10_200, PLAN), ["SIGHUP: reloading, generation 3 is starting"]);
    assert_eq!(story.says(10_500, 2, State::Ready, 0), ["term 101", "spawn 2 in 3 of 3"]);
    story.ends(10_600, 101, OK);
    assert_eq!(story.says(10_700, 3, State::Ready, 0), ["term 102", "spawn 1 in 0 of 3"]);
    story.ends(10_800, 102, OK);
    assert_eq!(story.says(10_900, 0, State::Ready, 0), ["term 103", "reloaded: generation 3 serves with 2 workers"]);
}

#[test]
fn when_the_second_of_two_reloads_fails_the_first_is_finished() {
    let mut story = reloading();
    story.reload(10_200, PLAN);
    story.says(10_500, 2, State::Ready, 0);
    let told = story.ends(10_700, 104, CANNOT_LOAD);
    assert!(
        told.contains(&"generation 3 is given up, its first worker did not start: generation 2 goes on serving".into())
    );
    assert!(told.contains(&"spawn 2 in 3 of 2".into()), "{told:?}");
}

#[test]
fn reloads_that_come_faster_than_workers_start_reach_every_worker_all_the_same() {
    let mut story = Story::serving(PLAN);
    let mut time = 10_000;
    for _ in 0..6 {
        story.reload(time, PLAN);
        time += 250;
        let starting = story.children.living.iter().find(|child| matches!(child.phase, Phase::Starting { .. }));
        let slot = starting.expect("somebody is always on the way").slot;
        for told in story.says(time, slot, State::Ready, 0) {
            if let Some(pid) = told.strip_prefix("term ") {
                story.ends(time, pid.parse().expect("a number"), OK);
            }
        }
    }
    let generations = story.children.living.iter().map(|child| child.generation);
    assert!(generations.min() > Some(3), "{story:?}", story = story.children.living);
}

#[test]
fn a_reload_may_change_the_number_of_workers() {
    let mut story = Story::serving(PLAN);
    assert_eq!(
        story.reload(10_000, Plan { workers: 1, ..PLAN }),
        ["SIGHUP: reloading, generation 2 is starting", "term 102", "spawn 1 in 2 of 2"]
    );
    story.ends(10_100, 102, OK);
    story.says(10_200, 2, State::Ready, 0);
    story.ends(10_300, 101, OK);
    let told = story.reload(20_000, Plan { workers: 3, ..PLAN });
    assert_eq!(told[1..], ["spawn 1 in 0 of 3", "spawn 2 in 1 of 2", "spawn 3 in 3 of 2"], "{told:?}");
}

#[test]
fn a_stop_during_a_reload_starts_nobody_any_more() {
    let mut story = reloading();
    assert_eq!(
        story.at(10_200, Event::StopAsked(Signal::Term)),
        ["SIGTERM: stopping 3 workers", "stopping", "term 101", "term 102", "term 103"]
    );
    for pid in [101, 102, 103] {
        let told = story.ends(10_300, pid, OK);
        assert!(!told.iter().any(|action| action.starts_with("spawn")), "{told:?}");
    }
}

#[test]
fn a_generation_that_is_given_up_leaves_no_trace() {
    let mut story = Story::serving(PLAN);
    story.reload(10_000, Plan { workers: 1, timeout: Duration::ZERO, ..PLAN });
    let told = story.ends(10_500, 103, CANNOT_LOAD);
    assert!(told.contains(&"spawn 2 in 2".into()), "{told:?}");
    assert_eq!(story.children.wanted(), 2);
    assert_eq!(story.children.plan().timeout, PLAN.timeout);
}

#[test]
fn a_generation_that_is_given_up_where_nobody_served_has_no_worker_left() {
    let mut story = Story::serving(PLAN);
    story.at(1000, Event::None(Signal::Winch));
    story.ends(1100, 101, OK);
    story.ends(1200, 102, OK);
    story.reload(2000, PLAN);
    let told = story.ends(2500, 103, CANNOT_LOAD);
    assert!(told.contains(&"term 104".into()), "{told:?}");
    story.says(2600, 1, State::Ready, 0);
    let current = story.children.living.iter().filter(|child| child.generation == 1).count();
    assert_eq!((current, story.children.proven), (2, 1), "{:?}", story.children.living);
}

#[test]
fn a_worker_that_is_too_old_while_a_generation_is_tried_wakes_nobody() {
    let lifetime = Duration::from_secs(60);
    let plan = Plan { timeout: Duration::ZERO, max_worker_lifetime: lifetime, boot_timeout: Duration::ZERO, ..PLAN };
    let mut story = Story::serving(plan);
    story.ends(1000, 101, SEGV);
    story.ends(1000, 102, SEGV);
    // Nobody serves, so that the next one to be forked is of the new generation; the other becomes ready beside it.
    story.ends(1000, 103, SEGV);
    story.reload(1050, plan);
    let slot = story.children.living.iter().find(|child| child.generation == 1).expect("an old one").slot;
    story.says(1100, slot, State::Ready, 0);
    assert_eq!(story.at(61_200, Event::Tick), NOTHING);
    assert_eq!(story.deadline(), None);
}

// More workers, and fewer.

#[test]
fn one_more_and_one_less() {
    let mut story = Story::serving(PLAN);
    assert_eq!(story.at(1000, Event::More(Signal::Ttin)), ["SIGTTIN: 3 workers from now on", "spawn 3 in 2"]);
    assert_eq!(
        story.at(2000, Event::More(Signal::Ttin)),
        ["SIGTTIN: it stays at 3 workers, there is no room for more until a restart"],
        "a slot is left for replacements"
    );
    story.says(2500, 2, State::Ready, 0);
    assert_eq!(story.at(3000, Event::Fewer(Signal::Ttou)), ["SIGTTOU: 2 workers from now on", "term 103"]);
    assert_eq!(story.ends(3100, 103, OK), ["vacate 2", "adopt in 0"]);
    assert_eq!(story.at(4000, Event::Fewer(Signal::Ttou)), ["SIGTTOU: 1 worker from now on", "term 102"]);
    assert_eq!(story.at(5000, Event::Fewer(Signal::Ttou)), ["SIGTTOU: the last worker stays"]);
}

#[test]
fn a_worker_that_was_one_too_many_takes_its_successor_with_it() {
    let mut story = Story::serving(PLAN);
    story.reload(10_000, PLAN);
    story.says(10_100, 2, State::Ready, 0);
    assert_eq!(
        story.at(10_200, Event::Fewer(Signal::Ttou)),
        ["SIGTTOU: 1 worker from now on", "term 102", "term 104", "reloaded: generation 2 serves with 1 worker"]
    );
}

#[test]
fn none_until_the_next_reload() {
    let mut story = Story::serving(PLAN);
    assert_eq!(story.at(1000, Event::None(Signal::Winch)), ["SIGWINCH: 0 workers from now on", "term 102", "term 101"]);
    story.ends(1100, 101, OK);
    assert_eq!(story.ends(1200, 102, OK), ["vacate 1"], "the master stays");
    assert_eq!(
        story.reload(9000, PLAN),
        ["SIGHUP: reloading, generation 2 is starting", "spawn 1 in 0 of 2", "spawn 2 in 1 of 2"]
    );
}

// Recycling.

#[test]
fn a_spent_worker_is_replaced_when_its_successor_is_ready_and_one_at_a_time() {
    let mut story = Story::serving(PLAN);
    story.slots[0].is_spent = true;
    story.slots[1].is_spent = true;
    assert_eq!(
        story.at(1000, Event::Tick),
        ["worker 1 (pid 101) has answered --max-requests: starting its successor", "spawn 1 in 2"]
    );
    assert_eq!(story.at(1100, Event::Tick), NOTHING);
    assert_eq!(
        story.says(1200, 2, State::Ready, 0),
        ["term 101", "worker 2 (pid 102) has answered --max-requests: starting its successor", "spawn 2 in 3"]
    );
    assert_eq!(story.ends(1300, 101, OK), ["vacate 0", "adopt in 1"]);
    assert_eq!(story.says(1400, 3, State::Ready, 0), ["term 102"]);
}

#[test]
fn a_successor_that_does_not_start_is_tried_again_with_pauses_while_the_old_one_serves() {
    let mut story = Story::serving(PLAN);
    story.slots[0].is_spent = true;
    story.at(1000, Event::Tick);
    assert_eq!(
        story.ends(1100, 103, CANNOT_BOOT)[1],
        "worker 1 (pid 103) exited with status 3 while starting, starting another"
    );
    let told = story.ends(1200, 104, CANNOT_BOOT);
    assert_eq!(
        told[1..],
        ["worker 1 (pid 104) exited with status 3 while starting, starting another in 0.1 s", "adopt in 0"]
    );
    assert_eq!(story.at(1299, Event::Tick), NOTHING);
    assert_eq!(story.at(1300, Event::Tick), ["spawn 1 in 2"]);
}

#[test]
fn old_workers_are_replaced_one_after_the_other() {
    let lifetime = Duration::from_secs(3600);
    let mut story = Story::serving(Plan { timeout: Duration::ZERO, max_worker_lifetime: lifetime, ..PLAN });
    assert_eq!(story.deadline(), Some(3_600_000));
    assert_eq!(
        story.at(3_600_000, Event::Tick),
        ["worker 1 (pid 101) has served for 3600 s: starting its successor", "spawn 1 in 2"]
    );
    assert_eq!(story.deadline(), Some(3_660_000), "the boot timeout, and nothing that is over");
    assert_eq!(
        story.says(3_600_200, 2, State::Ready, 0)[1..],
        ["worker 2 (pid 102) has served for 3600 s: starting its successor", "spawn 2 in 3"]
    );
}

#[test]
fn a_worker_with_too_much_memory_is_replaced() {
    let mut story = Story::serving(Plan { max_worker_rss: 10 << 20, ..PLAN });
    assert_eq!(story.at(1000, Event::Measured { slot: 1, bytes: 10 << 20 }), NOTHING);
    assert_eq!(
        story.at(2000, Event::Measured { slot: 1, bytes: 11 << 20 }),
        ["worker 2 (pid 102) has 11.0 MiB in RAM, of 10.0: starting its successor", "spawn 2 in 2"]
    );
}

// A delayed stop.

#[test]
fn a_stop_may_be_delayed_and_is_supervised_until_then() {
    let mut story = Story::serving(Plan { shutdown_delay: Duration::from_secs(3), ..PLAN });
    assert_eq!(story.at(1000, Event::StopAsked(Signal::Term)), ["SIGTERM: serving for 3 s more"]);
    assert_eq!(story.ends(2000, 101, SEGV)[2..], ["spawn 1 in 0", "adopt in 1"]);
    story.says(2100, 0, State::Ready, 0);
    assert_eq!(story.at(3999, Event::Tick), NOTHING);
    assert_eq!(story.at(4000, Event::Tick), ["SIGTERM: stopping 2 workers", "stopping", "term 102", "term 103"]);
}

#[test]
fn who_asks_again_or_interrupts_does_not_wait_for_the_delay() {
    let plan = Plan { shutdown_delay: Duration::from_secs(3), ..PLAN };
    let mut story = Story::serving(plan);
    story.at(1000, Event::StopAsked(Signal::Term));
    assert_eq!(story.at(1050, Event::StopAsked(Signal::Term)), NOTHING, "an echo");
    assert_eq!(story.at(1500, Event::StopAsked(Signal::Term))[0], "SIGTERM: stopping 2 workers");
    let mut story = Story::serving(plan);
    assert_eq!(story.at(1000, Event::StopAsked(Signal::Int))[0], "SIGINT: stopping 2 workers");
}
