//! What a node answers to attach commands: one method per command.
//!
//! The server and the tests know only this trait; [`super::plane`] implements it over the census.
//! Bound: every list is a page of at most the given limit.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value as Json};

use super::command::{self, Command};
use super::parse;
use super::protocol::{Code, Refusal};

/// Rows shown when no limit is given: a screen or two.
pub const LIMIT_DEFAULT: usize = 100;

/// Most rows of one answer.
pub const LIMIT_MAX: usize = 10_000;

/// What a command gives back.
pub type Outcome<'a> = BoxFuture<'a, Result<Json, Refusal>>;

/// Which actors `ps` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PsFilter {
    /// Path pattern.
    pub glob: Option<String>,
    /// State.
    pub state: Option<String>,
    /// Rows after this path.
    pub after: Option<String>,
    /// Most rows.
    pub limit: usize,
}

/// What is asked of a supervisor, in OTP's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildWord {
    /// `which_children`, of the supervisor.
    Which,
    /// `count_children`, of the supervisor.
    Count,
    /// `get_childspec`, of the child.
    Spec,
    /// `start_child`.
    Start,
    /// `terminate_child`.
    Terminate,
    /// `restart_child`.
    Restart,
    /// `delete_child`.
    Delete,
}

/// What is asked of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyWord {
    /// Those in force.
    Show,
    /// Another one, by `key=value`.
    Set(Vec<String>),
    /// Those of the files.
    Reload,
    /// Whether children fit, as it is or with these `key=value`.
    Check(Vec<String>),
}

/// What is asked of the faults of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultWord {
    /// One more for each device that is meant.
    Inject {
        /// Who is meant.
        selector: String,
        /// Which fault.
        kind: String,
        /// `for=30s` and parameters.
        params: Vec<String>,
    },
    /// The end of those of a kind, or of all.
    Revert {
        /// Who is meant.
        selector: String,
        /// Which fault.
        kind: Option<String>,
    },
}

/// What is asked of the devices as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevicesWord {
    /// Those there are, and what they have counted.
    Show,
    /// More of them.
    Spawn(Joining),
    /// Other generators, as JSON.
    Update {
        /// Who is meant.
        selector: String,
        /// From field to generator.
        fields: String,
    },
    /// The end of some.
    Retire {
        /// Who is meant.
        selector: String,
        /// Without a goodbye.
        now: bool,
    },
}

/// Devices that are to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// A shipped profile or a file.
    pub profile: String,
    /// How many.
    pub count: u64,
    /// Labels over those of the profile.
    pub labels: Vec<(String, String)>,
    /// Name of the population.
    pub name: Option<String>,
    /// Time between samples.
    pub interval: Option<String>,
    /// Seed of what they draw.
    pub seed: Option<u64>,
}

/// What is asked of the rules of the automation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulesWord {
    /// Those in use.
    Show,
    /// Those of the files, from now on.
    Reload,
}

/// What is asked of chaos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChaosWord {
    /// Begin a plan: a file, and options that win over it, as in a plan.
    Start {
        /// The file.
        plan: Option<String>,
        /// Keys of a plan with their values, as TOML.
        options: Vec<(&'static str, String)>,
    },
    /// End it.
    Stop,
    /// What was done; with the lease renewed.
    Status(bool),
}

