//! The journal's two databases: `journal.redb` (what came) and `world.redb` (the checkpoint).
//!
//! Both are `redb`: copy-on-write trees with checksummed pages, one sync for each commit, opened at
//! the last whole commit whatever was torn after it. This module names their tables and formats; it
//! decides nothing about their content. Why `redb`: decision 4. Bounds: [`JOURNAL_CACHE_BYTES`] and
//! [`WORLD_CACHE_BYTES`] of cache.

use std::fmt;
use std::io;
use std::path::PathBuf;

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, TableDefinition, TableError};
use thiserror::Error;

use super::{JOURNAL_CACHE_BYTES, WORLD_CACHE_BYTES};

/// Format of both files; files of another one are refused (no earlier one has been released).
pub const FORMAT: u64 = 1;

/// Name of the file that holds the records.
pub const JOURNAL_FILE: &str = "journal.redb";
/// Name of the file that holds the checkpoint.
pub const WORLD_FILE: &str = "world.redb";

/// Figures by name: see the constants.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Both files: the format.
pub(super) const META_FORMAT: &str = "format";
/// Journal: last offset that the world had applied at the commit.
pub(super) const META_APPLIED: &str = "applied";
/// Journal: last offset appended.
pub(super) const META_HEAD: &str = "head";
/// Journal: highest command id.
pub(super) const META_COMMAND: &str = "command";
/// World: offset that the checkpoint covers.
pub(super) const META_CHECKPOINT: &str = "checkpoint";

/// Journal: the records, by offset.
pub(super) const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
/// Journal: sessions by number: last batch, offset of its record, node.
pub(super) const SESSIONS: TableDefinition<'_, u64, (u64, u64, &str)> =
    TableDefinition::new("sessions");
/// Journal: commands without an outcome, by id.
pub(super) const OPEN: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("open_commands");
/// Journal: rules by sensor (see [`row_key`]) and id: the last command, and whether it is in force.
pub(super) const IN_FORCE: TableDefinition<'_, (&[u8; 18], u64), (u64, bool)> =
    TableDefinition::new("in_force");
/// Journal: what stood in its place when there was one rule: [`ABSENCE_STOPS`], in force if true.
pub(super) const COMMANDED: TableDefinition<'_, &[u8; 18], (u64, bool)> =
    TableDefinition::new("commanded");
/// See [`COMMANDED`].
pub(super) const ABSENCE_STOPS: &str = "absence-stops";

/// World: devices by id: epoch, event, count, digest, layout.
pub(super) const DEVICES: TableDefinition<'_, &[u8; 16], (u32, u64, u64, u64, u16)> =
    TableDefinition::new("devices");
/// World: rows by device and sensor (big endian): type, value bits, stamp.
pub(super) const ROWS: TableDefinition<'_, &[u8; 18], (u8, u64, u64)> =
    TableDefinition::new("rows");
/// World: announced sensors of a device: id u16, type u8, one after the other.
pub(super) const LAYOUTS: TableDefinition<'_, u16, &[u8]> = TableDefinition::new("layouts");

/// Said of a file that has no format.
const EMPTIED: &str = "there is nothing in it, and there was something when it got its name; if it \
                       cannot be brought back, remove it: what it alone had is lost";

/// Name of the file by which an operator says that a journal is lost, and its checkpoint shall do:
/// what is in it does not matter, and it goes once that has been done.
pub const LOST_FILE: &str = "journal.redb.lost";

/// Suffix of a file that is being made: it gets its name when it is whole and synced.
const PART: [(&str, &str); 2] = [
    (JOURNAL_FILE, "journal.redb.part"),
    (WORLD_FILE, "world.redb.part"),
];

