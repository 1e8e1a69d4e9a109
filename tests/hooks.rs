//! The hooks of a configuration file: which are called, where, in what order, with what; and what happens if they fail.

use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

use crate::harness::program::Finished;
use crate::harness::server::app_path;
use crate::harness::{Held, Program, Scratch, Server, process, wait_for, wait_until};

/// Each hook writes its name, its process and what it was given to the error log.
const ALL: &str = r#"
import os

def say(log, name, *rest):
    log.info("HOOK %s own=%d %s", name, os.getpid(), " ".join(map(str, rest)))

def on_starting(server): say(server.log, "on_starting", server.pid, server.LISTENERS)
def when_ready(server): say(server.log, "when_ready", *server.LISTENERS)
def on_reload(server): say(server.log, "on_reload")
def nworkers_changed(server, new, old): say(server.log, "nworkers_changed", new, old)
def pre_fork(server, worker):
    worker.mark = "marked"
    say(server.log, "pre_fork", worker.age, worker.pid)
def child_exit(server, worker): say(server.log, "child_exit", worker.pid, worker.age, len(server.WORKERS))
def on_exit(server): say(server.log, "on_exit")
def pre_exec(server): say(server.log, "pre_exec")
def post_fork(server, worker): say(worker.log, "post_fork", worker.age, getattr(worker, "mark", None), worker.pid, server.pid)
def post_worker_init(worker): say(worker.log, "post_worker_init", worker.wsgi.__name__, worker.cfg.threads)
def worker_int(worker): say(worker.log, "worker_int", worker.alive)
def worker_exit(server, worker): say(worker.log, "worker_exit", worker.nr, worker.age)
"#;

#[track_caller]
fn start(scratch: &Scratch, config: &str, app: &str, options: &[&str]) -> Server {
    Server::start(program(scratch, config, app, options))
}

fn program(scratch: &Scratch, config: &str, app: &str, options: &[&str]) -> Program {
    let file = scratch.write("gunicorn.conf.py", config);
    let app = app_path(app);
    Program::new(&[&["-c", file.as_str(), "--bind", "127.0.0.1:0"], options, &[app.as_str()]].concat())
}

