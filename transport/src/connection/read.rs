//! Reading frames from a stream, bounded.
//!
//! As much as is there is read at once, up to a bound, and frames are parsed where they lie. It
//! knows no frame's meaning. Bound: one frame, or what is read ahead, of memory.

use quinn::{ReadExactError, RecvStream};

use crate::frames::{FRAME_HEADER_LEN, FrameError, frame_len};

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFrameError {
    /// What came is not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended, was reset, or the connection is gone.
    #[error(transparent)]
    Stream(#[from] ReadExactError),
}

/// The frames of one stream.
#[derive(Debug)]
pub(crate) struct FrameReader {
    most: usize,
    ahead: usize,
    buffer: Vec<u8>,
    /// What of the buffer came and was not handed out.
    waiting: std::ops::Range<usize>,
}

impl FrameReader {
    /// Frames of at most `most` bytes, with `ahead` bytes read at once if they are there.
    pub(crate) fn new(most: usize, ahead: usize) -> Self {
        Self {
            most,
            ahead,
            buffer: Vec::new(),
            waiting: 0..0,
        }
    }

    /// The next frame, without its length; `None` at the end of the stream. Cancelled, it loses
    /// nothing.
    pub(crate) async fn next(
        &mut self,
        stream: &mut RecvStream,
    ) -> Result<Option<&[u8]>, ReadFrameError> {
        let length = loop {
            let came = &self.buffer[self.waiting.clone()];
            let needed = match came.first_chunk() {
                Some(header) => FRAME_HEADER_LEN + frame_len(*header, self.most)?,
                None => FRAME_HEADER_LEN,
            };
            if came.len() >= needed {
                break needed;
            }
            self.make_room(needed);
            match stream.read(&mut self.buffer[self.waiting.end..]).await {
                Ok(Some(count)) => self.waiting.end += count,
                Ok(None) if self.waiting.is_empty() => return Ok(None),
                Ok(None) => return Err(ReadExactError::FinishedEarly(self.waiting.len()).into()),
                Err(error) => return Err(ReadExactError::ReadError(error).into()),
            }
        };
        let frame = self.waiting.start + FRAME_HEADER_LEN..self.waiting.start + length;
        self.waiting.start += length;
        Ok(Some(&self.buffer[frame]))
    }

    /// Moves what waits to the front, with room for `needed` bytes in all, and for what may be read
    /// ahead.
    fn make_room(&mut self, needed: usize) {
        self.buffer.copy_within(self.waiting.clone(), 0);
        self.waiting = 0..self.waiting.len();
        let room = needed.max(self.ahead);
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
    }
}
