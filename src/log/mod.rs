//! The error log: one event, one line, one write. The access log is in [`access`].
//!
//! ```text
//! [2026-11-21 05:14:49 +0000] [INFO] master pid=4240 listening on http://127.0.0.1:8000
//! [2026-11-21 05:14:50 +0000] [WARNING] worker=3 pid=4242 out of file descriptors: accepting is paused
//! ```
//!
//! The time and the level are written as gunicorn writes them. Modules speak through the `log` crate's macros; `error!`
//! stands for gunicorn's CRITICAL too. A message of several lines (a traceback) is one write, and its further lines
//! begin with a tab.

#![forbid(unsafe_code)]

pub mod access;
mod digits;
mod escape;
mod output;
mod route;
mod stamp;
mod syslog;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter, Record};

use self::access::AccessLog;
use self::digits::push_decimal;
pub use self::escape::Printable;
use self::output::Output;
pub use self::output::Owner;
pub use self::route::{Route, Told, UNROUTED, finish_route, leave_route, take_route};
use self::syslog::Severity;
pub use self::syslog::{Stream, Syslog};
use crate::settings::LogTarget;
use crate::sys::clock::{coarse_now, local_time};
use crate::sys::output::{join_standard_output, leave_standard_output, replace_standard_output};

/// Who writes to the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The parent process.
    Master,
    /// The process that imports the application and forks the workers.
    Template,
    /// The worker of this number.
    Worker(u32),
}

/// Sends what the `log` macros say, from `level` up, to `target`. Called once, before there is a second thread; where the
/// server is a guest that comes again, once each time.
///
/// # Errors
/// The target cannot be opened; or a logger is installed already.
pub fn init(level: LevelFilter, target: &LogTarget) -> io::Result<()> {
    let Some(output) = Output::open(target)? else { return Ok(()) };
    if let Some(before) = ERROR_LOG.get() {
        *lock(before) = output;
        log::set_max_level(level);
        return Ok(());
    }
    let output = Arc::new(Mutex::new(output));
    // The macros ask for the level first; what the logger itself lets pass can never be changed.
    builder(LevelFilter::Trace, Arc::clone(&output)).try_init().map_err(io::Error::other)?;
    log::set_max_level(level);
    // Installed once, or the line above would have failed.
    _ = ERROR_LOG.set(output);
    Ok(())
}

/// Where the error log is to go next, opened and not used yet.
#[derive(Debug)]
pub struct NextErrorLog(Option<Output>);

impl NextErrorLog {
    /// Opens `target`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(target: &LogTarget) -> io::Result<Self> {
        Output::open(target).map(Self)
    }

    /// Sends there what this process and those that it forks say from now on.
    ///
    /// # Errors
    /// A sentence with the path where it stays.
    pub fn begin(self) -> Result<(), String> {
        with_error_log(|output| self.0.map_or(Ok(()), |next| output.move_to(next)))
    }
}

/// From now on the error log of this process, and of those that it forks, has what is said from this level up.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// Opens the error log's file anew at its path, after somebody has moved the old one away. Lines that other threads write
/// meanwhile go to either of the two, whole.
///
/// # Errors
/// A sentence with the path. The log goes on in the old file.
fn reopen() -> Result<(), String> {
    with_error_log(Output::reopen)?;
    if CAPTURES.load(Ordering::Relaxed) {
        capture_output().map_err(|error| format!("--capture-output: {error}"))?;
    }
    Ok(())
}

/// Sends what is written to standard output and standard error to the error log's file, from now on and whenever that is
/// opened anew; with the error log on standard error, what is written to standard output goes there.
///
/// # Errors
/// None on Linux.
pub fn capture_output() -> io::Result<()> {
    match error_file() {
        Some(file) => {
            CAPTURES.store(true, Ordering::Relaxed);
            replace_standard_output(&file)
        }
        None => join_standard_output(),
    }
}

/// A server in the background keeps its standard streams, unless they are a terminal.
pub fn keep_standard_streams() {
    KEEPS_STREAMS.store(true, Ordering::Relaxed);
}

static CAPTURES: AtomicBool = AtomicBool::new(false);
static KEEPS_STREAMS: AtomicBool = AtomicBool::new(false);

