//! How many CPUs this process may use: its affinity mask, and the CPU quota of the control groups it is in.
//!
//! `std::thread::available_parallelism` rounds a quota down: with 1.5 CPUs it says 1, and half a CPU stays unused.
//!
//! Reading is in `usable` and `quota`; the rest are functions of the text of the files under /proc and /sys.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// The smaller of the affinity mask and the quota rounded up; at least 1.
pub fn usable() -> u32 {
    let allowed = affinity();
    quota().map_or(allowed, |quota| allowed.min(quota)).max(1)
}

fn affinity() -> u32 {
    match sched_getaffinity(Pid::from_raw(0)) {
        Ok(mask) => (0..CpuSet::count()).filter(|cpu| mask.is_set(*cpu).unwrap_or(false)).count() as u32,
        // More CPUs than the mask of nix holds (1024).
        Err(_) => std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
    }
}

/// The smallest quota, in whole CPUs, of the groups this process is in. Whatever cannot be read limits nothing.
fn quota() -> Option<u32> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    smallest_quota(&directories(&groups, &mounts), &read)
}

/// The two interfaces of the CPU controller (cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A group limits all groups inside it, so the smallest quota on the way to the root is the one that holds.
fn smallest_quota(directories: &[(Version, PathBuf)], read: &dyn Fn(&Path) -> Option<String>) -> Option<u32> {
    let quota_of = |(version, directory): &(Version, PathBuf)| match version {
        Version::V2 => quota_v2(&read(&directory.join("cpu.max"))?),
        Version::V1 => {
            quota_v1(&read(&directory.join("cpu.cfs_quota_us"))?, &read(&directory.join("cpu.cfs_period_us"))?)
        }
    };
    directories.iter().filter_map(quota_of).min()
}

/// The directories of the groups of this process that the CPU controller may be in, innermost first, from the texts of
/// /proc/self/cgroup and /proc/self/mountinfo. Version 1 and 2 can be mounted side by side.
fn directories(groups: &str, mounts: &str) -> Vec<(Version, PathBuf)> {
    let mut directories = Vec::new();
    for (version, root, mount_point) in mounts.lines().filter_map(cpu_mount) {
        let Some(group) = groups.lines().find_map(|line| group_path(line, version)) else { continue };
        // A container without a cgroup namespace reads its group's path as the host's, and has only that group mounted:
        // the path then begins with the mount's root. Of a group elsewhere nothing but the mount point can be read.
        let inside = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
        directories.extend(inside.ancestors().map(|group| (version, Path::new(mount_point).join(group))));
    }
    directories
}

/// Version, root and mount point, if the line of mountinfo (proc_pid_mountinfo(5)) is a mount with the CPU controller:
/// `31 23 0:28 ROOT MOUNT_POINT options [optional fields] - TYPE source SUPER_OPTIONS`.
fn cpu_mount(line: &str) -> Option<(Version, &str, &str)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, mount_point) = (mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let (kind, options) = (file_system.next()?, file_system.nth(1)?);
    match kind {
        "cgroup2" => Some((Version::V2, root, mount_point)),
        "cgroup" if options.split(',').any(|option| option == "cpu") => Some((Version::V1, root, mount_point)),
        _ => None,
    }
}

/// The path of this process's group, if the line of /proc/self/cgroup is the one that counts for the CPU controller:
/// `0::/path` in version 2, `4:cpu,cpuacct:/path` in version 1.
fn group_path(line: &str, version: Version) -> Option<&str> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let is_it = match version {
        Version::V2 => hierarchy == "0" && controllers.is_empty(),
        Version::V1 => controllers.split(',').any(|controller| controller == "cpu"),
    };
    is_it.then_some(path)
}

/// `150000 100000`, or `max 100000` for no quota.
fn quota_v2(cpu_max: &str) -> Option<u32> {
    let (quota, period) = cpu_max.trim_end().split_once(' ')?;
    whole_cpus(quota, period)
}

