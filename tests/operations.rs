//! What an operator does to a server that runs: reload it, change the number of its workers, recycle them, stop it.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::{Address, Client, Program, Scratch, Server, Tmpfs, process, serve, wait_for, wait_until};

/// An application in a directory of its own, which answers with a word.
struct Deployed {
    scratch: Scratch,
}

impl Deployed {
    fn new(word: &str) -> Deployed {
        let deployed = Deployed { scratch: Scratch::new() };
        deployed.deploy(word);
        deployed
    }

    fn deploy(&self, word: &str) {
        self.write(&app(word));
    }

    /// Python takes a compiled file for current by its length and its second.
    fn write(&self, code: &str) {
        let _ = std::fs::remove_dir_all(self.scratch.path("__pycache__"));
        self.scratch.write("deployed.py", code);
    }

    fn serve(&self, options: &[&str]) -> Server {
        let folder = self.scratch.text("");
        let arguments = [&["--bind", "127.0.0.1:0", "--chdir", &folder], options, &["deployed:app"]].concat();
        Server::start(Program::new(&arguments))
    }
}

fn app(word: &str) -> String {
    format!(
        "def app(environ, start_response):\n    start_response('200 OK', [('Content-Type', 'text/plain')])\n    \
         return [b'{word}']\n"
    )
}

#[track_caller]
fn wait_for_workers(server: &Server, count: usize) -> Vec<Pid> {
    wait_for("the workers", || Some(server.workers()).filter(|workers| workers.len() == count))
}

// Reload.

#[test]
fn a_reload_takes_the_new_code_in_all_workers() {
    let deployed = Deployed::new("old");
    let server = deployed.serve(&["--workers", "2"]);
    let before = wait_for_workers(&server, 2);
    server.get("/").expect(200, "old");
    deployed.deploy("new code");
    server.signal(Signal::SIGHUP);
    server.log().wait_for("reloaded: generation 2 serves with 2 workers");
    for _ in 0..10 {
        server.get("/").expect(200, "new code");
    }
    wait_until("the old workers to leave", || !before.iter().any(|&worker| process::is_running(worker)));
    assert_eq!(server.workers().len(), 2);
    server.stop().expect_status(0);
}

#[test]
fn broken_code_changes_nothing_and_is_told_once_for_each_try() {
    let deployed = Deployed::new("old");
    let server = deployed.serve(&["--workers", "2", "--log-level", "debug"]);
    // Both have imported it.
    wait_until("both workers to be ready", || server.log().count(") ready") == 2);
    let before = wait_for_workers(&server, 2);
    for count in 1..=2 {
        deployed.write("def app(environ, start_response:\n");
        server.signal(Signal::SIGHUP);
        wait_until("the generation to be given up", || server.log().count("is given up") == count);
        assert_eq!(server.log().count("SyntaxError"), count, "the traceback");
        server.get("/").expect(200, "old");
        assert_eq!(server.workers(), before);
    }
    deployed.deploy("mended");
    server.signal(Signal::SIGHUP);
    server.log().wait_for("reloaded: generation 4 serves");
    server.get("/").expect(200, "mended");
}

/// The directory of `--tmp-upload-dir` is looked for when the settings are read.
#[test]
fn a_broken_configuration_changes_nothing() {
    let scratch = Scratch::new();
    let folder = scratch.path("uploads");
    std::fs::create_dir(&folder).expect("a directory");
    let server = serve("hello", &["--tmp-upload-dir", folder.to_str().expect("a UTF-8 path")]);
    let before = server.workers();
    std::fs::remove_dir(&folder).expect("it is empty");
    server.signal(Signal::SIGHUP);
    server.log().wait_for("SIGHUP: not reloaded, all goes on as before: ");
    server.log().wait_for("--tmp-upload-dir");
    server.get("/").expect_status(200);
    assert_eq!(server.workers(), before);
    std::fs::create_dir(&folder).expect("a directory");
    server.signal(Signal::SIGHUP);
    server.log().wait_for("reloaded: generation 2 serves");
}

