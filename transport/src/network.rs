//! Where datagrams travel: the kernel's UDP, the same over a worse line or on wires that faults act
//! on, or a network in memory on virtual time.
//!
//! - `rules`: what the faults in force on a line do to one packet; one place for all networks.
//! - [`simulated`]: the network in memory.
//! - [`wires`]: lines over the kernel's sockets, and the socket that disturbs their packets.
//!
//! It opens nothing: that is [`crate::endpoint`]. Bound: nothing is kept here.

mod rules;
pub mod simulated;
pub mod wires;

use std::time::Duration;

pub use self::simulated::SimNet;
pub use self::wires::Wires;
use crate::endpoint::FRAME_ETHERNET;

/// Where datagrams travel.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// Over the kernel's sockets.
    #[default]
    Udp,
    /// Over the kernel's sockets, and as if over this line.
    Line(Line),
    /// Over the kernel's sockets, on a wire on which faults can act while it runs.
    Wires(Wires),
    /// In memory, on virtual time.
    Simulated(SimNet),
}

/// A line that is not as good as the machine's own: for measurements without privileges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Bytes of a frame's QUIC packet at most.
    pub frame_max: u16,
    /// What packets take longer on their way to an endpoint; a timer's resolution more.
    pub delay: Duration,
    /// Share of packets that do not get to an endpoint, 0 to 1.
    pub loss: f64,
    /// Draws which; [`Wires`] that are all like this line draw by their own.
    pub seed: u64,
}

impl Line {
    /// Ethernet between two machines: nothing is lost or late.
    pub const ETHERNET: Self = Self {
        frame_max: FRAME_ETHERNET,
        delay: Duration::ZERO,
        loss: 0.0,
        seed: 0,
    };

    /// Whether packets are lost or late.
    pub(crate) fn is_faulty(&self) -> bool {
        self.loss > 0.0 || !self.delay.is_zero()
    }
}

impl Network {
    /// The same for line `line`.
    #[must_use]
    pub fn line(&self, line: u32) -> Self {
        match self {
            Self::Udp => Self::Udp,
            Self::Line(of) => Self::Line(Line {
                seed: of.seed.wrapping_add(1 + u64::from(line)),
                ..*of
            }),
            Self::Wires(wires) => Self::Wires(wires.line(line)),
            Self::Simulated(net) => Self::Simulated(net.line(line)),
        }
    }

    /// Whether no packet leaves the process.
    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self, Self::Simulated(_))
    }
}
