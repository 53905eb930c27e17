//! What an overrun means, as a pure state machine: lengths of cycles go in, decisions come out.
//!
//! Bound: two counters.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Overruns in a row that end an incarnation under [`OverrunPolicy::Fault`]: one may be the host's.
pub const FAULT_AFTER: u32 = 3;

/// Cycles in a row that must have fitted before all systems run again.
pub const RECOVER_AFTER: u32 = 100;

/// What is done about a cycle that was longer than the period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverrunPolicy {
    /// It is counted.
    #[default]
    Count,
    /// [`FAULT_AFTER`] in a row end the incarnation; its supervisor decides.
    Fault,
    /// Only what is essential runs, with fewer readings in a cycle, until [`RECOVER_AFTER`] cycles
    /// in a row have fitted.
    Fallback,
}

impl OverrunPolicy {
    /// All of them, by name.
    pub const NAMES: [&'static str; 3] = ["count", "fault", "fallback"];

    /// The policy of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let policies = [Self::Count, Self::Fault, Self::Fallback];
        policies.into_iter().find(|policy| policy.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for OverrunPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// As it is.
    GoOn,
    /// Only what is essential.
    FallBack,
    /// Everything again.
    Recover,
    /// The incarnation ends.
    End,
}

/// The cycles of one incarnation.
#[derive(Clone, Debug, Default)]
pub struct Overruns {
    policy: OverrunPolicy,
    over: u32,
    fit: u32,
    fallback: bool,
}

impl Overruns {
    /// No cycle yet.
    #[must_use]
    pub fn new(policy: OverrunPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// Whether only the essential runs.
    #[must_use]
    pub fn is_fallback(&self) -> bool {
        self.fallback
    }

    /// A cycle ended.
    pub fn after(&mut self, took_ns: u64, period_ns: u64) -> Next {
        if took_ns > period_ns {
            (self.over, self.fit) = (self.over.saturating_add(1), 0);
        } else {
            (self.over, self.fit) = (0, self.fit.saturating_add(1));
        }
        match self.policy {
            OverrunPolicy::Fault if self.over >= FAULT_AFTER => Next::End,
            OverrunPolicy::Fallback if self.over > 0 && !self.fallback => {
                self.fallback = true;
                Next::FallBack
            }
            OverrunPolicy::Fallback if self.fallback && self.fit >= RECOVER_AFTER => {
                self.fallback = false;
                Next::Recover
            }
            _ => Next::GoOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nexts(policy: OverrunPolicy, took: &[u64]) -> Vec<Next> {
        let mut overruns = Overruns::new(policy);
        let nexts = took.iter().map(|took| overruns.after(*took, 10));
        nexts.filter(|next| *next != Next::GoOn).collect()
    }

    #[test]
    fn counting_changes_nothing() {
        assert_eq!(nexts(OverrunPolicy::Count, &[11; 50]), []);
    }

    #[test]
    fn only_overruns_in_a_row_end_an_incarnation() {
        assert_eq!(nexts(OverrunPolicy::Fault, &[11, 11, 10, 11, 11]), []);
        assert_eq!(nexts(OverrunPolicy::Fault, &[11, 11, 11]), [Next::End]);
    }

    #[test]
    fn the_fallback_begins_with_one_overrun_and_ends_after_a_quiet_time() {
        let mut took = vec![5, 11, 11];
        took.extend([5; RECOVER_AFTER as usize - 1]);
        assert_eq!(nexts(OverrunPolicy::Fallback, &took), [Next::FallBack]);
        took.push(5);
        let expected = [Next::FallBack, Next::Recover];
        assert_eq!(nexts(OverrunPolicy::Fallback, &took), expected);
        took.push(11);
        assert_eq!(
            nexts(OverrunPolicy::Fallback, &took).len(),
            3,
            "and begins again"
        );
    }

    #[test]
    fn policies_are_found_by_name() {
        for name in OverrunPolicy::NAMES {
            assert_eq!(OverrunPolicy::named(name).unwrap().to_string(), name);
        }
        assert_eq!(OverrunPolicy::named("panic"), None);
    }
}
