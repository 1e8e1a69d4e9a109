//! `--preload`: one process imports the application, and the workers are forked from it.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::program::Finished;
use crate::harness::server::app_path;
use crate::harness::{Client, Held, Program, ROOT, Scratch, Server, process, serve, wait_for, wait_until};

/// A server with the app `preloaded`, and what that one has written down.
struct Preloaded {
    server: Server,
    workers: usize,
    scratch: Scratch,
}

impl Preloaded {
    #[track_caller]
    fn start(workers: usize) -> Preloaded {
        let scratch = Scratch::new();
        let count = workers.to_string();
        let arguments =
            ["--bind", "127.0.0.1:0", "--preload", "--workers", &count, "--access-logfile", "none"].map(str::to_owned);
        let app = app_path("preloaded");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain([app.as_str()]).collect();
        let program = Program::new(&arguments).env("NOTES", scratch.path("notes"));
        // Else what the app prints waits in no buffer.
        let server = Server::start(program.without_env("PYTHONUNBUFFERED"));
        Preloaded { server, workers, scratch }
    }

    /// The processes that have written down `what`, in their order.
    fn notes(&self, what: &str) -> Vec<Pid> {
        let notes = std::fs::read_to_string(self.scratch.path("notes")).unwrap_or_default();
        let found = notes.lines().filter_map(|line| line.split_once(' ')).filter(|(noted, _)| *noted == what);
        found.map(|(_, pid)| Pid::from_raw(pid.parse().expect("a process id"))).collect()
    }

    /// The process that has imported the app, which no other has.
    #[track_caller]
    fn template(&self) -> Pid {
        let importers = self.notes("import");
        assert_eq!(importers.len(), 1, "the app is imported once: {importers:?}");
        importers[0]
    }

    /// All workers, when there are as many as there should be.
    #[track_caller]
    fn workers(&self) -> BTreeSet<Pid> {
        let template = self.template();
        wait_for("the workers", || {
            let children = self.server.workers();
            let workers: BTreeSet<Pid> = children.into_iter().filter(|&pid| pid != template).collect();
            Some(workers).filter(|workers| workers.len() == self.workers)
        })
    }

    /// What each worker answers. Connections that stay open go to the worker with the fewest.
    #[track_caller]
    fn ask_all(&self) -> Vec<serde_json::Value> {
        let mut open: Vec<Client> = Vec::new();
        let mut answers: Vec<serde_json::Value> = Vec::new();
        wait_until("an answer of each worker", || {
            let mut client = self.server.connect();
            let answer = answer(&mut client);
            open.push(client);
            if !answers.iter().any(|other| other["pid"] == answer["pid"]) {
                answers.push(answer);
            }
            answers.len() == self.workers
        });
        answers
    }
}

fn answer(client: &mut Client) -> serde_json::Value {
    serde_json::from_slice(&client.get("/").expect_status(200).body).expect("JSON")
}

fn number(pid: Pid) -> serde_json::Value {
    pid.as_raw().into()
}

#[track_caller]
fn assert_all_differ(answers: &[serde_json::Value], key: &str) {
    let values: BTreeSet<String> = answers.iter().map(|answer| answer[key].to_string()).collect();
    assert_eq!(values.len(), answers.len(), "{key}: {values:?}");
}

#[test]
fn the_application_is_imported_once() {
    let preloaded = Preloaded::start(4);
    let template = preloaded.template();
    for answer in preloaded.ask_all() {
        assert_eq!(answer["imported_by"], number(template));
        assert_ne!(answer["pid"], number(template), "the template serves");
        assert_eq!(answer["parent"], number(preloaded.server.master), "{answer}");
        assert_eq!((&answer["main_thread"], answer["threads"].to_string()), (&true.into(), "[\"MainThread\"]".into()));
    }
    assert_eq!(preloaded.notes("import").len(), 1);
    assert_eq!(preloaded.server.workers().len(), 5, "four workers and the template, none in between");
}

/// Without what Python does at a fork all workers would draw the same numbers: session keys, tokens, names of files.
#[test]
fn no_two_workers_draw_the_same_numbers() {
    let preloaded = Preloaded::start(4);
    let answers = preloaded.ask_all();
    assert_all_differ(&answers, "random");
    assert_all_differ(&answers, "uuid");
}

#[test]
fn what_is_registered_for_a_fork_is_called() {
    let preloaded = Preloaded::start(3);
    let (workers, template) = (preloaded.workers(), preloaded.template());
    wait_until("the notes of three forks", || {
        preloaded.notes("child").len() == 3 && preloaded.notes("parent").len() == 3
    });
    assert_eq!(BTreeSet::from_iter(preloaded.notes("child")), workers);
    assert_eq!(preloaded.notes("before"), [template; 3]);
    assert_eq!(preloaded.notes("parent"), [template; 3]);
}

