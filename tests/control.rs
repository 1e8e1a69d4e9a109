//! `minicorn ctl`, and what the server does when it is asked.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::load::{Load, Mix};
use crate::harness::program::Finished;
use crate::harness::server::app_path;
use crate::harness::{Gate, Program, Scratch, Server, process, wait_for, wait_until};

/// A server with a control socket.
struct Controlled {
    scratch: Scratch,
    server: Server,
}

impl Controlled {
    #[track_caller]
    fn serve(app: &str, options: &[&str]) -> Controlled {
        Controlled::serve_module(&app_path(app), options)
    }

    #[track_caller]
    fn serve_module(app: &str, options: &[&str]) -> Controlled {
        let scratch = Scratch::new();
        let socket = scratch.text("ctl");
        let usual = ["--bind", "127.0.0.1:0", "--control-socket", &socket, "--access-logfile", "none"];
        let server = Server::start(Program::new(&[&usual, options, &[app]].concat()));
        Controlled { scratch, server }
    }

    /// `minicorn ctl` with these arguments, to its end.
    #[track_caller]
    fn ctl(&self, arguments: &[&str]) -> Finished {
        ctl(&self.scratch.text("ctl"), arguments)
    }

    /// The same, which succeeds.
    #[track_caller]
    fn told(&self, arguments: &[&str]) -> String {
        self.ctl(arguments).expect_status(0).stdout
    }

    #[track_caller]
    fn status(&self) -> Value {
        serde_json::from_str(&self.told(&["status", "--json"])).expect("JSON")
    }

    /// The one worker that there is.
    fn worker(&self) -> Pid {
        self.server.workers()[0]
    }
}

#[track_caller]
fn ctl(socket: &str, arguments: &[&str]) -> Finished {
    Program::new(&[&["ctl", "-s", socket], arguments].concat()).run()
}

/// One request, and the whole answer.
fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("the control socket");
    stream.write_all(request.as_bytes()).expect("sending");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

// Looking.

#[test]
fn status_tells_of_the_server_and_its_workers() {
    let controlled = Controlled::serve("deployed", &["--workers", "2"]);
    for _ in 0..5 {
        assert_eq!(controlled.server.get("/?a").status, 200);
    }
    wait_until("both workers", || controlled.status()["workers_ready"] == 2);
    let status = controlled.status();
    assert_eq!(status["pid"], controlled.server.master.as_raw());
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["stage"], &status["generation"]), (&"serving".into(), &1.into()));
    assert_eq!(status["listeners"][0], format!("http://{}", controlled.server.addresses[0]));
    let workers = status["workers"].as_array().expect("a list");
    let pids: Vec<i64> = workers.iter().map(|worker| worker["pid"].as_i64().expect("a number")).collect();
    let mut children: Vec<i64> = controlled.server.workers().iter().map(|pid| pid.as_raw().into()).collect();
    children.sort_unstable();
    assert_eq!(pids, children);
    wait_until("the requests to be counted", || {
        let workers = &controlled.status()["workers"];
        workers.as_array().expect("a list").iter().map(|own| own["requests"].as_u64().expect("a number")).sum::<u64>()
            == 5
    });
    assert!(workers.iter().all(|worker| worker["rss"].as_u64() > Some(1 << 20)), "{status}");
    let text = controlled.told(&["status"]);
    assert!(text.contains("2 of 2 workers ready, generation 1\n"), "{text}");
    assert_eq!(text.lines().count(), 7, "{text}");
    controlled.server.stop().expect_status(0);
}

/// The worker is inside a call, and its state says so.
#[test]
fn a_worker_in_a_call_is_busy() {
    let controlled = Controlled::serve("gate", &[]);
    let gate = Gate::new();
    let mut client = controlled.server.connect();
    client.send(gate.request("/before"));
    gate.wait_until_reached();
    let status = controlled.told(&["status"]);
    assert!(status.contains("  busy  "), "{status}");
    gate.open();
    assert_eq!(client.receive().status, 200);
    wait_until("an idle worker", || controlled.told(&["top", "--once"]).contains("  idle  "));
}

