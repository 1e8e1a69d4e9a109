//! minicorn: a prefork WSGI server. `minicorn module:app --workers 4` binds its sockets in a master process and forks
//! workers; each embeds CPython, loads the application and serves HTTP/1.1.
//!
//! # Processes
//!
//! ```text
//! master            one thread, no Python: listeners, signals, the books of the workers, health and metrics. Only for
//!                   hooks of its own, or as a guest of `minicorn.run()`, does Python run in it
//!  └─ worker 1..N   one CPython each; T threads that call the application, one of which also polls, and the standby,
//!                 a thread that polls when none of them can, and never takes the GIL
//!  └─ template      with `--preload`: imports the application and forks the workers, which are the master's children
//! ```
//!
//! The master forks first, and Python starts in the child: so a reload sees new code, an import that crashes stays in
//! its worker, and the master stays small. They share a few pages of memory, the scoreboard, and the inboxes through
//! which connections move from one worker to another, and nothing else.
//!
//! Where the server is a *guest* in a Python that runs already, the extension module of the Python package, the master is
//! detached from that Python, and its workers take it over.
//!
//! # One request, in the order of its bytes
//!
//! `recv` into a buffer lent to the connection (`worker::io`) → [`http::Connection`], which does no I/O, yields events
//! → a complete request becomes an environ (`wsgi::environ`) → the application → its pieces are framed in the
//! [`wsgi::Exchange`] by the `http::response` encoder → the out queue of the client's channel → `send`.
//!
//! One thread does all of it, without a hop. While it is in the application it is away from the *desk*, where all
//! connections are (`worker::turn`); when the call is short, nobody has noticed. When it is long, another thread has come
//! to the desk and polls (`worker::standby`): it goes on reading, refusing and sending, and hands complete requests to
//! another application thread, to the queue, or to a worker that is idle (`worker::passing`).
//!
//! # Where things are
//!
//! | module | what |
//! |---|---|
//! | [`program`] | everything in the order of its start, and what the master wants done besides |
//! | `python` | the extension module of the Python package, behind a feature |
//! | [`settings`] | what can be configured, declared once |
//! | [`http`] | HTTP/1.1 without I/O: bytes in, events out; values in, bytes out |
//! | [`wsgi`] | Python, and only here: PEP 3333 |
//! | [`worker`] | a child process: start Python, serve, leave |
//! | [`master`] | the parent process: wait, decide, act |
//! | [`net`] | addresses → listeners |
//! | [`scoreboard`] | one slot of shared memory per worker |
//! | [`inboxes`] | one inbox per worker, for connections that move to a sibling |
//! | [`orders`] | what the master asks of a template |
//! | [`log`] | the error log, under it the access log, and syslog for both |
//! | [`statsd`] | metrics on their way to a statsd |
//! | [`ctl`] | `minicorn ctl`: the client of a running server's control socket |
//! | [`admin`] | what the master tells over HTTP: health, metrics, status |
//! | [`banner`] | what is said when the server is up |
//! | [`exit`] | every exit status, with its reason |
//! | [`sys`] | the operating system, in our words |
//!
//! # What never happens
//!
//! - `http` does no I/O, reads no clock and knows no Python; it gets limits and time as values.
//! - `master` holds no Python object and never calls the application; it never parses HTTP (what the process
//!   of the master is asked at `--admin-bind` is read by `admin`).
//! - `settings`, `exit`, `sys` and `http` use no other module of ours (`settings` ends with an `exit` status).
//! - Only `sys` and `wsgi::ffi` contain unsafe code.
//! - Nobody waits for a client, a disk or the desk's next event while holding the GIL, and nobody waits for the GIL at the
//!   desk. Locks are taken in the order GIL, desk, exchange.
//!
//! # Own words
//!
//! A *batch* is what one wait for events brought. A client is *settled* when its output has been tried and it is known
//! what to wait for next; it *lingers* while what it still sends is read and thrown away, so that it gets to see our
//! refusal. The *desk* is what the threads of a worker share, under one lock; the *poller* is the one of them that waits
//! for events. A thread is *away* while it is in the application or waits for the GIL. A connection is *passed* when it
//! moves to another worker, through that worker's *inbox*; those in the inbox of a worker that is gone are *orphans*. A
//! worker is *condemned* when a request has been in its application for too long, and *hands over* its connections when it
//! leaves while others serve on. A *spool* is a file that bytes go to which would fill the memory. A *generation* is one
//! reading of the configuration, and the workers made from it; it is *proven* when one of them has been ready. In the
//! master, a *seat* is one of the N places for workers; its worker may change, after a crash or by a *renewal*, in which the
//! *successor* comes first. A worker is *worn* when it should be replaced though it serves well.
//! An *introduction* is what a PROXY header says of its sender's client. A lenient parser *mends* a head into one that the
//! strict parser takes.

pub mod admin;
pub mod banner;
pub mod ctl;
pub mod exit;
pub mod http;
pub mod inboxes;
pub mod log;
pub mod master;
pub mod net;
pub mod orders;
pub mod program;
#[cfg(feature = "extension-module")]
pub mod python;
pub mod scoreboard;
pub mod settings;
pub mod statsd;
pub mod sys;
pub mod worker;
pub mod wsgi;
