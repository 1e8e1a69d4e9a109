//! Everything that ends a worker, under load: no client is to notice what it was not told.
//!
//! The short forms run with the other tests. `bench/lifecycle.py` runs the long ones, by these variables, and prints the
//! lines that begin with `figure:`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::load::{Failure, Load, Mix, Stage, Summary};
use crate::harness::{Held, Program, Scratch, Server, process, serve, wait_for, wait_until};
use crate::master::serve_as_process_1;

/// The number of a variable, or that of the short form.
pub(crate) fn number_of(variable: &str, short: usize) -> usize {
    std::env::var(variable).map_or(short, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// For those who read the long form's figures.
pub(crate) fn figure(test: &str, name: &str, value: impl Display) {
    eprintln!("figure: {test}: {name}: {value}");
}

fn tell(test: &str, summary: &Summary) {
    figure(test, "requests", summary.requests);
    figure(test, "failures, allowed ones too", summary.failures.len() + summary.failures_left_out);
    figure(test, "announced closes", summary.announced_closes);
    figure(test, "slowest answer ms", summary.slowest.as_millis());
    figure(test, "worker processes", summary.workers.len());
}

/// All of it under one load, with a reload every 250 ms: the reloads overlap, as those of an impatient operator do.
pub(crate) const RELOAD_EVERY: Duration = Duration::from_millis(250);

/// What an operator does for new code.
pub(crate) fn reload(server: &Server) {
    server.signal(Signal::SIGHUP);
}

/// Does something at a steady pace: `count` times, the first time at once.
#[track_caller]
pub(crate) fn at_intervals(interval: Duration, count: usize, mut act: impl FnMut()) {
    let start = Instant::now();
    for turn in 0..count {
        let due = interval * u32::try_from(turn).expect("a small count");
        wait_until("the time for the next", || start.elapsed() >= due);
        act();
    }
}

/// Waits until so many workers serve, none of which is one of these.
#[track_caller]
pub(crate) fn wait_for_others(server: &Server, count: usize, former: &[Pid]) {
    wait_until("workers that are all new", || {
        let now = server.workers();
        now.len() == count && !now.iter().any(|worker| former.contains(worker))
    });
}

/// Waits until every one of so many workers has answered a connection of its own.
#[track_caller]
fn wait_until_all_serve(server: &Server, count: usize) {
    wait_until("as many workers as were asked for", || server.workers().len() == count);
    let workers: BTreeSet<i32> = server.workers().into_iter().map(Pid::as_raw).collect();
    let mut seen = BTreeSet::new();
    let mut open = Vec::new();
    wait_until("an answer of every worker", || {
        let mut client = server.connect();
        seen.extend(client.get("/").value("X-Worker").and_then(|pid| pid.parse::<i32>().ok()));
        // Kept open: the next connection goes to another worker.
        open.push(client);
        seen.is_superset(&workers)
    });
    assert_eq!(server.workers().len(), count);
}

// Reload.

#[test]
fn reloads_under_load() {
    let count = number_of("MINICORN_TEST_RELOADS", 12);
    let server = serve("deployed", &["--workers", "4", "--access-logfile", "none"]);
    let former = server.workers();
    let load = Load::start(&server.addresses[0], Mix::USUAL);
    at_intervals(RELOAD_EVERY, count, || reload(&server));
    wait_for_others(&server, 4, &former);
    load.wait_for_more(100);
    let summary = load.stop();
    tell("reloads", &summary);
    figure("reloads", "HUPs", count);
    summary.expect_no_close();
    wait_until_all_serve(&server, 4);
    server.stop().expect_status(0);
}

/// A deploy that is broken, and then the one that mends it.
#[test]
fn a_broken_deploy_changes_nothing() {
    let scratch = Scratch::new();
    let write = |text: &str| {
        // By rename: no worker that is starting sees half of it.
        scratch.write("new.py", text);
        fs::rename(scratch.path("new.py"), scratch.path("deploy_under_test.py")).expect("the same folder");
    };
    let generation = |name: &str| format!("from tests.apps.deployed import answering\napp = answering({name:?})\n");
    write(&generation("first"));
    let options =
        ["--bind", "127.0.0.1:0", "--workers", "2", "--access-logfile", "none", "--pythonpath", &scratch.text("")];
    // A .pyc is told from its source by the second and the length: two deploys of a test may have both in common.
    let program = Program::new(&[&options[..], &["deploy_under_test:app"]].concat());
    let server = Server::start(program.env("PYTHONDONTWRITEBYTECODE", "1"));
    let former = server.workers();
    let load = Load::start(&server.addresses[0], Mix::USUAL);

    write("from tests.apps.deployed import answering\napp = answering(\n");
    reload(&server);
    server.log().wait_for("SyntaxError");
    load.wait_for_more(200);
    // For a while, since one that was told to leave would not be gone at once.
    at_intervals(Duration::from_millis(100), 10, || {
        assert!(former.iter().all(|&worker| process::is_running(worker)), "a worker was given up for broken code");
    });
    assert_eq!(load.summary().generations, BTreeSet::from(["first".to_owned()]));

    write(&generation("the second one"));
    reload(&server);
    wait_for_others(&server, 2, &former);
    load.wait_for_more(100);
    let summary = load.stop();
    tell("broken deploy", &summary);
    summary.expect_no_close();
    assert_eq!(server.get("/").value("X-Generation"), Some("the second one"));
    server.stop().expect_status(0);
}

// Recycling.

#[test]
fn recycled_workers_under_load() {
    let requests = number_of("MINICORN_TEST_RECYCLED_REQUESTS", 10_000);
    let options = ["--workers", "4", "--max-requests", "50", "--max-requests-jitter", "50"];
    let server = serve("deployed", &[&options[..], &["--access-logfile", "none"]].concat());
    let load = Load::start(&server.addresses[0], Mix::USUAL);
    while load.requests() < requests {
        load.wait_for_more(500.min(requests));
    }
    let summary = load.stop();
    tell("recycling", &summary);
    summary.expect_no_close();
    // Each has answered some hundred at most, and those that came while its successor was starting.
    assert!(summary.workers.len() > requests / 1000, "only {} workers in {requests} requests", summary.workers.len());
    wait_until_all_serve(&server, 4);
    server.stop().expect_status(0);
}

// Workers that are killed.

/// A worker that was killed, and when, by the clock of the load.
struct Kill {
    worker: i32,
    at: Duration,
}

#[test]
fn killed_workers_under_load() {
    const WORKERS: usize = 4;
    let rounds = 5 * number_of("MINICORN_TEST_KILL_SECONDS", 5);
    let server = serve("deployed:slow", &["--workers", "4", "--access-logfile", "none"]);
    let (files, sockets) = (process::descriptors(server.master), sockets(server.master));
    let load = Load::start(&server.addresses[0], Mix::USUAL);
    let mut kills = Vec::new();
    at_intervals(Duration::from_millis(200), rounds, || kills.extend(kill_one(&server, &load)));
    // Those who wait for a worker are answered when there is one.
    load.wait_for_more(100);
    wait_until("all workers", || server.workers().len() == WORKERS);
    let summary = load.stop();
    tell("kills", &summary);
    figure("kills", "kills", kills.len());
    figure("kills", "cut per kill", format!("{:.2}", summary.failures.len() as f64 / kills.len() as f64));
    // How soon the next one is there to be killed is the back-off's affair.
    assert!(kills.len() > WORKERS, "only {} workers to kill in {rounds} rounds", kills.len());
    summary.expect_no_failure_but(|failure| kills.iter().any(|kill| explains(kill, failure)));

    wait_until_all_serve(&server, WORKERS);
    wait_until("the descriptors as before", || process::descriptors(server.master) == files);
    assert_eq!(self::sockets(server.master), sockets, "inboxes and listeners");
    assert!(process::zombies(server.master).is_empty());
    server.stop().expect_status(0);
}

/// Kills one of the workers that are there, if any is: which one is left to the number of the request.
fn kill_one(server: &Server, load: &Load) -> Option<Kill> {
    let workers = server.workers();
    let worker = *workers.get(load.requests() % workers.len().max(1))?;
    let at = load.elapsed();
    process::signal(worker, Signal::SIGKILL);
    Some(Kill { worker: worker.as_raw(), at })
}

/// Whether a connection died with this worker. What was answered, was answered right, and who has no connection yet is
/// served by another worker, now or later.
fn explains(kill: &Kill, failure: &Failure) -> bool {
    let was_alive_on_it = failure.since <= kill.at && kill.at <= failure.at;
    // What is under way between two workers is not lost with one of them: nobody waits in vain.
    was_alive_on_it
        && !failure.is_hang()
        && match failure.stage {
            Stage::Connecting | Stage::Wrong => false,
            // It stays where its last answer came from.
            Stage::Idle => failure.worker == Some(kill.worker),
            // With its request it may have moved to another worker, one that was idle.
            Stage::Waiting | Stage::Reading => true,
        }
}

/// How many of a process's descriptors are sockets: listeners, inboxes.
fn sockets(pid: Pid) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs and is ours");
    let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

// The end.

/// The processes of the group that a server of the tests is.
fn group(leader: Pid) -> Vec<Pid> {
    let is_in_group = |pid: &Pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Field 5, counted behind the name, which may hold anything.
        let group = stat.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(2)?.parse().ok());
        group == Some(leader.as_raw()) && process::is_running(*pid)
    };
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    pids.filter(is_in_group).collect()
}

