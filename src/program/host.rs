//! [`Program`]: what the master's workers are, and what is done for the master.

use super::control::{Server, Stacks};
use super::daemon::Report;
use super::door::{self, Answer, Door, Service};
use super::folder::Folder;
use super::hooks;
use super::listening::{self, Listening};
use super::notify::Notifier;
use super::pid_file::PidFile;
use super::privileges::Privileges;
use super::upgrade::Upgrade;
use super::{control, forking};
use crate::admin::{self, About, Facts};
use crate::banner;
use crate::exit::Exit;
use crate::log::access::AccessLog;
use crate::log::{self as logs, Identity};
use crate::master::{self, News, Plan, Shared, View, Wish, WorkerIdentity};
use crate::net::Listener;
use crate::orders;
use crate::settings::Settings;
use crate::statsd::Statsd;
use crate::sys::process::{self, Fork, HowEnded, Pid};
use crate::sys::title::Title;
use crate::worker::template::{self, Post};
use crate::worker::{self, Kit, WorkerTitle};
use crate::wsgi::Hooks;
use crate::wsgi::hooks::Raised;
use crate::wsgi::interpreter::{self, Interpreter};
use pyo3::prelude::*;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the workers of one generation are made from: one reading of the configuration.
pub(super) struct Generation {
    pub(super) settings: Settings,
    pub(super) interpreter: Interpreter,
    pub(super) access_log: Option<AccessLog>,
    /// The master's and the workers', who take it with them as it is when they are forked.
    pub(super) statsd: Option<Statsd>,
    /// The working directory, after --chdir; `None`: it has no name any more.
    pub(super) directory: Option<PathBuf>,
    /// Those of its configuration file, if the master runs it.
    pub(super) hooks: Option<Arc<Hooks>>,
    pub(super) listening: Listening,
    /// Whom its workers run as.
    pub(super) privileges: Privileges,
}

impl Generation {
    /// What the master has to know.
    pub(super) fn plan(&self) -> Plan {
        let settings = &self.settings;
        Plan {
            workers: settings.workers,
            // Each reload would be one of the template too, and an application that cannot be loaded ends it.
            preload: settings.preload && !settings.reload,
            graceful_timeout: settings.graceful_timeout,
            timeout: settings.timeout,
            boot_timeout: settings.boot_timeout,
            has_terminal: !settings.daemon,
            shutdown_delay: settings.shutdown_delay,
            max_worker_lifetime: settings.max_worker_lifetime,
            max_worker_rss: settings.max_worker_rss,
        }
    }

    fn metrics_interval(&self) -> Duration {
        if self.settings.metrics.enable_backlog_metric { BACKLOG_INTERVAL } else { METRICS_INTERVAL }
    }
}

/// How often statsd is told of the workers, whether their number has changed or not.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is told of the backlog, which changes quickly; gunicorn's interval.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(1);

/// The state of the program while it serves.
pub(super) struct Program<'p> {
    /// By number, those that have workers or may get some.
    generations: Vec<(u32, Generation)>,
    pub(super) around: Around<'p>,
    shared: Shared<'p>,
    title: Title,
    /// As far as hooks know.
    workers_wanted: u32,
    /// Workers that serve.
    ready: u32,
    pub(super) about: About,
}

/// What the program has besides its generations.
pub(super) struct Around<'p> {
    /// Whether systemd or another starter decides where the server listens, and not `--bind`.
    pub(super) has_sockets_of_starter: bool,
    /// Removed when the program ends.
    pub(super) pid_file: Option<PidFile>,
    pub(super) inherited_umask: u32,
    pub(super) notifier: Notifier,
    /// Whom to tell, once, that the server serves; a server in the background has that.
    pub(super) report: &'p mut Option<Report>,
    pub(super) folder: Folder,
    pub(super) upgrade: &'p mut Upgrade,
    /// Where the master itself is spoken to.
    pub(super) door: Option<Door>,
    /// What workers write down for those who ask.
    pub(super) stacks: Option<Rc<Stacks>>,
    pub(super) started_at: Instant,
    /// What is served, if it is an object of the program around us.
    pub(super) application: Option<&'p Py<PyAny>>,
}

impl<'p> Program<'p> {
    pub(super) fn new(first: Generation, around: Around<'p>, shared: Shared<'p>, title: Title) -> Self {
        let workers_wanted = first.settings.workers;
        let about = About::starting(interpreter::version(), first.settings.app.clone());
        let mut program = Self { generations: Vec::new(), around, shared, title, workers_wanted, ready: 0, about };
        program.name_master(&first.settings);
        program.generations.push((1, first));
        program
    }

