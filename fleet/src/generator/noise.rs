//! Counter-based noise: every number is a pure function of (seed, draw number, lane).
//!
//! No state, so a draw can be repeated, skipped or made on any machine. It is not cryptographic.
//! Logarithm, sine and cosine come from `libm`, so that bytes agree across machines; the square
//! root is exact by IEEE 754 anyway.

use core::f64::consts::TAU;

/// The odd constant of SplitMix64 (Steele, Lea, Flood 2014): 2^64 / golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// A second odd constant, so that lanes of one draw never meet other draws in small numbers.
const LANE: u64 = 0xd1b5_4a32_d192_ed03;
/// 2^-53: the spacing of the uniform numbers.
const UNIT: f64 = 1.0 / (1u64 << 53) as f64;

/// The finaliser of SplitMix64.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 64 random bits for (seed, draw, lane). The seed is mixed first: seeds of neighbours differ by
/// an XOR of two hashes, and must not line up with each other's counters.
#[must_use]
pub const fn bits(seed: u64, draw: u64, lane: u64) -> u64 {
    mix(mix(seed.wrapping_add(GOLDEN))
        .wrapping_add(draw.wrapping_mul(GOLDEN))
        .wrapping_add(lane.wrapping_mul(LANE)))
}

/// A uniform number in [0, 1).
#[must_use]
pub fn uniform(seed: u64, draw: u64, lane: u64) -> f64 {
    (bits(seed, draw, lane) >> 11) as f64 * UNIT
}

/// A standard normal number (Box and Muller 1958). Draws 2k and 2k+1 are the two variates of one
/// pair, so nothing has to be cached between draws.
#[must_use]
pub fn normal(seed: u64, draw: u64, lane: u64) -> f64 {
    let pair = draw >> 1;
    let radius_bits = bits(seed, pair, lane << 1);
    let u1 = ((radius_bits >> 11) + 1) as f64 * UNIT; // (0, 1]: the logarithm is finite
    let u2 = uniform(seed, pair, (lane << 1) | 1);
    let radius = (-2.0 * libm::log(u1)).sqrt();
    let angle = TAU * u2;
    if draw & 1 == 0 {
        radius * libm::cos(angle)
    } else {
        radius * libm::sin(angle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 100_000;

    #[test]
    fn normal_draws_have_mean_zero_and_deviation_one() {
        let draws: Vec<f64> = (0..DRAWS).map(|n| normal(42, n, 0)).collect();
        let mean = draws.iter().sum::<f64>() / DRAWS as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / DRAWS as f64;
        assert!(mean.abs() < 0.015, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.02, "variance {variance}");
        let beyond_two = draws.iter().filter(|x| x.abs() > 1.959_964).count() as f64;
        assert!((beyond_two / DRAWS as f64 - 0.05).abs() < 0.003);
        assert!(draws.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn neighbouring_draws_lanes_and_seeds_are_uncorrelated() {
        let correlation = |a: &dyn Fn(u64) -> f64, b: &dyn Fn(u64) -> f64| {
            (0..DRAWS).map(|n| a(n) * b(n)).sum::<f64>() / DRAWS as f64
        };
        let base = |n| normal(42, n, 0);
        assert!(correlation(&base, &|n| normal(42, n + 1, 0)).abs() < 0.015);
        assert!(correlation(&base, &|n| normal(42, n, 1)).abs() < 0.015);
        assert!(correlation(&base, &|n| normal(43, n, 0)).abs() < 0.015);
        assert!(correlation(&base, &|n| normal(42 ^ (1 << 63), n, 0)).abs() < 0.015);
    }

    #[test]
    fn uniform_draws_fill_the_unit_interval_evenly() {
        let mut bins = [0u32; 16];
        for n in 0..DRAWS {
            let u = uniform(7, n, 3);
            assert!((0.0..1.0).contains(&u));
            bins[(u * 16.0) as usize] += 1;
        }
        let expected = DRAWS as f64 / 16.0;
        let chi2: f64 = bins
            .iter()
            .map(|&b| (f64::from(b) - expected).powi(2) / expected)
            .sum();
        assert!(
            chi2 < 37.7,
            "chi squared {chi2}: 15 degrees of freedom, p = 0.001"
        );
    }
}
