//! The control stream of `actorsim/1`: hello, registrations, acknowledgements of T2, goodbye.
//!
//! T2 is acknowledged only as far as the session's ledger says that it is durable. It moves no
//! reading, and judges no registration ([`super::register`] does). Bounds: one control stream;
//! frames of 64 KiB; [`REPLIES_MAX`] replies waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actorsim_actors::Fault;
use quinn::{ReadExactError, RecvStream, SendStream};
use tokio::sync::mpsc;

use super::Peer;
use super::read::{FrameReader, ReadFrameError};
use super::register::register;
use crate::endpoint::codes;
use crate::frames::{CONTROL_FRAME_LEN_MAX, FrameError, StreamType, ToLink, ToTwin};
use crate::session::T2Session;
use crate::stats::Exchange;

/// How long a peer has from the handshake to its hello.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of control frames read at once: a few without a long registration.
pub(crate) const CONTROL_AHEAD: usize = 4 * 1024;
/// The link is first asked for its time so often,
const CLOCK_FIRST: Duration = Duration::from_millis(100);
/// this many times,
const CLOCK_FIRST_ASKS: u32 = 8;
/// then so often: clocks drift by less than a millisecond meanwhile.
const CLOCK_PERIOD: Duration = Duration::from_secs(10);
/// Replies waiting for the stream: a farewell, and what is refused, which waits for its reader.
const REPLIES_MAX: usize = 4;
/// Datagrams still under way at a goodbye: looked at this often,
const SETTLE_STEP: Duration = Duration::from_millis(20);
/// until none came in a step, or this many steps have passed: half a second.
const SETTLE_STEPS_MAX: u32 = 25;

pub(super) async fn run(peer: Arc<Peer>) -> Result<(), Fault> {
    if let Err(error) = serve(&peer).await {
        end(&peer, &error);
    }
    Ok(())
}

/// Closes the connection over what its control stream brought, unless it is gone.
pub(super) fn end(peer: &Peer, error: &ControlError) {
    let code = match error {
        ControlError::Refused(code, _) => *code,
        ControlError::Frame(ReadFrameError::Stream(_)) | ControlError::Gone => return,
        ControlError::Frame(_) | ControlError::Silent(_) => codes::PROTOCOL,
    };
    let text = error.to_string();
    tracing::warn!(conn = peer.id, "{text}");
    peer.refuse(code, &text);
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    #[error(transparent)]
    Frame(#[from] ReadFrameError),
    #[error("no {0} within {secs} s", secs = HELLO_TIMEOUT.as_secs())]
    Silent(&'static str),
    #[error("{1}")]
    Refused(quinn::VarInt, String),
    #[error("the connection is gone")]
    Gone,
}

impl From<FrameError> for ControlError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error.into())
    }
}

async fn serve(peer: &Peer) -> Result<(), ControlError> {
    let (mut send, receive, session) = in_time("hello", hello(peer)).await?;
    let (replies, waiting) = mpsc::channel(REPLIES_MAX);
    let acked = session.acked();
    let welcome = ToLink::Welcome {
        node: peer.core.node.clone(),
        acked,
    };
    write(&mut send, &welcome).await?;
    if let Some(port) = peer.core.commands_port().filter(|_| peer.joinable) {
        let connection = peer.id;
        write(&mut send, &ToLink::Commands { port, connection }).await?;
    }
    tokio::select! {
        biased;
        read = listen(peer, &session, receive, replies) => read,
        written = talk(peer, &session, acked, &mut send, waiting) => written,
    }
}

/// The stream, and what was read ahead of it.
pub(super) type Receiving = (RecvStream, FrameReader);

/// What a peer says first, called `what`, if it does so soon; a stream that ends before is no
/// better.
pub(super) async fn in_time<T>(
    what: &'static str,
    said: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    match tokio::time::timeout(HELLO_TIMEOUT, said).await {
        Ok(Err(ControlError::Frame(ReadFrameError::Stream(_)))) | Err(_) => {
            Err(ControlError::Silent(what))
        }
        Ok(said) => said,
    }
}

