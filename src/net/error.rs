//! [`BindError`]: why there is no listener, as one sentence with the address and the cause.

use super::unix::PATH_MAX;
use crate::settings::BindAddress;
use nix::errno::Errno;
use std::fmt;
use std::io;

/// Why an address cannot be listened on. Prints as one sentence with the address and the cause.
#[derive(Debug)]
pub struct BindError {
    address: BindAddress,
    cause: Cause,
}

#[derive(Debug)]
pub(super) enum Cause {
    UnknownHost,
    /// So many bytes.
    PathTooLong(usize),
    /// A file of another kind has the name.
    NotASocket,
    /// A descriptor of this number is not open, or this program has opened it itself.
    NotInherited,
    /// The descriptor is of something else.
    NoStreamSocket,
    /// A socket of another family: neither TCP nor Unix.
    UnknownFamily,
    /// Connected, or not listening yet.
    NotListening,
    System(io::Error),
}

impl BindError {
    pub(super) fn new(address: &BindAddress, cause: Cause) -> Self {
        Self { address: address.clone(), cause }
    }
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
                write!(f, "it has {bytes} bytes, and a socket can have {PATH_MAX} at most")
            }
            Cause::NotASocket => f.write_str("there is a file of this name, and it is not a socket"),
            Cause::NotInherited => f.write_str("the program was not started with a descriptor of this number"),
            Cause::NoStreamSocket => f.write_str("this descriptor is not a stream socket"),
            Cause::UnknownFamily => f.write_str("this descriptor is neither a TCP nor a Unix socket"),
            Cause::NotListening => f.write_str("the socket does not listen; whoever made it has to call listen(2)"),
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
