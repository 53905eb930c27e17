//! The invariants of a blow, each a named check: the name is the first word of its failure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actorsim_supervision::Restart;

use crate::forest::{Forest, Seen};
use crate::model::{Blow, Line, Model};
use crate::tree::PERIOD;

/// What the checks remember from one blow to the next.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) before: Vec<Seen>,
    predicted_before: Vec<Seen>,
    events: u64,
    tallies: BTreeMap<usize, u64>,
    /// Restarts of each supervisor's present life, as seen.
    restarts: BTreeMap<usize, Vec<(Duration, u64)>>,
    /// Supervisors with another policy since their life began: what they did under the former is
    /// not counted.
    governed: BTreeSet<usize>,
}

/// What the model says can be seen of a node.
fn predicted(model: &Model) -> Vec<Seen> {
    let lives = model.lives.iter();
    lives
        .zip(&model.tree.nodes)
        .map(|(life, node)| {
            let up = life.is_up() || !(node.is_worker() || life.is_down());
            let incarnation = if up { life.begun } else { 0 };
            Seen { up, incarnation }
        })
        .collect()
}

fn died(before: &[Seen], now: &[Seen]) -> BTreeSet<usize> {
    let pairs = before.iter().zip(now).enumerate();
    pairs
        .filter(|(_, (before, now))| before.up && before != now)
        .map(|(node, _)| node)
        .collect()
}

fn names(model: &Model, nodes: impl IntoIterator<Item = usize>) -> Vec<String> {
    let name = |node: usize| model.tree.nodes[node].path.to_string();
    nodes.into_iter().map(name).collect()
}

impl Watch {
    pub(crate) fn new(forest: &Forest, model: &Model) -> Self {
        Self {
            before: forest.seen(),
            predicted_before: predicted(model),
            ..Self::default()
        }
    }

    /// All checks after one blow.
    pub(crate) fn after(&mut self, forest: &Forest, model: &Model) {
        let now = forest.seen();
        let then = predicted(model);
        i5_to_i7_what_workers_saw(forest);
        self.i2_unaffected_supervisors_keep_their_incarnation(model, &now, &then);
        self.i1_who_died_is_who_was_predicted(model, &now, &then);
        i3_start_order_and_reverse_stop_order(forest, model);
        self.i4_never_more_restarts_than_intensity(forest, model, &now);
        i5_the_books_balance(forest);
        i6_one_live_incarnation(forest, &then);
        i9_everything_permanent_is_up(model, &now);
        assert_eq!(now, then, "I9 healed: not as predicted");
        (self.before, self.predicted_before) = (now, then);
    }

    fn i1_who_died_is_who_was_predicted(&self, model: &Model, now: &[Seen], then: &[Seen]) {
        let died_now = names(model, died(&self.before, now));
        let died_then = names(model, died(&self.predicted_before, then));
        assert_eq!(died_now, died_then, "I1 who died is who was predicted");
    }

    fn i2_unaffected_supervisors_keep_their_incarnation(
        &self,
        model: &Model,
        now: &[Seen],
        then: &[Seen],
    ) {
        let may = died(&self.predicted_before, then);
        let must_not = died(&self.before, now);
        let hit = must_not
            .difference(&may)
            .filter(|node| !model.tree.nodes[**node].is_worker());
        let hit = names(model, hit.copied());
        assert!(
            hit.is_empty(),
            "I2 unaffected supervisors keep their incarnation: {hit:?}"
        );
    }

    fn i4_never_more_restarts_than_intensity(
        &mut self,
        forest: &Forest,
        model: &Model,
        now: &[Seen],
    ) {
        if let (Some(Blow::Again(_)), Some(child)) = (&model.blow, model.victim) {
            let parent = model.tree.nodes[child].parent;
            if model.rules[parent].parks {
                self.restarts.remove(&parent); // one of the pasts it counts is forgotten
            }
        }
        if let (Some(Blow::Govern(..)), Some(node)) = (&model.blow, model.victim) {
            self.restarts.remove(&node);
            self.governed.insert(node);
        }
        let seen = self.restarts_seen(forest, model);
        assert_eq!(seen, model.restarts, "I4 restarts: who made how many");
        for (node, n) in &seen {
            let list = self.restarts.entry(*node).or_default();
            list.push((model.now, *n));
        }
        let recent = |list: &[(Duration, u64)]| -> u64 {
            let inside = list.iter().filter(|(at, _)| model.now - *at <= PERIOD);
            inside.map(|(_, n)| n).sum()
        };
        for (node, list) in &self.restarts {
            let rule = model.rules[*node];
            let children = model.tree.nodes[*node].children.len() as u64;
            let bound = u64::from(rule.intensity) * if rule.parks { children } else { 1 };
            let path = &model.tree.nodes[*node].path;
            let n = recent(list);
            assert!(
                n <= bound,
                "I4 restarts within period: {path} made {n}, {bound} allowed"
            );
        }
        for node in self.escalated(forest, model).difference(&self.governed) {
            let path = &model.tree.nodes[*node].path;
            let n = self.restarts.get(node).map_or(0, |list| recent(list));
            assert_eq!(
                n,
                u64::from(model.rules[*node].intensity),
                "I4 one more escalates: {path} gave up"
            );
        }
        for (node, (before, now)) in self.before.iter().zip(now).enumerate() {
            if before != now {
                self.restarts.remove(&node); // another life counts from the start
                self.governed.remove(&node);
            }
        }
    }

