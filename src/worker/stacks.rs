//! [`Stacks`]: where Python's threads are, for the log, whether anybody holds the GIL or not.

use crate::sys::{file, signal};
use crate::wsgi::interpreter;
use pyo3::prelude::*;
use std::fs::File;
use std::io::{self, Read, Seek};

/// Python writes the stacks of all its threads into a file in memory, upon a signal that nobody else uses. The handler
/// runs in the thread that asks, takes no lock and looks at the other threads as they are.
#[derive(Debug)]
pub(super) struct Stacks(Option<File>);

impl Stacks {
    /// Without the module for it, or a descriptor, there will be no stacks.
    pub(super) fn new(py: Python<'_>) -> Self {
        let file = file::in_memory("minicorn-stacks").and_then(|file| {
            interpreter::write_stacks_upon(py, signal::stacks_number(), &file).map_err(io::Error::other)?;
            Ok(file)
        });
        Self(file.inspect_err(|error| log::warn!("no stacks of late requests will be logged: {error}")).ok())
    }

    /// The stacks of all threads of Python, the most recent call first.
    pub(super) fn dump(&self) -> String {
        let Some(file) = &self.0 else { return "(no stacks)".to_owned() };
        dump(file).unwrap_or_else(|error| format!("(no stacks: {error})"))
    }
}

fn dump(mut file: &File) -> io::Result<String> {
    file.set_len(0)?;
    file.rewind()?;
    signal::raise_stacks()?;
    file.rewind()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}
