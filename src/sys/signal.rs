//! Signals: handlers that write one byte into a pipe, and the mask that holds signals back around a fork.
//!
//! What a signal means is decided by the loop that reads the pipe; nothing else ever happens in a handler.
//!
//! signal-hook sets the handler of a signal once in a process and its children, and never again. So a child of the
//! master must not give a signal its default action and catch it later: [`SelfPipe::open`] would succeed and catch
//! nothing. Those that it may reset are in [`reset_others`].

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, sigaction};
use nix::sys::time::TimeSpec;
use nix::unistd;
use signal_hook::SigId;
use signal_hook::low_level::{register, unregister};

/// The signals that this program has an opinion about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Signal {
    Hup = libc::SIGHUP as u8,
    Int = libc::SIGINT as u8,
    Quit = libc::SIGQUIT as u8,
    Term = libc::SIGTERM as u8,
    Usr1 = libc::SIGUSR1 as u8,
    Usr2 = libc::SIGUSR2 as u8,
    Winch = libc::SIGWINCH as u8,
    Ttin = libc::SIGTTIN as u8,
    Ttou = libc::SIGTTOU as u8,
    Chld = libc::SIGCHLD as u8,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Hup,
        Self::Int,
        Self::Quit,
        Self::Term,
        Self::Usr1,
        Self::Usr2,
        Self::Winch,
        Self::Ttin,
        Self::Ttou,
        Self::Chld,
    ];

    fn number(self) -> i32 {
        i32::from(self as u8)
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| *signal as u8 == byte)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::process::SignalNumber(self.number()).fmt(f)
    }
}

/// A pipe into which the handlers of the caught signals write, and which this process alone reads.
///
/// Dropping it unregisters the handlers and closes both ends; the signals are then disregarded. A child drops the one
/// of its parent, since both would read the same pipe, and opens its own.
#[derive(Debug)]
pub struct SelfPipe {
    reader: OwnedFd,
    handlers: Vec<SigId>,
}

impl SelfPipe {
    /// Catches `caught`, gives `disregarded` a handler that does nothing, then unblocks every signal: one that was
    /// sent since the fork, or that the parent had left blocked, is delivered now.
    ///
    /// Disregarded is not ignored: SIG_IGN would be inherited by the programs that an application starts.
    ///
    /// # Errors
    ///
    /// When the process has no descriptors left.
    pub fn open(caught: &[Signal], disregarded: &[Signal]) -> io::Result<Self> {
        let (reader, writer) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        IS_STOP_CAUGHT.store(false, Ordering::Relaxed);
        let mut pipe = Self { reader, handlers: Vec::new() };
        let writer = Arc::new(writer);
        for &signal in caught {
            pipe.handlers.push(catch(signal, Arc::clone(&writer))?);
        }
        for &signal in disregarded {
            pipe.handlers.push(disregard(signal)?);
        }
        SigSet::empty().thread_set_mask()?;
        Ok(pipe)
    }

    /// The signals caught since the last call, in the order of their arrival.
    pub fn drain(&self) -> Vec<Signal> {
        let mut signals = Vec::new();
        let mut bytes = [0; 64];
        loop {
            match unistd::read(&self.reader, &mut bytes) {
                Ok(count) if count > 0 => signals.extend(bytes[..count].iter().copied().filter_map(Signal::from_byte)),
                Err(Errno::EINTR) => {}
                // Empty. Neither an end of file nor another error is possible while the handlers hold the other end.
                Ok(_) | Err(_) => return signals,
            }
        }
    }

    /// Sleeps until a signal is caught, `other` becomes readable or `limit` has passed; without a limit, for as long as
    /// it takes. May return early. Says whether `other` is readable, or at its end.
    ///
    /// # Errors
    ///
    /// When the kernel lacks the memory to wait.
    pub fn wait(&self, other: &impl AsFd, limit: Option<Duration>) -> io::Result<bool> {
        let [is_readable, _] = self.wait_for_either([Some(other.as_fd()), None], limit)?;
        Ok(is_readable)
    }

