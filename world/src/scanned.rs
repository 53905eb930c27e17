//! The scanned world: table, schedule and resources, stepped one cycle at a time.
//!
//! Pure in the sense of the design: batches and a time go in, commands and counts come out; it
//! owns no thread, ring or socket, so tests step it directly. Rows are pre-spawned blank; slot ==
//! table row, because nothing is ever despawned.
//!
//! Bound: `WorldSize::capacity_max` rows; growing beyond `capacity` is a maintenance cycle.

use std::fmt;

use bevy_ecs::change_detection::ContiguousMut;
use bevy_ecs::error::FallbackErrorHandler;
use bevy_ecs::prelude::*;
use uuid::Uuid;

use crate::batch::RowBatch;
use crate::components::{BlankRow, Cold, Flags, Hot, KINDS, RowFill};
use crate::huge;
use crate::journal::fold::RowValue;
use crate::request::RowView;
use crate::row_files::RowRecord;
use crate::rules::{Field, RULES_MAX, RuleBook, RuleSet, RuleTally, Slots};
use crate::systems::{
    BATCHES_PER_CYCLE, Commanded, Intake, Judged, Outbox, OwnSystems, PutOff, Rates, RelayCommand,
    RowsOut, SYSTEMS, Sweep, SystemFault, SystemId, Tally, Timings, Touched, WorldRules, record,
    schedule, take_fault,
};

/// How many rows a world has, and may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldSize {
    /// Rows spawned blank at the start.
    pub capacity: u32,
    /// Rows that growth may reach; binding a row beyond it is refused.
    pub capacity_max: u32,
}

type Columns = (&'static mut Hot, &'static mut Cold);

/// A world of rows and the schedule that scans it.
pub struct ScannedWorld {
    world: World,
    schedule: Schedule,
    query: QueryState<Columns>,
    size: WorldSize,
    rules: WorldRules,
    commanded: Commanded,
    own: OwnSystems,
    rates: Rates,
    enabled: [bool; SYSTEMS],
    fallback: bool,
    next_slot: u64,
    rows: u32,
    extent: u32,
    entities: u32,
    grown: u64,
    large_pages: Result<bool, String>,
}

impl fmt::Debug for ScannedWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScannedWorld")
            .field("rows", &self.rows)
            .field("entities", &self.entities)
            .finish_non_exhaustive()
    }
}

impl ScannedWorld {
    /// Spawns the rows and builds the schedule; `tally` goes on from the previous world. It judges
    /// by the shipped rules.
    #[must_use]
    pub fn new(size: WorldSize, rules: WorldRules, commanded: Commanded, tally: Tally) -> Self {
        let mut slots = Slots::new();
        let book = RuleBook::arm(&RuleSet::shipped(), size.capacity_max, &mut slots);
        slots.values().for_each(|slot| commanded.prepare(*slot));
        Self::with(size, rules, commanded, tally, book, OwnSystems::default())
    }

    /// The same with rules and systems of the program's.
    #[must_use]
    pub fn with(
        size: WorldSize,
        rules: WorldRules,
        commanded: Commanded,
        tally: Tally,
        book: RuleBook,
        own: OwnSystems,
    ) -> Self {
        let mut world = World::new();
        world.insert_resource(FallbackErrorHandler(record));
        world.insert_resource(Intake {
            batches: Vec::with_capacity(BATCHES_PER_CYCLE),
            now_ns: 0,
        });
        let mut judged = Judged::new();
        judged.look_at(book.kinds(Field::Value), book.kinds(Field::Smoothed));
        world.insert_resource(judged);
        world.insert_resource(Touched::default());
        world.insert_resource(PutOff::new());
        world.insert_resource(RowsOut::default());
        world.insert_resource(Outbox {
            commands: Vec::with_capacity(crate::lanes::COMMAND_LANE),
            room: 0,
        });
        world.insert_resource(commanded.clone());
        world.insert_resource(rules.clone());
        world.insert_resource(tally);
        world.insert_resource(book);
        world.insert_resource(Timings::default());
        world.insert_resource(Sweep::default());
        let mut rates = Rates::default();
        for (at, system) in own.all().iter().enumerate() {
            rates.set(SystemId::Own(at as u8), system.every);
        }
        let query = world.query();
        let mut scanned = Self {
            schedule: schedule(&own),
            world,
            query,
            size,
            rules,
            commanded,
            own,
            rates,
            enabled: [true; SYSTEMS],
            fallback: false,
            next_slot: 0,
            rows: 0,
            extent: 0,
            entities: 0,
            grown: 0,
            large_pages: Ok(false),
        };
        scanned.spawn_to(size.capacity.min(size.capacity_max).max(1));
        scanned
    }

    /// Rows that are bound to a (device, sensor).
    #[must_use]
    pub fn entities(&self) -> u32 {
        self.entities
    }

    /// Rows in the table, blank ones included.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// How often the table grew.
    #[must_use]
    pub fn grown(&self) -> u64 {
        self.grown
    }

