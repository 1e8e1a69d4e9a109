//! [`Client`]: one accepted connection with its [`Connection`] state and its channel. [`Clients`] keeps them, each in a
//! place with what the poller has to know about it: its [`Watch`].

use super::channel::Channel;
use super::spool::BodyStore;
use crate::http::Connection;
use crate::http::connection::Phase;
use crate::http::forwarded::Forwarded;
use crate::http::proxy_protocol::ProxyHeader;
use crate::scoreboard::Waiting;
use crate::sys::poll::Interest;
use crate::sys::socket::{Peer, Stream};
use crate::wsgi::environ::PeerNames;
use std::sync::Arc;
use std::time::Instant;

/// One accepted connection. Whoever has taken it out of its place has it for himself: an application thread for as long
/// as its request is in the application, whoever polls for as long as it reads or sends.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) connection: Connection,
    /// `None` while a request is in the application: its exchange has it then.
    pub(super) channel: Option<Channel>,
    pub(super) stage: Stage,
    /// The number of the listener that it came from, here or in a sibling.
    pub(super) listener: usize,
    /// At the other end of the socket.
    pub(super) peer: Peer,
    /// What it has said of its own client before the first request.
    pub(super) proxied: Option<ProxyHeader>,
    /// Made at the first request.
    pub(super) peer_names: Option<PeerNames>,
    /// What a proxy says of its client in the headers of the current request.
    pub(super) forwarded: Option<Box<Forwarded>>,
    /// The body of the request that is being read.
    pub(super) body: BodyStore,
    /// Whether a request waits for a thread of the application.
    pub(super) is_queued: bool,
    /// Whether what comes of the body is thrown away, since its request has been answered.
    pub(super) discards_body: bool,
    /// Whether the client waits for a `100 Continue` that the application's first read will send.
    pub(super) wants_continue: bool,
    /// Whether the body of the request that was answered will never be complete.
    pub(super) is_body_lost: bool,
    /// When the request that is being served was complete, as far as this worker saw it: from then on it waits for the
    /// application.
    pub(super) complete_at: Option<Instant>,
    /// Requests answered.
    pub(super) requests: u64,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Requests are read and answered.
    Serving,
    /// The last response is being sent; the connection closes with its last byte.
    Closing,
    /// The same, but the client may still be sending: closing at once would reset the connection, and the client
    /// might never see the response (RFC 9112 §9.6).
    ClosingLate,
    /// All is sent and our half is closed; what still comes is read and thrown away.
    Lingering,
}

/// What a client is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// The next request.
    Idle,
    /// Another request, behind a response that has not told that the worker leaves.
    Parting,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// Room for more of the response.
    Send,
    /// The end of what the client sends after a refusal.
    Linger,
}

/// What the poller knows about the connection of a place, whether its client is there or in the application.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The socket, which its channel has too: only so can it be watched while the channel is in the application.
    pub(super) stream: Option<Arc<Stream>>,
    /// What epoll has been asked for; `None` if it does not have the descriptor.
    pub(super) interest: Option<Interest>,
    /// What has to happen by when.
    pub(super) deadline: Option<(Deadline, Instant)>,
    /// The earliest entry in the queue of deadlines. `armed <= deadline` when both are there.
    pub(super) armed: Option<Instant>,
    /// The application thread that has the client, if one has.
    pub(super) caller: Option<usize>,
    /// As what the census has it.
    pub(super) waiting: Waiting,
}

impl Client {
    pub(super) fn new(channel: Channel, peer: Peer, listener: usize) -> Self {
        Self {
            connection: Connection::default(),
            channel: Some(channel),
            stage: Stage::Serving,
            listener,
            peer,
            proxied: None,
            peer_names: None,
            forwarded: None,
            body: BodyStore::default(),
            is_queued: false,
            discards_body: false,
            wants_continue: false,
            is_body_lost: false,
            complete_at: None,
            requests: 0,
        }
    }

