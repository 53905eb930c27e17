//! OTP's supervisor suite, by OTP's case names, on the task host; the restart types also on cells.
//!
//! Every case runs under a watchdog. What children do is a log that cases compare as a whole.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "otp_conformance/administration.rs"]
mod administration;
#[path = "otp_conformance/cells.rs"]
mod cells;
#[path = "otp_conformance/death.rs"]
mod death;
#[path = "otp_conformance/restart_types.rs"]
mod restart_types;
#[path = "otp_conformance/shards.rs"]
mod shards;
#[path = "otp_conformance/significant.rs"]
mod significant;
#[path = "otp_conformance/stage.rs"]
mod stage;
#[path = "otp_conformance/strategies.rs"]
mod strategies;
