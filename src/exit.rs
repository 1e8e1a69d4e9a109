//! Every exit status of the program, with its reason. Supervisors know 3 and 4 from gunicorn.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Asked to stop, and stopped; also after `--help`, `--version`, `--check-config`.
    Stopped = 0,
    /// Failed while starting or running: an address that cannot be bound, a fork that fails.
    Failed = 1,
    /// The command line, the environment or the configuration is wrong.
    Usage = 2,
    /// No worker got as far as serving: the interpreter does not start, the import crashes.
    WorkersCannotBoot = 3,
    /// `module:app` cannot be loaded: not found, not callable, or its import raised.
    AppCannotLoad = 4,
}

impl Exit {
    /// The status as the operating system sees it.
    pub const fn status(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.status())
    }
}
