//! `--daemon`: the command that was started waits in front until the server in the background serves or has failed, and
//! ends as that says.

use super::forking;
use crate::exit::Exit;
use crate::sys::daemon::{self, Side};
use crate::sys::output;
use std::io::{self, PipeReader, PipeWriter, Read, Write};

/// The server's end of the pipe to the command that waits. Dropped without a word, it stands for a failure.
#[derive(Debug)]
pub(super) struct Report(PipeWriter);

/// Goes to the background. Returns there, with whom to report to; the command that waits in front ends in here.
///
/// # Errors
/// The system refuses another process.
pub(super) fn detach() -> io::Result<Result<Report, Exit>> {
    let (reader, writer) = io::pipe()?;
    match daemon::leave_terminal(forking::fork)? {
        Side::Front => {
            drop(writer);
            Ok(Err(wait(reader)))
        }
        Side::Back => {
            drop(reader);
            // Nobody types for a server in the background.
            output::leave_standard_input()?;
            Ok(Ok(Report(writer)))
        }
    }
}

/// How the server did.
fn wait(mut reader: PipeReader) -> Exit {
    let mut status = [0];
    match reader.read_exact(&mut status) {
        Ok(()) => [Exit::Stopped, Exit::Usage, Exit::WorkersCannotBoot, Exit::AppCannotLoad]
            .into_iter()
            .find(|exit| exit.status() == status[0])
            .unwrap_or(Exit::Failed),
        // It died.
        Err(_) => Exit::Failed,
    }
}

impl Report {
    /// The server serves.
    pub(super) fn serves(self) {
        self.tell(Exit::Stopped);
    }

    /// The server has ended without having served. Asked to stop, it has done so, but whoever waits wanted a server.
    pub(super) fn ended(self, exit: Exit) {
        self.tell(if exit == Exit::Stopped { Exit::Failed } else { exit });
    }

    fn tell(mut self, exit: Exit) {
        if let Err(error) = self.0.write_all(&[exit.status()]) {
            log::debug!("the command that has started the server is gone: {error}");
        }
    }
}
