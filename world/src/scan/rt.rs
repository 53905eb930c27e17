//! Real-time set-up of the scan thread: each privilege is attempted, none is required.
//!
//! What was asked, what was got and why not is reported in [`HostReport`]; nothing here fails a
//! start. Nothing here touches another thread, except that locked memory is a property of the
//! process.
//!
//! Bound: one call per thread start, at most [`STACK_TOUCH`] bytes of stack touched.

mod sched;

use std::num::NonZeroU64;

use actorsim_actors::shard::{ShardCores, keep_on};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_current_timer_slack};
use serde::Serialize;

pub use sched::{set_normal, set_round_robin};

/// Stack of the scan thread that is touched before the first cycle, so that no cycle faults it in.
pub const STACK_TOUCH: usize = 256 * 1024;

/// Timer slack asked for where the thread stays in the normal class (FIFO has none).
const TIMER_SLACK_NS: u64 = 1;

/// What the scan asks of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRequest {
    /// Pin to one core.
    pub pin: bool,
    /// That core; `None` takes the highest core this process may use.
    pub core: Option<usize>,
    /// `SCHED_FIFO` priority, 1 to 99; `None` stays in the normal class.
    pub priority: Option<u8>,
    /// Lock the memory of the process (`MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT`).
    pub lock_memory: bool,
}

/// What the host gave: the `world.scan.host` part of the run report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// True when the thread is pinned to one core.
    pub pinned: bool,
    /// That core.
    pub core: Option<usize>,
    /// `"fifo:80"` or `"other"`.
    pub policy: String,
    /// True when the memory of the process is locked.
    pub locked: bool,
    /// True when the rows lie on large pages; a small table does not need them.
    pub large_pages: bool,
    /// One line for each request that was refused.
    pub why: Vec<String>,
}

impl HostReport {
    /// Whether the thread runs before all others of its core.
    #[must_use]
    pub fn is_real_time(&self) -> bool {
        self.policy.starts_with("fifo")
    }
}

/// Attempts `request` for the calling thread.
#[must_use]
pub fn prepare(request: HostRequest) -> HostReport {
    let mut report = HostReport {
        policy: "other".to_owned(),
        ..HostReport::default()
    };
    lock_memory(request, &mut report);
    touch_stack();
    pin(request, &mut report);
    match request.priority {
        Some(priority) => match sched::set_fifo(priority) {
            Ok(()) => report.policy = format!("fifo:{priority}"),
            Err(error) => {
                report.why.push(format!("sched_fifo {priority}: {error}"));
                slacken(&mut report);
            }
        },
        None => slacken(&mut report),
    }
    report
}

/// Takes a thread of this process out of the real-time class, below everybody else.
///
/// # Errors
/// What the kernel says.
pub(super) fn demote(thread: i32) -> std::io::Result<()> {
    sched::set_idle(thread)
}

fn pin(request: HostRequest, report: &mut HostReport) {
    if !request.pin {
        return;
    }
    let allowed = ShardCores::allowed();
    let Some(core) = request.core.or(allowed.last().copied()) else {
        report.why.push("affinity: no core is allowed".to_owned());
        return;
    };
    match keep_on(&[core], &allowed) {
        Ok(()) => {
            report.pinned = true;
            report.core = Some(core);
        }
        Err(why) => report.why.push(format!("affinity: {why}")),
    }
}

fn lock_memory(request: HostRequest, report: &mut HostReport) {
    if !request.lock_memory {
        return;
    }
    // With a finite limit and without the capability, MCL_FUTURE would make later allocations of
    // the whole process fail: not asked.
    let limit = getrlimit(Resource::Memlock).current;
    let capable =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if let Some(limit) = limit.filter(|_| !capable) {
        report.why.push(format!(
            "mlockall: memlock limit is {} KiB and cap_ipc_lock is missing",
            limit / 1024
        ));
        return;
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    match mlockall(flags) {
        Ok(()) => report.locked = true,
        Err(error) => report.why.push(format!("mlockall: {error}")),
    }
}

fn slacken(report: &mut HostReport) {
    if let Err(error) = set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS)) {
        report.why.push(format!("timer slack: {error}"));
    }
}

#[inline(never)]
fn touch_stack() {
    let mut stack = [0_u8; STACK_TOUCH];
    std::hint::black_box(&mut stack);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_does_not_exist_is_reported_not_fatal() {
        let report = std::thread::spawn(|| {
            prepare(HostRequest {
                pin: true,
                core: Some(1_000_000),
                priority: None,
                lock_memory: false,
            })
        });
        let report = report.join().unwrap();
        assert!(!report.pinned);
        assert_eq!(report.policy, "other");
        assert!(
            report.why.iter().any(|why| why.contains("1000000")),
            "{:?}",
            report.why
        );
    }

    #[test]
    fn an_impossible_priority_is_reported_not_fatal() {
        let report = std::thread::spawn(|| {
            prepare(HostRequest {
                pin: true,
                core: None,
                priority: Some(200),
                lock_memory: false,
            })
        });
        let report = report.join().unwrap();
        assert_eq!(report.policy, "other");
        assert!(
            report.why.iter().any(|why| why.contains("sched_fifo 200")),
            "{:?}",
            report.why
        );
    }

    #[test]
    fn every_request_is_granted_or_explained() {
        let report = std::thread::spawn(|| {
            prepare(HostRequest {
                pin: true,
                core: None,
                priority: Some(10),
                lock_memory: false,
            })
        });
        let report = report.join().unwrap();
        let refused = usize::from(!report.pinned) + usize::from(!report.policy.starts_with("fifo"));
        assert!(report.why.len() >= refused);
    }
}
