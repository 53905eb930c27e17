//! Update, second: values come under the rules, and what they mean is commanded.
//!
//! Only edges command: which rules are in force is mirrored in the row, and what of that was
//! commanded outlives the world in [`Commanded`]. It never waits: where the lane takes no command,
//! the row is put off, and in a later cycle it is commanded wherever the two differ still, in
//! another world if need be. So a stop put off cannot overtake a start, whatever values come
//! meanwhile. A value that is not finite means nothing, and a stale row comes into no force.
//! Whether a device obeyed is for tier T3 to report.
//!
//! Bound: the samples of [`super::Judged`], the rows of [`super::Touched`], and [`DUE_PER_CYCLE`]
//! rows whose time is over, for each rule.

use super::{Commanded, CycleState, Kinds, Outbox, PutOff, RelayCommand, Rows, Tally, Windows};
use crate::components::{Cold, DeviceId, Flags, Hot};
use crate::rules::{Armed, Field, Judgement, RuleBook};

/// Rows of one rule whose time is over that one cycle takes up; more wait for the next.
const DUE_PER_CYCLE: usize = 4_096;

pub(super) fn automation(rows: &mut Rows<'_>, state: &mut CycleState) {
    let CycleState {
        intake,
        commanded,
        book,
        touched,
        windows,
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
    desk.take_up(book);
    for sample in judged.samples() {
        if sample.passes {
            desk.pass(book, sample.row, sample.value);
        } else {
            desk.judge(book, sample.row, Field::Value, sample.value);
        }
    }
    desk.tally.samples_missed += judged.clear();
    if judged.folded != Kinds::default() {
        desk.judge_folded(book, windows, touched.rows(), judged.folded);
    }
    let RuleBook { armed, tallies, .. } = book;
    for rule in armed.iter_mut().flatten() {
        for _ in 0..DUE_PER_CYCLE {
            let Some(row) = rule.due(desk.now_ns) else {
                break;
            };
            let flags = desk.hot[row as usize].flags;
            if !flags.has(Flags::STALE) && !desk.decide(rule, tallies, row, true) {
                // no room at all: its time is over, so the next cycle takes it up again
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
        let rules = armed[usize::from(flags.kind())].iter_mut();
        for rule in rules.filter(|rule| rule.field == field) {
            match rule.judge(row, in_force & rule.bit() != 0, value) {
                Judgement::Rest => {}
                Judgement::Cancel => rule.cancel(row),
                Judgement::Begin => {
                    let waits = rule.begin(row, self.now_ns + rule.hold_ns);
                    self.tally.rules_put_off += u64::from(!waits);
                }
                edge => {
                    let decided = self.decide(rule, tallies, row, edge == Judgement::Fire);
                    self.tally.samples_missed += u64::from(!decided);
                }
            }
        }
    }

    /// Judges rows of these types that got a value by what became of it.
    fn judge_folded(&mut self, book: &mut RuleBook, windows: &Windows, rows: &[u32], kinds: Kinds) {
        let of_windows = book.has_windows();
        for row in rows {
            let Hot {
                flags, smoothed, ..
            } = self.hot[*row as usize];
            if kinds.has(flags.kind()) && !flags.has(Flags::NON_FINITE) {
                self.judge(book, *row, Field::Smoothed, f64::from(smoothed));
                let window = of_windows.then(|| windows.of(*row)).flatten();
                if let Some(window) = window {
                    self.judge(book, *row, Field::WindowMean, window.mean);
                    self.judge(book, *row, Field::WindowMin, window.min);
                    self.judge(book, *row, Field::WindowMax, window.max);
                }
            }
        }
    }

    /// A value that is over: the rules of `row` are triggered by it, and are then as they were. No
    /// rule's time begins with it, nor ends.
    fn pass(&mut self, book: &mut RuleBook, row: u32, value: f64) {
        if !value.is_finite() {
            return;
        }
        let RuleBook { armed, tallies, .. } = book;
        let Hot {
            flags, in_force, ..
        } = self.hot[row as usize];
        let rules = armed[usize::from(flags.kind())].iter_mut();
        for rule in rules.filter(|rule| rule.field == Field::Value) {
            let was = in_force & rule.bit() != 0;
            if let Judgement::Fire | Judgement::End = rule.judge(row, was, value) {
                // of two that find no room nothing is left
                let decided =
                    self.decide(rule, tallies, row, !was) && self.decide(rule, tallies, row, was);
                self.tally.samples_missed += u64::from(!decided);
            }
        }
    }

    /// Commands rows that were put off, oldest first, as long as there is room.
    fn take_up(&mut self, book: &RuleBook) {
        while let Some(row) = self.put_off.first() {
            let Hot {
                flags, in_force, ..
            } = self.hot[row as usize];
            for rule in &book.armed[usize::from(flags.kind())] {
                let into_force = in_force & rule.bit() != 0;
                if self.commanded.has(rule.slot, row) == into_force {
                    continue;
                }
                if self.is_full() {
                    return;
                }
                self.command(rule, row, into_force);
            }
            self.hot[row as usize].put_off = false;
            self.put_off.drop_first();
        }
    }

    /// Whether the lane takes no further command in this cycle.
    fn is_full(&self) -> bool {
        self.outbox.commands.len() >= self.outbox.room
    }

    /// A rule comes into force for a row, or ends; false when there is no room for that, not even
    /// to put its command off.
    fn decide(
        &mut self,
        rule: &Armed,
        tallies: &mut [crate::rules::RuleTally],
        row: u32,
        into_force: bool,
    ) -> bool {
        let setpoint = rule.setpoint(into_force);
        // else its opposite is put off, and neither is needed any more
        let is_news = self.commanded.has(rule.slot, row) != into_force;
        let waits = setpoint.is_some() && is_news && self.is_full();
        if waits {
            if !self.put_off.list(row, &mut self.hot[row as usize]) {
                return false;
            }
            self.tally.commands_deferred += 1;
        }
        self.hot[row as usize].in_force ^= rule.bit();
        let tally = &mut tallies[rule.at];
        tally.fired += u64::from(into_force);
        tally.ended += u64::from(!into_force);
        if is_news && !waits {
            self.command(rule, row, into_force);
        }
        true
    }

    /// Tells the device, if the rule says so; there is room.
    fn command(&mut self, rule: &Armed, row: u32, into_force: bool) {
        self.commanded.set(rule.slot, row, into_force);
        let setpoint = rule.setpoint(into_force);
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
                decided_ns: self.outbox.decided_ns,
            });
            self.tally.commands += 1;
        }
    }
}