#[test]
fn a_worker_that_dies_is_replaced_without_another_import() {
    let preloaded = Preloaded::start(2);
    for _ in 0..3 {
        let before = preloaded.workers();
        let killed = *before.first().expect("two workers");
        process::signal(killed, Signal::SIGKILL);
        let is_another = || Some(preloaded.workers()).filter(|now| !now.contains(&killed));
        let new = wait_for("another worker", is_another).into_iter().find(|pid| !before.contains(pid));
        let new = number(new.expect("another worker"));
        wait_until("an answer of the new worker", || preloaded.ask_all().iter().any(|answer| answer["pid"] == new));
    }
    assert_all_differ(&preloaded.ask_all(), "random");
    wait_until("no zombies", || process::zombies(preloaded.server.master).is_empty());
    preloaded.template();
}

/// The master ends it otherwise: a signal to the whole group must not cost the server the source of its workers.
#[test]
fn the_template_leaves_signals_to_the_master() {
    let preloaded = Preloaded::start(1);
    let (template, before) = (preloaded.template(), preloaded.workers());
    let signals = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGPIPE,
    ];
    signals.into_iter().for_each(|signal| process::signal(template, signal));
    process::signal(*before.first().expect("one worker"), Signal::SIGKILL);
    wait_until("another worker", || preloaded.workers().is_disjoint(&before));
    assert_eq!(preloaded.template(), template);
}

/// The same functions as without `--preload`, in each process that has registered them.
#[test]
fn every_interpreter_is_finalized() {
    let preloaded = Preloaded::start(3);
    preloaded.ask_all();
    let all = BTreeSet::from_iter(preloaded.workers().into_iter().chain([preloaded.template()]));
    preloaded.server.signal(Signal::SIGTERM);
    wait_until("the end of all", || preloaded.notes("exit").len() == 4);
    assert_eq!(BTreeSet::from_iter(preloaded.notes("exit")), all);
    let finished = preloaded.server.wait().expect_status(0);
    assert!(!all.into_iter().any(process::is_running), "a process is left");
    // It waited in a buffer that each fork has copied.
    assert_eq!(finished.stdout, "printed while importing\n");
}

#[test]
fn requests_in_flight_are_finished() {
    let server = serve("gate", &["--preload", "--workers", "2"]);
    let children = server.workers();
    let held = Held::at(&server, "/before");
    server.signal(Signal::SIGTERM);
    server.log().wait_for("stopping");
    held.finish();
    server.wait().expect_status(0);
    assert!(!children.into_iter().any(process::is_running), "a process is left");
}

/// Who was ordered and is not wanted any more is not left to itself, where nobody would replace it or have it leave.
#[test]
fn a_worker_that_is_not_wanted_any_more_when_it_is_forked_does_not_stay() {
    let preloaded = Preloaded::start(2);
    let (template, before) = (preloaded.template(), preloaded.workers());
    process::signal(template, Signal::SIGSTOP);
    preloaded.server.signal(Signal::SIGTTIN);
    preloaded.server.log().wait_for("SIGTTIN: 3 workers from now on");
    preloaded.server.signal(Signal::SIGTTOU);
    preloaded.server.log().wait_for("SIGTTOU: 2 workers from now on");
    process::signal(template, Signal::SIGCONT);
    // What is ordered after it comes after it.
    let killed = *before.first().expect("two workers");
    process::signal(killed, Signal::SIGKILL);
    wait_until("both forks", || preloaded.notes("parent").len() == 4);
    let is_another = || Some(preloaded.workers()).filter(|now| !now.contains(&killed));
    wait_for("two workers, and no third", is_another);
}

#[test]
fn a_server_whose_workers_all_fail_after_the_fork_ends() {
    let scratch = Scratch::new();
    let app = "import os\nos.register_at_fork(after_in_child=lambda: os._exit(5))\napp = print\n";
    scratch.write("fails.py", app);
    let folder = scratch.text("");
    let finished = Program::new(&["--bind", "127.0.0.1:0", "--preload", "--chdir", &folder, "fails:app"]).run();
    finished.expect_status(3).expect_stderr(&["exited with status 5 while starting"]);
}

/// A master that is killed -9 can tell its children nothing.
#[test]
fn nobody_outlives_the_master() {
    let preloaded = Preloaded::start(2);
    let all: Vec<Pid> = preloaded.workers().into_iter().chain([preloaded.template()]).collect();
    preloaded.server.signal(Signal::SIGKILL);
    wait_until("the end of all", || !all.iter().any(|&pid| process::is_running(pid)));
}

