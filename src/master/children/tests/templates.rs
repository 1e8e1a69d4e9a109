//! Stories of workers that are forked by a template, which has the application imported.

use super::*;

const PRELOAD: Plan = Plan { preload: true, ..PLAN };

/// Slots for two templates more.
const PRELOAD_SLOTS: u32 = SLOTS + 2;

fn begin() -> Story {
    Story::with_slots(PRELOAD, PRELOAD_SLOTS)
}

/// The template is process 101 in slot 0, the workers are 102 and 103 in slots 1 and 2.
fn serving() -> Story {
    let mut story = begin();
    assert_eq!(story.at(0, Event::Tick), ["template 1 in 0"]);
    assert_eq!(story.says(0, 0, State::Template, 0), ["order 1 in 1 from 101", "order 2 in 2 from 101"]);
    for slot in [1, 2] {
        story.forks(0, slot);
        story.says(0, slot, State::Ready, 0);
    }
    story
}

#[test]
fn the_workers_are_ordered_when_the_template_is_ready_and_their_readiness_starts_the_server() {
    let mut story = begin();
    story.at(0, Event::Tick);
    assert_eq!(story.says(500, 0, State::Template, 0).len(), 2);
    assert_eq!(story.forks(600, 1), NOTHING);
    assert_eq!(story.says(700, 1, State::Ready, 0), ["started"]);
}

#[test]
fn a_template_that_cannot_load_the_application_ends_the_server() {
    for (how, end) in [
        (CANNOT_LOAD, ["no worker can load the application, giving up", "exit 4"]),
        (CANNOT_BOOT, ["no worker could start, giving up", "exit 3"]),
    ] {
        let mut story = begin();
        story.at(0, Event::Tick);
        assert_eq!(story.ends(100, 101, how)[1..], end);
    }
}

#[test]
fn a_template_whose_import_hangs_is_aborted() {
    let mut story = begin();
    story.at(0, Event::Tick);
    assert_eq!(
        story.at(60_000, Event::Tick),
        ["template (pid 101): not ready after 60 s, stopping the worker", "abort 101"]
    );
}

#[test]
fn a_worker_that_ends_is_replaced_from_the_template() {
    let mut story = serving();
    assert_eq!(story.ends(60_000, 102, SEGV)[2..], ["order 1 in 1 from 101", "adopt in 2"]);
    assert_eq!(story.deadline(), Some(60_500), "the watch, and no empty seat");
    assert_eq!(story.forks(60_100, 1), NOTHING);
    story.says(60_200, 1, State::Ready, 0);
}

/// The template does what it has been told to before it leaves.
#[test]
fn a_worker_that_was_ordered_before_the_stop_is_stopped_as_well() {
    let mut story = begin();
    story.at(0, Event::Tick);
    story.says(0, 0, State::Template, 0);
    story.forks(0, 1);
    story.says(0, 1, State::Ready, 0);
    story.at(1_000, Event::StopAsked(Signal::Term));
    assert_eq!(story.forks(1_100, 2), ["term 103"]);
}

#[test]
fn a_fork_that_fails_in_the_template_is_tried_again_with_pauses() {
    let mut story = serving();
    story.ends(60_000, 102, SEGV);
    story.can_fork = false;
    assert_eq!(
        story.forks(60_100, 1)[..2],
        ["vacate 1", "worker 1 could not be forked: no, starting another in 0.1 s"]
    );
    assert_eq!(story.at(60_200, Event::Tick), ["order 1 in 1 from 101"]);
}

#[test]
fn a_template_that_dies_is_replaced_and_its_workers_serve_on() {
    let mut story = serving();
    assert_eq!(
        story.ends(60_000, 101, KILLED),
        [
            "vacate 0",
            "template (pid 101) killed by SIGKILL (out of memory?), starting another",
            "template 1 in 0",
            "adopt in 1"
        ]
    );
    story.ends(61_000, 102, SEGV);
    assert_eq!(story.deadline(), Some(61_500), "the watch: a worker cannot be had before the template");
    assert_eq!(story.says(62_000, 0, State::Template, 0), ["order 1 in 1 from 104"]);
}

