//! The table of `loss`: a row for entities and loss, ours beside TCP in each cell; below it what
//! one more entity costs.
//!
//! Bound: a row for each shape.

use super::{Entry, OURS, in_order, table};
use crate::digits;
use crate::loss::TCP;

/// Whose table it is.
pub(super) const SCENARIO: &str = "loss";

/// What a column is called, of which metric it is, and by what its values are multiplied.
const COLUMNS: [(&str, &str, f64); 12] = [
    ("T1 p50 (ms)", "t1_latency_p50", 1e-3),
    ("T1 p99 (ms)", "t1_latency_p99", 1e-3),
    ("T1 came", "t1_delivered_ratio", 1.0),
    ("T2 p50 (ms)", "t2_latency_p50", 1e-3),
    ("T2 p99 (ms)", "t2_latency_p99", 1e-3),
    ("T2 came", "t2_delivered_ratio", 1.0),
    ("T3 p50 (ms)", "t3_rtt_p50", 1e-3),
    ("T3 p99 (ms)", "t3_rtt_p99", 1e-3),
    ("T3 answered", "t3_delivered_ratio", 1.0),
    ("scans/s", "ticks_per_s", 1.0),
    ("scan p50 (us)", "tick", 1.0),
    ("B/entity", "bytes_per_entity", 1.0),
];

/// The memory by whose difference an entity is judged.
const MEMORY: &str = "rss_bytes";

pub(super) fn of(entries: &[&Entry]) -> String {
    let row = |shape: &&str| {
        let of_row = || entries.iter().filter(|entry| entry.shape() == *shape);
        let cell = |(_, metric, by): &(&str, &str, f64)| {
            let found = |who| of_row().find(|entry| entry.who == who && entry.metric == *metric);
            let value = |who| Some(found(who)?.value? * by);
            let both = [OURS, TCP].into_iter().filter_map(value);
            both.map(digits::read).collect::<Vec<_>>().join(" / ")
        };
        (format!("`{shape}`"), COLUMNS.iter().map(cell).collect())
    };
    let columns = COLUMNS.map(|(name, ..)| name.to_owned());
    let shapes = in_order(entries.iter().map(|entry| entry.shape()));
    let rows = table("ours / TCP", &columns, shapes.iter().map(row));
    format!("{rows}{}", growth(entries))
}

/// What one more entity costs, by the smallest and the largest row of each loss.
fn growth(entries: &[&Entry]) -> String {
    let ours = |entry: &&&Entry| entry.who == OURS && entry.metric == MEMORY;
    let memory: Vec<&Entry> = entries.iter().filter(ours).copied().collect();
    let line = |entry: &Entry| {
        entry
            .shape()
            .split_once('-')
            .map(|(_, line)| line.to_owned())
    };
    let lines: Vec<String> = memory.iter().filter_map(|entry| line(entry)).collect();
    let mut text = String::new();
    for of in in_order(lines.iter().map(String::as_str)) {
        let rows = || {
            memory
                .iter()
                .filter(|entry| line(entry).as_deref() == Some(of))
        };
        let small = rows().min_by_key(|entry| entry.load[0]);
        let large = rows().max_by_key(|entry| entry.load[0]);
        let more = small.zip(large).and_then(|(small, large)| {
            let entities = large.load[0]?.checked_sub(small.load[0]?)?;
            let bytes = (large.value? - small.value?) / entities as f64;
            let names = format!("`{}` less `{}`", large.shape(), small.shape());
            let told = (digits::read(entities as f64), digits::read(bytes.round()));
            (entities > 0).then(|| format!("- {names}, by {}: {} B", told.0, told.1))
        });
        text.extend(more.map(|more| more + "\n"));
    }
    if text.is_empty() {
        return text;
    }
    format!("\nWhat one more entity costs, by `{MEMORY}`:\n\n{text}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::line;
    use super::*;

    #[test]
    fn each_cell_is_ours_beside_tcps_and_an_entity_is_the_difference_of_two_rows() {
        let of = |metric, shape, who, value, size| {
            line(SCENARIO, metric, Some(shape), who, (value, size, None))
        };
        let lines = [
            of("t1_latency_p99", "10k-5%", None, 550.0, 10_000),
            of(MEMORY, "10k-5%", None, 1_000_000.0, 10_000),
            of(MEMORY, "10k-0%", None, 1_000_000.0, 10_000),
            of("t1_latency_p99", "10k-5%", Some(TCP), 1_112_000.0, 10_000),
            of("latency_p99", "t1-5", None, 550.0, 10_000),
            of("t1_latency_p99", "200k-5%", None, 1_470.0, 200_000),
            of(MEMORY, "200k-5%", None, 20_950_000.0, 200_000),
        ];
        let text = super::super::of(&lines.concat()).unwrap();
        let empty = " |  |  |  |  |  |  |  |  |  |  |\n";
        assert!(
            text.contains(&format!("| `10k-5%` |  | 0.550 / 1,112{empty}")),
            "{text}"
        );
        assert!(
            text.contains(&format!("| `200k-5%` |  | 1.47{empty}")),
            "{text}"
        );
        assert!(!text.contains("t1-5"), "{text}");
        let cost = "`rss_bytes`:\n\n- `200k-5%` less `10k-5%`, by 190,000: 105 B\n\n";
        assert!(text.ends_with(cost), "{text}");
    }
}
