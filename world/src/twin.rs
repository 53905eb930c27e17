//! The twin: shared state, its subtree for the supervisor, and what people may ask it.
//!
//! It assembles journal, scan, route, apply and actuate under `/twin` (rest-for-one, in this order)
//! and owns what outlives them. It restarts nothing itself and scans nothing.
//!
//! Bound: mailboxes of [`crate::stages::STAGE_MAILBOX`] batches per stage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actorsim_actors::{ActorPath, Addr, Clock, MailboxSpec, Overflow};
use actorsim_supervision::{ChildSpec, Strategy, SupervisorPolicy, SupervisorSpec};
use actorsim_transport::{EventMark, Ingest, Inlets, Outcome, T2Message};
use thiserror::Error;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::batch::RowBatch;
use crate::journal::actor::JournalActor;
use crate::journal::{JournalConfig, JournalReport};
use crate::orders::OrderError;
use crate::report::{Sources, WorldReport};
use crate::request::{ROWS_PER_REQUEST, Request, RowView};
use crate::row_files::RowFilesConfig;
use crate::rules::RuleSet;
use crate::scan::rt::HostReport;
use crate::scan::snapshot::ScanSnapshot;
use crate::scan::stats::{CycleTimes, Quantiles};
use crate::scan::{Scan, ScanConfig, ScanMessage};
use crate::shared::{CycleHook, Shared};
use crate::stages::{
    Actuate, Apply, JOURNAL_MAILBOX, Outlets, Route, STAGE_MAILBOX, Synthetic, SyntheticMessage,
    WAKES, Woken,
};
use crate::systems::{SystemId, WorldRules};

/// How long an answer of the scan may take: many periods, and the restart of a scan.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// How often [`Twin::quiesce`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A journal verifies all that it has, and waits for room on its disk.
const AS_LONG_AS_IT_TAKES: Duration = Duration::MAX;

/// Messages that may wait for the scan's proxy.
const PROXY_MAILBOX: u32 = 8;

/// How a twin runs.
#[derive(Clone, Debug)]
pub struct TwinConfig {
    /// The scan.
    pub scan: ScanConfig,
    /// The systems' numbers.
    pub rules: WorldRules,
    /// What values mean for devices.
    pub rule_set: RuleSet,
    /// Where rows go besides; `None` is nowhere.
    pub row_files: Option<RowFilesConfig>,
    /// The journal.
    pub journal: JournalConfig,
    /// How long after its decision a command may still be executed.
    pub command_deadline: Duration,
    /// Commands a second for load, beside the rules' own; 0 is none.
    pub synthetic_rate: f64,
}

impl Default for TwinConfig {
    fn default() -> Self {
        Self {
            scan: ScanConfig::default(),
            rules: WorldRules::default(),
            rule_set: RuleSet::shipped(),
            row_files: None,
            journal: JournalConfig::default(),
            command_deadline: Duration::from_secs(5),
            synthetic_rate: 0.0,
        }
    }
}

/// Why the scan gave no answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AskTwinError {
    /// The twin has never heard of the device.
    #[error("the twin has no such device")]
    UnknownDevice,
    /// Too many requests wait for the scan.
    #[error("too many requests wait for the scan")]
    Busy,
    /// The scan did not answer in time.
    #[error("the scan did not answer in time")]
    NoAnswer,
}

/// A digital twin; clones are the same twin.
#[derive(Clone, Debug)]
pub struct Twin {
    shared: Arc<Shared>,
    journal: Addr<T2Message>,
    scan: Addr<ScanMessage>,
    route: Addr<Ingest>,
    apply: Addr<RowBatch>,
    actuate: Addr<Woken>,
    synthetic: Addr<SyntheticMessage>,
}

impl Twin {
    /// Makes the shared state and the addresses; nothing runs yet.
    pub fn new(config: TwinConfig, clock: Clock) -> std::io::Result<Self> {
        let at = ActorPath::root().join("twin");
        let batches = MailboxSpec::new(STAGE_MAILBOX, Overflow::Block).kept();
        Ok(Self {
            shared: Arc::new(Shared::new(config, clock)?),
            journal: Addr::new(
                at.join("journal"),
                MailboxSpec::new(JOURNAL_MAILBOX, Overflow::Block).kept(),
            ),
            scan: Addr::new(
                at.join("scan"),
                MailboxSpec::new(PROXY_MAILBOX, Overflow::Reject),
            ),
            route: Addr::new(at.join("route"), batches),
            apply: Addr::new(at.join("apply"), batches),
            actuate: Addr::new(at.join("actuate"), MailboxSpec::new(WAKES, Overflow::Block)),
            synthetic: Addr::new(at.join("synthetic"), MailboxSpec::new(1, Overflow::Reject)),
        })
    }