/// What hooks have said, in order: name, process, the rest.
fn said(log: &str) -> Vec<(String, i32, String)> {
    let lines = log.lines().filter_map(|line| line.split_once("HOOK "));
    let parts = lines.map(|(_, text)| {
        let (name, rest) = text.split_once(" own=").expect("a process");
        let (pid, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        (name.to_owned(), pid.parse().expect("a number"), rest.to_owned())
    });
    parts.collect()
}

fn names_of(log: &str, pid: i32) -> Vec<String> {
    said(log).into_iter().filter(|(_, own, _)| *own == pid).map(|(name, ..)| name).collect()
}

/// What a hook said in all processes.
fn rests(log: &str, hook: &str) -> Vec<String> {
    said(log).into_iter().filter(|(name, ..)| name == hook).map(|(_, _, rest)| rest).collect()
}

#[track_caller]
fn expect_failure(program: Program, status: i32, texts: &[&str]) -> Finished {
    program.run().expect_status(status).expect_stderr(texts)
}

#[test]
fn all_hooks_are_called_in_gunicorns_order_and_place() {
    let scratch = Scratch::new();
    let server = start(&scratch, ALL, "hello", &["--workers", "2", "--threads", "3"]);
    let master = server.master.as_raw();
    let url = format!("http://{}", server.addresses[0]);
    server.log().wait_for("Python in the master for on_starting, when_ready");
    for _ in 0..3 {
        server.get("/").expect(200, "Hello, world!\n");
    }
    server.signal(Signal::SIGINT);
    let log = server.wait().expect_status(0).stderr;
    let of_master = names_of(&log, master);
    let expected = [
        "nworkers_changed",
        "on_starting",
        "when_ready",
        "pre_fork",
        "pre_fork",
        "child_exit",
        "child_exit",
        "on_exit",
    ];
    assert_eq!(of_master, expected, "{log}");
    assert_eq!(rests(&log, "on_starting"), [format!("{master} []")], "before there are sockets");
    assert_eq!(rests(&log, "when_ready"), [url]);
    assert_eq!(rests(&log, "nworkers_changed"), ["2 None"]);
    assert_eq!(rests(&log, "pre_fork"), ["1 [booting]", "2 [booting]"]);
    for (_, pid, rest) in said(&log).iter().filter(|(name, ..)| name == "post_fork") {
        let expected = ["post_fork", "post_worker_init", "worker_int", "worker_exit"];
        assert_eq!(names_of(&log, *pid), expected, "{log}");
        // What pre_fork has made of the worker is there.
        assert!(rest.ends_with(&format!("marked {pid} {master}")), "{rest}");
    }
    assert_eq!(rests(&log, "post_worker_init"), ["app 3", "app 3"]);
    assert_eq!(rests(&log, "worker_int"), ["False", "False"]);
    let requests: u32 = rests(&log, "worker_exit").iter().map(|rest| rest[..1].parse::<u32>().expect("a count")).sum();
    assert_eq!(requests, 3, "worker.nr");
}

#[test]
fn child_exit_is_called_for_a_worker_that_was_killed() {
    let scratch = Scratch::new();
    let server = start(&scratch, ALL, "hello", &["--workers", "2"]);
    let worker = wait_for("two workers", || Some(server.workers()).filter(|workers| workers.len() == 2))[0];
    process::signal(worker, Signal::SIGKILL);
    server.log().wait_for(&format!("HOOK child_exit own={} {worker} ", server.master));
    server.log().wait_for("HOOK pre_fork own=");
    wait_until("the third worker", || rests(&server.log().text(), "post_worker_init").len() == 3);
    assert_eq!(rests(&server.log().text(), "pre_fork").last().map(String::as_str), Some("3 [booting]"));
    server.stop().expect_status(0);
}

#[test]
fn a_reload_runs_the_file_again_and_old_workers_keep_what_they_have() {
    let scratch = Scratch::new();
    let server = start(&scratch, &format!("VERSION = 1\n{ALL}"), "hello", &[]);
    let next = ALL
        .replace("\"worker_exit\",", "\"worker_exit\", \"new file,\",")
        .replace("\"child_exit\",", "\"child_exit\", \"new file,\",");
    scratch.write("gunicorn.conf.py", &next);
    server.signal(Signal::SIGHUP);
    server.log().wait_for("generation 2 serves");
    wait_until("the old worker's end", || rests(&server.log().text(), "child_exit").len() == 1);
    let log = server.stop().expect_status(0).stderr;
    assert_eq!(rests(&log, "on_reload").len(), 1);
    assert_eq!(rests(&log, "nworkers_changed"), ["1 None", "1 1"]);
    for hook in ["worker_exit", "child_exit"] {
        let are_new: Vec<bool> = rests(&log, hook).iter().map(|rest| rest.contains("new file")).collect();
        assert_eq!(are_new, [false, true], "{hook}\n{log}");
    }
}

#[test]
fn a_file_that_is_broken_at_a_reload_changes_nothing() {
    let scratch = Scratch::new();
    let server = start(&scratch, ALL, "hello", &[]);
    scratch.write("gunicorn.conf.py", "workers = 1\nworkers +\n");
    server.signal(Signal::SIGHUP);
    server.log().wait_for("SyntaxError: invalid syntax");
    server.get("/").expect(200, "Hello, world!\n");
    let log = server.stop().expect_status(0).stderr;
    assert!(!log.contains("HOOK on_reload") && rests(&log, "on_exit").len() == 1, "{log}");
    assert!(!log.contains("config_file.py") && !log.contains("importlib"), "our own frames:\n{log}");
}

#[test]
fn hooks_around_requests_see_them() {
    let scratch = Scratch::new();
    let config = r#"
def pre_request(worker, req):
    worker.log.info("BEFORE %s %s %r %r %s", req.method, req.path, req.query, req.version, dict(req.headers)["X-A"])
    if req.path == "/no": raise ValueError("not this one")

def post_request(worker, req, environ, resp):
    status = resp and (resp.status, resp.status_code, resp.sent)
    worker.log.info("AFTER %s %s %s %s", req.uri, environ.get("PATH_INFO"), status, worker.nr)
    if req.path == "/late": raise ValueError("too late")
"#;
    let server = start(&scratch, config, "hello", &[]);
    let ask = |path: &str| server.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-a: 1\r\n\r\n"));
    ask("/a%20b?x=1").expect(200, "Hello, world!\n");
    assert_eq!(ask("/no").status, 500);
    ask("/late").expect(200, "Hello, world!\n");
    server.get("/without-the-header").status.eq(&500).then_some(()).expect("a KeyError is a 500");
    let log = server.stop().expect_status(0).stderr;
    for text in [
        "BEFORE GET /a%20b 'x=1' (1, 1) 1",
        "AFTER /a%20b?x=1 /a b ('200 OK', 200, 14) 1",
        "ValueError: not this one",
        "AFTER /no None None 2",
        "the hook post_request raised",
        "ValueError: too late",
    ] {
        assert!(log.contains(text), "{text:?} is not in:\n{log}");
    }
}

/// gunicorn makes the environ of what the hook has left.
#[test]
fn header_fields_that_pre_request_changes_are_in_the_environ() {
    let scratch = Scratch::new();
    let config = "def pre_request(worker, req):\n    req.headers.append(('x-request-id', 'r-1'))\n    \
                  req.headers.remove(('X-GONE', 'here'))\n    req.headers.append(('X-TWICE', 'b'))\n\
                  def post_request(worker, req, environ, resp):\n    \
                  worker.log.info('SEEN %s %s %s %s', environ['HTTP_X_REQUEST_ID'], 'HTTP_X_GONE' in environ,\n        \
                  environ['HTTP_X_TWICE'], environ['HTTP_HOST'])\n";
    let server = start(&scratch, config, "hello", &[]);
    server.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Gone: here\r\nX-Twice: a\r\n\r\n").expect(200, "Hello, world!\n");
    server.log().wait_for("SEEN r-1 False a,b a");
    server.stop().expect_status(0);
}

/// The collector runs when Python makes something for the hook, and finalizers of the application may do anything then.
#[test]
fn what_post_request_is_given_is_made_without_the_lock_of_the_response() {
    let scratch = Scratch::new();
    let server = start(&scratch, "def post_request(worker, req, environ, resp): pass\n", "finalizers", &[]);
    for _ in 0..5 {
        server.get("/").expect(200, "ok");
    }
    server.log().wait_for("finalizer 0");
    server.stop().expect_status(0);
}

/// The environ that is kept for it has some of them.
#[test]
fn post_request_does_not_cost_new_callables_for_each_request() {
    let scratch = Scratch::new();
    let server = start(&scratch, "def post_request(worker, req, environ, resp): pass\n", "finalizers", &[]);
    let first = server.get("/callable");
    for _ in 0..3 {
        assert_eq!(server.get("/callable").text(), first.text());
    }
    server.stop().expect_status(0);
}

/// As people do in a hook for a worker that has grown too large.
#[test]
fn a_hook_may_end_its_worker() {
    let scratch = Scratch::new();
    let config = "def post_request(worker, req, environ, resp):\n    worker.alive = req.path != '/last'\n\
                  def worker_exit(server, worker):\n    worker.log.info('EXIT %s %s', worker.pid, worker.nr)\n";
    let server = start(&scratch, config, "hello", &[]);
    let worker = server.workers()[0];
    server.get("/").expect(200, "Hello, world!\n");
    server.get("/last").expect(200, "Hello, world!\n");
    server.log().wait_for(&format!("EXIT {worker} 2"));
    let other = wait_for("another worker", || server.workers().into_iter().find(|&other| other != worker));
    server.get("/").expect(200, "Hello, world!\n");
    assert!(process::is_running(other));
    server.stop().expect_status(0);
}

/// As with Python's logging, which tells of it and goes on.
#[test]
fn a_message_that_does_not_fit_its_arguments_harms_nobody() {
    let scratch = Scratch::new();
    let config = "def post_fork(server, worker):\n    worker.log.info('%d worker', 'one')\n";
    let server = start(&scratch, config, "hello", &[]);
    server.log().wait_for("%d worker ('one',) (which does not fit: ");
    server.stop().expect_status(0);
}

/// gunicorn takes post_request with two and three arguments, too, and hooks by their names.
#[test]
fn hooks_may_be_names_and_take_fewer_arguments() {
    let scratch = Scratch::new();
    scratch.write("my_hooks.py", "def after(worker, req):\n    worker.log.info('AFTER %s', req.path)\n");
    let program = program(&scratch, "post_request = 'my_hooks.after'\n", "hello", &["--chdir", "."]);
    let folder = scratch.path(".");
    let program = program.env("PYTHONPATH", crate::harness::ROOT).directory(folder);
    let server = Server::start(program);
    server.get("/here").expect(200, "Hello, world!\n");
    server.log().wait_for("AFTER /here");
    server.stop().expect_status(0);
}

#[test]
fn a_request_that_takes_too_long_is_told_to_worker_abort() {
    let scratch = Scratch::new();
    let config = "def worker_abort(worker):\n    worker.log.info('ABORTED %s %s', worker.pid, worker.aborted)\n\
                  def worker_exit(server, worker):\n    worker.log.info('EXIT %s', worker.pid)\n";
    let server = start(&scratch, config, "stuck", &["--timeout", "0.5"]);
    let worker = server.workers()[0];
    assert_eq!(server.get("/sleep").status, 504);
    server.log().wait_for(&format!("ABORTED {worker} True"));
    server.log().wait_for(&format!("EXIT {worker}"));
    wait_until("the worker's end", || !process::is_running(worker));
    server.stop().expect_status(0);
}

/// What it closes, requests in other threads may need.
#[test]
fn worker_exit_comes_behind_the_requests_that_a_condemned_worker_finishes() {
    let scratch = Scratch::new();
    let config = "def worker_abort(worker):\n    worker.log.info('ABORTED')\n\
                  def worker_exit(server, worker):\n    worker.log.info('EXIT')\n";
    let server = start(&scratch, config, "stuck", &["--timeout", "3", "--threads", "2"]);
    let worker = server.workers()[0];
    let mut stuck = server.connect();
    stuck.send("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n");
    let sent = Instant::now();
    // So that it is not late when the other one is.
    wait_until("half of its time", || sent.elapsed() > Duration::from_millis(1500));
    let held = Held::at(&server, "/wait");
    assert_eq!(stuck.receive().status, 504);
    server.log().wait_for("ABORTED");
    assert!(!server.log().text().contains("EXIT"), "a request is in the application");
    held.finish();
    wait_until("the worker's end", || !process::is_running(worker));
    assert!(server.log().text().contains("EXIT"));
    server.stop().expect_status(0);
}

#[test]
fn a_worker_that_has_the_gil_for_good_ends_without_its_hook() {
    let scratch = Scratch::new();
    let config = "def worker_abort(worker):\n    worker.log.info('ABORTED')\n";
    let server = start(&scratch, config, "stuck", &["--timeout", "0.5"]);
    let worker = server.workers()[0];
    assert_eq!(server.get("/gil").status, 504);
    wait_until("the worker's end", || !process::is_running(worker));
    assert!(!server.log().text().contains("ABORTED"));
}

#[test]
fn a_boot_that_takes_too_long_is_told_to_worker_abort() {
    let scratch = Scratch::new();
    let config = "def worker_abort(worker):\n    worker.log.info('ABORTED booted=%s', worker.booted)\n";
    let program = program(&scratch, config, "hangs_at_import", &["--boot-timeout", "1"]);
    expect_failure(program, 3, &["ABORTED booted=False", "wait_for_nobody"]);
}

#[test]
fn a_preloaded_application_gets_post_fork_in_each_worker() {
    let scratch = Scratch::new();
    let server = start(&scratch, ALL, "hello", &["--workers", "2", "--preload"]);
    wait_until("two workers", || rests(&server.log().text(), "post_worker_init").len() == 2);
    let log = server.stop().expect_status(0).stderr;
    let forked: Vec<i32> =
        said(&log).into_iter().filter(|(name, ..)| name == "post_fork").map(|(_, pid, _)| pid).collect();
    assert_eq!(forked.len(), 2);
    assert_ne!(forked[0], forked[1]);
    for pid in forked {
        assert_eq!(names_of(&log, pid), ["post_fork", "post_worker_init", "worker_exit"], "{log}");
    }
    assert_eq!(rests(&log, "child_exit").len(), 2, "the template is no worker");
}

#[test]
fn a_hook_that_raises_before_the_worker_is_ready_ends_the_server_as_with_gunicorn() {
    for hook in ["post_fork(server, worker)", "post_worker_init(worker)"] {
        let scratch = Scratch::new();
        let program = program(&scratch, &format!("def {hook}:\n    raise ValueError('no luck')\n"), "hello", &[]);
        expect_failure(program, 3, &["ValueError: no luck", "gunicorn.conf.py\", line 2"]);
    }
    for hook in ["on_starting(server)", "when_ready(server)", "pre_fork(server, worker)"] {
        let scratch = Scratch::new();
        let program = program(&scratch, &format!("def {hook}:\n    raise ValueError('no luck')\n"), "hello", &[]);
        expect_failure(program, 1, &["ValueError: no luck", "gunicorn.conf.py\", line 2"]);
    }
}

#[test]
fn a_file_that_cannot_be_run_is_explained_in_a_sentence() {
    for (config, text) in [
        ("import sys\nsys.exit(7)\n", "has ended itself with sys.exit(7)"),
        ("import os\nos._exit(7)\n", "the process that was to try it exited with status 7"),
        ("import os\nos.kill(os.getpid(), 11)\n", "killed by SIGSEGV"),
        ("1/0\n", "fails: ZeroDivisionError: division by zero"),
        ("if\n", "SyntaxError: invalid syntax"),
        ("def post_fork(worker):\n    pass\n", "post_fork is to take 2 arguments, server, worker, and takes 1"),
        ("post_fork = 3\n", "post_fork is no function but 3"),
        ("when_ready = 'no.such.module'\n", "when_ready is 'no.such.module', which cannot be imported"),
        ("def post_request(a, b, c, d, e):\n    pass\n", "post_request is to take 4 arguments"),
    ] {
        let scratch = Scratch::new();
        let finished = program(&scratch, config, "hello", &[]).run();
        assert!(finished.stderr.contains(text), "{text:?} is not in:\n{}", finished.stderr);
        // A crash shows all frames that there are.
        let is_clean = text.contains("SIGSEGV") || !finished.stderr.contains("config_file.py");
        assert!(is_clean, "our own frames:\n{}", finished.stderr);
    }
}

/// What it would cost is told where it is needed, and it is not there where it is not.
#[test]
fn without_hooks_for_the_master_it_has_no_python() {
    let scratch = Scratch::new();
    let server = start(&scratch, "def post_fork(server, worker):\n    worker.log.info('FORKED')\n", "hello", &[]);
    server.log().wait_for("FORKED");
    assert!(!server.log().text().contains("Python in the master"));
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.master)).expect("a process");
    let of_worker = std::fs::read_to_string(format!("/proc/{}/maps", server.workers()[0])).expect("a process");
    // Python itself is linked; a module of its standard library is only there where it runs.
    assert!(of_worker.contains("lib-dynload") && !maps.contains("lib-dynload"));
    server.stop().expect_status(0);
}

