//! The sending ends of shards and slabs, usable from any thread.
//!
//! A message goes into the bounded pair queue of this handle's lane; `Ok` means accepted there. The
//! cell's mailbox then applies its own rule, and what it refuses is counted (`bounced`). Requests
//! of the control plane have a queue of their own and overtake messages. It waits for nothing
//! except for answers to requests.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::core::{Join, Port};
use super::fork::Forks;
use super::inbox::{CONTROL_CAPACITY, Door, LANE_CAPACITY, Queue, Refused};
use super::mail::{Envelope, Jams, LINK_CAPACITY, Origin, Pair};
use super::moving::{MigrateError, Movable, Resident};
use super::placement::Placement;
use super::slab::{Moment, Report, Seat, Slab, SlabDetail};
use super::spec::{
    AddSlabError, CELLS_MAX, CellInfo, CellState, STOPS_MAX, ShardStats, SlabCounts, SlabError,
    SlabSpec,
};
use crate::addr::Reply;
use crate::cell::Cell;
use crate::fifo::Fifo;
use crate::mailbox::Books;
use crate::path::ActorPath;

/// A request to a slab.
pub(crate) enum Control<C: Cell> {
    Kill(u32, Reply<bool>),
    Stop(u32, Reply<bool>),
    /// Many at once, in order or without their last step.
    StopMany(Vec<u32>, bool, Reply<u64>),
    Restart(u32, Reply<bool>),
    WithOut(OutStep<C>),
    Info(Vec<u32>, Reply<Vec<CellInfo>>),
    Select(CellState, usize, usize, Reply<(Vec<u32>, bool)>),
    Lane(Lane<C>),
    Detail(Reply<Option<SlabDetail>>),
    Migrate(Arc<Port>, Reply<Result<(), MigrateError>>),
    Close(Reply<()>),
}

type OutStep<C> = Box<dyn FnOnce(&mut <C as Cell>::Out) + Send>;
pub(crate) type Lane<C> = Arc<Pair<<C as Cell>::Msg>>;

/// How a slab came to its shard, and whether it may go.
#[derive(Clone, Copy)]
pub(crate) struct Seating {
    pub(crate) placement: Placement,
    pub(crate) movable: bool,
}

/// A sign of life that is asked of a slab. However many ask, and however long it stands still, it
/// is one flag: nothing waits in a queue for it.
#[derive(Default)]
struct Sign {
    asked: AtomicBool,
    given: Notify,
}

/// What a slab and its handles share.
pub(crate) struct Board<C: Cell> {
    path: ActorPath,
    name: Arc<dyn Fn(u32) -> String + Send + Sync>,
    ordinals: Box<[Range<u32>]>,
    capacity: u32,
    pub(super) bell: Arc<Door>,
    forks: Arc<Forks>,
    seating: Seating,
    control: Queue<Control<C>>,
    sign: Sign,
    pub(super) lanes: Mutex<Vec<Lane<C>>>,
    report: Mutex<Report>,
    pub(super) queue_full: AtomicU64,
    pub(super) unknown: AtomicU64,
}

pub(super) fn pair<M>(capacity: usize, origin: Option<Origin>) -> Arc<Pair<M>> {
    let queue = Queue::new(capacity);
    let room = Notify::new();
    let jams = Jams::default();
    Arc::new(Pair {
        queue,
        origin,
        room,
        jams,
    })
}

impl<C: Cell> Board<C> {
    fn new(spec: &SlabSpec<C>, ordinals: Vec<Range<u32>>, port: &Port, seating: Seating) -> Self {
        let cells = ordinals.iter().map(|r| u64::from(r.end - r.start)).sum();
        let counts = SlabCounts {
            cells,
            starting: cells,
            ..SlabCounts::default()
        };
        Self {
            path: spec.path.clone(),
            name: Arc::clone(&spec.name),
            ordinals: ordinals.into(),
            capacity: spec.mailbox.capacity,
            bell: Door::new(port.index, &port.bells),
            forks: Arc::clone(&port.forks),
            seating,
            control: Queue::new(CONTROL_CAPACITY),
            sign: Sign::default(),
            lanes: Mutex::new(vec![pair(LANE_CAPACITY, None)]),
            report: Mutex::new(Report {
                counts,
                ..Report::default()
            }),
            queue_full: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }
    }

