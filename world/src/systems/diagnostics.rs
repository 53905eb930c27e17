//! PostUpdate, last: rows grow older, stale rows are marked and counted.
//!
//! It walks the same slice as the export. A row is stale when it got no value for the stale time
//! (see `WorldRules::stale_after`), at the earliest after it and at the latest one ageing sweep
//! later.
//!
//! Bound: [`super::SWEEP_ROWS_PER_CYCLE`] rows per cycle.

use bevy_ecs::prelude::*;

use super::{CycleState, SystemId};
use crate::components::{Flags, Hot};

pub(super) fn diagnostics(
    mut rows: Query<'_, '_, &mut Hot>,
    mut state: ResMut<'_, CycleState>,
) -> Result {
    let CycleState {
        stale_age,
        sweep,
        timings,
        ..
    } = &mut *state;
    let Some(_running) = timings.enter(SystemId::Diagnostics) else {
        return Ok(());
    };
    let Some(mut hot) = rows.contiguous_iter_mut()?.next() else {
        return Ok(());
    };
    let rows = &mut hot.bypass_change_detection()[sweep.range.clone()];
    if sweep.ageing {
        let bound = rows.iter_mut().filter(|row| row.flags.has(Flags::BOUND));
        bound.for_each(|row| row.flags.grow_older(*stale_age));
    }
    let is_stale = |row: &Hot| u64::from(row.flags.has(Flags::BOUND | Flags::STALE));
    sweep.partial_stale += rows.iter().map(is_stale).sum::<u64>();
    if sweep.ends {
        sweep.stale = std::mem::take(&mut sweep.partial_stale);
        sweep.sweeps += 1;
    }
    Ok(())
}
