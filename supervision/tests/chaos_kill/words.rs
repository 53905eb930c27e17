//! What OTP's words make of a blow, one act at a time until nobody can act.
//!
//! Whoever can do something does it: a supervisor stops the next child or starts it, is up when all
//! its first children are, and is gone when none is left. It is no copy of ours: it has no events,
//! no times and no effects. Bound: each act stops a node, starts one, or ends one.

use std::sync::Arc;

use actorsim_supervision::{AutoShutdown, Restart, Strategy as Plan};

use crate::model::{End, Fate, Life, Line, Model, Phase, Wish};
use crate::tree::{PERIOD, Patience};

/// Why a child is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Normal,
    Abnormal,
    DidNotStart,
}

impl Model {
    /// Everybody does what they can.
    pub(crate) fn settle(&mut self) {
        while (0..self.lives.len()).any(|node| self.acts(node)) {}
    }

    // ---- what happens to a node ----

    /// A node ends from outside, or by itself.
    pub(crate) fn hit(&mut self, id: usize, why: Why) {
        match self.tree.nodes[id].is_worker() {
            true => self.gone(id, why),
            false => self.ends(id, End::Told(why)),
        }
    }

    /// What hangs in a worker goes on: its start, or its handler.
    pub(crate) fn goes_on(&mut self, id: usize) {
        if self.lives[id].phase == Phase::Starting {
            self.comes_up(id);
        }
        let life = &mut self.lives[id];
        life.hangs = false;
        if life.is_up() && life.told {
            self.gone(id, Why::Normal);
        }
    }

    pub(crate) fn terminate(&mut self, id: usize) {
        let fate = match self.forgets(id) {
            true => Fate::Forgotten,
            false => Fate::Rests,
        };
        if self.lives[id].is_down() {
            let supervisor = self.tree.nodes[id].parent;
            self.lives[supervisor].queue.remove(&id);
            self.lies(id, fate);
        } else {
            self.lives[id].fate = Some(fate);
        }
    }

    /// A child is started by hand: its own past is forgotten, and a failure is the operator's.
    pub(crate) fn again(&mut self, id: usize) {
        let supervisor = self.tree.nodes[id].parent;
        if self.rules[supervisor].parks {
            let past = &mut self.lives[supervisor].restarts;
            past.retain(|(_, who)| *who != id);
        }
        let life = &mut self.lives[id];
        (life.known, life.parked) = (true, false);
        self.wants(id, Wish::Operator);
    }

    // ---- acts ----

    /// Whether children of a supervisor stop and start one at a time.
    fn one_by_one(&self, id: usize) -> bool {
        let life = &self.lives[id];
        match self.rules[id].strategy {
            Plan::OneForAll | Plan::RestForOne => true,
            Plan::OneForOne => life.group || life.end.is_some() || life.phase == Phase::Starting,
            Plan::SimpleOneForOne => false,
        }
    }

    /// Lets a supervisor do one thing; false if it can do nothing.
    fn acts(&mut self, id: usize) -> bool {
        let tree = Arc::clone(&self.tree);
        if tree.nodes[id].is_worker() || self.lives[id].is_down() {
            return false;
        }
        let one_by_one = self.one_by_one(id);
        let alive = |child: &usize| !self.lives[*child].is_down();
        let mut alive = tree.nodes[id].children.iter().copied().filter(alive);
        let doomed: Vec<usize> = alive
            .clone()
            .filter(|child| self.lives[*child].fate.is_some())
            .collect();
        let mut untold = doomed.iter().copied().filter(|c| !self.lives[*c].told);
        let stopping = doomed.iter().any(|child| self.lives[*child].told);
        if let Some(last) = untold.next_back().filter(|_| !(one_by_one && stopping)) {
            self.stops(last);
            return true;
        }
        if let Some(end) = self.lives[id].end {
            let over = alive.next().is_none();
            if over {
                self.gone(
                    id,
                    if let End::Told(why) = end {
                        why
                    } else {
                        Why::Normal
                    },
                );
            }
            return over;
        }
        let starting = alive.any(|child| self.lives[child].phase == Phase::Starting);
        let life = &mut self.lives[id];
        if let Some(next) = life.queue.first().copied()
            && !(one_by_one && (starting || !doomed.is_empty()))
        {
            life.queue.remove(&next);
            self.begin(next);
            return true;
        }
        if starting || !doomed.is_empty() || !life.queue.is_empty() {
            return false;
        }
        life.group = false;
        std::mem::replace(&mut life.phase, Phase::Up) == Phase::Starting
    }

