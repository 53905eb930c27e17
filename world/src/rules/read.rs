//! Reads rules from TOML: all mistakes at once, each at its place.
//!
//! Bound: as in [`super`]; a file is refused beyond that.

use std::ops::RangeInclusive;

use actorsim_supervision::ConfigError;
use actorsim_supervision::config::reader::{self, Section};

use super::{Field, HOLD_MAX, NAME_MAX, RULES_MAX, Rule, RuleSet, SLOTS, Side};
use crate::components::{KIND_NAMES, KINDS};

/// Limits and setpoints: far beyond any sensor, and short enough to be told.
const FINITE: RangeInclusive<f64> = -1e15..=1e15;

pub(super) fn rules(name: &str, text: &str) -> Result<RuleSet, Vec<ConfigError>> {
    let (set, errors) = reader::read(name, text, |root| {
        let mut set = RuleSet::default();
        for mut section in root.sections("rule", RULES_MAX) {
            if let Some(rule) = rule(&mut section, &set) {
                set.rules.push(rule);
            }
            section.finish();
        }
        set
    });
    if errors.is_empty() {
        Ok(set)
    } else {
        Err(errors)
    }
}

/// `None` where something is noted.
fn rule(section: &mut Section<'_, '_>, before: &RuleSet) -> Option<Rule> {
    let name = name(section, before);
    let kinds: [(&str, u8); KINDS] = std::array::from_fn(|kind| (KIND_NAMES[kind], kind as u8));
    let kind = section.choice("sensor", &kinds);
    if !section.has("sensor") {
        section.missing(
            "sensor",
            "name a type of sensor, such as sensor = \"presence\"",
        );
    }
    let field = section.choice("field", &Field::ALL);
    let limit = limit(section);
    let hysteresis = section.number("hysteresis", 0.0..=*FINITE.end());
    let hold = section.duration("for", HOLD_MAX);
    let then = setpoint(section, "then");
    if !section.has("then") {
        section.missing("then", "write then = \"stop\", \"start\" or a setpoint");
    }
    let otherwise = setpoint(section, "otherwise");
    let actuator = section.integer("actuator", 0..=u64::from(u16::MAX));
    let kind = kind?;
    let same = before.rules.iter().filter(|rule| rule.kind == kind);
    if same.count() == SLOTS {
        let message = format!(
            "more than {SLOTS} rules for {}",
            KIND_NAMES[usize::from(kind)]
        );
        section.wrong("sensor", message, "a row remembers no more");
    }
    let (side, limit) = limit?;
    Some(Rule {
        name: name?,
        kind,
        field: field.unwrap_or_default(),
        side,
        limit,
        hysteresis: hysteresis.unwrap_or(0.0),
        hold: hold.unwrap_or_default(),
        then: then?,
        otherwise,
        actuator: actuator.map(|sensor| sensor as u16),
    })
}

fn name(section: &mut Section<'_, '_>, before: &RuleSet) -> Option<String> {
    if !section.has("name") {
        section.missing("name", "write name = \"...\"");
    }
    let (name, span) = section.text("name")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) {
        let help = format!("letters, digits, dots, dashes, underscores; at most {NAME_MAX}");
        section.wrong_at(span, format!("{name:?} is no name of a rule"), help);
        return None;
    }
    if before.rules.iter().any(|rule| rule.name == name) {
        section.wrong_at(
            span,
            format!("the rule {name:?} is there twice"),
            "rename one",
        );
        return None;
    }
    Some(name)
}

fn limit(section: &mut Section<'_, '_>) -> Option<(Side, f64)> {
    let below = section.number("below", FINITE);
    let above = section.number("above", FINITE);
    match (section.has("below"), section.has("above")) {
        (true, false) => below.map(|limit| (Side::Below, limit)),
        (false, true) => above.map(|limit| (Side::Above, limit)),
        (true, true) => {
            section.wrong(
                "above",
                "a rule has below or above, not both",
                "make two of it",
            );
            None
        }
        (false, false) => {
            section.missing("below or above", "write below = LIMIT or above = LIMIT");
            None
        }
    }
}

