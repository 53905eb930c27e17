//! The resolved configuration of a node, typed: what the assembly reads.
//!
//! It is made only from [`Settings`], so every value has passed the table of keys.
//! Bound: as in the table of keys.

use std::path::{Path, PathBuf};
use std::time::Duration;

use actorsim_actors::shard::{
    Backend, BalanceRule, NetConfig, RingConfig, ShardConfig, ShardCores, SqPoll,
};
use actorsim_fleet::Profile;
use actorsim_fleet::profile::Protocol;
use actorsim_fleet::session::mqtt;
use actorsim_supervision::chaos::{Place, Plan};
use actorsim_transport::Line;
use actorsim_world::WorldRules;
use actorsim_world::row_files::{Format, RowFilesConfig};
use actorsim_world::scan::overrun::OverrunPolicy;
use actorsim_world::windows::WindowSet;

use super::error::{ConfigError, ConfigErrors};
use super::target::{AmqpTarget, CoapTarget, HttpTarget, MQTT_TLS, SecretsFrom, TlsTarget};
use super::target::{password_conflicts, tls_conflicts, url_conflicts};
use super::{PolicyFile, PolicySource, Settings};
use crate::ports;

/// Slowest rate: one a day, as the longest `fleet.interval`.
const RATE_MIN: f64 = 1.0 / 86_400.0;
/// Highest priority in `SCHED_RR`.
const PRIORITY_MAX: u8 = 99;

/// Intervals of a device without a value, after which its rows are stale.
const STALE_INTERVALS: f64 = 3.0;

/// Everything a node is told.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Name of the node.
    pub name: String,
    /// Name of the run, if one was given.
    pub run_id: Option<String>,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Stop in order after this time.
    pub run_for: Option<Duration>,
    /// Time for an ordered stop.
    pub shutdown: Duration,
    /// State directory.
    pub state_dir: PathBuf,
    /// File for the run report.
    pub report: Option<PathBuf>,
    /// Core of the scan thread: `auto`, `none` or a number.
    pub scan_core: ScanCore,
    /// `SCHED_RR` priority of the network thread; 0 stays in the normal class.
    pub net_priority: u8,
    /// `SCHED_RR` priority of the thread for commands; 0 stays in the normal class.
    pub commands_priority: u8,
    /// Slice that its network thread asks for; none if 0.
    pub net_slice: Duration,
    /// Cores of the network thread: see [`cores_of_net`].
    pub net_cores: ShardCores,
    /// Shard threads; 0 is one per core.
    pub shards: ShardConfig,
    /// The transport layer.
    pub transport: TransportConfig,
    /// The tiers.
    pub tiers: TiersConfig,
    /// The journal of the twin.
    pub journal: JournalSettings,
    /// The twin's world; `None` with `--no-world`.
    pub world: Option<WorldConfig>,
    /// The devices; `None` with `--no-fleet`.
    pub fleet: Option<FleetConfig>,
    /// Where devices publish, besides the twin.
    pub targets: Targets,
    /// Simulated seconds per second.
    pub speed: f64,
    /// Address of the metrics endpoint; `None` when it is off.
    pub metrics: Option<String>,
    /// The HTTP API; `None` when it is off.
    pub http: Option<Face>,
    /// gRPC; `None` when it is off.
    pub grpc: Option<Face>,
    /// Attach sessions at once.
    pub control_sessions_max: usize,
    /// Time after which an idle attach session is closed.
    pub control_idle: Duration,
    /// Supervision policies, weakest first, over the built-in ones.
    pub policies: Vec<PolicySource>,
    /// Files they came from, or may come from when they are read again.
    pub policy_files: Vec<PolicyFile>,
    /// Chaos plan to carry out from the start.
    pub chaos: Option<Plan>,
    /// Filter of log lines.
    pub log_level: String,
    /// `auto`, `human` or `json`.
    pub log_format: String,
}

/// A listener of remote control.
#[derive(Debug, Clone)]
pub struct Face {
    /// Its address.
    pub listen: String,
    /// Nobody asked for this address: if it is in use, the node goes without.
    pub built_in: bool,
}

