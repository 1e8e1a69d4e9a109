//! From an address to a listening socket: look the name up, set the socket options, bind, listen. What cannot be bound
//! becomes one sentence for the operator.
//!
//! Accepting belongs to the worker. The name of an address and its text belong to `settings`.

use std::fmt;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, listen, setsockopt, socket, sockopt,
};

use crate::settings::BindAddress;

/// A socket that listens: non-blocking, close-on-exec, shared by all workers.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens in fact: the port is the real one when any was asked for.
    pub local: LocalAddress,
    socket: OwnedFd,
    /// The socket file we made.
    file: Option<FileId>,
}

/// The address that a listener got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// Address and real port.
    Tcp(SocketAddr),
    /// Absolute, so that it stays true after a change of directory.
    Unix(PathBuf),
}

/// Listens on `address`. One listener comes back; a list because one address can also stand for several sockets.
///
/// # Errors
/// The address is unknown, taken or not allowed.
pub fn bind(address: &BindAddress, backlog: u32) -> Result<Vec<Listener>, BindError> {
    let listener = match address {
        BindAddress::Tcp { host, port } => bind_tcp(host, *port, backlog),
        BindAddress::Unix(path) => bind_unix(path, backlog),
    };
    match listener {
        Ok(listener) => Ok(vec![listener]),
        Err(cause) => Err(BindError { address: address.clone(), cause }),
    }
}

/// `[::]` also takes IPv4 connections unless net.ipv6.bindv6only says otherwise: like gunicorn, IPV6_V6ONLY is left
/// as the system has it.
fn bind_tcp(host: &str, port: u16, backlog: u32) -> Result<Listener, Cause> {
    let address = look_up(host, port)?;
    // Sets SO_REUSEADDR, or a restart would have to wait for the old connections to leave TIME_WAIT.
    let listener = TcpListener::bind(address)?;
    // Accepted sockets inherit it (Linux), which saves a system call on each.
    setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
    listener.set_nonblocking(true)?;
    set_backlog(&listener, backlog)?;
    Ok(Listener { local: LocalAddress::Tcp(listener.local_addr()?), socket: listener.into(), file: None })
}

/// The first address of a name, IPv4 before IPv6: what gunicorn listens on, and what makes `localhost` 127.0.0.1.
fn look_up(host: &str, port: u16) -> Result<SocketAddr, Cause> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(|_| Cause::UnknownHost)?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or(Cause::UnknownHost)
}

fn bind_unix(path: &Path, backlog: u32) -> Result<Listener, Cause> {
    let bytes = path.as_os_str().len();
    if bytes > UNIX_PATH_MAX {
        return Err(Cause::PathTooLong(bytes));
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    // Whoever may reach the directory may connect, as with gunicorn and its umask of 0: the proxy in front is seldom
    // the same user.
    fs::set_permissions(path, Permissions::from_mode(0o777))?;
    listener.set_nonblocking(true)?;
    set_backlog(&listener, backlog)?;
    let file = FileId::of(&fs::symlink_metadata(path)?);
    Ok(Listener { local: LocalAddress::Unix(std::path::absolute(path)?), socket: listener.into(), file: Some(file) })
}

/// Bytes of a socket's path: `sun_path` without its terminating NUL (unix(7)).
const UNIX_PATH_MAX: usize = 107;

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
fn try_connect(path: &Path) -> nix::Result<()> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(client.as_raw_fd(), &UnixAddr::new(path)?)
}

/// A second listen(2) changes the length of the queue that the standard library chose. What is longer than nix can
/// say (4096) becomes as long as net.core.somaxconn allows; the kernel cuts at that in any case.
fn set_backlog(listener: &impl AsFd, backlog: u32) -> nix::Result<()> {
    let exact = i32::try_from(backlog).ok().and_then(|backlog| Backlog::new(backlog).ok());
    listen(listener, exact.unwrap_or(Backlog::MAXALLOWABLE))
}

impl Listener {
    /// Removes the socket file of a Unix listener, unless another server's stands there by now. For the master when it
    /// stops; not done on drop, because every worker drops its copy.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub fn unlink(&self) -> io::Result<()> {
        let (LocalAddress::Unix(path), Some(file)) = (&self.local, &self.file) else { return Ok(()) };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(metadata) if FileId::of(&metadata) == *file => fs::remove_file(path),
            Ok(_) => Ok(()),
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
        }
    }
}

/// A file whatever its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        FileId(metadata.dev(), metadata.ino())
    }
}

