//! The scan's actor at `/twin/scan`: the proxy that supervision starts, kills and restarts.
//!
//! Each incarnation leases the scan's ends, has the world built and bound from the index on a
//! fresh thread, and ends when that thread ends. Killing it ends the thread after its present
//! cycle; the next incarnation waits for the lease, so there is never a second world.
//!
//! Bound: one thread per incarnation; `HANDOVER` to wait for the previous one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use actorsim_actors::{ActorPath, Fault, Flow, Level, Message, System, TaskActor, TaskContext};

use super::clock::ScanClock;
use super::duty::Change;
use super::watchdog::{STEP_ROWS, Watchdog, Wedged};
use super::{NewsIn, NewsOut, STACK, ScanFault, ScanNews, ScanThread, news};
use crate::lanes::{Lease, ScanEnds};
use crate::row_files::{ROWS_PER_CYCLE, RowWriter};
use crate::scanned::{ScannedWorld, WorldSize};
use crate::shared::Shared;
use crate::threads;

/// How long an incarnation waits for the thread of the previous one.
const HANDOVER: Duration = Duration::from_secs(5);

/// How often it looks for the ends meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What the proxy is sent: nothing is needed but the mailbox that makes it an actor.
#[derive(Debug)]
pub enum ScanMessage {
    /// Ends the incarnation with a fault, as a fault-injecting session asks.
    Fail,
}

impl Message for ScanMessage {
    fn kind(&self) -> &'static str {
        "fail"
    }
}

/// The proxy.
#[derive(Debug)]
pub struct Scan {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    watchdog: Option<Watchdog>,
    rows: Option<RowWriter>,
}

