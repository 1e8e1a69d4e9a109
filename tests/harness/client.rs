//! A client that sends any bytes, and reads responses strictly.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt};

use super::response::{Framing, Response};
use super::server::Address;
use super::wait::DEADLINE;

/// One connection. Bytes of the next response wait in `buffer`, from `start` on.
pub struct Client {
    /// Also for a Unix socket: reading, writing and closing are the same calls there.
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
}

/// A path that begins with an @ is a name in the abstract namespace.
fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(path),
    }
}

/// The server ended the connection.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    InOrder,
    /// Without reading all that it was sent, or because its process died.
    ByReset,
}

impl Client {
    #[track_caller]
    pub fn connect(address: &Address) -> Client {
        Client::try_connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
    }

    pub fn try_connect(address: &Address) -> io::Result<Client> {
        let stream = match address {
            Address::Tcp(address) => TcpStream::connect_timeout(address, DEADLINE)?,
            Address::Unix(path) => TcpStream::from(OwnedFd::from(connect_unix(path)?)),
        };
        Client::over(stream, matches!(address, Address::Tcp(_)))
    }

    /// One whose kernel takes little ahead of what is read here, so that the server notices early who does not read.
    #[track_caller]
    pub fn connect_with_little_room(address: &Address) -> Client {
        let Address::Tcp(address) = address else { panic!("{address} is not TCP") };
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        // Before it connects, since the window is agreed on then. With room for less than a segment of
        // the loopback interface, the kernel would send nothing until its timer of a fifth of a second.
        setsockopt(&socket, sockopt::RcvBuf, &65_536).expect("SO_RCVBUF");
        connect(socket.as_raw_fd(), &SockaddrStorage::from(*address)).expect("connecting");
        Client::over(TcpStream::from(socket), true).expect("options of a socket")
    }

