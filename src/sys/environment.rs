//! The environment of this process, which C code reads without a lock.
#![allow(unsafe_code)]

use super::process;
use std::io;

/// Sets an environment variable.
///
/// # Errors
/// There is more than one thread, so that one might be reading the environment.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    process::check_single_thread()?;
    // SAFETY: no other thread exists, which was just checked, so none reads or writes the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

/// Removes an environment variable.
///
/// # Errors
/// As for [`set`].
pub fn remove(name: &str) -> io::Result<()> {
    process::check_single_thread()?;
    // SAFETY: as in `set`.
    unsafe { std::env::remove_var(name) };
    Ok(())
}
