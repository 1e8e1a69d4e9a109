//! `module:callable` → the callable, or a sentence that says what was looked for.

use super::{interpreter, sources, traceback};
use pyo3::exceptions::PyModuleNotFoundError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::fmt;
use std::path::PathBuf;

/// The names that are tried in this order when the target names a module only.
const DEFAULT_NAMES: [&str; 2] = ["application", "app"];

/// Why the application cannot be loaded.
#[derive(Debug)]
pub struct LoadError {
    sentence: String,
    traceback: Option<String>,
    files: Vec<PathBuf>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.traceback {
            Some(traceback) => write!(out, "{}\n{traceback}", self.sentence),
            None => out.write_str(&self.sentence),
        }
    }
}

impl std::error::Error for LoadError {}

impl LoadError {
    fn new(sentence: String) -> Self {
        Self { sentence, traceback: None, files: Vec::new() }
    }

    /// Nothing of the application ran, so there is no traceback worth reading.
    fn not_found(py: Python<'_>, sentence: String, error: &PyErr) -> Self {
        Self { sentence, traceback: None, files: sources::of_error(py, error) }
    }

    fn raised(py: Python<'_>, sentence: String, error: &PyErr) -> Self {
        Self { sentence, traceback: Some(traceback::render(py, error)), files: sources::of_error(py, error) }
    }

    /// What was looked for, without what was raised.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// What was raised, if anything was.
    pub fn traceback(&self) -> Option<&str> {
        self.traceback.as_deref()
    }

    /// The files whose change may mend it, besides those of the modules that were imported. Some are not there.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// Loads `target`: `module`, `module:name`, `module:a.b` or `module:factory("literal", key=1)`.
///
/// # Errors
/// What was looked for and not found, not callable, or raised.
pub fn load(py: Python<'_>, target: &str) -> Result<Py<PyAny>, LoadError> {
    let (module_name, expression) = match target.split_once(':') {
        Some((module, expression)) => (module, Some(expression.trim())),
        None => (target, None),
    };
    if module_name.is_empty() || expression == Some("") {
        return Err(LoadError::new(format!("the app '{target}' is not of the form module:callable")));
    }
    let module = import(py, module_name)?;
    let (found, what) = match expression {
        None => default_name(&module, module_name)?,
        Some(expression) => {
            let found = match expression.find('(') {
                Some(_) => call_factory(&module, module_name, expression)?,
                None => attribute(&module, module_name, expression)?,
            };
            (found, expression.to_owned())
        }
    };
    if !found.is_callable() {
        let kind = found.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string());
        return Err(LoadError::new(format!("'{what}' in module '{module_name}' is not callable: it is a {kind}")));
    }
    Ok(found.unbind())
}

fn import<'py>(py: Python<'py>, name: &str) -> Result<Bound<'py, PyAny>, LoadError> {
    let imported = py.import("importlib").and_then(|importlib| importlib.call_method1("import_module", (name,)));
    imported.map_err(|error| {
        let missing = missing_module(py, &error);
        match missing {
            Some(missing) if name == missing || name.starts_with(&format!("{missing}.")) => {
                let sentence = format!("cannot import '{name}': no module named '{missing}' ({})", whereabouts(py));
                LoadError::not_found(py, sentence, &error)
            }
            Some(missing) => {
                let sentence =
                    format!("cannot import '{name}': it needs '{missing}', which is not there ({})", whereabouts(py));
                LoadError::raised(py, sentence, &error)
            }
            None => LoadError::raised(py, format!("cannot import '{name}': it raised"), &error),
        }
    })
}

/// The module that a ModuleNotFoundError is about.
fn missing_module(py: Python<'_>, error: &PyErr) -> Option<String> {
    if !error.is_instance_of::<PyModuleNotFoundError>(py) {
        return None;
    }
    error.value(py).getattr("name").and_then(|name| name.extract()).ok()
}

