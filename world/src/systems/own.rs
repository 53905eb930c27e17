//! Systems that a program adds to the five: they read the rows, at a rate, after others.
//!
//! They run on the scan thread and are measured, isolated and skipped as the others are. They write
//! no row. Bound: [`OWN_MAX`] systems; what one does in a cycle is its own.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::{BUILT_IN, OWN_MAX, SystemId};
use crate::components::{Cold, DeviceId, Hot};

/// The rows, as a system sees them.
#[derive(Clone, Copy, Debug)]
pub struct OwnRows<'a> {
    /// Values; a row that is not bound has no [`Flags::BOUND`](crate::components::Flags::BOUND).
    pub hot: &'a [Hot],
    /// Whose they are.
    pub cold: &'a [Cold],
    /// Ids of devices, by [`Cold::asset`].
    pub devices: &'a [DeviceId],
    /// Start of the cycle, nanoseconds of the monotonic clock.
    pub now_ns: u64,
}

/// One life of a system: it must not allocate in steady state.
pub type OwnRun = Box<dyn FnMut(OwnRows<'_>) -> Result<(), String> + Send + Sync>;

/// A system of the program's.
#[derive(Clone)]
pub struct OwnSystem {
    /// Name in reports: not one of the five.
    pub name: &'static str,
    /// It runs in every so-many-th slot of the grid.
    pub every: u32,
    /// Systems that it runs after: of the five, or added before it. It runs after all of those.
    pub after: Vec<&'static str>,
    /// Makes one for each world.
    pub make: Arc<dyn Fn() -> OwnRun + Send + Sync>,
}

impl fmt::Debug for OwnSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("OwnSystem");
        shown.field("name", &self.name).field("after", &self.after);
        shown.finish_non_exhaustive()
    }
}

/// Why a system cannot be added.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OwnError {
    /// There are as many as may be.
    #[error("a twin takes at most {OWN_MAX} systems of a program")]
    TooMany,
    /// The name is another's.
    #[error("there is a system {0} already")]
    Named(&'static str),
    /// It would run after one that there is not, or not yet.
    #[error("{name} runs after {after}, which is not there before it")]
    After {
        /// The system.
        name: &'static str,
        /// What it names.
        after: &'static str,
    },
}

/// The systems of a program, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct OwnSystems(Vec<OwnSystem>);

impl OwnSystems {
    /// Adds one: there can be no circle, since it names only those before it.
    ///
    /// # Errors
    /// What is wrong with it; nothing is added then.
    pub fn add(&mut self, system: OwnSystem) -> Result<SystemId, OwnError> {
        if self.0.len() == OWN_MAX {
            return Err(OwnError::TooMany);
        }
        if self.find(system.name).is_some() {
            return Err(OwnError::Named(system.name));
        }
        if let Some(after) = system.after.iter().find(|after| self.find(after).is_none()) {
            let name = system.name;
            return Err(OwnError::After { name, after });
        }
        self.0.push(system);
        Ok(SystemId::Own(self.0.len() as u8 - 1))
    }

    /// The system of that name, of the five too.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<SystemId> {
        let all = self.ids();
        all.into_iter().find(|system| self.name(*system) == name)
    }

    /// All systems of a world, the five first.
    #[must_use]
    pub fn ids(&self) -> Vec<SystemId> {
        let own = (0..self.0.len()).map(|at| SystemId::Own(at as u8));
        SystemId::ALL.into_iter().chain(own).collect()
    }

    /// Name of a system.
    #[must_use]
    pub fn name(&self, system: SystemId) -> &'static str {
        let own = system.index().checked_sub(BUILT_IN);
        own.and_then(|at| self.0.get(at))
            .map_or(system.name(), |own| own.name)
    }

    /// Those that were added.
    #[must_use]
    pub fn all(&self) -> &[OwnSystem] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &'static str, after: &[&'static str]) -> OwnSystem {
        OwnSystem {
            name,
            every: 1,
            after: after.to_vec(),
            make: Arc::new(|| Box::new(|_| Ok(()))),
        }
    }

    #[test]
    fn a_system_after_nobody_or_of_another_s_name_is_refused() {
        let mut own = OwnSystems::default();
        let unknown = own.add(named("a", &["b"]));
        assert_eq!(
            unknown,
            Err(OwnError::After {
                name: "a",
                after: "b"
            })
        );
        assert_eq!(
            own.add(named("export", &[])),
            Err(OwnError::Named("export"))
        );
        assert_eq!(own.add(named("a", &["ingest"])), Ok(SystemId::Own(0)));
        assert_eq!(own.add(named("b", &["a"])), Ok(SystemId::Own(1)));
        assert_eq!(own.name(SystemId::Own(1)), "b");
        assert_eq!(own.ids().len(), BUILT_IN + 2);
        for name in ["c", "d", "e", "f", "g", "h"] {
            own.add(named(name, &[])).unwrap();
        }
        assert_eq!(own.add(named("i", &[])), Err(OwnError::TooMany));
    }
}
