//! Users and groups: looked up by name or number, and taken on by a process for good.
//!
//! Who runs as whom is decided in `program`.

use super::process::{self, Pid};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{self, Gid, Group, Uid, User};
use std::ffi::CString;
use std::io;

/// Whom a process can be: a user, its group, and the groups that it is in besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// A user as it was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    uid: Uid,
    /// What the user database knows about it; a number may be used that it does not know.
    known: Option<Known>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    name: String,
    gid: Gid,
}

impl Account {
    /// By name or, failing that, by number.
    ///
    /// # Errors
    /// There is no such user, or the database of users cannot be read.
    pub fn look_up(name_or_number: &str) -> io::Result<Self> {
        if let Some(user) = User::from_name(name_or_number)? {
            return Ok(user.into());
        }
        let uid = Uid::from_raw(number(name_or_number, "user")?);
        Ok(User::from_uid(uid)?.map_or(Self { uid, known: None }, Self::from))
    }

    /// Of the calling process.
    ///
    /// # Errors
    /// The database of users cannot be read.
    pub fn own() -> io::Result<Self> {
        let uid = unistd::geteuid();
        Ok(User::from_uid(uid)?.map_or(Self { uid, known: None }, Self::from))
    }

    /// The group of this user alone; `None` if the user database does not know the user.
    pub fn group(&self) -> Option<u32> {
        self.known.as_ref().map(|known| known.gid.as_raw())
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { uid: user.uid, known: Some(Known { name: user.name, gid: user.gid }) }
    }
}

/// The number of a group, by its name or, failing that, the number as it stands.
///
/// # Errors
/// There is no such group, or the database of groups cannot be read.
pub fn look_up_group(name_or_number: &str) -> io::Result<u32> {
    match Group::from_name(name_or_number)? {
        Some(group) => Ok(group.gid.as_raw()),
        None => number(name_or_number, "group"),
    }
}

/// The group of the calling process.
pub fn own_group() -> u32 {
    unistd::getegid().as_raw()
}

/// The highest number is not one: for the system calls it stands for "as it is".
fn number(text: &str, what: &str) -> io::Result<u32> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|&number| is_decimal && number != u32::MAX);
    number.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no such {what}")))
}

impl Credentials {
    /// `account` in the group `gid` and in no other.
    pub fn new(account: &Account, gid: u32) -> Self {
        let gid = Gid::from_raw(gid);
        Self { uid: account.uid, gid, groups: vec![gid] }
    }

    /// As [`new`](Self::new), and in all groups that have the user as a member.
    ///
    /// # Errors
    /// The user database does not know the user, or cannot be read.
    pub fn with_groups(account: &Account, gid: u32) -> io::Result<Self> {
        let gid = Gid::from_raw(gid);
        let Some(known) = &account.known else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the user has no name to look its groups up by"));
        };
        let name = CString::new(known.name.as_str())?;
        Ok(Self { uid: account.uid, gid, groups: unistd::getgrouplist(&name, gid)? })
    }

    /// The number of the user.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// The number of the group.
    pub fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// Whether the calling process has this user and this group; its further groups are not looked at.
    pub fn are_own(&self) -> bool {
        self.uid == unistd::geteuid() && self.gid == unistd::getegid()
    }

    /// Whether the calling process has all of them: what it was before it has given up.
    ///
    /// # Errors
    /// None on Linux.
    pub fn are_taken_on(&self) -> io::Result<bool> {
        let sorted = |mut groups: Vec<Gid>| {
            groups.sort_by_key(|gid| gid.as_raw());
            groups.dedup();
            groups
        };
        Ok(self.are_own() && sorted(unistd::getgroups()?) == sorted(self.groups.clone()))
    }

    /// The calling process takes them on, for good, and goes on being killed when `parent` goes.
    ///
    /// # Errors
    /// It may not, it could take them back, or the parent is gone already. What has changed so far stays changed: the
    /// process is to end.
    pub fn take_on(&self, parent: Pid) -> io::Result<()> {
        process::check_single_thread()?;
        // In this order: each of them takes the right to the one before it away.
        unistd::setgroups(&self.groups)?;
        unistd::setresgid(self.gid, self.gid, self.gid)?;
        unistd::setresuid(self.uid, self.uid, self.uid)?;
        self.check_for_good()?;
        // The kernel thinks that the process might have secrets of its former user, and takes /proc/self and its core
        // files away from it. But all it has is what the server means it to have.
        prctl::set_dumpable(true)?;
        process::die_with_parent(parent)
    }

    /// A capability that survives the change of the user, or a system that does not keep its word, must not leave us with
    /// rights that we think we have given up.
    fn check_for_good(&self) -> io::Result<()> {
        let (user, group) = (unistd::getresuid()?, unistd::getresgid()?);
        let are_users = [user.real, user.effective, user.saved].iter().all(|uid| *uid == self.uid);
        let are_groups = [group.real, group.effective, group.saved].iter().all(|gid| *gid == self.gid);
        let root = Uid::from_raw(0);
        let is_undone = self.uid != root && unistd::setresuid(root, root, root) != Err(Errno::EPERM);
        if !are_users || !are_groups || is_undone {
            return Err(io::Error::other("the process could take its former rights back"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let root = Account::look_up("root").unwrap();
        assert_eq!(root, Account::look_up("0").unwrap());
        assert_eq!(root.group(), Some(0));
        assert_eq!(look_up_group("root").unwrap(), 0);
        assert_eq!(look_up_group("4242").unwrap(), 4242);
        let stranger = Account::look_up("4000000000").unwrap();
        assert_eq!((stranger.uid.as_raw(), stranger.group()), (4_000_000_000, None));
    }

    #[test]
    fn what_is_no_user_and_no_group() {
        for text in ["no-such-user", "", "-1", "+1", " 0", "4294967295", "4294967296", "0x0", "a\0b"] {
            assert!(Account::look_up(text).is_err(), "{text:?}");
            assert!(look_up_group(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn groups_besides_are_only_those_that_are_asked_for() {
        let root = Account::look_up("root").unwrap();
        assert_eq!(Credentials::new(&root, 7).groups, [Gid::from_raw(7)]);
        assert!(Credentials::with_groups(&root, 7).unwrap().groups.contains(&Gid::from_raw(7)));
        let stranger = Account::look_up("4000000000").unwrap();
        assert!(Credentials::with_groups(&stranger, 7).is_err());
    }
}
