//! The terminal: keys as they are pressed, and how large it is.
#![allow(unsafe_code)]

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, IsTerminal, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// Standard input as a keyboard: without lines, without echo, and with ctrl-C as a key. Dropped, it is as it was.
#[derive(Debug)]
pub struct Keyboard {
    before: Option<Box<libc::termios>>,
}

/// What is read as a key for ctrl-C.
pub const CTRL_C: u8 = 3;

impl Keyboard {
    /// Where standard input is no terminal, no key is ever pressed.
    pub fn open() -> Self {
        let mut before = MaybeUninit::<libc::termios>::uninit();
        let number = io::stdin().as_raw_fd();
        // SAFETY: the call fills the value in when it returns 0; else it is not read.
        let before = unsafe {
            if libc::tcgetattr(number, before.as_mut_ptr()) != 0 {
                return Self { before: None };
            }
            before.assume_init()
        };
        let mut raw = before;
        raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ISIG);
        // SAFETY: a value from the kernel, with three flags less.
        unsafe { libc::tcsetattr(number, libc::TCSANOW, &raw const raw) };
        Self { before: Some(Box::new(before)) }
    }

    /// Waits for a key, for at most `time`.
    pub fn key(&self, time: Duration) -> Option<u8> {
        if self.before.is_none() {
            std::thread::sleep(time);
            return None;
        }
        let end = Instant::now() + time;
        let stdin = io::stdin();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return None,
                // A terminal that is gone can press nothing but the end.
                Ok(_) => {
                    let mut key = [CTRL_C];
                    return Some(stdin.lock().read(&mut key).map_or(CTRL_C, |_| key[0]));
                }
                Err(_) if left.is_zero() => return None,
                Err(_) => {}
            }
        }
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // SAFETY: what tcgetattr has filled in.
            unsafe { libc::tcsetattr(io::stdin().as_raw_fd(), libc::TCSANOW, &raw const **before) };
        }
    }
}

/// Columns and rows of standard output, if it is a terminal.
pub fn size() -> Option<(usize, usize)> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: the kernel writes one winsize, for which zeros are valid, too.
    let size = unsafe {
        libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr());
        size.assume_init()
    };
    // One that does not know, such as the terminal of a test, is as large as they always were.
    let known = |number: u16, usual| if number == 0 { usual } else { usize::from(number) };
    Some((known(size.ws_col, 80), known(size.ws_row, 24)))
}
