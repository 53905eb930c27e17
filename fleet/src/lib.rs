//! A fleet of simulated industrial devices: profiles, seeded values, and the device as a cell.
//!
//! In reading order:
//! - [`profile`]: what a type of device is, from YAML or TOML, everything wrong said at once;
//! - [`seed`], [`generator`]: values as pure functions of (seed, draw number, time);
//! - [`program`]: a profile made runnable; [`behaviour`]: otherwise than it says, while it runs;
//! - [`device`]: the cell: samples (T1), threshold events (T2), commands (T3);
//! - [`out`], [`wire`]: where devices write: over a link, or hashed in a simulation;
//! - [`broker`]: devices with sessions of their own on a broker;
//! - [`fault`]: what a device does wrong on purpose;
//! - [`payload`]: a sample as bytes, for a broker or as one of the [`lines`] that are printed;
//! - [`session`]: protocols without I/O: MQTT, HTTP, CoAP; [`peer`]: their other end, which
//!   simulated devices talk to and recordings are read by;
//! - [`text`]: files that people name, read within a bound;
//! - [`counters`]: what is counted.
//!
//! # Invariants
//! - A draw depends on seed, draw number and the device's time, and on nothing else: the same seed
//!   gives the same bytes on any number of shards.
//! - What a device must not lose (series, sequences, setpoints, the last command) is in its
//!   [`device::Identity`], and outlives its cell.
//! - A device that was down goes on with the series it would have had.
//! - This crate knows no world.
//!
//! # Example
//! ```
//! use actorsim_fleet::profile::Profile;
//!
//! let loaded = Profile::load("industrial").expect("it is built in");
//! assert_eq!(loaded.profile.device_id(17), "industrial-0017");
//! assert_eq!(loaded.profile.sensors().count(), 7);
//!
//! let errors = Profile::parse("pump.yaml", "type: pump\nqos: 7\n").unwrap_err();
//! assert_eq!((errors[0].line, errors[0].column), (2, 6));
//! ```

mod air;
pub mod behaviour;
pub mod broker;
pub mod counters;
pub mod device;
mod directory;
pub mod fault;
pub mod fleet;
pub mod generator;
pub mod lines;
pub mod names;
pub mod out;
pub mod payload;
pub mod peer;
pub mod population;
pub mod profile;
pub mod program;
pub mod seed;
pub mod session;
pub mod text;
pub mod watch;
pub mod wire;

pub use counters::Tally;
pub use device::{Device, DeviceInfo, DeviceMessage, Injection};
pub use fleet::{
    DeviceCounts, DeviceError, Fleet, FleetDownlink, FleetError, Published, Reached, Selector,
    Spawned, Stopped, Updated, Uplink,
};
pub use population::{Population, PopulationError};
pub use profile::Profile;