/// Core of the scan thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanCore {
    /// The highest core.
    Auto,
    /// Not pinned.
    None,
    /// This core.
    Core(usize),
}

/// Where the network thread is kept, of the cores that the process may use and beside the scan;
/// none if it may run on any. [`ShardCores::Spread`]: all but the scan's.
#[must_use]
pub fn cores_of_net(net: &ShardCores, scan: Option<ScanCore>, allowed: &[usize]) -> Vec<usize> {
    let scan = match scan {
        None | Some(ScanCore::None) => None,
        Some(ScanCore::Auto) => allowed.last().copied(),
        Some(ScanCore::Core(core)) => Some(core),
    };
    let others = |scan| allowed.iter().copied().filter(move |core| *core != scan);
    match net {
        ShardCores::Any => Vec::new(),
        ShardCores::Listed(cores) => cores.clone(),
        ShardCores::Spread => scan.map_or(Vec::new(), |scan| others(scan).collect()),
    }
}

/// The transport layer.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// Address of the QUIC listener.
    pub listen: String,
    /// Address of the listener for peers without ALPN.
    pub plain_listen: Option<String>,
    /// Connections and a thread for commands alone.
    pub own_commands: bool,
    /// Port of these connections; 0 is a free one.
    pub commands_port: u16,
    /// A twin elsewhere.
    pub twin: Option<String>,
    /// Name its certificate must carry.
    pub server_name: Option<String>,
    /// Directory of the node identity; `None` is one signed by the own site authority.
    pub identity: Option<PathBuf>,
    /// Directory of the site authority.
    pub site: PathBuf,
    /// Devices that the peers of one certificate may make known.
    pub devices_max: u32,
    /// What the lines to the twin are like, if worse than the machine's own.
    pub line: Option<Line>,
}

/// The tiers.
#[derive(Debug, Clone)]
pub struct TiersConfig {
    /// T1 readings per second and sensor; `None` follows the interval; 0 is off.
    pub t1_rate: Option<f64>,
    /// T2 events per second and device; `None` is threshold events only; 0 is off.
    pub t2_rate: Option<f64>,
    /// Time within which a command must be acknowledged.
    pub t3_deadline: Duration,
    /// Commands a second for load.
    pub t3_synthetic_rate: f64,
}

/// The journal of the twin.
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// Where it lies; `None` keeps it in memory.
    pub dir: Option<PathBuf>,
    /// Records on disk at most, in bytes.
    pub size_max: u64,
    /// Least time between two syncs.
    pub sync_interval: Duration,
    /// Keep what was acknowledged, and applied, of each device for the report.
    pub ledger: bool,
}

/// The twin's world and its scan.
#[derive(Debug, Clone)]
pub struct WorldConfig {
    /// Rows to hold; `None` fits the fleet.
    pub capacity: Option<u32>,
    /// Period of the scan cycle.
    pub period: Duration,
    /// `SCHED_FIFO` priority; 0 stays in the normal class.
    pub priority: u8,
    /// Lock the process in memory.
    pub lock_memory: bool,
    /// Export and diagnostics walk in every so-many-th cycle.
    pub walk_every: u32,
    /// What is done about overruns.
    pub overrun: OverrunPolicy,
    /// A cycle that takes longer never ends.
    pub watchdog: Option<Duration>,
    /// A row without a value for so long is stale.
    pub stale_after: Duration,
    /// Sensors whose last values are kept.
    pub windows: WindowSet,
    /// Files of rules; the shipped ones where there is none.
    pub rule_files: Vec<String>,
    /// Where rows are written to.
    pub row_files: Option<RowFilesConfig>,
}

/// The devices.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// Number of devices.
    pub devices: u32,
    /// Profile: a shipped name or a file.
    pub profile: String,
    /// Interval of T1 readings; `None` is the profile's own.
    pub interval: Option<Duration>,
}

