//! The configuration file: which one it is, what it says, and what is wrong with it. There is one at most.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction};

use super::names::{Dialect, Names, config_name};
use super::python_file::{Effects, Evaluate, Evaluated, HookName, PythonFile, Value};
use super::sources::{Said, sentence};
use super::{cli, refused, toml_file};

/// Looked for where the program is started, in this order.
const USUAL: [&str; 4] = ["minicorn.toml", "minicorn.conf.py", "gunicorn.conf.py", PYPROJECT];
/// In which only the table `[tool.minicorn]` is ours.
const PYPROJECT: &str = "pyproject.toml";

/// What became of it.
#[derive(Default)]
pub(super) struct Read {
    /// As it was named, or where it was found; `None`: there is none.
    pub(super) name: Option<String>,
    pub(super) said: Vec<Said>,
    pub(super) python_file: Option<PythonFile>,
    pub(super) hooks: Vec<HookName>,
    pub(super) effects: Effects,
}

/// Where it is.
enum Place {
    Toml(PathBuf),
    Python(PythonFile),
}

/// Reads the file that `--config` names, else a usual one; `python` is that of `--python`.
pub(super) fn read(named: Option<&OsStr>, python: Option<&Path>, evaluate: Evaluate) -> Result<Read, clap::Error> {
    // gunicorn too looks around for `-c ""`.
    let named = named.filter(|named| !named.is_empty());
    let (name, place) = match named {
        Some(named) if named == "none" => return Ok(Read::default()),
        Some(named) => (named.to_string_lossy().into_owned(), place(named)?),
        None => match find()? {
            Some(name) => (name.to_owned(), place(OsStr::new(name))?),
            None => return Ok(Read::default()),
        },
    };
    match place {
        Place::Toml(path) => read_toml(name, &path),
        Place::Python(file) => {
            let evaluated = evaluate(&file, python).map_err(|error| failure(&name, &error))?;
            read_evaluated(name, file, evaluated)
        }
    }
}

