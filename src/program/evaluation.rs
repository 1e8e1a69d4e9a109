//! Running a configuration file that is Python, in a process of its own: so the master stays free of Python, and what the
//! file does to its process ends with it.

use super::forking;
use crate::settings::{Effects, Evaluated, HookName, PythonFile, Value};
use crate::sys::process;
use crate::wsgi::config_file;
use crate::wsgi::interpreter::{self, Interpreter};
use pyo3::Python;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the file says. See [`Evaluate`](crate::settings::Evaluate).
pub(super) fn evaluate(file: &PythonFile, python: Option<&Path>) -> Result<Evaluated, String> {
    evaluate_within(None, file, python)
}

/// The same at a reload, where the workers have nobody meanwhile.
pub(super) fn evaluate_again(file: &PythonFile, python: Option<&Path>) -> Result<Evaluated, String> {
    evaluate_within(Some(EVALUATION_MAX), file, python)
}

/// Longer than files take that do not hang, and short enough for a watchdog of half a minute.
const EVALUATION_MAX: Duration = Duration::from_secs(10);

fn evaluate_within(limit: Option<Duration>, file: &PythonFile, python: Option<&Path>) -> Result<Evaluated, String> {
    let look = || run(file, python);
    let told = process::told_by_a_child(forking::fork, look, limit);
    // It may be the file's doing: a module in C that crashes, `os._exit`, somebody who had enough of waiting.
    let told = told.map_err(|error| error.to_string())??;
    parse(&told).ok_or_else(|| "what it says cannot be read".to_owned())
}

/// In the process made for it.
fn run(file: &PythonFile, python: Option<&Path>) -> Result<String, String> {
    let folder = std::env::current_dir().map_err(|error| format!("no working directory: {error}"))?;
    let path: [PathBuf; 1] = [folder.clone()];
    if interpreter::is_running() {
        Python::attach(|py| interpreter::extend_path(py, &path)).map_err(|error| error.to_string())?;
    } else {
        let interpreter =
            Interpreter::choose(python, &|name| std::env::var_os(name)).map_err(|error| error.to_string())?;
        interpreter.start(&[], &path, None).map_err(|error| error.to_string())?;
    }
    Python::attach(|py| config_file::evaluate(py, file, &folder))
}

fn parse(text: &str) -> Option<Evaluated> {
    let json: Json = serde_json::from_str(text).ok()?;
    let names = |key: &str| strings(&json[key]);
    let values = json["values"].as_array()?.iter();
    let values = values.map(|pair| Some((pair[0].as_str()?.to_owned(), value(&pair[1])?))).collect::<Option<_>>()?;
    let hooks = names("hooks")?;
    let hooks = HookName::ALL.into_iter().filter(|hook| hooks.iter().any(|name| name == hook.as_str())).collect();
    let folders = |key: &str| Some(names(key)?.into_iter().map(PathBuf::from).collect());
    let effects = Effects {
        variables: json["variables"].as_array()?.iter().map(pair).collect::<Option<_>>()?,
        removed: names("removed")?,
        path_before: folders("path_before")?,
        path_behind: folders("path_behind")?,
    };
    Some(Evaluated { values, hooks, unused: names("unused")?, effects })
}

fn value(json: &Json) -> Option<Value> {
    let (kind, value) = json.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "text" => Value::Text(value.as_str()?.to_owned()),
        "flag" => Value::Flag(value.as_bool()?),
        "list" => Value::List(strings(value)?),
        "map" => Value::Map(value.as_array()?.iter().map(pair).collect::<Option<_>>()?),
        _ => Value::Object(value.as_str()?.to_owned()),
    })
}

fn pair(json: &Json) -> Option<(String, String)> {
    let pair: [String; 2] = strings(json)?.try_into().ok()?;
    Some(pair.into())
}

fn strings(json: &Json) -> Option<Vec<String>> {
    json.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}
