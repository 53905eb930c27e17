//! Registrations: devices made reachable, then known to the world, a piece at a time.
//!
//! What is beyond a bound is refused by itself: the link is told which devices those are, the
//! operator why, and the others are served. A device that is refused costs its link's connection
//! nothing and uses up no name. A name that the certificate does not cover ends the connection, and
//! so does one too many of a connection without a quota. Bounds: the registry's; a connection has
//! as many names looked at in vain as its quota is for. Beyond them a registration is refused
//! unseen from its first [`REGISTER_PIECE`] names on, also what is known of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actorsim_actors::SendError;
use actorsim_actors::census::glob_matches;
use tokio::sync::mpsc;

use super::Peer;
use super::control::ControlError;
use crate::device::{DeviceRange, REGISTRATION_DEVICES_MAX, Registration, SensorSpec};
use crate::endpoint::codes;
use crate::frames::ToLink;
use crate::ingest::Ingest;
use crate::listener::Folded;
use crate::registry::TooMany;

/// How long one attempt to give a registration to the world may take.
const REGISTER_DEADLINE: Duration = Duration::from_secs(1);
/// Attempts: through a restart of the world's first stage.
const REGISTER_ATTEMPTS: u32 = 30;
/// Devices made known in one turn of the network thread, about 0.1 ms: telemetry of those that send
/// already is read in between.
const REGISTER_PIECE: u32 = 64;
const _: () = assert!(REGISTER_PIECE <= REGISTRATION_DEVICES_MAX);

/// Takes a registration as far as the bounds go; `replies` tell the link of the rest.
pub(super) async fn register(
    peer: &Peer,
    devices: DeviceRange,
    sensors: Vec<SensorSpec>,
    replies: &mpsc::Sender<ToLink>,
) -> Result<(), ControlError> {
    let admitted = peer.owned.lock().admit(&devices);
    match admitted {
        Ok(()) => {}
        Err(TooMany::Devices) if peer.quota.is_some() => {}
        Err(why) => {
            peer.core.stats.quic.registrations_refused.inc();
            return Err(ControlError::Refused(codes::FULL, why.to_string()));
        }
    }
    let fits = admitted.is_ok();
    let (most, mut refusal) = refusing(peer, replies, fits);
    let sensors: Arc<[SensorSpec]> = sensors.into();
    let mut done = 0;
    for piece in devices.pieces(REGISTER_PIECE) {
        check(peer, &piece)?;
        done += piece.count;
        for (part, is_known) in claim(peer, &piece, fits) {
            if is_known {
                let sensors = Arc::clone(&sensors);
                let devices = part;
                announce(peer, Registration { devices, sensors }).await;
            } else {
                refusal.take(part).await?;
            }
        }
        tokio::task::yield_now().await;
        if peer.owned.lock().looked_at >= most {
            let unseen = devices.part(done, devices.count - done);
            refusal.take(unseen).await?;
            break;
        }
    }
    refusal.end().await
}

/// How many names the connection may have looked at in vain, and what is said of those beyond.
fn refusing<'a>(
    peer: &'a Peer,
    replies: &'a mpsc::Sender<ToLink>,
    fits: bool,
) -> (u64, Refusal<'a>) {
    let devices = &peer.core.said.devices;
    let beyond = || TooMany::Devices.to_string();
    let (most, said, why) = match &peer.quota {
        Some(quota) if fits => (
            quota.most().into(),
            &quota.said,
            quota.used_up().to_string(),
        ),
        Some(quota) => (quota.most().into(), devices, beyond()),
        None => (u64::MAX, devices, beyond()),
    };
    (most, Refusal::new(peer, replies, said, why))
}

/// Makes the devices of a piece reachable that may be known; returns its parts, in order, and
/// whether they are. If the whole does not fit, only those that the connection has already.
fn claim(peer: &Peer, piece: &DeviceRange, fits: bool) -> Vec<(DeviceRange, bool)> {
    let mut owned = peer.owned.lock();
    let may = |device| {
        let quota = peer.quota.as_ref();
        fits && quota.is_none_or(|quota| quota.admit(device).is_ok())
    };
    let registry = &peer.core.registry;
    let parts = registry.claim_some(peer.id, &mut owned, piece, may);
    let vain = parts.iter().filter(|(_, is_known)| !(fits && *is_known));
    owned.looked_at += vain.map(|(part, _)| u64::from(part.count)).sum::<u64>();
    parts
}

/// Whether the certificate speaks for devices.
fn check(peer: &Peer, devices: &DeviceRange) -> Result<(), ControlError> {
    let glob = peer.devices.as_deref();
    match glob.and_then(|glob| outside(glob, devices)) {
        None => Ok(()),
        Some(name) => {
            let why = format!("the certificate does not speak for device {name:?}");
            Err(ControlError::Refused(codes::DEVICES, why))
        }
    }
}

/// The first name of a range that a glob does not stand for.
fn outside(glob: &str, range: &DeviceRange) -> Option<String> {
    let mut names = (0..range.count).map(|nth| range.name(nth));
    names.find(|name| !glob_matches(glob, name))
}

/// Tells the world; if it stays away, the devices get their rows with their first readings.
async fn announce(peer: &Peer, registration: Registration) {
    let mut message = Ingest::Register(registration);
    for _ in 0..REGISTER_ATTEMPTS {
        let readings = &peer.core.inlets.readings;
        match readings.send(message, REGISTER_DEADLINE).await {
            Ok(()) | Err(SendError::Closed(_)) => return,
            Err(refused) => message = refused.into_message(),
        }
    }
    tracing::warn!(conn = peer.id, "the world took no registration");
}

/// What of one registration is refused, and who is told.
struct Refusal<'a> {
    peer: &'a Peer,
    replies: &'a mpsc::Sender<ToLink>,
    said: &'a Folded,
    why: String,
    count: u32,
    first: String,
    /// Devices that follow each other, of which the link was not told yet.
    open: Option<DeviceRange>,
}

impl<'a> Refusal<'a> {
    fn new(
        peer: &'a Peer,
        replies: &'a mpsc::Sender<ToLink>,
        said: &'a Folded,
        why: String,
    ) -> Self {
        Self {
            peer,
            replies,
            said,
            why,
            count: 0,
            first: String::new(),
            open: None,
        }
    }

    async fn take(&mut self, devices: DeviceRange) -> Result<(), ControlError> {
        if devices.count == 0 {
            return Ok(());
        }
        if self.count == 0 {
            self.first = devices.name(0);
        }
        self.count += devices.count;
        match &mut self.open {
            Some(open) if open.first + open.count == devices.first => open.count += devices.count,
            _ => {
                let before = self.open.replace(devices);
                self.tell(before).await?;
            }
        }
        Ok(())
    }

    async fn tell(&self, devices: Option<DeviceRange>) -> Result<(), ControlError> {
        let Some(devices) = devices else {
            return Ok(());
        };
        self.peer.refuses.store(true, Ordering::Release);
        let why = self.why.clone();
        let told = self.replies.send(ToLink::Refused { devices, why }).await;
        told.map_err(|_| ControlError::Gone)
    }

    async fn end(mut self) -> Result<(), ControlError> {
        if self.count == 0 {
            return Ok(());
        }
        let peer = self.peer;
        peer.core.stats.quic.registrations_refused.inc();
        let from = peer.quic.remote_address();
        let (count, first, why) = (self.count, &self.first, &self.why);
        let text = format!("{from}: {count} devices from {first:?} on are refused: {why}");
        self.said.say(&peer.system, text);
        let open = self.open.take();
        self.tell(open).await
    }
}
