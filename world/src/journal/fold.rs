//! The fold: what records make of devices and rows, as checkpoint and for a rebuilt world.
//!
//! The rule of a row is the world's own: a value overwrites one that is not newer. A device's mark
//! counts each of its events once, in the order of offsets. It touches no world. Bound: at most
//! [`FOLD_MAX`] changed devices, and rows, are held; then they go to the checkpoint's transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use actorsim_transport::{EventKey, EventMark, SensorSpec, SensorType};
use redb::{ReadableDatabase, ReadableTable};
use uuid::Uuid;

use super::files::{
    DEVICES, Files, LAYOUTS, META, META_CHECKPOINT, RECORDS, ROWS, checkpoint, of_row_key, row_key,
};
use super::record::{self, Record};
use crate::index::LAYOUTS_MAX;

/// Changed devices, and rows, that a checkpoint holds before it hands them to its transaction.
const FOLD_MAX: usize = 65_536;

/// Layout number of a device that announced nothing.
pub(super) const NO_LAYOUT: u16 = u16::MAX;

/// The last event of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowValue {
    /// Its type.
    pub kind: SensorType,
    /// Its value, any bit pattern.
    pub value: f64,
    /// Its stamp, microseconds since the Unix epoch.
    pub at_us: u64,
    /// Whether it follows those of its row that were told before, whatever its stamp says: events
    /// of `actorsim/1` do.
    pub in_order: bool,
}

/// What a checkpoint covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpointed {
    /// Its offset.
    pub to: u64,
    /// Records that could not be read and are missing in it.
    pub corrupt: u64,
}

/// Sensors that a device announced; `None` if it is unknown or announced none.
pub type LayoutOf<'a> = &'a dyn Fn(Uuid) -> Option<Arc<[SensorSpec]>>;

impl Files {
    /// The offset that the checkpoint covers.
    ///
    /// # Errors
    /// What the database says.
    pub fn checkpointed(&self) -> Result<u64, redb::Error> {
        checkpoint(&self.world)
    }

    /// Writes the checkpoint at `to`, which the world must have applied: all in one transaction.
    ///
    /// # Errors
    /// What the database says; the former checkpoint stands.
    pub fn checkpoint(
        &self,
        to: u64,
        layout_of: LayoutOf<'_>,
    ) -> Result<Checkpointed, redb::Error> {
        let records = self.journal.begin_read()?.open_table(RECORDS)?;
        let change = self.world.begin_write()?;
        let mut done = Checkpointed::default();
        {
            let mut meta = change.open_table(META)?;
            let from = meta.get(META_CHECKPOINT)?.map_or(0, |from| from.value());
            if from >= to {
                return Ok(Checkpointed {
                    to: from,
                    corrupt: 0,
                });
            }
            let mut fold = Fold::new(&change)?;
            let mut record = Record::default();
            let mut read = 0;
            for entry in records.range(from + 1..=to)? {
                let (offset, bytes) = entry?;
                if record::decode(offset.value(), bytes.value(), &mut record).is_err() {
                    continue;
                }
                read += 1;
                fold.take(&record)?;
                if fold.is_full() {
                    fold.flush(layout_of)?;
                }
            }
            fold.flush(layout_of)?;
            done.to = to;
            done.corrupt = (to - from) - read;
            meta.insert(META_CHECKPOINT, to)?;
        }
        change.commit()?;
        Ok(done)
    }

    /// Tells the last event of every row as of offset `upto`, which no checkpoint may be beyond:
    /// some of them several times, the newest last.
    ///
    /// # Errors
    /// What the database says.
    pub fn rows(
        &self,
        upto: u64,
        mut row: impl FnMut(Uuid, u16, RowValue),
    ) -> Result<(), redb::Error> {
        // The records first: a checkpoint that comes between covers more, and nothing is missing.
        let records = self.journal.begin_read()?.open_table(RECORDS)?;
        let world = self.world.begin_read()?;
        for entry in world.open_table(ROWS)?.iter()? {
            let (key, value) = entry?;
            let (device, sensor) = of_row_key(key.value());
            if let Some(value) = row_value(value.value()) {
                row(device, sensor, value);
            }
        }
        let meta = world.open_table(META)?;
        let from = meta.get(META_CHECKPOINT)?.map_or(0, |from| from.value());
        each_record(&records, from + 1, upto, |_, record| {
            for reading in &record.readings {
                let value = RowValue {
                    kind: reading.kind,
                    value: reading.value,
                    at_us: reading.at_us,
                    in_order: !record.keys.is_empty(),
                };
                row(reading.device, reading.sensor, value);
            }
        })?;
        Ok(())
    }

