//! `spawn`: actors with a supervisor each, which ends when its actor's address is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Actor, Context, Supervised, Supervisor, System};
use peer_probe::{Job, Line, MAILBOX, Meter};

struct Counter(Arc<AtomicU64>);

impl Actor for Counter {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX);
    }
}

impl Supervised for Counter {}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

pub(crate) fn run(job: &Job) -> Line {
    System::new().block_on(async {
        let gone = Arc::new(AtomicU64::new(0));
        let meter = Meter::start();
        let mut actors = Vec::new();
        for _ in 0..job.size {
            let counter = Counter(Arc::clone(&gone));
            actors.push(Supervisor::start(|_| counter));
        }
        actix::clock::sleep(std::time::Duration::ZERO).await; // they start
        drop(actors);
        while gone.load(Ordering::Acquire) < job.size {
            actix::clock::sleep(std::time::Duration::from_millis(1)).await;
        }
        Line::new().rate("actors_per_cpu_s", "actors_per_s", job.size, meter.stop())
    })
}