    /// The same for two others.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_for_either(
        &self,
        others: [Option<BorrowedFd<'_>>; 2],
        limit: Option<Duration>,
    ) -> io::Result<[bool; 2]> {
        // Our own stands for one that is not there, and is not asked about then.
        let own = self.reader.as_fd();
        let [first, second] = others.map(|other| match other {
            Some(other) => PollFd::new(other, PollFlags::POLLIN),
            None => PollFd::new(own, PollFlags::empty()),
        });
        let mut awaited = [PollFd::new(own, PollFlags::POLLIN), first, second];
        match ppoll(&mut awaited, limit.map(TimeSpec::from_duration), None) {
            Ok(_) => Ok([&awaited[1], &awaited[2]].map(|other| other.any().unwrap_or(true))),
            Err(Errno::EINTR) => Ok([false, false]),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for SelfPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for SelfPipe {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            unregister(handler);
        }
    }
}

/// For those who wait outside the loop that reads the pipe.
static IS_STOP_CAUGHT: AtomicBool = AtomicBool::new(false);

/// Whether SIGINT, SIGQUIT or SIGTERM has come since this process has opened its [`SelfPipe`].
pub fn is_stop_caught() -> bool {
    IS_STOP_CAUGHT.load(Ordering::Relaxed)
}

fn catch(signal: Signal, writer: Arc<OwnedFd>) -> io::Result<SigId> {
    let byte = [signal as u8];
    let is_stop = matches!(signal, Signal::Int | Signal::Quit | Signal::Term);
    // A pipe that is full loses the byte, after 65,536 that nobody read: whoever does not read is beyond signals.
    let write = move || {
        if is_stop {
            IS_STOP_CAUGHT.store(true, Ordering::Relaxed);
        }
        _ = unistd::write(&*writer, &byte);
    };
    // SAFETY: the handler stores into an atomic and makes one write(2), both async-signal-safe, on a descriptor that it
    // owns. It neither allocates nor panics, and signal-hook keeps errno as the interrupted code left it.
    unsafe { register(signal.number(), write) }
}

fn disregard(signal: Signal) -> io::Result<SigId> {
    // SAFETY: a handler that does nothing is async-signal-safe.
    unsafe { register(signal.number(), || {}) }
}

/// Gives their default action back to the signals that a worker leaves to its application: SIGCHLD, which the master
/// caught, and SIGSEGV and SIGBUS, which the Rust runtime catches to tell a stack overflow. That handler takes a signal
/// sent by kill(2) for a fault that will come again, and returns: the worker would survive it.
///
/// # Errors
///
/// None on Linux.
pub fn reset_others() -> io::Result<()> {
    [libc::SIGCHLD, libc::SIGSEGV, libc::SIGBUS]
        .into_iter()
        .try_for_each(|number| set_action(number, SigHandler::SigDfl))
}

/// What a process does upon [`Signal`]s when it is not ours alone: taken away for as long as the server runs in it, and
/// given back when this is dropped.
///
/// Without it signal-hook would call the handlers that it finds after ours: that of Python would interrupt the program,
/// later, by which the server was asked to stop.
#[derive(Debug)]
pub struct Borrowed {
    before: Vec<(Signal, SigAction)>,
    mask: SigSet,
}

/// What signal-hook has set, at the end of an earlier [`Borrowed`]: it does so only once in a process.
static LEFT_BEHIND: Mutex<Vec<(Signal, SigAction)>> = Mutex::new(Vec::new());

impl Borrowed {
    /// The signals have their default actions until they are caught.
    ///
    /// # Errors
    /// None on Linux.
    pub fn take() -> io::Result<Self> {
        let mut left_behind = LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner);
        let mut borrowed = Self { before: Vec::new(), mask: SigSet::thread_get_mask()? };
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        for signal in Signal::ALL {
            let ours = left_behind.iter().find(|(own, _)| *own == signal).map_or(default, |(_, action)| *action);
            borrowed.before.push((signal, exchange(signal, &ours)?));
        }
        left_behind.clear();
        Ok(borrowed)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let mut left_behind = LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner);
        for (signal, before) in self.before.drain(..) {
            left_behind.extend(exchange(signal, &before).map(|ours| (signal, ours)));
        }
        restore(&self.mask);
    }
}