/// The same, and these access logs too; and syslog is connected to anew. Returns a sentence for each that goes on in its
/// old file.
pub fn reopen_all<'a>(access_logs: impl IntoIterator<Item = &'a mut AccessLog>) -> Vec<String> {
    route::reopen();
    with_syslog(Syslog::reopen);
    let reopened = std::iter::once(reopen()).chain(access_logs.into_iter().map(AccessLog::reopen));
    reopened.filter_map(Result::err).collect()
}

/// Gives the error log's file to `owner`, now and whenever it is opened anew.
///
/// # Errors
/// A sentence with the path.
pub fn give_to(owner: Owner) -> Result<(), String> {
    with_error_log(|output| output.give_to(owner))
}

/// Sends what the error log gets to syslog, too, from now on, or no more.
pub fn send_to_syslog(mut syslog: Option<Syslog>) {
    HAS_SYSLOG.store(syslog.is_some(), Ordering::Relaxed);
    let mut current = lock(&SYSLOG);
    if let (Some(next), Some(before)) = (&mut syslog, current.take()) {
        next.succeed(before);
    }
    *current = syslog;
}

/// Tries again to send what syslog has not taken yet. Returns whether it is worth another look soon.
pub fn flush() -> bool {
    let mut is_worth_a_look = false;
    if IS_SYSLOG_WAITING.load(Ordering::Relaxed) {
        with_syslog(|syslog| {
            syslog.flush();
            is_worth_a_look = syslog.is_worth_a_look();
            IS_SYSLOG_WAITING.store(syslog.has_waiting(), Ordering::Relaxed);
        });
    }
    is_worth_a_look
}

/// The same, before the process ends.
pub fn finish() {
    if IS_SYSLOG_WAITING.load(Ordering::Relaxed) {
        with_syslog(Syslog::finish);
    }
}

fn with_syslog(then: impl FnOnce(&mut Syslog)) {
    if HAS_SYSLOG.load(Ordering::Relaxed)
        && let Some(syslog) = lock(&SYSLOG).as_mut()
    {
        then(syslog);
    }
}

/// Where the error log goes besides its output.
static SYSLOG: Mutex<Option<Syslog>> = Mutex::new(None);
/// Whether it does, to be asked without a lock.
static HAS_SYSLOG: AtomicBool = AtomicBool::new(false);
/// Whether it may have something to send yet.
static IS_SYSLOG_WAITING: AtomicBool = AtomicBool::new(false);

/// How many events this process has logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of target [`CRITICAL`].
    pub critical: u64,
    /// Of target [`EXCEPTION`].
    pub exception: u64,
    /// Other errors.
    pub error: u64,
    /// Warnings.
    pub warning: u64,
}

/// The target of errors that gunicorn calls critical.
pub const CRITICAL: &str = "critical";
/// The target of errors that are an exception of the application.
pub const EXCEPTION: &str = "exception";

/// The target of what the application writes to `wsgi.errors`, which counts as nothing.
pub const WSGI_ERRORS: &str = "wsgi.errors";

/// The counts since they were taken last.
pub fn take_counts() -> Counts {
    let [critical, exception, error, warning] =
        [0, 1, 2, 3].map(|index: usize| COUNTS[index].swap(0, Ordering::Relaxed));
    Counts { critical, exception, error, warning }
}

/// In the order of the fields of [`Counts`].
static COUNTS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

fn count(record: &Record<'_>) {
    let index = match (record.level(), record.target()) {
        (Level::Error, CRITICAL) => 0,
        (Level::Error, EXCEPTION) => 1,
        (Level::Error, WSGI_ERRORS) => return,
        (Level::Error, _) => 2,
        (Level::Warn, _) => 3,
        (Level::Info | Level::Debug | Level::Trace, _) => return,
    };
    COUNTS[index].fetch_add(1, Ordering::Relaxed);
}

/// Lets go of standard output and standard error, and of the error log if it is one of them: what is written there goes
/// nowhere from now on.
pub fn leave_terminal() {
    // They are the log's file, which stays.
    if CAPTURES.load(Ordering::Relaxed) {
        return;
    }
    let keeps = KEEPS_STREAMS.load(Ordering::Relaxed);
    let is_log_kept = keeps && !io::stderr().is_terminal();
    let left = leave_standard_output(keeps).map_err(|error| error.to_string());
    let leave_log = || if is_log_kept { Ok(()) } else { with_error_log(Output::leave_stream) };
    if let Err(error) = left.and_then(|()| leave_log()) {
        log::warn!("cannot leave the terminal: {error}");
    }
}

