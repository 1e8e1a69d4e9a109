//! Metrics, status and control. The groups are their own results.

use std::path::PathBuf;

use clap::ArgAction;

use super::super::BindAddress;
use super::super::addresses::{self, StatsdAddress};
use super::super::values;

/// What is told about the server's work, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Metrics {
    /// Serve /healthz, /readyz, /metrics, /status.json and a status page here, by the master: HOST:PORT, :PORT or unix:PATH;
    /// not for the open
    #[arg(long, value_name = "ADDRESS", help_heading = "Metrics", value_parser = addresses::admin_address)]
    pub admin_bind: Option<BindAddress>,

    /// Send metrics to this statsd: HOST:PORT or unix://PATH
    #[arg(long, value_name = "ADDRESS", help_heading = "Metrics", value_parser = addresses::statsd_address)]
    pub statsd_host: Option<StatsdAddress>,

    /// Text in front of the names of those metrics
    #[arg(long, value_name = "PREFIX", help_heading = "Metrics", default_value = "")]
    pub statsd_prefix: String,

    /// Tags to append to them, as DogStatsD reads them: NAME:VALUE, separated by commas
    #[arg(long, value_name = "TAGS", help_heading = "Metrics", default_value = "")]
    pub dogstatsd_tags: String,

    /// Send the number of connections that wait to be accepted, too
    #[arg(long, value_name = "BOOL", help_heading = "Metrics", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub enable_backlog_metric: bool,
}

/// How the server is spoken to while it runs.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Control {
    /// Listen for `minicorn ctl` at this Unix socket
    #[arg(long, value_name = "PATH", help_heading = "Control")]
    pub control_socket: Option<PathBuf>,

    /// Permission bits of that socket
    #[arg(long, value_name = "MODE", help_heading = "Control", default_value = "0600", value_parser = values::umask,
          allow_negative_numbers = true)]
    pub control_socket_mode: u32,

    /// Do without it, whatever a configuration file says
    #[arg(long = "no-control-socket", id = "control_socket_disable", value_name = "BOOL", help_heading = "Control",
          default_value = "false", num_args = 0..=1, action = ArgAction::Set, default_missing_value = "true", require_equals = true,
          hide_possible_values = true)]
    pub no_control_socket: bool,
}