    fn over(stream: TcpStream, is_tcp: bool) -> io::Result<Client> {
        if is_tcp {
            stream.set_nodelay(true)?;
        }
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Client { stream, buffer: Vec::new(), start: 0 })
    }

    /// Whether all that was sent has been taken from the server's socket, by its line in /proc/net/tcp.
    #[track_caller]
    pub fn has_been_read(&self) -> bool {
        let server = format!(":{:04X}", self.stream.peer_addr().expect("a TCP socket").port());
        let client = format!(":{:04X}", self.local_port());
        let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc is mounted");
        let line = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()).find(|fields| {
            fields.get(1).is_some_and(|local| local.ends_with(&server))
                && fields.get(2).is_some_and(|remote| remote.ends_with(&client))
        });
        let fields = line.expect("the server's end of this connection");
        fields[4].split_once(':').is_some_and(|(_, unread)| unread == "00000000")
    }

    pub fn local_port(&self) -> u16 {
        self.stream.local_addr().expect("a TCP socket").port()
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.try_send(bytes).expect("sending");
        self
    }

    /// For what the server may refuse to read to its end.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends from another thread: what the server reads only after it has been read from.
    pub fn send_behind(&self, bytes: Vec<u8>) -> JoinHandle<io::Result<()>> {
        let mut stream = self.stream.try_clone().expect("another descriptor");
        std::thread::spawn(move || stream.write_all(&bytes))
    }

    /// Tells the server that no more will be sent, and goes on reading.
    pub fn end_sending(&mut self) -> &mut Client {
        self.stream.shutdown(Shutdown::Write).expect("half a close");
        self
    }

    /// Leaves with a reset, as a client that crashed does.
    pub fn reset(self) {
        setsockopt(&self.stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).expect("SO_LINGER");
    }

    /// Sends a plain GET and reads its response; the connection stays.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.ask(format!("GET {target} HTTP/1.1\r\nHost: minicorn\r\n\r\n"))
    }

    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        let method = method_of(request.as_ref());
        self.send(request).receive_for(&method)
    }

    /// Sends a request and reads its response, or none if the connection has ended or ends without a byte of it.
    #[track_caller]
    pub fn ask_or_end(&mut self, request: impl AsRef<[u8]>) -> Option<Response> {
        // What cannot be sent is what the end is told by.
        let _ = self.try_send(&request);
        if self.unread().is_empty() && self.fill().is_err() {
            return None;
        }
        Some(self.receive_for(&method_of(request.as_ref())))
    }

    /// Reads one response to a request whose method allows a body in it.
    #[track_caller]
    pub fn receive(&mut self) -> Response {
        self.receive_for("GET")
    }

    #[track_caller]
    pub fn receive_for(&mut self, method: &str) -> Response {
        let response = self.receive_head(method);
        self.receive_rest(response)
    }

    /// Reads the body of a response whose head has been read.
    #[track_caller]
    pub fn receive_rest(&mut self, mut response: Response) -> Response {
        if self.read_body(&mut response).is_err() {
            panic!("the response was cut: {response:?}");
        }
        response
    }

    /// Reads a response that the server must cut before its promised end; what came of it is returned.
    #[track_caller]
    pub fn receive_cut(&mut self) -> Response {
        let mut response = self.receive_head("GET");
        assert_ne!(response.framing, Framing::UntilClose, "nobody can tell that this response was cut: {response:?}");
        if self.read_body(&mut response).is_ok() {
            panic!("the response was not cut: {response:?}");
        }
        response
    }

    /// Reads up to the empty line of a final response; its interim responses are noted in it.
    #[track_caller]
    pub fn receive_head(&mut self, method: &str) -> Response {
        let mut interim = Vec::new();
        loop {
            let Ok(head) = self.read_head() else {
                panic!("the connection ended before a response; unread: {:?}", String::from_utf8_lossy(self.unread()));
            };
            let response = Response::parse_head(&head, method);
            match response.status {
                // 101 is final: what follows it is another protocol.
                100 | 102..=199 => interim.push(response.status),
                _ => return Response { interim, ..response },
            }
        }
    }

    /// The status of the response that comes, or none if the connection ends without one.
    pub fn status_or_end(&mut self) -> Option<u16> {
        self.read_head().ok().map(|head| Response::parse_head(&head, "GET").status)
    }

    /// Reads a `100 Continue` and nothing after it.
    #[track_caller]
    pub fn receive_continue(&mut self) {
        self.receive_interim(100);
        assert_eq!(self.unread(), b"", "something follows the 100 Continue before the body was sent");
    }

    /// Reads an interim response of this status.
    #[track_caller]
    pub fn receive_interim(&mut self, status: u16) -> Response {
        let head = self.read_head().unwrap_or_else(|_| panic!("the connection ended before a {status}"));
        let response = Response::parse_head(&head, "GET");
        assert_eq!(response.status, status);
        response
    }

    /// Whether nothing has come that was not read, not even the end.
    pub fn is_quiet(&self) -> bool {
        self.stream.set_nonblocking(true).expect("an open socket");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("an open socket");
        self.unread().is_empty() && peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Checks that for this long nothing comes, not even the end.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) {
        assert_eq!(String::from_utf8_lossy(self.unread()), "");
        self.stream.set_read_timeout(Some(time)).expect("a timeout above zero");
        let mut piece = [0; 1024];
        match self.stream.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(count) => panic!("came instead of silence: {:?}", String::from_utf8_lossy(&piece[..count])),
            Err(error) => panic!("reading: {error}"),
        }
        self.stream.set_read_timeout(Some(DEADLINE)).expect("a timeout above zero");
    }

    /// Reads the next chunk of a chunked body.
    #[track_caller]
    pub fn receive_chunk(&mut self) -> Vec<u8> {
        self.read_chunk().unwrap_or_else(|_| panic!("the body was cut"))
    }

    /// Reads so many bytes of a body, whatever its framing.
    #[track_caller]
    pub fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_into(&mut bytes, count).unwrap_or_else(|_| panic!("the connection ended after {bytes:?}"));
        bytes
    }

    /// Checks that nothing more comes and that the server closes in order: a reset can overtake what it has sent.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let end = loop {
            if let Err(end) = self.fill() {
                break end;
            }
        };
        assert_eq!(end, Ended::InOrder);
        let unread = String::from_utf8_lossy(self.unread()).into_owned();
        assert_eq!(unread, "", "more than expected came before the end");
    }

    /// Reads all that comes until the connection ends, in whatever way.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill().is_ok() {}
        self.start = self.buffer.len();
        self.buffer.clone()
    }

    /// Ends sending and reads whatever comes, however wrong.
    pub fn end_and_drain(mut self) {
        // Both may fail when the server has already closed, which is as good an end.
        let _ = self.stream.shutdown(Shutdown::Write);
        let _ = self.stream.read_to_end(&mut Vec::new());
    }

    fn read_body(&mut self, response: &mut Response) -> Result<(), Ended> {
        match &mut response.framing {
            Framing::NoBody => {}
            Framing::Length(length) => {
                let length = *length;
                self.read_into(&mut response.body, length)?;
            }
            Framing::Chunked(sizes) => loop {
                let chunk = self.read_chunk()?;
                if chunk.is_empty() {
                    break;
                }
                sizes.push(chunk.len());
                response.body.extend(chunk);
            },
            Framing::UntilClose => {
                while self.fill().is_ok() {}
                response.body.extend_from_slice(self.unread());
                self.start = self.buffer.len();
            }
        }
        Ok(())
    }

    /// A chunk with its size line and line end; for the last one also the empty trailer section.
    fn read_chunk(&mut self) -> Result<Vec<u8>, Ended> {
        let line = self.read_line()?;
        let digits = std::str::from_utf8(&line).expect("a chunk size is ASCII");
        assert!(!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "chunk size {digits:?}");
        let size = usize::from_str_radix(digits, 16).expect("a chunk size");
        let mut data = Vec::new();
        self.read_into(&mut data, size)?;
        assert_eq!(self.read_line()?, b"", "a chunk is longer than its size, or there are trailers");
        Ok(data)
    }

    /// Moves `length` bytes into `target`; at an early end, those that came.
    fn read_into(&mut self, target: &mut Vec<u8>, length: usize) -> Result<(), Ended> {
        let wanted = target.len() + length;
        loop {
            let count = (wanted - target.len()).min(self.unread().len());
            target.extend_from_slice(&self.unread()[..count]);
            self.start += count;
            if target.len() == wanted {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn read_head(&mut self) -> Result<Vec<u8>, Ended> {
        let mut head = self.read_line()?;
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(head);
            }
            head.extend_from_slice(b"\r\n");
            head.extend(line);
        }
    }

    /// A line without its CRLF. A line feed alone ends nothing (RFC 9112 §2.2 binds senders).
    fn read_line(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(end) = self.unread().iter().position(|&byte| byte == b'\n') {
                let line = self.unread()[..end].to_vec();
                self.start += end + 1;
                let Some(line) = line.strip_suffix(b"\r") else { panic!("a bare line feed after {line:?}") };
                return Ok(line.to_vec());
            }
            self.fill()?;
        }
    }

    /// Waits for more bytes.
    fn fill(&mut self) -> Result<(), Ended> {
        self.buffer.drain(..std::mem::take(&mut self.start));
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(Ended::InOrder),
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Err(Ended::ByReset)
            }
            Err(error) => panic!("reading: {error}; so far: {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

fn method_of(request: &[u8]) -> String {
    request.iter().take_while(|byte| byte.is_ascii_alphabetic()).map(|&byte| byte as char).collect()
}
