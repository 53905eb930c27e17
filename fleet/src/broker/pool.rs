//! Connections that many devices share: which device is on which, and what has become of each.
//!
//! A device is on one connection always, by its number. What it writes waits in that connection's
//! relay; whether it has come, left or been lost is noted in a byte of its own, and its connection
//! tells the broker, which knows only of the connection. Of several things that happen to a device
//! before that, a loss is told and then how it is now. It opens no connection (`gateway` does).
//! Bound: a byte a device, and one entry in a queue while there is something to tell.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::plan::PooledSpeech;
use super::relay::{Relay, Relays};
use super::stats::PublishStats;
use crate::names::Names;
use crate::session::template::Template;

/// Connections of one pool at most.
pub const POOL_SIZE_MAX: u32 = 1_024;

/// The device has come, once at least.
const KNOWN: u8 = 1;
/// It is there.
const UP: u8 = 1 << 1;
/// It has said goodbye.
const LEFT: u8 = 1 << 2;
/// It was lost, which is to be told.
const LOST: u8 = 1 << 3;
/// It stands in the queue.
const QUEUED: u8 = 1 << 4;
/// The broker was told that it is there, on this connection.
const TOLD: u8 = 1 << 5;

/// The connections that devices of a node share. A clone is the same.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    relays: Relays,
    /// By connection: devices of which there is something to tell, each once.
    news: Box<[Mutex<VecDeque<Seat>>]>,
    crews: Mutex<Vec<Weak<Crew>>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// So many connections, with room for so many messages that wait for each.
    #[must_use]
    pub fn new(connections: u32, outbox: usize, stats: &Arc<PublishStats>) -> Self {
        let connections = connections.clamp(1, POOL_SIZE_MAX);
        Self(Arc::new(Shared {
            relays: Relays::new(connections, outbox, stats),
            news: (0..connections).map(|_| Mutex::default()).collect(),
            crews: Mutex::default(),
        }))
    }

    /// How many connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.news.len()
    }

    /// Where it is counted.
    #[must_use]
    pub fn stats(&self) -> &Arc<PublishStats> {
        self.0.relays.stats()
    }

    /// What waits for its connections.
    #[must_use]
    pub fn relays(&self) -> &Relays {
        &self.0.relays
    }

    /// What waits for one of them.
    pub(super) fn relay(&self, lane: usize) -> &Relay {
        self.0.relays.lane(lane)
    }

    /// The devices of a population, none of which has come yet.
    pub(crate) fn join(
        speech: &PooledSpeech,
        names: Names,
        (first, count): (u32, u32),
    ) -> Arc<Crew> {
        let crew = Arc::new(Crew {
            pool: speech.pool.clone(),
            status: speech.status.clone(),
            commands: speech.commands.clone(),
            names,
            first,
            states: (0..count).map(|_| AtomicU8::new(0)).collect(),
        });
        let mut crews = speech.pool.0.crews.lock();
        crews.retain(|crew| crew.strong_count() > 0);
        crews.push(Arc::downgrade(&crew));
        crew
    }

    /// A device of which there is something to tell.
    pub(super) fn next(&self, lane: usize) -> Option<Seat> {
        self.0.news[lane].lock().pop_front()
    }

    /// Whether there is something to tell.
    pub(super) fn has_news(&self, lane: usize) -> bool {
        !self.0.news[lane].lock().is_empty()
    }

    /// A new connection is up: whatever was told of its devices is told again.
    pub(super) fn renew(&self, lane: usize) {
        for seat in self.0.news[lane].lock().iter() {
            seat.state().fetch_and(!TOLD, Ordering::AcqRel);
        }
        let crews: Vec<Arc<Crew>> = self
            .0
            .crews
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for crew in crews {
            let own = crew.first..crew.first + crew.states.len() as u32;
            for ordinal in own.filter(|ordinal| self.0.relays.lane_of(*ordinal) == lane) {
                let seat = Seat::of(&crew, ordinal);
                seat.note(|state| (state & KNOWN != 0).then(|| again(state)));
            }
        }
    }

    /// Forgets what was to be told.
    pub(super) fn give_up(&self, lane: usize) {
        self.0.news[lane].lock().clear();
    }
}

