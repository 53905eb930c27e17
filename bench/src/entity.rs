//! `entity`: resident bytes that one more entity costs, at the load of `loss`.
//!
//! Two nodes of different sizes, one after the other, each in processes of its own, and the
//! difference of their memory by that of their entities: what is there once for a node is not in
//! it. An entity is a sensor of a device: a row. Bound: two nodes for the job's time each.

use std::path::Path;
use std::thread;
use std::time::Duration;

use peer_probe::Job;
use serde_json::{Value, json};

use crate::loss::{COMMANDS, EVENTS, SENSORS};
use crate::node::scratch;
use crate::pair::Pair;
use crate::scenario::{Load, Scenario, Shapes, metric};

/// Between two samples of a device; the first comes within it.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many times as many entities the larger node has, by the shape's end.
const TIMES: [(&str, u64); 2] = [("10k-200k", 20), ("200k-1m", 5)];

const fn load(size: u64) -> Load {
    Load { size, seconds: 40 }
}

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "entity",
    label: "resident bytes that one more entity (a sensor of a device) costs: the difference of \
            two nodes, 10k and 200k entities or 200k and 1m, devices at 5 s x 7 sensors, 1,000 \
            events/s, 100 commands/s; twin: the process of the twin alone, with the fleet in \
            another; node: both in one process",
    shapes: Shapes::Named(&[
        ("twin-10k-200k", load(200_000)),
        ("twin-200k-1m", load(1_000_000)),
        ("node-10k-200k", load(200_000)),
        ("node-200k-1m", load(1_000_000)),
    ]),
    smoke: Load {
        size: 14_000,
        seconds: 6,
    },
    metrics: &[
        metric("bytes_per_entity", "B"),
        metric("rss_small", "B"),
        metric("rss_large", "B"),
    ],
    child,
    peers: &[],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: Duration::from_secs(300),
    bytes_each_max: 512,
};

fn child(job: &Job) -> Result<Value, String> {
    let (kind, sizes) = job.shape.split_once('-').unwrap_or_default();
    let times = TIMES.iter().find(|(name, _)| *name == sizes);
    let (_, times) = times.ok_or_else(|| format!("no shape {:?}", job.shape))?;
    let with_fleet = kind == "node";
    let of = |size| scratch(|dir| measure(dir, size, job.time(), with_fleet));
    let (few, many) = (of(job.size / times)?, of(job.size)?);
    let more = many.rss.saturating_sub(few.rss) as f64;
    Ok(json!({
        "bytes_per_entity": more / (many.entities - few.entities) as f64,
        "rss_small": few.rss,
        "rss_large": many.rss,
    }))
}

/// A node at the end of its time.
struct Seen {
    entities: u64,
    rss: u64,
}

fn measure(dir: &Path, size: u64, time: Duration, with_fleet: bool) -> Result<Seen, String> {
    let devices = (size / SENSORS).max(1);
    let pair = Pair::new(dir, &[])?;
    let mut twin = vec!["-X".to_owned(), format!("t3.synthetic_rate={COMMANDS}")];
    let fleet = [
        format!("--devices={devices}"),
        format!("--interval={}s", INTERVAL.as_secs()),
        format!("--t2-rate={}", EVENTS as f64 / devices as f64),
    ];
    let (seen, fleet) = if with_fleet {
        twin.extend(fleet);
        (pair.both(&twin)?, None)
    } else {
        let capacity = devices * SENSORS;
        twin.extend(["-X".to_owned(), format!("world.capacity={capacity}")]);
        (pair.twin(&twin)?, Some(pair.fleet(&fleet)?))
    };
    thread::sleep(time);
    let rss = seen.resident_bytes()?;
    if let Some(fleet) = fleet {
        fleet.stop()?;
    }
    let report = seen.stop()?;
    let entities = report.pointer("/world/entities").and_then(Value::as_u64);
    match entities {
        Some(entities) if entities == devices * SENSORS => Ok(Seen { entities, rss }),
        other => Err(format!("{other:?} entities of {size}: {}", report["why"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_says_how_many_times_as_many_there_are() {
        let Shapes::Named(shapes) = SCENARIO.shapes else {
            panic!("its shapes are named");
        };
        for (name, _) in shapes {
            assert!(
                TIMES.iter().any(|(sizes, _)| name.ends_with(sizes)),
                "{name}"
            );
        }
    }
}
