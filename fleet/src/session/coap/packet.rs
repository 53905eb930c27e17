//! One CoAP message as bytes (RFC 7252, 3), read in place and written without a copy.
//!
//! It knows no exchange. Bounds: [`OPTIONS_MAX`]; a datagram's length is its carrier's.

/// Options of one message.
pub const OPTIONS_MAX: usize = 32;
/// Bytes of a token at most.
pub const TOKEN_MAX: usize = 8;

const PAYLOAD_MARKER: u8 = 0xff;

/// Numbers of options that are used here.
pub mod option {
    /// Registers an observer, or numbers a notification (RFC 7641).
    pub const OBSERVE: u16 = 6;
    /// One segment of the path.
    pub const URI_PATH: u16 = 11;
    /// What the payload is.
    pub const CONTENT_FORMAT: u16 = 12;
    /// Seconds for which an answer is fresh.
    pub const MAX_AGE: u16 = 14;
    /// Part of an answer's body (RFC 7959).
    pub const BLOCK2: u16 = 23;
    /// Part of a request's body (RFC 7959).
    pub const BLOCK1: u16 = 27;
    /// Bytes of a request's whole body.
    pub const SIZE1: u16 = 60;

    /// Whether a receiver that does not know it must refuse the message.
    #[must_use]
    pub const fn is_critical(number: u16) -> bool {
        number & 1 == 1
    }
}

/// How a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sent again until it is acknowledged.
    Confirmable,
    /// Sent once.
    NonConfirmable,
    /// Has come; may carry the answer.
    Acknowledgement,
    /// Was not understood.
    Reset,
}

/// Class and detail: `c.dd`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// No request and no answer.
    pub const EMPTY: Self = Self(0);
    /// 0.01.
    pub const GET: Self = Self(1);
    /// 0.02.
    pub const POST: Self = Self(2);
    /// 0.03.
    pub const PUT: Self = Self(3);
    /// 2.04.
    pub const CHANGED: Self = Self(0x44);
    /// 2.05.
    pub const CONTENT: Self = Self(0x45);
    /// 2.31: the next block, please (RFC 7959, 2.9.1).
    pub const CONTINUE: Self = Self(0x5f);
    /// 4.02.
    pub const BAD_OPTION: Self = Self(0x82);
    /// 4.04.
    pub const NOT_FOUND: Self = Self(0x84);
    /// 4.05.
    pub const METHOD_NOT_ALLOWED: Self = Self(0x85);
    /// 4.08.
    pub const INCOMPLETE: Self = Self(0x88);
    /// 4.13.
    pub const TOO_LARGE: Self = Self(0x8d);
    /// 4.29 (RFC 8516).
    pub const TOO_MANY: Self = Self(0x9d);

    /// 0: request; 2: done; 4: refused; 5: the server failed.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.0 & 31)
    }
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends within itself.
    #[error("a message that ends too early")]
    Short,
    /// Another version of the protocol, or another protocol.
    #[error("not version 1 of CoAP")]
    Version,
    /// A token of more than eight bytes.
    #[error("a token of more than {TOKEN_MAX} bytes")]
    Token,
    /// A length or number that is reserved, or options without end.
    #[error("an option that cannot be read")]
    Option,
    /// More options than are looked at.
    #[error("more than {OPTIONS_MAX} options")]
    Options,
    /// A marker without a payload behind it, or an empty message with something in it.
    #[error("an empty payload, or an empty message that is not empty")]
    Payload,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// How it is delivered.
    pub kind: Kind,
    /// What it is.
    pub code: Code,
    /// Its number between these two ends.
    pub id: u16,
    /// What an answer repeats.
    pub token: &'a [u8],
    /// Its options, as they stand there; checked.
    options: &'a [u8],
    /// What it carries.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (&[first, code, high, low], rest) =
            bytes.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        if first >> 6 != 1 {
            return Err(Malformed::Version);
        }
        let token_len = usize::from(first & 15);
        if token_len > TOKEN_MAX {
            return Err(Malformed::Token);
        }
        let (token, rest) = rest.split_at_checked(token_len).ok_or(Malformed::Short)?;
        if code == 0 && !(token.is_empty() && rest.is_empty()) {
            return Err(Malformed::Payload);
        }
        let mut walk = Walk {
            bytes: rest,
            number: 0,
        };
        let mut count = 0;
        while walk.step()?.is_some() {
            count += 1;
            if count > OPTIONS_MAX {
                return Err(Malformed::Options);
            }
        }
        let options = &rest[..rest.len() - walk.bytes.len()];
        let payload = match walk.bytes {
            [] => &[][..],
            [_marker] => return Err(Malformed::Payload),
            [_marker, payload @ ..] => payload,
        };
        let kind = match first >> 4 & 3 {
            0 => Kind::Confirmable,
            1 => Kind::NonConfirmable,
            2 => Kind::Acknowledgement,
            _ => Kind::Reset,
        };
        Ok(Self {
            kind,
            code: Code(code),
            id: u16::from_be_bytes([high, low]),
            token,
            options,
            payload,
        })
    }

    /// Its options, in order.
    pub fn options(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut walk = Walk {
            bytes: self.options,
            number: 0,
        };
        std::iter::from_fn(move || walk.step().ok().flatten())
    }

    /// The value of a numeric option; `None` if it is absent or too long for its kind.
    #[must_use]
    pub fn number(&self, wanted: u16) -> Option<u32> {
        let (_, value) = self.options().find(|(number, _)| *number == wanted)?;
        (value.len() <= 4).then(|| {
            let shift = |sum: u32, byte: &u8| sum << 8 | u32::from(*byte);
            value.iter().fold(0, shift)
        })
    }

    /// Whether its path is this one, given with `/` between segments.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        let own = self
            .options()
            .filter(|(number, _)| *number == option::URI_PATH);
        own.map(|(_, segment)| segment)
            .eq(segments(path).map(str::as_bytes))
    }
}

