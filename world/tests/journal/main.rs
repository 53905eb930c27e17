//! The journal's promises, against a disk that is cut, full, rotten, old or too new.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, in its tools too")]

mod disk;
mod restarts;

use std::collections::BTreeMap;
use std::sync::Arc;

use actorsim_actors::Time;
use actorsim_transport::{
    Batch, BatchPool, EventBatch, EventKey, EventMark, Reading, SensorType, T2Session, Tier,
    TransportStats, device_uuid,
};
use actorsim_world::index::DeviceIndex;
use actorsim_world::journal::files::{
    Directory, Files, JOURNAL_FILE, LOST_FILE, Medium, OpenError, WORLD_FILE,
};
use actorsim_world::journal::fold::RowValue;
use actorsim_world::journal::store::{AsOf, Committed, Entry, Group, Store};
use actorsim_world::rules;
use parking_lot::Mutex;
use redb::{Builder, TableDefinition};
use uuid::Uuid;

use disk::Disk;

const DEVICES: u64 = 6;

fn reading(device: u64, n: u64) -> Reading {
    Reading {
        device: device_uuid(&format!("d{device}")),
        sensor: 5,
        kind: SensorType::Presence,
        value: n as f64,
        at_us: n,
        sequence: n as u32,
    }
}

/// A store, a link's session, and what was sent over it.
struct Bench {
    store: Store,
    index: Mutex<DeviceIndex>,
    pool: Arc<BatchPool>,
    session: Arc<T2Session>,
    /// Event `n` of a device of one life.
    next: u64,
    as_of: AsOf,
}

impl Bench {
    fn on(disk: &Disk) -> Self {
        Self::at(disk)
    }

    fn at(place: &dyn Medium) -> Self {
        let mut store = Store::open(place).unwrap();
        let index = Mutex::new(DeviceIndex::new(1_000));
        store.restore_marks(&index).unwrap();
        let session = T2Session::detached(7);
        for (id, _, sequence) in store.left().unwrap().sessions {
            assert_eq!(id, 7);
            session.acknowledge(sequence);
        }
        Self {
            as_of: store.as_of(),
            store,
            index,
            pool: BatchPool::new(TransportStats::new()),
            session,
            next: 0,
        }
    }

    fn batch(&self, sequence: u64, events: &[(Reading, EventKey)]) -> Entry {
        let (readings, keys) = events.iter().copied().unzip();
        let session = Arc::clone(&self.session);
        Entry::Events(EventBatch::new(
            session,
            sequence,
            readings,
            keys,
            Time::ZERO,
            &self.pool,
        ))
    }

    fn commit(&mut self, entries: Vec<Entry>) -> Committed {
        let group = Group {
            entries,
            notes: Vec::new(),
        };
        let done = self.store.commit(&group, self.as_of, &self.index).unwrap();
        for (session, sequence) in &done.sessions {
            session.acknowledge(*sequence);
        }
        done
    }

    /// Batch `sequence` of the workload: some events of some devices.
    fn work(&mut self, sequence: u64) -> Entry {
        let events: Vec<_> = (0..1 + sequence % 7).map(|_| self.event()).collect();
        self.batch(sequence, &events)
    }

    fn event(&mut self) -> (Reading, EventKey) {
        let n = self.next;
        self.next += 1;
        let key = EventKey {
            epoch: 1,
            event: n / DEVICES,
        };
        (reading(n % DEVICES, n), key)
    }

    /// The world has applied everything, and it is in the checkpoint.
    fn checkpoint(&mut self) {
        self.as_of.applied = self.store.head();
        let files = Arc::clone(self.store.files());
        let done = files.checkpoint(self.as_of.applied, &|_| None).unwrap();
        assert_eq!((done.to, done.corrupt), (self.as_of.applied, 0));
        self.as_of.checkpoint = done.to;
    }
}

/// The marks of batches 1 to `sequence` of the workload.
fn expected(sequence: u64) -> BTreeMap<Uuid, EventMark> {
    let mut marks: BTreeMap<Uuid, EventMark> = BTreeMap::new();
    let events: u64 = (1..=sequence).map(|sequence| 1 + sequence % 7).sum();
    for n in 0..events {
        let key = EventKey {
            epoch: 1,
            event: n / DEVICES,
        };
        let device = device_uuid(&format!("d{}", n % DEVICES));
        marks.entry(device).or_default().fold(key);
    }
    marks
}

