//! Row groups of Apache Parquet, each followed by a footer for all groups so far.
//!
//! A footer names its groups by their place in the file, so what lies between two groups harms
//! nobody; and a file that was cut is whole up to its last footer. Bound: [`GROUP_ROWS`] rows in a
//! group, [`GROUPS_MAX`] groups in a file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parquet::data_type::{
    BoolType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataWriter};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

use super::{RowRecord, Sink};
use crate::scan::clock::now_ns;

/// Rows of a group.
const GROUP_ROWS: usize = 65_536;

/// A group that is not full is written after this time.
const GROUP_NS: u64 = 10_000_000_000;

/// Groups of a file: each has a footer for all before it.
const GROUPS_MAX: usize = 64;

const SCHEMA: &str = "message row {
    required int64 at_us (INTEGER(64, false));
    required fixed_len_byte_array(16) device (UUID);
    required int32 sensor (INTEGER(16, false));
    required int32 type (INTEGER(8, false));
    required double value;
    required float smoothed;
    required boolean finite;
    required double window_mean;
    required double window_min;
    required double window_max;
}";

/// How a Parquet file ends, and begins.
const MAGIC: &[u8] = b"PAR1";

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error)
}

/// Groups of a file.
pub(super) struct Groups {
    writer: SerializedFileWriter<File>,
    rows: Vec<RowRecord>,
    written: i64,
    began_ns: u64,
}

impl Groups {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(failed)?);
        let properties = Arc::new(WriterProperties::builder().build());
        let writer = SerializedFileWriter::new(file, schema, properties).map_err(failed)?;
        Ok(Self {
            writer,
            rows: Vec::with_capacity(GROUP_ROWS),
            written: 0,
            began_ns: now_ns(),
        })
    }

    /// What waits becomes a group, and the file ends whole.
    fn group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        let mut at = 0;
        while let Some(mut column) = group.next_column()? {
            fill(&mut column, at, &self.rows)?;
            column.close()?;
            at += 1;
        }
        group.close()?;
        self.written += self.rows.len() as i64;
        self.rows.clear();
        let schema = Arc::new(self.writer.schema_descr().clone());
        let by = Some(concat!("actorsim ", env!("CARGO_PKG_VERSION")).to_owned());
        let file = FileMetaData::new(1, self.written, by, None, schema, None);
        let groups = self.writer.flushed_row_groups().to_vec();
        let mut footer = Vec::new();
        ParquetMetaDataWriter::new(&mut footer, &ParquetMetaData::new(file, groups)).finish()?;
        self.writer.write_all(&footer)?;
        self.writer.flush()?;
        self.began_ns = now_ns();
        Ok(())
    }
}

fn fill(
    column: &mut SerializedColumnWriter<'_>,
    at: usize,
    rows: &[RowRecord],
) -> Result<(), ParquetError> {
    macro_rules! put {
        ($type:ty, $value:expr) => {{
            let values: Vec<_> = rows.iter().map($value).collect();
            column.typed::<$type>().write_batch(&values, None, None)?
        }};
    }
    let _ = match at {
        0 => put!(Int64Type, |row| row.at_us as i64),
        1 => put!(FixedLenByteArrayType, |row| {
            FixedLenByteArray::from(row.device.to_vec())
        }),
        2 => put!(Int32Type, |row| i32::from(row.sensor)),
        3 => put!(Int32Type, |row| i32::from(row.kind)),
        4 => put!(DoubleType, |row| row.value),
        5 => put!(FloatType, |row| row.smoothed),
        6 => put!(BoolType, |row| row.value.is_finite()),
        window => put!(DoubleType, |row| row.window[(window - 7) % 3]),
    };
    Ok(())
}

impl Sink for Groups {
    fn write(&mut self, records: &[RowRecord]) -> io::Result<()> {
        for part in records.chunks(GROUP_ROWS) {
            if self.rows.len() + part.len() > GROUP_ROWS {
                self.group().map_err(failed)?;
            }
            self.rows.extend_from_slice(part);
        }
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        match now_ns() - self.began_ns >= GROUP_NS {
            true => self.end_group(),
            false => Ok(()),
        }
    }

    fn end_group(&mut self) -> io::Result<()> {
        match self.rows.is_empty() {
            true => Ok(()),
            false => self.group().map_err(failed),
        }
    }

    fn waiting(&self) -> u64 {
        self.rows.len() as u64
    }

    fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    fn is_full(&self) -> bool {
        self.writer.flushed_row_groups().len() >= GROUPS_MAX
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.end_group()?;
        self.writer.close().map_err(failed)?;
        Ok(())
    }
}

/// See [`super::whole`].
pub(super) fn whole(bytes: &[u8]) -> usize {
    let mut end = bytes.len();
    // ends: each turn looks before the end that was tried last
    while let Some(at) = bytes[..end]
        .windows(MAGIC.len())
        .rposition(|four| four == MAGIC)
    {
        let part = at + MAGIC.len();
        let part_bytes = Bytes::copy_from_slice(&bytes[..part]);
        let read = SerializedFileReader::new(part_bytes);
        if read.is_ok_and(|file| file.metadata().num_row_groups() > 0) {
            return part;
        }
        end = part - 1;
    }
    0
}
