//! Real-time set-up of the scan thread: each privilege is attempted, none is required.
//!
//! What was asked, what was got and why not is reported in [`HostReport`]; nothing here fails a
//! start. Nothing here touches another thread, except that locked memory is a property of the
//! process.
//!
//! Bound: one call per thread start, at most [`STACK_TOUCH`] bytes of stack touched.

mod sched;

use std::fmt;
use std::num::NonZeroU64;

use actorsim_actors::shard::{ShardCores, keep_on};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities, current_timer_slack, set_current_timer_slack};
use serde::Serialize;

pub use sched::{set_normal, set_round_robin};

/// Stack of the scan thread that is touched before the first cycle, so that no cycle faults it in.
pub const STACK_TOUCH: usize = 256 * 1024;

/// Timer slack asked for; it tells where the thread stays in the normal class (FIFO has none).
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

/// What was asked of a host, or what it gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostTerms {
    /// The thread is pinned to one core.
    pub pinned: bool,
    /// That core.
    pub core: Option<usize>,
    /// `"fifo:80"`, `"other"`, or `"virtual"` where there is no thread.
    pub policy: String,
    /// The memory of the process is locked.
    pub locked: bool,
    /// The rows lie on large pages; not asked for a table that has none.
    pub large_pages: bool,
    /// How much later than asked the kernel may wake the thread; `None` where it was not asked, or
    /// did not answer.
    pub timer_slack_ns: Option<u64>,
}

impl Default for HostTerms {
    fn default() -> Self {
        Self {
            pinned: false,
            core: None,
            policy: "other".to_owned(),
            locked: false,
            large_pages: false,
            timer_slack_ns: None,
        }
    }
}

impl fmt::Display for HostTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.core {
            Some(core) if self.pinned => write!(f, "core {core}")?,
            _ => f.write_str("any core")?,
        }
        write!(f, ", policy {}", self.policy)?;
        f.write_str(if self.locked { ", memory locked" } else { "" })?;
        f.write_str(if self.large_pages {
            ", large pages"
        } else {
            ""
        })?;
        match self.timer_slack_ns {
            Some(slack_ns) => write!(f, ", timer slack {slack_ns} ns"),
            None => Ok(()),
        }
    }
}

/// What was asked, got, and why not: the `world.scan.host` part of the run report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// What the host gave.
    #[serde(flatten)]
    pub got: HostTerms,
    /// What it was asked for.
    pub asked: HostTerms,
    /// One line for each request that was refused.
    pub why: Vec<String>,
}

impl fmt::Display for HostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.got)?;
        if self.why.is_empty() {
            return Ok(());
        }
        let why = self.why.join("; ");
        write!(f, "; asked for {}; not granted: {why}", self.asked)
    }
}

impl HostReport {
    /// A scan without a thread asks its host for nothing.
    #[must_use]
    pub fn of_virtual_time() -> Self {
        let terms = HostTerms {
            policy: "virtual".to_owned(),
            ..HostTerms::default()
        };
        Self {
            got: terms.clone(),
            asked: terms,
            why: Vec::new(),
        }
    }

    /// Whether the thread runs before all others of its core.
    #[must_use]
    pub fn is_real_time(&self) -> bool {
        self.got.policy.starts_with("fifo")
    }

    /// Notes whether the rows lie on large pages, or why they do not though they could.
    pub(super) fn note_large_pages(&mut self, gathered: Result<bool, &str>) {
        self.asked.large_pages = gathered != Ok(false);
        self.got.large_pages = gathered == Ok(true);
        if let Err(why) = gathered {
            self.why.push(format!("large pages: {why}"));
        }
    }
}

