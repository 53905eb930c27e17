//! `restart`: with the smallest supervisor there can be, which starts a new actor for each that
//! failed; no intensity, no backoff.

use std::convert::Infallible;
use std::sync::Arc;

use peer_probe::{Deaths, Job, Line, Payload, payload};
use peer_runtimes::hosted;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

struct Ball(#[expect(dead_code, reason = "what it would carry")] Payload);

struct Mayfly(Arc<Deaths>);

impl Actor for Mayfly {
    type Msg = Ball;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Ball>, (): ()) -> Result<(), ActorProcessingErr> {
        if self.0.next() {
            myself.send_message(Ball(payload(0)))?;
        }
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ball>,
        _: Ball,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.die();
        Err("out_of_range".into())
    }
}

struct Supervisor(Arc<Deaths>);

impl Supervisor {
    async fn start(&self, myself: &ActorRef<()>) -> Result<(), ActorProcessingErr> {
        let mayfly = Mayfly(Arc::clone(&self.0));
        Actor::spawn_linked(None, mayfly, (), myself.get_cell()).await?;
        Ok(())
    }
}

impl Actor for Supervisor {
    type Msg = ();
    type State = ();
    type Arguments = usize;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        actors: usize,
    ) -> Result<(), ActorProcessingErr> {
        for _ in 0..actors {
            self.start(&myself).await?;
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(..) => self.start(&myself).await,
            _ => Ok(()),
        }
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let measured = Deaths::measure(job, |actors, deaths| {
        let supervisor = Supervisor(Arc::clone(deaths));
        let started = hosted(move || Actor::spawn(None, supervisor, actors));
        drop(started.expect("a supervisor"));
        Ok::<_, Infallible>(())
    });
    measured.unwrap_or_else(|never| match never {})
}
