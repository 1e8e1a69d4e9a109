//! Gives every binary of the package an rpath to the libpython that pyo3 links.
//!
//! Without it the loader takes the first libpython of that name, and a server built against one CPython 3.11 runs
//! the library of another, with the standard library of the first.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
