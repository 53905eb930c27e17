//! `table FILE`: the JSON lines of a run as the tables of `docs/reference/benchmarks.md`.
//!
//! A scenario's table has a row for each metric and shape, and a column for each participant; where
//! there is only one, a row for each shape and a column for each metric; that of `loss` is its own.
//! Bound: one line of text for each metric and shape of each scenario.

mod loss;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::{contract, digits};

/// Who has no name in the lines.
const OURS: &str = "ours";

/// A line of a run.
struct Entry {
    scenario: String,
    metric: String,
    unit: String,
    shape: Option<String>,
    who: String,
    value: Option<f64>,
    /// Size and seconds of its load, as far as they are known.
    load: [Option<u64>; 2],
}

impl Entry {
    fn value(&self) -> String {
        let value = self.value.map(digits::read);
        value.unwrap_or_else(|| "not measured".to_owned())
    }

    /// Its value, and its load where that is not the one of `first`, by which others are judged.
    fn beside(&self, first: &Self) -> String {
        let [size, seconds] =
            [0, 1].map(|which| self.load[which].filter(|own| first.load[which] != Some(*own)));
        let size = size.map(|size| format!("at {}", digits::read(size as f64)));
        let seconds = seconds.map(|seconds| format!("in {seconds} s"));
        let different: Vec<String> = size.into_iter().chain(seconds).collect();
        match &different[..] {
            [] => self.value(),
            different => format!("{} ({})", self.value(), different.join(", ")),
        }
    }

    /// Its metric, with the unit.
    fn column(&self) -> String {
        format!("`{}` ({})", self.metric, self.unit)
    }

    /// Its metric and shape, with the unit.
    fn row(&self) -> String {
        let shape = self.shape.as_ref();
        let shape = shape.map_or_else(String::new, |shape| format!(" `{shape}`"));
        format!("`{}`{shape} ({})", self.metric, self.unit)
    }

    fn shape(&self) -> &str {
        self.shape.as_deref().unwrap_or_default()
    }
}

/// Tables of what a run has printed with `--json`, a scenario after the other.
pub(crate) fn of(text: &str) -> Result<String, String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut entries: Vec<Entry> = lines.map(entry).collect::<Result<_, _>>()?;
    entries.retain(|entry| !contract::repeats(&entry.scenario, entry.shape()));
    let mut tables = String::new();
    for scenario in in_order(entries.iter().map(|entry| &*entry.scenario)) {
        let entries = entries.iter().filter(|entry| entry.scenario == scenario);
        let entries: Vec<&Entry> = entries.collect();
        let people = in_order(entries.iter().map(|entry| &*entry.who));
        let shapes = in_order(entries.iter().map(|entry| entry.shape()));
        let table = match (scenario, &people[..], &shapes[..]) {
            (loss::SCENARIO, ..) => loss::of(&entries),
            (_, [_], [_, _, ..]) => by_shape(&entries, &shapes),
            _ => by_metric(&entries, &people),
        };
        let _ = writeln!(tables, "`{scenario}`\n\n{table}");
    }
    Ok(tables)
}

/// A row for each metric and shape, a column for each participant.
fn by_metric(entries: &[&Entry], people: &[&str]) -> String {
    let rows: Vec<String> = entries.iter().map(|entry| entry.row()).collect();
    let row = |row: &str| {
        let of_row = || entries.iter().filter(|entry| entry.row() == row);
        let ours = of_row().find(|entry| entry.who == OURS);
        let first = ours.or_else(|| of_row().next());
        let value_of = |who: &&str| {
            let found = of_row().find(|entry| entry.who == **who);
            let both = found.zip(first);
            both.map_or_else(String::new, |(entry, first)| entry.beside(first))
        };
        (row.to_owned(), people.iter().map(value_of).collect())
    };
    let columns: Vec<String> = people.iter().map(|who| (*who).to_owned()).collect();
    let rows = in_order(rows.iter().map(String::as_str));
    table("metric", &columns, rows.into_iter().map(row))
}

