//! `table FILE`: the JSON lines of a run as the tables of `docs/reference/benchmarks.md`.
//!
//! Bound: one line of text for each metric and shape of each scenario.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::digits;

/// Who has no name in the lines.
const OURS: &str = "ours";

/// A cell of a table, with all that names it.
struct Entry {
    scenario: String,
    row: String,
    who: String,
    value: String,
    /// Size and seconds of its load, as far as they are known.
    load: [Option<u64>; 2],
}

impl Entry {
    /// Its value, and its load where that is not the one of `first`, by which others are judged.
    fn beside(&self, first: &Self) -> String {
        let [size, seconds] =
            [0, 1].map(|which| self.load[which].filter(|own| first.load[which] != Some(*own)));
        let size = size.map(|size| format!("at {}", digits::read(size as f64)));
        let seconds = seconds.map(|seconds| format!("in {seconds} s"));
        let different: Vec<String> = size.into_iter().chain(seconds).collect();
        match &different[..] {
            [] => self.value.clone(),
            different => format!("{} ({})", self.value, different.join(", ")),
        }
    }
}

/// Tables of what a run has printed with `--json`, a scenario after the other.
pub(crate) fn of(text: &str) -> Result<String, String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let entries: Vec<Entry> = lines.map(entry).collect::<Result<_, _>>()?;
    let mut tables = String::new();
    for scenario in in_order(entries.iter().map(|entry| &*entry.scenario)) {
        let of_scenario = || entries.iter().filter(|entry| entry.scenario == scenario);
        let people = in_order(of_scenario().map(|entry| &*entry.who));
        let _ = writeln!(tables, "`{scenario}`\n");
        let _ = writeln!(tables, "| metric | {} |", people.join(" | "));
        let _ = writeln!(tables, "|---|{}", "---|".repeat(people.len()));
        for row in in_order(of_scenario().map(|entry| &*entry.row)) {
            let of_row = || of_scenario().filter(|entry| entry.row == row);
            let ours = of_row().find(|entry| entry.who == OURS);
            let first = ours.or_else(|| of_row().next());
            let value_of = |who: &&str| {
                let found = of_row().find(|entry| entry.who == **who);
                let both = found.zip(first);
                both.map_or_else(String::new, |(entry, first)| entry.beside(first))
            };
            let values: Vec<String> = people.iter().map(value_of).collect();
            let _ = writeln!(tables, "| {row} | {} |", values.join(" | "));
        }
        tables.push('\n');
    }
    Ok(tables)
}

fn entry(line: &str) -> Result<Entry, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let (Some(scenario), Some(metric), Some(unit)) =
        (text("scenario"), text("metric"), text("unit"))
    else {
        return Err(format!("not a line of the bench: {line}"));
    };
    let shape = text("shape").map_or_else(String::new, |shape| format!(" `{shape}`"));
    let number = value.get("value").and_then(Value::as_f64);
    Ok(Entry {
        scenario: scenario.to_owned(),
        row: format!("`{metric}`{shape} ({unit})"),
        who: text("peer").unwrap_or(OURS).to_owned(),
        load: ["size", "seconds"].map(|key| value.get(key).and_then(Value::as_u64)),
        value: number.map_or_else(|| "not measured".to_owned(), digits::read),
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

    #[test]
    fn a_run_becomes_a_table_for_each_scenario() {
        let line = |peer: &str, shape: &str, value: &str| {
            format!(
                "{{\"scenario\":\"ring\",\"metric\":\"per_hop\",\"unit\":\"ns\",\
                 \"value\":{value},\"peer\":{peer},\"shape\":{shape},\"runs\":[]}}\n"
            )
        };
        let lines = [
            line("null", "null", "12.345"),
            line("\"tokio 1\"", "null", "1234567.0"),
        ];
        let text = lines.concat();
        let expected = "`ring`\n\n| metric | ours | tokio 1 |\n|---|---|---|\n\
                        | `per_hop` (ns) | 12.3 | 1,234,567 |\n\n";
        assert_eq!(of(&text).as_deref(), Ok(expected));
        assert!(of("{}").is_err());
    }

    #[test]
    fn who_was_given_less_is_told_with_it() {
        let line = |peer: &str, size: u64, seconds: &str| {
            format!(
                "{{\"scenario\":\"idle\",\"metric\":\"core_share\",\"unit\":\"1\",\
                 \"value\":0.5,\"peer\":{peer},\"shape\":null,\"size\":{size},\
                 \"seconds\":{seconds},\"runs\":[]}}\n"
            )
        };
        let lines = [
            line("null", 1_000_000, "60"),
            line("\"equal\"", 1_000_000, "60"),
            line("\"short\"", 1_000_000, "30"),
            line("\"slow\"", 20_000, "30"),
        ];
        let table = of(&lines.concat()).unwrap();
        let row = "| `core_share` (1) | 0.500 | 0.500 | 0.500 (in 30 s) | \
                   0.500 (at 20,000, in 30 s) |\n";
        assert!(table.contains(row), "{table}");
    }
}
