//! Writing bytes: lengths are put in front of what has been written already.
//!
//! Bound: what MQTT can express, 65,535 bytes a text and 268,435,455 a packet.

use super::packet::TooLong;

/// Largest remaining length (MQTT 3.1.1, 2.2.3).
pub(super) const REMAINING_MAX: usize = 268_435_455;

pub(super) fn binary(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TooLong> {
    let len = u16::try_from(bytes.len()).map_err(|_| TooLong { bytes: bytes.len() })?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) -> Result<(), TooLong> {
    binary(out, text.as_bytes())
}

/// Puts the length of what was written since `start` in front of it.
pub(super) fn length(out: &mut Vec<u8>, start: usize) -> Result<(), TooLong> {
    let len = out.len() - start;
    if len > REMAINING_MAX {
        return Err(TooLong { bytes: len });
    }
    let mut digits = [0; 4];
    let mut used = 0;
    let mut rest = len;
    loop {
        let more = rest > 0x7f;
        digits[used] = (rest & 0x7f) as u8 | u8::from(more) << 7;
        used += 1;
        rest >>= 7;
        if !more {
            break;
        }
    }
    out.splice(start..start, digits[..used].iter().copied());
    Ok(())
}
