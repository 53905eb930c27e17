//! PostUpdate, first: count, sum, least and greatest value per sensor type.
//!
//! It walks the slice of the table that [`super::Sweep`] chose for this cycle, reading 32 bytes a
//! row; the aggregates of a whole walk replace the published ones at its end. Values that are not
//! finite and rows without a value do not count. Where rows go to files, it hands out those with a
//! value that was not handed out yet.
//!
//! Bound: [`super::SWEEP_ROWS_PER_CYCLE`] rows per cycle.

use bevy_ecs::prelude::*;

use super::{Aggregate, CycleState, RowsOut, SystemId};
use crate::components::{Cold, Flags, Hot, KIND_BITS, KINDS};
use crate::row_files::RowRecord;

pub(super) fn export(
    mut rows: Query<'_, '_, (&mut Hot, &Cold)>,
    mut state: ResMut<'_, CycleState>,
) -> Result {
    let CycleState {
        rows_out,
        sweep,
        timings,
        ..
    } = &mut *state;
    let Some(_running) = timings.enter(SystemId::Export) else {
        return Ok(());
    };
    let Some((mut hot, cold)) = rows.contiguous_iter_mut()?.next() else {
        return Ok(());
    };
    let hot = hot.bypass_change_detection();
    let range = sweep.range.clone();
    if rows_out.is_on() {
        hand_out(&mut hot[range.clone()], &cold[range.clone()], rows_out);
    }
    aggregate(&hot[range], &mut sweep.partial);
    if sweep.ends {
        sweep.aggregates = std::mem::take(&mut sweep.partial);
    }
    Ok(())
}

/// Adds the values of rows to those of their types.
fn aggregate(hot: &[Hot], into: &mut [Aggregate; KINDS]) {
    // of its own, so that no row's value has to wait for what another one changed in the sweep
    let mut by_kind = [Aggregate::default(); KIND_BITS];
    by_kind[..KINDS].copy_from_slice(into);
    for Hot { value, flags, .. } in hot {
        if flags.0 & (Flags::VALUED | Flags::NON_FINITE) == Flags::VALUED {
            by_kind[usize::from(flags.kind())].add(*value);
        }
    }
    into.copy_from_slice(&by_kind[..KINDS]);
}

/// Copies rows with news out; those that find no room keep theirs for the next walk.
fn hand_out(hot: &mut [Hot], cold: &[Cold], out: &mut RowsOut) {
    for (hot, cold) in hot.iter_mut().zip(cold) {
        if !hot.flags.has(Flags::NEWS | Flags::BOUND) {
            continue;
        }
        let folded = hot.flags.has(Flags::FOLDED);
        let taken = out.take(RowRecord {
            device: cold.device,
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
