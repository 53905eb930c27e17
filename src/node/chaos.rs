//! Chaos on a running node: the actor `/chaos` carries out one plan at a time, and counts.
//!
//! What is struck is drawn by [`actorsim_supervision::chaos`]; here is who there is, how a strike
//! is done, and when it must end: its time, its stop condition, its lease. The root and the runner
//! are never hit, nor `/control` while a session holds the lease. It sleeps no thread. Bound: one
//! plan; a look at least every [`LOOK_EVERY`].

mod census;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actorsim_actors::events::Level;
use actorsim_actors::{
    ActorPath, Addr, Fault as ActorFault, Flow, MailboxSpec, Message, Overflow, Reply, TaskActor,
    TaskContext, Time,
};
use actorsim_fleet::Injection;
use actorsim_fleet::fault::{Fault as DeviceFault, FaultSpec};
use actorsim_supervision::ChildSpec;
use actorsim_supervision::chaos::{
    Action, Fault, FaultPlan, Hands, Over, Plan, Schedule, Strike, Toll, Vitals,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::census::LiveCensus;
use super::layers::Layers;
use crate::attach::plane::Hooks as _;
use crate::report;

/// How often stop condition and lease are looked at when no strike is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Time for the runner to answer: it reads and writes a few values. So does the scan.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Requests that wait for the runner: an operator or two.
const MAILBOX: u32 = 8;

/// What a session's plan must not cut off.
const SESSION: &str = "/control";

/// Who holds the lease of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The node itself, with `start --chaos`.
    Node,
    /// An attach session.
    Session,
}

/// What is asked of the runner.
#[derive(Debug)]
pub enum ChaosMessage {
    /// Begin this plan; refused while another runs.
    Start(Box<Plan>, Holder, Reply<Result<report::Chaos, String>>),
    /// End the plan that runs.
    Stop(Reply<Result<report::Chaos, String>>),
}

impl Message for ChaosMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Start(..) => "chaos_start",
            Self::Stop(..) => "chaos_stop",
        }
    }
}

/// A plan under way.
struct Run {
    /// Which of this node.
    number: u64,
    schedule: Schedule,
    hands: Hands,
    holder: Holder,
    /// Supervisors that had given up before.
    escalations: u64,
    /// Events that were lost before, and since.
    missing: Missing,
    /// Strikes that found their victim.
    done: u64,
    /// Devices that were struck and may be down.
    struck: BTreeSet<ActorPath>,
}

/// Why a plan is over.
struct Ending {
    why: String,
    /// It was not cut short.
    in_order: bool,
}

impl Ending {
    fn in_order(why: &str) -> Self {
        let (why, in_order) = (why.to_owned(), true);
        Self { why, in_order }
    }

    fn of(over: &Over) -> Self {
        let (why, in_order) = (over.to_string(), over.is_in_order());
        Self { why, in_order }
    }
}

/// Events that were acknowledged and do not come to the world: those that still miss at a later
/// look, without those that did before.
#[derive(Debug, Clone, Copy)]
struct Missing {
    before: u64,
    acked: u64,
    looked: Time,
}

impl Missing {
    fn new(acked: u64, applied: u64, now: Time) -> Self {
        let (before, looked) = (acked.saturating_sub(applied), now);
        Self {
            before,
            acked,
            looked,
        }
    }

    /// Events that were acknowledged by an earlier look and are not applied at this one.
    fn look(&mut self, acked: u64, applied: u64, now: Time) -> u64 {
        let missing = self.acked.saturating_sub(applied);
        self.before = self.before.min(missing); // what was under way then has come by now
        if now - self.looked >= LOOK_EVERY {
            (self.acked, self.looked) = (acked, now);
        }
        missing - self.before
    }
}

/// The runner, as those see it who give it a plan: it outlives its incarnations.
pub struct Chaos {
    layers: Arc<Layers>,
    addr: Addr<ChaosMessage>,
    run: Mutex<Option<Run>>,
    /// Of all plans.
    toll: Mutex<Toll>,
    begun: AtomicU64,
    changed: Notify,
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos").finish_non_exhaustive()
    }
}