#[test]
fn what_a_dead_template_has_not_done_is_ordered_from_the_next() {
    let mut story = serving();
    story.ends(60_000, 102, SEGV);
    let told = story.ends(60_100, 101, KILLED);
    assert!(
        told.contains(&"worker 1 could not be forked: its template is gone, starting another in 0.1 s".into()),
        "{told:?}"
    );
    assert_eq!(story.says(61_000, 0, State::Template, 0), ["order 1 in 1 from 104"]);
}

#[test]
fn a_template_that_does_not_fork_is_aborted() {
    let mut story = Story::with_slots(Plan { timeout: Duration::ZERO, ..PRELOAD }, PRELOAD_SLOTS);
    story.at(0, Event::Tick);
    story.says(0, 0, State::Template, 0);
    assert_eq!(story.deadline(), Some(10_000));
    assert_eq!(
        story.at(10_000, Event::Tick),
        ["template (pid 101): does not respond for 10 s, stopping the worker", "abort 101"]
    );
    assert_eq!(story.deadline(), Some(11_000));
    assert_eq!(story.at(11_000, Event::Tick), ["kill 101"]);
}

#[test]
fn a_reload_makes_a_new_template_and_lets_go_of_the_old_one_when_the_new_generation_serves() {
    let mut story = serving();
    assert_eq!(story.reload(10_000, PRELOAD)[1..], ["template 2 in 3"]);
    assert_eq!(story.says(10_500, 3, State::Template, 0), ["order 1 in 4 from 104"]);
    story.forks(10_600, 4);
    assert_eq!(story.says(10_700, 4, State::Ready, 0), ["term 102", "order 2 in 5 from 104", "dismiss 101"]);
    story.ends(10_750, 101, OK);
    story.ends(10_800, 102, OK);
    story.forks(10_900, 5);
    assert_eq!(story.says(11_000, 5, State::Ready, 0), ["term 103", "reloaded: generation 2 serves with 2 workers"]);
    assert_eq!(story.ends(11_100, 103, OK), ["vacate 2", "adopt in 4", "retire 1"]);
}

#[test]
fn a_new_template_that_cannot_load_the_application_changes_nothing() {
    let mut story = serving();
    story.reload(10_000, PRELOAD);
    assert_eq!(
        story.ends(10_500, 104, CANNOT_LOAD)[1..],
        [
            "template (pid 104) exited with status 4 while starting",
            "generation 2 is given up, its first worker did not start: generation 1 goes on serving",
            "adopt in 1",
            "retire 2"
        ]
    );
    assert_eq!(story.ends(11_000, 102, SEGV)[2..], ["order 1 in 1 from 101", "adopt in 2"]);
}

#[test]
fn a_stop_lets_go_of_the_template_and_waits_for_it() {
    let mut story = serving();
    assert_eq!(
        story.at(1000, Event::StopAsked(Signal::Term)),
        ["SIGTERM: stopping 2 workers", "stopping", "term 102", "term 103", "dismiss 101"]
    );
    story.ends(1100, 102, OK);
    assert_eq!(story.ends(1200, 103, OK), ["vacate 2"]);
    assert_eq!(story.at(3000, Event::Tick), ["kill 101"]);
    assert_eq!(story.ends(3001, 101, KILLED)[1..], ["template (pid 101) killed by SIGKILL", "stopped", "exit 0"]);
}

#[test]
fn a_worker_that_is_not_wanted_any_more_when_the_template_has_forked_it_is_killed() {
    let mut story = serving();
    story.at(1000, Event::More(Signal::Ttin));
    assert_eq!(story.at(1100, Event::Fewer(Signal::Ttou)), ["SIGTTOU: 2 workers from now on"]);
    assert_eq!(story.forks(1200, 3), ["kill 104"]);
    assert_eq!(story.ends(1300, 104, KILLED)[0], "vacate 3");
}

