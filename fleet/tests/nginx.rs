//! HTTP sessions against nginx, at the address in `ACTORSIM_NGINX` (`127.0.0.1:8080`), which
//! answers any request with 204, and one for `/missing` with 404.
//!
//! Without it the test is skipped, and says so; where `CI` is set it fails instead.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use actorsim_actors::Clock;
use actorsim_fleet::session::http::{Client, Endpoint, Event, Options, Output, Paths};
use actorsim_fleet::session::template::Template;

fn server() -> Option<String> {
    let address = std::env::var("ACTORSIM_NGINX").ok();
    if address.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "ACTORSIM_NGINX is not set, and CI has nginx"
        );
        println!("skipped: set ACTORSIM_NGINX=HOST:PORT to test against nginx");
    }
    address
}

/// Publishes `count` samples and returns what became of them.
fn publish(address: &str, path: &str, options: &Options, count: u64) -> Vec<Event> {
    let path = Template::parse(path, "probe", &[]).unwrap();
    let paths = Paths {
        samples: path.clone(),
        commands: path.clone(),
        replies: path,
    };
    let to = Endpoint {
        host: address,
        paths: &paths,
        id: "probe-0001",
        authorization: None,
        seed: 1,
    };
    let clock = Clock::wall();
    let mut socket = TcpStream::connect(address).expect("nginx listens there");
    socket
        .set_read_timeout(Some(Duration::from_secs(120)))
        .unwrap();
    let (mut client, mut out) = (Client::default(), Output::default());
    client.open(options, &to, clock.monotonic(), &mut out);
    for tag in 0..count {
        let body = (b"{\"n\":1}".as_slice(), tag);
        client
            .publish(options, &to, body, clock.monotonic(), &mut out)
            .unwrap();
    }
    let mut buffer = [0; 4_096];
    while client.waiting() > 0 {
        client.expire(options, &to, clock.monotonic(), &mut out);
        socket.write_all(&std::mem::take(&mut out.bytes)).unwrap();
        let len = socket.read(&mut buffer).unwrap();
        assert!(len > 0, "closed by nginx");
        client.received(options, &to, &buffer[..len], clock.monotonic(), &mut out);
        assert_eq!(out.ended, None);
    }
    out.events
}

#[test]
fn nginx_takes_and_refuses_samples_over_one_kept_connection() {
    let Some(address) = server() else { return };
    let batches = Options {
        batch_max: 10,
        ..Options::default()
    };
    for options in [Options::default(), batches] {
        let delivered = publish(&address, "/telemetry", &options, 50);
        let wanted: Vec<_> = (0..50).map(|tag| Event::Delivered { tag }).collect();
        assert_eq!(delivered, wanted);
        let refused = publish(&address, "/missing", &options, 3);
        let wanted: Vec<_> = (0..3)
            .map(|tag| Event::Refused { tag, status: 404 })
            .collect();
        assert_eq!(refused, wanted);
    }
}
