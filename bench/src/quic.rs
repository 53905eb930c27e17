//! `quic`: our tiers beside bare quinn with the same buffers, stream window and acknowledgement
//! delay.
//!
//! `t1-*` and `t2` run a supervised transport and a link, each on a runtime of its own as bare
//! quinn's two ends are, up to decoded, counted batches; there is no world. `t3` runs a whole node
//! with `t3.synthetic_rate`, so the acknowledgement is the device's; `t3-rules` has the
//! automation's commands beside, in bursts; `t3-loss` does so in a network namespace that loses
//! packets. Bound: a second of warm-up, then the job's time.

mod rig;

use std::time::{Duration, Instant};

use actorsim_transport::{
    BLOCK_READINGS_MAX, EventKey, OutEvent, Protocol, Reading, SensorType, device_uuid,
};
use peer_probe::{Job, Line, Meter, Spent};
use serde_json::{Value, json};

use crate::cells::value;
use crate::netns;
use crate::node::{self, Running};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};
use rig::Rig;

/// Before the measured time.
const WARM_UP: Duration = Duration::from_secs(1);
/// Before the measured time of a whole node, which has devices to start and to register.
const NODE_WARM_UP: Duration = Duration::from_secs(5);
/// Blocks kept waiting at the link, below the 64 at which it drops the oldest.
const BLOCKS_AHEAD: u32 = 48;
/// Events handed over at once,
const EVENTS_AT_ONCE: u64 = 256;
/// and kept ahead of what is sent: as many as a stream's window holds, so that they are sent out of
/// the processor's cache.
const EVENTS_AHEAD: usize = 16 * 256;
/// Devices of the events.
const DEVICES: u64 = 1_000;
/// Readings a second of one device: seven sensors, once a second.
const PER_DEVICE: u64 = 7;
/// Commands a second.
const COMMANDS: &str = "t3.synthetic_rate=1000";
/// Rules that nothing brings into force: the automation's commands come in bursts, as many as there
/// are devices with news, and would be counted with those that are asked for.
const NO_RULES: &str = "# None: the commands are the benchmark's.\n";
/// Packets lost in `t3-loss`, of a hundred.
const LOSS: u32 = 5;

const FLOOD: Load = Load {
    size: 1,
    seconds: 5,
};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "quic",
    label: "t1, t2: readings or events from a link to decoded, counted batches through QUIC on \
            loopback, both ends in one process, without a world; of a core and on the wall. \
            t3: decision to acknowledgement by the device, at 1,000 commands/s beside T1 at `size` \
            readings/s in a whole node; t3-rules: with those of the automation, too, by the rules \
            that are shipped; t3-loss at 5 % lost packets both ways. quinn: the same \
            bytes in bare loops, nothing decoded, the acknowledgement by a task",
    shapes: Shapes::Named(&[
        ("t1-single", FLOOD),
        ("t1-packed", FLOOD),
        ("t2", FLOOD),
        (
            "t3",
            Load {
                size: 1_000_000,
                seconds: 15,
            },
        ),
        (
            "t3-rules",
            Load {
                size: 1_000_000,
                seconds: 15,
            },
        ),
        (
            "t3-loss",
            Load {
                size: 10_000,
                seconds: 20,
            },
        ),
    ]),
    smoke: Load {
        size: 700,
        seconds: 1,
    },
    metrics: &[
        metric("readings_per_s", "1/s"),
        metric("cpu_s_per_million", "s"),
        metric("delivered", "1"),
        metric("commands_per_s", "1/s"),
        metric("rtt_p99", "us"),
        metric("decide_p50", "us"),
        metric("decide_p99", "us"),
    ],
    child,
    peers: &["quinn"],
    own_shapes: &[("t3-rules", &[]), ("t3-loss", &[])],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 16 << 10,
};

fn child(job: &Job) -> Result<Value, String> {
    match job.shape.as_str() {
        "t1-single" => telemetry(job, Protocol::Dt1),
        "t1-packed" => telemetry(job, Protocol::Actorsim1),
        "t2" => events(job),
        "t3-loss" if !netns::inside() => netns::lossy(LOSS, job),
        "t3" | "t3-loss" => node::scratch(|dir| {
            let rules = dir.join("no-rules.toml");
            let written = std::fs::write(&rules, NO_RULES);
            written.map_err(|error| format!("{}: {error}", rules.display()))?;
            commands(job, &[&format!("rules.files={}", rules.display())])
        }),
        "t3-rules" => commands(job, &[]),
        other => Err(format!("no shape {other:?}")),
    }
}

