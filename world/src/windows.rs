//! Which sensors have a window of their last values, as data: `temperature:16`.
//!
//! A text names sensors by type, and closer by a sensor id, a device, or both; of two that name the
//! same sensor the closer one holds. `systems/windows.rs` keeps the values. Nothing here allocates
//! once it is read.
//!
//! Bound: [`WINDOWS_MAX`] texts; [`WINDOW_MAX`] values in a window.

use std::str::FromStr;

use actorsim_transport::device_uuid;
use thiserror::Error;
use uuid::Uuid;

use crate::components::KIND_NAMES;

/// Texts of a node: each is looked at for every sensor of its type that is registered.
pub const WINDOWS_MAX: usize = 32;

/// Values in a window: what a rule reads in a microsecond.
pub const WINDOW_MAX: u8 = 64;

/// And at least: of one value it would say nothing.
pub const WINDOW_MIN: u8 = 2;

/// Values in all windows: 32 MiB; half a million windows of 8, or 65,536 of 64.
pub const WINDOW_VALUES_MAX: usize = 4 << 20;

/// Sensors that have a window, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named {
    device: Option<[u8; 16]>,
    sensor: Option<u16>,
    kind: u8,
    length: u8,
}

impl Named {
    fn fits(&self, device: [u8; 16], sensor: u16, kind: u8) -> bool {
        self.kind == kind
            && self.sensor.is_none_or(|own| own == sensor)
            && self.device.is_none_or(|own| own == device)
    }

    /// The closer one comes first.
    fn closeness(&self) -> u8 {
        2 * u8::from(self.device.is_some()) + u8::from(self.sensor.is_some())
    }
}

/// The windows of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowSet {
    /// The closest first.
    named: Vec<Named>,
}

/// What is wrong with the text of a window.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WindowError {
    /// It has no length.
    #[error("{0:?} has no length: write SENSOR:LENGTH, such as temperature:16")]
    NoLength(String),
    /// Its length is none.
    #[error("{0:?} is no length of a window: {WINDOW_MIN} to {WINDOW_MAX} values")]
    Length(String),
    /// It names no type of sensor.
    #[error(
        "{0:?} is no type of sensor: temperature, humidity, pressure, voltage, current, \
             presence or relay"
    )]
    Kind(String),
    /// It names no sensor id.
    #[error("{0:?} is no sensor id: 0 to 65535")]
    Sensor(String),
    /// The same sensors are named twice.
    #[error("{0:?} names what another one names")]
    Twice(String),
    /// There are too many.
    #[error("a node takes at most {WINDOWS_MAX} of them")]
    TooMany,
}

impl WindowSet {
    /// Reads texts of the form `[DEVICE/]TYPE[.SENSOR]:LENGTH`.
    ///
    /// # Errors
    /// Every mistake.
    pub fn read<T: AsRef<str>>(texts: &[T]) -> Result<Self, Vec<WindowError>> {
        let (mut named, mut errors) = (Vec::<Named>::new(), Vec::new());
        for text in texts.iter().map(AsRef::as_ref) {
            match one(text.trim()) {
                Ok(new) => {
                    let same =
                        |old: &Named| Named { length: 0, ..*old } == Named { length: 0, ..new };
                    if named.iter().any(same) {
                        errors.push(WindowError::Twice(text.to_owned()));
                    }
                    named.push(new);
                }
                Err(error) => errors.push(error),
            }
        }
        if named.len() > WINDOWS_MAX {
            errors.push(WindowError::TooMany);
        }
        named.sort_by_key(|one| std::cmp::Reverse(one.closeness()));
        if errors.is_empty() {
            Ok(Self { named })
        } else {
            Err(errors)
        }
    }

    /// Whether no sensor has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Types of the sensors that may have one, as bits.
    #[must_use]
    pub fn kinds(&self) -> u8 {
        self.named
            .iter()
            .fold(0, |kinds, one| kinds | 1 << one.kind)
    }

    /// Length of the shortest; `None` without any.
    #[must_use]
    pub fn shortest(&self) -> Option<u8> {
        self.named.iter().map(|one| one.length).min()
    }

