//! The clap definition: the only place that knows a setting. Name, short flag, default, unit, choices and help stand
//! here; `--help`, the README table, the man page, the completions and `--print-config` are printed from it.
//!
//! What a value means is in `values`, which layer wins in `sources`, what follows from a value in the parent module.
//! Fields stand in the order of the help: a group is one `help_heading` and its fields are neighbours.

mod leniency;
mod logging;
mod metrics;
mod proxies;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, CommandFactory, Parser, ValueEnum};

pub use self::leniency::Leniency;
pub use self::logging::Logging;
pub use self::metrics::{Control, Metrics};
pub use self::proxies::{HeaderMap, Proxies, ProxyProtocol};
use super::addresses;
use super::values::{self, LogLevel, Variable, Workers};
use super::{BindAddress, LogTarget, ReloadEngine, refused};

/// The definition, ready to parse with or to be walked. What gunicorn has and we do not is in it too, hidden.
pub(super) fn command() -> clap::Command {
    Cli::command().args(refused::options())
}

/// The options and the argument that hold a value, in the order of the help. The rest are questions, such as `--help`.
///
/// The id of an option is the setting's name in configuration files: gunicorn's name where gunicorn has the setting.
pub(super) fn settings(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_arguments().filter(|argument| argument.get_action().takes_values() && !argument.is_hide_set())
}

