//! T3 in: commands from the twin to their devices, and the devices' answers back.
//!
//! It executes nothing. A command that the fleet does not take is refused on the wire; one whose
//! answer never comes is the twin's to expire: it stops the stream, which is then let go. Bounds:
//! [`PENDING_MAX`] commands without an answer (the oldest is given up), [`READ_TIMEOUT`] to read
//! one.

use std::collections::BTreeMap;
use std::future::ready;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};

use super::{Answers, Downlink, DownlinkError, Ticket, WireCommand};
use crate::command::AckStatus;
use crate::endpoint::{Protocol, STREAMS_MAX, codes};
use crate::frames::{COMMAND_LEN, CommandFrame, StreamType, ack_frame};
use crate::reading::{READING_LEN, Reading};

/// Commands of one connection without an answer: QUIC's stream limit, doubled.
const PENDING_MAX: usize = 2 * STREAMS_MAX as usize;
/// From the opening of a stream to its last byte: 52 bytes, one packet.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// A command that waits for its device.
struct Pending {
    send: SendStream,
    reading: Reading,
}

/// What serves the commands of a connection.
pub(super) struct Serving<'a> {
    pub(super) downlink: &'a dyn Downlink,
    pub(super) answers: &'a Answers,
    pub(super) protocol: Protocol,
}

/// Serves connection `number` until it ends; returns why.
pub(super) async fn run(
    serving: Serving<'_>,
    connection: &Connection,
    number: u64,
) -> ConnectionError {
    let Serving {
        downlink,
        answers,
        protocol,
    } = serving;
    let mut reading = FuturesUnordered::new();
    let mut pending = BTreeMap::new();
    let mut given_up = FuturesUnordered::new();
    let (mut came, mut last) = (Vec::new(), 0_u64);
    loop {
        answer(answers, protocol, &mut pending).await;
        let room = reading.len() < STREAMS_MAX as usize;
        tokio::select! {
            biased;
            () = answers.wake.notified() => {}
            Some(read) = reading.next() => {
                if let Some((send, command)) = read {
                    last += 1;
                    let ticket = answers.ticket(number, last);
                    came.push((ticket, wire_command(protocol, &command)));
                    let reading = command.reading;
                    pending.insert(ticket, Pending { send, reading });
                }
            }
            // Kept open, it would count against the twin's streams for ever.
            Some(ticket) = given_up.next() => drop(pending.remove(&ticket)),
            accepted = connection.accept_bi(), if room => match accepted {
                Ok((send, receive)) => reading.push(read(protocol, send, receive)),
                Err(why) => return why,
            },
            // Nothing more is there to be read: what came together wakes their devices together.
            () = ready(()), if !came.is_empty() => {
                hand_over(downlink, &came, &mut pending);
                for (ticket, _) in came.drain(..) {
                    if let Some(taken) = pending.get(&ticket) {
                        given_up.push(taken.send.stopped().map(move |_| ticket));
                    }
                }
            }
        }
    }
}

/// Writes the answers that wait.
async fn answer(answers: &Answers, protocol: Protocol, pending: &mut BTreeMap<Ticket, Pending>) {
    while let Some((ticket, status)) = answers.next() {
        if let Some(Pending { send, reading }) = pending.remove(&ticket) {
            reply(protocol, send, &reading, status).await;
        }
    }
}

async fn reply(protocol: Protocol, mut send: SendStream, reading: &Reading, status: AckStatus) {
    let written = match (protocol, status) {
        (Protocol::Actorsim1 | Protocol::Commands, _) => {
            send.write_all(&ack_frame(reading, status)).await
        }
        (Protocol::Dt1, AckStatus::Refused) => {
            drop(send.reset(codes::REFUSED));
            return;
        }
        (Protocol::Dt1, _) => send.write_all(&reading.encode()).await,
    };
    if written.is_ok() {
        drop(send.finish());
    }
}

fn wire_command(protocol: Protocol, command: &CommandFrame) -> WireCommand {
    let reading = command.reading;
    WireCommand {
        device: reading.device,
        sensor: reading.sensor,
        kind: reading.kind,
        value: reading.value,
        id: command.id,
        left: (protocol != Protocol::Dt1)
            .then(|| Duration::from_millis(u64::from(command.left_ms))),
    }
}

/// Hands commands to the fleet, which may refuse some.
fn hand_over(
    downlink: &dyn Downlink,
    came: &[(Ticket, WireCommand)],
    pending: &mut BTreeMap<Ticket, Pending>,
) {
    downlink.commands(came, &mut |ticket, error| {
        let Some(Pending { mut send, reading }) = pending.remove(&ticket) else {
            return;
        };
        tracing::debug!(%error, device = %reading.device, "command not taken");
        let code = match error {
            DownlinkError::Busy => codes::BUSY,
            DownlinkError::UnknownDevice => codes::REFUSED,
        };
        drop(send.reset(code));
    });
    while pending.len() > PENDING_MAX
        && let Some((_, mut oldest)) = pending.pop_first()
    {
        drop(oldest.send.reset(codes::DEADLINE));
    }
}

/// Reads one command; a stream that carries something else is reset.
async fn read(
    protocol: Protocol,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Option<(SendStream, CommandFrame)> {
    let command = async {
        match protocol {
            Protocol::Dt1 => {
                let mut bytes = [0; READING_LEN];
                receive.read_exact(&mut bytes).await.ok()?;
                let reading = Reading::decode(&bytes).ok()?;
                Some(CommandFrame {
                    id: u64::from(reading.sequence),
                    left_ms: 0,
                    reading,
                })
            }
            Protocol::Actorsim1 | Protocol::Commands => {
                let mut bytes = [0; 1 + COMMAND_LEN];
                receive.read_exact(&mut bytes).await.ok()?;
                let (kind, frame) = bytes.split_first_chunk::<1>()?;
                (kind[0] == StreamType::Command as u8).then_some(())?;
                CommandFrame::parse(frame.first_chunk()?).ok()
            }
        }
    };
    match tokio::time::timeout(READ_TIMEOUT, command).await {
        Ok(Some(command)) => Some((send, command)),
        _ => {
            drop(send.reset(codes::PROTOCOL));
            drop(receive.stop(codes::PROTOCOL));
            None
        }
    }
}
