//! [`Watching`]: a thread that looks whether the code which the worker runs has changed, and asks the master to reload.
//!
//! It is told by inotify when to look, or looks twice a second. What has changed is told by comparing the files with what
//! was imported, so that nothing is missed before the watch of a folder has begun, and no event is taken for a change
//! that is none. It attaches to Python once a second, to see whether there are more modules.

use super::Plan;
use super::watched::Watched;
use crate::settings::ReloadEngine;
use crate::sys::inotify::{self, Happened, Inotify, Watch};
use crate::sys::shared::Doorbell;
use crate::sys::signal;
use crate::wsgi::sources::{self, Imports, Source, Stamp};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// How often it looks for modules that have been imported since, and for folders that are there again.
const FIND_INTERVAL: Duration = Duration::from_secs(1);

/// How often it looks at all files without inotify.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Whoever saves several files, or one in several steps, has done so when for this long nothing more has changed.
const QUIET: Duration = Duration::from_millis(75);

/// At the latest now.
const QUIET_MAX: Duration = Duration::from_millis(500);

/// The thread needs little, but the thread-local variables of all loaded libraries have their place there too, and Python's
/// import system may run on it.
const STACK_BYTES: usize = 1024 * 1024;

pub(super) struct Watching<'w> {
    plan: Plan<'w>,
    imports: Imports,
    /// Against which paths are resolved that are relative: an application may change its folder.
    folder: PathBuf,
    is_over: AtomicBool,
    bell: Doorbell,
}

impl<'w> Watching<'w> {
    /// To be called before anything of the application is imported.
    ///
    /// # Errors
    /// Python has no memory, or the process no descriptors.
    pub(super) fn new(py: Python<'_>, plan: Plan<'w>) -> io::Result<Self> {
        let imports = Imports::observe(py).map_err(io::Error::other)?;
        let folder = std::env::current_dir()?;
        plan.settings.reload_extra_files.iter().for_each(|file| imports.add(folder.join(file)));
        Ok(Self { plan, imports, folder, is_over: AtomicBool::new(false), bell: Doorbell::new()? })
    }

    /// What is watched besides the modules that are found.
    pub(super) fn imports(&self) -> &Imports {
        &self.imports
    }

    /// Watches while `f` runs. The caller is not attached to Python: the thread may need that to end.
    pub(super) fn during<T>(&self, f: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            let _end = EndAtDrop(self);
            // Signals are for Python's main thread: a new thread inherits the mask, which is full meanwhile.
            let builder = Builder::new().name("minicorn-watch".to_owned()).stack_size(STACK_BYTES);
            let spawned = signal::blocked(|| builder.spawn_scoped(scope, || self.run()));
            if let Err(error) = spawned.and_then(|spawned| spawned) {
                log::error!("--reload: no thread to watch the files: {error}");
            }
            f()
        })
    }

    fn run(&self) {
        if let Err(error) = Watcher::new(self).and_then(|mut watcher| watcher.run()) {
            log::error!("--reload: changes are not noticed any more: {error}");
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn ask(&self, changed: &[PathBuf]) {
        let (Some(first), Plan { scoreboard, generation, .. }) = (changed.first(), self.plan) else { return };
        if !scoreboard.ask_for_reload(generation) {
            return;
        }
        match changed.len() {
            1 => log::info!("{} changed, reloading", first.display()),
            count => log::info!("{} and {} more changed, reloading", first.display(), count - 1),
        }
    }
}

/// Also when what is watched ends with a panic: a scope waits for its threads.
struct EndAtDrop<'e, 'w>(&'e Watching<'w>);

impl Drop for EndAtDrop<'_, '_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.bell.ring();
    }
}

/// What the thread owns.
struct Watcher<'t, 'w> {
    watching: &'t Watching<'w>,
    watched: Watched,
    /// `None`: it looks at all files in turn.
    notices: Option<Notices>,
    modules: usize,
    find_at: Instant,
}

struct Notices {
    inotify: Inotify,
    /// A folder that is another one than before is to be looked into.
    watches: HashMap<PathBuf, Option<Watch>>,
}

impl<'t, 'w> Watcher<'t, 'w> {
    fn new(watching: &'t Watching<'w>) -> io::Result<Self> {
        let engine = watching.plan.settings.reload_engine;
        let notices = match (engine, Inotify::new()) {
            (ReloadEngine::Poll, _) => None,
            (_, Ok(inotify)) => Some(Notices { inotify, watches: HashMap::new() }),
            (ReloadEngine::Inotify, Err(error)) => return Err(refused(&error)),
            (ReloadEngine::Auto, Err(error)) => {
                log::info!("files are polled for changes: inotify: {error}");
                None
            }
        };
        Ok(Self { watching, watched: Watched::default(), notices, modules: 0, find_at: Instant::now() })
    }

