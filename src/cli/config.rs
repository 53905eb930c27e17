//! `actorsim config`: check files, print what a node would run with, explain keys, the schema.
//!
//! It starts nothing. Bound: as [`crate::config`].

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use actorsim_supervision::chaos::{Place, Plan};
use clap::Subcommand;

use super::start::StartArgs;
use super::{Exit, say, warn};
use crate::config::rules::{self, are_rules};
use crate::config::{ConfigErrors, Layers, PolicySource, key, near, policy, print};

/// The `config` commands.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check configuration files; every error at once.
    Check {
        /// Files, checked one by one
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print every key with its value, as `start` with the same flags would see it.
    Print {
        /// Show where each value comes from
        #[arg(long)]
        origin: bool,
        /// As for `start`.
        #[command(flatten)]
        start: Box<StartArgs>,
    },
    /// Explain a key.
    Explain {
        /// Such as fleet.devices, supervisor.intensity or chaos.rate
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Print the JSON schema of a kind of file.
    Schema {
        /// The kind of file
        #[arg(value_name = "KIND", value_enum, default_value = "node")]
        kind: SchemaKind,
    },
}

/// A kind of configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaKind {
    /// A node file.
    Node,
    /// A file of supervision policies.
    Policy,
    /// A chaos plan.
    Chaos,
}

/// Runs the command.
pub fn run(command: &ConfigCommand) -> Exit {
    match command {
        ConfigCommand::Check { files } => check(files),
        ConfigCommand::Print { origin, start } => match start.resolve() {
            Ok(settings) => say(&print::settings(&settings, *origin)),
            Err(exit) => exit,
        },
        ConfigCommand::Explain { key } => explain(key),
        ConfigCommand::Schema { kind } => {
            let schema = match kind {
                SchemaKind::Node => print::schema(),
                SchemaKind::Policy => print::policy_schema(),
                SchemaKind::Chaos => print::chaos_schema(),
            };
            say(&format!("{schema:#}\n"))
        }
    }
}

fn check(files: &[PathBuf]) -> Exit {
    let mut exit = Exit::Ok;
    for file in files {
        let checked = if is_plan(file) {
            check_plan(file)
        } else if are_rules(&std::fs::read_to_string(file).unwrap_or_default()) {
            rules::read(&[file.display().to_string()]).map(drop)
        } else {
            let mut layers = Layers::built_in();
            layers.path(file);
            layers.resolve().map(|settings| {
                for doubt in policy::doubts(settings.policies()) {
                    warn(&format!("warning: {doubt}"));
                }
            })
        };
        match checked {
            Ok(()) => println!("{}: ok", file.display()),
            Err(errors) => {
                let color = std::io::stderr().is_terminal();
                eprint!(
                    "{}",
                    errors.render(color && std::env::var_os("NO_COLOR").is_none())
                );
                exit = Exit::Usage;
            }
        }
    }
    exit
}

/// A plan is right if it is for one of the places where a file is given.
fn check_plan(file: &Path) -> Result<(), ConfigErrors> {
    let Err(errors) = Plan::open(file, Place::Sim) else {
        return Ok(());
    };
    if Plan::open(file, Place::Live).is_ok() {
        return Ok(());
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let file = file.display().to_string();
    Err(policy::rendered(errors, &PolicySource { file, text }))
}

/// Whether a file is a chaos plan: its keys are a plan's.
fn is_plan(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // Also where its syntax is wrong: it is told as a plan's then, not as a node's.
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    let keys = ["rate", "scope", "faults", "stop_if", "blast_radius"];
    let mut names = table.get_ref().iter().map(|(name, _)| name.get_ref());
    names.any(|name| keys.contains(&name.as_ref()))
}

fn explain(name: &str) -> Exit {
    if let Some(text) = print::explain(name) {
        return say(&text);
    }
    let group = key::in_group(name)
        .map(|key| format!("{name}.{key}"))
        .collect::<Vec<_>>();
    if !group.is_empty() {
        let texts = group.iter().filter_map(|name| print::explain(name));
        return say(&texts.collect::<String>());
    }
    let others = [print::explain_policies(name), print::explain_chaos(name)];
    if let Some(text) = others.into_iter().flatten().next() {
        return say(&text);
    }
    let names: Vec<String> = print::names().collect();
    let near = near(name, names.iter().map(String::as_str));
    let hint = near
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    eprintln!("error: no key `{name}`{hint}");
    Exit::Usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_one_also_where_its_syntax_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plan.toml");
        for (text, plan) in [
            ("rate = \"1/1s\"\n[faults]\nkill = 1\n", true),
            ("rate = \"1/1s\"\n[faults\nkill = 1\n", true),
            ("rate = \"1/1s\nscope = \"/\"\n", true),
            ("[fleet]\ndevices = 3\n", false),
            ("[[supervisor]]\npath = \"/twin\nrate = 3\n", false),
            ("", false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(is_plan(&file), plan, "{text}");
        }
        assert!(!is_plan(&dir.path().join("none.toml")));
    }
}
