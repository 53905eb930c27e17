//! actix: actors with bounded mailboxes on arbiters, one thread each; `try_send` where the workload
//! leaves room, `send` where it has to wait.

mod fan_out;
mod memory;
mod messages;
mod restart;
mod spawn;

use actix::Arbiter;
use peer_probe::Job;

fn main() {
    let job = Job::of_args();
    let line = match job.scenario.as_str() {
        "memory" => memory::run(&job),
        "spawn" => spawn::run(&job),
        "ping-pong" => messages::ping_pong(&job),
        "fan-out" => fan_out::run(&job),
        "one-way" => messages::one_way(&job),
        "ring" => messages::ring(&job),
        "cold" => messages::cold(&job),
        "restart" => restart::run(&job),
        other => panic!("no {other}"),
    };
    line.report();
}

/// One whose thread stays on a core, the `nth`, as our shards.
fn arbiter(nth: usize) -> Arbiter {
    let arbiter = Arbiter::new();
    arbiter.spawn_fn(move || peer_probe::pin(nth));
    arbiter
}
