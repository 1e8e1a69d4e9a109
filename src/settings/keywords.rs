//! The settings as keyword arguments of `minicorn.run()`: by the names that they have in configuration files.

use std::ffi::OsString;

use super::names::{CHECKS, Dialect, Names};
use super::python_file::Value;
use super::{Settings, files, refused};

/// Beside the checks: the application is an argument of its own, and a program names its configuration file as the command
/// line does.
const APPLICATION: [&str; 2] = ["app", "wsgi_app"];
const CONFIG: &str = "config";

impl Settings {
    /// All names, also those that are refused with what to do instead.
    pub fn keywords() -> Vec<String> {
        let names = Names::of(Dialect::Toml);
        let is_keyword = |name: &&str| !CHECKS.contains(name) && !APPLICATION.contains(name);
        let refused = refused::REFUSED.iter().map(|refused| refused.name);
        names.iter().filter(is_keyword).chain([CONFIG]).chain(refused).map(str::to_owned).collect()
    }

    /// One of them with its value, as the command line would take it.
    ///
    /// # Errors
    /// A sentence: it has no such name, or not such a value.
    pub fn keyword_arguments(name: &str, value: &Value) -> Result<Vec<OsString>, String> {
        match value {
            Value::Text(path) if name == CONFIG => Ok(vec![format!("--config={path}").into()]),
            _ => files::arguments(name, value).map_err(|reason| format!("{name}: {reason}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_keywords() {
        let names = Settings::keywords();
        for name in [
            "bind",
            "workers",
            "worker_connections",
            "errorlog",
            "error_logfile",
            "pidfile",
            "sendfile",
            "config",
            "certfile",
        ] {
            assert!(names.iter().any(|own| own == name), "{name} is not in {names:?}");
        }
        for name in ["app", "wsgi_app", "check_config", "print_config"] {
            assert!(!names.iter().any(|own| own == name), "{name} is a keyword");
        }
    }

    #[test]
    fn values_become_arguments() {
        let arguments = |name, value| Settings::keyword_arguments(name, &value).expect(name);
        assert_eq!(arguments("daemon", Value::Flag(false)), ["--daemon=false"]);
        assert!(arguments("suppress_ragged_eofs", Value::Flag(true)).is_empty());
        assert_eq!(arguments("sendfile", Value::Flag(false)), ["--no-sendfile=true"]);
        assert_eq!(arguments("proxy_allow_from", Value::Text("*".into())), ["--proxy-allow-from=*"]);
        let both = vec!["a:1".to_owned(), "b:2".to_owned()];
        assert_eq!(arguments("bind", Value::List(both)), ["--bind=a:1", "--bind=b:2"]);
        assert_eq!(arguments("config", Value::Text("none".into())), ["--config=none"]);
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for (name, value, reason) in [
            ("wokers", Value::Text("1".into()), "no such setting"),
            ("certfile", Value::Text("a.pem".into()), "TLS"),
            ("workers", Value::Flag(true), "boolean"),
        ] {
            let error = Settings::keyword_arguments(name, &value).expect_err(name);
            assert!(error.starts_with(name) && error.contains(reason), "{error}");
        }
    }
}
