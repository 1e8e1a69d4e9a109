//! What a parent shares with the children it forks: lines of atomic words, and a doorbell to say that one has changed.
//!
//! What the words mean is decided in `scoreboard`.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::time::TimeSpec;

/// How many words a [`Line`] holds.
pub const WORDS: usize = 16;

/// Words that one process writes. Two cache lines long, since the processor fetches them in pairs: a neighbour's writes
/// do not slow the writer down.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Line(pub [AtomicU64; WORDS]);

/// Lines in memory that stays one and the same across forks; all words are zero at first.
///
/// Atomics are all that may live here. Any other type with a pointer in it, such as a mutex that allocates, would hand
/// the address of one process to another.
#[derive(Debug)]
pub struct SharedLines {
    start: NonNull<Line>,
    count: usize,
}

impl SharedLines {
    /// Maps `count` lines.
    ///
    /// # Errors
    ///
    /// When there is no memory for them, or `count` is 0.
    pub fn new(count: usize) -> io::Result<Self> {
        let bytes = count.checked_mul(size_of::<Line>()).and_then(NonZeroUsize::new);
        let bytes = bytes.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a new mapping, at an address of the kernel's choice, replaces nothing.
        let start =
            unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) }?;
        Ok(Self { start: start.cast(), count })
    }
}

impl Deref for SharedLines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        // SAFETY: `new` mapped `count` lines here, aligned to a page and zeroed, which is a valid value of an atomic;
        // they stay until `self` is dropped. Nobody ever has an exclusive reference, in this process or another.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for SharedLines {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; a reference to it would have borrowed `self`. Cannot fail for a valid
        // range, and there would be nothing to do about it.
        _ = unsafe { munmap(self.start.cast(), self.count * size_of::<Line>()) };
    }
}

// SAFETY: it owns a mapping that is bound to no thread.
unsafe impl Send for SharedLines {}
// SAFETY: through a shared reference there are only atomics to reach.
unsafe impl Sync for SharedLines {}

/// A bell that any process of the family, and any thread, can ring and that its owner can wait for.
#[derive(Debug)]
pub struct Doorbell(EventFd);

impl Doorbell {
    /// Made before the fork, so that the children inherit it; closed in the programs that they execute.
    ///
    /// # Errors
    ///
    /// When the process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    /// Makes [`AsFd::as_fd`] readable until the bell is answered.
    pub fn ring(&self) {
        // It fails only when it has been rung 2^64 - 2 times and is readable anyway.
        _ = self.0.write(1);
    }

    /// Waits until the bell rings, and answers it. May return early, when a signal comes.
    pub fn wait(&self) {
        // Whatever ends the wait, the caller looks for itself what there is to do.
        _ = poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        self.answer();
    }

    /// The same, for at most `time`.
    pub fn wait_for(&self, time: Duration) {
        let limit = TimeSpec::from_duration(time);
        _ = ppoll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], Some(limit), None);
        self.answer();
    }

    /// Takes note of all rings so far.
    pub fn answer(&self) {
        // It fails only when nobody has rung.
        _ = self.0.read();
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn lines_are_zero_apart_and_do_not_share_a_cache_line() {
        let lines = SharedLines::new(40).unwrap();
        assert_eq!(lines.len(), 40);
        assert!(lines.iter().flat_map(|line| &line.0).all(|word| word.load(Relaxed) == 0));
        lines[39].0[WORDS - 1].store(u64::MAX, Relaxed);
        assert_eq!(lines[39].0[WORDS - 1].load(Relaxed), u64::MAX);
        assert_eq!(lines[38].0[WORDS - 1].load(Relaxed), 0);
        assert_eq!(lines.as_ptr().addr() % 128, 0);
    }

    #[test]
    fn a_count_that_cannot_be_mapped_is_an_error() {
        for count in [0, usize::MAX, usize::MAX / size_of::<Line>()] {
            SharedLines::new(count).expect_err("mapped what does not fit");
        }
    }

    #[test]
    fn a_doorbell_rings_until_it_is_answered() {
        let bell = Doorbell::new().unwrap();
        let is_ringing = || poll(&mut [PollFd::new(bell.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1;
        assert!(!is_ringing());
        bell.ring();
        bell.ring();
        assert!(is_ringing());
        bell.answer();
        assert!(!is_ringing());
        bell.answer();
        assert!(!is_ringing());
    }
}
