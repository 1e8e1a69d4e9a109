//! What `--print-config` prints: every setting as it was resolved, `name = value`, in the groups and the order of the
//! help. A value stands as the command line would take it, so that a line can be carried over.

use std::path::Path;
use std::time::Duration;

use super::{LogTarget, ReloadEngine, Settings};

impl Settings {
    /// One line per setting; a list has one line per item, and an unset one has nothing behind the `=`.
    /// `--host` and `--port` are not listed: what became of them is `bind`.
    pub fn listing(&self) -> String {
        let mut listing = String::new();
        for (name, items) in self.rows() {
            if items.is_empty() {
                listing += &format!("{name} =\n");
            }
            for item in items {
                listing += &format!("{name} = {}\n", on_one_line(&item));
            }
        }
        listing
    }

    /// Names and values. The fields are taken apart by name so that a new one cannot be forgotten; a test holds the
    /// names and their order against the definition.
    fn rows(&self) -> [(&'static str, Vec<String>); 48] {
        let Settings {
            app,
            bind,
            workers,
            threads,
            passing,
            preload,
            max_requests,
            max_requests_jitter,
            max_worker_lifetime,
            max_worker_rss,
            timeout,
            graceful_timeout,
            boot_timeout,
            shutdown_delay,
            keep_alive,
            header_timeout,
            body_timeout,
            send_timeout,
            worker_connections,
            backlog,
            reuse_port,
            limit_request_line,
            limit_request_fields,
            limit_request_field_size,
            limit_request_body,
            body_memory_max,
            request_buffering,
            response_memory_max,
            response_file_max,
            tmp_upload_dir,
            chdir,
            pythonpath,
            env,
            python,
            daemon,
            pid_file,
            user,
            group,
            initgroups,
            umask,
            proc_name,
            reload,
            reload_extra_files,
            reload_engine,
            log_level,
            error_log,
            access_log,
            access_log_format,
            check_config: _,
            print_config: _,
            arguments: _,
        } = self;
        [
            ("app", vec![app.clone()]),
            ("chdir", chdir.iter().map(path).collect()),
            ("env", env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            ("bind", bind.iter().map(|address| address.argument()).collect()),
            ("backlog", vec![backlog.to_string()]),
            ("reuse-port", vec![reuse_port.to_string()]),
            ("workers", vec![workers.to_string()]),
            ("worker-connections", vec![worker_connections.to_string()]),
            ("threads", vec![threads.to_string()]),
            ("no-passing", vec![(!passing).to_string()]),
            ("preload", vec![preload.to_string()]),
            ("max-requests", vec![max_requests.to_string()]),
            ("max-requests-jitter", vec![max_requests_jitter.to_string()]),
            ("max-worker-lifetime", vec![seconds(*max_worker_lifetime)]),
            ("max-worker-rss", vec![max_worker_rss.to_string()]),
            ("timeout", vec![seconds(*timeout)]),
            ("graceful-timeout", vec![seconds(*graceful_timeout)]),
            ("boot-timeout", vec![seconds(*boot_timeout)]),
            ("shutdown-delay", vec![seconds(*shutdown_delay)]),
            ("keep-alive", vec![seconds(*keep_alive)]),
            ("header-timeout", vec![seconds(*header_timeout)]),
            ("body-timeout", vec![seconds(*body_timeout)]),
            ("send-timeout", vec![seconds(*send_timeout)]),
            ("limit-request-line", vec![limit_request_line.to_string()]),
            ("limit-request-fields", vec![limit_request_fields.to_string()]),
            ("limit-request-field-size", vec![limit_request_field_size.to_string()]),
            ("limit-request-body", vec![body_limit(*limit_request_body)]),
            ("body-memory-max", vec![body_memory_max.to_string()]),
            ("no-request-buffering", vec![(!request_buffering).to_string()]),
            ("response-memory-max", vec![response_memory_max.to_string()]),
            ("response-file-max", vec![response_file_max.to_string()]),
            ("tmp-upload-dir", tmp_upload_dir.iter().map(path).collect()),
            ("python", python.iter().map(path).collect()),
            ("pythonpath", if pythonpath.is_empty() { vec![] } else { vec![joined(pythonpath)] }),
            ("daemon", vec![daemon.to_string()]),
            ("pid", pid_file.iter().map(path).collect()),
            ("user", user.iter().cloned().collect()),
            ("group", group.iter().cloned().collect()),
            ("initgroups", vec![initgroups.to_string()]),
            ("umask", vec![format!("0o{umask:o}")]),
            ("proc-name", vec![proc_name.clone()]),
            ("reload", vec![reload.to_string()]),
            ("reload-extra-file", reload_extra_files.iter().map(path).collect()),
            ("reload-engine", vec![engine(*reload_engine).to_owned()]),
            ("log-level", vec![level(*log_level).to_owned()]),
            ("error-logfile", vec![log_target(error_log)]),
            ("access-logfile", vec![log_target(access_log)]),
            ("access-logformat", vec![access_log_format.clone()]),
        ]
    }
}

fn engine(engine: ReloadEngine) -> &'static str {
    match engine {
        ReloadEngine::Auto => "auto",
        ReloadEngine::Inotify => "inotify",
        ReloadEngine::Poll => "poll",
    }
}

/// "30" or "0.5".
fn seconds(duration: Duration) -> String {
    duration.as_secs_f64().to_string()
}

fn body_limit(bytes: u64) -> String {
    match bytes {
        u64::MAX => "0".into(),
        bytes => bytes.to_string(),
    }
}

fn path(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

fn joined(directories: &[impl AsRef<Path>]) -> String {
    directories.iter().map(path).collect::<Vec<_>>().join(",")
}

fn level(level: log::LevelFilter) -> &'static str {
    match level {
        log::LevelFilter::Off | log::LevelFilter::Error => "error",
        log::LevelFilter::Warn => "warning",
        log::LevelFilter::Info => "info",
        log::LevelFilter::Debug | log::LevelFilter::Trace => "debug",
    }
}

fn log_target(target: &LogTarget) -> String {
    match target {
        LogTarget::None => "none".into(),
        LogTarget::Stdout | LogTarget::Stderr => "-".into(),
        LogTarget::File(file) => path(file),
    }
}

/// A line break inside a value must not look like the next setting.
fn on_one_line(value: &str) -> String {
    let escaped = |letter: char| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    value.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{cli, read};

    fn listing(arguments: &[&str]) -> String {
        let arguments = ["minicorn"].iter().chain(arguments).map(OsString::from).collect();
        read(arguments, &|_| None, || 8).unwrap_or_else(|error| panic!("{}", error.text())).listing()
    }

    #[test]
    fn every_setting_is_listed_in_the_order_of_the_help() {
        let command = cli::command();
        let merged = ["host", "port"];
        let expected: Vec<String> = cli::settings(&command)
            .map(|setting| setting.get_long().unwrap_or("app").to_owned())
            .filter(|name| !merged.contains(&name.as_str()))
            .collect();
        let listing = listing(&["app"]);
        let listed: Vec<&str> =
            listing.lines().filter_map(|line| line.split_once(" =")).map(|(name, _)| name).collect();
        assert_eq!(listed, expected);
    }

    #[test]
    fn what_is_listed_gives_the_same_settings_again() {
        let first = listing(&[
            "-w=auto",
            "-b=[::1]:1",
            "-b=unix:/a b",
            "--timeout=0.25",
            "--limit-request-body=0",
            "--threads=4",
            "--no-passing",
            "--no-request-buffering=true",
            "--tmp-upload-dir=/tmp",
            "-eA=1",
            "-eB=2",
            "--pythonpath=a,b",
            "--python=/p",
            "--chdir=/",
            "--log-level=warning",
            "--access-logfile=none",
            "--log-file=e",
            "--access-logformat=json",
            "m:app",
        ]);
        let mut again = Vec::new();
        for (name, value) in first.lines().filter_map(|line| line.split_once(" = ")) {
            match name {
                "app" => again.push(value.to_owned()),
                name => again.push(format!("--{name}={value}")),
            }
        }
        let again: Vec<&str> = again.iter().map(String::as_str).collect();
        assert_eq!(listing(&again), first);
        for line in
            ["workers = 8\n", "bind = [::1]:1\nbind = unix:/a b\n", "timeout = 0.25\n", "env = A=1\nenv = B=2\n"]
        {
            assert!(first.contains(line), "{line:?} is not in\n{first}");
        }
    }

    #[test]
    fn a_value_stays_on_its_line() {
        assert!(listing(&["--env", "A=1\nworkers = 9", "app"]).contains("env = A=1\\nworkers = 9\n"));
    }
}
