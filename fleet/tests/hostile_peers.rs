//! Devices and servers that misbehave, in virtual time: what is wrong with one device's connection
//! is that device's alone, it is counted, and it ends with its cause.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{Accept, SimShards, SlabSpec, SocketEvent, SocketId};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Clock, Fault, Flow,
    MailboxSpec, Message, Overflow, System, Time,
};
use actorsim_fleet::broker::{Plan, PublishCounts, Target};
use actorsim_fleet::session::coap::packet::{Code, Kind, Packet, Writer};
use actorsim_fleet::session::{coap, http};
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};

/// How long a server does what it does to one device.
const HOSTILE_S: u64 = 120;
/// Until all is well again, backoffs of a minute included.
const END_S: u64 = 420;
const DEVICES: u32 = 3;
const VICTIM: &str = "probe-0000";

/// What a server does to its victim.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Says nothing.
    Stall,
    /// Closes as soon as it is asked something.
    Close,
    /// Answers with bytes that are nothing.
    Garbage,
    /// Answers half, and no more.
    Half,
    /// Half an answer, then closes.
    HalfAndClose,
    /// Answers what nobody asked.
    WrongAnswer,
    /// An answer that never ends.
    Flood,
    /// Later, please.
    Fails,
    /// So many bytes of an answer, then closes.
    Cut(usize),
}

const ALL: [Does; 8] = [
    Does::Stall,
    Does::Close,
    Does::Garbage,
    Does::Half,
    Does::HalfAndClose,
    Does::WrongAnswer,
    Does::Flood,
    Does::Fails,
];

/// A server for both protocols at one address.
struct Peer;

struct Nothing;
impl Message for Nothing {}

