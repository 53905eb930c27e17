//! The connection actor: one accepted QUIC connection.
//!
//! Its mailbox holds T1 batches alone, so that a flooding gateway evicts its own readings only. Its
//! pumps, in reading order: `datagrams` (T1 in), `events` (T2 streams in), `control` (hello,
//! registrations, T2 acknowledgements, goodbye), `commands` (T3 out). One for commands alone has
//! `join` instead of them, on a runtime without telemetry. The connection is closed when the actor
//! goes, however it goes, and its devices are forgotten when its pumps have gone.
//! Bounds: [`CONN_BATCHES`] batches, QUIC's stream limits, the registry's limits.

mod commands;
mod control;
mod datagrams;
mod events;
mod join;
mod read;
mod register;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::{
    Addr, Clock, Fault, Flow, Level, MailboxSpec, Message, Overflow, System, TaskActor, TaskContext,
};
use actorsim_supervision::{ChildSpec, Restart};
use parking_lot::Mutex;
use quinn::{ConnectionError, VarInt};

use crate::batch::Batch;
use crate::endpoint::{Protocol, close, codes};
use crate::limits::{Place, Quota};
use crate::meter::Meter;
use crate::reading::Reading;
use crate::registry::Owned;
use crate::session::T2Session;
use crate::stats::{ConnStats, DropReason, Exchange, OffsetFilter, Tier};
use crate::transport::Core;

pub(crate) use control::CONTROL_AHEAD;
pub(crate) use read::{FrameReader, ReadFrameError};

/// T1 batches waiting in one connection's mailbox (the guide's figure); the oldest goes.
pub const CONN_BATCHES: u32 = 1024;
/// How long a batch waits for tier T1 before it is stale and dropped; newer ones wait behind it
/// meanwhile.
pub const T1_FORWARD_DEADLINE: Duration = Duration::from_secs(1);
/// How often what quinn counts for a live connection is added to the counters.
pub(crate) const METER_PERIOD: Duration = Duration::from_secs(5);
/// Pause between looks at what a closed connection has not handed on yet,
const CLOSED_LOOK: Duration = Duration::from_millis(5);
/// and how many looks: a second in all, as long as tier T1 may hold a batch.
const CLOSED_LOOKS_MAX: u32 = 200;

/// What a connection actor is sent.
#[derive(Debug)]
pub enum ConnMessage {
    /// Decoded telemetry.
    T1(Batch),
    /// QUIC says that it is over; looked at again while batches wait, this many times.
    Closed {
        /// Looks left.
        looks: u32,
    },
}

impl Message for ConnMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::T1(_) => "t1_batch",
            Self::Closed { .. } => "closed",
        }
    }
}

/// What the pumps of one connection share.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) core: Arc<Core>,
    pub(crate) id: u32,
    pub(crate) quic: quinn::Connection,
    pub(crate) protocol: Protocol,
    /// Whether its link takes commands over a connection of their own.
    pub(crate) joinable: bool,
    /// The names of devices its certificate covers; any, if `None`.
    pub(crate) devices: Option<String>,
    /// How many devices it may make known, with others of its kind; any number, if `None`.
    pub(crate) quota: Option<Arc<Quota>>,
    /// Given back when all of the connection is gone.
    place: Option<Place>,
    pub(crate) system: System,
    pub(crate) session: OnceLock<Arc<T2Session>>,
    pub(crate) owned: Mutex<Owned>,
    /// What came over it, and what became of it.
    pub(crate) figures: Arc<ConnStats>,
    /// Why it was closed here, if the peer is to blame.
    refused: OnceLock<String>,
    /// Devices that it registered were refused, so those that are not covered may never be.
    refuses: AtomicBool,
    /// A registration is being worked on.
    registers: AtomicBool,
    /// Whether all that came on event streams has been handed on.
    events_over: AtomicBool,
    /// The link's clock against ours, and by how much its stamps are corrected.
    offsets: Mutex<OffsetFilter>,
    correction_us: AtomicI64,
}

impl Peer {
    /// Makes the devices of `readings` reachable over a `dt/1` connection that shows them for the
    /// first time, or again after the connection that reached them is gone.
    fn look(&self, readings: &[Reading]) {
        if self.protocol != Protocol::Dt1 {
            return;
        }
        let mut owned = self.owned.lock();
        for same in readings.chunk_by(|a, b| a.device == b.device) {
            let (registry, device) = (&self.core.registry, same[0].device);
            if let Some(quota) = &self.quota
                && !owned.covers(&device)
            {
                if quota.admit(device).is_err() {
                    continue;
                }
                owned.cover(device);
            }
            registry.claim_plain(self.id, &mut owned, device);
        }
    }

