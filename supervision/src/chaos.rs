//! Chaos: faults on purpose, from one vocabulary, by one seeded plan, in three places.
//!
//! A [`Plan`] says what may break, how often and where it must stop; a [`Schedule`] draws from it,
//! purely: `(plan, seed, census, now) -> actions`. Whoever carries the actions out (a test on
//! paused time, `actorsim sim`, a live node) keeps the clock, the census and the actors. The same
//! seed over the same census gives the same actions.
//!
//! - [`fault`]: the vocabulary, and where each fault can act.
//! - [`plan`]: the file, every mistake told at once with its place.
//! - [`draw`]: numbers from a seed.
//! - [`schedule`]: when, what and whom.
//! - `swizzle`: which links clog one by one, and in which other order they are freed.
//! - [`toll`]: whether those that were parked meanwhile had to be.
//! - [`hands`]: what is done to the task actors, shards and lines of a system, and undone.
//! - [`lines`]: what those offer who carry the packets of links.
//!
//! Bound: [`schedule::MAX_CONCURRENT`] victims at once; one strike per slot of the rate.
//!
//! ```
//! use actorsim_actors::{ActorPath, Time};
//! use actorsim_supervision::chaos::{Action, Place, Plan, Roster, Schedule, Vitals};
//!
//! let text = "seed = 42\nrate = \"5/1s\"\nfor = \"2s\"\n[faults]\nkill = 1\n";
//! let plan = Plan::from_toml("plan.toml", text, Place::Test).unwrap();
//! let mut roster = Roster::default();
//! roster.add("scan", ActorPath::new("/twin/scan").unwrap());
//! let mut schedule = Schedule::new(&plan, plan.seed, Time::ZERO);
//! let first = schedule.next_at().unwrap();
//! let step = schedule.step(first, &roster, &Vitals::default());
//! let Action::Begin(strike) = &step.actions[0] else { panic!() };
//! assert_eq!(strike.path.as_str(), "/twin/scan");
//! ```

pub mod draw;
pub mod fault;
pub mod hands;
pub mod lines;
pub mod plan;
pub mod schedule;
mod swizzle;
pub mod toll;

#[cfg(test)]
mod tests;

pub use fault::{Fault, Place};
pub use hands::Hands;
pub use lines::Lines;
pub use plan::{FaultPlan, Plan, Rate, StopIf, Vital, Vitals, Way};
pub use schedule::{
    Action, Census, Counts, Kind, LINK, NODE, Over, Roster, SHARD, Schedule, Step, Strike,
    StrikeKey,
};
pub use toll::Toll;
