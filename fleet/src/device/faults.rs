//! What a device does while faults act on it.
//!
//! Apart from the device's own path, which pays one comparison for it. Bound: that of [`Faults`].

use actorsim_actors::{CellContext, Time};

use super::{Context, Device, FAULT, Identity};
use crate::fault::{Fault, FaultSpec, Faults, Held};
use crate::profile::FIELDS_MAX;

impl Device {
    /// A fault begins, on top of those that act.
    pub(super) fn inject(&mut self, spec: FaultSpec, cx: Context<'_, '_>) {
        let spec = match spec.fault {
            Fault::Storm => FaultSpec {
                duration: Some(self.own_backoff(cx)),
                ..spec
            },
            _ => spec,
        };
        let faults = self.faults.get_or_insert_default();
        match faults.inject(spec, cx.now) {
            true => cx.out.faults.begin(spec.fault.kind()),
            false => cx.out.faults.refused += 1,
        }
        self.settle_faults(cx);
    }

    /// Faults end by hand.
    pub(super) fn revert(&mut self, kind: Option<&str>, cx: Context<'_, '_>) {
        if let Some(faults) = &mut self.faults {
            cx.out.faults.end(faults.revert(kind));
        }
        self.settle_faults(cx);
    }

    /// Ends what has lasted long enough, sends what was held back, and looks when to do so again.
    pub(super) fn settle_faults(&mut self, cx: Context<'_, '_>) {
        let Some(mut faults) = self.faults.take() else {
            return;
        };
        cx.out.faults.end(faults.expire(cx.now));
        cx.identity.faults = faults.active();
        while let Some(held) = faults.due(cx.now) {
            if faults.is_disconnected(cx.now) || faults.is_hung() {
                cx.out.tally.silenced += 1;
            } else {
                self.send(&held.values, held.unix_us, held.times, cx);
            }
        }
        self.way_follows(faults.is_disconnected(cx.now), cx);
        let next = faults
            .next_due()
            .into_iter()
            .chain(faults.next_change(cx.now))
            .min();
        let _ = match next {
            Some(at) => cx.set_timer_at(FAULT, at),
            None => cx.cancel_timer(FAULT),
        };
        if !faults.is_empty() {
            self.faults = Some(faults);
        }
    }

    /// A sample, as its faults want it.
    pub(super) fn sample_with_faults(
        &mut self,
        values: &mut [f64; FIELDS_MAX],
        cx: Context<'_, '_>,
    ) {
        self.settle_faults(cx);
        let Some(faults) = &mut self.faults else {
            return self.send(values, cx.unix_us, 1, cx);
        };
        if faults.is_disconnected(cx.now) || faults.is_hung() {
            cx.out.tally.silenced += 1;
            return;
        }
        let program = &cx.shared.program;
        let Identity { slot, .. } = *cx.identity;
        let of = program.fields();
        let corrupted = faults.distort(
            &mut values[..of],
            slot,
            |field| self.seed ^ program.field_hash(field),
            |field| program.is_battery(field),
        );
        cx.out.tally.corrupted += corrupted as u64;
        let unix_us = faults.clock(cx.unix_us, cx.now);
        let times = faults.times(self.seed, slot);
        let latency = faults.latency();
        if latency.is_zero() && faults.held() == 0 {
            return self.send(values, unix_us, times, cx);
        }
        let given_up = faults.hold(Held {
            at: cx.now + latency,
            unix_us,
            values: values[..of].into(),
            times,
        });
        cx.out.tally.silenced += u64::from(given_up.is_some());
        self.settle_faults(cx);
    }

    /// Nothing comes in or goes out now.
    pub(super) fn is_unheard(&self, now: Time) -> bool {
        let unheard = |faults: &Faults| faults.is_disconnected(now) || faults.is_hung();
        self.faults.as_deref().is_some_and(unheard)
    }

    /// The device's clock.
    pub(super) fn clock(&self, cx: &CellContext<'_, Self>) -> u64 {
        match &self.faults {
            None => cx.unix_us,
            Some(faults) => faults.clock(cx.unix_us, cx.now),
        }
    }
}
