//! What a reload changes of the settings: where the server listens, what its master does, and who its workers are; and what
//! stays when the new configuration cannot be had.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::load::{Load, Mix};
use crate::harness::server::app_path;
use crate::harness::{Address, Client, Held, Program, ROOT, Scratch, Server, each, wait_until};
use crate::lifecycle::wait_for_others;

/// A server with a configuration file that changes.
struct Configured {
    scratch: Scratch,
    server: Server,
}

impl Configured {
    #[track_caller]
    fn serve(scratch: Scratch, app: &str, configuration: &str) -> Configured {
        let file = scratch.write("conf.py", configuration);
        let server = Server::start(Program::new(&["-c", &file, "--access-logfile", "none", &app_path(app)]));
        Configured { scratch, server }
    }

    fn configure(&self, configuration: &str) {
        self.scratch.write("conf.py", configuration);
        self.server.signal(Signal::SIGHUP);
    }

    /// All workers are those of this generation, the old ones have left.
    #[track_caller]
    fn reload(&self, configuration: &str, generation: u32) {
        let former = self.server.workers();
        self.configure(configuration);
        self.server.log().wait_for(&format!("reloaded: generation {generation} serves"));
        wait_until("the old workers to leave", || !self.server.workers().iter().any(|own| former.contains(own)));
    }
}

/// An address that was free a moment ago.
fn free_address() -> Address {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    Address::Tcp(probe.local_addr().expect("its number"))
}

fn unix(path: &Path) -> Address {
    Address::Unix(path.to_owned())
}

/// Nobody listens there any more: not that nobody answers, as with a listener that refuses handshakes and still is.
fn is_refused(address: &Address) -> bool {
    match address {
        Address::Tcp(address) => TcpStream::connect_timeout(address, Duration::from_millis(100)).map(drop),
        Address::Unix(path) => UnixStream::connect(path).map(drop),
    }
    .is_err_and(|error| matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound))
}

// Where it listens.

#[test]
fn a_listener_that_stays_loses_no_request() {
    let scratch = Scratch::new();
    let (stays, goes, comes) = (free_address(), unix(&scratch.path("old")), unix(&scratch.path("new")));
    let bind = |other: &Address| format!("bind = ['{stays}', '{other}']\nworkers = 2\n");
    let configured = Configured::serve(scratch, "deployed", &bind(&goes));
    let load = Load::start(&stays, Mix::USUAL);
    let others = Load::start(&goes, Mix { get: 2, post: 2, connect: 0, idle: 4 });
    configured.reload(&bind(&comes), 2);
    Client::connect(&comes).get("/?new").expect(200, "new");
    // Their connections are older than the configuration, and go on.
    others.wait_for_more(100);
    others.stop().expect_no_close();
    wait_until("the old address to be closed", || is_refused(&goes));
    assert!(!configured.scratch.path("old").exists(), "the old socket file");
    load.wait_for_more(100);
    configured.reload(&bind(&goes), 3);
    Client::connect(&goes).get("/?old").expect(200, "old");
    load.wait_for_more(100);
    let summary = load.stop();
    assert!(summary.workers.len() >= 4, "{:?}", summary.workers);
    summary.expect_no_close();
    configured.server.stop().expect_status(0);
}

