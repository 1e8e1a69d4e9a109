//! Syslog: lines of the logs as RFC 3164 records, in the form that gunicorn gives them: `<11>minicorn.app.error: [4242]
//! text`, without a time and a host, which the collector adds.
//!
//! Nobody ever waits for it. What finds no room, or nobody there, is kept and sent later, up to a bound; what is lost beyond
//! that is counted, and told to the caller from time to time.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::digits::push_decimal;
use super::escape::push_message_line;
use super::{Identity, identity};
use crate::settings::{Settings, SyslogAddress, SyslogSocket};
use crate::sys::sender::{Destination, Sender};
use crate::sys::signal;

/// Longer records are cut: rsyslog's default, and far below what a datagram can carry.
pub(super) const RECORD_BYTES_MAX: usize = 8 * 1024;

/// So much is kept to be sent later.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// How long a process that ends waits.
const FINISH_PATIENCE: Duration = Duration::from_millis(200);

/// How long after a failure the next attempt to connect is made; doubled up to the second.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// How long after a complaint the next one may come; doubled up to the second.
const COMPLAINT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(64)];

/// How bad a record is (RFC 3164 §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Critical = 2,
    Error = 3,
    Warning = 4,
    Informational = 6,
    Debug = 7,
}

/// Which of the two logs it is, by the end of its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// `minicorn.NAME.error`
    Error,
    /// `minicorn.NAME.access`
    Access,
}

/// A connection to syslog, for one log. Each process has its own.
#[derive(Debug)]
pub struct Syslog {
    address: SyslogAddress,
    /// What the host's name stands for. Filled by another thread when it is looked up while the worker serves.
    resolved: Arc<Mutex<Vec<SocketAddr>>>,
    /// The one that is tried next: the first to answer may not be the one where syslog listens.
    next_address: usize,
    facility: u8,
    /// `minicorn.app.error: `
    tag: Vec<u8>,
    link: Link,
    /// Who has opened the link, and filled `waiting`: a process that was forked since has another one.
    pid: u32,
    record: Vec<u8>,
    /// Records, each with a line feed behind it, which a stream gets, too.
    waiting: Vec<u8>,
    /// The first of them has been sent in part.
    is_torn: bool,
    retry: Pause,
    complaint: Pause,
    /// Records lost since the last complaint.
    lost: u64,
    cause: Option<io::Error>,
}

#[derive(Debug)]
enum Link {
    Closed,
    Datagrams(Sender),
    Stream(Sender),
}

/// How long something is not done again.
#[derive(Debug)]
struct Pause {
    until: Option<Instant>,
    next: Duration,
    bounds: [Duration; 2],
}

impl Pause {
    fn new(bounds: [Duration; 2]) -> Self {
        Self { until: None, next: bounds[0], bounds }
    }

    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }

    fn begin(&mut self) {
        self.until = Some(Instant::now() + self.next);
        self.next = (2 * self.next).min(self.bounds[1]);
    }

    fn reset(&mut self) {
        *self = Self::new(self.bounds);
    }
}

impl Syslog {
    /// For one of the logs, if the settings want it there. Looks up the host.
    pub fn of(settings: &Settings, stream: Stream) -> Option<Self> {
        let logging = &settings.logging;
        let is_wanted = match stream {
            Stream::Error => logging.syslog,
            Stream::Access => logging.syslog && !logging.disable_redirect_access_to_syslog,
        };
        let name = logging.syslog_prefix.as_deref().unwrap_or(&settings.proc_name);
        is_wanted.then(|| Self::new(logging.syslog_address.clone(), logging.syslog_facility, &tag(name, stream)))
    }

    fn new(address: SyslogAddress, facility: u8, tag: &str) -> Self {
        let mut syslog = Self {
            resolved: Arc::default(),
            next_address: 0,
            facility,
            tag: format!("{tag}: ").into_bytes(),
            link: Link::Closed,
            pid: std::process::id(),
            record: Vec::new(),
            waiting: Vec::new(),
            is_torn: false,
            retry: Pause::new(RETRY),
            complaint: Pause::new(COMPLAINT),
            lost: 0,
            cause: None,
            address,
        };
        syslog.look_up();
        // Begun now, a connection is there when the first line comes.
        _ = syslog.connect();
        syslog
    }

