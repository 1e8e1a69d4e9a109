//! Stream sockets that do not block: accept, receive, send, close.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{self, MsgFlags, Shutdown, SockaddrLike, SockaddrStorage};
use std::io::{self, IoSlice};
use std::mem;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a unix socket; the peer has no address.
    Unix,
}

/// An accepted connection: non-blocking, close-on-exec.
#[derive(Debug)]
pub struct Stream(OwnedFd);

/// How an attempt at I/O ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// So many bytes went over; 0 received bytes are the peer's end.
    Bytes(usize),
    /// Nothing now; epoll will tell.
    NotNow,
    /// The connection is broken.
    Broken,
}

/// Why no connection was accepted.
#[derive(Debug)]
pub enum AcceptError {
    /// None is waiting.
    NotNow,
    /// The peer went away while it waited; the next one can be tried at once.
    Aborted,
    /// Out of descriptors, or of memory for sockets. The connection goes on waiting.
    Exhausted(io::Error),
    /// Something else.
    Other(io::Error),
}

/// Accepts one connection.
///
/// # Errors
/// See [`AcceptError`].
pub fn accept(listener: BorrowedFd<'_>) -> Result<(Stream, Peer), AcceptError> {
    // nix's accept4 does not return the address, and asking for it afterwards is a system call more.
    // SAFETY: sockaddr_storage is plain data, for which zeros are valid.
    let mut address: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&address) as libc::socklen_t;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes at most `length` bytes to `address`, and both live through the call.
    let accepted = unsafe { libc::accept4(listener.as_raw_fd(), (&raw mut address).cast(), &raw mut length, flags) };
    if accepted < 0 {
        return Err(accept_error(Errno::last()));
    }
    // SAFETY: accept4 has just given this descriptor to us alone.
    let stream = Stream(unsafe { OwnedFd::from_raw_fd(accepted) });
    // SAFETY: the kernel has filled in an address of `length` bytes with its family.
    let address = unsafe { SockaddrStorage::from_raw((&raw const address).cast(), Some(length)) };
    Ok((stream, peer(address.as_ref())))
}

/// Has the kernel drop the first packet of every new TCP connection to this listener, and no other packet: handshakes
/// that have begun go on. A client repeats that packet, after a second for the first time.
///
/// # Errors
/// The kernel has no room for a filter, or somebody has locked the one it has.
pub fn refuse_handshakes(listener: BorrowedFd<'_>) -> io::Result<()> {
    // A classic BPF program, which sees a packet from its TCP header on. The byte at 13 has the flags (RFC 9293 §3.1).
    let mut program = [
        bpf(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
        bpf(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN | ACK),
        bpf(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        bpf(libc::BPF_RET | libc::BPF_K, 0, 0, DROP),
        bpf(libc::BPF_RET | libc::BPF_K, 0, 0, KEEP_ALL),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let length = mem::size_of_val(&filter) as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: the kernel reads `length` bytes of `filter` and the instructions it points to, as many as `len` says;
    // both live through the call, and it keeps a copy.
    let result = unsafe { libc::setsockopt(listener.as_raw_fd(), level, name, (&raw const filter).cast(), length) };
    Errno::result(result)?;
    Ok(())
}

/// How many connections wait at a TCP listener to be accepted.
///
/// # Errors
/// It is no TCP socket.
pub fn waiting_connections(listener: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: tcp_info is plain data, for which zeros are valid.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the kernel writes at most `length` bytes to `info`, and both live through the call.
    let result =
        unsafe { libc::getsockopt(listener.as_raw_fd(), level, name, (&raw mut info).cast(), &raw mut length) };
    Errno::result(result)?;
    // For a listener the kernel uses this field for the length of its queue.
    Ok(info.tcpi_unacked)
}

fn bpf(code: u32, if_true: u8, if_false: u8, operand: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: if_true, jf: if_false, k: operand }
}

// TCP flags.
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

// How many bytes of a packet to keep.
const DROP: u32 = 0;
const KEEP_ALL: u32 = u32::MAX;

fn peer(address: Option<&SockaddrStorage>) -> Peer {
    let v4 = address.and_then(|address| address.as_sockaddr_in());
    let v6 = address.and_then(|address| address.as_sockaddr_in6());
    match (v4, v6) {
        (Some(v4), _) => Peer::Tcp(SocketAddr::V4(SocketAddrV4::from(*v4))),
        (_, Some(v6)) => Peer::Tcp(SocketAddr::V6(SocketAddrV6::from(*v6))),
        (None, None) => Peer::Unix,
    }
}

fn accept_error(errno: Errno) -> AcceptError {
    match errno {
        Errno::EAGAIN => AcceptError::NotNow,
        // accept(2): errors already pending on the new socket are to be treated like EAGAIN, by trying again.
        Errno::ECONNABORTED
        | Errno::EINTR
        | Errno::EPERM
        | Errno::EPROTO
        | Errno::ENETDOWN
        | Errno::ENOPROTOOPT
        | Errno::EHOSTDOWN
        | Errno::ENONET
        | Errno::EHOSTUNREACH
        | Errno::EOPNOTSUPP
        | Errno::ENETUNREACH => AcceptError::Aborted,
        Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM => AcceptError::Exhausted(errno.into()),
        _ => AcceptError::Other(errno.into()),
    }
}

/// What follows what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing that is known of: the bytes leave at once.
    Unknown,
    /// The end: the sending half is closed as soon as all bytes have been taken, so that the last of them and the end
    /// may share a segment.
    End,
}

impl Then {
    fn flags(self) -> MsgFlags {
        match self {
            Self::Unknown => MsgFlags::MSG_NOSIGNAL,
            Self::End => MsgFlags::MSG_NOSIGNAL | MsgFlags::from_bits_retain(libc::MSG_MORE),
        }
    }
}

/// What sendfile(2) takes at once.
const SEND_FILE_BYTES_MAX: usize = 0x7fff_f000;

/// Pieces that one system call takes.
pub const PIECES_MAX: usize = 16;

impl Stream {
    /// Receives into the front of `room`, which is not empty.
    #[inline]
    pub fn receive(&self, room: &mut [u8]) -> Attempt {
        attempt(|| socket::recv(self.0.as_raw_fd(), room, MsgFlags::empty()))
    }

    /// Sends from the front of `bytes`, which is not empty. A broken connection makes no signal.
    #[inline]
    pub fn send(&self, bytes: &[u8], then: Then) -> Attempt {
        attempt(|| socket::send(self.0.as_raw_fd(), bytes, then.flags()))
    }

    /// Sends from up to [`PIECES_MAX`] pieces with one call.
    pub fn send_pieces(&self, pieces: &[IoSlice<'_>], then: Then) -> Attempt {
        attempt(|| socket::sendmsg::<()>(self.0.as_raw_fd(), pieces, &[], then.flags(), None))
    }

    /// Sends up to `length` bytes of a file, which are not 0, from `offset` on. No byte went over if the file ends there,
    /// for it has been cut off since its length was taken. A broken connection makes SIGPIPE, which has to be ignored.
    pub fn send_file(&self, file: BorrowedFd<'_>, offset: u64, length: usize) -> Attempt {
        let Ok(mut offset) = super::file::position(offset) else { return Attempt::Broken };
        attempt(|| sendfile(&self.0, file, Some(&mut offset), length.min(SEND_FILE_BYTES_MAX)))
    }

    /// Says that nothing more will be sent. Reading goes on.
    pub fn end_sending(&self) {
        // A connection that is broken already needs no end.
        let _ = socket::shutdown(self.0.as_raw_fd(), Shutdown::Write);
    }

    /// Ends both directions; what waits in the kernel is still sent.
    pub fn end(&self) {
        // A connection that is broken already needs no end.
        let _ = socket::shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }

    /// Whether the peer has ended its half of the connection, or all of it; what it sent before may still wait.
    pub fn is_ended_by_peer(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        // nix does not name POLLRDHUP.
        let asked = PollFlags::from_bits_retain(libc::POLLRDHUP);
        let mut watched = [PollFd::new(self.0.as_fd(), asked)];
        poll(&mut watched, PollTimeout::ZERO) == Ok(1)
    }

    /// Waits until there is something to read, or the connection breaks; `false` if `time` passes first. `None` is
    /// without end.
    pub fn wait_readable(&self, time: Option<Duration>) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let start = std::time::Instant::now();
        loop {
            let left = time.map(|time| time.saturating_sub(start.elapsed()));
            let timeout =
                left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, timeout) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return false,
                Ok(0) | Err(Errno::EINTR) => {}
                // After another error the next receive will tell.
                Ok(_) | Err(_) => return true,
            }
        }
    }
}

