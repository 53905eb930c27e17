//! What the five systems do to rows, stepped without a thread.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, in its tools too")]

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::Time;
use actorsim_transport::{Batch, BatchPool, EventKey, Tier, TransportStats};
use actorsim_world::batch::{NO_ROW, Origin, Outcome, RowBatch, RowReading};
use actorsim_world::components::{KIND_PRESENCE, RowFill};
use actorsim_world::journal::store::Journalled;
use actorsim_world::rules::{RuleBook, RuleSet, Slots};
use actorsim_world::scanned::{ScannedWorld, WorldSize};
use actorsim_world::systems::{
    Commanded, OwnSystem, OwnSystems, READINGS_PER_CYCLE, RelayCommand, SystemId, Tally, WorldRules,
};

const PERIOD_NS: u64 = 10_000_000;
const CURRENT: u8 = 4;

struct Bench {
    world: ScannedWorld,
    pool: Arc<BatchPool>,
    commanded: Commanded,
    now_ns: u64,
    room: usize,
}

impl Bench {
    fn new(rules: WorldRules) -> Self {
        let commanded = Commanded::new(1_000);
        let mut bench = Self {
            world: world(&rules, &commanded),
            pool: BatchPool::new(TransportStats::new()),
            commanded,
            now_ns: 0,
            room: 64,
        };
        bench
            .world
            .fill((0..7).map(|kind| fill(u32::from(kind), kind)));
        bench
    }

    fn t1(&mut self, readings: &[RowReading]) {
        let batch = Batch::new(Tier::T1, self.pool.take(), Time::ZERO, &self.pool);
        self.world
            .batches()
            .push(RowBatch::new(readings.to_vec(), Origin::T1(batch)));
    }

    /// Events of `dt/1`, which have no keys.
    fn event(&mut self, offset: u64, readings: &[RowReading]) {
        self.event_with(offset, readings, Vec::new());
    }

    /// Events of `actorsim/1`, and the cycle that takes them.
    fn keyed(&mut self, offset: u64, reading: RowReading) -> Vec<RelayCommand> {
        let key = EventKey {
            epoch: 1,
            event: offset,
        };
        self.event_with(offset, &[reading], vec![key]);
        self.cycle().1
    }

    fn event_with(&mut self, offset: u64, readings: &[RowReading], keys: Vec<EventKey>) {
        let origin = Origin::Event(Arc::new(Journalled {
            offset,
            events: Vec::new(),
            keys,
            received: Time::ZERO,
            pool: None,
        }));
        self.world
            .batches()
            .push(RowBatch::new(readings.to_vec(), origin));
    }

    /// One cycle; gives the outcomes of its batches and its commands.
    fn cycle(&mut self) -> (Vec<Outcome>, Vec<RelayCommand>) {
        self.now_ns += PERIOD_NS;
        self.world.cycle(self.now_ns, PERIOD_NS, self.room).unwrap();
        let outcomes = self
            .world
            .batches()
            .drain(..)
            .map(|batch| batch.outcome)
            .collect();
        (outcomes, self.world.commands().drain(..).collect())
    }

    fn sample(&mut self, row: u32, sequence: u32, value: f64) -> Vec<RelayCommand> {
        self.t1(&[reading(row, sequence, value)]);
        self.cycle().1
    }

    fn value(&mut self, row: u32) -> Option<f64> {
        self.world.view(row).unwrap().value
    }
}

fn world(rules: &WorldRules, commanded: &Commanded) -> ScannedWorld {
    let size = WorldSize {
        capacity: 64,
        capacity_max: 256,
    };
    ScannedWorld::new(size, rules.clone(), commanded.clone(), Tally::default())
}

fn fill(row: u32, kind: u8) -> RowFill {
    RowFill {
        device: [9; 16],
        row,
        asset: 0,
        sensor: row as u16,
        relay: 6,
        kind,
    }
}

