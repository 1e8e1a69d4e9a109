//! Options, the environment variables that stand for some, addresses to listen on, and what is said of wrong ones.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};

use crate::harness::program::Finished;
use crate::harness::server::app_path;
use crate::harness::{Address, Program, Scratch, Server, each, serve, wait_until};

/// Runs minicorn with these options and the hello app.
fn run(options: &[&str]) -> Finished {
    Program::new(&[options, &[&app_path("hello")]].concat()).run()
}

/// What was wrong must be told in one sentence: not more lines than the usage hint needs, and no traceback.
#[track_caller]
fn expect_sentence(finished: Finished, status: i32, texts: &[&str]) {
    let finished = finished.expect_status(status).expect_stderr(texts);
    let lines: Vec<&str> = finished.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(lines.len() <= 6, "more than a sentence and a hint:\n{}", finished.stderr);
    assert!(!finished.stderr.contains("Traceback"), "{}", finished.stderr);
    assert_eq!(finished.stdout, "");
}

// Asking about the program.

#[test]
fn version() {
    for option in ["--version", "-v"] {
        let finished = Program::new(&[option]).run().expect_status(0);
        assert!(finished.stdout.starts_with(concat!("minicorn ", env!("CARGO_PKG_VERSION"))), "{}", finished.stdout);
    }
}

#[test]
fn help_is_grouped_and_says_defaults_and_units() {
    for option in ["--help", "-h"] {
        Program::new(&[option]).run().expect_status(0);
    }
    let help = Program::new(&["--help"]).run().stdout;
    for topic in ["Application", "Listening", "Workers", "Timeouts", "Limits", "Python", "Logging", "Checks"] {
        assert!(help.lines().any(|line| line.starts_with(topic)), "no topic {topic} in:\n{help}");
    }
    for (option, default) in [
        ("--host", "127.0.0.1"),
        ("--port", "8000"),
        ("--workers", "1"),
        ("--timeout", "30"),
        ("--keep-alive", "75"),
        ("--limit-request-line", "4094"),
        ("--access-logformat", "mini"),
    ] {
        let start = help.find(option).unwrap_or_else(|| panic!("no {option} in:\n{help}"));
        let text = help[start + option.len()..].split("\n  -").next().unwrap_or_default();
        assert!(text.contains(default), "{option} does not say its default {default}: {text}");
    }
    assert!(help.contains("<SECONDS>") && help.contains("<BYTES>"), "no units in:\n{help}");
}

#[test]
fn print_config_shows_what_is_in_force() {
    // An unambiguous start of an option is enough, as with gunicorn.
    let options = [
        "--print-config",
        "-w",
        "3",
        "--timeout",
        "12.5",
        "--graceful",
        "7",
        "-b",
        "127.0.0.1:81",
        "-b",
        "unix:/tmp/x.sock",
    ];
    let finished = run(&options).expect_status(0);
    for line in
        ["workers = 3", "timeout = 12.5", "graceful_timeout = 7", "backlog = 2048", "limit_request_fields = 100"]
    {
        let line = |shown: &&str| shown.replace('-', "_").starts_with(line);
        assert!(finished.stdout.lines().any(|shown| line(&shown)), "{}", finished.stdout);
    }
    assert!(finished.stdout.contains("127.0.0.1:81") && finished.stdout.contains("/tmp/x.sock"), "{}", finished.stdout);
}

#[test]
fn check_config_loads_the_app() {
    run(&["--check-config"]).expect_status(0);
    Program::new(&["--check-config", &app_path("broken")]).run().expect_status(4).expect_stderr(&["LookupError"]);
    // Nothing is bound: a check may run beside the server that it is made for.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    run(&["--check-config", "-b", &taken.local_addr().expect("its address").to_string()]).expect_status(0);
}

// Wrong values.

