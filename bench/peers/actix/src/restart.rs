//! `restart`, by fault only: a supervised actor that stops its context is restarted with the state
//! it has; a panic ends the arbiter and everything on it.

use std::convert::Infallible;
use std::sync::Arc;

use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, Message, Supervised, Supervisor, System,
};
use peer_probe::{Deaths, Job, Line, Payload, payload};

struct Ball(#[expect(dead_code, reason = "what it would carry")] Payload);

impl Message for Ball {
    type Result = ();
}

struct Mayfly(Arc<Deaths>);

impl Mayfly {
    fn begin(&self, context: &Context<Self>) {
        if self.0.next() {
            let sent = context.address().try_send(Ball(payload(0)));
            sent.expect("an empty mailbox has room");
        }
    }
}

impl Actor for Mayfly {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.begin(context);
    }
}

impl Supervised for Mayfly {}

impl Handler<Ball> for Mayfly {
    type Result = ();

    fn handle(&mut self, _: Ball, context: &mut Context<Self>) {
        self.0.die();
        context.stop();
    }
}

pub(crate) fn run(job: &Job) -> Line {
    if job.shape == "panic" {
        return Line::new();
    }
    let _system = System::new();
    let arbiter = crate::arbiter(0);
    let measured = Deaths::measure(job, |actors, deaths| {
        for _ in 0..actors {
            let mayfly = Mayfly(Arc::clone(deaths));
            let address = Supervisor::start_in_arbiter(&arbiter.handle(), move |_| mayfly);
            std::mem::forget(address); // it ends with its last address
        }
        Ok::<_, Infallible>(())
    });
    measured.unwrap_or_else(|never| match never {})
}
