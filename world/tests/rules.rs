//! What rules command, stepped without a thread: limits, hysteresis, times, changes while they run.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, in its tools too")]

use std::sync::Arc;

use actorsim_actors::Time;
use actorsim_transport::{Batch, BatchPool, Tier, TransportStats};
use actorsim_world::batch::{Origin, RowBatch, RowReading};
use actorsim_world::components::RowFill;
use actorsim_world::rules::{RuleBook, RuleSet, Slots};
use actorsim_world::scanned::{ScannedWorld, WorldSize};
use actorsim_world::systems::{Commanded, OwnSystems, Tally, WorldRules};

const PERIOD_NS: u64 = 10_000_000;
const ROWS: u32 = 14;

struct Bench {
    world: ScannedWorld,
    pool: Arc<BatchPool>,
    commanded: Commanded,
    slots: Slots,
    now_ns: u64,
    sequence: u32,
    room: usize,
}

impl Bench {
    /// Two devices with a row of each type, under `rules`.
    fn new(rules: &str) -> Self {
        let mut slots = Slots::new();
        let commanded = Commanded::new(ROWS);
        let book = armed(rules, &mut slots, &commanded);
        Self {
            world: world(book, &commanded),
            pool: BatchPool::new(TransportStats::new()),
            commanded,
            slots,
            now_ns: 0,
            sequence: 0,
            room: 64,
        }
    }

    /// The same with windows of last values.
    fn with_windows(rules: &str, windows: &str) -> Self {
        let mut bench = Self::new(rules);
        let book = armed(rules, &mut bench.slots, &bench.commanded);
        let numbers = WorldRules {
            windows: windows.parse().unwrap(),
            ..WorldRules::default()
        };
        bench.world = world_with(numbers, book, &bench.commanded);
        bench
    }

    /// One cycle with a value of a row; the setpoints it commands, with their actuators.
    fn value(&mut self, row: u32, value: f64) -> Vec<(u16, f64)> {
        self.sequence += 1;
        let reading = RowReading {
            value,
            at_us: u64::from(self.sequence),
            row,
            sequence: self.sequence,
        };
        let batch = Batch::new(Tier::T1, self.pool.take(), Time::ZERO, &self.pool);
        let batch = RowBatch::new(vec![reading], Origin::T1(batch));
        self.world.batches().push(batch);
        self.cycle()
    }

    fn cycle(&mut self) -> Vec<(u16, f64)> {
        self.now_ns += PERIOD_NS;
        self.world.cycle(self.now_ns, PERIOD_NS, self.room).unwrap();
        self.world.batches().clear();
        let commands = self.world.commands().drain(..);
        commands
            .map(|command| (command.sensor, command.value))
            .collect()
    }

    /// Other rules from now on; true if rows forgot some.
    fn change(&mut self, rules: &str) -> bool {
        let mut book = armed(rules, &mut self.slots, &self.commanded);
        self.world.exchange_rules(&mut book)
    }

    fn in_force(&mut self, row: u32) -> u8 {
        self.world.view(row).unwrap().in_force
    }
}

fn armed(rules: &str, slots: &mut Slots, commanded: &Commanded) -> RuleBook {
    let book = RuleBook::arm(&RuleSet::from_toml("test", rules).unwrap(), ROWS, slots);
    slots.values().for_each(|slot| commanded.prepare(*slot));
    book
}

fn world(book: RuleBook, commanded: &Commanded) -> ScannedWorld {
    let rules = WorldRules {
        alpha: 0.5,
        ..WorldRules::default()
    };
    world_with(rules, book, commanded)
}

fn world_with(rules: WorldRules, book: RuleBook, commanded: &Commanded) -> ScannedWorld {
    let size = WorldSize {
        capacity: ROWS,
        capacity_max: ROWS,
    };
    let (commanded, own) = (commanded.clone(), OwnSystems::default());
    let mut world = ScannedWorld::with(size, rules, commanded, Tally::default(), book, own);
    world.fill((0..ROWS).map(|row| RowFill {
        device: [row as u8 / 7; 16],
        row,
        asset: row / 7,
        sensor: (row % 7) as u16,
        relay: 6,
        kind: (row % 7) as u8,
    }));
    world
}

