//! The cells of one population on one shard: a typed slab behind the object-safe [`AnySlab`].
//!
//! Cells lie in ordinal order in groups of 256. A slot costs 24 bytes beside the cell and its
//! identity (mailbox pointer, incarnation, timer list, counter, state), a live timer 32 more; names
//! are computed, mailboxes allocated when the first message waits, books kept for the whole slab. A
//! key is `group index << 8 | place in the group`. It runs nothing by itself: see [`steps`].
//! Bounds: [`Limits`] for each phase of a step; what waits is bounded by queues and mailboxes.

mod exits;
pub(super) mod steps;

use std::collections::VecDeque;
use std::sync::Arc;

use super::core::Note;
use super::guard;
use super::handle::{Board, Control};
use super::inbox::Queue;
use super::spec::{CellInfo, CellState, GROUP_SIZE, SlabCounts, SlabSpec};
use super::wheel::{Due, NIL, Wheel};
use crate::cell::{Cell, CellSupervisor};
use crate::clock::Time;
use crate::exit::{ExitReason, Incarnation};
use crate::mailbox::{Books, MailboxSpec, Ring};

/// Empty mailboxes kept for the next cell that gets a message: as many as one step visits.
const POOL_MAX: usize = 1_024;

/// Last exits remembered for `info`.
const RECENT_MAX: usize = 256;

/// What one step of a slab may do at most, so that timers, messages and requests take turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Timer steps.
    pub(crate) timers: usize,
    /// Starts and restarts.
    pub(crate) starts: usize,
    /// Messages moved from pair queues into mailboxes.
    pub(crate) deliveries: usize,
    /// Cells visited that have messages.
    pub(crate) visits: usize,
    /// Messages of one cell per visit.
    pub(crate) budget: usize,
}

impl Limits {
    /// On a thread: about a millisecond of small steps, then time is read again.
    pub(crate) const LIVE: Self = Self {
        timers: 4_096,
        starts: 2_048,
        deliveries: 4_096,
        visits: 1_024,
        budget: 16,
    };
    /// In virtual time nothing waits, and the order of a cell's steps must not depend on how many
    /// cells share its shard: each phase runs to its end.
    pub(crate) const SIM: Self = Self {
        timers: usize::MAX,
        starts: usize::MAX,
        deliveries: usize::MAX,
        visits: usize::MAX,
        budget: 16,
    };
}

/// The times of one step, read once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Simulated.
    pub(crate) now: Time,
    /// Never scaled.
    pub(crate) monotonic: Time,
    /// Stamp of `now`.
    pub(crate) unix_us: u64,
    /// Simulated nanoseconds after which a timer counts as late.
    pub(crate) late_ns: u64,
}

/// What a step asks of its driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// There is more to do now.
    pub(crate) busy: bool,
    /// Step again by this simulated time.
    pub(crate) next: Option<Time>,
    /// Step again by this monotonic time.
    pub(crate) next_monotonic: Option<Time>,
}

pub(crate) fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Effects {
    pub(crate) fn merge(self, other: Self) -> Self {
        Self {
            busy: self.busy | other.busy,
            next: earlier(self.next, other.next),
            next_monotonic: earlier(self.next_monotonic, other.next_monotonic),
        }
    }
}

/// A slab, whatever its cells are.
pub(crate) trait AnySlab {
    /// Does what is due, within the limits.
    fn step(&mut self, at: &Moment, limits: &Limits) -> Effects;
    /// Stops all cells in order, flushes, refuses everything from now on.
    fn stop(&mut self, at: &Moment);
    /// Whether it has been stopped.
    fn is_closed(&self) -> bool;
    /// Moves out what happened, for the operator.
    fn notes(&mut self, into: &mut Vec<Note>);
}

/// Counters as handles read them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    pub(crate) books: Books,
    pub(crate) counts: SlabCounts,
}

struct Slot<C: Cell> {
    mailbox: Option<Box<Ring<C::Msg>>>,
    incarnation: Incarnation,
    /// Its timers; while it waits for a restart, the entry in the wheel of restarts.
    timers: u32,
    handled: u32,
    state: CellState,
    /// Whether it is in the run queue.
    queued: bool,
    identity: C::Identity,
    cell: Option<C>,
}

