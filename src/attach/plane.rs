//! The control plane of a node: answers from the census, the events and the node's view.
//!
//! What only other layers know (devices, the scan) comes through [`Hooks`].
//!
//! - `children`: OTP's requests, previews, release.
//! - `policy`: policies in force, and changes of them. `chaos`: plans, and what they did.
//! - `devices`: counted, started, changed, stopped.
//! - `faults`: those of devices, begun, ended and listed.
//!
//! Bound: a tree is at most [`TREE_MAX`] rows, a fleet of more than [`FOLD_ABOVE`] is one of them;
//! a kill waits at most [`BACK_TIME`] for the next incarnation.

mod chaos;
mod children;
pub(crate) mod devices;
pub(crate) mod faults;
mod policy;
pub(crate) mod silent;
mod twin;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::census::{ActorRow, CensusFilter, Verb};
use actorsim_actors::events::Level;
use actorsim_actors::{ActorPath, ExitReason, System};
use actorsim_fleet::{Fleet, Population};
use actorsim_world::Twin;
use actorsim_world::rules::RuleSet;
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use self::silent::{Hosts, PATIENCE, soon};
use super::completion;
use super::control::{
    ChaosWord, ChildWord, ControlPlane, DevicesWord, FaultWord, Joining, Outcome, PolicyWord,
    PsFilter, RulesWord,
};
use super::protocol::{Code, Refusal};
use super::rows::{actor_row, add_parents, crash_record, event_row, level, shard_row, tree_row};
use crate::node::chaos::Chaos;
use crate::node::policies::PolicyBook;
use crate::remote::token::Token;
use crate::report;
use crate::view::{NodeView, quic_figure};

/// Rows of a tree: what a person can scroll through.
pub const TREE_MAX: usize = 5_000;

/// Actors of one host below one path that are shown one by one.
pub const FOLD_ABOVE: u64 = 32;

/// Time a kill waits for the next incarnation: far above a restart with its first backoff.
pub const BACK_TIME: Duration = Duration::from_secs(3);

/// Time for an answer to leave before the actor that carries it ends.
const FAREWELL: Duration = Duration::from_millis(50);

const BACK_POLL: Duration = Duration::from_millis(10);

/// Time over which `shards` measures: hundreds of steps of a busy shard.
const SHARDS_TIME: Duration = Duration::from_millis(250);

/// Events shown by `info`.
const INFO_EVENTS: usize = 10;

/// What only other layers can answer.
pub trait Hooks: Send + Sync + 'static {
    /// Makes a device, by path or id, report Presence = 0. False if there is no such device.
    fn trigger<'a>(&'a self, target: &'a str) -> BoxFuture<'a, Result<bool, String>>;
    /// Makes an actor's next step fault. False if there is no such actor.
    fn crash<'a>(&'a self, path: &'a ActorPath) -> BoxFuture<'a, Result<bool, String>>;
    /// The devices; `None` in a node without a fleet.
    fn fleet(&self) -> Option<&Fleet>;
    /// Devices that are to join, as a population of this node.
    ///
    /// # Errors
    /// Everything that is wrong, in words.
    fn join(&self, joining: &Joining) -> Result<Population, String>;
    /// The scan; `None` in a node without a world.
    fn scan(&self) -> Option<report::Scan>;

    /// The twin; `None` in a node without a world.
    fn twin(&self) -> Option<&Twin>;
    /// The rules of the node's files, as they are now; what is wrong, in words.
    fn read_rules(&self) -> Result<RuleSet, String>;
    /// Figures of an actor that has some of its own, under their name.
    fn figures(&self, path: &ActorPath) -> Option<(&'static str, Json)>;
    /// Switches the detail of cells on or off. False in a node without shards.
    fn detail(&self, on: bool) -> bool;
    /// What an actor's path stands for when folded: `devices`.
    fn noun(&self, path: &ActorPath) -> &'static str;
}

/// The control plane of a running node.
pub struct SystemPlane {
    node: String,
    system: System,
    view: Arc<dyn NodeView>,
    hooks: Arc<dyn Hooks>,
    policies: Arc<PolicyBook>,
    chaos: Arc<Chaos>,
    token: Token,
}