impl Chaos {
    pub(super) fn new(layers: &Arc<Layers>) -> Arc<Self> {
        let path = ActorPath::root().join("chaos");
        Arc::new(Self {
            layers: Arc::clone(layers),
            addr: Addr::new(path, MailboxSpec::new(MAILBOX, Overflow::Reject)),
            run: Mutex::new(None),
            toll: Mutex::new(Toll::before_plans(&layers.supervision)),
            begun: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    /// The runner, for the root supervisor.
    pub(super) fn child(self: &Arc<Self>) -> ChildSpec {
        let shared = Arc::clone(self);
        ChildSpec::task("chaos", &self.addr, move || ChaosActor {
            chaos: Arc::clone(&shared),
        })
    }

    async fn ask(
        &self,
        message: impl FnOnce(Reply<Result<report::Chaos, String>>) -> ChaosMessage + Send,
    ) -> Result<report::Chaos, String> {
        let answer = self.addr.ask(message, ANSWER_TIME).await;
        answer.map_err(|error| format!("the chaos runner did not answer: {error}"))?
    }

    /// Begins a plan.
    ///
    /// # Errors
    /// Why not, in words: another one runs, or the runner is down.
    pub async fn start(&self, plan: Plan, holder: Holder) -> Result<report::Chaos, String> {
        self.ask(|reply| ChaosMessage::Start(Box::new(plan), holder, reply))
            .await
    }

    /// Ends the plan that runs.
    ///
    /// # Errors
    /// In words, if none runs.
    pub async fn stop(&self) -> Result<report::Chaos, String> {
        self.ask(ChaosMessage::Stop).await
    }

    /// What was done so far; `None` if no plan ever ran.
    #[must_use]
    pub fn status(&self) -> Option<report::Chaos> {
        self.judge();
        let told = self.layers.chaos.lock().clone();
        told.map(report::Chaos::summed)
    }

    /// Judges those that were parked since it was called last.
    pub(super) fn judge(&self) {
        let mut toll = self.toll.lock();
        if let Some(told) = self.layers.chaos.lock().as_mut() {
            toll.look();
            told.parked = toll.parked();
            told.parked_not_judged = toll.not_judged();
            told.parked_without_cause = toll.without_cause();
            let fleet = self.layers.fleet.as_ref();
            told.packets_lost = fleet.map(|layer| layer.wires.lost());
        }
    }

    /// An operator or a script has made an actor fail on purpose; `None`: any number of them.
    pub fn ordered(&self, path: Option<&ActorPath>) {
        let (mut toll, now) = (self.toll.lock(), self.now());
        match path {
            Some(path) => toll.ordered(path, now),
            None => toll.ordered_many(now),
        }
    }

    /// Renews the lease of the plan that this holder began: it is still there.
    pub fn renew(&self, holder: Holder) {
        let now = self.now();
        if let Some(run) = self.run.lock().as_mut().filter(|run| run.holder == holder) {
            run.schedule.renew(now);
        }
    }

    fn now(&self) -> Time {
        self.layers.system.clock().monotonic()
    }

    /// Hands for all that there is, but devices and the scan.
    fn hands(&self) -> Hands {
        let hands = Hands::new(&self.layers.system);
        match &self.layers.fleet {
            Some(layer) => hands.with_lines(layer.wires.clone()),
            None => hands,
        }
    }

    fn begin(&self, plan: &Plan, holder: Holder) -> Result<report::Chaos, String> {
        let mut run = self.run.lock();
        if run.is_some() {
            return Err("another plan runs; `chaos stop` ends it".to_owned());
        }
        let now = self.now();
        let seed = actorsim_fleet::seed::choose(plan.seed);
        let mut protected = vec![self.addr.path().to_string()];
        if holder == Holder::Session {
            protected.push(SESSION.to_owned());
        }
        let mut schedule = Schedule::new(plan, seed, now).protect(protected);
        schedule.renew(now);
        let plan = schedule.plan();
        let time = plan.run_for.map_or_else(
            || "until stopped".to_owned(),
            |time| format!("for {}", humantime::format_duration(time)),
        );
        let faults: Vec<_> = plan.faults.iter().map(|f| f.fault.name()).collect();
        let text = format!(
            "seed {seed}, {} of {} at {} {time}",
            plan.rate,
            faults.join(", "),
            plan.scope
        );
        self.toll.lock().open();
        let mut told = self.layers.chaos.lock();
        let before = told.take().unwrap_or_default();
        let status = report::Chaos {
            seed,
            plan: text.clone(),
            strikes: before.strikes,
            fell_short: before.fell_short,
            parked: before.parked,
            parked_not_judged: before.parked_not_judged,
            parked_without_cause: before.parked_without_cause,
            ..report::Chaos::default()
        };
        *told = Some(status.clone());
        *run = Some(Run {
            number: self.begun.fetch_add(1, Ordering::Relaxed),
            schedule,
            hands: self.hands(),
            holder,
            escalations: self.layers.supervision.stats().escalations,
            missing: {
                let (acked, applied) = self.events();
                Missing::new(acked, applied, now)
            },
            done: 0,
            struck: BTreeSet::new(),
        });
        drop(told);
        self.publish(Level::Warn, "chaos_started", None, text);
        drop(run);
        self.changed.notify_waiters();
        Ok(status)
    }

    /// Ends the plan that runs, if one does; or only that of this number. The next one begins when
    /// all of this one has ended and is told: strikes, toll and status are one plan's.
    fn end(&self, number: Option<u64>, ending: &Ending) -> Option<report::Chaos> {
        let mut slot = self.run.lock();
        let mut run = slot.take_if(|run| number.is_none_or(|number| number == run.number))?;
        for action in run.schedule.stop() {
            if let Action::End(strike) = action {
                self.heal(&strike, &mut run.hands);
            }
        }
        run.hands.end_all(); // the next plan counts its strikes from 0, too
        self.toll.lock().close(self.now());
        self.judge();
        let why = &ending.why;
        let mut told = self.layers.chaos.lock();
        let status = told.as_mut()?;
        status.counted(run.schedule.counts());
        status.over = Some(why.clone());
        if !ending.in_order {
            status.falls_short(format!("it ended before its time: {why}: {}", status.plan));
        } else if run.done == 0 && run.schedule.has_tried() {
            status.falls_short(format!("it struck nobody: {}", status.plan));
        }
        let status = status.clone();
        drop(told);
        let text = format!("{why}; {} strikes so far", status.total());
        self.publish(Level::Warn, "chaos_stopped", None, text);
        drop(slot);
        self.changed.notify_waiters();
        Some(status)
    }

    fn publish(&self, level: Level, name: &'static str, path: Option<&ActorPath>, text: String) {
        self.layers.system.events().publish(level, name, path, text);
    }

    /// Does what is due, as long as the runner lives.
    async fn drive(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let next = self.run.lock().as_ref().map(|run| run.schedule.next_at());
            match next {
                None => changed.await,
                Some(at) => {
                    let wait = at.map_or(Duration::ZERO, |at| at - self.now());
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = tokio::time::sleep(wait.min(LOOK_EVERY)) => self.step().await,
                    }
                }
            }
        }
    }

    /// Looks who there is, then does what is due. From then on nothing is waited for, and the run
    /// is locked: no action outlives its run.
    async fn step(&self) {
        let begun = |run: &Run| (run.number, run.struck.clone());
        let Some((number, struck)) = self.run.lock().as_ref().map(begun) else {
            return;
        };
        let census = LiveCensus::take(&self.layers, &struck).await;
        let vitals = self.vitals(&census);
        self.judge();
        let over = {
            let mut run = self.run.lock();
            let Some(run) = run.as_mut().filter(|run| run.number == number) else {
                return; // another plan by now, whose first step is its own
            };
            run.struck.retain(|path| census.is_device_down(path));
            let step = run.schedule.step(self.now(), &census, &vitals);
            if let Some(told) = self.layers.chaos.lock().as_mut() {
                told.counted(run.schedule.counts());
            }
            for action in &step.actions {
                match action {
                    Action::Begin(strike) => self.strike(strike, run),
                    Action::End(strike) => self.heal(strike, &mut run.hands),
                }
            }
            step.over
        };
        if let Some(over) = over {
            self.end(Some(number), &Ending::of(&over));
        }
    }

    fn strike(&self, strike: &Strike, run: &mut Run) {
        let path = &strike.path;
        let mut toll = self.toll.lock(); // nobody judges what it does before it is noted
        let done = match (strike.plan.fault, strike.kind == census::DEVICE) {
            (Fault::Kill, true) => {
                let fleet = self.layers.fleet.as_ref();
                fleet.is_some_and(|layer| layer.fleet.kill(path.as_str()).is_ok())
            }
            (Fault::Panic, false) if self.is_scan(path) => self.crash_scan(path),
            (_, true) => {
                let injection = injection(&strike.plan);
                injection.is_some_and(|(injection, _)| self.inject(path, injection))
            }
            (_, false) => run.hands.begin(strike),
        };
        if !done {
            return; // it ended in the meantime, by itself or with another one
        }
        run.done += 1;
        toll.struck(strike);
        drop(toll);
        let fault = strike.plan.fault.name();
        // Other parts are counted with the first.
        if let Some(status) = self
            .layers
            .chaos
            .lock()
            .as_mut()
            .filter(|_| strike.part == 0)
        {
            let of_kind = status.strikes.entry(strike.kind.clone()).or_default();
            *of_kind.entry(fault.to_owned()).or_insert(0) += 1;
        }
        if strike.kind == census::DEVICE {
            run.struck.insert(path.clone());
        }
        let text = strike.to_string();
        self.publish(Level::Info, "fault_injected", Some(path), text);
    }

    fn is_scan(&self, path: &ActorPath) -> bool {
        let twin = self.layers.twin.as_ref();
        twin.is_some_and(|twin| twin.scan().path() == path)
    }

    /// Asks the scan to panic, which answers with its next cycle, or never.
    fn crash_scan(&self, path: &ActorPath) -> bool {
        let (layers, path) = (Arc::clone(&self.layers), path.clone());
        self.layers.system.detached(async move {
            drop(tokio::time::timeout(ANSWER_TIME, layers.crash(&path)).await);
        });
        true
    }

    /// Ends what a strike began.
    fn heal(&self, strike: &Strike, hands: &mut Hands) {
        match injection(&strike.plan).filter(|_| strike.kind == census::DEVICE) {
            Some((_, kind)) => drop(self.inject(&strike.path, Injection::Revert(kind))),
            None => hands.end(strike),
        }
        let (path, text) = (Some(&strike.path), format!("{strike} ends"));
        self.publish(Level::Info, "fault_reverted", path, text);
    }

    fn inject(&self, path: &ActorPath, injection: Injection) -> bool {
        let fleet = self.layers.fleet.as_ref();
        fleet.is_some_and(|layer| layer.fleet.inject(path.as_str(), injection).is_ok())
    }

    fn vitals(&self, census: &LiveCensus) -> Vitals {
        let (up, all) = census.up();
        let mut run = self.run.lock();
        let before = run.as_ref().map_or(0, |run| run.escalations);
        let escalations = self.layers.supervision.stats().escalations;
        let both = self.layers.twin.is_some() && self.layers.fleet.is_some();
        let ((acked, applied), now) = (self.events(), self.now());
        let mut lost = 0;
        if let Some(run) = run.as_mut().filter(|_| both) {
            lost = run.missing.look(acked, applied, now);
        }
        Vitals {
            health: up as f64 / all.max(1) as f64,
            escalations: escalations.saturating_sub(before),
            quarantined: census.quarantined(),
            lost,
        }
    }

    /// Events so far: acknowledged to the devices, and applied to the world.
    fn events(&self) -> (u64, u64) {
        let t2 = &self.layers.stats.t2;
        (t2.acked.get(), t2.applied.get())
    }
}

/// What a strike on a device injects, and the word that reverts it if it lasts.
pub(crate) fn injection(plan: &FaultPlan) -> Option<(Injection, Option<&'static str>)> {
    let fault = match plan.fault {
        Fault::Panic => return Some((Injection::Panic, None)),
        Fault::ErrorReturn => return Some((Injection::Crash, None)),
        Fault::Hang => DeviceFault::Hang,
        Fault::SlowHandler => DeviceFault::LatencySpike(plan.delay),
        Fault::DeviceLies => DeviceFault::DataCorruption(plan.share),
        _ => return None,
    };
    let spec = FaultSpec {
        fault,
        duration: Some(plan.lasts),
    };
    Some((Injection::Fault(spec), Some(fault.kind())))
}

/// Whether a fault can hit a device. One that is stopped stays down, which is no fault to recover
/// from.
pub(crate) fn device_takes(fault: Fault) -> bool {
    fault == Fault::Kill || injection(&FaultPlan::new(fault)).is_some()
}

/// The actor.
#[derive(Debug)]
struct ChaosActor {
    chaos: Arc<Chaos>,
}

impl TaskActor for ChaosActor {
    type Msg = ChaosMessage;

