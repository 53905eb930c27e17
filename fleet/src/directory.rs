//! From a device's UUID to its place: commands carry nothing else.
//!
//! Two sorted arrays, 12 bytes a device; a lookup is a binary search, and is confirmed by deriving
//! the UUID from the device's name again. Bound: `u32::MAX` devices.

use actorsim_transport::device_uuid;
use uuid::Uuid;

/// Devices by UUID.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// First half of each UUID, ascending.
    keys: Box<[u64]>,
    /// The device of the key at the same index: its number over all populations.
    devices: Box<[u32]>,
}

impl Directory {
    /// A directory of devices `0..count`, named by `name`.
    pub(crate) fn new(count: u32, name: impl Fn(u32) -> String) -> Self {
        let mut pairs: Vec<(u64, u32)> = (0..count)
            .map(|device| (key(device_uuid(&name(device))), device))
            .collect();
        pairs.sort_unstable();
        let (keys, devices): (Vec<u64>, Vec<u32>) = pairs.into_iter().unzip();
        Self {
            keys: keys.into(),
            devices: devices.into(),
        }
    }

    /// The device of a UUID.
    pub(crate) fn find(&self, uuid: Uuid, name: impl Fn(u32) -> String) -> Option<u32> {
        let key = key(uuid);
        let from = self.keys.partition_point(|found| *found < key);
        self.keys[from..]
            .iter()
            .zip(&self.devices[from..])
            .take_while(|(found, _)| **found == key)
            .map(|(_, device)| *device)
            .find(|device| device_uuid(&name(*device)) == uuid)
    }
}

fn key(uuid: Uuid) -> u64 {
    uuid.as_u64_pair().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_is_found_and_strangers_are_not() {
        let name = |device: u32| format!("pump-{device:04}");
        let directory = Directory::new(5_000, name);
        for device in 0..5_000 {
            assert_eq!(
                directory.find(device_uuid(&name(device)), name),
                Some(device)
            );
        }
        assert_eq!(directory.find(device_uuid("pump-5000"), name), None);
        let (high, low) = device_uuid("pump-0001").as_u64_pair();
        let near = Uuid::from_u64_pair(high, low ^ 1);
        assert_eq!(
            directory.find(near, name),
            None,
            "half a UUID is not enough"
        );
    }
}
