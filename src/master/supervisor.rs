//! [`Supervisor`]: the loop of the master. It waits, finds out what has happened, and carries out what [`Children`] decides.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use std::{io, thread};

use log::{debug, error, log};

use super::children::{Action, Children, Event, Told};
use super::host::{Host, News, WorkerIdentity};
use super::plan::Plan;
use super::report::{CONTROL, Report};
use super::tally::Tally;
use super::view::{LastReload, View, Wish};
use super::{Outcome, Shared};
use crate::inboxes::{Inboxes, Sent};
use crate::orders::{self, Order};
use crate::scoreboard::Scoreboard;
use crate::sys::memory;
use crate::sys::process::{self, Fork, Pid};
use crate::sys::signal::{SelfPipe, Signal};

pub(super) struct Supervisor<'a> {
    pid: Pid,
    signals: SelfPipe,
    scoreboard: &'a Scoreboard,
    inboxes: Option<&'a Inboxes>,
    children: Children,
    host: &'a mut dyn Host,
    templates: Vec<(Pid, orders::Sender)>,
    /// How many workers have been asked for.
    workers_asked_for: u32,
    /// The newest one, also if it was refused.
    last_generation: u32,
    /// How often the configuration has been read again.
    reloads: u32,
    /// The generation that came of it the last time, or why none did.
    last_reload: Option<Result<u32, String>>,
    /// SIGHUP came before anybody was ready.
    is_reload_due: bool,
    /// When the memory of the workers was looked at.
    measured_at: Instant,
    /// When the host is to hear that the loop turns.
    alive_at: Option<Instant>,
    /// What the host has been told of: ready and wanted workers, and whether a reload is under way.
    told: (u32, u32, bool),
    tally: Tally,
}

/// The way out of the loop.
type Flow = ControlFlow<Outcome>;

/// Long enough not to spin when the kernel has no memory to wait with.
const PAUSE_AFTER_FAILED_WAIT: Duration = Duration::from_millis(100);

/// How often the memory of the workers is looked at, if it is limited.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

impl<'a> Supervisor<'a> {
    pub(super) fn new(plan: &Plan, shared: Shared<'a>, signals: SelfPipe, host: &'a mut dyn Host) -> Self {
        let Shared { scoreboard, inboxes } = shared;
        let now = Instant::now();
        let children = Children::new(plan, scoreboard.slots(), now);
        Self {
            pid: process::own_pid(),
            signals,
            scoreboard,
            inboxes,
            last_generation: children.current(),
            children,
            alive_at: host.alive_interval().map(|_| now),
            host,
            templates: Vec::new(),
            workers_asked_for: 0,
            reloads: 0,
            last_reload: None,
            is_reload_due: false,
            measured_at: now,
            told: (0, 0, false),
            tally: Tally::default(),
        }
    }

    /// One round: act on what is due, wait, and take in what has happened.
    pub(super) fn turn(&mut self) -> Flow {
        self.handle(Event::Tick)?;
        self.tell_host();
        let is_visited = self.wait();
        // Slots before signals and the dead: a worker that was ready, however briefly, is to be known as one.
        self.look_at_slots()?;
        for signal in self.signals.drain() {
            self.on_signal(signal)?;
        }
        self.measure()?;
        self.reap()?;
        if is_visited { self.attend() } else { Flow::Continue(()) }
    }

    /// Returns whether the host has visitors to attend to.
    fn wait(&self) -> bool {
        let measure_at = (self.children.plan().max_worker_rss > 0).then(|| self.measured_at + MEASURE_INTERVAL);
        let alive_at = self.alive_at.filter(|_| !self.children.is_booting());
        let visit_ends_at = self.host.door_deadline();
        let deadlines = [self.children.next_deadline(), measure_at, alive_at, visit_ends_at];
        let limit = deadlines.into_iter().flatten().min();
        let limit = limit.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let others = [Some(self.scoreboard.doorbell().as_fd()), self.host.door()];
        match self.signals.wait_for_either(others, limit) {
            Ok([_, is_visited]) => is_visited || visit_ends_at.is_some_and(|at| at <= Instant::now()),
            Err(error) => {
                error!("waiting for the workers failed: {error}");
                thread::sleep(PAUSE_AFTER_FAILED_WAIT);
                false
            }
        }
    }