/// A thread that a hook has started goes on while the master waits, in the background too.
#[test]
fn threads_of_the_masters_hooks_run() {
    let scratch = Scratch::new();
    let config = format!(
        "import threading, time\n\
         def when_ready(server):\n    threading.Thread(target=tick, daemon=True).start()\n\
         def tick():\n    count = 0\n    while True:\n        count += 1\n        open('{}', 'w').write(str(count))\n        time.sleep(0.02)\n",
        scratch.text("ticks")
    );
    let log = scratch.text("error.log");
    let pid_file = scratch.text("pid");
    let options = ["--daemon", "--error-logfile", &log, "--pid", &pid_file];
    program(&scratch, &config, "hello", &options).run().expect_status(0);
    let master: i32 = std::fs::read_to_string(&pid_file).expect("a pid file").trim().parse().expect("a number");
    let master = nix::unistd::Pid::from_raw(master);
    let ticks = || std::fs::read_to_string(scratch.path("ticks")).ok()?.parse::<u32>().ok();
    let before = wait_for("a tick", ticks);
    wait_until("more ticks", || ticks().is_some_and(|ticks| ticks > before + 3));
    // The master forks beside that thread.
    process::signal(master, Signal::SIGHUP);
    wait_until("the reload", || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("generation 2 serves")));
    process::signal(master, Signal::SIGTERM);
    wait_until("the end of the server", || !process::is_running(master));
}

