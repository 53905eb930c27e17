//! Update, first: smooths the rows that this cycle touched and counts threshold crossings.
//!
//! A row folds its newest value once per cycle in which it was touched, and its window takes it if
//! it has one; NaN and infinities are never folded. It reads no clock: the weight is per value, not
//! per time.
//!
//! Bound: the rows listed in [`super::Touched`].

use super::{CycleState, Rows, WorldRules};
use crate::components::{Flags, Hot};
use crate::prefetch::{AHEAD, LARGE, prefetch};

pub(super) fn simulation(rows: &mut Rows<'_>, state: &mut CycleState) {
    let CycleState {
        rules,
        touched,
        tally,
        windows,
        ..
    } = state;
    let hot = &mut *rows.hot;
    tally.crossings += if hot.len() > LARGE {
        smooth::<AHEAD>(hot, touched.rows(), rules)
    } else {
        smooth::<0>(hot, touched.rows(), rules)
    };
    windows.take(hot, touched.rows());
}

/// Smooths rows, fetched `FAR` rows ahead of their use; returns how many crossed their threshold.
fn smooth<const FAR: usize>(hot: &mut [Hot], rows: &[u32], rules: &WorldRules) -> u64 {
    let mut crossings = 0;
    let thresholds = rules.thresholds_by_kind();
    for (at, row) in rows.iter().enumerate() {
        if FAR > 0 {
            let later = rows.get(at + FAR).copied().unwrap_or_default();
            prefetch(hot, later as usize);
        }
        let hot = &mut hot[*row as usize];
        let flags = hot.flags;
        hot.flags.clear(Flags::TOUCHED);
        if flags.has(Flags::NON_FINITE) {
            continue;
        }
        let kind = flags.kind();
        if flags.has(Flags::FOLDED) {
            let before = hot.smoothed;
            let after = folded(before, hot.value, rules.alpha);
            let crossed = crossed(before, after, thresholds[usize::from(kind)]);
            hot.smoothed = after;
            hot.crossings = hot.crossings.wrapping_add(u16::from(crossed));
            crossings += u64::from(crossed);
        } else {
            hot.flags.set(Flags::FOLDED);
            hot.smoothed = clamped(hot.value);
        }
    }
    crossings
}

/// One step of the exponentially weighted mean; never leaves the finite range of `f32`.
fn folded(mean: f32, value: f64, alpha: f64) -> f32 {
    // as a weighted sum, not mean + alpha * (value - mean): the difference of two finite values
    // can be infinite
    clamped(f64::from(mean) * (1.0 - alpha) + value * alpha)
}

fn clamped(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

fn crossed(before: f32, after: f32, threshold: f64) -> bool {
    (f64::from(before) < threshold) != (f64::from(after) < threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_moves_by_alpha() {
        assert_eq!(folded(10.0, 18.0, 0.125), 11.0);
        assert_eq!(folded(-8.0, 8.0, 0.5), 0.0);
    }

    #[test]
    fn extreme_values_keep_the_mean_finite() {
        for value in [f64::MAX, f64::MIN, 1e300, -1e300] {
            assert!(clamped(value).is_finite());
            assert!(folded(f32::MAX, value, 0.125).is_finite());
            assert!(folded(f32::MIN, value, 0.125).is_finite());
        }
    }

    #[test]
    fn touching_a_threshold_from_below_is_a_crossing_once() {
        assert!(crossed(0.9, 1.0, 1.0));
        assert!(!crossed(1.0, 1.1, 1.0));
        assert!(crossed(1.0, 0.9, 1.0));
        assert!(!crossed(0.5, 0.9, 1.0));
    }
}
