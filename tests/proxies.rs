//! Behind the proxies that people use, with the files of examples/deploy: a reload or a deploy costs no request.

use nix::sys::signal::Signal;

use crate::harness::load::{Load, Mix};
use crate::harness::proxy::Proxy;
use crate::harness::{Scratch, Server, process, serve, wait_until};
use crate::lifecycle::{RELOAD_EVERY, at_intervals, figure, number_of, reload, wait_for_others};

/// Reloads under load behind nginx, which keeps its connections to the server.
#[track_caller]
fn expect_reloads_unnoticed(test: &str, server: &Server) {
    let reloads = number_of("MINICORN_TEST_RELOADS", 20);
    let nginx = Proxy::nginx(&server.addresses[0]);
    let former = server.workers();
    let load = Load::start(&nginx.address, Mix::USUAL);
    at_intervals(RELOAD_EVERY, reloads, || reload(server));
    wait_for_others(server, former.len(), &former);
    load.wait_for_more(100);
    let summary = load.stop();
    figure(test, "requests", summary.requests);
    figure(test, "failures", summary.failures.len());
    figure(test, "slowest answer ms", summary.slowest.as_millis());
    // Closes that nginx announces to its clients are its own affair: by default it ends a connection after 1,000 requests.
    summary.expect_no_failure();
    // What it has tried again its clients do not see.
    assert_eq!(nginx.error_log(), "");
}

#[test]
fn reloads_behind_nginx_over_tcp() {
    let server = serve("deployed", &["--workers", "4", "--access-logfile", "none"]);
    expect_reloads_unnoticed("nginx over TCP", &server);
    server.stop().expect_status(0);
}

#[test]
fn reloads_behind_nginx_over_a_unix_socket() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", scratch.text("http.sock"));
    let server = serve("deployed", &["--bind", &bind, "--workers", "4", "--access-logfile", "none"]);
    expect_reloads_unnoticed("nginx over a Unix socket", &server);
    server.stop().expect_status(0);
}

/// What the upstream block of nginx.conf is for: far fewer connections than requests.
#[test]
fn nginx_keeps_its_connections() {
    let server = serve("busy", &[]);
    let nginx = Proxy::nginx(&server.addresses[0]);
    let mut client = crate::harness::Client::connect(&nginx.address);
    let mut peer = || client.get("/peer").expect_status(200).text().to_owned();
    let first = peer();
    for _ in 0..20 {
        assert_eq!(peer(), first);
    }
}

/// Two servers behind HAProxy, deployed one after the other as haproxy.cfg says.
#[test]
fn one_server_after_the_other_behind_haproxy() {
    let scratch = Scratch::new();
    let start = |name: &str| {
        let bind = format!("unix:{}", scratch.text(name));
        let admin = format!("{bind}.admin");
        let delay = ["--shutdown-delay", "1", "--admin-bind", &admin];
        let options = [&["--bind", &bind, "--workers", "2", "--access-logfile", "none"][..], &delay].concat();
        serve("deployed", &options)
    };
    let (mut one, mut two) = (start("one"), start("two"));
    let former: Vec<_> = one.workers().into_iter().chain(two.workers()).collect();
    let haproxy = Proxy::haproxy(&one.addresses[0], &two.addresses[0]);
    let load = Load::start(&haproxy.address, Mix::USUAL);
    for (name, server) in [("one", &mut one), ("two", &mut two)] {
        haproxy.command(&format!("set server my_app/{name} state drain"));
        wait_until("no request under way there", || haproxy.state_of(name).sessions == 0);
        server.signal(Signal::SIGTERM);
        wait_until("the old server to end", || server.running.has_ended());
        *server = start(name);
        haproxy.command(&format!("set server my_app/{name} state ready"));
        wait_until("the check of the new server", || haproxy.state_of(name).is_up());
        load.wait_for_more(200);
    }
    let answered_by = load.summary().workers;
    let summary = load.stop();
    figure("haproxy", "requests", summary.requests);
    figure("haproxy", "failures", summary.failures.len());
    figure("haproxy", "slowest answer ms", summary.slowest.as_millis());
    summary.expect_no_failure();
    assert!(!former.iter().any(|&worker| process::is_running(worker)), "not all are new:\n{}", haproxy.log());
    let new = one.workers().into_iter().chain(two.workers());
    assert!(new.into_iter().any(|worker| answered_by.contains(&worker.as_raw())), "no new worker has answered");
}