/// `"start"`, `"stop"` or a finite number.
fn setpoint(section: &mut Section<'_, '_>, key: &'static str) -> Option<f64> {
    if section.is_text(key) {
        return section.choice(key, &[("start", 1.0), ("stop", 0.0)]);
    }
    section.number(key, FINITE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::rules::SHIPPED;

    #[test]
    fn the_shipped_rule_stops_on_absence_and_starts_on_presence() {
        let set = RuleSet::from_toml(SHIPPED.0, SHIPPED.1).unwrap();
        let [rule] = set.rules.as_slice() else {
            panic!("{set:?}");
        };
        assert_eq!((rule.kind, rule.side, rule.limit), (5, Side::Below, 1.0));
        assert_eq!((rule.then, rule.otherwise), (0.0, Some(1.0)));
    }

    #[test]
    fn every_key_is_read() {
        let text = "[[rule]]\nname = \"hot\"\nsensor = \"temperature\"\nfield = \"smoothed\"\n\
                    above = 90\nhysteresis = 5.5\nfor = \"10s\"\nthen = 42.5\n\
                    otherwise = \"start\"\nactuator = 9\n";
        let expected = Rule {
            name: "hot".to_owned(),
            kind: 0,
            field: Field::Smoothed,
            side: Side::Above,
            limit: 90.0,
            hysteresis: 5.5,
            hold: Duration::from_secs(10),
            then: 42.5,
            otherwise: Some(1.0),
            actuator: Some(9),
        };
        assert_eq!(RuleSet::from_toml("a", text).unwrap().rules, [expected]);
    }

    #[test]
    fn all_mistakes_are_told_at_once_at_their_places() {
        let text = "[[rule]]\nname = \"a b\"\nsensor = \"presense\"\nbelow = nan\nthen = \"halt\"\n\
                    [[rule]]\nname = \"b\"\nsensor = \"voltage\"\nabove = 1\nbelow = 2\n\
                    fro = \"1s\"\nhysteresis = -1.0\nthen = 1\n[[rule]]\n";
        let errors = RuleSet::from_toml("a", text).unwrap_err();
        let places: Vec<_> = errors.iter().map(|e| (e.line, e.column)).collect();
        let expected = [
            (2, 8),
            (3, 10),
            (4, 9),
            (5, 8),
            (9, 9),
            (11, 1),
            (12, 14),
            (14, 1),
            (14, 1),
            (14, 1),
            (14, 1),
        ];
        assert_eq!(places, expected, "{errors:#?}");
    }

    #[test]
    fn a_ninth_rule_for_a_type_and_a_name_twice_are_refused() {
        let rule = |name| {
            format!("[[rule]]\nname = \"{name}\"\nsensor = \"current\"\nabove = 1\nthen = 0\n")
        };
        let text: String = (0..9).map(rule).collect();
        let errors = RuleSet::from_toml("a", &text).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        let errors = RuleSet::from_toml("a", &(rule(1) + &rule(1))).unwrap_err();
        assert!(errors[0].message.contains("twice"), "{errors:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_rules_or_mistakes_never_a_panic(text in "(?s).{0,200}") {
            let _ = RuleSet::from_toml("a", &text);
        }

        #[test]
        fn any_values_are_rules_or_mistakes_at_a_place(
            keys in proptest::collection::vec(
                ("(name|sensor|field|below|above|hysteresis|for|then|otherwise|actuator)",
                 "(\"[a-z0-9.]{0,9}\"|-?[0-9]{1,20}|nan|inf|-inf|1e[0-9]{1,3}|\\[\\]|true)"),
                0..12,
            )
        ) {
            let lines: String = keys.iter().map(|(k, v)| format!("{k} = {v}\n")).collect();
            if let Err(errors) = RuleSet::from_toml("a", &format!("[[rule]]\n{lines}")) {
                prop_assert!(!errors.is_empty());
                prop_assert!(errors.iter().all(|error| error.line >= 1));
            }
        }
    }
}
