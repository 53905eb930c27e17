//! The life of a supervisor's children as a pure state machine: events in, effects out.
//!
//! Every change of a child goes through here: it is asked to start or stop, told what happened, and
//! answers with [`Effect`]s that the shell carries out. It never waits: a backoff, a shutdown time
//! or a start is a phase with a deadline. Whom a failure touches is [`plan`]'s to say.
//!
//! - `one_for_all`, `rest_for_one` and the end of a supervisor stop children one at a time in
//!   reverse start order; group restarts and the first start start them one at a time in order.
//! - A child's next incarnation starts only when the former one is gone, whatever its state was.
//!
//! - `turns`: what is due at a time, and in which order.
//!
//! Bound: one entry per child; each event costs O(log children), but for plans that name more.

mod turns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use actorsim_actors::{ExitReason, Fault, Time};

use crate::policy::{Restart, Shutdown};
use crate::spec::{IGNORE, Kind, Terms};
use crate::strategy::{ChildId, Decision, Life, Plan, Tree, TreeChild, Why, plan};

/// How long a killed worker may take to be gone before it is reported as stuck (its thread hangs).
pub(crate) const KILL_WAIT: Duration = Duration::from_secs(10);

/// What the shell must do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Start attempt number `1` of the child.
    Start(ChildId, u64),
    /// Ask it to stop in order.
    Stop(ChildId),
    /// Kill it.
    Kill(ChildId),
    /// Give up its start, which is under way.
    Cancel(ChildId),
    /// It did not end though it was killed.
    Stuck(ChildId),
    /// It ended by itself, or did not start, and this is done about it.
    Ended {
        child: ChildId,
        reason: ExitReason,
        plan: Plan,
    },
    /// It is up again, after being down for this long.
    Restarted(ChildId, Downtime),
    /// Answer who waits for its start.
    Started(ChildId, Result<(), Fault>),
    /// Answer who waits for its end.
    Down(ChildId),
    /// Forget it.
    Removed(ChildId),
    /// The first children are all up.
    Ready,
    /// All children are down and the supervisor ends.
    Finished,
}

/// Why a supervisor ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It was stopped, killed or failed itself.
    Asked,
    /// Its significant children are done.
    AutoShutdown,
    /// Too many restarts.
    Escalated,
    /// A first child did not start.
    NotStarted(ChildId, Fault),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Initial,
    Serving,
    Ending(End),
}

/// Why a child is being started, until that has come to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// One of the first children.
    Initial,
    /// `start_child`.
    Added,
    /// `restart_child`.
    Asked,
    /// A restart.
    Restart,
}

/// What becomes of a child that is being stopped, once it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Down,
    Remove,
    Restart(Time),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Down,
    Quarantined,
    Pending(Time),
    /// The start is under way; `gone`: the incarnation has ended already.
    Starting {
        gone: Option<ExitReason>,
        failed: Option<Fault>,
    },
    Up,
}

#[derive(Debug)]
struct Kid {
    phase: Phase,
    fate: Option<Fate>,
    /// Told to stop, and killed or cancelled if that took too long.
    told: bool,
    kill_at: Option<Time>,
    forced: bool,
    attempt: u64,
    origin: Origin,
    kind: Kind,
    shutdown: Shutdown,
    down_since: Option<Time>,
    /// Since then, what its supervisor has let it wait.
    backoff: Duration,
}

/// How long a child was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Downtime {
    pub(crate) all: Duration,
    /// Of that what its supervisor let it wait.
    pub(crate) backoff: Duration,
}

/// What `which_children` says of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Up,
    Restarting,
    Down,
    Quarantined,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) tree: Tree,
    kids: BTreeMap<ChildId, Kid>,
    mode: Mode,
    next_id: u64,
    /// To be stopped and not told yet.
    condemned: BTreeSet<ChildId>,
    /// Told to stop and not gone yet.
    stopping: BTreeSet<ChildId>,
    pending: BTreeSet<ChildId>,
    due: BTreeSet<(Time, ChildId)>,
    kill_at: BTreeSet<(Time, ChildId)>,
    starting: usize,
    alive: usize,
    /// A group restart is under way: it keeps its order whatever the policy becomes meanwhile.
    ordered: bool,
    finished: bool,
    effects: VecDeque<Effect>,
}

impl Core {
    pub(crate) fn new(tree: Tree) -> Self {
        Self {
            tree,
            kids: BTreeMap::new(),
            mode: Mode::Initial,
            next_id: 0,
            condemned: BTreeSet::new(),
            stopping: BTreeSet::new(),
            pending: BTreeSet::new(),
            due: BTreeSet::new(),
            kill_at: BTreeSet::new(),
            starting: 0,
            alive: 0,
            ordered: false,
            finished: false,
            effects: VecDeque::new(),
        }
    }

    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(crate) fn ending(&self) -> Option<&End> {
        match &self.mode {
            Mode::Ending(end) => Some(end),
            _ => None,
        }
    }

