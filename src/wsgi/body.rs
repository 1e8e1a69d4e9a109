//! [`Body`]: a request body on its way into the application, in memory, in a file, or still arriving.
//!
//! Nothing here knows Python. What [`BodyStream`] fetches may block, so `input` detaches around it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// The body of a request, as the worker hands it over.
pub enum Body {
    /// All of it, in memory. An empty one is no body.
    Memory(Vec<u8>),
    /// All of it, in a file that nobody else has.
    File {
        /// Read by position; where its cursor stands does not matter.
        file: File,
        /// Of the body, which begins at the start of the file.
        length: u64,
    },
    /// The client is still sending it.
    Arriving(Arc<Mutex<dyn BodyReader>>),
}

/// Where the rest of a body that is still arriving comes from; the worker implements it over a client's socket.
///
/// It is called detached from Python, and dropped in either state.
pub trait BodyReader: Send {
    /// Reads into the front of `room`, which is not empty, and says how much; `Ok(0)` is the end of the body. Blocks
    /// until there is something to say.
    ///
    /// # Errors
    /// The rest of the body will not come; it is not asked again.
    fn read(&mut self, room: &mut [u8]) -> Result<usize, BodyError>;
}

/// Why the rest of a body does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The client closed the connection, or broke the framing.
    Incomplete,
    /// The client paused for too long.
    Timeout,
    /// The body is longer than the limit.
    TooLarge,
    /// The request has been answered, and its body is gone.
    Over,
}

impl Body {
    /// Whether there is nothing to read. One that is still arriving may turn out to be empty.
    pub fn is_empty(&self) -> bool {
        self.length() == Some(0)
    }

    /// Bytes in all, unless they are still arriving.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Memory(bytes) => Some(bytes.len() as u64),
            Self::File { length, .. } => Some(*length),
            Self::Arriving(_) => None,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Memory(Vec::new())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(out, "Memory({} bytes)", bytes.len()),
            Self::File { length, .. } => write!(out, "File({length} bytes)"),
            Self::Arriving(_) => out.write_str("Arriving"),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Incomplete => "the client ended the request body early",
            Self::Timeout => "the client paused too long in the request body",
            Self::TooLarge => "the request body is larger than the limit",
            Self::Over => "the request is over",
        })
    }
}

impl std::error::Error for BodyError {}

/// Why a read failed.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The rest does not come. All further reads fail the same way.
    Body(BodyError),
    /// The file of the body cannot be read.
    File(io::Error),
}

/// A body being read, through a buffer where it is not all in memory.
pub(super) struct BodyStream {
    /// The body itself, if it is in memory.
    buffer: Vec<u8>,
    /// What has been fetched and not been taken: `start <= end <= buffer.len()`.
    start: usize,
    end: usize,
    source: Source,
}

/// What is behind the buffer.
enum Source {
    Ended,
    /// `at < length`: what has been fetched, of all.
    File {
        file: File,
        at: u64,
        length: u64,
    },
    Arriving(Arc<Mutex<dyn BodyReader>>),
    Failed(BodyError),
}

/// So much is asked of a file or a client at once, and so much a buffer holds.
pub(super) const FETCH_BYTES: usize = 64 * 1024;

impl BodyStream {
    pub(super) fn new(body: Body) -> Self {
        let (buffer, source) = match body {
            Body::Memory(bytes) => (bytes, Source::Ended),
            Body::File { length: 0, .. } => (Vec::new(), Source::Ended),
            Body::File { file, length } => (Vec::new(), Source::File { file, at: 0, length }),
            Body::Arriving(reader) => (Vec::new(), Source::Arriving(reader)),
        };
        Self { start: 0, end: buffer.len(), buffer, source }
    }

    /// Bytes that can be taken without fetching.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether all that is left is buffered.
    pub(super) fn is_fetched(&self) -> bool {
        matches!(self.source, Source::Ended)
    }

