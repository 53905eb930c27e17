//! The twin's index: (device, sensor) -> table row, shared by incarnations.
//!
//! It outlives `route` and the scan, so that a restarted stage finds the same rows and a rebuilt
//! world binds the same ones. Announced devices cost a slot of 24 bytes and share their layout;
//! devices seen without an announcement get rows one sensor at a time, and share a layout, too, as
//! long as their sensors come one after another. It never forgets a device.
//!
//! Bound: `rows_max` rows, of them [`SENSORS_MAX`] for each device; a reading beyond them resolves
//! to [`NO_ROW`] and is counted.

mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use actorsim_transport::{Reading, Registration, SENSORS_MAX, SensorSpec, SensorType};
use uuid::Uuid;

use crate::batch::{NO_ROW, RowReading};
use crate::components::RowFill;
use table::Table;

/// Sensor id of a relay where the device announced none: that of the guide's profile.
pub const RELAY_SENSOR: u16 = 6;

/// Distinct layouts that are shared; devices beyond them are kept one sensor at a time.
pub const LAYOUTS_MAX: usize = 4_096;

/// Steps from one layout to that with a sensor more, as devices take them that announced nothing:
/// some dozens of types; devices beyond them are kept one sensor at a time.
const STEPS_MAX: usize = 256;

const NO_LAYOUT: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    device: Uuid,
    first_row: u32,
    layout: u16,
}

#[derive(Debug)]
struct Layout {
    sensors: Arc<[SensorSpec]>,
    /// Sensor ids are 0, 1, 2, ...: the row is the first one plus the id.
    dense: bool,
    relay: u16,
}

impl Layout {
    fn new(sensors: Arc<[SensorSpec]>) -> Self {
        let dense = sensors
            .iter()
            .enumerate()
            .all(|(at, spec)| usize::from(spec.sensor) == at);
        let relay = sensors.iter().find(|spec| spec.kind == SensorType::Relay);
        let relay = relay.map_or(RELAY_SENSOR, |spec| spec.sensor);
        Self {
            sensors,
            dense,
            relay,
        }
    }

    fn position(&self, sensor: u16) -> Option<u32> {
        if self.dense {
            return (usize::from(sensor) < self.sensors.len()).then_some(u32::from(sensor));
        }
        self.sensors
            .iter()
            .position(|spec| spec.sensor == sensor)
            .map(|at| at as u32)
    }
}

/// A layout, or none, and that with a sensor more.
#[derive(Clone, Copy, Debug)]
struct Step {
    from: u16,
    with: SensorSpec,
    to: u16,
}

/// A row of a sensor that its device's layout does not have.
#[derive(Clone, Copy, Debug)]
struct Loose {
    row: u32,
    kind: SensorType,
}

/// The index.
#[derive(Debug)]
pub struct DeviceIndex {
    table: Table,
    slots: Vec<Slot>,
    layouts: Vec<Layout>,
    steps: Vec<Step>,
    loose: BTreeMap<(u32, u16), Loose>,
    undelivered: VecDeque<RowFill>,
    next_row: u32,
    rows_max: u32,
    refused: u64,
    /// Device of the last reading: those of one device come together, and neighbours tick together.
    last: u32,
}

impl DeviceIndex {
    /// An empty index over `rows_max` rows.
    #[must_use]
    pub fn new(rows_max: u32) -> Self {
        Self {
            table: Table::default(),
            slots: Vec::new(),
            layouts: Vec::new(),
            steps: Vec::new(),
            loose: BTreeMap::new(),
            undelivered: VecDeque::new(),
            next_row: 0,
            rows_max,
            refused: 0,
            last: 0,
        }
    }

    /// Devices known.
    #[must_use]
    pub fn devices(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The device in place `next` and its relay's sensor, over and over in order of registration;
    /// `None` while there is none.
    pub(crate) fn relay_of(&self, next: &mut u32) -> Option<(Uuid, u16)> {
        let at = *next as usize % self.slots.len().max(1);
        let slot = self.slots.get(at)?;
        *next = at as u32 + 1;
        let layout = self.layouts.get(usize::from(slot.layout));
        let relay = layout.map_or(RELAY_SENSOR, |layout| layout.relay);
        Some((slot.device, relay))
    }

    /// The sensor of a device's relay; `None` if there is no such device.
    pub(crate) fn relay(&self, device: Uuid) -> Option<u16> {
        let mut at = self.find(device)?;
        self.relay_of(&mut at).map(|(_, relay)| relay)
    }

    /// Rows given out.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.next_row
    }

