//! The state machine under every order of events that a seed can make, against its invariants.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::*;
use crate::policy::{Backoff, IntensityScope, Strategy, SupervisorPolicy};

/// A child as the world outside sees it.
#[derive(Debug, Clone)]
struct Actor {
    attempt: u64,
    up: bool,
    asked: bool,
    killed: bool,
}

/// Plays the shell and the children; checks every effect on the way.
#[derive(Debug)]
struct World {
    core: Core,
    now: Time,
    alive: BTreeMap<ChildId, Actor>,
    restarts: Vec<Time>,
    last_ended: Option<ChildId>,
    ready: bool,
    finished: bool,
    log: Vec<String>,
}

impl World {
    fn new(policy: SupervisorPolicy, children: &[(Restart, Shutdown, Kind)]) -> Self {
        let mut core = Core::new(Tree::new(policy, 7));
        for (restart, shutdown, kind) in children {
            core.add(
                (*restart, false),
                (*kind, *shutdown),
                Origin::Initial,
                Time(0),
            );
        }
        let mut world = Self {
            core,
            now: Time(0),
            alive: BTreeMap::new(),
            restarts: Vec::new(),
            last_ended: None,
            ready: false,
            finished: false,
            log: Vec::new(),
        };
        world.settle();
        world
    }

    fn settle(&mut self) {
        loop {
            self.core.settle(self.now);
            let mut idle = true;
            while let Some(effect) = self.core.next_effect() {
                idle = false;
                self.log.push(format!("{} {effect:?}", self.now.0));
                self.check(&effect);
            }
            if idle {
                return;
            }
        }
    }

    fn check(&mut self, effect: &Effect) {
        let ending = self.core.ending().is_some();
        match effect {
            Effect::Start(id, attempt) => {
                assert!(!ending, "nothing starts in a supervisor that ends");
                let actor = Actor {
                    attempt: *attempt,
                    up: false,
                    asked: false,
                    killed: false,
                };
                let before = self.alive.insert(*id, actor);
                assert!(
                    before.is_none(),
                    "{id:?} starts while its former life goes on"
                );
                if self.in_order() {
                    let others_start = self.alive.iter().any(|(i, a)| i != id && !a.up);
                    assert!(!others_start, "two starts at once");
                    assert!(
                        !self.alive.values().any(|a| a.asked),
                        "a start during a stop"
                    );
                }
            }
            Effect::Stop(id) | Effect::Cancel(id) | Effect::Kill(id) => {
                let simple = self.core.tree.policy.strategy == Strategy::SimpleOneForOne;
                let first = !self.alive[id].asked;
                if first && !simple && (ending || self.in_order()) {
                    let asked = self.alive.iter().find(|(i, a)| *i != id && a.asked);
                    assert!(
                        asked.is_none(),
                        "{id:?} is stopped while {asked:?} still is"
                    );
                }
                if first && ending && !simple {
                    assert!(
                        self.last_ended.is_none_or(|last| *id < last),
                        "not in reverse order"
                    );
                    self.last_ended = Some(*id);
                }
                let actor = self.alive.get_mut(id).unwrap();
                actor.asked = true;
                actor.killed |= !matches!(effect, Effect::Stop(_));
            }
            Effect::Ended { plan, .. } if plan.decision == Decision::Restart => {
                self.restarts.push(self.now);
            }
            // a thread that hangs holds up a restart, but not the end of the supervisor
            Effect::Stuck(id) if ending => drop(self.alive.remove(id)),
            Effect::Ready => self.ready = true,
            Effect::Finished => {
                assert!(self.alive.is_empty(), "finished with children alive");
                self.finished = true;
            }
            _ => {}
        }
    }

    fn in_order(&self) -> bool {
        self.core.ordered || self.core.tree.policy.strategy.is_ordered()
    }

    /// An operator has another strategy; which one is for good of those that run `simple`.
    fn govern(&mut self, strategy: Strategy) {
        let policy = &mut self.core.tree.policy;
        if policy.strategy != Strategy::SimpleOneForOne {
            policy.strategy = strategy;
        }
        self.settle();
    }

    fn is_up(&self, id: u64) -> bool {
        self.alive.get(&ChildId(id)).is_some_and(|actor| actor.up)
    }

