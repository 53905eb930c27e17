//! Automation rules in TOML: read, or every mistake said with its place.

use actorsim_world::rules::RuleSet;

use super::Target;
use super::text::{inputs, placed, text};

pub(crate) const TARGET: Target = Target {
    name: "rules",
    about: "automation rules in TOML",
    run,
    seeds,
    words: &[
        "[[rule]]\n",
        "name = \"a\"\n",
        "above = ",
        "below = ",
        "for = \"1s\"\n",
    ],
    len_max: 4_096,
    heap_max: 16 << 20,
};

fn seeds() -> Vec<Vec<u8>> {
    let shipped = include_str!("../../../config/rules/default.toml");
    inputs(&[
        shipped,
        "[[rule]]\nname = \"x\"\nabove = nan\nbelow = 1e400\n",
    ])
}

fn run(input: &[u8]) {
    let Some(text) = text(input) else {
        return;
    };
    match RuleSet::from_toml("rules.toml", text) {
        Err(errors) => placed(&errors, text),
        Ok(rules) => {
            let twice = rules.clone().and(rules.clone());
            let none = RuleSet::default().and(rules);
            assert!(none.is_ok_and(|none| none == RuleSet::default()) || twice.is_err());
        }
    }
}
