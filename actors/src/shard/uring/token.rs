//! What a completion belongs to: the 64 bits of user data, made and read here only.
//!
//! The top 8 bits are the class; of an operation's own 56, 24 are its place in the op table and 32
//! the incarnation it was started for, so that a late completion of a former one is known as such.
//! Bound: [`SLOTS_MAX`] operations under way on one ring.

/// Operations under way on the rings of one shard: what 24 bits address, eight for each socket.
pub(crate) const SLOTS_MAX: u32 = 1 << 24;

const CLASS_SHIFT: u32 = 56;
const SLOT_SHIFT: u32 = 32;

/// What a completion belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// Somebody rang this shard.
    Rung,
    /// The event descriptor was written to, or is no longer watched.
    Event,
    /// A doorbell of another shard could not be rung.
    Unheard {
        /// Number of that shard.
        shard: u32,
    },
    /// A satellite has completions, or is no longer watched.
    Satellite {
        /// Its number on this shard.
        index: u32,
    },
    /// An operation of the op table.
    Op {
        /// Its place there.
        slot: u32,
        /// For whom it was started.
        incarnation: u32,
    },
}

impl Token {
    /// As user data.
    pub(crate) const fn encode(self) -> u64 {
        let (class, rest) = match self {
            Self::Rung => (1, 0),
            Self::Event => (2, 0),
            Self::Unheard { shard } => (3, shard as u64),
            Self::Op { slot, incarnation } => {
                debug_assert!(slot < SLOTS_MAX);
                (4, ((slot as u64) << SLOT_SHIFT) | incarnation as u64)
            }
            Self::Satellite { index } => (5, index as u64),
        };
        (class << CLASS_SHIFT) | rest
    }

    /// From user data; none for a class that is not ours.
    pub(crate) const fn decode(data: u64) -> Option<Self> {
        Some(match data >> CLASS_SHIFT {
            1 => Self::Rung,
            2 => Self::Event,
            3 => Self::Unheard { shard: data as u32 },
            4 => Self::Op {
                slot: (data >> SLOT_SHIFT) as u32 & (SLOTS_MAX - 1),
                incarnation: data as u32,
            },
            5 => Self::Satellite { index: data as u32 },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn data_that_nobody_made_belongs_to_nobody() {
        assert_eq!(Token::decode(0), None);
        assert_eq!(Token::decode(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(slot in 0..SLOTS_MAX, incarnation: u32, shard: u32) {
            let tokens = [
                Token::Rung,
                Token::Event,
                Token::Unheard { shard },
                Token::Op { slot, incarnation },
                Token::Satellite { index: shard },
            ];
            for token in tokens {
                prop_assert_eq!(Token::decode(token.encode()), Some(token));
            }
        }
    }
}
