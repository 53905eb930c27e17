//! Numbers from a seed: a pure function of (seed, number, lane).
//!
//! No state, so that strike 17 draws the same numbers whether or not strike 16 found a victim, and
//! a list of strikes can be shortened without changing those that stay. Not cryptographic.

/// The odd constant of SplitMix64 (Steele, Lea, Flood 2014): 2^64 / golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Keeps the lanes of one number apart from other numbers.
const LANE: u64 = 0xd1b5_4a32_d192_ed03;

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 64 bits for (seed, number, lane).
#[must_use]
pub const fn bits(seed: u64, number: u64, lane: u64) -> u64 {
    mix(mix(seed.wrapping_add(GOLDEN))
        .wrapping_add(number.wrapping_mul(GOLDEN))
        .wrapping_add(lane.wrapping_mul(LANE)))
}

/// A whole number below `below`; 0 if that is 0.
#[must_use]
pub const fn below(seed: u64, number: u64, lane: u64, below: u64) -> u64 {
    // Lemire 2019, without the rejection: the bias is below 2^-32 for fewer than 2^32 choices.
    ((bits(seed, number, lane) as u128 * below as u128) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_and_lanes_apart() {
        let mut bins = [0_u32; 7];
        for number in 0..70_000 {
            bins[below(42, number, 1, 7) as usize] += 1;
        }
        assert!(bins.iter().all(|n| n.abs_diff(10_000) < 500), "{bins:?}");
        assert_eq!(below(1, 2, 3, 0), 0);
        assert_ne!(bits(1, 2, 3), bits(1, 3, 2));
    }
}
