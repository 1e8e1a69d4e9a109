//! Bytes that outgrow memory, in files without a name: request bodies on their way in, responses on their way out.
//!
//! A file goes with its descriptor, however the worker ends.

use crate::sys::file;
use crate::wsgi::Body;
use std::fs::{File, Permissions};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where bodies are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SpoolSettings {
    /// A body up to this size stays in memory.
    pub(super) memory_max: u64,
    /// Where the files of longer ones are made.
    pub(super) folder: PathBuf,
}

/// The body of the request that is being received. The default is empty and owns nothing.
///
/// Nothing is reserved for an announced length: a thousand clients can announce, but have to send to cost memory.
#[derive(Debug)]
pub(super) enum BodyStore {
    Memory(Vec<u8>),
    File(BodyFile),
}

#[derive(Debug)]
pub(super) struct BodyFile {
    file: File,
    /// Bytes in the file.
    written: u64,
    /// Bytes behind them: a body may come in chunks of one byte, which must not cost a system call each.
    pending: Vec<u8>,
}

/// Shorter pieces are collected until there are so many bytes.
const WRITE_BYTES_MIN: usize = 16 * 1024;

impl BodyStore {
    /// Adds what has been received next.
    ///
    /// # Errors
    /// The file cannot be made or written, for example because the disk is full. The store is of no use any more.
    pub(super) fn push(&mut self, bytes: &[u8], settings: &SpoolSettings) -> io::Result<()> {
        match self {
            Self::Memory(held) if (held.len() + bytes.len()) as u64 <= settings.memory_max => {
                held.extend_from_slice(bytes);
                Ok(())
            }
            Self::Memory(held) => {
                let file = temporary_file(&settings.folder)?;
                let mut file = BodyFile { file, written: 0, pending: std::mem::take(held) };
                file.push(bytes)?;
                *self = Self::File(file);
                Ok(())
            }
            Self::File(file) => file.push(bytes),
        }
    }

    /// The bytes so far, if they are in memory.
    pub(super) fn in_memory(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(held) => Some(held),
            Self::File(_) => None,
        }
    }

    /// The complete body; the store is empty afterwards.
    ///
    /// # Errors
    /// The last bytes cannot be written.
    pub(super) fn take(&mut self) -> io::Result<Body> {
        match std::mem::take(self) {
            Self::Memory(held) => Ok(Body::Memory(held)),
            Self::File(mut file) => {
                file.write(&[])?;
                Ok(Body::File { file: file.file, length: file.written })
            }
        }
    }
}

impl Default for BodyStore {
    fn default() -> Self {
        Self::Memory(Vec::new())
    }
}

impl BodyFile {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.pending.len() + bytes.len() >= WRITE_BYTES_MIN {
            return self.write(bytes);
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what is pending, and `bytes` behind it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let pieces = [IoSlice::new(&self.pending), IoSlice::new(bytes)];
        self.written += file::write_all_at(self.file.as_fd(), &pieces, self.written)?;
        self.pending.clear();
        // What was held in memory before there was a file is larger.
        self.pending.shrink_to(WRITE_BYTES_MIN);
        Ok(())
    }
}

