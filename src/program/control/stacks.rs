//! The answer to `stacks`: where the threads of a worker's Python are, whatever they do.
//!
//! The master sends a signal, upon which a handler of Python's writes into a file in memory that all processes of the
//! server have. It needs neither the GIL nor the worker's help, so it works while the application is stuck in C code or
//! sleeps; and the master looks now and then instead of waiting. One process is asked at a time, since they all write to
//! the same place.

use super::super::door::Pending;
use super::line;
use crate::sys::asked::{self, Progress};
use crate::sys::file;
use crate::sys::process::Pid;
use serde_json::Value;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Where they are written.
#[derive(Debug)]
pub(in crate::program) struct Stacks {
    file: File,
    /// Somebody has asked and waits.
    is_taken: Cell<bool>,
}

/// Far more than any number of threads takes: Python tells the first hundred, and the first hundred frames of each.
const STACKS_BYTES_MAX: u64 = 16 << 20;

/// For a process that does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

impl Stacks {
    /// To be made before the workers.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub(in crate::program) fn new() -> io::Result<Self> {
        Ok(Self { file: file::in_memory("minicorn-asked-stacks")?, is_taken: Cell::new(false) })
    }

    /// For the processes that are asked.
    pub(in crate::program) fn file(&self) -> &File {
        &self.file
    }

    fn read(&self) -> io::Result<String> {
        // A worker may be somebody else, who has made it longer than there is memory.
        let mut text = vec![0; self.file.metadata()?.len().min(STACKS_BYTES_MAX) as usize];
        // By position: the cursor is that of all processes, and is where the next one writes.
        self.file.read_exact_at(&mut text, 0)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Asks this process when it is its turn.
pub(super) fn ask(stacks: &Rc<Stacks>, pid: Pid) -> Pending {
    let mut asking = Asking { stacks: Rc::clone(stacks), pid, asked_at: None, length: 0 };
    Box::new(move |now| asking.look(now).map(|told| line(told.map(Value::from))))
}

struct Asking {
    stacks: Rc<Stacks>,
    pid: Pid,
    /// `None`: another process is being asked.
    asked_at: Option<Instant>,
    /// Of what was there at the last look, bytes.
    length: u64,
}

impl Asking {
    /// `None`: not yet.
    fn look(&mut self, now: Instant) -> Option<Result<String, String>> {
        let looked = match self.asked_at {
            None if self.stacks.is_taken.get() => return None,
            None => self.begin(now).map(|()| None),
            Some(since) => self.read(now.duration_since(since)),
        };
        looked.transpose()
    }

    fn begin(&mut self, now: Instant) -> Result<(), String> {
        if self.progress()? == Progress::Deaf {
            return Err(format!("the process {} has not started Python yet", self.pid));
        }
        self.stacks.is_taken.set(true);
        self.asked_at = Some(now);
        let mut file = &self.stacks.file;
        let asked = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| asked::ask(self.pid));
        asked.map_err(|error| format!("the process {} cannot be asked: {error}", self.pid))
    }

    /// What is there is all when nobody writes, and no more has come since the last look.
    fn read(&mut self, elapsed: Duration) -> Result<Option<String>, String> {
        let failed = |error| format!("the stacks cannot be read: {error}");
        let progress = self.progress()?;
        let length = self.stacks.file.metadata().map_err(failed)?.len();
        let is_all = progress == Progress::Idle && length > 0 && length == self.length;
        self.length = length;
        if is_all {
            return self.stacks.read().map(Some).map_err(failed);
        }
        match progress {
            _ if elapsed < ANSWER_MAX => Ok(None),
            Progress::Waiting => Err(format!("the process {} takes no signals, it may be stopped", self.pid)),
            _ => Err(format!("the process {} has not told its stacks within {} s", self.pid, ANSWER_MAX.as_secs())),
        }
    }

    fn progress(&self) -> Result<Progress, String> {
        asked::progress(self.pid).map_err(|_| format!("the process {} is gone", self.pid))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if self.asked_at.is_some() {
            self.stacks.is_taken.set(false);
        }
    }
}
