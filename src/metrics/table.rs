//! The table of metrics: name, kind, labels, help, and the name it had in the source documents.
//!
//! It drives the endpoint and `docs/reference/metrics.md`. Names are an interface.
//! Bound: fixed at compile time.

use std::fmt::Write as _;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// As exposed; a counter ends in `_total`.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Labels, in order.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
    /// Its name in the source documents, if it had one.
    pub was: &'static str,
}

macro_rules! metrics {
    ($($name:literal $kind:ident [$($label:literal),*] $help:literal $was:literal;)*) => {
        /// Every metric.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
            was: $was,
        },)*];
    };
}

metrics! {
    "actorsim_tier_received_total" Counter ["tier"]
        "Readings or acknowledgements received" "substrate_received_total";
    "actorsim_tier_dropped_total" Counter ["tier", "reason"]
        "Readings dropped" "substrate_dropped_total";
    "actorsim_tier_decode_errors_total" Counter ["tier"]
        "Frames that could not be decoded" "substrate_decode_errors_total";
    "actorsim_tier_latency_seconds" Histogram ["tier"]
        "From a reading's stamp to its receipt" "substrate_latency_us";
    "actorsim_t3_no_route_total" Counter []
        "Commands for a device without a connection" "substrate_t3_outbound_no_route_total";
    "actorsim_t3_dropped_total" Counter []
        "Commands dropped by a full queue" "substrate_t3_outbound_dropped_total";
    "actorsim_t3_errors_total" Counter []
        "Commands that failed on the wire" "substrate_t3_outbound_errors_total";
    "actorsim_t3_expired_total" Counter []
        "Commands past their deadline" "substrate_t3_outbound_expired_total";
    "actorsim_scan_rate_hz" Gauge []
        "Configured scan cycles per second" "substrate_tick_hz";
    "actorsim_scan_cycles_total" Counter []
        "Scan cycles run" "";
    "actorsim_scan_took_seconds" Histogram []
        "Execution time of a scan cycle" "";
    "actorsim_scan_jitter_seconds" Histogram []
        "Deviation of the time between two scan cycles from the period" "";
    "actorsim_scan_lateness_seconds" Histogram []
        "Start of a scan cycle after its slot was due" "";
    "actorsim_scan_window_seconds" Gauge ["time", "stat"]
        "Of the last 1,024 cycles: jitter, lateness and took, each as p50, p99, p999 and max" "";
    "actorsim_scan_overruns_total" Counter []
        "Scan cycles longer than the period" "";
    "actorsim_scan_skipped_total" Counter []
        "Slots of the scan grid that were skipped" "";
    "actorsim_scan_faulted_total" Counter []
        "Scan cycles in which a system failed" "";
    "actorsim_scan_fallback_cycles_total" Counter []
        "Scan cycles in which only what is essential ran" "";
    "actorsim_scan_rests_total" Counter []
        "Scan cycles put off so that the scan leaves its core to others" "";
    "actorsim_scan_core_share" Gauge []
        "Share of its core that the scan took in the last second" "";
    "actorsim_scan_records_lapped_total" Counter []
        "Cycle records that were lost before anybody read them" "";
    "actorsim_scan_system_seconds" Histogram ["system"]
        "Execution time of a system of the scan" "";
    "actorsim_scan_system_overruns_total" Counter ["system"]
        "Runs of a system that were longer than the period" "";
    "actorsim_rule_edges_total" Counter ["rule", "edge"]
        "How often a rule of the automation came into force, and ended" "";
    "actorsim_export_rows_total" Counter ["outcome"]
        "Records of rows for files: written, or lapped because nobody took them in time" "";
    "actorsim_twin_stale" Gauge ["type"]
        "Entities without a recent reading, by type of sensor" "";
    "actorsim_twin_quality_ratio" Gauge ["figure"]
        "Alignment, odte, and its factors timeliness, reliability and availability" "";
    "actorsim_world_entities" Gauge []
        "Entities in use" "substrate_entities";
    "actorsim_world_readings_applied_total" Counter []
        "Readings applied to the world" "";
    "actorsim_journal_events_total" Counter []
        "T2 events made durable" "";
    "actorsim_journal_commits_total" Counter ["outcome"]
        "Groups that the disk took, or refused; refused ones were tried again" "";
    "actorsim_journal_commit_seconds" Histogram []
        "Time of a commit, its sync included" "";
    "actorsim_journal_record_bytes" Gauge []
        "Bytes of records that no checkpoint covers yet" "";
    "actorsim_journal_lag_batches" Gauge []
        "Durable batches that the world has not applied" "";
    "actorsim_journal_checkpoints_total" Counter []
        "Checkpoints written" "";
    "actorsim_journal_refed_total" Counter []
        "Batches handed to the world again after a stage lost them" "";
    "actorsim_journal_repaired_total" Counter []
        "Files that a crash left open: verified, and brought back to their last commit" "";
    "actorsim_journal_corrupt_total" Counter []
        "Records that could not be read back" "";
    "actorsim_journal_intents_total" Counter ["outcome"]
        "Notes of commands made durable, or skipped for want of room" "";
    "actorsim_mailbox_depth" Gauge ["host", "kind"]
        "Messages waiting" "substrate_channel_depth";
    "actorsim_mailbox_capacity" Gauge ["host", "kind"]
        "Messages that may wait" "";
    "actorsim_mailbox_rejected_total" Counter ["host", "kind"]
        "Messages rejected by a full mailbox" "";
    "actorsim_mailbox_dropped_total" Counter ["host", "kind"]
        "Messages dropped by an overflow rule" "";
    "actorsim_process_resident_memory_bytes" Gauge []
        "Resident memory" "substrate_rss_bytes, sim_memory_alloc_bytes";
    "actorsim_process_cpu_seconds_total" Counter []
        "User and system time" "";
    "actorsim_process_threads" Gauge []
        "Threads" "";
    "actorsim_sensor_aggregate" Gauge ["type", "stat"]
        "Count, mean, min and max of a sensor type" "sensor_aggregate";
    "actorsim_devices" Gauge ["device_type", "protocol", "state"]
        "Devices" "sim_devices_active";
    "actorsim_messages_sent_total" Counter ["device_type", "protocol", "status"]
        "Messages sent by devices" "sim_messages_sent_total";
    "actorsim_publish_latency_seconds" Histogram ["device_type", "protocol"]
        "From publishing a message to its broker's acknowledgement" "sim_publish_latency_seconds";
    "actorsim_publish_queue_depth" Gauge []
        "Messages that wait in devices for their broker" "sim_publish_queue_depth";
    "actorsim_backpressure_drops_total" Counter []
        "Messages given up for want of room, or with their device" "sim_backpressure_drops_total";
    "actorsim_backpressure_slowdowns_total" Counter []
        "Times that a device took to every second sample only" "sim_backpressure_slowdowns_total";
    "actorsim_telemetry_batch_size" Histogram []
        "Values sent at once to a client that looks on" "sim_telemetry_batch_size";
    "actorsim_device_errors_total" Counter ["device_type", "error_type"]
        "Errors of devices" "sim_device_errors_total";
    "actorsim_faults_injected_total" Counter ["fault"]
        "Faults injected into devices" "sim_faults_injected_total";
    "actorsim_faults_active" Gauge ["fault"]
        "Faults of devices that act" "sim_faults_active";
    "actorsim_actors" Gauge ["host"]
        "Actors" "sim_goroutines_active";
    "actorsim_crashes_total" Counter ["supervisor", "reason"]
        "Abnormal ends of a supervisor's children" "";
    "actorsim_restarts_total" Counter ["supervisor", "reason"]
        "Of these those that were answered by a restart" "";
    "actorsim_escalations_total" Counter ["supervisor", "reason"]
        "Of these those after which the supervisor gave up" "";
    "actorsim_destructor_panics_total" Counter []
        "Destructors that panicked when queues and mailboxes dropped what nobody takes any more" "";
    "actorsim_quarantined" Gauge ["supervisor"]
        "Devices quarantined by policy" "";
    "actorsim_restart_seconds" Histogram []
        "From an exit to its replacement in service" "";
    "actorsim_quic_events_total" Counter ["event", "outcome"]
        "QUIC handshakes, lost packets, probes, stream resets, closes and datagrams"
        "spargio-quic counters";
    "actorsim_shard_busy_ratio" Gauge ["shard"]
        "Busy share of a shard thread" "spargio stats";
    "actorsim_shard_deaths_total" Counter ["shard"]
        "Threads of a shard that have died" "";
    "actorsim_shard_steps_total" Counter ["shard"]
        "Steps of a shard" "spargio stats";
    "actorsim_shard_messages_total" Counter ["shard"]
        "Messages handled on a shard" "spargio stats";
    "actorsim_shard_doorbells_total" Counter ["shard"]
        "Wake-ups of a shard from other threads" "spargio stats";
    "actorsim_shard_doorbells_merged_total" Counter ["shard"]
        "Wake-ups that were not needed: the shard was awake or woken already" "spargio stats";
    "actorsim_shard_doorbells_sent_total" Counter ["shard"]
        "Wake-ups of other shards through a shard's ring" "spargio stats";
    "actorsim_shard_ring_submissions_total" Counter ["shard"]
        "Requests handed to the kernel through a shard's ring" "spargio stats";
    "actorsim_shard_ring" Gauge ["shard"]
        "1 if a shard sleeps in a ring, 0 if its thread parks" "";
    "actorsim_shard_ring_enters_total" Counter ["shard"]
        "Calls into a shard's rings to submit, to wait, or both" "";
    "actorsim_shard_ring_retries_total" Counter ["shard"]
        "Calls that the kernel refused for now and that were made again" "";
    "actorsim_shard_satellites" Gauge ["shard"]
        "Rings of a shard that hold sockets" "";
    "actorsim_shard_sleeps_total" Counter ["shard"]
        "Times that a shard fell asleep" "spargio stats";
    "actorsim_shard_looks_total" Counter ["shard"]
        "Times that a shard looked on at its doorbell before it slept" "";
    "actorsim_shard_looks_answered_total" Counter ["shard"]
        "Of these those that found work, so that it need not sleep" "";
    "actorsim_shard_sockets" Gauge ["shard", "state"]
        "Sockets of a shard's cells: opening, open, closing" "";
    "actorsim_shard_socket_events_total" Counter ["shard", "event"]
        "What happened to a shard's sockets, what was refused or lost included" "";
    "actorsim_shard_socket_ends_total" Counter ["shard", "reason"]
        "Why sockets have ended for cells that lived on" "";
    "actorsim_shard_socket_bytes_total" Counter ["shard", "direction"]
        "Bytes that cells received (in), sent (out), or that waited at a reset (dropped)" "";
    "actorsim_shard_branches_total" Counter ["shard"]
        "Branches of forks that a shard has computed" "";
    "actorsim_shard_timers_late_total" Counter ["shard"]
        "Timers more than 10 ms late" "spargio stats";
    "actorsim_shard_ticks_missed_total" Counter ["shard"]
        "Ticks of periodic timers that did not fire, as whole periods had passed" "spargio stats";
    "actorsim_shard_migrations_total" Counter ["shard"]
        "Slabs that came to a shard from another" "spargio stats";
    "actorsim_shard_timer_lateness_seconds" Histogram ["shard"]
        "Lateness of a shard's timers" "spargio stats";
}

