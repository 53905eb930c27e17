//! A chaos plan carried out on a simulated node.
//!
//! It keeps the census for the schedule, carries strikes out, and remembers them. It decides
//! nothing: that is `actorsim_supervision::chaos`. Bound: [`STRIKES_KEPT`] strikes are remembered.

use std::collections::VecDeque;

use actorsim_actors::census::PAGE_MAX;
use actorsim_actors::{ActorPath, CensusFilter, System, Time};
use actorsim_fleet::{Fleet, Injection};
use actorsim_supervision::chaos::{
    Action, Census, Fault, Kind, Plan, Schedule, Strike, Vitals, draw,
};

use super::SimConfig;
use crate::report::RunReport;

/// Strikes remembered for the list of a failed run.
pub const STRIKES_KEPT: usize = 4_096;
/// Tells the seed of a plan from that of the devices.
const PLAN_LANE: u64 = 0x63_6861_6f73;

/// What there is to be hit.
#[derive(Debug)]
pub struct Targets<'a> {
    fleet: &'a Fleet,
    system: &'a System,
}

impl<'a> Targets<'a> {
    /// Devices alone.
    #[must_use]
    pub fn devices(fleet: &'a Fleet, system: &'a System) -> Self {
        Self { fleet, system }
    }

    fn census(&self) -> Roll<'a> {
        let mut kinds: Vec<(String, Vec<ActorPath>)> = Vec::new();
        let mut down = Vec::new();
        let rows = self.system.census();
        for row in rows
            .task_rows(&CensusFilter::default(), None, PAGE_MAX)
            .rows
        {
            if row.state != "running" {
                down.push(row.path.clone());
            }
            let name = kind_of(&row.path);
            match kinds.iter_mut().find(|(kind, _)| kind == name) {
                Some((_, paths)) => paths.push(row.path),
                None => kinds.push((name.to_owned(), vec![row.path])),
            }
        }
        Roll {
            fleet: self.fleet,
            kinds,
            down,
        }
    }

    fn begin(&self, strike: &Strike) {
        let device = strike.path.as_str();
        match (strike.plan.fault, strike.kind.as_str()) {
            (Fault::Kill, DEVICE) => drop(self.fleet.kill(device)),
            (Fault::Panic, DEVICE) => drop(self.fleet.inject(device, Injection::Panic)),
            (Fault::ErrorReturn, DEVICE) => drop(self.fleet.inject(device, Injection::Crash)),
            (fault, _) => {
                if let Some(actor) = self.system.census().task(&strike.path) {
                    match fault {
                        Fault::Stop => actor.stop(),
                        _ => actor.kill(),
                    }
                }
            }
        }
    }
}

/// Name of the kind of devices.
const DEVICE: &str = "device";

/// The kind of an actor: its last segment, or the one above for numbered ones.
fn kind_of(path: &ActorPath) -> &str {
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
    kinds: Vec<(String, Vec<ActorPath>)>,
    down: Vec<ActorPath>,
}

impl Census for Roll<'_> {
    fn kinds(&self) -> Vec<Kind<'_>> {
        let tasks = self.kinds.iter().map(|(name, paths)| Kind {
            name,
            count: paths.len() as u64,
        });
        let devices = Kind {
            name: DEVICE,
            count: self.fleet.counts().requested,
        };
        tasks.chain([devices]).collect()
    }

    fn path(&self, kind: usize, index: u64) -> ActorPath {
        match self.kinds.get(kind) {
            Some((_, paths)) => paths.get(index as usize).cloned(),
            None => self.fleet.path_of(index as u32),
        }
        .unwrap_or_else(ActorPath::root)
    }

    fn is_down(&self, path: &ActorPath) -> bool {
        self.down.contains(path)
    }

    fn takes(&self, kind: usize, fault: Fault) -> bool {
        if kind < self.kinds.len() {
            matches!(fault, Fault::Kill | Fault::Stop)
        } else {
            // A device that is stopped stays down, which is no fault to recover from.
            matches!(fault, Fault::Kill | Fault::Panic | Fault::ErrorReturn)
        }
    }
}

/// A plan under way.
#[derive(Debug)]
pub struct Chaos {
    schedule: Schedule,
    strikes: VecDeque<Strike>,
}

impl Chaos {
    /// The plan of a run, if it has one.
    #[must_use]
    pub fn new(config: &SimConfig, now: Time) -> Option<Self> {
        let mut plan: Plan = config.chaos.clone()?;
        let most = config.chaos_until();
        plan.run_for = Some(plan.run_for.map_or(most, |time| time.min(most)));
        let seed = match plan.seed {
            0 => draw::bits(config.seed, 0, PLAN_LANE),
            seed => seed,
        };
        Some(Self {
            schedule: Schedule::new(&plan, seed, now),
            strikes: VecDeque::new(),
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
        let step = self
            .schedule
            .step(now, &targets.census(), &Vitals::default());
        for action in step.actions {
            if let Action::Begin(strike) = action {
                targets.begin(&strike);
                if self.strikes.len() == STRIKES_KEPT {
                    self.strikes.pop_front();
                }
                self.strikes.push_back(strike);
            }
        }
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

    /// Tells in the report what was done.
    pub fn report(&self, report: &mut RunReport) {
        let _ = report;
    }
}
