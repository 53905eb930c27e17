//! `spawn`: actors linked to a supervisor, each stopped and awaited.

use peer_probe::{Job, Line, Meter, Payload};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::supervisor;

struct Ball(#[expect(dead_code, reason = "what it would carry")] Payload);

struct Counter;

impl Actor for Counter {
    type Msg = Ball;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ball>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Ball>,
        _: Ball,
        seen: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        *seen += 1;
        Ok(())
    }
}

pub(crate) async fn run(job: Job) -> Line {
    let spawning = async move {
        let supervisor = supervisor().await;
        let meter = Meter::start();
        let (mut actors, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..job.size {
            let parent = supervisor.get_cell();
            let started = Actor::spawn_linked(None, Counter, (), parent).await;
            let (actor, end) = started.expect("an actor");
            actors.push(actor);
            ends.push(end);
        }
        for actor in actors {
            actor.stop(None);
        }
        for end in ends {
            end.await.expect("it stops in order");
        }
        Line::new().rate("actors_per_cpu_s", "actors_per_s", job.size, meter.stop())
    };
    tokio::spawn(spawning).await.expect("it does not panic")
}