/// A connection that another process accepted: it is non-blocking already, and the descriptor is to be close-on-exec.
impl From<OwnedFd> for Stream {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[inline]
fn attempt(mut call: impl FnMut() -> nix::Result<usize>) -> Attempt {
    loop {
        match call() {
            Ok(count) => return Attempt::Bytes(count),
            Err(Errno::EAGAIN) => return Attempt::NotNow,
            Err(Errno::EINTR) => {}
            Err(_) => return Attempt::Broken,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::FileExt;
    use std::os::unix::net::UnixStream;

    fn tcp_pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = accept(listener.as_fd()).unwrap();
        (stream, client)
    }

    fn file(content: &[u8]) -> std::fs::File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        file
    }

    #[test]
    fn a_file_is_sent_from_an_offset_until_the_peer_takes_no_more() {
        let content: Vec<u8> = (0..20_000_000).map(|number: u32| (number % 251) as u8).collect();
        let file = file(&content);
        let (stream, mut client) = tcp_pair();
        let (start, end) = (1001, content.len() - 77);
        let mut sent = start;
        while let Attempt::Bytes(count) = stream.send_file(file.as_fd(), sent as u64, end - sent) {
            sent += count;
            assert!(sent < end, "20 MB fit into socket buffers");
        }
        assert_eq!(stream.send_file(file.as_fd(), sent as u64, end - sent), Attempt::NotNow);
        assert!(sent > start);
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).map(|_| received)
        });
        while sent < end {
            match stream.send_file(file.as_fd(), sent as u64, end - sent) {
                Attempt::Bytes(count @ 1..) => sent += count,
                Attempt::NotNow => std::thread::yield_now(),
                other => panic!("{other:?}"),
            }
        }
        drop(stream);
        assert!(reader.join().unwrap().unwrap() == content[start..end]);
    }

    #[test]
    fn the_end_of_a_file_and_of_a_connection_are_told() {
        let file = file(b"0123456789");
        let (stream, mut client) = tcp_pair();
        // More than one call takes is asked for, and more than there is.
        assert_eq!(stream.send_file(file.as_fd(), 4, usize::MAX), Attempt::Bytes(6));
        assert_eq!(stream.send_file(file.as_fd(), 10, 5), Attempt::Bytes(0));
        assert_eq!(stream.send_file(file.as_fd(), u64::MAX, 5), Attempt::Broken);
        let mut received = [0; 6];
        client.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"456789");

        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        drop(theirs);
        let stream = Stream(OwnedFd::from(ours));
        assert_eq!(stream.send_file(file.as_fd(), 0, 5), Attempt::Broken);
    }
}
