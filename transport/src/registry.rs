//! Which connection reaches a device, and how to hand that connection a command.
//!
//! Compact: 20 bytes an entry (a 16-byte id, a u32 connection number), no name, no pointer. It
//! opens no stream and decides no retry. Bounds: [`CONNECTIONS_MAX`] connections, for each
//! [`CONN_DEVICES_MAX`] devices and [`COMMANDS_WAITING_MAX`] commands waiting, for each device
//! [`DEVICE_COMMANDS_MAX`] commands on their way.

use std::collections::{BTreeMap, BTreeSet, HashMap}; // order: see `Owned::plain`
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use actorsim_actors::Addr;
use dashmap::DashMap;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::certs::Revocations;
use crate::certs::tls::peer_certificate;
use crate::command::{Issued, T3Message};
use crate::device::{DeviceRange, RANGE_DEVICES_MAX};
use crate::endpoint::{close, codes};
use crate::link::REGISTRATIONS_MAX;
use crate::trust;

/// Accepted connections at most, and as many for commands alone beside them: 100 KiB each in QUIC,
/// some hundred MiB in all.
pub const CONNECTIONS_MAX: usize = 4096;
/// Commands that wait for one connection's streams at most.
pub const COMMANDS_WAITING_MAX: usize = 64;
/// Commands on their way to one device at most; further ones wait in tier T3. Small against a
/// connection's streams, so that a device that answers nothing takes none from its neighbours.
pub const DEVICE_COMMANDS_MAX: u32 = 4;
/// Devices that one `actorsim/1` connection may register: one range of the largest kind.
pub const CONN_DEVICES_MAX: u64 = RANGE_DEVICES_MAX as u64;
/// Devices one `dt/1` connection may stand for: they come without being announced.
pub const PLAIN_DEVICES_MAX: usize = 65_536;

/// A connection that named more than this share (one in eight) of all devices is taken out by a
/// sweep: an entry is looked at ten times faster than a name is hashed.
const SWEEP_SHARE: usize = 8;

/// A command in the hands of one connection. If the connection is lost before an outcome, the
/// command goes back to its tier for another one.
#[derive(Debug)]
pub(crate) struct InFlight {
    issued: Option<Issued>,
    back: Addr<T3Message>,
    turnstile: Arc<Turnstile>,
    device: Uuid,
}

/// Commands on their way over one connection, by device.
#[derive(Debug, Default)]
struct Turnstile(Mutex<BTreeMap<Uuid, u32>>);

impl Turnstile {
    /// Counts one more command for a device, if it may have one.
    fn enter(&self, device: Uuid) -> bool {
        let mut counts = self.0.lock();
        let count = counts.entry(device).or_default();
        let room = *count < DEVICE_COMMANDS_MAX;
        *count += u32::from(room);
        room
    }

    fn leave(&self, device: Uuid) {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(&device) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&device);
            }
        }
    }
}

impl InFlight {
    /// The command, if it was not taken back.
    pub(crate) fn issued(&mut self) -> Option<&mut Issued> {
        self.issued.as_mut()
    }

    /// Takes the command out: it will not go back by itself.
    pub(crate) fn take(&mut self) -> Option<Issued> {
        self.issued.take()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.turnstile.leave(self.device);
        if let Some(issued) = self.issued.take() {
            // A tier that takes nothing back leaves the command to count itself as dropped.
            drop(self.back.try_send_control(T3Message::Retry(issued)));
        }
    }
}

/// The way to one connection.
#[derive(Debug)]
struct Route {
    commands: mpsc::Sender<InFlight>,
    turnstile: Arc<Turnstile>,
    /// The connection beside it that takes its commands, while there is one.
    joined: Option<Joined>,
}

#[derive(Debug)]
struct Joined {
    id: u32,
    commands: mpsc::Sender<InFlight>,
}

impl Route {
    /// Where commands go now.
    fn way(&self) -> &mpsc::Sender<InFlight> {
        self.joined
            .as_ref()
            .map_or(&self.commands, |joined| &joined.commands)
    }
}

/// The devices of one connection, kept so that they can be taken out again.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    ranges: Vec<DeviceRange>,
    /// With the closings that the registry had seen when each was last known to be in it.
    plain: HashMap<Uuid, u64>, // order: each is taken out of the registry by itself
    registrations: usize,
    registered: u64,
    /// Names that it registered in vain, each looked at.
    pub(crate) looked_at: u64,
    /// The ids that it may speak for, if those are not all.
    covered: Option<BTreeSet<Uuid>>,
}

