//! The pure core of a shard: its slabs, and `step(now) -> effects`.
//!
//! No thread, no clock, no waiting: a driver reads time, steps the core, and waits for what the
//! effects say. Threads and virtual time run the same core. Bound: [`SLABS_MAX`] slabs.

mod husk;

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use self::husk::Husk;
use super::driver::DriverCounts;
use super::fork::Forks;
use super::inbox::{Bells, Doorbell, Queue, Refused};
use super::lateness::Lateness;
use super::life::{Estate, Lives};
use super::moving::{Departure, MigrateError, Movables, Parcel, Resident};
use super::net::{Heard, NetConfig, ShardNet, SharedNet, Told};
use super::slab::{AnySlab, Effects, Limits, Moment, Seat};
use super::spec::ShardStats;
use crate::addr::Reply;
use crate::clock::{Clock, Time};
use crate::events::{Events, Level};
use crate::exit::{Fault, Incarnation};
use crate::fifo::Fifo;
use crate::guard;
use crate::path::ActorPath;
use crate::system::System;

/// Slabs that wait to be added to one shard: populations of a node, several times over.
pub(crate) const SLABS_MAX: usize = 4_096;

/// Real time after which a timer counts as late: ten wheel ticks, more than a healthy host's delay.
const LATE_NS: f64 = 10_000_000.0;

type Build = Box<dyn FnOnce(&Moment, Seat) -> Resident + Send>;

/// A slab that is to be added to a shard.
pub(crate) enum Join {
    /// Builds it on the shard's own thread, where its cells may live.
    New(Build),
    /// It comes from another shard.
    Moved(Parcel),
    /// It was on this shard when its thread died, at that time.
    Left(Heirloom, Moment),
}

/// A slab that has lost its cells with their thread.
pub(crate) enum Heirloom {
    /// It stays on its shard.
    Pinned(Husk),
    /// It may go to another.
    Movable(Box<dyn AnySlab + Send>),
}

/// Something for the operator.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) level: Level,
    pub(crate) name: &'static str,
    pub(crate) path: ActorPath,
    pub(crate) text: String,
}

/// What the shards of a host share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) bells: Bells,
    pub(crate) movables: Arc<Movables>,
    pub(crate) forks: Arc<Forks>,
}

impl Common {
    /// Of threads with these bells.
    pub(crate) fn of(bells: Bells) -> Self {
        let forks = Forks::of(&bells);
        Self {
            movables: Arc::default(),
            forks,
            bells,
        }
    }

    /// In virtual time.
    pub(crate) fn simulated(bells: Bells) -> Self {
        let forks = Forks::at_once(&bells);
        Self {
            forks,
            ..Self::of(bells)
        }
    }
}

/// What a shard and its handles share.
pub(crate) struct Port {
    pub(crate) index: usize,
    pub(crate) joins: Queue<Join>,
    pub(crate) bell: Arc<Doorbell>,
    /// Of all shards of its host.
    pub(crate) bells: Bells,
    pub(crate) movables: Arc<Movables>,
    pub(crate) forks: Arc<Forks>,
    pub(crate) stats: Mutex<ShardStats>,
    pub(crate) stopping: AtomicBool,
    pub(crate) lives: Lives,
    /// Whether somebody wants to know what steps cost.
    pub(crate) detail: AtomicBool,
    /// Where slabs are listed and exits told; none in a simulation without a node.
    pub(crate) system: Option<System>,
}

impl Port {
    /// A shard of that host.
    pub(crate) fn new(index: usize, host: &Common, system: Option<System>) -> Arc<Self> {
        let Common {
            bells,
            movables,
            forks,
        } = host.clone();
        let port = Arc::new(Self {
            index,
            joins: Queue::new(SLABS_MAX),
            bell: Arc::clone(&bells[index]),
            bells,
            movables,
            forks,
            stats: Mutex::new(ShardStats {
                index,
                incarnation: Incarnation::FIRST.0,
                ..ShardStats::default()
            }),
            stopping: AtomicBool::new(false),
            lives: Lives::new(),
            detail: AtomicBool::new(false),
            system,
        });
        port.movables.seat(&port);
        port
    }

