//! The listener actor: accepts connections and gives each its own actor.
//!
//! The endpoint lives outside the actor, so killing it drops neither the port nor a connection;
//! what arrives meanwhile waits in QUIC. It reads no stream. Bounds: [`crate::limits::Limits`], as
//! [`HANDSHAKES_MAX`] handshakes at once, each [`HANDSHAKE_TIMEOUT`] long; beyond
//! [`HANDSHAKES_UNPROVEN_MAX`] only of peers that proved their address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actorsim_actors::{Fault, Flow, Level, Message, System, TaskActor, TaskContext};
use futures_util::future::{AbortRegistration, Abortable, Aborted};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use quinn::{ConnectionError, Endpoint, Incoming};
use rustls_pki_types::CertificateDer;

use crate::certs::Revocations;
use crate::certs::glob::{ANY_DEVICE, device_glob};
use crate::certs::tls::{ALPN_ACTORSIM1, ALPN_ACTORSIM1_COMMANDS, agreed_alpn, peer_certificate};
use crate::connection::{Accepted, conn_child};
use crate::endpoint::{HANDSHAKE_TIMEOUT, Listening, Protocol, close, codes};
use crate::limits::{Door, NoRoom, Place};
use crate::transport::Core;
use crate::trust::REVOCATION_LOOK;

/// Handshakes at once: half a second of one core, 20 MiB. A peer that stalls in the middle holds
/// one until the time-out, so there are many more than a core can work on.
pub const HANDSHAKES_MAX: usize = 256;
/// Handshakes at once with peers that have not proved their address. Beyond it they are told to
/// come again with a token (RFC 9000 section 8.1.2), which costs a round trip and holds nothing
/// here.
pub const HANDSHAKES_UNPROVEN_MAX: usize = 16;

/// The listener is sent nothing.
#[derive(Debug)]
pub enum ListenerMessage {}

impl Message for ListenerMessage {}

/// The listener actor: one for telemetry, and where commands have connections of their own one for
/// these, on their runtime.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) core: Arc<Core>,
    /// Where it listens.
    pub(crate) at: &'static [Listening],
}

impl TaskActor for Listener {
    type Msg = ListenerMessage;

    async fn started(&mut self, cx: &mut TaskContext<ListenerMessage>) -> Result<(), Fault> {
        for which in self.at.iter().copied() {
            let endpoint = self.core.listening(which, cx.system().handle());
            if let Some(endpoint) = endpoint.map_err(|error| Fault::with("bind", error))? {
                cx.pump(accept(
                    Arc::clone(&self.core),
                    cx.system().clone(),
                    endpoint,
                    which,
                ));
            }
        }
        if self.at.contains(&Listening::Main) {
            cx.pump(revoke(Arc::clone(&self.core), cx.system().clone()));
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        message: ListenerMessage,
        _: &mut TaskContext<ListenerMessage>,
    ) -> Result<Flow, Fault> {
        match message {}
    }
}

/// Sees to it that what the site takes back is good no more.
async fn revoke(core: Arc<Core>, system: System) -> Result<(), Fault> {
    let mut done: Option<Arc<Revocations>> = None;
    loop {
        let list = core.revocations(&system);
        if done.as_ref().is_none_or(|done| !Arc::ptr_eq(done, &list)) {
            let closed = core
                .revoke(&list)
                .map_err(|error| Fault::with("revoke", error))?;
            if done.is_some() || !list.is_empty() {
                let named = list.len();
                let text = format!("{named} certificates are revoked, {closed} connections closed");
                let events = system.events();
                events.publish(Level::Warn, "certificates_revoked", None, text);
            }
            done = Some(list);
        }
        tokio::time::sleep(REVOCATION_LOOK).await;
    }
}

async fn accept(
    core: Arc<Core>,
    system: System,
    endpoint: Endpoint,
    which: Listening,
) -> Result<(), Fault> {
    let mut handshakes = FuturesUnordered::new();
    let mut door = Door::new(core.limits);
    loop {
        tokio::select! {
            biased;
            Some(over) = handshakes.next() => door.leave(over),
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else {
                    // Its socket failed: the next incarnation binds again.
                    core.forget(which);
                    return Err(Fault::new("endpoint_lost"));
                };
                let proved = incoming.remote_address_validated();
                if !proved && door.len() >= HANDSHAKES_UNPROVEN_MAX {
                    // What cannot be told so is refused by its drop.
                    drop(incoming.retry());
                    continue;
                }
                let entered = enter(&mut door, &core, &system, &incoming, which);
                let Some((number, may)) = entered else {
                    incoming.refuse();
                    continue;
                };
                let admitted = admit(&core, &system, incoming, which, may);
                handshakes.push(admitted.map(move |()| number));
            }
        }
    }
}

/// Whether a newcomer may make a handshake: its number, and what ends it early.
fn enter(
    door: &mut Door,
    core: &Core,
    system: &System,
    incoming: &Incoming,
    which: Listening,
) -> Option<(u64, AbortRegistration)> {
    let from = incoming.remote_address();
    let now = tokio::time::Instant::now();
    let entered = match core.places(which).would_refuse(from.ip(), now) {
        Some(why) => Err(why),
        None => door.enter(from.ip(), now),
    };
    entered
        .inspect_err(|why| refused(core, system, from, *why))
        .ok()
}

/// Counts a peer for whom there is no room, and says so.
fn refused(core: &Core, system: &System, from: SocketAddr, why: NoRoom) {
    let stats = &core.stats.quic;
    match why.is_of_one() {
        true => stats.handshakes_crowded.inc(),
        false => stats.handshakes_full.inc(),
    }
    core.said.full.say(system, format!("{from} refused: {why}"));
}