    /// Where the transport sends what comes.
    #[must_use]
    pub fn inlets(&self) -> Inlets {
        Inlets {
            readings: self.route.clone(),
            events: self.journal.clone(),
        }
    }

    /// The journal at this moment.
    #[must_use]
    pub fn journal(&self) -> JournalReport {
        self.shared.journal.report(self.shared.applied())
    }

    /// Times of the journal's commits, microseconds.
    #[must_use]
    pub fn commit_times(&self) -> hdrhistogram::Histogram<u64> {
        self.shared.journal.stats.commit_us.snapshot()
    }

    /// What was applied of each device over the life of the journal; `None` unless
    /// [`JournalConfig::ledger`] is set.
    #[must_use]
    pub fn ledger(&self) -> Option<BTreeMap<Uuid, EventMark>> {
        self.shared.ledger()
    }

    /// The scan's proxy.
    #[must_use]
    pub fn scan(&self) -> Addr<ScanMessage> {
        self.scan.clone()
    }

    /// How it runs.
    #[must_use]
    pub fn config(&self) -> &TwinConfig {
        &self.shared.config
    }

    /// The subtree at `/twin`: journal, scan, route, apply, actuate, rest for one, whatever
    /// strategy `policy` names. The first outlets given stay.
    #[must_use]
    pub fn supervisor(&self, outlets: Outlets, policy: SupervisorPolicy) -> SupervisorSpec {
        let outlets = self.shared.outlets.get_or_init(|| outlets).clone();
        let at = ActorPath::root().join("twin");
        let (scan, route) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let (apply, actuate) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let (journal, keeping) = (Arc::clone(&self.shared), outlets.clone());
        let (next, after) = (self.apply.clone(), self.apply.clone());
        let driving = (Arc::clone(&self.shared), outlets.clone());
        let journal = ChildSpec::task("journal", &self.journal, move || {
            JournalActor::new(Arc::clone(&journal), keeping.clone(), after.clone())
        });
        let mut scan = ChildSpec::task("scan", &self.scan, move || Scan::new(Arc::clone(&scan)));
        if self.shared.config.scan.watchdog.is_some() {
            // it is watched while it builds its world, and that knows better
            scan = scan.start_timeout(AS_LONG_AS_IT_TAKES);
        }
        let runtime = outlets.runtime.clone();
        let beside = |child: ChildSpec| match &runtime {
            Some(runtime) => child.on_runtime(runtime.clone()),
            None => child,
        };
        let spec = SupervisorSpec::new(at, policy)
            .needs(Strategy::RestForOne)
            .child(journal.start_timeout(AS_LONG_AS_IT_TAKES))
            .child(scan)
            .child(ChildSpec::task("route", &self.route, move || {
                Route::new(Arc::clone(&route), next.clone())
            }))
            .child(ChildSpec::task("apply", &self.apply, move || {
                Apply::new(Arc::clone(&apply))
            }))
            .child(beside(ChildSpec::task(
                "actuate",
                &self.actuate,
                move || Actuate::new(Arc::clone(&actuate), outlets.clone()),
            )));
        if self.shared.config.synthetic_rate <= 0.0 {
            return spec;
        }
        let synthetic = move || Synthetic::new(Arc::clone(&driving.0), driving.1.clone());
        spec.child(beside(ChildSpec::task(
            "synthetic",
            &self.synthetic,
            synthetic,
        )))
    }

    /// Totals at the end of the last published cycle.
    #[must_use]
    pub fn snapshot(&self) -> ScanSnapshot {
        *self.shared.lanes.snapshot.lock().read()
    }

    /// What the host gave the scan thread; `None` before its first start.
    #[must_use]
    pub fn host(&self) -> Option<HostReport> {
        self.shared.host.lock().clone()
    }

    /// Times of all cycles so far.
    #[must_use]
    pub fn times(&self) -> CycleTimes {
        self.shared.fold_records();
        self.shared.folded.lock().times.clone()
    }

    /// How long the scan has run by the clock: from its first slot to the end of its last,
    /// over all incarnations; `None` before the first.
    #[must_use]
    pub fn scanned(&self) -> Option<Duration> {
        let span = self.times().span()?;
        Some(span + self.shared.period())
    }

    /// Calls `hook` with each cycle's record from now on, outside the scan thread. It is called
    /// with the statistics locked: it may write a file, but not ask the twin.
    pub fn on_cycle(&self, hook: CycleHook) {
        self.shared.hook(hook);
    }

    /// Jitter of the last cycles; `None` before the first.
    #[must_use]
    pub fn jitter_lately(&self) -> Option<Quantiles> {
        self.shared.fold_records();
        let folded = self.shared.folded.lock();
        folded.times.window_of(|record| record.jitter_ns)
    }

