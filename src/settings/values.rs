//! What a value looks like: text → value, or one short reason why not. Each function is the parser of one or several
//! settings and sees nothing but their text; clap puts the name of the option in front of the reason.
//!
//! Numbers are read from digits alone: `str::parse` would also take `+5`, `1e3`, `inf` and `nan`.

use std::ffi::OsString;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::LogTarget;
use super::cli::ProxyProtocol;
use super::trust::is_token;

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

/// gunicorn's names (syslog(3)), with or without `LOG_`, in any case → the code, 0 to 23.
pub(super) fn syslog_facility(text: &str) -> Result<u8, String> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("log_").unwrap_or(&lower);
    let name = if name == "security" { "auth" } else { name };
    let found = SYSLOG_FACILITIES.iter().find(|(known, _)| *known == name);
    found.map(|(_, code)| *code).ok_or_else(|| "there is no facility of this name, such as user, daemon, local0".into())
}

const SYSLOG_FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// gunicorn's modes, and what it takes for booleans.
pub(super) fn proxy_protocol(text: &str) -> Result<ProxyProtocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "off" | "false" | "no" | "none" | "0" | "" => Ok(ProxyProtocol::Off),
        "auto" | "true" | "yes" | "on" | "1" => Ok(ProxyProtocol::Auto),
        "v1" => Ok(ProxyProtocol::V1),
        "v2" => Ok(ProxyProtocol::V2),
        _ => Err("it is none of off, v1, v2 and auto".into()),
    }
}

/// gunicorn's workers of one thread and of several are the same here.
pub(super) fn worker_class(text: &str) -> Result<String, String> {
    let instead = match text {
        "sync"
        | "gthread"
        | "threads"
        | "gunicorn.workers.sync.SyncWorker"
        | "gunicorn.workers.gthread.ThreadWorker"
        | "gunicorn.workers.ThreadWorker"
        | "SyncWorker"
        | "ThreadWorker" => return Ok(text.to_owned()),
        "gevent" | "gevent_wsgi" | "gevent_pywsgi" | "eventlet" | "egg:gunicorn#gevent" | "egg:gunicorn#eventlet" => {
            "minicorn has no green threads; take -k gthread with --threads N, slow clients cost no thread here"
        }
        "tornado" => "a Tornado application is not WSGI; take -k gthread for a WSGI application",
        "asgi"
        | "uvicorn.workers.UvicornWorker"
        | "uvicorn.workers.UvicornH11Worker"
        | "uvicorn_worker.UvicornWorker" => {
            "minicorn serves WSGI, not ASGI; take uvicorn or granian for an ASGI application"
        }
        _ => "minicorn's workers are its own; take sync or gthread, which mean the same here",
    };
    Err(instead.into())
}

/// Loggers are not ours to choose, but gunicorn's default names may stand in a file.
pub(super) fn logger_class(text: &str) -> Result<String, String> {
    match text {
        "gunicorn.glogging.Logger" | "simple" | "gunicorn.instrument.statsd.Statsd" => Ok(text.to_owned()),
        _ => Err("minicorn's logger is its own; see --access-logformat, --access-log-skip and --log-config".into()),
    }
}

/// A path as in a request line, `*` at its end for any rest.
pub(super) fn log_skip_path(text: &str) -> Result<String, String> {
    match text.trim() {
        path if path.starts_with('/') || path == "*" => Ok(path.to_owned()),
        _ => Err("it does not begin with a '/'".into()),
    }
}

/// 0, or 100 to 599.
pub(super) fn status(text: &str) -> Result<u16, String> {
    match count(text)? {
        status @ (0 | 100..=599) => Ok(status as u16),
        _ => Err("it is not a status such as 400".into()),
    }
}

pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(count(text)?.into()))
}

/// The name of a header that an application finds in its environ, and that a response can have besides its own.
pub(super) fn header_name(text: &str) -> Result<String, String> {
    if !is_token(text) || text.contains('_') {
        return Err("it is not the name of a header without underscores".into());
    }
    match HEADERS_WITH_A_MEANING.iter().any(|name| name.eq_ignore_ascii_case(text)) {
        true => Err("it is a header that means something else".into()),
        false => Ok(text.to_owned()),
    }
}

/// Another value of these would frame or steer the request or its response.
const HEADERS_WITH_A_MEANING: [&str; 12] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "host",
    "location",
    "server",
    "set-cookie",
    "transfer-encoding",
];

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

pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason<T: std::fmt::Debug>(result: Result<T, String>) -> String {
        result.expect_err("should have been refused")
    }

    #[test]
    fn headers_that_name_requests() {
        assert_eq!(header_name("X-Request-ID"), Ok("X-Request-ID".into()));
        for text in ["", "a b", "X_Request_ID", "Content-Length", "transfer-encoding", "HOST"] {
            assert!(header_name(text).is_err(), "{text}");
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
