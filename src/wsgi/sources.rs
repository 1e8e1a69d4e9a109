//! Which files the application is made of, for those who watch over them: those that its modules came from, in the version
//! that was read, and those that an import which failed would have needed.

use pyo3::exceptions::{PyImportError, PyModuleNotFoundError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyModule, PyString, PyTuple};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: (i64, i64),
    bytes: u64,
    inode: (u64, u64),
}

impl Stamp {
    /// Of what is at this path now; `None`: nothing.
    pub fn of(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|metadata| Self::new(&metadata))
    }

    fn new(metadata: &Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
        }
    }
}

/// What Python has read to import it, told as it happens: a file that is saved while the application starts is then known
/// to be another one than the one that runs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Imports(Arc<Mutex<Vec<Version>>>);

/// A file, and which version of it was read; `None`: it was not there.
pub type Version = (PathBuf, Option<Stamp>);

/// Python takes compiled code for that of a source with the same size and second of change. So a second change within
/// the second of the first would never be seen, and compiled code is neither read nor written for sources as new as this
/// (git has the same rule for its index). Without any compiled code, all others would be compiled with each reload.
const RACY: Duration = Duration::from_secs(2);

impl Imports {
    /// Is told of all imports that follow. `importlib` asks each of its loaders for the state of a source before it reads
    /// that source, and this is asked in their place.
    ///
    /// # Errors
    /// What Python raises.
    pub fn observe(py: Python<'_>) -> PyResult<Self> {
        let imports = Self::default();
        let told = imports.clone();
        // A built-in function is no descriptor: it gets no `self`, unless it is called with one.
        let path_stats = PyCFunction::new_closure(py, Some(c"path_stats"), None, move |arguments, _| {
            let path: PathBuf = arguments.get_item(arguments.len().saturating_sub(1))?.extract()?;
            told.tell_of_source(arguments, path)
        })?;
        py.import("importlib.machinery")?.getattr("SourceFileLoader")?.setattr("path_stats", path_stats)?;
        Ok(imports)
    }

    /// `{'mtime': …, 'size': …}`, or an OSError, upon which the loader goes without compiled code.
    fn tell_of_source(&self, arguments: &Bound<'_, PyTuple>, path: PathBuf) -> PyResult<Py<PyDict>> {
        let metadata = path.metadata()?;
        let stats = PyDict::new(arguments.py());
        stats.set_item("mtime", metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9)?;
        stats.set_item("size", metadata.len())?;
        let is_racy = metadata.modified().is_ok_and(|modified| modified + RACY > SystemTime::now());
        self.push(path, Some(Stamp::new(&metadata)));
        if is_racy { Err(PyOSError::new_err("changed just now")) } else { Ok(stats.unbind()) }
    }

    /// Adds a file that Python has not asked for, as it is now.
    pub fn add(&self, path: PathBuf) {
        let stamp = Stamp::of(&path);
        self.push(path, stamp);
    }

    /// All that have come since the last call.
    pub fn take(&self) -> Vec<Version> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, path: PathBuf, stamp: Option<Stamp>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((path, stamp));
    }
}

/// How many modules there are. As long as they do not become more or less, [`of_modules`] has no news: what is imported in
/// place of something else is told to [`Imports`].
///
/// # Errors
/// What Python raises.
pub fn count_modules(py: Python<'_>) -> PyResult<usize> {
    Ok(modules(py)?.len())
}

/// What a module was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This file.
    File(PathBuf),
    /// A folder in which this file was not: it would be another module with it.
    Without(PathBuf),
}

/// The sources of all modules there are. No code of theirs is run for it.
///
/// # Errors
/// What Python raises.
pub fn of_modules(py: Python<'_>) -> PyResult<Vec<Source>> {
    Ok(modules(py)?.values().iter().flat_map(|module| sources_of(&module)).collect())
}

fn modules(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    Ok(py.import("sys")?.getattr("modules")?.cast_into()?)
}

fn sources_of(module: &Bound<'_, PyAny>) -> Vec<Source> {
    // What is no module has no file that is its own. A module that is imported lazily would be, if it were asked for an
    // attribute, and is not by a look into its dictionary.
    let Ok(module) = module.cast::<PyModule>() else { return Vec::new() };
    let names = module.dict();
    let item = |name| names.get_item(name).ok().flatten();
    if let Some(file) = item("__file__").and_then(|file| path(&file)) {
        return vec![Source::File(source_of(file))];
    }
    // A folder that is a package although it has no `__init__.py`. Modules that were made by hand have mere lists there.
    let folders = item("__path__").filter(|path| path.get_type().name().is_ok_and(|name| name == "_NamespacePath"));
    let folders = folders.and_then(|folders| folders.try_iter().ok()).into_iter().flatten();
    folders.filter_map(|folder| path(&folder.ok()?)).map(|folder| Source::Without(folder.join("__init__.py"))).collect()
}

fn path(object: &Bound<'_, PyAny>) -> Option<PathBuf> {
    object.cast::<PyString>().ok()?.extract::<OsString>().ok().map(PathBuf::from)
}