fn marks(files: &Files, upto: u64) -> BTreeMap<Uuid, EventMark> {
    let mut marks = BTreeMap::new();
    let each = |device, mark, _| assert_eq!(marks.insert(device, mark), None, "told twice");
    files.marks(upto, each).unwrap();
    marks
}

/// A small generator, so that a failing cut can be repeated.
fn draws(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    }
}

#[test]
fn a_disk_cut_anywhere_opens_and_has_lost_nothing_that_was_acknowledged() {
    const CUTS: u64 = 1_000;
    let disk = Disk::default();
    let mut bench = Bench::on(&disk);
    let made = disk.ops();
    // after so many operations this batch was acknowledged
    let mut acked = vec![(made, 0)];
    let mut sequence = 0;
    for group in 0..40 {
        let entries = (0..1 + group % 3).map(|_| {
            sequence += 1;
            bench.work(sequence)
        });
        let entries = entries.collect();
        bench.commit(entries);
        acked.push((disk.ops(), sequence));
        if group % 5 == 4 {
            bench.checkpoint();
        }
    }
    let all = disk.ops();
    for cut in 0..CUTS {
        let at = made + (cut as usize * (all - made)) / CUTS as usize;
        let (_, least) = *acked.iter().rfind(|(ops, _)| *ops <= at).unwrap();
        let left = disk.cut(at, draws(cut));
        let mut bench = Bench::on(&left);
        let found = bench.session.acked();
        assert!(
            found >= least,
            "cut {cut} at {at}: {found}, acknowledged {least}"
        );
        assert_eq!(bench.store.corrupt(), 0, "cut {cut}");
        let head = bench.store.head();
        assert_eq!(head, found, "one record for each batch");
        assert_eq!(
            marks(bench.store.files(), head),
            expected(found),
            "cut {cut}"
        );
        let again = bench.work(found);
        let done = bench.commit(vec![again]);
        assert!(done.batches.is_empty() && done.duplicates > 0 || found == 0);
    }
}

#[test]
fn a_cut_while_the_files_are_made_leaves_no_journal_that_cannot_be_opened() {
    let disk = Disk::default();
    drop(Store::open(&disk).unwrap());
    for at in 0..=disk.ops() {
        for seed in 0..8 {
            let left = disk.cut(at, draws(seed));
            let opened = Store::open(&left);
            assert!(
                opened.is_ok(),
                "cut at {at}, seed {seed}: {:?}",
                opened.err()
            );
        }
    }
}

#[test]
fn only_files_that_a_crash_left_open_count_as_repaired() {
    let disk = Disk::default();
    let repaired = |disk: &Disk| Store::open(disk).unwrap().repaired();
    assert_eq!(repaired(&disk), 0, "new");
    let mut bench = Bench::on(&disk);
    let entry = bench.work(1);
    bench.commit(vec![entry]);
    let left = disk.cut(disk.ops(), draws(1));
    assert_eq!(repaired(&left), 2, "cut off");
    assert_eq!(repaired(&left), 0, "closed since");
    drop(bench);
    assert_eq!(repaired(&disk), 0, "closed in order");
    let dir = tempfile::tempdir().unwrap();
    let medium = Directory(dir.path().join("journal"));
    let open = Store::open(&medium).unwrap();
    assert!(medium.is_left_open(JOURNAL_FILE));
    drop(open);
    assert!(!medium.is_left_open(JOURNAL_FILE));
}

