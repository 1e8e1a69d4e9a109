//! What /proc tells about processes.

use std::fs;

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
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux 4.5 or later");
    let kib = line.split_ascii_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).expect("a number of kB");
    kib * 1024
}

pub fn signal(pid: Pid, signal: Signal) {
    kill(pid, signal).expect("signalling a process of this test");
}