    /// Sends a message of the error log; several lines of it become one, with `\x0a` between them. Returns what is to be
    /// told of lines that were lost.
    #[must_use]
    pub(super) fn send_message(&mut self, severity: Severity, message: &str) -> Option<String> {
        self.begin(severity);
        push_message_line(&mut self.record, message);
        self.cut();
        self.send()
    }

    /// Sends a line that is one already.
    #[must_use]
    pub(super) fn send_line(&mut self, line: &[u8]) -> Option<String> {
        self.begin(Severity::Informational);
        self.record.extend_from_slice(line);
        self.cut();
        self.send()
    }

    /// How long a line may be to stay whole.
    pub(super) fn line_bytes_max(&self) -> usize {
        // `<191>`, the tag, and the process id in its brackets.
        RECORD_BYTES_MAX - self.tag.len() - 20
    }

    /// Whether something waits to be sent.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether that may be possible soon.
    pub(super) fn is_worth_a_look(&self) -> bool {
        self.has_waiting() && !matches!(self.link, Link::Closed)
    }

    /// Tries again to send what waits.
    pub(super) fn flush(&mut self) {
        if self.has_waiting() {
            // A worker looks for what waits before it has a line of its own.
            self.notice_fork();
            self.send_waiting();
        }
    }

    /// Takes over what waits to be sent by the one before, as far as that is not possible now.
    pub(super) fn succeed(&mut self, mut before: Self) {
        before.flush();
        before.close();
        self.waiting = before.waiting;
        self.lost += before.lost;
    }

