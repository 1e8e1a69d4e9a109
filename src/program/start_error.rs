//! Why the server does not start.

use crate::exit::Exit;
use crate::log as logs;
use std::fmt::Display;
use std::io::{self, Write};

/// One sentence for the operator, and the status that goes with it.
pub(super) struct StartError {
    pub(super) sentence: String,
    pub(super) exit: Exit,
}

impl StartError {
    /// Something that was asked for cannot be had.
    pub(super) fn failed(error: impl Display) -> Self {
        Self { sentence: error.to_string(), exit: Exit::Failed }
    }

    /// Something wrong was asked for.
    pub(super) fn usage(error: impl Display) -> Self {
        Self { sentence: error.to_string(), exit: Exit::Usage }
    }

    /// Tells it on standard error, which may lead nowhere: that of a server in the background does, and a new master has
    /// it from there. So it is in the error log as well if that is a file.
    pub(super) fn report(&self) -> Exit {
        _ = writeln!(io::stderr(), "minicorn: error: {}", self.sentence);
        if logs::error_file().is_some() {
            log::error!("{}", self.sentence);
        }
        self.exit
    }
}