    pub(crate) const fn finished(&self) -> bool {
        self.finished
    }

    pub(crate) fn shown(&self, child: ChildId) -> Option<Shown> {
        self.kids
            .get(&child)
            .map(|kid| match (&kid.phase, kid.fate) {
                (Phase::Up, None) => Shown::Up,
                (Phase::Up, Some(Fate::Restart(_))) => Shown::Restarting,
                (Phase::Up, Some(_)) => Shown::Up,
                (Phase::Pending(_) | Phase::Starting { .. }, _) => Shown::Restarting,
                (Phase::Down, _) => Shown::Down,
                (Phase::Quarantined, _) => Shown::Quarantined,
            })
    }

    // ---- requests ----

    /// Adds a child, to be started in its turn.
    pub(crate) fn add(
        &mut self,
        (restart, significant): (Restart, bool),
        (kind, shutdown): (Kind, Shutdown),
        origin: Origin,
        now: Time,
    ) -> ChildId {
        let id = ChildId(self.next_id);
        self.next_id += 1;
        let history = crate::intensity::History::default();
        let node = TreeChild {
            restart,
            significant,
            life: Life::Down,
            history,
        };
        self.tree.children.insert(id, node);
        let kid = Kid {
            phase: Phase::Down,
            fate: None,
            told: false,
            kill_at: None,
            forced: false,
            attempt: 0,
            origin,
            kind,
            shutdown,
            down_since: None,
            backoff: Duration::ZERO,
        };
        self.kids.insert(id, kid);
        self.wait(id, now);
        id
    }

    /// Starts a child that is down or parked; its past is forgotten.
    pub(crate) fn restart(&mut self, id: ChildId, now: Time) {
        if let Some(node) = self.tree.children.get_mut(&id) {
            node.history = crate::intensity::History::default();
        }
        if let Some(kid) = self.kids.get_mut(&id) {
            kid.origin = Origin::Asked;
        }
        self.wait(id, now);
    }

    /// Stops a child; it stays down, unless it is one to be forgotten.
    pub(crate) fn terminate(&mut self, id: ChildId) {
        let fate = match self.tree.forgets(id) {
            true => Fate::Remove,
            false => Fate::Down,
        };
        match self.kids.get(&id).map(|k| k.phase.clone()) {
            Some(Phase::Up | Phase::Starting { .. }) => self.condemn(id, fate),
            Some(Phase::Pending(_)) => {
                self.give_up(id, fate, Fault::new("terminated"), Time::ZERO);
            }
            Some(_) => self.settle_fate(id, fate, Time::ZERO),
            None => {}
        }
    }

    /// Forgets a child that is down or parked.
    pub(crate) fn delete(&mut self, id: ChildId) {
        self.remove(id);
    }

    /// Changes a child's terms; a stop that is under way keeps to the old ones.
    pub(crate) fn set_terms(&mut self, id: ChildId, terms: Terms) {
        if let Some(kid) = self.kids.get_mut(&id) {
            kid.shutdown = terms.shutdown;
        }
        if let Some(node) = self.tree.children.get_mut(&id) {
            (node.restart, node.significant) = (terms.restart, terms.significant);
        }
    }

    /// Ends the supervisor: its children in reverse start order, then itself.
    pub(crate) fn end(&mut self, end: End) {
        if matches!(self.mode, Mode::Ending(_)) {
            return;
        }
        self.mode = Mode::Ending(end);
        for id in std::mem::take(&mut self.pending) {
            self.answer(id, Err(Fault::new("supervisor_ends")));
            self.set(id, Phase::Down);
        }
        self.due.clear();
        let alive: Vec<ChildId> = self.kids.keys().copied().collect();
        for id in alive {
            if self.is_alive(id) {
                self.condemn(id, Fate::Down);
            }
        }
    }

    // ---- events ----

