//! What devices publish over their node's AMQP connection.
//!
//! The simulated broker is the relay itself, which confirms at once: here nothing is answered.
//! Bound: a message.

use super::{Garbled, Hearer, Message, WAITING_MAX, garbled, parts};
use crate::profile::Protocol;
use crate::session::amqp::Publishing;

#[derive(Debug, Default)]
pub(super) struct Peer {
    waiting: Vec<u8>,
}

impl Peer {
    pub(super) fn hear(&mut self, bytes: &[u8], hearer: Hearer<'_>) -> Result<(), Garbled> {
        parts(&mut self.waiting, bytes, |rest| {
            let read = Publishing::read(rest).map_err(|why| garbled(Protocol::Amqp, why))?;
            let Some((message, whole)) = read else {
                return match rest.len() > WAITING_MAX {
                    true => Err(garbled(Protocol::Amqp, "a message without an end")),
                    false => Ok(None),
                };
            };
            hearer(Message {
                at: message.key,
                payload: &message.body,
                retain: false,
            });
            Ok(Some(whole))
        })
    }
}
