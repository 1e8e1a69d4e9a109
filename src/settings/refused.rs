//! What gunicorn can be set to and minicorn cannot: its names, so that they are not taken for misspelled ones, the values
//! that change nothing, and what to do instead. None of it is in `--help`.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

/// A setting of gunicorn's that is not offered here.
pub(super) struct Refused {
    /// As in its configuration files.
    pub(super) name: &'static str,
    /// Its flags, without the dashes; the first is the usual one, and some settings have none.
    flags: &'static [&'static str],
    /// Whether its flags stand without a value, and mean true.
    is_switch: bool,
    /// Values with which there is nothing to refuse, its default first.
    harmless: &'static [&'static str],
    /// A clause behind its name.
    instead: &'static str,
}

impl Refused {
    const fn option(
        name: &'static str,
        flags: &'static [&'static str],
        harmless: &'static [&'static str],
        instead: &'static str,
    ) -> Self {
        Self { name, flags, is_switch: false, harmless, instead }
    }

    const fn switch(
        name: &'static str,
        flags: &'static [&'static str],
        harmless: &'static [&'static str],
        instead: &'static str,
    ) -> Self {
        Self { name, flags, is_switch: true, harmless, instead }
    }

    /// Why it is not offered and what to do, if any of these values is one to refuse.
    pub(super) fn objection(&self, values: &[String]) -> Option<String> {
        let is_harmless = |value: &String| value.is_empty() || self.harmless.contains(&value.to_lowercase().as_str());
        (!values.iter().all(is_harmless)).then(|| format!("it is not offered: {}", self.instead))
    }
}

const TLS: &str = "minicorn speaks no TLS, put nginx or HAProxy in front";
const HTTP2: &str = "minicorn speaks HTTP/1.1, put nginx or HAProxy in front for HTTP/2";
const ASGI: &str = "minicorn serves WSGI, take uvicorn or granian for an ASGI application";
const UWSGI: &str = "minicorn speaks HTTP, in nginx take proxy_pass instead of uwsgi_pass";
const PASTE: &str =
    "minicorn reads no Paste files, give MODULE:FACTORY() with a function that calls paste.deploy.loadapp";
const DIRTY: &str = "minicorn has no dirty workers, take a task queue such as Celery or RQ";
const ROOT_PATH: &str = "for WSGI, SCRIPT_NAME says where the application is mounted: see --forwarder-headers";
const NAME: &str = "take proc_name";

/// All of gunicorn 27's.
pub(super) const REFUSED: &[Refused] = &[
    Refused::option("certfile", &["certfile"], &[], TLS),
    Refused::option("keyfile", &["keyfile"], &[], TLS),
    Refused::option("ca_certs", &["ca-certs"], &[], TLS),
    Refused::option("ciphers", &["ciphers"], &[], TLS),
    // As the numbers of Python's enums, which print their names before Python 3.11.
    Refused::option("cert_reqs", &["cert-reqs"], &["0", "verifymode.cert_none"], TLS),
    Refused::option("ssl_version", &["ssl-version"], &["2", "_sslmethod.protocol_tls"], TLS),
    Refused::switch("do_handshake_on_connect", &["do-handshake-on-connect"], &["false"], TLS),
    Refused::switch("suppress_ragged_eofs", &["suppress-ragged-eofs"], &["true"], TLS),
    Refused::option("ssl_context", &[], &[], TLS),
    Refused::option("http_protocols", &["http-protocols"], &["h1"], HTTP2),
    Refused::option("http2_cleartext", &["http2-cleartext"], &["off", "false"], HTTP2),
    Refused::option("http2_max_concurrent_streams", &["http2-max-concurrent-streams"], &["100"], HTTP2),
    Refused::option("http2_initial_window_size", &["http2-initial-window-size"], &["65535"], HTTP2),
    Refused::option("http2_max_frame_size", &["http2-max-frame-size"], &["16384"], HTTP2),
    Refused::option("http2_max_header_list_size", &["http2-max-header-list-size"], &["65536"], HTTP2),
    Refused::option("protocol", &["protocol"], &["http"], UWSGI),
    Refused::option("uwsgi_allow_ips", &["uwsgi-allow-from"], &["127.0.0.1,::1"], UWSGI),
    Refused::option("paste", &["paste", "paster"], &[], PASTE),
    Refused::option("raw_paste_global_conf", &["paste-global"], &[], PASTE),
    Refused::option("asgi_loop", &["asgi-loop"], &["auto"], ASGI),
    Refused::option("asgi_lifespan", &["asgi-lifespan"], &["auto"], ASGI),
    Refused::option("asgi_disconnect_grace_period", &["asgi-disconnect-grace-period"], &["3"], ASGI),
    Refused::option("websocket_max_message_size", &["websocket-max-message-size"], &["16777216"], ASGI),
    Refused::option("root_path", &["root-path"], &[], ROOT_PATH),
    Refused::option("dirty_apps", &["dirty-app"], &[], DIRTY),
    Refused::option("dirty_workers", &["dirty-workers"], &["0"], DIRTY),
    Refused::option("dirty_timeout", &["dirty-timeout"], &["300"], DIRTY),
    Refused::option("dirty_threads", &["dirty-threads"], &["1"], DIRTY),
    Refused::option("dirty_graceful_timeout", &["dirty-graceful-timeout"], &["30"], DIRTY),
    Refused::option("on_dirty_starting", &[], &[], DIRTY),
    Refused::option("dirty_post_fork", &[], &[], DIRTY),
    Refused::option("dirty_worker_init", &[], &[], DIRTY),
    Refused::option("dirty_worker_exit", &[], &[], DIRTY),
    Refused::option("default_proc_name", &[], &["gunicorn"], NAME),
];

