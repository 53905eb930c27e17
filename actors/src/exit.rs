//! How an actor ends: faults, exit reasons and incarnations.
//!
//! Values only; who restarts what is decided in `actorsim-supervision`. A [`Fault`] without detail
//! allocates nothing, so a cell may fail millions of times a second.

use std::any::Any;
use std::fmt;

use serde::Serialize;

use crate::path::ActorPath;

/// Which life of an actor this is; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Incarnation(pub u32);

impl Incarnation {
    /// The first life.
    pub const FIRST: Self = Self(1);

    /// The life after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An error that ends an incarnation: a stable code and, where it helps, a detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Stable and short (`bad_frame`); reports are folded by it.
    pub code: &'static str,
    /// What happened this time, in the operator's words.
    pub detail: Option<Box<str>>,
}

/// Code of the fault that a caught panic becomes.
pub const PANIC: &str = "panic";

impl Fault {
    /// A fault without detail.
    #[must_use]
    pub const fn new(code: &'static str) -> Self {
        Self { code, detail: None }
    }

    /// A fault with a detail.
    #[must_use]
    pub fn with(code: &'static str, detail: impl fmt::Display) -> Self {
        Self {
            code,
            detail: Some(detail.to_string().into_boxed_str()),
        }
    }

    /// The fault that a caught panic payload becomes.
    #[must_use]
    pub fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&'static str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self {
            code: PANIC,
            detail: text.map(Box::from),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.code),
            None => f.write_str(self.code),
        }
    }
}

impl std::error::Error for Fault {}

/// Why an incarnation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExitReason {
    /// The actor had nothing left to do.
    Normal,
    /// It was asked to stop, and stopped in order.
    Shutdown,
    /// It was ended without being asked; abnormal.
    Killed,
    /// A handler returned a fault or panicked.
    Fault(Fault),
    /// The thread that hosted it died.
    HostDown,
    /// Its supervisor gave up.
    Escalated,
}

impl ExitReason {
    /// OTP's sense of normal: `normal` and `shutdown`. A transient child is not restarted then.
    #[must_use]
    pub const fn is_normal(&self) -> bool {
        matches!(self, Self::Normal | Self::Shutdown)
    }

    /// A short label for metrics and folded reports.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shutdown => "shutdown",
            Self::Killed => "killed",
            Self::Fault(fault) => fault.code,
            Self::HostDown => "host_down",
            Self::Escalated => "escalated",
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            other => f.write_str(other.label()),
        }
    }
}

/// What a handler wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// There is nothing left to do: exit as `Normal`.
    Stop,
}

/// Kinds of the last messages that an incarnation took in hand, at most [`KINDS_KEPT`].
#[derive(Clone, Copy, Default)]
pub struct Kinds {
    ring: [&'static str; KINDS_KEPT],
    taken: u64,
}

/// Messages that a crash report names: what came before the one that killed is often why.
pub const KINDS_KEPT: usize = 4;

impl Kinds {
    /// One more message was taken in hand.
    #[inline]
    pub const fn push(&mut self, kind: &'static str) {
        self.ring[self.taken as usize % KINDS_KEPT] = kind;
        self.taken += 1;
    }

    /// The kinds, the latest last.
    pub fn iter(&self) -> impl Iterator<Item = &'static str> {
        let kept = (self.taken as usize).min(KINDS_KEPT);
        let first = self.taken as usize - kept;
        (first..first + kept).map(|at| self.ring[at % KINDS_KEPT])
    }

    /// The latest: the message in hand when the incarnation ended, if there was one.
    #[must_use]
    pub fn last(&self) -> Option<&'static str> {
        self.iter().last()
    }
}

impl From<Option<&'static str>> for Kinds {
    fn from(kind: Option<&'static str>) -> Self {
        let mut kinds = Self::default();
        kind.into_iter().for_each(|kind| kinds.push(kind));
        kinds
    }
}

impl PartialEq for Kinds {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Kinds {}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Kinds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// What a supervisor is told when an incarnation has ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Who ended.
    pub path: ActorPath,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Why.
    pub reason: ExitReason,
    /// Kinds of the last messages it took in hand.
    pub last_kinds: Kinds,
    /// Messages that waited when it ended.
    pub depth: u32,
}

/// Called exactly once when an incarnation has ended and everything it owned is dropped.
pub type OnExit = Box<dyn FnOnce(Exit) + Send>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_kinds_are_kept_in_order() {
        let mut kinds = Kinds::default();
        assert_eq!(kinds.last(), None);
        for kind in ["a", "b", "c", "d", "e", "f"] {
            kinds.push(kind);
        }
        assert_eq!(kinds.iter().collect::<Vec<_>>(), ["c", "d", "e", "f"]);
        assert_eq!(Kinds::from(Some("x")).last(), Some("x"));
        assert_eq!(Kinds::from(None), Kinds::default());
    }
}
