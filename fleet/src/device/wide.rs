//! What the generators of wide programs remember: states that have no room in identity blocks.
//!
//! They lie with the slab, by group, not in the cells: a device that is restarted goes on with its
//! own, however old it is, and nothing is drawn twice. Each knows the slot that it is for. Bound:
//! the slots of its program for each device that has a wide one, and a word for each of its group.

use std::collections::BTreeMap;

use actorsim_actors::shard::GROUP_SIZE;

/// What the generators of one device remember.
#[derive(Debug)]
pub(super) struct WideState {
    /// The slot that is drawn next.
    pub(super) next: u64,
    pub(super) values: Box<[f64]>,
}

type Group = Box<[Option<WideState>]>;

/// The states of one slab.
#[derive(Debug, Default)]
pub(crate) struct WideStates {
    groups: BTreeMap<u32, Group>,
}

impl WideStates {
    /// That of a device, if it has one.
    pub(super) fn of(&mut self, ordinal: u32) -> Option<&mut WideState> {
        let group = self.groups.get_mut(&(ordinal / GROUP_SIZE))?;
        group.get_mut((ordinal % GROUP_SIZE) as usize)?.as_mut()
    }

    /// Gives a device another one, or none.
    pub(super) fn put(&mut self, ordinal: u32, state: Option<WideState>) {
        if state.is_none() && self.of(ordinal).is_none() {
            return;
        }
        let empty = || (0..GROUP_SIZE).map(|_| None).collect();
        let group = self.groups.entry(ordinal / GROUP_SIZE);
        let group = group.or_insert_with(empty);
        if let Some(place) = group.get_mut((ordinal % GROUP_SIZE) as usize) {
            *place = state;
        }
    }
}
