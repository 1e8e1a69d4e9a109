//! The master's own address, `--admin-bind`, of a server that runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;

use super::client::Client;
use super::program::Program;
use super::response::Response;
use super::server::{Address, Server, app_path};
use super::{Scratch, virtual_environment, wait_for};

/// Asks it what is there. One connection for each question.
pub struct Admin {
    pub address: Address,
    /// Where its socket is.
    scratch: Scratch,
}

/// Each sample under its name with its labels, as in `minicorn_connections{state="idle"}`.
pub struct Metrics(BTreeMap<String, f64>);

impl Admin {
    /// A place for a server that is to be started with [`Self::option`].
    pub fn new() -> Admin {
        let scratch = Scratch::new();
        Admin { address: Address::Unix(scratch.path("admin.sock")), scratch }
    }

    pub fn option(&self) -> String {
        format!("--admin-bind=unix:{}", self.scratch.text("admin.sock"))
    }

    /// Starts minicorn with an app of tests/apps and this address.
    #[track_caller]
    pub fn serve(app: &str, options: &[&str]) -> (Server, Admin) {
        let admin = Admin::new();
        let app = app_path(app);
        let option = admin.option();
        let arguments = [&["--bind", "127.0.0.1:0", "--access-logfile", "none", &*option], options, &[&*app]].concat();
        (Server::start(Program::new(&arguments)), admin)
    }

    /// Where a server that was started with `--admin-bind 127.0.0.1:0` has it, as its log says.
    #[track_caller]
    pub fn port_of(server: &Server) -> SocketAddr {
        const LINE: &str = "health, metrics and status at http://";
        wait_for("the line with the address", || {
            let log = server.log().text();
            let rest = &log[log.find(LINE)? + LINE.len()..];
            rest[..rest.find('\n')?].trim().parse().ok()
        })
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(&self.address)
    }

    /// One GET, behind which the connection ends.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        let mut client = self.connect();
        let response = client.get(path);
        client.expect_end();
        response
    }

    /// What it says about the workers and itself.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let response = self.get("/status.json").expect_status(200);
        assert_eq!(response.value("Content-Type"), Some("application/json"));
        serde_json::from_slice(&response.body).expect("JSON")
    }

    /// Its metrics, as Prometheus's own client reads them.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let response = self.get("/metrics").expect_status(200);
        assert_eq!(response.value("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let scratch = Scratch::new();
        scratch.write("metrics", response.text());
        let python = virtual_environment().join("bin/python");
        let python = python.to_str().expect("a UTF-8 path");
        let input = std::fs::File::open(scratch.path("metrics")).expect("what was written");
        let finished = Program::prepare(python, &["-c", READ]).stdin(Stdio::from(input)).run().expect_status(0);
        Metrics(serde_json::from_str(&finished.stdout).expect("JSON"))
    }
}

/// Prints all samples as JSON. Prometheus takes what its client takes; what is good style is checked here.
const READ: &str = r#"
import json, sys
from prometheus_client.parser import text_string_to_metric_families

samples, families = {}, set()
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.name.startswith("minicorn_") and family.name not in families, family.name
    assert family.type in ("counter", "gauge", "histogram") and family.documentation, family
    families.add(family.name)
    for sample in family.samples:
        # The client takes the ending from the family of a counter, and expects it of its samples.
        assert sample.name.endswith("_total") == (family.type == "counter"), sample
        labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
        name = sample.name + ("{" + labels + "}" if labels else "")
        assert name not in samples, name
        samples[name] = sample.value
print(json.dumps(samples))
"#;

impl Metrics {
    /// The sample of that name, which is there.
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        self.find(name).unwrap_or_else(|| panic!("{name} is not among {:?}", self.0.keys()))
    }

    pub fn find(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// All samples whose names begin so, with their sum.
    pub fn sum(&self, start: &str) -> f64 {
        self.0.iter().filter(|(name, _)| name.starts_with(start)).map(|(_, value)| value).sum()
    }

    /// The counters, which never fall.
    pub fn counters(&self) -> impl Iterator<Item = (&String, f64)> {
        let is_counter = |name: &str| {
            let family = name.split('{').next().unwrap_or(name);
            let is_worker = family.starts_with("minicorn_worker_requests");
            !is_worker && ["_total", "_count", "_sum", "_bucket"].iter().any(|end| family.ends_with(end))
        };
        self.0.iter().filter(move |(name, _)| is_counter(name)).map(|(name, value)| (name, *value))
    }
}
