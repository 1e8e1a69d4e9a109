//! Switches that make the HTTP parser less strict, for old clients behind nothing that could be confused by them. The
//! group is its own result.

use clap::ArgAction;

/// What is accepted although RFC 9112 refuses it, or we do. All off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Leniency {
    /// Accept header values that go on in a further line (RFC 9112 §5.2)
    #[arg(long, value_name = "BOOL", help_heading = "Compatibility", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub permit_obsolete_folding: bool,

    /// Accept spaces between the name of a header and its colon; a proxy in front may read such a header differently
    #[arg(long, value_name = "BOOL", help_heading = "Compatibility", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub strip_header_spaces: bool,

    /// Accept any token as a method, also shorter than 3 characters, longer than 20 or in lower case
    #[arg(long, value_name = "BOOL", help_heading = "Compatibility", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub permit_unconventional_http_method: bool,

    /// Accept versions other than HTTP/1.x in the request line
    #[arg(long, value_name = "BOOL", help_heading = "Compatibility", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub permit_unconventional_http_version: bool,

    /// Turn methods in lower case into upper case
    #[arg(long, value_name = "BOOL", help_heading = "Compatibility", default_value = "false", num_args = 0..=1, action = ArgAction::Set,
          default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub casefold_http_method: bool,
}
