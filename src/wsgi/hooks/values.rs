//! Our settings as gunicorn's `cfg` has them: its names, its types.

use crate::settings::{BindAddress, HeaderMap, HeaderNames, LogTarget, ProxyProtocol, PythonFile, ReloadEngine};
use crate::settings::{Settings, StatsdAddress, SyslogAddress, SyslogSocket, Trust};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All settings of gunicorn's that we have, by its names.
pub(super) fn gunicorn_settings(settings: &Settings) -> Value {
    let groups = [process(settings), workers(settings), requests(settings), logs(settings)];
    Value::Object(groups.into_iter().flat_map(Map::into_iter).collect())
}

fn process(settings: &Settings) -> Map<String, Value> {
    object(json!({
        "config": settings.python_file.as_ref().map(file),
        "wsgi_app": settings.app,
        "bind": settings.bind.iter().map(address).collect::<Vec<_>>(),
        "backlog": settings.backlog,
        "reuse_port": settings.reuse_port,
        "chdir": std::env::current_dir().ok().as_deref().map(path),
        "daemon": settings.daemon,
        "enable_stdio_inheritance": settings.enable_stdio_inheritance,
        "pidfile": settings.pid_file.as_deref().map(path),
        "user": settings.user,
        "group": settings.group,
        "initgroups": settings.initgroups,
        "umask": settings.umask,
        "proc_name": settings.proc_name,
        "pythonpath": (!settings.pythonpath.is_empty()).then(|| paths(&settings.pythonpath).join(",")),
        "raw_env": settings.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "tmp_upload_dir": settings.tmp_upload_dir.as_deref().map(path),
        "check_config": settings.check_config,
        "print_config": settings.print_config,
        "control_socket": settings.control.control_socket.as_deref().map(path),
        "control_socket_mode": settings.control.control_socket_mode,
        "control_socket_disable": settings.control.no_control_socket,
    }))
}

fn workers(settings: &Settings) -> Map<String, Value> {
    object(json!({
        "workers": settings.workers,
        "worker_class": if settings.threads > 1 { "gthread" } else { "sync" },
        "threads": settings.threads,
        "worker_connections": settings.worker_connections,
        "max_requests": settings.max_requests,
        "max_requests_jitter": settings.max_requests_jitter,
        "timeout": seconds(settings.timeout),
        "graceful_timeout": seconds(settings.graceful_timeout),
        "keepalive": seconds(settings.keep_alive),
        "preload_app": settings.preload,
        "sendfile": settings.sendfile,
        "reload": settings.reload,
        "reload_engine": match settings.reload_engine {
            ReloadEngine::Auto => "auto",
            ReloadEngine::Inotify => "inotify",
            ReloadEngine::Poll => "poll",
        },
        "reload_extra_files": paths(&settings.reload_extra_files),
        "spew": settings.spew,
    }))
}

fn requests(settings: &Settings) -> Map<String, Value> {
    let (proxies, leniency) = (&settings.proxies, &settings.leniency);
    object(json!({
        "limit_request_line": settings.limit_request_line,
        "limit_request_fields": settings.limit_request_fields,
        "limit_request_field_size": settings.limit_request_field_size,
        "forwarded_allow_ips": trust(&proxies.forwarded_allow),
        "secure_scheme_headers": Map::from_iter(
            proxies.secure_scheme_headers.0.iter().map(|(name, value)| (name.clone(), json!(value))),
        ),
        "forwarder_headers": match &proxies.forwarder_headers {
            HeaderNames::Any => vec!["*".to_owned()],
            HeaderNames::Listed(names) => names.clone(),
        },
        "header_map": match proxies.header_map {
            HeaderMap::Drop => "drop",
            HeaderMap::Refuse => "refuse",
            HeaderMap::Dangerous => "dangerous",
        },
        "proxy_protocol": match proxies.proxy_protocol {
            ProxyProtocol::Off => "off",
            ProxyProtocol::V1 => "v1",
            ProxyProtocol::V2 => "v2",
            ProxyProtocol::Auto => "auto",
        },
        "proxy_allow_ips": trust(&proxies.proxy_allow),
        "permit_obsolete_folding": leniency.permit_obsolete_folding,
        "strip_header_spaces": leniency.strip_header_spaces,
        "permit_unconventional_http_method": leniency.permit_unconventional_http_method,
        "permit_unconventional_http_version": leniency.permit_unconventional_http_version,
        "casefold_http_method": leniency.casefold_http_method,
    }))
}