    /// Announced devices, and readings, that found no row left.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Fills that still have to reach the scan, oldest first; they wait here so that a killed
    /// `route` cannot lose them.
    pub fn undelivered(&mut self) -> &mut VecDeque<RowFill> {
        &mut self.undelivered
    }

    /// Gives rows to each device of an announcement; announcing a device again changes nothing.
    pub fn register(&mut self, registration: &Registration) {
        let sensors = registration.sensors.clone();
        let layout = self.layout(sensors.clone());
        registration
            .devices
            .for_each(|device, _name| match self.find(device) {
                Some(asset) if self.has(asset, layout) => {}
                Some(asset) => self.complete(asset, &sensors),
                None => self.announce(device, layout, &sensors),
            });
    }

    /// Whether a device has a layout already: that of an announcement before, or of readings that
    /// overtook it.
    fn has(&self, asset: u32, layout: u16) -> bool {
        layout != NO_LAYOUT && self.slots[asset as usize].layout == layout
    }

    fn announce(&mut self, device: Uuid, layout: u16, sensors: &Arc<[SensorSpec]>) {
        let count = sensors.len() as u32;
        if layout == NO_LAYOUT {
            let asset = self.insert(device, 0, NO_LAYOUT);
            self.complete(asset, sensors);
            return;
        }
        if self.rows_max - self.next_row < count {
            self.refused += 1;
            return;
        }
        let first_row = self.next_row;
        self.next_row += count;
        let asset = self.insert(device, first_row, layout);
        let fills = fills_of(
            asset,
            self.slots[asset as usize],
            &self.layouts[layout as usize],
        );
        self.undelivered.extend(fills);
    }

    /// Rows for those of `sensors` that a known device does not have yet.
    fn complete(&mut self, asset: u32, sensors: &[SensorSpec]) {
        for spec in sensors {
            self.row_of(asset, spec.sensor, spec.kind);
        }
    }

    /// Table row of a reading's sensor; a sensor seen for the first time is given one.
    pub fn resolve(&mut self, reading: &Reading) -> u32 {
        self.row(reading.device, reading.sensor, reading.kind)
    }

    /// The rows of readings, device by device: those of one device come together.
    pub(crate) fn resolve_all(&mut self, readings: &[Reading], rows: &mut Vec<RowReading>) {
        for same in readings.chunk_by(|a, b| a.device == b.device) {
            let Some(asset) = self.asset(same[0].device) else {
                self.refused += same.len() as u64;
                rows.extend(same.iter().map(|reading| resolved(reading, NO_ROW)));
                continue;
            };
            match self.dense(asset) {
                // all of them are announced, as nearly always
                Some((first, count)) if same.iter().all(|reading| reading.sensor < count) => {
                    let row = |reading: &Reading| first + u32::from(reading.sensor);
                    rows.extend(same.iter().map(|reading| resolved(reading, row(reading))));
                }
                _ => rows.extend(same.iter().map(|reading| {
                    resolved(reading, self.row_of(asset, reading.sensor, reading.kind))
                })),
            }
        }
    }

    /// The first row and the number of sensors, where ids are 0, 1, 2, ...
    fn dense(&self, asset: u32) -> Option<(u32, u16)> {
        let slot = self.slots[asset as usize];
        let layout = self.layouts.get(usize::from(slot.layout))?;
        let count = u16::try_from(layout.sensors.len()).ok()?;
        layout.dense.then_some((slot.first_row, count))
    }

    /// Number of a device; one seen for the first time is given one, while there are rows left.
    pub fn asset(&mut self, device: Uuid) -> Option<u32> {
        let known = self.after_last(device).or_else(|| self.find(device));
        let asset = match known {
            Some(asset) => asset,
            None if self.next_row >= self.rows_max => return None,
            None => self.insert(device, 0, NO_LAYOUT),
        };
        self.last = asset;
        Some(asset)
    }

