//! `restart`: processes under a supervisor that counts over its lifetime (its window costs a scan
//! of all restarts in it for each). A returned fault is an end like any other here.

use std::convert::Infallible;
use std::sync::Arc;

use peer_probe::{Deaths, Job, Line, MAILBOX, payload};
use peer_runtimes::hosted;
use rusm_otp::{Context, Runtime, Strategy};

use crate::bytes;

async fn mayfly(mut context: Context, deaths: Arc<Deaths>) {
    if context.recv().await.message().is_some() {
        deaths.die();
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let measured = Deaths::measure(job, |actors, deaths| {
        let deaths = Arc::clone(deaths);
        hosted(move || async move {
            let runtime = Runtime::with_mailbox_capacity(MAILBOX);
            let mut supervisor = runtime.supervisor(Strategy::OneForOne);
            for _ in 0..actors {
                let deaths = Arc::clone(&deaths);
                supervisor = supervisor.child(move |runtime| {
                    let own = Arc::clone(&deaths);
                    let handle = runtime.spawn(move |context| mayfly(context, own));
                    if deaths.next() {
                        runtime.send(handle.pid(), bytes(payload(0)));
                    }
                    handle
                });
            }
            supervisor.max_restarts(0).over_lifetime().start();
            std::mem::forget(runtime);
        });
        Ok::<_, Infallible>(())
    });
    measured.unwrap_or_else(|never| match never {})
}