#[test]
fn a_full_disk_refuses_whole_groups_and_the_same_group_is_taken_once_it_has_room() {
    let disk = Disk::default();
    let mut bench = Bench::on(&disk);
    let entry = bench.work(1);
    bench.commit(vec![entry]);
    let mut refused = 0;
    for sequence in 2..40 {
        let group = Group {
            entries: vec![bench.work(sequence)],
            notes: Vec::new(),
        };
        disk.set_room(Some((sequence as usize * 977) % 60_000));
        if bench
            .store
            .commit(&group, bench.as_of, &bench.index)
            .is_err()
        {
            refused += 1;
            assert_eq!(bench.session.acked(), sequence - 1, "nothing is told");
            disk.set_room(None);
            let (next, session) = (bench.next, Arc::clone(&bench.session));
            drop(bench);
            bench = Bench::on(&disk);
            // a link whose connection is gone and back
            session.acknowledge(bench.session.acked());
            (bench.next, bench.session) = (next, session);
        }
        disk.set_room(None);
        bench.commit(group.entries);
        let head = bench.store.head();
        assert_eq!(marks(bench.store.files(), head), expected(sequence));
    }
    assert!(
        refused > 5 && disk.refused() > 0,
        "{refused} groups were refused"
    );
}

#[test]
fn only_the_next_batch_of_a_session_and_only_new_events_are_taken() {
    let disk = Disk::default();
    let mut bench = Bench::on(&disk);
    let event = |epoch, event, n| (reading(0, n), EventKey { epoch, event });
    let first = bench.batch(1, &[event(5, 1, 1), event(5, 2, 2)]);
    let repeated = bench.batch(1, &[event(5, 1, 1), event(5, 2, 2)]);
    let early = bench.batch(3, &[event(5, 9, 9)]);
    let done = bench.commit(vec![first, repeated, early]);
    let count = done.batches.iter().map(|batch| batch.events.len()).sum();
    assert_eq!((count, done.duplicates, done.early), (2_usize, 2, 1));
    // another session that repeats an event, and one of a device's next life, whose epoch is lower
    let second = bench.batch(2, &[event(5, 2, 2), event(5, 3, 3), event(4, 0, 4)]);
    let done = bench.commit(vec![second]);
    let keys: Vec<_> = done.batches[0].keys.iter().map(|key| key.event).collect();
    assert_eq!((keys, done.duplicates), (vec![3, 0], 1));
    assert_eq!(bench.session.acked(), 2);
}

#[test]
fn streams_without_numbers_are_kept_in_order_and_never_deduplicated() {
    let mut bench = Bench::on(&Disk::default());
    let plain = |bench: &Bench| {
        let readings = vec![reading(0, 1), reading(0, 1)];
        Entry::Plain(Batch::new(Tier::T2, readings, Time::ZERO, &bench.pool))
    };
    for offset in 1..=2 {
        let entry = plain(&bench);
        let done = bench.commit(vec![entry]);
        assert_eq!(
            (done.batches[0].offset, done.batches[0].events.len()),
            (offset, 2)
        );
        assert!(done.batches[0].keys.is_empty());
    }
}

#[test]
fn records_go_behind_a_checkpoint_only_and_files_do_not_grow_without_end() {
    let disk = Disk::default();
    let mut bench = Bench::on(&disk);
    let (mut sequence, mut sizes) = (0, Vec::new());
    for round in 0..30 {
        for _ in 0..20 {
            sequence += 1;
            let entry = bench.work(sequence);
            bench.commit(vec![entry]);
        }
        let before = bench.store.record_bytes();
        assert!(before > 0, "nothing goes by itself");
        bench.checkpoint();
        bench.commit(Vec::new());
        assert_eq!(bench.store.record_bytes(), 0, "round {round}");
        let head = bench.store.head();
        assert_eq!(marks(bench.store.files(), head), expected(sequence));
        sizes.push(disk.size());
    }
    assert!(
        sizes[10..].iter().max() <= sizes[..10].iter().max(),
        "{sizes:?}"
    );
}

#[test]
fn what_a_flood_left_goes_in_small_bites_while_events_wait() {
    let mut bench = Bench::on(&Disk::default());
    let full = |sequence| {
        let events: Vec<_> = (0..1_024).map(|_| bench.event()).collect();
        bench.batch(sequence, &events)
    };
    let flood = (1..=60).map(full).collect();
    bench.commit(flood);
    bench.checkpoint();
    let (mut sequence, mut left) = (60, bench.store.record_bytes());
    while bench.store.has_covered(bench.as_of) {
        sequence += 1;
        let few = bench.work(sequence);
        let added = bench.commit(vec![few]).bytes;
        let bite = left + added - bench.store.record_bytes();
        assert!((1..600 << 10).contains(&bite), "{bite} bytes at once");
        left = bench.store.record_bytes();
    }
    assert!(sequence > 60 + 5, "{sequence}");
    assert!(left > 0, "what no checkpoint covers stays");
}

