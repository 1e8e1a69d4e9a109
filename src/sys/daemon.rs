//! Leaving the terminal: a process becomes the grandchild of the one that was started, in a session of its own.
//!
//! What is told to the process that stays behind, and when, is decided in `program`.

use super::process;
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{self, ForkResult};
use std::io;

/// On which side of it the caller finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The process that was started, which has its terminal.
    Front,
    /// The one in the background.
    Back,
}

/// Forks twice. The process in the background has no terminal and, as it leads no session, never gets one. Its standard
/// streams stay, and so does its directory.
///
/// For a process that has no signal handlers of its own yet: signals are not held back.
///
/// # Errors
/// There is more than one thread, or the system refuses another process. Told on the side on which it happens, which may
/// be a process in between; it is to end as on an error of any other kind.
pub fn leave_terminal() -> io::Result<Side> {
    if let Some(middle) = fork()? {
        // It ends as soon as it has forked.
        while waitpid(middle, None) == Err(Errno::EINTR) {}
        return Ok(Side::Front);
    }
    unistd::setsid()?;
    match fork()? {
        Some(_) => process::exit_now(0),
        None => Ok(Side::Back),
    }
}

/// In the parent, the child.
fn fork() -> io::Result<Option<process::Pid>> {
    process::check_single_thread()?;
    // SAFETY: this is the only thread, counted above, and nobody else can start one. So no lock is held by a thread that
    // the child lacks, and the child may go on as any program does.
    match unsafe { unistd::fork() }? {
        ForkResult::Child => Ok(None),
        ForkResult::Parent { child } => Ok(Some(child)),
    }
}

/// Sets the permission bits that new files of this process do not get. Returns those from before.
pub fn set_umask(mask: u32) -> u32 {
    umask(Mode::from_bits_truncate(mask)).bits()
}