const HOT: &str = "[[rule]]\nname = \"hot\"\nsensor = \"temperature\"\nabove = 90\n\
                   hysteresis = 10\nthen = \"stop\"\notherwise = \"start\"\n";
const DRY: &str = "[[rule]]\nname = \"dry\"\nsensor = \"humidity\"\nbelow = 20\nfor = \"50ms\"\n\
                   then = 42.5\nactuator = 9\n";

#[test]
fn a_value_above_its_limit_commands_once_until_it_is_back_beyond_the_hysteresis() {
    let mut bench = Bench::new(HOT);
    assert_eq!(bench.value(0, 90.0), []);
    assert_eq!(bench.value(0, 91.0), [(6, 0.0)]);
    assert_eq!(bench.value(0, 95.0), []);
    assert_eq!(bench.value(0, 85.0), [], "within the hysteresis");
    assert_eq!(bench.value(7, 95.0), [(6, 0.0)], "each device by itself");
    assert_eq!(bench.value(0, 80.0), [(6, 1.0)]);
    let tally = bench.world.rule_tallies()[0];
    assert_eq!((tally.fired, tally.ended), (2, 1));
}

#[test]
fn a_condition_must_hold_for_its_time() {
    let mut bench = Bench::new(DRY);
    assert_eq!(bench.value(1, 10.0), []);
    for _ in 0..4 {
        assert_eq!(bench.cycle(), []);
    }
    assert_eq!(
        bench.cycle(),
        [(9, 42.5)],
        "50 ms later, to its own actuator"
    );
    assert_eq!(bench.value(1, 50.0), [], "it ends without a command");
    assert_eq!(bench.in_force(1), 0);
}

#[test]
fn a_condition_that_is_interrupted_begins_anew() {
    let mut bench = Bench::new(DRY);
    bench.value(1, 10.0);
    bench.cycle();
    bench.value(1, 30.0);
    assert_eq!(bench.value(1, 10.0), []);
    let fired: Vec<usize> = (1..=10).filter(|_| !bench.cycle().is_empty()).collect();
    assert_eq!(fired, [5]);
}

#[test]
fn a_row_that_went_stale_while_it_waited_commands_nothing() {
    let text = DRY.replace("50ms", "1h");
    let mut bench = Bench::new(&text);
    bench.value(1, 10.0);
    // one walk in a cycle and a stale time of 15 s: a few cycles that are seconds apart
    for _ in 0..40 {
        bench.now_ns += 1_000_000_000;
        bench.world.cycle(bench.now_ns, 1_000_000_000, 8).unwrap();
    }
    assert!(bench.world.view(1).unwrap().stale);
    bench.now_ns += 3_600_000_000_000;
    assert_eq!(bench.cycle(), []);
    assert_eq!(bench.in_force(1), 0);
}

#[test]
fn values_that_are_not_finite_neither_start_nor_end_a_rule() {
    let mut bench = Bench::new(HOT);
    assert_eq!(bench.value(0, f64::INFINITY), []);
    assert_eq!(bench.value(0, f64::NAN), []);
    bench.value(0, 95.0);
    for value in [f64::NAN, f64::NEG_INFINITY] {
        assert_eq!(bench.value(0, value), []);
        assert_eq!(bench.in_force(0), 1);
    }
    let mut waits = Bench::new(DRY);
    waits.value(1, 10.0);
    waits.value(1, f64::NAN);
    let fired = (0..10).filter(|_| !waits.cycle().is_empty()).count();
    assert_eq!(fired, 1, "what says nothing interrupts nothing");
}

#[test]
fn a_rule_on_the_smoothed_value_is_deaf_to_a_spike() {
    let mut bench = Bench::new(&HOT.replace("above", "field = \"smoothed\"\nabove"));
    bench.value(0, 20.0);
    assert_eq!(bench.value(0, 120.0), [], "smoothed to 70");
    assert_eq!(bench.value(0, 120.0), [(6, 0.0)], "95");
}

