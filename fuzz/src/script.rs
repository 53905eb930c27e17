//! An input that is a list of steps: a peer's bytes, its honest answers, time that passes.
//!
//! A byte says which step, its arguments follow it; an input that ends in the middle of them ends
//! with zeros. So every input is a script, and cutting or joining scripts makes scripts: that is
//! what a fuzzer does. [`Steps`] writes the ones to begin with. Bound: the input.

/// Reads a script.
#[derive(Debug)]
pub(crate) struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    /// Of an input.
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// Which step is next; `None` at the end.
    pub(crate) fn step(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// A byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.step().unwrap_or(0)
    }

    /// A number of two bytes.
    pub(crate) fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Bytes, with their number in front.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.number()).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(len);
        self.rest = rest;
        bytes
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

/// The bytes in pieces of so many; of 0: whole.
pub(crate) fn pieces(bytes: &[u8], of: u8) -> impl Iterator<Item = &[u8]> {
    let of = match of {
        0 => bytes.len().max(1),
        of => usize::from(of),
    };
    bytes.chunks(of)
}

/// Writes a script.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps(Vec<u8>);

impl Steps {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A step, or a byte of one.
    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// A step with arguments of one byte each.
    pub(crate) fn step(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A number of two bytes.
    pub(crate) fn number(mut self, number: u16) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// Bytes, with their number in front.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        let len = u16::try_from(bytes.len()).expect("a seed is short");
        self = self.number(len);
        self.0.extend_from_slice(bytes);
        self
    }

    /// All that is left.
    pub(crate) fn rest(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(bytes);
        self.0
    }

    /// The input.
    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}
