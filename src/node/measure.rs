//! Fills the run report from the layers, at the quiet end of a run.
//!
//! It judges nothing: that is [`crate::report::verdict`]. What a node does not run stays `null`.
//! Bound: one pass over the layers.

use std::collections::BTreeMap;

use actorsim_actors::shard::ShardHandle;
use actorsim_fleet::Published;
use actorsim_transport::{DropReason, EventMark, Link, MarkSummary, Tier, TransportStats};
use actorsim_world::scan::rt::HostTerms;
use actorsim_world::{Twin, WorldReport};
use uuid::Uuid;

use super::assembly::HEAL_MAX;
use super::layers::{FleetLayer, Layers};
use crate::report::invariants::Seen;
use crate::report::verdict::{Ending, Facts};
use crate::report::{self, Quantiles, RunReport};
use crate::view::{self, ProcessView};

/// Places with waiting messages that a report names at most.
const WAITING_MAX: usize = 16;

/// Fills in everything that was measured; returns what the verdict needs beside it.
pub(super) fn measure(layers: &Layers, report: &mut RunReport, ending: Ending) -> Facts {
    report.elapsed_s = layers.elapsed_s();
    let now = ProcessView::read();
    // Memory and threads of the node at work; time and peak of the whole run.
    let at_work = layers.at_work.get().copied().unwrap_or(now);
    report.process.measure(ProcessView {
        rss_bytes: at_work.rss_bytes,
        threads: at_work.threads,
        ..now
    });
    let versions = actorsim_fleet::generator::VERSIONS.iter();
    report.generators = versions
        .map(|(k, v)| ((*k).to_owned(), v.to_string()))
        .collect();
    mailboxes(layers, report);
    supervision(layers, report);
    report.chaos = layers.chaos.lock().clone().map(report::Chaos::summed);
    report.limits = super::limits::bitten(layers);
    report.leaks = layers.leaks.get().cloned().unwrap_or_default();
    devices(layers, report);
    let (sends, receives) = (layers.fleet.is_some(), layers.twin.is_some());
    report.tiers = tiers(&layers.stats, sends, receives);
    let counted = super::snapshot::quic(&layers.stats).into_iter();
    report.quic = counted.map(view::quic_figure).collect();
    let links = layers.fleet.as_ref().map(|layer| layer.fleet.links());
    report.tiers.t2.acked_ledger = links.and_then(acked_ledger);
    let applied = layers.twin.as_ref().and_then(Twin::ledger);
    report.tiers.t2.applied_ledger = applied.as_ref().map(ledger);
    if let Some(twin) = &layers.twin {
        report.world = world(&twin.report());
    }
    let scanned = layers.twin.as_ref().and_then(|twin| twin.scanned());
    let links = layers
        .fleet
        .as_ref()
        .map_or(&[][..], |layer| layer.fleet.links());
    let apart = links.iter().filter(|link| link.connections() == 0).count();
    let scan_elapsed_s = scanned.map(|time| time.as_secs_f64());
    Facts {
        ending,
        scan_elapsed_s,
        links_unconnected: (apart, links.len()),
        broken: invariants(layers, report, scan_elapsed_s),
    }
}

/// What must hold after chaos.
fn invariants(layers: &Layers, report: &mut RunReport, scanned: Option<f64>) -> Vec<String> {
    let Some(chaos) = &mut report.chaos else {
        return Vec::new();
    };
    let (scan, t2) = (&report.world.scan, &report.tiers.t2);
    let both = layers.twin.is_some() && layers.fleet.is_some();
    let seen = Seen {
        mailboxes: &report.mailboxes,
        devices: &report.devices,
        t2: both.then_some(t2),
        ledgers: None, // a live journal may hold events of other nodes and of earlier runs
        scan: scanned.map(|elapsed_s| (scan, slots(scan, elapsed_s))),
        left: layers.leaks.get().map(report::Leaks::all),
        not_back: layers.not_back.get().cloned().unwrap_or_default(),
        within: HEAL_MAX,
    };
    report::invariants::check(&seen, chaos)
}

