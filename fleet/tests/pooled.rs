//! Devices that share connections, against a broker in a cell on real shards: order, faults of one
//! device, killed connections, goodbyes, and brokers that lie, stall and hang up.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "broker_kit/acts.rs"]
mod acts;
#[path = "broker_kit/kit.rs"]
mod kit;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actorsim_actors::shard::{ShardConfig, ShardHost};
use actorsim_actors::{ActorPath, Clock, System};
use actorsim_fleet::broker::{GatewaySpec, Plan, Pool, PublishCounts, Target, gateway_children};
use actorsim_fleet::fault::{Fault, FaultSpec};
use actorsim_fleet::session::backoff::Backoff;
use actorsim_fleet::session::mqtt::{Options, Version};
use actorsim_fleet::session::tls::Terms;
use actorsim_fleet::{Fleet, Injection, Population, Profile, Uplink};
use actorsim_supervision::{
    Policies, Supervision, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root,
};
use kit::{Act, Log};
use rustls::ServerConfig;

const COUNT: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a gateway of a broker that says nothing waits for an answer. On a busy machine it may
/// give up one that would come: that costs a connection more, and is counted.
const HASTY: Duration = Duration::from_millis(600);

type Tls = (Arc<ServerConfig>, Terms);

/// A pool of devices, and the broker that they share it to.
struct Pooled {
    fleet: Fleet,
    pool: Pool,
    root: SupervisorRef,
    log: Arc<Mutex<Log>>,
    name: String,
}

/// Shards for any number of them.
struct Ground {
    system: System,
    shards: ShardHost,
}

impl Ground {
    fn new() -> Self {
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let config = ShardConfig {
            shards: 2,
            ..ShardConfig::default()
        };
        let shards = ShardHost::start(&system, &config).unwrap();
        Self { system, shards }
    }

    /// A pool called `name` of an honest broker.
    async fn pooled(&self, name: &str, (size, version): (u32, Version)) -> Pooled {
        let options = Options {
            version,
            ..Options::default()
        };
        self.like(name, (size, options), None, |_| Act::Honest)
            .await
    }

    /// A pool whose broker does `act` to its connections, by their number.
    async fn like(
        &self,
        name: &str,
        (size, options): (u32, Options),
        tls: Option<&Tls>,
        act: impl Fn(u32) -> Act + Send + 'static,
    ) -> Pooled {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let server = tls.map(|tls| Arc::clone(&tls.0));
        let (log, bound) = kit::start(&self.shards.shards()[0], any, server, act);
        let address = until(|| *bound.lock().unwrap()).await;
        let text = format!(
            "type: {name}\nprotocol: mqtt\ntelemetry_interval: 100ms\ntelemetry_fields:\n  \
             load: {{type: gaussian, mean: 20, stddev: 1}}\n"
        );
        let profile = Profile::parse("pooled.yaml", &text).unwrap().profile;
        let target = Target::parse(&format!("mqtt://{address}")).unwrap();
        let pool = Pool::new(size, 10_000, &Arc::default());
        let plan = Plan::pooled(&profile, &target, &pool, (COUNT, 1.0)).unwrap();
        let mut population = Population::new(name, Arc::new(profile), COUNT, 7);
        population.plan = Some(Arc::new(plan));
        let shards = self.shards.shards();
        let fleet = Fleet::new(
            &self.system,
            vec![population],
            shards.len(),
            Uplink::Brokers,
        )
        .unwrap();
        let at = ActorPath::new(&format!("/{name}")).unwrap();
        let policy = SupervisorPolicy {
            intensity: 100,
            ..SupervisorPolicy::default()
        };
        let mut spec = SupervisorSpec::new(at.clone(), policy);
        let gateways = GatewaySpec {
            address,
            tls: tls.map(|tls| tls.1.clone()),
            options,
            credentials: Default::default(),
            name: name.to_owned(),
            backoff: Backoff {
                min: Duration::from_millis(20),
                max: Duration::from_millis(200),
                ..Backoff::default()
            },
            pool: pool.clone(),
            downlink: fleet.downlink(),
            seed: 7,
        };
        for child in gateway_children(&at, gateways) {
            spec = spec.child(child);
        }
        let root = start_root(&self.system, spec).await.unwrap();
        let supervision = Arc::new(Supervision::default());
        fleet
            .start(shards, &Policies::shipped(), &supervision)
            .unwrap();
        Pooled {
            fleet,
            pool,
            root,
            log,
            name: name.to_owned(),
        }
    }
}

