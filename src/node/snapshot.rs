//! One moment of a running node, from its layers' counters: for metrics, health and status line.
//!
//! It judges only health: what is down, what gave up. Bound: rows by host, kind, tier or shard;
//! task actors are folded by kind, devices by population.

use std::collections::BTreeMap;
use std::time::Duration;

use actorsim_actors::CensusFilter;
use actorsim_actors::census::PAGE_MAX;
use actorsim_fleet::fleet::Published;
use actorsim_fleet::profile::Protocol;
use actorsim_transport::{DropReason, LatencyHistogram, Tier, TransportStats};
use actorsim_world::scan::stats::{Quantiles, Times};

use super::layers::{FleetLayer, Layers};
use crate::view::{
    Buckets, DevicesView, LATENCY_EDGES, MailboxView, NodeSnapshot, ProcessView, PublishView,
    ShardView, T3View, TierView, UnderWay, WorldView,
};

/// Seconds in a microsecond, the unit of the layers' histograms.
const MICRO: f64 = 1e-6;

/// The state now.
pub(super) fn of(layers: &Layers) -> NodeSnapshot {
    let up = layers.up.get().is_some();
    let stats = layers.supervision.stats();
    let now = layers.system.clock().monotonic();
    let uptime = layers.up.get().map(|up| now - *up);
    let up_ns = uptime.map(|up| up.as_nanos() as f64).filter(|up| *up > 0.0);
    NodeSnapshot {
        ready: up && layers.stopped.get().is_none(),
        unhealthy: unhealthy(layers),
        limits: super::limits::bitten(layers),
        under_way: None,
        uptime: uptime.unwrap_or_default(),
        devices: layers.fleet.as_ref().map(|layer| DevicesView {
            batches: Some(layers.batches.buckets()),
            ..devices(layer)
        }),
        tiers: layers
            .twin
            .as_ref()
            .map(|_| tiers(&layers.stats))
            .unwrap_or_default(),
        t3: layers.twin.as_ref().map(|_| t3(&layers.stats)),
        world: layers.twin.as_ref().map(world),
        journal: layers.twin.as_ref().map(|twin| {
            let commits = Buckets::from_histogram(&twin.commit_times(), MICRO);
            (twin.journal(), commits)
        }),
        mailboxes: mailboxes(layers),
        actors: layers.system.census().live().into_iter().collect(),
        restarts: stats.restarts + layers.fleet.as_ref().map_or(0, |l| l.counts().restarts),
        crashes: layers.supervision.tallies(),
        destructor_panics: actorsim_actors::destructor_panics(),
        restart_time: Some(Buckets::from_histogram(
            &layers.supervision.restart_us(),
            MICRO,
        )),
        quic: quic(&layers.stats),
        shards: layers
            .fleet
            .as_ref()
            .map(|layer| shards(layer, up_ns))
            .unwrap_or_default(),
        process: ProcessView::read(),
    }
}

/// The state now, without distributions.
pub(super) fn brief(layers: &Layers) -> NodeSnapshot {
    let now = layers.system.clock().monotonic();
    let up = layers.up.get().copied();
    let devices = layers.fleet.as_ref().map(devices);
    let restarts = devices.as_ref().map_or(0, |devices| devices.restarts);
    NodeSnapshot {
        ready: up.is_some() && layers.stopped.get().is_none(),
        unhealthy: unhealthy(layers),
        limits: super::limits::bitten(layers),
        under_way: layers.fleet.as_ref().and_then(under_way),
        uptime: up.map(|up| now - up).unwrap_or_default(),
        devices,
        world: layers.twin.as_ref().map(|twin| WorldView {
            readings_applied: twin.snapshot().readings_applied(),
            jitter_p99: twin.jitter_lately().map(micros),
            ..WorldView::default()
        }),
        restarts: layers.supervision.stats().restarts + restarts,
        process: ProcessView::read(),
        ..NodeSnapshot::default()
    }
}

/// Devices that start, that connect for the first time, or that end.
fn under_way(layer: &FleetLayer) -> Option<UnderWay> {
    let some = |what, done, whole| (done < whole).then_some(UnderWay { what, done, whole });
    let running = || -> u64 {
        layer
            .fleet
            .slab_counts()
            .iter()
            .map(|slab| slab.running)
            .sum()
    };
    let on_brokers = |published: &[Published]| {
        let own = |one: &&Published| one.protocol != Protocol::Console;
        let sessions = published.iter().filter(own);
        sessions.fold((0, 0, 0), |(devices, connects, connected), one| {
            let (new, now) = (one.counts.connects, one.counts.connected);
            (devices + one.devices, connects + new, connected + now)
        })
    };
    let (sessions, connects, connected) = on_brokers(&layer.fleet.published());
    if let Some(last) = layer.last.get() {
        let at_work = layer.published.get().map_or(&[][..], Vec::as_slice);
        let (_, _, before) = on_brokers(at_work);
        let left = connected.min(before);
        let ending = some("ending sessions", before - left, before);
        let alive = running().min(last.running);
        let stopping = || some("stopping devices", last.running - alive, last.running);
        return ending.or_else(stopping);
    }
    let counts = layer.fleet.counts();
    let starting: u64 = layer
        .fleet
        .slab_counts()
        .iter()
        .map(|slab| slab.starting)
        .sum();
    let started = counts.requested.saturating_sub(starting);
    let connecting = || some("connecting devices", connects, sessions);
    some("starting devices", started, counts.requested).or_else(connecting)
}

