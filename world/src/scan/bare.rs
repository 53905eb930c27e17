//! A scan on its own: the same thread over a world of synthetic rows, without stages, actors and
//! journal. For measuring what the scan keeps on a host.
//!
//! It measures nothing by itself: what it gives are the scan's own records, from the same ring as
//! a twin's. Nothing comes in and nobody takes commands.
//!
//! Bound: one thread; [`RECORD_LANE`](crate::lanes::RECORD_LANE) records wait, later ones are
//! counted as lapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use actorsim_transport::SensorType;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock::ScanClock;
use super::rt::HostReport;
use super::stats::CycleRecord;
use super::{NewsIn, STACK, ScanConfig, ScanNews, ScanThread, news};
use crate::components::{KINDS, RowFill};
use crate::index::RELAY_SENSOR;
use crate::journal::fold::RowValue;
use crate::lanes::Lanes;
use crate::scanned::{ScannedWorld, WorldSize};
use crate::systems::{Commanded, Tally, WorldRules};

/// Sensors of a synthetic device: one of each kind.
const SENSORS: u32 = KINDS as u32;

/// Why a scan did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum BareScanError {
    /// The host gave no thread or descriptor.
    #[error("cannot start a scan: {0}")]
    Host(#[from] std::io::Error),
    /// A system failed.
    #[error("{0}")]
    Faulted(String),
}

/// A running scan; dropping it ends the thread after its present cycle.
#[allow(
    missing_debug_implementations,
    reason = "ring ends have no useful debug form"
)]
pub struct BareScan {
    lanes: Arc<Lanes>,
    host: HostReport,
    stop: Arc<AtomicBool>,
    news: NewsIn,
    thread: Option<JoinHandle<()>>,
}

impl BareScan {
    /// Starts a scan over `entities` rows that have a value each, and waits until its grid is
    /// laid. It blocks: not for async code.
    pub fn start(config: ScanConfig, entities: u32) -> Result<Self, BareScanError> {
        let lanes = Arc::new(Lanes::new(config.period, 0)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, mut news) = news();
        let (given, halt) = (Arc::clone(&lanes), Arc::clone(&stop));
        let run = move || {
            let ends = given.scan.take();
            let ends = ends.expect("these lanes were made for this thread alone");
            let world = synthetic(entities);
            given.period_ns.store(config.period_ns(), Ordering::Release);
            ScanThread::new(config, world, ends, given, ScanClock::Host, halt, tell).run();
        };
        let builder = std::thread::Builder::new().name("scan".to_owned());
        let thread = builder.stack_size(STACK).spawn(run)?;
        let host = match news.recv_blocking() {
            Some(ScanNews::Ready(host)) => *host,
            Some(ScanNews::Faulted(fault)) => {
                return Err(BareScanError::Faulted(fault.to_string()));
            }
            _ => return Err(BareScanError::Faulted("the scan did not begin".to_owned())),
        };
        Ok(Self {
            lanes,
            host,
            stop,
            news,
            thread: Some(thread),
        })
    }

    /// What the host gave the thread.
    #[must_use]
    pub fn host(&self) -> &HostReport {
        &self.host
    }

    /// Cycles that ran, also those whose records are lapped.
    #[must_use]
    pub fn cycles(&self) -> u64 {
        self.lanes.snapshot.lock().read().cycles
    }

    /// Waits until the scan says that records wait, at most `patience`.
    pub fn wait(&self, patience: Duration) {
        let mut wake = [PollFd::new(&*self.lanes.wake, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        // a signal or an error only means: look now
        if poll(&mut wake, Some(&patience)).is_ok_and(|ready| ready > 0) {
            let _ = rustix::io::read(&*self.lanes.wake, &mut [0_u8; 8]);
        }
    }

    /// Gives every record that waits, oldest first, at most a ring of them.
    pub fn drain(&self, mut each: impl FnMut(&CycleRecord)) {
        let mut records = self.lanes.records.lock();
        for _ in 0..records.slots() {
            let Ok(record) = records.pop() else { break };
            each(&record);
        }
    }

    /// Whether a system failed since the last call, and how.
    pub fn fault(&mut self) -> Option<String> {
        match self.news.try_recv() {
            Some(ScanNews::Isolated(fault)) => Some(fault.to_string()),
            Some(ScanNews::Faulted(fault)) => Some(fault.to_string()),
            _ => None,
        }
    }

    /// Whether the thread has ended by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the thread after its present cycle and waits for it; records can be drained after.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // what it had to say is in the news
            let _ = thread.join();
        }
    }
}

impl Drop for BareScan {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A world whose rows are bound, each with a value.
#[must_use]
pub fn synthetic(entities: u32) -> ScannedWorld {
    let size = WorldSize {
        capacity: entities,
        capacity_max: entities,
    };
    let commanded = Commanded::new(entities);
    let mut world = ScannedWorld::new(size, WorldRules::default(), commanded, Tally::default());
    world.fill((0..entities).map(fill));
    for row in 0..entities {
        let value = RowValue {
            kind: SensorType::Temperature,
            value: f64::from(row % 100),
            at_us: 1,
            in_order: false,
        };
        world.restore(row, &value);
    }
    world
}

fn fill(row: u32) -> RowFill {
    let (asset, sensor) = (row / SENSORS, row % SENSORS);
    let mut device = [0; 16];
    device[..4].copy_from_slice(&(asset + 1).to_be_bytes());
    RowFill {
        device,
        row,
        asset,
        sensor: sensor as u16,
        relay: RELAY_SENSOR,
        kind: sensor as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::RECORD_LANE;

    fn config(period: Duration) -> ScanConfig {
        ScanConfig {
            period,
            fifo: false,
            pin: false,
            lock_memory: false,
            ..ScanConfig::default()
        }
    }

    #[test]
    fn cycles_come_in_order_and_without_gaps() {
        let mut scan = BareScan::start(config(Duration::from_millis(1)), 100).unwrap();
        let mut cycles = Vec::new();
        while cycles.len() < 20 {
            scan.wait(Duration::from_millis(5));
            scan.drain(|record| cycles.push(record.cycle));
        }
        scan.stop();
        let expected: Vec<u64> = (0..cycles.len() as u64).collect();
        assert_eq!(cycles, expected);
        assert_eq!(scan.fault(), None);
    }

    #[test]
    fn a_ring_that_nobody_reads_laps_and_keeps_the_oldest() {
        let mut scan = BareScan::start(config(Duration::from_micros(10)), 1).unwrap();
        while scan.cycles() < RECORD_LANE as u64 + 100 && !scan.is_over() {
            scan.wait(Duration::from_millis(5));
        }
        scan.stop();
        let mut next = 0;
        scan.drain(|record| {
            assert_eq!(record.cycle, next);
            next += 1;
        });
        assert_eq!(next, RECORD_LANE as u64, "the rest was lapped");
    }
}