    fn run(&mut self) -> io::Result<()> {
        while !self.watching.is_over() {
            let mut must_look = self.notices.is_none();
            if Instant::now() >= self.find_at {
                must_look |= self.find()?;
                self.find_at = Instant::now() + FIND_INTERVAL;
            }
            if must_look {
                self.look_and_ask();
            }
            must_look = self.wait()?;
            if must_look {
                self.look_and_ask();
            }
        }
        Ok(())
    }

    /// Finds what is to be watched besides. Returns whether there is something to look at.
    fn find(&mut self) -> io::Result<bool> {
        // In this order: what was read for each of the modules is known then.
        let (modules, read) = (self.new_modules(), self.watching.imports.take());
        let has_found = !modules.is_empty() || !read.is_empty();
        for (path, stamp) in read {
            self.watched.add(self.watching.folder.join(path), stamp);
        }
        for source in modules {
            match source {
                Source::File(path) => self.watched.add_if_missing(self.watching.folder.join(path), Stamp::of),
                Source::Without(path) => self.watched.add_if_missing(self.watching.folder.join(path), |_| None),
            }
        }
        Ok(self.watch_folders()? || has_found)
    }

    /// Nobody waits for this thread while it waits for Python, but the end of the worker, which is not attached then.
    fn new_modules(&mut self) -> Vec<Source> {
        let found = Python::attach(|py| {
            let count = sources::count_modules(py)?;
            if std::mem::replace(&mut self.modules, count) == count {
                return Ok(Vec::new());
            }
            sources::of_modules(py)
        });
        found.unwrap_or_else(|error: PyErr| {
            log::debug!("--reload: the modules cannot be looked at: {error}");
            Vec::new()
        })
    }

    /// Watches all folders that are there; to do so again costs 1 µs each. Returns whether one is another than before.
    fn watch_folders(&mut self) -> io::Result<bool> {
        let Some(notices) = &mut self.notices else { return Ok(false) };
        let mut is_any_new = false;
        for folder in self.watched.folders() {
            match notices.watch(folder) {
                Ok(is_new) => is_any_new |= is_new,
                Err(error) if self.watching.plan.settings.reload_engine == ReloadEngine::Inotify => {
                    return Err(refused(&error));
                }
                Err(error) => {
                    log::info!("files are polled for changes: inotify for {}: {error}", folder.display());
                    self.notices = None;
                    return Ok(true);
                }
            }
        }
        Ok(is_any_new)
    }

    /// Waits until something may have changed, or it is time to look for more. Returns whether to look at the files.
    fn wait(&self) -> io::Result<bool> {
        let Some(Notices { inotify, .. }) = &self.notices else {
            self.watching.bell.wait_for(POLL_INTERVAL);
            return Ok(false);
        };
        inotify.wait(&self.watching.bell, self.find_at.saturating_duration_since(Instant::now()))?;
        let happened = inotify.read()?;
        Ok(happened.iter().any(|happened| match happened {
            Happened::Entry(name) => self.watched.has_name(name),
            Happened::Unknown => true,
        }))
    }

    fn look_and_ask(&mut self) {
        let mut changed = self.watched.look();
        if changed.is_empty() {
            return;
        }
        let since = Instant::now();
        while since.elapsed() < QUIET_MAX && !self.watching.is_over() {
            // Whatever rings is the end.
            self.watching.bell.wait_for(QUIET);
            let more = self.watched.look();
            if more.is_empty() {
                break;
            }
            changed.extend(more);
        }
        changed.sort();
        changed.dedup();
        self.watching.ask(&changed);
    }
}

impl Notices {
    /// Returns whether there is a folder that was not there before.
    ///
    /// # Errors
    /// There is no room for more; a folder that is not there, or not to be read, is no error.
    fn watch(&mut self, folder: &Path) -> io::Result<bool> {
        let watch = match self.inotify.watch(folder) {
            Ok(watch) => Some(watch),
            Err(error) if inotify::is_out_of_watches(&error) => return Err(error),
            Err(_) => None,
        };
        let before = self.watches.insert(folder.to_owned(), watch);
        Ok(watch.is_some() && before != Some(watch))
    }
}

fn refused(error: &io::Error) -> io::Error {
    io::Error::other(format!("--reload-engine inotify: {error}"))
}
