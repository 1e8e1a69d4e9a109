//! Messages with a descriptor from process to process (`SCM_RIGHTS`), through pairs of sockets that belong to nobody.
//!
//! A [`Pair`] is made before the fork and every process keeps both of its ends: so all of them can send and all can
//! receive, and a message outlives the process it was meant for. Each message is received whole, by one of them.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, setsockopt, sockopt};
use std::ffi::c_int;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::{mem, ptr};

/// A way in and a way out: non-blocking, close-on-exec, and keeping the bounds of messages.
#[derive(Debug)]
pub struct Pair {
    entrance: OwnedFd,
    exit: OwnedFd,
}

/// How an attempt to send came out.
#[derive(Debug)]
pub enum Sent {
    /// The message is in the queue. Until it is received, the kernel holds its descriptor open.
    Done,
    /// It does not fit now, or is too large, or too many descriptors are under way. Nothing was sent.
    Full,
    /// Nothing was sent, for a reason that will not go away.
    Failed(io::Error),
}

/// How an attempt to receive came out.
#[derive(Debug)]
pub enum Received {
    /// One message.
    Message(Message),
    /// There is none.
    Nothing,
    /// This process has no room for a descriptor. The message stays where it is.
    Exhausted,
    /// A reason that will not go away.
    Failed(io::Error),
}

/// What was received.
#[derive(Debug)]
pub struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// All descriptors that came with it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// Whether bytes or descriptors were lost because there was no room for them.
    pub is_cut: bool,
}

impl Pair {
    /// Asks for so much room that messages of that many bytes can wait in it. The kernel may grant less (its limit is
    /// net.core.wmem_max), and takes a few hundred bytes more for each message.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new(room_bytes: usize) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        // SOCK_SEQPACKET: a stream would run two messages into one, and datagrams do not tell an end without peer.
        let (entrance, exit) = socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        setsockopt(&entrance, sockopt::SndBuf, &room_bytes)?;
        Ok(Self { entrance, exit })
    }

    /// Readable while a message waits.
    pub fn exit(&self) -> BorrowedFd<'_> {
        self.exit.as_fd()
    }

    /// Sends one message of at least one byte, made of `pieces`. The sender's own descriptor stays open.
    pub fn send(&self, pieces: &[IoSlice<'_>], descriptor: Option<BorrowedFd<'_>>) -> Sent {
        let raw = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
        let rights = raw.as_ref().map(|raw| ControlMessage::ScmRights(raw));
        loop {
            return match socket::sendmsg::<()>(
                self.entrance.as_raw_fd(),
                pieces,
                rights.as_slice(),
                MsgFlags::MSG_NOSIGNAL,
                None,
            ) {
                Ok(_) => Sent::Done,
                Err(Errno::EINTR) => continue,
                // unix(7): ETOOMANYREFS when this user has more descriptors under way than it may open.
                Err(Errno::EAGAIN | Errno::EMSGSIZE | Errno::ENOBUFS | Errno::ENOMEM | Errno::ETOOMANYREFS) => {
                    Sent::Full
                }
                Err(errno) => Sent::Failed(errno.into()),
            };
        }
    }

    /// Receives one message of up to `bytes_max` bytes.
    pub fn receive(&self, bytes_max: usize) -> Received {
        // A message that is received without room for its descriptor has lost it, and a client its connection. So a
        // place is looked for first; only another thread can still take it away in between.
        if let Err(error) = self.exit.as_fd().try_clone_to_owned() {
            return match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => Received::Exhausted,
                _ => Received::Failed(error),
            };
        }
        loop {
            return match self.receive_once(bytes_max) {
                Ok(message) => Received::Message(message),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Received::Nothing,
                Err(errno) => Received::Failed(errno.into()),
            };
        }
    }

    /// Not nix's recvmsg: when anything was cut off, it hands out no descriptor at all, and those that did come would
    /// stay open for ever.
    fn receive_once(&self, bytes_max: usize) -> nix::Result<Message> {
        let mut bytes: Vec<u8> = Vec::with_capacity(bytes_max);
        let mut control = [0_u64; CONTROL_WORDS];
        let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes_max };
        // SAFETY: msghdr is plain data, for which zeros are valid: no name, no pieces, no control bytes.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut piece;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = mem::size_of_val(&control) as _;
        // SAFETY: `header` names one piece, the `bytes_max` bytes allocated above, and `control` with its size; all of
        // them outlive the call, and nothing else refers to them meanwhile.
        let count = unsafe { libc::recvmsg(self.exit.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
        let count = Errno::result(count)?;
        // SAFETY: the kernel has written `count` bytes to the start of the allocation, at most the `bytes_max` it was
        // given (without MSG_TRUNC in the flags it does not count what it cut off).
        unsafe { bytes.set_len(count as usize) };
        // SAFETY: the kernel has just filled in `header` and the control bytes behind it, and nobody has looked for
        // their descriptors before.
        let descriptors = unsafe { take_descriptors(&header) };
        let is_cut = header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
        Ok(Message { bytes, descriptors, is_cut })
    }
}