#[test]
fn a_terminal_interrupts_the_whole_group() {
    let server = serve("gate", &["--preload", "--workers", "2"]);
    let held = Held::at(&server, "/before");
    nix::sys::signal::killpg(server.master, Signal::SIGINT).expect("the group of this server");
    server.log().wait_for("stopping");
    held.finish();
    server.wait().expect_status(0);
}

/// They live in the template alone, and what they were for does not happen in the workers.
#[test]
fn threads_of_the_import_are_named_once() {
    let server = serve("preloaded_threads", &["--preload", "--workers", "3"]);
    server.get("/").expect(200, "1");
    let finished = server.stop().expect_status(0);
    let warnings: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("have the threads")).collect();
    assert_eq!(warnings.len(), 1, "{}", finished.stderr);
    for text in ["[WARNING] template pid=", "'flusher'", "'watcher'", "'minicorn' (native)"] {
        assert!(warnings[0].contains(text), "{text:?} is not in {}", warnings[0]);
    }
}

#[test]
fn an_application_without_threads_is_not_warned_of() {
    let finished = serve("hello", &["--preload", "--workers", "2"]).stop().expect_status(0);
    assert!(!finished.stderr.contains("WARNING"), "{}", finished.stderr);
}

/// Runs minicorn with an app that cannot be loaded.
fn fail(app: &str) -> Finished {
    Program::new(&["--bind", "127.0.0.1:0", "--preload", "--workers", "4", &app_path(app)]).run()
}

#[test]
fn an_import_that_fails_ends_the_server() {
    let finished = fail("broken").expect_status(4);
    assert_eq!(finished.count("LookupError: the database is not configured"), 1, "{}", finished.stderr);
    assert_eq!(finished.count("Traceback"), 1, "{}", finished.stderr);
    fail("forms:no_such_name").expect_status(4).expect_stderr(&["no_such_name", "tests.apps.forms"]);
    fail("crash_at_import").expect_status(3).expect_stderr(&["exited with status 9"]);
}

#[test]
fn options_for_the_application() {
    let options = ["--preload", "--chdir", "tests/apps", "--pythonpath", "/first", "-e", "A=1"];
    let server =
        Server::start(Program::new(&[&["--bind", "127.0.0.1:0"], &options[..], &["interpreter:app"]].concat()));
    let seen: serde_json::Value = serde_json::from_slice(&server.get("/").expect_status(200).body).expect("JSON");
    assert_eq!((&seen["cwd"], &seen["env"]["A"]), (&format!("{ROOT}/tests/apps").into(), &"1".into()));
    assert!(seen["path"].as_array().expect("a list").contains(&"/first".into()), "{}", seen["path"]);
    assert_eq!(seen["main_thread"], true);
}

/// What Python does when a request is late or a worker crashes was set up in another process.
#[test]
fn stacks_are_logged_as_without_it() {
    let server = serve("gate", &["--preload", "--timeout", "1"]);
    let mut late = server.connect();
    late.send("GET /before?release=/no/such/file HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(late.status_or_end(), Some(504));
    server.log().wait_for("gate.py");
    let server = serve("crash", &["--preload"]);
    let mut client = server.connect();
    client.send("GET /segfault HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.status_or_end(), None);
    server.log().wait_for("Fatal Python error: Segmentation fault");
    server.log().wait_for("killed by SIGSEGV");
    server.get("/").expect_status(200);
}

#[test]
fn threads_of_the_workers_are_their_own() {
    let server = serve("gate", &["--preload", "--workers", "2", "--threads", "2"]);
    let held: Vec<Held> = (0..4).map(|_| Held::at(&server, "/before")).collect();
    for held in held {
        held.finish();
    }
    server.stop().expect_status(0);
}

#[test]
fn each_worker_writes_the_access_log() {
    let scratch = Scratch::new();
    let log = scratch.text("access");
    let options = ["--preload", "--workers", "2", "--access-logfile", &log, "--access-logformat", "%(p)s %(U)s"];
    let server = serve("hello", &options);
    let mut open = Vec::new();
    wait_until("lines of two workers", || {
        let mut client = server.connect();
        client.get("/").expect_status(200);
        open.push(client);
        let text = std::fs::read_to_string(&log).expect("an access log");
        text.lines().filter_map(|line| line.strip_suffix(" /")).collect::<BTreeSet<_>>().len() == 2
    });
    let count = open.len();
    server.stop().expect_status(0);
    assert_eq!(std::fs::read_to_string(log).expect("an access log").lines().count(), count);
}