/// Waits until there is something.
async fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let waits = async {
        loop {
            if let Some(found) = found() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.unwrap()
}

impl Pooled {
    fn counts(&self) -> PublishCounts {
        self.pool.stats().read()
    }

    fn id(&self, ordinal: u32) -> String {
        format!("{}-{ordinal:04}", self.name)
    }

    /// Waits until the counts are enough.
    async fn until(&self, enough: impl Fn(&PublishCounts) -> bool) {
        until(|| enough(&self.counts()).then_some(())).await;
    }

    /// Waits until all are announced, and the broker has taken so many samples more.
    async fn works(&self, more: u64) {
        self.until(|now| now.connected == u64::from(COUNT)).await;
        let before = self.counts().acked;
        self.until(|now| now.acked >= before + more).await;
    }

    /// What was said on a topic, in its order.
    fn said(&self, topic: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let own = log.published.iter().filter(|(at, _)| at == topic);
        own.map(|(_, text)| String::from_utf8(text.clone()).unwrap())
            .collect()
    }

    fn statuses(&self, ordinal: u32) -> Vec<String> {
        self.said(&format!("devices/{}/status", self.id(ordinal)))
    }

    /// Stops in the node's order; each sample has an outcome and each device's come in order.
    async fn stop(&self) -> PublishCounts {
        self.fleet.stop().await;
        self.root.stop().await;
        let counts = self.counts();
        let outcome = counts.acked + counts.dropped + counts.refused;
        assert_eq!(counts.sent, outcome, "{}: each has an outcome", self.name);
        assert_eq!(counts.connected, 0, "{}", self.name);
        kit::in_order(&self.log.lock().unwrap());
        counts
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn devices_share_few_connections_and_each_is_announced_and_heard() {
    run(async {
        let ground = Ground::new();
        let rig = ground.pooled("shared", (3, Version::V5)).await;
        rig.works(100).await;
        {
            let log = rig.log.lock().unwrap();
            assert_eq!(log.accepted, 3);
            let mut clients = log.clients.clone();
            clients.sort();
            assert_eq!(clients, ["shared-pool-0", "shared-pool-1", "shared-pool-2"]);
        }
        let commands = |at| format!("devices/{}/commands", rig.id(at));
        let heard = |at| {
            let log = rig.log.lock().unwrap();
            log.subscribed.contains(&commands(at))
        };
        until(|| (0..COUNT).all(heard).then_some(())).await;
        let counts = rig.stop().await;
        assert_eq!((counts.connects, counts.errors), (3, 0));
        assert_eq!((counts.dropped, counts.refused), (0, 0));
        let goodbyes = || rig.log.lock().unwrap().goodbyes;
        until(|| (goodbyes() == 3).then_some(())).await;
        assert_eq!(rig.log.lock().unwrap().wills, 0);
        for at in 0..COUNT {
            assert_eq!(rig.statuses(at), ["online", "offline"]);
        }
        for lane in 0..3 {
            let topic = format!("gateways/shared-pool-{lane}/status");
            assert_eq!(rig.said(&topic), ["online", "offline"]);
        }
        ground.shards.stop().await.unwrap();
    });
}

#[test]
fn a_fault_of_one_device_is_its_own() {
    run(async {
        let ground = Ground::new();
        let rig = ground.pooled("faulty", (2, Version::V311)).await;
        rig.works(40).await;
        let telemetry = |at| rig.said(&format!("devices/{}/telemetry", rig.id(at))).len();
        let spec = FaultSpec {
            fault: Fault::Disconnect,
            duration: None,
        };
        let inject = |injection| rig.fleet.inject(&rig.id(4), injection).unwrap();
        inject(Injection::Fault(spec));
        let lost = |at: u32| rig.statuses(at).last().is_some_and(|last| last == "lost");
        until(|| lost(4).then_some(())).await;
        let before = (telemetry(4), telemetry(6));
        until(|| (telemetry(6) >= before.1 + 3).then_some(())).await;
        assert!(telemetry(4) <= before.0 + 1, "one was on its way");
        inject(Injection::Revert(None));
        until(|| (telemetry(4) >= before.0 + 3).then_some(())).await;
        assert_eq!(rig.statuses(4), ["online", "lost", "online"]);
        rig.fleet.kill(&rig.id(5)).unwrap();
        until(|| (rig.statuses(5) == ["online", "lost", "online"]).then_some(())).await;
        assert_eq!(rig.statuses(6), ["online"]);
        let counts = rig.stop().await;
        assert_eq!((counts.connects, counts.errors), (2, 0));
        assert_eq!(rig.log.lock().unwrap().wills, 0);
        ground.shards.stop().await.unwrap();
    });
}

#[test]
fn devices_that_come_while_others_are_subscribed_for_are_there_once_they_hear_commands() {
    run(async {
        let ground = Ground::new();
        let rig = ground.pooled("waves", (1, Version::V311)).await;
        rig.works(40).await;
        for at in 0..COUNT {
            rig.fleet.kill(&rig.id(at)).unwrap();
        }
        let back = |at: u32| rig.statuses(at) == ["online", "lost", "online"];
        until(|| (0..COUNT).all(back).then_some(())).await;
        let counts = rig.stop().await;
        assert_eq!((counts.connects, counts.errors), (1, 0));
        let subscribed = rig.log.lock().unwrap().subscribed.len();
        assert_eq!(subscribed, 2 * COUNT as usize, "each anew");
        ground.shards.stop().await.unwrap();
    });
}

#[test]
fn a_connection_that_is_killed_goes_on_where_it_was_and_its_will_is_published() {
    run(async {
        let ground = Ground::new();
        let rig = ground.pooled("killed", (2, Version::V5)).await;
        for round in 1..=5 {
            rig.works(20).await;
            let path = ActorPath::new("/killed/mqtt-1").unwrap();
            ground.system.census().task(&path).unwrap().kill();
            rig.until(|now| now.connects == 2 + round).await;
        }
        rig.works(20).await;
        let wills = || rig.log.lock().unwrap().wills;
        until(|| (wills() == 5).then_some(())).await;
        assert_eq!(rig.statuses(0), ["online"], "on the other connection");
        // told on each connection
        until(|| (rig.statuses(1) == ["online"; 6]).then_some(())).await;
        let counts = rig.stop().await;
        assert_eq!((counts.errors, counts.dropped, counts.refused), (0, 0, 0));
        ground.shards.stop().await.unwrap();
    });
}

#[test]
fn a_pool_survives_a_hostile_broker_and_no_other_notices() {
    let dir = tempfile::tempdir().unwrap();
    let (_, server, terms) = kit::authority(dir.path());
    let over_tls = (server, terms);
    run(async {
        let ground = Ground::new();
        let honest = ground.pooled("other", (1, Version::V5)).await;
        let mut rigs = Vec::new();
        for (at, act) in acts::acts().into_iter().enumerate() {
            let options = Options {
                version: [Version::V311, Version::V5][at % 2],
                answer_timeout: HASTY,
                ..Options::default()
            };
            let tls = (at % 3 == 0).then_some(&over_tls);
            let bad = move |number| if number < 2 { act } else { Act::Honest };
            let name = format!("act{at}");
            let rig = ground.like(&name, (1, options), tls, bad).await;
            rigs.push((act, rig));
        }
        for (act, rig) in &rigs {
            let well = rig.counts();
            println!("{act:?}: {} errors", well.errors);
            rig.works(u64::from(COUNT)).await;
            // what is cut later than all that it says is honest
            let accepted = rig.log.lock().unwrap().accepted;
            let counts = rig.stop().await;
            assert_eq!((counts.dropped, counts.refused), (0, 0), "{act:?}");
            assert_eq!(u64::from(accepted) - 1, counts.errors, "{act:?}");
        }
        let counts = honest.stop().await;
        assert_eq!((counts.errors, counts.connects), (0, 1));
        assert_eq!(counts.acked, counts.sent);
        ground.shards.stop().await.unwrap();
    });
}
