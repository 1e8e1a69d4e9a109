//! The access log: its formats, its safety, and that no line is lost or torn.

use std::io::Read;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Address, Client, Program, Scratch, Server, serve, shape, wait_until};

const REQUEST: &str = "GET /path?a=b HTTP/1.1\r\nHost: a\r\nReferer: http://from/\r\nUser-Agent: tests/1.0\r\n\
                       Authorization: Basic bWU6c2VjcmV0\r\nX-Id: 42\r\n\r\n";

/// The line that one request leaves.
fn line_of(format: &str, request: &str) -> String {
    let server = serve("hello", &["--access-logformat", format]);
    server.ask(request);
    let finished = server.stop();
    assert_eq!(finished.stdout.lines().count(), 1, "{:?}", finished.stdout);
    finished.stdout.trim_end_matches('\n').to_owned()
}

/// The shape of a line, with numbers of any length shown as one 0.
fn squeezed_shape(line: &str) -> String {
    let mut shape = shape(line);
    while shape.contains("00") {
        shape = shape.replace("00", "0");
    }
    shape
}

/// `[12:44:12] 127.0.0.1 "GET / HTTP/1.1" 200 42 0.75ms`, and nothing needs to be asked for.
#[test]
fn mini_is_the_default() {
    let server = serve("hello", &[]);
    server.ask(REQUEST);
    let line = server.stop().stdout;
    assert_eq!(squeezed_shape(&line), "[0:0:0] 0.0.0.0 \"GET /path?a=b HTTP/0.0\" 0 0 0.0ms\n");
    assert!(line.contains("127.0.0.1 \"GET /path?a=b HTTP/1.1\" 200 14 "), "{line}");
}

#[test]
fn common_and_combined() {
    let common = line_of("common", REQUEST);
    assert!(common.starts_with("127.0.0.1 - me ["), "{common}");
    assert!(common.ends_with("\"GET /path?a=b HTTP/1.1\" 200 14"), "{common}");
    let combined = line_of("combined", REQUEST);
    assert!(combined.starts_with("127.0.0.1 - me ["), "{combined}");
    assert!(combined.ends_with("\"GET /path?a=b HTTP/1.1\" 200 14 \"http://from/\" \"tests/1.0\""), "{combined}");
    // `[21/Nov/2026:02:58:27 +0000]`
    let time = &combined[combined.find('[').expect("a time")..=combined.find(']').expect("a time")];
    let shape = shape(time);
    assert!(time.len() == 28 && shape.starts_with("[00/") && shape.contains("/0000:00:00:00 "), "{time}");
}

#[test]
fn json() {
    let line = line_of("json", REQUEST);
    let values = parse(&line);
    for (key, value) in [
        ("remote_addr", "127.0.0.1"),
        ("method", "GET"),
        ("target", "/path?a=b"),
        ("path", "/path"),
        ("query", "a=b"),
        ("protocol", "HTTP/1.1"),
        ("referer", "http://from/"),
        ("user_agent", "tests/1.0"),
    ] {
        assert_eq!(values[key], value, "{key} in {line}");
    }
    assert_eq!((&values["status"], &values["response_bytes"]), (&200.into(), &14.into()));
    assert!(values["time"].is_string() && values["duration_ms"].is_f64(), "{line}");
    assert!(values["pid"].is_u64() && values["worker"].is_u64(), "{line}");
}

/// gunicorn's atoms, as its documentation lists them.
#[test]
fn atoms() {
    for (format, shown) in [
        ("%(h)s %(l)s %(u)s", "127.0.0.1 - me"),
        ("%(r)s", "GET /path?a=b HTTP/1.1"),
        ("%(m)s %(U)s %(q)s %(H)s", "GET /path a=b HTTP/1.1"),
        ("%(s)s %(B)s %(b)s", "200 14 14"),
        ("%(f)s %(a)s", "http://from/ tests/1.0"),
        ("%({x-id}i)s %({X-ID}i)s %({none}i)s", "42 42 -"),
        ("%({content-type}o)s %({none}o)s", "text/plain -"),
        ("%({REMOTE_ADDR}e)s %({none}e)s", "127.0.0.1 -"),
        ("100%% %(m)s", "100% GET"),
        ("%(T)s", "0"),
    ] {
        assert_eq!(line_of(format, REQUEST), shown, "{format}");
    }
    for (format, shape) in [("%(M)s", "0"), ("%(D)s", "0"), ("%(L)s", "0.0"), ("%(p)s", "<0>")] {
        assert_eq!(squeezed_shape(&line_of(format, REQUEST)), shape, "{format}");
    }
}

