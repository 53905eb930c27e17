//! The scanned ECS world of a digital twin: components, ingest stages, systems, scan actor, cycle
//! statistics.
//!
//! In reading order:
//! - [`components`]: the columns of a row; one row per (device, sensor).
//! - [`batch`], [`request`]: what travels to the scan; [`index`]: which row is whose.
//! - [`rules`]: what values mean for devices, as data; [`windows`]: whose last values are kept.
//! - [`systems`], [`scanned`]: five systems and the world they step, without a thread.
//! - [`scan`]: grid, clock, privileges, statistics, the thread and its proxy actor.
//! - [`lanes`], [`shared`], [`stages`]: route, apply, actuate, and what outlives them.
//! - [`journal`]: events and intents on disk, checkpoints, and the world after a restart.
//! - [`row_files`]: what rows held, in files.
//! - [`orders`]: commands from outside.
//! - [`report`], [`twin`]: what people see, and the subtree at `/twin`.
//!
//! # Invariants
//! - Slot == table row: rows are spawned blank, bound once and never despawned.
//! - The scan thread waits for nobody, and in steady state allocates and frees nothing.
//! - A T2 batch is durable before it is acknowledged, and applied once, in the journal's order; the
//!   invariants of that are in [`journal`].
//! - There is never a second world: the scan's ends are leased to one incarnation at a time.
//! - A system that fails never unwinds out of the schedule; its cycle is not published.
//! - Only `scan::clock` reads a clock of the operating system.
//!
//! # Example
//! ```
//! use actorsim_world::batch::RowReading;
//! use actorsim_world::components::RowFill;
//! use actorsim_world::scanned::{ScannedWorld, WorldSize};
//! use actorsim_world::systems::{Commanded, Tally, WorldRules};
//!
//! let size = WorldSize { capacity: 8, capacity_max: 8 };
//! let rules = WorldRules::default();
//! let mut world = ScannedWorld::new(size, rules, Commanded::new(8), Tally::default());
//! world.fill([RowFill { device: [1; 16], row: 0, asset: 0, sensor: 3, relay: 6, kind: 3 }]);
//! world.cycle(0, 10_000_000, 16).unwrap();
//! let row = world.view(0).unwrap();
//! assert_eq!((row.sensor, row.value, row.stale), (3, None, true));
//! # let _ = RowReading { value: 0.0, at_us: 0, row: 0, sequence: 0 };
//! ```

pub mod batch;
mod blocks;
pub mod components;
mod huge;
pub mod index;
pub mod journal;
pub mod lanes;
pub mod orders;
mod prefetch;
pub mod report;
pub mod request;
pub mod row_files;
pub mod rules;
pub mod scan;
pub mod scanned;
pub mod shared;
pub mod stages;
pub mod systems;
mod threads;
pub mod twin;
pub mod windows;

pub use journal::{JournalConfig, JournalReport};
pub use report::WorldReport;
pub use request::RowView;
pub use scan::ScanConfig;
pub use scan::snapshot::ScanSnapshot;
pub use stages::Outlets;
pub use systems::{SystemId, WorldRules};
pub use twin::{AskTwinError, Twin, TwinConfig, twin_children};
