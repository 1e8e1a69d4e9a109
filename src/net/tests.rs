//! Sockets that are really bound, in directories and on ports of their own.

use super::tcp::look_up;
use super::unix::try_connect;
use super::*;
use crate::sys::socket::accept;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};

const OPTIONS: BindOptions = BindOptions { backlog: 16, reuse_port: false, umask: 0 };

fn tcp(host: &str, port: u16) -> BindAddress {
    BindAddress::Tcp { host: host.into(), port }
}

fn bound(address: &BindAddress) -> Listener {
    let mut listeners = bind(address, &OPTIONS).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(listeners.len(), 1);
    listeners.remove(0)
}

fn refused(address: &BindAddress) -> String {
    match bind(address, &OPTIONS) {
        Ok(listeners) => panic!("{address} was bound: {listeners:?}"),
        Err(error) => error.to_string(),
    }
}

fn address_of(listener: &Listener) -> SocketAddr {
    match &listener.local {
        LocalAddress::Tcp(address) => *address,
        other => panic!("{other}"),
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
    let _listener = bind(&directory.address("s"), &BindOptions { backlog: 2, ..OPTIONS }).expect("a listener");
    let connect = |_| try_connect(&directory.path("s"));
    // The clients are closed at once, their connections stay in the queue.
    let results: Vec<_> = (0..4).map(connect).collect();
    assert_eq!(results, [Ok(()), Ok(()), Ok(()), Err(Errno::EAGAIN)]);
    bind(&tcp("127.0.0.1", 0), &BindOptions { backlog: u32::MAX, ..OPTIONS }).expect("as long as the kernel allows");
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
    let text = |address: BindAddress| BindError::new(&address, Errno::EACCES.into()).to_string();
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
fn the_permissions_of_a_socket_file_follow_the_umask() {
    let directory = Directory::new("umask");
    let options = BindOptions { umask: 0o117, ..OPTIONS };
    let _listener = bind(&directory.address("s"), &options).expect("a listener");
    let mode = fs::metadata(directory.path("s")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn a_socket_file_is_given_away_and_other_sockets_are_not() {
    let directory = Directory::new("given");
    let listener = bound(&directory.address("s"));
    let owner = || fs::metadata(directory.path("s")).map(|file| (file.uid(), file.gid())).expect("a file");
    let (user, group) = owner();
    // Who is not root may give to nobody but himself.
    let other = if user == 0 { (4321, 4322) } else { (user, group) };
    listener.give_to(Some(other.0), Some(other.1)).expect("given");
    assert_eq!(owner(), other);
    listener.give_to(None, None).expect("nothing to do");
    assert_eq!(owner(), other);
    bound(&tcp("127.0.0.1", 0)).give_to(Some(user), None).expect("nothing to do");
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
    assert!(text.ends_with(": it has 108 bytes, and a socket can have 107 at most"), "{text}");
}

/// Each of them finds the stale file; the file of the one that came first must survive the others.
#[test]
fn of_many_that_start_at_once_one_listens() {
    let directory = Directory::new("race");
    for round in 0..20 {
        drop(bound(&directory.address("s")));
        let start = std::sync::Barrier::new(8);
        let bind_at_once = || {
            start.wait();
            bind(&directory.address("s"), &OPTIONS).ok()
        };
        let listeners: Vec<Listener> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(bind_at_once)).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).flatten().collect()
        });
        assert_eq!(listeners.len(), 1, "round {round}");
        try_connect(&directory.path("s")).unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

#[test]
fn an_abstract_name_needs_no_file() {
    let name = format!("minicorn-net-{}/name", std::process::id());
    let listener = bound(&BindAddress::Abstract(name.clone()));
    assert_eq!(listener.to_string(), format!("unix:@{name}"));
    assert!(refused(&BindAddress::Abstract(name)).ends_with(": the address is in use, another process listens there"));
    listener.unlink().expect("nothing to do");
    let text = refused(&BindAddress::Abstract("n".repeat(108)));
    assert!(text.ends_with(": it has 108 bytes, and a socket can have 107 at most"), "{text}");
}

#[test]
fn a_port_is_shared_by_those_that_want_it() {
    let options = BindOptions { reuse_port: true, ..OPTIONS };
    let first = bind(&tcp("127.0.0.1", 0), &options).expect("a listener");
    let address = tcp("127.0.0.1", address_of(&first[0]).port());
    bind(&address, &options).expect("another one");
    refused(&address);
}

/// The number under which a program started with this descriptor would have it. Nobody owns it.
fn inherited(socket: impl AsFd) -> u32 {
    let raw = nix::unistd::dup(socket.as_fd()).map(std::os::fd::IntoRawFd::into_raw_fd).expect("another descriptor");
    u32::try_from(raw).expect("a number")
}

#[test]
fn inherited_sockets_listen_already() {
    let directory = Directory::new("inherited");
    let name = BindAddress::Abstract(format!("minicorn-net-{}-inherited", std::process::id()));
    for address in [tcp("127.0.0.1", 0), tcp("::1", 0), directory.address("s"), name] {
        let made = bound(&address);
        let flags = OFlag::from_bits_retain(fcntl(&made, FcntlArg::F_GETFL).expect("F_GETFL"));
        fcntl(&made, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).expect("F_SETFL");
        let listener = bound(&BindAddress::Descriptor(inherited(&made)));
        assert_eq!(listener.local, made.local);
        assert!(!listener.is_ours() && made.is_ours());
        let status = OFlag::from_bits_retain(fcntl(&listener, FcntlArg::F_GETFL).expect("F_GETFL"));
        let descriptor = FdFlag::from_bits_retain(fcntl(&listener, FcntlArg::F_GETFD).expect("F_GETFD"));
        assert!(status.contains(OFlag::O_NONBLOCK) && descriptor.contains(FdFlag::FD_CLOEXEC), "{address}");
        listener.unlink().expect("nothing to do");
    }
    assert!(directory.path("s").exists());
}

#[test]
fn what_cannot_be_listened_on_is_not_adopted() {
    let unconnected = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let busy = TcpListener::bind(unconnected).expect("a port");
    let connected = TcpStream::connect(unconnected).expect("a connection");
    let (datagram, _other) = UnixDatagram::pair().expect("two sockets");
    let (stream, _other) = UnixStream::pair().expect("two sockets");
    let (pipe, _writer) = std::io::pipe().expect("a pipe");
    for (number, reason) in [
        (inherited(&connected), "the socket does not listen; whoever made it has to call listen(2)"),
        (inherited(&stream), "the socket does not listen; whoever made it has to call listen(2)"),
        (inherited(&datagram), "this descriptor is not a stream socket"),
        (inherited(&pipe), "this descriptor is not a stream socket"),
        (busy.as_raw_fd().cast_unsigned(), "the program was not started with a descriptor of this number"),
        (1_000_000, "the program was not started with a descriptor of this number"),
    ] {
        let text = refused(&BindAddress::Descriptor(number));
        assert_eq!(text, format!("cannot listen on fd://{number}: {reason}"));
    }
}

/// What the next master has to know of each socket arrives with it.
#[test]
fn listeners_are_handed_over_with_their_origin() {
    let directory = Directory::new("handed");
    let (port, file) = (bound(&tcp("127.0.0.1", 0)), bound(&directory.address("s")));
    let foreign = bound(&BindAddress::Descriptor(inherited(bound(&tcp("127.0.0.1", 0)))));
    let listeners = [port, file, foreign];
    let renamed = |listener: &Listener| {
        let own = exec::number(listener.as_fd()).to_string();
        listener.hand_over().replacen(&own, &inherited(listener).to_string(), 1)
    };
    let text = listeners.iter().map(renamed).collect::<Vec<_>>().join(",");
    let adopted = HandedOver::parse(&text).expect("our own text").adopt().expect("the same sockets");
    for (listener, adopted) in listeners.iter().zip(&adopted) {
        assert_eq!((&listener.local, listener.origin), (&adopted.local, adopted.origin));
    }
    adopted[1].unlink().expect("unlinked");
    assert!(!directory.path("s").exists());
    for wrong in ["", "x", "3,", "3=", "3=else", "3=1:", "-3", "3=1:2:3"] {
        assert_eq!(HandedOver::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn newcomers_are_refused_and_those_who_wait_are_not() {
    let directory = Directory::new("refuse");
    for address in [tcp("127.0.0.1", 0), tcp("::1", 0), directory.address("s")] {
        let listener = bound(&address);
        let connect = || match &listener.local {
            LocalAddress::Tcp(address) => TcpStream::connect_timeout(address, PATIENCE).map(drop),
            LocalAddress::Unix(path) => UnixStream::connect(path).map(drop),
            LocalAddress::Abstract(name) => panic!("{name}"),
        };
        (0..3).for_each(|_| connect().expect("a connection"));
        listener.refuse_newcomers().expect("a listener that can refuse");
        let error = connect().expect_err("nobody is let in any more");
        let is_unix = matches!(listener.local, LocalAddress::Unix(_));
        let expected = if is_unix { io::ErrorKind::ConnectionRefused } else { io::ErrorKind::TimedOut };
        assert_eq!(error.kind(), expected, "{address}");
        let accepted = || accept(listener.as_fd()).is_ok();
        assert_eq!([accepted(), accepted(), accepted(), accepted()], [true, true, true, false], "{address}");
    }
}

/// Shorter than the second after which a client tries again.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(200);
