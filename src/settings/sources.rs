//! Where values come from, and which of them wins. What a layer says is turned into more arguments for the one parser, so
//! that a value means the same, and is refused with the same reason, wherever it was written.
//!
//! What a layer is made of is in `files` and `environment`; what a setting is, in `cli`.

use std::collections::HashMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::python_file::{Effects, HookName, PythonFile};
use super::{SettingsError, Surroundings, cli, environment, files, refused};

/// Where the value of a setting was written. A later one is stronger.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere.
    #[default]
    Default,
    /// In the configuration file, which is named here.
    File(String),
    /// In this variable of the environment.
    Variable(&'static str),
    /// On the command line.
    CommandLine,
}

/// `minicorn.toml`, `WEB_CONCURRENCY`, `command line`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Default => "default",
            Origin::File(name) => name,
            Origin::Variable(name) => name,
            Origin::CommandLine => "command line",
        })
    }
}

impl Origin {
    /// The sentence about a value that was refused, where it has this name.
    pub(super) fn refusal(&self, name: &str, value: &str, reason: &str) -> clap::Error {
        let place = match self {
            Origin::CommandLine | Origin::Default => String::new(),
            Origin::Variable(variable) if *variable == name => " in the environment".to_owned(),
            Origin::File(_) | Origin::Variable(_) => format!(" in {self}"),
        };
        sentence(format!("invalid value '{value}' for {name}{place}: {reason}"))
    }
}

/// An error of the operator's that is no matter of clap's.
pub(super) fn sentence(text: String) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, text + "\n")
}

/// All that one place says.
pub(super) struct Layer {
    pub(super) origin: Origin,
    pub(super) said: Vec<Said>,
}

/// What it says about one setting.
pub(super) struct Said {
    pub(super) id: String,
    /// What the setting is called there, for errors.
    pub(super) name: String,
    /// As it is written there, for errors.
    pub(super) written: String,
    /// As the command line would have it, or why that cannot be. It matters only if nothing stronger speaks.
    pub(super) values: Result<Vec<OsString>, String>,
}

/// The outcome.
pub(super) struct Merged {
    /// The winner of each setting.
    pub(super) matches: ArgMatches,
    /// Who has said something that counts, by the id of the setting.
    origins: HashMap<String, Origin>,
    /// The configuration file as it was named, if one was read.
    pub(super) file: Option<String>,
    pub(super) python_file: Option<PythonFile>,
    pub(super) hooks: Vec<HookName>,
    pub(super) effects: Effects,
}

impl Merged {
    pub(super) fn origin(&self, id: &str) -> Origin {
        self.origins.get(id).cloned().unwrap_or_default()
    }
}

/// Everything that was said.
///
/// Precedence, lowest first: default < file < environment < command line; in the environment, variables for one setting
/// < GUNICORN_CMD_ARGS < MINICORN_CMD_ARGS. A setting that a higher layer mentions is replaced, lists as a whole (as
/// gunicorn does), and what the lower layer said about it is not even read.
pub(super) fn merge(command_line: &[OsString], surroundings: Surroundings<'_>) -> Result<Merged, SettingsError> {
    let (program, given) = match command_line.split_first() {
        Some((program, given)) => (program.as_os_str(), given),
        // execve(2) with no argument at all is possible.
        None => (OsStr::new("minicorn"), command_line),
    };
    let asked = parse(program, given)?;
    if is_question(&asked) {
        // Stands alone, and neither a file nor the environment may get in its way.
        return Ok(Merged {
            matches: asked,
            origins: HashMap::new(),
            file: None,
            python_file: None,
            hooks: Vec::new(),
            effects: Effects::default(),
        });
    }
    let top = Layer::of_arguments(Origin::CommandLine, &asked).map_err(sentence)?;
    let mut layers = environment::layers(surroundings.environment)?;
    layers.push(top);
    let mut read = files::read(
        strongest(&layers, "config"),
        strongest(&layers, "python").map(PathBuf::from).as_deref(),
        surroundings.evaluate,
    )?;
    layers.insert(
        0,
        Layer { origin: Origin::File(read.name.clone().unwrap_or_default()), said: std::mem::take(&mut read.said) },
    );
    let Settled { origins, winners } = settle(layers);
    let command = cli::command();
    let mut arguments = Vec::new();
    for (said, origin) in &winners {
        arguments.extend(said.arguments(&command, origin)?);
    }
    arguments.extend_from_slice(given);
    let matches = parse(program, &arguments).map_err(|error| culprit(&command, &winners).unwrap_or(error))?;
    let files::Read { name, python_file, hooks, effects, .. } = read;
    Ok(Merged { matches, origins, file: name, python_file, hooks, effects })
}

