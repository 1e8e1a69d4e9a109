//! Clients in threads that go on asking until they are told to stop, and account for everything that went wrong.
//!
//! Each request carries a text of its own and expects it back, so an answer that belongs to somebody else is noticed.
//! The application is `tests/apps/deployed.py`, which says who has answered. What may go wrong in a test, that test says:
//! here every end of a connection that the response before it did not announce is a failure.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::response::{Framing, Response};
use super::server::Address;
use super::wait::{DEADLINE, wait_until};

/// What a client of the load does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// One GET after the other on one connection.
    Get,
    /// One POST after the other on one connection, with bodies of 20 bytes to 60 KB.
    Post,
    /// A connection for each request.
    Connect,
    /// A GET now and then on one connection, which is watched in between.
    Idle,
}

/// How many clients of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub get: usize,
    pub post: usize,
    pub connect: usize,
    pub idle: usize,
}

impl Mix {
    /// A few of each, for a machine of two cores that runs the server as well.
    pub const USUAL: Mix = Mix { get: 4, post: 2, connect: 2, idle: 8 };

    fn habits(self) -> Vec<Habit> {
        let times = |count, habit| std::iter::repeat_n(habit, count);
        let (get, post) = (times(self.get, Habit::Get), times(self.post, Habit::Post));
        get.chain(post).chain(times(self.connect, Habit::Connect)).chain(times(self.idle, Habit::Idle)).collect()
    }
}

/// How far an exchange had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// No connection was made.
    Connecting,
    /// Between two requests.
    Idle,
    /// The request is sent, or part of it, and not a byte has come back.
    Waiting,
    /// The answer has begun.
    Reading,
    /// The answer is complete, and not what was expected.
    Wrong,
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub habit: Habit,
    pub stage: Stage,
    /// When the last request that was answered on this connection was sent, or else when the connection was begun: no
    /// later than that it was in order. Counted from the start of the load.
    pub since: Duration,
    pub at: Duration,
    /// The process that gave the last answer on this connection.
    pub worker: Option<i32>,
    /// The answers before this one on this connection.
    pub answers: usize,
    pub sent: usize,
    pub received: String,
    pub what: String,
}

impl Failure {
    /// The connection is there, and nothing comes.
    pub fn is_hang(&self) -> bool {
        self.what == TIMED_OUT
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Failure { habit, stage, answers, sent, received, what, .. } = self;
        let worker = self.worker.map_or("-".to_owned(), |worker| worker.to_string());
        let at = self.at.as_secs_f64();
        write!(f, "{at:.3} s {habit:?} {stage:?}: {what}; after {answers} answers, the last from {worker}; ")?;
        write!(f, "{sent} bytes sent, received {received:?}")
    }
}

/// What the clients have seen.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub requests: usize,
    pub failures: Vec<Failure>,
    /// Failures beyond those that are kept.
    pub failures_left_out: usize,
    /// Responses that announced the end of a connection which the client would have kept.
    pub announced_closes: usize,
    pub slowest: Duration,
    /// The processes and the generations that have answered.
    pub workers: BTreeSet<i32>,
    pub generations: BTreeSet<String>,
}

impl Summary {
    /// Checks that nothing at all went wrong, and that there was something that could.
    #[track_caller]
    pub fn expect_no_failure(&self) {
        assert!(self.requests > 0, "no request was answered");
        self.expect_no_failure_but(|_| false);
    }

    /// The same, apart from what the test allows.
    #[track_caller]
    pub fn expect_no_failure_but(&self, is_allowed: impl Fn(&Failure) -> bool) {
        let wrong: Vec<String> =
            self.failures.iter().filter(|failure| !is_allowed(failure)).map(ToString::to_string).collect();
        let count = wrong.len() + self.failures_left_out;
        assert!(count == 0, "{count} failures with {} requests:\n{}", self.requests, wrong.join("\n"));
    }

    /// Also no connection was ended in order: who keeps one open keeps it.
    #[track_caller]
    pub fn expect_no_close(&self) {
        self.expect_no_failure();
        assert_eq!(self.announced_closes, 0, "closes were announced, with {} requests", self.requests);
    }
}

/// So many are kept with all they say; a server that is gone fails every request.
const FAILURES_MAX: usize = 10_000;
/// So that clients of a server that is gone do not spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(5);
/// How long a client that watches its idle connection does not see that the load ends.
const WATCH: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_millis(1);
/// With one answer. Less than the test waits for the client to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The clients, until they are stopped. Dropped, they are told to stop and not waited for.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    address: Address,
    start: Instant,
    stop: AtomicBool,
    answered: AtomicUsize,
    summary: Mutex<Summary>,
}

