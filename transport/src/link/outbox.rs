//! The outbox of T2: events that the twin has not acknowledged, in numbered batches.
//!
//! It lives outside the link actor, so that neither the actor's death nor a lost connection loses
//! an event. Go-back-N: what is not acknowledged is sent again, in order, under the same numbers.
//! Events of devices that the twin refuses leave it, so that those of others do not wait behind
//! them. It opens no stream. Bound: [`OUTBOX_EVENTS_MAX`] events; beyond it events are refused and
//! counted as blocked.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet, VecDeque}; // order: see `State::refused`
use std::fmt;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::batch::BATCH_READINGS_MAX;
use crate::frames::{
    EVENT_LEN, EVENTS_HEADER_LEN, Events, FRAME_HEADER_LEN, put_events_header, write_event,
};
use crate::reading::Reading;
use crate::session::{EventKey, EventMark};
use crate::stats::{DropReason, TransportStats};

/// Events kept at most: 3.2 MiB a link, half a minute of 2,000 events/s without a twin.
pub const OUTBOX_EVENTS_MAX: usize = 65_536;
/// Events in one batch at most, as many as readings in one of the twin's: 51 KiB, well beyond 32
/// readings a write. What a batch costs on its way, four mailboxes and an acknowledgement, is a
/// few per cent of what that many events cost.
pub const BATCH_EVENTS_MAX: usize = BATCH_READINGS_MAX;
/// Batches written and not acknowledged at most: 49,152 events, 2 ms at 20 M events/s, so that a
/// twin that commits every millisecond does not keep the link waiting. Beyond it the twin is
/// behind, and a resend costly.
pub const WINDOW_BATCHES_MAX: usize = 48;
/// Bytes of a full batch, framed.
const FRAME_LEN_FULL: usize = EVENTS_HEADER_LEN + BATCH_EVENTS_MAX * EVENT_LEN;
/// Buffers of acknowledged batches kept to be filled again: 816 KiB, what is acknowledged at once.
const SPARE_MAX: usize = 16;
/// Events encoded before they are copied into a buffer: what was sent from it lies in no cache.
const ENCODED_AT_ONCE: usize = 16;
/// Events below which a producer that waits is woken: what it makes then is sent while it is in
/// the processor's cache.
const UNSENT_FEW: usize = BATCH_EVENTS_MAX;

/// One event as a device makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutEvent {
    /// What happened.
    pub reading: Reading,
    /// What tells it from any other event of the device.
    pub key: EventKey,
}

struct Numbered {
    sequence: u64,
    events: u32,
    frame: Bytes,
    written: bool,
}

#[derive(Default)]
struct State {
    /// Encoded events without a number yet, in the buffers they will be sent from: each a batch.
    fresh: VecDeque<BytesMut>,
    /// Batches not acknowledged, oldest first.
    unacked: VecDeque<Numbered>,
    /// Empty buffers, each for a full batch.
    spare: Vec<BytesMut>,
    /// How many of `unacked` are written to the present connection.
    cursor: usize,
    acked: u64,
    next: u64,
    events: usize,
    /// How many of `events` are in `fresh`.
    unsent: usize,
    /// What was acknowledged of each device, if anybody wants to know.
    ledger: Option<BTreeMap<Uuid, EventMark>>,
    /// Devices whose events the twin does not take.
    refused: HashSet<Uuid>, // order: only asked whether one is in it
    /// Some of their events may wait here.
    unclean: bool,
}

/// Events in a buffer that begins with room for its header.
fn events_in(frame: &BytesMut) -> usize {
    (frame.len() - EVENTS_HEADER_LEN) / EVENT_LEN
}

fn is_refused(refused: &HashSet<Uuid>, event: &[u8; EVENT_LEN]) -> bool {
    let device = event.first_chunk().copied().map(Uuid::from_bytes);
    device.is_some_and(|device| refused.contains(&device))
}

