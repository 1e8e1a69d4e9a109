//! Whole lines: every atom, every named format, and values chosen by somebody who wants to write the log himself.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use serde_json::Value;

use super::super::output::tests::TemporaryPath;
use super::super::{Identity, set_identity};
use super::*;
use crate::settings::{self, Surroundings};
use crate::sys::output::PIPE_BUF;

/// 2026-11-21 05:14:49.123 UTC.
const NOW: UnixTime = UnixTime { seconds: 1_795_238_089, nanoseconds: 123_999_999 };

/// A request's fields, by lower-case name.
#[derive(Default)]
struct Fields(HashMap<&'static [u8], Vec<u8>>);

impl RequestFields for Fields {
    fn get(&self, lowercase_name: &[u8]) -> Option<&[u8]> {
        self.0.get(lowercase_name).map(Vec::as_slice)
    }

    fn each(&self, show: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|(name, value)| show(name, value));
    }

    fn last(&self, lowercase_name: &[u8]) -> Option<&[u8]> {
        self.get(lowercase_name)
    }
}

fn browser() -> Fields {
    Fields(HashMap::from([
        (&b"host"[..], b"example.org".to_vec()),
        (b"referer", b"https://example.org/start".to_vec()),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)".to_vec()),
        (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_vec()),
        (b"authorization", b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_vec()),
    ]))
}

fn record(fields: &dyn RequestFields) -> Record<'_> {
    Record {
        remote_addr: "127.0.0.1",
        method: b"GET",
        target: b"/caf%C3%A9/%2e?q=1&r=%20",
        version_minor: 1,
        fields,
        status: 200,
        body_bytes: 42,
        duration: Duration::from_nanos(2_000_754_321),
        queue_time: Some(Duration::from_nanos(1_042_999)),
        request_id: b"4bf92f35-0001",
        response_fields: &[],
        environ: &[],
    }
}

/// With these options.
fn logging(options: &[&str]) -> Logging {
    let surroundings =
        Surroundings { environment: &|_| None, usable_cpus: || 1, evaluate: |_, _| Err("there is no file".into()) };
    let arguments = ["minicorn"].iter().chain(options).chain(&["app"]).map(Into::into).collect();
    settings::read(arguments, surroundings).unwrap_or_else(|error| panic!("{}", error.text())).logging
}

fn open(target: &LogTarget, format: &str) -> Result<Option<AccessLog>, OpenError> {
    AccessLog::open(target, format, &logging(&[]), None)
}

/// What a log of this format holds after the record.
fn logged(format: &str, record: &Record<'_>) -> String {
    set_identity(Identity::Worker(3));
    let path = TemporaryPath::new();
    let mut log = open(&path.target(), format).expect("a correct format").expect("a file is a log");
    log.push_at(NOW, record);
    log.flush();
    path.text()
}

