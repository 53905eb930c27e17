//! The one table of attach commands: it drives parsing, completion, help and the reference page.
//!
//! It runs nothing; lines are read by [`super::parse`]. Bound: the table is fixed at compile time.

use std::fmt::Write as _;

use serde_json::Value as Json;

pub use super::parse::parse;

mod devices;

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
    /// Any word: a rate, a duration, a file.
    Text,
    /// `key=value`, as often as wanted; takes the rest of the positions.
    Assignments,
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
    /// Name of the argument in a request: `dry_run`, `key_value`.
    #[must_use]
    pub fn key(&self) -> String {
        let name = self.name.trim_start_matches('-');
        name.to_lowercase().replace(['-', '=', '.'], "_")
    }

    pub(super) fn is_option(&self) -> bool {
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
const CHILD: Arg = arg("PATH", Takes::Path, true, "the child");
const SUPERVISOR: Arg = arg(
    "PATH",
    Takes::Path,
    true,
    "the supervisor, or the population",
);
const DRY_RUN: Arg = arg(
    "--dry-run",
    Takes::Nothing,
    false,
    "only show what would happen",
);
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
        args: &[PATH, DRY_RUN],
        impact: Impact::Rw,
        help: "End an actor at once, abnormally; its supervisor decides what follows, as shown.",
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
        name: "which_children",
        args: &[
            SUPERVISOR,
            arg(
                "--after",
                Takes::Path,
                false,
                "devices after this path, for the next page",
            ),
            LIMIT,
        ],
        impact: Impact::Ro,
        help: "The children of a supervisor in start order, or the devices of a population.",
        example: "which_children /twin",
        view: View::Rows(&[
            "id",
            "path",
            "state",
            "kind",
            "restart",
            "incarnation",
            "failures",
        ]),
    },
    Command {
        name: "count_children",
        args: &[SUPERVISOR],
        impact: Impact::Ro,
        help: "How many children a supervisor or a population has, and how many are active.",
        example: "count_children /transport/conn",
        view: View::Record,
    },
    Command {
        name: "get_childspec",
        args: &[CHILD],
        impact: Impact::Ro,
        help: "How a child is started, restarted and stopped.",
        example: "get_childspec /twin/scan",
        view: View::Record,
    },
    Command {
        name: "check_childspecs",
        args: &[
            arg(
                "PATH",
                Takes::Pattern,
                true,
                "the supervisors and populations",
            ),
            arg(
                "KEY=VALUE",
                Takes::Assignments,
                false,
                "values that their policies would have, as for `policy set`",
            ),
        ],
        impact: Impact::Ro,
        help: "Check whether children fit the policy in force, or the one that some values would \
               make of it; everything that is wrong is told.",
        example: "check_childspecs /twin auto_shutdown=any_significant child.scan.significant=true",
        view: View::Rows(&["path", "children", "answer"]),
    },
    Command {
        name: "start_child",
        args: &[CHILD],
        impact: Impact::Rw,
        help: "Start a child anew that was deleted; it comes after all others.",
        example: "start_child /transport/tier-t1",
        view: View::Record,
    },
    Command {
        name: "terminate_child",
        args: &[CHILD],
        impact: Impact::Rw,
        help: "Stop a child within its shutdown time; it stays down.",
        example: "terminate_child /fleet/default/industrial-0000",
        view: View::Record,
    },
    Command {
        name: "restart_child",
        args: &[CHILD],
        impact: Impact::Rw,
        help: "Start a child that is down or quarantined.",
        example: "restart_child /fleet/default/industrial-0000",
        view: View::Record,
    },
    Command {
        name: "delete_child",
        args: &[CHILD],
        impact: Impact::Rw,
        help: "Forget a child that is down.",
        example: "delete_child /transport/tier-t1",
        view: View::Record,
    },
    Command {
        name: "release",
        args: &[
            arg(
                "PATTERN",
                Takes::Pattern,
                true,
                "the quarantined actors; a plain path means all below it, too",
            ),
            DRY_RUN,
            LIMIT,
        ],
        impact: Impact::Rw,
        help: "Give quarantined actors a new chance.",
        example: "release /fleet/default",
        view: View::Rows(&["path", "was", "now"]),
    },
    Command {
        name: "policy",
        args: &[
            arg(
                "ACTION",
                Takes::Word(&["show", "set", "reload"]),
                true,
                "show, set, or reload the files",
            ),
            arg(
                "PATH",
                Takes::Pattern,
                false,
                "the supervisors and populations",
            ),
            arg(
                "KEY=VALUE",
                Takes::Assignments,
                false,
                "as in a policy file: intensity=5, backoff.max=2s, child.scan.shutdown=1s",
            ),
            DRY_RUN,
        ],
        impact: Impact::Rw,
        help: "Show the policies in force, change them, or read their files again.",
        example: "policy set /twin intensity=10 period=5s --dry-run",
        view: View::Rows(&["path", "children", "key", "from", "value"]),
    },
    devices::FLEET,
    devices::SPAWN,
    devices::UPDATE,
    devices::RETIRE,
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
        help: "The scan: period, cycles, overruns, skipped slots, its times in the whole run and \
               in the last 1,024 cycles, what the host granted.",
        example: "scan",
        view: View::Record,
    },
    Command {
        name: "quality",
        args: &[],
        impact: Impact::Ro,
        help: "How well the twin follows its devices: alignment ratio, ODTE and its factors, stale \
               entities, in all and by type of sensor.",
        example: "quality",
        view: View::Record,
    },
    Command {
        name: "quic",
        args: &[],
        impact: Impact::Ro,
        help: "What QUIC counted on all connections: handshakes, closes, losses, resets.",
        example: "quic",
        view: View::Record,
    },
    Command {
        name: "pace",
        args: &[arg(
            "KEY=VALUE",
            Takes::Assignments,
            true,
            "period=5ms, walk_every=10: as the keys of group scan",
        )],
        impact: Impact::Rw,
        help: "Let the scan keep another grid, from its next slot on.",
        example: "pace period=5ms",
        view: View::Record,
    },
    Command {
        name: "rules",
        args: &[arg(
            "ACTION",
            Takes::Word(&["show", "reload"]),
            false,
            "show (default), or reload the files",
        )],
        impact: Impact::Rw,
        help: "Show the rules of the automation and what became of them, or read their files \
               again.",
        example: "rules reload",
        view: View::Rows(&[
            "rule",
            "sensor",
            "field",
            "holds",
            "for",
            "then",
            "otherwise",
            "fired",
            "ended",
        ]),
    },
    Command {
        name: "shards",
        args: &[],
        impact: Impact::Ro,
        help: "The shards, over a quarter of a second: busy share and rates; how late timers were; \
               as JSON also looks before sleep and all counters of sockets.",
        example: "shards",
        view: View::Rows(&[
            "shard",
            "core",
            "ring",
            "slabs",
            "busy",
            "steps_s",
            "messages_s",
            "timers_s",
            "late_p50_us",
            "late_p99_us",
            "late_max_us",
            "migrations",
            "doorbells_s",
            "merged_s",
            "submissions_s",
            "sleeps_s",
            "sockets",
        ]),
    },
    Command {
        name: "detail",
        args: &[arg(
            "SWITCH",
            Takes::Word(&["on", "off"]),
            true,
            "on or off",
        )],
        impact: Impact::Rw,
        help: "Measure what the steps of each cell cost, shown by info; off costs nothing.",
        example: "detail on",
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
                Takes::Word(&["list", "inject", "revert", "crash"]),
                false,
                "list (default), inject, revert or crash",
            ),
            arg(
                "TARGET",
                Takes::Pattern,
                false,
                "crash: an actor; else devices: ids, patterns, a population, label=value, 10%, \
                 joined by commas",
            ),
            arg(
                "KIND",
                Takes::Text,
                false,
                "disconnect, latency_spike, data_corruption, battery_drain, clock_drift, hang, \
                 flap, duplicate, storm, crash, poison",
            ),
            arg(
                "KEY=VALUE",
                Takes::Assignments,
                false,
                "inject: for=30s, and what the kind takes, such as latency_ms=250",
            ),
            LIMIT,
        ],
        impact: Impact::Chaos,
        help: "Inject faults into devices and revert them, make an actor's next step fault, or \
               list the faults that act, the last ones and crash reports.",
        example: "fault inject industrial-*,10% latency_spike for=30s latency_ms=250",
        view: View::Rows(&["id", "at", "level", "name", "path", "text"]),
    },
    Command {
        name: "chaos",
        args: &[
            arg(
                "ACTION",
                Takes::Word(&["start", "stop", "status"]),
                true,
                "start, stop or status",
            ),
            arg(
                "--plan",
                Takes::Text,
                false,
                "file of the plan; the other options win over it",
            ),
            arg("--seed", Takes::Number, false, "seed; 0 draws one"),
            arg("--kill", Takes::Text, false, "kills per time, such as 5/1s"),
            arg("--scope", Takes::Pattern, false, "who may be hit"),
            arg("--for", Takes::Text, false, "how long, such as 60s"),
            arg(
                "--stop-if",
                Takes::Text,
                false,
                "end it then, such as health<0.9",
            ),
            arg(
                "--max-concurrent",
                Takes::Number,
                false,
                "victims that are not back yet",
            ),
            arg(
                "--blast-radius",
                Takes::Text,
                false,
                "share of a kind that may be down, such as 0.5",
            ),
            arg(
                "--renew",
                Takes::Nothing,
                false,
                "status: renew the lease of the session's plan",
            ),
        ],
        impact: Impact::Chaos,
        help: "Carry out a chaos plan; the session that began it stays until it is over, and it \
               stops when the session goes.",
        example: "chaos start --seed 42 --kill 5/1s --scope / --for 60s",
        view: View::Record,
    },
    Command {
        name: "token",
        args: &[arg(
            "ACTION",
            Takes::Word(&["show", "rotate"]),
            true,
            "show where it lies, or make a new one",
        )],
        impact: Impact::Rw,
        help: "The token that actions over HTTP take: where it lies, or a new one in its place.",
        example: "token rotate",
        view: View::Record,
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
                (false, Takes::Assignments) => format!("{}..", arg.name),
                (true, Takes::Nothing) | (false, _) => arg.name.to_owned(),
                (true, Takes::Number) => format!("{} N", arg.name),
                (true, Takes::Word(words)) => format!("{} {}", arg.name, words.join("|")),
                (true, Takes::Text) => format!("{} VALUE", arg.name),
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
            let row = |arg: &Arg| {
                let (name, help) = (arg.name, arg.help);
                serde_json::json!({ "command": name, "impact": "", "help": help })
            };
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
