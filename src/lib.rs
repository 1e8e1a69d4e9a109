//! minicorn: a prefork WSGI server. `minicorn module:app --workers 4` binds its sockets in a master process and forks
//! workers; each embeds CPython, loads the application and serves HTTP/1.1.
//!
//! # Processes
//!
//! ```text
//! master            one thread, no Python: listeners, signals, the books of the workers
//!  └─ worker 1..N   one CPython each; one thread that polls, reads, calls the application and sends, and one that
//!                 sends what would wait too long
//! ```
//!
//! The master forks first, and Python starts in the child: so a reload sees new code, an import that crashes stays in
//! its worker, and the master stays small. They share a page of memory, the scoreboard, and nothing else.
//!
//! # One request, in the order of its bytes
//!
//! `recv` into a buffer lent to the connection (`worker::io`) → [`http::Connection`], which does no I/O, yields events
//! → a complete request becomes an environ (`wsgi::environ`) → the application → its pieces are framed in the
//! [`wsgi::Exchange`] by the `http::response` encoder → the out queue of the client's channel → `send`.
//!
//! # Where things are
//!
//! | module | what |
//! |---|---|
//! | [`settings`] | what can be configured, declared once |
//! | [`http`] | HTTP/1.1 without I/O: bytes in, events out; values in, bytes out |
//! | [`wsgi`] | Python, and only here: PEP 3333 |
//! | [`worker`] | a child process: start Python, serve, leave |
//! | [`master`] | the parent process: wait, decide, act |
//! | [`net`] | addresses → listeners |
//! | [`scoreboard`] | one slot of shared memory per worker |
//! | [`log`] | the error log, and under it the access log |
//! | [`banner`] | what is said when the server is up |
//! | [`exit`] | every exit status, with its reason |
//! | [`sys`] | the operating system, in our words |
//!
//! # What never happens
//!
//! - `http` does no I/O, reads no clock and knows no Python; it gets limits and time as values.
//! - `master` holds no Python object and never calls the application; it never parses HTTP.
//! - `settings`, `exit`, `sys` and `http` use no other module of ours (`settings` ends with an `exit` status).
//! - Only `sys` and `wsgi::ffi` contain unsafe code.
//! - Nobody waits for a client while holding the GIL.
//!
//! # Own words
//!
//! A *batch* is what one wait for events brought. A client is *settled* when its output has been tried and it is known
//! what to wait for next; it *lingers* while what it still sends is read and thrown away, so that it gets to see our
//! refusal. The *postman* has the finished responses of a batch until they leave together, or until a slow call makes
//! them late. A *seat* is one of the N places for workers; its worker may change.

pub mod banner;
pub mod exit;
pub mod http;
pub mod log;
pub mod master;
pub mod net;
pub mod scoreboard;
pub mod settings;
pub mod sys;
pub mod worker;
pub mod wsgi;