impl Load {
    /// Starts the clients, and waits until all have been answered once: what a test does then, it does to all of them.
    #[track_caller]
    pub fn start(address: &Address, mix: Mix) -> Load {
        let shared = Arc::new(Shared {
            address: address.clone(),
            start: Instant::now(),
            stop: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            summary: Mutex::default(),
        });
        let clients = mix.habits().into_iter().enumerate().map(|(number, habit)| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || Asker { shared: &shared, habit, number, turn: 0 }.run())
        });
        let load = Load { threads: clients.collect(), shared };
        wait_until("every client's first answer", || {
            load.shared.answered.load(Ordering::Relaxed) >= load.threads.len() || !load.summary().failures.is_empty()
        });
        load
    }

    /// For `Failure::at`.
    pub fn elapsed(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// What has been seen so far.
    pub fn summary(&self) -> Summary {
        self.shared.summary().clone()
    }

    pub fn requests(&self) -> usize {
        self.shared.summary().requests
    }

    /// Waits until so many more requests have been answered.
    #[track_caller]
    pub fn wait_for_more(&self, requests: usize) {
        let wanted = self.requests() + requests;
        wait_until(&format!("{requests} more answers"), || self.requests() >= wanted);
    }

    /// Lets every client finish what it is at.
    #[track_caller]
    pub fn stop(mut self) -> Summary {
        self.shared.stop.store(true, Ordering::Relaxed);
        wait_until("the clients to end", || self.threads.iter().all(JoinHandle::is_finished));
        for thread in self.threads.drain(..) {
            thread.join().expect("clients record their failures and do not panic");
        }
        self.summary()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn summary(&self) -> MutexGuard<'_, Summary> {
        self.summary.lock().expect("nobody panics with it")
    }
}

/// One client in its thread.
struct Asker<'a> {
    shared: &'a Shared,
    habit: Habit,
    /// Its number and that of its request make a text that no other request has.
    number: usize,
    turn: usize,
}

