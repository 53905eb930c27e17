//! Policies from a prompt: those in force, changes of them with their plan, the files again.
//!
//! [`crate::node::policies`] does it. Bound: a row for each value of each supervisor.

use actorsim_supervision::Governance;
use actorsim_supervision::config::keys;
use serde_json::{Value as Json, json};

use super::SystemPlane;
use crate::attach::control::PolicyWord;
use crate::attach::protocol::{Code, Refusal};
use crate::node::policies::{InForce, Planned, PolicyError, changes};

fn refusal(error: PolicyError) -> Refusal {
    let code = match error {
        PolicyError::Nobody(_) => Code::NotFound,
        PolicyError::Invalid(_) => Code::Usage,
        PolicyError::Refused(_) => Code::Failed,
    };
    Refusal::new(code, error.to_string())
}

impl SystemPlane {
    pub(super) fn policies(
        &self,
        word: PolicyWord,
        pattern: Option<String>,
        dry_run: bool,
    ) -> Result<Json, Refusal> {
        let pattern = pattern.as_deref();
        let plan = match word {
            PolicyWord::Show => {
                let shown = self.policies.show(pattern).map_err(refusal)?;
                let rows = shown.iter().flat_map(in_force);
                return Ok(json!({ "rows": rows.collect::<Vec<_>>() }));
            }
            PolicyWord::Set(assignments) => {
                let pattern = pattern.unwrap_or_default();
                self.policies.set(pattern, &assignments, dry_run)
            }
            PolicyWord::Check(assignments) => {
                let checked = self
                    .policies
                    .check(pattern.unwrap_or_default(), &assignments);
                let checked = checked.map_err(refusal)?.into_iter();
                let rows = checked.map(|(path, children)| {
                    json!({ "path": path, "children": children, "answer": "ok" })
                });
                return Ok(json!({ "rows": rows.collect::<Vec<_>>() }));
            }
            PolicyWord::Reload => self.policies.reload(dry_run),
        };
        let plan = plan.map_err(refusal)?;
        Ok(json!({ "rows": planned(&plan), "changed": !dry_run }))
    }
}

fn planned(plan: &[Planned]) -> Vec<Json> {
    let row = |(one, change): (&Planned, &actorsim_supervision::Change)| {
        json!({
            "path": one.path, "children": one.governed.children, "key": change.key,
            "from": change.from, "value": change.to,
        })
    };
    changes(plan).map(row).collect()
}

fn in_force(one: &InForce) -> Vec<Json> {
    let origin = one.origin.as_deref().unwrap_or("default");
    let row = |key: String, value: String| {
        json!({
            "path": one.path, "children": one.children, "key": key, "from": origin,
            "value": value,
        })
    };
    let Governance { policy, children } = &one.governance;
    let own = keys::values(policy);
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
    let said = children.iter().flat_map(|(id, child)| {
        let key = move |name| format!("child.{id}.{name}");
        let restart = child.restart.map(|restart| restart.word().to_owned());
        let shutdown = child.shutdown.map(|shutdown| shutdown.to_string());
        let significant = child.significant.map(|flag| flag.to_string());
        [
            restart.map(|value| (key("restart"), value)),
            shutdown.map(|value| (key("shutdown"), value)),
            significant.map(|value| (key("significant"), value)),
        ]
    });
    own.chain(said.flatten())
        .map(|(key, value)| row(key, value))
        .collect()
}
