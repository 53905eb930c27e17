//! `spawn`: processes monitored by one that waits until all are down; each ends when it is told to.
//! A supervisor of this library would start them again: it takes every end for a crash.

use peer_probe::{Job, Line, MAILBOX, Meter};
use rusm_otp::{Received, Runtime};

pub(crate) async fn run(job: Job) -> Line {
    tokio::spawn(measure(job)).await.expect("it does not panic")
}

async fn measure(job: Job) -> Line {
    let runtime = Runtime::with_mailbox_capacity(MAILBOX);
    let inner = runtime.clone();
    let (sender, mut measured) = tokio::sync::mpsc::channel(1);
    runtime.spawn(move |mut context| async move {
        let meter = Meter::start();
        let mut actors = Vec::new();
        for _ in 0..job.size {
            let handle = inner.spawn(|mut context| async move {
                let _stop = context.recv().await;
            });
            inner.monitor(context.pid(), handle.pid());
            actors.push(handle.pid());
        }
        for actor in actors {
            assert!(inner.send(actor, Vec::new()), "it lives");
        }
        let mut left = job.size;
        while left > 0 {
            left -= u64::from(matches!(context.recv().await, Received::Down { .. }));
        }
        let _ = sender.send(meter.stop()).await;
    });
    let spent = measured.recv().await.expect("it does not panic");
    Line::new().rate("actors_per_cpu_s", "actors_per_s", job.size, spent)
}
