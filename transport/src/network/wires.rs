//! Lines over the kernel's sockets, whose packets faults can disturb while they run.
//!
//! [`Wires`] says which faults are in force on which line; `wires/socket.rs` is the socket between
//! quinn and the kernel that acts on them, both ways, at the dialling end. A link's connections are
//! on one line. Bounds: two sockets for a link; those of the socket.

mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use actorsim_supervision::chaos::{Fault, FaultPlan, Lines, StrikeKey, Way};
use parking_lot::Mutex;
use quinn::AsyncUdpSocket;

use super::Line;
use super::rules::Rules;
pub(crate) use socket::WireSocket;

/// What is always so on a line is no strike: numbers that no schedule comes to.
const DELAY: StrikeKey = (u64::MAX, 0);
const LOSS: StrikeKey = (u64::MAX, 1);

/// The lines of a node; clones are of the same node.
#[derive(Clone)]
pub struct Wires {
    shared: Arc<Shared>,
    line: u32,
}

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wires(line {})", self.line)
    }
}

struct Shared {
    /// What all lines are like.
    base: Option<Line>,
    state: Mutex<State>,
    lost: AtomicU64,
}

struct State {
    rules: Rules,
    /// By their numbers, with their lines.
    sockets: BTreeMap<u32, (u32, Weak<WireSocket>)>,
    /// Number of the next socket.
    next: u32,
}

impl Wires {
    /// Lines of links without faults, as good as the kernel's or all as bad as `base`; `seed`
    /// draws, and that of `base` does not.
    #[must_use]
    pub fn new(seed: u64, base: Option<Line>) -> Self {
        Self::with_rules(seed, base, Way::Down)
    }

    /// The end of a line that is always bad.
    pub(crate) fn end_of(line: Line, dials: bool) -> Self {
        let comes = if dials { Way::Down } else { Way::Up };
        Self::with_rules(line.seed, Some(line), comes)
    }

    /// What is bad about `base` befalls the packets that come.
    fn with_rules(seed: u64, base: Option<Line>, comes: Way) -> Self {
        let mut rules = Rules::new(seed);
        if let Some(Line { delay, loss, .. }) = base {
            let rule = |fault| FaultPlan {
                way: comes,
                share: loss,
                delay,
                ..FaultPlan::new(fault)
            };
            if !delay.is_zero() {
                rules.begin(DELAY, None, rule(Fault::DelayMsg));
            }
            if loss > 0.0 {
                rules.begin(LOSS, None, rule(Fault::DropMsg));
            }
        }
        let (sockets, next) = (BTreeMap::new(), 0);
        let shared = Shared {
            base,
            state: Mutex::new(State {
                rules,
                sockets,
                next,
            }),
            lost: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
            line: 0,
        }
    }

    /// The same lines, for a socket of line `line`.
    #[must_use]
    pub fn line(&self, line: u32) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared, line }
    }

    /// What all lines are like, if that is not what the kernel's are.
    pub(crate) fn base(&self) -> Option<&Line> {
        self.shared.base.as_ref()
    }

    /// Packets lost so far: by faults, or because too many were held back.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Puts a socket at an end of this line.
    pub(crate) fn attach(&self, inner: Arc<dyn AsyncUdpSocket>, dials: bool) -> Arc<WireSocket> {
        let mut state = self.shared.state.lock();
        let number = state.next;
        state.next += 1;
        let socket = Arc::new(WireSocket::new(inner, self.clone(), number, dials));
        let of = (self.line, Arc::downgrade(&socket));
        state.sockets.insert(number, of);
        drop(state);
        socket.look();
        socket
    }

    /// Those of a line, or of all.
    fn sockets(&self, line: Option<u32>) -> Vec<Arc<WireSocket>> {
        let state = self.shared.state.lock();
        let of = |of: &&(u32, _)| line.is_none_or(|line| of.0 == line);
        let sockets = state.sockets.values().filter(of);
        sockets.filter_map(|(_, socket)| socket.upgrade()).collect()
    }
}

impl Lines for Wires {
    fn begin(&self, strike: StrikeKey, line: Option<u32>, fault: FaultPlan) {
        self.shared.state.lock().rules.begin(strike, line, fault);
        for socket in self.sockets(line) {
            socket.look();
        }
    }

    fn end(&self, strike: StrikeKey) {
        self.shared.state.lock().rules.end(strike);
        for socket in self.sockets(None) {
            socket.release(strike);
        }
    }
}