#[test]
fn the_checkpoint_keeps_the_last_event_of_a_row_though_the_clock_went_back() {
    let disk = Disk::default();
    let mut bench = Bench::on(&disk);
    let at = |n: u64, event| (reading(0, n), EventKey { epoch: 1, event });
    let entry = bench.batch(1, &[at(10, 0), at(30, 1), at(20, 2)]);
    bench.commit(vec![entry]);
    let rows = |bench: &Bench| {
        let mut rows = BTreeMap::new();
        let files = bench.store.files();
        let told = files.rows(bench.store.head(), |device, sensor, value| {
            let kept = rows.entry((device, sensor)).or_insert(value);
            if value.in_order || kept.at_us <= value.at_us {
                *kept = value;
            }
        });
        told.unwrap();
        let row: RowValue = rows[&(device_uuid("d0"), 5)];
        (row.value, row.at_us)
    };
    assert_eq!(rows(&bench), (20.0, 20));
    bench.checkpoint();
    assert_eq!(rows(&bench), (20.0, 20));
}

#[test]
fn a_rotten_file_is_an_error_or_a_count_and_never_a_wrong_record() {
    let disk = Disk::default();
    let mut bench = Bench::on(&disk);
    for sequence in 1..=20 {
        let entry = bench.work(sequence);
        bench.commit(vec![entry]);
    }
    drop(bench);
    let mut told = 0;
    for seed in 0..60 {
        let rotten = disk.cut(disk.ops(), draws(seed));
        let mut draw = draws(seed + 1);
        (0..20).for_each(|_| rotten.rot(JOURNAL_FILE, draw(usize::MAX >> 1)));
        match Store::open(&rotten) {
            Err(_) => told += 1,
            Ok(store) => {
                let found = marks(store.files(), store.head());
                let corrupt = store.corrupt() > 0;
                told += u64::from(corrupt);
                assert!(corrupt || found == expected(store.head()), "seed {seed}");
            }
        }
    }
    assert!(told > 0, "a check that never fires");
}

