//! A connection to a broker, over TLS or not: bytes of the session in and out.
//!
//! It knows no protocol above TLS. Every call that waits may be given up and made again. Bound:
//! what its owner writes; while [`READ_BELOW`] bytes wait to be sent nothing more is read, so that
//! a peer that only talks is not answered into memory.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use actorsim_actors::Time;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

use super::WIRE_MAX;
use crate::session::tls::{Terms, Tls};

/// Bytes that are read at once.
const READ: usize = 16 << 10;
/// Bytes that wait to be sent, from which on nothing is read.
const READ_BELOW: usize = 4 * WIRE_MAX;

/// One connection.
pub(super) struct Channel {
    stream: TcpStream,
    tls: Option<Tls>,
    /// For the peer; the first `sent` bytes have gone.
    wire: Vec<u8>,
    sent: usize,
    /// Since when nothing of it goes.
    stuck: Option<Time>,
    /// Of the peer, for the session.
    plain: Vec<u8>,
    buffer: Box<[u8]>,
    ended: bool,
}

impl Channel {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| error.to_string())?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            stream,
            tls: None,
            wire: Vec::new(),
            sent: 0,
            stuck: None,
            plain: Vec::new(),
            buffer: vec![0; READ].into(),
            ended: false,
        })
    }

    /// Shakes hands; `id` is whose certificate is shown.
    pub(super) async fn secure(&mut self, terms: &Terms, id: &str) -> Result<(), String> {
        let tls = Tls::new(terms, id, &mut self.wire).map_err(|error| error.to_string())?;
        self.tls = Some(tls);
        while !self.tls.as_ref().is_some_and(Tls::is_open) {
            self.turn(Time::ZERO).await?;
            if self.ended {
                return Err("the broker closed the connection in the handshake".to_owned());
            }
        }
        self.stuck = None;
        Ok(())
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.wire.len() - self.sent
    }

    /// Since when nothing goes, if something waits.
    pub(super) fn stuck_since(&self) -> Option<Time> {
        self.stuck
    }

    /// Whether the peer sends no more; what it has sent is in [`Channel::take`].
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// What the peer has said.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    /// Takes bytes of the session, to be sent in turns to come.
    pub(super) fn write(&mut self, plain: &mut Vec<u8>) -> Result<(), String> {
        if plain.is_empty() {
            return Ok(());
        }
        let written = match &mut self.tls {
            None => {
                self.wire.extend_from_slice(plain);
                Ok(())
            }
            Some(tls) => tls.write(plain, &mut self.wire),
        };
        plain.clear();
        written.map_err(|error| error.to_string())
    }

    /// Sends and receives what can be; waits until something can.
    pub(super) async fn turn(&mut self, now: Time) -> Result<(), String> {
        let waiting = self.waiting();
        let interest = match waiting {
            0 => Interest::READABLE,
            READ_BELOW.. => Interest::WRITABLE,
            _ => Interest::READABLE | Interest::WRITABLE,
        };
        if waiting > 0 {
            self.stuck.get_or_insert(now);
        }
        let ready = self.stream.ready(interest).await;
        let ready = ready.map_err(|error| error.to_string())?;
        if ready.is_writable() && waiting > 0 {
            self.send()?;
        }
        if ready.is_readable() && interest.is_readable() {
            self.receive()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), String> {
        match self.stream.try_write(&self.wire[self.sent..]) {
            Ok(sent) => {
                self.sent += sent;
                self.stuck = None;
                if self.sent == self.wire.len() || self.sent > WIRE_MAX {
                    self.wire.drain(..self.sent);
                    self.wire.shrink_to(2 * WIRE_MAX);
                    self.sent = 0;
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn receive(&mut self) -> Result<(), String> {
        let read = match self.stream.try_read(&mut self.buffer) {
            Ok(0) => {
                self.ended = true;
                return Ok(());
            }
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        match &mut self.tls {
            None => self.plain.extend_from_slice(&self.buffer[..read]),
            Some(tls) => {
                let heard = tls.received(&self.buffer[..read], &mut self.plain, &mut self.wire);
                heard.map_err(|error| error.to_string())?;
                self.ended |= tls.is_ended();
            }
        }
        Ok(())
    }

    /// Sends what waits and closes, within a time.
    pub(super) async fn finish(mut self, patience: Duration) {
        if let Some(tls) = &mut self.tls {
            tls.close(&mut self.wire);
        }
        let rest = self.wire.split_off(self.sent);
        let closing = async {
            let _ = self.stream.write_all(&rest).await;
            let _ = self.stream.shutdown().await;
        };
        let _ = tokio::time::timeout(patience, closing).await;
    }
}