    /// Number of a device that is the last one again, or was announced right after it: most are,
    /// and a look-up in the table misses the caches.
    fn after_last(&self, device: Uuid) -> Option<u32> {
        let mut likely = self.last..=self.last.saturating_add(1);
        likely.find(|asset| {
            let slot = self.slots.get(*asset as usize);
            slot.is_some_and(|slot| slot.device == device)
        })
    }

    /// Table row of a device's sensor; both are made known where needed.
    pub fn row(&mut self, device: Uuid, sensor: u16, kind: SensorType) -> u32 {
        match self.asset(device) {
            Some(asset) => self.row_of(asset, sensor, kind),
            None => {
                self.refused += 1;
                NO_ROW
            }
        }
    }

    /// Brings back a device of an earlier life with the sensors that it announced then; returns its
    /// number.
    pub fn restore(&mut self, device: Uuid, sensors: Option<&Arc<[SensorSpec]>>) -> Option<u32> {
        if let (None, Some(sensors)) = (self.find(device), sensors) {
            let layout = self.layout(Arc::clone(sensors));
            self.announce(device, layout, sensors);
        }
        self.asset(device)
    }

    /// The sensors that a device announced, if it did and shares their layout.
    #[must_use]
    pub fn layout_of(&self, device: Uuid) -> Option<Arc<[SensorSpec]>> {
        let slot = self.slots[self.find(device)? as usize];
        let layout = self.layouts.get(usize::from(slot.layout))?;
        Some(Arc::clone(&layout.sensors))
    }

    fn row_of(&mut self, asset: u32, sensor: u16, kind: SensorType) -> u32 {
        let slot = self.slots[asset as usize];
        let layout = self.layouts.get(usize::from(slot.layout));
        if let Some(at) = layout.and_then(|layout| layout.position(sensor)) {
            return slot.first_row + at;
        }
        if let Some(loose) = self.loose.get(&(asset, sensor)) {
            return loose.row;
        }
        if self.next_row >= self.rows_max || self.sensors_of(asset, slot) >= SENSORS_MAX {
            self.refused += 1;
            return NO_ROW;
        }
        let relay = layout.map_or(RELAY_SENSOR, |layout| layout.relay);
        let spec = SensorSpec { sensor, kind };
        if let Some(longer) = self.longer(asset, slot, spec) {
            return self.lengthen(asset, longer, spec);
        }
        let loose = Loose {
            row: self.next_row,
            kind,
        };
        self.next_row += 1;
        self.loose.insert((asset, sensor), loose);
        self.undelivered
            .push_back(loose_fill(asset, slot.device, sensor, loose, relay));
        loose.row
    }

    /// Sensors of a device that have rows.
    fn sensors_of(&self, asset: u32, slot: Slot) -> usize {
        let layout = self.layouts.get(usize::from(slot.layout));
        let loose = self.loose.range((asset, 0)..=(asset, u16::MAX));
        layout.map_or(0, |layout| layout.sensors.len()) + loose.count()
    }

    /// The layout of a device with a sensor more, if the next row lies behind its own.
    fn longer(&mut self, asset: u32, slot: Slot, spec: SensorSpec) -> Option<u16> {
        // what was told of its rows names this relay
        if spec.kind == SensorType::Relay && spec.sensor != RELAY_SENSOR {
            return None;
        }
        let follows = match self.layouts.get(usize::from(slot.layout)) {
            Some(layout) => {
                let end = slot.first_row + layout.sensors.len() as u32;
                end == self.next_row && layout.relay == RELAY_SENSOR
            }
            None => {
                let mut loose = self.loose.range((asset, 0)..=(asset, u16::MAX));
                loose.next().is_none()
            }
        };
        follows.then(|| self.step(slot.layout, spec)).flatten()
    }

    /// The layout with a sensor more, while there is room for such.
    fn step(&mut self, from: u16, with: SensorSpec) -> Option<u16> {
        let mut steps = self.steps.iter();
        let known = steps.find(|step| step.from == from && step.with == with);
        if let Some(step) = known {
            return Some(step.to);
        }
        if self.steps.len() >= STEPS_MAX {
            return None;
        }
        let before = self.layouts.get(usize::from(from));
        let before = before.map_or(&[][..], |layout| &layout.sensors);
        let sensors = before.iter().copied().chain([with]).collect();
        let to = self.layout(sensors);
        if to == NO_LAYOUT {
            return None;
        }
        self.steps.push(Step { from, with, to });
        Some(to)
    }