    /// Restarts of this step by supervisor, as it counted them.
    fn restarts_seen(&mut self, forest: &Forest, model: &Model) -> BTreeMap<usize, u64> {
        let mut seen: BTreeMap<usize, u64> = BTreeMap::new();
        let mut sums: BTreeMap<usize, u64> = BTreeMap::new();
        for tally in forest.root.supervision().tallies() {
            let node = model
                .tree
                .node(&tally.supervisor)
                .expect("I4: known supervisors only");
            *sums.entry(node).or_default() += tally.restarts;
        }
        for (node, sum) in &sums {
            let before = self.tallies.get(node).copied().unwrap_or_default();
            if *sum > before {
                seen.insert(*node, sum - before);
            }
        }
        self.tallies = sums;
        seen
    }

    /// Supervisors that gave up in this step, by the events.
    fn escalated(&mut self, forest: &Forest, model: &Model) -> BTreeSet<usize> {
        let events = forest.system.events().since(self.events, usize::MAX);
        self.events = events.last().map_or(self.events, |event| event.id);
        let mut gave_up = BTreeSet::new();
        for event in events.iter().filter(|event| event.name == "escalated") {
            let child = event.path.as_ref().and_then(|path| model.tree.node(path));
            let child = child.expect("I4: a known child");
            gave_up.insert(model.tree.nodes[child].parent);
        }
        for node in &gave_up {
            let life = self.before[*node].incarnation;
            forest.row('#', *node, life, "escalated");
        }
        let (seen, then) = (
            names(model, gave_up.clone()),
            names(model, model.gave_up.clone()),
        );
        assert_eq!(seen, then, "I4 one more escalates: who gave up");
        gave_up
    }
}

fn i5_to_i7_what_workers_saw(forest: &Forest) {
    let broken = std::mem::take(&mut *forest.shared.broken.lock());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Where a supervisor keeps no order among its children, each two lines are compared that have one.
fn i3_start_order_and_reverse_stop_order(forest: &Forest, model: &Model) {
    let seen = std::mem::take(&mut *forest.shared.lines.lock());
    let words = |lines: &[Line], of: &dyn Fn(usize) -> bool| -> Vec<String> {
        let word = |line: &Line| match line {
            Line::Up(node) => format!("+{}", model.tree.nodes[*node].path),
            Line::Down(node) => format!("-{}", model.tree.nodes[*node].path),
        };
        let lines = lines.iter().filter(|line| of(line.node()));
        lines.map(word).collect()
    };
    if seen == model.lines {
        return;
    }
    let compare = |of: &dyn Fn(usize) -> bool| {
        let (seen, then) = (words(&seen, of), words(&model.lines, of));
        assert_eq!(seen, then, "I3 start order and reverse stop order");
    };
    let in_order = |one, other| one == other || !model.at_once && model.tree.in_order(one, other);
    let nodes: BTreeSet<usize> = seen.iter().chain(&model.lines).map(Line::node).collect();
    let pairs = nodes
        .iter()
        .flat_map(|one| nodes.range(one..).map(|other| (*one, *other)));
    if pairs.clone().all(|(one, other)| in_order(one, other)) {
        return compare(&|_| true);
    }
    for (one, other) in pairs.filter(|(one, other)| in_order(*one, *other)) {
        compare(&|node| node == one || node == other);
    }
}

fn i5_the_books_balance(forest: &Forest) {
    let books = forest.system.census().books();
    assert!(books.balanced(), "I5 the books balance: {books:?}");
}

fn i6_one_live_incarnation(forest: &Forest, then: &[Seen]) {
    for (node, alive) in forest.shared.alive.iter().enumerate() {
        let alive = alive.load(std::sync::atomic::Ordering::Relaxed);
        let worker = forest.shared.tree.nodes[node].is_worker();
        let expected = i32::from(worker && then[node].up);
        let path = &forest.shared.tree.nodes[node].path;
        assert_eq!(alive, expected, "I6 one live incarnation: {path}");
    }
}

/// Where the supervisor lives and did not park it, a permanent child is up within the step, unless
/// something hangs.
fn i9_everything_permanent_is_up(model: &Model, now: &[Seen]) {
    if model.is_held_up() {
        return;
    }
    for (id, node) in model.tree.nodes.iter().enumerate().skip(1) {
        let life = &model.lives[id];
        let rests = life.parked || life.rests;
        let must = life.known && node.restart == Restart::Permanent && !rests;
        if must && now[node.parent].up {
            let path = &node.path;
            assert!(now[id].up, "I9 healed: {path} is permanent and down");
        }
    }
}

/// I8: a stop leaves no actor, no task and no worker's value.
pub(crate) fn i8_nothing_is_left(forest: &Forest) {
    let tasks = forest.runtime.metrics().num_alive_tasks();
    assert_eq!(tasks, forest.tasks_before, "I8 no orphans: tasks");
    let actors = forest.system.census().live()["task"];
    assert_eq!(actors, 0, "I8 no orphans: actors");
    let alive = forest.shared.alive.iter();
    let alive: i32 = alive
        .map(|n| n.load(std::sync::atomic::Ordering::Relaxed))
        .sum();
    assert_eq!(alive, 0, "I8 no orphans: workers");
    let books = forest.system.census().books();
    assert!(books.balanced(), "I5 the books balance: {books:?}");
}
