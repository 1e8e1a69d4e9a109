//! What can be configured, declared once. `cli` knows which settings there are, `values` what their text means, `names`
//! what they are called in files, `files` and `environment` what is said there, `sources` which layer wins; here the
//! winners are resolved into [`Settings`]. `listing` and `reference` print them, `refused` has what gunicorn has besides.
//!
//! Nothing here acts on a setting: sockets, files, Python and log levels belong to their modules. Parsing only checks
//! and stores; what depends on the machine (how many CPUs, does this directory exist) is looked at in `resolve`.

#![forbid(unsafe_code)]

mod addresses;
mod cli;
mod environment;
mod error;
mod files;
mod keywords;
mod listing;
mod names;
mod python_file;
mod reference;
mod refused;
mod sources;
mod toml_file;
mod trust;
mod values;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::FromArgMatches;
use clap::error::ErrorKind;

pub use addresses::{StatsdAddress, SyslogAddress, SyslogSocket};
pub use cli::{Control, HeaderMap, Leniency, Logging, Metrics, Proxies, ProxyProtocol};
pub use error::SettingsError;
pub use listing::Row;
pub use python_file::{Effects, Evaluate, Evaluated, HookName, PythonFile, Value};
pub use sources::Origin;
pub use trust::{HeaderNames, SchemeHeaders, Trust, TrustedHeaders};

/// Every setting, resolved. The meaning of a field is the help of its option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `module`, `module:name`, `module:a.b` or `module:factory(…)`; not empty.
    pub app: String,
    /// Where to listen; at least one.
    pub bind: Vec<BindAddress>,
    /// Worker processes; at least one.
    pub workers: u32,
    /// Threads of each worker that call the app; at least one.
    pub threads: u32,
    /// Whether connections may move from a busy worker to an idle one.
    pub passing: bool,
    /// Whether the app is imported once, by a process that forks the workers.
    pub preload: bool,
    /// Requests after which a worker is replaced; zero: never.
    pub max_requests: u32,
    /// Most requests that chance adds to them.
    pub max_requests_jitter: u32,
    /// Time after which a worker is replaced; zero: never.
    pub max_worker_lifetime: Duration,
    /// Bytes in RAM above which a worker is replaced; zero: never.
    pub max_worker_rss: u64,
    /// Longest time of the app on one request; zero: no limit.
    pub timeout: Duration,
    /// Time for requests in flight when stopping; zero: none.
    pub graceful_timeout: Duration,
    /// From the fork of a worker until it is ready; zero: no limit.
    pub boot_timeout: Duration,
    /// From SIGTERM until the server begins to stop.
    pub shutdown_delay: Duration,
    /// Longest idle time of a connection; zero: close after each response.
    pub keep_alive: Duration,
    /// Longest time for a request head, from its first byte; zero: no limit.
    pub header_timeout: Duration,
    /// Longest time between two reads of a request body; zero: no limit.
    pub body_timeout: Duration,
    /// Longest time between two writes of a response; zero: no limit.
    pub send_timeout: Duration,
    /// Open connections of one worker; at least one.
    pub worker_connections: usize,
    /// For listen(2); at least one.
    pub backlog: u32,
    /// Whether others may listen on the same ports.
    pub reuse_port: bool,
    /// Bytes, between 1 and 8190, or [`LIMIT_REQUEST_LINE_NONE`].
    pub limit_request_line: usize,
    /// Header fields, between 1 and 32768.
    pub limit_request_fields: usize,
    /// Bytes of one header field line; at least one.
    pub limit_request_field_size: usize,
    /// Bytes; `u64::MAX`: unlimited.
    pub limit_request_body: u64,
    /// Bytes of a request body that stay in memory.
    pub body_memory_max: u64,
    /// Whether the app gets a request when all of its body is there.
    pub request_buffering: bool,
    /// Bytes of a response that may wait in memory.
    pub response_memory_max: u64,
    /// Bytes of a response that may wait in a file.
    pub response_file_max: u64,
    /// Where temporary files are made, if somewhere special; it existed when the settings were read.
    pub tmp_upload_dir: Option<PathBuf>,
    /// Whether files are sent by the kernel.
    pub sendfile: bool,
    /// What is believed of a proxy in front.
    pub proxies: Proxies,
    /// Directory to change to first; it existed when the settings were read.
    pub chdir: Option<PathBuf>,
    /// The directory before that change, if there is one.
    pub start_folder: Option<PathBuf>,
    /// Directories for the front of `sys.path`, in this order.
    pub pythonpath: Vec<PathBuf>,
    /// Environment variables for the app: name (not empty, without `=`) and value.
    pub env: Vec<(String, String)>,
    /// The Python or virtual environment asked for; `None`: look for one.
    pub python: Option<PathBuf>,
    /// Whether the server leaves its terminal.
    pub daemon: bool,
    /// Whether a server in the background keeps standard output and standard error, unless they are a terminal.
    pub enable_stdio_inheritance: bool,
    /// Where the process id of the master is written.
    pub pid_file: Option<PathBuf>,
    /// Name or number of the workers' user; not looked up.
    pub user: Option<String>,
    /// Name or number of the workers' group; not looked up.
    pub group: Option<String>,
    /// Whether the workers get all groups of their user.
    pub initgroups: bool,
    /// For umask(2).
    pub umask: u32,
    /// What the processes are called in their titles.
    pub proc_name: String,
    /// Whether a changed file of the app has the server reload.
    pub reload: bool,
    /// Further files that do.
    pub reload_extra_files: Vec<PathBuf>,
    /// How changes are found.
    pub reload_engine: ReloadEngine,
    /// Whether each line of Python that runs is written to standard error.
    pub spew: bool,
    /// Least severe level of the error log.
    pub log_level: log::LevelFilter,
    /// Never [`LogTarget::None`].
    pub error_log: LogTarget,
    /// Where the access log goes.
    pub access_log: LogTarget,
    /// A name or gunicorn's atoms, not yet compiled.
    pub access_log_format: String,
    /// What the logs hold, and where they go besides their files.
    pub logging: Logging,
    /// What is told about the server's work, and to whom.
    pub metrics: Metrics,
    /// How the server is spoken to while it runs.
    pub control: Control,
    /// What is accepted although RFC 9112 refuses it.
    pub leniency: Leniency,
    /// The configuration file that was read, as it was named.
    pub config_file: Option<String>,
    /// The same, if it is Python: it may have hooks.
    pub python_file: Option<PythonFile>,
    /// The hooks that it sets.
    pub hooks: Vec<HookName>,
    /// What it has changed of the process that it ran in.
    pub effects: Effects,
    /// Only load the app, and say whether it worked.
    pub check_config: bool,
    /// Print the [listing](Settings::listing), then do as with `check_config`.
    pub print_config: bool,
    /// The command line as given, program name included.
    pub arguments: Vec<OsString>,
    /// What is listed of all this.
    rows: Vec<Row>,
}

