//! Whatever a client or an application says, a record of a log is one record: its fields read back as they were, and nothing
//! looks like a record that is none.

use std::path::Path;

use serde_json::Value;

use crate::harness::collector::Collector;
use crate::harness::{Program, Scratch, Server, process, serve, virtual_environment, wait_until};

/// Text that ends a line, closes a quote, is a record of its own, steers a terminal, or is none.
fn corpus() -> Vec<Vec<u8>> {
    let texts = [
        "plain",
        "\"",
        "\\",
        "\\\"",
        "\\\\\" 200 0 \"",
        "\r\n127.0.0.1 - - [21/Nov/2026:02:58:27 +0000] \"GET /forged HTTP/1.1\" 200 1 \"-\" \"-\"",
        "\n{\"time\":\"forged\",\"status\":200,\"path\":\"/forged\"}",
        "\",\"status\":500,\"forged\":\"",
        "\"}\n{\"forged\":\"",
        "\n[2026-11-21 05:14:49 +0000] [ERROR] master pid=1 forged",
        "\n<11>minicorn.site.error: [1] forged",
        "\r",
        "\n\n\n",
        "a\0b",
        "\t",
        "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2J",
        "\x7f\x08\x08\x08",
        "\u{85}\u{9b}31m\u{9d}",
        "a\u{2028}b\u{2029}c",
        "\u{202e}desrever\u{2066}\u{200f}\u{61c}",
        "%0a%0d%00%22%1b%c2%85%e2%80%a8",
        "%(h)s %s %n {} {0} ${x}",
        "Zażółć gęślą jaźń ☕ 🦄",
        "\u{feff}\u{fffd}\u{fffe}",
    ];
    let bytes: [&[u8]; 6] =
        [b"\xff\xfe", b"caf\xe9", b"\xc0\x8a\xc0\x80", b"\xed\xa0\x80\xed\xb0\x80", b"\xf0\x9f\xa6", b"\x80\x85\x9b"];
    let long = ["x".repeat(7000), "\"".repeat(3000), "\u{2028}".repeat(1000)];
    let texts = texts.iter().map(|text| text.as_bytes().to_vec());
    texts.chain(bytes.map(<[u8]>::to_vec)).chain(long.map(String::into_bytes)).collect()
}

/// A request with this text wherever it can be, or without headers that the server would refuse.
fn request(path: &str, text: &[u8], has_headers: bool) -> Vec<u8> {
    let encoded: String = text.iter().take(900).map(|byte| format!("%{byte:02x}")).collect();
    let mut request = format!("POST {path}/{encoded}?{encoded}&").into_bytes();
    // What may stand there without being encoded.
    request.extend(text.iter().take(900).filter(|&&byte| byte > b' ' && byte != b'#' && byte < 0x7f));
    request.extend_from_slice(b" HTTP/1.1\r\nHost: a\r\n");
    if has_headers {
        for name in ["Referer", "User-Agent", "X-Any", "X-Request-ID", "traceparent"] {
            request.extend_from_slice(name.as_bytes());
            request.extend_from_slice(b": ");
            request.extend_from_slice(&text[..text.len().min(4000)]);
            request.extend_from_slice(b"\r\n");
        }
    }
    let credentials = base64(&[&text[..text.len().min(4000)], b":secret"].concat());
    request.extend_from_slice(format!("Authorization: Basic {credentials}\r\n").as_bytes());
    request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", text.len()).as_bytes());
    request.extend_from_slice(text);
    request
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|group| {
        let bits = (0..3).fold(0_usize, |bits, index| bits << 8 | usize::from(group.get(index).copied().unwrap_or(0)));
        (0..4).map(
            move |place| {
                if place <= group.len() { char::from(DIGITS[bits >> (18 - 6 * place) & 63]) } else { '=' }
            },
        )
    });
    digits.collect()
}

/// The largest bound that there is.
const LONG_LINES: [&str; 2] = ["--limit-request-line", "0"];