/// Takes the events of refused devices out of a buffer; returns how many there were.
fn take_out(refused: &HashSet<Uuid>, frame: &mut BytesMut) -> usize {
    let (events, _) = frame[EVENTS_HEADER_LEN..].as_chunks_mut::<EVENT_LEN>();
    let (all, mut left) = (events.len(), 0);
    for at in 0..all {
        if !is_refused(refused, &events[at]) {
            events[left] = events[at];
            left += 1;
        }
    }
    frame.truncate(EVENTS_HEADER_LEN + left * EVENT_LEN);
    all - left
}

impl State {
    /// Encodes events behind those that wait.
    fn append(&mut self, mut events: &[OutEvent]) {
        while !events.is_empty() {
            let room = self
                .fresh
                .back()
                .map_or(0, |last| BATCH_EVENTS_MAX.saturating_sub(events_in(last)));
            if room == 0 {
                let count = events.len().min(BATCH_EVENTS_MAX);
                let mut frame = self.buffer(EVENTS_HEADER_LEN + count * EVENT_LEN);
                frame.put_bytes(0, EVENTS_HEADER_LEN);
                self.fresh.push_back(frame);
                continue;
            }
            let (now, later) = events.split_at(room.min(events.len()));
            if let Some(last) = self.fresh.back_mut() {
                last.reserve(now.len() * EVENT_LEN);
                for some in now.chunks(ENCODED_AT_ONCE) {
                    let mut bytes = [[0; EVENT_LEN]; ENCODED_AT_ONCE];
                    for (bytes, event) in bytes.iter_mut().zip(some) {
                        write_event(bytes, &event.reading, event.key);
                    }
                    last.extend_from_slice(bytes[..some.len()].as_flattened());
                }
            }
            events = later;
        }
    }

    /// Those events that the twin takes.
    fn wanted<'a>(&self, events: &'a [OutEvent]) -> Cow<'a, [OutEvent]> {
        let refused = |event: &OutEvent| self.refused.contains(&event.reading.device);
        if self.refused.is_empty() || !events.iter().any(refused) {
            return Cow::Borrowed(events);
        }
        events.iter().filter(|one| !refused(one)).copied().collect()
    }

    /// Takes out the events of refused devices; returns how many there were. A batch that has a
    /// number keeps it, also if nothing is left of it: the twin may have taken those before it.
    /// What was written of one that had some is written again, and what follows it.
    fn clean(&mut self) -> usize {
        let refused = &self.refused;
        let (mut numbered, mut unsent) = (0, 0);
        for (at, batch) in self.unacked.iter_mut().enumerate() {
            let (events, _) = batch.frame[EVENTS_HEADER_LEN..].as_chunks();
            if !events.iter().any(|event| is_refused(refused, event)) {
                continue;
            }
            let mut frame = BytesMut::from(&batch.frame[..]);
            let gone = take_out(refused, &mut frame);
            batch.events -= gone as u32;
            put_events_header(
                &mut &mut frame[..EVENTS_HEADER_LEN],
                batch.sequence,
                batch.events,
            );
            batch.frame = frame.freeze();
            numbered += gone;
            self.cursor = self.cursor.min(at);
        }
        for frame in &mut self.fresh {
            unsent += take_out(refused, frame);
        }
        self.fresh.retain(|frame| events_in(frame) > 0);
        self.unsent -= unsent;
        self.events -= numbered + unsent;
        self.unclean = false;
        numbered + unsent
    }

    /// An empty buffer for at least so many bytes.
    fn buffer(&mut self, length: usize) -> BytesMut {
        let spare = self.spare.pop();
        spare.unwrap_or_else(|| BytesMut::with_capacity(length))
    }

    /// Keeps the buffer of a full batch, if QUIC has let it go.
    fn keep(&mut self, frame: Bytes) {
        if frame.len() < FRAME_LEN_FULL || self.spare.len() >= SPARE_MAX {
            return;
        }
        if let Ok(mut buffer) = frame.try_into_mut() {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    fn note(&mut self, batch: &Numbered) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        let (mut readings, mut keys) = (Vec::new(), Vec::new());
        let decoded = Events::parse(&batch.frame[FRAME_HEADER_LEN..])
            .and_then(|events| events.decode_into(&mut readings, &mut keys));
        debug_assert!(decoded.is_ok(), "the outbox framed it itself");
        for (reading, key) in readings.iter().zip(keys) {
            ledger.entry(reading.device).or_default().fold(key);
        }
    }
}