/// What a slot costs beside its cell and its identity, for the test that holds it down.
#[cfg(test)]
pub(crate) const SLOT_OVERHEAD: usize = {
    struct Blank;
    impl Cell for Blank {
        type Msg = Never;
        type Shared = ();
        type Identity = u64;
        type Out = ();
        fn start(_: &mut crate::CellContext<'_, Self>) -> Result<Self, crate::Fault> {
            Ok(Self)
        }
        fn handle(
            &mut self,
            _: Never,
            _: &mut crate::CellContext<'_, Self>,
        ) -> Result<crate::Flow, crate::Fault> {
            Ok(crate::Flow::Stop)
        }
        fn timer(
            &mut self,
            _: u8,
            _: &mut crate::CellContext<'_, Self>,
        ) -> Result<crate::Flow, crate::Fault> {
            Ok(crate::Flow::Stop)
        }
    }
    enum Never {}
    impl crate::Message for Never {}
    size_of::<Slot<Blank>>() - size_of::<u64>() - size_of::<Option<Blank>>()
};

struct Group<C: Cell> {
    first: u32,
    slots: Box<[Slot<C>]>,
}

struct LaneEnd<M> {
    queue: Arc<Queue<(u32, M)>>,
    taken: VecDeque<(u32, M)>,
}

pub(crate) struct Slab<C: Cell> {
    board: Arc<Board<C>>,
    groups: Vec<Group<C>>,
    shared: C::Shared,
    out: C::Out,
    mailbox: MailboxSpec,
    supervisor: Box<dyn CellSupervisor>,
    wheel: Wheel,
    restarts: Wheel,
    due: Vec<Due>,
    due_next: usize,
    run: VecDeque<u32>,
    /// To be started as soon as possible.
    ready: VecDeque<u32>,
    /// The next cell to be started for the first time.
    fresh: (usize, usize),
    lanes: Vec<LaneEnd<C::Msg>>,
    control: VecDeque<Control<C>>,
    #[expect(clippy::vec_box, reason = "mailboxes move between slots by pointer")]
    pool: Vec<Box<Ring<C::Msg>>>,
    books: Books,
    waiting: u64,
    counts: SlabCounts,
    recent: VecDeque<(u32, ExitReason)>,
    notes: Vec<Note>,
    notes_lost: u64,
    /// A cell or a caller may have written output since the last flush.
    touched: bool,
    /// Something the board shows has changed.
    changed: bool,
    flush_at: Option<Time>,
    closed: bool,
}

const fn split(key: u32) -> (usize, usize) {
    ((key / GROUP_SIZE) as usize, (key % GROUP_SIZE) as usize)
}

const fn join(group: usize, place: usize) -> u32 {
    group as u32 * GROUP_SIZE + place as u32
}

impl<C: Cell> Slab<C> {
    /// Builds the slab on its shard's thread; the cells are started by its first steps.
    pub(crate) fn new(spec: SlabSpec<C>, board: Arc<Board<C>>, at: &Moment) -> Self {
        let SlabSpec {
            shared,
            out,
            mut identity,
            mailbox,
            supervisor,
            ..
        } = spec;
        let mut groups = Vec::new();
        for range in board.ordinals() {
            let mut first = range.start;
            while first < range.end {
                let end = (first - first % GROUP_SIZE)
                    .saturating_add(GROUP_SIZE)
                    .min(range.end);
                let slots = (first..end)
                    .map(|ordinal| Slot {
                        mailbox: None,
                        incarnation: Incarnation(0),
                        timers: NIL,
                        handled: 0,
                        state: CellState::New,
                        queued: false,
                        identity: identity(ordinal),
                        cell: None,
                    })
                    .collect();
                groups.push(Group { first, slots });
                first = end;
            }
        }
        let cells = groups.iter().map(|group| group.slots.len() as u64).sum();
        let lane = LaneEnd {
            queue: board.first_lane(),
            taken: VecDeque::new(),
        };
        Self {
            board,
            groups,
            shared,
            out,
            mailbox,
            supervisor,
            wheel: Wheel::new(at.now),
            restarts: Wheel::new(at.monotonic),
            due: Vec::new(),
            due_next: 0,
            run: VecDeque::new(),
            ready: VecDeque::new(),
            fresh: (0, 0),
            lanes: vec![lane],
            control: VecDeque::new(),
            pool: Vec::new(),
            books: Books::default(),
            waiting: 0,
            counts: SlabCounts {
                cells,
                starting: cells,
                ..SlabCounts::default()
            },
            recent: VecDeque::new(),
            notes: Vec::new(),
            notes_lost: 0,
            touched: false,
            changed: true,
            flush_at: None,
            closed: false,
        }
    }

