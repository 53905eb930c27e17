//! A group whose cells fail again and again: it keeps to its intensity and its budget, and no cell
//! is kept down by a neighbour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{SimShards, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Clock, ExitReason, Fault,
    Flow, GroupMember, Incarnation, MailboxSpec, Message, Overflow, Time,
};
use actorsim_supervision::{Backoff, CellPolicy, IntensityScope, SupervisorPolicy};
use parking_lot::Mutex;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const CELLS: u32 = 64;
/// The first of them fail a tenth of a second after each start.
const FAILING: u32 = 8;

/// When each cell was started, by second.
type Starts = Arc<Mutex<BTreeMap<u32, Vec<u64>>>>;

struct Fickle;

enum Nothing {}

impl Message for Nothing {}

impl Cell for Fickle {
    type Msg = Nothing;
    type Shared = Starts;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let mut starts = cx.shared.lock();
        let of_cell = starts.entry(cx.ordinal).or_default();
        of_cell.push(cx.monotonic.0 / SECOND);
        drop(starts);
        if cx.ordinal < FAILING {
            cx.set_timer(0, Duration::from_millis(100));
        }
        Ok(Self)
    }

    fn handle(&mut self, nothing: Nothing, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match nothing {}
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Err(Fault::new("fails_again"))
    }
}

fn group(policy: SupervisorPolicy) -> (SimShards, SlabHandle<Fickle>, Starts) {
    let sim = SimShards::new(Clock::virtual_from(0), 1);
    let path = ActorPath::root().join("fleet");
    let starts = Starts::default();
    let spec = SlabSpec {
        supervisor: Box::new(CellPolicy::new(policy, &path).unwrap()),
        path,
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(0..CELLS).collect(),
        shared: Arc::clone(&starts),
        out: (),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(1, Overflow::Reject),
    };
    let slab = sim.shards()[0].add_slab(spec).unwrap();
    (sim, slab, starts)
}

#[test]
fn cells_that_fail_again_and_again_keep_no_neighbour_down() {
    let policy = SupervisorPolicy::default()
        .intensity(3, Duration::from_secs(5))
        .restart_budget_per_s(2);
    let (mut sim, slab, starts) = group(policy);
    sim.run_until(Time(300 * SECOND));
    let counts = slab.counts();
    assert_eq!(
        counts.running + counts.quarantined,
        u64::from(CELLS),
        "{counts:?}"
    );
    let healthy = u64::from(CELLS - FAILING);
    assert_eq!(counts.running, healthy, "who fails again is parked");
    let starts = starts.lock();
    for cell in FAILING..CELLS {
        let back = starts[&cell][1];
        assert!(back <= 40, "cell {cell} is back after {back} s");
    }
}

/// Where a cell of the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Up,
    Waits(Time),
    Down,
}

/// A group of cells as its shard has it, and every start and every decision.
struct Model {
    policy: CellPolicy,
    terms: SupervisorPolicy,
    lives: Vec<Life>,
    now: Time,
    /// Starts after the first, at any time.
    starts: Vec<Time>,
    /// Restarts of one cell since its group last started anew.
    single: Vec<(u32, Time)>,
    /// Group restarts in a row, and when the group is back from the last.
    anew: (u32, Time),
}

const PAUSE: Duration = Duration::from_secs(1);

impl Model {
    fn new(terms: &SupervisorPolicy, cells: usize) -> Self {
        Self {
            policy: CellPolicy::new(terms.clone(), &ActorPath::root().join("fleet")).unwrap(),
            terms: terms.clone(),
            lives: vec![Life::Up; cells],
            now: Time(0),
            starts: Vec::new(),
            single: Vec::new(),
            anew: (0, Time(0)),
        }
    }

