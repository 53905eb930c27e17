//! Where devices write: T1 blocks, T2 events and T3 acknowledgements of one slab.
//!
//! A device's step appends; [`Outbox::flush`] hands over between steps. Events and acknowledgements
//! go at once, telemetry when a block is worth sending or [`BLOCK_WAIT`] has passed. Bounds:
//! [`BLOCK_TARGET`], the transport's block and outbox limits.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{Level, Outbox, System, Time};
use actorsim_transport::{
    AckStatus, BLOCK_READINGS_MAX, EventKey, Link, OUTBOX_EVENTS_MAX, OutEvent, READING_LEN,
    Reading, Ticket, Tier, TransportStats,
};
use parking_lot::Mutex;

use crate::air::{AirMark, AirOut};
use crate::broker::{LineOut, Plan, PublishStats, Relays};
use crate::counters::{FleetCounters, Tally};
use crate::device::WideStates;
use crate::fault::FaultCounts;
use crate::lines::{LinesMark, LinesOut};
use crate::profile::Backpressure;
use crate::watch::WatchOut;
use crate::wire::{Way, WireDigests};

/// Telemetry is handed over at once when this much waits: 416 readings, the largest datagram within
/// a machine, about 12 of Ethernet's.
pub const BLOCK_TARGET: usize = BLOCK_READINGS_MAX / 4 * READING_LEN;
/// Telemetry waits this long for company at most, of monotonic time.
pub const BLOCK_WAIT: Duration = Duration::from_millis(3);

/// Bytes of a block at most.
const BLOCK_LEN_MAX: usize = BLOCK_READINGS_MAX * READING_LEN;

/// Telemetry that was not handed over yet, in the buffers that it will be sent from.
#[derive(Debug, Default)]
struct Telemetry {
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

/// Full blocks, and the length of the open one.
#[derive(Clone, Copy, Debug)]
struct TelemetryMark(usize, usize);

impl Telemetry {
    /// One sample; it lies in one block.
    fn write(&mut self, readings: impl ExactSizeIterator<Item = Reading>) {
        let end = self.open.len() + readings.len() * READING_LEN;
        if end > BLOCK_LEN_MAX.min(self.open.capacity()) {
            let block = Vec::with_capacity(BLOCK_LEN_MAX);
            let full = std::mem::replace(&mut self.open, block);
            if !full.is_empty() {
                self.full.push(full);
            }
        }
        readings.for_each(|one| one.encode_into(&mut self.open));
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.full.is_empty()
    }

    fn is_worth_sending(&self) -> bool {
        !self.full.is_empty() || self.open.len() >= BLOCK_TARGET
    }

    fn mark(&self) -> TelemetryMark {
        TelemetryMark(self.full.len(), self.open.len())
    }

    fn cut(&mut self, TelemetryMark(full, open): TelemetryMark) {
        if let Some(before) = self.full.drain(full..).next() {
            self.open = before;
        }
        self.open.truncate(open);
    }

    /// All of it, oldest first.
    fn take(&mut self) -> impl Iterator<Item = Vec<u8>> {
        let open = std::mem::take(&mut self.open);
        let open = (!open.is_empty()).then_some(open);
        self.full.drain(..).chain(open)
    }
}

/// Output of one slab of devices.
#[derive(Debug)]
pub struct DeviceOut {
    t1: Telemetry,
    events: Vec<OutEvent>,
    acks: Vec<(Ticket, AckStatus)>,
    sink: Sink,
    /// When the oldest waiting telemetry was first seen by a flush.
    since: Option<Time>,
    /// Counted since the last flush.
    pub tally: Tally,
    /// Faults since the last flush.
    pub faults: FaultCounts,
    counters: Arc<FleetCounters>,
    /// What lines to brokers write to.
    pub(crate) line: Box<LineOut>,
    published: Option<Arc<PublishStats>>,
    /// What publishers take goes there, and by this rule if there is no room.
    relays: Option<(Relays, Backpressure)>,
    /// What generators remember, of programs that do not fit identity blocks.
    pub(crate) wide: WideStates,
    /// What watchers see.
    pub(crate) watch: Option<Box<WatchOut>>,
    /// Where samples are printed.
    pub(crate) lines: Option<Box<LinesOut>>,
    retries: Option<Arc<Retries>>,
}

/// Says that devices try again to reach their brokers: once a second at most, with how often.
#[derive(Debug)]
pub(crate) struct Retries {
    system: System,
    /// When it was said, and what was counted since.
    said: Mutex<(Option<Time>, u64)>,
}

/// Time between two of its events.
const RETRIES_TIME: Duration = Duration::from_secs(1);

impl Retries {
    pub(crate) fn new(system: &System) -> Self {
        Self {
            system: system.clone(),
            said: Mutex::default(),
        }
    }

