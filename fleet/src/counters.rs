//! What a fleet counts.
//!
//! Devices count in their slab's [`Tally`]; a flush adds it to the shared [`FleetCounters`].
//! Bound: fixed size.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::fault::FaultCounters;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of one slab since its last flush; also a snapshot of a fleet.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// Counts of a whole fleet.
        #[derive(Debug, Default)]
        pub struct FleetCounters {
            $($name: AtomicU64,)*
            /// Faults by kind.
            pub faults: FaultCounters,
        }

        impl FleetCounters {
            /// Adds what a slab has counted.
            pub fn add(&self, tally: &Tally) {
                $(if tally.$name > 0 {
                    self.$name.fetch_add(tally.$name, Ordering::Relaxed);
                })*
            }

            /// The counts now.
            #[must_use]
            pub fn read(&self) -> Tally {
                Tally { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Samples taken.
    ticks,
    /// Samples not taken because the device was down or late.
    missed,
    /// T1 readings written.
    readings,
    /// T2 events made.
    events,
    /// Commands executed.
    executed,
    /// Commands at or below the last one.
    superseded,
    /// Commands for something that is no actuator.
    refused,
    /// Commands that came after their deadline.
    expired,
    /// Series that could not be continued after a long absence.
    series_gaps,
    /// Presence pushed to 0 by hand.
    triggers,
    /// Samples taken and not sent because of a fault.
    silenced,
    /// Values changed by a fault.
    corrupted,
    /// Samples sent once more by a fault.
    duplicated,
    /// Commands not heard because of a fault.
    unheard,
}
