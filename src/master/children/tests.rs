//! Stories of workers, told as tables: at this time this happens, and this is what the master does about it.

use super::*;
use crate::sys::process::{Core, SignalNumber};

/// A minute after the fork is too late to be ready, five seconds after SIGTERM too late to be gone, two seconds in the
/// application too long.
const PLAN: Plan = Plan {
    workers: 2,
    preload: false,
    graceful_timeout: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    boot_timeout: Duration::from_secs(60),
    has_terminal: false,
    shutdown_delay: Duration::ZERO,
    max_worker_lifetime: Duration::ZERO,
    max_worker_rss: 0,
};

/// Two for each worker.
const SLOTS: u32 = 4;

const OK: HowEnded = HowEnded::Exited(0);
const CANNOT_BOOT: HowEnded = HowEnded::Exited(3);
const CANNOT_LOAD: HowEnded = HowEnded::Exited(4);
const SEGV: HowEnded = HowEnded::Signaled(SignalNumber(11), Core::NotDumped);
const KILLED: HowEnded = HowEnded::Signaled(SignalNumber(9), Core::NotDumped);

/// Drives the books as the loop does: each spawn succeeds at once, with pids 101, 102 and so on, and the slots are
/// looked at with every event.
struct Story {
    children: Children,
    began: Instant,
    last_pid: i32,
    /// What each slot says.
    slots: Vec<Told>,
    can_fork: bool,
    last_generation: u32,
}

impl Story {
    fn begin(plan: Plan) -> Self {
        Self::with_slots(plan, SLOTS.max(2 * plan.workers))
    }

    fn with_slots(plan: Plan, count: u32) -> Self {
        let began = Instant::now();
        let children = Children::new(&plan, count, began);
        let slots = vec![told(State::Empty, 0); count as usize];
        Self { children, began, last_pid: 100, slots, can_fork: true, last_generation: 1 }
    }

    /// With its workers ready.
    fn serving(plan: Plan) -> Self {
        let mut story = Self::begin(plan);
        story.at(0, Event::Tick);
        for slot in 0..plan.workers {
            story.says(0, slot, State::Ready, 0);
        }
        story
    }

    /// The time in milliseconds, the event, and what is done about it, Debug reports left out.
    fn at(&mut self, time: u64, event: Event) -> Vec<String> {
        let now = self.began + Duration::from_millis(time);
        let mut told = Vec::new();
        for slot in self.children.occupied_slots() {
            self.tell(Event::Seen { slot, told: self.slots[slot as usize] }, now, &mut told);
        }
        self.tell(event, now, &mut told);
        told
    }

    fn says(&mut self, time: u64, slot: u32, state: State, sequence: u64) -> Vec<String> {
        self.slots[slot as usize] = told(state, sequence);
        self.at(time, Event::Tick)
    }

    /// The configuration is read again, and says this.
    fn reload(&mut self, time: u64, plan: Plan) -> Vec<String> {
        self.last_generation += 1;
        self.at(time, Event::Reload { generation: self.last_generation, plan, why: "SIGHUP" })
    }

    /// The template has done what it was ordered to.
    fn forks(&mut self, time: u64, slot: u32) -> Vec<String> {
        let answer = self.fork(slot);
        self.at(time, answer)
    }

    fn ends(&mut self, time: u64, pid: i32, how: HowEnded) -> Vec<String> {
        self.at(time, Event::Ended { pid: Pid::from_raw(pid), how })
    }

    fn tell(&mut self, event: Event, now: Instant, told: &mut Vec<String>) {
        for action in self.children.handle(event, now) {
            told.extend(brief(&action));
            if let Action::Spawn { slot, .. } = action {
                let answer = self.fork(slot);
                self.tell(answer, now, told);
            }
        }
    }

