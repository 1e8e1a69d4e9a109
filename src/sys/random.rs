//! Random bytes from the kernel.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::io;

/// Fills `bytes`, of which there are at most 256: so many come at once, without being interrupted (getrandom(2)).
///
/// # Errors
/// The kernel is older than the call (3.17).
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    debug_assert!(bytes.len() <= 256);
    // SAFETY: the kernel writes at most as many bytes as the slice has.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match Errno::result(count)? as usize == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn two_draws_differ() {
        let (mut one, mut other) = ([0; 32], [0; 32]);
        super::fill(&mut one).unwrap();
        super::fill(&mut other).unwrap();
        assert_ne!(one, other);
    }
}