/// Where to listen, not yet looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// A name or an address (IPv6 without brackets), and a port; 0 is any free one.
    Tcp {
        /// Not empty.
        host: String,
        /// 0: any free port.
        port: u16,
    },
    /// The path of a socket file; not empty.
    Unix(PathBuf),
    /// A name in the abstract namespace of Linux (unix(7)), without its leading NUL; not empty.
    Abstract(String),
    /// A descriptor that this process was started with, of a socket that listens already.
    Descriptor(u32),
}

/// How changed files are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReloadEngine {
    /// With inotify if there is room for it, else by polling.
    Auto,
    /// With inotify.
    Inotify,
    /// By looking at all files twice a second.
    Poll,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    None,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to this file.
    File(PathBuf),
}

/// What the settings are read with, besides the command line.
#[derive(Clone, Copy)]
pub struct Surroundings<'s> {
    /// A variable of the environment.
    pub environment: &'s dyn Fn(&str) -> Option<OsString>,
    /// Asked for `--workers auto`.
    pub usable_cpus: fn() -> u32,
    /// Asked for configuration files that are Python.
    pub evaluate: Evaluate,
}

/// Reads `arguments`, the command line with the name of the program, and what there is besides: the environment and a
/// configuration file.
///
/// # Errors
/// A wrong value or usage, and also the answer to `--help`, `--version` and `--print-reference`: all that ends the
/// program here. [`SettingsError::report`] prints it.
pub fn read(arguments: Vec<OsString>, surroundings: Surroundings<'_>) -> Result<Settings, SettingsError> {
    let merged = sources::merge(&arguments, surroundings)?;
    let mut cli = cli::Cli::from_arg_matches(&merged.matches)?;
    if let Some(answer) = reference::answer(&cli) {
        return Err(SettingsError::answer(answer));
    }
    let Some(app) = cli.app.take().or(cli.wsgi_app.take()) else {
        let text = "there is no application: give APP, MODULE:NAME, or wsgi_app in a configuration file\n";
        return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, text).into());
    };
    let mut settings = resolve(app, cli, &merged, arguments, surroundings.usable_cpus)?;
    settings.rows = listing::rows(&merged, &settings);
    Ok(settings)
}

