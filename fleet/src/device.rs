//! The device: a cell that samples, raises events and obeys commands.
//!
//! Map: [`Identity`] (what survives a restart), [`DeviceMessage`] (what it is sent), `schedule`
//! (when it samples), and here the cell. Everything shared by a population is in
//! [`DeviceShared`], so a device costs its identity block and a few words. Values depend on
//! (seed, slot number, time) only: a device that was down goes on with the series it would have
//! had. Bound: [`CATCH_UP_MAX`].

use std::time::Duration;

use actorsim_actors::hindrance::POISONED;
use actorsim_actors::shard::{SocketEvent, SocketId};
use actorsim_actors::{Cell, CellContext, Fault, Flow, Incarnation, MissedTicks, Time};
use actorsim_transport::{AckStatus, EventKey, Reading, SensorType, device_uuid};
use uuid::Uuid;

use crate::broker::{LINE, Line, relay};
use crate::fault::Faults;
use crate::lines;
use crate::out::DeviceOut;
use crate::profile::FIELDS_MAX;
use crate::program::{EventSource, Rule, Sensor};
use crate::seed::device_seed;

mod faults;
mod identity;
mod message;
mod own;
mod schedule;
mod shared;
mod way;
mod wide;

pub use identity::Identity;
pub use message::{DeviceInfo, DeviceMessage, Injection, Setpoint, Told};
pub use schedule::{BLOCK_OF_PHASE, POINTS_OF_INTERVAL, Schedule};
pub use shared::DeviceShared;
pub(crate) use shared::device_name;
pub(crate) use wide::WideStates;

use own::Own;
use way::Way;

/// Missed samples that are drawn, to keep a series with memory going: 4,096 draws are about half a
/// millisecond. Beyond it the series starts anew and says so.
pub const CATCH_UP_MAX: u64 = 4_096;

/// The timer of samples.
const TICK: u8 = 0;
/// The timer of events at a fixed rate; set only where a population asks for them.
const BEAT: u8 = 1;
/// The timer of what faults do later: samples held back, faults that end.
const FAULT: u8 = 2;

/// One device.
#[derive(Debug)]
pub struct Device {
    uuid: Uuid,
    seed: u64,
    /// Presence reads 0 until then (simulated time).
    held_until: Time,
    /// What most devices share with their population, or keep in the identity block.
    own: Option<Box<Own>>,
    /// The value that the last sample had for [`Program::beat`](crate::program::Program::beat).
    last: f64,
    poisoned: bool,
    /// Faults that act; most devices have none.
    faults: Option<Box<Faults>>,
    /// The way to its broker, if its population has one.
    way: Option<Box<Way>>,
}

type Context<'a, 'b> = &'a mut CellContext<'b, Device>;