    fn clock(&self) -> &Clock {
        self.system.clock()
    }

    /// Whether there are devices that it may not speak for.
    const fn is_restricted(&self) -> bool {
        self.devices.is_some() || self.quota.is_some()
    }

    /// Whether it may speak for the devices of all `readings`.
    fn covers(&self, readings: &[Reading]) -> bool {
        if !self.is_restricted() {
            return true;
        }
        let owned = self.owned.lock();
        readings.iter().all(|reading| owned.covers(&reading.device))
    }

    /// Takes the readings out whose devices it may not speak for, counts them as dropped; returns
    /// how many.
    fn sift(&self, tier: Tier, readings: &mut Vec<Reading>) -> u64 {
        if !self.is_restricted() {
            return 0;
        }
        let came = readings.len();
        let owned = self.owned.lock();
        readings.retain(|reading| owned.covers(&reading.device));
        drop(owned);
        let refused = (came - readings.len()) as u64;
        for drops in [self.core.stats.drops(tier), &self.figures.dropped] {
            drops.add(DropReason::Refused, refused);
        }
        refused
    }

    /// The link said what time it is there.
    fn hear_clock(&self, exchange: Exchange) {
        let believed = self.offsets.lock().take(exchange);
        if let Some(offset) = believed {
            let correction = offset.correction_us();
            self.correction_us.store(correction, Ordering::Relaxed);
            self.core.stats.clocks.note(self.id, offset);
        }
    }

    /// Now, by the clock of the link's devices as far as it is known: what latencies count from
    /// stamps to.
    fn link_us(&self) -> u64 {
        let correction = self.correction_us.load(Ordering::Relaxed);
        self.clock().unix_us().saturating_add_signed(correction)
    }

    /// Closes the connection because of what the peer did.
    pub(crate) fn refuse(&self, code: VarInt, why: &str) {
        drop(self.refused.set(why.to_owned()));
        close(&self.quic, code, why.as_bytes());
    }
}

impl Drop for Peer {
    /// Runs when the last pump has gone, so that none claims a device for a dead connection, and
    /// no reading comes that was counted as lost.
    fn drop(&mut self) {
        drop(self.place.take());
        self.core.registry.close(self.id, self.owned.get_mut());
        self.core.stats.clocks.forget(self.id);
        self.core.stats.conns.forget(self.id);
        if let Some(session) = self.session.get() {
            let lost = session.settle_t1();
            self.core.stats.t1.dropped.add(DropReason::Network, lost);
            self.core.sessions.left(session.id());
        }
    }
}

/// An accepted connection, as the listener hands it over.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) quic: quinn::Connection,
    pub(crate) protocol: Protocol,
    /// Whether its link takes commands over a connection of their own.
    pub(crate) joinable: bool,
    pub(crate) devices: Option<String>,
    pub(crate) quota: Option<Arc<Quota>>,
    /// Until its actor takes it.
    pub(crate) place: Arc<Mutex<Option<Place>>>,
}

/// The connection actor.
#[derive(Debug)]
pub(crate) struct Conn {
    peer: Arc<Peer>,
    addr: Addr<ConnMessage>,
    closing: VarInt,
    meter: Arc<Meter>,
}

/// The child that serves an accepted connection: temporary, `/transport/conn/<id>`.
pub(crate) fn conn_child(system: &System, core: &Arc<Core>, accepted: Accepted) -> ChildSpec {
    let id = core.registry.next_id();
    let path = core.conn_path.join(&id.to_string());
    let addr = Addr::new(path, MailboxSpec::new(CONN_BATCHES, Overflow::DropOldest));
    let handle = system.handle().clone();
    let (system, core, address) = (system.clone(), Arc::clone(core), addr.clone());
    let factory = move || {
        let peer = Peer {
            core: Arc::clone(&core),
            id,
            quic: accepted.quic.clone(),
            protocol: accepted.protocol,
            joinable: accepted.joinable,
            devices: accepted.devices.clone(),
            quota: accepted.quota.clone(),
            place: accepted.place.lock().take(),
            system: system.clone(),
            session: OnceLock::new(),
            owned: Mutex::new(Owned::new(
                accepted.devices.is_some() || accepted.quota.is_some(),
            )),
            figures: core.stats.conns.open(id),
            refused: OnceLock::new(),
            refuses: AtomicBool::new(false),
            registers: AtomicBool::new(false),
            events_over: AtomicBool::new(false),
            offsets: Mutex::default(),
            correction_us: AtomicI64::new(0),
        };
        Conn {
            peer: Arc::new(peer),
            addr: address.clone(),
            closing: codes::KILLED,
            meter: Arc::default(),
        }
    };
    ChildSpec::task(id.to_string(), &addr, factory)
        .restart(Restart::Temporary)
        .on_runtime(handle)
}