/// README, Signals: what becomes of a request that is in the application when the server is told to stop.
#[test]
fn every_way_to_stop() {
    use Signal::{SIGINT, SIGKILL, SIGQUIT, SIGTERM};
    let ways: [(&[Signal], bool); 6] = [
        (&[SIGTERM], true),
        (&[SIGINT], true),
        (&[SIGQUIT], true),
        (&[SIGINT, SIGINT], false),
        (&[SIGTERM, SIGTERM], false),
        (&[SIGKILL], false),
    ];
    crate::harness::each(
        &ways,
        |(signals, _)| format!("{signals:?}"),
        |&(signals, is_answered)| {
            let mut server = serve("gate", &["--workers", "2"]);
            let group_before = group(server.running.pid);
            assert_eq!(group_before.len(), 3, "a master and two workers");
            let Held { mut client, gate } = Held::at(&server, "/before");
            let first = signals[0];
            server.signal(first);
            if first != SIGKILL {
                server.log().wait_for("stopping");
            }
            if is_answered {
                gate.open();
                assert_eq!(client.receive().status, 200);
                client.expect_end();
            } else {
                // The first ones that follow at once are taken for its echo, as a terminal and `make` send it.
                wait_until("an end that does not wait", || {
                    server.running.has_ended() || {
                        server.signal(*signals.last().expect("one at least"));
                        false
                    }
                });
                assert_eq!(client.status_or_end(), None);
            }
            wait_until("no process of it", || server.running.has_ended() && group(server.running.pid).is_empty());
            if first != SIGKILL {
                server.wait().expect_status(0);
            }
        },
    );
}

