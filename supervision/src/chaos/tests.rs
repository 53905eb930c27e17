//! Plans, good and bad, and what their schedules draw.

use std::time::Duration;

use actorsim_actors::{ActorPath, Time};

use super::*;
use crate::config::render_all;

const SECOND: Duration = Duration::from_secs(1);

fn path(text: &str) -> ActorPath {
    ActorPath::new(text).unwrap()
}

fn plan(text: &str) -> Plan {
    Plan::from_toml("p.toml", text, Place::Sim).unwrap_or_else(|e| panic!("{}", render_all(&e)))
}

/// A node in small: one scan, three tiers, many devices.
fn roster() -> Roster {
    let mut roster = Roster::default();
    roster.add("root", path("/"));
    roster.add("scan", path("/twin/scan"));
    for tier in ["t1", "t2", "t3"] {
        roster.add("tier", path(&format!("/transport/tier-{tier}")));
    }
    for device in 0..100 {
        roster.add("device", path(&format!("/fleet/default/pump-{device:04}")));
    }
    roster
}

fn strikes(schedule: &mut Schedule, until: Time, census: &impl Census) -> Vec<Strike> {
    let mut made = Vec::new();
    while let Some(at) = schedule.next_at().filter(|at| *at <= until) {
        for action in schedule.step(at, census, &Vitals::default()).actions {
            if let Action::Begin(strike) = action {
                made.push(strike);
            }
        }
    }
    made
}

#[test]
fn shipped_plans_load_in_their_place() {
    for (place, name, text) in plan::SHIPPED {
        let plan = Plan::from_toml(name, text, place);
        plan.unwrap_or_else(|errors| panic!("{}", render_all(&errors)));
    }
}

/// Text, place, line and column, message, mend.
const BAD: &[(&str, Place, &str, &str, &str)] = &[
    ("rate = \"5\"", Place::Sim, "1:8", "is no rate", "\"5/1s\""),
    (
        "rate = \"0/1s\"",
        Place::Sim,
        "1:8",
        "is no rate",
        "\"1/10s\"",
    ),
    (
        "rate = 5",
        Place::Sim,
        "1:8",
        "rate is an integer",
        "a string",
    ),
    (
        "sed = 1",
        Place::Sim,
        "1:1",
        "unknown key \"sed\"",
        "did you mean \"seed\"?",
    ),
    (
        "seed = -1",
        Place::Sim,
        "1:8",
        "out of bounds",
        "a whole number from 0",
    ),
    (
        "scope = \"fleet\"",
        Place::Sim,
        "1:9",
        "must begin with '/'",
        "'*' stands for",
    ),
    (
        "protect = [\"/a\", 7]",
        Place::Sim,
        "1:18",
        "holds an integer",
        "strings",
    ),
    (
        "for = \"0s\"",
        Place::Sim,
        "1:7",
        "for is no time",
        "\"10s\"",
    ),
    (
        "lease = \"soon\"",
        Place::Sim,
        "1:9",
        "\"soon\" is no duration",
        "with its unit",
    ),
    (
        "stop_if = \"mood < 1\"",
        Place::Sim,
        "1:11",
        "no stop condition",
        "write health",
    ),
    (
        "stop_if = \"health < 0.5\"",
        Place::Sim,
        "1:11",
        "stop_if cannot act",
        "leave it out",
    ),
    (
        "max_concurrent = 0",
        Place::Sim,
        "1:18",
        "out of bounds",
        "from 1 to 1024",
    ),
    (
        "blast_radius = 1.5",
        Place::Sim,
        "1:16",
        "out of bounds",
        "from 0 to 1",
    ),
    (
        "[faults]\ndelay_msg = { delay = \"11s\" }",
        Place::Live,
        "2:23",
        "delay is too long",
        "use at most 10s",
    ),
    (
        "[faults]\nkil = 1",
        Place::Sim,
        "2:1",
        "unknown key \"kil\"",
        "\"kill\"",
    ),
    (
        "[faults]\nkill = 0",
        Place::Sim,
        "1:1",
        "no fault can happen",
        "at least 1",
    ),
    (
        "[faults]\nkill = 1\npartition = { for = \"1s\", way = \"left\" }",
        Place::Sim,
        "3:33",
        "is no way",
        "one of \"both\"",
    ),
    (
        "[faults]\nkill = 1\nnode_pause = 1",
        Place::Live,
        "3:14",
        "node_pause cannot act in a live node",
        "SIGSTOP from outside",
    ),
    (
        "[faults]\nswizzle = 1",
        Place::Sim,
        "1:1",
        "swizzle strikes two at once, max_concurrent is 1",
        "max_concurrent = 2",
    ),
    (
        "max_concurrent = 1\n[faults]\nswizzle = 1",
        Place::Sim,
        "1:18",
        "swizzle strikes two at once",
        "max_concurrent = 2",
    ),
    (
        "[kinds]\ndevice = \"many\"",
        Place::Sim,
        "2:10",
        "device is not a whole number",
        "from 0",
    ),
];

