//! Faults for many devices at once: who is meant, and whether they were told.
//!
//! A [`Selector`] joins terms by commas, all of which must hold: `meter-*,site=north,10%`. A share
//! is of those that the other terms mean, and is chosen by their seeds: the same seed chooses the
//! same devices, and 10 % are among the 20 %. Bounds: 16 terms, [`INJECT_PATIENCE`]; a
//! selection is one number a device.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::SendError;
use actorsim_actors::census::glob_matches;

use super::Fleet;
use crate::device::{DeviceMessage, Injection};
use crate::generator::noise;
use crate::population::Compiled;
use crate::seed::device_seed;
use crate::watch::Happened;

/// Terms of one selector.
const TERMS_MAX: usize = 16;
/// How long a selection may wait for room in the queues of shards, all devices together.
pub const INJECT_PATIENCE: Duration = Duration::from_secs(3);

/// Lane of the draws that order devices for a share.
const SHARE_LANE: u64 = 0x0053_4841_5245;

/// Which devices are meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    text: String,
    terms: Vec<Term>,
    /// Of those that the terms mean, 0..=1.
    share: Option<f64>,
    /// These and no others, without terms.
    ids: Option<Arc<[String]>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    /// A device's id or path, or a pattern of them; a population's name or path.
    Name(String),
    /// Devices of a type, from one number to another, both included.
    Range(String, u32, u32),
    /// A label of the profile, `device_type` or `population`.
    Label(String, String),
}

/// `lock-0100..0199`.
fn range(text: &str) -> Option<Term> {
    let (first, last) = text.split_once("..")?;
    let (kind, first) = first.rsplit_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then(|| Term::Range(kind.to_owned(), first, last))
}

/// How far an injection came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reached {
    /// Devices that were meant.
    pub selected: u64,
    /// Of these, those whose shard took the message.
    pub sent: u64,
    /// Those whose shard had no room in time.
    pub full: u64,
    /// Those whose shard is gone.
    pub closed: u64,
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// A sentence for everything that is wrong.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (mut terms, mut share, mut wrong) = (Vec::new(), None, Vec::new());
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.len() > TERMS_MAX {
            return Err(vec![format!("a selector has at most {TERMS_MAX} terms")]);
        }
        for part in parts {
            if part.is_empty() {
                let forms = "an id, a pattern, lock-0100..0199, a population, label=value or 10%";
                wrong.push(format!("selector `{text}` has an empty term; use {forms}"));
            } else if let Some((label, value)) = part.split_once('=') {
                terms.push(Term::Label(label.into(), value.into()));
            } else if let Some(percent) = part.strip_suffix('%') {
                match percent.parse::<f64>() {
                    Ok(percent) if percent > 0.0 && percent <= 100.0 && share.is_none() => {
                        share = Some(percent / 100.0);
                    }
                    Ok(_) if share.is_some() => {
                        wrong.push(format!("`{part}` is a second share; give one"));
                    }
                    _ => wrong.push(format!("share `{part}` must be above 0% and up to 100%")),
                }
            } else {
                terms.push(range(part).unwrap_or_else(|| Term::Name(part.into())));
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let text = text.to_owned();
        let ids = None;
        Ok(Self {
            text,
            terms,
            share,
            ids,
        })
    }

    /// All devices.
    #[must_use]
    pub fn all() -> Self {
        Self {
            text: "*".to_owned(),
            terms: Vec::new(),
            share: None,
            ids: None,
        }
    }

    /// The devices of these ids; those that nobody has are left out.
    #[must_use]
    pub fn ids(ids: Vec<String>) -> Self {
        Self {
            text: format!("{} ids", ids.len()),
            ids: Some(ids.into()),
            ..Self::all()
        }
    }
}

impl Term {
    /// Whether it means all of a population, or else has to be asked for each device.
    fn means_all(&self, one: &Compiled) -> bool {
        match self {
            Self::Name(name) => {
                *name == one.asked.name || *name == one.path.as_str() || name == "*"
            }
            Self::Range(kind, first, last) => {
                let own = one.asked.ordinals();
                *kind == *one.device_type && *first <= own.start && own.end <= last + 1
            }
            Self::Label(label, value) => labels(one).any(|own| own == (label, value)),
        }
    }

    /// Whether it can mean some of a population's devices.
    fn means_some(&self, one: &Compiled) -> bool {
        match self {
            Self::Name(_) => true,
            Self::Range(kind, ..) => *kind == *one.device_type,
            Self::Label(..) => self.means_all(one),
        }
    }

    /// Whether it means this device, in a population of which it does not mean all.
    fn means(&self, one: &Compiled, ordinal: u32) -> bool {
        let name = match self {
            Self::Name(name) => name,
            Self::Range(_, first, last) => {
                return one.asked.ids.is_none() && (*first..=*last).contains(&ordinal);
            }
            Self::Label(..) => return false,
        };
        let id = one.name_of(ordinal);
        match name.contains('/') {
            true => glob_matches(name, one.path.join(&id).as_str()),
            false => glob_matches(name, &id),
        }
    }
}

