//! [`Arriving`]: a request body that the application reads while the client sends it (`--no-request-buffering`).
//!
//! For the time of its call the application thread has the connection to itself: whoever polls pauses it at its first
//! event.

use super::channel::Outlet;
use super::client::Client;
use super::engine::{CONTINUE, Rules};
use crate::http::connection::OwnedRequest;
use crate::http::{Connection, Event, RequestError};
use crate::sys::socket::{Attempt, Stream};
use crate::wsgi::{BodyError, BodyReader, Output, Shared};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(super) struct Arriving {
    /// `None` once the request is over.
    connection: Option<Connection>,
    /// Not held: an application that keeps its environ must not keep the connection open.
    stream: Weak<Stream>,
    exchange: Arc<Shared<Outlet>>,
    rules: Arc<Rules>,
    /// Payload that has been decoded and not read.
    pending: Range<usize>,
    /// Whether the client waits for a `100 Continue` before it sends anything.
    wants_continue: bool,
    failed: Option<BodyError>,
}

/// The request whose body is read, and where from.
pub(super) struct ArrivingRequest {
    pub(super) request: OwnedRequest,
    pub(super) body: Arc<Mutex<Arriving>>,
}

impl Arriving {
    /// Takes the connection out of a client whose request is to be read by the application.
    pub(super) fn begin(
        client: &mut Client,
        stream: &Arc<Stream>,
        exchange: Arc<Shared<Outlet>>,
        rules: Arc<Rules>,
    ) -> ArrivingRequest {
        let connection = std::mem::take(&mut client.connection);
        let request = connection.owned_request();
        let body = Self {
            connection: Some(connection),
            stream: Arc::downgrade(stream),
            exchange,
            rules,
            pending: 0..0,
            wants_continue: std::mem::take(&mut client.wants_continue),
            failed: None,
        };
        ArrivingRequest { request, body: Arc::new(Mutex::new(body)) }
    }

    /// The rest of the payload up to `room`, or the next event's.
    fn read_some(&mut self, room: &mut [u8]) -> Result<usize, BodyError> {
        loop {
            let connection = self.connection.as_mut().ok_or(BodyError::Over)?;
            if !self.pending.is_empty() {
                let end = self.pending.end.min(self.pending.start + room.len());
                let payload = connection.payload(self.pending.start..end);
                room[..payload.len()].copy_from_slice(payload);
                self.pending.start = end;
                return Ok(payload.len());
            }
            match connection.next_event(&self.rules.limits) {
                Ok(Event::Payload(run)) => self.pending = run,
                Ok(Event::NeedInput) if connection.is_complete() => return Ok(0),
                Ok(Event::NeedInput) => self.receive()?,
                Ok(Event::End) => return Ok(0),
                Ok(Event::Proxied(_) | Event::Head { .. } | Event::Closed) => return Err(BodyError::Incomplete),
                Err(RequestError::BodyTooLarge) => return Err(BodyError::TooLarge),
                Err(_) => return Err(BodyError::Incomplete),
            }
        }
    }

    fn receive(&mut self) -> Result<(), BodyError> {
        if std::mem::take(&mut self.wants_continue) {
            self.send_continue();
        }
        let connection = self.connection.as_mut().ok_or(BodyError::Over)?;
        let stream = self.stream.upgrade().ok_or(BodyError::Over)?;
        match stream.receive(connection.space()) {
            Attempt::Bytes(0) => connection.end_input(),
            Attempt::Bytes(count) => connection.filled(count),
            Attempt::NotNow if !self.wait(&stream) => return Err(BodyError::Timeout),
            Attempt::NotNow => {}
            Attempt::Broken => return Err(BodyError::Incomplete),
        }
        Ok(())
    }

    /// Waits for the client to send something. Returns whether it has.
    fn wait(&self, stream: &Stream) -> bool {
        self.exchange.lock().begin_client_wait();
        let has_come = stream.wait_readable(self.rules.body_timeout);
        self.exchange.lock().end_client_wait();
        has_come
    }

    fn send_continue(&self) {
        let mut exchange = self.exchange.lock();
        if exchange.status().is_none() {
            exchange.output.buffer().extend_from_slice(CONTINUE);
            // A client that has gone is found by the read that follows.
            _ = exchange.output.flush();
        }
    }
}

impl ArrivingRequest {
    /// Gives the connection back when the application is done; what it has not read of the body is thrown away when it
    /// comes, unless the client will not send it.
    pub(super) fn end(self, client: &mut Client) {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        client.connection = body.connection.take().unwrap_or_default();
        client.is_body_lost = body.failed.is_some() || body.wants_continue;
    }
}

impl BodyReader for Arriving {
    fn read(&mut self, room: &mut [u8]) -> Result<usize, BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.read_some(room).inspect_err(|&error| {
            self.failed = Some(error);
            let status = match error {
                BodyError::Timeout => 408,
                BodyError::TooLarge => 413,
                BodyError::Incomplete | BodyError::Over => 400,
            };
            self.exchange.lock().expect_failure(status);
        })
    }
}
