//! From an address to a listening socket: made here, or made by somebody else and handed to this process. What cannot
//! be had becomes one sentence for the operator.
//!
//! Accepting belongs to the worker. The name of an address and its text belong to `settings`; who handed what to whom,
//! and in which variables, belongs to `program`.

mod error;
mod handed;
mod tcp;
mod unix;

pub use self::error::BindError;
pub use self::handed::{HandedOver, adopt};

use self::error::Cause;
use self::unix::FileId;
use crate::settings::{BindAddress, Settings};
use crate::sys::exec;
use crate::sys::shared::SharedLines;
use crate::sys::socket::{refuse_handshakes, waiting_connections};
use nix::sys::socket::{Backlog, Shutdown, listen, shutdown};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

/// A socket that listens: non-blocking, close-on-exec, shared by all workers.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens in fact: the port is the real one when any was asked for.
    pub local: LocalAddress,
    /// Its place in [`Listeners::places`].
    pub number: usize,
    socket: OwnedFd,
    origin: Origin,
    /// For all processes that have it: whether it is closed to newcomers.
    shared: SharedLines,
}

/// Where to accept, and where connections may come from that others have accepted.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// Those that newcomers come to.
    pub open: Vec<Arc<Listener>>,
    /// All addresses that the server has listened at, by the number of their listener: a connection may be older than the
    /// configuration.
    pub places: Arc<Vec<LocalAddress>>,
}

/// The address that a listener got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// Address and real port.
    Tcp(SocketAddr),
    /// Absolute, so that it stays true after a change of directory.
    Unix(PathBuf),
    /// A name in the abstract namespace, without its leading NUL; what is not UTF-8 in it is replaced.
    Abstract(String),
}

/// Who made a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This server; an older master of it counts.
    Server,
    /// This server, and with it this file.
    ServerWithFile(FileId),
    /// Whoever started this server, and goes on using the socket when it stops: systemd, circus, supervisor.
    Starter,
}

/// How sockets are made.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// Connections that the kernel queues.
    pub backlog: u32,
    /// Whether another server may listen on the same port, if it wants that, too.
    pub reuse_port: bool,
    /// Bits that the permissions of a socket file shall not have.
    pub umask: u32,
}

impl From<&Settings> for BindOptions {
    fn from(settings: &Settings) -> Self {
        Self { backlog: settings.backlog, reuse_port: settings.reuse_port, umask: settings.umask }
    }
}

/// Listens on `address`. One listener comes back; a list because one address can also stand for several sockets.
///
/// # Errors
/// The address is unknown, taken or not allowed.
pub fn bind(address: &BindAddress, options: &BindOptions) -> Result<Vec<Listener>, BindError> {
    let listener = match address {
        BindAddress::Tcp { host, port } => tcp::bind(host, *port, options),
        BindAddress::Unix(path) => unix::bind(path, options),
        BindAddress::Abstract(name) => unix::bind_abstract(name, options),
        BindAddress::Descriptor(number) => return Ok(vec![adopt(*number)?]),
    };
    match listener {
        Ok(listener) => Ok(vec![listener]),
        Err(cause) => Err(BindError::new(address, cause)),
    }
}

/// Also a second listen(2), after the standard library's own: it changes the length of the queue. What is longer than
/// nix can say (4096) becomes as long as net.core.somaxconn allows; the kernel cuts at that in any case.
fn set_backlog(listener: &impl AsFd, backlog: u32) -> nix::Result<()> {
    let exact = i32::try_from(backlog).ok().and_then(|backlog| Backlog::new(backlog).ok());
    listen(listener, exact.unwrap_or(Backlog::MAXALLOWABLE))
}

impl Listener {
    fn new(local: LocalAddress, socket: OwnedFd, origin: Origin) -> io::Result<Self> {
        Ok(Self { local, number: 0, socket, origin, shared: SharedLines::new(1)? })
    }

    /// Whether the server made it, and nobody but the server uses it.
    pub fn is_ours(&self) -> bool {
        self.origin != Origin::Starter
    }