    fn fork(&mut self, slot: u32) -> Event {
        if !self.can_fork {
            return Event::SpawnFailed { slot, reason: "no".into() };
        }
        self.slots[slot as usize] = told(State::Starting, 0);
        self.last_pid += 1;
        Event::Spawned { slot, pid: Pid::from_raw(self.last_pid) }
    }

    /// When the loop would wake up by itself, in milliseconds.
    fn deadline(&self) -> Option<u128> {
        self.children.next_deadline().map(|deadline| deadline.duration_since(self.began).as_millis())
    }
}

fn told(state: State, sequence: u64) -> Told {
    Told { state, sequence, is_spent: false }
}

/// An action in a few words.
fn brief(action: &Action) -> Option<String> {
    Some(match action {
        Action::Spawn { number: 0, slot, generation } => format!("template {generation} in {slot}"),
        Action::Spawn { number, slot, generation: 1 } => format!("spawn {number} in {slot}"),
        Action::Spawn { number, slot, generation } => format!("spawn {number} in {slot} of {generation}"),
        Action::Order { number, slot, template } => format!("order {number} in {slot} from {template}"),
        Action::Dismiss { template } => format!("dismiss {template}"),
        Action::Terminate(pid) => format!("term {pid}"),
        Action::Abort(pid) => format!("abort {pid}"),
        Action::Kill(pid) => format!("kill {pid}"),
        Action::Vacate { slot } => format!("vacate {slot}"),
        Action::Adopt { slot } => format!("adopt in {slot}"),
        Action::Report(report) if report.level() == log::Level::Debug => return None,
        // Has a story of its own in `renewal`.
        Action::Proven { .. } => return None,
        Action::Report(report) => report.to_string(),
        Action::Stranger { pid, how } => format!("{pid} {how}"),
        Action::Started => "started".into(),
        Action::Stopping => "stopping".into(),
        Action::Retire { generation } => format!("retire {generation}"),
        Action::Exit(exit) => format!("exit {}", exit.status()),
    })
}

const NOTHING: [&str; 0] = [];

// Booting.

#[test]
fn all_workers_are_forked_at_once_and_the_first_ready_one_starts_the_server() {
    let mut story = Story::begin(PLAN);
    assert_eq!(story.at(0, Event::Tick), ["spawn 1 in 0", "spawn 2 in 1"]);
    assert_eq!(story.says(200, 1, State::Ready, 0), ["started"]);
    assert_eq!(story.says(300, 0, State::Ready, 0), NOTHING);
}

#[test]
fn when_no_worker_boots_the_server_ends_after_the_last_with_the_clearest_reason() {
    for (first, second, end) in [
        (CANNOT_BOOT, CANNOT_BOOT, ["no worker could start, giving up", "exit 3"]),
        (CANNOT_LOAD, CANNOT_BOOT, ["no worker can load the application, giving up", "exit 4"]),
        (CANNOT_BOOT, CANNOT_LOAD, ["no worker can load the application, giving up", "exit 4"]),
    ] {
        let mut story = Story::begin(PLAN);
        story.at(0, Event::Tick);
        assert_eq!(story.ends(100, 101, first), ["vacate 0"], "{first}");
        assert_eq!(story.ends(200, 102, second)[1..], end, "{first}, {second}");
    }
}

#[test]
fn a_boot_failure_that_gave_no_reason_is_an_error_each_time() {
    let mut story = Story::begin(PLAN);
    story.at(0, Event::Tick);
    assert_eq!(story.ends(9, 101, SEGV), ["vacate 0", "worker 1 (pid 101) killed by SIGSEGV while starting"]);
    assert_eq!(
        story.ends(9, 102, OK),
        [
            "vacate 1",
            "worker 2 (pid 102) exited with status 0 while starting",
            "no worker could start, giving up",
            "exit 3"
        ]
    );
}

