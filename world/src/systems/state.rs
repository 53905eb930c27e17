//! What the systems share: they run one after another, and none of it is anybody else's.
//!
//! Bound: that of its parts.

use super::{
    Commanded, Intake, Judged, Kinds, Outbox, PutOff, RowsOut, Sweep, Tally, Timings, Touched,
    Windows, WorldRules,
};
use crate::rules::{Field, RuleBook};

/// The parts.
#[derive(Debug)]
pub(crate) struct CycleState {
    pub(crate) intake: Intake,
    pub(crate) touched: Touched,
    pub(crate) judged: Judged,
    pub(crate) put_off: PutOff,
    pub(crate) outbox: Outbox,
    pub(crate) rows_out: RowsOut,
    pub(crate) sweep: Sweep,
    pub(crate) timings: Timings,
    pub(crate) tally: Tally,
    pub(crate) windows: Windows,
    pub(crate) book: RuleBook,
    pub(crate) rules: WorldRules,
    /// See [`WorldRules::ageing`].
    pub(crate) age_every: u64,
    pub(crate) stale_age: u16,
    pub(crate) commanded: Commanded,
}

impl CycleState {
    /// Nothing came and nothing was decided yet in a table that may have so many rows.
    pub(crate) fn new(
        rules: WorldRules,
        commanded: Commanded,
        tally: Tally,
        book: RuleBook,
        rows: u32,
    ) -> Self {
        let (age_every, stale_age) = rules.ageing();
        let mut state = Self {
            intake: Intake::new(),
            touched: Touched::default(),
            judged: Judged::new(),
            put_off: PutOff::new(),
            outbox: Outbox::new(),
            rows_out: RowsOut::default(),
            sweep: Sweep::default(),
            timings: Timings::new(),
            tally,
            windows: Windows::new(rules.windows.clone(), rows),
            book,
            rules,
            age_every,
            stale_age,
            commanded,
        };
        state.look_at_rules();
        state
    }

    /// Lists what the present rules judge from now on.
    pub(crate) fn look_at_rules(&mut self) {
        self.judged.values = Kinds(self.book.kinds(Field::Value));
        let folded = Field::FOLDED.map(|field| self.book.kinds(field));
        self.judged.folded = Kinds(folded.into_iter().fold(0, |all, kinds| all | kinds));
    }
}
