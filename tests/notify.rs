//! What a supervisor is told that listens at NOTIFY_SOCKET, as systemd does.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::signal::Signal;

use crate::harness::server::app_path;
use crate::harness::wait::DEADLINE;
use crate::harness::{Program, Scratch, Server, wait_for, wait_until};
use crate::upgrade::{stop, upgrade};

/// A supervisor that listens.
struct Supervisor {
    socket: UnixDatagram,
    address: String,
    _scratch: Scratch,
}

impl Supervisor {
    fn new() -> Supervisor {
        let scratch = Scratch::new();
        let address = scratch.text("notify");
        Supervisor::listening(UnixDatagram::bind(&address).expect("a socket"), address, scratch)
    }

    fn with_abstract_name() -> Supervisor {
        let scratch = Scratch::new();
        let name = scratch.text("notify");
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        Supervisor::listening(UnixDatagram::bind_addr(&address).expect("a socket"), format!("@{name}"), scratch)
    }

    fn listening(socket: UnixDatagram, address: String, _scratch: Scratch) -> Supervisor {
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        Supervisor { socket, address, _scratch }
    }

    fn program(&self, app: &str, options: &[&str]) -> Program {
        let app = app_path(app);
        let arguments = [&["--bind", "127.0.0.1:0"], options, &[&app]].concat();
        Program::new(&arguments).env("NOTIFY_SOCKET", &self.address)
    }

    /// Reads until this message comes.
    #[track_caller]
    fn expect(&self, message: &str) {
        wait_until(&format!("{message:?}"), || self.next() == message);
    }

    #[track_caller]
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("a message");
        String::from_utf8(bytes[..count].to_vec()).expect("text")
    }

    fn has_nothing(&self) -> bool {
        self.socket.set_nonblocking(true).expect("a socket");
        let received = self.socket.recv(&mut [0]);
        self.socket.set_nonblocking(false).expect("a socket");
        received.is_err()
    }
}

#[test]
fn ready_and_stopping() {
    for supervisor in [Supervisor::new(), Supervisor::with_abstract_name()] {
        let server = Server::start(supervisor.program("hello", &["--workers", "2"]));
        supervisor.expect("READY=1");
        server.signal(Signal::SIGTERM);
        supervisor.expect("STOPPING=1");
        server.wait().expect_status(0);
    }
}

/// Not ready before the app is: that is what the message is for.
#[test]
fn nothing_is_said_before_a_worker_is_ready() {
    let supervisor = Supervisor::new();
    let finished = supervisor.program("missing_import", &[]).run();
    finished.expect_status(4);
    while !supervisor.has_nothing() {
        assert_ne!(supervisor.next(), "READY=1");
    }
}

/// The application must not speak for the server, nor the programs that it starts.
#[test]
fn the_application_does_not_find_the_supervisor() {
    let supervisor = Supervisor::new();
    let program = supervisor.program("child_process", &["--env", "FOR_THE_APP=1"]);
    let server = Server::start(program.env("WATCHDOG_USEC", "60000000").env("WATCHDOG_PID", "1"));
    let response = server.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Command: env\r\n\r\n").expect_status(200);
    assert!(response.text().contains("FOR_THE_APP=1"));
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        assert!(!response.text().contains(name), "{}", response.text());
    }
}

/// It tells who the master is before the command that was started, which systemd takes for the master, has ended.
#[test]
fn a_server_in_the_background_says_who_it_is() {
    let supervisor = Supervisor::new();
    let scratch = Scratch::new();
    let pid = scratch.text("pid");
    let finished = supervisor.program("hello", &["--daemon", "--pid", &pid]).run().expect_status(0);
    let master: i32 = std::fs::read_to_string(&pid).expect("the pid file").trim().parse().expect("a number");
    let message = supervisor.next();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(master), Signal::SIGTERM).expect("the server runs");
    assert_eq!(message, format!("MAINPID={master}"));
    supervisor.expect("READY=1");
    supervisor.expect("STOPPING=1");
    finished.expect_stderr(&["NotifyAccess=all"]);
    wait_until("the end of the server", || !crate::harness::process::is_running(nix::unistd::Pid::from_raw(master)));
}

#[test]
fn nobody_listens() {
    let scratch = Scratch::new();
    let program = Program::new(&["--bind", "127.0.0.1:0", "--log-level", "debug", "tests.apps.hello:app"]);
    let server = Server::start(program.env("NOTIFY_SOCKET", scratch.path("nobody")));
    server.get("/").expect(200, "Hello, world!\n");
    let finished = server.stop().expect_status(0);
    assert_eq!(finished.count("systemd cannot be told"), 1, "{}", finished.stderr);
}

#[test]
fn how_many_workers_are_ready() {
    let supervisor = Supervisor::new();
    let server = Server::start(supervisor.program("hello", &["--workers", "2"]));
    supervisor.expect("STATUS=2 of 2 workers ready");
    server.stop().expect_status(0);
}

#[test]
fn a_reload() {
    let supervisor = Supervisor::new();
    let server = Server::start(supervisor.program("hello", &[]));
    supervisor.expect("READY=1");
    server.signal(Signal::SIGHUP);
    let message =
        wait_for("the reload", || Some(supervisor.next()).filter(|message| message.starts_with("RELOADING=1\n")));
    let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a time");
    assert!(time.parse::<u64>().is_ok(), "{message}");
    supervisor.expect("READY=1");
    server.stop().expect_status(0);
}

#[test]
fn the_watchdog_hears_from_the_master() {
    let supervisor = Supervisor::new();
    let server = Server::start(supervisor.program("hello", &[]).env("WATCHDOG_USEC", "200000"));
    supervisor.expect("READY=1");
    for _ in 0..3 {
        supervisor.expect("WATCHDOG=1");
    }
    server.stop().expect_status(0);
}

/// systemd names the process whose heartbeat it wants, and takes the end of the main process for that of the service.
#[test]
fn the_new_master_of_an_upgrade_is_the_main_process_and_heard_from() {
    let supervisor = Supervisor::new();
    let wrapper = ["sh", "-c", "export WATCHDOG_PID=$$; exec \"$@\"", "sh"];
    let program = Program::under(&wrapper, &["--bind", "127.0.0.1:0", &app_path("hello")]);
    let program = program.env("NOTIFY_SOCKET", &supervisor.address).env("WATCHDOG_USEC", "200000");
    let mut server = Server::start(program);
    supervisor.expect("WATCHDOG=1");
    let old = server.master;
    let new = upgrade(&server, old);
    stop(&mut server, old);
    supervisor.expect(&format!("MAINPID={new}"));
    // From here on all comes from the new one, once what the old one has sent is read.
    while !supervisor.has_nothing() {}
    supervisor.expect("WATCHDOG=1");
    stop(&mut server, new);
}