/// A reading whose stamp goes with its sequence.
fn reading(row: u32, sequence: u32, value: f64) -> RowReading {
    RowReading {
        value,
        at_us: 1_000_000 + u64::from(sequence) * 1_000,
        row,
        sequence,
    }
}

#[test]
fn a_blank_row_is_stale_and_has_no_value() {
    let mut bench = Bench::new(WorldRules::default());
    let view = bench.world.view(3).unwrap();
    assert_eq!(
        (view.value, view.smoothed, view.sequence, view.stale),
        (None, None, None, true)
    );
    assert_eq!(bench.world.view(40), None, "not bound");
    assert_eq!(bench.world.entities(), 7);
}

#[test]
fn newest_wins_within_a_cycle_and_across_cycles() {
    let mut bench = Bench::new(WorldRules::default());
    bench.t1(&[
        reading(0, 1, 10.0),
        reading(0, 3, 30.0),
        reading(0, 2, 20.0),
    ]);
    bench.cycle();
    assert_eq!(bench.value(0), Some(30.0));
    bench.sample(0, 2, 99.0);
    assert_eq!(bench.value(0), Some(30.0));
    let tally = *bench.world.tally();
    assert_eq!((tally.t1_applied, tally.late), (4, 2));
}

#[test]
fn gaps_are_lost_until_the_late_one_arrives() {
    let mut bench = Bench::new(WorldRules::default());
    for sequence in [1, 2, 6] {
        bench.sample(0, sequence, 1.0);
    }
    assert_eq!(bench.world.tally().lost, 3);
    bench.sample(0, 4, 1.0);
    assert_eq!((bench.world.tally().lost, bench.world.tally().late), (2, 1));
}

#[test]
fn a_sequence_wraps_without_loss() {
    let mut bench = Bench::new(WorldRules::default());
    for (at, sequence) in [u32::MAX - 1, u32::MAX, 0, 1].into_iter().enumerate() {
        let reading = RowReading {
            value: at as f64,
            at_us: 1_000 + at as u64,
            row: 0,
            sequence,
        };
        bench.t1(&[reading]);
        bench.cycle();
    }
    assert_eq!(bench.value(0), Some(3.0));
    assert_eq!((bench.world.tally().lost, bench.world.tally().late), (0, 0));
}

#[test]
fn the_first_reading_of_a_row_is_no_gap() {
    let mut bench = Bench::new(WorldRules::default());
    bench.sample(0, 5_000, 1.0);
    assert_eq!(bench.world.tally().lost, 0);
}

#[test]
fn a_restarted_series_is_taken_up_again() {
    let mut bench = Bench::new(WorldRules::default());
    bench.sample(0, 900, 1.0);
    bench.t1(&[RowReading {
        value: 2.0,
        at_us: 9_000_000,
        row: 0,
        sequence: 0,
    }]);
    bench.cycle();
    assert_eq!(bench.value(0), Some(2.0));
    assert_eq!(
        (
            bench.world.tally().series_restarts,
            bench.world.tally().lost
        ),
        (1, 0)
    );
}

#[test]
fn smoothing_folds_the_newest_value_once_per_touched_cycle() {
    let mut bench = Bench::new(WorldRules {
        alpha: 0.5,
        ..WorldRules::default()
    });
    bench.sample(0, 1, 8.0);
    bench.t1(&[reading(0, 2, 100.0), reading(0, 3, 16.0)]);
    bench.cycle();
    assert_eq!(bench.world.view(0).unwrap().smoothed, Some(12.0));
    bench.cycle();
    assert_eq!(
        bench.world.view(0).unwrap().smoothed,
        Some(12.0),
        "an untouched row rests"
    );
}

