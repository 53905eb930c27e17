//! Connections that are up: whose they are, and which of them give way.
//!
//! A place is given back when it is dropped. On loopback every process of the machine has the same
//! address, the own fleet among them: there a certificate tells its bearer from the others, and
//! only peers without one have the address's share.
//!
//! A peer that was killed is there until the idle time-out, and comes back sooner. So once a
//! newcomer finds its share full, those in it are asked, and one that has sent nothing by the end
//! of a time gives way to the next newcomer; so it is if all places are taken, except on loopback,
//! where a newcomer is refused before it has shown whose it is. Who answers stays, whoever comes.
//! Bounds: those of [`Limits`]; one question to each of a share in that time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;

use super::{Limits, NoRoom, source};
use crate::certs::revocation::serial;
use crate::endpoint::{CONNECTION_WINDOW, KEEP_ALIVE, close, codes};

/// For an answer to a peer of the same certificate: a round trip of a bad line, with a loss.
const ANSWER: Duration = Duration::from_secs(1);
/// The same behind an address, where strangers share a line: it must have failed for so long.
const ANSWER_OF_ADDRESS: Duration = KEEP_ALIVE;

/// A connection, as its place knows it.
pub(crate) trait Line: fmt::Debug + Send + Sync {
    /// Datagrams that have come over it.
    fn heard(&self) -> u64;

    /// Has its peer send something, if it is there.
    fn ask(&self);

    /// Ends it: another has its place.
    fn end(&self);
}

impl Line for quinn::Connection {
    fn heard(&self) -> u64 {
        self.stats().udp_rx.datagrams
    }

    /// A new limit is told in a frame that must be acknowledged. It is one byte
    /// more now, taken back with the next credit.
    fn ask(&self) {
        for less in [1, 0] {
            self.set_receive_window((CONNECTION_WINDOW - less).into());
        }
    }

    fn end(&self) {
        close(
            self,
            codes::FULL,
            b"it did not answer, and another has its place",
        );
    }
}

/// The connections of a node's listeners.
#[derive(Debug)]
pub(crate) struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// By number, so by age.
    members: BTreeMap<u64, Member>,
    shares: BTreeMap<Of, Share>,
    last: u64,
}

/// One connection.
#[derive(Debug)]
struct Member {
    /// Whose shares it counts in.
    of: Vec<Of>,
    line: Box<dyn Line>,
}

/// Whose a share is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Address(IpAddr),
    /// Of a number.
    Certificate(Vec<u8>),
}

impl Of {
    /// How long its connections have to answer.
    const fn answer(&self) -> Duration {
        match self {
            Self::Address(_) => ANSWER_OF_ADDRESS,
            Self::Certificate(_) => ANSWER,
        }
    }

    const fn no_room(&self, share: usize) -> NoRoom {
        match self {
            Self::Address(_) => NoRoom::ConnectionsOfAddress(share),
            Self::Certificate(_) => NoRoom::ConnectionsWithCertificate(share),
        }
    }
}

/// Connections, and what had come over each by some time.
type Heard = Vec<(u64, u64)>;

/// The connections of one peer.
#[derive(Debug, Default)]
struct Share {
    members: BTreeSet<u64>,
    /// When they were asked.
    asked: Option<(Instant, Heard)>,
    /// Those that had not answered in time.
    silent: Heard,
}

/// One connection's.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    /// Whether another one had it, which did not answer.
    pub(crate) was_silent: bool,
}

