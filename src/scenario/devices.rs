//! Devices as a value of the language: a range of ids, as long as it may be.
//!
//! It holds no device. Bound: two numbers and a name.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Devices of one type with numbers one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    device_type: Arc<str>,
    ordinals: Range<u32>,
}

impl Devices {
    /// So many devices of a type from a number on.
    #[must_use]
    pub fn new(device_type: &str, first: u32, count: u32) -> Self {
        Self {
            device_type: device_type.into(),
            ordinals: first..first.saturating_add(count),
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> i64 {
        i64::from(self.ordinals.end - self.ordinals.start)
    }

    /// None.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ordinals.is_empty()
    }

    /// The id at a place.
    #[must_use]
    pub fn id(&self, place: i64) -> Option<String> {
        let at = u32::try_from(place).ok()?;
        let ordinal = self.ordinals.start.checked_add(at)?;
        let own = self.ordinals.contains(&ordinal);
        own.then(|| format!("{}-{ordinal:04}", self.device_type))
    }

    /// So many of them from a place on; fewer where there are no more.
    #[must_use]
    pub fn part(&self, from: i64, count: i64) -> Self {
        let bounded = |at: i64| u32::try_from(at.max(0)).unwrap_or(u32::MAX);
        let start = self.ordinals.start.saturating_add(bounded(from));
        let start = start.min(self.ordinals.end);
        let end = start.saturating_add(bounded(count)).min(self.ordinals.end);
        Self {
            device_type: Arc::clone(&self.device_type),
            ordinals: start..end,
        }
    }

    /// In so many parts, one after another.
    #[must_use]
    pub fn parts(&self, count: i64) -> Vec<Self> {
        let count = count.clamp(1, self.len().max(1));
        let at = |part: i64| self.len() * part / count;
        let part = |part| self.part(at(part), at(part + 1) - at(part));
        (0..count).map(part).collect()
    }
}

/// As a selector.
impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, last) = (&self.device_type, self.ordinals.end.saturating_sub(1));
        write!(f, "{kind}-{:04}..{last:04}", self.ordinals.start)
    }
}

impl IntoIterator for Devices {
    type Item = String;
    type IntoIter = Box<dyn Iterator<Item = String>>;

    fn into_iter(self) -> Self::IntoIter {
        let Self {
            device_type,
            ordinals,
        } = self;
        Box::new(ordinals.map(move |ordinal| format!("{device_type}-{ordinal:04}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_of_them_once_and_a_selector_names_their_ends() {
        let all = Devices::new("lock", 95, 10);
        assert_eq!(all.to_string(), "lock-0095..0104");
        assert_eq!(all.id(9).as_deref(), Some("lock-0104"));
        assert_eq!((all.id(10), all.id(-1)), (None, None));
        let parts = all.parts(3);
        let ids: Vec<_> = parts.into_iter().flatten().collect();
        assert_eq!(ids, all.clone().into_iter().collect::<Vec<_>>());
        assert!(all.part(20, 5).is_empty());
        assert_eq!(all.part(8, 5).len(), 2);
        assert_eq!(all.parts(100).len(), 10);
    }
}
