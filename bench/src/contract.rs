//! The names by which others read our numbers, where ours say more: such a number is printed under
//! both.
//!
//! - `loss`: the tier and the loss are the shape, as in `t1-5`; how many entities there were is the
//!   line's size.
//! - `scan`: the entities alone are the shape: the tick is that of 1 % of rows with a reading, what
//!   a scan keeps is that of the live twin.
//!
//! It is a table.

/// Ours, theirs, and the tier that is in theirs.
const LOSS: [(&str, &str, &str); 6] = [
    ("t1_latency_p99", "latency_p99", "t1"),
    ("t1_delivered_ratio", "delivered_ratio", "t1"),
    ("t2_latency_p99", "latency_p99", "t2"),
    ("t2_delivered_ratio", "delivered_ratio", "t2"),
    ("t3_rtt_p99", "latency_p99", "t3"),
    ("t3_delivered_ratio", "delivered_ratio", "t3"),
];

/// The end of our shape, and what is read of it.
const SCAN: [(&str, &str); 5] = [
    ("1", "tick"),
    ("1", "per_entity"),
    ("live", "allocations_per_cycle"),
    ("live", "jitter_p999"),
    ("live", "jitter_max"),
];

/// Shape and metric of a number's other name, if it has one.
pub(crate) fn name_of(scenario: &str, shape: &str, metric: &str) -> Option<(String, &'static str)> {
    let (size, form) = shape.split_once('-')?;
    match scenario {
        "loss" => {
            let percent = form.strip_suffix('%')?;
            let (_, name, tier) = LOSS.iter().find(|(ours, ..)| *ours == metric)?;
            Some((format!("{tier}-{percent}"), name))
        }
        "scan" => {
            let mut names = SCAN.iter();
            let (_, name) = names.find(|(of, ours)| *of == form && *ours == metric)?;
            Some((size.to_owned(), name))
        }
        _ => None,
    }
}

/// Whether a line of this shape says again what another one says.
pub(crate) fn repeats(scenario: &str, shape: &str) -> bool {
    match scenario {
        "loss" => LOSS.iter().any(|(.., tier)| shape.starts_with(tier)),
        "scan" => !shape.contains('-'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{SCENARIOS, Scenario};

    /// Scenario, metrics with their units, and shapes where there are several.
    const CONTRACT: &str = "\
pipeline: readings_per_s 1/s, cpu_s_per_million s, latency_p99 us, rss_bytes B: 1k 100k 1m
memory: bytes_per_actor B: 10k 100k 1m
spawn: actors_per_cpu_s 1/s:
ping-pong: round_trip ns: one-shard two-shards
fan-out: per_message ns, join_balanced us, join_skewed us:
one-way: per_message ns:
cold: up_and_down us:
ring: per_hop ns:
skew: throughput_ratio 1: pinned migrating
idle: core_share 1:
timers: core_share 1, lateness_p99 us:
echo: connections 1, bytes_per_connection B:
restart: restarts_per_cpu_s 1/s, back_in_service_p99 us: fault panic
storm: survivor_lateness_p99 us, recovered s:
quic: readings_per_s 1/s, cpu_s_per_million s, rtt_p99 us: t1-single t1-packed t2 t3
scan: tick us, per_entity ns: 10k 200k 1m 7m
scan: allocations_per_cycle 1, jitter_p999 us, jitter_max us: 10k 200k 1m 7m
journal: events_per_s 1/s, ack_p99 us:
loss: latency_p99 us, delivered_ratio 1: t1-0 t1-1 t1-2 t1-5 t2-0 t2-1 t2-2 t2-5 t3-0 t3-5
loss: tick us, bytes_per_entity B:
mqtt: connected 1, acked_per_s 1/s, publish_p99 ms, bytes_per_device B:
connect-storm: connected 1, all_back s:
tls: connected 1, bytes_per_device B, handshakes_per_core_s 1/s:";

    /// What a scenario says: shape, metric, unit.
    fn said(scenario: &Scenario) -> Vec<(String, &'static str, &'static str)> {
        let mut said = Vec::new();
        for shape in scenario.shapes(&[], false) {
            for metric in scenario.metrics {
                let other = name_of(scenario.name, shape.word(), metric.name);
                said.extend(other.map(|(shape, name)| (shape, name, metric.unit)));
                said.push((shape.word().to_owned(), metric.name, metric.unit));
            }
        }
        said
    }

    #[test]
    fn every_number_of_the_contract_has_its_name() {
        for row in CONTRACT.lines() {
            let [name, metrics, shapes] = row.split(':').collect::<Vec<_>>()[..] else {
                panic!("{row}");
            };
            let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
            let said = said(scenario.unwrap());
            for metric in metrics.split(',') {
                let number = metric.trim().split_once(' ').unwrap();
                let at = |shape: Option<&str>| {
                    let mut said = said.iter();
                    let here = |at: &str| shape.is_none_or(|shape| shape == at);
                    said.any(|(at, name, unit)| here(at) && (*name, *unit) == number)
                };
                assert!(at(None), "{name} {metric}");
                for shape in shapes.split_whitespace() {
                    assert!(at(Some(shape)), "{name} {metric} {shape}");
                }
            }
        }
    }

    #[test]
    fn what_says_a_number_again_is_told_from_what_says_it_first() {
        for scenario in SCENARIOS {
            for shape in scenario.shapes(&[], false) {
                let name = scenario.name;
                assert!(!repeats(name, shape.word()), "{name} {}", shape.word());
                for metric in scenario.metrics {
                    if let Some((other, _)) = name_of(name, shape.word(), metric.name) {
                        assert!(repeats(name, &other), "{name} {other}");
                    }
                }
            }
        }
    }
}
