//! Samples as lines of text: printed to standard output, or into a file.
//!
//! What a slab writes between two steps goes to the [`Printer`] in one piece, when it is worth it
//! or has waited [`LINES_WAIT`]; a step that fails is cut back. Lines of one device are in order;
//! those of different slabs come as they come. Bound: [`PIECE_BYTES`] a slab, beside those of the
//! printer.

use std::time::Duration;

use actorsim_actors::Time;

use crate::names::Names;
use crate::payload::{Encoder, Sample};

mod printer;

pub use printer::Printer;

/// Lines are handed over at once when so many bytes wait.
const PIECE_BYTES: usize = 64 * 1024;
/// Lines wait this long for company at most, of monotonic time.
pub const LINES_WAIT: Duration = Duration::from_millis(20);

/// Where the devices of one slab print.
#[derive(Debug)]
pub(crate) struct LinesOut {
    printer: Printer,
    names: Names,
    encoder: Encoder,
    name: String,
    bytes: Vec<u8>,
    lines: u64,
    /// When the oldest waiting line was first seen by a flush.
    since: Option<Time>,
}

/// What was written before a step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinesMark {
    bytes: usize,
    lines: u64,
}

/// One sample of a device.
pub(crate) struct Line<'a> {
    pub(crate) ordinal: u32,
    pub(crate) unix_us: u64,
    pub(crate) sequence: u32,
    pub(crate) values: &'a [f64],
}

impl LinesOut {
    pub(crate) const fn new(printer: Printer, names: Names, encoder: Encoder) -> Self {
        Self {
            printer,
            names,
            encoder,
            name: String::new(),
            bytes: Vec::new(),
            lines: 0,
            since: None,
        }
    }

    /// Writes a line, with an encoder of the device's own if it has one.
    pub(crate) fn write(&mut self, line: &Line<'_>, own: Option<&Encoder>) {
        self.name.clear();
        self.names.write(line.ordinal, &mut self.name);
        let sample = Sample {
            device_id: &self.name,
            unix_us: line.unix_us,
            sequence: line.sequence,
            values: line.values,
        };
        let encoder = own.unwrap_or(&self.encoder);
        encoder.write(&sample, &mut self.bytes);
        self.bytes.push(b'\n');
        self.lines += 1;
    }

    pub(crate) fn mark(&self) -> LinesMark {
        LinesMark {
            bytes: self.bytes.len(),
            lines: self.lines,
        }
    }

    pub(crate) fn cut(&mut self, mark: LinesMark) {
        self.bytes.truncate(mark.bytes);
        self.lines = mark.lines;
    }

    /// Hands over what is worth it; says when to look again.
    pub(crate) fn flush(&mut self, now: Time) -> Option<Time> {
        if self.bytes.is_empty() {
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if self.bytes.len() < PIECE_BYTES && now < since + LINES_WAIT {
            return Some(since + LINES_WAIT);
        }
        self.since = None;
        let spare = self.printer.spare();
        let bytes = std::mem::replace(&mut self.bytes, spare);
        self.printer.print(bytes, std::mem::take(&mut self.lines));
        None
    }
}