#[test]
fn config_is_what_the_server_runs_with() {
    let controlled = Controlled::serve("hello", &["--threads", "3"]);
    let config = controlled.told(&["config"]);
    assert!(config.contains("\nthreads = 3  # command line\n"), "{config}");
    let socket = controlled.scratch.text("ctl");
    let printed = Program::new(&[
        "--print-config",
        "--control-socket",
        &socket,
        "--bind",
        "127.0.0.1:0",
        "--threads",
        "3",
        "--access-logfile",
        "none",
        "tests.apps.hello:app",
    ]);
    let printed = printed.run().expect_status(0).stdout;
    assert!(printed.starts_with(&config), "{printed}");
}

/// A pipe gets frames without escapes, one after the other, until nobody reads.
#[test]
fn top_works_with_a_pipe() {
    let controlled = Controlled::serve("hello", &[]);
    let top = Program::new(&["ctl", "-s", &controlled.scratch.text("ctl"), "top"]).spawn();
    wait_until("a second frame", || top.stdout.count("requests per second") > 0);
    assert!(!top.stdout.text().contains('\x1b'));
    controlled.server.stop().expect_status(0);
    top.wait().expect_status(1).expect_stderr(&["no such socket, so no server runs with it"]);
}

/// With a terminal the frames take each other's place, and it is left as it was.
#[test]
fn top_ends_with_a_key() {
    let controlled = Controlled::serve("hello", &[]);
    let arguments =
        format!("{} ctl -s {} top; stty -a", env!("CARGO_BIN_EXE_minicorn"), controlled.scratch.text("ctl"));
    let (keys, mut pressed) = std::io::pipe().expect("a pipe");
    let terminal = Program::prepare("script", &["-qec", &arguments, "/dev/null"]).stdin(keys).spawn();
    terminal.stdout.wait_for("q: quit");
    pressed.write_all(b"q").expect("a key");
    drop(pressed);
    let finished = terminal.wait().expect_status(0);
    assert!(finished.stdout.contains("\x1b[?25h\x1b[?1049l"), "{}", finished.stdout);
    let words: Vec<&str> = finished.stdout.split_whitespace().collect();
    for flag in ["icanon", "echo", "isig"] {
        assert!(words.contains(&flag), "{flag}: {}", finished.stdout);
    }
}

// Orders.

#[test]
fn workers_come_and_go() {
    let controlled = Controlled::serve("hello", &["--workers", "2"]);
    let count = |number| wait_until("so many workers", || controlled.status()["workers_ready"] == number);
    for (argument, workers) in [("+1", 3), ("-2", 1), ("4", 4)] {
        let told = controlled.told(&["workers", argument]);
        assert!(told.starts_with(&format!("{workers} worker")), "{told}");
        count(workers);
        wait_until("the processes", || controlled.server.workers().len() == workers);
    }
    let max = controlled.status()["workers_max"].as_u64().expect("a number");
    let refused = controlled.ctl(&["workers", &(max + 1).to_string()]).expect_status(1);
    refused.expect_stderr(&[&format!("there is room for {max} until a restart")]);
    controlled.ctl(&["workers", "-4"]).expect_status(1).expect_stderr(&["the last worker stays"]);
    controlled.ctl(&["workers", "many"]).expect_status(1);
    count(4);
    controlled.server.log().wait_for("minicorn ctl: 4 workers from now on");
}

/// It returns when all workers are new.
#[test]
fn reload_waits_for_the_new_generation() {
    let controlled = Controlled::serve("hello", &["--workers", "2"]);
    let former = controlled.server.workers();
    assert_eq!(controlled.told(&["reload"]), "generation 2 serves with 2 workers\n");
    let ready =
        controlled.status()["workers"].as_array().expect("a list").iter().filter(|own| own["state"] == "ready").count();
    assert_eq!(ready, 2);
    wait_until("the old ones to leave", || !controlled.server.workers().iter().any(|own| former.contains(own)));
    assert_eq!(controlled.told(&["reload", "--no-wait"]), "reloading\n");
    wait_until("the third generation", || controlled.status()["reload"]["outcome"] == "serves");
}

