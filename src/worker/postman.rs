//! [`Postman`]: finished responses that wait to leave together, and the thread that sends them, and the pieces of a
//! burst, when they would wait too long.
//!
//! Responses leave at the end of the batch of events in which they were made, since waking the client's core between
//! two calls of the application costs cache and context (Flask, 64 connections: 46 µs a request when each is sent at
//! once, 40 together). But a call may take long, or what an iterable does behind its last piece may. So a thread looks
//! every [`TICK`]; when it finds the application in the same call twice, it sends what waits. PEP 3333 asks for no
//! less: a server must "guarantee that they will continue transmission even while the application is producing its next
//! block".
//!
//! The thread never takes the GIL. It sends bytes, never objects of Python, and leaves dropping to the worker's thread.

use super::channel::{Channel, Outlet};
use super::client::Token;
use crate::sys::signal;
use crate::wsgi::Exchange;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

/// A finished response waits for a call of the application at most twice this long.
const TICK: Duration = Duration::from_millis(5);

/// After so many ticks without a call the thread sleeps until there is one.
const IDLE_TICKS: u32 = 50;

/// It needs little, but the thread-local variables of all loaded libraries have their place there too.
const STACK_BYTES: usize = 256 * 1024;

pub(super) struct Postman {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    exchange: Arc<Mutex<Exchange<Outlet>>>,
    letters: Mutex<Vec<Letter>>,
    /// Odd while the application is called.
    calls: AtomicU64,
    sleeps: AtomicBool,
    is_over: AtomicBool,
}

/// A response with the channel it goes to.
pub(super) struct Letter {
    pub(super) token: Token,
    pub(super) channel: Channel,
}

impl Postman {
    /// Starts the thread.
    pub(super) fn start(exchange: Arc<Mutex<Exchange<Outlet>>>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            exchange,
            letters: Mutex::new(Vec::new()),
            calls: AtomicU64::new(0),
            sleeps: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let held = Arc::clone(&shared);
        // Signals are for the thread that runs Python: a new thread inherits the mask, which is full meanwhile.
        let thread = signal::blocked(|| {
            thread::Builder::new().name("minicorn-send".to_owned()).stack_size(STACK_BYTES).spawn(move || held.run())
        })??;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes a finished response, to be handed back by [`collect`](Self::collect).
    #[inline]
    pub(super) fn give(&self, token: Token, channel: Channel) {
        self.shared.letters().push(Letter { token, channel });
    }

    /// Whether a response waits.
    pub(super) fn has_letters(&self) -> bool {
        !self.shared.letters().is_empty()
    }

    /// Moves all letters to `letters`, which is empty.
    pub(super) fn collect(&self, letters: &mut Vec<Letter>) {
        debug_assert!(letters.is_empty());
        std::mem::swap(&mut *self.shared.letters(), letters);
    }

    /// The application is about to be called.
    #[inline]
    pub(super) fn enter_call(&self) {
        self.shared.count_call();
        // The thread says that it sleeps and then looks at the count; this side counts and then looks whether it
        // sleeps. Only with a fence on both sides do they not miss each other.
        fence(Ordering::SeqCst);
        if self.shared.sleeps.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// The application has returned.
    #[inline]
    pub(super) fn leave_call(&self) {
        self.shared.count_call();
    }

    #[cold]
    fn wake(&self) {
        self.shared.sleeps.store(false, Ordering::Relaxed);
        self.thread.iter().for_each(|thread| thread.thread().unpark());
    }
}

impl Drop for Postman {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            Thread::unpark(thread.thread());
            // It has no panic to tell of that the hook has not printed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// There is one writer, so that a load and a store do instead of a locked instruction.
    #[inline]
    fn count_call(&self) {
        self.calls.store(self.calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn letters(&self) -> MutexGuard<'_, Vec<Letter>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut seen = 0;
        let mut idle_ticks = 0;
        while !self.is_over.load(Ordering::Acquire) {
            thread::park_timeout(TICK);
            let calls = self.calls.load(Ordering::Relaxed);
            let is_same = calls == seen;
            seen = calls;
            let is_in_call = calls % 2 == 1;
            if is_same && is_in_call {
                self.deliver();
            }
            idle_ticks = if is_same && !is_in_call { idle_ticks + 1 } else { 0 };
            if idle_ticks > IDLE_TICKS {
                self.sleep(calls);
                idle_ticks = 0;
            }
        }
    }

    fn sleep(&self, calls: u64) {
        self.sleeps.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while self.calls.load(Ordering::Relaxed) == calls && !self.is_over.load(Ordering::Acquire) {
            thread::park();
        }
        self.sleeps.store(false, Ordering::Relaxed);
    }

    /// Sends what waits: finished responses, and what the request in the application has framed so far. What cannot be
    /// sent now is left to the worker's thread.
    fn deliver(&self) {
        for letter in self.letters().iter_mut() {
            letter.channel.send_bytes();
        }
        // Who holds it is framing, or waiting for this very client to take more.
        match self.exchange.try_lock() {
            Ok(mut exchange) => exchange.output.send_bytes(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().output.send_bytes(),
            Err(TryLockError::WouldBlock) => {}
        }
    }
}
