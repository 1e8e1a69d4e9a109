//! What a setting may be called in a configuration file, and which name was probably meant by one that is none.

use std::collections::BTreeMap;

use super::cli;
use super::python_file::HookName;
use super::refused;

/// In which kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Every key is a setting, in any spelling that the command line has.
    Toml,
    /// Settings stand among the file's own variables, so only their own names count: `env` and `log_level` are anybody's.
    Python,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The id of the setting.
    pub(super) id: String,
    /// Whether the file says the opposite of the option: `sendfile` is `--no-sendfile`.
    pub(super) is_opposite: bool,
}

/// All names of one dialect.
pub(super) struct Names {
    meanings: BTreeMap<String, Meaning>,
    dialect: Dialect,
}

/// Words for which a Python file has its own use more often than not; what a file should say instead of them. The file
/// that is read cannot name the Python that reads it, nor another file.
const EVERYDAY: [(&str, &str); 5] =
    [("app", "wsgi_app"), ("config", "--config"), ("host", "bind"), ("port", "bind"), ("python", "--python")];

/// What a setting is called in files: by its id, and without the `no_` of its option.
pub(super) fn config_name(id: &str) -> &str {
    match id {
        "app" => "wsgi_app",
        _ => id.strip_prefix("no_").unwrap_or(id),
    }
}

impl Names {
    pub(super) fn of(dialect: Dialect) -> Self {
        let command = cli::command();
        let questions = command.get_arguments().filter(|argument| CHECKS.contains(&argument.get_id().as_str()));
        let mut names = Self { meanings: BTreeMap::new(), dialect };
        for argument in cli::settings(&command).chain(questions) {
            let id = argument.get_id().as_str();
            names.insert(id, id, false);
            names.insert(config_name(id), id, config_name(id) != id && id != "app");
            let spellings = argument.get_long_and_visible_aliases().unwrap_or_default();
            let others = argument.get_aliases().unwrap_or_default();
            for spelling in spellings.into_iter().chain(others).filter(|_| dialect == Dialect::Toml) {
                names.insert(&spelling.replace('-', "_"), id, false);
            }
        }
        names.insert("app", "wsgi_app", false);
        names.insert("wsgi_app", "wsgi_app", false);
        names.meanings.retain(|name, _| name != "config" && (dialect == Dialect::Toml || !is_everyday(name)));
        names
    }

    fn insert(&mut self, name: &str, id: &str, is_opposite: bool) {
        self.meanings.insert(name.to_owned(), Meaning { id: id.to_owned(), is_opposite });
    }

    /// The setting of this name; TOML takes hyphens too.
    pub(super) fn find(&self, name: &str) -> Option<&Meaning> {
        match self.dialect {
            Dialect::Toml => self.meanings.get(&name.replace('-', "_")),
            Dialect::Python => self.meanings.get(name),
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.meanings.keys().map(String::as_str)
    }

    /// Whether a name that is no setting is one of gunicorn's all the same.
    pub(super) fn is_known(&self, name: &str) -> bool {
        let is_hook = HookName::ALL.iter().any(|hook| hook.as_str() == name);
        self.find(name).is_some() || is_hook || refused::find(&name.replace('-', "_")).is_some()
    }

    /// The setting that a name of a Python file's own is probably meant to be: it is nearer than a hint has to be, since
    /// most of them are what they are.
    pub(super) fn misspelled(&self, name: &str) -> Option<String> {
        let near = self.nearest(name)?;
        let is_spelling = is_everyday(name) || Names::of(Dialect::Toml).find(name).is_some();
        (is_spelling || strsim::normalized_damerau_levenshtein(name, &near) >= MISSPELLED).then_some(near)
    }

    /// "; did you mean 'workers'?", or nothing if no name is near.
    pub(super) fn hint(&self, name: &str) -> String {
        match self.nearest(name) {
            Some(nearest) => format!("; did you mean '{nearest}'?"),
            None => String::new(),
        }
    }

    fn nearest(&self, name: &str) -> Option<String> {
        if let Some((_, instead)) = EVERYDAY.iter().find(|(everyday, _)| *everyday == name) {
            return Some((*instead).to_owned());
        }
        // A spelling of the command line.
        if let Some(meaning) = Names::of(Dialect::Toml).find(name) {
            return Some(config_name(&meaning.id).to_owned());
        }
        let own = self.meanings.keys().map(String::as_str);
        let hooks = HookName::ALL.iter().map(|hook| hook.as_str()).filter(|_| self.dialect == Dialect::Python);
        let similar = own.chain(hooks).map(|known| (strsim::jaro(name, known), known));
        let (likeness, nearest) = similar.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        (likeness > SIMILAR).then(|| nearest.to_owned())
    }
}

/// Questions that a file may ask, as with gunicorn.
pub(super) const CHECKS: [&str; 2] = ["check_config", "print_config"];

/// As clap sees it for options.
const SIMILAR: f64 = 0.7;
/// One letter in four, or a swap of two.
const MISSPELLED: f64 = 0.75;

fn is_everyday(name: &str) -> bool {
    EVERYDAY.iter().any(|(everyday, _)| *everyday == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(dialect: Dialect, name: &str, expected: Option<(&str, bool)>) {
        let names = Names::of(dialect);
        let found = names.find(name).map(|meaning| (meaning.id.as_str(), meaning.is_opposite));
        assert_eq!(found, expected, "{name} in {dialect:?}");
    }

    #[test]
    fn gunicorns_names_and_ours_count_everywhere() {
        for dialect in [Dialect::Toml, Dialect::Python] {
            for (name, id) in [
                ("accesslog", "accesslog"),
                ("keepalive", "keepalive"),
                ("pidfile", "pidfile"),
                ("preload_app", "preload_app"),
                ("raw_env", "raw_env"),
                ("proc_name", "proc_name"),
                ("boot_timeout", "boot_timeout"),
                ("no_passing", "no_passing"),
                ("print_config", "print_config"),
            ] {
                check(dialect, name, Some((id, false)));
            }
            check(dialect, "sendfile", Some(("no_sendfile", true)));
            check(dialect, "request_buffering", Some(("no_request_buffering", true)));
        }
    }

    #[test]
    fn spellings_of_the_command_line_count_in_toml() {
        for (name, id) in [
            ("access-logfile", "accesslog"),
            ("log_file", "errorlog"),
            ("env", "raw_env"),
            ("name", "proc_name"),
            ("limit-request-field_size", "limit_request_field_size"),
            ("port", "port"),
            ("app", "wsgi_app"),
        ] {
            check(Dialect::Toml, name, Some((id, false)));
            check(Dialect::Python, name, None);
        }
    }

    #[test]
    fn the_nearest_name() {
        for (dialect, name, expected) in [
            (Dialect::Toml, "wokers", "; did you mean 'workers'?"),
            (Dialect::Toml, "time-out", "; did you mean 'timeout'?"),
            (Dialect::Python, "log_level", "; did you mean 'loglevel'?"),
            (Dialect::Python, "port", "; did you mean 'bind'?"),
            (Dialect::Python, "post_forks", "; did you mean 'post_fork'?"),
            (Dialect::Python, "zzz", ""),
        ] {
            assert_eq!(Names::of(dialect).hint(name), expected, "{name}");
        }
    }
}
