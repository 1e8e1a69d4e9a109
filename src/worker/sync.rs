//! What `turn` is built from. The model checker brings its own.

pub(super) use crate::sys::shared::Doorbell as Bell;
pub(super) use std::sync::{Mutex, MutexGuard, atomic};