impl TaskActor for Conn {
    type Msg = ConnMessage;

    async fn started(&mut self, cx: &mut TaskContext<ConnMessage>) -> Result<(), Fault> {
        let peer = &self.peer;
        let registry = &peer.core.registry;
        let waiting = (peer.protocol != Protocol::Commands).then(|| registry.open(peer.id));
        registry.carried_by(peer.id, &peer.quic);
        if peer.core.has_revoked(&peer.quic) {
            // Since its handshake began: whoever closed such connections may not have seen it.
            self.closing = codes::CERTIFICATE;
            return Err(Fault::new("certificate_revoked"));
        }
        if let Some(waiting) = waiting {
            cx.pump(datagrams::run(Arc::clone(peer), self.addr.clone()));
            cx.pump(events::run(Arc::clone(peer)));
            cx.pump(commands::run(Arc::clone(peer), waiting));
        } else {
            // Neither datagrams nor event streams come here.
            peer.events_over.store(true, Ordering::Release);
            cx.pump(join::run(Arc::clone(peer)));
        }
        if peer.protocol == Protocol::Actorsim1 {
            cx.pump(control::run(Arc::clone(peer)));
        }
        cx.pump(watch(
            Arc::clone(peer),
            self.addr.clone(),
            Arc::clone(&self.meter),
        ));
        let from = peer.quic.remote_address();
        let text = format!(
            "{from} speaks {}",
            String::from_utf8_lossy(peer.protocol.alpn())
        );
        let events = peer.system.events();
        events.publish(Level::Info, "connected", Some(self.addr.path()), text);
        Ok(())
    }

    async fn handle(
        &mut self,
        message: ConnMessage,
        cx: &mut TaskContext<ConnMessage>,
    ) -> Result<Flow, Fault> {
        match message {
            ConnMessage::Closed { looks: 0 } => Ok(Flow::Stop),
            ConnMessage::Closed { looks } => {
                // What came before the end is still decoded and forwarded.
                let over = self.peer.events_over.load(Ordering::Acquire);
                let again = if over && self.addr.depth() <= 1 {
                    0
                } else {
                    looks - 1
                };
                cx.pump(closed(self.addr.clone(), again));
                Ok(Flow::Continue)
            }
            ConnMessage::T1(mut batch) => {
                batch.on_drop(DropReason::Died);
                if let Err(refused) = self.peer.core.t1.send(batch, T1_FORWARD_DEADLINE).await {
                    refused.into_message().discard(DropReason::Tier);
                }
                Ok(Flow::Continue)
            }
        }
    }

    async fn stopping(&mut self, _: &mut TaskContext<ConnMessage>) {
        self.closing = codes::STOPPED;
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let peer = &self.peer;
        self.meter.read(&peer.quic, &peer.core.stats.quic);
        let quic = &peer.core.stats.quic;
        let why = match peer.quic.close_reason() {
            None => {
                close(&peer.quic, self.closing, b"");
                quic.closed_here.inc();
                "closed here".to_owned()
            }
            Some(reason) => {
                match reason {
                    ConnectionError::LocallyClosed => quic.closed_here.inc(),
                    ConnectionError::ApplicationClosed(_)
                    | ConnectionError::ConnectionClosed(_) => quic.closed_by_peer.inc(),
                    ConnectionError::TimedOut => quic.closed_idle.inc(),
                    _ => quic.closed_error.inc(),
                }
                reason.to_string()
            }
        };
        let why = peer.refused.get().cloned().unwrap_or(why);
        let events = peer.system.events();
        events.publish(Level::Info, "disconnected", Some(self.addr.path()), why);
    }
}

/// Waits for the end of the connection, and meters it meanwhile.
async fn watch(peer: Arc<Peer>, addr: Addr<ConnMessage>, meter: Arc<Meter>) -> Result<(), Fault> {
    while tokio::time::timeout(METER_PERIOD, peer.quic.closed())
        .await
        .is_err()
    {
        meter.read(&peer.quic, &peer.core.stats.quic);
    }
    closed(addr, CLOSED_LOOKS_MAX).await
}

/// Tells the actor that the connection is over, a moment later.
async fn closed(addr: Addr<ConnMessage>, looks: u32) -> Result<(), Fault> {
    tokio::time::sleep(CLOSED_LOOK).await;
    let told = addr.try_send_control(ConnMessage::Closed { looks });
    told.map_err(|_| Fault::new("closed_not_delivered"))
}