#[test]
fn not_finite_values_are_kept_raw_flagged_and_folded_nowhere() {
    let mut bench = Bench::new(WorldRules {
        sweep: Duration::ZERO,
        ..WorldRules::default()
    });
    bench.sample(0, 1, 20.0);
    for (at, value) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
        .into_iter()
        .enumerate()
    {
        bench.sample(0, 2 + at as u32, value);
        let view = bench.world.view(0).unwrap();
        assert!(view.non_finite);
        assert_eq!(view.value.map(f64::to_bits), Some(value.to_bits()));
        assert_eq!(view.smoothed, Some(20.0));
        assert_eq!(bench.world.sweep().aggregates[0].count, 0);
    }
    bench.sample(0, 9, 20.0);
    assert!(!bench.world.view(0).unwrap().non_finite);
    assert_eq!(bench.world.sweep().aggregates[0].mean(), Some(20.0));
    assert_eq!(bench.world.tally().non_finite, 3);
}

#[test]
fn crossings_count_each_passage_of_the_smoothed_value() {
    let rules = WorldRules {
        alpha: 1.0,
        thresholds: [50.0; 7],
        ..WorldRules::default()
    };
    let mut bench = Bench::new(rules);
    for (at, value) in [40.0, 60.0, 70.0, 30.0, 50.0].into_iter().enumerate() {
        bench.sample(0, at as u32 + 1, value);
    }
    assert_eq!(bench.world.view(0).unwrap().crossings, 3);
    assert_eq!(bench.world.tally().crossings, 3);
}

#[test]
fn absence_stops_the_relay_once_and_presence_starts_it_again() {
    let mut bench = Bench::new(WorldRules::default());
    let row = u32::from(KIND_PRESENCE);
    assert_eq!(
        bench.sample(row, 1, 1.0),
        [],
        "present from the start: nothing to command"
    );
    let stop = bench.sample(row, 2, 0.0);
    assert_eq!(stop.len(), 1);
    assert_eq!(
        (stop[0].device, stop[0].sensor, stop[0].value),
        ([9; 16], 6, 0.0)
    );
    assert_eq!(stop[0].decided_ns, bench.now_ns);
    assert_eq!(bench.sample(row, 3, 0.9), [], "still absent");
    assert_eq!(bench.world.view(row).unwrap().in_force, 1);
    let start = bench.sample(row, 4, 1.0);
    assert_eq!((start.len(), start[0].value), (1, 1.0));
    assert_eq!(bench.world.view(row).unwrap().in_force, 0);
    assert_eq!(
        bench.sample(row, 5, f64::NAN),
        [],
        "not a value that commands"
    );
    assert_eq!(
        bench.sample(u32::from(CURRENT), 1, 0.0),
        [],
        "only presence commands"
    );
}

#[test]
fn a_full_command_lane_defers_and_forgets_nothing() {
    let mut bench = Bench::new(WorldRules::default());
    let row = u32::from(KIND_PRESENCE);
    bench.room = 0;
    assert_eq!(bench.sample(row, 1, 0.0), []);
    assert_eq!(bench.commanded.of(row), 0, "not commanded yet");
    bench.room = 1;
    assert_eq!(bench.cycle().1.len(), 1);
    assert_eq!(bench.commanded.of(row), 1);
    assert_eq!(bench.world.tally().commands_deferred, 1);
}

#[test]
fn a_command_put_off_is_sent_though_the_value_is_no_number_by_then() {
    let mut bench = Bench::new(WorldRules::default());
    let row = u32::from(KIND_PRESENCE);
    bench.room = 0;
    bench.sample(row, 1, 0.0);
    bench.sample(row, 2, f64::NAN);
    bench.room = 1;
    let stop: Vec<_> = bench.cycle().1.iter().map(|stop| stop.value).collect();
    assert_eq!(stop, [0.0]);
    bench.room = 0;
    bench.sample(row, 3, 1.0);
    bench.sample(row, 4, 0.0);
    bench.sample(row, 5, f64::NAN);
    bench.room = 9;
    assert_eq!(bench.cycle().1, [], "a start and a stop are neither");
    assert_eq!(bench.world.view(row).unwrap().in_force, 1);
}