/// What a client said, and whether its headers had it.
type Told = (Vec<u8>, bool);

/// Says all of the corpus, and returns what was answered by the application, in the order of the log.
fn tell_all(server: &Server, path: &str) -> Vec<Told> {
    let mut told = Vec::new();
    for text in corpus() {
        for has_headers in [true, false] {
            let response = server.connect().send(request(path, &text, has_headers)).receive();
            match response.status {
                200 | 500 => told.push((text.clone(), has_headers)),
                // Headers take neither control characters nor any length.
                400 | 431 => assert!(has_headers, "{}", String::from_utf8_lossy(&text)),
                status => panic!("{status} for {}", String::from_utf8_lossy(&text)),
            }
        }
    }
    assert!(told.iter().filter(|(_, has_headers)| *has_headers).count() > 15);
    told
}

/// A log in a file, of requests with all of the corpus.
fn access_log(format: &str, scratch: &Scratch) -> (String, Vec<Told>) {
    let file = scratch.text("access");
    let log = ["--access-logfile", &file, "--access-logformat", format, "--request-id-header", "X-Request-ID"];
    let options = [&log[..], &LONG_LINES].concat();
    let server = serve("told", &options);
    let told = tell_all(&server, "/told");
    server.stop().expect_status(0);
    let text = String::from_utf8(std::fs::read(&file).expect("the log")).expect("what is no text is escaped");
    (text, told)
}

/// What Python makes of a file of lines: how many there are for `str.splitlines`, which knows ten ends of a line, and that
/// each is an object, if it should be one.
fn python_lines(file: &Path, is_json: bool) -> usize {
    let code = "import json, sys\nlines = open(sys.argv[1], encoding='utf-8', newline='').read().splitlines()\n\
                if sys.argv[2] == 'true':\n    assert all(type(json.loads(line)) is dict for line in lines)\nprint(len(lines))";
    let python = virtual_environment().join("bin/python");
    let arguments = ["-c", code, file.to_str().expect("a UTF-8 path"), &is_json.to_string()];
    let finished = Program::prepare(python.to_str().expect("a UTF-8 path"), &arguments).run().expect_status(0);
    finished.stdout.trim().parse().expect("a number")
}

#[test]
fn json_reads_back() {
    let by_hand = r#"{"user":"%(u)s","path":"%(U)s","query":"%(q)s","referer":"%(f)s","user_agent":"%(a)s","any":"%({x-any}i)s","told":"%({tests.told}e)s","back":"%({x-told}o)s","line":"%(r)s","request_id":"%(I)s","host":"%({host}i)s"}"#;
    for (format, keys) in [("json", 18), (by_hand, 11)] {
        let scratch = Scratch::new();
        let (text, told) = access_log(format, &scratch);
        assert_eq!(text.lines().count(), told.len());
        assert_eq!(python_lines(&scratch.path("access"), true), told.len());
        for (line, (said, has_headers)) in text.lines().zip(&told) {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let fields = object.as_object().expect("an object");
            assert_eq!(fields.len(), keys, "{line}");
            assert!(!fields.contains_key("forged"));
            assert_eq!(object["host"], "a");
            let Ok(said) = std::str::from_utf8(said) else { continue };
            let shown = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            assert_eq!(shown("path"), format!("/told/{}", &said[..said.len().min(900)]), "{line}");
            if *has_headers {
                let header = match said[..said.len().min(4000)].trim_matches([' ', '\t']) {
                    "" if format == by_hand => "-",
                    header => header,
                };
                assert_eq!((shown("referer"), shown("user_agent")), (header.to_owned(), header.to_owned()));
            }
            if format == by_hand {
                assert_eq!(shown("told"), said);
                assert!(
                    *has_headers
                        || shown("user") == said[..said.len().min(4000)].split(':').next().unwrap_or_default()
                        || shown("user") == "-"
                );
            }
        }
    }
}

