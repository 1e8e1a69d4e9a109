//! Asking another process of ours where its threads are: a signal upon which a handler of Python's writes that down, and
//! what the kernel says of how far it is (proc_pid_status(5)).
#![allow(unsafe_code)]

use super::process::Pid;
use nix::errno::Errno;
use std::{fs, io};

/// The signal. It is far from those that people use, and not the one by which a worker asks itself.
pub fn number() -> i32 {
    libc::SIGRTMAX() - 6
}

/// Sends it. Whoever has no handler for it dies, so it is to be looked for first.
///
/// # Errors
/// There is no such process, or it may not be signalled.
pub fn ask(pid: Pid) -> io::Result<()> {
    // SAFETY: a system call with two numbers. nix has no real-time signals.
    Errno::result(unsafe { libc::kill(pid.as_raw(), number()) })?;
    Ok(())
}

/// How far a process is with the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has no handler, and would die.
    Deaf,
    /// The signal waits; the process is stopped, or the kernel has not come to it.
    Waiting,
    /// A thread is in the handler.
    Writing,
    /// There is nothing to do, or no more.
    Idle,
}

/// How far this process is.
///
/// # Errors
/// There is no such process.
pub fn progress(pid: Pid) -> io::Result<Progress> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    if !has(&status, "SigCgt:") {
        return Ok(Progress::Deaf);
    }
    if has(&status, "ShdPnd:") {
        return Ok(Progress::Waiting);
    }
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
        // The kernel blocks the signal while its handler runs. Threads that block it for good block others as well.
        if has(&status, "SigPnd:") || set(&status, "SigBlk:") == Some(bit()) {
            return Ok(Progress::Writing);
        }
    }
    Ok(Progress::Idle)
}

fn bit() -> u64 {
    1 << (number() - 1)
}

fn has(status: &str, name: &str) -> bool {
    set(status, name).is_some_and(|set| set & bit() != 0)
}

/// The set of signals in the line of this name.
fn set(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::process;

    #[test]
    fn who_has_no_handler_is_not_asked() {
        assert_eq!(progress(process::own_pid()).unwrap(), Progress::Deaf);
        assert!(progress(Pid::from_raw(i32::MAX)).is_err());
    }
}
