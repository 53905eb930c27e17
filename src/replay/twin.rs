//! A recording to a twin: readings on the tier T1, events on T2, over one link.
//!
//! Readings go as they were recorded, stamps and sequences included; events get a life of their
//! own, so that a twin that has seen the recording before takes them again. Bound: the link's
//! outbox; a twin that is slower delays the recording.

use std::net::SocketAddr;
use std::sync::Arc;

use actorsim_actors::{ActorPath, Clock, System};
use actorsim_fleet::wire::Way;
use actorsim_supervision::{Policies, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::{
    DeviceRange, Downlink, DownlinkError, EventKey, Identity, Link, LinkSpec, Network, OutEvent,
    Protocol, READING_LEN, Registration, SensorSpec, SensorType, Ticket, Tier, TransportStats,
    WireCommand, link_child, session_id,
};
use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::log::{GROUP, Record, Survey};
use super::play::{Target, comes_true, sleep as rest_until};

/// Digits of a device's number at least.
const NAME_DIGITS: u8 = 4;

/// Commands find nobody: a recording does not listen.
#[derive(Debug)]
struct Nobody;

impl Downlink for Nobody {
    fn command(&self, _: Ticket, _: WireCommand) -> Result<(), DownlinkError> {
        Err(DownlinkError::UnknownDevice)
    }
}

/// A link that plays.
#[derive(Debug)]
pub struct TwinTarget {
    link: Link,
    root: SupervisorRef,
    stats: Arc<TransportStats>,
    epoch: u32,
}

impl TwinTarget {
    /// Connects to a twin and announces the devices of a recording.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn connect(
        (twin, server_name): (SocketAddr, String),
        identity: Identity,
        survey: &Survey,
    ) -> Result<Self, String> {
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let started = system.clock().unix_us();
        let stats = TransportStats::new();
        let node = format!("replay-{}", std::process::id());
        let path = ActorPath::root().join("replay");
        let session = session_id(&node, path.as_str(), started);
        let link = Link::new(path, session, Arc::clone(&stats));
        let kinds = survey.kinds.iter().zip(&survey.devices).zip(&survey.groups);
        for ((kind, devices), groups) in kinds {
            let spec = |(sensor, _, of): &(u16, String, u8)| {
                let kind = SensorType::try_from(*of).ok()?;
                Some(SensorSpec {
                    sensor: *sensor,
                    kind,
                })
            };
            let sensors: Arc<[SensorSpec]> = kind.sensors.iter().filter_map(spec).collect();
            for group in groups {
                let first = group * GROUP;
                let devices = DeviceRange {
                    prefix: format!("{}-", kind.device_type),
                    first,
                    count: GROUP.min(devices - first),
                    width: NAME_DIGITS,
                };
                let sensors = Arc::clone(&sensors);
                let registered = link.register(Registration { devices, sensors });
                registered.map_err(|error| error.to_string())?;
            }
        }
        let spec = LinkSpec {
            twin,
            server_name,
            identity,
            protocol: Protocol::Actorsim1,
            node,
            seed: started,
            downlink: Arc::new(Nobody),
            network: Network::Udp,
        };
        let top = SupervisorSpec::new(ActorPath::root(), Default::default());
        let child = link_child("replay".to_owned(), &link, spec);
        let top = top.child(child).configured(&Policies::shipped());
        let root = top.reference();
        let started_root = start_root(&system, top).await;
        started_root.map_err(|error| error.to_string())?;
        let target = Self {
            link,
            root,
            stats,
            epoch: (started / 10_000) as u32,
        };
        match comes_true(|| target.link.is_connected()).await {
            true => Ok(target),
            false => {
                target.root.stop().await;
                Err(format!("no twin answers at {twin}"))
            }
        }
    }

    async fn acknowledges_all(&self) -> bool {
        comes_true(|| self.link.outbox().waiting() == 0).await
    }
}

impl Target for TwinTarget {
    async fn take(&mut self, record: &Record<'_>) -> Result<u64, String> {
        match record.way {
            Way::Tier(Tier::T1) => {
                let block = Bytes::copy_from_slice(record.bytes);
                let taken = self.link.telemetry(block);
                taken.map_err(|error| format!("a reading cannot be read: {error}"))?;
                Ok((record.bytes.len() / READING_LEN) as u64)
            }
            Way::Tier(Tier::T2) => {
                let events: Vec<OutEvent> = record
                    .events()
                    .map(|(reading, event)| OutEvent {
                        reading,
                        key: EventKey {
                            epoch: self.epoch,
                            event,
                        },
                    })
                    .collect();
                let mut rest = &events[..];
                while !rest.is_empty() {
                    rest = &rest[self.link.events(rest)..];
                    if !rest.is_empty() && !self.acknowledges_all().await {
                        return Err("the twin takes no events".to_owned());
                    }
                }
                Ok(events.len() as u64)
            }
            Way::Tier(Tier::T3) | Way::Stream | Way::Datagram => Ok(0),
        }
    }

    async fn rest(&mut self, until: tokio::time::Instant) -> Result<(), String> {
        rest_until(until).await
    }

    async fn close(self) -> Result<Json, String> {
        let all = self.acknowledges_all().await;
        self.root.stop().await;
        let (t1, t2) = (&self.stats.t1, &self.stats.t2);
        let counted = json!({
            "readings": t1.sent.get(), "events": t2.created.get(), "acked": t2.acked.get(),
        });
        match all {
            true => Ok(counted),
            false => Err("the twin did not acknowledge all events".to_owned()),
        }
    }
}
