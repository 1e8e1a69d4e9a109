//! What is around the threads of a worker: events, the GIL, and calls that wait for something.

use loom::sync::{Condvar, Mutex, MutexGuard};
use std::sync::PoisonError;

pub type Gil<'g> = MutexGuard<'g, ()>;

/// A level-triggered poll: what is ready is told again until it is received.
pub struct Source {
    events: Mutex<Events>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Events {
    ready: Vec<usize>,
    is_ringing: bool,
}

impl Source {
    pub fn new(ready: Vec<usize>) -> Self {
        Self { events: Mutex::new(Events { ready, is_ringing: false }), changed: Condvar::new() }
    }

    /// A request arrives.
    pub fn bring(&self, request: usize) {
        self.lock().ready.push(request);
        self.changed.notify_all();
    }

    /// Ends the wait of the poller for good.
    pub fn ring(&self) {
        self.lock().is_ringing = true;
        self.changed.notify_all();
    }

    /// Waits for events.
    pub fn wait(&self) -> Vec<usize> {
        let mut events = self.lock();
        while events.ready.is_empty() && !events.is_ringing {
            events = self.changed.wait(events).unwrap_or_else(PoisonError::into_inner);
        }
        events.ready.clone()
    }

    /// The same, for a while.
    pub fn look(&self) -> Vec<usize> {
        loom::thread::yield_now();
        self.lock().ready.clone()
    }

    /// Whether this request was there; it is not any more.
    pub fn receive(&self, request: usize) -> bool {
        let mut events = self.lock();
        let count = events.ready.len();
        events.ready.retain(|&ready| ready != request);
        events.ready.len() < count
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the requests are, for calls that wait for others.
pub struct Progress {
    stages: Mutex<Vec<Stage>>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Waiting,
    Received,
    Served,
}

impl Progress {
    pub fn new(requests: usize) -> Self {
        Self { stages: Mutex::new(vec![Stage::Waiting; requests]), changed: Condvar::new() }
    }

    pub fn note_received(&self, request: usize) {
        self.note(request, Stage::Received);
    }

    pub fn note_served(&self, request: usize) {
        self.note(request, Stage::Served);
    }

    pub fn wait_until_received(&self, request: usize) {
        self.wait_until(request, Stage::Received);
    }

    pub fn wait_until_served(&self, request: usize) {
        self.wait_until(request, Stage::Served);
    }

    fn note(&self, request: usize, stage: Stage) {
        let mut stages = self.lock();
        stages[request] = stages[request].max(stage);
        drop(stages);
        self.changed.notify_all();
    }

    fn wait_until(&self, request: usize, stage: Stage) {
        let mut stages = self.lock();
        while stages[request] < stage {
            stages = self.changed.wait(stages).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stage>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