    pub(crate) fn path(&self) -> &ActorPath {
        &self.path
    }

    pub(crate) fn name_of(&self, ordinal: u32) -> String {
        (self.name)(ordinal)
    }

    pub(crate) fn path_of(&self, ordinal: u32) -> ActorPath {
        self.path.join(&self.name_of(ordinal))
    }

    pub(crate) const fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(crate) fn shard(&self) -> usize {
        self.bell.shard()
    }

    pub(crate) const fn seating(&self) -> Seating {
        self.seating
    }

    /// Of its host.
    pub(crate) fn forks(&self) -> &Forks {
        &self.forks
    }

    /// The ordinals, ascending and apart.
    pub(crate) fn ordinals(&self) -> &[Range<u32>] {
        &self.ordinals
    }

    pub(crate) fn has(&self, ordinal: u32) -> bool {
        let index = self.ordinals.partition_point(|r| r.start <= ordinal);
        index > 0 && self.ordinals[index - 1].contains(&ordinal)
    }

    pub(crate) const fn control(&self) -> &Queue<Control<C>> {
        &self.control
    }

    pub(crate) fn first_lane(&self) -> Lane<C> {
        Arc::clone(&self.lanes.lock()[0])
    }

    pub(crate) fn publish(&self, report: Report) {
        *self.report.lock() = report;
    }

    pub(crate) fn report(&self) -> Report {
        *self.report.lock()
    }

    pub(crate) const fn bell(&self) -> &Arc<Door> {
        &self.bell
    }

    /// Refuses requests and messages from now on; requests that wait are dropped, so that their
    /// askers are told, and messages handed out.
    pub(crate) fn close(&self) -> Fifo<Envelope<C::Msg>> {
        drop(self.control.close());
        self.sign.given.notify_waiters();
        let lanes = self.lanes.lock();
        let mut rest = Fifo::new();
        for lane in lanes.iter() {
            rest.append(&mut lane.close());
        }
        rest
    }

    /// Waits until the slab begins a step, or is closed: then it answers as well as it ever will.
    pub(super) async fn sign(&self) {
        let given = self.sign.given.notified();
        let mut given = pin!(given);
        given.as_mut().enable();
        self.sign.asked.store(true, Ordering::Release);
        if self.control.is_closed() {
            return;
        }
        self.bell.ring();
        given.await;
    }

    /// The slab begins a step.
    pub(super) fn give_sign(&self) {
        if self.sign.asked.load(Ordering::Acquire) && self.sign.asked.swap(false, Ordering::AcqRel)
        {
            self.sign.given.notify_waiters();
        }
    }

    pub(crate) fn request(&self, request: Control<C>) -> Result<(), SlabError> {
        match self.control.push(request) {
            Ok(edge) => {
                if edge {
                    self.bell.ring();
                }
                Ok(())
            }
            Err(Refused::Full(_)) => Err(SlabError::Busy),
            Err(Refused::Closed(_)) => Err(SlabError::Closed),
        }
    }

    pub(crate) async fn ask<R>(
        &self,
        request: impl FnOnce(Reply<R>) -> Control<C>,
    ) -> Result<R, SlabError> {
        let (reply, answer) = Reply::channel();
        self.request(request(reply))?;
        answer.await.map_err(|_| SlabError::Closed)
    }
}

/// Sends to the cells of one slab. Clones share a lane, and with it the order of their messages.
pub struct SlabHandle<C: Cell> {
    pub(super) board: Arc<Board<C>>,
    pub(super) lane: Lane<C>,
    pub(super) link_capacity: u32,
}

impl<C: Cell> Clone for SlabHandle<C> {
    fn clone(&self) -> Self {
        Self {
            board: Arc::clone(&self.board),
            lane: Arc::clone(&self.lane),
            link_capacity: self.link_capacity,
        }
    }
}

impl<C: Cell> fmt::Debug for SlabHandle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SlabHandle({} on shard {})",
            self.board.path,
            self.board.shard()
        )
    }
}

