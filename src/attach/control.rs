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

/// The answers of a node.
pub trait ControlPlane: Send + Sync + 'static {
    /// A page of actors: `{ rows, more }`.
    fn ps(&self, filter: PsFilter) -> Outcome<'_>;
    /// The tree below a path: `{ rows }`, each with `depth`, `name`, and `folded` where it stands
    /// for many.
    fn tree(&self, below: Option<String>, depth: Option<usize>, all: bool) -> Outcome<'_>;
    /// One actor.
    fn info(&self, path: String) -> Outcome<'_>;
    /// Ends an actor at once; answers with the new incarnation where one came in time.
    fn kill(&self, path: String) -> Outcome<'_>;
    /// Stops an actor in order.
    fn stop(&self, path: String) -> Outcome<'_>;
    /// Makes a device, by path or id, report Presence = 0.
    fn trigger(&self, target: String) -> Outcome<'_>;
    /// The scan.
    fn scan(&self) -> Outcome<'_>;
    /// The shards: `{ rows }`.
    fn shards(&self) -> Outcome<'_>;
    /// Health; a refusal with [`Code::Unhealthy`] if something is wrong.
    fn health(&self) -> Outcome<'_>;
    /// The last faults: `{ rows }`.
    fn faults(&self, limit: usize) -> Outcome<'_>;
    /// Makes the actor's next step fault.
    fn crash(&self, path: String) -> Outcome<'_>;
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
    let text = |key: &str| args.get(key).and_then(Json::as_str).map(ToOwned::to_owned);
    if cmd == "complete" {
        return plane.complete(text("prefix").unwrap_or_default()).await;
    }
    let usage = |message| Refusal::new(Code::Usage, message);
    let command = command::find(cmd).ok_or_else(|| {
        usage(format!(
            "unknown command `{cmd}`: this node is version {}",
            crate::cli::VERSION
        ))
    })?;
    parse::check(command, args).map_err(usage)?;
    let only_looks = command.name == "fault" && !args.contains_key("path");
    if command.impact != command::Impact::Ro && !only_looks {
        plane.audit(&shown(command, args), uid);
    }
    let number = |key: &str| args.get(key).and_then(Json::as_u64);
    let limit = number("limit").map_or(LIMIT_DEFAULT, |limit| {
        usize::try_from(limit)
            .unwrap_or(LIMIT_MAX)
            .clamp(1, LIMIT_MAX)
    });
    let path = || text("path").unwrap_or_default();
    match command.name {
        "ps" => {
            let (glob, state, after) = (text("filter"), text("state"), text("after"));
            plane
                .ps(PsFilter {
                    glob,
                    state,
                    after,
                    limit,
                })
                .await
        }
        "tree" => {
            let depth = number("depth").and_then(|depth| usize::try_from(depth).ok());
            plane
                .tree(text("path"), depth, args.contains_key("all"))
                .await
        }
        "info" => plane.info(path()).await,
        "kill" => plane.kill(path()).await,
        "stop" => plane.stop(path()).await,
        "trigger" => plane.trigger(text("target").unwrap_or_default()).await,
        "scan" => plane.scan().await,
        "shards" => plane.shards().await,
        "health" => plane.health().await,
        "fault" if args.contains_key("path") => plane.crash(path()).await,
        "fault" => plane.faults(limit).await,
        "events" => plane.events(number("since"), limit).await,
        _ => Ok(command::help(text("command").as_deref())),
    }
}

fn shown(command: &Command, args: &Map<String, Json>) -> String {
    let mut line = command.name.to_owned();
    for value in args.values() {
        line.push(' ');
        line.push_str(value.as_str().unwrap_or_default());
    }
    line
}