#[test]
fn rows_put_off_are_commanded_in_their_order_each_once_as_there_is_room() {
    let mut bench = Bench::new(WorldRules::default());
    bench
        .world
        .fill((7..27).map(|row| fill(row, KIND_PRESENCE)));
    bench.room = 0;
    for (sequence, value) in [0.0, 1.0, 0.0].into_iter().enumerate() {
        let all: Vec<_> = (7..27)
            .map(|row| reading(row, sequence as u32, value))
            .collect();
        bench.t1(&all);
        bench.cycle();
    }
    bench.room = 8;
    let mut commanded = Vec::new();
    for expected in [8, 8, 4, 0] {
        let commands = bench.cycle().1;
        assert_eq!(commands.len(), expected);
        commanded.extend(commands.iter().map(|stop| (stop.row, stop.value)));
    }
    let expected: Vec<_> = (7..27).map(|row| (row, 0.0)).collect();
    assert_eq!(commanded, expected);
}

#[test]
fn a_stop_put_off_does_not_overtake_the_start() {
    let mut bench = Bench::new(WorldRules::default());
    let row = u32::from(KIND_PRESENCE);
    bench.room = 0;
    assert_eq!(bench.sample(row, 1, 0.0), []);
    assert_eq!(bench.sample(row, 2, 1.0), []);
    bench.room = 1;
    assert_eq!(bench.cycle().1, [], "somebody is present again");
    assert_eq!(bench.world.view(row).unwrap().in_force, 0);
}

#[test]
fn the_commanded_state_outlives_the_world() {
    let mut bench = Bench::new(WorldRules::default());
    let row = u32::from(KIND_PRESENCE);
    bench.sample(row, 1, 0.0);
    bench.world = world(&WorldRules::default(), &bench.commanded);
    bench.world.fill([fill(row, KIND_PRESENCE)]);
    assert_eq!(bench.world.view(row).unwrap().in_force, 1);
    assert_eq!(bench.sample(row, 2, 0.0), [], "stop is in force already");
    assert_eq!(bench.sample(row, 3, 1.0).len(), 1, "and is lifted");
}

#[test]
fn the_journal_is_applied_once_in_order_duplicates_and_gaps_ignored() {
    let mut bench = Bench::new(WorldRules::default());
    bench.event(1, &[reading(1, 1, 11.0)]);
    bench.event(1, &[reading(1, 1, 99.0)]);
    bench.event(3, &[reading(1, 3, 33.0)]);
    bench.event(2, &[reading(1, 2, 22.0)]);
    let (outcomes, _) = bench.cycle();
    use Outcome::{Applied, Duplicate, Gap};
    assert_eq!(outcomes, [Applied, Duplicate, Gap, Applied]);
    let applied = |bench: &Bench| bench.world.tally().applied_offset;
    assert_eq!((applied(&bench), bench.value(1)), (2, Some(22.0)));
    bench.event(3, &[reading(1, 3, 33.0)]);
    bench.cycle();
    assert_eq!((applied(&bench), bench.value(1)), (3, Some(33.0)));
    let tally = *bench.world.tally();
    assert_eq!(
        (tally.t2_applied, tally.t2_duplicates, tally.t2_gaps),
        (3, 1, 1)
    );
}

#[test]
fn an_event_older_than_the_value_counts_and_commands_but_does_not_overwrite() {
    let mut bench = Bench::new(WorldRules::default());
    let row = u32::from(KIND_PRESENCE);
    bench.sample(row, 10, 1.0);
    bench.event(1, &[reading(row, 3, 0.0)]);
    let (_, commands) = bench.cycle();
    let values: Vec<_> = commands.iter().map(|command| command.value).collect();
    assert_eq!(
        values,
        [0.0, 1.0],
        "the rule is triggered, the newer value has the last word"
    );
    assert_eq!(bench.value(row), Some(1.0));
    assert_eq!(bench.world.tally().t2_applied, 1);
}

