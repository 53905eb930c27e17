//! Chaos plans in TOML: read, or every mistake said with its place. What was read strikes nobody
//! whom it protects, and no more at once than it says.

use std::time::Duration;

use actorsim_actors::{ActorPath, Time};
use actorsim_supervision::chaos::{Action, Place, Plan, Roster, Schedule, Vitals};

use super::Target;
use super::text::{inputs, placed, text};

pub(crate) const TARGET: Target = Target {
    name: "chaos",
    about: "chaos plans in TOML, and what they strike",
    run,
    seeds,
    words: &[
        "[[fault]]\n",
        "fault = \"kill\"\n",
        "rate = \"5/1s\"\n",
        "scope = \"/fleet\"\n",
        "protect = [\"/twin\"]\n",
        "stop_if = \"",
        "[kinds]\n",
        "for = \"10s\"\n",
        "seed = 7\n",
        "swarm = true\n",
        "max_concurrent = 3\n",
        "blast_radius = 0.5\n",
    ],
    len_max: 4_096,
    heap_max: 16 << 20,
};

const PLACES: [Place; 3] = [Place::Test, Place::Sim, Place::Live];
/// Steps of a plan that are looked at.
const STEPS: usize = 50;

fn seeds() -> Vec<Vec<u8>> {
    inputs(&[
        include_str!("../../../config/chaos/kill-anything.toml"),
        include_str!("../../../config/chaos/live-faults.toml"),
        include_str!("../../../config/chaos/live.toml"),
        include_str!("../../../config/chaos/processes.toml"),
        "rate = \"1000000/1ns\"\nblast_radius = 2\n[[fault]]\nfault = \"kil\"\n",
    ])
}

fn run(input: &[u8]) {
    let Some(text) = text(input) else {
        return;
    };
    for place in PLACES {
        match Plan::from_toml("plan.toml", text, place) {
            Err(errors) => placed(&errors, text),
            Ok(plan) => strikes(&plan),
        }
    }
}

fn strikes(plan: &Plan) {
    let mut roster = Roster::default();
    for (kind, path) in [
        ("device", "/fleet/default/pump-0001"),
        ("device", "/fleet/default/pump-0002"),
        ("link", "/fleet/links/0"),
        ("scan", "/twin/scan"),
        ("node", "/"),
    ] {
        roster.add(kind, ActorPath::new(path).expect("a path"));
    }
    let mut schedule = Schedule::new(plan, 7, Time::ZERO);
    let mut now = Time::ZERO;
    for _ in 0..STEPS {
        let Some(next) = schedule.next_at() else {
            return;
        };
        now = now.max(next) + Duration::from_millis(1);
        let step = schedule.step(now, &roster, &Vitals::default());
        for action in &step.actions {
            let (Action::Begin(strike) | Action::End(strike)) = action;
            assert!(
                plan.admits(&strike.path, strike.plan.fault),
                "{strike} is protected"
            );
            assert!(!strike.to_string().is_empty());
        }
    }
}
