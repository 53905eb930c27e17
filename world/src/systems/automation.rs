//! Update, second: values come under the rules, and what they mean is commanded.
//!
//! Only edges command: which rules are in force is mirrored in the row, and outlives the world in
//! [`Commanded`]. It never waits: a row whose command the lane cannot take is put off, and is
//! judged by its newest value in the next cycle, so that a stop put off cannot overtake a start.
//! A value that is not finite means nothing, and a stale row comes into no force. Whether a device
//! obeyed is for tier T3 to report.
//!
//! Bound: the samples of [`super::Judged`] and [`DUE_PER_CYCLE`] rows whose time is over, for each
//! rule.

use super::{Commanded, CycleState, Outbox, PutOff, RelayCommand, Rows, Tally};
use crate::components::{Cold, DeviceId, Flags, Hot};
use crate::rules::{Armed, Field, Judgement, RuleBook};

/// Rows of one rule whose time is over that one cycle takes up; more wait for the next.
const DUE_PER_CYCLE: usize = 4_096;

pub(super) fn automation(rows: &mut Rows<'_>, state: &mut CycleState) {
    let CycleState {
        intake,
        commanded,
        book,
        judged,
        put_off,
        outbox,
        tally,
        ..
    } = state;
    let mut desk = Desk {
        hot: rows.hot,
        cold: rows.cold,
        devices: rows.devices,
        commanded,
        put_off,
        outbox,
        tally,
        now_ns: intake.now_ns,
    };
    for at in 0..desk.put_off.take_up() {
        let row = desk.put_off.rows[at];
        let Hot {
            value, smoothed, ..
        } = desk.hot[row as usize];
        desk.judge(book, row, Field::Value, value);
        desk.judge(book, row, Field::Smoothed, f64::from(smoothed));
    }
    for sample in judged.samples() {
        desk.judge(book, sample.row, sample.field, sample.value);
    }
    desk.tally.samples_missed += judged.clear();
    let RuleBook { armed, tallies, .. } = book;
    for rule in armed.iter_mut().flatten() {
        for _ in 0..DUE_PER_CYCLE {
            let Some(row) = rule.due(desk.now_ns) else {
                break;
            };
            let flags = desk.hot[row as usize].flags;
            if !flags.has(Flags::STALE) && !desk.decide(rule, tallies, row, true) {
                // the lane is full: its time is over, so the next cycle takes it up again
                rule.begin(row, desk.now_ns);
                break;
            }
        }
    }
}

/// Where rows are judged.
struct Desk<'a> {
    hot: &'a mut [Hot],
    cold: &'a [Cold],
    devices: &'a [DeviceId],
    commanded: &'a Commanded,
    put_off: &'a mut PutOff,
    outbox: &'a mut Outbox,
    tally: &'a mut Tally,
    now_ns: u64,
}

impl Desk<'_> {
    fn judge(&mut self, book: &mut RuleBook, row: u32, field: Field, value: f64) {
        if !value.is_finite() {
            return;
        }
        let RuleBook { armed, tallies, .. } = book;
        let Hot {
            flags, in_force, ..
        } = self.hot[row as usize];
        for rule in &mut armed[usize::from(flags.kind())] {
            if rule.field != field {
                continue;
            }
            match rule.judge(row, in_force & rule.bit() != 0, value) {
                Judgement::Rest => {}
                Judgement::Cancel => rule.cancel(row),
                Judgement::Begin => {
                    let waits = rule.begin(row, self.now_ns + rule.hold_ns);
                    self.tally.rules_put_off += u64::from(!waits);
                }
                edge => {
                    if !self.decide(rule, tallies, row, edge == Judgement::Fire) {
                        self.tally.samples_missed += u64::from(!self.put_off.list(row));
                    }
                }
            }
        }
    }

    /// A rule comes into force for a row, or ends; false when its command finds no room.
    fn decide(
        &mut self,
        rule: &Armed,
        tallies: &mut [crate::rules::RuleTally],
        row: u32,
        into_force: bool,
    ) -> bool {
        let setpoint = if into_force {
            Some(rule.then)
        } else {
            rule.otherwise
        };
        if setpoint.is_some() && self.outbox.commands.len() >= self.outbox.room {
            self.tally.commands_deferred += 1;
            return false;
        }
        self.hot[row as usize].in_force ^= rule.bit();
        self.commanded.set(rule.slot, row, into_force);
        let tally = &mut tallies[rule.at];
        tally.fired += u64::from(into_force);
        tally.ended += u64::from(!into_force);
        if let Some(value) = setpoint {
            let cold = self.cold[row as usize];
            // a row that is nobody's yet is a blank device's
            let device = self.devices.get(cold.asset as usize);
            self.outbox.commands.push(RelayCommand {
                device: device.copied().unwrap_or_default(),
                row,
                sensor: rule.actuator.unwrap_or(cold.relay),
                by: cold.sensor,
                rule: rule.id,
                in_force: into_force,
                value,
                decided_ns: self.now_ns,
            });
            self.tally.commands += 1;
        }
        true
    }
}