#[test]
fn a_boot_failure_beside_a_ready_worker_is_tried_again() {
    let mut story = Story::begin(PLAN);
    story.at(0, Event::Tick);
    story.ends(100, 101, CANNOT_LOAD);
    assert_eq!(story.at(5000, Event::Tick), NOTHING, "before anybody is ready");
    assert_eq!(story.says(6000, 1, State::Ready, 0), ["started", "spawn 1 in 0", "adopt in 1"]);
    assert_eq!(
        story.ends(6100, 103, CANNOT_LOAD),
        ["vacate 0", "worker 1 (pid 103) exited with status 4 while starting, starting another in 0.1 s", "adopt in 1"]
    );
}

#[test]
fn a_server_that_cannot_fork_at_all_ends() {
    let mut story = Story::begin(PLAN);
    story.can_fork = false;
    assert_eq!(
        story.at(0, Event::Tick),
        [
            "spawn 1 in 0",
            "vacate 0",
            "worker 1 could not be forked: no",
            "spawn 2 in 1",
            "vacate 1",
            "worker 2 could not be forked: no",
            "no worker could start, giving up",
            "exit 1"
        ]
    );
}

#[test]
fn a_worker_that_is_not_ready_in_time_is_aborted_then_killed() {
    let mut story = Story::serving(PLAN);
    assert_eq!(story.ends(20_000, 101, SEGV)[2..], ["spawn 1 in 0", "adopt in 1"]);
    assert_eq!(story.at(79_999, Event::Tick), NOTHING);
    assert_eq!(
        story.at(80_000, Event::Tick),
        ["worker 1 (pid 103): not ready after 60 s, stopping the worker", "abort 103"]
    );
    assert_eq!(story.at(80_999, Event::Tick), NOTHING);
    assert_eq!(story.at(81_000, Event::Tick), ["kill 103"]);
    assert_eq!(
        story.ends(81_001, 103, KILLED),
        ["vacate 0", "worker 1 (pid 103) killed by SIGKILL, starting another in 0.1 s", "adopt in 1"]
    );
}

#[test]
fn a_worker_that_was_ready_for_a_moment_counts_as_one_that_was() {
    let mut story = Story::begin(PLAN);
    story.at(0, Event::Tick);
    story.slots[0].state = State::Draining;
    assert_eq!(
        story.at(50, Event::Tick),
        ["worker 1 (pid 101) is leaving, starting another", "started", "spawn 1 in 2"]
    );
}

// Serving.

#[test]
fn a_crash_is_told_and_the_worker_replaced_at_once() {
    let mut story = Story::serving(PLAN);
    assert_eq!(
        story.ends(60_000, 102, KILLED),
        [
            "vacate 1",
            "worker 2 (pid 102) killed by SIGKILL (out of memory?), starting another",
            "spawn 2 in 1",
            "adopt in 0"
        ]
    );
}

#[test]
fn a_crash_loop_backs_off_and_a_settled_worker_ends_it() {
    let mut story = Story::serving(PLAN);
    let (mut time, mut pid) = (10_000, 101);
    for pause in [0, 100, 200, 400, 800, 1000, 1000] {
        story.ends(time, pid, SEGV);
        if pause > 0 {
            assert_eq!(story.at(time + pause - 1, Event::Tick), NOTHING, "pause of {pause} ms");
            story.at(time + pause, Event::Tick);
        }
        pid = story.last_pid;
        story.says(time + pause, 0, State::Ready, 0);
        // Dies just before it would have settled.
        time += pause + 9_999;
    }
    story.ends(time, pid, SEGV);
    time += 1000;
    assert_eq!(story.at(time, Event::Tick), ["spawn 1 in 0"]);
    story.says(time, 0, State::Ready, 0);
    assert_eq!(story.ends(time + 10_000, story.last_pid, SEGV)[2..], ["spawn 1 in 0", "adopt in 1"]);
}

