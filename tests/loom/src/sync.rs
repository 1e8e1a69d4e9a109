//! What `turn` is built from, as loom knows it: the counterpart of `src/worker/sync.rs`.

pub use bell::Bell;
pub use loom::sync::{Mutex, MutexGuard, atomic};

mod bell {
    use loom::sync::{Condvar, Mutex};
    use std::sync::PoisonError;

    /// A `sys::shared::Doorbell`: a ring stays until somebody answers it.
    #[derive(Debug)]
    pub struct Bell {
        is_ringing: Mutex<bool>,
        rung: Condvar,
    }

    impl Bell {
        pub fn new() -> std::io::Result<Self> {
            Ok(Self { is_ringing: Mutex::new(false), rung: Condvar::new() })
        }

        pub fn ring(&self) {
            *self.is_ringing.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.rung.notify_one();
        }

        pub fn wait(&self) {
            let mut is_ringing = self.is_ringing.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_ringing {
                is_ringing = self.rung.wait(is_ringing).unwrap_or_else(PoisonError::into_inner);
            }
            *is_ringing = false;
        }

        /// Time passes when nothing else can happen.
        pub fn wait_for(&self, _time: std::time::Duration) {
            loom::thread::yield_now();
            *self.is_ringing.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }
}

/// The same with a bell that nobody hears who is not waiting yet.
pub mod forgetful {
    pub use bell::Bell;
    pub use loom::sync::{Mutex, MutexGuard, atomic};

    mod bell {
        use loom::sync::{Condvar, Mutex};
        use std::sync::PoisonError;

        #[derive(Debug)]
        pub struct Bell {
            desk: Mutex<()>,
            rung: Condvar,
        }

        impl Bell {
            pub fn new() -> std::io::Result<Self> {
                Ok(Self { desk: Mutex::new(()), rung: Condvar::new() })
            }

            pub fn ring(&self) {
                drop(self.desk.lock().unwrap_or_else(PoisonError::into_inner));
                self.rung.notify_one();
            }

            pub fn wait(&self) {
                let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
                drop(self.rung.wait(desk).unwrap_or_else(PoisonError::into_inner));
            }

            pub fn wait_for(&self, _time: std::time::Duration) {
                loom::thread::yield_now();
            }
        }
    }
}
