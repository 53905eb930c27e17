//! The columns of a row: one row per (device, sensor), hot values apart from cold identity.
//!
//! A row is spawned blank, bound once to a (device, sensor) and never despawned, so that slot ==
//! table row for the life of a world; [`BLOCK`](crate::blocks::BLOCK) of them are one entity. This
//! module holds plain data and bit arithmetic; who writes a column is decided in `systems`.
//!
//! Bound: at most 64 bytes per row, bookkeeping of the ECS included (measured in a test).

/// Number of sensor types on the wire (0 Temperature to 6 Relay).
pub const KINDS: usize = 7;

/// Types that the bits of a row can hold, one more than there are: a table of so many is read by a
/// row's type without looking at its bounds.
pub(crate) const KIND_BITS: usize = 8;

/// Type byte of a presence sensor, the input of the shipped rule.
pub const KIND_PRESENCE: u8 = 5;

/// Type byte of a relay, what rules command unless they say otherwise.
pub const KIND_RELAY: u8 = 6;

/// Highest age a row can show, in ageing sweeps: it has four bits.
pub const AGE_MAX: u16 = 15;

/// Names of the sensor types, in the order of their type bytes.
pub const KIND_NAMES: [&str; KINDS] = [
    "temperature",
    "humidity",
    "pressure",
    "voltage",
    "current",
    "presence",
    "relay",
];

/// What the systems keep about a row's value: all that a reading or a sweep touches.
///
/// 32 bytes at a 32-byte boundary: a reading costs one cache line, wherever its row is.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hot {
    /// Last accepted value, exactly as it came (NaN and infinities included).
    pub value: f64,
    /// Stamp of that value, device clock, microseconds since the Unix epoch.
    pub at_us: u64,
    /// Exponentially weighted mean of the finite values, if [`Flags::FOLDED`].
    pub smoothed: f32,
    /// Last T1 sequence number, if [`Flags::SEQUENCED`].
    pub sequence: u32,
    /// How often the smoothed value crossed its type's threshold; wraps.
    pub crossings: u16,
    /// State bits.
    pub flags: Flags,
    /// Rules in force, one bit for each of the row's type: what was commanded, or is put off.
    pub in_force: u8,
    /// The row is in the list of rows whose commands are put off.
    pub put_off: bool,
}

/// State bits of a row: see the constants for each bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    const AGE: u16 = 0b1111;
    /// The row belongs to a (device, sensor).
    pub const BOUND: u16 = 1 << 4;
    /// The row received at least one value in this incarnation of the world.
    pub const VALUED: u16 = 1 << 5;
    /// No value for the stale time; also set on a rebuilt row until its next value. Only a bound
    /// row is ever stale.
    pub const STALE: u16 = 1 << 6;
    /// The last value was NaN or infinite; it is kept raw and folded nowhere.
    pub const NON_FINITE: u16 = 1 << 7;
    /// The value was not handed out to files yet.
    pub const NEWS: u16 = 1 << 8;
    /// `Hot::sequence` holds a T1 sequence number.
    pub const SEQUENCED: u16 = 1 << 9;
    /// The value came as a T2 event.
    pub const FROM_EVENT: u16 = 1 << 10;
    /// The row is in the list of rows touched by the present cycle.
    pub const TOUCHED: u16 = 1 << 11;
    /// `Hot::smoothed` holds a mean.
    pub const FOLDED: u16 = 1 << 12;
    /// What a value clears: the age of the one before it.
    pub(crate) const YOUNG: u16 = Self::AGE | Self::STALE;
    const KIND_SHIFT: u16 = 13;

    /// Bits of a freshly bound row of type `kind`: stale until its first value.
    #[must_use]
    pub fn bound(kind: u8) -> Self {
        debug_assert!((kind as usize) < KINDS, "kind {kind} is not on the wire");
        Self(Self::BOUND | Self::STALE | (u16::from(kind & 0b111) << Self::KIND_SHIFT))
    }

    /// True when every bit of `mask` is set.
    #[must_use]
    pub fn has(self, mask: u16) -> bool {
        self.0 & mask == mask
    }

    /// Sets the bits of `mask`.
    pub fn set(&mut self, mask: u16) {
        self.0 |= mask;
    }

    /// Clears the bits of `mask`.
    pub fn clear(&mut self, mask: u16) {
        self.0 &= !mask;
    }

    /// Type byte of the row.
    #[must_use]
    #[inline]
    pub fn kind(self) -> u8 {
        (self.0 >> Self::KIND_SHIFT) as u8
    }

    /// Ageing sweeps since the last value, saturating at [`AGE_MAX`].
    #[must_use]
    pub fn age(self) -> u16 {
        self.0 & Self::AGE
    }

    /// A value arrived: age 0, not stale.
    pub fn refresh(&mut self) {
        self.0 = (self.0 & !Self::YOUNG) | Self::VALUED | Self::NEWS;
    }

    /// One ageing sweep passed; the row is stale once it is `stale_age` sweeps old.
    pub fn grow_older(&mut self, stale_age: u16) {
        let age = (self.age() + 1).min(AGE_MAX);
        self.0 = (self.0 & !Self::AGE) | age;
        if age >= stale_age {
            self.set(Self::STALE);
        }
    }
}

/// Whose a row is: what no reading touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cold {
    /// Ordinal of the device in the twin's index; its id is kept once for all its rows.
    pub asset: u32,
    /// Sensor id within the device.
    pub sensor: u16,
    /// Sensor id of the relay that this device's rules command.
    pub relay: u16,
}

/// Device id, in the byte order of RFC 9562 text form.
pub type DeviceId = [u8; 16];

/// Binds a blank row to a (device, sensor); applying the same one twice changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowFill {
    /// Device id.
    pub device: DeviceId,
    /// Table row to bind.
    pub row: u32,
    /// Ordinal of the device in the twin's index.
    pub asset: u32,
    /// Sensor id within the device.
    pub sensor: u16,
    /// Sensor id of the device's relay.
    pub relay: u16,
    /// Type byte.
    pub kind: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_survives_every_state_bit() {
        for kind in 0..KINDS as u8 {
            let mut flags = Flags::bound(kind);
            flags.refresh();
            flags.set(Flags::TOUCHED | Flags::FROM_EVENT | Flags::SEQUENCED | Flags::NON_FINITE);
            flags.grow_older(1);
            assert_eq!(flags.kind(), kind);
            assert!(flags.has(Flags::BOUND | Flags::VALUED | Flags::STALE));
        }
    }

    #[test]
    fn age_saturates_and_a_value_makes_young() {
        let mut flags = Flags::bound(3);
        for _ in 0..40 {
            flags.grow_older(4);
        }
        assert_eq!(flags.age(), AGE_MAX);
        assert!(flags.has(Flags::STALE));
        flags.refresh();
        assert_eq!(flags.age(), 0);
        assert!(!flags.has(Flags::STALE));
    }

    #[test]
    fn stale_comes_exactly_at_the_stale_age() {
        let mut flags = Flags::bound(0);
        flags.refresh();
        flags.grow_older(3);
        flags.grow_older(3);
        assert!(!flags.has(Flags::STALE));
        flags.grow_older(3);
        assert!(flags.has(Flags::STALE));
    }
}