    /// Asks the shard to stop and refuses slabs from now on.
    pub(crate) fn ask_to_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.bell.ring();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Sends slabs that wait for a thread of this shard, and may move, to shards that have one.
    /// Returns how many.
    pub(crate) fn hand_out(&self) -> u64 {
        let others = self.movables.ports(self.index);
        if others.is_empty() {
            return 0;
        }
        let (mut waiting, mut kept, mut moved) = (Fifo::new(), Fifo::new(), 0);
        self.joins.drain(&mut waiting);
        for (join, to) in waiting.into_iter().zip(others.iter().cycle()) {
            let parcel = match join {
                Join::Left(Heirloom::Movable(slab), left) => {
                    let reply = Reply::channel().0;
                    Parcel { slab, left, reply }
                }
                Join::Moved(parcel) => parcel,
                other => {
                    kept.push_back(other);
                    continue;
                }
            };
            match to.joins.push(Join::Moved(parcel)) {
                Ok(edge) => {
                    moved += 1;
                    if edge {
                        to.bell.ring();
                    }
                }
                Err(Refused::Full(join) | Refused::Closed(join)) => kept.push_back(join),
            }
        }
        self.joins.put_back(kept);
        self.lives.estate.lock().tally.migrations_out += moved;
        self.stats.lock().migrations_out += moved;
        moved
    }
}

impl Moment {
    /// Both times, from one reading.
    pub(crate) fn of(clock: &Clock) -> Self {
        let monotonic = clock.monotonic();
        let now = clock.simulated_at(monotonic);
        let late_ns = (LATE_NS * clock.speed()) as u64;
        Self {
            now,
            monotonic,
            unix_us: clock.unix_us_at(now),
            late_ns,
        }
    }

    /// The later of two: time does not go back for a slab.
    fn or_later(self, other: Self) -> Self {
        match other.monotonic > self.monotonic {
            true => other,
            false => self,
        }
    }
}

/// The slabs of one shard.
pub(crate) struct ShardCore {
    port: Arc<Port>,
    limits: Limits,
    slabs: Vec<Resident>,
    joins: Fifo<Join>,
    /// A slab wants to leave; the time of the step in which it asked.
    left: Option<Moment>,
    notes: Vec<Note>,
    tally: Tally,
    net: SharedNet,
    /// What former drivers of this shard have done.
    before: DriverCounts,
    seats: u32,
    detail: bool,
}

/// What the slabs of a shard have done on it.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) timers_fired: u64,
    pub(crate) timers_late: u64,
    pub(crate) ticks_missed: u64,
    pub(crate) migrations_in: u64,
    pub(crate) migrations_out: u64,
    pub(crate) lateness: Lateness,
    /// For how late timers are; none in virtual time, which stands still in a step.
    clock: Option<Clock>,
    /// Simulated time when it was looked at last.
    seen: Time,
}

/// Timers after which lateness looks at the clock again: some microseconds, at a fraction of a
/// nanosecond each.
const LOOK_EVERY: u64 = 64;

impl Tally {
    /// The same counts, of a life that has this clock.
    fn by(self, clock: Option<&Clock>) -> Self {
        let clock = clock.cloned();
        Self { clock, ..self }
    }

    /// Timers of a slab are due: the time of the step may be long ago.
    pub(crate) fn look(&mut self, at: &Moment) {
        let seen = self.clock.as_ref().map(|c| c.simulated_at(c.monotonic()));
        self.seen = seen.map_or(at.now, |seen| seen.max(at.now));
    }

    /// Counts a timer that fires now. Returns how late it is.
    pub(crate) fn fired(&mut self, due: Time, at: &Moment) -> u64 {
        if self.timers_fired.is_multiple_of(LOOK_EVERY) {
            self.look(at);
        }
        let late = self.seen.0.saturating_sub(due.0);
        self.timers_fired += 1;
        self.timers_late += u64::from(late > at.late_ns);
        self.lateness.record(late);
        late
    }
}

