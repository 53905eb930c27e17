//! Rows by the block: so many of them, one after another, are one entity of the ECS.
//!
//! An entity costs 48 bytes of bookkeeping, and 8 for each of its components: more than a row holds
//! itself. Nothing names a row by anything but its number, so that a table of blocks, flattened, is
//! the same columns without that (decision 24). Bound: [`BLOCK`] rows.

#![expect(
    unsafe_code,
    reason = "a slice of arrays in a wrapper has no safe way to become a slice of their elements"
)]

use std::slice;

use bevy_ecs::prelude::Component;

/// Rows of a block: the entity's share of one is below a byte, and what the last block has too many
/// is little even for a small world.
pub(crate) const BLOCK: usize = 64;

/// One column of a block.
#[derive(Component, Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Block<T: Send + Sync + 'static>([T; BLOCK]);

impl<T: Copy + Send + Sync> Block<T> {
    /// A block of such rows.
    pub(crate) fn of(row: T) -> Self {
        Self([row; BLOCK])
    }
}

/// The rows of blocks, in order.
pub(crate) fn rows<T: Send + Sync>(blocks: &mut [Block<T>]) -> &mut [T] {
    let count = blocks.len() * BLOCK;
    // SAFETY: a block is an array of `BLOCK` rows and nothing else (`repr(transparent)`), and both
    // arrays and slices lie without gaps: the blocks are `count` valid rows in a row, which are
    // borrowed as long as the blocks are. The product is the length in rows of what exists, so it
    // does not overflow.
    unsafe { slice::from_raw_parts_mut(blocks.as_mut_ptr().cast(), count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_their_rows_one_after_another() {
        let mut blocks = [Block::of(0_u16); 3];
        for (at, row) in rows(&mut blocks).iter_mut().enumerate() {
            *row = at as u16;
        }
        let seen = blocks.iter().flat_map(|block| block.0);
        assert!(seen.eq(0..3 * BLOCK as u16));
        assert!(rows::<u64>(&mut []).is_empty());
    }
}
