//! Log files: moved away while the server runs (SIGUSR1), opened by workers of another user, written to by a crash.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::server::app_path;
use crate::harness::{Address, Program, Scratch, Server, SetAtEnd, process, serve, wait_for, wait_until};
use crate::process::serve_as;

/// The options for logs in this directory.
fn log_options(scratch: &Scratch) -> [String; 4] {
    ["--error-logfile", &scratch.text("error"), "--access-logfile", &scratch.text("access")].map(str::to_owned)
}

/// A server that logs into this directory. Its start line, which says where it listens, is there too.
#[track_caller]
fn serve_with_logs(scratch: &Scratch, app: &str, options: &[&str]) -> Server {
    let (app, bind) = (app_path(app), format!("unix:{}", scratch.text("socket")));
    let logs = log_options(scratch);
    let logs: Vec<&str> = logs.iter().map(String::as_str).collect();
    let arguments = [&["--bind", &bind], &logs[..], options, &[&app]].concat();
    let address = Address::Unix(scratch.path("socket"));
    let server = Server::start_at(Program::new(&arguments), address);
    wait_until("the start line", || text(&scratch.path("error")).contains("listening on"));
    server
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The files that a process has open.
fn open_files(pid: Pid) -> Vec<PathBuf> {
    // A process or a descriptor may go meanwhile.
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
}

/// Moves the logs away, asks for new ones, and waits until nobody has the old ones any more.
#[track_caller]
fn rotate(server: &Server, scratch: &Scratch, name: &str) {
    for log in ["error", "access"] {
        fs::rename(scratch.path(log), scratch.path(&format!("{log}.{name}"))).expect("the log is there");
    }
    server.signal(Signal::SIGUSR1);
    let is_let_go = |pid| !open_files(pid).iter().any(|file| file.to_string_lossy().ends_with(name));
    let all = || server.workers().into_iter().chain([server.master]);
    wait_until("the old logs to be let go of", || all().all(is_let_go));
}

/// No line is lost, none comes twice, and none goes to the old files when the new ones are open.
#[test]
fn logs_are_rotated_under_load() {
    const ROTATIONS: usize = 5;
    let scratch = Scratch::new();
    let server = serve_with_logs(&scratch, "logs_path", &["--workers", "2"]);
    wait_for("the workers", || Some(server.workers()).filter(|workers| workers.len() == 2));
    let is_over = AtomicBool::new(false);
    let ask = |thread: usize| {
        let mut client = server.connect();
        let mut count = 0;
        while !is_over.load(Ordering::Relaxed) {
            assert_eq!(client.get(&format!("/request-{thread}-{count}-")).status, 200);
            count += 1;
        }
        count
    };
    let (asked, sizes): (Vec<usize>, Vec<Vec<u64>>) = std::thread::scope(|scope| {
        let _end = SetAtEnd(&is_over);
        let clients: Vec<_> = (0..4).map(|thread| scope.spawn(move || ask(thread))).collect();
        let rotate = |number: usize| {
            rotate(&server, &scratch, &format!("old{number}"));
            let size =
                |log: &str| fs::metadata(scratch.path(&format!("{log}.old{number}"))).expect("the old log").len();
            let sizes = ["error", "access"].map(size).to_vec();
            // So that there would be something to go to the wrong file.
            wait_until("new lines", || text(&scratch.path("access")).lines().count() > 100);
            sizes
        };
        let sizes = (0..ROTATIONS).map(rotate).collect();
        is_over.store(true, Ordering::Relaxed);
        (clients.into_iter().map(|client| client.join().expect("answers")).collect(), sizes)
    });
    server.stop().expect_status(0);
    for (number, sizes) in sizes.iter().enumerate() {
        for (log, &size) in ["error", "access"].iter().zip(sizes) {
            let now = fs::metadata(scratch.path(&format!("{log}.old{number}"))).expect("the old log").len();
            assert_eq!(now, size, "{log}.old{number} was written to after it had been let go of");
        }
    }
    for (log, marker) in [("access", "GET /request-"), ("error", "asked for /request-")] {
        let names = (0..ROTATIONS).map(|number| format!("{log}.old{number}")).chain([log.to_owned()]);
        let all: String = names.map(|name| text(&scratch.path(&name))).collect();
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (place, _) in all.match_indices(marker) {
            let rest = &all[place + marker.len()..];
            *seen.entry(&rest[..rest.match_indices('-').nth(1).expect("two numbers").0]).or_default() += 1;
        }
        assert_eq!(seen.len(), asked.iter().sum::<usize>(), "lines of the {log} log");
        assert!(seen.values().all(|&count| count == 1), "a line of the {log} log came twice");
    }
}

/// The standby does it meanwhile.
#[test]
fn a_worker_in_a_long_call_opens_its_logs_anew() {
    let scratch = Scratch::new();
    let server = serve_with_logs(&scratch, "gate", &[]);
    let mut client = server.connect();
    let (entered, release) = (scratch.text("entered"), scratch.text("release"));
    client.send(format!("GET /before?entered={entered}&release={release} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_until("the request to enter the app", || scratch.path("entered").exists());
    rotate(&server, &scratch, "old");
    scratch.write("release", "");
    assert_eq!(client.receive().status, 200);
    server.stop().expect_status(0);
    assert!(text(&scratch.path("access")).contains("GET /before"));
    assert_eq!(text(&scratch.path("access.old")), "");
}

/// A worker that comes after it has the new files from the master.
#[test]
fn later_workers_have_the_new_logs() {
    let scratch = Scratch::new();
    let server = serve_with_logs(&scratch, "crash", &[]);
    let worker = server.workers()[0];
    rotate(&server, &scratch, "old");
    process::signal(worker, Signal::SIGKILL);
    let next = wait_for("another worker", || server.workers().into_iter().find(|&pid| pid != worker));
    server.get("/after").expect(200, &next.to_string());
    server.stop().expect_status(0);
    assert!(text(&scratch.path("access")).contains("GET /after"));
    assert!(text(&scratch.path("error")).contains("SIGKILL"));
    assert!(!text(&scratch.path("error.old")).contains("SIGKILL"));
}

/// A template would keep the old ones from being deleted for as long as it lives, and give them to later workers.
#[test]
fn a_template_opens_its_logs_anew() {
    let scratch = Scratch::new();
    let server = serve_with_logs(&scratch, "crash", &["--preload"]);
    for name in ["old1", "old2"] {
        wait_until("template and worker", || server.workers().len() == 2);
        rotate(&server, &scratch, name);
        // It is not told by each signal that it does not heed.
        for child in server.workers() {
            process::signal(child, Signal::SIGHUP);
        }
    }
    server.stop().expect_status(0);
}

#[test]
fn a_log_that_cannot_be_opened_anew_goes_on() {
    let scratch = Scratch::new();
    let server = serve_with_logs(&scratch, "hello", &[]);
    for log in ["error", "access"] {
        fs::rename(scratch.path(log), scratch.path(&format!("{log}.old"))).expect("the log is there");
        fs::create_dir(scratch.path(log)).expect("its name is free");
    }
    server.signal(Signal::SIGUSR1);
    let error_log = || text(&scratch.path("error.old"));
    for log in ["error", "access"] {
        let master = format!("it goes on in its old file: {log} log {}: Is a directory", scratch.text(log));
        wait_until("the master to say so", || error_log().contains(&master));
    }
    wait_until("the worker to say so", || error_log().contains("logs go on in their old files"));
    server.get("/after").expect(200, "Hello, world!\n");
    server.stop().expect_status(0);
    assert!(text(&scratch.path("access.old")).contains("GET /after"));
}

// Workers of another user.

/// The files are the workers' own, so that they can open them where only root can make new ones.
#[test]
fn workers_of_another_user_open_their_logs_anew() {
    let (scratch, hold) = (Scratch::new(), Scratch::new());
    let logs = log_options(&scratch);
    let options = [&["--user", "nobody", "--access-logfile", &logs[3]][..]].concat();
    let server = serve_as(&hold, &options, "hello");
    fs::rename(scratch.path("access"), scratch.path("access.old")).expect("the log is there");
    server.signal(Signal::SIGUSR1);
    let worker = server.workers()[0];
    wait_until("the new log", || open_files(worker).contains(&scratch.path("access")));
    let owner = || fs::metadata(scratch.path("access")).map(|found| (found.uid(), found.gid())).expect("the new log");
    assert_eq!(owner(), (65534, 65534));
    // As logrotate makes it with `create 0640 nobody adm`.
    fs::rename(scratch.path("access"), scratch.path("access.older")).expect("the log is there");
    chown(scratch.write("access", ""), Some(65534), Some(4)).expect("we are root");
    server.signal(Signal::SIGUSR1);
    wait_until("the new log", || !open_files(worker).contains(&scratch.path("access.older")));
    assert_eq!(owner(), (65534, 4));
    server.get("/after");
    server.stop().expect_status(0).expect_stderr(&["log files opened anew"]);
    assert!(text(&scratch.path("access")).contains("GET /after"));
}

#[test]
fn who_may_not_open_the_log_anew_keeps_the_old_one_and_says_so_once() {
    let (scratch, hold) = (Scratch::new(), Scratch::new());
    fs::create_dir(scratch.path("closed")).expect("a directory");
    fs::set_permissions(scratch.path("closed"), fs::Permissions::from_mode(0o700)).expect("it is ours");
    let log = scratch.text("closed/access");
    let server = serve_as(&hold, &["--user", "nobody", "--access-logfile", &log], "hello");
    fs::rename(&log, scratch.path("closed/access.old")).expect("the log is there");
    let sentence = format!("logs go on in their old files: access log {log}: Permission denied");
    server.signal(Signal::SIGUSR1);
    server.log().wait_for(&sentence);
    server.signal(Signal::SIGUSR1);
    wait_until("the second time", || server.log().count("log files opened anew") == 2);
    server.get("/after").expect(200, "Hello, world!\n");
    let finished = server.stop().expect_status(0);
    assert_eq!(finished.count(&sentence), 1, "{}", finished.stderr);
    assert!(text(&scratch.path("closed/access.old")).contains("GET /after"));
}

// Crashes.

/// Where the operator looks is where Python says what it was doing; after a rotation that is the new file.
#[test]
fn the_stack_of_a_crash_is_in_the_error_log() {
    let scratch = Scratch::new();
    let server = serve_with_logs(&scratch, "crash", &[]);
    let crash = || {
        let mut client = server.connect();
        client.send("GET /segfault HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.status_or_end(), None);
        wait_until("the end of the worker", || text(&scratch.path("error")).contains("SIGSEGV"));
        text(&scratch.path("error"))
    };
    for log in [crash(), {
        rotate(&server, &scratch, "old");
        crash()
    }] {
        for line in ["Fatal Python error: Segmentation fault", "crash.py\", line", "in app"] {
            assert!(log.contains(line), "{line:?} is not in:\n{log}");
        }
    }
    let finished = server.stop().expect_status(0);
    assert_eq!(finished.stderr, "");
}

/// The same when the log is standard error.
#[test]
fn the_stack_of_a_crash_is_on_standard_error() {
    let server = serve("crash", &[]);
    let mut client = server.connect();
    client.send("GET /segfault HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.status_or_end(), None);
    server.log().wait_for("SIGSEGV");
    server.stop().expect_status(0).expect_stderr(&["Fatal Python error: Segmentation fault", "crash.py\", line"]);
}

#[test]
fn the_stack_of_an_import_that_hangs_is_in_the_error_log() {
    let scratch = Scratch::new();
    let logs = log_options(&scratch);
    let arguments =
        ["--bind", "127.0.0.1:0", "--boot-timeout", "1", &logs[0], &logs[1], "tests.apps.hangs_at_import:app"];
    let _running = Program::new(&arguments).spawn();
    wait_until("the stack", || text(&scratch.path("error")).contains("in wait_for_nobody"));
    assert!(text(&scratch.path("error")).contains("Fatal Python error: Aborted"));
}