impl<C: Cell> SlabHandle<C> {
    /// Path of the population.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        self.board.path()
    }

    /// Number of the shard that it is on now.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.board.shard()
    }

    /// Whether it may move to another shard; see [`ShardHandle::add_movable_slab`].
    #[must_use]
    pub fn is_movable(&self) -> bool {
        self.board.seating.movable
    }

    /// Whether it has been closed: its cells are down for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.board.control().is_closed()
    }

    /// The ordinals on this shard, ascending.
    #[must_use]
    pub fn ordinals(&self) -> &[Range<u32>] {
        self.board.ordinals()
    }

    /// Whether an ordinal lives here.
    #[must_use]
    pub fn has(&self, ordinal: u32) -> bool {
        self.board.has(ordinal)
    }

    fn check(&self, ordinal: u32) -> Result<(), SlabError> {
        if self.board.has(ordinal) {
            Ok(())
        } else {
            Err(SlabError::Unknown(ordinal))
        }
    }

    /// Asks to end a live cell at once, without its last step; its supervisor decides.
    ///
    /// # Errors
    /// [`SlabError`], if the request was not taken.
    pub fn kill(&self, ordinal: u32) -> Result<(), SlabError> {
        self.check(ordinal)?;
        self.board
            .request(Control::Kill(ordinal, Reply::channel().0))
    }

    /// Asks to stop a cell in order; it stays down.
    ///
    /// # Errors
    /// [`SlabError`], if the request was not taken.
    pub fn stop(&self, ordinal: u32) -> Result<(), SlabError> {
        self.check(ordinal)?;
        self.board
            .request(Control::Stop(ordinal, Reply::channel().0))
    }

    /// Stops many cells, at most [`STOPS_MAX`], which stay down; returns how many were not down for
    /// good already. Without `in_order` their last step is left out: what is connected sees it
    /// break off.
    ///
    /// # Errors
    /// [`SlabError`], if there are too many, the request was not taken or the slab ended.
    pub async fn stop_many(&self, ordinals: Vec<u32>, in_order: bool) -> Result<u64, SlabError> {
        if ordinals.len() > STOPS_MAX {
            return Err(SlabError::TooMany(ordinals.len()));
        }
        ordinals
            .iter()
            .try_for_each(|ordinal| self.check(*ordinal))?;
        self.board
            .ask(|reply| Control::StopMany(ordinals, in_order, reply))
            .await
    }

    /// Asks for a new incarnation of a cell, also of one that is stopped or quarantined.
    ///
    /// # Errors
    /// [`SlabError`], if the request was not taken.
    pub fn restart(&self, ordinal: u32) -> Result<(), SlabError> {
        self.check(ordinal)?;
        self.board
            .request(Control::Restart(ordinal, Reply::channel().0))
    }

    /// One cell, as its shard sees it.
    ///
    /// # Errors
    /// [`SlabError`].
    pub async fn info(&self, ordinal: u32) -> Result<CellInfo, SlabError> {
        self.check(ordinal)?;
        let mut found = self
            .board
            .ask(|reply| Control::Info(vec![ordinal], reply))
            .await?;
        found.pop().ok_or(SlabError::Unknown(ordinal))
    }

    /// Many cells, as their shard sees them, in the order asked for.
    ///
    /// # Errors
    /// [`SlabError`].
    pub async fn infos(&self, ordinals: Vec<u32>) -> Result<Vec<CellInfo>, SlabError> {
        ordinals
            .iter()
            .try_for_each(|ordinal| self.check(*ordinal))?;
        self.board.ask(|reply| Control::Info(ordinals, reply)).await
    }

    /// What the steps of its cells cost, by kind and by cell; none while detail is off. See
    /// [`ShardHandle::set_detail`].
    ///
    /// # Errors
    /// [`SlabError`].
    pub async fn detail(&self) -> Result<Option<SlabDetail>, SlabError> {
        self.board.ask(Control::Detail).await
    }

    /// Runs `run` on the shard, between steps, with the slab's output; flushed afterwards.
    /// It must be short and must not panic.
    ///
    /// # Errors
    /// [`SlabError`].
    pub async fn with_out<R: Send + 'static>(
        &self,
        run: impl FnOnce(&mut C::Out) -> R + Send + 'static,
    ) -> Result<R, SlabError> {
        self.board
            .ask(|reply| Control::WithOut(Box::new(move |out: &mut C::Out| reply.send(run(out)))))
            .await
    }

    /// Moves the slab, as it is, to another shard of its host: cells, mailboxes, timers, restarts
    /// and all that is under way to it. No message is lost, doubled or overtaken; its cells see
    /// nothing of it. `Ok`: it is there, or was already.
    ///
    /// # Errors
    /// [`MigrateError`]; it stays where it is.
    pub async fn migrate(&self, to: &ShardHandle) -> Result<(), MigrateError> {
        let (reply, answer) = Reply::channel();
        self.ask_to_migrate(to, reply)?;
        answer.await.unwrap_or(Err(MigrateError::Closed))
    }

    /// Asks for the same, and does not wait for it.
    ///
    /// # Errors
    /// [`MigrateError`], if the request was not taken.
    pub fn move_to(&self, to: &ShardHandle) -> Result<(), MigrateError> {
        self.ask_to_migrate(to, Reply::channel().0)
    }

    fn ask_to_migrate(
        &self,
        to: &ShardHandle,
        reply: Reply<Result<(), MigrateError>>,
    ) -> Result<(), MigrateError> {
        if !self.board.seating.movable {
            return Err(MigrateError::Pinned);
        }
        if !self.board.bell.is_of(&to.0.bells) {
            return Err(MigrateError::Foreign);
        }
        if !to.is_up() {
            return Err(MigrateError::Stopped);
        }
        let request = Control::Migrate(Arc::clone(&to.0), reply);
        self.board.request(request).map_err(|error| match error {
            SlabError::Closed => MigrateError::Closed,
            _ => MigrateError::Busy,
        })
    }

    /// Asks for the end of the slab, and does not wait for it.
    pub fn ask_to_close(&self) {
        // Closed already, or as good as: its shard drops what it asks of it.
        let _ = self.board.request(Control::Close(Reply::channel().0));
    }

    /// Stops all cells in order, flushes the output and takes the slab off its shard.
    ///
    /// # Errors
    /// [`SlabError::Closed`] if that has happened before.
    pub async fn close(&self) -> Result<(), SlabError> {
        self.board.ask(Control::Close).await
    }

    /// Counters of all mailboxes, as of the end of the shard's last step. Messages in pair queues
    /// have not been offered yet.
    #[must_use]
    pub fn books(&self) -> Books {
        self.board.report().books
    }

    /// Counters, as of the end of the shard's last step.
    #[must_use]
    pub fn counts(&self) -> SlabCounts {
        let queued = self
            .board
            .lanes
            .lock()
            .iter()
            .map(|lane| lane.queue.len() as u64)
            .sum();
        SlabCounts {
            queue_full: self.board.queue_full.load(Ordering::Relaxed),
            unknown: self.board.unknown.load(Ordering::Relaxed),
            queued,
            ..self.board.report().counts
        }
    }
}

