//! [`Route`]: another way for the lines of both logs, which a process takes that was asked to (`--log-config`).

use log::{Level, Record};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// What takes lines in place of the files. Called with locks held by the caller: it neither waits nor logs.
pub trait Route: Send + Sync {
    /// An event of the error log. Returns whether it was taken.
    fn error(&self, level: Level, message: &str) -> bool;

    /// Whether requests are for it, too.
    fn takes_requests(&self) -> bool;

    /// Requests of the access log. Returns those that were not taken.
    fn access(&self, requests: Vec<Told>) -> Vec<Told>;

    /// Files that lines go to are to be opened anew.
    fn reopen(&self) {}

    /// The process is about to end: waits a little for those who have what was taken.
    fn finish(&self) {}
}

/// What the access log tells of a request: its line, and each of gunicorn's atoms as name, NUL, value, line feed.
#[derive(Debug)]
pub struct Told {
    /// Without its end.
    pub line: Vec<u8>,
    /// Values are escaped as in the line, and so have neither NUL nor line feed.
    pub atoms: Vec<u8>,
}

/// The target of events that take the usual way in any case.
pub const UNROUTED: &str = "minicorn-unrouted";

/// One for the master, and one for each process that it forks. Without a lock, which a fork could find locked.
static ROUTES: [OnceLock<Box<dyn Route>>; 2] = [OnceLock::new(), OnceLock::new()];
/// The processes that have set them.
static OWNERS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
/// Which of them.
static CURRENT: AtomicUsize = AtomicUsize::new(0);
/// Of which process it is: others that were forked from it have no part of it.
static OF_PROCESS: AtomicU32 = AtomicU32::new(0);

/// Takes this route in this process, or takes again the one that it had: a process has one at most, and so have those
/// that it forks.
pub fn take_route(route: Box<dyn Route>) {
    let process = std::process::id();
    let is_own = |slot: &usize| OWNERS[*slot].load(Ordering::Relaxed) == process;
    let slot = (0..ROUTES.len()).find(is_own).or_else(|| ROUTES.iter().position(|route| route.get().is_none()));
    let Some(slot) = slot else { return };
    if ROUTES[slot].set(route).is_ok() {
        OWNERS[slot].store(process, Ordering::Relaxed);
    }
    CURRENT.store(slot, Ordering::Relaxed);
    OF_PROCESS.store(process, Ordering::Release);
}

/// Takes the usual way again.
pub fn leave_route() {
    OF_PROCESS.store(0, Ordering::Release);
}

/// Waits for what has taken the route, and takes the usual way from then on. For a process that ends.
pub fn finish_route() {
    if let Some(route) = route() {
        leave_route();
        route.finish();
    }
}

fn route() -> Option<&'static dyn Route> {
    let process = OF_PROCESS.load(Ordering::Acquire);
    // Without a route, no system call.
    if process == 0 || process != std::process::id() {
        None
    } else {
        ROUTES[CURRENT.load(Ordering::Relaxed)].get().map(Box::as_ref)
    }
}

pub(super) fn reopen() {
    if let Some(route) = route() {
        route.reopen();
    }
}

pub(super) fn takes_event(record: &Record<'_>) -> bool {
    let Some(route) = route().filter(|_| record.target() != UNROUTED) else { return false };
    match record.args().as_str() {
        Some(message) => route.error(record.level(), message),
        None => route.error(record.level(), &record.args().to_string()),
    }
}

#[inline]
pub(super) fn takes_requests() -> bool {
    route().is_some_and(Route::takes_requests)
}

/// Returns those that were not taken.
pub(super) fn tell(requests: Vec<Told>) -> Vec<Told> {
    match route() {
        Some(route) => route.access(requests),
        None => requests,
    }
}
