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
use crate::components::{BlankRow, Cold, Flags, Raw, RowFill, State};
use crate::request::RowView;
use crate::systems::{
    BATCHES_PER_CYCLE, Commanded, Health, Intake, Outbox, READINGS_PER_CYCLE, RelayCommand,
    SYSTEMS, Sweep, SystemFault, SystemId, Tally, Timings, Touched, WorldRules, record, schedule,
    take_fault,
};

/// Presence samples that may wait for the automation, deferred ones included.
const PRESENCE_LISTED: usize = 65_536;

/// How many rows a world has, and may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldSize {
    /// Rows spawned blank at the start.
    pub capacity: u32,
    /// Rows that growth may reach; binding a row beyond it is refused.
    pub capacity_max: u32,
}

type Columns = (&'static mut Raw, &'static mut State, &'static mut Cold);

/// A world of rows and the schedule that scans it.
pub struct ScannedWorld {
    world: World,
    schedule: Schedule,
    columns: QueryState<Columns>,
    size: WorldSize,
    rules: WorldRules,
    commanded: Commanded,
    rows: u32,
    extent: u32,
    entities: u32,
    grown: u64,
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
    /// Spawns the rows and builds the schedule; `tally` goes on from the previous world.
    #[must_use]
    pub fn new(size: WorldSize, rules: WorldRules, commanded: Commanded, tally: Tally) -> Self {
        let mut world = World::new();
        world.insert_resource(FallbackErrorHandler(record));
        world.insert_resource(Intake {
            batches: Vec::with_capacity(BATCHES_PER_CYCLE),
            now_ns: 0,
        });
        world.insert_resource(Touched {
            rows: Vec::with_capacity(READINGS_PER_CYCLE),
            presence: Vec::with_capacity(PRESENCE_LISTED),
            deferred: 0,
        });
        world.insert_resource(Outbox {
            commands: Vec::with_capacity(crate::lanes::COMMAND_LANE),
            room: 0,
        });
        world.insert_resource(commanded.clone());
        world.insert_resource(rules.clone());
        world.insert_resource(tally);
        world.insert_resource(Health {
            enabled: [true; SYSTEMS],
        });
        world.insert_resource(Timings::default());
        world.insert_resource(Sweep::default());
        let columns = world.query();
        let mut scanned = Self {
            world,
            schedule: schedule(),
            columns,
            size,
            rules,
            commanded,
            rows: 0,
            extent: 0,
            entities: 0,
            grown: 0,
        };
        scanned.spawn_to(size.capacity.min(size.capacity_max).max(1));
        // the query meets its table here, so that no cycle allocates for that
        let _ = scanned.state_and_cold();
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
        self.world.resource::<Health>().enabled
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
        let stopped = self.commanded.is_stopped(fill.row);
        let Some((mut state, mut cold)) = self.state_and_cold() else {
            return;
        };
        let row = fill.row as usize;
        let flags = &mut state.bypass_change_detection()[row].flags;
        if flags.has(Flags::BOUND) {
            return;
        }
        *flags = Flags::bound(fill.kind);
        if stopped {
            flags.set(Flags::STOPPED);
        }
        cold.bypass_change_detection()[row] = Cold {
            device: fill.device,
            asset: fill.asset,
            sensor: fill.sensor,
            relay: fill.relay,
            ..Cold::BLANK
        };
        self.entities += 1;
        self.extent = self.extent.max(fill.row + 1);
    }

    #[allow(clippy::type_complexity, reason = "two columns of one table")]
    fn state_and_cold(&mut self) -> Option<(ContiguousMut<'_, State>, ContiguousMut<'_, Cold>)> {
        let (_, state, cold) = self
            .columns
            .contiguous_iter_mut(&mut self.world)
            .ok()?
            .next()?;
        Some((state, cold))
    }

    /// Gives a bound row back the last event that a journal remembers, if it has no newer value. It
    /// is no reading: nothing is counted, smoothed or commanded, and the row stays stale.
    pub fn restore(&mut self, row: u32, value: f64, at_us: u64) {
        let Some((mut raw, mut state, mut cold)) = self
            .columns
            .contiguous_iter_mut(&mut self.world)
            .ok()
            .and_then(|mut tables| tables.next())
        else {
            return;
        };
        let row = row as usize;
        let Some(State { flags, .. }) = state.bypass_change_detection().get_mut(row) else {
            return;
        };
        let cold = &mut cold.bypass_change_detection()[row];
        if flags.has(Flags::VALUED) && at_us < cold.at_us {
            return;
        }
        flags.set(Flags::VALUED | Flags::FROM_EVENT);
        flags.clear(Flags::NON_FINITE);
        if !value.is_finite() {
            flags.set(Flags::NON_FINITE);
        }
        cold.at_us = at_us;
        raw.bypass_change_detection()[row].0 = value;
    }

    fn spawn_to(&mut self, rows: u32) {
        let missing = rows.saturating_sub(self.rows) as usize;
        self.world
            .spawn_batch(std::iter::repeat_n(BlankRow::new(), missing));
        self.rows = self.rows.max(rows);
    }

    /// The batches of the next cycle, to be filled before it and emptied after it.
    pub fn batches(&mut self) -> &mut Vec<RowBatch> {
        &mut self.world.resource_mut::<Intake>().into_inner().batches
    }

    /// The commands of the last cycle, to be emptied after it.
    pub fn commands(&mut self) -> &mut Vec<RelayCommand> {
        &mut self.world.resource_mut::<Outbox>().into_inner().commands
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
        self.world.resource_mut::<Timings>().took_ns = [None; SYSTEMS];
        let mut outbox = self.world.resource_mut::<Outbox>();
        outbox.room = room.min(crate::lanes::COMMAND_LANE);
        let cycles = self.rules.sweep.as_nanos() as u64 / period_ns.max(1);
        let (age_every, _) = self.rules.ageing();
        self.world
            .resource_mut::<Sweep>()
            .advance(self.extent, cycles, age_every);
        self.schedule.run(&mut self.world);
        self.world.clear_trackers();
        match take_fault() {
            None => Ok(()),
            Some(fault) => {
                self.world.resource_mut::<Health>().enabled[fault.system as usize] = false;
                Err(fault)
            }
        }
    }

    /// What row `row` holds; `None` when it is not bound.
    pub fn view(&mut self, row: u32) -> Option<RowView> {
        let (raw, state, cold) = self
            .columns
            .contiguous_iter_mut(&mut self.world)
            .ok()?
            .next()?;
        let at = row as usize;
        let State {
            smoothed,
            flags,
            crossings,
        } = *state.get(at)?;
        if !flags.has(Flags::BOUND) {
            return None;
        }
        let cold = &cold[at];
        Some(RowView {
            row,
            device: Uuid::from_bytes(cold.device),
            sensor: cold.sensor,
            kind: flags.kind(),
            value: flags.has(Flags::VALUED).then_some(raw[at].0),
            smoothed: flags.has(Flags::FOLDED).then_some(smoothed),
            at_us: cold.at_us,
            sequence: flags.has(Flags::SEQUENCED).then_some(cold.sequence),
            crossings,
            stale: flags.has(Flags::STALE),
            non_finite: flags.has(Flags::NON_FINITE),
            stopped: flags.has(Flags::STOPPED),
        })
    }
}
