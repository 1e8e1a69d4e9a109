//! Addresses: of listeners, of syslog and of statsd.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use super::BindAddress;
use super::values::{count, is_digits};

/// gunicorn's address forms.
pub(super) fn bind_address(text: &str) -> Result<BindAddress, String> {
    if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
        return match (path, path.strip_prefix('@')) {
            ("", _) => Err("there is no path after 'unix:'".into()),
            (_, Some("")) => Err("there is no name after the '@'".into()),
            (_, Some(name)) => Ok(BindAddress::Abstract(name.into())),
            (path, None) => Ok(BindAddress::Unix(PathBuf::from(path))),
        };
    }
    if let Some(number) = text.strip_prefix("fd://") {
        return match count(number) {
            Ok(number) => Ok(BindAddress::Descriptor(number)),
            Err(_) => Err("there is no number of a descriptor after 'fd://'".into()),
        };
    }
    let text = text.strip_prefix("tcp://").unwrap_or(text);
    if text.is_empty() || text.contains('/') {
        return Err("it is none of HOST, HOST:PORT, :PORT, [IPV6]:PORT, unix:PATH, unix:@NAME and fd://N".into());
    }
    if is_digits(text) {
        // gunicorn takes a bare number for a host, and then fails to find it or listens on 0.0.31.64.
        return Err(format!("it would be a host, probably ':{text}' was meant"));
    }
    let (host_text, port_text) = split_port(text)?;
    Ok(BindAddress::Tcp {
        host: if host_text.is_empty() { EVERY_IPV4.into() } else { host(host_text)? },
        port: port_text.map_or(Ok(PORT), port)?,
    })
}

/// A host name or an address; an IPv6 address may stand in brackets and loses them here.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = bracketed.unwrap_or(text);
    let is_host = if bracketed.is_some() || host.contains(':') {
        // The zone of a link-local address (RFC 4007 §11) is for the system to look up.
        host.split_once('%').map_or(host, |(address, _zone)| address).parse::<Ipv6Addr>().is_ok()
    } else {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"[]/".contains(&byte))
    };
    if is_host { Ok(host.into()) } else { Err("it is not a host name or an IP address".into()) }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    if !is_digits(text) {
        return Err(format!("'{text}' is not a port number"));
    }
    text.parse().map_err(|_| format!("port {text} is above 65535"))
}

/// Where syslog is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A name or an address, and a port.
    Udp(String, u16),
    /// A name or an address, and a port; each message ends with an LF.
    Tcp(String, u16),
    /// The path of a socket.
    Unix(PathBuf, SyslogSocket),
}

/// What kind of a Unix socket syslog has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogSocket {
    /// Datagrams, else a stream, as Python's SysLogHandler tries them.
    Either,
    /// SOCK_DGRAM.
    Datagram,
    /// SOCK_STREAM.
    Stream,
}

/// Where statsd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatsdAddress {
    /// A name or an address, and a port, for UDP.
    Udp(String, u16),
    /// The path of a datagram socket.
    Unix(PathBuf),
}

/// gunicorn's forms: `unix://PATH`, `unix://PATH#dgram`, `udp://HOST:PORT`, `tcp://HOST:PORT`.
pub(super) fn syslog_address(text: &str) -> Result<SyslogAddress, String> {
    if let Some(rest) = text.strip_prefix("unix://") {
        let (path, socket) = match rest.rsplit_once('#') {
            Some((path, "dgram")) => (path, SyslogSocket::Datagram),
            Some((path, "stream")) => (path, SyslogSocket::Stream),
            Some((_, kind)) => return Err(format!("'{kind}' is neither dgram nor stream")),
            None => (rest, SyslogSocket::Either),
        };
        return if path.is_empty() {
            Err("there is no path after 'unix://'".into())
        } else {
            Ok(SyslogAddress::Unix(path.into(), socket))
        };
    }
    let (rest, udp) = match (text.strip_prefix("udp://"), text.strip_prefix("tcp://")) {
        (Some(rest), _) => (rest, true),
        (_, Some(rest)) => (rest, false),
        _ => return Err("it is none of udp://HOST:PORT, tcp://HOST:PORT and unix://PATH".into()),
    };
    let (host_text, port_text) = split_port(rest)?;
    let (host, port) = (host(host_text)?, port_text.map_or(Ok(SYSLOG_PORT), port)?);
    Ok(if udp { SyslogAddress::Udp(host, port) } else { SyslogAddress::Tcp(host, port) })
}

