//! PreUpdate: the readings of the cycle go into their rows, by table row.
//!
//! T1: newest wins, by sequence (wrapping), and gaps are counted as loss. T2: always counts and
//! always reaches the automation, but overwrites a value only if it is not older: by the order of
//! the journal after an event of `actorsim/1`, else by its stamp. A device's clock may be set back
//! or begin anew, so stamps decide only where there is no other order, and never about a value
//! that is stale. Nothing is smoothed or judged here. Change detection is bypassed: touched rows
//! are listed instead.
//!
//! Bound: the batches in [`super::Intake`], at most [`super::READINGS_PER_CYCLE`] readings.

use super::{CycleState, Judged, Rows, Tally, Touched};
use crate::batch::{Outcome, RowReading};
use crate::components::{Flags, Hot};
use crate::prefetch::{AHEAD, LARGE, prefetch};

pub(super) fn ingest(rows: &mut Rows<'_>, state: &mut CycleState) {
    let CycleState {
        intake,
        touched,
        judged,
        tally,
        ..
    } = state;
    touched.clear();
    let mut columns = Columns {
        hot: rows.hot,
        touched,
        judged,
        tally,
    };
    let now_ns = intake.now_ns;
    for batch in &mut intake.batches {
        let outcome = batch.verdict(columns.tally.applied_offset);
        let readings = batch.readings.len() as u64;
        match outcome {
            Outcome::Applied if batch.is_event() => {
                let (events, in_order) = (batch.readings.iter(), batch.is_in_order());
                events.for_each(|reading| columns.event(reading, in_order));
                columns.tally.t2_applied += readings;
            }
            Outcome::Applied => {
                if columns.hot.len() > LARGE {
                    columns.samples::<AHEAD>(&batch.readings);
                } else {
                    columns.samples::<0>(&batch.readings);
                }
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

/// Orders `sequence` after `last`, both wrapping. `not_delayed`: its stamp is newer than the row's,
/// which a delayed datagram's never is, or no datagram is under way as long as the row is stale.
fn order(last: u32, sequence: u32, not_delayed: bool) -> Order {
    match sequence.wrapping_sub(last) {
        0 => Order::Older,
        ahead if ahead < 1 << 31 => Order::Newer { missing: ahead - 1 },
        _ if not_delayed => Order::Restarted,
        _ => Order::Older,
    }
}

struct Columns<'a> {
    hot: &'a mut [Hot],
    touched: &'a mut Touched,
    judged: &'a mut Judged,
    tally: &'a mut Tally,
}

impl Columns<'_> {
    /// T1 readings; rows are fetched `FAR` readings ahead of their use.
    fn samples<const FAR: usize>(&mut self, readings: &[RowReading]) {
        let mut rest = readings;
        while !rest.is_empty() {
            let room = rest.len().min(self.judged.room());
            let (done, lost) = in_series::<FAR>(self.hot, self.touched, self.judged, &rest[..room]);
            self.tally.lost += lost;
            let Some((reading, after)) = rest[done..].split_first() else {
                return;
            };
            self.sample(reading);
            rest = after;
        }
    }

    /// A T1 reading that is not simply the next of its series.
    #[inline(never)]
    fn sample(&mut self, reading: &RowReading) {
        let Some(hot) = self.hot.get_mut(reading.row as usize) else {
            self.tally.unplaced += 1;
            return;
        };
        if hot.flags.has(Flags::SEQUENCED) {
            let not_delayed = reading.at_us > hot.at_us || hot.flags.has(Flags::STALE);
            match order(hot.sequence, reading.sequence, not_delayed) {
                Order::Newer { missing } => self.tally.lost += u64::from(missing),
                Order::Restarted => self.tally.series_restarts += 1,
                Order::Older => {
                    self.tally.late += 1;
                    // counted as missing when its successor came, unless it is the same again
                    let reordered = reading.sequence != hot.sequence;
                    self.tally.lost = self.tally.lost.saturating_sub(u64::from(reordered));
                    return;
                }
            }
        }
        hot.sequence = reading.sequence;
        hot.flags.set(Flags::SEQUENCED);
        // a sample that left before the event is here within a sweep, or never
        let just_now = hot.flags.has(Flags::FROM_EVENT) && hot.flags.age() == 0;
        if just_now && reading.at_us < hot.at_us {
            self.tally.late += 1;
            return;
        }
        hot.flags.clear(Flags::FROM_EVENT);
        self.write(reading);
    }

    /// A T2 reading. `in_order`: events of its device come in the order in which they were made.
    fn event(&mut self, reading: &RowReading, in_order: bool) {
        let Some(hot) = self.hot.get_mut(reading.row as usize) else {
            self.tally.unplaced += 1;
            return;
        };
        let fresh = hot.flags.has(Flags::VALUED) && !hot.flags.has(Flags::STALE);
        let follows = in_order && hot.flags.has(Flags::FROM_EVENT);
        if fresh && !follows && reading.at_us < hot.at_us {
            self.tally.late += 1;
            let (kind, value) = (hot.flags.kind(), hot.value);
            // the event triggers its rules, then the newer value in the row has the last word; if
            // that is no number, the rules are as it found them
            if value.is_finite() {
                self.judged.list(reading, kind);
                self.judged.list(&RowReading { value, ..*reading }, kind);
            } else {
                self.judged.list_passing(reading, kind);
            }
            return;
        }
        hot.flags.set(Flags::FROM_EVENT);
        self.write(reading);
    }

    fn write(&mut self, reading: &RowReading) {
        let hot = &mut self.hot[reading.row as usize];
        let flags = &mut hot.flags;
        flags.refresh();
        if reading.value.is_finite() {
            flags.clear(Flags::NON_FINITE);
        } else {
            flags.set(Flags::NON_FINITE);
            self.tally.non_finite += 1;
        }
        hot.value = reading.value;
        hot.at_us = reading.at_us;
        self.touched.list(reading.row, !flags.has(Flags::TOUCHED));
        flags.set(Flags::TOUCHED);
        self.judged.list(reading, flags.kind());
    }
}

/// What a series in order has: a T1 value before, and no event since.
const IN_ORDER: u16 = Flags::SEQUENCED | Flags::FROM_EVENT;

/// Takes readings as long as each is the next of its series, of a row that there is, and finite, as
/// most are; returns how many, and how many were missing between them. The way is without calls; a
/// row and its value are written into the lists whether they belong there or not. There must be
/// room for all of them to be judged.
#[inline(never)] // on its own all that a round needs is in registers
fn in_series<const FAR: usize>(
    table: &mut [Hot],
    touched: &mut Touched,
    judged: &mut Judged,
    readings: &[RowReading],
) -> (usize, u64) {
    let mut lost = 0;
    let (mut rows, mut values) = (touched.pen(), judged.pen());
    let mut rest = readings;
    while let Some((reading, after)) = rest.split_first() {
        if FAR > 0 {
            let later = rest.get(FAR).map_or(0, |later| later.row);
            prefetch(table, later as usize);
        }
        let Some(hot) = table.get_mut(reading.row as usize) else {
            break;
        };
        let flags = hot.flags;
        let missing = reading.sequence.wrapping_sub(hot.sequence).wrapping_sub(1);
        let next = missing < (1 << 31) - 1;
        if flags.0 & IN_ORDER != Flags::SEQUENCED || !next || !reading.value.is_finite() {
            break;
        }
        lost += u64::from(missing);
        hot.sequence = reading.sequence;
        hot.value = reading.value;
        hot.at_us = reading.at_us;
        let set = Flags::TOUCHED | Flags::NEWS;
        hot.flags.0 = (flags.0 & !(Flags::YOUNG | Flags::NON_FINITE)) | set;
        rows.list(reading.row, !flags.has(Flags::TOUCHED));
        values.list(reading.row, flags.kind(), reading.value);
        rest = after;
    }
    let (rows, values) = (rows.end(), values.end());
    touched.put_down(rows);
    judged.put_down(values);
    (readings.len() - rest.len(), lost)
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
    fn a_lower_sequence_that_is_not_delayed_is_a_new_series() {
        assert_eq!(order(500, 0, true), Order::Restarted);
        assert_eq!(order(500, 0, false), Order::Older);
    }
}
