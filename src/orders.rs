//! Orders from the master to a template: fork this worker. The answer stands in the worker's slot of the scoreboard.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// Fork a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its slot of the scoreboard.
    pub slot: u32,
    /// Its number in the log.
    pub number: u32,
    /// Which use of the slot this is.
    pub ticket: u32,
    /// How many workers the master has asked for so far, with this one.
    pub age: u32,
}

/// The master's end. Dropping it tells the template to leave.
#[derive(Debug)]
pub struct Sender(PipeWriter);

/// The template's end.
#[derive(Debug)]
pub struct Receiver(PipeReader);

/// Less than PIPE_BUF, so an order is written whole or not at all.
const ORDER_BYTES: usize = 16;

/// The two ends, close-on-exec.
///
/// # Errors
/// Out of descriptors.
pub fn channel() -> io::Result<(Sender, Receiver)> {
    let (reader, writer) = io::pipe()?;
    Ok((Sender(writer), Receiver(reader)))
}

impl Sender {
    /// Cannot block: a template has fewer orders outstanding than there are slots, and a pipe has room for thousands.
    ///
    /// # Errors
    /// The template is gone.
    pub fn send(&mut self, order: Order) -> io::Result<()> {
        let words = [order.slot, order.number, order.ticket, order.age].map(u32::to_ne_bytes);
        self.0.write_all(words.as_flattened())
    }
}

impl Receiver {
    /// Waits for the next order; `None`: there will be none, the template is to leave.
    ///
    /// # Errors
    /// None on Linux.
    pub fn receive(&mut self) -> io::Result<Option<Order>> {
        let mut words = [[0; 4]; ORDER_BYTES / 4];
        match self.0.read_exact(words.as_flattened_mut()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let [slot, number, ticket, age] = words.map(u32::from_ne_bytes);
        Ok(Some(Order { slot, number, ticket, age }))
    }
}

/// Readable while there is an order, or when there will be none.
impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_sent_and_end_with_their_sender() {
        let (mut sender, mut receiver) = channel().unwrap();
        let orders = [
            Order { slot: 0, number: 1, ticket: 3, age: 1 },
            Order { slot: 4_000_000_000, number: 2, ticket: 4, age: 70_000 },
        ];
        orders.into_iter().for_each(|order| sender.send(order).unwrap());
        drop(sender);
        assert_eq!(receiver.receive().unwrap(), Some(orders[0]));
        assert_eq!(receiver.receive().unwrap(), Some(orders[1]));
        assert_eq!(receiver.receive().unwrap(), None);
    }

    #[test]
    fn a_template_that_is_gone_takes_no_orders() {
        let (mut sender, receiver) = channel().unwrap();
        drop(receiver);
        assert!(sender.send(Order { slot: 0, number: 1, ticket: 1, age: 1 }).is_err());
    }
}
