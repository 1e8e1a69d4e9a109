//! The PROXY protocol: what a proxy says of its client before the first request, as text (version 1) or binary
//! (version 2). The source is HAProxy's `proxy-protocol.txt`, whose sections are named below.

use super::error::RequestError;
use super::syntax;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which versions are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyVersions {
    /// The line of text.
    pub v1: bool,
    /// The binary one.
    pub v2: bool,
}

/// What the proxy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The proxy speaks for itself, as in its health checks: the peer of the socket is who it is.
    Local,
    /// It does not know, or does not tell: again the peer of the socket.
    Unknown,
    /// Its client came over a Unix socket.
    Unix,
    /// Its client came over TCP; both addresses are of the same family.
    Tcp {
        /// The client.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// More bytes are needed to say.
    Partial,
    /// A request.
    Request,
    /// A header; it is this long.
    Header(ProxyHeader, usize),
}

impl ProxyVersions {
    /// Looks at all bytes of a connection so far. What it says of some bytes it says of any that begin with them, but
    /// for [`Beginning::Partial`].
    ///
    /// # Errors
    /// [`RequestError::ProxyHeader`]: it begins like a header and is none.
    pub(super) fn look_at(self, bytes: &[u8]) -> Result<Beginning, RequestError> {
        if self.v2 && bytes.starts_with(V2_SIGNATURE) {
            return v2(bytes);
        }
        if self.v1 && bytes.starts_with(V1_SIGNATURE) {
            return v1(bytes);
        }
        let may_become = |signature: &[u8]| signature.starts_with(bytes);
        let is_partial = (self.v2 && may_become(V2_SIGNATURE)) || (self.v1 && may_become(V1_SIGNATURE));
        Ok(if is_partial { Beginning::Partial } else { Beginning::Request })
    }
}

// Version 1, section 2.1.

const V1_SIGNATURE: &[u8] = b"PROXY ";

/// The longest line, its CRLF included.
const V1_BYTES_MAX: usize = 107;

fn v1(bytes: &[u8]) -> Result<Beginning, RequestError> {
    let line_at_most = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    match memchr::memmem::find(line_at_most, b"\r\n") {
        Some(end) => {
            let header = v1_line(&bytes[V1_SIGNATURE.len()..end]).ok_or(RequestError::ProxyHeader)?;
            Ok(Beginning::Header(header, end + 2))
        }
        None if bytes.len() < V1_BYTES_MAX => Ok(Beginning::Partial),
        None => Err(RequestError::ProxyHeader),
    }
}

