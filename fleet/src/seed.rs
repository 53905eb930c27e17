//! The seed chain: master seed -> device -> field, as `contracts` of the virtual-iot-simulator
//! design: `device_seed = master XOR fnv1a64(device id)`, `field_seed = device_seed XOR
//! fnv1a64(field)`.
//!
//! [`choose`] is the one place where a run may be random. It holds no state; pure functions
//! otherwise.

/// Offset basis of 64-bit FNV-1a (RFC 9923, section 5).
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
/// Prime of 64-bit FNV-1a (RFC 9923, section 5).
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// 64-bit FNV-1a of a text's UTF-8 bytes.
///
/// ```
/// assert_eq!(actorsim_fleet::seed::fnv1a64("a"), 0xaf63dc4c8601ec8c);
/// ```
#[must_use]
pub const fn fnv1a64(text: &str) -> u64 {
    fnv1a64_of(text.as_bytes())
}

/// 64-bit FNV-1a of any bytes.
pub(crate) const fn fnv1a64_of(bytes: &[u8]) -> u64 {
    let mut hash = FNV_OFFSET;
    let mut at = 0;
    while at < bytes.len() {
        hash ^= bytes[at] as u64;
        hash = hash.wrapping_mul(FNV_PRIME);
        at += 1;
    }
    hash
}

/// The seed of everything random in one device.
#[must_use]
pub const fn device_seed(master_seed: u64, device_id: &str) -> u64 {
    master_seed ^ fnv1a64(device_id)
}

/// The seed of one field of a device.
#[must_use]
pub const fn field_seed(device_seed: u64, field: &str) -> u64 {
    device_seed ^ fnv1a64(field)
}

/// The master seed of a run: the one asked for, or a random one for 0. The run's report names it.
#[must_use]
pub fn choose(asked: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The operating system's randomness, by way of the standard library's hash keys.
    let random = RandomState::new().hash_one(asked);
    if asked == 0 { random.max(1) } else { asked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv1a64(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn each_field_of_each_device_has_its_own_seed() {
        let a = device_seed(7, "pump-0000");
        let b = device_seed(7, "pump-0001");
        assert_ne!(a, b);
        assert_ne!(field_seed(a, "voltage"), field_seed(a, "current"));
        assert_eq!(device_seed(0, "pump-0000"), fnv1a64("pump-0000"));
    }
}