#[test]
fn what_is_not_wanted_any_more_keeps_its_slot_until_the_template_has_answered() {
    let mut story = serving();
    assert_eq!(story.at(1000, Event::More(Signal::Ttin))[1..], ["order 3 in 3 from 101"]);
    story.at(1100, Event::Fewer(Signal::Ttou));
    assert_eq!(story.children.ordered_slots(), [3], "the answer is awaited");
    assert_eq!(story.at(1200, Event::More(Signal::Ttin))[1..], ["order 3 in 4 from 101"]);
    assert_eq!(story.forks(1300, 3), ["kill 104"]);
    assert_eq!(story.ends(1400, 104, KILLED)[0], "vacate 3");
    assert_eq!(story.forks(1500, 4), NOTHING);
}

#[test]
fn what_was_ordered_before_a_stop_is_told_of_it() {
    let mut story = serving();
    story.at(1000, Event::More(Signal::Ttin));
    story.at(1100, Event::StopAsked(Signal::Term));
    assert_eq!(story.forks(1200, 3), ["term 104"]);
    assert_eq!(story.at(1700, Event::Tick), ["kill 104"]);
}

#[test]
fn a_fork_that_fails_after_a_stop_is_told_once() {
    let mut story = serving();
    story.at(1000, Event::More(Signal::Ttin));
    story.at(1100, Event::StopAsked(Signal::Term));
    story.can_fork = false;
    assert_eq!(story.forks(1200, 3)[..2], ["vacate 3", "worker 3 could not be forked: no"]);
    assert_eq!(story.children.ordered_slots(), Vec::<u32>::new());
}

#[test]
fn a_template_that_dies_before_a_worker_is_ready_comes_again() {
    let mut story = begin();
    story.at(0, Event::Tick);
    story.says(500, 0, State::Template, 0);
    story.forks(600, 1);
    story.ends(700, 101, KILLED);
    let told = story.says(800, 1, State::Ready, 0);
    assert_eq!(told[..2], ["started", "template 1 in 0"]);
}

#[test]
fn when_no_worker_boots_the_template_leaves_and_the_server_ends() {
    let mut story = begin();
    story.at(0, Event::Tick);
    story.says(500, 0, State::Template, 0);
    story.forks(600, 1);
    story.forks(600, 2);
    story.ends(700, 102, CANNOT_BOOT);
    assert_eq!(story.ends(700, 103, CANNOT_BOOT), ["vacate 2", "dismiss 101"]);
    assert_eq!(story.ends(800, 101, OK)[1..], ["no worker could start, giving up", "exit 3"]);
}

#[test]
fn a_successor_that_takes_over_while_it_is_ordered_is_of_its_own_generation() {
    let mut story = serving();
    story.reload(10_000, PRELOAD);
    assert_eq!(story.says(10_500, 3, State::Template, 0), ["order 1 in 4 from 104"]);
    story.ends(10_600, 102, SEGV);
    story.forks(10_700, 4);
    assert_eq!(story.says(10_800, 4, State::Ready, 0), ["order 2 in 1 from 104", "dismiss 101"]);
}

#[test]
fn a_slot_is_left_for_a_reload_beside_the_templates() {
    let mut story = serving();
    story.at(1000, Event::More(Signal::Ttin));
    story.forks(1000, 3);
    story.says(1000, 3, State::Ready, 0);
    assert_eq!(
        story.at(1100, Event::More(Signal::Ttin)),
        ["SIGTTIN: it stays at 3 workers, there is no room for more until a restart"]
    );
    let told = story.reload(2000, Plan { workers: 4, ..PRELOAD });
    assert_eq!(told[1..], ["--workers 4: there is room for 3 workers until a restart", "template 2 in 4"]);
    assert_eq!(story.says(2500, 4, State::Template, 0), ["order 1 in 5 from 105"]);
}
