//! One line per cycle: the record of a cycle as the harness writes it.
//!
//! It is written outside the scan thread, from the ring of records. Bound: a line is under 300
//! bytes.

use std::io::{self, Write};

use actorsim_world::scan::stats::CycleRecord;
use serde::Serialize;

/// The keys of a line; a number that was not measured is `null`.
#[derive(Serialize)]
struct Line<'a> {
    cycle_index: u64,
    task_id: &'a str,
    faulted: bool,
    ts_ns: u64,
    period_ns: u64,
    actual_period_ns: Option<u64>,
    jitter_ns: Option<u64>,
    lateness_ns: Option<u64>,
    took_ns: Option<u64>,
    skipped_slots: u64,
}

/// Writes the line of `record`; `first` is the index of the leg's first cycle.
pub(super) fn write(
    out: &mut dyn Write,
    task_id: &str,
    first: u64,
    record: &CycleRecord,
) -> io::Result<()> {
    let line = Line {
        cycle_index: first + record.cycle,
        task_id,
        faulted: record.faulted,
        ts_ns: record.ts_ns,
        period_ns: record.period_ns,
        actual_period_ns: record.actual_period_ns,
        jitter_ns: record.jitter_ns,
        lateness_ns: Some(record.late_ns),
        took_ns: Some(record.took_ns),
        skipped_slots: record.skipped,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_cycle_has_null_where_nothing_was_measured() {
        let record = CycleRecord {
            cycle: 3,
            ts_ns: 70,
            period_ns: 10,
            late_ns: 2,
            took_ns: 5,
            skipped: 1,
            ..CycleRecord::default()
        };
        let mut text = Vec::new();
        write(&mut text, "scan", 100, &record).unwrap();
        let expected = concat!(
            r#"{"cycle_index":103,"task_id":"scan","faulted":false,"ts_ns":70,"period_ns":10,"#,
            r#""actual_period_ns":null,"jitter_ns":null,"lateness_ns":2,"took_ns":5,"#,
            r#""skipped_slots":1}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
