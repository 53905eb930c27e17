//! What devices with brokers have counted, by protocol, those that have left included.
//!
//! Populations of one protocol share their counters as a rule; others are added up. Bound: one
//! entry a protocol.

use std::sync::Arc;

use super::Fleet;
use crate::broker::{Plan, PublishCounts, PublishStats};
use crate::profile::Protocol;

/// What devices that speak one protocol to brokers have counted.
#[derive(Clone, Debug)]
pub struct Published {
    /// What they speak.
    pub protocol: Protocol,
    /// Devices that speak it now.
    pub devices: u64,
    /// What they have counted.
    pub counts: PublishCounts,
}

/// A protocol, its devices, and where they count.
type Counted = (Protocol, u64, Vec<Arc<PublishStats>>);

impl Fleet {
    /// What devices with brokers have counted, by protocol.
    #[must_use]
    pub fn published(&self) -> Vec<Published> {
        let sum = |(protocol, devices, stats): Counted| {
            let mut all = stats.iter().map(|stats| stats.read());
            let mut counts = all.next()?;
            all.for_each(|more| counts += &more);
            if protocol == Protocol::Amqp && counts.connected > 0 {
                counts.connected = devices; // they share one connection
            }
            Some(Published {
                protocol,
                devices,
                counts,
            })
        };
        let printed = self.printer().map(|printer| {
            let counts = self.counts();
            Published {
                protocol: Protocol::Console,
                devices: counts.requested,
                counts: PublishCounts {
                    connected: match printer.failure() {
                        None => counts.requested,
                        Some(_) => 0,
                    },
                    ..printer.stats().read()
                },
            }
        });
        let all = self.counted().into_iter().filter_map(sum);
        all.chain(printed).collect()
    }

    /// Where devices of a protocol count, if any did so far: those that join count there, too.
    #[must_use]
    pub fn publish_stats(&self, protocol: Protocol) -> Option<Arc<PublishStats>> {
        let mut counted = self.counted().into_iter();
        let (.., stats) = counted.find(|(spoken, ..)| *spoken == protocol)?;
        stats.first().cloned()
    }

    fn counted(&self) -> Vec<Counted> {
        let mut all: Vec<Counted> = Vec::new();
        let mut add = |plan: &Plan, devices: u64| {
            let protocol = plan.speech.protocol();
            let stats = Arc::clone(&plan.stats);
            match all.iter_mut().find(|(spoken, ..)| *spoken == protocol) {
                None => all.push((protocol, devices, vec![stats])),
                Some((_, sum, counted)) => {
                    *sum += devices;
                    if !counted.iter().any(|other| Arc::ptr_eq(other, &stats)) {
                        counted.push(stats);
                    }
                }
            }
        };
        for member in &self.core.roster().members {
            if let Some(plan) = &member.one.asked.plan {
                add(plan, member.wanted());
            }
        }
        self.past.plans().iter().for_each(|plan| add(plan, 0));
        all
    }
}