/// What a client sends cannot end a line, leave its quotes, or reach a terminal as a control sequence.
#[test]
fn nothing_can_be_injected() {
    let request = "GET /%0a%1b[31m\"\\x HTTP/1.1\r\nHost: a\r\n\
                   Referer: x\" 200 forged \"y\r\nUser-Agent: \u{9b}31m\u{e9}\r\n\r\n";
    for format in ["mini", "common", "combined", "json", "%(U)s %(f)s %(a)s", "%({user-agent}i)s %({PATH_INFO}e)s"] {
        let line = line_of(format, request);
        assert!(!line.chars().any(char::is_control), "{format}: {line:?}");
        // Quotes and backslashes of the client's are escaped; what is left are those of the format.
        let own = line.replace("\\\\", "").replace("\\\"", "");
        assert!(!own.contains("\" 200 forged"), "{format}: {line:?}");
        if format == "json" {
            assert_eq!(parse(&line)["referer"], "x\" 200 forged \"y");
        }
    }
}

#[test]
fn statuses_and_sizes_are_those_sent() {
    let server = serve("reply", &["--access-logformat", "%(m)s %(s)s %(B)s"]);
    let mut client = server.connect();
    client.get("/?item=hello&item=world");
    client.get("/?status=404+Not+Found&item=none");
    client.ask("HEAD /?item=hello HTTP/1.1\r\nHost: a\r\n\r\n");
    client.get("/?status=204+No+Content");
    client.get("/?item=hello&header=Content-Length:+2");
    assert_eq!(server.stop().stdout, "GET 200 10\nGET 404 4\nHEAD 200 0\nGET 204 0\nGET 200 2\n");
}

#[test]
fn failures_are_logged_too() {
    let server = serve("raises", &["--access-logformat", "%(U)s %(s)s"]);
    server.get("/in-call");
    server.connect().send("GET /in-second-item HTTP/1.1\r\nHost: a\r\n\r\n").receive_cut();
    assert_eq!(server.stop().stdout, "/in-call 500\n/in-second-item 200\n");
}

#[test]
fn it_is_written_when_nothing_else_is_to_do() {
    let server = serve("hello", &[]);
    server.get("/seen-at-once");
    server.access_log().wait_for("/seen-at-once");
}

#[test]
fn none() {
    let server = serve("hello", &["--access-logfile", "none"]);
    server.get("/");
    assert_eq!(server.stop().stdout, "");
}

#[test]
fn a_file_is_appended_to() {
    let scratch = Scratch::new();
    let path = scratch.write("access.log", "an older line\n");
    let server = serve("hello", &["--access-logfile", &path, "--access-logformat", "%(r)s"]);
    server.get("/");
    assert_eq!(server.stop().stdout, "");
    let text = std::fs::read_to_string(&path).expect("the log");
    assert_eq!(text, "an older line\nGET / HTTP/1.1\n");
}

#[test]
fn a_file_that_cannot_be_opened() {
    let arguments =
        ["--bind", "127.0.0.1:0", "--access-logfile", "/no/such/directory/access.log", "tests.apps.hello:app"];
    let finished = Program::new(&arguments).run().expect_stderr(&["/no/such/directory/access.log"]);
    assert!(!finished.stderr.contains("listening on"), "{}", finished.stderr);
}

const FOUR_WORKERS: [&str; 4] = ["--workers", "4", "--access-logformat", "begin %(U)s %(q)s end"];

