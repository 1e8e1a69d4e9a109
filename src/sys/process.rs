//! Processes: fork one, signal it, learn how it ended; and the two promises of a child, to die with its parent and to
//! end without running its parent's exit code.
//!
//! Why any of this happens is decided in `master`.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill as send};
use nix::sys::time::TimeSpec;
use nix::sys::wait::waitpid;
use nix::unistd::{self, ForkResult};

use super::signal;

/// A process id.
pub use nix::unistd::Pid;

/// On which side of a fork the caller finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The one that called; here is its child.
    Parent(Pid),
    /// The new one. Every signal is blocked until [`signal::SelfPipe::open`] has set its own handlers, so that none
    /// is taken by a handler of the parent and none is lost.
    Child,
}

/// Forks a process that has a single thread.
///
/// # Errors
///
/// When there are more threads, when they cannot be counted, or when the system refuses another process.
pub fn fork() -> io::Result<Fork> {
    check_single_thread()?;
    fork_with_threads()
}

/// Forks a process that may have threads of an application. They do not exist in the child, as after `os.fork()`.
///
/// # Errors
///
/// When the system refuses another process.
pub fn fork_with_threads() -> io::Result<Fork> {
    let mask = signal::block_all()?;
    // SAFETY: if there are other threads, they run no code of ours: they belong to the application. glibc takes the locks
    // of its allocator, its streams and its loader over into the child, and what libraries want done at a fork they have
    // registered. A lock of another kind that a thread held stays locked: who needs it waits, which is safe.
    let fork = unsafe { unistd::fork() };
    match fork {
        Ok(ForkResult::Child) => Ok(Fork::Child),
        Ok(ForkResult::Parent { child }) => {
            signal::restore(&mask);
            Ok(Fork::Parent(child))
        }
        Err(errno) => {
            signal::restore(&mask);
            Err(errno.into())
        }
    }
}

/// For what is sound only while nobody else can run in this process.
///
/// # Errors
///
/// When there are more threads than the caller's, or they cannot be counted.
pub(super) fn check_single_thread() -> io::Result<()> {
    match count_threads()? {
        1 => Ok(()),
        threads => Err(io::Error::other(format!("the process has {threads} threads instead of one"))),
    }
}

fn count_threads() -> io::Result<usize> {
    Ok(tasks()?.count())
}

fn tasks() -> io::Result<std::fs::ReadDir> {
    const TASKS: &str = "/proc/self/task";
    std::fs::read_dir(TASKS).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot count the threads of this process, {TASKS}: {error}"))
    })
}

/// The threads of this process other than the calling one: the number that the kernel knows each by, and its name.
///
/// # Errors
/// As for [`fork`], when they cannot be counted.
pub fn other_threads() -> io::Result<Vec<(i32, String)>> {
    let own = unistd::gettid().as_raw();
    let threads = tasks()?.filter_map(|task| {
        let task = task.ok()?;
        let number = task.file_name().to_str()?.parse().ok().filter(|&number| number != own)?;
        // One that has just ended has no name any more, and does not count.
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        Some((number, name.trim_end().to_owned()))
    });
    Ok(threads.collect())
}

/// On which side of [`fork_orphan`] the caller finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrphanFork {
    /// The one that called.
    Caller,
    /// The new one, with every signal blocked, as in [`Fork::Child`]. It first becomes a [child](become_child_of) of
    /// whoever takes orphans.
    Orphan {
        /// Its parent, which ends at once.
        between: Pid,
    },
}

/// Forks a process that becomes the child of whoever [takes the orphans](adopt_orphans) above the caller: by way of a
/// process between the two, which has ended when this returns in the caller.
///
/// `announce` is called in that process, with the new one or with the reason why there is none. As the caller may have
/// threads, it does no more there than a signal handler may: no allocation, no locks.
///
/// The threads of the caller do not exist in the new process, as after `os.fork()`.
///
/// # Errors
/// When the system refuses the process in between. `announce` has not been called.
pub fn fork_orphan(announce: impl FnOnce(io::Result<Pid>)) -> io::Result<OrphanFork> {
    let mask = signal::block_all()?;
    // SAFETY: other threads may exist, but none that runs code of ours: they belong to the application. glibc takes the
    // locks of its allocator, its streams and its loader over into the child, and what libraries want done at a fork
    // they have registered. A lock of another kind that a thread held stays locked: who needs it waits, which is safe.
    let fork = unsafe { unistd::fork() };
    match fork {
        Ok(ForkResult::Child) => Ok(go_between(announce)),
        Ok(ForkResult::Parent { child }) => {
            wait_for_end(child);
            signal::restore(&mask);
            Ok(OrphanFork::Caller)
        }
        Err(errno) => {
            signal::restore(&mask);
            Err(errno.into())
        }
    }
}