#[test]
fn the_hook_of_an_upgrade_is_called_in_the_new_process() {
    let scratch = Scratch::new();
    let server = start(&scratch, ALL, "hello", &[]);
    server.signal(Signal::SIGUSR2);
    server.log().wait_for("HOOK pre_exec");
    wait_until("the new master", || rests(&server.log().text(), "when_ready").len() == 2);
    let log = server.log().text();
    let (_, new, _) = said(&log).into_iter().find(|(name, ..)| name == "pre_exec").expect("the hook");
    assert_ne!(new, server.master.as_raw());
    assert_eq!(names_of(&log, new)[..4], ["pre_exec", "nworkers_changed", "on_starting", "when_ready"]);
    process::signal(nix::unistd::Pid::from_raw(new), Signal::SIGTERM);
    server.log().wait_for("was stopped; this one goes on");
    server.stop().expect_status(0);
}

#[test]
fn a_worker_whose_code_changes_is_told_by_worker_int() {
    let scratch = Scratch::new();
    let config = "def worker_int(worker):\n    worker.log.info('INTERRUPTED %s', worker.pid)\n\
                  def post_worker_init(worker):\n    worker.log.info('READY %s', worker.pid)\n";
    std::fs::create_dir(scratch.path("package")).expect("a folder");
    scratch.write("package/changing.py", "from tests.apps.hello import app\n");
    let program = program(&scratch, config, "package.changing:app", &["--reload", "--pythonpath", &scratch.text(".")]);
    let server = Server::start(program);
    let worker = server.workers()[0];
    server.log().wait_for(&format!("READY {worker}"));
    scratch.write("package/changing.py", "from tests.apps.hello import app  # again\n");
    server.log().wait_for(&format!("INTERRUPTED {worker}"));
    wait_until("another worker", || server.log().count("READY ") == 2);
    server.stop().expect_status(0);
}