impl Cell for Device {
    type Msg = DeviceMessage;
    type Shared = DeviceShared;
    type Identity = Identity;
    type Out = DeviceOut;

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let name = cx.shared.name(cx.ordinal);
        let seed = device_seed(cx.shared.master_seed, &name);
        let uuid = device_uuid(&name);
        let mut device = Self {
            uuid,
            seed,
            held_until: Time::ZERO,
            own: Own::of(cx),
            last: f64::NAN,
            poisoned: false,
            faults: None,
            way: None,
        };
        // What acted on the former incarnation ends with it.
        let ended = std::mem::take(&mut cx.identity.faults);
        cx.out.faults.end(ended);
        device.take_up_state(cx);
        device.behave(cx);
        device.begin(cx);
        Ok(device)
    }

    /// A device whose faults, poison and pressed presence outlive its restart.
    fn resume(self, cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let mut device = Self { way: None, ..self };
        device.behave(cx);
        device.begin(cx);
        device.settle_faults(cx);
        Ok(device)
    }

    fn handle(
        &mut self,
        message: DeviceMessage,
        cx: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        self.sting()?;
        match message {
            DeviceMessage::Command(setpoint) => self.command(&setpoint, cx),
            DeviceMessage::Tell(told) => self.told(&told, cx),
            DeviceMessage::Trigger => self.trigger(cx),
            DeviceMessage::Inject(Injection::Crash) => {
                cx.out.faults.act("crash");
                return Err(Fault::new("crash"));
            }
            DeviceMessage::Inject(Injection::Poison) => {
                cx.out.faults.act("poison");
                self.poisoned = true;
            }
            DeviceMessage::Inject(Injection::Panic) => panic!("injected panic"),
            DeviceMessage::Inject(Injection::Fault(spec)) => self.inject(spec, cx),
            DeviceMessage::Inject(Injection::Revert(kind)) => self.revert(kind, cx),
            DeviceMessage::Behave => self.behave(cx),
            DeviceMessage::Info(reply) => reply.send(self.info(cx)),
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, key: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        self.sting()?;
        match key {
            LINE => {
                self.drive(Line::timer, cx);
                return Ok(Flow::Continue);
            }
            BEAT => {
                self.beat(cx);
                return Ok(Flow::Continue);
            }
            FAULT => {
                self.settle_faults(cx);
                return Ok(Flow::Continue);
            }
            _ => {}
        }
        let late = cx.missed;
        if late > 0 {
            cx.identity.missed = cx.identity.missed.wrapping_add(late as u32);
            cx.out.tally.missed += late;
            self.catch_up(cx.identity.slot + late, cx);
        }
        self.sample(cx);
        Ok(Flow::Continue)
    }

    fn socket(
        &mut self,
        socket: SocketId,
        event: SocketEvent<'_>,
        cx: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        self.sting()?;
        self.drive(|line, cx| line.socket(socket, event, cx), cx);
        Ok(Flow::Continue)
    }

    fn stopping(&mut self, cx: &mut CellContext<'_, Self>) {
        self.say_goodbye(cx);
    }
}

impl Device {
    /// Comes up: a way to its broker, the series up to now, and the timers.
    fn begin(&mut self, cx: Context<'_, '_>) {
        self.begin_way(cx);
        let before = cx.identity.slot;
        let slot = cx.shared.schedule.slot_at_or_after(cx.ordinal, cx.now);
        self.catch_up(slot, cx);
        if cx.incarnation > Incarnation::FIRST {
            let missed = slot.saturating_sub(before);
            cx.identity.missed = cx.identity.missed.wrapping_add(missed as u32);
            cx.out.tally.missed += missed;
        }
        let first = cx.shared.schedule.time_of(cx.ordinal, cx.identity.slot);
        let interval = cx.shared.schedule.interval();
        cx.set_periodic(TICK, first, interval, MissedTicks::Skip);
        set_beat(cx);
    }

    /// A poisoned device dies of whatever comes next.
    fn sting(&self) -> Result<(), Fault> {
        if self.poisoned {
            Err(Fault::new(POISONED))
        } else {
            Ok(())
        }
    }

    /// Draws the slot in hand, sends it, and raises what crossed a threshold.
    fn sample(&mut self, cx: Context<'_, '_>) {
        let mut values = [0.0; FIELDS_MAX];
        self.draw(cx.unix_us, &mut values, cx);
        let presence = cx
            .shared
            .program
            .presence()
            .filter(|_| cx.now < self.held_until);
        if let Some(field) = presence {
            values[usize::from(field)] = 0.0;
        }
        cx.out.tally.ticks += 1;
        match self.faults.is_some() {
            true => self.sample_with_faults(&mut values, cx),
            false => self.send(&values, cx.unix_us, 1, cx),
        }
    }

    /// Sends a sample, so many times with the same number, and raises what crossed a threshold.
    fn send(&mut self, values: &[f64], unix_us: u64, times: u8, cx: Context<'_, '_>) {
        if let Some(watch) = &mut cx.out.watch {
            watch.sample(cx.ordinal, unix_us, values);
        }
        for _ in 0..times {
            self.put_out(values, unix_us, cx);
        }
        cx.out.tally.duplicated += u64::from(times.saturating_sub(1));
        cx.identity.sequence = cx.identity.sequence.wrapping_add(1);
        if cx.shared.plan().is_some() {
            return;
        }
        let beat = usize::from(cx.shared.program.beat().field);
        self.last = values.get(beat).copied().unwrap_or(f64::NAN); // none without fields
        if cx.shared.t2 {
            self.thresholds(values, unix_us, cx);
        }
    }

