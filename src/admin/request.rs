//! [`Request`]: as much of a request as is looked at here. Not for the open: what the workers' parser is strict about, for
//! the sake of proxies, does not matter where nothing can be changed.

use std::net::{IpAddr, Ipv6Addr};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Without its query.
    pub(super) path: &'a str,
    /// `None`: HTTP/1.0 without it.
    host: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Other,
}

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsound {
    /// More may come.
    Incomplete,
    Malformed,
}

const FIELDS_MAX: usize = 64;

impl<'a> Request<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Unsound> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Unsound::Incomplete),
            Err(_) => return Err(Unsound::Malformed),
        }
        let method = match parsed.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some(_) | None => Method::Other,
        };
        let mut hosts = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("Host"));
        let host = match (hosts.next(), hosts.next()) {
            (None, _) if parsed.version == Some(1) => return Err(Unsound::Malformed),
            (_, Some(_)) => return Err(Unsound::Malformed),
            (None, None) => None,
            (Some(host), None) => Some(std::str::from_utf8(host.value).map_err(|_| Unsound::Malformed)?),
        };
        Ok(Self { method, path: path(parsed.path.unwrap_or_default()), host })
    }

    /// Whether the host that is asked for is `localhost`, or an address: names of the open lead to no such thing, unless
    /// somebody makes them.
    pub(super) fn names_local_host(&self) -> bool {
        let Some(host) = self.host else { return true };
        if let Some(rest) = host.strip_prefix('[') {
            return rest.split_once(']').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok());
        }
        let name = host.split(':').next().unwrap_or(host).to_ascii_lowercase();
        name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
    }
}

/// Of a target in origin form or in absolute form (RFC 9112 §3.2).
fn path(target: &str) -> &str {
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    target.split('?').next().unwrap_or(target)
}
