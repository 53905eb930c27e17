//! The one place that touches `bincode`: control messages to bytes and back, bounded.
//!
//! Version 2.0.1 is pinned (3.0.0 is a tombstone). It knows no message. Bound: [`CONTROL_LEN_MAX`]
//! bytes in either direction; a length inside the bytes makes the decoder take a mebibyte at most,
//! and for a moment: `serde` believes no more before it has read it.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one control message at most: a thousand device ranges with their sensors.
pub const CONTROL_LEN_MAX: usize = 64 * 1024;

/// Why a control message cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// It is longer than the limit.
    #[error("a control message of {length} bytes is too long (at most {CONTROL_LEN_MAX})")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The value cannot be written.
    #[error("a control message cannot be encoded: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// The bytes are not such a message.
    #[error("bytes are not a control message: {0}")]
    Decode(#[from] bincode::error::DecodeError),
    /// Bytes follow the message.
    #[error("{0} bytes follow a control message")]
    Trailing(usize),
}

const fn config() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_little_endian()
        .with_limit::<CONTROL_LEN_MAX>()
}

/// Encodes a value.
///
/// # Errors
/// [`CodecError::TooLong`], or what the value refuses.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, config())?;
    if bytes.len() > CONTROL_LEN_MAX {
        return Err(CodecError::TooLong {
            length: bytes.len(),
        });
    }
    Ok(bytes)
}

/// Decodes a value that fills the bytes exactly.
///
/// # Errors
/// Every input that is not exactly one such value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > CONTROL_LEN_MAX {
        return Err(CodecError::TooLong {
            length: bytes.len(),
        });
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, config())?;
    match bytes.len() - used {
        0 => Ok(value),
        rest => Err(CodecError::Trailing(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_inside_the_bytes_is_not_believed() {
        let huge = [
            0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3,
        ];
        assert!(decode::<Vec<u64>>(&huge).is_err());
        assert!(decode::<String>(&huge).is_err());
    }

    #[test]
    fn too_long_and_trailing_are_refused() {
        let long = "x".repeat(CONTROL_LEN_MAX + 1);
        assert!(encode(&long).is_err());
        assert!(matches!(
            decode::<String>(&vec![0; CONTROL_LEN_MAX + 1]),
            Err(CodecError::TooLong { .. })
        ));
        let mut bytes = encode(&"abc").unwrap();
        bytes.push(0);
        assert!(matches!(
            decode::<String>(&bytes),
            Err(CodecError::Trailing(1))
        ));
    }
}