    /// A sample goes where samples of this device go.
    fn put_out(&mut self, values: &[f64], unix_us: u64, cx: Context<'_, '_>) {
        if let Some(lines) = &mut cx.out.lines {
            let line = lines::Line {
                ordinal: cx.ordinal,
                unix_us,
                sequence: cx.identity.sequence,
                values,
            };
            lines.write(&line, self.behaviour().map(|own| &own.lines));
        }
        if cx.shared.plan().is_some() {
            cx.out.line.behaviour = self.behaviour().cloned();
            match self.is_on_a_line() {
                true => self.drive(|line, cx| line.publish(values, unix_us, cx), cx),
                false => relay::post(values, unix_us, cx),
            }
        } else if cx.shared.t1 {
            self.telemetry(values, unix_us, cx);
        }
    }

    fn telemetry(&self, values: &[f64], unix_us: u64, cx: Context<'_, '_>) {
        let sensors = cx.shared.program.sensors();
        let sequence = cx.identity.sequence;
        let reading = |sensor: &Sensor| Reading {
            device: self.uuid,
            sensor: sensor.field,
            kind: sensor.kind,
            value: values[usize::from(sensor.field)],
            at_us: unix_us,
            sequence,
        };
        cx.out.telemetry(cx.ordinal, sensors.iter().map(reading));
        cx.out.tally.readings += sensors.len() as u64;
    }

    /// Moves to a slot. Series with memory are drawn on the way, or begin anew if it is too far.
    fn catch_up(&mut self, slot: u64, cx: Context<'_, '_>) {
        let missing = slot.saturating_sub(cx.identity.slot);
        if missing > 0 && self.program(cx.shared).has_memory() {
            if missing > CATCH_UP_MAX {
                self.reset_series(cx);
                cx.identity.series_gaps = cx.identity.series_gaps.wrapping_add(1);
                cx.out.tally.series_gaps += 1;
            } else {
                let mut values = [0.0; FIELDS_MAX];
                for missed in cx.identity.slot..slot {
                    // the time at which it would have been drawn
                    let due = cx.shared.schedule.time_of(cx.ordinal, missed);
                    let ago_us = (cx.now.0 / 1_000).saturating_sub(due.0 / 1_000);
                    self.draw(cx.unix_us.saturating_sub(ago_us), &mut values, cx);
                }
            }
        }
        cx.identity.slot = cx.identity.slot.max(slot);
        self.state_is_for_the_slot(cx);
    }

    fn thresholds(&self, values: &[f64], unix_us: u64, cx: Context<'_, '_>) {
        let shared = cx.shared;
        for (bit, rule) in shared.program.rules().iter().enumerate() {
            let value = values[usize::from(rule.threshold.field)];
            let raised = cx.identity.latches & (1 << bit) != 0;
            if rule.latch(raised, value) != raised && self.event(rule.source(), value, unix_us, cx)
            {
                cx.identity.latches ^= 1 << bit;
            }
        }
    }

    /// Sends the last value as an event, once there is one.
    fn beat(&self, cx: Context<'_, '_>) {
        if !self.last.is_nan() {
            let unix_us = self.clock(cx);
            let _ = self.event(cx.shared.program.beat(), self.last, unix_us, cx);
        }
    }

    /// Sends an event; false if there was no room, and a latch must stay.
    fn event(&self, of: EventSource, value: f64, unix_us: u64, cx: Context<'_, '_>) -> bool {
        if self.is_unheard(cx.now) || !cx.out.has_event_room(cx.ordinal) {
            cx.out.blocked();
            return false;
        }
        let identity = &mut *cx.identity;
        let counter = &mut identity.event_sequences[usize::from(of.counter)];
        let reading = Reading {
            device: self.uuid,
            sensor: of.field,
            kind: of.kind,
            value,
            at_us: unix_us,
            sequence: *counter,
        };
        let key = EventKey {
            epoch: cx.shared.epoch,
            event: identity.events,
        };
        *counter = counter.wrapping_add(1);
        identity.events += 1;
        cx.out.event(cx.ordinal, reading, key);
        cx.out.tally.events += 1;
        true
    }