/// Which Python looked, and where: most missing packages are installed, but in another environment.
fn whereabouts(py: Python<'_>) -> String {
    let attribute = |name| {
        let value = py.import("sys").and_then(|sys| sys.getattr(name)).and_then(|value| value.extract::<String>());
        value.unwrap_or_else(|_| "?".to_owned())
    };
    let folder = std::env::current_dir().map_or_else(|_| "?".to_owned(), |folder| folder.display().to_string());
    format!(
        "looked in {folder} and in Python {} at {}, prefix {}; another one is chosen with --python or VIRTUAL_ENV",
        interpreter::version(),
        attribute("executable"),
        attribute("prefix"),
    )
}

fn default_name<'py>(module: &Bound<'py, PyAny>, module_name: &str) -> Result<(Bound<'py, PyAny>, String), LoadError> {
    for name in DEFAULT_NAMES {
        if let Ok(found) = module.getattr(name) {
            return Ok((found, name.to_owned()));
        }
    }
    Err(LoadError::new(format!(
        "module '{module_name}' has neither 'application' nor 'app'; name the callable as '{module_name}:NAME'"
    )))
}

/// `a.b.c`, looked up one after another.
fn attribute<'py>(module: &Bound<'py, PyAny>, module_name: &str, path: &str) -> Result<Bound<'py, PyAny>, LoadError> {
    let mut found = module.clone();
    for name in path.split('.') {
        found = found.getattr(name).map_err(|_| {
            let owner = if path == name { String::new() } else { format!(": there is no '{name}'") };
            let near = near_miss(&found, name).map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
            LoadError::new(format!("module '{module_name}' has no '{path}'{owner}{near}"))
        })?;
    }
    Ok(found)
}

/// A name of `owner` that is spelled much like `name`, or that applications usually have.
fn near_miss(owner: &Bound<'_, PyAny>, name: &str) -> Option<String> {
    let py = owner.py();
    let names: Vec<String> = owner.dir().ok()?.extract().ok()?;
    let public = names.iter().filter(|candidate| !candidate.starts_with('_'));
    let public = PyList::new(py, public).ok()?;
    let close = py.import("difflib").ok()?.call_method1("get_close_matches", (name, public, 1, 0.5)).ok()?;
    let close: Vec<String> = close.extract().ok()?;
    close.into_iter().next().or_else(|| {
        let usual = DEFAULT_NAMES.iter().find(|usual| names.iter().any(|candidate| candidate == *usual));
        usual.map(|&usual| usual.to_owned())
    })
}

/// `factory(…)` with literal arguments. Anything else would be code on the command line.
fn call_factory<'py>(
    module: &Bound<'py, PyAny>,
    module_name: &str,
    call: &str,
) -> Result<Bound<'py, PyAny>, LoadError> {
    let py = module.py();
    let (path, arguments, keywords) = parse_call(py, call).map_err(|_| {
        LoadError::new(format!("'{call}' is not a call with literal arguments, like create_app(\"x\", debug=True)"))
    })?;
    let factory = attribute(module, module_name, &path)?;
    if !factory.is_callable() {
        return Err(LoadError::new(format!("'{path}' in module '{module_name}' is not callable")));
    }
    factory
        .call(arguments, Some(&keywords))
        .map_err(|error| LoadError::raised(py, format!("'{call}' in module '{module_name}' raised"), &error))
}

type Call<'py> = (String, Bound<'py, PyTuple>, Bound<'py, PyDict>);

fn parse_call<'py>(py: Python<'py>, text: &str) -> PyResult<Call<'py>> {
    let ast = py.import("ast")?;
    let options = PyDict::new(py);
    options.set_item("mode", "eval")?;
    let call = ast.call_method("parse", (text,), Some(&options))?.getattr("body")?;
    let path = ast.call_method1("unparse", (call.getattr("func")?,))?.extract()?;
    let literal = |node: Bound<'py, PyAny>| ast.call_method1("literal_eval", (node,));
    let mut arguments = Vec::new();
    for node in call.getattr("args")?.try_iter()? {
        arguments.push(literal(node?)?);
    }
    let keywords = PyDict::new(py);
    for keyword in call.getattr("keywords")?.try_iter()? {
        let keyword = keyword?;
        // `**options` has no name, and is no literal: set_item refuses nothing, so the name is read as a str first.
        let name: String = keyword.getattr("arg")?.extract()?;
        keywords.set_item(name, literal(keyword.getattr("value")?)?)?;
    }
    Ok((path, PyTuple::new(py, arguments)?, keywords))
}