/// Who wins.
struct Settled {
    /// Each setting that somebody has said something about, by its id.
    origins: HashMap<String, Origin>,
    /// What counts, without the command line.
    winners: Vec<(Said, Origin)>,
}

fn settle(layers: Vec<Layer>) -> Settled {
    let mut settled = Settled { origins: HashMap::new(), winners: Vec::new() };
    for Layer { origin, said } in layers.into_iter().rev() {
        let is_something = |said: &Said| !said.values.as_ref().is_ok_and(Vec::is_empty);
        let said = said.into_iter().filter(|said| is_something(said) && !is_overruled(&said.id, &settled.origins));
        let winners: Vec<Said> = said.collect();
        settled.origins.extend(winners.iter().map(|said| (said.id.clone(), origin.clone())));
        if origin != Origin::CommandLine {
            settled.winners.extend(winners.into_iter().map(|said| (said, origin.clone())));
        }
    }
    settled
}

/// The error of the one that is refused, which names what was written and not an option nobody wrote.
fn culprit(command: &Command, winners: &[(Said, Origin)]) -> Option<clap::Error> {
    winners.iter().find_map(|(said, origin)| said.refusal(command, origin))
}

/// Whether stronger layers, which have mentioned these, leave no room for this one. Within a layer --bind wins over --host
/// and --port, so they must not be beaten by the --bind of a weaker one.
fn is_overruled(id: &str, mentioned: &HashMap<String, Origin>) -> bool {
    let group: &[&str] = if id == "bind" { &["bind", "host", "port"] } else { &[id] };
    group.iter().any(|id| mentioned.contains_key(*id))
}

/// What the strongest layer that mentions it says.
fn strongest<'l>(layers: &'l [Layer], id: &str) -> Option<&'l OsStr> {
    let said = layers.iter().rev().find_map(|layer| layer.said.iter().find(|said| said.id == id))?;
    said.values.as_ref().ok()?.last().map(OsString::as_os_str)
}

pub(super) fn parse(program: &OsStr, arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let arguments = arguments.iter().map(OsString::as_os_str);
    cli::command().try_get_matches_from(std::iter::once(program).chain(arguments))
}

/// Whether something is to be printed that no setting changes.
pub(super) fn is_question(matches: &ArgMatches) -> bool {
    matches.get_flag("print_reference") || matches.get_flag("print_man") || matches.contains_id("print_completions")
}

impl Layer {
    /// The options among these arguments. The application is not an option.
    ///
    /// The error names an option that is gunicorn's and not ours.
    pub(super) fn of_arguments(origin: Origin, matches: &ArgMatches) -> Result<Layer, String> {
        if let Some(objection) = refused::first_objection(matches) {
            return Err(objection);
        }
        let command = cli::command();
        let is_there = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let said = command.get_arguments().filter(|argument| is_there(argument.get_id().as_str())).map(|argument| {
            let id = argument.get_id().to_string();
            let values = match argument.get_action().takes_values() {
                true => matches.get_raw(&id).into_iter().flatten().map(OsStr::to_owned).collect(),
                false => vec!["true".into()],
            };
            Said { name: id.clone(), id, written: String::new(), values: Ok(values) }
        });
        Ok(Layer { said: said.collect(), origin })
    }
}

impl Said {
    /// What the command line would have for it.
    fn arguments(&self, command: &Command, origin: &Origin) -> Result<Vec<OsString>, clap::Error> {
        let values = self.values.as_ref().map_err(|reason| origin.refusal(&self.name, &self.written, reason))?;
        Ok(values.iter().filter_map(|value| option(command, &self.id, value)).collect())
    }

