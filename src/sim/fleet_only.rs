//! Devices alone on simulated shards: what `sim --no-world` runs.
//!
//! No task actor, no network: time jumps from one instant at which a device has work to the next.
//! Bound: [`WINDOW`] between two looks at the stop request and the progress.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::shard::SimShards;
use actorsim_actors::{Clock, Time};
use actorsim_fleet::Uplink;
use actorsim_supervision::Policies;
use tokio::sync::Notify;

use super::chaos::{Chaos, Targets};
use super::peers::Peers;
use super::pilot::{self, Leave, Pilot};
use super::plane::SimPlane;
use super::progress::Progress;
use super::{Ground, Outcome, SimConfig, SimError, Stop};
use crate::report::invariants::Seen;
use crate::report::verdict::{self, Facts};
use crate::report::{self, Mailboxes, RunReport};
use crate::view::ProcessView;

/// Virtual time between two looks.
const WINDOW: Duration = Duration::from_secs(1);

/// Runs it.
///
/// # Errors
/// [`SimError`].
pub fn run(config: &SimConfig, stop: &Stop) -> Result<Outcome, SimError> {
    let clock = Clock::virtual_from(super::EPOCH_US);
    let origin = Arc::new(OnceLock::new());
    let runtime = super::whole::runtime(&clock, &origin)?;
    let ground = Ground::new(config, clock, runtime.handle().clone())?;
    let supervision = Arc::default();
    let system = ground.system.clone();
    let wake = Arc::new(Notify::new());
    let told = Arc::clone(&wake);
    let tell = Arc::new(move || told.notify_one());
    let mut shards = SimShards::waking(&system, config.shards as usize, tell);
    let uplink = Uplink::Digests { tap: ground.tap() };
    let peers = Peers::on(&shards.shards()[0]).map_err(SimError::Peers)?;
    let peers = Arc::new(peers);
    let fleet = Arc::new(ground.fleet(config, uplink, &peers)?);
    fleet.start(shards.shards(), &Policies::shipped(), &supervision)?;
    let targets = Targets::devices(&fleet, &system);
    let mut chaos = Chaos::new(config, &targets, &supervision);
    let breaking = chaos.as_mut().zip(Some(&targets));
    let plane = || SimPlane {
        system: system.clone(),
        fleet: Arc::clone(&fleet),
        twin: None,
        peers: Arc::clone(&peers),
        seed: config.seed,
    };
    let scenario = match Pilot::of(config, plane, stop)? {
        None => {
            alone(config, stop, &mut shards, breaking);
            None
        }
        Some(mut pilot) => runtime.block_on(async {
            let _ = origin.set(tokio::time::Instant::now());
            piloted((config, stop), (&mut shards, &wake), breaking, &mut pilot).await;
            pilot.finish()
        }),
    };
    let reached = shards.now() - Time::ZERO;
    let (counts, at_work) = (fleet.counts(), fleet.published());
    shards.stop();
    let mut report = super::new_report(config);
    super::report_devices(&mut report, counts, config.shards);
    report.elapsed_s = reached.as_secs_f64();
    report.digest.wire_sha256 = fleet.wire_sha256();
    report.mailboxes = Mailboxes::of(system.census().books(), None);
    ground.published(&fleet, &at_work, &mut report);
    super::report_supervision(&mut report, &supervision, counts.restarts);
    report.process.measure(ProcessView::read());
    report.chaos = chaos.as_mut().map(Chaos::report);
    let broken = invariants(config, &mut report);
    let facts = Facts {
        ending: super::ending(stop.is_asked()),
        broken,
        ..Facts::default()
    };
    report.scenario = scenario;
    verdict::decide(&mut report, &facts);
    let trace = super::failure::trace(&system, chaos.as_ref());
    ground.close(config)?;
    Ok(Outcome {
        report,
        chaos,
        trace,
        reached,
    })
}

/// What must hold after a plan: of what there is without a twin.
fn invariants(config: &SimConfig, report: &mut RunReport) -> Vec<String> {
    let Some(chaos) = &mut report.chaos else {
        return Vec::new();
    };
    let seen = Seen {
        mailboxes: &report.mailboxes,
        devices: &report.devices,
        t2: None,
        ledgers: None,
        scan: None,
        left: None,
        not_back: Vec::new(),
        within: config.until.saturating_sub(config.chaos_until()),
    };
    report::invariants::check(&seen, chaos)
}

/// A plan, and whom it hits.
type Breaking<'a> = Option<(&'a mut Chaos, &'a Targets<'a>)>;

/// Lets time pass in windows: nobody asks anything meanwhile.
fn alone(config: &SimConfig, stop: &Stop, shards: &mut SimShards, mut chaos: Breaking<'_>) {
    let mut progress = Progress::new(config.until);
    let end = Time::ZERO + config.until;
    while shards.now() < end && !stop.is_asked() {
        let mut to = (shards.now() + WINDOW).min(end);
        if let Some((chaos, targets)) = &mut chaos {
            chaos.step(shards.now(), targets);
            to = chaos.next_at().map_or(to, |next| to.min(next));
        }
        shards.run_until(to);
        progress.at(to - Time::ZERO);
    }
}

/// Lets time pass from one instant to the next, with a script in between.
async fn piloted(
    (config, stop): (&SimConfig, &Stop),
    (shards, wake): (&mut SimShards, &Notify),
    mut chaos: Breaking<'_>,
    pilot: &mut Pilot,
) {
    let mut pilot = Some(pilot);
    let mut progress = Progress::new(config.until);
    let (end, origin) = (Time::ZERO + config.until, tokio::time::Instant::now());
    loop {
        let next = shards.settle();
        let now = shards.now();
        progress.at(now - Time::ZERO);
        if now >= end || stop.is_asked() {
            return;
        }
        let mut until = next.unwrap_or(end).min(end);
        match pilot.as_mut().map(|pilot| pilot.go(now)) {
            Some(Leave::Until(at)) => until = until.min(at),
            Some(Leave::Over) => return,
            Some(Leave::Command) | None => {}
        }
        if let Some((chaos, targets)) = &mut chaos {
            chaos.step(now, targets);
            until = chaos.next_at().map_or(until, |at| until.min(at));
        }
        let until = origin + (until - Time::ZERO);
        tokio::select! {
            biased;
            () = pilot::answered(&mut pilot) => {}
            () = wake.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}