fn micros(times: Quantiles) -> Duration {
    Duration::from_secs_f64(times.p99 * MICRO)
}

fn unhealthy(layers: &Layers) -> Vec<String> {
    let mut wrong = Vec::new();
    if layers.up.get().is_none() {
        wrong.push("the node is still starting".to_owned());
    }
    if layers.stopped.get().is_some() {
        wrong.push("the node is stopping".to_owned());
        return wrong;
    }
    wrong.extend(tasks_in("restarting", layers));
    wrong.extend(tasks_in("quarantined", layers));
    if let Some(layer) = &layers.fleet {
        let counts = layer.counts();
        if counts.quarantined > 0 {
            wrong.push(format!("{} devices are quarantined", counts.quarantined));
        }
    }
    wrong.extend(lost_devices(layers));
    wrong.extend(links_apart(layers));
    wrong
}

/// Devices that no restart brings back, and what does.
fn lost_devices(layers: &Layers) -> Vec<String> {
    let lost = layers.fleet.as_ref().map(|layer| layer.fleet.lost());
    let told = lost.into_iter().flatten().map(|(path, devices)| {
        format!(
            "{devices} devices of {path} are down for good (slab_down): `retire` the population \
             and `spawn` another"
        )
    });
    told.collect()
}

/// What is down or apart and should come back by itself; what a policy parks is not.
pub(super) fn coming_back(layers: &Layers) -> Vec<String> {
    let mut away = tasks_in("restarting", layers);
    let counts = layers.fleet.as_ref().map(FleetLayer::counts);
    let down = counts.map_or(0, |counts| {
        let there = counts.running + counts.quarantined;
        counts.requested.saturating_sub(there)
    });
    if down > 0 {
        away.push(format!("{down} devices are down"));
    }
    away.extend(links_apart(layers));
    away
}

fn tasks_in(state: &str, layers: &Layers) -> Vec<String> {
    let of_state = CensusFilter {
        state: Some(state.to_owned()),
        ..CensusFilter::default()
    };
    let census = layers.system.census();
    let rows = census.task_rows(&of_state, None, PAGE_MAX).rows.into_iter();
    let told = rows.map(|row| {
        let last_exit = row.last_exit.unwrap_or_default();
        format!("{} is {} ({last_exit})", row.path, row.state)
    });
    told.collect()
}

fn links_apart(layers: &Layers) -> Option<String> {
    let links = layers.fleet.as_ref()?.fleet.links().iter();
    let apart = links.filter(|link| !link.is_connected()).count();
    (apart > 0).then(|| format!("{apart} links are not connected to their twin"))
}

fn devices(layer: &FleetLayer) -> DevicesView {
    let (counts, tally) = (layer.counts(), layer.fleet.tally());
    let mut states: BTreeMap<(String, &'static str, &'static str), u64> = BTreeMap::new();
    let mut types: Vec<String> = Vec::new();
    let populations = layer.fleet.populations();
    for population in &populations {
        let kind = population.device_type.to_string();
        let slabs = &population.slabs;
        for (state, n) in [
            ("idle", slabs.starting),
            ("running", slabs.running),
            ("restarting", slabs.restarting),
            ("stopped", slabs.stopped),
            ("quarantined", slabs.quarantined),
        ] {
            let key = (kind.clone(), population.protocol.name(), state);
            *states.entry(key).or_insert(0) += n;
        }
        if !types.contains(&kind) {
            types.push(kind);
        }
    }
    // What devices have counted is not told apart by type.
    let kind = match &types[..] {
        [only] => only.clone(),
        _ => "all".to_owned(),
    };
    if let Some(last) = layer.last.get() {
        // Being stopped: what ran when that began.
        let row = |state| (kind.clone(), "all", state);
        states = [
            (row("running"), last.running),
            (row("quarantined"), last.quarantined),
        ]
        .into();
    }
    let (mut faults, mut panics) = (0, 0);
    for slab in layer.fleet.slab_counts() {
        faults += slab.faults.saturating_sub(slab.panics); // read one by one, while they run
        panics += slab.panics;
    }
    let by_state = states.into_iter();
    let row = |status, n| (kind.clone(), "quic", status, n);
    let mut view = DevicesView {
        requested: counts.requested,
        states: by_state
            .map(|((kind, protocol, state), n)| (kind, protocol, state, n))
            .collect(),
        sent: vec![row("telemetry", tally.readings), row("event", tally.events)],
        errors: vec![
            (kind.clone(), "fault".to_owned(), faults),
            (kind.clone(), "panic".to_owned(), panics),
        ],
        restarts: counts.restarts,
        faults: layer.fleet.faults().kinds().collect(),
        quarantined: populations
            .iter()
            .map(|one| (one.path.to_string(), one.slabs.quarantined))
            .collect(),
        ..DevicesView::default()
    };
    let mut broken = 0;
    for published in layer.fleet.published() {
        broken += published.counts.errors;
        add_published(&mut view, &kind, &published);
    }
    view.errors.push((kind, "publish_error".to_owned(), broken));
    view
}

