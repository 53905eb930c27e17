//! The cells of one population on one shard: a typed slab behind the object-safe [`AnySlab`].
//!
//! Cells lie in ordinal order in groups of 256. A slot costs 24 bytes beside the cell and its
//! identity (mailbox pointer, incarnation, timer list, counter, state), a live timer 32 more; names
//! are computed, mailboxes allocated when the first message waits, books kept for the whole slab. A
//! key is `group index << 8 | place in the group`. It runs nothing by itself: see [`steps`].
//! Bounds: [`Limits`] for each phase of a step; what waits is bounded by queues and mailboxes.

mod delivery;
mod detail;
mod down;
mod exits;
mod held;
mod lanes;
mod returns;
mod sockets;
pub(super) mod steps;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::mem::needs_drop;
use std::ops::Range;
use std::sync::Arc;

use self::detail::Detail;
pub use self::detail::{CellDetail, KindDetail, SlabDetail};
use self::held::Backlog;
use self::lanes::LaneEnd;
pub(crate) use self::turn::{Effects, Limits, Moment, earlier};
use super::core::{Note, Tally};
use super::handle::{Board, Control};
use super::mail::{Mail, Resumed};
use super::moving::{Departure, MigrateError};
use super::net::{Heard, SharedNet, SlabNet};
use super::spec::{CellInfo, CellState, GROUP_SIZE, SlabCounts, SlabSpec};
use super::wheel::{Due, NIL, Wheel};
use crate::cell::{Cell, CellSupervisor};
use crate::clock::{Clock, Time};
use crate::exit::{ExitReason, Fault, Incarnation};
use crate::fifo::{Fifo, discard_each};
use crate::guard;
use crate::mailbox::{Books, MailboxSpec, Ring};

/// Empty mailboxes kept for the next cell that gets a message: as many as one step visits.
const POOL_MAX: usize = 1_024;

/// Last exits remembered for `info`.
const RECENT_MAX: usize = 256;

