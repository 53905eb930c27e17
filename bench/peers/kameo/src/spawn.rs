//! `spawn`: supervised actors with bounded mailboxes, each stopped in order and awaited.

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::mailbox;
use kameo::message::{Context, Message};
use kameo::supervision::RestartPolicy;
use peer_probe::{Job, Line, MAILBOX, Meter, Payload};

use crate::supervisor;

struct Ball(#[expect(dead_code, reason = "what it would carry")] Payload);

struct Counter(u64);

impl Actor for Counter {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self(0))
    }
}

impl Message<Ball> for Counter {
    type Reply = ();

    async fn handle(&mut self, _: Ball, _: &mut Context<Self, ()>) {
        self.0 += 1;
    }
}

pub(crate) async fn run(job: Job) -> Line {
    tokio::spawn(measure(job)).await.expect("it does not panic")
}

async fn measure(job: Job) -> Line {
    let supervisor = supervisor().await;
    let meter = Meter::start();
    let mut actors = Vec::new();
    for _ in 0..job.size {
        let actor = Counter::supervise(&supervisor, ())
            .restart_policy(RestartPolicy::Transient)
            .spawn_with_mailbox(mailbox::bounded(MAILBOX))
            .await;
        actors.push(actor);
    }
    for actor in &actors {
        actor.stop_gracefully().await.expect("it lives");
    }
    for actor in &actors {
        actor.wait_for_shutdown().await;
    }
    Line::new().rate("actors_per_cpu_s", "actors_per_s", job.size, meter.stop())
}
