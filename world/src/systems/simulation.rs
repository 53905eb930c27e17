//! Update, first: smooths the rows that this cycle touched and counts threshold crossings.
//!
//! A row folds its newest value once per cycle in which it was touched; NaN and infinities are
//! never folded. It reads no clock: the weight is per value, not per time.
//!
//! Bound: the rows listed in [`Touched`].

use bevy_ecs::prelude::*;

use super::{SystemId, Tally, Timings, Touched, WorldRules};
use crate::components::{Flags, Raw, State};

pub(super) fn simulation(
    mut rows: Query<'_, '_, (&Raw, &mut State)>,
    rules: Res<'_, WorldRules>,
    mut touched: ResMut<'_, Touched>,
    mut tally: ResMut<'_, Tally>,
    mut timings: ResMut<'_, Timings>,
) -> Result {
    let _running = timings.enter(SystemId::Simulation);
    let Some((raw, mut state)) = rows.contiguous_iter_mut()?.next() else {
        return Ok(());
    };
    let state = state.bypass_change_detection();
    for row in touched.rows.drain(..) {
        let row = row as usize;
        let State {
            smoothed,
            flags,
            crossings,
        } = &mut state[row];
        flags.clear(Flags::TOUCHED);
        let value = raw[row].0;
        if !value.is_finite() {
            continue;
        }
        if !flags.has(Flags::FOLDED) {
            flags.set(Flags::FOLDED);
            *smoothed = clamped(value);
            continue;
        }
        let before = *smoothed;
        *smoothed = folded(before, value, rules.alpha);
        let threshold = rules.thresholds[flags.kind() as usize % rules.thresholds.len()];
        if crossed(before, *smoothed, threshold) {
            *crossings = crossings.wrapping_add(1);
            tally.crossings += 1;
        }
    }
    Ok(())
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
