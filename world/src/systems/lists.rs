//! What one system leaves to the next: rows that were touched, values to be judged, rows put off,
//! rows on their way to files.
//!
//! Written without asking whether something belongs there: a place behind the end takes what does
//! not, and only lengths depend on it. Bound: fixed when the table grows.

use super::READINGS_PER_CYCLE;
use crate::batch::RowReading;
use crate::row_files::RowRecord;
use crate::rules::Field;

/// Values of one cycle that are judged, readings that come twice included.
const JUDGED_MAX: usize = READINGS_PER_CYCLE + READINGS_PER_CYCLE / 4;

/// Rows whose command found no room; more wait for their next value.
const PUT_OFF_MAX: usize = 65_536;

/// Rows that got a value and are not smoothed yet, each once.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    rows: Box<[u32]>,
    len: usize,
}

impl Touched {
    /// Makes room for each of `rows` rows.
    pub(crate) fn fit(&mut self, rows: u32) {
        let mut grown = vec![0; rows as usize + 1];
        grown[..self.len].copy_from_slice(self.rows());
        self.rows = grown.into();
    }

    /// Lists `row` if it `is_new`.
    pub(crate) fn list(&mut self, row: u32, is_new: bool) {
        self.len = self.list_at(self.len, row, is_new);
    }

    /// The same in a list whose length the caller keeps; returns the new one. Kept in a register it
    /// costs a loop nothing, kept here each round waits for the store of the one before.
    #[inline(always)]
    pub(crate) fn list_at(&mut self, len: usize, row: u32, is_new: bool) -> usize {
        // a row is listed once, so that there is always a place behind the last one
        self.rows[len] = row;
        len + usize::from(is_new)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What [`Self::list_at`] returned last.
    pub(crate) fn set_len(&mut self, len: usize) {
        self.len = len;
    }

    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows[..self.len]
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

/// A value that the automation has not judged yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    pub(crate) row: u32,
    pub(crate) field: Field,
}

/// Values that come under rules.
#[derive(Debug)]
pub(crate) struct Judged {
    samples: Box<[Sample]>,
    len: usize,
    missed: u64,
    /// Types of sensors whose values are judged, as bits.
    values: u8,
    /// The same for smoothed values.
    smoothed: u8,
}

impl Judged {
    pub(crate) fn new() -> Self {
        Self {
            samples: vec![Sample::default(); JUDGED_MAX + 1].into(),
            len: 0,
            missed: 0,
            values: 0,
            smoothed: 0,
        }
    }

    /// Judges the values, and the smoothed values, of these types of sensors.
    pub(crate) fn look_at(&mut self, values: u8, smoothed: u8) {
        (self.values, self.smoothed) = (values, smoothed);
    }

    /// Lists the value of a reading if its type is judged.
    pub(crate) fn list(&mut self, reading: &RowReading, kind: u8) {
        self.len = self.list_at(self.len, reading, kind);
    }

    /// The same in a list whose length the caller keeps, as in [`Touched::list_at`].
    #[inline(always)]
    pub(crate) fn list_at(&mut self, len: usize, reading: &RowReading, kind: u8) -> usize {
        let sample = Sample {
            value: reading.value,
            row: reading.row,
            field: Field::Value,
        };
        self.push(len, sample, self.values >> kind & 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What [`Self::list_at`] returned last.
    pub(crate) fn set_len(&mut self, len: usize) {
        self.len = len;
    }

    /// Whether any smoothed values are judged.
    pub(crate) fn looks_at_smoothed(&self) -> bool {
        self.smoothed != 0
    }

    /// Lists a smoothed value if its type is judged.
    pub(crate) fn list_smoothed(&mut self, row: u32, kind: u8, value: f32) {
        let sample = Sample {
            value: f64::from(value),
            row,
            field: Field::Smoothed,
        };
        self.len = self.push(self.len, sample, self.smoothed >> kind & 1);
    }

    #[inline(always)]
    fn push(&mut self, len: usize, sample: Sample, belongs: u8) -> usize {
        self.samples[len] = sample;
        if len < JUDGED_MAX {
            return len + usize::from(belongs);
        }
        self.missed += u64::from(belongs);
        len
    }

    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples[..self.len]
    }

    /// Forgets them; returns how many found no room.
    pub(crate) fn clear(&mut self) -> u64 {
        self.len = 0;
        std::mem::take(&mut self.missed)
    }
}

/// Rows whose command found no room.
#[derive(Debug)]
pub(crate) struct PutOff {
    pub(crate) rows: Box<[u32]>,
    len: usize,
}

impl PutOff {
    pub(crate) fn new() -> Self {
        Self {
            rows: vec![0; PUT_OFF_MAX].into(),
            len: 0,
        }
    }

    /// How many there are; the list begins anew, and may be written as far as it is read.
    pub(crate) fn take_up(&mut self) -> usize {
        std::mem::take(&mut self.len)
    }

    /// False when there is no room.
    pub(crate) fn list(&mut self, row: u32) -> bool {
        let Some(place) = self.rows.get_mut(self.len) else {
            return false;
        };
        *place = row;
        self.len += 1;
        true
    }
}

/// Rows on their way to files; without room nothing goes there.
#[derive(Debug, Default)]
pub(crate) struct RowsOut {
    rows: Vec<RowRecord>,
}

impl RowsOut {
    /// Room for this many rows in a cycle.
    pub(crate) fn with_room(rows: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.rows.capacity() > 0
    }

    /// False when there is no room in this cycle.
    pub(crate) fn take(&mut self, row: RowRecord) -> bool {
        if self.rows.len() == self.rows.capacity() {
            return false;
        }
        self.rows.push(row);
        true
    }

    pub(crate) fn rows(&mut self) -> &mut Vec<RowRecord> {
        &mut self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_listed_only_if_it_is_new_and_growing_keeps_the_list() {
        let mut touched = Touched::default();
        touched.fit(2);
        touched.list(7, true);
        touched.list(7, false);
        touched.list(8, true);
        touched.list(8, false);
        touched.fit(3);
        assert_eq!(touched.rows(), [7, 8]);
        touched.clear();
        assert!(touched.rows().is_empty());
    }

    #[test]
    fn what_finds_no_room_is_counted_and_only_judged_types_are_listed() {
        let mut judged = Judged::new();
        judged.look_at(1 << 5, 0);
        let reading = RowReading {
            value: 1.0,
            at_us: 0,
            row: 3,
            sequence: 0,
        };
        judged.list(&reading, 4);
        judged.list_smoothed(3, 5, 1.0);
        assert!(judged.samples().is_empty());
        for _ in 0..JUDGED_MAX + 2 {
            judged.list(&reading, 5);
        }
        assert_eq!(judged.samples().len(), JUDGED_MAX);
        assert_eq!((judged.clear(), judged.clear()), (2, 0));
    }
}