    fn count(&self, failed: u64, now: Time) {
        let mut said = self.said.lock();
        said.1 += failed;
        if said.0.is_some_and(|at| now.since(at) < RETRIES_TIME) {
            return;
        }
        let text = format!("{} times a broker was not reached or broke off", said.1);
        *said = (Some(now), 0);
        drop(said);
        let events = self.system.events();
        events.publish(Level::Warn, "publish_retry", None, text);
    }
}

#[derive(Debug)]
enum Sink {
    /// Nowhere: all that its devices write goes over sessions of their own, or is printed.
    Nowhere,
    /// To the twin.
    Link(Box<(Link, Arc<TransportStats>)>),
    /// Hashed by device: the wire of a simulation.
    Digests(Box<WireDigests>),
    /// Hashed, and to the twin of the simulation.
    Air(Box<AirOut>),
}

/// A position in the unflushed output.
#[derive(Clone, Copy, Debug)]
pub struct OutMark {
    t1: TelemetryMark,
    events: usize,
    acks: usize,
    letters: usize,
    wire: (usize, usize),
    air: AirMark,
    watch: usize,
    lines: LinesMark,
}

impl DeviceOut {
    /// Output over a link.
    #[must_use]
    pub fn to_link(link: Link, stats: Arc<TransportStats>, counters: Arc<FleetCounters>) -> Self {
        Self::new(Sink::Link(Box::new((link, stats))), counters)
    }

    /// Output that is hashed and forgotten.
    #[must_use]
    pub fn to_digests(digests: WireDigests, counters: Arc<FleetCounters>) -> Self {
        Self::new(Sink::Digests(Box::new(digests)), counters)
    }

    /// Output of devices that have other ways out.
    #[must_use]
    pub fn to_nowhere(counters: Arc<FleetCounters>) -> Self {
        Self::new(Sink::Nowhere, counters)
    }

    /// Output that is hashed and goes to the twin of a simulation.
    pub(crate) fn to_air(air: AirOut, counters: Arc<FleetCounters>) -> Self {
        Self::new(Sink::Air(Box::new(air)), counters)
    }

    fn new(sink: Sink, counters: Arc<FleetCounters>) -> Self {
        Self {
            t1: Telemetry::default(),
            events: Vec::new(),
            acks: Vec::new(),
            sink,
            since: None,
            tally: Tally::default(),
            faults: FaultCounts::default(),
            counters,
            line: Box::default(),
            published: None,
            relays: None,
            wide: WideStates::default(),
            watch: None,
            lines: None,
            retries: None,
        }
    }

    /// Says there when brokers are not reached.
    pub(crate) fn retrying(mut self, retries: &Arc<Retries>) -> Self {
        self.retries = Some(Arc::clone(retries));
        self
    }

    /// Shows samples to who watches.
    pub(crate) fn watched(mut self, watch: WatchOut) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Prints samples there.
    pub(crate) fn printing(mut self, lines: Option<LinesOut>) -> Self {
        self.lines = lines.map(Box::new);
        self
    }