#[test]
fn each_bad_plan_says_where_and_how_to_mend_it() {
    for (text, place, at, message, mend) in BAD.iter().copied() {
        let errors = Plan::from_toml("p.toml", text, place).unwrap_err();
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        let told = errors[0].to_string();
        assert!(
            told.starts_with(&format!("p.toml:{at}: ")),
            "{text}: {told}"
        );
        assert!(
            told.contains(message) && errors[0].help.contains(mend),
            "{text}: {told}"
        );
    }
}

#[test]
fn all_mistakes_of_a_plan_are_told_at_once() {
    let text = "rate = 1\nscope = \"x\"\n[faults]\nnode_crash = 1\nkill = { weigth = 1 }\n";
    let errors = Plan::from_toml("p.toml", text, Place::Live).unwrap_err();
    let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [1, 2, 4, 5], "{}", render_all(&errors));
}

#[test]
fn every_fault_is_in_the_vocabulary_and_says_where_it_cannot_act() {
    for entry in &fault::FAULTS {
        assert_eq!(entry.fault.name(), entry.name);
        for place in [Place::Test, Place::Sim, Place::Live] {
            let text = format!("max_concurrent = 2\n[faults]\n{} = 1\n", entry.name);
            let loaded = Plan::from_toml("p.toml", &text, place);
            assert_eq!(
                loaded.is_ok(),
                entry.why_not(place).is_none(),
                "{} {place}",
                entry.name
            );
        }
    }
}

#[test]
fn the_same_seed_draws_the_same_strikes_and_another_seed_others() {
    let plan = plan("rate = \"10/1s\"\nmax_concurrent = 64\n[faults]\nkill = 1\nstop = 1");
    let draw = |seed| {
        strikes(
            &mut Schedule::new(&plan, seed, Time::ZERO),
            Time(9e9 as u64),
            &roster(),
        )
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    assert_eq!(draw(7).len(), 90);
}

#[test]
fn every_kind_is_hit_as_often_as_its_weight_says() {
    let plan = plan("rate = \"30/1s\"\n[kinds]\ndevice = 2\nnobody = 5");
    let mut schedule = Schedule::new(&plan, 1, Time::ZERO);
    let made = strikes(&mut schedule, Time(10e9 as u64), &roster());
    let counts = schedule.counts();
    assert_eq!(counts.total() as usize, made.len());
    assert_eq!(counts.on("root"), 0, "the root is never hit");
    for (kind, share) in [("scan", 75), ("tier", 75), ("device", 150)] {
        assert!(counts.on(kind).abs_diff(share) <= 1, "{kind}: {counts:?}");
    }
    let devices: std::collections::BTreeSet<_> = made
        .iter()
        .filter(|s| s.kind == "device")
        .map(|s| s.index)
        .collect();
    assert!(
        devices.len() > 60,
        "victims of a kind are spread: {}",
        devices.len()
    );
}

#[test]
fn scope_and_protection_hold() {
    let text = "rate = \"100/1s\"\nscope = \"/transport\"\nprotect = [\"/transport/*-t2\"]";
    let mut schedule =
        Schedule::new(&plan(text), 3, Time::ZERO).protect(["/transport/tier-t1".to_owned()]);
    let made = strikes(&mut schedule, Time(1e9 as u64), &roster());
    assert!(!made.is_empty());
    assert!(
        made.iter()
            .all(|strike| strike.path.as_str() == "/transport/tier-t3"),
        "{made:?}"
    );
}

#[test]
fn victims_that_are_not_back_bound_what_is_hit() {
    let plan =
        plan("rate = \"10/1s\"\nmax_concurrent = 3\nblast_radius = 0.02\nscope = \"/fleet\"");
    let mut schedule = Schedule::new(&plan, 3, Time::ZERO);
    let mut census = roster();
    let mut hit = 0;
    for at in 1..=40 {
        let now = Time(at * 100_000_000);
        for action in schedule.step(now, &census, &Vitals::default()).actions {
            let Action::Begin(strike) = action else {
                panic!("kills do not end")
            };
            census.down(strike.path);
            hit += 1;
        }
    }
    assert_eq!(hit, 2, "two of a hundred devices are the blast radius");
    assert!(schedule.counts().missed() > 30);
}

/// Nine links.
struct Links;

impl Census for Links {
    fn kinds(&self) -> Vec<Kind<'_>> {
        vec![Kind {
            name: "link",
            count: 9,
        }]
    }
    fn path(&self, _: usize, index: u64) -> ActorPath {
        path(&format!("/fleet/links/{index}"))
    }
    fn is_down(&self, _: &ActorPath) -> bool {
        false
    }
    fn takes(&self, _: usize, fault: Fault) -> bool {
        fault.hits_link()
    }
}