impl ShardCore {
    /// The first life of a shard, or the next: that goes on with what the former has left.
    pub(crate) fn new(port: Arc<Port>, limits: Limits) -> Self {
        let Estate { tally, net, counts } = std::mem::take(&mut *port.lives.estate.lock());
        let fresh = || Arc::new(Mutex::new(ShardNet::new(NetConfig::default())));
        let live = port.system.as_ref().filter(|_| !limits.rounds);
        let tally = tally.by(live.map(System::clock));
        Self {
            port,
            limits,
            slabs: Vec::new(),
            joins: Fifo::new(),
            left: None,
            notes: Vec::new(),
            tally,
            net: net.unwrap_or_else(fresh),
            before: counts,
            seats: 0,
            detail: false,
        }
    }

    /// The same with these sizes of its sockets.
    pub(crate) fn with_net(self, config: NetConfig) -> Self {
        self.net.lock().config = config;
        self
    }

    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    /// What all drivers of this shard have done, this one included.
    pub(crate) const fn driven(&self, by: DriverCounts) -> DriverCounts {
        self.before.and(by)
    }

    /// Does what is due at `at`, within the limits.
    pub(crate) fn step(&mut self, at: &Moment) -> Effects {
        self.port.joins.drain(&mut self.joins);
        let at = &self.join(at);
        if self.port.detail.load(Ordering::Relaxed) != self.detail {
            self.detail = !self.detail;
            self.slabs
                .iter_mut()
                .for_each(|slab| measure(&self.port, self.detail, slab));
        }
        let mut effects = Effects::default();
        let mut index = 0;
        while index < self.slabs.len() {
            let (step, stays) = self.step_slab(index, at);
            effects = effects.merge(step);
            if stays {
                index += 1;
            } else {
                // Its end books what it had; its parts may unwind once more.
                guard::discard(self.slabs.remove(index));
            }
        }
        self.slabs.retain(|slab| !slab.is_closed());
        if effects.leaves {
            self.left = Some(*at);
        }
        if !self.limits.rounds {
            self.depart();
        }
        effects
    }

    /// Steps one slab; if that unwinds, only this slab goes down. False: it is of no use any more.
    fn step_slab(&mut self, index: usize, at: &Moment) -> (Effects, bool) {
        let limits = self.limits;
        let stepped = self.guarded(index, at, |slab, tally| {
            let effects = slab.step(at, &limits, tally);
            if !limits.rounds {
                slab.exchange();
            }
            effects
        });
        self.slabs[index].notes(&mut self.notes);
        match stepped {
            Ok(effects) => (effects, true),
            Err(stays) => {
                let busy = Effects {
                    busy: true,
                    ..Effects::default()
                };
                (busy, stays)
            }
        }
    }

    /// Lets a slab do something.
    ///
    /// # Errors
    /// That has unwound, and the slab has gone down; false: it is of no use any more.
    fn guarded<R>(
        &mut self,
        index: usize,
        at: &Moment,
        run: impl FnOnce(&mut Resident, &mut Tally) -> R,
    ) -> Result<R, bool> {
        let (slab, tally) = (&mut self.slabs[index], &mut self.tally);
        panic::catch_unwind(AssertUnwindSafe(|| run(slab, tally))).map_err(|payload| {
            let why = Fault::from_panic(&*payload).to_string();
            guard::discard(payload);
            let slab = &mut self.slabs[index];
            slab.unwound(at, &why)
        })
    }

    /// The thread is about to end without being asked to: all cells exit with `host_down`, and
    /// their sockets are reset.
    pub(crate) fn lose_cells(&mut self, at: &Moment) {
        let mut index = 0;
        while index < self.slabs.len() {
            let slab = &mut self.slabs[index];
            let lost = guard::step(|| {
                slab.host_down(at);
                Ok(())
            });
            slab.notes(&mut self.notes);
            match lost {
                Ok(()) => index += 1,
                Err(_) => drop(guard::discard(self.slabs.remove(index))),
            }
        }
    }

    /// What becomes of its slabs once their cells are lost, and the driver, which has done so much,
    /// is gone: they wait for the next life, or there is none.
    pub(crate) fn pass_on(&mut self, at: &Moment, driver: DriverCounts, hold: bool) {
        self.net.lock().abandon();
        if hold {
            self.leave_behind(at, driver);
        } else {
            self.port.ask_to_stop();
            self.evacuate(at);
            self.stop(at);
        }
    }

