//! The shell of the balancer: measures windows and asks slabs to move.
//!
//! A task that sleeps between windows; it reads what shards and slabs publish anyway. Slabs whose
//! cells have sockets are none of its candidates. It tells of slabs that have arrived, not of those
//! it asked: one may have opened a socket meanwhile. Bound: one request per move; a slab or shard
//! that is gone is passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::AbortHandle;

use super::{BalanceRule, Balancer, ShardLoad, SlabLoad};
use crate::clock::{Clock, Time, nanos};
use crate::events::Level;
use crate::shard::core::Port;
use crate::shard::moving::Movable;
use crate::shard::spec::ShardStats;
use crate::system::System;

/// Moves slabs as long as it is kept.
#[derive(Debug)]
#[must_use = "dropping it ends the balancing"]
pub struct Balancing(AbortHandle);

impl Drop for Balancing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What was counted until a window began.
struct Watch {
    clock: Clock,
    ports: Vec<Arc<Port>>,
    began: Time,
    stats: Vec<ShardStats>,
    /// Of each slab, by number.
    work: BTreeMap<u64, u64>,
}

impl Balancing {
    pub(in crate::shard) fn start(
        system: &System,
        ports: Vec<Arc<Port>>,
        rule: BalanceRule,
    ) -> Self {
        let mut watch = Watch {
            clock: system.clock().clone(),
            began: system.clock().monotonic(),
            stats: Vec::new(),
            work: BTreeMap::new(),
            ports,
        };
        let told = system.clone();
        let mut balancer = Balancer::new(rule);
        let task = system.handle().spawn(async move {
            watch.window();
            loop {
                tokio::time::sleep(rule.every).await;
                let window = watch.window();
                for (shard, count) in window.arrived {
                    let text = format!("{count} slabs have moved to shard {shard}");
                    told.events()
                        .publish(Level::Info, "slabs_moved", None, text);
                }
                for m in balancer.decide(&window.shards, &window.slabs) {
                    let (slab, port) = (window.movable.get(&m.slab), watch.ports.get(m.to));
                    if let Some((slab, port)) = slab.zip(port) {
                        // Who takes no request now is asked again when it has rested.
                        let _ = slab.move_to(port);
                    }
                }
            }
        });
        Self(task.abort_handle())
    }
}

/// What was seen between two looks.
struct Window {
    shards: Vec<ShardLoad>,
    slabs: Vec<SlabLoad>,
    movable: BTreeMap<u64, Arc<dyn Movable>>,
    /// Slabs that came to a shard, where any did.
    arrived: Vec<(usize, u64)>,
}

impl Watch {
    /// Loads since the last call, of the shards that have not ended.
    fn window(&mut self) -> Window {
        // One that has ended is idle for ever, and takes nothing.
        self.ports.retain(|port| !port.is_stopping());
        let now = self.clock.monotonic();
        let time = nanos(now.since(std::mem::replace(&mut self.began, now))).max(1);
        let stats: Vec<_> = self.ports.iter().map(|p| *p.stats.lock()).collect();
        let before = std::mem::replace(&mut self.stats, stats);
        let mut arrived = Vec::new();
        let shards = self.stats.iter().map(|after| {
            let before = before.iter().find(|before| before.index == after.index);
            let before = before.copied().unwrap_or_default();
            let more = after.migrations_in - before.migrations_in;
            if more > 0 {
                arrived.push((after.index, more));
            }
            let work = |stats: &ShardStats| stats.messages + stats.timers_fired;
            ShardLoad {
                busy: after.busy_ns.saturating_sub(before.busy_ns) as f64 / time as f64,
                work: work(after).saturating_sub(work(&before)),
            }
        });
        let shards = shards.collect();
        let movable = self.ports.first().map(|port| port.movables.all());
        let movable = movable.unwrap_or_default();
        let mut work = BTreeMap::new();
        let slabs = movable.iter().filter_map(|(number, slab)| {
            let now = slab.work();
            let before = self.work.get(number).copied().unwrap_or(now);
            work.insert(*number, now);
            if slab.has_sockets() {
                return None;
            }
            let index = slab.shard();
            let shard = self.stats.iter().position(|stats| stats.index == index)?;
            Some(SlabLoad {
                slab: *number,
                shard,
                work: now.saturating_sub(before),
            })
        });
        let slabs = slabs.collect();
        self.work = work;
        Window {
            shards,
            slabs,
            movable,
            arrived,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::core::Common;
    use crate::shard::inbox::{Bell, Bells, Doorbell};

    struct Silent;
    impl Bell for Silent {
        fn ring(&self) {}
    }

    /// A slab of shard 2, and whether it has sockets.
    struct Still(bool);
    impl Movable for Still {
        fn shard(&self) -> usize {
            2
        }
        fn work(&self) -> u64 {
            7
        }
        fn has_sockets(&self) -> bool {
            self.0
        }
        fn move_to(&self, _: &Arc<Port>) -> bool {
            true
        }
    }

    /// Three shards with these slabs.
    fn watch(slabs: &[Arc<dyn Movable>]) -> Watch {
        let bells: Bells = (0..3).map(|_| Doorbell::new(Box::new(Silent))).collect();
        let common = Common::of(bells);
        let port = |index| Port::new(index, &common, None);
        let ports = (0..3).map(port).collect();
        slabs
            .iter()
            .for_each(|slab| common.movables.add(Arc::downgrade(slab)));
        let clock = Clock::virtual_from(0);
        Watch {
            began: clock.monotonic(),
            clock,
            ports,
            stats: Vec::new(),
            work: BTreeMap::new(),
        }
    }

    #[test]
    fn a_shard_that_has_ended_is_no_place_to_move_to() {
        let slab: Arc<dyn Movable> = Arc::new(Still(false));
        let mut watch = watch(std::slice::from_ref(&slab));
        let ports = watch.ports.clone();
        let seen = watch.window();
        assert_eq!((seen.shards.len(), seen.slabs[0].shard), (3, 2));
        ports[1].ask_to_stop();
        let seen = watch.window();
        assert_eq!((seen.shards.len(), seen.slabs[0].shard), (2, 1));
        assert_eq!(watch.ports[seen.slabs[0].shard].index, 2);
        ports[2].ask_to_stop();
        assert!(watch.window().slabs.is_empty());
    }

    #[test]
    fn a_slab_with_sockets_is_no_candidate_and_only_what_has_arrived_is_told() {
        let slabs: [Arc<dyn Movable>; 2] = [true, false].map(|has| Arc::new(Still(has)) as _);
        let mut watch = watch(&slabs);
        let seen = watch.window();
        assert_eq!((seen.movable.len(), seen.slabs.len()), (2, 1));
        assert_eq!(seen.slabs[0].slab, 1);
        assert!(seen.arrived.is_empty());
        watch.ports[1].stats.lock().migrations_in = 3;
        assert_eq!(watch.window().arrived, [(1, 3)]);
        assert!(watch.window().arrived.is_empty());
    }
}
