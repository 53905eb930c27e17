//! From a line to a command and its arguments, and the check of arguments that came by wire.
//!
//! It runs nothing. Bound: a line has at most [`WORDS_MAX`] words.

use serde_json::{Map, Value as Json};

use super::command::{Arg, COMMANDS, Command, Takes, find};

/// Words of one command: the longest has half as many.
pub const WORDS_MAX: usize = 32;

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
    let mut positional = command
        .args
        .iter()
        .filter(|arg| !arg.is_option())
        .peekable();
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
            let rest = |arg: &&&Arg| arg.takes == Takes::Assignments;
            let arg = positional.peek().copied();
            positional.next_if(|arg| !rest(&arg));
            let arg = arg.ok_or_else(|| wrong(command, &format!("unexpected `{word}`")))?;
            (arg, *word)
        };
        let value = value(arg, text).map_err(|message| wrong(command, &message))?;
        match (given.get_mut(&arg.key()), value) {
            (Some(Json::Array(before)), Json::Array(more)) => before.extend(more),
            (_, value) => drop(given.insert(arg.key(), value)),
        }
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
            Some(Json::Array(items)) if arg.takes == Takes::Assignments => {
                if items.len() > WORDS_MAX {
                    let message = format!("more than {WORDS_MAX} of {}", arg.name);
                    return Err(wrong(command, &message));
                }
                for item in items {
                    let text = item.as_str().unwrap_or_default();
                    value(arg, text).map_err(|message| wrong(command, &message))?;
                }
            }
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
    together(command, given).map_err(|message| wrong(command, message))
}

/// Arguments that go with one another.
fn together(command: &Command, given: &Map<String, Json>) -> Result<(), &'static str> {
    let action = given.get("action").and_then(Json::as_str);
    let has = |key| given.contains_key(key);
    match (command.name, action) {
        ("fault", Some("inject")) if !has("target") || !has("kind") => {
            Err("inject takes TARGET and KIND, such as meter-*,10% disconnect for=30s")
        }
        ("fault", Some("crash" | "revert")) if !has("target") => Err("TARGET is missing"),
        ("fault", None | Some("list")) if has("target") => Err("list takes no TARGET"),
        ("fault", Some("crash")) if has("kind") => Err("crash takes TARGET only"),
        ("fault", Some("revert")) if has("key_value") => Err("revert takes TARGET and KIND only"),
        ("update", _) if has("field_key_value") == has("fields") => {
            Err("give the fields as FIELD.KEY=VALUE, or with --fields")
        }
        ("chaos", Some("start")) if has("renew") => Err("--renew goes with status"),
        ("chaos", Some("stop" | "status")) if given.len() > 1 + usize::from(has("renew")) => {
            Err("only start takes options of a plan")
        }
        ("policy", Some("set")) if !has("path") || !has("key_value") => {
            Err("set takes PATH and what to set, such as intensity=5")
        }
        ("policy", Some("reload")) if has("path") || has("key_value") => {
            Err("reload reads all files; it takes no PATH")
        }
        ("policy", Some("show")) if has("key_value") || has("dry_run") => {
            Err("show changes nothing; it takes PATH only")
        }
        _ => Ok(()),
    }
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
        Takes::Assignments => match text.split_once('=') {
            Some((key, _)) if !key.is_empty() => Ok(Json::from(vec![text])),
            _ => Err(format!("expected {}, not `{text}`", arg.name)),
        },
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
        let (_, given) = parse("policy set /twin a=1 --dry-run b=x=y")
            .unwrap()
            .unwrap();
        let expected = serde_json::json!({
            "action": "set", "path": "/twin", "key_value": ["a=1", "b=x=y"], "dry_run": true,
        });
        assert_eq!(Json::Object(given), expected);
    }

    #[test]
    fn a_wrong_line_is_told_with_its_usage() {
        for (line, words) in [
            ("kil /x", "did you mean `kill`?"),
            ("kill", "kill: PATH is missing; usage: kill PATH"),
            ("kill a b", "unexpected `b`"),
            ("ps --limit many", "--limit takes a number"),
            ("ps --state dead", "--state is one of running"),
            ("fault crash", "TARGET is missing"),
            ("fault inject x", "inject takes TARGET and KIND"),
            (
                "fault revert x hang for=1s",
                "revert takes TARGET and KIND only",
            ),
            ("fault list x", "list takes no TARGET"),
            ("policy set /twin", "set takes PATH and what to set"),
            ("policy set /twin intensity", "expected KEY=VALUE"),
            ("policy reload /twin", "it takes no PATH"),
            ("chaos stop --seed 3", "only start takes options"),
            ("chaos start --renew", "--renew goes with status"),
            ("policy drop", "ACTION is one of show, set, reload"),
            ("tree --all=x", "--all"),
            ("help nothing", "unknown command"),
        ] {
            let message = parse(line).unwrap_err();
            assert!(message.contains(words), "{line}: {message}");
        }
    }
}