/// From what was written to what it means on this machine.
fn resolve(
    app: String,
    cli: cli::Cli,
    merged: &sources::Merged,
    arguments: Vec<OsString>,
    usable_cpus: fn() -> u32,
) -> Result<Settings, SettingsError> {
    if let Some(directory) = &cli.chdir {
        check_directory("chdir", directory, directory, merged)?;
    }
    if let Some(directory) = &cli.tmp_upload_dir {
        check_directory("tmp_upload_dir", directory, &from_directory(cli.chdir.as_deref(), directory), merged)?;
    }
    let bind = if cli.bind.is_empty() { vec![BindAddress::Tcp { host: cli.host, port: cli.port }] } else { cli.bind };
    Ok(Settings {
        proc_name: cli.proc_name.unwrap_or_else(|| app.clone()),
        app,
        bind,
        workers: match cli.workers {
            values::Workers::Auto => usable_cpus(),
            values::Workers::Count(count) => count,
        },
        threads: cli.threads,
        passing: !cli.no_passing,
        preload: cli.preload,
        max_requests: cli.max_requests,
        max_requests_jitter: cli.max_requests_jitter,
        max_worker_lifetime: cli.max_worker_lifetime,
        max_worker_rss: cli.max_worker_rss,
        timeout: cli.timeout,
        graceful_timeout: cli.graceful_timeout,
        boot_timeout: cli.boot_timeout,
        shutdown_delay: cli.shutdown_delay,
        keep_alive: cli.keep_alive,
        header_timeout: cli.header_timeout,
        body_timeout: cli.body_timeout,
        send_timeout: cli.send_timeout,
        worker_connections: cli.worker_connections as usize,
        backlog: cli.backlog,
        reuse_port: cli.reuse_port,
        limit_request_line: match cli.limit_request_line {
            0 => LIMIT_REQUEST_LINE_NONE,
            bytes => capped(bytes, LIMIT_REQUEST_LINE_MAX),
        },
        limit_request_fields: capped(cli.limit_request_fields, LIMIT_REQUEST_FIELDS_MAX),
        limit_request_field_size: match cli.limit_request_field_size {
            0 => LIMIT_REQUEST_FIELD_SIZE_DEFAULT,
            bytes => bytes as usize,
        },
        limit_request_body: match cli.limit_request_body {
            0 => u64::MAX,
            bytes => bytes,
        },
        body_memory_max: cli.body_memory_max,
        request_buffering: !cli.no_request_buffering,
        response_memory_max: cli.response_memory_max,
        response_file_max: cli.response_file_max,
        tmp_upload_dir: cli.tmp_upload_dir,
        sendfile: !cli.no_sendfile,
        proxies: cli.proxies,
        start_folder: cli.chdir.as_ref().and_then(|_| std::env::current_dir().ok()),
        chdir: cli.chdir,
        pythonpath: cli.pythonpath.as_deref().map(split_at_commas).unwrap_or_default(),
        env: cli.env.into_iter().map(|variable| (variable.name, variable.value)).collect(),
        python: cli.python,
        daemon: cli.daemon,
        enable_stdio_inheritance: cli.enable_stdio_inheritance,
        pid_file: cli.pid,
        user: cli.user,
        group: cli.group,
        initgroups: cli.initgroups,
        umask: cli.umask,
        reload: cli.reload,
        reload_extra_files: cli.reload_extra_file,
        reload_engine: cli.reload_engine,
        spew: cli.spew,
        log_level: cli.log_level.into(),
        error_log: cli.error_logfile,
        access_log: cli.access_logfile,
        access_log_format: cli.access_logformat,
        logging: cli.logging,
        metrics: cli.metrics,
        control: cli.control,
        leniency: cli.leniency,
        config_file: merged.file.clone(),
        python_file: merged.python_file.clone(),
        hooks: merged.hooks.clone(),
        effects: merged.effects.clone(),
        check_config: cli.check_config,
        print_config: cli.print_config,
        arguments,
        rows: Vec::new(),
    })
}