#[test]
fn a_rule_on_a_window_judges_its_mean_its_least_and_its_greatest_value() {
    let rule = |name: &str, field: &str, limit: &str, then: u32| {
        format!(
            "[[rule]]\nname = \"{name}\"\nsensor = \"temperature\"\nfield = \"window_{field}\"\n\
             {limit}\nthen = {then}\n"
        )
    };
    let rules = rule("mean", "mean", "above = 50", 1)
        + &rule("min", "min", "above = 20", 2)
        + &rule("max", "max", "below = 80", 3);
    let mut bench = Bench::with_windows(&rules, "temperature:3");
    assert_eq!(bench.value(0, 10.0), [(6, 3.0)], "no value is above 80");
    assert_eq!(bench.value(0, 40.0), []);
    assert_eq!(bench.value(0, f64::NAN), [], "no value of a window");
    assert_eq!(bench.value(0, 90.0), [], "a mean of 47");
    assert_eq!(
        bench.value(0, 30.0),
        [(6, 1.0), (6, 2.0)],
        "the first one is forgotten"
    );
    assert_eq!(
        bench.in_force(0).count_ones(),
        2,
        "since there was a value above 80"
    );
    let window = bench.world.view(0).unwrap().window.unwrap();
    assert_eq!((window.count, window.length), (3, 3));
    assert_eq!((window.min, window.max), (30.0, 90.0));
    assert_eq!(bench.value(3, 99.0), [], "a voltage");
    assert_eq!(bench.world.view(3).unwrap().window, None);
}

#[test]
fn a_sensor_that_nobody_named_comes_under_no_rule_on_a_window() {
    let rule = "[[rule]]\nname = \"a\"\nsensor = \"temperature\"\nfield = \"window_max\"\n\
                above = 5\nthen = 0\n";
    // the id of the first device is sixteen zeroes
    let nobody = "00000000-0000-0000-0000-000000000000/temperature:8";
    let mut bench = Bench::with_windows(rule, nobody);
    assert_eq!(
        (bench.value(7, 9.0), bench.value(0, 9.0)),
        (vec![], vec![(6, 0.0)])
    );
    assert_eq!(bench.world.windows(), (1, 0));
    let set = RuleSet::from_toml("test", rule).unwrap();
    assert_eq!(set.check(&nobody.parse().unwrap()), Ok(()));
    let told = set.check(&"voltage:8".parse().unwrap()).unwrap_err();
    assert!(told.contains("no temperature sensor"), "{told}");
}

#[test]
fn several_rules_of_one_type_are_told_apart() {
    let warm = HOT
        .replace("hot", "warm")
        .replace("above = 90", "above = 50\nactuator = 4");
    let mut bench = Bench::new(&(HOT.to_owned() + &warm));
    assert_eq!(bench.value(0, 60.0), [(4, 0.0)]);
    assert_eq!(bench.in_force(0), 0b10);
    assert_eq!(bench.value(0, 99.0), [(6, 0.0)]);
    assert_eq!(bench.value(0, 30.0), [(6, 1.0), (4, 1.0)]);
}

#[test]
fn a_rule_that_stays_stays_in_force_and_one_that_goes_is_forgotten_without_a_command() {
    let warm = HOT
        .replace("hot", "warm")
        .replace("above = 90", "above = 50");
    let mut bench = Bench::new(&(HOT.to_owned() + &warm));
    bench.value(0, 99.0);
    assert_eq!(bench.in_force(0), 0b11);
    assert!(bench.change(&warm));
    assert_eq!(bench.cycle(), []);
    assert_eq!(bench.in_force(0), 0b10, "warm keeps its bit");
    assert_eq!(bench.commanded.of(0), 0b10);
    assert!(!bench.change(&(warm.clone() + HOT)), "nothing is forgotten");
    assert_eq!(bench.value(0, 99.0), [(6, 0.0)], "hot again");
    assert_eq!(bench.value(0, 10.0).len(), 2);
    let tallies = bench.world.rule_tallies();
    assert_eq!((tallies[0].fired, tallies[0].ended), (1, 1), "counted on");
}

