//! What the logs hold and where else they go. The group is its own result.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;
use clap::builder::NonEmptyStringValueParser;

use super::super::addresses::{self, SyslogAddress};
use super::super::values;

/// What the logs hold, and where they go besides their files.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Logging {
    /// Keep requests for these paths out of the access log, as in /healthz; a * at the end stands for any rest. Separated by
    /// commas, repeatable
    #[arg(long, value_name = "PATH", help_heading = "Logging", value_delimiter = ',',
          value_parser = values::log_skip_path)]
    pub access_log_skip: Vec<String>,

    /// Keep responses with a lower status out of the access log
    #[arg(long, value_name = "STATUS", help_heading = "Logging", default_value = "0", value_parser = values::status,
          allow_negative_numbers = true)]
    pub access_log_min_status: u16,

    /// Write requests that take longer than this to the error log as well, as warnings; 0 = none
    #[arg(long, value_name = "MS", help_heading = "Logging", default_value = "0", value_parser = values::milliseconds,
          allow_negative_numbers = true)]
    pub slow_request_log: Duration,

    /// Name each request: by this header of it, or if it has none, anew. The name goes to the application, the access log
    /// and the response
    #[arg(long, value_name = "NAME", help_heading = "Logging", value_parser = values::header_name)]
    pub request_id_header: Option<String>,

    /// Send what the application writes to standard output and standard error to the error log
    #[arg(long, value_name = "BOOL", help_heading = "Logging", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub capture_output: bool,

    /// Send both logs through Python's logging, configured by this file
    #[arg(long = "log-config", id = "logconfig", value_name = "FILE", help_heading = "Logging")]
    pub log_config: Option<PathBuf>,

    /// The same, with a file of JSON for logging.config.dictConfig
    #[arg(long = "log-config-json", id = "logconfig_json", value_name = "FILE", help_heading = "Logging")]
    pub log_config_json: Option<PathBuf>,

    /// The same, with the JSON itself; in a Python file, a dict
    #[arg(long = "log-config-dict", id = "logconfig_dict", value_name = "JSON", help_heading = "Logging")]
    pub log_config_dict: Option<String>,

    /// Accepted for gunicorn's own loggers; other classes are refused, see --log-config
    #[arg(long, value_name = "CLASS", help_heading = "Logging", default_value = "gunicorn.glogging.Logger",
          value_parser = values::logger_class)]
    pub logger_class: String,

    /// Send the error log, and the access log if there is one, to syslog
    #[arg(long = "log-syslog", id = "syslog", value_name = "BOOL", help_heading = "Logging", default_value = "false", num_args = 0..=1,
          action = ArgAction::Set, default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub syslog: bool,

    /// Where syslog is: udp://HOST:PORT, tcp://HOST:PORT, unix://PATH, unix://PATH#dgram or unix://PATH#stream
    #[arg(long = "log-syslog-to", id = "syslog_addr", value_name = "ADDRESS", help_heading = "Logging",
          default_value = "udp://localhost:514", value_parser = addresses::syslog_address)]
    pub syslog_address: SyslogAddress,

    /// Name of the program in syslog, minicorn without it: NAME.error and NAME.access
    #[arg(long = "log-syslog-prefix", id = "syslog_prefix", value_name = "NAME", help_heading = "Logging",
          value_parser = NonEmptyStringValueParser::new())]
    pub syslog_prefix: Option<String>,

    /// Facility of syslog
    #[arg(long = "log-syslog-facility", id = "syslog_facility", value_name = "NAME", help_heading = "Logging",
          default_value = "user", value_parser = values::syslog_facility)]
    pub syslog_facility: u8,

    /// Send the error log to syslog, but not the access log
    #[arg(long, value_name = "BOOL", help_heading = "Logging", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub disable_redirect_access_to_syslog: bool,
}
