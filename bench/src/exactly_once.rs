//! `exactly-once`: two processes, a fleet that makes events and a twin that is killed, in parts and
//! as a whole; then the devices' own log against the world's.
//!
//! First a chaos plan kills whatever the twin is made of (connections, tiers, stages, scan,
//! journal, their supervisors) until it has struck `size` times; then the twin's process is killed
//! with SIGKILL and started again, [`ROUNDS`] times. Its numbers are only given if so many strikes
//! found somebody, in the whole plan each of [`KINDS`], and if each device's acknowledged events
//! are the ones that the world has applied, in order. Bound: the plan's time and [`ROUNDS`].

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use peer_probe::Job;
use serde_json::{Value, json};

use crate::node::scratch;
use crate::pair::Pair;
use crate::scenario::{Load, Scenario, Shapes, metric};

/// Events a second: devices, and of each.
const DEVICES: u32 = 2_000;
const EVENTS_OF_EACH: u32 = 10;
/// Kills of the whole plan, in which each of these kinds is hit.
const SIZE: u64 = 1_000;
const KINDS: [&str; 10] = [
    "conn", "listener", "tier-t1", "tier-t2", "tier-t3", "journal", "scan", "route", "apply",
    "actuate",
];
/// Kills a second of the plan.
const KILLS_PER_S: u64 = 20;
/// SIGKILLs of the twin's process beside a whole plan, and of a part of one as large a part.
const ROUNDS: u64 = 20;
/// Between two of them: the twin comes up, the links come back, events flow.
const ROUND: Duration = Duration::from_secs(2);
/// A supervisor that is asked for more than this a second has lost.
const POLICY: &str = "[[supervisor]]\npath = \"/\"\nintensity = 1000\n\
                      [[supervisor]]\npath = \"/twin\"\nintensity = 1000\n\
                      [[supervisor]]\npath = \"/transport\"\nintensity = 1000\n";

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "exactly-once",
    label: "two processes: 20,000 events/s against a twin whose actors are killed `size` times by \
            a plan and whose process then 20 times by SIGKILL: events made, acknowledged and \
            applied; lost and doubled by the devices' own log against the world's",
    shapes: Shapes::One(Load {
        size: SIZE,
        seconds: 0,
    }),
    smoke: Load {
        size: 20,
        seconds: 0,
    },
    metrics: &[
        metric("kills", "1"),
        metric("kills_least", "1"),
        metric("restarts", "1"),
        metric("events_per_s", "1/s"),
        metric("acknowledged", "1"),
        metric("applied", "1"),
        metric("lost", "1"),
        metric("doubled", "1"),
    ],
    child,
    peers: &[],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: Duration::from_secs(600),
    bytes_each_max: 0,
};

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn child(job: &Job) -> Result<Value, String> {
    scratch(|dir| run(dir, job.size))
}

fn run(dir: &Path, kills: u64) -> Result<Value, String> {
    let pair = Pair::new(dir, &["-X", "journal.ledger=true"])?;
    let (plan, policy) = (dir.join("plan.toml"), dir.join("policy.toml"));
    fs::write(&plan, self::plan(kills)).map_err(text)?;
    fs::write(&policy, POLICY).map_err(text)?;
    let twin_args = [
        "-X".into(),
        format!("supervision.policies={}", policy.display()),
    ];
    let mut struck = twin_args.to_vec();
    struck.push(format!("--chaos={}", plan.display()));
    let fleet_args = [
        format!("--devices={DEVICES}"),
        format!("--t2-rate={EVENTS_OF_EACH}"),
        "--interval=5s".to_owned(),
    ];
    let began = Instant::now();
    let fleet = pair.fleet(&fleet_args)?;

    let twin = pair.twin(&struck)?;
    thread::sleep(Duration::from_secs(kills / KILLS_PER_S + 5));
    let seen = twin.stop()?;
    let strikes = seen.pointer("/chaos/strikes").unwrap_or(&Value::Null);
    let struck = sum(strikes);
    if struck < kills {
        return Err(format!("{struck} of {kills} kills: {strikes}"));
    }
    let by_kind = strikes.as_object().into_iter().flatten();
    let by_kind: Vec<_> = by_kind.map(|(kind, of)| (kind, sum(of))).collect();
    let missing = |kind: &&&str| !by_kind.iter().any(|(of, kills)| of == *kind && *kills > 0);
    if kills == SIZE
        && let Some(kind) = KINDS.iter().find(missing)
    {
        return Err(format!("no {kind} was killed: {strikes}"));
    }
    let least = by_kind.iter().map(|(_, kills)| kills).min();
    let mut twin = pair.twin(&twin_args)?;
    let rounds = (ROUNDS * kills).div_ceil(SIZE).min(ROUNDS);
    for _ in 0..rounds {
        thread::sleep(ROUND);
        twin.kill()?;
        twin = pair.twin(&twin_args)?;
    }
    thread::sleep(ROUND);
    let took = began.elapsed();
    let made = fleet.stop()?;
    let seen = twin.stop()?;
    let acknowledged = Ledger::of(&made, "/tiers/t2/acked_ledger")?;
    let applied = Ledger::of(&seen, "/tiers/t2/applied_ledger")?;
    if acknowledged != applied {
        return Err(format!(
            "acknowledged {acknowledged:?}, applied {applied:?}"
        ));
    }
    Ok(json!({
        "kills": struck,
        "kills_least": least,
        "restarts": rounds,
        "events_per_s": acknowledged.events as f64 / took.as_secs_f64(),
        "acknowledged": acknowledged.events,
        "applied": applied.events,
        "lost": acknowledged.events.saturating_sub(applied.events),
        "doubled": applied.events.saturating_sub(acknowledged.events),
    }))
}

/// A plan that kills so often, whatever there is.
fn plan(kills: u64) -> String {
    let mut plan = String::new();
    let seconds = kills / KILLS_PER_S + 1;
    let _ = write!(
        plan,
        "seed = 7\nrate = \"{KILLS_PER_S}/1s\"\nscope = \"/\"\nfor = \"{seconds}s\"\n\
         max_concurrent = 4\nblast_radius = 1.0\nlease = \"10s\"\nprotect = [\"/control/*\"]\n\
         [faults]\nkill = 1\n",
    );
    plan
}

/// All numbers below a value of a report.
fn sum(value: &Value) -> u64 {
    match value {
        Value::Object(parts) => parts.values().map(sum).sum(),
        other => other.as_u64().unwrap_or_default(),
    }
}

/// Every device's events in three figures, equal only if each device's are, in order.
#[derive(Debug, PartialEq, Eq)]
struct Ledger {
    devices: u64,
    events: u64,
    digest: String,
}

impl Ledger {
    fn of(report: &Value, at: &str) -> Result<Self, String> {
        let ledger = report.pointer(at).ok_or_else(|| format!("no {at}"))?;
        let number = |key: &str| ledger.get(key).and_then(Value::as_u64);
        let (Some(devices), Some(events)) = (number("devices"), number("events")) else {
            return Err(format!("no figures at {at}: {}", report["why"]));
        };
        let digest = ledger
            .get("digest")
            .map(Value::to_string)
            .unwrap_or_default();
        Ok(Self {
            devices,
            events,
            digest,
        })
    }
}