/// Segments of a path.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

struct Walk<'a> {
    bytes: &'a [u8],
    number: u16,
}

impl<'a> Walk<'a> {
    fn step(&mut self) -> Result<Option<(u16, &'a [u8])>, Malformed> {
        let Some((first, rest)) = self.bytes.split_first() else {
            return Ok(None);
        };
        if *first == PAYLOAD_MARKER {
            return Ok(None);
        }
        let (delta, rest) = extended(first >> 4, rest)?;
        let (len, rest) = extended(first & 15, rest)?;
        let (value, rest) = rest.split_at_checked(len).ok_or(Malformed::Short)?;
        let delta = u16::try_from(delta).map_err(|_| Malformed::Option)?;
        self.number = self.number.checked_add(delta).ok_or(Malformed::Option)?;
        self.bytes = rest;
        Ok(Some((self.number, value)))
    }
}

/// A delta or length of four bits, with the bytes that go on with it.
fn extended(nibble: u8, rest: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    match nibble {
        0..=12 => Ok((usize::from(nibble), rest)),
        13 => {
            let (byte, rest) = rest.split_first().ok_or(Malformed::Short)?;
            Ok((usize::from(*byte) + 13, rest))
        }
        14 => {
            let (bytes, rest) = rest.split_first_chunk().ok_or(Malformed::Short)?;
            Ok((usize::from(u16::from_be_bytes(*bytes)) + 269, rest))
        }
        _ => Err(Malformed::Option),
    }
}

/// Part of a body (RFC 7959, 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub number: u32,
    /// Whether others follow.
    pub more: bool,
    /// Its bytes are 2 to the power of this plus 4; 0..=6.
    pub exponent: u8,
}

impl Block {
    /// From an option's value; `None` if the size is reserved.
    #[must_use]
    pub const fn of(value: u32) -> Option<Self> {
        let exponent = (value & 7) as u8;
        if exponent == 7 {
            return None;
        }
        Some(Self {
            number: value >> 4,
            more: value & 8 != 0,
            exponent,
        })
    }

    /// As an option's value.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.number << 4 | (self.more as u32) << 3 | self.exponent as u32
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << (self.exponent + 4)
    }
}

/// Writes one message; options in the order of their numbers.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    number: u16,
}

impl<'a> Writer<'a> {
    /// Begins a message at the end of `out`. Tokens are at most [`TOKEN_MAX`] long.
    pub fn new(out: &'a mut Vec<u8>, kind: Kind, code: Code, id: u16, token: &[u8]) -> Self {
        let token = &token[..token.len().min(TOKEN_MAX)];
        let kind = match kind {
            Kind::Confirmable => 0,
            Kind::NonConfirmable => 1,
            Kind::Acknowledgement => 2,
            Kind::Reset => 3,
        };
        out.push(1 << 6 | kind << 4 | token.len() as u8);
        out.push(code.0);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(token);
        Self { out, number: 0 }
    }

    /// One option.
    #[must_use]
    pub fn option(mut self, number: u16, value: &[u8]) -> Self {
        debug_assert!(number >= self.number, "options go in order");
        let (delta, delta_more) = split(usize::from(number - self.number));
        let (len, len_more) = split(value.len());
        self.number = number;
        self.out.push(delta << 4 | len);
        for (nibble, more) in [(delta, delta_more), (len, len_more)] {
            match nibble {
                13 => self.out.push(more as u8),
                14 => self.out.extend_from_slice(&more.to_be_bytes()),
                _ => {}
            }
        }
        self.out.extend_from_slice(value);
        self
    }

    /// One option with a number for its value, in as few bytes as it takes.
    #[must_use]
    pub fn number(self, option: u16, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        let zeros = value.leading_zeros() as usize / 8;
        self.option(option, &bytes[zeros..])
    }

    /// The path, one option a segment.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        segments(path).fold(self, |writer, segment| {
            writer.option(option::URI_PATH, segment.as_bytes())
        })
    }

    /// The payload, which ends the message.
    pub fn payload(self, payload: &[u8]) {
        if !payload.is_empty() {
            self.out.push(PAYLOAD_MARKER);
            self.out.extend_from_slice(payload);
        }
    }
}

/// A delta or length as four bits and what goes on with them.
const fn split(value: usize) -> (u8, u16) {
    match value {
        0..=12 => (value as u8, 0),
        13..=268 => (13, (value - 13) as u16),
        _ => (14, (value - 269) as u16),
    }
}