/// Where databases lie.
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// Opens one; one that is not there is new.
    ///
    /// # Errors
    /// What the medium says.
    fn open(&self, builder: &Builder, file: &'static str) -> Result<Database, DatabaseError>;

    /// Whether a file has its name already, or never needs to be made apart.
    fn is_made(&self, file: &'static str) -> bool;

    /// Whether what a file has is there when it is opened again.
    fn keeps(&self) -> bool {
        true
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// What the medium says.
    fn remove(&self, file: &'static str) -> io::Result<()>;

    /// Gives a file another name, durably.
    ///
    /// # Errors
    /// What the medium says.
    fn rename(&self, from: &'static str, to: &'static str) -> io::Result<()>;

    /// Whether a file is there that was not closed in order, as its [`HEADER_LEN`] bytes say.
    fn is_left_open(&self, file: &'static str) -> bool;

    /// Where, for people.
    fn place(&self, file: &'static str) -> String {
        file.to_owned()
    }
}

/// First bytes of a file that say whether it was closed in order.
pub const HEADER_LEN: usize = 10;

/// What they say: after the magic number, one flag is set as long as a database is open.
#[must_use]
pub fn says_left_open(header: &[u8]) -> bool {
    const RECOVERY_REQUIRED: u8 = 2;
    let flags = header.get(HEADER_LEN - 1);
    flags.is_some_and(|flags| flags & RECOVERY_REQUIRED != 0)
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl Medium for Directory {
    fn open(&self, builder: &Builder, file: &'static str) -> Result<Database, DatabaseError> {
        std::fs::create_dir_all(&self.0)?;
        builder.create(self.0.join(file))
    }

    fn is_made(&self, file: &'static str) -> bool {
        self.0.join(file).exists()
    }

    fn remove(&self, file: &'static str) -> io::Result<()> {
        match std::fs::remove_file(self.0.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &'static str, to: &'static str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))?;
        std::fs::File::open(&self.0)?.sync_all()
    }

    fn is_left_open(&self, file: &'static str) -> bool {
        let mut header = [0; HEADER_LEN];
        let read = std::fs::File::open(self.0.join(file))
            .and_then(|mut file| io::Read::read_exact(&mut file, &mut header));
        read.is_ok() && says_left_open(&header)
    }

    fn place(&self, file: &'static str) -> String {
        self.0.join(file).display().to_string()
    }
}

/// The process's own memory: for twins that need not outlive their process.
#[derive(Clone, Copy, Debug)]
pub struct Memory;

impl Medium for Memory {
    fn open(&self, builder: &Builder, _: &'static str) -> Result<Database, DatabaseError> {
        builder.create_with_backend(InMemoryBackend::new())
    }

    fn is_made(&self, _: &'static str) -> bool {
        true
    }

    fn keeps(&self) -> bool {
        false
    }

    fn remove(&self, _: &'static str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &'static str, _: &'static str) -> io::Result<()> {
        Ok(())
    }

    fn is_left_open(&self, _: &'static str) -> bool {
        false
    }
}

/// Why a journal cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be read or made.
    #[error("{place}: {source}")]
    Database {
        /// Which file.
        place: String,
        /// Why.
        source: Box<redb::Error>,
    },
    /// It was made by another version.
    #[error(
        "{place} has format {found}, and this version knows format {FORMAT}; use the \
         version that made it, or give the twin another journal.dir"
    )]
    Format {
        /// Which file.
        place: String,
        /// Its format.
        found: u64,
    },
    /// It does not say how it was made.
    #[error(
        "{place} does not say which format it has ({why}), and is left alone; bring it back from a \
         copy, or give the twin another journal.dir: what only this one has is lost then"
    )]
    Formatless {
        /// Which file.
        place: String,
        /// What was found in place of the format.
        why: String,
    },
    /// There is a checkpoint, and no journal beside it.
    #[error(
        "{place} is not there, and the checkpoint beside it covers batch {checkpoint}: events \
         after that, sessions and open commands are only in the journal; bring it back, or make \
         a file {} beside it to go on without them",
        LOST_FILE
    )]
    Lost {
        /// Where the journal was.
        place: String,
        /// What the checkpoint covers.
        checkpoint: u64,
    },
}

impl OpenError {
    /// Whether room is all that is missing.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Database { source, .. } if is_full(source))
    }
}

/// Whether the disk said that it is full.
pub(super) fn is_full(error: &redb::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    matches!(error, redb::Error::Io(error) if full.contains(&error.kind()))
}

/// Both databases, open.
#[derive(Debug)]
pub struct Files {
    pub(super) journal: Database,
    pub(super) world: Database,
    /// How many of them a crash left open, and are back at their last commit.
    pub(super) repaired: u32,
    /// The checkpoint whose journal is lost, as an operator said.
    pub(super) alone: Option<u64>,
}

impl Files {
    /// Opens or makes both, verifies every page, and brings them to [`FORMAT`]. A checkpoint whose
    /// journal is not there is refused, unless there is a [`LOST_FILE`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(medium: &dyn Medium) -> Result<Self, OpenError> {
        // What is there comes first: beside a file that is refused none is made.
        let journal = medium.is_made(JOURNAL_FILE);
        let alone = !journal && medium.is_made(WORLD_FILE);
        let journal = journal
            .then(|| database(medium, JOURNAL_FILE))
            .transpose()?;
        let (world, torn_world) = database(medium, WORLD_FILE)?;
        let alone = if alone { lost(medium, &world)? } else { None };
        let (journal, torn_journal) = match journal {
            Some(journal) => journal,
            None => database(medium, JOURNAL_FILE)?,
        };
        // one that is left would speak for the next loss, too
        let removed = medium.remove(LOST_FILE);
        removed.map_err(|error| fail(medium, LOST_FILE, error.into()))?;
        Ok(Self {
            journal,
            world,
            repaired: u32::from(torn_journal) + u32::from(torn_world),
            alone,
        })
    }
}