/// Attempts `request` for the calling thread.
#[must_use]
pub fn prepare(request: HostRequest) -> HostReport {
    let mut report = HostReport::default();
    lock_memory(request, &mut report);
    touch_stack();
    pin(request, &mut report);
    slacken(&mut report);
    if let Some(priority) = request.priority {
        report.asked.policy = format!("fifo:{priority}");
        match sched::set_fifo(priority) {
            Ok(()) => report.got.policy.clone_from(&report.asked.policy),
            Err(error) => report.why.push(format!("sched_fifo {priority}: {error}")),
        }
    }
    // read last: kernels say 0 of a thread in a real-time class, which has none
    report.got.timer_slack_ns = current_timer_slack().ok();
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
    report.asked.pinned = true;
    let allowed = ShardCores::allowed();
    report.asked.core = request.core.or(allowed.last().copied());
    let Some(core) = report.asked.core else {
        report.why.push("affinity: no core is allowed".to_owned());
        return;
    };
    match keep_on(&[core], &allowed) {
        Ok(()) => {
            report.got.pinned = true;
            report.got.core = Some(core);
        }
        Err(why) => report.why.push(format!("affinity: {why}")),
    }
}

fn lock_memory(request: HostRequest, report: &mut HostReport) {
    if !request.lock_memory {
        return;
    }
    report.asked.locked = true;
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
        Ok(()) => report.got.locked = true,
        Err(error) => report.why.push(format!("mlockall: {error}")),
    }
}

fn slacken(report: &mut HostReport) {
    report.asked.timer_slack_ns = Some(TIMER_SLACK_NS);
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

    fn prepared(request: HostRequest) -> HostReport {
        std::thread::spawn(move || prepare(request)).join().unwrap()
    }

    const NOTHING: HostRequest = HostRequest {
        pin: false,
        core: None,
        priority: None,
        lock_memory: false,
    };

    #[test]
    fn a_core_that_does_not_exist_is_reported_not_fatal() {
        let report = prepared(HostRequest {
            pin: true,
            core: Some(1_000_000),
            ..NOTHING
        });
        assert_eq!((report.asked.pinned, report.got.pinned), (true, false));
        assert_eq!(report.asked.core, Some(1_000_000));
        assert_eq!((report.got.core, report.why.len()), (None, 1));
        assert!(report.why[0].contains("1000000"), "{:?}", report.why);
    }

    #[test]
    fn an_impossible_priority_is_reported_not_fatal() {
        let report = prepared(HostRequest {
            pin: true,
            priority: Some(200),
            ..NOTHING
        });
        assert_eq!(report.asked.policy, "fifo:200");
        assert_eq!((&*report.got.policy, report.why.len()), ("other", 1));
        let text = report.to_string();
        for part in [", policy other", "asked for core", "policy fifo:200"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.contains("not granted: sched_fifo 200"), "{text}");
    }

    #[test]
    fn every_request_is_granted_or_explained() {
        let report = prepared(HostRequest {
            pin: true,
            priority: Some(10),
            ..NOTHING
        });
        let HostReport { got, asked, why } = &report;
        let refused = usize::from(got.core != asked.core) + usize::from(got.policy != asked.policy);
        assert_eq!(why.len(), refused, "{report:?}");
        let core = *ShardCores::allowed().last().unwrap();
        assert_eq!(asked.core, Some(core), "the one that was chosen");
    }

    #[test]
    fn the_timer_slack_is_what_the_kernel_says_it_is() {
        let report = prepared(NOTHING);
        assert_eq!(report.asked.timer_slack_ns, Some(TIMER_SLACK_NS));
        assert_eq!(report.got, report.asked);
        assert_eq!(
            report.to_string(),
            "any core, policy other, timer slack 1 ns"
        );
    }

    #[test]
    fn large_pages_are_asked_for_a_table_that_has_some() {
        for (gathered, terms) in [
            (Ok(false), (false, false)),
            (Ok(true), (true, true)),
            (Err("none are configured"), (true, false)),
        ] {
            let mut report = HostReport::default();
            report.note_large_pages(gathered);
            let found = (report.asked.large_pages, report.got.large_pages);
            assert_eq!(found, terms);
            assert_eq!(report.why.len(), usize::from(gathered.is_err()));
        }
    }

    #[test]
    fn what_was_got_keeps_its_keys_beside_what_was_asked() {
        let report = serde_json::to_value(HostReport::of_virtual_time()).unwrap();
        let keys = |value: &serde_json::Value| {
            let keys = value.as_object().unwrap().keys();
            keys.cloned().collect::<std::collections::BTreeSet<_>>()
        };
        let mut expected = keys(&report["asked"]);
        expected.extend(["asked".to_owned(), "why".to_owned()]);
        assert_eq!(keys(&report), expected);
    }
}
