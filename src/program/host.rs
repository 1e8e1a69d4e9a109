//! [`Program`]: what the master's workers are, and what is done for the master.

use super::daemon::Report;
use super::folder::Folder;
use super::notify::Notifier;
use super::pid_file::PidFile;
use super::privileges::Privileges;
use super::upgrade::Upgrade;
use crate::banner;
use crate::exit::Exit;
use crate::log::access::AccessLog;
use crate::log::{self as logs, Identity};
use crate::master::{self, News, Plan, Shared, WorkerIdentity};
use crate::net::Listener;
use crate::orders;
use crate::settings::Settings;
use crate::sys::process::{self, HowEnded, Pid};
use crate::sys::title::Title;
use crate::worker::template::{self, Post};
use crate::worker::{self, Kit, WorkerTitle};
use crate::wsgi::interpreter::Interpreter;
use std::path::PathBuf;
use std::time::Duration;

/// What the workers of one generation are made from: one reading of the configuration.
pub(super) struct Generation {
    pub(super) settings: Settings,
    pub(super) interpreter: Interpreter,
    pub(super) access_log: Option<AccessLog>,
    /// The working directory, after --chdir; `None`: it has no name any more.
    pub(super) directory: Option<PathBuf>,
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
}

/// The state of the program while it serves.
pub(super) struct Program<'p> {
    /// By number, those that have workers or may get some.
    generations: Vec<(u32, Generation)>,
    around: Around<'p>,
    shared: Shared<'p>,
    title: Title,
}

/// What the program has besides its generations.
pub(super) struct Around<'p> {
    pub(super) listeners: &'p [Listener],
    /// Removed when the program ends.
    pub(super) pid_file: Option<PidFile>,
    pub(super) privileges: Privileges,
    pub(super) notifier: Notifier,
    /// Whom to tell, once, that the server serves; a server in the background has that.
    pub(super) report: &'p mut Option<Report>,
    pub(super) folder: Folder,
    pub(super) upgrade: &'p mut Upgrade,
}

impl<'p> Program<'p> {
    pub(super) fn new(first: Generation, around: Around<'p>, shared: Shared<'p>, mut title: Title) -> Self {
        title.set(&format!("minicorn: master [{}]", first.settings.proc_name));
        Self { generations: vec![(1, first)], around, shared, title }
    }

    fn generation(&self, number: u32) -> &Generation {
        let found = self.generations.iter().find(|(own, _)| *own == number);
        &found.expect("the master names generations that it was given").1
    }

    fn worker_plan(&self, number: u32) -> worker::Plan<'_> {
        let Generation { settings, interpreter, .. } = self.generation(number);
        let Shared { scoreboard, inboxes } = self.shared;
        worker::Plan {
            settings,
            listeners: self.around.listeners,
            interpreter,
            scoreboard,
            inboxes,
            generation: number,
        }
    }
}

impl Program<'_> {
    /// What a child does first: it is nobody's report, and not yet who it should be.
    fn become_child(&mut self, parent: Pid) -> Result<(), Exit> {
        *self.around.report = None;
        self.around.privileges.take_on(parent).map_err(|error| {
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
    fn take_access_log(&mut self, number: u32) -> Option<AccessLog> {
        let found = self.generations.iter_mut().find(|(own, _)| *own == number);
        found.and_then(|(_, generation)| generation.access_log.take())
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

impl master::Host for Program<'_> {
    fn work(&mut self, identity: WorkerIdentity) -> Exit {
        logs::set_identity(Identity::Worker(identity.number));
        self.enter_directory(identity.generation);
        if let Err(exit) = self.become_child(identity.parent) {
            return exit;
        }
        let access_log = self.take_access_log(identity.generation);
        let title = std::mem::take(&mut self.title);
        let plan = self.worker_plan(identity.generation);
        let title = WorkerTitle::new(title, identity.number, &plan.settings.proc_name);
        worker::run(plan, Kit { slot: identity.slot, access_log, title })
    }

    fn work_as_template(&mut self, identity: WorkerIdentity, orders: orders::Receiver) -> Exit {
        logs::set_identity(Identity::Template);
        self.enter_directory(identity.generation);
        if let Err(exit) = self.become_child(identity.parent) {
            return exit;
        }
        let access_log = self.take_access_log(identity.generation);
        let post = Post { slot: identity.slot, master: identity.parent, orders };
        let mut title = std::mem::take(&mut self.title);
        let plan = self.worker_plan(identity.generation);
        title.set(&format!("minicorn: template [{}]", plan.settings.proc_name));
        template::run(plan, post, access_log, title)
    }

    fn started(&mut self) {
        banner::say(&self.generation(1).settings, self.around.listeners);
        // The old master may have gone before its end could be signalled.
        self.look_at_family();
        if let Some(report) = self.around.report.take() {
            self.leave_terminal(report);
        }
    }

    fn reload(&mut self, generation: u32) -> Result<Plan, String> {
        let Around { folder, privileges, .. } = &self.around;
        let before = self.generations.last().map(|(_, generation)| &generation.settings);
        let before = before.ok_or("no generation is left")?;
        let read = || super::read_again(before, privileges).map_err(|error| error.sentence);
        let new = folder.read_again(before.chdir.as_deref(), read)?;
        let plan = new.plan();
        self.generations.push((generation, new));
        Ok(plan)
    }

    fn retire(&mut self, generation: u32) {
        self.generations.retain(|(own, _)| *own != generation);
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
        self.around.upgrade.start(self.around.listeners);
    }

    fn other_ended(&mut self, pid: Pid, how: HowEnded) -> bool {
        self.around.upgrade.note_end(pid, how)
    }

    fn look_at_family(&mut self) {
        if let Some(old) = self.around.upgrade.succeed() {
            log::info!("upgrade: the old master, pid {old}, is gone; this one has taken its place");
            self.take_over_pid_file(old);
        }
    }

    fn announce(&mut self, news: News) {
        if news == News::Stopping
            && let Some(successor) = self.around.upgrade.successor()
        {
            self.around.notifier.main_pid(successor);
        } else {
            self.around.notifier.announce(news);
        }
    }

    fn alive_interval(&self) -> Option<Duration> {
        self.around.notifier.alive_interval()
    }

    fn stop_listening(&mut self) -> bool {
        let Around { listeners, upgrade, .. } = &self.around;
        for listener in listeners.iter().filter(|listener| upgrade.may_close_door(listener)) {
            if let Err(error) = listener.refuse_newcomers() {
                log::warn!("{listener}: clients that connect now may be reset: {error}");
            }
        }
        upgrade.is_alone()
    }
}