/// The state of a device of which all is to be told again.
const fn again(state: u8) -> u8 {
    let state = state & !TOLD;
    match state & (UP | LEFT) {
        0 => state | LOST,
        _ => state,
    }
}

/// The devices of one population that are on shared connections.
pub(crate) struct Crew {
    pool: Pool,
    status: Template,
    commands: Template,
    names: Names,
    first: u32,
    states: Box<[AtomicU8]>,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("devices", &self.states.len())
            .finish_non_exhaustive()
    }
}

/// One device of a crew.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    crew: Arc<Crew>,
    ordinal: u32,
}

/// What is to be told of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// That it was lost, first.
    pub(super) lost: bool,
    /// That it is there, and hears commands.
    pub(super) up: bool,
    /// That it has said goodbye.
    pub(super) left: bool,
    /// Whether the broker believes it there so far.
    pub(super) was_told: bool,
}

impl Seat {
    fn of(crew: &Arc<Crew>, ordinal: u32) -> Self {
        Self {
            crew: Arc::clone(crew),
            ordinal,
        }
    }

    fn state(&self) -> &AtomicU8 {
        &self.crew.states[(self.ordinal - self.crew.first) as usize]
    }

    /// Notes a change, if it is one, and has it told.
    fn note(&self, change: impl Fn(u8) -> Option<u8>) {
        let noted = self
            .state()
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                change(state).map(|state| state | QUEUED)
            });
        if noted.is_ok_and(|before| before & QUEUED == 0) {
            let pool = &self.crew.pool.0;
            let lane = pool.relays.lane_of(self.ordinal);
            pool.news[lane].lock().push_back(self.clone());
            pool.relays.lane(lane).stir();
        }
    }

    /// What there is to tell; from now on it is told.
    pub(super) fn news(&self) -> News {
        let now = |state: u8| {
            let told = if state & UP != 0 { TOLD } else { 0 };
            Some((state & !(LOST | QUEUED | TOLD)) | told)
        };
        let before = self
            .state()
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, now)
            .unwrap_or_default();
        let has = |bit| before & bit != 0;
        News {
            lost: has(LOST),
            up: has(UP),
            left: has(LEFT),
            was_told: has(TOLD),
        }
    }

    /// Appends the topic of its status.
    pub(super) fn write_status(&self, out: &mut String) {
        self.crew.status.write(&self.id(), out);
    }

    /// Appends the topic of its commands.
    pub(super) fn write_commands(&self, out: &mut String) {
        self.crew.commands.write(&self.id(), out);
    }

    fn id(&self) -> String {
        self.crew.names.of(self.ordinal)
    }
}

/// The place of a device on its connection. Dropped without a goodbye, the device is lost: so is
/// one that crashes, is killed, or goes down with its shard.
#[derive(Debug)]
pub(crate) struct Place(Seat);

impl Place {
    /// The device is there; if it was already, it was lost meanwhile.
    pub(crate) fn take(crew: &Arc<Crew>, ordinal: u32) -> Self {
        let place = Self(Seat::of(crew, ordinal));
        place.come();
        place
    }

    fn come(&self) {
        self.0.note(|state| {
            let lost = if state & UP != 0 { LOST } else { 0 };
            Some((state & !LEFT) | KNOWN | UP | lost)
        });
    }

    fn lose(&self) {
        let lost = |state: u8| (state & !UP) | LOST;
        self.0.note(|state| (state & UP != 0).then(|| lost(state)));
    }

    /// A fault keeps it off, or does so no more.
    pub(crate) fn keep_off(&self, off: bool) {
        let up = self.0.state().load(Ordering::Acquire) & UP != 0;
        match off {
            true => self.lose(),
            false if !up => self.come(),
            false => {}
        }
    }

