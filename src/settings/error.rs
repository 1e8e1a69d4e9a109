//! Why the program ends before it has settings: an error of the operator's, or a question that was answered.

use std::io::Write;

use clap::error::ErrorKind;

use crate::exit::Exit;

/// What to print, where, and the exit status that goes with it.
#[derive(Debug)]
pub struct SettingsError(Ending);

#[derive(Debug)]
enum Ending {
    /// A usage error, a wrong value, `--help` or `--version`.
    Clap(clap::Error),
    /// Text that was asked for.
    Answer(String),
}

impl SettingsError {
    pub(super) fn answer(text: String) -> Self {
        SettingsError(Ending::Answer(text))
    }

    /// What [`report`](Self::report) prints, without colours.
    pub fn text(&self) -> String {
        match &self.0 {
            Ending::Clap(error) => error.to_string(),
            Ending::Answer(text) => text.clone(),
        }
    }

    /// The first sentence of it, for a log.
    pub fn sentence(&self) -> String {
        let text = self.text();
        // A file that could not be read or run: what Python has to say goes with it.
        if matches!(&self.0, Ending::Clap(error) if error.kind() == ErrorKind::Io) {
            return text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned();
        }
        let line = text.lines().next().unwrap_or_default();
        line.strip_prefix("error: ").unwrap_or(line).to_owned()
    }

    /// An error, for standard error; otherwise an answer, for standard output.
    pub fn is_error(&self) -> bool {
        match &self.0 {
            Ending::Clap(error) => error.use_stderr(),
            Ending::Answer(_) => false,
        }
    }

    /// The exit status.
    pub fn exit(&self) -> Exit {
        if self.is_error() { Exit::Usage } else { Exit::Stopped }
    }

    /// Prints it, in colour on a terminal, and gives the exit status.
    pub fn report(&self) -> Exit {
        // When the stream is closed there is nobody to tell; the exit status still says it.
        let _ = match &self.0 {
            Ending::Clap(error) => error.print(),
            Ending::Answer(text) => std::io::stdout().write_all(text.as_bytes()),
        };
        self.exit()
    }
}

impl From<clap::Error> for SettingsError {
    fn from(error: clap::Error) -> Self {
        SettingsError(Ending::Clap(error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cli;
    use super::*;

    fn ending(argument: &str) -> SettingsError {
        cli::command().try_get_matches_from(["minicorn", argument]).expect_err(argument).into()
    }

    #[test]
    fn questions_go_to_standard_output_and_succeed() {
        for argument in ["--help", "-h", "--version", "-v"] {
            assert!(!ending(argument).is_error(), "{argument}");
            assert_eq!(ending(argument).exit(), Exit::Stopped, "{argument}");
        }
        assert_eq!(SettingsError::answer("table".into()).exit(), Exit::Stopped);
    }

    #[test]
    fn wrong_usage_goes_to_standard_error_and_fails() {
        for argument in ["--nonsense", "--print-man=x", "--workers"] {
            assert!(ending(argument).is_error(), "{argument}");
            assert_eq!(ending(argument).exit(), Exit::Usage, "{argument}");
        }
    }

    #[test]
    fn the_version_is_that_of_the_package() {
        assert_eq!(ending("--version").text(), concat!("minicorn ", env!("CARGO_PKG_VERSION"), "\n"));
    }
}
