//! The `world` part of the run report, and the figures behind metrics and the `scan` command.
//!
//! Serialises to the keys of the report's contract; what was not measured is `null`. It is built
//! when asked for and keeps nothing.
//!
//! Bound: fixed size but for the reasons of refused privileges.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::components::{KIND_NAMES, KINDS};
use crate::row_files::RowReport;
use crate::rules::RuleSet;
use crate::scan::ScanConfig;
use crate::scan::rt::HostReport;
use crate::scan::snapshot::ScanSnapshot;
use crate::scan::stats::{CycleTimes, Quantiles};
use crate::shared::FirstError;
use crate::systems::Tally;

/// The world at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct WorldReport {
    /// Rows bound to a (device, sensor).
    pub entities: u32,
    /// Devices in the index.
    pub devices: u32,
    /// Rows in the table, blank ones included.
    pub rows: u32,
    /// Readings that reached a row.
    pub readings_applied: u64,
    /// Twin quality.
    pub quality: Quality,
    /// The scan.
    pub scan: ScanReport,
    /// Totals of the world.
    pub tally: Tally,
    /// Announced devices, and readings, refused for want of rows.
    pub rows_refused: u64,
    /// Rows with a window of their last values.
    pub windows: u32,
    /// Rows for whose window there was no room.
    pub windows_refused: u64,
    /// Receipt by the connection to the scan.
    pub ingest_us: Option<Quantiles>,
    /// Rules of the automation, by name.
    pub rules: BTreeMap<String, RuleReport>,
    /// Rows written to files; `None` where none are.
    pub row_files: Option<RowReport>,
    /// Sensor types that have a row.
    pub types: BTreeMap<&'static str, TypeReport>,
}

/// What became of one rule.
#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    /// Type of the sensors that it judges.
    pub sensor: &'static str,
    /// How often it came into force.
    pub fired: u64,
    /// How often it ended.
    pub ended: u64,
}

/// Twin quality, as `docs/explain/twin-quality.md` defines it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Twin alignment ratio: share of rows that are not stale.
    pub alignment_ratio: Option<f64>,
    /// Overall digital twin entanglement: the product of the next three.
    pub odte: Option<f64>,
    /// Stale rows; `None` before the first whole sweep.
    pub stale: Option<u64>,
    /// Share of readings that reach the world within [`TIMELY`] of their stamp.
    pub timeliness: Option<f64>,
    /// Share of readings sent, by their sequences, that came.
    pub reliability: Option<f64>,
    /// Share of slots of the grid that were served without a fault.
    pub availability: Option<f64>,
}

/// A reading that takes longer from its stamp to the world is not timely.
pub const TIMELY: Duration = Duration::from_secs(1);

impl Quality {
    /// `received` counts readings by how long they took to the connection: all, and those that were
    /// timely if the next cycle takes them.
    fn of(snapshot: &ScanSnapshot, received: Option<(u64, u64)>) -> Self {
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let tally = &snapshot.tally;
        let stale = snapshot.stale();
        let rows = u64::from(snapshot.entities());
        let aligned = stale.and_then(|stale| share(rows.saturating_sub(stale), rows));
        let came = tally.t1_applied + tally.t2_applied;
        let timeliness = received.and_then(|(all, timely)| share(timely, all));
        let reliability = share(came, came + tally.lost);
        let good = snapshot.cycles.saturating_sub(snapshot.faulted);
        let availability = share(good, snapshot.cycles + snapshot.skipped);
        let odte = || Some(timeliness? * reliability? * availability?);
        Self {
            alignment_ratio: aligned,
            odte: odte(),
            stale,
            timeliness,
            reliability,
            availability,
        }
    }

    /// The ratios that are known, by name.
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let all = [
            ("alignment", self.alignment_ratio),
            ("odte", self.odte),
            ("timeliness", self.timeliness),
            ("reliability", self.reliability),
            ("availability", self.availability),
        ];
        all.into_iter()
            .filter_map(|(name, ratio)| Some((name, ratio?)))
    }
}

