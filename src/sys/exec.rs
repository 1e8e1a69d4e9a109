//! What passes through exec(2): the path of this program, descriptors by their number, a new program in place of this
//! one.
#![allow(unsafe_code)]

use super::signal;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// The path that this program was started by, as it was given to execve(2): symbolic links in it are not followed, and
/// it may be relative to the directory of that time.
pub fn path_as_given() -> Option<PathBuf> {
    // SAFETY: the call only looks a number up.
    let address = unsafe { libc::getauxval(libc::AT_EXECFN) };
    if address == 0 {
        return None;
    }
    // SAFETY: the kernel has put the path, which ends with a NUL, on top of the stack, where it stays.
    let path = unsafe { CStr::from_ptr(address as *const libc::c_char) };
    Some(OsStr::from_bytes(path.to_bytes()).into())
}

/// By what number another program, started with the descriptor, finds it.
pub fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// Takes the descriptor of this number that the program was started with; it is close-on-exec from then on, and cannot
/// be taken again. Those of the standard streams are not taken away from them: of such a one this is a second one.
///
/// # Errors
/// EBADF: it is not open, or it was opened by this program, as close-on-exec tells: nothing here is opened without it,
/// and nothing inherited has it.
pub fn take(number: u32) -> io::Result<OwnedFd> {
    let raw = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: F_GETFD takes any number, and fails if nothing is open there.
    let flags = Errno::result(unsafe { libc::fcntl(raw, libc::F_GETFD) })?;
    if FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC) {
        return Err(Errno::EBADF.into());
    }
    if raw <= libc::STDERR_FILENO {
        // SAFETY: it is open, as was just seen, and nobody closes a standard stream.
        return unsafe { BorrowedFd::borrow_raw(raw) }.try_clone_to_owned();
    }
    // SAFETY: it is open, and no part of this program owns it: it would be close-on-exec.
    let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(descriptor)
}

/// Becomes another program, which has these descriptors under the numbers they have here, and every signal unblocked and
/// with its default action. For a forked child, which has nothing to lose; returns only if it fails.
pub fn replace(command: &mut Command, kept: &[BorrowedFd<'_>]) -> io::Error {
    for descriptor in kept {
        if let Err(errno) = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())) {
            return errno.into();
        }
    }
    // Before the standard library unblocks them: a handler of the parent's must not take what is meant for the child.
    signal::reset_all();
    command.exec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    /// A second descriptor of the same file, as a program would inherit it. It is nobody's.
    fn inheritable(file: &impl AsFd) -> u32 {
        // SAFETY: dup(2) of an open descriptor.
        let raw = unsafe { libc::dup(file.as_fd().as_raw_fd()) };
        u32::try_from(raw).unwrap()
    }

    #[test]
    fn a_descriptor_that_was_inherited_is_taken_once() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let number = inheritable(&writer);
        drop(writer);
        let taken = take(number).unwrap();
        assert_eq!(super::number(taken.as_fd()), number);
        assert_eq!(take(number).unwrap_err().raw_os_error(), Some(libc::EBADF));
        File::from(taken).write_all(b"x").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn what_was_not_inherited_is_not_taken() {
        let (reader, _writer) = std::io::pipe().unwrap();
        for number in [number(reader.as_fd()), 1_000_000, u32::MAX] {
            assert_eq!(take(number).unwrap_err().raw_os_error(), Some(libc::EBADF));
        }
    }

    #[test]
    fn a_standard_stream_stays() {
        let second = take(2).unwrap();
        assert!(number(second.as_fd()) > 2);
        drop(second);
        take(2).unwrap();
    }

    #[test]
    fn the_own_path_is_that_of_this_program() {
        let given = std::fs::canonicalize(path_as_given().unwrap()).unwrap();
        assert_eq!(given, std::env::current_exe().unwrap().canonicalize().unwrap());
    }
}
