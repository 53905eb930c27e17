//! What steps cost, while somebody wants to know.

use super::*;

fn told(core: &mut ShardCore, slab: &SlabHandle<Ticker>, ms: u64) -> Option<SlabDetail> {
    let mut asked = Box::pin(slab.detail());
    assert!((&mut asked).now_or_never().is_none());
    core.step(&at(ms));
    asked.now_or_never().unwrap().unwrap()
}

#[test]
fn steps_are_counted_by_kind_and_by_cell_only_while_detail_is_on() {
    let (mut core, slab) = shard(0..3, Limits::LIVE);
    core.step(&at(0));
    assert_eq!(told(&mut core, &slab, 1), None);
    ShardHandle::new(core.port()).set_detail(true);
    slab.send(1, Nudge).unwrap();
    slab.send(1, Nudge).unwrap();
    core.step(&at(2));
    core.step(&at(10));
    let detail = told(&mut core, &slab, 11).unwrap();
    let kinds: Vec<_> = detail.kinds.iter().map(|of| (of.kind, of.steps)).collect();
    assert_eq!(kinds, [("message", 2), ("timer", 3)]);
    let cells = detail.hottest.iter().map(|of| (of.ordinal, of.steps));
    assert_eq!(cells.collect::<Vec<_>>(), [(1, 3), (0, 1), (2, 1)]);

    ShardHandle::new(core.port()).set_detail(false);
    core.step(&at(20));
    assert_eq!(told(&mut core, &slab, 21), None, "it is forgotten");
}