const SYSLOG_PORT: u16 = 514;

pub(super) fn statsd_address(text: &str) -> Result<StatsdAddress, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        return if path.is_empty() {
            Err("there is no path after 'unix://'".into())
        } else {
            Ok(StatsdAddress::Unix(path.into()))
        };
    }
    let (host_text, port_text) = split_port(text)?;
    let port = port_text.map_or(Ok(STATSD_PORT), port)?;
    Ok(StatsdAddress::Udp(host(host_text)?, port))
}

const STATSD_PORT: u16 = 8125;

/// As --bind, but for descriptors.
pub(super) fn admin_address(text: &str) -> Result<BindAddress, String> {
    match bind_address(text)? {
        BindAddress::Descriptor(_) => Err("it cannot be a descriptor".into()),
        address => Ok(address),
    }
}

/// `HOST`, `HOST:PORT`, `:PORT`, `[IPV6]`, `[IPV6]:PORT` → host as written, and the port if there is one.
fn split_port(text: &str) -> Result<(&str, Option<&str>), String> {
    if text.starts_with('[') {
        let Some(end) = text.find(']') else { return Err("the ']' is missing".into()) };
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("'{rest}' after the ']' is not a port")),
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((_, port)) if port.contains(':') => Err("an IPv6 address needs brackets, as in [::1]:8000".into()),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

/// Where an address says no host.
const EVERY_IPV4: &str = "0.0.0.0";
/// Where an address says no port.
const PORT: u16 = 8000;

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Result<BindAddress, String> {
        Ok(BindAddress::Tcp { host: host.into(), port })
    }

    fn reason<T: std::fmt::Debug>(result: Result<T, String>) -> String {
        result.expect_err("should have been refused")
    }

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("localhost", "localhost", 8000),
            ("localhost:80", "localhost", 80),
            (":9000", "0.0.0.0", 9000),
            ("0.0.0.0:0", "0.0.0.0", 0),
            ("[::1]:8080", "::1", 8080),
            ("[::]", "::", 8000),
            ("[fe80::1%lo]:1", "fe80::1%lo", 1),
            ("tcp://127.0.0.1:7000", "127.0.0.1", 7000),
            ("tcp://[::1]:7000", "::1", 7000),
        ] {
            assert_eq!(bind_address(text), tcp(host, port), "{text}");
        }
        for (text, path) in [
            ("unix:/run/app.sock", "/run/app.sock"),
            ("unix:///run/app.sock", "/run/app.sock"),
            ("unix:app.sock", "app.sock"),
            ("unix://app.sock", "app.sock"),
        ] {
            assert_eq!(bind_address(text), Ok(BindAddress::Unix(path.into())), "{text}");
        }
        assert_eq!(bind_address("unix:@my/app"), Ok(BindAddress::Abstract("my/app".into())));
        assert_eq!(bind_address("fd://3"), Ok(BindAddress::Descriptor(3)));
    }

    #[test]
    fn wrong_addresses_say_why() {
        for (text, why) in [
            ("8000", "probably ':8000' was meant"),
            ("tcp://8000", "probably ':8000' was meant"),
            ("", "none of HOST"),
            ("tcp://", "none of HOST"),
            ("http://127.0.0.1:8000", "none of HOST"),
            ("fd://", "no number"),
            ("fd://+3", "no number"),
            ("unix:@", "no name"),
            ("/run/app.sock", "none of HOST"),
            ("unix:", "no path"),
            ("unix://", "no path"),
            ("::1", "needs brackets"),
            ("::1:8000", "needs brackets"),
            ("[::1", "']' is missing"),
            ("[::1]8000", "not a port"),
            ("[]:8000", "not a host name"),
            ("a b:8000", "not a host name"),
            ("host:", "'' is not a port number"),
            ("host:http", "'http' is not a port number"),
            ("host:+80", "'+80' is not a port number"),
            ("host:65536", "above 65535"),
        ] {
            let reason = reason(bind_address(text));
            assert!(reason.contains(why), "{text:?}: {reason}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(host("example.org"), Ok("example.org".into()));
        assert_eq!(host("::1"), Ok("::1".into()));
        assert_eq!(host("[::1]"), Ok("::1".into()));
        for text in ["", "[]", "[::1", "[localhost]", "localhost:80", "a/b", "a b", "a\n", "é"] {
            reason(host(text));
        }
    }
}
