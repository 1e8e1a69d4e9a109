//! What a value looks like: text → value, or one short reason why not. Each function is the parser of one or several
//! settings and sees nothing but their text; clap puts the name of the option in front of the reason.
//!
//! Numbers are read from digits alone: `str::parse` would also take `+5`, `1e3`, `inf` and `nan`.

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::{BindAddress, LogTarget};

/// How many workers were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workers {
    /// As many as the CPUs this process may use.
    Auto,
    /// This many, at least one.
    Count(u32),
}

/// An environment variable for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    /// Not empty, without `=`.
    pub(super) name: String,
    pub(super) value: String,
}

/// gunicorn's levels. There is nothing between its error and critical here, so both keep errors only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Debug => log::LevelFilter::Debug,
            LogLevel::Info => log::LevelFilter::Info,
            LogLevel::Warning => log::LevelFilter::Warn,
            LogLevel::Error | LogLevel::Critical => log::LevelFilter::Error,
        }
    }
}

pub(super) fn workers(text: &str) -> Result<Workers, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Workers::Auto);
    }
    if !is_digits(text) {
        return Err("it is neither a whole number nor auto".into());
    }
    at_least_one(text).map(Workers::Count)
}

pub(super) fn count(text: &str) -> Result<u32, String> {
    if !is_digits(text) {
        return Err("it is not a whole number".into());
    }
    text.parse().map_err(|_| format!("it is more than {}", u32::MAX))
}

pub(super) fn at_least_one(text: &str) -> Result<u32, String> {
    match count(text)? {
        0 => Err("it is not at least 1".into()),
        count => Ok(count),
    }
}

/// Each thread has a stack of its own, so a number with too many digits must not be taken at its word.
pub(super) fn threads(text: &str) -> Result<u32, String> {
    match at_least_one(text)? {
        threads if threads > THREADS_MAX => Err(format!("more than {THREADS_MAX}")),
        threads => Ok(threads),
    }
}

const THREADS_MAX: u32 = 1024;

/// Whole or decimal seconds. The bound keeps `Instant + Duration` from overflowing wherever a deadline is made.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: f64 = u32::MAX as f64;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return Err("it is not a number of seconds such as 30 or 0.5".into());
    }
    match text.parse() {
        Ok(seconds) if seconds <= SECONDS_MAX => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("it is more than {SECONDS_MAX} seconds")),
    }
}

/// Bytes, with an optional K, M or G for powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    if !is_digits(digits) {
        return Err("it is not a number of bytes such as 65536, 64K, 10M or 1G".into());
    }
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| format!("it is more than {} bytes", u64::MAX))
}

/// gunicorn's rule: octal behind a 0, else as Python reads numbers.
pub(super) fn umask(text: &str) -> Result<u32, String> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    match u32::from_str_radix(digits, radix) {
        Ok(mask) if is_number && mask <= UMASK_MAX => Ok(mask),
        _ => Err("it is not a mask of permission bits such as 027".into()),
    }
}

const UMASK_MAX: u32 = 0o777;

pub(super) fn variable(text: &str) -> Result<Variable, String> {
    match text.split_once('=') {
        None => Err("it has no '='".into()),
        Some(("", _)) => Err("there is no name in front of the '='".into()),
        Some((name, value)) => Ok(Variable { name: name.into(), value: value.into() }),
    }
}

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

pub(super) fn error_log() -> impl TypedValueParser<Value = LogTarget> {
    OsStringValueParser::new().try_map(|name| log_target(name, LogTarget::Stderr))
}

pub(super) fn access_log() -> impl TypedValueParser<Value = LogTarget> {
    OsStringValueParser::new().try_map(|name| match name.as_encoded_bytes() {
        b"none" => Ok(LogTarget::None),
        _ => log_target(name, LogTarget::Stdout),
    })
}

fn log_target(name: OsString, dash: LogTarget) -> Result<LogTarget, &'static str> {
    match name.as_encoded_bytes() {
        b"" => Err("there is no file name"),
        b"-" => Ok(dash),
        _ => Ok(LogTarget::File(name.into())),
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

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
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

    #[test]
    fn durations() {
        assert_eq!(seconds("30"), Ok(Duration::from_secs(30)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("4294967295"), Ok(Duration::from_secs(u64::from(u32::MAX))));
        for text in ["", "-1", "+1", ".5", "5.", "1.2.3", "nan", "inf", "1e3", "30s", "4294967296", " 1"] {
            reason(seconds(text));
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("0", 0), ("65536", 65536), ("64K", 65536), ("10m", 10 << 20), ("1G", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "1GB", "1T", "18446744073709551616", "17179869184G", "é"] {
            reason(size(text));
        }
    }

    #[test]
    fn umasks() {
        for (text, mask) in [("0", 0), ("022", 0o22), ("0o27", 0o27), ("0x1F", 0o37), ("18", 0o22), ("0777", 0o777)] {
            assert_eq!(umask(text), Ok(mask), "{text}");
        }
        for text in ["", "0o", "+1", "-1", "08", "0+7", "512", "u=rwx"] {
            reason(umask(text));
        }
    }

    #[test]
    fn counts() {
        assert_eq!(count("0"), Ok(0));
        assert_eq!(count("007"), Ok(7));
        for text in ["", "-1", "+1", "1.0", "4294967296", "١"] {
            reason(count(text));
        }
        assert_eq!(at_least_one("1"), Ok(1));
        reason(at_least_one("0"));
    }

    #[test]
    fn worker_counts() {
        assert_eq!(workers("4"), Ok(Workers::Count(4)));
        assert_eq!(workers("Auto"), Ok(Workers::Auto));
        for text in ["", "-1", "many"] {
            assert_eq!(reason(workers(text)), "it is neither a whole number nor auto");
        }
        assert_eq!(reason(workers("0")), "it is not at least 1");
    }

    #[test]
    fn variables() {
        let variable_of = |name: &str, value: &str| Ok(Variable { name: name.into(), value: value.into() });
        assert_eq!(variable("A=b=c"), variable_of("A", "b=c"));
        assert_eq!(variable("A="), variable_of("A", ""));
        reason(variable("A"));
        reason(variable("=b"));
    }

    #[test]
    fn log_targets() {
        let stdout = LogTarget::Stdout;
        assert_eq!(log_target("-".into(), stdout.clone()), Ok(stdout.clone()));
        assert_eq!(log_target("a.log".into(), stdout.clone()), Ok(LogTarget::File("a.log".into())));
        assert!(log_target("".into(), stdout).is_err());
    }
}
