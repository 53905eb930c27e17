//! The node: command line, configuration layers, assembly and control plane of `actorsim`.
//!
//! In reading order:
//!
//! - [`cli`]: the commands and flags; what each returns as an exit code.
//! - [`config`]: one table of keys, five layers, every error at once.
//! - [`state_dir`], [`ports`]: what only one node may hold: its directory, its ports.
//! - [`node`]: the assembly: starts the layers in order, stops them in reverse.
//! - [`view`]: what a running node shows of itself; [`status`], [`metrics`] and the report read it.
//! - [`report`]: the run report and its verdict.
//! - [`sim`]: a whole fleet on virtual time.
//! - [`scenario`]: scripts that start devices, break them and say what they expect; [`progress`]:
//!   how far what takes its time is.
//! - [`doctor`]: which limit of the host would bite a run, before it starts.
//! - [`replay`]: a recording of a simulation, played to a real target.
//! - [`scan_bench`]: how well the scan keeps its grid on this host.
//! - [`remote`]: REST, SSE and gRPC in front of the same command table.
//! - [`attach`]: the command table, the Unix-socket server and its client.
//! - [`logging`]: log lines and named events; [`heap`]: what a program asks of the allocator.
//!
//! # Invariants
//!
//! - Configuration is resolved and checked whole before anything starts.
//! - The control plane starts first and stops last.
//! - Nothing here is read by a layer: the arrows point from the node to its crates.
//!
//! # Example
//!
//! ```
//! use actorsim::config::{Layers, Settings};
//!
//! let mut layers = Layers::built_in();
//! layers.file("node.toml", "[fleet]\ndevices = 10\n");
//! layers.set("fleet.interval=250ms");
//! let settings: Settings = layers.resolve().expect("both layers are valid");
//! assert_eq!(settings.u64("fleet.devices"), 10);
//! assert_eq!(settings.duration("fleet.interval").as_millis(), 250);
//! ```

pub mod attach;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod heap;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod ports;
pub mod progress;
pub mod remote;
pub mod replay;
pub mod report;
pub mod scan_bench;
pub mod scenario;
pub mod sim;
pub mod state_dir;
pub mod status;
pub mod view;

pub use config::NodeConfig;
pub use node::{Node, StartError};