/// Makes each of four workers write 200 long lines, at the same time.
fn ask_800_times(server: &Server) {
    let clients = connect_to_each_worker(server, 4);
    std::thread::scope(|scope| {
        for (worker, mut client) in clients.into_iter().enumerate() {
            scope.spawn(move || {
                let query = "q".repeat(700);
                let request = |number| format!("GET /{worker}-{number}?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
                client.send((0..200).map(request).collect::<String>());
                (0..200).for_each(|_| drop(client.receive()));
            });
        }
    });
}

/// The gate app holds each connection in its worker until the next one has found another worker.
fn connect_to_each_worker(server: &Server, count: usize) -> Vec<Client> {
    let scratch = Scratch::new();
    let hold = |number| {
        let entered = scratch.path(&format!("entered-{number}"));
        let mut client = server.connect();
        let target = format!("/before?entered={}&release={}", entered.display(), scratch.text("release"));
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        wait_until("the request to enter the app", || entered.exists());
        client
    };
    let mut clients: Vec<Client> = (0..count).map(hold).collect();
    scratch.write("release", "");
    clients.iter_mut().for_each(|client| drop(client.receive()));
    clients
}

#[track_caller]
fn expect_800_whole_lines(text: &str) {
    let lines = text.lines().filter(|line| !line.starts_with("begin /before entered="));
    let mut paths: Vec<&str> = lines.map(path_of_whole_line).collect();
    assert_eq!(paths.len(), 800);
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), 800);
}

#[test]
fn lines_of_several_workers_stay_whole_in_a_file() {
    let scratch = Scratch::new();
    let path = scratch.text("access.log");
    let server = serve("gate:bare", &[&FOUR_WORKERS[..], &["--access-logfile", &path]].concat());
    ask_800_times(&server);
    server.stop().expect_status(0);
    expect_800_whole_lines(&std::fs::read_to_string(&path).expect("the log"));
}

/// A pipe that is nearly full takes a large write in pieces, with those of others between them: so it is kept full.
#[test]
fn lines_of_several_workers_stay_whole_in_a_pipe() {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let arguments = [&["--bind", "127.0.0.1:0"], &FOUR_WORKERS[..], &["tests.apps.gate:bare"]].concat();
    let server = Server::start(Program::new(&arguments).stdout(writer));
    let slow = std::thread::spawn(move || {
        let (mut text, mut piece) = (Vec::new(), [0; 1000]);
        while let Ok(count @ 1..) = reader.read(&mut piece) {
            text.extend_from_slice(&piece[..count]);
            std::thread::sleep(Duration::from_micros(200));
        }
        String::from_utf8(text).expect("UTF-8")
    });
    ask_800_times(&server);
    server.stop().expect_status(0);
    expect_800_whole_lines(&slow.join().expect("the reader"));
}

fn path_of_whole_line(line: &str) -> &str {
    let query = "q".repeat(700);
    let path = line.strip_prefix("begin ").and_then(|rest| rest.strip_suffix(&format!(" {query} end")));
    path.unwrap_or_else(|| panic!("a torn line: {line}"))
}

#[test]
fn a_worker_that_is_stopped_writes_what_it_holds() {
    let server = serve("hello", &["--access-logformat", "%(U)s"]);
    let mut client = server.connect();
    client.send("GET /last HTTP/1.1\r\nHost: a\r\n\r\n");
    client.receive();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().expect_status(0).stdout, "/last\n");
}

/// A disk that is full costs the log, not the service.
#[test]
fn a_log_that_cannot_be_written() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let arguments = ["--bind", "127.0.0.1:0", "tests.apps.hello:app"];
    let servers =
        [serve("hello", &["--access-logfile", "/dev/full"]), Server::start(Program::new(&arguments).stdout(full()))];
    for server in servers {
        let worker = server.workers();
        for _ in 0..50 {
            server.get("/").expect(200, "Hello, world!\n");
        }
        assert_eq!(server.workers(), worker);
        server.stop().expect_status(0);
    }
}

/// Nor does a reader that has gone away: EPIPE, and no SIGPIPE.
#[test]
fn a_log_that_nobody_reads() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let server = Server::start(Program::new(&["--bind", "127.0.0.1:0", "tests.apps.hello:app"]).stdout(writer));
    drop(reader);
    for _ in 0..50 {
        server.get("/").expect(200, "Hello, world!\n");
    }
    server.stop().expect_status(0);
}

#[test]
fn no_address_behind_a_unix_socket() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", scratch.text("app.sock"));
    let server = serve("hello", &["--bind", &bind, "--access-logformat", "%(h)s %(s)s"]);
    assert_eq!(server.addresses, [Address::Unix(scratch.path("app.sock"))]);
    server.get("/");
    wait_until("the line", || !server.access_log().text().is_empty());
    assert_eq!(server.stop().stdout, "- 200\n");
}

fn parse(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