#[test]
fn a_crash_loop_of_all_workers_does_not_end_a_server_that_has_served() {
    let mut story = Story::serving(PLAN);
    for round in 1..50 {
        for pid in [story.last_pid - 1, story.last_pid] {
            let told = story.ends(round * 100_000, pid, CANNOT_LOAD);
            assert!(!told.iter().any(|action| action.starts_with("exit")), "{told:?}");
        }
        story.at(round * 100_000 + 30_000, Event::Tick);
    }
    assert_eq!(story.last_pid, 200);
}

#[test]
fn a_failed_fork_is_tried_again_with_pauses() {
    let mut story = Story::serving(PLAN);
    story.can_fork = false;
    assert_eq!(
        story.ends(20_000, 101, SEGV)[2..],
        [
            "spawn 1 in 0",
            "vacate 0",
            "worker 1 could not be forked: no, starting another in 0.1 s",
            "adopt in 1",
            "adopt in 1"
        ]
    );
    assert_eq!(story.at(20_100, Event::Tick)[2], "worker 1 could not be forked: no, starting another in 0.2 s");
    story.can_fork = true;
    assert_eq!(story.at(20_300, Event::Tick), ["spawn 1 in 0"]);
}

#[test]
fn a_worker_that_leaves_by_itself_is_replaced_while_it_drains() {
    let mut story = Story::serving(PLAN);
    assert_eq!(
        story.says(1000, 0, State::Draining, 0),
        ["worker 1 (pid 101) is leaving, starting another", "spawn 1 in 2"]
    );
    assert_eq!(story.says(1100, 2, State::Ready, 0), NOTHING);
    assert_eq!(story.ends(1200, 101, OK), ["vacate 0", "adopt in 1"]);
}

#[test]
fn a_worker_that_leaves_by_itself_has_the_graceful_timeout() {
    let mut story = Story::serving(PLAN);
    story.says(1000, 0, State::Draining, 0);
    assert_eq!(story.at(5999, Event::Tick), NOTHING);
    assert_eq!(
        story.at(6000, Event::Tick),
        ["not finished after 5 s: killing 1 worker, cutting the requests in flight: worker 1 (pid 101)", "kill 101"]
    );
}

#[test]
fn without_a_free_slot_a_replacement_waits_for_the_end_of_its_predecessor() {
    let mut story = Story::serving(PLAN);
    story.says(1000, 0, State::Draining, 0);
    story.says(1000, 2, State::Ready, 0);
    story.says(1100, 2, State::Draining, 0);
    story.says(1100, 3, State::Ready, 0);
    assert_eq!(story.says(1200, 3, State::Draining, 0), ["worker 1 (pid 104) is leaving, starting another"]);
    assert_eq!(story.deadline(), Some(1700), "nothing but the watch is due");
    assert_eq!(story.ends(1300, 103, OK), ["vacate 2", "spawn 1 in 2", "adopt in 1"]);
}

#[test]
fn a_child_of_somebody_else_changes_nothing() {
    let mut story = Story::serving(PLAN);
    assert_eq!(story.ends(1000, 4711, SEGV), ["4711 killed by SIGSEGV"]);
}

// The heartbeat may stand still for 2 s in a call of the application, and is looked at twice a second.

#[test]
fn a_worker_that_does_not_respond_is_aborted_and_replaced_then_killed() {
    let mut story = Story::serving(PLAN);
    for time in [1000, 1500, 2000, 2500] {
        assert_eq!(story.says(time, 0, State::Ready, 7), NOTHING, "at {time}");
    }
    assert_eq!(
        story.at(3000, Event::Tick),
        ["worker 1 (pid 101): does not respond for 2 s, stopping the worker", "abort 101", "spawn 1 in 2"]
    );
    assert_eq!(story.at(3999, Event::Tick), NOTHING);
    assert_eq!(story.at(4000, Event::Tick), ["kill 101"]);
    assert_eq!(story.ends(4001, 101, KILLED), ["vacate 0", "worker 1 (pid 101) killed by SIGKILL", "adopt in 1"]);
}

