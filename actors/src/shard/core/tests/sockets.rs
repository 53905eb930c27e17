//! Cells with sockets whose slab unwinds: it goes down by itself, and leaves no socket behind.

use std::net::SocketAddr;

use super::*;
use crate::exit::ExitReason;
use crate::shard::net::{Happening, SocketEvent, SocketId, Told};

/// Calls somebody, and faults when it is answered.
struct Caller;

impl Cell for Caller {
    type Msg = Nudge;
    type Shared = ();
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        cx.net().connect(peer).unwrap();
        Ok(Self)
    }

    fn handle(&mut self, _: Nudge, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn socket(
        &mut self,
        _: SocketId,
        _: SocketEvent<'_>,
        _: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        Err(Fault::new("answered"))
    }
}

/// Unwinds unless the whole slab has gone down.
struct Downs;
impl CellSupervisor for Downs {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        assert!(*exit.reason == ExitReason::HostDown);
        CellDecision::Restart { at: exit.now }
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

fn callers() -> (ShardCore, SlabHandle<Caller>) {
    let mut core = ShardCore::new(port(), Limits::LIVE);
    let spec = SlabSpec {
        path: ActorPath::root().join("callers"),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(0..2).collect(),
        shared: (),
        out: (),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(2, Overflow::Reject),
        supervisor: Box::new(Downs),
    };
    let slab = ShardHandle::new(core.port()).add_slab(spec).unwrap();
    core.step(&at(0));
    (core, slab)
}

/// Sockets that cells have, and those that have ended for them.
fn sockets(core: &ShardCore) -> (u64, u64) {
    let stats = core.net().lock().stats;
    (stats.opening + stats.open, stats.closing)
}

#[test]
fn a_slab_that_unwinds_over_a_socket_goes_down_alone() {
    let (mut core, slab) = callers();
    let told = Told {
        socket: 0,
        what: Happening::Connected,
    };
    core.hear(&at(1), told);
    assert_eq!(core.notes[0].name, "slab_down");
    core.step(&at(2));
    core.step(&at(3));
    assert_eq!((slab.counts().running, slab.counts().restarts), (2, 2));
    assert_eq!(sockets(&core), (2, 2));
}

#[test]
fn a_slab_that_is_closed_for_going_down_leaves_no_socket_behind() {
    let (mut core, slab) = callers();
    for round in 1..=4 {
        assert_eq!((slab.counts().running, sockets(&core).0), (2, 2));
        slab.kill(1).unwrap();
        core.step(&at(round * 10));
        core.step(&at(round * 10 + 5));
    }
    assert!(core.slabs.is_empty());
    assert_eq!(sockets(&core), (0, 8));
}
