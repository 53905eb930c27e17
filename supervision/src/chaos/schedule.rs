//! The schedule of a plan: when a strike is due, which fault it is, whom it hits, when it heals.
//!
//! A state machine without I/O. The rate has slots of equal length; each has one strike, at a
//! moment drawn from (seed, number). The fault is drawn by weight; then the kind of actors that had
//! the fewest turns by its weight, so that each kind is hit; then one of it. A strike without a
//! possible victim is counted and passes without a turn. One that is left out passes, and its kind
//! has had its turn: so the others strike the same kinds, where the whole list missed nobody.
//! What strikes several one after the other is one strike with parts, each of which begins and ends
//! by itself. Everything that lasts is healed at its end, and when the schedule ends. Bounds:
//! [`MAX_CONCURRENT`] victims, [`TRIES`] looks for one of a kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use actorsim_actors::clock::nanos;
use actorsim_actors::{ActorPath, Time};

use super::draw;
use super::fault::Fault;
use super::plan::{FaultPlan, Plan, StopIf, Vitals};
use super::swizzle::{PARTS_MIN, Swizzle};

/// Victims that are not back yet, of any plan.
pub const MAX_CONCURRENT: u32 = 1_024;
/// Looks for a victim of one kind, from a drawn one on: scope and protection are checked by path.
pub const TRIES: u64 = 4_096;
/// A victim that is not back by then does not count any more: the run's verdict tells of it.
pub const BACK_WITHIN: Duration = Duration::from_secs(60);
/// Strikes of one step: a shell that was away for long looks again who is down, and whether the
/// plan must end, before it goes on. How many are down at a time is bounded by `max_concurrent`.
const STRIKES_PER_STEP: usize = 64;

/// The kind of whole nodes, in a census that has them.
pub const NODE: &str = "node";

/// The kind of shards, in a census that has them.
pub const SHARD: &str = "shard";

/// The kind of links, whose packets can be disturbed, in a census that has them.
pub const LINK: &str = "link";

/// Number of a strike, and of its part.
pub type StrikeKey = (u64, u32);

const LANE_TIME: u64 = 0;
const LANE_FAULT: u64 = 1;
const LANE_KIND: u64 = 2;
const LANE_VICTIM: u64 = 3;
const LANE_SWARM: u64 = 4;
/// What the swarm multiplies weights by.
const SWARM: [u64; 4] = [0, 1, 2, 4];

/// One kind of actors as a census tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind<'a> {
    /// Its name: `device`, `tier-t1`, `link`.
    pub name: &'a str,
    /// How many there are.
    pub count: u64,
}

/// Who there is, by kind. The same census gives the same victims, so its order must not depend on
/// hashes or on time.
pub trait Census {
    /// The kinds, in a fixed order.
    fn kinds(&self) -> Vec<Kind<'_>>;
    /// The actor `index` of a kind, both counted from 0.
    fn path(&self, kind: usize, index: u64) -> ActorPath;
    /// Whether an actor is down for now; one that is gone for good is not.
    fn is_down(&self, path: &ActorPath) -> bool;
    /// Whether a fault can hit a kind. What any actor can suffer hits all but the kinds [`NODE`]
    /// and [`SHARD`], and what befalls packets the kind [`LINK`], unless a shell knows better.
    fn takes(&self, kind: usize, fault: Fault) -> bool {
        match self.kinds().get(kind) {
            Some(kind) if kind.name == NODE => fault.hits_node(),
            Some(kind) if kind.name == SHARD => fault.hits_shard(),
            Some(kind) if kind.name == LINK && fault.hits_link() => true,
            _ => fault.hits_any_actor(),
        }
    }
}

/// A census that is a list.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    kinds: BTreeMap<String, Vec<ActorPath>>,
    down: BTreeSet<ActorPath>,
}

impl Roster {
    /// Adds an actor of a kind.
    pub fn add(&mut self, kind: &str, path: ActorPath) {
        if let Some(paths) = self.kinds.get_mut(kind) {
            paths.push(path);
        } else {
            self.kinds.insert(kind.to_owned(), vec![path]);
        }
    }

    /// Notes that an actor is down for now.
    pub fn down(&mut self, path: ActorPath) {
        self.down.insert(path);
    }

    fn nth(&self, kind: usize) -> Option<(&String, &Vec<ActorPath>)> {
        self.kinds.iter().nth(kind)
    }
}

