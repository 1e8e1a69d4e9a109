//! The operating system: nix, signal-hook and libc behind the few words that this program needs of them.
//!
//! The one part, besides `wsgi::ffi`, where `unsafe` may be written; what it offers is safe. A raw integer descriptor
//! does not leave it, and "interrupted" (EINTR) is dealt with inside. It decides nothing: who forks, waits or kills,
//! and why, is written elsewhere.
#![allow(unsafe_code)]

pub mod asked;
pub mod backlog;
pub mod clock;
pub mod cpus;
pub mod daemon;
pub mod environment;
pub mod exec;
pub mod fd_passing;
pub mod file;
pub mod inotify;
pub mod limits;
pub mod memory;
pub mod output;
pub mod poll;
pub mod process;
pub mod random;
pub mod sender;
pub mod shared;
pub mod signal;
pub mod socket;
pub mod terminal;
pub mod title;
pub mod user;
