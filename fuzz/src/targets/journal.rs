//! The journal's files: whole ones with changed bytes, any bytes, whole databases with any content,
//! and the bytes of one record.
//!
//! What must hold: the journal opens or says why not. If it opens, then nothing is missing of what
//! was acknowledged, or it says so: by unreadable records, or by files that it had to bring back to
//! an earlier commit, of which then everything is there. It can be written on.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, LazyLock};

use actorsim_actors::Time;
use actorsim_transport::{
    BatchPool, EventBatch, EventKey, EventMark, T2Session, TransportStats, device_uuid,
};
use actorsim_world::index::DeviceIndex;
use actorsim_world::journal::files::{JOURNAL_FILE, Medium, WORLD_FILE, says_left_open};
use actorsim_world::journal::record::{self, Record};
use actorsim_world::journal::store::{AsOf, Entry, Group, Store};
use parking_lot::Mutex;
use redb::{Builder, Database, DatabaseError, StorageBackend, TableDefinition};
use uuid::Uuid;

use super::Target;
use super::datagram::reading;
use crate::script::{Script, Steps};

pub(crate) const TARGET: Target = Target {
    name: "journal",
    about: "the journal's files and records",
    run,
    seeds,
    words: &[],
    len_max: 4_096,
    heap_max: 64 << 20,
};

/// Batches of the journal that is changed, and the one after which its checkpoint was written.
const BATCHES: u64 = 12;
const CHECKPOINT: u64 = 5;
const DEVICES: u64 = 3;

type Marks = BTreeMap<Uuid, EventMark>;

/// Files in memory.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<BTreeMap<&'static str, Vec<u8>>>>);

#[derive(Debug)]
struct DiskFile(Disk, &'static str);

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.0.lock().get(self.1).map_or(0, Vec::len) as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let files = self.0.0.lock();
        let bytes = files.get(self.1).map_or(&[][..], Vec::as_slice);
        let found = usize::try_from(offset).ok().and_then(|from| {
            let to = from.checked_add(out.len())?;
            bytes.get(from..to)
        });
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).ok().filter(|len| *len <= FILE_MAX);
        let len = len.ok_or(io::ErrorKind::StorageFull)?;
        self.0.0.lock().entry(self.1).or_default().resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let to = from.checked_add(data.len()).filter(|to| *to <= FILE_MAX);
        let to = to.ok_or(io::ErrorKind::StorageFull)?;
        let mut files = self.0.0.lock();
        let bytes = files.entry(self.1).or_default();
        if bytes.len() < to {
            bytes.resize(to, 0);
        }
        bytes[from..to].copy_from_slice(data);
        Ok(())
    }
}

/// Bytes of a file on this disk at most.
const FILE_MAX: usize = 16 << 20;

impl Medium for Disk {
    fn is_made(&self, file: &'static str) -> bool {
        self.0.lock().contains_key(file)
    }

    fn remove(&self, file: &'static str) -> io::Result<()> {
        self.0.lock().remove(file);
        Ok(())
    }

    fn rename(&self, from: &'static str, to: &'static str) -> io::Result<()> {
        let mut files = self.0.lock();
        if let Some(bytes) = files.remove(from) {
            files.insert(to, bytes);
        }
        Ok(())
    }

    fn is_left_open(&self, file: &'static str) -> bool {
        let files = self.0.lock();
        files.get(file).is_some_and(|bytes| says_left_open(bytes))
    }

    fn open(&self, builder: &Builder, file: &'static str) -> Result<Database, DatabaseError> {
        builder.create_with_backend(DiskFile(self.clone(), file))
    }
}

impl Disk {
    /// Another disk with the same files.
    fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }
}

/// A journal as a twin leaves it, and the marks of its devices after each of its batches.
struct Image {
    /// Cut off, with batches that no checkpoint covers.
    crashed: Disk,
    /// Stopped in order: the last checkpoint covers all.
    stopped: Disk,
    marks: Vec<Marks>,
}