#[test]
fn an_event_older_than_no_number_commands_and_leaves_the_rules_as_it_found_them() {
    let mut bench = Bench::new(WorldRules::default());
    let row = u32::from(KIND_PRESENCE);
    bench.sample(row, 10, 1.0);
    bench.sample(row, 11, f64::NAN);
    for (offset, room, expected) in [(1, 64, &[0.0, 1.0][..]), (2, 0, &[]), (3, 1, &[0.0])] {
        bench.room = room;
        bench.event(offset, &[reading(row, offset as u32, 0.0)]);
        let (_, commands) = bench.cycle();
        let values: Vec<_> = commands.iter().map(|command| command.value).collect();
        assert_eq!(values, expected, "room for {room}");
        assert_eq!(bench.world.view(row).unwrap().in_force, 0);
    }
    let start: Vec<_> = bench.cycle().1.iter().map(|start| start.value).collect();
    assert_eq!(start, [1.0], "which found no room before");
    assert!(bench.value(row).unwrap().is_nan());
    assert_eq!(bench.world.tally().samples_missed, 0);
}

#[test]
fn a_delayed_sample_does_not_undo_a_newer_event() {
    let mut bench = Bench::new(WorldRules::default());
    bench.sample(1, 1, 1.0);
    bench.event(1, &[reading(1, 50, 5.0)]);
    bench.cycle();
    bench.sample(1, 2, 2.0);
    assert_eq!(bench.value(1), Some(5.0));
    bench.sample(1, 60, 6.0);
    assert_eq!(bench.value(1), Some(6.0));
}

/// A row's walks follow each other cycle by cycle; it ages with each, and is stale after three.
fn quick_ageing() -> WorldRules {
    WorldRules {
        sweep: Duration::from_nanos(PERIOD_NS),
        stale_after: Duration::from_nanos(2 * PERIOD_NS),
        ..WorldRules::default()
    }
}

#[test]
fn an_event_follows_the_one_before_it_though_the_clock_was_set_back() {
    let mut bench = Bench::new(WorldRules::default());
    let row = u32::from(KIND_PRESENCE);
    bench.keyed(1, reading(row, 30_000, 0.0));
    let commands = bench.keyed(2, reading(row, 10, 1.0));
    assert_eq!(bench.value(row), Some(1.0), "what the device said last");
    let values: Vec<_> = commands.iter().map(|command| command.value).collect();
    assert_eq!(values, [1.0]);
    bench.event(3, &[reading(row, 5, 0.0)]);
    bench.cycle();
    assert_eq!(
        bench.value(row),
        Some(1.0),
        "dt/1 streams overtake each other"
    );
    assert_eq!(bench.world.tally().late, 1);
}

#[test]
fn an_event_of_a_clock_that_was_ahead_holds_samples_back_for_a_sweep_at_most() {
    let mut bench = Bench::new(quick_ageing());
    bench.sample(1, 1, 1.0);
    bench.keyed(1, reading(1, 30_000, 5.0));
    let held = (2..10).take_while(|sequence| {
        bench.sample(1, *sequence, 2.0);
        bench.value(1) == Some(5.0)
    });
    assert!(held.count() <= 1);
    assert_eq!(bench.value(1), Some(2.0));
}

#[test]
fn a_stale_row_takes_a_series_that_begins_again_with_an_older_clock() {
    let mut bench = Bench::new(quick_ageing());
    bench.sample(1, 30_000, 1.0);
    bench.sample(1, 3, 2.0);
    assert_eq!(bench.value(1), Some(1.0), "it may be a delayed one");
    (0..5).for_each(|_| drop(bench.cycle()));
    assert!(bench.world.view(1).unwrap().stale);
    bench.sample(1, 4, 3.0);
    assert_eq!(bench.value(1), Some(3.0));
    assert_eq!(bench.world.tally().series_restarts, 1);
    (0..5).for_each(|_| drop(bench.cycle()));
    bench.event(1, &[reading(1, 2, 4.0)]);
    bench.cycle();
    assert_eq!(bench.value(1), Some(4.0), "nor is an event too old for it");
}

