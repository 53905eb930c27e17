//! The one table of attach commands: it drives parsing, completion, help and the reference page.
//!
//! It runs nothing. Bound: the table is fixed at compile time; a command has at most
//! [`WORDS_MAX`] words.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

/// Words of one command: the longest has half as many.
pub const WORDS_MAX: usize = 32;

/// What a command does to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impact {
    /// Only looks.
    Ro,
    /// Changes something.
    Rw,
    /// Breaks something on purpose.
    Chaos,
}

impl Impact {
    /// As written in help and reference.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ro => "ro",
            Self::Rw => "rw",
            Self::Chaos => "chaos",
        }
    }
}

/// What an argument holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// The path of an actor; completed by the node.
    Path,
    /// A path pattern, with `*` and `?`; completed as a path.
    Pattern,
    /// A whole number.
    Number,
    /// One of these words.
    Word(&'static [&'static str]),
    /// The name of a command.
    Command,
    /// Nothing: the option is given or not.
    Nothing,
}

/// One argument; an option if its name begins with `--`.
#[derive(Debug)]
pub struct Arg {
    /// `PATH`, or `--limit`.
    pub name: &'static str,
    /// What it holds.
    pub takes: Takes,
    /// Must be given.
    pub required: bool,
    /// What it means.
    pub help: &'static str,
}

impl Arg {
    /// Name of the argument in a request: without dashes, in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.name.trim_start_matches('-').to_lowercase()
    }

    fn is_option(&self) -> bool {
        self.name.starts_with("--")
    }
}

/// How an answer is shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// `rows` as a table of these columns.
    Rows(&'static [&'static str]),
    /// `rows` indented by depth.
    Tree,
    /// Keys and values.
    Record,
}

/// One command.
#[derive(Debug)]
pub struct Command {
    /// The verb.
    pub name: &'static str,
    /// Its arguments, positional ones first.
    pub args: &'static [Arg],
    /// What it does to the node.
    pub impact: Impact,
    /// What it does, in one line.
    pub help: &'static str,
    /// An example.
    pub example: &'static str,
    /// How its answer is shown.
    pub view: View,
}

const fn arg(name: &'static str, takes: Takes, required: bool, help: &'static str) -> Arg {
    Arg {
        name,
        takes,
        required,
        help,
    }
}

const PATH: Arg = arg("PATH", Takes::Path, true, "the actor");
const LIMIT: Arg = arg("--limit", Takes::Number, false, "most rows to show");

/// Every command.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "ps",
        args: &[
            arg(
                "FILTER",
                Takes::Pattern,
                false,
                "only these paths; * and ? match any characters",
            ),
            arg(
                "--state",
                Takes::Word(&["running", "restarting", "quarantined", "stopped"]),
                false,
                "only this state",
            ),
            arg(
                "--after",
                Takes::Path,
                false,
                "rows after this path, for the next page",
            ),
            LIMIT,
        ],
        impact: Impact::Ro,
        help: "List actors in path order, a page at a time.",
        example: "ps /transport/* --limit 20",
        view: View::Rows(&[
            "path",
            "host",
            "state",
            "incarnation",
            "depth",
            "capacity",
            "handled",
            "restarts",
        ]),
    },
    Command {
        name: "tree",
        args: &[
            arg("PATH", Takes::Path, false, "only below this actor"),
            arg("--depth", Takes::Number, false, "levels to show"),
            arg("--all", Takes::Nothing, false, "show large fleets unfolded"),
        ],
        impact: Impact::Ro,
        help: "Show the supervision tree; large fleets are folded into one line.",
        example: "tree /twin",
        view: View::Tree,
    },
    Command {
        name: "info",
        args: &[PATH],
        impact: Impact::Ro,
        help: "Everything known of one actor, and its last events.",
        example: "info /twin/scan",
        view: View::Record,
    },
    Command {
        name: "kill",
        args: &[PATH],
        impact: Impact::Rw,
        help: "End an actor at once, abnormally; its supervisor decides what follows.",
        example: "kill /transport/tier-t1",
        view: View::Record,
    },
    Command {
        name: "stop",
        args: &[PATH],
        impact: Impact::Rw,
        help: "Stop an actor in order, within its shutdown time.",
        example: "stop /transport/conn/1",
        view: View::Record,
    },
    Command {
        name: "trigger",
        args: &[arg(
            "TARGET",
            Takes::Path,
            true,
            "a device: its path or its id",
        )],
        impact: Impact::Rw,
        help: "Make a device report Presence = 0; the twin then stops its relay.",
        example: "trigger industrial-0000",
        view: View::Record,
    },
    Command {
        name: "scan",
        args: &[],
        impact: Impact::Ro,
        help: "The scan: period, cycles, overruns, skipped slots, jitter, what the host granted.",
        example: "scan",
        view: View::Record,
    },
    Command {
        name: "health",
        args: &[],
        impact: Impact::Ro,
        help: "Whether the node is well; fails if it is not.",
        example: "health",
        view: View::Record,
    },
    Command {
        name: "fault",
        args: &[
            arg(
                "ACTION",
                Takes::Word(&["list", "crash"]),
                false,
                "list (default) or crash",
            ),
            arg("PATH", Takes::Path, false, "the actor to crash"),
            LIMIT,
        ],
        impact: Impact::Chaos,
        help: "List the last faults and crash reports, or make an actor's next step fault.",
        example: "fault crash /fleet/default/industrial-0000",
        view: View::Rows(&["id", "at", "level", "name", "path", "text"]),
    },
    Command {
        name: "events",
        args: &[
            arg("--since", Takes::Number, false, "events after this id"),
            LIMIT,
        ],
        impact: Impact::Ro,
        help: "The last events of the node.",
        example: "events --limit 20",
        view: View::Rows(&["id", "at", "level", "name", "path", "text"]),
    },
    Command {
        name: "help",
        args: &[arg(
            "COMMAND",
            Takes::Command,
            false,
            "the command to explain",
        )],
        impact: Impact::Ro,
        help: "List the commands, or explain one.",
        example: "help kill",
        view: View::Rows(&["command", "impact", "help"]),
    },
];