    /// A child is told to stop; who hangs does so for as long as its supervisor lets it.
    fn stops(&mut self, id: usize) {
        let node = &self.tree.nodes[id];
        let life = &mut self.lives[id];
        life.told = true;
        let hangs = life.hangs || life.phase == Phase::Starting;
        match node.is_worker() {
            false => self.ends(id, End::Told(Why::Normal)),
            true if hangs && node.patience() == Patience::Endless => {}
            true => self.gone(id, Why::Normal),
        }
    }

    /// A supervisor ends: its children first.
    fn ends(&mut self, id: usize, end: End) {
        let children = self.tree.nodes[id].children.clone();
        match &mut self.lives[id].end {
            // one that is killed while it stops was killed
            Some(now @ End::Told(_)) if end == End::Told(Why::Abnormal) => *now = end,
            Some(_) => {}
            now @ None => {
                *now = Some(end);
                self.lives[id].queue.clear();
                for child in children {
                    let life = &mut self.lives[child];
                    life.fate = (!life.is_down()).then_some(Fate::Rests);
                }
            }
        }
    }

    /// A start of a node is under way.
    pub(crate) fn begin(&mut self, id: usize) {
        let tree = Arc::clone(&self.tree);
        let life = &mut self.lives[id];
        life.begun += 1;
        life.phase = Phase::Starting;
        life.restarts.clear();
        if tree.nodes[id].is_worker() {
            if !std::mem::take(&mut life.start_hangs) {
                self.comes_up(id);
            }
            return;
        }
        (life.parked, life.rests) = (false, false);
        for child in &tree.nodes[id].children {
            let life = &mut self.lives[*child];
            (life.known, life.parked, life.rests) = (false, false, false);
            if !tree.is_added(*child) {
                life.known = true;
                self.wants(*child, Wish::First);
            }
        }
    }

    /// A worker's start goes on to its end.
    fn comes_up(&mut self, id: usize) {
        let life = &mut self.lives[id];
        if life.fails > 0 {
            life.fails -= 1;
            return self.gone(id, Why::DidNotStart);
        }
        (life.phase, life.parked, life.rests) = (Phase::Up, false, false);
        self.lines.push(Line::Up(id));
    }

    fn wants(&mut self, id: usize, wish: Wish) {
        let supervisor = self.tree.nodes[id].parent;
        self.lives[id].wish = wish;
        self.lives[supervisor].queue.insert(id);
    }

    // ---- what becomes of a child that is down ----

    /// A child that is down is forgotten: temporary ones, and those that were added.
    fn forgets(&self, id: usize) -> bool {
        self.tree.is_added(id) || self.tree.nodes[id].restart == Restart::Temporary
    }

    /// A child stays down.
    fn lies(&mut self, id: usize, fate: Fate) {
        let life = &mut self.lives[id];
        life.known = fate != Fate::Forgotten;
        life.rests = true;
    }