#[test]
fn a_reading_without_a_row_is_counted_and_harms_nothing() {
    let mut bench = Bench::new(WorldRules::default());
    bench.t1(&[
        reading(NO_ROW, 1, 1.0),
        reading(64, 1, 1.0),
        reading(2, 1, 3.0),
    ]);
    bench.cycle();
    assert_eq!(bench.world.tally().unplaced, 2);
    assert_eq!(bench.value(2), Some(3.0));
}

#[test]
fn aggregates_cover_every_row_once_per_sweep() {
    let mut bench = Bench::new(WorldRules {
        sweep: Duration::ZERO,
        ..WorldRules::default()
    });
    bench.world.fill((7..27).map(|row| fill(row, 3)));
    let readings: Vec<_> = (7..27).map(|row| reading(row, 1, f64::from(row))).collect();
    bench.t1(&readings);
    bench.cycle();
    let voltage = bench.world.sweep().aggregates[3];
    assert_eq!((voltage.count, voltage.min, voltage.max), (20, 7.0, 26.0));
    assert_eq!(voltage.mean(), Some(16.5));
}

#[test]
fn the_mean_of_finite_values_is_finite_however_great_they_are() {
    let mut bench = Bench::new(WorldRules {
        sweep: Duration::ZERO,
        ..WorldRules::default()
    });
    bench.world.fill((7..27).map(|row| fill(row, 3)));
    for (sequence, value) in [1e308, f64::MAX, f64::MIN, 1e-300].into_iter().enumerate() {
        let all: Vec<_> = (7..27)
            .map(|row| reading(row, sequence as u32, value))
            .collect();
        bench.t1(&all);
        bench.cycle();
        let mean = bench.world.sweep().aggregates[3].mean().unwrap();
        assert!((mean / value - 1.0).abs() < 1e-12, "{mean}: {value}");
    }
}

#[test]
fn a_cycle_full_of_late_events_misses_no_rule() {
    let mut bench = Bench::new(WorldRules::default());
    let row = u32::from(KIND_PRESENCE);
    bench.sample(row, 10, 1.0);
    bench.room = 1_024;
    // each counts as two of what a cycle takes
    let late = vec![reading(row, 3, 1.0); READINGS_PER_CYCLE / 2 - 1];
    bench.event(1, &late);
    bench.event(2, &[reading(row, 3, 0.0)]);
    let (_, commands) = bench.cycle();
    assert_eq!((commands.len(), bench.world.tally().samples_missed), (2, 0));
}

#[test]
fn rows_become_stale_after_the_stale_time_and_young_by_a_value() {
    let (sweep, stale_after) = (Duration::from_millis(100), Duration::from_millis(500));
    let mut bench = Bench::new(WorldRules {
        sweep,
        stale_after,
        ..WorldRules::default()
    });
    bench.sample(0, 1, 1.0);
    let mut cycles = 0;
    while !bench.world.view(0).unwrap().stale {
        bench.cycle();
        cycles += 1;
        assert!(cycles < 100);
    }
    assert!(
        (50..=65).contains(&cycles),
        "stale after {cycles} cycles of 10 ms"
    );
    bench.sample(0, 2, 1.0);
    assert!(!bench.world.view(0).unwrap().stale);
}

#[test]
fn stale_rows_are_counted_by_the_type_of_their_sensor() {
    let mut bench = Bench::new(quick_ageing());
    bench.world.fill((7..27).map(|row| fill(row, CURRENT)));
    bench.cycle();
    assert_eq!(bench.world.sweep().stale, [1, 1, 1, 1, 21, 1, 1]);
    assert_eq!(bench.world.entities_by_kind(), &[1, 1, 1, 1, 21, 1, 1]);
    let all: Vec<_> = (0..20).map(|row| reading(row, 1, 1.0)).collect();
    bench.t1(&all);
    bench.cycle();
    assert_eq!(bench.world.sweep().stale, [0, 0, 0, 0, 7, 0, 0]);
    for sequence in 2..6 {
        bench.sample(0, sequence, 1.0);
    }
    assert_eq!(bench.world.sweep().stale, [0, 1, 1, 1, 21, 1, 1], "but one");
}