    /// Bytes that are left, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        let buffered = self.buffered().len() as u64;
        match &self.source {
            Source::Ended => Some(buffered),
            Source::File { at, length, .. } => Some(buffered + (length - at)),
            Source::Arriving(_) | Source::Failed(_) => None,
        }
    }

    /// Takes up to `count` bytes out of the buffer.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let start = self.start;
        self.start += count.min(self.end - start);
        &self.buffer[start..self.start]
    }

    /// How long the next line is with its line end, of which at most `max` bytes are wanted. `None` if more has to be
    /// fetched to know. The first `searched` buffered bytes have no line end.
    pub(super) fn buffered_line(&self, max: usize, searched: usize) -> Option<usize> {
        let buffered = self.buffered();
        let window = &buffered[..buffered.len().min(max)];
        match memchr::memchr(b'\n', &window[searched..]) {
            Some(line_end) => Some(searched + line_end + 1),
            None => (window.len() == max || self.is_fetched()).then_some(window.len()),
        }
    }

    /// Fetches until the next line is buffered, and says how long it is; see [`buffered_line`](Self::buffered_line).
    pub(super) fn fetch_line(&mut self, max: usize) -> Result<usize, ReadError> {
        let mut searched = 0;
        loop {
            if let Some(length) = self.buffered_line(max, searched) {
                return Ok(length);
            }
            searched = self.buffered().len();
            self.fetch()?;
        }
    }

    /// Fetches until `count` bytes are buffered, or all that is left.
    pub(super) fn fetch_until(&mut self, count: usize) -> Result<(), ReadError> {
        while self.buffered().len() < count && !self.is_fetched() {
            self.fetch()?;
        }
        Ok(())
    }

    /// Reads into the front of `room`, which is not empty, past the buffer once that is used up. `Ok(0)` is the end.
    pub(super) fn read(&mut self, room: &mut [u8]) -> Result<usize, ReadError> {
        if self.start == self.end {
            return self.source.read(room);
        }
        let taken = self.take(room.len());
        room[..taken.len()].copy_from_slice(taken);
        Ok(taken.len())
    }

    /// Appends to the buffer once.
    fn fetch(&mut self) -> Result<(), ReadError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // Longer than that only while one line was.
        let length = self.end + FETCH_BYTES;
        self.buffer.resize(length, 0);
        self.buffer.shrink_to(2 * length);
        let fetched = self.source.read(&mut self.buffer[self.end..]).inspect_err(|error| {
            // A body that is known to be incomplete is not to be taken for a whole one by who reads on.
            if matches!(error, ReadError::Body(_)) {
                self.end = 0;
            }
        })?;
        self.end += fetched;
        Ok(())
    }
}

impl Source {
    /// See [`BodyReader::read`].
    fn read(&mut self, room: &mut [u8]) -> Result<usize, ReadError> {
        let read = match self {
            Self::Ended => Ok(0),
            Self::Failed(error) => Err(*error),
            Self::File { file, at, length } => {
                let count = read_file(file, room, *at, *length).map_err(ReadError::File)?;
                *at += count as u64;
                // Closing here gives the disk space back while we are detached from Python.
                if at == length {
                    *self = Self::Ended;
                }
                return Ok(count);
            }
            Self::Arriving(reader) => {
                let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                reader.read(room).map(|count| count.min(room.len()))
            }
        };
        match read {
            Ok(0) => *self = Self::Ended,
            Ok(_) => {}
            Err(error) => *self = Self::Failed(error),
        }
        read.map_err(ReadError::Body)
    }
}

