//! A chaos plan carried out on a simulated node.
//!
//! It keeps the census for the schedule, carries strikes out, and remembers those that found their
//! victim. It decides nothing: that is `actorsim_supervision::chaos`. Bounds: [`STRIKES_KEPT`]
//! strikes are remembered, and devices that were struck until all are up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use actorsim_actors::census::PAGE_MAX;
use actorsim_actors::{ActorPath, ActorRow, CensusFilter, System, Time};
use actorsim_fleet::{Fleet, Injection};
use actorsim_supervision::Supervision;
use actorsim_supervision::chaos::{
    Action, Census, Fault, Hands, Kind, LINK, NODE, Plan, SHARD, Schedule, Strike, Toll, Vitals,
    draw,
};
use actorsim_transport::SimNet;
use actorsim_world::{SystemId, Twin};

use super::SimConfig;
use super::failure::{Known, TRACE_LINES, TraceLine};
use crate::node::chaos::{device_takes, injection};
use crate::node::shards::shard_path;
use crate::report;

/// Strikes remembered for the list of a failed run.
pub const STRIKES_KEPT: usize = 4_096;
/// Tells the seed of a plan from that of the devices.
const PLAN_LANE: u64 = 0x63_6861_6f73;

/// What there is to be hit.
#[derive(Debug)]
pub struct Targets<'a> {
    fleet: &'a Fleet,
    system: &'a System,
    /// What a whole node has beside its devices.
    whole: Option<(&'a Twin, &'a SimNet)>,
}

impl<'a> Targets<'a> {
    /// Devices alone.
    #[must_use]
    pub fn devices(fleet: &'a Fleet, system: &'a System) -> Self {
        Self {
            fleet,
            system,
            whole: None,
        }
    }

    /// A whole node.
    #[must_use]
    pub fn node(fleet: &'a Fleet, system: &'a System, twin: &'a Twin, net: &'a SimNet) -> Self {
        Self {
            fleet,
            system,
            whole: Some((twin, net)),
        }
    }

    fn census(&self, struck: &'a BTreeSet<ActorPath>) -> Roll<'a> {
        let mut kinds: Vec<(String, Vec<ActorRow>)> = Vec::new();
        let census = self.system.census();
        let all = census.task_rows(&CensusFilter::default(), None, PAGE_MAX);
        for row in all.rows {
            let name = kind_of(&row.path);
            match kinds.iter_mut().find(|(kind, _)| kind == name) {
                Some((_, rows)) => rows.push(row),
                None => kinds.push((name.to_owned(), vec![row])),
            }
        }
        Roll {
            fleet: self.fleet,
            kinds,
            struck,
        }
    }

    /// Hands for all that there is, but devices and the scan.
    fn hands(&self) -> Hands {
        let hands = Hands::new(self.system).with_shards(self.fleet.shards().iter().cloned());
        match self.whole {
            Some((_, net)) => hands.with_node(twin_half()).with_lines(net.clone()),
            None => hands,
        }
    }

    /// Whether devices are down for now.
    fn devices_down(&self) -> bool {
        let counts = self.fleet.counts();
        counts.running + counts.quarantined < counts.requested
    }

    /// False: its victim was not there any more.
    fn begin(&self, strike: &Strike, hands: &mut Hands) -> bool {
        let device = strike.path.as_str();
        match (strike.plan.fault, strike.kind.as_str()) {
            (Fault::Kill, DEVICE) => self.fleet.kill(device).is_ok(),
            (_, DEVICE) => {
                let injection = injection(&strike.plan);
                injection.is_some_and(|(what, _)| self.fleet.inject(device, what).is_ok())
            }
            (Fault::Panic, SCAN) => {
                let Some((twin, _)) = self.whole else {
                    return false;
                };
                let twin = twin.clone();
                // the answer comes with the next cycle, or not at all if the scan is killed
                self.system.detached(async move {
                    let _ = twin.panic(SystemId::Diagnostics).await;
                });
                true
            }
            _ => hands.begin(strike),
        }
    }

    fn end(&self, strike: &Strike, hands: &mut Hands) {
        if strike.kind == DEVICE {
            if let Some((_, Some(kind))) = injection(&strike.plan) {
                let revert = Injection::Revert(Some(kind));
                drop(self.fleet.inject(strike.path.as_str(), revert));
            }
            return;
        }
        hands.end(strike);
    }
}

/// The twin's half of a simulated node: what crashes and stands still as one.
fn twin_half() -> [ActorPath; 2] {
    ["transport", "twin"].map(|name| ActorPath::root().join(name))
}

/// Name of the kind of devices.
const DEVICE: &str = "device";
/// Of the scan, whose systems can be hit.
const SCAN: &str = "scan";
/// The supervisors of a simulated node, the root aside.
const SUPERVISORS: [&str; 5] = [
    "/fleet",
    "/fleet/links",
    "/transport",
    "/transport/conn",
    "/twin",
];

/// The kind of an actor: supervisor, link, or its last segment (the one above for numbered ones).
fn kind_of(path: &ActorPath) -> &str {
    if SUPERVISORS.contains(&path.as_str()) {
        return "supervisor";
    }
    if path.as_str().starts_with("/fleet/links/") {
        return LINK;
    }
    let mut segments = path.as_str().rsplit('/');
    let last = segments.next().unwrap_or("");
    if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        segments.next().unwrap_or(last)
    } else {
        last
    }
}

