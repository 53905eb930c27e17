//! spargio: shards around rings, tasks and ring messages of six bytes; it has no actors and no
//! mailboxes, and supervises nothing. Its shards spin while idle, which is its default.

mod join;
mod messages;
mod ring;

use peer_probe::Job;

fn main() {
    let job = Job::of_args();
    let line = match job.scenario.as_str() {
        "ping-pong" => messages::ping_pong(&job),
        "one-way" => messages::one_way(&job),
        "cold" => messages::cold(&job),
        "fan-out" => join::run(),
        "ring" => ring::run(&job),
        other => panic!("no {other}"),
    };
    line.report();
}

/// A runtime of so many shards, each on a core of its own, as ours.
fn runtime(shards: usize) -> spargio::Runtime {
    let builder = spargio::Runtime::builder().shards(shards);
    let runtime = builder.thread_affinity(0..shards).build();
    runtime.expect("the kernel has io_uring")
}

/// The same wherever the host puts them.
fn runtime_anywhere(shards: usize) -> spargio::Runtime {
    let runtime = spargio::Runtime::builder().shards(shards).build();
    runtime.expect("the kernel has io_uring")
}