/// The first usual one. Others may have a pyproject.toml there, for their own ends.
fn find() -> Result<Option<&'static str>, clap::Error> {
    for name in USUAL.into_iter().filter(|name| Path::new(name).is_file()) {
        if name != PYPROJECT || toml_file::mentions_us(Path::new(name)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// `PATH`, `file:PATH` or `python:MODULE`.
fn place(named: &OsStr) -> Result<Place, clap::Error> {
    let text = named.to_string_lossy();
    if let Some(module) = text.strip_prefix("python:") {
        return Ok(Place::Python(PythonFile::Module(module.to_owned())));
    }
    let path = text.strip_prefix("file:").map_or_else(|| PathBuf::from(named), PathBuf::from);
    let problem = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => "it is a directory".to_owned(),
        Ok(_) => return absolute(path),
        Err(error) => error.to_string(),
    };
    Err(sentence(format!("the configuration file '{text}' cannot be read: {problem}")))
}

/// TOML goes by its ending; everything else is Python, as with gunicorn.
fn absolute(path: PathBuf) -> Result<Place, clap::Error> {
    if path.extension().is_some_and(|extension| extension == "toml") {
        return Ok(Place::Toml(path));
    }
    let folder = std::env::current_dir().map_err(|error| sentence(format!("no working directory: {error}")))?;
    Ok(Place::Python(PythonFile::Path(folder.join(path))))
}

/// The last line of a traceback says what happened, and comes first.
fn failure(name: &str, error: &str) -> clap::Error {
    let lines: Vec<&str> = error.lines().filter(|line| !line.trim().is_empty()).collect();
    let cause = lines.last().copied().unwrap_or("it ended without a word");
    let traceback = if lines.len() > 1 { format!("\n{}", error.trim_end()) } else { String::new() };
    let text = format!("the configuration file '{name}' fails: {}{traceback}\n", cause.trim());
    clap::Error::raw(ErrorKind::Io, text)
}

fn read_toml(name: String, path: &Path) -> Result<Read, clap::Error> {
    let is_project = path.file_name() == Some(OsStr::new(PYPROJECT));
    let problem = |problem| sentence(format!("{name}: {problem}"));
    let table = toml_file::read(path, is_project).map_err(problem)?;
    let names = Names::of(Dialect::Toml);
    for key in table.keys() {
        check_key(&name, key, &names)?;
    }
    let values = toml_file::values(table).map_err(problem)?;
    let said = said(&name, values, &names)?;
    for (place, one) in said.iter().enumerate() {
        if let Some(other) = said[..place].iter().find(|other| other.id == one.id) {
            return Err(sentence(format!("{name}: '{}' and '{}' are the same setting", other.name, one.name)));
        }
    }
    Ok(Read { name: Some(name), said, ..Read::default() })
}

/// In TOML, every key is meant for us.
fn check_key(file: &str, key: &str, names: &Names) -> Result<(), clap::Error> {
    if HookName::ALL.iter().any(|hook| hook.as_str() == key) {
        return Err(sentence(format!(
            "{file}: '{key}' is a hook, and hooks need a configuration file in Python, such as minicorn.conf.py"
        )));
    }
    if key == "config" {
        return Err(sentence(format!("{file}: 'config' names another file, and only one is read")));
    }
    if !names.is_known(key) {
        return Err(sentence(format!("{file}: unknown setting '{key}'{}", names.hint(key))));
    }
    Ok(())
}

fn read_evaluated(name: String, file: PythonFile, evaluated: Evaluated) -> Result<Read, clap::Error> {
    let names = Names::of(Dialect::Python);
    // gunicorn ignores these; a misspelled setting that is ignored is found when it is missed.
    let unknown = evaluated.unused.iter().filter(|unused| !names.is_known(unused));
    if let Some((unused, near)) = unknown.filter_map(|unused| Some((unused, names.misspelled(unused)?))).next() {
        return Err(sentence(format!(
            "{name}: '{unused}' is no setting, and nothing in the file uses it; did you mean '{near}'?"
        )));
    }
    let said = said(&name, evaluated.values, &names)?;
    let Evaluated { hooks, effects, .. } = evaluated;
    Ok(Read { name: Some(name), said, python_file: Some(file), hooks, effects })
}

/// What the known names say; the others are the file's own affair.
fn said(file: &str, values: Vec<(String, Value)>, names: &Names) -> Result<Vec<Said>, clap::Error> {
    let command = cli::command();
    let mut all = Vec::new();
    for (name, value) in values {
        if let Some(refused) = refused::find(&name.replace('-', "_")) {
            if let Some(objection) = refused.objection(&plain(&value)) {
                return Err(sentence(format!("{file}: {name}: {objection}")));
            }
            continue;
        }
        let Some(meaning) = names.find(&name) else { continue };
        let Some(argument) = command.get_arguments().find(|own| own.get_id() == meaning.id.as_str()) else { continue };
        let values = texts(argument, &value, meaning.is_opposite);
        let values = values.map(|texts| texts.into_iter().map(OsString::from).collect());
        all.push(Said { id: meaning.id.clone(), name, written: plain(&value).join(", "), values });
    }
    Ok(all)
}

/// A setting by its name, as the command line would take it. The error is a reason.
pub(super) fn arguments(name: &str, value: &Value) -> Result<Vec<OsString>, String> {
    if let Some(refused) = refused::find(name) {
        return refused.objection(&plain(value)).map_or(Ok(Vec::new()), Err);
    }
    let (names, command) = (Names::of(Dialect::Toml), cli::command());
    let meaning = names.find(name).ok_or("there is no such setting")?;
    let argument = command.get_arguments().find(|own| own.get_id() == meaning.id.as_str());
    let Some((argument, long)) = argument.and_then(|own| Some((own, own.get_long()?))) else { return Ok(Vec::new()) };
    let texts = texts(argument, value, meaning.is_opposite)?;
    Ok(texts.iter().map(|text| format!("--{long}={text}").into()).collect())
}

/// For errors, and to see whether it is something to refuse.
fn plain(value: &Value) -> Vec<String> {
    match value {
        Value::Text(text) | Value::Object(text) => vec![text.trim().to_owned()],
        Value::Flag(flag) => vec![flag.to_string()],
        Value::List(items) => items.clone(),
        Value::Map(pairs) => pairs.iter().map(|(name, value)| format!("{name}={value}")).collect(),
    }
}

/// A value of a file as the command line would have it, with several for a list; none if it says nothing.
///
/// The error is a reason, as of `values`.
fn texts(argument: &Arg, value: &Value, is_opposite: bool) -> Result<Vec<String>, String> {
    let id = argument.get_id().as_str();
    let is_list = matches!(argument.get_action(), ArgAction::Append);
    match value {
        Value::Flag(flag) if is_switch(argument) => Ok(vec![(flag ^ is_opposite).to_string()]),
        // gunicorn takes a boolean here.
        Value::Flag(flag) if id == "proxy_protocol" => Ok(vec![flag.to_string()]),
        Value::Flag(_) => Err("it is a boolean".to_owned()),
        Value::Text(text) if is_switch(argument) => match text.trim().to_lowercase().as_str() {
            "true" => Ok(vec![(!is_opposite).to_string()]),
            "false" => Ok(vec![is_opposite.to_string()]),
            _ => Err("it is neither true nor false".to_owned()),
        },
        Value::Text(text) => Ok(text_of(argument, text.trim(), is_list)),
        Value::List(items) if is_list => Ok(items.iter().map(|item| item.trim().to_owned()).collect()),
        Value::List(items) if has_commas(argument) => Ok(vec![items.join(",")]),
        Value::List(_) => Err("it is a list, and one value is wanted".to_owned()),
        Value::Map(_) if id == "raw_env" => Ok(plain(value)),
        Value::Map(_) if id == "secure_scheme_headers" => Ok(vec![plain(value).join(",")]),
        // gunicorn's default, which says nothing.
        Value::Map(pairs) if id == DICT && pairs.is_empty() => Ok(Vec::new()),
        // Whoever uses it takes it from the file.
        Value::Map(_) | Value::Object(_) if id == DICT => Ok(vec![String::new()]),
        Value::Object(class) if ["worker_class", "logger_class"].contains(&id) => Ok(vec![class.clone()]),
        Value::Map(_) => Err("it is a table, and one value is wanted".to_owned()),
        Value::Object(kind) => Err(format!("it is an object of type {kind}")),
    }
}

const DICT: &str = "logconfig_dict";

/// An empty text unsets what has no default; of the access log it says that there is none.
fn text_of(argument: &Arg, text: &str, is_list: bool) -> Vec<String> {
    match text {
        "" if argument.get_id() == "accesslog" => vec!["none".to_owned()],
        "" if is_list || argument.get_default_values().is_empty() => Vec::new(),
        text => vec![text.to_owned()],
    }
}

/// Whether it is on or off, or a question.
fn is_switch(argument: &Arg) -> bool {
    !argument.get_action().takes_values() || value_name(argument) == "BOOL"
}

/// Whether its value is a list in one text.
fn has_commas(argument: &Arg) -> bool {
    ["ADDRESSES", "NAMES", "TAGS", "DIR,DIR", "NAME=VALUE,…"].contains(&value_name(argument))
}

fn value_name(argument: &Arg) -> &str {
    argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str())
}

