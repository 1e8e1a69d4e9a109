//! [`Door`]: where the master itself is spoken to, at the admin address and the control socket. One request and one reply
//! for each connection, all without waiting: a visitor costs the master no more than the turns of its loop.
//!
//! What a request is and what is replied belongs to [`admin`](crate::admin) and [`control`](super::control).

use super::listening::unlink;
use super::start_error::StartError;
use crate::net::{self, BindOptions, Listener, LocalAddress};
use crate::settings::{BindAddress, Control, Settings};
use crate::sys::poll::{Events, Interest, Poll, Waited};
use crate::sys::socket::{self, Attempt, Stream, Then};
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is served at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Metrics and status, over HTTP.
    Admin {
        /// Whether only this machine can reach it.
        is_loopback: bool,
    },
    /// Orders of the operator.
    Control,
}

impl Service {
    /// Wherever it is served.
    fn is_same(self, other: Self) -> bool {
        matches!(self, Self::Admin { .. }) == matches!(other, Self::Admin { .. })
    }
}

/// What becomes of the bytes that a visitor has sent so far.
pub(super) enum Answer {
    /// They are not a whole request.
    NeedMore,
    /// They are one: this is sent, and the connection closes behind it.
    Reply(Vec<u8>),
    /// They are one, whose reply takes time: it is asked for now and then, until it is there.
    Later(Pending),
}

/// Looks whether a reply is there.
pub(super) type Pending = Box<dyn FnMut(Instant) -> Option<Vec<u8>>>;

/// The listeners, and who is there.
#[derive(Debug)]
pub(super) struct Door {
    poll: Poll,
    events: Events,
    listeners: Vec<(Service, Listener)>,
    visitors: Vec<Option<Visitor>>,
}

struct Visitor {
    service: Service,
    stream: Stream,
    input: Vec<u8>,
    /// Empty while the request is not complete.
    output: Vec<u8>,
    sent: usize,
    deadline: Instant,
    pending: Option<Pending>,
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visitor").field("service", &self.service).finish_non_exhaustive()
    }
}

/// From the first byte of a visit to the last one.
const VISIT_MAX: Duration = Duration::from_secs(5);
/// At the same time; for one who comes beyond, the oldest has to go: who is silent shall not keep out who asks.
const VISITORS_MAX: usize = 64;
const BACKLOG: u32 = 128;
const REQUEST_BYTES_MAX: usize = 16 * 1024;
const EVENTS_MAX: usize = 64;

/// How often a reply is asked for that takes time.
const PENDING_INTERVAL: Duration = Duration::from_millis(10);

/// Tokens below are visitors, from here on listeners.
const FIRST_LISTENER: u64 = 1 << 32;

impl Door {
    /// Listens where the settings say; `None` if they do not.
    ///
    /// # Errors
    /// An address that cannot be had.
    pub(super) fn open(settings: &Settings) -> Result<Option<Self>, StartError> {
        let mut door = None;
        Change::open(None, settings)?.make(&mut door)?;
        Ok(door)
    }

    /// Nobody can come yet.
    ///
    /// # Errors
    /// Out of descriptors.
    fn new() -> io::Result<Self> {
        let (listeners, visitors) = (Vec::new(), Vec::new());
        Ok(Self { poll: Poll::new()?, events: Events::new(EVENTS_MAX), listeners, visitors })
    }

    /// Removes the socket files, at the end.
    pub(super) fn unlink_all(&self) {
        self.listeners.iter().for_each(|(_, listener)| unlink(listener));
    }

    /// Has these listeners and no others for this service.
    fn exchange(&mut self, service: Service, listeners: Vec<Listener>) -> io::Result<()> {
        for (_, listener) in &self.listeners {
            self.poll.delete(listener.as_fd())?;
        }
        let (old, mut kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.listeners).into_iter().partition(|(own, _)| own.is_same(service));
        old.iter().for_each(|(_, listener)| unlink(listener));
        kept.extend(listeners.into_iter().map(|listener| (service_at(service, &listener), listener)));
        self.listeners = kept;
        for (token, (_, listener)) in (FIRST_LISTENER..).zip(&self.listeners) {
            self.poll.add(listener.as_fd(), token, Interest::Read)?;
        }
        Ok(())
    }

    /// Where the figures are to be had.
    pub(super) fn admin_addresses(&self) -> impl Iterator<Item = &Listener> {
        let is_admin = |service: &Service| matches!(service, Service::Admin { .. });
        self.listeners.iter().filter(move |(service, _)| is_admin(service)).map(|(_, listener)| listener)
    }

