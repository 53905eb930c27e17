//! OTP's supervisor suite, by OTP's case names, on the task host; the restart types also on cells.
//!
//! The list of names, and those left out with the reason: `names`. Where we differ on purpose:
//! `which_children` lists in start order (OTP: in reverse); a supervisor that gives up ends with
//! `escalated` (OTP: `shutdown`), which is the same to its own supervisor; a significant permanent
//! child is refused here, too, but for a policy that nobody looks at as well; `simple_one_for_one`
//! keeps the ids of its children while they live, so that one of them can be asked for.
//!
//! Every case runs under a watchdog. What children do is a log that cases compare as a whole.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "otp_conformance/administration.rs"]
mod administration;
#[path = "otp_conformance/cells.rs"]
mod cells;
#[path = "otp_conformance/children.rs"]
mod children;
#[path = "otp_conformance/death.rs"]
mod death;
#[path = "otp_conformance/names.rs"]
mod names;
#[path = "otp_conformance/restart_types.rs"]
mod restart_types;
#[path = "otp_conformance/shards.rs"]
mod shards;
#[path = "otp_conformance/significant.rs"]
mod significant;
#[path = "otp_conformance/stage.rs"]
mod stage;
#[path = "otp_conformance/starts.rs"]
mod starts;
#[path = "otp_conformance/stops.rs"]
mod stops;
#[path = "otp_conformance/strategies.rs"]
mod strategies;
#[path = "otp_conformance/upgrade.rs"]
mod upgrade;