/// The only thread is held up, so that all of them wait in the kernel's queue when the server is told to stop.
#[test]
fn a_backlog_of_500_is_answered() {
    let server = serve("gate", &["--access-logfile", "none"]);
    let held = Held::at(&server, "/before");
    let mut waiting: Vec<_> = (0..500).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    server.signal(Signal::SIGTERM);
    server.log().wait_for("stopping");
    held.finish().expect_end();
    for client in &mut waiting {
        assert_eq!(client.receive().status, 200);
        client.expect_end();
    }
    server.wait().expect_status(0);
}

/// As a container's first process: reloads that nobody notices, and an end that cuts no answer.
#[test]
fn process_1_under_load() {
    let app = "tests.apps.deployed:app";
    let server = serve_as_process_1(app, &["--workers", "2", "--access-logfile", "none"]);
    let former = server.workers();
    let load = Load::start(&server.addresses[0], Mix::USUAL);
    at_intervals(RELOAD_EVERY, 3, || reload(&server));
    wait_for_others(&server, 2, &former);
    load.wait_for_more(100);
    load.summary().expect_no_close();

    let stopped_at = load.elapsed();
    server.signal(Signal::SIGTERM);
    let finished = server.wait().expect_status(0);
    let summary = load.stop();
    tell("process 1", &summary);
    summary.expect_no_failure_but(|failure| failure.at >= stopped_at && is_fair_at_the_end(failure));
    assert_eq!(finished.count("killing"), 0, "{}", finished.stderr);
}

