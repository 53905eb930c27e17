//! A fleet on simulated shards, and what its devices wrote.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actorsim_actors::shard::SimShards;
use actorsim_actors::{Clock, System};
use actorsim_fleet::wire::{Way, WireRecord, WireTap};
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};
use actorsim_transport::{
    Downlink, DownlinkError, Reading, SensorType, Ticket, Tier, WireCommand, device_uuid,
};

/// 2026-01-01T00:00:00Z.
pub(crate) const EPOCH_US: u64 = 1_767_225_600_000_000;

/// What devices wrote: readings of T1 and of T2, statuses of T3, by ordinal.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) t1: BTreeMap<u32, Vec<Reading>>,
    pub(crate) t2: BTreeMap<u32, Vec<(Reading, u64)>>,
    pub(crate) t3: BTreeMap<u32, Vec<u8>>,
}

impl Seen {
    pub(crate) fn take(&mut self, record: &WireRecord<'_>) {
        let reading = |bytes: &[u8]| Reading::decode(bytes[..39].try_into().unwrap()).unwrap();
        let at = record.ordinal;
        match record.way {
            Way::Tier(Tier::T1) => {
                let readings = record.bytes.chunks(39).map(reading);
                self.t1.entry(at).or_default().extend(readings);
            }
            Way::Tier(Tier::T2) => {
                self.t2
                    .entry(at)
                    .or_default()
                    .extend(record.bytes.chunks(51).map(|bytes| {
                        (
                            reading(bytes),
                            u64::from_le_bytes(bytes[43..51].try_into().unwrap()),
                        )
                    }))
            }
            Way::Tier(Tier::T3) => self.t3.entry(at).or_default().extend(record.bytes),
            Way::Stream | Way::Datagram => {}
        }
    }

    pub(crate) fn of(&self, ordinal: u32, kind: SensorType) -> Vec<Reading> {
        self.t1[&ordinal]
            .iter()
            .filter(|reading| reading.kind == kind)
            .copied()
            .collect()
    }
}

pub(crate) struct Rig {
    _runtime: tokio::runtime::Runtime,
    pub(crate) shards: SimShards,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) clock: Clock,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl Rig {
    pub(crate) fn new(profile: &str, count: u32, seed: u64, shards: usize) -> Self {
        Self::with(profile, shards, |profile| {
            Population::new("default", profile, count, seed)
        })
    }

    pub(crate) fn with(
        profile: &str,
        shards: usize,
        population: impl FnOnce(Arc<Profile>) -> Population,
    ) -> Self {
        Self::under(&Policies::shipped(), profile, shards, population)
    }

    pub(crate) fn under(
        policies: &Policies,
        profile: &str,
        shards: usize,
        population: impl FnOnce(Arc<Profile>) -> Population,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let system = System::new(Clock::virtual_from(EPOCH_US), runtime.handle().clone());
        let sim = SimShards::of(&system, shards);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let tapped = Arc::clone(&seen);
        let tap: WireTap = Arc::new(move |record| tapped.lock().unwrap().take(record));
        let profile = if profile.contains('\n') {
            Profile::parse("test.yaml", profile).unwrap()
        } else {
            Profile::load(profile).unwrap()
        };
        let population = population(Arc::new(profile.profile));
        let uplink = Uplink::Digests { tap: Some(tap) };
        let fleet = Fleet::new(&system, vec![population], shards, uplink).unwrap();
        let supervision = Arc::new(Supervision::default());
        fleet.start(sim.shards(), policies, &supervision).unwrap();
        let clock = system.clock().clone();
        Self {
            _runtime: runtime,
            shards: sim,
            fleet: Arc::new(fleet),
            clock,
            seen,
        }
    }

    pub(crate) fn run(&mut self, seconds: u64) {
        let end = self.shards.now() + Duration::from_secs(seconds);
        self.shards.run_until(end);
    }

    /// Completes a question to a device: virtual shards answer when they are stepped.
    pub(crate) fn answer<T>(&mut self, question: impl Future<Output = T>) -> T {
        let mut question = pin!(question);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..10 {
            if let Poll::Ready(answer) = question.as_mut().poll(&mut cx) {
                return answer;
            }
            self.shards.settle();
        }
        panic!("no answer");
    }

    pub(crate) fn command(&self, ordinal: u32, id: u64, value: f64) -> Result<(), DownlinkError> {
        let command = WireCommand {
            device: device_uuid(&format!("industrial-{ordinal:04}")),
            sensor: 6,
            kind: SensorType::Relay,
            value,
            id,
            left: Some(Duration::from_secs(1)),
        };
        self.fleet.downlink().command(Ticket(id), command)
    }

    pub(crate) fn last(&self, ordinal: u32, kind: SensorType) -> f64 {
        self.seen
            .lock()
            .unwrap()
            .of(ordinal, kind)
            .last()
            .unwrap()
            .value
    }
}
