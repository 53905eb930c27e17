//! The rules for one Rust file, each a function from a [`Source`] to its violations.
//!
//! They do not judge meaning, only what text can show. Bound: linear in the file.

use std::fmt;

use crate::source::{Place, Source, word_positions};

/// More than this and a file is two nouns.
pub(crate) const FILE_LINES_MAX: usize = 800;
/// What fits beside another window.
pub(crate) const LINE_CHARS_MAX: usize = 100;
/// What fits on a screen.
pub(crate) const FUNCTION_LINES_MAX: usize = 70;

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// All rules over one file.
pub(crate) fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    found.extend(sizes(source));
    found.extend(functions(source));
    found.extend(module_doc(source));
    found.extend(banned_calls(source));
    found.extend(unbiased_select(source));
    found.extend(unordered_collections(source));
    found.extend(left_over(source));
    found.extend(names(source));
    found
}

fn sizes(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let lines = source.raw.len();
    if lines > FILE_LINES_MAX {
        let what = format!("{lines} lines, at most {FILE_LINES_MAX}: split it by its nouns");
        found.push(Violation::new(&source.path, lines, what));
    }
    for (index, line) in source.raw.iter().enumerate() {
        let chars = line.chars().count();
        let is_link = line.contains("https://"); // a link cannot be wrapped
        if chars > LINE_CHARS_MAX && !is_link {
            let what = format!("{chars} characters, at most {LINE_CHARS_MAX}");
            found.push(Violation::new(&source.path, index + 1, what));
        }
    }
    found
}

fn functions(source: &Source) -> Vec<Violation> {
    let long = source
        .functions()
        .into_iter()
        .filter_map(|(name, first, last)| {
            let lines = last - first + 1;
            (lines > FUNCTION_LINES_MAX).then(|| {
                let what = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}");
                Violation::new(&source.path, first, what)
            })
        });
    long.collect()
}

fn module_doc(source: &Source) -> Option<Violation> {
    let first = source
        .raw
        .iter()
        .map(|line| line.trim())
        .find(|line| !line.is_empty());
    let documented = first.is_some_and(|line| line.starts_with("//!"));
    (!documented).then(|| {
        let what = "no `//!` at the top: say what it is, what it does not do, its bound";
        Violation::new(&source.path, 1, what)
    })
}

/// A call that is not made here, and what is made instead.
struct Ban {
    call: &'static str,
    instead: &'static str,
    /// Files (or folders, by prefix) where it belongs.
    home: &'static [&'static str],
    scope: Scope,
}

#[derive(PartialEq, Eq)]
enum Scope {
    Everywhere,
    /// Test code and the benches are exempt.
    Product,
    /// Only test code is held to it.
    Tests,
}

const CLOCKS: &[&str] = &[
    "actors/src/clock.rs",
    "actors/src/clock/",
    "world/src/clock.rs",
    "world/src/scan/clock.rs",
];
const SPAWNERS: &[&str] = &["actors/src/task.rs", "actors/src/task/", "bench/"];

const BANS: &[Ban] = &[
    Ban {
        call: "Instant::now",
        instead: "take the time from a `Clock` (`monotonic` or `now`)",
        home: CLOCKS,
        scope: Scope::Product,
    },
    Ban {
        call: "SystemTime::now",
        instead: "take the stamp from `Clock::unix_us`",
        home: CLOCKS,
        scope: Scope::Product,
    },
    Ban {
        call: "tokio::spawn",
        instead: "start an actor (`System::start_task`) or a `TaskContext::pump`",
        home: SPAWNERS,
        scope: Scope::Product,
    },
    Ban {
        call: "tokio::task::spawn",
        instead: "start an actor (`System::start_task`) or a `TaskContext::pump`",
        home: SPAWNERS,
        scope: Scope::Product,
    },
    Ban {
        call: "unbounded_channel",
        instead: "use a mailbox or a channel with a named capacity",
        home: &[],
        scope: Scope::Everywhere,
    },
    Ban {
        call: "mpsc::channel()",
        instead: "use `sync_channel` with a named capacity",
        home: &[],
        scope: Scope::Everywhere,
    },
    Ban {
        call: "thread::sleep",
        instead: "wait for the event itself, or pause tokio's time",
        home: &[],
        scope: Scope::Tests,
    },
    Ban {
        call: "rand::",
        instead: "draw from a seeded stream, so that a seed replays the run",
        // Numbers of connections must not be guessed; simulated ones come from the seed.
        home: &["transport/src/endpoint/reset.rs"],
        scope: Scope::Everywhere,
    },
    Ban {
        call: "thread_rng",
        instead: "draw from a seeded stream, so that a seed replays the run",
        home: &[],
        scope: Scope::Everywhere,
    },
    Ban {
        call: ".unwrap()",
        instead: "return the error, or `expect` the invariant that makes it true",
        home: &[],
        scope: Scope::Product,
    },
    Ban {
        call: "dbg!",
        instead: "log an event, or remove it",
        home: &[],
        scope: Scope::Everywhere,
    },
    Ban {
        call: "todo!",
        instead: "build it, or leave it out",
        home: &[],
        scope: Scope::Everywhere,
    },
    Ban {
        call: "unimplemented!",
        instead: "build it, or leave it out",
        home: &[],
        scope: Scope::Everywhere,
    },
    Ban {
        call: "#[ignore]",
        instead: "delete the test or say why: `#[ignore = \"reason\"]`",
        home: &[],
        scope: Scope::Everywhere,
    },
];