impl std::fmt::Debug for SystemPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemPlane")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl SystemPlane {
    /// Over a system.
    pub fn new(
        node: impl Into<String>,
        system: System,
        view: Arc<dyn NodeView>,
        hooks: Arc<dyn Hooks>,
        policies: Arc<PolicyBook>,
        chaos: Arc<Chaos>,
        token: Token,
    ) -> Self {
        Self {
            node: node.into(),
            system,
            view,
            hooks,
            policies,
            chaos,
            token,
        }
    }

    fn fleet(&self) -> Result<&Fleet, Refusal> {
        self.hooks.fleet().ok_or_else(|| {
            let message = "this node has no devices: ask one that does";
            Refusal::new(Code::NotFound, message)
        })
    }

    async fn devices_word(&self, word: DevicesWord) -> Result<Json, Refusal> {
        let ground = (&self.system, self.fleet()?);
        match word {
            DevicesWord::Show => {
                let mut shown = devices::show(ground);
                if let Some(world) = self.view.snapshot().world {
                    devices::add_world(&mut shown, &world.types);
                }
                Ok(shown)
            }
            DevicesWord::Spawn(joining) => {
                let population = self.hooks.join(&joining).map_err(devices::usage)?;
                let policies = self.policies.in_force();
                devices::spawn(ground, &joining, population, &policies)
            }
            DevicesWord::Update { selector, fields } => {
                devices::update(ground, &selector, &fields).await
            }
            DevicesWord::Retire { selector, now } => devices::retire(ground, &selector, now).await,
        }
    }

    async fn act(&self, path: String, verb: Verb, dry_run: bool) -> Result<Json, Refusal> {
        let path = parse(&path)?;
        let census = self.system.census();
        let hosts = self.hosts_of(&path).await;
        let before = census.row_among(&hosts.awake, &path).await;
        let before = before.ok_or_else(|| self.unreachable(&path, &hosts))?;
        let (done, reason) = match verb {
            Verb::Kill => ("killed", ExitReason::Killed),
            _ => ("stopped", ExitReason::Shutdown),
        };
        let plan = self.foreseen(&path, reason).await;
        if dry_run {
            return Ok(json!({
                "path": path, "done": "nothing: a dry run", "plan": plan,
                "state": before.state,
            }));
        }
        if ActorPath::root()
            .join("control")
            .join("attach")
            .is_within(&path)
        {
            return Ok(self.act_after_answer(path, &before, verb, done, &plan));
        }
        self.chaos.ordered(Some(&path));
        match soon(census.act(&path, verb)).await {
            Some(true) => {}
            Some(false) => {
                let message = format!("{path} is {} and cannot be reached", before.state);
                return Err(Refusal::new(Code::Failed, message));
            }
            None => return Err(late(&path)),
        }
        let was = before.incarnation;
        let mut now = None;
        let mut state = "gone";
        for _ in 0..BACK_TIME.as_millis() / BACK_POLL.as_millis() {
            tokio::time::sleep(BACK_POLL).await;
            let Some(row) = soon(census.row(&path)).await else {
                state = "unknown";
                break;
            };
            match row {
                None => {
                    // Nobody starts it again: temporary, or its supervisor went with it.
                    state = "gone";
                    break;
                }
                Some(row) => {
                    state = row.state;
                    if row.incarnation > was && row.state == "running" {
                        now = Some(row.incarnation.0);
                        break;
                    }
                }
            }
            if verb == Verb::Stop && state != "running" || state == "quarantined" {
                break;
            }
        }
        Ok(json!({
            "path": path, "done": done, "plan": plan, "was_incarnation": was.0,
            "now_incarnation": now, "state": state,
        }))
    }

    /// The hosts that an actor may be on, by whether they answer.
    async fn hosts_of(&self, path: &ActorPath) -> Hosts {
        let mut sources = self.system.census().sources();
        sources.retain(|source| path.is_within(source.within()));
        Hosts::ask(sources).await
    }

    /// Why there is no row of an actor: its host stands still, or there is no such actor.
    fn unreachable(&self, path: &ActorPath, hosts: &Hosts) -> Refusal {
        let silent = hosts.silent.iter().find(|host| host.known(path).is_some());
        match silent {
            None => missing(path),
            Some(host) => {
                let place = host.place();
                let message = format!("{path}: {place} does not answer; nothing was done");
                Refusal::new(Code::Timeout, message)
            }
        }
    }

    /// For the actors this session lives in: they end once the answer has left.
    fn act_after_answer(
        &self,
        path: ActorPath,
        row: &ActorRow,
        verb: Verb,
        done: &str,
        plan: &str,
    ) -> Json {
        let answer = json!({
            "path": path, "done": done, "plan": plan, "was_incarnation": row.incarnation.0,
            "now_incarnation": null, "state": "this session ends with it",
        });
        let system = self.system.clone();
        self.system.detached(async move {
            tokio::time::sleep(FAREWELL).await;
            system.census().act(&path, verb).await;
        });
        answer
    }

    async fn tree_rows(
        &self,
        below: &ActorPath,
        depth: Option<usize>,
        all: bool,
        hosts: &Hosts,
    ) -> Vec<Json> {
        let census = self.system.census();
        let filter = CensusFilter {
            within: Some(below.clone()),
            ..CensusFilter::default()
        };
        let mut nodes: BTreeMap<ActorPath, Option<ActorRow>> = BTreeMap::new();
        for row in census.task_rows(&filter, None, TREE_MAX).rows {
            nodes.insert(row.path.clone(), Some(row));
        }
        let mut folded: BTreeMap<ActorPath, u64> = BTreeMap::new();
        let silent = hosts.silent.iter().map(|source| (source, true));
        let awake = hosts.awake.iter().map(|source| (source, false));
        for (source, is_silent) in awake.chain(silent) {
            let within = source.within();
            // A fleet that is asked for by its own path is shown unfolded.
            let inside = below.is_within(within);
            if !inside && !within.is_within(below) {
                continue;
            }
            if is_silent || !inside && !all && source.live() > FOLD_ABOVE {
                *folded.entry(within.clone()).or_insert(0) += source.live();
                nodes.entry(within.clone()).or_insert(None);
                continue;
            }
            let room = TREE_MAX.saturating_sub(nodes.len());
            for row in source.rows(filter.clone(), None, room).await.rows {
                nodes.insert(row.path.clone(), Some(row));
            }
        }
        add_parents(&mut nodes, below);
        let base = level(below);
        // Path order is by text, where `/a-b` comes before `/a/c`; a tree goes by segments.
        let mut nodes: Vec<_> = nodes.into_iter().collect();
        nodes.sort_by(|a, b| a.0.as_str().split('/').cmp(b.0.as_str().split('/')));
        nodes
            .iter()
            .filter(|(path, _)| depth.is_none_or(|depth| level(path) - base <= depth))
            .map(|(path, row)| {
                let fold = folded
                    .get(path)
                    .map(|count| (*count, self.hooks.noun(path)));
                tree_row(path, level(path) - base, row.as_ref(), fold)
            })
            .collect()
    }
}

