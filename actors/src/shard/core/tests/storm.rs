//! Storms of faults beside cells that are well: times are given step by step.

use super::*;

/// Cells below this fault at 10 ms.
const VICTIMS: u32 = 1_000;
/// Those from there on tick at 10 ms and at 11 ms.
const WAITING: Range<u32> = VICTIMS..1_100;
/// Those tick at 11 ms only: more than one step fires, as after a step that took long.
const OTHERS: Range<u32> = 1_100..5_300;

/// Timers, in the order in which they are due.
const FIRST: u8 = 1;
const SECOND: u8 = 0;

struct Member;

impl Cell for Member {
    type Msg = Nudge;
    type Shared = ();
    type Identity = u64;
    type Out = Ticks;

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        if cx.incarnation == Incarnation::FIRST {
            if !OTHERS.contains(&cx.ordinal) {
                cx.set_timer_at(FIRST, Time(10 * MS));
            }
            if cx.ordinal >= VICTIMS {
                cx.set_timer_at(SECOND, Time(11 * MS));
            }
        }
        Ok(Self)
    }

    fn handle(&mut self, _: Nudge, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn timer(&mut self, key: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        if cx.ordinal < VICTIMS {
            return Err(Fault::new("storm"));
        }
        cx.out.0.push((cx.ordinal, u64::from(key)));
        Ok(Flow::Continue)
    }
}

fn storm(ordinals: Range<u32>) -> (ShardCore, SlabHandle<Member>) {
    let port = port();
    let spec = SlabSpec {
        path: ActorPath::root().join("members"),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(ordinals).collect(),
        shared: (),
        out: Ticks::default(),
        identity: Box::new(|_| 0),
        mailbox: MailboxSpec::new(2, Overflow::Reject),
        supervisor: Box::new(Again),
    };
    let slab = ShardHandle::new(&port).add_slab(spec).unwrap();
    let mut core = ShardCore::new(port, Limits::LIVE);
    while slab.counts().starting > 0 {
        core.step(&at(0));
    }
    (core, slab)
}

fn ticks(core: &mut ShardCore, slab: &SlabHandle<Member>, ms: u64) -> Vec<(u32, u64)> {
    let mut asked = Box::pin(slab.with_out(|out| out.0.clone()));
    assert!((&mut asked).now_or_never().is_none());
    core.step(&at(ms));
    asked.now_or_never().unwrap().unwrap()
}

#[test]
fn a_storm_of_faults_is_spread_over_steps_and_nobody_elses_timer_waits_for_its_end() {
    let (mut core, slab) = storm(0..VICTIMS);
    assert!(core.step(&at(10)).busy);
    let faults = slab.counts().faults;
    assert!((1..VICTIMS as u64 / 4).contains(&faults), "{faults}");
    let mut steps = 1;
    while core.step(&at(10)).busy {
        steps += 1;
    }
    assert!(steps > 4);
    assert_eq!(slab.counts().faults, u64::from(VICTIMS));
    assert_eq!(slab.counts().running, u64::from(VICTIMS));
}

#[test]
fn what_becomes_due_in_a_storm_fires_with_it_and_a_cells_own_timers_keep_their_order() {
    let (mut core, slab) = storm(0..OTHERS.end);
    assert!(core.step(&at(10)).busy);
    (0..3).for_each(|_| assert!(core.step(&at(11)).busy));
    let seen = ticks(&mut core, &slab, 11);
    let expected: Vec<_> = OTHERS.map(|ordinal| (ordinal, u64::from(SECOND))).collect();
    assert!(
        seen == expected,
        "{} have fired: not those that are due with the victims, nor behind them",
        seen.len()
    );
    assert!(
        slab.counts().faults < u64::from(VICTIMS),
        "the storm goes on"
    );
    while core.step(&at(11)).busy {}
    let seen = ticks(&mut core, &slab, 12);
    for ordinal in WAITING {
        let of_cell = seen.iter().filter(|tick| tick.0 == ordinal);
        let of_cell: Vec<u64> = of_cell.map(|tick| tick.1).collect();
        assert_eq!(of_cell, [FIRST, SECOND].map(u64::from));
    }
}
