//! What they do, nearly all at the same time.

use std::net::Ipv4Addr;
use std::time::Duration;

use actorsim_transport::endpoint::codes;
use actorsim_transport::frames::{
    ACK_LEN, EVENT_LEN, Events, StreamType, ToLink, put_event, put_events_header,
};
use actorsim_transport::limits::DEVICES_MAX;
use actorsim_transport::{AckStatus, EventKey, Protocol, READING_LEN, Reading};
use quinn::{RecvStream, SendStream, VarInt};

use crate::PATIENCE;
use crate::attacker::{Attacker, OWN, no_further_than_the_proof, reading};

/// Readings in another device's name.
const STOLEN: u32 = 10;
/// Streams that are opened and given up, far more than may be open at once.
const STREAMS: u32 = 3_000;
/// Streams that are opened and say nothing: as many as may be.
const SILENT: usize = 100;
/// Handshakes that stop in the middle: more than there may be at once.
const STALLED: usize = 300;
/// Where they come from: an address that nobody else has.
const STALLING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Packets that are none.
const NOISE: u32 = 500;
/// The device whose name is stolen: one of the honest fleet's.
const VICTIM: &str = "industrial-0000";
/// The devices of a certificate that wants all rows there are.
const GREEDY: &str = "greedy-";
/// As long as a hostile peer goes on with what takes no end: longer than a handshake may take.
const WHILE: Duration = Duration::from_secs(6);

/// All of them; each says what the twin must answer, if it must.
pub(crate) async fn all(attacker: &Attacker) {
    tokio::join!(
        ends("bad datagrams", bad_datagrams(attacker)),
        ends("bad frames", bad_frames(attacker)),
        ends("half readings", half_readings(attacker)),
        ends("thousands of streams", thousands_of_streams(attacker)),
        ends("never reading", never_reading(attacker)),
        ends("slow certificates", slow_certificates(attacker)),
        ends("replayed answers", replayed_answers(attacker)),
        ends("replayed events", replayed_events(attacker)),
        ends("another device", another_device(attacker)),
        ends("noise", noise(attacker)),
    );
    // Commands for load go to all devices in turn, so to those above ever more seldom.
    ends("ever more devices", ever_more_devices(attacker)).await;
}

/// An act comes to its end.
async fn ends(name: &str, act: impl Future<Output = ()>) {
    let done = tokio::time::timeout(PATIENCE, act).await;
    assert!(done.is_ok(), "{name} did not come to an end");
}

/// Lengths that are no readings, and types that there are not.
async fn bad_datagrams(attacker: &Attacker) {
    let guest = attacker.guest(&format!("{OWN}*"), 1).await;
    let mut bad: Vec<Vec<u8>> = [1, 38, 40, 77, 79, 390 - 1].map(|n| vec![0; n]).into();
    for kind in [7, 255] {
        let mut bytes = reading(VICTIM, 1).encode().to_vec();
        bytes[READING_LEN - 1] = kind;
        bad.push(bytes);
    }
    for bytes in bad {
        guest.quic.send_datagram_wait(bytes.into()).await.unwrap();
    }
    let left = tokio::time::timeout(WHILE, guest.quic.closed()).await;
    assert!(
        left.is_err(),
        "what is no reading is counted, no more: {left:?}"
    );
}

/// The start of an event stream.
async fn events(quic: &quinn::Connection) -> SendStream {
    let mut stream = quic.open_uni().await.unwrap();
    let kind = [StreamType::Events as u8];
    stream.write_all(&kind).await.unwrap();
    stream
}