    /// Length of a sensor's window.
    #[must_use]
    pub fn length(&self, device: [u8; 16], sensor: u16, kind: u8) -> Option<u8> {
        let mut named = self.named.iter();
        let closest = named.find(|one| one.fits(device, sensor, kind));
        closest.map(|one| one.length)
    }
}

fn one(text: &str) -> Result<Named, WindowError> {
    let Some((sensor, length)) = text.rsplit_once(':') else {
        return Err(WindowError::NoLength(text.to_owned()));
    };
    let lengths = WINDOW_MIN..=WINDOW_MAX;
    let read = length
        .parse()
        .ok()
        .filter(|length| lengths.contains(length));
    let length = read.ok_or_else(|| WindowError::Length(length.to_owned()))?;
    let (device, sensor) = match sensor.rsplit_once('/') {
        Some((device, sensor)) => (Some(device_of(device)), sensor),
        None => (None, sensor),
    };
    let (kind, id) = match sensor.split_once('.') {
        Some((kind, id)) => (kind, Some(id)),
        None => (sensor, None),
    };
    let known = KIND_NAMES.iter().position(|name| *name == kind);
    let kind = known.ok_or_else(|| WindowError::Kind(kind.to_owned()))? as u8;
    let sensor = id
        .map(|id| id.parse().map_err(|_| WindowError::Sensor(id.to_owned())))
        .transpose()?;
    Ok(Named {
        device,
        sensor,
        kind,
        length,
    })
}

/// A device by its name, or by its id.
fn device_of(text: &str) -> [u8; 16] {
    Uuid::parse_str(text)
        .unwrap_or_else(|_| device_uuid(text))
        .into_bytes()
}

impl FromStr for WindowSet {
    type Err = WindowError;

    /// Texts with commas between them; the first mistake.
    fn from_str(text: &str) -> Result<Self, WindowError> {
        let texts: Vec<_> = text.split(',').collect();
        Self::read(&texts).map_err(|mut errors| errors.swap_remove(0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_closest_of_those_that_name_a_sensor_holds() {
        let set = "voltage:8,voltage.9:16,pump-1/voltage:32,pump-1/voltage.9:64,current:2";
        let set: WindowSet = set.parse().unwrap();
        let (pump, other) = (device_uuid("pump-1").into_bytes(), [7; 16]);
        let cases = [
            (other, 3, 3, Some(8)),
            (other, 9, 3, Some(16)),
            (pump, 3, 3, Some(32)),
            (pump, 9, 3, Some(64)),
            (pump, 9, 4, Some(2)),
            (pump, 9, 5, None),
        ];
        for (device, sensor, kind, length) in cases {
            assert_eq!(set.length(device, sensor, kind), length, "{sensor} {kind}");
        }
        assert_eq!((set.kinds(), set.shortest()), (0b11000, Some(2)));
        let by_id = format!("{}/voltage:5", device_uuid("pump-1"));
        let by_id: WindowSet = by_id.parse().unwrap();
        assert_eq!(by_id.length(pump, 0, 3), Some(5));
    }

    #[test]
    fn every_mistake_is_told() {
        let texts = [
            "voltage",
            "voltage:1",
            "voltage:65",
            "volt:8",
            "voltage.x:8",
            "voltage:8",
            "voltage:9",
        ];
        let errors = WindowSet::read(&texts).unwrap_err();
        use WindowError::{Kind, Length, NoLength, Sensor, Twice};
        let expected = [
            NoLength("voltage".into()),
            Length("1".into()),
            Length("65".into()),
            Kind("volt".into()),
            Sensor("x".into()),
            Twice("voltage:9".into()),
        ];
        assert_eq!(errors, expected);
        let many: Vec<_> = (0..=WINDOWS_MAX)
            .map(|id| format!("voltage.{id}:2"))
            .collect();
        assert_eq!(WindowSet::read(&many), Err(vec![WindowError::TooMany]));
    }

    proptest! {
        #[test]
        fn any_text_is_a_window_or_a_mistake(text in "[a-z0-9./:,-]{0,40}") {
            let _ = text.parse::<WindowSet>();
        }
    }
}
