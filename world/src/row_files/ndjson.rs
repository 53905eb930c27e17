//! A line of JSON for each record.
//!
//! A value that is not finite is `null`, and named under `non_finite`. Bound: a line is under 300
//! bytes.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use serde::Serialize;
use uuid::Uuid;

use super::{RowRecord, Sink};
use crate::components::{KIND_NAMES, KINDS};

#[derive(Serialize)]
struct Line {
    at_us: u64,
    device: Uuid,
    sensor: u16,
    r#type: &'static str,
    value: Option<f64>,
    smoothed: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_mean: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    non_finite: Option<&'static str>,
}

impl Line {
    fn of(record: &RowRecord) -> Self {
        let value = record.value;
        let non_finite = match value {
            _ if value.is_finite() => None,
            _ if value.is_nan() => Some("nan"),
            _ if value > 0.0 => Some("inf"),
            _ => Some("-inf"),
        };
        let window = record.window.map(|one| one.is_finite().then_some(one));
        let [window_mean, window_min, window_max] = window;
        Self {
            at_us: record.at_us,
            device: Uuid::from_bytes(record.device),
            sensor: record.sensor,
            r#type: KIND_NAMES[usize::from(record.kind) % KINDS],
            value: value.is_finite().then_some(value),
            smoothed: record.smoothed.is_finite().then_some(record.smoothed),
            window_mean,
            window_min,
            window_max,
            non_finite,
        }
    }
}

/// Lines of a file.
pub(super) struct Lines {
    out: BufWriter<File>,
    line: Vec<u8>,
    bytes: u64,
    /// Lines since the last flush.
    waiting: u64,
}

impl Lines {
    pub(super) fn new(file: File) -> Self {
        Self {
            out: BufWriter::new(file),
            line: Vec::new(),
            bytes: 0,
            waiting: 0,
        }
    }
}

impl Sink for Lines {
    fn write(&mut self, records: &[RowRecord]) -> io::Result<()> {
        for record in records {
            self.line.clear();
            serde_json::to_writer(&mut self.line, &Line::of(record))?;
            self.line.push(b'\n');
            self.out.write_all(&self.line)?;
            self.bytes += self.line.len() as u64;
            self.waiting += 1;
        }
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.waiting = 0;
        Ok(())
    }

    fn end_group(&mut self) -> io::Result<()> {
        self.settle()
    }

    fn waiting(&self) -> u64 {
        self.waiting
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn is_full(&self) -> bool {
        false
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.end_group()
    }
}

/// See [`super::whole`].
pub(super) fn whole(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1)
}