    /// Removes its socket files, at its end.
    pub(super) fn unlink_sockets(&self) {
        self.around.door.iter().for_each(Door::unlink_all);
        self.generations().for_each(|own| own.listening.unlink_all(self.around.upgrade));
    }

    pub(super) fn name_master(&mut self, settings: &Settings) {
        self.title.set(&format!("minicorn: master [{}]", settings.proc_name));
    }

    /// In the order of their numbers.
    pub(super) fn generations(&self) -> impl DoubleEndedIterator<Item = &Generation> + Clone {
        self.generations.iter().map(|(_, generation)| generation)
    }

    pub(super) fn newest(&self) -> Option<&Generation> {
        self.generations().next_back()
    }

    pub(super) fn take_newest(&mut self) -> Option<(u32, Generation)> {
        self.generations.pop()
    }

    pub(super) fn put_back(&mut self, number: u32, generation: Generation) {
        self.generations.push((number, generation));
    }

    /// Where anybody can connect, as URLs.
    fn addresses(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for listener in self.generations().flat_map(|own| own.listening.open_ones()) {
            let address = listener.to_string();
            if !listener.is_closed() && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// How many addresses the server has listened at.
    pub(super) fn places(&self) -> usize {
        self.newest().map_or(0, |newest| newest.listening.places())
    }

    /// Of the scoreboard.
    pub(super) fn slots(&self) -> u32 {
        self.shared.scoreboard.slots()
    }

    /// The listeners of one generation that no other has.
    fn only_of<'l>(&'l self, listening: &'l Listening) -> impl Iterator<Item = &'l Arc<Listener>> {
        let is_elsewhere = |listener: &Arc<Listener>| self.generations().any(|other| other.listening.has(listener));
        listening.open_ones().iter().filter(move |listener| !is_elsewhere(listener))
    }

    fn generation(&self, number: u32) -> &Generation {
        let found = self.generations.iter().find(|(own, _)| *own == number);
        &found.expect("the master names generations that it was given").1
    }

    fn worker_plan(&self, number: u32) -> worker::Plan<'_> {
        let Generation { settings, interpreter, listening, hooks, .. } = self.generation(number);
        let Shared { scoreboard, inboxes } = self.shared;
        worker::Plan {
            settings,
            listeners: listening.listeners(),
            interpreter,
            scoreboard,
            inboxes,
            generation: number,
            hooks: hooks.as_ref(),
            folder: self.around.folder.path(),
            stacks: self.around.stacks.as_ref().map(|stacks| stacks.file()),
            application: self.around.application,
        }
    }
}

impl Program<'_> {
    /// Whether there is somebody to tell of what has happened to the workers.
    fn with_python(&self, tell: impl FnOnce() -> Result<(), Raised>) {
        if self.generations.iter().any(|(_, generation)| generation.hooks.is_some()) {
            hooks::note(Some(tell()));
        }
    }

    /// What a child does first: it is nobody's report, and not yet who it should be.
    fn become_child(&mut self, number: u32, parent: Pid) -> Result<(), Exit> {
        *self.around.report = None;
        self.around.door = None;
        // A listener that is given up would stay as long as anybody has it.
        self.generations.retain(|(own, _)| *own == number);
        self.generation(number).privileges.take_on(parent).map_err(|error| {
            log::error!("cannot run as the user and group of --user and --group: {error}");
            Exit::WorkersCannotBoot
        })
    }

    /// Where the child's generation is at home: the master is where the newest one is, which may have been given up.
    fn enter_directory(&self, number: u32) {
        if let Some(directory) = &self.generation(number).directory
            && let Err(error) = std::env::set_current_dir(directory)
        {
            log::debug!("it starts in the directory of the master: {}: {error}", directory.display());
        }
    }

    /// In a child, which needs nothing of the others.
    fn take_records(&mut self, number: u32) -> (Option<AccessLog>, Option<Statsd>) {
        let found = self.generations.iter_mut().find(|(own, _)| *own == number);
        found.map_or((None, None), |(_, generation)| (generation.access_log.take(), generation.statsd.take()))
    }

    /// Tells statsd how the master sees the server.
    fn send_metrics(&mut self) {
        let newest = self.generations.last_mut().map(|(_, generation)| generation);
        let Some(Generation { settings, listening, statsd: Some(statsd), .. }) = newest else { return };
        statsd.workers(self.ready);
        // Of Unix sockets nothing is known.
        let waiting = listening.open_ones().iter().filter_map(|own| own.waiting()).reduce(|sum, count| sum + count);
        if let Some(waiting) = waiting.filter(|_| settings.metrics.enable_backlog_metric) {
            statsd.backlog(waiting);
        }
        statsd.logged(logs::take_counts());
        statsd.flush();
    }

    /// The hooks of the configuration that counts.
    fn hooks(&self) -> Option<&Arc<Hooks>> {
        self.generations.last().and_then(|(_, generation)| generation.hooks.as_ref())
    }

