//! `--admin-bind`: the master answers by itself, whatever its workers do, and whoever else is there.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::harness::server::app_path;
use crate::harness::{
    Address, Admin, Client, Framing, Held, Program, Scratch, Server, each, process, serve, wait_until,
};
use crate::upgrade;

/// All threads of all workers are in calls, and stay there until it has been answered.
#[test]
fn health_and_readiness_wait_for_no_worker() {
    let (server, admin) = Admin::serve("holds", &["--workers", "2"]);
    let held: Vec<Held> = (0..2).map(|_| Held::at(&server, "/")).collect();
    let mut times: Vec<_> = (0..50)
        .map(|_| {
            let start = Instant::now();
            admin.get("/healthz").expect(200, "ok\n");
            admin.get("/readyz").expect(200, "ready\n");
            start.elapsed() / 2
        })
        .collect();
    times.sort();
    // For whoever wants to know: a loaded machine is no reason to fail.
    eprintln!("median {:?}, slowest {:?}", times[times.len() / 2], times[times.len() - 1]);
    let busy = admin.metrics().value("minicorn_application_threads{state=\"busy\"}");
    assert_eq!(busy, 2.0, "the calls are over already");
    held.into_iter().for_each(|held| drop(held.finish()));
}

#[test]
fn it_is_not_ready_before_its_first_worker() {
    let (admin, scratch) = (Admin::new(), Scratch::new());
    // All but the first process that loads it wait, and this one pretends to have been the first.
    scratch.write("started", "");
    let app = app_path("slow_start");
    let arguments = ["--bind", "127.0.0.1:0", &admin.option(), &app];
    let running = Program::new(&arguments).env("START", scratch.path("")).spawn();
    wait_until("the admin address", || Client::try_connect(&admin.address).is_ok());
    admin.get("/readyz").expect(503, "starting: no worker is ready yet\n");
    admin.get("/healthz").expect(200, "ok\n");
    let status = admin.status();
    assert_eq!((&status["state"], &status["ready"]), (&"starting".into(), &false.into()));
    scratch.write("release", "");
    wait_until("it to be ready", || admin.get("/readyz").status == 200);
    drop(running);
}

/// Load balancers are to hear of it while requests are still served.
#[test]
fn it_is_not_ready_from_the_signal_on() {
    let (server, admin) = Admin::serve("hello", &["--shutdown-delay", "60"]);
    admin.get("/readyz").expect(200, "ready\n");
    server.signal(Signal::SIGTERM);
    wait_until("it not to be ready", || admin.get("/readyz").status == 503);
    admin.get("/readyz").expect(503, "stopping\n");
    admin.get("/healthz").expect(200, "ok\n");
    server.get("/").expect(200, "Hello, world!\n");
    assert_eq!(admin.metrics().value("minicorn_ready"), 0.0);
    assert_eq!(admin.status()["state"], "stopping");
}

#[test]
fn it_is_not_ready_while_the_last_requests_finish() {
    let (server, admin) = Admin::serve("holds", &[]);
    let held = Held::at(&server, "/");
    server.signal(Signal::SIGTERM);
    wait_until("it not to be ready", || admin.get("/readyz").status == 503);
    held.finish();
    server.wait().expect_status(0);
}

/// The only worker is gone, and its successor takes its time.
#[test]
fn without_workers_it_is_not_ready() {
    let (admin, scratch) = (Admin::new(), Scratch::new());
    let app = app_path("slow_start");
    let arguments = ["--bind", "127.0.0.1:0", &admin.option(), &app];
    let server = Server::start(Program::new(&arguments).env("START", scratch.path("")));
    admin.get("/readyz").expect(200, "ready\n");
    process::signal(server.workers()[0], Signal::SIGKILL);
    wait_until("it not to be ready", || admin.get("/readyz").status == 503);
    admin.get("/readyz").expect(503, "no worker is ready\n");
    scratch.write("release", "");
    wait_until("it to be ready", || admin.get("/readyz").status == 200);
}

