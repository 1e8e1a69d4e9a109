//! Request bodies that outgrow memory: the application does not see the difference, and nothing is left of them.

use std::path::PathBuf;

use crate::harness::{Scratch, Server, serve, wait_until};
use crate::wsgi_input::{BODY, CALLS, check};

/// Every body is longer than this.
const IN_FILES: [&str; 2] = ["--body-memory-max", "10"];

#[test]
fn a_body_of_known_length_in_a_file() {
    let head = format!("POST / HTTP/1.1\r\nContent-Length: {}", BODY.len());
    check(&serve("input_calls", &IN_FILES), CALLS, &head, BODY);
}

#[test]
fn a_body_in_chunks_in_a_file() {
    // One chunk per byte.
    let chunks: String = BODY.chars().map(|char| format!("1\r\n{char}\r\n")).collect();
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked";
    check(&serve("input_calls", &IN_FILES), CALLS, head, &format!("{chunks}0\r\n\r\n"));
}

/// Lines from 1 to about 20,000 bytes, and one that is longer than what is read from the file at once.
fn text(length: usize) -> Vec<u8> {
    let is_line_end = |index: usize| index < length / 2 && index * index % 19_997 < 3;
    (0..length).map(|index| if is_line_end(index) { b'\n' } else { b'a' + (index % 26) as u8 }).collect()
}

const WAYS: [&str; 6] = ["small-blocks", "large-blocks", "lines", "parts-of-lines", "list-of-lines", "mixed"];

#[test]
fn all_ways_of_reading_give_the_same_bytes() {
    for options in [&IN_FILES[..], &[]] {
        let server = serve("body_ways", options);
        let mut client = server.connect();
        for (way, length) in WAYS.iter().flat_map(|way| [11, 65_536, 65_537, 400_000].map(|length| (way, length))) {
            let body = text(length);
            client.send(format!("POST /{way} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).send(&body);
            assert!(client.receive().body == body, "{way}, {length} bytes, {options:?}");
            client.send(format!("POST /{way} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
            for chunk in body.chunks(9973) {
                client.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            }
            let response = client.send("0\r\n\r\n").receive();
            assert!(response.body == body, "{way}, {length} bytes in chunks, {options:?}");
            assert_eq!(response.value("X-Length"), Some(length.to_string().as_str()), "{way} {options:?}");
        }
    }
}

/// What the workers have open in this folder, although it has no name there.
fn open_files(server: &Server, folder: &str) -> Vec<PathBuf> {
    let links = server.workers().into_iter().flat_map(|pid| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok()).collect::<Vec<_>>()
    });
    links.filter(|target| target.starts_with(folder)).collect()
}

#[test]
fn nothing_is_left_of_a_body() {
    let scratch = Scratch::new();
    let folder = scratch.text("");
    let server = serve("body_ways", &[&IN_FILES[..], &["--tmp-upload-dir", &folder]].concat());
    let body = text(200_000);
    let head = format!("POST /lines HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());

    // While it arrives, it is in a file without a name.
    let mut client = server.connect();
    client.send(&head).send(&body[..100_000]);
    wait_until("the file of the body", || open_files(&server, &folder).len() == 1);
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 0);
    client.send(&body[100_000..]);
    assert!(client.receive().body == body);
    wait_until("the file to go", || open_files(&server, &folder).is_empty());

    // A client that leaves in the middle.
    client.send(&head).send(&body[..100_000]);
    wait_until("the file of the body", || open_files(&server, &folder).len() == 1);
    drop(client);
    wait_until("the file to go", || open_files(&server, &folder).is_empty());
}
