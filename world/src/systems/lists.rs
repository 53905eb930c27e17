//! What one system leaves to the next: rows that were touched, values to be judged, rows put off,
//! rows on their way to files.
//!
//! Written without asking whether something belongs there: a place behind the end takes what does
//! not, and only lengths depend on it. Bound: fixed when the table grows.

use std::collections::VecDeque;

use super::READINGS_PER_CYCLE;
use crate::batch::RowReading;
use crate::components::Hot;
use crate::row_files::RowRecord;

/// Values of one cycle that are judged: those of [`READINGS_PER_CYCLE`] readings, of which an event
/// counts as two, and of the batch by which a cycle may take more.
const JUDGED_MAX: usize = READINGS_PER_CYCLE + READINGS_PER_CYCLE / 4;

/// Rows whose command found no room; of more, each value tries again.
const PUT_OFF_MAX: usize = 65_536;

/// Rows that got a value in the present cycle, each once.
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
        let mut pen = self.pen();
        pen.list(row, is_new);
        let end = pen.end();
        self.put_down(end);
    }

    /// For a loop over many rows; where it ends is to be put down.
    pub(crate) fn pen(&mut self) -> Pen<'_> {
        Pen {
            rows: &mut self.rows,
            len: self.len,
        }
    }

    /// Rows are listed up to there.
    pub(crate) fn put_down(&mut self, end: usize) {
        self.len = end;
    }

    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows[..self.len]
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

/// [`Touched`] with its length in a register: in memory, each round of a loop would wait for the
/// store of the one before.
pub(crate) struct Pen<'a> {
    rows: &'a mut [u32],
    len: usize,
}

impl Pen<'_> {
    /// Lists `row` if it `is_new`.
    #[inline(always)]
    pub(crate) fn list(&mut self, row: u32, is_new: bool) {
        // a row is listed once, so that there is always a place behind the last one
        self.rows[self.len] = row;
        self.len += usize::from(is_new);
    }

    pub(crate) fn end(self) -> usize {
        self.len
    }
}

/// A value that the automation has not judged yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    pub(crate) row: u32,
    /// It triggers its rules and leaves them as they were: a newer value, of which nothing is known
    /// but that it is no number, has the last word.
    pub(crate) passes: bool,
}

fn sample(row: u32, value: f64) -> Sample {
    Sample {
        value,
        row,
        passes: false,
    }
}

/// Types of sensors, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(pub(crate) u8);

impl Kinds {
    #[inline(always)]
    pub(crate) fn has(self, kind: u8) -> bool {
        self.0 >> kind & 1 == 1
    }
}

/// Values as they came, which come under rules.
#[derive(Debug)]
pub(crate) struct Judged {
    samples: Box<[Sample]>,
    len: usize,
    missed: u64,
    /// Whose values are judged as they came.
    pub(crate) values: Kinds,
    /// Whose rows are judged by what becomes of their values.
    pub(crate) folded: Kinds,
}

impl Judged {
    pub(crate) fn new() -> Self {
        Self {
            samples: vec![Sample::default(); JUDGED_MAX + 1].into(),
            len: 0,
            missed: 0,
            values: Kinds::default(),
            folded: Kinds::default(),
        }
    }

    /// How many more values find room, whatever their types.
    pub(crate) fn room(&self) -> usize {
        JUDGED_MAX - self.len
    }

    /// For a loop over values that all find room; where it ends is to be put down.
    pub(crate) fn pen(&mut self) -> JudgedPen<'_> {
        JudgedPen {
            samples: &mut self.samples,
            len: self.len,
            of: self.values,
        }
    }

    /// Values are listed up to there.
    pub(crate) fn put_down(&mut self, end: usize) {
        self.len = end;
    }

    /// Lists the value of a reading if its type is judged.
    pub(crate) fn list(&mut self, reading: &RowReading, kind: u8) {
        if !self.values.has(kind) {
            return;
        }
        if self.len == JUDGED_MAX {
            self.missed += 1;
            return;
        }
        self.samples[self.len] = sample(reading.row, reading.value);
        self.len += 1;
    }

    /// The same for a reading that passes.
    pub(crate) fn list_passing(&mut self, reading: &RowReading, kind: u8) {
        let before = self.len;
        self.list(reading, kind);
        for sample in &mut self.samples[before..self.len] {
            sample.passes = true;
        }
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

/// [`Judged`] with its length in a register, as [`Pen`] is.
pub(crate) struct JudgedPen<'a> {
    samples: &'a mut [Sample],
    len: usize,
    of: Kinds,
}

impl JudgedPen<'_> {
    /// Lists the value of `row` if its type is judged.
    #[inline(always)]
    pub(crate) fn list(&mut self, row: u32, kind: u8, value: f64) {
        // there is a place behind the last one for what does not belong there
        self.samples[self.len] = sample(row, value);
        self.len += usize::from(self.of.has(kind));
    }

    pub(crate) fn end(self) -> usize {
        self.len
    }
}

/// Rows whose command found no room, oldest first, each once.
#[derive(Debug)]
pub(crate) struct PutOff {
    rows: VecDeque<u32>,
}

impl PutOff {
    pub(crate) fn new() -> Self {
        Self {
            rows: VecDeque::with_capacity(PUT_OFF_MAX),
        }
    }

    /// The oldest one.
    pub(crate) fn first(&self) -> Option<u32> {
        self.rows.front().copied()
    }

    /// It is put off no longer.
    pub(crate) fn drop_first(&mut self) {
        self.rows.pop_front();
    }

    /// Lists a row, unless it is listed already; false when there is no room.
    pub(crate) fn list(&mut self, row: u32, hot: &mut Hot) -> bool {
        if !hot.put_off && self.rows.len() < PUT_OFF_MAX {
            self.rows.push_back(row);
            hot.put_off = true;
        }
        hot.put_off
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.rows.iter().copied()
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
    fn a_row_is_put_off_once_however_often_it_comes_and_goes() {
        let (mut put_off, mut hot) = (PutOff::new(), [Hot::default(); 2]);
        for _ in 0..2 * PUT_OFF_MAX {
            assert!(put_off.list(0, &mut hot[0]));
        }
        assert!(put_off.list(1, &mut hot[1]));
        assert_eq!(put_off.rows().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_only_judged_types_are_listed() {
        let mut judged = Judged::new();
        judged.values = Kinds(1 << 5);
        let reading = RowReading {
            value: 1.0,
            at_us: 0,
            row: 3,
            sequence: 0,
        };
        judged.list(&reading, 4);
        assert!(judged.samples().is_empty());
        for _ in 0..JUDGED_MAX + 2 {
            judged.list(&reading, 5);
        }
        assert_eq!(judged.samples().len(), JUDGED_MAX);
        assert_eq!((judged.clear(), judged.clear()), (2, 0));
    }
}