/// A slab, whatever its cells are.
pub(crate) trait AnySlab {
    /// Does what is due, within the limits.
    fn step(&mut self, at: &Moment, limits: &Limits, tally: &mut Tally) -> Effects;
    /// Sends what its cells have sent to other slabs, and bounces, on their way.
    fn exchange(&mut self);
    /// Stops all cells in order, flushes, refuses everything from now on.
    fn stop(&mut self, at: &Moment);
    /// Its thread is about to die, and its cells with it.
    fn host_down(&mut self, at: &Moment);
    /// Lets nothing of a cell remain.
    fn drop_cells(&mut self);
    /// A step of it has unwound, and why. False: it is of no use any more, drop it.
    fn unwound(&mut self, at: &Moment, why: &str) -> bool;
    /// Whether it has been stopped.
    fn is_closed(&self) -> bool;
    /// Measures what its steps cost from now on, or no more.
    fn set_detail(&mut self, on: bool, clock: Option<&Clock>);
    /// It is to go there, for whatever it was asked before.
    fn leave_for(&mut self, departure: Departure);
    /// Where it wants to go, if anywhere.
    fn departure(&mut self) -> Option<Departure>;
    /// It has come to this shard: from now on this one is rung, and steps it next.
    fn arrive(&mut self, shard: usize, seat: Seat);
    /// Its place on this shard, ascending in the order of joining.
    fn tag(&self) -> u32;
    /// Tells a cell what happened at its socket.
    fn hear(&mut self, at: &Moment, heard: Heard<'_>);
    /// Moves out what happened, for the operator.
    fn notes(&mut self, into: &mut Vec<Note>);
}

/// Where a slab sits on its shard.
pub(crate) struct Seat {
    pub(crate) net: SharedNet,
    pub(crate) tag: u32,
}

/// Counters as handles read them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    pub(crate) books: Books,
    pub(crate) counts: SlabCounts,
    /// Nothing will change any more.
    pub(crate) closed: bool,
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
    /// Whether it takes no messages, as one it sent waits for room.
    parked: bool,
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
        fn start(_: &mut crate::CellContext<'_, Self>) -> Result<Self, Fault> {
            Ok(Self)
        }
        fn handle(
            &mut self,
            _: Never,
            _: &mut crate::CellContext<'_, Self>,
        ) -> Result<crate::Flow, Fault> {
            Ok(crate::Flow::Stop)
        }
        fn timer(
            &mut self,
            _: u8,
            _: &mut crate::CellContext<'_, Self>,
        ) -> Result<crate::Flow, Fault> {
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

pub(crate) struct Slab<C: Cell> {
    board: Arc<Board<C>>,
    groups: Vec<Group<C>>,
    /// Distance of groups in the population, where they are dealt evenly.
    stride: u32,
    shared: C::Shared,
    out: C::Out,
    mailbox: MailboxSpec,
    supervisor: Box<dyn CellSupervisor>,
    wheel: Wheel,
    restarts: Wheel,
    /// Timers that are due and wait for their step.
    due: VecDeque<Due>,
    /// Those that were left by a step full of faults, and what follows them.
    late: VecDeque<Due>,
    newly_due: Vec<Due>,
    run: VecDeque<u32>,
    /// To be started as soon as possible.
    ready: VecDeque<u32>,
    /// The next cell to be started for the first time.
    fresh: (usize, usize),
    lanes: Vec<LaneEnd<C>>,
    mail: Mail<C>,
    net: SlabNet,
    /// By key.
    held: BTreeMap<u32, Backlog<C::Msg>>,
    resumed: Vec<Resumed>,
    control: Fifo<Control<C>>,
    #[expect(clippy::vec_box, reason = "mailboxes move between slots by pointer")]
    pool: Vec<Box<Ring<C::Msg>>>,
    books: Books,
    waiting: u64,
    counts: SlabCounts,
    /// Of the step that has just faulted.
    fault: Option<Fault>,
    /// What that step was about: a message's kind, or the name of the step.
    in_hand: Option<&'static str>,
    recent: VecDeque<(u32, ExitReason)>,
    notes: Vec<Note>,
    notes_second: u64,
    notes_told: u32,
    notes_lost: u32,
    /// A cell or a caller may have written output since the last flush.
    touched: bool,
    /// Something the board shows has changed.
    changed: bool,
    flush_at: Option<Time>,
    /// When its supervisor tells what it has held back.
    tells_at: Option<Time>,
    /// Times at which it went down.
    downs: Vec<Time>,
    /// Place of the pair queue that is being delivered.
    delivering: Option<usize>,
    departure: Option<Departure>,
    detail: Option<Box<Detail>>,
    closed: bool,
}

/// Groups of new cells, in ordinal order.
fn groups<C: Cell>(
    ordinals: &[Range<u32>],
    identity: &mut dyn FnMut(u32) -> C::Identity,
) -> Vec<Group<C>> {
    let mut groups = Vec::new();
    for range in ordinals {
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
                    parked: false,
                    identity: identity(ordinal),
                    cell: None,
                })
                .collect();
            groups.push(Group { first, slots });
            first = end;
        }
    }
    groups
}

/// Distance of groups that are dealt evenly; else a guess that misses.
fn stride<C: Cell>(groups: &[Group<C>]) -> u32 {
    let number = |g: Option<&Group<C>>| g.map_or(0, |g| g.first / GROUP_SIZE);
    let span = number(groups.last()) - number(groups.first());
    (span / (groups.len() as u32).saturating_sub(1).max(1)).max(1)
}

const fn split(key: u32) -> (usize, usize) {
    ((key / GROUP_SIZE) as usize, (key % GROUP_SIZE) as usize)
}

const fn join(group: usize, place: usize) -> u32 {
    group as u32 * GROUP_SIZE + place as u32
}