/// Who there is at one moment: task actors by kind, then the devices.
struct Roll<'a> {
    fleet: &'a Fleet,
    kinds: Vec<(String, Vec<ActorRow>)>,
    /// Devices that were struck and may be down: whose they are that are down is not told, so none
    /// of them counts as back before all are.
    struck: &'a BTreeSet<ActorPath>,
}

impl Roll<'_> {
    fn row(&self, path: &ActorPath) -> Option<&ActorRow> {
        let mut rows = self.kinds.iter().flat_map(|(_, rows)| rows);
        rows.find(|row| row.path == *path)
    }

    fn known(&self, path: &ActorPath) -> Known {
        self.row(path).map_or_else(Known::default, |row| Known {
            incarnation: Some(row.incarnation.0),
            state: Some(row.state),
            mailbox: Some(row.depth),
            restarts: Some(row.restarts),
        })
    }
}

impl Census for Roll<'_> {
    fn kinds(&self) -> Vec<Kind<'_>> {
        let tasks = self.kinds.iter().map(|(name, rows)| Kind {
            name,
            count: rows.len() as u64,
        });
        let devices = Kind {
            name: DEVICE,
            count: self.fleet.counts().requested,
        };
        let node = Kind {
            name: NODE,
            count: 1,
        };
        // The last, so that who else is drawn does not depend on them.
        let shards = Kind {
            name: SHARD,
            count: self.fleet.shards().len() as u64,
        };
        tasks.chain([devices, node, shards]).collect()
    }

    fn path(&self, kind: usize, index: u64) -> ActorPath {
        if kind == self.kinds.len() + 2 {
            return shard_path(index as usize);
        }
        match self.kinds.get(kind) {
            Some((_, rows)) => rows.get(index as usize).map(|row| row.path.clone()),
            None if kind == self.kinds.len() => self.fleet.path_of(index as u32),
            None => None,
        }
        .unwrap_or_else(ActorPath::root)
    }

    fn is_down(&self, path: &ActorPath) -> bool {
        let mut shards = self.fleet.shards().iter();
        if let Some(shard) = shards.find(|shard| shard_path(shard.index()) == *path) {
            return shard.is_down();
        }
        let task = self.row(path);
        task.map_or_else(|| self.struck.contains(path), |row| row.state != "running")
    }

    fn takes(&self, kind: usize, fault: Fault) -> bool {
        match self.kinds.get(kind) {
            Some((name, _)) if name == LINK && fault.hits_link() => true,
            Some((name, _)) if name == SCAN && fault == Fault::Panic => true,
            Some(_) => fault.hits_any_actor(),
            None if kind == self.kinds.len() => device_takes(fault),
            None if kind == self.kinds.len() + 2 => fault.hits_shard(),
            // devices alone have no node that could crash
            None => fault == Fault::ClockJump || fault.hits_node() && !self.kinds.is_empty(),
        }
    }
}

/// Puts one more at the end of what is bounded.
fn keep<T>(all: &mut VecDeque<T>, one: T, most: usize) {
    if all.len() == most {
        all.pop_front();
    }
    all.push_back(one);
}

/// A plan under way.
#[derive(Debug)]
pub struct Chaos {
    schedule: Schedule,
    hands: Hands,
    /// The last strikes that found their victim.
    strikes: VecDeque<Strike>,
    /// All of them, by kind and fault.
    counts: BTreeMap<String, BTreeMap<String, u64>>,
    /// Devices that may be down.
    struck: BTreeSet<ActorPath>,
    toll: Toll,
    /// Strikes are left out on purpose.
    partial: bool,
    trace: VecDeque<TraceLine>,
}

