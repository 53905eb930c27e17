//! Handshakes under way: whose they are, and who gives way to whom.
//!
//! A newcomer for whom there is no room, in its address's share or in all, takes the place of the
//! oldest handshake there if that has stalled, so that who stalls keeps out neither others nor,
//! behind the same address, its neighbours. Else it is refused at once. It makes no handshake.
//! Bounds: those of [`Limits`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::{AbortHandle, AbortRegistration};
use tokio::time::Instant;

use super::{Limits, NoRoom, source};

/// A handshake that takes longer has stalled: three round trips of a bad line. It may go on while
/// nobody needs its place.
const STALLED: Duration = Duration::from_secs(1);

/// The handshakes of one listener.
#[derive(Debug)]
pub(crate) struct Door {
    limits: Limits,
    /// By number, so by age.
    under_way: BTreeMap<u64, UnderWay>,
    by_source: BTreeMap<IpAddr, BTreeSet<u64>>,
    last: u64,
}

#[derive(Debug)]
struct UnderWay {
    source: IpAddr,
    began: Instant,
    abort: AbortHandle,
}

impl Door {
    pub(crate) const fn new(limits: Limits) -> Self {
        Self {
            limits,
            under_way: BTreeMap::new(),
            by_source: BTreeMap::new(),
            last: 0,
        }
    }

    /// Handshakes under way.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// A peer begins one: its number, and what ends it when it has to give way.
    pub(crate) fn enter(
        &mut self,
        from: IpAddr,
        now: Instant,
    ) -> Result<(u64, AbortRegistration), NoRoom> {
        let source = source(from);
        let (most, share) = (self.limits.handshakes, self.limits.handshakes_share);
        let own = self.by_source.get(&source);
        let in_the_way = if let Some(own) = own.filter(|own| own.len() >= share) {
            Some((own.first().copied(), NoRoom::HandshakesOfAddress(share)))
        } else if self.len() >= most {
            let oldest = self.under_way.keys().next().copied();
            Some((oldest, NoRoom::Handshakes(most)))
        } else {
            None
        };
        if let Some((oldest, why)) = in_the_way {
            let stalled = oldest.filter(|number| self.has_stalled(*number, now));
            self.leave(stalled.ok_or(why)?);
        }
        let (abort, registration) = AbortHandle::new_pair();
        self.last += 1;
        let began = UnderWay {
            source,
            began: now,
            abort,
        };
        self.under_way.insert(self.last, began);
        self.by_source.entry(source).or_default().insert(self.last);
        Ok((self.last, registration))
    }

    fn has_stalled(&self, number: u64, now: Instant) -> bool {
        let under_way = self.under_way.get(&number);
        under_way.is_some_and(|it| now.saturating_duration_since(it.began) >= STALLED)
    }

    /// A handshake is over, however it ended; if it is not, it is now.
    pub(crate) fn leave(&mut self, number: u64) {
        let Some(over) = self.under_way.remove(&number) else {
            return;
        };
        over.abort.abort();
        if let Some(own) = self.by_source.get_mut(&over.source) {
            own.remove(&number);
            if own.is_empty() {
                self.by_source.remove(&over.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt as _;
    use futures_util::future::Abortable;

    use super::super::{HANDSHAKES_MAX, HANDSHAKES_SHARE_MAX};
    use super::*;

    fn host(n: usize) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n as u32).into()
    }

    #[test]
    fn one_address_has_its_share_and_the_others_the_rest() {
        let (mut door, now) = (Door::new(Limits::default()), Instant::now());
        let numbers: Vec<_> = (0..HANDSHAKES_SHARE_MAX)
            .map(|_| door.enter(host(0), now).unwrap().0)
            .collect();
        let refused = |door: &mut Door, n| door.enter(host(n), now).unwrap_err();
        assert_eq!(
            refused(&mut door, 0),
            NoRoom::HandshakesOfAddress(HANDSHAKES_SHARE_MAX)
        );
        for n in door.len()..HANDSHAKES_MAX {
            door.enter(host(n), now).unwrap();
        }
        assert_eq!(
            refused(&mut door, HANDSHAKES_MAX),
            NoRoom::Handshakes(HANDSHAKES_MAX)
        );
        assert_eq!(
            refused(&mut door, 0),
            NoRoom::HandshakesOfAddress(HANDSHAKES_SHARE_MAX)
        );
        door.leave(numbers[3]);
        door.leave(numbers[3]);
        door.enter(host(0), now).unwrap();
        assert_eq!(door.len(), HANDSHAKES_MAX);
    }

    #[test]
    fn what_has_stalled_gives_way_to_a_newcomer_and_nothing_else_does() {
        let limits = Limits {
            handshakes: 3,
            handshakes_share: 2,
            ..Limits::default()
        };
        let (mut door, begin) = (Door::new(limits), Instant::now());
        let ended = |(_, place)| {
            let gone = Abortable::new(std::future::pending::<()>(), place);
            gone.now_or_never().is_some()
        };
        let first = door.enter(host(0), begin).unwrap();
        let second = door.enter(host(0), begin + STALLED / 2).unwrap();
        let third = door.enter(host(1), begin + STALLED / 2).unwrap();
        let late = begin + STALLED;
        let fourth = door.enter(host(0), late).unwrap();
        let refused = |door: &mut Door, n| door.enter(host(n), late).unwrap_err();
        assert_eq!(refused(&mut door, 0), NoRoom::HandshakesOfAddress(2));
        assert_eq!(refused(&mut door, 2), NoRoom::Handshakes(3));
        let later = late + STALLED / 2;
        let fifth = door.enter(host(2), later).unwrap();
        assert_eq!(door.len(), 3);
        let ended = [first, second, third, fourth, fifth].map(ended);
        assert_eq!(ended, [true, true, false, false, false], "the oldest two");
    }
}
