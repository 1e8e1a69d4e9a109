//! What the server listens on: each kind of address, several at once, sockets that somebody else has made.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::program::Finished;
use crate::harness::server::app_path;
use crate::harness::{
    Address, Client, Program, Scratch, Server, each, process, serve, virtual_environment, wait_until,
};

/// A name in the abstract namespace that no other test uses.
fn abstract_name(scratch: &Scratch) -> String {
    format!("@{}", scratch.text("abstract"))
}

/// `KEY=…` lines of the environ of a request to this address.
#[track_caller]
fn environ_at(address: &Address) -> String {
    Client::connect(address).get("/").expect_status(200).text().to_owned()
}

#[track_caller]
fn expect_names(environ: &str, name: &str, port: &str) {
    for line in [format!("SERVER_NAME='{name}'\n"), format!("SERVER_PORT='{port}'\n")] {
        assert!(environ.contains(&line), "{line:?} is not in:\n{environ}");
    }
}

#[test]
fn several_kinds_at_once() {
    let scratch = Scratch::new();
    let (unix, named) = (format!("unix:{}", scratch.text("app.sock")), format!("unix:{}", abstract_name(&scratch)));
    let server = serve("environ", &["-b", "127.0.0.1:0", "-b", "[::1]:0", "-b", &unix, "-b", &named]);
    let [v4, v6, file, name] = &server.addresses[..] else { panic!("{:?}", server.addresses) };
    for (address, host) in [(v4, "127.0.0.1"), (v6, "::1")] {
        let Address::Tcp(socket) = address else { panic!("{address} is not TCP") };
        assert_eq!(socket.ip().to_string(), host);
        expect_names(&environ_at(address), host, &socket.port().to_string());
    }
    // These have neither, and PEP 3333 wants both: the name is the one that was asked for.
    for address in [file, name] {
        expect_names(&environ_at(address), "minicorn", "80");
    }
    assert_eq!(name, &Address::Unix(abstract_name(&scratch).into()));
}

#[test]
fn an_abstract_name_is_taken_once_and_leaves_nothing() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", abstract_name(&scratch));
    let server = serve("hello", &["--bind", &bind]);
    server.get("/").expect(200, "Hello, world!\n");
    let second = Program::new(&["--bind", &bind, &app_path("hello")]).run().expect_status(1);
    second.expect_stderr(&[&bind, "the address is in use"]);
    server.stop().expect_status(0);
    serve("hello", &["--bind", &bind]).get("/").expect(200, "Hello, world!\n");
}

#[test]
fn two_servers_share_a_port_if_both_want_it() {
    let first = serve("gate", &["--bind", "127.0.0.1:0", "--reuse-port"]);
    let address = first.addresses[0].to_string();
    let second = serve("gate", &["--bind", &address, "--reuse-port"]);
    assert_eq!(first.addresses, second.addresses);
    // The kernel chooses by the ports of the client.
    let answers = |server: &Server| {
        let worker = first.get("/").text().to_owned();
        server.workers().iter().any(|pid| pid.to_string() == worker)
    };
    wait_until("an answer of the first", || answers(&first));
    wait_until("an answer of the second", || answers(&second));
    let third = Program::new(&["--bind", &address, &app_path("hello")]).run().expect_status(1);
    third.expect_stderr(&["the address is in use"]);
    second.stop().expect_status(0);
    first.get("/").expect_status(200);
}

#[test]
fn the_umask_is_for_socket_files() {
    let scratch = Scratch::new();
    for (umask, mode) in [("0", 0o777), ("007", 0o770), ("0177", 0o600)] {
        let server = serve("hello", &["--bind", &format!("unix:{}", scratch.text("app.sock")), "--umask", umask]);
        let permissions = std::fs::metadata(scratch.path("app.sock")).expect("a socket file").permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{umask}");
        server.stop().expect_status(0);
    }
}

