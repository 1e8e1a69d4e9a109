//! `/metrics` and `/status.json`: the numbers are those of what has happened, and outlive the workers that counted them.

use nix::sys::signal::Signal;

use crate::harness::admin::Metrics;
use crate::harness::{Admin, Client, Held, Scratch, Server, each, pattern, process, wait_for, wait_until};

/// The metrics, when one of them has come to this value.
#[track_caller]
fn wait_for_value(admin: &Admin, name: &str, value: f64) -> Metrics {
    let mut seen = f64::NAN;
    let probe = || {
        let metrics = admin.metrics();
        seen = metrics.find(name).unwrap_or(f64::NAN);
        (seen == value).then_some(metrics)
    };
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for("a value", probe)));
    found.unwrap_or_else(|_| panic!("{name} was never {value}"))
}

#[test]
fn requests_are_counted_by_what_they_were_and_became() {
    let (server, admin) = Admin::serve("reply", &[]);
    let mut client = server.connect();
    for target in
        ["/?item=hello", "/?item=hello&item=world", "/?status=404+Not+Found&item=none", "/?status=204+No+Content"]
    {
        client.get(target);
    }
    client.get("/?status=500+Broken&item=x");
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
        client.ask(format!("{method} /?item=a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
    }
    client.ask("HEAD /?item=hello HTTP/1.1\r\nHost: a\r\n\r\n");
    server.ask("GET / HTTP/1.1\r\n\r\n").expect_status(400);
    server.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000))).expect_status(431);
    server.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n").expect_status(400);

    let metrics = wait_for_value(&admin, "minicorn_requests_total{method=\"HEAD\"}", 1.0);
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
    for (method, count) in methods.iter().zip([5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]) {
        assert_eq!(metrics.value(&format!("minicorn_requests_total{{method=\"{method}\"}}")), count, "{method}");
    }
    for (status, count) in [("200", 9.0), ("404", 1.0), ("204", 1.0), ("500", 1.0)] {
        assert_eq!(metrics.value(&format!("minicorn_responses_total{{status=\"{status}\"}}")), count, "{status}");
    }
    assert_eq!(metrics.sum("minicorn_responses_total"), 12.0);
    for (status, count) in [("400", 2.0), ("431", 1.0), ("413", 0.0)] {
        assert_eq!(
            metrics.value(&format!("minicorn_refused_requests_total{{status=\"{status}\"}}")),
            count,
            "{status}"
        );
    }
    // hello, hello and world, none, x, six times a.
    assert_eq!(metrics.value("minicorn_response_body_bytes_total"), 5.0 + 10.0 + 4.0 + 1.0 + 6.0);
    assert_eq!(metrics.value("minicorn_request_duration_seconds_count"), 12.0);
    assert_eq!(metrics.value("minicorn_request_duration_seconds_bucket{le=\"+Inf\"}"), 12.0);
    // Each bucket has what the smaller ones have.
    assert_eq!(metrics.value("minicorn_request_duration_seconds_bucket{le=\"10\"}"), 12.0);
    assert_eq!(metrics.value("minicorn_request_queue_seconds_bucket{le=\"10\"}"), 12.0);
    assert_eq!(metrics.value("minicorn_request_queue_seconds_count"), 12.0);
    let sum = metrics.value("minicorn_request_duration_seconds_sum");
    assert!(sum > 0.0 && sum < 60.0, "{sum}");
    assert_eq!(metrics.value("minicorn_connections_accepted_total"), 4.0);
    assert_eq!(metrics.value("minicorn_worker_requests_total{worker=\"1\",slot=\"0\"}"), 12.0);
    let status = admin.status();
    assert_eq!((&status["totals"]["requests"], &status["totals"]["refused"]), (&12.into(), &3.into()));
    assert_eq!((&status["workers"][0]["requests"], &status["totals"]["responses_5xx"]), (&12.into(), &1.into()));
}

fn ask(server: &Server, count: usize) {
    (0..count).for_each(|_| drop(server.get("/pid").expect_status(200)));
}

#[track_caller]
fn expect_no_counter_fell(before: &Metrics, after: &Metrics) {
    let fell: Vec<_> =
        before.counters().filter(|(name, value)| after.find(name).is_none_or(|new| new < *value)).collect();
    assert!(before.counters().count() > 50 && fell.is_empty(), "{fell:?}");
}

