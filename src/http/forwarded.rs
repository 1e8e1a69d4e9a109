//! What a trusted proxy says of its client in `X-Forwarded-…` or `Forwarded` (RFC 7239): fields → [`Forwarded`].
//!
//! The model is waitress': the operator names the headers that the proxies in front set, and how many proxies there are;
//! the entry so many places from the right was written by the outermost of them, and what stands before it by nobody
//! knows whom. Unlike waitress, entries before that are not looked at, and addresses and hosts must be some.

use super::error::RequestError;
use super::request::Request;
use super::syntax;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Which fields are believed; those that are not are as if they were not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardingRules {
    /// `Forwarded`.
    pub forwarded: bool,
    /// `X-Forwarded-For`.
    pub x_forwarded_for: bool,
    /// `X-Forwarded-Host`.
    pub x_forwarded_host: bool,
    /// `X-Forwarded-Proto`.
    pub x_forwarded_proto: bool,
    /// `X-Forwarded-Port`.
    pub x_forwarded_port: bool,
    /// Proxies in a row; at least one.
    pub proxies: usize,
}

/// Who the client is, as far as it was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Its address without brackets, empty for one that came over a Unix socket; or `unknown`, or a name that begins
    /// with `_` (RFC 7239 §6.2, §6.3).
    pub address: Option<String>,
    /// Its port, if one was said with the address.
    pub port: Option<String>,
    /// The Host that it has sent, perhaps with a port.
    pub host: Option<String>,
    /// Whether it speaks HTTPS.
    pub is_https: Option<bool>,
    /// The port that it has connected to, by `X-Forwarded-Port`.
    pub server_port: Option<String>,
    /// Fields whose entries are cut down to those that are believed: lower-case name and value.
    pub cut: Vec<(&'static str, Vec<u8>)>,
}

const BAD_FOR: RequestError = RequestError::Forwarding("malformed X-Forwarded-For");
const BAD_HOST: RequestError = RequestError::Forwarding("malformed X-Forwarded-Host");
const BAD_PROTO: RequestError = RequestError::Forwarding("malformed X-Forwarded-Proto");
const BAD_PORT: RequestError = RequestError::Forwarding("malformed X-Forwarded-Port");
const BAD_FORWARDED: RequestError = RequestError::Forwarding("malformed Forwarded");

impl ForwardingRules {
    /// What the fields of a request say, whose peer is trusted.
    ///
    /// # Errors
    /// [`RequestError::Forwarding`]: what is to be believed cannot be read.
    pub fn read(&self, request: &Request<'_>) -> Result<Forwarded, RequestError> {
        self.read_fields(|name| {
            request.fields().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        })
    }

