//! What a strike does to the task actors, shards and lines of a system, and how that is undone.
//!
//! For whoever carries a plan out: a test, `actorsim sim`, a live node. What hits devices or the
//! world is theirs. It draws nothing and knows no time: what lasts ends with [`Hands::end`], or
//! with the hands. Bound: the strikes that last.

use std::collections::BTreeMap;
use std::sync::Arc;

use actorsim_actors::census::PAGE_MAX;
use actorsim_actors::shard::ShardHandle;
use actorsim_actors::{
    ActorPath, ActorRef, Breakage, CensusFilter, Hindrance, HindranceId, Reach, System,
};

use super::fault::Fault;
use super::lines::{Lines, line_of};
use super::plan::FaultPlan;
use super::schedule::{Strike, StrikeKey};

/// What must be undone at the end of a strike.
#[derive(Debug)]
enum UnderWay {
    Hindered(Vec<HindranceId>),
    Full(ActorPath),
    Down(ShardHandle),
    /// By so many microseconds.
    Jumped(i64),
    /// The packets of a line, and nothing else.
    Disturbed,
}

/// Carries strikes out on one system.
#[derive(Debug)]
pub struct Hands {
    system: System,
    /// The subtrees that are a node: all that crashes or stands still with it.
    node: Vec<ActorPath>,
    shards: Vec<ShardHandle>,
    lines: Option<Arc<dyn Lines>>,
    under_way: BTreeMap<StrikeKey, UnderWay>,
}

impl Hands {
    /// Hands on a system without nodes that could crash.
    #[must_use]
    pub fn new(system: &System) -> Self {
        Self {
            system: system.clone(),
            node: Vec::new(),
            shards: Vec::new(),
            lines: None,
            under_way: BTreeMap::new(),
        }
    }

    /// The same, with the subtrees that crash or stand still as one node.
    #[must_use]
    pub fn with_node(mut self, subtrees: impl IntoIterator<Item = ActorPath>) -> Self {
        self.node.extend(subtrees);
        self
    }

    /// The same, with shards whose threads can end; who is struck is told by the index.
    #[must_use]
    pub fn with_shards(mut self, shards: impl IntoIterator<Item = ShardHandle>) -> Self {
        self.shards.extend(shards);
        self
    }

    /// The same, with the lines of links; which line is struck is told by the number that the path
    /// of the link ends with. All of them are cut while the node crashes, and clogged while it
    /// stands still.
    #[must_use]
    pub fn with_lines(mut self, lines: impl Lines + 'static) -> Self {
        self.lines = Some(Arc::new(lines));
        self
    }

    /// Carries a strike out. False: there is no such actor or shard any more, the path of a link
    /// ends with no number, or the fault is none of these; then there is nothing to end.
    pub fn begin(&mut self, strike: &Strike) -> bool {
        self.end(strike); // one of this key, of an earlier plan on the same hands
        let plan = &strike.plan;
        let kept = match plan.fault {
            Fault::Kill => return self.with_actor(strike, ActorRef::kill),
            Fault::Stop => return self.with_actor(strike, ActorRef::stop),
            Fault::Panic => return self.with_actor(strike, |one| one.break_with(Breakage::Panic)),
            Fault::ErrorReturn => {
                return self.with_actor(strike, |one| one.break_with(Breakage::Fault));
            }
            Fault::Hang => self.hinder(strike, Hindrance::Hold),
            Fault::SlowHandler => self.hinder(strike, Hindrance::Slow(plan.delay)),
            Fault::StartFails => self.hinder(strike, Hindrance::StartFails(plan.times)),
            Fault::HostDown if !self.shards.is_empty() => self.end_shard(strike),
            // Of a shard: whoever stands for its thread ends, and with it the thread.
            Fault::StartHangs | Fault::HostDown => self.hinder(strike, Hindrance::StartHangs),
            Fault::MailboxFull => {
                let found = self.system.census().set_full(&strike.path, true);
                found.then(|| UnderWay::Full(strike.path.clone()))
            }
            Fault::ClockJump => {
                let by = i64::try_from(plan.by.as_micros()).unwrap_or(i64::MAX);
                let by = if strike.number.is_multiple_of(2) {
                    by
                } else {
                    -by
                };
                self.system.clock().jump(by);
                Some(UnderWay::Jumped(by))
            }
            Fault::NodeCrash | Fault::NodePause if !self.node.is_empty() => {
                Some(self.strike_node(strike))
            }
            fault if fault.hits_link() => self.disturb_line(strike),
            _ => None,
        };
        let Some(kept) = kept else { return false };
        self.under_way.insert(strike.key(), kept);
        let ends = match plan.fault {
            Fault::StartFails | Fault::StartHangs => true,
            Fault::HostDown => self.shards.is_empty(),
            _ => false,
        };
        if ends {
            self.with_actor(strike, ActorRef::kill);
        }
        true
    }

