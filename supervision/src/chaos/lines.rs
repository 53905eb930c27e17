//! Lines whose packets faults disturb: those of a simulated network, or of a running node.
//!
//! What carries packets implements it; [`Hands`](super::Hands) use it. It draws nothing. Bound: the
//! implementation's own.

use std::fmt;

use actorsim_actors::ActorPath;

use super::plan::FaultPlan;
use super::schedule::StrikeKey;

/// The lines of links, by number.
pub trait Lines: fmt::Debug + Send + Sync {
    /// A fault begins on a line, or on all of them.
    fn begin(&self, strike: StrikeKey, line: Option<u32>, fault: FaultPlan);
    /// It ends, and what it held back goes on. What it made late by then comes as late as that: at
    /// most [`LATE_MAX`](super::plan::LATE_MAX) after. Ending what has not begun is harmless.
    fn end(&self, strike: StrikeKey);
}

/// The line of a link: the number that its path ends with.
pub(super) fn line_of(link: &ActorPath) -> Option<u32> {
    link.name().parse().ok()
}