/// The life of the process in between; returns only in the one that it forks.
fn go_between(announce: impl FnOnce(io::Result<Pid>)) -> OrphanFork {
    let between = own_pid();
    // SAFETY: this process was forked a moment ago and has this one thread, see `fork_orphan` for those it lacks.
    match unsafe { unistd::fork() } {
        Ok(ForkResult::Child) => return OrphanFork::Orphan { between },
        Ok(ForkResult::Parent { child }) => announce(Ok(child)),
        Err(errno) => announce(Err(errno.into())),
    }
    exit_now(0)
}

/// Reaps this child and no other: the rest are the application's.
fn wait_for_end(child: Pid) {
    // ECHILD: the application ignores SIGCHLD, so the kernel has reaped the child, after the same wait.
    while waitpid(child, None) == Err(Errno::EINTR) {}
}

/// Has the kernel make orphans among the descendants of the calling process its children, as process 1 otherwise
/// would: it will have to reap those that it does not know, too.
///
/// # Errors
/// None on Linux.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Waits, in a process that [`fork_orphan`] made, until its parent is no more the one `between` but `parent`, and then
/// [dies with it](die_with_parent).
///
/// # Errors
/// `parent` is gone.
pub fn become_child_of(parent: Pid, between: Pid) -> io::Result<()> {
    // There is no event to wait for. The one in between has nothing else to do than to end.
    while unistd::getppid() == between {
        std::thread::sleep(ADOPTION_PAUSE);
    }
    die_with_parent(parent)
}

const ADOPTION_PAUSE: Duration = Duration::from_micros(50);

/// One thread of this process, to be looked at by the others.
#[derive(Debug)]
pub struct ThreadStatus(std::fs::File);

impl ThreadStatus {
    /// Of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not there, or the process has no descriptors left.
    pub fn of_current() -> io::Result<Self> {
        Ok(Self(std::fs::File::open(format!("/proc/self/task/{}/stat", unistd::gettid()))?))
    }

    /// Whether it runs or would run if it had a processor; a thread that waits, for whatever, does not. Costs 3 µs.
    pub fn is_runnable(&self) -> bool {
        use std::os::unix::fs::FileExt;
        let mut text = [0; 64];
        let count = self.0.read_at(&mut text, 0).unwrap_or(0);
        // `4242 (name) R …`; the name has at most 15 bytes, among which may be a parenthesis.
        let end = text[..count].iter().rposition(|&byte| byte == b')');
        end.is_some_and(|end| text[end..count].get(2) == Some(&b'R'))
    }
}

/// How much memory a process has in RAM, with what it shares with others; `None` if it is gone.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    // proc_pid_statm(5): pages in all, then pages in RAM.
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page_bytes = unistd::sysconf(unistd::SysconfVar::PAGE_SIZE).ok()??;
    pages.checked_mul(page_bytes.cast_unsigned())
}

/// The calling process.
pub fn own_pid() -> Pid {
    unistd::getpid()
}

/// Who forked the calling process, or who has taken it over since that one is gone.
pub fn parent_pid() -> Pid {
    unistd::getppid()
}

/// Has the kernel send SIGCHLD to the calling process, too, when its parent is gone.
///
/// # Errors
///
/// None on Linux. If the parent went before, nothing is sent: ask for [`parent_pid`] after it.
pub fn watch_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGCHLD)?)
}

/// Has the kernel kill the calling process as soon as `parent`, which forked it, is gone.
///
/// # Errors
///
/// When `parent` went before the kernel was asked. The kernel also forgets the wish when the process changes its user
/// or group: ask again after that.
pub fn die_with_parent(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if unistd::getppid() != parent {
        return Err(io::Error::other(format!("the parent process, {parent}, is gone")));
    }
    Ok(())
}

/// Ends the calling process at once: no destructors, no exit handlers, no flush of buffers that were inherited.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: _exit(2) takes any status, touches no memory of ours and does not return.
    unsafe { libc::_exit(status.into()) }
}

/// Whether there is such a process, ours or not. One that has ended and was not waited for counts too.
pub fn exists(pid: Pid) -> bool {
    // Zero and what is below it stand for groups of processes.
    pid.as_raw() > 0 && matches!(send(pid, None), Ok(()) | Err(Errno::EPERM))
}

