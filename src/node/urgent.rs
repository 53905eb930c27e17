//! The network's thread, and that of commands: off the scan's core, in short slices, and ahead of
//! the shards, in `SCHED_RR` below the scan, as long as they leave room: that of commands unless it
//! is told otherwise, the network's where it is asked for.
//!
//! A round trip waits for nobody's slice there. A flood would starve the shards, so the thread goes
//! back to the normal class while it is busy most of the time. Threads that it starts stay normal.
//! What is not permitted is said once for all of them. Bound: a look every [`LOOK`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{ShardCores, keep_on};
use actorsim_actors::{System, slice};
use actorsim_world::scan::rt::{set_normal, set_round_robin};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::config::NodeConfig;
use crate::config::node::cores_of_net;

/// How often its share of a core is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Above this share of a core it goes to the normal class,
const DUTY_MAX: f64 = 0.7;
/// and below this one it comes back.
const DUTY_BACK: f64 = 0.6;

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Stay,
    Urgent,
    Normal,
}

/// Decides by the share of a core since the last look.
fn turn(urgent: bool, duty: f64) -> Turn {
    match urgent {
        true if duty > DUTY_MAX => Turn::Normal,
        false if duty < DUTY_BACK => Turn::Urgent,
        _ => Turn::Stay,
    }
}

/// Seconds of the calling thread on a core, and on the wall.
fn spent() -> [f64; 2] {
    [ClockId::ThreadCPUTime, ClockId::Monotonic].map(|clock| {
        let time = clock_gettime(clock);
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    })
}

/// Keeps a thread where it is until it is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    _kept: watch::Sender<()>,
}

/// How such a thread runs.
#[derive(Debug)]
pub(super) struct Seat {
    /// What it is called in what is said.
    pub(super) of: &'static str,
    /// In `SCHED_RR`; 0 leaves it in the normal class.
    pub(super) priority: u8,
    /// In the normal class; none if 0.
    pub(super) slice: Duration,
    /// Where; anywhere if there are none.
    pub(super) cores: Vec<usize>,
    /// Cores that it may run on.
    pub(super) allowed: Vec<usize>,
}

impl Seat {
    /// The network's thread by a configuration, of the cores that the calling thread may use.
    pub(super) fn of_net(config: &NodeConfig) -> Self {
        let allowed = ShardCores::allowed();
        let scan = config.world.as_ref().map(|_| config.scan_core);
        Self {
            of: "network's",
            priority: config.net_priority,
            slice: config.net_slice,
            cores: cores_of_net(&config.net_cores, scan, &allowed),
            allowed,
        }
    }

    /// The thread of commands: beside the network's, and ahead of it.
    pub(super) fn of_commands(config: &NodeConfig) -> Self {
        let net = Self::of_net(config);
        Self {
            of: "commands'",
            priority: config.commands_priority,
            slice: net.slice / 2,
            ..net
        }
    }
}

/// What the host has refused to these threads: each is said once, whichever asks and however often.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<BTreeSet<String>>);

impl Refused {
    /// Whether it is said now.
    fn say(&self, what: String) -> bool {
        let is_news = self.0.lock().insert(what.clone());
        if is_news {
            tracing::info!("the network's threads {what}");
        }
        is_news
    }
}

/// Keeps this thread on its cores, if it has any.
fn sit_down(seat: &Seat, refused: &Refused) {
    let allowed = |core: &usize| seat.allowed.contains(core);
    let (cores, others): (Vec<_>, Vec<_>) = seat.cores.iter().copied().partition(allowed);
    if !others.is_empty() {
        refused.say(format!("may not run on cores {others:?}"));
    }
    if !cores.is_empty()
        && let Err(error) = keep_on(&cores, &seat.allowed)
    {
        refused.say(format!("are not kept on their cores: {error}"));
    }
}

/// Asks for a slice, if there is one to ask for.
fn take_slice(seat: &Seat, refused: &Refused) {
    if !seat.slice.is_zero()
        && let Err(error) = slice::ask(seat.slice)
    {
        refused.say(format!("have the slice that the host gives: {error}"));
    }
}

/// Keeps the one worker of a runtime in its seat.
pub(super) fn keep(on: &System, seat: Seat, refused: &Arc<Refused>) -> Keeper {
    let (kept, mut over) = watch::channel(());
    let keeper = Keeper { _kept: kept };
    let refused = Arc::clone(refused);
    on.detached(async move {
        let Seat { of, priority, .. } = seat;
        sit_down(&seat, &refused);
        take_slice(&seat, &refused);
        if priority == 0 {
            return;
        }
        let (mut urgent, mut before) = (false, spent());
        // It changes only when its keeper is gone.
        while tokio::time::timeout(LOOK, over.changed()).await.is_err() {
            let now = spent();
            let duty = (now[0] - before[0]) / (now[1] - before[1]).max(f64::EPSILON);
            before = now;
            let done = match turn(urgent, duty) {
                Turn::Stay => continue,
                Turn::Urgent => set_round_robin(priority),
                Turn::Normal => set_normal().map(|()| take_slice(&seat, &refused)),
            };
            if let Err(error) = done {
                refused.say(format!("stay in the class that they have: {error}"));
                return;
            }
            urgent = !urgent;
            tracing::debug!(urgent, duty, "the {of} thread changed its class");
        }
    });
    keeper
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn commands_go_before_the_network_unless_they_are_to_be_normal() {
        let priority = |of_net: u8, of_commands: u8| {
            let mut layers = Layers::built_in();
            layers.set(&format!("cores.net_priority={of_net}"));
            layers.set(&format!("cores.commands_priority={of_commands}"));
            let settings = layers
                .resolve()
                .unwrap_or_else(|_| panic!("they are priorities"));
            Seat::of_commands(&NodeConfig::from_settings(&settings)).priority
        };
        let cases = [
            (0, 0, 0),
            (0, 1, 1),
            (7, 0, 0),
            (7, 1, 8),
            (7, 9, 9),
            (99, 1, 99),
        ];
        for (of_net, of_commands, expected) in cases {
            let found = priority(of_net, of_commands);
            assert_eq!(found, expected, "{of_net} {of_commands}");
        }
    }

    #[test]
    fn what_is_refused_to_each_thread_again_and_again_is_said_once() {
        let refused = Refused::default();
        let said = |what: &str| refused.say(what.to_owned());
        let turns = ["a: EPERM", "b: EPERM", "a: EPERM", "a: EINVAL", "b: EPERM"];
        assert_eq!(turns.map(said), [true, true, false, true, false]);
    }

    #[test]
    fn a_busy_thread_gives_way_and_comes_back_when_it_is_quieter() {
        let turns = [
            (false, 0.1, Turn::Urgent),
            (true, 0.65, Turn::Stay),
            (true, 0.9, Turn::Normal),
            (false, 0.65, Turn::Stay),
            (false, f64::NAN, Turn::Stay),
        ];
        for (urgent, duty, expected) in turns {
            assert_eq!(turn(urgent, duty), expected, "{urgent} {duty}");
        }
    }
}
