//! What `--print-config` prints: every setting as it was resolved, and where its value comes from. The definition and the
//! winning values are walked, so no setting can be forgotten.
//!
//! The text is TOML that says the same again: it can be kept as a minicorn.toml.

use clap::{Arg, ArgAction};

use super::files::listed_value;
use super::sources::{Merged, Origin};
use super::{Settings, cli};

/// A setting, or a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// As in a configuration file.
    pub name: String,
    /// None: it is unset. A list may have several, everything else has one.
    pub values: Vec<String>,
    /// Where they were written.
    pub origin: Origin,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Value,
    List,
    /// A function: no value that TOML has.
    Hook,
}

impl Settings {
    /// Every setting in the order of the help, then the hooks. `bind` says what `--host` and `--port` came to.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// One line for each, `name = value  # where it was written`.
    pub fn listing(&self) -> String {
        let file = match &self.config_file {
            Some(name) => format!("# configuration file: {}\n", on_one_line(name)),
            None => "# configuration file: none\n".to_owned(),
        };
        file + &self.rows.iter().map(line).collect::<String>()
    }
}

/// What is known when all is resolved.
pub(super) fn rows(merged: &Merged, settings: &Settings) -> Vec<Row> {
    let command = cli::command();
    let listed = cli::settings(&command).filter(|argument| !ELSEWHERE.contains(&argument.get_id().as_str()));
    let rows = listed.map(|argument| row(argument, merged, settings));
    let hooks = settings.hooks.iter().map(|hook| Row {
        name: hook.to_string(),
        values: vec!["function".to_owned()],
        origin: Origin::File(settings.config_file.clone().unwrap_or_default()),
        kind: Kind::Hook,
    });
    rows.chain(hooks).collect()
}

/// `bind` and `app` stand for these, and the file is named on its own.
const ELSEWHERE: [&str; 4] = ["host", "port", "wsgi_app", "config"];

fn row(argument: &Arg, merged: &Merged, settings: &Settings) -> Row {
    let id = argument.get_id().as_str();
    let values = resolved(id, settings).unwrap_or_else(|| {
        let raw = merged.matches.get_raw(id).into_iter().flatten();
        raw.map(|value| value.to_string_lossy().into_owned()).collect()
    });
    let (name, _) = listed_value(argument, String::new());
    let values = values.into_iter().map(|value| listed_value(argument, value).1).collect();
    let kind = if matches!(argument.get_action(), ArgAction::Append) { Kind::List } else { Kind::Value };
    Row { name, values, origin: origin(id, merged), kind }
}

/// What resolving has made of those that are not what was written.
fn resolved(id: &str, settings: &Settings) -> Option<Vec<String>> {
    Some(match id {
        "app" => vec![settings.app.clone()],
        "bind" => settings.bind.iter().map(|address| address.argument()).collect(),
        "workers" => vec![settings.workers.to_string()],
        "proc_name" => vec![settings.proc_name.clone()],
        "limit_request_line" => vec![match settings.limit_request_line {
            super::LIMIT_REQUEST_LINE_NONE => "0".to_owned(),
            bytes => bytes.to_string(),
        }],
        "limit_request_fields" => vec![settings.limit_request_fields.to_string()],
        "limit_request_field_size" => vec![settings.limit_request_field_size.to_string()],
        _ => return None,
    })
}

/// The strongest of those that have a say.
fn origin(id: &str, merged: &Merged) -> Origin {
    let ids: &[&str] = match id {
        "app" => &["app", "wsgi_app"],
        "bind" if merged.origin("bind") == Origin::Default => &["host", "port"],
        _ => &[id],
    };
    ids.iter().map(|id| merged.origin(id)).max().unwrap_or_default()
}

fn line(row: &Row) -> String {
    let Row { name, values, origin, kind } = row;
    let origin = on_one_line(&origin.to_string());
    match (kind, values.as_slice()) {
        (Kind::Hook, _) => format!("# {name} is a function  # {origin}\n"),
        (_, []) => format!("# {name} =  # {origin}\n"),
        (Kind::List, items) => {
            let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
            format!("{name} = [{}]  # {origin}\n", items.join(", "))
        }
        (Kind::Value, [value, ..]) => format!("{name} = {}  # {origin}\n", scalar(value)),
    }
}

