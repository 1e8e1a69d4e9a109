//! Responses that are made faster than they are read: memory, then a file, then the application waits.

use std::time::{Duration, Instant};

use crate::harness::{Address, Client, Scratch, Server, process, serve, wait_for, wait_until};

const BLOCK: usize = 65_536;

/// A download from `progress.py`, and what it tells of itself.
struct Download {
    scratch: Scratch,
    client: Client,
    blocks: usize,
}

impl Download {
    /// Asks for so many blocks, and reads nothing yet.
    #[track_caller]
    fn start(address: &Address, blocks: usize) -> Download {
        let scratch = Scratch::new();
        let mut client = Client::connect_with_little_room(address);
        let (progress, closed) = (scratch.text("progress"), scratch.text("closed"));
        let bytes = blocks * BLOCK;
        client.send(format!("GET /?bytes={bytes}&progress={progress}&closed={closed} HTTP/1.1\r\nHost: a\r\n\r\n"));
        Download { scratch, client, blocks }
    }

    /// How many bytes the application has been asked for.
    fn progress(&self) -> usize {
        let text = std::fs::read_to_string(self.scratch.path("progress")).unwrap_or_default();
        text.parse().unwrap_or_default()
    }

    /// How many bytes it had been asked for when it was asked for no more during a quarter of a second.
    #[track_caller]
    fn standstill(&self) -> usize {
        let mut last = (0, Instant::now());
        wait_for("the application to wait", || {
            let progress = self.progress();
            if progress != last.0 {
                last = (progress, Instant::now());
            }
            (progress > 0 && last.1.elapsed() > Duration::from_millis(250)).then_some(progress)
        })
    }

    fn is_closed(&self) -> bool {
        self.scratch.path("closed").exists()
    }

    /// Reads it all and checks each block.
    #[track_caller]
    fn finish(mut self) -> Client {
        self.client.receive_head("GET").expect_status(200);
        let mut expected: Vec<u8> = (0..BLOCK).map(|place| (place % 256) as u8).collect();
        for number in 0..self.blocks {
            expected[..8].copy_from_slice(&(number as u64).to_be_bytes());
            assert!(self.client.receive_bytes(BLOCK) == expected, "block {number} is not what it was");
        }
        self.client
    }
}

fn serve_progress(options: &[&str]) -> Server {
    serve("progress", &[&["--access-logfile", "none"], options].concat())
}

/// The sizes of the files in which responses are. Their folder is that of temporary files in general.
fn response_files(server: &Server) -> Vec<u64> {
    process::unlinked_files(server.workers()[0], &std::env::temp_dir())
}

#[track_caller]
fn wait_until_files_are_gone(server: &Server) {
    wait_until("the files to go", || response_files(server).is_empty());
}

#[test]
fn the_application_waits_when_memory_and_file_are_full() {
    const FILE: usize = 1 << 20;
    let server = serve_progress(&["--response-memory-max", "64K", "--response-file-max", "1M"]);
    let download = Download::start(&server.addresses[0], 800);
    let ahead = download.standstill();
    // In the kernel's buffer there may be as much as net.ipv4.tcp_wmem allows, 4 MB by default.
    assert!((FILE..FILE + (7 << 20)).contains(&ahead), "{ahead} bytes ahead of the client");
    assert!(!download.is_closed());
    let mut client = download.finish();
    client.get("/").expect(200, "ok");
    wait_until_files_are_gone(&server);
}

/// P1: the application is free again when its last byte is made, however slowly the client reads.
#[test]
fn the_application_does_not_wait_for_the_reader() {
    let server = serve_progress(&[]);
    let download = Download::start(&server.addresses[0], 320);
    wait_until("the end of the call", || download.is_closed());
    for _ in 0..10 {
        server.get("/").expect(200, "ok");
    }
    assert!(!response_files(&server).is_empty(), "20 MB are neither read nor in a file");
    download.finish().get("/").expect(200, "ok");
    wait_until_files_are_gone(&server);
}

/// Who reads as fast as it is made gets it through memory that stays small.
#[test]
fn a_download_of_500_megabytes() {
    let server = serve_progress(&[]);
    Download::start(&server.addresses[0], 8000).finish();
    let peak = process::peak_resident_bytes(server.workers()[0]);
    assert!(peak < 64 << 20, "the worker had {peak} bytes in memory");
}

/// With the default limits, all that a client does not read is in a file.
#[test]
fn a_download_of_100_megabytes_that_nobody_reads_at_first() {
    let server = serve_progress(&[]);
    let download = Download::start(&server.addresses[0], 1600);
    wait_until("the end of the call", || download.is_closed());
    download.finish();
    let peak = process::peak_resident_bytes(server.workers()[0]);
    assert!(peak < 64 << 20, "the worker had {peak} bytes in memory");
    wait_until_files_are_gone(&server);
}

/// With a file of 1 MB the application is waiting when the client leaves, with the default it has gone.
#[test]
fn a_reader_that_leaves() {
    for options in [&["--response-memory-max", "64K", "--response-file-max", "1M"][..], &[]] {
        let server = serve_progress(options);
        let worker = server.workers()[0];
        server.get("/").expect(200, "ok");
        let before = process::descriptors(worker);
        for leave in [drop::<Client>, Client::reset] {
            for _ in 0..3 {
                let mut download = Download::start(&server.addresses[0], 320);
                download.client.receive_head("GET").expect_status(200);
                download.client.receive_bytes(BLOCK);
                download.standstill();
                let Download { scratch, client, .. } = download;
                leave(client);
                wait_until("close() to be called", || scratch.path("closed").exists());
            }
        }
        wait_until_files_are_gone(&server);
        wait_until("the descriptors to go", || process::descriptors(worker) <= before);
        assert!(!server.log().text().contains("Traceback"), "{}", server.log().text());
        server.get("/").expect(200, "ok");
    }
}

/// A reader that does not read is given up while the application waits for it, and the application is free. With a
/// second thread, that one polls and nothing else ends its sleep.
#[test]
fn a_reader_that_is_given_up() {
    for threads in ["1", "2"] {
        let room = ["--response-memory-max", "64K", "--response-file-max", "1M"];
        let server = serve_progress(&[&room[..], &["--send-timeout", "1", "--threads", threads]].concat());
        let mut download = Download::start(&server.addresses[0], 320);
        wait_until("close() to be called", || download.is_closed());
        assert!(download.progress() < 320 * BLOCK, "it was never waited for");
        server.get("/").expect(200, "ok");
        download.client.receive_cut();
    }
}

/// The time in which the application waits for its client is not its own.
#[test]
fn a_slow_reader_does_not_use_up_the_time_of_the_application() {
    let options = ["--response-memory-max", "64K", "--response-file-max", "1M", "--timeout", "1"];
    let server = serve_progress(&options);
    let download = Download::start(&server.addresses[0], 320);
    download.standstill();
    let start = Instant::now();
    wait_until("two seconds", || start.elapsed() > Duration::from_secs(2));
    assert!(!download.is_closed());
    download.finish().get("/").expect(200, "ok");
    assert!(!server.log().text().contains("no response"), "{}", server.log().text());
}
