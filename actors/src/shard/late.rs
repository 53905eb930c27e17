//! The driver of shards that may not live long: a parked thread until a ring pays.
//!
//! To make a ring and to take it down costs several starts of a thread, so a shard makes its own
//! with the first socket that is asked for, or before the first sleep after [`RING_AFTER`]. What
//! the kernel has is known before. If it lacks a descriptor or memory all the same, the shard says
//! so, stays parked and tries again, after a pause, until it has sockets without a ring; if it
//! refuses for another reason, the shard stays parked for good. It changes how it is rung only
//! while it is awake: who rings a sleeper has seen it fall asleep, and with that the ring. Bound:
//! one attempt per pause of a [`Gate`].

use std::io;
use std::time::Duration;

use super::driver::{Driver, DriverCounts};
use super::inbox::Bell;
use super::net::{Engine, Gate, ShardNet, Told};
use super::portable::{Portable, Wake};
use super::uring::{RingBell, RingPlan, RingRefused, Uring};
use crate::clock::Time;
use crate::events::Level;
use crate::system::System;

/// Time after which a ring pays: many times what making it costs.
const RING_AFTER: Duration = Duration::from_millis(10);

/// A parked thread that gets a ring.
pub(crate) struct Late {
    parked: Portable,
    ring: Option<Box<Uring>>,
    /// As long as there may be a ring yet.
    plan: Option<RingPlan>,
    /// Closed for a while after the host lacked something for it.
    gate: Gate,
    /// Whether that was told.
    told: bool,
    /// When it was first about to sleep.
    since: Option<Time>,
    bell: LateBell,
    /// Who is told that there is no ring after all.
    system: System,
}

/// Rings a shard wherever it sleeps.
#[derive(Clone)]
struct LateBell {
    parked: Wake,
    ring: RingBell,
}

impl LateBell {
    fn bell(&self) -> &dyn Bell {
        match self.ring.is_open() {
            true => &self.ring,
            false => &self.parked,
        }
    }
}

impl Bell for LateBell {
    fn ring(&self) {
        self.bell().ring();
    }

    fn ring_at_once(&self) {
        self.bell().ring_at_once();
    }
}

impl Late {
    #[cfg(test)]
    fn new(plan: RingPlan, system: &System) -> Self {
        Self::at(Portable::new(), plan, system)
    }

    /// Parked there until a ring pays.
    pub(crate) fn at(parked: Portable, plan: RingPlan, system: &System) -> Self {
        let bell = LateBell {
            parked: parked.wake(),
            ring: plan.bell(),
        };
        Self {
            parked,
            ring: None,
            plan: Some(plan),
            gate: Gate::default(),
            told: false,
            since: None,
            bell,
            system: system.clone(),
        }
    }

    /// Makes the ring, if there is to be one yet. Only while the shard is awake.
    fn make_ring(&mut self, now: Time) {
        let Some(plan) = &mut self.plan else { return };
        match plan.make() {
            Ok(ring) => {
                self.ring = Some(Box::new(ring));
                if self.told {
                    self.tell(Level::Info, "has its ring now");
                }
                self.plan = None;
            }
            Err(refused) => self.refused(&refused, now),
        }
    }

    fn refused(&mut self, refused: &RingRefused, now: Time) {
        if !refused.is_want() {
            self.tell(
                Level::Warn,
                &format!("stays a parked thread, as it got no ring: {refused}"),
            );
            self.plan = None;
            return;
        }
        self.gate.fail(now);
        if !std::mem::replace(&mut self.told, true) {
            let text = format!("is a parked thread until it gets a ring: {refused}");
            self.tell(Level::Warn, &text);
        }
    }

    /// Says something about the shard.
    fn tell(&self, level: Level, text: &str) {
        if let Some(plan) = &self.plan {
            let text = format!("shard {} {text}", plan.shard());
            let events = self.system.events();
            events.publish(level, "shards_backend", None, text);
        }
    }

    fn driver(&mut self) -> &mut dyn Driver {
        match &mut self.ring {
            Some(ring) => &mut **ring,
            None => &mut self.parked,
        }
    }
}

impl Driver for Late {
    fn bell(&self) -> Box<dyn Bell> {
        Box::new(self.bell.clone())
    }

    fn attach(&mut self) -> io::Result<()> {
        self.parked.attach()
    }

    fn settle(&mut self, now: Time) {
        if self.plan.is_some()
            && now >= *self.since.get_or_insert(now) + RING_AFTER
            && !self.gate.is_closed(now)
        {
            self.make_ring(now);
        }
    }

    fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.driver().wait(at_most)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.driver().flush()
    }

    fn is_pending(&mut self) -> bool {
        self.driver().is_pending()
    }

    fn engine(&mut self) -> &mut dyn Engine {
        self
    }

    fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    fn counts(&self) -> DriverCounts {
        let ring = self.ring.as_ref();
        ring.map_or_else(DriverCounts::default, |ring| ring.counts())
    }
}

/// The engine of its sockets: of the ring, unless there is none.
impl Engine for Late {
    fn obey(&mut self, net: &mut ShardNet, now: Time) -> io::Result<()> {
        // Whenever it would begin without one, whatever the gate says: there is no way back.
        if self.plan.is_some() && net.has_asks() && self.parked.would_begin(now) {
            self.make_ring(now);
        }
        self.driver().engine().obey(net, now)?;
        if self.plan.is_some() && self.parked.has_sockets() {
            self.tell(Level::Warn, "stays a parked thread, now with sockets");
            self.plan = None;
        }
        Ok(())
    }