fn logs(settings: &Settings) -> Map<String, Value> {
    let (logging, metrics) = (&settings.logging, &settings.metrics);
    object(json!({
        "accesslog": target(&settings.access_log),
        "access_log_format": settings.access_log_format,
        "errorlog": target(&settings.error_log),
        "loglevel": match settings.log_level {
            log::LevelFilter::Off | log::LevelFilter::Error => "error",
            log::LevelFilter::Warn => "warning",
            log::LevelFilter::Info => "info",
            log::LevelFilter::Debug | log::LevelFilter::Trace => "debug",
        },
        "capture_output": logging.capture_output,
        "logger_class": logging.logger_class,
        "logconfig": logging.log_config.as_deref().map(path),
        "logconfig_json": logging.log_config_json.as_deref().map(path),
        "logconfig_dict": {},
        "syslog": logging.syslog,
        "syslog_addr": syslog(&logging.syslog_address),
        "syslog_prefix": logging.syslog_prefix,
        "syslog_facility": logging.syslog_facility,
        "disable_redirect_access_to_syslog": logging.disable_redirect_access_to_syslog,
        "statsd_host": metrics.statsd_host.as_ref().map(statsd),
        "statsd_prefix": metrics.statsd_prefix,
        "dogstatsd_tags": metrics.dogstatsd_tags,
        "enable_backlog_metric": metrics.enable_backlog_metric,
    }))
}

/// What the macro makes of braces.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn file(file: &PythonFile) -> String {
    match file {
        PythonFile::Path(own) => path(own),
        PythonFile::Module(name) => format!("python:{name}"),
    }
}

fn address(address: &BindAddress) -> String {
    match address {
        BindAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        BindAddress::Tcp { host, port } => format!("{host}:{port}"),
        BindAddress::Unix(own) => format!("unix:{}", own.display()),
        BindAddress::Abstract(name) => format!("unix:@{name}"),
        BindAddress::Descriptor(number) => format!("fd://{number}"),
    }
}

/// gunicorn has whole ones only.
fn seconds(time: Duration) -> Value {
    if time.subsec_nanos() == 0 { json!(time.as_secs()) } else { json!(time.as_secs_f64()) }
}

fn trust(trust: &Trust) -> Vec<String> {
    match trust {
        Trust::Everybody => vec!["*".to_owned()],
        Trust::Networks(networks) => networks.iter().map(ToString::to_string).collect(),
    }
}

fn target(target: &LogTarget) -> Option<String> {
    match target {
        LogTarget::None => None,
        LogTarget::Stdout | LogTarget::Stderr => Some("-".to_owned()),
        LogTarget::File(own) => Some(path(own)),
    }
}

fn syslog(address: &SyslogAddress) -> String {
    match address {
        SyslogAddress::Udp(host, port) => format!("udp://{host}:{port}"),
        SyslogAddress::Tcp(host, port) => format!("tcp://{host}:{port}"),
        SyslogAddress::Unix(own, SyslogSocket::Either) => format!("unix://{}", own.display()),
        SyslogAddress::Unix(own, SyslogSocket::Datagram) => format!("unix://{}#dgram", own.display()),
        SyslogAddress::Unix(own, SyslogSocket::Stream) => format!("unix://{}#stream", own.display()),
    }
}

fn statsd(address: &StatsdAddress) -> Value {
    match address {
        StatsdAddress::Udp(host, port) => json!([host, port]),
        StatsdAddress::Unix(own) => json!(path(own)),
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn paths(list: &[PathBuf]) -> Vec<String> {
    list.iter().map(|own| path(own)).collect()
}