    /// Gives a device the next row for a sensor with which its layout is this one.
    fn lengthen(&mut self, asset: u32, layout: u16, spec: SensorSpec) -> u32 {
        let row = self.next_row;
        self.next_row += 1;
        let slot = &mut self.slots[asset as usize];
        if slot.layout == NO_LAYOUT {
            slot.first_row = row;
        }
        slot.layout = layout;
        let loose = Loose {
            row,
            kind: spec.kind,
        };
        let fill = loose_fill(asset, slot.device, spec.sensor, loose, RELAY_SENSOR);
        self.undelivered.push_back(fill);
        row
    }

    /// Rows of a device, in the order of their sensor ids' layout, loose ones last.
    #[must_use]
    pub fn rows_of(&self, device: Uuid) -> Vec<u32> {
        let Some(asset) = self.find(device) else {
            return Vec::new();
        };
        let slot = self.slots[asset as usize];
        let count = self
            .layouts
            .get(usize::from(slot.layout))
            .map_or(0, |layout| layout.sensors.len());
        let own = slot.first_row..slot.first_row + count as u32;
        let loose = self
            .loose
            .range((asset, 0)..=(asset, u16::MAX))
            .map(|(_, loose)| loose.row);
        own.chain(loose).collect()
    }

    /// Every row given out so far, for a world that is rebuilt.
    pub fn for_each_fill(&self, mut fill: impl FnMut(RowFill)) {
        for (asset, slot) in self.slots.iter().enumerate() {
            if let Some(layout) = self.layouts.get(usize::from(slot.layout)) {
                fills_of(asset as u32, *slot, layout).for_each(&mut fill);
            }
        }
        for ((asset, sensor), loose) in &self.loose {
            let slot = self.slots[*asset as usize];
            let layout = self.layouts.get(usize::from(slot.layout));
            let relay = layout.map_or(RELAY_SENSOR, |layout| layout.relay);
            fill(loose_fill(*asset, slot.device, *sensor, *loose, relay));
        }
    }

    fn layout(&mut self, sensors: Arc<[SensorSpec]>) -> u16 {
        if let Some(at) = self
            .layouts
            .iter()
            .position(|layout| layout.sensors == sensors)
        {
            return at as u16;
        }
        if sensors.is_empty() || self.layouts.len() >= LAYOUTS_MAX || repeats(&sensors) {
            return NO_LAYOUT;
        }
        self.layouts.push(Layout::new(sensors));
        self.layouts.len() as u16 - 1
    }

    fn find(&self, device: Uuid) -> Option<u32> {
        self.table
            .find(device, |asset| self.slots[asset as usize].device)
    }

    fn insert(&mut self, device: Uuid, first_row: u32, layout: u16) -> u32 {
        let asset = self.slots.len() as u32;
        self.slots.push(Slot {
            device,
            first_row,
            layout,
        });
        self.table
            .insert(device, asset, |asset| self.slots[asset as usize].device);
        asset
    }
}

fn resolved(reading: &Reading, row: u32) -> RowReading {
    RowReading {
        value: reading.value,
        at_us: reading.at_us,
        row,
        sequence: reading.sequence,
    }
}

fn repeats(sensors: &[SensorSpec]) -> bool {
    let mut ids: Vec<_> = sensors.iter().map(|spec| spec.sensor).collect();
    ids.sort_unstable();
    ids.windows(2).any(|pair| pair[0] == pair[1])
}

fn fills_of(asset: u32, slot: Slot, layout: &Layout) -> impl Iterator<Item = RowFill> + '_ {
    layout
        .sensors
        .iter()
        .zip(slot.first_row..)
        .map(move |(spec, row)| RowFill {
            device: slot.device.into_bytes(),
            row,
            asset,
            sensor: spec.sensor,
            relay: layout.relay,
            kind: spec.kind.byte(),
        })
}

fn loose_fill(asset: u32, device: Uuid, sensor: u16, loose: Loose, relay: u16) -> RowFill {
    let kind = loose.kind.byte();
    RowFill {
        device: device.into_bytes(),
        row: loose.row,
        asset,
        sensor,
        relay,
        kind,
    }
}

#[cfg(test)]
mod tests;
