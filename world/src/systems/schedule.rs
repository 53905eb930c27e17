//! The schedule: the systems of a world, in the order in which they run, one after another.
//!
//! A list and no graph: those of a program name only systems that are there before them, so that
//! the five, and then the others as they were added, keep every promise. The rows are looked up
//! once for all of them: done anew by each, that and the executor of the ECS cost more than the
//! systems of a small world (decision 19). A system that panics, or returns an error, ends there;
//! the others run on.
//!
//! Each system is timed, the five of a short cycle only in every so-many-th: see [`TIMED_WORK`].
//! Bound: [`SYSTEMS`] systems.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::fault::SystemFault;
use super::{
    BUILT_IN, CycleState, OwnRows, OwnRun, OwnSystems, RelayCommand, SYSTEMS, SystemId, automation,
    diagnostics, export, ingest, simulation,
};
use crate::components::{Cold, DeviceId, Hot};
use crate::scan::stopwatch::Stopwatch;

/// The rows of a world, as its systems see them: row `n` is at `n` in both columns.
pub(crate) struct Rows<'a> {
    pub(crate) hot: &'a mut [Hot],
    pub(crate) cold: &'a [Cold],
    /// By [`Cold::asset`].
    pub(crate) devices: &'a [DeviceId],
}

/// The systems of every twin, in the order of [`SystemId::ALL`].
const FIVE: [fn(&mut Rows<'_>, &mut CycleState); BUILT_IN] = [
    ingest::ingest,
    simulation::simulation,
    automation::automation,
    export::export,
    diagnostics::diagnostics,
];

/// Who is told in the middle of a cycle.
pub(crate) trait Deciding {
    /// The time at which commands are decided now.
    fn now_ns(&self) -> u64;

    /// Takes what was decided, before the systems run that nobody waits for.
    fn decided(&mut self, commands: &mut Vec<RelayCommand>);
}

/// Of a cycle that takes no time, and whose commands are taken at its end.
impl Deciding for u64 {
    fn now_ns(&self) -> u64 {
        *self
    }

    fn decided(&mut self, _: &mut Vec<RelayCommand>) {}
}

/// What failed in a cycle.
pub(crate) struct Failed {
    /// The systems, as bits.
    pub(crate) systems: u16,
    /// The fault of the first of them.
    pub(crate) first: SystemFault,
}

/// The systems of one world.
pub(crate) struct Schedule {
    own: Vec<OwnRun>,
}

impl Schedule {
    /// The five and those of `own`, each in a life of its own.
    pub(crate) fn new(own: &OwnSystems) -> Self {
        let own = own.all().iter().map(|system| (system.make)());
        Self { own: own.collect() }
    }

    /// Runs each system that may run in this cycle.
    ///
    /// # Errors
    /// Those that failed; the others ran.
    pub(crate) fn run(
        &mut self,
        rows: &mut Rows<'_>,
        state: &mut CycleState,
        deciding: &mut impl Deciding,
    ) -> Result<(), Failed> {
        let (mut systems, mut first) = (0, None);
        for (system, run) in SystemId::ALL.into_iter().zip(FIVE) {
            if system == SystemId::Automation {
                state.outbox.decided_ns = deciding.now_ns();
            }
            let fault = step(system, state, |state| {
                run(rows, state);
                Ok(())
            });
            systems |= fault.as_ref().map_or(0, |fault| fault.system.bit());
            first = first.or(fault);
            if system == SystemId::Automation && !state.outbox.commands.is_empty() {
                deciding.decided(&mut state.outbox.commands);
            }
        }
        state.timings.begin_own(self.own.len());
        for (at, run) in self.own.iter_mut().enumerate() {
            let fault = step(SystemId::Own(at as u8), state, |state| {
                run(OwnRows {
                    hot: rows.hot,
                    cold: rows.cold,
                    devices: rows.devices,
                    now_ns: state.intake.now_ns,
                })
            });
            systems |= fault.as_ref().map_or(0, |fault| fault.system.bit());
            first = first.or(fault);
        }
        first.map_or(Ok(()), |first| Err(Failed { systems, first }))
    }
}

/// Runs one system, if it may run, and measures it, an unwind included.
#[inline]
fn step(
    system: SystemId,
    state: &mut CycleState,
    run: impl FnOnce(&mut CycleState) -> Result<(), String>,
) -> Option<SystemFault> {
    if state.timings.runs & system.bit() == 0 {
        return None;
    }
    let inject = state.timings.inject.take_if(|injected| *injected == system);
    let ran = catch_unwind(AssertUnwindSafe(|| match inject {
        Some(_) => panic!("injected into {}", system.name()),
        None => run(state),
    }));
    state.timings.end(system);
    match ran {
        Ok(Ok(())) => None,
        Ok(Err(text)) => Some(SystemFault::new(system, &text)),
        Err(payload) => Some(SystemFault::of_panic(system, &*payload)),
    }
}

/// Readings and rows of a walk from which on a cycle is not short: with fewer the five take a few
/// microseconds, of which reading a counter for each would be a tenth.
pub(crate) const TIMED_WORK: usize = 512;

/// Of short cycles, every so-many-th has times of the five.
const TIMED_EVERY: u32 = 8;

/// What each system took in the present cycle, which may run in it, and the fault injected into the
/// next run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timings {
    pub(crate) took_ns: [Option<u64>; SYSTEMS],
    /// Systems of this cycle, as bits.
    pub(crate) runs: u16,
    pub(crate) inject: Option<SystemId>,
    /// From the end of the system before, or the start of the cycle.
    since: Stopwatch,
    /// The system that runs is timed.
    timed: bool,
    /// Short cycles since one was timed.
    short: u32,
}

impl Timings {
    pub(crate) fn new() -> Self {
        Self {
            took_ns: [None; SYSTEMS],
            runs: 0,
            inject: None,
            since: Stopwatch::new(),
            timed: false,
            short: TIMED_EVERY,
        }
    }

    /// A cycle begins, in which the systems of `runs` run on so many readings and rows.
    pub(crate) fn begin(&mut self, runs: u16, work: usize) {
        self.took_ns = [None; SYSTEMS];
        self.runs = runs;
        self.short += 1;
        self.timed = work >= TIMED_WORK || self.short >= TIMED_EVERY;
        if self.timed {
            self.short = 0;
            self.since.restart();
        }
    }

    /// Now come those of a program: how long they take nobody knows.
    fn begin_own(&mut self, systems: usize) {
        if systems > 0 && !self.timed {
            self.timed = true;
            self.since.restart();
        }
    }

    #[inline]
    fn end(&mut self, system: SystemId) {
        if self.timed {
            self.took_ns[system.index()] = Some(self.since.lap_ns());
        }
    }
}