/// What the workers of a place have counted is taken over by the next.
#[test]
fn counters_outlive_workers() {
    const REQUESTS: &str = "minicorn_requests_total{method=\"GET\"}";
    each(
        &[&[][..], &["--preload"]],
        |options| format!("{options:?}"),
        |options| {
            let (server, admin) = Admin::serve("busy", &[&["--workers", "2"], *options].concat());
            ask(&server, 10);
            let first = wait_for_value(&admin, REQUESTS, 10.0);
            let worker = admin.status()["workers"][0]["pid"].as_i64().expect("a process");
            process::signal(nix::unistd::Pid::from_raw(worker as i32), Signal::SIGKILL);
            wait_for_value(&admin, "minicorn_worker_exits_total{how=\"killed\"}", 1.0);
            wait_for_value(&admin, "minicorn_workers_ready", 2.0);
            ask(&server, 10);
            let second = wait_for_value(&admin, REQUESTS, 20.0);
            expect_no_counter_fell(&first, &second);
            assert_eq!(second.value("minicorn_workers_spawned_total"), 3.0);

            server.signal(Signal::SIGHUP);
            wait_for_value(&admin, "minicorn_reloads_total{result=\"ok\"}", 1.0);
            ask(&server, 10);
            let third = wait_for_value(&admin, REQUESTS, 30.0);
            expect_no_counter_fell(&second, &third);
            assert_eq!(third.value("minicorn_generation"), 2.0);
            wait_for_value(&admin, "minicorn_worker_exits_total{how=\"clean\"}", 2.0);
            assert_eq!(admin.status()["templates"].as_array().map(Vec::len), Some(options.len()));
        },
    );
}

#[test]
fn recycling_is_counted_by_its_reason() {
    let (server, admin) = Admin::serve("busy", &["--max-requests", "5"]);
    ask(&server, 5);
    let metrics = wait_for_value(&admin, "minicorn_worker_recycles_total{reason=\"max_requests\"}", 1.0);
    assert_eq!(metrics.sum("minicorn_worker_recycles_total"), 1.0);
}

#[test]
fn calls_that_take_too_long_are_counted() {
    let (server, admin) = Admin::serve("stuck", &["--timeout", "1", "--graceful-timeout", "1"]);
    server.get("/sleep").expect_status(504);
    let metrics = wait_for_value(&admin, "minicorn_worker_exits_total{how=\"given_up\"}", 1.0);
    assert_eq!(metrics.value("minicorn_request_timeouts_total"), 1.0);
    assert_eq!(metrics.value("minicorn_responses_total{status=\"504\"}"), 1.0);
    assert_eq!(metrics.value("minicorn_workers_condemned_total"), 1.0);
    assert_eq!(metrics.value("minicorn_request_duration_seconds_bucket{le=\"0.5\"}"), 0.0);
}

