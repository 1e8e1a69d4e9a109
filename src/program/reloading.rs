//! Reading the configuration again (SIGHUP, `minicorn ctl reload`): what cannot be had is found out before anything
//! changes, and then all stays as it was.
//!
//! Workers of the new generation find its settings, listeners, user and logs. The master itself follows: its own
//! sockets, error log, pid file, umask and title. If the generation is given up, the master goes back.

use super::door;
use super::evaluation;
use super::hooks;
use super::host::{Generation, Program};
use super::listening::Listening;
use super::pid_file::PidFile;
use super::privileges::Privileges;
use super::start_error::StartError;
use super::{
    change_folder, check_folder, choose_interpreter, open_access_log, open_statsd, second_path, warn_if_not_given,
};
use crate::log::{self as logs, NextErrorLog, Stream, Syslog};
use crate::settings::{self, LogTarget, Settings, Surroundings};
use std::path::Path;

/// What the master does differently by other settings, opened and not in use yet.
struct Changes {
    door: door::Change,
    error_log: Option<NextErrorLog>,
}

impl Changes {
    fn open(before: &Settings, settings: &Settings) -> Result<Self, StartError> {
        let error_log = (before.error_log != settings.error_log).then(|| open_error_log(&settings.error_log));
        let error_log = error_log.transpose()?;
        Ok(Self { door: door::Change::open(Some(before), settings)?, error_log })
    }
}

fn open_error_log(target: &LogTarget) -> Result<NextErrorLog, StartError> {
    NextErrorLog::open(target).map_err(|error| super::error_log_failed(target, &error))
}

impl Program<'_> {
    /// The generation that comes next, which the master follows already.
    pub(super) fn read_again(&mut self) -> Result<Generation, String> {
        let before = self.newest().map(|newest| newest.settings.clone()).ok_or("no generation is left")?;
        let folder = self.around.folder.clone();
        folder.read_again(before.chdir.as_deref(), || {
            let read = self.prepare(&before).and_then(|generation| {
                self.follow(&before, &generation).inspect_err(|_| generation.listening.forget_since(self.places()))?;
                Ok(generation)
            });
            read.map_err(|error| {
                self.resume_hooks();
                error.sentence
            })
        })
    }

    fn prepare(&self, before: &Settings) -> Result<Generation, StartError> {
        // The command line as it was given: a process that has a title finds that in the place of its own.
        let surroundings = Surroundings { evaluate: evaluation::evaluate_again, ..super::SURROUNDINGS };
        let settings = settings::read(before.arguments.clone(), surroundings)
            .map_err(|error| StartError::usage(error.sentence()))?;
        change_folder(&settings)?;
        let privileges = Privileges::look_up(&settings)?;
        let is_other_user = !has_same_user(before, &settings);
        if is_other_user {
            privileges.rehearse()?;
        }
        check_folder(&settings, &privileges)?;
        let interpreter = choose_interpreter(&settings)?;
        let access_log = open_access_log(&settings, &privileges)?;
        let listening = self.listening_of(before, &settings)?;
        let directory = std::env::current_dir().ok();
        let first = if is_other_user { 0 } else { self.places() };
        if let Err(error) = listening.give_to(privileges.owner(), first) {
            listening.forget_since(self.places());
            return Err(error);
        }
        let hooks = hooks::start(&settings, &interpreter, &self.around.folder).map_err(|error| {
            listening.forget_since(self.places());
            StartError::failed(error)
        })?;
        let statsd = open_statsd(&settings);
        Ok(Generation { settings, interpreter, access_log, statsd, directory, listening, privileges, hooks })
    }

    /// The listeners stay what they are as long as `--bind` says the same, and if systemd decides.
    fn listening_of(&self, before: &Settings, settings: &Settings) -> Result<Listening, StartError> {
        let same = self.newest().map(|newest| newest.listening.same()).unwrap_or_default();
        if before.bind == settings.bind {
            return Ok(same);
        }
        if self.around.has_sockets_of_starter {
            log::warn!("--bind has changed and does nothing: the sockets are those of whoever has started the server");
            return Ok(same);
        }
        Listening::follow(self.generations().map(|own| &own.listening), settings)
    }

    /// Has the master do as the settings of this generation say.
    fn follow(&mut self, before: &Settings, generation: &Generation) -> Result<(), StartError> {
        let Generation { settings, privileges, hooks, .. } = generation;
        let changes = Changes::open(before, settings)?;
        if let Err(error) = self.move_pid_file(before, settings) {
            changes.door.forget();
            return Err(error);
        }
        let Changes { door, error_log } = changes;
        if let Err(error) = door.make(&mut self.around.door) {
            log::error!("{}", error.sentence);
        }
        if let Some(Err(error)) = error_log.map(NextErrorLog::begin) {
            log::error!("{error}");
        }
        if let Some(owner) = privileges.owner() {
            warn_if_not_given(logs::give_to(owner));
        }
        logs::send_to_syslog(Syslog::of(settings, Stream::Error));
        logs::set_level(settings.log_level);
        hooks::follow(settings, hooks.as_deref());
        privileges.set_umask_of_master(self.around.inherited_umask);
        self.name_master(settings);
        self.about.app.clone_from(&settings.app);
        if before.backlog != settings.backlog {
            generation.listening.set_backlog(settings.backlog);
        }
        super::make_room_for_descriptors(settings, self.slots());
        warn_of_unchanged(before, settings);
        Ok(())
    }

    /// The newest generation was given up after the master had followed it.
    pub(super) fn go_back(&mut self, given_up: &Settings) {
        let Some((number, generation)) = self.take_newest() else { return };
        if let Err(error) = self.follow(given_up, &generation) {
            log::error!("the master does not go back to its settings of before: {}", error.sentence);
        }
        self.put_back(number, generation);
        self.resume_hooks();
    }

    /// Has Python in the master be that of the newest generation again.
    fn resume_hooks(&self) {
        if let Some(Generation { settings, hooks, listening, .. }) = self.newest() {
            hooks::resume(settings, hooks.as_deref(), listening);
        }
    }

    fn move_pid_file(&mut self, before: &Settings, settings: &Settings) -> Result<(), StartError> {
        if before.pid_file == settings.pid_file {
            return Ok(());
        }
        let has_old = self.around.upgrade.has_old();
        let path = |path: &Path| if has_old { second_path(path) } else { path.to_owned() };
        let path = settings.pid_file.as_deref().map(path);
        if let (Some(path), Some(file)) = (&path, &self.around.pid_file)
            && file.is_at(path)
        {
            return Ok(());
        }
        let created = path.map(|path| PidFile::create(&path)).transpose();
        // The one before is removed with that.
        self.around.pid_file = created.map_err(StartError::failed)?;
        Ok(())
    }
}

fn has_same_user(before: &Settings, settings: &Settings) -> bool {
    (&before.user, &before.group, before.initgroups) == (&settings.user, &settings.group, settings.initgroups)
}

/// Says which settings have changed that a reload cannot change.
fn warn_of_unchanged(before: &Settings, settings: &Settings) {
    let changed = [
        ("--daemon", before.daemon != settings.daemon),
        ("--enable-stdio-inheritance", before.enable_stdio_inheritance != settings.enable_stdio_inheritance),
        ("--no-passing", before.passing != settings.passing),
        ("--reuse-port", before.reuse_port != settings.reuse_port),
    ];
    let names: Vec<&str> = changed.iter().filter(|(_, is_other)| *is_other).map(|(name, _)| *name).collect();
    if !names.is_empty() {
        log::warn!("what has changed of these settings takes effect at a restart: {}", names.join(", "));
    }
}
