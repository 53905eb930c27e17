//! Simulated shards: virtual time, lock-step windows, the same order every time.
//!
//! All shards do everything that is due at one virtual instant, in the order of their numbers,
//! before time moves to the next instant at which any of them has work. As a live shard sleeps
//! until its bell, a timer or a socket wakes it, so one that has nothing to do at an instant is
//! left alone. What a cell does depends on its ordinal and on virtual time, not on how many shards
//! there are. It runs on the caller's thread, and real time does not enter. Bound: as a live shard,
//! but each phase of an instant runs to its end.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::core::{Common, Port, ShardCore};
use super::handle::ShardHandle;
use super::inbox::{Bell, Bells, Doorbell};
use super::life::{KILLED, ReviveError, Reviver};
use super::net::{NetConfig, SharedNet, SimNet};
use super::slab::{Effects, Limits, Moment, earlier};
use crate::clock::{Clock, Time};
use crate::guard;
use crate::system::System;

/// Tells whoever steps the shards that something came for them.
#[derive(Clone)]
struct Told(Arc<dyn Fn() + Send + Sync>);

impl Bell for Told {
    fn ring(&self) {
        (self.0)();
    }
}

/// Gives a shard its next life when the shards are stepped next.
struct Again {
    port: Weak<Port>,
    asked: AtomicBool,
}

impl Reviver for Again {
    fn revive(self: Arc<Self>) -> Result<(), ReviveError> {
        let port = self.port.upgrade().filter(|port| !port.is_stopping());
        let port = port.ok_or(ReviveError::Stopped)?;
        if !port.lives.is_down() {
            return Err(ReviveError::Running);
        }
        self.asked.store(true, Ordering::Release);
        port.bell.ring();
        Ok(())
    }
}

/// How long a core may be left alone.
#[derive(Clone, Copy)]
struct Rest {
    /// What its last step asked for.
    effects: Effects,
    /// One of its cells was told something since.
    heard: bool,
    /// It was stepped in this round.
    stepped: bool,
}

impl Rest {
    /// Until its first step: not at all.
    const NONE: Self = Self {
        effects: Effects {
            busy: true,
            next: None,
            next_monotonic: None,
            leaves: false,
        },
        heard: false,
        stepped: false,
    };

    fn is_over(&self, at: &Moment) -> bool {
        let due = |when: Option<Time>, now| when.is_some_and(|when| when <= now);
        let Effects {
            busy,
            next,
            next_monotonic,
            ..
        } = self.effects;
        self.heard || busy || due(next, at.now) || due(next_monotonic, at.monotonic)
    }
}

/// Shards in virtual time.
///
/// ```
/// use actorsim_actors::{Clock, Time, shard::SimShards};
/// let mut shards = SimShards::new(Clock::virtual_from(0), 2);
/// shards.run_until(Time(1_000_000_000));
/// assert_eq!(shards.now(), Time(1_000_000_000));
/// ```
pub struct SimShards {
    clock: Clock,
    system: Option<System>,
    cores: Vec<ShardCore>,
    /// By core.
    rests: Vec<Rest>,
    handles: Vec<ShardHandle>,
    /// By shard.
    again: Vec<Arc<Again>>,
    net: SimNet,
    /// The shards' sockets.
    nets: Vec<SharedNet>,
}

impl fmt::Debug for SimShards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimShards")
            .field("shards", &self.handles)
            .finish_non_exhaustive()
    }
}

impl SimShards {
    /// `shards` shards (at least one) on a virtual clock, of no node: nothing is listed or told.
    #[must_use]
    pub fn new(clock: Clock, shards: usize) -> Self {
        Self::build(clock, None, shards, Told(Arc::new(|| ())))
    }

    /// The shards of a node whose clock is virtual: slabs are listed in its census and exits told
    /// in its events.
    #[must_use]
    pub fn of(system: &System, shards: usize) -> Self {
        Self::waking(system, shards, Arc::new(|| ()))
    }

    /// The same; `wake` is called when something comes from outside while the shards wait between
    /// two calls of [`SimShards::settle`]: it should be called again then.
    #[must_use]
    pub fn waking(system: &System, shards: usize, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let (clock, system) = (system.clock().clone(), Some(system.clone()));
        Self::build(clock, system, shards, Told(wake))
    }