/// Where devices send that do not send to a twin.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Of profiles that say mqtt.
    pub mqtt: Option<MqttTarget>,
    /// Of profiles that say http.
    pub http: Option<HttpTarget>,
    /// Of profiles that say coap.
    pub coap: Option<CoapTarget>,
    /// Of profiles that say amqp.
    pub amqp: Option<AmqpTarget>,
    /// Where samples are printed: a file, or `-` for standard output.
    pub console: Option<PathBuf>,
    /// Where passwords and the like are looked for that no file has.
    pub secrets: SecretsFrom,
}

impl Targets {
    /// Whether there is a broker or server of a protocol.
    #[must_use]
    pub const fn has(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Mqtt => self.mqtt.is_some(),
            Protocol::Http => self.http.is_some(),
            Protocol::Coap => self.coap.is_some(),
            Protocol::Amqp => self.amqp.is_some(),
            Protocol::Quic | Protocol::Console => false,
        }
    }

    fn from_settings(settings: &Settings) -> Self {
        Self {
            mqtt: MqttTarget::from_settings(settings),
            http: HttpTarget::from_settings(settings),
            coap: CoapTarget::from_settings(settings),
            amqp: AmqpTarget::from_settings(settings),
            console: settings.text("targets.console.file").map(Into::into),
            secrets: SecretsFrom::Environment,
        }
    }
}

/// An MQTT broker.
#[derive(Debug, Clone)]
pub struct MqttTarget {
    /// Where it is.
    pub url: String,
    /// How sessions are.
    pub options: mqtt::Options,
    /// User that all devices log in as.
    pub username: Option<String>,
    /// File with its password.
    pub password_file: Option<PathBuf>,
    /// TLS, for a URL that asks for it.
    pub tls: TlsTarget,
    /// Connections that devices share; `None`: each has its own.
    pub pool: Option<PoolTarget>,
}

/// Connections that devices share.
#[derive(Debug, Clone, Copy)]
pub struct PoolTarget {
    /// How many.
    pub size: u32,
    /// Messages that wait for each.
    pub outbox: usize,
}

impl MqttTarget {
    fn from_settings(settings: &Settings) -> Option<Self> {
        let keep_alive = settings.duration("targets.mqtt.keep_alive");
        Some(Self {
            url: settings.text("targets.mqtt.url")?.to_owned(),
            options: mqtt::Options {
                version: match settings.text("targets.mqtt.version") {
                    Some("5") => mqtt::Version::V5,
                    _ => mqtt::Version::V311,
                },
                keep_alive_s: narrow(keep_alive.as_secs()),
                clean_start: settings.bool("targets.mqtt.clean_start"),
                outbox_max: narrow(settings.u64("targets.mqtt.outbox")),
                ..mqtt::Options::default()
            },
            username: settings.text("targets.mqtt.username").map(Into::into),
            password_file: settings.text("targets.mqtt.password_file").map(Into::into),
            tls: TlsTarget::from_settings(MQTT_TLS, settings),
            pool: settings.get("targets.mqtt.pool_size").map(|_| PoolTarget {
                size: narrow(settings.u64("targets.mqtt.pool_size")),
                outbox: narrow::<u32>(settings.u64("targets.mqtt.pool_outbox")) as usize,
            }),
        })
    }
}