/// Clients that have connected before the address is given up are served, those that wait in the backlog too.
#[test]
fn who_waits_at_an_address_that_goes_is_served() {
    each(
        &[true, false],
        |is_tcp| format!("TCP: {is_tcp}"),
        |&is_tcp| {
            let scratch = Scratch::new();
            let (first, second) = (free_address(), free_address());
            let goes = if is_tcp { second } else { unix(&scratch.path("old")) };
            let configured = Configured::serve(scratch, "gate", &format!("bind = ['{first}', '{goes}']\n"));
            let held = Held::on(Client::connect(&goes), "/before");
            // The only worker is in a call, so nobody accepts them.
            let mut waiting: Vec<Client> = (0..20).map(|_| Client::connect(&goes)).collect();
            for client in &mut waiting {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            configured.configure(&format!("bind = '{first}'\n"));
            configured.server.log().wait_for("reloaded: generation 2 serves");
            for client in &mut waiting {
                assert_eq!(client.receive().status, 200);
            }
            held.finish();
            wait_until("the old address to be closed", || is_refused(&goes));
            Client::connect(&first).get("/").expect_status(200);
            configured.server.stop().expect_status(0);
        },
    );
}

/// A request that waits for a worker when the configuration changes is answered, though for the new one it is not sound.
#[test]
fn a_waiting_request_that_the_new_configuration_refuses() {
    let strict = format!("bind = '{}'\n", free_address());
    let lenient = format!("{strict}permit_unconventional_http_method = True\n");
    let configured = Configured::serve(Scratch::new(), "gate", &lenient);
    let mut waiting = Held::at(&configured.server, "/before").finish();
    let held = Held::at(&configured.server, "/before");
    waiting.send("foo / HTTP/1.1\r\nHost: a\r\n\r\n");
    configured.configure(&strict);
    waiting.receive().expect_status(400);
    held.finish();
    configured.server.stop().expect_status(0);
}

/// The environ says where the client has connected, whoever serves it by now.
#[test]
fn a_connection_keeps_its_address() {
    let (first, second, third) = (free_address(), free_address(), free_address());
    let configured = Configured::serve(Scratch::new(), "busy", &format!("bind = ['{first}', '{second}']\n"));
    let mut client = Client::connect(&second);
    let seen = |client: &mut Client| {
        let lines: Vec<String> = client.get("/peer").text().lines().map(str::to_owned).collect();
        (lines[2].clone(), lines[3].clone())
    };
    let (port, worker) = seen(&mut client);
    assert!(second.to_string().ends_with(&format!(":{port}")), "{port}");
    configured.reload(&format!("bind = ['{third}']\n"), 2);
    let (later_port, later_worker) = seen(&mut client);
    assert_eq!(later_port, port);
    assert_ne!(later_worker, worker);
    let (new_port, _) = seen(&mut Client::connect(&third));
    assert!(third.to_string().ends_with(&format!(":{new_port}")), "{new_port}");
}

#[test]
fn an_address_that_cannot_be_had_changes_nothing() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, pid, new) = (free_address(), scratch.text("pid"), scratch.text("new"));
    let configured = Configured::serve(scratch, "hello", &format!("bind = '{address}'\npidfile = '{pid}'\n"));
    let former = configured.server.workers();
    let bind = format!("bind = ['unix:{new}', '{}']", taken.local_addr().expect("its number"));
    configured.configure(&format!("{bind}\npidfile = '{pid}.other'\nproc_name = 'other'\n"));
    configured.server.log().wait_for("SIGHUP: not reloaded, all goes on as before: ");
    configured.server.log().wait_for(&taken.local_addr().expect("its number").to_string());
    assert!(Path::new(&pid).exists() && !Path::new(&new).exists());
    assert_eq!(configured.server.workers(), former);
    configured.server.get("/").expect(200, "Hello, world!\n");
    // What can be had is had the next time.
    drop(taken);
    configured.reload(&format!("{bind}\n"), 2);
    Client::connect(&unix(Path::new(&new))).get("/").expect(200, "Hello, world!\n");
    assert!(!Path::new(&pid).exists());
    configured.server.stop().expect_status(0);
    assert!(!Path::new(&new).exists());
}

/// The master has followed the new configuration before it was known that its application does not load.
#[test]
fn a_generation_that_is_given_up_takes_its_settings_along() {
    let scratch = Scratch::new();
    let (address, new, pid) = (free_address(), scratch.text("new"), scratch.text("pid"));
    let usual = format!("bind = '{address}'\npidfile = '{pid}'\n");
    let configured = Configured::serve(scratch, "hello", &usual);
    let other = format!("bind = ['{address}', 'unix:{new}']\npidfile = '{pid}.2'\nproc_name = 'other'\nchdir = '/'\n");
    let broken = "preload_app = True\ndef post_fork(server, worker):\n    raise RuntimeError('no')\n";
    configured.configure(&format!("{other}{broken}"));
    configured.server.log().wait_for("generation 2 is given up");
    wait_until("the pid file", || Path::new(&pid).exists() && !Path::new(&format!("{pid}.2")).exists());
    wait_until("the title", || title(configured.server.master) == "minicorn: master [tests.apps.hello:app]");
    assert!(!Path::new(&new).exists());
    configured.server.get("/").expect(200, "Hello, world!\n");
    configured.reload(&usual, 3);
    configured.server.get("/").expect(200, "Hello, world!\n");
    configured.server.stop().expect_status(0);
}

// The master.

