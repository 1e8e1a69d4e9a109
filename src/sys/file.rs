//! Files by position: write pieces, give space back; and whether two are one.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::uio::pwritev;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Pieces that one system call takes.
const PIECES_MAX: usize = libc::UIO_MAXIOV as usize;

/// Writes all bytes of all pieces from `offset` on, and says how many that are. The cursor of the file stays.
///
/// # Errors
/// Not all could be written.
pub fn write_all_at(file: BorrowedFd<'_>, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<u64> {
    let mut pieces = pieces.to_vec();
    let mut rest = &mut pieces[..];
    let mut written = 0;
    // This drops empty pieces, as it does below.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let count = rest.len().min(PIECES_MAX);
        match pwritev(file, &rest[..count], position(offset + written)?) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                written += count as u64;
                IoSlice::advance_slices(&mut rest, count);
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(written)
}

/// Frees the blocks that lie wholly in `range`; it reads as zeros, and the file keeps its length.
///
/// # Errors
/// The file system cannot do that.
pub fn punch_hole(file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let (offset, length) = (position(range.start)?, position(range.end - range.start)?);
    loop {
        match fallocate(file, flags, offset, length) {
            Err(Errno::EINTR) => {}
            done => return Ok(done?),
        }
    }
}

/// As the kernel counts.
pub(super) fn position(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| Errno::EFBIG.into())
}

/// A file that is nowhere but in memory; `name` is shown by `/proc`. Close-on-exec.
///
/// # Errors
/// Out of descriptors or memory.
pub fn in_memory(name: &str) -> io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    Ok(File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?))
}

/// Whether both paths lead to the same file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    #[test]
    fn all_pieces_are_written_however_many() {
        let file = tempfile::tempfile().unwrap();
        let words: Vec<Vec<u8>> = (0..PIECES_MAX * 2 + 3).map(|number| vec![number as u8; number % 5]).collect();
        let pieces: Vec<IoSlice<'_>> = words.iter().map(|word| IoSlice::new(word)).collect();
        let expected = words.concat();
        assert_eq!(write_all_at(file.as_fd(), &pieces, 7).unwrap(), expected.len() as u64);
        let mut found = vec![0; expected.len()];
        file.read_exact_at(&mut found, 7).unwrap();
        assert_eq!(found, expected);
        assert_eq!(file.metadata().unwrap().len(), 7 + expected.len() as u64);
        assert_eq!(write_all_at(file.as_fd(), &[], 0).unwrap(), 0);
        assert_eq!(write_all_at(file.as_fd(), &[IoSlice::new(b""), IoSlice::new(b"")], 0).unwrap(), 0);
    }

    #[test]
    fn a_full_disk_is_told() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = write_all_at(full.as_fd(), &[IoSlice::new(b"x")], 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        let far = write_all_at(full.as_fd(), &[IoSlice::new(b"x")], u64::MAX).unwrap_err();
        assert_eq!(far.raw_os_error(), Some(libc::EFBIG));
    }

    #[test]
    fn a_hole_gives_blocks_back_and_spares_its_surroundings() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[b'x'; 1 << 20], 0).unwrap();
        file.sync_all().unwrap();
        let blocks = file.metadata().unwrap().blocks();
        punch_hole(file.as_fd(), 10..(1 << 20) - 10).unwrap();
        let after = file.metadata().unwrap();
        assert!(after.blocks() * 4 < blocks, "{} of {blocks} blocks are left", after.blocks());
        assert_eq!(after.len(), 1 << 20);
        let mut found = vec![0; 1 << 20];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(found[..12], *b"xxxxxxxxxx\0\0");
        assert_eq!(found[(1 << 20) - 12..], *b"\0\0xxxxxxxxxx");
        punch_hole(file.as_fd(), 5..5).unwrap();
    }
}
