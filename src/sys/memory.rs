//! The allocator of the C library, which the application uses too.
#![allow(unsafe_code)]

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
