//! From a snapshot to samples: each metric of the table, with its labels.
//!
//! It keeps no state. Bound: as many samples as the snapshot has rows.

use std::fmt;
use std::sync::Arc;

use actorsim_actors::shard::NetStats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use super::table::{self, Kind, Metric};
use crate::view::{Buckets, NodeSnapshot, NodeView, PublishView, ShardView};

/// Encodes snapshots of a node.
pub struct NodeCollector(Arc<dyn NodeView>);

impl NodeCollector {
    /// Of this node.
    #[must_use]
    pub fn new(view: Arc<dyn NodeView>) -> Self {
        Self(view)
    }
}

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCollector")
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let samples = samples(&self.0.snapshot());
        for metric in table::METRICS {
            let mut own = samples
                .iter()
                .filter(|sample| sample.name == metric.name)
                .peekable();
            if own.peek().is_some() {
                encode_metric(&mut encoder, metric, own)?;
            }
        }
        Ok(())
    }
}

fn encode_metric<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    samples: impl Iterator<Item = &'a Sample>,
) -> Result<(), fmt::Error> {
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let family = metric.name.strip_suffix("_total").unwrap_or(metric.name);
    let mut encoder = encoder.encode_descriptor(family, metric.help, None, kind)?;
    for sample in samples {
        if metric.labels.is_empty() {
            encode_value(&mut encoder, metric.kind, &sample.value)?;
        } else {
            let labels = Labels(metric.labels, &sample.labels);
            encode_value(
                &mut encoder.encode_family(&labels)?,
                metric.kind,
                &sample.value,
            )?;
        }
    }
    Ok(())
}

fn encode_value(
    encoder: &mut MetricEncoder<'_>,
    kind: Kind,
    value: &Number,
) -> Result<(), fmt::Error> {
    match (kind, value) {
        (Kind::Counter, Number::Whole(value)) => {
            encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
        }
        (Kind::Counter, Number::Float(value)) => {
            encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
        }
        (_, Number::Whole(value)) => encoder.encode_gauge(&(*value as f64)),
        (_, Number::Float(value)) => encoder.encode_gauge(value),
        (_, Number::Buckets(value)) => {
            let edge = |edge: f64| {
                if edge == f64::MAX {
                    f64::INFINITY
                } else {
                    edge
                }
            };
            let buckets: Vec<_> = value
                .buckets
                .iter()
                .map(|row| (edge(row.0), row.1))
                .collect();
            encoder.encode_histogram::<NoLabelSet>(value.sum, value.count, &buckets, None)
        }
    }
}

struct Labels<'a>(&'a [&'static str], &'a [String]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, value) in self.0.iter().zip(self.1) {
            (*name, value.as_str()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().zip(self.1)).finish()
    }
}

#[derive(Debug)]
enum Number {
    Whole(u64),
    Float(f64),
    Buckets(Buckets),
}

#[derive(Debug)]
struct Sample {
    name: &'static str,
    labels: Vec<String>,
    value: Number,
}

#[derive(Debug, Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn add(&mut self, name: &'static str, labels: &[&str], value: Number) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.push(Sample {
            name,
            labels,
            value,
        });
    }

    fn whole(&mut self, name: &'static str, labels: &[&str], value: u64) {
        self.add(name, labels, Number::Whole(value));
    }

    fn float(&mut self, name: &'static str, labels: &[&str], value: f64) {
        self.add(name, labels, Number::Float(value));
    }

    fn buckets(&mut self, name: &'static str, labels: &[&str], value: &Option<Buckets>) {
        if let Some(buckets) = value {
            self.add(name, labels, Number::Buckets(buckets.clone()));
        }
    }
}

fn samples(snapshot: &NodeSnapshot) -> Vec<Sample> {
    let mut out = Samples::default();
    tiers(snapshot, &mut out);
    world(snapshot, &mut out);
    journal(snapshot, &mut out);
    actors(snapshot, &mut out);
    devices(snapshot, &mut out);
    shards(snapshot, &mut out);
    process(snapshot, &mut out);
    out.0
}

