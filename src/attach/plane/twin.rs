//! The twin from a prompt: its quality, its rules, its pace.
//!
//! Bound: a row for each rule.

use std::collections::BTreeMap;
use std::time::Duration;

use actorsim_world::components::KIND_NAMES;
use actorsim_world::rules::{Rule, Side};
use actorsim_world::{AskTwinError, Twin};
use serde_json::{Value as Json, json};

use super::SystemPlane;
use crate::attach::control::RulesWord;
use crate::attach::protocol::{Code, Refusal};
use crate::config::key;
use crate::config::value::Value;

fn refusal(error: AskTwinError) -> Refusal {
    Refusal::new(Code::Failed, error.to_string())
}

impl SystemPlane {
    fn twin(&self) -> Result<&Twin, Refusal> {
        let none = || Refusal::new(Code::NotFound, "this node has no world: it does not scan");
        self.hooks.twin().ok_or_else(none)
    }

    pub(super) fn follows(&self) -> Result<Json, Refusal> {
        let found = self.twin()?.report();
        let mut quality = json!(found.quality);
        quality["entities"] = found.entities.into();
        let stale: BTreeMap<_, _> = found.stale_by_type().collect();
        quality["stale_by_type"] = json!(stale);
        Ok(quality)
    }

    pub(super) async fn judge_by(&self, word: RulesWord) -> Result<Json, Refusal> {
        let twin = self.twin()?;
        if word == RulesWord::Reload {
            let set = self.hooks.read_rules();
            let set = set.map_err(|text| Refusal::new(Code::Usage, text))?;
            twin.set_rules(set).await.map_err(refusal)?;
        }
        let report = twin.report();
        let row = |rule: &Rule| {
            let became = report.rules.get(&rule.name);
            json!({
                "rule": rule.name,
                "sensor": KIND_NAMES[usize::from(rule.kind) % KIND_NAMES.len()],
                "field": rule.field.name(),
                "holds": match rule.side {
                    Side::Below => format!("below {}", rule.limit),
                    Side::Above => format!("above {}", rule.limit),
                },
                "for": humantime::format_duration(rule.hold).to_string(),
                "then": rule.then, "otherwise": rule.otherwise,
                "fired": became.map(|rule| rule.fired),
                "ended": became.map(|rule| rule.ended),
            })
        };
        let rows: Vec<_> = twin.rules().rules.iter().map(row).collect();
        Ok(json!({ "rows": rows, "changed": word == RulesWord::Reload }))
    }

    /// `period=5ms`, `walk_every=10`: as the keys of group `scan`.
    pub(super) async fn keep_pace(&self, assignments: Vec<String>) -> Result<Json, Refusal> {
        let twin = self.twin()?;
        let usage = |text: String| Refusal::new(Code::Usage, text);
        let (mut period, mut walk_every) = (None, None);
        for word in &assignments {
            let (name, text) = word.split_once('=').unwrap_or((word, ""));
            let known = key::find(&format!("scan.{name}"));
            let parsed = known.map(|key| key.kind.parse(text));
            match (name, parsed) {
                ("period", Some(Ok(Value::Duration(length)))) => period = Some(length),
                ("walk_every", Some(Ok(Value::U64(every)))) => walk_every = Some(every as u32),
                ("period" | "walk_every", Some(Err(message))) => {
                    return Err(usage(format!("{name}: {message}")));
                }
                _ => {
                    let text = "can be changed while the node runs: period and walk_every";
                    return Err(usage(format!("{name}: only these {text}")));
                }
            }
        }
        if assignments.is_empty() {
            return Err(usage("say what: period=5ms or walk_every=10".to_owned()));
        }
        let was = twin.period();
        twin.set_pace(period, walk_every).await.map_err(refusal)?;
        let shown = |length: Duration| humantime::format_duration(length).to_string();
        let report = twin.report().scan;
        Ok(json!({
            "was": shown(was), "period": shown(twin.period()), "walk_every": report.walk_every,
        }))
    }
}
