//! A fleet whose links have no twin: what devices wrote waits in bounds, and is counted.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::SimShards;
use actorsim_actors::{Clock, System};
use actorsim_fleet::{Fleet, FleetError, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};
use actorsim_transport::{DropReason, OUTBOX_EVENTS_MAX, TransportStats};

struct Rig {
    _runtime: tokio::runtime::Runtime,
    shards: SimShards,
    fleet: Fleet,
    stats: Arc<TransportStats>,
}

fn rig(profile: Profile, count: u32, shards: usize) -> Rig {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let system = System::new(Clock::virtual_from(0), runtime.handle().clone());
    let sim = SimShards::of(&system, shards);
    let stats = TransportStats::new();
    let population = Population::new("default", Arc::new(profile), count, 3);
    let uplink = Uplink::Links {
        node: "test".to_owned(),
        stats: Arc::clone(&stats),
    };
    let fleet = Fleet::new(&system, vec![population], shards, uplink).unwrap();
    let supervision = Arc::new(Supervision::default());
    fleet
        .start(sim.shards(), &Policies::shipped(), &supervision)
        .unwrap();
    let again = fleet.start(sim.shards(), &Policies::shipped(), &supervision);
    assert_eq!(again, Err(FleetError::Started(shards)));
    Rig {
        _runtime: runtime,
        shards: sim,
        fleet,
        stats,
    }
}

#[test]
fn every_reading_is_waiting_at_a_link_or_counted_as_dropped_there() {
    let mut rig = rig(Profile::load("industrial").unwrap().profile, 600, 2);
    assert_eq!(rig.fleet.links().len(), 2);
    rig.shards
        .run_until(rig.shards.now() + Duration::from_secs(10));
    rig.shards.stop();
    let written = rig.fleet.tally().readings;
    assert_eq!(written, 600 * 7 * 2);
    assert_eq!(rig.stats.t2.created.get(), rig.fleet.tally().events);
    let dropped = rig.stats.t1.dropped.get(DropReason::Sender);
    let depth: u32 = rig
        .fleet
        .links()
        .iter()
        .map(|link| link.addr().depth())
        .sum();
    assert_eq!(dropped, 0);
    // Each block of 64 devices fires together: 448 readings, above the block's target.
    assert!((20..=40).contains(&depth), "{depth} blocks");
    drop(rig.fleet);
    assert_eq!(
        rig.stats.t1.dropped.get(DropReason::Sender),
        written,
        "what waited is counted"
    );
}

#[test]
fn a_full_outbox_blocks_events_and_says_how_many() {
    let text = "type: flip\ntelemetry_interval: 1s\ntelemetry_fields:\n  presence:\n    \
                type: markov\n    states: [0, 1]\n    transition_matrix: [[0, 1], [1, 0]]\n    \
                initial_state: 1\nevents:\n  - {field: presence, below: 1}\n";
    let profile = Profile::parse("flip.yaml", text).unwrap().profile;
    let mut rig = rig(profile, 1_000, 1);
    rig.shards
        .run_until(rig.shards.now() + Duration::from_secs(70));
    let (created, blocked) = (rig.stats.t2.created.get(), rig.stats.t2.blocked.get());
    assert_eq!(created, OUTBOX_EVENTS_MAX as u64);
    assert_eq!(
        rig.fleet.tally().events,
        created,
        "a blocked event is not made"
    );
    // A latch that could not be told stays, so only every second sample of it tries again.
    assert!(
        (1..=70_000 - created).contains(&blocked),
        "{blocked} blocked"
    );
    assert_eq!(rig.fleet.links()[0].outbox().waiting(), OUTBOX_EVENTS_MAX);
}

#[test]
fn a_fleet_without_devices_or_with_doubles_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let system = System::new(Clock::virtual_from(0), runtime.handle().clone());
    let profile = Arc::new(Profile::load("single").unwrap().profile);
    let one = |name: &str, count| Population::new(name, Arc::clone(&profile), count, 1);
    let refused = |populations| {
        Fleet::new(&system, populations, 1, Uplink::Digests { tap: None })
            .unwrap_err()
            .to_string()
    };
    let twice = refused(vec![one("a", 1), one("b", 1)]);
    assert!(twice.contains("of type `single`"), "{twice}");
    assert!(refused(vec![one("a", 0)]).contains("0 devices"));
    assert!(refused(vec![one("a/b", 1)]).contains("is no name"));
}
