//! Reading bytes from a peer that may say anything.
//!
//! Nothing here panics or allocates: a reader walks over borrowed bytes and every step may fail.
//! Bound: the slice it was given.

use super::packet::Malformed;

/// Most bytes of the variable length of a packet (MQTT 3.1.1, 2.2.3).
const LENGTH_BYTES_MAX: usize = 4;

/// A packet as it lies in the input: its first byte, and what follows the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Type in the high four bits, flags in the low four.
    pub header: u8,
    /// Variable header and payload.
    pub body: &'a [u8],
    /// Bytes of the whole packet.
    pub len: usize,
}

/// Finds the packet at the front of `bytes`. `Ok(None)`: it is not complete yet.
///
/// # Errors
/// A length of more than four bytes, or a packet of more than `packet_max` bytes: known as soon as
/// its length is, before its body has come.
pub fn frame(bytes: &[u8], packet_max: usize) -> Result<Option<Frame<'_>>, Malformed> {
    let Some((&header, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let mut reader = Reader { rest };
    let body_len = match reader.length() {
        Ok(length) => length,
        Err(Malformed::Short) if rest.len() < LENGTH_BYTES_MAX => return Ok(None),
        Err(other) => return Err(other),
    };
    let head = bytes.len() - reader.rest.len();
    let len = head + body_len;
    if len > packet_max {
        return Err(Malformed::TooLarge {
            bytes: len,
            most: packet_max,
        });
    }
    let body = bytes.get(head..len);
    Ok(body.map(|body| Frame { header, body, len }))
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A packet identifier, which is never 0 (2.3.1).
    pub(super) fn id(&mut self) -> Result<u16, Malformed> {
        match self.u16()? {
            0 => Err(Malformed::Field("packet identifier 0")),
            id => Ok(id),
        }
    }

    /// A length of seven bits a byte, at most four bytes.
    pub(super) fn length(&mut self) -> Result<usize, Malformed> {
        let mut value = 0;
        for at in 0..LENGTH_BYTES_MAX {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Field("length of more than four bytes"))
    }

    pub(super) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// Text: UTF-8 without U+0000 (1.5.3).
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.binary()?;
        match std::str::from_utf8(bytes) {
            Ok(text) if !bytes.contains(&0) => Ok(text),
            _ => Err(Malformed::Field("text that is not UTF-8, or holds U+0000")),
        }
    }

    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Field("bytes after the end of a packet"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_only_when_all_of_it_is_there() {
        let bytes = [0x30, 0x03, 1, 2, 3, 0xd0, 0x00];
        for cut in 0..5 {
            assert_eq!(frame(&bytes[..cut], 64), Ok(None), "cut at {cut}");
        }
        let first = frame(&bytes, 64).unwrap().unwrap();
        assert_eq!((first.body, first.len), (&[1, 2, 3][..], 5));
        let second = frame(&bytes[5..], 64).unwrap().unwrap();
        assert_eq!((second.header, second.len), (0xd0, 2));
    }

    #[test]
    fn a_packet_too_large_is_refused_by_its_length_alone() {
        let error = frame(&[0x30, 0xff, 0xff, 0xff, 0x7f], 1_024).unwrap_err();
        assert!(matches!(error, Malformed::TooLarge { most: 1_024, .. }));
        let error = frame(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01], usize::MAX).unwrap_err();
        assert!(matches!(error, Malformed::Field(_)));
        assert_eq!(frame(&[0x30, 0xff, 0xff], 1_024), Ok(None));
    }
}