/// Labels of a population: those of its profile, its type, its name.
fn labels(one: &Compiled) -> impl Iterator<Item = (&str, &str)> {
    let own = [
        ("device_type", &*one.device_type),
        ("population", one.asked.name.as_str()),
    ];
    let profile = one.asked.profile.labels.iter();
    own.into_iter()
        .chain(profile.map(|(label, value)| (label.as_str(), value.as_str())))
}

impl Fleet {
    /// Injects into all devices that are meant, in their order. It waits while a shard's queue is
    /// full, for [`INJECT_PATIENCE`] in all, and counts those it did not reach.
    ///
    /// # Errors
    /// Why no device is meant.
    pub async fn inject_where(
        &self,
        selector: &Selector,
        injection: Injection,
    ) -> Result<Reached, String> {
        let selected = self.select(selector)?;
        if let Injection::Fault(spec) = injection {
            self.tell_some(Happened::FaultInjected, &selected, spec.fault.kind());
        }
        let message = || DeviceMessage::Inject(injection);
        Ok(self.send_to(selected, message).await)
    }

    /// Sends a message to devices by their numbers.
    pub(super) async fn send_to(
        &self,
        selected: Vec<u32>,
        message: impl Fn() -> DeviceMessage,
    ) -> Reached {
        let roster = self.core.roster();
        let began = self.system.clock().monotonic();
        let mut patience = INJECT_PATIENCE;
        let mut reached = Reached {
            selected: selected.len() as u64,
            ..Reached::default()
        };
        for device in selected {
            let found = roster
                .of(device)
                .and_then(|(member, ordinal)| Some((member.slab(ordinal, self.shards)?, ordinal)));
            let Some((slab, ordinal)) = found else {
                reached.closed += 1;
                continue;
            };
            match slab.send_or_wait(ordinal, message(), patience).await {
                Ok(()) => reached.sent += 1,
                Err(SendError::Closed(_)) => reached.closed += 1,
                Err(_) => {
                    reached.full += 1;
                    patience = Duration::ZERO;
                }
            }
            let waited = self.system.clock().monotonic().since(began);
            patience = patience.min(INJECT_PATIENCE.saturating_sub(waited));
        }
        reached
    }

    /// Numbers of the devices that are meant, ascending.
    pub(super) fn select(&self, selector: &Selector) -> Result<Vec<u32>, String> {
        let Selector {
            text, terms, share, ..
        } = selector;
        self.known_labels(terms)?;
        let mut selected = self.of_ids(selector.ids.as_deref().unwrap_or_default());
        for member in &self.core.roster().members {
            let one = &member.one;
            if selector.ids.is_some() {
                break;
            }
            if !terms.iter().all(|term| term.means_some(one)) {
                continue;
            }
            let asked: Vec<_> = terms.iter().filter(|term| !term.means_all(one)).collect();
            let stopped = member.stopped.lock();
            let means = |ordinal: &u32| {
                !stopped.contains(ordinal) && asked.iter().all(|term| term.means(one, *ordinal))
            };
            let ordinals = one.asked.ordinals().filter(means);
            selected.extend(ordinals.map(|ordinal| member.number(ordinal)));
        }
        if selected.is_empty() {
            return Err(format!(
                "no device of this fleet is meant by `{text}`; `ps /fleet/*` lists them"
            ));
        }
        Ok(match share {
            Some(share) => self.share(selected, *share),
            None => selected,
        })
    }

    /// So many of these, at least one, by their seeds.
    fn share(&self, selected: Vec<u32>, share: f64) -> Vec<u32> {
        let count = (selected.len() as f64 * share).round().max(1.0) as usize;
        let roster = self.core.roster();
        let draw = |device: u32| {
            let found = roster.of(device);
            let seed = found.map_or(0, |(member, ordinal)| {
                device_seed(member.one.asked.seed, &member.one.name_of(ordinal))
            });
            (noise::uniform(seed, 0, SHARE_LANE), device)
        };
        let mut drawn: Vec<_> = selected.into_iter().map(draw).collect();
        if count < drawn.len() {
            drawn.select_nth_unstable_by(count, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            drawn.truncate(count);
        }
        let mut chosen: Vec<_> = drawn.into_iter().map(|(_, device)| device).collect();
        chosen.sort_unstable();
        chosen
    }

    /// A label that no population has is a mistake, not an empty selection.
    fn known_labels(&self, terms: &[Term]) -> Result<(), String> {
        let roster = self.core.roster();
        let all = || roster.members.iter().flat_map(|member| labels(&member.one));
        let mut wrong = Vec::new();
        for term in terms {
            let Term::Label(label, value) = term else {
                continue;
            };
            let mut values: Vec<_> = all().filter(|own| own.0 == label).collect();
            values.sort_unstable();
            values.dedup();
            if values.is_empty() {
                let mut known: Vec<_> = all().map(|own| own.0).collect();
                known.sort_unstable();
                known.dedup();
                wrong.push(format!(
                    "no population has a label `{label}`; known: {}",
                    known.join(", ")
                ));
            } else if values.iter().all(|own| own.1 != value) {
                let known: Vec<_> = values.iter().map(|own| own.1).collect();
                wrong.push(format!(
                    "no population has {label}=`{value}`; known: {}",
                    known.join(", ")
                ));
            }
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("; ")),
        }
    }
}
