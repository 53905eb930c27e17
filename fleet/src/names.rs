//! What the devices of a population are called: numbered, or by a list.
//!
//! Numbered names cost nothing; listed ones their text and four bytes each. Bound: [`ID_LEN_MAX`].

use std::fmt::Write as _;
use std::sync::Arc;

use crate::device::device_name;

/// Characters of an id: it stands in paths, topics and certificates.
pub const ID_LEN_MAX: usize = 128;

/// Whether a device can be called so.
#[must_use]
pub fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let dots = id.bytes().all(|byte| byte == b'.');
    (1..=ID_LEN_MAX).contains(&id.len()) && id.bytes().all(plain) && !dots
}

/// Ids, one after another.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed {
    text: Box<str>,
    ends: Box<[u32]>,
}

impl Listed {
    /// These ids, which must be different; `None` if all together pass 4 GiB.
    #[must_use]
    pub fn new(ids: &[String]) -> Option<Arc<Self>> {
        let mut text = String::with_capacity(ids.iter().map(String::len).sum());
        let mut ends = Vec::with_capacity(ids.len());
        for id in ids {
            text.push_str(id);
            ends.push(u32::try_from(text.len()).ok()?);
        }
        Some(Arc::new(Self {
            text: text.into(),
            ends: ends.into(),
        }))
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.ends.len() as u32
    }

    fn id(&self, at: u32) -> &str {
        let at = at as usize;
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        let end = self.ends.get(at).copied().unwrap_or(from);
        &self.text[from as usize..end as usize]
    }
}

/// The names of a population's devices, by ordinal.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) device_type: Arc<str>,
    /// From the ordinal 0 on; `{type}-{ordinal}` without.
    pub(crate) listed: Option<Arc<Listed>>,
}

impl Names {
    pub(crate) fn of(&self, ordinal: u32) -> String {
        match &self.listed {
            None => device_name(&self.device_type, ordinal),
            Some(listed) => listed.id(ordinal).to_owned(),
        }
    }

    /// Appends a name.
    pub(crate) fn write(&self, ordinal: u32, out: &mut String) {
        match &self.listed {
            None => {
                let written = write!(out, "{}-{ordinal:04}", self.device_type);
                written.expect("a text takes all that is written");
            }
            Some(listed) => out.push_str(listed.id(ordinal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_called_by_their_number_or_by_their_place_in_a_list() {
        let ids = ["lock-3fa85f64".to_owned(), "b".to_owned()];
        let listed = Listed::new(&ids).unwrap();
        assert_eq!(listed.count(), 2);
        let counted = Names {
            device_type: "lock".into(),
            listed: None,
        };
        let named = Names {
            listed: Some(listed),
            ..counted.clone()
        };
        for (names, ordinal, id) in [
            (&counted, 7, "lock-0007"),
            (&named, 0, "lock-3fa85f64"),
            (&named, 1, "b"),
        ] {
            let mut written = String::new();
            names.write(ordinal, &mut written);
            assert_eq!((names.of(ordinal).as_str(), written.as_str()), (id, id));
        }
    }

    #[test]
    fn an_id_is_a_plain_word() {
        assert!(is_id("lock-3fa85f64") && is_id("7.b_c"));
        for wrong in [
            "",
            "..",
            "a/b",
            "a b",
            "a:b",
            "ä",
            &"x".repeat(ID_LEN_MAX + 1),
        ] {
            assert!(!is_id(wrong), "{wrong}");
        }
    }
}
