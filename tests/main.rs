//! The integration tests: the real program, started, asked over sockets, stopped.
//!
//! `harness` starts and asks; each other module is a part of what minicorn promises. The apps are in `tests/apps`.
//! What `http_*` and `wsgi_*` ask of any WSGI server (`portable`) can be asked of another one: see `harness::server`.

mod harness;

mod access_log;
mod access_log_options;
mod admin;
mod app_loading;
mod architecture;
mod command_line;
mod configuration;
mod control;
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
mod gunicorn_files;
mod gunicorn_settings;
mod hooks;
mod http_connection;
mod http_limits;
mod http_request;
mod leaving;
mod leniency;
mod lifecycle;
mod listening;
mod log_files;
mod log_injection;
mod master;
mod metrics;
mod notify;
mod operations;
mod package;
mod preload;
mod process;
mod proxies;
mod proxy_headers;
mod proxy_protocol;
mod python_logging;
mod reload_settings;
mod reloading;
mod request_id;
mod statsd;
mod status_page;
mod syslog;
mod titles;
mod upgrade;
mod worker;
mod wsgi_bodies;
mod wsgi_environ;
mod wsgi_input;
mod wsgi_response;
