//! The raw C API: what pyo3 has no safe call for, and shortcuts that measured faster. The only unsafe of this folder.
#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{ptr, slice};

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

/// Whether the interpreter runs in this process.
pub(super) fn is_running() -> bool {
    // SAFETY: asking is allowed at any time.
    unsafe { ffi::Py_IsInitialized() != 0 }
}

/// Whether [`start`] has started the interpreter, here or in the process that this one was forked from.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// Whether the interpreter runs and somebody else has started it.
pub(super) fn is_guest() -> bool {
    is_running() && !IS_OURS.load(Ordering::Relaxed)
}

/// Starts the interpreter in this thread and detaches from it, so that `Python::attach` works from now on.
///
/// `home` stays unset, since that turns the detection of virtual environments off; no argument is parsed and no signal
/// handler installed, since both are the server's.
///
/// # Errors
/// What CPython says is wrong, for example a standard library that cannot be found.
pub(super) fn start(start: &Start) -> Result<(), String> {
    if is_running() {
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
    IS_OURS.store(true, Ordering::Relaxed);
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

/// Ends the interpreter if it was started here: non-daemon threads are waited for, `atexit` functions run, files are flushed.
///
/// No Python object may be touched afterwards; the caller leaves with `_exit`, so that none is dropped either.
pub(super) fn finalize() {
    if !is_running() || is_guest() {
        return;
    }
    // SAFETY: the interpreter was started by `start` in this thread, whose state GILState finds again.
    unsafe {
        ffi::PyGILState_Ensure();
        ffi::Py_FinalizeEx();
    }
}

/// Calls `fork` with Python ready for it, and then has Python do what it does on the side where the process finds
/// itself: before, it takes its locks; in the child it makes them anew, forgets the other threads, and `random` gets
/// another seed. The functions of `os.register_at_fork` run.
pub(super) fn fork<T>(_py: Python<'_>, fork: impl FnOnce() -> T) -> T {
    let before = std::process::id();
    // SAFETY: this thread is attached, and one of the two calls below follows.
    unsafe { ffi::PyOS_BeforeFork() };
    let forked = fork();
    if std::process::id() == before {
        // SAFETY: follows PyOS_BeforeFork in the same process, with or without a child.
        unsafe { ffi::PyOS_AfterFork_Parent() };
    } else {
        // SAFETY: this is another process, so it was forked by this thread, the only one that it has, since
        // PyOS_BeforeFork.
        unsafe { ffi::PyOS_AfterFork_Child() };
    }
    forked
}

/// Whether `object` is a generator, neither a subclass nor anything that wraps one.
pub(super) fn is_generator(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: only the type of a live object is looked at.
    ptr::eq(unsafe { ffi::Py_TYPE(object.as_ptr()) }, &raw const ffi::PyGen_Type)
}

/// A native string of PEP 3333: each byte is the character of the same number (pyo3 has no constructor for latin-1).
#[inline]
pub(super) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    // SAFETY: the pointer and length are those of a live slice, which CPython copies; the result is a new reference
    // to a str, or null when memory is exhausted, upon which pyo3 panics as it does for all its constructors.
    unsafe {
        let object = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t, ptr::null());
        Bound::from_owned_ptr(py, object).cast_into_unchecked()
    }
}

/// How many references to `object` there are, ours included.
pub(super) fn reference_count<T>(object: &Py<T>, _attached: Python<'_>) -> isize {
    // SAFETY: the object is alive, and being attached keeps others from changing the count meanwhile.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) as isize }
}

/// The first bytes of a Python object, to be read by any thread, attached or not, and to be dropped by any: a reference
/// dropped by a thread that is not attached goes on pyo3's list, which the next attach or call from Python works off.
#[derive(Debug)]
pub struct HeldBytes {
    /// Keeps the bytes alive.
    _object: Py<PyBytes>,
    start: ptr::NonNull<u8>,
    length: usize,
}

impl HeldBytes {
    /// `length` is at most that of `object`.
    pub(super) fn new(object: &Bound<'_, PyBytes>, length: usize) -> Self {
        let bytes = &object.as_bytes()[..length];
        Self { _object: object.clone().unbind(), start: ptr::NonNull::from(bytes).cast(), length }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: a bytes object neither changes nor moves, and `_object` keeps it alive as long as `self`; `new` has
        // checked the length.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

// SAFETY: what it points to never changes, and its reference is one that pyo3 lets any thread drop.
unsafe impl Send for HeldBytes {}
// SAFETY: as above; shared, it can only be read.
unsafe impl Sync for HeldBytes {}

/// Another descriptor of what `raw` describes, close-on-exec. `None` if there is no such descriptor.
///
/// `raw` is what a `fileno()` says, so it may be any number: the application may have closed it behind Python's back.
pub(super) fn duplicate_descriptor(raw: i32) -> Option<OwnedFd> {
    if raw < 0 {
        return None;
    }
    // SAFETY: the number is not -1, and is only used for the call that copies it, with which the kernel checks it.
    let descriptor = unsafe { BorrowedFd::borrow_raw(raw) };
    descriptor.try_clone_to_owned().ok()
}

/// A bytes object while it is being filled. Unlike with `PyBytes::new_with`, nothing is zeroed ahead of the reading, it
/// can be filled detached from Python, and its length need not be known.
pub(super) struct BytesBuilder<'py> {
    /// Of `capacity` bytes, and known to nobody else.
    object: Bound<'py, PyBytes>,
    capacity: usize,
    filled: Filled,
}

/// `filled <= initialised <= capacity`.
#[derive(Default)]
struct Filled {
    filled: usize,
    initialised: usize,
}

/// The part of a [`BytesBuilder`] that is not filled yet, which may leave the thread's attachment to Python.
pub(super) struct Room<'b> {
    bytes: &'b mut [MaybeUninit<u8>],
    state: &'b mut Filled,
}