fn banned_calls(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for ban in BANS {
        if ban.home.iter().any(|home| source.path.starts_with(home)) {
            continue;
        }
        for (line, code) in source.lines() {
            let held = match ban.scope {
                Scope::Everywhere => true,
                Scope::Product => !source.is_test(line) && source.place != Place::Bench,
                Scope::Tests => source.is_test(line),
            };
            if held && calls(code, ban.call) {
                let what = format!("`{}` is not used here: {}", ban.call, ban.instead);
                found.push(Violation::new(&source.path, line, what));
            }
        }
    }
    found
}

/// Whether the call stands in the code as its own path, not as the end of a longer name. tokio's
/// `Instant` is not the wall clock: paused tests move it.
fn calls(code: &str, call: &str) -> bool {
    let code = code.replace("tokio::time::Instant::now", "");
    code.match_indices(call).any(|(at, _)| {
        let joined = |c: char| c.is_alphanumeric() || c == '_';
        let starts_word = call.starts_with(joined);
        let ends_word = call.ends_with(joined);
        let before = code[..at].chars().next_back();
        let after = code[at + call.len()..].chars().next();
        let own_start = !(starts_word && before.is_some_and(joined));
        own_start && !(ends_word && after.is_some_and(joined))
    })
}

/// `select!` polls its branches in random order unless told otherwise.
fn unbiased_select(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (line, code) in source.lines() {
        let Some(at) = word_positions(code, "select")
            .into_iter()
            .find(|at| code[at + "select".len()..].trim_start().starts_with('!'))
        else {
            continue;
        };
        let tail = &code[at..];
        let rest = source.code[line..].iter().map(String::as_str);
        let text: String = std::iter::once(tail)
            .chain(rest)
            .take(6)
            .collect::<Vec<_>>()
            .join(" ");
        let body = text
            .split_once('{')
            .map_or("", |(_, body)| body.trim_start());
        if !body.starts_with("biased;") {
            let what = "`select!` without `biased;`: its order would differ between runs";
            found.push(Violation::new(&source.path, line, what));
        }
    }
    found
}

/// The standard hash collections iterate in an order of their own in each process.
fn unordered_collections(source: &Source) -> Vec<Violation> {
    if source.place != Place::Product {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut statement: Option<(usize, String)> = None; // a `use` that is still open
    for (line, code) in source.lines() {
        let (first, seen) = match statement.take() {
            Some((first, seen)) => (first, seen + " " + code),
            None => (line, code.to_owned()),
        };
        let is_use = !word_positions(&seen, "use").is_empty();
        let names = ["HashMap", "HashSet"];
        let named = names
            .into_iter()
            .find(|name| !word_positions(code, name).is_empty());
        let from_std = seen.contains("collections");
        if let Some(name) = named.filter(|_| from_std && !source.is_test(line)) {
            let excused = (first.saturating_sub(2)..line)
                .any(|index| source.comments[index].contains("// order:"));
            if !excused {
                let what = format!(
                    "`{name}` of std: use `BTreeMap` or an indexed table, or say on the line \
                     above why its order cannot be seen: `// order: ...`"
                );
                found.push(Violation::new(&source.path, line, what));
            }
        }
        if is_use && !seen.contains(';') {
            statement = Some((first, seen));
        }
    }
    found
}

fn left_over(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, comment) in source.comments.iter().enumerate() {
        for mark in ["FIXME", "XXX", "TODO", "HACK"] {
            if !word_positions(comment, mark).is_empty() {
                let what = format!("`{mark}` left over: do it, or open an issue");
                found.push(Violation::new(&source.path, index + 1, what));
            }
        }
    }
    found
}

/// Words that say nothing about what a thing is.
const EMPTY_NAMES: [&str; 4] = ["Manager", "Handler", "Helper", "Util"];

fn names(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (line, code) in source.lines() {
        for kind in ["struct", "enum", "trait", "type"] {
            for at in word_positions(code, kind) {
                let rest = code[at + kind.len()..].trim_start();
                let name: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if let Some(word) = EMPTY_NAMES.into_iter().find(|word| name.contains(word)) {
                    let what = format!("`{name}`: `{word}` does not say what it is");
                    found.push(Violation::new(&source.path, line, what));
                }
            }
        }
    }
    if source.path.ends_with("/mod.rs") {
        let what = "no `mod.rs`: name the file after its folder, beside it";
        found.push(Violation::new(&source.path, 1, what));
    }
    found
}
