//! Descriptors that are written outside the event loop, which is what logs do: opened so that a reader who has stopped
//! reading cannot stop the writer, and waited for with a limit.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::unistd;

/// What a pipe takes whole or not at all, however many processes write to it (pipe(7)).
pub const PIPE_BUF: usize = libc::PIPE_BUF;

/// Opens `path` for appending, creating it if need be, for no more than its owner and group to write to.
///
/// `O_NONBLOCK` means nothing to a regular file; it keeps the opening of a FIFO that nobody reads from waiting (it is
/// an error then), and the writing to one that is full. What is there is opened without `O_CREAT`, which
/// fs.protected_regular refuses for a file in /tmp that belongs to somebody else, even to root.
pub fn open_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).mode(LOG_MODE).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => options.create(true).open(path),
        opened => opened,
    }
}

/// The umask may be 0, gunicorn's default for the files of the application.
const LOG_MODE: u32 = 0o664;

/// Makes `file` refer to what `by` refers to, under the same number: whoever knows the number goes on with it. Close-on-exec.
///
/// # Errors
/// None on Linux.
pub fn replace(file: &File, by: &File) -> io::Result<()> {
    loop {
        // SAFETY: both descriptors are open, since they are borrowed; the number stays that of an open descriptor, owned
        // by `file`, and dup3 touches no memory.
        let result = unsafe { libc::dup3(by.as_raw_fd(), file.as_raw_fd(), libc::O_CLOEXEC) };
        match Errno::result(result) {
            // Some other thread is opening a file at this moment.
            Err(Errno::EINTR | Errno::EBUSY) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

/// Where what is written to it goes nowhere.
///
/// # Errors
/// There is no /dev/null, or no descriptor left.
pub fn open_null() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}

/// Lets go of what standard input refers to: nothing can be read from it any more.
///
/// # Errors
/// As for [`open_null`].
pub fn leave_standard_input() -> io::Result<()> {
    Ok(unistd::dup2_stdin(open_null()?)?)
}

/// Lets go of what standard output and standard error refer to: what is written there goes nowhere. With
/// `only_terminals`, what is no terminal stays.
///
/// # Errors
/// As for [`open_null`].
pub fn leave_standard_output(only_terminals: bool) -> io::Result<()> {
    let null = open_null()?;
    if !only_terminals || io::stdout().is_terminal() {
        unistd::dup2_stdout(&null)?;
    }
    if !only_terminals || io::stderr().is_terminal() {
        unistd::dup2_stderr(&null)?;
    }
    Ok(())
}

/// Makes standard output and standard error refer to what `file` refers to.
///
/// # Errors
/// None on Linux.
pub fn replace_standard_output(file: &File) -> io::Result<()> {
    unistd::dup2_stdout(file)?;
    Ok(unistd::dup2_stderr(file)?)
}

/// Makes standard output refer to what standard error refers to.
///
/// # Errors
/// None on Linux.
pub fn join_standard_output() -> io::Result<()> {
    Ok(unistd::dup2_stdout(io::stderr())?)
}

/// Opens what `fd` refers to once more, non-blocking.
///
/// Setting `O_NONBLOCK` on an inherited descriptor itself would set it for the shell and for every process that shares
/// the terminal or pipe. A socket cannot be opened this way, and a pipe or terminal of another user may not be.
pub fn reopen_nonblocking(fd: BorrowedFd<'_>) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Waits until `fd` can be written, for `patience` at most; says whether it can. An error on the descriptor (the reader
/// is gone) counts as "can": the write will name it.
pub fn wait_writable(fd: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
        match ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};

    use super::*;

    /// Writes until the pipe takes no more.
    fn fill(mut pipe: &File) {
        let refusal = loop {
            if let Err(error) = pipe.write_all(&[b'.'; PIPE_BUF]) {
                break error;
            }
        };
        assert_eq!(refusal.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_full_pipe_is_waited_for_only_so_long() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let pipe = reopen_nonblocking(writer.as_fd()).expect("our own pipe can be opened again");
        assert!(wait_writable(pipe.as_fd(), Duration::ZERO).expect("poll"));
        fill(&pipe);
        let start = Instant::now();
        assert!(!wait_writable(pipe.as_fd(), Duration::from_millis(30)).expect("poll"));
        assert!(start.elapsed() >= Duration::from_millis(30));
        reader.read_exact(&mut [0; PIPE_BUF]).expect("the pipe is full");
        assert!(wait_writable(pipe.as_fd(), Duration::ZERO).expect("poll"));
    }

    #[test]
    fn a_replaced_file_keeps_its_number() {
        let (mut first, old) = io::pipe().expect("a pipe");
        let (mut second, new) = io::pipe().expect("a pipe");
        let (file, new) = (File::from(std::os::fd::OwnedFd::from(old)), File::from(std::os::fd::OwnedFd::from(new)));
        let number = file.as_raw_fd();
        replace(&file, &new).expect("both are open");
        drop(new);
        assert_eq!(file.as_raw_fd(), number);
        (&file).write_all(b"x").expect("there is a reader");
        drop(file);
        let mut text = String::new();
        first.read_to_string(&mut text).expect("its end");
        assert_eq!(text, "", "written to what was there before");
        second.read_to_string(&mut text).expect("its end");
        assert_eq!(text, "x");
    }

    #[test]
    fn a_pipe_without_reader_is_ready_to_fail() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        assert!(wait_writable(writer.as_fd(), Duration::from_secs(5)).expect("poll"));
    }

    #[test]
    fn a_fifo_without_reader_is_an_error_and_not_a_wait() {
        let path = std::env::temp_dir().join(format!("minicorn-fifo-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO in the temporary directory");
        let error = open_append(&path).expect_err("nobody reads");
        std::fs::remove_file(&path).expect("it was made above");
        assert_eq!(error.raw_os_error(), Some(Errno::ENXIO as i32));
    }
}
