//! The control plane of a simulation: the commands of devices, for a script that pilots it.
//!
//! The same table and the same answers as on a running node; what needs a node is refused by name.
//! Bound: that of the fleet.

use std::sync::Arc;

use actorsim_actors::census::CensusFilter;
use actorsim_actors::{ActorPath, Level, System};
use actorsim_fleet::Fleet;
use actorsim_supervision::Policies;
use actorsim_world::Twin;
use serde_json::{Value as Json, json};

use super::peers::Peers;
use crate::attach::control::{
    ChaosWord, ChildWord, ControlPlane, DevicesWord, FaultWord, Outcome, PolicyWord, PsFilter,
    RulesWord,
};
use crate::attach::plane::{devices, faults};
use crate::attach::protocol::{Code, Refusal};
use crate::attach::rows::{actor_row, event_row};

/// A simulation that can be asked.
pub(super) struct SimPlane {
    pub(super) system: System,
    pub(super) fleet: Arc<Fleet>,
    pub(super) twin: Option<Twin>,
    pub(super) peers: Arc<Peers>,
    pub(super) seed: u64,
}

fn absent(what: &'static str) -> Outcome<'static> {
    let message = format!("`{what}` is for running nodes: a simulation does not have it");
    Box::pin(async move { Err(Refusal::new(Code::Refused, message)) })
}

fn parse(path: &str) -> Result<ActorPath, Refusal> {
    ActorPath::new(path).map_err(|error| devices::usage(format!("`{path}`: {error}")))
}

impl SimPlane {
    async fn devices_word(&self, word: DevicesWord) -> Result<Json, Refusal> {
        let ground = (&self.system, &*self.fleet);
        match word {
            DevicesWord::Show => {
                let mut shown = devices::show(ground);
                if let Some(twin) = &self.twin {
                    devices::add_world(&mut shown, &twin.report().types);
                }
                Ok(shown)
            }
            DevicesWord::Spawn(joining) => {
                let population = devices::population(&self.fleet, &joining, self.seed);
                let population = population.and_then(|one| self.peers.reached_by(one));
                let population = population.map_err(devices::usage)?;
                devices::spawn(ground, &joining, population, &Policies::shipped())
            }
            DevicesWord::Update { selector, fields } => {
                devices::update(ground, &selector, &fields).await
            }
            DevicesWord::Retire { selector, now } => devices::retire(ground, &selector, now).await,
        }
    }
}

impl ControlPlane for SimPlane {
    fn devices(&self, word: DevicesWord) -> Outcome<'_> {
        Box::pin(self.devices_word(word))
    }

    fn fault(&self, word: FaultWord) -> Outcome<'_> {
        Box::pin(faults::fault_devices((&self.system, &self.fleet), word))
    }

    fn faults(&self, limit: usize) -> Outcome<'_> {
        let listed = faults::list_faults((&self.system, Some(&self.fleet)), limit);
        Box::pin(async move { Ok(listed) })
    }

    fn trigger(&self, target: String) -> Outcome<'_> {
        let triggered = self.fleet.trigger(&target);
        Box::pin(async move {
            match triggered {
                Ok(()) => Ok(json!({ "target": target, "done": "Presence = 0 sent" })),
                Err(error) => Err(Refusal::new(Code::NotFound, error.to_string())),
            }
        })
    }

    fn ps(&self, filter: PsFilter) -> Outcome<'_> {
        Box::pin(async move {
            let after = filter.after.as_deref().map(parse).transpose()?;
            let census = CensusFilter {
                within: None,
                glob: filter.glob,
                state: filter.state,
            };
            let rows = self
                .system
                .census()
                .rows(&census, after.as_ref(), filter.limit);
            let page = rows.await;
            let rows: Vec<_> = page.rows.iter().map(actor_row).collect();
            Ok(json!({ "rows": rows, "more": page.more }))
        })
    }

    fn info(&self, path: String) -> Outcome<'_> {
        Box::pin(async move {
            let path = parse(&path)?;
            let row = self.system.census().row(&path).await;
            let none = || Refusal::new(Code::NotFound, format!("no actor {path}"));
            Ok(Json::Object(actor_row(&row.ok_or_else(none)?)))
        })
    }

    fn events(&self, since: Option<u64>, limit: usize) -> Outcome<'_> {
        let events = match since {
            Some(id) => self.system.events().since(id, limit),
            None => self.system.events().last(limit),
        };
        let rows: Vec<_> = events.iter().map(event_row).collect();
        Box::pin(async move { Ok(json!({ "rows": rows })) })
    }

    fn tree(&self, _: Option<String>, _: Option<usize>, _: bool) -> Outcome<'_> {
        absent("tree")
    }

    fn kill(&self, path: String, _: bool) -> Outcome<'_> {
        let killed = self.fleet.kill(&path);
        Box::pin(async move {
            match killed {
                Ok(()) => Ok(json!({ "path": path, "done": "killed" })),
                Err(error) => Err(Refusal::new(Code::NotFound, error.to_string())),
            }
        })
    }

    fn stop(&self, _: String) -> Outcome<'_> {
        absent("stop")
    }

    fn children(&self, _: ChildWord, _: String, _: PsFilter) -> Outcome<'_> {
        absent("which_children and its kin")
    }

    fn release(&self, _: String, _: usize, _: bool) -> Outcome<'_> {
        absent("release")
    }

    fn policy(&self, _: PolicyWord, _: Option<String>, _: bool) -> Outcome<'_> {
        absent("policy")
    }

    fn chaos(&self, _: ChaosWord) -> Outcome<'_> {
        absent("chaos")
    }

    fn scan(&self) -> Outcome<'_> {
        absent("scan")
    }

    fn quality(&self) -> Outcome<'_> {
        absent("quality")
    }

    fn quic(&self) -> Outcome<'_> {
        absent("quic")
    }

    fn shards(&self) -> Outcome<'_> {
        absent("shards")
    }

    fn detail(&self, _: bool) -> Outcome<'_> {
        absent("detail")
    }

    fn health(&self) -> Outcome<'_> {
        absent("health")
    }

    fn rules(&self, _: RulesWord) -> Outcome<'_> {
        absent("rules")
    }

    fn pace(&self, _: Vec<String>) -> Outcome<'_> {
        absent("pace")
    }

    fn crash(&self, _: String) -> Outcome<'_> {
        absent("fault crash")
    }

    fn token(&self, _: bool) -> Outcome<'_> {
        absent("token")
    }

    fn complete(&self, _: String) -> Outcome<'_> {
        absent("completion")
    }

    fn audit(&self, line: &str, _: u32) {
        let events = self.system.events();
        events.publish(Level::Info, "commanded", None, line.to_owned());
    }
}
