//! A server that is up, minicorn or another one.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::client::Client;
use super::process;
use super::program::{Finished, Output, Program, Running};
use super::response::Response;
use super::wait::{wait_for, wait_until};

/// The variable that points the cases of HTTP and WSGI at another server:
/// `MINICORN_TEST_SERVER='gunicorn -k gthread -b {bind} {app}' cargo test --test integration http_ wsgi_`.
const OTHER_SERVER: &str = "MINICORN_TEST_SERVER";

/// Starts minicorn with an app of tests/apps (`hello`, `forms:instance`), or any other, and options.
#[track_caller]
pub fn serve(app: &str, options: &[&str]) -> Server {
    let app = app_path(app);
    let mut arguments = vec!["--bind", "127.0.0.1:0"];
    if options.iter().any(|option| ["--bind", "-b", "--host", "--port"].contains(option)) {
        arguments.clear();
    }
    arguments.extend(options);
    arguments.push(&app);
    Server::start(Program::new(&arguments))
}

/// Starts the server under test, which may be another than minicorn, with an app of tests/apps.
#[track_caller]
pub fn portable(app: &str) -> Server {
    match std::env::var(OTHER_SERVER) {
        Ok(template) => start_other(&template, &app_path(app)),
        Err(_) => serve(app, &[]),
    }
}

/// `hello` is `tests.apps.hello:app`, `forms:instance` is `tests.apps.forms:instance`, the rest is as it stands.
pub fn app_path(app: &str) -> String {
    match app.split_once(':') {
        _ if app.contains('.') => app.to_owned(),
        Some((module, name)) => format!("tests.apps.{module}:{name}"),
        None => format!("tests.apps.{app}:app"),
    }
}

fn start_other(template: &str, app: &str) -> Server {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = probe.local_addr().expect("its number");
    drop(probe);
    let words: Vec<String> = template
        .split_whitespace()
        .map(|word| word.replace("{bind}", &address.to_string()).replace("{app}", app))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Server::start_at(Program::prepare(words[0], &words[1..]), Address::Tcp(address))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(formatter, "{address}"),
            Address::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

pub struct Server {
    pub running: Running,
    /// Where it listens, in the order of its options.
    pub addresses: Vec<Address>,
    /// The master; not the process that was started, where that one is a wrapper.
    pub master: Pid,
}

impl Server {
    /// Starts minicorn and waits for its start line, which comes when it serves.
    #[track_caller]
    pub fn start(program: Program) -> Server {
        let mut running = program.spawn();
        let addresses = wait_for("the start line", || {
            assert!(!running.has_ended(), "the server ended before it served");
            addresses_of_start_line(&running.stderr.text())
        });
        Server { master: running.pid, running, addresses }
    }

    /// Starts a server that says nothing we understand, and waits until its address takes connections.
    #[track_caller]
    pub fn start_at(program: Program, address: Address) -> Server {
        let mut running = program.spawn();
        wait_until("the server to accept", || {
            assert!(!running.has_ended(), "the server ended before it served");
            Client::try_connect(&address).is_ok()
        });
        Server { master: running.pid, running, addresses: vec![address] }
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(&self.addresses[0])
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// One request, given in full, on a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        self.connect().ask(request)
    }

    /// The error log so far.
    pub fn log(&self) -> &Output {
        &self.running.stderr
    }

    /// The access log so far.
    pub fn access_log(&self) -> &Output {
        &self.running.stdout
    }

    pub fn workers(&self) -> Vec<Pid> {
        process::children(self.master)
    }

    pub fn signal(&self, signal: Signal) {
        process::signal(self.master, signal);
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(self) -> Finished {
        self.running.wait()
    }

    /// Asks it to stop, and waits.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

/// The addresses in `… listening on http://127.0.0.1:8000, unix:/app.sock, 2 workers, …`, once the line is whole.
fn addresses_of_start_line(log: &str) -> Option<Vec<Address>> {
    let start = log.find("listening on ")?;
    let line = &log[start..start + log[start..].find('\n')?];
    let words = line.split([' ', ',']);
    Some(words.filter_map(parse_address).collect())
}

fn parse_address(word: &str) -> Option<Address> {
    if let Some(path) = word.strip_prefix("unix:") {
        return Some(Address::Unix(path.into()));
    }
    word.strip_prefix("http://")?.parse().ok().map(Address::Tcp)
}
