//! Periodic timers on a host that stalls: times are given step by step.

use super::*;
use crate::cell::MissedTicks;

/// Ticks each 10 ms from 10 ms on; writes down when it was due, when it came and what it missed.
struct Metronome;

#[derive(Default)]
struct Beats(Vec<(u64, u64, u64)>);

impl Outbox for Beats {
    type Mark = usize;
    fn mark(&self) -> usize {
        self.0.len()
    }
    fn cut(&mut self, mark: usize) {
        self.0.truncate(mark);
    }
    fn flush(&mut self, _: Time) -> Option<Time> {
        None
    }
}

impl Cell for Metronome {
    type Msg = Nudge;
    type Shared = MissedTicks;
    type Identity = u64;
    type Out = Beats;

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let period = Duration::from_millis(10);
        assert!(cx.set_periodic(0, cx.now + period, period, *cx.shared));
        Ok(Self)
    }

    fn handle(&mut self, _: Nudge, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        assert!(cx.cancel_timer(0));
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        cx.out.0.push((cx.due.0 / MS, cx.now.0 / MS, cx.missed));
        Ok(Flow::Continue)
    }
}

fn metronome(missed: MissedTicks, limits: Limits) -> (ShardCore, SlabHandle<Metronome>) {
    let port = port();
    let spec = SlabSpec {
        path: ActorPath::root().join("metronomes"),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(0..1).collect(),
        shared: missed,
        out: Beats::default(),
        identity: Box::new(|_| 0),
        mailbox: MailboxSpec::new(2, Overflow::Reject),
        supervisor: Box::new(Never),
    };
    let slab = ShardHandle::new(&port).add_slab(spec).unwrap();
    (ShardCore::new(port, limits), slab)
}

fn beats(core: &mut ShardCore, slab: &SlabHandle<Metronome>, ms: u64) -> Vec<(u64, u64, u64)> {
    let mut asked = Box::pin(slab.with_out(|out| out.0.clone()));
    assert!((&mut asked).now_or_never().is_none());
    core.step(&at(ms));
    asked.now_or_never().unwrap().unwrap()
}

/// What a host that stalls from 12 ms to 45 ms makes of a period of 10 ms, until 61 ms.
fn stalled(missed: MissedTicks) -> (Vec<(u64, u64, u64)>, u64) {
    let (mut core, slab) = metronome(missed, Limits::LIVE);
    for ms in (0..=12).chain(45..=61) {
        while core.step(&at(ms)).busy {}
    }
    let beats = beats(&mut core, &slab, 61);
    (beats, slab.counts().ticks_missed)
}

#[test]
fn a_burst_makes_up_every_tick_at_once_and_returns_to_its_grid() {
    let made_up = [(20, 45, 0), (30, 45, 0), (40, 45, 0)];
    let (beats, missed) = stalled(MissedTicks::Burst);
    let on_time = [(50, 50, 0), (60, 60, 0)];
    assert_eq!(beats, [&[(10, 10, 0)][..], &made_up, &on_time].concat());
    assert_eq!(missed, 0);
}

#[test]
fn a_skip_counts_the_ticks_that_passed_and_keeps_its_grid() {
    let (beats, missed) = stalled(MissedTicks::Skip);
    assert_eq!(beats, [(10, 10, 0), (20, 45, 2), (50, 50, 0), (60, 60, 0)]);
    assert_eq!(missed, 2);
}

#[test]
fn a_delay_counts_the_ticks_that_passed_and_moves_its_grid() {
    let (beats, missed) = stalled(MissedTicks::Delay);
    assert_eq!(beats, [(10, 10, 0), (20, 45, 2), (55, 55, 0)]);
    assert_eq!(missed, 2);
}

#[test]
fn a_burst_above_the_limit_of_a_step_goes_on_in_the_next_and_can_be_cancelled() {
    let limits = Limits {
        timers: 4,
        ..Limits::LIVE
    };
    let (mut core, slab) = metronome(MissedTicks::Burst, limits);
    core.step(&at(0));
    assert!(core.step(&at(1_000)).busy);
    assert_eq!(slab.counts().timers_fired, 4);
    slab.send(0, Nudge).unwrap();
    while core.step(&at(1_000)).busy {}
    assert_eq!((slab.counts().timers_fired, slab.counts().timers), (8, 0));
}
