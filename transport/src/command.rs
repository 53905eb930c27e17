//! Commands: what the world asks of a device, and its one outcome.
//!
//! An [`Issued`] command accounts for itself: whoever drops it without an outcome has it counted as
//! dropped. It knows no stream. Bound: one command, one outcome.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{Message, Time};
use uuid::Uuid;

use crate::reading::{Reading, SensorType};
use crate::stats::TransportStats;

/// A setpoint for an actuator.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Device.
    pub device: Uuid,
    /// Its actuator.
    pub sensor: u16,
    /// The actuator's type.
    pub kind: SensorType,
    /// The setpoint.
    pub value: f64,
    /// Rising per device; the device refuses one at or below its last as superseded.
    pub id: u64,
    /// When it was decided (monotonic).
    pub decided: Time,
    /// How long after the decision it is worth executing.
    pub deadline: Duration,
}

impl Command {
    /// When it expires (monotonic).
    #[must_use]
    pub fn expires(&self) -> Time {
        self.decided + self.deadline
    }

    /// The 39 bytes that go to the device, stamped `at_us`. The sequence is the id's low half.
    #[must_use]
    pub fn reading(&self, at_us: u64) -> Reading {
        Reading {
            device: self.device,
            sensor: self.sensor,
            kind: self.kind,
            value: self.value,
            at_us,
            sequence: self.id as u32,
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Executed and acknowledged.
    Acked,
    /// A later one was executed before.
    Superseded,
    /// Not acknowledged by its deadline.
    Expired,
    /// No connection carried its device until its deadline.
    NoRoute,
    /// Lost on the way, or no room to wait.
    Dropped,
    /// Refused by the device, or acknowledged wrongly.
    Error,
}

/// Told the outcome of a command, by its id, from any thread and without waiting.
#[derive(Clone)]
pub struct OutcomeSink(Arc<dyn Fn(u64, Outcome) + Send + Sync>);

impl OutcomeSink {
    /// Calls `told` with each outcome.
    pub fn new(told: impl Fn(u64, Outcome) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }
}

impl fmt::Debug for OutcomeSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutcomeSink")
    }
}

/// A command whose outcome will be counted, exactly once.
#[derive(Debug)]
pub struct Issued {
    command: Command,
    sink: Option<OutcomeSink>,
    /// Whether some connection was there to carry it.
    pub(crate) routed: bool,
    stats: Option<Arc<TransportStats>>,
}

impl Issued {
    /// Counts `command` as issued and watches over its outcome.
    #[must_use]
    pub fn new(command: Command, stats: &Arc<TransportStats>) -> Self {
        stats.t3.issued.inc();
        Self {
            command,
            sink: None,
            routed: false,
            stats: Some(Arc::clone(stats)),
        }
    }

    /// Tells `sink` the outcome, too.
    #[must_use]
    pub fn told_to(mut self, sink: OutcomeSink) -> Self {
        self.sink = Some(sink);
        self
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// Counts how it ended.
    pub fn settle(mut self, outcome: Outcome) {
        self.count(outcome);
    }

    /// What it has come to if it is given up at its deadline.
    pub(crate) fn expire(self) {
        let outcome = if self.routed {
            Outcome::Expired
        } else {
            Outcome::NoRoute
        };
        self.settle(outcome);
    }

    fn count(&mut self, outcome: Outcome) {
        let Some(stats) = self.stats.take() else {
            return;
        };
        // told before it is counted: whoever sees the count finds the rest done
        if let Some(OutcomeSink(told)) = self.sink.take() {
            told(self.command.id, outcome);
        }
        let t3 = &stats.t3;
        match outcome {
            Outcome::Acked => t3.acked.inc(),
            Outcome::Superseded => t3.superseded.inc(),
            Outcome::Expired => t3.expired.inc(),
            Outcome::NoRoute => t3.no_route.inc(),
            Outcome::Dropped => t3.dropped.inc(),
            Outcome::Error => t3.errors.inc(),
        }
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        self.count(Outcome::Dropped);
    }
}

/// What tier T3 is sent.
#[derive(Debug)]
pub enum T3Message {
    /// A new command, out of the world.
    Command(Issued),
    /// One whose connection ended before its acknowledgement, or whose device was busy.
    Retry(Issued),
    /// Time to look at the waiting ones again.
    Tick,
}

impl T3Message {
    /// A new command, counted as issued from here on.
    #[must_use]
    pub fn issue(command: Command, stats: &Arc<TransportStats>) -> Self {
        Self::Command(Issued::new(command, stats))
    }
}

impl Message for T3Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) => "t3_command",
            Self::Retry(_) => "t3_retry",
            Self::Tick => "t3_tick",
        }
    }
}

/// How a device answers a command; the byte after the 39 of an `actorsim/1` acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AckStatus {
    /// Done.
    Executed = 0,
    /// A later command was executed before.
    Superseded = 1,
    /// The device does not do that.
    Refused = 2,
}

impl AckStatus {
    /// The status of a byte, if it is one.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Executed),
            1 => Some(Self::Superseded),
            2 => Some(Self::Refused),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(stats: &Arc<TransportStats>) -> Issued {
        let command = Command {
            device: Uuid::nil(),
            sensor: 6,
            kind: SensorType::Relay,
            value: 0.0,
            id: 0x1_0000_0002,
            decided: Time::ZERO,
            deadline: Duration::from_secs(1),
        };
        Issued::new(command, stats)
    }

    #[test]
    fn each_command_has_exactly_one_outcome() {
        let stats = TransportStats::new();
        let all = [
            Outcome::Acked,
            Outcome::Superseded,
            Outcome::Expired,
            Outcome::NoRoute,
            Outcome::Dropped,
            Outcome::Error,
        ];
        for outcome in all {
            issued(&stats).settle(outcome);
        }
        drop(issued(&stats));
        assert_eq!((stats.t3.issued.get(), stats.t3.settled()), (7, 7));
        assert_eq!(stats.t3.dropped.get(), 2);
    }

    #[test]
    fn an_outcome_is_told_once_also_when_nobody_settles() {
        let stats = TransportStats::new();
        let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let sink = OutcomeSink::new(move |id, outcome| heard.lock().push((id, outcome)));
        let settled = issued(&stats).told_to(sink.clone());
        let id = settled.command().id;
        settled.settle(Outcome::Acked);
        drop(issued(&stats).told_to(sink));
        assert_eq!(*told.lock(), [(id, Outcome::Acked), (id, Outcome::Dropped)]);
    }

    #[test]
    fn a_command_that_met_no_connection_had_no_route() {
        let stats = TransportStats::new();
        issued(&stats).expire();
        let mut routed = issued(&stats);
        routed.routed = true;
        routed.expire();
        assert_eq!((stats.t3.no_route.get(), stats.t3.expired.get()), (1, 1));
    }

    #[test]
    fn the_sequence_on_the_wire_is_the_low_half_of_the_id() {
        assert_eq!(
            issued(&TransportStats::new()).command().reading(5).sequence,
            2
        );
    }
}
