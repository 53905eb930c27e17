//! Where the cells of a population begin.
//!
//! A pure function of the part's number and the number of shards: the same on every run and every
//! machine. What moves later is asked for, or decided by `balance`. Bound: none needed.

use std::fmt;
use std::ops::Range;

use super::spec::GROUP_SIZE;

/// On which shard each part of a population begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// All on this one; on the last one, if there are fewer.
    Pinned(usize),
    /// In turn over all shards.
    #[default]
    RoundRobin,
    /// By a hash of this key and of the part's number. Where a shard is added, only the parts that
    /// go to it change place; where the last one is taken away, only those that were on it
    /// (rendezvous hashing, Thaler and Ravishankar 1998).
    Sticky(u64),
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned(shard) => write!(f, "pinned {shard}"),
            Self::RoundRobin => f.write_str("round_robin"),
            Self::Sticky(key) => write!(f, "sticky {key}"),
        }
    }
}

/// Cells that are placed, and move, as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number in the population.
    pub number: u32,
    /// The shard that it begins on.
    pub shard: usize,
    /// Its cells: whole groups, but for the ends of the population.
    pub ordinals: Range<u32>,
}

impl Placement {
    /// The shard on which a part of a population begins, of `shards` (at least one).
    #[must_use]
    pub fn shard_of(self, part: u32, shards: usize) -> usize {
        let shards = shards.max(1);
        match self {
            Self::Pinned(shard) => shard.min(shards - 1),
            Self::RoundRobin => part as usize % shards,
            Self::Sticky(key) => (0..shards)
                .max_by_key(|shard| weight(key, part, *shard as u64))
                .unwrap_or(0),
        }
    }

    /// Deals the cells of a population, `groups` groups of [`GROUP_SIZE`] to a part (at least one).
    pub fn deal(
        self,
        ordinals: Range<u32>,
        groups: u32,
        shards: usize,
    ) -> impl Iterator<Item = Part> {
        let size = part_size(groups);
        let numbers = match ordinals.is_empty() {
            true => 0..0,
            false => ordinals.start / size..(ordinals.end - 1) / size + 1,
        };
        numbers.map(move |number| {
            let first = number * size;
            let end = first.saturating_add(size);
            Part {
                number,
                shard: self.shard_of(number, shards),
                ordinals: first.max(ordinals.start)..end.min(ordinals.end),
            }
        })
    }
}

/// Cells of a part that is whole.
pub(super) fn part_size(groups: u32) -> u32 {
    groups.max(1).saturating_mul(GROUP_SIZE)
}

/// What a shard bids for a part: splitmix64 of all three.
const fn weight(key: u64, part: u32, shard: u64) -> u64 {
    let mut z = key ^ mix(((part as u64) << 32) ^ shard);
    z = mix(z.wrapping_add(0x9e37_79b9_7f4a_7c15));
    z
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: u32 = 1_000;

    fn spread(placement: Placement, shards: usize) -> Vec<usize> {
        let of = |part| placement.shard_of(part, shards);
        (0..PARTS).map(of).collect()
    }

    #[test]
    fn every_cell_is_dealt_once_in_whole_groups() {
        for ordinals in [0..1, 0..256, 0..257, 100..5_000, 512..513, 7..7] {
            let parts: Vec<_> = Placement::RoundRobin.deal(ordinals.clone(), 4, 3).collect();
            let dealt: Vec<_> = parts
                .iter()
                .flat_map(|part| part.ordinals.clone())
                .collect();
            assert_eq!(dealt, ordinals.clone().collect::<Vec<_>>());
            for part in parts {
                let Range { start, end } = part.ordinals;
                assert!(start % 1_024 == 0 || start == ordinals.start);
                assert!(end % 1_024 == 0 || end == ordinals.end);
                assert_eq!(part.shard, part.number as usize % 3);
            }
        }
    }

    #[test]
    fn sticky_parts_are_spread_and_follow_their_key() {
        let on = |shards| spread(Placement::Sticky(42), shards);
        let four = on(4);
        for shard in 0..4 {
            let own = four.iter().filter(|s| **s == shard).count();
            assert!((200..300).contains(&own), "{own}");
        }
        assert_ne!(four, spread(Placement::Sticky(43), 4));
        // The same on every machine and in every version.
        assert_eq!(on(4)[..8], [1, 1, 2, 3, 1, 0, 2, 2]);
    }

    #[test]
    fn with_a_shard_more_sticky_parts_move_to_it_only() {
        let [four, five] = [4, 5].map(|shards| spread(Placement::Sticky(7), shards));
        let moved = four.iter().zip(&five).filter(|(a, b)| a != b);
        let moved: Vec<_> = moved.map(|(_, to)| *to).collect();
        assert!(moved.iter().all(|to| *to == 4));
        assert!((150..250).contains(&moved.len()), "{}", moved.len());
    }

    #[test]
    fn a_shard_that_is_not_there_is_the_last_one() {
        assert_eq!(Placement::Pinned(9).shard_of(3, 2), 1);
        assert_eq!(Placement::RoundRobin.shard_of(3, 0), 0);
        let words = [
            Placement::Pinned(1),
            Placement::RoundRobin,
            Placement::Sticky(5),
        ];
        assert_eq!(
            words.map(|placement| placement.to_string()),
            ["pinned 1", "round_robin", "sticky 5"]
        );
    }
}
