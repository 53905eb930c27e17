//! rusm-otp: processes with mailboxes bounded at 64 (what is above is shed), messages of bytes.
//! Where nothing may be shed a scenario says so and leaves them unbounded.

mod fan_out;
mod memory;
mod messages;
mod restart;
mod skew;
mod spawn;

use peer_probe::{Job, Payload, quiet_panics};
use peer_runtimes::{two_workers, two_workers_anywhere};

/// A payload as bytes: the only messages there are.
fn bytes(payload: Payload) -> Vec<u8> {
    payload.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The first two words of a message.
fn words(message: &[u8]) -> [u64; 2] {
    let word = |at: usize| {
        let bytes = message.get(at..at + 8).map(<[u8; 8]>::try_from);
        u64::from_le_bytes(bytes.and_then(Result::ok).expect("64 bytes"))
    };
    [word(0), word(8)]
}

/// Puts a word back into the message it came from.
fn put(message: &mut [u8], at: usize, word: u64) {
    message[at * 8..(at + 1) * 8].copy_from_slice(&word.to_le_bytes());
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