impl Census for Roster {
    fn kinds(&self) -> Vec<Kind<'_>> {
        self.kinds
            .iter()
            .map(|(name, paths)| Kind {
                name,
                count: paths.len() as u64,
            })
            .collect()
    }

    fn path(&self, kind: usize, index: u64) -> ActorPath {
        let found = self
            .nth(kind)
            .and_then(|(_, paths)| paths.get(index as usize));
        found.cloned().unwrap_or_else(ActorPath::root)
    }

    fn is_down(&self, path: &ActorPath) -> bool {
        self.down.contains(path)
    }
}

/// One fault that befalls one actor.
#[derive(Debug, Clone, PartialEq)]
pub struct Strike {
    /// Number of the strike in its schedule, from 0: its draws depend on nothing else.
    pub number: u64,
    /// Which of those that it strikes one after the other, from 0; 0 where there is but one.
    pub part: u32,
    /// When it was made, or this part of it.
    pub at: Time,
    /// What, with its numbers.
    pub plan: FaultPlan,
    /// Kind of the victim.
    pub kind: String,
    /// Index of the victim in its kind.
    pub index: u64,
    /// The victim.
    pub path: ActorPath,
    /// When it is healed, if it lasts.
    pub until: Option<Time>,
}

impl Strike {
    /// What tells it, and its part, from all others of its schedule.
    #[must_use]
    pub const fn key(&self) -> StrikeKey {
        (self.number, self.part)
    }

    /// Its number as it is told, with that of its part where it has parts: `#7`, `#9.1`.
    #[must_use]
    pub fn label(&self) -> String {
        match self.plan.fault.hits_several() {
            true => format!("#{}.{}", self.number, self.part),
            false => format!("#{}", self.number),
        }
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (label, at) = (self.label(), self.at.0 as f64 * 1e-9);
        write!(f, "{label} {at:.3}s {} {}", self.plan.fault, self.path)?;
        match self.until {
            Some(until) => write!(f, " for {:?}", until - self.at),
            None => Ok(()),
        }
    }
}

/// What a shell must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Do it to the victim.
    Begin(Strike),
    /// It is over: heal.
    End(Strike),
}

/// Why a schedule has ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Over {
    /// Its time is over.
    Time,
    /// Its stop condition holds.
    Condition(StopIf),
    /// Nobody renewed the lease.
    Lease,
    /// Somebody stopped it.
    Asked,
}

impl Over {
    /// Whether it ended as somebody wanted, not before.
    #[must_use]
    pub const fn is_in_order(&self) -> bool {
        matches!(self, Self::Time | Self::Asked)
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => f.write_str("its time is over"),
            Self::Condition(condition) => write!(f, "{condition}"),
            Self::Lease => f.write_str("nobody renewed its lease"),
            Self::Asked => f.write_str("it was stopped"),
        }
    }
}

/// What a step found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// To be done, in this order.
    pub actions: Vec<Action>,
    /// The schedule has ended just now; there will be no more actions.
    pub over: Option<Over>,
}

/// What a schedule has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Strikes by kind of actors, then by fault: each kind that was in reach of the plan, also one
    /// that was not hit.
    pub strikes: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Strikes that found no victim, by fault.
    pub missed: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Strikes on one kind.
    #[must_use]
    pub fn on(&self, kind: &str) -> u64 {
        self.strikes
            .get(kind)
            .map_or(0, |faults| faults.values().sum())
    }

    /// Strikes of one fault on one kind.
    #[must_use]
    pub fn by(&self, kind: &str, fault: Fault) -> u64 {
        let faults = self.strikes.get(kind);
        faults
            .and_then(|faults| faults.get(fault.name()))
            .copied()
            .unwrap_or(0)
    }

    /// All strikes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.strikes.values().flat_map(BTreeMap::values).sum()
    }

    /// All strikes that found no victim.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.values().sum()
    }

    /// Faults that were due and never found a victim: who or how many may be hit leaves them none.
    #[must_use]
    pub fn found_nobody(&self) -> Vec<&'static str> {
        let found = |fault| self.strikes.values().any(|made| made.contains_key(fault));
        let missed = self.missed.keys().copied();
        missed.filter(|fault| !found(*fault)).collect()
    }
}

