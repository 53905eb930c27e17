//! PostUpdate, first: count, sum, least and greatest value per sensor type.
//!
//! It walks the slice of the table that [`super::Sweep`] chose for this cycle, reading 32 bytes a
//! row; the aggregates of a whole walk replace the published ones at its end. Values that are not
//! finite and rows without a value do not count. Where rows go to files, it hands out those with a
//! value that was not handed out yet.
//!
//! Bound: [`super::SWEEP_ROWS_PER_CYCLE`] rows per cycle.

use super::{Aggregate, CycleState, Rows, RowsOut};
use crate::components::{Cold, DeviceId, Flags, Hot, KIND_BITS};
use crate::row_files::RowRecord;

pub(super) fn export(rows: &mut Rows<'_>, state: &mut CycleState) {
    let CycleState {
        rows_out, sweep, ..
    } = state;
    let Rows { hot, cold, devices } = rows;
    let range = sweep.range.clone();
    if rows_out.is_on() {
        hand_out(
            &mut hot[range.clone()],
            &cold[range.clone()],
            devices,
            rows_out,
        );
    }
    aggregate(&hot[range], &mut sweep.partial);
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
fn hand_out(hot: &mut [Hot], cold: &[Cold], devices: &[DeviceId], out: &mut RowsOut) {
    for (hot, cold) in hot.iter_mut().zip(cold) {
        if !hot.flags.has(Flags::NEWS | Flags::BOUND) {
            continue;
        }
        let folded = hot.flags.has(Flags::FOLDED);
        let taken = out.take(RowRecord {
            device: devices[cold.asset as usize],
            at_us: hot.at_us,
            value: hot.value,
            smoothed: if folded { hot.smoothed } else { f32::NAN },
            sensor: cold.sensor,
            kind: hot.flags.kind(),
        });
        if taken {
            hot.flags.clear(Flags::NEWS);
        }
    }
}
