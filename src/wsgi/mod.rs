//! Python, and only here: the interpreter, the application, and PEP 3333 between them and the wire.
//!
//! [`interpreter`] chooses and starts CPython, [`app`] finds the callable, [`handler`] answers one request with it. Of
//! HTTP it uses the types; sockets are behind [`Output`] and [`BodyReader`], which the worker implements. The GIL is held
//! by the caller.

pub mod app;
mod around;
mod body;
pub mod config_file;
mod embedded;
pub mod environ;
mod error_page;
mod errors;
mod exchange;
mod ffi;
mod field_memo;
mod file_wrapper;
pub mod handler;
mod header_fields;
mod header_rules;
pub mod hooks;
mod input;
pub mod interpreter;
pub mod logging;
mod request_id;
mod shared;
pub mod sources;
pub mod spew;
mod start_response;
#[cfg(test)]
mod testing;
mod traceback;

pub use body::{Body, BodyError, BodyReader};
pub use error_page::error_page;
pub use exchange::{ClientGone, Exchange, Flushed, Output, Relieved};
pub use ffi::HeldBytes;
pub use file_wrapper::FileRange;
pub use handler::{Handler, Outcome};
pub use header_rules::HeaderRules;
pub use hooks::Hooks;
pub use request_id::RequestId;
pub use shared::Shared;
