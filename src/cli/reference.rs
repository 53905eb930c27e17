//! The reference page of commands: from clap's definition and the attach table.
//!
//! It only writes text. Bound: the number of commands and flags.

use std::fmt::Write as _;

use crate::attach::command;

/// The page `docs/reference/commands.md`.
#[must_use]
pub fn commands() -> String {
    let mut page = String::from(
        "# Commands\n\n\
         This page is made from the command tables; a test holds it equal.\n\n\
         Exit codes: 0 ok; 1 it ran and the verdict is fail, or a command failed; 2 usage or bad \
         configuration;\n3 cannot connect; 4 timed out. SIGINT and SIGTERM stop in order within \
         the shutdown time (default 30 s) and still\nwrite the report; a second one stops at \
         once.\n",
    );
    let mut definition = super::definition();
    definition.build();
    for sub in definition
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
    {
        section(&mut page, "actorsim", sub);
    }
    page.push_str(
        "\n## Attach commands\n\nTyped at the prompt, given with `-c`, or read from a file or a \
         pipe. Impact: `ro` only looks, `rw` changes\nsomething, `chaos` breaks something on \
         purpose; every command that does so is an event (`commanded`).\n\n",
    );
    page.push_str(&command::reference());
    page
}

/// The page `docs/reference/chaos.md`.
#[must_use]
pub fn chaos() -> String {
    let mut page = String::from(
        "# Chaos plans\n\n\
         This page is made from the fault vocabulary; a test holds it equal. How to use a plan is \
         in the\n[guide](../guide/chaos.md).\n\n\
         A plan is a TOML file. An unknown key, or a fault that cannot act where the plan is \
         loaded, is an error;\nall errors of a file are told at once, with line, column and what \
         to do.\n\n",
    );
    page.push_str(&actorsim_supervision::chaos::plan::reference());
    page
}

fn section(page: &mut String, prefix: &str, sub: &clap::Command) {
    let name = format!("{prefix} {}", sub.get_name());
    let subs: Vec<_> = sub
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
        .collect();
    if name.ends_with(" help") {
        return;
    }
    if !subs.is_empty() {
        for sub in subs {
            section(page, &name, sub);
        }
        return;
    }
    let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(page, "\n## `{name}`\n\n{about}\n");
    let shown = sub
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version"));
    let rows: Vec<_> = shown.map(row).collect();
    if !rows.is_empty() {
        page.push_str("| argument | meaning |\n|---|---|\n");
        page.push_str(&rows.concat());
    }
}

fn row(arg: &clap::Arg) -> String {
    let value = arg
        .get_value_names()
        .and_then(|names| names.first())
        .map(ToString::to_string);
    let takes = arg.get_action().takes_values();
    let flag = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => String::new(),
    };
    let shown = [flag, value.filter(|_| takes).unwrap_or_default()].join(" ");
    let shown = shown.trim().replace('|', "\\|");
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    format!("| `{shown}` | {help} |\n")
}