    /// A start is over.
    pub(crate) fn started(
        &mut self,
        id: ChildId,
        attempt: u64,
        result: Result<(), Fault>,
        now: Time,
    ) {
        let Some(kid) = self.kids.get_mut(&id).filter(|k| k.attempt == attempt) else {
            return;
        };
        let Phase::Starting { gone, failed } = &mut kid.phase else {
            return;
        };
        match (result, gone.take()) {
            (Err(fault), Some(_)) => self.start_failed(id, fault, now),
            (Err(fault), None) => *failed = Some(fault),
            (Ok(()), gone) => {
                self.starting -= 1;
                kid.phase = Phase::Up;
                self.tree.up(id, now);
                let down_since = kid.down_since.take();
                if let (Origin::Restart, Some(since)) = (kid.origin, down_since) {
                    let (all, backoff) = (now - since, kid.backoff);
                    let downtime = Downtime { all, backoff };
                    self.effects.push_back(Effect::Restarted(id, downtime));
                }
                self.answer(id, Ok(()));
                if let Some(reason) = gone {
                    self.gone(id, &reason, now);
                } else if self.stopping.contains(&id) {
                    let forced = self.kids.get(&id).is_some_and(|k| k.forced);
                    let ask = if forced {
                        Effect::Kill(id)
                    } else {
                        Effect::Stop(id)
                    };
                    self.effects.push_back(ask);
                } else if self.kids.get(&id).is_some_and(|k| k.fate.is_some()) {
                    self.condemned.insert(id);
                }
            }
        }
    }

    /// An incarnation is gone with everything it owned.
    pub(crate) fn exited(&mut self, id: ChildId, attempt: u64, reason: &ExitReason, now: Time) {
        let Some(kid) = self.kids.get_mut(&id).filter(|k| k.attempt == attempt) else {
            return;
        };
        match &mut kid.phase {
            Phase::Starting { gone, failed } => match failed.take() {
                Some(fault) => self.start_failed(id, fault, now),
                None => *gone = Some(reason.clone()),
            },
            Phase::Up => self.gone(id, reason, now),
            _ => {}
        }
    }

    fn start_failed(&mut self, id: ChildId, fault: Fault, now: Time) {
        self.starting -= 1;
        self.leave_life(id);
        let Some(kid) = self.kids.get_mut(&id) else {
            return;
        };
        let (fate, origin) = (kid.fate.take(), kid.origin);
        match fate {
            // a group restart that cuts a start short makes another: who waits, waits for that
            Some(fate @ Fate::Restart(_)) => return self.settle_fate(id, fate, now),
            Some(fate) => return self.give_up(id, fate, fault, now),
            None => {}
        }
        if fault.code == IGNORE {
            return self.declined(id, fault);
        }
        match origin {
            Origin::Initial => self.end(End::NotStarted(id, fault)),
            Origin::Added | Origin::Asked => {
                self.answer(id, Err(fault));
                if origin == Origin::Added || self.tree.forgets(id) {
                    self.remove(id);
                }
            }
            Origin::Restart => {
                let plan = plan(&self.tree, id, Why::StartFailed, now);
                self.follow(id, plan, ExitReason::Fault(fault), now);
            }
        }
    }

    /// A start comes to nothing as the child is to be stopped; one just added is forgotten.
    fn give_up(&mut self, id: ChildId, fate: Fate, fault: Fault, now: Time) {
        let added = self
            .kids
            .get(&id)
            .is_some_and(|kid| kid.origin == Origin::Added);
        self.answer(id, Err(fault));
        self.settle_fate(id, if added { Fate::Remove } else { fate }, now);
    }

    /// A child is not up because it does not want to: no failure, and nothing is done about it.
    fn declined(&mut self, id: ChildId, fault: Fault) {
        self.answer(id, Err(fault));
        if self.tree.forgets(id) {
            self.remove(id);
        } else {
            self.effects.push_back(Effect::Down(id));
        }
    }

    /// The start that was asked for is over, and so is the wait of whoever asked. Each further one
    /// is a restart; until then its failure is the asker's, however often it was cut short.
    fn answer(&mut self, id: ChildId, result: Result<(), Fault>) {
        if let Some(kid) = self.kids.get_mut(&id) {
            kid.origin = Origin::Restart;
        }
        self.effects.push_back(Effect::Started(id, result));
    }

    fn gone(&mut self, id: ChildId, reason: &ExitReason, now: Time) {
        self.leave_life(id);
        let Some(kid) = self.kids.get_mut(&id) else {
            return;
        };
        kid.down_since = Some(now);
        kid.backoff = Duration::ZERO;
        match kid.fate.take() {
            Some(fate) => self.settle_fate(id, fate, now),
            None => {
                let plan = plan(&self.tree, id, Why::Exit(reason), now);
                self.follow(id, plan, reason.clone(), now);
            }
        }
    }

    /// Takes an ended child out of everything that counts living ones.
    fn leave_life(&mut self, id: ChildId) {
        self.alive -= 1;
        self.condemned.remove(&id);
        self.stopping.remove(&id);
        if let Some(kid) = self.kids.get_mut(&id) {
            if let Some(at) = kid.kill_at.take() {
                self.kill_at.remove(&(at, id));
            }
            (kid.told, kid.forced) = (false, false);
        }
        self.set(id, Phase::Down);
    }