    fn set_control_mode(&self, mode: u32) {
        let controls = self.listeners.iter().filter(|(service, _)| *service == Service::Control);
        // By the path where it was made: since then the working directory may be another one.
        for (_, listener) in controls {
            if let LocalAddress::Unix(path) = &listener.local
                && let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode))
            {
                log::warn!("--control-socket {}: its permissions stay as they were: {error}", path.display());
            }
        }
    }

    fn serves(&self, service: Service) -> bool {
        self.listeners.iter().any(|(own, _)| own.is_same(service))
    }

    /// When the next visitor has been here for too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadline = self.visitors.iter().flatten().map(|visitor| visitor.deadline).min();
        let is_pending = self.visitors.iter().flatten().any(|visitor| visitor.pending.is_some());
        let asked_at = is_pending.then(|| Instant::now() + PENDING_INTERVAL);
        deadline.into_iter().chain(asked_at).min()
    }

    /// Does what can be done now. `answer` is asked whenever bytes have come.
    pub(super) fn serve(&mut self, now: Instant, answer: &mut dyn FnMut(Service, &[u8]) -> Answer) {
        let count = match self.poll.wait(&mut self.events, Some(Duration::ZERO)) {
            Ok(Waited::Events(count)) => count,
            Ok(Waited::Interrupted) => 0,
            Err(error) => {
                log::debug!("the admin and control sockets cannot be polled: {error}");
                0
            }
        };
        for index in 0..count {
            let token = self.events.ready(index).token;
            match token.checked_sub(FIRST_LISTENER) {
                Some(listener) => self.accept(listener as usize, now),
                None => self.attend(token as usize, answer),
            }
        }
        for index in 0..self.visitors.len() {
            self.ask_again(index, now);
        }
        self.visitors.iter_mut().for_each(|place| _ = place.take_if(|visitor| visitor.deadline <= now));
    }

    fn accept(&mut self, listener: usize, now: Instant) {
        let (service, listener) = &self.listeners[listener];
        let service = *service;
        // A descriptor that cannot be had is tried again in the next turn; more are not taken at once, for the sake of the
        // workers.
        let Ok((stream, _)) = socket::accept(listener.as_fd()) else { return };
        let free = self.free_place();
        if self.poll.add(stream.as_fd(), free as u64, Interest::Read).is_err() {
            return;
        }
        let visitor = Visitor {
            service,
            stream,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            deadline: now + VISIT_MAX,
            pending: None,
        };
        if free == self.visitors.len() {
            self.visitors.push(None);
        }
        self.visitors[free] = Some(visitor);
    }

    fn free_place(&mut self) -> usize {
        let free = self.visitors.iter().position(Option::is_none).unwrap_or(self.visitors.len());
        if free < VISITORS_MAX {
            return free;
        }
        let deadlines = self.visitors.iter().map(|place| place.as_ref().map(|visitor| visitor.deadline));
        let (_, oldest) = deadlines.zip(0..).min().unwrap_or_default();
        self.visitors[oldest] = None;
        oldest
    }

    fn attend(&mut self, index: usize, answer: &mut dyn FnMut(Service, &[u8]) -> Answer) {
        let Some(Some(visitor)) = self.visitors.get_mut(index) else { return };
        let had_asked = !visitor.output.is_empty() || visitor.pending.is_some();
        let stays = match visitor.pending {
            // Only that it is gone is told then.
            Some(_) => false,
            None if had_asked => visitor.send(),
            None => visitor.receive(answer),
        };
        // What it sends beyond its request is not looked at, nor that it will send no more.
        let interest = if visitor.pending.is_some() { Interest::None } else { Interest::Write };
        if !stays {
            self.visitors[index] = None;
        } else if !had_asked && (visitor.pending.is_some() || !visitor.output.is_empty()) {
            _ = self.poll.modify(visitor.stream.as_fd(), index as u64, interest);
        }
    }

    fn ask_again(&mut self, index: usize, now: Instant) {
        let Some(Some(visitor)) = self.visitors.get_mut(index) else { return };
        let Some(reply) = visitor.pending.as_mut().and_then(|pending| pending(now)) else { return };
        visitor.pending = None;
        visitor.output = reply;
        if visitor.send() {
            _ = self.poll.modify(visitor.stream.as_fd(), index as u64, Interest::Write);
        } else {
            self.visitors[index] = None;
        }
    }
}

/// The listeners of another configuration, opened and not in use yet.
#[derive(Debug)]
pub(super) struct Change {
    /// For each service that listens elsewhere from now on.
    listeners: Vec<(Service, Vec<Listener>)>,
    /// The permission bits of the control socket, if it stays where it is and gets others.
    mode: Option<u32>,
}

