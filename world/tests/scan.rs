//! The scan as an actor: rates, overruns, systems of a program, a cycle that never ends, a grid
//! that changes.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, in its tools too")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use actorsim_actors::{ActorPath, Addr, Clock, MailboxSpec, Overflow, System};
use actorsim_supervision::{Strategy, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::{Sessions, TransportStats};
use actorsim_world::rules::RuleSet;
use actorsim_world::scan::OnWedged;
use actorsim_world::scan::clock::now_ns;
use actorsim_world::scan::overrun::{OverrunPolicy, RECOVER_AFTER};
use actorsim_world::scan::stats::CycleRecord;
use actorsim_world::systems::{OwnRun, OwnSystem};
use actorsim_world::{Outlets, ScanConfig, SystemId, Twin, TwinConfig, twin_children};

const PATIENCE: Duration = Duration::from_secs(60);
const PERIOD: Duration = Duration::from_millis(2);

struct Rig {
    system: System,
    root: SupervisorRef,
    twin: Twin,
    records: Arc<Mutex<Vec<CycleRecord>>>,
}

impl Rig {
    async fn with(change: impl FnOnce(&mut ScanConfig)) -> Self {
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let mut scan = ScanConfig {
            period: PERIOD,
            fifo: false,
            pin: false,
            lock_memory: false,
            capacity: 64,
            capacity_max: 64,
            ..ScanConfig::default()
        };
        change(&mut scan);
        let config = TwinConfig {
            scan,
            ..TwinConfig::default()
        };
        let twin = Twin::new(config, system.clock().clone()).unwrap();
        let records: Arc<Mutex<Vec<CycleRecord>>> = Arc::default();
        let kept = Arc::clone(&records);
        twin.on_cycle(Box::new(move |record| kept.lock().unwrap().push(*record)));
        let spec = MailboxSpec::new(16, Overflow::Reject);
        let outlets = Outlets {
            commands: Addr::new(ActorPath::root().join("tier-t3"), spec),
            sessions: Sessions::new(),
            stats: TransportStats::new(),
            runtime: None,
        };
        let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(30, PATIENCE);
        let spec = SupervisorSpec::new(ActorPath::root(), policy.clone())
            .child(twin_children(&twin, outlets, policy));
        let root = start_root(&system, spec).await.unwrap();
        Self {
            system,
            root,
            twin,
            records,
        }
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let met = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let met = tokio::time::timeout(PATIENCE, met).await;
        met.expect("the condition is met in time");
    }

    async fn cycles(&self, more: u64) {
        let until = self.twin.snapshot().cycles + more;
        self.until(|rig| rig.twin.snapshot().cycles >= until).await;
    }

    fn told(&self, name: &str) -> bool {
        let events = self.system.events().last(256);
        events.iter().any(|event| event.name == name)
    }

    /// The records so far.
    fn records(&self) -> Vec<CycleRecord> {
        let _ = self.twin.times();
        self.records.lock().unwrap().clone()
    }
}

fn own(name: &'static str, every: u32, after: &[&'static str], run: OwnRun) -> OwnSystem {
    let run = Mutex::new(Some(run));
    OwnSystem {
        name,
        every,
        after: after.to_vec(),
        make: Arc::new(move || match run.lock().unwrap().take() {
            Some(run) => run,
            None => Box::new(|_| Ok(())), // a later world
        }),
    }
}