/// The metric of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// The reference page `docs/reference/metrics.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         `GET /metrics` on 127.0.0.1:9464 (moved by `--port-offset`, `metrics.listen`; off with \
         `metrics.enabled = false`).\nBase units are seconds and bytes. Labels are bounded and \
         never name a device. A layer that does not run in a node\nshows no samples. `/healthz` \
         is 200 while the node is healthy, `/readyz` once it is up.\n\n\
         This page is made from the table of metrics; a test holds it equal. The last column is \
         the name in the source\ndocuments, so that their dashboards can be ported by search and \
         replace.\n\n\
         | metric | type | labels | meaning | was |\n|---|---|---|---|---|\n",
    );
    for metric in METRICS {
        let (name, kind) = (metric.name, metric.kind.label());
        let (labels, help, was) = (metric.labels.join(", "), metric.help, metric.was);
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {help} | {was} |");
    }
    page.push_str(
        "\n## Events\n\nThe `event` field of log lines, and the name in `attach -c events`.\n\n\
         | event | says |\n|---|---|\n",
    );
    for (name, says) in crate::logging::EVENTS {
        let _ = writeln!(page, "| `{name}` | {says} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_prefixed_and_in_base_units() {
        for (at, metric) in METRICS.iter().enumerate() {
            assert!(METRICS[..at].iter().all(|other| other.name != metric.name));
            assert!(metric.name.starts_with("actorsim_"), "{}", metric.name);
            assert_eq!(
                metric.kind == Kind::Counter,
                metric.name.ends_with("_total")
            );
            if metric.kind == Kind::Histogram {
                let units = ["_seconds", "_size"];
                let has_unit = units.iter().any(|unit| metric.name.ends_with(unit));
                assert!(has_unit, "{}", metric.name);
            }
            assert!(!metric.labels.contains(&"device"), "{}", metric.name);
        }
    }

    /// The contract: names, types and labels that dashboards rely on.
    const CONTRACT: &[(&str, Kind, &[&str])] = &[
        ("tier_received_total", Kind::Counter, &["tier"]),
        ("tier_dropped_total", Kind::Counter, &["tier", "reason"]),
        ("tier_decode_errors_total", Kind::Counter, &["tier"]),
        ("tier_latency_seconds", Kind::Histogram, &["tier"]),
        ("t3_no_route_total", Kind::Counter, &[]),
        ("t3_dropped_total", Kind::Counter, &[]),
        ("t3_errors_total", Kind::Counter, &[]),
        ("t3_expired_total", Kind::Counter, &[]),
        ("scan_rate_hz", Kind::Gauge, &[]),
        ("scan_took_seconds", Kind::Histogram, &[]),
        ("scan_jitter_seconds", Kind::Histogram, &[]),
        ("scan_overruns_total", Kind::Counter, &[]),
        ("scan_skipped_total", Kind::Counter, &[]),
        ("world_entities", Kind::Gauge, &[]),
        ("mailbox_depth", Kind::Gauge, &["host", "kind"]),
        ("mailbox_capacity", Kind::Gauge, &["host", "kind"]),
        ("mailbox_rejected_total", Kind::Counter, &["host", "kind"]),
        ("mailbox_dropped_total", Kind::Counter, &["host", "kind"]),
        ("process_resident_memory_bytes", Kind::Gauge, &[]),
        ("sensor_aggregate", Kind::Gauge, &["type", "stat"]),
        (
            "devices",
            Kind::Gauge,
            &["device_type", "protocol", "state"],
        ),
        (
            "messages_sent_total",
            Kind::Counter,
            &["device_type", "protocol", "status"],
        ),
        (
            "publish_latency_seconds",
            Kind::Histogram,
            &["device_type", "protocol"],
        ),
        ("telemetry_batch_size", Kind::Histogram, &[]),
        (
            "device_errors_total",
            Kind::Counter,
            &["device_type", "error_type"],
        ),
        ("actors", Kind::Gauge, &["host"]),
        ("faults_active", Kind::Gauge, &["fault"]),
        ("faults_injected_total", Kind::Counter, &["fault"]),
        ("backpressure_drops_total", Kind::Counter, &[]),
        ("backpressure_slowdowns_total", Kind::Counter, &[]),
        ("publish_queue_depth", Kind::Gauge, &[]),
        ("restarts_total", Kind::Counter, &["supervisor", "reason"]),
        (
            "escalations_total",
            Kind::Counter,
            &["supervisor", "reason"],
        ),
        ("quarantined", Kind::Gauge, &["supervisor"]),
        ("restart_seconds", Kind::Histogram, &[]),
        ("quic_events_total", Kind::Counter, &["event", "outcome"]),
        ("shard_busy_ratio", Kind::Gauge, &["shard"]),
        ("shard_doorbells_total", Kind::Counter, &["shard"]),
        ("shard_ring_submissions_total", Kind::Counter, &["shard"]),
        ("shard_timer_lateness_seconds", Kind::Histogram, &["shard"]),
        ("shard_migrations_total", Kind::Counter, &["shard"]),
    ];

    #[test]
    fn what_dashboards_rely_on_is_there_with_its_type_and_labels() {
        for (name, kind, labels) in CONTRACT {
            let found = find(&format!("actorsim_{name}"));
            let found = found.map(|metric| (metric.kind, metric.labels));
            assert_eq!(found, Some((*kind, *labels)), "{name}");
        }
    }
}
