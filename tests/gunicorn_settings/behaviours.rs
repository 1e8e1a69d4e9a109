//! What a setting does, in a few lines each: called once with the setting in a file, and once with its option.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::server::app_path;
use crate::harness::{Address, Program, Scratch, Server, wait_until};

/// How the server is told.
pub struct Given {
    /// The setting: an option, or the file that has it.
    pub options: Vec<String>,
    /// Has the name of what the setting names.
    pub scratch: Scratch,
}

impl Given {
    fn program(&self, more: &[&str]) -> Program {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        Program::new(&[&options, more].concat())
    }

    fn serve(&self, app: &str) -> Server {
        Server::start(self.program(&["--bind", "127.0.0.1:0", &app_path(app)]))
    }
}

pub fn serves(given: &Given) {
    given.serve("hello").get("/").expect(200, "Hello, world!\n");
}

pub fn wsgi_app(given: &Given) {
    let server = Server::start(given.program(&["--bind", "127.0.0.1:0"]));
    server.get("/").expect(200, "Hello, world!\n");
}

pub fn bind(given: &Given) {
    let server = Server::start(given.program(&[&app_path("hello")]));
    let paths = [given.scratch.path("a.sock"), given.scratch.path("b.sock")];
    assert_eq!(server.addresses, paths.map(Address::Unix));
    server.get("/").expect(200, "Hello, world!\n");
}

pub fn reuse_port(given: &Given) {
    let first = given.serve("hello");
    let address = first.addresses[0].to_string();
    Server::start(given.program(&["--bind", &address, &app_path("hello")])).stop().expect_status(0);
}

pub fn workers(given: &Given) {
    assert_eq!(given.serve("hello").workers().len(), 3);
}

pub fn threads(given: &Given) {
    let server = given.serve("threads");
    let (mut one, mut other) = (server.connect(), server.connect());
    for client in [&mut one, &mut other] {
        client.send("GET /name?parties=2 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    assert_eq!((one.receive().status, other.receive().status), (200, 200));
}

pub fn max_requests(given: &Given) {
    let server = given.serve("hello");
    let first = server.workers();
    server.get("/");
    server.get("/");
    wait_until("another worker", || server.workers().iter().any(|worker| !first.contains(worker)));
}

pub fn timeout(given: &Given) {
    let server = given.serve("gate");
    let entered = given.scratch.text("entered");
    assert_eq!(server.get(&format!("/before?entered={entered}&release=/nonexistent")).status, 504);
}

pub fn graceful_timeout(given: &Given) {
    let server = given.serve("gate");
    let mut client = server.connect();
    let entered = given.scratch.text("entered");
    client.send(format!("GET /before?entered={entered}&release=/nonexistent HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_until("the request to enter the application", || given.scratch.path("entered").exists());
    // Far less than the 30 seconds of the application, and of the setting without this.
    server.stop().expect_status(0);
}

pub fn keepalive(given: &Given) {
    let response = given.serve("hello").get("/");
    assert!(response.announces_close());
}

pub fn preload_app(given: &Given) {
    // The template is a child of the master too.
    assert_eq!(given.serve("hello").workers().len(), 2);
}

pub fn umask(given: &Given) {
    let socket = given.scratch.path("umask.sock");
    let bind = format!("unix:{}", socket.display());
    let _server = Server::start(given.program(&["--bind", &bind, &app_path("hello")]));
    let mode = fs::metadata(&socket).expect("the socket's file").permissions().mode();
    assert_eq!(mode & 0o777, 0o777 & !23);
}

pub fn chdir(given: &Given) {
    given.scratch.write("there.py", "from wsgiref.simple_server import demo_app as app\n");
    Server::start(given.program(&["--bind", "127.0.0.1:0", "there:app"])).stop().expect_status(0);
}

pub fn pythonpath(given: &Given) {
    chdir(given);
}

pub fn pidfile(given: &Given) {
    let server = given.serve("hello");
    let text = fs::read_to_string(given.scratch.path("pid")).expect("the pid file");
    assert_eq!(text.trim(), server.master.to_string());
}

pub fn raw_env(given: &Given) {
    let response = given.serve("interpreter").get("/");
    let text = String::from_utf8_lossy(&response.body).into_owned();
    assert!(text.contains(r#""SHOP": "a b""#) && text.contains(r#""FARM": "c""#), "{text}");
}

pub fn proc_name(given: &Given) {
    let server = given.serve("hello");
    let title = fs::read_to_string(format!("/proc/{}/cmdline", server.master)).expect("the master runs");
    assert!(title.contains("[shop]"), "{title:?}");
}

pub fn limit_request_line(given: &Given) {
    let server = given.serve("hello");
    server.get("/").expect(200, "Hello, world!\n");
    assert_eq!(server.get(&format!("/{}", "a".repeat(40))).status, 414);
}

pub fn limit_request_fields(given: &Given) {
    let server = given.serve("hello");
    assert_eq!(server.ask("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n").status, 200);
    assert_eq!(server.ask("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nB: c\r\n\r\n").status, 431);
}

pub fn limit_request_field_size(given: &Given) {
    let request = |value: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {value}\r\n\r\n");
    let server = given.serve("hello");
    assert_eq!(server.ask(request("b")).status, 200);
    assert_eq!(server.ask(request(&"b".repeat(40))).status, 431);
}

pub fn accesslog(given: &Given) {
    let server = given.serve("hello");
    server.get("/there");
    let text = || fs::read_to_string(given.scratch.path("access.log")).unwrap_or_default();
    wait_until("the line", || text().contains("/there"));
}

pub fn access_log_format(given: &Given) {
    let server = given.serve("hello");
    server.get("/");
    server.access_log().wait_for("=200=");
}

pub fn errorlog(given: &Given) {
    let bind = format!("unix:{}", given.scratch.text("http.sock"));
    let address = Address::Unix(given.scratch.path("http.sock"));
    let _server = Server::start_at(given.program(&["--bind", &bind, &app_path("hello")]), address);
    let text = || fs::read_to_string(given.scratch.path("error.log")).unwrap_or_default();
    wait_until("the start line", || text().contains("listening on"));
}

pub fn loglevel(given: &Given) {
    let server = given.serve("hello");
    assert_eq!(server.ask("GET / HTTP/1.1\r\n\r\n").status, 400);
    server.log().wait_for("[DEBUG]");
}

pub fn check_config(given: &Given) {
    let finished = given.program(&[&app_path("hello")]).run().expect_status(0);
    assert_eq!(finished.stdout, "tests.apps.hello:app: loads\n");
}

pub fn print_config(given: &Given) {
    let finished = given.program(&["--workers", "7", &app_path("hello")]).run().expect_status(0);
    assert!(finished.stdout.contains("workers = 7  # command line\n"), "{}", finished.stdout);
}
