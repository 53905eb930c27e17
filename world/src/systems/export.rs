//! PostUpdate, first: count, sum, least and greatest value per sensor type.
//!
//! It walks the slice of the table that [`Sweep`] chose for this cycle, reading 32 bytes a row; the
//! aggregates of a whole walk replace the published ones at its end. Values that are not finite and
//! rows without a value do not count.
//!
//! Bound: [`super::SWEEP_ROWS_PER_CYCLE`] rows per cycle.

use bevy_ecs::prelude::*;

use super::{Sweep, SystemId, Timings};
use crate::components::{Flags, Hot, KINDS};

pub(super) fn export(
    rows: Query<'_, '_, &Hot>,
    mut sweep: ResMut<'_, Sweep>,
    mut timings: ResMut<'_, Timings>,
) -> Result {
    let Some(_running) = timings.enter(SystemId::Export) else {
        return Ok(());
    };
    let Some(hot) = rows.contiguous_iter()?.next() else {
        return Ok(());
    };
    let sweep = &mut *sweep;
    let range = sweep.range.clone();
    for Hot { value, flags, .. } in &hot[range] {
        if flags.0 & (Flags::VALUED | Flags::NON_FINITE) == Flags::VALUED {
            sweep.partial[flags.kind() as usize % KINDS].add(*value);
        }
    }
    if sweep.ends {
        sweep.aggregates = std::mem::take(&mut sweep.partial);
    }
    Ok(())
}
