//! A column of a CSV file as a series, by its own time column if it has one.
//!
//! The file is read once, when the profile is loaded; quoting of CSV is not understood (a column
//! of numbers needs none). Bounds: [`REPLAY_ROWS_MAX`] rows, [`REPLAY_BYTES_MAX`].

use std::sync::Arc;

/// Rows of a replayed file: eight or sixteen bytes each, shared by all devices of a population.
pub const REPLAY_ROWS_MAX: usize = 1 << 20;

/// Bytes of a replayed file: 64 for each of its rows.
pub const REPLAY_BYTES_MAX: usize = 64 << 20;

/// What is wrong with a file to replay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// There is no such column.
    #[error("the file has no column `{0}`")]
    Column(String),
    /// A cell is no number.
    #[error("line {line}: `{text}` is not a number")]
    Number {
        /// Line in the CSV file, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// Time goes backwards.
    #[error("line {0}: time runs backwards")]
    Time(usize),
    /// There is nothing to replay.
    #[error("the file has no rows")]
    Empty,
    /// There is too much.
    #[error("the file has more than {REPLAY_ROWS_MAX} rows")]
    TooLong,
}

/// A series read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    values: Arc<[f64]>,
    /// Seconds since the first row; empty where the file has no time column.
    times_s: Arc<[f64]>,
    again: bool,
}

impl Replay {
    /// Reads a column of a CSV text with a header line. A column named `time`, `timestamp` or `t`
    /// holds seconds.
    ///
    /// # Errors
    /// [`ReplayError`], the first that is found.
    pub fn parse(text: &str, column: &str, again: bool) -> Result<Self, ReplayError> {
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty());
        let (_, header) = lines.next().ok_or(ReplayError::Empty)?;
        let names: Vec<&str> = header.split(',').map(str::trim).collect();
        let at = names
            .iter()
            .position(|name| *name == column)
            .ok_or_else(|| ReplayError::Column(column.to_owned()))?;
        let time_at = names
            .iter()
            .position(|name| matches!(*name, "time" | "timestamp" | "t"))
            .filter(|time| *time != at);
        let (mut values, mut times) = (Vec::new(), Vec::new());
        for (index, line) in lines {
            if values.len() == REPLAY_ROWS_MAX {
                return Err(ReplayError::TooLong);
            }
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            values.push(number(&cells, at, index + 1)?);
            if let Some(time_at) = time_at {
                let time = number(&cells, time_at, index + 1)?;
                if times.last().is_some_and(|last| time < *last) {
                    return Err(ReplayError::Time(index + 1));
                }
                times.push(time);
            }
        }
        let first = times.first().copied().unwrap_or(0.0);
        if values.is_empty() {
            return Err(ReplayError::Empty);
        }
        times.iter_mut().for_each(|time| *time -= first);
        Ok(Self {
            values: values.into(),
            times_s: times.into(),
            again,
        })
    }

    /// The value at a draw: row by row, or by time; the last row stays unless it loops.
    #[must_use]
    pub fn value(&self, number: u64, step_s: f64) -> f64 {
        let last = self.values.len() - 1;
        if self.times_s.is_empty() {
            let len = self.values.len() as u64;
            let at = if self.again {
                number % len
            } else {
                number.min(last as u64)
            };
            return self.values[at as usize];
        }
        let mut elapsed = number as f64 * step_s;
        let span = self.times_s[last] + step_s;
        if self.again && span > 0.0 {
            elapsed -= (elapsed / span).floor() * span;
        }
        let at = self.times_s.partition_point(|time| *time <= elapsed);
        self.values[at.saturating_sub(1).min(last)]
    }
}

fn number(cells: &[&str], at: usize, line: usize) -> Result<f64, ReplayError> {
    let text = cells.get(at).copied().unwrap_or("");
    text.parse().map_err(|_| ReplayError::Number {
        line,
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_one_another_and_loop_when_asked() {
        let once = Replay::parse("a,b\n1,10\n2,20\n", "b", false).unwrap();
        assert_eq!(
            [0, 1, 2, 9].map(|n| once.value(n, 1.0)),
            [10.0, 20.0, 20.0, 20.0]
        );
        let again = Replay::parse("a,b\n1,10\n2,20\n", "b", true).unwrap();
        assert_eq!(
            [0, 1, 2, 3].map(|n| again.value(n, 1.0)),
            [10.0, 20.0, 10.0, 20.0]
        );
    }

    #[test]
    fn a_time_column_sets_the_pace() {
        let rows = Replay::parse("time,v\n100,1\n110,2\n130,3\n", "v", false).unwrap();
        assert_eq!(
            [0, 1, 2, 5, 6, 60].map(|n| rows.value(n, 5.0)),
            [1., 1., 2., 2., 3., 3.]
        );
    }

    #[test]
    fn a_bad_file_says_where() {
        let wrong = |text, column| Replay::parse(text, column, false).unwrap_err();
        assert_eq!(wrong("a\n1\n", "b"), ReplayError::Column("b".into()));
        assert_eq!(
            wrong("a\n1\nx\n", "a"),
            ReplayError::Number {
                line: 3,
                text: "x".into()
            }
        );
        assert_eq!(wrong("t,a\n2,1\n1,1\n", "a"), ReplayError::Time(3));
        assert_eq!(wrong("a\n", "a"), ReplayError::Empty);
    }
}
