//! statsd and DogStatsD: gunicorn's metrics, by their names and types, in datagrams that carry many of them.
//!
//! Nobody waits for it: what finds no room is lost. Master and workers have a [`Statsd`] each, made from one reading of the
//! settings; the sockets of forked processes may be the same, since datagrams do not mix.

#![forbid(unsafe_code)]

use crate::log::Counts;
use crate::settings::{Metrics, StatsdAddress};
use crate::sys::sender::{Destination, Sender};
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// What passes through an Ethernet in one piece: its 1500 bytes, less IP and UDP, and less what tunnels take.
const DATAGRAM_BYTES_MAX: usize = 1432;

/// How long after a failure the socket is opened anew at the earliest.
const RETRY: Duration = Duration::from_secs(1);

/// Metrics on their way to statsd.
#[derive(Debug)]
pub struct Statsd {
    destination: Destination,
    /// Or why there is none.
    sender: io::Result<Sender>,
    /// When the socket was opened last.
    opened: Instant,
    /// What the names begin with, its dot included.
    prefix: String,
    /// What each metric ends with: `|#a:b`, or nothing.
    tags: String,
    /// Metrics, a line feed between them.
    datagram: Vec<u8>,
    line: Vec<u8>,
    /// Requests since the last flush, by status.
    statuses: Vec<(u16, u64)>,
    has_complained: bool,
}

impl Statsd {
    /// Looks up the host and opens a socket, if the settings name a statsd.
    ///
    /// # Errors
    /// A sentence that names the address: its host is not known. A socket that cannot be opened is tried again later.
    pub fn of(metrics: &Metrics) -> Result<Option<Self>, String> {
        let Some(address) = &metrics.statsd_host else { return Ok(None) };
        let destination = destination(address)?;
        Ok(Some(Self {
            sender: Sender::open(&destination),
            opened: Instant::now(),
            destination,
            prefix: dotted(&metrics.statsd_prefix),
            tags: tags(&metrics.dogstatsd_tags),
            datagram: Vec::with_capacity(DATAGRAM_BYTES_MAX),
            line: Vec::new(),
            statuses: Vec::new(),
            has_complained: false,
        }))
    }

    /// A request has been answered.
    pub fn request(&mut self, status: u16, duration: Duration) {
        match self.statuses.iter_mut().find(|(known, _)| *known == status) {
            Some((_, count)) => *count += 1,
            None => self.statuses.push((status, 1)),
        }
        let microseconds = duration.as_micros();
        let milliseconds = format_args!("{}.{:03}|ms", microseconds / 1000, microseconds % 1000);
        self.push("gunicorn.request.duration", milliseconds);
    }

    /// So many workers serve.
    pub fn workers(&mut self, count: u32) {
        self.push("gunicorn.workers", format_args!("{count}|g"));
    }

    /// So many connections wait to be accepted.
    pub fn backlog(&mut self, count: u64) {
        self.push("gunicorn.backlog", format_args!("{count}|h"));
    }

    /// So much has been logged since the last time.
    pub fn logged(&mut self, counts: Counts) {
        let Counts { critical, exception, error, warning } = counts;
        for (name, count) in [("critical", critical), ("exception", exception), ("error", error), ("warning", warning)]
        {
            if count > 0 {
                self.count(&format!("gunicorn.log.{name}"), count);
            }
        }
    }

    /// Sends what has come together.
    pub fn flush(&mut self) {
        self.count_requests();
        self.send();
    }

    /// Many requests are one count.
    fn count_requests(&mut self) {
        if self.statuses.is_empty() {
            return;
        }
        let mut statuses = std::mem::take(&mut self.statuses);
        self.count("gunicorn.requests", statuses.iter().map(|(_, count)| count).sum());
        for (status, count) in statuses.drain(..) {
            self.count(&format!("gunicorn.request.status.{status}"), count);
        }
        self.statuses = statuses;
    }

    /// With gunicorn's sample rate, which says that nothing was left out.
    fn count(&mut self, name: &str, count: u64) {
        self.push(name, format_args!("{count}|c|@1.0"));
    }