/// The answers of a node.
pub trait ControlPlane: Send + Sync + 'static {
    /// A page of actors: `{ rows, more }`.
    fn ps(&self, filter: PsFilter) -> Outcome<'_>;
    /// The tree below a path: `{ rows }`, each with `depth`, `name`, and `folded` where it stands
    /// for many.
    fn tree(&self, below: Option<String>, depth: Option<usize>, all: bool) -> Outcome<'_>;
    /// One actor.
    fn info(&self, path: String) -> Outcome<'_>;
    /// Ends an actor at once; answers with what its supervisor does, and with the new incarnation
    /// where one came in time. A dry run only says what would be done.
    fn kill(&self, path: String, dry_run: bool) -> Outcome<'_>;
    /// Stops an actor in order.
    fn stop(&self, path: String) -> Outcome<'_>;
    /// A request of OTP's supervisor; the filter pages through the devices of a population.
    fn children(&self, word: ChildWord, path: String, page: PsFilter) -> Outcome<'_>;
    /// Starts quarantined actors: `{ rows }`.
    fn release(&self, pattern: String, limit: usize, dry_run: bool) -> Outcome<'_>;
    /// The policies of supervisors and populations: `{ rows }`.
    fn policy(&self, word: PolicyWord, pattern: Option<String>, dry_run: bool) -> Outcome<'_>;
    /// Chaos: what it did, and whether it goes on.
    fn chaos(&self, word: ChaosWord) -> Outcome<'_>;
    /// Devices: counted, started, changed, stopped.
    fn devices(&self, word: DevicesWord) -> Outcome<'_>;
    /// Makes a device, by path or id, report Presence = 0.
    fn trigger(&self, target: String) -> Outcome<'_>;
    /// The scan.
    fn scan(&self) -> Outcome<'_>;
    /// How well the twin follows its devices.
    fn quality(&self) -> Outcome<'_>;
    /// What QUIC counted.
    fn quic(&self) -> Outcome<'_>;
    /// The rules of the automation: `{ rows }`.
    fn rules(&self, word: RulesWord) -> Outcome<'_>;
    /// Keeps another grid: `period=5ms`, `walk_every=10`.
    fn pace(&self, assignments: Vec<String>) -> Outcome<'_>;
    /// The shards: `{ rows }`.
    fn shards(&self) -> Outcome<'_>;
    /// Switches the detail of cells on or off.
    fn detail(&self, on: bool) -> Outcome<'_>;
    /// Health; a refusal with [`Code::Unhealthy`] if something is wrong.
    fn health(&self) -> Outcome<'_>;
    /// Faults of devices, begun or ended: `{ rows }`.
    fn fault(&self, word: FaultWord) -> Outcome<'_>;
    /// The faults that act, and the last ones: `{ rows }`.
    fn faults(&self, limit: usize) -> Outcome<'_>;
    /// Makes the actor's next step fault.
    fn crash(&self, path: String) -> Outcome<'_>;
    /// Where the token of actions over HTTP lies; a new one is put there first if asked for.
    fn token(&self, rotate: bool) -> Outcome<'_>;
    /// Events after an id, or the last ones: `{ rows }`.
    fn events(&self, since: Option<u64>, limit: usize) -> Outcome<'_>;
    /// Paths that continue a prefix by one segment: `{ paths }`.
    fn complete(&self, prefix: String) -> Outcome<'_>;
    /// Told of every command that changes something, before it is done.
    fn audit(&self, line: &str, uid: u32);
}

/// Runs one request.
///
/// # Errors
/// A wrong command or arguments, or what the node says.
pub async fn dispatch(
    plane: &dyn ControlPlane,
    cmd: &str,
    args: &Map<String, Json>,
    uid: u32,
) -> Result<Json, Refusal> {
    if cmd == "complete" {
        let prefix = args.get("prefix").and_then(Json::as_str);
        return plane.complete(prefix.unwrap_or_default().to_owned()).await;
    }
    let usage = |message| Refusal::new(Code::Usage, message);
    let command = command::find(cmd).ok_or_else(|| {
        usage(format!(
            "unknown command `{cmd}`: this node is version {}",
            crate::cli::VERSION
        ))
    })?;
    parse::check(command, args).map_err(usage)?;
    if !only_looks(command, args) {
        plane.audit(&shown(command, args), uid);
    }
    answer(plane, command, args).await
}

/// Whether a command changes nothing as it was given.
pub(crate) fn only_looks(command: &Command, args: &Map<String, Json>) -> bool {
    let action = args.get("action").and_then(Json::as_str);
    command.impact == command::Impact::Ro
        || args.contains_key("dry_run")
        || match command.name {
            "fault" => !args.contains_key("target"),
            "policy" | "token" => action == Some("show"),
            "rules" => action != Some("reload"),
            "chaos" => action == Some("status"),
            _ => false,
        }
}