#[test]
fn a_worker_that_does_not_respond_does_not_count_as_a_crash() {
    let mut story = Story::serving(PLAN);
    for round in 0..5 {
        let slot = story.children.living[1].slot;
        let begins = round * 10_000;
        for time in [0, 500, 1000, 1500] {
            story.says(begins + time, slot, State::Ready, 1);
        }
        let told = story.at(begins + 2000, Event::Tick);
        assert!(told.iter().any(|action| action.starts_with("spawn 2")), "round {round}: {told:?}");
        story.ends(begins + 2001, story.children.living[1].name.pid.as_raw(), KILLED);
    }
}

#[test]
fn a_heart_that_beats_is_never_late() {
    let mut story = Story::serving(PLAN);
    for tick in 0..40 {
        // Another beat at each look, always inside a call.
        assert_eq!(story.says(tick * 500, 0, State::Ready, 2 * tick + 1), NOTHING, "tick {tick}");
    }
    for tick in 40..80 {
        // Idle: the number is even and stays the same.
        assert_eq!(story.says(tick * 500, 0, State::Ready, 82), NOTHING, "tick {tick}");
    }
}

#[test]
fn time_in_which_the_master_was_stopped_makes_nobody_late() {
    let mut story = Story::serving(PLAN);
    story.says(500, 0, State::Ready, 1);
    assert_eq!(story.at(600_000, Event::Tick), NOTHING);
    assert_eq!(story.at(600_500, Event::Tick), NOTHING);
    assert_eq!(story.at(601_000, Event::Tick).len(), 3, "one second that counted for ten minutes, and one more");
}

#[test]
fn a_timeout_of_zero_is_none_and_wakes_nobody() {
    let mut story = Story::serving(Plan { timeout: Duration::ZERO, ..PLAN });
    assert_eq!(story.deadline(), None);
    story.says(0, 0, State::Ready, 1);
    assert_eq!(story.at(3_600_000, Event::Tick), NOTHING);
    assert_eq!(story.deadline(), None);
}

#[test]
fn the_watch_wakes_once_a_second_or_more_often_for_a_short_timeout() {
    for (timeout, interval) in [(30_000, 1000), (4000, 1000), (2000, 500), (100, 25), (1, 1)] {
        let story = Story::serving(Plan { timeout: Duration::from_millis(timeout), ..PLAN });
        assert_eq!(story.deadline(), Some(interval), "timeout of {timeout} ms");
    }
}

// Stopping.

#[test]
fn a_stop_lets_the_workers_finish_and_reaps_all() {
    for signal in [Signal::Int, Signal::Quit, Signal::Term] {
        let mut story = Story::serving(PLAN);
        assert_eq!(
            story.at(1000, Event::StopAsked(signal)),
            [format!("{signal}: stopping 2 workers"), "stopping".into(), "term 101".into(), "term 102".into()]
        );
        assert_eq!(story.says(1001, 0, State::Draining, 0), NOTHING);
        assert_eq!(story.ends(1100, 102, OK), ["vacate 1", "adopt in 0"]);
        assert_eq!(story.ends(1200, 101, OK), ["vacate 0", "stopped", "exit 0"]);
    }
}

#[test]
fn a_stop_kills_who_has_not_finished_in_time_and_still_ends_well() {
    let mut story = Story::serving(PLAN);
    story.at(1000, Event::StopAsked(Signal::Term));
    story.ends(1100, 101, OK);
    assert_eq!(story.deadline(), Some(6000));
    assert_eq!(
        story.at(6000, Event::Tick),
        ["not finished after 5 s: killing 1 worker, cutting the requests in flight: worker 2 (pid 102)", "kill 102"]
    );
    assert_eq!(story.deadline(), None);
    assert_eq!(
        story.ends(6001, 102, KILLED),
        ["vacate 1", "worker 2 (pid 102) killed by SIGKILL", "stopped", "exit 0"]
    );
}