    /// The workers are gone.
    pub(super) fn ends(mut self) {
        // As with gunicorn, whose hook comes last.
        self.around.pid_file = None;
        hooks::note(self.hooks().map(|hooks| hooks.on_exit()));
    }

    /// Whoever has started a server in the background gets the terminal and an answer.
    fn leave_terminal(&mut self, report: Report) {
        logs::leave_terminal();
        // Before the answer: systemd would take the end of the process that it has started for that of the server.
        self.around.notifier.main_pid(process::own_pid());
        report.serves();
    }

    /// Takes the name that the old master had for its pid file.
    fn take_over_pid_file(&mut self, old: Pid) {
        // The newest generation that serves, or is about to.
        let settings = self.generations.last().map(|(_, generation)| &generation.settings);
        if let (Some(file), Some(path)) = (&mut self.around.pid_file, settings.and_then(|own| own.pid_file.as_deref()))
            && let Err(error) = file.rename_to(path, old)
        {
            log::error!("{error}");
        }
    }
}

impl Program<'_> {
    /// Listens where the old master has answered, if that was in the way before.
    fn take_over_door(&mut self) {
        let settings = self.generations.last().map(|(_, generation)| &generation.settings);
        let Some(settings) = settings else { return };
        let completed = door::Change::complete(self.around.door.as_ref(), settings);
        if let Err(error) = completed.and_then(|change| change.make(&mut self.around.door)) {
            log::error!("{}", error.sentence);
        }
    }
}