impl Owned {
    /// Nothing yet; a `restricted` connection may speak only for what it registers.
    pub(crate) fn new(restricted: bool) -> Self {
        Self {
            covered: restricted.then(BTreeSet::new),
            ..Self::default()
        }
    }

    /// Counts a registration, if it keeps the bounds of a connection.
    pub(crate) fn admit(&mut self, range: &DeviceRange) -> Result<(), TooMany> {
        if self.registrations == REGISTRATIONS_MAX {
            return Err(TooMany::Registrations);
        }
        self.registrations += 1;
        let registered = self.registered + u64::from(range.count);
        if registered > CONN_DEVICES_MAX {
            return Err(TooMany::Devices);
        }
        self.registered = registered;
        Ok(())
    }

    /// From now on the connection may speak for a device; returns false if it is known that it
    /// did before.
    pub(crate) fn cover(&mut self, device: Uuid) -> bool {
        let covered = self.covered.as_mut();
        covered.is_none_or(|covered| covered.insert(device))
    }

    /// Some devices of a range are to be taken out again.
    fn keep(&mut self, range: &DeviceRange) {
        match self.ranges.last_mut() {
            Some(last)
                if (&last.prefix, last.width) == (&range.prefix, range.width)
                    && last.first.checked_add(last.count) == Some(range.first) =>
            {
                last.count += range.count;
            }
            _ => self.ranges.push(range.clone()),
        }
    }

    /// Whether the connection may speak for a device.
    pub(crate) fn covers(&self, device: &Uuid) -> bool {
        self.covered.as_ref().is_none_or(|ids| ids.contains(device))
    }
}

/// What a connection registers beyond its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMany {
    /// Its own links never do.
    #[error("one connection may make {REGISTRATIONS_MAX} registrations and no more")]
    Registrations,
    /// This range is one too many.
    #[error("one connection may register {CONN_DEVICES_MAX} devices and no more")]
    Devices,
}

/// How a command found its connection.
#[derive(Debug)]
pub(crate) enum Routed {
    /// The connection has it.
    Sent,
    /// No connection for the device.
    NoRoute(Issued),
    /// The connection, or the device, has all it may have.
    Busy(Issued),
}