    async fn started(&mut self, cx: &mut TaskContext<ChaosMessage>) -> Result<(), ActorFault> {
        // A plan does not outlive its runner: nobody would stop it.
        let why = "its runner was restarted".to_owned();
        let in_order = false;
        self.chaos.end(None, &Ending { why, in_order });
        let chaos = Arc::clone(&self.chaos);
        cx.pump(async move {
            chaos.drive().await;
            Ok(())
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        message: ChaosMessage,
        _: &mut TaskContext<ChaosMessage>,
    ) -> Result<Flow, ActorFault> {
        match message {
            ChaosMessage::Start(plan, holder, reply) => reply.send(self.chaos.begin(&plan, holder)),
            ChaosMessage::Stop(reply) => {
                let ended = self.chaos.end(None, &Ending::of(&Over::Asked));
                reply.send(ended.ok_or_else(|| "no plan runs".to_owned()));
            }
        }
        Ok(Flow::Continue)
    }

    async fn stopping(&mut self, _: &mut TaskContext<ChaosMessage>) {
        self.chaos.end(None, &Ending::in_order("the node stops"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_under_way_is_not_lost_and_one_lost_before_is_not_the_plan_s() {
        let at = |look: u64| Time::ZERO + LOOK_EVERY * look as u32;
        let mut missing = Missing::new(100, 90, at(0)); // 7 under way, 3 lost
        assert_eq!(missing.look(120, 97, at(1)), 0, "those under way have come");
        assert_eq!(missing.look(150, 117, at(2)), 0, "30 are under way now");
        assert_eq!(
            missing.look(150, 145, at(3)),
            2,
            "and two of them never come"
        );
        assert_eq!(missing.look(150, 147, at(4)), 0);
    }
}