/// Of servers that start at once on the file of a server that was killed, one listens and the others say why not.
#[test]
fn of_many_that_start_at_once_one_serves() {
    let scratch = Scratch::new();
    let path = scratch.text("app.sock");
    drop(UnixListener::bind(&path).expect("a socket file"));
    let arguments = ["--bind", &format!("unix:{path}"), &app_path("hello")];
    let mut started: Vec<_> = (0..4).map(|_| Program::new(&arguments).spawn()).collect();
    wait_until("all but one to give up", || {
        started.iter_mut().map(|one| one.has_ended()).filter(|has_ended| !has_ended).count() == 1
    });
    let (serving, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(|one| process::is_running(one.pid));
    for one in refused {
        one.wait().expect_status(1).expect_stderr(&["the address is in use"]);
    }
    serving[0].stderr.wait_for("listening on");
    Client::connect(&Address::Unix(path.into())).get("/").expect(200, "Hello, world!\n");
}

// Descriptors: fd://N.

/// Has the program started with `socket` as this descriptor. Its standard input is the one that needs no help.
fn with_descriptor(socket: impl Into<OwnedFd>, number: u32, arguments: &[&str]) -> Program {
    let program = match number {
        0 => Program::new(arguments),
        _ => Program::under(&["sh", "-c", &format!("exec \"$@\" {number}<&0 </dev/null"), "sh"], arguments),
    };
    program.stdin(socket.into())
}

#[test]
fn a_descriptor_that_listens() {
    for number in [0, 3, 7] {
        let made = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = made.local_addr().expect("its address");
        let bind = format!("fd://{number}");
        let server = Server::start(with_descriptor(made, number, &["--bind", &bind, &app_path("environ")]));
        assert_eq!(server.addresses, [Address::Tcp(address)]);
        expect_names(&environ_at(&server.addresses[0]), "127.0.0.1", &address.port().to_string());
        server.stop().expect_status(0);
    }
}

#[test]
fn a_socket_file_of_somebody_else_is_left_to_him() {
    let scratch = Scratch::new();
    let made = UnixListener::bind(scratch.path("app.sock")).expect("a socket file");
    let kept = made.try_clone().expect("another descriptor");
    let bind = ["--bind", "fd://3", "--bind", "127.0.0.1:0"];
    let server = Server::start(with_descriptor(made, 3, &[&bind[..], &[&app_path("hello")]].concat()));
    assert_eq!(server.addresses[0], Address::Unix(scratch.path("app.sock")));
    server.get("/").expect(200, "Hello, world!\n");
    server.stop().expect_status(0);
    assert!(scratch.path("app.sock").exists());
    // It listens on, for the next one that is started with it.
    let mut client = Client::connect(&Address::Unix(scratch.path("app.sock")));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let server = Server::start(with_descriptor(kept, 3, &["--bind", "fd://3", &app_path("hello")]));
    client.receive().expect(200, "Hello, world!\n");
    server.stop().expect_status(0);
}

#[track_caller]
fn expect_sentence(finished: Finished, sentence: &str) {
    let finished = finished.expect_status(1).expect_stderr(&[sentence]);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
}

#[test]
fn wrong_descriptors() {
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = serve("hello", &[]);
    let connected = || TcpStream::connect(server.addresses[0].to_string()).expect("a connection");
    let file = || std::fs::File::open("/dev/null").expect("a file");
    let datagram = || std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let cases: [(OwnedFd, &[&str], &str); 5] = [
        (connected().into(), &["fd://3"], "cannot listen on fd://3: the socket does not listen"),
        (file().into(), &["fd://3"], "cannot listen on fd://3: this descriptor is not a stream socket"),
        (datagram().into(), &["fd://3"], "cannot listen on fd://3: this descriptor is not a stream socket"),
        (listener().into(), &["fd://4"], "cannot listen on fd://4: the program was not started with"),
        (listener().into(), &["fd://3", "fd://3"], "cannot listen on fd://3: the program was not started with"),
    ];
    for (socket, binds, sentence) in cases {
        let mut arguments: Vec<&str> = binds.iter().flat_map(|bind| ["--bind", bind]).collect();
        let app = app_path("hello");
        arguments.push(&app);
        expect_sentence(with_descriptor(socket, 3, &arguments).run(), sentence);
    }
}

// Sockets of systemd's.

/// Started by the first connection, as systemd starts a service with a socket unit.
fn activated(sockets: &[&str], arguments: &[&str]) -> Program {
    let environment = format!("VIRTUAL_ENV={}", virtual_environment().display());
    let mut words = vec!["-E", &environment];
    words.extend(sockets.iter().flat_map(|socket| ["-l", socket]));
    words.extend(["--fdname=web:admin", env!("CARGO_BIN_EXE_minicorn")]);
    words.extend(arguments);
    Program::prepare("systemd-socket-activate", &words)
}

#[test]
fn sockets_of_systemd_take_the_place_of_bind() {
    let scratch = Scratch::new();
    // The server must not be started by a look at whether it is there: hence a port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let (tcp, path) = (port.to_string(), scratch.text("app.sock"));
    let program = activated(&[&tcp, &path], &["--bind", "127.0.0.1:1", &app_path("interpreter")]);
    let running = program.spawn();
    running.stderr.wait_for(&format!("Listening on {path}"));
    let mut client = Client::connect(&Address::Unix(path.clone().into()));
    let seen = client.get("/").expect_status(200);
    let seen: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        assert_eq!(seen["env"].get(name), None, "the application sees {name}");
    }
    running.stderr.wait_for("sockets from systemd in place of --bind: 2 (web:admin)");
    running.stderr.wait_for(&format!("listening on http://{port}, unix:{path}"));
    Client::connect(&Address::Tcp(port)).get("/").expect_status(200);
    process::signal(running.pid, Signal::SIGTERM);
    running.wait().expect_status(0);
    assert!(Path::new(&path).exists(), "the socket file is systemd's");
}