impl Settings {
    /// Whether anybody can ask what the workers do.
    pub fn is_watched(&self) -> bool {
        self.metrics.admin_bind.is_some() || (self.control.control_socket.is_some() && !self.control.no_control_socket)
    }

    /// Where temporary files are made.
    pub fn temporary_folder(&self) -> PathBuf {
        self.tmp_upload_dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// gunicorn's rule for its request limits: what is above the hard cap means the cap, and so does zero for fields.
fn capped(value: u32, cap: usize) -> usize {
    match value as usize {
        0 => cap,
        value => value.min(cap),
    }
}

/// gunicorn's hard cap on the request line, bytes.
const LIMIT_REQUEST_LINE_MAX: usize = 8190;
/// What "no limit" is for the request line, bytes: so that places in a head, which are 32 bits wide, are never exceeded.
pub const LIMIT_REQUEST_LINE_NONE: usize = 1 << 30;
/// gunicorn's hard cap on header fields.
const LIMIT_REQUEST_FIELDS_MAX: usize = 32768;
/// What gunicorn's 0 means for one header field line, bytes; its documentation says unlimited, its code does not.
const LIMIT_REQUEST_FIELD_SIZE_DEFAULT: usize = 8190;

/// A path as it will be found after `--chdir`.
fn from_directory(chdir: Option<&Path>, path: &Path) -> PathBuf {
    chdir.map_or_else(|| path.to_owned(), |chdir| chdir.join(path))
}

/// `found` is where it is, `written` how it is called.
fn check_directory(id: &str, written: &Path, found: &Path, merged: &sources::Merged) -> Result<(), SettingsError> {
    let problem = match found.metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "it is not a directory".to_owned(),
        Err(error) => error.to_string(),
    };
    let origin = merged.origin(id);
    let name = match origin {
        Origin::CommandLine => format!("'--{} <DIR>'", id.replace('_', "-")),
        _ => id.to_owned(),
    };
    Err(origin.refusal(&name, &written.display().to_string(), &problem).into())
}

/// The directories of `--pythonpath`. They need not be UTF-8, so this splits bytes.
fn split_at_commas(list: &OsStr) -> Vec<PathBuf> {
    let pieces = list.as_bytes().split(|byte| *byte == b',');
    pieces.filter(|piece| !piece.is_empty()).map(|piece| PathBuf::from(OsStr::from_bytes(piece))).collect()
}

impl BindAddress {
    /// As `--bind` takes it.
    fn argument(&self) -> String {
        match self {
            BindAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            BindAddress::Tcp { host, port } => format!("{host}:{port}"),
            BindAddress::Unix(path) => format!("unix:{}", path.display()),
            BindAddress::Abstract(name) => format!("unix:@{name}"),
            BindAddress::Descriptor(number) => format!("fd://{number}"),
        }
    }
}

/// As a URL: `http://127.0.0.1:8000`, `http://[::1]:8000`, `unix:/run/app.sock`.
impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindAddress::Tcp { .. } => write!(f, "http://{}", self.argument()),
            BindAddress::Unix(_) | BindAddress::Abstract(_) | BindAddress::Descriptor(_) => {
                f.write_str(&self.argument())
            }
        }
    }
}