impl<C: Cell> Slab<C> {
    /// Builds the slab on its shard's thread; the cells are started by its first steps.
    pub(crate) fn new(spec: SlabSpec<C>, board: Arc<Board<C>>, at: &Moment, seat: Seat) -> Self {
        let SlabSpec {
            shared,
            out,
            mut identity,
            mailbox,
            supervisor,
            ..
        } = spec;
        let groups = groups(board.ordinals(), &mut identity);
        let cells = groups.iter().map(|group| group.slots.len() as u64).sum();
        let lane = LaneEnd::new(board.first_lane());
        let stride = stride(&groups);
        let mail = Mail::new(Arc::clone(&board));
        let net = SlabNet::new(seat, mail.rank());
        Self {
            board,
            stride,
            mail,
            net,
            held: BTreeMap::new(),
            resumed: Vec::new(),
            groups,
            shared,
            out,
            mailbox,
            supervisor,
            wheel: Wheel::new(at.now),
            restarts: Wheel::new(at.monotonic),
            due: VecDeque::new(),
            late: VecDeque::new(),
            newly_due: Vec::new(),
            run: VecDeque::new(),
            ready: VecDeque::new(),
            fresh: (0, 0),
            lanes: vec![lane],
            control: Fifo::new(),
            pool: Vec::new(),
            books: Books::default(),
            waiting: 0,
            counts: SlabCounts {
                cells,
                starting: cells,
                ..SlabCounts::default()
            },
            fault: None,
            in_hand: None,
            recent: VecDeque::new(),
            notes: Vec::new(),
            notes_second: 0,
            notes_told: 0,
            notes_lost: 0,
            touched: false,
            changed: true,
            flush_at: None,
            tells_at: None,
            downs: Vec::new(),
            delivering: None,
            departure: None,
            detail: None,
            closed: false,
        }
    }

