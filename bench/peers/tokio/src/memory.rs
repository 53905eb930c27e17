//! `memory`: a task with a bounded channel and a timer.

use std::collections::BTreeMap;
use std::pin::pin;

use peer_probe::{Device, Job, Line, MAILBOX, TIMER, name, resident_bytes};
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

pub(crate) async fn run(job: Job) -> Line {
    let actors = job.count();
    let before = resident_bytes();
    let mut by_name = BTreeMap::new();
    for index in 0..actors {
        let (sender, receiver) = mpsc::channel(MAILBOX);
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
    Line::new().memory(actors, before, resident_bytes())
}
