//! A fleet over mutual TLS against mosquitto, which each test starts for itself.
//!
//! mosquitto takes the common name of each certificate as the user's name, and lets a user publish
//! under its own name only. Without mosquitto the tests are skipped, and say so; where `CI` is set
//! they fail instead.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "mqtt_kit/kit.rs"]
mod kit;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{Backend, ShardConfig, ShardHost};
use actorsim_actors::{Clock, System};
use actorsim_fleet::broker::{Plan, PublishCounts, Target};
use actorsim_fleet::session::mqtt::{Options, Version};
use actorsim_fleet::session::tls::Terms;
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};
use actorsim_transport::certs::{Site, stream};
use kit::{Device, count, is_message, login};

const COUNT: u32 = 10;

/// mosquitto, until it is dropped.
struct Mosquitto {
    child: Child,
    plain: u16,
    tls: u16,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts mosquitto with a plain listener for watchers and one over TLS for devices.
fn mosquitto(dir: &Path, site: &Site) -> Option<Mosquitto> {
    let broker = dir.join("broker");
    site.issue("broker", "*", &broker).unwrap();
    let (plain, tls) = (free_port(), free_port());
    let acl = "pattern readwrite devices/%u/#\npattern write sites/+/%u\n";
    fs::write(dir.join("acl"), acl).unwrap();
    let at = |name: &str| broker.join(name).display().to_string();
    let config = format!(
        "per_listener_settings true\nuser root\nlog_type error\n\
         listener {plain} 127.0.0.1\nallow_anonymous true\n\
         listener {tls} 127.0.0.1\nallow_anonymous false\nrequire_certificate true\n\
         use_identity_as_username true\nacl_file {}\ncafile {}\ncertfile {}\nkeyfile {}\n",
        dir.join("acl").display(),
        at("ca.pem"),
        at("node.pem"),
        at("node.key"),
    );
    fs::write(dir.join("mosquitto.conf"), config).unwrap();
    let started = Command::new("mosquitto")
        .arg("-c")
        .arg(dir.join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = started else {
        assert!(std::env::var_os("CI").is_none(), "CI has mosquitto");
        println!("skipped: install mosquitto to test against it");
        return None;
    };
    let broker = Mosquitto { child, plain, tls };
    for port in [plain, tls] {
        let mut tries = 0;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            tries += 1;
            assert!(tries < 1_000, "mosquitto does not listen");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    Some(broker)
}

fn terms(site: &Site) -> Terms {
    let roots = stream::roots(&site.dir().join("ca.pem")).unwrap();
    Terms::new(stream::stream_client(roots, None).unwrap(), "127.0.0.1").unwrap()
}

/// Runs a fleet until a watcher has heard `enough` samples; or, without any, until it has tried.
fn fleet(
    broker: &Mosquitto,
    terms: Terms,
    (backend, version): (Backend, Version),
    enough: usize,
) -> PublishCounts {
    let text = "type: press\nprotocol: mqtt\ntopic_template: sites/north/{device_id}\n\
                telemetry_interval: 100ms\ntelemetry_fields:\n  \
                force: {type: gaussian, mean: 20, stddev: 1}\n";
    let profile = Profile::parse("press.yaml", text).unwrap().profile;
    let clean = Options {
        clean_start: true,
        ..Options::default()
    };
    let plain = format!("127.0.0.1:{}", broker.plain);
    let mut watcher = Device::new(&plain, clean, &login("watcher"));
    watcher.subscribe("sites/#");
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
    let target = Target::parse(&format!("mqtts://127.0.0.1:{}", broker.tls)).unwrap();
    let options = Options { version, ..clean };
    let mut plan = Plan::mqtt(&profile, &target, options, (COUNT, 1.0), Arc::default()).unwrap();
    plan.tls = Some(terms);
    plan.backoff.min = Duration::from_millis(50);
    let stats = Arc::clone(&plan.stats);
    let mut population = Population::new("default", Arc::new(profile), COUNT, 7);
    population.plan = Some(Arc::new(plan));
    let fleet = Fleet::new(&system, vec![population], 2, Uplink::Brokers).unwrap();
    let supervision = Arc::new(Supervision::default());
    let policies = Policies::shipped();
    fleet
        .start(shards.shards(), &policies, &supervision)
        .unwrap();
    watcher.until(|events| {
        let tried = enough == 0 && stats.read().insecure >= u64::from(COUNT);
        let all = || stats.read().handshakes == u64::from(COUNT);
        tried || (enough > 0 && count(events, is_message) >= enough && all())
    });
    runtime.block_on(async {
        fleet.stop().await;
        shards.stop().await.unwrap();
    });
    stats.read()
}

#[test]
fn every_device_is_who_its_certificate_says() {
    let dir = tempfile::tempdir().unwrap();
    let site = Arc::new(Site::open_or_create(&dir.path().join("site")).unwrap());
    let Some(broker) = mosquitto(dir.path(), &site) else {
        return;
    };
    for host in [
        (Backend::Auto, Version::V311),
        (Backend::Auto, Version::V5),
        (Backend::Portable, Version::V5),
    ] {
        let own = terms(&site).per_device(Arc::clone(&site));
        let counts = fleet(&broker, own, host, 5 * COUNT as usize);
        assert_eq!(counts.handshakes, u64::from(COUNT), "{host:?}");
        assert_eq!((counts.errors, counts.insecure), (0, 0), "{host:?}");
        assert_eq!(counts.sent, counts.acked + counts.dropped, "{host:?}");
    }
}

#[test]
fn devices_do_not_talk_to_a_broker_of_another_authority() {
    let dir = tempfile::tempdir().unwrap();
    let site = Arc::new(Site::open_or_create(&dir.path().join("site")).unwrap());
    let Some(broker) = mosquitto(dir.path(), &site) else {
        return;
    };
    let other = Arc::new(Site::open_or_create(&dir.path().join("other")).unwrap());
    let foreign_server = terms(&other).per_device(Arc::clone(&site));
    let counts = fleet(&broker, foreign_server, (Backend::Auto, Version::V5), 0);
    assert_eq!(
        (counts.connects, counts.acked, counts.handshakes),
        (0, 0, 0)
    );
    assert!(counts.insecure >= u64::from(COUNT));
}