#[test]
fn methods_targets_and_versions() {
    let (_server, admin) = Admin::serve("hello", &[]);
    let cases: [(&str, u16); 14] = [
        ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /healthz?verbose=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n", 200),
        ("GET http://a/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /healthz HTTP/1.0\r\n\r\n", 200),
        ("HEAD /readyz HTTP/1.0\r\n\r\n", 200),
        ("GET /healthz/ HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 404),
        ("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
        ("DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n", 400),
        ("GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\u{2}", 400),
    ];
    each(
        &cases,
        |(request, _)| request.escape_debug().to_string(),
        |(request, status)| {
            let mut client = admin.connect();
            let response = client.ask(request).expect_status(*status);
            client.expect_end();
            assert!(response.announces_close());
            assert_eq!(response.value("Cache-Control"), Some("no-store"));
            assert_eq!(response.value("Allow"), (*status == 405).then_some("GET, HEAD"));
            assert!(response.value("Date").is_some());
            let is_one_line = response.text().ends_with('\n') && response.text().lines().count() == 1;
            assert!(is_one_line || response.framing == Framing::NoBody, "{response:?}");
        },
    );
}

/// The head of a HEAD is that of the GET, and a request may come in pieces.
#[test]
fn heads_and_pieces() {
    let (_server, admin) = Admin::serve("hello", &[]);
    for path in ["/", "/healthz", "/readyz", "/metrics", "/status.json"] {
        let whole = admin.get(path).expect_status(200);
        let mut client = admin.connect();
        let mut head = None;
        for piece in format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes().chunks(3) {
            head = Some(client.send(piece));
        }
        let head = head.expect("pieces").receive_for("HEAD").expect_status(200);
        assert_eq!(head.value("Content-Type"), whole.value("Content-Type"));
        assert!(head.value("Content-Length").is_some_and(|length| length != "0"));
        client.expect_end();
    }
}

/// A page of another site whose name leads to 127.0.0.1 by now cannot read what is here (DNS rebinding).
#[test]
fn names_of_others_are_refused_at_loopback_addresses() {
    let server = serve("hello", &["--admin-bind", "127.0.0.1:0"]);
    let address = Address::Tcp(Admin::port_of(&server));
    let status = |host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Client::connect(&address).ask(request).status
    };
    for path in ["/", "/metrics", "/status.json"] {
        for host in ["localhost", "LOCALHOST:9000", "app.localhost:1", "127.0.0.1:9000", "[::1]:9000", "10.1.2.3"] {
            assert_eq!(status(host, path), 200, "{host} {path}");
        }
        for host in ["evil.example", "localhost.evil.example:9000", "127.0.0.1.evil.example", "", "[evil]"] {
            assert_eq!(status(host, path), 421, "{host} {path}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status("health.local", path), 200);
    }
}

/// Who comes and says nothing has to make room: the oldest first.
#[test]
fn silent_visitors_keep_nobody_out() {
    let (_server, admin) = Admin::serve("hello", &[]);
    let mut silent: Vec<Client> = (0..80).map(|_| admin.connect()).collect();
    admin.get("/healthz").expect(200, "ok\n");
    silent[0].expect_end();
    silent[79].get("/healthz").expect(200, "ok\n");
}

/// One that goes on without ever coming to an end is sent away.
#[test]
fn endless_heads_are_cut() {
    let (_server, admin) = Admin::serve("hello", &[]);
    let mut client = admin.connect();
    client.send("GET /healthz HTTP/1.1\r\n");
    let sent = (0..40).map_while(|_| client.try_send(format!("X: {}\r\n", "x".repeat(1000))).ok()).count();
    assert!(sent > 0);
    client.read_to_end();
    admin.get("/healthz").expect(200, "ok\n");
}

/// The old master answers until it is gone, and then the new one at the same address.
#[test]
fn an_upgrade_takes_the_address_over() {
    let (mut server, admin) = Admin::serve("hello", &[]);
    let old = server.master;
    let pid = || Client::try_connect(&admin.address).is_ok().then(|| admin.status()["pid"].as_i64());
    let new = upgrade::upgrade(&server, old);
    assert_eq!(pid(), Some(Some(old.as_raw().into())));
    upgrade::stop(&mut server, old);
    wait_until("the new master to answer", || pid() == Some(Some(new.as_raw().into())));
    admin.get("/readyz").expect(200, "ready\n");
    server.get("/");
    wait_until("the request to be counted", || admin.status()["totals"]["requests"] == 1);
    upgrade::stop(&mut server, new);
}