/// What a pipe gets for the record, write by write.
fn sent(format: &str, records: &[&Record<'_>]) -> Vec<String> {
    set_identity(Identity::Worker(3));
    let (reader, writer) = UnixDatagram::pair().expect("a pair of sockets");
    reader.set_nonblocking(true).expect("a socket can be made non-blocking");
    let output = Output::inherited(OwnedFd::from(writer).as_fd()).expect("a socket can be written to");
    let mut log = AccessLog::new(
        Some(output),
        format::compile(format).expect("a correct format"),
        Filter::new(&logging(&[])),
        None,
    );
    records.iter().for_each(|record| log.push_at(NOW, record));
    log.flush();
    let mut buffer = vec![0; 4 * PIPE_BUF];
    let mut writes = Vec::new();
    while let Ok(count) = reader.recv(&mut buffer) {
        writes.push(String::from_utf8(buffer[..count].to_vec()).expect("what is not UTF-8 is escaped"));
    }
    writes
}

/// The times of [`NOW`] in the zone of whoever runs the test; `stamp` and `sys::clock` have tests of their own.
fn stamp() -> (String, String, String) {
    let stamp = Stamp::new(NOW.seconds);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
    let offset = text(&stamp.utc_offset);
    (text(&stamp.time_of_day), text(&stamp.common), format!("{}.123{offset}", text(&stamp.date_time)))
}

#[test]
fn every_atom() {
    let (_, common_time, _) = stamp();
    let pid = format!("<{}>", std::process::id());
    let cases = [
        ("h", "127.0.0.1"),
        ("l", "-"),
        ("u", "Aladdin"),
        ("t", &common_time),
        ("r", "GET /caf%C3%A9/%2e?q=1&r=%20 HTTP/1.1"),
        ("m", "GET"),
        ("U", "/café/."),
        ("q", "q=1&r=%20"),
        ("H", "HTTP/1.1"),
        ("s", "200"),
        ("B", "42"),
        ("b", "42"),
        ("f", "https://example.org/start"),
        ("a", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("T", "2"),
        ("M", "2000"),
        ("D", "2000754"),
        ("L", "2.000754"),
        ("p", &pid),
        ("I", "4bf92f35-0001"),
        ("Q", "1.042"),
        ("{Host}i", "example.org"),
        ("{X-None}i", "-"),
        ("{content-TYPE}o", "text/plain"),
        ("{x-none}o", "-"),
        ("{REMOTE_USER}e", "ada"),
    ];
    let fields = browser();
    let response_fields = [(b"Content-Type".to_vec(), b"text/plain".to_vec())];
    let environ = [Some(b"ada".to_vec())];
    for (atom, expected) in cases {
        let record = Record { response_fields: &response_fields, environ: &environ, ..record(&fields) };
        assert_eq!(logged(&format!("<%({atom})s>"), &record), format!("<{expected}>\n"), "%({atom})s");
    }
}

#[test]
fn what_a_request_does_not_have_is_a_dash() {
    let fields = Fields::default();
    let record = Record { remote_addr: "", body_bytes: 0, target: b"/", version_minor: 0, ..record(&fields) };
    let format = r#"%(h)s %(u)s "%(f)s" "%(a)s" [%(q)s] %(b)s %(H)s %({x}e)s"#;
    assert_eq!(logged(format, &record), "- - \"-\" \"-\" [] 0 HTTP/1.0 -\n");
}

#[test]
fn a_request_line_that_could_not_be_read_is_a_dash() {
    let fields = Fields::default();
    let record = Record { method: b"", target: b"", status: 400, ..record(&fields) };
    assert_eq!(logged("\"%(r)s\" %(m)s %(s)s", &record), "\"-\" - 400\n");
}

#[test]
fn named_formats() {
    let (time_of_day, common_time, _) = stamp();
    let fields = browser();
    let record = Record { target: b"/", duration: Duration::from_micros(754), ..record(&fields) };
    assert_eq!(logged("mini", &record), format!("[{time_of_day}] 127.0.0.1 \"GET / HTTP/1.1\" 200 42 0.75ms\n"));
    let common = format!("127.0.0.1 - Aladdin {common_time} \"GET / HTTP/1.1\" 200 42");
    assert_eq!(logged("common", &record), format!("{common}\n"));
    let combined = format!("{common} \"https://example.org/start\" \"Mozilla/5.0 (X11; Linux x86_64)\"\n");
    assert_eq!(logged("combined", &record), combined);
}

#[test]
fn json() {
    let (_, _, time) = stamp();
    let fields = browser();
    let expected = serde_json::json!({
        "time": time, "remote_addr": "127.0.0.1", "host": "example.org", "method": "GET", "target": "/caf%C3%A9/%2e?q=1&r=%20", "path": "/café/.",
        "query": "q=1&r=%20", "protocol": "HTTP/1.1", "status": 200, "response_bytes": 42, "duration_ms": 2000.754, "queue_ms": 1.042,
        "referer": "https://example.org/start", "user_agent": "Mozilla/5.0 (X11; Linux x86_64)", "request_id": "4bf92f35-0001",
        "trace_id": "0af7651916cd43dd8448eb211c80319c", "pid": std::process::id(), "worker": 3,
    });
    let line = logged("json", &record(&fields));
    assert_eq!(serde_json::from_str::<Value>(&line).expect("valid JSON"), expected);
}

#[test]
fn json_says_null_for_what_is_not_there() {
    let fields = Fields::default();
    let record = Record {
        remote_addr: "",
        method: b"",
        target: b"",
        status: 400,
        queue_time: None,
        request_id: b"",
        ..record(&fields)
    };
    let line: Value = serde_json::from_str(&logged("json", &record)).expect("valid JSON");
    let of_request = ["remote_addr", "host", "method", "target", "path", "query", "referer", "user_agent"];
    for key in of_request.into_iter().chain(["queue_ms", "request_id", "trace_id"]) {
        assert_eq!(line[key], Value::Null, "{key}");
    }
}

#[test]
fn a_log_tells_what_it_needs() {
    let path = TemporaryPath::new();
    let opened = |format| open(&path.target(), format).expect("a correct format").expect("a file is a log");
    assert!(!opened("combined").wants_response_fields());
    assert!(opened("%({etag}o)s").wants_response_fields());
    assert!(opened("mini").environ_names().is_empty());
    assert_eq!(opened("%({A}e)s %({b.c}e)s").environ_names(), ["A", "b.c"]);
}

#[test]
fn what_is_skipped_leaves_no_line() {
    let fields = browser();
    let options = ["--access-log-skip=/healthz,/static/*", "--access-log-skip", "/b", "--access-log-min-status=304"];
    let path = TemporaryPath::new();
    let mut log = AccessLog::open(&path.target(), "%(s)s %(r)s", &logging(&options), None)
        .expect("a correct format")
        .expect("a file is a log");
    let records: [(&[u8], u16); 12] = [
        (b"/healthz", 500),
        (b"/healthz?x=1", 500),
        (b"http://host/healthz", 500),
        (b"/static/", 404),
        (b"/static/a.css?v=2", 404),
        (b"/b", 404),
        (b"/healthz/", 500),
        (b"/static", 404),
        (b"/ba", 304),
        (b"/ba", 303),
        (b"/x?/healthz", 999),
        (b"/", 200),
    ];
    for (target, status) in records {
        log.push_at(NOW, &Record { target, status, ..record(&fields) });
    }
    log.flush();
    let lines = ["500 GET /healthz/", "404 GET /static", "304 GET /ba", "999 GET /x?/healthz"];
    assert_eq!(path.text(), lines.map(|line| format!("{line} HTTP/1.1\n")).concat());
}

#[test]
fn errors_say_how_to_end() {
    let missing = LogTarget::File("/no/such/directory/access.log".into());
    for (target, format, exit, message) in [
        (&LogTarget::None, "%(z)s", Exit::Usage, "unknown atom %(z)s"),
        (&missing, "mini", Exit::Failed, "cannot open the access log /no/such/directory/access.log: No such file"),
    ] {
        let error = open(target, format).expect_err("a wrong format, or a wrong file");
        assert_eq!(error.exit(), exit);
        assert!(error.to_string().starts_with(message), "{error}");
    }
    assert!(open(&LogTarget::None, "mini").expect("a correct format").is_none());
}

#[test]
fn many_lines_are_one_write() {
    let fields = browser();
    let record = record(&fields);
    assert_eq!(sent("mini", &[&record; 10]), [logged("mini", &record).repeat(10)]);
}

#[test]
fn a_pipe_gets_a_long_line_cut_and_a_file_gets_it_whole() {
    let fields = Fields(HashMap::from([(&b"user-agent"[..], b"x".repeat(8_000))]));
    let target = [b"/".as_slice(), &b"y".repeat(8_000)].concat();
    let record = Record { target: &target, ..record(&fields) };
    let format = r#""%(m)s" "%(U)s" "%(a)s" %(s)s"#;
    let whole = format!("\"GET\" \"/{}\" \"{}\" 200\n", "y".repeat(8_000), "x".repeat(8_000));
    let cut = format!("\"GET\" \"/{}...\" \"{}...\" 200\n", "y".repeat(1_023), "x".repeat(1_024));
    assert_eq!(logged(format, &record), whole);
    assert_eq!(sent(format, &[&record]), [cut]);
}

#[test]
fn whatever_a_client_sends_a_pipe_gets_whole_lines() {
    for value in HOSTILE {
        with_everywhere(&value.repeat(4_000), |record| {
            for format in ["mini", "common", "combined", "json"] {
                let writes = sent(format, &[record, record, record]);
                assert_eq!(writes.concat().lines().count(), 3, "{format}");
                assert!(writes.iter().all(|write| write.len() <= PIPE_BUF && write.ends_with('\n')), "{format}");
                if format == "json" {
                    writes
                        .concat()
                        .lines()
                        .for_each(|line| drop(serde_json::from_str::<Value>(line).expect("valid JSON")));
                }
            }
        });
    }
}

/// Values that end a line, close a quote, look like another record or steer a terminal, with text around them.
const HOSTILE: [&[u8]; 14] = [
    b"\"",
    b"\\",
    b"\\\"",
    b"a\" 200 0 \"b",
    b"a\r\n127.0.0.1 - - [x] \"GET /forged HTTP/1.1\" 200 1",
    b"\n",
    b"\r",
    b"\0",
    b"\x1b]0;title\x07\x1b[2J",
    b"\",\"status\":500,\"x\":\"",
    b"caf\xe9 \xff\xfe \xc0\x8a \xed\xa0\x80 \xf0\x9f",
    "\u{85}\u{9b}31m\u{2028}\u{2029}\u{202e}\u{2066}\u{7f}".as_bytes(),
    b"%(h)s %s %n {}",
    b"%0a%0d%22%5c%00%1b%ff",
];

/// The record with `value` in every place that a peer or an application fills.
fn with_everywhere<T>(value: &[u8], then: impl FnOnce(&Record<'_>) -> T) -> T {
    let names: [&[u8]; 5] = [b"referer", b"user-agent", b"host", b"traceparent", b"x"];
    let mut fields: HashMap<_, _> = names.into_iter().map(|name| (name, value.to_vec())).collect();
    let credentials = [value, b":secret"].concat();
    fields.insert(b"authorization", [b"Basic ", encode_base64(&credentials).as_bytes()].concat());
    let response_fields = [(b"X".to_vec(), value.to_vec())];
    let environ = [Some(value.to_vec())];
    let fields = Fields(fields);
    let target = [b"/", value, b"?", value].concat();
    let remote_addr = String::from_utf8_lossy(value);
    then(&Record {
        remote_addr: &remote_addr,
        method: value,
        target: &target,
        request_id: value,
        response_fields: &response_fields,
        environ: &environ,
        ..record(&fields)
    })
}

fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, index| bits << 8 | usize::from(group.get(index).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = char::from(DIGITS[bits >> (18 - 6 * place) & 63]);
            text.push(if place <= group.len() { digit } else { '=' });
        }
    }
    text
}

const EVERY_VALUE: &str = "h u r m U q f a I {x}i {x}o {x}e";

/// The quoted parts of a line, read by the rule that a backslash takes the next character along.
fn quoted_parts(line: &str) -> usize {
    let mut characters = line.chars();
    let mut quotes = 0;
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '"' => quotes += 1,
            _ => {}
        }
    }
    assert_eq!(quotes % 2, 0, "a quote is open: {line}");
    quotes / 2
}

