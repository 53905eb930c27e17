//! A broker that says what no AMQP 0.9.1 broker says: the publisher counts it, waits, and calls
//! again; its actor lives.
//!
//! On paused time, over loopback, which is the kernel's: its time goes on.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use actorsim_actors::{ActorPath, Clock, System};
use actorsim_fleet::broker::publisher::PATIENCE;
use actorsim_fleet::broker::{AmqpBroker, Credentials, PublisherSpec, Relay, publisher_child};
use actorsim_fleet::session::backoff::Backoff;
use actorsim_fleet::{Fleet, Uplink};
use actorsim_supervision::{SupervisorSpec, start_root};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// How much of paused time passes between two looks.
const STEP: Duration = Duration::from_millis(100);
/// Time by the clock on the wall in which one saying is heard and counted.
const REAL_PATIENCE: Duration = Duration::from_secs(60);

/// One frame: type, channel, payload, end.
fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xce);
    bytes
}

fn method(class: u16, method: u16, arguments: &[u8]) -> Vec<u8> {
    let head = [class.to_be_bytes(), method.to_be_bytes()].concat();
    frame(1, 0, &[&head, arguments].concat())
}

/// What is said to one connection after another.
fn sayings() -> Vec<Vec<u8>> {
    let long = [0x7f, 0xff, 0xff, 0xff];
    let no_end = [frame(1, 0, &[0; 8])[..15].to_vec(), vec![0]].concat();
    let table = [&[0, 9][..], &long, b"x"].concat();
    vec![
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"AMQP\x00\x01\x00\x00".to_vec(),
        method(10, 99, b""),
        method(99, 10, b""),
        method(10, 10, b""),
        method(10, 10, &table),
        method(10, 51, b""),
        frame(1, 0, b""),
        frame(2, 0, b"short"),
        frame(2, 1, &[0; 40]),
        frame(3, 0, b"body"),
        frame(7, 0, b"?"),
        no_end,
        [&[1, 0, 0][..], &long].concat(),
        Vec::new(),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_cannot_be_read_is_counted_and_called_again() {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::new(100, Arc::default());
    let fleet = Fleet::new(&system, Vec::new(), 1, Uplink::Brokers).unwrap();
    let publisher = PublisherSpec {
        broker: AmqpBroker {
            address: listener.local_addr().unwrap(),
            tls: None,
            vhost: "/".to_owned(),
            exchange: "devices".to_owned(),
            credentials: Credentials::default(),
        },
        relay: relay.clone(),
        downlink: fleet.downlink(),
        seed: 7,
        patience: PATIENCE,
        backoff: Backoff::default(),
    };
    let at = ActorPath::new("/fleet/publisher").unwrap();
    let child = publisher_child(&at, publisher);
    let spec = SupervisorSpec::new(at, Default::default()).child(child);
    let root = start_root(&system, spec).await.unwrap();
    let before = root.which_children().await.unwrap()[0].incarnation;
    let all = sayings();
    for (number, saying) in all.iter().enumerate() {
        let began = Instant::now();
        let mut connection = loop {
            assert!(began.elapsed() < REAL_PATIENCE, "it does not call again");
            if let Ok(called) = timeout(STEP, listener.accept()).await {
                break called.unwrap().0;
            }
        };
        let mut hello = [0; 8];
        connection.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"AMQP\x00\x00\x09\x01");
        connection.write_all(saying).await.unwrap();
        connection.shutdown().await.unwrap();
        while relay.stats().read().errors <= number as u64 {
            let waits = began.elapsed() < REAL_PATIENCE;
            assert!(waits, "saying {number} is not counted");
            sleep(STEP).await;
        }
    }
    let after = root.which_children().await.unwrap();
    assert_eq!((after[0].incarnation, after[0].failures), (before, 0));
    let counts = relay.stats().read();
    assert_eq!((counts.errors, counts.connected), (all.len() as u64, 0));
    root.stop().await;
}