/// The error log's file if it is one, for those that write to its descriptor themselves: it stays the log's.
pub fn error_file() -> Option<Arc<File>> {
    lock(ERROR_LOG.get()?).regular_file()
}

fn with_error_log(change: impl FnOnce(&mut Output) -> io::Result<()>) -> Result<(), String> {
    let Some(output) = ERROR_LOG.get() else { return Ok(()) };
    let mut output = lock(output);
    let changed = change(&mut output);
    changed.map_err(|error| match output.path() {
        Some(path) => format!("error log {}: {error}", path.display()),
        None => format!("error log: {error}"),
    })
}

/// A panic in the middle of a line has cost that line and nothing else.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Behind the logger, which hands out nothing.
static ERROR_LOG: OnceLock<Arc<Mutex<Output>>> = OnceLock::new();

fn builder(level: LevelFilter, output: Arc<Mutex<Output>>) -> Builder {
    let mut builder = Builder::new();
    builder
        .filter_level(level)
        .format(|line, record| {
            count(record);
            let lost = tell_syslog(record);
            if !route::takes_event(record) {
                line.write_all(&render(coarse_now().seconds, identity(), record))?;
            }
            match lost {
                // Not by way of the logger, which is at work.
                Some(lost) => line.write_all(&render_lost(coarse_now().seconds, &lost)),
                None => Ok(()),
            }
        })
        .target(Target::Pipe(Box::new(LineWriter(output))));
    builder
}

/// Returns what is to be told about lines that were lost.
fn tell_syslog(record: &Record<'_>) -> Option<String> {
    let mut complaint = None;
    with_syslog(|syslog| {
        complaint = match record.args().as_str() {
            Some(message) => syslog.send_message(severity(record), message),
            None => syslog.send_message(severity(record), &record.args().to_string()),
        };
        if syslog.has_waiting() {
            IS_SYSLOG_WAITING.store(true, Ordering::Relaxed);
        }
    });
    complaint
}

fn severity(record: &Record<'_>) -> Severity {
    match (record.level(), record.target()) {
        (Level::Error, CRITICAL) => Severity::Critical,
        (Level::Error, _) => Severity::Error,
        (Level::Warn, _) => Severity::Warning,
        (Level::Info, _) => Severity::Informational,
        (Level::Debug | Level::Trace, _) => Severity::Debug,
    }
}

fn render_lost(seconds: i64, complaint: &str) -> Vec<u8> {
    render(seconds, identity(), &Record::builder().level(Level::Warn).args(format_args!("{complaint}")).build())
}

/// Says who this process is. A child calls it after the fork, before its first line.
pub fn set_identity(identity: Identity) {
    let number = match identity {
        Identity::Master => MASTER,
        Identity::Template => TEMPLATE,
        Identity::Worker(number) => number,
    };
    IDENTITY.store(number, Ordering::Relaxed);
    PID.store(std::process::id(), Ordering::Relaxed);
    if identity != Identity::Master {
        // What the parent has logged is for the parent to tell.
        take_counts();
    }
}

/// Who this process is.
fn identity() -> Identity {
    match IDENTITY.load(Ordering::Relaxed) {
        MASTER => Identity::Master,
        TEMPLATE => Identity::Template,
        number => Identity::Worker(number),
    }
}

/// This process, without the system call that `std::process::id` is.
fn pid() -> u32 {
    match PID.load(Ordering::Relaxed) {
        0 => std::process::id(),
        pid => pid,
    }
}

/// Numbers that no worker has.
const MASTER: u32 = u32::MAX;
const TEMPLATE: u32 = u32::MAX - 1;
static IDENTITY: AtomicU32 = AtomicU32::new(MASTER);
static PID: AtomicU32 = AtomicU32::new(0);

/// The whole line of an event.
fn render(seconds: i64, identity: Identity, record: &Record<'_>) -> Vec<u8> {
    let mut line = Vec::with_capacity(128);
    stamp::push_bracketed(&mut line, &local_time(seconds));
    line.extend_from_slice(b" [");
    line.extend_from_slice(level_name(record.level()).as_bytes());
    line.extend_from_slice(b"] ");
    push_identity(&mut line, identity);
    match record.args().as_str() {
        Some(message) => escape::push_message(&mut line, message),
        None => escape::push_message(&mut line, &record.args().to_string()),
    }
    line.push(b'\n');
    line
}

