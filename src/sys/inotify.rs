//! inotify(7) on folders: which of their entries are others now.
//!
//! Folders and not files: an editor that writes a new file and renames it over the old one leaves whoever watches the file
//! with the one that is gone.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::inotify::{self, AddWatchFlags, InitFlags, WatchDescriptor};
use nix::sys::time::TimeSpec;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// An inotify instance, close-on-exec.
#[derive(Debug)]
pub struct Inotify(inotify::Inotify);

/// Stands for one folder, however often and under whatever path it is watched.
pub type Watch = WatchDescriptor;

/// What has happened in one of the folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The entry of this name has come, gone, or been written.
    Entry(OsString),
    /// Anything: too much to be told, or the folder itself has gone.
    Unknown,
}

/// A file counts as written when its writer closes it: to be told of each write would be to be told of each line of a log
/// that has its place beside the code.
const MASK: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

impl Inotify {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// Out of descriptors, or the user out of instances (fs.inotify.max_user_instances).
    pub fn new() -> io::Result<Self> {
        Ok(Self(inotify::Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?))
    }

    /// Watches the folder that is at this path now; one that is watched already stays watched.
    ///
    /// # Errors
    /// There is no such folder, or the user is out of watches: see [`is_out_of_watches`].
    pub fn watch(&self, folder: &Path) -> io::Result<Watch> {
        Ok(self.0.add_watch(folder, MASK)?)
    }

    /// What has happened since the last call.
    ///
    /// # Errors
    /// Out of memory.
    pub fn read(&self) -> io::Result<Vec<Happened>> {
        let mut happened = Vec::new();
        loop {
            match self.0.read_events() {
                Ok(events) => happened
                    .extend(events.into_iter().map(|event| event.name.map_or(Happened::Unknown, Happened::Entry))),
                Err(Errno::EAGAIN) => return Ok(happened),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sleeps until something happens, `other` becomes readable or `limit` has passed. May return early.
    ///
    /// # Errors
    /// When the kernel lacks the memory to wait.
    pub fn wait(&self, other: &impl AsFd, limit: Duration) -> io::Result<()> {
        let mut awaited = [self.0.as_fd(), other.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match ppoll(&mut awaited, Some(TimeSpec::from_duration(limit)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Whether a folder cannot be watched since the user watches so many already (fs.inotify.max_user_watches).
pub fn is_out_of_watches(error: &io::Error) -> bool {
    [libc::ENOSPC, libc::ENOMEM].map(Some).contains(&error.raw_os_error())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_happens_in_a_folder_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let inotify = Inotify::new().unwrap();
        let watch = inotify.watch(folder.path()).unwrap();
        assert_eq!(inotify.watch(&folder.path().join(".")).unwrap(), watch);
        assert_eq!(inotify.read().unwrap(), []);
        fs::write(&new, "").unwrap();
        fs::rename(&new, &old).unwrap();
        fs::remove_file(&old).unwrap();
        let names = ["new", "new", "new", "old", "old"].map(|name| Happened::Entry(name.into()));
        assert_eq!(inotify.read().unwrap(), names);
        fs::remove_dir(folder.path()).unwrap();
        assert!(inotify.read().unwrap().contains(&Happened::Unknown));
        let error = inotify.watch(folder.path()).expect_err("a folder that is gone is watched");
        assert!(!is_out_of_watches(&error), "{error}");
    }
}
