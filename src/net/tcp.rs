//! TCP: look the name up, set the options of the socket, bind, listen.

use super::{BindOptions, Cause, Listener, LocalAddress, Origin, set_backlog};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind as bind_socket, setsockopt, socket, sockopt,
};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsRawFd;

/// `[::]` also takes IPv4 connections unless net.ipv6.bindv6only says otherwise: like gunicorn, IPV6_V6ONLY is left
/// as the system has it.
pub(super) fn bind(host: &str, port: u16, options: &BindOptions) -> Result<Listener, Cause> {
    let address = look_up(host, port)?;
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    // Or a restart would have to wait for the old connections to leave TIME_WAIT.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if options.reuse_port {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    // Accepted sockets inherit it (Linux), which saves a system call on each.
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    bind_socket(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    set_backlog(&socket, options.backlog)?;
    let socket = TcpListener::from(socket);
    Ok(Listener::new(LocalAddress::Tcp(socket.local_addr()?), socket.into(), Origin::Server)?)
}

/// The first address of a name, IPv4 before IPv6: what gunicorn listens on, and what makes `localhost` 127.0.0.1.
pub(super) fn look_up(host: &str, port: u16) -> Result<SocketAddr, Cause> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(|_| Cause::UnknownHost)?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or(Cause::UnknownHost)
}