/// One shard.
#[derive(Clone)]
pub struct ShardHandle(Arc<Port>);

impl fmt::Debug for ShardHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardHandle({})", self.0.index)
    }
}

impl ShardHandle {
    pub(crate) fn new(port: &Arc<Port>) -> Self {
        Self(Arc::clone(port))
    }

    pub(crate) const fn port(&self) -> &Arc<Port> {
        &self.0
    }

    /// Its number.
    #[must_use]
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        *self.0.stats.lock()
    }

    /// Measures what each kind of step and each cell costs, from the next step on, or stops that
    /// and forgets it. Off is the default and costs nothing that can be measured; on costs two
    /// readings of the clock per step, and 16 bytes a cell.
    pub fn set_detail(&self, on: bool) {
        self.0.detail.store(on, Ordering::Relaxed);
        self.0.bell.ring();
    }

    /// Whether it takes slabs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.0.is_stopping()
    }

    /// Puts a population's cells on this shard, where they stay. They are made on its thread and
    /// started in ordinal order, a bounded number per step; messages sent before that wait in their
    /// mailboxes.
    ///
    /// # Errors
    /// [`AddSlabError`]; nothing was added.
    pub fn add_slab<C: Cell>(&self, spec: SlabSpec<C>) -> Result<SlabHandle<C>, AddSlabError> {
        let seating = Seating {
            placement: Placement::Pinned(self.index()),
            movable: false,
        };
        self.add(spec, seating, |slab| Resident::Pinned(Box::new(slab)))
    }

    /// The same for cells that may go to another thread: the slab moves, as one, to another shard
    /// of this host where that is asked of it ([`SlabHandle::migrate`]) or pays.
    ///
    /// # Errors
    /// [`AddSlabError`]; nothing was added.
    pub fn add_movable_slab<C: Cell + Send>(
        &self,
        spec: SlabSpec<C>,
    ) -> Result<SlabHandle<C>, AddSlabError> {
        self.add_part(spec, Placement::Pinned(self.index()))
    }

    /// The same for a part of a population, which tells how it was placed.
    pub(crate) fn add_part<C: Cell + Send>(
        &self,
        spec: SlabSpec<C>,
        placement: Placement,
    ) -> Result<SlabHandle<C>, AddSlabError> {
        let seating = Seating {
            placement,
            movable: true,
        };
        self.add(spec, seating, |slab| Resident::Movable(Box::new(slab)))
    }

    fn add<C: Cell>(
        &self,
        spec: SlabSpec<C>,
        seating: Seating,
        seat: fn(Slab<C>) -> Resident,
    ) -> Result<SlabHandle<C>, AddSlabError> {
        let ordinals = checked(&spec.ordinals)?;
        if !self.is_up() {
            return Err(AddSlabError::Stopped);
        }
        let board = Arc::new(Board::new(&spec, ordinals, &self.0, seating));
        let handle = SlabHandle {
            lane: board.first_lane(),
            board: Arc::clone(&board),
            link_capacity: LINK_CAPACITY,
        };
        let shown = Arc::clone(&board);
        let mut unbuilt = Unbuilt(Some(board));
        let join = Box::new(move |at: &_, place| seat(unbuilt.build(spec, at, place)));
        let edge = self.0.joins.push(Join::New(join));
        let edge = edge.map_err(|refused| match refused {
            Refused::Full(_) => AddSlabError::Busy,
            Refused::Closed(_) => AddSlabError::Stopped,
        });
        if edge? {
            self.0.bell.ring();
        }
        if seating.movable {
            let slab: Weak<dyn Movable> = Arc::downgrade(&handle.board) as _;
            self.0.movables.add(slab);
        }
        if let Some(system) = &self.0.system {
            system.census().register_source(shown);
        }
        Ok(handle)
    }
}