/// Room for as many descriptors as the kernel lets one message carry (SCM_MAX_FD), and aligned for a `cmsghdr`.
const CONTROL_WORDS: usize = {
    // SAFETY: CMSG_SPACE only computes a size.
    let bytes = unsafe { libc::CMSG_SPACE((253 * mem::size_of::<c_int>()) as u32) };
    (bytes as usize).div_ceil(mem::size_of::<u64>())
};

/// All descriptors in the control bytes of a message.
///
/// # Safety
/// `header` is as a successful recvmsg(2) left it, its control bytes are still there, and their descriptors have not
/// been taken before.
unsafe fn take_descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut taken = Vec::new();
    // SAFETY: the caller's promise is what CMSG_FIRSTHDR needs.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: the pointer is null or that of a whole cmsghdr within the control bytes, where the kernel put it.
    while let Some(found) = unsafe { control.as_ref() } {
        if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: CMSG_LEN only computes a size.
            let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (found.cmsg_len - overhead) / mem::size_of::<c_int>();
            // SAFETY: the data of this cmsghdr lie behind it, as long as its cmsg_len says.
            let first = unsafe { libc::CMSG_DATA(control) }.cast::<c_int>();
            for index in 0..count {
                // SAFETY: `index` is below the number of descriptors at `first`; the read asks for no alignment.
                let raw = unsafe { ptr::read_unaligned(first.add(index)) };
                // SAFETY: the kernel has just opened this descriptor for us, and the caller promised that nobody else
                // has taken it.
                taken.push(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR; `control` is a header that it or this call has returned.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    taken
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    use std::io::{PipeReader, Read, Write, pipe};
    use std::thread;

    const ROOM: usize = 256 * 1024;

    fn pieces<'a>(bytes: &'a [u8]) -> [IoSlice<'a>; 1] {
        [IoSlice::new(bytes)]
    }

    #[track_caller]
    fn received(pair: &Pair) -> Message {
        match pair.receive(64 * 1024) {
            Received::Message(message) => message,
            other => panic!("no message: {other:?}"),
        }
    }

    /// A pipe tells whether a writer is left: it ends with the last of them. A process that another test is starting
    /// holds all descriptors for a moment, hence the wait.
    #[track_caller]
    fn assert_ended(reader: &mut PipeReader) {
        let mut watched = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut watched, PollTimeout::from(5000_u16)), Ok(1), "somebody still holds the other end");
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_message_arrives_whole_with_its_descriptor() {
        let pair = Pair::new(ROOM).unwrap();
        let (mut reader, writer) = pipe().unwrap();
        let both = [IoSlice::new(b"con"), IoSlice::new(b"nection")];
        assert!(matches!(pair.send(&both, Some(writer.as_fd())), Sent::Done));
        assert!(matches!(pair.send(&pieces(b"poke"), None), Sent::Done));
        drop(writer);
        let first = received(&pair);
        assert_eq!((first.bytes.as_slice(), first.descriptors.len(), first.is_cut), (&b"connection"[..], 1, false));
        let descriptor = &first.descriptors[0];
        let flags = FdFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
        std::fs::File::from(descriptor.try_clone().unwrap()).write_all(b"!").unwrap();
        assert_eq!(reader.read(&mut [0; 2]).unwrap(), 1);
        let second = received(&pair);
        assert_eq!((second.bytes.as_slice(), second.descriptors.len()), (&b"poke"[..], 0));
        assert!(matches!(pair.receive(64), Received::Nothing));
        drop(first);
        assert_ended(&mut reader);
    }

    #[test]
    fn a_full_pair_takes_nothing_and_takes_again_when_there_is_room() {
        let pair = Pair::new(ROOM).unwrap();
        let (mut reader, writer) = pipe().unwrap();
        let message = vec![7; 64 * 1024];
        let mut sent = 0;
        while let Sent::Done = pair.send(&pieces(&message), Some(writer.as_fd())) {
            sent += 1;
            assert!(sent < 1000, "there is no end to the room");
        }
        assert!(sent >= 2, "room for {sent} large messages only");
        assert!(matches!(pair.send(&pieces(&message), None), Sent::Full));
        assert_eq!(received(&pair).bytes, message);
        assert!(matches!(pair.send(&pieces(&message), None), Sent::Done));
        drop((pair, writer));
        assert_ended(&mut reader);
    }

    #[test]
    fn a_message_larger_than_the_room_is_not_sent() {
        let pair = Pair::new(ROOM).unwrap();
        assert!(matches!(pair.send(&pieces(&vec![0; 4 * ROOM]), None), Sent::Full));
        assert!(matches!(pair.receive(64), Received::Nothing));
    }

    #[test]
    fn what_is_cut_off_is_told_and_its_descriptors_do_not_leak() {
        let pair = Pair::new(ROOM).unwrap();
        let (mut reader, writer) = pipe().unwrap();
        assert!(matches!(pair.send(&pieces(b"too long"), Some(writer.as_fd())), Sent::Done));
        drop(writer);
        let Received::Message(message) = pair.receive(3) else { panic!("no message") };
        assert_eq!((message.bytes.as_slice(), message.descriptors.len(), message.is_cut), (&b"too"[..], 1, true));
        drop(message);
        assert_ended(&mut reader);
    }

    #[test]
    fn more_descriptors_than_expected_are_all_taken() {
        let pair = Pair::new(ROOM).unwrap();
        let (mut reader, writer) = pipe().unwrap();
        let raw = [writer.as_raw_fd(); 253];
        let rights = [ControlMessage::ScmRights(&raw)];
        let entrance = pair.entrance.as_raw_fd();
        socket::sendmsg::<()>(entrance, &pieces(b"x"), &rights, MsgFlags::empty(), None).unwrap();
        drop(writer);
        let message = received(&pair);
        assert_eq!((message.descriptors.len(), message.is_cut), (253, false));
        drop(message);
        assert_ended(&mut reader);
    }

    /// In a process of its own, since the limit is the process's.
    #[test]
    fn without_room_for_a_descriptor_the_message_stays() {
        let pair = Pair::new(ROOM).unwrap();
        let (mut reader, writer) = pipe().unwrap();
        assert!(matches!(pair.send(&pieces(b"stays"), Some(writer.as_fd())), Sent::Done));
        drop(writer);
        // SAFETY: the child sets its limit, makes the call, which allocates nothing on this way, and ends.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let limit = libc::rlimit { rlim_cur: 4, rlim_max: 4 };
                // SAFETY: reads a live rlimit.
                unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
                while let Ok(last) = pair.exit().try_clone_to_owned() {
                    mem::forget(last);
                }
                let status = if matches!(pair.receive(64), Received::Exhausted) { 0 } else { 1 };
                // SAFETY: does not return.
                unsafe { libc::_exit(status) }
            }
            ForkResult::Parent { child } => assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0))),
        }
        let message = received(&pair);
        assert_eq!((message.bytes.as_slice(), message.descriptors.len()), (&b"stays"[..], 1));
        drop(message);
        assert_ended(&mut reader);
    }

    #[test]
    fn each_message_has_one_receiver() {
        const MESSAGES: usize = 2000;
        let pair = Pair::new(ROOM).unwrap();
        let (_reader, writer) = pipe().unwrap();
        let read_all = || {
            let mut seen = Vec::new();
            loop {
                match pair.receive(64) {
                    Received::Message(message) if message.bytes == b"end" => return seen,
                    Received::Message(message) => {
                        assert_eq!(message.descriptors.len(), 1);
                        seen.push(usize::from_le_bytes(message.bytes.try_into().unwrap()));
                    }
                    Received::Nothing => thread::yield_now(),
                    other => panic!("{other:?}"),
                }
            }
        };
        let send = |bytes: &[u8], descriptor: Option<BorrowedFd<'_>>| {
            while let Sent::Full = pair.send(&pieces(bytes), descriptor) {
                thread::yield_now();
            }
        };
        let mut seen = thread::scope(|scope| {
            let readers = [scope.spawn(read_all), scope.spawn(read_all)];
            for number in 0..MESSAGES {
                send(&number.to_le_bytes(), Some(writer.as_fd()));
            }
            readers.iter().for_each(|_| send(b"end", None));
            readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
        });
        seen.sort_unstable();
        assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>());
    }
}