impl Chaos {
    /// The plan of a run, if it has one.
    #[must_use]
    pub fn new(
        config: &SimConfig,
        targets: &Targets<'_>,
        supervision: &Arc<Supervision>,
    ) -> Option<Self> {
        let mut plan: Plan = config.chaos.clone()?;
        let most = config.chaos_until();
        plan.run_for = Some(plan.run_for.map_or(most, |time| time.min(most)));
        let seed = match plan.seed {
            0 => draw::bits(config.seed, 0, PLAN_LANE),
            seed => seed,
        };
        let mut schedule = Schedule::new(&plan, seed, targets.system.clock().now());
        if let Some(only) = &config.strikes {
            schedule = schedule.only(only.clone());
        }
        let mut toll = Toll::of(supervision);
        if config.scenario.is_some() {
            toll.ordered_many(Time::ZERO + config.until); // what a script does is not told here
        }
        Some(Self {
            schedule,
            hands: targets.hands(),
            strikes: VecDeque::new(),
            counts: BTreeMap::new(),
            struck: BTreeSet::new(),
            toll,
            partial: config.strikes.is_some(),
            trace: VecDeque::new(),
        })
    }

    /// When the next strike, or the end of one, is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.schedule.next_at()
    }

    /// Carries out what is due.
    pub fn step(&mut self, now: Time, targets: &Targets<'_>) {
        if self.schedule.next_at().is_none_or(|next| next > now) {
            return;
        }
        if !targets.devices_down() {
            self.struck.clear();
        }
        self.toll.look();
        let struck = self.struck.clone();
        let census = targets.census(&struck);
        let step = self.schedule.step(now, &census, &Vitals::default());
        if step.over.is_some() {
            self.toll.close(now);
        }
        for action in step.actions {
            let line = match action {
                Action::Begin(strike) => {
                    if !targets.begin(&strike, &mut self.hands) {
                        continue; // it ended in the meantime, by itself or with another one
                    }
                    let line = TraceLine::strike(&strike, census.known(&strike.path));
                    self.count(&strike);
                    keep(&mut self.strikes, strike, STRIKES_KEPT);
                    line
                }
                Action::End(strike) => {
                    targets.end(&strike, &mut self.hands);
                    TraceLine::healed(&strike, now)
                }
            };
            keep(&mut self.trace, line, TRACE_LINES);
        }
    }

    fn count(&mut self, strike: &Strike) {
        self.toll.struck(strike);
        if strike.plan.fault == Fault::NodeCrash {
            twin_half()
                .iter()
                .for_each(|half| self.toll.felled(strike, half));
        }
        if strike.kind == DEVICE {
            self.struck.insert(strike.path.clone());
        }
        if strike.part > 0 {
            return; // counted with the first
        }
        let faults = self.counts.entry(strike.kind.clone()).or_default();
        let fault = strike.plan.fault.name().to_owned();
        *faults.entry(fault).or_insert(0) += 1;
    }

    /// Strikes that found their victim.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().flat_map(BTreeMap::values).sum()
    }

    /// Ends the plan, if it has not ended by itself: what lasts is undone.
    pub fn end(&mut self, now: Time, targets: &Targets<'_>) {
        for action in self.schedule.stop() {
            if let Action::End(strike) = action {
                targets.end(&strike, &mut self.hands);
                keep(
                    &mut self.trace,
                    TraceLine::healed(&strike, now),
                    TRACE_LINES,
                );
            }
        }
        self.hands.end_all();
        self.toll.close(now);
    }

    /// The last strikes and ends of strikes, for the trace.
    pub fn trace(&self) -> impl Iterator<Item = &TraceLine> {
        self.trace.iter()
    }

    /// The strikes that are remembered, oldest first.
    pub fn strikes(&self) -> impl Iterator<Item = &Strike> {
        self.strikes.iter()
    }

    /// The schedule.
    #[must_use]
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    fn in_words(&self) -> String {
        let plan = self.schedule.plan();
        let faults = plan.faults.iter().map(|fault| fault.fault.name());
        let faults: Vec<_> = faults.collect();
        format!("{} at {} in {}", faults.join(", "), plan.rate, plan.scope)
    }

    /// What the report says of it.
    #[must_use]
    pub fn report(&mut self) -> report::Chaos {
        self.toll.look();
        let mut chaos = report::Chaos {
            seed: self.schedule.seed(),
            strikes: self.counts.clone(),
            over: self.schedule.over().map(ToString::to_string),
            plan: self.in_words(),
            parked: self.toll.parked(),
            parked_not_judged: self.toll.not_judged(),
            parked_without_cause: self.toll.without_cause(),
            ..report::Chaos::default()
        };
        chaos.counted(self.schedule.counts());
        if self.total() == 0 && !self.partial && self.schedule.has_tried() {
            chaos.falls_short(format!("it struck nobody: {}", self.in_words()));
        }
        chaos.summed()
    }
}
