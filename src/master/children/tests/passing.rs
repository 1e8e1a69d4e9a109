//! Stories of workers that cannot go on, and of who looks after what they had.

use super::*;

// A worker that says that one of its requests has taken too long.

#[test]
fn a_condemned_worker_is_replaced_at_once_and_killed_after_the_graceful_timeout() {
    let mut story = Story::serving(PLAN);
    assert_eq!(
        story.says(1000, 0, State::Condemned, 7),
        ["worker 1 (pid 101): a request took longer than its timeout, starting another", "spawn 1 in 2"]
    );
    assert_eq!(story.at(5999, Event::Tick), NOTHING, "its heartbeat is nobody's business any more");
    assert_eq!(
        story.at(6000, Event::Tick),
        ["not finished after 5 s: killing 1 worker, cutting the requests in flight: worker 1 (pid 101)", "kill 101"]
    );
    assert_eq!(story.ends(6001, 101, KILLED), ["vacate 0", "worker 1 (pid 101) killed by SIGKILL", "adopt in 1"]);
}

#[test]
fn a_condemned_worker_may_leave_by_itself() {
    let mut story = Story::serving(PLAN);
    story.says(1000, 0, State::Condemned, 7);
    story.says(1200, 2, State::Ready, 0);
    let failed = HowEnded::Exited(1);
    assert_eq!(story.ends(1500, 101, failed), ["vacate 0", "worker 1 (pid 101) exited with status 1", "adopt in 1"]);
}

#[test]
fn a_worker_that_is_condemned_again_and_again_is_replaced_without_a_pause() {
    let mut story = Story::serving(PLAN);
    for round in 0..5 {
        let (slot, pid) = (story.children.living[1].slot, story.children.living[1].name.pid.as_raw());
        let told = story.says(round * 1000, slot, State::Condemned, 1);
        assert!(told[1].starts_with("spawn 2"), "round {round}: {told:?}");
        story.ends(round * 1000 + 500, pid, OK);
    }
}

#[test]
fn a_worker_that_was_ready_and_condemned_between_two_looks_has_served() {
    let mut story = Story::begin(PLAN);
    story.at(0, Event::Tick);
    assert_eq!(
        story.says(5000, 0, State::Condemned, 1),
        ["worker 1 (pid 101): a request took longer than its timeout, starting another", "started", "spawn 1 in 2"]
    );
}

#[test]
fn a_worker_that_is_condemned_while_it_leaves_has_no_more_time_and_no_second_successor() {
    let mut story = Story::serving(PLAN);
    story.says(1000, 0, State::Draining, 0);
    story.says(1100, 2, State::Ready, 0);
    assert_eq!(
        story.says(3000, 0, State::Condemned, 1),
        ["worker 1 (pid 101): a request took longer than its timeout"]
    );
    assert_eq!(story.at(5999, Event::Tick), NOTHING);
    assert_eq!(story.at(6000, Event::Tick)[1..], ["kill 101"]);
}

#[test]
fn a_stop_leaves_a_condemned_worker_to_its_own_deadline() {
    let mut story = Story::serving(PLAN);
    story.says(1000, 0, State::Condemned, 1);
    assert_eq!(
        story.at(2000, Event::StopAsked(Signal::Term)),
        ["SIGTERM: stopping 3 workers", "stopping", "term 102", "term 103"]
    );
    assert_eq!(story.at(2500, Event::Tick), ["kill 103"], "it is still starting");
    assert_eq!(story.at(6000, Event::Tick)[1..], ["kill 101"]);
    assert_eq!(story.at(7000, Event::Tick)[1..], ["kill 102"]);
}

// What was sent to a worker that is gone.

#[test]
fn when_nobody_is_ready_the_first_who_is_looks_after_the_orphans() {
    let mut story = Story::serving(Plan { workers: 1, ..PLAN });
    assert_eq!(story.ends(60_000, 101, SEGV)[2..], ["spawn 1 in 0"]);
    assert_eq!(story.deadline(), Some(120_000), "nothing but the boot timeout: nobody could be told");
    assert_eq!(story.says(60_200, 0, State::Ready, 0), ["adopt in 0"]);
    assert_eq!(story.at(60_300, Event::Tick), NOTHING, "once is enough");
}

#[test]
fn while_all_leave_one_of_them_looks_after_the_orphans_but_none_that_is_condemned() {
    let mut story = Story::serving(Plan { workers: 3, ..PLAN });
    story.says(0, 0, State::Condemned, 1);
    story.says(100, 3, State::Ready, 0);
    story.at(1000, Event::StopAsked(Signal::Term));
    assert_eq!(story.ends(1100, 102, OK), ["vacate 1", "adopt in 2"]);
    assert_eq!(story.ends(1200, 103, OK), ["vacate 2", "adopt in 3"]);
    assert_eq!(story.ends(1300, 104, OK), ["vacate 3"], "the condemned one is no help");
}

#[test]
fn who_cannot_be_told_is_told_a_second_later() {
    let mut story = Story::serving(Plan { timeout: Duration::ZERO, ..PLAN });
    story.ends(60_000, 102, OK);
    story.says(60_100, 1, State::Ready, 0);
    assert_eq!(story.deadline(), None);
    assert_eq!(story.at(60_200, Event::NotAdopted), NOTHING);
    assert_eq!(story.deadline(), Some(61_200));
    assert_eq!(story.at(61_199, Event::Tick), NOTHING);
    assert_eq!(story.at(61_200, Event::Tick), ["adopt in 0"]);
    assert_eq!(story.deadline(), None);
}