/// The unacknowledged events of one link.
pub struct T2Outbox {
    state: Mutex<State>,
    wake: Notify,
    /// There are few events without a number.
    few: Notify,
    stats: Arc<TransportStats>,
    room: usize,
}

impl fmt::Debug for T2Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("T2Outbox")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl T2Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new(stats: Arc<TransportStats>) -> Self {
        Self::with_room(stats, OUTBOX_EVENTS_MAX)
    }

    /// An empty outbox for at most `room` events.
    #[must_use]
    pub fn with_room(stats: Arc<TransportStats>, room: usize) -> Self {
        let state = Mutex::new(State {
            next: 1,
            ..State::default()
        });
        Self {
            state,
            wake: Notify::new(),
            few: Notify::new(),
            stats,
            room: room.min(OUTBOX_EVENTS_MAX),
        }
    }

    /// Puts events in, oldest first, from any thread; returns how many were taken: those that
    /// found room, of devices that the twin does not refuse. The rest are counted as blocked: their
    /// device skips them.
    pub fn push(&self, events: &[OutEvent]) -> usize {
        let mut state = self.state.lock();
        let wanted = state.wanted(events);
        let accepted = wanted.len().min(self.room - state.events);
        state.append(&wanted[..accepted]);
        state.events += accepted;
        state.unsent += accepted;
        drop(state);
        self.stats.t2.created.add(accepted as u64);
        self.stats.t2.blocked.add((events.len() - accepted) as u64);
        if accepted > 0 {
            self.wake.notify_one();
        }
        accepted
    }

    /// The twin takes no events of these devices, on the present connection: none is put in from
    /// now on. Those that wait go with [`Self::drop_refused`].
    pub(crate) fn refuse(&self, devices: impl IntoIterator<Item = Uuid>) {
        self.state.lock().refused.extend(devices);
    }

    /// Before the next batch is written, the events of refused devices go.
    pub(crate) fn drop_refused(&self) {
        self.state.lock().unclean = true;
        self.wake.notify_one();
    }

    /// A new connection: which devices the twin takes shows anew.
    pub(crate) fn refuse_none(&self) {
        let mut state = self.state.lock();
        state.refused = HashSet::new(); // order: as above
        state.unclean = false;
    }

    /// Keeps what is acknowledged from now on for each device: 64 bytes a device.
    pub fn keep_ledger(&self) {
        self.state.lock().ledger.get_or_insert_default();
    }

    /// What was acknowledged, by device; `None` if it is not kept.
    #[must_use]
    pub fn ledger(&self) -> Option<BTreeMap<Uuid, EventMark>> {
        self.state.lock().ledger.clone()
    }

    /// Events not acknowledged yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().events
    }

    /// Events that were never written to a connection.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.state.lock().unsent
    }

    /// Waits until [few](UNSENT_FEW) events are unsent: for the one producer that makes them as
    /// fast as they go.
    pub async fn sent(&self) {
        while self.unsent() >= UNSENT_FEW {
            self.few.notified().await;
        }
    }

    /// The last batch that was acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.state.lock().acked
    }

    /// The next batch to write, numbered and framed; `None` while there is none or the window is
    /// full.
    pub(crate) fn next_frame(&self) -> Option<Bytes> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.unclean {
            let gone = state.clean() as u64;
            self.stats.t2.dropped.add(DropReason::Refused, gone);
        }
        if state.cursor >= WINDOW_BATCHES_MAX {
            return None;
        }
        if state.cursor == state.unacked.len() {
            let mut frame = state.fresh.pop_front()?;
            let events = events_in(&frame);
            state.unsent -= events;
            put_events_header(
                &mut &mut frame[..EVENTS_HEADER_LEN],
                state.next,
                events as u32,
            );
            state.unacked.push_back(Numbered {
                sequence: state.next,
                events: events as u32,
                frame: frame.freeze(),
                written: false,
            });
            state.next += 1;
        }
        let batch = &mut state.unacked[state.cursor];
        let counter = if batch.written {
            &self.stats.t2.resent
        } else {
            &self.stats.t2.sent
        };
        counter.add(u64::from(batch.events));
        batch.written = true;
        state.cursor += 1;
        let frame = batch.frame.clone();
        if state.unsent < UNSENT_FEW {
            self.few.notify_one();
        }
        Some(frame)
    }

    /// The twin has taken everything up to batch `sequence`; returns whether that was news.
    pub(crate) fn acknowledge(&self, sequence: u64) -> bool {
        let mut state = self.state.lock();
        let before = state.acked;
        while let Some(batch) = state
            .unacked
            .pop_front_if(|batch| batch.sequence <= sequence)
        {
            self.stats.t2.acked.add(u64::from(batch.events));
            state.note(&batch);
            state.events -= batch.events as usize;
            state.acked = batch.sequence;
            state.cursor = state.cursor.saturating_sub(1);
            state.keep(batch.frame);
        }
        let news = state.acked > before;
        drop(state);
        if news {
            self.wake.notify_one();
        }
        news
    }

    /// Goes back to the oldest batch not acknowledged; returns whether there is one.
    pub(crate) fn rewind(&self) -> bool {
        let mut state = self.state.lock();
        state.cursor = 0;
        !state.unacked.is_empty()
    }

    /// Whether batches are written and not acknowledged.
    pub(crate) fn in_flight(&self) -> bool {
        self.state.lock().cursor > 0
    }

    /// Waits for new events or acknowledgements.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::reading::{SensorType, device_uuid};

    fn event(event: u64) -> OutEvent {
        OutEvent {
            reading: Reading {
                device: device_uuid("d"),
                sensor: 5,
                kind: SensorType::Presence,
                value: 0.0,
                at_us: event,
                sequence: event as u32,
            },
            key: EventKey { epoch: 1, event },
        }
    }

    fn sequences(outbox: &T2Outbox) -> Vec<u64> {
        std::iter::from_fn(|| outbox.next_frame())
            .map(|frame| Events::parse(&frame[4..]).unwrap().sequence)
            .collect()
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_under_the_same_number() {
        let stats = TransportStats::new();
        let outbox = T2Outbox::new(Arc::clone(&stats));
        outbox.keep_ledger();
        let full = BATCH_EVENTS_MAX as u64;
        let all = 2 * full + 88;
        let events: Vec<_> = (0..all).map(event).collect();
        assert_eq!(outbox.push(&events) as u64, all);
        assert_eq!(sequences(&outbox), [1, 2, 3]);
        assert!(outbox.acknowledge(1));
        assert!(outbox.rewind());
        assert_eq!(sequences(&outbox), [2, 3]);
        assert!(outbox.acknowledge(3));
        assert!(!outbox.acknowledge(2), "old news");
        assert!(!outbox.rewind());
        let t2 = &stats.t2;
        assert_eq!(
            (t2.created.get(), t2.acked.get(), outbox.waiting()),
            (all, all, 0)
        );
        assert_eq!((t2.sent.get(), t2.resent.get()), (all, full + 88));
        let mut mark = EventMark::default();
        events.iter().for_each(|event| mark.fold(event.key));
        let ledger = outbox.ledger().unwrap();
        assert_eq!(ledger[&device_uuid("d")], mark, "each event once, in order");
    }

    #[test]
    fn a_full_outbox_blocks_and_counts() {
        let stats = TransportStats::new();
        let outbox = T2Outbox::with_room(Arc::clone(&stats), 10);
        let events: Vec<_> = (0..12).map(event).collect();
        assert_eq!(outbox.push(&events), 10);
        assert_eq!(outbox.push(&events), 0);
        assert_eq!((stats.t2.created.get(), stats.t2.blocked.get()), (10, 14));
    }

    #[test]
    fn the_window_bounds_what_is_in_flight() {
        let outbox = T2Outbox::new(TransportStats::new());
        let events: Vec<_> = (0..(WINDOW_BATCHES_MAX + 5) * BATCH_EVENTS_MAX)
            .map(|n| event(n as u64))
            .collect();
        outbox.push(&events);
        assert_eq!(sequences(&outbox).len(), WINDOW_BATCHES_MAX);
        outbox.acknowledge(2);
        assert_eq!(sequences(&outbox).len(), 2);
    }

    #[tokio::test]
    async fn a_producer_that_waits_is_woken_when_little_is_unsent() {
        let outbox = T2Outbox::new(TransportStats::new());
        outbox.sent().await;
        let all = 2 * UNSENT_FEW + 1;
        let events: Vec<_> = (0..all as u64).map(event).collect();
        outbox.push(&events);
        let mut waiting = std::pin::pin!(outbox.sent());
        for left in [2 * UNSENT_FEW + 1, UNSENT_FEW + 1] {
            assert_eq!(outbox.unsent(), left);
            assert!(waiting.as_mut().now_or_never().is_none());
            outbox.next_frame();
        }
        waiting.await;
        outbox.rewind();
        assert_eq!(outbox.unsent(), 1, "what is sent again was sent");
    }

    #[test]
    fn events_of_a_refused_device_leave_and_batches_keep_their_numbers() {
        let stats = TransportStats::new();
        let outbox = T2Outbox::new(Arc::clone(&stats));
        let of = |device: &str, n| {
            let mut event = event(n);
            event.reading.device = device_uuid(device);
            event
        };
        let decoded = || {
            let frames = std::iter::from_fn(|| outbox.next_frame());
            let decode = |frame: Bytes| {
                let events = Events::parse(&frame[FRAME_HEADER_LEN..]).unwrap();
                let (mut readings, mut keys) = (Vec::new(), Vec::new());
                events.decode_into(&mut readings, &mut keys).unwrap();
                let numbers: Vec<_> = keys.iter().map(|key| key.event).collect();
                (events.sequence, numbers)
            };
            frames.map(decode).collect::<Vec<_>>()
        };
        outbox.push(&[of("own", 1)]);
        assert_eq!(decoded(), [(1, vec![1])]);
        outbox.push(&[of("own", 2), of("other", 3), of("own", 4)]);
        assert_eq!(decoded(), [(2, vec![2, 3, 4])]);
        outbox.push(&[of("other", 5)]);
        assert_eq!(decoded(), [(3, vec![5])]);
        outbox.push(&[of("other", 6), of("own", 7)]);
        outbox.refuse([device_uuid("other")]);
        assert_eq!(outbox.push(&[of("other", 8), of("own", 9)]), 1);
        outbox.drop_refused();
        // the first one had none of them, and need not be sent again
        let changed = [(2, vec![2, 4]), (3, Vec::new()), (4, vec![7, 9])];
        assert_eq!(decoded(), changed);
        outbox.refuse([device_uuid("silent")]);
        outbox.drop_refused();
        assert_eq!(decoded(), [], "nothing waits of it");
        assert_eq!(stats.t2.resent.get(), 2, "what is left of two batches");
        assert_eq!((outbox.waiting(), outbox.unsent()), (5, 0));
        assert!(outbox.acknowledge(4));
        let t2 = &stats.t2;
        assert_eq!(
            (t2.created.get(), t2.blocked.get(), t2.acked.get()),
            (8, 1, 5)
        );
        assert_eq!(t2.dropped.get(DropReason::Refused), 3, "and nothing else");
        outbox.refuse_none();
        assert_eq!(outbox.push(&[of("other", 10)]), 1, "another connection");
    }

    #[test]
    fn the_events_come_out_as_they_went_in() {
        let outbox = T2Outbox::new(TransportStats::new());
        let events: Vec<_> = (0..3).map(event).collect();
        outbox.push(&events);
        let frame = outbox.next_frame().unwrap();
        let (mut readings, mut keys) = (Vec::new(), Vec::new());
        Events::parse(&frame[4..])
            .unwrap()
            .decode_into(&mut readings, &mut keys)
            .unwrap();
        assert_eq!(
            readings,
            events.iter().map(|e| e.reading).collect::<Vec<_>>()
        );
        assert_eq!(keys, events.iter().map(|e| e.key).collect::<Vec<_>>());
    }
}
