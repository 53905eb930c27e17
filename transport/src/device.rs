//! Devices as they are announced: ranges of names, and the sensors each of them has.
//!
//! A million devices are announced by a few ranges, not a million names. It keeps no table. Bound:
//! a range holds at most [`RANGE_DEVICES_MAX`] devices, a device at most [`SENSORS_MAX`] sensors.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::reading::{SensorType, device_uuid};

/// Devices in one range at most: ten times the largest fleet aimed at on one machine.
pub const RANGE_DEVICES_MAX: u32 = 10_000_000;
/// Sensors of one device at most: sensor ids are announced one by one.
pub const SENSORS_MAX: usize = 256;
/// Bytes of a name's prefix at most.
pub const PREFIX_LEN_MAX: usize = 128;
/// Digits a name's number is padded to at most: those of `u32::MAX`.
pub const PAD_WIDTH_MAX: u8 = 10;
/// Devices in one registration given to the world: its work for one message stays near 1 ms.
pub const REGISTRATION_DEVICES_MAX: u32 = 1024;

/// One sensor of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SensorSpec {
    /// Its number.
    pub sensor: u16,
    /// Its type.
    pub kind: SensorType,
}

/// Devices `{prefix}{index:0width}` for `count` indexes from `first`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceRange {
    /// What each name begins with.
    pub prefix: String,
    /// First index.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Digits the index is padded to with zeros.
    pub width: u8,
}

/// Why a range is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Too many devices, or an index beyond `u32`.
    #[error("a range of {count} devices from {first} is too long (at most {RANGE_DEVICES_MAX})")]
    Count {
        /// First index.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Prefix too long, or padded too wide.
    #[error(
        "the names of a range are too long (prefix {PREFIX_LEN_MAX} bytes, {PAD_WIDTH_MAX} digits)"
    )]
    Name,
    /// Too many sensors.
    #[error("{count} sensors for one device (at most {SENSORS_MAX})")]
    Sensors {
        /// How many.
        count: usize,
    },
}

impl DeviceRange {
    /// The one device called `name`.
    #[must_use]
    pub fn single(name: &str) -> Self {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let digits = digits.min(9);
        let (prefix, index) = name.split_at(name.len() - digits);
        match index.parse() {
            Ok(first) => Self {
                prefix: prefix.into(),
                first,
                count: 1,
                width: digits as u8,
            },
            Err(_) => Self {
                prefix: name.into(),
                first: 0,
                count: 1,
                width: UNNUMBERED,
            },
        }
    }

    /// Writes the name of the `nth` device of the range into `name`.
    pub fn write_name(&self, nth: u32, name: &mut String) {
        name.clear();
        name.push_str(&self.prefix);
        if self.width != UNNUMBERED {
            let index = self.first.wrapping_add(nth);
            let width = usize::from(self.width);
            write!(name, "{index:0width$}").expect("a String takes what is written");
        }
    }

    /// The name of the `nth` device.
    #[must_use]
    pub fn name(&self, nth: u32) -> String {
        let mut name = String::new();
        self.write_name(nth, &mut name);
        name
    }

    /// Calls `f` with each device's id and name.
    pub fn for_each(&self, mut f: impl FnMut(Uuid, &str)) {
        let mut name = String::new();
        for nth in 0..self.count {
            self.write_name(nth, &mut name);
            f(device_uuid(&name), &name);
        }
    }

    /// Whether it keeps the bounds.
    ///
    /// # Errors
    /// [`RangeError`] says which it breaks.
    pub fn check(&self) -> Result<(), RangeError> {
        let (first, count) = (self.first, self.count);
        if count > RANGE_DEVICES_MAX || first.checked_add(count).is_none() {
            return Err(RangeError::Count { first, count });
        }
        let numbered = self.width <= PAD_WIDTH_MAX;
        if self.prefix.len() > PREFIX_LEN_MAX || !(numbered || self.is_single_unnumbered()) {
            return Err(RangeError::Name);
        }
        Ok(())
    }

    fn is_single_unnumbered(&self) -> bool {
        self.width == UNNUMBERED && self.count <= 1
    }

    /// The same devices in pieces of at most `most`.
    pub fn pieces(&self, most: u32) -> impl Iterator<Item = Self> + '_ {
        let most = most.max(1);
        (0..self.count)
            .step_by(most as usize)
            .map(move |skip| self.part(skip, most.min(self.count - skip)))
    }

    /// `count` of the same devices, behind the first `skip`.
    #[must_use]
    pub fn part(&self, skip: u32, count: u32) -> Self {
        Self {
            prefix: self.prefix.clone(),
            first: self.first.wrapping_add(skip),
            count,
            width: self.width,
        }
    }
}

/// The width of a name that has no number.
const UNNUMBERED: u8 = u8::MAX;

/// Devices announced by a link, for the world to give rows to. At most [`REGISTRATION_DEVICES_MAX`]
/// devices; announced again on each connection, so taking it twice must be harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Which.
    pub devices: DeviceRange,
    /// What each of them has.
    pub sensors: Arc<[SensorSpec]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_and_pieces_cover_the_range() {
        let range = DeviceRange {
            prefix: "pump-".into(),
            first: 9998,
            count: 5,
            width: 4,
        };
        assert_eq!(range.name(0), "pump-9998");
        assert_eq!(range.name(4), "pump-10002");
        let mut whole = Vec::new();
        range.for_each(|id, name| whole.push((id, name.to_owned())));
        let mut parts = Vec::new();
        for piece in range.pieces(2) {
            piece.check().unwrap();
            piece.for_each(|id, name| parts.push((id, name.to_owned())));
        }
        assert_eq!(whole, parts);
        assert_eq!(whole[0].0, device_uuid("pump-9998"));
    }

    #[test]
    fn any_single_name_is_a_range_of_one() {
        for name in ["pump-0007", "gateway", "x-12345678901234", "7", ""] {
            let range = DeviceRange::single(name);
            range.check().unwrap();
            assert_eq!((range.name(0).as_str(), range.count), (name, 1));
        }
    }

    #[test]
    fn ranges_beyond_the_bounds_are_refused() {
        let range = |first, count, width| DeviceRange {
            prefix: "p".into(),
            first,
            count,
            width,
        };
        assert!(matches!(
            range(u32::MAX, 2, 4).check(),
            Err(RangeError::Count { .. })
        ));
        assert!(matches!(
            range(0, u32::MAX, 4).check(),
            Err(RangeError::Count { .. })
        ));
        assert_eq!(range(0, 2, 200).check(), Err(RangeError::Name));
        assert_eq!(range(0, 2, UNNUMBERED).check(), Err(RangeError::Name));
    }
}