/// The checkpoint of a world whose journal is not there, if it is one, and may be gone on from.
fn lost(medium: &dyn Medium, world: &Database) -> Result<Option<u64>, OpenError> {
    let covered = checkpoint(world).map_err(|error| fail(medium, WORLD_FILE, error))?;
    if covered == 0 {
        return Ok(None);
    }
    if medium.is_made(LOST_FILE) {
        return Ok(Some(covered));
    }
    Err(OpenError::Lost {
        place: medium.place(JOURNAL_FILE),
        checkpoint: covered,
    })
}

/// The offset that a checkpoint covers.
pub(super) fn checkpoint(world: &Database) -> Result<u64, redb::Error> {
    let meta = world.begin_read()?.open_table(META)?;
    Ok(meta.get(META_CHECKPOINT)?.map_or(0, |to| to.value()))
}

fn fail(medium: &dyn Medium, file: &'static str, source: redb::Error) -> OpenError {
    OpenError::Database {
        place: medium.place(file),
        source: Box::new(source),
    }
}

fn database(medium: &dyn Medium, file: &'static str) -> Result<(Database, bool), OpenError> {
    let mut builder = Builder::new();
    builder
        .set_cache_size(match file {
            WORLD_FILE => WORLD_CACHE_BYTES,
            _ => JOURNAL_CACHE_BYTES,
        })
        .set_check_integrity_on_open(true);
    let fail = |source| fail(medium, file, source);
    make(medium, &builder, file).map_err(fail)?;
    let torn = medium.is_left_open(file);
    let opened = medium.open(&builder, file);
    let database = opened.map_err(|error| fail(error.into()))?;
    let place = || medium.place(file);
    match format(&database).map_err(fail)? {
        Told::Format(FORMAT) => {}
        Told::Format(found) => {
            return Err(OpenError::Format {
                place: place(),
                found,
            });
        }
        Told::Nothing(why) => {
            return Err(OpenError::Formatless {
                place: place(),
                why,
            });
        }
        Told::Empty if !medium.keeps() => create(&database, file).map_err(fail)?,
        // A file that got its name was whole.
        Told::Empty => return Err(fail(redb::Error::Corrupted(EMPTIED.to_owned()))),
    }
    Ok((database, torn))
}

/// Makes a file under another name: a crash leaves it whole or not at all.
fn make(medium: &dyn Medium, builder: &Builder, file: &'static str) -> Result<(), redb::Error> {
    let part = PART.iter().find(|(whole, _)| *whole == file);
    let Some((_, part)) = part.filter(|_| !medium.is_made(file)) else {
        return Ok(());
    };
    medium.remove(part)?;
    create(&medium.open(builder, part)?, file)?;
    Ok(medium.rename(part, file)?)
}

/// What a database tells of its format.
enum Told {
    Format(u64),
    /// There is something in it, but no format; in words.
    Nothing(String),
    /// There is nothing in it at all.
    Empty,
}

fn format(database: &Database) -> Result<Told, redb::Error> {
    let read = database.begin_read()?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(TableError::TableDoesNotExist(_)) if read.list_tables()?.next().is_none() => {
            return Ok(Told::Empty);
        }
        Err(error) => return Ok(Told::Nothing(error.to_string())),
    };
    Ok(match meta.get(META_FORMAT)? {
        Some(format) => Told::Format(format.value()),
        None => Told::Nothing(format!("no {META_FORMAT} in its table")),
    })
}

/// Every table and the format, in one transaction: a file has all of them or none.
fn create(database: &Database, file: &'static str) -> Result<(), redb::Error> {
    let change = database.begin_write()?;
    change.open_table(META)?.insert(META_FORMAT, FORMAT)?;
    if file == JOURNAL_FILE {
        change.open_table(RECORDS)?;
        change.open_table(SESSIONS)?;
        change.open_table(OPEN)?;
        change.open_table(IN_FORCE)?;
    } else {
        change.open_table(DEVICES)?;
        change.open_table(ROWS)?;
        change.open_table(LAYOUTS)?;
    }
    change.commit()?;
    Ok(())
}

/// Key of a (device, sensor).
pub(super) fn row_key(device: [u8; 16], sensor: u16) -> [u8; 18] {
    let mut key = [0; 18];
    key[..16].copy_from_slice(&device);
    key[16..].copy_from_slice(&sensor.to_be_bytes());
    key
}

/// What a key of [`row_key`] names.
pub(super) fn of_row_key(key: &[u8; 18]) -> (uuid::Uuid, u16) {
    let mut device = [0; 16];
    device.copy_from_slice(&key[..16]);
    let sensor = u16::from_be_bytes([key[16], key[17]]);
    (uuid::Uuid::from_bytes(device), sensor)
}