#[test]
fn text_is_one_line_and_its_quotes_hold() {
    let atoms = ["h", "u", "r", "U", "q", "f", "a", "I", "{x-any}i", "{x-told}o", "{tests.told}e", "{referer}i"];
    let quoted: Vec<String> = atoms.iter().map(|atom| format!("\"%({atom})s\"")).collect();
    for (format, quotes) in [("combined", 3), ("mini", 1), (&*quoted.join(" "), atoms.len())] {
        let scratch = Scratch::new();
        let (text, told) = access_log(format, &scratch);
        assert_eq!(text.lines().count(), told.len());
        assert_eq!(python_lines(&scratch.path("access"), false), told.len());
        for line in text.lines() {
            assert!(!line.contains(is_invisible), "{line:?}");
            // Quotes and backslashes of the client's are escaped; those that are left are of the format.
            let own = line.replace("\\\\", "").replace("\\\"", "");
            assert_eq!(own.matches('"').count(), 2 * quotes, "{line}");
            if format == "combined" {
                let rest = own.rsplit_once("] ").expect("a time").1;
                assert!(rest.starts_with("\"POST /told/"), "{line}");
            }
        }
    }
}

fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// Text of wsgi.errors, messages of exceptions, targets: the further lines of an event begin with a tab, and in syslog
/// there are none.
#[test]
fn the_error_log_and_syslog_cannot_be_forged() {
    let scratch = Scratch::new();
    let (collector, file) = (Collector::udp(), scratch.text("error"));
    let address = format!("udp://{}", collector.host_and_port());
    let log = ["--error-logfile", &file, "--access-logfile", "none", "--log-level", "debug"];
    let syslog = ["--log-syslog", "--log-syslog-to", &address, "--log-syslog-prefix", "site"];
    let bind = format!("unix:{}", scratch.text("socket"));
    let named = ["--request-id-header", "X-Request-ID", "--bind", &bind, "tests.apps.told:app"];
    let program = Program::new(&[&log[..], &syslog, &LONG_LINES, &named].concat());
    let server = Server::start_at(program, crate::harness::Address::Unix(scratch.path("socket")));
    wait_until("a worker", || process::children(server.master).len() == 1);
    tell_all(&server, "/errors");
    for text in corpus() {
        server.connect().send(raising(&text)).receive().expect_status(500);
        server.connect().send(writing(&text)).receive().expect_status(200);
    }
    collector.wait_for("RuntimeError: plain");
    server.stop().expect_status(0);
    let text = String::from_utf8(std::fs::read(&file).expect("the log")).expect("what is no text is escaped");
    let mut count = 0;
    for line in text.lines() {
        assert!(
            !line.trim_start_matches('\t').contains(|character| character != '\t' && is_invisible(character)),
            "{line:?}"
        );
        if !line.starts_with('\t') {
            count += 1;
            assert!(line.starts_with("[20") && !line.contains("] [ERROR] master pid=1 forged"), "{line}");
            assert!(line.contains(" worker=1 pid=") || line.contains(" master pid="), "{line}");
        }
    }
    assert!(count > 2 * corpus().len());
    assert!(text.contains("\n\t[2026-11-21 05:14:49 +0000] [ERROR] master pid=1 forged"));
    for message in collector.messages() {
        let (head, rest) = message.split_once(": [").expect("a record");
        assert!(matches!(
            &head[head.find('>').expect("a priority") + 1..],
            "minicorn.site.error" | "minicorn.site.access"
        ));
        assert!(!message.contains(is_invisible) && message.len() <= 8192, "{message:?}");
        assert!(rest.split_once(']').is_some_and(|(pid, _)| pid.parse::<u32>().is_ok_and(|pid| pid > 1)), "{message}");
    }
}

fn raising(text: &[u8]) -> Vec<u8> {
    posting("/raise", text)
}

fn writing(text: &[u8]) -> Vec<u8> {
    posting("/errors", text)
}

fn posting(path: &str, text: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", text.len()).into_bytes();
    request.extend_from_slice(text);
    request
}
