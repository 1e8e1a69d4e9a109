//! The settings as README.md shows them, printed from the clap definition. `minicorn --print-reference` prints the
//! text that stands between the markers there; a test keeps the two equal.

use std::fmt::Write;

use clap::Arg;

use super::cli;

/// One Markdown table per group of the help: option, default, meaning.
pub(super) fn markdown() -> String {
    let command = cli::command();
    let mut text = String::new();
    let mut group = None;
    for setting in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        if group != setting.get_help_heading() {
            group = setting.get_help_heading();
            let separator = if text.is_empty() { "" } else { "\n" };
            let heading = group.unwrap_or_default();
            text += &format!("{separator}**{heading}**\n\n| option | default | meaning |\n|---|---|---|\n");
        }
        text += &row(setting);
    }
    text
}

fn row(setting: &Arg) -> String {
    let defaults: Vec<_> = setting.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match defaults.join(" ") {
        none if none.is_empty() || !setting.get_action().takes_values() => String::new(),
        default => format!("`{default}`"),
    };
    format!("| {} | {} | {} |\n", cell(&names(setting)), cell(&default), cell(&meaning(setting)))
}

/// "`-w`, `--workers N`", or the value's name alone for the argument without a flag.
fn names(setting: &Arg) -> String {
    let value = if setting.get_action().takes_values() { setting.get_value_names().unwrap_or_default() } else { &[] };
    let value = value.join(" ");
    let Some(long) = setting.get_long() else { return format!("`{value}`") };
    let mut names = String::new();
    if let Some(short) = setting.get_short() {
        // Writing into a String cannot fail.
        let _ = write!(names, "`-{short}`, ");
    }
    for alias in setting.get_visible_aliases().unwrap_or_default() {
        let _ = write!(names, "`--{alias}`, ");
    }
    names + format!("`--{long} {value}").trim_end() + "`"
}

/// The help, and the choices if there are some, which clap appends by itself in `--help`.
fn meaning(setting: &Arg) -> String {
    let help = setting.get_help().map(ToString::to_string).unwrap_or_default();
    let choices = setting.get_possible_values();
    if choices.is_empty() || !setting.get_action().takes_values() {
        return help;
    }
    let choices: Vec<_> = choices.iter().map(|choice| format!("`{}`", choice.get_name())).collect();
    format!("{help}: {}", choices.join(", "))
}

/// A bar would end the cell, also inside a code span. Angle brackets do not occur in the definition.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::markdown;

    const BEGIN: &str = "<!-- settings:begin -->\n";
    const END: &str = "<!-- settings:end -->";

    #[test]
    fn the_readme_has_the_settings_as_they_are() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
        let (_, rest) = readme.split_once(BEGIN).expect("the begin marker");
        let (table, _) = rest.split_once(END).expect("the end marker");
        assert!(table == markdown(), "put the output of `minicorn --print-reference` between the markers in README.md");
    }

    #[test]
    fn rows() {
        let markdown = markdown();
        for row in [
            "| `APP` |  | The application:",
            "| `-w`, `--workers N\\|auto` | `1` | Worker processes",
            "| `--log-file`, `--error-logfile FILE` | `-` | Error log",
            "| `--check-config` |  | Load the application",
        ] {
            assert!(markdown.contains(row), "{row} is not in\n{markdown}");
        }
        assert!(!markdown.contains("print-reference"));
    }
}
