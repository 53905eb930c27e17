//! T2 in: event batches of `actorsim/1`, plain readings of `dt/1`.
//!
//! Both wait for tier T2, so a slow world is felt by QUIC's flow control and then by the sender. A
//! stream that carries something else is stopped, the connection lives. It acknowledges nothing.
//! Bounds: QUIC's stream limit; a frame, or a batch, in memory for each stream.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actorsim_actors::{Fault, SendError};
use bytes::{Buf as _, Bytes};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use quinn::{ReadExactError, RecvStream};

use super::Peer;
use super::read::ReadFrameError;
use crate::batch::{BATCH_READINGS_MAX, Batch, EventBatch};
use crate::endpoint::{Protocol, STREAMS_MAX, codes};
use crate::frames::{EventStream, FrameError, StreamType};
use crate::reading::{READING_LEN, Reading, ReadingStream};
use crate::session::{EventKey, T2Session};
use crate::stats::{DropReason, Tier};
use crate::tiers::T2Message;

/// How long one batch waits for tier T2 before the wait is looked at again.
const T2_FORWARD_DEADLINE: Duration = Duration::from_secs(1);
/// Events of devices that are not registered yet: looked at again this often,
const COVER_LOOK: Duration = Duration::from_millis(10);
/// this many times: a second, after which the link sends them again anyway.
const COVER_LOOKS_MAX: u32 = 100;
/// Pieces taken from an event stream at once, each what one packet brought: 22 KiB of Ethernet's,
/// at most as many bytes as a stream's window.
const CHUNKS: usize = 16;
/// Bytes taken from a `dt/1` stream at once: a batch's worth.
const PLAIN_CHUNK: usize = BATCH_READINGS_MAX * READING_LEN;

pub(super) async fn run(peer: Arc<Peer>) -> Result<(), Fault> {
    let mut streams = FuturesUnordered::new();
    loop {
        let room = streams.len() < STREAMS_MAX as usize;
        tokio::select! {
            biased;
            Some(()) = streams.next() => {}
            accepted = peer.quic.accept_uni(), if room => match accepted {
                Ok(stream) => streams.push(serve(Arc::clone(&peer), stream)),
                Err(_) => break,
            }
        }
    }
    if peer.protocol == Protocol::Dt1 {
        // Nobody sends again what came before the end.
        while streams.next().await.is_some() {}
    }
    peer.events_over.store(true, Ordering::Release);
    Ok(())
}

async fn serve(peer: Arc<Peer>, mut stream: RecvStream) {
    let served = match peer.protocol {
        Protocol::Dt1 => plain(&peer, &mut stream).await,
        Protocol::Actorsim1 | Protocol::Commands => typed(&peer, &mut stream).await,
    };
    if let Err(ReadFrameError::Frame(error)) = served {
        peer.core.stats.t2.decode_errors.inc();
        peer.core.stats.quic.stream_resets.inc();
        tracing::debug!(%error, conn = peer.id, "T2 stream refused");
        drop(stream.stop(codes::READING));
    }
}

async fn typed(peer: &Peer, stream: &mut RecvStream) -> Result<(), ReadFrameError> {
    let mut kind = [0];
    stream.read_exact(&mut kind).await?;
    let session = peer.session.get();
    let (Some(StreamType::Events), Some(session)) = (StreamType::from_byte(kind[0]), session)
    else {
        return Err(FrameError::StreamType(kind[0]).into());
    };
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    let mut frames = EventStream::default();
    let (mut events, mut keys) = (Vec::new(), Vec::new());
    while let Some(count) = next(stream, &mut chunks).await? {
        for at in 0..count {
            while !chunks[at].is_empty() {
                if events.capacity() == 0 {
                    events = peer.core.pool.take();
                }
                let mut piece = &chunks[at][..];
                let taken = frames.take(&mut piece, &mut events, &mut keys)?;
                let used = chunks[at].len() - piece.len();
                chunks[at].advance(used);
                let Some(sequence) = taken else { continue };
                let (events, keys) = (mem::take(&mut events), mem::take(&mut keys));
                let mut handing = pin!(hand_on(peer, session, sequence, events, keys));
                if handing.as_mut().now_or_never().is_none() {
                    // while it waits, what has come shall not hold all that came with it
                    for chunk in &mut chunks {
                        *chunk = Bytes::copy_from_slice(chunk);
                    }
                    handing.await;
                }
            }
            chunks[at] = Bytes::new();
        }
    }
    Ok(())
}

