//! What is believed of a proxy in front. The group is its own result: its values need no resolving.

use super::super::trust::{self, HeaderNames, SchemeHeaders, Trust, TrustedHeaders};
use super::super::values;

/// What is believed of a proxy in front.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Proxies {
    /// Peers whose forwarding headers are believed: addresses, networks as in 10.0.0.0/8, or *, separated by commas. Those
    /// of Unix sockets always are. The environment variable FORWARDED_ALLOW_IPS says it as
    /// well
    #[arg(long = "forwarded-allow-ips", id = "forwarded_allow_ips", value_name = "ADDRESSES", help_heading = "Proxies",
          default_value = "127.0.0.1,::1", value_parser = trust::trust)]
    pub forwarded_allow: Trust,

    /// Headers with which such a peer says that its client speaks HTTPS, each with the value that says so
    #[arg(long, value_name = "NAME=VALUE,…", help_heading = "Proxies",
          default_value = "X-FORWARDED-PROTOCOL=ssl,X-FORWARDED-PROTO=https,X-FORWARDED-SSL=on",
          value_parser = trust::scheme_headers)]
    pub secure_scheme_headers: SchemeHeaders,

    /// Headers with an underscore in their names that such a peer may send, or *; SCRIPT_NAME is where the application is
    /// mounted
    #[arg(long, value_name = "NAMES", help_heading = "Proxies", default_value = "SCRIPT_NAME,PATH_INFO",
          value_parser = trust::header_names)]
    pub forwarder_headers: HeaderNames,

    /// What becomes of other headers with an underscore in their names
    #[arg(long, value_name = "FATE", help_heading = "Proxies", default_value = "drop", value_enum, ignore_case = true)]
    pub header_map: HeaderMap,

    /// Headers of --forwarded-allow-ips that set REMOTE_ADDR, HTTP_HOST and the scheme: x-forwarded-for, x-forwarded-host,
    /// x-forwarded-proto, x-forwarded-port, x-forwarded-by, or forwarded alone, separated by commas. The application does
    /// not get to see them from anybody else
    #[arg(long, value_name = "NAMES", help_heading = "Proxies", value_parser = trust::trusted_headers)]
    pub trusted_proxy_headers: Option<TrustedHeaders>,

    /// Proxies in a row whose entries in those headers are believed, counted from the server
    #[arg(long, value_name = "N", help_heading = "Proxies", default_value = "1", value_parser = values::at_least_one,
          allow_negative_numbers = true)]
    pub trusted_proxy_count: u32,

    /// Read the PROXY protocol at the beginning of connections, of this version; without a value: of either
    #[arg(long, value_name = "MODE", help_heading = "Proxies", default_value = "off", num_args = 0..=1,
          default_missing_value = "auto", require_equals = false, value_parser = values::proxy_protocol)]
    pub proxy_protocol: ProxyProtocol,

    /// Peers that may speak it: addresses, networks, or *, separated by commas. Those of Unix sockets always may
    #[arg(long = "proxy-allow-from", id = "proxy_allow_ips", value_name = "ADDRESSES", help_heading = "Proxies",
          default_value = "127.0.0.1,::1", value_parser = trust::trust)]
    pub proxy_allow: Trust,
}

/// What becomes of a header whose name has an underscore: in an environ it would look like one with a hyphen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HeaderMap {
    /// The application does not see it.
    Drop,
    /// The request gets a 400.
    Refuse,
    /// The application sees it as the one with a hyphen.
    Dangerous,
}

/// Which PROXY protocol is expected; its header may be missing all the same, as with gunicorn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None: its header is a malformed request.
    Off,
    /// The line of text.
    V1,
    /// The binary one.
    V2,
    /// Either.
    Auto,
}