/// Slots that a scan had in so much time.
pub(crate) fn slots(scan: &report::Scan, elapsed_s: f64) -> u64 {
    let period_us = scan.period_us.filter(|period| *period > 0.0);
    period_us.map_or(0, |period| (elapsed_s * 1e6 / period).round() as u64)
}

fn mailboxes(layers: &Layers, report: &mut RunReport) {
    let census = layers.system.census();
    report.mailboxes = report::Mailboxes::of(census.books(), Some(census.highest_fill()));
    let waiting = census.waiting().into_iter().take(WAITING_MAX);
    let told = waiting.map(|(place, waiting)| format!("{place}: {waiting}"));
    report.mailboxes.waiting_in = told.collect();
}

fn supervision(layers: &Layers, report: &mut RunReport) {
    let stats = layers.supervision.stats();
    let devices = layers
        .fleet
        .as_ref()
        .map_or(0, |layer| layer.counts().restarts);
    report.supervision = report::Supervision {
        restarts: Some(stats.restarts + devices),
        escalations: Some(stats.escalations),
        kills: Some(stats.kills),
        restart_us: Quantiles::of(&layers.supervision.restart_us(), 1.0),
        restart_work_us: Quantiles::of(&layers.supervision.restart_work_us(), 1.0),
    };
}

fn devices(layers: &Layers, report: &mut RunReport) {
    let Some(layer) = &layers.fleet else { return };
    let counts = layer.counts();
    report.devices = report::Devices {
        requested: Some(counts.requested),
        running: Some(counts.running),
        restarts: Some(counts.restarts),
        quarantined: Some(counts.quarantined),
        spawn_s: counts.spawn_s,
        ticks_missed: Some(layer.fleet.tally().missed),
        tick_lateness_us: lateness(layer),
    };
    publish(layer, report);
    report.digest.wire_sha256 = layer.fleet.wire_sha256();
    report.process.shards = Some(layer.shards.shards().len() as u64);
    let (backend, rings) = backend(layer.shards.shards());
    report.process.backend = Some(backend.to_owned());
    report.process.rings = Some(rings);
}

/// What the shards slept in at last, and how many of them in rings: `uring` is said if all did.
fn backend(shards: &[ShardHandle]) -> (&'static str, u64) {
    let rings = shards.iter().filter(|shard| shard.stats().ring).count();
    let word = match rings == shards.len() {
        true => "uring",
        false => "portable",
    };
    (word, rings as u64)
}

/// How late the timers of all shards fired.
fn lateness(layer: &FleetLayer) -> Option<Quantiles> {
    let shards = layer.shards.shards().iter();
    let all = shards.map(|shard| shard.stats().lateness);
    let all = all.reduce(|sum, one| sum.plus(&one))?;
    let us = |share| Some(all.quantile_ns(share)? as f64 / 1e3);
    Some(Quantiles {
        p50: us(0.5)?,
        p95: us(0.95)?,
        p99: us(0.99)?,
        p999: us(0.999)?,
        max: all.max_ns() as f64 / 1e3,
        count: all.count(),
    })
}

/// What went to brokers. Sessions are closed by now: connected are those that were at work.
fn publish(layer: &FleetLayer, report: &mut RunReport) {
    let at_work = layer.published.get().map_or(&[][..], Vec::as_slice);
    published(at_work, layer.fleet.published(), report);
}

/// The same of a fleet that counted this while it was at work, and this in the end.
pub(crate) fn published(at_work: &[Published], now: Vec<Published>, report: &mut RunReport) {
    for now in now {
        let before = at_work.iter().find(|one| one.protocol == now.protocol);
        let connected = before.unwrap_or(&now).counts.connected;
        let counts = &now.counts;
        let publish = report::Publish {
            sessions: Some(now.devices),
            connected: Some(connected),
            sent: Some(counts.sent),
            acked: Some(counts.acked),
            errors: Some(counts.errors + counts.refused),
            dropped: Some(counts.dropped),
            latency_us: Quantiles::of(&counts.latency_us, 1.0),
            connects: Some(counts.connects),
            tls: (counts.handshakes + counts.insecure > 0).then(|| report::PublishTls {
                handshakes: Some(counts.handshakes),
                failed: Some(counts.insecure),
                handshake_us: Quantiles::of(&counts.handshake_us, 1.0),
            }),
        };
        report
            .publish
            .insert(now.protocol.name().to_owned(), publish);
    }
}

