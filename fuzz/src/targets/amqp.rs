//! A node's AMQP publisher against a broker that says anything in the place of an answer, is
//! silent, hangs up.
//!
//! What must hold: the publisher lives; each sample of its device is acknowledged, or waits, or was
//! dropped for want of room; and on an honest broker everything that waits is published. What
//! reads the frames is `amqprs`, whose panics are caught by its tokio tasks or by the publisher:
//! [`crate::run`] lets those pass. Time is virtual; the connection is over loopback.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actorsim_actors::shard::SimShards;
use actorsim_actors::{ActorPath, Clock, System};
use actorsim_fleet::broker::publisher::PATIENCE;
use actorsim_fleet::broker::{
    AmqpBroker, Credentials, Plan, PublisherSpec, Relay, Relays, Target as At, publisher_child,
};
use actorsim_fleet::session::backoff::Backoff;
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision, SupervisorSpec, start_root};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::Target;
use crate::script::{Script, Steps, pieces};

pub(crate) const TARGET: Target = Target {
    name: "amqp",
    about: "a node's AMQP publisher against any broker",
    run,
    seeds,
    words: &[],
    len_max: 1_024,
    heap_max: 32 << 20,
};

/// Virtual time in which all must be well, backoffs of a minute included.
const WELL_WITHIN: Duration = Duration::from_secs(600);
/// The same by the clock on the wall: loopback is the kernel's, which may be busy.
const WELL_WITHIN_REAL: Duration = Duration::from_secs(10);
/// Time after which the device has made samples.
const SAMPLES: Duration = Duration::from_secs(5);
/// Time passes in steps so long. A paused runtime goes to its next timer whenever it has looked at
/// its sockets, also if something has come: so it must look often.
const STEP: Duration = Duration::from_millis(10);
const PROFILE: &str = "type: pump\nprotocol: amqp\ntelemetry_interval: 1s\n\
    telemetry_fields:\n  load: {type: gaussian, mean: 20, stddev: 1}\n";

/// A frame: type, channel, payload, end.
fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xce);
    bytes
}

fn method(channel: u16, (class, number): (u16, u16), arguments: &[u8]) -> Vec<u8> {
    let head = [class.to_be_bytes(), number.to_be_bytes()].concat();
    frame(1, channel, &[&head, arguments].concat())
}

/// What a broker does in the place of one answer.
#[derive(Clone, Debug)]
enum Act {
    Honest,
    /// Says this in pieces.
    Say(Vec<u8>, u8),
    /// Says this, and then its answer.
    Before(Vec<u8>),
    /// Answers nothing.
    Silent,
    /// Hangs up.
    Close,
}

/// One connection of a broker.
struct Broker<'a> {
    acts: &'a RefCell<VecDeque<Act>>,
    /// Messages on each channel so far, and bytes of a body that are to come.
    published: Vec<u64>,
    body: u64,
}

impl Broker<'_> {
    /// The honest answer to a frame; empty: it has none.
    fn honest(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let at = usize::from(channel);
        self.published.resize(self.published.len().max(at + 1), 0);
        let mut acknowledged = || {
            self.published[at] += 1;
            let tag = self.published[at].to_be_bytes();
            method(channel, (60, 80), &[&tag[..], &[0]].concat())
        };
        match (kind, payload) {
            (1, [0, class, 0, number, ..]) => match (class, number) {
                (10, 11) => method(0, (10, 30), &[7, 255, 0, 2, 0, 0, 0, 60]),
                (10, 40) => method(0, (10, 41), &[0]),
                (10, 50) => method(0, (10, 51), &[]),
                (20, 10) => method(channel, (20, 11), &[0; 4]),
                (20, 40) => method(channel, (20, 41), &[]),
                (40, 10) => method(channel, (40, 11), &[]),
                (50, 10) => method(channel, (50, 11), b"\x01q\0\0\0\0\0\0\0\0"),
                (50, 20) => method(channel, (50, 21), &[]),
                (60, 10) => method(channel, (60, 11), &[]),
                (60, 20) => method(channel, (60, 21), b"\x08actorsim"),
                (85, 10) => method(channel, (85, 11), &[]),
                _ => Vec::new(),
            },
            (2, [_, _, _, _, size @ ..]) => {
                let size = size.first_chunk().copied().unwrap_or_default();
                self.body = u64::from_be_bytes(size);
                if self.body == 0 {
                    acknowledged()
                } else {
                    Vec::new()
                }
            }
            (3, part) => {
                self.body = self.body.saturating_sub(part.len() as u64);
                if self.body == 0 {
                    acknowledged()
                } else {
                    Vec::new()
                }
            }
            _ => Vec::new(),
        }
    }

    async fn serve(mut self, mut stream: TcpStream) -> std::io::Result<()> {
        // no port waits for what may still come
        stream.set_zero_linger()?;
        // an answer that the kernel kept back for a moment would be hours late here
        stream.set_nodelay(true)?;
        let mut hello = [0; 8];
        stream.read_exact(&mut hello).await?;
        assert_eq!(&hello, b"AMQP\x00\x00\x09\x01");
        let mut start = vec![0, 9, 0, 0, 0, 0];
        start.extend(b"\0\0\0\x05PLAIN\0\0\0\x05en_US");
        if !self
            .answer(&mut stream, method(0, (10, 10), &start))
            .await?
        {
            return Ok(());
        }
        loop {
            let mut head = [0; 7];
            stream.read_exact(&mut head).await?;
            let [kind, high, low, size @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes(size) as usize + 1];
            stream.read_exact(&mut payload).await?;
            let channel = u16::from_be_bytes([high, low]);
            let honest = self.honest(kind, channel, &payload[..payload.len() - 1]);
            if !honest.is_empty() && !self.answer(&mut stream, honest).await? {
                return Ok(());
            }
        }
    }

    /// Does what is next in the place of an answer; whether the connection goes on.
    async fn answer(&mut self, to: &mut TcpStream, honest: Vec<u8>) -> std::io::Result<bool> {
        let act = self.acts.borrow_mut().pop_front();
        match act.unwrap_or(Act::Honest) {
            Act::Honest => to.write_all(&honest).await?,
            Act::Say(bytes, cut) => {
                for piece in pieces(&bytes, cut) {
                    to.write_all(piece).await?;
                }
            }
            Act::Before(mut bytes) => {
                bytes.extend(honest);
                to.write_all(&bytes).await?;
            }
            Act::Silent => {}
            Act::Close => return Ok(false),
        }
        Ok(true)
    }
}