    /// Why it is refused, if it is.
    fn refusal(&self, command: &Command, origin: &Origin) -> Option<clap::Error> {
        let arguments = self.arguments(command, origin).ok()?;
        let error = parse(OsStr::new("minicorn"), &arguments).err()?;
        // That of a list is the one item; that of a variable may be a part of what stands there.
        let item = context(&error, ContextKind::InvalidValue).filter(|_| arguments.len() > 1);
        let value = item.as_ref().unwrap_or(&self.written);
        Some(origin.refusal(&self.name, value, &reason(&error)))
    }
}

fn option(command: &Command, id: &str, value: &OsStr) -> Option<OsString> {
    let argument = command.get_arguments().find(|argument| argument.get_id() == id)?;
    let mut option = OsString::from(format!("--{}", argument.get_long()?));
    if argument.get_action().takes_values() {
        option.push("=");
        option.push(value);
        return Some(option);
    }
    (value == "true").then_some(option)
}

/// Why clap has refused a value.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = error.source() {
        return source.to_string();
    }
    match (error.kind(), context(error, ContextKind::ValidValue)) {
        (_, Some(choices)) => format!("it is none of {choices}"),
        (ErrorKind::InvalidUtf8, _) => "it is not UTF-8".to_owned(),
        _ => "it is empty".to_owned(),
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) if !texts.is_empty() => Some(texts.join(", ")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::NOTHING_ELSE;
    use super::*;

    fn merge_all(command_line: &[&str], environment: &[(&str, &str)]) -> Result<Merged, String> {
        let arguments: Vec<OsString> = ["minicorn", "app"].iter().chain(command_line).map(OsString::from).collect();
        let variable = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let surroundings = Surroundings { environment: &variable, ..NOTHING_ELSE };
        merge(&arguments, surroundings).map_err(|error| error.text())
    }

    /// The winning values of `id`, as written, and where they come from.
    #[track_caller]
    fn check(command_line: &[&str], environment: &[(&str, &str)], id: &str, expected: &[&str], origin: &str) {
        let merged = merge_all(command_line, environment).unwrap_or_else(|error| panic!("{error}"));
        let raw = merged.matches.get_raw(id).into_iter().flatten();
        let values: Vec<_> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
        assert_eq!(
            (values, merged.origin(id).to_string()),
            (expected.iter().map(ToString::to_string).collect(), origin.into())
        );
    }

    #[test]
    fn the_environment_beats_the_default_and_the_command_line_beats_both() {
        check(&[], &[], "workers", &["1"], "default");
        check(&[], &[("WEB_CONCURRENCY", "4")], "workers", &["4"], "WEB_CONCURRENCY");
        check(&["-w2"], &[("WEB_CONCURRENCY", "4")], "workers", &["2"], "command line");
    }

    #[test]
    fn command_lines_in_the_environment() {
        let (one, two, three) = (("WEB_CONCURRENCY", "2"), ("GUNICORN_CMD_ARGS", "-w 3"), ("MINICORN_CMD_ARGS", "-w4"));
        check(&[], &[one, two], "workers", &["3"], "GUNICORN_CMD_ARGS");
        check(&[], &[one, three, two], "workers", &["4"], "MINICORN_CMD_ARGS");
        check(&["--workers=5"], &[one, three, two], "workers", &["5"], "command line");
        // Shell words, an application that is ignored, and a list that replaces another.
        let words = "-b ':1' -b :2 -e \"A=b c\" other:app";
        check(&[], &[("GUNICORN_CMD_ARGS", words)], "bind", &[":1", ":2"], "GUNICORN_CMD_ARGS");
        check(&[], &[("GUNICORN_CMD_ARGS", words)], "raw_env", &["A=b c"], "GUNICORN_CMD_ARGS");
        check(&[], &[("GUNICORN_CMD_ARGS", words)], "app", &["app"], "command line");
        let both = [("GUNICORN_CMD_ARGS", words), ("MINICORN_CMD_ARGS", "-b:3")];
        check(&[], &both, "bind", &[":3"], "MINICORN_CMD_ARGS");
        check(&["-b", ":4"], &both, "bind", &[":4"], "command line");
    }

    #[test]
    fn an_error_in_them_names_the_variable() {
        for (words, expected) in [
            ("--wokers 3", "error: GUNICORN_CMD_ARGS: unexpected argument '--wokers' found"),
            ("-w many", "error: GUNICORN_CMD_ARGS: invalid value 'many' for '--workers <N|auto>'"),
            ("-e 'A=1", "error: GUNICORN_CMD_ARGS: a quotation mark is not closed"),
            ("--certfile a.pem", "error: GUNICORN_CMD_ARGS: --certfile: it is not offered: minicorn speaks no TLS"),
            ("--help", "error: GUNICORN_CMD_ARGS: --help and the like belong on the command line"),
        ] {
            let error = merge_all(&[], &[("GUNICORN_CMD_ARGS", words)]).err().expect(words);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn port_alone_means_every_interface() {
        check(&[], &[("PORT", "9000")], "bind", &["0.0.0.0:9000"], "PORT");
        check(&["--workers=2"], &[("PORT", "9000")], "bind", &["0.0.0.0:9000"], "PORT");
    }

    #[test]
    fn port_is_nothing_beside_an_address_that_is_stronger() {
        for option in ["--port=1", "--host=::1"] {
            check(&[option], &[("PORT", "9000")], "bind", &[], "default");
            check(&[], &[("PORT", "9000"), ("GUNICORN_CMD_ARGS", option)], "bind", &[], "default");
        }
        check(&["--bind=[::1]:1"], &[("PORT", "9000")], "bind", &["[::1]:1"], "command line");
    }

    #[test]
    fn host_and_port_may_come_from_different_layers() {
        let environment = [("GUNICORN_CMD_ARGS", "--host ::1 --bind :5"), ("MINICORN_CMD_ARGS", "--port 7")];
        check(&[], &environment, "bind", &[], "default");
        check(&[], &environment, "host", &["::1"], "GUNICORN_CMD_ARGS");
        check(&[], &environment, "port", &["7"], "MINICORN_CMD_ARGS");
    }

    #[test]
    fn an_empty_variable_is_unset() {
        for name in ["WEB_CONCURRENCY", "PORT", "SENDFILE", "GUNICORN_CMD_ARGS", "MINICORN_CMD_ARGS"] {
            check(&[], &[(name, "")], "workers", &["1"], "default");
        }
        // But here it says something, to gunicorn as well: nobody.
        check(&[], &[("FORWARDED_ALLOW_IPS", "")], "forwarded_allow_ips", &[""], "FORWARDED_ALLOW_IPS");
    }

    #[test]
    fn sendfile_is_read_as_gunicorn_reads_it() {
        for (value, expected) in [("yes", "false"), ("1", "false"), ("0", "true"), ("off", "true")] {
            check(&[], &[("SENDFILE", value)], "no_sendfile", &[expected], "SENDFILE");
        }
    }

    #[test]
    fn a_wrong_variable_is_named() {
        for (name, value) in [
            ("WEB_CONCURRENCY", "many"),
            ("WEB_CONCURRENCY", "0"),
            ("PORT", "http"),
            ("PORT", "1:2"),
            ("FORWARDED_ALLOW_IPS", "localhost"),
        ] {
            let error = merge_all(&[], &[(name, value)]).err().expect("should have been refused");
            let sentence = format!("error: invalid value '{value}' for {name} in the environment: ");
            assert!(error.starts_with(&sentence), "{error}");
        }
    }

    #[test]
    fn a_wrong_variable_that_is_overruled_is_not_read() {
        check(&["-w2"], &[("WEB_CONCURRENCY", "many")], "workers", &["2"], "command line");
    }

    #[test]
    fn the_last_of_several_counts_but_lists_collect() {
        check(&["-w2", "-w", "3"], &[], "workers", &["3"], "command line");
        check(&["-b:1", "--bind=:2"], &[], "bind", &[":1", ":2"], "command line");
    }

    #[test]
    fn gunicorns_abbreviations_and_spellings_work() {
        for (words, id, expected) in [
            (&["--graceful", "5"][..], "graceful_timeout", "5"),
            (&["--keep-al=5"], "keepalive", "5"),
            (&["--log-file", "x"], "errorlog", "x"),
            (&["--limit-request-field_size", "9"], "limit_request_field_size", "9"),
            (&["--name=x"], "proc_name", "x"),
            (&["--proc-name=x"], "proc_name", "x"),
        ] {
            check(words, &[], id, &[expected], "command line");
        }
    }
}
