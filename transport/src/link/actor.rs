//! The link actor: keeps one connection to a twin and sends telemetry over it.
//!
//! Telemetry is what it handles; dialling and the streams are its pump ([`super::dial`]). Nothing
//! is dropped silently inside QUIC: it waits for room there, and its own mailbox drops the oldest
//! block, counted. Bounds: [`T1_WAIT`] for a connection, [`FLUSH_STEPS_MAX`] steps at an ordered
//! stop.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actorsim_actors::{Fault, Flow, TaskActor, TaskContext};
use actorsim_supervision::ChildSpec;
use quinn::{Connection, SendDatagramError};
use tokio::sync::{Notify, watch};

use super::{Block, Downlink, Link, LinkMessage, dial};
use crate::certs::Identity;
use crate::endpoint::{DATAGRAM_SEND_IDLE, Protocol, close, codes};
use crate::network::Network;
use crate::reading::READING_LEN;

/// How long a block waits for a connection before it is stale and dropped.
const T1_WAIT: Duration = Duration::from_millis(200);
/// At an ordered stop the outbox is looked at this often,
const FLUSH_STEP: Duration = Duration::from_millis(10);
/// this many times at most: two seconds.
const FLUSH_STEPS_MAX: u32 = 200;
/// How long the twin has to take the totals: much more than it needs, as it may be behind.
const FAREWELL_DEADLINE: Duration = Duration::from_millis(2500);

/// Where a link goes, and as whom.
#[derive(Clone)]
pub struct LinkSpec {
    /// The twin.
    pub twin: SocketAddr,
    /// The name its certificate must carry ([`crate::certs::SITE_SERVER_NAME`] fits any node).
    pub server_name: String,
    /// Our certificate.
    pub identity: Identity,
    /// What to speak.
    pub protocol: Protocol,
    /// This node's name.
    pub node: String,
    /// Draws the jitter of reconnects.
    pub seed: u64,
    /// Where commands go.
    pub downlink: Arc<dyn Downlink>,
    /// Where datagrams travel.
    pub network: Network,
}

impl fmt::Debug for LinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSpec")
            .field("twin", &self.twin)
            .field("server_name", &self.server_name)
            .field("protocol", &self.protocol)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// The child that keeps a link: permanent, at the link's path.
#[must_use]
pub fn link_child(id: impl Into<String>, link: &Link, spec: LinkSpec) -> ChildSpec {
    let spec = Arc::new(spec);
    let shared = link.clone();
    ChildSpec::task(id, link.addr(), move || {
        LinkActor::new(shared.clone(), Arc::clone(&spec))
    })
}

/// Asks the connection's control stream for a goodbye, and hears of its end.
#[derive(Debug, Default)]
pub(super) struct Goodbye {
    /// Stays set, so that a connection made meanwhile says it too.
    pub(super) asked: watch::Sender<bool>,
    pub(super) settled: Notify,
}

struct LinkActor {
    link: Link,
    spec: Arc<LinkSpec>,
    live: watch::Sender<Option<Connection>>,
    goodbye: Arc<Goodbye>,
}

impl LinkActor {
    fn new(link: Link, spec: Arc<LinkSpec>) -> Self {
        Self {
            link,
            spec,
            live: watch::Sender::new(None),
            goodbye: Arc::default(),
        }
    }

    /// The connection, waited for as long as a block may wait.
    async fn connection(&self) -> Option<Connection> {
        let up = self.live.borrow().clone();
        if up.is_some() {
            return up;
        }
        let mut live = self.live.subscribe();
        let up = live.wait_for(Option::is_some);
        tokio::time::timeout(T1_WAIT, up).await.ok()?.ok()?.clone()
    }

    /// Sends a block in as few datagrams as fit. What is not sent counts itself when it is dropped.
    async fn send(&self, block: Block) {
        let Some(connection) = self.connection().await else {
            return;
        };
        let mut most = readings_per_datagram(&connection, self.spec.protocol);
        let mut sending = Sending {
            block,
            total: &self.link.0.t1_sent,
        };
        while let Some(datagram) = sending.block.front(most) {
            let length = datagram.len();
            match connection.send_datagram_wait(datagram).await {
                Ok(()) => sending.block.sent(length),
                Err(SendDatagramError::TooLarge) if most > 1 => {
                    // The path got narrower since we asked.
                    let fits = readings_per_datagram(&connection, self.spec.protocol);
                    most = fits.min(most / 2).max(1);
                }
                Err(error) => {
                    tracing::debug!(%error, "telemetry not sent");
                    return;
                }
            }
        }
    }
}

/// A block on its way into QUIC; adds what got there to the session's total, however it ends.
struct Sending<'a> {
    block: Block,
    total: &'a AtomicU64,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.total
            .fetch_add(self.block.readings_sent(), Ordering::Relaxed);
    }
}

/// Readings that fit a datagram now. The guide's own peers send one.
fn readings_per_datagram(connection: &Connection, protocol: Protocol) -> usize {
    match protocol {
        Protocol::Dt1 => 1,
        Protocol::Actorsim1 | Protocol::Commands => {
            (connection.max_datagram_size().unwrap_or(0) / READING_LEN).max(1)
        }
    }
}

impl TaskActor for LinkActor {
    type Msg = LinkMessage;

    async fn started(&mut self, cx: &mut TaskContext<LinkMessage>) -> Result<(), Fault> {
        let line = dial::Line {
            link: self.link.clone(),
            spec: Arc::clone(&self.spec),
            live: self.live.clone(),
            goodbye: Arc::clone(&self.goodbye),
            system: cx.system().clone(),
        };
        cx.pump(dial::run(line));
        Ok(())
    }

    async fn handle(
        &mut self,
        message: LinkMessage,
        _: &mut TaskContext<LinkMessage>,
    ) -> Result<Flow, Fault> {
        match message {
            LinkMessage::T1(block) => self.send(block).await,
            LinkMessage::T3Ack { ticket, status } => drop(self.link.ack(ticket, status)),
        }
        Ok(Flow::Continue)
    }

    /// Sends what waits, says goodbye with the totals, closes.
    async fn stopping(&mut self, _: &mut TaskContext<LinkMessage>) {
        // Without a connection there is nobody to say it to; one may be on its way.
        if self.connection().await.is_none() {
            return;
        }
        for _ in 0..FLUSH_STEPS_MAX {
            let telemetry = self
                .live
                .borrow()
                .as_ref()
                .map_or(DATAGRAM_SEND_IDLE, |connection| {
                    connection.datagram_send_buffer_space()
                });
            if self.link.outbox().waiting() == 0 && telemetry >= DATAGRAM_SEND_IDLE {
                break;
            }
            tokio::time::sleep(FLUSH_STEP).await;
        }
        if self.spec.protocol == Protocol::Actorsim1 {
            let settled = self.goodbye.settled.notified();
            self.goodbye.asked.send_replace(true);
            drop(tokio::time::timeout(FAREWELL_DEADLINE, settled).await);
        }
        if let Some(connection) = self.live.borrow().as_ref() {
            close(connection, codes::STOPPED, b"the link stops");
        }
    }
}