/// One line, nothing in it but visible characters and spaces.
fn assert_one_visible_line(text: &str) {
    let line = text.strip_suffix('\n').expect("a line ends");
    let invisible = |character: char| {
        character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!line.contains(invisible), "{line:?}");
}

#[test]
fn hostile_values_stay_in_their_quotes() {
    let atoms: Vec<_> = EVERY_VALUE.split(' ').map(|atom| format!("\"%({atom})s\"")).collect();
    for (format, quoted) in [("mini", 1), ("common", 1), ("combined", 3), (&atoms.join(" "), atoms.len())] {
        for value in HOSTILE {
            let text = with_everywhere(value, |record| logged(format, record));
            assert_one_visible_line(&text);
            assert_eq!(quoted_parts(&text), quoted, "{text}");
        }
    }
}

#[test]
fn hostile_values_leave_json_valid() {
    let atoms: Vec<_> = EVERY_VALUE.split(' ').map(|atom| format!("\"{atom}\":\"%({atom})s\"")).collect();
    let by_hand = format!("{{{}}}", atoms.join(","));
    for (format, keys) in [("json", 18), (by_hand.as_str(), atoms.len())] {
        for value in HOSTILE {
            let text = with_everywhere(value, |record| logged(format, record));
            assert_one_visible_line(&text);
            let object: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(object.as_object().expect("an object").len(), keys, "{text}");
            let keys: &[&str] = match format {
                "json" => &["host", "method", "referer", "user_agent", "request_id"],
                _ => &["u", "m", "f", "a", "I", "{x}i", "{x}o", "{x}e"],
            };
            // A user's name ends at the first colon.
            let is_whole = |key: &&&str| std::str::from_utf8(value).is_ok() && (**key != "u" || !value.contains(&b':'));
            for key in keys.iter().filter(is_whole) {
                assert_eq!(object[key].as_str().map(str::as_bytes), Some(value), "valid text comes back as it was");
            }
        }
    }
}
