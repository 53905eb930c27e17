//! The scanned world: table, schedule and resources, stepped one cycle at a time.
//!
//! Pure in the sense of the design: batches and a time go in, commands and counts come out; it
//! owns no thread, ring or socket, so tests step it directly. Rows are pre-spawned blank, a block
//! of them as one entity; slot == table row, because nothing is ever despawned.
//!
//! Bound: `WorldSize::capacity_max` rows; growing beyond `capacity` is a maintenance cycle.

use std::fmt;
use std::iter::Peekable;

use bevy_ecs::change_detection::ContiguousMut;
use bevy_ecs::prelude::*;
use uuid::Uuid;

use crate::batch::RowBatch;
use crate::blocks::{self, BLOCK, Block};
use crate::components::{Cold, DeviceId, Flags, Hot, KINDS, RowFill};
use crate::huge;
use crate::journal::fold::RowValue;
use crate::request::RowView;
use crate::row_files::RowRecord;
use crate::rules::{RULES_MAX, RuleBook, RuleSet, RuleTally, Slots};
use crate::systems::{
    Commanded, CycleState, Deciding, ESSENTIAL, Failed, OwnSystems, Rates, RelayCommand, Rows,
    RowsOut, SYSTEMS, Schedule, Sweep, SystemFault, SystemId, Tally, WorldRules,
};

/// How many rows a world has, and may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldSize {
    /// Rows spawned blank at the start.
    pub capacity: u32,
    /// Rows that growth may reach; binding a row beyond it is refused.
    pub capacity_max: u32,
}

type Columns = (&'static mut Block<Hot>, &'static mut Block<Cold>);

/// A world of rows and the schedule that scans it.
pub struct ScannedWorld {
    world: World,
    query: QueryState<Columns>,
    /// Ids of devices by [`Cold::asset`], with room for one in each row.
    devices: Vec<DeviceId>,
    schedule: Schedule,
    state: CycleState,
    size: WorldSize,
    /// How long a whole walk over the rows takes.
    sweep_ns: u64,
    commanded: Commanded,
    own: OwnSystems,
    rates: Rates,
    /// Systems that failed in this world, as bits.
    isolated: u16,
    fallback: bool,
    next_slot: u64,
    rows: u32,
    extent: u32,
    /// Rows that are bound, by type.
    entities: [u32; KINDS],
    grown: u64,
    large_pages: Result<bool, String>,
}