#[test]
fn wrong_values() {
    let cases: &[(&[&str], &str)] = &[
        (&["--port", "70000"], "70000"),
        (&["--port", "http"], "http"),
        (&["--port=-1"], "-1"),
        (&["--workers", "0"], "0"),
        (&["--workers=-2"], "-2"),
        (&["-w", "many"], "many"),
        (&["--timeout=-1"], "-1"),
        (&["--timeout", "soon"], "soon"),
        (&["--timeout", "nan"], "nan"),
        (&["--timeout", "inf"], "inf"),
        (&["--graceful-timeout", "1s2"], "1s2"),
        (&["--keep-alive=-5"], "-5"),
        (&["--header-timeout", "x"], "x"),
        (&["--worker-connections", "0"], "0"),
        (&["--worker-connections", "few"], "few"),
        (&["--backlog", "-5"], "-5"),
        (&["--backlog", "long"], "long"),
        (&["--limit-request-line", "x"], "x"),
        (&["--limit-request-fields", "x"], "x"),
        (&["--limit-request-field-size", "x"], "x"),
        (&["--limit-request-body", "10X"], "10X"),
        (&["--limit-request-body=-1"], "-1"),
        (&["--bind", "127.0.0.1:99999"], "127.0.0.1:99999"),
        (&["--bind", "[::1"], "[::1"),
        (&["--bind", "unix:"], "unix:"),
        (&["--bind", ""], "--bind"),
        (&["--bind", "8000"], ":8000"),
        (&["--env", "NOVALUE"], "NOVALUE"),
        (&["--env", "=value"], "=value"),
        (&["--log-level", "loud"], "loud"),
        (&["--access-logformat", "%(zz)s"], "zz"),
        (&["--access-logformat", "%(h"], "%(h"),
        (&["--chdir", "/no/such/directory"], "/no/such/directory"),
        (&["--no-such-option"], "--no-such-option"),
        (&["--port"], "--port"),
        (&["another:app"], "tests.apps.hello:app"),
    ];
    each(cases, |(options, _)| options.join(" "), |(options, named)| expect_sentence(run(options), 2, &[named]));
}

#[test]
fn wrong_variables() {
    for (name, value) in [("WEB_CONCURRENCY", "several"), ("WEB_CONCURRENCY", "0"), ("PORT", "eighty")] {
        let finished = Program::new(&[&app_path("hello")]).env(name, value).run();
        expect_sentence(finished, 2, &[name, value]);
    }
}

#[test]
fn no_app() {
    expect_sentence(Program::new(&[]).run(), 2, &["APP"]);
}

// How many workers.

#[test]
fn worker_count() {
    let count = |options: &[&str], variable: Option<&str>| {
        let app = app_path("hello");
        let program = Program::new(&[&["--bind", "127.0.0.1:0"], options, &[&app]].concat());
        let server = Server::start(match variable {
            Some(value) => program.env("WEB_CONCURRENCY", value),
            None => program,
        });
        server.workers().len()
    };
    assert_eq!(count(&[], None), 1);
    assert_eq!(count(&["-w3"], None), 3);
    assert_eq!(count(&[], Some("2")), 2);
    assert_eq!(count(&[], Some("")), 1);
    assert_eq!(count(&["--workers=3"], Some("2")), 3);
}

#[test]
fn automatic_worker_count() {
    let here = std::thread::available_parallelism().expect("a count of CPUs").get();
    assert_eq!(serve("hello", &["--workers", "auto"]).workers().len(), here);
    let first = allowed_cpu();
    let arguments = ["--bind", "127.0.0.1:0", "--workers", "auto", &app_path("hello")];
    assert_eq!(Server::start(Program::under(&["taskset", "-c", &first], &arguments)).workers().len(), 1);
}

/// A CPU that this process may use.
fn allowed_cpu() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).expect("Linux says it");
    line.trim_start_matches("Cpus_allowed_list:").trim().split([',', '-']).next().expect("one CPU").to_owned()
}

// Addresses.

#[test]
fn host_and_port() {
    let server = serve("hello", &["--host", "127.0.0.1", "--port", "0"]);
    server.get("/").expect(200, "Hello, world!\n");
    assert!(server.addresses[0].to_string().starts_with("127.0.0.1:"));
}

