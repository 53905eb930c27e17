//! `skew`: processes on two workers that take work from each other.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use peer_probe::{Job, Line, Meter, Spread, payload};
use peer_runtimes::two_workers;
use rusm_otp::{Context, Pid, Runtime};

use crate::{bytes, put, words};

type All = Arc<OnceLock<Vec<Pid>>>;

async fn stop(
    runtime: Runtime,
    mut context: Context,
    spread: Spread,
    all: All,
    done: SyncSender<()>,
) {
    while let Some(mut token) = context.recv().await.message() {
        let [left, seed] = words(&token);
        if left == 0 {
            let _ = done.send(());
            continue;
        }
        let mut ball = payload(left);
        ball[1] = seed;
        let next = spread.next(&mut ball) as usize;
        put(&mut token, 0, ball[0]);
        put(&mut token, 1, ball[1]);
        let all = all.get().expect("set before the first token");
        assert!(runtime.send(all[next], token), "it lives");
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let rates = Spread::all(job.size).map(|spread| messages_per_s(spread, job.size));
    Spread::line(&rates)
}

fn messages_per_s(spread: Spread, messages: u64) -> f64 {
    let (done, over) = sync_channel(Spread::TOKENS as usize);
    let (runtime, workers) = (Runtime::new(), two_workers());
    let actors = workers.block_on(async {
        let all = All::default();
        let spawn = |_| {
            let (inner, all, done) = (runtime.clone(), Arc::clone(&all), done.clone());
            let handle = runtime.spawn(move |context| stop(inner, context, spread, all, done));
            handle.pid()
        };
        let actors: Vec<Pid> = (0..Spread::ACTORS).map(spawn).collect();
        drop(all.set(actors.clone()));
        actors
    });
    let meter = Meter::start();
    for token in 0..Spread::TOKENS {
        let mut ball = payload(messages / Spread::TOKENS);
        ball[1] = token;
        assert!(
            runtime.send(actors[token as usize], bytes(ball)),
            "it lives"
        );
    }
    for _ in 0..Spread::TOKENS {
        over.recv().expect("they go on");
    }
    messages as f64 / meter.stop().wall_s
}
