//! What a scenario is: a name, a label that says exactly what is counted, its shapes, its metrics,
//! the child that is measured and the peers that can do the same. The list of all of them.
//!
//! It runs nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use peer_probe::Job;
use serde_json::Value;

use crate::{
    cold, connect_storm, echo, encode, entity, exactly_once, fan_out, idle, journal, loss, memory,
    mqtt, one_way, ping_pong, pipeline, pipeline_rate, quic, restart, ring, scan, skew, soak,
    spawn, storm, timers, tls,
};

/// Every scenario, in the order of `list`.
pub(crate) const SCENARIOS: &[&Scenario] = &[
    &memory::SCENARIO,
    &spawn::SCENARIO,
    &ping_pong::SCENARIO,
    &fan_out::SCENARIO,
    &one_way::SCENARIO,
    &ring::SCENARIO,
    &skew::SCENARIO,
    &idle::SCENARIO,
    &timers::SCENARIO,
    &cold::SCENARIO,
    &echo::SCENARIO,
    &restart::SCENARIO,
    &storm::SCENARIO,
    &scan::SCENARIO,
    &quic::SCENARIO,
    &journal::SCENARIO,
    &pipeline::SCENARIO,
    &pipeline_rate::SCENARIO,
    &loss::SCENARIO,
    &entity::SCENARIO,
    &exactly_once::SCENARIO,
    &mqtt::SCENARIO,
    &soak::SCENARIO,
    &connect_storm::SCENARIO,
    &tls::SCENARIO,
    &encode::SCENARIO,
];

/// Longest measurement of a child, where a scenario has no reason for another.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Longest measurement by time of a peer: what is told of it is a rate.
const PEER_SECONDS_MAX: u64 = 30;

/// One thing that is measured.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What exactly is counted, in or out of process.
    pub(crate) label: &'static str,
    pub(crate) shapes: Shapes,
    /// Enough to see that it works.
    pub(crate) smoke: Load,
    pub(crate) metrics: &'static [Metric],
    /// Our side: runs in a process of its own and returns its metrics by name.
    pub(crate) child: fn(&Job) -> Result<Value, String>,
    /// Names of the peers that have it, in the order of the runs.
    pub(crate) peers: &'static [&'static str],
    /// Shapes that not every peer has, and which have them.
    pub(crate) own_shapes: &'static [(&'static str, &'static [&'static str])],
    /// The largest sizes of peers that would take too long or too much memory. What is a rate or is
    /// counted for each needs no equal count; a shape that is named by its size is left out.
    pub(crate) peer_sizes: &'static [(&'static str, u64)],
    /// A child that takes longer than this, and the time that it measures, is killed and counted as
    /// failed.
    pub(crate) time_limit: Duration,
    /// What a participant may need of each; a shape that does not fit is skipped.
    pub(crate) bytes_each_max: u64,
}

/// One number out of a child's line, which has it under the same name.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
}

/// Shorthand for the tables of metrics.
pub(crate) const fn metric(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit }
}

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Actors, messages or restarts: the label says which.
    pub(crate) size: u64,
    /// The length of what is measured by time; else 0.
    pub(crate) seconds: u64,
}

/// The variants of a scenario.
#[derive(Debug)]
pub(crate) enum Shapes {
    /// Named by how many there are, and by what else is different: an ending of the name and the
    /// sizes of each form.
    Sizes {
        forms: &'static [(&'static str, &'static [u64])],
        seconds: u64,
    },
    /// Named by what is different, each with its own load.
    Named(&'static [(&'static str, Load)]),
    /// Only one, without a name.
    One(Load),
}

/// A variant, to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// None where there is only one.
    pub(crate) name: Option<String>,
    pub(crate) load: Load,
}

impl Scenario {
    /// Whether this peer has such a form.
    pub(crate) fn has(&self, peer: &str, shape: &Shape) -> bool {
        let mut own = self.own_shapes.iter();
        let found = own.find(|(name, _)| *name == shape.word());
        found.is_none_or(|(_, peers)| peers.contains(&peer))
    }

    /// What this peer is given instead; none if it is left out of this shape.
    pub(crate) fn load_of(&self, peer: &str, shape: &Shape) -> Option<Load> {
        let mut load = shape.load;
        load.seconds = load.seconds.min(PEER_SECONDS_MAX);
        if !self.has(peer, shape) {
            return None;
        }
        if let Some((_, most)) = self.peer_sizes.iter().find(|(name, _)| *name == peer)
            && *most < load.size
        {
            if matches!(self.shapes, Shapes::Sizes { .. }) {
                return None;
            }
            load.size = *most;
        }
        Some(load)
    }