fn tiers(snapshot: &NodeSnapshot, out: &mut Samples) {
    for tier in &snapshot.tiers {
        out.whole("actorsim_tier_received_total", &[tier.tier], tier.received);
        for (reason, count) in &tier.dropped {
            out.whole("actorsim_tier_dropped_total", &[tier.tier, reason], *count);
        }
        out.whole(
            "actorsim_tier_decode_errors_total",
            &[tier.tier],
            tier.decode_errors,
        );
        out.buckets("actorsim_tier_latency_seconds", &[tier.tier], &tier.latency);
    }
    if let Some(t3) = &snapshot.t3 {
        out.whole("actorsim_t3_no_route_total", &[], t3.no_route);
        out.whole("actorsim_t3_dropped_total", &[], t3.dropped);
        out.whole("actorsim_t3_errors_total", &[], t3.errors);
        out.whole("actorsim_t3_expired_total", &[], t3.expired);
    }
    for (event, outcome, count) in &snapshot.quic {
        out.whole("actorsim_quic_events_total", &[event, outcome], *count);
    }
}

fn world(snapshot: &NodeSnapshot, out: &mut Samples) {
    let Some(world) = &snapshot.world else { return };
    let period = world.period.as_secs_f64();
    if period > 0.0 {
        out.float("actorsim_scan_rate_hz", &[], 1.0 / period);
    }
    out.whole("actorsim_scan_cycles_total", &[], world.cycles);
    out.buckets("actorsim_scan_took_seconds", &[], &world.took);
    out.buckets("actorsim_scan_jitter_seconds", &[], &world.jitter);
    out.buckets("actorsim_scan_lateness_seconds", &[], &world.lateness);
    for (time, of) in &world.window {
        for (stat, us) in [
            ("p50", of.p50),
            ("p99", of.p99),
            ("p999", of.p999),
            ("max", of.max),
        ] {
            out.float("actorsim_scan_window_seconds", &[time, stat], us / 1e6);
        }
    }
    out.whole("actorsim_scan_overruns_total", &[], world.overruns);
    out.whole("actorsim_scan_skipped_total", &[], world.skipped);
    out.whole("actorsim_scan_faulted_total", &[], world.faulted);
    let (fallback, lapped) = (world.fallback_cycles, world.records_lapped);
    out.whole("actorsim_scan_fallback_cycles_total", &[], fallback);
    out.whole("actorsim_scan_records_lapped_total", &[], lapped);
    out.whole("actorsim_scan_rests_total", &[], world.rests);
    if let Some(share) = world.core_share {
        out.float("actorsim_scan_core_share", &[], share);
    }
    for (system, took, overruns) in &world.systems {
        let took = Some(took.clone());
        out.buckets("actorsim_scan_system_seconds", &[system], &took);
        out.whole("actorsim_scan_system_overruns_total", &[system], *overruns);
    }
    for (rule, fired, ended) in &world.rules {
        out.whole("actorsim_rule_edges_total", &[rule, "fired"], *fired);
        out.whole("actorsim_rule_edges_total", &[rule, "ended"], *ended);
    }
    if let Some((written, lapped)) = world.rows {
        out.whole("actorsim_export_rows_total", &["written"], written);
        out.whole("actorsim_export_rows_total", &["lapped"], lapped);
    }
    for (figure, value) in &world.quality {
        out.float("actorsim_twin_quality_ratio", &[figure], *value);
    }
    out.whole("actorsim_world_entities", &[], world.entities);
    out.whole(
        "actorsim_world_readings_applied_total",
        &[],
        world.readings_applied,
    );
    for (kind, rows) in &world.types {
        if let Some(stale) = rows.stale {
            out.whole("actorsim_twin_stale", &[kind], u64::from(stale));
        }
        let count = rows.count.map(|count| count as f64);
        for (stat, value) in [
            ("count", count),
            ("mean", rows.mean),
            ("min", rows.min),
            ("max", rows.max),
        ] {
            if let Some(value) = value {
                out.float("actorsim_sensor_aggregate", &[kind, stat], value);
            }
        }
    }
}