    /// Gives the socket file, if the server made one, to the user and group that the workers will have.
    ///
    /// # Errors
    /// The file is gone, or may not be given away.
    pub fn give_to(&self, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
        match (&self.local, self.origin) {
            // Of the path, not of the descriptor: fchown(2) would change an inode that no client ever looks at.
            (LocalAddress::Unix(path), Origin::ServerWithFile(_)) => std::os::unix::fs::lchown(path, user, group),
            _ => Ok(()),
        }
    }

    /// Lets nobody new connect; who has connected, or is about to, can still be accepted. For the last master that has the
    /// socket, when it stops: a connection that waits when the last descriptor of the socket is closed would be reset. New
    /// clients of a Unix socket are refused at once, those of a port try again after a second, and are refused then.
    ///
    /// # Errors
    /// The kernel takes no filter for this socket.
    pub fn refuse_newcomers(&self) -> io::Result<()> {
        // Whoever accepts from it knows from here on that what waits is all that comes.
        self.shared[0].0[0].store(1, Release);
        match self.local {
            LocalAddress::Tcp(_) => refuse_handshakes(self.as_fd()),
            LocalAddress::Unix(_) | LocalAddress::Abstract(_) => Ok(shutdown(self.socket.as_raw_fd(), Shutdown::Read)?),
        }
    }

    /// Connections that wait to be accepted; `None` where the kernel does not tell.
    pub fn waiting(&self) -> Option<u64> {
        match self.local {
            LocalAddress::Tcp(_) => waiting_connections(self.as_fd()).ok().map(u64::from),
            LocalAddress::Unix(_) | LocalAddress::Abstract(_) => None,
        }
    }

    /// Whether nobody new connects any more, see [`refuse_newcomers`](Self::refuse_newcomers).
    pub fn is_closed(&self) -> bool {
        self.shared[0].0[0].load(Acquire) != 0
    }

    /// Changes the number of connections that the kernel queues.
    ///
    /// # Errors
    /// None on Linux.
    pub fn set_backlog(&self, backlog: u32) -> io::Result<()> {
        Ok(set_backlog(&self.socket, backlog)?)
    }

    /// Whether `--bind` may have meant this listener, for those that were handed over without it.
    pub fn may_be_at(&self, address: &BindAddress) -> bool {
        match (address, &self.local) {
            (BindAddress::Tcp { host, port }, LocalAddress::Tcp(local)) => {
                let ip = host.parse::<std::net::IpAddr>();
                (*port == 0 || *port == local.port()) && ip.is_ok_and(|ip| ip == local.ip())
            }
            (BindAddress::Unix(path), LocalAddress::Unix(local)) => {
                unix::absolute(path).is_ok_and(|path| path == *local)
            }
            (BindAddress::Abstract(name), LocalAddress::Abstract(local)) => name == local,
            _ => false,
        }
    }

    /// Removes the socket file that the server made, unless another server's stands there by now. For the last master
    /// that has the socket, when it stops; not done on drop, because every worker drops its copy.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub fn unlink(&self) -> io::Result<()> {
        match (&self.local, self.origin) {
            (LocalAddress::Unix(path), Origin::ServerWithFile(file)) => unix::remove_file(path, file),
            _ => Ok(()),
        }
    }

    /// Under which number a program finds the descriptor that this one becomes with exec(2), and what it has to know
    /// about it: an item of [`HandedOver`].
    pub fn hand_over(&self) -> String {
        let number = exec::number(self.as_fd());
        match self.origin {
            Origin::Server => number.to_string(),
            Origin::ServerWithFile(file) => format!("{number}={file}"),
            Origin::Starter => format!("{number}={}", handed::OF_STARTER),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local.fmt(f)
    }
}

/// As a URL, like [`BindAddress`].
impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalAddress::Tcp(address) => write!(f, "http://{address}"),
            LocalAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            LocalAddress::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

#[cfg(test)]
mod tests;
