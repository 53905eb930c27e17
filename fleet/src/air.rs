//! Between simulated devices and their links: what was written at one instant, in the order of
//! device numbers.
//!
//! Shards are stepped one after the other, so the order in which devices write depends on how they
//! lie on shards. Here it is sorted before it reaches a link, and devices have their link by group,
//! whatever the number of shards: so the twin sees the same. It waits for nothing. Bound: one
//! instant's output of the fleet.

use std::fmt;
use std::sync::Arc;

use actorsim_transport::{
    AckStatus, BLOCK_READINGS_MAX, EventKey, Link, OUTBOX_EVENTS_MAX, OutEvent, READING_LEN,
    Reading, Ticket, Tier, TransportStats,
};
use bytes::BytesMut;
use parking_lot::Mutex;

use crate::population::shard_of;
use crate::wire::{Way, WireDigests};

/// Events of one link at one instant, for which room is kept: devices are spread over time.
const INSTANT_EVENTS_MAX: usize = 8_192;

/// Output of all slabs that was not handed to links yet.
#[derive(Default)]
pub(crate) struct Air(Mutex<State>);

impl fmt::Debug for Air {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Air").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// Device, line, what.
    readings: Vec<(u32, usize, [u8; READING_LEN])>,
    events: Vec<(u32, usize, OutEvent)>,
    acks: Vec<(u32, usize, Ticket, AckStatus)>,
}

impl Air {
    /// Hands everything to the links, in the order of device numbers.
    pub(crate) fn hand_over(&self, links: &[Link]) {
        let State {
            mut readings,
            mut events,
            mut acks,
        } = std::mem::take(&mut *self.0.lock());
        // stable: what one device wrote stays in order
        readings.sort_by_key(|(device, ..)| *device);
        events.sort_by_key(|(device, ..)| *device);
        acks.sort_by_key(|(device, ..)| *device);
        for (line, link) in links.iter().enumerate() {
            let own = events.iter().filter(|(_, at, _)| *at == line);
            let own: Vec<OutEvent> = own.map(|(_, _, event)| *event).collect();
            if !own.is_empty() {
                // What finds no room, or is refused, is counted by the outbox.
                let taken = link.events(&own);
                debug_assert!(taken <= own.len());
            }
            for (_, _, ticket, status) in acks.iter().filter(|(_, at, ..)| *at == line) {
                // Too many waiting: the command runs into its deadline, which the twin counts.
                let _ = link.ack(*ticket, *status);
            }
            let own = readings.iter().filter(|(_, at, _)| *at == line);
            let mut block = BytesMut::new();
            for (_, _, bytes) in own {
                if block.len() + bytes.len() > BLOCK_READINGS_MAX * READING_LEN {
                    send(link, &mut block);
                }
                block.extend_from_slice(bytes);
            }
            send(link, &mut block);
        }
    }
}

fn send(link: &Link, block: &mut BytesMut) {
    if !block.is_empty() {
        let refused = link.telemetry(block.split().freeze()).is_err();
        debug_assert!(!refused, "a block of whole readings is always taken");
    }
}

/// Where the devices of one slab write in a simulation with a twin.
#[derive(Debug)]
pub(crate) struct AirOut {
    pub(crate) digests: WireDigests,
    pub(crate) air: Arc<Air>,
    pub(crate) links: Arc<[Link]>,
    pub(crate) stats: Arc<TransportStats>,
    /// Wraps; with an ordinal it makes the number of a device.
    pub(crate) first: u32,
    own: State,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("readings", &self.readings.len())
            .field("events", &self.events.len())
            .field("acks", &self.acks.len())
            .finish()
    }
}

/// A position in the unflushed output.
pub(crate) type AirMark = (usize, usize, usize, (usize, usize));

impl AirOut {
    pub(crate) fn new(
        digests: WireDigests,
        air: Arc<Air>,
        links: Arc<[Link]>,
        stats: Arc<TransportStats>,
        first: u32,
    ) -> Self {
        Self {
            digests,
            air,
            links,
            stats,
            first,
            own: State::default(),
        }
    }

    fn line(&self, ordinal: u32) -> usize {
        shard_of(ordinal, self.links.len())
    }

    pub(crate) fn telemetry(&mut self, ordinal: u32, reading: &Reading) {
        let (device, line) = (self.first.wrapping_add(ordinal), self.line(ordinal));
        let bytes = reading.encode();
        self.digests.write(ordinal, Way::Tier(Tier::T1), &bytes);
        self.own.readings.push((device, line, bytes));
    }

    pub(crate) fn has_event_room(&self, ordinal: u32) -> bool {
        let line = self.line(ordinal);
        // What other devices write at this instant is not looked at: it depends on their shard.
        self.links[line].outbox().waiting() + INSTANT_EVENTS_MAX <= OUTBOX_EVENTS_MAX
    }

    pub(crate) fn event(&mut self, ordinal: u32, reading: Reading, key: EventKey) {
        self.digests.event(ordinal, &reading, key);
        let (device, line) = (self.first.wrapping_add(ordinal), self.line(ordinal));
        let event = OutEvent { reading, key };
        self.own.events.push((device, line, event));
    }

    pub(crate) fn ack(&mut self, ordinal: u32, ticket: Ticket, status: AckStatus) {
        let way = Way::Tier(Tier::T3);
        self.digests.write(ordinal, way, &[status as u8]);
        let (device, line) = (self.first.wrapping_add(ordinal), self.line(ordinal));
        self.own.acks.push((device, line, ticket, status));
    }

    pub(crate) fn mark(&self) -> AirMark {
        let State {
            readings,
            events,
            acks,
        } = &self.own;
        let wire = self.digests.mark();
        (readings.len(), events.len(), acks.len(), wire)
    }

    pub(crate) fn cut(&mut self, (readings, events, acks, wire): AirMark) {
        self.own.readings.truncate(readings);
        self.own.events.truncate(events);
        self.own.acks.truncate(acks);
        self.digests.cut(wire);
    }

    /// What was written goes to the other slabs' output.
    pub(crate) fn flush(&mut self) {
        let mut all = self.air.0.lock();
        all.readings.append(&mut self.own.readings);
        all.events.append(&mut self.own.events);
        all.acks.append(&mut self.own.acks);
    }
}
