//! Where a log's bytes go: opened from the operator's choice, written whole or with the loss told, never waited for
//! without end.
//!
//! Knows nothing of lines, except that the next one must not begin in the middle of a broken one.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::settings::LogTarget;
use crate::sys::output::{open_append, open_null, reopen_nonblocking, replace, wait_writable};

/// How long a reader who has stopped reading may hold a worker up, once, before lines are dropped. Until a write
/// succeeds again nobody waits a second time.
const PATIENCE: Duration = Duration::from_secs(1);

/// User and group that a log is to belong to, so that their processes can open it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Of the user.
    pub uid: u32,
    /// Of the group.
    pub gid: u32,
}

/// An open log.
#[derive(Debug)]
pub(super) struct Output {
    /// One and the same descriptor for as long as the log lives, whatever it refers to.
    file: Arc<File>,
    /// Where the file was opened, absolute: a worker may have changed its directory since. `None` for standard streams.
    path: Option<PathBuf>,
    owner: Option<Owner>,
    is_regular: bool,
    patience: Duration,
    /// The last bytes written were a part of what had to be written.
    is_torn: bool,
}

/// A write that failed, perhaps in the middle.
#[derive(Debug)]
pub(super) struct WriteError {
    /// How many of the bytes went out before.
    pub written: usize,
    /// Why the others did not.
    pub error: io::Error,
}

impl Output {
    /// Opens `target`; `None` if the operator wants no such log.
    pub fn open(target: &LogTarget) -> io::Result<Option<Output>> {
        let output = match target {
            LogTarget::None => return Ok(None),
            LogTarget::Stdout => Output::inherited(io::stdout().as_fd())?,
            LogTarget::Stderr => Output::inherited(io::stderr().as_fd())?,
            LogTarget::File(path) => {
                let path = std::path::absolute(path)?;
                Output::new(open_append(&path)?, Some(path))?
            }
        };
        Ok(Some(output))
    }

    /// Writes to what `stream` refers to, past the buffers of `std::io`.
    ///
    /// A regular file must share the offset with whoever redirected the stream into it, so the descriptor is
    /// duplicated. Anything else gets a non-blocking description of its own, if the system lets us: then no write can
    /// block, where the poll before it leaves a gap (a sibling fills the pipe in between, or the line is longer than
    /// the room).
    pub fn inherited(stream: BorrowedFd<'_>) -> io::Result<Output> {
        let output = Output::new(File::from(stream.try_clone_to_owned()?), None)?;
        if output.is_regular {
            return Ok(output);
        }
        match reopen_nonblocking(stream) {
            Ok(file) => Ok(Output { file: Arc::new(file), ..output }),
            Err(_) => Ok(output),
        }
    }

    fn new(file: File, path: Option<PathBuf>) -> io::Result<Output> {
        let is_regular = file.metadata()?.is_file();
        Ok(Output { file: Arc::new(file), path, owner: None, is_regular, patience: PATIENCE, is_torn: false })
    }

    /// Opens the file anew at its path, after somebody has moved the old one away, under the same descriptor. Standard
    /// streams stay as they are.
    ///
    /// # Errors
    /// The path cannot be opened; the log goes on in the old file.
    pub fn reopen(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = open_append(path)?;
        self.is_regular = file.metadata()?.is_file();
        replace(&self.file, &file)?;
        self.is_torn = false;
        self.patience = PATIENCE;
        // Who could open it can write to it, and that is what matters from here on; `give_to` has told of a failure.
        _ = self.hand_over();
        Ok(())
    }

    /// Gives the file to `owner`, now and whenever it is opened anew. What is not a regular file stays whose it is: it
    /// may be the terminal or `/dev/null`.
    ///
    /// # Errors
    /// The file system does not let us. The log is as usable as before.
    pub fn give_to(&mut self, owner: Owner) -> io::Result<()> {
        self.owner = Some(owner);
        self.hand_over()
    }

    fn hand_over(&self) -> io::Result<()> {
        match self.owner {
            Some(Owner { uid, gid }) if self.is_regular && self.path.is_some() && !self.is_of(uid)? => {
                fchown(&self.file, Some(uid), Some(gid))
            }
            _ => Ok(()),
        }
    }

    /// Then its group is as somebody wants it, such as logrotate.
    fn is_of(&self, uid: u32) -> io::Result<bool> {
        Ok(self.file.metadata()?.uid() == uid)
    }

    /// Goes on where `other` writes, under the same descriptor.
    ///
    /// # Errors
    /// No descriptor left; the log stays as it was.
    pub fn move_to(&mut self, other: Output) -> io::Result<()> {
        replace(&self.file, &other.file)?;
        let Output { path, is_regular, .. } = other;
        (self.path, self.is_regular, self.is_torn) = (path, is_regular, false);
        self.patience = PATIENCE;
        // As in `reopen`.
        _ = self.hand_over();
        Ok(())
    }

    /// Writes to nowhere from now on, if this is a standard stream.
    ///
    /// # Errors
    /// There is no /dev/null, or no descriptor left.
    pub fn leave_stream(&mut self) -> io::Result<()> {
        if self.path.is_some() {
            return Ok(());
        }
        replace(&self.file, &open_null()?)?;
        self.is_regular = false;
        self.is_torn = false;
        Ok(())
    }

    /// The file of the log if it is one, which stays the log's however often it is opened anew.
    pub fn regular_file(&self) -> Option<Arc<File>> {
        (self.is_regular && self.path.is_some()).then(|| Arc::clone(&self.file))
    }

    /// Whether one write of any size is atomic among processes, which it is in a regular file: the kernel locks the
    /// file, and appends (or all processes share one offset).
    pub fn is_regular(&self) -> bool {
        self.is_regular
    }