/// A plan under way.
#[derive(Debug, Clone)]
pub struct Schedule {
    plan: Plan,
    seed: u64,
    began: Time,
    leased: Option<Time>,
    number: u64,
    /// Only these are carried out, if given.
    only: Option<BTreeSet<u64>>,
    /// Made, and not back or not healed yet.
    open: Vec<Strike>,
    /// Parts of strikes that were made which have not begun yet, the first one first.
    coming: Vec<Strike>,
    counts: Counts,
    /// How often a fault had its turn at a kind: it struck it, or would have, was it not left out.
    turns: BTreeMap<(String, &'static str), u64>,
    /// Kinds that were seen, in reach or not.
    seen: BTreeSet<String>,
    over: Option<Over>,
}

impl Schedule {
    /// Begins a plan. The seed is the plan's, or the one that was drawn for it.
    #[must_use]
    pub fn new(plan: &Plan, seed: u64, began: Time) -> Self {
        let mut plan = plan.clone();
        if plan.swarm {
            swarm(&mut plan.faults, seed);
        }
        Self {
            plan,
            seed,
            began,
            leased: None,
            number: 0,
            only: None,
            open: Vec::new(),
            coming: Vec::new(),
            counts: Counts::default(),
            turns: BTreeMap::new(),
            seen: BTreeSet::new(),
            over: None,
        }
    }

    /// Protects paths and patterns besides those of the plan: the runner, its session.
    #[must_use]
    pub fn protect(mut self, patterns: impl IntoIterator<Item = String>) -> Self {
        self.plan.protect.extend(patterns);
        self
    }

    /// Carries only these strikes out; the others pass. For the shortest list that still fails.
    #[must_use]
    pub fn only(mut self, numbers: BTreeSet<u64>) -> Self {
        self.only = Some(numbers);
        self
    }

    /// Renews the lease; until it is called once there is none.
    pub fn renew(&mut self, now: Time) {
        self.leased = Some(now);
    }

