//! What a device keeps across restarts.
//!
//! It belongs to the population, not to the cell: a fresh incarnation goes on with its series,
//! sequences and setpoints. Bound: fixed size, no pointer.

use crate::fault::Marks;
use crate::profile::EVENTS_MAX;
use crate::program::{INLINE_SLOTS, Program};

/// Identity block of one device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Identity {
    /// The next slot to be drawn: the draw number of every field.
    pub slot: u64,
    /// Events made so far: the number of the next one.
    pub events: u64,
    /// Id of the last command executed; ids at or below it are superseded.
    pub last_command: u64,
    /// Setpoints of actuators, then state of generators (unless the program is wide).
    pub state: [f64; INLINE_SLOTS],
    /// T1 sequence; one for all sensors, since each sample sends all.
    pub sequence: u32,
    /// T2 sequences, one per watched field.
    pub event_sequences: [u32; EVENTS_MAX],
    /// Slots that passed while the device was down or late; wraps.
    pub missed: u32,
    /// Times a series had to begin anew; wraps.
    pub series_gaps: u16,
    /// Raised thresholds, one bit each.
    pub latches: u8,
    /// Faults that act: they end with their incarnation, and are counted as ended by the next.
    pub faults: Marks,
    /// Messages that wait for the broker: they are lost with their incarnation.
    pub waiting: u8,
    /// The session with the broker is up.
    pub line_up: bool,
    /// The revision of the profile by which `state` is laid out; 0 is the profile itself.
    pub behaviour: u16,
}

const _: () = assert!(EVENTS_MAX <= u8::BITS as usize, "a latch bit per threshold");
const _: () = assert!(
    size_of::<Identity>() <= 128,
    "a million of them stay within their budget"
);

impl Identity {
    /// A device that has done nothing yet.
    #[must_use]
    pub fn new(program: &Program) -> Self {
        let mut state = [0.0; INLINE_SLOTS];
        let mut all = vec![0.0; program.slots()];
        program.reset(&mut all);
        // A wide program keeps only its setpoints here.
        let kept = if all.len() <= INLINE_SLOTS {
            all.len()
        } else {
            program.actuators()
        };
        state[..kept].copy_from_slice(&all[..kept]);
        Self {
            slot: 0,
            events: 0,
            last_command: 0,
            state,
            sequence: 0,
            event_sequences: [0; EVENTS_MAX],
            missed: 0,
            series_gaps: 0,
            latches: 0,
            faults: Marks::default(),
            waiting: 0,
            line_up: false,
            behaviour: crate::behaviour::ORIGINAL,
        }
    }
}
