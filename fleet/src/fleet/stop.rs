//! Devices leave: some of a population, or all of it with what it holds.
//!
//! Bound: [`STOPS_MAX`] devices a request, so that a shard goes on with others meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use actorsim_actors::events::Level;
use actorsim_actors::shard::STOPS_MAX;

use super::core::Member;
use super::{Fleet, Selector, runs};
use crate::watch::Happened;

/// How far a stop came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stopped {
    /// Devices that were meant.
    pub selected: u64,
    /// Of these, those that are stopped now.
    pub stopped: u64,
}

impl Fleet {
    /// Stops the devices that are meant; they stay down and are not asked for any more. In order,
    /// they say goodbye; else their connections break off, as if the power had gone.
    ///
    /// # Errors
    /// Why no device is meant.
    pub async fn stop_where(&self, selector: &Selector, in_order: bool) -> Result<Stopped, String> {
        let selected = self.select(selector)?;
        let mut done = Stopped {
            selected: selected.len() as u64,
            ..Stopped::default()
        };
        let roster = self.core.roster();
        let mut by_member: BTreeMap<u32, (&Arc<Member>, Vec<u32>)> = BTreeMap::new();
        for device in selected {
            if let Some((member, ordinal)) = roster.of(device) {
                let own = by_member.entry(member.first);
                own.or_insert((member, Vec::new())).1.push(ordinal);
            }
        }
        for (member, ordinals) in by_member.into_values() {
            let whole = ordinals.len() as u64 >= member.wanted();
            done.stopped += match whole && in_order {
                true => ordinals.len() as u64,
                false => self.stop_some(member, &ordinals, in_order).await,
            };
            if whole {
                if in_order {
                    self.tell(Happened::Stopped, member, "stopped", runs(&ordinals));
                }
                self.close(member).await;
            }
        }
        let how = if in_order { "in order" } else { "at once" };
        let text = format!("{} of {} devices, {how}", done.stopped, done.selected);
        self.system
            .events()
            .publish(Level::Info, "stopped", None, text);
        Ok(done)
    }

    async fn stop_some(&self, member: &Member, ordinals: &[u32], in_order: bool) -> u64 {
        let mut by_shard: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for ordinal in ordinals {
            let shard = crate::population::shard_of(*ordinal, self.shards);
            by_shard.entry(shard).or_default().push(*ordinal);
        }
        let mut stopped = 0;
        for own in by_shard.into_values() {
            for part in own.chunks(STOPS_MAX) {
                let Some(slab) = member.slab(part[0], self.shards) else {
                    continue;
                };
                // Closed meanwhile: stopped by somebody else, who counts it.
                if let Ok(n) = slab.stop_many(part.to_vec(), in_order).await {
                    stopped += n;
                    member.stopped.lock().extend(part);
                    self.tell(Happened::Stopped, member, "stopped", runs(part));
                }
            }
        }
        stopped
    }

    /// Ends a population with all that it holds.
    async fn close(&self, member: &Arc<Member>) {
        member.leave();
        for slab in member.slabs().rev() {
            // Closed already: its shard was stopped, or somebody else did it.
            let _ = slab.close().await;
        }
        if self.core.leave(member) {
            self.past.take(member);
        }
    }

    /// Stops all devices in order, the last slab first; what they wrote is handed to the links.
    /// Stopping twice is harmless.
    pub async fn stop(&self) {
        let roster = self.core.roster();
        roster.members.iter().for_each(|member| member.leave());
        for slab in roster.slabs().rev() {
            // Closed already: the shard was stopped before.
            let _ = slab.close().await;
        }
    }
}