static IMAGE: LazyLock<Image> = LazyLock::new(|| {
    let disk = Disk::default();
    let mut store = Store::open(&disk).expect("a new journal");
    let index = Mutex::new(DeviceIndex::new(1_000));
    let pool = BatchPool::new(TransportStats::new());
    let session = T2Session::detached(7);
    let mut as_of = AsOf::default();
    let mut marks: Vec<Marks> = vec![Marks::new()];
    for sequence in 1..=BATCHES {
        let mut now = marks.last().expect("the first is there").clone();
        let events = (0..DEVICES).map(|device| {
            let key = EventKey {
                epoch: 1,
                event: sequence,
            };
            let mut reading = reading(sequence as u32);
            reading.device = device_uuid(&format!("d{device}"));
            now.entry(reading.device).or_default().fold(key);
            (reading, key)
        });
        let (readings, keys) = events.unzip();
        let own = Arc::clone(&session);
        let batch = EventBatch::new(own, sequence, readings, keys, Time::ZERO, &pool);
        let group = Group {
            entries: vec![Entry::Events(batch)],
            notes: Vec::new(),
        };
        store.commit(&group, as_of, &index).expect("room in memory");
        session.acknowledge(sequence);
        marks.push(now);
        if sequence == CHECKPOINT {
            as_of.applied = sequence;
            let done = store.files().checkpoint(sequence, &|_| None);
            as_of.checkpoint = done.expect("room in memory").to;
        }
    }
    let crashed = disk.copy();
    let last = store.files().checkpoint(BATCHES, &|_| None);
    last.expect("room in memory");
    drop(store);
    Image {
        crashed,
        stopped: disk,
        marks,
    }
});

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    match script.byte() % 5 {
        0 => changed(&mut script, &IMAGE.crashed),
        4 => changed(&mut script, &IMAGE.stopped),
        1 => {
            let disk = Disk::default();
            let world = script.bytes().to_vec();
            let mut files = disk.0.lock();
            files.insert(WORLD_FILE, world);
            files.insert(JOURNAL_FILE, script.rest().to_vec());
            drop(files);
            lives(&disk);
        }
        2 => {
            let disk = hostile(&mut script);
            lives(&disk);
        }
        _ => {
            let offset = u64::from(script.byte());
            one_record(offset, script.rest());
        }
    }
}

/// Bytes of a good journal are changed.
fn changed(script: &mut Script<'_>, good: &Disk) {
    let marks = &IMAGE.marks;
    let disk = good.copy();
    let mut touched = [false; 2];
    while let Some(which) = script.step() {
        let which_file = usize::from(which & 1);
        let file = [JOURNAL_FILE, WORLD_FILE][which_file];
        touched[which_file] = true;
        let (page, within) = (script.byte(), script.number());
        let mut files = disk.0.lock();
        let bytes = files.get_mut(file).expect("both are made");
        if bytes.is_empty() {
            continue; // it was cut off before
        }
        // the first pages are the busiest
        let at = (usize::from(page) * 4_096 + usize::from(within)) % bytes.len();
        match which >> 1 & 3 {
            0 => bytes[at] ^= script.byte() | 1,
            1 => bytes.truncate(at),
            2 => {
                let new = script.bytes();
                let end = bytes.len().min(at + new.len());
                bytes[at..end].copy_from_slice(&new[..end - at]);
            }
            _ => {
                let end = bytes.len().min(at + 512);
                bytes[at..end].fill(0);
            }
        }
    }
    let Some(store) = lives(&disk) else {
        assert_ne!(touched, [false; 2], "a good journal does not open");
        return;
    };
    let head = store.head();
    let mut found = Marks::new();
    let told = store.files().marks(head, |device, mark, _| {
        assert_eq!(found.insert(device, mark), None, "a device is told twice");
    });
    if told.is_err() || store.corrupt() > 0 {
        return;
    }
    let expected = marks.get(head as usize).expect("it never had more");
    assert_eq!(
        &found, expected,
        "something is missing, and it does not say so"
    );
    // one that was stopped in order has all in each of both files
    let whole = head + 1 == marks.len() as u64 || touched == [true; 2];
    assert!(
        whole || store.repaired() > 0,
        "batches are missing, and it does not say so"
    );
}

