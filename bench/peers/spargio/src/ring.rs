//! `ring`: tasks with channels of `futures`, half of them on each shard.

use futures::channel::mpsc::{Receiver, Sender, channel};
use futures::executor::block_on;
use futures::{SinkExt, StreamExt};
use peer_probe::{Job, Line, MAILBOX, Meter, Payload, RING, payload};

use crate::runtime;

async fn link(mut balls: Receiver<Payload>, mut next: Sender<Payload>) {
    while let Some(ball) = balls.next().await {
        if next.send(ball).await.is_err() {
            return;
        }
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let runtime = runtime(2);
    let all = job.size;
    let (first, mut last) = channel(MAILBOX);
    let mut next = first;
    for place in 1..RING {
        let (sender, receiver) = channel(MAILBOX);
        let shard = u16::from(place < RING / 2);
        drop(
            runtime
                .spawn_on(shard, link(receiver, next))
                .expect("it lives"),
        );
        next = sender;
    }
    let home = runtime.spawn_on(0, async move {
        let meter = Meter::start();
        let mut hops = 0;
        while hops < all {
            next.send(payload(hops)).await.expect("it lives");
            last.next().await.expect("it lives");
            hops += RING as u64;
        }
        (hops, meter.stop())
    });
    let (hops, spent) = block_on(home.expect("shard 0 lives")).expect("it does not panic");
    Line::new().per("per_hop", "cpu_per_hop", hops, spent)
}