/// On the wall and of a core, as the contract names them.
fn rates(count: u64, spent: Spent) -> Line {
    Line::new()
        .with("readings_per_s", count as f64 / spent.wall_s)
        .with("cpu_s_per_million", spent.cpu_s / count as f64 * 1e6)
}

/// Blocks as fast as the link sends them.
fn telemetry(job: &Job, protocol: Protocol) -> Result<Value, String> {
    let rig = Rig::start(protocol)?;
    let link = rig.link.clone();
    let mut block = Vec::new();
    (0..BLOCK_READINGS_MAX as u32).for_each(|n| reading(n).encode_into(&mut block));
    let block = bytes::Bytes::from(block);
    rig.fleet.spawn(async move {
        loop {
            while link.addr().depth() < BLOCKS_AHEAD {
                // whole readings are always taken
                let _ = link.telemetry(block.clone());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let counted = || rig.twin_stats.t1.applied.get();
    let sent = || rig.fleet_stats.t1.sent.get();
    std::thread::sleep(WARM_UP);
    let (meter, before, sent_before) = (Meter::start(), counted(), sent());
    std::thread::sleep(job.time());
    let (count, spent) = (counted() - before, meter.stop());
    let delivered = count as f64 / (sent() - sent_before) as f64;
    let line = rates(count, spent);
    rig.stop();
    value(&line.with("delivered", delivered.min(1.0)))
}

/// Events as fast as they are acknowledged.
fn events(job: &Job) -> Result<Value, String> {
    let rig = Rig::start(Protocol::Actorsim1)?;
    let link = rig.link.clone();
    rig.fleet.spawn(async move {
        let mut batch: Vec<OutEvent> = (1..=EVENTS_AT_ONCE).map(event).collect();
        loop {
            link.outbox().sent().await;
            while link.outbox().unsent() < EVENTS_AHEAD {
                // there is room for them: more are never unacknowledged than the window holds
                let taken = link.events(&batch);
                debug_assert_eq!(taken, batch.len());
                for event in &mut batch {
                    event.key.event += EVENTS_AT_ONCE;
                }
            }
        }
    });
    let counted = || rig.twin_stats.t2.applied.get();
    std::thread::sleep(WARM_UP);
    let (meter, before) = (Meter::start(), counted());
    std::thread::sleep(job.time());
    let (count, spent) = (counted() - before, meter.stop());
    rig.stop();
    value(&rates(count, spent))
}

/// A whole node with commands at a fixed rate, once it is proved that its line loses packets, if it
/// is to.
fn commands(job: &Job, more: &[&str]) -> Result<Value, String> {
    if let Some(percent) = netns::loss() {
        let by = netns::prove(percent)?;
        return commanded(job, more).map(|numbers| netns::with(numbers, &by));
    }
    commanded(job, more)
}

fn commanded(job: &Job, more: &[&str]) -> Result<Value, String> {
    let devices = format!("fleet.devices={}", (job.size / PER_DEVICE).max(1));
    let settings = [&[&devices, "fleet.interval=1s", COMMANDS], more].concat();
    let warm_up = NODE_WARM_UP.min(3 * job.time());
    Running::with(&settings, async |node| {
        node.settled(warm_up).await?;
        let (stats, began) = (node.stats(), Instant::now());
        let (decide, rtt) = (stats.t3.decide.snapshot(), stats.t3.rtt.snapshot());
        let (before, sent) = (stats.t1.received.get(), stats.t1.sent.get());
        let acked = stats.t3.acked.get();
        tokio::time::sleep(job.time()).await;
        let (wall_s, sent) = (began.elapsed().as_secs_f64(), stats.t1.sent.get() - sent);
        let received = stats.t1.received.get() - before;
        let decide = stats.t3.decide.quantiles_since(&decide);
        Ok(json!({
            "readings_per_s": received as f64 / wall_s,
            "delivered": (received as f64 / sent as f64).min(1.0),
            "commands_per_s": (stats.t3.acked.get() - acked) as f64 / wall_s,
            "rtt_p99": stats.t3.rtt.quantiles_since(&rtt).map(|times| times.p99),
            "decide_p50": decide.map(|times| times.p50),
            "decide_p99": decide.map(|times| times.p99),
        }))
    })
}

fn reading(n: u32) -> Reading {
    Reading {
        device: device_uuid(&format!("d{}", n / 7)),
        sensor: (n % 7) as u16,
        kind: SensorType::Voltage,
        value: f64::from(n),
        at_us: 0,
        sequence: n,
    }
}

fn event(n: u64) -> OutEvent {
    OutEvent {
        reading: Reading {
            device: uuid::Uuid::from_u64_pair(1, n % DEVICES),
            ..reading(0)
        },
        key: EventKey { epoch: 1, event: n },
    }
}