impl ControlPlane for SystemPlane {
    fn ps(&self, filter: PsFilter) -> Outcome<'_> {
        Box::pin(async move {
            let after = filter.after.as_deref().map(parse).transpose()?;
            // A plain path means the actor and everything below it.
            let plain = filter
                .glob
                .as_deref()
                .filter(|glob| !glob.contains(['*', '?']));
            let within = plain.map(parse).transpose()?;
            let glob = if within.is_some() { None } else { filter.glob };
            let census = CensusFilter {
                within,
                glob,
                state: filter.state,
            };
            let all = self.system.census();
            let hosts = Hosts::ask(all.sources()).await;
            let page = all
                .rows_among(&hosts.awake, &census, after.as_ref(), filter.limit)
                .await;
            let rows: Vec<_> = page.rows.iter().map(actor_row).collect();
            let mut data = json!({ "rows": rows, "more": page.more });
            note(&mut data, hosts.notes());
            Ok(data)
        })
    }

    fn tree(&self, below: Option<String>, depth: Option<usize>, all: bool) -> Outcome<'_> {
        Box::pin(async move {
            let below = below
                .as_deref()
                .map_or_else(|| Ok(ActorPath::root()), parse)?;
            let hosts = Hosts::ask(self.system.census().sources()).await;
            let rows = self.tree_rows(&below, depth, all, &hosts).await;
            if rows.len() <= 1 && !below.is_root() {
                let row = self.system.census().row_among(&hosts.awake, &below).await;
                row.ok_or_else(|| self.unreachable(&below, &hosts))?;
            }
            let mut data = json!({ "node": self.node, "rows": rows });
            note(&mut data, hosts.notes());
            Ok(data)
        })
    }

    fn info(&self, path: String) -> Outcome<'_> {
        Box::pin(async move {
            let path = parse(&path)?;
            let hosts = self.hosts_of(&path).await;
            let row = self.system.census().row_among(&hosts.awake, &path).await;
            let known = || hosts.silent.iter().find_map(|host| host.known(&path));
            let row = row.or_else(known).ok_or_else(|| missing(&path))?;
            let mut info = actor_row(&row);
            if row.state == "unknown" {
                info.insert("notes".into(), json!(hosts.notes()));
            }
            let b = &row.books;
            let books = json!({
                "offered": b.offered, "accepted": b.accepted, "rejected": b.rejected,
                "handled": b.handled, "dropped": b.dropped, "conflated": b.conflated,
                "died": b.died, "waiting": b.waiting,
            });
            info.insert("highest".into(), row.highest.into());
            info.insert("books".into(), books);
            info.insert("last_exit".into(), json!(row.last_exit));
            let held_up = self.system.hindrances().on(&path);
            if !held_up.is_empty() {
                info.insert("held_up".into(), json!(held_up));
            }
            for (name, value) in &row.attributes {
                info.entry(*name).or_insert_with(|| value.as_str().into());
            }
            let crash = self.policies.crash(&path);
            info.insert(
                "crash".into(),
                crash.as_ref().map_or(Json::Null, crash_record),
            );
            if let Some((name, figures)) = self.hooks.figures(&path) {
                info.insert(name.into(), figures);
            }
            let events = self.system.events().last(usize::MAX);
            let own = events
                .iter()
                .rev()
                .filter(|event| event.path.as_ref() == Some(&path));
            let mut own: Vec<_> = own.take(INFO_EVENTS).map(event_row).collect();
            own.reverse();
            info.insert("events".into(), Json::Array(own));
            Ok(Json::Object(info))
        })
    }

    fn kill(&self, path: String, dry_run: bool) -> Outcome<'_> {
        Box::pin(self.act(path, Verb::Kill, dry_run))
    }

    fn stop(&self, path: String) -> Outcome<'_> {
        Box::pin(self.act(path, Verb::Stop, false))
    }

    fn children(&self, word: ChildWord, path: String, page: PsFilter) -> Outcome<'_> {
        Box::pin(self.otp(word, path, page))
    }

    fn release(&self, pattern: String, limit: usize, dry_run: bool) -> Outcome<'_> {
        Box::pin(async move { self.let_out(&pattern, limit, dry_run).await })
    }

    fn policy(&self, word: PolicyWord, pattern: Option<String>, dry_run: bool) -> Outcome<'_> {
        Box::pin(async move { self.policies(word, pattern, dry_run) })
    }

    fn chaos(&self, word: ChaosWord) -> Outcome<'_> {
        Box::pin(self.break_things(word))
    }

    fn devices(&self, word: DevicesWord) -> Outcome<'_> {
        Box::pin(self.devices_word(word))
    }

    fn trigger(&self, target: String) -> Outcome<'_> {
        Box::pin(async move {
            match self.hooks.trigger(&target).await {
                Ok(true) => Ok(json!({ "target": target, "done": "Presence = 0 sent" })),
                Ok(false) => Err(Refusal::new(
                    Code::NotFound,
                    format!("no device {target} in this node"),
                )),
                Err(message) => Err(Refusal::new(Code::Failed, message)),
            }
        })
    }

    fn scan(&self) -> Outcome<'_> {
        Box::pin(async move {
            let scan = self.hooks.scan().ok_or_else(|| {
                Refusal::new(Code::NotFound, "this node has no world: it does not scan")
            })?;
            serde_json::to_value(scan)
                .map_err(|error| Refusal::new(Code::Failed, error.to_string()))
        })
    }

    fn quality(&self) -> Outcome<'_> {
        Box::pin(std::future::ready(self.follows()))
    }

    fn quic(&self) -> Outcome<'_> {
        let counted = self.view.snapshot().quic.into_iter();
        let figures: BTreeMap<String, u64> = counted.map(quic_figure).collect();
        Box::pin(std::future::ready(Ok(json!(figures))))
    }

    fn rules(&self, word: RulesWord) -> Outcome<'_> {
        Box::pin(self.judge_by(word))
    }

    fn pace(&self, assignments: Vec<String>) -> Outcome<'_> {
        Box::pin(self.keep_pace(assignments))
    }

    fn shards(&self) -> Outcome<'_> {
        Box::pin(async move {
            let before = self.view.snapshot();
            tokio::time::sleep(SHARDS_TIME).await;
            let after = self.view.snapshot();
            let time = after.uptime.saturating_sub(before.uptime);
            let pairs = before.shards.iter().zip(&after.shards);
            let rows: Vec<_> = pairs
                .map(|(before, after)| shard_row(&before.stats, &after.stats, time))
                .collect();
            Ok(json!({ "rows": rows }))
        })
    }

    fn detail(&self, on: bool) -> Outcome<'_> {
        Box::pin(async move {
            if self.hooks.detail(on) {
                return Ok(json!({ "detail": if on { "on" } else { "off" } }));
            }
            let message = "this node has no shards: nothing can be measured";
            Err(Refusal::new(Code::NotFound, message))
        })
    }

    fn health(&self) -> Outcome<'_> {
        Box::pin(async move {
            let snapshot = self.view.brief();
            if !snapshot.unhealthy.is_empty() {
                return Err(Refusal::new(Code::Unhealthy, snapshot.unhealthy.join("; ")));
            }
            Ok(json!({
                "node": self.node, "version": crate::cli::VERSION, "healthy": true,
                "ready": snapshot.ready, "uptime_s": snapshot.uptime.as_secs(),
                "devices_running": snapshot.devices.as_ref().map(|fleet| fleet.in_state("running")),
                "devices_requested": snapshot.devices.as_ref().map(|fleet| fleet.requested),
                "readings_applied": snapshot.world.as_ref().map(|world| world.readings_applied),
                "restarts": snapshot.restarts, "rss_bytes": snapshot.process.rss_bytes,
                "threads": snapshot.process.threads,
            }))
        })
    }

    fn fault(&self, word: FaultWord) -> Outcome<'_> {
        Box::pin(async move {
            let fleet = self.fleet()?;
            let ends_devices = faults::ends_devices(&word);
            if ends_devices {
                self.chaos.ordered(None);
            }
            let done = faults::fault_devices((&self.system, fleet), word).await;
            if ends_devices {
                self.chaos.ordered(None); // the last of them are told only now
            }
            done
        })
    }

    fn faults(&self, limit: usize) -> Outcome<'_> {
        Box::pin(async move {
            let ground = (&self.system, self.hooks.fleet());
            Ok(faults::list_faults(ground, limit))
        })
    }

    fn crash(&self, path: String) -> Outcome<'_> {
        Box::pin(async move {
            let path = parse(&path)?;
            self.chaos.ordered(Some(&path));
            match self.hooks.crash(&path).await {
                Ok(true) => {
                    let row = json!({
                        "id": null, "at": null, "level": "info", "name": "fault_injected",
                        "path": path, "text": "its next step faults",
                    });
                    Ok(json!({ "rows": [row] }))
                }
                Ok(false) => Err(missing(&path)),
                Err(message) => Err(Refusal::new(Code::Failed, message)),
            }
        })
    }

    fn token(&self, rotate: bool) -> Outcome<'_> {
        Box::pin(async move {
            let done = if rotate { self.token.rotate() } else { Ok(()) };
            done.map_err(|error| Refusal::new(Code::Failed, error.to_string()))?;
            let done = if rotate {
                "a new token is there"
            } else {
                "nothing"
            };
            Ok(json!({ "file": self.token.file(), "done": done }))
        })
    }

    fn events(&self, since: Option<u64>, limit: usize) -> Outcome<'_> {
        Box::pin(async move {
            let events = match since {
                Some(id) => self.system.events().since(id, limit),
                None => self.system.events().last(limit),
            };
            Ok(json!({ "rows": events.iter().map(event_row).collect::<Vec<_>>() }))
        })
    }

    fn complete(&self, prefix: String) -> Outcome<'_> {
        Box::pin(async move {
            let paths = completion::paths(self.system.census(), &prefix).await;
            Ok(json!({ "paths": paths }))
        })
    }

    fn audit(&self, line: &str, uid: u32) {
        let text = format!("{line} (user {uid})");
        self.system
            .events()
            .publish(Level::Info, "commanded", None, text);
    }
}

fn parse(path: impl AsRef<str>) -> Result<ActorPath, Refusal> {
    let path = path.as_ref();
    ActorPath::new(path).map_err(|error| Refusal::new(Code::Usage, format!("`{path}`: {error}")))
}

/// What people should know beside the rows.
fn note(data: &mut Json, notes: Vec<String>) {
    if !notes.is_empty() {
        data["notes"] = json!(notes);
    }
}

/// A host began to stand still with the request in its queue.
fn late(path: &ActorPath) -> Refusal {
    let message = format!("{path} was told, but its host has not answered for {PATIENCE:?}");
    Refusal::new(Code::Timeout, message)
}

fn missing(path: &ActorPath) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("no actor {path}; `ps` and `tree` list them"),
    )
}
