//! The settings of gunicorn 27, and what each of them is here.

use super::behaviours as here;

/// A setting of gunicorn's.
pub struct Row {
    /// As in its configuration files.
    pub name: &'static str,
    /// The options that say the same as `value`; none if gunicorn has no option for it.
    pub flags: &'static [&'static str],
    /// An example, as TOML; `DIR` is a folder of the test's own, `UID` and `GID` who it runs as.
    pub value: &'static str,
    /// What `--print-config` makes of it, if that is not the example.
    pub listed: Option<&'static str>,
    pub verdict: Verdict,
    pub behaviour: Behaviour,
}

pub enum Verdict {
    Same,
    /// What else there is to know.
    SameWith(&'static str),
    /// The same once it is set; what it is without.
    OtherDefault(&'static str),
    /// How, in a clause.
    Differs(&'static str),
    /// What to do instead.
    Refused(&'static str),
}

/// What shows that the setting does what it should.
pub enum Behaviour {
    /// A test of this table, run with the setting in a file and with its options.
    Here(&'static str, fn(&here::Given)),
    /// Another test, `module::name`.
    Elsewhere(&'static str),
}

use Behaviour::{Elsewhere, Here};
use Verdict::{Differs, OtherDefault, Refused, Same, SameWith};

const fn row(
    name: &'static str,
    flags: &'static [&'static str],
    value: &'static str,
    verdict: Verdict,
    behaviour: Behaviour,
) -> Row {
    Row { name, flags, value, listed: None, verdict, behaviour }
}

/// One whose value is listed in another form, or (empty) not at all.
const fn listed(row: Row, listed: &'static str) -> Row {
    Row { listed: Some(listed), ..row }
}

const fn refused(
    name: &'static str,
    flags: &'static [&'static str],
    value: &'static str,
    instead: &'static str,
) -> Row {
    row(name, flags, value, Refused(instead), Elsewhere("gunicorn_settings::what_is_refused"))
}

const TLS: &str = "no TLS: put nginx or HAProxy in front";
const HTTP2: &str = "no HTTP/2: put nginx or HAProxy in front";
const ASGI: &str = "no ASGI: take uvicorn or granian";
const DIRTY: &str = "no dirty workers: take a task queue";

/// In the order of gunicorn's documentation, more or less.
pub const ROWS: &[Row] = &[
    // Network and processes.
    listed(
        row(
            "config",
            &["-c", "DIR/named.py"],
            "",
            SameWith(
                "TOML as well; minicorn.toml and minicorn.conf.py come before gunicorn.conf.py; a name that is probably misspelled is an error",
            ),
            Elsewhere("configuration::which_file_is_named"),
        ),
        "",
    ),
    row("wsgi_app", &[], "\"tests.apps.hello:app\"", Same, Here("wsgi_app", here::wsgi_app)),
    row(
        "bind",
        &["-b", "unix:DIR/a.sock", "--bind=unix:DIR/b.sock"],
        "[\"unix:DIR/a.sock\", \"unix:DIR/b.sock\"]",
        SameWith("PORT in the environment wins over a file; a bare number is refused"),
        Here("bind", here::bind),
    ),
    row("backlog", &["--backlog", "4"], "4", Same, Elsewhere("command_line::backlog")),
    row(
        "reuse_port",
        &["--reuse-port"],
        "true",
        Differs("the workers of a server share one socket all the same"),
        Here("reuse_port", here::reuse_port),
    ),
    row(
        "workers",
        &["-w", "3"],
        "3",
        SameWith("auto counts the CPUs; 0 is refused; WEB_CONCURRENCY wins over a file"),
        Here("workers", here::workers),
    ),
    row(
        "worker_class",
        &["-k", "gthread"],
        "\"gthread\"",
        Differs("sync and gthread mean the same; others are refused with what to take instead"),
        Here("worker_class", here::serves),
    ),
    row(
        "threads",
        &["--threads", "2"],
        "2",
        SameWith("they call the application, and nothing else"),
        Here("threads", here::threads),
    ),
    row("worker_connections", &["--worker-connections", "7"], "7", Same, Elsewhere("worker::worker_connections")),
    row(
        "max_requests",
        &["--max-requests", "2"],
        "2",
        SameWith("the successor starts first, and no connection is closed"),
        Here("max_requests", here::max_requests),
    ),
    row(
        "max_requests_jitter",
        &["--max-requests-jitter", "9"],
        "9",
        Same,
        Elsewhere("lifecycle::recycled_workers_under_load"),
    ),
    row(
        "timeout",
        &["-t", "1"],
        "1",
        SameWith("the time of one call, with threads too; the client gets a 504"),
        Here("timeout", here::timeout),
    ),
    row("graceful_timeout", &["--graceful-timeout", "0"], "0", Same, Here("graceful_timeout", here::graceful_timeout)),
    row(
        "keepalive",
        &["--keep-alive", "0"],
        "0",
        OtherDefault("75 s instead of 2; workers of one thread keep connections too"),
        Here("keepalive", here::keepalive),
    ),
    row(
        "preload_app",
        &["--preload"],
        "true",
        SameWith("HUP takes new code all the same"),
        Here("preload_app", here::preload_app),
    ),
    row(
        "user",
        &["-u", "UID"],
        "UID",
        SameWith("without the groups of root"),
        Elsewhere("process::workers_run_as_the_user"),
    ),
    row(
        "group",
        &["-g", "GID"],
        "GID",
        SameWith("without the groups of root"),
        Elsewhere("process::users_and_groups_by_number"),
    ),
    row(
        "initgroups",
        &["--initgroups"],
        "true",
        SameWith("besides the group of the user, not instead of it"),
        Elsewhere("process::workers_run_as_the_user"),
    ),
    row("umask", &["-m", "23"], "23", Same, Here("umask", here::umask)),
    row("chdir", &["--chdir", "DIR"], "\"DIR\"", Same, Here("chdir", here::chdir)),
    row(
        "daemon",
        &["-D"],
        "true",
        SameWith("the command returns when the server serves"),
        Elsewhere("process::the_command_returns_when_the_server_serves"),
    ),
    row(
        "enable_stdio_inheritance",
        &["-R"],
        "true",
        Same,
        Elsewhere("python_logging::a_server_in_the_background_keeps_inherited_streams"),
    ),
    row("pidfile", &["-p", "DIR/pid"], "\"DIR/pid\"", Same, Here("pidfile", here::pidfile)),
    row(
        "raw_env",
        &["-e", "SHOP=a b", "--env=FARM=c"],
        "[\"SHOP=a b\", \"FARM=c\"]",
        Same,
        Here("raw_env", here::raw_env),
    ),
    row("pythonpath", &["--pythonpath", "DIR"], "\"DIR\"", Same, Here("pythonpath", here::pythonpath)),
    row("proc_name", &["-n", "shop"], "\"shop\"", SameWith("it needs no package"), Here("proc_name", here::proc_name)),
    row(
        "worker_tmp_dir",
        &["--worker-tmp-dir", "/dev/shm"],
        "\"/dev/shm\"",
        SameWith("nothing needs it: heartbeats are in shared memory"),
        Here("worker_tmp_dir", here::serves),
    ),
    row(
        "tmp_upload_dir",
        &[],
        "\"DIR\"",
        SameWith("large bodies and responses are there; gunicorn does not use it"),
        Elsewhere("engine_bodies::an_upload_of_200_megabytes"),
    ),
    row(
        "sendfile",
        &["--no-sendfile"],
        "false",
        SameWith("`sendfile = True` is not taken for its opposite"),
        Elsewhere("engine_files::a_large_file"),
    ),
    row(
        "http_parser",
        &["--http-parser", "python"],
        "\"python\"",
        SameWith("it changes nothing: there is one parser"),
        Here("http_parser", here::serves),
    ),
    row(
        "control_socket",
        &["--control-socket", "DIR/ctl.sock"],
        "\"DIR/ctl.sock\"",
        OtherDefault("none instead of one in the home folder"),
        Elsewhere("control::the_socket_is_found"),
    ),
    row(
        "control_socket_mode",
        &["--control-socket-mode", "384"],
        "384",
        Same,
        Elsewhere("control::the_socket_is_for_its_owner_and_goes_with_the_server"),
    ),
    row("control_socket_disable", &["--no-control-socket"], "true", Same, Elsewhere("control::it_can_be_turned_off")),
    // Limits, proxies, compatibility.
    row(
        "limit_request_line",
        &["--limit-request-line", "40"],
        "40",
        Same,
        Here("limit_request_line", here::limit_request_line),
    ),
    row(
        "limit_request_fields",
        &["--limit-request-fields", "2"],
        "2",
        Same,
        Here("limit_request_fields", here::limit_request_fields),
    ),
    row(
        "limit_request_field_size",
        &["--limit-request-field_size", "40"],
        "40",
        Same,
        Here("limit_request_field_size", here::limit_request_field_size),
    ),
    row(
        "forwarded_allow_ips",
        &["--forwarded-allow-ips", "10.0.0.0/8,::1"],
        "\"10.0.0.0/8,::1\"",
        SameWith("FORWARDED_ALLOW_IPS in the environment wins over a file"),
        Elsewhere("proxy_headers::strangers_are_not_believed"),
    ),
    listed(
        row("secure_scheme_headers", &[], "{XPROTO = \"https\"}", Same, Elsewhere("proxy_headers::the_scheme")),
        "\"XPROTO=https\"",
    ),
    row(
        "forwarder_headers",
        &["--forwarder-headers", "REMOTE_USER"],
        "\"REMOTE_USER\"",
        Same,
        Elsewhere("proxy_headers::the_mount"),
    ),
    row(
        "header_map",
        &["--header-map", "refuse"],
        "\"refuse\"",
        Same,
        Elsewhere("proxy_headers::names_with_underscores"),
    ),
    listed(
        row("proxy_protocol", &["--proxy-protocol"], "true", Same, Elsewhere("proxy_protocol::who_the_client_is")),
        "",
    ),
    row("proxy_allow_ips", &["--proxy-allow-from", "*"], "\"*\"", Same, Elsewhere("proxy_protocol::refused")),
    row("permit_obsolete_folding", &["--permit-obsolete-folding"], "true", Same, Elsewhere("leniency::folded_values")),
    row(
        "strip_header_spaces",
        &["--strip-header-spaces"],
        "true",
        Same,
        Elsewhere("leniency::spaces_before_the_colon"),
    ),
    row(
        "permit_unconventional_http_method",
        &["--permit-unconventional-http-method"],
        "true",
        Same,
        Elsewhere("leniency::methods"),
    ),
    row(
        "permit_unconventional_http_version",
        &["--permit-unconventional-http-version"],
        "true",
        Same,
        Elsewhere("leniency::versions"),
    ),
    row("casefold_http_method", &["--casefold-http-method"], "true", Same, Elsewhere("leniency::methods")),
    // Logging and metrics.
    row(
        "accesslog",
        &["--access-logfile", "DIR/access.log"],
        "\"DIR/access.log\"",
        OtherDefault("standard output instead of none; none turns it off"),
        Here("accesslog", here::accesslog),
    ),
    row(
        "access_log_format",
        &["--access-logformat", "=%(s)s="],
        "\"=%(s)s=\"",
        OtherDefault("a short line instead of combined; combined, common and json have names"),
        Here("access_log_format", here::access_log_format),
    ),
    row("errorlog", &["--error-logfile", "DIR/error.log"], "\"DIR/error.log\"", Same, Here("errorlog", here::errorlog)),
    row(
        "loglevel",
        &["--log-level", "debug"],
        "\"debug\"",
        SameWith("an unknown level is refused, not taken for info"),
        Here("loglevel", here::loglevel),
    ),
    row(
        "capture_output",
        &["--capture-output"],
        "true",
        Same,
        Elsewhere("python_logging::captured_output_goes_to_the_error_log"),
    ),
    row(
        "logger_class",
        &["--logger-class", "gunicorn.glogging.Logger"],
        "\"gunicorn.glogging.Logger\"",
        Differs("gunicorn's own classes are accepted, others refused: see --log-config"),
        Here("logger_class", here::serves),
    ),
    row(
        "logconfig",
        &["--log-config", "DIR/log.ini"],
        "\"DIR/log.ini\"",
        Same,
        Elsewhere("python_logging::a_configuration_of_logging_gets_both_logs"),
    ),
    row(
        "logconfig_json",
        &["--log-config-json", "DIR/log.json"],
        "\"DIR/log.json\"",
        Same,
        Elsewhere("python_logging::a_configuration_of_logging_gets_both_logs"),
    ),
    listed(
        row(
            "logconfig_dict",
            &[],
            "{version = 1}",
            Same,
            Elsewhere("python_logging::a_configuration_of_logging_gets_both_logs"),
        ),
        "",
    ),
    row("syslog", &["--log-syslog"], "true", Same, Elsewhere("syslog::records_are_as_gunicorns_handler_writes_them")),
    row(
        "syslog_addr",
        &["--log-syslog-to", "unix://DIR/log#dgram"],
        "\"unix://DIR/log#dgram\"",
        Same,
        Elsewhere("syslog::every_kind_of_socket"),
    ),
    row(
        "syslog_prefix",
        &["--log-syslog-prefix", "shop"],
        "\"shop\"",
        Same,
        Elsewhere("syslog::facility_name_and_what_goes_there"),
    ),
    row(
        "syslog_facility",
        &["--log-syslog-facility", "local1"],
        "\"local1\"",
        Same,
        Elsewhere("syslog::facility_name_and_what_goes_there"),
    ),
    row(
        "disable_redirect_access_to_syslog",
        &["--disable-redirect-access-to-syslog"],
        "true",
        Same,
        Elsewhere("syslog::facility_name_and_what_goes_there"),
    ),
    row(
        "statsd_host",
        &["--statsd-host", "127.0.0.1:9"],
        "\"127.0.0.1:9\"",
        Same,
        Elsewhere("statsd::requests_are_counted_by_status_and_timed"),
    ),
    row(
        "statsd_prefix",
        &["--statsd-prefix", "shop"],
        "\"shop\"",
        Same,
        Elsewhere("statsd::prefix_tags_and_a_unix_socket"),
    ),
    row(
        "dogstatsd_tags",
        &["--dogstatsd-tags", "a:b"],
        "\"a:b\"",
        Same,
        Elsewhere("statsd::prefix_tags_and_a_unix_socket"),
    ),
    row(
        "enable_backlog_metric",
        &["--enable-backlog-metric"],
        "true",
        Same,
        Elsewhere("statsd::the_backlog_is_told_steadily"),
    ),
    // Debugging.
    row(
        "reload",
        &["--reload"],
        "true",
        SameWith("code that does not import gives an error page until it is mended"),
        Elsewhere("reloading::a_saved_file_is_served"),
    ),
    row(
        "reload_engine",
        &["--reload-engine", "poll"],
        "\"poll\"",
        SameWith("inotify needs no package"),
        Elsewhere("reloading::without_room_for_inotify"),
    ),
    row(
        "reload_extra_files",
        &["--reload-extra-file", "DIR/a.txt"],
        "[\"DIR/a.txt\"]",
        Differs("files, no patterns; they need not be there yet"),
        Elsewhere("reloading::files_that_are_no_modules"),
    ),
    listed(
        row(
            "check_config",
            &["--check-config"],
            "true",
            SameWith("exit status 4 if the application cannot be loaded"),
            Here("check_config", here::check_config),
        ),
        "",
    ),
    listed(
        row(
            "print_config",
            &["--print-config"],
            "true",
            SameWith("each value with where it comes from, as TOML"),
            Here("print_config", here::print_config),
        ),
        "",
    ),
    row("spew", &["--spew"], "true", Same, Elsewhere("python_logging::every_line_of_python_can_be_told")),
    // TLS.
    refused("certfile", &["--certfile", "DIR/a.pem"], "\"DIR/a.pem\"", TLS),
    refused("keyfile", &["--keyfile", "DIR/a.key"], "\"DIR/a.key\"", TLS),
    refused("ca_certs", &["--ca-certs", "DIR/ca.pem"], "\"DIR/ca.pem\"", TLS),
    refused("ciphers", &["--ciphers", "HIGH"], "\"HIGH\"", TLS),
    refused("cert_reqs", &["--cert-reqs", "2"], "2", TLS),
    refused("ssl_version", &["--ssl-version", "5"], "5", TLS),
    refused("do_handshake_on_connect", &["--do-handshake-on-connect"], "true", TLS),
    refused("suppress_ragged_eofs", &[], "false", TLS),
    // Without a certificate gunicorn does not call it either; it is a function, so it shows only as something else.
    refused("ssl_context", &[], "\"a.b\"", TLS),
    // Hooks.
    hook("on_starting", "hooks::all_hooks_are_called_in_gunicorns_order_and_place"),
    hook("on_reload", "hooks::all_hooks_are_called_in_gunicorns_order_and_place"),
    hook("when_ready", "hooks::all_hooks_are_called_in_gunicorns_order_and_place"),
    hook("pre_fork", "hooks::all_hooks_are_called_in_gunicorns_order_and_place"),
    hook("post_fork", "hooks::all_hooks_are_called_in_gunicorns_order_and_place"),
    hook("post_worker_init", "hooks::all_hooks_are_called_in_gunicorns_order_and_place"),
    hook("worker_int", "hooks::a_worker_whose_code_changes_is_told_by_worker_int"),
    hook("worker_abort", "hooks::a_request_that_takes_too_long_is_told_to_worker_abort"),
    hook("pre_exec", "hooks::the_hook_of_an_upgrade_is_called_in_the_new_process"),
    row(
        "pre_request",
        &[],
        "",
        SameWith("header fields that it changes count, a method or path does not"),
        Elsewhere("hooks::hooks_around_requests_see_them"),
    ),
    hook("post_request", "hooks::hooks_around_requests_see_them"),
    hook("child_exit", "hooks::child_exit_is_called_for_a_worker_that_was_killed"),
    hook("worker_exit", "hooks::all_hooks_are_called_in_gunicorns_order_and_place"),
    hook("nworkers_changed", "hooks::all_hooks_are_called_in_gunicorns_order_and_place"),
    hook("on_exit", "hooks::all_hooks_are_called_in_gunicorns_order_and_place"),
];

/// What is not for WSGI applications over HTTP/1.1.
pub const OTHERS: &[Row] = &[
    refused("protocol", &["--protocol", "uwsgi"], "\"uwsgi\"", "only HTTP: in nginx take proxy_pass"),
    refused("uwsgi_allow_ips", &["--uwsgi-allow-from", "*"], "\"*\"", "only HTTP: in nginx take proxy_pass"),
    refused(
        "paste",
        &["--paste", "a.ini"],
        "\"a.ini\"",
        "no Paste files: give a factory that calls paste.deploy.loadapp",
    ),
    refused(
        "raw_paste_global_conf",
        &["--paste-global", "a=b"],
        "[\"a=b\"]",
        "no Paste files: give a factory that calls paste.deploy.loadapp",
    ),
    refused("default_proc_name", &[], "\"shop\"", "take proc_name"),
    refused("root_path", &["--root-path", "/shop"], "\"/shop\"", "SCRIPT_NAME says it for WSGI"),
    refused("http_protocols", &["--http-protocols", "h2,h1"], "\"h2,h1\"", HTTP2),
    refused("http2_cleartext", &["--http2-cleartext", "both"], "\"both\"", HTTP2),
    refused("http2_max_concurrent_streams", &["--http2-max-concurrent-streams", "5"], "5", HTTP2),
    refused("http2_initial_window_size", &["--http2-initial-window-size", "5"], "5", HTTP2),
    refused("http2_max_frame_size", &["--http2-max-frame-size", "16385"], "16385", HTTP2),
    refused("http2_max_header_list_size", &["--http2-max-header-list-size", "5"], "5", HTTP2),
    refused("asgi_loop", &["--asgi-loop", "uvloop"], "\"uvloop\"", ASGI),
    refused("asgi_lifespan", &["--asgi-lifespan", "on"], "\"on\"", ASGI),
    refused("asgi_disconnect_grace_period", &["--asgi-disconnect-grace-period", "5"], "5", ASGI),
    refused("websocket_max_message_size", &["--websocket-max-message-size", "5"], "5", ASGI),
    refused("dirty_apps", &["--dirty-app", "a:B"], "[\"a:B\"]", DIRTY),
    refused("dirty_workers", &["--dirty-workers", "1"], "1", DIRTY),
    refused("dirty_timeout", &["--dirty-timeout", "5"], "5", DIRTY),
    refused("dirty_threads", &["--dirty-threads", "5"], "5", DIRTY),
    refused("dirty_graceful_timeout", &["--dirty-graceful-timeout", "5"], "5", DIRTY),
    refused("on_dirty_starting", &[], "\"a.b\"", DIRTY),
    refused("dirty_post_fork", &[], "\"a.b\"", DIRTY),
    refused("dirty_worker_init", &[], "\"a.b\"", DIRTY),
    refused("dirty_worker_exit", &[], "\"a.b\"", DIRTY),
];

const fn hook(name: &'static str, test: &'static str) -> Row {
    row(name, &[], "", Same, Elsewhere(test))
}
