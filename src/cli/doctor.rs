//! `actorsim doctor`: says before a run which limit would bite it.
//!
//! It takes the flags of the run. Bound: a line a limit.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::start::StartArgs;
use super::{Exit, say};
use crate::config::NodeConfig;
use crate::doctor::{self, Check, Host, State, Wanted};

/// Shown below the flags.
pub const AFTER_HELP: &str = "\
Give it the flags of the run that you mean to start:
  actorsim doctor --devices 100000 --profile factory_mqtt --mqtt-url mqtt://10.0.0.9:1883

Exit codes: 0 the run can go, 1 a limit would bite, 2 usage or bad configuration.";

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Flags of `doctor`: its own, and those of `start`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Form of the answer
    #[arg(short = 'o', value_name = "FORMAT", value_enum, default_value_t = Form::Table)]
    output: Form,
    #[command(flatten)]
    start: StartArgs,
}

/// Runs the command.
pub fn run(args: &DoctorArgs) -> Exit {
    let settings = match args.start.resolve() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let wanted = Wanted::by(&NodeConfig::from_settings(&settings));
    let checks = doctor::examine(&Host::look(), &wanted);
    let worst = checks.iter().map(|check| check.state).max();
    let text = match args.output {
        Form::Table => checks.iter().map(line).collect(),
        Form::Json => format!("{}\n", json!({ "v": 1, "checks": checks })),
    };
    match (say(&text), worst) {
        (Exit::Ok, Some(State::Fail)) => Exit::Failed,
        (said, _) => said,
    }
}

fn line(check: &Check) -> String {
    let state = check.state.label();
    let mut text = format!("{state:4}  {:9}  {}\n", check.name, check.found);
    if !check.mend.is_empty() {
        text += &format!("      {:9}  mend: {}\n", "", check.mend);
    }
    text
}