/// Why an address cannot be listened on. Prints as one sentence with the address and the cause.
#[derive(Debug)]
pub struct BindError {
    address: BindAddress,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    UnknownHost,
    /// So many bytes.
    PathTooLong(usize),
    /// A file of another kind has the name.
    NotASocket,
    System(io::Error),
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Cause::System(error)
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Cause::System(errno.into())
    }
}

impl std::error::Error for BindError {}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match &self.cause {
            Cause::UnknownHost => f.write_str("no address is known for this host"),
            Cause::PathTooLong(bytes) => {
                write!(f, "the path has {bytes} bytes, and a socket can have {UNIX_PATH_MAX} at most")
            }
            Cause::NotASocket => f.write_str("there is a file of this name, and it is not a socket"),
            Cause::System(error) => match explanation(&self.address, error) {
                Some(explanation) => f.write_str(explanation),
                None => error.fmt(f),
            },
        }
    }
}

/// What the usual errors mean for an operator; the rest speak for themselves.
fn explanation(address: &BindAddress, error: &io::Error) -> Option<&'static str> {
    let errno = Errno::from_raw(error.raw_os_error()?);
    match (address, errno) {
        (_, Errno::EADDRINUSE) => Some("the address is in use, another process listens there"),
        (BindAddress::Tcp { .. }, Errno::EADDRNOTAVAIL) => Some("no network interface has this address"),
        (BindAddress::Tcp { port, .. }, Errno::EACCES) if *port < 1024 => {
            Some("permission denied, a port below 1024 needs root or CAP_NET_BIND_SERVICE")
        }
        (BindAddress::Unix(_), Errno::EACCES) => Some("permission denied, the directory is not writable for this user"),
        (BindAddress::Unix(_), Errno::ENOENT) => Some("the directory does not exist"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

    use super::*;

    fn tcp(host: &str, port: u16) -> BindAddress {
        BindAddress::Tcp { host: host.into(), port }
    }

    fn bound(address: &BindAddress) -> Listener {
        let mut listeners = bind(address, 16).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(listeners.len(), 1);
        listeners.remove(0)
    }

    fn refused(address: &BindAddress) -> String {
        match bind(address, 16) {
            Ok(listeners) => panic!("{address} was bound: {listeners:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn address_of(listener: &Listener) -> SocketAddr {
        match &listener.local {
            LocalAddress::Tcp(address) => *address,
            LocalAddress::Unix(path) => panic!("{path:?}"),
        }
    }

    /// A directory of its own for each test, removed at its end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("minicorn-net-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a temporary directory");
            Directory(path)
        }

        fn address(&self, name: &str) -> BindAddress {
            BindAddress::Unix(self.path(name))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            // What cannot be removed is left to the system's own cleaning.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn any_port_becomes_a_real_one() {
        let listener = bound(&tcp("127.0.0.1", 0));
        let address = address_of(&listener);
        assert_ne!(address.port(), 0);
        assert_eq!(listener.to_string(), format!("http://127.0.0.1:{}", address.port()));
        TcpStream::connect(address).expect("a connection");
    }

    #[test]
    fn localhost_is_ipv4_first() {
        assert!(address_of(&bound(&tcp("localhost", 0))).is_ipv4());
    }

    #[test]
    fn an_ipv6_address_has_brackets_in_its_url() {
        let Ok(address) = look_up("::1", 8000) else { panic!("::1 needs no looking up") };
        assert_eq!(LocalAddress::Tcp(address).to_string(), "http://[::1]:8000");
    }

    #[test]
    fn a_listener_never_blocks_and_is_closed_on_exec() {
        let directory = Directory::new("flags");
        for address in [tcp("127.0.0.1", 0), directory.address("s")] {
            let listener = bound(&address);
            let status = OFlag::from_bits_retain(fcntl(&listener, FcntlArg::F_GETFL).expect("F_GETFL"));
            let descriptor = FdFlag::from_bits_retain(fcntl(&listener, FcntlArg::F_GETFD).expect("F_GETFD"));
            assert!(status.contains(OFlag::O_NONBLOCK), "{address}");
            assert!(descriptor.contains(FdFlag::FD_CLOEXEC), "{address}");
        }
    }

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let listener = bound(&tcp("127.0.0.1", 0));
        let _client = TcpStream::connect(address_of(&listener)).expect("a connection");
        let (accepted, _) = TcpListener::from(listener.socket).accept().expect("it is in the queue");
        assert!(accepted.nodelay().expect("TCP_NODELAY"));
    }

    #[test]
    fn the_backlog_is_the_one_asked_for() {
        // A queue of length N holds N + 1 connections (Linux); a Unix socket then says EAGAIN.
        let directory = Directory::new("backlog");
        let _listener = bind(&directory.address("s"), 2).expect("a listener");
        let connect = |_| try_connect(&directory.path("s"));
        // The clients are closed at once, their connections stay in the queue.
        let results: Vec<_> = (0..4).map(connect).collect();
        assert_eq!(results, [Ok(()), Ok(()), Ok(()), Err(Errno::EAGAIN)]);
        bind(&tcp("127.0.0.1", 0), u32::MAX).expect("as long as the kernel allows");
    }

    #[test]
    fn a_busy_port() {
        let first = bound(&tcp("127.0.0.1", 0));
        let port = address_of(&first).port();
        let text = refused(&tcp("127.0.0.1", port));
        assert_eq!(
            text,
            format!("cannot listen on http://127.0.0.1:{port}: the address is in use, another process listens there")
        );
    }

    #[test]
    fn unusable_addresses() {
        // RFC 5737: for documentation, so it is nobody's.
        assert!(refused(&tcp("192.0.2.1", 0)).ends_with(": no network interface has this address"));
        // Longer than a host name may be: refused by the resolver without asking anybody.
        let host = "a".repeat(300);
        assert!(refused(&tcp(&host, 0)).ends_with(": no address is known for this host"));
    }

    #[test]
    fn permission_denied_says_what_is_missing() {
        // Tests may run as root, who is denied nothing.
        let text = |address| BindError { address, cause: Errno::EACCES.into() }.to_string();
        assert!(text(tcp("127.0.0.1", 80)).ends_with("a port below 1024 needs root or CAP_NET_BIND_SERVICE"));
        assert!(text(BindAddress::Unix("/s".into())).ends_with("the directory is not writable for this user"));
        let other = text(tcp("127.0.0.1", 8000));
        assert!(other.starts_with("cannot listen on http://127.0.0.1:8000: Permission denied"), "{other}");
    }

    #[test]
    fn a_unix_socket_is_made_and_unlinked() {
        let directory = Directory::new("made");
        let listener = bound(&directory.address("s"));
        assert_eq!(listener.to_string(), format!("unix:{}", directory.path("s").display()));
        UnixStream::connect(directory.path("s")).expect("a connection");
        let mode = fs::metadata(directory.path("s")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o777, "nginx runs as another user");
        listener.unlink().expect("unlinked");
        assert!(!directory.path("s").exists());
        listener.unlink().expect("nothing left to do");
    }

    #[test]
    fn a_dropped_listener_leaves_its_file_for_the_other_workers() {
        let directory = Directory::new("dropped");
        drop(bound(&directory.address("s")));
        assert!(directory.path("s").exists());
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let directory = Directory::new("stale");
        drop(bound(&directory.address("s")));
        let _listener = bound(&directory.address("s"));
        UnixStream::connect(directory.path("s")).expect("a connection");
    }

    #[test]
    fn a_socket_in_use_stays() {
        let directory = Directory::new("busy");
        let _listener = bound(&directory.address("s"));
        assert!(refused(&directory.address("s")).ends_with("the address is in use, another process listens there"));
        UnixStream::connect(directory.path("s")).expect("a connection");
    }

    #[test]
    fn another_kind_of_socket_in_use_stays() {
        let directory = Directory::new("datagram");
        let _socket = UnixDatagram::bind(directory.path("s")).expect("a socket");
        refused(&directory.address("s"));
        assert!(directory.path("s").exists());
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let directory = Directory::new("file");
        fs::write(directory.path("s"), "precious").expect("a file");
        assert!(refused(&directory.address("s")).ends_with("it is not a socket"));
        assert_eq!(fs::read_to_string(directory.path("s")).expect("still there"), "precious");
        // Nor is a link followed to a socket elsewhere.
        std::os::unix::fs::symlink(directory.path("elsewhere"), directory.path("link")).expect("a link");
        assert!(refused(&directory.address("link")).ends_with("it is not a socket"));
    }

    #[test]
    fn the_socket_of_a_successor_stays() {
        let directory = Directory::new("successor");
        let ours = bound(&directory.address("s"));
        fs::remove_file(directory.path("s")).expect("removed by hand");
        let _theirs = bound(&directory.address("s"));
        ours.unlink().expect("nothing to do");
        assert!(directory.path("s").exists());
    }

    #[test]
    fn impossible_socket_paths() {
        let directory = Directory::new("impossible");
        assert!(refused(&directory.address("missing/s")).ends_with(": the directory does not exist"));
        let text = refused(&BindAddress::Unix("/".repeat(108).into()));
        assert!(text.ends_with(": the path has 108 bytes, and a socket can have 107 at most"), "{text}");
    }
}
