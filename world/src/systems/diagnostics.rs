//! PostUpdate, last: rows grow older, stale rows are marked and counted.
//!
//! It walks the same slice as the export. A row is stale when it got no value for the stale time
//! (see `WorldRules::stale_after`), at the earliest after it and at the latest one ageing sweep
//! later.
//!
//! Bound: [`super::SWEEP_ROWS_PER_CYCLE`] rows per cycle.

use super::{CycleState, Rows};
use crate::components::{Flags, Hot};

pub(super) fn diagnostics(rows: &mut Rows<'_>, state: &mut CycleState) {
    let CycleState {
        stale_age, sweep, ..
    } = state;
    let rows = &mut rows.hot[sweep.range.clone()];
    let is_stale = |row: &Hot| u64::from(row.flags.has(Flags::BOUND | Flags::STALE));
    let stale: u64 = if sweep.ageing {
        let aged = rows.iter_mut().map(|row| {
            if row.flags.has(Flags::BOUND) {
                row.flags.grow_older(*stale_age);
            }
            is_stale(row)
        });
        aged.sum()
    } else {
        rows.iter().map(is_stale).sum()
    };
    sweep.partial_stale += stale;
    if sweep.ends {
        sweep.stale = std::mem::take(&mut sweep.partial_stale);
        sweep.sweeps += 1;
    }
}
