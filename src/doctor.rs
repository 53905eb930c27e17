//! `actorsim doctor`: which limit of this host would bite a run, before it starts, with the mend.
//!
//! [`Host`] is what there is, [`Wanted`] what a run needs, [`examine`] the pure comparison. It
//! changes nothing. Bound: a line a limit.

use std::fs;

use actorsim_actors::shard::{Backend, ShardCores};
use actorsim_fleet::Profile;
use actorsim_fleet::broker::plan::CONNECTIONS_PER_ADDRESS;
use actorsim_fleet::profile::Protocol;
use serde::Serialize;

use crate::config::NodeConfig;
use crate::config::node::{ScanCore, cores_of_net};

mod host;

pub use host::Host;

/// Bytes of an idle device of seven sensors, and of its share of the twin.
const DEVICE_BYTES: u64 = 400 + 7 * 80;
/// Bytes more of a device with a connection of its own: session, socket and the kernel's share.
const CONNECTION_BYTES: u64 = 8 * 1024;
/// Bytes that a node takes without any device.
const NODE_BYTES: u64 = 256 << 20;
/// Files that a node opens besides sockets.
const FILES: u64 = 256;

/// How a limit stands to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Far enough.
    Ok,
    /// The run goes, but not as well as it could.
    Warn,
    /// It would bite.
    Fail,
}

impl State {
    /// For people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found, and what is needed.
    pub found: String,
    /// What to do about it; empty if nothing.
    pub mend: String,
}

/// What a run needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Devices.
    pub devices: u64,
    /// Each has a connection of its own, to this address.
    pub target: Option<String>,
    /// Sockets are asked to be files of the process, whatever else the host has.
    pub portable: bool,
    /// Real-time priority of the scan; 0 is none.
    pub priority: i32,
    /// The process is to be locked in memory.
    pub lock_memory: bool,
    /// The core of the scan, if there is one.
    pub scan: Option<ScanCore>,
    /// Those of the shards, if there are any.
    pub shards: Option<ShardCores>,
    /// Those of the network thread.
    pub net: ShardCores,
    /// Real-time priority of the network thread; 0 is none.
    pub net_priority: u8,
    /// That of the thread for commands, if there is one.
    pub commands_priority: Option<u8>,
}

impl Wanted {
    /// By a configuration.
    #[must_use]
    pub fn by(config: &NodeConfig) -> Self {
        let world = config.world.as_ref();
        Self {
            devices: config
                .fleet
                .as_ref()
                .map_or(0, |fleet| u64::from(fleet.devices)),
            target: own_connections(config),
            portable: config.shards.backend == Backend::Portable,
            priority: world.map_or(0, |world| i32::from(world.priority)),
            lock_memory: world.is_some_and(|world| world.lock_memory),
            scan: world.map(|_| config.scan_core),
            shards: config.fleet.as_ref().map(|_| config.shards.cores.clone()),
            net: config.net_cores.clone(),
            net_priority: config.net_priority,
            commands_priority: (config.transport.own_commands).then_some(config.commands_priority),
        }
    }

    fn connections(&self) -> u64 {
        self.target.as_ref().map_or(0, |_| self.devices)
    }

    /// Connections from one local address: more of them go to a loopback broker from as many
    /// addresses as it takes.
    fn connections_per_address(&self) -> u64 {
        let here = |url: &String| url.contains("//127.0.0.1") || url.contains("//localhost");
        match self.target.as_ref().is_some_and(here) {
            true => self.connections().min(u64::from(CONNECTIONS_PER_ADDRESS)),
            false => self.connections(),
        }
    }

    fn bytes(&self) -> u64 {
        NODE_BYTES + self.devices * DEVICE_BYTES + self.connections() * CONNECTION_BYTES
    }
}

/// Where each device has a connection of its own: by its profile's protocol, if there is a target
/// for that.
fn own_connections(config: &NodeConfig) -> Option<String> {
    let (fleet, targets) = (config.fleet.as_ref()?, &config.targets);
    let loaded = Profile::load(&fleet.profile).ok()?; // else `start` says what is wrong with it
    match loaded.profile.protocol {
        Protocol::Mqtt => {
            let mqtt = targets.mqtt.as_ref().filter(|target| target.pool.is_none());
            mqtt.map(|target| target.url.clone())
        }
        Protocol::Http => targets.http.as_ref().map(|target| target.url.clone()),
        Protocol::Coap => targets.coap.as_ref().map(|target| target.url.clone()),
        // One connection for all of them, or a few.
        Protocol::Amqp | Protocol::Quic | Protocol::Console => None,
    }
}