impl master::Host for Program<'_> {
    fn will_spawn(&mut self, coming: WorkerIdentity) -> Result<(), String> {
        let Some(hooks) = &self.generation(coming.generation).hooks else { return Ok(()) };
        hooks.pre_fork(coming.slot, coming.age).map_err(|raised| raised.log_and_summarize())
    }

    fn has_spawned(&mut self, slot: u32, pid: Pid) {
        self.with_python(|| Hooks::spawned(slot, pid.as_raw()));
    }

    fn has_ended(&mut self, pid: Pid) {
        self.with_python(|| Hooks::child_exit(pid.as_raw()));
    }

    fn wants_workers(&mut self, count: u32) {
        if count != self.workers_wanted {
            self.workers_wanted = count;
            hooks::note(self.hooks().map(|hooks| hooks.nworkers_changed(count)));
        }
    }

    fn fork(&mut self) -> io::Result<Fork> {
        forking::fork()
    }

    fn work(&mut self, identity: WorkerIdentity) -> Exit {
        logs::set_identity(Identity::Worker(identity.number));
        self.enter_directory(identity.generation);
        if let Err(exit) = self.become_child(identity.generation, identity.parent) {
            return exit;
        }
        let (access_log, statsd) = self.take_records(identity.generation);
        let title = std::mem::take(&mut self.title);
        let plan = self.worker_plan(identity.generation);
        let title = WorkerTitle::new(title, identity.number, &plan.settings.proc_name);
        worker::run(plan, Kit { slot: identity.slot, age: identity.age, access_log, statsd, title })
    }

    fn work_as_template(&mut self, identity: WorkerIdentity, orders: orders::Receiver) -> Exit {
        logs::set_identity(Identity::Template);
        self.enter_directory(identity.generation);
        if let Err(exit) = self.become_child(identity.generation, identity.parent) {
            return exit;
        }
        let (access_log, statsd) = self.take_records(identity.generation);
        let post = Post { slot: identity.slot, master: identity.parent, orders };
        let mut title = std::mem::take(&mut self.title);
        let plan = self.worker_plan(identity.generation);
        title.set(&format!("minicorn: template [{}]", plan.settings.proc_name));
        template::run(plan, post, access_log, statsd, title)
    }

    fn started(&mut self) {
        let first = self.generation(1);
        banner::say(&first.settings, first.listening.open_ones());
        for address in self.around.door.iter().flat_map(Door::admin_addresses) {
            log::info!("health, metrics and status at {address}");
        }
        // The old master may have gone before its end could be signalled.
        self.look_at_family();
        if let Some(report) = self.around.report.take() {
            self.leave_terminal(report);
        }
    }

    fn reload(&mut self, generation: u32) -> Result<Plan, String> {
        let new = self.read_again()?;
        if self.around.application.is_some() {
            log::warn!("the settings are read again, but the application is an object of this process: its code stays");
        }
        let plan = new.plan();
        self.workers_wanted = plan.workers;
        hooks::note(new.hooks.as_ref().map(|hooks| hooks.on_reload(&new.listening.facts())));
        self.generations.push((generation, new));
        Ok(plan)
    }

    fn proven(&mut self, generation: u32) {
        let old = self.generations.iter().filter(|(own, _)| *own < generation);
        let stays = |listener: &Arc<Listener>| {
            self.generations.iter().any(|(own, other)| *own >= generation && other.listening.has(listener))
        };
        for listener in old.flat_map(|(_, old)| old.listening.open_ones()) {
            if !stays(listener) && !listener.is_closed() && self.around.upgrade.may_close_door(listener) {
                log::info!("{listener}: nobody new can connect, it is not in --bind any more");
                listening::refuse_newcomers(listener);
            }
        }
    }

    fn retire(&mut self, generation: u32) {
        let Some(index) = self.generations.iter().position(|(own, _)| *own == generation) else { return };
        let is_newest = index + 1 == self.generations.len();
        let (_, gone) = self.generations.remove(index);
        for listener in self.only_of(&gone.listening).filter(|own| self.around.upgrade.may_close_door(own)) {
            listening::unlink(listener);
        }
        if is_newest {
            self.go_back(&gone.settings);
        }
        if gone.hooks.is_some() {
            drop(gone);
            hooks::note(Some(Hooks::collect()));
        }
    }

    fn reopen_logs(&mut self) {
        // Workers that come later get the access log from here.
        let access_logs = self.generations.iter_mut().filter_map(|(_, generation)| generation.access_log.as_mut());
        for error in logs::reopen_all(access_logs) {
            log::error!("it goes on in its old file: {error}");
        }
        log::info!("log files opened anew");
    }

    fn upgrade(&mut self) {
        let Some((_, newest)) = self.generations.last() else { return };
        let hooks = newest.hooks.clone();
        let before = || hooks::note(hooks.map(|hooks| hooks.pre_exec()));
        self.around.upgrade.start(newest.listening.open_ones(), before);
    }

    fn other_ended(&mut self, pid: Pid, how: HowEnded) -> bool {
        self.around.upgrade.note_end(pid, how)
    }

    fn look_at_family(&mut self) {
        if let Some(old) = self.around.upgrade.succeed() {
            log::info!("upgrade: the old master, pid {old}, is gone; this one has taken its place");
            self.take_over_pid_file(old);
            self.take_over_door();
        }
    }

    fn announce(&mut self, news: News) {
        if let News::Serving { ready, .. } = news {
            self.ready = ready;
        }
        if matches!(news, News::Serving { .. } | News::Alive) {
            self.send_metrics();
        }
        logs::flush();
        // The metrics may have wanted it, and nobody else.
        if news == News::Alive && self.around.notifier.alive_interval().is_none() {
            return;
        }
        if news == News::Stopping
            && let Some(successor) = self.around.upgrade.successor()
        {
            self.around.notifier.main_pid(successor);
        } else {
            self.around.notifier.announce(news);
        }
    }

    fn alive_interval(&self) -> Option<Duration> {
        let newest = self.generations.last().map(|(_, generation)| generation);
        let metrics = newest.filter(|generation| generation.statsd.is_some()).map(Generation::metrics_interval);
        self.around.notifier.alive_interval().into_iter().chain(metrics).min()
    }

    fn door(&self) -> Option<BorrowedFd<'_>> {
        self.around.door.as_ref().map(AsFd::as_fd)
    }

    fn door_deadline(&self) -> Option<Instant> {
        self.around.door.as_ref().and_then(Door::next_deadline)
    }

    fn serve(&mut self, view: &View) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let Some(mut door) = self.around.door.take() else { return wishes };
        let current = self.generations.iter().find(|(own, _)| *own == view.generation).map(|(_, current)| current);
        let listeners = current.map_or(&[][..], |current| current.listening.open_ones());
        let facts = Facts { about: &self.about, view, scoreboard: self.shared.scoreboard, listeners };
        door.serve(Instant::now(), &mut |service, bytes| match service {
            Service::Admin { is_loopback } => {
                admin::answer(bytes, is_loopback, &facts).map_or(Answer::NeedMore, Answer::Reply)
            }
            Service::Control => {
                let server = Server {
                    view,
                    scoreboard: self.shared.scoreboard,
                    started_at: self.around.started_at,
                    listeners: self.addresses(),
                    settings: current.map(|current| &current.settings),
                    stacks: self.around.stacks.as_ref(),
                };
                control::answer(bytes, &server, &mut wishes)
            }
        });
        self.around.door = Some(door);
        wishes
    }

    fn stop_listening(&mut self) -> bool {
        let upgrade = &self.around.upgrade;
        let listeners = self.generations().flat_map(|own| own.listening.open_ones());
        for listener in listeners.filter(|own| !own.is_closed() && upgrade.may_close_door(own)) {
            listening::refuse_newcomers(listener);
        }
        upgrade.is_alone()
    }
}