    /// Tells the mark of every device as of offset `upto`, with its announced sensors.
    ///
    /// # Errors
    /// What the database says.
    pub fn marks(
        &self,
        upto: u64,
        mut mark: impl FnMut(Uuid, EventMark, Option<Arc<[SensorSpec]>>),
    ) -> Result<(), redb::Error> {
        let records = self.journal.begin_read()?.open_table(RECORDS)?;
        let world = self.world.begin_read()?;
        let mut layouts: BTreeMap<u16, Arc<[SensorSpec]>> = BTreeMap::new();
        for entry in world.open_table(LAYOUTS)?.iter()? {
            let (id, bytes) = entry?;
            layouts.insert(id.value(), sensors_of(bytes.value()));
        }
        let meta = world.open_table(META)?;
        let from = meta.get(META_CHECKPOINT)?.map_or(0, |from| from.value());
        let mut changed: BTreeMap<Uuid, Vec<EventKey>> = BTreeMap::new();
        each_record(&records, from + 1, upto, |_, record| {
            for (reading, key) in record.readings.iter().zip(&record.keys) {
                changed.entry(reading.device).or_default().push(*key);
            }
        })?;
        for entry in world.open_table(DEVICES)?.iter()? {
            let (device, row) = entry?;
            let device = Uuid::from_bytes(*device.value());
            let (mut folded, layout) = of_device_row(row.value());
            for key in changed.remove(&device).unwrap_or_default() {
                folded.fold(key);
            }
            mark(device, folded, layouts.get(&layout).cloned());
        }
        for (device, keys) in changed {
            let mut folded = EventMark::default();
            keys.into_iter().for_each(|key| folded.fold(key));
            mark(device, folded, None);
        }
        Ok(())
    }

    /// Reads the records of `from..=upto`, those that can be read; returns how many could not.
    ///
    /// # Errors
    /// What the database says.
    pub fn records(
        &self,
        from: u64,
        upto: u64,
        record: impl FnMut(u64, &mut Record),
    ) -> Result<u64, redb::Error> {
        let records = self.journal.begin_read()?.open_table(RECORDS)?;
        each_record(&records, from, upto, record)
    }
}

fn each_record(
    records: &impl ReadableTable<u64, &'static [u8]>,
    from: u64,
    upto: u64,
    mut each: impl FnMut(u64, &mut Record),
) -> Result<u64, redb::Error> {
    if from > upto {
        return Ok(0);
    }
    let mut record = Record::default();
    let mut read = 0;
    for entry in records.range(from..=upto)? {
        let (offset, bytes) = entry?;
        if record::decode(offset.value(), bytes.value(), &mut record).is_ok() {
            read += 1;
            each(offset.value(), &mut record);
        }
    }
    Ok(upto - from + 1 - read)
}

fn row_value((kind, bits, at_us): (u8, u64, u64)) -> Option<RowValue> {
    Some(RowValue {
        kind: SensorType::try_from(kind).ok()?,
        value: f64::from_bits(bits),
        at_us,
        in_order: false,
    })
}

fn of_device_row(
    (epoch, event, count, digest, layout): (u32, u64, u64, u64, u16),
) -> (EventMark, u16) {
    let last = EventKey { epoch, event };
    let mark = EventMark {
        last,
        count,
        digest,
    };
    (mark, layout)
}

fn sensors_of(bytes: &[u8]) -> Arc<[SensorSpec]> {
    let (specs, _) = bytes.as_chunks::<3>();
    let spec = |[low, high, kind]: &[u8; 3]| {
        Some(SensorSpec {
            sensor: u16::from_le_bytes([*low, *high]),
            kind: SensorType::try_from(*kind).ok()?,
        })
    };
    specs.iter().filter_map(spec).collect()
}