/// They go from master to master, and stay systemd's.
#[test]
fn sockets_of_systemd_survive_an_upgrade() {
    let scratch = Scratch::new();
    let path = scratch.text("app.sock");
    let address = Address::Unix(path.clone().into());
    let mut running = activated(&[&path], &["--bind", "127.0.0.1:1", &app_path("gate")]).spawn();
    running.stderr.wait_for("Listening on");
    Client::connect(&address).get("/").expect_status(200);
    process::signal(running.pid, Signal::SIGUSR2);
    wait_until("a new master", || running.stderr.count("listening on unix:") == 2);
    process::signal(running.pid, Signal::SIGTERM);
    wait_until("the end of the old master", || running.has_ended());
    running.stderr.wait_for("this one has taken its place");
    Client::connect(&address).get("/").expect_status(200);
    nix::sys::signal::killpg(running.pid, Signal::SIGTERM).expect("the group of this server");
    running.wait().expect_status(0);
    assert!(Path::new(&path).exists(), "the socket file is systemd's");
}

/// Variables that were meant for another process: a shell around the server, for one.
#[test]
fn sockets_for_another_process_are_left_alone() {
    let arguments = ["--bind", "127.0.0.1:0", &app_path("interpreter")];
    let server = Server::start(Program::new(&arguments).env("LISTEN_PID", "1").env("LISTEN_FDS", "1"));
    let seen: serde_json::Value = serde_json::from_slice(&server.get("/").expect_status(200).body).expect("JSON");
    assert_eq!(seen["env"].get("LISTEN_FDS"), None);
}

#[test]
fn wrong_sockets_of_systemd() {
    let datagram = || OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a port"));
    each(
        &[
            ("1", datagram as fn() -> OwnedFd, "cannot listen on fd://3: this descriptor is not a stream socket"),
            ("2", listener, "cannot listen on fd://4: the program was not started with"),
            ("many", listener, "LISTEN_FDS=many is not a number of sockets"),
        ],
        |(count, _, sentence)| format!("{count}: {sentence}"),
        |(count, socket, sentence)| {
            let script = format!("export LISTEN_PID=$$ LISTEN_FDS={count}; exec \"$@\" 3<&0 </dev/null");
            let program = Program::under(&["sh", "-c", &script, "sh"], &[&app_path("hello")]);
            expect_sentence(program.stdin(socket()).run(), sentence);
        },
    );
}
