//! The driver of shards that may not live long: a parked thread until a ring pays.
//!
//! To make a ring and to take it down costs several starts of a thread, so a shard makes its own
//! with the first socket that is asked for, or before the first sleep after [`RING_AFTER`]. What
//! the kernel has is known before; if it refuses the ring all the same (no descriptor, no memory),
//! the shard stays parked, sockets included, and says so. It changes how it is rung only while it
//! is awake: who rings a sleeper has seen it fall asleep, and with that the ring. Bound: one
//! attempt.

use std::io;
use std::time::Duration;

use super::driver::{Driver, DriverCounts};
use super::inbox::Bell;
use super::net::{Engine, ShardNet, Told};
use super::portable::{Portable, Wake};
use super::uring::{RingBell, RingPlan, Uring};
use crate::clock::Time;
use crate::events::Level;
use crate::system::System;

/// Time after which a ring pays: many times what making it costs.
const RING_AFTER: Duration = Duration::from_millis(10);

/// A parked thread that gets a ring.
pub(crate) struct Late {
    parked: Portable,
    ring: Option<Box<Uring>>,
    /// Until it was tried.
    plan: Option<RingPlan>,
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
    pub(crate) fn new(plan: RingPlan, system: &System) -> Self {
        let parked = Portable::new();
        let bell = LateBell {
            parked: parked.wake(),
            ring: plan.bell(),
        };
        Self {
            parked,
            ring: None,
            plan: Some(plan),
            since: None,
            bell,
            system: system.clone(),
        }
    }

    /// Makes the ring, unless that was tried. Only while the shard is awake.
    fn make_ring(&mut self) {
        let Some(plan) = self.plan.take() else { return };
        match plan.make() {
            Ok(ring) => self.ring = Some(Box::new(ring)),
            Err(refused) => {
                let text = format!("a shard stays a parked thread, it got no ring: {refused}");
                let events = self.system.events();
                events.publish(Level::Warn, "shards_backend", None, text);
            }
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
        if self.plan.is_some() && now >= *self.since.get_or_insert(now) + RING_AFTER {
            self.make_ring();
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

    fn counts(&self) -> DriverCounts {
        let ring = self.ring.as_ref();
        ring.map_or_else(DriverCounts::default, |ring| ring.counts())
    }
}

/// The engine of its sockets: of the ring, unless there is none.
impl Engine for Late {
    fn obey(&mut self, net: &mut ShardNet, now: Time) -> io::Result<()> {
        if net.has_asks() {
            self.make_ring();
        }
        self.driver().engine().obey(net, now)
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
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;
    use std::thread;

    use super::super::inbox::Doorbell;
    use super::super::uring::{RingConfig, plans};
    use super::*;
    use crate::clock::Clock;

    const MS: u64 = 1_000_000;

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
            assert_eq!(late.ring.is_some(), has, "{ms}");
            late.wait(Some(Duration::from_micros(50))).unwrap();
        }
        assert!(late.counts().enters > 0);
    }

    #[test]
    fn each_ring_is_heard_while_the_shard_goes_from_its_park_to_its_ring() {
        const RINGS: u64 = 400;
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
                    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(n));
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
                late.wait(None).unwrap();
            }
        }
        ringer.join().unwrap();
        assert!(late.ring.is_some());
    }

    #[test]
    fn a_ring_that_is_refused_late_leaves_a_parked_thread_that_says_so() {
        let Some((mut late, system)) = late(&RingConfig::default()) else {
            return;
        };
        late.plan = Some(late.plan.take().unwrap().refused());
        late.attach().unwrap();
        late.make_ring();
        late.make_ring();
        let told = system.events().since(0, 10);
        assert_eq!(told.len(), 1);
        assert!(told[0].text.contains("io_uring_setup"), "{}", told[0].text);
        let bell = late.bell();
        bell.ring();
        late.wait(None).unwrap();
    }
}
