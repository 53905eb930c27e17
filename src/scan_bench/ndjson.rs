//! Lines of a cycle: its record as the harness writes it, and one for each system that ran in it.
//!
//! It is written outside the scan thread, from the ring of records. Bound: a line is under 300
//! bytes.

use std::io::{self, Write};

use actorsim_world::SystemId;
use actorsim_world::scan::stats::CycleRecord;
use serde::Serialize;

/// Name of the first task.
const FIRST_TASK: &str = "scan";

/// The keys of a line; a number that was not measured is `null`.
#[derive(Clone, Copy, Serialize)]
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

/// Writes the lines of `record`: that of its task, and those of the systems, which are known by
/// their names, those of a second task and of more behind the name of that. `first` is the index
/// of the leg's first cycle.
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
    one(out, &line)?;
    for system in SystemId::ALL {
        if !record.has_run(system) {
            continue;
        }
        let name = system.name();
        let named = match task_id {
            FIRST_TASK => name.to_owned(),
            other => format!("{other}/{name}"),
        };
        let line = Line {
            task_id: &named,
            // a system begins when the one before it ends
            jitter_ns: None,
            lateness_ns: None,
            took_ns: record.systems_ns[system.index()],
            ..line
        };
        one(out, &line)?;
    }
    Ok(())
}

fn one(out: &mut dyn Write, line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
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

    #[test]
    fn a_system_has_a_line_where_it_ran_and_null_where_it_was_not_timed() {
        let mut record = CycleRecord {
            ran: 0b11,
            ..CycleRecord::default()
        };
        record.systems_ns[1] = Some(7);
        for (task, first, second) in [
            ("scan", "ingest", "simulation"),
            ("scan-2", "scan-2/ingest", "scan-2/simulation"),
        ] {
            let mut text = Vec::new();
            write(&mut text, task, 0, &record).unwrap();
            let text = String::from_utf8(text).unwrap();
            let lines: Vec<serde_json::Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let names: Vec<_> = lines.iter().map(|line| &line["task_id"]).collect();
            assert_eq!(names, [task, first, second]);
            assert!(lines[1]["took_ns"].is_null());
            assert_eq!(
                (&lines[2]["took_ns"], &lines[2]["lateness_ns"]),
                (&7.into(), &().into())
            );
        }
    }
}