    /// When [`Schedule::step`] has something to do; `None` when it has ended.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        if self.over.is_some() {
            return None;
        }
        let ends = self.open.iter().filter_map(|strike| strike.until);
        let coming = self.coming.first().map(|part| part.at);
        let limits = [self.ends_at(), self.lease_ends(), coming];
        let soonest = ends.chain(limits.into_iter().flatten()).min();
        let due = self.due(self.number);
        Some(soonest.map_or(due, |soonest| soonest.min(due)))
    }

    /// Does what is due.
    pub fn step(&mut self, now: Time, census: &impl Census, vitals: &Vitals) -> Step {
        let mut step = Step::default();
        if self.over.is_some() {
            return step;
        }
        self.heal(now, census, &mut step.actions);
        // First of all: a plan that must end strikes nobody any more.
        if let Some(over) = self.ends_now(now, vitals) {
            step.actions.extend(self.end(over.clone()));
            step.over = Some(over);
            return step;
        }
        let due = self.coming.partition_point(|part| part.at <= now);
        for part in self.coming.drain(..due) {
            self.open.push(part.clone());
            step.actions.push(Action::Begin(part));
        }
        self.look_around(census);
        for _ in 0..STRIKES_PER_STEP {
            if self.due(self.number) > now {
                break;
            }
            self.strike(now, census, &mut step.actions);
        }
        step
    }

    fn ends_now(&self, now: Time, vitals: &Vitals) -> Option<Over> {
        let condition = self.plan.stop_if.filter(|stop_if| stop_if.holds(vitals));
        if let Some(condition) = condition {
            Some(Over::Condition(condition))
        } else if self.lease_ends().is_some_and(|t| t <= now) {
            Some(Over::Lease)
        } else {
            self.ends_at().filter(|t| *t <= now).map(|_| Over::Time)
        }
    }

    /// Ends it before its time; returns what must be healed.
    pub fn stop(&mut self) -> Vec<Action> {
        if self.over.is_some() {
            return Vec::new();
        }
        self.end(Over::Asked)
    }

    /// Why it has ended.
    #[must_use]
    pub fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }

    /// Whether a strike was due at all, found its victim or not; or none was in all its time.
    #[must_use]
    pub fn has_tried(&self) -> bool {
        self.number > 0 || self.over == Some(Over::Time)
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The plan, its weights as the swarm left them.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    fn ends_at(&self) -> Option<Time> {
        self.plan.run_for.map(|time| self.began + time)
    }

    fn lease_ends(&self) -> Option<Time> {
        self.leased.map(|at| at + self.plan.lease)
    }

    /// When strike `number` is due: in its slot, at a drawn moment.
    fn due(&self, number: u64) -> Time {
        let slot = (nanos(self.plan.rate.per) / u64::from(self.plan.rate.strikes)).max(1);
        let within = draw::below(self.seed, number, LANE_TIME, slot);
        Time(
            self.began
                .0
                .saturating_add(number.saturating_mul(slot))
                .saturating_add(within),
        )
    }

    fn end(&mut self, over: Over) -> Vec<Action> {
        self.over = Some(over);
        self.coming.clear();
        let open = std::mem::take(&mut self.open);
        let lasting = open.into_iter().filter(|strike| strike.until.is_some());
        lasting.map(Action::End).collect()
    }

    /// Ends what has lasted long enough; forgets victims that are back.
    fn heal(&mut self, now: Time, census: &impl Census, actions: &mut Vec<Action>) {
        let mut open = Vec::with_capacity(self.open.len());
        for strike in std::mem::take(&mut self.open) {
            match strike.until {
                Some(until) if until <= now => actions.push(Action::End(strike)),
                Some(_) => open.push(strike),
                None if strike.at < now
                    && (!census.is_down(&strike.path) || strike.at + BACK_WITHIN <= now) => {}
                None => open.push(strike),
            }
        }
        self.open = open;
    }

    /// Notes kinds that were not there before, if the plan can hit one of them.
    fn look_around(&mut self, census: &impl Census) {
        for (at, kind) in census.kinds().into_iter().enumerate() {
            if kind.count == 0 || self.seen.contains(kind.name) {
                continue;
            }
            self.seen.insert(kind.name.to_owned());
            let plan = &self.plan;
            let takes = |fault: &FaultPlan| fault.weight > 0 && census.takes(at, fault.fault);
            let faults: Vec<_> = plan.faults.iter().filter(|fault| takes(fault)).collect();
            let admits = |path| faults.iter().any(|fault| plan.admits(&path, fault.fault));
            let one = (0..kind.count.min(TRIES)).any(|index| admits(census.path(at, index)));
            if one && plan.kind_weight(kind.name) > 0 {
                self.counts.strikes.entry(kind.name.to_owned()).or_default();
            }
        }
    }

    fn strike(&mut self, now: Time, census: &impl Census, actions: &mut Vec<Action>) {
        let number = self.number;
        self.number += 1;
        let Some(plan) = self.fault(number) else {
            return;
        };
        let kinds = census.kinds();
        let turns = self.turns(number, plan.fault, &kinds, census);
        let only = self.only.as_ref();
        if only.is_some_and(|only| !only.contains(&number)) {
            // It would have hit the first: the others go on as if it had.
            if let Some(first) = turns.first() {
                self.had_turn(kinds[*first].name, plan.fault);
            }
            return;
        }
        let found = turns.into_iter().find_map(|at| {
            let victims = self.victims(number, plan.fault, (at, kinds[at]), census);
            (!victims.is_empty()).then(|| (kinds[at].name, victims))
        });
        let Some((kind, victims)) = found else {
            *self.counts.missed.entry(plan.fault.name()).or_insert(0) += 1;
            return;
        };
        self.had_turn(kind, plan.fault);
        let faults = self.counts.strikes.entry(kind.to_owned()).or_default();
        *faults.entry(plan.fault.name()).or_insert(0) += 1;
        let mut parts = self.parts(number, plan, now, kind, victims).into_iter();
        if let Some(first) = parts.next() {
            self.open.push(first.clone());
            actions.push(Action::Begin(first));
        }
        self.coming.extend(parts);
        self.coming.sort_by_key(|part| (part.at, part.key()));
    }

    /// The strike on each of its victims, the first of which is struck now.
    fn parts(
        &self,
        number: u64,
        plan: FaultPlan,
        now: Time,
        kind: &str,
        victims: Vec<(u64, ActorPath)>,
    ) -> Vec<Strike> {
        let times = match plan.fault.hits_several() {
            true => self.swizzle(number).times(victims.len(), plan.lasts),
            false => vec![(Duration::ZERO, plan.lasts)],
        };
        let part = |(part, ((index, path), (from, until)))| Strike {
            number,
            part,
            at: now + from,
            plan,
            kind: kind.to_owned(),
            index,
            path,
            until: plan.fault.lasts().then(|| now + until),
        };
        (0..)
            .zip(victims.into_iter().zip(times))
            .map(part)
            .collect()
    }

    const fn swizzle(&self, number: u64) -> Swizzle {
        let seed = self.seed;
        Swizzle { seed, number }
    }

    /// Victims that are not back yet, and those that will be struck as parts of what has begun.
    fn victims_now(&self) -> impl Iterator<Item = &Strike> {
        self.open.iter().chain(&self.coming)
    }

    fn had_turn(&mut self, kind: &str, fault: Fault) {
        let turn = (kind.to_owned(), fault.name());
        *self.turns.entry(turn).or_insert(0) += 1;
    }

    /// The kinds that a fault can hit, whose turn it is first.
    fn turns(
        &self,
        number: u64,
        fault: Fault,
        kinds: &[Kind<'_>],
        census: &impl Census,
    ) -> Vec<usize> {
        let reached = |name: &str| self.counts.strikes.contains_key(name);
        let any_reached = kinds.iter().any(|kind| reached(kind.name));
        let mut turns: Vec<(u128, u64, usize)> = kinds
            .iter()
            .enumerate()
            .filter(|(at, kind)| kind.count > 0 && census.takes(*at, fault))
            .filter(|(_, kind)| reached(kind.name) || !any_reached)
            .filter_map(|(at, kind)| {
                let weight = u128::from(self.plan.kind_weight(kind.name));
                let turn = (kind.name.to_owned(), fault.name());
                let had = u128::from(self.turns.get(&turn).copied().unwrap_or(0)) << 32;
                let tie = draw::bits(self.seed, number, LANE_KIND + ((at as u64 + 1) << 8));
                // a weight of 0 is never hit
                Some((had.checked_div(weight)?, tie, at))
            })
            .collect();
        turns.sort_unstable();
        turns.into_iter().map(|(_, _, at)| at).collect()
    }

    fn fault(&self, number: u64) -> Option<FaultPlan> {
        let total = self.plan.faults.iter().map(|fault| fault.weight).sum();
        let mut at = draw::below(self.seed, number, LANE_FAULT, total);
        let drawn = self.plan.faults.iter().find(|fault| {
            let hit = at < fault.weight;
            at = at.saturating_sub(fault.weight);
            hit
        });
        drawn.copied()
    }

    /// The first possible one from a drawn one on, or several of them where the fault strikes
    /// several; none if so many of the kind, or of all, must not be down.
    fn victims(
        &self,
        number: u64,
        fault: Fault,
        (at, kind): (usize, Kind<'_>),
        census: &impl Census,
    ) -> Vec<(u64, ActorPath)> {
        let down = self.victims_now().filter(|strike| strike.kind == kind.name);
        let most = (kind.count as f64 * self.plan.blast_radius) as usize;
        let of_kind = most.max(1).saturating_sub(down.count());
        let of_all = self.plan.max_concurrent as usize;
        let most = of_kind.min(of_all.saturating_sub(self.victims_now().count()));
        let fewest = if fault.hits_several() { PARTS_MIN } else { 1 };
        if most < fewest {
            return Vec::new();
        }
        let from = draw::below(self.seed, number, LANE_VICTIM, kind.count);
        let possible = (0..kind.count.min(TRIES)).filter_map(|step| {
            let index = (from + step) % kind.count;
            let path = census.path(at, index);
            let hit = self.victims_now().any(|strike| strike.path == path);
            let possible = !hit && self.plan.admits(&path, fault) && !census.is_down(&path);
            possible.then_some((index, path))
        });
        match fault.hits_several() {
            true => self.swizzle(number).choose(possible.collect(), most),
            false => possible.take(1).collect(),
        }
    }
}

/// Changes the weights by the seed; one fault at least stays.
fn swarm(faults: &mut [FaultPlan], seed: u64) {
    let before: Vec<u64> = faults.iter().map(|fault| fault.weight).collect();
    for (at, fault) in faults.iter_mut().enumerate() {
        let factor = draw::below(seed, at as u64, LANE_SWARM, SWARM.len() as u64);
        fault.weight *= SWARM[factor as usize];
    }
    if faults.iter().all(|fault| fault.weight == 0) {
        for (fault, weight) in faults.iter_mut().zip(before) {
            fault.weight = weight;
        }
    }
}