    /// Undoes what a strike did, if it lasts. Ending it twice is harmless.
    pub fn end(&mut self, strike: &Strike) {
        if let Some(under_way) = self.under_way.remove(&strike.key()) {
            self.undo(strike.key(), under_way);
        }
    }

    /// Undoes everything that lasts.
    pub fn end_all(&mut self) {
        for (strike, under_way) in std::mem::take(&mut self.under_way) {
            self.undo(strike, under_way);
        }
    }

    fn undo(&self, strike: StrikeKey, under_way: UnderWay) {
        match under_way {
            UnderWay::Hindered(all) => {
                let hindrances = self.system.hindrances();
                all.into_iter().for_each(|one| hindrances.end(one));
            }
            UnderWay::Full(path) => {
                self.system.census().set_full(&path, false);
            }
            UnderWay::Jumped(by) => self.system.clock().jump(-by),
            // An error is that it lives, or that the shards are being stopped.
            UnderWay::Down(shard) => drop(shard.revive()),
            UnderWay::Disturbed => {}
        }
        if let Some(lines) = &self.lines {
            lines.end(strike);
        }
    }

    fn disturb_line(&self, strike: &Strike) -> Option<UnderWay> {
        let (lines, line) = (self.lines.as_ref()?, line_of(&strike.path)?);
        lines.begin(strike.key(), Some(line), strike.plan);
        Some(UnderWay::Disturbed)
    }

    /// The node crashes or stands still: its packets are lost, or wait.
    fn strike_node(&self, strike: &Strike) -> UnderWay {
        let crashes = strike.plan.fault == Fault::NodeCrash;
        let on_lines = if crashes {
            Fault::Partition
        } else {
            Fault::Clog
        };
        if let Some(lines) = &self.lines {
            lines.begin(strike.key(), None, FaultPlan::new(on_lines));
        }
        match crashes {
            true => self.crash(),
            false => UnderWay::Hindered(self.all(Hindrance::Hold)),
        }
    }

    fn with_actor(&self, strike: &Strike, act: impl FnOnce(&ActorRef)) -> bool {
        let actor = self.system.census().task(&strike.path);
        actor.map(|actor| act(&actor)).is_some()
    }

    fn end_shard(&self, strike: &Strike) -> Option<UnderWay> {
        let shard = self.shards.get(strike.index as usize)?;
        if shard.is_down() {
            return None;
        }
        shard.kill();
        Some(UnderWay::Down(shard.clone()))
    }

    fn hinder(&self, strike: &Strike, what: Hindrance) -> Option<UnderWay> {
        self.system.census().task(&strike.path)?;
        let hindrances = self.system.hindrances();
        let one = hindrances.begin(strike.path.clone(), Reach::One, what);
        Some(UnderWay::Hindered(vec![one]))
    }

    fn all(&self, what: Hindrance) -> Vec<HindranceId> {
        let hindrances = self.system.hindrances();
        let begin = |path: &ActorPath| hindrances.begin(path.clone(), Reach::Subtree, what);
        self.node.iter().map(begin).collect()
    }

    /// Everything of the node ends at once, and does not start before the end of the strike.
    fn crash(&self) -> UnderWay {
        let down = self.all(Hindrance::StartHangs);
        let census = self.system.census();
        for path in &self.node {
            let below = CensusFilter {
                within: Some(path.clone()),
                ..CensusFilter::default()
            };
            let (mut after, mut more) = (None, true);
            while more {
                let page = census.task_rows(&below, after.as_ref(), PAGE_MAX);
                for row in &page.rows {
                    census.task(&row.path).iter().for_each(ActorRef::kill);
                }
                more = page.more;
                after = page.rows.into_iter().last().map(|row| row.path);
            }
        }
        UnderWay::Hindered(down)
    }

    /// Strikes that last and have not ended.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.end_all();
    }
}
