//! The raw C API: what pyo3 has no safe call for, and shortcuts that measured faster. The only unsafe of this folder.
#![allow(unsafe_code)]

use pyo3::ffi;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

/// How CPython is to start.
pub(super) struct Start {
    /// `sys.executable`; `pyvenv.cfg` is looked up beside it, so it must not be resolved. `None` leaves the search to
    /// CPython.
    pub(super) executable: Option<CString>,
    /// `sys.argv`.
    pub(super) argv: Vec<CString>,
}

/// The version of the libpython that is loaded, as in `sys.version`: `3.11.7 (main, …) [GCC …]`.
pub(super) fn version() -> &'static str {
    // SAFETY: Py_GetVersion may be called before the interpreter starts; it returns a static string.
    let version = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) };
    version.to_str().unwrap_or("unknown")
}

/// Starts the interpreter in this thread and detaches from it, so that `Python::attach` works from now on.
///
/// `home` stays unset, since that turns the detection of virtual environments off; no argument is parsed and no signal
/// handler installed, since both are the server's.
///
/// # Errors
/// What CPython says is wrong, for example a standard library that cannot be found.
pub(super) fn start(start: &Start) -> Result<(), String> {
    // SAFETY: asking whether the interpreter runs is allowed at any time.
    if unsafe { ffi::Py_IsInitialized() } != 0 {
        return Err("the interpreter runs already".to_owned());
    }
    pre_initialize()?;
    let mut config = std::mem::MaybeUninit::<ffi::PyConfig>::uninit();
    // SAFETY: InitPythonConfig writes every field of the struct it is given.
    let mut config = unsafe {
        ffi::PyConfig_InitPythonConfig(config.as_mut_ptr());
        config.assume_init()
    };
    config.parse_argv = 0;
    config.install_signal_handlers = 0;
    let started = fill(&mut config, start).and_then(|()| {
        // SAFETY: `config` was initialised above and its strings were set by PyConfig_Set*.
        check(unsafe { ffi::Py_InitializeFromConfig(&config) })
    });
    // SAFETY: `config` was initialised above and is not used again.
    unsafe { ffi::PyConfig_Clear(&mut config) };
    started?;
    // SAFETY: a successful start leaves this thread attached, which is what SaveThread asks for.
    unsafe { ffi::PyEval_SaveThread() };
    Ok(())
}

/// Decides locale and UTF-8 mode as `python` would, which must happen before the first string is decoded.
fn pre_initialize() -> Result<(), String> {
    let mut config = std::mem::MaybeUninit::<ffi::PyPreConfig>::uninit();
    // SAFETY: InitPythonConfig writes every field of the struct it is given.
    let mut config = unsafe {
        ffi::PyPreConfig_InitPythonConfig(config.as_mut_ptr());
        config.assume_init()
    };
    config.parse_argv = 0;
    // SAFETY: the struct was initialised above, and the interpreter has not started.
    check(unsafe { ffi::Py_PreInitialize(&config) })
}

fn fill(config: &mut ffi::PyConfig, start: &Start) -> Result<(), String> {
    let config: *mut ffi::PyConfig = config;
    if let Some(executable) = &start.executable {
        // SAFETY: `config` is initialised; the address of its own field is what the call wants.
        check(unsafe { ffi::PyConfig_SetBytesString(config, &raw mut (*config).executable, executable.as_ptr()) })?;
        // SAFETY: as above.
        check(unsafe { ffi::PyConfig_SetBytesString(config, &raw mut (*config).program_name, executable.as_ptr()) })?;
    }
    let mut argv: Vec<*const c_char> = start.argv.iter().map(|argument| argument.as_ptr()).collect();
    // SAFETY: `argv` points to as many NUL-terminated strings as are announced, which CPython copies.
    check(unsafe { ffi::PyConfig_SetBytesArgv(config, argv.len() as ffi::Py_ssize_t, argv.as_mut_ptr()) })
}

fn check(status: ffi::PyStatus) -> Result<(), String> {
    // SAFETY: `status` came from a call of the same family.
    if unsafe { ffi::PyStatus_Exception(status) } == 0 {
        return Ok(());
    }
    if status.err_msg.is_null() {
        return Err("the interpreter does not start".to_owned());
    }
    // SAFETY: a message that is not null is a static string of CPython.
    Err(unsafe { CStr::from_ptr(status.err_msg) }.to_string_lossy().into_owned())
}

/// Ends the interpreter if it runs: non-daemon threads are waited for, `atexit` functions run, files are flushed.
///
/// No Python object may be touched afterwards; the caller leaves with `_exit`, so that none is dropped either.
pub(super) fn finalize() {
    // SAFETY: asking whether the interpreter runs is allowed at any time.
    if unsafe { ffi::Py_IsInitialized() } == 0 {
        return;
    }
    // SAFETY: the interpreter was started by `start` in this thread, whose state GILState finds again.
    unsafe {
        ffi::PyGILState_Ensure();
        ffi::Py_FinalizeEx();
    }
}

/// Whether `object` is a generator, neither a subclass nor anything that wraps one.
pub(super) fn is_generator(object: &pyo3::Bound<'_, pyo3::PyAny>) -> bool {
    // SAFETY: only the type of a live object is looked at.
    ptr::eq(unsafe { ffi::Py_TYPE(object.as_ptr()) }, &raw const ffi::PyGen_Type)
}

/// A native string of PEP 3333: each byte is the character of the same number (pyo3 has no constructor for latin-1).
#[inline]
pub(super) fn latin1<'py>(py: pyo3::Python<'py>, bytes: &[u8]) -> pyo3::Bound<'py, pyo3::types::PyString> {
    use pyo3::prelude::*;
    // SAFETY: the pointer and length are those of a live slice, which CPython copies; the result is a new reference
    // to a str, or null when memory is exhausted, upon which pyo3 panics as it does for all its constructors.
    unsafe {
        let object = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t, ptr::null());
        Bound::from_owned_ptr(py, object).cast_into_unchecked()
    }
}

/// How many references to `object` there are, ours included.
pub(super) fn reference_count<T>(object: &pyo3::Py<T>, _attached: pyo3::Python<'_>) -> isize {
    // SAFETY: the object is alive, and being attached keeps others from changing the count meanwhile.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) as isize }
}