/// A file that has no name, or has one only while it is made. Others cannot open it.
///
/// # Errors
/// The folder is missing, is not to be written to, or is full.
pub(super) fn temporary_file(folder: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(folder)?;
    // Without a name it has been made with the rights that the umask leaves.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// A response that its client does not take as fast as it is made, in a file.
#[derive(Debug)]
pub(super) struct ResponseSpool {
    file: File,
    /// Where the next bytes go.
    written: u64,
}

impl ResponseSpool {
    /// In a new file.
    ///
    /// # Errors
    /// See [`temporary_file`].
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: temporary_file(folder)?, written: 0 })
    }

    /// Writes all pieces behind what is there, and says where.
    ///
    /// # Errors
    /// The disk is full, or broken. What was written of these pieces does not count.
    pub(super) fn append(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<Range<u64>> {
        let start = self.written;
        self.written += file::write_all_at(self.file.as_fd(), pieces, start)?;
        Ok(start..self.written)
    }

    /// For sending from.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives back the disk space of a range that has been sent, as far as it covers whole blocks.
    pub(super) fn punch(&mut self, range: Range<u64>) {
        if let Err(error) = file::punch_hole(self.file.as_fd(), range) {
            log::debug!("the space of a sent response is not given back: {error}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::{FileExt, MetadataExt};

    fn settings(memory_max: u64) -> (SpoolSettings, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (SpoolSettings { memory_max, folder: folder.path().to_owned() }, folder)
    }

    /// All bytes of a body, and whether they are in a file.
    fn content(body: Body) -> (Vec<u8>, bool) {
        match body {
            Body::Memory(bytes) => (bytes, false),
            Body::File { file, length } => {
                assert_eq!(file.metadata().unwrap().len(), length);
                let mut bytes = vec![0; length as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                (bytes, true)
            }
            Body::Arriving(_) => panic!("a store has all of its body"),
        }
    }

    #[test]
    fn a_body_stays_in_memory_up_to_the_limit() {
        let (settings, folder) = settings(10);
        let mut store = BodyStore::default();
        for (pieces, expected, in_file) in [
            (&[][..], "", false),
            (&["12345", "67890"], "1234567890", false),
            (&["12345", "67890", ""], "1234567890", false),
            (&["12345", "67890", "1"], "12345678901", true),
            (&["12345678901"], "12345678901", true),
            (&["1234567890", "", "12", "345"], "123456789012345", true),
        ] {
            for piece in pieces {
                store.push(piece.as_bytes(), &settings).unwrap();
            }
            assert_eq!(content(store.take().unwrap()), (expected.as_bytes().to_vec(), in_file), "{pieces:?}");
            assert_eq!(store.in_memory(), Some(&b""[..]));
        }
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn pieces_of_all_sizes_arrive_in_order() {
        let (settings, _folder) = settings(20_000);
        let sizes = [1, 7, WRITE_BYTES_MIN - 8, WRITE_BYTES_MIN - 1, 1, WRITE_BYTES_MIN, 3 * WRITE_BYTES_MIN, 2, 0, 5];
        let mut store = BodyStore::default();
        let mut expected = Vec::new();
        for (number, size) in sizes.into_iter().cycle().take(100).enumerate() {
            let piece = vec![number as u8; size];
            store.push(&piece, &settings).unwrap();
            expected.extend(piece);
        }
        let (found, in_file) = content(store.take().unwrap());
        assert!(in_file && found == expected);
    }

    #[test]
    fn small_pieces_are_written_together() {
        let (settings, _folder) = settings(0);
        let mut store = BodyStore::default();
        for _ in 0..WRITE_BYTES_MIN - 1 {
            store.push(b"x", &settings).unwrap();
        }
        let BodyStore::File(file) = &store else { panic!("{store:?} is in memory") };
        assert_eq!((file.written, file.file.metadata().unwrap().len()), (0, 0));
        store.push(b"x", &settings).unwrap();
        let BodyStore::File(file) = &store else { panic!("{store:?} is in memory") };
        assert_eq!(file.written, WRITE_BYTES_MIN as u64);
        // The memory that a body had up to its limit is given back with the first write.
        assert!(file.pending.capacity() <= WRITE_BYTES_MIN, "{}", file.pending.capacity());
    }

    #[test]
    fn what_cannot_be_stored_is_told() {
        let mut store = BodyStore::default();
        let missing = SpoolSettings { memory_max: 0, folder: "/nonexistent".into() };
        assert_eq!(store.push(b"x", &missing).unwrap_err().kind(), io::ErrorKind::NotFound);

        let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (settings, _folder) = settings(0);
        let mut store = BodyStore::File(BodyFile { file: full(), written: 0, pending: Vec::new() });
        let error = store.push(&[b'x'; WRITE_BYTES_MIN], &settings).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let mut store = BodyStore::File(BodyFile { file: full(), written: 0, pending: Vec::new() });
        store.push(b"x", &settings).unwrap();
        assert_eq!(store.take().unwrap_err().kind(), io::ErrorKind::StorageFull);

        let mut spool = ResponseSpool { file: full(), written: 0 };
        let error = spool.append(&[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!((error.kind(), spool.written), (io::ErrorKind::StorageFull, 0));
    }

    #[test]
    fn temporary_files_are_without_a_name_and_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = temporary_file(folder.path()).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.nlink(), metadata.mode() & 0o7777), (0, 0o600));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
        let info = info.unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let close_on_exec = 0o2_000_000;
        assert_ne!(u32::from_str_radix(flags, 8).unwrap() & close_on_exec, 0, "{flags}");
    }

    #[test]
    fn a_response_is_appended_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = ResponseSpool::new(folder.path()).unwrap();
        let block = vec![b'x'; 1 << 20];
        assert_eq!(spool.append(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"c")]).unwrap(), 0..3);
        assert_eq!(spool.append(&[]).unwrap(), 3..3);
        assert_eq!(spool.append(&[IoSlice::new(&block)]).unwrap(), 3..(1 << 20) + 3);
        let mut found = [0; 5];
        spool.file().read_exact_at(&mut found, 0).unwrap();
        assert_eq!(&found, b"abcxx");

        spool.punch(3..1 << 20);
        spool.file().read_exact_at(&mut found, 1000).unwrap();
        assert_eq!(found, [0; 5]);
        spool.file().read_exact_at(&mut found[..3], 1 << 20).unwrap();
        assert_eq!(&found[..3], b"xxx");
    }
}
