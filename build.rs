//! Ties every binary of the package to the Python that pyo3 links.
//!
//! It gets an rpath to that libpython: without it the loader takes the first libpython of that name, and a server built
//! against one CPython 3.11 runs the library of another, with the standard library of the first. And it learns where
//! that Python is installed, for servers that are started without a virtual environment.
//!
//! The extension module links no libpython, and finds Python running: it learns nothing of the machine it was built on.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_EXTENSION_MODULE").is_some() {
        println!("cargo:rustc-env=MINICORN_PYTHON_PREFIX=");
        return;
    }
    pyo3_build_config::add_libpython_rpath_link_args();
    // Without an interpreter at build time (cross-compilation) the choice is left to libpython.
    let prefix = pyo3_build_config::get().executable().and_then(base_prefix).unwrap_or_default();
    println!("cargo:rustc-env=MINICORN_PYTHON_PREFIX={prefix}");
}

/// `sys.base_prefix`: the installation, also when `python` is that of a virtual environment.
fn base_prefix(python: &str) -> Option<String> {
    let output = Command::new(python).args(["-c", "import sys; print(sys.base_prefix)"]).output().ok()?;
    let prefix = String::from_utf8(output.stdout).ok()?;
    Some(prefix.trim().to_owned())
}