#[test]
fn growing_keeps_slot_and_row_together() {
    let mut bench = Bench::new(WorldRules::default());
    bench.sample(0, 1, 1.5);
    assert!(bench.world.fill((7..200).map(|row| fill(row, 0))));
    assert!(bench.world.rows() >= 200);
    for row in 0..200 {
        assert_eq!(bench.world.view(row).unwrap().sensor, row as u16);
    }
    assert_eq!(bench.value(0), Some(1.5));
    bench.world.fill([fill(256, 0)]);
    assert_eq!(
        (bench.world.rows(), bench.world.view(256)),
        (256.min(bench.world.rows()), None)
    );
}

#[test]
fn filling_a_row_twice_keeps_its_value() {
    let mut bench = Bench::new(WorldRules::default());
    bench.sample(0, 1, 1.5);
    bench.world.fill([fill(0, 0)]);
    assert_eq!(bench.value(0), Some(1.5));
    assert_eq!(bench.world.entities(), 7);
}

#[test]
fn a_panicking_system_is_isolated_and_the_others_run_on() {
    let mut bench = Bench::new(WorldRules::default());
    bench.world.inject(SystemId::Simulation);
    bench.t1(&[reading(0, 1, 4.0)]);
    let fault = bench.world.cycle(1, PERIOD_NS, 8).unwrap_err();
    assert_eq!(fault.system, SystemId::Simulation);
    assert!(
        fault.detail.contains("injected into simulation"),
        "{}",
        fault.detail
    );
    let took = bench.world.took_ns();
    assert!(
        took[..5].iter().all(Option::is_some),
        "later systems ran in the faulted cycle: {took:?}"
    );
    bench.world.batches().clear();
    bench.sample(0, 2, 8.0);
    assert_eq!(bench.value(0), Some(8.0), "ingest runs on");
    assert_eq!(
        bench.world.took_ns()[SystemId::Simulation.index()],
        None,
        "isolated"
    );
    assert_eq!(bench.world.enabled().iter().filter(|on| !**on).count(), 1);
}

#[test]
fn the_five_are_timed_in_some_short_cycles_and_in_each_long_one() {
    let mut bench = Bench::new(WorldRules::default());
    let mut timed = |readings: u32| {
        let readings: Vec<_> = (0..readings).map(|n| reading(0, n, 1.0)).collect();
        bench.t1(&readings);
        bench.cycle();
        let took = bench.world.took_ns()[..5].iter().flatten().count();
        assert!(took == 0 || took == 5, "{took}");
        took == 5
    };
    let short = (0..80).filter(|_| timed(3)).count();
    assert_eq!(short, 10);
    assert!((0..20).all(|_| timed(600)));
}

#[test]
fn of_two_faults_in_a_cycle_the_first_is_told_and_both_systems_are_isolated() {
    let mut own = OwnSystems::default();
    own.add(OwnSystem {
        name: "broken",
        every: 1,
        after: Vec::new(),
        make: Arc::new(|| Box::new(|_| Err("out of order".to_owned()))),
    })
    .unwrap();
    let commanded = Commanded::new(64);
    let book = RuleBook::arm(&RuleSet::default(), 64, &mut Slots::new());
    let (rules, tally) = (WorldRules::default(), Tally::default());
    let size = WorldSize {
        capacity: 64,
        capacity_max: 64,
    };
    let mut world = ScannedWorld::with(size, rules, commanded, tally, book, own);
    world.inject(SystemId::Export);
    let first = world.cycle(1, PERIOD_NS, 8).unwrap_err();
    assert_eq!((first.system, world.isolated()), (SystemId::Export, 2));
    assert!(world.cycle(2, PERIOD_NS, 8).is_ok(), "neither runs again");
}
