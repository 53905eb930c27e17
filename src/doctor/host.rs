//! What this host gives a process: read once, judged elsewhere.
//!
//! What cannot be read is `None`. Bound: a few small files, and one ring that is opened and closed.

use std::fs;

use actorsim_actors::shard::{Backend, ShardConfig, ShardCores, ShardHost};
use actorsim_actors::{Clock, System};
use rustix::process::{Resource, getrlimit};

use super::number_in;

/// The bit of CAP_SYS_NICE in a set of capabilities.
const CAP_SYS_NICE: u64 = 1 << 23;
/// The bit of CAP_IPC_LOCK.
const CAP_IPC_LOCK: u64 = 1 << 14;
/// Highest real-time priority there is.
const PRIORITY_MAX: i64 = 99;

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What shards wait on here: `uring` or `portable`.
    pub backend: &'static str,
    /// Files that may be open.
    pub files: Option<u64>,
    /// Local ports of one address.
    pub ports: Option<u64>,
    /// Bytes of memory that are free, within the limit of the group.
    pub memory: Option<u64>,
    /// Cores' worth of time that may be used.
    pub cores: usize,
    /// The cores themselves, lowest first; none if unknown.
    pub allowed: Vec<usize>,
    /// Highest real-time priority that may be asked for.
    pub priority: Option<i64>,
    /// Bytes that may be locked.
    pub memlock: Option<u64>,
    /// Where time comes from.
    pub clock: Option<String>,
}

impl Host {
    /// Looks.
    #[must_use]
    pub fn look() -> Self {
        let capabilities = capabilities();
        let may = |bit: u64| capabilities.is_some_and(|set| set & bit != 0);
        let most = |limit: Resource| getrlimit(limit).current.unwrap_or(u64::MAX);
        Self {
            backend: backend(),
            files: Some(most(Resource::Nofile)),
            ports: ports(),
            memory: memory(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            allowed: ShardCores::allowed(),
            priority: Some(match may(CAP_SYS_NICE) {
                true => PRIORITY_MAX,
                false => i64::try_from(most(Resource::Rtprio)).map_or(PRIORITY_MAX, |most| most),
            }),
            memlock: Some(match may(CAP_IPC_LOCK) {
                true => u64::MAX,
                false => most(Resource::Memlock),
            }),
            clock: clock(),
        }
    }
}

/// Starts one shard in a ring, and tells what a node's shards would wait on.
fn backend() -> &'static str {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return "none";
    };
    let system = System::new(Clock::wall(), runtime.handle().clone());
    let config = ShardConfig {
        shards: 1,
        backend: Backend::Uring,
        ..ShardConfig::default()
    };
    let Ok(host) = ShardHost::start(&system, &config) else {
        return Backend::Portable.label();
    };
    let _ = runtime.block_on(host.stop()); // it has nothing to lose
    Backend::Uring.label()
}

fn capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn ports() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(last.saturating_sub(first) + 1)
}

fn memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free: u64 = line.split_whitespace().next()?.parse().ok()?;
    let free = free * 1024;
    let most = number_in("/sys/fs/cgroup/memory.max");
    let used = number_in("/sys/fs/cgroup/memory.current");
    let own = most.map(|most| most.saturating_sub(used.unwrap_or(0)));
    Some(own.map_or(free, |own| own.min(free)))
}

fn clock() -> Option<String> {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    fs::read_to_string(path)
        .ok()
        .map(|name| name.trim().to_owned())
}
