//! `skew`: tasks on two workers that take work from each other.

use std::sync::{Arc, OnceLock};

use peer_probe::{Job, Line, Meter, Payload, Spread, payload};
use peer_runtimes::two_workers;
use tokio::sync::mpsc::{Receiver, Sender, channel};

type All = Arc<OnceLock<Vec<Sender<Payload>>>>;

async fn stop(mut tokens: Receiver<Payload>, all: All, spread: Spread, done: Sender<()>) {
    while let Some(mut token) = tokens.recv().await {
        if token[0] == 0 {
            let _ = done.send(()).await;
            continue;
        }
        let next = spread.next(&mut token) as usize;
        let all = all.get().expect("set before the first token");
        all[next].send(token).await.expect("it lives");
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let run = |spread| two_workers().block_on(messages_per_s(spread, job.size));
    let rates = Spread::all(job.size).map(run);
    Spread::line(&rates)
}

async fn messages_per_s(spread: Spread, messages: u64) -> f64 {
    let (done, mut ended) = channel(Spread::TOKENS as usize);
    let all: All = Arc::default();
    let mut senders = Vec::new();
    for _ in 0..Spread::ACTORS {
        let (sender, receiver) = channel(Spread::TOKENS as usize);
        tokio::spawn(stop(receiver, Arc::clone(&all), spread, done.clone()));
        senders.push(sender);
    }
    let first = senders.clone();
    all.set(senders).expect("set once");
    let meter = Meter::start();
    for token in 0..Spread::TOKENS {
        let mut ball = payload(messages / Spread::TOKENS);
        ball[1] = token;
        first[token as usize].send(ball).await.expect("it lives");
    }
    for _ in 0..Spread::TOKENS {
        ended.recv().await;
    }
    messages as f64 / meter.stop().wall_s
}