/// The command of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

impl Command {
    /// `ps [FILTER] [--limit N]`.
    #[must_use]
    pub fn usage(&self) -> String {
        let mut usage = self.name.to_owned();
        for arg in self.args {
            let shown = match (arg.is_option(), arg.takes) {
                (true, Takes::Nothing) | (false, _) => arg.name.to_owned(),
                (true, Takes::Number) => format!("{} N", arg.name),
                (true, Takes::Word(words)) => format!("{} {}", arg.name, words.join("|")),
                (true, _) => format!("{} PATH", arg.name),
            };
            let _ = if arg.required {
                write!(usage, " {shown}")
            } else {
                write!(usage, " [{shown}]")
            };
        }
        usage
    }
}

/// A parsed command line: the command and its arguments as JSON.
pub type Parsed = (&'static Command, Map<String, Json>);

/// Reads a line such as `kill /twin/scan`; `Ok(None)` for an empty line or a comment.
///
/// # Errors
/// What is wrong, in words, with the usage.
pub fn parse(line: &str) -> Result<Option<Parsed>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.len() > WORDS_MAX {
        return Err(format!("more than {WORDS_MAX} words"));
    }
    let command = find(words[0]).ok_or_else(|| unknown(words[0]))?;
    let mut given = Map::new();
    let mut positional = command.args.iter().filter(|arg| !arg.is_option());
    let mut words = words[1..].iter();
    while let Some(word) = words.next() {
        let (arg, text) = if word.starts_with("--") {
            let (name, inline) = word
                .split_once('=')
                .map_or((*word, None), |(n, v)| (n, Some(v)));
            let arg = command
                .args
                .iter()
                .find(|arg| arg.name == name)
                .ok_or_else(|| wrong(command, &format!("unknown option {name}")))?;
            let text = match (arg.takes, inline) {
                (Takes::Nothing, None) => Some("true"),
                (Takes::Nothing, Some(_)) => None,
                (_, Some(inline)) => Some(inline),
                (_, None) => words.next().copied(),
            };
            (
                arg,
                text.ok_or_else(|| wrong(command, &format!("{name} takes a value or none")))?,
            )
        } else {
            let arg = positional
                .next()
                .ok_or_else(|| wrong(command, &format!("unexpected `{word}`")))?;
            (arg, *word)
        };
        let value = value(arg, text).map_err(|message| wrong(command, &message))?;
        given.insert(arg.key(), value);
    }
    check(command, &given)?;
    Ok(Some((command, given)))
}