impl Places {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            taken: Mutex::default(),
        })
    }

    /// Whether a peer need not make a handshake, as there would be no place after it.
    pub(crate) fn would_refuse(&self, from: IpAddr, now: Instant) -> Option<NoRoom> {
        let mut taken = self.taken.lock();
        if from.to_canonical().is_loopback() {
            // who it is shows after it
            let all = self.limits.connections;
            return (taken.members.len() >= all).then_some(NoRoom::Connections(all));
        }
        taken.room(&self.limits, &[Of::Address(source(from))], now)
    }

    /// A peer that has shown a certificate, or none, wants one.
    pub(crate) fn enter(
        self: &Arc<Self>,
        from: IpAddr,
        shown: Option<&CertificateDer<'_>>,
        line: Box<dyn Line>,
        now: Instant,
    ) -> Result<Place, NoRoom> {
        let by_address = !from.to_canonical().is_loopback() || shown.is_none();
        let address = by_address.then(|| Of::Address(source(from)));
        let certificate = shown.map(|shown| Of::Certificate(serial(shown).unwrap_or_default()));
        let of: Vec<Of> = address.into_iter().chain(certificate).collect();
        let mut taken = self.taken.lock();
        if let Some(why) = taken.room(&self.limits, &of, now) {
            return Err(why);
        }
        let was_silent = taken.make_room(&self.limits, &of, now);
        // one that was silent may have been heard meanwhile
        if let Some(why) = taken.no_room(&self.limits, &of) {
            return Err(why);
        }
        let number = taken.enter(of, line);
        drop(taken);
        Ok(Place {
            places: Arc::clone(self),
            number,
            was_silent,
        })
    }
}

impl Taken {
    fn is_full(&self, of: &Of, share: usize) -> bool {
        let own = self.shares.get(of);
        own.is_some_and(|own| own.members.len() >= share)
    }

    /// Why there is no place for a peer, also if those of its own that are silent give way. Ends
    /// nobody: it may be that one share has a silent one, and another has none.
    fn room(&mut self, limits: &Limits, of: &[Of], now: Instant) -> Option<NoRoom> {
        let share = limits.connections_share;
        let mut gives_way = false;
        for of in of {
            if self.is_full(of, share) {
                if !self.look(of, now) {
                    return Some(of.no_room(share));
                }
                gives_way = true;
            }
        }
        let all = limits.connections;
        let is_full = self.members.len() >= all;
        let no_room = is_full && !gives_way && !of.iter().any(|of| self.look(of, now));
        no_room.then_some(NoRoom::Connections(all))
    }

    /// Why there is no place as it is.
    fn no_room(&self, limits: &Limits, of: &[Of]) -> Option<NoRoom> {
        let share = limits.connections_share;
        let full = of.iter().find(|of| self.is_full(of, share));
        let all = limits.connections;
        full.map(|of| of.no_room(share))
            .or_else(|| (self.members.len() >= all).then_some(NoRoom::Connections(all)))
    }

    /// Ends as few silent ones as it takes; returns whether there was one.
    fn make_room(&mut self, limits: &Limits, of: &[Of], now: Instant) -> bool {
        let mut was_silent = false;
        for of in of {
            if self.is_full(of, limits.connections_share) {
                was_silent |= self.displace(of, now).is_some();
            }
        }
        if self.members.len() >= limits.connections {
            was_silent |= of.iter().any(|of| self.displace(of, now).is_some());
        }
        was_silent
    }

    fn enter(&mut self, of: Vec<Of>, line: Box<dyn Line>) -> u64 {
        self.last += 1;
        for of in of.iter().cloned() {
            self.shares.entry(of).or_default().members.insert(self.last);
        }
        self.members.insert(self.last, Member { of, line });
        self.last
    }

    /// A connection is gone; nobody stays in the table with none.
    fn leave(&mut self, number: u64) -> Option<Member> {
        let member = self.members.remove(&number)?;
        for of in &member.of {
            if let Some(share) = self.shares.get_mut(of) {
                share.members.remove(&number);
                if share.members.is_empty() {
                    self.shares.remove(of);
                }
            }
        }
        Some(member)
    }

    /// Ends the oldest connection of a share that did not answer, if there is one.
    fn displace(&mut self, of: &Of, now: Instant) -> Option<()> {
        if !self.look(of, now) {
            return None;
        }
        let (silent, _) = self.shares.get_mut(of)?.silent.pop()?;
        self.leave(silent)?.line.end();
        Some(())
    }