/// For unit tests: eight CPUs, an empty environment, no configuration file.
#[cfg(test)]
const NOTHING_ELSE: Surroundings<'static> =
    Surroundings { environment: &|_| None, usable_cpus: || 8, evaluate: |_, _| Err("no file".into()) };

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings that `minicorn ARGUMENTS… app` gets on a machine with eight CPUs and an empty environment.
    fn settings(arguments: &[&str]) -> Result<Settings, SettingsError> {
        let arguments = ["minicorn"].iter().chain(arguments).chain(&["app"]).map(OsString::from).collect();
        read(arguments, NOTHING_ELSE)
    }

    fn resolved(arguments: &[&str]) -> Settings {
        settings(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {}", error.text()))
    }

    fn refused(arguments: &[&str]) -> String {
        match settings(arguments) {
            Ok(_) => panic!("{arguments:?} was accepted"),
            Err(error) => error.text(),
        }
    }

    #[test]
    fn defaults() {
        let settings = resolved(&[]);
        assert_eq!(settings.app, "app");
        assert_eq!(settings.bind, [BindAddress::Tcp { host: "127.0.0.1".into(), port: 8000 }]);
        assert_eq!(settings.workers, 1);
        assert_eq!(settings.keep_alive, Duration::from_secs(75));
        assert_eq!(settings.limit_request_line, 4094);
        assert_eq!(settings.limit_request_body, 1 << 30);
        assert_eq!(settings.log_level, log::LevelFilter::Info);
        assert_eq!(settings.error_log, LogTarget::Stderr);
        assert_eq!(settings.access_log, LogTarget::Stdout);
        assert_eq!(settings.arguments, ["minicorn", "app"]);
    }

    #[test]
    fn bind_wins_over_host_and_port() {
        assert_eq!(resolved(&["--host=::1", "--port=1"]).bind, [BindAddress::Tcp { host: "::1".into(), port: 1 }]);
        let settings = resolved(&["--host=::1", "--port=1", "-b", "unix:a", "-b", ":2"]);
        let expected = [BindAddress::Unix("a".into()), BindAddress::Tcp { host: "0.0.0.0".into(), port: 2 }];
        assert_eq!(settings.bind, expected);
    }

    #[test]
    fn auto_workers_are_the_cpus() {
        assert_eq!(resolved(&["-w", "auto"]).workers, 8);
        assert_eq!(resolved(&["-w3"]).workers, 3);
    }

    #[test]
    fn limits_are_capped_as_gunicorn_caps_them() {
        for (option, value, expected) in [
            ("line", "0", LIMIT_REQUEST_LINE_NONE),
            ("line", "8191", 8190),
            ("line", "100", 100),
            ("fields", "0", 32768),
            ("fields", "40000", 32768),
        ] {
            let settings = resolved(&[&format!("--limit-request-{option}={value}")]);
            let limit = if option == "line" { settings.limit_request_line } else { settings.limit_request_fields };
            assert_eq!(limit, expected, "{option} {value}");
        }
        assert_eq!(resolved(&["--limit-request-field-size=0"]).limit_request_field_size, 8190);
        assert_eq!(resolved(&["--limit-request-field-size=20000"]).limit_request_field_size, 20000);
        assert_eq!(resolved(&["--limit-request-body=0"]).limit_request_body, u64::MAX);
    }

    #[test]
    fn lists() {
        assert_eq!(resolved(&["--pythonpath", "a,,b"]).pythonpath, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(resolved(&["-e", "A=1", "--env=B=x=y"]).env, [("A".into(), "1".into()), ("B".into(), "x=y".into())]);
    }

    #[test]
    fn logs() {
        let settings = resolved(&["--access-logfile=none", "--log-file=e.log", "--log-level=CRITICAL"]);
        assert_eq!(settings.access_log, LogTarget::None);
        assert_eq!(settings.error_log, LogTarget::File("e.log".into()));
        assert_eq!(settings.log_level, log::LevelFilter::Error);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_option() {
        for (arguments, option) in [
            (["--workers", "x"], "--workers"),
            (["--bind", "8000"], "--bind"),
            (["--timeout", "-1"], "--timeout"),
            (["--keep-alive", "nan"], "--keep-alive"),
            (["--env", "NAME"], "--env"),
            (["--log-level", "loud"], "--log-level"),
            (["--access-logfile", ""], "--access-logfile"),
            (["--chdir", "/nonexistent"], "--chdir"),
            (["--worker-connections", "0"], "--worker-connections"),
        ] {
            let text = refused(&arguments);
            let sentence = format!("error: invalid value '{}' for '{option} <", arguments[1]);
            assert!(text.starts_with(&sentence), "{text}");
        }
    }

    #[test]
    fn addresses_print_as_urls() {
        let tcp = |host: &str| BindAddress::Tcp { host: host.into(), port: 8000 };
        assert_eq!(tcp("127.0.0.1").to_string(), "http://127.0.0.1:8000");
        assert_eq!(tcp("::1").to_string(), "http://[::1]:8000");
        assert_eq!(BindAddress::Unix("/run/app.sock".into()).to_string(), "unix:/run/app.sock");
    }
}
