//! Connections that are up: whose they are.
//!
//! A place is given back when it is dropped. On loopback every process of the machine has the same
//! address, the own fleet among them: there a certificate tells its bearer from the others, and
//! only peers without one have the address's share. Bounds: those of [`Limits`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;

use super::{Limits, NoRoom, source};
use crate::certs::revocation::serial;

/// The connections of a node's listeners.
#[derive(Debug)]
pub(crate) struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_source: BTreeMap<IpAddr, usize>,
    by_certificate: BTreeMap<Vec<u8>, usize>,
}

/// One connection's.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    source: Option<IpAddr>,
    certificate: Option<Vec<u8>>,
}

impl Places {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            taken: Mutex::default(),
        })
    }

    /// Whether a peer need not make a handshake, as there would be no place after it.
    pub(crate) fn would_refuse(&self, from: IpAddr) -> Option<NoRoom> {
        let source = (!from.to_canonical().is_loopback()).then(|| source(from));
        self.refuse(&self.taken.lock(), source, None)
    }

    /// A peer that has shown a certificate, or none, wants one.
    pub(crate) fn enter(
        self: &Arc<Self>,
        from: IpAddr,
        shown: Option<&CertificateDer<'_>>,
    ) -> Result<Place, NoRoom> {
        let known = from.to_canonical().is_loopback() && shown.is_some();
        let source = (!known).then(|| source(from));
        let certificate = shown.map(|shown| serial(shown).unwrap_or_default());
        let mut taken = self.taken.lock();
        if let Some(why) = self.refuse(&taken, source, certificate.as_deref()) {
            return Err(why);
        }
        taken.all += 1;
        if let Some(source) = source {
            *taken.by_source.entry(source).or_default() += 1;
        }
        if let Some(certificate) = &certificate {
            let own = taken.by_certificate.entry(certificate.clone());
            *own.or_default() += 1;
        }
        drop(taken);
        Ok(Place {
            places: Arc::clone(self),
            source,
            certificate,
        })
    }

    fn refuse(
        &self,
        taken: &Taken,
        source: Option<IpAddr>,
        certificate: Option<&[u8]>,
    ) -> Option<NoRoom> {
        let (most, share) = (self.limits.connections, self.limits.connections_share);
        let is_full = |own: Option<&usize>| own.is_some_and(|own| *own >= share);
        if taken.all >= most {
            Some(NoRoom::Connections(most))
        } else if source.is_some_and(|source| is_full(taken.by_source.get(&source))) {
            Some(NoRoom::ConnectionsOfAddress(share))
        } else if certificate.is_some_and(|own| is_full(taken.by_certificate.get(own))) {
            Some(NoRoom::ConnectionsWithCertificate(share))
        } else {
            None
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(source) = &self.source {
            leave(&mut taken.by_source, source);
        }
        if let Some(certificate) = &self.certificate {
            leave(&mut taken.by_certificate, certificate);
        }
    }
}

/// Counts one less; nobody stays in the table with none.
fn leave<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::{CONNECTIONS_SHARE_MAX, source};
    use super::*;
    use crate::certs::Site;
    use crate::registry::CONNECTIONS_MAX;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn host(n: usize) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n as u32).into()
    }

    /// So many places from one address.
    fn enter(
        places: &Arc<Places>,
        count: usize,
        from: IpAddr,
        shown: Option<&CertificateDer<'_>>,
    ) -> Vec<Place> {
        let enter = |_| places.enter(from, shown).unwrap();
        (0..count).map(enter).collect()
    }

    #[test]
    fn an_address_and_a_certificate_have_their_shares_and_the_others_the_rest() {
        let places = Places::new(Limits::default());
        let share = CONNECTIONS_SHARE_MAX;
        let dir = tempfile::tempdir().unwrap();
        let site = Site::open_or_create(&dir.path().join("site")).unwrap();
        let [first, second] = ["first", "second"]
            .map(|name| site.identity(name, "*", &dir.path().join(name)).unwrap());
        let [first, second] = [&first.chain()[0], &second.chain()[0]];
        // Of one address, whatever it shows; it need not even make a handshake.
        let mut held = enter(&places, share, host(0), None);
        let refused = places.enter(host(0), Some(first)).unwrap_err();
        assert_eq!(refused, NoRoom::ConnectionsOfAddress(share));
        assert_eq!(places.would_refuse(host(0)), Some(refused));
        // Of one certificate, from wherever it comes.
        for n in 1..=share {
            held.extend(enter(&places, 1, host(n), Some(first)));
        }
        let refused = |places: &Arc<Places>, from| places.enter(from, Some(first)).unwrap_err();
        assert_eq!(
            refused(&places, host(share + 1)),
            NoRoom::ConnectionsWithCertificate(share)
        );
        assert_eq!(
            refused(&places, LOCAL),
            NoRoom::ConnectionsWithCertificate(share)
        );
        // Loopback is one address for peers without a certificate only.
        held.extend(enter(&places, share, LOCAL, None));
        let nameless = places.enter(LOCAL, None).unwrap_err();
        assert_eq!(nameless, NoRoom::ConnectionsOfAddress(share));
        assert_eq!(places.would_refuse(LOCAL), None);
        held.extend(enter(&places, share, LOCAL, Some(second)));
        assert_eq!(held.len(), CONNECTIONS_MAX);
        assert_eq!(
            places.would_refuse(host(share + 9)),
            Some(NoRoom::Connections(CONNECTIONS_MAX))
        );
        // What is given back can be taken again, and nothing else stays.
        drop(held.swap_remove(0));
        held.extend(enter(&places, 1, host(0), None));
        drop(held);
        let taken = places.taken.lock();
        assert_eq!((taken.all, taken.by_source.len()), (0, 0));
        assert!(taken.by_certificate.is_empty());
        assert_eq!(source(LOCAL), LOCAL);
    }
}