/// Two files; a quota of -1 is none.
fn quota_v1(quota: &str, period: &str) -> Option<u32> {
    whole_cpus(quota.trim_end(), period.trim_end())
}

/// Microseconds of CPU per microseconds of time, rounded up. `max`, -1 and a period of zero are no quota.
fn whole_cpus(quota: &str, period: &str) -> Option<u32> {
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok().filter(|period| *period > 0)?);
    u32::try_from(quota.div_ceil(period)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_may_use_a_cpu_and_none_outside_of_its_mask() {
        assert!((1..=affinity()).contains(&usable()), "{} of {}", usable(), affinity());
    }

    #[test]
    fn a_quota_is_rounded_up() {
        assert_eq!(quota_v2("150000 100000\n"), Some(2));
        assert_eq!(quota_v2("200000 100000\n"), Some(2));
        assert_eq!(quota_v2("1000 100000\n"), Some(1));
        assert_eq!(quota_v1("250000\n", "100000\n"), Some(3));
    }

    #[test]
    fn no_quota_limits_nothing() {
        assert_eq!(quota_v2("max 100000\n"), None);
        assert_eq!(quota_v1("-1\n", "100000\n"), None);
        for nonsense in ["", "max", "1", "1 0", "a b", "1 2 3"] {
            assert_eq!(quota_v2(nonsense), None, "{nonsense:?}");
        }
    }

    const V2_MOUNT: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1_MOUNTS: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 /docker/c1 /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        33 31 0:30 /docker/c1 /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";

    fn paths(groups: &str, mounts: &str) -> Vec<String> {
        directories(groups, mounts).iter().map(|(_, path)| path.display().to_string()).collect()
    }

    #[test]
    fn version_2_walks_up_to_the_root() {
        let expected = ["/sys/fs/cgroup/system.slice/app.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/"];
        assert_eq!(paths("0::/system.slice/app.service\n", V2_MOUNT), expected);
        assert_eq!(paths("0::/\n", V2_MOUNT), ["/sys/fs/cgroup/"]);
    }

    #[test]
    fn version_1_takes_the_mount_with_the_cpu_controller_only() {
        let groups = "5:cpuset:/docker/c1\n4:cpu,cpuacct:/docker/c1/inner\n0::/\n";
        let expected = ["/sys/fs/cgroup/cpu,cpuacct/inner", "/sys/fs/cgroup/cpu,cpuacct/"];
        assert_eq!(paths(groups, V1_MOUNTS), expected);
    }

    #[test]
    fn a_group_outside_of_the_mount_leaves_the_mount_point() {
        assert_eq!(paths("0::/../elsewhere\n", &V2_MOUNT.replace(" / ", " /docker/c1 ")), ["/sys/fs/cgroup/"]);
    }

    #[test]
    fn the_smallest_quota_on_the_way_up_holds() {
        let directories = directories("0::/a/b\n", V2_MOUNT);
        let read = |path: &Path| match path.to_str() {
            Some("/sys/fs/cgroup/a/b/cpu.max") => Some("max 100000\n".to_owned()),
            Some("/sys/fs/cgroup/a/cpu.max") => Some("250000 100000\n".to_owned()),
            Some("/sys/fs/cgroup/cpu.max") => Some("400000 100000\n".to_owned()),
            _ => None,
        };
        assert_eq!(smallest_quota(&directories, &read), Some(3));
        assert_eq!(smallest_quota(&directories, &|_| None), None);
    }

    #[test]
    fn version_1_reads_both_of_its_files() {
        let read = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
            Some("cpu.cfs_quota_us") => Some("150000\n".to_owned()),
            Some("cpu.cfs_period_us") => Some("50000\n".to_owned()),
            _ => None,
        };
        assert_eq!(smallest_quota(&[(Version::V1, PathBuf::from("/cpu"))], &read), Some(3));
    }
}