/// What has come of a stream, in the pieces in which it came; `None` at its end.
async fn next(
    stream: &mut RecvStream,
    chunks: &mut [Bytes],
) -> Result<Option<usize>, ReadFrameError> {
    let read = stream.read_chunks(chunks).await;
    Ok(read.map_err(ReadExactError::ReadError)?)
}

/// Hands a batch on. One that is not taken is not acknowledged, and comes again.
async fn hand_on(
    peer: &Peer,
    session: &Arc<T2Session>,
    sequence: u64,
    events: Vec<Reading>,
    keys: Vec<EventKey>,
) {
    count(peer, &events);
    let covered = covered(peer, &events).await;
    let received = peer.clock().monotonic();
    let (session, pool) = (Arc::clone(session), &peer.core.pool);
    let events = pool.fit(events);
    let batch = EventBatch::new(session, sequence, events, keys, received, pool);
    if covered {
        let taken = peer
            .core
            .t2
            .send(T2Message::Events(batch), T2_FORWARD_DEADLINE);
        drop(taken.await);
    }
}

/// Whether the certificate covers the devices of a batch; waits for a registration under way. A
/// batch that is not covered is not taken, so it is not acknowledged.
async fn covered(peer: &Peer, events: &[Reading]) -> bool {
    for _ in 0..COVER_LOOKS_MAX {
        // first, so that what it still made known is covered
        let registers = peer.registers.load(Ordering::Acquire);
        if peer.covers(events) {
            return true;
        }
        if peer.refuses.load(Ordering::Acquire) && !registers {
            // most likely of such a device: its link hears of it, and sends the others again
            break;
        }
        tokio::time::sleep(COVER_LOOK).await;
    }
    tracing::debug!(conn = peer.id, "events of devices that were not registered");
    false
}

fn count(peer: &Peer, readings: &[Reading]) {
    let t2 = &peer.core.stats.t2;
    t2.received.add(readings.len() as u64);
    if let Some(first) = readings.first() {
        t2.latency
            .record(peer.link_us().saturating_sub(first.at_us));
    }
}

/// Readings until FIN. Those before a bad one are delivered.
async fn plain(peer: &Peer, stream: &mut RecvStream) -> Result<(), ReadFrameError> {
    let mut cut = ReadingStream::default();
    loop {
        let chunk = match stream.read_chunk(PLAIN_CHUNK, true).await {
            Ok(Some(chunk)) => chunk.bytes,
            Ok(None) => return Ok(cut.end().map_err(FrameError::from)?),
            // Reset by its sender, or the connection is gone: nobody to tell.
            Err(_) => return Ok(()),
        };
        let mut readings = peer.core.pool.take();
        let taken = cut.take(&chunk, &mut readings);
        count(peer, &readings);
        peer.figures.received.add(readings.len() as u64);
        peer.look(&readings);
        peer.sift(Tier::T2, &mut readings);
        let batch = Batch::new(
            Tier::T2,
            readings,
            peer.clock().monotonic(),
            &peer.core.pool,
        );
        forward(peer, batch.of(&peer.figures)).await;
        taken.map_err(FrameError::from)?;
    }
}

/// Waits for tier T2 as long as the actor lives: nobody would send this again.
async fn forward(peer: &Peer, batch: Batch) {
    if batch.readings.is_empty() {
        return;
    }
    let mut message = T2Message::Plain(batch);
    loop {
        match peer.core.t2.send(message, T2_FORWARD_DEADLINE).await {
            Ok(()) => return,
            Err(SendError::Closed(refused)) => {
                if let T2Message::Plain(batch) = refused {
                    batch.discard(DropReason::Tier);
                }
                return;
            }
            Err(refused) => message = refused.into_message(),
        }
    }
}
