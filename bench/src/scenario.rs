//! What a scenario is: a name, a label that says exactly what is counted, its shapes, its metrics
//! and the child that is measured. The list of all of them. It runs nothing.

use std::time::Duration;

use serde_json::Value;

use crate::{memory, pipeline};

/// Every scenario, in the order of `list`.
pub(crate) const SCENARIOS: &[&Scenario] = &[&memory::SCENARIO, &pipeline::SCENARIO];

/// One thing that is measured.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What exactly is counted, in or out of process.
    pub(crate) label: &'static str,
    pub(crate) shapes: &'static [u32],
    pub(crate) metrics: &'static [Metric],
    /// Our side: runs in a process of its own and returns what the metrics read.
    pub(crate) child: fn(devices: u32) -> Result<Value, String>,
    /// Whether each of `bench/peers` has this scenario.
    pub(crate) has_peers: bool,
    /// A child that takes longer than this is killed and counted as failed.
    pub(crate) time_limit: Duration,
    /// What a participant may need per device; a shape that does not fit is skipped.
    pub(crate) bytes_per_device_max: u64,
}

/// One number out of a child's line.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) read: fn(&Value) -> Option<f64>,
}

/// A variant: so many devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) devices: u32,
}

impl Shape {
    pub(crate) fn of(devices: u32) -> Self {
        let name = match devices {
            n if n >= 1_000_000 && n % 1_000_000 == 0 => format!("{}m", n / 1_000_000),
            n if n >= 1_000 && n % 1_000 == 0 => format!("{}k", n / 1_000),
            n => n.to_string(),
        };
        Self { name, devices }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_named_as_people_say_them() {
        let named = |devices| Shape::of(devices).name;
        let names = [10, 999, 1_000, 1_500, 10_000, 100_000, 1_000_000, 7_000_000].map(named);
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
}
