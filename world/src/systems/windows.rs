//! The last values of named sensors: rings apart from the rows, for mean, least and greatest value.
//!
//! A row is smoothed in 4 bytes; a window is 8 bytes a value, and only sensors that somebody named
//! have one. It takes the newest finite value of each cycle in which its row got one, as the
//! smoothed value does, and begins anew with the world. A row without one costs a look at the bits
//! of its type, and nothing where none is named.
//!
//! Bound: [`WINDOW_MAX`] values for a row and [`WINDOW_VALUES_MAX`] for all; rows beyond get no
//! window and are counted. The place is set aside at the start, and is memory once it is used.

use serde::Serialize;

use super::Kinds;
use crate::components::{Flags, Hot, RowFill};
use crate::windows::{WINDOW_VALUES_MAX, WindowSet};

/// What a window says of its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct WindowView {
    /// Values in it.
    pub count: u8,
    /// Values that it holds when it is full.
    pub length: u8,
    /// Their mean.
    pub mean: f64,
    /// The least of them.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// A ring among the values.
#[derive(Clone, Copy, Debug)]
struct Ring {
    from: u32,
    length: u8,
    count: u8,
    next: u8,
}

/// The windows of one world.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    named: WindowSet,
    kinds: Kinds,
    /// By row: its ring, counted from 1; 0 is none.
    rings_of: Box<[u32]>,
    rings: Vec<Ring>,
    values: Vec<f64>,
    /// Rows that found no room.
    pub(crate) refused: u64,
}

impl Windows {
    /// Windows as `named`, of a table of at most so many rows.
    pub(crate) fn new(named: WindowSet, rows: u32) -> Self {
        let Some(shortest) = named.shortest() else {
            return Self::default();
        };
        let rings = WINDOW_VALUES_MAX / usize::from(shortest);
        Self {
            kinds: Kinds(named.kinds()),
            named,
            // zeroes that the system makes when a row is used first
            rings_of: vec![0; rows as usize].into(),
            rings: Vec::with_capacity(rings.min(rows as usize)),
            values: Vec::with_capacity(WINDOW_VALUES_MAX),
            refused: 0,
        }
    }

    /// Rows with a window.
    pub(crate) fn rows(&self) -> u32 {
        self.rings.len() as u32
    }

    /// A row was bound: it gets a ring if it is named.
    pub(crate) fn bind(&mut self, fill: &RowFill) {
        if !self.kinds.has(fill.kind) {
            return;
        }
        let Some(length) = self.named.length(fill.device, fill.sensor, fill.kind) else {
            return;
        };
        let from = self.values.len();
        let fits = from + usize::from(length) <= self.values.capacity();
        let Some(ring_of) = self.rings_of.get_mut(fill.row as usize) else {
            return;
        };
        if !fits || self.rings.len() == self.rings.capacity() {
            self.refused += 1;
            return;
        }
        self.values.resize(from + usize::from(length), 0.0);
        self.rings.push(Ring {
            from: from as u32,
            length,
            count: 0,
            next: 0,
        });
        *ring_of = self.rings.len() as u32;
    }

    /// Takes the values of rows that got one.
    pub(crate) fn take(&mut self, hot: &[Hot], rows: &[u32]) {
        if self.rings.is_empty() {
            return;
        }
        for row in rows {
            let Hot { flags, value, .. } = hot[*row as usize];
            if self.kinds.has(flags.kind()) && !flags.has(Flags::NON_FINITE) {
                self.push(*row, value);
            }
        }
    }

    fn push(&mut self, row: u32, value: f64) {
        let ring = self
            .rings_of
            .get(row as usize)
            .and_then(|at| at.checked_sub(1));
        let Some(ring) = ring.and_then(|at| self.rings.get_mut(at as usize)) else {
            return;
        };
        self.values[ring.from as usize + usize::from(ring.next)] = value;
        ring.next = (ring.next + 1) % ring.length;
        ring.count = (ring.count + 1).min(ring.length);
    }

    /// What the window of a row says; `None` without one, or without a value.
    pub(crate) fn of(&self, row: u32) -> Option<WindowView> {
        let at = self.rings_of.get(row as usize)?.checked_sub(1)?;
        let ring = self.rings.get(at as usize).filter(|ring| ring.count > 0)?;
        let from = ring.from as usize;
        // until it is full, it is filled from its start
        let values = &self.values[from..from + usize::from(ring.count)];
        let mut view = WindowView {
            count: ring.count,
            length: ring.length,
            mean: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        };
        let share = 1.0 / f64::from(ring.count);
        for value in values {
            // each its share: the sum of two finite values can be infinite
            view.mean += value * share;
            view.min = view.min.min(*value);
            view.max = view.max.max(*value);
        }
        view.mean = view.mean.clamp(view.min, view.max);
        Some(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(row: u32, kind: u8) -> RowFill {
        RowFill {
            device: [1; 16],
            row,
            asset: 0,
            sensor: row as u16,
            relay: 6,
            kind,
        }
    }

    #[test]
    fn a_window_forgets_its_oldest_value_and_no_extreme_is_infinite() {
        let mut windows = Windows::new("voltage:3".parse().unwrap(), 10);
        windows.bind(&fill(4, 3));
        assert_eq!(windows.of(4), None, "no value yet");
        let seen = [1.0, 5.0, 3.0, 7.0].map(|value| {
            windows.push(4, value);
            let view = windows.of(4).unwrap();
            (view.count, view.mean, view.min, view.max)
        });
        let expected = [
            (1, 1.0, 1.0, 1.0),
            (2, 3.0, 1.0, 5.0),
            (3, 3.0, 1.0, 5.0),
            (3, 5.0, 3.0, 7.0),
        ];
        for (seen, expected) in seen.into_iter().zip(expected) {
            assert!((seen.1 - expected.1).abs() < 1e-12, "{seen:?}");
            assert_eq!(
                (seen.0, seen.2, seen.3),
                (expected.0, expected.2, expected.3)
            );
        }
        (0..3).for_each(|_| windows.push(4, f64::MAX));
        assert_eq!(windows.of(4).unwrap().mean, f64::MAX);
    }

    #[test]
    fn rows_beyond_the_bound_get_no_window_and_are_counted() {
        let rows = (WINDOW_VALUES_MAX / 64) as u32 + 3;
        let mut windows = Windows::new("voltage:64,humidity:2".parse().unwrap(), rows);
        (0..rows).for_each(|row| windows.bind(&fill(row, 3)));
        assert_eq!((windows.rows(), windows.refused), (rows - 3, 3));
        windows.push(rows - 1, 1.0);
        assert_eq!(windows.of(rows - 1), None);
        assert_eq!(windows.values.capacity(), WINDOW_VALUES_MAX, "nothing grew");
    }
}
