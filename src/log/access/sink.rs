//! Lines on their way out: collected, written in whole lines and in pieces small enough not to mingle with a sibling's,
//! counted if they are lost.
//!
//! Knows nothing of what is in a line.

use std::io;
use std::path::Path;

use log::warn;

use super::super::output::{Output, Owner, WriteError};
use crate::sys::output::PIPE_BUF;

/// How much a regular file gets at once: 800 lines, so that the write costs nothing next to them.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Collected lines and the output they are meant for.
#[derive(Debug)]
pub(super) struct Sink {
    output: Output,
    /// Whole lines, and behind them the one that is being written.
    buffer: Vec<u8>,
    /// How many bytes of the buffer are whole lines.
    whole: usize,
    /// Lines lost since the output last worked.
    dropped: u64,
}

impl Sink {
    pub fn new(output: Output) -> Sink {
        Sink { output, buffer: Vec::with_capacity(PIPE_BUF), whole: 0, dropped: 0 }
    }

    /// The place to append a line to, to be followed by [`Sink::end_line`]; or to append it to once more, from its
    /// beginning.
    pub fn begin_line(&mut self) -> &mut Vec<u8> {
        self.buffer.truncate(self.whole);
        &mut self.buffer
    }

    /// Whether the line that is being written will stay in one piece on its way, whatever siblings write at the same
    /// time.
    pub fn is_line_atomic(&self) -> bool {
        self.output.is_regular() || self.buffer.len() - self.whole < PIPE_BUF
    }