#[test]
fn reload_tells_what_went_wrong() {
    let scratch = Scratch::new();
    let conf = scratch.write("conf.py", "");
    scratch.write("app_under_test.py", "from tests.apps.hello import app\n");
    let path = scratch.text("");
    let options = ["-c", &conf, "--pythonpath", &path];
    let controlled = Controlled::serve_module("app_under_test:app", &options);
    scratch.write("app_under_test.py", "no_such_name\n");
    let given_up = controlled.ctl(&["reload"]).expect_status(1);
    given_up.expect_stderr(&["generation 2 is given up", "generation 1 goes on serving"]);
    scratch.write("conf.py", "workers = 'many'\n");
    let refused = controlled.ctl(&["reload"]).expect_status(1);
    refused.expect_stderr(&["not reloaded, all goes on as before:", "workers"]);
    controlled.server.get("/").expect(200, "Hello, world!\n");
    let status = controlled.told(&["status"]);
    assert!(status.contains("generation 1; the last reload was refused: "), "{status}");
}

#[test]
fn recycle_costs_no_request() {
    let controlled = Controlled::serve("deployed", &["--workers", "2"]);
    let load = Load::start(&controlled.server.addresses[0], Mix::USUAL);
    for _ in 0..2 {
        wait_until("both workers", || controlled.status()["workers_ready"] == 2);
        let worker = controlled.worker();
        let told = controlled.told(&["recycle", &worker.to_string()]);
        assert!(told.contains("leaves when its successor is ready"), "{told}");
        wait_until("its end", || !controlled.server.workers().contains(&worker));
    }
    load.wait_for_more(50);
    load.stop().expect_no_close();
    controlled.ctl(&["recycle", "1"]).expect_status(1).expect_stderr(&["there is no worker with the pid 1"]);
}

#[test]
fn stop_lets_requests_finish_and_quick_does_not() {
    let controlled = Controlled::serve("gate", &[]);
    let gate = Gate::new();
    let mut client = controlled.server.connect();
    client.send(gate.request("/before"));
    gate.wait_until_reached();
    assert_eq!(controlled.told(&["stop"]), "stopping 1 worker\n");
    wait_until("the stop", || controlled.status()["stage"] == "stopping");
    controlled.ctl(&["reload"]).expect_status(1).expect_stderr(&["the server is stopping"]);
    gate.open();
    assert_eq!(client.receive().status, 200);
    controlled.server.wait().expect_status(0);

    let controlled = Controlled::serve("gate", &[]);
    let gate = Gate::new();
    let mut client = controlled.server.connect();
    client.send(gate.request("/before"));
    gate.wait_until_reached();
    assert_eq!(controlled.told(&["stop", "--quick"]), "stopping 1 worker\n");
    controlled.server.wait().expect_status(0).expect_stderr(&["minicorn ctl: at once: killing 1 worker"]);
}

