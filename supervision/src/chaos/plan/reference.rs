//! The keys of a plan as a table: explanations, schema, reference page.
//!
//! It reads no file: `read` does, by the same names. Bound: fixed at compile time.

use super::{TIMES_MAX, WAYS, WEIGHT_MAX};
use crate::chaos::schedule::MAX_CONCURRENT;
use crate::config::keys::Form;

/// One key of a plan.
#[derive(Debug)]
pub struct PlanKey {
    /// Such as `rate`; keys of one fault begin with `faults.NAME.`.
    pub name: &'static str,
    /// What it holds.
    pub form: Form,
    /// What it is when it is left out.
    pub default: &'static str,
    /// What it does, in one line.
    pub doc: &'static str,
}

fn ways() -> Vec<&'static str> {
    WAYS.iter().map(|row| row.0).collect()
}

macro_rules! keys {
    ($($name:literal, $form:expr, $default:literal, $doc:literal;)*) => {
        /// Every key of a plan.
        pub const PLAN_KEYS: &[PlanKey] = &[$(
            PlanKey { name: $name, form: $form, default: $default, doc: $doc },
        )*];
    };
}

keys! {
    "seed", Form::Count(0, i64::MAX as u64), "0",
        "seed of every draw; 0 draws one when it starts and tells it";
    "rate", Form::Text, "\"1/10s\"",
        "strikes per time, one in each slot, at a drawn moment of it";
    "scope", Form::Text, "\"/\"",
        "a path with all below it, or a pattern with `*` and `?`";
    "for", Form::Duration, "until stopped",
        "how long strikes are made";
    "max_concurrent", Form::Count(1, MAX_CONCURRENT as u64), "1",
        "victims that are not back yet; no strike above it";
    "blast_radius", Form::Number(0.0, 1.0), "1.0",
        "share of one kind that may be down at once (at least one may)";
    "stop_if", Form::Text, "never",
        "`health`, `escalations`, `quarantined` or `lost`, `<` or `>`, a number";
    "lease", Form::Duration, "\"10s\"",
        "dead-man's switch: not renewed for so long, it stops and heals";
    "protect", Form::Text, "[]",
        "paths and patterns that are never hit; the root never is";
    "swarm", Form::Flag, "false",
        "the seed changes the weights of faults: each run has its own mix";
    "faults", Form::Count(0, WEIGHT_MAX), "kill = 1",
        "weight of each fault, or a table with its numbers";
    "faults.*.weight", Form::Count(0, WEIGHT_MAX), "1",
        "how often, against the others";
    "faults.*.for", Form::Duration, "\"2s\"",
        "how long it lasts, if it does";
    "faults.*.share", Form::Number(0.0, 1.0), "0.05",
        "share of a link's packets; of a device's values, 0.5";
    "faults.*.delay", Form::Duration, "\"50ms\"",
        "how late packets, messages or samples are; packets at most 10 s";
    "faults.*.by", Form::Duration, "\"10s\"",
        "how far the calendar jumps";
    "faults.*.times", Form::Count(1, TIMES_MAX), "1",
        "how many starts fail at most";
    "faults.*.way", Form::Word(ways), "\"both\"",
        "which packets: both, up to the twin, down to the devices";
    "kinds", Form::Count(0, WEIGHT_MAX), "1 each",
        "weight of each kind of actors, by name";
}

/// The keys of a plan, for the reference page.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from("| key | default | meaning |\n|---|---|---|\n");
    for key in PLAN_KEYS {
        let (name, default, doc) = (key.name, key.default, key.doc);
        text += &format!("| `{name}` | `{default}` | {doc} |\n");
    }
    text += "\n`faults.*` are the keys of one fault, where it has them: a fault is a weight ";
    text += "(`kill = 8`) or a table\n(`partition = { weight = 1, for = \"3s\" }`).\n\n";
    text + &crate::chaos::fault::reference()
}