struct Calm;
impl CellSupervisor for Calm {
    fn exited(&mut self, _: &CellExit<'_>) -> CellDecision {
        CellDecision::Stop
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

fn fault(error: impl std::fmt::Display) -> Fault {
    Fault::with("net", error)
}

impl Cell for Peer {
    type Msg = Nothing;
    type Shared = (SocketAddr, Does);
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let at = cx.shared.0;
        cx.net().listen(at, Accept::Here).map_err(fault)?;
        cx.net().datagrams(at).map_err(fault)?;
        Ok(Self)
    }

    fn handle(&mut self, _: Nothing, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn socket(
        &mut self,
        socket: SocketId,
        event: SocketEvent<'_>,
        cx: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        let hostile = cx.monotonic < Time::ZERO + Duration::from_secs(HOSTILE_S);
        let does = cx.shared.1;
        match event {
            SocketEvent::Received(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                let does = (hostile && text.contains(VICTIM)).then_some(does);
                let answers = text.matches(" HTTP/1.1\r\n").count();
                over_http(socket, does, answers, cx);
            }
            SocketEvent::Datagram { from, bytes } => {
                let packet = Packet::read(bytes).map_err(fault)?;
                if packet.code.class() != 0 || packet.code == Code::EMPTY {
                    return Ok(Flow::Continue);
                }
                let victim = packet
                    .options()
                    .any(|(_, value)| value == VICTIM.as_bytes());
                let does = (hostile && victim).then_some(does);
                for answer in over_coap(&packet, does) {
                    let _ = cx.net().write_to(socket, from, &answer);
                }
            }
            _ => {}
        }
        Ok(Flow::Continue)
    }
}

/// What is cut at each of its bytes.
const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
/// An acknowledgement of CoAP: four bytes and the token.
const WHOLE_ACK: usize = 4 + 8;

fn over_http(socket: SocketId, does: Option<Does>, answers: usize, cx: &mut CellContext<'_, Peer>) {
    const HALF: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let mut net = cx.net();
    let mut say = |bytes: &[u8]| {
        let _ = net.write(socket, bytes);
    };
    match does {
        None => {
            for _ in 0..answers {
                say(b"HTTP/1.1 204 No Content\r\n\r\n");
            }
        }
        Some(Does::Stall) => {}
        Some(Does::Garbage) => say(&[0xff, 0x00, 0x16, 0x03, 0x01, b'\r', b'\n']),
        Some(Does::Half | Does::HalfAndClose) => say(HALF),
        Some(Does::WrongAnswer) => say(b"HTTP/1.1 204 A\r\n\r\nHTTP/1.1 204 B\r\n\r\n"),
        Some(Does::Flood) => {
            for _ in 0..40 {
                say(&b"x-more: and more\r\n".repeat(100));
            }
        }
        Some(Does::Fails) => say(b"HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n"),
        Some(Does::Cut(at)) => say(&WHOLE[..at]),
        Some(Does::Close) => {}
    }
    if matches!(does, Some(Does::Close | Does::HalfAndClose | Does::Cut(_))) {
        net.close(socket);
    }
}

fn over_coap(packet: &Packet<'_>, does: Option<Does>) -> Vec<Vec<u8>> {
    let ack = |code, id, token: &[u8]| {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, Kind::Acknowledgement, code, id, token).payload(&[]);
        bytes
    };
    let code = match packet.code {
        Code::GET => Code::NOT_FOUND,
        _ => Code::CHANGED,
    };
    let honest = ack(code, packet.id, packet.token);
    match does {
        None => vec![honest],
        Some(Does::Stall | Does::Close) => vec![],
        Some(Does::Garbage) => vec![vec![0xff; 30], b"HTTP/1.1".to_vec()],
        Some(Does::Half | Does::HalfAndClose) => vec![honest[..honest.len() / 2].to_vec()],
        Some(Does::Cut(at)) => vec![honest[..at.min(honest.len() - 1)].to_vec()],
        Some(Does::WrongAnswer) => vec![
            ack(code, packet.id.wrapping_add(1), packet.token),
            ack(code, packet.id, b"nope"),
        ],
        Some(Does::Flood) => {
            let stray = |n: u16| ack(code, packet.id.wrapping_add(n), b"flood");
            (1..60).map(stray).collect()
        }
        Some(Does::Fails) => vec![ack(Code(0xa3), packet.id, packet.token)],
    }
}

/// Counts at the end of the hostile time, at the end of all, and after the last goodbye.
fn run(protocol: &str, does: Does) -> [PublishCounts; 3] {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let system = System::new(Clock::virtual_from(0), runtime.handle().clone());
    let mut sim = SimShards::of(&system, 2);
    let at = SocketAddr::from(([127, 0, 0, 1], 4_711));
    let peers = sim.shards()[0].add_slab::<Peer>(SlabSpec {
        path: ActorPath::new("/peers").unwrap(),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(0..1).collect(),
        shared: (at, does),
        out: (),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(8, Overflow::Reject),
        supervisor: Box::new(Calm),
    });
    let _peers = peers.unwrap();
    let text = format!(
        "type: probe\nprotocol: {protocol}\ntelemetry_interval: 5s\ntelemetry_fields:\n  \
         temperature: {{type: gaussian, mean: 20, stddev: 1}}\n"
    );
    let profile = Profile::parse("probe.yaml", &text).unwrap().profile;
    let target = Target::parse(&format!("{protocol}://{at}")).unwrap();
    let (scale, stats) = ((DEVICES, 1.0), Arc::default());
    let plan = match protocol {
        "http" => {
            let options = http::Options {
                poll_interval: Duration::from_secs(30),
                ..http::Options::default()
            };
            Plan::http(&profile, &target, options, scale, stats)
        }
        _ => Plan::coap(&profile, &target, coap::Options::default(), scale, stats),
    };
    let mut population = Population::new("default", Arc::new(profile), DEVICES, 7);
    population.plan = Some(Arc::new(plan.unwrap()));
    let fleet = Fleet::new(&system, vec![population], 2, Uplink::Brokers).unwrap();
    let supervision = Arc::new(Supervision::default());
    fleet
        .start(sim.shards(), &Policies::shipped(), &supervision)
        .unwrap();
    let counts = || fleet.published().remove(0).counts;
    sim.run_until(Time::ZERO + Duration::from_secs(HOSTILE_S));
    let hostile = counts();
    sim.run_until(Time::ZERO + Duration::from_secs(END_S));
    let well = counts();
    sim.stop();
    [hostile, well, counts()]
}

/// Connected, errors, sent, acknowledged, dropped, refused.
fn brief(of: &PublishCounts) -> [u64; 6] {
    [
        of.connected,
        of.errors,
        of.sent,
        of.acked,
        of.dropped,
        of.refused,
    ]
}

/// What a server does to one device is counted and harms no other.
fn survives(protocol: &str, does: Does) {
    let [hostile, well, end] = run(protocol, does);
    let what = [&hostile, &well, &end].map(brief);
    let what = format!("{protocol}, {does:?}: {what:?}");
    let others = u64::from(DEVICES - 1) * (HOSTILE_S / 5 - 1);
    assert!(hostile.acked >= others, "others go on: {what}");
    // a first answer that is right is believed
    let served = protocol == "http" && does == Does::WrongAnswer;
    let beside = hostile.acked - others;
    assert!(served || beside < 10, "the victim does not: {what}");
    assert!(hostile.errors > 0, "it is counted: {what}");
    assert!(hostile.errors < 200, "and not in a loop: {what}");
    assert_eq!(
        well.connected,
        u64::from(DEVICES),
        "all is well again: {what}"
    );
    let missing = well.sent - well.acked - well.dropped - well.refused;
    assert!(missing <= 1, "what waited has gone: {what}");
    let outcome = end.acked + end.dropped + end.refused;
    assert_eq!(end.sent, outcome, "each sample has an outcome: {what}");
}

#[test]
fn what_a_server_does_to_one_device_is_counted_and_harms_no_other() {
    for protocol in ["http", "coap"] {
        for does in ALL {
            survives(protocol, does);
        }
    }
}

#[test]
fn an_answer_that_is_cut_off_at_any_of_its_bytes_harms_no_other() {
    for (protocol, whole) in [("http", WHOLE.len()), ("coap", WHOLE_ACK)] {
        for at in 0..whole {
            survives(protocol, Does::Cut(at));
        }
    }
}
