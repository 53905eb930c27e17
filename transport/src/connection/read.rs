//! Reading frames from a stream, bounded.

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

/// Reads one frame of at most `most` bytes into `buffer`; false at the end of the stream. Not
/// cancel-safe.
pub(crate) async fn read_frame(
    stream: &mut RecvStream,
    most: usize,
    buffer: &mut Vec<u8>,
) -> Result<bool, ReadFrameError> {
    let mut header = [0; FRAME_HEADER_LEN];
    match stream.read_exact(&mut header).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    buffer.resize(frame_len(header, most)?, 0);
    stream.read_exact(buffer).await?;
    Ok(true)
}