#[test]
fn bind_wins_over_host_and_port() {
    let scratch = Scratch::new();
    let path = scratch.text("app.sock");
    let server = serve("hello", &["--host", "192.0.2.1", "--port", "1", "-b", &format!("unix:{path}")]);
    assert_eq!(server.addresses, [Address::Unix(path.into())]);
    server.get("/").expect(200, "Hello, world!\n");
}

#[test]
fn forms_of_addresses() {
    let scratch = Scratch::new();
    let unix = format!("unix://{}", scratch.text("app.sock"));
    each(
        &["127.0.0.1:0", "localhost:0", ":0", "0.0.0.0:0", "[::1]:0", "tcp://127.0.0.1:0", &unix],
        |address| (*address).to_owned(),
        |address| {
            let server = serve("hello", &["--bind", address]);
            server.get("/").expect(200, "Hello, world!\n");
        },
    );
}

#[test]
fn several_addresses() {
    let scratch = Scratch::new();
    let unix = format!("unix:{}", scratch.text("app.sock"));
    let server = serve("hello", &["-b", "127.0.0.1:0", "-b", "127.0.0.1:0", "-b", &unix]);
    assert_eq!(server.addresses.len(), 3);
    for address in &server.addresses {
        crate::harness::Client::connect(address).get("/").expect(200, "Hello, world!\n");
    }
}

#[test]
fn port_from_the_environment() {
    let free = TcpListener::bind("0.0.0.0:0").expect("a port").local_addr().expect("its number").port();
    let server = Server::start(Program::new(&[&app_path("hello")]).env("PORT", free.to_string()));
    assert_eq!(server.addresses[0].to_string(), format!("0.0.0.0:{free}"));
    // What is asked for on the command line wins.
    let program = Program::new(&["--bind", "127.0.0.1:0", &app_path("hello")]).env("PORT", "1");
    Server::start(program).get("/").expect(200, "Hello, world!\n");
}

#[test]
fn address_in_use() {
    let first = serve("hello", &[]);
    let address = first.addresses[0].to_string();
    expect_sentence(run(&["--bind", &address]), 1, &[&address, "in use"]);
    first.get("/").expect(200, "Hello, world!\n");
}

#[test]
fn addresses_that_cannot_be() {
    expect_sentence(run(&["--bind", "192.0.2.1:8000"]), 1, &["192.0.2.1:8000"]);
    expect_sentence(run(&["--bind", "no-such-host.invalid:8000"]), 1, &["no-such-host.invalid"]);
    expect_sentence(run(&["--bind", "unix:/no/such/directory/app.sock"]), 1, &["/no/such/directory/app.sock"]);
    let long = format!("unix:/tmp/{}", "long".repeat(50));
    expect_sentence(run(&["--bind", &long]), 1, &[&long[5..]]);
}

/// One of several addresses being wrong, nothing is served and no process stays.
#[test]
fn one_wrong_address_of_two() {
    expect_sentence(run(&["-b", "127.0.0.1:0", "-b", "192.0.2.1:8000"]), 1, &["192.0.2.1:8000"]);
}

#[test]
fn no_permission_for_an_address() {
    let scratch = Scratch::new();
    std::fs::set_permissions(scratch.path(""), std::fs::Permissions::from_mode(0o555)).expect("a read-only directory");
    let path = scratch.text("app.sock");
    let bind = format!("unix:{path}");
    let arguments = ["--bind", &bind, &app_path("hello")];
    // Root may write everywhere unless it gives the capability away; anybody else needs no wrapper.
    let finished = match nix::unistd::geteuid().is_root() {
        true => Program::under(&["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"], &arguments).run(),
        false => Program::new(&arguments).run(),
    };
    expect_sentence(finished, 1, &[&path, "ermission"]);
}