    /// `values` gives the values of the fields of a lower-case name, in their order.
    fn read_fields<'v, V: Iterator<Item = &'v [u8]>>(
        &self,
        values: impl Fn(&'static [u8]) -> V,
    ) -> Result<Forwarded, RequestError> {
        let mut found = Forwarded::default();
        if self.forwarded {
            self.read_forwarded(values(b"forwarded"), &mut found)?;
        }
        if self.x_forwarded_for
            && let Some(entry) = self.entry("x-forwarded-for", values(b"x-forwarded-for"), &mut found)
        {
            let text = unquote(entry).ok_or(BAD_FOR)?;
            (found.address, found.port) = node(&text).map(|(address, port)| (Some(address), port)).ok_or(BAD_FOR)?;
        }
        if self.x_forwarded_host
            && let Some(entry) = self.entry("x-forwarded-host", values(b"x-forwarded-host"), &mut found)
        {
            found.host = Some(unquote(entry).and_then(|text| host(&text)).ok_or(BAD_HOST)?);
        }
        if self.x_forwarded_proto
            && let Some(value) = only(values(b"x-forwarded-proto"), BAD_PROTO)?
        {
            found.is_https = Some(unquote(value).and_then(|text| is_https(&text)).ok_or(BAD_PROTO)?);
        }
        if self.x_forwarded_port
            && let Some(value) = only(values(b"x-forwarded-port"), BAD_PORT)?
        {
            found.server_port = Some(unquote(value).and_then(|text| port(&text)).ok_or(BAD_PORT)?);
        }
        Ok(found)
    }

    /// The entry that the outermost trusted proxy has written, or the first one where there are fewer. `None` if the
    /// field is not there, or empty.
    fn entry<'v>(
        &self,
        name: &'static str,
        values: impl Iterator<Item = &'v [u8]>,
        found: &mut Forwarded,
    ) -> Option<&'v [u8]> {
        let entries: Vec<&[u8]> = values.flat_map(syntax::list).collect();
        if entries.iter().all(|entry| entry.is_empty()) {
            return None;
        }
        let believed = self.believed(&entries);
        if believed.len() < entries.len() {
            found.cut.push((name, believed.join(&b", "[..])));
        }
        Some(believed[0])
    }

    fn believed<'e, E>(&self, entries: &'e [E]) -> &'e [E] {
        &entries[entries.len().saturating_sub(self.proxies)..]
    }

    /// Of the believed elements the outermost one that says a thing is right about it, since proxies further in may
    /// leave things out.
    fn read_forwarded<'v>(
        &self,
        values: impl Iterator<Item = &'v [u8]>,
        found: &mut Forwarded,
    ) -> Result<(), RequestError> {
        // Line by line: a quote that is left open must not swallow what the next proxy says in a line of its own.
        let mut elements = Vec::new();
        for value in values.filter(|value| !value.is_empty()) {
            Element::parse_all(value, &mut elements).ok_or(BAD_FORWARDED)?;
        }
        let believed = self.believed(&elements);
        if believed.len() < elements.len() {
            let texts: Vec<&[u8]> = believed.iter().map(|element| element.text).collect();
            found.cut.push(("forwarded", texts.join(&b", "[..])));
        }
        for element in believed.iter().rev() {
            if let Some(text) = &element.client {
                let (address, port) = node(text).ok_or(BAD_FORWARDED)?;
                (found.address, found.port) = (Some(address), port);
            }
            if let Some(text) = &element.host {
                found.host = Some(host(text).ok_or(BAD_FORWARDED)?);
            }
            if let Some(text) = &element.proto {
                found.is_https = Some(is_https(text).ok_or(BAD_FORWARDED)?);
            }
        }
        Ok(())
    }
}

/// The value of a field that says one thing. waitress refuses two, be they equal.
fn only<'v>(mut values: impl Iterator<Item = &'v [u8]>, error: RequestError) -> Result<Option<&'v [u8]>, RequestError> {
    let first = values.next();
    if values.next().is_some() {
        return Err(error);
    }
    Ok(first.filter(|value| !value.is_empty()))
}

/// `forwarded-element` of RFC 7239 §4.
#[derive(Default)]
struct Element<'v> {
    text: &'v [u8],
    client: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    proto: Option<Vec<u8>>,
}

impl<'v> Element<'v> {
    /// The elements of one field line, none of them empty.
    fn parse_all(value: &'v [u8], elements: &mut Vec<Self>) -> Option<()> {
        let mut rest = value;
        loop {
            let (text, after) = split_unquoted(rest, b',')?;
            elements.push(Self::parse(syntax::trim(text))?);
            match after {
                Some(after) => rest = after,
                None => return Some(()),
            }
        }
    }

    fn parse(text: &'v [u8]) -> Option<Self> {
        let mut element = Self { text, ..Self::default() };
        let mut seen: Vec<&[u8]> = Vec::new();
        let mut rest = Some(text);
        while let Some(pairs) = rest {
            let (pair, after) = split_unquoted(pairs, b';')?;
            rest = after;
            let pair = syntax::trim(pair);
            // `a=b;` is common, and says nothing else.
            if pair.is_empty() {
                continue;
            }
            let equals = memchr::memchr(b'=', pair)?;
            let (name, value) = (&pair[..equals], unquote(&pair[equals + 1..])?);
            // "Each parameter MUST NOT occur more than once per field-value."
            if !syntax::is_token(name) || seen.iter().any(|seen| seen.eq_ignore_ascii_case(name)) {
                return None;
            }
            seen.push(name);
            match &name.to_ascii_lowercase()[..] {
                b"for" => element.client = Some(value),
                b"host" => element.host = Some(value),
                b"proto" => element.proto = Some(value),
                // `by`, and extensions.
                _ => {}
            }
        }
        (!seen.is_empty()).then_some(element)
    }
}