impl NodeConfig {
    /// The typed form of resolved settings.
    #[must_use]
    pub fn from_settings(settings: &Settings) -> Self {
        let offset = narrow(settings.u64("node.port_offset"));
        let address = |key: &str| address(settings, key, offset);
        let name = settings.text("node.name").unwrap_or("local").to_owned();
        let state_dir = settings
            .text("node.state_dir")
            .map_or_else(|| crate::state_dir::default_path(&name), PathBuf::from);
        let rows_dir = state_dir.join("export");
        Self {
            journal: journal(settings, &state_dir),
            state_dir,
            name,
            run_id: settings.text("node.run_id").map(Into::into),
            seed: settings.u64("node.seed"),
            run_for: settings.duration_if_set("node.run_for"),
            shutdown: settings.duration("node.shutdown"),
            report: settings.text("node.report").map(Into::into),
            scan_core: scan_core(settings).unwrap_or(ScanCore::Auto),
            net_priority: narrow(settings.u64("cores.net_priority")),
            commands_priority: commands_priority(settings),
            net_slice: 2 * slice(settings),
            net_cores: cores(settings, "cores.net").unwrap_or_default(),
            shards: shards(settings),
            transport: transport(settings, address("transport.listen")),
            tiers: TiersConfig {
                t1_rate: settings.f64("tiers.t1_rate"),
                t2_rate: settings.f64("tiers.t2_rate"),
                t3_deadline: settings.duration("tiers.t3_deadline"),
                t3_synthetic_rate: settings.f64("t3.synthetic_rate").unwrap_or_default(),
            },
            world: settings
                .bool("world.enabled")
                .then(|| world(settings, &rows_dir)),
            targets: Targets::from_settings(settings),
            fleet: settings.bool("fleet.enabled").then(|| FleetConfig {
                devices: narrow(settings.u64("fleet.devices")),
                profile: settings
                    .text("fleet.profile")
                    .unwrap_or("industrial")
                    .to_owned(),
                interval: settings.duration_if_set("fleet.interval"),
            }),
            speed: settings.f64("clock.speed").unwrap_or(1.0),
            metrics: settings
                .bool("metrics.enabled")
                .then(|| address("metrics.listen")),
            http: face(settings, "http", offset),
            grpc: face(settings, "grpc", offset),
            control_sessions_max: narrow(settings.u64("control.sessions_max")),
            control_idle: settings.duration("control.idle"),
            policies: settings.policies().to_vec(),
            policy_files: settings.policy_files().to_vec(),
            chaos: settings
                .text("chaos.plan")
                .and_then(|path| Plan::open(Path::new(path), Place::Live).ok()),
            log_level: settings.text("log.level").unwrap_or("info").to_owned(),
            log_format: settings.text("log.format").unwrap_or("auto").to_owned(),
        }
    }
}

fn transport(settings: &Settings, listen: String) -> TransportConfig {
    TransportConfig {
        listen,
        plain_listen: settings.text("transport.plain.listen").map(Into::into),
        own_commands: settings.text("transport.commands") != Some("shared"),
        commands_port: narrow(settings.u64("transport.commands_port")),
        twin: settings.text("transport.twin").map(Into::into),
        server_name: settings.text("transport.server_name").map(Into::into),
        identity: settings.text("transport.identity").map(Into::into),
        site: settings.text("transport.site").map_or_else(
            || crate::state_dir::site_path(settings.text("node.state_dir")),
            PathBuf::from,
        ),
        devices_max: narrow(settings.u64("transport.devices_max")),
        line: line(settings),
    }
}

/// An address, moved by the offset if nobody asked for it.
fn address(settings: &Settings, key: &str, offset: u16) -> String {
    let address = settings.text(key).unwrap_or_default();
    let offset = if settings.is_built_in(key) { offset } else { 0 };
    ports::shifted(address, offset)
}

fn face(settings: &Settings, group: &str, offset: u16) -> Option<Face> {
    let (enabled, listen) = (format!("{group}.enabled"), format!("{group}.listen"));
    settings.bool(&enabled).then(|| Face {
        listen: address(settings, &listen, offset),
        built_in: settings.is_built_in(&listen),
    })
}

/// A number of the table in a narrower type; the table's bounds make it fit.
pub(super) fn narrow<T: TryFrom<u64> + Default>(number: u64) -> T {
    T::try_from(number).unwrap_or_default()
}

fn positive(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number > 0)
}

fn journal(settings: &Settings, state_dir: &Path) -> JournalSettings {
    JournalSettings {
        dir: settings.bool("journal.enabled").then(|| {
            let dir = settings.text("journal.dir").map(PathBuf::from);
            dir.unwrap_or_else(|| state_dir.join("journal"))
        }),
        size_max: settings.u64("journal.size_max_mib") << 20,
        sync_interval: settings.duration("journal.sync_interval"),
        ledger: settings.bool("journal.ledger"),
    }
}

