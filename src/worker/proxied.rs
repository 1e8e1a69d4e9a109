//! Who a client is when a proxy stands between: whom the settings believe, and what was said. Trust is a matter of the
//! socket's own peer, whatever a PROXY header says.

use super::client::Client;
use super::engine::Engine;
use crate::http::forwarded::ForwardingRules;
use crate::http::proxy_protocol::{ProxyHeader, ProxyVersions};
use crate::http::{Leniency, RequestError};
use crate::settings::{self, Proxies, ProxyProtocol, Trust};
use crate::sys::socket::Peer;
use crate::wsgi::environ::PeerNames;
use pyo3::prelude::*;
use std::net::SocketAddr;

/// What the settings say about proxies, as far as the worker has to know.
#[derive(Debug)]
pub(super) struct ProxyRules {
    /// Peers whose forwarding headers are believed.
    pub(super) forwarded_allow: Trust,
    /// Which of these headers set who the client is, if any.
    pub(super) forwarding: Option<ForwardingRules>,
    /// Peers that may send a PROXY header.
    pub(super) proxy_allow: Trust,
}

impl ProxyRules {
    pub(super) fn new(proxies: &Proxies) -> Self {
        let forwarding = proxies.trusted_proxy_headers.map(|trusted| ForwardingRules {
            forwarded: trusted.forwarded,
            x_forwarded_for: trusted.x_forwarded_for,
            x_forwarded_host: trusted.x_forwarded_host,
            x_forwarded_proto: trusted.x_forwarded_proto,
            x_forwarded_port: trusted.x_forwarded_port,
            proxies: proxies.trusted_proxy_count as usize,
        });
        Self { forwarded_allow: proxies.forwarded_allow.clone(), forwarding, proxy_allow: proxies.proxy_allow.clone() }
    }
}

/// Which PROXY headers are looked for at the beginning of a connection.
pub(super) fn versions(mode: ProxyProtocol) -> Option<ProxyVersions> {
    match mode {
        ProxyProtocol::Off => None,
        ProxyProtocol::V1 => Some(ProxyVersions { v1: true, v2: false }),
        ProxyProtocol::V2 => Some(ProxyVersions { v1: false, v2: true }),
        ProxyProtocol::Auto => Some(ProxyVersions { v1: true, v2: true }),
    }
}

pub(super) fn leniency(settings: settings::Leniency) -> Leniency {
    Leniency {
        obsolete_folding: settings.permit_obsolete_folding,
        header_spaces: settings.strip_header_spaces,
        unconventional_method: settings.permit_unconventional_http_method,
        unconventional_version: settings.permit_unconventional_http_version,
        casefold_method: settings.casefold_http_method,
    }
}

/// Who is at the far end, as far as the PROXY protocol tells.
pub(super) fn far_end(peer: Peer, proxied: Option<ProxyHeader>) -> Peer {
    match proxied {
        Some(ProxyHeader::Tcp { source, .. }) => Peer::Tcp(source),
        Some(ProxyHeader::Unix) => Peer::Unix,
        Some(ProxyHeader::Local | ProxyHeader::Unknown) | None => peer,
    }
}

/// What the environs of a connection say of its client.
pub(super) fn peer_names(py: Python<'_>, client: &Client, rules: &ProxyRules) -> PeerNames {
    let names = match far_end(client.peer, client.proxied) {
        Peer::Tcp(address) => PeerNames::new(py, address.ip().to_string(), Some(address.port())),
        Peer::Unix => PeerNames::new(py, String::new(), None),
    };
    let names = names.with_trust(is_among(&rules.forwarded_allow, client.peer));
    let Some(header) = client.proxied else { return names };
    let names = names.with_proxied(py, "PROXY_PROTOCOL", protocol(header));
    match header {
        ProxyHeader::Tcp { destination, .. } => names
            .with_proxied(py, "PROXY_ADDR", &destination.ip().to_string())
            .with_proxied(py, "PROXY_PORT", &destination.port().to_string()),
        ProxyHeader::Local | ProxyHeader::Unknown | ProxyHeader::Unix => names,
    }
}

/// As gunicorn names them, and those it does not know as the protocol does.
fn protocol(header: ProxyHeader) -> &'static str {
    match header {
        ProxyHeader::Local => "LOCAL",
        ProxyHeader::Unknown => "UNKNOWN",
        ProxyHeader::Unix => "UNIX",
        ProxyHeader::Tcp { source: SocketAddr::V4(_), .. } => "TCP4",
        ProxyHeader::Tcp { source: SocketAddr::V6(_), .. } => "TCP6",
    }
}

fn is_among(trust: &Trust, peer: Peer) -> bool {
    match peer {
        Peer::Tcp(address) => trust.includes(address.ip()),
        // Who may open the socket is a matter of its permissions.
        Peer::Unix => true,
    }
}

impl Engine<'_> {
    /// Notes what a PROXY header says, if its sender may say it.
    pub(super) fn introduce(&mut self, client: &mut Client, header: ProxyHeader) {
        if self.may_introduce(client) {
            client.proxied = Some(header);
        } else {
            self.refuse(client, RequestError::ProxyForbidden);
        }
    }

    /// What a peer is told whose PROXY header is malformed: who may not send one learns nothing else.
    pub(super) fn judge(&self, client: &Client, error: RequestError) -> RequestError {
        match error {
            RequestError::ProxyHeader if !self.may_introduce(client) => RequestError::ProxyForbidden,
            error => error,
        }
    }

    fn may_introduce(&self, client: &Client) -> bool {
        is_among(&self.rules.proxies.proxy_allow, client.peer)
    }

    /// Reads what a trusted peer says of the client whose request is complete, where the settings name headers for it.
    ///
    /// # Errors
    /// It cannot be read.
    #[inline]
    pub(super) fn read_forwarding(&self, client: &mut Client) -> Result<(), RequestError> {
        let Some(rules) = &self.rules.proxies.forwarding else { return Ok(()) };
        client.forwarded = None;
        if client.peer_names.as_ref().is_some_and(PeerNames::is_trusted) {
            client.forwarded = Some(Box::new(rules.read(&client.connection.request())?));
        }
        Ok(())
    }
}
