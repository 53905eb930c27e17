//! A chaos test of one's own actor: an hour of seeded kills on virtual time, in a moment.
//!
//! `cargo run -p actorsim-supervision --example chaos_test`, or as a `#[test]` of your own.
//!
//! The actor is an account: what it confirmed must survive any kill, for its ledger is outside of
//! it, as a disk would be. The runtime's time is paused, so an hour passes as fast as it computes
//! and every run with the same seed is the same run.
#![allow(clippy::unwrap_used, reason = "an example")]

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{
    ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Message, Overflow, Reply, System, TaskActor,
    TaskContext,
};
use actorsim_supervision::chaos::{Action, Hands, Place, Plan, Roster, Schedule, Vitals};
use actorsim_supervision::{
    ChildSpec, Restart, Strategy, SupervisorPolicy, SupervisorSpec, start_root,
};
use parking_lot::Mutex;

const PLAN: &str = r#"
seed = 42
rate = "1/2s"
for = "1h"
[faults]
kill = 1
"#;
const DEADLINE: Duration = Duration::from_secs(30);

/// What survives the actor.
type Ledger = Arc<Mutex<Vec<u64>>>;

struct Account(Ledger);

enum Ask {
    Deposit(u64, Reply<()>),
    Balance(Reply<u64>),
}
impl Message for Ask {}

impl TaskActor for Account {
    type Msg = Ask;

    async fn handle(&mut self, ask: Ask, _: &mut TaskContext<Ask>) -> Result<Flow, Fault> {
        match ask {
            Ask::Deposit(amount, reply) => {
                tokio::time::sleep(Duration::from_millis(3)).await; // the slow part may be killed
                self.0.lock().push(amount); // first the ledger,
                reply.send(()); // then the word
            }
            Ask::Balance(reply) => reply.send(self.0.lock().iter().sum()),
        }
        Ok(Flow::Continue)
    }
}

/// Kills by the plan until its time is over; returns how often.
async fn chaos(system: &System, account: &ActorPath) -> u64 {
    let plan = Plan::from_toml("plan.toml", PLAN, Place::Test).unwrap();
    let mut roster = Roster::default();
    roster.add("account", account.clone());
    let mut hands = Hands::new(system);
    let mut schedule = Schedule::new(&plan, plan.seed, system.clock().monotonic());
    while let Some(next) = schedule.next_at() {
        tokio::time::sleep(next - system.clock().monotonic()).await;
        let now = system.clock().monotonic();
        for action in schedule.step(now, &roster, &Vitals::default()).actions {
            match action {
                Action::Begin(strike) => drop(hands.begin(&strike)),
                Action::End(strike) => hands.end(&strike),
            }
        }
    }
    schedule.counts().total()
}

async fn an_hour() {
    let clock = Clock::of_runtime(0);
    let system = System::new(clock, tokio::runtime::Handle::current());
    let mailbox = MailboxSpec::new(8, Overflow::Block).kept();
    let account = Addr::new(ActorPath::root().join("account"), mailbox);
    let ledger = Ledger::default();
    let kept = Arc::clone(&ledger);
    let child = ChildSpec::task("account", &account, move || Account(Arc::clone(&kept)));
    let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(100, Duration::from_secs(60));
    let spec =
        SupervisorSpec::new(ActorPath::root(), policy).child(child.restart(Restart::Permanent));
    let root = start_root(&system, spec).await.unwrap();

    let mut confirmed = 0;
    let load = async {
        let end = Duration::from_secs(3_600);
        while system.clock().monotonic().0 < end.as_nanos() as u64 {
            let deposit = account.ask(|reply| Ask::Deposit(1, reply), DEADLINE).await;
            confirmed += u64::from(deposit.is_ok());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (kills, ()) = tokio::join!(chaos(&system, account.path()), load);

    let balance = account.ask(Ask::Balance, DEADLINE).await.unwrap();
    assert!(balance >= confirmed, "what was confirmed is there");
    assert!(
        balance <= confirmed + kills,
        "a kill costs at most the deposit in hand"
    );
    assert!(account.books().balanced());
    assert!(
        kills > 1_000 && account.incarnation().0 > 1_000,
        "it was chaos: {kills} kills"
    );
    println!("{kills} kills, {confirmed} deposits confirmed, {balance} in the ledger");
    root.stop().await;
}

pub(crate) fn main() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(an_hour());
}
