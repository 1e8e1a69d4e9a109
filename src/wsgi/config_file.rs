//! A configuration file that is Python: running it in this process. The work is done by `config_file.py`.

use super::embedded::Embedded;
use crate::settings::{HookName, PythonFile};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};
use std::ffi::OsStr;
use std::path::Path;

static CODE: Embedded = Embedded::new("config_file", include_str!("config_file.py"));

/// The namespace that the file leaves, run anew in `folder`, where the server was started.
///
/// # Errors
/// What it raises.
pub(super) fn run<'py>(py: Python<'py>, file: &PythonFile, folder: &Path) -> PyResult<Bound<'py, PyDict>> {
    let (path, module) = place(file);
    Ok(code(py)?.getattr("run")?.call1((path, module, folder.as_os_str()))?.cast_into::<PyDict>()?)
}

/// What it says, as JSON with the fields of [`Evaluated`](crate::settings::Evaluated).
///
/// # Errors
/// A clause behind the name of the file, or the traceback of what it raises.
pub fn evaluate(py: Python<'_>, file: &PythonFile, folder: &Path) -> Result<String, String> {
    let said = || -> PyResult<(bool, String)> {
        let hooks = PyDict::new(py);
        for hook in HookName::ALL {
            hooks.set_item(hook.as_str(), arguments(hook))?;
        }
        let (path, module) = place(file);
        code(py)?.getattr("evaluate")?.call1((path, module, folder.as_os_str(), hooks))?.extract()
    };
    match said().map_err(|error| error.to_string())? {
        (true, said) => Ok(said),
        (false, error) => Err(error),
    }
}

/// The function of a hook, checked as [`evaluate`] does.
///
/// # Errors
/// It cannot be called as it should.
pub(super) fn hook<'py>(value: &Bound<'py, PyAny>, hook: HookName) -> PyResult<Bound<'py, PyAny>> {
    code(value.py())?.getattr("hook")?.call1((hook.as_str(), value, arguments(hook)))
}

/// What gunicorn's documentation calls the arguments of a hook.
fn arguments(hook: HookName) -> &'static [&'static str] {
    match hook {
        HookName::OnStarting | HookName::WhenReady | HookName::OnReload | HookName::OnExit | HookName::PreExec => {
            &["server"]
        }
        HookName::NworkersChanged => &["server", "new_value", "old_value"],
        HookName::PreFork | HookName::ChildExit | HookName::PostFork | HookName::WorkerExit => &["server", "worker"],
        HookName::PostWorkerInit | HookName::WorkerInt | HookName::WorkerAbort => &["worker"],
        HookName::PreRequest => &["worker", "req"],
        HookName::PostRequest => &["worker", "req", "environ", "resp"],
    }
}

fn place(file: &PythonFile) -> (Option<&OsStr>, Option<&str>) {
    match file {
        PythonFile::Path(path) => (Some(path.as_os_str()), None),
        PythonFile::Module(name) => (None, Some(name.as_str())),
    }
}

fn code(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    CODE.module(py)
}

#[cfg(test)]
mod tests {
    use super::super::testing::with_python;
    use super::*;
    use serde_json::{Value, json};

    /// What a file with this text says, or the error.
    fn said(text: &str) -> Result<Value, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gunicorn.conf.py");
        std::fs::write(&path, text).expect("a file");
        let said = with_python(|py| evaluate(py, &PythonFile::Path(path), folder.path()));
        said.map(|text| serde_json::from_str(&text).expect("JSON"))
    }

    #[track_caller]
    fn check(text: &str, key: &str, expected: Value) {
        assert_eq!(said(text).expect("it runs")[key], expected, "{text}");
    }

    #[test]
    fn values_have_the_kinds_that_settings_know() {
        for (text, value) in [
            ("a = 4", json!({"text": "4"})),
            ("a = 'x'", json!({"text": "x"})),
            ("a = True", json!({"flag": true})),
            ("a = ['x', 1]", json!({"list": ["x", "1"]})),
            ("a = {'x': 1}", json!({"map": [["x", "1"]]})),
            ("a = {'x': {}}", json!({"object": "dict"})),
            ("from pathlib import PurePath\na = PurePath('/x')", json!({"text": "/x"})),
            ("class C: pass\na = C\ndel C", json!({"object": "__config__.C"})),
        ] {
            let said = said(text).expect("it runs");
            let found = said["values"].as_array().expect("a list").iter().find(|pair| pair[0] == "a");
            assert_eq!(found.expect("the value")[1], value, "{text}");
        }
        check("a = None\nimport os\ndef f(): pass\nf()\n_b = 1", "values", json!([]));
    }

    #[test]
    fn hooks_are_those_that_are_set() {
        check("def post_fork(server, worker): pass\nwhen_ready = None", "hooks", json!(["post_fork"]));
        check(
            "on_exit = lambda server: 1\ndef post_request(worker, req): pass",
            "hooks",
            json!(["on_exit", "post_request"]),
        );
        check("class Hook:\n  def __call__(self, server): pass\nwhen_ready = Hook()", "hooks", json!(["when_ready"]));
        check("pre_exec = 'os.close'", "hooks", json!(["pre_exec"]));
        for (text, error) in [
            ("def on_exit(): pass", "on_exit is to take 1 argument, server, and takes 0"),
            ("def child_exit(*a): pass", "child_exit is to take 2 arguments, server, worker, and takes 0"),
            ("on_exit = 'nothing'", "on_exit is 'nothing', which is no function and no name of one"),
            ("on_exit = 'os.nothing'", "on_exit is 'os.nothing', which cannot be imported"),
        ] {
            let said = said(text).expect_err(text);
            assert!(said.contains(error) && said.lines().count() == 1, "{said}");
        }
    }

    #[test]
    fn names_that_nobody_looks_at_may_be_misspelled_settings() {
        for (text, unused) in [
            ("wrokers = 4", json!(["wrokers"])),
            ("wrokers: int = 4\nx, y = 1, 2\nprint(x)", json!(["wrokers", "y"])),
            ("cores = 4\nworkers = cores", json!(["workers"])),
            ("cores = 4\ndef f():\n    return cores", json!([])),
            ("if True:\n    wrokers = 1\nelse:\n    other = 1", json!(["wrokers", "other"])),
            ("try:\n    import os\nexcept ImportError:\n    missing = 1", json!(["missing"])),
            ("for i in 1, 2: pass\nDEBUG = 1\n_private = 1\nclass c: pass", json!([])),
            ("def post_frok(server, worker): pass\ndef helper(): pass", json!(["post_frok"])),
            ("def post_frok(server, worker): pass\npost_fork = post_frok", json!([])),
        ] {
            check(text, "unused", unused);
        }
    }

    #[test]
    fn an_error_is_a_traceback_of_the_file_alone() {
        let error = said("def f():\n    1/0\nf()").expect_err("it raises");
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.last(), Some(&"ZeroDivisionError: division by zero"), "{error}");
        assert_eq!(lines[0], "Traceback (most recent call last):");
        assert!(lines[1].ends_with("gunicorn.conf.py\", line 3, in <module>"), "{error}");
        let error = said("workers = (").expect_err("it is no Python");
        assert!(error.contains("SyntaxError: '(' was never closed") && !error.contains("Traceback"), "{error}");
    }
}
