//! [`Shared`]: an [`Exchange`] under its lock, and the wait of an application that is ahead of its client.

use super::exchange::{ClientGone, Exchange, Flushed, Output, PushError, Relieved};
use pyo3::prelude::*;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

/// An exchange, shared by the thread that calls the application, Python's callables, and the threads that send.
pub struct Shared<O: ?Sized = dyn Output> {
    /// How often the client has taken some of what waits, or was given up.
    drains: Mutex<u64>,
    drained: Condvar,
    exchange: Mutex<Exchange<O>>,
}

impl<O: Output> Shared<O> {
    /// Without a request yet.
    pub fn new(output: O) -> Self {
        Self { drains: Mutex::new(0), drained: Condvar::new(), exchange: Mutex::new(Exchange::new(output)) }
    }
}

impl<O: Output + ?Sized> Shared<O> {
    /// Nobody who has it waits for Python, so that it may be waited for while attached.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, Exchange<O>> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exchange, unless somebody else has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, Exchange<O>>> {
        match self.exchange.try_lock() {
            Ok(exchange) => Some(exchange),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Wakes the application if it waits for its client.
    pub fn tell_drained(&self) {
        *self.lock_drains() += 1;
        self.drained.notify_all();
    }

    fn lock_drains(&self) -> MutexGuard<'_, u64> {
        self.drains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what has been framed; where too much waits for the client, detached from Python until there is room.
    pub(super) fn flush(&self, py: Python<'_>) -> Result<(), PushError> {
        let flushed = self.lock().flush()?;
        match flushed {
            Flushed::Enough => Ok(()),
            Flushed::TooMuch => py.detach(|| self.make_room()),
        }
    }

    fn make_room(&self) -> Result<(), PushError> {
        loop {
            // Read first: what is told while the room is looked for ends the wait at once.
            let drains = *self.lock_drains();
            let mut exchange = self.lock();
            let relieved = exchange.output.relieve();
            exchange.end_client_wait();
            match relieved {
                Ok(Relieved::Room) => return Ok(()),
                Ok(Relieved::Full) => exchange.begin_client_wait(),
                Err(ClientGone) => {
                    exchange.is_client_gone = true;
                    return Err(PushError::ClientGone);
                }
            }
            drop(exchange);
            // Whoever polls sends meanwhile, and gives the client up if it takes nothing for too long.
            let waited = self.drained.wait_while(self.lock_drains(), |now| *now == drains);
            drop(waited);
        }
    }
}