    fn build(clock: Clock, system: Option<System>, shards: usize, bell: Told) -> Self {
        debug_assert!(clock.is_virtual(), "simulated shards need a virtual clock");
        guard::install();
        let bells: Bells = (0..shards.max(1))
            .map(|_| Doorbell::new(Box::new(bell.clone())))
            .collect();
        let common = Common::simulated(bells);
        let cores: Vec<_> = (0..common.bells.len())
            .map(|index| {
                let port = Port::new(index, &common, system.clone());
                ShardCore::new(port, Limits::SIM)
            })
            .collect();
        let handles = cores
            .iter()
            .map(|core| ShardHandle::new(core.port()))
            .collect();
        let again = cores.iter().map(|core| {
            let again = Arc::new(Again {
                port: Arc::downgrade(core.port()),
                asked: AtomicBool::new(false),
            });
            let reviver: Weak<dyn Reviver> = Arc::downgrade(&again) as _;
            core.port().lives.revived_by(reviver);
            again
        });
        Self {
            clock,
            system,
            again: again.collect(),
            nets: cores.iter().map(|core| core.net().clone()).collect(),
            net: SimNet::default(),
            rests: vec![Rest::NONE; cores.len()],
            cores,
            handles,
        }
    }

    /// The shards, for adding slabs.
    #[must_use]
    pub fn shards(&self) -> &[ShardHandle] {
        &self.handles
    }

    /// Gives the sockets of all shards these sizes, where none has been asked for yet.
    pub fn size_net(&mut self, config: NetConfig) {
        for net in &self.nets {
            net.lock().config = config;
        }
    }

    /// Virtual time now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Does everything that is due up to and including `end`; the clock then shows `end`.
    pub fn run_until(&mut self, end: Time) {
        while let Some(next) = self.settle().filter(|t| *t <= end) {
            self.clock.advance_to(next);
        }
        if self.clock.now() < end {
            self.clock.advance_to(end);
            self.settle();
        }
    }

    /// Does everything that is due now; returns when something is due next.
    pub fn settle(&mut self) -> Option<Time> {
        loop {
            let at = Moment::of(&self.clock);
            self.hear(&at);
            self.step(&at);
            self.net.obey(&self.nets, at.monotonic);
            let due = self.net.due();
            let more = due.is_some_and(|due| due <= at.monotonic);
            if more || !self.doze() {
                continue;
            }
            for core in &mut self.cores {
                let port = core.port().clone();
                core.count(&mut port.stats.lock());
            }
            let effects = self.rests.iter().map(|rest| rest.effects);
            let all = effects.fold(Effects::default(), Effects::merge);
            return earlier(earlier(all.next, all.next_monotonic), due);
        }
    }

    /// Steps the cores that have something to do, then exchanges what their cells have sent.
    fn step(&mut self, at: &Moment) {
        let cores = self.cores.iter_mut().zip(&mut self.rests);
        for ((core, rest), again) in cores.zip(&self.again) {
            rest.stepped = core.port().bell.is_rung() || rest.is_over(at);
            if !rest.stepped {
                continue;
            }
            core.port().bell.answer();
            rest.heard = false;
            rest.effects = if live_or_die(core, again, at) {
                core.step(at)
            } else {
                Effects::default()
            };
            core.tell(self.system.as_ref().map(System::events));
        }
        for (core, rest) in self.cores.iter_mut().zip(&self.rests) {
            if rest.stepped && !core.port().lives.is_down() {
                core.exchange();
            }
        }
    }

    /// Whether all cores can be left alone from now on: none has more to do or was rung meanwhile.
    fn doze(&self) -> bool {
        let mut all = self.cores.iter().zip(&self.rests);
        all.all(|(core, rest)| {
            let bell = &core.port().bell;
            !rest.effects.busy && (bell.doze() || !bell.is_rung())
        })
    }

    /// Lets the network do what is due, and tells the cells.
    fn hear(&mut self, at: &Moment) {
        let (cores, rests) = (&mut self.cores, &mut self.rests);
        self.net.run(&self.nets, at.monotonic, |shard, told| {
            rests[shard].heard = true;
            cores[shard].hear(at, told);
        });
    }

    /// Stops all slabs in order, the last shard first; then what is under way between sockets comes
    /// to its end, in no time.
    pub fn stop(&mut self) {
        let mut at = Moment::of(&self.clock);
        for core in self.cores.iter_mut().rev() {
            core.port().ask_to_stop();
            core.stop(&at);
            core.tell(self.system.as_ref().map(System::events));
        }
        self.net.obey(&self.nets, at.monotonic);
        while let Some(due) = self.net.due() {
            at.monotonic = at.monotonic.max(due);
            self.hear(&at);
            self.net.obey(&self.nets, at.monotonic);
        }
        for core in &self.cores {
            core.count_sockets(&mut core.port().stats.lock());
        }
    }
}

/// Does what was asked of a shard's life. Whether it lives.
fn live_or_die(core: &mut ShardCore, again: &Again, at: &Moment) -> bool {
    let port = Arc::clone(core.port());
    if port.lives.is_down() {
        if !again.asked.swap(false, Ordering::AcqRel) {
            return false;
        }
        port.begin_life();
    } else if port.lives.is_doomed() {
        core.lose_cells(at);
        port.end_life(KILLED);
        return false;
    }
    true
}