/// The answer to a command whose arguments are right.
async fn answer(
    plane: &dyn ControlPlane,
    command: &Command,
    args: &Map<String, Json>,
) -> Result<Json, Refusal> {
    let text = |key: &str| args.get(key).and_then(Json::as_str).map(ToOwned::to_owned);
    let number = |key: &str| args.get(key).and_then(Json::as_u64);
    let limit = number("limit").map_or(LIMIT_DEFAULT, |limit| {
        usize::try_from(limit)
            .unwrap_or(LIMIT_MAX)
            .clamp(1, LIMIT_MAX)
    });
    let path = || text("path").unwrap_or_default();
    let acts = |word| text("action").as_deref() == Some(word);
    let dry_run = args.contains_key("dry_run");
    let page = |glob| PsFilter {
        glob,
        state: text("state"),
        after: text("after"),
        limit,
    };
    match command.name {
        "ps" => plane.ps(page(text("filter"))).await,
        "tree" => {
            let depth = number("depth").and_then(|depth| usize::try_from(depth).ok());
            plane
                .tree(text("path"), depth, args.contains_key("all"))
                .await
        }
        "info" => plane.info(path()).await,
        "kill" => plane.kill(path(), dry_run).await,
        "stop" => plane.stop(path()).await,
        "trigger" => plane.trigger(text("target").unwrap_or_default()).await,
        "scan" => plane.scan().await,
        "quality" => plane.quality().await,
        "quic" => plane.quic().await,
        "rules" if acts("reload") => plane.rules(RulesWord::Reload).await,
        "rules" => plane.rules(RulesWord::Show).await,
        "pace" => plane.pace(assignments(args)).await,
        "shards" => plane.shards().await,
        "detail" => plane.detail(text("switch").as_deref() == Some("on")).await,
        "health" => plane.health().await,
        "fault" => match fault_word(args) {
            Some(word) => plane.fault(word).await,
            None => match text("target") {
                Some(path) => plane.crash(path).await,
                None => plane.faults(limit).await,
            },
        },
        "events" => plane.events(number("since"), limit).await,
        "release" => {
            let pattern = text("pattern").unwrap_or_default();
            plane.release(pattern, limit, dry_run).await
        }
        "policy" | "check_childspecs" => {
            let word = policy_word(command.name, args);
            plane.policy(word, text("path"), dry_run).await
        }
        "fleet" | "spawn" | "update" | "retire" => {
            plane.devices(devices_word(command.name, args)?).await
        }
        "chaos" => plane.chaos(chaos_word(args)).await,
        "token" => plane.token(acts("rotate")).await,
        name => match child_word(name) {
            Some(word) => plane.children(word, path(), page(None)).await,
            None => Ok(command::help(text("command").as_deref())),
        },
    }
}

fn child_word(command: &str) -> Option<ChildWord> {
    Some(match command {
        "which_children" => ChildWord::Which,
        "count_children" => ChildWord::Count,
        "get_childspec" => ChildWord::Spec,
        "start_child" => ChildWord::Start,
        "terminate_child" => ChildWord::Terminate,
        "restart_child" => ChildWord::Restart,
        "delete_child" => ChildWord::Delete,
        _ => return None,
    })
}

fn fault_word(args: &Map<String, Json>) -> Option<FaultWord> {
    let text = |key: &str| args.get(key).and_then(Json::as_str).map(ToOwned::to_owned);
    let (selector, kind) = (text("target").unwrap_or_default(), text("kind"));
    match text("action").as_deref() {
        Some("inject") => Some(FaultWord::Inject {
            selector,
            kind: kind.unwrap_or_default(),
            params: assignments(args),
        }),
        Some("revert") => Some(FaultWord::Revert { selector, kind }),
        _ => None,
    }
}

/// Words of `KEY=VALUE`.
fn assignments(args: &Map<String, Json>) -> Vec<String> {
    assigned(args, "key_value")
}

fn assigned(args: &Map<String, Json>, key: &str) -> Vec<String> {
    let given = args.get(key).and_then(Json::as_array);
    let words = given.into_iter().flatten().filter_map(Json::as_str);
    words.map(ToOwned::to_owned).collect()
}

fn devices_word(command: &str, args: &Map<String, Json>) -> Result<DevicesWord, Refusal> {
    let text = |key: &str| args.get(key).and_then(Json::as_str).map(ToOwned::to_owned);
    let selector = text("selector").unwrap_or_default();
    Ok(match command {
        "spawn" => DevicesWord::Spawn(Joining {
            profile: text("profile").unwrap_or_default(),
            count: args.get("count").and_then(Json::as_u64).unwrap_or(0),
            labels: assigned(args, "label_value")
                .iter()
                .filter_map(|word| word.split_once('='))
                .map(|(label, value)| (label.to_owned(), value.to_owned()))
                .collect(),
            name: text("name"),
            interval: text("interval"),
            seed: args.get("seed").and_then(Json::as_u64),
        }),
        "update" => DevicesWord::Update {
            selector,
            fields: match text("fields") {
                Some(fields) => fields,
                None => fields(&assigned(args, "field_key_value"))?,
            },
        },
        "retire" => DevicesWord::Retire {
            selector,
            now: args.contains_key("now"),
        },
        _ => DevicesWord::Show,
    })
}

