//! [`Client`]: one accepted connection, its [`Connection`] state, its channel and its deadline. [`Clients`] keeps them.

use super::channel::Channel;
use crate::http::Connection;
use crate::sys::poll::Interest;
use crate::sys::socket::Peer;
use crate::wsgi::environ::PeerNames;
use std::time::Instant;

/// One accepted connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) connection: Connection,
    /// `None` while a request is in the application, or a finished response waits with the postman: they have it then.
    pub(super) channel: Option<Channel>,
    pub(super) stage: Stage,
    /// The listener it came from.
    pub(super) listener: usize,
    pub(super) peer: Peer,
    /// Made at the first request.
    pub(super) peer_names: Option<PeerNames>,
    /// The body of the request that is being read.
    pub(super) body: Vec<u8>,
    /// What epoll has been asked for; `None` before the descriptor was added.
    pub(super) interest: Option<Interest>,
    /// What has to happen by when.
    pub(super) deadline: Option<(Deadline, Instant)>,
    /// The earliest entry of this client in the queue of deadlines. `armed <= deadline` when both are there.
    pub(super) armed: Option<Instant>,
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
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// Room for more of the response.
    Send,
    /// The end of what the client sends after a refusal.
    Linger,
}

impl Client {
    pub(super) fn new(channel: Channel, peer: Peer, listener: usize) -> Self {
        Self {
            connection: Connection::default(),
            channel: Some(channel),
            stage: Stage::Serving,
            listener,
            peer,
            peer_names: None,
            body: Vec::new(),
            interest: None,
            deadline: None,
            armed: None,
            requests: 0,
        }
    }

    /// Whether bytes wait to be sent.
    pub(super) fn has_output(&self) -> bool {
        self.channel.as_ref().is_some_and(|channel| !channel.is_empty())
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
        place.client = Some(client);
        Token { index, generation: place.generation }
    }

    /// Takes a client out; its place stays reserved until [`put_back`](Self::put_back) or [`remove`](Self::remove).
    pub(super) fn take(&mut self, token: Token) -> Option<Box<Client>> {
        self.place(token)?.client.take()
    }

    pub(super) fn put_back(&mut self, token: Token, client: Box<Client>) {
        if let Some(place) = self.place(token) {
            place.client = Some(client);
        }
    }

    /// Frees the place of a client, whether it was taken out or not.
    pub(super) fn remove(&mut self, token: Token) {
        if let Some(place) = self.place(token) {
            place.client = None;
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
