//! PreUpdate: the readings of the cycle go into their rows, by table row.
//!
//! T1: newest wins, by sequence (wrapping), and gaps are counted as loss. T2: always counts and
//! always reaches the automation, but overwrites a value only if it is not older. Nothing is
//! smoothed or judged here. Change detection is bypassed: touched rows are listed instead.
//!
//! Bound: the batches in [`Intake`], at most [`super::READINGS_PER_CYCLE`] readings.

use bevy_ecs::prelude::*;

use super::{Intake, PresenceSample, SystemId, Tally, Timings, Touched};
use crate::batch::{Outcome, RowReading};
use crate::components::{Cold, Flags, KIND_PRESENCE, Raw, State};

pub(super) fn ingest(
    mut rows: Query<'_, '_, (&mut Raw, &mut State, &mut Cold)>,
    mut intake: ResMut<'_, Intake>,
    mut touched: ResMut<'_, Touched>,
    mut tally: ResMut<'_, Tally>,
    mut timings: ResMut<'_, Timings>,
) -> Result {
    let _running = timings.enter(SystemId::Ingest);
    let Some((mut raw, mut state, mut cold)) = rows.contiguous_iter_mut()?.next() else {
        return Ok(());
    };
    let mut columns = Columns {
        raw: raw.bypass_change_detection(),
        state: state.bypass_change_detection(),
        cold: cold.bypass_change_detection(),
        touched: &mut touched,
        tally: &mut tally,
    };
    let now_ns = intake.now_ns;
    for batch in &mut intake.batches {
        let outcome = batch.verdict(columns.tally.applied_offset);
        let readings = batch.readings.len() as u64;
        match outcome {
            Outcome::Applied if batch.is_event() => {
                batch
                    .readings
                    .iter()
                    .for_each(|reading| columns.event(reading));
                columns.tally.t2_applied += readings;
            }
            Outcome::Applied => {
                batch
                    .readings
                    .iter()
                    .for_each(|reading| columns.sample(reading));
                columns.tally.t1_applied += readings;
            }
            Outcome::Duplicate => columns.tally.t2_duplicates += readings,
            Outcome::Gap => columns.tally.t2_gaps += readings,
            Outcome::Pending => {}
        }
        if let Some(offset) = batch.settle(outcome, now_ns) {
            columns.tally.applied_offset = offset;
        }
    }
    Ok(())
}

/// How a T1 reading stands to the last one of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Newer, after this many missing ones.
    Newer { missing: u32 },
    /// Older, or the same again.
    Older,
    /// The series began again.
    Restarted,
}

/// Orders `sequence` after `last`, both wrapping; `newer_stamp` tells whether its stamp is newer
/// than the row's, which a delayed datagram's never is.
fn order(last: u32, sequence: u32, newer_stamp: bool) -> Order {
    match sequence.wrapping_sub(last) {
        0 => Order::Older,
        ahead if ahead < 1 << 31 => Order::Newer { missing: ahead - 1 },
        _ if newer_stamp => Order::Restarted,
        _ => Order::Older,
    }
}

struct Columns<'a> {
    raw: &'a mut [Raw],
    state: &'a mut [State],
    cold: &'a mut [Cold],
    touched: &'a mut Touched,
    tally: &'a mut Tally,
}

impl Columns<'_> {
    /// A T1 reading.
    fn sample(&mut self, reading: &RowReading) {
        let row = reading.row as usize;
        let Some(State { flags, .. }) = self.state.get_mut(row) else {
            self.tally.unplaced += 1;
            return;
        };
        let cold = &mut self.cold[row];
        if flags.has(Flags::SEQUENCED) {
            match order(cold.sequence, reading.sequence, reading.at_us > cold.at_us) {
                Order::Newer { missing } => self.tally.lost += u64::from(missing),
                Order::Restarted => self.tally.series_restarts += 1,
                Order::Older => {
                    self.tally.late += 1;
                    // counted as missing when its successor came, unless it is the same again
                    let reordered = reading.sequence != cold.sequence;
                    self.tally.lost = self.tally.lost.saturating_sub(u64::from(reordered));
                    return;
                }
            }
        }
        cold.sequence = reading.sequence;
        flags.set(Flags::SEQUENCED);
        if flags.has(Flags::FROM_EVENT) && reading.at_us < cold.at_us {
            self.tally.late += 1;
            return;
        }
        flags.clear(Flags::FROM_EVENT);
        self.write(row, reading);
    }

    /// A T2 reading.
    fn event(&mut self, reading: &RowReading) {
        let row = reading.row as usize;
        let Some(State { flags, .. }) = self.state.get_mut(row) else {
            self.tally.unplaced += 1;
            return;
        };
        if flags.has(Flags::VALUED) && reading.at_us < self.cold[row].at_us {
            self.tally.late += 1;
            if flags.kind() == KIND_PRESENCE {
                // the event triggers its rule, then the newer value in the row has the last word
                let newer = self.raw[row].0;
                self.presence(reading.row, reading.value);
                self.presence(reading.row, newer);
            }
            return;
        }
        flags.set(Flags::FROM_EVENT);
        self.write(row, reading);
    }

    fn write(&mut self, row: usize, reading: &RowReading) {
        let flags = &mut self.state[row].flags;
        flags.refresh();
        if reading.value.is_finite() {
            flags.clear(Flags::NON_FINITE);
        } else {
            flags.set(Flags::NON_FINITE);
            self.tally.non_finite += 1;
        }
        self.raw[row].0 = reading.value;
        self.cold[row].at_us = reading.at_us;
        if !flags.has(Flags::TOUCHED) && self.touched.rows.len() < self.touched.rows.capacity() {
            flags.set(Flags::TOUCHED);
            self.touched.rows.push(reading.row);
        }
        if flags.kind() == KIND_PRESENCE {
            self.presence(reading.row, reading.value);
        }
    }

    fn presence(&mut self, row: u32, value: f64) {
        if self.touched.presence.len() < self.touched.presence.capacity() {
            self.touched.presence.push(PresenceSample { row, value });
        } else {
            self.tally.presence_missed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_order_wraps() {
        let cases = [
            (5, 6, Order::Newer { missing: 0 }),
            (5, 9, Order::Newer { missing: 3 }),
            (5, 5, Order::Older),
            (5, 4, Order::Older),
            (u32::MAX, 0, Order::Newer { missing: 0 }),
            (u32::MAX - 1, 2, Order::Newer { missing: 3 }),
            (1, u32::MAX, Order::Older),
        ];
        for (last, sequence, expected) in cases {
            assert_eq!(
                order(last, sequence, false),
                expected,
                "{last} -> {sequence}"
            );
        }
    }

    #[test]
    fn a_lower_sequence_with_a_newer_stamp_is_a_new_series() {
        assert_eq!(order(500, 0, true), Order::Restarted);
        assert_eq!(order(500, 0, false), Order::Older);
    }
}
