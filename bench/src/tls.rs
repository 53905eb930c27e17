//! `tls`: devices that connect over mutual TLS, each with a certificate of its own.
//!
//! As `mqtt`, to a sink that speaks TLS and wants certificates. Bound: each run ends by its own
//! `--for`.

use std::time::Duration;

use peer_probe::Job;
use serde_json::{Value, json};

use crate::mqtt::{Way, measure};
use crate::scenario::{Load, Scenario, Shapes, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "tls",
    label: "as mqtt, over mutual TLS 1.3 with an Ed25519 certificate of its own for each device: \
            sessions up at the end; seconds until all were up; handshakes by CPU second of the \
            connecting process, from its start until all sessions were up (making the \
            certificates is in ours, reading them from files in the peers'); resident memory of \
            the process by devices; p99 from connection to the end of the handshake",
    shapes: Shapes::One(Load {
        size: 5_000,
        seconds: 40,
    }),
    smoke: Load {
        size: 50,
        seconds: 6,
    },
    metrics: &[
        metric("connected", "1"),
        metric("all_up", "s"),
        metric("handshakes_per_core_s", "1/s"),
        metric("bytes_per_device", "B"),
        metric("handshake_p99", "ms"),
    ],
    child,
    peers: &["rumqttc"],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: Duration::from_secs(300),
    bytes_each_max: 100 << 10,
};

fn child(job: &Job) -> Result<Value, String> {
    let run = measure(job, &Way::Tls, |_, _| Ok(()))?;
    let handshake = run.number("/publish/mqtt/tls/handshake_us/p99");
    Ok(json!({
        "connected": run.number("/publish/mqtt/connected"),
        "all_up": run.up.after_s,
        "handshakes_per_core_s": run.up.cpu_s.map(|cpu_s| job.size as f64 / cpu_s),
        "bytes_per_device": run.bytes_per_device(),
        "handshake_p99": handshake.map(|us| us / 1e3),
    }))
}
