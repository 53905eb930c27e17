//! A disk in memory that remembers what was written and what was synced, and can be cut, full, slow
//! or wrong about a sync.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use actorsim_world::journal::files::{Medium, says_left_open};
use parking_lot::{Condvar, Mutex};
use redb::{Builder, Database, DatabaseError, StorageBackend};

/// Writes are torn at this many bytes: a sector.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Op {
    Write(&'static str, usize, Vec<u8>),
    Len(&'static str, usize),
    Sync(&'static str),
    /// Durable at once, as after the sync of its directory.
    Rename(&'static str, &'static str),
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<&'static str, Vec<u8>>,
    ops: Vec<Op>,
    /// Bytes that it still takes; `None` is no bound.
    room: Option<usize>,
    refused: u64,
    /// Syncs do not end.
    held: bool,
    /// Syncs that say they failed, after so many that do not.
    wrong: Option<(usize, usize)>,
}

impl State {
    /// Whether a sync, which is done all the same, says that it failed.
    fn errs(&mut self) -> bool {
        match &mut self.wrong {
            Some((0, times)) if *times > 0 => {
                *times -= 1;
                true
            }
            Some((good, _)) if *good > 0 => {
                *good -= 1;
                false
            }
            _ => false,
        }
    }
}

/// The disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>, Arc<Condvar>);

impl Disk {
    /// What was done to it so far.
    pub(crate) fn ops(&self) -> usize {
        self.0.lock().ops.len()
    }

    /// Takes only so many bytes more, or any number.
    pub(crate) fn set_room(&self, room: Option<usize>) {
        self.0.lock().room = room;
    }

    /// Holds every sync from now on, until it is let go.
    pub(crate) fn hold(&self, held: bool) {
        self.0.lock().held = held;
        self.1.notify_all();
    }

    /// After so many good syncs, so many say that they failed.
    pub(crate) fn err_syncs(&self, good: usize, times: usize) {
        self.0.lock().wrong = Some((good, times));
    }

    /// How many of these are still to come.
    pub(crate) fn errs_left(&self) -> usize {
        self.0.lock().wrong.map_or(0, |(_, times)| times)
    }

    /// How often it was full.
    pub(crate) fn refused(&self) -> u64 {
        self.0.lock().refused
    }

    /// What a power cut after `ops` operations leaves: all that was synced, and of the rest
    /// whatever `draw` says: each write whole, not at all, or up to some sector.
    pub(crate) fn cut(&self, ops: usize, mut draw: impl FnMut(usize) -> usize) -> Self {
        let state = self.0.lock();
        let mut files: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
        let mut open: BTreeMap<&'static str, Vec<&Op>> = BTreeMap::new();
        for op in &state.ops[..ops] {
            match op {
                Op::Write(file, ..) | Op::Len(file, _) => open.entry(file).or_default().push(op),
                Op::Rename(from, _) => {
                    assert!(!open.contains_key(from), "renamed before it was synced");
                    apply(&mut files, op, usize::MAX);
                }
                Op::Sync(file) => {
                    for op in open.remove(file).unwrap_or_default() {
                        apply(&mut files, op, usize::MAX);
                    }
                }
            }
        }
        for op in open.into_values().flatten() {
            match draw(3) {
                0 => {}
                1 => apply(&mut files, op, usize::MAX),
                _ => apply(&mut files, op, draw(8) * SECTOR),
            }
        }
        let state = State {
            files,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)), Arc::default())
    }

    /// Bytes of all its files.
    pub(crate) fn size(&self) -> usize {
        self.0.lock().files.values().map(Vec::len).sum()
    }

    /// Flips one bit of a file.
    pub(crate) fn rot(&self, file: &str, at: usize) {
        let mut state = self.0.lock();
        let bytes = state.files.get_mut(file).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1;
    }

    fn done(&self, op: Op) -> io::Result<()> {
        let mut state = self.0.lock();
        if matches!(op, Op::Sync(_)) {
            self.1.wait_while(&mut state, |state| state.held);
        }
        let state = &mut *state;
        if let (Some(room), Op::Write(_, _, data)) = (&mut state.room, &op) {
            if *room < data.len() {
                state.refused += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= data.len();
        }
        let errs = matches!(op, Op::Sync(_)) && state.errs();
        apply(&mut state.files, &op, usize::MAX);
        state.ops.push(op);
        if errs {
            return Err(io::Error::other("a sync that did its work"));
        }
        Ok(())
    }
}

fn apply(files: &mut BTreeMap<&'static str, Vec<u8>>, op: &Op, most: usize) {
    match op {
        Op::Write(file, at, data) => {
            let bytes = files.entry(file).or_default();
            let data = &data[..data.len().min(most)];
            if bytes.len() < at + data.len() {
                bytes.resize(at + data.len(), 0);
            }
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
        Op::Len(file, len) => files.entry(file).or_default().resize(*len, 0),
        Op::Sync(_) => {}
        Op::Rename(from, to) => {
            if let Some(bytes) = files.remove(from) {
                files.insert(to, bytes);
            }
        }
    }
}

#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    file: &'static str,
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.0.lock();
        Ok(state.files.get(self.file).map_or(0, Vec::len) as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.0.lock();
        let bytes = state.files.get(self.file).map_or(&[][..], Vec::as_slice);
        let from = offset as usize;
        let found = bytes.get(from..from + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.done(Op::Len(self.file, len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.done(Op::Sync(self.file))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let op = Op::Write(self.file, offset as usize, data.to_vec());
        self.disk.done(op)
    }
}

impl Medium for Disk {
    fn is_made(&self, file: &'static str) -> bool {
        self.0.lock().files.contains_key(file)
    }

    fn remove(&self, file: &'static str) -> io::Result<()> {
        self.0.lock().files.remove(file);
        Ok(())
    }

    fn rename(&self, from: &'static str, to: &'static str) -> io::Result<()> {
        self.done(Op::Rename(from, to))
    }

    fn is_left_open(&self, file: &'static str) -> bool {
        self.0
            .lock()
            .files
            .get(file)
            .is_some_and(|bytes| says_left_open(bytes))
    }

    fn open(&self, builder: &Builder, file: &'static str) -> Result<Database, DatabaseError> {
        builder.create_with_backend(DiskFile {
            disk: self.clone(),
            file,
        })
    }
}
