//! [`Privileges`]: whom the workers run as. The master stays who it is: it binds, opens logs and signals.

use super::forking;
use super::start_error::StartError;
use crate::log::Owner;
use crate::settings::Settings;
use crate::sys::daemon;
use crate::sys::process::{self, Pid};
use crate::sys::user::{self, Account, Credentials};
use std::io;

/// What a worker takes on before it runs Python.
#[derive(Clone, Debug)]
pub(super) struct Privileges {
    /// `None`: those of the master.
    credentials: Option<Credentials>,
    umask: u32,
}

impl Privileges {
    /// Looks user and group up.
    ///
    /// # Errors
    /// A usage error: there is no such user or group.
    pub(super) fn look_up(settings: &Settings) -> Result<Self, StartError> {
        Ok(Self { credentials: credentials(settings)?, umask: settings.umask })
    }

    /// Sets the umask of the master: what `--umask` takes away is taken from the files of the server, too, and what the
    /// operator's own umask takes away as well, which is the `inherited` one.
    pub(super) fn set_umask_of_master(&self, inherited: u32) {
        daemon::set_umask(inherited | self.umask);
    }

    /// Who shall own what the workers have to open by themselves: log files, sockets; `None` if the master may.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.credentials.as_ref().map(|credentials| Owner { uid: credentials.uid(), gid: credentials.gid() })
    }

    /// Has a process try whether a worker may do all this.
    ///
    /// # Errors
    /// The workers cannot be who they should.
    pub(super) fn rehearse(&self) -> Result<(), StartError> {
        self.as_worker(|| Ok(())).map_err(|error| {
            StartError::failed(format!("the workers cannot run as the user and group of --user and --group: {error}"))
        })
    }

    /// What `look` finds as a worker would.
    ///
    /// # Errors
    /// Those of `look`; and those of the change, unless [`rehearse`](Self::rehearse) has told of them.
    pub(super) fn as_worker(&self, look: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.credentials.is_none() {
            return look();
        }
        let parent = process::own_pid();
        let look = || self.take_on(parent).and_then(|()| look()).map_err(|error| error.to_string());
        let told = process::told_by_a_child(forking::fork, || look().map(|()| String::new()), None)?;
        told.map(drop).map_err(io::Error::other)
    }

    /// Makes the calling process, which `parent` has forked, what a worker is to be. Once it is, nothing happens.
    ///
    /// # Errors
    /// It is not, and must not go on.
    pub(super) fn take_on(&self, parent: Pid) -> io::Result<()> {
        // As with gunicorn, what the application makes is for everybody to write to unless --umask says otherwise.
        daemon::set_umask(self.umask);
        match &self.credentials {
            Some(credentials) if !credentials.are_taken_on()? => credentials.take_on(parent),
            _ => Ok(()),
        }
    }
}

/// The umask that this process was started with.
pub(super) fn inherited_umask() -> u32 {
    let inherited = daemon::set_umask(0o777);
    daemon::set_umask(inherited);
    inherited
}

/// `None` if there is nothing to change.
fn credentials(settings: &Settings) -> Result<Option<Credentials>, StartError> {
    if settings.user.is_none() && settings.group.is_none() && !settings.initgroups {
        return Ok(None);
    }
    let account = account(settings.user.as_deref())?;
    let gid = group(settings, &account)?;
    let plain = Credentials::new(&account, gid);
    // Without being root a process cannot change its further groups, and has those of its user already.
    if plain.are_own() && !(settings.initgroups && plain.uid() == 0) {
        return Ok(None);
    }
    if !settings.initgroups {
        return Ok(Some(plain));
    }
    let with_groups = Credentials::with_groups(&account, gid);
    with_groups.map(Some).map_err(|error| StartError::usage(format!("--initgroups: {error}")))
}

fn account(user: Option<&str>) -> Result<Account, StartError> {
    match user {
        Some(user) => Account::look_up(user).map_err(|error| StartError::usage(format!("--user {user}: {error}"))),
        None => Account::own().map_err(StartError::failed),
    }
}

/// That of `--group`, else that of `--user`, else our own.
fn group(settings: &Settings, account: &Account) -> Result<u32, StartError> {
    match (&settings.group, &settings.user) {
        (Some(group), _) => {
            user::look_up_group(group).map_err(|error| StartError::usage(format!("--group {group}: {error}")))
        }
        // Staying in the group of root would be a surprise.
        (None, Some(user)) => account.group().ok_or_else(|| {
            StartError::usage(format!(
                "--user {user}: no user has this number, so that its group has to be given with --group"
            ))
        }),
        (None, None) => Ok(user::own_group()),
    }
}
