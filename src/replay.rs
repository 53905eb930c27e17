//! `actorsim replay`: a recording of a simulation, played to a real target.
//!
//! In reading order:
//! - [`log`]: a wire log, record by record, and what is in it;
//! - [`mod@play`]: in the order and with the spacing of the recording, faster or slower;
//! - [`mqtt`]: to a broker, each sample as its device would publish it;
//! - [`twin`]: to a twin, over a link.
//!
//! A file that was cut off is played as far as it goes, and then said to be. Bound: one record in
//! memory, besides what a target holds.

pub mod log;
pub mod mqtt;
pub mod play;
pub mod twin;

pub use log::{Log, LogError, Survey};
pub use play::{Played, Target, play};
