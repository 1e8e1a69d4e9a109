//! `--statsd-host`: gunicorn's metrics, from the workers and from the master.

use nix::sys::signal::Signal;

use crate::harness::collector::Collector;
use crate::harness::{Scratch, process, serve, wait_until};

fn lines(collector: &Collector) -> Vec<String> {
    collector.messages().iter().flat_map(|message| message.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The sum of what was counted under this name.
fn count(collector: &Collector, name: &str) -> u64 {
    let begin = format!("{name}:");
    let values = lines(collector);
    let values = values.iter().filter_map(|line| line.strip_prefix(&begin)?.strip_suffix("|c|@1.0"));
    values.map(|value| value.parse::<u64>().expect("a number")).sum()
}

#[track_caller]
fn wait_for_count(collector: &Collector, name: &str, expected: u64) {
    wait_until(&format!("{expected} × {name}"), || count(collector, name) == expected);
}

#[test]
fn requests_are_counted_by_status_and_timed() {
    let collector = Collector::udp();
    let server = serve("reply", &["--statsd-host", &collector.host_and_port(), "--access-logfile", "none"]);
    let mut client = server.connect();
    (0..30).for_each(|_| _ = client.get("/?item=a"));
    (0..12).for_each(|_| _ = client.get("/?status=404+Not+Found"));
    wait_for_count(&collector, "gunicorn.requests", 42);
    wait_for_count(&collector, "gunicorn.request.status.200", 30);
    wait_for_count(&collector, "gunicorn.request.status.404", 12);
    let is_duration = |line: &&String| {
        let value = line.strip_prefix("gunicorn.request.duration:").and_then(|rest| rest.strip_suffix("|ms"));
        value.is_some_and(|value| value.parse::<f64>().is_ok())
    };
    wait_until("42 durations", || lines(&collector).iter().filter(is_duration).count() == 42);
    assert!(collector.messages().iter().all(|message| message.len() <= 1432));
}

/// Many requests at once are few datagrams.
#[test]
fn a_batch_is_packed() {
    let collector = Collector::udp();
    let server = serve("hello", &["--statsd-host", &collector.host_and_port()]);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(200));
    (0..200).for_each(|_| _ = client.receive());
    wait_for_count(&collector, "gunicorn.requests", 200);
    let datagrams = collector.messages().len();
    assert!(datagrams < 60, "{datagrams} datagrams for 200 requests");
}

#[test]
fn prefix_tags_and_a_unix_socket() {
    let scratch = Scratch::new();
    let collector = Collector::unix(&scratch.path("statsd"));
    let host = format!("unix://{}", scratch.text("statsd"));
    let options = ["--statsd-host", &host, "--statsd-prefix", "site.", "--dogstatsd-tags", "env:test,zone:b"];
    let server = serve("hello", &options);
    server.get("/");
    collector.wait_for("site.gunicorn.requests:1|c|@1.0|#env:test,zone:b");
    collector.wait_for("site.gunicorn.workers:1|g|#env:test,zone:b");
    server.stop().expect_status(0);
    assert!(lines(&collector).iter().all(|line| line.starts_with("site.") && line.ends_with("|#env:test,zone:b")));
}

#[test]
fn the_master_tells_how_many_workers_serve() {
    let collector = Collector::udp();
    let server = serve("hello", &["--workers", "2", "--statsd-host", &collector.host_and_port()]);
    collector.wait_for("gunicorn.workers:2|g");
    server.signal(Signal::SIGTTIN);
    collector.wait_for("gunicorn.workers:3|g");
    let told =
        || lines(&collector).into_iter().filter(|line| line.starts_with("gunicorn.workers:")).collect::<Vec<_>>();
    process::signal(server.workers()[0], Signal::SIGKILL);
    wait_until("the loss to be told", || {
        told().ends_with(&["gunicorn.workers:2|g".into(), "gunicorn.workers:3|g".into()])
    });
}

/// Also when nothing changes; with the backlog every second, so that this test need not wait for ten.
#[test]
fn the_backlog_is_told_steadily() {
    let collector = Collector::udp();
    let options = ["--statsd-host", &collector.host_and_port(), "--enable-backlog-metric"];
    let _server = serve("hello", &options);
    let count = |begin: &str| lines(&collector).iter().filter(|line| line.starts_with(begin)).count();
    wait_until("three backlogs", || count("gunicorn.backlog:0|h") >= 3);
    assert!(count("gunicorn.workers:1|g") >= 2);
}

#[test]
fn what_is_logged_is_counted() {
    let collector = Collector::udp();
    let server = serve("raises", &["--statsd-host", &collector.host_and_port(), "--slow-request-log", "0"]);
    server.get("/in-call");
    server.get("/in-call");
    wait_for_count(&collector, "gunicorn.log.exception", 2);
    process::signal(server.workers()[0], Signal::SIGKILL);
    // The master says how it ended.
    wait_until("a line of the master's", || {
        count(&collector, "gunicorn.log.error") + count(&collector, "gunicorn.log.warning") > 0
    });
    let stuck = serve("stuck", &["--statsd-host", &collector.host_and_port(), "--timeout", "0.3"]);
    stuck.get("/sleep").expect_status(504);
    wait_for_count(&collector, "gunicorn.log.critical", 1);
    wait_for_count(&collector, "gunicorn.request.status.504", 1);
}

/// A server whose metrics nobody takes serves all the same, and tells it once.
#[test]
fn a_statsd_that_is_not_there() {
    let scratch = Scratch::new();
    let host = format!("unix://{}", scratch.text("statsd"));
    let server = serve("hello", &["--statsd-host", &host]);
    (0..50).for_each(|_| _ = server.get("/").expect_status(200));
    wait_until("the worker's complaint", || server.log().count("does not take metrics") == 2);
    // It is found when it comes.
    let collector = Collector::unix(&scratch.path("statsd"));
    wait_until("metrics", || {
        server.get("/");
        count(&collector, "gunicorn.requests") > 0
    });
    let finished = server.stop().expect_status(0);
    assert_eq!(finished.count("does not take metrics"), 2);
    assert_eq!(finished.count("does not take metrics: No such file or directory"), 2);
    let finished = serve("hello", &["--statsd-host", "no-such-host.invalid:8125"]).stop().expect_status(0);
    finished.expect_stderr(&["--statsd-host no-such-host.invalid:8125: "]);
}

/// A reload turns it on.
#[test]
fn settings_are_those_of_the_generation() {
    let scratch = Scratch::new();
    let collector = Collector::udp();
    let config = scratch.write("conf.py", "# nothing\n");
    let server = serve("hello", &["--config", &config]);
    scratch.write("conf.py", &format!("statsd_host = '{}'\n", collector.host_and_port()));
    server.signal(Signal::SIGHUP);
    collector.wait_for("gunicorn.workers:1|g");
    wait_until("a request to be counted", || {
        server.get("/");
        count(&collector, "gunicorn.requests") > 0
    });
}
