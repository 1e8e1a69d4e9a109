//! The memory of this process: the allocator of the C library, which the application uses too, and what is mapped.
#![allow(unsafe_code)]

use super::process;
use std::io;

/// Objects of this size and more have a mapping of their own, which goes back to the kernel with them, bytes.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 1024 * 1024;

/// Heaps that the threads share. The GIL lets only one of them allocate much at a time.
#[cfg(target_env = "gnu")]
const HEAPS_MAX: libc::c_int = 2;

/// Keeps a process from holding on to what its largest requests once needed, to be called before it has threads.
///
/// glibc gives each thread a heap, and with each large object that is freed it raises the size, up to 32 MiB, from which
/// on objects get a mapping of their own: so after a while every heap keeps the space of the largest body or response
/// that its thread has seen. A worker of four threads, with bodies of up to 8 MiB, had grown to 65 MiB after two minutes of
/// `bench/soak.py`, and went on growing; with this it stays at 16. Who has set the variables of glibc that say the same is left alone.
pub fn limit_retention() {
    #[cfg(target_env = "gnu")]
    if !["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
    {
        // SAFETY: mallopt takes any numbers, and no other thread allocates meanwhile.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, HEAPS_MAX);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
        }
    }
}

/// Gives the kernel back what was freed and not used again, to be called before a fork: the children would inherit it,
/// and what they put there would be their own.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time; it takes the locks of the heaps.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the pages of programs and libraries that this process has read and not changed. The kernel keeps them in
/// its cache for as long as it sees fit, and maps them again where they are read again; a child maps its own. What it
/// takes to start a library, such as 3 MiB of OpenSSL, is mostly never read again; nor is what it takes to start the
/// master, the parser of the command line first of all, which is 0.9 of its 2.5 MiB.
///
/// # Errors
/// There is more than one thread, so that one might be changing such pages; or `/proc` is not there.
pub fn forget_files() -> io::Result<()> {
    process::check_single_thread()?;
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    for (start, length) in unchanged_files(&maps) {
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: the mapping is a private one of a file, cannot be written to, and none of its pages has ever been; so
        // the kernel can only read the same bytes again. There is no other thread, see above, and this one has changed
        // nothing since it has read about it. A refusal (of locked memory) leaves all as it was.
        unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
    Ok(())
}

/// Address and length of the private mappings of files in `smaps` that cannot be written to, and of which no page was.
fn unchanged_files(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.nth(3)) {
            // Of what was written to, some may be in RAM and the rest in the swap space.
            (Some("Anonymous:"), Some(size), None) if size != "0" => candidate = None,
            (Some("Swap:"), Some("0"), None) => found.extend(candidate.take()),
            (Some(name), ..) if name.ends_with(':') => {}
            // 7f0000000000-7f0000001000 r-xp 00002000 fe:00 4242 /usr/lib/x.so
            (Some(range), Some("r--p" | "r-xp"), Some(path)) if path.starts_with('/') => candidate = parse_range(range),
            _ => candidate = None,
        }
    }
    found
}

fn parse_range(range: &str) -> Option<(usize, usize)> {
    let (start, end) = range.split_once('-')?;
    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).ok());
    let start = start?;
    Some((start, end?.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_pages_of_files_are_let_go_of() {
        let mapping = |range: &str, access: &str, path: &str, written: &str| {
            let (anonymous, swap) = written.split_once('+').unwrap_or((written, "0"));
            format!(
                "{range} {access} 00002000 fe:00 4242   {path}\nSize:       8 kB\nAnonymous:   {anonymous} kB\n\
                 Swap:   {swap} kB\nSwapPss:   {swap} kB\nTHPeligible: 0\n"
            )
        };
        let smaps = [
            mapping("1000-3000", "r-xp", "/lib/x.so", "0"),
            mapping("3000-5000", "r--p", "/lib/x.so", "8"),
            mapping("a0000-a1000", "r--p", "/lib/x.so", "0+4"),
            mapping("5000-6000", "rw-p", "/lib/x.so", "0"),
            mapping("6000-7000", "r--s", "/etc/shared", "0"),
            mapping("7000-8000", "r--p", "", "0"),
            mapping("8000-9000", "r-xp", "[vdso]", "0"),
            mapping("9000-f000", "r--p", "/lib/a name.so (deleted)", "0"),
        ];
        assert_eq!(unchanged_files(&smaps.concat()), [(0x1000, 0x2000), (0x9000, 0x6000)]);
    }

    #[test]
    fn what_the_kernel_writes_is_understood() {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux");
        let code = unchanged_files as *const () as usize;
        let found = unchanged_files(&smaps);
        assert!(found.iter().any(|(start, length)| (*start..start + length).contains(&code)), "{found:x?}");
    }
}
