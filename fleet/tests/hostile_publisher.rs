//! An AMQP broker that hangs up, stalls, lies and babbles at every point of a handshake and after
//! it: the publisher comes back, counts, and loses nothing; that of another node does not notice.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "amqp_kit/kit.rs"]
mod kit;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kit::{Manner, Rig, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers of an honest broker until the first message is confirmed: start, tune, open, channel,
/// exchange, queue, binding, quality, consumer, channel, confirms, the confirmation.
const ANSWERS: usize = 12;
const DEVICES: u32 = 20;

/// What a broker does instead of its answer of the connection's number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Close,
    HalfAndClose,
    HalfAndStall,
    Stall,
    Garbage,
    /// An answer to something else.
    Other,
    /// A frame that never ends.
    Endless,
}

const ALL: [Does; 7] = [
    Does::Close,
    Does::HalfAndClose,
    Does::HalfAndStall,
    Does::Stall,
    Does::Garbage,
    Does::Other,
    Does::Endless,
];

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(0xce);
    out
}

fn method(channel: u16, (class, method): (u16, u16), arguments: &[u8]) -> Vec<u8> {
    let mut payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
    payload.extend_from_slice(arguments);
    frame(1, channel, &payload)
}

/// What an honest broker answers to a method; none where that is nothing.
fn answer(channel: u16, asked: (u16, u16)) -> Option<Vec<u8>> {
    let (to, arguments): ((u16, u16), &[u8]) = match asked {
        // channels, bytes of a frame, seconds between heartbeats
        (10, 11) => ((10, 30), &[0x07, 0xff, 0, 2, 0, 0, 0, 60]),
        (10, 40) => ((10, 41), &[0]),
        (10, 50) => ((10, 51), &[]),
        (20, 10) => ((20, 11), &[0, 0, 0, 0]),
        (20, 40) => ((20, 41), &[]),
        (40, 10) => ((40, 11), &[]),
        (50, 10) => ((50, 11), &[1, b'q', 0, 0, 0, 0, 0, 0, 0, 0]),
        (50, 20) => ((50, 21), &[]),
        (60, 10) => ((60, 11), &[]),
        (60, 20) => ((60, 21), b"\x08actorsim"),
        (85, 10) => ((85, 11), &[]),
        _ => return None,
    };
    Some(method(channel, to, arguments))
}

/// One connection, honest up to an answer.
struct Peer {
    stream: TcpStream,
    /// The answer that is another, and what it is.
    bad: Option<(usize, Does)>,
    answers: usize,
    /// Messages so far, by channel.
    confirmed: BTreeMap<u16, u64>,
}

impl Peer {
    async fn serve(&mut self) -> io::Result<()> {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).await?;
        let start = b"\x00\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US";
        self.say(&method(0, (10, 10), start)).await?;
        loop {
            let (kind, channel) = (self.stream.read_u8().await?, self.stream.read_u16().await?);
            let mut payload = vec![0; self.stream.read_u32().await? as usize];
            self.stream.read_exact(&mut payload).await?;
            self.stream.read_u8().await?;
            let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
            let answer = match kind {
                1 => answer(channel, (number(0), number(2))),
                3 => {
                    let tag = self.confirmed.entry(channel).or_default();
                    *tag += 1;
                    let mut arguments = tag.to_be_bytes().to_vec();
                    arguments.push(0);
                    Some(method(channel, (60, 80), &arguments))
                }
                _ => None,
            };
            if let Some(answer) = answer {
                self.say(&answer).await?;
            }
        }
    }

    async fn say(&mut self, answer: &[u8]) -> io::Result<()> {
        let at = self.answers;
        self.answers += 1;
        let Some((_, does)) = self.bad.filter(|(bad, _)| *bad == at) else {
            return self.stream.write_all(answer).await;
        };
        let stall = || async { std::future::pending().await };
        let half = &answer[..answer.len() / 2];
        match does {
            Does::Close => {}
            Does::HalfAndClose => self.stream.write_all(half).await?,
            Does::HalfAndStall => {
                self.stream.write_all(half).await?;
                return stall().await;
            }
            Does::Stall => return stall().await,
            Does::Garbage => {
                self.stream.write_all(&[0xff; 64]).await?;
                return stall().await;
            }
            Does::Other => {
                self.stream.write_all(&method(7, (60, 80), &[9; 9])).await?;
                return stall().await;
            }
            Does::Endless => {
                let endless = [1, 0, 0, 0x7f, 0xff, 0xff, 0xff];
                self.stream.write_all(&endless).await?;
                let more = [0x20; 4_096];
                for _ in 0..64 {
                    self.stream.write_all(&more).await?;
                }
                return stall().await;
            }
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

/// A broker that does something to its first connections, each at another answer; its address, and
/// how many it has had.
async fn broker(does: Option<Does>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let mut peer = Peer {
                stream,
                bad: does.map(|does| (number, does)).filter(|_| number < ANSWERS),
                answers: 0,
                confirmed: Default::default(),
            };
            tokio::spawn(async move { peer.serve().await });
        }
    });
    (address, accepted)
}

#[test]
fn a_publisher_survives_a_hostile_broker_and_no_other_notices() {
    run(async {
        let (address, _) = broker(None).await;
        let patient = Manner {
            devices: DEVICES,
            ..Manner::default()
        };
        let honest = Rig::like(&address, "honest", patient).await;
        let mut rigs = Vec::new();
        for does in ALL {
            let (address, accepted) = broker(Some(does)).await;
            let rig = Rig::hasty(&address, &format!("{does:?}").to_lowercase(), DEVICES).await;
            rigs.push((does, accepted, rig));
        }
        for (does, accepted, rig) in rigs {
            let all_bad = |_: &_| accepted.load(Ordering::Relaxed) > ANSWERS;
            rig.until(all_bad).await;
            let before = rig.counts().acked;
            rig.until(|now| now.acked >= before + u64::from(DEVICES))
                .await;
            let counts = rig.stop().await;
            assert_eq!((counts.dropped, counts.refused), (0, 0), "{does:?}");
            assert!(counts.errors >= ANSWERS as u64, "{does:?}");
        }
        let counts = honest.stop().await;
        assert_eq!((counts.errors, counts.connects), (0, 1));
        assert_eq!(counts.acked, counts.sent);
    });
}
