//! The order of the bytes, the space they take, and the turns in which they go.

use super::*;
use crate::sys::socket;
use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A source of numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn outlet(memory_max: u64, file_max: u64) -> (Outlet, UnixStream, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let room = ResponseRoom { memory_max, file_max, folder: folder.path().to_owned() };
    let mut outlet = Outlet::new(Arc::new(room));
    outlet.attach(Some(Channel::new(Stream::from(OwnedFd::from(ours)))));
    (outlet, theirs, folder)
}

fn file_of(bytes: &[u8]) -> FileRange {
    use std::os::unix::fs::FileExt;
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 100).unwrap();
    FileRange { file, offset: 100, length: bytes.len() as u64 }
}

fn drain(client: &mut UnixStream, received: &mut Vec<u8>, max: usize) {
    let mut room = vec![0; max];
    if let Ok(count) = client.read(&mut room) {
        received.extend_from_slice(&room[..count]);
    }
}

/// Memory, files and what was spilled, in any order and with any pauses of the reader: the bytes come out as they
/// went in.
#[test]
fn bytes_keep_their_order() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let (mut outlet, mut client, _folder) = outlet(64 * 1024, u64::MAX);
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        let reading = dice.throw(4) + 1;
        for number in 0..400_u32 {
            let length = [1, 100, 5000, 150_000][dice.throw(4) as usize];
            let bytes: Vec<u8> = (0..length).map(|index: u32| (index ^ number) as u8).collect();
            sent.extend_from_slice(&bytes);
            match dice.throw(8) {
                0 => outlet.hold_file(file_of(&bytes)),
                1 => outlet.channel.as_mut().unwrap().queue.push(Piece::Bytes(bytes)),
                _ => outlet.buffer().extend_from_slice(&bytes),
            }
            if outlet.flush().unwrap() == Flushed::TooMuch {
                assert_eq!(outlet.relieve(), Ok(Relieved::Room));
            }
            if dice.throw(6) < reading {
                drain(&mut client, &mut received, 100_000);
            }
            assert!(outlet.waiting() + received.len() as u64 <= sent.len() as u64);
        }
        while received.len() < sent.len() {
            drain(&mut client, &mut received, 1 << 20);
            outlet.flush().unwrap();
        }
        assert!(received == sent, "seed {seed}");
        let queue = &outlet.channel.as_ref().unwrap().queue;
        assert!(queue.spool.is_none() && queue.sent == 0 && !outlet.has_output(), "seed {seed}");
    }
}

/// The disk holds no more than what waits, however long the stream is; and what is on its way stays as it is.
#[test]
fn what_was_sent_is_given_back() {
    use std::os::unix::fs::MetadataExt;
    let (mut outlet, mut client, _folder) = outlet(64 * 1024, u64::MAX);
    let (mut sent, mut received) = (0_u64, 0_u64);
    let expected = |position: u64| (position / 4 * 7 + position % 4) as u8;
    while sent < 100 << 20 {
        let bytes: Vec<u8> = (sent..sent + 130_000).map(expected).collect();
        sent += bytes.len() as u64;
        outlet.buffer().extend_from_slice(&bytes);
        if outlet.flush().unwrap() == Flushed::TooMuch {
            assert_eq!(outlet.relieve(), Ok(Relieved::Room));
        }
        while sent - received > 40 << 20 {
            let mut got = Vec::new();
            drain(&mut client, &mut got, 1 << 20);
            assert!(got.iter().zip(received..).all(|(byte, position)| *byte == expected(position)), "at {received}");
            received += got.len() as u64;
            outlet.flush().unwrap();
        }
        if let Some(spool) = &outlet.channel.as_ref().unwrap().queue.spool {
            let on_disk = spool.file().metadata().unwrap().blocks() * 512;
            assert!(on_disk < 80 << 20, "{on_disk} bytes on the disk after {sent}");
        }
    }
}

#[test]
fn a_full_file_makes_the_application_wait() {
    let (mut outlet, mut client, _folder) = outlet(64 * 1024, 1 << 20);
    let mut waited = false;
    for _ in 0..40 {
        outlet.buffer().extend_from_slice(&[b'x'; 100_000]);
        if outlet.flush().unwrap() == Flushed::TooMuch {
            waited |= outlet.relieve().unwrap() == Relieved::Full;
        }
    }
    assert!(waited);
    let mut received = Vec::new();
    while outlet.has_output() {
        drain(&mut client, &mut received, 1 << 20);
        outlet.flush().unwrap();
    }
    drain(&mut client, &mut received, 1 << 20);
    assert_eq!(outlet.relieve(), Ok(Relieved::Room));
    drop(client);
    outlet.buffer().extend_from_slice(b"x");
    assert_eq!(outlet.flush(), Err(ClientGone));
}

/// However fast the client takes it, others have their turn in between.
#[test]
fn a_long_file_is_sent_in_turns() {
    const LENGTH: u64 = 64 * FILE_BYTES_MAX;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = socket::accept(listener.as_fd()).unwrap();
    let reader = std::thread::spawn(move || {
        let mut room = vec![0; 1 << 20];
        std::iter::from_fn(|| Some(client.read(&mut room).unwrap() as u64).filter(|&count| count > 0)).sum::<u64>()
    });
    let file: File = tempfile::tempfile().unwrap();
    file.set_len(LENGTH).unwrap();
    let mut channel = Channel::new(stream);
    channel.queue.push(Piece::File(FileRange { file, offset: 0, length: LENGTH }));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !channel.is_empty() {
        let before = channel.waiting();
        assert_ne!(channel.send(Then::Unknown), Sent::Broken);
        assert!(before - channel.waiting() < 2 * FILE_BYTES_MAX, "{} bytes in one turn", before - channel.waiting());
        assert!(Instant::now() < deadline, "{} bytes are left", channel.waiting());
    }
    drop(channel);
    assert_eq!(reader.join().unwrap(), LENGTH);
}
