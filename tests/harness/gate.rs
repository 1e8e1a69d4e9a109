//! A call that stays in the application until the test lets it go on: the other end of `tests/apps/gate.py`.

use super::Scratch;
use super::client::Client;
use super::server::Server;
use super::wait::wait_until;

/// Closed until it is opened. One gate holds one request.
pub struct Gate(Scratch);

impl Gate {
    pub fn new() -> Gate {
        Gate(Scratch::new())
    }

    /// A target whose call waits at this gate, for an app that uses `wait` of gate.py.
    pub fn target(&self, path: &str) -> String {
        format!("{path}?entered={}&release={}", self.0.text("entered"), self.0.text("release"))
    }

    pub fn request(&self, path: &str) -> String {
        format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", self.target(path))
    }

    pub fn has_been_reached(&self) -> bool {
        self.0.path("entered").exists()
    }

    #[track_caller]
    pub fn wait_until_reached(&self) {
        wait_until("the call to reach its gate", || self.has_been_reached());
    }

    pub fn open(&self) {
        self.0.write("release", "");
    }
}

/// A client whose request is in the application.
pub struct Held {
    pub client: Client,
    pub gate: Gate,
}

impl Held {
    /// Sends this request on a connection that exists, and waits until the application has it.
    #[track_caller]
    pub fn on(mut client: Client, path: &str) -> Held {
        let gate = Gate::new();
        client.send(gate.request(path));
        gate.wait_until_reached();
        Held { client, gate }
    }

    #[track_caller]
    pub fn at(server: &Server, path: &str) -> Held {
        Held::on(server.connect(), path)
    }

    /// Lets the call go on and reads its response, which is a 200.
    #[track_caller]
    pub fn finish(mut self) -> Client {
        self.gate.open();
        self.client.receive().expect_status(200);
        self.client
    }
}