    /// A node is gone with everything below it.
    fn gone(&mut self, id: usize, why: Why) {
        let life = &mut self.lives[id];
        let was_up = life.is_up();
        let (begun, fails, start_hangs) = (life.begun, life.fails, life.start_hangs);
        let (known, wish) = (life.known, life.wish);
        let fate = life.fate.take();
        *life = Life {
            begun,
            fails,
            start_hangs,
            known,
            wish,
            ..Life::default()
        };
        if was_up && self.tree.nodes[id].is_worker() {
            self.lines.push(Line::Down(id));
        }
        let supervisor = self.tree.nodes[id].parent;
        let why = if was_up { why } else { Why::DidNotStart };
        match (fate, self.lives[id].wish) {
            _ if id == 0 => {}
            (Some(Fate::Again), _) if self.lives[supervisor].end.is_none() => {
                self.wants(id, Wish::Restart);
            }
            (Some(fate), _) => self.lies(id, fate),
            (None, Wish::First) if !was_up => self.ends(supervisor, End::Itself),
            (None, Wish::Operator) if !was_up => {
                let forgotten = self.forgets(id);
                self.lies(
                    id,
                    if forgotten {
                        Fate::Forgotten
                    } else {
                        Fate::Rests
                    },
                );
            }
            (None, _) => self.decides(supervisor, id, why),
        }
    }

    /// What a supervisor does about a child that ended by itself, or was not restarted.
    fn decides(&mut self, supervisor: usize, child: usize, why: Why) {
        let rule = self.rules[supervisor];
        let again = match self.tree.nodes[child].restart {
            Restart::Permanent => true,
            Restart::Transient => why != Why::Normal,
            Restart::Temporary => false,
        };
        if !again {
            return self.leaves(supervisor, child, rule.auto);
        }
        let now = self.now;
        let past = self.lives[supervisor].restarts.iter();
        let recent = past
            .filter(|(at, who)| now - *at <= PERIOD && (!rule.parks || *who == child))
            .count();
        if recent >= rule.intensity as usize {
            if rule.parks {
                self.lives[child].parked = true;
            } else {
                self.gave_up.insert(supervisor);
                self.ends(supervisor, End::Itself);
            }
            return;
        }
        self.lives[supervisor].restarts.push((now, child));
        *self.restarts.entry(supervisor).or_default() += 1;
        self.restarts_with(supervisor, child, rule.strategy);
    }

    /// A child ends for good; a significant one may end its supervisor, which was up for that.
    fn leaves(&mut self, supervisor: usize, child: usize, auto: AutoShutdown) {
        let tree = Arc::clone(&self.tree);
        self.lives[child].known = !self.forgets(child);
        let runs =
            |id: usize| !self.lives[id].is_down() || self.lives[supervisor].queue.contains(&id);
        let mut siblings = tree.nodes[supervisor].children.iter();
        let others_run = siblings.any(|s| *s != child && tree.nodes[*s].significant && runs(*s));
        let ends = tree.nodes[child].significant
            && match auto {
                AutoShutdown::Never => false,
                AutoShutdown::AnySignificant => true,
                AutoShutdown::AllSignificant => !others_run,
            };
        if ends {
            let was = std::mem::replace(&mut self.lives[supervisor].phase, Phase::Up);
            self.at_once |= was == Phase::Starting;
            self.ends(supervisor, End::Itself);
        }
    }

    /// Dooms those that go down with a child, and queues those that come back.
    fn restarts_with(&mut self, supervisor: usize, child: usize, strategy: Plan) {
        let tree = Arc::clone(&self.tree);
        self.lives[supervisor].group |= matches!(strategy, Plan::OneForAll | Plan::RestForOne);
        for sibling in tree.nodes[supervisor].children.iter().copied() {
            let affected = match strategy {
                Plan::OneForAll => true,
                Plan::RestForOne => sibling >= child,
                _ => sibling == child,
            };
            if !affected {
                continue;
            }
            let temporary = tree.nodes[sibling].restart == Restart::Temporary;
            let life = &mut self.lives[sibling];
            if !life.is_down() {
                life.fate.get_or_insert(match temporary {
                    true => Fate::Forgotten,
                    false => Fate::Again,
                });
            } else if sibling == child || (!temporary && life.known && !life.parked) {
                self.wants(sibling, Wish::Restart);
            }
        }
    }
}