    fn leave_behind(&mut self, at: &Moment, driver: DriverCounts) {
        let heirloom = |slab| match slab {
            Resident::Pinned(slab) => Heirloom::Pinned(Husk::of(slab)),
            Resident::Movable(slab) => Heirloom::Movable(slab),
        };
        let slabs = std::mem::take(&mut self.slabs).into_iter();
        let mut left: Fifo<_> = slabs.map(|slab| Join::Left(heirloom(slab), *at)).collect();
        left.append(&mut self.joins);
        self.port.joins.put_back(left);
        *self.port.lives.estate.lock() = Estate {
            tally: std::mem::take(&mut self.tally),
            net: Some(Arc::clone(&self.net)),
            counts: self.driven(driver),
        };
    }

    /// This shard is about to end without being asked to, and has no next life: slabs that may move
    /// go to the others, also those that are on their way here.
    fn evacuate(&mut self, at: &Moment) {
        let at = &self.take_last(at);
        let others = self.port.movables.ports(self.port.index);
        if others.is_empty() {
            return;
        }
        for (slab, to) in self.slabs.iter_mut().zip(others.iter().cycle()) {
            if matches!(slab, Resident::Movable(_)) {
                slab.leave_for(Departure {
                    to: Arc::clone(to),
                    reply: Reply::channel().0,
                });
            }
        }
        self.left = Some(*at);
        self.depart();
    }

    /// Takes in slabs that wait for it. Returns the time to go on with, which is never before one
    /// that a slab has seen where it comes from.
    fn join(&mut self, at: &Moment) -> Moment {
        let (mut at, joined, before) = (*at, self.joins.len(), self.slabs.len());
        while let Some(join) = self.joins.pop_front() {
            match join {
                Join::New(build) => {
                    let seat = self.seat();
                    match guard::step(|| Ok(build(&at, seat))) {
                        Ok(slab) => self.slabs.push(slab),
                        // It has closed itself.
                        Err(fault) => self.notes.push(Note {
                            level: Level::Error,
                            name: "slab_down",
                            path: ActorPath::root(),
                            text: format!("it could not be built: {fault}"),
                        }),
                    }
                }
                Join::Moved(Parcel { slab, left, reply }) => {
                    at = at.or_later(left);
                    self.take_in(Resident::Movable(slab));
                    self.tally.migrations_in += 1;
                    reply.send(Ok(()));
                }
                Join::Left(slab, left) => {
                    at = at.or_later(left);
                    self.take_in(match slab {
                        Heirloom::Pinned(husk) => Resident::Pinned(husk.into_slab()),
                        Heirloom::Movable(slab) => Resident::Movable(slab),
                    });
                }
            }
        }
        if joined > 0 {
            self.port.joins.delivered(joined);
            let new = self.slabs[before..].iter_mut();
            new.for_each(|slab| measure(&self.port, self.detail, slab));
        }
        at
    }

    fn take_in(&mut self, mut slab: Resident) {
        slab.arrive(self.port.index, self.seat());
        self.slabs.push(slab);
    }

    /// Takes in the slabs that were somewhere before, and none from now on. Returns the time to go
    /// on with, as [`ShardCore::join`].
    fn take_last(&mut self, at: &Moment) -> Moment {
        self.joins.append(&mut self.port.joins.close());
        // Those that nobody has built yet have nothing to stop.
        self.joins.retain(|join| !matches!(join, Join::New(_)));
        self.join(at)
    }

    /// A seat, in the order of joining.
    fn seat(&mut self) -> Seat {
        self.seats += 1;
        Seat {
            net: SharedNet::clone(&self.net),
            tag: self.seats,
        }
    }

    /// Sends slabs that want to leave on their way.
    fn depart(&mut self) {
        let Some(at) = self.left.take() else {
            return;
        };
        let mut staying = Vec::with_capacity(self.slabs.len());
        for mut slab in self.slabs.drain(..) {
            let kept = match slab.departure() {
                Some(departure) => send_off(&self.port, slab, &at, departure),
                None => Some(slab),
            };
            self.tally.migrations_out += u64::from(kept.is_none());
            staying.extend(kept);
        }
        self.slabs = staying;
    }