/// `temperature.mean=3` and the like as one JSON object.
fn fields(words: &[String]) -> Result<String, Refusal> {
    let mut fields: Map<String, Json> = Map::new();
    for word in words {
        let parts = word.split_once('=');
        let parts = parts.and_then(|(path, value)| Some((path.split_once('.')?, value)));
        let Some(((field, key), value)) = parts else {
            let message = format!("expected FIELD.KEY=VALUE, not `{word}`");
            return Err(Refusal::new(Code::Usage, message));
        };
        // A value that is no JSON is a text: `gaussian`.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Json::from(value));
        let own = fields
            .entry(field)
            .or_insert_with(|| Json::Object(Map::new()));
        if let Some(own) = own.as_object_mut() {
            own.insert(key.to_owned(), value);
        }
    }
    Ok(Json::Object(fields).to_string())
}

fn chaos_word(args: &Map<String, Json>) -> ChaosWord {
    let text = |key: &str| args.get(key).and_then(Json::as_str).map(ToOwned::to_owned);
    match text("action").as_deref() {
        Some("stop") => return ChaosWord::Stop,
        Some("start") => {}
        _ => return ChaosWord::Status(args.contains_key("renew")),
    }
    let quoted = |text: String| toml::Value::String(text).to_string();
    // What is no number is quoted, so that the mistake is its type, not the syntax.
    let number = |text: String| match text.parse::<f64>() {
        Ok(_) => text,
        Err(_) => quoted(text),
    };
    let whole = |key: &str| args.get(key).map(Json::to_string);
    let options = [
        ("seed", whole("seed")),
        ("rate", text("kill").map(quoted)),
        ("scope", text("scope").map(quoted)),
        ("for", text("for").map(quoted)),
        ("stop_if", text("stop_if").map(quoted)),
        ("max_concurrent", whole("max_concurrent")),
        ("blast_radius", text("blast_radius").map(number)),
    ];
    let given = options.into_iter();
    ChaosWord::Start {
        plan: text("plan"),
        options: given
            .filter_map(|(key, value)| Some((key, value?)))
            .collect(),
    }
}

fn policy_word(command: &str, args: &Map<String, Json>) -> PolicyWord {
    let action = args
        .get("action")
        .and_then(Json::as_str)
        .unwrap_or_default();
    match action {
        "set" => PolicyWord::Set(assignments(args)),
        "reload" => PolicyWord::Reload,
        _ if command == "check_childspecs" => PolicyWord::Check(assignments(args)),
        _ => PolicyWord::Show,
    }
}

/// A request as it would be written at the prompt.
fn shown(command: &Command, args: &Map<String, Json>) -> String {
    let mut line = command.name.to_owned();
    for arg in command.args {
        let Some(value) = args.get(&arg.key()) else {
            continue;
        };
        let words = match value {
            Json::Array(items) => items.iter().map(word).collect(),
            Json::Bool(_) => Vec::new(), // its name is all
            other => vec![word(other)],
        };
        let name = arg.is_option().then(|| arg.name.to_owned());
        for word in name.into_iter().chain(words) {
            line.push(' ');
            line.push_str(&word);
        }
    }
    line
}

fn word(value: &Json) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_shown_as_it_would_be_written() {
        for (name, args, line) in [
            (
                "spawn",
                json!({
                    "count": 20, "label_value": ["a=1", "b=2"], "profile": "single", "seed": 7,
                }),
                "spawn single 20 a=1 b=2 --seed 7",
            ),
            (
                "retire",
                json!({ "now": true, "selector": "lock-*" }),
                "retire lock-* --now",
            ),
            ("kill", json!({ "path": "/twin/route" }), "kill /twin/route"),
        ] {
            let command = command::find(name).unwrap();
            assert_eq!(shown(command, args.as_object().unwrap()), line);
        }
    }
}
