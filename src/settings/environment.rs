//! The environment as layers of settings: the variables that stand for one setting, which platforms set, and the two that
//! are command lines.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::error::ErrorKind;

use super::addresses;
use super::sources::{self, Layer, Origin, Said, sentence};

/// gunicorn reads these four; the later ones are stronger, where that matters.
const VARIABLES: [Variable; 4] = [
    Variable { name: "FORWARDED_ALLOW_IPS", id: "forwarded_allow_ips", value: |text| Ok(text.to_owned()) },
    Variable { name: "WEB_CONCURRENCY", id: "workers", value: |text| Ok(text.to_owned()) },
    Variable { name: "SENDFILE", id: "no_sendfile", value: |text| Ok(is_no_sendfile(text).to_string()) },
    // A platform that sets PORT sends its traffic to an interface other than loopback.
    Variable { name: "PORT", id: "bind", value: |text| Ok(format!("0.0.0.0:{}", addresses::port(text)?)) },
];

/// These are stronger than the variables for one setting, and the second is stronger than the first.
const COMMAND_LINES: [&str; 2] = ["GUNICORN_CMD_ARGS", "MINICORN_CMD_ARGS"];

/// A variable that stands for a setting.
struct Variable {
    name: &'static str,
    /// The setting.
    id: &'static str,
    /// What the command line would have for it.
    value: fn(&str) -> Result<String, String>,
}

/// What the environment says, weakest first.
pub(super) fn layers(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<Layer>, clap::Error> {
    let variables = VARIABLES.iter().filter_map(|variable| Some(variable.layer(&environment(variable.name)?)));
    let mut layers: Vec<Layer> = variables.collect();
    for name in COMMAND_LINES {
        if let Some(words) = environment(name).filter(|words| !words.is_empty()) {
            layers.push(command_line(name, &words).map_err(|why| sentence(format!("{name}: {why}")))?);
        }
    }
    Ok(layers)
}

impl Variable {
    fn layer(&self, text: &OsStr) -> Layer {
        // Set but empty counts as unset: gunicorn stops with a traceback there. Only an empty list of addresses is one.
        let is_unset = text.is_empty() && self.id != "forwarded_allow_ips";
        let values = match text.to_str() {
            Some(text) => (self.value)(text).map(|value| vec![value.into()]),
            None => Err("it is not UTF-8".to_owned()),
        };
        let written = text.to_string_lossy().into_owned();
        let said = Said { id: self.id.to_owned(), name: self.name.to_owned(), written, values };
        Layer { origin: Origin::Variable(self.name), said: if is_unset { Vec::new() } else { vec![said] } }
    }
}

/// gunicorn's reading: whatever is not one of these says no.
fn is_no_sendfile(text: &str) -> bool {
    !["y", "1", "yes", "true"].contains(&text.to_ascii_lowercase().as_str())
}

/// Split as a shell does. An application in it is ignored, as by gunicorn.
fn command_line(name: &'static str, text: &OsStr) -> Result<Layer, String> {
    let Some(words) = shlex::bytes::split(text.as_bytes()) else {
        return Err("a quotation mark is not closed".to_owned());
    };
    let words: Vec<OsString> = words.iter().map(|word| OsStr::from_bytes(word).to_owned()).collect();
    let matches = sources::parse(OsStr::new("minicorn"), &words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => FOR_THE_COMMAND_LINE.to_owned(),
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    })?;
    if sources::is_question(&matches) {
        return Err(FOR_THE_COMMAND_LINE.to_owned());
    }
    Layer::of_arguments(Origin::Variable(name), &matches)
}

const FOR_THE_COMMAND_LINE: &str = "--help and the like belong on the command line";

#[cfg(test)]
mod tests {
    use super::super::cli;
    use super::*;

    #[test]
    fn variables_name_settings_that_exist() {
        let command = cli::command();
        for variable in &VARIABLES {
            assert!(cli::settings(&command).any(|setting| setting.get_id() == variable.id), "{}", variable.id);
        }
    }
}
