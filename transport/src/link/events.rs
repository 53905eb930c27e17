//! T2 out: batches of the outbox over one long-lived stream, again from the oldest when the twin
//! makes no progress.
//!
//! It numbers nothing and forgets nothing: the outbox does. Under `dt/1` each batch has its own
//! stream, and counts as acknowledged when the peer's QUIC has it. Bounds: the outbox's window.

use std::time::Duration;

use actorsim_actors::Clock;
use bytes::Bytes;
use quinn::Connection;

use super::dial::Line;
use super::outbox::T2Outbox;
use crate::endpoint::Protocol;
use crate::frames::{Events, FRAME_HEADER_LEN, StreamType};
use crate::reading::READING_LEN;

/// No acknowledgement for this long: everything not acknowledged is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(1);

pub(super) async fn run(line: &Line, connection: &Connection) -> String {
    let outbox = line.link.outbox();
    let clock = line.system.clock();
    let ended = match line.spec.protocol {
        Protocol::Actorsim1 | Protocol::Commands => numbered(outbox, clock, connection).await,
        Protocol::Dt1 => plain(outbox, connection).await,
    };
    match ended {
        Ok(never) => match never {},
        Err(why) => why.to_string(),
    }
}

type Ended = Result<std::convert::Infallible, Box<dyn std::error::Error + Send + Sync>>;

async fn numbered(outbox: &T2Outbox, clock: &Clock, connection: &Connection) -> Ended {
    let mut send = connection.open_uni().await?;
    send.write_all(&[StreamType::Events as u8]).await?;
    let mut acked = outbox.acked();
    let mut progress = clock.monotonic();
    loop {
        while let Some(frame) = outbox.next_frame() {
            send.write_chunk(frame).await?;
        }
        let now = clock.monotonic();
        if outbox.acked() != acked || !outbox.in_flight() {
            acked = outbox.acked();
            progress = now;
        }
        if !outbox.in_flight() {
            outbox.changed().await;
            progress = clock.monotonic();
            continue;
        }
        let left = RESEND_AFTER.saturating_sub(now.since(progress));
        if left.is_zero() {
            outbox.rewind();
            progress = now;
        } else {
            drop(tokio::time::timeout(left, outbox.changed()).await);
        }
    }
}

async fn plain(outbox: &T2Outbox, connection: &Connection) -> Ended {
    loop {
        let Some(frame) = outbox.next_frame() else {
            outbox.changed().await;
            continue;
        };
        let (sequence, readings) = unframed(&frame)?;
        let mut send = connection.open_uni().await?;
        send.write_chunk(readings).await?;
        send.finish()?;
        if let Some(code) = send.stopped().await? {
            tracing::warn!(%code, "the twin refused a T2 stream; its events are given up");
        }
        outbox.acknowledge(sequence);
    }
}

/// The bare readings of a framed batch.
fn unframed(frame: &Bytes) -> Result<(u64, Bytes), crate::frames::FrameError> {
    let (mut readings, mut keys) = (Vec::new(), Vec::new());
    let events = Events::parse(&frame[FRAME_HEADER_LEN..])?;
    events.decode_into(&mut readings, &mut keys)?;
    let mut bytes = Vec::with_capacity(readings.len() * READING_LEN);
    for reading in &readings {
        reading.encode_into(&mut bytes);
    }
    Ok((events.sequence, bytes.into()))
}