fn check(name: &'static str, state: State, found: String, mend: &str) -> Check {
    let mend = match state {
        State::Ok => String::new(),
        _ => mend.to_owned(),
    };
    Check {
        name,
        state,
        found,
        mend,
    }
}

/// Compares what there is with what a run needs, limit by limit.
#[must_use]
pub fn examine(host: &Host, wanted: &Wanted) -> Vec<Check> {
    vec![
        io_uring(host),
        files(host, wanted),
        ports(host, wanted),
        memory(host, wanted),
        cores(host, wanted),
        fifo(host, wanted),
        memlock(host, wanted),
        clock(host),
    ]
}

fn io_uring(host: &Host) -> Check {
    let state = match host.backend {
        "uring" => State::Ok,
        _ => State::Warn,
    };
    let found = format!("shards use the backend {}", host.backend);
    let mend =
        "allow io_uring: sysctl kernel.io_uring_disabled=0, and no seccomp filter against it";
    check("io_uring", state, found, mend)
}

fn files(host: &Host, wanted: &Wanted) -> Check {
    // Direct descriptors of a ring are no files of the process.
    let sockets = match host.backend {
        "uring" if !wanted.portable => 0,
        _ => wanted.connections(),
    };
    let needed = FILES + sockets;
    let state = match host.files {
        Some(files) if files < needed => State::Fail,
        None => State::Warn,
        _ => State::Ok,
    };
    let limit = host
        .files
        .map_or("unknown".to_owned(), |files| files.to_string());
    let found = format!("{limit} files may be open, {needed} are needed");
    let mend = format!("ulimit -n {needed}, or allow io_uring, whose sockets are no files");
    check("files", state, found, &mend)
}

fn ports(host: &Host, wanted: &Wanted) -> Check {
    let connections = wanted.connections_per_address();
    let state = match host.ports {
        Some(room) if room < connections => State::Fail,
        None if connections > 0 => State::Warn,
        _ => State::Ok,
    };
    let room = host
        .ports
        .map_or("unknown".to_owned(), |room| room.to_string());
    let found = format!("{room} local ports, {connections} connections of one address are wanted");
    let mend = "sysctl net.ipv4.ip_local_port_range='1024 65535', or several target addresses";
    check("ports", state, found, mend)
}

fn memory(host: &Host, wanted: &Wanted) -> Check {
    let needed = wanted.bytes();
    let mib = |bytes: u64| bytes >> 20;
    let state = match host.memory {
        Some(free) if free < needed => State::Fail,
        Some(free) if free < needed * 5 / 4 => State::Warn,
        None => State::Warn,
        _ => State::Ok,
    };
    let free = host
        .memory
        .map_or("unknown".to_owned(), |free| format!("{} MiB", mib(free)));
    let found = format!("{free} free, about {} MiB are needed", mib(needed));
    check(
        "memory",
        state,
        found,
        "fewer devices, or a larger host or memory limit (cgroup)",
    )
}

