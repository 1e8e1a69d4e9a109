//! Any order of events: what holds whatever happens.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// One thing that happens, with a number that chooses among those it may happen to.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Pass(u16),
    PassToDeadline,
    Order(u8, bool),
    Ready(u8),
    Drain(u8),
    Condemn(u8),
    Spend(u8),
    Stick(u8),
    Leave(u8),
    Kill(u8),
    Reload(u32, bool),
    More,
    Fewer,
    None,
    InboxFull,
    ForksFail(bool),
    Stop,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        4 => (0..3000u16).prop_map(Pass),
        4 => Just(PassToDeadline),
        8 => (any::<u8>(), prop::bool::weighted(0.9)).prop_map(|(which, works)| Order(which, works)),
        8 => any::<u8>().prop_map(Ready),
        1 => any::<u8>().prop_map(Drain),
        1 => any::<u8>().prop_map(Condemn),
        1 => any::<u8>().prop_map(Spend),
        1 => any::<u8>().prop_map(Stick),
        4 => any::<u8>().prop_map(Leave),
        4 => any::<u8>().prop_map(Kill),
        2 => (1..6u32, any::<bool>()).prop_map(|(workers, preload)| Reload(workers, preload)),
        2 => Just(More),
        2 => Just(Fewer),
        1 => Just(None),
        1 => Just(InboxFull),
        1 => any::<bool>().prop_map(ForksFail),
        1 => prop::bool::weighted(0.1).prop_map(|stops| if stops { Stop } else { PassToDeadline }),
    ]
}

/// A process, as the kernel knows it.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: Pid,
    slot: u32,
    is_template: bool,
    /// Has been sent SIGTERM, or has lost its orders.
    is_asked: bool,
}

