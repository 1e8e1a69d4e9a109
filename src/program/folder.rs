//! The working directory, which a deployment may exchange under a running server.

use crate::sys::file;
use std::io;
use std::path::{Path, PathBuf};

/// Where the program was started. A path and not a directory: behind a symbolic link like `current` there is another
/// one after the next deployment, and a reload is to find it.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Of the process, by the name that the shell has for it if it has one.
    ///
    /// # Errors
    /// The working directory is gone.
    pub(super) fn of_process() -> io::Result<Self> {
        let real = std::env::current_dir()?;
        let named = std::env::var_os("PWD").map(PathBuf::from).filter(|named| named.is_absolute());
        Ok(Self(named.filter(|named| file::is_same(named, &real)).unwrap_or(real)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Calls `read` as if the program had just been started with this --chdir. If that fails, the working directory stays
    /// as it is.
    pub(super) fn read_again<T>(
        &self,
        chdir: Option<&Path>,
        read: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        let before = std::env::current_dir();
        // The configuration file is looked for there. It may be a release that was removed long ago; with an absolute
        // --chdir that need not matter, else nothing is found from here.
        let entered = match (std::env::set_current_dir(&self.0), chdir) {
            (Err(error), chdir) if !chdir.is_some_and(Path::is_absolute) => {
                Err(format!("{}: {error}", self.0.display()))
            }
            _ => Ok(()),
        };
        let result = entered.and_then(|()| read());
        if let (Err(_), Ok(before)) = (&result, &before) {
            // It may be gone as well; then the old workers stay where they are, and new ones say what they miss.
            _ = std::env::set_current_dir(before);
        }
        result
    }
}
