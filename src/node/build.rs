//! Makes each layer from the node's configuration; starts none of them.
//!
//! Every refusal names the key that is wrong. Bound: as configured.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::shard::ShardHost;
use actorsim_actors::{ActorPath, System};
use actorsim_fleet::broker::{Credentials, Plan, PublishStats, Target};
use actorsim_fleet::lines::Printer;
use actorsim_fleet::profile::Protocol as ProfileProtocol;
use actorsim_fleet::session::mqtt;
use actorsim_fleet::session::tls::Terms;
use actorsim_fleet::{Fleet, Population, Profile, Uplink, seed};
use actorsim_supervision::config::render_all;
use actorsim_supervision::{ChildSpec, Policies, SupervisorSpec};
use actorsim_transport::{
    BindError, CommandsConfig, Identity, Limits, LinkSpec, Listening, Network, Protocol,
    SITE_SERVER_NAME, Site, Transport, TransportConfig, TransportStats, Wires, commands_child,
    link_child,
};
use actorsim_world::scan::OnWedged;
use actorsim_world::scan::watchdog::Wedged;
use actorsim_world::{JournalConfig, Outlets, ScanConfig, Twin, TwinConfig, WorldRules};
use tokio::runtime::Handle;

use super::assembly::Carriers;
use super::layers::FleetLayer;
use super::publishers::Publishers;
use super::secrets::{authorization, mqtt_credentials};
use super::terms::terms_of;
use super::{StartError, shards};
use crate::attach::control::Joining;
use crate::attach::plane::devices;
use crate::config::NodeConfig;
use crate::config::node::{FleetConfig, JournalSettings, MqttTarget, ScanCore, WorldConfig};
use crate::config::target::{AMQP_TLS, HTTP_TLS, MQTT_TLS, URLS};
use crate::state_dir::StateDir;

/// Rows kept beside those of the own fleet, for peers that come by.
const ROWS_SPARE: u32 = 4_096;

pub(super) fn config_error(key: &str, error: impl std::fmt::Display) -> StartError {
    StartError::Config(format!("`{key}`: {error}"))
}

/// An address of a key, resolved.
pub(crate) fn address(key: &'static str, text: &str) -> Result<SocketAddr, StartError> {
    let found = text.to_socket_addrs().map_err(|error| {
        config_error(
            key,
            format!("{text} is no HOST:PORT that can be resolved: {error}"),
        )
    })?;
    let mut found: Vec<_> = found.collect();
    // IPv4 first: the default listener is on 127.0.0.1, and localhost may be both.
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| config_error(key, format!("{text} has no address")))
}

/// The node's certificate: its own directory's, or one of the site authority in the state
/// directory, made on first start.
pub(super) fn identity(config: &NodeConfig, state_dir: &StateDir) -> Result<Identity, StartError> {
    if let Some(dir) = &config.transport.identity {
        return Identity::load(dir).map_err(|error| config_error("transport.identity", error));
    }
    let layer = |error| StartError::Layer {
        layer: "site authority",
        reason: format!("{error}"),
    };
    let site = Site::open_or_create(&config.transport.site).map_err(layer)?;
    let dir = state_dir.path().join("identity");
    site.identity(&config.name, "*", &dir).map_err(layer)
}

/// The twin.
pub(super) fn twin(
    config: &NodeConfig,
    world: &WorldConfig,
    system: &System,
) -> Result<Twin, StartError> {
    let sensors = 7;
    let own = config
        .fleet
        .as_ref()
        .map_or(0, |fleet| fleet.devices.saturating_mul(sensors));
    let capacity = world
        .capacity
        .unwrap_or_else(|| own.saturating_add(ROWS_SPARE));
    let defaults = ScanConfig::default();
    let scan = ScanConfig {
        period: world.period,
        core: match config.scan_core {
            ScanCore::Core(core) => Some(core),
            ScanCore::Auto | ScanCore::None => None,
        },
        pin: config.scan_core != ScanCore::None,
        priority: world.priority.max(1),
        fifo: world.priority > 0,
        lock_memory: world.lock_memory,
        capacity,
        capacity_max: defaults.capacity_max.max(capacity),
        walk_every: world.walk_every,
        overrun: world.overrun,
        watchdog: world.watchdog,
        on_wedged: Some(OnWedged(Arc::new(end_process))),
        ..defaults
    };
    // Checked with the rest of the configuration; a file may have changed since.
    let rule_set = crate::config::rules::read(&world.rule_files)
        .map_err(|errors| StartError::Config(errors.to_string()))?;
    let twin = TwinConfig {
        scan,
        rule_set,
        row_files: world.row_files.clone(),
        journal: journal(&config.journal),
        command_deadline: config.tiers.t3_deadline,
        synthetic_rate: config.tiers.t3_synthetic_rate,
        rules: WorldRules {
            stale_after: world.stale_after,
            windows: world.windows.clone(),
            ..WorldRules::default()
        },
    };
    Twin::new(twin, system.clock().clone()).map_err(|error| StartError::Layer {
        layer: "twin",
        reason: error.to_string(),
    })
}