/// The tables of format 1 written by hand, as the page of the format says, and by nothing of ours.
#[test]
fn a_journal_of_format_1_is_read_by_every_later_version() {
    const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
    const SESSIONS: TableDefinition<'_, u64, (u64, u64, &str)> = TableDefinition::new("sessions");
    const OPEN: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("open_commands");
    const COMMANDED: TableDefinition<'_, &[u8; 18], (u64, bool)> =
        TableDefinition::new("commanded");
    const DEVICES: TableDefinition<'_, &[u8; 16], (u32, u64, u64, u64, u16)> =
        TableDefinition::new("devices");
    const ROWS: TableDefinition<'_, &[u8; 18], (u8, u64, u64)> = TableDefinition::new("rows");
    const LAYOUTS: TableDefinition<'_, u16, &[u8]> = TableDefinition::new("layouts");
    let disk = Disk::default();
    let device = device_uuid("d0").into_bytes();
    let mut row = [0; 18];
    row[..16].copy_from_slice(&device);
    row[17] = 5;
    let open = |file| Medium::open(&disk, &Builder::new(), file);
    let change = open(JOURNAL_FILE).unwrap();
    let change = change.begin_write().unwrap();
    {
        let mut meta = change.open_table(META).unwrap();
        for (name, figure) in [("format", 1), ("head", 9), ("applied", 9), ("command", 77)] {
            meta.insert(name, figure).unwrap();
        }
        change.open_table(RECORDS).unwrap();
        let mut sessions = change.open_table(SESSIONS).unwrap();
        sessions.insert(7, (4, 9, "fleet")).unwrap();
        change.open_table(OPEN).unwrap();
        let mut commanded = change.open_table(COMMANDED).unwrap();
        commanded.insert(&row, (77, true)).unwrap();
    }
    change.commit().unwrap();
    let change = open(WORLD_FILE).unwrap();
    let change = change.begin_write().unwrap();
    {
        let mut meta = change.open_table(META).unwrap();
        meta.insert("format", 1).unwrap();
        meta.insert("checkpoint", 9).unwrap();
        let mut devices = change.open_table(DEVICES).unwrap();
        devices.insert(&device, (1, 8, 9, 0xabc, 0)).unwrap();
        let mut rows = change.open_table(ROWS).unwrap();
        rows.insert(&row, (5, 2.5_f64.to_bits(), 30)).unwrap();
        let mut layouts = change.open_table(LAYOUTS).unwrap();
        layouts.insert(0, &[5, 0, 5][..]).unwrap();
    }
    change.commit().unwrap();
    let bench = Bench::on(&disk);
    assert_eq!((bench.store.head(), bench.session.acked()), (9, 4));
    let left = bench.store.left().unwrap();
    assert_eq!(
        (left.command, left.in_force),
        (
            77,
            vec![(device_uuid("d0"), 5, rules::id("absence-stops"), true)]
        )
    );
    let mark = marks(bench.store.files(), 9)[&device_uuid("d0")];
    assert_eq!((mark.last.event, mark.count, mark.digest), (8, 9, 0xabc));
    let layout = bench.index.lock().layout_of(device_uuid("d0")).unwrap();
    assert_eq!(
        (layout[0].sensor, layout[0].kind),
        (5, SensorType::Presence)
    );
    let mut value = None;
    let files = bench.store.files();
    files.rows(9, |_, _, row| value = Some(row.value)).unwrap();
    assert_eq!(value, Some(2.5));
}

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Changes a file behind the journal's back.
fn tamper(disk: &Disk, file: &'static str, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Medium::open(disk, &Builder::new(), file).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

/// A journal with something in both files.
fn filled() -> Disk {
    let disk = Disk::default();
    let mut bench = Bench::on(&disk);
    for sequence in 1..=6 {
        let entry = bench.work(sequence);
        bench.commit(vec![entry]);
        if sequence == 3 {
            bench.checkpoint();
        }
    }
    disk
}

#[test]
fn a_file_of_an_earlier_or_a_later_format_is_refused_and_left_alone() {
    let say = |disk: &Disk, file, format: u64| {
        tamper(disk, file, |change| {
            let mut meta = change.open_table(META).unwrap();
            meta.insert("format", format).unwrap();
        });
    };
    for file in [JOURNAL_FILE, WORLD_FILE] {
        let disk = filled();
        for found in [0, 2, 9, u64::MAX] {
            say(&disk, file, found);
            for _ in 0..2 {
                let refused = Store::open(&disk).unwrap_err();
                assert!(matches!(refused, OpenError::Format { found: told, .. } if told == found));
                let text = refused.to_string();
                for part in [
                    file,
                    &format!("format {found},"),
                    "knows format 1;",
                    "journal.dir",
                ] {
                    assert!(text.contains(part), "{part}: {text}");
                }
            }
        }
        say(&disk, file, 1);
        let bench = Bench::on(&disk);
        assert_eq!((bench.store.head(), bench.session.acked()), (6, 6));
        assert_eq!(
            marks(bench.store.files(), 6),
            expected(6),
            "nothing is gone"
        );
    }
}

#[test]
fn a_file_whose_format_is_damaged_is_refused_and_left_alone() {
    const OTHER: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
    let unsay = |disk: &Disk, file| {
        let mut before = None;
        tamper(disk, file, |change| {
            let mut meta = change.open_table(META).unwrap();
            before = meta.remove("format").unwrap().map(|format| format.value());
        });
        assert_eq!(before, Some(1));
    };
    let retype = |disk: &Disk, file| {
        tamper(disk, file, |change| {
            change.delete_table(META).unwrap();
            let mut meta = change.open_table(OTHER).unwrap();
            meta.insert("format", "1").unwrap();
        });
    };
    let untable = |disk: &Disk, file| {
        tamper(disk, file, |change| {
            change.delete_table(META).unwrap();
        });
    };
    for file in [JOURNAL_FILE, WORLD_FILE] {
        for damage in 0..3 {
            let disk = filled();
            match damage {
                0 => unsay(&disk, file),
                1 => retype(&disk, file),
                _ => untable(&disk, file),
            }
            for _ in 0..2 {
                let refused = Store::open(&disk).unwrap_err();
                assert!(matches!(refused, OpenError::Formatless { .. }), "{refused}");
                let text = refused.to_string();
                assert!(
                    text.contains(file) && text.contains("journal.dir"),
                    "{text}"
                );
            }
        }
        let disk = filled();
        unsay(&disk, file);
        assert!(Store::open(&disk).is_err());
        tamper(&disk, file, |change| {
            let mut meta = change.open_table(META).unwrap();
            meta.insert("format", 1).unwrap();
        });
        let bench = Bench::on(&disk);
        assert_eq!(
            marks(bench.store.files(), 6),
            expected(6),
            "nothing is gone"
        );
    }
}

#[test]
fn beside_a_journal_that_is_refused_no_checkpoint_is_made() {
    let disk = filled();
    disk.remove(WORLD_FILE).unwrap();
    tamper(&disk, JOURNAL_FILE, |change| {
        let mut meta = change.open_table(META).unwrap();
        meta.insert("format", 2).unwrap();
    });
    assert!(Store::open(&disk).is_err());
    assert!(!disk.is_made(WORLD_FILE));
}

/// Found by fuzzing.
#[test]
fn numbers_that_no_journal_has_are_rot_and_no_panic() {
    const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
    let opened = |head: u64| {
        let disk = Disk::default();
        drop(Store::open(&disk).unwrap());
        let database = Medium::open(&disk, &Builder::new(), JOURNAL_FILE);
        let database = database.unwrap();
        let change = database.begin_write().unwrap();
        let mut meta = change.open_table(META).unwrap();
        meta.insert("head", head).unwrap();
        let mut records = change.open_table(RECORDS).unwrap();
        records.insert(0_u64, &b"rot"[..]).unwrap();
        drop((meta, records));
        change.commit().unwrap();
        drop(database);
        Store::open(&disk)
    };
    assert_eq!(opened(0).unwrap().head(), 0);
    for head in [u64::MAX, u64::MAX - 1] {
        let refused = opened(head).unwrap_err();
        assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
    }
}

/// Found by fuzzing.
#[test]
fn a_file_that_was_emptied_is_no_new_journal() {
    for file in [JOURNAL_FILE, WORLD_FILE] {
        let dir = tempfile::tempdir().unwrap();
        let place = Directory(dir.path().to_owned());
        drop(Store::open(&place).unwrap());
        std::fs::write(dir.path().join(file), b"").unwrap();
        for _ in 0..2 {
            let refused = Store::open(&place).unwrap_err().to_string();
            assert!(refused.contains(file) && refused.contains("nothing in it"));
        }
        std::fs::remove_file(dir.path().join(file)).unwrap();
        assert_eq!(Store::open(&place).unwrap().head(), 0);
    }
}

#[test]
fn a_checkpoint_whose_journal_is_gone_is_gone_on_from_only_if_an_operator_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let place = Directory(dir.path().to_owned());
    let journal = dir.path().join(JOURNAL_FILE);
    drop(Store::open(&place).unwrap());
    std::fs::remove_file(&journal).unwrap();
    assert_eq!(
        Store::open(&place).unwrap().alone(),
        None,
        "it covered nothing"
    );

    let mut bench = Bench::at(&place);
    let entries = (1..=3).map(|sequence| bench.work(sequence)).collect();
    bench.commit(entries);
    bench.checkpoint();
    let known = marks(bench.store.files(), 3);
    drop(bench);
    std::fs::remove_file(&journal).unwrap();
    for _ in 0..2 {
        let refused = Store::open(&place).unwrap_err();
        assert!(
            matches!(refused, OpenError::Lost { checkpoint: 3, .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains(LOST_FILE));
        assert!(!journal.exists(), "no new one is made");
    }
    std::fs::write(dir.path().join(LOST_FILE), b"").unwrap();
    let opened = Store::open(&place).unwrap();
    assert_eq!((opened.alone(), opened.head()), (Some(3), 3));
    assert_eq!(marks(opened.files(), 3), known);
    assert!(!dir.path().join(LOST_FILE).exists(), "it was said once");
    drop(opened);
    assert_eq!(Store::open(&place).unwrap().alone(), None);
}