    /// The `world` part of the run report.
    #[must_use]
    pub fn report(&self) -> WorldReport {
        self.shared.fold_records();
        let (devices, rows_refused) = {
            let index = self.shared.index.lock();
            (index.devices(), index.refused())
        };
        let ingest_us = self.shared.ingest.lock().quantiles();
        let snapshot = self.snapshot();
        let host = self.host();
        let rules = self.rules();
        let folded = self.shared.folded.lock();
        WorldReport::new(Sources {
            snapshot,
            times: &folded.times,
            host,
            period: self.shared.period(),
            walk_every: self.shared.lanes.walk_every.load(Ordering::Relaxed),
            config: &self.shared.config.scan,
            rules: &rules,
            first_error: self.shared.first_error(),
            wedged: self.shared.wedged.load(Ordering::Relaxed),
            received: self.shared.received(),
            row_files: self.shared.row_report(),
            devices,
            rows_refused,
            records_lapped: self.shared.lanes.records_lapped.load(Ordering::Relaxed),
            ingest_us,
        })
    }

    /// The rows of a device as the scan sees them at its next cycle boundary; at most
    /// [`ROWS_PER_REQUEST`].
    pub async fn device(&self, device: Uuid) -> Result<Vec<RowView>, AskTwinError> {
        let mut rows = self.shared.index.lock().rows_of(device);
        if rows.is_empty() {
            return Err(AskTwinError::UnknownDevice);
        }
        rows.truncate(ROWS_PER_REQUEST);
        let views = Vec::with_capacity(rows.len());
        self.ask(|reply| Request::Look { rows, views, reply }).await
    }

    /// Period of the grid, as it is now.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.shared.period()
    }

    /// The rules in use.
    #[must_use]
    pub fn rules(&self) -> RuleSet {
        self.shared.rules.lock().set.clone()
    }

    /// Judges by other rules from the next cycle on. A rule that stays, by name and type of sensor,
    /// stays in force where it is; one that goes is forgotten without a command.
    pub async fn set_rules(&self, set: RuleSet) -> Result<(), AskTwinError> {
        let _one_at_a_time = self.shared.changing.lock().await;
        let book = Box::new(self.shared.arm(set));
        self.ask(|reply| Request::Rules { book, reply }).await
    }

    /// Keeps another grid: a period, and how often export and diagnostics walk, in cycles; `None`
    /// stays as it is. It holds over restarts of the scan.
    pub async fn set_pace(
        &self,
        period: Option<Duration>,
        walk_every: Option<u32>,
    ) -> Result<(), AskTwinError> {
        let period_ns = period.map(|period| (period.as_nanos() as u64).max(1));
        let request = |reply| Request::Pace {
            period_ns,
            walk_every,
            reply,
        };
        self.ask(request).await
    }

    /// Commands the relay of a device: 1.0 starts it, 0.0 stops it, or a setpoint. Returns its
    /// outcome when that is known and the command is durable; who stops waiting once tier T3 has
    /// it does not take it back. A device that is not connected has until `deadline` to be there.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn command(
        &self,
        device: Uuid,
        value: f64,
        deadline: Duration,
    ) -> Result<Outcome, OrderError> {
        self.shared.order(device, value, deadline).await
    }

    /// Makes a system panic in its next run: fault injection.
    pub async fn panic(&self, system: SystemId) -> Result<(), AskTwinError> {
        self.ask(|reply| Request::Panic { system, reply }).await
    }

    async fn ask<R>(
        &self,
        request: impl FnOnce(oneshot::Sender<R>) -> Request,
    ) -> Result<R, AskTwinError> {
        let (reply, answer) = oneshot::channel();
        let pushed = self.shared.lanes.requests.lock().push(request(reply));
        pushed.map_err(|_| AskTwinError::Busy)?;
        match tokio::time::timeout(ANSWER_PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(AskTwinError::NoAnswer),
        }
    }

    fn is_at_work(&self) -> bool {
        let journal = &self.shared.journal;
        self.journal.depth() + self.route.depth() + self.apply.depth() > 0
            || journal.under_way.load(Ordering::Acquire) > 0
            || journal.head.load(Ordering::Acquire) > self.shared.applied()
            || self.shared.in_lanes() > 0
    }

    /// Waits until everything that came in is scanned and settled; false when that took longer than
    /// `deadline`. For the end of a run, before the tree is stopped.
    pub async fn quiesce(&self, deadline: Duration) -> bool {
        let settled = async {
            while self.is_at_work() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(deadline, settled).await.is_ok()
    }
}

/// The child specification of the twin's subtree, for the root supervisor.
#[must_use]
pub fn twin_children(twin: &Twin, outlets: Outlets, policy: SupervisorPolicy) -> ChildSpec {
    ChildSpec::supervisor("twin", twin.supervisor(outlets, policy))
}