    /// Where the file was opened; nothing for a standard stream.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Writes all of `bytes`, which end with a line feed, in one write(2) unless the system takes fewer.
    ///
    /// # Errors
    /// Nothing is retried later: what did not go out is lost, and the next call begins on a new line if this one ended
    /// in the middle.
    pub fn write_whole(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let deadline = Instant::now() + self.patience;
        if self.is_torn {
            self.write_some(b"\n", deadline).map_err(|error| self.give_up(0, error))?;
            self.is_torn = false;
        }
        let mut written = 0;
        while written < bytes.len() {
            match self.write_some(&bytes[written..], deadline) {
                Ok(count) => written += count,
                Err(error) => {
                    self.is_torn = written > 0 && bytes[written - 1] != b'\n';
                    return Err(self.give_up(written, error));
                }
            }
        }
        self.patience = PATIENCE;
        Ok(())
    }

    fn give_up(&mut self, written: usize, error: io::Error) -> WriteError {
        self.patience = Duration::ZERO;
        WriteError { written, error }
    }

    /// One successful write(2), which may be a short one.
    fn write_some(&self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        loop {
            // A blocking pipe that has room for a page takes PIPE_BUF bytes without blocking.
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.is_regular && !wait_writable(self.file.as_fd(), left)? {
                return Err(ErrorKind::TimedOut.into());
            }
            match (&*self.file).write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A sibling took the room since the poll.
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => continue,
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{PipeReader, Read};
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;
    use crate::sys::output::PIPE_BUF;

    /// A path in the temporary directory that no other test has; removed with the value.
    pub struct TemporaryPath(pub PathBuf);

    impl TemporaryPath {
        pub fn new() -> TemporaryPath {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("minicorn-log-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            TemporaryPath(std::env::temp_dir().join(name))
        }

        pub fn target(&self) -> LogTarget {
            LogTarget::File(self.0.clone())
        }

        pub fn text(&self) -> String {
            std::fs::read_to_string(&self.0).expect("the log is there, and UTF-8")
        }
    }

    impl Drop for TemporaryPath {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// An output into a pipe, as an inherited stream is, and the pipe's other end.
    pub fn pipe() -> (PipeReader, Output) {
        let (reader, writer) = io::pipe().expect("a pipe");
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a pipe can be made non-blocking");
        let output = Output::inherited(OwnedFd::from(writer).as_fd()).expect("our own pipe");
        (reader, output)
    }

    /// Fills the empty pipe behind `output` to the last page; says how many bytes that took.
    pub fn fill(output: &Output) -> usize {
        let mut count = 0;
        while wait_writable(output.file.as_fd(), Duration::ZERO).expect("a pipe can be polled") {
            count += (&*output.file).write(&[b'.'; PIPE_BUF]).expect("a page is free");
        }
        count
    }

    /// Reads what must be in the pipe already.
    pub fn read(reader: &mut PipeReader, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        reader.read_exact(&mut bytes).expect("the pipe holds as much");
        bytes
    }

    #[test]
    fn files_are_appended_to() {
        let path = TemporaryPath::new();
        std::fs::write(&path.0, "old\n").expect("a file in the temporary directory");
        let mut output = Output::open(&path.target()).expect("the file opens").expect("a file is a log");
        assert!(output.is_regular());
        output.write_whole(b"new\n").expect("room on the disk");
        assert_eq!(path.text(), "old\nnew\n");
    }

    #[test]
    fn no_log_is_no_output() {
        assert!(Output::open(&LogTarget::None).expect("nothing to fail").is_none());
    }

    #[test]
    fn a_directory_is_an_error() {
        assert!(Output::open(&LogTarget::File(std::env::temp_dir())).is_err());
    }

    #[test]
    fn a_full_device_is_an_error_and_not_a_panic() {
        let mut output = Output::open(&LogTarget::File("/dev/full".into())).expect("it opens").expect("a log");
        for _ in 0..3 {
            let failure = output.write_whole(b"line\n").expect_err("the device is full");
            assert_eq!((failure.written, failure.error.kind()), (0, ErrorKind::StorageFull));
        }
    }

    #[test]
    fn a_reader_that_left_is_an_error() {
        let (reader, mut output) = pipe();
        drop(reader);
        assert_eq!(output.write_whole(b"line\n").expect_err("EPIPE").error.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_reader_that_stopped_is_waited_for_once() {
        let (mut reader, mut output) = pipe();
        let full = fill(&output);
        let start = Instant::now();
        assert_eq!(output.write_whole(b"first\n").expect_err("full").error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= PATIENCE);
        let start = Instant::now();
        for _ in 0..5 {
            output.write_whole(b"further\n").expect_err("still full");
        }
        assert!(start.elapsed() < PATIENCE, "each of them waited again");
        read(&mut reader, full);
        output.write_whole(b"last\n").expect("there is room again");
        assert_eq!(read(&mut reader, 5), b"last\n");
        fill(&output);
        let start = Instant::now();
        output.write_whole(b"second time\n").expect_err("full again");
        assert!(start.elapsed() >= PATIENCE, "the reader had started again, so it gets its time again");
    }

    #[test]
    fn after_half_a_line_comes_a_new_line() {
        let (mut reader, mut output) = pipe();
        let full = fill(&output);
        read(&mut reader, PIPE_BUF);
        let long = [b'x'; PIPE_BUF + 1];
        assert_eq!(output.write_whole(&long).expect_err("one page is free").written, PIPE_BUF);
        output.write_whole(b"lost\n").expect_err("none is");
        read(&mut reader, full);
        output.write_whole(b"next\n").expect("there is room again");
        output.write_whole(b"after\n").expect("there is room again");
        assert_eq!(read(&mut reader, 12), b"\nnext\nafter\n");
    }
}