    /// Has the host attend to its visitors, and does what they want.
    fn attend(&mut self) -> Flow {
        for wish in self.host.serve(&self.view()) {
            match wish {
                Wish::Reload => self.reload(CONTROL)?,
                Wish::ReopenLogs => self.reopen_logs()?,
                Wish::Workers(_) => {
                    self.scoreboard.set_stopping(self.children.is_ending());
                    self.handle(Event::Wished(wish))?;
                }
                Wish::Stop | Wish::StopAtOnce | Wish::Recycle(_) => self.handle(Event::Wished(wish))?,
            }
        }
        Flow::Continue(())
    }

    fn view(&self) -> View {
        let last_reload = self.last_reload.as_ref().map(|read| match read {
            Err(reason) => LastReload::Refused(reason.clone()),
            Ok(generation) => self.children.outcome(*generation),
        });
        View { reloads: self.reloads, last_reload, ..self.children.view(self.tally) }
    }

    fn handle(&mut self, event: Event) -> Flow {
        for action in self.children.handle(event, Instant::now()) {
            self.carry_out(action)?;
        }
        Flow::Continue(())
    }
}

/// What has happened.
impl Supervisor<'_> {
    fn on_signal(&mut self, signal: Signal) -> Flow {
        match signal {
            Signal::Int | Signal::Quit | Signal::Term => {
                if signal != Signal::Term {
                    self.scoreboard.set_interrupted();
                }
                self.handle(Event::StopAsked(signal))
            }
            Signal::Hup => self.reload("SIGHUP"),
            Signal::Usr1 => self.reopen_logs(),
            // Not the same as having no workers: after SIGWINCH another attempt may be wanted.
            Signal::Usr2 if self.children.is_ending() => {
                log::warn!("SIGUSR2 ignored: the server is stopping");
                Flow::Continue(())
            }
            Signal::Usr2 => {
                self.host.upgrade();
                Flow::Continue(())
            }
            Signal::Ttin => {
                self.scoreboard.set_stopping(self.children.is_ending());
                self.handle(Event::More(signal))
            }
            Signal::Ttou => self.handle(Event::Fewer(signal)),
            // A terminal sends it each time its window changes.
            Signal::Winch if self.children.plan().has_terminal => Flow::Continue(()),
            // There are none yet, and nobody would ever be ready: a reload is put off until somebody is.
            Signal::Winch if self.children.is_booting() => {
                log::info!("{signal} ignored: the server is starting");
                Flow::Continue(())
            }
            Signal::Winch => {
                self.scoreboard.set_stopping(true);
                self.handle(Event::None(signal))
            }
            // It has woken the loop, which reaps in every round.
            Signal::Chld => {
                self.host.look_at_family();
                Flow::Continue(())
            }
        }
    }

    fn reload(&mut self, why: &'static str) -> Flow {
        if self.children.is_ending() {
            self.scoreboard.forget_reload_request();
            log::info!("{why} ignored: the server is stopping");
            return Flow::Continue(());
        }
        if self.children.is_booting() {
            self.is_reload_due = true;
            return Flow::Continue(());
        }
        let generation = self.last_generation + 1;
        let read = self.host.reload(generation);
        self.reloads += 1;
        self.last_reload = Some(read.as_ref().map(|_| generation).map_err(String::clone));
        match read {
            Ok(plan) => {
                self.last_generation = generation;
                self.scoreboard.release_boot_report();
                self.scoreboard.set_stopping(false);
                self.handle(Event::Reload { generation, plan, why })
            }
            Err(reason) => {
                self.scoreboard.forget_reload_request();
                self.report(&Report::NotReloaded { why, reason });
                Flow::Continue(())
            }
        }
    }

    fn reopen_logs(&mut self) -> Flow {
        self.host.reopen_logs();
        for pid in self.children.pids() {
            note_failure(pid, process::reopen_logs(pid));
        }
        Flow::Continue(())
    }

    fn look_at_slots(&mut self) -> Flow {
        // Answered before looking: a change that comes after the look rings again.
        self.scoreboard.doorbell().answer();
        self.look_at_orders()?;
        for slot in self.children.occupied_slots() {
            let own = self.scoreboard.slot(slot);
            let told = Told { state: own.state(), sequence: own.sequence(), is_spent: own.is_spent() };
            self.handle(Event::Seen { slot, told })?;
        }
        // One of an older generation has seen what the current one runs already, or is about to see itself.
        if self.scoreboard.reload_asked_by() < self.children.current() {
            return Flow::Continue(());
        }
        self.reload("the code has changed")
    }

    /// What templates have to say about their orders.
    fn look_at_orders(&mut self) -> Flow {
        for slot in self.children.ordered_slots() {
            let own = self.scoreboard.slot(slot);
            match (own.pid(), own.fork_error()) {
                (0, None) => {}
                (0, Some(errno)) => {
                    let reason = io::Error::from_raw_os_error(errno).to_string();
                    self.handle(Event::SpawnFailed { slot, reason })?;
                }
                (pid, _) => {
                    let pid = Pid::from_raw(pid.cast_signed());
                    self.host.has_spawned(slot, pid);
                    self.handle(Event::Spawned { slot, pid })?;
                }
            }
        }
        Flow::Continue(())
    }

    fn measure(&mut self) -> Flow {
        if self.children.plan().max_worker_rss == 0 || self.measured_at.elapsed() < MEASURE_INTERVAL {
            return Flow::Continue(());
        }
        self.measured_at = Instant::now();
        for slot in self.children.occupied_slots() {
            if let Some(bytes) = process::resident_bytes(self.scoreboard.slot(slot).pid()) {
                self.handle(Event::Measured { slot, bytes })?;
            }
        }
        Flow::Continue(())
    }

    fn reap(&mut self) -> Flow {
        let dead: Vec<_> = process::reap().collect();
        if !dead.is_empty() {
            // What a template has begun may go on for a moment without it. Either it is known from here on, or it ends.
            for slot in dead.iter().flat_map(|(pid, _)| self.children.slots_ordered_from(*pid)) {
                self.scoreboard.slot(slot).revoke();
            }
            // Their templates have told of them before they could end.
            self.look_at_orders()?;
        }
        for (pid, how) in dead {
            self.templates.retain(|(template, _)| *template != pid);
            self.host.has_ended(pid);
            self.handle(Event::Ended { pid, how })?;
        }
        Flow::Continue(())
    }

    fn tell_host(&mut self) {
        let now = Instant::now();
        if self.children.is_booting() {
            return;
        }
        let (ready, wanted, is_reloading) =
            (self.children.ready(), self.children.wanted(), self.children.is_reloading());
        let before = std::mem::replace(&mut self.told, (ready, wanted, is_reloading));
        match (before.2, is_reloading) {
            (false, true) => self.host.announce(News::Reloading),
            (true, false) => {
                self.host.announce(News::Reloaded);
                // The settings may want it now, and did not before.
                self.alive_at = self.host.alive_interval().map(|_| now);
            }
            (false, false) | (true, true) => {}
        }
        // During a reload the host knows more of the new generation than this.
        if !is_reloading {
            self.host.wants_workers(wanted);
        }
        if (before.0, before.1) != (ready, wanted) {
            self.host.announce(News::Serving { ready, wanted });
        }
        if self.alive_at.is_some_and(|at| at <= now) {
            self.alive_at = self.host.alive_interval().map(|interval| now + interval);
            self.host.announce(News::Alive);
        }
    }
}