/// The text that `look` finds in a process of its own, which `fork` makes. That one takes signals as any program does,
/// so that ctrl-C ends it, and ends with the caller. Not longer than `limit`, nor once the caller was asked to stop.
///
/// # Errors
/// Those of `look`, as text; those of `fork`; how the process ended if it has told nothing; and that it took too long.
pub fn told_by_a_child(
    fork: impl FnOnce() -> io::Result<Fork>,
    look: impl FnOnce() -> Result<String, String>,
    limit: Option<Duration>,
) -> io::Result<Result<String, String>> {
    let (mut reader, mut writer) = io::pipe()?;
    let parent = own_pid();
    match fork()? {
        Fork::Child => {
            if signal::take_as_a_program().and_then(|()| die_with_parent(parent)).is_err() {
                exit_now(1);
            }
            let found = panic::catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| Err("it panicked".to_owned()));
            let (mark, text) = match found {
                Ok(text) => (FOUND, text),
                Err(error) => (NOT_FOUND, error),
            };
            let told = writer.write_all(&[mark]).and_then(|()| writer.write_all(text.as_bytes()));
            exit_now(u8::from(told.is_err()));
        }
        Fork::Parent(child) => {
            drop(writer);
            let heard = listen_to(child, &mut reader, limit.map(|limit| Instant::now() + limit));
            let (told, how) = heard.inspect_err(|_| {
                // Not waited for: in the hands of a file system it may not end even so. Who reaps children finds it.
                _ = kill(child);
            })?;
            let mut told = String::from_utf8(told).map_err(io::Error::other)?;
            match told.as_bytes().first() {
                Some(&mark) if how == HowEnded::Exited(0) => {
                    let text = told.split_off(1);
                    Ok(if mark == FOUND { Ok(text) } else { Err(text) })
                }
                _ => Err(io::Error::other(format!("the process that was to try it {how}"))),
            }
        }
    }
}

/// How a child begins what it tells.
const FOUND: u8 = b'+';
const NOT_FOUND: u8 = b'-';

/// How often it is looked after a child that tells nothing.
const LISTEN_INTERVAL: Duration = Duration::from_millis(50);

/// All that a child tells until its end, and how that was. What it has forked may have the pipe for longer.
fn listen_to(child: Pid, reader: &mut io::PipeReader, until: Option<Instant>) -> io::Result<(Vec<u8>, HowEnded)> {
    let mut told = Vec::new();
    let mut how = None;
    loop {
        if is_readable(reader, if how.is_some() { Duration::ZERO } else { LISTEN_INTERVAL })? {
            let mut room = [0; 4096];
            match reader.read(&mut room) {
                Ok(0) => {}
                Ok(count) => {
                    told.extend_from_slice(&room[..count]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if how.is_none() {
                // It has closed the pipe, which is the last that it does.
                thread::sleep(Duration::from_millis(1));
            }
        }
        match how {
            Some(how) => return Ok((told, how)),
            None => how = end_of(child)?,
        }
        if how.is_none() && signal::is_stop_caught() {
            return Err(io::Error::other("the server was asked to stop"));
        }
        if how.is_none() && until.is_some_and(|until| until <= Instant::now()) {
            return Err(io::Error::other("it takes too long"));
        }
    }
}

fn is_readable(reader: &io::PipeReader, limit: Duration) -> io::Result<bool> {
    let mut awaited = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    match ppoll(&mut awaited, Some(TimeSpec::from_duration(limit)), None) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// How a child has ended; `None`: it has not.
fn end_of(child: Pid) -> io::Result<Option<HowEnded>> {
    let mut status = 0;
    // SAFETY: `status` is a live i32 that the call may write. See `reap_one` for why it is not nix's.
    match Errno::result(unsafe { libc::waitpid(child.as_raw(), &raw mut status, libc::WNOHANG) }) {
        Ok(0) | Err(Errno::EINTR) => Ok(None),
        Ok(_) => Ok(Some(HowEnded::from_wait_status(status))),
        Err(errno) => Err(errno.into()),
    }
}

/// Asks a process to leave: SIGTERM.
///
/// # Errors
///
/// When there is no such process, or it may not be signalled. The same holds for [`abort`] and [`kill`].
pub fn terminate(pid: Pid) -> io::Result<()> {
    Ok(send(pid, Signal::SIGTERM)?)
}

/// Asks a worker to open its log files anew: SIGUSR1.
pub fn reopen_logs(pid: Pid) -> io::Result<()> {
    Ok(send(pid, Signal::SIGUSR1)?)
}

/// Has a process report where it stands, and die of it: SIGABRT.
pub fn abort(pid: Pid) -> io::Result<()> {
    Ok(send(pid, Signal::SIGABRT)?)
}

/// Ends a process, whatever it does: SIGKILL.
pub fn kill(pid: Pid) -> io::Result<()> {
    Ok(send(pid, Signal::SIGKILL)?)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowEnded {
    /// By itself, with this status.
    Exited(i32),
    /// By a signal.
    Signaled(SignalNumber, Core),
}

/// Whether the kernel wrote a core file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// It did.
    Dumped,
    /// It did not.
    NotDumped,
}

impl HowEnded {
    /// By SIGKILL, which the kernel sends when memory runs out.
    pub fn is_killed(self) -> bool {
        matches!(self, Self::Signaled(SignalNumber(libc::SIGKILL), _))
    }

    fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            let core = if libc::WCOREDUMP(status) { Core::Dumped } else { Core::NotDumped };
            Self::Signaled(SignalNumber(libc::WTERMSIG(status)), core)
        } else {
            // waitpid tells of stopped and continued children only when asked to.
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

impl fmt::Display for HowEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Signaled(signal, Core::NotDumped) => write!(f, "killed by {signal}"),
            Self::Signaled(signal, Core::Dumped) => write!(f, "killed by {signal} (core dumped)"),
        }
    }
}

/// Any signal there is, real-time ones included, as the kernel numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalNumber(pub i32);

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::try_from(self.0) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) => write!(f, "signal {}", self.0),
        }
    }
}

