//! How many connections wait at a listener, as the kernel counts them.
#![allow(unsafe_code)]

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use nix::sys::stat::fstat;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Connections that a TCP listener has for whoever accepts; `None` if the kernel does not tell.
pub fn of_tcp(listener: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: tcp_info is plain numbers, for which zeros are valid.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the kernel writes at most `length` bytes to `info`, and both live through the call.
    let result =
        unsafe { libc::getsockopt(listener.as_raw_fd(), level, name, (&raw mut info).cast(), &raw mut length) };
    // Of a listener, this field has the length of its queue (tcp_get_info in the kernel).
    (result == 0).then_some(info.tcpi_unacked)
}

/// The same for a Unix listener, which the kernel tells over netlink: sock_diag(7).
pub fn of_unix(listener: BorrowedFd<'_>) -> Option<u32> {
    let inode = u32::try_from(fstat(listener).ok()?.st_ino).ok()?;
    let kernel =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag).ok()?;
    send(kernel.as_fd().as_raw_fd(), &question(inode), MsgFlags::empty()).ok()?;
    let mut reply = [0; 512];
    // The kernel has answered before the call above came back.
    let length = recv(kernel.as_fd().as_raw_fd(), &mut reply, MsgFlags::MSG_DONTWAIT).ok()?;
    queue_length(&reply[..length])
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_RQLEN: u16 = 4;
const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: usize = 16;

/// A netlink header and a `unix_diag_req` for one socket, whatever its cookie.
fn question(inode: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend(40_u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    for word in [u32::MAX, inode, UDIAG_SHOW_RQLEN, u32::MAX, u32::MAX] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// The first number of that attribute, which for a listener is how many connections wait.
fn queue_length(reply: &[u8]) -> Option<u32> {
    if number(reply, 4)? as u16 != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut attributes = reply.get(HEADER_BYTES + MESSAGE_BYTES..)?;
    loop {
        let head = number(attributes, 0)?.to_ne_bytes();
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        if u16::from_ne_bytes([head[2], head[3]]) == UNIX_DIAG_RQLEN {
            return number(attributes, 4);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn those_who_wait_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(of_tcp(listener.as_fd()), Some(0));
        let waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
        assert_eq!(of_tcp(listener.as_fd()), Some(3));
        listener.accept().unwrap();
        assert_eq!((of_tcp(listener.as_fd()), waiting.len()), (Some(2), 3));
    }

    #[test]
    fn at_unix_sockets_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(of_unix(listener.as_fd()), Some(0));
        let waiting: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert_eq!((of_unix(listener.as_fd()), waiting.len()), (Some(3), 3));
        assert_eq!(of_tcp(listener.as_fd()), None);
    }
}