/// A world whose cycle does not end, or whose building, can be neither left nor replaced: the
/// service manager starts the node again, and the journal has what was acknowledged.
fn end_process(wedged: &Wedged) {
    tracing::error!("the scan is wedged: {wedged}; the process ends");
    std::process::exit(1);
}

fn journal(config: &JournalSettings) -> JournalConfig {
    let kept = match &config.dir {
        Some(dir) => JournalConfig::in_directory(dir.clone()),
        None => JournalConfig::in_memory(),
    };
    JournalConfig {
        size_max: config.size_max,
        sync_interval: config.sync_interval,
        ledger: config.ledger,
        ..kept
    }
}

/// The listening side, its sockets bound.
pub(super) fn transport(
    config: &NodeConfig,
    carriers: &Carriers,
    twin: &Twin,
    identity: &Identity,
    stats: &Arc<TransportStats>,
    policies: &Policies,
) -> Result<Transport, StartError> {
    let plain = config.transport.plain_listen.as_deref();
    let commands = carriers.commands().map(|runtime| CommandsConfig {
        port: config.transport.commands_port,
        runtime,
    });
    let config = TransportConfig {
        node: config.name.clone(),
        commands,
        listen: address("transport.listen", &config.transport.listen)?,
        plain: plain
            .map(|text| address("transport.plain.listen", text))
            .transpose()?,
        identity: identity.clone(),
        network: config.transport.line.map_or(Network::Udp, Network::Line),
        limits: Limits {
            devices: config.transport.devices_max,
            ..Limits::default()
        },
    };
    let opened = Transport::open(
        &carriers.net,
        config,
        twin.inlets(),
        Arc::clone(stats),
        policies,
    );
    opened.map_err(|error| match error {
        BindError::Cert(error) => config_error("transport.identity", error),
        other => StartError::Bind(other.to_string()),
    })
}

/// The `/twin` subtree, its output connected.
pub(crate) fn twin_subtree(
    twin: &Twin,
    (transport, commands): (&Transport, Option<Handle>),
    policies: &Policies,
) -> ChildSpec {
    let outlets = Outlets {
        commands: transport.t3().clone(),
        sessions: Arc::clone(transport.sessions()),
        stats: Arc::clone(transport.stats()),
        runtime: commands,
    };
    let spec = twin.supervisor(outlets, Default::default());
    ChildSpec::supervisor("twin", spec.configured(policies))
}

/// The devices, compiled, and the shards they will run on.
pub(super) fn fleet(
    config: &NodeConfig,
    fleet: &FleetConfig,
    system: &System,
    stats: &Arc<TransportStats>,
) -> Result<FleetLayer, StartError> {
    let loaded =
        // Checked with the rest of the configuration; the file may have changed since.
        Profile::load(&fleet.profile).map_err(|errors| StartError::Config(render_all(&errors)))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let protocol = loaded.profile.protocol;
    let publishers = Publishers::of(config)?;
    let asked = (&loaded.profile, fleet.devices);
    let plan = broker(config, asked, (Arc::default(), &publishers))?;
    let by_tiers = matches!(protocol, ProfileProtocol::Quic | ProfileProtocol::Console);
    if plan.is_none() && !by_tiers {
        tracing::warn!(
            "profile {}: no target for {}; its devices send over the QUIC tiers",
            fleet.profile,
            protocol.name(),
        );
    }
    if fleet.devices > 0 {
        unused_targets(config, &fleet.profile, protocol);
    }
    let population = (fleet.devices > 0).then(|| {
        let profile = Arc::new(loaded.profile);
        let mut population = Population::new("default", profile, fleet.devices, config.seed);
        population.interval = fleet.interval;
        population.plan = plan.clone();
        paced(population, config)
    });
    let layer = |layer| move |reason: String| StartError::Layer { layer, reason };
    let shards = ShardHost::start(system, &config.shards)
        .map_err(|error| layer("shards")(error.to_string()))?;
    let on_broker = population.as_ref().is_some_and(|one| one.plan.is_some());
    let has_twin = config.world.is_some() || config.transport.twin.is_some();
    let uplink = match on_broker || !has_twin {
        true => Uplink::Brokers,
        false => Uplink::Links {
            node: config.name.clone(),
            stats: Arc::clone(stats),
        },
    };
    let populations = population.into_iter().collect();
    let printer = printer(config)?;
    let fleet = Fleet::printing(system, populations, shards.shards().len(), uplink, printer)
        .map_err(|error| StartError::Config(error.to_string()))?;
    if config.journal.ledger {
        let links = fleet.links();
        links.iter().for_each(|link| link.outbox().keep_ledger());
    }
    Ok(FleetLayer {
        fleet,
        shards,
        config: config.clone(),
        publishers,
        wires: Wires::new(config.seed ^ seed::fnv1a64("lines"), config.transport.line),
        last: OnceLock::new(),
        published: OnceLock::new(),
    })
}

