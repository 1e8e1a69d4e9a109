//! What `ps` shows: the titles of the processes.

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::{Held, Program, ROOT, Scratch, Server, process, serve, virtual_environment, wait_until};

/// As `ps` shows it: without the NULs behind it.
fn title(pid: Pid) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

#[track_caller]
fn wait_for_title(pid: Pid, wanted: &str) {
    wait_until(&format!("the title {wanted:?}"), || title(pid) == wanted);
}

#[test]
fn who_is_who() {
    let server = serve("hello", &["--workers", "2"]);
    wait_for_title(server.master, "minicorn: master [tests.apps.hello:app]");
    let workers = server.workers();
    for number in 1..=2 {
        let wanted = format!("minicorn: worker {number} [idle] tests.apps.hello:app");
        wait_until(&wanted, || workers.iter().any(|&worker| title(worker) == wanted));
    }
}

#[test]
fn the_name_that_is_asked_for() {
    let server = serve("hello", &["--proc-name", "shop (blue) ü"]);
    wait_for_title(server.master, "minicorn: master [shop (blue) ü]");
    wait_for_title(server.workers()[0], "minicorn: worker 1 [idle] shop (blue) ü");
    // By which `pkill minicorn` finds them.
    for pid in [server.master, server.workers()[0]] {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
        assert_eq!(comm, "minicorn\n");
    }
}

#[test]
fn what_a_worker_does() {
    for options in [&["-n", "shop"][..], &["-n", "shop", "--threads", "2"], &["-n", "shop", "--no-passing"]] {
        let server = serve("gate", options);
        let worker = server.workers()[0];
        wait_for_title(worker, "minicorn: worker 1 [idle] shop");
        let held = Held::at(&server, "/before");
        let other = (options.len() == 2 || options[2] != "--threads").then(|| title(worker));
        assert_ne!(other.as_deref(), Some("minicorn: worker 1 [idle] shop"));
        held.finish();
        wait_for_title(worker, "minicorn: worker 1 [idle] shop");
        let held = Held::at(&server, "/before");
        server.signal(Signal::SIGTERM);
        wait_for_title(worker, "minicorn: worker 1 [draining] shop");
        held.finish();
        server.wait().expect_status(0);
    }
}

#[test]
fn a_worker_that_starts() {
    let scratch = Scratch::new();
    let (entered, release) = (scratch.text("entered"), scratch.text("release"));
    let code = format!(
        "from tests.apps.gate import app, wait\nwait({{'entered': ['{entered}'], 'release': ['{release}']}})\n"
    );
    scratch.write("slow.py", &code);
    let program =
        Program::new(&["--bind", "127.0.0.1:0", "--pythonpath", ROOT, "slow:app"]).directory(scratch.path(""));
    let mut running = program.spawn();
    wait_until("the import", || {
        assert!(!running.has_ended());
        scratch.path("entered").exists()
    });
    let worker = process::children(running.pid)[0];
    assert_eq!(title(worker), "minicorn: worker 1 [starting] slow:app");
    scratch.write("release", "");
    wait_for_title(worker, "minicorn: worker 1 [idle] slow:app");
}

/// A replacement has the number of the one that it replaces.
#[test]
fn a_worker_that_follows_another() {
    let server = serve("hello", &["-n", "shop"]);
    let first = server.workers()[0];
    process::signal(first, Signal::SIGKILL);
    wait_until("another worker", || server.workers().iter().any(|&worker| worker != first));
    wait_for_title(server.workers()[0], "minicorn: worker 1 [idle] shop");
}

#[test]
fn a_title_that_is_longer_than_the_command_line() {
    let name = "n".repeat(3000);
    let server = serve("hello", &["-n", &name]);
    wait_for_title(server.master, &format!("minicorn: master [{name}]"));
    wait_for_title(server.workers()[0], &format!("minicorn: worker 1 [idle] {name}"));
}

/// The environment is as it was: for Python, for what the application starts, and for the loader, which looks for libraries
/// where it was told to at the start.
#[test]
fn the_environment_stays() {
    let scratch = Scratch::new();
    let python = virtual_environment().join("bin/python");
    let ask = "import _json, sysconfig; print(_json.__file__); print(sysconfig.get_config_var('LIBDIR'))";
    let told = std::process::Command::new(python).args(["-c", ask]).output().expect("python runs").stdout;
    let told = String::from_utf8(told).expect("UTF-8");
    let [library, folder] = told.lines().collect::<Vec<_>>()[..] else { panic!("{told}") };
    std::fs::copy(library, scratch.path("libonlyhere.so")).expect("a library");
    let long = "v".repeat(5000);
    let program = Program::new(&["--bind", "127.0.0.1:0", "tests.apps.title:app"])
        .env("FIRST", "1 = one")
        .env("LONG", &long)
        .env("LD_LIBRARY_PATH", format!("{}:{folder}", scratch.text("")));
    let server = Server::start(program);
    let body = server.get("/?library=libonlyhere.so").expect_status(200).body;
    let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(answer["title"], "minicorn: worker 1 [busy] tests.apps.title:app");
    assert_eq!(answer["environ"]["FIRST"], "1 = one");
    assert_eq!(answer["environ"]["LONG"], long);
    let child = answer["child"].as_array().expect("a list");
    for wanted in ["FIRST=1 = one".to_owned(), format!("LONG={long}")] {
        assert!(child.iter().any(|variable| *variable == wanted), "{wanted} is not in {child:?}");
    }
}

/// There is room for the command line and no more: the title is cut.
#[test]
fn without_an_environment_the_title_is_cut() {
    // A bare program finds the installation that it was built for, without its packages.
    let program = Program::prepare(
        "env",
        &["-i", env!("CARGO_BIN_EXE_minicorn"), "--bind=127.0.0.1:0", "tests.apps.hello:app", "-nname-of-the-server"],
    );
    let server = Server::start(program.without_env("VIRTUAL_ENV"));
    let room: usize =
        [env!("CARGO_BIN_EXE_minicorn"), "--bind=127.0.0.1:0", "tests.apps.hello:app", "-nname-of-the-server"]
            .iter()
            .map(|argument| argument.len() + 1)
            .sum();
    let whole = format!("minicorn: master [{}]", "name-of-the-server");
    wait_for_title(server.master, &whole[..whole.len().min(room - 1)]);
    server.get("/").expect(200, "Hello, world!\n");
}