/// The children that have ended and were not reaped yet, without waiting for any.
pub fn reap() -> impl Iterator<Item = (Pid, HowEnded)> {
    std::iter::from_fn(reap_one)
}

fn reap_one() -> Option<(Pid, HowEnded)> {
    let mut status = 0;
    loop {
        // Not nix's waitpid: it reaps a child that a real-time signal killed and then reports EINVAL instead of the
        // child. SAFETY: `status` is a live i32 that the call may write.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match Errno::result(pid) {
            Ok(0) | Err(Errno::ECHILD) => return None,
            Ok(pid) => return Some((Pid::from_raw(pid), HowEnded::from_wait_status(status))),
            Err(Errno::EINTR) => {}
            Err(errno) => unreachable!("waitpid with valid arguments: {errno}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    /// How `sh -c script` ends. The standard library waits for exactly this child, where `reap` would take those of
    /// other tests as well; `from_wait_status` is the same for both.
    fn how_shell_ends(script: &str) -> HowEnded {
        let status = Command::new("sh").args(["-c", script]).stderr(Stdio::null()).status().unwrap();
        HowEnded::from_wait_status(status.into_raw())
    }

    #[test]
    fn fork_refuses_a_second_thread() {
        // The test harness runs this test in a thread of its own.
        let error = fork().expect_err("a process with threads was forked");
        assert!(error.to_string().ends_with(" threads instead of one"), "{error}");
    }

    #[test]
    fn a_thread_that_computes_is_told_from_one_that_waits() {
        use std::sync::atomic::{AtomicBool, Ordering};
        use std::sync::{Arc, mpsc};
        let (tell, told) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let held = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            tell.send(ThreadStatus::of_current().unwrap()).unwrap();
            while !held.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            std::thread::park();
        });
        let status: ThreadStatus = told.recv().unwrap();
        while !status.is_runnable() {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        while status.is_runnable() {
            std::thread::yield_now();
        }
        thread.thread().unpark();
        thread.join().unwrap();
    }

    #[test]
    fn a_child_that_tells_nothing_is_not_waited_for() {
        let since = Instant::now();
        let forever = || -> Result<String, String> {
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        };
        let error = told_by_a_child(fork_with_threads, forever, Some(Duration::from_millis(100))).unwrap_err();
        assert_eq!(error.to_string(), "it takes too long");
        assert!(since.elapsed() < Duration::from_secs(5));
    }

    /// Somebody whom it has forked has its end of the pipe, and goes on.
    #[test]
    fn what_a_child_has_told_is_known_when_it_ends() {
        let since = Instant::now();
        let told = "all ".repeat(20_000);
        let look = || match fork_with_threads() {
            Ok(Fork::Child) => {
                thread::sleep(Duration::from_secs(6));
                exit_now(0)
            }
            _ => Ok(told.clone()),
        };
        assert_eq!(told_by_a_child(fork_with_threads, look, None).unwrap().unwrap(), told);
        assert!(since.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn an_end_is_told_as_it_was() {
        for (script, told) in [
            ("exit 0", "exited with status 0"),
            ("exit 7", "exited with status 7"),
            ("kill -KILL $$", "killed by SIGKILL"),
            ("kill -TERM $$", "killed by SIGTERM"),
            ("kill -40 $$", "killed by signal 40"),
            ("ulimit -c 0; kill -SEGV $$", "killed by SIGSEGV"),
        ] {
            assert_eq!(how_shell_ends(script).to_string(), told, "{script}");
        }
    }

    #[test]
    fn a_core_file_is_mentioned() {
        let with_core = libc::SIGSEGV | 0x80;
        assert_eq!(HowEnded::from_wait_status(with_core).to_string(), "killed by SIGSEGV (core dumped)");
    }

    #[test]
    fn only_sigkill_may_mean_out_of_memory() {
        assert!(how_shell_ends("kill -KILL $$").is_killed());
        assert!(!how_shell_ends("kill -TERM $$").is_killed());
        assert!(!how_shell_ends("exit 9").is_killed());
    }
}