/// What devices of one protocol have published to brokers.
fn add_published(view: &mut DevicesView, device_type: &str, published: &Published) {
    let (protocol, counts) = (published.protocol.name(), &published.counts);
    let row = |status, n| (device_type.to_owned(), protocol, status, n);
    view.sent.extend([
        row("ok", counts.acked),
        row("error", counts.refused),
        row("dropped", counts.dropped),
    ]);
    view.published.push(PublishView {
        device_type: device_type.to_owned(),
        protocol,
        devices: published.devices,
        connected: counts.connected,
        acked: counts.acked,
        latency: Buckets::from_histogram(&counts.latency_us, MICRO),
        dropped: counts.dropped,
        slowdowns: counts.slowdowns,
        waiting: counts.waiting,
    });
}

fn tiers(stats: &TransportStats) -> Vec<TierView> {
    let view = |tier: Tier, received: u64, decode_errors: u64, latency: &LatencyHistogram| {
        let drops = stats.drops(tier);
        TierView {
            tier: tier.label(),
            received,
            dropped: DropReason::ALL
                .iter()
                .map(|r| (r.label(), drops.get(*r)))
                .collect(),
            decode_errors,
            latency: Some(Buckets::from_histogram(&latency.snapshot(), MICRO)),
        }
    };
    let (t1, t2, t3) = (&stats.t1, &stats.t2, &stats.t3);
    let mut tiers = vec![
        view(
            Tier::T1,
            t1.received.get(),
            t1.decode_errors.get(),
            &t1.latency,
        ),
        view(
            Tier::T2,
            t2.received.get(),
            t2.decode_errors.get(),
            &t2.latency,
        ),
    ];
    tiers.push(TierView {
        tier: Tier::T3.label(),
        received: t3.acked.get(),
        dropped: vec![("overflow", t3.dropped.get())],
        decode_errors: t3.errors.get(),
        latency: Some(Buckets::from_histogram(&t3.rtt.snapshot(), MICRO)),
    });
    tiers
}

fn t3(stats: &TransportStats) -> T3View {
    T3View {
        no_route: stats.t3.no_route.get(),
        dropped: stats.t3.dropped.get(),
        errors: stats.t3.errors.get(),
        expired: stats.t3.expired.get(),
    }
}

fn world(twin: &actorsim_world::Twin) -> WorldView {
    let (snapshot, times) = (twin.snapshot(), twin.times());
    let report = twin.report();
    let window = report.scan.window;
    let systems = twin.config().scan.systems().into_iter();
    let systems = systems.map(|(system, name)| {
        let overruns = snapshot.system_overruns[system.index()];
        (name, buckets(times.system(system)), overruns)
    });
    WorldView {
        entities: u64::from(snapshot.entities()),
        readings_applied: report.readings_applied,
        period: twin.period(),
        cycles: snapshot.cycles,
        overruns: snapshot.overruns,
        skipped: snapshot.skipped,
        took: Some(buckets(&times.took)),
        jitter: Some(buckets(&times.jitter)),
        lateness: Some(buckets(&times.lateness)),
        jitter_p99: window.jitter_us.map(micros),
        window: window.figures().collect(),
        faulted: snapshot.faulted,
        fallback_cycles: snapshot.fallback_cycles,
        rests: snapshot.rests,
        core_share: snapshot.core_share,
        records_lapped: report.scan.records_lapped,
        systems: systems.collect(),
        rules: report
            .rules
            .iter()
            .map(|(name, rule)| (name.clone(), rule.fired, rule.ended))
            .collect(),
        rows: report.row_files.map(|rows| (rows.written, rows.lapped)),
        quality: report.quality.figures().collect(),
        types: report.types,
    }
}

