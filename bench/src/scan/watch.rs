//! A scan that is watched for a time, by its own records.
//!
//! Cycles that a gap of the host touched are told apart by a witness on the scan's core. Bound: the
//! sieve's.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use actorsim::scan_bench::sieve::{Gap, Sieve};
use actorsim::scan_bench::witness::Witness;
use actorsim_world::scan::clock::now_ns;
use actorsim_world::scan::stats::CycleRecord;
use actorsim_world::{SystemId, Twin};
use serde_json::{Value, json};

use super::PERIOD;

/// For a cycle that fails to be told of.
const TOLD: Duration = Duration::from_millis(200);

/// What the scan's records say.
#[derive(Default)]
struct Found {
    /// None while nobody watches.
    sieve: Option<Sieve>,
    cycles: usize,
    overruns: u64,
    /// None where nobody counts them.
    allocations: Option<u64>,
    /// Allocations of the cycle that was made to fail.
    faulted: Option<u64>,
}

impl Found {
    fn take(&mut self, record: &CycleRecord) {
        if record.faulted {
            self.faulted = record.allocations;
            self.sieve = None;
        }
        let Some(sieve) = &mut self.sieve else { return };
        sieve.offer(*record);
        self.cycles += 1;
        self.overruns += u64::from(record.took_ns > record.period_ns || record.skipped > 0);
        if let Some(allocations) = record.allocations {
            *self.allocations.get_or_insert_default() += allocations;
        }
    }
}

/// Whoever watches the cycles of a twin.
pub(super) struct Watch {
    found: Arc<Mutex<Found>>,
}

/// What was seen.
pub(super) struct Seen {
    pub(super) cycles: usize,
    sieve: Sieve,
    /// Those, too, that a gap explains.
    overruns: u64,
    allocations: Option<u64>,
    readings_per_s: f64,
}

impl Watch {
    /// Of this twin, which runs.
    pub(super) fn on(twin: &Twin) -> Self {
        let found: Arc<Mutex<Found>> = Arc::default();
        let kept = Arc::clone(&found);
        let hook = move |record: &CycleRecord| kept.lock().expect("no holder panics").take(record);
        twin.on_cycle(Box::new(hook));
        Self { found }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().expect("no holder panics")
    }

    /// What it sees while something goes on.
    pub(super) async fn during(
        &self,
        twin: &Twin,
        load: impl Future<Output = ()>,
    ) -> Result<Seen, String> {
        let host = twin.host().ok_or("the scan does not run")?;
        let witness = Witness::start(&host, PERIOD);
        *self.found() = Found {
            sieve: Some(Sieve::default()),
            ..Found::default()
        };
        let (before, began) = (twin.snapshot().tally.t1_applied, Instant::now());
        load.await;
        let took_s = began.elapsed().as_secs_f64();
        let applied = twin.snapshot().tally.t1_applied - before;
        let end_ns = now_ns();
        let mut awake_ns = end_ns;
        let mut gaps = Vec::new();
        match &witness {
            Ok(witness) => {
                awake_ns = 0;
                while awake_ns < end_ns {
                    awake_ns = witness.read(|gap: Gap| gaps.push(gap));
                    tokio::time::sleep(PERIOD).await;
                }
            }
            Err(why) => eprintln!("gaps of the host are not told apart: {why}"),
        }
        drop(twin.times()); // the records that wait are folded, and shown to the hook
        let found = std::mem::take(&mut *self.found());
        let mut sieve = found.sieve.ok_or("a system failed")?;
        gaps.into_iter().for_each(|gap| sieve.gap(gap));
        sieve.settle(awake_ns);
        for record in &sieve.long {
            eprintln!("an overrun that no gap of the host explains: {record:?}");
        }
        Ok(Seen {
            cycles: found.cycles,
            sieve,
            overruns: found.overruns,
            allocations: found.allocations,
            readings_per_s: applied as f64 / took_s,
        })
    }

    /// Allocations of a cycle that is made to fail.
    pub(super) async fn control(&self, twin: &Twin) -> Result<Option<u64>, String> {
        let panicked = twin.panic(SystemId::Export).await;
        panicked.map_err(|error| error.to_string())?;
        while twin.snapshot().faulted == 0 {
            tokio::time::sleep(PERIOD).await;
        }
        tokio::time::sleep(TOLD).await;
        drop(twin.times());
        Ok(self.found().faulted)
    }
}

impl Seen {
    pub(super) fn numbers(&self) -> Value {
        let period_us = PERIOD.as_micros() as f64;
        let took = self.sieve.took.quantiles();
        let jitter = self.sieve.jitter.quantiles();
        let mut numbers = json!({
            "tick": took.map(|q| q.p50),
            "budget_share_p99": took.map(|q| q.p99 / period_us),
            "jitter_p999": jitter.map(|q| q.p999),
            "jitter_max": jitter.map(|q| q.max),
            "overruns": self.sieve.overruns,
            "overruns_host": self.overruns.saturating_sub(self.sieve.overruns),
            "readings_per_s": self.readings_per_s,
        });
        if let Some(allocations) = self.allocations {
            numbers["allocations_per_cycle"] = json!(allocations as f64 / self.cycles as f64);
        }
        numbers
    }
}
