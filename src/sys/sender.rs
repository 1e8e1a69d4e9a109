//! Sockets on which this process only speaks, to those who collect logs and metrics: it never waits for them.

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

/// Where to send, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Datagrams.
    Udp(SocketAddr),
    /// A stream.
    Tcp(SocketAddr),
    /// Datagrams to this socket.
    UnixDatagrams(PathBuf),
    /// A stream to this socket.
    UnixStream(PathBuf),
}

/// A socket that is connected, or is about to be: non-blocking, close-on-exec.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// Connects, or begins to: a stream over TCP takes nothing ([`io::ErrorKind::WouldBlock`]) until it is connected.
    ///
    /// # Errors
    /// Nobody is there, as far as that can be told at once; or no descriptor is left.
    pub fn open(destination: &Destination) -> io::Result<Self> {
        let address = |address: &SocketAddr| SockaddrStorage::from(*address);
        match destination {
            Destination::Udp(to) => Self::connect(&address(to), SockType::Datagram),
            Destination::Tcp(to) => Self::connect(&address(to), SockType::Stream),
            Destination::UnixDatagrams(path) => Self::connect(&UnixAddr::new(path)?, SockType::Datagram),
            Destination::UnixStream(path) => Self::connect(&UnixAddr::new(path)?, SockType::Stream),
        }
    }

    fn connect(address: &dyn SockaddrLike, kind: SockType) -> io::Result<Self> {
        let family = address.family().unwrap_or(AddressFamily::Unix);
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(family, kind, flags, None)?;
        match connect(socket.as_raw_fd(), address) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(Self(socket)),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a datagram, or from the front of `bytes` on a stream, if that can be done at once. Makes no signal.
    ///
    /// # Errors
    /// There is no room ([`io::ErrorKind::WouldBlock`]), or nobody listens any more.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match socket::send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
                // A network card without room is no other case than a socket without it.
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(Errno::EINTR) => {}
                sent => return Ok(sent?),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn datagrams_arrive_one_by_one_and_nobody_waits() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = Sender::open(&Destination::Udp(collector.local_addr().unwrap())).unwrap();
        for text in [&b"one"[..], b"two"] {
            assert_eq!(sender.send(text).unwrap(), 3);
            let mut room = [0; 16];
            assert_eq!(collector.recv(&mut room).unwrap(), 3);
            assert_eq!(&room[..3], text);
        }
        drop(collector);
        // The first one finds out that nobody is there, the next one is told.
        sender.send(b"three").unwrap();
        assert_eq!(sender.send(b"four").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_queue_that_is_full_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collector");
        let _collector = UnixDatagram::bind(&path).unwrap();
        let sender = Sender::open(&Destination::UnixDatagrams(path)).unwrap();
        let failure = (0..100_000).find_map(|_| sender.send(b"more").err()).expect("the queue has an end");
        assert_eq!(failure.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_stream_is_connected_in_the_background() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = Sender::open(&Destination::Tcp(listener.local_addr().unwrap())).unwrap();
        let (mut collector, _) = listener.accept().unwrap();
        assert_eq!(sender.send(b"text").unwrap(), 4);
        drop(sender);
        let mut received = String::new();
        collector.read_to_string(&mut received).unwrap();
        assert_eq!(received, "text");
    }
}