fn title(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

#[test]
fn logs_pid_file_and_names_follow() {
    let scratch = Scratch::new();
    let (address, path) = (free_address(), scratch.text(""));
    let configured = Configured::serve(scratch, "hello", &format!("bind = '{address}'\n"));
    let settings = |name: &str| {
        format!(
            "bind = '{address}'\nproc_name = '{name}'\npidfile = '{path}{name}.pid'\nerrorlog = '{path}{name}.log'\nloglevel = 'debug'\n"
        )
    };
    let read = |name: &str| fs::read_to_string(configured.scratch.path(name)).unwrap_or_default();
    let master = format!("{}\n", configured.server.master);
    for (number, name) in [(2, "two"), (3, "three")] {
        configured.configure(&settings(name));
        let log = format!("{name}.log");
        wait_until("the new log", || read(&log).contains(&format!("reloaded: generation {number} serves")));
        // Of debug level, and of a worker.
        wait_until("its level", || {
            read(&log).lines().any(|line| line.contains("[DEBUG] worker=") && line.ends_with(" ready"))
        });
        assert_eq!(read(&format!("{name}.pid")), master);
        assert_eq!(title(configured.server.master), format!("minicorn: master [{name}]"));
    }
    assert_eq!(read("two.pid"), "");
    assert!(!read("two.log").contains("generation 3"), "{}", read("two.log"));
    configured.server.signal(Signal::SIGTERM);
    wait_until("the end", || {
        read("three.log").contains("] master pid=") && read("three.log").trim_end().ends_with("stopped")
    });
    configured.server.wait().expect_status(0);
    assert_eq!(read("three.pid"), "");
}

#[test]
fn the_masters_own_sockets_follow() {
    let scratch = Scratch::new();
    let (address, admin, path) = (free_address(), [free_address(), free_address()], scratch.text(""));
    let settings = |number: usize, mode: &str| {
        format!(
            "bind = '{address}'\nadmin_bind = '{}'\ncontrol_socket = '{path}{number}'\ncontrol_socket_mode = {mode}\n",
            admin[number]
        )
    };
    let configured = Configured::serve(scratch, "hello", &settings(0, "0o600"));
    let status =
        |number: usize| Program::new(&["ctl", "-s", &configured.scratch.text(&number.to_string()), "status"]).run();
    status(0).expect_status(0);
    assert_eq!(Client::connect(&admin[0]).get("/healthz").status, 200);
    configured.reload(&settings(1, "0o600"), 2);
    status(1).expect_status(0);
    status(0).expect_status(1).expect_stderr(&["there is no such socket"]);
    assert_eq!(Client::connect(&admin[1]).get("/healthz").status, 200);
    assert!(is_refused(&admin[0]));
    configured.reload(&settings(1, "0o640"), 3);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(configured.scratch.path("1")).expect("a socket").permissions(),
    );
    assert_eq!(mode & 0o777, 0o640);
    configured.reload(&format!("bind = '{address}'\n"), 4);
    status(1).expect_status(1);
    assert!(is_refused(&admin[1]));
    configured.server.stop().expect_status(0);
}

/// Its name stays what it was, and the folder in which it is looked for does not.
#[test]
fn relative_paths_stay_what_they_were() {
    let scratch = Scratch::new();
    let (address, admin) = (free_address(), free_address());
    fs::create_dir(scratch.path("folder")).expect("a folder");
    let path = scratch.text("");
    let usual = format!("bind = '{address}'\nadmin_bind = '{admin}'\ncontrol_socket = 'ctl'\n");
    let file = scratch.write("conf.py", &format!("{usual}pidfile = 'pid'\n"));
    let program = Program::new(&["-c", &file, "--access-logfile", "none", "--pythonpath", ROOT, &app_path("hello")]);
    let configured = Configured { server: Server::start(program.directory(scratch.path(""))), scratch };
    let pid = || fs::read_to_string(configured.scratch.path("pid")).unwrap_or_default();
    let own = format!("{}\n", configured.server.master);
    assert_eq!(pid(), own);
    configured.reload(&format!("{usual}pidfile = './pid'\nwsgi_app = 'tests.apps.deployed:app'\n"), 2);
    assert_eq!(pid(), own);
    let other = format!("control_socket_mode = 0o640\nchdir = '{path}folder'\npidfile = '{path}pid'\n");
    configured.reload(&format!("{usual}{other}"), 3);
    assert_eq!(pid(), own);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(configured.scratch.path("ctl")).expect("a socket").permissions(),
    );
    assert_eq!(mode & 0o777, 0o640);
    configured.server.stop().expect_status(0);
}

