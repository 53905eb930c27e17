//! T3 out: one stream for each command, its acknowledgement, its outcome.
//!
//! A command whose connection is lost, or whose device is busy, goes back to the tier, which tries
//! again until its deadline. It chooses no connection. Bounds: [`COMMANDS_IN_FLIGHT_MAX`] streams
//! at once, each until its command's deadline.

use std::sync::Arc;

use actorsim_actors::Fault;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use tokio::sync::mpsc;

use super::Peer;
use crate::command::{AckStatus, Command, Outcome};
use crate::endpoint::{Protocol, codes};
use crate::frames::{ACK_LEN, CommandFrame, parse_ack};
use crate::reading::{READING_LEN, Reading};
use crate::registry::InFlight;

/// Commands on streams of one connection at once: below the peer's stream limit, so that opening
/// does not wait.
const COMMANDS_IN_FLIGHT_MAX: usize = 64;

pub(super) async fn run(
    peer: Arc<Peer>,
    mut waiting: mpsc::Receiver<InFlight>,
) -> Result<(), Fault> {
    let mut flying = FuturesUnordered::new();
    loop {
        let room = flying.len() < COMMANDS_IN_FLIGHT_MAX;
        tokio::select! {
            biased;
            Some(()) = flying.next() => {}
            next = waiting.recv(), if room => match next {
                Some(command) => flying.push(fly(Arc::clone(&peer), command)),
                None => return Ok(()),
            }
        }
    }
}

/// Carries one command to its outcome, or gives it back when the connection is lost.
async fn fly(peer: Arc<Peer>, mut in_flight: InFlight) {
    let Some(issued) = in_flight.issued() else {
        return;
    };
    let command = issued.command().clone();
    let left = command.expires().since(peer.clock().monotonic());
    issued.routed = true;
    let mut opened = None;
    let asked = tokio::time::timeout(left, ask(&peer, &command, &mut opened)).await;
    let outcome = match asked {
        Ok(Ok(outcome)) => outcome,
        // The drop of `in_flight` gives it back.
        Ok(Err(GivenBack)) => return,
        Err(_) => {
            abandon(opened);
            Outcome::Expired
        }
    };
    if let Some(issued) = in_flight.take() {
        issued.settle(outcome);
    }
}

/// The connection is gone, or the device is busy: the command may be tried again.
struct GivenBack;

type Streams = (SendStream, RecvStream);

fn abandon(opened: Option<Streams>) {
    if let Some((mut send, mut receive)) = opened {
        drop(send.reset(codes::DEADLINE));
        drop(receive.stop(codes::DEADLINE));
    }
}

async fn ask(
    peer: &Peer,
    command: &Command,
    opened: &mut Option<Streams>,
) -> Result<Outcome, GivenBack> {
    let opening = peer.clock().monotonic();
    let streams = peer.quic.open_bi().await.map_err(|_| GivenBack)?;
    let (send, receive) = opened.insert(streams);
    let reading = command.reading(peer.clock().unix_us());
    let written = match peer.protocol {
        Protocol::Dt1 => send.write_all(&reading.encode()).await,
        Protocol::Actorsim1 | Protocol::Commands => {
            let left = command.expires().since(opening).as_millis();
            let left_ms = u32::try_from(left).unwrap_or(u32::MAX);
            let frame = CommandFrame {
                id: command.id,
                left_ms,
                reading,
            };
            send.write_all(&frame.encode()).await
        }
    };
    match written {
        Ok(()) => {}
        Err(WriteError::ConnectionLost(_)) => return Err(GivenBack),
        Err(_) => return Ok(refused(peer)),
    }
    drop(send.finish());
    let answer = match peer.protocol {
        Protocol::Dt1 => {
            let mut bytes = [0; READING_LEN];
            match receive.read_exact(&mut bytes).await {
                Ok(()) => Reading::decode(&bytes)
                    .ok()
                    .map(|ack| (ack, AckStatus::Executed)),
                Err(error) => return unread(peer, &error),
            }
        }
        Protocol::Actorsim1 | Protocol::Commands => {
            let mut bytes = [0; ACK_LEN];
            match receive.read_exact(&mut bytes).await {
                Ok(()) => parse_ack(&bytes).ok(),
                Err(error) => return unread(peer, &error),
            }
        }
    };
    Ok(judge(peer, command, &reading, answer, opening))
}

/// What an answer that could not be read means.
fn unread(peer: &Peer, error: &ReadExactError) -> Result<Outcome, GivenBack> {
    match error {
        ReadExactError::ReadError(ReadError::ConnectionLost(_)) => Err(GivenBack),
        ReadExactError::ReadError(ReadError::Reset(codes::BUSY)) => Err(GivenBack),
        // Our own link that dies lets its streams end before its connection.
        ReadExactError::FinishedEarly(0) if peer.protocol != Protocol::Dt1 => Err(GivenBack),
        _ => Ok(refused(peer)),
    }
}

fn refused(peer: &Peer) -> Outcome {
    peer.core.stats.quic.stream_resets.inc();
    Outcome::Error
}

/// Checks that the acknowledgement is this command's, and times it.
fn judge(
    peer: &Peer,
    command: &Command,
    sent: &Reading,
    answer: Option<(Reading, AckStatus)>,
    opening: actorsim_actors::Time,
) -> Outcome {
    let Some((ack, status)) = answer else {
        return Outcome::Error;
    };
    let same =
        ack.device == sent.device && ack.sensor == sent.sensor && ack.sequence == sent.sequence;
    if !same {
        return Outcome::Error;
    }
    let now = peer.clock().monotonic();
    let t3 = &peer.core.stats.t3;
    t3.rtt.record(micros(now.since(opening)));
    t3.decide.record(micros(now.since(command.decided)));
    match status {
        AckStatus::Executed => Outcome::Acked,
        AckStatus::Superseded => Outcome::Superseded,
        AckStatus::Refused => Outcome::Error,
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
