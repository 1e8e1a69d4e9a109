//! HTTP/1.1 with no I/O: bytes in → events out, values in → bytes out (RFC 9110, RFC 9112).
//!
//! Nothing here owns a socket, reads a clock or knows Python; limits and the time of day come in as values. The state
//! of one connection over its many requests is [`connection::Connection`], and states change nowhere else.
#![forbid(unsafe_code)]

pub mod body;
pub mod connection;
pub mod date;
pub mod error;
pub mod forwarded;
pub mod framing;
pub mod invariant;
mod leniency;
pub mod proxy_protocol;
pub mod request;
mod request_line;
pub mod response;
mod scanner;

mod syntax;

pub use connection::{Connection, Event};
pub use error::RequestError;
pub use leniency::Leniency;
pub use request::{Limits, Request};
pub use request_line::Version;
