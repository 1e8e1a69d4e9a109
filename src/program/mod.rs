//! The program around master and workers, in the order of its start: folder, user, logs, interpreter, background,
//! listeners, pid file, master. What the master wants done that is not supervision comes back here, as its
//! [`Host`](master::Host).
#![forbid(unsafe_code)]

mod control;
mod daemon;
mod door;
mod evaluation;
mod folder;
mod forking;
mod hooks;
mod host;
mod listening;
mod notify;
mod pid_file;
mod privileges;
mod reloading;
mod sockets;
mod start_error;
mod upgrade;

use self::control::Stacks;
use self::daemon::Report;
use self::door::Door;
use self::folder::Folder;
use self::host::{Around, Generation, Program};
use self::listening::Listening;
use self::notify::Notifier;
use self::pid_file::PidFile;
use self::privileges::Privileges;
use self::sockets::Source;
use self::start_error::StartError;
use self::upgrade::{Beginning, Upgrade};
use crate::exit::Exit;
use crate::inboxes::Inboxes;
use crate::log::access::AccessLog;
use crate::log::{self as logs, Identity, Stream, Syslog};
use crate::master::{self, Shared};
use crate::scoreboard::Scoreboard;
use crate::settings::{LogTarget, Settings, Surroundings};
use crate::statsd::Statsd;
use crate::sys::title::Title;
use crate::sys::{cpus, limits, memory, process};
use crate::worker;
use crate::wsgi::interpreter::{self, Interpreter, InterpreterError};
use crate::wsgi::logging;
use pyo3::prelude::*;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

/// What the settings of this process are read with.
pub const SURROUNDINGS: Surroundings<'static> = Surroundings {
    environment: &|name| std::env::var_os(name),
    usable_cpus: cpus::usable,
    evaluate: evaluation::evaluate,
};

/// The Python program in which the server runs, as a guest.
#[derive(Debug)]
pub struct Caller {
    /// How to start it again: the path of Python, and what came behind it. Empty: nobody knows.
    pub command: Vec<OsString>,
    /// The application, if it is one of its objects.
    pub application: Option<Py<PyAny>>,
}

/// Does what the settings say, until it is asked to stop; what goes wrong is told on standard error. Without a `caller`,
/// the process is ours alone.
pub fn run(settings: Settings, caller: Option<&Caller>) -> Exit {
    let mut report = None;
    let exit = start(settings, caller, &mut report).unwrap_or_else(|error| error.report());
    // Still there if the server has never served.
    if let Some(report) = report {
        report.ended(exit);
    }
    logs::finish();
    exit
}

/// In the background, `report` is whom to tell how it went.
fn start(settings: Settings, caller: Option<&Caller>, report: &mut Option<Report>) -> Result<Exit, StartError> {
    let folder = Folder::of_process().map_err(|error| StartError::failed(format!("no working directory: {error}")))?;
    // Before anything is changed of what they read.
    let beginning = Beginning::read(&settings, caller, &folder);
    let source = Source::claim()?;
    change_folder(&settings)?;
    let privileges = Privileges::look_up(&settings)?;
    let inherited_umask = privileges::inherited_umask();
    privileges.set_umask_of_master(inherited_umask);
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
            // The program around us is in the background now, and must not go on here as well.
            Err(exit) if caller.is_some() => process::exit_now(exit.status()),
            Err(exit) => return Ok(exit),
        }
    }
    let hooks = hooks::start(&settings, &interpreter, &folder).map_err(StartError::failed)?;
    if let Some(hooks) = &hooks {
        hooks.on_starting().map_err(StartError::failed)?;
    }
    let listening = Listening::open(&source, &settings)?;
    let door = open_door(&settings, source.old_master().is_some())?;
    let mut upgrade = Upgrade::new(beginning, source.old_master());
    let around = Around {
        // Also those that have gone from master to master.
        has_sockets_of_starter: source != Source::Settings && listening.open_ones().iter().any(|own| !own.is_ours()),
        pid_file: None,
        inherited_umask,
        notifier,
        report,
        folder,
        upgrade: &mut upgrade,
        door,
        stacks: make_stacks(),
        started_at: Instant::now(),
        application: caller.and_then(|caller| caller.application.as_ref()),
    };
    let directory = std::env::current_dir().ok();
    let statsd = open_statsd(&settings);
    serve(Generation { settings, interpreter, access_log, statsd, directory, listening, privileges, hooks }, around)
}

/// The old master answers at the same addresses until it is gone; then they are tried [again](Program).
fn open_door(settings: &Settings, has_old_master: bool) -> Result<Option<Door>, StartError> {
    match Door::open(settings) {
        Err(error) if has_old_master => {
            ::log::debug!("the old master still answers there: {}", error.sentence);
            Ok(None)
        }
        opened => opened,
    }
}