/// Deployments that exchange a symbolic link and send HUP.
#[test]
fn a_reload_finds_the_directory_behind_a_link_anew() {
    for is_working_directory in [false, true] {
        let (old, new, scratch) = (Deployed::new("old"), Deployed::new("new"), Scratch::new());
        let current = scratch.path("current");
        symlink(old.scratch.path(""), &current).expect("a link");
        let folder = current.to_str().expect("a UTF-8 path");
        let server = if is_working_directory {
            // As a shell starts it, which says by which name it is there.
            Server::start(
                Program::new(&["--bind", "127.0.0.1:0", "deployed:app"]).directory(&current).env("PWD", &current),
            )
        } else {
            Server::start(Program::new(&["--bind", "127.0.0.1:0", "--chdir", folder, "deployed:app"]))
        };
        server.get("/").expect(200, "old");
        std::fs::remove_file(&current).expect("the link");
        symlink(new.scratch.path(""), &current).expect("a link");
        server.signal(Signal::SIGHUP);
        server.log().wait_for("reloaded: generation 2 serves");
        server.get("/").expect(200, "new");
    }
}

/// Releases are removed some time, also the one that the server was started in.
#[test]
fn a_reload_does_not_need_the_directory_of_the_start() {
    let (deployed, scratch) = (Deployed::new("old"), Scratch::new());
    std::fs::create_dir(scratch.path("start")).expect("a directory");
    let folder = deployed.scratch.text("");
    let program = Program::new(&["--bind", "127.0.0.1:0", "--chdir", &folder, "deployed:app"]);
    let server = Server::start(program.directory(scratch.path("start")));
    std::fs::remove_dir(scratch.path("start")).expect("it is empty");
    deployed.deploy("new code");
    server.signal(Signal::SIGHUP);
    server.log().wait_for("reloaded: generation 2 serves");
    server.get("/").expect(200, "new code");
}

/// The workers that come later are those of the old generation, and belong where that was.
#[test]
fn a_worker_of_the_old_generation_starts_in_its_own_directory() {
    for options in [&[][..], &["--preload"]] {
        let (old, new, scratch) = (Deployed::new("old"), Deployed::new("new"), Scratch::new());
        let current = scratch.path("current");
        symlink(old.scratch.path(""), &current).expect("a link");
        let folder = scratch.text("current");
        let arguments = [&["--bind", "127.0.0.1:0", "--chdir", &folder], options, &["deployed:app"]].concat();
        let server = Server::start(Program::new(&arguments));
        new.write("raise LookupError('not configured')\n");
        std::fs::remove_file(&current).expect("the link");
        symlink(new.scratch.path(""), &current).expect("a link");
        server.signal(Signal::SIGHUP);
        server.log().wait_for("generation 1 goes on serving");
        // With --preload the template, too.
        let before = server.workers();
        before.iter().for_each(|&child| process::signal(child, Signal::SIGKILL));
        wait_until("the end of all children", || !before.iter().any(|&child| process::is_running(child)));
        server.get("/").expect(200, "old");
    }
}

/// A deployment may send HUP right behind the start: what was imported by then may be the old code.
#[test]
fn a_reload_that_is_asked_for_too_early_is_done_when_the_first_worker_is_ready() {
    let deployed = Deployed::new("x");
    let release = deployed.scratch.text("release");
    let gate = format!("import os, time\nwhile not os.path.exists({release:?}):\n    time.sleep(0.005)\n");
    deployed.write(&(gate + &app("old")));
    let folder = deployed.scratch.text("");
    let arguments = ["--bind", "127.0.0.1:0", "--chdir", &folder, "--log-level", "debug", "deployed:app"];
    let running = Program::new(&arguments).spawn();
    running.stderr.wait_for("forked");
    nix::sys::signal::kill(running.pid, Signal::SIGHUP).expect("a server to reload");
    deployed.scratch.write("release", "");
    running.stderr.wait_for("reloaded: generation 2 serves");
}

