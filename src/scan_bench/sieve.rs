//! Tells cycles that a gap of the host touched from those it did not, as a pure state machine.
//!
//! A gap is a time in which the witness, the foremost thread of the core, did not run either. A
//! cycle waits here until the witness was awake after its end; only then every gap that could
//! touch it is known. Nothing here reads a clock.
//!
//! Bound: [`PENDING_MAX`] cycles wait, [`LONG_MAX`] of those that were too long are kept; gaps are
//! forgotten when no waiting cycle can touch them.

use std::collections::VecDeque;

use actorsim_world::scan::stats::{CycleRecord, Times};

use super::witness::GAP_NS;

/// Cycles that wait for the witness: as many as the ring of records has.
const PENDING_MAX: usize = actorsim_world::lanes::RECORD_LANE;

/// Cycles kept to be looked at: where there are more, they are alike.
const LONG_MAX: usize = 16;

/// A time in which the core ran nobody, nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the witness was due.
    pub from_ns: u64,
    /// When it ran.
    pub to_ns: u64,
}

impl Gap {
    fn touches(self, record: &CycleRecord) -> bool {
        awaited_ns(record) <= self.to_ns && self.from_ns <= record.ts_ns + record.took_ns
    }
}

/// Since when the cycle was due, or the first of the slots that passed before it.
fn awaited_ns(record: &CycleRecord) -> u64 {
    let late_ns = record.late_ns + record.skipped * record.period_ns;
    record.ts_ns.saturating_sub(late_ns)
}

/// The sieve of one task.
#[derive(Debug, Default)]
pub struct Sieve {
    pending: VecDeque<CycleRecord>,
    gaps: VecDeque<Gap>,
    /// The cycle before was touched: its start is in the jitter of the next one.
    previous_touched: bool,
    /// Cycles that a gap touched.
    pub touched: u64,
    /// Of the others those that were longer than their period, or came after a slot that passed.
    pub overruns: u64,
    /// The first of those.
    pub long: Vec<CycleRecord>,
    /// Jitter of the others.
    pub jitter: Times,
    /// Lateness of the others.
    pub lateness: Times,
    /// Length of the others.
    pub took: Times,
}

impl Sieve {
    /// A new run of cycles: what went before it has nothing to do with it.
    pub fn begin(&mut self) {
        while !self.pending.is_empty() {
            self.settle_one();
        }
        self.gaps.clear();
        self.previous_touched = false;
    }

    /// A cycle, in order.
    pub fn offer(&mut self, record: CycleRecord) {
        if self.pending.len() == PENDING_MAX {
            // the witness is stuck for thousands of cycles: judged by what is known
            self.settle_one();
        }
        self.pending.push_back(record);
    }

    /// A gap, in order.
    pub fn gap(&mut self, gap: Gap) {
        self.gaps.push_back(gap);
    }

    /// The witness was awake at `awake_ns` and every gap before is known.
    pub fn settle(&mut self, awake_ns: u64) {
        while let Some(first) = self.pending.front() {
            if first.ts_ns + first.took_ns >= awake_ns {
                break;
            }
            self.settle_one();
        }
    }

    fn settle_one(&mut self) {
        let Some(record) = self.pending.pop_front() else {
            return;
        };
        let awaited_ns = awaited_ns(&record);
        while self.gaps.front().is_some_and(|gap| gap.to_ns < awaited_ns) {
            self.gaps.pop_front();
        }
        if self.gaps.iter().any(|gap| gap.touches(&record)) {
            self.touched += 1;
            self.previous_touched = true;
            return;
        }
        let skipped = record.skipped > 0 && !self.previous_touched;
        if record.took_ns > record.period_ns || skipped {
            self.overruns += 1;
            if self.long.len() < LONG_MAX {
                self.long.push(record);
            }
        }
        if let (Some(jitter_ns), false) = (record.jitter_ns, self.previous_touched) {
            self.jitter.record(jitter_ns);
        }
        self.previous_touched = false;
        self.lateness.record(record.late_ns);
        self.took.record(record.took_ns);
    }
}

/// How late somebody woke, without what `gaps` gaps of the host explain, where it is not known when
/// that was, as of cyclictest: each gap takes the latest wake that is as late as a gap. Who is
/// compared with it is judged by the same rule.
pub(super) fn without_gaps(mut samples: Vec<u64>, gaps: u64) -> Times {
    samples.sort_unstable();
    for _ in 0..gaps {
        if samples.last().is_none_or(|ns| *ns <= GAP_NS) {
            break;
        }
        samples.pop();
    }
    let mut times = Times::default();
    samples.into_iter().for_each(|ns| times.record(ns));
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle(due_ns: u64, late_ns: u64) -> CycleRecord {
        CycleRecord {
            ts_ns: due_ns + late_ns,
            late_ns,
            took_ns: 100,
            jitter_ns: Some(late_ns),
            ..CycleRecord::default()
        }
    }

    #[test]
    fn a_late_cycle_in_a_gap_is_the_hosts_and_one_outside_is_ours() {
        let mut sieve = Sieve::default();
        for (due_ns, late_ns) in [(1_000, 5), (2_000, 700), (3_000, 6), (4_000, 800)] {
            sieve.offer(cycle(due_ns, late_ns));
        }
        sieve.gap(Gap {
            from_ns: 1_900,
            to_ns: 2_690,
        });
        sieve.settle(10_000);
        assert_eq!(sieve.touched, 1);
        let lateness = sieve.lateness.quantiles().unwrap();
        assert_eq!((lateness.count, lateness.max), (3, 0.8));
        let jitter = sieve.jitter.quantiles().unwrap();
        assert_eq!(jitter.count, 2, "the one after a gap has the gap in it");
    }

    #[test]
    fn a_slot_that_passed_within_a_gap_is_the_hosts_though_the_next_cycle_came_in_time() {
        let skipping = |due_ns, skipped| CycleRecord {
            period_ns: 1_000,
            skipped,
            ..cycle(due_ns, 5)
        };
        let mut sieve = Sieve::default();
        for (due_ns, skipped) in [(3_000, 1), (4_000, 0), (6_000, 1)] {
            sieve.offer(skipping(due_ns, skipped));
        }
        sieve.gap(Gap {
            from_ns: 1_900,
            to_ns: 2_990,
        });
        sieve.settle(10_000);
        assert_eq!((sieve.touched, sieve.overruns), (1, 1));
        assert_eq!(sieve.long.len(), 1);
    }

    #[test]
    fn a_cycle_waits_until_the_witness_was_awake_after_it() {
        let mut sieve = Sieve::default();
        sieve.offer(cycle(1_000, 50));
        sieve.settle(1_100);
        assert_eq!(sieve.lateness.count(), 0);
        sieve.settle(1_151);
        assert_eq!(sieve.lateness.count(), 1);
    }

    #[test]
    fn a_gap_explains_one_late_wake_and_no_timely_one() {
        let late = GAP_NS * 3;
        let times = without_gaps(vec![5, late, 7, late * 2], 1);
        assert_eq!(times.count(), 3);
        let times = without_gaps(vec![5, late, 7], 9);
        assert_eq!(times.quantiles().unwrap().max, 0.007);
    }
}
