//! [`Watched`]: the files whose change has the server reload, each with the version of it that runs.

use crate::wsgi::sources::Stamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub(super) struct Watched {
    files: BTreeMap<PathBuf, File>,
    /// Where entries of these names come, go and are written when a file changes.
    folders: BTreeSet<PathBuf>,
    names: BTreeSet<OsString>,
}

#[derive(Debug)]
struct File {
    /// `None`: it was not there.
    stamp: Option<Stamp>,
    /// Nobody has looked at it since it was added.
    is_new: bool,
}

impl Watched {
    /// Adds a file, of which this version runs, or another version of one that is there. The path is absolute.
    pub(super) fn add(&mut self, path: PathBuf, stamp: Option<Stamp>) {
        if !self.files.contains_key(&path) {
            self.add_place(&path);
            // What an entry in another folder only refers to is written there.
            if let Ok(resolved) = path.canonicalize()
                && resolved != path
            {
                self.add_place(&resolved);
            }
        }
        self.files.insert(path, File { stamp, is_new: true });
    }

    /// The same for a file that may be there already, and has not been read anew in that case.
    pub(super) fn add_if_missing(&mut self, path: PathBuf, stamp: impl FnOnce(&Path) -> Option<Stamp>) {
        if !self.files.contains_key(&path) {
            let stamp = stamp(&path);
            self.add(path, stamp);
        }
    }

    fn add_place(&mut self, path: &Path) {
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            self.folders.insert(folder.to_owned());
            self.names.insert(name.to_owned());
        }
    }

    /// The folders to look for changes in. Some may not be there.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(PathBuf::as_path)
    }

    /// Whether a change of an entry of this name may be one of these files.
    pub(super) fn has_name(&self, name: &OsStr) -> bool {
        self.names.contains(name)
    }

    /// The files that have changed since the last look, or since they were read.
    pub(super) fn look(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (path, file) in &mut self.files {
            let now = Stamp::of(path);
            // What was removed as soon as it had been imported is meant to be gone: it would be so after each reload.
            let is_passing = file.is_new && now.is_none();
            if now != file.stamp && !is_passing {
                changed.push(path.clone());
            }
            *file = File { stamp: now, is_new: false };
        }
        changed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    /// The names of the files that have changed.
    fn look(watched: &mut Watched) -> Vec<String> {
        let changed = watched.look().into_iter();
        changed.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_kind_of_change_is_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        let [file, other, link] = ["file", "other", "link"].map(|name| folder.path().join(name));
        fs::write(&file, "1").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let mut watched = Watched::default();
        watched.add_if_missing(file.clone(), Stamp::of);
        watched.add_if_missing(other.clone(), Stamp::of);
        assert_eq!(look(&mut watched), [""; 0]);
        fs::write(&file, "22").unwrap();
        assert_eq!(look(&mut watched), ["file"]);
        fs::write(&other, "333").unwrap();
        assert_eq!(look(&mut watched), ["other"]);
        fs::rename(&other, &file).unwrap();
        assert_eq!(look(&mut watched), ["file", "other"]);
        fs::remove_file(&file).unwrap();
        assert_eq!(look(&mut watched), ["file"]);
        assert_eq!(look(&mut watched), [""; 0]);
    }

    #[test]
    fn a_file_that_changed_after_it_was_read_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "1").unwrap();
        let read = Stamp::of(&file);
        fs::write(&file, "22").unwrap();
        let mut watched = Watched::default();
        watched.add(file.clone(), read);
        // A module of the same file, found later.
        watched.add_if_missing(file.clone(), Stamp::of);
        assert_eq!(look(&mut watched), ["file"]);
        watched.add(file.clone(), read);
        fs::remove_file(&file).unwrap();
        assert_eq!(look(&mut watched), [""; 0], "removed before the first look at it");
    }

    #[test]
    fn a_link_is_watched_where_it_leads_to() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, target) = (folder.path().join("link.py"), elsewhere.path().join("target.py"));
        fs::write(&target, "1").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut watched = Watched::default();
        watched.add_if_missing(link.clone(), Stamp::of);
        let folders: Vec<_> = watched.folders().collect();
        assert!(folders.contains(&folder.path()) && folders.contains(&&*elsewhere.path().canonicalize().unwrap()));
        assert!(watched.has_name(OsStr::new("link.py")) && watched.has_name(OsStr::new("target.py")));
        fs::write(&target, "22").unwrap();
        assert_eq!(look(&mut watched), ["link.py"]);
    }
}
