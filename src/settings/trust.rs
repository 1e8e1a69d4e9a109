//! Who is believed, and in what: addresses and networks, header names.

use std::net::IpAddr;

use ipnet::IpNet;

/// Peers that are believed. Those of Unix sockets always are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// `*`.
    Everybody,
    /// Those in one of these; none if empty.
    Networks(Vec<IpNet>),
}

impl Trust {
    /// Whether a peer of this address is believed. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    pub fn includes(&self, address: IpAddr) -> bool {
        let canonical = address.to_canonical();
        match self {
            Self::Everybody => true,
            Self::Networks(networks) => {
                networks.iter().any(|network| network.contains(&canonical) || network.contains(&address))
            }
        }
    }
}

/// Header names, upper case, with their hyphens or underscores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderNames {
    /// `*`.
    Any,
    /// These.
    Listed(Vec<String>),
}

/// Headers that say HTTPS: upper-case name, and the value with which it does, to be matched exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemeHeaders(pub Vec<(String, String)>);

/// Which headers of a trusted proxy say who its client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrustedHeaders {
    /// `Forwarded` (RFC 7239); none of the others is set then.
    pub forwarded: bool,
    /// `X-Forwarded-For`: REMOTE_ADDR.
    pub x_forwarded_for: bool,
    /// `X-Forwarded-Host`: HTTP_HOST and SERVER_NAME.
    pub x_forwarded_host: bool,
    /// `X-Forwarded-Proto`: the scheme.
    pub x_forwarded_proto: bool,
    /// `X-Forwarded-Port`: SERVER_PORT.
    pub x_forwarded_port: bool,
    /// `X-Forwarded-By`: seen by the application, and by nobody else's word.
    pub x_forwarded_by: bool,
}

/// `127.0.0.1,10.0.0.0/8`, `*` or nothing. A network with bits set behind its prefix is an error, as with gunicorn.
pub(super) fn trust(text: &str) -> Result<Trust, String> {
    let items = items(text);
    if items.contains(&"*") {
        return Ok(Trust::Everybody);
    }
    items.into_iter().map(network).collect::<Result<_, _>>().map(Trust::Networks)
}

fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network = text.parse::<IpNet>().map_err(|_| format!("'{text}' is neither an address nor a network"))?;
    if network.addr() != network.network() {
        return Err(format!("'{text}' has bits set behind its prefix; {} was meant, or an address", network.trunc()));
    }
    Ok(network)
}

/// `SCRIPT_NAME,PATH_INFO` or `*`.
pub(super) fn header_names(text: &str) -> Result<HeaderNames, String> {
    let items = items(text);
    if items.contains(&"*") {
        return Ok(HeaderNames::Any);
    }
    match items.iter().find(|name| !is_token(name)) {
        Some(name) => Err(format!("'{name}' is not the name of a header")),
        None => Ok(HeaderNames::Listed(items.iter().map(|name| name.to_ascii_uppercase()).collect())),
    }
}

/// `X-FORWARDED-PROTO=https,…`.
pub(super) fn scheme_headers(text: &str) -> Result<SchemeHeaders, String> {
    let header = |item: &str| match item.split_once('=') {
        Some((name, value)) if is_token(name.trim()) => Ok((name.trim().to_ascii_uppercase(), value.trim().to_owned())),
        _ => Err(format!("'{item}' is not of the form NAME=VALUE")),
    };
    items(text).into_iter().map(header).collect::<Result<_, _>>().map(SchemeHeaders)
}

/// `x-forwarded-for,x-forwarded-proto` or `forwarded`.
pub(super) fn trusted_headers(text: &str) -> Result<TrustedHeaders, String> {
    let mut trusted = TrustedHeaders::default();
    for item in items(text) {
        let field = match item.to_ascii_lowercase().as_str() {
            "forwarded" => &mut trusted.forwarded,
            "x-forwarded-for" => &mut trusted.x_forwarded_for,
            "x-forwarded-host" => &mut trusted.x_forwarded_host,
            "x-forwarded-proto" => &mut trusted.x_forwarded_proto,
            "x-forwarded-port" => &mut trusted.x_forwarded_port,
            "x-forwarded-by" => &mut trusted.x_forwarded_by,
            _ => return Err(format!("'{item}' is none of forwarded and x-forwarded-for, -host, -proto, -port, -by")),
        };
        *field = true;
    }
    match trusted {
        TrustedHeaders { forwarded: true, .. }
            if trusted != (TrustedHeaders { forwarded: true, ..Default::default() }) =>
        {
            Err("forwarded stands alone: the others say the same, and one proxy sends only one kind".into())
        }
        trusted if trusted == TrustedHeaders::default() => Err("there is no name of a header".into()),
        trusted => Ok(trusted),
    }
}

/// Whether `text` may name a header (RFC 9110 §5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What stands between the commas, trimmed, and not empty.
fn items(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn includes(trusted: &str, address: &str) -> bool {
        trust(trusted).expect(trusted).includes(address.parse().expect(address))
    }

    #[test]
    fn who_is_trusted() {
        for (trusted, address) in [
            ("*", "203.0.113.9"),
            ("10.0.0.0/8,::1", "10.200.0.1"),
            ("10.0.0.0/8, ::1", "::1"),
            ("127.0.0.1", "::ffff:127.0.0.1"),
            ("fd00::/8", "fd12::1"),
            ("::ffff:10.0.0.0/104", "::ffff:10.0.0.1"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ] {
            assert!(includes(trusted, address), "{trusted} {address}");
        }
        for (trusted, address) in
            [("", "127.0.0.1"), ("10.0.0.0/8", "11.0.0.1"), ("10.0.0.0/8", "::1"), ("127.0.0.1", "127.0.0.2")]
        {
            assert!(!includes(trusted, address), "{trusted} {address}");
        }
    }

    #[test]
    fn what_is_no_network() {
        for text in ["localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", "::1/200", "1.2.3.4:80"] {
            assert!(trust(text).is_err(), "{text}");
        }
    }

    #[test]
    fn which_headers_are_trusted() {
        let found = trusted_headers("X-Forwarded-For, x-forwarded-proto").expect("sound");
        assert_eq!((found.x_forwarded_for, found.x_forwarded_proto, found.forwarded), (true, true, false));
        for text in ["", "host", "forwarded,x-forwarded-for"] {
            assert!(trusted_headers(text).is_err(), "{text}");
        }
    }
}
