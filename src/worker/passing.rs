//! Connections that move between workers (DESIGN, Between workers): new ones to the worker with the fewest, requests
//! that would wait to one that is idle.

use super::channel::Channel;
use super::client::{Client, Stage, Token};
use super::engine::Engine;
use super::inbox::{Exhausted, Introduction, Message, Moved, MovedRequest, Outgoing, Passed, Siblings};
use crate::http::Connection;
use crate::http::connection::{Exported, Phase};
use crate::inboxes::Inboxes;
use crate::scoreboard::Scoreboard;
use std::os::fd::BorrowedFd;

/// The other workers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing<'w> {
    siblings: Siblings<'w>,
    scoreboard: &'w Scoreboard,
    /// The slot of this worker.
    own: u32,
}

/// Messages taken from the inbox per event, so that the connections that are here already are not kept waiting.
const MESSAGES_MAX: usize = 16;

/// A new connection moves to a worker that has so many fewer. With 1, those that are closed after one response would
/// move for nothing.
const FEWER_MIN: u64 = 2;

impl<'w> Passing<'w> {
    pub(super) fn new(inboxes: &'w Inboxes, scoreboard: &'w Scoreboard, own: u32) -> Self {
        Self { siblings: Siblings::new(inboxes, scoreboard, own), scoreboard, own }
    }

    /// Readable while somebody has sent something.
    pub(super) fn inbox(&self) -> BorrowedFd<'w> {
        self.siblings.reader()
    }

    /// Tells one that has more than it can do that this worker is idle, after having said so on the scoreboard.
    pub(super) fn offer_help(&self) {
        if let Some(slot) = self.scoreboard.first_with_queue(self.own) {
            self.siblings.poke(slot);
        }
    }

    /// Gives back the reservation of a worker that could not be sent anything. While it was reserved, others may have
    /// looked for an idle worker in vain.
    fn release(&self, slot: u32) {
        self.scoreboard.slot(slot).release();
        self.offer_help();
    }
}

