//! How much of its core the scan takes, as a pure state machine: lengths of cycles go in, its share
//! and the time before which the next cycle must not begin come out.
//!
//! A thread of the real-time class that never rests starves its core, until the kernel's throttle
//! stops it in the middle of whatever it does (95 % of a second, by default). So the scan keeps
//! below that by itself, between two cycles: what it has taken beyond [`SHARE_MAX`] of the time is
//! owed, and of what is owed no more than [`OWED_MAX_NS`] may stand when a cycle begins. A slot
//! that passes meanwhile is skipped, as after any late cycle. In the normal class nobody starves,
//! and the share is only measured.
//!
//! Bound: within a second at most [`SHARE_MAX`] of it, [`OWED_MAX_NS`], and one cycle.

/// Share of its core that the scan may take in the long run.
pub const SHARE_MAX: f64 = 0.9;

/// What may be owed when a cycle begins: with [`SHARE_MAX`] of a second below what the kernel
/// allows, and above a cycle or two that were longer than usual.
pub const OWED_MAX_NS: f64 = 40e6;

/// The share is told by the second.
const WINDOW_NS: u64 = 1_000_000_000;

/// Seconds without a rest after which it counts as well again.
const WELL_AFTER: u32 = 10;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first rest after a time without one.
    Rests,
    /// There was none for a while.
    Well,
}

/// Share of a core over time.
#[derive(Clone, Debug)]
pub struct Duty {
    /// Time taken beyond the share, as of `at_ns`.
    owed_ns: f64,
    at_ns: u64,
    from_ns: u64,
    busy_ns: u64,
    /// The last whole second.
    share: Option<f64>,
    rested: bool,
    /// Seconds since the last one with a rest; `None` if it is well.
    well: Option<u32>,
}

impl Duty {
    /// Nothing taken by `now_ns`.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        Self {
            owed_ns: 0.0,
            at_ns: now_ns,
            from_ns: now_ns,
            busy_ns: 0,
            share: None,
            rested: false,
            well: None,
        }
    }

    /// A cycle took the core for so long, until `now_ns`.
    pub fn took(&mut self, took_ns: u64, now_ns: u64) -> Option<Change> {
        let began_ns = now_ns.saturating_sub(took_ns);
        self.owed_ns = self.owed_at(began_ns) + took_ns as f64 * (1.0 - SHARE_MAX);
        self.at_ns = now_ns;
        self.busy_ns += took_ns;
        let window_ns = now_ns.saturating_sub(self.from_ns);
        if window_ns < WINDOW_NS {
            return None;
        }
        self.share = Some((self.busy_ns as f64 / window_ns as f64).min(1.0));
        (self.from_ns, self.busy_ns) = (now_ns, 0);
        let rested = std::mem::take(&mut self.rested);
        let well = self.well.as_mut()?;
        *well = if rested { 0 } else { *well + 1 };
        if *well < WELL_AFTER {
            return None;
        }
        self.well = None;
        Some(Change::Well)
    }

    /// The next cycle is due then: when it may begin, and what that changes.
    pub fn begins(&mut self, due_ns: u64) -> (u64, Option<Change>) {
        // a slot that passed while the last cycle ran is due at its end
        let from_ns = due_ns.max(self.at_ns);
        let beyond_ns = self.owed_at(from_ns) - OWED_MAX_NS;
        if beyond_ns <= 0.0 {
            return (due_ns, None);
        }
        self.rested = true;
        let first = self.well.replace(0).is_none();
        let rest_ns = (beyond_ns / SHARE_MAX).ceil() as u64;
        (from_ns + rest_ns, first.then_some(Change::Rests))
    }

    /// Share of the last whole second; `None` before its end.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        self.share
    }

    fn owed_at(&self, now_ns: u64) -> f64 {
        let rested_ns = now_ns.saturating_sub(self.at_ns) as f64;
        // nothing is saved up: a quiet hour does not pay for a busy second
        (self.owed_ns - rested_ns * SHARE_MAX).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cycles of this length on a grid: begin and end of each, over so many seconds; and what
    /// changed.
    fn run(period_ns: u64, took_ns: u64, seconds: u64) -> (Vec<(u64, u64)>, Vec<Change>) {
        let (mut duty, mut now_ns) = (Duty::new(0), 0);
        let (mut cycles, mut changes) = (Vec::<(u64, u64)>::new(), Vec::new());
        while now_ns < seconds * WINDOW_NS {
            // it may have passed already
            let begun_ns = cycles.last().map_or(0, |(begin_ns, _)| *begin_ns);
            let (begins_ns, change) = duty.begins((begun_ns / period_ns + 1) * period_ns);
            changes.extend(change);
            let begin_ns = begins_ns.max(now_ns);
            now_ns = begin_ns + took_ns;
            changes.extend(duty.took(took_ns, now_ns));
            cycles.push((begin_ns, now_ns));
        }
        (cycles, changes)
    }

    /// The greatest share of any second, and that of all.
    fn shares(cycles: &[(u64, u64)]) -> (f64, f64) {
        let within = |from: u64, to: u64| {
            let part =
                |(begin, end): &(u64, u64)| (*end).min(to).saturating_sub((*begin).max(from));
            cycles.iter().map(part).sum::<u64>() as f64 / (to - from) as f64
        };
        let some = cycles.iter().step_by(cycles.len() / 40 + 1);
        let seconds = some.map(|(begin, _)| within(*begin, begin + WINDOW_NS));
        let end = cycles.last().map_or(1, |(_, end)| *end);
        (seconds.fold(0.0, f64::max), within(0, end))
    }

    #[test]
    fn a_scan_that_never_ends_leaves_its_core_a_tenth_of_each_second() {
        for (period_ms, took_ms) in [(1, 1), (1, 3), (10, 10), (10, 100), (100, 96)] {
            let (cycles, changes) = run(period_ms * 1_000_000, took_ms * 1_000_000, 5);
            let (most, all) = shares(&cycles);
            assert!(most < 0.95, "{took_ms} of {period_ms} ms: {most}");
            assert!(
                (0.5..=0.91).contains(&all),
                "{took_ms} of {period_ms} ms: {all}"
            );
            assert_eq!(changes, [Change::Rests], "told once");
        }
    }

    #[test]
    fn a_scan_below_its_share_never_rests_nor_does_one_long_cycle_make_it() {
        for (period_ms, took_ms) in [(2, 1), (10, 8), (100, 89)] {
            let (cycles, changes) = run(period_ms * 1_000_000, took_ms * 1_000_000, 5);
            let on_time = |(begin_ns, _): &(u64, u64)| begin_ns % (period_ms * 1_000_000) == 0;
            assert!(cycles.iter().all(on_time));
            assert_eq!(changes, []);
        }
        let mut duty = Duty::new(0);
        duty.took(300_000_000, 300_000_000);
        assert_eq!(duty.begins(301_000_000), (301_000_000, None));
    }

    #[test]
    fn it_is_well_after_a_while_without_a_rest_and_the_share_is_that_of_a_second() {
        let mut duty = Duty::new(0);
        duty.took(900_000_000, 900_000_000);
        assert_eq!(
            (duty.share(), duty.begins(900_000_000).1),
            (None, Some(Change::Rests))
        );
        let changes: Vec<_> = (1..15)
            .filter_map(|second| duty.took(500_000_000, second * WINDOW_NS))
            .collect();
        assert_eq!(changes, [Change::Well]);
        assert_eq!(duty.share(), Some(0.5));
    }
}
