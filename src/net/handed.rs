//! Sockets that somebody else made, and that this program was started with: by systemd, circus or supervisor, or by an
//! older master that this one is to replace. They listen already, so listen(2) is not called again: it would change the
//! length of a queue that belongs to somebody else.

use super::unix::{self, FileId};
use super::{BindError, Cause, Listener, LocalAddress, Origin};
use crate::settings::BindAddress;
use crate::sys::exec;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, UnixAddr, getsockname, getsockopt, setsockopt, sockopt,
};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Takes the socket with this number, which belongs to whoever started the program.
///
/// # Errors
/// There is no such descriptor, or it is not a listening TCP or Unix socket.
pub fn adopt(number: u32) -> Result<Listener, BindError> {
    adopt_as(number, Origin::Starter)
}

fn adopt_as(number: u32, origin: Origin) -> Result<Listener, BindError> {
    let adopted = take(number).and_then(|socket| {
        let local = check(&socket)?;
        Ok(Listener::new(local, socket, origin)?)
    });
    adopted.map_err(|cause| BindError::new(&BindAddress::Descriptor(number), cause))
}

fn take(number: u32) -> Result<OwnedFd, Cause> {
    exec::take(number).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EBADF) => Cause::NotInherited,
        _ => Cause::System(error),
    })
}

/// Makes the socket like our own, and says where it listens.
fn check(socket: &OwnedFd) -> Result<LocalAddress, Cause> {
    match getsockopt(socket, sockopt::SockType) {
        Ok(SockType::Stream) => {}
        Ok(_) | Err(Errno::ENOTSOCK) => return Err(Cause::NoStreamSocket),
        Err(errno) => return Err(errno.into()),
    }
    let local = local_address(socket)?;
    if !getsockopt(socket, sockopt::AcceptConn)? {
        return Err(Cause::NotListening);
    }
    if matches!(local, LocalAddress::Tcp(_)) {
        setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    }
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(local)
}

fn local_address(socket: &OwnedFd) -> Result<LocalAddress, Cause> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    match address.family() {
        Some(AddressFamily::Unix) => unix_address(&getsockname(socket.as_raw_fd())?),
        _ => match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => Ok(LocalAddress::Tcp(SocketAddr::V4(SocketAddrV4::from(*v4)))),
            (_, Some(v6)) => Ok(LocalAddress::Tcp(SocketAddr::V6(SocketAddrV6::from(*v6)))),
            (None, None) => Err(Cause::UnknownFamily),
        },
    }
}

fn unix_address(address: &UnixAddr) -> Result<LocalAddress, Cause> {
    match (address.path(), address.as_abstract()) {
        (Some(path), _) => Ok(LocalAddress::Unix(unix::absolute(path)?)),
        (None, Some(name)) => Ok(LocalAddress::Abstract(String::from_utf8_lossy(name).into_owned())),
        // Without an address nobody can connect, and listen(2) refuses it.
        (None, None) => Err(Cause::NotListening),
    }
}

/// The listeners that a master leaves to its successor: `3,4=starter,5=64769:1234` are one that the server made, one
/// that belongs to who started it, and one that the server made with this file.
#[derive(Debug, PartialEq, Eq)]
pub struct HandedOver(Vec<(u32, Origin)>);

/// See [`Origin::Starter`].
pub(super) const OF_STARTER: &str = "starter";

impl HandedOver {
    /// The text of all these listeners.
    pub fn render(listeners: &[Arc<Listener>]) -> String {
        listeners.iter().map(|listener| listener.hand_over()).collect::<Vec<_>>().join(",")
    }

    /// What [`render`](Self::render) wrote; `None` if it has not.
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(parse_item).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Takes the sockets.
    ///
    /// # Errors
    /// As for [`adopt`].
    pub fn adopt(&self) -> Result<Vec<Listener>, BindError> {
        self.0.iter().map(|&(number, origin)| adopt_as(number, origin)).collect()
    }
}

fn parse_item(item: &str) -> Option<(u32, Origin)> {
    let (number, origin) = match item.split_once('=') {
        None => (item, Origin::Server),
        Some((number, OF_STARTER)) => (number, Origin::Starter),
        Some((number, file)) => (number, Origin::ServerWithFile(file.parse::<FileId>().ok()?)),
    };
    Some((number.parse().ok()?, origin))
}
