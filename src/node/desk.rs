//! The node as remote clients see it: its fleet, behind [`Desk`].
//!
//! Spawns come one after another, so that an id is given once. Bounds: those of the fleet;
//! [`RANGES_MAX`] populations for the numbered ids of one profile.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::AddSlabError;
use actorsim_actors::{Level, Time};
use actorsim_fleet::fault::FaultSpec;
use actorsim_fleet::names::{Listed, is_id};
use actorsim_fleet::profile::check_generators;
use actorsim_fleet::watch::{Block, News, Watcher};
use actorsim_fleet::{Fleet, FleetError, Injection, Population, Profile, Selector};
use actorsim_supervision::{ConfigError, Policies};
use parking_lot::Mutex;

use super::build;
use super::layers::{FleetLayer, Layers};
use super::policies::PolicyBook;
use crate::attach::control::ControlPlane;
use crate::remote::desk::{
    Batch, Count, Desk, DeskError, Devices, Done, Kind, Row, Runtime, Spawned, Unspawned, Who,
};
use crate::remote::stream::{BatchSizes, labels};
use crate::view::ProcessView;

/// Populations that the numbered ids of one profile may become; more gaps make a list of ids.
const RANGES_MAX: usize = 8;

/// Events of the node looked through at once.
const MISHAPS_MAX: usize = 256;

/// A rate is over at least this time.
const RATE_TIME: Duration = Duration::from_millis(500);

/// A node's desk.
pub(super) struct NodeDesk {
    pub(super) names: Vec<String>,
    pub(super) layers: Arc<Layers>,
    pub(super) policies: Arc<PolicyBook>,
    pub(super) plane: Arc<dyn ControlPlane>,
    pub(super) spawning: tokio::sync::Mutex<()>,
    pub(super) rate: Mutex<Rate>,
}

/// Messages sent at a moment, and the rate before it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Rate {
    at: Time,
    sent: u64,
    per_s: f64,
}

impl NodeDesk {
    fn layer(&self) -> Result<&FleetLayer, DeskError> {
        if self.layers.stopped.get().is_some() {
            return Err(DeskError::Unavailable("this node is stopping".to_owned()));
        }
        let layer = self.layers.fleet.as_ref();
        layer.ok_or_else(|| {
            let no = "this node has no devices: ask one that does";
            DeskError::Unavailable(no.to_owned())
        })
    }

    fn fleet(&self) -> Result<&Fleet, DeskError> {
        self.layer().map(|layer| &layer.fleet)
    }

    async fn start(&self, batches: Vec<Batch>) -> Result<Spawned, DeskError> {
        let layer = self.layer()?;
        let _one = self.spawning.lock().await;
        let policies = self.policies.in_force();
        let mut spawned = Spawned::default();
        for batch in batches {
            let profile = Arc::new(batch.profile);
            match batch.devices {
                Devices::Count(count) => {
                    let population = |name| Population::new(name, Arc::clone(&profile), count, 0);
                    match start(layer, population, &policies, Naming::Next) {
                        Ok(started) => spawned.started += started,
                        Err(why) => {
                            let id = profile.device_type.clone();
                            spawned.failed.push((id, why));
                        }
                    }
                }
                Devices::Named(ids) => {
                    for (population, ids) in named(&layer.fleet, &profile, ids, &mut spawned) {
                        match start(layer, population, &policies, Naming::Exact) {
                            Ok(started) => spawned.started += started,
                            Err(why) => {
                                let failed = ids.into_iter().map(|id| (id, why.clone()));
                                spawned.failed.extend(failed);
                            }
                        }
                    }
                }
            }
        }
        if spawned.started > 0 {
            let text = format!("{} devices", spawned.started);
            let events = self.layers.system.events();
            events.publish(Level::Info, "spawned", None, text);
        }
        Ok(spawned)
    }

    fn selector(who: &Who) -> Result<Selector, DeskError> {
        Ok(match who {
            Who::All => Selector::all(),
            Who::Ids(ids) => Selector::ids(ids.clone()),
            Who::Labels(text) => {
                labels(text).map_err(DeskError::Wrong)?;
                let wrong = |wrong: Vec<String>| DeskError::Wrong(wrong.join("; "));
                Selector::parse(text).map_err(wrong)?
            }
        })
    }
}

/// Where ids come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// The fleet numbers on.
    Next,
    /// The client says.
    Exact,
}