#[test]
fn a_second_signal_kills_at_once_and_a_third_changes_nothing() {
    let mut story = Story::serving(PLAN);
    story.at(1000, Event::StopAsked(Signal::Int));
    assert_eq!(
        story.at(1100, Event::StopAsked(Signal::Term)),
        [
            "SIGTERM again: killing 2 workers, cutting the requests in flight: worker 1 (pid 101), worker 2 (pid 102)",
            "kill 101",
            "kill 102"
        ]
    );
    assert_eq!(story.at(1200, Event::StopAsked(Signal::Term)), NOTHING);
}

#[test]
fn an_echo_of_the_stop_signal_cuts_nobody() {
    let mut story = Story::serving(PLAN);
    story.at(1000, Event::StopAsked(Signal::Term));
    assert_eq!(story.at(1099, Event::StopAsked(Signal::Term)), NOTHING);
    assert_eq!(story.at(1100, Event::StopAsked(Signal::Term)).len(), 3);
}

#[test]
fn a_worker_that_dies_while_stopping_is_not_replaced() {
    let mut story = Story::serving(PLAN);
    story.at(1000, Event::StopAsked(Signal::Term));
    assert_eq!(story.ends(1100, 101, SEGV), ["vacate 0", "worker 1 (pid 101) killed by SIGSEGV", "adopt in 1"]);
    assert_eq!(story.at(5000, Event::Tick), NOTHING);
}

#[test]
fn a_stop_during_the_pause_of_a_crash_loop_spawns_nothing() {
    let mut story = Story::serving(PLAN);
    story.ends(100, 101, SEGV);
    story.ends(200, 103, SEGV);
    assert_eq!(story.deadline(), Some(300));
    assert_eq!(story.at(250, Event::StopAsked(Signal::Term)), ["SIGTERM: stopping 1 worker", "stopping", "term 102"]);
    assert_eq!(story.at(300, Event::Tick), NOTHING);
    assert_eq!(story.ends(400, 102, OK), ["vacate 1", "stopped", "exit 0"]);
}

#[test]
fn a_stop_while_booting_ends_well_however_the_workers_end() {
    let mut story = Story::begin(PLAN);
    story.at(0, Event::Tick);
    story.ends(50, 101, CANNOT_LOAD);
    assert_eq!(story.at(100, Event::StopAsked(Signal::Int)), ["SIGINT: stopping 1 worker", "stopping", "term 102"]);
    assert_eq!(story.ends(200, 102, OK), ["vacate 1", "stopped", "exit 0"]);
}

#[test]
fn a_stop_does_not_wait_for_who_is_still_starting_unless_it_serves_by_then() {
    let mut story = Story::begin(PLAN);
    story.at(0, Event::Tick);
    story.at(100, Event::StopAsked(Signal::Term));
    story.says(200, 1, State::Ready, 0);
    assert_eq!(story.at(599, Event::Tick), NOTHING);
    assert_eq!(story.at(600, Event::Tick), ["kill 101"]);
    assert_eq!(story.at(5199, Event::Tick), NOTHING);
    assert_eq!(story.at(5200, Event::Tick)[1..], ["kill 102"]);
}

#[test]
fn a_stop_leaves_an_aborted_worker_to_its_own_deadline() {
    let mut story = Story::serving(PLAN);
    for time in [500, 1000, 1500, 2000, 2500] {
        story.says(time, 0, State::Ready, 1);
    }
    assert_eq!(
        story.at(2600, Event::StopAsked(Signal::Term)),
        ["SIGTERM: stopping 3 workers", "stopping", "term 102", "term 103"]
    );
    assert_eq!(story.at(3100, Event::Tick), ["kill 103"], "it is still starting");
    assert_eq!(story.at(3500, Event::Tick), ["kill 101"]);
}

/// Requests that take too long, and connections that have lost their worker.
mod passing;
/// What holds in any order of events.
mod properties;
/// Reloads, recycling, and another number of workers.
mod renewal;
/// Workers that a template forks.
mod templates;
