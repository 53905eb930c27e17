//! The loop of the scan thread: answer, drain, run, publish, record, sleep to the next slot.
//!
//! It owns world, schedule and lane ends for one incarnation. In steady state it allocates and
//! frees nothing, takes no lock and waits for nobody; its only system calls are the sleep, clock
//! reads and an eventfd write or two. It decides nothing about restarts: it ends, and says why.
//!
//! Bound: per cycle as named in `scan` and `systems`; one cycle per slot of the grid.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rtrb::Producer;

use super::clock::{ScanClock, sleep_until_ns};
use super::duty::Duty;
use super::grid::{Grid, Slot};
use super::news::{NewsOut, ScanNews};
use super::overrun::{FAULT_AFTER, Next, Overruns};
use super::portion::Portion;
use super::rt::{HostReport, prepare};
use super::snapshot::ScanSnapshot;
use super::stats::CycleRecord;
use super::{READINGS_IN_FALLBACK, REQUESTS_PER_CYCLE, ScanConfig, ScanFault};
use crate::lanes::{Lanes, Lease, ScanEnds};
use crate::request::Request;
use crate::scanned::ScannedWorld;
use crate::systems::{
    BATCHES_PER_CYCLE, Deciding, READINGS_PER_CYCLE, RelayCommand, SYSTEMS, SystemFault, SystemId,
};

/// Cycles run before the grid is laid, so that every buffer has its size.
const WARM_UP_CYCLES: usize = 3;

/// Systems that failed after which the incarnation ends: the first one is only isolated.
const FAULTS_MAX: u32 = 2;

/// At most this many cycles pass without a wake, so that records are folded in time.
const WAKE_EVERY: u64 = 256;

/// One incarnation of the scan thread.
pub(crate) struct ScanThread {
    config: ScanConfig,
    period_ns: u64,
    world: ScannedWorld,
    ends: Lease<ScanEnds>,
    stop: Arc<AtomicBool>,
    news: NewsOut,
    wake: Arc<OwnedFd>,
    lanes: Arc<Lanes>,
    clock: ScanClock,
    previous_start_ns: Option<u64>,
    overruns: Overruns,
    duty: Duty,
    /// The thread is of the real-time class: it must leave its core to others now and then.
    rests: bool,
    portion: Portion,
    /// Readings of the present cycle.
    readings: usize,
    last_wake: u64,
    allocated_total: u64,
    /// The grid is another one from the next slot on.
    changed: bool,
}

/// Tells `actuate` that there is something for it.
fn wake(clock: &ScanClock, wake: &OwnedFd, lanes: &Lanes) {
    match clock {
        // a full counter already means "wake": nothing to do about an error
        ScanClock::Host => drop(rustix::io::write(wake, &1_u64.to_ne_bytes())),
        ScanClock::Virtual(_) => lanes.told.notify_one(),
    }
}

/// Hands commands over in the middle of a cycle: a device waits for them, and nobody for what the
/// rest of the cycle does.
struct Hand<'a> {
    commands: &'a mut Producer<RelayCommand>,
    wake: &'a OwnedFd,
    lanes: &'a Lanes,
    clock: &'a ScanClock,
}

impl Deciding for Hand<'_> {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn decided(&mut self, commands: &mut Vec<RelayCommand>) {
        for command in commands.drain(..) {
            // the automation decided no more than the lane had room for
            let _ = self.commands.push(command);
        }
        wake(self.clock, self.wake, self.lanes);
    }
}

/// What answering requests brought about.
#[derive(Default)]
struct Answered {
    /// Somebody waits for an answer.
    told: bool,
    /// Rows forgot a rule.
    forgot: bool,
}

impl ScanThread {
    pub(crate) fn new(
        config: ScanConfig,
        world: ScannedWorld,
        ends: Lease<ScanEnds>,
        lanes: Arc<Lanes>,
        clock: ScanClock,
        stop: Arc<AtomicBool>,
        news: NewsOut,
    ) -> Self {
        Self {
            period_ns: lanes.period_ns.load(Ordering::Acquire).max(1),
            overruns: Overruns::new(config.overrun),
            duty: Duty::new(clock.now_ns()),
            rests: false,
            config,
            world,
            ends,
            stop,
            news,
            wake: Arc::clone(&lanes.wake),
            lanes,
            clock,
            previous_start_ns: None,
            portion: Portion::default(),
            readings: 0,
            last_wake: 0,
            allocated_total: 0,
            changed: false,
        }
    }