/// The name in files, for those who list settings.
pub(super) fn listed_value(argument: &Arg, value: String) -> (String, String) {
    let id = argument.get_id().as_str();
    let is_opposite = config_name(id) != id && is_switch(argument);
    let value = match (is_opposite, value.as_str()) {
        (true, "true") => "false".to_owned(),
        (true, "false") => "true".to_owned(),
        _ => value,
    };
    (config_name(id).to_owned(), value)
}

#[cfg(test)]
pub(super) mod tests {
    use std::ffi::OsString;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::{NOTHING_ELSE, Settings, Surroundings, read};
    use super::*;

    /// Calls with a folder that has these files.
    pub(in super::super) fn in_folder_with<T>(files: &[(&str, &str)], call: impl FnOnce(&str) -> T) -> T {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("minicorn-settings-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a folder for this test");
        for (name, text) in files {
            std::fs::write(folder.join(name), text).expect("a file of this test");
        }
        let result = call(folder.to_str().expect("a UTF-8 path"));
        std::fs::remove_dir_all(&folder).expect("the folder is still there");
        result
    }

    fn with(arguments: &[&str], evaluate: Evaluate) -> Result<Settings, String> {
        let arguments = ["minicorn"].iter().chain(arguments).map(OsString::from).collect();
        read(arguments, Surroundings { evaluate, ..NOTHING_ELSE }).map_err(|error| error.sentence())
    }

