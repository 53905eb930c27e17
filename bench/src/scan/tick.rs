//! The world alone: its cycle, timed from batches in hand to batches settled.

use std::sync::Arc;
use std::time::Instant;

use actorsim_actors::Time;
use actorsim_transport::{Batch, BatchPool, Tier, TransportStats};
use actorsim_world::batch::{Origin, RowBatch, RowReading};
use actorsim_world::scan::bare::synthetic;
use actorsim_world::scanned::ScannedWorld;
use peer_probe::{BATCH, Job, Latencies, PERIOD_NS, RowLoad, RowValue};
use serde_json::{Value, json};

/// Room for commands: nothing is decided, so none is used.
const ROOM: usize = 64;

pub(super) fn measure(job: &Job, percent: usize) -> Result<Value, String> {
    let rows = job.size as u32;
    let load = RowLoad::new(rows, percent);
    let mut world = synthetic(rows);
    let pool = BatchPool::new(TransportStats::new());
    let mut ticks = Latencies::with_capacity(1 << 16);
    let (began, mut round) = (Instant::now(), 0);
    while began.elapsed() < job.time() || round < 16 {
        round += 1;
        refill(&mut world, &load, round, &pool);
        let start = Instant::now();
        let cycled = world.cycle(round * PERIOD_NS, PERIOD_NS, ROOM);
        ticks.since(start);
        cycled.map_err(|fault| fault.to_string())?;
    }
    let (applied, expected) = (world.tally().t1_applied, round * load.each() as u64);
    if applied != expected {
        return Err(format!("{applied} readings applied of {expected}"));
    }
    let tick = ticks.us(0.5);
    Ok(json!({ "tick": tick, "per_entity": tick * 1e3 / f64::from(rows) }))
}

/// The readings of a tick, in the buffers of the one before.
fn refill(world: &mut ScannedWorld, load: &RowLoad, round: u64, pool: &Arc<BatchPool>) {
    let mut readings = load.of(round).map(|reading| {
        let RowValue {
            row,
            value,
            at_us,
            sequence,
        } = reading;
        RowReading {
            value,
            at_us,
            row,
            sequence,
        }
    });
    let batches = world.batches();
    for at in 0..load.each().div_ceil(BATCH) {
        if at == batches.len() {
            let batch = Batch::new(Tier::T1, pool.take(), Time::ZERO, pool);
            batches.push(RowBatch::new(Vec::with_capacity(BATCH), Origin::T1(batch)));
        }
        batches[at].readings.clear();
        batches[at].readings.extend(readings.by_ref().take(BATCH));
    }
}