/// What `--env` says is in the environment of the master and the workers, and what a reload takes away is gone.
#[test]
fn the_environment_of_the_master_follows_the_file() {
    let scratch = Scratch::new();
    let config = |value: &str| {
        format!(
            "import os\nraw_env = [{value}]\n\
             def say(log, text):\n    log.info('%s A=%s B=%s', text, os.environ.get('A'), os.environ.get('B'))\n\
             def on_reload(server): say(server.log, 'reload')\n\
             def when_ready(server): say(server.log, 'ready')\n\
             def post_fork(server, worker): say(worker.log, 'fork')\n"
        )
    };
    let server = start(&scratch, &config("'A=1'"), "hello", &[]);
    scratch.write("gunicorn.conf.py", &config("'B=2'"));
    server.signal(Signal::SIGHUP);
    server.log().wait_for("generation 2 serves");
    let log = server.stop().expect_status(0).stderr;
    for text in ["ready A=1 B=None", "fork A=1 B=None", "reload A=None B=2", "fork A=None B=2"] {
        assert!(log.contains(text), "{text:?} is not in:\n{log}");
    }
}

/// What a generation has done to Python in the master, is undone when nothing comes of it.
#[test]
fn hooks_and_logging_of_a_generation_that_is_given_up_do_not_stay() {
    let scratch = Scratch::new();
    let config = |name: &str, more: &str| {
        format!(
            "proc_name = '{name}'\n{more}\ndef on_exit(server): server.log.info('EXIT of %s at %s', server.cfg.proc_name, \
             server.LISTENERS[0])\n\
             logconfig_dict = {{'version': 1, 'disable_existing_loggers': False, 'loggers':\n\
             \x20   {{'gunicorn.error': {{'level': 'INFO', 'handlers': ['h'], 'propagate': False}}}}, 'root': {{}},\n\
             \x20   'handlers': {{'h': {{'class': 'logging.StreamHandler', 'formatter': 'f'}}}},\n\
             \x20   'formatters': {{'f': {{'format': 'ROUTE {name} %(message)s'}}}}}}\n"
        )
    };
    let server = start(&scratch, &config("one", ""), "hello", &[]);
    let address = server.addresses[0].to_string();
    let reopen_as = |route: &str| {
        server.signal(Signal::SIGUSR1);
        server.log().wait_for(&format!("{route} log files opened anew"));
    };
    scratch
        .write("gunicorn.conf.py", &config("two", "def post_fork(server, worker): raise ValueError('not this one')"));
    server.signal(Signal::SIGHUP);
    server.log().wait_for("generation 2 is given up");
    reopen_as("ROUTE one");
    // Refused when its file has been run in the master already.
    scratch.write("gunicorn.conf.py", &config("three", "pidfile = '/nowhere/pid'"));
    server.signal(Signal::SIGHUP);
    server.log().wait_for("/nowhere/pid");
    let count = server.log().count("ROUTE one log files opened anew");
    server.signal(Signal::SIGUSR1);
    wait_until("the old route", || server.log().count("ROUTE one log files opened anew") > count);
    let log = server.stop().expect_status(0).stderr;
    assert!(log.contains(&format!("ROUTE one EXIT of one at http://{address}")), "{log}");
}

