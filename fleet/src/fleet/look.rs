//! Devices looked at from outside: listed with their states, watched, told of.
//!
//! Bound: [`LOOK_MANY`] devices a request, so that a shard goes on with others meanwhile.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use actorsim_actors::ActorPath;
use actorsim_actors::events::Event;
use actorsim_actors::shard::SlabHandle;

use super::core::Member;
use super::{Fleet, Selector};
use crate::population::shard_of;
use crate::watch::{Block, Happened, News, Subject, Watcher};

/// Devices asked for by one request to their shard.
const LOOK_MANY: usize = 1_024;

/// A device, as it is listed.
#[derive(Clone, Debug)]
pub struct DeviceRow {
    /// Its id.
    pub id: String,
    /// Its population.
    pub subject: Arc<Subject>,
    /// As in the census: `running`, `quarantined`.
    pub state: &'static str,
}

/// Ascending numbers as ranges.
pub(super) fn runs(ordinals: &[u32]) -> Arc<[Range<u32>]> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for ordinal in ordinals {
        match runs.last_mut() {
            Some(run) if run.end == *ordinal => run.end += 1,
            _ => runs.push(*ordinal..*ordinal + 1),
        }
    }
    runs.into()
}

impl Fleet {
    /// What devices measure from now on.
    #[must_use]
    pub fn samples(&self) -> Watcher<Arc<Block>> {
        self.watch.samples()
    }

    /// What happens to devices from now on.
    #[must_use]
    pub fn news(&self) -> Watcher<News> {
        self.watch.news()
    }

    /// Whether a device of that id runs here, or should.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.core.roster().named("", id).is_some()
    }

    /// Devices that are down for good though nobody stopped them, by population: their slab went
    /// down too often and was closed.
    #[must_use]
    pub fn lost(&self) -> Vec<(ActorPath, u64)> {
        let lost = |member: &Arc<Member>| {
            let closed = member.slabs().filter(|slab| slab.is_closed());
            let devices = closed.map(|slab| slab.counts().cells).sum();
            (devices > 0).then(|| (member.one.path.clone(), devices))
        };
        let roster = self.core.roster();
        let staying = roster.members.iter().filter(|member| !member.is_leaving());
        staying.filter_map(lost).collect()
    }

    /// How many devices are meant.
    #[must_use]
    pub fn meant(&self, selector: &Selector) -> usize {
        self.select(selector).map_or(0, |devices| devices.len())
    }

    /// The path of the device of that id.
    #[must_use]
    pub fn path_of_id(&self, id: &str) -> Option<String> {
        let roster = self.core.roster();
        let (member, _) = roster.named("", id)?;
        Some(member.one.path.join(id).to_string())
    }

    /// Tells who watches what happened to some devices of a population.
    pub(super) fn tell(
        &self,
        happened: Happened,
        member: &Member,
        text: &str,
        devices: Arc<[Range<u32>]>,
    ) {
        self.watch.tell(News {
            subject: Arc::clone(&member.subject),
            happened,
            at_us: self.system.clock().unix_us(),
            text: text.into(),
            devices,
        });
    }

    /// The same for devices by their numbers, ascending.
    pub(super) fn tell_some(&self, happened: Happened, devices: &[u32], text: &str) {
        for (member, ordinals) in self.by_member(devices) {
            self.tell(happened, &member, text, runs(&ordinals));
        }
    }

    /// An event of the node as news of devices, if it is some: a device's end, or a link that
    /// carries them, up or gone.
    #[must_use]
    pub fn news_of(&self, event: &Event) -> Vec<News> {
        let Some(path) = event.path.as_ref().map(ActorPath::as_str) else {
            return Vec::new();
        };
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        let roster = self.core.roster();
        let news = |member: &Arc<Member>, happened, devices| News {
            subject: Arc::clone(&member.subject),
            happened,
            at_us: event.at_us,
            text: format!("{}: {}", event.name, event.text).into(),
            devices,
        };
        let happened = match event.name {
            "crash" | "quarantined" => {
                let found = roster.named(parent, name);
                let news =
                    found.map(|(member, ordinal)| news(member, Happened::Error, runs(&[ordinal])));
                return news.into_iter().collect();
            }
            "connected" => Happened::Connected,
            "disconnected" => Happened::Disconnected,
            _ => return Vec::new(),
        };
        let line = name
            .parse::<usize>()
            .ok()
            .filter(|_| parent == "/fleet/links");
        let Some(line) = line else { return Vec::new() };
        let linked = roster
            .members
            .iter()
            .filter(|member| member.one.asked.plan.is_none());
        linked
            .map(|member| {
                let own = member.one.ordinals_on(line, self.links.len());
                news(member, happened, own.into())
            })
            .collect()
    }

    fn by_member(&self, devices: &[u32]) -> Vec<(Arc<Member>, Vec<u32>)> {
        let roster = self.core.roster();
        let mut found: Vec<(Arc<Member>, Vec<u32>)> = Vec::new();
        for device in devices {
            let Some((member, ordinal)) = roster.of(*device) else {
                continue;
            };
            match found.last_mut() {
                Some((last, own)) if Arc::ptr_eq(last, member) => own.push(ordinal),
                _ => found.push((Arc::clone(member), vec![ordinal])),
            }
        }
        found
    }

    /// Numbers of the devices of these ids, ascending.
    pub(super) fn of_ids(&self, ids: &[String]) -> Vec<u32> {
        let roster = self.core.roster();
        let number = |id: &String| {
            let (member, ordinal) = roster.named("", id)?;
            Some(member.number(ordinal))
        };
        let mut numbers: Vec<_> = ids.iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The devices that are meant, with their states; none if nobody is meant.
    pub async fn list(&self, selector: &Selector) -> Vec<DeviceRow> {
        let devices = self.select(selector).unwrap_or_default();
        let mut rows = Vec::with_capacity(devices.len());
        for (member, ordinals) in self.by_member(&devices) {
            let mut by_shard: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
            for ordinal in ordinals {
                let shard = shard_of(ordinal, self.shards);
                by_shard.entry(shard).or_default().push(ordinal);
            }
            for own in by_shard.into_values() {
                let slab = member.slab(own[0], self.shards);
                for part in own.chunks(LOOK_MANY) {
                    let states = states(slab, part).await;
                    rows.extend(part.iter().zip(states).map(|(ordinal, state)| DeviceRow {
                        id: member.one.name_of(*ordinal),
                        subject: Arc::clone(&member.subject),
                        state,
                    }));
                }
            }
        }
        rows
    }
}

/// The states of these devices; `stopped` where their slab is gone.
async fn states(
    slab: Option<&SlabHandle<crate::device::Device>>,
    ordinals: &[u32],
) -> Vec<&'static str> {
    let found = match slab {
        None => Vec::new(),
        Some(slab) => slab.infos(ordinals.to_vec()).await.unwrap_or_default(),
    };
    let mut states: Vec<_> = found.iter().map(|info| info.state.label()).collect();
    states.resize(ordinals.len(), "stopped");
    states
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn numbers_that_follow_one_another_are_one_range() {
        assert_eq!(*runs(&[1, 2, 3, 7, 9, 10]), [1..4, 7..8, 9..11]);
        assert!(runs(&[]).is_empty());
    }
}
