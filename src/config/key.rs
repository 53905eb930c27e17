//! The table of keys: name, kind, default and meaning of everything a node can be told.
//!
//! One table drives the files, the environment, `-X`, `config explain`, `config print`, the JSON
//! schema and the reference page. It holds only keys whose layer exists in this build.
//!
//! Bound: the table is fixed at compile time; [`ABSENT`] names the groups that are not built yet.

use std::time::Duration;

use actorsim_actors::shard::{
    BUFFER_BYTES_MIN, COMPLETIONS_MAX, DATAGRAM_MAX, ENTRIES_MAX, SOCKETS_MAX, SPIN_MAX,
};
use actorsim_actors::slice::SLICE_MAX;
use actorsim_transport::RANGE_DEVICES_MAX;

use super::value::{Kind, Value};

/// One key.
#[derive(Debug)]
pub struct Key {
    /// `group.key`.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Its built-in value, as text; `None` is unset.
    pub default: Option<&'static str>,
    /// What it does, in one line.
    pub doc: &'static str,
}

impl Key {
    /// The built-in value.
    pub fn default_value(&self) -> Option<Value> {
        self.default.and_then(|text| self.kind.parse(text).ok())
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("ACTORSIM__{}", self.name.replace('.', "__").to_uppercase())
    }
}

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

const fn span(min: Duration, max: Duration) -> Kind {
    Kind::Duration { min, max }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::U64 { min, max }
}

const fn rate(max: f64) -> Kind {
    Kind::F64 { min: 0.0, max }
}