    /// Key of an ordinal, if it is on this shard.
    fn find(&self, ordinal: u32) -> Option<u32> {
        let index = self
            .groups
            .partition_point(|g| g.first <= ordinal)
            .checked_sub(1)?;
        let place = (ordinal - self.groups[index].first) as usize;
        (place < self.groups[index].slots.len()).then(|| join(index, place))
    }

    fn slot(&mut self, key: u32) -> &mut Slot<C> {
        let (group, place) = split(key);
        &mut self.groups[group].slots[place]
    }

    fn ordinal(&self, key: u32) -> u32 {
        let (group, place) = split(key);
        self.groups[group].first + place as u32
    }

    fn counter(&mut self, state: CellState) -> &mut u64 {
        match state {
            CellState::New => &mut self.counts.starting,
            CellState::Running => &mut self.counts.running,
            CellState::Restarting => &mut self.counts.restarting,
            CellState::Stopped => &mut self.counts.stopped,
            CellState::Quarantined => &mut self.counts.quarantined,
        }
    }

    fn set_state(&mut self, key: u32, state: CellState) {
        let before = std::mem::replace(&mut self.slot(key).state, state);
        *self.counter(before) -= 1;
        *self.counter(state) += 1;
        self.changed = true;
    }

    fn info(&self, ordinal: u32) -> Option<CellInfo> {
        let (group, place) = split(self.find(ordinal)?);
        let slot = &self.groups[group].slots[place];
        let timers = match slot.state {
            CellState::Running => self.wheel.count(slot.timers),
            _ => 0,
        };
        let depth = slot.mailbox.as_ref().map_or(0, |ring| ring.len());
        let last_exit = self.recent.iter().rev().find(|(o, _)| *o == ordinal);
        Some(CellInfo {
            ordinal,
            incarnation: slot.incarnation,
            state: slot.state,
            depth: u32::try_from(depth).unwrap_or(u32::MAX),
            handled: slot.handled,
            timers,
            last_exit: last_exit.map(|(_, reason)| reason.to_string()),
        })
    }

    /// Ordinals in state `state` among the groups `from..from + n`, and whether there are more
    /// groups.
    fn select(&self, state: CellState, from: usize, n: usize) -> (Vec<u32>, bool) {
        let end = from.saturating_add(n).min(self.groups.len());
        let ordinals = self.groups[from.min(end)..end]
            .iter()
            .flat_map(|group| {
                let places = group.slots.iter().zip(group.first..);
                places
                    .filter(|(slot, _)| slot.state == state)
                    .map(|(_, ordinal)| ordinal)
            })
            .collect();
        (ordinals, end < self.groups.len())
    }

    /// Makes the counters visible to handles.
    fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        self.counts.timers = self.wheel.len() as u64;
        let report = Report {
            books: self.books.with_waiting(self.waiting),
            counts: self.counts,
        };
        self.board.publish(report);
    }
}

impl<C: Cell> AnySlab for Slab<C> {
    fn step(&mut self, at: &Moment, limits: &Limits) -> Effects {
        let mut busy = self.requests(at);
        if self.closed {
            self.publish();
            return Effects::default();
        }
        busy |= self.fire_timers(at, limits);
        busy |= self.start_cells(at, limits);
        busy |= self.deliver(limits);
        busy |= self.run_cells(at, limits);
        busy |= !self.ready.is_empty();
        self.flush(at);
        self.publish();
        Effects {
            busy,
            next: self.wheel.next_at(),
            next_monotonic: earlier(self.restarts.next_at(), self.flush_at),
        }
    }

    fn stop(&mut self, at: &Moment) {
        self.stop_all(at);
        self.publish();
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn notes(&mut self, into: &mut Vec<Note>) {
        self.tell_lost_notes();
        into.append(&mut self.notes);
    }
}

/// A shard whose thread died leaves no sender waiting and no message unbooked.
impl<C: Cell> Drop for Slab<C> {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        self.board.close();
        for lane in self.lanes.drain(..) {
            let lost = (lane.taken.len() + lane.queue.close().len()) as u64;
            self.books.offered += lost;
            self.books.rejected += lost;
            self.counts.undeliverable += lost;
        }
        for slot in self.groups.iter_mut().flat_map(|group| &mut group.slots) {
            guard::discard((slot.cell.take(), slot.mailbox.take()));
        }
        self.books.died += std::mem::take(&mut self.waiting);
        let SlabCounts { cells, .. } = self.counts;
        self.counts.stopped = cells;
        self.counts.running = 0;
        self.counts.starting = 0;
        self.counts.restarting = 0;
        self.counts.quarantined = 0;
        self.changed = true;
        self.publish();
    }
}