fn journal(snapshot: &NodeSnapshot, out: &mut Samples) {
    let Some((journal, commits)) = &snapshot.journal else {
        return;
    };
    let lag = journal.head.saturating_sub(journal.applied);
    for (name, label, count) in [
        ("actorsim_journal_events_total", None, journal.events),
        (
            "actorsim_journal_commits_total",
            Some("taken"),
            journal.commits,
        ),
        (
            "actorsim_journal_commits_total",
            Some("refused"),
            journal.commit_errors,
        ),
        ("actorsim_journal_record_bytes", None, journal.record_bytes),
        ("actorsim_journal_lag_batches", None, lag),
        (
            "actorsim_journal_checkpoints_total",
            None,
            journal.checkpoints,
        ),
        ("actorsim_journal_refed_total", None, journal.refed),
        ("actorsim_journal_repaired_total", None, journal.repaired),
        ("actorsim_journal_corrupt_total", None, journal.corrupt),
        (
            "actorsim_journal_intents_total",
            Some("durable"),
            journal.intents,
        ),
        (
            "actorsim_journal_intents_total",
            Some("skipped"),
            journal.notes_skipped,
        ),
    ] {
        let labels: Vec<&str> = label.into_iter().collect();
        out.whole(name, &labels, count);
    }
    out.buckets(
        "actorsim_journal_commit_seconds",
        &[],
        &Some(commits.clone()),
    );
}

fn actors(snapshot: &NodeSnapshot, out: &mut Samples) {
    for row in &snapshot.mailboxes {
        let labels = [row.host, row.kind.as_str()];
        out.whole("actorsim_mailbox_depth", &labels, row.depth);
        out.whole("actorsim_mailbox_capacity", &labels, row.capacity);
        out.whole("actorsim_mailbox_rejected_total", &labels, row.rejected);
        out.whole("actorsim_mailbox_dropped_total", &labels, row.dropped);
    }
    for (host, count) in &snapshot.actors {
        out.whole("actorsim_actors", &[host], *count);
    }
    for row in &snapshot.crashes {
        let labels = [row.supervisor.as_str(), row.reason];
        out.whole("actorsim_crashes_total", &labels, row.ends);
        out.whole("actorsim_restarts_total", &labels, row.restarts);
        out.whole("actorsim_escalations_total", &labels, row.escalations);
    }
    let panics = snapshot.destructor_panics;
    out.whole("actorsim_destructor_panics_total", &[], panics);
    out.buckets("actorsim_restart_seconds", &[], &snapshot.restart_time);
}

fn devices(snapshot: &NodeSnapshot, out: &mut Samples) {
    let Some(devices) = &snapshot.devices else {
        return;
    };
    for (kind, protocol, state, count) in &devices.states {
        out.whole("actorsim_devices", &[kind, protocol, state], *count);
    }
    for (kind, protocol, status, count) in &devices.sent {
        out.whole(
            "actorsim_messages_sent_total",
            &[kind, protocol, status],
            *count,
        );
    }
    for (kind, error, count) in &devices.errors {
        out.whole("actorsim_device_errors_total", &[kind, error], *count);
    }
    for (kind, injected, active) in &devices.faults {
        out.whole("actorsim_faults_injected_total", &[kind], *injected);
        out.whole("actorsim_faults_active", &[kind], *active);
    }
    for (population, count) in &devices.quarantined {
        out.whole("actorsim_quarantined", &[population], *count);
    }
    for published in &devices.published {
        let labels = [published.device_type.as_str(), published.protocol];
        let latency = Some(published.latency.clone());
        out.buckets("actorsim_publish_latency_seconds", &labels, &latency);
    }
    let sum = |of: fn(&PublishView) -> u64| devices.published.iter().map(of).sum();
    for (name, all) in [
        ("actorsim_publish_queue_depth", sum(|one| one.waiting)),
        ("actorsim_backpressure_drops_total", sum(|one| one.dropped)),
        (
            "actorsim_backpressure_slowdowns_total",
            sum(|one| one.slowdowns),
        ),
    ] {
        out.whole(name, &[], all);
    }
    out.buckets("actorsim_telemetry_batch_size", &[], &devices.batches);
}