/// Says which broker no device talks to: whoever gave it expects otherwise.
fn unused_targets(config: &NodeConfig, profile: &str, spoken: ProfileProtocol) {
    let unused = |(_, of): &&(_, _)| *of != spoken && config.targets.has(*of);
    for (key, of) in URLS.iter().filter(unused) {
        let (of, spoken) = (of.name(), spoken.name());
        tracing::warn!(
            "`{key}` is given, and profile {profile} says `protocol: {spoken}`: nothing is sent \
             there until devices of a profile that says `protocol: {of}` are started"
        );
    }
}

/// At the rates of the configuration.
fn paced(mut population: Population, config: &NodeConfig) -> Population {
    if let Some(rate) = config.tiers.t1_rate {
        population.t1 = rate > 0.0;
        if rate > 0.0 {
            population.interval = Some(Duration::from_secs_f64(1.0 / rate));
        }
    }
    if let Some(rate) = config.tiers.t2_rate {
        population.t2 = rate > 0.0;
        let period = (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate));
        population.t2_period = period;
    }
    let printed = config.targets.console.is_some();
    let has_twin = config.world.is_some() || config.transport.twin.is_some();
    if printed && (population.profile.protocol == ProfileProtocol::Console || !has_twin) {
        (population.t1, population.t2) = (false, false); // lines are all that it sends
    }
    population
}

/// Where samples are printed, if anywhere.
fn printer(config: &NodeConfig) -> Result<Option<Printer>, StartError> {
    let printer = config.targets.console.as_deref().map(|path| {
        let printer = Printer::to(path, false);
        printer.map_err(|error| {
            config_error(
                "targets.console.file",
                format!("{}: {error}", path.display()),
            )
        })
    });
    printer.transpose()
}

/// Devices that join a running fleet.
pub(super) fn joining(layer: &FleetLayer, joining: &Joining) -> Result<Population, String> {
    let population = devices::population(&layer.fleet, joining, layer.config.seed)?;
    let population = on_its_way(layer, population)?;
    Ok(paced(population, &layer.config))
}

/// Devices that a remote client starts: their seed, rates and way to a broker are the node's.
pub(super) fn remote(layer: &FleetLayer, mut population: Population) -> Result<Population, String> {
    population.seed = layer.config.seed;
    on_its_way(layer, population)
}

/// The same with a way to its broker; it counts where others of its protocol do.
fn on_its_way(layer: &FleetLayer, mut population: Population) -> Result<Population, String> {
    let stats = layer.fleet.publish_stats(population.profile.protocol);
    let way = (stats.unwrap_or_default(), &layer.publishers);
    let asked = (&*population.profile, population.count);
    let plan = broker(&layer.config, asked, way).map_err(|error| error.to_string())?;
    population.plan = plan;
    Ok(population)
}

/// An MQTT broker as the configuration has it.
#[derive(Debug)]
pub(crate) struct MqttBroker {
    pub(crate) target: Target,
    pub(crate) tls: Option<Terms>,
    pub(crate) options: mqtt::Options,
    pub(crate) credentials: Credentials,
}

/// Reads what the configuration says of a broker.
pub(crate) fn mqtt_broker(
    config: &NodeConfig,
    target: &MqttTarget,
) -> Result<MqttBroker, StartError> {
    let at = self::target(MQTT_TLS.url, &target.url)?;
    Ok(MqttBroker {
        tls: terms_of(config, &at, &target.tls)?,
        target: at,
        options: target.options,
        credentials: mqtt_credentials(config, target)?,
    })
}

/// What a key says where a broker is.
pub(super) fn target(key: &str, url: &str) -> Result<Target, StartError> {
    Target::parse(url).map_err(|error| config_error(key, error))
}

