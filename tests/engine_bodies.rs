//! Request bodies in memory and in files: the application cannot tell them apart, and nothing of them stays.

use std::fs;
use std::path::Path;

use crate::harness::{Client, Held, Program, Scratch, Tmpfs, each, pattern, process, serve, wait_until};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

fn with_length(body: &[u8]) -> Vec<u8> {
    [format!("{POST}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn in_chunks(body: &[u8]) -> Vec<u8> {
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let chunks: Vec<u8> = body.chunks(777).flat_map(chunk).collect();
    [format!("{POST}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &chunks, b"0\r\n\r\n"].concat()
}

/// RFC 1950 §9, which zlib.adler32 computes.
struct Adler32(u32, u32);

impl Adler32 {
    fn update(&mut self, bytes: &[u8]) {
        // So many sums fit into 32 bits before they have to be reduced.
        for part in bytes.chunks(5552) {
            for &byte in part {
                self.0 += u32::from(byte);
                self.1 += self.0;
            }
            self.0 %= 65521;
            self.1 %= 65521;
        }
    }

    fn value(&self) -> u32 {
        self.1 << 16 | self.0
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("a readable directory").next().is_none()
}

/// A directory for the bodies of one server.
fn upload_folder() -> (Scratch, String) {
    let scratch = Scratch::new();
    let folder = scratch.text("uploads");
    fs::create_dir(&folder).expect("a directory");
    (scratch, folder)
}

#[test]
fn sizes_around_the_memory_limit() {
    let server = serve("echo", &["--body-memory-max", "1000"]);
    let mut client = server.connect();
    for length in [0, 1, 999, 1000, 1001, 1002, 65_536, 300_001] {
        let body = pattern(length);
        assert!(client.ask(with_length(&body)).expect_status(200).body == body, "{length} bytes came back changed");
        assert!(client.ask(in_chunks(&body)).expect_status(200).body == body, "{length} in chunks came back changed");
    }
}

/// With the limit at 0 and at 1 even the smallest body is in a file, or none is.
#[test]
fn extreme_memory_limits() {
    for limit in ["0", "1", "1G"] {
        let server = serve("echo", &["--body-memory-max", limit]);
        let mut client = server.connect();
        for body in ["", "x", "xy", "xyz"] {
            client.ask(with_length(body.as_bytes())).expect(200, body);
        }
    }
}

#[test]
fn every_way_to_read_a_file_body() {
    let server = serve("input_calls", &["--body-memory-max", "1000"]);
    let lines: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    let body = format!("{lines}rest without an end");
    let cases = [
        "i.read()",
        "i.read(-1)",
        "i.read(10**9)",
        "b''.join([i.read(10), i.read(70000), i.readline(), i.read()])",
        "b''.join(iter(lambda: i.read(777), b''))",
        "b''.join(iter(lambda: i.read(65536), b''))",
        "b''.join(iter(i.readline, b''))",
        "b''.join(iter(lambda: i.readline(4), b''))",
        "b''.join(i)",
        "b''.join(i.readlines())",
        "b''.join([next(i), *i.readlines(100), i.readline(3), *i, i.read(1), i.readline(), *i.readlines()])",
    ];
    let expected = format!("b'{}'", body.replace('\n', "\\n"));
    each(
        &cases,
        |call| (*call).to_owned(),
        |call| {
            let head =
                format!("POST / HTTP/1.1\r\nHost: a\r\nX-Call: {call}\r\nContent-Length: {}\r\n\r\n", body.len());
            let response = server.ask(format!("{head}{body}")).expect_status(200);
            assert!(response.text() == expected, "{} bytes instead of {}", response.body.len(), expected.len());
        },
    );
    let count = "[len(i.readlines()), i.read(), i.readline(), list(i)]";
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nX-Call: {count}\r\nContent-Length: {}\r\n\r\n", body.len());
    server.ask(format!("{head}{body}")).expect(200, "[20001, b'', b'', []]");
}

/// Neither the upload nor its reader needs the body in memory, and nobody else can see its file.
#[test]
fn an_upload_of_200_megabytes() {
    const PIECE: usize = 1_000_000;
    const COUNT: usize = 200;
    let (_scratch, folder) = upload_folder();
    let server = serve("upload", &["--tmp-upload-dir", &folder]);
    let worker = server.workers()[0];
    let mut checksum = Adler32(1, 0);
    let mut client = server.connect();
    client.send(format!("{POST}Content-Length: {}\r\n\r\n", PIECE * COUNT));
    let mut piece = pattern(PIECE);
    for number in 0..COUNT {
        piece[..8].copy_from_slice(&(number as u64).to_be_bytes());
        checksum.update(&piece);
        client.send(&piece);
        assert!(is_empty(Path::new(&folder)), "a file with a name");
    }
    client.receive().expect(200, &format!("{} {}", PIECE * COUNT, checksum.value()));
    let peak = process::peak_resident_bytes(worker);
    assert!(peak < 64 << 20, "the worker had {peak} bytes in memory");
    assert!(is_empty(Path::new(&folder)));
    wait_until("the file to go", || process::unlinked_files(worker, Path::new(&folder)).is_empty());
}

/// The file has no name from the start, so that it goes with the process, whatever ends it.
#[test]
fn a_file_without_a_name() {
    let (_scratch, folder) = upload_folder();
    let path = Path::new(&folder);
    let server = serve("busy", &["--body-memory-max", "1000", "--tmp-upload-dir", &folder]);
    let worker = server.workers()[0];
    let mut client = server.connect();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 5000)).send(pattern(4000));
    wait_until("the body's file", || process::unlinked_files(worker, path).len() == 1);
    assert!(is_empty(path));
    let held = Held::at(&server, "/wait");
    client.send(&pattern(5000)[4000..]);
    held.finish();
    assert!(client.receive().body == pattern(5000));
    wait_until("the file to go", || process::unlinked_files(worker, path).is_empty());
    assert!(is_empty(path));
    // A client that leaves in the middle leaves no file either.
    client.send(format!("{POST}Content-Length: 5000\r\n\r\n")).send(pattern(4000));
    wait_until("the body's file", || process::unlinked_files(worker, path).len() == 1);
    drop(client);
    wait_until("the file to go", || process::unlinked_files(worker, path).is_empty());
}

#[test]
fn a_folder_that_cannot_take_files() {
    let scratch = Scratch::new();
    let (missing, file) = (scratch.text("missing"), scratch.write("file", ""));
    let locked = scratch.text("locked");
    fs::create_dir(&locked).expect("a directory");
    fs::set_permissions(&locked, std::os::unix::fs::PermissionsExt::from_mode(0o555)).expect("its owner");
    for folder in [missing, file, locked] {
        // root may write anywhere unless that right is taken away.
        let wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"];
        let arguments = ["--bind", "127.0.0.1:0", "--tmp-upload-dir", &folder, "tests.apps.hello:app"];
        let program = match nix::unistd::geteuid().is_root() {
            true => Program::under(&wrapper, &arguments),
            false => Program::new(&arguments),
        };
        program.run().expect_status(2).expect_stderr(&["--tmp-upload-dir", &folder]);
    }
}

#[track_caller]
fn post(client: &mut Client, length: usize) {
    let body = pattern(length);
    assert!(client.ask(with_length(&body)).expect_status(200).body == body);
}

/// The one request whose body has no place is refused; the rest goes on, and so does it when there is room again.
#[test]
fn a_disk_that_is_full() {
    let disk = Tmpfs::mount();
    let server = serve("echo", &["--body-memory-max", "1000", "--tmp-upload-dir", disk.text()]);
    let worker = server.workers()[0];
    let (mut large, mut small) = (server.connect(), server.connect());
    large.send(format!("{POST}Content-Length: 4000000\r\n\r\n")).send(vec![b'x'; 500_000]);
    wait_until("half of the disk to be full", || {
        process::unlinked_files(worker, disk.path()).iter().sum::<u64>() > 480_000
    });
    post(&mut small, 900);
    post(&mut small, 9000);
    // The server may stop reading at any point of it.
    let rest = large.send_behind(vec![b'x'; 3_500_000]);
    let response = large.receive().expect_status(507);
    assert!(response.announces_close());
    server.log().wait_for("No space left on device");
    post(&mut small, 900);
    drop(large);
    let _ = rest.join().expect("no panic");
    wait_until("the disk to be free", || process::unlinked_files(worker, disk.path()).is_empty());
    post(&mut small, 900_000);
    assert_eq!(server.workers(), [worker], "the worker died");
}

/// Said at once, before the body is sent and while the application works on something else.
#[test]
fn a_length_over_the_limit() {
    let server = serve("busy", &["--limit-request-body", "2M"]);
    let mut client = server.connect();
    client.get("/pid").expect_status(200);
    let held = Held::at(&server, "/wait");
    client.send(format!("{POST}Content-Length: {}\r\n\r\n", (2 << 20) + 1));
    let response = client.receive().expect_status(413);
    assert!(response.interim.is_empty() && response.announces_close());
    held.finish();
}