    fn toml(text: &str) -> Result<Settings, String> {
        in_folder_with(&[("c.toml", text)], |folder| {
            let result = with(&["-c", &format!("{folder}/c.toml"), "app"], NOTHING_ELSE.evaluate);
            result.map_err(|error| error.replace(&format!("{folder}/"), ""))
        })
    }

    /// The row of the listing, as `value # origin`.
    #[track_caller]
    fn row(settings: &Result<Settings, String>, name: &str) -> String {
        let settings = settings.as_ref().unwrap_or_else(|error| panic!("{error}"));
        let row = settings.rows().iter().find(|row| row.name == name).expect("a setting of this name");
        row.values.join(" ")
    }

    #[test]
    fn every_spelling_and_every_kind_of_value() {
        let settings = toml(
            r#"
            workers = 3
            keep-alive = 5.5
            accesslog = ""
            bind = ["127.0.0.1:1", "unix:/a"]
            env = { A = "1", B = "x y" }
            umask = 0o27
            sendfile = false
            passing = false
            preload_app = "True"
            forwarded_allow_ips = ["10.0.0.0/8", "::1"]
            proxy_protocol = true
            control_socket_mode = 0o660
            reload-extra-file = "a.txt"
            certfile = ""
            protocol = "http"
            [secure_scheme_headers]
            X-Forwarded-Proto = "https"
            [logconfig_dict]
            version = 1
            "#,
        );
        for (name, expected) in [
            ("workers", "3"),
            ("keepalive", "5.5"),
            ("accesslog", "none"),
            ("bind", "127.0.0.1:1 unix:/a"),
            ("raw_env", "A=1 B=x y"),
            ("umask", "23"),
            ("sendfile", "false"),
            ("passing", "false"),
            ("preload_app", "true"),
            ("forwarded_allow_ips", "10.0.0.0/8,::1"),
            ("proxy_protocol", "true"),
            ("control_socket_mode", "432"),
            ("reload_extra_files", "a.txt"),
            ("secure_scheme_headers", "X-Forwarded-Proto=https"),
            ("logconfig_dict", r#"{"version":1}"#),
        ] {
            assert_eq!(row(&settings, name), expected, "{name}");
        }
        let settings = settings.expect("checked above");
        assert_eq!((settings.umask, settings.control.control_socket_mode), (0o27, 0o660));
        assert!(!settings.sendfile && !settings.passing && settings.preload);
    }

    #[test]
    fn what_is_wrong_in_toml_is_named_with_file_and_key() {
        for (text, expected) in [
            ("wokers = 4", "c.toml: unknown setting 'wokers'; did you mean 'workers'?"),
            ("zzz = 4", "c.toml: unknown setting 'zzz'"),
            ("workers = 'many'", "invalid value 'many' for workers in c.toml: it is neither a whole number nor auto"),
            (
                "log-level = 'loud'",
                "invalid value 'loud' for log-level in c.toml: it is none of debug, info, warning, error, critical",
            ),
            ("preload = 1", "invalid value '1' for preload in c.toml: it is neither true nor false"),
            ("workers = true", "invalid value 'true' for workers in c.toml: it is a boolean"),
            ("workers = [1]", "invalid value '1' for workers in c.toml: it is a list, and one value is wanted"),
            ("bind = [':1', ':x']", "invalid value ':x' for bind in c.toml: 'x' is not a port number"),
            ("timeout = {a = 1}", "invalid value 'a=1' for timeout in c.toml: it is a table, and one value is wanted"),
            ("timeout = 1979-05-27", "c.toml: 'timeout' is a date"),
            (
                "post_fork = 'm.f'",
                "c.toml: 'post_fork' is a hook, and hooks need a configuration file in Python, such as minicorn.conf.py",
            ),
            (
                "ca-certs = 'a.pem'",
                "c.toml: ca-certs: it is not offered: minicorn speaks no TLS, put nginx or HAProxy in front",
            ),
            ("keepalive = 1\nkeep-alive = 2", "c.toml: 'keep-alive' and 'keepalive' are the same setting"),
            ("config = 'b.toml'", "c.toml: 'config' names another file, and only one is read"),
            (
                "chdir = '/nonexistent'",
                "invalid value '/nonexistent' for chdir in c.toml: No such file or directory (os error 2)",
            ),
            (
                "user = ''\nworkers = ''",
                "invalid value '' for workers in c.toml: it is neither a whole number nor auto",
            ),
        ] {
            assert_eq!(toml(text).map(|_| ()), Err(expected.to_owned()), "{text}");
        }
        let error = toml("workers = 4\nbind = = 1").expect_err("it is no TOML");
        assert!(error.starts_with("c.toml: line 2: it is not TOML: "), "{error}");
    }

    #[test]
    fn which_values_a_file_cannot_overrule() {
        in_folder_with(&[("c.toml", "workers = 2\nbind = ':1'\ntimeout = 'soon'\nwsgi_app = 'other'")], |folder| {
            let config = format!("--config={folder}/c.toml");
            let settings = with(&[&config, "-w3", "--port=9", "--timeout=5", "app"], NOTHING_ELSE.evaluate);
            assert_eq!(row(&settings, "workers"), "3");
            assert_eq!(row(&settings, "bind"), "127.0.0.1:9");
            // And what is wrong there is not read.
            assert_eq!(row(&settings, "timeout"), "5");
            assert_eq!(row(&settings, "wsgi_app"), "app");
        });
    }

    #[test]
    fn the_table_of_a_project() {
        let project = "[project]\nname = 'x'\n[tool.minicorn]\nworkers = 5\n[tool.other]\nworkers = 'x'\n";
        in_folder_with(&[("pyproject.toml", project), ("other.toml", project)], |folder| {
            let settings = with(&["-c", &format!("file:{folder}/pyproject.toml"), "app"], NOTHING_ELSE.evaluate);
            assert_eq!(row(&settings, "workers"), "5");
            let other = with(&["-c", &format!("{folder}/other.toml"), "app"], NOTHING_ELSE.evaluate);
            assert!(other.is_err_and(|error| error.contains("other.toml: unknown setting 'project'")));
        });
    }

    #[test]
    fn a_file_that_is_not_there() {
        let error = with(&["-c", "/no/such/file.py", "app"], NOTHING_ELSE.evaluate).expect_err("it is not there");
        assert_eq!(
            error,
            "the configuration file '/no/such/file.py' cannot be read: No such file or directory (os error 2)"
        );
        let error = with(&["-c", "/tmp", "app"], NOTHING_ELSE.evaluate).expect_err("it is no file");
        assert_eq!(error, "the configuration file '/tmp' cannot be read: it is a directory");
        assert!(with(&["-c", "none", "app"], NOTHING_ELSE.evaluate).is_ok());
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn python(values: &[(&str, Value)], unused: &[&str]) -> Evaluated {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let unused = unused.iter().map(ToString::to_string).collect();
        Evaluated { values, hooks: vec![HookName::PostFork], unused, ..Evaluated::default() }
    }

    #[test]
    fn a_python_file() {
        let evaluate: Evaluate = |file, _| {
            assert_eq!(*file, PythonFile::Module("a.b".into()));
            Ok(python(
                &[
                    ("loglevel", text("warning")),
                    ("raw_env", Value::List(vec!["A=1".into()])),
                    ("umask", text("18")),
                    ("user", text("")),
                    ("worker_class", Value::Object("gunicorn.workers.sync.SyncWorker".into())),
                    ("logconfig_dict", Value::Object("dict".into())),
                    ("reload", text("true")),
                    // The file's own.
                    ("port", text("8080")),
                    ("log_level", text("debug")),
                    ("host", Value::Object("Host".into())),
                    ("whatever", Value::Map(vec![])),
                ],
                // Known by name though not for their values.
                // Nor is what looks like none of them, such as what gunicorn has had long ago.
                &["loglevel", "certfile", "debug", "log", "environment", "django_settings"],
            ))
        };
        let settings = with(&["-c", "python:a.b", "app"], evaluate);
        for (name, expected) in [
            ("loglevel", "warning"),
            ("raw_env", "A=1"),
            ("umask", "18"),
            ("user", ""),
            ("bind", "127.0.0.1:8000"),
            ("worker_class", "gunicorn.workers.sync.SyncWorker"),
            ("reload", "true"),
            ("post_fork", "function"),
        ] {
            assert_eq!(row(&settings, name), expected, "{name}");
        }
        let settings = settings.expect("checked above");
        assert_eq!((settings.hooks, settings.logging.log_config_dict), (vec![HookName::PostFork], Some(String::new())));
    }

    #[test]
    fn what_is_wrong_in_a_python_file() {
        let cases: [(Evaluate, &str); 7] = [
            (
                |_, _| Ok(python(&[], &["wokers"])),
                "python:m: 'wokers' is no setting, and nothing in the file uses it; did you mean 'workers'?",
            ),
            (
                |_, _| Ok(python(&[], &["log_level"])),
                "python:m: 'log_level' is no setting, and nothing in the file uses it; did you mean 'loglevel'?",
            ),
            (
                |_, _| Ok(python(&[("workers", text("x"))], &[])),
                "invalid value 'x' for workers in python:m: it is neither a whole number nor auto",
            ),
            (
                |_, _| Ok(python(&[("bind", Value::Object("Address".into()))], &[])),
                "invalid value 'Address' for bind in python:m: it is an object of type Address",
            ),
            (
                |_, _| Ok(python(&[("worker_class", Value::Object("my.Worker".into()))], &[])),
                "invalid value 'my.Worker' for worker_class in python:m: minicorn's workers are its own; take sync or gthread, which mean the same here",
            ),
            (
                |_, _| Ok(python(&[("keyfile", text("k"))], &[])),
                "python:m: keyfile: it is not offered: minicorn speaks no TLS, put nginx or HAProxy in front",
            ),
            (
                |_, _| Err("Traceback …\n  File x\nNameError: name 'y' is not defined\n".into()),
                "the configuration file 'python:m' fails: NameError: name 'y' is not defined\nTraceback …\n  File x\nNameError: name 'y' is not defined",
            ),
        ];
        for (evaluate, expected) in cases {
            assert_eq!(with(&["-c", "python:m", "app"], evaluate).map(|_| ()), Err(expected.to_owned()));
        }
    }
}