/// Opens a journal, reads all of it, and writes on it; `None` if it says why it cannot.
fn lives(disk: &Disk) -> Option<Store> {
    let copy = disk.copy();
    let mut store = match Store::open(disk) {
        Ok(store) => store,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let index = Mutex::new(DeviceIndex::new(1_000));
    let _ = store.restore_marks(&index);
    let _ = store.left();
    let files = Arc::clone(store.files());
    let _ = files.rows(store.head(), |_, _, _| {});
    let pool = BatchPool::new(TransportStats::new());
    let head = store.head();
    let key = EventKey { epoch: 9, event: 1 };
    let session = T2Session::detached(8);
    let batch = EventBatch::new(session, 1, vec![reading(1)], vec![key], Time::ZERO, &pool);
    let group = Group {
        entries: vec![Entry::Events(batch)],
        notes: Vec::new(),
    };
    let as_of = store.as_of();
    // on a copy: what is read afterwards is what was there
    let mut other = Store::open(&copy).expect("it opens once, and not twice");
    if let Ok(done) = other.commit(&group, as_of, &index) {
        let next = done.batches.iter().all(|batch| batch.offset == head + 1);
        assert!(next, "an offset out of turn");
        drop((done, other));
        let again = Store::open(&copy);
        assert!(
            again.is_ok_and(|again| again.head() >= head),
            "what was written is gone"
        );
    }
    Some(store)
}

/// Databases that are whole, with any content.
fn hostile(script: &mut Script<'_>) -> Disk {
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
    const SESSIONS: TableDefinition<'_, u64, (u64, u64, &str)> = TableDefinition::new("sessions");
    const OPEN: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("open_commands");
    const DEVICES: TableDefinition<'_, &[u8; 16], (u32, u64, u64, u64, u16)> =
        TableDefinition::new("devices");
    const ROWS: TableDefinition<'_, &[u8; 18], (u8, u64, u64)> = TableDefinition::new("rows");
    const LAYOUTS: TableDefinition<'_, u16, &[u8]> = TableDefinition::new("layouts");
    let disk = Disk::default();
    drop(Store::open(&disk).expect("a new journal"));
    let open = |file| {
        let database = Medium::open(&disk, &Builder::new(), file).expect("it was made");
        database.begin_write().expect("nobody else writes")
    };
    let (journal, world) = (open(JOURNAL_FILE), open(WORLD_FILE));
    let big = |script: &mut Script<'_>| match script.byte() {
        255 => u64::MAX - u64::from(script.byte()),
        254 => u64::MAX / 2 + u64::from(script.byte()),
        small => small.into(),
    };
    let fill = |script: &mut Script<'_>| -> Result<(), redb::Error> {
        while let Some(step) = script.step() {
            let (first, second) = (big(script), big(script));
            let bytes = script.bytes();
            let text = String::from_utf8_lossy(bytes);
            let mut key = [0; 18];
            key[..bytes.len().min(18)].copy_from_slice(&bytes[..bytes.len().min(18)]);
            let device = key.first_chunk::<16>().expect("shorter");
            match step % 10 {
                0 => drop(journal.open_table(META)?.insert("head", first)?),
                1 => drop(journal.open_table(META)?.insert("applied", first)?),
                2 => drop(journal.open_table(META)?.insert("command", first)?),
                3 => drop(world.open_table(META)?.insert("checkpoint", first)?),
                4 => {
                    let mut whole = Vec::new();
                    record::encode(first, &[reading(second as u32)], &[], &mut whole);
                    let whole = if bytes.is_empty() { &whole[..] } else { bytes };
                    drop(journal.open_table(RECORDS)?.insert(first, whole)?);
                }
                5 => drop(
                    journal
                        .open_table(SESSIONS)?
                        .insert(first, (second, 1, &*text))?,
                ),
                6 => drop(journal.open_table(OPEN)?.insert(first, bytes)?),
                7 => {
                    let row = (second as u32, first, second, 7, first as u16);
                    drop(world.open_table(DEVICES)?.insert(device, row)?);
                }
                8 => drop(
                    world
                        .open_table(ROWS)?
                        .insert(&key, (first as u8, second, first))?,
                ),
                _ => drop(world.open_table(LAYOUTS)?.insert(first as u16, bytes)?),
            }
        }
        Ok(())
    };
    fill(script).expect("room in memory");
    journal.commit().expect("room in memory");
    world.commit().expect("room in memory");
    disk
}

fn one_record(offset: u64, bytes: &[u8]) {
    let mut found = Record::default();
    match record::decode(offset, bytes, &mut found) {
        Ok(()) => {
            let mut again = Vec::new();
            record::encode(offset, &found.readings, &found.keys, &mut again);
            // an empty record of either kind is written as the plain one
            assert!(again == bytes || found.readings.is_empty());
        }
        Err(error) => {
            assert!(found.readings.is_empty() && found.keys.is_empty());
            assert!(!error.to_string().is_empty());
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0]];
    for page in [0, 1, 2, 5, 9] {
        seeds.push(Steps::new().step(&[0, 0, page]).number(8).byte(3).done());
        seeds.push(
            Steps::new()
                .step(&[0, 5, page])
                .number(64)
                .bytes(b"redb")
                .done(),
        );
    }
    seeds.push(Steps::new().step(&[0, 3, 40]).number(0).done());
    seeds.push(
        Steps::new()
            .byte(1)
            .bytes(b"redb\x1a\x0a\xa9\x0d\x0a")
            .rest(b"redb\x1a\x0a\xa9"),
    );
    let mut hostile = Steps::new().byte(2);
    for step in 0..10 {
        hostile = hostile.step(&[step, 3, 2]).bytes(&[0, 0, 5, 1, 0, 2]);
    }
    seeds.push(hostile.done());
    for figure in [0, 1, 3] {
        let most = Steps::new().step(&[2, figure, 255, 0, 1]);
        seeds.push(most.bytes(b"").step(&[4, 0, 1]).bytes(b"").done());
    }
    let key = |event| EventKey { epoch: 1, event };
    for keys in [vec![], vec![key(1), key(2)]] {
        let mut bytes = Vec::new();
        record::encode(3, &[reading(1), reading(2)], &keys, &mut bytes);
        seeds.push(Steps::new().step(&[3, 3]).rest(&bytes));
    }
    seeds
}
