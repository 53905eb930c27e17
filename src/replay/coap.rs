//! A recording to a CoAP server: each message put or posted, and acknowledged before the next.
//!
//! It goes to the path of the URL, or where that has none to the path that is its topic. Bound: one
//! message; the repetitions of the protocol.

use std::net::SocketAddr;

use actorsim_actors::Clock;
use actorsim_fleet::session::coap::packet::Code;
use actorsim_fleet::session::coap::{Client, Endpoint, Event, Options, Output, Paths};
use serde_json::{Value as Json, json};
use tokio::net::UdpSocket;
use tokio::time::timeout_at;

use super::http::path;
use super::message::Message;
use super::play::{Taker, sleep};
use super::stream::PATIENCE;

/// Longest datagram.
const DATAGRAM_MAX: usize = 65_536;

/// A socket that plays.
#[derive(Debug)]
pub struct CoapTarget {
    socket: UdpSocket,
    path: String,
    options: Options,
    client: Client,
    clock: Clock,
    out: Output,
    open: bool,
    sent: u64,
    acked: u64,
    refused: u64,
    why: Option<Code>,
}

impl CoapTarget {
    /// To a server; whether it is there is known when it answers.
    ///
    /// # Errors
    /// There is no socket for it, in words.
    pub async fn connect(
        address: SocketAddr,
        path: &str,
        mut options: Options,
    ) -> Result<Self, String> {
        let any = match address {
            SocketAddr::V4(_) => "0.0.0.0:0",
            SocketAddr::V6(_) => "[::]:0",
        };
        let bound = UdpSocket::bind(any).await;
        let socket = bound.map_err(|error| format!("no socket: {error}"))?;
        let connected = socket.connect(address).await;
        connected.map_err(|error| format!("{address}: {error}"))?;
        (options.confirmable, options.observe) = (true, false); // a recording does not listen
        options.outbox_max = 1;
        Ok(Self {
            socket,
            path: path.to_owned(),
            options,
            client: Client::default(),
            clock: Clock::wall(),
            out: Output::default(),
            open: false,
            sent: 0,
            acked: 0,
            refused: 0,
            why: None,
        })
    }

    async fn flush(&mut self) -> Result<(), String> {
        for datagram in self.out.datagrams() {
            // One that does not go is as one that is lost: it goes again.
            let _ = self.socket.send(datagram).await;
        }
        self.out.sent();
        for event in self.out.events.drain(..) {
            match event {
                Event::Delivered { .. } => self.acked += 1,
                Event::Refused { .. } => self.refused += 1,
                Event::Retries { code } => self.why = Some(code),
                _ => {}
            }
        }
        match self.out.ended.take() {
            Some(ended) => Err(ended.to_string()),
            None => Ok(()),
        }
    }

    async fn pump(&mut self, to: &Endpoint<'_>, until: tokio::time::Instant) -> Result<(), String> {
        let mut bytes = vec![0; DATAGRAM_MAX];
        let now = self.clock.monotonic();
        let deadline = self.client.deadline(&self.options);
        let soon = deadline.map(|at| tokio::time::Instant::now() + at.since(now));
        let until = soon.map_or(until, |soon| soon.min(until));
        let read = timeout_at(until, self.socket.recv(&mut bytes)).await;
        let (now, options, out) = (self.clock.monotonic(), &self.options, &mut self.out);
        match read {
            Ok(Ok(n)) => self.client.received(options, to, &bytes[..n], now, out),
            // Nobody is there yet, perhaps: the message goes again.
            Ok(Err(_)) => sleep(until).await?,
            Err(_) => {}
        }
        self.client.expire(options, to, self.clock.monotonic(), out);
        self.flush().await
    }
}

impl Taker for CoapTarget {
    async fn give(&mut self, message: &Message) -> Result<(), String> {
        let (template, id) = path(&self.path, message)?;
        let paths = Paths {
            samples: template.clone(),
            commands: template.clone(),
            replies: template,
        };
        let to = Endpoint {
            paths: &paths,
            id: &id,
            seed: 1,
        };
        self.options.content_format = match message.content_type() {
            "application/json" => 50,
            _ => 42, // bytes
        };
        let (now, out) = (self.clock.monotonic(), &mut self.out);
        if !std::mem::replace(&mut self.open, true) {
            self.client.open(&self.options, &to, now, out);
        }
        let sample = (&*message.payload, 1);
        let taken = self.client.publish(&self.options, &to, sample, now, out);
        taken.map_err(|error| error.to_string())?;
        self.sent += 1;
        self.flush().await?;
        let patience = tokio::time::Instant::now() + 5 * PATIENCE;
        while self.client.waiting() > 0 {
            if tokio::time::Instant::now() >= patience {
                let why = self
                    .why
                    .map_or("silence".to_owned(), |code| code.to_string());
                return Err(format!("the server does not take a message: {why}"));
            }
            self.pump(&to, patience).await?;
        }
        Ok(())
    }

    async fn rest(&mut self, until: tokio::time::Instant) -> Result<(), String> {
        sleep(until).await
    }

    async fn close(self) -> Result<Json, String> {
        Ok(json!({ "sent": self.sent, "acked": self.acked, "refused": self.refused }))
    }
}
