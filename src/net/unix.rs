//! Unix sockets: with a file, which may be there already and has to be removed at the end, or with an abstract name.

use super::{BindOptions, Cause, Listener, LocalAddress, Origin, set_backlog};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind as bind_socket, connect, socket};
use std::fmt;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

/// Bytes of a socket's path or name: `sun_path` without its NUL, which ends a path and begins a name (unix(7)).
pub(super) const PATH_MAX: usize = 107;

pub(super) fn bind(path: &Path, options: &BindOptions) -> Result<Listener, Cause> {
    check_length(path.as_os_str().len())?;
    let whole = absolute(path)?;
    // With all of its path if there is room: a later master asks the socket where it is, and may be in another folder.
    let fits = check_length(whole.as_os_str().len()).is_ok();
    let address = UnixAddr::new(if fits { whole.as_path() } else { path })?;
    let _lock = DirectoryLock::of(path);
    remove_stale(path)?;
    let socket = stream_socket()?;
    bind_socket(socket.as_raw_fd(), &address)?;
    let file = FileId::of(&fs::symlink_metadata(path)?);
    // Whoever may reach the directory may connect, unless --umask says otherwise: the proxy in front is seldom the same
    // user. Nobody can connect before listen(2), so there is no moment with other permissions.
    fs::set_permissions(path, Permissions::from_mode(0o777 & !options.umask))?;
    set_backlog(&socket, options.backlog)?;
    Ok(Listener::new(LocalAddress::Unix(whole), socket, Origin::ServerWithFile(file))?)
}

pub(super) fn bind_abstract(name: &str, options: &BindOptions) -> Result<Listener, Cause> {
    check_length(name.len())?;
    let address = UnixAddr::new_abstract(name.as_bytes())?;
    let socket = stream_socket()?;
    bind_socket(socket.as_raw_fd(), &address)?;
    set_backlog(&socket, options.backlog)?;
    Ok(Listener::new(LocalAddress::Abstract(name.to_owned()), socket, Origin::Server)?)
}

/// Removes a socket file, if it is still the one that is meant.
pub(super) fn remove_file(path: &Path, file: FileId) -> io::Result<()> {
    // Another server that starts now finds the address in use or the file gone, and never has its own removed.
    let _lock = DirectoryLock::of(path);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if FileId::of(&metadata) == file => fs::remove_file(path),
        Ok(_) => Ok(()),
    }
}

pub(super) fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

fn check_length(bytes: usize) -> Result<(), Cause> {
    if bytes > PATH_MAX { Err(Cause::PathTooLong(bytes)) } else { Ok(()) }
}

fn stream_socket() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)
}

/// A server that was killed leaves its socket file behind, and bind(2) fails as long as it is there. Removed is only a
/// socket, and only one that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), Cause> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(Cause::NotASocket),
        metadata => metadata?,
    };
    match try_connect(path) {
        Err(Errno::ECONNREFUSED) => Ok(fs::remove_file(path)?),
        // Full queue: somebody listens.
        Ok(()) | Err(Errno::EAGAIN) => Err(Errno::EADDRINUSE.into()),
        // Its owner went away between the two calls.
        Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Without blocking, as `UnixStream::connect` would on a full queue.
pub(super) fn try_connect(path: &Path) -> nix::Result<()> {
    connect(stream_socket()?.as_raw_fd(), &UnixAddr::new(path)?)
}

/// Keeps other servers of this kind from touching the socket files of a directory. Of two that start at once, the one
/// would otherwise find the file of the other between its bind and its listen, and remove it as stale.
struct DirectoryLock(#[expect(dead_code, reason = "held for its drop")] Option<Flock<File>>);

impl DirectoryLock {
    /// Of the directory that this file is in. Who cannot have it goes on without: the directory may not be readable,
    /// its file system may know no locks, and somebody may hold one for another purpose for as long as he likes.
    fn of(path: &Path) -> Self {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Ok(mut directory) = File::open(parent) else { return Self(None) };
        for _ in 0..TRIES {
            match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Self(Some(lock)),
                Err((back, Errno::EWOULDBLOCK)) => directory = back,
                Err(_) => break,
            }
            thread::sleep(PAUSE);
        }
        Self(None)
    }
}

/// Together a second; whoever holds the lock for a socket makes five system calls meanwhile.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// A file whatever its name: device and inode. As text `DEVICE:INODE`, both decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        FileId(metadata.dev(), metadata.ino())
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

impl FromStr for FileId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (device, inode) = text.split_once(':').ok_or(())?;
        Ok(FileId(device.parse().map_err(drop)?, inode.parse().map_err(drop)?))
    }
}