/// Devices and connections of a listener.
#[derive(Debug, Default)]
pub struct Registry {
    devices: DashMap<Uuid, u32>,
    routes: DashMap<u32, Route>,
    carriers: DashMap<u32, quinn::Connection>,
    last_id: AtomicU32,
    /// Connections whose devices were taken out.
    closings: AtomicU64,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Devices that have a connection.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Connections up, without those for commands alone.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.routes.len()
    }

    /// Connections for commands alone that are up.
    #[must_use]
    pub fn for_commands(&self) -> usize {
        self.carriers.len().saturating_sub(self.routes.len())
    }

    /// Whether commands to the devices of connection `id` go over one of their own.
    #[must_use]
    pub fn is_joined(&self, id: u32) -> bool {
        self.routes
            .get(&id)
            .is_some_and(|route| route.joined.is_some())
    }

    /// The connection that reaches a device.
    #[must_use]
    pub fn connection_of(&self, device: &Uuid) -> Option<u32> {
        self.devices.get(device).map(|entry| *entry)
    }

    /// A number for the next connection; numbers are not used again within 4 billion.
    pub(crate) fn next_id(&self) -> u32 {
        self.last_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// A connection is up: returns where its commands come out.
    pub(crate) fn open(&self, id: u32) -> mpsc::Receiver<InFlight> {
        let (commands, waiting) = mpsc::channel(COMMANDS_WAITING_MAX);
        let turnstile = Arc::default();
        self.routes.insert(
            id,
            Route {
                commands,
                turnstile,
                joined: None,
            },
        );
        waiting
    }

    /// Connection `by` takes the commands of connection `id` from now on: returns where they come
    /// out, until that is gone or another has taken its place. `None` if it is gone already.
    pub(crate) fn join(&self, id: u32, by: u32) -> Option<mpsc::Receiver<InFlight>> {
        let (commands, waiting) = mpsc::channel(COMMANDS_WAITING_MAX);
        self.routes.get_mut(&id)?.joined = Some(Joined { id: by, commands });
        Some(waiting)
    }

    /// Connection `by` takes the commands of connection `id` no more.
    pub(crate) fn leave(&self, id: u32, by: u32) {
        if let Some(mut route) = self.routes.get_mut(&id)
            && route.joined.as_ref().is_some_and(|joined| joined.id == by)
        {
            route.joined = None;
        }
    }

    /// The certificate that the peer of connection `id` has shown.
    pub(crate) fn certificate_of(&self, id: u32) -> Option<CertificateDer<'static>> {
        peer_certificate(&*self.carriers.get(&id)?)
    }

    /// The QUIC connection of `id`, for those who close connections over their certificates.
    pub(crate) fn carried_by(&self, id: u32, quic: &quinn::Connection) {
        self.carriers.insert(id, quic.clone());
    }

    /// Closes the connections whose certificates a list names; returns how many.
    pub(crate) fn close_revoked(&self, revoked: &Revocations) -> usize {
        let mut closed = 0;
        for quic in &self.carriers {
            if trust::names(revoked, &quic) {
                close(&quic, codes::CERTIFICATE, b"the certificate is revoked");
                closed += 1;
            }
        }
        closed
    }

    /// Those of announced devices that connection `id` has already, or `may` have, are reached by
    /// it from now on; returns the parts of the range, in order, and whether they are.
    pub(crate) fn claim_some(
        &self,
        id: u32,
        owned: &mut Owned,
        range: &DeviceRange,
        mut may: impl FnMut(Uuid) -> bool,
    ) -> Vec<(DeviceRange, bool)> {
        let mut parts: Vec<(DeviceRange, bool)> = Vec::new();
        let (mut nth, mut has_new) = (0, false);
        range.for_each(|device, _| {
            let is_claimed = owned.covers(&device) || may(device);
            if is_claimed {
                has_new |= owned.cover(device);
                self.devices.insert(device, id);
            }
            match parts.last_mut() {
                Some((part, same)) if *same == is_claimed => part.count += 1,
                _ => parts.push((range.part(nth, 1), is_claimed)),
            }
            nth += 1;
        });
        if has_new {
            // names between them do no harm: an entry is taken out of the registry by its owner
            owned.keep(range);
        }
        parts
    }

    /// A `dt/1` connection showed a device. The first time it takes the device over, for at most
    /// [`PLAIN_DEVICES_MAX`]; later only if nobody else reaches it.
    pub(crate) fn claim_plain(&self, id: u32, owned: &mut Owned, device: Uuid) {
        let closings = self.closings.load(Ordering::Acquire);
        let room = owned.plain.len() < PLAIN_DEVICES_MAX;
        match owned.plain.get_mut(&device) {
            Some(seen) if *seen == closings => return,
            Some(seen) => {
                *seen = closings;
                if self.devices.contains_key(&device) {
                    return;
                }
            }
            None if room => drop(owned.plain.insert(device, closings)),
            None => return,
        }
        self.devices.insert(device, id);
    }

    /// Connection `id` is gone: so are its route and the devices nobody else has claimed since.
    pub(crate) fn close(&self, id: u32, owned: &Owned) {
        self.routes.remove(&id);
        self.carriers.remove(&id);
        let named: usize = owned.ranges.iter().map(|range| range.count as usize).sum();
        if named > self.devices.len() / SWEEP_SHARE {
            // Hashing so many names again costs more than looking at every entry.
            self.devices.retain(|_, at| *at != id);
        } else {
            let forget = |device: Uuid| {
                self.devices.remove_if(&device, |_, at| *at == id);
            };
            owned.plain.keys().copied().for_each(forget);
            for range in &owned.ranges {
                range.for_each(|device, _| forget(device));
            }
        }
        if self.devices.is_empty() {
            self.devices.shrink_to_fit();
        }
        self.closings.fetch_add(1, Ordering::Release);
    }

    /// Hands a command to the connection of its device.
    pub(crate) fn route(&self, issued: Issued, back: &Addr<T3Message>) -> Routed {
        let Some(id) = self.connection_of(&issued.command().device) else {
            return Routed::NoRoute(issued);
        };
        let Some(route) = self.routes.get(&id) else {
            return Routed::NoRoute(issued);
        };
        let place = match route.way().try_reserve() {
            Ok(place) => place,
            Err(mpsc::error::TrySendError::Full(())) => return Routed::Busy(issued),
            Err(mpsc::error::TrySendError::Closed(())) => return Routed::NoRoute(issued),
        };
        let device = issued.command().device;
        if !route.turnstile.enter(device) {
            return Routed::Busy(issued);
        }
        place.send(InFlight {
            issued: Some(issued),
            back: back.clone(),
            turnstile: Arc::clone(&route.turnstile),
            device,
        });
        Routed::Sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::device_uuid;

    fn range(count: u32) -> DeviceRange {
        DeviceRange {
            prefix: "pump-".into(),
            first: 0,
            count,
            width: 4,
        }
    }

    #[test]
    fn a_closed_connection_takes_its_devices_out_but_not_those_of_its_successor() {
        let registry = Registry::default();
        let (mut old, mut new) = (Owned::default(), Owned::default());
        let _old_commands = registry.open(1);
        let _new_commands = registry.open(2);
        registry.claim_some(1, &mut old, &range(3), |_| true);
        registry.claim_plain(1, &mut old, device_uuid("lone"));
        registry.claim_some(2, &mut new, &range(2), |_| true);
        registry.close(1, &old);
        assert_eq!(registry.connection_of(&device_uuid("pump-0001")), Some(2));
        assert_eq!(registry.connection_of(&device_uuid("pump-0002")), None);
        assert_eq!(registry.connection_of(&device_uuid("lone")), None);
        registry.close(2, &new);
        assert_eq!((registry.devices(), registry.connections()), (0, 0));
    }

    #[test]
    fn a_small_connection_beside_a_large_one_takes_out_its_own_only() {
        let registry = Registry::default();
        let (mut large, mut small) = (Owned::default(), Owned::default());
        registry.claim_some(1, &mut large, &range(1000), |_| true);
        let fans = DeviceRange {
            prefix: "fan-".into(),
            first: 0,
            count: 3,
            width: 2,
        };
        registry.claim_some(2, &mut small, &fans, |_| true);
        registry.close(2, &small);
        assert_eq!(registry.devices(), 1000);
        registry.close(1, &large);
        assert_eq!(registry.devices(), 0);
    }

    #[test]
    fn a_registration_full_of_gaps_is_kept_in_few_pieces_and_a_known_one_not_again() {
        let registry = Registry::default();
        let mut owned = Owned::new(true);
        let mut even = false;
        for piece in range(4096).pieces(64) {
            let every_second = |_| {
                even = !even;
                even
            };
            let parts = registry.claim_some(1, &mut owned, &piece, every_second);
            assert_eq!(parts.len(), 64);
        }
        assert_eq!(owned.ranges, [range(4096)]);
        let again = registry.claim_some(1, &mut owned, &range(4096), |_| false);
        assert_eq!(
            again.iter().filter(|(_, is_claimed)| *is_claimed).count(),
            2048
        );
        assert_eq!(owned.ranges, [range(4096)], "once");
        registry.close(1, &owned);
        assert_eq!(registry.devices(), 0);
    }

    #[test]
    fn a_connection_registers_no_more_than_its_bound() {
        let mut owned = Owned::default();
        assert_eq!(owned.admit(&range(RANGE_DEVICES_MAX - 1)), Ok(()));
        assert_eq!(owned.admit(&range(2)), Err(TooMany::Devices));
        assert_eq!(owned.admit(&range(1)), Ok(()), "what fits is taken still");
        let mut owned = Owned::default();
        let all = (0..REGISTRATIONS_MAX).all(|_| owned.admit(&range(1)).is_ok());
        assert!(all);
        assert_eq!(owned.admit(&range(1)), Err(TooMany::Registrations));
    }

    #[test]
    fn a_device_goes_back_to_a_connection_that_still_shows_it() {
        let registry = Registry::default();
        let (mut first, mut second) = (Owned::default(), Owned::default());
        let device = device_uuid("wanderer");
        registry.claim_plain(1, &mut first, device);
        registry.claim_plain(2, &mut second, device);
        registry.claim_plain(1, &mut first, device);
        assert_eq!(registry.connection_of(&device), Some(2));
        registry.close(2, &second);
        registry.claim_plain(1, &mut first, device);
        assert_eq!(registry.connection_of(&device), Some(1));
    }
}