    /// Counts what goes to brokers, and hands over what publishers take there.
    #[must_use]
    pub fn publishing(mut self, plan: Option<&Plan>) -> Self {
        self.published = plan.map(|plan| Arc::clone(&plan.stats));
        self.relays = plan.and_then(|plan| {
            let speech = plan.relayed()?;
            Some((speech.relays.clone(), plan.backpressure))
        });
        self
    }

    /// The readings of one sample.
    pub fn telemetry(&mut self, ordinal: u32, readings: impl ExactSizeIterator<Item = Reading>) {
        match &mut self.sink {
            Sink::Nowhere => {}
            Sink::Link(_) => self.t1.write(readings),
            Sink::Digests(digests) => digests.readings(ordinal, readings),
            Sink::Air(air) => readings.for_each(|one| air.telemetry(ordinal, &one)),
        }
    }

    /// Whether an event would find room.
    #[must_use]
    pub fn has_event_room(&self, ordinal: u32) -> bool {
        match &self.sink {
            Sink::Link(link) => link.0.outbox().waiting() + self.events.len() < OUTBOX_EVENTS_MAX,
            Sink::Nowhere | Sink::Digests(_) => true,
            Sink::Air(air) => air.has_event_room(ordinal),
        }
    }

    /// Counts an event that was not made because there was no room.
    pub fn blocked(&mut self) {
        match &self.sink {
            Sink::Link(link) => link.1.t2.blocked.inc(),
            Sink::Air(air) => air.stats.t2.blocked.inc(),
            Sink::Nowhere | Sink::Digests(_) => {}
        }
    }

    /// One event.
    pub fn event(&mut self, ordinal: u32, reading: Reading, key: EventKey) {
        match &mut self.sink {
            Sink::Nowhere => {}
            Sink::Link(_) => self.events.push(OutEvent { reading, key }),
            Sink::Digests(digests) => digests.event(ordinal, &reading, key),
            Sink::Air(air) => air.event(ordinal, reading, key),
        }
    }

    /// One acknowledgement.
    pub fn ack(&mut self, ordinal: u32, ticket: Ticket, status: AckStatus) {
        match &mut self.sink {
            Sink::Nowhere => {}
            Sink::Link(_) => self.acks.push((ticket, status)),
            Sink::Digests(digests) => {
                digests.write(ordinal, Way::Tier(Tier::T3), &[status as u8]);
            }
            Sink::Air(air) => air.ack(ordinal, ticket, status),
        }
    }

    /// Bytes of a device's session, as they are handed to TLS or to its socket.
    #[inline]
    pub(crate) fn session(&mut self, ordinal: u32, way: Way, bytes: &[u8]) {
        match &mut self.sink {
            Sink::Nowhere | Sink::Link(_) => {}
            Sink::Digests(digests) => digests.write(ordinal, way, bytes),
            Sink::Air(air) => air.digests.write(ordinal, way, bytes),
        }
    }

    fn hand_over(&mut self, now: Time) -> Option<Time> {
        let Sink::Link(link) = &self.sink else {
            return None;
        };
        let link = &link.0;
        if !self.events.is_empty() {
            // What is not taken is counted by the outbox: another slab had the room, or the twin
            // refuses the device.
            let taken = link.events(&self.events);
            debug_assert!(taken <= self.events.len());
            self.events.clear();
        }
        if !self.acks.is_empty() {
            // Too many waiting: those commands run into their deadlines, which the twin counts.
            let _ = link.acks(&self.acks);
            self.acks.clear();
        }
        if self.t1.is_empty() {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if !self.t1.is_worth_sending() && now < since + BLOCK_WAIT {
            return Some(since + BLOCK_WAIT);
        }
        self.since = None;
        for block in self.t1.take() {
            let refused = link.telemetry(block.into()).is_err();
            debug_assert!(!refused, "a block of whole readings is always taken");
        }
        None
    }
}

impl Outbox for DeviceOut {
    type Mark = OutMark;