    fn next<'e>(&'e mut self, net: &mut ShardNet, now: Time) -> Option<Told<'e>> {
        self.driver().engine().next(net, now)
    }

    fn has_next(&mut self) -> bool {
        self.driver().engine().has_next()
    }

    fn due(&self) -> Option<Time> {
        match &self.ring {
            Some(ring) => ring.sockets_due(),
            None => self.parked.due(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;
    use std::thread;
    use std::time::Instant;

    use super::super::inbox::Doorbell;
    use super::super::net::{Heads, NetConfig, Owner, What};
    use super::super::uring::{RingConfig, plans};
    use super::*;
    use crate::clock::Clock;

    const MS: u64 = 1_000_000;
    const BY: Owner = Owner {
        tag: 1,
        key: 0,
        rank: 0,
        ordinal: 0,
    };
    const WHAT: What = What::Datagrams {
        at: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        peer: None,
    };

    fn late(config: &RingConfig) -> Option<(Late, System)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let system = System::new(Clock::wall(), runtime.unwrap().handle().clone());
        match plans(1, config) {
            Ok((mut plans, _)) => Some((Late::new(plans.pop().unwrap(), &system), system)),
            Err(refused) => {
                println!("skipped: {refused}");
                None
            }
        }
    }

    #[test]
    fn a_shard_gets_its_ring_with_the_first_sleep_that_comes_late() {
        let Some((mut late, _)) = late(&RingConfig::default()) else {
            return;
        };
        late.attach().unwrap();
        for (ms, has) in [(5, false), (14, false), (15, true), (16, true)] {
            late.settle(Time(ms * MS));
            assert_eq!(late.has_ring(), has, "{ms}");
            late.wait(Some(Duration::from_micros(50))).unwrap();
        }
        assert!(late.counts().enters > 0);
    }

    #[test]
    fn each_ring_is_heard_while_the_shard_goes_from_its_park_to_its_ring() {
        const RINGS: u64 = 400;
        const PATIENCE: Duration = Duration::from_secs(300);
        let Some((mut late, _)) = late(&RingConfig::default()) else {
            return;
        };
        let bell = Doorbell::new(late.bell());
        let (told, heard) = sync_channel(1);
        let ringer = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                for n in 0..RINGS {
                    bell.ring();
                    assert_eq!(heard.recv_timeout(PATIENCE), Ok(n));
                }
            })
        };
        late.attach().unwrap();
        let mut n = 0;
        while n < RINGS {
            if bell.answer() {
                told.send(n).unwrap();
                n += 1;
            }
            late.settle(Time(n * MS / 10));
            if n < RINGS && bell.doze() {
                let begin = Instant::now();
                late.wait(Some(PATIENCE)).unwrap();
                assert!(begin.elapsed() < PATIENCE, "ring {n} was lost");
            }
        }
        ringer.join().unwrap();
        assert!(late.has_ring());
    }

    fn texts(system: &System) -> Vec<String> {
        let events = system.events().since(0, 10);
        events.into_iter().map(|event| event.text).collect()
    }

    #[test]
    fn a_ring_that_is_refused_for_good_leaves_a_parked_thread_that_says_so() {
        let Some((mut late, system)) = late(&RingConfig::default()) else {
            return;
        };
        late.plan.as_mut().unwrap().refuse([libc::EPERM]);
        late.attach().unwrap();
        for ms in [0, 10, 1_000] {
            late.settle(Time(ms * MS));
        }
        let told = texts(&system);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("shard 0 stays a parked thread"));
        assert!(told[0].contains("io_uring_setup"), "{}", told[0]);
        assert!(!late.has_ring());
        late.bell().ring();
        late.wait(None).unwrap();
    }

    #[test]
    fn a_ring_that_is_refused_for_want_of_files_is_asked_for_again_after_a_pause() {
        let Some((mut late, system)) = late(&RingConfig::default()) else {
            return;
        };
        let wants = [libc::EMFILE, libc::ENOMEM];
        late.plan.as_mut().unwrap().refuse(wants);
        late.attach().unwrap();
        for (ms, has) in [
            (0, false),
            (10, false),
            (109, false),
            (110, false),
            (309, false),
            (310, true),
        ] {
            late.settle(Time(ms * MS));
            assert_eq!(late.has_ring(), has, "{ms}");
            late.bell().ring();
            late.wait(None).unwrap();
        }
        let told = texts(&system);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("RLIMIT_NOFILE"), "{}", told[0]);
        assert_eq!(told[1], "shard 0 has its ring now");
    }

    #[test]
    fn a_shard_that_began_its_sockets_without_a_ring_stays_without_one() {
        let Some((mut late, system)) = late(&RingConfig::default()) else {
            return;
        };
        late.plan.as_mut().unwrap().refuse([libc::EMFILE; 2]);
        late.attach().unwrap();
        late.settle(Time(0));
        late.settle(Time(10 * MS));
        let mut net = ShardNet::new(NetConfig::default());
        net.open(BY, &mut Heads::default(), WHAT, None).unwrap();
        late.obey(&mut net, Time(11 * MS)).unwrap();
        late.settle(Time(1_000 * MS));
        assert!(!late.has_ring() && late.parked.has_sockets());
        let told = texts(&system);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[1], "shard 0 stays a parked thread, now with sockets");
    }
}