    /// Ends the line with a line feed, and writes if the bound is passed: the lines before this one, and this one too
    /// if it is beyond the bound by itself. So a pipe gets at most PIPE_BUF bytes at once, which it never mixes with
    /// another process's, unless a single line is longer.
    pub fn end_line(&mut self) {
        self.buffer.push(b'\n');
        if self.buffer.len() > self.bound() {
            self.write(self.whole);
        }
        self.whole = self.buffer.len();
        if self.whole > self.bound() {
            self.flush();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub fn flush(&mut self) {
        self.write(self.whole);
        self.whole = 0;
    }

    pub fn reopen(&mut self) -> io::Result<()> {
        self.flush();
        self.output.reopen()
    }

    pub fn give_to(&mut self, owner: Owner) -> io::Result<()> {
        self.output.give_to(owner)
    }

    pub fn path(&self) -> Option<&Path> {
        self.output.path()
    }

    fn bound(&self) -> usize {
        if self.output.is_regular() { FILE_BYTES_MAX } else { PIPE_BUF }
    }

    /// Writes the buffer up to `end`, where a line ends, or drops it.
    fn write(&mut self, end: usize) {
        if end == 0 {
            return;
        }
        match self.output.write_whole(&self.buffer[..end]) {
            Ok(()) => self.note_success(),
            Err(failure) => self.note_failure(&failure, end),
        }
        self.buffer.drain(..end);
    }

    fn note_success(&mut self) {
        if self.dropped > 0 {
            warn!("the access log can be written again; {} lines were dropped", self.dropped);
            self.dropped = 0;
        }
    }

    /// Counts the lines whose end did not go out. Only the first failure is worth a message.
    fn note_failure(&mut self, failure: &WriteError, end: usize) {
        if self.dropped == 0 {
            warn!("the access log cannot be written, its lines are dropped: {}", failure.error);
        }
        self.dropped += memchr::memchr_iter(b'\n', &self.buffer[failure.written..end]).count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixDatagram;
    use std::thread;

    use super::super::super::output::tests::{TemporaryPath, fill, pipe, read};
    use super::*;
    use crate::settings::LogTarget;

    fn push(sink: &mut Sink, line: &[u8]) {
        sink.begin_line().extend_from_slice(line);
        sink.end_line();
    }

    fn open(path: &TemporaryPath) -> Sink {
        Sink::new(Output::open(&path.target()).expect("the file opens").expect("a file is a log"))
    }

    #[test]
    fn a_file_gets_nothing_until_flushed() {
        let path = TemporaryPath::new();
        let mut sink = open(&path);
        assert!(sink.is_empty());
        for _ in 0..1_000 {
            push(&mut sink, &[b'a'; 60]);
        }
        assert!(!sink.is_empty());
        assert_eq!(path.text(), "");
        sink.flush();
        assert!(sink.is_empty());
        assert_eq!(path.text().lines().count(), 1_000);
    }

    #[test]
    fn a_file_gets_whole_lines_up_to_its_bound() {
        let path = TemporaryPath::new();
        let mut sink = open(&path);
        for _ in 0..FILE_BYTES_MAX / 100 {
            push(&mut sink, &[b'a'; 99]);
        }
        assert_eq!(path.text(), "");
        push(&mut sink, &[b'b'; 99]);
        assert_eq!(path.text().len(), FILE_BYTES_MAX / 100 * 100);
        assert!(path.text().ends_with("a\n"));
    }

    /// A datagram socket keeps the writes apart.
    #[test]
    fn what_is_no_file_gets_whole_lines_up_to_a_pipes_bound() {
        let (reader, writer) = UnixDatagram::pair().expect("a pair of sockets");
        reader.set_nonblocking(true).expect("a socket can be made non-blocking");
        let mut sink = Sink::new(Output::inherited(OwnedFd::from(writer).as_fd()).expect("a socket can be written to"));
        let receive = || {
            let mut buffer = [0; 3 * PIPE_BUF];
            let count = reader.recv(&mut buffer).expect("a datagram");
            buffer[..count].to_vec()
        };
        for _ in 0..41 {
            push(&mut sink, &[b'a'; 99]);
        }
        assert_eq!(receive().len(), 4_000);
        push(&mut sink, &[b'b'; 2 * PIPE_BUF]);
        assert_eq!(receive(), [&[b'a'; 99][..], b"\n"].concat());
        assert_eq!(receive(), [&[b'b'; 2 * PIPE_BUF][..], b"\n"].concat());
        assert!(sink.is_empty());
        push(&mut sink, &[b'c'; PIPE_BUF - 1]);
        assert!(!sink.is_empty(), "a line of exactly the bound may wait");
        push(&mut sink, b"d");
        assert_eq!(receive().len(), PIPE_BUF);
        sink.flush();
        assert_eq!(receive(), b"d\n");
    }

    /// Writes lines of many lengths, all of one letter.
    fn write_lines(mut sink: Sink, letter: u8) {
        for number in 0..3_000 {
            push(&mut sink, &vec![letter; 1 + number * 37 % 900]);
            if number % 97 == 0 {
                sink.flush();
            }
        }
        sink.flush();
    }

    /// Checks that no line was torn by another writer's.
    fn assert_whole(text: &str) {
        let mut lengths = [b'a', b'b'].map(|letter| (letter, Vec::new()));
        for line in text.lines() {
            let (_, lengths) = lengths.iter_mut().find(|(letter, _)| line.as_bytes()[0] == *letter).expect("a or b");
            assert!(line.bytes().all(|byte| byte == line.as_bytes()[0]), "torn: {line}");
            lengths.push(line.len());
        }
        let expected: Vec<_> = (0..3_000).map(|number| 1 + number * 37 % 900).collect();
        for (letter, lengths) in lengths {
            assert!(lengths == expected, "the lines of {} are not what was written", char::from(letter));
        }
    }

    /// Each thread opens the file for itself, as each worker does after a rotation.
    #[test]
    fn two_writers_share_a_file() {
        let path = TemporaryPath::new();
        thread::scope(|scope| {
            for letter in [b'a', b'b'] {
                let sink = open(&path);
                scope.spawn(move || write_lines(sink, letter));
            }
        });
        assert_whole(&path.text());
    }

    #[test]
    fn two_writers_share_a_pipe() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let writer = OwnedFd::from(writer);
        let sinks = [b'a', b'b'].map(|letter| {
            let output = Output::inherited(writer.as_fd()).expect("our own pipe");
            (letter, Sink::new(output))
        });
        drop(writer);
        let mut text = String::new();
        thread::scope(|scope| {
            for (letter, sink) in sinks {
                scope.spawn(move || write_lines(sink, letter));
            }
            reader.read_to_string(&mut text).expect("the pipe is read to its end");
        });
        assert_whole(&text);
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let output = Output::open(&LogTarget::File("/dev/full".into())).expect("it opens").expect("a log");
        let mut sink = Sink::new(output);
        for _ in 0..1_000 {
            push(&mut sink, &[b'a'; 99]);
        }
        sink.flush();
        assert!(sink.is_empty());
        assert_eq!(sink.dropped, 1_000);
    }

    #[test]
    fn lines_for_a_stuck_reader_are_counted_and_the_next_is_whole() {
        let (mut reader, output): (PipeReader, Output) = pipe();
        let full = fill(&output);
        read(&mut reader, PIPE_BUF);
        let mut sink = Sink::new(output);
        // One page is free: the first line does not fit, and its half is in the pipe.
        push(&mut sink, &[b'a'; PIPE_BUF + 100]);
        for _ in 0..100 {
            push(&mut sink, &[b'b'; 99]);
        }
        sink.flush();
        assert_eq!(sink.dropped, 101);
        read(&mut reader, full);
        push(&mut sink, b"c");
        sink.flush();
        assert_eq!(sink.dropped, 0);
        assert_eq!(read(&mut reader, 3), b"\nc\n");
    }

    #[test]
    fn a_rotated_file_is_left_and_a_new_one_begun() {
        let (path, rotated) = (TemporaryPath::new(), TemporaryPath::new());
        let mut sink = open(&path);
        push(&mut sink, b"before");
        sink.flush();
        std::fs::rename(&path.0, &rotated.0).expect("both are in the temporary directory");
        push(&mut sink, b"between");
        sink.reopen().expect("the directory is still there");
        push(&mut sink, b"after");
        sink.flush();
        assert_eq!(rotated.text(), "before\nbetween\n");
        assert_eq!(path.text(), "after\n");
    }

    #[test]
    fn a_file_that_cannot_be_reopened_goes_on() {
        let (path, rotated) = (TemporaryPath::new(), TemporaryPath::new());
        let mut sink = open(&path);
        std::fs::rename(&path.0, &rotated.0).expect("both are in the temporary directory");
        std::fs::create_dir(&path.0).expect("its name is free now");
        let result = sink.reopen();
        std::fs::remove_dir(&path.0).expect("it was made above");
        result.expect_err("a directory is no log");
        push(&mut sink, b"still");
        sink.flush();
        assert_eq!(rotated.text(), "still\n");
    }

    #[test]
    fn a_stream_has_nothing_to_reopen() {
        let (mut reader, output) = pipe();
        let mut sink = Sink::new(output);
        push(&mut sink, b"before");
        sink.reopen().expect("nothing to fail");
        push(&mut sink, b"after");
        sink.flush();
        assert_eq!(read(&mut reader, 13), b"before\nafter\n");
    }
}