fn sensor_bytes(sensors: &[SensorSpec]) -> Vec<u8> {
    let bytes = |spec: &SensorSpec| {
        let [low, high] = spec.sensor.to_le_bytes();
        [low, high, spec.kind.byte()]
    };
    sensors.iter().flat_map(bytes).collect()
}

/// Changes of one checkpoint on their way into its transaction.
struct Fold<'t> {
    device_table: redb::Table<'t, &'static [u8; 16], (u32, u64, u64, u64, u16)>,
    row_table: redb::Table<'t, &'static [u8; 18], (u8, u64, u64)>,
    layout_table: redb::Table<'t, u16, &'static [u8]>,
    layouts: BTreeMap<Vec<u8>, u16>,
    devices: BTreeMap<[u8; 16], (EventMark, u16)>,
    rows: BTreeMap<[u8; 18], RowValue>,
}

impl<'t> Fold<'t> {
    fn new(change: &'t redb::WriteTransaction) -> Result<Self, redb::Error> {
        let layout_table = change.open_table(LAYOUTS)?;
        let mut layouts = BTreeMap::new();
        for entry in layout_table.iter()? {
            let (id, bytes) = entry?;
            layouts.insert(bytes.value().to_vec(), id.value());
        }
        Ok(Self {
            device_table: change.open_table(DEVICES)?,
            row_table: change.open_table(ROWS)?,
            layout_table,
            layouts,
            devices: BTreeMap::new(),
            rows: BTreeMap::new(),
        })
    }

    fn is_full(&self) -> bool {
        self.devices.len() >= FOLD_MAX || self.rows.len() >= FOLD_MAX
    }

    fn take(&mut self, record: &Record) -> Result<(), redb::Error> {
        for reading in &record.readings {
            let key = row_key(reading.device.into_bytes(), reading.sensor);
            let value = RowValue {
                kind: reading.kind,
                value: reading.value,
                at_us: reading.at_us,
                in_order: !record.keys.is_empty(),
            };
            // As in the world: stamps decide only where there is no other order.
            let known = match self.rows.get(&key) {
                _ if value.in_order => None,
                Some(known) => Some(known.at_us),
                None => self.row_table.get(&key)?.map(|known| known.value().2),
            };
            if known.is_none_or(|at_us| at_us <= reading.at_us) {
                self.rows.insert(key, value);
            }
        }
        for (reading, key) in record.readings.iter().zip(&record.keys) {
            let device = reading.device.into_bytes();
            if let Some((mark, _)) = self.devices.get_mut(&device) {
                mark.fold(*key);
                continue;
            }
            let known = self.device_table.get(&device)?;
            let (mut mark, layout) = known.map_or((EventMark::default(), NO_LAYOUT), |known| {
                of_device_row(known.value())
            });
            mark.fold(*key);
            self.devices.insert(device, (mark, layout));
        }
        Ok(())
    }

    fn flush(&mut self, layout_of: LayoutOf<'_>) -> Result<(), redb::Error> {
        for (key, value) in std::mem::take(&mut self.rows) {
            let row = (value.kind.byte(), value.value.to_bits(), value.at_us);
            self.row_table.insert(&key, row)?;
        }
        for (device, (mark, known)) in std::mem::take(&mut self.devices) {
            let layout = match layout_of(Uuid::from_bytes(device)) {
                Some(sensors) => self.layout(&sensors)?,
                None => known,
            };
            let EventMark {
                last,
                count,
                digest,
            } = mark;
            let row = (last.epoch, last.event, count, digest, layout);
            self.device_table.insert(&device, row)?;
        }
        Ok(())
    }

    fn layout(&mut self, sensors: &[SensorSpec]) -> Result<u16, redb::Error> {
        let bytes = sensor_bytes(sensors);
        if let Some(id) = self.layouts.get(&bytes) {
            return Ok(*id);
        }
        if self.layouts.len() >= LAYOUTS_MAX {
            return Ok(NO_LAYOUT);
        }
        let id = self.layouts.len() as u16;
        self.layout_table.insert(id, bytes.as_slice())?;
        self.layouts.insert(bytes, id);
        Ok(id)
    }
}