    /// Pushes presence to 0 now, and holds it through the next sample.
    fn trigger(&mut self, cx: Context<'_, '_>) {
        let shared = cx.shared;
        let Some(field) = shared.program.presence() else {
            return;
        };
        self.held_until = cx.now + shared.schedule.interval() + Duration::from_nanos(1);
        cx.out.tally.triggers += 1;
        let watching = |rule: &Rule| rule.threshold.field == field;
        for (bit, rule) in shared.program.rules().iter().enumerate() {
            let raised = cx.identity.latches & (1 << bit) != 0;
            let now = shared.t2 && watching(rule) && rule.latch(raised, 0.0);
            let unix_us = self.clock(cx);
            if now && !raised && self.event(rule.source(), 0.0, unix_us, cx) {
                cx.identity.latches |= 1 << bit;
            }
        }
    }

    fn command(&self, setpoint: &Setpoint, cx: Context<'_, '_>) {
        if self.is_unheard(cx.now) {
            cx.out.tally.unheard += 1;
            return;
        }
        if setpoint.expires <= cx.monotonic {
            cx.out.tally.expired += 1;
            return;
        }
        let status = self.execute(setpoint, cx);
        cx.out.ack(cx.ordinal, setpoint.ticket, status);
    }

    fn execute(&self, setpoint: &Setpoint, cx: Context<'_, '_>) -> AckStatus {
        let sensors = cx.shared.program.sensors();
        let of = sensors.iter().find(|s| s.field == setpoint.sensor);
        if of.is_none_or(|sensor| sensor.kind != setpoint.kind) {
            cx.out.tally.refused += 1;
            return AckStatus::Refused;
        }
        self.set(&[(setpoint.sensor, setpoint.value)], Some(setpoint.id), cx)
    }

    /// Sets actuators, all or none. A command with an id at or below the last one is superseded.
    fn set(&self, values: &[(u16, f64)], id: Option<u64>, cx: Context<'_, '_>) -> AckStatus {
        let program = &cx.shared.program;
        let slot = |(field, value): &(u16, f64)| {
            let slot = program.actuator_slot(*field);
            slot.filter(|_| value.is_finite())
        };
        if !values.iter().all(|setpoint| slot(setpoint).is_some()) {
            cx.out.tally.refused += 1;
            return AckStatus::Refused;
        }
        if id.is_some_and(|id| id <= cx.identity.last_command) {
            cx.out.tally.superseded += 1;
            return AckStatus::Superseded;
        }
        cx.identity.last_command = id.unwrap_or(cx.identity.last_command);
        for setpoint in values {
            if let Some(slot) = slot(setpoint) {
                cx.identity.state[slot] = setpoint.1;
            }
        }
        cx.out.tally.executed += 1;
        AckStatus::Executed
    }

    fn info(&self, cx: &CellContext<'_, Self>) -> DeviceInfo {
        let identity = &*cx.identity;
        let program = &cx.shared.program;
        let relay = program
            .sensors()
            .iter()
            .find(|sensor| sensor.kind == SensorType::Relay)
            .and_then(|sensor| program.actuator_slot(sensor.field))
            .map(|slot| identity.state[slot]);
        DeviceInfo {
            id: cx.shared.name(cx.ordinal),
            uuid: self.uuid,
            slot: identity.slot,
            sequence: identity.sequence,
            events: identity.events,
            missed: identity.missed,
            series_gaps: identity.series_gaps,
            last_command: identity.last_command,
            relay,
            faults: self
                .faults
                .as_ref()
                .map_or_else(Vec::new, |faults| faults.kinds()),
        }
    }
}

/// Sets the events at a fixed rate, from the first one after now.
fn set_beat(cx: &mut CellContext<'_, Device>) {
    if let Some(schedule) = cx.shared.beat {
        let after = cx.now + Duration::from_nanos(1);
        let slot = schedule.slot_at_or_after(cx.ordinal, after);
        let first = schedule.time_of(cx.ordinal, slot);
        cx.set_periodic(BEAT, first, schedule.interval(), MissedTicks::Skip);
    }
}