/// What stands before the first `separator` outside of quotes, and what behind it. `None` if a quote is left open.
fn split_unquoted(text: &[u8], separator: u8) -> Option<(&[u8], Option<&[u8]>)> {
    let mut is_quoted = false;
    let mut bytes = text.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted => _ = bytes.next()?,
            _ if byte == separator && !is_quoted => return Some((&text[..at], Some(&text[at + 1..]))),
            _ => {}
        }
    }
    (!is_quoted).then_some((text, None))
}

/// A token or a quoted string (RFC 9110 §5.6.4). What should be quoted, such as the colon of a port, need not be.
fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let is_plain = !text.is_empty() && text.iter().all(|byte| !matches!(byte, b'"' | b'\\' | b' ' | b'\t'));
        return is_plain.then(|| text.to_vec());
    };
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => return bytes.as_slice().is_empty().then_some(plain),
            b'\\' => plain.push(*bytes.next()?),
            _ => plain.push(byte),
        }
    }
    None
}

/// `node` of RFC 7239 §6: address and port. An IPv6 address may stand without its brackets, as `X-Forwarded-For` has it.
fn node(text: &[u8]) -> Option<(String, Option<String>)> {
    let text = std::str::from_utf8(text).ok()?;
    // What nginx calls a client that came over a Unix socket, which has no address.
    if text == "unix:" {
        return Some((String::new(), None));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((text.to_owned(), None));
    }
    let (name, port_text) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))?)
        }
        None => {
            let (name, port) = text.split_once(':').unwrap_or((text, ""));
            let is_name = name.parse::<Ipv4Addr>().is_ok() || name == "unknown" || is_obfuscated(name);
            (is_name.then_some(name)?, port)
        }
    };
    let port = match port_text {
        "" => None,
        // It hides a port, and none is known then.
        hidden if is_obfuscated(hidden) => None,
        digits => Some(port(digits.as_bytes())?),
    };
    Some((name.to_owned(), port))
}

/// RFC 7239 §6.3.
fn is_obfuscated(text: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_sound))
}

/// A port as it is written without leading zeros.
fn port(text: &[u8]) -> Option<String> {
    syntax::decimal(text).filter(|&number| number <= 65_535).map(|number| number.to_string())
}

fn host(text: &[u8]) -> Option<String> {
    let is_sound = !text.is_empty() && syntax::is_host(text);
    // `is_host` takes ASCII only.
    is_sound.then(|| String::from_utf8_lossy(text).into_owned())
}