    fn push(&mut self, name: &str, value: impl Display) {
        self.line.clear();
        // Writing to a Vec does not fail.
        _ = write!(self.line, "{}{name}:{value}{}", self.prefix, self.tags);
        if !self.datagram.is_empty() && self.datagram.len() + 1 + self.line.len() > DATAGRAM_BYTES_MAX {
            self.send();
            // A worker that is never idle tells of its requests, too.
            if self.statuses.iter().map(|(_, count)| count).sum::<u64>() >= COUNTED_MAX {
                let line = std::mem::take(&mut self.line);
                self.count_requests();
                self.line = line;
            }
        }
        if !self.datagram.is_empty() {
            self.datagram.push(b'\n');
        }
        self.datagram.extend_from_slice(&self.line);
    }

    fn send(&mut self) {
        if self.datagram.is_empty() {
            return;
        }
        let sent = self.try_send();
        self.datagram.clear();
        match sent {
            Err(error) if error.kind() != ErrorKind::WouldBlock && !self.has_complained => {
                self.has_complained = true;
                log::warn!("statsd at {} does not take metrics: {error}", self.place());
            }
            _ => {}
        }
    }

    /// A statsd that has been started anew has another socket. Over UDP the failure is that of an earlier datagram.
    fn try_send(&mut self) -> io::Result<()> {
        let failure = match &self.sender {
            Ok(sender) => match sender.send(&self.datagram) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(error) => error,
            },
            Err(error) => copy(error),
        };
        if self.opened.elapsed() < RETRY {
            return Err(failure);
        }
        self.opened = Instant::now();
        self.sender = Sender::open(&self.destination);
        match &self.sender {
            Ok(sender) => sender.send(&self.datagram).map(drop),
            Err(error) => Err(copy(error)),
        }
    }

    fn place(&self) -> String {
        match &self.destination {
            Destination::Udp(address) | Destination::Tcp(address) => address.to_string(),
            Destination::UnixDatagrams(path) | Destination::UnixStream(path) => format!("unix://{}", path.display()),
        }
    }
}

/// So many requests are counted in one go, at least, where the durations fill the datagrams.
const COUNTED_MAX: u64 = 1000;

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

fn destination(address: &StatsdAddress) -> Result<Destination, String> {
    match address {
        StatsdAddress::Unix(path) => Ok(Destination::UnixDatagrams(path.clone())),
        StatsdAddress::Udp(host, port) => {
            let unknown = |why: &dyn Display| format!("--statsd-host {host}:{port}: {why}");
            let found: Vec<_> = (host.as_str(), *port).to_socket_addrs().map_err(|error| unknown(&error))?.collect();
            preferred(&found).map(Destination::Udp).ok_or_else(|| unknown(&"the host has no address"))
        }
    }
}

/// An IPv4 address if there is one, as with gunicorn: `localhost` is often `::1` first, where no statsd listens.
fn preferred(found: &[SocketAddr]) -> Option<SocketAddr> {
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
}

/// One dot behind a prefix, however many it was given, as with gunicorn.
fn dotted(prefix: &str) -> String {
    let name = prefix.trim_end_matches('.');
    if name.is_empty() { String::new() } else { format!("{name}.") }
}

