//! Where values come from, and which of them wins. A layer is turned into more arguments for the one parser, so that a
//! value means the same, and is refused with the same reason, wherever it was written.
//!
//! What the settings are is not known here, apart from the environment variables that stand for some of them.

use std::error::Error;
use std::ffi::{OsStr, OsString};

use clap::ArgMatches;
use clap::error::ErrorKind;
use clap::parser::ValueSource;

use super::cli;

/// Everything that was said, the winner of each setting.
///
/// Precedence, lowest first: default < environment < command line. A setting that a higher layer mentions is replaced,
/// lists as a whole (as gunicorn does), and what the lower layer said about it is not even read.
pub(super) fn merge(
    command_line: &[OsString],
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<ArgMatches, clap::Error> {
    let (program, given) = match command_line.split_first() {
        Some((program, given)) => (program.as_os_str(), given),
        // execve(2) with no argument at all is possible.
        None => (OsStr::new("minicorn"), command_line),
    };
    let said = parse(program, given)?;
    if said.get_flag("print_reference") {
        // Stands alone, and no environment may get in its way.
        return Ok(said);
    }

    // The defaults come from clap. A configuration file's arguments have their place in front of the environment's.
    let mut arguments = Vec::new();
    for variable in VARIABLES.iter().filter(|variable| !variable.is_overruled_by(&said)) {
        arguments.extend(variable.read(environment)?);
    }
    if arguments.is_empty() {
        return Ok(said);
    }
    arguments.extend_from_slice(given);
    parse(program, &arguments)
}

fn parse(program: &OsStr, arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let arguments = arguments.iter().map(OsString::as_os_str);
    cli::command().try_get_matches_from(std::iter::once(program).chain(arguments))
}

/// An environment variable that stands for settings. gunicorn reads these two, and platforms set them.
struct Variable {
    name: &'static str,
    /// The arguments it stands for; the last one wants the variable's value appended.
    arguments: &'static [&'static str],
    /// Ids of the settings that make it meaningless when a higher layer has them.
    overruled_by: &'static [&'static str],
}

const VARIABLES: [Variable; 2] = [
    Variable { name: "WEB_CONCURRENCY", arguments: &["--workers="], overruled_by: &["workers"] },
    // A platform that sets PORT sends its traffic to an interface other than loopback.
    Variable { name: "PORT", arguments: &["--host=0.0.0.0", "--port="], overruled_by: &["bind", "host", "port"] },
];

impl Variable {
    fn is_overruled_by(&self, higher: &ArgMatches) -> bool {
        self.overruled_by.iter().any(|id| higher.value_source(id) == Some(ValueSource::CommandLine))
    }

    /// Its arguments, checked on their own so that an error names the variable and not an option nobody wrote.
    /// Set but empty counts as unset: gunicorn stops with a traceback there.
    fn read(&self, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<OsString>, clap::Error> {
        let Some(value) = environment(self.name).filter(|value| !value.is_empty()) else { return Ok(Vec::new()) };
        let mut arguments: Vec<OsString> = self.arguments.iter().map(OsString::from).collect();
        if let Some(last) = arguments.last_mut() {
            last.push(&value);
        }
        let with_application = [&arguments[..], &["app".into()]].concat();
        match parse(OsStr::new("minicorn"), &with_application) {
            Ok(_) => Ok(arguments),
            Err(error) => Err(self.refuse(&value, &error)),
        }
    }

    fn refuse(&self, value: &OsStr, error: &clap::Error) -> clap::Error {
        let reason = error.source().map_or_else(|| "it is not UTF-8".to_owned(), ToString::to_string);
        let message = format!("invalid value '{}' for {} in the environment: {reason}\n", value.display(), self.name);
        clap::Error::raw(ErrorKind::ValueValidation, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The winning values of `id`, as written.
    fn merged(command_line: &[&str], environment: &[(&str, &str)], id: &str) -> Result<Vec<String>, String> {
        let arguments: Vec<OsString> = ["minicorn", "app"].iter().chain(command_line).map(OsString::from).collect();
        let variable = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let matches = merge(&arguments, &variable).map_err(|error| error.to_string())?;
        let raw = matches.get_raw(id).into_iter().flatten();
        Ok(raw.map(|value| value.to_string_lossy().into_owned()).collect())
    }

    #[track_caller]
    fn check(command_line: &[&str], environment: &[(&str, &str)], id: &str, expected: &[&str]) {
        let expected = expected.iter().map(ToString::to_string).collect();
        assert_eq!(merged(command_line, environment, id), Ok(expected));
    }

    #[test]
    fn the_environment_beats_the_default_and_the_command_line_beats_both() {
        check(&[], &[], "workers", &["1"]);
        check(&[], &[("WEB_CONCURRENCY", "4")], "workers", &["4"]);
        check(&["-w2"], &[("WEB_CONCURRENCY", "4")], "workers", &["2"]);
    }

    #[test]
    fn port_alone_means_every_interface() {
        check(&[], &[("PORT", "9000")], "host", &["0.0.0.0"]);
        check(&[], &[("PORT", "9000")], "port", &["9000"]);
        check(&["--workers=2"], &[("PORT", "9000")], "port", &["9000"]);
    }

    #[test]
    fn port_is_nothing_beside_an_address_on_the_command_line() {
        check(&["--port=1"], &[("PORT", "9000")], "host", &["127.0.0.1"]);
        check(&["--host=::1"], &[("PORT", "9000")], "port", &["8000"]);
        check(&["--bind=[::1]:1"], &[("PORT", "9000")], "host", &["127.0.0.1"]);
    }

    #[test]
    fn an_empty_variable_is_unset() {
        check(&[], &[("WEB_CONCURRENCY", "")], "workers", &["1"]);
        check(&[], &[("PORT", "")], "host", &["127.0.0.1"]);
    }

    #[test]
    fn a_wrong_variable_is_named() {
        for (name, value) in [("WEB_CONCURRENCY", "many"), ("WEB_CONCURRENCY", "0"), ("PORT", "http"), ("PORT", "1:2")]
        {
            let error = merged(&[], &[(name, value)], "workers").expect_err("should have been refused");
            let sentence = format!("error: invalid value '{value}' for {name} in the environment: ");
            assert!(error.starts_with(&sentence), "{error}");
        }
    }

    #[test]
    fn a_wrong_variable_that_is_overruled_is_not_read() {
        check(&["-w2"], &[("WEB_CONCURRENCY", "many")], "workers", &["2"]);
    }

    #[test]
    fn the_last_of_several_counts_but_lists_collect() {
        check(&["-w2", "-w", "3"], &[], "workers", &["3"]);
        check(&["-b:1", "--bind=:2"], &[], "bind", &[":1", ":2"]);
    }

    #[test]
    fn gunicorns_abbreviations_and_spellings_work() {
        check(&["--graceful", "5"], &[], "graceful_timeout", &["5"]);
        check(&["--keep-al=5"], &[], "keep_alive", &["5"]);
        check(&["--log-file", "x"], &[], "error_logfile", &["x"]);
        check(&["--limit-request-field_size", "9"], &[], "limit_request_field_size", &["9"]);
    }

    #[test]
    fn no_argument_at_all_is_a_usage_error() {
        assert!(merge(&[], &|_| None).is_err());
    }

    #[test]
    fn variables_name_settings_that_exist() {
        let command = cli::command();
        for id in VARIABLES.iter().flat_map(|variable| variable.overruled_by) {
            assert!(cli::settings(&command).any(|setting| setting.get_id() == id), "{id}");
        }
    }
}