impl fmt::Debug for ScannedWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScannedWorld")
            .field("rows", &self.rows)
            .field("entities", &self.entities())
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
        let sweep_ns = rules.sweep.as_nanos() as u64;
        let mut rates = Rates::default();
        for (at, system) in own.all().iter().enumerate() {
            rates.set(SystemId::Own(at as u8), system.every);
        }
        let query = world.query();
        let mut scanned = Self {
            schedule: Schedule::new(&own),
            state: CycleState::new(rules, commanded.clone(), tally, book, size.capacity_max),
            world,
            query,
            devices: Vec::new(),
            size,
            sweep_ns,
            commanded,
            own,
            rates,
            isolated: 0,
            fallback: false,
            next_slot: 0,
            rows: 0,
            extent: 0,
            entities: [0; KINDS],
            grown: 0,
            large_pages: Ok(false),
        };
        scanned.spawn_to(size.capacity.min(size.capacity_max).max(1));
        scanned
    }

    /// Rows that are bound to a (device, sensor).
    #[must_use]
    pub fn entities(&self) -> u32 {
        self.entities.iter().sum()
    }

    /// The same per sensor type.
    #[must_use]
    pub fn entities_by_kind(&self) -> &[u32; KINDS] {
        &self.entities
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
        &self.state.tally
    }

    /// Rows with a window, and rows for whose window there was no room.
    #[must_use]
    pub fn windows(&self) -> (u32, u64) {
        (self.state.windows.rows(), self.state.windows.refused)
    }

    /// Aggregates and stale rows.
    #[must_use]
    pub fn sweep(&self) -> &Sweep {
        &self.state.sweep
    }

    /// Took of each system in the last cycle; `None` where it did not run, or was not timed since
    /// the cycle was short.
    #[must_use]
    pub fn took_ns(&self) -> [Option<u64>; SYSTEMS] {
        self.state.timings.took_ns
    }

    /// The systems that were to run in the last cycle, as bits.
    #[must_use]
    pub fn ran(&self) -> u16 {
        self.state.timings.runs
    }

    /// Systems that are not isolated.
    #[must_use]
    pub fn enabled(&self) -> [bool; SYSTEMS] {
        std::array::from_fn(|at| self.isolated & 1 << at == 0)
    }

    /// How many systems failed in this world.
    #[must_use]
    pub fn isolated(&self) -> u32 {
        self.isolated.count_ones()
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
        self.state.book.count_on(before);
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
        &self.state.book.tallies
    }

    /// Judges by other rules from now on. Rows forget rules that are not there any more, without a
    /// command; true if there were some, which is a maintenance cycle. `book` is then the former
    /// one, to be dropped elsewhere.
    pub fn exchange_rules(&mut self, book: &mut RuleBook) -> bool {
        let state = &mut self.state;
        book.count_on(&state.book.tallies);
        std::mem::swap(&mut state.book, book);
        state.look_at_rules();
        let freed = state.book.freed;
        let forgets = freed != [0; KINDS];
        if forgets {
            self.forget(freed);
        }
        forgets
    }

    fn forget(&mut self, freed: [u8; KINDS]) {
        let (commanded, extent) = (self.commanded.clone(), self.extent as usize);
        let Some((hot, _)) = self.columns() else {
            return;
        };
        let bound = hot.iter_mut().take(extent);
        for (row, hot) in (0_u32..).zip(bound) {
            // what is commanded and no more in force is an end that was put off
            let known = hot.in_force | commanded.of(row);
            let gone = known & freed[usize::from(hot.flags.kind())];
            hot.in_force &= !gone;
            for slot in (0..8).filter(|slot| gone & 1 << slot != 0) {
                commanded.set(slot, row, false);
            }
        }
    }

    /// Binds rows; true when the table had to grow. A fill beyond the greatest capacity is left
    /// out: its readings are counted as unplaced.
    pub fn fill(&mut self, fills: impl IntoIterator<Item = RowFill>) -> bool {
        let (before, max) = (self.grown, self.size.capacity_max);
        let fills = fills.into_iter().filter(|fill| fill.row < max);
        let mut fills = fills.peekable();
        while let Some(next) = fills.peek() {
            let (row, asset) = (next.row, next.asset as usize);
            if row >= self.rows {
                let wanted = (row + 1).max(self.rows.saturating_add(self.rows / 4));
                self.spawn_to(wanted.min(max));
                self.grown += 1;
            }
            // devices without a row have a number, too
            if asset >= self.devices.capacity() {
                self.devices.reserve(asset + 1 - self.devices.len());
                self.grown += 1;
            }
            self.bind(&mut fills);
        }
        self.grown > before
    }

    /// Binds rows as long as there are such.
    fn bind(&mut self, fills: &mut Peekable<impl Iterator<Item = RowFill>>) {
        let (rows, devices) = (self.rows, &mut self.devices);
        let Some((hot, cold)) = columns(&mut self.query, &mut self.world, rows) else {
            while fills.next().is_some() {} // a world without a table
            return;
        };
        let room = devices.capacity();
        let fits = |fill: &RowFill| fill.row < rows && (fill.asset as usize) < room;
        while let Some(fill) = fills.next_if(fits) {
            let (row, asset) = (fill.row as usize, fill.asset as usize);
            let hot = &mut hot[row];
            if hot.flags.has(Flags::BOUND) {
                continue;
            }
            hot.flags = Flags::bound(fill.kind);
            hot.in_force = self.commanded.of(fill.row);
            if asset >= devices.len() {
                devices.resize(asset + 1, DeviceId::default());
            }
            devices[asset] = fill.device;
            cold[row] = Cold {
                asset: fill.asset,
                sensor: fill.sensor,
                relay: fill.relay,
            };
            self.entities[usize::from(fill.kind) % KINDS] += 1;
            self.extent = self.extent.max(fill.row + 1);
            self.state.windows.bind(&fill);
        }
    }

    fn columns(&mut self) -> Option<(&mut [Hot], &mut [Cold])> {
        columns(&mut self.query, &mut self.world, self.rows)
    }

    /// Gives a bound row back an event that a journal remembers, if it has no newer value. It is no
    /// reading: nothing is counted, smoothed or commanded, and the row stays stale.
    pub fn restore(&mut self, row: u32, event: &RowValue) {
        let (value, at_us) = (event.value, event.at_us);
        let hot = self.columns().map(|(hot, _)| hot);
        let Some(hot) = hot.and_then(|hot| hot.get_mut(row as usize)) else {
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

    /// Whether commands are put off.
    #[must_use]
    pub fn puts_off(&self) -> bool {
        self.state.put_off.first().is_some()
    }

    /// Rows whose commands are put off, oldest first, and which rules are in force for each: what
    /// [`Commanded`] does not say to a world after this one.
    pub fn put_off(&mut self) -> Vec<(u32, u8)> {
        let listed: Vec<u32> = self.state.put_off.rows().collect();
        let Some((hot, _)) = self.columns() else {
            return Vec::new();
        };
        let in_force = |row| Some((row, hot.get(row as usize)?.in_force));
        listed.into_iter().filter_map(in_force).collect()
    }

    /// Goes on with what another world has put off, as far as its rules are there still.
    pub fn go_on_with(&mut self, put_off: &[(u32, u8)]) {
        let commanded = self.commanded.clone();
        let Self {
            world,
            query,
            state,
            rows,
            ..
        } = self;
        let Some((hot, _)) = columns(query, world, *rows) else {
            return;
        };
        for (row, in_force) in put_off {
            let Some(hot) = hot.get_mut(*row as usize) else {
                continue;
            };
            let rules = state.book.armed[usize::from(hot.flags.kind())].iter();
            let known = rules.fold(0, |known, rule| known | rule.bit());
            hot.in_force = in_force & known;
            if hot.in_force != commanded.of(*row) {
                // one that finds no room is decided by its next value
                let _ = state.put_off.list(*row, hot);
            }
        }
    }

    fn spawn_to(&mut self, rows: u32) {
        let blocks = |rows: u32| (rows as usize).div_ceil(BLOCK);
        let missing = blocks(rows).saturating_sub(blocks(self.rows));
        let blank = (Block::of(Hot::default()), Block::of(Cold::default()));
        let spawned = self.world.spawn_batch(std::iter::repeat_n(blank, missing));
        drop(spawned);
        self.rows = self.rows.max(rows);
        let rows = self.rows;
        self.state.touched.fit(rows);
        let room = rows as usize - self.devices.len().min(rows as usize);
        self.devices.reserve_exact(room);
        // the query meets its table here, so that no cycle allocates for that
        if let Some((hot, _)) = self.columns() {
            self.large_pages = huge::gather(hot).map_err(|error| error.to_string());
        }
    }

    /// The batches of the next cycle, to be filled before it and emptied after it.
    pub fn batches(&mut self) -> &mut Vec<RowBatch> {
        &mut self.state.intake.batches
    }

    /// The commands of the last cycle, to be emptied after it.
    pub fn commands(&mut self) -> &mut Vec<RelayCommand> {
        &mut self.state.outbox.commands
    }

    /// Hands rows with news out, at most so many in a cycle.
    pub fn hand_out(&mut self, rows: usize) {
        self.state.rows_out = RowsOut::with_room(rows);
    }

    /// The rows that the last cycle handed out, to be emptied after it.
    pub fn rows_out(&mut self) -> &mut Vec<RowRecord> {
        self.state.rows_out.rows()
    }

    /// Makes `system` panic in its next run.
    pub fn inject(&mut self, system: SystemId) {
        self.state.timings.inject = Some(system);
    }

    /// Runs the schedule once. `room` is the number of commands that may be decided.
    ///
    /// A fault isolates its system: it does not run again in this world. Of several the first is
    /// returned.
    pub fn cycle(&mut self, now_ns: u64, period_ns: u64, room: usize) -> Result<(), SystemFault> {
        self.cycle_deciding(now_ns, period_ns, room, &mut { now_ns })
    }

    /// The same; who waits for commands has them as soon as they are decided.
    pub(crate) fn cycle_deciding(
        &mut self,
        now_ns: u64,
        period_ns: u64,
        room: usize,
        deciding: &mut impl Deciding,
    ) -> Result<(), SystemFault> {
        let runs = self.runs();
        let every = u64::from(self.rates.every(SystemId::Export));
        let walk_cycles = self.sweep_ns / (period_ns * every).max(1);
        let extent = self.extent;
        let Self {
            world,
            query,
            devices,
            schedule,
            state,
            rows,
            ..
        } = self;
        let Some((hot, cold)) = columns(query, world, *rows) else {
            return Ok(());
        };
        state.intake.now_ns = now_ns;
        state.outbox.room = room.min(crate::lanes::COMMAND_LANE);
        if runs & (SystemId::Export.bit() | SystemId::Diagnostics.bit()) == 0 {
            state.sweep.rest();
        } else {
            state.sweep.advance(extent, walk_cycles, state.age_every);
        }
        let batches = state.intake.batches.iter();
        let readings: usize = batches.map(|batch| batch.readings.len()).sum();
        state
            .timings
            .begin(runs, readings + state.sweep.range.len());
        let mut rows = Rows { hot, cold, devices };
        let ran = schedule.run(&mut rows, state, deciding);
        ran.map_err(|Failed { systems, first }| {
            self.isolated |= systems;
            let name = self.own.name(first.system);
            SystemFault { name, ..first }
        })
    }

    /// The systems of the next cycle, as bits.
    fn runs(&mut self) -> u16 {
        let due = self.rates.due(self.next_slot);
        self.next_slot += 1;
        let shed = if self.fallback { !ESSENTIAL } else { 0 };
        due & !self.isolated & !shed
    }

    /// What row `row` holds; `None` when it is not bound.
    pub fn view(&mut self, row: u32) -> Option<RowView> {
        let (hot, cold) = self.columns()?;
        let at = row as usize;
        let (hot, cold) = (*hot.get(at)?, cold[at]);
        let flags = hot.flags;
        let window = self.state.windows.of(row);
        flags.has(Flags::BOUND).then(|| RowView {
            row,
            device: Uuid::from_bytes(self.devices[cold.asset as usize]),
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
            window,
        })
    }
}

/// The first `rows` of the table: there is one, since all blocks have the same components. Nothing
/// listens to changes.
fn columns<'w>(
    query: &'w mut QueryState<Columns>,
    world: &'w mut World,
    rows: u32,
) -> Option<(&'w mut [Hot], &'w mut [Cold])> {
    let (hot, cold) = query.contiguous_iter_mut(world).ok()?.next()?;
    let (hot, _) = ContiguousMut::bypass_change_detection_split(hot);
    let (cold, _) = ContiguousMut::bypass_change_detection_split(cold);
    let (hot, cold) = (blocks::rows(hot), blocks::rows(cold));
    Some((
        hot.get_mut(..rows as usize)?,
        cold.get_mut(..rows as usize)?,
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use actorsim_actors::Time;
    use actorsim_transport::{Batch, BatchPool, SensorType, Tier, TransportStats};

    use super::*;
    use crate::batch::{Origin, RowReading};
    use crate::systems::OwnSystem;

    /// Who waits for commands.
    struct Waiting {
        /// Set by the system that runs last.
        over: Arc<AtomicBool>,
        got: Vec<RelayCommand>,
    }

    impl Deciding for Waiting {
        fn now_ns(&self) -> u64 {
            77
        }

        fn decided(&mut self, commands: &mut Vec<RelayCommand>) {
            assert!(!self.over.load(Ordering::Relaxed), "the cycle is over");
            self.got.append(commands);
        }
    }

    #[test]
    fn a_command_leaves_before_its_cycle_is_over_with_the_time_at_which_it_was_decided() {
        let over = Arc::<AtomicBool>::default();
        let mut own = OwnSystems::default();
        let ends = Arc::clone(&over);
        let last = OwnSystem {
            name: "last",
            every: 1,
            after: vec!["diagnostics"],
            make: Arc::new(move || {
                let ends = Arc::clone(&ends);
                Box::new(move |_| {
                    ends.store(true, Ordering::Relaxed);
                    Ok(())
                })
            }),
        };
        own.add(last).unwrap();
        let size = WorldSize {
            capacity: 8,
            capacity_max: 8,
        };
        let (commanded, mut slots) = (Commanded::new(8), Slots::new());
        let book = RuleBook::arm(&RuleSet::shipped(), 8, &mut slots);
        slots.values().for_each(|slot| commanded.prepare(*slot));
        let tally = Tally::default();
        let mut world =
            ScannedWorld::with(size, WorldRules::default(), commanded, tally, book, own);
        world.fill([RowFill {
            device: [1; 16],
            row: 0,
            asset: 0,
            sensor: 5,
            relay: 6,
            kind: SensorType::Presence as u8,
        }]);
        let pool = BatchPool::new(TransportStats::new());
        let absent = RowReading {
            value: 0.0,
            at_us: 1,
            row: 0,
            sequence: 1,
        };
        let batch = Batch::new(Tier::T1, pool.take(), Time::ZERO, &pool);
        let batch = RowBatch::new(vec![absent], Origin::T1(batch));
        world.batches().push(batch);
        let mut waiting = Waiting {
            over: Arc::clone(&over),
            got: Vec::new(),
        };
        world.cycle_deciding(50, 1_000, 8, &mut waiting).unwrap();
        assert!(over.load(Ordering::Relaxed) && world.commands().is_empty());
        let decided: Vec<_> = waiting.got.iter().map(|one| one.decided_ns).collect();
        assert_eq!(decided, [77], "not when its cycle began");
    }
}