/// The names of Python's logging, which gunicorn's readers expect.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}

/// `worker=3 pid=4242 `, `master pid=4240 ` or `template pid=4241 `. The pid is asked for anew: an application may have forked by itself.
fn push_identity(out: &mut Vec<u8>, identity: Identity) {
    match identity {
        Identity::Master => out.extend_from_slice(b"master"),
        Identity::Template => out.extend_from_slice(b"template"),
        Identity::Worker(number) => {
            out.extend_from_slice(b"worker=");
            push_decimal(out, u64::from(number));
        }
    }
    out.extend_from_slice(b" pid=");
    push_decimal(out, u64::from(std::process::id()));
    out.push(b' ');
}

/// Hands env_logger's lines to an [`Output`]. A line that cannot be written is lost: there is no further log to tell it
/// to.
struct LineWriter(Arc<Mutex<Output>>);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Nothing is left of an event that takes another route.
        if line.is_empty() {
            return Ok(0);
        }
        lock(&self.0).write_whole(line).map_err(|failure| failure.error)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixDatagram;

    use log::Log;

    use super::*;

    fn line(identity: Identity, level: Level, message: &str) -> String {
        let line = render(0, identity, &Record::builder().level(level).args(format_args!("{message}")).build());
        String::from_utf8(line).expect("messages are text")
    }

    #[test]
    fn a_line_says_when_how_bad_who_and_what() {
        let mut time = Vec::new();
        stamp::push_bracketed(&mut time, &local_time(0));
        let time = String::from_utf8(time).expect("ASCII");
        let pid = std::process::id();
        let cases = [
            (Identity::Master, Level::Info, format!("{time} [INFO] master pid={pid} hello\n")),
            (Identity::Worker(3), Level::Warn, format!("{time} [WARNING] worker=3 pid={pid} hello\n")),
            (Identity::Worker(0), Level::Error, format!("{time} [ERROR] worker=0 pid={pid} hello\n")),
            (Identity::Template, Level::Info, format!("{time} [INFO] template pid={pid} hello\n")),
            (Identity::Worker(12), Level::Debug, format!("{time} [DEBUG] worker=12 pid={pid} hello\n")),
            (Identity::Master, Level::Trace, format!("{time} [DEBUG] master pid={pid} hello\n")),
        ];
        for (identity, level, expected) in cases {
            assert_eq!(line(identity, level, "hello"), expected);
        }
    }

    #[test]
    fn an_identity_is_kept() {
        // Other tests rely on this value, so no test sets another.
        set_identity(Identity::Worker(3));
        assert_eq!((identity(), pid()), (Identity::Worker(3), std::process::id()));
    }

    #[test]
    fn a_traceback_is_one_event() {
        let text = line(Identity::Master, Level::Error, "Traceback:\n  File \"a.py\"\nValueError: \x1b[2J\n");
        assert!(text.ends_with("Traceback:\n\t  File \"a.py\"\n\tValueError: \\x1b[2J\n"), "{text}");
    }

    /// A datagram socket keeps the writes apart.
    #[test]
    fn an_event_is_one_write_and_the_level_decides() {
        let (reader, writer) = UnixDatagram::pair().expect("a pair of sockets");
        reader.set_nonblocking(true).expect("a socket can be made non-blocking");
        let output = Output::inherited(OwnedFd::from(writer).as_fd()).expect("a socket is a place to write to");
        let logger = builder(LevelFilter::Info, Arc::new(Mutex::new(output))).build();
        for (level, message) in [(Level::Warn, "first\nsecond"), (Level::Debug, "not wanted"), (Level::Info, "third")] {
            logger.log(&Record::builder().level(level).args(format_args!("{message}")).build());
        }
        let mut buffer = [0; 4096];
        for ending in ["first\n\tsecond\n", "third\n"] {
            let count = reader.recv(&mut buffer).expect("an event was written");
            assert!(buffer[..count].ends_with(ending.as_bytes()));
        }
        assert_eq!(reader.recv(&mut buffer).expect_err("no third event").kind(), io::ErrorKind::WouldBlock);
    }
}