/// A row for each shape, a column for each metric.
fn by_shape(entries: &[&Entry], shapes: &[&str]) -> String {
    let columns: Vec<String> = entries.iter().map(|entry| entry.column()).collect();
    let columns = in_order(columns.iter().map(String::as_str));
    let columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
    let row = |shape: &&str| {
        let of_row = || entries.iter().filter(|entry| entry.shape() == *shape);
        let value_of = |column: &String| {
            let found = of_row().find(|entry| entry.column() == *column);
            found.map_or_else(String::new, |entry| entry.value())
        };
        (format!("`{shape}`"), columns.iter().map(value_of).collect())
    };
    table("shape", &columns, shapes.iter().map(row))
}

/// A table in Markdown.
fn table(
    corner: &str,
    columns: &[String],
    rows: impl Iterator<Item = (String, Vec<String>)>,
) -> String {
    let mut text = format!("| {corner} | {} |\n", columns.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(columns.len()));
    for (name, values) in rows {
        let _ = writeln!(text, "| {name} | {} |", values.join(" | "));
    }
    text
}

fn entry(line: &str) -> Result<Entry, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let (Some(scenario), Some(metric), Some(unit)) =
        (text("scenario"), text("metric"), text("unit"))
    else {
        return Err(format!("not a line of the bench: {line}"));
    };
    Ok(Entry {
        scenario,
        metric,
        unit,
        shape: text("shape"),
        who: text("peer").unwrap_or_else(|| OURS.to_owned()),
        value: value.get("value").and_then(Value::as_f64),
        load: ["size", "seconds"].map(|key| value.get(key).and_then(Value::as_u64)),
    })
}

/// Each once, in the order in which they came first.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of `scenario`, with what its table does not look at left as it comes.
    pub(super) fn line(
        scenario: &str,
        metric: &str,
        shape: Option<&str>,
        who: Option<&str>,
        (value, size, seconds): (f64, u64, Option<u64>),
    ) -> String {
        let line = serde_json::json!({
            "scenario": scenario, "metric": metric, "unit": "ns", "value": value, "peer": who,
            "shape": shape, "size": size, "seconds": seconds, "runs": [],
        });
        format!("{line}\n")
    }

    #[test]
    fn a_run_becomes_a_table_for_each_scenario() {
        let line = |who, value| line("ring", "per_hop", None, who, (value, 7, None));
        let text = [line(None, 12.345), line(Some("tokio 1"), 1_234_567.0)].concat();
        let expected = "`ring`\n\n| metric | ours | tokio 1 |\n|---|---|---|\n\
                        | `per_hop` (ns) | 12.3 | 1,234,567 |\n\n";
        assert_eq!(of(&text).as_deref(), Ok(expected));
        assert!(of("{}").is_err());
    }

    #[test]
    fn who_was_given_less_is_told_with_it() {
        let line = |who, size, seconds| line("idle", "took", None, who, (0.5, size, Some(seconds)));
        let lines = [
            line(None, 1_000_000, 60),
            line(Some("equal"), 1_000_000, 60),
            line(Some("short"), 1_000_000, 30),
            line(Some("slow"), 20_000, 30),
        ];
        let table = of(&lines.concat()).unwrap();
        let row = "| `took` (ns) | 0.500 | 0.500 | 0.500 (in 30 s) | \
                   0.500 (at 20,000, in 30 s) |\n";
        assert!(table.contains(row), "{table}");
    }

    #[test]
    fn who_is_alone_has_a_row_for_each_shape() {
        let line = |metric, shape, value| line("rate", metric, Some(shape), None, (value, 7, None));
        let lines = [
            line("took", "7m", 2.0),
            line("dropped", "7m", 0.0),
            line("took", "9m", 3.5),
        ];
        let expected = "`rate`\n\n| shape | `took` (ns) | `dropped` (ns) |\n|---|---|---|\n\
                        | `7m` | 2 | 0 |\n| `9m` | 3.50 |  |\n\n";
        assert_eq!(of(&lines.concat()).as_deref(), Ok(expected));
    }
}
