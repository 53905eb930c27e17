//! Where to start: an actor that counts, a supervisor that brings it back, what is told of it.
//!
//! `cargo run -p actorsim-supervision --example supervised_counter`
#![allow(clippy::unwrap_used, reason = "an example")]

use std::time::Duration;

use actorsim_actors::{
    ActorPath, Addr, AskError, Clock, Fault, Flow, MailboxSpec, Message, Overflow, Reply, System,
    TaskActor, TaskContext,
};
use actorsim_supervision::{ChildSpec, Strategy, SupervisorPolicy, SupervisorSpec, start_root};

/// How long an answer may take; a restart in between is part of it.
const DEADLINE: Duration = Duration::from_secs(5);

struct Counter(u64);

enum Ask {
    Add(u64),
    Total(Reply<u64>),
    Divide { by: u64, reply: Reply<u64> },
}

impl Message for Ask {
    fn kind(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Total(_) => "total",
            Self::Divide { .. } => "divide",
        }
    }
}

impl TaskActor for Counter {
    type Msg = Ask;

    async fn handle(&mut self, ask: Ask, _: &mut TaskContext<Ask>) -> Result<Flow, Fault> {
        match ask {
            Ask::Add(n) => self.0 += n,
            Ask::Total(reply) => reply.send(self.0),
            Ask::Divide { by, reply } => {
                let answer = self.0.checked_div(by);
                reply.send(answer.ok_or_else(|| Fault::with("divided_by_zero", self.0))?);
            }
        }
        Ok(Flow::Continue)
    }
}

async fn count() {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    // Messages that wait survive a restart; the one that killed does not.
    let mailbox = MailboxSpec::new(16, Overflow::Block).kept();
    let counter = Addr::new(ActorPath::root().join("counter"), mailbox);
    let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(3, Duration::from_secs(5));
    let child = ChildSpec::task("counter", &counter, || Counter(0));
    let spec = SupervisorSpec::new(ActorPath::root(), policy).child(child);
    let root = start_root(&system, spec).await.unwrap();

    for n in 1..=4 {
        counter
            .send(Ask::Add(n), DEADLINE)
            .await
            .map_err(drop)
            .unwrap();
    }
    assert_eq!(counter.ask(Ask::Total, DEADLINE).await, Ok(10));
    let bad = counter
        .ask(|reply| Ask::Divide { by: 0, reply }, DEADLINE)
        .await;
    assert_eq!(bad, Err(AskError::Canceled), "the actor died over it");
    // The address is still good: it names the actor, not one life of it.
    assert_eq!(counter.ask(Ask::Total, DEADLINE).await, Ok(0));
    assert_eq!(counter.incarnation().0, 2);

    let report = root.supervision().crash(counter.path()).unwrap();
    println!("{}: {report}", report.path);
    for event in system.events().last(10) {
        println!("{:<10} {}", event.name, event.text);
    }
    root.stop().await;
}

pub(crate) fn main() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(count());
}
