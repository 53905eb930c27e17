//! `actorsim replay`: a recording of a simulation, played to a real target.
//!
//! In reading order:
//! - [`log`]: a wire log, record by record, and what is in it;
//! - [`message`]: what devices said, as messages that any broker or server takes;
//! - [`mod@play`]: in the order and with the spacing of the recording, faster or slower;
//! - [`stream`]: a connection, over TLS where that is asked for; [`mqtt`], [`http`], [`coap`],
//!   [`amqp`], [`lines`]: what takes messages;
//! - [`twin`]: readings and events as they are, over a link.
//!
//! A file that was cut off is played as far as it goes, and then said to be. Bound: one record in
//! memory, besides what a target holds.

pub mod amqp;
pub mod coap;
pub mod http;
pub mod lines;
pub mod log;
pub mod message;
pub mod mqtt;
pub mod play;
pub mod stream;
pub mod twin;

pub use log::{Log, LogError, Survey};
pub use play::{Messages, Played, Taker, Target, play};
