//! [`Current`]: the request that a worker shows, since it has been in the application for long.
//!
//! More than a word, so there is a sequence number around it: odd while it is being written. Who reads and finds an odd
//! number, or another one behind than before, reads again (a sequence lock, as in the Linux kernel). The writer never
//! waits. A worker that is killed while it writes leaves an odd number; then there is nothing to read until the slot is
//! prepared for the next one.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};
use std::time::Duration;

use crate::sys::clock;
use crate::sys::shared::{Line, WORDS};

/// A request that has been in the application for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentRequest {
    /// As the client wrote it; cut if it is longer than any that is known.
    pub method: Vec<u8>,
    /// The target without its query, where secrets may be; cut if it is long.
    pub path: Vec<u8>,
    /// Since its call began.
    pub age: Duration,
}

#[derive(Clone, Copy)]
pub(super) struct Current<'a>(&'a [Line]);

pub(super) const LINES: usize = 2;

// Words: the sequence number, when the call began in nanoseconds of the monotonic clock, the lengths, the text.
const SEQUENCE: usize = 0;
const SINCE: usize = 1;
const LENGTHS: usize = 2;
const TEXT: usize = 3;
const TEXT_BYTES: usize = (LINES * WORDS - TEXT) * 8;

/// The parser lets none through that is longer.
const METHOD_BYTES_MAX: usize = 20;
const PATH_BYTES_MAX: usize = TEXT_BYTES - METHOD_BYTES_MAX;

/// A writer is done in less than a microsecond: who finds it writing so often has found one that is gone.
const ATTEMPTS: u32 = 100;

impl<'a> Current<'a> {
    pub(super) fn new(lines: &'a [Line]) -> Self {
        Self(lines)
    }

    pub(super) fn show(self, method: &[u8], path: &[u8], age: Duration) {
        let method = &method[..method.len().min(METHOD_BYTES_MAX)];
        let path = &path[..path.len().min(PATH_BYTES_MAX)];
        let mut text = [0; TEXT_BYTES];
        text[..method.len()].copy_from_slice(method);
        text[method.len()..method.len() + path.len()].copy_from_slice(path);
        let since = clock::monotonic_now().saturating_sub(age).as_nanos() as u64;
        self.write(since, (method.len() << 32 | path.len()) as u64, &text);
    }

    pub(super) fn hide(self) {
        self.write(0, 0, &[]);
    }

    /// No worker writes any more, and none does yet.
    pub(super) fn reset(self) {
        let sequence = self.word(SEQUENCE);
        sequence.store(sequence.load(Relaxed) & !1, Relaxed);
        self.hide();
    }

    fn write(self, since: u64, lengths: u64, text: &[u8]) {
        let sequence = self.word(SEQUENCE).load(Relaxed);
        self.word(SEQUENCE).store(sequence.wrapping_add(1), Relaxed);
        fence(Release);
        self.word(SINCE).store(since, Relaxed);
        self.word(LENGTHS).store(lengths, Relaxed);
        for (index, piece) in text.as_chunks::<8>().0.iter().enumerate() {
            self.word(TEXT + index).store(u64::from_ne_bytes(*piece), Relaxed);
        }
        self.word(SEQUENCE).store(sequence.wrapping_add(2), Release);
    }

    pub(super) fn read(self) -> Option<CurrentRequest> {
        (0..ATTEMPTS).find_map(|_| self.try_read()).flatten()
    }

    /// `None`: it is being written. `Some(None)`: there is no request.
    fn try_read(self) -> Option<Option<CurrentRequest>> {
        let sequence = self.word(SEQUENCE).load(Acquire);
        let (since, lengths) = (self.word(SINCE).load(Relaxed), self.word(LENGTHS).load(Relaxed));
        let mut text = [0; TEXT_BYTES];
        for (index, piece) in text.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *piece = self.word(TEXT + index).load(Relaxed).to_ne_bytes();
        }
        fence(Acquire);
        let is_whole = sequence.is_multiple_of(2) && self.word(SEQUENCE).load(Relaxed) == sequence;
        is_whole.then(|| request(since, lengths, &text))
    }

    fn word(self, index: usize) -> &'a AtomicU64 {
        &self.0[index / WORDS].0[index % WORDS]
    }
}

fn request(since: u64, lengths: u64, text: &[u8]) -> Option<CurrentRequest> {
    let (method, path) = ((lengths >> 32) as usize, lengths as u32 as usize);
    let age = clock::monotonic_now().saturating_sub(Duration::from_nanos(since));
    let (method, path) = (text.get(..method)?, text.get(method..method + path)?);
    (!method.is_empty()).then(|| CurrentRequest { method: method.to_vec(), path: path.to_vec(), age })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::shared::SharedLines;
    use std::thread;

    #[test]
    fn a_request_is_read_as_it_was_shown_and_cut_where_it_is_too_long() {
        let lines = SharedLines::new(LINES).unwrap();
        let current = Current::new(&lines);
        assert_eq!(current.read(), None);
        current.show(b"GET", b"/slow", Duration::from_secs(5));
        let read = current.read().unwrap();
        assert_eq!((&*read.method, &*read.path), (&b"GET"[..], &b"/slow"[..]));
        assert!(read.age >= Duration::from_secs(5) && read.age < Duration::from_secs(60), "{:?}", read.age);
        current.show(&[b'M'; 99], &[b'/'; 9999], Duration::ZERO);
        let read = current.read().unwrap();
        assert_eq!((read.method.len(), read.path.len()), (METHOD_BYTES_MAX, PATH_BYTES_MAX));
        const { assert!(PATH_BYTES_MAX >= 200) };
        current.hide();
        assert_eq!(current.read(), None);
    }

    #[test]
    fn a_writer_that_was_killed_leaves_nothing_to_read() {
        let lines = SharedLines::new(LINES).unwrap();
        let current = Current::new(&lines);
        current.show(b"GET", b"/", Duration::ZERO);
        current.word(SEQUENCE).fetch_add(1, Relaxed);
        assert_eq!(current.read(), None);
        current.reset();
        assert_eq!(current.read(), None);
        current.show(b"GET", b"/next", Duration::ZERO);
        assert_eq!(current.read().unwrap().path, b"/next");
    }

    /// Method and path are always of the same request.
    #[test]
    fn nothing_is_torn() {
        let lines = SharedLines::new(LINES).unwrap();
        let current = Current::new(&lines);
        thread::scope(|scope| {
            let writer = scope.spawn(move || {
                for round in 0..100_000_u32 {
                    let byte = b'A' + (round % 26) as u8;
                    current.show(&[byte; 7], &[byte; 190], Duration::ZERO);
                }
            });
            while !writer.is_finished() {
                let Some(read) = current.read() else { continue };
                let mut bytes = read.method.iter().chain(&read.path);
                assert!(bytes.all(|byte| *byte == read.method[0]), "{read:?}");
            }
        });
    }
}