fn change_folder(settings: &Settings) -> Result<(), StartError> {
    let Some(folder) = &settings.chdir else { return Ok(()) };
    std::env::set_current_dir(folder)
        .map_err(|error| StartError::failed(format!("--chdir {}: {error}", folder.display())))
}

fn open_error_log(settings: &Settings) -> Result<(), StartError> {
    let target = &settings.error_log;
    logs::init(settings.log_level, target).map_err(|error| error_log_failed(target, &error))?;
    logs::send_to_syslog(Syslog::of(settings, Stream::Error));
    Ok(())
}

fn error_log_failed(target: &LogTarget, error: &io::Error) -> StartError {
    let path = if let LogTarget::File(path) = target { path } else { Path::new("-") };
    StartError::failed(format!("--error-logfile {}: {error}", path.display()))
}

/// Returns in the background, with whom to report to, or in front, with how it went.
fn go_to_the_background(settings: &Settings, notifier: &Notifier) -> Result<Result<Report, Exit>, StartError> {
    if settings.enable_stdio_inheritance {
        logs::keep_standard_streams();
    } else if settings.error_log == LogTarget::Stderr {
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
    let (python, environment) = (settings.python.as_deref(), &|name: &str| std::env::var_os(name));
    let chosen = if interpreter::is_guest() {
        Python::attach(|py| Interpreter::running(py, python, environment))
    } else {
        Interpreter::choose(python, environment)
    };
    chosen.map_err(|error| {
        let exit = match error {
            InterpreterError::NotFound(_) | InterpreterError::Running { .. } => Exit::Usage,
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
        LogTarget::Stdout if settings.daemon && !settings.enable_stdio_inheritance => &LogTarget::None,
        _ => &settings.access_log,
    };
    // As with gunicorn, who configures logging wants to see requests there.
    let elsewhere = LogTarget::File("/dev/null".into());
    let target = if *target == LogTarget::None && logging::is_configured(settings) { &elsewhere } else { target };
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

/// A server whose metrics go nowhere serves all the same.
fn open_statsd(settings: &Settings) -> Option<Statsd> {
    Statsd::of(&settings.metrics).unwrap_or_else(|error| {
        ::log::warn!("no metrics are sent: {error}");
        None
    })
}

/// The format is compiled whatever the target.
fn open_log(target: &LogTarget, settings: &Settings) -> Result<Option<AccessLog>, StartError> {
    // No log at all is wanted by those who only look at the settings.
    let syslog = match target {
        LogTarget::None if settings.check_config || settings.print_config => None,
        _ => Syslog::of(settings, Stream::Access),
    };
    AccessLog::open(target, &settings.access_log_format, &settings.logging, syslog)
        .map_err(|error| StartError { exit: error.exit(), sentence: error.to_string() })
}

fn serve(first: Generation, mut around: Around<'_>) -> Result<Exit, StartError> {
    let prepared = first.listening.give_to(first.privileges.owner(), 0);
    match prepared.and_then(|()| create_pid_file(&first.settings, around.upgrade)) {
        Ok(pid_file) => around.pid_file = pid_file,
        Err(error) => {
            first.listening.unlink_all(around.upgrade);
            around.door.iter().for_each(Door::unlink_all);
            return Err(error);
        }
    }
    let plan = first.plan();
    make_room_for_descriptors(&first.settings, plan.slots());
    // Also if nobody looks at the statistics: a reload may change that, and memory that nobody writes to costs nothing.
    let scoreboard = Scoreboard::with_statistics(plan.slots())
        .map_err(|error| StartError::failed(format!("no shared memory for the workers: {error}")))?;
    let inboxes = first
        .settings
        .passing
        .then(|| Inboxes::new(plan.slots()))
        .transpose()
        .map_err(|error| StartError::failed(format!("no inboxes for the workers: {error}")))?;
    let shared = Shared { scoreboard: &scoreboard, inboxes: inboxes.as_ref() };
    if let Some(hooks) = &first.hooks {
        hooks.when_ready(&first.listening.facts()).map_err(StartError::failed)?;
    }
    let mut program = Program::new(first, around, shared, claim_title());
    // What reading the settings has left is not for each worker to inherit.
    memory::trim();
    let exit = master::run(&plan, shared, &mut program);
    program.unlink_sockets();
    program.ends();
    Ok(exit)
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

/// A server whose stacks nobody can ask for serves all the same.
fn make_stacks() -> Option<Rc<Stacks>> {
    Stacks::new().map(Rc::new).inspect_err(|error| ::log::debug!("no stacks can be asked for: {error}")).ok()
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
