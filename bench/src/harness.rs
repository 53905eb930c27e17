//! One run of a scenario: participants alternate, one process at a time; medians at the end.
//!
//! It does not know what is measured. Bound: runs x participants children for each shape.

use std::fmt;

use serde_json::{Value, json};

use crate::process::{self, Child};
use crate::scenario::{Scenario, Shape};

/// One measurement, as the contract has it.
#[derive(Debug)]
pub(crate) struct Line {
    scenario: &'static str,
    metric: &'static str,
    unit: &'static str,
    /// Median of the runs; none if no run gave a number.
    value: Option<f64>,
    /// None for ours, else name and version.
    peer: Option<String>,
    /// None where there is only one.
    shape: Option<String>,
    runs: Vec<f64>,
}

impl Line {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "metric": self.metric,
            "unit": self.unit,
            "value": self.value,
            "peer": self.peer,
            "shape": self.shape,
            "runs": self.runs,
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.peer.as_deref().unwrap_or("ours");
        let value = self.value.map_or_else(|| "not measured".to_owned(), plain);
        let runs: Vec<String> = self.runs.iter().copied().map(plain).collect();
        write!(
            f,
            "{:<9} {:<10} {:<19} {:<18} {value:>14} {:<4} [{}]",
            self.scenario,
            self.shape.as_deref().unwrap_or("-"),
            self.metric,
            who,
            self.unit,
            runs.join(" "),
        )
    }
}

/// Few digits for small numbers, none for large ones.
fn plain(value: f64) -> String {
    let digits = if value.abs() >= 100.0 { 0 } else { 3 };
    format!("{value:.digits$}")
}

/// Measures one shape and hands out its lines; failures are collected, not fatal.
pub(crate) fn measure(
    scenario: &'static Scenario,
    shape: &Shape,
    runs: u32,
    children: &[Child<'_>],
    line: &mut dyn FnMut(Line),
) -> Vec<String> {
    let mut failures = Vec::new();
    let mut seen: Vec<Vec<Value>> = children.iter().map(|_| Vec::new()).collect();
    let needed = scenario.bytes_each_max * shape.load.size;
    for run in 1..=runs {
        for (child, seen) in children.iter().zip(&mut seen) {
            let place = format!("{} {} {}", scenario.name, shape.word(), child.name());
            if process::available_bytes().is_some_and(|available| available < needed) {
                eprintln!("{place}: skipped, it may need {} MiB", needed >> 20);
                continue;
            }
            eprintln!("{place}: run {run} of {runs}");
            match child.run(shape, scenario) {
                Ok(value) => seen.push(value),
                Err(error) => failures.push(format!("{place}: {error}")),
            }
        }
    }
    for (child, values) in children.iter().zip(&seen) {
        for metric in scenario.metrics {
            let numbers = values.iter().map(|line| line.get(metric.name)?.as_f64());
            let runs: Vec<f64> = numbers.flatten().collect();
            if runs.is_empty() && child.peer().is_some() && !values.is_empty() {
                continue; // a peer has no such form
            }
            line(Line {
                scenario: scenario.name,
                metric: metric.name,
                unit: metric.unit,
                value: median(&runs),
                peer: child.peer(),
                shape: shape.name.clone(),
                runs,
            });
        }
    }
    failures
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_runs() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_line_has_the_contracts_keys_and_null_for_what_was_not_measured() {
        let line = Line {
            scenario: "memory",
            metric: "bytes_per_actor",
            unit: "B",
            value: None,
            peer: None,
            shape: None,
            runs: Vec::new(),
        };
        let expected = "{\"scenario\":\"memory\",\"metric\":\"bytes_per_actor\",\"unit\":\"B\",\
                        \"value\":null,\"peer\":null,\"shape\":null,\"runs\":[]}";
        assert_eq!(line.to_json().to_string(), expected);
    }
}