    /// The same, for a process that is about to end, and waits a little for one that is there and slow.
    pub(super) fn finish(&mut self) {
        let deadline = Instant::now() + FINISH_PATIENCE;
        self.flush();
        while self.is_worth_a_look() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
            self.flush();
        }
    }

    /// Connects anew, wherever syslog is now.
    pub(super) fn reopen(&mut self) {
        self.close();
        self.retry.reset();
        self.complaint.reset();
        self.look_up();
        _ = self.connect();
    }

    fn begin(&mut self, severity: Severity) {
        self.notice_fork();
        self.record.clear();
        self.record.push(b'<');
        push_decimal(&mut self.record, u64::from(self.facility) << 3 | severity as u64);
        self.record.push(b'>');
        self.record.extend_from_slice(&self.tag);
        self.record.push(b'[');
        push_decimal(&mut self.record, u64::from(self.pid));
        self.record.extend_from_slice(b"] ");
    }

    /// Asked anew each time: an application may have forked by itself.
    fn notice_fork(&mut self) {
        let pid = std::process::id();
        if self.pid != pid {
            self.forget_parent(pid);
        }
    }

    /// Two processes on one stream would mix their records, and what waits is for the other one to send.
    fn forget_parent(&mut self, pid: u32) {
        self.pid = pid;
        self.link = Link::Closed;
        self.waiting.clear();
        self.is_torn = false;
        self.lost = 0;
        self.retry.reset();
    }

    /// Between two characters: what is in the record is text.
    fn cut(&mut self) {
        if self.record.len() <= RECORD_BYTES_MAX {
            return;
        }
        let is_boundary = |end: &usize| self.record[*end] & 0b1100_0000 != 0b1000_0000;
        let end = (0..RECORD_BYTES_MAX - 3).rev().find(is_boundary).unwrap_or_default();
        self.record.truncate(end);
        self.record.extend_from_slice(b"...");
    }

    fn send(&mut self) -> Option<String> {
        if self.waiting.len() + self.record.len() < WAITING_BYTES_MAX {
            self.waiting.extend_from_slice(&self.record);
            self.waiting.push(b'\n');
        } else {
            self.lost += 1;
        }
        self.send_waiting();
        self.complain()
    }

    fn send_waiting(&mut self) {
        if matches!(self.link, Link::Closed) && (!self.retry.is_over() || self.connect().is_err()) {
            return;
        }
        // Taken out, for the borrow checker.
        let waiting = std::mem::take(&mut self.waiting);
        let (sent, failure) = match self.link {
            Link::Stream(_) => self.send_stream(&waiting),
            Link::Datagrams(_) | Link::Closed => self.send_datagrams(&waiting),
        };
        self.waiting = waiting;
        self.note_sent(sent);
        if let Some(error) = failure {
            self.fail(error);
        }
    }

    /// How many bytes were sent, and what is wrong if the link is of no use any more.
    fn send_stream(&self, waiting: &[u8]) -> (usize, Option<io::Error>) {
        let Link::Stream(sender) = &self.link else { return (0, None) };
        let mut sent = 0;
        while sent < waiting.len() {
            match sender.send(&waiting[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return (sent, Some(error)),
            }
        }
        (sent, None)
    }

    fn send_datagrams(&mut self, waiting: &[u8]) -> (usize, Option<io::Error>) {
        let mut sent = 0;
        while let Some(length) = memchr::memchr(b'\n', &waiting[sent..]) {
            match self.send_datagram(&waiting[sent..sent + length]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if matches!(self.link, Link::Closed) => return (sent, Some(error)),
                // Another one may be taken, being shorter.
                Err(error) => {
                    self.lost += 1;
                    self.cause.get_or_insert(error);
                }
            }
            sent += length + 1;
        }
        (sent, None)
    }

    /// One that has been started anew listens on another socket, and a host may have several addresses: so a failure is
    /// followed by a second attempt.
    fn send_datagram(&mut self, record: &[u8]) -> io::Result<()> {
        let Link::Datagrams(sender) = &self.link else { return Err(ErrorKind::NotConnected.into()) };
        match sender.send(record) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => {}
            sent => return sent.map(drop),
        }
        self.close();
        self.next_address += 1;
        self.connect()?;
        match &self.link {
            Link::Datagrams(sender) => sender.send(record).map(drop),
            Link::Closed | Link::Stream(_) => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn note_sent(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.is_torn = self.waiting[count - 1] != b'\n';
        self.waiting.drain(..count);
        self.retry.reset();
    }

    /// The link is broken.
    fn fail(&mut self, error: io::Error) {
        self.close();
        self.next_address += 1;
        self.retry.begin();
        self.cause = Some(error);
    }

    /// What is to be told: lines were lost, or nobody is there.
    fn complain(&mut self) -> Option<String> {
        let is_well = self.lost == 0 && !matches!(self.link, Link::Closed);
        if is_well || !self.complaint.is_over() {
            return None;
        }
        self.complaint.begin();
        let cause = self.cause.take().map_or_else(|| "too much waits for it".to_owned(), |error| error.to_string());
        let lost = match std::mem::take(&mut self.lost) {
            0 => String::new(),
            1 => "; 1 line was lost".to_owned(),
            lost => format!("; {lost} lines were lost"),
        };
        Some(format!("{} does not take what is sent there: {cause}{lost}", Place(&self.address)))
    }

    /// The rest of a record that a stream has sent in part would be read as a record by its successor: one of the
    /// client's making, perhaps.
    fn close(&mut self) {
        self.link = Link::Closed;
        if std::mem::take(&mut self.is_torn) {
            let end = memchr::memchr(b'\n', &self.waiting).map_or(self.waiting.len(), |end| end + 1);
            self.waiting.drain(..end);
            self.lost += 1;
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        let connected = self.open();
        match connected {
            Ok(link) => {
                self.link = link;
                Ok(())
            }
            Err(error) => {
                self.retry.begin();
                self.cause = Some(io::Error::new(error.kind(), error.to_string()));
                Err(error)
            }
        }
    }

    fn open(&self) -> io::Result<Link> {
        match &self.address {
            SyslogAddress::Udp(..) => Sender::open(&Destination::Udp(self.resolved()?)).map(Link::Datagrams),
            SyslogAddress::Tcp(..) => Sender::open(&Destination::Tcp(self.resolved()?)).map(Link::Stream),
            SyslogAddress::Unix(path, SyslogSocket::Datagram) => {
                Sender::open(&Destination::UnixDatagrams(path.clone())).map(Link::Datagrams)
            }
            SyslogAddress::Unix(path, SyslogSocket::Stream) => {
                Sender::open(&Destination::UnixStream(path.clone())).map(Link::Stream)
            }
            SyslogAddress::Unix(path, SyslogSocket::Either) => {
                let datagrams = Sender::open(&Destination::UnixDatagrams(path.clone())).map(Link::Datagrams);
                datagrams.or_else(|_| Sender::open(&Destination::UnixStream(path.clone())).map(Link::Stream))
            }
        }
    }

    fn resolved(&self) -> io::Result<SocketAddr> {
        let addresses = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.next_address.checked_rem(addresses.len());
        index.map(|index| addresses[index]).ok_or_else(|| io::Error::other("its host is not known"))
    }

    /// Finds the addresses of the host. That may take long, so in a worker, which serves meanwhile, another thread does
    /// it; until then the old ones are good enough.
    fn look_up(&self) {
        let (SyslogAddress::Udp(host, port) | SyslogAddress::Tcp(host, port)) = &self.address else { return };
        let (host, port, resolved) = (host.clone(), *port, Arc::clone(&self.resolved));
        let is_literal = host.parse::<std::net::IpAddr>().is_ok();
        let look_up = move || {
            if let Ok(found) = (host.as_str(), port).to_socket_addrs() {
                *resolved.lock().unwrap_or_else(PoisonError::into_inner) = found.collect();
            }
        };
        match identity() {
            Identity::Worker(_) if !is_literal => {
                let builder = thread::Builder::new().name("minicorn-lookup".to_owned());
                // Signals are for Python's main thread. Without a thread the old addresses stay.
                _ = signal::blocked(|| builder.spawn(look_up));
            }
            Identity::Master | Identity::Template | Identity::Worker(_) => look_up(),
        }
    }
}

/// gunicorn's form, with our name, and with nothing in it that would end a tag.
fn tag(name: &str, stream: Stream) -> String {
    let is_sound = |character: char| character.is_ascii_alphanumeric() || "._-/".contains(character);
    let name: String = name.chars().map(|character| if is_sound(character) { character } else { '.' }).collect();
    let stream = match stream {
        Stream::Error => "error",
        Stream::Access => "access",
    };
    format!("minicorn.{name}.{stream}")
}

/// Where syslog is, as the setting says it.
struct Place<'a>(&'a SyslogAddress);

impl fmt::Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SyslogAddress::Udp(host, port) => write!(out, "syslog at udp://{host}:{port}"),
            SyslogAddress::Tcp(host, port) => write!(out, "syslog at tcp://{host}:{port}"),
            SyslogAddress::Unix(path, _) => write!(out, "syslog at unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    /// What a stream has taken in part when syslog is connected to anew: the other part would begin a line there, with
    /// text of the client's choice.
    #[test]
    fn half_a_record_is_not_sent_to_the_next_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut syslog = Syslog::new(SyslogAddress::Tcp("127.0.0.1".to_owned(), port), 1, "minicorn.app.access");
        let line = [b'x'; 5000];
        // Nobody reads, so the stream is full some time.
        (0..10_000).take_while(|_| syslog.send_line(&line).is_none() || !syslog.is_torn).for_each(drop);
        assert!(syslog.is_torn);
        let _first = listener.accept().unwrap();
        syslog.reopen();
        syslog.flush();
        let (mut second, _) = listener.accept().unwrap();
        let mut begin = [0; 4];
        second.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"<14>");
    }
}