    /// The shapes to run; with sizes given, each with those. Of shapes that differ in their size
    /// alone a smoke run takes the first.
    pub(crate) fn shapes(&self, given: &[u64], smoke: bool) -> Vec<Shape> {
        let sizes = |own: &[u64]| match given {
            [] if smoke => vec![self.smoke.size],
            [] => own.to_vec(),
            given => given.to_vec(),
        };
        let shape = |name: Option<String>, size, seconds| Shape {
            name,
            load: Load {
                size,
                seconds: if smoke { self.smoke.seconds } else { seconds },
            },
        };
        let with_sizes = |name: Option<&str>, load: Load| -> Vec<Shape> {
            let of = |size| shape(name.map(str::to_owned), size, load.seconds);
            sizes(&[load.size]).into_iter().map(of).collect()
        };
        match self.shapes {
            Shapes::One(load) => with_sizes(None, load),
            Shapes::Named(shapes) => {
                let mut seen = BTreeSet::new();
                let shapes = shapes.iter();
                let kept = shapes.filter(|(name, load)| !smoke || seen.insert(form(name, *load)));
                kept.flat_map(|(name, load)| with_sizes(Some(name), *load))
                    .collect()
            }
            Shapes::Sizes { forms, seconds } => {
                let of = |ending: &str, size| shape(Some(spoken(size) + ending), size, seconds);
                let with_sizes = |(ending, own): &(&str, &[u64])| -> Vec<Shape> {
                    let sizes = sizes(own).into_iter();
                    sizes.map(|size| of(ending, size)).collect()
                };
                forms.iter().flat_map(with_sizes).collect()
            }
        }
    }
}

/// The name of a shape without its size, where it begins with that.
fn form(name: &'static str, load: Load) -> &'static str {
    name.strip_prefix(&*spoken(load.size)).unwrap_or(name)
}

impl Shape {
    /// For people, and for the child.
    pub(crate) fn word(&self) -> &str {
        self.name.as_deref().unwrap_or("-")
    }
}

/// A number as people say it.
fn spoken(n: u64) -> String {
    match n {
        n if n >= 1_000_000 && n % 1_000_000 == 0 => format!("{}m", n / 1_000_000),
        n if n >= 1_000 && n % 1_000 == 0 => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_named_as_people_say_them() {
        let names = [10, 999, 1_000, 1_500, 10_000, 100_000, 1_000_000, 7_000_000].map(spoken);
        assert_eq!(
            names,
            ["10", "999", "1k", "1500", "10k", "100k", "1m", "7m"]
        );
    }

    #[test]
    fn scenario_names_are_unique() {
        let mut names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }

    #[test]
    fn a_slow_peer_does_less_and_is_left_out_where_the_shape_is_the_size() {
        let loads = |scenario: &Scenario, peer| -> Vec<Option<u64>> {
            let shapes = scenario.shapes(&[], false);
            let loads = shapes.iter().map(|shape| scenario.load_of(peer, shape));
            loads.map(|load| Some(load?.size)).collect()
        };
        let left_out = [Some(10_000), Some(100_000), None];
        assert_eq!(loads(&memory::SCENARIO, "ractor"), left_out);
        assert_eq!(loads(&restart::SCENARIO, "erlang"), [Some(20_000); 2]);
        assert_eq!(
            loads(&restart::SCENARIO, "actix"),
            [Some(2_000_000), Some(500_000)]
        );
    }

    #[test]
    fn a_given_size_and_a_smoke_run_replace_the_loads_of_all_shapes() {
        let seen = |scenario: &Scenario, given: &[u64], smoke| -> Vec<(String, u64)> {
            let shapes = scenario.shapes(given, smoke);
            let seen = |shape: &Shape| (shape.word().to_owned(), shape.load.size);
            shapes.iter().map(seen).collect()
        };
        let memory = &memory::SCENARIO;
        assert_eq!(seen(memory, &[], false).len(), 3);
        assert_eq!(seen(memory, &[5_000], true), [("5k".to_owned(), 5_000)]);
        assert_eq!(seen(memory, &[], true), [("1k".to_owned(), 1_000)]);
        let forms = |name: &str| format!("700{name}");
        let rate = ["", "-ethernet"].map(|ending| (forms(ending), 700));
        assert_eq!(seen(&pipeline_rate::SCENARIO, &[700], false), rate);
        for scenario in SCENARIOS {
            let shapes = scenario.shapes(&[], true);
            assert!(shapes.iter().all(|shape| shape.load == scenario.smoke));
        }
    }

    #[test]
    fn a_smoke_run_takes_one_of_the_shapes_that_differ_in_their_size() {
        let shapes = loss::SCENARIO.shapes(&[], true);
        let names: Vec<&str> = shapes.iter().map(Shape::word).collect();
        let once = ["0%", "1%", "2%", "5%", "0%-10ms", "5%-10ms"];
        assert_eq!(names, once.map(|form| format!("10k-{form}")));
    }
}
