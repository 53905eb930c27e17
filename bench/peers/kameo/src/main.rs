//! kameo: actors with bounded mailboxes, supervised where a scenario asks for supervision.

mod fan_out;
mod memory;
mod messages;
mod restart;
mod skew;
mod spawn;

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use peer_probe::{Job, quiet_panics};
use peer_runtimes::{two_workers, two_workers_anywhere};

struct Supervisor;

impl Actor for Supervisor {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

async fn supervisor() -> ActorRef<Supervisor> {
    let supervisor = Supervisor::spawn(());
    supervisor.wait_for_startup().await;
    supervisor
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
        other => panic!("no {other}"),
    };
    line.report();
}
