//! [`PidFile`]: the number of the master, for those who signal it.

use crate::sys::file;
use crate::sys::process::{self, Pid};
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The file of `--pid`. Dropped, it is removed, unless it is no longer ours: another server may have taken it over. A
/// forked process never removes it.
#[derive(Debug)]
pub(super) struct PidFile {
    /// Absolute, so that it stays true after a change of directory.
    path: PathBuf,
    owner: Pid,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum PidFileError {
    /// The file has the number of a process that lives.
    Running(PathBuf, Pid),
    /// It cannot be read or written.
    Failed(PathBuf, io::Error),
}

impl fmt::Display for PidFileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(path, pid) => {
                write!(out, "--pid {}: minicorn or another process with pid {pid} is running", path.display())
            }
            Self::Failed(path, error) => write!(out, "--pid {}: {error}", path.display()),
        }
    }
}

impl PidFile {
    /// Writes the number of this process to the file. One that a dead server has left is replaced.
    ///
    /// # Errors
    /// The file belongs to a process that lives, or cannot be written.
    pub(super) fn create(path: &Path) -> Result<Self, PidFileError> {
        Self::take(path, None)
    }

    /// Also if the file has the number of the process `gone`, which has ended though somebody may still have to reap it.
    fn take(path: &Path, gone: Option<Pid>) -> Result<Self, PidFileError> {
        let failed = |error| PidFileError::Failed(path.to_owned(), error);
        let absolute = std::path::absolute(path).map_err(failed)?;
        let owner = process::own_pid();
        let written = written(&absolute, owner).map_err(failed)?;
        // A file that is there is looked at only when it is in the way: so of two servers that start at once, one wins.
        let written = match written.persist_noclobber(&absolute) {
            Ok(_) => return Ok(Self { path: absolute, owner }),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => error.file,
            Err(error) => return Err(failed(error.error)),
        };
        match holder(&absolute).map_err(failed)? {
            Some(pid) if pid != owner && Some(pid) != gone && process::exists(pid) => {
                return Err(PidFileError::Running(path.to_owned(), pid));
            }
            _ => log::info!("the file {} of a server that is gone is replaced", path.display()),
        }
        written.persist(&absolute).map_err(|error| failed(error.error))?;
        Ok(Self { path: absolute, owner })
    }

    /// Whether this is the file of that name.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        file::is_same(&self.path, path)
    }

    /// Moves to another file, for a master that takes the place of an older one. That one is `gone`, and if it was killed,
    /// its number is in the file.
    ///
    /// # Errors
    /// As for [`create`](Self::create); all stays as it was.
    pub(super) fn rename_to(&mut self, path: &Path, gone: Pid) -> Result<(), PidFileError> {
        *self = Self::take(path, Some(gone))?;
        Ok(())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let is_ours = process::own_pid() == self.owner && holder(&self.path).is_ok_and(|pid| pid == Some(self.owner));
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the file {}: {error}", self.path.display());
        }
    }
}

/// A file beside `path` with the number in it, whole before it gets its name.
fn written(path: &Path, pid: Pid) -> io::Result<NamedTempFile> {
    let folder = path.parent().ok_or(ErrorKind::IsADirectory)?;
    let mut file = tempfile::Builder::new().prefix(".minicorn-pid-").tempfile_in(folder)?;
    writeln!(file, "{pid}")?;
    // Whoever may look into the directory may know the number, whatever the umask.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    Ok(file)
}

/// The number in the file, if what is in it is one.
fn holder(path: &Path) -> io::Result<Option<Pid>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    match File::open(path)?.take(PID_BYTES_MAX).read_to_string(&mut text) {
        Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(None),
        read => read?,
    };
    Ok(text.trim().parse().ok().filter(|&pid| pid > 0).map(Pid::from_raw))
}

/// More than the digits of any process id.
const PID_BYTES_MAX: u64 = 32;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn own_line() -> String {
        format!("{}\n", std::process::id())
    }

    #[test]
    fn it_is_there_as_long_as_its_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let file = PidFile::create(&path).unwrap();
        assert_eq!(read(&path), own_line());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something is left");
    }

    #[test]
    fn what_a_dead_server_has_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        // The highest number that the kernel gives is 4194304.
        for left in ["", "4194305\n", "-1", "0", "1x", "\u{0}", "99999999999999999999", &own_line()] {
            fs::write(&path, left).unwrap();
            let file = PidFile::create(&path).unwrap_or_else(|error| panic!("{left:?}: {error}"));
            assert_eq!(read(&path), own_line());
            drop(file);
        }
        fs::write(&path, [0xff]).unwrap();
        PidFile::create(&path).unwrap();
    }

    #[test]
    fn a_process_that_lives_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, "1\n").unwrap();
        let error = PidFile::create(&path).unwrap_err().to_string();
        assert_eq!(error, format!("--pid {}: minicorn or another process with pid 1 is running", path.display()));
        assert_eq!(read(&path), "1\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something is left");
    }

    #[test]
    fn what_another_has_taken_over_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let file = PidFile::create(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(read(&path), "1\n");
    }

    #[test]
    fn a_master_that_takes_a_place_takes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, second) = (folder.path().join("pid"), folder.path().join("pid.2"));
        let mut file = PidFile::create(&second).unwrap();
        fs::write(&path, "1\n").unwrap();
        let nobody = Pid::from_raw(4_194_305);
        file.rename_to(&path, nobody).unwrap_err();
        assert_eq!((read(&path), read(&second)), ("1\n".to_owned(), own_line()));
        fs::remove_file(&path).unwrap();
        file.rename_to(&path, nobody).unwrap();
        assert_eq!(read(&path), own_line());
        assert!(!second.exists());
    }

    /// Nobody has reaped the killed one yet, so its number is still that of a process.
    #[test]
    fn the_file_of_a_master_that_was_killed_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (path, second) = (folder.path().join("pid"), folder.path().join("pid.2"));
        let mut file = PidFile::create(&second).unwrap();
        fs::write(&path, "1\n").unwrap();
        file.rename_to(&path, Pid::from_raw(1)).unwrap();
        assert_eq!(read(&path), own_line());
        assert!(!second.exists());
    }

    #[test]
    fn where_no_file_can_be() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("no/such/folder"), "/".into()] {
            let error = PidFile::create(&path).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--pid {}: ", path.display())), "{error}");
        }
    }
}