/// Reads once, from before the end of the body.
fn read_file(file: &File, room: &mut [u8], at: u64, length: u64) -> io::Result<usize> {
    let left = usize::try_from(length - at).unwrap_or(usize::MAX);
    let room_length = room.len().min(left);
    loop {
        match file.read_at(&mut room[..room_length], at) {
            // Zeros must not stand in for a part that somebody cut off.
            Ok(0) => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file of a request body was truncated"));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Gives one piece after the other, in parts where the room is smaller.
    struct Script(VecDeque<Result<Vec<u8>, BodyError>>);

    impl BodyReader for Script {
        fn read(&mut self, room: &mut [u8]) -> Result<usize, BodyError> {
            let Some(mut piece) = self.0.pop_front().transpose()? else { return Ok(0) };
            let count = piece.len().min(room.len());
            room[..count].copy_from_slice(&piece[..count]);
            if count < piece.len() {
                self.0.push_front(Ok(piece.split_off(count)));
            }
            Ok(count)
        }
    }

    pub(in crate::wsgi) fn arriving(pieces: &[Result<&[u8], BodyError>]) -> Body {
        let pieces = pieces.iter().map(|piece| piece.map(<[u8]>::to_vec));
        Body::Arriving(Arc::new(Mutex::new(Script(pieces.collect()))))
    }

    pub(in crate::wsgi) fn in_file(bytes: &[u8]) -> Body {
        let file = tempfile::tempfile().expect("a temporary file");
        file.write_all_at(bytes, 0).expect("written");
        Body::File { file, length: bytes.len() as u64 }
    }

    fn line(stream: &mut BodyStream, max: usize) -> Vec<u8> {
        let length = stream.fetch_line(max).expect("a line");
        stream.take(length).to_vec()
    }

    #[test]
    fn reads_stay_within_the_body() {
        // The file goes on behind the body.
        let Body::File { file, .. } = in_file(b"one\ntwo\nend, and more\n") else { unreachable!("it is one") };
        let bodies = [
            Body::Memory(b"one\ntwo\nend".to_vec()),
            Body::File { file, length: 11 },
            arriving(&[Ok(b"on"), Ok(b"e\nt"), Ok(b"wo\nen"), Ok(b"d")]),
        ];
        for body in bodies {
            let name = format!("{body:?}");
            let mut stream = BodyStream::new(body);
            stream.fetch_until(2).expect("fetched");
            assert_eq!(stream.take(2), b"on", "{name}");
            assert_eq!(line(&mut stream, usize::MAX), b"e\n", "{name}");
            assert_eq!(line(&mut stream, 2), b"tw", "{name}");
            assert_eq!(line(&mut stream, 9), b"o\n", "{name}");
            assert_eq!(line(&mut stream, 0), b"", "{name}");
            stream.fetch_until(9).expect("fetched");
            assert_eq!(stream.left(), Some(3), "{name}");
            assert_eq!(stream.take(9), b"end", "{name}");
            assert_eq!(line(&mut stream, usize::MAX), b"", "{name}");
            assert_eq!(stream.read(&mut [0; 8]).expect("the end"), 0, "{name}");
        }
    }

    #[test]
    fn a_failure_stays_and_hides_what_came_before_it() {
        let body = arriving(&[Ok(b"complete\npart"), Err(BodyError::Timeout), Ok(b"more\n")]);
        let mut stream = BodyStream::new(body);
        assert_eq!(line(&mut stream, usize::MAX), b"complete\n");
        for _ in 0..3 {
            let failed = stream.fetch_line(usize::MAX);
            assert!(matches!(failed, Err(ReadError::Body(BodyError::Timeout))), "{failed:?}");
            assert_eq!(stream.buffered(), b"");
        }
        let failed = stream.read(&mut [0; 8]);
        assert!(matches!(failed, Err(ReadError::Body(BodyError::Timeout))), "{failed:?}");
    }

    #[test]
    fn a_file_that_was_cut_off_is_no_shorter_body() {
        let Body::File { file, length } = in_file(b"0123456789") else { unreachable!("it is one") };
        file.set_len(4).expect("truncated");
        let mut stream = BodyStream::new(Body::File { file, length });
        let mut room = [0; 10];
        assert_eq!(stream.read(&mut room).expect("what is there"), 4);
        let failed = stream.read(&mut room);
        assert!(
            matches!(&failed, Err(ReadError::File(error)) if error.kind() == io::ErrorKind::UnexpectedEof),
            "{failed:?}"
        );
    }

    #[test]
    fn a_long_line_leaves_no_long_buffer() {
        let long = vec![b'x'; 10 * FETCH_BYTES];
        let mut stream = BodyStream::new(arriving(&[Ok(&long), Ok(b"\nshort\n")]));
        assert_eq!(line(&mut stream, usize::MAX).len(), long.len() + 1);
        assert_eq!(line(&mut stream, usize::MAX), b"short\n");
        assert_eq!(line(&mut stream, usize::MAX), b"");
        assert!(stream.buffer.capacity() <= 2 * FETCH_BYTES, "{} bytes", stream.buffer.capacity());
    }
}