    fn mark(&self) -> OutMark {
        let (wire, air) = match &self.sink {
            Sink::Nowhere | Sink::Link(_) => Default::default(),
            Sink::Digests(digests) => (digests.mark(), AirMark::default()),
            Sink::Air(air) => ((0, 0), air.mark()),
        };
        OutMark {
            t1: self.t1.mark(),
            events: self.events.len(),
            acks: self.acks.len(),
            letters: self.line.letters.len(),
            wire,
            air,
            watch: self.watch.as_ref().map_or(0, |watch| watch.mark()),
            lines: self
                .lines
                .as_ref()
                .map(|lines| lines.mark())
                .unwrap_or_default(),
        }
    }

    fn cut(&mut self, mark: OutMark) {
        self.t1.cut(mark.t1);
        self.events.truncate(mark.events);
        self.acks.truncate(mark.acks);
        self.line.cut(mark.letters);
        if let Some(watch) = &mut self.watch {
            watch.cut(mark.watch);
        }
        if let Some(lines) = &mut self.lines {
            lines.cut(mark.lines);
        }
        match &mut self.sink {
            Sink::Nowhere | Sink::Link(_) => {}
            Sink::Digests(digests) => digests.cut(mark.wire),
            Sink::Air(air) => air.cut(mark.air),
        }
    }

    fn flush(&mut self, now: Time) -> Option<Time> {
        self.counters.add(&core::mem::take(&mut self.tally));
        if self.faults != FaultCounts::default() {
            self.counters.faults.add(&core::mem::take(&mut self.faults));
        }
        if let Some((relays, rule)) = &self.relays {
            let LineOut { letters, tally, .. } = &mut *self.line;
            relays.take(letters, *rule, tally);
        }
        if let Some(watch) = &mut self.watch {
            watch.flush();
        }
        let failed = self.line.tally.errors;
        if let Some(retries) = self.retries.as_ref().filter(|_| failed > 0) {
            retries.count(failed, now);
        }
        if let Some(stats) = &self.published {
            stats.take(&mut self.line.tally);
        }
        match &mut self.sink {
            Sink::Nowhere | Sink::Link(_) => {}
            Sink::Digests(digests) => digests.flush(now),
            Sink::Air(air) => {
                air.digests.flush(now);
                air.flush();
            }
        }
        let lines = self.lines.as_mut().and_then(|lines| lines.flush(now));
        self.hand_over(now).into_iter().chain(lines).min()
    }
}

impl Drop for DeviceOut {
    /// What waits is handed over: a stopped fleet loses nothing that its devices wrote.
    fn drop(&mut self) {
        self.flush(Time::MAX);
    }
}

#[cfg(test)]
mod tests {
    use actorsim_transport::{SensorType, device_uuid};

    use super::*;

    fn sample(sequence: u32) -> impl ExactSizeIterator<Item = Reading> {
        let device = device_uuid("pump-0001");
        (0..7).map(move |sensor| Reading {
            device,
            sensor,
            kind: SensorType::Voltage,
            value: 230.0,
            at_us: 0,
            sequence,
        })
    }

    #[test]
    fn what_a_failed_step_wrote_is_cut_off_also_across_blocks() {
        let in_a_block = (BLOCK_READINGS_MAX / 7) as u32;
        for before in [0, 1, in_a_block - 1, in_a_block, in_a_block + 1] {
            let (mut cut, mut whole) = (Telemetry::default(), Telemetry::default());
            for sequence in 0..before {
                cut.write(sample(sequence));
                whole.write(sample(sequence));
            }
            let mark = cut.mark();
            for sequence in 0..2 * in_a_block {
                cut.write(sample(sequence));
            }
            assert!(cut.is_worth_sending());
            cut.cut(mark);
            let [cut, whole] = [cut, whole].map(|mut all| all.take().collect::<Vec<_>>());
            assert_eq!(cut, whole, "after {before} samples");
            assert!(whole.iter().all(|block| block.len() <= BLOCK_LEN_MAX));
            assert_eq!(whole.concat().len(), before as usize * 7 * READING_LEN);
        }
    }
}
