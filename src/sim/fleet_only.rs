//! Devices alone on simulated shards: what `sim --no-world` runs.
//!
//! No task actor, no network: time jumps from one instant at which a device has work to the next.
//! Bound: [`WINDOW`] between two looks at the stop request and the progress.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::SimShards;
use actorsim_actors::{Clock, Time};
use actorsim_fleet::{Fleet, Uplink};
use actorsim_supervision::Policies;

use super::chaos::{Chaos, Targets};
use super::progress::Progress;
use super::{Ground, Outcome, SimConfig, SimError, Stop};
use crate::report::Mailboxes;
use crate::report::verdict::{self, Facts};
use crate::view::ProcessView;

/// Virtual time between two looks.
const WINDOW: Duration = Duration::from_secs(1);

/// Runs it.
///
/// # Errors
/// [`SimError`].
pub fn run(config: &SimConfig, stop: &Stop) -> Result<Outcome, SimError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let clock = Clock::virtual_from(super::EPOCH_US);
    let ground = Ground::new(config, clock, runtime.handle().clone())?;
    let supervision = Arc::default();
    let system = ground.system.clone();
    let mut shards = SimShards::of(&system, config.shards as usize);
    let uplink = Uplink::Digests { tap: ground.tap() };
    let population = super::population(config);
    let fleet = Fleet::new(&system, vec![population], config.shards as usize, uplink)?;
    fleet.start(shards.shards(), &Policies::shipped(), &supervision)?;
    let targets = Targets::devices(&fleet, &system);
    let mut chaos = Chaos::new(config, &system);
    let mut progress = Progress::new(config.until);
    let end = Time::ZERO + config.until;
    while shards.now() < end && !stop.is_asked() {
        let mut to = (shards.now() + WINDOW).min(end);
        if let Some(chaos) = &mut chaos {
            chaos.step(shards.now(), &targets);
            to = chaos.next_at().map_or(to, |next| to.min(next));
        }
        shards.run_until(to);
        progress.at(to - Time::ZERO);
    }
    drop(progress);
    let reached = shards.now() - Time::ZERO;
    let counts = fleet.counts();
    shards.stop();
    let mut report = super::new_report(config);
    super::report_devices(&mut report, counts, config.shards);
    report.elapsed_s = reached.as_secs_f64();
    report.digest.wire_sha256 = fleet.wire_sha256();
    report.mailboxes = Mailboxes::of(system.census().books(), None);
    super::report_supervision(&mut report, &supervision, counts.restarts);
    report.process.measure(ProcessView::read());
    let facts = Facts {
        ending: super::ending(stop.is_asked()),
        ..Facts::default()
    };
    report.chaos = chaos.as_ref().map(Chaos::report);
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