/// What a client may see of a server that stops: newcomers are refused, and kept connections may close while the next
/// request is on its way. Who has been let in is answered, and an answer that has begun is finished.
fn is_fair_at_the_end(failure: &Failure) -> bool {
    match failure.stage {
        _ if failure.is_hang() => false,
        Stage::Connecting | Stage::Idle => true,
        Stage::Waiting => failure.answers > 0,
        Stage::Reading | Stage::Wrong => false,
    }
}

// The master.

fn pss_bytes(pid: Pid, kind: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process runs and is ours");
    let line = text.lines().find(|line| line.starts_with(kind)).expect("a line of the kernel's");
    line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") * 1024
}

/// One worker after the other is asked to leave, and replaced.
#[test]
fn the_master_does_not_grow_with_its_workers() {
    let count = number_of("MINICORN_TEST_RESPAWNS", 30);
    let server = serve("hello", &["--workers", "2", "--access-logfile", "none"]);
    let replace = |count: usize| {
        for _ in 0..count {
            let leaving = wait_for("a worker", || server.workers().first().copied());
            process::signal(leaving, Signal::SIGTERM);
            let others = || Some(server.workers()).filter(|now| now.len() == 2 && !now.contains(&leaving));
            wait_for("another worker", others);
        }
        // Workers share pages with the master as they start; both are to be past that.
        (0..20).for_each(|_| drop(server.get("/")));
    };
    replace(10);
    let (pss, files) = (pss_bytes(server.master, "Pss:"), process::descriptors(server.master));
    // What grows is in no file: the pages of the program count for more when servers of other tests end.
    let before = pss_bytes(server.master, "Pss_Anon:");
    replace(count);
    let grown = pss_bytes(server.master, "Pss_Anon:").saturating_sub(before);
    figure("respawns", "respawns", count);
    figure("respawns", "master PSS KiB", pss / 1024);
    figure("respawns", "grown by KiB", grown / 1024);
    assert!(grown < 256 * 1024, "{grown} bytes more after {count} workers");
    wait_until("the descriptors as before", || process::descriptors(server.master) == files);
    server.stop().expect_status(0);
}

/// An idle master sleeps: its watchdog looks once a second, and not at all without a timeout.
#[test]
fn an_idle_master_sleeps() {
    const SECONDS: u64 = 5;
    for (timeout, wakes_max) in [("30", SECONDS + 1), ("0", 0)] {
        let server = serve("hello", &["--workers", "2", "--timeout", timeout]);
        wait_until_settled(server.master);
        let before = process::waits(server.master);
        let start = Instant::now();
        wait_until("some seconds", || start.elapsed() >= Duration::from_secs(SECONDS));
        let wakes = process::waits(server.master) - before;
        figure("idle master", &format!("wakes in {SECONDS} s, --timeout {timeout}"), wakes);
        assert!(wakes <= wakes_max, "--timeout {timeout}: {wakes} wakes in {SECONDS} s");
    }
}

/// What belongs to the start is over when the master has slept through some looks at it.
fn wait_until_settled(master: Pid) {
    let (mut last, mut since) = (process::waits(master), Instant::now());
    wait_until("a master that has nothing to do", || {
        let now = process::waits(master);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
}
