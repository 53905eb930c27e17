//! OTP's requests, from a prompt: who a supervisor's children are, starting and ending them, what
//! would follow the end of one, and the way out of quarantine.
//!
//! Supervisors of task actors answer for themselves; the devices of a population are answered for
//! by their slabs, as children of a `simple_one_for_one` supervisor. It decides nothing. Bound: a
//! page of devices; [`SETTLE_TIME`] for a device to get where it was sent.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::census::{ActorRow, CensusFilter, Verb};
use actorsim_actors::{ActorPath, ExitReason};
use actorsim_supervision::supervisor::{ChildState, Preview};
use actorsim_supervision::{
    Behaviour, CellGovernor, ChildSpec, DeleteChildError, RestartChildError, StartChildError,
    SupervisorRef, TerminateChildError,
};
use serde_json::{Value as Json, json};

use super::silent::{Hosts, soon};
use super::{SystemPlane, late, note, parse};
use crate::attach::control::{ChildWord, PsFilter};
use crate::attach::protocol::{Code, Refusal};

/// Time for a device to be where it was sent: its shard does it in its next step.
const SETTLE_TIME: Duration = Duration::from_secs(3);

const SETTLE_POLL: Duration = Duration::from_millis(5);

/// Who answers for a child.
enum Parent {
    Tasks(SupervisorRef, String),
    Cells(Arc<CellGovernor>),
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Failed, error.to_string())
}

/// An error of a closed set; `not_found` has a code of its own.
fn refused(error: impl std::fmt::Display, not_found: bool) -> Refusal {
    let code = if not_found {
        Code::NotFound
    } else {
        Code::Failed
    };
    Refusal::new(code, error.to_string())
}

impl SystemPlane {
    /// The nearest supervisor above a path, or the population it belongs to.
    fn parent(&self, path: &ActorPath) -> Result<Parent, Refusal> {
        if let Some(governor) = self.policies.population_of(path) {
            return Ok(Parent::Cells(governor));
        }
        let mut above = path.parent();
        while let Some(at) = above {
            if let Some(supervisor) = self.policies.supervisor(&at) {
                let id = path.as_str().strip_prefix(at.as_str()).unwrap_or_default();
                let id = id.trim_start_matches('/').to_owned();
                return Ok(Parent::Tasks(supervisor, id));
            }
            above = at.parent();
        }
        Err(refused("not_found: the root is nobody's child", true))
    }

    pub(super) async fn otp(
        &self,
        word: ChildWord,
        path: String,
        page: PsFilter,
    ) -> Result<Json, Refusal> {
        let path = parse(&path)?;
        match word {
            ChildWord::Which => self.which(&path, page).await,
            ChildWord::Count => self.count(&path).await,
            _ => match self.parent(&path)? {
                Parent::Tasks(parent, id) => task_child(word, &path, &parent, &id).await,
                Parent::Cells(governor) => self.cell_child(word, &path, &governor).await,
            },
        }
    }

    async fn which(&self, path: &ActorPath, page: PsFilter) -> Result<Json, Refusal> {
        if let Some(supervisor) = self.policies.supervisor(path) {
            let children = supervisor.which_children().await.map_err(failed)?;
            let rows = children.iter().map(|child| json!(child));
            return Ok(json!({ "rows": rows.collect::<Vec<_>>(), "more": false }));
        }
        let Some(governor) = self.policies.population(path) else {
            return Err(self.no_supervisor(path).await);
        };
        let filter = CensusFilter {
            within: Some(path.clone()),
            ..CensusFilter::default()
        };
        let after = page.after.as_deref().map(parse).transpose()?;
        let hosts = self.hosts_of(path).await;
        let census = self.system.census();
        let rows = census.rows_among(&hosts.awake, &filter, after.as_ref(), page.limit);
        let page = rows.await;
        let restart = governor.policy().1.word();
        let row = |row: &ActorRow| {
            json!({
                "id": row.path.name(), "path": row.path, "state": row.state, "kind": "worker",
                "restart": restart, "incarnation": row.incarnation, "failures": null,
            })
        };
        let rows: Vec<_> = page.rows.iter().map(row).collect();
        let mut data = json!({ "rows": rows, "more": page.more });
        note(&mut data, hosts.notes());
        Ok(data)
    }

    async fn count(&self, path: &ActorPath) -> Result<Json, Refusal> {
        if let Some(supervisor) = self.policies.supervisor(path) {
            let counts = supervisor.count_children().await.map_err(failed)?;
            return Ok(json!(counts));
        }
        match self.policies.cells_of(path) {
            Some((specs, active)) => Ok(json!({
                "specs": specs, "active": active, "supervisors": 0, "workers": specs,
            })),
            None => Err(self.no_supervisor(path).await),
        }
    }

