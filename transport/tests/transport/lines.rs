//! A chaos test with links of its own: connections over a simulated network, on paused time.

use std::time::Duration;

use actorsim_actors::{ActorPath, Clock, System};
use actorsim_supervision::chaos::{
    Action, Counts, Hands, LINK, Place, Plan, Roster, Schedule, Vitals,
};
use actorsim_transport::endpoint::{self, Listening, Protocol};
use actorsim_transport::{Network, SITE_SERVER_NAME, SimNet, simulated_identity};
use futures_util::future::join_all;
use quinn::{Connection, Endpoint};
use tokio::runtime::Handle;

const LINES: u32 = 3;
/// Numbers that each link sends, ten a second.
const NUMBERS: u64 = 600;
const PLAN: &str = r#"
seed = 3
rate = "1/1s"
for = "60s"
max_concurrent = 3
[faults]
partition = { for = "3s" }
clog = { for = "500ms" }
swizzle = { for = "2s" }
drop_msg = { for = "3s", share = 0.3 }
dup_msg = { for = "3s", share = 0.3 }
delay_msg = { for = "3s", delay = "30ms" }
reorder = { for = "3s", share = 0.3, delay = "10ms" }
"#;

/// A line's two ends; without the endpoint it would not be driven.
struct Line {
    dialled: Connection,
    accepted: Connection,
    _dialler: Endpoint,
}

async fn lines(network: &Network) -> Vec<Line> {
    let (handle, at) = (Handle::current(), "192.0.2.1:4433".parse().unwrap());
    let identity = simulated_identity("test").unwrap();
    let twin = endpoint::listen(&handle, at, Listening::Main, &identity, network).unwrap();
    let mut lines = Vec::new();
    for line in 0..LINES {
        let (speaking, network) = (Protocol::Actorsim1, network.line(line));
        let dialler = endpoint::dialler(&handle, at, &identity, speaking, &network).unwrap();
        let connecting = dialler.connect(at, SITE_SERVER_NAME).unwrap();
        let incoming = async { twin.accept().await.unwrap().await };
        let (dialled, accepted) = tokio::join!(connecting, incoming);
        lines.push(Line {
            dialled: dialled.unwrap(),
            accepted: accepted.unwrap(),
            _dialler: dialler,
        });
    }
    lines
}

async fn tell(line: &Line) {
    let mut stream = line.dialled.open_uni().await.unwrap();
    for number in 0..NUMBERS {
        stream.write_all(&number.to_be_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stream.finish().unwrap();
}

async fn hear(line: &Line) -> Vec<u64> {
    let mut stream = line.accepted.accept_uni().await.unwrap();
    let bytes = stream.read_to_end(NUMBERS as usize * 8).await.unwrap();
    let numbers = bytes.as_chunks::<8>().0.iter();
    numbers.map(|bytes| u64::from_be_bytes(*bytes)).collect()
}

/// Carries the plan out; what it counted.
async fn chaos(net: &SimNet) -> Counts {
    let plan = Plan::from_toml("plan.toml", PLAN, Place::Test).unwrap();
    let system = System::new(Clock::of_runtime(0), Handle::current());
    let mut roster = Roster::default();
    for line in 0..LINES {
        roster.add(LINK, ActorPath::root().join(&format!("links/{line}")));
    }
    let clock = system.clock();
    let mut hands = Hands::new(&system).with_lines(net.clone());
    let mut schedule = Schedule::new(&plan, plan.seed, clock.monotonic());
    while let Some(next) = schedule.next_at() {
        tokio::time::sleep(next - clock.monotonic()).await;
        let step = schedule.step(clock.monotonic(), &roster, &Vitals::default());
        for action in step.actions {
            match action {
                Action::Begin(strike) => assert!(hands.begin(&strike), "{strike}"),
                Action::End(strike) => hands.end(&strike),
            }
        }
    }
    assert_eq!(hands.under_way(), 0, "all was healed");
    schedule.counts().clone()
}

#[tokio::test(start_paused = true)]
async fn links_of_a_test_suffer_every_fault_of_packets_and_what_they_say_arrives_once_in_order() {
    let net = SimNet::new(7);
    let lines = lines(&Network::Simulated(net.clone())).await;
    let telling = join_all(lines.iter().map(tell));
    let hearing = join_all(lines.iter().map(hear));
    let (counts, _, heard) = tokio::join!(chaos(&net), telling, hearing);
    let expected: Vec<u64> = (0..NUMBERS).collect();
    assert!(heard.iter().all(|numbers| *numbers == expected));
    assert_eq!(counts.strikes[LINK].len(), 7, "{counts:?}");
    assert_eq!(counts.found_nobody(), Vec::<&str>::new());
    assert!(net.lost() > 0);
}