#[test]
fn socket_files() {
    let scratch = Scratch::new();
    let path = scratch.text("app.sock");
    let bind = format!("unix:{path}");
    // Left by a server that was killed: it is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket file"));
    assert!(Path::new(&path).exists());
    let server = serve("hello", &["--bind", &bind]);
    server.get("/").expect(200, "Hello, world!\n");
    // In use: it is left alone.
    expect_sentence(run(&["--bind", &bind]), 1, &[&path, "in use"]);
    server.get("/").expect(200, "Hello, world!\n");
    // It is removed at the end.
    server.stop().expect_status(0);
    assert!(!Path::new(&path).exists());
    // Not a socket at all: it is not ours to remove.
    scratch.write("app.sock", "precious");
    expect_sentence(run(&["--bind", &bind]), 1, &[&path]);
    assert_eq!(std::fs::read_to_string(&path).expect("it is still there"), "precious");
}

#[test]
fn a_killed_master_leaves_a_socket_file_that_the_next_one_replaces() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", scratch.text("app.sock"));
    let server = serve("hello", &["--bind", &bind]);
    server.signal(Signal::SIGKILL);
    let _ = server.wait();
    assert!(std::fs::metadata(scratch.path("app.sock")).expect("left behind").file_type().is_socket());
    serve("hello", &["--bind", &bind]).get("/").expect(200, "Hello, world!\n");
}

/// The kernel queues one connection more than it is asked to, then refuses (a Unix socket says so at once).
#[test]
fn backlog() {
    let scratch = Scratch::new();
    let (path, release) = (scratch.path("app.sock"), scratch.text("release"));
    let server = serve("gate", &["--bind", &format!("unix:{}", path.display()), "--backlog", "4"]);
    let mut busy = server.connect();
    let entered = scratch.text("entered");
    busy.send(format!("GET /before?entered={entered}&release={release} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_until("the request to enter the app", || scratch.path("entered").exists());
    let address = UnixAddr::new(&path).expect("a short path");
    let connect = || {
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).expect("a socket");
        nix::sys::socket::connect(fd.as_raw_fd(), &address).map(|()| fd)
    };
    let queued: Vec<_> = std::iter::repeat_with(connect).take_while(Result::is_ok).take(100).collect();
    assert_eq!(queued.len(), 5);
    scratch.write("release", "");
    assert_eq!(busy.receive().status, 200);
}

// Logs.

#[test]
fn error_log_file() {
    let scratch = Scratch::new();
    for (option, name) in [("--error-logfile", "error.log"), ("--log-file", "other.log")] {
        let (log, socket) = (scratch.path(name), scratch.path("app.sock"));
        let bind = format!("unix:{}", scratch.text("app.sock"));
        let arguments = ["--bind", &bind, option, &scratch.text(name), &app_path("errors")];
        let server = Server::start_at(Program::new(&arguments), Address::Unix(socket));
        server.get("/").expect(200, "logged");
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        wait_until("both in the file", || text().contains("listening on") && text().contains("written to wsgi.errors"));
        let finished = server.stop().expect_status(0);
        assert!(!finished.stderr.contains("listening on"), "{}", finished.stderr);
    }
}

#[test]
fn log_level() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", scratch.text("app.sock"));
    for level in ["warning", "ERROR", "critical"] {
        let arguments = ["--bind", &bind, "--log-level", level, &app_path("hello")];
        let server = Server::start_at(Program::new(&arguments), Address::Unix(scratch.path("app.sock")));
        server.get("/").expect(200, "Hello, world!\n");
        let finished = server.stop().expect_status(0);
        assert_eq!(finished.stderr, "", "{level}");
    }
    let server = serve("hello", &["--log-level", "debug"]);
    assert_eq!(server.ask("GET / HTTP/1.1\r\n\r\n").status, 400);
    server.log().wait_for("[DEBUG]");
}

/// As `| head` leaves it.
#[test]
fn a_listing_that_nobody_reads() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let finished = Program::new(&["--print-config", &app_path("hello")]).stdout(writer).run();
    expect_sentence(finished, 1, &["minicorn: error: standard output cannot be written: Broken pipe"]);
}