/// Frames whose lengths lie: the stream is refused, the connection lives; on the control stream,
/// the connection ends.
async fn bad_frames(attacker: &Attacker) {
    let guest = attacker.guest(&format!("{OWN}*"), 2).await;
    let mut wrong_count = Vec::new();
    put_events_header(&mut wrong_count, 1, 7);
    wrong_count.truncate(wrong_count.len() - 4);
    wrong_count.extend(9_u32.to_le_bytes());
    wrong_count.resize(16 + 7 * EVENT_LEN, 0);
    let lies = [
        u32::MAX.to_le_bytes().to_vec(),
        (1_u32 << 20).to_le_bytes().to_vec(),
        [0; 4].to_vec(),
        [&11_u32.to_le_bytes()[..], &[0; 12]].concat(),
        wrong_count,
    ];
    for lie in lies {
        let mut stream = events(&guest.quic).await;
        stream.write_all(&lie).await.unwrap();
        let stopped = stream.stopped().await.unwrap();
        assert_eq!(stopped, Some(codes::READING), "{lie:?}");
    }
    for first in [0, 1, 3, 99] {
        let mut stream = guest.quic.open_uni().await.unwrap();
        stream.write_all(&[first]).await.unwrap();
        assert_eq!(stream.stopped().await.unwrap(), Some(codes::READING));
    }
    assert!(guest.quic.close_reason().is_none(), "the connection lives");
    for (session, lie) in [(3, u32::MAX), (4, 3)] {
        let mut guest = attacker.guest("*", session).await;
        let frame = [&lie.to_le_bytes()[..], &[0xff; 3]].concat();
        guest.control.write_all(&frame).await.unwrap();
        let code = codes::PROTOCOL.into_inner();
        assert_eq!(guest.closed().await, Some(code));
    }
}

/// Streams that end within a reading, and connections that end within a stream.
async fn half_readings(attacker: &Attacker) {
    let bytes: Vec<u8> = (0..3).flat_map(|n| reading("half", n).encode()).collect();
    for length in [1, READING_LEN / 2, 2 * READING_LEN + 20] {
        let (endpoint, quic) = attacker.connect("*", Protocol::Dt1).await;
        let mut stream = quic.open_uni().await.unwrap();
        stream.write_all(&bytes[..length]).await.unwrap();
        stream.finish().unwrap();
        drop(stream.stopped().await);
        quic.close(VarInt::from_u32(0), b"");
        endpoint.wait_idle().await;
    }
    let guest = attacker.guest("*", 5).await;
    let mut stream = events(&guest.quic).await;
    let mut frame = Vec::new();
    put_events_header(&mut frame, 1, 2);
    frame.extend([0; EVENT_LEN + 7]);
    stream.write_all(&frame).await.unwrap();
    guest.quic.close(VarInt::from_u32(0), b"");
}

/// Streams that are given up as soon as they are open, then as many silent ones as may be.
async fn thousands_of_streams(attacker: &Attacker) {
    let guest = attacker.guest("*", 6).await;
    for n in 0..STREAMS {
        let mut stream = guest.quic.open_uni().await.unwrap();
        let kind = [StreamType::Events as u8];
        stream.write_all(&kind[..(n % 2) as usize]).await.unwrap();
        stream.reset(VarInt::from_u32(n)).unwrap();
    }
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(events(&guest.quic).await);
    }
    let more = tokio::time::timeout(Duration::from_millis(200), guest.quic.open_uni());
    assert!(more.await.is_err(), "no more than may be");
}

/// Takes every command and answers none, and reads nothing of what is said to it.
async fn never_reading(attacker: &Attacker) {
    let mut guest = attacker.guest(&format!("{OWN}*"), 7).await;
    guest.register(&format!("{OWN}deaf-"), 20).await;
    let left = tokio::time::timeout(WHILE, guest.quic.closed()).await;
    assert!(left.is_err(), "it is left alone: {left:?}");
}

/// Handshakes that stop before the certificate comes, all of one address.
async fn slow_certificates(attacker: &Attacker) {
    let endpoint = attacker.endpoint("*", Protocol::Actorsim1);
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(no_further_than_the_proof(&endpoint, STALLING, attacker.twin).await);
    }
    let one = stalled.pop().unwrap();
    assert!(tokio::time::timeout(WHILE, one).await.is_err());
}

/// Answers commands with the answer to another one, twice, by halves, and for another device.
async fn replayed_answers(attacker: &Attacker) {
    let mut guest = attacker.guest(&format!("{OWN}*"), 8).await;
    guest.register(&format!("{OWN}liar-"), 4).await;
    let mut before: Option<[u8; ACK_LEN]> = None;
    for turn in 0..40_u32 {
        let (mut send, mut receive) = guest.quic.accept_bi().await.unwrap();
        let honest = answer(&mut receive).await;
        let replayed = before.replace(honest).unwrap_or(honest);
        let said: Vec<u8> = match turn % 5 {
            0 => honest.into(),
            1 => replayed.into(),
            2 => [honest, honest].concat(),
            3 => honest[..ACK_LEN / 2].into(),
            _ => {
                let mut stolen = honest;
                let victim = reading(VICTIM, 0).encode();
                stolen[..16].copy_from_slice(&victim[..16]);
                stolen.into()
            }
        };
        // a twin that has heard enough stops the stream
        drop(send.write_all(&said).await);
        drop(send.finish());
    }
    assert!(guest.quic.close_reason().is_none());
}

