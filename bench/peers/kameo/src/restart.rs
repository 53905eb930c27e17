//! `restart`: actors under a supervisor, whose limit of restarts is never used up.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::{Context, Message};
use peer_probe::{Deaths, Job, Line, MAILBOX, Payload, payload};
use peer_runtimes::hosted;

use crate::supervisor;

struct Ball(#[expect(dead_code, reason = "what it would carry")] Payload);

#[derive(Clone)]
struct Mayfly(Arc<Deaths>);

#[derive(Debug)]
struct OutOfRange;

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of range")
    }
}

impl Actor for Mayfly {
    type Args = Self;
    type Error = kameo::error::Infallible;

    async fn on_start(mayfly: Self, myself: ActorRef<Self>) -> Result<Self, Self::Error> {
        if mayfly.0.next() {
            let sent = myself.tell(Ball(payload(0))).try_send();
            sent.expect("an empty mailbox has room");
        }
        Ok(mayfly)
    }
}

impl Message<Ball> for Mayfly {
    type Reply = Result<(), OutOfRange>;

    async fn handle(&mut self, _: Ball, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.0.die();
        Err(OutOfRange)
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let measured = Deaths::measure(job, |actors, deaths| {
        let mayfly = Mayfly(Arc::clone(deaths));
        let kept = hosted(move || async move {
            let supervisor = supervisor().await;
            let mut mayflies = Vec::new();
            for _ in 0..actors {
                let spawned = Mayfly::supervise(&supervisor, mayfly.clone())
                    .restart_limit(u32::MAX, Duration::from_secs(1))
                    .spawn_with_mailbox(mailbox::bounded(MAILBOX))
                    .await;
                mayflies.push(spawned);
            }
            (supervisor, mayflies)
        });
        std::mem::forget(kept); // an actor ends with its last reference
        Ok::<_, Infallible>(())
    });
    measured.unwrap_or_else(|never| match never {})
}
