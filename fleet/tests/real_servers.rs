//! Devices on rings and threads against nginx (`ACTORSIM_NGINX`; over mutual TLS at
//! `ACTORSIM_NGINX_TLS`, with certificates of the site authority in `ACTORSIM_TLS_SITE`) and
//! libcoap's server (`ACTORSIM_COAP`, started with `-d 100`, so that a PUT makes a resource).
//!
//! Without them the tests are skipped, and say so; where `CI` is set they fail instead.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{Backend, ShardConfig, ShardHost};
use actorsim_actors::{Clock, System};
use actorsim_fleet::broker::{Plan, PublishCounts, Target};
use actorsim_fleet::session::coap::packet::{Code, Kind, Packet, Writer};
use actorsim_fleet::session::tls::Terms;
use actorsim_fleet::session::{coap, http};
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};
use actorsim_transport::certs::{Site, stream};
use serde_json::Value;

const COUNT: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(120);
const BACKENDS: [Backend; 2] = [Backend::Auto, Backend::Portable];

fn server(name: &str) -> Option<String> {
    let address = std::env::var(name).ok();
    if address.is_none() {
        let in_ci = std::env::var_os("CI").is_some();
        assert!(!in_ci, "{name} is not set, and CI has that server");
        println!("skipped: set {name}");
    }
    address
}

fn profile(protocol: &str, site: &str) -> Profile {
    let site = format!("{site}_{}", std::process::id());
    let text = format!(
        "type: {site}\nprotocol: {protocol}\ntelemetry_interval: 100ms\ntelemetry_fields:\n  \
         temperature: {{type: gaussian, mean: 20, stddev: 1}}\n  \
         relay: {{type: static, value: 1, actuator: true}}\n"
    );
    Profile::parse("site.yaml", &text).unwrap().profile
}

struct Rig {
    runtime: tokio::runtime::Runtime,
    fleet: Fleet,
    shards: ShardHost,
}

impl Rig {
    fn new(profile: Profile, plan: Plan, backend: Backend) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let system = System::new(Clock::wall(), runtime.handle().clone());
        let config = ShardConfig {
            shards: 2,
            backend,
            ..ShardConfig::default()
        };
        let shards = ShardHost::start(&system, &config).unwrap();
        let mut population = Population::new("default", Arc::new(profile), COUNT, 7);
        population.plan = Some(Arc::new(plan));
        let fleet = Fleet::new(&system, vec![population], 2, Uplink::Brokers).unwrap();
        let supervision = Arc::new(Supervision::default());
        fleet
            .start(shards.shards(), &Policies::shipped(), &supervision)
            .unwrap();
        Self {
            runtime,
            fleet,
            shards,
        }
    }

    fn counts(&self) -> PublishCounts {
        self.fleet.published().remove(0).counts
    }

    /// Waits until the counts are enough.
    fn until(&self, enough: impl Fn(&PublishCounts) -> bool) -> PublishCounts {
        let waits = async {
            while !enough(&self.counts()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, waits).await });
        let counts = self.counts();
        let brief = (counts.connected, counts.sent, counts.acked, counts.errors);
        assert!(waited.is_ok(), "waited in vain: {brief:?}");
        counts
    }

    fn stop(self) -> PublishCounts {
        self.runtime.block_on(async {
            self.fleet.stop().await;
            self.shards.stop().await.unwrap();
        });
        let counts = self.counts();
        let outcome = counts.acked + counts.dropped + counts.refused;
        assert_eq!(counts.sent, outcome, "each sample has an outcome");
        counts
    }
}

#[test]
fn devices_post_to_nginx_over_connections_that_they_keep() {
    let Some(address) = server("ACTORSIM_NGINX") else {
        return;
    };
    for backend in BACKENDS {
        let profile = profile("http", "poster");
        let target = Target::parse(&format!("http://{address}/ingest/{{device_id}}")).unwrap();
        let options = http::Options {
            poll_interval: Duration::from_millis(300),
            batch_max: 3,
            batch_wait: Duration::from_secs(1),
            ..http::Options::default()
        };
        let plan = Plan::http(&profile, &target, options, (COUNT, 1.0), Arc::default()).unwrap();
        let rig = Rig::new(profile, plan, backend);
        let wanted = u64::from(COUNT) * 9;
        let counts = rig.until(|counts| counts.acked >= wanted);
        assert_eq!((counts.errors, counts.refused), (0, 0));
        rig.stop();
    }
}