    /// Key of an ordinal, if it is on this shard.
    #[inline]
    fn find(&self, ordinal: u32) -> Option<u32> {
        let guess = (ordinal / GROUP_SIZE).checked_sub(self.groups[0].first / GROUP_SIZE)?;
        let mut index = match self.stride {
            1 => guess as usize,
            stride => (guess / stride) as usize,
        };
        let hit = |g: &Group<C>| {
            let place = ordinal.checked_sub(g.first);
            place.is_some_and(|place| (place as usize) < g.slots.len())
        };
        if !self.groups.get(index).is_some_and(hit) {
            let after = self.groups.partition_point(|g| g.first <= ordinal);
            index = after.checked_sub(1)?;
        }
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
        let key = join(group, place);
        let detail = self.detail.as_ref().map(|detail| {
            let (steps, ns) = detail.of(key);
            CellDetail { ordinal, steps, ns }
        });
        Some(CellInfo {
            detail,
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
        self.counts.sockets = u64::from(self.net.heads.live());
        self.count_mail();
        let report = Report {
            books: self.books.with_waiting(self.waiting),
            counts: self.counts,
            closed: self.closed,
        };
        self.board.publish(report);
    }
}

impl<C: Cell> AnySlab for Slab<C> {
    fn step(&mut self, at: &Moment, limits: &Limits, tally: &mut Tally) -> Effects {
        let before = self.books.handled;
        self.begin_notes(at);
        self.board.give_sign();
        self.requests(at);
        if self.closed {
            self.publish();
            return Effects::default();
        }
        self.resume(at, limits);
        let mut busy = self.fire_timers(at, limits, tally);
        busy |= self.start_cells(at, limits);
        self.tell_bounces(at);
        self.tell_answers(at);
        busy |= self.deliver(at, limits);
        self.send_ahead(limits);
        busy |= self.run_cells(at, limits);
        self.send_ahead(limits);
        busy |= self.run_local(at, limits);
        busy |= self.has_mail();
        busy |= !self.ready.is_empty() || !self.control.is_empty();
        self.flush(at);
        if self.tells_at.is_some_and(|due| due <= at.monotonic) {
            self.tells_at = self.supervisor.tell(at.monotonic);
        }
        self.publish();
        tally.messages += self.books.handled - before;
        Effects {
            busy,
            leaves: self.departure.is_some(),
            next: self.wheel.next_at(),
            next_monotonic: earlier(
                earlier(
                    self.restarts.next_at(),
                    earlier(self.flush_at, self.tells_at),
                ),
                earlier(self.mail.until(), self.mail.asks.until()),
            ),
        }
    }

    fn exchange(&mut self) {
        self.send_away();
    }

    fn stop(&mut self, at: &Moment) {
        self.stop_all(at);
        self.tell_lost_notes();
        self.publish();
    }

    fn host_down(&mut self, at: &Moment) {
        if !self.closed {
            self.begin_notes(at);
            self.come_back(at);
        }
    }

    fn drop_cells(&mut self) {
        for slot in self.groups.iter_mut().flat_map(|group| &mut group.slots) {
            guard::discard(slot.cell.take());
        }
    }

    fn unwound(&mut self, at: &Moment, why: &str) -> bool {
        self.go_down(at, why)
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn set_detail(&mut self, on: bool, clock: Option<&Clock>) {
        if on != self.detail.is_some() {
            let keys = self.groups.len() * GROUP_SIZE as usize;
            self.detail = on.then(|| Detail::new(clock.cloned(), keys));
        }
    }

    fn leave_for(&mut self, departure: Departure) {
        self.departure = Some(departure);
    }

    fn departure(&mut self) -> Option<Departure> {
        if self.net.heads.live() > 0
            && let Some(departure) = self.departure.take()
        {
            departure.reply.send(Err(MigrateError::Sockets));
        }
        self.departure.take()
    }

    fn arrive(&mut self, shard: usize, seat: Seat) {
        self.net.move_to(seat);
        self.board.bell.move_to(shard);
        self.board.control().sync();
        for end in &self.lanes {
            end.lane.queue.sync();
        }
        self.mail.sync_returns();
        self.changed = true;
    }

    fn tag(&self) -> u32 {
        self.net.tag
    }

    fn hear(&mut self, at: &Moment, heard: Heard<'_>) {
        match heard {
            Heard::Nothing => {}
            Heard::Tell { key, id, event, .. } => self.hear_socket(at, key, id, event),
            Heard::Claim { claim, .. } => self.claim_socket(at, &claim),
        }
    }

    fn notes(&mut self, into: &mut Vec<Note>) {
        into.append(&mut self.notes);
    }
}

/// A shard whose thread died leaves no sender waiting and no message unbooked.
impl<C: Cell> Drop for Slab<C> {
    fn drop(&mut self) {
        if !self.closed {
            self.give_up();
        }
        if needs_drop::<C::Identity>() {
            let slots = std::mem::take(&mut self.groups).into_iter();
            slots.for_each(|group| discard_each(group.slots));
        }
    }
}

impl<C: Cell> Slab<C> {
    /// It ends without having been stopped.
    fn give_up(&mut self) {
        self.send_away();
        self.mail.close();
        let mut lost = (self.mail.len() + self.mail.inbound.len()) as u64;
        for lane in self.lanes.drain(..) {
            lost += (lane.taken.len() + lane.close().len()) as u64;
        }
        // Also what asks of it, and queues that it has not been told of.
        lost += self.board.close().len() as u64;
        let held = std::mem::take(&mut self.held).into_values();
        lost += held.map(|held| held.len() as u64).sum::<u64>();
        self.part_sockets();
        self.books.offered += lost;
        self.books.rejected += lost;
        self.counts.undeliverable += lost;
        for slot in self.groups.iter_mut().flat_map(|group| &mut group.slots) {
            guard::discard(slot.cell.take());
            guard::discard(slot.mailbox.take());
        }
        self.book_in_hand();
        self.books.died += std::mem::take(&mut self.waiting);
        let SlabCounts { cells, .. } = self.counts;
        self.counts.stopped = cells;
        self.counts.running = 0;
        self.counts.starting = 0;
        self.counts.restarting = 0;
        self.counts.quarantined = 0;
        self.changed = true;
        self.closed = true;
        self.publish();
    }
}