    /// Time passes, and who is due starts.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut due: Vec<(Time, usize)> = Vec::new();
        for (cell, life) in self.lives.iter().enumerate() {
            if let Life::Waits(at) = life
                && *at <= self.now
            {
                due.push((*at, cell));
            }
        }
        due.sort_unstable();
        for (at, cell) in due {
            self.lives[cell] = Life::Up;
            self.starts.push(at);
        }
    }

    fn ends(&mut self, cell: usize, reason: &ExitReason) {
        if self.lives[cell] != Life::Up {
            return;
        }
        let exit = CellExit {
            ordinal: cell as u32,
            incarnation: Incarnation::FIRST,
            reason,
            in_hand: None,
            depth: 0,
            now: self.now,
        };
        let host = *reason == ExitReason::HostDown;
        self.lives[cell] = match self.policy.exited(&exit) {
            CellDecision::Restart { at } | CellDecision::Resume { at } => {
                assert!(at >= self.now);
                if !host {
                    self.single.push((cell as u32, self.now));
                    self.keeps_to_its_intensity(cell as u32);
                } else if self.anew.0 > 0 {
                    self.anew.1 = self.anew.1.max(at);
                }
                Life::Waits(at)
            }
            CellDecision::Escalate => return self.starts_anew(&exit),
            other => {
                assert!(!host, "no failure of its own: {other:?}");
                assert_eq!(other, CellDecision::Quarantine);
                let parks = self.terms.quarantine;
                assert!(parks || self.anew.0 >= self.terms.intensity.max(1));
                Life::Down
            }
        };
    }

    /// I4, on cells.
    fn keeps_to_its_intensity(&self, cell: u32) {
        let counts =
            |who: u32| self.terms.intensity_scope == IntensityScope::Supervisor || who == cell;
        let period = self.terms.period;
        let recent = self
            .single
            .iter()
            .filter(|(who, at)| counts(*who) && self.now - *at <= period);
        assert!(recent.count() <= self.terms.intensity as usize);
    }

    fn starts_anew(&mut self, exit: &CellExit<'_>) {
        let own = exit.ordinal as usize;
        let mut members: Vec<GroupMember> = Vec::new();
        for (cell, life) in self.lives.iter().enumerate() {
            let promised = match life {
                Life::Waits(at) if cell != own => Some(*at),
                Life::Down => continue,
                _ => None,
            };
            members.push(GroupMember {
                ordinal: cell as u32,
                promised,
                at: self.now + PAUSE,
            });
        }
        self.policy.group_restart(exit, &mut members);
        if self.now - self.anew.1 > self.terms.period {
            self.anew.0 = 0;
        }
        self.anew.0 += 1;
        assert!(
            self.anew.0 <= self.terms.intensity.max(1),
            "again and again"
        );
        self.single.clear();
        let order = |cell: &GroupMember| (cell.promised.unwrap_or(Time::MAX), cell.ordinal);
        assert!(members.is_sorted_by_key(order), "who waits comes first");
        assert!(members.is_sorted_by_key(|cell| cell.at));
        self.anew.1 = self.now;
        for cell in members {
            assert!(cell.at >= self.now + PAUSE);
            self.lives[cell.ordinal as usize] = Life::Waits(cell.at);
            self.anew.1 = self.anew.1.max(cell.at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_group_keeps_to_its_intensity_and_its_budget_whatever_ends(
        (intensity, period_s, child, parks) in (0_u32..4, 1_u64..20, any::<bool>(), any::<bool>()),
        per_s in prop_oneof![Just(None), (1_u32..60).prop_map(Some)],
        backs_off in any::<bool>(),
        ends in prop::collection::vec((0_usize..12, 0_u32..8, 0_u64..1_500), 1..150),
    ) {
        let period = Duration::from_secs(period_s);
        let mut terms = SupervisorPolicy::default().intensity(intensity, period);
        if child {
            terms.intensity_scope = IntensityScope::Child;
            terms.quarantine = parks;
        }
        terms.restart_budget_per_s = per_s;
        if backs_off {
            terms = terms.backoff(Backoff::default());
        }
        let mut model = Model::new(&terms, 12);
        for (cell, what, gap_ms) in ends {
            // most of them in bursts
            model.pass(Duration::from_millis(if what < 5 { gap_ms / 100 } else { gap_ms }));
            match what {
                7 => (0..12).for_each(|cell| model.ends(cell, &ExitReason::HostDown)),
                6 => (0..12).for_each(|cell| model.ends(cell, &ExitReason::Killed)),
                _ => model.ends(cell, &ExitReason::Fault(Fault::new("bad"))),
            }
        }
        model.pass(Duration::from_secs(3_600));
        let waits = |life: &Life| matches!(life, Life::Waits(_));
        prop_assert!(!model.lives.iter().any(waits), "all are back");
        if let Some(per_s) = per_s {
            model.starts.sort_unstable();
            let most = per_s as usize + per_s as usize / 10 + 2;
            for (first, start) in model.starts.iter().enumerate() {
                let second = *start + Duration::from_secs(1);
                let within = model.starts[first..].iter().filter(|at| **at < second).count();
                prop_assert!(within <= most, "{} in a second, {} allowed", within, most);
            }
        }
    }
}
