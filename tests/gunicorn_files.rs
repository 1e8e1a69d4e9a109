//! Configuration files as people write them for gunicorn, each with its project in tests/gunicorn_files, run unchanged.

use std::net::TcpListener;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::harness::{Address, Client, Program, ROOT, Scratch, Server, process, wait_for, wait_until};

/// gunicorn's file is the one that it finds there.
fn program(project: &str, options: &[&str]) -> Program {
    let file = "gunicorn.conf.py";
    let folder = PathBuf::from(ROOT).join("tests/gunicorn_files").join(project);
    Program::new(&[&["-c", file], options].concat()).directory(folder).env("PYTHONDONTWRITEBYTECODE", "1")
}

fn file(scratch: &Scratch, name: &str) -> String {
    std::fs::read_to_string(scratch.path(name)).unwrap_or_default()
}

/// The number behind `"pid": `.
fn pid_of(body: &str) -> i32 {
    let digits = body.split("\"pid\": ").nth(1).and_then(|rest| rest.split(',').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no pid in {body}"))
}

#[test]
fn a_django_project_with_preloading_and_logging() {
    let scratch = Scratch::new();
    let running = program("django", &["--bind", "127.0.0.1:0"])
        .env("WEB_CONCURRENCY", "2")
        .env("SHOP_DATABASE", scratch.text("database"));
    let server = Server::start(running);
    let output = server.access_log();
    wait_until("two workers", || output.count("INFO|gunicorn.error|") >= 2);
    let answer = server.get("/").text().to_owned();
    let worker = pid_of(&answer);
    assert!(answer.contains("\"two\": 2"), "{answer}");
    output.wait_for(&format!("INFO|gunicorn.error|{worker}|Worker spawned (pid: {worker})"));
    output.wait_for(&format!("DEBUG|shop|{worker}|looked at the index"));
    output.wait_for(&format!("INFO|gunicorn.access|{worker}|"));
    server.signal(Signal::SIGHUP);
    server.log().wait_for("generation 2 serves");
    let next = pid_of(server.get("/").text());
    output.wait_for(&format!("INFO|gunicorn.access|{next}|"));
    server.stop().expect_status(0);
}

#[test]
fn a_flask_project_behind_nginx() {
    let scratch = Scratch::new();
    let running = program("flask", &["guestbook:app"])
        .env("RUNTIME_DIRECTORY", scratch.text("."))
        .env("LOGS_DIRECTORY", scratch.text("."));
    let mut running = running.spawn();
    wait_until("the server", || file(&scratch, "error.log").contains("listening on"));
    let address = Address::Unix(scratch.path("gunicorn.sock"));
    let get = |target: &str| Client::connect(&address).get(target);
    get("/?name=Ada").expect(200, "empty");
    assert_eq!(get("/broken").status, 500);
    wait_until("the logs", || file(&scratch, "access.log").lines().count() == 2);
    let access = file(&scratch, "access.log");
    assert!(access.contains("\"GET /?name=Ada HTTP/1.1\" 200 5 \"-\" \"-\" - "), "{access}");
    let log = file(&scratch, "error.log");
    for text in [
        "[INFO] worker=",
        "Ada reads the book",
        "GET / from nobody",
        "GET /: 200 OK, 5 bytes",
        "ValueError: no such page",
    ] {
        assert!(log.contains(text), "{text:?} is not in:\n{log}");
    }
    assert_eq!(file(&scratch, "gunicorn.pid").trim(), running.pid.to_string());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(scratch.path("gunicorn.sock")).expect("the socket").permissions(),
    );
    assert_eq!(mode & 0o777, 0o770);
    assert!(!running.has_ended());
    process::signal(running.pid, Signal::SIGINT);
    running.wait().expect_status(0);
    let log = file(&scratch, "error.log");
    assert!(log.contains("worker received INT or QUIT signal") && log.contains("# Thread: "), "{log}");
}

/// Files of workers in the folder of the metrics, by their process.
fn gauges(scratch: &Scratch) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(scratch.path("metrics")) else { return Vec::new() };
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let mut pids: Vec<i32> =
        names.filter_map(|name| name.strip_prefix("gauge_livesum_")?.strip_suffix(".db")?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn a_container_that_cleans_up_after_its_workers() {
    let scratch = Scratch::new();
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let metrics = probe.local_addr().expect("its number");
    drop(probe);
    let server = Server::start(
        program("container", &["counted:app"])
            .env("PROMETHEUS_MULTIPROC_DIR", scratch.text("metrics"))
            .env("PORT", "0")
            .env("METRICS_PORT", metrics.port().to_string()),
    );
    server.log().wait_for("Python in the master for on_starting, when_ready, child_exit, on_exit");
    // gunicorn's file listens on all addresses.
    let ask = || server.get("/").text().parse::<i32>().expect("a pid");
    wait_until("both workers", || gauges(&scratch).len() == 2);
    ask();
    // Asked of a thread of the master's.
    let told = || Client::connect(&Address::Tcp(metrics)).get("/metrics").text().to_owned();
    assert!(told().contains("workers_alive 2.0"), "{}", told());
    let killed = gauges(&scratch)[0];
    process::signal(nix::unistd::Pid::from_raw(killed), Signal::SIGKILL);
    wait_until("the file of the killed worker to go", || !gauges(&scratch).contains(&killed));
    assert!(told().contains("requests_total"), "what it has counted stays:\n{}", told());
    let before = wait_for("two workers", || Some(server.workers()).filter(|workers| workers.len() == 2));
    server.signal(Signal::SIGHUP);
    server.log().wait_for("generation 2 serves");
    wait_until("the files of the old workers to go", || {
        !gauges(&scratch).iter().any(|&pid| before.iter().any(|worker| worker.as_raw() == pid))
    });
    ask();
    wait_until("a line of the access log", || {
        server
            .access_log()
            .text()
            .lines()
            .any(|line| line.starts_with("{\"time\": \"[") && line.contains("\"status\": \"200\""))
    });
    server.stop().expect_status(0);
    assert!(!scratch.path("metrics").exists(), "on_exit");
}