    /// Totals.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        self.world.resource()
    }

    /// Aggregates and stale rows.
    #[must_use]
    pub fn sweep(&self) -> &Sweep {
        self.world.resource()
    }

    /// Took of each system in the last cycle; `None` where it did not run.
    #[must_use]
    pub fn took_ns(&self) -> [Option<u64>; SYSTEMS] {
        self.world.resource::<Timings>().took_ns
    }

    /// Systems that are not isolated.
    #[must_use]
    pub fn enabled(&self) -> [bool; SYSTEMS] {
        self.enabled
    }

    /// Whether the table lies on large pages, or why it does not though it could.
    pub fn large_pages(&self) -> Result<bool, &str> {
        self.large_pages.as_ref().copied().map_err(String::as_str)
    }

    /// How often systems run.
    pub fn rates(&mut self) -> &mut Rates {
        &mut self.rates
    }

    /// Lets export and diagnostics walk in every so-many-th cycle.
    pub fn walk_every(&mut self, every: u32) {
        self.rates.set(SystemId::Export, every);
    }

    /// Goes on with what was counted of rules before.
    pub fn count_on(&mut self, before: &[RuleTally; RULES_MAX]) {
        self.world.resource_mut::<RuleBook>().count_on(before);
    }

    /// Runs only what is essential from now on, or all again.
    pub fn set_fallback(&mut self, fallback: bool) {
        self.fallback = fallback;
    }

    /// The next cycle serves this slot of the grid; without it, the one after the last.
    pub fn at_slot(&mut self, slot: u64) {
        self.next_slot = slot;
    }

    /// What became of each rule.
    #[must_use]
    pub fn rule_tallies(&self) -> &[RuleTally; RULES_MAX] {
        &self.world.resource::<RuleBook>().tallies
    }

    /// Judges by other rules from now on. Rows forget rules that are not there any more, without a
    /// command; true if there were some, which is a maintenance cycle. `book` is then the former
    /// one, to be dropped elsewhere.
    pub fn exchange_rules(&mut self, book: &mut RuleBook) -> bool {
        let mut present = self.world.resource_mut::<RuleBook>();
        book.count_on(&present.tallies);
        std::mem::swap(&mut *present, book);
        let (freed, values) = (present.freed, present.kinds(Field::Value));
        let smoothed = present.kinds(Field::Smoothed);
        self.world
            .resource_mut::<Judged>()
            .look_at(values, smoothed);
        let forgets = freed != [0; KINDS];
        if forgets {
            self.forget(freed);
        }
        forgets
    }

    fn forget(&mut self, freed: [u8; KINDS]) {
        let (commanded, extent) = (self.commanded.clone(), self.extent as usize);
        let Some((mut hot, _)) = self.columns() else {
            return;
        };
        let bound = hot.bypass_change_detection().iter_mut().take(extent);
        for (row, hot) in (0_u32..).zip(bound) {
            let gone = hot.in_force & freed[usize::from(hot.flags.kind())];
            hot.in_force &= !gone;
            for slot in (0..8).filter(|slot| gone & 1 << slot != 0) {
                commanded.set(slot, row, false);
            }
        }
    }

    /// Binds rows; true when the table had to grow. A fill beyond the greatest capacity is left
    /// out: its readings are counted as unplaced.
    pub fn fill(&mut self, fills: impl IntoIterator<Item = RowFill>) -> bool {
        let mut grew = false;
        for fill in fills {
            if fill.row >= self.size.capacity_max {
                continue;
            }
            if fill.row >= self.rows {
                let wanted = (fill.row + 1).max(self.rows.saturating_add(self.rows / 4));
                self.spawn_to(wanted.min(self.size.capacity_max));
                self.grown += 1;
                grew = true;
            }
            self.bind(fill);
        }
        grew
    }

    fn bind(&mut self, fill: RowFill) {
        let in_force = self.commanded.of(fill.row);
        let Some((mut hot, mut cold)) = self.columns() else {
            return;
        };
        let row = fill.row as usize;
        let hot = &mut hot.bypass_change_detection()[row];
        if hot.flags.has(Flags::BOUND) {
            return;
        }
        hot.flags = Flags::bound(fill.kind);
        hot.in_force = in_force;
        cold.bypass_change_detection()[row] = Cold {
            device: fill.device,
            asset: fill.asset,
            sensor: fill.sensor,
            relay: fill.relay,
        };
        self.entities += 1;
        self.extent = self.extent.max(fill.row + 1);
    }

    #[allow(clippy::type_complexity, reason = "two columns of one table")]
    fn columns(&mut self) -> Option<(ContiguousMut<'_, Hot>, ContiguousMut<'_, Cold>)> {
        let columns = self.query.contiguous_iter_mut(&mut self.world);
        columns.ok()?.next()
    }

    /// Gives a bound row back an event that a journal remembers, if it has no newer value. It is no
    /// reading: nothing is counted, smoothed or commanded, and the row stays stale.
    pub fn restore(&mut self, row: u32, event: &RowValue) {
        let (value, at_us) = (event.value, event.at_us);
        let Some((mut hot, _)) = self.columns() else {
            return;
        };
        let Some(hot) = hot.bypass_change_detection().get_mut(row as usize) else {
            return;
        };
        let flags = &mut hot.flags;
        let follows = event.in_order && flags.has(Flags::FROM_EVENT);
        if flags.has(Flags::VALUED) && !follows && at_us < hot.at_us {
            return;
        }
        flags.set(Flags::VALUED | Flags::FROM_EVENT);
        flags.clear(Flags::NON_FINITE);
        if !value.is_finite() {
            flags.set(Flags::NON_FINITE);
        }
        hot.at_us = at_us;
        hot.value = value;
    }

    fn spawn_to(&mut self, rows: u32) {
        let missing = rows.saturating_sub(self.rows) as usize;
        self.world
            .spawn_batch(std::iter::repeat_n(BlankRow::new(), missing));
        self.rows = self.rows.max(rows);
        self.world.resource_mut::<Touched>().fit(self.rows);
        // the query meets its table here, so that no cycle allocates for that
        if let Some((hot, _)) = self.columns() {
            self.large_pages = huge::gather(&hot).map_err(|error| error.to_string());
        }
    }

    /// The batches of the next cycle, to be filled before it and emptied after it.
    pub fn batches(&mut self) -> &mut Vec<RowBatch> {
        &mut self.world.resource_mut::<Intake>().into_inner().batches
    }

    /// The commands of the last cycle, to be emptied after it.
    pub fn commands(&mut self) -> &mut Vec<RelayCommand> {
        &mut self.world.resource_mut::<Outbox>().into_inner().commands
    }

    /// Hands rows with news out, at most so many in a cycle.
    pub fn hand_out(&mut self, rows: usize) {
        self.world.insert_resource(RowsOut::with_room(rows));
    }

    /// The rows that the last cycle handed out, to be emptied after it.
    pub fn rows_out(&mut self) -> &mut Vec<RowRecord> {
        self.world.resource_mut::<RowsOut>().into_inner().rows()
    }

    /// Makes `system` panic in its next run.
    pub fn inject(&mut self, system: SystemId) {
        self.world.resource_mut::<Timings>().inject = Some(system);
    }

    /// Runs the schedule once. `room` is the number of commands that may be decided.
    ///
    /// A fault isolates its system: it does not run again in this world.
    pub fn cycle(&mut self, now_ns: u64, period_ns: u64, room: usize) -> Result<(), SystemFault> {
        self.world.resource_mut::<Intake>().now_ns = now_ns;
        let runs = self.runs();
        self.world.resource_mut::<Timings>().begin(runs);
        let mut outbox = self.world.resource_mut::<Outbox>();
        outbox.room = room.min(crate::lanes::COMMAND_LANE);
        let walks = [SystemId::Export, SystemId::Diagnostics].map(|system| 1 << system.index());
        let mut sweep = self.world.resource_mut::<Sweep>();
        if runs & (walks[0] | walks[1]) == 0 {
            sweep.rest();
        } else {
            let every = u64::from(self.rates.every(SystemId::Export));
            let cycles = self.rules.sweep.as_nanos() as u64 / (period_ns * every).max(1);
            let (age_every, _) = self.rules.ageing();
            sweep.advance(self.extent, cycles, age_every);
        }
        self.schedule.run(&mut self.world);
        self.world.clear_trackers();
        match take_fault() {
            None => Ok(()),
            Some(mut fault) => {
                self.enabled[fault.system.index()] = false;
                fault.name = self.own.name(fault.system);
                Err(fault)
            }
        }
    }

    /// The systems of the next cycle, as bits.
    fn runs(&mut self) -> u16 {
        let due = self.rates.due(self.next_slot);
        self.next_slot += 1;
        let essential = |at: &usize| SystemId::ALL[..].get(*at).is_some_and(|s| s.is_essential());
        let runs = |at: &usize| self.enabled[*at] && (!self.fallback || essential(at));
        (0..SYSTEMS).filter(runs).fold(0, |bits, at| bits | 1 << at) & due
    }

    /// What row `row` holds; `None` when it is not bound.
    pub fn view(&mut self, row: u32) -> Option<RowView> {
        let (hot, cold) = self.columns()?;
        let at = row as usize;
        let (hot, cold) = (hot.get(at)?, &cold[at]);
        let flags = hot.flags;
        flags.has(Flags::BOUND).then(|| RowView {
            row,
            device: Uuid::from_bytes(cold.device),
            sensor: cold.sensor,
            kind: flags.kind(),
            value: flags.has(Flags::VALUED).then_some(hot.value),
            smoothed: flags.has(Flags::FOLDED).then_some(hot.smoothed),
            at_us: hot.at_us,
            sequence: flags.has(Flags::SEQUENCED).then_some(hot.sequence),
            crossings: hot.crossings,
            stale: flags.has(Flags::STALE),
            non_finite: flags.has(Flags::NON_FINITE),
            in_force: hot.in_force,
        })
    }
}