async fn admit(
    core: &Arc<Core>,
    system: &System,
    incoming: Incoming,
    which: Listening,
    may: AbortRegistration,
) {
    let stats = &core.stats.quic;
    let from = incoming.remote_address();
    let handshake = async { incoming.accept()?.await };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake);
    match Abortable::new(handshake, may).await {
        Err(Aborted) => stats.handshakes_displaced.inc(),
        Ok(Err(_) | Ok(Err(ConnectionError::TimedOut))) => stats.handshakes_timed_out.inc(),
        Ok(Ok(Err(error))) if is_certificate_error(&error) => {
            stats.handshakes_foreign.inc();
            core.said.foreign.say(
                system,
                format!("{from} refused: not a certificate of this site"),
            );
        }
        Ok(Ok(Err(error))) => {
            stats.handshakes_failed.inc();
            core.said
                .failed
                .say(system, format!("{from}: handshake failed: {error}"));
        }
        Ok(Ok(Ok(quic))) => hand_over(core, system, quic, which).await,
    }
}

/// Gives an established connection its actor.
async fn hand_over(core: &Arc<Core>, system: &System, quic: quinn::Connection, which: Listening) {
    let stats = &core.stats.quic;
    let from = quic.remote_address();
    let (protocol, joinable) = spoken(which, agreed_alpn(&quic).as_deref());
    let certificate = peer_certificate(&quic);
    if protocol != Protocol::Dt1 && certificate.is_none() {
        stats.handshakes_foreign.inc();
        core.said.foreign.say(
            system,
            format!(
                "{from} refused: {} needs a certificate",
                String::from_utf8_lossy(protocol.alpn())
            ),
        );
        close(
            &quic,
            codes::CERTIFICATE,
            b"a certificate of the site is needed",
        );
        return;
    }
    let devices = certificate.as_ref().and_then(device_glob);
    let devices = devices.filter(|glob| glob != ANY_DEVICE);
    if protocol == Protocol::Dt1 && devices.is_some() {
        stats.handshakes_devices.inc();
        let why = "dt/1 names no devices, so its certificate must be for any";
        core.said.full.say(system, format!("{from} refused: {why}"));
        close(&quic, codes::DEVICES, why.as_bytes());
        return;
    }
    let Some(place) = placed(core, system, &quic, certificate.as_ref(), which) else {
        return;
    };
    let own = certificate.as_ref().is_some_and(|shown| core.is_own(shown));
    let quota = core.quotas.of(certificate.as_ref(), devices.as_deref());
    let accepted = Accepted {
        quic: quic.clone(),
        protocol,
        joinable,
        devices,
        place: Arc::new(Mutex::new(Some(place))),
        quota: quota.filter(|_| !own),
    };
    match core
        .conns
        .start_child(conn_child(system, core, accepted))
        .await
    {
        Ok(_) => stats.handshakes_accepted.inc(),
        Err(_) if core.has_revoked(&quic) => {
            stats.handshakes_foreign.inc();
            let text = format!("{from} refused: its certificate was revoked meanwhile");
            core.said.foreign.say(system, text);
        }
        Err(error) => {
            stats.handshakes_unstarted.inc();
            core.said
                .full
                .say(system, format!("{from} refused: {error}"));
            close(&quic, codes::FULL, b"no room for another connection");
        }
    }
}

/// The place of an established connection; one for which there is none is closed.
fn placed(
    core: &Core,
    system: &System,
    quic: &quinn::Connection,
    certificate: Option<&CertificateDer<'_>>,
    which: Listening,
) -> Option<Place> {
    let from = quic.remote_address();
    let (line, now) = (Box::new(quic.clone()), tokio::time::Instant::now());
    match core.places(which).enter(from.ip(), certificate, line, now) {
        Ok(place) => {
            if place.was_silent {
                let text = format!("{from} has the place of a connection that did not answer");
                core.said.displaced.say(system, text);
            }
            Some(place)
        }
        Err(why) => {
            refused(core, system, from, why);
            close(quic, codes::FULL, why.to_string().as_bytes());
            None
        }
    }
}

/// What is spoken after a handshake at a listener, and whether the link takes commands over a
/// connection of their own.
fn spoken(which: Listening, alpn: Option<&[u8]>) -> (Protocol, bool) {
    match (which, alpn) {
        (Listening::Commands, _) => (Protocol::Commands, false),
        (Listening::Main, Some(ALPN_ACTORSIM1_COMMANDS)) => (Protocol::Actorsim1, true),
        (Listening::Main, Some(ALPN_ACTORSIM1)) => (Protocol::Actorsim1, false),
        (Listening::Main | Listening::Plain, _) => (Protocol::Dt1, false),
    }
}

/// Whether a handshake failed over the certificate (RFC 8446 section 6, as QUIC carries alerts).
fn is_certificate_error(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        _ => return false,
    };
    // bad, unsupported, revoked, expired, unknown certificate; unknown CA; a signature that is not
    // its authority's or not its key's; certificate required.
    code.checked_sub(0x100)
        .is_some_and(|alert| matches!(alert, 42..=46 | 48 | 51 | 116))
}

/// Something that is said the first time, then at each tenfold count.
#[derive(Debug)]
pub(crate) struct Folded {
    name: &'static str,
    count: AtomicU64,
}

impl Folded {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name,
            count: AtomicU64::new(0),
        }
    }

    pub(crate) fn say(&self, system: &System, text: String) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count == 10_u64.pow(count.ilog10()) {
            let text = if count == 1 {
                text
            } else {
                format!("{text} ({count} so far)")
            };
            system.events().publish(Level::Warn, self.name, None, text);
        }
    }
}