/// The tiers' figures of a node that sends, receives, or both.
pub(crate) fn tiers(stats: &TransportStats, sends: bool, receives: bool) -> report::Tiers {
    let both = sends && receives;
    let clock = stats.clocks.furthest();
    report::Tiers {
        t1: t1(stats, sends, receives),
        t2: report::T2 {
            created: sends.then(|| stats.t2.created.get()),
            blocked: sends.then(|| stats.t2.blocked.get()),
            sent: sends.then(|| stats.t2.sent.get()),
            acked: sends.then(|| stats.t2.acked.get()),
            applied: receives.then(|| stats.t2.applied.get()),
            duplicates_dropped: receives.then(|| stats.t2.duplicates.get()),
            lost: sends.then(|| lost_events(stats, both)),
            latency_us: receives.then(|| latency(&stats.t2.latency)).flatten(),
            ..report::T2::default()
        },
        t3: report::T3 {
            issued: receives.then(|| stats.t3.issued.get()),
            acked: receives.then(|| stats.t3.acked.get()),
            superseded: receives.then(|| stats.t3.superseded.get()),
            expired: receives.then(|| stats.t3.expired.get()),
            no_route: receives.then(|| stats.t3.no_route.get()),
            dropped: receives.then(|| stats.t3.dropped.get()),
            errors: receives.then(|| stats.t3.errors.get()),
            rtt_us: latency(&stats.t3.rtt),
            decide_us: latency(&stats.t3.decide),
        },
        clock: report::LinkClock {
            offset_us: clock.map(|clock| clock.offset_us),
            within_us: clock.map(|clock| clock.within_us),
        },
    }
}

/// What was acknowledged to the devices of all links; a device has one.
pub(crate) fn acked_ledger(links: &[Link]) -> Option<report::Ledger> {
    let mut all = BTreeMap::new();
    for link in links {
        all.extend(link.outbox().ledger()?);
    }
    Some(ledger(&all))
}

/// All marks in three figures.
pub(crate) fn ledger(marks: &BTreeMap<Uuid, EventMark>) -> report::Ledger {
    let summary = MarkSummary::of(marks);
    report::Ledger {
        devices: summary.devices,
        events: summary.events,
        digest: format!("{:016x}", summary.digest),
    }
}

/// Sent is what devices handed to the tier; dropped is what never came to the twin's connections.
/// What was lost after that is a figure of its own, so that both add up.
fn t1(stats: &TransportStats, sends: bool, receives: bool) -> report::T1 {
    let drops = stats.drops(Tier::T1);
    let sender = drops.get(DropReason::Sender);
    let network = drops.get(DropReason::Network);
    let dropped = match (sends, receives) {
        (true, true) => sender + network,
        (true, false) => sender,
        _ => network,
    };
    let after = drops.total() - sender - network;
    report::T1 {
        sent: sends.then(|| stats.t1.sent.get() + sender),
        received: receives.then(|| stats.t1.received.get()),
        dropped: Some(dropped),
        applied: receives.then(|| stats.t1.applied.get()),
        dropped_after_receipt: receives.then_some(after),
        decode_errors: receives.then(|| stats.t1.decode_errors.get()),
        latency_us: receives.then(|| latency(&stats.t1.latency)).flatten(),
    }
}

/// Events never acknowledged at the quiet end, or acknowledged and not in the world.
fn lost_events(stats: &TransportStats, both: bool) -> u64 {
    let acked = stats.t2.acked.get();
    let unacknowledged = stats.t2.created.get().saturating_sub(acked);
    let missing = if both {
        acked.saturating_sub(stats.t2.applied.get())
    } else {
        0
    };
    unacknowledged + missing
}

