//! What a device has of its own: another behaviour, or state that lies with the slab.
//!
//! Its state follows the behaviour: where a generator stays, its series goes on. Bound: the slots
//! of its program.

use std::sync::Arc;

use actorsim_actors::{CellContext, Incarnation};

use super::wide::WideState;
use super::{Context, Device, DeviceShared, Identity};
use crate::behaviour::{Behaviour, ORIGINAL};
use crate::program::{INLINE_SLOTS, Program, Values};

/// Of the few devices that are not as their population.
#[derive(Debug)]
pub(super) struct Own {
    /// How it behaves; as the profile says if `None`.
    behaviour: Option<Arc<Behaviour>>,
    /// What its generators remember does not fit the identity block: it lies with the slab.
    wide: bool,
}

impl Own {
    /// As the identity's state is laid out.
    pub(super) fn of(cx: &CellContext<'_, Device>) -> Option<Box<Self>> {
        let behaviours = &cx.shared.behaviours;
        let behaviour = match cx.identity.behaviour {
            ORIGINAL => None,
            number => behaviours.revision(number),
        };
        let program = behaviour
            .as_ref()
            .map_or(&*cx.shared.program, |own| &own.program);
        let wide = program.slots() > INLINE_SLOTS;
        Self { behaviour, wide }.kept()
    }

    fn kept(self) -> Option<Box<Self>> {
        (self.behaviour.is_some() || self.wide).then(|| Box::new(self))
    }
}

impl Device {
    /// How it behaves, if not as the profile says.
    pub(super) fn behaviour(&self) -> Option<&Arc<Behaviour>> {
        self.own.as_ref()?.behaviour.as_ref()
    }

    /// The program that it runs by.
    pub(super) fn program<'a>(&'a self, shared: &'a DeviceShared) -> &'a Program {
        self.behaviour()
            .map_or(&*shared.program, |own| &own.program)
    }

    /// Its state lies with the slab.
    fn is_wide(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.wide)
    }

    /// Takes up what the former life remembered, if that lies with the slab.
    pub(super) fn take_up_state(&self, cx: Context<'_, '_>) {
        if !self.is_wide() {
            return cx.out.wide.put(cx.ordinal, None);
        }
        let program = self.program(cx.shared);
        let found = cx.out.wide.of(cx.ordinal);
        let own = found.filter(|state| {
            cx.incarnation > Incarnation::FIRST && state.values.len() == program.slots()
        });
        if let Some(state) = own {
            // A step that drew and then failed gave the identity back, but not what was drawn.
            cx.identity.slot = cx.identity.slot.max(state.next);
            return;
        }
        if cx.identity.slot > 0 {
            // Its last step was to take another program, and failed.
            cx.identity.series_gaps = cx.identity.series_gaps.wrapping_add(1);
            cx.out.tally.series_gaps += 1;
        }
        let mut values = vec![0.0; program.slots()].into_boxed_slice();
        program.reset(&mut values);
        let next = cx.identity.slot;
        cx.out
            .wide
            .put(cx.ordinal, Some(WideState { next, values }));
    }

    /// The slot has moved on, and what is remembered with it.
    pub(super) fn state_is_for_the_slot(&self, cx: Context<'_, '_>) {
        if self.is_wide()
            && let Some(state) = cx.out.wide.of(cx.ordinal)
        {
            state.next = cx.identity.slot;
        }
    }

    /// Follows what its population says, from the next sample on.
    pub(super) fn behave(&mut self, cx: Context<'_, '_>) {
        let behaviours = &cx.shared.behaviours;
        let target = behaviours.target(cx.ordinal);
        if target == cx.identity.behaviour {
            return;
        }
        let Some(revision) = behaviours.revision(target) else {
            return;
        };
        let mut state = vec![0.0; revision.program.slots()];
        revision.program.reset(&mut state);
        let inline = &mut cx.identity.state;
        let setpoints = revision.program.actuators();
        let former = cx.out.wide.of(cx.ordinal).filter(|_| self.is_wide());
        let former = former.map(|state| {
            state.values[..setpoints].copy_from_slice(&inline[..setpoints]);
            &*state.values
        });
        let before = self.program(cx.shared);
        revision
            .program
            .adopt(&mut state, before, former.unwrap_or(&inline[..]));
        let wide = state.len() > INLINE_SLOTS;
        let kept = if wide { setpoints } else { state.len() };
        inline[..kept].copy_from_slice(&state[..kept]);
        let own = Own {
            behaviour: (target != ORIGINAL).then_some(revision),
            wide,
        };
        self.own = own.kept();
        let state = wide.then(|| WideState {
            next: cx.identity.slot,
            values: state.into(),
        });
        cx.out.wide.put(cx.ordinal, state);
        cx.identity.behaviour = target;
    }

    /// One draw; the slot number moves on.
    pub(super) fn draw(&mut self, unix_us: u64, values: &mut Values, cx: Context<'_, '_>) {
        let Identity { slot, state, .. } = cx.identity;
        let number = *slot;
        *slot += 1;
        let Some(own) = &self.own else {
            let program = &cx.shared.program;
            return program.draw(self.seed, number, unix_us, state, values);
        };
        let behaviour = own.behaviour.as_ref();
        let program = behaviour.map_or(&*cx.shared.program, |own| &own.program);
        match cx.out.wide.of(cx.ordinal).filter(|_| own.wide) {
            None => program.draw(self.seed, number, unix_us, state, values),
            Some(wide) => {
                let setpoints = program.actuators();
                wide.values[..setpoints].copy_from_slice(&state[..setpoints]);
                program.draw(self.seed, number, unix_us, &mut wide.values, values);
                wide.next = number + 1;
            }
        }
    }

    /// Generators begin anew.
    pub(super) fn reset_series(&self, cx: Context<'_, '_>) {
        let program = self.program(cx.shared);
        match cx.out.wide.of(cx.ordinal).filter(|_| self.is_wide()) {
            None => program.reset_series(&mut cx.identity.state[..program.slots()]),
            Some(wide) => program.reset_series(&mut wide.values),
        }
    }
}
