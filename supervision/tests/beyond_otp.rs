//! What goes beyond OTP: quarantine and release, live policies, crash reports, on both hosts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(
    dead_code,
    reason = "shared with the conformance suite, which uses all of it"
)]
#[path = "otp_conformance/stage.rs"]
mod stage;

#[path = "beyond_otp/groups.rs"]
mod groups;
#[path = "beyond_otp/release.rs"]
mod release;
#[path = "beyond_otp/reports.rs"]
mod reports;
#[path = "beyond_otp/resume.rs"]
mod resume;
#[path = "beyond_otp/shards.rs"]
mod shards;