fn is_https(text: &[u8]) -> Option<bool> {
    match &text.to_ascii_lowercase()[..] {
        b"https" => Some(true),
        b"http" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: ForwardingRules = ForwardingRules {
        forwarded: false,
        x_forwarded_for: false,
        x_forwarded_host: false,
        x_forwarded_proto: false,
        x_forwarded_port: false,
        proxies: 1,
    };
    const ALL_X: ForwardingRules = ForwardingRules {
        x_forwarded_for: true,
        x_forwarded_host: true,
        x_forwarded_proto: true,
        x_forwarded_port: true,
        ..NONE
    };
    const STANDARD: ForwardingRules = ForwardingRules { forwarded: true, ..NONE };

    fn read(rules: &ForwardingRules, fields: &[(&str, &str)]) -> Result<Forwarded, RequestError> {
        rules.read_fields(|name| {
            let of_name = fields.iter().filter(move |(field, _)| field.as_bytes().eq_ignore_ascii_case(name));
            of_name.map(|(_, value)| value.as_bytes())
        })
    }

    /// Address and port, `-` for what was not said.
    fn client(found: &Forwarded) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        format!("{} {}", text(&found.address), text(&found.port))
    }

    #[test]
    fn clients() {
        let cases = [
            ("192.0.2.1", Some("192.0.2.1 -")),
            ("6.6.6.6, 192.0.2.1", Some("192.0.2.1 -")),
            ("\"6.6.6.6, 192.0.2.1", Some("192.0.2.1 -")),
            ("192.0.2.1:4242", Some("192.0.2.1 4242")),
            ("2001:db8::1", Some("2001:db8::1 -")),
            ("[2001:db8::1]", Some("2001:db8::1 -")),
            ("\"[2001:db8::1]:4242\"", Some("2001:db8::1 4242")),
            ("unknown", Some("unknown -")),
            ("unix:", Some(" -")),
            ("_hidden:_port", Some("_hidden -")),
            ("", Some("- -")),
            (" , ", Some("- -")),
            ("192.0.2.1,", None),
            ("192.0.2.1, localhost", None),
            ("192.0.2.256", None),
            ("192.0.2.1:65536", None),
            ("192.0.2.1:-1", None),
            ("[192.0.2.1]", None),
            ("[::1", None),
            ("[::1]4242", None),
            ("fe80::1%eth0", None),
            ("\"192.0.2.1", None),
            ("192.0.2.1\"", None),
            ("192.0.2.1 6.6.6.6", None),
            ("_", None),
        ];
        for (value, expected) in cases {
            let found = read(&ALL_X, &[("X-Forwarded-For", value)]);
            assert_eq!(found.as_ref().map(client).ok().as_deref(), expected, "{value:?}: {found:?}");
            if expected.is_none() {
                assert_eq!(found, Err(BAD_FOR), "{value:?}");
            }
        }
    }

    #[test]
    fn entries_are_counted_from_the_right_over_all_lines() {
        let fields = [("X-Forwarded-For", "9.9.9.9, 1.1.1.1"), ("x-forwarded-for", "2.2.2.2"), ("X-Other", "3.3.3.3")];
        for (proxies, expected, cut) in [
            (1, "2.2.2.2 -", Some("2.2.2.2")),
            (2, "1.1.1.1 -", Some("1.1.1.1, 2.2.2.2")),
            (3, "9.9.9.9 -", None),
            (7, "9.9.9.9 -", None),
        ] {
            let found = read(&ForwardingRules { proxies, ..ALL_X }, &fields).expect("sound");
            assert_eq!(client(&found), expected, "{proxies} proxies");
            let cut: Vec<_> = cut.iter().map(|cut| ("x-forwarded-for", cut.as_bytes().to_vec())).collect();
            assert_eq!(found.cut, cut, "{proxies} proxies");
        }
    }

    #[test]
    fn host_scheme_and_port() {
        let found = read(
            &ALL_X,
            &[
                ("X-Forwarded-Host", "evil, example.com:8443"),
                ("X-Forwarded-Proto", "HTTPS"),
                ("X-Forwarded-Port", "0443"),
            ],
        );
        let found = found.expect("sound");
        assert_eq!((found.host.as_deref(), found.is_https), (Some("example.com:8443"), Some(true)));
        assert_eq!(found.server_port.as_deref(), Some("443"));
        for (name, value, error) in [
            ("X-Forwarded-Host", "a/b", BAD_HOST),
            ("X-Forwarded-Host", "a,", BAD_HOST),
            ("X-Forwarded-Host", "user@a", BAD_HOST),
            ("X-Forwarded-Proto", "https,http", BAD_PROTO),
            ("X-Forwarded-Proto", "wss", BAD_PROTO),
            ("X-Forwarded-Port", "80,443", BAD_PORT),
            ("X-Forwarded-Port", "65536", BAD_PORT),
            ("X-Forwarded-Port", "+1", BAD_PORT),
        ] {
            assert_eq!(read(&ALL_X, &[(name, value)]), Err(error), "{name}: {value}");
            assert_eq!(read(&NONE, &[(name, value)]), Ok(Forwarded::default()), "{name} is not believed");
        }
        for name in ["X-Forwarded-Proto", "X-Forwarded-Port"] {
            let value = if name == "X-Forwarded-Proto" { "https" } else { "443" };
            assert!(read(&ALL_X, &[(name, value), (name, value)]).is_err(), "{name} twice");
            assert_eq!(read(&ALL_X, &[(name, "")]), Ok(Forwarded::default()), "an empty {name}");
        }
    }

    /// The values as `client host https`.
    fn standard(proxies: usize, values: &[&str]) -> Result<String, RequestError> {
        let fields: Vec<_> = values.iter().map(|value| ("Forwarded", *value)).collect();
        let found = read(&ForwardingRules { proxies, ..STANDARD }, &fields)?;
        let host = found.host.as_deref().unwrap_or("-");
        Ok(format!("{} {host} {}", client(&found), found.is_https.map_or("-".to_owned(), |is| is.to_string())))
    }

    #[test]
    fn forwarded() {
        let cases: [(&[&str], &str); 11] = [
            (&["for=192.0.2.43"], "192.0.2.43 - - -"),
            (&["For=\"[2001:db8:cafe::17]:4711\";Host=a;proto=HTTPS"], "2001:db8:cafe::17 4711 a true"),
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60 - - false"),
            (&["for=6.6.6.6, for=192.0.2.43:80"], "192.0.2.43 80 - -"),
            (&["for=6.6.6.6;host=evil", "for=192.0.2.43"], "192.0.2.43 - - -"),
            (&["for=_gazonk"], "_gazonk - - -"),
            (&["for=\"_mdn:_x\""], "_mdn - - -"),
            (&["for=unknown;"], "unknown - - -"),
            (&["for=\"1\\92.0.2.1\";extension=\"a,b;c=\\\"d\""], "192.0.2.1 - - -"),
            (&["by=x"], "- - - -"),
            (&[""], "- - - -"),
        ];
        for (values, expected) in cases {
            assert_eq!(standard(1, values).as_deref(), Ok(expected), "{values:?}");
        }
    }

    #[test]
    fn forwarded_by_two() {
        let both = "for=9.9.9.9;proto=http, for=192.0.2.1;host=a;proto=https, for=10.0.0.1;host=inside";
        assert_eq!(standard(2, &[both]).as_deref(), Ok("192.0.2.1 - a true"));
        assert_eq!(standard(1, &[both]).as_deref(), Ok("10.0.0.1 - inside -"));
        // The outer one leaves out what the inner one says.
        assert_eq!(standard(2, &["for=192.0.2.1, for=10.0.0.1;proto=https"]).as_deref(), Ok("192.0.2.1 - - true"));
    }

    #[test]
    fn malformed_forwarded() {
        for value in [
            "for",
            "for=",
            "=x",
            "for=a",
            "for=192.0.2.1;for=192.0.2.2",
            "for=192.0.2.1,",
            ",for=192.0.2.1",
            "for=192.0.2.1,,for=192.0.2.1",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "for=\"192.0.2.1",
            "for=192.0.2.1\"",
            "for=\"192.0.2.1\"x",
            "for=\"192.0.2.1\\",
            "host=a/b",
            "proto=ftp",
            ";",
        ] {
            assert_eq!(standard(1, &[value]), Err(BAD_FORWARDED), "{value:?}");
        }
        // A quote that a client has left open must not swallow what the proxy says.
        assert_eq!(standard(1, &["for=\"6.6.6.6, for=192.0.2.1"]), Err(BAD_FORWARDED));
        assert_eq!(standard(1, &["x=\"", "for=192.0.2.1;host=\"a\""]), Err(BAD_FORWARDED));
    }

    proptest! {
        /// Whatever a client has sent before: a proxy that appends its own line is believed, or the request refused.
        #[test]
        fn nothing_before_the_proxy_counts(before in "[ -~]{0,60}") {
            let found = read(&STANDARD, &[("Forwarded", &before), ("Forwarded", "for=192.0.2.1;host=right;proto=https")]);
            if let Ok(found) = found {
                prop_assert_eq!(client(&found), "192.0.2.1 -");
                prop_assert_eq!((found.host.as_deref(), found.is_https), (Some("right"), Some(true)));
            }
            let line = format!("{before}, 192.0.2.1");
            let found = read(&ALL_X, &[("X-Forwarded-For", &line)]).expect("the last entry is sound");
            prop_assert_eq!(client(&found), "192.0.2.1 -");
        }
    }
}