#[test]
fn the_status_tells_of_the_application_of_today() {
    let scratch = Scratch::new();
    let (address, admin) = (free_address(), free_address());
    let settings = |app: &str| format!("bind = '{address}'\nadmin_bind = '{admin}'\nwsgi_app = '{}'\n", app_path(app));
    let file = scratch.write("conf.py", &settings("hello"));
    let server = Server::start(Program::new(&["-c", &file, "--access-logfile", "none"]));
    let configured = Configured { scratch, server };
    let request = "GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let status = || Client::connect(&admin).ask(request).expect_status(200).text().to_owned();
    assert!(status().contains("tests.apps.hello"), "{}", status());
    configured.reload(&settings("deployed"), 2);
    assert!(status().contains("tests.apps.deployed"), "{}", status());
    configured.server.stop().expect_status(0);
}

/// The master waits for what the file says, and for those who want it to stop.
#[test]
fn a_configuration_file_that_hangs_does_not_hold_up_the_end() {
    let configured = Configured::serve(Scratch::new(), "hello", "bind = '127.0.0.1:0'\n");
    let mark = configured.scratch.text("mark");
    configured.configure(&format!("import time\nopen('{mark}', 'w').close()\ntime.sleep(3600)\n"));
    wait_until("the file to hang", || Path::new(&mark).exists());
    configured.server.get("/").expect(200, "Hello, world!\n");
    let log = configured.server.stop().expect_status(0).stderr;
    assert!(log.contains("fails: the server was asked to stop"), "{log}");
}

// The workers.

#[test]
fn preload_comes_and_goes_under_load() {
    let address = free_address();
    let usual = format!("bind = '{address}'\nworkers = 2\n");
    let preloaded = format!("{usual}preload_app = True\n");
    let configured = Configured::serve(Scratch::new(), "deployed", &usual);
    let load = Load::start(&address, Mix::USUAL);
    for (generation, settings, processes) in
        [(2, &preloaded, 3), (3, &preloaded, 3), (4, &usual, 2), (5, &preloaded, 3)]
    {
        configured.configure(settings);
        configured.server.log().wait_for(&format!("reloaded: generation {generation} serves"));
        wait_until("no others", || configured.server.workers().len() == processes);
        load.wait_for_more(20);
    }
    load.stop().expect_no_close();
    configured.server.stop().expect_status(0);
}

#[test]
fn umask_and_number_of_workers_follow() {
    let address = free_address();
    let configured = Configured::serve(Scratch::new(), "whoami", &format!("bind = '{address}'\numask = 0\n"));
    assert!(configured.server.get("/").text().contains("umask=0o0\n"));
    let former = configured.server.workers();
    configured.configure(&format!("bind = '{address}'\numask = 0o27\nworkers = 3\n"));
    wait_for_others(&configured.server, 3, &former);
    assert!(configured.server.get("/").text().contains("umask=0o27\n"));
    configured.configure(&format!("bind = '{address}'\nworkers = 1000\n"));
    configured.server.log().wait_for("--workers 1000: there is room for ");
    configured.server.log().wait_for("until a restart");
}

#[test]
fn what_a_reload_cannot_change_is_named() {
    let address = free_address();
    let configured = Configured::serve(Scratch::new(), "hello", &format!("bind = '{address}'\n"));
    configured.reload(&format!("bind = '{address}'\nreuse_port = True\nno_passing = True\n"), 2);
    let warning = "what has changed of these settings takes effect at a restart: --no-passing, --reuse-port";
    configured.server.log().wait_for(warning);
    configured.reload(&format!("bind = '{address}'\nreuse_port = True\nno_passing = True\nbacklog = 5\n"), 3);
    assert_eq!(configured.server.log().count("takes effect at a restart"), 1);
}

/// The kernel tells of a listener how many connections it queues.
#[test]
fn the_backlog_follows() {
    let address = free_address();
    let configured = Configured::serve(Scratch::new(), "hello", &format!("bind = '{address}'\nbacklog = 77\n"));
    let queue = || {
        let port = address.to_string();
        let listed = Program::prepare("ss", &["-Hltn", &format!("src = {port}")]).run().expect_status(0).stdout;
        listed.split_ascii_whitespace().nth(2).map(str::to_owned)
    };
    assert_eq!(queue().as_deref(), Some("77"));
    configured.reload(&format!("bind = '{address}'\nbacklog = 55\n"), 2);
    assert_eq!(queue().as_deref(), Some("55"));
}