/// The first stream and the first message on it.
pub(super) async fn first(peer: &Peer) -> Result<(SendStream, Receiving, ToTwin), ControlError> {
    let opened = peer.quic.accept_bi().await;
    let (send, mut receive) = opened.map_err(|_| ControlError::Gone)?;
    let mut kind = [0];
    receive
        .read_exact(&mut kind)
        .await
        .map_err(ReadFrameError::from)?;
    if StreamType::from_byte(kind[0]) != Some(StreamType::Control) {
        return Err(FrameError::StreamType(kind[0]).into());
    }
    let mut frames = FrameReader::new(CONTROL_FRAME_LEN_MAX, CONTROL_AHEAD);
    let frame = frames.next(&mut receive).await?;
    let frame = frame.ok_or(ReadFrameError::Stream(ReadExactError::FinishedEarly(0)))?;
    let message = ToTwin::parse(frame)?;
    Ok((send, (receive, frames), message))
}

/// The hello, which opens the session.
async fn hello(peer: &Peer) -> Result<(SendStream, Receiving, Arc<T2Session>), ControlError> {
    let (send, receiving, message) = first(peer).await?;
    let ToTwin::Hello {
        node,
        session,
        acked,
        t1_readings,
        ..
    } = message
    else {
        return Err(refused("the first message is not a hello"));
    };
    let opened = peer.core.sessions.open(session, &node, acked, t1_readings);
    let session = opened.map_err(|error| ControlError::Refused(codes::FULL, error.to_string()))?;
    drop(peer.session.set(Arc::clone(&session)));
    Ok((send, receiving, session))
}

pub(super) fn refused(why: &str) -> ControlError {
    ControlError::Refused(codes::PROTOCOL, why.into())
}

/// Reads until the peer is done.
async fn listen(
    peer: &Peer,
    session: &T2Session,
    (mut receive, mut frames): Receiving,
    replies: mpsc::Sender<ToLink>,
) -> Result<(), ControlError> {
    while let Some(frame) = frames.next(&mut receive).await? {
        match ToTwin::parse(frame)? {
            ToTwin::Hello { .. } => return Err(refused("a second hello")),
            ToTwin::Join { .. } => return Err(refused("a join on a connection of its own")),
            ToTwin::Register { devices, sensors } => {
                peer.registers.store(true, Ordering::Release);
                register(peer, devices, sensors, &replies).await?;
                peer.registers.store(false, Ordering::Release);
            }
            ToTwin::Bye { t1_readings } => {
                settle(session, t1_readings).await;
                drop(replies.send(ToLink::Farewell).await);
            }
            ToTwin::Clock {
                asked_us,
                came_us,
                left_us,
            } => peer.hear_clock(Exchange {
                asked_us,
                came_us,
                left_us,
                answered_us: peer.clock().unix_us(),
            }),
        }
    }
    // The peer has nothing more to say, and may still listen.
    peer.quic.closed().await;
    Ok(())
}

/// Writes replies, the ledger as it moves, and now and then the question what time it is.
async fn talk(
    peer: &Peer,
    session: &T2Session,
    mut announced: u64,
    send: &mut SendStream,
    mut replies: mpsc::Receiver<ToLink>,
) -> Result<(), ControlError> {
    let (mut talking, mut asks) = (true, 0);
    let mut clock = tokio::time::interval(CLOCK_FIRST);
    loop {
        let message = tokio::select! {
            biased;
            _ = clock.tick() => {
                asks += 1;
                if asks == CLOCK_FIRST_ASKS {
                    clock = tokio::time::interval(CLOCK_PERIOD);
                    clock.reset();
                }
                ToLink::Clock { asked_us: peer.clock().unix_us() }
            }
            reply = replies.recv(), if talking => match reply {
                Some(reply) => reply,
                None => {
                    talking = false;
                    continue;
                }
            },
            acked = session.acked_beyond(announced) => {
                announced = acked;
                ToLink::Acked { sequence: acked }
            }
        };
        write(send, &message).await?;
    }
}

pub(super) async fn write(send: &mut SendStream, message: &ToLink) -> Result<(), ControlError> {
    let frame = message.frame()?;
    send.write_all(&frame).await.map_err(|_| ControlError::Gone)
}

/// Waits for the datagrams still under way: what has not come when the connection ends is lost.
async fn settle(session: &T2Session, sent: u64) {
    session.announce_t1(sent);
    for _ in 0..SETTLE_STEPS_MAX {
        let before = session.t1_received();
        if before >= sent {
            break;
        }
        tokio::time::sleep(SETTLE_STEP).await;
        if session.t1_received() == before {
            break;
        }
    }
}