    /// A child that is up ends by itself.
    fn dies(&mut self, id: u64) {
        let actor = self.alive.remove(&ChildId(id)).unwrap();
        let bad = ExitReason::Fault(Fault::new("bad"));
        self.core.exited(ChildId(id), actor.attempt, &bad, self.now);
        self.settle();
    }

    /// What a child was asked to do is done: it is up, or gone in order.
    fn obeys(&mut self, id: u64) {
        let actor = self.alive[&ChildId(id)].clone();
        if actor.up {
            self.alive.remove(&ChildId(id));
            let reason = ExitReason::Shutdown;
            self.core
                .exited(ChildId(id), actor.attempt, &reason, self.now);
        } else {
            self.finish_start(ChildId(id), &actor, 5, true);
        }
        self.settle();
    }

    /// Lets something happen, chosen by `dice`; false if nothing can.
    fn step(&mut self, dice: u32, quiet: bool) -> bool {
        let ids: Vec<ChildId> = self.alive.keys().copied().collect();
        let deadline = self.core.next_deadline();
        let choices = ids.len() + usize::from(deadline.is_some());
        if choices == 0 {
            return false;
        }
        let pick = dice as usize % choices;
        let Some(id) = ids.get(pick).copied() else {
            self.now = self.now.max(deadline.unwrap());
            self.settle();
            return true;
        };
        let actor = self.alive[&id].clone();
        let luck = dice / 64 % 8;
        if !actor.up {
            self.finish_start(id, &actor, luck, quiet);
        } else if actor.killed || (actor.asked && luck < 6) || (!quiet && !actor.asked && luck < 2)
        {
            let reason = match (actor.killed, actor.asked, luck) {
                (true, ..) => ExitReason::Killed,
                (_, true, _) => ExitReason::Shutdown,
                (.., 0) => ExitReason::Normal,
                _ => ExitReason::Fault(Fault::new("bad")),
            };
            self.alive.remove(&id);
            self.core.exited(id, actor.attempt, &reason, self.now);
        } else {
            return !quiet || actor.asked || deadline.is_some();
        }
        self.settle();
        true
    }

    fn finish_start(&mut self, id: ChildId, actor: &Actor, luck: u32, quiet: bool) {
        let fault = Err(Fault::new("start"));
        match luck {
            _ if actor.killed => {
                self.alive.remove(&id);
                self.core
                    .exited(id, actor.attempt, &ExitReason::HostDown, self.now);
                self.core.started(id, actor.attempt, fault, self.now);
            }
            0 if !quiet => {
                self.alive.remove(&id);
                self.core.started(id, actor.attempt, fault, self.now);
                self.core
                    .exited(id, actor.attempt, &ExitReason::HostDown, self.now);
            }
            1 if !quiet => {
                // it was up and is gone before the news of its start came
                self.alive.remove(&id);
                self.core
                    .exited(id, actor.attempt, &ExitReason::Killed, self.now);
                self.core.started(id, actor.attempt, Ok(()), self.now);
            }
            _ => {
                self.alive.get_mut(&id).unwrap().up = true;
                self.core.started(id, actor.attempt, Ok(()), self.now);
            }
        }
    }

    /// Nobody fails any more: runs until nothing can happen.
    fn quiesce(&mut self) {
        for round in 0..10_000_u32 {
            let blocked: BTreeSet<ChildId> = self
                .alive
                .iter()
                .filter(|(_, a)| !a.up || a.asked)
                .map(|(id, _)| *id)
                .collect();
            if blocked.is_empty() {
                let Some(deadline) = self.core.next_deadline() else {
                    return;
                };
                self.now = self.now.max(deadline);
                self.settle();
                continue;
            }
            let pick = *blocked.iter().nth(round as usize % blocked.len()).unwrap();
            let index = self.alive.keys().position(|id| *id == pick).unwrap() as u32;
            let alive = self.alive.len() as u32 + u32::from(self.core.next_deadline().is_some());
            // luck 5: a stop is obeyed, a start succeeds
            let dice = (0..64).map(|k| index + k * alive).find(|d| d / 64 % 8 == 5);
            self.step(dice.unwrap_or(index), true);
        }
        panic!(
            "it does not come to rest: {:#?}",
            self.log.iter().rev().take(20).collect::<Vec<_>>()
        );
    }
}