fn start(
    layer: &FleetLayer,
    population: impl FnOnce(String) -> Population,
    policies: &Policies,
    naming: Naming,
) -> Result<u64, Unspawned> {
    let fleet = &layer.fleet;
    let wrong = |why: String| Unspawned::Wrong(why);
    let mut population = population(String::new());
    population.name = fleet.free_name(&population.profile.device_type);
    let population = build::remote(layer, population).map_err(wrong)?;
    let started = match naming {
        Naming::Next => fleet.spawn(population, policies),
        Naming::Exact => fleet.spawn_as_named(population, policies),
    };
    started
        .map(|started| started.count.into())
        .map_err(|error| {
            let why = error.to_string();
            match error {
                FleetError::SameType(_) => Unspawned::Exists(why),
                FleetError::TooLarge | FleetError::Shard(AddSlabError::Busy) => {
                    Unspawned::Full(why)
                }
                FleetError::NotStarted | FleetError::Shard(AddSlabError::Stopped) => {
                    Unspawned::Stopping(why)
                }
                _ => wrong(why),
            }
        })
}

type Asked = (Box<dyn FnOnce(String) -> Population>, Vec<String>);

/// Ids as populations: ranges of numbers where they are such, else a list. Ids that are taken fail.
fn named(
    fleet: &Fleet,
    profile: &Arc<Profile>,
    ids: Vec<String>,
    spawned: &mut Spawned,
) -> Vec<Asked> {
    let (taken, free): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| fleet.has(id));
    let exists = |id: String| (id.clone(), Unspawned::Exists(id));
    spawned.failed.extend(taken.into_iter().map(exists));
    let (mut free, bad): (Vec<_>, Vec<_>) = free.into_iter().partition(|id| is_id(id));
    let no_id = |id: String| (id.clone(), Unspawned::Id(id));
    spawned.failed.extend(bad.into_iter().map(no_id));
    let mut asked: Vec<Asked> = Vec::new();
    if let Some(ranges) = ranges(profile, &free) {
        for range in ranges {
            let profile = Arc::clone(profile);
            let rest = free.split_off(range.len());
            let own = std::mem::replace(&mut free, rest);
            let population = move |name| Population {
                first: range.start,
                ..Population::new(name, profile, range.end - range.start, 0)
            };
            asked.push((Box::new(population), own));
        }
    } else if let Some(listed) = Listed::new(&free) {
        let profile = Arc::clone(profile);
        let population = move |name| Population {
            ids: Some(Arc::clone(&listed)),
            ..Population::new(name, profile, listed.count(), 0)
        };
        asked.push((Box::new(population), free));
    }
    asked
}

/// The ids as ranges of numbers, if they are the profile's numbered ones, in order, with few gaps.
fn ranges(profile: &Profile, ids: &[String]) -> Option<Vec<Range<u32>>> {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for id in ids {
        let digits = id
            .strip_prefix(profile.device_type.as_str())?
            .strip_prefix('-')?;
        let number: u32 = digits.parse().ok()?;
        if profile.device_id(number) != *id {
            return None;
        }
        let end = number.checked_add(1)?;
        match ranges.last_mut() {
            Some(range) if range.end == number => range.end = end,
            _ => ranges.push(number..end),
        }
        if ranges.len() > RANGES_MAX {
            return None;
        }
    }
    Some(ranges)
}

impl Desk for NodeDesk {
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn audit(&self, line: &str) {
        self.plane.audit(line, rustix::process::geteuid().as_raw());
    }

