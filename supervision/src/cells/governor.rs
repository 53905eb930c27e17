//! The policy of a population, shared by its slabs; an operator may change it while they run.
//!
//! A slab looks at a version number when a cell has ended, and takes the policy over if it is
//! another one: healthy cells pay nothing. It decides nothing. Bound: one policy.

use std::sync::atomic::{AtomicU64, Ordering};

use actorsim_actors::ActorPath;
use parking_lot::Mutex;

use super::CellPolicyError;
use crate::governance::{Governance, Governed, Labels, differences, term_differences};
use crate::policy::{AutoShutdown, Restart, Shutdown, Strategy, SupervisorPolicy};
use crate::spec::Terms;

/// What governs the groups of one population.
#[derive(Debug)]
pub struct CellGovernor {
    path: ActorPath,
    labels: Labels,
    version: AtomicU64,
    now: Mutex<(SupervisorPolicy, Restart)>,
}

impl CellGovernor {
    /// What the files say of the population at `path`; cells are permanent unless they say
    /// otherwise of the child `*`.
    ///
    /// # Errors
    /// [`CellPolicyError`] if groups cannot do what is asked.
    pub fn new(
        path: ActorPath,
        labels: Labels,
        governance: &Governance,
    ) -> Result<Self, CellPolicyError> {
        let now = Mutex::new(read(governance)?);
        let version = AtomicU64::new(0);
        Ok(Self {
            path,
            labels,
            version,
            now,
        })
    }

    /// Path of the population.
    #[must_use]
    pub const fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Names of the population besides its path.
    #[must_use]
    pub const fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The policy in force, and the restart type of the cells.
    #[must_use]
    pub fn policy(&self) -> (SupervisorPolicy, Restart) {
        self.now.lock().clone()
    }

    /// Puts another governance in force, or says what that would change.
    ///
    /// # Errors
    /// [`CellPolicyError`] if groups cannot do what is asked; nothing has changed then.
    pub fn govern(&self, by: &Governance, dry_run: bool) -> Result<Governed, CellPolicyError> {
        let new = read(by)?;
        let mut now = self.now.lock();
        let terms = |restart| Terms {
            restart,
            shutdown: Shutdown::BrutalKill,
            significant: false,
        };
        let mut changes = differences(&now.0, &new.0);
        changes.extend(term_differences("*", terms(now.1), terms(new.1)));
        if !dry_run && !changes.is_empty() {
            *now = new;
            self.version.fetch_add(1, Ordering::Release);
        }
        let children = 0; // it does not know how many: the slabs do
        Ok(Governed { changes, children })
    }

    /// The policy, if it is another one than that of version `seen`.
    pub(super) fn newer(&self, seen: &mut u64) -> Option<(SupervisorPolicy, Restart)> {
        let version = self.version.load(Ordering::Acquire);
        (version != *seen).then(|| {
            *seen = version;
            self.policy()
        })
    }
}

fn read(governance: &Governance) -> Result<(SupervisorPolicy, Restart), CellPolicyError> {
    let policy = governance.policy.clone();
    check(&policy)?;
    Ok((policy, governance.child("*").restart.unwrap_or_default()))
}

/// Whether groups can do what a policy asks for.
pub(super) fn check(policy: &SupervisorPolicy) -> Result<(), CellPolicyError> {
    if let Err(errors) = policy.check() {
        return Err(CellPolicyError::Invalid(errors[0]));
    }
    match policy.strategy {
        Strategy::OneForOne | Strategy::SimpleOneForOne => {}
        other => return Err(CellPolicyError::OnlyOneForOne(other)),
    }
    match policy.auto_shutdown {
        AutoShutdown::Never => Ok(()),
        _ => Err(CellPolicyError::AutoShutdown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_and_a_bad_one_changes_nothing() {
        let path = ActorPath::root().join("fleet/default");
        let governor = CellGovernor::new(path, Labels::new(), &Governance::default()).unwrap();
        let mut seen = 0;
        assert!(governor.newer(&mut seen).is_none());
        let mut other = Governance::default();
        other.policy.intensity = 7;
        let planned = governor.govern(&other, true).unwrap();
        assert_eq!(planned.to_string(), "intensity 1 -> 7");
        assert!(governor.newer(&mut seen).is_none(), "only planned");
        assert_eq!(governor.govern(&other, false).unwrap(), planned);
        assert_eq!(governor.newer(&mut seen).unwrap().0.intensity, 7);
        assert!(governor.newer(&mut seen).is_none());
        other.policy.strategy = Strategy::RestForOne;
        assert!(governor.govern(&other, false).is_err());
        assert_eq!(governor.policy().0.strategy, Strategy::OneForOne);
    }
}
