//! PostUpdate, first: count, sum, least and greatest value per sensor type.
//!
//! It walks the slice of the table that [`super::Sweep`] chose for this cycle, reading 32 bytes a
//! row; the aggregates of a whole walk replace the published ones at its end. Values that are not
//! finite and rows without a value do not count. Where rows go to files, it hands out those with a
//! value that was not handed out yet.
//!
//! Bound: [`super::SWEEP_ROWS_PER_CYCLE`] rows per cycle.

use std::ops::Range;

use super::{Aggregate, CycleState, Rows, RowsOut, Windows};
use crate::components::{Flags, Hot, KIND_BITS};
use crate::row_files::RowRecord;

pub(super) fn export(rows: &mut Rows<'_>, state: &mut CycleState) {
    let CycleState {
        rows_out,
        sweep,
        windows,
        ..
    } = state;
    let range = sweep.range.clone();
    if rows_out.is_on() {
        hand_out(rows, range.clone(), windows, rows_out);
    }
    aggregate(&rows.hot[range], &mut sweep.partial);
    if sweep.ends {
        let found = std::mem::replace(&mut sweep.partial, [Aggregate::NONE; KIND_BITS]);
        sweep.aggregates = std::array::from_fn(|kind| found[kind].told());
    }
}

/// Adds the values of rows to those of their types.
#[inline(never)] // on its own it is known that no row lies in what it writes to
fn aggregate(hot: &[Hot], into: &mut [Aggregate; KIND_BITS]) {
    for Hot { value, flags, .. } in hot {
        if flags.0 & (Flags::VALUED | Flags::NON_FINITE) == Flags::VALUED {
            into[usize::from(flags.kind())].add(*value);
        }
    }
}

/// Copies rows with news out; those that find no room keep theirs for the next walk.
fn hand_out(rows: &mut Rows<'_>, range: Range<usize>, windows: &Windows, out: &mut RowsOut) {
    for row in range {
        let (hot, cold) = (&mut rows.hot[row], &rows.cold[row]);
        if !hot.flags.has(Flags::NEWS | Flags::BOUND) {
            continue;
        }
        let folded = hot.flags.has(Flags::FOLDED);
        let taken = out.take(RowRecord {
            device: rows.devices[cold.asset as usize],
            at_us: hot.at_us,
            value: hot.value,
            smoothed: if folded { hot.smoothed } else { f32::NAN },
            sensor: cold.sensor,
            kind: hot.flags.kind(),
            window: windows.of(row as u32).map_or([f64::NAN; 3], |window| {
                [window.mean, window.min, window.max]
            }),
        });
        if taken {
            hot.flags.clear(Flags::NEWS);
        }
    }
}
