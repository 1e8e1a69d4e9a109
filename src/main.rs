//! Reads the settings, binds, wires the master to its workers, and turns the result into an exit status.

use minicorn::banner;
use minicorn::exit::Exit;
use minicorn::inboxes::Inboxes;
use minicorn::log::access::AccessLog;
use minicorn::log::{self as logs, Identity};
use minicorn::master::{self, Shared, WorkerIdentity};
use minicorn::net::{self, Listener};
use minicorn::scoreboard::Scoreboard;
use minicorn::settings::{self, LogTarget, Settings};
use minicorn::sys::cpus;
use minicorn::worker;
use minicorn::wsgi::interpreter::{Interpreter, InterpreterError};
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

/// From the fork of a worker until it is ready.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let exit = match settings::from_process(cpus::usable) {
        Ok(settings) => run(&settings).unwrap_or_else(|error| error.report()),
        Err(answer) => answer.report(),
    };
    exit.into()
}

/// One sentence for the operator, and the status that goes with it.
struct StartError {
    sentence: String,
    exit: Exit,
}

impl StartError {
    fn failed(error: impl Display) -> Self {
        Self { sentence: error.to_string(), exit: Exit::Failed }
    }

    fn report(&self) -> Exit {
        eprintln!("minicorn: error: {}", self.sentence);
        self.exit
    }
}

fn run(settings: &Settings) -> Result<Exit, StartError> {
    if let Some(folder) = &settings.chdir {
        std::env::set_current_dir(folder)
            .map_err(|error| StartError::failed(format!("--chdir {}: {error}", folder.display())))?;
    }
    logs::init(settings.log_level, &settings.error_log)
        .map_err(|error| StartError::failed(format!("--error-logfile: {error}")))?;
    check_folder(settings)?;
    let interpreter = choose_interpreter(settings)?;
    if settings.check_config || settings.print_config {
        return check(settings, &interpreter);
    }
    let access_log = open_access_log(&settings.access_log, settings)?;
    let listeners = bind(settings)?;
    let exit = serve(settings, &interpreter, &listeners, access_log)?;
    for listener in &listeners {
        if let Err(error) = listener.unlink() {
            ::log::warn!("cannot remove the socket {listener}: {error}");
        }
    }
    Ok(exit)
}

/// Without a folder of its own the server starts all the same: small bodies need none.
fn check_folder(settings: &Settings) -> Result<(), StartError> {
    match (worker::check_folder(settings), &settings.tmp_upload_dir) {
        (Ok(()), _) => Ok(()),
        (Err(error), Some(folder)) => {
            let sentence = format!("--tmp-upload-dir {}: {error}", folder.display());
            Err(StartError { sentence, exit: Exit::Usage })
        }
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

fn check(settings: &Settings, interpreter: &Interpreter) -> Result<Exit, StartError> {
    if settings.print_config {
        print!("{}", settings.listing());
    }
    open_access_log(&LogTarget::None, settings)?;
    worker::check(settings, interpreter).map_err(|(sentence, exit)| StartError { sentence, exit })?;
    if settings.check_config {
        println!("{}: loads", settings.app);
    }
    Ok(Exit::Stopped)
}

/// The format is compiled whatever the target.
fn open_access_log(target: &LogTarget, settings: &Settings) -> Result<Option<AccessLog>, StartError> {
    AccessLog::open(target, &settings.access_log_format)
        .map_err(|error| StartError { exit: error.exit(), sentence: error.to_string() })
}

fn bind(settings: &Settings) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    for address in &settings.bind {
        listeners.extend(net::bind(address, settings.backlog).map_err(StartError::failed)?);
    }
    Ok(listeners)
}

fn serve(
    settings: &Settings,
    interpreter: &Interpreter,
    listeners: &[Listener],
    mut access_log: Option<AccessLog>,
) -> Result<Exit, StartError> {
    let plan = master::Plan {
        workers: settings.workers,
        graceful_timeout: settings.graceful_timeout,
        timeout: settings.timeout,
        boot_timeout: BOOT_TIMEOUT,
    };
    let scoreboard = Scoreboard::new(plan.slots())
        .map_err(|error| StartError::failed(format!("no shared memory for the workers: {error}")))?;
    let inboxes = settings
        .passing
        .then(|| Inboxes::new(plan.slots()))
        .transpose()
        .map_err(|error| StartError::failed(format!("no inboxes for the workers: {error}")))?;
    let shared = Shared { scoreboard: &scoreboard, inboxes: inboxes.as_ref() };
    let worker_plan =
        worker::Plan { settings, listeners, interpreter, scoreboard: &scoreboard, inboxes: shared.inboxes };
    logs::set_identity(Identity::Master);
    let mut child = |identity: WorkerIdentity| {
        logs::set_identity(Identity::Worker(identity.number));
        worker::run(worker_plan, identity.slot, access_log.take())
    };
    let mut started = || banner::say(settings, listeners);
    Ok(master::run(&plan, shared, &mut child, &mut started))
}