fn acts(script: &mut Script<'_>) -> VecDeque<Act> {
    let mut acts = VecDeque::new();
    while let Some(step) = script.step() {
        acts.push_back(match step % 7 {
            0 | 1 => Act::Honest,
            2 => {
                let cut = script.byte();
                Act::Say(script.bytes().to_vec(), cut)
            }
            3 => {
                let (channel, class, number) = (script.byte(), script.byte(), script.byte());
                let of = (class.into(), number.into());
                Act::Say(method(channel.into(), of, script.bytes()), 0)
            }
            4 => {
                let (kind, channel) = (script.byte(), script.byte());
                Act::Before(frame(kind, channel.into(), script.bytes()))
            }
            5 => Act::Silent,
            _ => Act::Close,
        });
    }
    acts
}

fn run(input: &[u8]) {
    let acts = RefCell::new(acts(&mut Script::new(input)));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let calls = async {
            // a connection that its client has forgotten keeps nobody else waiting
            let mut open = FuturesUnordered::new();
            loop {
                tokio::select! {
                    biased;
                    Some(_) = open.next() => {}
                    Ok((stream, _)) = listener.accept() => {
                        let broker = Broker {
                            acts: &acts,
                            published: Vec::new(),
                            body: 0,
                        };
                        open.push(broker.serve(stream));
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = calls => unreachable!("a listener ends with its runtime"),
            () = publishes(at.to_string()) => {}
        }
    });
}

/// A device, its node's publisher, and their time.
async fn publishes(at: String) {
    let system = System::new(Clock::virtual_from(0), tokio::runtime::Handle::current());
    let mut shards = SimShards::of(&system, 1);
    let profile = Profile::parse_alone("pump.yaml", PROFILE)
        .expect("a profile")
        .profile;
    let target = At::parse(&format!("amqp://{at}")).expect("an address");
    let relay = Relay::new(100, Arc::default());
    let plan =
        Plan::amqp(&profile, &target, &Relays::from(relay.clone()), (1, 1.0)).expect("a plan");
    let stats = Arc::clone(&plan.stats);
    let mut population = Population::new("default", Arc::new(profile), 1, 7);
    population.plan = Some(Arc::new(plan));
    let fleet = Fleet::new(&system, vec![population], 1, Uplink::Brokers).expect("a fleet");
    let publisher = PublisherSpec {
        broker: AmqpBroker {
            address: target.address,
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
    let path = ActorPath::new("/fleet/publisher").expect("a path");
    let child = publisher_child(&path, publisher);
    let spec = SupervisorSpec::new(path, Default::default()).child(child);
    let root = start_root(&system, spec).await.expect("it starts");
    let supervision = Arc::new(Supervision::default());
    let started = fleet.start(shards.shards(), &Policies::shipped(), &supervision);
    started.expect("it starts");
    let (mut passed, mut well) = (Duration::ZERO, false);
    let began = Instant::now();
    while !well && (passed < WELL_WITHIN || began.elapsed() < WELL_WITHIN_REAL) {
        passed += STEP;
        let end = shards.now() + STEP;
        shards.run_until(end);
        sleep(STEP).await;
        let counts = stats.read();
        well = passed >= SAMPLES && counts.sent == counts.acked + counts.dropped;
    }
    let counts = stats.read();
    assert!(well, "what waits is not published: {counts:?}");
    let children = root.which_children().await.expect("it is supervised");
    assert_eq!(children[0].failures, 0, "the publisher has failed");
    assert!(
        timeout(Duration::from_secs(60), root.stop()).await.is_ok(),
        "it does not stop"
    );
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new(), vec![6], vec![0, 0, 6], vec![0; 12]];
    for number in [10, 30, 41, 50, 60, 99] {
        seeds.push(
            Steps::new()
                .step(&[0, 3, 0, 10, number])
                .bytes(b"\0\0")
                .done(),
        );
    }
    let tag = [0, 0, 0, 0, 0, 0, 0, 9, 1];
    let confirmed = Steps::new()
        .step(&[0; 10])
        .step(&[3, 2, 60, 80])
        .bytes(&tag);
    seeds.push(confirmed.step(&[3, 2, 60, 120]).bytes(&tag).done());
    let closed = Steps::new()
        .step(&[0; 9])
        .step(&[4, 1, 2])
        .bytes(&[0, 20, 0, 40, 0, 1]);
    seeds.push(closed.done());
    seeds.push(
        Steps::new()
            .step(&[2, 3])
            .bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .done(),
    );
    let content = Steps::new()
        .step(&[0; 8])
        .step(&[4, 2, 1])
        .bytes(&[0, 60, 0, 0]);
    seeds.push(content.done());
    seeds
}