fn world(settings: &Settings, rows_dir: &Path) -> WorldConfig {
    WorldConfig {
        capacity: positive(settings.u64("world.capacity")),
        period: settings.duration("scan.period"),
        priority: narrow(settings.u64("scan.priority")),
        lock_memory: settings.bool("scan.lock_memory"),
        walk_every: narrow(settings.u64("scan.walk_every")),
        overrun: OverrunPolicy::named(settings.text("scan.overrun").unwrap_or_default())
            .unwrap_or_default(),
        watchdog: Some(settings.duration("scan.watchdog")).filter(|time| !time.is_zero()),
        stale_after: stale_after(settings),
        windows: windows(settings).unwrap_or_default(),
        rule_files: settings.list("rules.files"),
        row_files: row_files(settings, rows_dir),
    }
}

/// As it is given, or so that devices which are slower than most are not stale between two values.
fn stale_after(settings: &Settings) -> Duration {
    if let Some(given) = settings.duration_if_set("world.stale_after") {
        return given;
    }
    let rate = settings.f64("tiers.t1_rate").filter(|rate| *rate > 0.0);
    let given = settings.duration_if_set("fleet.interval");
    let interval_s = rate.map(|rate| 1.0 / rate);
    let interval_s = interval_s.or(given.map(|interval| interval.as_secs_f64()));
    // the scan's time is that of the clock on the wall
    let speed = settings.f64("clock.speed").unwrap_or(1.0);
    let missed_s = STALE_INTERVALS * interval_s.unwrap_or_default() / speed;
    let missed = Duration::try_from_secs_f64(missed_s).unwrap_or(Duration::MAX);
    missed.max(WorldRules::default().stale_after)
}

/// The windows of `world.windows`, or all that is wrong with them.
fn windows(settings: &Settings) -> Result<WindowSet, String> {
    let Some(text) = settings.text("world.windows") else {
        return Ok(WindowSet::default());
    };
    let texts: Vec<_> = text.split(',').collect();
    WindowSet::read(&texts).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        format!("`world.windows`: {}", errors.join("; "))
    })
}

/// The format of exported rows, if any are.
fn row_format(settings: &Settings) -> Result<Option<Format>, String> {
    let name = settings.text("export.format").unwrap_or("none");
    let format = Format::named(name);
    if format.is_none() && name != "none" {
        let message = format!("`export.format`: `{name}` is not available in this build");
        return Err(message);
    }
    Ok(format)
}

fn row_files(settings: &Settings, dir: &Path) -> Option<RowFilesConfig> {
    let given = settings.text("export.dir").map(PathBuf::from);
    Some(RowFilesConfig {
        format: row_format(settings).ok()??,
        dir: given.unwrap_or_else(|| dir.to_owned()),
        file_max: settings.u64("export.file_max_mib") << 20,
        files_max: narrow::<u32>(settings.u64("export.files_max")) as usize,
    })
}

fn shards(settings: &Settings) -> ShardConfig {
    let backend = settings
        .text("shards.backend")
        .and_then(Backend::from_label);
    let sqpoll = settings.duration_if_set("shards.sqpoll_idle");
    ShardConfig {
        shards: narrow::<u32>(settings.u64("shards.count")) as usize,
        backend: backend.unwrap_or_default(),
        ring: RingConfig {
            entries: narrow(settings.u64("shards.ring_entries")),
            completions: narrow(settings.u64("shards.ring_completions")),
            sqpoll: sqpoll.map(|idle| SqPoll { idle, core: None }),
        },
        net: NetConfig {
            sockets_max: narrow(settings.u64("shards.sockets_max")),
            satellites_max: narrow(settings.u64("shards.satellites_max")),
            buffers: buffers(settings).unwrap_or_else(|_| NetConfig::default().buffers),
            buffer_bytes: narrow(settings.u64("shards.socket_buffer_bytes")),
            queue_bytes: narrow(settings.u64("shards.socket_queue_bytes")),
            ..NetConfig::default()
        },
        balance: settings.bool("shards.balance").then(|| balance(settings)),
        cores: cores(settings, "cores.shards").unwrap_or_default(),
        spin: Duration::from_micros(settings.u64("shards.spin_us")),
        slice: slice(settings),
        hold: true, // `/fleet/shards` starts the next thread
    }
}