/// Whether keys of the table lie below this name.
pub fn is_table(name: &str) -> bool {
    KEYS.iter().any(|key| {
        key.name
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

macro_rules! keys {
    ($($name:literal, $kind:expr, $default:expr, $doc:literal;)*) => {
        /// Every key, by group.
        pub const KEYS: &[Key] = &[$(
            Key { name: $name, kind: $kind, default: $default, doc: $doc },
        )*];
    };
}

keys! {
    "node.name", Kind::Text, Some("local"),
        "Name of the node: in the report, the logs and the default state directory.";
    "node.run_id", Kind::Text, None,
        "Name of this run in the report; made from the start time when unset.";
    "node.seed", count(0, u64::MAX), Some("1"),
        "Seed of everything that is drawn; 0 draws one and says it.";
    "node.run_for", span(MS, Duration::from_secs(366 * 86_400)), None,
        "Stop in order after this time; unset runs until a signal.";
    "node.shutdown", span(MS, Duration::from_secs(3_600)), Some("30s"),
        "Time for an ordered stop, after which what is left is killed.";
    "node.state_dir", Kind::Path, None,
        "Directory of the attach socket, the lock and the own identity; \
         $XDG_STATE_HOME/actorsim/NAME when unset.";
    "node.report", Kind::Path, None,
        "File to write the run report to.";
    "node.port_offset", count(0, crate::ports::OFFSET_MAX as u64), Some("0"),
        "Added to every default port, so that several nodes fit on one machine.";
    "cores.scan", Kind::Text, Some("auto"),
        "Core of the scan thread: auto (the highest), none, or a number.";
    "cores.shards", Kind::Text, Some("none"),
        "Cores of the shards, in turn: auto (each, lowest first), none, or numbers such as 0,1.";
    "cores.net", Kind::Text, Some("auto"),
        "Cores of the network thread, and of that for commands: auto (all but the scan's), none \
         (any), or numbers such as 0.";
    "cores.net_priority", count(0, 99), Some("0"),
        "SCHED_RR priority of the network thread while it is not busy; 0 is the normal class.";
    "cores.commands_priority", count(0, 99), Some("1"),
        "SCHED_RR priority of the thread for commands while it is not busy, at least one more than \
         the network thread's; 0 is the normal class, also where it is not permitted.";
    "cores.slice_us", count(0, SLICE_MAX.as_micros() as u64 / 2), Some("100"),
        "For how long a shard, and the thread for commands, keeps a core that others wait for, and \
         the network thread twice as long (Linux 6.12 and later), at least 100; 0 leaves it to the \
         host.";
    "shards.count", count(0, 1_024), Some("0"),
        "Shard threads; 0 is one per core.";
    "shards.backend", Kind::Choice(&["auto", "uring", "portable"]), Some("auto"),
        "What shard threads sleep in: an io_uring of their own, a parked thread, or what there is.";
    "shards.ring_entries", count(1, ENTRIES_MAX as u64), Some("256"),
        "Entries of a ring's submission queue.";
    "shards.ring_completions", count(2, COMPLETIONS_MAX as u64), Some("512"),
        "Entries of a ring's completion queue, more than of its submission queue.";
    "shards.sqpoll_idle", span(MS, DAY), None,
        "A kernel thread polls each ring until idle for this time; unset is none: it costs a core.";
    "shards.spin_us", count(0, SPIN_MAX.as_micros() as u64), Some("100"),
        "Longest look at its doorbell before a shard sleeps, where such looks pay; 0 is none.";
    "shards.sockets_max", count(0, SOCKETS_MAX as u64), Some("262144"),
        "Most sockets of one shard.";
    "shards.satellites_max", count(1, 64), Some("16"),
        "Most rings of a shard that hold sockets, each as many as the process may open files.";
    "shards.socket_buffers", count(1, 1 << 15), Some("512"),
        "Receive buffers of each such ring, a power of two.";
    "shards.socket_buffer_bytes", count(BUFFER_BYTES_MIN as u64, 1 << 20), Some("2048"),
        "Bytes of a receive buffer.";
    "shards.socket_queue_bytes", count(DATAGRAM_MAX as u64, 1 << 30), Some("65536"),
        "Bytes that may wait to be sent on one socket.";
    "shards.balance", Kind::Bool, Some("false"),
        "Move populations' parts from a busy shard to an idle one; a part with sockets stays.";
    "shards.balance_every", span(Duration::from_millis(10), Duration::from_secs(60)), Some("100ms"),
        "Window over which shards are compared; a difference must last for two.";
    "shards.balance_busy_min", rate(1.0), Some("0.6"),
        "Busy share below which a shard is not relieved.";
    "shards.balance_margin", rate(1.0), Some("0.15"),
        "Difference of busy shares up to which nothing moves.";
    "transport.listen", Kind::Address, Some("127.0.0.1:4433"),
        "Address of the QUIC listener.";
    "transport.plain.listen", Kind::Address, None,
        "Address of a second listener for peers without ALPN; unset is none.";
    "transport.commands", Kind::Choice(&["own", "shared"]), Some("own"),
        "Connections and a thread for commands alone, so that they wait for no telemetry (own), or \
         the same as telemetry's (shared).";
    "transport.commands_port", count(0, u16::MAX as u64), Some("0"),
        "UDP port of connections for commands at the address of transport.listen; 0 is a free one. \
         Links are told which.";
    "transport.twin", Kind::Address, None,
        "Send the fleet to this twin instead of the own world.";
    "transport.server_name", Kind::Text, None,
        "Name the twin's certificate must carry; when unset any node of the same site is good.";
    "transport.identity", Kind::Path, None,
        "Directory with ca.pem, node.pem and node.key; signed by the site authority when unset.";
    "transport.site", Kind::Path, None,
        "Directory of the site authority that signs the own identity; when unset \
         $XDG_STATE_HOME/actorsim/site, or site in node.state_dir.";
    "transport.devices_max", count(1, RANGE_DEVICES_MAX as u64), Some("16384"),
        "Devices that peers may make known with a certificate for some devices, or with none; with \
         one for any device they may make known any number.";
    "transport.line.delay", span(Duration::ZERO, Duration::from_secs(10)), Some("0s"),
        "QUIC packets reach this node so much later, as over a long line; for measurements.";
    "transport.line.loss", rate(1.0), Some("0"),
        "Share of QUIC packets that do not reach this node, as over a bad line; for measurements.";
    "tiers.t1_rate", rate(1_000.0), None,
        "T1 readings per second and sensor; 0 turns the tier off; unset is 1 / fleet.interval.";
    "tiers.t2_rate", rate(1_000.0), None,
        "T2 events per second and device besides threshold events; 0 turns the tier off.";
    "tiers.t3_deadline", span(MS, Duration::from_secs(60)), Some("5s"),
        "Time within which a command must be acknowledged.";
    "t3.synthetic_rate", rate(100_000.0), Some("0"),
        "Commands a second to one device after the other, for load; each starts its relay.";
    "world.enabled", Kind::Bool, Some("true"),
        "Run the twin: listener, ingest stages and scanned world.";
    "world.capacity", count(0, 16_000_000), Some("0"),
        "Rows (device, sensor) to hold; 0 fits the fleet.";
    "world.stale_after", span(Duration::from_secs(1), DAY), None,
        "A row without a value for so long is stale; unset is 15s, or three of the intervals that \
         tiers.t1_rate or fleet.interval give, whichever is longer.";
    "world.windows", Kind::Text, None,
        "Sensors whose last values are kept for rules and files: [DEVICE/]TYPE[.SENSOR]:LENGTH, \
         with commas between them, such as temperature:16,pump-7/voltage.3:64.";
    "journal.enabled", Kind::Bool, Some("true"),
        "Keep T2 events and T3 intents on disk; when off they outlive actors, not the process.";
    "journal.dir", Kind::Path, None,
        "Directory of the journal; journal in node.state_dir when unset.";
    "journal.size_max_mib", count(1, 1 << 20), Some("256"),
        "Records on disk at most, in MiB, while the world lags behind; then events wait.";
    "journal.sync_interval", span(Duration::ZERO, Duration::from_secs(1)), Some("2ms"),
        "Least time between two syncs: what comes meanwhile is made durable together.";
    "journal.ledger", Kind::Bool, Some("false"),
        "Keep a mark of the events acknowledged and applied for each device, for the report.";
    "scan.period", span(Duration::from_micros(100), Duration::from_secs(60)), Some("10ms"),
        "Period of the scan cycle.";
    "scan.priority", count(0, 99), Some("80"),
        "SCHED_FIFO priority of the scan thread; 0 stays in the normal class.";
    "scan.lock_memory", Kind::Bool, Some("true"),
        "Lock the process in memory where that is permitted.";
    "scan.walk_every", count(1, 3_600_000), Some("1"),
        "Export and diagnostics walk their slice of the rows in every so-many-th cycle.";
    "scan.overrun", Kind::Choice(&["count", "fault", "fallback"]), Some("count"),
        "When a cycle is longer than the period: count it; restart the scan after three in a row; \
         or run only what is essential until cycles fit again.";
    "scan.watchdog", span(Duration::ZERO, Duration::from_secs(3_600)), Some("5s"),
        "A cycle that takes longer never ends, nor does a step of building the world that takes \
         twelve times as long: the node ends its process then; 0s watches nothing.";
    "export.format", Kind::Choice(&["none", "ndjson", "parquet"]), Some("none"),
        "Write what rows held to files, after each walk over them; parquet is in builds with the \
         feature of that name.";
    "export.dir", Kind::Path, None,
        "Directory of these files; export in node.state_dir when unset.";
    "export.file_max_mib", count(1, 1 << 20), Some("64"),
        "Size from which on a file is followed by another, in MiB.";
    "export.files_max", count(1, 10_000), Some("16"),
        "Files that are kept; the oldest goes first.";
    "rules.files", Kind::Paths, None,
        "Files of rules, each as config/rules/default.toml, which holds where none is named.";
    "fleet.enabled", Kind::Bool, Some("true"),
        "Run devices in this node.";
    "fleet.devices", count(0, actorsim_fleet::population::DEVICES_MAX as u64), Some("1000"),
        "Number of devices at the start; more can join while the node runs.";
    "fleet.profile", Kind::Text, Some("industrial"),
        "Profile of the devices: a shipped name or a file.";
    "fleet.interval", span(MS, DAY), None,
        "Interval of T1 readings; the profile's own when unset.";
    "targets.mqtt.url", Kind::Text, None,
        "Broker of devices whose profile says mqtt, such as mqtt://127.0.0.1:1883; mqtts over TLS.";
    "targets.mqtt.version", Kind::Choice(&["3.1.1", "5"]), Some("3.1.1"),
        "Version of MQTT.";
    "targets.mqtt.keep_alive", span(Duration::ZERO, Duration::from_secs(65_535)), Some("60s"),
        "Longest silence of a device before it pings its broker; 0s never pings.";
    "targets.mqtt.clean_start", Kind::Bool, Some("false"),
        "Whether a device that connects again wants its broker to forget its session.";
    "targets.mqtt.outbox", count(1, 255), Some("64"),
        "Messages that wait in a device for its broker.";
    "targets.mqtt.pool_size", count(1, actorsim_fleet::broker::POOL_SIZE_MAX as u64), None,
        "Connections that all devices share; when unset each device has one of its own.";
    "targets.mqtt.pool_outbox", count(1, 10_000_000), Some("65536"),
        "Messages that wait for each shared connection.";
    "targets.mqtt.username", Kind::Text, None,
        "User that all devices log in as.";
    "targets.mqtt.password_file", Kind::Text, None,
        "File with the user's password; a line break at its end is not part of it.";
    "targets.mqtt.tls_ca_file", Kind::Path, None,
        "PEM file of the authorities that may sign the broker; the site's own when unset.";
    "targets.mqtt.tls_server_name", Kind::Text, None,
        "Name that the broker's certificate must carry; the URL's host when unset.";
    "targets.mqtt.tls_device_certs", Kind::Bool, Some("false"),
        "Whether each device shows a certificate of its own, signed by the site authority.";
    "targets.mqtt.tls_cert_file", Kind::Path, None,
        "PEM file with one certificate that all devices show.";
    "targets.mqtt.tls_key_file", Kind::Path, None,
        "PEM file with the key of tls_cert_file.";
    "targets.http.url", Kind::Text, None,
        "Server of devices whose profile says http, such as http://127.0.0.1:8080/ingest; https \
         over TLS.";
    "targets.http.batch", count(1, 255), Some("1"),
        "Samples of a device in one request at most.";
    "targets.http.batch_wait", span(Duration::ZERO, DAY), Some("0s"),
        "Longest wait of a sample for others to share its request.";
    "targets.http.timeout", span(MS, DAY), Some("20s"),
        "Longest wait for an answer.";
    "targets.http.outbox", count(1, 255), Some("64"),
        "Samples that wait in a device for its server.";
    "targets.http.poll_interval", span(Duration::ZERO, DAY), Some("30s"),
        "Time between two questions of a device for a command; 0s asks for none.";
    "targets.http.authorization_file", Kind::Text, None,
        "File with the value of the header Authorization.";
    "targets.http.tls_ca_file", Kind::Path, None,
        "PEM file of the authorities that may sign the server; the site's own when unset.";
    "targets.http.tls_server_name", Kind::Text, None,
        "Name that the server's certificate must carry; the URL's host when unset.";
    "targets.http.tls_device_certs", Kind::Bool, Some("false"),
        "Whether each device shows a certificate of its own, signed by the site authority.";
    "targets.http.tls_cert_file", Kind::Path, None,
        "PEM file with one certificate that all devices show.";
    "targets.http.tls_key_file", Kind::Path, None,
        "PEM file with the key of tls_cert_file.";
    "targets.coap.url", Kind::Text, None,
        "Server of devices whose profile says coap, such as coap://127.0.0.1:5683.";
    "targets.coap.method", Kind::Choice(&["put", "post"]), Some("put"),
        "How samples are sent.";
    "targets.coap.observe", Kind::Bool, Some("true"),
        "Whether devices observe their commands.";
    "targets.coap.ack_timeout", span(MS, DAY), Some("2s"),
        "Least wait for an acknowledgement; each repetition waits twice as long.";
    "targets.coap.outbox", count(1, 255), Some("64"),
        "Samples that wait in a device for its server.";
    "targets.amqp.url", Kind::Text, None,
        "Broker of devices whose profile says amqp, such as amqp://127.0.0.1:5672/vhost; amqps \
         over TLS.";
    "targets.amqp.exchange", Kind::Text, Some("iot.telemetry"),
        "Topic exchange of samples, commands and replies; made if it is not there.";
    "targets.amqp.outbox", count(1, 10_000_000), Some("65536"),
        "Messages of the node that wait for its broker.";
    "targets.amqp.username", Kind::Text, None,
        "User that the node logs in as; guest when unset.";
    "targets.amqp.password_file", Kind::Text, None,
        "File with the user's password; a line break at its end is not part of it.";
    "targets.amqp.tls_ca_file", Kind::Path, None,
        "PEM file of the authorities that may sign the broker; the site's own when unset.";
    "targets.amqp.tls_server_name", Kind::Text, None,
        "Name that the broker's certificate must carry; the URL's host when unset.";
    "targets.amqp.tls_cert_file", Kind::Path, None,
        "PEM file with the certificate that the node shows.";
    "targets.amqp.tls_key_file", Kind::Path, None,
        "PEM file with the key of tls_cert_file.";
    "targets.console.file", Kind::Text, None,
        "Each sample is printed there as a line, too; - is standard output.";
    "clock.speed", Kind::F64 { min: 0.001, max: 10_000.0 }, Some("1.0"),
        "Simulated seconds per second.";
    "metrics.enabled", Kind::Bool, Some("true"),
        "Serve /metrics, /healthz and /readyz.";
    "metrics.listen", Kind::Address, Some("127.0.0.1:9464"),
        "Address of the metrics endpoint.";
    "http.enabled", Kind::Bool, Some("true"),
        "Serve REST, samples as they are sent (SSE), every command, and the API's page at /docs.";
    "http.listen", Kind::Address, Some("127.0.0.1:8000"),
        "Address of the HTTP API, with mutual TLS beyond loopback; a built-in one in use is left \
         out.";
    "grpc.enabled", Kind::Bool, Some("true"),
        "Serve gRPC simulator.v1.";
    "grpc.listen", Kind::Address, Some("127.0.0.1:50051"),
        "Address of the gRPC service, with mutual TLS beyond loopback; a built-in one in use is \
         left out.";
    "control.sessions_max", count(1, 256), Some("16"),
        "Attach sessions at once; more are refused with a message.";
    "control.idle", span(Duration::from_secs(1), DAY), Some("10m"),
        "An attach session without a command for this long is closed.";
    "supervision.policies", Kind::Paths, None,
        "Policy files, each as config/supervision/default.toml; later ones win.";
    "chaos.plan", Kind::Path, None,
        "Chaos plan to carry out from the start, such as config/chaos/live.toml.";
    "log.level", Kind::Text, Some("info"),
        "Filter of log lines: a level, or target=level pairs separated by commas.";
    "log.format", Kind::Choice(&["auto", "human", "json"]), Some("auto"),
        "auto is human on a terminal and JSON otherwise.";
}

/// Groups of the full table whose layer is not in this build.
pub const ABSENT: &[&str] = &["cluster"];

/// The one group that also holds tables: `[[supervision.supervisor]]`.
pub const POLICY_TABLE: (&str, &str) = ("supervision", "supervisor");

/// The key of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Names of the groups, in order.
pub fn groups() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter().filter_map(move |key| {
        let group = key.name.split('.').next().unwrap_or_default();
        let new = group != last;
        last = group;
        new.then_some(group)
    })
}

/// Keys of one group, without the group's name.
pub fn in_group(group: &str) -> impl Iterator<Item = &'static str> {
    let prefix = format!("{group}.");
    KEYS.iter()
        .filter_map(move |key| key.name.strip_prefix(prefix.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_for_its_kind() {
        for key in KEYS {
            if let Some(text) = key.default {
                assert!(key.kind.parse(text).is_ok(), "{}: {text}", key.name);
            }
        }
    }

    #[test]
    fn keys_are_unique_and_groups_are_contiguous() {
        let mut seen: Vec<_> = groups().collect();
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "a group is split");
        for (at, key) in KEYS.iter().enumerate() {
            assert!(
                KEYS[..at].iter().all(|other| other.name != key.name),
                "{}",
                key.name
            );
        }
    }
}
