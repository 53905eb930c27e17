//! `spawn`: tasks that end when their channel is closed; nobody supervises them.

use peer_probe::{Job, Line, MAILBOX, Meter, Payload};
use tokio::sync::mpsc::{Receiver, channel};

async fn counter(mut balls: Receiver<Payload>) -> u64 {
    let mut seen = 0;
    while balls.recv().await.is_some() {
        seen += 1;
    }
    seen
}

pub(crate) async fn run(job: Job) -> Line {
    let spawning = async move {
        let meter = Meter::start();
        let (mut senders, mut actors) = (Vec::new(), Vec::new());
        for _ in 0..job.size {
            let (sender, receiver) = channel(MAILBOX);
            actors.push(tokio::spawn(counter(receiver)));
            senders.push(sender);
        }
        drop(senders);
        for actor in actors {
            actor.await.expect("it does not panic");
        }
        Line::new().rate("actors_per_cpu_s", "actors_per_s", job.size, meter.stop())
    };
    tokio::spawn(spawning).await.expect("it does not panic")
}