    /// It says goodbye.
    pub(crate) fn leave(&self) {
        let left = |state: u8| (state & !UP) | LEFT;
        self.0.note(|state| (state & UP != 0).then(|| left(state)));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lose();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Plan, Speech, Target};
    use crate::profile::Profile;

    /// Four devices on two connections.
    fn crew() -> (Pool, Arc<Crew>) {
        let pool = Pool::new(2, 8, &Arc::default());
        let profile = Profile::parse("p.yaml", "type: pump\nprotocol: mqtt\n");
        let target = Target::parse("mqtt://127.0.0.1").unwrap();
        let plan = Plan::pooled(&profile.unwrap().profile, &target, &pool, (4, 1.0)).unwrap();
        let Speech::Pooled(speech) = plan.speech else {
            panic!("it is pooled");
        };
        let names = Names {
            device_type: "pump".into(),
            listed: None,
        };
        (pool, Pool::join(&speech, names, (10, 4)))
    }

    fn told(pool: &Pool, lane: usize) -> Vec<(u32, News)> {
        let next = || pool.next(lane).map(|seat| (seat.ordinal, seat.news()));
        std::iter::from_fn(next).collect()
    }

    const UP_NOW: News = News {
        lost: false,
        up: true,
        left: false,
        was_told: false,
    };

    #[test]
    fn each_device_is_told_once_on_its_own_connection() {
        let (pool, crew) = crew();
        let places: Vec<Place> = (10..14).map(|at| Place::take(&crew, at)).collect();
        places[0].keep_off(false); // as it is
        assert_eq!(told(&pool, 0), [(10, UP_NOW), (12, UP_NOW)]);
        assert_eq!(told(&pool, 1), [(11, UP_NOW), (13, UP_NOW)]);
        assert!(!pool.has_news(0) && !pool.has_news(1));
        let mut topic = String::new();
        places[3].0.write_status(&mut topic);
        assert_eq!(topic, "devices/pump-0013/status");
    }

    #[test]
    fn a_loss_is_told_also_of_one_that_is_back_already() {
        let (pool, crew) = crew();
        let place = Place::take(&crew, 10);
        told(&pool, 0);
        drop(place);
        let place = Place::take(&crew, 10);
        let back = News {
            lost: true,
            was_told: true,
            ..UP_NOW
        };
        assert_eq!(told(&pool, 0), [(10, back)]);
        place.keep_off(true);
        let gone = News {
            lost: true,
            was_told: true,
            ..News::default()
        };
        assert_eq!(told(&pool, 0), [(10, gone)]);
        drop(place);
        assert_eq!(told(&pool, 0), [], "it was lost before");
    }

    #[test]
    fn who_has_said_goodbye_is_not_lost() {
        let (pool, crew) = crew();
        let place = Place::take(&crew, 11);
        told(&pool, 1);
        place.leave();
        drop(place);
        let left = News {
            left: true,
            was_told: true,
            ..News::default()
        };
        assert_eq!(told(&pool, 1), [(11, left)]);
    }

    #[test]
    fn a_new_connection_tells_everything_again_of_those_that_ever_came() {
        let (pool, crew) = crew();
        let [stays, goes] = [10, 12].map(|at| Place::take(&crew, at));
        let _other = Place::take(&crew, 11);
        told(&pool, 0);
        goes.keep_off(true);
        told(&pool, 0);
        pool.renew(0);
        let lost = News {
            lost: true,
            ..News::default()
        };
        assert_eq!(told(&pool, 0), [(10, UP_NOW), (12, lost)]);
        stays.leave();
        drop((stays, goes, crew));
        pool.renew(0);
        let left = News {
            left: true,
            ..News::default()
        };
        // what waits outlives its devices
        assert_eq!(told(&pool, 0), [(10, left), (12, lost)]);
    }
}
