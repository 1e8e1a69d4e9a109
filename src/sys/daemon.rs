//! Leaving the terminal: a process becomes the grandchild of the one that was started, in a session of its own.
//!
//! What is told to the process that stays behind, and when, is decided in `program`.

use super::process::{self, Fork};
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd;
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
/// `fork` is [`process::fork`], or what makes Python ready for it besides. In the background every signal is blocked
/// until the master catches its own.
///
/// # Errors
/// There is more than one thread, or the system refuses another process. Told on the side on which it happens, which may
/// be a process in between; it is to end as on an error of any other kind.
pub fn leave_terminal(fork: impl Fn() -> io::Result<Fork>) -> io::Result<Side> {
    // Python would let a process with threads be forked, and those that the caller relies on would stay in front.
    process::check_single_thread()?;
    if let Fork::Parent(middle) = fork()? {
        // It ends as soon as it has forked.
        while waitpid(middle, None) == Err(Errno::EINTR) {}
        return Ok(Side::Front);
    }
    unistd::setsid()?;
    match fork()? {
        Fork::Parent(_) => process::exit_now(0),
        Fork::Child => Ok(Side::Back),
    }
}

/// Sets the permission bits that new files of this process do not get. Returns those from before.
pub fn set_umask(mask: u32) -> u32 {
    umask(Mode::from_bits_truncate(mask)).bits()
}