fn balance(settings: &Settings) -> BalanceRule {
    let rule = BalanceRule::default();
    let share = |key, default| settings.f64(key).unwrap_or(default);
    BalanceRule {
        every: settings.duration("shards.balance_every"),
        busy_min: share("shards.balance_busy_min", rule.busy_min),
        margin: share("shards.balance_margin", rule.margin),
        ..rule
    }
}

/// The kernel takes a power of two of buffers.
fn buffers(settings: &Settings) -> Result<u16, (String, String)> {
    let buffers = settings.u64("shards.socket_buffers");
    if buffers.is_power_of_two() {
        return Ok(narrow(buffers));
    }
    let next = buffers.next_power_of_two();
    Err((
        format!("`shards.socket_buffers`: {buffers} is not a power of two"),
        format!("{next} is the next one"),
    ))
}

/// What all lines are like, if they are to be worse than the machine's own.
fn line(settings: &Settings) -> Option<Line> {
    let delay = settings.duration("transport.line.delay");
    let loss = settings.f64("transport.line.loss").unwrap_or_default();
    let line = Line {
        delay,
        loss,
        seed: settings.u64("node.seed"),
        ..Line::ETHERNET
    };
    (!delay.is_zero() || loss > 0.0).then_some(line)
}

fn scan_core(settings: &Settings) -> Result<ScanCore, String> {
    match settings.text("cores.scan").unwrap_or("auto") {
        "auto" => Ok(ScanCore::Auto),
        "none" => Ok(ScanCore::None),
        other => other
            .parse()
            .map(ScanCore::Core)
            .map_err(|_| format!("`cores.scan`: expected auto, none or a number, found `{other}`")),
    }
}

fn cores(settings: &Settings, key: &str) -> Result<ShardCores, String> {
    let text = settings.text(key).unwrap_or("none");
    text.parse()
        .map_err(|message| format!("`{key}`: {message}"))
}

/// Ahead of the network's, if it has one.
fn commands_priority(settings: &Settings) -> u8 {
    let priority = |key| narrow::<u8>(settings.u64(key));
    match priority("cores.commands_priority") {
        0 => 0,
        own => own.max((priority("cores.net_priority") + 1).min(PRIORITY_MAX)),
    }
}

fn slice(settings: &Settings) -> Duration {
    Duration::from_micros(settings.u64("cores.slice_us"))
}

/// Whether devices have somewhere to send to, besides a twin.
fn has_target(settings: &Settings) -> bool {
    let urls = ["mqtt", "http", "coap", "amqp"].map(|protocol| format!("targets.{protocol}.url"));
    let mut places = urls
        .iter()
        .map(String::as_str)
        .chain(["targets.console.file"]);
    places.any(|place| settings.text(place).is_some())
}

/// Texts that have a grammar of their own and do not follow it: the key, what is wrong, and help.
fn unreadable(settings: &Settings) -> impl Iterator<Item = (&'static str, String, &'static str)> {
    let filter = settings.text("log.level").unwrap_or("");
    let filter = crate::logging::check_filter(filter);
    [
        (
            "cores.scan",
            scan_core(settings).err(),
            "auto takes the highest core",
        ),
        (
            "cores.shards",
            cores(settings, "cores.shards").err(),
            "none leaves it to the host",
        ),
        (
            "cores.net",
            cores(settings, "cores.net").err(),
            "auto is all but the scan's",
        ),
        (
            "world.windows",
            windows(settings).err(),
            "such as temperature:16, or pump-7/voltage.3:64",
        ),
        (
            "export.format",
            row_format(settings).err(),
            "build it with `cargo build --release --features parquet`, or take ndjson",
        ),
        (
            "log.level",
            filter.err().map(|error| format!("`log.level`: {error}")),
            "such as info, or warn,actorsim_transport=debug",
        ),
    ]
    .into_iter()
    .filter_map(|(key, message, help)| Some((key, message?, help)))
}