fn cores(host: &Host, wanted: &Wanted) -> Check {
    let scan = match wanted.scan {
        Some(ScanCore::Core(core)) => Some(core),
        Some(ScanCore::Auto) => host.allowed.last().copied(),
        Some(ScanCore::None) | None => None,
    };
    let mut plan = Vec::new();
    if wanted.scan.is_some() {
        let core = scan.map_or("any core".to_owned(), |core| format!("core {core}"));
        plan.push(match wanted.priority {
            0 => format!("scan on {core}"),
            priority => format!("scan on {core} (FIFO {priority})"),
        });
    }
    match &wanted.shards {
        None => {}
        Some(ShardCores::Any) => plan.push("shards on any core".to_owned()),
        Some(ShardCores::Spread) => plan.push("shards on each core in turn".to_owned()),
        Some(cores) => plan.push(format!("shards on {cores} in turn")),
    }
    let net = cores_of_net(&wanted.net, wanted.scan, &host.allowed);
    let core = match &net[..] {
        [] => "any core".to_owned(),
        [core] => format!("core {core}"),
        cores => format!("cores {}", ShardCores::Listed(cores.to_vec())),
    };
    let of_net = [
        ("network", Some(wanted.net_priority)),
        ("commands", wanted.commands_priority),
    ];
    plan.extend(of_net.iter().filter_map(|(name, priority)| {
        Some(match (*priority)? {
            0 => format!("{name} thread on {core}"),
            priority => format!("{name} thread on {core} (RR {priority} while not busy)"),
        })
    }));
    let found = format!("{} cores: {}", host.cores, plan.join(", "));
    let listed: &[usize] = match &wanted.shards {
        Some(ShardCores::Listed(cores)) => cores,
        _ => &[],
    };
    let asked = scan.map(|core| ("cores.scan", core)).into_iter();
    let asked = asked.chain(listed.iter().map(|core| ("cores.shards", *core)));
    let asked = asked.chain(net.iter().map(|core| ("cores.net", *core)));
    let strange: Vec<_> = asked
        .filter(|(_, core)| !host.allowed.is_empty() && !host.allowed.contains(core))
        .map(|(key, core)| format!("{core} in {key}"))
        .collect();
    if !strange.is_empty() {
        let allowed: Vec<_> = host.allowed.iter().map(usize::to_string).collect();
        let (strange, allowed) = (strange.join(", "), allowed.join(","));
        let mend = format!("there is no core {strange} here: choose among {allowed}");
        return check("cores", State::Warn, found, &mend);
    }
    let state = match host.cores {
        1 if wanted.priority > 0 => State::Warn,
        _ => State::Ok,
    };
    let mend = "the scan shares its core with the shards: give the node two cores";
    check("cores", state, found, mend)
}

fn fifo(host: &Host, wanted: &Wanted) -> Check {
    let most = host.priority.unwrap_or(0);
    let net = wanted.commands_priority.max(Some(wanted.net_priority));
    let needed = wanted.priority.max(i32::from(net.unwrap_or(0)));
    let state = match i64::from(needed) {
        0 => State::Ok,
        needed if needed <= most => State::Ok,
        _ => State::Warn,
    };
    let found = format!("priority {most} may be asked for, {needed} is wanted");
    let mend = "setcap cap_sys_nice+ep on the binary, LimitRTPRIO= in its unit, or \
                scan.priority=0, cores.net_priority=0 and cores.commands_priority=0";
    check("fifo", state, found, mend)
}

fn memlock(host: &Host, wanted: &Wanted) -> Check {
    let needed = if wanted.lock_memory {
        wanted.bytes()
    } else {
        0
    };
    let state = match host.memlock {
        Some(bytes) if bytes < needed => State::Warn,
        None if needed > 0 => State::Warn,
        _ => State::Ok,
    };
    let most = match host.memlock {
        Some(u64::MAX) => "any amount".to_owned(),
        Some(bytes) => format!("{} KiB", bytes >> 10),
        None => "an unknown amount".to_owned(),
    };
    let found = format!(
        "{most} may be locked, about {} MiB are wanted",
        needed >> 20
    );
    let mend = "ulimit -l unlimited, LimitMEMLOCK=infinity in its unit, or world.lock_memory=false";
    check("memlock", state, found, mend)
}

fn clock(host: &Host) -> Check {
    let source = host.clock.as_deref().unwrap_or("unknown");
    let fast = [
        "tsc",
        "kvm-clock",
        "arch_sys_counter",
        "hyperv_clocksource_tsc_page",
    ];
    let state = match fast.contains(&source) {
        true => State::Ok,
        false => State::Warn,
    };
    let found = format!("the clock source is {source}");
    let mend = "a slow clock costs each look a system call: clocksource=tsc, if the host has it";
    check("clock", state, found, mend)
}