/// The processes and the scoreboard, and the loop of the supervisor without its system calls.
struct World {
    children: Children,
    now: Instant,
    slots: Vec<Told>,
    /// Per slot: what a template has answered to an order.
    answers: Vec<Option<Result<Pid, ()>>>,
    alive: Vec<Process>,
    /// Killed, not reaped.
    dead: Vec<(Process, HowEnded)>,
    /// The templates that orders can be sent to.
    senders: BTreeSet<Pid>,
    orders: Vec<(Pid, u32)>,
    /// Slots that hold somebody, or will.
    taken: BTreeSet<u32>,
    last_pid: i32,
    generation: u32,
    plan: Plan,
    forks_fail: bool,
    /// To be read when the server has started.
    due: Option<Plan>,
    has_stopped: bool,
    exit: Option<Exit>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let slots = plan.slots().min(2 * plan.workers + 4);
        let now = Instant::now();
        let mut world = Self {
            children: Children::new(&plan, slots, now),
            now,
            slots: vec![told(State::Empty, 0); slots as usize],
            answers: vec![None; slots as usize],
            alive: Vec::new(),
            dead: Vec::new(),
            senders: BTreeSet::new(),
            orders: Vec::new(),
            taken: BTreeSet::new(),
            last_pid: 100,
            generation: 1,
            plan,
            forks_fail: false,
            due: None,
            has_stopped: false,
            exit: None,
        };
        world.turn();
        world
    }

    fn handle(&mut self, event: Event) -> usize {
        if self.exit.is_some() {
            return 0;
        }
        let actions = self.children.handle(event, self.now);
        let count = actions.len();
        for action in actions {
            self.carry_out(action);
        }
        count
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn { number, slot, .. } => {
                self.take(slot);
                let event = if self.forks_fail {
                    Event::SpawnFailed { slot, reason: "no".into() }
                } else {
                    let pid = self.fork(slot, number == 0);
                    if number == 0 {
                        self.senders.insert(pid);
                    }
                    Event::Spawned { slot, pid }
                };
                self.handle(event);
            }
            Action::Order { slot, template, .. } => {
                self.take(slot);
                self.answers[slot as usize] = None;
                assert!(self.children.child(template).is_some(), "an order for nobody");
                let is_alive = self.alive.iter().any(|process| process.pid == template);
                assert!(self.senders.contains(&template), "an order for a template that was let go of");
                if is_alive {
                    self.orders.push((template, slot));
                } else {
                    self.handle(Event::SpawnFailed { slot, reason: "it is gone".into() });
                }
            }
            Action::Dismiss { template } => {
                self.senders.remove(&template);
                self.ask(template);
            }
            Action::Terminate(pid) => self.ask(pid),
            Action::Abort(pid) | Action::Kill(pid) => self.kill(pid, KILLED),
            Action::Vacate { slot } => {
                assert!(self.taken.remove(&slot), "slot {slot} is vacated twice");
                assert!(!self.alive.iter().any(|process| process.slot == slot), "slot {slot} is in use");
                assert!(!self.orders.iter().any(|(_, ordered)| *ordered == slot), "slot {slot} was ordered");
                self.slots[slot as usize].state = State::Empty;
            }
            Action::Exit(exit) => self.exit = Some(exit),
            Action::Adopt { slot } => assert!(self.taken.contains(&slot), "nobody in {slot}"),
            Action::Started => {
                if let Some(plan) = self.due.take() {
                    self.reload(plan);
                }
            }
            Action::Report(_)
            | Action::Stranger { .. }
            | Action::Stopping
            | Action::Proven { .. }
            | Action::Retire { .. } => {}
        }
    }

    fn take(&mut self, slot: u32) {
        assert!(!self.has_stopped, "another worker, after the stop");
        assert!(self.taken.insert(slot), "slot {slot} is taken");
        self.slots[slot as usize] = told(State::Starting, 0);
    }

    fn fork(&mut self, slot: u32, is_template: bool) -> Pid {
        self.last_pid += 1;
        let pid = Pid::from_raw(self.last_pid);
        self.alive.push(Process { pid, slot, is_template, is_asked: false });
        pid
    }

    fn ask(&mut self, pid: Pid) {
        self.alive.iter_mut().filter(|process| process.pid == pid).for_each(|process| process.is_asked = true);
    }

    fn kill(&mut self, pid: Pid, how: HowEnded) {
        if let Some(index) = self.alive.iter().position(|process| process.pid == pid) {
            self.dead.push((self.alive.remove(index), how));
            self.orders.retain(|(template, _)| *template != pid);
        }
    }

    /// One of those that `is_meant`.
    fn choose(&self, which: u8, is_meant: impl Fn(&Process) -> bool) -> Option<Process> {
        let meant: Vec<Process> = self.alive.iter().copied().filter(|process| is_meant(process)).collect();
        meant.get(usize::from(which) % meant.len().max(1)).copied()
    }

    fn state(&self, process: &Process) -> State {
        self.slots[process.slot as usize].state
    }

    fn happen(&mut self, happening: Happening) {
        let is_ready = |world: &Self, process: &Process| world.state(process) == State::Ready;
        match happening {
            Happening::Pass(time) => self.now += Duration::from_millis(time.into()),
            Happening::PassToDeadline => {
                self.now = self.children.next_deadline().unwrap_or(self.now).max(self.now);
            }
            Happening::Order(which, works) => self.obey(which.into(), works),
            Happening::Ready(which) => {
                if let Some(process) = self.choose(which, |process| self.state(process) == State::Starting) {
                    self.slots[process.slot as usize].state =
                        if process.is_template { State::Template } else { State::Ready };
                }
            }
            Happening::Drain(which) => {
                if let Some(process) = self.choose(which, |process| is_ready(self, process)) {
                    self.slots[process.slot as usize].state = State::Draining;
                }
            }
            Happening::Condemn(which) => {
                if let Some(process) = self.choose(which, |process| is_ready(self, process)) {
                    self.slots[process.slot as usize].state = State::Condemned;
                }
            }
            Happening::Spend(which) => {
                if let Some(process) = self.choose(which, |process| is_ready(self, process)) {
                    self.slots[process.slot as usize].is_spent = true;
                }
            }
            Happening::Stick(which) => {
                if let Some(process) = self.choose(which, |process| is_ready(self, process)) {
                    self.slots[process.slot as usize].sequence = 1;
                }
            }
            Happening::Leave(which) => {
                if let Some(process) = self.choose(which, |process| self.may_leave(process)) {
                    self.kill(process.pid, OK);
                }
            }
            Happening::Kill(which) => {
                if let Some(process) = self.choose(which, |_| true) {
                    self.kill(process.pid, KILLED);
                }
            }
            // The supervisor keeps it until the server has started, and refuses it when it is to stop.
            Happening::Reload(..) if self.children.is_ending() => {}
            Happening::Reload(workers, preload) if self.children.is_booting() => {
                self.due = Some(Plan { workers, preload, ..self.plan });
            }
            Happening::Reload(workers, preload) => self.reload(Plan { workers, preload, ..self.plan }),
            Happening::More => _ = self.handle(Event::More(Signal::Ttin)),
            Happening::Fewer => _ = self.handle(Event::Fewer(Signal::Ttou)),
            Happening::None if self.children.is_booting() => {}
            Happening::None => _ = self.handle(Event::None(Signal::Winch)),
            Happening::InboxFull => _ = self.handle(Event::NotAdopted),
            Happening::ForksFail(forks_fail) => self.forks_fail = forks_fail,
            Happening::Stop => {
                self.handle(Event::StopAsked(Signal::Int));
                self.has_stopped = true;
            }
        }
    }

    fn reload(&mut self, plan: Plan) {
        self.generation += 1;
        self.handle(Event::Reload { generation: self.generation, plan, why: "SIGHUP" });
    }

    /// A template does what it was ordered to before it leaves.
    fn may_leave(&self, process: &Process) -> bool {
        let is_leaving = matches!(self.state(process), State::Draining | State::Condemned);
        (process.is_asked || is_leaving) && !self.orders.iter().any(|(template, _)| *template == process.pid)
    }

    fn obey(&mut self, which: usize, works: bool) {
        if self.orders.is_empty() {
            return;
        }
        let (_, slot) = self.orders.remove(which % self.orders.len());
        self.answers[slot as usize] = Some(if works { Ok(self.fork(slot, false)) } else { Err(()) });
    }

    /// What the supervisor does in one round.
    fn turn(&mut self) {
        self.handle(Event::Tick);
        self.look_at_orders();
        for slot in self.children.occupied_slots() {
            self.handle(Event::Seen { slot, told: self.slots[slot as usize] });
        }
        let dead = std::mem::take(&mut self.dead);
        if !dead.is_empty() {
            self.look_at_orders();
        }
        for (process, how) in dead {
            self.handle(Event::Ended { pid: process.pid, how });
            self.senders.remove(&process.pid);
        }
        self.check();
    }

    fn look_at_orders(&mut self) {
        for slot in self.children.ordered_slots() {
            match self.answers[slot as usize].take() {
                None => {}
                Some(Ok(pid)) => _ = self.handle(Event::Spawned { slot, pid }),
                Some(Err(())) => _ = self.handle(Event::SpawnFailed { slot, reason: "no".into() }),
            }
        }
    }

    fn check(&mut self) {
        let known: BTreeSet<Pid> = self.children.pids().into_iter().collect();
        if self.exit.is_none() && self.dead.is_empty() && self.answers.iter().all(Option::is_none) {
            let alive: BTreeSet<Pid> = self.alive.iter().map(|process| process.pid).collect();
            assert_eq!(known, alive, "the books and the processes");
        }
        assert!(self.answers.iter().zip(0..).all(|(answer, slot)| answer.is_none() || self.taken.contains(&slot)));
        for _ in 0..50 {
            let before = self.children.next_deadline().filter(|&at| at <= self.now);
            if before.is_none() || self.exit.is_some() {
                return;
            }
            for slot in self.children.occupied_slots() {
                self.handle(Event::Seen { slot, told: self.slots[slot as usize] });
            }
            let count = self.handle(Event::Tick);
            assert!(count > 0 || self.children.next_deadline() != before, "a deadline that nothing is done about");
        }
        panic!("it wakes again and again");
    }

    /// Everybody does what they should.
    fn go_well(&mut self) {
        self.forks_fail = false;
        self.slots.iter_mut().for_each(|told| told.sequence = 0);
        for _ in 0..400 {
            while !self.orders.is_empty() {
                self.obey(0, true);
            }
            self.turn();
            for process in self.alive.clone() {
                if self.may_leave(&process) {
                    self.kill(process.pid, OK);
                } else if self.state(&process) == State::Starting {
                    let state = if process.is_template { State::Template } else { State::Ready };
                    self.slots[process.slot as usize].state = state;
                }
            }
            self.turn();
            let limit = self.now + Duration::from_millis(1000);
            self.now = self.children.next_deadline().map_or(limit, |at| at.min(limit)).max(self.now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_wanted_workers_serve_in_the_end_and_a_stop_ends_all(
        workers in 1..4u32,
        preload in any::<bool>(),
        lifetime in prop_oneof![Just(0u64), 1..20u64],
        happenings in prop::collection::vec(happening(), 1..120),
    ) {
        let plan = Plan { workers, preload, max_worker_lifetime: Duration::from_secs(lifetime), ..PLAN };
        let mut world = World::new(plan);
        for happening in happenings {
            world.happen(happening);
            world.turn();
        }
        world.plan.max_worker_lifetime = Duration::ZERO;
        world.children.plan.max_worker_lifetime = Duration::ZERO;
        world.due.iter_mut().for_each(|plan| plan.max_worker_lifetime = Duration::ZERO);
        world.children.generations.iter_mut().for_each(|own| own.plan.max_worker_lifetime = Duration::ZERO);
        world.go_well();
        if world.exit.is_none() && !world.has_stopped {
            let books = &world.children;
            prop_assert_eq!(books.ready(), books.wanted(), "{:?}", books);
            let workers = world.alive.iter().filter(|process| !process.is_template).count();
            prop_assert_eq!(workers, books.wanted() as usize, "{:?}", books);
            prop_assert!(books.living.iter().all(|child| child.is_template() || child.generation == books.current), "{:?}", books);
            world.happen(Happening::Stop);
            world.go_well();
        }
        prop_assert!(world.exit.is_some(), "{:?}", world.children);
        prop_assert!(world.alive.is_empty(), "{:?}", world.alive);
    }
}