fn shards(snapshot: &NodeSnapshot, out: &mut Samples) {
    for ShardView { busy_ratio, stats } in &snapshot.shards {
        let index = &*stats.index.to_string();
        if let Some(busy) = busy_ratio {
            out.float("actorsim_shard_busy_ratio", &[index], *busy);
        }
        out.whole("actorsim_shard_ring", &[index], u64::from(stats.ring));
        let satellites = stats.net.satellites;
        out.whole("actorsim_shard_satellites", &[index], satellites);
        for (name, count) in [
            ("actorsim_shard_deaths_total", stats.deaths),
            ("actorsim_shard_steps_total", stats.steps),
            ("actorsim_shard_messages_total", stats.messages),
            ("actorsim_shard_doorbells_total", stats.rings),
            ("actorsim_shard_doorbells_merged_total", stats.rings_merged),
            ("actorsim_shard_doorbells_sent_total", stats.doorbells),
            ("actorsim_shard_ring_submissions_total", stats.submissions),
            ("actorsim_shard_ring_enters_total", stats.enters),
            ("actorsim_shard_ring_retries_total", stats.retries),
            ("actorsim_shard_sleeps_total", stats.waits),
            ("actorsim_shard_looks_total", stats.looks),
            ("actorsim_shard_looks_answered_total", stats.looks_answered),
            ("actorsim_shard_branches_total", stats.branches),
            ("actorsim_shard_timers_late_total", stats.timers_late),
            ("actorsim_shard_ticks_missed_total", stats.ticks_missed),
            ("actorsim_shard_migrations_total", stats.migrations_in),
        ] {
            out.whole(name, &[index], count);
        }
        let lateness = Buckets::from_lateness(&stats.lateness);
        out.buckets(
            "actorsim_shard_timer_lateness_seconds",
            &[index],
            &Some(lateness),
        );
        sockets(index, &stats.net, out);
    }
}

fn sockets(shard: &str, net: &NetStats, out: &mut Samples) {
    for (state, count) in [
        ("opening", net.opening),
        ("open", net.open),
        ("closing", net.closing),
    ] {
        out.whole("actorsim_shard_sockets", &[shard, state], count);
    }
    for (event, count) in [
        ("asked", net.asked),
        ("accepted", net.accepted),
        ("connected", net.connected),
        ("closed", net.closed),
        ("unclaimed", net.unclaimed),
        ("queue_full", net.queue_full),
        ("cut", net.cut),
        ("datagram_lost", net.datagrams_lost),
        ("no_buffer", net.no_buffer),
        ("cancelled", net.cancelled),
        ("stray", net.strays),
    ] {
        let name = "actorsim_shard_socket_events_total";
        out.whole(name, &[shard, event], count);
    }
    for (reason, count) in net.ends.by_reason() {
        let name = "actorsim_shard_socket_ends_total";
        out.whole(name, &[shard, reason], count);
    }
    for (direction, bytes) in [
        ("in", net.bytes_in),
        ("out", net.bytes_out),
        ("dropped", net.bytes_dropped),
    ] {
        let name = "actorsim_shard_socket_bytes_total";
        out.whole(name, &[shard, direction], bytes);
    }
}