fn latency(histogram: &actorsim_transport::LatencyHistogram) -> Option<Quantiles> {
    histogram.quantiles().map(|q| Quantiles {
        p50: q.p50 as f64,
        p95: q.p95 as f64,
        p99: q.p99 as f64,
        p999: q.p999 as f64,
        max: q.max as f64,
        count: q.count,
    })
}

/// The world's figures in the report's shape; both have the contract's keys.
pub(crate) fn world(found: &WorldReport) -> report::World {
    let scan = &found.scan;
    let host = scan.host.as_ref();
    report::World {
        entities: Some(u64::from(found.entities)),
        readings_applied: Some(found.readings_applied),
        quality: report::Quality {
            alignment_ratio: found.quality.alignment_ratio,
            odte: found.quality.odte,
            stale: found.quality.stale,
            stale_by_type: found
                .stale_by_type()
                .map(|(kind, stale)| (kind.to_owned(), u64::from(stale)))
                .collect(),
            timeliness: found.quality.timeliness,
            reliability: found.quality.reliability,
            availability: found.quality.availability,
        },
        export: found.row_files.map(|rows| report::Export {
            written: rows.written,
            lapped: rows.lapped,
            errors: rows.errors,
            repaired: rows.repaired,
        }),
        rules: rules(found),
        scan: report::Scan {
            host: report::ScanHost {
                got: host.map(|host| terms(&host.got)).unwrap_or_default(),
                asked: host.map(|host| terms(&host.asked)).unwrap_or_default(),
                why: host.map(|host| host.why.clone()).unwrap_or_default(),
            },
            period_us: Some(scan.period_us as f64),
            cycles: Some(scan.cycles),
            overruns: Some(scan.overruns),
            skipped: Some(scan.skipped),
            jitter_us: scan.jitter_us.map(times),
            lateness_us: scan.lateness_us.map(times),
            took_us: scan.took_us.map(times),
            window: report::ScanWindow {
                jitter_us: scan.window.jitter_us.map(times),
                lateness_us: scan.window.lateness_us.map(times),
                took_us: scan.window.took_us.map(times),
            },
            allocations_per_cycle: scan.allocations_per_cycle,
            systems: scan
                .systems
                .iter()
                .map(|(name, s)| ((*name).to_owned(), system(s)))
                .collect(),
            walk_every: Some(scan.walk_every),
            faulted: Some(scan.faulted),
            incarnations: Some(scan.incarnations),
            overrun: Some(scan.overrun.to_owned()),
            fallbacks: Some(scan.fallbacks),
            fallback_cycles: Some(scan.fallback_cycles),
            in_fallback: Some(scan.in_fallback),
            rests: Some(scan.rests),
            core_share: scan.core_share,
            wedged: Some(scan.wedged),
            first_error: scan.first_error.as_ref().map(|first| {
                let at = first.cycle;
                format!("{} (after {at} cycles)", first.error)
            }),
        },
    }
}

fn terms(found: &HostTerms) -> report::HostTerms {
    report::HostTerms {
        pinned: found.core.filter(|_| found.pinned).map(|core| core as u64),
        policy: Some(found.policy.clone()),
        locked: Some(found.locked),
        large_pages: Some(found.large_pages),
        timer_slack_ns: found.timer_slack_ns,
    }
}

fn system(found: &actorsim_world::report::SystemReport) -> report::System {
    report::System {
        took_us: found.took_us.map(times),
        took_window_us: found.took_window_us.map(times),
        overruns: Some(found.overruns),
        enabled: Some(found.enabled),
    }
}

fn rules(found: &WorldReport) -> BTreeMap<String, report::Rule> {
    let rules = found.rules.iter().map(|(name, rule)| {
        let (fired, ended) = (rule.fired, rule.ended);
        (name.clone(), report::Rule { fired, ended })
    });
    rules.collect()
}

const fn times(q: actorsim_world::scan::stats::Quantiles) -> Quantiles {
    Quantiles {
        p50: q.p50,
        p95: q.p95,
        p99: q.p99,
        p999: q.p999,
        max: q.max,
        count: q.count,
    }
}