/// So much is asked for at once; it is zeroed before, which costs little while it fits into the cache of the core.
const PART_BYTES: usize = 128 * 1024;

impl<'py> BytesBuilder<'py> {
    /// With room for `capacity` bytes, which is not 0.
    ///
    /// # Errors
    /// Python is out of memory.
    pub(super) fn new(py: Python<'py>, capacity: usize) -> PyResult<Self> {
        debug_assert!(capacity > 0);
        let length = ffi::Py_ssize_t::try_from(capacity)?;
        // SAFETY: without a source the call makes a new object with undefined content, or returns null with an error
        // set; pyo3 looks after both.
        let object = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(ptr::null(), length))? };
        // SAFETY: the call returns a bytes object.
        let object = unsafe { object.cast_into_unchecked() };
        Ok(Self { object, capacity, filled: Filled::default() })
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled.filled == self.capacity
    }

    /// What is left to fill.
    pub(super) fn room(&mut self) -> Room<'_> {
        // SAFETY: the object is a live bytes object.
        let start = unsafe { ffi::PyBytes_AsString(self.object.as_ptr()) };
        // SAFETY: the object has `capacity` bytes, nobody else has a reference to it, and ours is borrowed mutably for as
        // long as the slice lives. Undefined content is what the slice's type allows.
        let bytes = unsafe { slice::from_raw_parts_mut(start.cast(), self.capacity) };
        Room { bytes, state: &mut self.filled }
    }

    /// Makes room for `capacity` bytes in all; what has been filled stays.
    ///
    /// # Errors
    /// Python is out of memory.
    pub(super) fn grow(self, capacity: usize) -> PyResult<Self> {
        debug_assert!(capacity > self.capacity);
        Ok(Self { object: resize(self.object, capacity)?, capacity, filled: self.filled })
    }

    /// The object, as long as it has been filled.
    ///
    /// # Errors
    /// Python is out of memory.
    pub(super) fn finish(self) -> PyResult<Bound<'py, PyBytes>> {
        if self.is_full() { Ok(self.object) } else { resize(self.object, self.filled.filled) }
    }
}

impl Room<'_> {
    /// Has `read` fill one part after the other, until there is no room left or it returns 0.
    ///
    /// # Errors
    /// Those of `read`. What was filled before stays.
    pub(super) fn fill<E>(self, mut read: impl FnMut(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
        let Filled { filled, initialised } = self.state;
        while *filled < self.bytes.len() {
            let end = self.bytes.len().min(*filled + PART_BYTES);
            if *initialised < end {
                self.bytes[*initialised..end].fill(MaybeUninit::new(0));
                *initialised = end;
            }
            let part: *mut [MaybeUninit<u8>] = &raw mut self.bytes[*filled..end];
            // SAFETY: all bytes up to `initialised` have been written, `end` is not behind it, and the pointer comes from
            // a mutable slice that nobody else uses meanwhile.
            let part = unsafe { &mut *(part as *mut [u8]) };
            match read(part)?.min(part.len()) {
                0 => break,
                count => *filled += count,
            }
        }
        Ok(())
    }
}

fn resize(object: Bound<'_, PyBytes>, length: usize) -> PyResult<Bound<'_, PyBytes>> {
    let py = object.py();
    let length = ffi::Py_ssize_t::try_from(length)?;
    let mut pointer = object.into_ptr();
    // SAFETY: the pointer is the only reference to a bytes object that has not been hashed. The call replaces it by the
    // reference to the object it has become, or by null with an error set.
    unsafe { _PyBytes_Resize(&raw mut pointer, length) };
    // SAFETY: see above; pyo3 looks after both.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, pointer)? };
    // SAFETY: the call leaves a bytes object.
    Ok(unsafe { object.cast_into_unchecked() })
}

// In the stable ABI since 3.2; pyo3 leaves it out.
unsafe extern "C" {
    fn _PyBytes_Resize(object: *mut *mut ffi::PyObject, length: ffi::Py_ssize_t) -> c_int;
}
