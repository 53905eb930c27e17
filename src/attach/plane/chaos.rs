//! Chaos from a prompt: plans from a file or from options, and what they did.
//!
//! [`crate::node::chaos`] carries them out. Bound: one plan at a time.

use std::path::Path;

use actorsim_fleet::profile::TEXT_BYTES_MAX;
use actorsim_fleet::text;
use actorsim_supervision::chaos::{Fault, FaultPlan, Place, Plan};
use serde_json::{Value as Json, json};

use super::SystemPlane;
use super::devices::{in_words, usage};
use crate::attach::control::ChaosWord;
use crate::attach::protocol::{Code, Refusal};
use crate::config::{PolicySource, policy};
use crate::node::chaos::Holder;
use crate::report;

/// What a plan of options is called in errors.
const OPTIONS: &str = "chaos start";

/// Victims at once of a plan of options: kills in close order do not wait for one another.
const MAX_CONCURRENT: u32 = 4;

fn invalid(errors: Vec<actorsim_supervision::ConfigError>, source: &PolicySource) -> Refusal {
    let errors = policy::rendered(errors, source);
    Refusal::new(Code::Usage, errors.render_for("nothing was started", false))
}

/// The plan of a file, with options over it.
fn plan(file: Option<&str>, options: &[(&'static str, String)]) -> Result<Plan, Refusal> {
    let mut plan = match file {
        None => Plan {
            max_concurrent: MAX_CONCURRENT,
            ..Plan::default()
        },
        Some(name) => {
            let text = text::read(Path::new(name), TEXT_BYTES_MAX)
                .map_err(|error| usage(format!("{name}: cannot be read: {error}")))?;
            Plan::from_toml(name, &text, Place::Live).map_err(|errors| usage(in_words(&errors)))?
        }
    };
    let lines = options
        .iter()
        .map(|(key, value)| format!("{key} = {value}\n"));
    let (file, text) = (OPTIONS.to_owned(), lines.collect::<String>());
    let read = Plan::from_toml(&file, &text, Place::Live);
    let given = read.map_err(|errors| invalid(errors, &PolicySource { file, text }))?;
    for (key, _) in options {
        match *key {
            "seed" => plan.seed = given.seed,
            "rate" => {
                plan.rate = given.rate;
                plan.faults = vec![FaultPlan::new(Fault::Kill)];
            }
            "scope" => plan.scope = given.scope.clone(),
            "for" => plan.run_for = given.run_for,
            "stop_if" => plan.stop_if = given.stop_if,
            "max_concurrent" => plan.max_concurrent = given.max_concurrent,
            _ => plan.blast_radius = given.blast_radius,
        }
    }
    Ok(plan)
}

fn record(status: &report::Chaos) -> Json {
    json!({
        "running": status.over.is_none(), "seed": status.seed, "plan": status.plan,
        "over": status.over, "missed": status.missed, "total": status.total(),
        "least": status.least, "strikes": status.strikes,
        "found_nobody": status.found_nobody,
    })
}

impl SystemPlane {
    pub(super) async fn break_things(&self, word: ChaosWord) -> Result<Json, Refusal> {
        let failed = |reason| Refusal::new(Code::Failed, reason);
        let status = match word {
            ChaosWord::Start {
                plan: file,
                options,
            } => {
                let plan = plan(file.as_deref(), &options)?;
                self.chaos
                    .start(plan, Holder::Session)
                    .await
                    .map_err(failed)?
            }
            ChaosWord::Stop => self.chaos.stop().await.map_err(failed)?,
            ChaosWord::Status(renew) => {
                if renew {
                    self.chaos.renew(Holder::Session);
                }
                let status = self.chaos.status();
                status.ok_or_else(|| failed("no plan has run here".to_owned()))?
            }
        };
        Ok(record(&status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_win_over_the_file_and_are_refused_as_a_file_is() {
        let options = [("rate", "\"9/1s\"".to_owned()), ("seed", "7".to_owned())];
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/chaos/live.toml");
        let both = plan(Some(file), &options).unwrap();
        assert_eq!(
            (both.seed, both.rate.strikes, both.max_concurrent),
            (7, 9, 4)
        );
        assert!(both.stop_if.is_some());
        let refused = plan(None, &[("rate", "\"often\"".to_owned())]).unwrap_err();
        assert!(
            refused.message.contains("--> chaos start:1:8"),
            "{}",
            refused.message
        );
        let missing = plan(Some("/no/such.toml"), &[]).unwrap_err();
        assert!(
            missing.message.contains("/no/such.toml"),
            "{}",
            missing.message
        );
    }
}