/// What is done about it.
impl Supervisor<'_> {
    fn carry_out(&mut self, action: Action) -> Flow {
        match action {
            Action::Spawn { number: 0, slot, generation } => return self.spawn_template(slot, generation),
            Action::Spawn { number, slot, generation } => return self.spawn(number, slot, generation, None),
            Action::Order { number, slot, template } => return self.order(number, slot, template),
            Action::Dismiss { template } => self.templates.retain(|(pid, _)| *pid != template),
            Action::Terminate(pid) => note_failure(pid, process::terminate(pid)),
            Action::Abort(pid) => note_failure(pid, process::abort(pid)),
            Action::Kill(pid) => note_failure(pid, process::kill(pid)),
            Action::Vacate { slot } => self.scoreboard.slot(slot).vacate(),
            Action::Adopt { slot } => return self.tell_of_orphans(slot),
            Action::Report(report) => self.report(&report),
            Action::Stranger { pid, how } => {
                if !self.host.other_ended(pid, how) {
                    debug!("process {pid}, not a worker, {how}");
                }
            }
            Action::Started => return self.started(),
            Action::Proven { generation } => self.host.proven(generation),
            Action::Stopping => {
                self.scoreboard.set_stopping(true);
                if self.host.stop_listening() {
                    self.scoreboard.set_closed();
                }
                self.host.announce(News::Stopping);
            }
            Action::Retire { generation } => {
                // Those of an older one that asked for this one are to be heard again if it was given up.
                if generation > self.children.current() {
                    self.scoreboard.forget_reload_request();
                }
                self.host.retire(generation);
            }
            Action::Exit(exit) => return Flow::Break(Outcome::Ended(exit)),
        }
        Flow::Continue(())
    }

    fn report(&mut self, report: &Report) {
        self.tally.note(report);
        log!(report.level(), "{report}");
    }

    fn started(&mut self) -> Flow {
        self.host.started();
        self.host.announce(News::Ready);
        if let Err(error) = memory::forget_files() {
            debug!("the files of the start stay mapped: {error}");
        }
        if std::mem::take(&mut self.is_reload_due) { self.reload("SIGHUP") } else { Flow::Continue(()) }
    }

    fn tell_of_orphans(&mut self, slot: u32) -> Flow {
        match self.inboxes.map(|inboxes| inboxes.send_orphans(slot)) {
            None | Some(Sent::Done) => Flow::Continue(()),
            Some(Sent::Full) => self.handle(Event::NotAdopted),
            Some(Sent::Failed(error)) => {
                error!("inbox {slot} cannot be written: {error}");
                self.handle(Event::NotAdopted)
            }
        }
    }

    fn spawn_template(&mut self, slot: u32, generation: u32) -> Flow {
        // Its workers become children of this process.
        match process::adopt_orphans().and_then(|()| orders::channel()) {
            Ok(channel) => self.spawn(0, slot, generation, Some(channel)),
            Err(error) => self.handle(Event::SpawnFailed { slot, reason: error.to_string() }),
        }
    }

    fn spawn(&mut self, number: u32, slot: u32, generation: u32, channel: Option<Channel>) -> Flow {
        let identity = match self.announce_worker(number, slot, generation) {
            Ok(identity) => identity,
            Err(reason) => return self.handle(Event::SpawnFailed { slot, reason }),
        };
        let told = self.scoreboard.slot(slot);
        told.prepare();
        let (sender, receiver) = channel.unzip();
        let event = match self.host.fork() {
            Ok(Fork::Child) => return Flow::Break(Outcome::InChild(identity, receiver)),
            Ok(Fork::Parent(pid)) => {
                told.assign(pid);
                self.host.has_spawned(slot, pid);
                self.templates.extend(sender.map(|sender| (pid, sender)));
                Event::Spawned { slot, pid }
            }
            Err(error) => Event::SpawnFailed { slot, reason: error.to_string() },
        };
        self.handle(event)
    }

    /// Tells the host of a worker to come, and nothing of a template.
    fn announce_worker(&mut self, number: u32, slot: u32, generation: u32) -> Result<WorkerIdentity, String> {
        let mut identity = WorkerIdentity { slot, number, generation, parent: self.pid, age: 0 };
        if number > 0 {
            self.workers_asked_for += 1;
            identity.age = self.workers_asked_for;
            self.host.will_spawn(identity)?;
        }
        Ok(identity)
    }

    fn order(&mut self, number: u32, slot: u32, template: Pid) -> Flow {
        let generation = self.children.generation_of(template);
        let identity = match self.announce_worker(number, slot, generation) {
            Ok(identity) => identity,
            Err(reason) => return self.handle(Event::SpawnFailed { slot, reason }),
        };
        let order = Order { slot, number, ticket: self.scoreboard.slot(slot).prepare(), age: identity.age };
        let sender = self.templates.iter_mut().find(|(pid, _)| *pid == template);
        let sent = sender.map_or(Err(io::ErrorKind::NotFound.into()), |(_, sender)| sender.send(order));
        match sent {
            Ok(()) => Flow::Continue(()),
            Err(error) => self.handle(Event::SpawnFailed { slot, reason: format!("its template is gone: {error}") }),
        }
    }
}

type Channel = (orders::Sender, orders::Receiver);

/// A child that was not reaped yet can always be signalled, unless it runs as somebody else.
fn note_failure(pid: Pid, sent: io::Result<()>) {
    if let Err(error) = sent {
        debug!("process {pid} could not be signalled: {error}");
    }
}
