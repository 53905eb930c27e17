//! Bytes on their way out of one socket.
//!
//! What is in flight stays where it is until [`Outgoing::advance`]; what is written meanwhile waits
//! behind it and then goes as one. Bound: the queue of the socket, kept by its table.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::name::Name;

/// Capacity of a stream's buffers that is kept for the next socket.
const KEPT_BYTES: usize = 4_096;

/// Emptied ones kept for the next sockets: as many as one turn may fill.
const POOL_MAX: usize = 1_024;

/// Bytes of its queue that a datagram takes: an empty one, too, so that there is a bound to them.
pub(crate) const fn datagram_room(len: usize) -> usize {
    if len == 0 { 1 } else { len }
}

/// Bytes on their way out of one socket.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    flight: Vec<u8>,
    done: usize,
    next: Vec<u8>,
    datagrams: VecDeque<(Option<SocketAddr>, Vec<u8>)>,
    /// Where the datagram in flight goes.
    name: Name,
}

impl Outgoing {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.next.extend_from_slice(bytes);
    }

    pub(crate) fn push_datagram(&mut self, to: Option<SocketAddr>, bytes: &[u8]) {
        self.datagrams.push_back((to, bytes.to_vec()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && self.datagrams.is_empty()
    }

    /// Bytes that wait or are in flight.
    pub(crate) fn len(&self) -> usize {
        let datagrams: usize = self.datagrams.iter().map(|d| d.1.len()).sum();
        self.flight.len() - self.done + self.next.len() + datagrams
    }

    /// What a stream sends next.
    pub(crate) fn stream(&mut self) -> &[u8] {
        if self.done == self.flight.len() {
            self.flight.clear();
            self.done = 0;
            std::mem::swap(&mut self.flight, &mut self.next);
        }
        &self.flight[self.done..]
    }

    /// The stream has sent so many bytes.
    pub(crate) fn advance(&mut self, n: usize) {
        self.done += n;
        debug_assert!(self.done <= self.flight.len());
    }

    /// The datagram that goes next, and to whom.
    pub(crate) fn datagram(&mut self) -> Option<(&[u8], Option<&Name>)> {
        let (to, bytes) = self.datagrams.front()?;
        let to = to.map(|to| {
            self.name = Name::of(to);
            &self.name
        });
        Some((bytes, to))
    }

    /// The datagram is sent, or never will be. Returns the room that it took.
    pub(crate) fn pass(&mut self) -> usize {
        let passed = self.datagrams.pop_front();
        passed.map_or(0, |d| datagram_room(d.1.len()))
    }
}

/// Emptied [`Outgoing`]s, so that an idle socket has none.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "they move between sockets by pointer")]
pub(crate) struct Pool(Vec<Box<Outgoing>>);

impl Pool {
    pub(crate) fn take(&mut self) -> Box<Outgoing> {
        self.0.pop().unwrap_or_default()
    }

    /// Takes one back that nothing refers to.
    pub(crate) fn give(&mut self, mut out: Box<Outgoing>) {
        let capacity = out.flight.capacity().max(out.next.capacity());
        if self.0.len() < POOL_MAX && capacity <= KEPT_BYTES && out.datagrams.capacity() <= 8 {
            out.flight.clear();
            out.next.clear();
            out.datagrams.clear();
            out.done = 0;
            self.0.push(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_stays_and_the_rest_goes_as_one() {
        let mut out = Outgoing::default();
        assert!(out.is_empty());
        out.push(b"abc");
        assert_eq!(out.stream(), b"abc");
        out.push(b"de");
        out.push(b"f");
        out.advance(2);
        assert_eq!(out.stream(), b"c");
        assert_eq!(out.len(), 4);
        out.advance(1);
        assert_eq!(out.stream(), b"def");
        out.advance(3);
        assert!(out.is_empty());
        assert_eq!(out.stream(), b"");
    }

    #[test]
    fn datagrams_keep_their_borders_also_empty_ones() {
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut out = Outgoing::default();
        out.push_datagram(Some(to), b"");
        out.push_datagram(None, b"xy");
        assert!(!out.is_empty());
        let (bytes, name) = out.datagram().unwrap();
        assert_eq!((bytes, name.and_then(Name::address)), (&b""[..], Some(to)));
        assert_eq!(out.pass(), 1);
        let (bytes, name) = out.datagram().unwrap();
        assert_eq!((bytes, name.is_none()), (&b"xy"[..], true));
        assert_eq!(out.pass(), 2);
        assert!(out.is_empty() && out.datagram().is_none());
    }
}
