//! Devices behave otherwise: other generators for some fields, while they run.
//!
//! Restarted devices follow, too. Bound: that of behaviours and of messages to many.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::core::Member;
use super::{Fleet, Reached, Selector};
use crate::device::DeviceMessage;

/// How far an update came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Updated {
    /// Devices that were meant: they follow, at the latest when they start anew.
    pub selected: u64,
    /// Of these, those that were told at once.
    pub told: u64,
}

impl Fleet {
    /// Changes the generators of fields for the devices that are meant. `fields` is a map from
    /// field to generator as in a profile, as YAML or JSON.
    ///
    /// # Errors
    /// Why no device is meant, or everything that is wrong with the fields; nothing has changed
    /// then.
    pub async fn update(&self, selector: &Selector, fields: &str) -> Result<Updated, String> {
        let selected = self.select(selector)?;
        let roster = self.core.roster();
        let mut by_member: BTreeMap<u32, (&Arc<Member>, Vec<u32>)> = BTreeMap::new();
        for device in &selected {
            if let Some((member, ordinal)) = roster.of(*device) {
                let own = by_member.entry(member.first);
                own.or_insert((member, Vec::new())).1.push(ordinal);
            }
        }
        for (member, _) in by_member.values() {
            let possible = member.one.asked.profile.changed("fields", fields);
            possible.map_err(|wrong| {
                let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
                wrong.join("; ")
            })?;
        }
        for (member, ordinals) in by_member.values() {
            let changed = member.behaviours.change(&member.one, ordinals, fields);
            changed.map_err(|error| error.to_string())?;
        }
        let Reached { sent, .. } = self.send_to(selected, || DeviceMessage::Behave).await;
        Ok(Updated {
            selected: by_member.values().map(|(_, own)| own.len() as u64).sum(),
            told: sent,
        })
    }
}