fn shutdowns() -> impl proptest::strategy::Strategy<Value = Shutdown> {
    prop_oneof![
        Just(Shutdown::BrutalKill),
        Just(Shutdown::After(Duration::from_millis(5))),
        Just(Shutdown::Infinity),
    ]
}

fn children() -> impl proptest::strategy::Strategy<Value = Vec<(Restart, Shutdown, Kind)>> {
    let restart = prop_oneof![
        3 => Just(Restart::Permanent),
        1 => Just(Restart::Transient),
        1 => Just(Restart::Temporary),
    ];
    let kind = prop_oneof![Just(Kind::Worker), Just(Kind::Supervisor)];
    proptest::collection::vec((restart, shutdowns(), kind), 1..6)
}

fn policies() -> impl proptest::strategy::Strategy<Value = SupervisorPolicy> {
    let strategy = prop_oneof![
        Just(Strategy::OneForOne),
        Just(Strategy::OneForAll),
        Just(Strategy::RestForOne),
        Just(Strategy::SimpleOneForOne),
    ];
    let growing = Backoff {
        min: Duration::from_millis(1),
        max: Duration::from_secs(30),
        factor: 10.0,
        jitter: 0.5,
        reset_after: Duration::from_millis(100),
    };
    let backoff = prop_oneof![
        Just(None),
        Just(Some(Backoff::default())),
        Just(Some(growing))
    ];
    let budget = prop_oneof![Just(None), (1_u32..100).prop_map(Some)];
    (strategy, 0_u32..6, any::<bool>(), backoff, budget).prop_map(
        |(strategy, intensity, child, backoff, budget)| {
            let mut policy =
                SupervisorPolicy::new(strategy).intensity(intensity, Duration::from_secs(1));
            if child {
                policy = policy.quarantine();
            }
            policy.backoff = backoff;
            policy.restart_budget_per_s = budget;
            policy
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 5_000,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_order_of_events_keeps_the_invariants(
        policy in policies(),
        children in children(),
        dice in proptest::collection::vec(any::<u32>(), 0..120),
        ends in any::<bool>(),
    ) {
        let mut world = World::new(policy.clone(), &children);
        for dice in dice {
            match dice >> 24 {
                0..8 => world.govern(Strategy::OneForOne),
                8..16 => world.govern(Strategy::OneForAll),
                16..24 => world.govern(Strategy::RestForOne),
                _ => drop(world.step(dice, false)),
            }
        }
        if ends {
            world.core.end(End::Asked);
            world.settle();
        }
        world.quiesce();

        if policy.intensity_scope == IntensityScope::Supervisor {
            for (i, at) in world.restarts.iter().enumerate() {
                let within = world.restarts[i..].iter().filter(|t| **t - *at <= policy.period);
                prop_assert!(within.count() <= policy.intensity as usize, "{:#?}", world.log);
            }
        }
        prop_assert_eq!(world.core.ending().is_some(), world.finished);
        prop_assert!(!ends || world.finished);
        if !world.finished {
            prop_assert!(world.ready);
            for (id, node) in &world.core.tree.children {
                let shown = world.core.shown(*id);
                let expected: &[Option<Shown>] = match node.restart {
                    Restart::Permanent => &[Some(Shown::Up), Some(Shown::Quarantined)],
                    _ => &[Some(Shown::Up), Some(Shown::Quarantined), Some(Shown::Down)],
                };
                prop_assert!(expected.contains(&shown), "{id:?} is {shown:?}: {:#?}", world.log);
            }
        }
    }
}

#[test]
fn a_killed_supervisor_is_waited_for_as_long_as_its_children_take() {
    let brutal = (Restart::Permanent, Shutdown::BrutalKill, Kind::Supervisor);
    let mut world = World::new(SupervisorPolicy::default(), &[brutal]);
    world.quiesce();
    world.core.end(End::Asked);
    world.settle();
    assert!(world.alive[&ChildId(0)].killed);
    assert_eq!(world.core.next_deadline(), None);
    world.quiesce();
    assert!(world.finished);
}

#[test]
fn a_group_restart_keeps_its_order_when_the_strategy_is_changed_meanwhile() {
    let child = (Restart::Permanent, Shutdown::Infinity, Kind::Worker);
    let policy = SupervisorPolicy::new(Strategy::OneForAll).intensity(3, Duration::from_secs(5));
    let mut world = World::new(policy, &[child, child, child]);
    world.quiesce();
    world.dies(0);
    world.govern(Strategy::OneForOne);
    assert!(world.alive[&ChildId(2)].asked && !world.alive[&ChildId(1)].asked);
    world.obeys(2);
    assert!(!world.alive.contains_key(&ChildId(0)), "1 is not gone yet");
    world.obeys(1);
    let starting = |world: &World| world.alive.keys().map(|id| id.0).collect::<Vec<_>>();
    assert_eq!(starting(&world), [0], "one after the other");
    world.obeys(0);
    assert_eq!(starting(&world), [0, 1]);
    world.obeys(1);
    world.obeys(2);
    assert!((0..3).all(|id| world.is_up(id)));
    world.dies(0);
    assert_eq!(starting(&world).len(), 3, "and then the new one holds");
    assert!(world.is_up(1) && world.is_up(2) && !world.is_up(0));
}

/// The wait before each restart of a child whose starts take this long, and who then lives so long.
fn waits_of(start: Duration, life: Option<Duration>) -> Vec<Duration> {
    let backoff = Backoff {
        jitter: 0.0,
        reset_after: Duration::from_secs(5),
        ..Backoff::default()
    };
    let policy = SupervisorPolicy::default()
        .intensity(9, Duration::from_secs(60))
        .backoff(backoff);
    let child = (Restart::Permanent, Shutdown::BrutalKill, Kind::Worker);
    let mut world = World::new(policy, &[child]);
    world.quiesce();
    world.dies(0);
    let mut waits = Vec::new();
    while waits.len() < 3 {
        let due = world.core.next_deadline().unwrap();
        waits.push(due - world.now);
        world.now = due;
        world.settle();
        world.now = world.now + start;
        if let Some(life) = life {
            world.obeys(0);
            world.now = world.now + life;
            world.dies(0);
        } else {
            let actor = world.alive[&ChildId(0)].clone();
            world.finish_start(ChildId(0), &actor, 0, false);
            world.settle();
        }
    }
    waits
}

#[test]
fn a_backoff_grows_however_long_a_start_takes() {
    let grows = [50, 100, 200].map(Duration::from_millis);
    let life = Some(Duration::from_secs(1));
    assert_eq!(waits_of(Duration::ZERO, life), grows);
    assert_eq!(waits_of(Duration::from_secs(10), life), grows);
    assert_eq!(waits_of(Duration::from_secs(10), None), grows);
}

#[test]
fn a_backoff_begins_anew_once_a_child_has_lived_long_enough() {
    let waits = |ms| waits_of(Duration::ZERO, Some(Duration::from_millis(ms)));
    assert_eq!(waits(5_000), [50; 3].map(Duration::from_millis));
    assert_eq!(waits(4_999), [50, 100, 200].map(Duration::from_millis));
}

#[test]
fn a_child_that_survives_its_kill_is_reported_and_does_not_hold_up_the_end() {
    let brutal = (Restart::Permanent, Shutdown::BrutalKill, Kind::Worker);
    let mut world = World::new(SupervisorPolicy::default(), &[brutal, brutal]);
    world.quiesce();
    world.core.end(End::Asked);
    world.settle();
    let stuck = *world.alive.iter().find(|(_, a)| a.killed).unwrap().0;
    world.now = world.core.next_deadline().unwrap();
    assert!(world.alive.contains_key(&stuck));
    world.settle();
    assert!(world.log.iter().any(|l| l.contains("Stuck")));
    world.quiesce();
    assert!(world.finished);
}

/// Child 1 is added or started again, and its sibling dies before it has been started, or while it
/// is; then it is started for good.
fn cut_short(policy: &SupervisorPolicy, origin: Origin, pending: bool) -> World {
    let terms = (Restart::Permanent, Shutdown::BrutalKill, Kind::Worker);
    let first = match origin {
        Origin::Added => vec![terms],
        _ => vec![terms, terms],
    };
    let mut world = World::new(policy.clone(), &first);
    world.quiesce();
    let child = ChildId(1);
    if origin == Origin::Added {
        let how = (terms.2, terms.1);
        world
            .core
            .add((terms.0, false), how, Origin::Added, world.now);
    } else {
        world.core.terminate(child);
        world.settle();
        let actor = world.alive.remove(&child).unwrap();
        world
            .core
            .exited(child, actor.attempt, &ExitReason::Shutdown, world.now);
        world.settle();
        world.log.clear();
        world.core.restart(child, world.now);
    }
    if !pending {
        world.settle();
    }
    world.dies(0);
    if !pending {
        world.obeys(1);
    }
    world.obeys(0);
    assert!(!world.log.iter().any(|l| l.contains("Started(ChildId(1)")));
    assert!(world.alive.contains_key(&child));
    world
}

#[test]
fn who_waits_for_a_start_that_a_group_restart_cuts_short_is_told_of_the_next() {
    let escalating =
        SupervisorPolicy::new(Strategy::OneForAll).intensity(3, Duration::from_secs(5));
    let parking = escalating.clone().quarantine();
    for (policy, origin, pending) in [
        (&parking, Origin::Added, false),
        (&parking, Origin::Added, true),
        (&escalating, Origin::Added, false),
        (&escalating, Origin::Asked, false),
        (&parking, Origin::Asked, true),
    ] {
        let case = format!("{origin:?}, pending {pending}");
        let mut up = cut_short(policy, origin, pending);
        up.obeys(1);
        let told = |world: &World, what| world.log.iter().any(|line| line.contains(what));
        assert!(told(&up, "Started(ChildId(1), Ok"), "{case}");
        assert!(up.is_up(1), "{case}");

        // it does not start, and nobody tries again behind the asker's back
        let mut fails = cut_short(policy, origin, pending);
        fails.core.tree.policy.intensity = 0;
        let actor = fails.alive[&ChildId(1)].clone();
        fails.finish_start(ChildId(1), &actor, 0, false);
        fails.settle();
        let why = "Started(ChildId(1), Err(Fault { code: \"start\"";
        assert!(told(&fails, why), "{case}");
        let shown = match origin {
            Origin::Added => None,
            _ => Some(Shown::Down),
        };
        assert_eq!(fails.core.shown(ChildId(1)), shown, "{case}");
        assert!(fails.is_up(0) && !fails.finished, "{case}");
    }
}

#[test]
fn who_is_terminated_before_it_has_been_up_once_was_never_added() {
    for starting in [false, true] {
        let mut world = World::new(SupervisorPolicy::default(), &[]);
        let how = (Kind::Worker, Shutdown::BrutalKill);
        let added = (Restart::Permanent, false);
        let child = world.core.add(added, how, Origin::Added, world.now);
        if starting {
            world.settle();
        }
        world.core.terminate(child);
        world.settle();
        if starting {
            world.obeys(child.0);
        }
        assert_eq!(world.core.shown(child), None, "starting: {starting}");
        let told = world
            .log
            .iter()
            .position(|l| l.contains("Started(ChildId(0), Err"));
        let down = world
            .log
            .iter()
            .position(|l| l.contains("Down(ChildId(0))"));
        assert!(told.is_some() && told < down, "{:#?}", world.log);
    }
}

#[test]
fn who_waits_for_a_start_that_hangs_is_told_when_the_supervisor_ends_without_it() {
    let mut world = World::new(SupervisorPolicy::default(), &[]);
    let how = (Kind::Worker, Shutdown::BrutalKill);
    let added = (Restart::Permanent, false);
    world.core.add(added, how, Origin::Added, world.now);
    world.settle();
    world.core.end(End::Asked);
    world.settle();
    assert!(!world.finished && !world.log.iter().any(|l| l.contains("Started")));
    world.now = world.core.next_deadline().unwrap();
    world.settle();
    let told = "Started(ChildId(0), Err(Fault { code: \"start_hangs\"";
    assert!(world.finished && world.log.iter().any(|l| l.contains(told)));
}
