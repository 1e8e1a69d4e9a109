//! The integration tests: the real program, started, asked over sockets, stopped.
//!
//! `harness` starts and asks; each other module is a part of what minicorn promises. The apps are in `tests/apps`.
//! What `http_*` and `wsgi_*` ask of any WSGI server (`portable`) can be asked of another one: see `harness::server`.

mod harness;

mod access_log;
mod app_loading;
mod architecture;
mod command_line;
mod deploy_files;
mod endurance;
mod engine_arriving;
mod engine_bodies;
mod engine_clients;
mod engine_deadlines;
mod engine_environ;
mod engine_files;
mod engine_handoff;
mod engine_passing;
mod engine_responses;
mod engine_threads;
mod examples;
mod http_connection;
mod http_limits;
mod http_request;
mod leaving;
mod lifecycle;
mod listening;
mod log_files;
mod master;
mod notify;
mod operations;
mod preload;
mod process;
mod proxies;
mod reloading;
mod titles;
mod upgrade;
mod worker;
mod wsgi_bodies;
mod wsgi_environ;
mod wsgi_input;
mod wsgi_response;