#[test]
fn a_full_lane_puts_a_time_that_is_over_off_and_forgets_nothing() {
    let mut bench = Bench::new(DRY);
    bench.value(1, 10.0);
    bench.room = 0;
    for _ in 0..8 {
        assert_eq!(bench.cycle(), []);
    }
    bench.room = 1;
    assert_eq!(bench.cycle(), [(9, 42.5)]);
    assert_eq!(bench.cycle(), []);
}

#[test]
fn a_rule_that_goes_while_its_end_is_put_off_leaves_nothing_to_the_one_that_takes_its_slot() {
    let other = HOT
        .replace("hot", "other")
        .replace("above = 90", "above = 50\nactuator = 4");
    let mut bench = Bench::new(HOT);
    assert_eq!(bench.value(0, 99.0), [(6, 0.0)]);
    bench.room = 0;
    assert_eq!(bench.value(0, 10.0), [], "its end is put off");
    assert_eq!((bench.in_force(0), bench.commanded.of(0)), (0, 1));
    assert!(bench.change(&other));
    assert_eq!(bench.commanded.of(0), 0);
    bench.room = 64;
    assert_eq!(bench.cycle(), [], "the other one was never in force");
    assert_eq!(bench.value(0, 60.0), [(4, 0.0)]);
    assert_eq!(bench.value(0, 10.0), [(4, 1.0)]);
}

#[test]
fn what_is_in_force_outlives_the_world() {
    let mut bench = Bench::new(HOT);
    bench.value(0, 95.0);
    let book = armed(HOT, &mut bench.slots, &bench.commanded);
    bench.world = world(book, &bench.commanded);
    assert_eq!(bench.in_force(0), 1);
    assert_eq!(bench.value(0, 95.0), []);
    assert_eq!(bench.value(0, 10.0), [(6, 1.0)]);
}

#[test]
fn a_command_that_was_put_off_is_made_in_the_world_after() {
    let mut bench = Bench::new(HOT);
    bench.value(7, 95.0);
    bench.room = 0;
    assert_eq!(bench.value(0, 95.0), [], "a stop is put off");
    assert_eq!(bench.value(7, 10.0), [], "and a start");
    let put_off = bench.world.put_off();
    assert_eq!(put_off, [(0, 1), (7, 0)]);
    let book = armed(HOT, &mut bench.slots, &bench.commanded);
    bench.world = world(book, &bench.commanded);
    bench.world.go_on_with(&put_off);
    assert_eq!(bench.cycle(), []);
    bench.room = 1;
    assert_eq!(bench.cycle(), [(6, 0.0)], "without another value");
    assert_eq!(bench.cycle(), [(6, 1.0)]);
    assert_eq!(bench.cycle(), []);
    bench.room = 64;
    assert_eq!(bench.value(0, 10.0), [(6, 1.0)]);
}

#[test]
fn what_was_put_off_under_a_rule_that_is_gone_is_not_made_up_for() {
    let mut bench = Bench::new(HOT);
    bench.room = 0;
    bench.value(0, 95.0);
    let put_off = bench.world.put_off();
    let book = armed(DRY, &mut bench.slots, &bench.commanded);
    bench.world = world(book, &bench.commanded);
    bench.world.go_on_with(&put_off);
    bench.room = 64;
    assert_eq!((bench.cycle(), bench.in_force(0)), (vec![], 0));
}

#[test]
fn a_row_that_comes_and_goes_while_the_lane_is_full_waits_once() {
    let mut bench = Bench::new(HOT);
    bench.room = 0;
    for _ in 0..100 {
        bench.value(0, 95.0);
        bench.value(0, 10.0);
    }
    assert_eq!(bench.world.put_off(), [(0, 0)]);
    bench.value(0, 95.0);
    bench.room = 64;
    assert_eq!(bench.cycle(), [(6, 0.0)]);
    assert_eq!(bench.world.put_off(), []);
}
