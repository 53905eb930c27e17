//! A shard for whose sockets the process has no files left: they are refused, counted, and taken
//! when there are files again.
//!
//! The limit is the process's, so this is the only test of its binary.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;
#[path = "net_kit/kit.rs"]
mod net_kit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{Accept, NetConfig, SocketEnd};
use kit::{Host, Threads};
use net_kit::{Rules, Seen, Stage, late, parked, ring};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Has cell 0 listen; what it hears of that.
fn listen(stage: &mut Stage<Threads>) -> Seen {
    let log = Arc::clone(&stage.shared.log);
    let before = log.lock().len();
    stage.tell(0, |_, cx| {
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        cx.net().listen(at, Accept::Here).unwrap();
    });
    stage.host.until(|| log.lock().len() > before);
    log.lock()[before].3.clone()
}

#[test]
fn a_shard_without_files_refuses_sockets_and_takes_them_when_there_are_some() {
    const REFUSED: u64 = 3;
    let usual = NetConfig::default;
    let kinds = [parked(usual()), late(usual()), ring(usual())];
    let files = getrlimit(Resource::Nofile);
    for host in kinds.into_iter().flatten() {
        let backend = host.host().backend();
        let mut stage = Stage::new(host, Rules::default());
        let none = Rlimit {
            current: Some(0),
            ..files
        };
        setrlimit(Resource::Nofile, none).unwrap();
        for _ in 0..REFUSED {
            let heard = listen(&mut stage);
            assert_eq!(heard, Seen::Ended(SocketEnd::NoFiles), "{backend:?}");
        }
        setrlimit(Resource::Nofile, files).unwrap();
        let shard = stage.host.shard();
        stage
            .host
            .until(|| shard.stats().net.ends.no_files == REFUSED);
        stage.until_alive(0);
        // Until the pause is over; each kind has its own.
        while !matches!(listen(&mut stage), Seen::Bound(_)) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let events = stage.host.system().events().last(9);
        assert!(events.iter().all(|event| event.name != "shard_down"));
        let stats = stage.host.shard().stats();
        assert_eq!(stats.ring, backend.label() != "portable", "{events:?}");
        let stats = stage.stop();
        assert_eq!(stats.closed, stats.asked);
    }
}
