//! Python, and only here: the interpreter, the application, and PEP 3333 between them and the wire.
//!
//! [`interpreter`] chooses and starts CPython, [`app`] finds the callable, [`handler`] answers one request with it. Of
//! HTTP it uses the types; sockets are behind [`Output`], which the worker implements. The GIL is held by the caller.

pub mod app;
pub mod environ;
mod errors;
mod exchange;
mod ffi;
mod field_memo;
mod file_wrapper;
pub mod handler;
mod header_fields;
mod input;
pub mod interpreter;
mod start_response;
mod traceback;

pub use exchange::{ClientGone, Exchange, Output};
pub use handler::{Handler, Outcome};
