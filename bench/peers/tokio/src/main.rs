//! The floor for actors on tokio: a task and a bounded channel of 64, no supervision, no kill.

use std::collections::BTreeMap;
use std::pin::pin;

use peer_probe::{Device, TIMER, actors_from_args, name, report, resident_bytes};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

enum Message {
    Tick,
    Info(oneshot::Sender<u64>),
}

async fn device(mut messages: mpsc::Receiver<Message>) {
    let mut device = Device::new();
    let mut timer = pin!(sleep_until(Instant::now() + TIMER));
    loop {
        tokio::select! {
            biased;
            message = messages.recv() => match message {
                Some(Message::Tick) => {
                    device.tick();
                    timer.as_mut().reset(Instant::now() + TIMER);
                }
                Some(Message::Info(reply)) => drop(reply.send(device.ticks)),
                None => return,
            },
            () = &mut timer => {
                device.tick();
                timer.as_mut().reset(Instant::now() + TIMER);
            }
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let actors = actors_from_args();
    let before = resident_bytes();
    let mut by_name = BTreeMap::new();
    for index in 0..actors {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(device(receiver));
        sender.send(Message::Tick).await.expect("the task lives");
        by_name.insert(name(index), sender);
    }
    for sender in by_name.values() {
        let (reply, answer) = oneshot::channel();
        sender
            .send(Message::Info(reply))
            .await
            .expect("the task lives");
        assert!(answer.await.expect("an answer") >= 1);
    }
    report(actors, before, resident_bytes());
    std::process::exit(0); // the teardown is not measured
}
