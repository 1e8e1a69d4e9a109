//! [`Delivery`]: the way of both logs through Python's logging (`--log-config`). Lines come from all threads of a worker,
//! most of which must not wait for Python; one thread has it and passes them on.

use super::BootError;
use crate::log::{self as logs, Route, Told, UNROUTED};
use crate::settings::Settings;
use crate::sys::signal;
use crate::wsgi::logging::{self, Loggers};
use log::Level;
use pyo3::Python;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// So many lines may wait. If there are more, Python does not get round to them, and they take the usual way.
const WAITING_MAX: usize = 10_000;

/// How long a process that ends waits for Python to take its last lines.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// A thread that gives lines to loggers.
#[derive(Debug)]
pub(super) struct Delivery {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Line>,
    /// Some have been taken out of it, and are not with the loggers yet.
    is_delivering: bool,
    reopens: bool,
    is_over: bool,
}

#[derive(Debug)]
enum Line {
    Event(Level, String),
    Access(Told),
}

impl Delivery {
    /// If a worker with these settings is to have one.
    ///
    /// # Errors
    /// Out of threads, or what Python raises.
    pub(super) fn of_worker(settings: &Settings) -> Result<Option<Self>, BootError> {
        if !logging::is_configured(settings) {
            return Ok(None);
        }
        let loggers = Python::attach(Loggers::new).map_err(BootError::other)?;
        Self::start(loggers).map(Some).map_err(BootError::other)
    }

    /// If the application or a hook has put a filter on gunicorn's access logger; to be asked when both have run. Nothing
    /// is imported for it.
    pub(super) fn of_filtered_requests(py: Python<'_>, settings: &Settings) -> Option<Self> {
        if logging::is_configured(settings) {
            return None;
        }
        let loggers = Loggers::for_filtered_requests(py, &settings.access_log).map_err(BootError::other);
        let started = loggers.and_then(|own| own.map(Self::start).transpose().map_err(BootError::other));
        started.unwrap_or_else(|error| {
            log::warn!("the filters of the logger gunicorn.access are without effect: {}", error.into_parts().0);
            None
        })
    }

    /// The logs of this process go to `loggers` from now on.
    ///
    /// # Errors
    /// Out of threads.
    pub(super) fn start(loggers: Loggers) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let own = Arc::clone(&queue);
        let (takes_errors, takes_requests) = (loggers.takes_errors(), loggers.takes_requests());
        let builder = Builder::new().name("minicorn-log".to_owned());
        let thread = signal::blocked(|| builder.spawn(move || own.deliver(&loggers)))??;
        logs::take_route(Box::new(Shared { queue: Arc::clone(&queue), takes_errors, takes_requests }));
        Ok(Self { queue, thread: Some(thread) })
    }
}

/// Delivers what waits, and takes the usual way again. Whoever drops it is detached from Python.
impl Drop for Delivery {
    fn drop(&mut self) {
        logs::finish_route();
        self.queue.lock().is_over = true;
        self.queue.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's life.
    fn deliver(&self, loggers: &Loggers) {
        loop {
            let (lines, reopens) = {
                let mut state = self.lock();
                state.is_delivering = false;
                self.changed.notify_all();
                while state.waiting.is_empty() && !state.reopens && !state.is_over {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.is_over && state.waiting.is_empty() {
                    return;
                }
                state.is_delivering = true;
                (std::mem::take(&mut state.waiting), std::mem::take(&mut state.reopens))
            };
            Python::attach(|py| {
                if reopens {
                    loggers.reopen(py);
                }
                for line in &lines {
                    match line {
                        Line::Event(level, text) => loggers.error(py, *level, text),
                        Line::Access(told) => loggers.access(py, told),
                    }
                }
            });
        }
    }

    fn push(&self, line: Line) -> bool {
        self.push_all(vec![line]).is_empty()
    }

    /// Returns those for which there is no room.
    fn push_all(&self, mut lines: Vec<Line>) -> Vec<Line> {
        let mut state = self.lock();
        let room = if state.is_over { 0 } else { WAITING_MAX.saturating_sub(state.waiting.len()) };
        let left = lines.split_off(room.min(lines.len()));
        state.waiting.append(&mut lines);
        drop(state);
        self.changed.notify_all();
        left
    }

    /// Waits until all is delivered. A thread that is stuck in the application may have the GIL for good: what is left then
    /// is given back.
    fn drain(&self) -> Vec<Line> {
        let until = Instant::now() + FINISH_MAX;
        let mut state = self.lock();
        while !state.waiting.is_empty() || state.is_delivering {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut state.waiting)
    }
}

/// The end of the queue that the logs have.
struct Shared {
    queue: Arc<Queue>,
    takes_errors: bool,
    takes_requests: bool,
}

impl Route for Shared {
    fn error(&self, level: Level, message: &str) -> bool {
        self.takes_errors && self.queue.push(Line::Event(level, message.to_owned()))
    }

    fn takes_requests(&self) -> bool {
        self.takes_requests
    }

    fn access(&self, requests: Vec<Told>) -> Vec<Told> {
        let left = self.queue.push_all(requests.into_iter().map(Line::Access).collect());
        let requests = |line| if let Line::Access(told) = line { Some(told) } else { None };
        left.into_iter().filter_map(requests).collect()
    }

    fn reopen(&self) {
        self.queue.lock().reopens = true;
        self.queue.changed.notify_all();
    }

    fn finish(&self) {
        for line in self.queue.drain() {
            // Requests that nobody could log are not worth another file.
            if let Line::Event(level, text) = line {
                log::log!(target: UNROUTED, level, "{text}");
            }
        }
    }
}