impl Asker<'_> {
    fn run(&mut self) {
        while !self.has_to_stop() {
            let mut connection = Connection::new(self.shared.start.elapsed());
            if let Err((stage, what)) = self.use_up(&mut connection) {
                self.record(&connection, stage, what);
                std::thread::sleep(PAUSE_AFTER_FAILURE);
            }
        }
    }

    fn has_to_stop(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Asks on one connection until it ends in order.
    fn use_up(&mut self, connection: &mut Connection) -> Result<(), Broken> {
        connection.open(&self.shared.address).map_err(|error| (Stage::Connecting, error.to_string()))?;
        while !self.has_to_stop() {
            self.turn += 1;
            let (request, expected) = self.request();
            let start = Instant::now();
            let response = connection.exchange(&request)?;
            if response.status != 200 || response.body != expected {
                return Err((Stage::Wrong, format!("answered {}", response.status)));
            }
            let is_last = response.announces_close();
            self.note(connection, &response, start.elapsed());
            if self.habit == Habit::Connect {
                return if is_last { connection.expect_end() } else { Err((Stage::Wrong, "is kept".to_owned())) };
            }
            if is_last {
                self.shared.summary().announced_closes += 1;
                return connection.expect_end();
            }
            if self.habit == Habit::Idle {
                self.watch(connection)?;
            }
        }
        connection.expect_silence(LAST_LOOK)
    }

    /// The bytes of the next request, and the body that its answer must have.
    fn request(&self) -> (Vec<u8>, Vec<u8>) {
        let text = format!("client-{}-request-{}", self.number, self.turn);
        let host = "HTTP/1.1\r\nHost: minicorn.test\r\n";
        match self.habit {
            Habit::Get | Habit::Idle => (format!("GET /?{text} {host}\r\n").into_bytes(), text.into_bytes()),
            Habit::Connect => (format!("GET /?{text} {host}Connection: close\r\n\r\n").into_bytes(), text.into_bytes()),
            Habit::Post => {
                // Now and then one that takes many reads and writes.
                let body = text.repeat(if self.turn.is_multiple_of(50) { 2000 } else { 1 + self.turn % 90 });
                let length = body.len();
                (format!("POST / {host}Content-Length: {length}\r\n\r\n{body}").into_bytes(), body.into_bytes())
            }
        }
    }

    /// Between an idle client's requests: of different lengths, so that they do not fall together.
    fn watch(&self, connection: &mut Connection) -> Result<(), Broken> {
        let slices = 2 + (self.number * 5 + self.turn * 3) % 20;
        for _ in 0..slices {
            if self.has_to_stop() {
                break;
            }
            connection.expect_silence(WATCH)?;
        }
        Ok(())
    }

    fn note(&self, connection: &mut Connection, response: &Response, took: Duration) {
        connection.since = self.shared.start.elapsed() - took;
        connection.worker = response.value("X-Worker").and_then(|value| value.parse().ok());
        connection.answers += 1;
        let mut summary = self.shared.summary();
        summary.requests += 1;
        summary.slowest = summary.slowest.max(took);
        summary.workers.extend(connection.worker);
        let generation = response.value("X-Generation").unwrap_or_default();
        if !summary.generations.contains(generation) {
            summary.generations.insert(generation.to_owned());
        }
        drop(summary);
        if self.turn == 1 {
            self.shared.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn record(&self, connection: &Connection, stage: Stage, what: String) {
        let mut summary = self.shared.summary();
        if summary.failures.len() == FAILURES_MAX {
            summary.failures_left_out += 1;
            return;
        }
        summary.failures.push(Failure {
            habit: self.habit,
            stage,
            since: connection.since,
            at: self.shared.start.elapsed(),
            worker: connection.worker,
            answers: connection.answers,
            sent: connection.sent,
            received: connection.received_text(),
            what,
        });
    }
}

/// How far it came, and what then happened.
type Broken = (Stage, String);

/// One connection and what has happened on it.
struct Connection {
    /// None until it is open. Also for a Unix socket: the calls are the same.
    stream: Option<TcpStream>,
    since: Duration,
    worker: Option<i32>,
    answers: usize,
    /// Of the exchange that is under way.
    sent: usize,
    received: Vec<u8>,
}

impl Connection {
    fn new(since: Duration) -> Connection {
        Connection { stream: None, since, worker: None, answers: 0, sent: 0, received: Vec::new() }
    }

    fn open(&mut self, address: &Address) -> io::Result<()> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, DEADLINE)?;
                stream.set_nodelay(true)?;
                stream
            }
            Address::Unix(path) => TcpStream::from(OwnedFd::from(UnixStream::connect(path)?)),
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        self.stream = Some(stream);
        Ok(())
    }

    fn exchange(&mut self, request: &[u8]) -> Result<Response, Broken> {
        self.sent = 0;
        self.received.clear();
        self.send(request)?;
        loop {
            if let Some(response) = self.response()? {
                return Ok(response);
            }
            if self.fill()? == 0 {
                return Err((self.stage(), "closed".to_owned()));
            }
        }
    }

    fn send(&mut self, request: &[u8]) -> Result<(), Broken> {
        while self.sent < request.len() {
            let stream = self.stream.as_mut().expect(OPEN);
            match stream.write(&request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What the server has said before it closed tells more than the failed write.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// The response, once all of it has come. Another one behind it is an error: nobody has asked for it.
    fn response(&self) -> Result<Option<Response>, Broken> {
        let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let parse = || Response::parse_head(&self.received[..end], "GET");
        let Ok(mut response) = catch_unwind(AssertUnwindSafe(parse)) else {
            return Err((Stage::Wrong, "not a response head".to_owned()));
        };
        let body = &self.received[end + 4..];
        let Framing::Length(length) = response.framing else {
            return Err((Stage::Wrong, format!("{} without a length", response.status)));
        };
        if body.len() > length {
            return Err((Stage::Wrong, "more than the response".to_owned()));
        }
        response.body = body.to_vec();
        Ok((body.len() == length).then_some(response))
    }

    /// Checks that for this long nothing comes, not even the end.
    fn expect_silence(&mut self, time: Duration) -> Result<(), Broken> {
        let idle = |what: &str| Err((Stage::Idle, what.to_owned()));
        (self.sent, self.received) = (0, Vec::new());
        self.stream().set_read_timeout(Some(time)).map_err(|error| (Stage::Idle, error.to_string()))?;
        let outcome = match self.fill() {
            Ok(0) => idle("closed"),
            Ok(_) => idle("bytes that nobody asked for"),
            Err((_, what)) if what == TIMED_OUT => Ok(()),
            Err((_, what)) => idle(&what),
        };
        self.stream().set_read_timeout(Some(PATIENCE)).map_err(|error| (Stage::Idle, error.to_string()))?;
        outcome
    }

    /// Behind a response that announced it.
    fn expect_end(&mut self) -> Result<(), Broken> {
        match self.fill()? {
            0 => Ok(()),
            _ => Err((Stage::Wrong, "bytes behind the last response".to_owned())),
        }
    }

    /// Takes in what comes; 0 at the end of the connection.
    fn fill(&mut self) -> Result<usize, Broken> {
        let mut piece = [0; 65_536];
        loop {
            match self.stream().read(&mut piece) {
                Ok(count) => {
                    self.received.extend_from_slice(&piece[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err((self.stage(), TIMED_OUT.to_owned()));
                }
                Err(error) => return Err((self.stage(), error.to_string())),
            }
        }
    }

    fn stage(&self) -> Stage {
        if self.received.is_empty() { Stage::Waiting } else { Stage::Reading }
    }

    fn stream(&mut self) -> &mut TcpStream {
        self.stream.as_mut().expect(OPEN)
    }

    /// The start of what came, enough to know it by.
    fn received_text(&self) -> String {
        String::from_utf8_lossy(&self.received[..self.received.len().min(300)]).into_owned()
    }
}

const OPEN: &str = "a connection is used after it has been opened";
const TIMED_OUT: &str = "timed out";