    async fn no_supervisor(&self, path: &ActorPath) -> Refusal {
        let hosts = self.hosts_of(path).await;
        let row = self.system.census().row_among(&hosts.awake, path).await;
        match row {
            None => self.unreachable(path, &hosts),
            Some(_) => failed(format!("{path} is no supervisor: it has no children")),
        }
    }

    async fn cell_child(
        &self,
        word: ChildWord,
        path: &ActorPath,
        governor: &CellGovernor,
    ) -> Result<Json, Refusal> {
        let hosts = self.hosts_of(path).await;
        let row = self.system.census().row_among(&hosts.awake, path).await;
        let Some(row) = row else {
            let silent = hosts.silent.iter().any(|host| host.known(path).is_some());
            return Err(match silent {
                true => self.unreachable(path, &hosts),
                false => refused("not_found: no child of this id", true),
            });
        };
        let down = matches!(row.state, "stopped" | "quarantined");
        match word {
            ChildWord::Spec => Ok(json!({
                "id": path.name(), "path": path, "restart": governor.policy().1.word(),
                "shutdown": "at once", "significant": false, "kind": "worker",
            })),
            ChildWord::Start if down => Err(failed(StartChildError::AlreadyPresent)),
            ChildWord::Start => Err(failed("already_started: the device runs")),
            ChildWord::Delete => Err(failed(DeleteChildError::SimpleOneForOne)),
            ChildWord::Terminate => {
                if !down {
                    self.send_cell(path, Verb::Stop, "stopped").await?;
                }
                Ok(json!({ "path": path, "done": "terminated" }))
            }
            ChildWord::Restart if !down && row.state == "running" => {
                Err(failed(RestartChildError::Running))
            }
            ChildWord::Restart if !down => Err(failed(RestartChildError::Restarting)),
            _ => {
                self.send_cell(path, Verb::Restart, "running").await?;
                Ok(json!({ "path": path, "done": "restarted" }))
            }
        }
    }

    /// Sends a device somewhere and waits until it is there.
    async fn send_cell(
        &self,
        path: &ActorPath,
        verb: Verb,
        state: &'static str,
    ) -> Result<(), Refusal> {
        let census = self.system.census();
        let there = async {
            if !census.act(path, verb).await {
                return Err(failed(format!("{path} cannot be reached")));
            }
            while census.row(path).await.is_some_and(|row| row.state != state) {
                tokio::time::sleep(SETTLE_POLL).await;
            }
            Ok(())
        };
        let in_time = tokio::time::timeout(SETTLE_TIME, there).await;
        in_time.unwrap_or_else(|_| {
            let message = format!("{path} is not {state} after {SETTLE_TIME:?}");
            Err(Refusal::new(Code::Timeout, message))
        })
    }

    /// Gives quarantined actors a new chance.
    pub(super) async fn let_out(
        &self,
        pattern: &str,
        limit: usize,
        dry_run: bool,
    ) -> Result<Json, Refusal> {
        let plain = !pattern.contains(['*', '?']);
        let within = plain.then(|| parse(pattern)).transpose()?;
        let filter = CensusFilter {
            glob: within.is_none().then(|| pattern.to_owned()),
            within,
            state: Some("quarantined".to_owned()),
        };
        let census = self.system.census();
        let hosts = Hosts::ask(census.sources()).await;
        let page = census.rows_among(&hosts.awake, &filter, None, limit).await;
        let mut rows = Vec::new();
        for row in &page.rows {
            let now = match dry_run {
                true => "would be released".to_owned(),
                false => match self.release_one(&row.path).await {
                    Ok(()) => "released".to_owned(),
                    Err(refusal) => refusal.message,
                },
            };
            rows.push(json!({ "path": row.path, "was": row.state, "now": now }));
        }
        if rows.is_empty() {
            let mut said = vec![format!("nobody is quarantined at {pattern}")];
            said.extend(hosts.notes());
            return Err(Refusal::new(Code::NotFound, said.join("; ")));
        }
        let mut data = json!({ "rows": rows, "more": page.more });
        note(&mut data, hosts.notes());
        Ok(data)
    }

    async fn release_one(&self, path: &ActorPath) -> Result<(), Refusal> {
        match self.parent(path)? {
            Parent::Tasks(parent, id) => {
                let released = parent.release_child(&id).await;
                released.map(drop).map_err(failed)
            }
            Parent::Cells(_) => {
                let census = self.system.census();
                match soon(census.act(path, Verb::Restart)).await {
                    Some(true) => Ok(()),
                    Some(false) => Err(failed("cannot be reached")),
                    None => Err(late(path)),
                }
            }
        }
    }

