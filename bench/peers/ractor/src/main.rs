//! ractor: actors with unbounded mailboxes, as it has no others; linked to a supervisor where a
//! scenario asks for supervision.

mod fan_out;
mod memory;
mod messages;
mod restart;
mod skew;
mod spawn;
mod storm;

use peer_probe::{Job, quiet_panics};
use peer_runtimes::{two_workers, two_workers_anywhere};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

/// Is told of exits and restarts nobody.
struct Supervisor;

impl Actor for Supervisor {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

async fn supervisor() -> ActorRef<()> {
    let started = Actor::spawn(None, Supervisor, ()).await;
    started.expect("a supervisor").0
}

fn main() {
    let job = Job::of_args();
    quiet_panics();
    let line = match job.scenario.as_str() {
        "memory" => two_workers_anywhere().block_on(memory::run(job)),
        "spawn" => two_workers().block_on(spawn::run(job)),
        "ping-pong" => messages::ping_pong(&job),
        "fan-out" => fan_out::run(&job),
        "one-way" => messages::one_way(&job),
        "ring" => messages::ring(&job),
        "skew" => skew::run(&job),
        "cold" => messages::cold(&job),
        "restart" => restart::run(&job),
        "storm" => two_workers_anywhere().block_on(storm::run(job)),
        other => panic!("no {other}"),
    };
    line.report();
}