/// The scan.
#[derive(Clone, Debug, Serialize)]
pub struct ScanReport {
    /// What the host gave; `None` before the first start.
    pub host: Option<HostReport>,
    /// Period of the grid.
    pub period_us: u64,
    /// Export and diagnostics walk in every so-many-th cycle.
    pub walk_every: u64,
    /// What is done about overruns.
    pub overrun: &'static str,
    /// Cycles run.
    pub cycles: u64,
    /// Cycles longer than the period.
    pub overruns: u64,
    /// Slots without a cycle.
    pub skipped: u64,
    /// Cycles with a failed system.
    pub faulted: u64,
    /// How often only the essential was run from then on.
    pub fallbacks: u64,
    /// Cycles in which only the essential ran.
    pub fallback_cycles: u64,
    /// Only the essential runs now.
    pub in_fallback: bool,
    /// Cycles that were put off, so that the thread leaves its core to others.
    pub rests: u64,
    /// Share of its core that the scan took in the last whole second.
    pub core_share: Option<f64>,
    /// Cycles that did not end.
    pub wedged: u64,
    /// The first failure of all incarnations.
    pub first_error: Option<FirstError>,
    /// Cycles in which the table grew, or rows forgot a rule.
    pub maintenance: u64,
    /// Incarnations of the scan thread.
    pub incarnations: u64,
    /// Distance of actual periods from nominal ones.
    pub jitter_us: Option<Quantiles>,
    /// Start after the slot was due.
    pub lateness_us: Option<Quantiles>,
    /// Length of cycles.
    pub took_us: Option<Quantiles>,
    /// The same three of the sliding window: the last [`WINDOW`](crate::scan::stats::WINDOW)
    /// cycles.
    pub window: WindowReport,
    /// Mean heap allocations per cycle; `None` when nobody counts them.
    pub allocations_per_cycle: Option<f64>,
    /// Records lost to a full lane; they miss in percentiles only.
    pub records_lapped: u64,
    /// By system.
    pub systems: BTreeMap<&'static str, SystemReport>,
}

/// Times of the sliding window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WindowReport {
    /// Distance of actual periods from nominal ones.
    pub jitter_us: Option<Quantiles>,
    /// Start after the slot was due.
    pub lateness_us: Option<Quantiles>,
    /// Length of cycles.
    pub took_us: Option<Quantiles>,
}

impl WindowReport {
    fn of(times: &CycleTimes) -> Self {
        Self {
            jitter_us: times.window_of(|record| record.jitter_ns),
            lateness_us: times.window_of(|record| Some(record.late_ns)),
            took_us: times.window_of(|record| Some(record.took_ns)),
        }
    }

    /// Those that are known, by name.
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, Quantiles)> {
        let all = [
            ("jitter", self.jitter_us),
            ("lateness", self.lateness_us),
            ("took", self.took_us),
        ];
        all.into_iter()
            .filter_map(|(name, times)| Some((name, times?)))
    }
}

/// One system.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SystemReport {
    /// Length of its runs.
    pub took_us: Option<Quantiles>,
    /// The same of the sliding window of cycles.
    pub took_window_us: Option<Quantiles>,
    /// Runs longer than the period.
    pub overruns: u64,
    /// It is not isolated.
    pub enabled: bool,
}

/// Rows of one sensor type; all but their number as the last whole sweep found them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TypeReport {
    /// Rows.
    pub entities: u32,
    /// Those of them that are stale; `None` before the first whole sweep.
    pub stale: Option<u32>,
    /// Rows with a finite value; `None` before the first whole sweep.
    pub count: Option<u64>,
    /// Mean value.
    pub mean: Option<f64>,
    /// Least value.
    pub min: Option<f64>,
    /// Greatest value.
    pub max: Option<f64>,
}

/// What a report is made from.
pub(crate) struct Sources<'a> {
    pub(crate) snapshot: ScanSnapshot,
    pub(crate) times: &'a CycleTimes,
    pub(crate) host: Option<HostReport>,
    pub(crate) period: Duration,
    pub(crate) walk_every: u64,
    pub(crate) config: &'a ScanConfig,
    pub(crate) rules: &'a RuleSet,
    pub(crate) first_error: Option<FirstError>,
    pub(crate) wedged: u64,
    pub(crate) row_files: Option<RowReport>,
    /// Readings received, and those among them that are timely.
    pub(crate) received: Option<(u64, u64)>,
    pub(crate) devices: u32,
    pub(crate) rows_refused: u64,
    pub(crate) records_lapped: u64,
    pub(crate) ingest_us: Option<Quantiles>,
}

impl WorldReport {
    /// Stale rows of each sensor type that has a row; none before the first whole sweep.
    pub fn stale_by_type(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let types = self.types.iter();
        types.filter_map(|(kind, rows)| Some((*kind, rows.stale?)))
    }

    pub(crate) fn new(sources: Sources<'_>) -> Self {
        let snapshot = &sources.snapshot;
        let tally = snapshot.tally;
        Self {
            entities: snapshot.entities(),
            devices: sources.devices,
            rows: snapshot.rows,
            readings_applied: snapshot.readings_applied(),
            quality: Quality::of(snapshot, sources.received),
            types: types(snapshot),
            rules: rules(&sources),
            row_files: sources.row_files,
            tally,
            rows_refused: sources.rows_refused,
            windows: snapshot.windows,
            windows_refused: snapshot.windows_refused,
            ingest_us: sources.ingest_us,
            scan: ScanReport::new(sources),
        }
    }
}