impl Scan {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            stop: Arc::new(AtomicBool::new(false)),
            thread: None,
            watchdog: None,
            rows: None,
        }
    }

    /// Starts an incarnation: a thread of its own; on virtual time, a task beside the others.
    fn spawn(
        &mut self,
        ends: Lease<ScanEnds>,
        news: NewsOut,
        cx: &TaskContext<ScanMessage>,
    ) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let stop = Arc::clone(&self.stop);
        let build = move || shared.build(ends, stop, news);
        if matches!(self.shared.scan_clock, ScanClock::Virtual(_)) {
            cx.pump(async move {
                if let Some(scan) = build() {
                    scan.run_virtual().await;
                }
                Ok(())
            });
            return Ok(());
        }
        self.write_rows(cx)?;
        let builder = std::thread::Builder::new()
            .name("scan".to_owned())
            .stack_size(STACK);
        let pulse = Arc::clone(&self.shared.lanes.pulse);
        let work = move || {
            let _beating = pulse.of_this_thread();
            if let Some(scan) = build() {
                scan.run();
            }
        };
        self.thread = Some(threads::start(builder, &self.shared.cores, work)?);
        Ok(())
    }

    /// Writes the rows that the scan hands out.
    fn write_rows(&mut self, cx: &TaskContext<ScanMessage>) -> std::io::Result<()> {
        let Some(config) = self.shared.config.row_files.clone() else {
            return Ok(());
        };
        let (system, path) = (cx.system().clone(), cx.path().clone());
        let tell = move |text| {
            let events = system.events();
            events.publish(Level::Warn, "row_files", Some(&path), text);
        };
        let lanes = Arc::clone(&self.shared.lanes);
        let clock = self.shared.clock.clone();
        self.rows = Some(RowWriter::start(
            config,
            lanes,
            clock,
            &self.shared.cores,
            tell,
        )?);
        Ok(())
    }

    /// Watches the cycles of whichever thread has the world: of the former incarnation's, until
    /// it ends.
    fn watch(&mut self, cx: &TaskContext<ScanMessage>) -> std::io::Result<()> {
        let watchdog = self.shared.config.scan.watchdog;
        let (Some(limit), ScanClock::Host) = (watchdog, &self.shared.scan_clock) else {
            return Ok(()); // on virtual time there is no thread
        };
        let (shared, system) = (Arc::clone(&self.shared), cx.system().clone());
        let path = cx.path().clone();
        let tell = move |wedged: Wedged| {
            let mut text = wedged.to_string();
            if let Some(why) = &wedged.not_demoted {
                text += &format!("; its thread keeps its class: {why}");
            }
            shared.note_error(&text);
            shared.wedged.fetch_add(1, Ordering::Relaxed);
            let events = system.events();
            events.publish(Level::Error, "scan_wedged", Some(&path), text);
            if let Some(on_wedged) = &shared.config.scan.on_wedged {
                (on_wedged.0)(&wedged);
            }
        };
        let pulse = Arc::clone(&self.shared.lanes.pulse);
        self.watchdog = Some(Watchdog::start(pulse, limit, &self.shared.cores, tell)?);
        Ok(())
    }

    async fn lease(&self) -> Result<Lease<ScanEnds>, Fault> {
        let looks = HANDOVER.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..looks {
            if let Some(ends) = self.shared.lanes.scan.take() {
                return Ok(ends);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(Fault::with(
            "scan_wedged",
            "the previous scan thread does not end its cycle",
        ))
    }
}

impl Shared {
    /// The world as it was, on the thread that scans it; `None` if it cannot be remembered.
    fn build(
        &self,
        ends: Lease<ScanEnds>,
        stop: Arc<AtomicBool>,
        mut news: NewsOut,
    ) -> Option<ScanThread> {
        let step = || self.lanes.pulse.step(self.scan_clock.now_ns());
        step();
        let scan = &self.config.scan;
        // a rebuilt world has the rows of the former one at once, instead of growing to them
        let size = WorldSize {
            capacity: scan.capacity.max(self.index.lock().rows()),
            capacity_max: scan.capacity_max,
        };
        let mut tally = ends.carry.snapshot.tally;
        tally.applied_offset = self.applied();
        let rules = self.config.rules.clone();
        let (book, own) = (self.book(), scan.own.clone());
        let commanded = self.commanded.clone();
        let mut world = ScannedWorld::with(size, rules, commanded, tally, book, own);
        world.count_on(&ends.carry.snapshot.rules);
        if self.config.row_files.is_some() {
            world.hand_out(ROWS_PER_CYCLE);
        }
        step();
        let mut rows = 0_u64;
        let mut one_more = || {
            rows += 1;
            if rows.is_multiple_of(STEP_ROWS) {
                step();
            }
        };
        self.index.lock().for_each_fill(|fill| {
            world.fill([fill]);
            one_more();
        });
        if let Err(error) = self.remember(&mut world, tally.applied_offset, one_more) {
            news.tell(ScanNews::Forgetful(error.to_string()));
            return None;
        }
        world.go_on_with(&ends.carry.put_off);
        let (scan, lanes) = (scan.clone(), Arc::clone(&self.lanes));
        let clock = self.scan_clock.clone();
        Some(ScanThread::new(scan, world, ends, lanes, clock, stop, news))
    }

    /// World = checkpoint + fold of the journal: the last event of every row as of `applied`.
    fn remember(
        &self,
        world: &mut ScannedWorld,
        applied: u64,
        mut done_one: impl FnMut(),
    ) -> Result<(), redb::Error> {
        let Some(files) = self.journal.files.lock().clone() else {
            return Ok(());
        };
        files.rows(applied, |device, sensor, value| {
            let row = self.index.lock().row(device, sensor, value.kind);
            world.restore(row, &value);
            done_one();
        })
    }
}

/// Tells what the thread has to say, until it ends.
async fn tell(
    mut news: NewsIn,
    shared: Arc<Shared>,
    system: System,
    path: ActorPath,
) -> Result<(), Fault> {
    let publish = |level, name, text: &str| {
        let events = system.events();
        events.publish(level, name, Some(&path), text.to_owned());
    };
    while let Some(told) = news.recv().await {
        match told {
            ScanNews::Ready(_) | ScanNews::Forgetful(_) => {}
            ScanNews::Isolated(fault) => {
                shared.note_error(&fault);
                publish(Level::Error, "system_isolated", &fault.to_string());
            }
            ScanNews::Shed(true) => {
                let text = "a cycle overran its period: only what is essential runs";
                publish(Level::Warn, "scan_fallback", text);
            }
            ScanNews::Shed(false) => {
                publish(Level::Info, "scan_recovered", "all systems run again");
            }
            ScanNews::Duty(Change::Rests) => {
                let text = "it takes more of its core than it may, and rests between cycles";
                publish(Level::Warn, "scan_rests", text);
            }
            ScanNews::Duty(Change::Well) => {
                let text = "it has not had to rest for a while";
                publish(Level::Info, "scan_rested", text);
            }
            ScanNews::Stopped => return Ok(()),
            ScanNews::Faulted(fault) => {
                shared.note_error(&fault);
                let kind = match &fault {
                    ScanFault::System(_) => "system",
                    ScanFault::Overrun { .. } => "overrun",
                };
                return Err(Fault::with(kind, fault));
            }
        }
    }
    Err(Fault::with("scan_thread", "it ended without a word"))
}

impl Drop for Scan {
    fn drop(&mut self) {
        // a kill or a fault ends here too: the thread ends after its present cycle
        self.stop.store(true, Ordering::Release);
        self.shared.set_scanning(false);
    }
}

impl TaskActor for Scan {
    type Msg = ScanMessage;

    async fn started(&mut self, cx: &mut TaskContext<ScanMessage>) -> Result<(), Fault> {
        // first: who has the ends may never give them back
        self.watch(cx)
            .map_err(|error| Fault::with("scan_thread", error))?;
        let ends = self.lease().await?;
        let (out, mut news) = news();
        self.spawn(ends, out, cx)
            .map_err(|error| Fault::with("scan_thread", error))?;
        match news.recv().await {
            Some(ScanNews::Ready(host)) => {
                let events = cx.system().events();
                let text = host.to_string();
                events.publish(Level::Info, "scan_started", Some(cx.path()), text);
                *self.shared.host.lock() = Some(*host);
                self.shared.set_scanning(true);
            }
            Some(ScanNews::Faulted(fault)) => {
                self.shared.note_error(&fault);
                return Err(Fault::with("system", fault));
            }
            Some(ScanNews::Forgetful(error)) => return Err(Fault::with("rebuild", error)),
            _ => {
                return Err(Fault::with(
                    "scan_thread",
                    "it ended while building the world",
                ));
            }
        }
        let (shared, system) = (Arc::clone(&self.shared), cx.system().clone());
        cx.pump(tell(news, shared, system, cx.path().clone()));
        Ok(())
    }

    async fn handle(
        &mut self,
        message: ScanMessage,
        _: &mut TaskContext<ScanMessage>,
    ) -> Result<Flow, Fault> {
        match message {
            ScanMessage::Fail => Err(Fault::with("injected", "the scan was told to fail")),
        }
    }

    async fn stopping(&mut self, _: &mut TaskContext<ScanMessage>) {
        self.stop.store(true, Ordering::Release);
        let looks = HANDOVER.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..looks {
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            if ended && self.shared.lanes.scan.is_home() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.shared.settle_returns();
        self.shared.discard_lanes();
        self.shared.fold_records();
    }
}