/// The way to a broker, if the profile asks for one and the configuration names it.
pub(crate) fn broker(
    config: &NodeConfig,
    (profile, devices): (&Profile, u32),
    (stats, publishers): (Arc<PublishStats>, &Publishers),
) -> Result<Option<Arc<Plan>>, StartError> {
    let targets = &config.targets;
    let scale = (devices, config.speed);
    let (key, plan) = match profile.protocol {
        ProfileProtocol::Mqtt => {
            let Some(target) = &targets.mqtt else {
                return Ok(None);
            };
            let broker = mqtt_broker(config, target)?;
            let plan = match publishers.pool() {
                Some(pool) => Plan::pooled(profile, &broker.target, pool, scale),
                None => Plan::mqtt(profile, &broker.target, broker.options, scale, stats),
            };
            let plan = plan.map(|plan| Plan {
                tls: broker.tls,
                ..plan.with_credentials(broker.credentials)
            });
            (MQTT_TLS.url, plan)
        }
        ProfileProtocol::Http => {
            let Some(server) = &targets.http else {
                return Ok(None);
            };
            let at = target(HTTP_TLS.url, &server.url)?;
            let authorization = authorization(config, server)?;
            let tls = terms_of(config, &at, &server.tls)?;
            let plan = Plan::http(profile, &at, server.options, scale, stats);
            let plan = plan.map(|plan| Plan {
                tls,
                ..plan.with_authorization(authorization)
            });
            (HTTP_TLS.url, plan)
        }
        ProfileProtocol::Coap => {
            let Some(server) = &targets.coap else {
                return Ok(None);
            };
            const URL: &str = "targets.coap.url";
            let at = target(URL, &server.url)?;
            (URL, Plan::coap(profile, &at, server.options, scale, stats))
        }
        ProfileProtocol::Amqp => {
            let (Some(broker), Some(relays)) = (&targets.amqp, publishers.amqp()) else {
                return Ok(None);
            };
            let at = target(AMQP_TLS.url, &broker.url)?;
            (AMQP_TLS.url, Plan::amqp(profile, &at, relays, scale))
        }
        ProfileProtocol::Quic | ProfileProtocol::Console => return Ok(None),
    };
    plan.map(|plan| Some(Arc::new(plan)))
        .map_err(|error| config_error(key, error))
}

/// Where the links dial, and the name expected there.
pub(super) fn destination(
    config: &NodeConfig,
    own: Option<&Transport>,
) -> Result<(SocketAddr, String), StartError> {
    let name = config.transport.server_name.clone();
    let name = name.unwrap_or_else(|| SITE_SERVER_NAME.to_owned());
    if let Some(twin) = &config.transport.twin {
        return Ok((address("transport.twin", twin)?, name));
    }
    let listening = own.and_then(|transport| transport.local_addr(Listening::Main));
    let mut to = listening.ok_or_else(|| config_error("transport.twin", "is not set"))?;
    if to.ip().is_unspecified() {
        to.set_ip(match to {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok((to, name))
}

/// The `/fleet` subtree: the shards' threads, one link per shard where there is a twin, with its
/// connection for commands, and the publishers.
pub(super) fn fleet_subtree(
    config: &NodeConfig,
    layer: &FleetLayer,
    (own, commands): (Option<&Transport>, Option<Handle>),
    identity: &Identity,
    policies: &Policies,
) -> Result<ChildSpec, StartError> {
    let at = ActorPath::root().join("fleet");
    let mut spec = SupervisorSpec::new(at.clone(), Default::default());
    spec = spec.child(shards::subtree(layer.shards.shards(), policies));
    if !layer.fleet.links().is_empty() {
        let to = destination(config, own)?;
        spec = spec.child(links(config, layer, (to, commands), identity, policies));
    }
    let publishers = &layer.publishers;
    if let Some(child) = publishers.child(config, &layer.fleet, &at, policies) {
        spec = spec.child(child);
    }
    let spec = spec.configured(policies);
    Ok(ChildSpec::supervisor("fleet", spec))
}

fn links(
    config: &NodeConfig,
    layer: &FleetLayer,
    ((twin, server_name), commands): ((SocketAddr, String), Option<Handle>),
    identity: &Identity,
    policies: &Policies,
) -> ChildSpec {
    let at = ActorPath::root().join("fleet");
    let mut links = SupervisorSpec::new(at.join("links"), Default::default());
    for (index, link) in layer.fleet.links().iter().enumerate() {
        let id = index.to_string();
        let spec = LinkSpec {
            twin,
            server_name: server_name.clone(),
            identity: identity.clone(),
            protocol: Protocol::Actorsim1,
            node: config.name.clone(),
            seed: config.seed ^ seed::fnv1a64(&id),
            downlink: layer.fleet.downlink(),
            network: Network::Wires(layer.wires.line(index as u32)),
        };
        if let Some(commands) = &commands {
            let child = commands_child(format!("{id}-commands"), link, spec.clone());
            links = links.child(child.on_runtime(commands.clone()));
        }
        links = links.child(link_child(id, link, spec));
    }
    ChildSpec::supervisor("links", links.configured(policies))
}