impl Engine<'_> {
    /// Moves a connection that has just been accepted to the worker with the fewest. Returns whether that is this one.
    pub(super) fn spread(&mut self, token: Token) -> bool {
        let Some(passing) = self.passing.filter(|_| !self.is_leaving()) else { return true };
        // With those that others have sent and that have not been taken in yet.
        let own = self.slot.load();
        let best = passing.scoreboard.best_sibling(passing.own);
        let better = best.filter(|&best| own >= passing.scoreboard.slot(best).load() + FEWER_MIN);
        let is_gone = better.is_some_and(|better| self.move_away(better, token));
        self.note_connections();
        !is_gone
    }

    /// Sends a connection that epoll does not watch to another worker, if that can be.
    fn move_away(&mut self, slot: u32, token: Token) -> bool {
        let Some(client) = self.io.clients.take(token) else { return true };
        match self.pass(slot, token, client) {
            Ok(()) => true,
            Err(client) => {
                self.io.clients.put_back(token, client);
                false
            }
        }
    }

    /// Gives requests that wait to workers that are idle, the oldest first, if they would have to wait for long.
    pub(super) fn pass_queued(&mut self) {
        let Some(passing) = self.passing.filter(|_| self.is_help_wanted()) else { return };
        let mut index = 0;
        while let Some(&token) = self.queue.get(index) {
            // It has gone meanwhile: nobody is to be reserved for it.
            if self.io.clients.peek(token).is_none() {
                self.queue.remove(index);
                continue;
            }
            let Some(idle) = self.helper(passing) else { break };
            let can_move = self.can_be_passed(token);
            if self.move_away(idle, token) {
                self.queue.remove(index);
                continue;
            }
            // Not this one; the next one may be smaller.
            index += 1;
            if !self.is_handing_over() {
                passing.release(idle);
            } else if can_move {
                self.note_no_room();
            }
        }
        self.note_queue();
    }

    /// Who is to have a request that waits: an idle worker, reserved for it. From a worker that hands over, anybody
    /// takes it.
    fn helper(&self, passing: Passing<'_>) -> Option<u32> {
        if !self.is_handing_over() {
            passing.scoreboard.idle_sibling(passing.own)
        } else if self.has_nobody_room() {
            None
        } else {
            passing.scoreboard.best_sibling(passing.own)
        }
    }

    /// Moves all connections that can move to other workers, whoever they are, until one has no room. It is the one
    /// with the fewest each time, so that all get about as many.
    pub(super) fn pass_all(&mut self) {
        let Some(passing) = self.passing else { return };
        self.pass_queued();
        if passing.scoreboard.best_sibling(passing.own).is_none() {
            return;
        }
        for token in self.io.clients.tokens() {
            if self.has_nobody_room() {
                break;
            }
            if !self.io.clients.peek(token).is_some_and(is_between_requests) {
                continue;
            }
            let Some(best) = passing.scoreboard.best_sibling(passing.own) else { break };
            let Some(client) = self.io.clients.take(token) else { continue };
            if let Err(client) = self.pass(best, token, client) {
                self.io.settle(token, client);
                self.note_no_room();
            }
        }
    }

    /// Sends a client to another worker. It comes back if that cannot be; epoll does not watch it any more then.
    fn pass(&mut self, slot: u32, token: Token, client: Box<Client>) -> Result<(), Box<Client>> {
        let Some(passing) = self.passing else { return Err(client) };
        if client.has_output() || client.discards_body {
            return Err(client);
        }
        self.io.unwatch(token);
        let exported = client.connection.export();
        let passed = match exported.as_ref().and_then(|exported| outgoing(&client, exported)) {
            Some(outgoing) => passing.siblings.send(slot, &outgoing),
            None => Passed::Full,
        };
        match passed {
            Passed::Done => self.io.close(token),
            Passed::Orphaned => {
                self.io.close(token);
                self.adopts_orphans = true;
            }
            Passed::Full => return Err(client),
            Passed::Failed(error) => {
                log::error!("a connection cannot be passed to another worker: {error}");
                return Err(client);
            }
        }
        Ok(())
    }

    /// Whether a request that waits could be sent to another worker, if one had room for it.
    pub(super) fn can_be_passed(&self, token: Token) -> bool {
        self.io.clients.peek(token).is_none_or(fits)
    }

    /// Reads the inbox.
    pub(super) fn on_inbox(&mut self) {
        let Some(passing) = self.passing else { return };
        for _ in 0..MESSAGES_MAX {
            match passing.siblings.receive() {
                Ok(Some(Message::Connection(moved))) => self.take_in(*moved),
                Ok(Some(Message::Poke)) => self.pass_queued(),
                Ok(Some(Message::Orphans)) => self.adopts_orphans = true,
                Ok(None) => break,
                Err(Exhausted) => {
                    self.io.rest_inbox();
                    break;
                }
            }
        }
    }

    /// Takes in what was sent to workers that are gone, if there is reason to look for it.
    pub(super) fn adopt_orphans(&mut self) {
        let Some(passing) = self.passing.filter(|_| self.adopts_orphans) else { return };
        self.accept_stranded();
        let mut orphans = Vec::new();
        // Without a descriptor for the next one, the next batch goes on.
        self.adopts_orphans = passing.siblings.adopt_orphans(&mut orphans) == Err(Exhausted);
        orphans.into_iter().for_each(|moved| self.take_in(moved));
    }

    fn take_in(&mut self, moved: Moved) {
        let Moved { stream, listener, peer, introduction, requests, request, leftover, input_ended } = moved;
        // A worker of a newer configuration may have sent it, from an address that this one does not know.
        let listener = if listener < self.places { listener } else { 0 };
        let MovedRequest { head, body } = request.unwrap_or_default();
        let mut client = Client::new(Channel::new(stream), peer, listener);
        client.requests = requests;
        match Connection::adopt(&head, &leftover, input_ended, &self.rules.limits) {
            Ok(connection) => client.connection = connection,
            // For a worker of another configuration it was sound.
            Err(error) => self.refuse(&mut client, error),
        }
        match (introduction, self.io.proxy_versions) {
            (Introduction::Made(header), _) => client.proxied = Some(header),
            (Introduction::Awaited, Some(versions)) => client.connection.expect_proxy_header(versions),
            (Introduction::Awaited | Introduction::None, _) => {}
        }
        if let Err(error) = client.body.push(&body, &self.rules.spool) {
            self.refuse_storage(&mut client, &error);
        }
        client.complete_at = Some(self.io.now);
        let token = self.io.clients.insert(Box::new(client));
        self.arrivals.push_back(token);
        self.note_connections();
    }
}

/// Whether a connection could go to another worker as it is, with no more than the beginning of a request.
fn is_between_requests(client: &Client) -> bool {
    let has_no_request = matches!(client.connection.phase(), Phase::Idle | Phase::Head);
    let is_free = client.stage == Stage::Serving && !client.has_output() && !client.discards_body;
    has_no_request && is_free && fits(client)
}

/// Whether a client could be described to another worker.
fn fits(client: &Client) -> bool {
    let exported = client.connection.export();
    exported.as_ref().and_then(|exported| outgoing(client, exported)).is_some_and(|outgoing| outgoing.fits())
}

fn introduction(client: &Client) -> Introduction {
    match client.proxied {
        Some(header) => Introduction::Made(header),
        None if client.connection.expects_proxy_header() => Introduction::Awaited,
        None => Introduction::None,
    }
}

/// What is sent of a client; `None` if its body is in a file or with the application.
fn outgoing<'c>(client: &'c Client, exported: &'c Exported<'c>) -> Option<Outgoing<'c>> {
    Some(Outgoing {
        stream: &client.channel.as_ref()?.stream,
        listener: client.listener,
        peer: client.peer,
        introduction: introduction(client),
        requests: client.requests,
        head: exported.head,
        body: client.body.in_memory()?,
        leftover: &exported.leftover,
        input_ended: exported.input_ended,
    })
}
