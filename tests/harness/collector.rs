//! Somebody to whom logs and metrics are sent: keeps what comes.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wait::wait_until;

/// How often its threads look whether it is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// One message for each datagram, or for each line of a stream. Dropped, it is gone from its address.
pub struct Collector {
    messages: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Where it is, over UDP and TCP.
    pub address: Option<SocketAddr>,
}

impl Collector {
    /// At a free port.
    pub fn udp() -> Collector {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("its number");
        socket.set_read_timeout(Some(LOOK_INTERVAL)).expect("a time");
        Collector::start(Some(address), move |room| socket.recv(room))
    }

    /// At this path, which is free.
    pub fn unix(path: &Path) -> Collector {
        let socket = UnixDatagram::bind(path).expect("a free path");
        socket.set_read_timeout(Some(LOOK_INTERVAL)).expect("a time");
        Collector::start(None, move |room| socket.recv(room))
    }

    /// At a free port, for streams.
    pub fn tcp() -> Collector {
        Collector::tcp_at("127.0.0.1:0".parse().expect("an address"))
    }

    /// At this address, which is free.
    pub fn tcp_at(address: SocketAddr) -> Collector {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("its number");
        listener.set_nonblocking(true).expect("a listener");
        Collector::accept(Some(address), move || {
            let (stream, _) = listener.accept().ok()?;
            stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(LOOK_INTERVAL))).expect("a time");
            Some(Box::new(stream) as Box<dyn Read + Send>)
        })
    }

    /// At this path, which is free, for streams.
    pub fn unix_stream(path: &Path) -> Collector {
        let listener = UnixListener::bind(path).expect("a free path");
        listener.set_nonblocking(true).expect("a listener");
        Collector::accept(None, move || {
            let (stream, _) = listener.accept().ok()?;
            stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(LOOK_INTERVAL))).expect("a time");
            Some(Box::new(stream) as Box<dyn Read + Send>)
        })
    }

    fn start(
        address: Option<SocketAddr>,
        receive: impl Fn(&mut [u8]) -> std::io::Result<usize> + Send + 'static,
    ) -> Collector {
        let mut collector = Collector::new(address);
        let (messages, is_over) = (Arc::clone(&collector.messages), Arc::clone(&collector.is_over));
        collector.threads.push(std::thread::spawn(move || {
            let mut room = vec![0; 1 << 17];
            while !is_over.load(Ordering::Relaxed) {
                if let Ok(count) = receive(&mut room) {
                    keep(&messages, &room[..count]);
                }
            }
        }));
        collector
    }

    fn accept(
        address: Option<SocketAddr>,
        accept: impl Fn() -> Option<Box<dyn Read + Send>> + Send + 'static,
    ) -> Collector {
        let mut collector = Collector::new(address);
        let (messages, is_over) = (Arc::clone(&collector.messages), Arc::clone(&collector.is_over));
        collector.threads.push(std::thread::spawn(move || {
            let mut readers = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                match accept() {
                    Some(stream) => {
                        let (messages, is_over) = (Arc::clone(&messages), Arc::clone(&is_over));
                        readers.push(std::thread::spawn(move || read_lines(stream, &messages, &is_over)));
                    }
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            readers.into_iter().for_each(|reader: JoinHandle<()>| _ = reader.join());
        }));
        collector
    }

    fn new(address: Option<SocketAddr>) -> Collector {
        Collector { messages: Arc::default(), is_over: Arc::default(), threads: Vec::new(), address }
    }

    /// Its port as `HOST:PORT`.
    pub fn host_and_port(&self) -> String {
        self.address.expect("it has a port").to_string()
    }

    /// All that has come.
    pub fn messages(&self) -> Vec<String> {
        self.messages.lock().expect("no reader panics").clone()
    }

    /// Waits until a message holds this text, and returns the first that does.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let find = || self.messages().into_iter().find(|message| message.contains(text));
        wait_until(&format!("{text:?} among the messages"), || find().is_some());
        find().unwrap_or_default()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| _ = thread.join());
        if std::thread::panicking() {
            eprintln!("--- collected ---\n{}\n---", self.messages().join("\n"));
        }
    }
}

fn keep(messages: &Mutex<Vec<String>>, message: &[u8]) {
    messages.lock().expect("no reader panics").push(String::from_utf8_lossy(message).into_owned());
}

/// A line that has begun is kept over the times when nothing comes.
fn read_lines(stream: Box<dyn Read + Send>, messages: &Mutex<Vec<String>>, is_over: &AtomicBool) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        match reader.read_until(b'\n', &mut line) {
            Ok(_) if line.last() == Some(&b'\n') => {
                keep(messages, &line[..line.len() - 1]);
                line.clear();
            }
            Ok(_) => break,
            Err(_) => {}
        }
    }
}
