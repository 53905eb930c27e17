//! The last events of a run in fixed columns, and a rolling hash of all of them.
//!
//! `docs/testing.md` explains the columns. Bound: [`ROWS_MAX`] rows.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Rows that are kept: a screen.
const ROWS_MAX: usize = 40;

/// One thing that happened.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) at: Duration,
    /// `!` a blow, `x` down, `^` up, `#` gave up, `+` the time to heal is over.
    pub(crate) glyph: char,
    pub(crate) path: String,
    pub(crate) incarnation: u32,
    pub(crate) state: &'static str,
    pub(crate) mailbox: u32,
    pub(crate) restarts: u64,
}

/// The ring and the hash (FNV-1a).
#[derive(Debug)]
pub(crate) struct Trace {
    rows: VecDeque<Row>,
    hash: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            rows: VecDeque::new(),
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }
}

impl Trace {
    pub(crate) fn push(&mut self, row: Row) {
        let text = row.to_string();
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.rows.len() == ROWS_MAX {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            glyph,
            path,
            incarnation,
            state,
            mailbox,
            restarts,
        } = self;
        let at = at.as_secs_f64();
        write!(
            f,
            "{at:>10.3}  {glyph}  {path:<28} {incarnation:>4}  {state:<12} {mailbox:>4} \
             {restarts:>9}"
        )
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, state) = ("path", "state");
        writeln!(
            f,
            "         t     {path:<28}  inc  {state:<12} mbox  restarts"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}