/// Shells that completions are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Serve a WSGI application over HTTP/1.1 from forked workers
#[derive(Debug, Parser)]
#[command(
    name = "minicorn",
    version,
    override_usage = "minicorn [OPTIONS] APP",
    max_term_width = 120,
    // As with gunicorn: `--graceful 5` is enough, and of `-w 1 -w 4` the last one counts.
    infer_long_args = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(super) struct Cli {
    /// The application: MODULE, MODULE:NAME, MODULE:A.B or MODULE:FACTORY("literal", key=1)
    #[arg(value_name = "APP", help_heading = "Application", value_parser = NonEmptyStringValueParser::new(),
          display_order = 0)]
    pub(super) app: Option<String>,

    /// The configuration file: PATH, file:PATH or python:MODULE. Without it, the first that is there of minicorn.toml,
    /// minicorn.conf.py, gunicorn.conf.py and pyproject.toml with [tool.minicorn]; none = no file (./none is one)
    // Options count from 0 by themselves, and the argument stands in front of them only with a lower number.
    #[arg(short, long, value_name = "FILE", help_heading = "Application", display_order = 1)]
    pub(super) config: Option<OsString>,

    /// The application, for a configuration file that names it
    #[arg(long, value_name = "APP", help_heading = "Application", value_parser = NonEmptyStringValueParser::new(), display_order = 1)]
    pub(super) wsgi_app: Option<String>,

    /// Change to this directory first; the application is imported from there
    #[arg(long, value_name = "DIR", help_heading = "Application", display_order = 1)]
    pub(super) chdir: Option<PathBuf>,

    /// Set an environment variable for the application; repeatable
    #[arg(short, long, id = "raw_env", value_name = "NAME=VALUE", help_heading = "Application", value_parser = values::variable)]
    pub(super) env: Vec<Variable>,

    /// Listen here: HOST, HOST:PORT, :PORT, [IPV6]:PORT, unix:PATH, unix:@NAME (abstract) or fd://N (inherited);
    /// repeatable; wins over --host and --port
    #[arg(short, long, value_name = "ADDRESS", help_heading = "Listening", value_parser = addresses::bind_address)]
    pub(super) bind: Vec<BindAddress>,

    /// Listen on this name or IP address
    #[arg(long, value_name = "HOST", help_heading = "Listening", default_value = "127.0.0.1",
          value_parser = addresses::host)]
    pub(super) host: String,

    /// Listen on this port; 0 = any free one. The environment variable PORT alone means --bind 0.0.0.0:PORT
    #[arg(long, value_name = "PORT", help_heading = "Listening", default_value = "8000", value_parser = addresses::port,
          allow_negative_numbers = true)]
    pub(super) port: u16,

    /// Connections the kernel queues until a worker takes them, at most net.core.somaxconn
    #[arg(long, value_name = "N", help_heading = "Listening", default_value = "2048",
          value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(super) backlog: u32,

    /// Set SO_REUSEPORT, so that another server may listen on the same port
    #[arg(long, value_name = "BOOL", help_heading = "Listening", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub(super) reuse_port: bool,

    /// Worker processes; auto = as many as the CPUs this process may use. The environment variable WEB_CONCURRENCY says it as well
    #[arg(short, long, value_name = "N|auto", help_heading = "Workers", default_value = "1",
          value_parser = values::workers, allow_negative_numbers = true)]
    pub(super) workers: Workers,

    /// Accepted for sync and gthread, which mean the same here; other classes are refused
    #[arg(short = 'k', long, value_name = "CLASS", help_heading = "Workers", default_value = "sync",
          value_parser = values::worker_class)]
    pub(super) worker_class: String,

    /// Open connections of one worker; at this many it stops accepting
    #[arg(long, value_name = "N", help_heading = "Workers", default_value = "1000",
          value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(super) worker_connections: u32,

    /// Threads of each worker that call the application; more than 1 for applications that wait for databases and
    /// other services
    #[arg(long, value_name = "N", help_heading = "Workers", default_value = "1", value_parser = values::threads,
          allow_negative_numbers = true)]
    pub(super) threads: u32,

    /// Leave each connection with the worker that accepted it, instead of passing it to one that is idle
    #[arg(long, value_name = "BOOL", help_heading = "Workers", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub(super) no_passing: bool,

    /// Import the application once, in a process from which the workers are forked: saves memory, and time when a worker
    /// is replaced
    #[arg(long, id = "preload_app", value_name = "BOOL", help_heading = "Workers", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub(super) preload: bool,

    /// Replace a worker that has answered about so many requests; 0 = never
    #[arg(long, value_name = "N", help_heading = "Recycling", default_value = "0", value_parser = values::count,
          allow_negative_numbers = true)]
    pub(super) max_requests: u32,

    /// Add a random number of requests up to this to --max-requests, for each worker another one
    #[arg(long, value_name = "N", help_heading = "Recycling", default_value = "0", value_parser = values::count,
          allow_negative_numbers = true)]
    pub(super) max_requests_jitter: u32,

    /// Replace a worker that has served for so long; 0 = never
    #[arg(long, value_name = "SECONDS", help_heading = "Recycling", default_value = "0",
          value_parser = values::seconds, allow_negative_numbers = true)]
    pub(super) max_worker_lifetime: Duration,

    /// Replace a worker that has more memory in RAM than this; K, M and G count in 1024s; 0 = never
    #[arg(long, value_name = "BYTES", help_heading = "Recycling", default_value = "0", value_parser = values::size,
          allow_negative_numbers = true)]
    pub(super) max_worker_rss: u64,

    /// Replace a worker whose application works longer than this on one request; 0 = never
    #[arg(short, long, value_name = "SECONDS", help_heading = "Timeouts", default_value = "30",
          value_parser = values::seconds, allow_negative_numbers = true)]
    pub(super) timeout: Duration,

    /// Time for requests in flight to finish when stopping; after it they are cut
    #[arg(long, value_name = "SECONDS", help_heading = "Timeouts", default_value = "30",
          value_parser = values::seconds, allow_negative_numbers = true)]
    pub(super) graceful_timeout: Duration,

    /// Time for a worker to import the application; after it the worker is killed, and its stacks are logged; 0 = no
    /// limit
    #[arg(long, value_name = "SECONDS", help_heading = "Timeouts", default_value = "60",
          value_parser = values::seconds, allow_negative_numbers = true)]
    pub(super) boot_timeout: Duration,

    /// Go on serving for so long after SIGTERM, for load balancers that hear of it late
    #[arg(long, value_name = "SECONDS", help_heading = "Timeouts", default_value = "0",
          value_parser = values::seconds, allow_negative_numbers = true)]
    pub(super) shutdown_delay: Duration,

    /// Close a connection that has been idle for this long; 0 = after each response
    #[arg(long, id = "keepalive", value_name = "SECONDS", help_heading = "Timeouts", default_value = "75",
          value_parser = values::seconds, allow_negative_numbers = true)]
    pub(super) keep_alive: Duration,

    /// Time for a client to send a request head, from its first byte; 0 = no limit
    #[arg(long, value_name = "SECONDS", help_heading = "Timeouts", default_value = "10",
          value_parser = values::seconds, allow_negative_numbers = true)]
    pub(super) header_timeout: Duration,

    /// Longest pause of a client that sends a request body; 0 = no limit
    #[arg(long, value_name = "SECONDS", help_heading = "Timeouts", default_value = "30",
          value_parser = values::seconds, allow_negative_numbers = true)]
    pub(super) body_timeout: Duration,

    /// Longest pause of a client that reads a response; 0 = no limit
    #[arg(long, value_name = "SECONDS", help_heading = "Timeouts", default_value = "60",
          value_parser = values::seconds, allow_negative_numbers = true)]
    pub(super) send_timeout: Duration,

    /// Longest request line, at most 8190; 0 = no limit. Longer ones get 414
    #[arg(long, value_name = "BYTES", help_heading = "Limits", default_value = "4094", value_parser = values::count,
          allow_negative_numbers = true)]
    pub(super) limit_request_line: u32,

    /// Most header fields of a request, at most 32768; 0 = 32768. More get 431
    #[arg(long, value_name = "N", help_heading = "Limits", default_value = "100", value_parser = values::count,
          allow_negative_numbers = true)]
    pub(super) limit_request_fields: u32,

    /// Longest header field line; 0 = 8190. Longer ones get 431
    #[arg(long, alias = "limit-request-field_size", value_name = "BYTES", help_heading = "Limits",
          default_value = "8190", value_parser = values::count, allow_negative_numbers = true)]
    pub(super) limit_request_field_size: u32,

    /// Largest request body; K, M and G count in 1024s; 0 = no limit. Larger ones get 413
    #[arg(long, value_name = "BYTES", help_heading = "Limits", default_value = "1G", value_parser = values::size,
          allow_negative_numbers = true)]
    pub(super) limit_request_body: u64,

    /// Request bodies up to this size stay in memory, larger ones go to a temporary file
    #[arg(long, value_name = "BYTES", help_heading = "Buffers", default_value = "512K", value_parser = values::size,
          allow_negative_numbers = true)]
    pub(super) body_memory_max: u64,

    /// Call the application before the request body is there, for those that stream uploads; a slow client then
    /// occupies a thread of the application
    #[arg(long, value_name = "BOOL", help_heading = "Buffers", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub(super) no_request_buffering: bool,

    /// So many bytes of a response may wait in memory for a client that reads slowly, more go to a temporary file
    #[arg(long, value_name = "BYTES", help_heading = "Buffers", default_value = "1M", value_parser = values::size,
          allow_negative_numbers = true)]
    pub(super) response_memory_max: u64,

    /// So many bytes of a response may wait in its temporary file; the application that produces more waits
    #[arg(long, value_name = "BYTES", help_heading = "Buffers", default_value = "1G", value_parser = values::size,
          allow_negative_numbers = true)]
    pub(super) response_file_max: u64,

    /// Directory of the temporary files, which have no name there; without it TMPDIR, else /tmp
    #[arg(long, value_name = "DIR", help_heading = "Buffers")]
    pub(super) tmp_upload_dir: Option<PathBuf>,

    /// Accepted and not needed: heartbeats are in shared memory
    #[arg(long, value_name = "DIR", help_heading = "Buffers")]
    pub(super) worker_tmp_dir: Option<PathBuf>,

    /// Read files and send them, instead of having the kernel do it
    #[arg(long, value_name = "BOOL", help_heading = "Buffers", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub(super) no_sendfile: bool,

    #[command(flatten)]
    pub(super) proxies: Proxies,

    /// The Python, or the virtual environment, to run the application with. Without it: VIRTUAL_ENV, CONDA_PREFIX,
    /// ./.venv, then the installation of the build
    #[arg(long, value_name = "PATH", help_heading = "Python")]
    pub(super) python: Option<PathBuf>,

    /// Directories to put at the front of sys.path, separated by commas
    #[arg(long, value_name = "DIR,DIR", help_heading = "Python")]
    pub(super) pythonpath: Option<OsString>,

    /// Run in the background: the command returns when the server serves, or fails as it does
    #[arg(short = 'D', long, value_name = "BOOL", help_heading = "Process", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub(super) daemon: bool,

    /// With --daemon, keep standard output and standard error if they are not a terminal
    #[arg(short = 'R', long, value_name = "BOOL", help_heading = "Process", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub(super) enable_stdio_inheritance: bool,

    /// Write the process id of the master to this file
    #[arg(short, long, id = "pidfile", value_name = "FILE", help_heading = "Process")]
    pub(super) pid: Option<PathBuf>,

    /// Run the workers as this user, a name or a number
    #[arg(short, long, value_name = "USER", help_heading = "Process", value_parser = NonEmptyStringValueParser::new())]
    pub(super) user: Option<String>,

    /// Run the workers as this group, a name or a number; without it, the group of --user
    #[arg(short, long, value_name = "GROUP", help_heading = "Process", value_parser = NonEmptyStringValueParser::new())]
    pub(super) group: Option<String>,

    /// Give the workers all groups that --user is a member of, instead of its group alone
    #[arg(long, value_name = "BOOL", help_heading = "Process", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub(super) initgroups: bool,

    /// Permission bits that files of the server and the application do not get, as in 027 or 0o27
    #[arg(short = 'm', long, value_name = "MASK", help_heading = "Process", default_value = "0",
          value_parser = values::umask, allow_negative_numbers = true)]
    pub(super) umask: u32,

    /// Name in the titles of the processes, instead of the application's
    #[arg(short = 'n', long = "name", visible_alias = "proc-name", value_name = "NAME", help_heading = "Process",
          value_parser = NonEmptyStringValueParser::new())]
    pub(super) proc_name: Option<String>,

    /// Reload when a file of the application changes
    #[arg(long, value_name = "BOOL", help_heading = "Development", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub(super) reload: bool,

    /// Reload when this file changes, too; repeatable
    #[arg(long, id = "reload_extra_files", value_name = "FILE", help_heading = "Development")]
    pub(super) reload_extra_file: Vec<PathBuf>,

    /// How --reload finds changes
    #[arg(long, value_name = "ENGINE", help_heading = "Development", default_value = "auto", value_enum)]
    pub(super) reload_engine: ReloadEngine,

    /// Write each line of Python that runs to standard error: for the last resort
    #[arg(long, value_name = "BOOL", help_heading = "Development", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub(super) spew: bool,

    /// Least severe messages the error log keeps
    #[arg(
        long,
        id = "loglevel",
        value_name = "LEVEL",
        help_heading = "Logging",
        default_value = "info",
        value_enum,
        ignore_case = true
    )]
    pub(super) log_level: LogLevel,

    /// Error log; - = standard error
    #[arg(long, id = "errorlog", visible_alias = "log-file", value_name = "FILE", help_heading = "Logging", default_value = "-",
          value_parser = values::error_log())]
    pub(super) error_logfile: LogTarget,

    /// Access log; - = standard output, none = off
    #[arg(long, id = "accesslog", value_name = "FILE", help_heading = "Logging", default_value = "-",
          value_parser = values::access_log())]
    pub(super) access_logfile: LogTarget,

    /// Line of the access log: mini, common, combined, json, or gunicorn's atoms, as in '%(h)s "%(r)s" %(s)s'
    #[arg(long, id = "access_log_format", value_name = "FORMAT", help_heading = "Logging", default_value = "mini",
          value_parser = NonEmptyStringValueParser::new())]
    pub(super) access_logformat: String,

    #[command(flatten)]
    pub(super) logging: Logging,

    #[command(flatten)]
    pub(super) metrics: Metrics,

    #[command(flatten)]
    pub(super) control: Control,

    #[command(flatten)]
    pub(super) leniency: Leniency,

    /// Accepted for auto, fast and python: the parser is minicorn's own
    #[arg(long, value_name = "PARSER", help_heading = "Compatibility", default_value = "auto",
          value_parser = ["auto", "fast", "python"])]
    pub(super) http_parser: String,

    /// Load the application, say whether that worked, and exit
    #[arg(long, help_heading = "Checks")]
    pub(super) check_config: bool,

    /// Print every setting as it was understood, then do as --check-config
    #[arg(long, help_heading = "Checks")]
    pub(super) print_config: bool,

    /// Print the settings tables of README.md and exit
    #[arg(long, help_heading = "Checks", hide = true, exclusive = true)]
    pub(super) print_reference: bool,

    /// Print the man page and exit
    #[arg(long, help_heading = "Checks", hide = true, exclusive = true)]
    pub(super) print_man: bool,

    /// Print the completions for bash, zsh or fish and exit
    #[arg(long, value_name = "SHELL", help_heading = "Checks", hide = true, exclusive = true, value_enum)]
    pub(super) print_completions: Option<Shell>,

    #[arg(short = 'v', long, help_heading = "Checks", action = ArgAction::Version, help = "Print the version and exit")]
    version: Option<bool>,

    #[arg(short, long, help_heading = "Checks", action = ArgAction::Help, help = "Print this help and exit")]
    help: Option<bool>,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::FromArgMatches;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        // clap's own walk: ids, names and short flags are unique, defaults parse, relations name what exists.
        command().debug_assert();
    }

    #[test]
    fn every_setting_has_a_value_name_a_group_and_help() {
        let command = command();
        for setting in settings(&command) {
            let id = setting.get_id();
            assert!(setting.get_value_names().is_some_and(|names| !names.is_empty()), "{id} has no unit");
            assert!(setting.get_help_heading().is_some(), "{id} is in no group");
            assert!(setting.get_help().is_some(), "{id} has no help");
        }
    }

    #[test]
    fn a_group_is_not_torn_apart() {
        let mut seen: Vec<&str> = Vec::new();
        let command = command();
        for heading in command.get_arguments().filter_map(|argument| argument.get_help_heading()) {
            if seen.last() != Some(&heading) {
                assert!(!seen.contains(&heading), "{heading} appears twice");
                seen.push(heading);
            }
        }
        let all = [
            "Application",
            "Listening",
            "Workers",
            "Recycling",
            "Timeouts",
            "Limits",
            "Buffers",
            "Proxies",
            "Python",
            "Process",
            "Development",
            "Logging",
            "Metrics",
            "Control",
            "Compatibility",
            "Checks",
        ];
        assert_eq!(seen, all);
    }

    #[test]
    fn no_name_is_used_twice() {
        let mut names = HashSet::new();
        for argument in command().get_arguments() {
            let longs = argument.get_long_and_visible_aliases().unwrap_or_default();
            let hidden = argument.get_aliases().unwrap_or_default();
            for name in longs.into_iter().chain(hidden) {
                assert!(names.insert(name.to_owned()), "--{name} is used twice");
            }
            if let Some(short) = argument.get_short() {
                assert!(names.insert(short.to_string()), "-{short} is used twice");
            }
        }
    }

    #[test]
    fn every_default_parses_when_it_is_given_explicitly() {
        let command = command();
        for setting in settings(&command).filter(|setting| setting.get_long().is_some()) {
            for default in setting.get_default_values() {
                let option = format!("--{}={}", setting.get_long().expect("filtered"), default.to_string_lossy());
                let matches = self::command().try_get_matches_from(["minicorn", &option, "app"]);
                Cli::from_arg_matches(&matches.expect(&option)).expect(&option);
            }
        }
    }
}