/// Their flags, for the definition.
pub(super) fn options() -> impl Iterator<Item = Arg> {
    REFUSED.iter().filter_map(|refused| {
        let (long, others) = refused.flags.split_first()?;
        let action = if refused.is_switch { ArgAction::SetTrue } else { ArgAction::Append };
        let argument = Arg::new(refused.name).long(*long).aliases(others.iter().copied()).action(action);
        Some(argument.hide(true).value_name("VALUE").allow_hyphen_values(!refused.is_switch))
    })
}

/// The first of them that these arguments have, and why it cannot be.
pub(super) fn first_objection(matches: &ArgMatches) -> Option<String> {
    let said = |refused: &&Refused| {
        !refused.flags.is_empty() && matches.value_source(refused.name) == Some(ValueSource::CommandLine)
    };
    REFUSED.iter().filter(said).find_map(|refused| {
        let raw = matches.get_raw(refused.name).into_iter().flatten();
        let values: Vec<String> = match refused.is_switch {
            true => vec!["true".to_owned()],
            false => raw.map(|value| value.to_string_lossy().into_owned()).collect(),
        };
        let objection = refused.objection(&values)?;
        Some(format!("--{}: {objection}", refused.flags.first()?))
    })
}

/// The one of this name.
pub(super) fn find(name: &str) -> Option<&'static Refused> {
    REFUSED.iter().find(|refused| refused.name == name)
}

#[cfg(test)]
mod tests {
    use super::super::cli;
    use super::*;

    fn objection(arguments: &[&str]) -> Option<String> {
        let matches = cli::command().try_get_matches_from(["minicorn"].iter().chain(arguments).chain(&["app"]));
        first_objection(&matches.expect("all of them parse"))
    }

    #[test]
    fn every_flag_is_refused_with_what_to_do_instead() {
        for refused in REFUSED {
            for flag in refused.flags {
                let option = if refused.is_switch { format!("--{flag}") } else { format!("--{flag}=x") };
                let is_default = refused.is_switch && refused.harmless == ["true"];
                assert_eq!(objection(&[&option]).is_none(), is_default, "{option}");
            }
        }
    }

    #[test]
    fn what_changes_nothing_is_accepted() {
        for refused in REFUSED.iter().filter(|refused| !refused.is_switch && !refused.flags.is_empty()) {
            for value in refused.harmless {
                assert_eq!(objection(&[&format!("--{}={value}", refused.flags[0])]), None, "{}", refused.name);
            }
        }
        assert_eq!(objection(&["--protocol", "HTTP", "--suppress-ragged-eofs"]), None);
    }

    #[test]
    fn the_sentence() {
        let sentence = "--certfile: it is not offered: minicorn speaks no TLS, put nginx or HAProxy in front";
        assert_eq!(objection(&["--certfile=a.pem"]).as_deref(), Some(sentence));
    }
}
