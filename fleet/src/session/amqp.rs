//! How a message is published in AMQP 0.9.1: a method frame, a header frame, and its body in as
//! many frames as it takes.
//!
//! The node's publisher speaks AMQP by a library; this writes what one device's message is on that
//! connection, for a simulation, and reads it again. Source: AMQP 0.9.1, 4.2. Bound: [`FRAME_MAX`].

use std::borrow::Cow;

/// Bytes of a frame, as brokers have it.
pub const FRAME_MAX: usize = 131_072;
/// Bytes of a frame beside what it carries: type, channel, length, and the end.
const AROUND: usize = 8;
/// Bytes of a body that are taken.
const BODY_MAX: u64 = 16 << 20;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xce;
/// Class and method of `basic.publish`.
const BASIC: u16 = 60;
const PUBLISH: u16 = 40;
/// The one property of these messages.
const CONTENT_TYPE: u16 = 1 << 15;

/// A message as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publishing<'a> {
    /// To which exchange.
    pub exchange: &'a str,
    /// By which key.
    pub key: &'a str,
    /// Of what type.
    pub content_type: &'a str,
    /// What.
    pub body: Cow<'a, [u8]>,
}

/// Bytes that are no message being published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

impl<'a> Publishing<'a> {
    /// Appends its frames. Texts of more than 255 bytes are cut.
    pub fn write(&self, channel: u16, out: &mut Vec<u8>) {
        frame(METHOD, channel, out, |out| {
            out.extend_from_slice(&BASIC.to_be_bytes());
            out.extend_from_slice(&PUBLISH.to_be_bytes());
            out.extend_from_slice(&[0; 2]);
            text(self.exchange, out);
            text(self.key, out);
            out.push(0); // neither mandatory nor immediate
        });
        frame(HEADER, channel, out, |out| {
            out.extend_from_slice(&BASIC.to_be_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(&(self.body.len() as u64).to_be_bytes());
            out.extend_from_slice(&CONTENT_TYPE.to_be_bytes());
            text(self.content_type, out);
        });
        for part in self.body.chunks(FRAME_MAX - AROUND) {
            frame(BODY, channel, out, |out| out.extend_from_slice(part));
        }
    }

    /// The message at the front, and how many bytes it has; `None`: it is not whole yet.
    ///
    /// # Errors
    /// Something else is there.
    pub fn read(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut rest = bytes;
        let Some(method) = part(METHOD, &mut rest)? else {
            return Ok(None);
        };
        let (exchange, key) = published(method).ok_or(Malformed("no `basic.publish`"))?;
        let Some(header) = part(HEADER, &mut rest)? else {
            return Ok(None);
        };
        let (size, content_type) = described(header).ok_or(Malformed("a header that is none"))?;
        let size = Some(size).filter(|size| *size <= BODY_MAX);
        let size = size.ok_or(Malformed("a body of more than 16 MiB"))? as usize;
        let mut body = Cow::Borrowed(&[][..]);
        while body.len() < size {
            let Some(more) = part(BODY, &mut rest)? else {
                return Ok(None);
            };
            match body.is_empty() {
                true => body = Cow::Borrowed(more),
                false => body.to_mut().extend_from_slice(more),
            }
            if more.is_empty() || body.len() > size {
                return Err(Malformed("a body of another size"));
            }
        }
        let message = Publishing {
            exchange,
            key,
            content_type,
            body,
        };
        Ok(Some((message, bytes.len() - rest.len())))
    }
}

fn frame(kind: u8, channel: u16, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    out.push(END);
}

fn text(text: &str, out: &mut Vec<u8>) {
    let text = &text.as_bytes()[..text.len().min(255)];
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

/// What the next frame carries, which must be of a kind; `None`: it is not whole yet.
fn part<'a>(kind: u8, rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let Some((head, after)) = rest.split_first_chunk::<7>() else {
        return Ok(None);
    };
    if head[0] != kind {
        return Err(Malformed("a frame of another kind"));
    }
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    if length > FRAME_MAX - AROUND {
        return Err(Malformed("a frame of more than 128 KiB"));
    }
    let Some((carried, after)) = after.split_at_checked(length) else {
        return Ok(None);
    };
    match after.split_first() {
        None => Ok(None),
        Some((&END, after)) => {
            *rest = after;
            Ok(Some(carried))
        }
        Some(_) => Err(Malformed("a frame without its end")),
    }
}

/// Exchange and key of a method.
fn published(method: &[u8]) -> Option<(&str, &str)> {
    let (head, mut rest) = method.split_first_chunk::<6>()?;
    let named = [head[0], head[1]] == BASIC.to_be_bytes();
    let named = named && [head[2], head[3]] == PUBLISH.to_be_bytes();
    let exchange = taken(&mut rest)?;
    let key = taken(&mut rest)?;
    (named && rest.len() == 1).then_some((exchange, key))
}

/// Size and type of a body.
fn described(header: &[u8]) -> Option<(u64, &str)> {
    let (head, mut rest) = header.split_first_chunk::<14>()?;
    let size = u64::from_be_bytes(head[4..12].try_into().ok()?);
    let content_type = match u16::from_be_bytes([head[12], head[13]]) {
        CONTENT_TYPE => taken(&mut rest)?,
        _ => "",
    };
    ([head[0], head[1]] == BASIC.to_be_bytes()).then_some((size, content_type))
}

fn taken<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, after) = rest.split_first()?;
    let (text, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_whole_and_is_waited_for() {
        for length in [0, 1, 300_000] {
            let message = Publishing {
                exchange: "iot.telemetry",
                key: "devices.pump-0001.telemetry",
                content_type: "application/json",
                body: vec![7; length].into(),
            };
            let mut bytes = Vec::new();
            message.write(9, &mut bytes);
            let whole = bytes.len();
            bytes.extend_from_slice(b"more");
            assert_eq!(Publishing::read(&bytes), Ok(Some((message, whole))));
            for cut in [0, 6, 7, 20, whole - 1] {
                assert_eq!(Publishing::read(&bytes[..cut]), Ok(None), "{length}: {cut}");
            }
        }
    }

    #[test]
    fn a_message_is_what_the_standard_says() {
        let message = Publishing {
            exchange: "e",
            key: "k",
            content_type: "t",
            body: b"hi".as_slice().into(),
        };
        let mut bytes = Vec::new();
        message.write(2, &mut bytes);
        let method = [0, 60, 0, 40, 0, 0, 1, b'e', 1, b'k', 0];
        let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x80, 0, 1, b't'];
        let expected = [
            &[1, 0, 2, 0, 0, 0, 11][..],
            &method,
            &[0xce, 2, 0, 2, 0, 0, 0, 16],
            &header,
            &[0xce, 3, 0, 2, 0, 0, 0, 2, b'h', b'i', 0xce],
        ];
        assert_eq!(bytes, expected.concat());
        for (at, wrong) in [(0, 8), (8, 61), (10, 41), (18, 0), (3, 0xff)] {
            let mut bytes = bytes.clone();
            bytes[at] = wrong;
            assert!(Publishing::read(&bytes).is_err(), "{at}");
        }
    }
}