    /// What the supervisor of an actor would do if it ended now for this reason, in words.
    pub(super) async fn foreseen(&self, path: &ActorPath, reason: ExitReason) -> String {
        match self.parent(path) {
            Err(_) => "nobody starts the root again: the node ends".to_owned(),
            Ok(Parent::Cells(governor)) => {
                let (policy, restart) = governor.policy();
                let why = actorsim_supervision::Why::Exit(&reason);
                if !actorsim_supervision::strategy::wants_restart(restart, why) {
                    return format!("left down ({})", restart.word());
                }
                let (most, period) = (policy.intensity, policy.period);
                let else_ = if policy.quarantine {
                    "it is quarantined"
                } else {
                    "its group starts anew"
                };
                let resumes =
                    policy.behaviour == Behaviour::Resume && reason != ExitReason::HostDown;
                let begins = if resumes {
                    "it resumes with what acted on it"
                } else {
                    "it begins fresh"
                };
                format!("restart, alone; {begins}; after {most} within {period:?} {else_}")
            }
            Ok(Parent::Tasks(parent, id)) => match parent.preview(&id, reason).await {
                Ok(Some(preview)) => words(&preview, &id, parent.path()),
                Ok(None) => format!("{} does not know it any more", parent.path()),
                Err(error) => error.to_string(),
            },
        }
    }
}

/// A preview in words: `restart; will also restart route, apply`.
fn words(preview: &Preview, id: &str, supervisor: &ActorPath) -> String {
    use actorsim_supervision::Decision;
    let others = |ids: &[String]| {
        let others = ids.iter().filter(|other| *other != id).cloned();
        others.collect::<Vec<_>>().join(", ")
    };
    let (started, stopped) = (others(&preview.start), others(&preview.stop));
    let mut text = match preview.decision {
        Decision::Leave => "left down".to_owned(),
        Decision::Remove => "not restarted (temporary)".to_owned(),
        Decision::Quarantine => "quarantined: too many restarts".to_owned(),
        Decision::Restart => "restart".to_owned(),
        Decision::AutoShutdown => format!("{supervisor} shuts down with it"),
        Decision::Escalate => format!("{supervisor} gives up: too many restarts"),
    };
    if !started.is_empty() {
        text.push_str(&format!("; will also restart {started}"));
    } else if !stopped.is_empty() {
        text.push_str(&format!("; will also stop {stopped}"));
    }
    if !preview.delay.is_zero() {
        let whole = Duration::from_millis(preview.delay.as_millis() as u64);
        text.push_str(&format!("; in {}", humantime::format_duration(whole)));
    }
    text
}

async fn task_child(
    word: ChildWord,
    path: &ActorPath,
    parent: &SupervisorRef,
    id: &str,
) -> Result<Json, Refusal> {
    let started =
        |done: &str, incarnation| json!({ "path": path, "done": done, "incarnation": incarnation });
    match word {
        ChildWord::Spec => {
            let spec = parent.get_childspec(id).await;
            let not_found = matches!(spec, Err(actorsim_supervision::GetChildspecError::NotFound));
            let spec = spec.map_err(|error| refused(error, not_found))?;
            Ok(spec_record(&spec, parent, id).await)
        }
        ChildWord::Start => match parent.start_first_child(id).await {
            Ok(actor) => Ok(started("started", actor.incarnation())),
            Err(error) => {
                let not_found = matches!(error, StartChildError::NotFound);
                Err(refused(error, not_found))
            }
        },
        ChildWord::Restart => match parent.restart_child(id).await {
            Ok(actor) => Ok(started("restarted", actor.incarnation())),
            Err(error) => {
                let not_found = error == RestartChildError::NotFound;
                Err(refused(error, not_found))
            }
        },
        ChildWord::Terminate => match parent.terminate_child(id).await {
            Ok(()) => Ok(json!({ "path": path, "done": "terminated" })),
            Err(error) => Err(refused(error, error == TerminateChildError::NotFound)),
        },
        _ => match parent.delete_child(id).await {
            Ok(()) => Ok(json!({ "path": path, "done": "deleted" })),
            Err(error) => Err(refused(error, error == DeleteChildError::NotFound)),
        },
    }
}

async fn spec_record(spec: &ChildSpec, parent: &SupervisorRef, id: &str) -> Json {
    let children = parent.which_children().await.unwrap_or_default();
    let state = children.iter().find(|child| child.id == id);
    let state = state.map(|child| child.state);
    json!({
        "id": spec.id, "path": spec.path, "restart": spec.restart, "shutdown": spec.shutdown,
        "significant": spec.significant, "kind": spec.kind,
        "state": state.unwrap_or(ChildState::Down),
    })
}