#[test]
fn reopen_follows_a_file_that_was_moved() {
    let scratch = Scratch::new();
    let log = scratch.text("error.log");
    let socket = scratch.text("ctl");
    let app = app_path("hello");
    let bind = format!("unix:{}", scratch.text("http"));
    let server = Program::new(&["--bind", &bind, "--error-logfile", &log, "--control-socket", &socket, &app]).spawn();
    wait_until("the server", || fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on")));
    fs::rename(&log, scratch.path("error.log.1")).expect("a file");
    ctl(&socket, &["reopen"]).expect_status(0);
    wait_until("the new file", || fs::read_to_string(&log).is_ok_and(|text| text.contains("log files opened anew")));
    ctl(&socket, &["stop"]).expect_status(0);
    server.wait().expect_status(0);
}

// Stacks.

/// Of a worker that sleeps in a call, which goes on undisturbed.
#[test]
fn stacks_of_a_worker_in_a_call() {
    for options in [&[][..], &["--preload"], &["--threads", "2"]] {
        let controlled = Controlled::serve("gate", options);
        let gate = Gate::new();
        let mut client = controlled.server.connect();
        client.send(gate.request("/before"));
        gate.wait_until_reached();
        let worker =
            controlled.status()["workers"].as_array().expect("a list").iter().find(|own| own["number"] == 1).cloned();
        let worker = worker.expect("a worker")["pid"].to_string();
        for _ in 0..3 {
            let stacks = controlled.told(&["stacks", &worker]);
            assert!(stacks.contains("(most recent call first)"), "{options:?}: {stacks}");
            assert!(stacks.contains("gate.py\", line") && stacks.contains("in wait"), "{options:?}: {stacks}");
        }
        gate.open();
        assert_eq!(client.receive().status, 200);
        controlled.server.stop().expect_status(0);
    }
}

/// Who holds the GIL in C code can be asked as well, and who is not ready yet.
#[test]
fn stacks_of_a_worker_that_does_nothing_else() {
    let scratch = Scratch::new();
    scratch.write("spins_at_import.py", "import re\nre.match('(a+)+$', 'a' * 64 + 'b')\n");
    let socket = scratch.text("ctl");
    let path = scratch.text("");
    let arguments =
        ["--bind", "127.0.0.1:0", "--control-socket", &socket, "--pythonpath", &path, "spins_at_import:app"];
    let server = Program::new(&arguments).spawn();
    let worker = wait_for("a worker", || process::children(server.pid).first().copied());
    let stacks = wait_for("its stacks", || {
        let finished = ctl(&socket, &["stacks", &worker.to_string()]);
        Some(finished.stdout).filter(|stacks| stacks.contains("spins_at_import.py\", line 2"))
    });
    assert!(stacks.contains("in match"), "{stacks}");
    // Idle, it is in no call; all the same it says where its threads are.
    let idle = Controlled::serve("hello", &[]);
    assert!(idle.told(&["stacks", &idle.worker().to_string()]).contains("most recent call first"));
}

/// Nobody waits for it, and another one can be asked meanwhile or after it.
#[test]
fn a_worker_that_is_stopped_tells_no_stacks() {
    let controlled = Controlled::serve("hello", &["--workers", "2", "--timeout", "0"]);
    wait_until("both workers", || controlled.status()["workers_ready"] == 2);
    let [stopped, other] = controlled.server.workers()[..] else { panic!("two workers") };
    process::signal(stopped, Signal::SIGSTOP);
    let asking = Program::new(&["ctl", "-s", &controlled.scratch.text("ctl"), "stacks", &stopped.to_string()]).spawn();
    assert_eq!(controlled.status()["workers_ready"], 2);
    asking.wait().expect_status(1).expect_stderr(&["takes no signals, it may be stopped"]);
    assert!(controlled.told(&["stacks", &other.to_string()]).contains("most recent call first"));
    process::signal(stopped, Signal::SIGCONT);
    controlled.server.stop().expect_status(0);
}

// Who may ask, and how it is found.

#[test]
fn the_socket_is_for_its_owner_and_goes_with_the_server() {
    let controlled = Controlled::serve("hello", &[]);
    let mode = fs::metadata(controlled.scratch.path("ctl")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let Controlled { scratch, server } = controlled;
    server.stop().expect_status(0);
    assert!(!scratch.path("ctl").exists());
    ctl(&scratch.text("ctl"), &["status"])
        .expect_status(1)
        .expect_stderr(&["no such socket, so no server runs with it"]);
    let controlled = Controlled::serve("hello", &["--control-socket-mode", "0660"]);
    let mode = fs::metadata(controlled.scratch.path("ctl")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    process::signal(controlled.server.master, Signal::SIGKILL);
    wait_until("the end", || !process::is_running(controlled.server.master));
    controlled.ctl(&["status"]).expect_status(1).expect_stderr(&["nobody listens there, the server is gone"]);
}

/// As `nc -N` does, which has the end of its input to tell.
#[test]
fn who_sends_no_more_is_answered() {
    let controlled = Controlled::serve("hello", &[]);
    let worker = controlled.worker();
    for (request, expected) in [
        ("{\"command\": \"status\"}\n".to_owned(), "{\"ok\":{\"generation\":1,"),
        (format!("{{\"command\": \"stacks\", \"args\": [\"{worker}\"]}}\n"), "{\"ok\":\""),
    ] {
        let mut stream = UnixStream::connect(controlled.scratch.path("ctl")).expect("the control socket");
        stream.write_all(request.as_bytes()).expect("sending");
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with(expected), "{request}: {answer}");
    }
    controlled.server.stop().expect_status(0);
}

#[test]
fn it_can_be_turned_off() {
    let controlled = Controlled::serve("hello", &["--no-control-socket"]);
    controlled.ctl(&["status"]).expect_status(1).expect_stderr(&["there is no such socket"]);
    controlled.server.stop().expect_status(0);
}

#[test]
fn the_socket_is_found() {
    let controlled = Controlled::serve("hello", &[]);
    let socket = controlled.scratch.text("ctl");
    let elsewhere = Scratch::new();
    let ctl = || Program::new(&["ctl", "status"]).directory(elsewhere.path(""));
    ctl().run().expect_status(2).expect_stderr(&["--control-socket PATH", "-s PATH", "$MINICORN_CONTROL_SOCKET"]);
    ctl().env("MINICORN_CONTROL_SOCKET", &socket).run().expect_status(0);
    elsewhere.write("pyproject.toml", &format!("[tool.minicorn]\ncontrol-socket = '{socket}'\n"));
    ctl().run().expect_status(0);
    elsewhere.write("minicorn.toml", "control_socket = 'nowhere'\n");
    ctl().run().expect_status(1).expect_stderr(&["nowhere: there is no such socket"]);
}

#[test]
fn usage() {
    for arguments in [&["ctl"][..], &["ctl", "dance"], &["ctl", "recycle"], &["ctl", "recycle", "x"]] {
        Program::new(arguments).run().expect_status(2);
    }
    let help = Program::new(&["ctl", "--help"]).run().expect_status(0).stdout;
    assert!(help.contains("recycle") && help.contains("MINICORN_CONTROL_SOCKET"), "{help}");
}

/// An application of that name is within reach.
#[test]
fn a_module_named_ctl_is_served() {
    let scratch = Scratch::new();
    scratch.write("ctl.py", "from tests.apps.hello import app as application, app\n");
    let path = scratch.text("");
    for app in [&["ctl:app"][..], &["--", "ctl"]] {
        let server = Server::start(Program::new(&[&["--bind", "127.0.0.1:0", "--pythonpath", &path], app].concat()));
        server.get("/").expect(200, "Hello, world!\n");
    }
}

// Strangers.

/// Whatever comes, the master answers or ends the visit, and goes on.
#[test]
fn strange_requests() {
    let controlled = Controlled::serve("hello", &[]);
    let socket = controlled.scratch.path("ctl");
    for request in ["\n", "GET / HTTP/1.1\r\n\r\n", "{}\n", "{\"command\": \"status\", \"args\": 1}\n"] {
        assert!(ask(&socket, request).starts_with("{\"error\":"), "{request:?}");
    }
    assert!(ask(&socket, "{\"command\": \"status\"}\n").starts_with("{\"ok\":"));
    // Who says nothing, or not all, costs no more than a descriptor for a while.
    let silent: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(&socket).expect("the control socket")).collect();
    (&silent[0]).write_all(b"{\"command\"").expect("sending");
    assert_eq!(controlled.status()["stage"], "serving");
    controlled.server.get("/").expect(200, "Hello, world!\n");
}
