//! The floor for actors on tokio: a task and a bounded channel, no supervision, no kill.

mod fan_out;
mod memory;
mod messages;
mod skew;
mod spawn;
mod timers;

use peer_probe::Job;
use peer_runtimes::{two_workers, two_workers_anywhere};

fn main() {
    let job = Job::of_args();
    let line = match (job.scenario.as_str(), job.shape.as_str()) {
        ("memory", _) => two_workers_anywhere().block_on(memory::run(job)),
        ("spawn", _) => two_workers().block_on(spawn::run(job)),
        ("ping-pong", "one-shard") => messages::one_thread(&job),
        ("ping-pong", _) => messages::two_threads(&job),
        ("fan-out", _) => fan_out::run(&job),
        ("one-way", _) => messages::one_way(&job),
        ("ring", _) => two_workers().block_on(messages::ring(job)),
        ("skew", _) => skew::run(&job),
        ("idle", _) => two_workers_anywhere().block_on(timers::idle(job)),
        ("timers", _) => two_workers_anywhere().block_on(timers::run(job)),
        ("cold", _) => messages::cold(&job),
        other => panic!("no {other:?}"),
    };
    line.report();
}