#[test]
fn devices_post_over_mutual_tls_and_to_nobody_of_another_authority() {
    let (Some(address), Some(site)) = (server("ACTORSIM_NGINX_TLS"), server("ACTORSIM_TLS_SITE"))
    else {
        return;
    };
    let own = Arc::new(Site::open_or_create(Path::new(&site)).unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Arc::new(Site::open_or_create(elsewhere.path()).unwrap());
    let terms = |trusts: &Site, shows: &Arc<Site>| {
        let roots = stream::roots(&trusts.dir().join("ca.pem")).unwrap();
        let client = stream::stream_client(roots, None).unwrap();
        let terms = Terms::new(client, "127.0.0.1").unwrap();
        terms.per_device(Arc::clone(shows))
    };
    let start = |name: &str, backend, terms| {
        let profile = profile("http", name);
        let target = Target::parse(&format!("https://{address}/ingest/{{device_id}}")).unwrap();
        assert!(target.tls);
        let options = http::Options::default();
        let plan = Plan::http(&profile, &target, options, (COUNT, 1.0), Arc::default());
        let mut plan = plan.unwrap();
        plan.tls = Some(terms);
        Rig::new(profile, plan, backend)
    };
    for backend in BACKENDS {
        let rig = start("secret", backend, terms(&own, &own));
        // it closes each connection after a few requests: they are made again at once
        let wanted = u64::from(COUNT) * 9;
        let counts = rig.until(|counts| counts.acked >= wanted && counts.handshakes >= 40);
        assert_eq!((counts.errors, counts.insecure, counts.refused), (0, 0, 0));
        rig.stop();
    }
    let rig = start("distrustful", Backend::Auto, terms(&other, &own));
    let counts = rig.until(|counts| counts.insecure >= u64::from(COUNT));
    assert_eq!((counts.acked, counts.handshakes), (0, 0));
    rig.stop();
    let rig = start("foreign", Backend::Auto, terms(&own, &other));
    let counts = rig.until(|counts| counts.errors + counts.refused >= u64::from(COUNT));
    assert_eq!(counts.acked, 0);
    rig.stop();
}

#[test]
fn what_nginx_refuses_is_counted_as_refused() {
    let Some(address) = server("ACTORSIM_NGINX") else {
        return;
    };
    let profile = profile("http", "refused");
    let target = Target::parse(&format!("http://{address}/missing")).unwrap();
    let options = http::Options::default();
    let plan = Plan::http(&profile, &target, options, (COUNT, 1.0), Arc::default()).unwrap();
    let rig = Rig::new(profile, plan, Backend::Auto);
    let all = u64::from(COUNT);
    let counts = rig.until(|counts| counts.refused >= all && counts.connected == all);
    assert_eq!(counts.acked, 0);
    rig.stop();
}

/// A client of the CoAP server: one request at a time.
struct Coap {
    socket: UdpSocket,
    id: u16,
}

impl Coap {
    fn new(address: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, id: 0 }
    }

    fn ask(&mut self, code: Code, path: &str, payload: &[u8]) -> (Code, Vec<u8>) {
        self.id += 1;
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, Kind::Confirmable, code, self.id, b"t")
            .path(path)
            .payload(payload);
        self.socket.send(&bytes).unwrap();
        let mut buffer = [0; 2_000];
        loop {
            let len = self.socket.recv(&mut buffer).expect("the server answers");
            let packet = Packet::read(&buffer[..len]).unwrap();
            if packet.id == self.id {
                return (packet.code, packet.payload.to_vec());
            }
        }
    }

    /// Asks until there is something that is enough.
    fn until(&mut self, path: &str, enough: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..5_000 {
            let (code, payload) = self.ask(Code::GET, path, b"");
            if code == Code::CONTENT {
                let found = serde_json::from_slice(&payload).unwrap();
                if enough(&found) {
                    return found;
                }
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        panic!("asked in vain for {path}");
    }
}

#[test]
fn a_coap_server_has_the_last_sample_of_each_device_and_commands_are_observed() {
    let Some(address) = server("ACTORSIM_COAP") else {
        return;
    };
    for (backend, site) in BACKENDS.into_iter().zip(["ring", "threads"]) {
        let profile = profile("coap", site);
        let id = profile.device_id(3);
        let mut client = Coap::new(&address);
        let commands = format!("devices/{id}/commands");
        // there must be something to be observed before the device asks
        assert_eq!(client.ask(Code::PUT, &commands, b"{}").0.class(), 2);
        let target = Target::parse(&format!("coap://{address}")).unwrap();
        let options = coap::Options::default();
        let plan = Plan::coap(&profile, &target, options, (COUNT, 1.0), Arc::default()).unwrap();
        let rig = Rig::new(profile, plan, backend);
        rig.until(|counts| counts.acked >= u64::from(COUNT) * 5);
        let command = br#"{"command_id": 5, "set": {"relay": 0}}"#;
        assert_eq!(client.ask(Code::PUT, &commands, command).0.class(), 2);
        // what lay there before was no command, and is refused
        let answers = |reply: &Value| reply["command_id"] == 5;
        let reply = client.until(&format!("devices/{id}/replies"), answers);
        assert_eq!(reply["status"], "executed");
        let obeys = |sample: &Value| sample["fields"]["relay"] == 0.0;
        let sample = client.until(&format!("devices/{id}/telemetry"), obeys);
        assert_eq!(sample["device_id"], id.as_str());
        let counts = rig.counts();
        assert_eq!((counts.errors, counts.connected), (0, u64::from(COUNT)));
        rig.stop();
    }
}