#[test]
fn a_request_of_long_ago_does_not_hold_up_a_reload() {
    let scratch = Scratch::new();
    let server = serve("gate", &["--workers", "2"]);
    let mut client = server.connect();
    let (entered, release) = (scratch.text("entered"), scratch.text("release"));
    client.send(format!("GET /before?entered={entered}&release={release} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_until("the request to enter the app", || scratch.path("entered").exists());
    server.signal(Signal::SIGHUP);
    server.log().wait_for("reloaded: generation 2 serves");
    scratch.write("release", "");
    client.receive().expect_status(200);
    wait_until("the old worker to leave", || server.workers().len() == 2);
}

// More and fewer workers.

#[test]
fn ttin_and_ttou_change_the_number_of_workers() {
    let server = serve("hello", &["--workers", "2"]);
    wait_for_workers(&server, 2);
    server.signal(Signal::SIGTTIN);
    wait_for_workers(&server, 3);
    for left in [2, 1] {
        server.signal(Signal::SIGTTOU);
        wait_for_workers(&server, left);
    }
    server.signal(Signal::SIGTTOU);
    server.log().wait_for("the last worker stays");
    server.get("/").expect_status(200);
    assert_eq!(server.workers().len(), 1);
}

#[test]
fn the_workers_that_come_with_ttin_serve() {
    let scratch = Scratch::new();
    let server = serve("gate", &[]);
    let (entered, release) = (scratch.text("entered"), scratch.text("release"));
    let mut held = server.connect();
    held.send(format!("GET /before?entered={entered}&release={release} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_until("the only worker to be busy", || scratch.path("entered").exists());
    let mut waiting = server.connect();
    waiting.send(format!("GET /after?release={release} HTTP/1.1\r\nHost: a\r\n\r\n"));
    server.signal(Signal::SIGTTIN);
    scratch.write("release", "");
    waiting.receive().expect(200, "whole");
    held.receive().expect_status(200);
}

#[test]
fn a_terminal_that_changes_its_size_changes_nothing() {
    let server = serve("hello", &["--workers", "2"]);
    let before = wait_for_workers(&server, 2);
    server.signal(Signal::SIGWINCH);
    server.signal(Signal::SIGTTIN);
    server.log().wait_for("3 workers from now on");
    assert!(before.iter().all(|worker| server.workers().contains(worker)));
    assert_eq!(server.log().count("SIGWINCH"), 0);
}

// Recycling.

/// Answers with the process that served it.
fn pid_of_answer(client: &mut Client) -> String {
    String::from_utf8(client.get("/pid?release=/").expect_status(200).body).expect("a number")
}

#[test]
fn a_worker_is_replaced_after_so_many_requests_and_its_clients_stay() {
    let server = serve("stuck", &["--max-requests", "20", "--max-requests-jitter", "5"]);
    let mut client = server.connect();
    let first = pid_of_answer(&mut client);
    let mut count = 1;
    // The same connection all the time.
    wait_until("another worker to answer", || {
        count += 1;
        pid_of_answer(&mut client) != first
    });
    assert!(count > 20, "after {count} requests");
    assert!(server.log().count("has answered --max-requests: starting its successor") >= 1);
}

#[test]
fn a_worker_is_replaced_after_its_lifetime() {
    let server = serve("stuck", &["--max-worker-lifetime", "1"]);
    let mut client = server.connect();
    let first = pid_of_answer(&mut client);
    let start = Instant::now();
    wait_until("another worker to answer", || pid_of_answer(&mut client) != first);
    assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
    server.log().wait_for("has served for 1 s: starting its successor");
}

#[test]
fn a_worker_that_has_grown_is_replaced() {
    let deployed = Deployed::new("x");
    let grow = "import os\nkept = []\ndef app(environ, start_response):\n    if environ['PATH_INFO'] == '/grow':\n        \
                kept.append(b'x' * (128 << 20))\n    start_response('200 OK', [('Content-Type', 'text/plain')])\n    \
                return [str(os.getpid()).encode()]\n";
    deployed.write(grow);
    let server = deployed.serve(&["--max-worker-rss", "100M"]);
    let mut client = server.connect();
    let first = client.get("/").body;
    client.get("/grow").expect_status(200);
    wait_until("another worker to answer", || client.get("/").body != first);
    server.log().wait_for("MiB in RAM, of 100.0: starting its successor");
}

// Stopping.

#[test]
fn a_delayed_stop_goes_on_serving_new_clients_until_it_is_time() {
    let server = serve("hello", &["--shutdown-delay", "1"]);
    let start = Instant::now();
    server.signal(Signal::SIGTERM);
    server.log().wait_for("SIGTERM: serving for 1 s more");
    server.get("/").expect(200, "Hello, world!\n");
    server.wait().expect_status(0);
    assert!(start.elapsed() > Duration::from_secs(1));
}

#[test]
fn a_second_signal_ends_the_delay() {
    let server = serve("hello", &["--shutdown-delay", "3600"]);
    server.signal(Signal::SIGTERM);
    server.log().wait_for("serving for 3600 s more");
    let log = server.log().clone();
    wait_until("the stop", || {
        if process::is_running(server.master) {
            server.signal(Signal::SIGTERM);
        }
        log.count("stopping") > 0
    });
}

/// An import may take its time, and has no request.
#[test]
fn a_stop_does_not_wait_for_an_import() {
    let deployed = Deployed::new("x");
    deployed.write("import time\ntime.sleep(30)\n");
    let folder = deployed.scratch.text("");
    let running =
        Program::new(&["--bind", "127.0.0.1:0", "--chdir", &folder, "--log-level", "debug", "deployed:app"]).spawn();
    running.stderr.wait_for("forked");
    let start = Instant::now();
    nix::sys::signal::kill(running.pid, Signal::SIGTERM).expect("a server to stop");
    running.wait().expect_status(0);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

// When the machine is full.

/// An ordinary user, whose processes can be limited.
fn somebody() -> String {
    (200_000 + std::process::id()).to_string()
}

/// The right to read is left to that user, since the Python of this machine may be anywhere.
fn serve_as_somebody(app: &str, options: &[&str]) -> Server {
    let user = somebody();
    let user = ["--reuid", &user, "--regid", &user, "--clear-groups"];
    let rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"];
    let wrapper = [&["setpriv"][..], &user, &rights].concat();
    Server::start(Program::under(&wrapper, &[&["--bind", "127.0.0.1:0"], options, &[app]].concat()))
}

/// As that user too: nobody else may without further rights.
fn limit_processes(pid: Pid, count: u32) {
    let (user, pid) = (somebody(), pid.to_string());
    // The soft limit alone: the other one could not be raised again.
    let limit = format!("--nproc={count}:");
    let command = ["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit", "--pid", &pid, &limit];
    Program::prepare("setpriv", &command).run().expect_status(0);
}

#[test]
fn a_full_process_table_is_told_and_tried_again_while_the_others_serve() {
    let server = serve_as_somebody("tests.apps.hello:app", &["--workers", "2"]);
    let workers = wait_for_workers(&server, 2);
    limit_processes(server.master, 1);
    process::signal(workers[0], Signal::SIGKILL);
    server.log().wait_for("worker 1 could not be forked: Resource temporarily unavailable");
    wait_until("another try", || server.log().count("could not be forked") > 1);
    server.get("/").expect_status(200);
    limit_processes(server.master, 4096);
    wait_for_workers(&server, 2);
}

/// Neither the log nor a temporary file can be written, and a worker is replaced all the same.
#[test]
fn a_full_disk_does_not_end_the_server() {
    let disk = Tmpfs::mount();
    let log = disk.path().join("error.log");
    let options = ["--error-logfile", log.to_str().expect("UTF-8"), "--tmp-upload-dir", disk.text(), "--workers", "2"];
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = probe.local_addr().expect("its number");
    drop(probe);
    let bind = address.to_string();
    let program = Program::new(&[&["--bind", &bind][..], &options, &["tests.apps.hello:app"]].concat());
    let server = Server::start_at(program, Address::Tcp(address));
    let workers = wait_for_workers(&server, 2);
    // Before anybody is ready, the end of one would be that of the server.
    server.get("/").expect_status(200);
    assert!(std::fs::write(disk.path().join("filler"), vec![0; 2 << 20]).is_err(), "it has room for two megabytes");
    for worker in workers {
        process::signal(worker, Signal::SIGKILL);
        wait_until("another worker", || server.workers().len() == 2 && !server.workers().contains(&worker));
    }
    server.get("/").expect_status(200);
    let before = server.workers();
    server.signal(Signal::SIGHUP);
    wait_until("the reload", || {
        server.workers().len() == 2 && !server.workers().iter().any(|pid| before.contains(pid))
    });
    server.get("/").expect_status(200);
}