/// Compiled code is made from the source that lies beside it, or one folder up where that is the cache.
fn source_of(file: PathBuf) -> PathBuf {
    if file.extension().is_some_and(|extension| extension == "pyc") { file.with_extension("py") } else { file }
}

/// The files whose change may mend `error`: those that it came through, the one that it names (as a SyntaxError does, or a
/// FileNotFoundError), and all places where a module that is missing would be.
pub(super) fn of_error(py: Python<'_>, error: &PyErr) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut next = Some(error.value(py).clone().into_any());
    for _ in 0..ERRORS_MAX {
        let Some(error) = next.take() else { break };
        files.extend(error.getattr("filename").ok().and_then(|file| path(&file)));
        files.extend(traceback_files(&error));
        if let Some(missing) = missing_module(&error) {
            files.extend(places_of(py, &missing));
        }
        let links = ["__cause__", "__context__"].map(|name| error.getattr(name).ok());
        next = links.into_iter().flatten().find(|linked| !linked.is_none());
    }
    // `<string>`, `<frozen importlib._bootstrap>`
    files.retain(|file| !file.to_string_lossy().starts_with('<'));
    files
}

/// How many errors behind an error are looked at.
const ERRORS_MAX: usize = 20;

fn traceback_files(error: &Bound<'_, PyAny>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut next = error.getattr("__traceback__").ok();
    while let Some(traceback) = next.take().filter(|traceback| !traceback.is_none()) {
        files.extend(file_of_frame(&traceback).ok().and_then(|file| path(&file)));
        next = traceback.getattr("tb_next").ok();
    }
    files
}

fn file_of_frame<'py>(traceback: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    traceback.getattr("tb_frame")?.getattr("f_code")?.getattr("co_filename")
}

/// What an ImportError is about. `from package import name` may have meant a module.
fn missing_module(error: &Bound<'_, PyAny>) -> Option<String> {
    if !error.is_instance_of::<PyImportError>() {
        return None;
    }
    let name: String = error.getattr("name").ok()?.extract().ok()?;
    if error.is_instance_of::<PyModuleNotFoundError>() {
        return Some(name);
    }
    // "cannot import name 'a' from 'b' (…)": before Python 3.12 the name stands nowhere else.
    let message: String = error.getattr("msg").ok()?.extract().ok()?;
    let wanted = message.strip_prefix("cannot import name '")?.split('\'').next()?;
    Some(format!("{name}.{wanted}"))
}

/// Where a module of this name would be found.
fn places_of(py: Python<'_>, name: &str) -> Vec<PathBuf> {
    let path: Vec<OsString> = py.import("sys").and_then(|sys| sys.getattr("path")?.extract()).unwrap_or_default();
    let below: PathBuf = name.split('.').collect();
    let place = |folder: OsString| {
        let module = Path::new(&folder).join(&below);
        [module.with_extension("py"), module.join("__init__.py"), module]
    };
    path.into_iter().flat_map(place).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::with_python;
    use super::*;

    #[test]
    fn every_module_has_the_file_of_its_source() {
        with_python(|py| {
            py.import("json.decoder").unwrap();
            let sources = of_modules(py).unwrap();
            let is = |source: &Source| matches!(source, Source::File(file) if file.ends_with("json/decoder.py"));
            assert!(sources.iter().any(is), "{sources:?}");
            assert!(count_modules(py).unwrap() >= sources.len());
            assert_eq!(source_of("/a/b.pyc".into()), Path::new("/a/b.py"));
        });
    }

    #[test]
    fn an_error_is_mended_where_it_came_from() {
        with_python(|py| {
            let error = |code| py.run(code, None, None).expect_err("it raises");
            let files = of_error(py, &error(c"import json; json.loads('{')"));
            assert!(files.iter().any(|file| file.ends_with("json/decoder.py")), "{files:?}");
            assert!(!files.iter().any(|file| file.starts_with("<")), "{files:?}");
            let files = of_error(py, &error(c"compile('(', '/app/views.py', 'exec')"));
            assert_eq!(files, [PathBuf::from("/app/views.py")]);
            let files = of_error(py, &error(c"open('/nowhere/settings.ini')"));
            assert_eq!(files, [PathBuf::from("/nowhere/settings.ini")]);
        });
    }

    #[test]
    fn a_module_that_is_missing_is_expected_everywhere() {
        with_python(|py| {
            let error = |code| py.run(code, None, None).expect_err("it raises");
            for (code, place) in [
                (c"import nowhere", "nowhere.py"),
                (c"import nowhere", "nowhere/__init__.py"),
                (c"import json.nowhere", "json/nowhere.py"),
                (c"from json import nowhere", "json/nowhere.py"),
                (c"try:\n  import nowhere\nexcept ImportError:\n  1/0", "nowhere.py"),
            ] {
                let files = of_error(py, &error(code));
                assert!(files.iter().any(|file| file.ends_with(place)), "{code:?}: {files:?}");
            }
        });
    }
}