/// What stands behind `PROXY `.
fn v1_line(line: &[u8]) -> Option<ProxyHeader> {
    // "the receiver must ignore anything presented before the CRLF is found": also a line that is cut short there.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Some(ProxyHeader::Unknown);
    }
    let mut words = line.split(|&byte| byte == b' ');
    let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let is_v4 = match word()? {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let address = |word: &str| -> Option<IpAddr> {
        if is_v4 {
            word.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
        } else {
            word.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
    };
    let (source, destination) = (address(word()?)?, address(word()?)?);
    let (source_port, destination_port) = (v1_port(word()?)?, v1_port(word()?)?);
    if words.next().is_some() {
        return None;
    }
    Some(ProxyHeader::Tcp {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// Decimal digits, "heading zeroes are not permitted".
fn v1_port(word: &str) -> Option<u16> {
    let has_heading_zero = word.len() > 1 && word.starts_with('0');
    let number = syntax::decimal(word.as_bytes()).filter(|_| !has_heading_zero)?;
    u16::try_from(number).ok()
}

// Version 2, section 2.2.

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and protocol, length of the rest.
const V2_FIXED_BYTES: usize = 16;

/// Two addresses of a Unix socket.
const V2_UNIX_BYTES: usize = 216;

fn v2(bytes: &[u8]) -> Result<Beginning, RequestError> {
    let Some((&[version_and_command, family, high, low], rest)) =
        bytes.get(V2_SIGNATURE.len()..).and_then(|rest| rest.split_first_chunk::<4>())
    else {
        return Ok(Beginning::Partial);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(RequestError::ProxyHeader),
    };
    // Said before the rest has come, so that nobody is waited for in vain.
    let addresses_bytes = match family {
        _ if is_local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => V2_UNIX_BYTES,
        // Datagrams among them: no request comes over these.
        _ => return Err(RequestError::ProxyHeader),
    };
    if length < addresses_bytes {
        return Err(RequestError::ProxyHeader);
    }
    let Some(rest) = rest.get(..length) else { return Ok(Beginning::Partial) };
    // What follows the addresses are extensions (TLVs), all of them optional.
    let header = match family {
        _ if is_local => ProxyHeader::Local,
        0x11 => v2_addresses::<4>(rest, |octets| Ipv4Addr::from(octets).into()).ok_or(RequestError::ProxyHeader)?,
        0x21 => v2_addresses::<16>(rest, |octets| Ipv6Addr::from(octets).into()).ok_or(RequestError::ProxyHeader)?,
        0x31 => ProxyHeader::Unix,
        _ => ProxyHeader::Unknown,
    };
    Ok(Beginning::Header(header, V2_FIXED_BYTES + length))
}

/// Source and destination, then their ports in the same order.
fn v2_addresses<const N: usize>(rest: &[u8], address: impl Fn([u8; N]) -> IpAddr) -> Option<ProxyHeader> {
    let (source, rest) = rest.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    Some(ProxyHeader::Tcp {
        source: SocketAddr::new(address(*source), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(address(*destination), u16::from_be_bytes(*destination_port)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: ProxyVersions = ProxyVersions { v1: true, v2: true };

    /// What is said of bytes that come one by one, and that it does not change with what follows.
    fn check(versions: ProxyVersions, bytes: &[u8]) -> Result<Beginning, RequestError> {
        let partial = Ok(Beginning::Partial);
        let said = (0..=bytes.len()).map(|end| versions.look_at(&bytes[..end])).find(|said| *said != partial);
        let said = said.unwrap_or(partial);
        assert_eq!(versions.look_at(bytes), said, "{}", bytes.escape_ascii());
        if said != partial {
            assert_eq!(
                versions.look_at(&[bytes, b"GET / HTTP/1.1\r\n\r\n"].concat()),
                said,
                "with a request behind it"
            );
        }
        said
    }

    fn tcp(source: &str, destination: &str) -> ProxyHeader {
        let [source, destination] = [source, destination].map(|address| address.parse().expect(address));
        ProxyHeader::Tcp { source, destination }
    }

    fn v2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, rest].concat()
    }

    #[test]
    fn lines() {
        let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535";
        let cases = [
            ("PROXY TCP4 192.0.2.1 203.0.113.9 4242 443", Some(tcp("192.0.2.1:4242", "203.0.113.9:443"))),
            ("PROXY TCP6 2001:db8::1 ::1 0 65535", Some(tcp("[2001:db8::1]:0", "[::1]:65535"))),
            ("PROXY UNKNOWN", Some(ProxyHeader::Unknown)),
            (longest, Some(ProxyHeader::Unknown)),
            ("PROXY UNKNOWNS", None),
            ("PROXY ", None),
            ("PROXY TCP4", None),
            ("PROXY TCP4 192.0.2.1 203.0.113.9 4242", None),
            ("PROXY TCP4 192.0.2.1 203.0.113.9 4242 443 1", None),
            ("PROXY TCP4 192.0.2.1 203.0.113.9 4242 443 ", None),
            ("PROXY TCP4  192.0.2.1 203.0.113.9 4242 443", None),
            ("PROXY TCP4 192.0.2.1 203.0.113.9 65536 443", None),
            ("PROXY TCP4 192.0.2.1 203.0.113.9 +1 443", None),
            ("PROXY TCP4 192.0.2.1 203.0.113.9 01 443", None),
            ("PROXY TCP4 192.0.2.01 203.0.113.9 1 443", None),
            ("PROXY TCP4 2001:db8::1 ::1 1 2", None),
            ("PROXY TCP6 192.0.2.1 203.0.113.9 1 2", None),
            ("PROXY TCP6 [::1] [::1] 1 2", None),
            ("PROXY UDP4 192.0.2.1 203.0.113.9 1 2", None),
            ("PROXY tcp4 192.0.2.1 203.0.113.9 1 2", None),
            ("PROXY TCP4 192.0.2.1\t203.0.113.9 1 2", None),
        ];
        for (line, expected) in cases {
            let expected = match expected {
                Some(header) => Ok(Beginning::Header(header, line.len() + 2)),
                None => Err(RequestError::ProxyHeader),
            };
            assert_eq!(check(BOTH, format!("{line}\r\n").as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn a_line_has_a_limit() {
        let line = |filling: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(filling));
        let fits = line(V1_BYTES_MAX - 16);
        assert_eq!(check(BOTH, fits.as_bytes()), Ok(Beginning::Header(ProxyHeader::Unknown, V1_BYTES_MAX)));
        assert_eq!(check(BOTH, line(V1_BYTES_MAX - 15).as_bytes()), Err(RequestError::ProxyHeader));
    }

    #[test]
    fn binary_headers() {
        let v4 = [192, 0, 2, 1, 203, 0, 113, 9, 0x10, 0x92, 0x01, 0xbb];
        let v6 = [Ipv6Addr::LOCALHOST.octets(), Ipv6Addr::UNSPECIFIED.octets()].concat();
        let v6 = [&v6[..], &[0, 1, 0, 2]].concat();
        let with_extension = [&v4[..], &[0x04, 0, 1, 0]].concat();
        let cases = [
            (v2_header(0x21, 0x11, &v4), Some(tcp("192.0.2.1:4242", "203.0.113.9:443"))),
            (v2_header(0x21, 0x11, &with_extension), Some(tcp("192.0.2.1:4242", "203.0.113.9:443"))),
            (v2_header(0x21, 0x21, &v6), Some(tcp("[::1]:1", "[::]:2"))),
            (v2_header(0x21, 0x31, &[0; V2_UNIX_BYTES]), Some(ProxyHeader::Unix)),
            (v2_header(0x21, 0x00, &[]), Some(ProxyHeader::Unknown)),
            (v2_header(0x21, 0x00, b"anything"), Some(ProxyHeader::Unknown)),
            (v2_header(0x20, 0x00, &[]), Some(ProxyHeader::Local)),
            (v2_header(0x20, 0x11, &v4), Some(ProxyHeader::Local)),
            (v2_header(0x20, 0xff, b"x"), Some(ProxyHeader::Local)),
            (v2_header(0x21, 0x11, &v4[..11]), None),
            (v2_header(0x21, 0x21, &v6[..35]), None),
            (v2_header(0x21, 0x31, &[0; 215]), None),
            (v2_header(0x21, 0x12, &v4), None),
            (v2_header(0x21, 0x10, &v4), None),
            (v2_header(0x21, 0x41, &v4), None),
            (v2_header(0x22, 0x11, &v4), None),
            (v2_header(0x11, 0x11, &v4), None),
            (v2_header(0x31, 0x11, &v4), None),
        ];
        for (bytes, expected) in cases {
            let expected = match expected {
                Some(header) => Ok(Beginning::Header(header, bytes.len())),
                None => Err(RequestError::ProxyHeader),
            };
            assert_eq!(check(BOTH, &bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_header() {
        for request in ["GET / HTTP/1.1\r\n", "P", "PROXYGET / HTTP/1.1\r\n", "\r\nGET", "\r\n\r\nGET", "\r\n\r\n\0x"] {
            let said = check(BOTH, request.as_bytes());
            let expected = if request == "P" { Beginning::Partial } else { Beginning::Request };
            assert_eq!(said, Ok(expected), "{request:?}");
        }
    }

    #[test]
    fn the_other_version_is_no_header() {
        let (v1, v2) = (ProxyVersions { v1: true, v2: false }, ProxyVersions { v1: false, v2: true });
        assert_eq!(check(v2, b"PROXY UNKNOWN\r\n"), Ok(Beginning::Request));
        assert_eq!(check(v1, &v2_header(0x20, 0, &[])), Ok(Beginning::Request));
        assert_eq!(check(v1, b"PROXY UNKNOWN\r\n"), Ok(Beginning::Header(ProxyHeader::Unknown, 15)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(command in 0x20u8..0x23, family: u8, rest in prop::collection::vec(any::<u8>(), 0..300)) {
            _ = check(BOTH, &v2_header(command, family, &rest));
        }

        #[test]
        fn any_line_is_survived(line in "[ A-Z0-9.:\r\n]{0,120}") {
            _ = check(BOTH, format!("PROXY {line}").as_bytes());
        }

        #[test]
        fn addresses_come_back(source: u32, destination: u32, ports: (u16, u16)) {
            let [from, to] = [source, destination].map(Ipv4Addr::from);
            let header = ProxyHeader::Tcp {
                source: SocketAddr::new(from.into(), ports.0),
                destination: SocketAddr::new(to.into(), ports.1),
            };
            let line = format!("PROXY TCP4 {from} {to} {} {}\r\n", ports.0, ports.1);
            prop_assert_eq!(check(BOTH, line.as_bytes()), Ok(Beginning::Header(header, line.len())));
            let rest = [&from.octets()[..], &to.octets(), &ports.0.to_be_bytes(), &ports.1.to_be_bytes()].concat();
            let bytes = v2_header(0x21, 0x11, &rest);
            prop_assert_eq!(check(BOTH, &bytes), Ok(Beginning::Header(header, bytes.len())));
        }
    }
}