/// A system that leaves its name in a log.
fn logs(log: &Arc<Mutex<Vec<&'static str>>>, name: &'static str) -> OwnRun {
    let log = Arc::clone(log);
    Box::new(move |_| {
        log.lock().unwrap().push(name);
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_and_a_diamond_run_in_the_order_of_what_they_depend_on() {
    let log: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let rig = Rig::with(|scan| {
        // a chain: first -> second -> third; a diamond: top -> (left, right) -> bottom
        let all: [(&'static str, &[&'static str]); 7] = [
            ("first", &["ingest"]),
            ("top", &["diagnostics"]),
            ("second", &["first"]),
            ("left", &["top"]),
            ("third", &["second", "automation"]),
            ("right", &["top"]),
            ("bottom", &["left", "right"]),
        ];
        for (name, after) in all {
            scan.own.add(own(name, 1, after, logs(&log, name))).unwrap();
        }
    })
    .await;
    rig.cycles(3).await;
    rig.root.stop().await;
    let log = log.lock().unwrap();
    for cycle in log.chunks_exact(7) {
        let at = |name| cycle.iter().position(|ran| *ran == name).unwrap();
        assert!(
            at("first") < at("second") && at("second") < at("third"),
            "{cycle:?}"
        );
        let (left, right) = (at("left"), at("right"));
        assert!(at("top") < left.min(right), "{cycle:?}");
        assert!(left.max(right) < at("bottom"), "{cycle:?}");
    }
    let systems = rig.twin.report().scan.systems;
    assert!(systems["bottom"].took_us.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn systems_keep_their_own_rates_in_phase() {
    let log: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let rig = Rig::with(|scan| {
        scan.own
            .add(own("slow", 4, &[], logs(&log, "slow")))
            .unwrap();
        scan.walk_every = 2;
    })
    .await;
    rig.cycles(40).await;
    rig.root.stop().await;
    let (slow, walk) = (SystemId::Own(0), SystemId::Export);
    let records = rig.records();
    // slots that passed before the first cycle count too
    let (due, passed) = (records[0].ts_ns - records[0].late_ns, records[0].skipped);
    let first = due - passed * records[0].period_ns;
    for record in &records[1..] {
        let slot = (record.ts_ns - record.late_ns - first) / record.period_ns;
        let passed = |every: u64| slot / every > (slot - 1 - record.skipped) / every;
        assert_eq!(record.has_run(slow), passed(4), "slot {slot}");
        assert_eq!(record.has_run(walk), passed(2), "slot {slot}");
        assert!(record.has_run(SystemId::Ingest), "slot {slot}");
        let own = record.systems_ns[slow.index()].is_some();
        assert_eq!(
            own,
            passed(4),
            "one of a program's is timed whenever it runs"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_system_that_fails_is_isolated_under_its_name_and_the_first_error_stays() {
    let rig = Rig::with(|scan| {
        let mut runs = 0;
        let run: OwnRun = Box::new(move |_| {
            runs += 1;
            if runs == 5 {
                Err("out of paper".to_owned())
            } else {
                Ok(())
            }
        });
        scan.own.add(own("printer", 1, &[], run)).unwrap();
    })
    .await;
    rig.until(|rig| {
        let scan = rig.twin.report().scan;
        scan.first_error.is_some() && !scan.systems["printer"].enabled
    })
    .await;
    let scan = rig.twin.report().scan;
    assert!(scan.systems["ingest"].enabled);
    let first = scan.first_error.unwrap().error;
    assert!(
        first.contains("printer") && first.contains("out of paper"),
        "{first}"
    );
    assert!(rig.told("system_isolated"));
    rig.twin.panic(SystemId::Export).await.unwrap();
    rig.until(|rig| rig.twin.snapshot().incarnations == 2).await;
    let scan = rig.twin.report().scan;
    assert_eq!(
        scan.first_error.unwrap().error,
        first,
        "the first, not the last"
    );
    assert!(
        scan.systems.values().all(|system| system.enabled),
        "rebuilt"
    );
    rig.root.stop().await;
}

/// What the twin has published, as each cycle finds it.
type Seen = Arc<Mutex<Vec<(u64, u64)>>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_faulted_cycle_is_not_published_and_the_next_good_one_is() {
    let (twin, seen): (Arc<OnceLock<Twin>>, Seen) = Default::default();
    let (watched, log) = (Arc::clone(&twin), Arc::clone(&seen));
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let rig = Rig::with(move |scan| {
        let looks: OwnRun = Box::new(move |_| {
            if let Some(twin) = watched.get() {
                let found = twin.snapshot();
                log.lock().unwrap().push((found.cycles, found.faulted));
            }
            Ok(())
        });
        scan.own.add(own("looks", 1, &[], looks)).unwrap();
        let fails: OwnRun = Box::new(move |_| match failing.load(Ordering::Relaxed) {
            true => Err("out of paper".to_owned()),
            false => Ok(()),
        });
        scan.own.add(own("fails", 1, &[], fails)).unwrap();
    })
    .await;
    twin.set(rig.twin.clone()).unwrap();
    rig.cycles(3).await;
    fails.store(true, Ordering::Relaxed);
    rig.until(|rig| rig.twin.snapshot().faulted == 1).await;
    rig.cycles(3).await;
    rig.root.stop().await;
    let seen = seen.lock().unwrap();
    // a cycle finds what the one before it published
    let steps: Vec<_> = seen.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let faulted = steps.iter().position(|step| *step == 0).unwrap();
    assert_eq!(steps[faulted + 1], 2, "both, once the next one was good");
    let others = [&steps[..faulted], &steps[faulted + 2..]].concat();
    assert!(
        others.len() >= 4 && others.iter().all(|step| *step == 1),
        "{steps:?}"
    );
    let told = seen.iter().map(|(_, faulted)| *faulted);
    let before = told.take_while(|faulted| *faulted == 0).count();
    assert_eq!(before, faulted + 2, "nor is the fault told before");
}

/// A system that takes longer than a period as long as it is told to.
fn dawdles(slow: &Arc<AtomicBool>) -> OwnRun {
    let slow = Arc::clone(slow);
    Box::new(move |_| {
        if slow.load(Ordering::Relaxed) {
            std::thread::park_timeout(PERIOD * 2);
        }
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overrun_sheds_what_is_not_essential_until_cycles_fit_again() {
    let slow = Arc::new(AtomicBool::new(false));
    let rig = Rig::with(|scan| {
        scan.overrun = OverrunPolicy::Fallback;
        scan.own.add(own("slow", 1, &[], dawdles(&slow))).unwrap();
    })
    .await;
    slow.store(true, Ordering::Relaxed);
    rig.until(|rig| rig.twin.snapshot().in_fallback).await;
    slow.store(false, Ordering::Relaxed);
    rig.until(|rig| !rig.twin.snapshot().in_fallback && rig.told("scan_recovered"))
        .await;
    assert!(rig.told("scan_fallback"));
    rig.root.stop().await;
    let snapshot = rig.twin.snapshot();
    assert!(snapshot.fallbacks >= 1);
    assert!(snapshot.fallback_cycles >= u64::from(RECOVER_AFTER));
    let shed = rig.records().into_iter().filter(|record| record.fallback);
    for record in shed {
        let ran = [SystemId::Ingest, SystemId::Own(0), SystemId::Export].map(|s| record.has_run(s));
        assert_eq!(ran, [true, false, false]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overruns_in_a_row_end_an_incarnation_where_that_is_the_policy() {
    let slow = Arc::new(AtomicBool::new(true));
    let rig = Rig::with(|scan| {
        scan.overrun = OverrunPolicy::Fault;
        scan.own.add(own("slow", 1, &[], dawdles(&slow))).unwrap();
    })
    .await;
    // the next world's system is quick, as far as the host is
    rig.until(|rig| rig.twin.snapshot().incarnations >= 2).await;
    rig.cycles(5).await;
    let scan = rig.twin.report().scan;
    let first = scan.first_error.unwrap().error;
    assert!(first.contains("3 cycles in a row overran"), "{first}");
    assert!(scan.overruns >= 3);
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overruns_are_only_counted_where_that_is_the_policy() {
    let slow = Arc::new(AtomicBool::new(true));
    let rig = Rig::with(|scan| {
        scan.own.add(own("slow", 1, &[], dawdles(&slow))).unwrap();
    })
    .await;
    rig.until(|rig| rig.twin.snapshot().overruns >= 5).await;
    let snapshot = rig.twin.snapshot();
    assert_eq!((snapshot.incarnations, snapshot.fallbacks), (1, 0));
    assert!(snapshot.skipped > 0, "slots that passed meanwhile");
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_that_never_ends_is_told_and_the_process_is_left_to_its_owner() {
    let stuck = Arc::new(AtomicBool::new(false));
    let told = Arc::new(AtomicU64::new(0));
    let (holds, counts) = (Arc::clone(&stuck), Arc::clone(&told));
    // longer than a busy host keeps a thread from a core
    let patience = Duration::from_secs(2);
    let rig = Rig::with(|scan| {
        scan.watchdog = Some(patience);
        scan.on_wedged = Some(OnWedged(Arc::new(move |wedged| {
            assert!(wedged.took >= patience);
            counts.fetch_add(1, Ordering::Relaxed);
        })));
        let run: OwnRun = Box::new(move |_| {
            while holds.load(Ordering::Relaxed) {
                std::thread::park_timeout(PERIOD);
            }
            Ok(())
        });
        scan.own.add(own("stuck", 1, &[], run)).unwrap();
    })
    .await;
    rig.cycles(5).await;
    assert_eq!(told.load(Ordering::Relaxed), 0);
    stuck.store(true, Ordering::Relaxed);
    rig.until(|_| told.load(Ordering::Relaxed) == 1).await;
    stuck.store(false, Ordering::Relaxed);
    rig.until(|rig| rig.told("scan_wedged")).await;
    let scan = rig.twin.report().scan;
    assert_eq!((scan.wedged, scan.incarnations), (1, 1), "no second world");
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_time_scan_that_never_ends_a_cycle_in_time_leaves_its_core_to_others() {
    let rig = Rig::with(|scan| {
        (scan.fifo, scan.priority) = (true, 1);
        let run: OwnRun = Box::new(|_| {
            let until = now_ns() + 2 * PERIOD.as_nanos() as u64;
            while now_ns() < until {
                std::hint::spin_loop();
            }
            Ok(())
        });
        scan.own.add(own("busy", 1, &[], run)).unwrap();
    })
    .await;
    if !rig.twin.host().unwrap().is_real_time() {
        eprintln!("skipped: this host grants no real-time class");
        rig.root.stop().await;
        return;
    }
    rig.until(|rig| rig.told("scan_rests") && rig.twin.snapshot().core_share.is_some())
        .await;
    let scan = rig.twin.report().scan;
    assert!(scan.rests > 0 && scan.skipped > 0, "{scan:?}");
    // of a second, with what may be owed and two long cycles
    assert!(scan.core_share < Some(0.95), "{:?}", scan.core_share);
    rig.root.stop().await;
}

/// A place where a thread hangs until it is let go.
#[derive(Clone, Default)]
struct Trap(Arc<AtomicBool>);

impl Trap {
    fn holds(&self) {
        while !self.0.load(Ordering::Relaxed) {
            std::thread::park_timeout(PERIOD);
        }
    }

    fn lets_go(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A scan with this system, which hangs, until it is told that it does as expected.
async fn hangs(patience: Duration, building: bool, trap: Trap, system: OwnSystem) -> Rig {
    let (told, mut tells) = tokio::sync::mpsc::channel(16);
    let rig = Rig::with(|scan| {
        scan.watchdog = Some(patience);
        scan.on_wedged = Some(OnWedged(Arc::new(move |wedged| {
            let _ = told.try_send(wedged.clone());
        })));
        scan.own.add(system).unwrap();
    });
    let lets_go = async {
        // a busy host may keep a thread from a core for longer than a short patience
        while tells.recv().await.unwrap().building != building {}
        trap.lets_go();
    };
    let (rig, ()) = tokio::join!(rig, lets_go);
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_hangs_in_its_first_call_is_told() {
    let trap = Trap::default();
    let held = trap.clone();
    let run: OwnRun = Box::new(move |_| {
        held.holds();
        Ok(())
    });
    let rig = hangs(
        Duration::from_secs(1),
        false,
        trap,
        own("stuck", 1, &[], run),
    )
    .await;
    assert!(rig.told("scan_wedged"));
    rig.cycles(1).await;
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_that_never_ends_is_told_though_its_actor_was_killed_meanwhile() {
    let trap = Trap::default();
    let [armed, stuck, told] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
    let (held, is_armed) = (trap.clone(), Arc::clone(&armed));
    let (sticks, is_stuck, is_told) = (Arc::clone(&stuck), Arc::clone(&stuck), Arc::clone(&told));
    let rig = Rig::with(|scan| {
        scan.watchdog = Some(Duration::from_secs(1));
        scan.on_wedged = Some(OnWedged(Arc::new(move |_| {
            is_told.fetch_or(is_stuck.load(Ordering::Acquire), Ordering::AcqRel);
        })));
        let run: OwnRun = Box::new(move |_| {
            if is_armed.load(Ordering::Acquire) {
                sticks.store(true, Ordering::Release);
                held.holds();
            }
            Ok(())
        });
        scan.own.add(own("stuck", 1, &[], run)).unwrap();
    })
    .await;
    armed.store(true, Ordering::Release);
    rig.until(|_| stuck.load(Ordering::Acquire)).await;
    // its watchdog goes with it, before the time is over
    let path = ActorPath::new("/twin/scan").unwrap();
    rig.system.census().task(&path).unwrap().kill();
    rig.until(|_| told.load(Ordering::Acquire)).await;
    trap.lets_go();
    rig.until(|rig| rig.twin.snapshot().incarnations >= 2).await;
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_that_is_never_built_is_told() {
    let trap = Trap::default();
    let held = trap.clone();
    let system = OwnSystem {
        make: Arc::new(move || {
            held.holds();
            Box::new(|_| Ok(()))
        }),
        ..own("stuck", 1, &[], Box::new(|_| Ok(())))
    };
    let rig = hangs(Duration::from_millis(100), true, trap, system).await;
    let scan = rig.twin.report().scan;
    let first = scan.first_error.unwrap().error;
    assert!(first.contains("building the world"), "{first}");
    rig.cycles(1).await;
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_period_is_kept_from_the_next_slot_on_and_over_a_restart() {
    let rig = Rig::with(|_| {}).await;
    rig.cycles(5).await;
    let other = Duration::from_millis(3);
    rig.twin.set_pace(Some(other), Some(4)).await.unwrap();
    rig.cycles(10).await;
    rig.twin.panic(SystemId::Ingest).await.unwrap();
    rig.until(|rig| rig.twin.snapshot().incarnations == 2).await;
    rig.cycles(10).await;
    let report = rig.twin.report().scan;
    assert_eq!((rig.twin.period(), report.walk_every), (other, 4));
    rig.root.stop().await;
    let records = rig.records();
    let at = records
        .iter()
        .position(|record| record.period_ns == 3_000_000)
        .unwrap();
    assert_eq!(
        records[at].jitter_ns, None,
        "between two grids nothing is nominal"
    );
    for grid in [&records[..at], &records[at..]] {
        for pair in grid.windows(2) {
            let due = |record: &CycleRecord| record.ts_ns - record.late_ns;
            let slots = (due(&pair[1]) - due(&pair[0])) / pair[1].period_ns;
            assert_eq!(slots, 1 + pair[1].skipped, "each slot is run or counted");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_change_while_the_scan_runs() {
    let rig = Rig::with(|_| {}).await;
    rig.cycles(2).await;
    let text = "[[rule]]\nname = \"hot\"\nsensor = \"temperature\"\nabove = 90\nthen = 0\n";
    let set = RuleSet::from_toml("test", text).unwrap();
    rig.twin.set_rules(set.clone()).await.unwrap();
    assert_eq!(rig.twin.rules(), set);
    rig.cycles(2).await;
    let rules = rig.twin.report().rules;
    assert_eq!(rules.keys().collect::<Vec<_>>(), ["hot"]);
    assert_eq!(
        rig.twin.snapshot().maintenance,
        1,
        "rows forgot the shipped rule"
    );
    rig.root.stop().await;
}
