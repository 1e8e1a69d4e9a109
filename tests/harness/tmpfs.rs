//! A file system that is small enough to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Scratch;

/// A tmpfs of one megabyte. The tests of it need the right to mount: they fail without.
pub struct Tmpfs {
    path: PathBuf,
    /// Removed after the file system has been taken from it.
    _scratch: Scratch,
}

impl Tmpfs {
    #[track_caller]
    pub fn mount() -> Tmpfs {
        let scratch = Scratch::new();
        let path = scratch.path("tmpfs");
        std::fs::create_dir(&path).expect("a place to mount at");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "minicorn-test"]).arg(&path).output();
        let output = mount.expect("starting mount");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "this test fills a file system and has to mount one (be root): {message}");
        Tmpfs { path, _scratch: scratch }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn text(&self) -> &str {
        self.path.to_str().expect("a UTF-8 path")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a server that is being killed may still have files in it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