#[test]
fn the_log_of_the_master_leaves_python_with_the_settings_that_wanted_it() {
    let scratch = Scratch::new();
    let config = "def on_exit(server): pass\nlogconfig_dict = {'version': 1, 'loggers':\n\
                  \x20   {'gunicorn.error': {'level': 'INFO', 'handlers': ['h'], 'propagate': False}}, 'root': {},\n\
                  \x20   'handlers': {'h': {'class': 'logging.StreamHandler', 'formatter': 'f'}},\n\
                  \x20   'formatters': {'f': {'format': 'ROUTE %(message)s'}}}\n";
    let server = start(&scratch, config, "hello", &[]);
    scratch.write("gunicorn.conf.py", "workers = 1\n");
    server.signal(Signal::SIGHUP);
    server.log().wait_for("generation 2 serves");
    server.signal(Signal::SIGUSR1);
    server.log().wait_for("log files opened anew");
    let log = server.stop().expect_status(0).stderr;
    assert!(!log.contains("ROUTE log files opened anew") && !log.contains("ROUTE stopped"), "{log}");
}

/// Python would keep it until the master had made thousands of objects, which it never does.
#[test]
fn the_file_of_before_is_freed_in_the_master() {
    let scratch = Scratch::new();
    let config = "import os\nclass Held:\n    def __del__(self, write=os.write, pid=os.getpid): write(2, b'FREED in %d\\n' % pid())\n\
                  held = Held()\ndef child_exit(server, worker): held\n";
    let server = start(&scratch, config, "hello", &[]);
    server.signal(Signal::SIGHUP);
    server.log().wait_for(&format!("FREED in {}", server.master));
    server.stop().expect_status(0);
}