    fn spawn(&self, batches: Vec<Batch>) -> Done<'_, Spawned> {
        Box::pin(self.start(batches))
    }

    fn stop(&self, who: Who, in_order: bool) -> Done<'_, (u64, Vec<String>)> {
        Box::pin(async move {
            let fleet = self.fleet()?;
            let selector = Self::selector(&who)?;
            let missing = match who {
                Who::Ids(ids) => ids.into_iter().filter(|id| !fleet.has(id)).collect(),
                Who::All | Who::Labels(_) => Vec::new(),
            };
            // An error is that nobody is meant: then nobody is stopped.
            let stopped = fleet.stop_where(&selector, in_order).await;
            Ok((stopped.map_or(0, |stopped| stopped.stopped), missing))
        })
    }

    fn counts(&self) -> Result<Vec<Count>, DeskError> {
        let mut counts = Vec::new();
        for population in self.fleet()?.populations() {
            let slabs = population.slabs;
            for (state, devices) in [
                ("starting", slabs.starting),
                ("running", slabs.running),
                ("restarting", slabs.restarting),
                ("quarantined", slabs.quarantined),
                // Those that have left for good are devices no more.
                ("stopped", population.paused),
            ] {
                counts.push(Count {
                    device_type: population.device_type.to_string(),
                    state,
                    devices,
                });
            }
        }
        Ok(counts)
    }

    fn path(&self, id: &str) -> Option<String> {
        self.fleet().ok()?.path_of_id(id)
    }

    fn list(&self, who: Who) -> Done<'_, Vec<Row>> {
        Box::pin(async move {
            let fleet = self.fleet()?;
            let found = fleet.list(&Self::selector(&who)?).await;
            let mut kinds: Vec<(usize, Arc<Kind>)> = Vec::new();
            let mut row = |found: actorsim_fleet::fleet::DeviceRow| {
                let subject = Arc::as_ptr(&found.subject).addr();
                if kinds.last().is_none_or(|(last, _)| *last != subject) {
                    let profile = &found.subject.profile;
                    let kind = Kind {
                        device_type: profile.device_type.clone(),
                        labels: profile.labels.clone(),
                    };
                    kinds.push((subject, Arc::new(kind)));
                }
                let kind = kinds.last().map(|(_, kind)| Arc::clone(kind));
                Some(Row {
                    id: found.id,
                    kind: kind?,
                    state: found.state,
                })
            };
            Ok(found.into_iter().filter_map(&mut row).collect())
        })
    }

    fn inject(&self, who: Who, fault: FaultSpec) -> Done<'_, u64> {
        Box::pin(async move {
            let (fleet, selector) = (self.fleet()?, Self::selector(&who)?);
            let reached = fleet.inject_where(&selector, Injection::Fault(fault)).await;
            let sent = reached.map_or(0, |reached| reached.sent);
            let text = format!("{}: sent to {sent} devices", fault.fault.kind());
            let events = self.layers.system.events();
            events.publish(Level::Info, "fault_injected", None, text);
            Ok(sent)
        })
    }

    fn update(&self, who: Who, fields: String) -> Done<'_, u64> {
        Box::pin(async move {
            let (fleet, selector) = (self.fleet()?, Self::selector(&who)?);
            if fleet.meant(&selector) == 0 {
                // Nobody follows, and what is wrong is wrong all the same.
                let checked = check_generators("fields", &fields);
                let wrong = |wrong: Vec<ConfigError>| {
                    let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
                    DeskError::Wrong(wrong.join("; "))
                };
                return checked.map(|()| 0).map_err(wrong);
            }
            let updated = fleet.update(&selector, &fields).await;
            let updated = updated.map_err(DeskError::Wrong)?;
            let text = format!("{} devices ({})", updated.selected, who.shown());
            let events = self.layers.system.events();
            events.publish(Level::Info, "updated", None, text);
            Ok(updated.selected)
        })
    }

    fn runtime(&self) -> Result<Runtime, DeskError> {
        let fleet = self.fleet()?;
        let published = fleet.published();
        let published: u64 = published.iter().map(|one| one.counts.sent).sum();
        let tally = fleet.tally();
        let sent = published + tally.readings + tally.events;
        let now = self.layers.system.clock().monotonic();
        let mut rate = self.rate.lock();
        let time = now.since(rate.at);
        if time >= RATE_TIME {
            let more = sent.saturating_sub(rate.sent) as f64;
            *rate = Rate {
                at: now,
                sent,
                per_s: more / time.as_secs_f64(),
            };
        }
        Ok(Runtime {
            devices: fleet.counts().running,
            actors: self.layers.system.census().live().values().sum(),
            sent,
            sent_s: rate.per_s,
            memory: ProcessView::read().rss_bytes.unwrap_or(0),
            uptime: self.layers.up.get().map_or(Duration::ZERO, |up| now - *up),
        })
    }

    fn watch(&self) -> Result<Watcher<Arc<Block>>, DeskError> {
        self.fleet().map(Fleet::samples)
    }

    fn batches(&self) -> Arc<BatchSizes> {
        Arc::clone(&self.layers.batches)
    }

    fn news(&self) -> Result<Watcher<News>, DeskError> {
        self.fleet().map(Fleet::news)
    }

    fn mishaps(&self, since: u64) -> (u64, Vec<News>) {
        let events = self.layers.system.events();
        let last = events.last(1).first().map_or(0, |event| event.id);
        let Ok(fleet) = self.fleet() else {
            return (last, Vec::new());
        };
        if since == 0 || since == last {
            return (last, Vec::new());
        }
        let new = events.since(since, MISHAPS_MAX);
        let last = new.last().map_or(last, |event| event.id);
        (
            last,
            new.iter().flat_map(|event| fleet.news_of(event)).collect(),
        )
    }
}