    /// The address of the client itself, as far as it is known, for the logs.
    pub(super) fn address(&self) -> &str {
        let forwarded = self.forwarded.as_ref().and_then(|forwarded| forwarded.address.as_deref());
        forwarded.unwrap_or_else(|| self.peer_names.as_ref().map_or("", PeerNames::address))
    }

    /// Whether bytes wait to be sent.
    pub(super) fn has_output(&self) -> bool {
        self.channel.as_ref().is_some_and(|channel| !channel.is_empty())
    }

    /// Whether it waits for the next request, of which no byte is there, and nothing waits to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Serving && self.connection.phase() == Phase::Idle && !self.has_output()
    }
}

/// Names a client. The generation makes a token of a client that is gone find nothing, although its place is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// As epoll carries it. Generations end before the values that name other descriptors.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }

    /// The largest generation of a client.
    pub(super) const GENERATION_MAX: u32 = u32::MAX >> 1;
}

/// All clients of a worker. Boxed, so that one can be taken out for the time it is served, which costs a pointer.
#[derive(Debug, Default)]
pub(super) struct Clients {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    client: Option<Box<Client>>,
    watch: Watch,
}

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, client: Box<Client>) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.watch.stream = client.channel.as_ref().map(|channel| Arc::clone(&channel.stream));
        place.client = Some(client);
        Token { index, generation: place.generation }
    }

    /// Takes a client out; its place stays reserved until [`put_back`](Self::put_back) or [`remove`](Self::remove).
    pub(super) fn take(&mut self, token: Token) -> Option<Box<Client>> {
        self.place(token)?.client.take()
    }

    /// A client that is in its place.
    pub(super) fn peek(&self, token: Token) -> Option<&Client> {
        let place = self.places.get(token.index as usize).filter(|place| place.generation == token.generation)?;
        place.client.as_deref()
    }

    pub(super) fn put_back(&mut self, token: Token, client: Box<Client>) {
        if let Some(place) = self.place(token) {
            place.client = Some(client);
        }
    }

    /// What is known about the connection of a place that is not free.
    pub(super) fn watch(&mut self, token: Token) -> Option<&mut Watch> {
        self.place(token).map(|place| &mut place.watch)
    }

    /// Frees the place of a client, whether it was taken out or not.
    pub(super) fn remove(&mut self, token: Token) {
        if let Some(place) = self.place(token) {
            place.client = None;
            place.watch = Watch::default();
            place.generation = (place.generation + 1) & Token::GENERATION_MAX;
            self.free.push(token.index);
        }
    }

    /// The clients that are there now.
    pub(super) fn tokens(&self) -> Vec<Token> {
        let present = self.places.iter().enumerate().filter(|(_, place)| place.client.is_some());
        present.map(|(index, place)| Token { index: index as u32, generation: place.generation }).collect()
    }

    fn place(&mut self, token: Token) -> Option<&mut Place> {
        self.places.get_mut(token.index as usize).filter(|place| place.generation == token.generation)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    fn client() -> Box<Client> {
        let (ours, _) = UnixStream::pair().unwrap();
        Box::new(Client::new(Channel::new(Stream::from(OwnedFd::from(ours))), Peer::Unix, 0))
    }

    /// An event that was read before its connection closed must not be taken for one of the next connection there.
    #[test]
    fn a_token_of_a_client_that_is_gone_finds_nothing() {
        let mut clients = Clients::default();
        let old = clients.insert(client());
        clients.remove(old);
        let new = clients.insert(client());
        assert_eq!((old.index, clients.len()), (new.index, 1));
        assert!(clients.take(old).is_none() && clients.watch(old).is_none() && clients.peek(old).is_none());
        clients.remove(old);
        clients.put_back(old, client());
        assert!(clients.take(new).is_some() && clients.peek(new).is_none());
        assert_eq!(Token::from_bits(new.to_bits()), new);
    }
}
