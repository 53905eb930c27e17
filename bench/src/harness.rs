//! One run of a scenario: participants alternate, one process at a time, but for a baseline, which
//! runs while ours does; medians at the end.
//!
//! It does not know what is measured. Bound: runs x participants children for each shape.

use std::fmt;
use std::thread;

use serde_json::{Value, json};

use crate::netns::LOST_BY_KEY;
use crate::process::{self, Child};
use crate::scenario::{Scenario, Shape};
use crate::{contract, digits};

/// One measurement, as the contract has it.
#[derive(Clone, Debug)]
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
    /// Of its load: a slow peer may have a smaller one.
    size: u64,
    /// The length of what is measured by time, which is shorter for peers; else none.
    seconds: Option<u64>,
    /// By whom packets were lost, where they were.
    lost_by: Option<String>,
    runs: Vec<f64>,
}

/// The columns of [`Line::to_csv`].
pub(crate) const CSV: &str = "scenario,shape,metric,unit,peer,value,lost_by\n";

impl Line {
    pub(crate) fn to_json(&self) -> Value {
        let mut line = json!({
            "scenario": self.scenario,
            "metric": self.metric,
            "unit": self.unit,
            "value": self.value,
            "peer": self.peer,
            "shape": self.shape,
            "size": self.size,
            "seconds": self.seconds,
            "runs": self.runs,
        });
        if let Some(by) = &self.lost_by {
            line[LOST_BY_KEY] = json!(by);
        }
        line
    }
}

impl Line {
    /// The same under the name by which others read it, if that is another one.
    pub(crate) fn renamed(&self) -> Option<Self> {
        let shape = self.shape.as_deref()?;
        let (shape, metric) = contract::name_of(self.scenario, shape, self.metric)?;
        Some(Self {
            metric,
            shape: Some(shape),
            ..self.clone()
        })
    }

    /// One row; names hold no comma.
    pub(crate) fn to_csv(&self) -> String {
        let value = self.value.map(|value| value.to_string());
        format!(
            "{},{},{},{},{},{},{}\n",
            self.scenario,
            self.shape.as_deref().unwrap_or_default(),
            self.metric,
            self.unit,
            self.peer.as_deref().unwrap_or("ours"),
            value.unwrap_or_default(),
            self.lost_by.as_deref().unwrap_or_default(),
        )
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.peer.as_deref().unwrap_or("ours");
        let value = self
            .value
            .map_or_else(|| "not measured".to_owned(), digits::read);
        let runs: Vec<String> = self.runs.iter().copied().map(digits::read).collect();
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

/// A participant, what it has said, and whether it takes no further part.
struct Seat<'a> {
    child: &'a Child<'a>,
    seen: Vec<Value>,
    out: bool,
}

impl<'a> Seat<'a> {
    const fn new(child: &'a Child<'a>) -> Self {
        let seen = Vec::new();
        let out = false;
        Self { child, seen, out }
    }

    /// Runs it once, if it still takes part; returns how that failed.
    fn turn(&mut self, scenario: &Scenario, shape: &Shape, run: &str) -> Option<String> {
        if self.out {
            return None;
        }
        let place = format!("{} {} {}", scenario.name, shape.word(), self.child.name());
        let Some(load) = self.child.load(scenario, shape) else {
            eprintln!("{place}: left out, it has no such form or not at this size");
            self.out = true;
            return None;
        };
        let needed = scenario.bytes_each_max * load.size;
        if process::available_bytes().is_some_and(|available| available < needed) {
            eprintln!("{place}: skipped, it may need {} MiB", needed >> 20);
            return None;
        }
        eprintln!("{place}: run {run}");
        match self.child.run(scenario, shape, load) {
            Ok(value) => {
                self.seen.push(value);
                None
            }
            Err(error) => {
                // Again it would cost its whole time again.
                eprintln!("{place}: {error}; not run again");
                self.out = true;
                Some(format!("{place}: {error}"))
            }
        }
    }
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
    let mut seats: Vec<Seat<'_>> = children.iter().map(Seat::new).collect();
    for run in 1..=runs {
        let run = format!("{run} of {runs}");
        let beside = |_: &Seat<'_>, next: &Seat<'_>| matches!(next.child, Child::Baseline(_));
        for at_once in seats.chunk_by_mut(beside) {
            thread::scope(|scope| {
                let turn = |seat| scope.spawn(|| Seat::turn(seat, scenario, shape, &run));
                let turns: Vec<_> = at_once.iter_mut().map(turn).collect();
                let ended = turns.into_iter().map(|turn| turn.join());
                failures.extend(ended.flat_map(|ended| ended.expect("a turn panics on nothing")));
            });
        }
    }
    for Seat { child, seen, .. } in &seats {
        let Some(load) = child.load(scenario, shape) else {
            continue;
        };
        let lost_by = seen.iter().find_map(|line| line.get(LOST_BY_KEY)?.as_str());
        for metric in scenario.metrics {
            let numbers = seen.iter().map(|line| line.get(metric.name)?.as_f64());
            let runs: Vec<f64> = numbers.flatten().collect();
            let named = seen.iter().any(|line| line.get(metric.name).is_some());
            let form = named || seen.is_empty();
            if runs.is_empty() && (!form || child.peer().is_some() && !seen.is_empty()) {
                continue; // the shape, or a peer, has no such form
            }
            line(Line {
                scenario: scenario.name,
                metric: metric.name,
                unit: metric.unit,
                value: median(&runs),
                peer: child.peer(),
                shape: shape.name.clone(),
                size: load.size,
                seconds: (load.seconds > 0).then_some(load.seconds),
                lost_by: lost_by.map(str::to_owned),
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
            size: 7,
            seconds: Some(30),
            lost_by: None,
            runs: Vec::new(),
        };
        let expected = "{\"scenario\":\"memory\",\"metric\":\"bytes_per_actor\",\"unit\":\"B\",\
                        \"value\":null,\"peer\":null,\"shape\":null,\"size\":7,\
                        \"seconds\":30,\"runs\":[]}";
        assert_eq!(line.to_json().to_string(), expected);
        assert_eq!(line.to_csv(), "memory,,bytes_per_actor,B,ours,,\n");
        let lost_by = Some("netem".to_owned());
        let lossy = Line { lost_by, ..line };
        assert_eq!(lossy.to_json()["lost_by"], "netem");
        assert!(lossy.to_csv().ends_with(",netem\n"));
        assert_eq!(CSV.split(',').count(), lossy.to_csv().split(',').count());
    }
}
