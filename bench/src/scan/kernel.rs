//! What the kernel alone keeps of a grid of 1 ms: rt-tests' `cyclictest` on the scan's core with
//! the scan's priority, and nothing beside it.
//!
//! Bound: the job's time.

use std::process::Command;

use actorsim::scan_bench::cyclictest::{self, MISSING};
use actorsim::scan_bench::witness::{GAP_NS, Witness};
use actorsim_world::ScanConfig;
use actorsim_world::scan::bare::BareScan;
use actorsim_world::scan::stats::Times;
use peer_probe::Job;
use serde_json::{Value, json};

use super::PERIOD;

/// Its version; an error says that it is not here.
pub(crate) fn version() -> Result<String, String> {
    let program = cyclictest::program().ok_or(MISSING)?;
    let said = Command::new(program).arg("--help").output();
    let said = said.map_err(|error| error.to_string())?;
    // it says so on either of the two
    let said = [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let version = said.iter().find_map(|text| {
        let (_, rest) = text.split_once("cyclictest V ")?;
        rest.split_whitespace().next().map(str::to_owned)
    });
    version.ok_or_else(|| "cyclictest does not say its version".to_owned())
}

pub(crate) fn measure(job: &Job) -> Result<Value, String> {
    let program = cyclictest::program().ok_or(MISSING)?;
    let config = ScanConfig {
        period: PERIOD,
        ..ScanConfig::default()
    };
    // the host gives a scan a place, which is left to it
    let scan = BareScan::start(config, 1).map_err(|error| error.to_string())?;
    let host = scan.host().clone();
    drop(scan);
    let witness = Witness::start(&host, PERIOD);
    let cycles = job.time().as_millis() / PERIOD.as_millis();
    let late_ns = cyclictest::run(&program, &host, PERIOD, cycles as u64)?;
    let mut gaps = 0;
    match &witness {
        Ok(witness) => {
            witness.read(|_| gaps += 1);
            gaps += witness.missed();
        }
        Err(why) => eprintln!("gaps of the host are not told apart: {why}"),
    }
    let jitter = jitter(&late_ns, gaps).quantiles();
    Ok(json!({
        "jitter_p999": jitter.map(|q| q.p999),
        "jitter_max": jitter.map(|q| q.max),
    }))
}

/// How much longer or shorter its periods were, as the scan has it: by how late it woke, twice in a
/// row. It is not known when a gap of the host was: each takes the latest wake that is as late as a
/// gap, with the two periods that it is in.
fn jitter(late_ns: &[u64], gaps: u64) -> Times {
    let mut latest: Vec<usize> = (0..late_ns.len()).collect();
    latest.sort_unstable_by_key(|at| std::cmp::Reverse(late_ns[*at]));
    latest.retain(|at| late_ns[*at] > GAP_NS);
    latest.truncate(gaps as usize);
    let mut times = Times::default();
    for at in 1..late_ns.len() {
        if !(latest.contains(&at) || latest.contains(&(at - 1))) {
            times.record(late_ns[at].abs_diff(late_ns[at - 1]));
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_takes_one_late_wake_and_the_periods_on_both_sides_of_it() {
        let late = 3 * GAP_NS;
        let wakes = [5_000, late, 7_000, 9_000, 2 * late, 9_000, 9_500];
        let longest = |gaps| jitter(&wakes, gaps).quantiles().map(|q| (q.count, q.max));
        assert_eq!(longest(1), Some((4, 295.0)));
        assert_eq!(longest(2), Some((2, 2.0)));
        assert_eq!(longest(9), Some((2, 2.0)), "no gap made a timely wake");
    }
}