/// Sets the action of a signal. Returns the one before it.
fn exchange(signal: Signal, action: &SigAction) -> io::Result<SigAction> {
    let signal = nix::sys::signal::Signal::try_from(signal.number())?;
    // SAFETY: the action is the default one, one that signal-hook has set, whose handlers stay in memory, or one that was
    // found in this process before.
    Ok(unsafe { sigaction(signal, action) }?)
}

/// Makes a write to a closed connection an error, EPIPE, instead of the end of the process.
///
/// # Errors
///
/// None on Linux.
pub fn ignore_broken_pipes() -> io::Result<()> {
    set_action(libc::SIGPIPE, SigHandler::SigIgn)
}

/// Takes signals as a program does that has no handlers: for a forked child that never opens a [`SelfPipe`].
///
/// # Errors
/// None on Linux.
pub fn take_as_a_program() -> io::Result<()> {
    reset_others()?;
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM]
        .into_iter()
        .try_for_each(|number| set_action(number, SigHandler::SigDfl))?;
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Gives every signal its default action: for what lies between fork(2) and exec(2).
pub(super) fn reset_all() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is no function of ours. The call fails, as it should, for those that always have their default
        // action and for those that the C library keeps for itself.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

fn set_action(number: i32, handler: SigHandler) -> io::Result<()> {
    let signal = nix::sys::signal::Signal::try_from(number)?;
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: neither SIG_DFL nor SIG_IGN is a function of ours that could break the rules for handlers.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Calls `f` with every signal blocked, so that a thread it starts takes none.
///
/// # Errors
///
/// None on Linux.
pub fn blocked<T>(f: impl FnOnce() -> T) -> io::Result<T> {
    let mask = block_all()?;
    let result = f();
    restore(&mask);
    Ok(result)
}

/// The signal upon which a handler of Python's writes down where all threads are. It is far from those that people use.
pub fn stacks_number() -> i32 {
    libc::SIGRTMAX() - 5
}

/// Sends it to the calling thread, whose handler has run when this returns. Nothing happens if none is registered.
///
/// # Errors
/// None on Linux.
pub fn raise_stacks() -> io::Result<()> {
    let number = stacks_number();
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset fills the set in; nix has no real-time signals, hence the raw calls.
    let set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), number);
        set.assume_init()
    };
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action the call only fills `action` in, which it does when it returns 0.
    let has_handler = unsafe {
        libc::sigaction(number, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction != libc::SIG_DFL
    };
    if !has_handler {
        return Err(io::Error::other("no handler"));
    }
    // SAFETY: the set is valid; only the mask of this thread changes, and changes back.
    unsafe {
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::raise(number);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
    Ok(())
}

/// Blocks every signal that can be blocked, and returns the mask as it was.
pub(super) fn block_all() -> io::Result<SigSet> {
    Ok(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?)
}

/// Undoes [`block_all`].
pub(super) fn restore(mask: &SigSet) {
    mask.thread_set_mask().expect("a mask that the kernel gave out is valid");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::poll::{PollTimeout, poll};
    use nix::sys::signal::raise;
    use std::io::PipeReader;
    use std::time::Instant;

    /// Delivered to the calling thread, whose handler has run when this returns.
    fn send_to_self(signal: Signal) {
        raise(nix::sys::signal::Signal::try_from(signal.number()).unwrap()).unwrap();
    }

    fn silent() -> (PipeReader, std::io::PipeWriter) {
        std::io::pipe().unwrap()
    }

    // Handlers belong to the process: each test has a signal to itself.

    #[test]
    fn caught_signals_are_read_back_in_order() {
        let pipe = SelfPipe::open(&[Signal::Usr1, Signal::Usr2], &[]).unwrap();
        for signal in [Signal::Usr1, Signal::Usr2, Signal::Usr1] {
            send_to_self(signal);
        }
        assert_eq!(pipe.drain(), [Signal::Usr1, Signal::Usr2, Signal::Usr1]);
        assert_eq!(pipe.drain(), []);
    }

    #[test]
    fn a_caught_signal_ends_the_wait() {
        let pipe = SelfPipe::open(&[Signal::Hup], &[]).unwrap();
        let (quiet, _writer) = silent();
        send_to_self(Signal::Hup);
        pipe.wait(&quiet, None).unwrap();
        assert_eq!(pipe.drain(), [Signal::Hup]);
    }

    #[test]
    fn the_other_descriptor_ends_the_wait() {
        let pipe = SelfPipe::open(&[], &[]).unwrap();
        let (other, mut writer) = silent();
        std::io::Write::write_all(&mut writer, b"x").unwrap();
        pipe.wait(&other, None).unwrap();
        assert_eq!(pipe.drain(), []);
    }

    #[test]
    fn the_limit_ends_the_wait_and_not_earlier() {
        let pipe = SelfPipe::open(&[], &[]).unwrap();
        let (quiet, _writer) = silent();
        let (began, limit) = (Instant::now(), Duration::from_micros(1500));
        while began.elapsed() < limit {
            let left = limit.saturating_sub(began.elapsed());
            pipe.wait(&quiet, Some(left)).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_disregarded_signal_does_nothing() {
        let pipe = SelfPipe::open(&[], &[Signal::Int]).unwrap();
        send_to_self(Signal::Int);
        assert_eq!(pipe.drain(), []);
    }

    #[test]
    fn a_dropped_pipe_is_closed_by_its_handlers_and_a_new_one_catches_again() {
        let pipe = SelfPipe::open(&[Signal::Quit], &[]).unwrap();
        let reader = pipe.reader.try_clone().unwrap();
        drop(pipe);
        // The end of file comes when no handler has the other end any more, and is readable.
        let mut awaited = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut awaited, PollTimeout::from(5000u16)), Ok(1));
        send_to_self(Signal::Quit);
        let pipe = SelfPipe::open(&[Signal::Quit], &[]).unwrap();
        send_to_self(Signal::Quit);
        assert_eq!(pipe.drain(), [Signal::Quit]);
    }

    #[test]
    fn a_signal_that_came_while_blocked_is_caught_on_opening() {
        let _mask = block_all().unwrap();
        disregard(Signal::Ttin).unwrap();
        send_to_self(Signal::Ttin);
        let pipe = SelfPipe::open(&[Signal::Ttin], &[]).unwrap();
        assert_eq!(pipe.drain(), [Signal::Ttin]);
    }

    #[test]
    fn the_signals_of_the_application_are_reset() {
        reset_others().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        let caught = u64::from_str_radix(caught, 16).unwrap();
        for number in [libc::SIGCHLD, libc::SIGSEGV, libc::SIGBUS] {
            assert_eq!(caught >> (number - 1) & 1, 0, "signal {number} has a handler");
        }
    }

    #[test]
    fn names_are_those_of_the_manual() {
        assert_eq!(
            Signal::ALL.map(|signal| signal.to_string()).join(" "),
            "SIGHUP SIGINT SIGQUIT SIGTERM SIGUSR1 SIGUSR2 SIGWINCH SIGTTIN SIGTTOU SIGCHLD"
        );
        assert_eq!(Signal::ALL.map(|signal| Signal::from_byte(signal as u8)), Signal::ALL.map(Some));
        assert_eq!(Signal::from_byte(b'X'), None);
    }
}
