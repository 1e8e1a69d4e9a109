//! wsgi.file_wrapper (PEP 3333, Optional Platform-Specific File Handling): what is sent is what read() would give.

use crate::harness::{Client, Framing, Scratch, Server, each, pattern, serve, wait_until};

const LENGTH: usize = 50_000_000;

fn large_file(scratch: &Scratch) -> String {
    std::fs::write(scratch.path("large"), pattern(LENGTH)).expect("a file");
    scratch.text("large")
}

/// All that has been opened so far must be closed when its response is over.
#[track_caller]
fn expect_closed(server: &Server, count: usize) {
    let all = format!("{count} of {count}");
    wait_until("the files to be closed", || server.get("/closed").text() == all);
}

#[test]
fn a_large_file() {
    let scratch = Scratch::new();
    let path = large_file(&scratch);
    let server = serve("files", &[]);
    let mut client = server.connect();
    let (content, rest) = (pattern(LENGTH), LENGTH - 12_345_678);
    for opened in ["/plain", "/unbuffered"] {
        for (query, expected) in [
            (String::new(), &content[..]),
            (format!("&length={LENGTH}"), &content[..]),
            ("&offset=12345678".to_owned(), &content[12_345_678..]),
            (format!("&offset=12345678&length={rest}"), &content[12_345_678..]),
            ("&offset=12345678&length=1000".to_owned(), &content[12_345_678..][..1000]),
            ("&length=0".to_owned(), &[]),
        ] {
            let response = client.get(&format!("{opened}?path={path}{query}")).expect_status(200);
            assert!(response.body == expected, "{opened} {query}: {} bytes, or changed ones", response.body.len());
        }
    }
    expect_closed(&server, 12);
}

/// Also to a client of HTTP/1.0, for whom the length is told by the end, and in the order of pipelined requests.
#[test]
fn files_among_other_responses() {
    let scratch = Scratch::new();
    let path = scratch.write("file", &"content ".repeat(50_000));
    let server = serve("files", &[]);
    let old = server.ask(format!("GET /plain?path={path} HTTP/1.0\r\n\r\n")).expect_status(200);
    assert_eq!(old.body.len(), 400_000);
    let mut client = server.connect();
    let file = format!("GET /plain?path={path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send([&file, "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n", &file].concat());
    assert_eq!(client.receive().expect_status(200).body.len(), 400_000);
    client.receive().expect_status(200);
    assert_eq!(client.receive().expect_status(200).body.len(), 400_000);
    let empty = scratch.write("empty", "");
    client.get(&format!("/plain?path={empty}")).expect(200, "");
    client.get(&format!("/plain?path={path}&offset=400000")).expect(200, "");
    client.get(&format!("/plain?path={path}&offset=500000")).expect(200, "");
    expect_closed(&server, 6);
}

#[test]
fn head_sends_nothing_of_it() {
    let scratch = Scratch::new();
    let path = large_file(&scratch);
    let server = serve("files", &[]);
    let mut client = server.connect();
    for length in ["", "&length=1000"] {
        let response = client.ask(format!("HEAD /plain?path={path}{length} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((response.status, response.framing), (200, Framing::NoBody));
    }
    client.get("/closed").expect(200, "2 of 2");
}

/// The descriptor is not what these are about: only read() gives the right bytes.
#[test]
fn files_that_are_not_their_descriptor() {
    let scratch = Scratch::new();
    let text = "a line of text that is short enough to check\n".repeat(5000);
    let path = scratch.write("file", &text);
    let reversed: Vec<u8> = text.as_bytes().chunks(65_536).flat_map(|block| block.iter().rev().copied()).collect();
    let server = serve("files", &[]);
    each(
        &[("/unzipped", text.as_bytes()), ("/memory", text.as_bytes()), ("/overridden", &reversed)],
        |(opened, _)| (*opened).to_owned(),
        |(opened, expected)| {
            let response = server.get(&format!("{opened}?path={path}")).expect_status(200);
            assert!(response.body == *expected, "{} bytes, or changed ones", response.body.len());
        },
    );
    // What was read before is not sent, what the file object has read ahead is.
    let response = server.get(&format!("/partly-read?path={path}")).expect_status(200);
    assert!(response.text() == &text[100..], "{} bytes", response.body.len());
    // Text is not bytes, by whichever road.
    server.get(&format!("/text?path={path}")).expect_status(500);
    server.log().wait_for("the application raised");
    expect_closed(&server, 5);
}

#[test]
fn a_file_that_is_deleted_before_it_is_sent() {
    let scratch = Scratch::new();
    let path = large_file(&scratch);
    let server = serve("files", &[]);
    let response = server.get(&format!("/unlinked?path={path}")).expect_status(200);
    assert!(response.body == pattern(LENGTH));
    assert!(!scratch.path("large").exists());
    expect_closed(&server, 1);
}

/// What was promised cannot be kept: the client must see that something is missing.
#[test]
fn a_file_that_is_shorter_than_promised() {
    let scratch = Scratch::new();
    let path = scratch.write("file", "short");
    let server = serve("files", &[]);
    let mut client = server.connect();
    client.send(format!("GET /plain?path={path}&length=10 HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.receive_cut().body, b"short");
    expect_closed(&server, 1);
}

#[test]
fn a_file_that_shrinks_while_it_is_sent() {
    let scratch = Scratch::new();
    let path = large_file(&scratch);
    let server = serve("files", &[]);
    let worker = server.workers();
    let mut client = Client::connect_with_little_room(&server.addresses[0]);
    client.send(format!("GET /plain?path={path}&length={LENGTH} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.receive_bytes(1000);
    let file = std::fs::File::options().write(true).open(&path).expect("the file");
    file.set_len(1000).expect("a shorter file");
    // The head is already read, so that the end is all there is to see.
    assert!(client.read_to_end().len() < LENGTH - 1000, "bytes that the file does not have");
    server.get("/closed").expect(200, "1 of 1");
    assert_eq!(server.workers(), worker, "the worker died");
}