fn tags(tags: &str) -> String {
    if tags.is_empty() { String::new() } else { format!("|#{tags}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::path::PathBuf;

    /// A collector, and who sends to it.
    struct Heard {
        collector: UnixDatagram,
        statsd: Statsd,
        _folder: tempfile::TempDir,
    }

    impl Heard {
        fn new(prefix: &str, dogstatsd_tags: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("statsd");
            let collector = bind(&path);
            let metrics = Metrics {
                admin_bind: None,
                statsd_host: Some(StatsdAddress::Unix(path)),
                statsd_prefix: prefix.to_owned(),
                dogstatsd_tags: dogstatsd_tags.to_owned(),
                enable_backlog_metric: false,
            };
            let statsd = Statsd::of(&metrics).unwrap().unwrap();
            Self { collector, statsd, _folder: folder }
        }

        fn next(&self) -> Option<String> {
            let mut bytes = [0; 4096];
            let count = self.collector.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
        }
    }

    fn bind(path: &PathBuf) -> UnixDatagram {
        let collector = UnixDatagram::bind(path).unwrap();
        collector.set_nonblocking(true).unwrap();
        collector
    }

    #[test]
    fn names_and_types_are_gunicorns() {
        let mut heard = Heard::new("", "");
        heard.statsd.request(200, Duration::from_micros(1_234_567));
        heard.statsd.request(404, Duration::from_micros(42));
        heard.statsd.request(200, Duration::ZERO);
        heard.statsd.workers(3);
        heard.statsd.backlog(7);
        heard.statsd.logged(Counts { critical: 1, exception: 2, error: 0, warning: 4 });
        assert_eq!(heard.next(), None);
        heard.statsd.flush();
        let lines = [
            "gunicorn.request.duration:1234.567|ms",
            "gunicorn.request.duration:0.042|ms",
            "gunicorn.request.duration:0.000|ms",
            "gunicorn.workers:3|g",
            "gunicorn.backlog:7|h",
            "gunicorn.log.critical:1|c|@1.0",
            "gunicorn.log.exception:2|c|@1.0",
            "gunicorn.log.warning:4|c|@1.0",
            "gunicorn.requests:3|c|@1.0",
            "gunicorn.request.status.200:2|c|@1.0",
            "gunicorn.request.status.404:1|c|@1.0",
        ];
        assert_eq!(heard.next(), Some(lines.join("\n")));
        heard.statsd.flush();
        assert_eq!(heard.next(), None);
    }

    #[test]
    fn an_ipv4_address_is_preferred() {
        let [v4, v6] = ["127.0.0.1:8125", "[::1]:8125"].map(|address| address.parse().unwrap());
        assert_eq!(preferred(&[v6, v4]), Some(v4));
        assert_eq!(preferred(&[v6]), Some(v6));
        assert_eq!(preferred(&[]), None);
    }

    #[test]
    fn a_prefix_has_one_dot_and_tags_stand_behind() {
        for (prefix, expected) in [("", ""), ("web", "web."), ("web.", "web."), ("web..", "web."), ("a.b", "a.b.")] {
            let mut heard = Heard::new(prefix, "env:test,a:b");
            heard.statsd.workers(1);
            heard.statsd.flush();
            assert_eq!(heard.next(), Some(format!("{expected}gunicorn.workers:1|g|#env:test,a:b")));
        }
    }

    #[test]
    fn datagrams_are_short_and_hold_whole_lines() {
        let mut heard = Heard::new("prefix", "");
        (0..5_000).for_each(|_| heard.statsd.request(200, Duration::from_micros(1)));
        let (mut durations, mut requests) = (0, 0);
        let mut take = |heard: &Heard| {
            while let Some(text) = heard.next() {
                assert!(text.len() <= DATAGRAM_BYTES_MAX);
                for line in text.lines() {
                    match line.strip_prefix("prefix.gunicorn.requests:") {
                        Some(count) => requests += count.strip_suffix("|c|@1.0").unwrap().parse::<u32>().unwrap(),
                        None => durations += u32::from(line == "prefix.gunicorn.request.duration:0.001|ms"),
                    }
                }
            }
        };
        // The queue of a Unix socket is short, and what it does not take is lost.
        take(&heard);
        heard.statsd.flush();
        take(&heard);
        assert!(durations > 100 && requests > 0, "{durations} {requests}");
    }

    #[test]
    fn one_that_is_not_there_is_found_again() {
        let mut heard = Heard::new("", "");
        let Destination::UnixDatagrams(path) = heard.statsd.destination.clone() else { panic!("another kind") };
        std::fs::remove_file(&path).unwrap();
        heard.collector = UnixDatagram::unbound().unwrap();
        heard.statsd.workers(1);
        heard.statsd.flush();
        heard.collector = bind(&path);
        heard.statsd.opened = heard.statsd.opened.checked_sub(RETRY).unwrap();
        heard.statsd.workers(2);
        heard.statsd.flush();
        assert_eq!(heard.next().as_deref(), Some("gunicorn.workers:2|g"));
    }
}