/// A slab on its way to its shard. One that does not get there is closed: nobody would answer.
struct Unbuilt<C: Cell>(Option<Arc<Board<C>>>);

impl<C: Cell> Unbuilt<C> {
    fn build(&mut self, spec: SlabSpec<C>, at: &Moment, seat: Seat) -> Slab<C> {
        let board = self.0.as_ref().expect("a slab is built once");
        let slab = Slab::new(spec, Arc::clone(board), at, seat);
        self.0 = None;
        slab
    }
}

impl<C: Cell> Drop for Unbuilt<C> {
    fn drop(&mut self) {
        let Some(board) = self.0.take() else {
            return;
        };
        let lost = board.close();
        let mut report = board.report();
        report.books.offered += lost.len() as u64;
        report.books.rejected += lost.len() as u64;
        report.counts.undeliverable += lost.len() as u64;
        report.closed = true;
        report.counts.stopped = std::mem::take(&mut report.counts.starting);
        board.publish(report);
    }
}

/// The ranges in ascending order, without empty ones.
fn checked(ranges: &[Range<u32>]) -> Result<Vec<Range<u32>>, AddSlabError> {
    let mut ranges: Vec<_> = ranges.iter().filter(|r| !r.is_empty()).cloned().collect();
    ranges.sort_unstable_by_key(|r| r.start);
    if let Some(pair) = ranges.windows(2).find(|pair| pair[0].end > pair[1].start) {
        return Err(AddSlabError::Overlap(pair[1].start));
    }
    // A group has 256 places, also one that is not whole.
    let cells: u64 = ranges
        .iter()
        .map(|r| u64::from(r.end - r.start) + 512)
        .sum();
    match ranges.is_empty() {
        true => Err(AddSlabError::Empty),
        false if cells > CELLS_MAX => Err(AddSlabError::TooMany(cells)),
        false => Ok(ranges),
    }
}