fn process(snapshot: &NodeSnapshot, out: &mut Samples) {
    let process = &snapshot.process;
    if let Some(rss) = process.rss_bytes {
        out.whole("actorsim_process_resident_memory_bytes", &[], rss);
    }
    if let Some(cpu) = process.cpu_s {
        out.float("actorsim_process_cpu_seconds_total", &[], cpu);
    }
    if let Some(threads) = process.threads {
        out.whole("actorsim_process_threads", &[], threads);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actorsim_world::report::TypeReport;
    use actorsim_world::scan::stats::Quantiles;

    use crate::view::{DevicesView, MailboxView, ProcessView, T3View, TierView};
    use crate::view::{LATENCY_EDGES, WorldView};
    use actorsim_supervision::report::Tally;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;
    use std::time::Duration;

    const TIMES: Quantiles = Quantiles {
        p50: 40.0,
        p95: 60.0,
        p99: 70.0,
        p999: 80.0,
        max: 90.0,
        count: 1_024,
    };

    /// One that was looked at, and one that was not yet.
    const TYPES: [(&str, TypeReport); 2] = [
        (
            "voltage",
            TypeReport {
                entities: 3,
                stale: Some(1),
                count: Some(3),
                mean: Some(230.0),
                min: Some(229.0),
                max: Some(231.0),
            },
        ),
        (
            "relay",
            TypeReport {
                entities: 1,
                stale: None,
                count: None,
                mean: None,
                min: None,
                max: None,
            },
        ),
    ];

    struct Full;

    impl NodeView for Full {
        fn snapshot(&self) -> NodeSnapshot {
            let edges = LATENCY_EDGES
                .iter()
                .map(|edge| (*edge, 1))
                .chain([(f64::INFINITY, 1)]);
            let buckets = Some(Buckets {
                sum: 1.0,
                count: 20,
                buckets: edges.collect(),
            });
            NodeSnapshot {
                devices: Some(DevicesView {
                    states: vec![("pump".into(), "quic", "running", 5)],
                    sent: vec![("pump".into(), "quic", "ok", 5)],
                    errors: vec![("pump".into(), "fault".into(), 1)],
                    faults: vec![("disconnect", 3, 1)],
                    quarantined: vec![("/fleet/default".into(), 1)],
                    published: vec![PublishView::default()],
                    batches: buckets.clone(),
                    ..DevicesView::default()
                }),
                tiers: vec![TierView {
                    tier: "t1",
                    received: 7,
                    dropped: vec![("full", 2)],
                    latency: buckets.clone(),
                    ..TierView::default()
                }],
                t3: Some(T3View::default()),
                journal: buckets.clone().map(|commits| (Default::default(), commits)),
                world: Some(WorldView {
                    period: Duration::from_millis(10),
                    took: buckets.clone(),
                    jitter: buckets.clone(),
                    lateness: buckets.clone(),
                    window: vec![("took", TIMES)],
                    types: TYPES.into(),
                    systems: vec![("ingest", Buckets::default(), 0)],
                    rules: vec![("absence-stops".into(), 2, 1)],
                    rows: Some((7, 1)),
                    core_share: Some(0.5),
                    quality: vec![("odte", 0.9)],
                    ..WorldView::default()
                }),
                mailboxes: vec![MailboxView {
                    host: "task",
                    kind: "tier-t1".into(),
                    ..MailboxView::default()
                }],
                actors: vec![("shard", 1_000)],
                crashes: vec![Tally {
                    supervisor: actorsim_actors::ActorPath::root().join("twin"),
                    reason: "killed",
                    ends: 3,
                    restarts: 2,
                    escalations: 1,
                }],
                restart_time: buckets.clone(),
                quic: vec![("handshake", "ok", 1)],
                shards: vec![ShardView {
                    busy_ratio: Some(0.5),
                    ..ShardView::default()
                }],
                process: ProcessView::read(),
                ..NodeSnapshot::default()
            }
        }
    }

    #[test]
    fn every_metric_of_the_table_is_exposed_with_its_labels_and_none_besides() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(NodeCollector::new(Arc::new(Full))));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        for metric in table::METRICS {
            let family = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            assert!(
                page.contains(&format!("# TYPE {family} ")),
                "{family} is missing:\n{page}"
            );
        }
        for sample in samples(&Full.snapshot()) {
            let metric = table::find(sample.name).expect(sample.name);
            assert_eq!(metric.labels.len(), sample.labels.len(), "{}", sample.name);
        }
        for line in [
            "actorsim_twin_stale{type=\"voltage\"} 1.0",
            "actorsim_sensor_aggregate{type=\"voltage\",stat=\"count\"} 3.0",
            "actorsim_scan_window_seconds{time=\"took\",stat=\"p99\"} 0.00007",
        ] {
            assert!(page.contains(line), "{line} is missing:\n{page}");
        }
        assert!(!page.contains("relay"), "what nobody looked at is no zero");
        assert!(page.contains("actorsim_tier_dropped_total{tier=\"t1\",reason=\"full\"} 2"));
        assert!(
            page.contains("actorsim_scan_took_seconds_bucket{le=\"+Inf\"} 20"),
            "{page}"
        );
    }

    #[test]
    fn a_layer_that_does_not_run_shows_no_samples() {
        let shown = samples(&NodeSnapshot::default());
        assert!(shown.iter().all(|sample| !sample.name.contains("scan")));
        assert!(shown.iter().all(|sample| !sample.name.contains("devices")));
    }
}