    /// In rounds, after all shards have stepped: what cells sent is under way.
    pub(crate) fn exchange(&mut self) {
        for slab in &mut self.slabs {
            slab.exchange();
        }
        self.depart();
    }

    /// The sockets of its cells.
    pub(crate) const fn net(&self) -> &SharedNet {
        &self.net
    }

    /// Tells a cell what has happened at its socket; if that unwinds, only its slab goes down.
    pub(crate) fn hear(&mut self, at: &Moment, told: Told<'_>) {
        let heard = self.net.lock().note(told);
        let tag = match heard {
            Heard::Nothing => return,
            Heard::Tell { tag, .. } | Heard::Claim { tag, .. } => tag,
        };
        // Seats are given out in order.
        if let Ok(index) = self.slabs.binary_search_by_key(&tag, |slab| slab.tag()) {
            let heard = self.guarded(index, at, |slab, _| slab.hear(at, heard));
            if heard.is_err() {
                self.slabs[index].notes(&mut self.notes);
            }
            if heard == Err(false) {
                guard::discard(self.slabs.remove(index));
            }
        }
    }

    /// Stops all slabs in order, the latest first.
    pub(crate) fn stop(&mut self, at: &Moment) {
        let at = &self.take_last(at);
        while let Some(mut slab) = self.slabs.pop() {
            slab.stop(at);
            slab.notes(&mut self.notes);
        }
    }

    /// Puts the counters of sockets where handles read them.
    pub(crate) fn count_sockets(&self, stats: &mut ShardStats) {
        stats.net = self.net.lock().stats;
    }

    /// A step has ended: puts its counters where handles read them.
    pub(crate) fn count(&self, stats: &mut ShardStats) {
        let tally = &self.tally;
        stats.steps += 1;
        stats.slabs = self.slabs.len() as u64;
        stats.messages = tally.messages;
        stats.migrations_in = tally.migrations_in;
        stats.migrations_out = tally.migrations_out;
        self.count_sockets(stats);
        stats.timers_late = tally.timers_late;
        stats.ticks_missed = tally.ticks_missed;
        if stats.timers_fired != tally.timers_fired {
            stats.timers_fired = tally.timers_fired;
            stats.lateness = tally.lateness;
        }
    }

    /// Tells what happened since the last call.
    pub(crate) fn tell(&mut self, events: Option<&Events>) {
        for note in self.notes.drain(..) {
            if let Some(events) = events {
                events.publish(note.level, note.name, Some(&note.path), note.text);
            }
        }
    }
}

/// Lets a slab measure its steps, or no more.
fn measure(port: &Port, on: bool, slab: &mut Resident) {
    let clock = port.system.as_ref().map(System::clock);
    slab.set_detail(on, clock);
}

/// Sends a slab to another shard; it comes back if it must stay.
fn send_off(
    from: &Arc<Port>,
    slab: Resident,
    at: &Moment,
    departure: Departure,
) -> Option<Resident> {
    let Departure { to, reply } = departure;
    if Arc::ptr_eq(&to, from) {
        reply.send(Ok(()));
        return Some(slab);
    }
    let slab = match slab {
        Resident::Movable(slab) => slab,
        pinned @ Resident::Pinned(_) => {
            reply.send(Err(MigrateError::Pinned));
            return Some(pinned);
        }
    };
    let parcel = Parcel {
        slab,
        left: *at,
        reply,
    };
    let sent = match to.lives.is_down() {
        true => Err(Refused::Closed(Join::Moved(parcel))),
        false => to.joins.push(Join::Moved(parcel)),
    };
    let (back, why) = match sent {
        Ok(edge) => {
            if edge {
                to.bell.ring();
            }
            return None;
        }
        Err(Refused::Full(join)) => (join, MigrateError::Busy),
        Err(Refused::Closed(join)) => (join, MigrateError::Stopped),
    };
    match back {
        Join::Moved(Parcel { slab, reply, .. }) => {
            reply.send(Err(why));
            Some(Resident::Movable(slab))
        }
        Join::New(_) | Join::Left(..) => None,
    }
}

#[cfg(test)]
#[path = "core/tests.rs"]
mod tests;
