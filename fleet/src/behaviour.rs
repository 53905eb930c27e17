//! How devices of a population behave otherwise than their profile says, changed while they run.
//!
//! A change makes a revision of the profile, shared by all devices it was made for; a device's
//! identity says by which revision its series was laid out, and the cell follows when it is told,
//! or when it starts anew. Only generators change: fields, sensors and thresholds are the
//! profile's. Bounds: [`REVISIONS_MAX`] revisions, a number for each device that was changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actorsim_supervision::ConfigError;
use parking_lot::RwLock;

use crate::payload::Encoder;
use crate::population::Compiled;
use crate::profile::Profile;
use crate::program::{Program, ProgramError};

/// Revisions of one population: one that is the same as an earlier one is not counted again.
pub const REVISIONS_MAX: usize = 256;

/// The revision that is the profile itself.
pub(crate) const ORIGINAL: u16 = 0;

/// What one revision is.
#[derive(Debug)]
pub struct Behaviour {
    profile: Profile,
    /// Which revision was changed, and how.
    from: Option<(u16, String)>,
    /// The profile, runnable.
    pub program: Program,
    /// What its samples look like, where they go to a broker.
    pub encoder: Encoder,
    /// What they look like as lines.
    pub lines: Encoder,
}

/// Why devices cannot behave so.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BehaviourError {
    /// The generators are wrong: everything at once.
    #[error("{}", render(.0))]
    Fields(Vec<ConfigError>),
    /// They cannot run at the population's interval.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// There were too many changes.
    #[error("population `{0}` was changed in {REVISIONS_MAX} ways already")]
    TooMany(String),
}

fn render(errors: &[ConfigError]) -> String {
    let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
    all.join("; ")
}

/// The revisions of a population, and which devices follow which.
#[derive(Debug)]
pub struct Behaviours {
    any: AtomicBool,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    population: String,
    revisions: Vec<Arc<Behaviour>>,
    /// Devices that do not follow the original.
    follows: BTreeMap<u32, u16>,
}

impl Behaviours {
    /// Of a population that behaves as its profile says.
    pub(crate) fn new(one: &Compiled) -> Self {
        let original = Behaviour {
            profile: (*one.asked.profile).clone(),
            from: None,
            program: (*one.program).clone(),
            encoder: Encoder::new(&one.asked.profile),
            lines: Encoder::lines(&one.asked.profile),
        };
        Self {
            any: AtomicBool::new(false),
            state: RwLock::new(State {
                population: one.asked.name.clone(),
                revisions: vec![Arc::new(original)],
                follows: BTreeMap::new(),
            }),
        }
    }

    /// Changes the generators of fields, as written in a profile or as JSON, for these devices.
    pub(crate) fn change(
        &self,
        one: &Compiled,
        ordinals: &[u32],
        fields: &str,
    ) -> Result<(), BehaviourError> {
        let state = &mut *self.state.write();
        // All or none: revisions are made before the first device follows one.
        let mut made: BTreeMap<u16, u16> = BTreeMap::new();
        for ordinal in ordinals {
            let now = state.follows.get(ordinal).copied().unwrap_or(ORIGINAL);
            if let Entry::Vacant(free) = made.entry(now) {
                free.insert(state.revise(one, now, fields)?);
            }
        }
        for ordinal in ordinals {
            let now = state.follows.get(ordinal).copied().unwrap_or(ORIGINAL);
            state.follows.insert(*ordinal, made[&now]);
        }
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    /// The revision that a device is to follow.
    pub(crate) fn target(&self, ordinal: u32) -> u16 {
        if !self.any.load(Ordering::Acquire) {
            return ORIGINAL;
        }
        let state = self.state.read();
        state.follows.get(&ordinal).copied().unwrap_or(ORIGINAL)
    }

    /// A revision.
    pub(crate) fn revision(&self, number: u16) -> Option<Arc<Behaviour>> {
        let state = self.state.read();
        state.revisions.get(usize::from(number)).cloned()
    }
}

impl State {
    /// The number of a revision changed so; an equal one is used again.
    fn revise(&mut self, one: &Compiled, base: u16, fields: &str) -> Result<u16, BehaviourError> {
        let same = |from: &Option<(u16, String)>| {
            from.as_ref()
                .is_some_and(|(from, change)| *from == base && change == fields)
        };
        let profile = &self.revisions[usize::from(base)].profile;
        let changed = profile.changed("fields", fields);
        let profile = changed.map_err(BehaviourError::Fields)?;
        let found = self
            .revisions
            .iter()
            .position(|other| same(&other.from) || other.profile == profile);
        if let Some(found) = found {
            return Ok(found as u16);
        }
        if self.revisions.len() >= REVISIONS_MAX {
            return Err(BehaviourError::TooMany(self.population.clone()));
        }
        let program = Program::new(&profile, one.asked.interval)?;
        let encoder = Encoder::new(&profile);
        let lines = Encoder::lines(&profile);
        self.revisions.push(Arc::new(Behaviour {
            profile,
            from: Some((base, fields.to_owned())),
            program,
            encoder,
            lines,
        }));
        Ok((self.revisions.len() - 1) as u16)
    }
}
