//! `scan`: the columns of the twin's world as plain arrays, and one loop that does what a tick of
//! it does: takes readings in by sequence, smooths, counts crossings, commands relays, and walks a
//! slice of the rows for aggregates and ageing.

use std::hint::black_box;
use std::time::Instant;

use peer_probe::{
    ALPHA, BATCH, Job, KINDS, Latencies, Line, PRESENCE, RowLoad, RowValue, STALE, THRESHOLDS, WALK,
};

const SEQUENCED: u16 = 1;
const VALUED: u16 = 2;
const STALE_NOW: u16 = 4;
const NON_FINITE: u16 = 8;
const FOLDED: u16 = 16;
const FROM_EVENT: u16 = 32;

#[repr(C, align(32))]
#[derive(Clone, Copy, Default)]
struct Hot {
    value: f64,
    at_us: u64,
    smoothed: f32,
    sequence: u32,
    crossings: u16,
    flags: u16,
    age: u8,
    kind_and_stop: u8,
}

#[derive(Clone, Copy)]
struct Cold {
    device: u32,
    relay: u16,
}

#[derive(Clone, Copy, Default)]
struct Aggregate {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

#[derive(Default)]
struct Totals {
    applied: u64,
    late: u64,
    lost: u64,
    restarts: u64,
    non_finite: u64,
    unplaced: u64,
    crossings: u64,
    stale: u64,
    ages: bool,
    walked: u64,
    next: usize,
}

struct Table {
    hot: Vec<Hot>,
    cold: Vec<Cold>,
    devices: Vec<[u8; 16]>,
    totals: Totals,
    aggregates: [Aggregate; KINDS],
    commands: Vec<([u8; 16], u16, bool)>,
}

const STOPPED: u8 = 8;

impl Table {
    fn new(rows: u32) -> Self {
        let hot = |row| Hot {
            kind_and_stop: (row as usize % KINDS) as u8,
            flags: STALE_NOW,
            ..Hot::default()
        };
        let cold = |row: u32| Cold {
            device: row / KINDS as u32,
            relay: 6,
        };
        Self {
            hot: (0..rows).map(hot).collect(),
            cold: (0..rows).map(cold).collect(),
            devices: vec![[1; 16]; rows.div_ceil(KINDS as u32) as usize],
            totals: Totals::default(),
            aggregates: Default::default(),
            commands: Vec::with_capacity(1_024),
        }
    }

    fn take(&mut self, reading: &RowValue) {
        let totals = &mut self.totals;
        totals.applied += 1;
        let Some(hot) = self.hot.get_mut(reading.row as usize) else {
            totals.unplaced += 1;
            return;
        };
        if hot.flags & SEQUENCED != 0 {
            match reading.sequence.wrapping_sub(hot.sequence) {
                0 => {
                    totals.late += 1;
                    return;
                }
                ahead if ahead < 1 << 31 => totals.lost += u64::from(ahead - 1),
                _ if reading.at_us > hot.at_us => totals.restarts += 1,
                _ => {
                    totals.late += 1;
                    return;
                }
            }
        }
        hot.sequence = reading.sequence;
        if hot.flags & FROM_EVENT != 0 && reading.at_us < hot.at_us {
            totals.late += 1;
            return;
        }
        hot.flags = (hot.flags | SEQUENCED | VALUED) & !(FROM_EVENT | STALE_NOW | NON_FINITE);
        hot.age = 0;
        hot.value = reading.value;
        hot.at_us = reading.at_us;
        if !reading.value.is_finite() {
            hot.flags |= NON_FINITE;
            totals.non_finite += 1;
            return;
        }
        let kind = hot.kind_and_stop & 7;
        let limits = (f64::from(f32::MIN), f64::from(f32::MAX));
        if hot.flags & FOLDED == 0 {
            hot.flags |= FOLDED;
            hot.smoothed = reading.value.clamp(limits.0, limits.1) as f32;
        } else {
            let before = f64::from(hot.smoothed);
            let after = before * (1.0 - ALPHA) + reading.value * ALPHA;
            hot.smoothed = after.clamp(limits.0, limits.1) as f32;
            let threshold = THRESHOLDS[usize::from(kind)];
            if (before < threshold) != (f64::from(hot.smoothed) < threshold) {
                hot.crossings = hot.crossings.wrapping_add(1);
                totals.crossings += 1;
            }
        }
        if kind == PRESENCE.0 {
            let stop = reading.value < PRESENCE.1;
            if stop != (hot.kind_and_stop & STOPPED != 0) {
                hot.kind_and_stop ^= STOPPED;
                let Cold { device, relay } = self.cold[reading.row as usize];
                let device = self.devices[device as usize];
                self.commands.push((device, relay, !stop));
            }
        }
    }

    fn walk(&mut self) {
        let totals = &mut self.totals;
        totals.walked += 1;
        let end = (self.hot.len() as u64 * totals.walked / WALK) as usize;
        for hot in &mut self.hot[totals.next..end] {
            if hot.flags & (VALUED | NON_FINITE) == VALUED {
                let found = &mut self.aggregates[usize::from(hot.kind_and_stop & 7) % KINDS];
                if found.count == 0 {
                    (found.min, found.max) = (hot.value, hot.value);
                } else {
                    found.min = found.min.min(hot.value);
                    found.max = found.max.max(hot.value);
                }
                found.count += 1;
                found.sum += hot.value;
            }
            if totals.ages {
                hot.flags &= !FROM_EVENT;
                hot.age = hot.age.saturating_add(1);
                if u16::from(hot.age) >= STALE {
                    hot.flags |= STALE_NOW;
                }
            }
            totals.stale += u64::from(hot.flags & STALE_NOW != 0);
        }
        totals.next = end;
        if totals.walked == WALK {
            (totals.walked, totals.next, totals.ages) = (0, 0, !totals.ages);
            (totals.stale, self.aggregates) = (0, Default::default());
        }
    }
}

pub(crate) fn run(job: &Job) -> Line {
    // the shape is ROWS-PERCENT
    let percent = job.shape.rsplit('-').next().and_then(|p| p.parse().ok());
    let percent = percent.expect("a shape with a share of rows");
    let rows = job.size as u32;
    let (load, mut table) = (RowLoad::new(rows, percent), Table::new(rows));
    let mut batches: Vec<Vec<RowValue>> = Vec::new();
    let mut ticks = Latencies::with_capacity(1 << 16);
    let (began, mut round) = (Instant::now(), 0);
    while began.elapsed() < job.time() || round < 2 * WALK.min(8) {
        round += 1;
        let mut readings = load.of(round);
        for at in 0..load.each().div_ceil(BATCH) {
            if at == batches.len() {
                batches.push(Vec::with_capacity(BATCH));
            }
            batches[at].clear();
            batches[at].extend(readings.by_ref().take(BATCH));
        }
        let start = Instant::now();
        for batch in &batches {
            batch.iter().for_each(|reading| table.take(reading));
        }
        table.walk();
        ticks.since(start);
        black_box(&mut table);
    }
    let tick = ticks.us(0.5);
    Line::new()
        .with("tick", tick)
        .with("per_entity", tick * 1e3 / f64::from(rows))
}
