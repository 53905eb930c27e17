//! Devices that peers made known, and how many more they may.
//!
//! A device that was made known has rows in the world for good, so what counts is every name ever
//! given, over all connections of a certificate, not those of one connection. It counts from the
//! start of the twin, whose world begins with the devices alone that had events before: each start
//! adds at most one quota to those, and the rows of the world bound them all. A certificate for any
//! device, and one that names a single device, need no such limit; peers without a certificate have
//! one quota between them. Bounds: [`super::Limits::devices`] for each of [`HOLDERS_MAX`]
//! certificates; those beyond them have one quota between them, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use uuid::Uuid;

use crate::certs::revocation::serial;
use crate::listener::Folded;

/// Certificates that have a quota of their own: as many as may be connected.
const HOLDERS_MAX: usize = crate::registry::CONNECTIONS_MAX;

/// A quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "peers of one certificate may make {0} devices known and no more (transport.devices_max of \
     the twin)"
)]
pub(crate) struct UsedUp(u32);

/// Whose devices are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    /// Peers without a certificate.
    Nameless,
    /// Peers with that of a number.
    Certificate(Vec<u8>),
    /// Whoever came when there were too many.
    Others,
}

/// The quotas of a node.
#[derive(Debug)]
pub(crate) struct Quotas {
    most: u32,
    held: Mutex<BTreeMap<Holder, Arc<Quota>>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Quota {
    most: u32,
    known: Mutex<BTreeSet<Uuid>>,
    /// That it does not do.
    pub(crate) said: Folded,
}

impl Quotas {
    pub(crate) const fn new(most: u32) -> Self {
        Self {
            most,
            held: Mutex::new(BTreeMap::new()),
        }
    }

    /// That of a peer, if it has one: by the certificate it has shown, and the devices that this is
    /// for (any, if `None`).
    pub(crate) fn of(
        &self,
        shown: Option<&CertificateDer<'_>>,
        devices: Option<&str>,
    ) -> Option<Arc<Quota>> {
        let holder = match (shown, devices) {
            (None, _) => Holder::Nameless,
            (Some(shown), Some(glob)) if glob.contains(['*', '?']) => {
                Holder::Certificate(serial(shown).unwrap_or_default())
            }
            (Some(_), _) => return None,
        };
        let mut held = self.held.lock();
        let room = held.len() < HOLDERS_MAX || held.contains_key(&holder);
        let holder = if room { holder } else { Holder::Others };
        let quota = held.entry(holder);
        let quota = quota.or_insert_with(|| Arc::new(Quota::new(self.most)));
        Some(Arc::clone(quota))
    }
}

impl Quota {
    fn new(most: u32) -> Self {
        Self {
            most,
            known: Mutex::default(),
            said: Folded::new("devices_refused"),
        }
    }

    /// How many devices it is for.
    pub(crate) const fn most(&self) -> u32 {
        self.most
    }

    /// What is said of devices beyond it.
    pub(crate) const fn used_up(&self) -> UsedUp {
        UsedUp(self.most)
    }

    /// A device is made known, if it is not yet and may be.
    pub(crate) fn admit(&self, device: Uuid) -> Result<(), UsedUp> {
        let mut known = self.known.lock();
        if known.len() < self.most as usize {
            known.insert(device);
            return Ok(());
        }
        match known.contains(&device) {
            true => Ok(()),
            false => Err(self.used_up()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::Site;

    #[test]
    fn a_quota_counts_devices_of_a_certificate_and_not_connections() {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::open_or_create(&dir.path().join("site")).unwrap();
        let shown = |name: &str| {
            let identity = site.identity(name, "*", &dir.path().join(name));
            identity.unwrap().chain()[0].clone()
        };
        let (first, second) = (shown("first"), shown("second"));
        let quotas = Quotas::new(2);
        let device = |n| Uuid::from_u128(n);
        let of = |shown, glob| quotas.of(Some(shown), glob).unwrap();
        of(&first, Some("pump-*")).admit(device(1)).unwrap();
        of(&first, Some("pump-*")).admit(device(2)).unwrap();
        let again = of(&first, Some("pump-*"));
        assert_eq!(again.admit(device(3)), Err(UsedUp(2)));
        again.admit(device(1)).unwrap();
        of(&second, Some("pump-?")).admit(device(3)).unwrap();
        let nameless = || quotas.of(None, None).unwrap();
        nameless().admit(device(4)).unwrap();
        nameless().admit(device(5)).unwrap();
        assert_eq!(nameless().admit(device(6)), Err(UsedUp(2)));
        // For any device, or for one: nothing is counted.
        assert!(quotas.of(Some(&first), None).is_none());
        assert!(quotas.of(Some(&first), Some("pump-0001")).is_none());
    }

    #[test]
    fn holders_beyond_the_bound_share_one_quota() {
        let quotas = Quotas::new(1);
        let mut held = quotas.held.lock();
        for n in 0..HOLDERS_MAX {
            let holder = Holder::Certificate(n.to_be_bytes().into());
            held.insert(holder, Arc::new(Quota::new(1)));
        }
        drop(held);
        quotas.of(None, None).unwrap().admit(Uuid::nil()).unwrap();
        let others = quotas.of(None, None).unwrap();
        assert_eq!(others.admit(Uuid::max()), Err(UsedUp(1)));
        assert_eq!(quotas.held.lock().len(), HOLDERS_MAX + 1);
    }
}
