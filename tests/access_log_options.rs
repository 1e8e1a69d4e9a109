//! Which requests the access log tells of, and the log of slow ones.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::harness::{Gate, Scratch, serve, wait_until};

/// What the log holds after these requests.
fn logged(options: &[&str], targets: &[&str]) -> String {
    let server = serve("reply", &[&["--access-logformat", "%(s)s %(U)s"], options].concat());
    let mut client = server.connect();
    targets.iter().for_each(|target| _ = client.get(target));
    server.stop().expect_status(0).stdout
}

#[test]
fn paths_are_skipped() {
    let targets =
        ["/healthz", "/healthz?full=1", "/healthz/live", "/static/", "/static/a.css", "/static", "/ping", "/"];
    let options = ["--access-log-skip", "/healthz,/static/*", "--access-log-skip", "/ping"];
    assert_eq!(logged(&options, &targets), "200 /healthz/live\n200 /static\n200 /\n");
    assert_eq!(logged(&["--access-log-skip", "*"], &targets), "");
    // The path counts as it was sent.
    assert_eq!(logged(&["--access-log-skip", "/a"], &["/a", "/%61", "/?x=/a"]), "200 /a\n200 /\n");
}

#[test]
fn low_statuses_are_left_out() {
    let targets = ["/ok", "/no?status=404+Not+Found", "/moved?status=301+Moved", "/broken?status=500+Broken"];
    assert_eq!(logged(&["--access-log-min-status", "400"], &targets), "404 /no\n500 /broken\n");
    let both = ["--access-log-min-status", "400", "--access-log-skip", "/no"];
    assert_eq!(logged(&both, &targets), "500 /broken\n");
}

/// Also without an access log; a request that is quick is not told.
#[test]
fn slow_requests_are_told_in_the_error_log() {
    let server = serve("named", &["--slow-request-log", "40", "--access-logfile", "none"]);
    server.get("/?quick");
    server.get("/%0a%22?sleep");
    server.get("/?sleep");
    server.log().wait_for("slow request: GET /?sleep ");
    let finished = server.stop();
    assert_eq!(finished.count("slow request: "), 2);
    let line = finished.stderr.lines().find(|line| line.contains("slow request: GET /?sleep")).expect("a line");
    assert!(line.contains("] [WARNING] worker=1 pid=") && line.contains(" status=200 duration_ms="), "{line}");
    let value = |key: &str| -> f64 {
        let (_, rest) = line.split_once(&format!(" {key}=")).expect("the key");
        rest.split(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    };
    assert!(value("duration_ms") >= 40.0 && value("queue_ms") >= 0.0, "{line}");
    assert!(!line.contains("request_id"), "{line}");
}

/// A request that waits for a thread of the application has been in the queue meanwhile, which is no time of its own.
#[test]
fn the_time_in_the_queue_is_told_apart() {
    let server = serve("gate", &["--access-logformat", "%(U)s %(Q)s %(L)s", "--no-passing"]);
    let gate = Gate::new();
    let (mut first, mut second) = (server.connect(), server.connect());
    second.get("/warm");
    first.send(gate.request("/before"));
    gate.wait_until_reached();
    second.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the second request to be read", || second.has_been_read());
    // From now on it is certainly in the queue.
    let since = Instant::now();
    assert!(second.is_quiet());
    let waited = since.elapsed();
    gate.open();
    first.receive();
    second.receive();
    server.access_log().wait_for("/second ");
    let text = server.access_log().text();
    let queue_time = |path: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(path)).expect("a line");
        line.split(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    };
    assert!(queue_time("/second ") >= waited.as_secs_f64() * 1000.0, "{text}");
    assert!(queue_time("/before ") < queue_time("/second "), "{text}");
}

/// gunicorn finds variables of the environ in any case, and shows what is no text.
/// A proxy adds its own line behind that of the client, which could say what it likes.
#[test]
fn of_two_fields_the_last_one_is_shown() {
    let server = serve("reply", &["--access-logformat", "%({x-forwarded-for}i)s %({x-o}o)s"]);
    server.ask(
        "GET /?header=X-O:+1&header=X-O:+2 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
    );
    assert_eq!(server.stop().stdout, "192.0.2.1 2\n");
}

#[test]
fn variables_of_the_environ_in_any_case() {
    let server =
        serve("hello", &["--access-logformat", "%({request_method}e)s %({WSGI.url_scheme}e)s %({wsgi.multithread}e)s"]);
    server.get("/");
    assert_eq!(server.stop().stdout, "GET http False\n");
}

/// A reload brings the new settings, and files that were moved away are let go of.
#[test]
fn settings_are_those_of_the_generation() {
    let scratch = Scratch::new();
    let log = scratch.text("access");
    let write = |skipped: &str| {
        let text = format!("accesslog = '{log}'\naccess_log_format = '%(U)s'\naccess_log_skip = ['{skipped}']\n");
        scratch.write("conf.py", &text)
    };
    let config = write("/one");
    let server = serve("hello", &["--config", &config]);
    let before = server.workers();
    ["/one", "/two"].iter().for_each(|path| _ = server.get(path));
    write("/two");
    server.signal(Signal::SIGHUP);
    wait_until("the new generation", || {
        let workers = server.workers();
        workers.len() == 1 && !before.contains(&workers[0])
    });
    std::fs::rename(&log, scratch.path("access.1")).expect("the log");
    server.signal(Signal::SIGUSR1);
    wait_until("a new file", || scratch.path("access").exists());
    ["/one", "/two"].iter().for_each(|path| _ = server.get(path));
    server.stop().expect_status(0);
    let text = |name: &str| std::fs::read_to_string(scratch.path(name)).expect("a log");
    assert_eq!(text("access.1") + &text("access"), "/two\n/one\n");
}