/// Numbers and booleans stand bare.
fn scalar(value: &str) -> String {
    if ["true", "false"].contains(&value) || is_number(value) { value.to_owned() } else { quoted(value) }
}

/// As TOML and we write it: no sign, no zero in front, and not too many digits.
fn is_number(value: &str) -> bool {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let has_zero = whole.len() > 1 && whole.starts_with('0');
    is_digits(whole) && is_digits(fraction) && !has_zero && value.len() <= 15
}

/// A basic string of TOML. The escapes of JSON are among its own, which want one for DEL as well.
fn quoted(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_default();
    json.replace('\u{7f}', "\\u007f")
}

/// A line break must not look like the next setting.
fn on_one_line(value: &str) -> String {
    value.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::files::tests::in_folder_with;
    use super::super::names::config_name;
    use super::super::{NOTHING_ELSE, Settings, cli, read};

    fn settings(arguments: &[&str]) -> Settings {
        let arguments = ["minicorn"].iter().chain(arguments).map(OsString::from).collect();
        read(arguments, NOTHING_ELSE).unwrap_or_else(|error| panic!("{}", error.text()))
    }

    #[test]
    fn every_setting_is_listed_in_the_order_of_the_help() {
        let command = cli::command();
        let expected: Vec<String> = cli::settings(&command)
            .map(|setting| setting.get_id().as_str())
            .filter(|id| !super::ELSEWHERE.contains(id))
            .map(|id| config_name(id).to_owned())
            .collect();
        let settings = settings(&["app"]);
        let listed: Vec<&str> = settings.rows().iter().map(|row| row.name.as_str()).collect();
        assert_eq!(listed, expected);
        assert_eq!(settings.listing().lines().count(), expected.len() + 1);
    }

    /// All lines without where they come from, which is another place the second time.
    fn values(listing: &str) -> Vec<&str> {
        listing.lines().skip(1).filter_map(|line| line.rsplit_once("  # ").map(|(value, _)| value)).collect()
    }

    #[test]
    fn what_is_listed_gives_the_same_settings_again() {
        let first = settings(&[
            "-w=auto",
            "-b=[::1]:1",
            "-b=unix:/a b",
            "--timeout=0.25",
            "--limit-request-line=0",
            "--limit-request-body=0",
            "--threads=4",
            "--no-passing",
            "--no-sendfile=false",
            "--tmp-upload-dir=/tmp",
            "-eA=1",
            "-eB=2\nworkers = 9",
            "--pythonpath=a,b",
            "--python=/p",
            "--umask=027",
            "--secure-scheme-headers=A=b,C=d",
            "--access-log-skip=/a,/b*",
            "--log-level=warning",
            "--access-logfile=none",
            "--access-logformat=%(h)s \"%(r)s\" \\ \u{7f}",
            "m:app",
        ]);
        let again = in_folder_with(&[("c.toml", &first.listing())], |folder| {
            settings(&["-c", &format!("{folder}/c.toml")]).listing()
        });
        assert_eq!(values(&again), values(&first.listing()));
        for line in [
            "workers = 8  # command line",
            "bind = [\"[::1]:1\", \"unix:/a b\"]  # command line",
            "timeout = 0.25  # command line",
            "passing = false  # command line",
            "sendfile = true  # command line",
            "raw_env = [\"A=1\", \"B=2\\nworkers = 9\"]  # command line",
            "limit_request_line = 0  # command line",
            "backlog = 2048  # default",
            "# pidfile =  # default",
            "proc_name = \"m:app\"  # default",
            "wsgi_app = \"m:app\"  # command line",
        ] {
            let listing = first.listing();
            assert!(listing.lines().any(|listed| listed == line), "{line:?} is not in\n{listing}");
        }
    }
}
