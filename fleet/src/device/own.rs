//! What a device has of its own: another behaviour, or more state than its identity block holds.
//!
//! Its state follows the behaviour: where a generator stays, its series goes on. Bound: the slots
//! of its program.

use std::sync::Arc;

use actorsim_actors::CellContext;

use super::{Context, Device, DeviceShared, Identity};
use crate::behaviour::{Behaviour, ORIGINAL};
use crate::program::{INLINE_SLOTS, Program, Values};

/// Of the few devices that are not as their population.
#[derive(Debug)]
pub(super) struct Own {
    /// How it behaves; as the profile says if `None`.
    behaviour: Option<Arc<Behaviour>>,
    /// State of a program that does not fit the identity block.
    wide: Option<Box<[f64]>>,
}

impl Own {
    /// As the identity's state is laid out; what is wide begins anew.
    pub(super) fn of(cx: &CellContext<'_, Device>) -> Option<Box<Self>> {
        let behaviours = &cx.shared.behaviours;
        let behaviour = match cx.identity.behaviour {
            ORIGINAL => None,
            number => behaviours.revision(number),
        };
        let program = behaviour
            .as_ref()
            .map_or(&*cx.shared.program, |own| &own.program);
        let wide = (program.slots() > INLINE_SLOTS).then(|| vec![0.0; program.slots()].into());
        Self { behaviour, wide }.kept()
    }

    fn kept(self) -> Option<Box<Self>> {
        (self.behaviour.is_some() || self.wide.is_some()).then(|| Box::new(self))
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

    /// Its state lies in the cell.
    pub(super) fn is_wide(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.wide.is_some())
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
        let wide = self.own.as_mut().and_then(|own| own.wide.as_mut());
        if let Some(wide) = wide {
            wide[..setpoints].copy_from_slice(&inline[..setpoints]);
        }
        let wide = self.own.as_ref().and_then(|own| own.wide.as_deref());
        let before = self.program(cx.shared);
        revision
            .program
            .adopt(&mut state, before, wide.unwrap_or(&inline[..]));
        let wide = state.len() > INLINE_SLOTS;
        let kept = if wide { setpoints } else { state.len() };
        inline[..kept].copy_from_slice(&state[..kept]);
        let own = Own {
            behaviour: (target != ORIGINAL).then_some(revision),
            wide: wide.then(|| state.into()),
        };
        self.own = own.kept();
        cx.identity.behaviour = target;
    }

    /// One draw; the slot number moves on.
    pub(super) fn draw(&mut self, unix_us: u64, values: &mut Values, cx: Context<'_, '_>) {
        let Identity { slot, state, .. } = cx.identity;
        let number = *slot;
        *slot += 1;
        let Some(own) = &mut self.own else {
            let program = &cx.shared.program;
            return program.draw(self.seed, number, unix_us, state, values);
        };
        let behaviour = own.behaviour.as_ref();
        let program = behaviour.map_or(&*cx.shared.program, |own| &own.program);
        match &mut own.wide {
            None => program.draw(self.seed, number, unix_us, state, values),
            Some(wide) => {
                let setpoints = program.actuators();
                wide[..setpoints].copy_from_slice(&state[..setpoints]);
                program.draw(self.seed, number, unix_us, wide, values);
            }
        }
    }

    /// Generators begin anew.
    pub(super) fn reset_series(&mut self, cx: Context<'_, '_>) {
        let own = self.own.as_mut();
        let (behaviour, wide) = own.map_or((None, None), |own| {
            (own.behaviour.as_ref(), own.wide.as_mut())
        });
        let program = behaviour.map_or(&*cx.shared.program, |own| &own.program);
        match wide {
            None => program.reset_series(&mut cx.identity.state[..program.slots()]),
            Some(wide) => program.reset_series(wide),
        }
    }
}