/// Mistakes between keys, each of which is valid by itself.
pub fn conflicts(settings: &Settings) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut refuse = |key: &str, message: String, help: &str| {
        let home = settings
            .get(key)
            .map_or_else(|| "configuration".into(), |(_, origin)| origin.to_string());
        errors.push(ConfigError::outside(home, message).help(Some(help.to_owned())));
    };
    let [world, fleet] = ["world.enabled", "fleet.enabled"].map(|key| settings.bool(key));
    let twin = settings.text("transport.twin").is_some();
    if !world && !fleet {
        let message = "a node without world and without fleet has nothing to run".to_owned();
        refuse(
            "world.enabled",
            message,
            "leave out --no-world or --no-fleet",
        );
    }
    if !world && fleet && !twin && !has_target(settings) {
        let message =
            "a fleet without a world needs a twin, a broker or a file: `transport.twin`, \
                       `targets.*.url` and `targets.console.file` are unset"
                .to_owned();
        refuse(
            "world.enabled",
            message,
            "add --twin HOST:PORT --identity DIR, --mqtt-url mqtt://HOST:PORT, or --console -",
        );
    }
    let targets = url_conflicts(settings).into_iter();
    let targets = targets.chain(password_conflicts(settings));
    for (key, what, help) in targets.chain(tls_conflicts(settings)) {
        refuse(key, what, &help);
    }
    if !fleet && twin {
        let message = "`transport.twin` is set, but this node has no fleet to send".to_owned();
        refuse("transport.twin", message, "leave out --no-fleet or --twin");
    }
    if let Err((message, help)) = buffers(settings) {
        refuse("shards.socket_buffers", message, &help);
    }
    for (key, message, help) in unreadable(settings) {
        refuse(key, message, help);
    }
    for key in ["tiers.t1_rate", "tiers.t2_rate"] {
        if let Some(rate) = settings.f64(key).filter(|r| *r > 0.0 && *r < RATE_MIN) {
            let message = format!("`{key}`: {rate:e} is less than one reading a day");
            refuse(key, message, "0 turns the tier off");
        }
    }
    let name = settings.text("node.name").unwrap_or_default();
    if !is_name(name) {
        let message = format!("`node.name`: `{name}` is not a name");
        refuse(
            "node.name",
            message,
            "letters, digits, dots, dashes, underscores; at most 64; not `site` or `history`, and \
             no dot at the start",
        );
    }
    errors
}

/// Adds the mistakes of the fleet's profile, and its text if it is a file that can be shown.
pub fn profile(settings: &Settings, found: &mut ConfigErrors) {
    let name = settings
        .text("fleet.profile")
        .filter(|_| settings.bool("fleet.enabled"));
    let Some((name, Err(wrong))) = name.map(|name| (name, Profile::load(name))) else {
        return;
    };
    let text = super::read_bounded(Path::new(name)).unwrap_or_default();
    let placed = wrong.into_iter();
    let placed = placed.map(|error| ConfigError::of_layer(error, &text));
    found.errors.extend(placed);
    found.files.push((name.to_owned(), text));
}

/// Adds the mistakes of the chaos plan, and its text.
pub fn chaos(settings: &Settings, found: &mut ConfigErrors) {
    let Some(name) = settings.text("chaos.plan") else {
        return;
    };
    if let Err(wrong) = Plan::open(Path::new(name), Place::Live) {
        let text = super::read_bounded(Path::new(name)).unwrap_or_default();
        let placed = wrong.into_iter();
        let placed = placed.map(|error| ConfigError::of_layer(error, &text));
        found.errors.extend(placed);
        found.files.push((name.to_owned(), text));
    }
}

/// Adds the mistakes of the files of rules, and their texts.
pub fn rules(settings: &Settings, found: &mut ConfigErrors) {
    match super::rules::read(&settings.list("rules.files")) {
        Ok(set) => {
            let windows = windows(settings).unwrap_or_default();
            if let Err(message) = set.check(&windows) {
                found
                    .errors
                    .push(ConfigError::outside("rules.files", message));
            }
        }
        Err(wrong) => {
            found.errors.extend(wrong.errors);
            found.files.extend(wrong.files);
        }
    }
}

/// A name is also that of a directory, beside those of [`crate::state_dir::RESERVED`]; empty is
/// the default.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.len() <= 64
        && name.chars().all(plain)
        && !name.starts_with('.')
        && !crate::state_dir::RESERVED.contains(&name)
}
