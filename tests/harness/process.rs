//! What /proc tells about processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Whether the process exists and has not ended; a zombie has ended.
pub fn is_running(pid: Pid) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != 'Z')
}

/// The running children of a process, in the order of their numbers.
pub fn children(parent: Pid) -> Vec<Pid> {
    children_where(parent, |state| state != 'Z')
}

/// The children of a process that have ended and were not waited for.
pub fn zombies(parent: Pid) -> Vec<Pid> {
    children_where(parent, |state| state == 'Z')
}

fn children_where(parent: Pid, wanted: impl Fn(char) -> bool) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    let mut found: Vec<Pid> = pids
        .filter(|&pid| state_and_parent(pid).is_some_and(|(state, ppid)| ppid == parent && wanted(state)))
        .collect();
    found.sort();
    found
}

/// Fields 3 and 4 of /proc/PID/stat. The name before them is in parentheses and may hold some itself.
fn state_and_parent(pid: Pid) -> Option<(char, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// The memory of a process that is in RAM and its own.
pub fn resident_bytes(pid: Pid) -> u64 {
    status_number(Path::new(&format!("/proc/{pid}/status")), "RssAnon:").expect("the process runs") * 1024
}

/// The most memory that a process has had in RAM at any moment, with the files it maps.
pub fn peak_resident_bytes(pid: Pid) -> u64 {
    status_number(Path::new(&format!("/proc/{pid}/status")), "VmHWM:").expect("the process runs") * 1024
}

/// What the threads of a process have used of the CPUs so far, in hundredths of a second as /proc counts it.
pub fn cpu_time(pid: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 1..].split_ascii_whitespace().collect();
    // Fields 14 and 15, counted from the third.
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number of ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// How often the threads of a process have waited so far.
pub fn waits(pid: Pid) -> u64 {
    let counts = threads(pid).into_iter().filter_map(|thread| {
        // A thread may end meanwhile.
        status_number(&thread.join("status"), "voluntary_ctxt_switches:")
    });
    counts.sum()
}

/// The directories of the threads of a process.
pub fn threads(pid: Pid) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// How many descriptors a process has open.
pub fn descriptors(pid: Pid) -> usize {
    open_files(pid).len()
}

/// The sizes of the files below `folder` that a process has open and that have no name any more.
pub fn unlinked_files(pid: Pid, folder: &Path) -> Vec<u64> {
    let is_unlinked = |target: &Path| target.starts_with(folder) && target.to_string_lossy().ends_with(" (deleted)");
    let found = open_files(pid).into_iter().filter(|(_, target)| is_unlinked(target));
    found.filter_map(|(entry, _)| Some(fs::metadata(entry).ok()?.len())).collect()
}

/// The entries of /proc/PID/fd and what they are.
fn open_files(pid: Pid) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs and is ours");
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let target = fs::read_link(&path).ok()?;
            Some((path, target))
        })
        .collect()
}

/// The number of a line of a status file.
fn status_number(path: &Path, name: &str) -> Option<u64> {
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

pub fn signal(pid: Pid, signal: Signal) {
    kill(pid, signal).expect("signalling a process of this test");
}
