//! Starts the real program, talks to it over raw sockets, reads what it logs, and ends what is left of it.
//!
//! What minicorn should do is not said here: the cases say it, ten lines each.

pub mod admin;
pub mod client;
pub mod collector;
pub mod gate;
pub mod load;
pub mod process;
pub mod program;
pub mod proxy;
pub mod response;
pub mod server;
pub mod tmpfs;
pub mod wait;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use admin::Admin;
pub use client::Client;
pub use gate::{Gate, Held};
pub use program::Program;
pub use response::{Framing, Response};
pub use server::{Address, Server, portable, serve};
pub use tmpfs::Tmpfs;
pub use wait::{SetAtEnd, wait_for, wait_until};

/// The root of the project, where the tests start the program so that `examples` and `tests` can be imported.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The virtual environment with the frameworks of the examples.
pub fn virtual_environment() -> PathBuf {
    let path = Path::new(ROOT).join(".venv");
    assert!(path.join("pyvenv.cfg").exists(), "{} is missing: `make test` creates it", path.display());
    path
}

/// What a text looks like when its numbers do not matter: every digit is a 0.
pub fn shape(text: &str) -> String {
    text.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect()
}

/// The bytes that `big.py` answers: big-endian numbers that tell their place, so that a piece left out shows.
pub fn pattern(length: usize) -> Vec<u8> {
    let words = 0..u32::try_from(length / 4 + 1).expect("less than 16 GB");
    let mut bytes: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
    bytes.truncate(length);
    bytes
}

/// Runs every case of a table and names all that failed, not only the first.
#[track_caller]
pub fn each<T>(cases: &[T], name: impl Fn(&T) -> String, check: impl Fn(&T)) {
    let failed: Vec<String> = cases
        .iter()
        .filter(|case| {
            eprintln!("case: {}", name(case));
            catch_unwind(AssertUnwindSafe(|| check(case))).is_err()
        })
        .map(&name)
        .collect();
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

/// A directory of one test's own, removed with all that is in it. Under /tmp, since socket paths must be short.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("minicorn-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory for this test");
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The same as text, for command lines and queries.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a UTF-8 path").to_owned()
    }

    pub fn write(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).expect("writing into this test's directory");
        self.text(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
