//! Event frames that follow each other on a stream, which comes in pieces cut anywhere.
//!
//! Events are decoded where they lie: a piece is copied nowhere but into readings and keys, except
//! for what a cut goes through. It reads no stream. Bounds: the events of one frame, which the
//! caller holds; the bytes of one event.

use super::{EVENT_LEN, EVENTS_FRAME_LEN_MAX, EVENTS_HEADER_LEN, EVENTS_PREFIX_LEN};
use super::{FRAME_HEADER_LEN, FrameError, decode_events, frame_len, sub};
use crate::reading::Reading;
use crate::session::EventKey;

const _: () = assert!(EVENTS_HEADER_LEN <= EVENT_LEN);

/// What has come of the frames of one stream.
#[derive(Clone, Debug)]
pub struct EventStream {
    /// The head, or the event, that a cut goes through.
    part: [u8; EVENT_LEN],
    /// Bytes of the part that have come.
    filled: usize,
    open: Option<Open>,
}

/// A frame whose head has come.
#[derive(Clone, Copy, Debug)]
struct Open {
    sequence: u64,
    /// Events that are still to come.
    left: usize,
}

impl Default for EventStream {
    fn default() -> Self {
        Self {
            part: [0; EVENT_LEN],
            filled: 0,
            open: None,
        }
    }
}

impl EventStream {
    /// Takes from the front of a piece what belongs to one frame, and appends its events. With the
    /// frame's last event it returns its number; what is left of the piece belongs to the next.
    ///
    /// # Errors
    /// [`FrameError`], with which the stream is over. Of the frame that is wrong some events may
    /// have been appended: they are to be thrown away.
    pub fn take(
        &mut self,
        piece: &mut &[u8],
        readings: &mut Vec<Reading>,
        keys: &mut Vec<EventKey>,
    ) -> Result<Option<u64>, FrameError> {
        let Some(mut open) = self.head(piece)? else {
            return Ok(None);
        };
        keys.reserve(open.left);
        if self.filled > 0 {
            if !self.fill(EVENT_LEN, piece) {
                return Ok(None);
            }
            decode_events(&[self.part], readings, keys)?;
            self.filled = 0;
            open.left -= 1;
        }
        let whole = open.left.min(piece.len() / EVENT_LEN);
        let (events, rest) = piece.split_at(whole * EVENT_LEN);
        decode_events(events.as_chunks().0, readings, keys)?;
        *piece = rest;
        open.left -= whole;
        if open.left == 0 {
            self.open = None;
            return Ok(Some(open.sequence));
        }
        self.open = Some(open);
        self.fill(EVENT_LEN, piece);
        Ok(None)
    }

    /// The head of the frame under way, if it has come whole.
    fn head(&mut self, piece: &mut &[u8]) -> Result<Option<Open>, FrameError> {
        if self.open.is_some() {
            return Ok(self.open);
        }
        let whole = self.fill(EVENTS_HEADER_LEN, piece);
        if self.filled < FRAME_HEADER_LEN {
            return Ok(None);
        }
        // A length that no frame has is refused before more of it comes.
        let length = frame_len(sub(&self.part, 0), EVENTS_FRAME_LEN_MAX)?;
        let wrong = |count| Err(FrameError::Count { length, count });
        let Some(events) = length.checked_sub(EVENTS_PREFIX_LEN) else {
            return wrong(0);
        };
        if !whole {
            return Ok(None);
        }
        let count = u32::from_le_bytes(sub(&self.part, FRAME_HEADER_LEN + 8));
        let left = count as usize;
        if left.checked_mul(EVENT_LEN) != Some(events) {
            return wrong(count);
        }
        let sequence = u64::from_le_bytes(sub(&self.part, FRAME_HEADER_LEN));
        self.filled = 0;
        self.open = Some(Open { sequence, left });
        Ok(self.open)
    }

    /// Moves bytes from the front of a piece into the part, up to `length` in it; whether that many
    /// have come.
    fn fill(&mut self, length: usize, piece: &mut &[u8]) -> bool {
        let missing = length - self.filled;
        let (next, rest) = piece.split_at(missing.min(piece.len()));
        self.part[self.filled..][..next.len()].copy_from_slice(next);
        self.filled += next.len();
        *piece = rest;
        self.filled == length
    }
}