    /// Runs on this thread until stopped or faulted. The world must be bound already.
    pub(crate) fn run(mut self) {
        let _beating = self.lanes.pulse.of_this_thread();
        if let Err(end) = self.warm_up() {
            return self.end(end);
        }
        let mut host = prepare(self.config.host_request());
        host.note_large_pages(self.world.large_pages());
        self.rests = host.is_real_time();
        self.lay_grid(host);
        self.lanes.pulse.end();
        let end = loop {
            sleep_until_ns(self.begins_ns());
            match self.turn() {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        self.hand_back();
        self.end(end);
    }

    /// The same on virtual time, beside other tasks: it waits as they do.
    pub(crate) async fn run_virtual(mut self) {
        if let Err(end) = self.warm_up() {
            return self.end(end);
        }
        self.lay_grid(HostReport::of_virtual_time());
        let end = loop {
            let due_ns = self.grid().next_due_ns();
            let wait_ns = due_ns.saturating_sub(self.clock.now_ns());
            tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
            match self.turn() {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        self.hand_back();
        self.end(end);
    }

    /// Gives every buffer its size; a world that fails without a reading is no twin.
    fn warm_up(&mut self) -> Result<(), ScanNews> {
        for _ in 0..WARM_UP_CYCLES {
            let now_ns = self.clock.now_ns();
            self.lanes.pulse.begin(now_ns);
            let cycled = self.world.cycle(now_ns, self.period_ns, 0);
            cycled.map_err(|fault| ScanNews::Faulted(fault.into()))?;
        }
        self.lanes.pulse.step(self.clock.now_ns());
        Ok(())
    }

    fn lay_grid(&mut self, host: HostReport) {
        let start = self.clock.now_ns() + self.period_ns;
        let period_ns = self.period_ns;
        let grid = self
            .ends
            .carry
            .grid
            .get_or_insert_with(|| Grid::new(start, period_ns));
        debug_assert_eq!(grid.period_ns(), period_ns, "both change together");
        let walk_every = self.lanes.walk_every.load(Ordering::Acquire);
        self.world.walk_every(walk_every as u32);
        self.world.rates().restart();
        // what was put off before is this world's now
        self.ends.carry.put_off.clear();
        self.ends.carry.snapshot.incarnations += 1;
        self.news.tell(ScanNews::Ready(Box::new(host)));
        self.allocated();
    }

    fn grid(&mut self) -> &mut Grid {
        let grid = self.ends.carry.grid.as_mut();
        grid.expect("the grid is laid before the first turn")
    }

    /// When the next cycle begins: in its slot, or after a rest.
    fn begins_ns(&mut self) -> u64 {
        let due_ns = self.grid().next_due_ns();
        if !self.rests {
            return due_ns;
        }
        let (begins_ns, change) = self.duty.begins(due_ns);
        self.ends.carry.snapshot.rests += u64::from(begins_ns > due_ns);
        if let Some(change) = change {
            self.news.tell(ScanNews::Duty(change));
        }
        begins_ns
    }

    /// After a sleep: the cycle of the slot that is due, if one is. An incarnation that shall end
    /// consumes no slot.
    fn turn(&mut self) -> Result<(), ScanNews> {
        if self.stop.load(Ordering::Acquire) {
            return Err(ScanNews::Stopped);
        }
        let now_ns = self.clock.now_ns();
        let Some(slot) = self.grid().take(now_ns) else {
            return Ok(());
        };
        self.lanes.pulse.begin(now_ns);
        let outcome = self.cycle(slot);
        self.lanes.pulse.end();
        outcome.map_err(ScanNews::Faulted)
    }

    fn end(self, end: ScanNews) {
        let Self {
            mut news,
            ends,
            world,
            ..
        } = self;
        drop(world);
        // the ends are in their berth before anyone hears of the end
        drop(ends);
        news.tell(end);
    }

    fn cycle(&mut self, slot: Slot) -> Result<(), ScanFault> {
        let start_ns = slot.due_ns + slot.late_ns;
        // one that changes the grid does so from the next slot on
        let period_ns = self.period_ns;
        // Readings visible now had their rows' fills pushed before, and a cycle takes all fills
        // that the lane holds: what is pushed meanwhile need not be waited for.
        let visible = (self.ends.t2.slots(), self.ends.t1.slots());
        let grew = self.fill();
        let answered = self.answer();
        self.take_in(visible);
        let maintenance = grew | answered.forgot;
        let room = self.ends.commands.slots();
        self.world.at_slot(slot.index);
        let mut hand = Hand {
            commands: &mut self.ends.commands,
            wake: &self.wake,
            lanes: &self.lanes,
            clock: &self.clock,
        };
        let world = &mut self.world;
        let outcome = world.cycle_deciding(start_ns, period_ns, room, &mut hand);
        let told = self.give_out() | answered.told;
        let faulted = outcome.is_err();
        let mut record = self.measure(slot, start_ns, period_ns);
        record.fallback = self.overruns.is_fallback();
        record.faulted = faulted;
        record.maintenance = maintenance;
        let essential = SystemId::ALL.iter().filter(|system| system.is_essential());
        let took_ns = essential.filter_map(|system| record.systems_ns[system.index()]);
        self.portion.spent(self.readings, took_ns.sum());
        self.account(&record);
        if !faulted {
            self.publish();
        }
        let now_ns = self.clock.now_ns();
        record.took_ns = now_ns.saturating_sub(start_ns);
        if let Some(change) = self.duty.took(record.took_ns, now_ns) {
            self.news.tell(ScanNews::Duty(change));
        }
        record.allocations = self.allocated();
        if self.ends.records.push(record).is_err() {
            self.lanes.records_lapped.fetch_add(1, Ordering::Relaxed);
        }
        if told || record.cycle - self.last_wake >= WAKE_EVERY {
            self.last_wake = record.cycle;
            wake(&self.clock, &self.wake, &self.lanes);
        }
        if let Err(fault) = outcome {
            self.isolate(fault)?;
        }
        self.judge(record.took_ns, period_ns)
    }

    /// What the length of a cycle brings about.
    fn judge(&mut self, took_ns: u64, period_ns: u64) -> Result<(), ScanFault> {
        let next = self.overruns.after(took_ns, period_ns);
        match next {
            Next::GoOn => {}
            Next::FallBack | Next::Recover => {
                let sheds = next == Next::FallBack;
                self.world.set_fallback(sheds);
                self.ends.carry.snapshot.fallbacks += u64::from(sheds);
                self.news.tell(ScanNews::Shed(sheds));
            }
            Next::End => {
                return Err(ScanFault::Overrun {
                    in_a_row: FAULT_AFTER,
                    took_us: took_ns / 1_000,
                });
            }
        }
        Ok(())
    }

    /// Binds rows; true when the table grew.
    fn fill(&mut self) -> bool {
        let fills = self.ends.fills.slots();
        let ends = &mut *self.ends;
        let pop = || ends.fills.pop().ok();
        self.world.fill(std::iter::from_fn(pop).take(fills))
    }

    /// Events first, then samples, of so many batches at most.
    fn take_in(&mut self, (mut events, mut samples): (usize, usize)) {
        // a batch is only taken when its way back has room
        let mut room = self.ends.returns.slots().min(BATCHES_PER_CYCLE);
        // an event that came late is judged beside the value that is newer
        let (mut readings, mut judged) = (0, 0);
        let readings_max = match (self.overruns.is_fallback(), &self.clock) {
            (true, _) => READINGS_IN_FALLBACK,
            (false, ScanClock::Host) => self.portion.readings(self.period_ns),
            // there a cycle takes no time, and must not depend on the host's
            (false, ScanClock::Virtual(_)) => READINGS_PER_CYCLE,
        };
        let batches = self.world.batches();
        while room > 0 && readings < readings_max && judged < READINGS_PER_CYCLE {
            let batch = if events > 0 {
                events -= 1;
                self.ends.t2.pop()
            } else if samples > 0 {
                samples -= 1;
                self.ends.t1.pop()
            } else {
                break;
            };
            let Ok(batch) = batch else { break };
            readings += batch.readings.len();
            judged += batch.readings.len() * (1 + usize::from(batch.is_event()));
            room -= 1;
            batches.push(batch);
        }
        self.readings = readings;
    }

    /// Commands and scanned batches leave; true when there were any.
    fn give_out(&mut self) -> bool {
        let mut told = false;
        for command in self.world.commands().drain(..) {
            // the automation decided no more than the lane had room for
            let _ = self.ends.commands.push(command);
            told = true;
        }
        for batch in self.world.batches().drain(..) {
            // no more were taken than the lane had room for
            let _ = self.ends.returns.push(batch);
            told = true;
        }
        for row in self.world.rows_out().drain(..) {
            if self.ends.rows.push(row).is_err() {
                let lapped = &self.lanes.row_counts.lapped;
                lapped.fetch_add(1, Ordering::Relaxed);
            }
        }
        told
    }

    fn answer(&mut self) -> Answered {
        let mut answered = Answered::default();
        for _ in 0..REQUESTS_PER_CYCLE {
            if self.ends.answers.is_full() {
                break;
            }
            let Ok(mut request) = self.ends.requests.pop() else {
                break;
            };
            match &mut request {
                Request::Look { rows, views, .. } => {
                    let room = views.capacity();
                    let seen = rows.iter().filter_map(|row| self.world.view(*row));
                    views.extend(seen.take(room));
                }
                Request::Panic { system, .. } => self.world.inject(*system),
                Request::Rules { book, .. } => {
                    answered.forgot |= self.world.exchange_rules(book);
                }
                Request::Pace {
                    period_ns,
                    walk_every,
                    ..
                } => self.pace(*period_ns, *walk_every),
            }
            // checked above: there is room, and nobody else pushes
            let _ = self.ends.answers.push(request);
            answered.told = true;
        }
        answered
    }

    /// Keeps another grid from the next slot of the present one on.
    fn pace(&mut self, period_ns: Option<u64>, walk_every: Option<u32>) {
        if let Some(every) = walk_every {
            self.world.walk_every(every);
            self.lanes
                .walk_every
                .store(u64::from(every), Ordering::Release);
        }
        if let Some(period_ns) = period_ns.filter(|period_ns| *period_ns != self.period_ns) {
            let origin_ns = self.grid().next_due_ns();
            self.ends.carry.grid = Some(Grid::new(origin_ns, period_ns));
            self.world.rates().restart();
            self.period_ns = period_ns;
            self.lanes.period_ns.store(period_ns, Ordering::Release);
            // the time between slots of two grids has no nominal length
            self.changed = true;
        }
    }

    fn measure(&mut self, slot: Slot, start_ns: u64, period_ns: u64) -> CycleRecord {
        let nominal_ns = (1 + slot.skipped) * period_ns;
        let actual_period_ns = self.previous_start_ns.map(|previous| start_ns - previous);
        let changed = std::mem::take(&mut self.changed);
        self.previous_start_ns = (!changed).then_some(start_ns);
        CycleRecord {
            cycle: self.ends.carry.snapshot.cycles,
            ts_ns: start_ns,
            period_ns,
            actual_period_ns,
            jitter_ns: actual_period_ns.map(|actual| actual.abs_diff(nominal_ns)),
            late_ns: slot.late_ns,
            took_ns: self.clock.now_ns().saturating_sub(start_ns),
            ran: self.world.ran(),
            systems_ns: self.world.took_ns(),
            readings: self.readings,
            skipped: slot.skipped,
            ..CycleRecord::default()
        }
    }

    /// Allocations of this thread since the last call, sleep and publishing included.
    fn allocated(&mut self) -> Option<u64> {
        let total = self.config.allocations?();
        Some(total - std::mem::replace(&mut self.allocated_total, total))
    }

    fn account(&mut self, record: &CycleRecord) {
        let period_ns = record.period_ns;
        let world = &self.world;
        let totals = &mut self.ends.carry.snapshot;
        totals.cycles += 1;
        totals.skipped += record.skipped;
        totals.overruns += u64::from(record.took_ns > period_ns);
        totals.faulted += u64::from(record.faulted);
        totals.maintenance += u64::from(record.maintenance);
        totals.fallback_cycles += u64::from(record.fallback);
        totals.in_fallback = record.fallback;
        totals.jitter_ns_max = totals.jitter_ns_max.max(record.jitter_ns);
        totals.late_ns_max = totals.late_ns_max.max(Some(record.late_ns));
        totals.took_ns_max = totals.took_ns_max.max(Some(record.took_ns));
        for at in 0..SYSTEMS {
            let over = record.systems_ns[at].is_some_and(|took_ns| took_ns > period_ns);
            totals.system_overruns[at] += u64::from(over);
        }
        totals.core_share = self.duty.share();
        (totals.windows, totals.windows_refused) = world.windows();
        totals.entities_by_kind = *world.entities_by_kind();
        totals.rows = world.rows();
        totals.tally = *world.tally();
        let applied = totals.tally.applied_offset;
        // the commands that left are in their lane already
        if !world.puts_off() {
            self.lanes.decided_offset.store(applied, Ordering::Release);
        }
        self.lanes.applied_offset.store(applied, Ordering::Release);
        totals.enabled = world.enabled();
        totals.rules = *world.rule_tallies();
        let sweep = world.sweep();
        totals.stale_by_kind = sweep.stale;
        totals.sweeps = sweep.sweeps;
        totals.aggregates = sweep.aggregates;
    }

    fn publish(&mut self) {
        let ends = &mut *self.ends;
        let totals: ScanSnapshot = ends.carry.snapshot;
        *ends.snapshot.input_buffer_mut() = totals;
        ends.snapshot.publish();
    }

    fn isolate(&mut self, fault: SystemFault) -> Result<(), ScanFault> {
        // a world that cannot take readings in is no twin: ingest is restarted, not isolated
        if self.world.isolated() >= FAULTS_MAX || fault.system == SystemId::Ingest {
            return Err(fault.into());
        }
        self.news.tell(ScanNews::Isolated(fault));
        Ok(())
    }

    /// Batches in hand leave unscanned, and their accounting is outside; what is put off is for
    /// the next incarnation.
    fn hand_back(&mut self) {
        self.give_out();
        self.ends.carry.put_off = self.world.put_off();
    }
}