impl Change {
    /// Listens where `settings` say and those `before` did not.
    ///
    /// # Errors
    /// An address that cannot be had.
    pub(super) fn open(before: Option<&Settings>, settings: &Settings) -> Result<Self, StartError> {
        let mut change = Self { listeners: Vec::new(), mode: None };
        let admin = settings.metrics.admin_bind.clone();
        if before.and_then(|before| before.metrics.admin_bind.clone()) != admin {
            change.listen(Service::Admin { is_loopback: false }, admin.as_ref(), settings.umask)?;
        }
        let (old, new) = (before.and_then(control_socket), control_socket(settings));
        let mode = settings.control.control_socket_mode;
        if old != new {
            let address = new.map(BindAddress::Unix);
            change.listen(Service::Control, address.as_ref(), 0o777 & !mode)?;
        } else if before.is_some_and(|before| before.control.control_socket_mode != mode) {
            change.mode = new.map(|_| mode);
        }
        Ok(change)
    }

    /// Listens where the settings say and `door` does not, since another master did.
    ///
    /// # Errors
    /// An address that cannot be had.
    pub(super) fn complete(door: Option<&Door>, settings: &Settings) -> Result<Self, StartError> {
        let mut change = Self { listeners: Vec::new(), mode: None };
        let is_missing = |service: Service| !door.is_some_and(|door| door.serves(service));
        let admin = Service::Admin { is_loopback: false };
        if let Some(address) = settings.metrics.admin_bind.as_ref().filter(|_| is_missing(admin)) {
            change.listen(admin, Some(address), settings.umask)?;
        }
        if let Some(path) = control_socket(settings).filter(|_| is_missing(Service::Control)) {
            change.listen(
                Service::Control,
                Some(&BindAddress::Unix(path)),
                0o777 & !settings.control.control_socket_mode,
            )?;
        }
        Ok(change)
    }

    fn listen(&mut self, service: Service, address: Option<&BindAddress>, umask: u32) -> Result<(), StartError> {
        let options = BindOptions { backlog: BACKLOG, reuse_port: false, umask };
        let bound = address.map(|address| net::bind(address, &options)).transpose();
        match bound {
            Ok(bound) => self.listeners.push((service, bound.unwrap_or_default())),
            Err(error) => {
                self.forget();
                return Err(StartError::failed(error));
            }
        }
        Ok(())
    }

    /// Removes the files of sockets that were made in vain.
    pub(super) fn forget(&self) {
        self.listeners.iter().flat_map(|(_, listeners)| listeners).for_each(unlink);
    }

    /// Has `door` listen there, which is made if there is none.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn make(self, door: &mut Option<Door>) -> Result<(), StartError> {
        let failed = |error| StartError::failed(format!("no admin and control sockets: {error}"));
        if let (Some(mode), Some(door)) = (self.mode, &door) {
            door.set_control_mode(mode);
        }
        for (service, listeners) in self.listeners {
            if door.is_none() && !listeners.is_empty() {
                *door = Some(Door::new().map_err(failed)?);
            }
            if let Some(door) = door {
                door.exchange(service, listeners).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn control_socket(settings: &Settings) -> Option<PathBuf> {
    let Control { control_socket, no_control_socket, .. } = &settings.control;
    control_socket.clone().filter(|_| !no_control_socket)
}

/// The address is known when it listens.
fn service_at(service: Service, listener: &Listener) -> Service {
    match (service, &listener.local) {
        (Service::Admin { .. }, LocalAddress::Tcp(address)) => {
            Service::Admin { is_loopback: address.ip().to_canonical().is_loopback() }
        }
        (service, _) => service,
    }
}

impl Visitor {
    /// Returns whether the visit goes on.
    fn receive(&mut self, answer: &mut dyn FnMut(Service, &[u8]) -> Answer) -> bool {
        let mut room = [0; 4096];
        match self.stream.receive(&mut room) {
            Attempt::Bytes(0) | Attempt::Broken => return false,
            Attempt::NotNow => return true,
            Attempt::Bytes(count) => self.input.extend_from_slice(&room[..count]),
        }
        match answer(self.service, &self.input) {
            Answer::Later(pending) => {
                self.pending = Some(pending);
                true
            }
            Answer::NeedMore => self.input.len() < REQUEST_BYTES_MAX,
            Answer::Reply(reply) => {
                self.output = reply;
                self.send()
            }
        }
    }

    fn send(&mut self) -> bool {
        while self.sent < self.output.len() {
            match self.stream.send(&self.output[self.sent..], Then::End) {
                Attempt::Bytes(count) => self.sent += count,
                Attempt::NotNow => return true,
                Attempt::Broken => return false,
            }
        }
        self.stream.end_sending();
        false
    }
}

/// Readable when [`Door::serve`] has something to do.
impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}
