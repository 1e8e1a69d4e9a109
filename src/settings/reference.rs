//! What is printed from the clap definition besides the help: the tables that stand between the markers of README.md, the
//! man page and the completions of docs/. Tests keep them equal.

use std::fmt::Write;

use clap::{Arg, Command};
use clap_complete::aot;

use super::cli::{self, Cli, Shell};

/// What was asked for, if it was one of these.
pub(super) fn answer(cli: &Cli) -> Option<String> {
    if cli.print_reference {
        return Some(markdown());
    }
    if cli.print_man {
        return Some(man());
    }
    cli.print_completions.map(completions)
}

/// The definition without what `--help` does not show: the generators know no hidden options.
fn visible() -> Command {
    let command = cli::command();
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned().collect::<Vec<_>>();
    Command::new("minicorn")
        .version(env!("CARGO_PKG_VERSION"))
        .about(command.get_about().cloned().unwrap_or_default())
        .override_usage("minicorn [OPTIONS] APP")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(shown)
}

fn man() -> String {
    let mut page = Vec::new();
    // Writing into a Vec cannot fail.
    let _ = clap_mangen::Man::new(visible()).render(&mut page);
    String::from_utf8_lossy(&page).into_owned() + MORE_OF_THE_MAN_PAGE
}

/// What no option says. The statuses are those of `exit`.
const MORE_OF_THE_MAN_PAGE: &str = r#".SH FILES
.TP
minicorn.toml, minicorn.conf.py, gunicorn.conf.py, pyproject.toml
The first that is there is read, of a pyproject.toml the table [tool.minicorn]. See \-\-config.
.SH ENVIRONMENT
Stronger than the file and weaker than the command line; the later ones are stronger.
.TP
FORWARDED_ALLOW_IPS, WEB_CONCURRENCY, SENDFILE, PORT
\-\-forwarded\-allow\-ips, \-\-workers, \-\-no\-sendfile and \-\-bind 0.0.0.0:PORT.
.TP
GUNICORN_CMD_ARGS, MINICORN_CMD_ARGS
Options, split as by a shell.
.SH SIGNALS
.TP
TERM, INT, QUIT
Stop, when the requests in flight are finished; a second one cuts them.
.TP
HUP
Read the configuration and the application again.
.TP
USR1
Open the log files anew.
.TP
USR2
Start the program anew on the same sockets, beside this one.
.TP
TTIN, TTOU
One worker more, one less.
.SH EXIT STATUS
0 asked to stop, 1 failed, 2 usage or configuration, 3 no worker can start, 4 the application cannot be loaded.
"#;

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    let shell = match shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
    };
    aot::generate(shell, &mut visible(), "minicorn", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

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
    use super::{Shell, completions, man, markdown};

    const BEGIN: &str = "<!-- settings:begin -->\n";
    const END: &str = "<!-- settings:end -->";

    #[test]
    fn the_readme_has_the_settings_as_they_are() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
        let (_, rest) = readme.split_once(BEGIN).expect("the begin marker");
        let (table, _) = rest.split_once(END).expect("the end marker");
        assert!(table == markdown(), "put the output of `minicorn --print-reference` between the markers in README.md");
    }

    #[track_caller]
    fn check_file(path: &str, text: &str, option: &str) {
        let found = std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
        assert!(found == text, "put the output of `minicorn {option}` into {path}");
    }

    #[test]
    fn the_man_page_has_the_settings_as_they_are() {
        let page = man();
        check_file("docs/minicorn.1", &page, "--print-man");
        assert!(page.contains("\\-\\-graceful\\-timeout") && !page.contains("certfile"), "{page}");
    }

    #[test]
    fn the_completions_have_the_settings_as_they_are() {
        for (shell, name, path) in [
            (Shell::Bash, "bash", "docs/completions/minicorn.bash"),
            (Shell::Zsh, "zsh", "docs/completions/_minicorn"),
            (Shell::Fish, "fish", "docs/completions/minicorn.fish"),
        ] {
            let script = completions(shell);
            check_file(path, &script, &format!("--print-completions {name}"));
            assert!(script.contains("graceful-timeout") && !script.contains("certfile"), "{script}");
        }
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