/// The first number in a file.
fn number_in(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            backend: "uring",
            files: Some(20_000),
            ports: Some(28_232),
            memory: Some(8 << 30),
            cores: 2,
            allowed: vec![0, 1],
            priority: Some(99),
            memlock: Some(u64::MAX),
            clock: Some("tsc".to_owned()),
        }
    }

    fn states(host: &Host, wanted: &Wanted) -> Vec<(&'static str, State)> {
        let bad = examine(host, wanted).into_iter();
        bad.filter(|check| check.state != State::Ok)
            .map(|check| {
                assert!(!check.mend.is_empty(), "{check:?}");
                (check.name, check.state)
            })
            .collect()
    }

    #[test]
    fn each_limit_that_would_bite_is_named_with_its_mend() {
        let fleet = |devices, url: &str| Wanted {
            devices,
            target: Some(url.to_owned()),
            portable: false,
            priority: 80,
            lock_memory: true,
            scan: Some(ScanCore::Auto),
            ..Wanted::default()
        };
        assert_eq!(
            states(&host(), &fleet(100_000, "mqtt://127.0.0.1:1883")),
            []
        );
        let far = fleet(100_000, "mqtt://10.0.0.9:1883");
        assert_eq!(states(&host(), &far), [("ports", State::Fail)]);
        let without_rings = Host {
            backend: "portable",
            ..host()
        };
        let found = states(&without_rings, &fleet(25_000, "mqtt://127.0.0.1:1883"));
        assert_eq!(found, [("io_uring", State::Warn), ("files", State::Fail)]);
        let asked = Wanted {
            portable: true,
            ..fleet(25_000, "mqtt://127.0.0.1:1883")
        };
        assert_eq!(states(&host(), &asked), [("files", State::Fail)]);
        let narrow = Host {
            ports: Some(100),
            ..host()
        };
        let found = states(&narrow, &fleet(200, "mqtt://127.0.0.1:1883"));
        assert_eq!(
            found,
            [("ports", State::Fail)],
            "few are called from one address"
        );
        let poor = Host {
            memory: Some(100 << 20),
            priority: Some(0),
            memlock: Some(8 << 20),
            clock: Some("hpet".to_owned()),
            ..host()
        };
        let found = states(&poor, &fleet(10, "mqtt://127.0.0.1:1883"));
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["memory", "fifo", "memlock", "clock"]);
        let modest = Wanted::default();
        assert_eq!(
            states(&poor, &modest),
            [("memory", State::Fail), ("clock", State::Warn)]
        );
    }

    #[test]
    fn only_devices_of_the_targets_protocol_have_connections_to_it() {
        let wanted = |profile: &str| {
            let mut layers = crate::config::Layers::built_in();
            for (key, text) in [
                ("fleet.profile", profile),
                ("targets.mqtt.url", "mqtt://10.0.0.9:1883"),
            ] {
                layers.flag("--x", key, text);
            }
            let settings = layers.resolve().unwrap_or_else(|_| panic!("{profile}"));
            Wanted::by(&NodeConfig::from_settings(&settings)).connections()
        };
        assert_eq!((wanted("industrial"), wanted("factory_mqtt")), (0, 1_000));
    }

    #[test]
    fn the_plan_of_the_cores_is_told_and_one_that_is_not_there_is_named() {
        let wanted = Wanted {
            priority: 80,
            scan: Some(ScanCore::Auto),
            shards: Some(ShardCores::Spread),
            net: ShardCores::Spread,
            commands_priority: Some(1),
            ..Wanted::default()
        };
        let told = cores(&host(), &wanted);
        assert_eq!(told.state, State::Ok);
        let plan = "2 cores: scan on core 1 (FIFO 80), shards on each core in turn, \
                    network thread on core 0, commands thread on core 0 (RR 1 while not busy)";
        assert_eq!(told.found, plan);
        let apart = Wanted {
            net_priority: 10,
            commands_priority: Some(11),
            ..wanted.clone()
        };
        let told = cores(&host(), &apart).found;
        let threads = "network thread on core 0 (RR 10 while not busy), \
                       commands thread on core 0 (RR 11 while not busy)";
        assert!(told.ends_with(threads), "{told}");
        let strange = Wanted {
            shards: Some(ShardCores::Listed(vec![0, 7])),
            net: ShardCores::Listed(vec![0, 9]),
            ..wanted
        };
        let told = cores(&host(), &strange);
        assert_eq!(told.state, State::Warn);
        assert_eq!(
            told.mend,
            "there is no core 7 in cores.shards, 9 in cores.net here: choose among 0,1"
        );
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let host = Host::look();
        assert!(
            host.cores >= 1
                && !host.allowed.is_empty()
                && host.files > Some(0)
                && host.memory > Some(0)
        );
        assert_eq!(examine(&host, &Wanted::default()).len(), 8);
    }
}
