//! What the system lets a process have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// Raises the number of files that this process, and those that it will fork, may have open to `count`, or as near as
/// it may. It is never lowered.
///
/// # Errors
/// None on Linux.
pub fn allow_open_files(count: u64) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = count.min(hard);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_rises_as_far_as_it_may_and_never_falls() {
        let limit = || getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let (soft, hard) = limit();
        allow_open_files(1).unwrap();
        assert_eq!(limit(), (soft, hard));
        allow_open_files(u64::MAX).unwrap();
        assert_eq!(limit(), (hard, hard));
    }
}
