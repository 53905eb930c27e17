//! What comes out of a session: datagrams for the peer, and events for its owner.
//!
//! One [`Output`] serves any number of sessions in turn: the owner drains it after each call.
//! Bound: one call's worth.

use super::packet::Code;

/// Collected by a session's calls.
#[derive(Debug, Default)]
pub struct Output {
    /// Datagrams, one after another.
    pub bytes: Vec<u8>,
    /// Where each of them ends.
    pub ends: Vec<usize>,
    /// For the owner, in order.
    pub events: Vec<Event>,
    /// The socket is of no more use: send what there is, then close it.
    pub ended: Option<Ended>,
    /// The peer has said something that can be understood.
    pub answered: bool,
    /// Messages that fit nothing, so far; counted only.
    pub strays: u64,
    /// A path while it is written.
    pub(super) path: String,
}

impl Output {
    /// The datagrams, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins
            .zip(&self.ends)
            .map(|(begin, end)| &self.bytes[begin..*end])
    }

    /// Forgets what was sent; rooms are kept.
    pub fn sent(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// A message has been written whole.
    pub(super) fn end_datagram(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

/// What has happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A sample was taken by the server, or handed over if it is not to be acknowledged.
    Delivered {
        /// The owner's number for it.
        tag: u64,
    },
    /// A sample was refused for good; it is gone.
    Refused {
        /// The owner's number for it.
        tag: u64,
        /// In the server's words; [`Code::EMPTY`]: it does not understand such messages.
        code: Code,
    },
    /// A reply was refused for good; it is gone.
    ReplyRefused {
        /// In the server's words.
        code: Code,
    },
    /// The server failed, and is asked again later.
    Retries {
        /// In the server's words.
        code: Code,
    },
    /// The server does not let its commands be observed.
    NotObserved {
        /// In the server's words.
        code: Code,
    },
    /// A command.
    Message {
        /// What is in it.
        payload: Box<[u8]>,
        /// It was put to the device, and the answer to it is the reply.
        put: bool,
    },
}

/// Why a socket is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Closed by its owner.
    #[error("closed")]
    Closed,
    /// Nobody answers, however often a message is sent.
    #[error("no answer from the server in time")]
    Silent,
}