/// Checks arguments as they arrive in a request.
///
/// # Errors
/// What is wrong, in words, with the usage.
pub fn check(command: &'static Command, given: &Map<String, Json>) -> Result<(), String> {
    for arg in command.args {
        match given.get(&arg.key()) {
            None if arg.required => {
                return Err(wrong(command, &format!("{} is missing", arg.name)));
            }
            None => {}
            Some(json) => {
                let text = match json {
                    Json::String(text) => text.clone(),
                    other => other.to_string(),
                };
                value(arg, &text).map_err(|message| wrong(command, &message))?;
            }
        }
    }
    for key in given.keys() {
        if command.args.iter().all(|arg| arg.key() != *key) {
            return Err(wrong(command, &format!("unknown argument {key}")));
        }
    }
    if command.name == "fault" {
        let crash = given.get("action").is_some_and(|action| action == "crash");
        if crash != given.contains_key("path") {
            return Err(wrong(command, "PATH goes with crash, and crash with PATH"));
        }
    }
    Ok(())
}

fn value(arg: &Arg, text: &str) -> Result<Json, String> {
    match arg.takes {
        Takes::Number => text
            .parse::<u64>()
            .map(Json::from)
            .map_err(|_| format!("{} takes a number, not `{text}`", arg.name)),
        Takes::Word(words) if !words.contains(&text) => Err(format!(
            "{} is one of {}, not `{text}`",
            arg.name,
            words.join(", ")
        )),
        Takes::Command if find(text).is_none() => Err(unknown(text)),
        Takes::Nothing if text == "true" => Ok(Json::Bool(true)),
        Takes::Nothing => Err(format!("{} takes no value", arg.name)),
        _ => Ok(Json::from(text)),
    }
}

fn unknown(word: &str) -> String {
    let near = crate::config::near(word, COMMANDS.iter().map(|command| command.name));
    let hint = near.map_or_else(
        || "`help` lists the commands".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    format!("unknown command `{word}`; {hint}")
}

fn wrong(command: &Command, message: &str) -> String {
    format!("{}: {message}; usage: {}", command.name, command.usage())
}

/// The table behind `help`, or the page of one command.
#[must_use]
pub fn help(name: Option<&str>) -> Json {
    match name.and_then(find) {
        None => {
            let row = |command: &Command| {
                serde_json::json!({
                    "command": command.usage(),
                    "impact": command.impact.label(),
                    "help": command.help,
                })
            };
            serde_json::json!({ "rows": COMMANDS.iter().map(row).collect::<Vec<_>>() })
        }
        Some(command) => {
            let row = |arg: &Arg| serde_json::json!({ "command": arg.name, "impact": "", "help": arg.help });
            let own = serde_json::json!({
                "command": command.usage(),
                "impact": command.impact.label(),
                "help": command.help,
            });
            let example =
                serde_json::json!({ "command": command.example, "impact": "", "help": "example" });
            let args = command.args.iter().map(row);
            let rows: Vec<_> = std::iter::once(own).chain(args).chain([example]).collect();
            serde_json::json!({ "rows": rows })
        }
    }
}

/// The attach section of `docs/reference/commands.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from("| command | impact | meaning | example |\n|---|---|---|---|\n");
    for command in COMMANDS {
        let usage = command.usage().replace('|', "\\|");
        let (impact, help, example) = (command.impact.label(), command.help, command.example);
        let _ = writeln!(page, "| `{usage}` | {impact} | {help} | `{example}` |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_parses_to_its_own_command() {
        for command in COMMANDS {
            let (parsed, given) = parse(command.example).unwrap().unwrap();
            assert_eq!(parsed.name, command.name);
            check(parsed, &given).unwrap();
        }
    }

    #[test]
    fn options_and_positions_become_named_arguments() {
        let (_, given) = parse("ps /fleet/* --limit=3 --state running")
            .unwrap()
            .unwrap();
        let expected = serde_json::json!({ "filter": "/fleet/*", "limit": 3, "state": "running" });
        assert_eq!(Json::Object(given), expected);
        assert!(parse("  # a comment").unwrap().is_none());
    }

    #[test]
    fn a_wrong_line_is_told_with_its_usage() {
        for (line, words) in [
            ("kil /x", "did you mean `kill`?"),
            ("kill", "kill: PATH is missing; usage: kill PATH"),
            ("kill a b", "unexpected `b`"),
            ("ps --limit many", "--limit takes a number"),
            ("ps --state dead", "--state is one of running"),
            ("fault crash", "PATH goes with crash"),
            ("tree --all=x", "--all"),
            ("help nothing", "unknown command"),
        ] {
            let message = parse(line).unwrap_err();
            assert!(message.contains(words), "{line}: {message}");
        }
    }
}
