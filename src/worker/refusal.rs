//! What the server answers by itself: to requests that are malformed, too large, or cannot be served.

use super::client::{Client, Stage};
use super::engine::Engine;
use super::proxied;
use crate::http::response::{ResponseTo, push_plain};
use crate::http::{RequestError, Version};
use crate::sys::socket::Peer;

impl Engine<'_> {
    /// Answers a request that is malformed or too large, and ends the connection.
    pub(super) fn refuse(&mut self, client: &mut Client, error: RequestError) {
        log::debug!("refused a request from {}: {error}", PeerText(proxied::far_end(client.peer, client.proxied)));
        self.answer(client, error.status(), &error.to_string());
    }

    /// Answers a request whose body cannot be kept, and ends the connection.
    pub(super) fn refuse_storage(&mut self, client: &mut Client, error: &std::io::Error) {
        log::error!("no room for a request body in {}: {error}", self.rules.spool.folder.display());
        client.body = Default::default();
        self.answer(client, 507, "the request body cannot be stored");
    }

    /// Answers a request that nobody will serve, and ends the connection.
    pub(super) fn refuse_unserved(&mut self, client: &mut Client) {
        self.answer(client, 503, "no worker can serve the request");
    }

    fn answer(&mut self, client: &mut Client, status: u16, detail: &str) {
        self.count_refusal(status);
        // What the request said about itself is not to be trusted: no keep-alive, and a body whatever the method.
        let to = ResponseTo { is_head: false, version: Version::Http11, persists: false };
        if let Some(channel) = &mut client.channel {
            push_plain(status, detail, to, &self.date, channel.tail());
        }
        client.stage = Stage::ClosingLate;
    }
}

/// A peer in a log line.
struct PeerText(Peer);

impl std::fmt::Display for PeerText {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Peer::Tcp(address) => address.fmt(out),
            Peer::Unix => out.write_str("a unix socket"),
        }
    }
}
