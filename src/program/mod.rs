//! The program around master and workers, in the order of its start: folder, user, logs, interpreter, background,
//! listeners, pid file, master. What the master wants done that is not supervision comes back here, as its
//! [`Host`](master::Host).
#![forbid(unsafe_code)]

mod daemon;
mod folder;
mod host;
mod notify;
mod pid_file;
mod privileges;
mod sockets;
mod start_error;
mod upgrade;

use self::daemon::Report;
use self::folder::Folder;
use self::host::{Around, Generation, Program};
use self::notify::Notifier;
use self::pid_file::PidFile;
use self::privileges::Privileges;
use self::sockets::Source;
use self::start_error::StartError;
use self::upgrade::{Beginning, Upgrade};
use crate::exit::Exit;
use crate::inboxes::Inboxes;
use crate::log::access::AccessLog;
use crate::log::{self as logs, Identity};
use crate::master::{self, Shared};
use crate::net::Listener;
use crate::scoreboard::Scoreboard;
use crate::settings::{self, LogTarget, Settings};
use crate::sys::title::Title;
use crate::sys::{cpus, limits, process};
use crate::worker;
use crate::wsgi::interpreter::{Interpreter, InterpreterError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Does what the settings say, until it is asked to stop; what goes wrong is told on standard error.
pub fn run(settings: Settings) -> Exit {
    let mut report = None;
    let exit = start(settings, &mut report).unwrap_or_else(|error| error.report());
    // Still there if the server has never served.
    if let Some(report) = report {
        report.ended(exit);
    }
    exit
}

/// In the background, `report` is whom to tell how it went.
fn start(settings: Settings, report: &mut Option<Report>) -> Result<Exit, StartError> {
    let folder = Folder::of_process().map_err(|error| StartError::failed(format!("no working directory: {error}")))?;
    // Before anything is changed of what they read.
    let beginning = Beginning::read(&settings, &folder);
    let source = Source::claim()?;
    change_folder(&settings)?;
    let privileges = Privileges::look_up(&settings)?;
    privileges.set_umask_of_master();
    open_error_log(&settings)?;
    logs::set_identity(Identity::Master);
    warn_if_not_given(privileges.owner().map_or(Ok(()), logs::give_to));
    privileges.rehearse()?;
    check_folder(&settings, &privileges)?;
    let interpreter = choose_interpreter(&settings)?;
    if settings.check_config || settings.print_config {
        return check(&settings, &interpreter, &privileges);
    }
    if settings.preload && settings.reload {
        ::log::warn!("--preload does nothing beside --reload");
    }
    let access_log = open_access_log(&settings, &privileges)?;
    let notifier = Notifier::new(&|name| std::env::var_os(name));
    // A new master stays the child of the old one, which has left the terminal.
    if settings.daemon && source.old_master().is_none() {
        match go_to_the_background(&settings, &notifier)? {
            Ok(told) => *report = Some(told),
            Err(exit) => return Ok(exit),
        }
    }
    let listeners = source.listen(&settings)?;
    let mut upgrade = Upgrade::new(beginning, source.old_master());
    let around =
        Around { listeners: &listeners, pid_file: None, privileges, notifier, report, folder, upgrade: &mut upgrade };
    let directory = std::env::current_dir().ok();
    let exit = serve(Generation { settings, interpreter, access_log, directory }, around);
    remove_socket_files(&listeners, &upgrade);
    exit
}

/// What a reload needs: the configuration as it is now.
fn read_again(before: &Settings, privileges: &Privileges) -> Result<Generation, StartError> {
    let settings = settings::from_arguments(before.arguments.clone(), cpus::usable)
        .map_err(|error| StartError::usage(error.sentence()))?;
    change_folder(&settings)?;
    check_folder(&settings, privileges)?;
    let interpreter = choose_interpreter(&settings)?;
    let access_log = open_access_log(&settings, privileges)?;
    Ok(Generation { settings, interpreter, access_log, directory: std::env::current_dir().ok() })
}

fn change_folder(settings: &Settings) -> Result<(), StartError> {
    let Some(folder) = &settings.chdir else { return Ok(()) };
    std::env::set_current_dir(folder)
        .map_err(|error| StartError::failed(format!("--chdir {}: {error}", folder.display())))
}

fn remove_socket_files(listeners: &[Listener], upgrade: &Upgrade) {
    for listener in listeners.iter().filter(|listener| upgrade.may_close_door(listener)) {
        if let Err(error) = listener.unlink() {
            ::log::warn!("cannot remove the socket {listener}: {error}");
        }
    }
}

fn open_error_log(settings: &Settings) -> Result<(), StartError> {
    logs::init(settings.log_level, &settings.error_log).map_err(|error| {
        let path = if let LogTarget::File(path) = &settings.error_log { path } else { Path::new("-") };
        StartError::failed(format!("--error-logfile {}: {error}", path.display()))
    })
}

/// Returns in the background, with whom to report to, or in front, with how it went.
fn go_to_the_background(settings: &Settings, notifier: &Notifier) -> Result<Result<Report, Exit>, StartError> {
    if settings.error_log == LogTarget::Stderr {
        ::log::warn!("--daemon: the error log will go nowhere when the server serves; see --error-logfile");
    }
    if notifier.has_supervisor() {
        ::log::warn!("--daemon: under systemd, NotifyAccess=all is needed, or better no --daemon");
    }
    let side = daemon::detach().map_err(|error| StartError::failed(format!("--daemon: {error}")))?;
    // Another process id now.
    logs::set_identity(Identity::Master);
    Ok(side)
}

/// As gunicorn does, though anybody may connect who may reach the folder. What another server has made belongs to it.
fn give_sockets(listeners: &[Listener], privileges: &Privileges) -> Result<(), StartError> {
    let Some(owner) = privileges.owner() else { return Ok(()) };
    for listener in listeners.iter().filter(|listener| listener.is_ours()) {
        listener.give_to(Some(owner.uid), Some(owner.gid)).map_err(|error| {
            StartError::failed(format!("{listener} cannot be given to --user and --group: {error}"))
        })?;
    }
    Ok(())
}

/// Without a folder of its own the server starts all the same: small bodies need none.
fn check_folder(settings: &Settings, privileges: &Privileges) -> Result<(), StartError> {
    match (privileges.as_worker(|| worker::check_folder(settings)), &settings.tmp_upload_dir) {
        (Ok(()), _) => Ok(()),
        (Err(error), Some(folder)) => Err(StartError::usage(format!("--tmp-upload-dir {}: {error}", folder.display()))),
        (Err(error), None) => {
            let folder = settings.temporary_folder();
            ::log::warn!("no temporary files can be made in {}: {error}; see --tmp-upload-dir", folder.display());
            Ok(())
        }
    }
}

fn choose_interpreter(settings: &Settings) -> Result<Interpreter, StartError> {
    Interpreter::choose(settings.python.as_deref(), &|name| std::env::var_os(name)).map_err(|error| {
        let exit = match error {
            InterpreterError::NotFound(_) => Exit::Usage,
            InterpreterError::Version { .. } | InterpreterError::Start(_) => Exit::WorkersCannotBoot,
        };
        StartError { sentence: error.to_string(), exit }
    })
}

fn check(settings: &Settings, interpreter: &Interpreter, privileges: &Privileges) -> Result<Exit, StartError> {
    if settings.print_config {
        say(&settings.listing())?;
    }
    open_log(&LogTarget::None, settings)?;
    // The application's code is not for root to run, here as little as in a worker.
    privileges.take_on(process::parent_pid()).map_err(|error| {
        StartError::failed(format!("cannot run as the user and group of --user and --group: {error}"))
    })?;
    worker::check(settings, interpreter).map_err(|(sentence, exit)| StartError { sentence, exit })?;
    if settings.check_config {
        say(&format!("{}: loads\n", settings.app))?;
    }
    Ok(Exit::Stopped)
}

/// On standard output, which may be a pipe that nobody reads from any more.
fn say(text: &str) -> Result<(), StartError> {
    let mut output = io::stdout();
    let said = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    said.map_err(|error| StartError::failed(format!("standard output cannot be written: {error}")))
}

/// For the workers, who are to be able to open it anew by themselves.
fn open_access_log(settings: &Settings, privileges: &Privileges) -> Result<Option<AccessLog>, StartError> {
    let target = match settings.access_log {
        // In the background there is no standard output when the first line comes.
        LogTarget::Stdout if settings.daemon => &LogTarget::None,
        _ => &settings.access_log,
    };
    let mut access_log = open_log(target, settings)?;
    if let Some(owner) = privileges.owner() {
        warn_if_not_given(access_log.as_mut().map_or(Ok(()), |log| log.give_to(owner)));
    }
    Ok(access_log)
}

fn warn_if_not_given(given: Result<(), String>) {
    if let Err(error) = given {
        ::log::warn!("cannot be given to the user of the workers: {error}");
    }
}

/// The format is compiled whatever the target.
fn open_log(target: &LogTarget, settings: &Settings) -> Result<Option<AccessLog>, StartError> {
    AccessLog::open(target, &settings.access_log_format)
        .map_err(|error| StartError { exit: error.exit(), sentence: error.to_string() })
}

fn serve(first: Generation, mut around: Around<'_>) -> Result<Exit, StartError> {
    give_sockets(around.listeners, &around.privileges)?;
    around.pid_file = create_pid_file(&first.settings, around.upgrade)?;
    let plan = first.plan();
    make_room_for_descriptors(&first.settings, plan.slots());
    let scoreboard = Scoreboard::new(plan.slots())
        .map_err(|error| StartError::failed(format!("no shared memory for the workers: {error}")))?;
    let inboxes = first
        .settings
        .passing
        .then(|| Inboxes::new(plan.slots()))
        .transpose()
        .map_err(|error| StartError::failed(format!("no inboxes for the workers: {error}")))?;
    let shared = Shared { scoreboard: &scoreboard, inboxes: inboxes.as_ref() };
    let mut program = Program::new(first, around, shared, claim_title());
    Ok(master::run(&plan, shared, &mut program))
}

/// Beside the old master, which has the name in the settings, it has another one.
fn create_pid_file(settings: &Settings, upgrade: &Upgrade) -> Result<Option<PidFile>, StartError> {
    let Some(path) = &settings.pid_file else { return Ok(None) };
    let path = if upgrade.has_old() { second_path(path) } else { path.clone() };
    PidFile::create(&path).map(Some).map_err(StartError::failed)
}

/// gunicorn's name for the file of the second master.
fn second_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".2");
    name.into()
}

/// A server whose processes cannot be told apart by their titles serves all the same.
fn claim_title() -> Title {
    Title::claim().unwrap_or_else(|error| {
        ::log::debug!("the processes have no titles: {error}");
        Title::default()
    })
}

/// For what a worker has open besides its connections: files of Python, listeners, pipes. Two for each slot come to it.
const OTHER_DESCRIPTORS: u64 = 64;

/// The usual limit of 1024 would be below the usual number of connections.
fn make_room_for_descriptors(settings: &Settings, slots: u32) {
    let wanted = settings.worker_connections as u64 + 2 * u64::from(slots) + OTHER_DESCRIPTORS;
    if let Err(error) = limits::allow_open_files(wanted) {
        ::log::debug!("the limit of open files stays: {error}");
    }
}
