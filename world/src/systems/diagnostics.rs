//! PostUpdate, last: rows grow older, stale rows are marked and counted per sensor type.
//!
//! It walks the same slice as the export. A row is stale when it got no value for the stale time
//! (see `WorldRules::stale_after`), at the earliest after it and at the latest one ageing sweep
//! later.
//!
//! Bound: [`super::SWEEP_ROWS_PER_CYCLE`] rows per cycle.

use super::{CycleState, Rows};
use crate::components::{Flags, Hot, KIND_BITS};

pub(super) fn diagnostics(rows: &mut Rows<'_>, state: &mut CycleState) {
    let CycleState {
        stale_age, sweep, ..
    } = state;
    let rows = &mut rows.hot[sweep.range.clone()];
    if sweep.ageing {
        count(rows, &mut sweep.partial_stale, |flags| {
            if flags.has(Flags::BOUND) {
                flags.grow_older(*stale_age);
            }
        });
    } else {
        count(rows, &mut sweep.partial_stale, |_| {});
    }
    if sweep.ends {
        let found = std::mem::take(&mut sweep.partial_stale);
        sweep.stale = std::array::from_fn(|kind| found[kind]);
        sweep.sweeps += 1;
    }
}

/// Counts the stale rows, each after `age`. Most rows of a twin are not stale: a branch that is
/// not taken costs less than to add nothing.
#[inline]
fn count(rows: &mut [Hot], into: &mut [u32; KIND_BITS], age: impl Fn(&mut Flags)) {
    for Hot { flags, .. } in rows {
        age(flags);
        if flags.has(Flags::STALE) {
            into[usize::from(flags.kind())] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::components::KINDS;

    #[test]
    fn each_type_has_its_own_count_and_blank_and_fresh_rows_have_none() {
        let stale: [u32; KINDS] = [0, 1, 2, 3, 5, 8, 300];
        let mut rows = vec![Hot::default(); 10];
        for (kind, stale) in (0_u8..).zip(stale) {
            let mut flags = Flags::bound(kind);
            let row = |flags| Hot {
                flags,
                ..Hot::default()
            };
            rows.extend((0..stale).map(|_| row(flags)));
            flags.refresh();
            rows.push(row(flags));
        }
        let mut found = [0; KIND_BITS];
        count(&mut rows, &mut found, |_| {});
        assert_eq!(found[..KINDS], stale);
        count(&mut rows, &mut found, |flags| {
            if flags.has(Flags::BOUND) {
                flags.grow_older(1);
            }
        });
        let all = stale.map(|before| before + before + 1);
        assert_eq!(found[..KINDS], all, "what has grown old is counted at once");
    }
}
