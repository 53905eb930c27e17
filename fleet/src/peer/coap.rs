//! A CoAP server that takes what is put or posted, in blocks too, and has nothing to get.
//!
//! A message that comes again is answered again and told once. Bound: a body.

use super::{Garbled, Hearer, MESSAGE_MAX, Message, garbled};
use crate::profile::Protocol;
use crate::session::coap::packet::{Block, Code, Kind, Packet, Writer, option};

#[derive(Debug, Default)]
pub(super) struct Peer {
    /// The number of the last message.
    last: Option<u16>,
    /// Of its own messages.
    said: u16,
    /// A body that comes in blocks.
    body: Vec<u8>,
}

fn no(why: impl std::fmt::Display) -> Garbled {
    garbled(Protocol::Coap, why)
}

impl Peer {
    pub(super) fn hear(
        &mut self,
        datagram: &[u8],
        answer: &mut Vec<u8>,
        hearer: Hearer<'_>,
    ) -> Result<(), Garbled> {
        let packet = Packet::read(datagram).map_err(no)?;
        let kind = match packet.kind {
            Kind::Confirmable if packet.code == Code::EMPTY => {
                Writer::new(answer, Kind::Reset, Code::EMPTY, packet.id, &[]).payload(&[]);
                return Ok(());
            }
            Kind::Confirmable => Kind::Acknowledgement,
            Kind::NonConfirmable => Kind::NonConfirmable,
            Kind::Acknowledgement | Kind::Reset => return Ok(()),
        };
        if packet.code.class() != 0 {
            return Ok(()); // an answer, and nothing was asked
        }
        let again = self.last.replace(packet.id) == Some(packet.id);
        let block = packet.number(option::BLOCK1).and_then(Block::of);
        let code = match packet.code {
            Code::PUT | Code::POST => self.take(&packet, block, again, hearer)?,
            Code::GET => Code::NOT_FOUND,
            _ => Code::METHOD_NOT_ALLOWED,
        };
        let id = match kind {
            Kind::Acknowledgement => packet.id,
            _ => {
                self.said = self.said.wrapping_add(1);
                self.said
            }
        };
        let mut writer = Writer::new(answer, kind, code, id, packet.token);
        if let Some(block) = block {
            writer = writer.number(option::BLOCK1, block.value());
        }
        writer.payload(&[]);
        Ok(())
    }

    fn take(
        &mut self,
        packet: &Packet<'_>,
        block: Option<Block>,
        again: bool,
        hearer: Hearer<'_>,
    ) -> Result<Code, Garbled> {
        let more = block.is_some_and(|block| block.more);
        if !again {
            if block.is_none_or(|block| block.number == 0) {
                self.body.clear();
            }
            if self.body.len() + packet.payload.len() > MESSAGE_MAX {
                return Err(no("a body of more than 16 MiB"));
            }
            self.body.extend_from_slice(packet.payload);
            if !more {
                let path = packet
                    .options()
                    .filter(|(number, _)| *number == option::URI_PATH);
                let mut at = String::new();
                for (_, segment) in path {
                    at.push('/');
                    at.push_str(&String::from_utf8_lossy(segment));
                }
                let payload = &*std::mem::take(&mut self.body);
                let retain = false;
                hearer(Message {
                    at: &at,
                    payload,
                    retain,
                });
            }
        }
        Ok(if more { Code::CONTINUE } else { Code::CHANGED })
    }
}