/// Each connection is in one state, and in the right one.
#[test]
fn connections_are_counted_by_what_they_do() {
    let (server, admin) = Admin::serve("busy", &["--no-passing"]);
    let mut idle = server.connect();
    idle.get("/pid");
    let mut head = server.connect();
    head.send("GET / HT");
    let mut body = server.connect();
    body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    let mut reader = Client::connect_with_little_room(&server.addresses[0]);
    reader.send("GET /big?bytes=30000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut refused = server.connect();
    refused.send("BROKEN\r\n\r\n").receive().expect_status(400);
    let counts = |expected: [i64; 7]| {
        let names = ["idle", "reading_head", "reading_body", "queued", "in_application", "sending", "lingering"];
        let mut seen = None;
        let what = format!("{expected:?} of {names:?}");
        wait_until(&what, || {
            let status = admin.status();
            let connections = &status["workers"][0]["connections"];
            seen = Some(names.map(|name| connections[name].as_i64().unwrap_or(-1)));
            assert_eq!(connections["total"].as_i64(), seen.map(|seen| seen.iter().sum()));
            seen == Some(expected)
        });
    };
    counts([1, 1, 1, 0, 0, 1, 1]);
    let held = Held::on(server.connect(), "/wait");
    let mut queued = server.connect();
    // Nobody accepts while the only thread is in a call: this one was here before.
    std::mem::swap(&mut queued, &mut idle);
    queued.send("GET /pid HTTP/1.1\r\nHost: a\r\n\r\n");
    counts([0, 1, 1, 1, 1, 1, 1]);
    let metrics = admin.metrics();
    assert_eq!(metrics.value("minicorn_connections{state=\"queued\"}"), 1.0);
    assert_eq!(metrics.value("minicorn_requests_in_flight"), 2.0);
    assert_eq!(metrics.value("minicorn_application_threads{state=\"busy\"}"), 1.0);
    let kept = held.finish();
    queued.receive().expect_status(200);
    assert!(admin.metrics().value("minicorn_request_queue_seconds_sum") > 0.0);
    body.send("67890").receive().expect(200, "1234567890");
    head.send("TP/1.1\r\nHost: a\r\n\r\n").receive();
    assert_eq!(reader.receive().body, pattern(30_000_000));
    drop((refused, kept, idle));
    counts([4, 0, 0, 0, 0, 0, 0]);
    drop((queued, body, head, reader));
    counts([0; 7]);
}

#[test]
fn clients_that_leave_early_are_counted() {
    let (server, admin) = Admin::serve("busy", &[]);
    let mut client = server.connect();
    client.send("GET /big?bytes=30000000 HTTP/1.1\r\nHost: a\r\n\r\n").receive_bytes(1000);
    client.reset();
    wait_for_value(&admin, "minicorn_client_disconnects_total", 1.0);
}

#[test]
fn connections_that_move_are_counted() {
    let (server, admin) = Admin::serve("busy", &["--workers", "2"]);
    wait_for_value(&admin, "minicorn_workers_ready", 2.0);
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    let pids: Vec<String> = clients.iter_mut().map(|client| client.get("/pid").text().to_owned()).collect();
    let before = admin.metrics().value("minicorn_connections_passed_total{direction=\"sent\"}");
    let mut first = clients.remove(0);
    let neighbour = pids.iter().skip(1).position(|pid| *pid == pids[0]).expect("two of four are on one worker");
    let held = Held::on(first, "/wait");
    // Its worker has no thread for it.
    let answered_by = clients[neighbour].get("/pid").text().to_owned();
    assert_ne!(answered_by, pids[0]);
    first = held.finish();
    let metrics = admin.metrics();
    let (sent, received) = ("{direction=\"sent\"}", "{direction=\"received\"}");
    assert!(metrics.value(&format!("minicorn_connections_passed_total{sent}")) > before);
    assert!(metrics.value(&format!("minicorn_connections_passed_total{received}")) > before);
    drop(first);
}

/// What waits in the kernel, since nobody accepts.
#[test]
fn the_backlog_of_each_listener_is_told() {
    let scratch = Scratch::new();
    let path = scratch.path("http.sock");
    let bind = format!("unix:{}", path.display());
    let (server, admin) = Admin::serve("hello", &["--bind", &bind]);
    let worker = server.workers()[0];
    process::signal(worker, Signal::SIGSTOP);
    let waiting: Vec<Client> =
        [0, 0, 1, 1, 1].iter().map(|&listener| Client::connect(&server.addresses[listener])).collect();
    let metrics = admin.metrics();
    let backlog = |address: &str| metrics.value(&format!("minicorn_listener_backlog{{listener=\"{address}\"}}"));
    assert_eq!(backlog(&format!("http://{}", server.addresses[0])), 2.0);
    assert_eq!(backlog(&bind), 3.0);
    process::signal(worker, Signal::SIGCONT);
    drop(waiting);
}

/// With what it is and how long it has been there, but without the query, where secrets are.
#[test]
fn the_longest_request_of_a_worker_is_shown() {
    let (server, admin) = Admin::serve("holds", &["--threads", "2", "--workers", "1"]);
    assert!(admin.status()["workers"][0]["current_request"].is_null());
    let first = Held::at(&server, "/first");
    let current = |path: &str| {
        wait_for("the request", || {
            let status = admin.status();
            assert!(!status.to_string().contains("entered="), "the query is shown: {status}");
            Some(status["workers"][0]["current_request"].clone()).filter(|current| current["path"] == path)
        })
    };
    let shown = current("/first");
    assert_eq!(shown["method"], "GET");
    let second = Held::at(&server, "/second");
    let later = current("/first");
    assert!(later["age_seconds"].as_f64() > shown["age_seconds"].as_f64());
    let name = "minicorn_worker_current_request_seconds{worker=\"1\",slot=\"0\"}";
    assert!(admin.metrics().value(name) > 0.0);
    first.finish();
    current("/second");
    second.finish();
    wait_until("none to be shown", || admin.status()["workers"][0]["current_request"].is_null());
}

#[test]
fn what_the_server_is() {
    let (server, admin) = Admin::serve("hello", &["--workers", "2", "--threads", "3"]);
    server.get("/");
    let metrics = wait_for_value(&admin, "minicorn_workers_ready", 2.0);
    assert_eq!(metrics.sum("minicorn_build_info{version="), 1.0);
    let version = format!("minicorn_build_info{{version=\"{}\",python=\"3.", env!("CARGO_PKG_VERSION"));
    assert_eq!(metrics.sum(&version), 1.0);
    assert_eq!(metrics.sum("minicorn_application_threads"), 6.0);
    assert_eq!(metrics.value("minicorn_workers_wanted"), 2.0);
    assert!(metrics.value("minicorn_start_time_seconds") > 1.7e9);
    assert!(metrics.value("minicorn_master_resident_memory_bytes") > 1e6);
    for worker in ["{worker=\"1\",slot=\"0\"}", "{worker=\"2\",slot=\"1\"}"] {
        assert!(metrics.value(&format!("minicorn_worker_resident_memory_bytes{worker}")) > 1e6);
        assert!(metrics.value(&format!("minicorn_worker_age_seconds{worker}")) > 0.0);
    }
    let status = admin.status();
    let workers: Vec<i64> =
        status["workers"].as_array().expect("a list").iter().filter_map(|worker| worker["pid"].as_i64()).collect();
    let expected: Vec<i64> = server.workers().iter().map(|pid| pid.as_raw().into()).collect();
    assert_eq!(workers, expected);
    assert_eq!(status["pid"], server.master.as_raw());
    assert_eq!(status["listeners"][0]["address"], format!("http://{}", server.addresses[0]));
}

/// With what a proxy is turned away that is not to be believed.
#[test]
fn a_refused_proxy_is_counted() {
    let (server, admin) = Admin::serve("hello", &["--proxy-protocol", "--proxy-allow-from", "192.0.2.1"]);
    let mut client = server.connect();
    client.send("PROXY TCP4 192.0.2.1 203.0.113.9 4242 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.receive().status, 403);
    wait_for_value(&admin, "minicorn_refused_requests_total{status=\"403\"}", 1.0);
}