/// The acknowledgement of the command that comes in.
async fn answer(receive: &mut RecvStream) -> [u8; ACK_LEN] {
    let frame = receive.read_to_end(256).await.unwrap();
    let at = frame.len() - READING_LEN;
    let sent = Reading::decode(frame[at..].first_chunk().unwrap()).unwrap();
    actorsim_transport::frames::ack_frame(&sent, AckStatus::Executed)
}

/// The same batch of events again and again, an old one, and one from the future.
async fn replayed_events(attacker: &Attacker) {
    let guest = attacker.guest("*", 9).await;
    let mut stream = events(&guest.quic).await;
    for sequence in [1, 1, 1, 2, 1, u64::MAX, 0, 3] {
        let mut frame = Vec::new();
        put_events_header(&mut frame, sequence, 1);
        let key = EventKey {
            epoch: 1,
            event: sequence,
        };
        put_event(&mut frame, &reading("replayed", 1), key);
        assert!(Events::parse(&frame[4..]).is_ok());
        stream.write_all(&frame).await.unwrap();
    }
    stream.finish().unwrap();
    drop(stream.stopped().await);
    assert!(guest.quic.close_reason().is_none());
}

/// Speaks for devices that its certificate does not name.
async fn another_device(attacker: &Attacker) {
    let mut guest = attacker.guest(&format!("{OWN}*"), 10).await;
    guest.register("industrial-", 1).await;
    let code = codes::DEVICES.into_inner();
    assert_eq!(guest.closed().await, Some(code));

    let mut guest = attacker.guest(&format!("{OWN}*"), 11).await;
    guest.register(&format!("{OWN}thief-"), 1).await;
    for n in 0..STOLEN {
        let bytes = reading(VICTIM, n).encode().to_vec();
        guest.quic.send_datagram_wait(bytes.into()).await.unwrap();
    }
    let mut stream = events(&guest.quic).await;
    let mut frame = Vec::new();
    put_events_header(&mut frame, 1, 1);
    put_event(
        &mut frame,
        &reading(VICTIM, 1),
        EventKey { epoch: 9, event: 9 },
    );
    stream.write_all(&frame).await.unwrap();
    let said = tokio::time::timeout(
        WHILE / 3,
        told(&mut guest.replies, |reply| {
            matches!(reply, ToLink::Acked { .. })
        }),
    )
    .await;
    assert!(said.is_err(), "an event in another's name was taken");
}

/// Makes devices known until it is told that these are enough: in one go, and some at a time.
async fn ever_more_devices(attacker: &Attacker) {
    for (session, at_a_time) in [(12, DEVICES_MAX + 1), (13, DEVICES_MAX / 2 + 1)] {
        let mut guest = attacker.guest(&format!("{GREEDY}*"), session).await;
        guest.register(&format!("{GREEDY}a-"), at_a_time).await;
        guest.register(&format!("{GREEDY}b-"), at_a_time).await;
        told(&mut guest.replies, |reply| {
            matches!(reply, ToLink::Refused { .. })
        })
        .await;
        assert!(guest.quic.close_reason().is_none(), "the others are served");
    }
}

/// Waits for a reply of one kind; what else comes is the question for the time.
async fn told(replies: &mut RecvStream, is_it: impl Fn(&ToLink) -> bool) {
    loop {
        let mut length = [0; 4];
        replies.read_exact(&mut length).await.unwrap();
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        replies.read_exact(&mut frame).await.unwrap();
        if is_it(&ToLink::parse(&frame).unwrap()) {
            return;
        }
    }
}

/// Packets that are none, and a handshake of another protocol.
async fn noise(attacker: &Attacker) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut word = 7_u64;
    for n in 0..NOISE {
        let mut packet = vec![0; (n as usize * 37) % 1_400];
        for byte in &mut packet {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (word >> 56) as u8;
        }
        socket.send_to(&packet, attacker.twin).await.unwrap();
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
}
