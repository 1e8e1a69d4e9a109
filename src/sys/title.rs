//! [`Title`]: what `ps` shows of this process in place of its command line.
//!
//! Linux has no call for it. As nginx and PostgreSQL do, the strings that the kernel has left for `main` are overwritten:
//! the arguments, and the environment behind them. The kernel tells where they are, and shows what runs over the end of
//! the arguments up to its first NUL. The variables move to the heap first, so the environment stays as it was, for this
//! process and for what it starts; but `/proc/PID/environ` shows the rest of a title from then on. The loader is
//! not disturbed: it has made its own copy of what it keeps of the environment, LD_LIBRARY_PATH above all.
//!
//! The name of the process (`comm`), by which `pkill` finds it, is another one and stays.

use super::process;
use std::ffi::c_char;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io, ptr, slice};

unsafe extern "C" {
    /// What the C library takes for `argv[0]`: an extension of glibc and of musl.
    static program_invocation_name: *const c_char;
}

/// The place where the title stands. A forked process has a copy of its own, as of all its memory.
#[derive(Debug, Default)]
pub struct Title {
    /// Ends with a NUL, unless it is empty: then there is no title to be had.
    area: &'static mut [u8],
    /// Bytes of the title.
    length: usize,
    /// What was there before, to be put back when the title is dropped: the process may go on without us.
    before: Vec<u8>,
}

/// Whether there is a title in this process: two would write to the same place.
static IS_CLAIMED: AtomicBool = AtomicBool::new(false);

impl Title {
    /// Takes the place for the title. The arguments can be read until the first [`set`](Self::set), and not after it.
    ///
    /// # Errors
    /// There is more than one thread, or another title, or `/proc` does not tell where the place is.
    pub fn claim() -> io::Result<Self> {
        process::check_single_thread()?;
        let range = find_area(&fs::read_to_string("/proc/self/stat")?)
            .filter(|range| range.start == argument_zero().addr())
            .ok_or_else(|| io::Error::other("/proc/self/stat does not tell where the arguments are"))?;
        if IS_CLAIMED.swap(true, Ordering::Relaxed) {
            return Err(io::Error::other("the process has a title already"));
        }
        // SAFETY: no other thread exists, which was just checked, so none reads or writes the environment meanwhile.
        unsafe { move_environment(&range) };
        let start = ptr::with_exposed_provenance_mut::<u8>(range.start);
        // SAFETY: the kernel has written arguments and environment there, in a part of the stack that stays writable and
        // that nothing else uses; the environment has just moved away, and Rust's own view of the arguments takes any
        // bytes that end with a NUL, which `set` sees to. Nobody else makes a reference to it: the flag is set, until this one is dropped.
        let area = unsafe { slice::from_raw_parts_mut(start, range.len()) };
        Ok(Self { before: area.to_vec(), area, length: 0 })
    }

    /// Shows this text, cut to the room there is.
    pub fn set(&mut self, text: &str) {
        let mut length = text.len().min(self.area.len().saturating_sub(1));
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        self.length = length;
        let (title, rest) = self.area.split_at_mut(length);
        title.copy_from_slice(&text.as_bytes()[..length]);
        rest.fill(0);
    }

    /// Writes over a part of the title, if it was not cut off: a few stores, and no system call.
    #[inline]
    pub fn overwrite(&mut self, at: usize, word: &[u8]) {
        if let Some(place) = self.area[..self.length].get_mut(at..at + word.len()) {
            place.copy_from_slice(word);
        }
    }
}

impl Drop for Title {
    fn drop(&mut self) {
        // The default one has no place.
        if !self.before.is_empty() {
            self.area.copy_from_slice(&self.before);
            IS_CLAIMED.store(false, Ordering::Relaxed);
        }
    }
}

fn argument_zero() -> *const c_char {
    // SAFETY: the C library has set it before `main`, and only reads it afterwards.
    unsafe { program_invocation_name }
}

/// Where the arguments and the environment are, by the line of proc_pid_stat(5).
fn find_area(stat: &str) -> Option<Range<usize>> {
    // The second field is a name in parentheses that may hold anything; arg_start to env_end are the 48th to the 51st.
    let fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(45).take(4);
    let numbers = fields.map(str::parse).collect::<Result<Vec<usize>, _>>().ok()?;
    let &[arg_start, arg_end, env_start, env_end] = numbers.as_slice() else { return None };
    let is_sound = arg_start != 0 && arg_start < arg_end;
    // The kernel lets a title run over into the environment if that follows at once.
    let end = if arg_end == env_start { env_end.max(arg_end) } else { arg_end };
    is_sound.then_some(arg_start..end)
}

/// Has the environment refer to copies, which are never freed, of all its strings in `area`.
///
/// # Safety
/// No other thread may exist.
unsafe fn move_environment(area: &Range<usize>) {
    // SAFETY: the caller promises that nobody changes it meanwhile.
    let mut entry = unsafe { libc::environ };
    // SAFETY: `environ` is null or leads to pointers to strings, the last of which is null.
    while !entry.is_null() && unsafe { !(*entry).is_null() } {
        // SAFETY: as above, the entry is a string.
        let string = unsafe { *entry };
        if area.contains(&string.addr()) {
            // SAFETY: it is a string; the copy is a null pointer when there is no memory, which would end the list.
            let copy = unsafe { libc::strdup(string) };
            assert!(!copy.is_null(), "no memory for the environment");
            // SAFETY: the vector of pointers is the C library's to change by contract of environ(7), and ours as well.
            unsafe { *entry = copy };
        }
        // SAFETY: the null pointer that ends the list has not been reached.
        entry = unsafe { entry.add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(bytes: usize) -> Title {
        Title { area: vec![b'x'; bytes].leak(), length: 0, before: Vec::new() }
    }

    #[test]
    fn a_title_is_followed_by_nothing_of_what_was_there() {
        let mut title = title(12);
        title.set("minicorn");
        assert_eq!(title.area, b"minicorn\0\0\0\0");
        title.set("mini");
        assert_eq!(title.area, b"mini\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_long_title_is_cut_between_characters() {
        let mut title = title(5);
        title.set("minicorn");
        assert_eq!(title.area, b"mini\0");
        title.set("minü");
        assert_eq!(title.area, b"min\0\0");
        let mut nothing = Title::default();
        nothing.set("minicorn");
        nothing.overwrite(0, b"x");
    }

    #[test]
    fn only_what_is_there_is_overwritten() {
        let mut title = title(12);
        title.set("a [idle] b");
        title.overwrite(3, b"busy");
        assert_eq!(title.area, b"a [busy] b\0\0");
        title.overwrite(7, b"long");
        assert_eq!(title.area, b"a [busy] b\0\0");
    }

    #[test]
    fn the_area_of_a_process_with_a_strange_name() {
        let zeros = "0 ".repeat(44);
        assert_eq!(find_area(&format!("1 (a) b) S {zeros}100 120 120 200 0")), Some(100..200));
        assert_eq!(find_area(&format!("1 (a) S {zeros}100 120 128 200 0")), Some(100..120));
        assert_eq!(find_area(&format!("1 (a) S {zeros}100 120 120 120 0")), Some(100..120));
        assert_eq!(find_area(&format!("1 (a) S {zeros}0 0 0 0 0")), None);
        assert_eq!(find_area("1 (a) S"), None);
    }

    #[test]
    fn a_second_thread_is_refused() {
        // The test harness runs this test in a thread of its own.
        let error = Title::claim().expect_err("the environment was moved under other threads");
        assert!(error.to_string().ends_with(" threads instead of one"), "{error}");
    }
}
