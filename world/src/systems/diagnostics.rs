//! PostUpdate, last: rows grow older, stale rows are marked and counted.
//!
//! It walks the same slice as the export. A row is stale when it got no value for the stale time
//! (see `WorldRules::stale_after`), at the earliest after it and at the latest one ageing sweep
//! later.
//!
//! Bound: [`super::SWEEP_ROWS_PER_CYCLE`] rows per cycle.

use bevy_ecs::prelude::*;

use super::{Sweep, SystemId, Timings, WorldRules};
use crate::components::{Flags, Hot};

pub(super) fn diagnostics(
    mut rows: Query<'_, '_, &mut Hot>,
    rules: Res<'_, WorldRules>,
    mut sweep: ResMut<'_, Sweep>,
    mut timings: ResMut<'_, Timings>,
) -> Result {
    let Some(_running) = timings.enter(SystemId::Diagnostics) else {
        return Ok(());
    };
    let Some(mut hot) = rows.contiguous_iter_mut()?.next() else {
        return Ok(());
    };
    let (_, stale_age) = rules.ageing();
    let sweep = &mut *sweep;
    let mut stale = 0;
    for Hot { flags, .. } in &mut hot.bypass_change_detection()[sweep.range.clone()] {
        if !flags.has(Flags::BOUND) {
            continue;
        }
        if sweep.ageing {
            flags.grow_older(stale_age);
        }
        stale += u64::from(flags.has(Flags::STALE));
    }
    sweep.partial_stale += stale;
    if sweep.ends {
        sweep.stale = std::mem::take(&mut sweep.partial_stale);
        sweep.sweeps += 1;
    }
    Ok(())
}