fn buckets(times: &Times) -> Buckets {
    let mut below = 0;
    let edges = LATENCY_EDGES.iter().copied().chain([f64::MAX]);
    let buckets = edges.map(|edge| {
        let at = if edge == f64::MAX {
            times.count()
        } else {
            times.count_at_or_below((edge * 1e9) as u64)
        };
        let own = at - below;
        below = at;
        (edge, own)
    });
    Buckets {
        buckets: buckets.collect(),
        sum: times.sum_ns() * 1e-9,
        count: times.count(),
    }
}

/// The kind of an actor: its last segment, or the one above for numbered ones.
fn kind(path: &str) -> &str {
    let mut segments = path.rsplit('/');
    let last = segments.next().unwrap_or("");
    if last.bytes().all(|b| b.is_ascii_digit()) {
        segments.next().unwrap_or(last)
    } else {
        last
    }
}

fn mailboxes(layers: &Layers) -> Vec<MailboxView> {
    let census = layers.system.census();
    let mut by_kind: BTreeMap<String, MailboxView> = BTreeMap::new();
    for row in census
        .task_rows(&CensusFilter::default(), None, PAGE_MAX)
        .rows
    {
        let name = kind(row.path.as_str());
        let name = if name.is_empty() { "root" } else { name };
        let view = by_kind
            .entry(name.to_owned())
            .or_insert_with(|| MailboxView {
                host: row.host,
                kind: name.to_owned(),
                ..MailboxView::default()
            });
        view.depth += u64::from(row.depth);
        view.capacity += u64::from(row.capacity);
        view.rejected += row.books.rejected;
        view.dropped += row.books.dropped;
    }
    let mut views: Vec<_> = by_kind.into_values().collect();
    if let Some(layer) = &layers.fleet {
        let (books, counts) = (layer.fleet.books(), layer.counts());
        views.push(MailboxView {
            host: "shard",
            kind: "device".to_owned(),
            depth: books.waiting,
            capacity: counts.requested * u64::from(actorsim_fleet::fleet::DEVICE_MAILBOX),
            rejected: books.rejected,
            dropped: books.dropped,
        });
    }
    views
}

pub(super) fn quic(stats: &TransportStats) -> Vec<(&'static str, &'static str, u64)> {
    let q = &stats.quic;
    vec![
        ("handshakes", "accepted", q.handshakes_accepted.get()),
        ("handshakes", "foreign", q.handshakes_foreign.get()),
        ("handshakes", "full", q.handshakes_full.get()),
        ("handshakes", "crowded", q.handshakes_crowded.get()),
        ("handshakes", "displaced", q.handshakes_displaced.get()),
        ("handshakes", "devices", q.handshakes_devices.get()),
        ("handshakes", "unstarted", q.handshakes_unstarted.get()),
        ("handshakes", "timed_out", q.handshakes_timed_out.get()),
        ("handshakes", "failed", q.handshakes_failed.get()),
        ("closed", "here", q.closed_here.get()),
        ("closed", "peer", q.closed_by_peer.get()),
        ("closed", "idle", q.closed_idle.get()),
        ("closed", "error", q.closed_error.get()),
        ("datagrams", "sent", stats.t1.datagrams_sent.get()),
        ("datagrams", "received", stats.t1.datagrams_received.get()),
        ("dials", "ok", q.dialled.get()),
        ("dials", "failed", q.dial_failed.get()),
        ("packets", "sent", q.sent_packets.get()),
        ("packets", "lost", q.lost_packets.get()),
        ("bytes", "lost", q.lost_bytes.get()),
        ("congestion", "", q.congestion_events.get()),
        ("black_holes", "", q.black_holes.get()),
        ("pings", "", q.pings.get()),
        ("probes", "", q.probes.get()),
        ("resets", "sent", q.resets_sent.get()),
        ("resets", "received", q.resets_received.get()),
        ("stops", "received", q.stops_received.get()),
        ("stream_resets", "", q.stream_resets.get()),
        ("registrations", "refused", q.registrations_refused.get()),
    ]
}

fn shards(layer: &FleetLayer, up_ns: Option<f64>) -> Vec<ShardView> {
    let shards = layer.shards.shards().iter();
    let view = |shard: &actorsim_actors::shard::ShardHandle| {
        let stats = shard.stats();
        ShardView {
            busy_ratio: up_ns.map(|up| stats.busy_ns as f64 / up),
            stats,
        }
    };
    shards.map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn numbered_actors_share_the_kind_of_their_parent() {
        assert_eq!(kind("/transport/conn/17"), "conn");
        assert_eq!(kind("/twin/scan"), "scan");
        assert_eq!(kind("/"), "");
    }
}