#[test]
fn what_lasts_is_healed_also_when_the_plan_ends() {
    let text = "rate = \"1/1s\"\nfor = \"4s\"\nmax_concurrent = 9\n[faults]\n\
                partition = { weight = 1, for = \"1500ms\" }";
    let mut schedule = Schedule::new(&plan(text), 5, Time::ZERO);
    let (mut begun, mut ended) = (Vec::new(), Vec::new());
    while let Some(at) = schedule.next_at() {
        let step = schedule.step(at, &Links, &Vitals::default());
        for action in step.actions {
            match action {
                Action::Begin(strike) => begun.push(strike.number),
                Action::End(strike) => ended.push(strike.number),
            }
        }
        if let Some(over) = step.over {
            assert_eq!((over, at), (Over::Time, Time::ZERO + 4 * SECOND));
        }
    }
    assert_eq!((begun.len(), begun), (4, ended));
}

/// What a plan of swizzles does until it ends: links clogged and freed, in order.
fn swizzled(schedule: &mut Schedule) -> Vec<(Time, bool, String)> {
    let mut told = Vec::new();
    let mut clogged = std::collections::BTreeSet::new();
    while let Some(at) = schedule.next_at() {
        let step = schedule.step(at, &Links, &Vitals::default());
        for action in step.actions {
            let (begins, strike) = match action {
                Action::Begin(strike) => (true, strike),
                Action::End(strike) => (false, strike),
            };
            let link = strike.path.as_str().to_owned();
            let changed = match begins {
                true => clogged.insert(link.clone()),
                false => clogged.remove(&link),
            };
            assert!(changed, "{strike} begins: {begins}");
            assert!(clogged.len() <= 4, "as many as may be down: {clogged:?}");
            assert!(strike.label().starts_with(&format!("#{}.", strike.number)));
            told.push((at, begins, link));
        }
    }
    assert!(clogged.is_empty(), "still clogged: {clogged:?}");
    told
}

#[test]
fn a_swizzle_clogs_links_one_by_one_and_frees_them_in_another_order() {
    let text = "rate = \"1/3s\"\nfor = \"90s\"\nmax_concurrent = 5\nblast_radius = 0.5\n\
                [faults]\nswizzle = { for = \"2s\", way = \"up\" }";
    let made = |seed| {
        let mut schedule = Schedule::new(&plan(text), seed, Time::ZERO);
        let told = swizzled(&mut schedule);
        (told, schedule.counts().clone())
    };
    let (told, counts) = made(5);
    let strikes = counts.by("link", Fault::Swizzle);
    assert_eq!((strikes + counts.missed(), counts.total()), (30, strikes));
    let begun = told.iter().filter(|(_, begins, _)| *begins).count() as u64;
    assert!(
        begun >= 2 * strikes && begun <= 4 * strikes,
        "{begun} of {strikes}"
    );
    let end = Time::ZERO + 90 * SECOND; // which heals all at once
    let before = told.iter().map(|(at, ..)| *at).take_while(|at| *at < end);
    assert!(before.is_sorted_by(|a, b| a < b), "one by one: {told:?}");
    assert_eq!(made(5), (told, counts), "I11 same seed, same hash");
    assert_ne!(made(6).0, made(5).0);
}