impl ScanReport {
    fn new(sources: Sources<'_>) -> Self {
        let Sources {
            snapshot, times, ..
        } = sources;
        let systems = sources.config.systems().into_iter();
        let systems = systems.map(|(system, name)| {
            let report = SystemReport {
                took_us: times.system(system).quantiles(),
                took_window_us: times.window_of(|record| record.systems_ns[system.index()]),
                overruns: snapshot.system_overruns[system.index()],
                enabled: snapshot.enabled[system.index()],
            };
            (name, report)
        });
        Self {
            host: sources.host,
            period_us: sources.period.as_micros() as u64,
            walk_every: sources.walk_every,
            overrun: sources.config.overrun.name(),
            fallbacks: snapshot.fallbacks,
            fallback_cycles: snapshot.fallback_cycles,
            in_fallback: snapshot.in_fallback,
            rests: snapshot.rests,
            core_share: snapshot.core_share,
            wedged: sources.wedged,
            first_error: sources.first_error,
            cycles: snapshot.cycles,
            overruns: snapshot.overruns,
            skipped: snapshot.skipped,
            faulted: snapshot.faulted,
            maintenance: snapshot.maintenance,
            incarnations: snapshot.incarnations,
            jitter_us: times.jitter.quantiles(),
            lateness_us: times.lateness.quantiles(),
            took_us: times.took.quantiles(),
            window: WindowReport::of(times),
            allocations_per_cycle: times.allocations_per_cycle(),
            records_lapped: sources.records_lapped,
            systems: systems.collect(),
        }
    }
}

fn rules(sources: &Sources<'_>) -> BTreeMap<String, RuleReport> {
    let tallies = &sources.snapshot.rules;
    let report = |rule: &crate::rules::Rule| {
        let id = rule.id();
        let tally = tallies.iter().find(|tally| tally.id == id);
        let tally = tally.copied().unwrap_or_default();
        let report = RuleReport {
            sensor: KIND_NAMES[usize::from(rule.kind) % KINDS],
            fired: tally.fired,
            ended: tally.ended,
        };
        (rule.name.clone(), report)
    };
    sources.rules.rules.iter().map(report).collect()
}

fn types(snapshot: &ScanSnapshot) -> BTreeMap<&'static str, TypeReport> {
    (0..KINDS)
        .filter(|kind| snapshot.entities_by_kind[*kind] > 0)
        .map(|kind| {
            let found = &snapshot.aggregates[kind];
            let (swept, valued) = (snapshot.sweeps > 0, found.count > 0);
            let report = TypeReport {
                entities: snapshot.entities_by_kind[kind],
                stale: swept.then_some(snapshot.stale_by_kind[kind]),
                count: swept.then_some(found.count),
                mean: found.mean(),
                min: valued.then_some(found.min),
                max: valued.then_some(found.max),
            };
            (KIND_NAMES[kind], report)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_is_a_product_and_what_was_not_measured_is_none() {
        let mut snapshot = ScanSnapshot::default();
        assert_eq!(Quality::of(&snapshot, None), Quality::default());
        snapshot.cycles = 90;
        snapshot.skipped = 10;
        snapshot.tally.t1_applied = 80;
        snapshot.tally.lost = 20;
        snapshot.entities_by_kind = [6, 0, 0, 0, 4, 0, 0];
        snapshot.stale_by_kind = [1, 0, 0, 0, 3, 0, 0];
        assert_eq!(
            Quality::of(&snapshot, None).stale,
            None,
            "nobody looked yet"
        );
        snapshot.sweeps = 1;
        let quality = Quality::of(&snapshot, Some((4, 2)));
        assert_eq!(quality.alignment_ratio, Some(0.6));
        let odte = quality.odte.unwrap();
        assert!((odte - 0.5 * 0.8 * 0.9).abs() < 1e-12, "{odte}");
        assert_eq!(quality.figures().count(), 5);
        let unknown = Quality::of(&snapshot, None);
        assert_eq!((unknown.odte, unknown.figures().count()), (None, 3));
        let stale = types(&snapshot).into_iter();
        let stale: Vec<_> = stale
            .map(|(name, one)| (name, one.stale, one.mean))
            .collect();
        assert_eq!(
            stale,
            [("current", Some(3), None), ("temperature", Some(1), None)]
        );
    }
}
