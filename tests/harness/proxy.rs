//! The proxies that people put in front, with the files of examples/deploy: the paths and addresses are replaced, the
//! rest is as it stands there.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::program::{Program, Running};
use super::server::Address;
use super::wait::wait_until;
use super::{ROOT, Scratch};

/// A proxy that runs. Clients reach it over a Unix socket, which needs no free port.
pub struct Proxy {
    pub address: Address,
    // Ended before its files are removed.
    running: Running,
    scratch: Scratch,
}

impl Proxy {
    #[track_caller]
    pub fn nginx(server: &Address) -> Proxy {
        let scratch = Scratch::new();
        let config = scratch.write("nginx.conf", &nginx_config(&scratch, server));
        // -e: what it says before it has read the file.
        let arguments = ["-c", &config, "-e", &scratch.text("error.log"), "-g", "daemon off;"];
        Proxy::start(Program::prepare(&system_program("nginx"), &arguments), scratch)
    }

    #[track_caller]
    /// Both with their admin address at the same path with `.admin` behind it.
    pub fn haproxy(one: &Address, two: &Address) -> Proxy {
        Proxy::haproxy_with(one, two, "", None)
    }

    /// One that gives its servers these options, and listens at a TCP port too if told to.
    #[track_caller]
    pub fn haproxy_with(one: &Address, two: &Address, options: &str, port: Option<u16>) -> Proxy {
        let scratch = Scratch::new();
        let config = scratch.write("haproxy.cfg", &haproxy_config(&scratch, one, two, options, port));
        let proxy = Proxy::start(Program::prepare(&system_program("haproxy"), &["-db", "-f", &config]), scratch);
        wait_until("both servers to be up", || ["one", "two"].iter().all(|server| proxy.state_of(server).is_up()));
        proxy
    }

    #[track_caller]
    fn start(program: Program, scratch: Scratch) -> Proxy {
        let mut running = program.spawn();
        wait_until("the proxy to listen", || {
            assert!(!running.has_ended(), "the proxy ended: {}", running.stderr.text());
            UnixStream::connect(scratch.path("proxy.sock")).is_ok()
        });
        Proxy { address: Address::Unix(scratch.path("proxy.sock")), running, scratch }
    }

    /// What nginx complains of.
    pub fn error_log(&self) -> String {
        fs::read_to_string(self.scratch.path("error.log")).expect("the error log of nginx")
    }

    /// What HAProxy says about its servers.
    pub fn log(&self) -> String {
        self.running.stderr.text()
    }

    /// A command of HAProxy's runtime API, and its answer.
    #[track_caller]
    pub fn command(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(self.scratch.path("admin.sock")).expect("HAProxy's admin socket");
        socket.write_all(format!("{command}\n").as_bytes()).expect("sending a command");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// What HAProxy thinks of a server of its backend.
    #[track_caller]
    pub fn state_of(&self, server: &str) -> ServerState {
        let table = self.command("show stat");
        let line =
            table.lines().find(|line| line.starts_with(&format!("my_app,{server},"))).expect("a line of this server");
        let fields: Vec<&str> = line.split(',').collect();
        ServerState { sessions: fields[4].parse().expect("a number of sessions"), status: fields[17].to_owned() }
    }
}

/// A line of `show stat`.
#[derive(Debug)]
pub struct ServerState {
    /// Requests that are under way there.
    pub sessions: usize,
    status: String,
}

impl ServerState {
    /// Its checks succeed and it gets requests.
    pub fn is_up(&self) -> bool {
        self.status == "UP"
    }
}

fn nginx_config(scratch: &Scratch, server: &Address) -> String {
    let server = match server {
        Address::Tcp(address) => format!("server {address} "),
        Address::Unix(path) => format!("server unix:{} ", path.display()),
    };
    // The socket of a test's server belongs to who runs the tests; who is not root has no choice, and is told so.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};", scratch.text(&format!("{name}-temporary"))));
    let listen = format!("listen unix:{} default_server;", scratch.text("proxy.sock"));
    replaced(
        "nginx.conf",
        &[
            ("user www-data;", user),
            ("/run/nginx.pid", &scratch.text("nginx.pid")),
            ("/var/log/nginx", scratch.text("").trim_end_matches('/')),
            ("http {", &format!("http {{ {}", temporary.concat())),
            ("server unix:/run/my_app/http.sock ", &server),
            ("listen 80 default_server;", &listen),
        ],
    )
}

fn haproxy_config(scratch: &Scratch, one: &Address, two: &Address, options: &str, port: Option<u16>) -> String {
    let bind = match port {
        Some(port) => format!("bind 127.0.0.1:{port}\n    bind unix@{}", scratch.text("proxy.sock")),
        None => format!("bind unix@{}", scratch.text("proxy.sock")),
    };
    // Checked is the admin address if there is one, else the server itself.
    let place = |address: &Address| match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) if Path::new(&format!("{}.admin", path.display())).exists() => {
            format!("unix@{0} addr unix@{0}.admin", path.display())
        }
        Address::Unix(path) => format!("unix@{}", path.display()),
    };
    replaced(
        "haproxy.cfg",
        &[
            ("stats socket /run/haproxy/admin.sock", &format!("stats socket {}", scratch.text("admin.sock"))),
            ("bind :80", &bind),
            ("server one 127.0.0.1:8001 port 9001", &format!("server one {} {options}", place(one))),
            ("server two 127.0.0.1:8002 port 9002", &format!("server two {} {options}", place(two))),
        ],
    )
}

/// The path of a program that is not for every user's PATH.
#[track_caller]
pub fn system_program(name: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    let found = folders.find(|folder| Path::new(folder).join(name).is_file());
    format!("{}/{name}", found.unwrap_or_else(|| panic!("{name} is missing: tests/needs.sh installs it")))
}

/// A file of examples/deploy with other texts in some places, all of which must be there.
#[track_caller]
pub fn replaced(file: &str, replacements: &[(&str, &str)]) -> String {
    let mut text = deploy_file(file);
    for (from, to) in replacements {
        assert!(text.contains(from), "{from:?} is not in {file}");
        text = text.replace(from, to);
    }
    text
}

#[track_caller]
pub fn deploy_file(file: &str) -> String {
    let path = Path::new(ROOT).join("examples/deploy").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
