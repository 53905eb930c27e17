//! The shell of the balancer: measures windows and asks slabs to move.
//!
//! A task that sleeps between windows; it reads what shards and slabs publish anyway. Bound: one
//! request per move; a slab or shard that is gone is passed over.

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
                let (shards, slabs, movable) = watch.window();
                let moves = balancer.decide(&shards, &slabs);
                let asked = moves.iter().filter(|m| {
                    let (slab, port) = (movable.get(&m.slab), watch.ports.get(m.to));
                    slab.zip(port)
                        .is_some_and(|(slab, port)| slab.move_to(port))
                });
                let (count, to) = (asked.count(), moves.first().map(|m| m.to));
                if let Some(to) = to {
                    let text = format!("{count} slabs move to shard {to}");
                    told.events()
                        .publish(Level::Info, "slabs_moved", None, text);
                }
            }
        });
        Self(task.abort_handle())
    }
}

type Window = (
    Vec<ShardLoad>,
    Vec<SlabLoad>,
    BTreeMap<u64, Arc<dyn Movable>>,
);

impl Watch {
    /// Loads since the last call.
    fn window(&mut self) -> Window {
        let now = self.clock.monotonic();
        let time = nanos(now.since(std::mem::replace(&mut self.began, now))).max(1);
        let stats: Vec<_> = self.ports.iter().map(|p| *p.stats.lock()).collect();
        let before = std::mem::replace(&mut self.stats, stats);
        let shards = self.stats.iter().enumerate().map(|(index, after)| {
            let before = before.get(index).copied().unwrap_or_default();
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
        let slabs = movable.iter().map(|(number, slab)| {
            let now = slab.work();
            let before = self.work.get(number).copied().unwrap_or(now);
            work.insert(*number, now);
            SlabLoad {
                slab: *number,
                shard: slab.shard(),
                work: now.saturating_sub(before),
            }
        });
        let slabs = slabs.collect();
        self.work = work;
        (shards, slabs, movable)
    }
}