    fn settle_fate(&mut self, id: ChildId, fate: Fate, now: Time) {
        self.unqueue(id);
        match (fate, &self.mode) {
            (Fate::Restart(at), Mode::Initial | Mode::Serving) => {
                self.back_off(id, at.max(now), now);
            }
            (Fate::Down | Fate::Restart(_), _) => {
                self.set(id, Phase::Down);
                self.effects.push_back(Effect::Down(id));
            }
            (Fate::Remove, _) => {
                self.effects.push_back(Effect::Down(id));
                self.remove(id);
            }
        }
    }

    /// Carries out what was decided about a child that ended by itself.
    fn follow(&mut self, id: ChildId, plan: Plan, reason: ExitReason, now: Time) {
        self.tree.commit(id, &plan, now);
        match plan.decision {
            Decision::Leave => {}
            Decision::Remove => self.remove_later(id),
            Decision::Quarantine => self.set(id, Phase::Quarantined),
            Decision::AutoShutdown => {
                if self.mode == Mode::Initial {
                    // its work is done before all of it was up: it came up, and ends in order
                    self.effects.push_back(Effect::Ready);
                }
                self.end(End::AutoShutdown);
            }
            Decision::Escalate => self.end(End::Escalated),
            Decision::Restart => {
                self.ordered |= self.tree.policy.strategy.is_ordered();
                for sibling in &plan.stop {
                    let bystander = self.is_temporary(*sibling);
                    let fate = if bystander {
                        Fate::Remove
                    } else {
                        Fate::Restart(plan.at)
                    };
                    if self.kids.get(sibling).is_some_and(|k| k.fate.is_none()) {
                        self.condemn(*sibling, fate);
                    }
                }
                for child in &plan.start {
                    if !self.is_alive(*child) {
                        self.back_off(*child, plan.at, now);
                    }
                }
            }
        }
        let removed = plan.decision == Decision::Remove;
        self.effects.push_back(Effect::Ended {
            child: id,
            reason,
            plan,
        });
        if removed {
            self.effects.push_back(Effect::Removed(id));
        }
    }

    // ---- the table ----

    fn set(&mut self, id: ChildId, phase: Phase) {
        let life = match phase {
            Phase::Down => Life::Down,
            Phase::Quarantined => Life::Quarantined,
            Phase::Pending(_) => Life::Waiting,
            Phase::Starting { .. } | Phase::Up => Life::Up,
        };
        if let Some(kid) = self.kids.get_mut(&id) {
            kid.phase = phase;
        }
        if let Some(node) = self.tree.children.get_mut(&id) {
            node.life = life;
        }
    }

    /// Lets a child that is to be restarted wait for its time.
    fn back_off(&mut self, id: ChildId, at: Time, now: Time) {
        if let Some(kid) = self.kids.get_mut(&id) {
            kid.backoff += at - now;
        }
        self.wait(id, at);
    }

    /// Queues a child that is not alive for a start at `at` or later.
    fn wait(&mut self, id: ChildId, at: Time) {
        let at = self.pending_at(id).map_or(at, |before| before.max(at));
        self.unqueue(id);
        self.set(id, Phase::Pending(at));
        self.pending.insert(id);
        self.due.insert((at, id));
    }

    fn pending_at(&self, id: ChildId) -> Option<Time> {
        match self.kids.get(&id).map(|k| &k.phase) {
            Some(Phase::Pending(at)) => Some(*at),
            _ => None,
        }
    }

    fn unqueue(&mut self, id: ChildId) {
        if let Some(at) = self.pending_at(id) {
            self.pending.remove(&id);
            self.due.remove(&(at, id));
        }
    }

    fn condemn(&mut self, id: ChildId, fate: Fate) {
        let Some(kid) = self.kids.get_mut(&id) else {
            return;
        };
        kid.fate = Some(fate);
        if !kid.told {
            self.condemned.insert(id);
        }
    }

    fn is_alive(&self, id: ChildId) -> bool {
        let phase = self.kids.get(&id).map(|k| &k.phase);
        matches!(phase, Some(Phase::Starting { .. } | Phase::Up))
    }

    fn is_temporary(&self, id: ChildId) -> bool {
        self.tree
            .children
            .get(&id)
            .is_some_and(|c| c.restart == Restart::Temporary)
    }

    fn remove(&mut self, id: ChildId) {
        self.remove_later(id);
        self.effects.push_back(Effect::Removed(id));
    }

    /// Removes a child whose `Removed` effect follows after its crash report.
    fn remove_later(&mut self, id: ChildId) {
        self.unqueue(id);
        self.kids.remove(&id);
        self.tree.children.remove(&id);
    }
}

#[cfg(test)]
mod tests;
