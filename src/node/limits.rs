//! Which limit of its host or its configuration has bitten a node, in words, with the mend.
//!
//! A load generator that is the bottleneck must say so. Pure: from counters to lines. Bound: a line
//! a limit.

use actorsim_actors::shard::ShardStats;
use actorsim_fleet::broker::PublishCounts;

use super::layers::Layers;
use crate::report::Limit;

/// What is looked at.
#[derive(Debug, Default)]
struct Seen {
    /// Samples that were skipped because their shard was late.
    ticks_missed: u64,
    /// Messages given up for want of room.
    dropped: u64,
    /// Events that waited in vain for room.
    blocked: u64,
    no_ports: u64,
    no_files: u64,
    table_full: u64,
    no_memory: u64,
}

impl Seen {
    fn of(shards: &[ShardStats], dropped: u64, blocked: u64) -> Self {
        let mut seen = Self {
            dropped,
            blocked,
            ..Self::default()
        };
        for shard in shards {
            let ends = &shard.net.ends;
            seen.ticks_missed += shard.ticks_missed;
            seen.no_ports += ends.no_ports;
            seen.no_files += ends.no_files;
            seen.table_full += ends.table_full;
            seen.no_memory += ends.no_memory;
        }
        seen
    }

    fn told(&self) -> Vec<Limit> {
        let all = [
            (
                "late_ticks",
                self.ticks_missed,
                "samples were skipped because shards were late",
                "fewer devices, a longer interval, or more cores",
            ),
            (
                "outboxes",
                self.dropped,
                "messages were given up in full outboxes",
                "a faster broker, fewer messages, or a larger outbox",
            ),
            (
                "events",
                self.blocked,
                "events found no room on their link",
                "a faster twin, or fewer events",
            ),
            (
                "ports",
                self.no_ports,
                "connections found no local port",
                "widen net.ipv4.ip_local_port_range, or use more local addresses",
            ),
            (
                "files",
                self.no_files,
                "sockets found no file descriptor",
                "raise the limit of open files (ulimit -n)",
            ),
            (
                "sockets",
                self.table_full,
                "sockets found the shard's table full",
                "raise shards.net.sockets_max, or use more shards",
            ),
            (
                "memory",
                self.no_memory,
                "sockets found no memory in the kernel",
                "raise net.ipv4.tcp_mem, or use fewer connections",
            ),
        ];
        let bitten = all.into_iter().filter(|(_, count, ..)| *count > 0);
        bitten
            .map(|(name, count, what, mend)| Limit {
                name: name.to_owned(),
                count,
                text: format!("{count} {what}"),
                mend: mend.to_owned(),
            })
            .collect()
    }
}

/// The limits that have bitten so far.
pub(super) fn bitten(layers: &Layers) -> Vec<Limit> {
    let Some(layer) = &layers.fleet else {
        return Vec::new();
    };
    let shards: Vec<_> = layer
        .shards
        .shards()
        .iter()
        .map(|shard| shard.stats())
        .collect();
    let published = layer.fleet.published();
    let blocked = layers.stats.t2.blocked.get();
    let full = |counts: &PublishCounts| counts.dropped.saturating_sub(counts.abandoned);
    let dropped = published.iter().map(|one| full(&one.counts)).sum();
    Seen::of(&shards, dropped, blocked).told()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_bitten_is_told_with_its_mend_and_nothing_else_is() {
        assert!(Seen::default().told().is_empty());
        let mut shard = ShardStats {
            ticks_missed: 3,
            ..ShardStats::default()
        };
        shard.net.ends.no_ports = 2;
        let told = Seen::of(&[shard, shard], 0, 0).told();
        let names: Vec<_> = told
            .iter()
            .map(|limit| (limit.name.as_str(), limit.count))
            .collect();
        assert_eq!(names, [("late_ticks", 6), ("ports", 4)]);
        assert!(told[1].mend.contains("ip_local_port_range"));
    }
}