#[test]
fn a_swizzle_that_is_cut_short_leaves_no_link_clogged_and_clogs_no_other() {
    let text = "rate = \"1/1s\"\nmax_concurrent = 9\nlease = \"3s\"\n[faults]\n\
                swizzle = { for = \"60s\" }";
    let mut schedule = Schedule::new(&plan(text), 5, Time::ZERO);
    schedule.renew(Time::ZERO);
    swizzled(&mut schedule.clone()); // its lease ends in the middle
    let mut open = 0;
    for _ in 0..3 {
        let at = schedule.next_at().unwrap();
        open += schedule.step(at, &Links, &Vitals::default()).actions.len();
    }
    let ends = schedule.stop();
    assert!(ends.iter().all(|action| matches!(action, Action::End(_))));
    assert_eq!((ends.len(), schedule.next_at()), (open, None));
}

#[test]
fn a_plan_stops_itself_by_its_condition_or_when_its_lease_ends() {
    let sick = Vitals {
        health: 0.5,
        ..Vitals::default()
    };
    let text = "stop_if = \"health < 0.9\"";
    let with_condition = Plan::from_toml("p.toml", text, Place::Live).unwrap();
    let mut schedule = Schedule::new(&with_condition, 1, Time::ZERO);
    assert_eq!(
        schedule.step(Time(1), &roster(), &Vitals::default()).over,
        None
    );
    let last = schedule.step(Time::ZERO + 9 * SECOND, &roster(), &sick);
    assert_eq!(last.over.unwrap().to_string(), "health < 0.9");
    let strikes = |action: &Action| matches!(action, Action::Begin(_));
    assert!(!last.actions.iter().any(strikes), "it strikes nobody first");
    assert_eq!(schedule.next_at(), None);

    let mut schedule = Schedule::new(&plan("lease = \"3s\""), 1, Time::ZERO);
    schedule.renew(Time::ZERO);
    schedule.renew(Time::ZERO + SECOND);
    assert_eq!(
        schedule
            .step(Time::ZERO + 3 * SECOND, &roster(), &sick)
            .over,
        None
    );
    let over = schedule
        .step(Time::ZERO + 4 * SECOND, &roster(), &sick)
        .over;
    assert_eq!(over, Some(Over::Lease));
}

#[test]
fn a_shortened_list_keeps_the_draws_of_the_strikes_that_stay() {
    let plan = plan("rate = \"10/1s\"\nscope = \"/fleet\"");
    let until = Time(3e9 as u64);
    let all = strikes(&mut Schedule::new(&plan, 9, Time::ZERO), until, &roster());
    let mut only = Schedule::new(&plan, 9, Time::ZERO).only([4, 20].into());
    let some = strikes(&mut only, until, &roster());
    let kept: Vec<_> = all
        .into_iter()
        .filter(|s| [4, 20].contains(&s.number))
        .collect();
    assert_eq!(some, kept);
}

#[test]
fn leaving_strikes_out_does_not_turn_the_others_on_somebody_else() {
    // Short ones: what is still struck is passed over, and that differs.
    let faults = "kill = 1\nhang = { weight = 2, for = \"20ms\" }";
    let plan = plan(&format!(
        "rate = \"10/1s\"\nmax_concurrent = 4\n[faults]\n{faults}"
    ));
    let until = Time(9e9 as u64);
    let all = strikes(&mut Schedule::new(&plan, 9, Time::ZERO), until, &roster());
    let third: Vec<_> = all.into_iter().filter(|s| s.number % 3 == 0).collect();
    let numbers = third.iter().map(|strike| strike.number).collect();
    let mut only = Schedule::new(&plan, 9, Time::ZERO).only(numbers);
    let kinds = |made: &[Strike]| -> Vec<_> {
        let told = made
            .iter()
            .map(|s| (s.number, s.plan.fault, s.kind.clone()));
        told.collect()
    };
    assert_eq!(kinds(&strikes(&mut only, until, &roster())), kinds(&third));
}

#[test]
fn the_swarm_draws_another_mix_for_each_seed_and_never_an_empty_one() {
    let plan = plan("swarm = true\n[faults]\nkill = 1\nstop = 1\npanic = 1");
    let mix = |seed| -> Vec<u64> {
        let schedule = Schedule::new(&plan, seed, Time::ZERO);
        schedule
            .plan()
            .faults
            .iter()
            .map(|fault| fault.weight)
            .collect()
    };
    let mixes: std::collections::BTreeSet<_> = (0..200).map(mix).collect();
    assert!(mixes.len() > 20);
    assert!(mixes.iter().all(|mix| mix.iter().sum::<u64>() > 0));
}