    /// Whether a connection of a share is known not to answer; asks all of them, unless they were
    /// asked just now.
    fn look(&mut self, of: &Of, now: Instant) -> bool {
        let Self {
            members, shares, ..
        } = self;
        let Some(share) = shares.get_mut(of) else {
            return false;
        };
        let is_silent = |(number, before): &(u64, u64)| {
            let member = members.get(number);
            member.is_some_and(|member| member.line.heard() == *before)
        };
        // what has been heard since answers, too
        while share.silent.pop_if(|last| !is_silent(last)).is_some() {}
        if !share.silent.is_empty() {
            return true;
        }
        match &share.asked {
            Some((at, _)) if now.saturating_duration_since(*at) < of.answer() => return false,
            Some((_, heard)) => {
                let silent = heard.iter().rev().copied().filter(is_silent);
                share.silent = silent.collect();
                share.asked = None;
                if !share.silent.is_empty() {
                    return true;
                }
            }
            None => {}
        }
        let own = share.members.iter().filter_map(|number| {
            let line = &members.get(number)?.line;
            let heard = line.heard();
            line.ask();
            Some((*number, heard))
        });
        share.asked = Some((now, own.collect()));
        false
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.places.taken.lock().leave(self.number);
        drop(left); // not while others wait
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use tokio::runtime::Handle;

    use super::super::{CONNECTIONS_SHARE_MAX, source};
    use super::*;
    use crate::certs::{SITE_SERVER_NAME, Site};
    use crate::endpoint::{Listening, Protocol, dialler, listen};
    use crate::network::{Network, SimNet};
    use crate::registry::CONNECTIONS_MAX;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A connection whose peer answers at once, or not at all.
    #[derive(Clone, Debug, Default)]
    struct Told(Arc<(AtomicU64, AtomicBool, AtomicBool)>);

    impl Told {
        fn dies(&self) {
            self.0.1.store(true, Ordering::Relaxed);
        }

        fn speaks(&self) {
            self.0.0.fetch_add(1, Ordering::Relaxed);
        }

        fn has_ended(&self) -> bool {
            self.0.2.load(Ordering::Relaxed)
        }
    }

    impl Line for Told {
        fn heard(&self) -> u64 {
            self.0.0.load(Ordering::Relaxed)
        }

        fn ask(&self) {
            if !self.0.1.load(Ordering::Relaxed) {
                self.speaks();
            }
        }

        fn end(&self) {
            self.0.2.store(true, Ordering::Relaxed);
        }
    }

    fn host(n: usize) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n as u32).into()
    }

    fn two() -> (tempfile::TempDir, [CertificateDer<'static>; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::open_or_create(&dir.path().join("site")).unwrap();
        let shown = ["first", "second"].map(|name| {
            let identity = site.identity(name, "*", &dir.path().join(name)).unwrap();
            identity.chain()[0].clone()
        });
        (dir, shown)
    }

    /// So many places from one address, of peers that answer.
    fn enter(
        places: &Arc<Places>,
        count: usize,
        from: IpAddr,
        shown: Option<&CertificateDer<'_>>,
        now: Instant,
    ) -> Vec<Place> {
        let line = || Box::new(Told::default());
        let enter = |_| places.enter(from, shown, line(), now).unwrap();
        (0..count).map(enter).collect()
    }

    #[test]
    fn an_address_and_a_certificate_have_their_shares_and_the_others_the_rest() {
        let (places, now) = (Places::new(Limits::default()), Instant::now());
        let share = CONNECTIONS_SHARE_MAX;
        let (_dir, [first, second]) = two();
        let refused = |from, shown| {
            let line = Box::new(Told::default());
            places.enter(from, shown, line, now).unwrap_err()
        };
        // Of one address, whatever it shows; it need not even make a handshake.
        let mut held = enter(&places, share, host(0), None, now);
        let why = refused(host(0), Some(&first));
        assert_eq!(why, NoRoom::ConnectionsOfAddress(share));
        assert_eq!(places.would_refuse(host(0), now), Some(why));
        // Of one certificate, from wherever it comes.
        for n in 1..=share {
            held.extend(enter(&places, 1, host(n), Some(&first), now));
        }
        for from in [host(share + 1), LOCAL] {
            let why = refused(from, Some(&first));
            assert_eq!(why, NoRoom::ConnectionsWithCertificate(share));
        }
        // Loopback is one address for peers without a certificate only.
        held.extend(enter(&places, share, LOCAL, None, now));
        assert_eq!(refused(LOCAL, None), NoRoom::ConnectionsOfAddress(share));
        assert_eq!(places.would_refuse(LOCAL, now), None);
        held.extend(enter(&places, share, LOCAL, Some(&second), now));
        assert_eq!(held.len(), CONNECTIONS_MAX);
        assert_eq!(
            places.would_refuse(host(share + 9), now),
            Some(NoRoom::Connections(CONNECTIONS_MAX))
        );
        // What is given back can be taken again, and nothing else stays.
        drop(held.swap_remove(0));
        held.extend(enter(&places, 1, host(0), None, now));
        drop(held);
        let taken = places.taken.lock();
        assert_eq!((taken.members.len(), taken.shares.len()), (0, 0));
        assert_eq!(source(LOCAL), LOCAL);
    }

    const FEW: Limits = Limits {
        handshakes: 0,
        handshakes_share: 0,
        connections: 8,
        connections_share: 3,
        devices: 0,
    };

    #[test]
    fn a_peer_that_comes_back_takes_the_places_of_its_dead_and_of_nobody_who_answers() {
        let (places, begin) = (Places::new(FEW), Instant::now());
        let (_dir, [first, second]) = two();
        let lines: Vec<Told> = (0..3).map(|_| Told::default()).collect();
        let come =
            |shown, line: &Told, now| places.enter(LOCAL, Some(shown), Box::new(line.clone()), now);
        let _held: Vec<_> = lines
            .iter()
            .map(|line| come(&first, line, begin).unwrap())
            .collect();
        let mut others = Vec::new();
        for _ in 0..3 {
            let other = Told::default();
            others.push((come(&second, &other, begin).unwrap(), other));
        }
        // All answer: however often somebody comes.
        let full = NoRoom::ConnectionsWithCertificate(3);
        for round in 0..5 {
            let now = begin + ANSWER * round;
            assert_eq!(come(&first, &Told::default(), now).unwrap_err(), full);
        }
        // Two of them are dead; asked, the third answers.
        lines[0].dies();
        lines[2].dies();
        others.iter().for_each(|(_, other)| other.dies());
        let asked = begin + ANSWER * 5;
        assert_eq!(come(&first, &Told::default(), asked).unwrap_err(), full);
        let early = asked + ANSWER / 2;
        assert_eq!(come(&first, &Told::default(), early).unwrap_err(), full);
        let late = asked + ANSWER;
        let back = come(&first, &Told::default(), late).unwrap();
        assert!(back.was_silent);
        let ended: Vec<_> = lines.iter().map(Told::has_ended).collect();
        assert_eq!(ended, [true, false, false], "the oldest one");
        // Heard again just in time, the last one stays.
        lines[2].speaks();
        assert_eq!(come(&first, &Told::default(), late).unwrap_err(), full);
        let ended: Vec<_> = lines.iter().map(Told::has_ended).collect();
        assert_eq!(ended, [true, false, false]);
        assert!(
            !others.iter().any(|(_, other)| other.has_ended()),
            "nobody else's"
        );
        assert_eq!(places.taken.lock().members.len(), 6);
    }

    /// Both ends of a connection, in virtual time.
    async fn connected() -> (quinn::Connection, quinn::Connection, [quinn::Endpoint; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::open_or_create(&dir.path().join("site")).unwrap();
        let identity = site.identity("end", "*", &dir.path().join("end")).unwrap();
        let (handle, network) = (Handle::current(), Network::Simulated(SimNet::new(1)));
        let at = (Ipv4Addr::LOCALHOST, 7400).into();
        let twin = listen(&handle, at, Listening::Main, &identity, &network).unwrap();
        let link = dialler(&handle, at, &identity, Protocol::Actorsim1, &network).unwrap();
        let connecting = link.connect(at, SITE_SERVER_NAME).unwrap();
        let incoming = async { twin.accept().await.unwrap().await };
        let (dialled, accepted) = tokio::join!(connecting, incoming);
        (dialled.unwrap(), accepted.unwrap(), [twin, link])
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_nothing_to_say_answers_when_it_is_asked() {
        let (_dialled, accepted, _endpoints) = connected().await;
        let quiet = KEEP_ALIVE / 4;
        // searches for the MTU, and keep-alives, end or are far apart
        tokio::time::sleep(KEEP_ALIVE + quiet).await;
        for _ in 0..3 {
            let before = accepted.heard();
            tokio::time::sleep(quiet).await;
            assert_eq!(accepted.heard(), before, "nobody has asked");
            accepted.ask();
            tokio::time::sleep(quiet).await;
            assert!(accepted.heard() > before);
        }
    }

    #[test]
    fn nobody_gives_way_to_a_newcomer_who_is_refused_all_the_same() {
        let (places, begin) = (Places::new(FEW), Instant::now());
        let (_dir, [first, second]) = two();
        let dead = Told::default();
        dead.dies();
        let come = |from, shown, line: &Told, now| {
            places.enter(from, Some(shown), Box::new(line.clone()), now)
        };
        let _gone = come(host(1), &second, &dead, begin).unwrap();
        let _held = enter(&places, 2, host(1), None, begin);
        let _others = enter(&places, 3, host(2), Some(&first), begin);
        let full = [
            NoRoom::ConnectionsOfAddress(3),
            NoRoom::ConnectionsWithCertificate(3),
        ];
        for (now, why) in [begin, begin + ANSWER_OF_ADDRESS].into_iter().zip(full) {
            let refused = come(host(1), &first, &Told::default(), now);
            assert_eq!(refused.unwrap_err(), why);
            assert!(!dead.has_ended());
        }
        let late = begin + ANSWER_OF_ADDRESS;
        assert!(
            come(host(1), &second, &Told::default(), late)
                .unwrap()
                .was_silent
        );
        assert!(dead.has_ended());
    }

    #[test]
    fn when_all_places_are_taken_the_silent_ones_of_a_peer_give_way_to_it() {
        let (places, begin) = (Places::new(FEW), Instant::now());
        let (_dir, [first, second]) = two();
        let dead = Told::default();
        dead.dies();
        let come = |from, shown, now| {
            let line = Box::new(Told::default());
            places.enter(from, Some(shown), line, now)
        };
        let line = Box::new(dead.clone());
        let _gone = places.enter(host(1), Some(&first), line, begin).unwrap();
        let mut held = enter(&places, 3, host(2), None, begin);
        held.extend(enter(&places, 3, host(3), None, begin));
        held.extend(enter(&places, 1, host(4), None, begin));
        let full = NoRoom::Connections(8);
        assert_eq!(places.would_refuse(host(1), begin), Some(full));
        assert_eq!(come(LOCAL, &first, begin).unwrap_err(), full);
        let late = begin + ANSWER_OF_ADDRESS;
        assert_eq!(places.would_refuse(host(1), late), None);
        assert_eq!(
            places.would_refuse(host(4), late),
            Some(full),
            "none of its own"
        );
        assert_eq!(come(LOCAL, &second, late).unwrap_err(), full, "nor of its");
        assert!(!dead.has_ended());
        let back = come(LOCAL, &first, late).unwrap();
        assert!(back.was_silent && dead.has_ended());
        assert_eq!(places.taken.lock().members.len(), 8);
    }

    #[test]
    fn behind_an_address_a_newcomer_is_let_in_to_show_who_it_is_once_one_is_silent() {
        let (places, begin) = (Places::new(FEW), Instant::now());
        let dead = Told::default();
        dead.dies();
        let line = Box::new(dead.clone());
        let gone = places.enter(host(1), None, line, begin).unwrap();
        let _held = enter(&places, 2, host(1), None, begin);
        let full = Some(NoRoom::ConnectionsOfAddress(3));
        assert_eq!(places.would_refuse(host(1), begin), full, "they are asked");
        let early = begin + ANSWER_OF_ADDRESS / 2;
        assert_eq!(places.would_refuse(host(1), early), full);
        let late = begin + ANSWER_OF_ADDRESS;
        assert_eq!(places.would_refuse(host(1), late), None);
        assert!(!dead.has_ended(), "not for who is not known yet");
        let _back = enter(&places, 1, host(1), None, late);
        assert!(dead.has_ended());
        assert_eq!(places.would_refuse(host(1), late), full);
        drop(gone);
        let taken = places.taken.lock();
        assert_eq!(taken.members.len(), 3, "its place is not given back twice");
    }
}
